package macos

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howett.net/plist"
)

// tools stand in for those of a Mac. The go command only says what it was asked for, in the
// place of programs.
var tools = map[string]string{
	"uname":    "echo Darwin",
	"xcrun":    "exit 0",
	"plutil":   "exit 0",
	"codesign": "exit 0",
	"lipo":     `cat "$4" "$5" >"$3"`,
	"go": `case $1 in
	build)
		while [ "$1" != -o ]; do shift; done
		out=$2; shift 2
		for p; do echo "$GOOS $GOARCH $CGO_ENABLED $MACOSX_DEPLOYMENT_TARGET" >"$out/${p##*/}"; done ;;
	run)
		mkdir -p "$4"; echo icon >"$4/wayfarer.icns" ;;
	esac`,
}

// checkout is a copy of what the script reads, with the tools in PATH.
func checkout(t *testing.T) (root string, env []string) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	root = t.TempDir()
	for _, file := range []string{"build.sh", "Info.plist", "io.github.wayfarer.wayfarerd.plist"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, "installer", "macos", file), string(text))
	}
	write(t, filepath.Join(root, "installer", "version"), "#!/bin/sh\necho 1.2.3~rc1+4.gabc1234\n")
	for name, script := range tools {
		write(t, filepath.Join(root, "tools", name), "#!/bin/sh\n"+script+"\n")
	}
	return root, append(os.Environ(), "PATH="+filepath.Join(root, "tools")+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the script puts where, for which processors, and what the application says of itself.
func TestBuild(t *testing.T) {
	root, env := checkout(t)
	build := exec.Command("sh", filepath.Join(root, "installer", "macos", "build.sh"))
	build.Env = env
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out := filepath.Join(root, "build", "macos")
	contents := filepath.Join(out, "Wayfarer.app", "Contents")
	const plain, window = "darwin amd64 0 12.0\ndarwin arm64 0 12.0\n", "darwin amd64 1 12.0\ndarwin arm64 1 12.0\n"
	for file, want := range map[string]string{
		filepath.Join(out, "wayfarer"): plain, filepath.Join(out, "wayfarerd"): plain,
		filepath.Join(contents, "MacOS", "wayfarer-gui"): window, filepath.Join(contents, "MacOS", "wayfarer"): plain,
		filepath.Join(contents, "Resources", "wayfarer.icns"): "icon\n",
	} {
		if got := read(t, file); got != want {
			t.Errorf("%s: %q", file, got)
		}
	}
	if read(t, filepath.Join(out, "io.github.wayfarer.wayfarerd.plist")) != read(t, "io.github.wayfarer.wayfarerd.plist") {
		t.Error("the service's property list is another")
	}
	left, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(left) != 4 {
		t.Errorf("there is %q, %v", left, err)
	}

	var info map[string]any
	if _, err := plist.Unmarshal([]byte(read(t, filepath.Join(contents, "Info.plist"))), &info); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"CFBundleIdentifier": "io.github.wayfarer", "CFBundleExecutable": "wayfarer-gui", "CFBundleIconFile": "wayfarer",
		"CFBundleShortVersionString": "1.2.3", "CFBundleVersion": "1.2.3", "CFBundleGetInfoString": "Wayfarer 1.2.3~rc1+4.gabc1234",
		"LSMinimumSystemVersion": "12.0", "LSUIElement": true, "NSHighResolutionCapable": true,
	} {
		if info[key] != want {
			t.Errorf("%s is %v", key, info[key])
		}
	}
	catalogues, err := filepath.Glob("../../assets/translations/*.json")
	if err != nil {
		t.Fatal(err)
	}
	languages, _ := info["CFBundleLocalizations"].([]any)
	if len(languages) != len(catalogues) || len(languages) == 0 {
		t.Errorf("%d languages, %d catalogues", len(languages), len(catalogues))
	}
	for _, file := range catalogues {
		if !slices.Contains(languages, any(strings.TrimSuffix(filepath.Base(file), ".json"))) {
			t.Errorf("%s is not in %v", file, languages)
		}
	}
}

// What is missing is named, before anything is built.
func TestBuildElsewhere(t *testing.T) {
	for name, tt := range map[string]struct{ tool, script, says string }{
		"Linux":  {"uname", "echo Linux", "needs a Mac"},
		"no SDK": {"xcrun", "exit 1", "xcode-select --install"},
	} {
		t.Run(name, func(t *testing.T) {
			root, env := checkout(t)
			write(t, filepath.Join(root, "tools", tt.tool), "#!/bin/sh\n"+tt.script+"\n")
			build := exec.Command("sh", filepath.Join(root, "installer", "macos", "build.sh"))
			build.Env = env
			out, err := build.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tt.says) {
				t.Errorf("%v: %s", err, out)
			}
			if _, err := os.Stat(filepath.Join(root, "build")); err == nil {
				t.Error("something was built")
			}
		})
	}
}
