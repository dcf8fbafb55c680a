package platform

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// TestWatch makes changes in a namespace. Real time goes by, but none is measured.
func TestWatch(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, h := testNetwork(t)
	h.firewall = firewallHere(t)
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{splitTunnel}}))
	ctx, cancel := context.WithCancel(t.Context())
	events, err := n.Watch(ctx)
	run(t, "Watch", err)
	eth0, wayfarer0 := linkByName(t, "eth0"), linkByName(t, "wayfarer0")
	address := func(text string) *netlink.Addr {
		addr, err := netlink.ParseAddr(text)
		run(t, text, err)
		return addr
	}
	defaultRoute := &netlink.Route{Gw: net.ParseIP("192.0.2.1"), LinkIndex: eth0.Attrs().Index}
	for _, tt := range []struct {
		name   string
		change func() error
		want   []EventKind // none: those of the next row only
	}{
		{"an address of the tunnel", func() error { return netlink.AddrAdd(wayfarer0, address("10.1.2.99/32")) }, nil},
		{"a tunnel that comes", func() error {
			addTUN(t, "wayfarer1")
			return n.Set(ctx, Config{Tunnels: []Tunnel{splitTunnel, otherTunnel}})
		}, nil},
		{"a route that is no way out", func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefixes("203.0.113.0/24")[0]), LinkIndex: eth0.Attrs().Index})
		}, nil},
		{"no default route", func() error { return netlink.RouteDel(defaultRoute) }, []EventKind{EventDefaultRoute}},
		{"a default route", func() error { return netlink.RouteAdd(defaultRoute) }, []EventKind{EventDefaultRoute}},
		{"a tunnel that goes", func() error { return n.Set(ctx, Config{Tunnels: []Tunnel{splitTunnel}}) }, nil},
		{"no default route again", func() error { return netlink.RouteDel(defaultRoute) }, []EventKind{EventDefaultRoute}},
		{"the default route again", func() error { return netlink.RouteAdd(defaultRoute) }, []EventKind{EventDefaultRoute}},
		{"an address", func() error { return netlink.AddrAdd(eth0, address("192.0.2.55/24")) }, []EventKind{EventNetwork}},
		{"an interface down", func() error { return netlink.LinkSetDown(eth0) }, []EventKind{EventNetwork, EventDefaultRoute}},
	} {
		run(t, tt.name, tt.change())
		var got []EventKind
		for len(got) < len(tt.want) {
			got = append(got, (<-events).Kind)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	cancel()
	for range events {
	}
}

// TestWatchTaken: what others remove of ours is an event, and what goes with its interface
// is none. After each Set everything stands again.
func TestWatchTaken(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, h := testNetwork(t)
	h.firewall = firewallHere(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := n.Watch(ctx)
	run(t, "Watch", err)
	wish := Config{Tunnels: []Tunnel{fullTunnel}, BlockOutside: true}
	run(t, "Set", n.Set(ctx, wish))
	want := hostState(t)
	for _, tt := range []struct {
		name   string
		damage func() error
	}{
		{"rule", func() error { return netlink.RuleDel((&ruleChange{Family: netlink.FAMILY_V4}).rule()) }},
		{"IPv6 rule", func() error { return netlink.RuleDel((&ruleChange{Family: netlink.FAMILY_V6}).rule()) }},
		{"route", func() error {
			return netlink.RouteDel(&netlink.Route{Dst: ipNet(fullTunnel.Routes[0]), Table: routeTable})
		}},
		{"interface down", func() error { return netlink.LinkSetDown(linkByName(t, "wayfarer0")) }},
		{"firewall flushed", flushRuleset},
	} {
		run(t, tt.name, tt.damage())
		if e := <-events; e.Kind != EventTaken {
			t.Errorf("%s: %s", tt.name, e.Kind)
		}
		run(t, tt.name, n.Set(ctx, wish))
		if got := added(hostState(t), want); got != "" {
			t.Errorf("%s: missing\n%s", tt.name, got)
		}
	}
	run(t, "remove", netlink.LinkDel(linkByName(t, "wayfarer0")))
	run(t, "down", netlink.LinkSetDown(linkByName(t, "eth0")))
	if e := <-events; e.Kind != EventNetwork {
		t.Errorf("interface gone: %s", e.Kind)
	}
}

// flushRuleset is what nft does at the beginning of many a distribution's nftables.conf.
func flushRuleset() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.FlushRuleset()
	return conn.Flush()
}

func TestWatchClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slept, asked atomic.Int64
		hints := make(chan struct{})
		wakes := watchSleep(t.Context(), slog.New(slog.DiscardHandler), func() (time.Duration, error) {
			asked.Add(1)
			return time.Duration(slept.Load()), nil
		}, nil, nil, hints)
		select {
		case <-wakes:
			t.Error("woke up without sleep")
		case <-time.After(10*clockTime + clockTime/2):
		}
		if got := asked.Load(); got != 11 {
			t.Errorf("looked %d times", got)
		}
		for _, more := range []time.Duration{time.Hour, clockJump} {
			slept.Add(int64(more))
			start := time.Now()
			if asleep := <-wakes; asleep || time.Since(start) > clockTime {
				t.Errorf("after %v: %v", time.Since(start), asleep)
			}
		}
		slept.Add(int64(clockJump - time.Millisecond))
		select {
		case <-wakes:
			t.Error("woke up after the blink of an eye")
		case <-time.After(10*clockTime + clockTime/2):
		}
		slept.Add(int64(time.Hour))
		start := time.Now()
		hints <- struct{}{}
		if asleep := <-wakes; asleep || time.Since(start) > 0 {
			t.Errorf("with a hint after %v: %v", time.Since(start), asleep)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		watchSleep(t.Context(), slog.New(slog.DiscardHandler), func() (time.Duration, error) { return 0, errors.New("no clock") }, nil, nil, nil)
	})
	if slept, err := sleptFor(); err != nil || slept < 0 {
		t.Errorf("%v, %v", slept, err)
	}
}

