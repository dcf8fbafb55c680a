package platform

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// trayTime bounds the question; somebody waits for a window.
const trayTime = time.Second

const (
	watcherName  = "org.kde.StatusNotifierWatcher"
	watcherPath  = "/StatusNotifierWatcher"
	watcherHosts = "IsStatusNotifierHostRegistered"
)

// TrayHost says whether there is somewhere an icon of this program would be seen: nil, or
// ErrNoSessionBus or ErrNoTray. A panel that starts later may bring one.
func TrayHost(ctx context.Context) error {
	return trayHost(ctx, os.Getenv("DBUS_SESSION_BUS_ADDRESS"))
}

// trayHost asks the bus at an address; empty: the session's usual one.
func trayHost(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, trayTime)
	defer cancel()
	conn, err := dialSession(ctx, address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoSessionBus, err)
	}
	defer conn.Close()
	var there bool
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, watcherName).Store(&there); err != nil {
		return fmt.Errorf("%w: %w", ErrNoSessionBus, err)
	}
	if !there {
		return ErrNoTray
	}
	var hosts dbus.Variant
	err = conn.Object(watcherName, watcherPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, watcherName, watcherHosts).Store(&hosts)
	// A watcher that does not tell is believed to have one.
	if shown, ok := hosts.Value().(bool); err == nil && ok && !shown {
		return ErrNoTray
	}
	return nil
}

func dialSession(ctx context.Context, address string) (*dbus.Conn, error) {
	if address == "" {
		// The library would start a bus of our own where there is none.
		address = fmt.Sprintf("unix:path=/run/user/%d/bus", os.Getuid())
	}
	if !strings.Contains(address, ":") {
		return nil, fmt.Errorf("%q is no address", address)
	}
	return dbus.Connect(address, dbus.WithContext(ctx))
}
