package control

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// fakeLogin is a login manager with users' sessions.
type fakeLogin struct {
	conn     *dbus.Conn
	sessions map[uint32][]fakeSession
}

type fakeSession struct {
	active bool
	seat   string // empty: from elsewhere
}

// GetUser is of org.freedesktop.login1.Manager.
func (l *fakeLogin) GetUser(uid uint32) (dbus.ObjectPath, *dbus.Error) {
	if _, ok := l.sessions[uid]; !ok {
		return "", dbus.NewError("org.freedesktop.login1.NoSuchUser", nil)
	}
	return dbus.ObjectPath(fmt.Sprintf("/user/%d", uid)), nil
}

// properties is org.freedesktop.DBus.Properties of one object.
type properties map[string]any

// Get is of org.freedesktop.DBus.Properties.
func (p properties) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	value, ok := p[iface+"."+name]
	if !ok {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
	}
	return dbus.MakeVariant(value), nil
}

type named struct {
	ID   string
	Path dbus.ObjectPath
}

func (l *fakeLogin) export(t *testing.T) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	const properties1 = "org.freedesktop.DBus.Properties"
	check(l.conn.Export(l, "/org/freedesktop/login1", "org.freedesktop.login1.Manager"))
	for uid, sessions := range l.sessions {
		var list []named
		for i, s := range sessions {
			path := dbus.ObjectPath(fmt.Sprintf("/session/%d/%d", uid, i))
			list = append(list, named{fmt.Sprint(i), path})
			seat := named{s.seat, "/"}
			check(l.conn.Export(properties{
				"org.freedesktop.login1.Session.Active": s.active, "org.freedesktop.login1.Session.Seat": seat,
			}, path, properties1))
		}
		check(l.conn.Export(properties{"org.freedesktop.login1.User.Sessions": list},
			dbus.ObjectPath(fmt.Sprintf("/user/%d", uid)), properties1))
	}
	_, err := l.conn.RequestName("org.freedesktop.login1", dbus.NameFlagDoNotQueue)
	check(err)
}

// testBus starts a message bus for the test.
func testBus(t *testing.T) (address string) {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon")
	}
	daemon := exec.Command(program, "--session", "--nofork", "--print-address", "--address=unix:dir="+t.TempDir())
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Process.Kill()
		daemon.Wait()
	})
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

func TestPresent(t *testing.T) {
	address := testBus(t)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	login := &fakeLogin{conn: conn, sessions: map[uint32][]fakeSession{
		1000: {{false, "seat0"}, {true, "seat0"}},
		1001: {{true, ""}},       // by ssh
		1002: {{false, "seat0"}}, // another has the screen
		1003: {},
	}}
	login.export(t)
	m := loginManager{func(opts ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Connect(address, opts...) }}
	for uid, want := range map[uint32]bool{1000: true, 1001: false, 1002: false, 1003: false, 1004: false} {
		if got := m.present(uid); got != want {
			t.Errorf("%d: got %v", uid, got)
		}
	}
	absent := loginManager{func(opts ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Connect("unix:path=/nowhere", opts...) }}
	if absent.present(1000) {
		t.Error("present without a login manager")
	}
}
