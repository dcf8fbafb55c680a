package main

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// item is what a package says of an entry: in its payload or in its bill of materials.
type item struct {
	mode  uint16
	group uint32
	size  uint32
	sum   uint32 // in bills only
}

// unxar reads an archive, and checks every checksum in it.
func unxar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	if string(data[:4]) != "xar!" || binary.BigEndian.Uint16(data[4:]) != 28 || binary.BigEndian.Uint16(data[6:]) != 1 {
		t.Fatalf("header %x", data[:28])
	}
	length := binary.BigEndian.Uint64(data[8:])
	packed, heap := data[28:28+length], data[28+length:]
	if sum := sha1.Sum(packed); !bytes.Equal(sum[:], heap[:20]) {
		t.Error("the table of contents has another checksum")
	}
	plain := unzlib(t, packed)
	if uint64(len(plain)) != binary.BigEndian.Uint64(data[16:]) {
		t.Errorf("the table of contents has %d bytes", len(plain))
	}
	var contents toc
	if err := xml.Unmarshal(plain, &contents); err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	var walk func(dir string, list []*tocFile)
	walk = func(dir string, list []*tocFile) {
		for _, f := range list {
			name := dir + f.Name
			if f.Data == nil {
				walk(name+"/", f.Files)
				continue
			}
			part := heap[f.Data.Offset : f.Data.Offset+f.Data.Length]
			if sum := sha1.Sum(part); hex.EncodeToString(sum[:]) != f.Data.Archived.Sum {
				t.Errorf("%s: another checksum in the archive", name)
			}
			if f.Data.Encoding.Style == "application/x-gzip" {
				part = unzlib(t, part)
			}
			if sum := sha1.Sum(part); hex.EncodeToString(sum[:]) != f.Data.Extracted.Sum || len(part) != f.Data.Size {
				t.Errorf("%s: another checksum or size", name)
			}
			files[name] = part
		}
	}
	walk("", contents.Files)
	return files
}

