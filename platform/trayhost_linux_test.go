package platform

import (
	"errors"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

func TestTrayHost(t *testing.T) {
	address := privateBus(t)
	check := func(what string, want error) {
		t.Helper()
		if err := trayHost(t.Context(), address); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	check("a bus alone", ErrNoTray)

	conn, err := dbus.Connect(address)
	must(t, err)
	defer conn.Close()
	if _, err := conn.RequestName(watcherName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	check("a watcher that does not tell", nil)
	props, err := prop.Export(conn, watcherPath, prop.Map{watcherName: {watcherHosts: {Value: false}}})
	must(t, err)
	check("a watcher without a host", ErrNoTray)
	props.SetMust(watcherName, watcherHosts, true)
	check("a host", nil)
	if _, err := conn.ReleaseName(watcherName); err != nil {
		t.Fatal(err)
	}
	check("the panel has ended", ErrNoTray)
}

func TestNoSessionBus(t *testing.T) {
	for _, address := range []string{"unix:path=" + t.TempDir() + "/none", "disabled:", "nonsense"} {
		if err := trayHost(t.Context(), address); !errors.Is(err, ErrNoSessionBus) {
			t.Errorf("%s: got %v", address, err)
		}
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	if err := TrayHost(t.Context()); !errors.Is(err, ErrNoSessionBus) {
		t.Errorf("got %v", err)
	}
}
