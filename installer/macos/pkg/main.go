// Command pkg writes an installer package of macOS, on any system: a product archive (xar)
// with one component, which has a payload and scripts (cpio), a bill of materials (BOM),
// PackageInfo and Distribution. The same input gives the same bytes.
//
// It writes no signature: that is productsign's work, on a Mac.
package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// options is the command line.
type options struct {
	root, scripts, resources string // directories
	id, version, title       string
	arches, system           string
	at                       time.Time // of all files
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", "", "`DIR` with what is installed, as below /")
	flag.StringVar(&o.scripts, "scripts", "", "`DIR` with preinstall, postinstall")
	flag.StringVar(&o.resources, "resources", "", "`DIR` with welcome.txt and license.txt")
	flag.StringVar(&o.id, "id", "", "identifier of the package")
	flag.StringVar(&o.version, "version", "", "version of the package")
	flag.StringVar(&o.title, "title", "", "what the installer calls it")
	flag.StringVar(&o.arches, "arches", "arm64,x86_64", "processors that it is for")
	flag.StringVar(&o.system, "system", "12.0", "oldest `VERSION` of macOS")
	seconds := flag.Int64("time", 0, "of all files, in `SECONDS` since 1970")
	out := flag.String("out", "", "`FILE` to write")
	flag.Parse()
	o.at = time.Unix(*seconds, 0)
	data, err := o.build()
	if err == nil {
		err = os.WriteFile(*out, data, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pkg:", err)
		os.Exit(1)
	}
}

// build is the package.
func (o options) build() ([]byte, error) {
	if o.id == "" || o.version == "" || o.title == "" {
		return nil, errors.New("identifier, version and title are needed")
	}
	payload, err := read(o.root)
	if err != nil {
		return nil, err
	}
	scripts, err := read(o.scripts)
	if err != nil {
		return nil, err
	}
	installed, err := archive(payload, o.at)
	if err != nil {
		return nil, err
	}
	run, err := archive(scripts, o.at)
	if err != nil {
		return nil, err
	}
	component := []file{
		{name: "Bom", data: bom(payload, o.at)},
		{name: "PackageInfo", data: o.packageInfo(payload, scripts)},
		{name: "Payload", data: installed, stored: true},
		{name: "Scripts", data: run, stored: true},
	}
	resources, err := texts(o.resources)
	if err != nil {
		return nil, err
	}
	return xar([]file{
		{name: "Distribution", data: o.distribution(payload)},
		{name: "Resources", files: resources},
		{name: o.component(), files: component},
	}, o.at)
}

func (o options) component() string { return o.id + ".pkg" }

// texts are the files of a directory.
func texts(dir string) (list []file, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, file{name: e.Name(), data: data})
	}
	return list, nil
}

// kilobytes is what all of it takes on a disk.
func kilobytes(list []*entry) int {
	blocks := 0
	for _, e := range list {
		blocks += (int(e.size()) + 511) / 512
	}
	return (blocks + 1) / 2
}

// text is a string within XML.
func text(s string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(s)) // to memory
	return out.String()
}

// packageInfo tells how the component is installed: as root, over what is there, and where
// it says even if the user has moved the application.
func (o options) packageInfo(payload, scripts []*entry) []byte {
	var list strings.Builder
	for _, e := range scripts {
		if e.path == "preinstall" || e.path == "postinstall" {
			fmt.Fprintf(&list, "\t\t<%[1]s file=\"./%[1]s\"/>\n", e.path)
		}
	}
	return fmt.Appendf(nil, xml.Header+`<pkg-info format-version="2" identifier="%s" version="%s" install-location="/" auth="root" overwrite-permissions="false" relocatable="false" postinstall-action="none">
	<payload numberOfFiles="%d" installKBytes="%d"/>
	<scripts>
%s	</scripts>
</pkg-info>
`, text(o.id), text(o.version), len(payload), kilobytes(payload), list.String())
}

// distribution is what the installer shows and asks.
func (o options) distribution(payload []*entry) []byte {
	return fmt.Appendf(nil, xml.Header+`<installer-gui-script minSpecVersion="2">
	<title>%[1]s</title>
	<welcome file="welcome.txt" mime-type="text/plain"/>
	<license file="license.txt" mime-type="text/plain"/>
	<options customize="never" require-scripts="false" hostArchitectures="%[2]s"/>
	<domains enable_anywhere="false" enable_currentUserHome="false" enable_localSystem="true"/>
	<volume-check><allowed-os-versions><os-version min="%[3]s"/></allowed-os-versions></volume-check>
	<choices-outline><line choice="all"/></choices-outline>
	<choice id="all" visible="false" title="%[1]s"><pkg-ref id="%[4]s"/></choice>
	<pkg-ref id="%[4]s" version="%[5]s" auth="root" installKBytes="%[6]d" onConclusion="none">#%[7]s</pkg-ref>
</installer-gui-script>
`, text(o.title), text(o.arches), text(o.system), text(o.id), text(o.version), kilobytes(payload), text(o.component()))
}