// sleeper has a login manager and a kernel that tell what a test does.
type sleeper struct {
	told         chan bool
	jumps        chan struct{}
	slept, asked atomic.Int64
	sleeps       <-chan bool
}

// newSleeper is one within a bubble, with a login manager or without.
func newSleeper(t *testing.T, manager bool) *sleeper {
	t.Helper()
	s := &sleeper{jumps: make(chan struct{})}
	bus := &fakeBus{}
	if manager {
		s.told = make(chan bool)
		bus.login = s.told
	}
	h := &linuxHost{log: slog.New(slog.DiscardHandler), bus: bus}
	s.sleeps = h.sleeps(t.Context(), func() (time.Duration, error) {
		s.asked.Add(1)
		return time.Duration(s.slept.Load()), nil
	}, s.jumps)
	return s
}

// want says what is told at once, and that nothing else is for as long as clocks would be
// compared twice.
func (s *sleeper) want(t *testing.T, when string, want ...bool) {
	t.Helper()
	var got []bool
	start := time.Now()
	for end := time.After(2 * clockTime); end != nil; {
		select {
		case asleep := <-s.sleeps:
			got = append(got, asleep)
			if late := time.Since(start); late > 0 {
				t.Errorf("%s: told %v later", when, late)
			}
		case <-end:
			end = nil
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: told %v", when, got)
	}
}

// TestClockJumps: without a login manager clocks are compared when one jumps, and at no other
// time. When nobody tells of jumps any more, they are compared now and then.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSleeper(t, false)
		s.slept.Add(int64(time.Hour))
		s.want(t, "before it is told")
		if asked := s.asked.Load(); asked != 1 {
			t.Errorf("looked %d times", asked)
		}
		for range 2 {
			s.jumps <- struct{}{}
			s.want(t, "after a sleep", false)
			s.jumps <- struct{}{}
			s.want(t, "when a clock was set")
			s.slept.Add(int64(clockJump))
		}
		close(s.jumps)
		s.want(t, "at the end", false)
		s.slept.Add(int64(time.Hour))
		if asleep := <-s.sleeps; asleep {
			t.Error("the clocks tell of sleep that comes")
		}
	})
}

