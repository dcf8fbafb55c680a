package platform

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// busTime bounds one call.
const busTime = 5 * time.Second

// bus is the system's message bus.
type bus interface {
	// answers says whether a service has a property; the bus starts it if it
	// only waits to be asked.
	answers(ctx context.Context, name, path, iface, property string) bool
	// call calls a method of systemd-resolved's manager.
	call(ctx context.Context, method string, args ...any) error
	// domains lists what systemd-resolved resolves where.
	domains(ctx context.Context) ([]resolvedDomain, error)
	// servers lists whom systemd-resolved asks.
	servers(ctx context.Context) ([]resolvedServer, error)
	// sleeps reports that the computer goes to sleep (true) and has slept
	// (false), until ctx ends. Without a login manager it is an error.
	sleeps(ctx context.Context) (<-chan bool, error)
}

// resolvedServer is the D-Bus structure (iiay) of org.freedesktop.resolve1(5).
type resolvedServer struct {
	Link, Family int32
	Address      []byte
}

// resolvedDomain is the D-Bus structure (isb) of org.freedesktop.resolve1(5).
type resolvedDomain struct {
	Link        int32
	Domain      string
	RoutingOnly bool
}

// systemBus is D-Bus. A connection is made for each call: they are rare, and the bus
// may be restarted between them.
type systemBus struct {
	address string // empty: the system bus
}

func (b systemBus) dial(ctx context.Context) (*dbus.Conn, error) {
	var conn *dbus.Conn
	var err error
	if b.address != "" {
		conn, err = dbus.Connect(b.address, dbus.WithContext(ctx))
	} else {
		conn, err = dbus.ConnectSystemBus(dbus.WithContext(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("D-Bus: %w", err)
	}
	return conn, nil
}

func (b systemBus) get(ctx context.Context, name, path, iface, property string) (dbus.Variant, error) {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	var value dbus.Variant
	conn, err := b.dial(ctx)
	if err != nil {
		return value, err
	}
	defer conn.Close()
	err = conn.Object(name, dbus.ObjectPath(path)).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, property).Store(&value)
	return value, err
}

func (b systemBus) answers(ctx context.Context, name, path, iface, property string) bool {
	_, err := b.get(ctx, name, path, iface, property)
	return err == nil
}

func (b systemBus) call(ctx context.Context, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	conn, err := b.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Object(resolvedName, resolvedPath).CallWithContext(ctx, resolvedManager+"."+method, 0, args...).Err
}

func (b systemBus) domains(ctx context.Context) ([]resolvedDomain, error) {
	value, err := b.get(ctx, resolvedName, resolvedPath, resolvedManager, "Domains")
	if err != nil {
		return nil, err
	}
	var domains []resolvedDomain
	return domains, value.Store(&domains)
}

func (b systemBus) servers(ctx context.Context) ([]resolvedServer, error) {
	value, err := b.get(ctx, resolvedName, resolvedPath, resolvedManager, "DNS")
	if err != nil {
		return nil, err
	}
	var servers []resolvedServer
	return servers, value.Store(&servers)
}

const (
	loginName    = "org.freedesktop.login1"
	loginPath    = "/org/freedesktop/login1"
	loginManager = "org.freedesktop.login1.Manager"
	sleepSignal  = "PrepareForSleep"
)

func (b systemBus) sleeps(ctx context.Context) (<-chan bool, error) {
	if _, err := b.get(ctx, loginName, loginPath, loginManager, "PreparingForSleep"); err != nil {
		return nil, err
	}
	conn, err := b.dial(ctx) // ctx closes it
	if err != nil {
		return nil, err
	}
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(loginName), dbus.WithMatchObjectPath(loginPath),
		dbus.WithMatchInterface(loginManager), dbus.WithMatchMember(sleepSignal)); err != nil {
		conn.Close()
		return nil, err
	}
	signals := make(chan *dbus.Signal, 8)
	conn.Signal(signals)
	sleeps := make(chan bool)
	go func() {
		defer close(sleeps)
		defer conn.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case s, ok := <-signals:
				if !ok {
					return
				}
				var asleep bool
				if s.Name != loginManager+"."+sleepSignal || dbus.Store(s.Body, &asleep) != nil {
					continue
				}
				select {
				case sleeps <- asleep:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return sleeps, nil
}
