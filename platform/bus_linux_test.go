package platform

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/vishvananda/netlink"
)

// manager is an org.freedesktop.resolve1.Manager as its documentation describes it;
// the library checks the signatures.
type manager struct {
	mu    sync.Mutex
	calls []string
}

func (m *manager) note(format string, args ...any) *dbus.Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
	return nil
}

func (m *manager) SetLinkDNS(link int32, servers []struct {
	Family  int32
	Address []byte
},
) *dbus.Error {
	if link == 404 {
		return dbus.NewError(noSuchLink, []any{"Link 404 not known"})
	}
	return m.note("SetLinkDNS %d %v", link, servers)
}

func (m *manager) SetLinkDomains(link int32, domains []struct {
	Domain  string
	Routing bool
},
) *dbus.Error {
	return m.note("SetLinkDomains %d %v", link, domains)
}

func (m *manager) SetLinkDefaultRoute(link int32, enable bool) *dbus.Error {
	return m.note("SetLinkDefaultRoute %d %v", link, enable)
}

func (m *manager) RevertLink(link int32) *dbus.Error { return m.note("RevertLink %d", link) }
func (m *manager) FlushCaches() *dbus.Error          { return m.note("FlushCaches") }

// Get is org.freedesktop.DBus.Properties.Get.
func (m *manager) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	if iface == resolvedManager && name == "Domains" {
		return dbus.MakeVariant([]resolvedDomain{{0, "home.example", false}, {7, ".", true}}), nil
	}
	if iface != resolvedManager || name != "DNS" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
	}
	return dbus.MakeVariant([]string{}), nil
}

// privateBus starts a message bus that only the test knows.
func privateBus(t *testing.T) (address string) {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon")
	}
	socket := filepath.Join(t.TempDir(), "bus")
	daemon := exec.Command(program, "--session", "--nofork", "--print-address", "--address=unix:path="+socket)
	out, err := daemon.StdoutPipe()
	run(t, "pipe", err)
	run(t, "dbus-daemon", daemon.Start())
	t.Cleanup(func() {
		daemon.Process.Kill()
		daemon.Wait()
	})
	address, err = bufio.NewReader(out).ReadString('\n')
	run(t, "dbus-daemon", err)
	return strings.TrimSpace(address)
}

// TestSystemBus is the whole way to resolved, over a real bus.
func TestSystemBus(t *testing.T) {
	bus := systemBus{privateBus(t)}
	if bus.answers(t.Context(), resolvedName, resolvedPath, resolvedManager, "DNS") {
		t.Error("answers without resolved")
	}
	conn, err := dbus.Connect(bus.address)
	run(t, "connect", err)
	defer conn.Close()
	m := &manager{}
	run(t, "export", conn.Export(m, resolvedPath, "org.freedesktop.resolve1.Manager"))
	run(t, "export", conn.Export(m, resolvedPath, "org.freedesktop.DBus.Properties"))
	_, err = conn.RequestName(resolvedName, dbus.NameFlagDoNotQueue)
	run(t, "name", err)
	if !bus.answers(t.Context(), resolvedName, resolvedPath, resolvedManager, "DNS") {
		t.Fatal("does not answer")
	}
	if domains, err := bus.domains(t.Context()); err != nil || !slices.Equal(domains, []resolvedDomain{{0, "home.example", false}, {7, ".", true}}) {
		t.Errorf("%v, %v", domains, err)
	}
	c := &resolvedChange{
		h: &linuxHost{bus: bus, nl: &netlink.Handle{}}, Index: 1, Name: "lo", Servers: addrs("10.1.1.1"), Search: []string{"corp.example"}, Match: []string{"lab.example"},
	}
	run(t, "apply", c.apply(t.Context()))
	run(t, "undo", c.undo(t.Context()))
	if err := bus.call(t.Context(), "SetLinkDNS", int32(404), []linkDNS{}); !isBusError(err, noSuchLink) {
		t.Errorf("unknown link: %v", err)
	}
	if err := bus.call(t.Context(), "NoSuchMethod"); !isBusError(err, noSuchMethod) {
		t.Errorf("unknown method: %v", err)
	}
	if (systemBus{"unix:path=/nowhere"}).answers(t.Context(), resolvedName, resolvedPath, resolvedManager, "DNS") {
		t.Error("answers without a bus")
	}
	want := []string{
		"SetLinkDNS 1 [{2 [10 1 1 1]}]", "SetLinkDomains 1 [{corp.example false} {lab.example true}]",
		"SetLinkDefaultRoute 1 false", "FlushCaches", "RevertLink 1", "FlushCaches",
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.calls, want) {
		t.Errorf("calls %q", m.calls)
	}
}
