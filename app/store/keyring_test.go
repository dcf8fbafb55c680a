package store

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
)

// inKeyring is set in the process that runs on a bus of its own.
const inKeyring = "WAYFARER_TEST_IN_KEYRING"

// TestRealKeyring runs TestInKeyring on a D-Bus of its own with a gnome-keyring that is
// unlocked, one that is locked with nobody to unlock it, and with none.
func TestRealKeyring(t *testing.T) {
	for _, name := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	home := t.TempDir()
	run := filepath.Join(home, "run")
	keyrings := filepath.Join(home, "data", "keyrings")
	for _, dir := range []string{run, keyrings} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, keyring := range []struct{ state, script string }{
		// The daemon ends with the bus, which ends with the script.
		{"unlocked", `printf test | gnome-keyring-daemon --unlock --components=secrets >/dev/null && exec "$0" "$@"`},
		{"locked", `gnome-keyring-daemon --start --components=secrets >/dev/null && exec "$0" "$@"`},
		{"absent", `exec "$0" "$@"`},
	} {
		state := keyring.state
		t.Run(state, func(t *testing.T) {
			cmd := exec.Command("dbus-run-session", "--", "sh", "-c", keyring.script, os.Args[0], "-test.run=^TestInKeyring$", "-test.v")
			cmd.Env = []string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + run,
				"XDG_DATA_HOME=" + filepath.Join(home, "data"), "XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
				inKeyring + "=" + state,
			}
			if state == "absent" { // also no service file from which the bus would start one
				cmd.Env = append(cmd.Env, "XDG_DATA_DIRS="+home)
			}
			out, err := cmd.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("--- PASS: TestInKeyring")) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestNoBus: without a D-Bus there is no keyring, and none is started, which would stay
// behind.
func TestNoBus(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has the keyring on a D-Bus")
	}
	for _, name := range []string{"bus", "dbus-session"} {
		if file := fmt.Sprintf("/run/user/%d/%s", os.Getuid(), name); exists(file) {
			t.Skipf("%s is there: the test would change the keyring of this user", file)
		}
	}
	home := t.TempDir()
	launched := filepath.Join(home, "launched")
	script := "#!/bin/sh\ntouch " + launched + "\n"
	if err := os.WriteFile(filepath.Join(home, "dbus-launch"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"", "autolaunch:"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestInKeyring$", "-test.v")
		cmd.Env = []string{
			"PATH=" + home + ":" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, inKeyring + "=absent", busVariable + "=" + address,
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestInKeyring")) {
			t.Errorf("%v\n%s", err, out)
		}
		if exists(launched) {
			t.Errorf("with the address %q a bus was started", address)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestInKeyring is what TestRealKeyring runs.
func TestInKeyring(t *testing.T) {
	state := os.Getenv(inKeyring)
	if state == "" {
		t.Skip("TestRealKeyring runs this one")
	}
	s, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if state != "unlocked" {
		for what, err := range map[string]error{"Save": s.Save(&Entry{Profile: app.Profile{Name: "x"}}), "Remove": s.Remove("x")} {
			if err == nil || !strings.HasPrefix(err.Error(), ErrNoKeyring.Error()) {
				t.Errorf("%s: %v", what, err)
			}
		}
		return
	}
	wantNames(t, s)
	in := &Entry{
		Profile:  app.Profile{Version: 1, Name: "Büro", Gateway: "vpn.example.com", CA: []string{testPEM}},
		Password: []byte("p\x00ß\n"), GroupSecret: bytes.Repeat([]byte{0xff}, 800),
	}
	if err := s.Save(in); err != nil {
		t.Fatal(err)
	}
	save(t, s, app.Profile{Name: "home"})
	if err := s.Reorder([]string{"home"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename("Büro", "office"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, s, "home", "office")
	in.Profile.Name = "office"
	if got, err := s.Load("office"); err != nil || !reflect.DeepEqual(got, in) {
		t.Errorf("got %+v, %v", got, err)
	}
	in.ForgetPassword()
	if err := s.Save(in); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load("office"); err != nil || got.Password != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, name := range []string{"office", "home"} {
		if err := s.Remove(name); err != nil {
			t.Error(err)
		}
	}
	if n := len(files(s)); n != 0 {
		t.Errorf("%d files are left", n)
	}
	// Nothing of the profiles is left but the empty index.
	if value, err := keyring.Get(service, keyOf+"büro"); err == nil {
		t.Errorf("left in the keyring: %q", value)
	}
}
