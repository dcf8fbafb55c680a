package platform

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// memoryValues is a registry of one name.
type memoryValues struct {
	forAll         bool
	run            string
	approved       []byte
	approvedForAll []byte
	broken         error
}

func (m *memoryValues) machine() (bool, error)           { return m.forAll, m.broken }
func (m *memoryValues) setApproval(a []byte) error       { m.approved = a; return m.broken }
func (m *memoryValues) command() (string, error)         { return m.run, m.broken }
func (m *memoryValues) approval() ([]byte, error)        { return m.approved, m.broken }
func (m *memoryValues) setCommand(c string) error        { m.run = c; return m.broken }
func (m *memoryValues) removeCommand() error             { m.run = ""; return m.broken }
func (m *memoryValues) machineApproval() ([]byte, error) { return m.approvedForAll, m.broken }
func (m *memoryValues) removeApproval() error            { m.approved = nil; return m.broken }

func spaced(program string, args []string) string {
	return strings.Join(append([]string{program}, args...), " ")
}

func mustBe(t *testing.T, a *Autostart, want bool) {
	t.Helper()
	if got, err := a.Enabled(); err != nil || got != want {
		t.Errorf("enabled: %v, %v; want %v", got, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The same in every system: on, replaced, off, off again.
func TestAutostart(t *testing.T) {
	program := filepath.Join(t.TempDir(), "wayfarer-gui")
	for name, entry := range map[string]autostartEntry{
		"linux":   desktopEntry{filepath.Join(t.TempDir(), "autostart", "w.desktop")},
		"darwin":  launchAgent{filepath.Join(t.TempDir(), "LaunchAgents", "w.plist")},
		"windows": runKey{&memoryValues{}, spaced},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Autostart{entry}
			mustBe(t, a, false)
			must(t, a.Disable())
			must(t, a.Enable(program, "--hidden"))
			mustBe(t, a, true)
			must(t, a.Enable(program))
			mustBe(t, a, true)
			must(t, a.Disable())
			mustBe(t, a, false)
			must(t, a.Disable())

			for _, bad := range []string{"wayfarer-gui", program + "\nExec=x", ""} {
				if err := a.Enable(bad); err == nil {
					t.Errorf("%q was taken", bad)
				}
			}
			if err := a.Enable(program, "a\nExec=x"); err == nil {
				t.Error("a line break was taken")
			}
			mustBe(t, a, false)
		})
	}
}

func TestDesktopEntry(t *testing.T) {
	file := filepath.Join(t.TempDir(), "w.desktop")
	d := desktopEntry{file}
	must(t, d.enable(`/opt/a b/50%/$HOME/"x"\`, []string{"--hidden", "`id`"}))
	text, err := os.ReadFile(file)
	must(t, err)
	// By section 7: quoted, with four signs escaped, and then as a string of section 4.
	for _, want := range []string{
		"[Desktop Entry]\nType=Application\n",
		"\nTryExec=/opt/a b/50%/$HOME/\"x\"\\\\\n",
		"\nExec=" + `"/opt/a b/50%%/\\$HOME/\\"x\\"\\\\" "--hidden" "\\` + "`id\\\\`\"\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	info, err := os.Stat(file)
	must(t, err)
	if info.Mode().Perm() != 0o644 && runtime.GOOS != "windows" { // which has no such modes
		t.Errorf("mode %v", info.Mode())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".wayfarer-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// Desktops switch entries off without removing them.
func TestDesktopEntryIsSwitchedOff(t *testing.T) {
	for text, want := range map[string]bool{
		"[Desktop Entry]\nExec=x\n":                                       true,
		"[Desktop Entry]\nHidden=true\n":                                  false,
		"[Desktop Entry]\nHidden = true":                                  false,
		"[Desktop Entry]\nHidden=false\nX-GNOME-Autostart-enabled=true":   true,
		"[Desktop Entry]\r\nX-GNOME-Autostart-enabled=false\r\nHidden=no": false,
	} {
		file := filepath.Join(t.TempDir(), "w.desktop")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		mustBe(t, &Autostart{desktopEntry{file}}, want)
	}
}

func TestLaunchAgent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "w.plist")
	l := launchAgent{file}
	must(t, l.enable("/Applications/A & B.app/x", []string{"--hidden"}))
	text, err := os.ReadFile(file)
	must(t, err)
	for _, want := range []string{
		"<key>Label</key>", "<string>io.github.wayfarer</string>", "<key>RunAtLoad</key>", "<true",
		"<string>/Applications/A &amp; B.app/x</string>", "<string>--hidden</string>", "<string>Aqua</string>",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "Disabled") {
		t.Error("it is disabled")
	}
	must(t, os.WriteFile(file, []byte(strings.Replace(string(text), "<key>RunAtLoad", "<key>Disabled</key><true/><key>RunAtLoad", 1)), 0o600))
	mustBe(t, &Autostart{l}, false)
	must(t, os.WriteFile(file, []byte("no plist"), 0o600))
	if _, err := (&Autostart{l}).Enabled(); err == nil {
		t.Error("a file that cannot be read was told as off")
	}
}

// The Task Manager's switch counts, until the program's own is used.
func TestRunKey(t *testing.T) {
	values := &memoryValues{}
	a := &Autostart{runKey{values, spaced}}
	program := filepath.Join(t.TempDir(), "w.exe")
	must(t, a.Enable(program, "--hidden"))
	if values.run != program+" --hidden" {
		t.Errorf("command %q", values.run)
	}
	values.approved = []byte{2, 0, 0, 0}
	mustBe(t, a, true)
	values.approved = []byte{3, 0, 0, 0}
	mustBe(t, a, false)
	must(t, a.Enable(program))
	mustBe(t, a, true)
	values.broken = errors.New("access is denied")
	if _, err := a.Enabled(); !errors.Is(err, values.broken) {
		t.Errorf("got %v", err)
	}
	if err := a.Disable(); !errors.Is(err, values.broken) {
		t.Errorf("got %v", err)
	}
}

// TestRunKeySwitches: either of the Task Manager's two notes can switch off what is started
// for all users; what is off for all, one of them can have by a command of his own.
func TestRunKeySwitches(t *testing.T) {
	on, off := []byte{2, 0, 0, 0}, []byte{3, 0, 0, 0}
	for _, tt := range []struct {
		name          string
		machine, user []byte
		want          bool
		own           bool // command, after Enable
	}{
		{"no notes", nil, nil, true, false},
		{"both on", on, on, true, false},
		{"off for the user", on, off, false, false},
		{"off for all", off, nil, false, true},
		{"off for all, on for the user", off, on, false, true},
		{"both off", off, off, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			values := &memoryValues{forAll: true, approvedForAll: tt.machine, approved: tt.user}
			a := &Autostart{runKey{values, spaced}}
			mustBe(t, a, tt.want)
			must(t, a.Enable(filepath.Join(t.TempDir(), "w.exe")))
			mustBe(t, a, true)
			if own := values.run != ""; own != tt.own {
				t.Errorf("a command of the user's own: %v", own)
			}
			must(t, a.Disable())
			mustBe(t, a, false)
		})
	}
}

// What an installer has started for all users each can decline, and have again, without
// two starts.
func TestRunKeyOfAllUsers(t *testing.T) {
	values := &memoryValues{run: "of before"}
	a := &Autostart{runKey{values, spaced}}
	if a.Declined() {
		t.Error("declined what there is not")
	}
	values.forAll = true
	mustBe(t, a, true)
	must(t, a.Disable())
	mustBe(t, a, false)
	if !a.Declined() || values.run != "" {
		t.Errorf("after Disable: %+v", values)
	}
	must(t, a.Enable(filepath.Join(t.TempDir(), "w.exe"), "--hidden"))
	mustBe(t, a, true)
	if a.Declined() || values.run != "" {
		t.Errorf("after Enable: %+v", values)
	}
	values.forAll, values.run = false, "mine"
	must(t, a.Disable())
	if a.Declined() || values.run != "" || values.approved != nil {
		t.Errorf("without it: %+v", values)
	}
}