// TestPastLoginManager: a sleep that the login manager tells of is its own to end, one that
// it does not tell of (rtcwake(8)) is told when a clock jumps, and each once.
func TestPastLoginManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSleeper(t, true)
		s.told <- true
		s.want(t, "before a sleep", true)
		s.slept.Add(int64(time.Hour))
		s.jumps <- struct{}{}
		s.want(t, "after it, before its end is told")
		s.told <- false
		s.want(t, "at its end", false)
		s.jumps <- struct{}{}
		s.want(t, "when a clock was set")
		s.slept.Add(int64(time.Hour))
		s.jumps <- struct{}{}
		s.want(t, "after a sleep that nobody told of", false)
		if asked := s.asked.Load(); asked != 5 {
			t.Errorf("looked %d times", asked)
		}
	})
}

// TestSleepTellerGone: when the login manager tells no more, also amid a sleep, the kernel
// does; and when that tells no more, the clocks.
func TestSleepTellerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSleeper(t, true)
		for _, asleep := range []bool{true, false, true} {
			s.told <- asleep
			s.want(t, "told", asleep)
		}
		s.slept.Add(int64(time.Minute))
		s.jumps <- struct{}{}
		s.want(t, "a jump amid a sleep")
		close(s.told)
		s.want(t, "the end of the login manager", false)
		s.slept.Add(int64(time.Minute))
		s.jumps <- struct{}{}
		s.want(t, "a jump after it", false)
		close(s.jumps)
		s.want(t, "nobody")
		s.slept.Add(int64(time.Minute))
		if asleep := <-s.sleeps; asleep {
			t.Error("the clocks tell of sleep that comes")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSleeper(t, true)
		close(s.jumps)
		s.want(t, "the kernel tells no more")
		s.slept.Add(int64(time.Minute))
		s.want(t, "with a login manager alone")
	})
}

// login is an org.freedesktop.login1.Manager.
type login struct{}

func (login) Get(_, name string) (dbus.Variant, *dbus.Error) {
	if name != "PreparingForSleep" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
	}
	return dbus.MakeVariant(false), nil
}

