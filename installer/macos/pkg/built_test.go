//go:build packages

package main

import (
	"bytes"
	"debug/macho"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuilt reads the package that "make packages" has built, as other programs do, and looks
// whether it has what it should.
func TestBuilt(t *testing.T) {
	found, err := filepath.Glob("../../../build/packages/*.pkg")
	if err != nil || len(found) != 1 {
		t.Fatalf("make packages: there is %q, %v", found, err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	files := unxar(t, data)
	const component = "io.github.wayfarer.pkg.pkg/"
	items, contents := uncpio(t, files[component+"Payload"])
	billed(t, files[component+"Bom"], items, contents)
	listed(t, data, component, items, true)

	const tools = "./Library/PrivilegedHelperTools/"
	for _, program := range []string{"wayfarer", "wayfarerd"} {
		if mode := items[tools+program].mode; mode != 0o100755 {
			t.Errorf("%s has the mode %o", program, mode)
		}
		fat, err := macho.NewFatFile(bytes.NewReader(contents[tools+program]))
		if err != nil || len(fat.Arches) != 2 || fat.Arches[0].Cpu != macho.CpuAmd64 || fat.Arches[1].Cpu != macho.CpuArm64 {
			t.Errorf("%s: %+v, %v", program, fat, err)
		}
	}
	if window := items["./Applications/Wayfarer.app/Contents/MacOS/wayfarer-gui"].mode != 0; window == strings.Contains(found[0], "without-window") {
		t.Errorf("%s has a window: %t", found[0], window)
	}
	_, scripts := uncpio(t, files[component+"Scripts"])
	for path, want := range map[string][]byte{
		"../io.github.wayfarer.wayfarerd.plist": contents["./Library/LaunchDaemons/io.github.wayfarer.wayfarerd.plist"],
		"../uninstall.sh":                       contents[tools+"wayfarer-uninstall"],
		"../scripts/preinstall":                 scripts["./preinstall"],
		"../scripts/postinstall":                scripts["./postinstall"],
		"../resources/welcome.txt":              files["Resources/welcome.txt"],
		"../../../LICENSE":                      files["Resources/license.txt"],
	} {
		if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, want) {
			t.Errorf("%s is another in the package, %v", path, err)
		}
	}
	for link, target := range map[string]string{"wayfarer": tools + "wayfarer", "wayfarer-uninstall": tools + "wayfarer-uninstall"} {
		if got := "." + string(contents["./usr/local/bin/"+link]); got != target {
			t.Errorf("%s leads to %s", link, got)
		}
	}
}
