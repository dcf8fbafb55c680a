package platform

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
)

// boundOf is what sockets were bound to, and forgets it.
func (f *fakeMac) boundOf() string {
	defer clear(f.sockets)
	return fmt.Sprint(slices.Sorted(maps.Keys(f.sockets)))
}

// TestMacSocket: a socket sends by the interface that leads outside, whatever the tunnels'
// routes, and by another one when the host moves.
func TestMacSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeMac()
		f.links = append(f.links, macLink{Index: 5, Name: "en1", MTU: 1492, Up: true, Running: true})
		n, h := f.network(t, t.TempDir())
		bound := func(what, want string) {
			t.Helper()
			synctest.Wait()
			if got := f.boundOf(); got != want {
				t.Errorf("%s: bound to %s instead of %s", what, got, want)
			}
		}
		conn, err := n.ListenPacket(t.Context(), addrs("203.0.113.5")[0], 0)
		run(t, "listen", err)
		bound("at first", "[false 4]")
		conn6, err := n.ListenPacket(t.Context(), addrs("2001:db8:99::5")[0], 0)
		run(t, "listen", err)
		bound("IPv6", "[true 4]")
		run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{macFull}}))
		f.hints <- struct{}{}
		bound("with a tunnel", "[]")
		for i := range f.routes {
			if f.routes[i].isDefault() && f.routes[i].Link == 4 && f.routes[i].Dst.Addr().Is4() {
				f.routes[i].Link = 5
			}
		}
		f.hints <- struct{}{}
		bound("the default route moves", "[false 5]")
		f.routes = slices.DeleteFunc(f.routes, func(r macRoute) bool { return r.isDefault() })
		f.hints <- struct{}{}
		bound("nothing leads outside", "[]")
		if gateways := h.sockets.gateways(); !slices.Equal(gateways, addrs("203.0.113.5", "2001:db8:99::5")) {
			t.Errorf("%v", gateways)
		}
		run(t, "close", conn6.Close())
		run(t, "close", conn.Close())
		if len(h.sockets.bound) != 0 || len(h.filter.passes) != 0 {
			t.Errorf("%v %v", h.sockets.bound, h.filter.passes)
		}
		run(t, "close", n.Close())
		f.routes = newFakeMac().routes
		select {
		case f.hints <- struct{}{}:
		default:
		}
		bound("after the end", "[]")
	})
}

// TestMacSocketSends: real datagrams, on loopback.
func TestMacSocketSends(t *testing.T) {
	f := newFakeMac()
	n, h := f.network(t, t.TempDir())
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	run(t, "peer", err)
	defer peer.Close()
	to := peer.LocalAddr().(*net.UDPAddr).AddrPort()
	conn, err := n.ListenPacket(t.Context(), to.Addr(), 0)
	run(t, "listen", err)
	defer conn.Close()
	s := conn.(*macSocket)
	for i, send := range []func() (int, error){
		func() (int, error) { return s.WriteToUDPAddrPort([]byte("hello"), to) },
		func() (int, error) { return s.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(to)) },
	} {
		if size, err := send(); size != 5 || err != nil {
			t.Errorf("%d: %d, %v", i, size, err)
		}
		buf := make([]byte, 16)
		if size, _, err := peer.ReadFrom(buf); err != nil || string(buf[:size]) != "hello" {
			t.Errorf("%d: %q, %v", i, buf[:size], err)
		}
	}
	if _, err := s.WriteTo(nil, &net.IPAddr{}); err == nil {
		t.Error("an address of another kind was accepted")
	}
	if port := s.LocalAddr().(*net.UDPAddr).Port; s.pass.from != uint16(port) || s.pass.to != to.Addr() || len(h.filter.passes) != 1 {
		t.Errorf("%+v, port %d", s.pass, port)
	}
	run(t, "don't fragment", s.SetDontFragment(true))
	if !slices.Contains(f.diary, "don't fragment false true") {
		t.Errorf("%q", f.diary)
	}
	if runtime.GOOS == "windows" {
		t.Skip("Windows has another error for a datagram that is too large")
	}
	var sizes []int
	s.OnTooBig(func(_ netip.Addr, mtu int) { sizes = append(sizes, mtu) })
	if _, err := s.WriteToUDPAddrPort(make([]byte, 1<<16), to); !errors.Is(err, syscall.EMSGSIZE) || !slices.Equal(sizes, []int{16384}) {
		t.Errorf("%v, %v", err, sizes)
	}
}

// TestMacNoWay: without a way outside nothing is sent, for the routes may lead into the
// tunnel.
func TestMacNoWay(t *testing.T) {
	f := newFakeMac()
	f.routes = nil
	n, _ := f.network(t, t.TempDir())
	conn, err := n.ListenPacket(t.Context(), addrs("203.0.113.5")[0], 0)
	run(t, "listen", err)
	defer conn.Close()
	if _, err := conn.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("sent: %v", err)
	}
	if _, err := n.Dialer().DialContext(t.Context(), "udp4", "192.0.2.1:53"); !errors.Is(err, errNoWay) {
		t.Errorf("dialled: %v", err)
	}
	if _, err := n.ListenESP(t.Context(), addrs("203.0.113.5")[0]); !errors.Is(err, ErrUnsupported) {
		t.Errorf("ESP: %v", err)
	}
}

// TestMacDialer: the dialer's sockets are bound, and pass the block.
func TestMacDialer(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{macFull}, BlockOutside: true}))
	conn, err := n.Dialer().DialContext(t.Context(), "udp4", "127.0.0.1:9")
	run(t, "loopback", err)
	conn.Close()
	if got := f.boundOf(); got != "[]" {
		t.Errorf("loopback is bound to %s", got)
	}
	// A UDP socket is connected without a packet. Here is no route to that network, or
	// there is: what counts is what was done before.
	if conn, err := n.Dialer().DialContext(t.Context(), "udp4", "192.168.1.1:53"); err == nil {
		conn.Close()
	}
	want := "pass out quick inet proto udp from any to 192.168.1.1 port = 53 user = 0 no state"
	if got := f.boundOf(); got != "[false 4]" || !slices.Contains(f.rules, want) {
		t.Errorf("bound to %s, rules %q", got, f.rules)
	}
	f.refuse = "-f -"
	if _, err := n.Dialer().DialContext(t.Context(), "udp4", "192.168.1.2:53"); err == nil {
		t.Error("a socket whose packets are held back was accepted")
	}
}