func unzlib(t *testing.T, data []byte) []byte {
	t.Helper()
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// uncpio reads a compressed archive.
func uncpio(t *testing.T, data []byte) (map[string]item, map[string][]byte) {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	items, contents := make(map[string]item), make(map[string][]byte)
	for {
		field := func(from, to int) uint32 {
			n, err := strconv.ParseUint(string(plain[from:to]), 8, 32)
			if err != nil {
				t.Fatal(err)
			}
			return uint32(n)
		}
		if string(plain[:6]) != "070707" || field(24, 30) != 0 {
			t.Fatalf("header %q", plain[:76])
		}
		name, size := field(59, 65), field(65, 76)
		path := strings.TrimSuffix(string(plain[76:76+name]), "\x00")
		if path == "TRAILER!!!" {
			return items, contents
		}
		items[path] = item{mode: uint16(field(18, 24)), group: field(30, 36), size: size}
		contents[path] = plain[76+name : 76+name+size]
		plain = plain[76+name+size:]
	}
}

// unbom reads a bill of materials by its tables, from leaf to leaf.
func unbom(t *testing.T, data []byte) map[string]item {
	t.Helper()
	u32 := func(b []byte, at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	if string(data[:8]) != "BOMStore" {
		t.Fatalf("header %q", data[:8])
	}
	table := data[u32(data, 16):]
	block := func(n uint32) []byte {
		at, size := u32(table, int(4+8*n)), u32(table, int(8+8*n))
		return data[at : at+size]
	}
	named := make(map[string]uint32)
	names := data[u32(data, 24):]
	count := u32(names, 0)
	for names = names[4:]; count > 0; count-- {
		size := int(names[4])
		named[string(names[5:5+size])] = u32(names, 0)
		names = names[5+size:]
	}
	head := block(named["Paths"])
	page := block(u32(head, 8))
	for binary.BigEndian.Uint16(page) == 0 { // a branch; its first child has the least
		page = block(u32(page, 12))
	}
	items, paths := make(map[string]item), map[uint32]string{}
	for {
		for i := range int(binary.BigEndian.Uint16(page[2:])) {
			info, name := block(u32(page, 12+8*i)), block(u32(page, 16+8*i))
			id, parent := u32(info, 0), u32(name, 0)
			path := string(name[4 : len(name)-1])
			if parent != 0 {
				path = paths[parent] + "/" + path
			}
			paths[id] = path
			record := block(u32(info, 4))
			items[path] = item{binary.BigEndian.Uint16(record[4:]), u32(record, 10), u32(record, 18), u32(record, 23)}
		}
		next := u32(page, 4)
		if next == 0 {
			break
		}
		page = block(next)
	}
	if n := u32(head, 16); int(n) != len(items) {
		t.Errorf("%d paths of %d", len(items), n)
	}
	if n := u32(block(named["BomInfo"]), 4); int(n) != len(items)+1 {
		t.Errorf("BomInfo counts %d", n)
	}
	return items
}

// input is a package's, with some more files in one directory.
func input(t *testing.T, more int) options {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"root/Applications/A & B.app/Contents/Info.plist": "<plist/>",
		"root/Library/Application Support/Test/empty":     "",
		"root/Library/LaunchDaemons/test.plist":           "<plist/>\n",
		"root/Library/PrivilegedHelperTools/program":      strings.Repeat("x", 100000),
		"scripts/postinstall":                             "#!/bin/sh\n",
		"resources/welcome.txt":                           "Welcome",
		"resources/license.txt":                           "Licence",
	}
	for i := range more {
		files[fmt.Sprintf("root/Library/More/%04d", i)] = fmt.Sprint(i)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o600)
		if strings.HasSuffix(name, "program") || strings.HasPrefix(name, "scripts/") {
			mode = 0o700
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir+"/root/usr/local/bin", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/Library/PrivilegedHelperTools/program", dir+"/root/usr/local/bin/program"); err != nil {
		t.Skip(err)
	}
	return options{
		root: dir + "/root", scripts: dir + "/scripts", resources: dir + "/resources",
		id: "test.pkg", version: "1.2.3", title: "A & B", arches: "arm64", system: "12.0", at: time.Unix(1700000000, 0),
	}
}

// TestPackage: what was put in comes out, and the bill has all of it and nothing else, in
// one leaf and in several.
func TestPackage(t *testing.T) {
	for _, more := range []int{0, 700} {
		o := input(t, more)
		data, err := o.build()
		if err != nil {
			t.Fatal(err)
		}
		again, err := o.build()
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("another package of the same input, %v", err)
		}
		files := unxar(t, data)
		items, contents := uncpio(t, files["test.pkg.pkg/Payload"])
		for path, want := range map[string]item{
			".":                                  {mode: 0o040755},
			"./Applications":                     {mode: 0o040775, group: 80},
			"./Library/Application Support":      {mode: 0o040755, group: 80},
			"./Library/LaunchDaemons/test.plist": {mode: 0o100644, size: 9},
			"./Library/PrivilegedHelperTools/program": {mode: 0o100755, size: 100000},
			"./usr/local/bin/program":                 {mode: 0o120755, size: 38},
		} {
			if items[path] != want {
				t.Errorf("%s is %+v, want %+v", path, items[path], want)
			}
		}
		if got := string(contents["./usr/local/bin/program"]); got != "/Library/PrivilegedHelperTools/program" {
			t.Errorf("the link leads to %q", got)
		}
		if billed(t, files["test.pkg.pkg/Bom"], items, contents); len(items) < more+10 {
			t.Errorf("%d in the payload", len(items))
		}
		scripts, _ := uncpio(t, files["test.pkg.pkg/Scripts"])
		if scripts["./postinstall"].mode != 0o100755 {
			t.Errorf("scripts %v", scripts)
		}
		checkTexts(t, files, len(items))
		listed(t, data, "test.pkg.pkg/", items, false)
	}
}

