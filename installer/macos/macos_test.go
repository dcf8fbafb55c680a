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
	"uname":       "echo Darwin",
	"xcrun":       `echo "xcrun $*" >>"$LOG"`,
	"plutil":      "exit 0",
	"codesign":    `echo "codesign $*" >>"$LOG"`,
	"git":         "echo 1700000000",
	"id":          "echo 0",
	"launchctl":   `echo "launchctl $*" >>"$LOG"; [ "$1" != print ]`,
	"sleep":       `echo "sleep $*" >>"$LOG"`,
	"pkgutil":     `echo "pkgutil $*" >>"$LOG"`,
	"pkill":       `echo "pkill $*" >>"$LOG"`,
	"productsign": `echo "productsign $*" >>"$LOG"; cp "$4" "$5"`,
	"go": `case $1 in
	build)
		while [ "$1" != -o ]; do shift; done
		out=$2; shift 2
		for p; do echo "$GOOS $GOARCH $CGO_ENABLED $MACOSX_DEPLOYMENT_TARGET" >"$out/${p##*/}"; done ;;
	run)
		case $2 in
		*/generate) mkdir -p "$4"; echo icon >"$4/wayfarer.icns" ;;
		*/universal) cat "$4" "$5" >"$3" ;;
		*/pkg) echo "$*" >>"$LOG"; (cd "$4" && find . | LC_ALL=C sort) >>"$LOG"; while [ "$1" != -out ]; do shift; done; echo package >"$2" ;;
		esac ;;
	esac`,
}

