//go:build gui && linux

package gui

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience bounds every wait: software draws the window, on a machine that may be busy.
const patience = 90 * time.Second

// desktop is what a login brings: a display, a message bus and what is on it, and a
// home. All of it ends with the test.
type desktop struct {
	*testing.T
	display string // of X
	bus     string // address
	home    string
	runtime string   // XDG_RUNTIME_DIR
	socket  string   // of the service; empty: there is none
	vars    []string // further variables of programs started from now on
	conn    *dbus.Conn
	icons   chan icon

	mu    sync.Mutex
	notes []string // notifications, title and text
}

// newDesktop starts one without a tray; see tray.
func newDesktop(t *testing.T) *desktop {
	t.Helper()
	return newDesktopOf(t, "1280x900")
}

// newDesktopOf starts one with a display of so many pixels.
func newDesktopOf(t *testing.T, pixels string) *desktop {
	t.Helper()
	d := &desktop{T: t, icons: make(chan icon, 16)}
	d.home, d.runtime = d.dir(), d.dir()
	d.display = d.startX(pixels)
	d.bus = d.startBus()
	conn, err := dbus.Connect(d.bus)
	d.must(err)
	t.Cleanup(func() { conn.Close() })
	d.conn = conn
	d.must(conn.Export(notifications{d}, "/org/freedesktop/Notifications", "org.freedesktop.Notifications"))
	d.own("org.freedesktop.Notifications")
	d.manageWindows()
	return d
}

// dir is a folder of this user's alone, with a path short enough for a socket.
func (d *desktop) dir() string {
	dir, err := os.MkdirTemp("", "wg")
	d.must(err)
	d.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (d *desktop) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// until waits for something, and fails when it does not come.
func (d *desktop) until(what string, f func() bool) {
	d.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			d.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// run starts a program for as long as the test.
func (d *desktop) run(cmd *exec.Cmd) {
	d.Helper()
	if err := cmd.Start(); err != nil {
		d.Fatalf("%s: %v", cmd.Path, err)
	}
	d.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

func (d *desktop) startX(pixels string) string {
	d.Helper()
	r, w, err := os.Pipe()
	d.must(err)
	defer r.Close()
	cmd := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", pixels+"x24", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{w}
	d.run(cmd)
	w.Close()
	number, err := bufio.NewReader(r).ReadString('\n')
	d.must(err)
	return ":" + strings.TrimSpace(number)
}

func (d *desktop) startBus() string {
	d.Helper()
	cmd := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address", "--address=unix:path="+filepath.Join(d.runtime, "bus"))
	cmd.Env = d.env()
	out, err := cmd.StdoutPipe()
	d.must(err)
	d.run(cmd)
	address, err := bufio.NewReader(out).ReadString('\n')
	d.must(err)
	return strings.TrimSpace(address)
}

// manageWindows starts a window manager.
func (d *desktop) manageWindows() {
	d.Helper()
	cmd := exec.Command("xfwm4", "--compositor=off", "--sm-client-disable")
	cmd.Env = d.env()
	d.run(cmd)
	d.until("the window manager", func() bool {
		out, err := d.tool("xprop", "-root", "_NET_SUPPORTING_WM_CHECK")
		return err == nil && strings.Contains(out, "window id")
	})
}

// env is the environment of programs on this desktop.
func (d *desktop) env() []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.home, "XDG_RUNTIME_DIR=" + d.runtime, "XDG_CURRENT_DESKTOP=test",
		"DISPLAY=" + d.display, "DBUS_SESSION_BUS_ADDRESS=" + d.bus,
		"LIBGL_ALWAYS_SOFTWARE=1", "LANG=en_US.UTF-8", "NO_AT_BRIDGE=1",
		"WAYFARER_SOCKET=" + cmp.Or(d.socket, filepath.Join(d.runtime, "nobody")),
	}, d.vars...)
}

// own takes a name on the bus.
func (d *desktop) own(name string) {
	d.Helper()
	if reply, err := d.conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		d.Fatalf("%s: %v, %v", name, reply, err)
	}
}

// keyring starts an unlocked keyring.
func (d *desktop) keyring() {
	d.Helper()
	cmd := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets", "--control-directory="+d.runtime)
	cmd.Env = d.env()
	in, err := cmd.StdinPipe()
	d.must(err)
	d.run(cmd)
	_, err = io.WriteString(in, "keyring's password")
	d.must(err)
	d.must(in.Close())
	d.until("the keyring", func() bool {
		var there bool
		d.must(d.conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "org.freedesktop.secrets").Store(&there))
		return there
	})
}

// kept lists what is in the keyring, in whichever collection of it (Secret Service API,
// sections "Collection" and "Item"): entries of Wayfarer's by their names, others whole.
func (d *desktop) kept() []string {
	d.Helper()
	const root = "/org/freedesktop/secrets"
	var kept []string
	for _, collection := range secrets[[]dbus.ObjectPath](d, root, "Service.Collections") {
		for _, item := range secrets[[]dbus.ObjectPath](d, collection, "Collection.Items") {
			attributes := secrets[map[string]string](d, item, "Item.Attributes")
			name := fmt.Sprint(attributes)
			if attributes["service"] == "wayfarer" {
				name = attributes["username"]
			}
			kept = append(kept, name)
		}
	}
	slices.Sort(kept)
	return kept
}

// secrets is a property in the keyring.
func secrets[T any](d *desktop, path dbus.ObjectPath, property string) T {
	d.Helper()
	value, err := d.conn.Object("org.freedesktop.secrets", path).GetProperty("org.freedesktop.Secret." + property)
	d.must(err)
	var to T
	d.must(value.Store(&to))
	return to
}

// keeps waits until nothing is in the keyring but these profiles, and their index.
func (d *desktop) keeps(profiles ...string) {
	d.Helper()
	want := []string{"profiles"}
	for _, name := range profiles {
		want = append(want, "profile "+strings.ToLower(name)) // as a key has it
	}
	slices.Sort(want)
	var kept []string
	defer func() {
		if !slices.Equal(kept, want) {
			d.Logf("in the keyring: %q, not %q", kept, want)
		}
	}()
	d.until("the profiles in the keyring", func() bool {
		kept = d.kept()
		return slices.Equal(kept, want)
	})
}

// notifications is org.freedesktop.Notifications (Desktop Notifications Specification
// 1.2, section 9).
type notifications struct{ d *desktop }

// Notify is a method of the interface.
func (n notifications) Notify(_ string, _ uint32, _, title, text string, _ []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	n.d.notes = append(n.d.notes, strings.TrimSpace(title+"\n"+text))
	return uint32(len(n.d.notes)), nil
}

// GetCapabilities is a method of the interface.
func (notifications) GetCapabilities() ([]string, *dbus.Error) { return []string{"body"}, nil }

// notified is the notifications since the last call.
func (d *desktop) notified() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	notes := d.notes
	d.notes = nil
	return notes
}

// tool runs a program of the display's, such as xdotool, to its end.
func (d *desktop) tool(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = d.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (d *desktop) mustTool(name string, args ...string) string {
	d.Helper()
	out, err := d.tool(name, args...)
	d.must(err)
	return out
}