// billed: the bill has all of the payload and nothing else.
func billed(t *testing.T, bom []byte, items map[string]item, contents map[string][]byte) {
	t.Helper()
	bill := unbom(t, bom)
	for path, i := range items {
		b := bill[path]
		if i.mode&modeKind == modeDir {
			i.size = b.size
		} else {
			i.sum = cksum(contents[path])
		}
		if i != b {
			t.Errorf("%s: payload %+v, bill %+v", path, i, b)
		}
	}
	if len(bill) != len(items) {
		t.Errorf("%d in the bill, %d in the payload", len(bill), len(items))
	}
}

// checkTexts looks at what the installer is told.
func checkTexts(t *testing.T, files map[string][]byte, count int) {
	t.Helper()
	var info struct {
		ID      string `xml:"identifier,attr"`
		Version string `xml:"version,attr"`
		Payload struct {
			Files int `xml:"numberOfFiles,attr"`
		} `xml:"payload"`
		Postinstall struct {
			File string `xml:"file,attr"`
		} `xml:"scripts>postinstall"`
	}
	if err := xml.Unmarshal(files["test.pkg.pkg/PackageInfo"], &info); err != nil {
		t.Fatal(err)
	}
	if info.ID != "test.pkg" || info.Version != "1.2.3" || info.Payload.Files != count || info.Postinstall.File != "./postinstall" {
		t.Errorf("PackageInfo %+v", info)
	}
	var script struct {
		Title   string `xml:"title"`
		Welcome struct {
			File string `xml:"file,attr"`
		} `xml:"welcome"`
		License struct {
			File string `xml:"file,attr"`
		} `xml:"license"`
		Packages []struct {
			Name string `xml:",chardata"`
		} `xml:"pkg-ref"`
	}
	if err := xml.Unmarshal(files["Distribution"], &script); err != nil {
		t.Fatal(err)
	}
	if script.Title != "A & B" || len(script.Packages) != 1 || script.Packages[0].Name != "#test.pkg.pkg" {
		t.Errorf("Distribution %+v", script)
	}
	for _, name := range []string{script.Welcome.File, script.License.File} {
		if len(files["Resources/"+name]) == 0 {
			t.Errorf("there is no %q in %v", name, slices.Sorted(maps.Keys(files)))
		}
	}
}

// listed has other programs read the package: all, or those that there are.
func listed(t *testing.T, data []byte, component string, items map[string]item, all bool) {
	t.Helper()
	has := func(program string) bool {
		_, err := exec.LookPath(program)
		if err != nil && all {
			t.Error(err)
		} else if err != nil {
			t.Log("not asked: ", err)
		}
		return err == nil
	}
	file := filepath.Join(t.TempDir(), "test.pkg")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"7z", "t", file}, {"bsdtar", "-tf", file}} {
		if !has(command[0]) {
			continue
		}
		out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		if err != nil || command[0] == "bsdtar" && !strings.Contains(string(out), component+"Bom\n") {
			t.Errorf("%s: %v\n%s", command[0], err, out)
		}
	}
	if !has("cpio") {
		return
	}
	r, err := gzip.NewReader(bytes.NewReader(unxar(t, data)[component+"Payload"]))
	if err != nil {
		t.Fatal(err)
	}
	cpio := exec.Command("cpio", "-it", "--quiet")
	cpio.Stdin = r
	out, err := cpio.CombinedOutput()
	if err != nil || strings.Count(string(out), "\n") != len(items) {
		t.Errorf("cpio: %v\n%s", err, out)
	}
}

// The examples of POSIX's cksum, as its implementations give them.
func TestCksum(t *testing.T) {
	for text, want := range map[string]uint32{"": 4294967295, "123456789": 930766865} {
		if got := cksum([]byte(text)); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}