// checkout is a copy of what the script reads, with the tools in PATH.
func checkout(t *testing.T) (root string, env []string) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	root = t.TempDir()
	for _, file := range []string{
		"build.sh", "Info.plist", "io.github.wayfarer.wayfarerd.plist", "uninstall.sh", "resources/welcome.txt", "scripts/preinstall", "scripts/postinstall",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, "installer", "macos", file), string(text))
	}
	write(t, filepath.Join(root, "LICENSE"), "Licence\n")
	write(t, filepath.Join(root, "installer", "notices"), "#!/bin/sh\necho Notices of \"$@\"\n")
	write(t, filepath.Join(root, "installer", "version"), "#!/bin/sh\necho 1.2.3~rc1+4.gabc1234\n")
	for name, script := range tools {
		write(t, filepath.Join(root, "tools", name), "#!/bin/sh\n"+script+"\n")
	}
	return root, append(os.Environ(), "LOG="+filepath.Join(root, "log"), "SIGN_MACOS_IDENTITY=", "NOTARIZE_MACOS_PROFILE=", "PATH="+filepath.Join(root, "tools")+string(os.PathListSeparator)+os.Getenv("PATH"))
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
	if says, _, err := build(t, root, env); err != nil {
		t.Fatalf("%v: %s", err, says)
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

// build runs the script, and returns what it says and what the tools were asked for.
func build(t *testing.T, root string, env []string) (says, log string, err error) {
	t.Helper()
	script := exec.Command("sh", filepath.Join(root, "installer", "macos", "build.sh"))
	script.Env = env
	out, err := script.CombinedOutput()
	if asked, e := os.ReadFile(filepath.Join(root, "log")); e == nil {
		log = string(asked)
	}
	return string(out), log, err
}

// The package has all that is built, and names what it lacks.
func TestPackage(t *testing.T) {
	const service = `./Library/LaunchDaemons/io.github.wayfarer.wayfarerd.plist
./Library/PrivilegedHelperTools
./Library/PrivilegedHelperTools/wayfarer
./Library/PrivilegedHelperTools/wayfarer-uninstall
./Library/PrivilegedHelperTools/wayfarerd
`
	for system, tt := range map[string]struct {
		name   string
		window bool
	}{
		"Darwin": {"wayfarer_1.2.3~rc1+4.gabc1234.pkg", true},
		"Linux":  {"wayfarer-without-window_1.2.3~rc1+4.gabc1234.pkg", false},
	} {
		root, env := checkout(t)
		write(t, filepath.Join(root, "tools", "uname"), "#!/bin/sh\necho "+system+"\n")
		says, log, err := build(t, root, env)
		if err != nil {
			t.Fatalf("%v: %s", err, says)
		}
		if !strings.Contains(says, "nothing is signed but ad hoc") || strings.Contains(says, "no window") == tt.window {
			t.Errorf("%s: it says %s", system, says)
		}
		if got := read(t, filepath.Join(root, "build", "packages", tt.name)); got != "package\n" {
			t.Errorf("%s: %q", system, got)
		}
		if !strings.Contains(log, service) || strings.Contains(log, "./Applications/Wayfarer.app/Contents/MacOS/wayfarer-gui\n") != tt.window {
			t.Errorf("%s: the package has %s", system, log)
		}
		if !strings.Contains(log, "-id io.github.wayfarer.pkg -version 1.2.3 -title Wayfarer 1.2.3~rc1+4.gabc1234 -time 1700000000") {
			t.Errorf("%s: the package is made by %s", system, log)
		}
	}
}

// With an identity, programs, application and package are signed; Apple is asked if wanted.
func TestSigned(t *testing.T) {
	root, env := checkout(t)
	says, log, err := build(t, root, append(env, "SIGN_MACOS_IDENTITY=Ada (ABC)", "NOTARIZE_MACOS_PROFILE=mine"))
	if err != nil {
		t.Fatalf("%v: %s", err, says)
	}
	for _, want := range []string{
		"codesign --force --options runtime --timestamp --sign Developer ID Application: Ada (ABC) build/macos/wayfarer build/macos/wayfarerd\n",
		"codesign --force --options runtime --timestamp --sign Developer ID Application: Ada (ABC) build/macos/Wayfarer.app\n",
		"productsign --timestamp --sign Developer ID Installer: Ada (ABC) build/packages/wayfarer_1.2.3~rc1+4.gabc1234.pkg ",
		"xcrun notarytool submit --wait --keychain-profile mine build/packages/wayfarer_1.2.3~rc1+4.gabc1234.pkg\n",
		"xcrun stapler staple build/packages/wayfarer_1.2.3~rc1+4.gabc1234.pkg\n",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if strings.Contains(says, "nothing is signed") {
		t.Errorf("it says %s", says)
	}
}

// What is missing is named, before anything is built.
func TestBuildElsewhere(t *testing.T) {
	for name, tt := range map[string]struct{ tool, script, env, says string }{
		"no SDK":                 {"xcrun", "exit 1", "", "xcode-select --install"},
		"signing on Linux":       {"uname", "echo Linux", "SIGN_MACOS_IDENTITY=Ada", "sign on a Mac only"},
		"notarised but unsigned": {"uname", "echo Darwin", "NOTARIZE_MACOS_PROFILE=mine", "set SIGN_MACOS_IDENTITY"},
	} {
		t.Run(name, func(t *testing.T) {
			root, env := checkout(t)
			write(t, filepath.Join(root, "tools", tt.tool), "#!/bin/sh\n"+tt.script+"\n")
			says, _, err := build(t, root, append(env, tt.env))
			if err == nil || !strings.Contains(says, tt.says) {
				t.Errorf("%v: %s", err, says)
			}
			if _, err := os.Stat(filepath.Join(root, "build")); err == nil {
				t.Error("something was built")
			}
		})
	}
}

// The uninstaller leaves what an administrator has placed, and nothing else; without the
// network restored it removes nothing.
func TestUninstall(t *testing.T) {
	for _, placed := range []bool{false, true} {
		root, env := checkout(t)
		mac := filepath.Join(root, "mac")
		tools := "Library/PrivilegedHelperTools/"
		const state = "Library/Application Support/Wayfarer/"
		for _, file := range []string{
			tools + "wayfarerd", tools + "wayfarer-uninstall", "Library/LaunchDaemons/io.github.wayfarer.wayfarerd.plist",
			"Applications/Wayfarer.app/Contents/Info.plist", "Users/ada/Library/LaunchAgents/io.github.wayfarer.plist",
			"var/log/wayfarerd.log", "var/run/wayfarer/wayfarerd.sock", "usr/local/share/doc/wayfarer/LICENSE", state + "network.lock",
		} {
			write(t, filepath.Join(mac, file), "")
		}
		if err := os.MkdirAll(filepath.Join(mac, state, "profiles.d"), 0o700); err != nil {
			t.Fatal(err)
		}
		want := ""
		if placed {
			want = "/" + state + "profiles.d/office.toml\n"
			write(t, filepath.Join(mac, state, "profiles.d", "office.toml"), "")
		}
		write(t, filepath.Join(mac, "usr/local/bin/other"), "")
		for _, name := range []string{"wayfarer", "wayfarer-uninstall"} {
			if err := os.Symlink("/"+tools+name, filepath.Join(mac, "usr/local/bin", name)); err != nil {
				t.Fatal(err)
			}
		}
		uninstall := func() (string, error) {
			cmd := exec.Command("sh", "uninstall.sh")
			cmd.Env = append(env, "WAYFARER_ROOT="+mac)
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		write(t, filepath.Join(mac, tools, "wayfarer"), "#!/bin/sh\nexit 7\n")
		if out, err := uninstall(); err == nil || !strings.Contains(out, "nothing was removed") {
			t.Errorf("with the network as it is: %v, %s", err, out)
		}
		if log := read(t, filepath.Join(root, "log")); !strings.Contains(log, "launchctl bootstrap system "+mac+"/Library/LaunchDaemons/io.github.wayfarer.wayfarerd.plist\n") {
			t.Errorf("the service does not run again: %s", log)
		}
		read(t, filepath.Join(mac, tools, "wayfarerd"))
		write(t, filepath.Join(mac, tools, "wayfarer"), "#!/bin/sh\necho wayfarer \"$@\" >>\"$LOG\"\n")
		if out, err := uninstall(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		left := ""
		err := filepath.WalkDir(mac, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				left += strings.TrimPrefix(path, mac) + "\n"
			}
			return err
		})
		if err != nil || left != want+"/usr/local/bin/other\n" {
			t.Errorf("left is %q, %v", left, err)
		}
		log := read(t, filepath.Join(root, "log"))
		const stop, restore = "launchctl bootout system/io.github.wayfarer.wayfarerd\n", "wayfarer restore-network\n"
		if at := strings.Index(log, restore); at < strings.Index(log, stop) || !strings.Contains(log, "pkgutil --forget io.github.wayfarer.pkg\n") {
			t.Errorf("it did %s", log)
		}
	}
}

// The uninstaller waits for a service that still disconnects, and no longer than launchd does.
func TestUninstallWaits(t *testing.T) {
	for _, tt := range []struct {
		last    string // that launchd knows of the service
		seconds int
	}{{"3", 3}, {"100", 35}} {
		root, env := checkout(t)
		mac := filepath.Join(root, "mac")
		write(t, filepath.Join(mac, "Library/PrivilegedHelperTools/wayfarer"), "#!/bin/sh\necho wayfarer \"$@\" >>\"$LOG\"\n")
		write(t, filepath.Join(root, "tools", "launchctl"), `#!/bin/sh
echo "launchctl $*" >>"$LOG"
[ "$1" != print ] || [ "$(grep -c "launchctl print" "$LOG")" -le `+tt.last+` ]
`)
		cmd := exec.Command("sh", "uninstall.sh")
		cmd.Env = append(env, "WAYFARER_ROOT="+mac)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		before, _, done := strings.Cut(read(t, filepath.Join(root, "log")), "wayfarer restore-network\n")
		if slept := strings.Count(before, "sleep 1\n"); slept != tt.seconds || !done {
			t.Errorf("it waited for %d s, want %d; then it restored the network: %v", slept, tt.seconds, done)
		}
	}
}

// Directories of others that the package has made go with it, if they are empty; those that
// there were stay. An upgrade ends the window.
func TestDirectories(t *testing.T) {
	for name, tt := range map[string]struct{ there, left []string }{
		"none was there":   {nil, []string{"/Library", "/usr"}},
		"all were there":   {[]string{"Library/PrivilegedHelperTools", "usr/local/bin", "usr/local/share/doc"}, []string{"/Library", "/Library/PrivilegedHelperTools", "/usr", "/usr/local", "/usr/local/bin", "/usr/local/share", "/usr/local/share/doc"}},
		"one is used now":  {[]string{"usr/local/bin/later"}, []string{"/Library", "/usr", "/usr/local", "/usr/local/bin", "/usr/local/bin/later"}},
		"some of the tree": {[]string{"usr/local"}, []string{"/Library", "/usr", "/usr/local"}},
	} {
		t.Run(name, func(t *testing.T) {
			root, env := checkout(t)
			mac := filepath.Join(root, "mac")
			env = append(env, "WAYFARER_ROOT="+mac)
			run := func(script string) {
				t.Helper()
				cmd := exec.Command("sh", script)
				cmd.Env = env
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", script, err, out)
				}
			}
			mkdir := func(dir string) {
				t.Helper()
				if err := os.MkdirAll(filepath.Join(mac, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			mkdir("Library")
			mkdir("usr")
			for _, dir := range tt.there {
				if !strings.HasSuffix(dir, "later") {
					mkdir(dir)
				}
			}
			for range 2 { // an upgrade finds what the first has made
				run("scripts/preinstall")
				mkdir("usr/local/bin")
				mkdir("usr/local/share/doc/wayfarer")
				write(t, filepath.Join(mac, "Library/PrivilegedHelperTools/wayfarer"), "#!/bin/sh\n")
			}
			if !strings.Contains(read(t, filepath.Join(root, "log")), "pkill -x wayfarer-gui\n") {
				t.Error("the window was not ended")
			}
			for _, dir := range tt.there {
				mkdir(dir)
			}
			run("uninstall.sh")
			var left []string
			err := filepath.WalkDir(mac, func(path string, _ os.DirEntry, err error) error {
				if path = strings.TrimPrefix(path, mac); path != "" && path != "/Library/Application Support" {
					left = append(left, path)
				}
				return err
			})
			if err != nil || !slices.Equal(left, tt.left) {
				t.Errorf("left are %q, %v; want %q", left, err, tt.left)
			}
		})
	}
}