// TestSleeps is the whole way from a login manager, over a real bus.
func TestSleeps(t *testing.T) {
	bus := systemBus{privateBus(t)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := bus.sleeps(ctx); err == nil {
		t.Error("no error without a login manager")
	}
	conn, err := dbus.Connect(bus.address)
	run(t, "connect", err)
	defer conn.Close()
	run(t, "export", conn.Export(login{}, loginPath, "org.freedesktop.DBus.Properties"))
	_, err = conn.RequestName(loginName, dbus.NameFlagDoNotQueue)
	run(t, "name", err)
	sleeps, err := bus.sleeps(ctx)
	run(t, "sleeps", err)
	run(t, "noise", conn.Emit(loginPath, loginManager+".SessionNew", "1"))
	for _, asleep := range []bool{true, false} {
		run(t, "emit", conn.Emit(loginPath, loginManager+"."+sleepSignal, asleep))
		if got, open := <-sleeps; got != asleep || !open {
			t.Errorf("%v, open %v", got, open)
		}
	}
	cancel()
	if _, open := <-sleeps; open {
		t.Error("goes on")
	}
}

// TestConflicts: other VPNs that have all the way out, or all the names.
func TestConflicts(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	addTUN(t, "tun0")
	addTUN(t, "tun1")
	n, h := testNetwork(t)
	bus := &fakeBus{silent: true}
	h.bus = bus
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{fullTunnel}}))
	if found, err := n.Conflicts(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	route := func(link, dst string, table int) {
		run(t, link, netlink.LinkSetUp(linkByName(t, link)))
		run(t, dst, netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefixes(dst)[0]), LinkIndex: linkByName(t, link).Attrs().Index, Table: table, Scope: netlink.SCOPE_LINK}))
	}
	route("tun0", "0.0.0.0/1", 254)
	route("tun0", "128.0.0.0/1", 254)
	route("tun1", "::/0", 51820)
	route("tun1", "10.0.0.0/8", 254)
	for _, link := range []string{"eth0", "wayfarer0"} {
		bus.where = append(bus.where, resolvedDomain{int32(linkByName(t, link).Attrs().Index), ".", true})
	}
	bus.where = append(bus.where, resolvedDomain{int32(linkByName(t, "tun1").Attrs().Index), "corp.example", true}, resolvedDomain{0, ".", true})
	want := []Conflict{
		{Interface: "tun0", Owner: "tun", Claim: "0.0.0.0/1"},
		{Interface: "tun0", Owner: "tun", Claim: "128.0.0.0/1"},
		{Interface: "tun1", Owner: "tun", Claim: "::/0"},
		{Interface: "eth0", Owner: "veth", Claim: "DNS"},
	}
	found, err := n.Conflicts(t.Context())
	if err != nil || !slices.Equal(found, want) {
		t.Errorf("%v, %v", found, err)
	}
	// Nor are these networks of the host's own, which would stay outside.
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{fullTunnel}}))
	if found, err := n.Conflicts(t.Context()); err != nil || !slices.Equal(found, want) {
		t.Errorf("when set again: %v, %v", found, err)
	}
	if text := found[0].String(); text != "tun0 (tun) has 0.0.0.0/1" {
		t.Error(text)
	}
	// A rule before ours sends everything to the other one.
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = netlink.FAMILY_V6, 5270, 51820
	run(t, "rule", netlink.RuleAdd(rule))
	want[2].Wins = true
	if found, err := n.Conflicts(t.Context()); err != nil || !slices.Equal(found, want) {
		t.Errorf("%v, %v", found, err)
	}
	split := splitTunnel
	split.Interface = "wayfarer0"
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{split}}))
	want[2].Wins = false // nothing is taken from anybody
	if found, err := n.Conflicts(t.Context()); err != nil || !slices.Equal(found, want) {
		t.Errorf("%v, %v", found, err)
	}
}

// TestOnline: tunnels, networks within the host, and interfaces without carrier or
// address are no way out.
func TestOnline(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, _ := testNetwork(t)
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{fullTunnel}}))
	want := func(when string, want bool) {
		t.Helper()
		if got := n.Online(); got != want {
			t.Errorf("%s: online %v", when, got)
		}
	}
	want("at first", true)
	run(t, "route", netlink.RouteDel(&netlink.Route{Gw: net.ParseIP("192.0.2.1"), LinkIndex: linkByName(t, "eth0").Attrs().Index}))
	want("without a default route", true)
	run(t, "unplug", netlink.LinkSetDown(linkByName(t, "peer")))
	want("without carrier", false)
	run(t, "plug", netlink.LinkSetUp(linkByName(t, "peer")))
	want("with carrier again", true)
	run(t, "down", netlink.LinkSetDown(linkByName(t, "eth0")))
	want("down", false)
	addTUN(t, "cont0")
	address, err := netlink.ParseAddr("172.30.0.1/24")
	run(t, "address", err)
	run(t, "address", netlink.AddrAdd(linkByName(t, "cont0"), address))
	run(t, "up", netlink.LinkSetUp(linkByName(t, "cont0")))
	want("with a network within the host", false)
	run(t, "route", netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("172.30.0.9"), LinkIndex: linkByName(t, "cont0").Attrs().Index}))
	want("with a default route there", true)
}
