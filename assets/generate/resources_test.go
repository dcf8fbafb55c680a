package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tc-hib/winres"
	"github.com/tc-hib/winres/version"
)

func TestVersionNumbers(t *testing.T) {
	for release, want := range map[string][4]uint16{
		"1.2.3": {1, 2, 3, 10000}, "10.20.30+5.gabc1234": {10, 20, 30, 10005}, "1.2.3~rc1": {1, 2, 3, 6100}, "1.2.3~rc1+4.gabc1234": {1, 2, 3, 6104},
		"0.0.0~git20260102.abc1234": {}, "1.2.3+99999.gabc1234": {1, 2, 3, 65535},
	} {
		if got, err := versionNumbers(release); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", release, got, err, want)
		}
	}
	for _, bad := range []string{"", "1.2", "v1.2.3", "1.2.3.4", "1.2.65536", "1.2.3+x"} {
		if got, err := versionNumbers(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// TestVersionsRise: what is made later has a higher number, by which Windows's installer
// keeps it.
func TestVersionsRise(t *testing.T) {
	var before [4]uint16
	for i, release := range []string{
		"0.0.0~git20260102.abc1234", "1.2.3~alpha1", "1.2.3~alpha1+2.gabc1234", "1.2.3~alpha2", "1.2.3~alpha99", "1.2.3~beta1", "1.2.3~beta.2",
		"1.2.3~rc1", "1.2.3~rc1+300.gabc1234", "1.2.3~rc2", "1.2.3~rc99999999999999999999+300.gabc1234", "1.2.3", "1.2.3+5.gabc1234",
		"1.2.4~rc1", "1.2.4", "1.3.0~rc1",
	} {
		numbers, err := versionNumbers(release)
		if err != nil || i > 0 && slices.Compare(before[:], numbers[:]) >= 0 {
			t.Errorf("%s: %v, %v; before it %v", release, numbers, err, before)
		}
		before = numbers
	}
}

// The linker takes what stands beside a program, for each architecture, and Windows would
// find icon, version and manifest in it.
func TestResources(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := writeResources(dir, "1.2.3+4.gabc1234"); err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		for _, arch := range []string{"amd64", "arm64"} {
			t.Run(p.name+"/"+arch, func(t *testing.T) {
				set := link(t, filepath.Join(dir, p.name), arch)
				icon, err := set.GetIcon(iconName)
				if err != nil {
					t.Fatal(err)
				}
				var ico bytes.Buffer
				if err := icon.SaveICO(&ico); err != nil || int(ico.Bytes()[4]) != len(icoSizes) {
					t.Errorf("%d pictures, %v", ico.Bytes()[4], err)
				}
				info, err := version.FromBytes(set.Get(winres.RT_VERSION, winres.ID(1), languageEnglish))
				if err != nil {
					t.Fatal(err)
				}
				if want := [4]uint16{1, 2, 3, 10004}; info.FileVersion != want || info.ProductVersion != want {
					t.Errorf("versions %v and %v", info.FileVersion, info.ProductVersion)
				}
				texts, err := info.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				has(t, string(texts), `"ProductVersion":"1.2.3+4.gabc1234"`, true)
				has(t, string(texts), `"OriginalFilename":"`+p.name+`.exe"`, true)
				manifest := string(set.Get(winres.RT_MANIFEST, winres.ID(1), languageEnglish))
				has(t, manifest, `level="asInvoker"`, true)
				has(t, manifest, "8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a", true) // Windows 10
				has(t, manifest, "permonitorv2", p.name == "wayfarer-gui")
				has(t, manifest, "Microsoft.Windows.Common-Controls", p.name == "wayfarer-gui")
			})
		}
	}
}

func has(t *testing.T, text, part string, want bool) {
	t.Helper()
	if strings.Contains(text, part) != want {
		t.Errorf("%q is there: %v\n%s", part, !want, text)
	}
}

// link builds the smallest program of a folder's resources and reads them back.
func link(t *testing.T, dir, arch string) *winres.ResourceSet {
	t.Helper()
	for file, text := range map[string]string{"go.mod": "module program", "main.go": "package main\nfunc main() {}"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exe := filepath.Join(t.TempDir(), "program.exe")
	build := exec.Command("go", "build", "-o", exe, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	set, err := winres.LoadFromEXE(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return set
}
