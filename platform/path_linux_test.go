package platform

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wire is the far end of eth0: what the host sends can be seen there, and anything can
// be sent to it.
type wire struct {
	t  *testing.T
	fd int
	to *unix.SockaddrLinklayer
}

func openWire(t *testing.T) *wire {
	t.Helper()
	peer, eth0 := linkByName(t, "peer"), linkByName(t, "eth0")
	for _, gateway := range []string{"192.0.2.1", "2001:db8::1"} {
		run(t, "neighbour", netlink.NeighSet(&netlink.Neigh{
			LinkIndex: eth0.Attrs().Index, IP: net.ParseIP(gateway),
			HardwareAddr: peer.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT,
		}))
	}
	all := int(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
	run(t, "packet socket", err)
	t.Cleanup(func() { unix.Close(fd) })
	run(t, "bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: peer.Attrs().Index}))
	run(t, "timeout", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	to := &unix.SockaddrLinklayer{Ifindex: peer.Attrs().Index, Halen: 6}
	copy(to.Addr[:], eth0.Attrs().HardwareAddr)
	return &wire{t: t, fd: fd, to: to}
}

// next is the next UDP packet, or fragment of one, that the host has sent to addr.
func (w *wire) next(addr netip.Addr) []byte {
	w.t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(w.fd, buf, 0)
		run(w.t, "packet", err)
		p := buf[:n]
		switch {
		case n >= 20 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_UDP && slices.Equal(p[16:20], addr.AsSlice()):
			return p
		case n >= 40 && p[0]>>4 == 6 && (p[6] == unix.IPPROTO_UDP || p[6] == unix.IPPROTO_FRAGMENT) && slices.Equal(p[24:40], addr.AsSlice()):
			return p
		}
	}
}

// tooBig sends what a router says of a packet that it could not pass on, for its size or, if
// mtu is 0, for that it knows no host there.
func (w *wire) tooBig(packet []byte, mtu int) {
	w.t.Helper()
	kind4, kind6 := []byte{3, 4}, []byte{2, 0}
	if mtu == 0 {
		kind4, kind6 = []byte{3, 1}, []byte{1, 3}
	}
	quote := packet[:min(len(packet), 200)]
	var p []byte
	if packet[0]>>4 == 4 {
		icmp := slices.Concat(kind4, []byte{0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quote)
		binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
		p = []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)+len(icmp)))
		binary.BigEndian.PutUint16(p[10:], checksum(p))
		p, w.to.Protocol = append(p, icmp...), unix.ETH_P_IP<<8&0xffff|unix.ETH_P_IP>>8
	} else {
		icmp := slices.Concat(kind6, []byte{0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quote)
		from, to := netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice()
		pseudo := slices.Concat(from, to, []byte{0, 0, 0, byte(len(icmp)), 0, 0, 0, 58}, icmp)
		binary.BigEndian.PutUint16(icmp[2:], checksum(pseudo))
		p = slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(icmp)), 58, 64}, from, to, icmp)
		w.to.Protocol = 0xdd86
	}
	run(w.t, "too big", unix.Sendto(w.fd, p, 0, w.to))
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		sum += uint32(v) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pathConn is what the protocol engine needs of a socket.
type pathConn interface {
	net.PacketConn
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	SetDontFragment(bool) error
	OnTooBig(func(netip.Addr, int))
}

type report struct {
	to  netip.Addr
	mtu int
}

// listenOn opens a socket that is read all the time, and tells what OnTooBig tells.
func listenOn(t *testing.T, n *Network, gateway netip.Addr) (pathConn, <-chan report) {
	t.Helper()
	c, err := n.ListenPacket(t.Context(), gateway, 0)
	run(t, "ListenPacket", err)
	conn, told := c.(pathConn), make(chan report, 1000)
	conn.OnTooBig(func(to netip.Addr, mtu int) { told <- report{to, mtu} })
	ended := make(chan error)
	go func() {
		_, _, err := conn.ReadFromUDPAddrPort(make([]byte, 10))
		ended <- err
	}()
	t.Cleanup(func() {
		conn.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: reading ended: %v", gateway, err)
		}
	})
	return conn, told
}

func wantReport(t *testing.T, told <-chan report, want report) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Errorf("told %v, want %v", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("nothing is told, want %v", want)
	}
}

var pathGateways = []string{"203.0.113.1", "2001:db8:5::1"}

// TestDontFragment: while it is forbidden, nothing is fragmented, whatever a router has
// said; what the link does not take fails. Otherwise everything goes.
func TestDontFragment(t *testing.T) {
	enterNamespace(t)
	n, _ := testNetwork(t)
	w := openWire(t)
	for _, gateway := range addrs(pathGateways...) {
		conn, told := listenOn(t, n, gateway)
		to := netip.AddrPortFrom(gateway, 4500)
		send := func(size int) error {
			_, err := conn.WriteToUDPAddrPort(make([]byte, size), to)
			return err
		}
		// whole reports whether a packet on the wire may not be fragmented and is none.
		whole := func(p []byte) bool {
			if gateway.Is6() {
				return p[6] == unix.IPPROTO_UDP
			}
			return p[6] == 0x40 && p[7] == 0
		}
		for _, size := range []int{100, 1440} {
			run(t, "forbid", conn.SetDontFragment(true))
			run(t, "send", send(size))
			p := w.next(gateway)
			if !whole(p) {
				t.Errorf("%v: %d bytes may be fragmented: %x", gateway, size, p[:8])
			}
			w.tooBig(p, 1300) // which the kernel believes, and we do not
			wantReport(t, told, report{gateway, 1300})
		}
		run(t, "send", send(1440))
		if p := w.next(gateway); !whole(p) || len(p) < 1460 {
			t.Errorf("%v: after a router's word %d bytes: %x", gateway, len(p), p[:8])
		}
		if err := send(1500); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%v: more than the link takes: %v", gateway, err)
		}
		wantReport(t, told, report{gateway, 1500}) // the link's
		run(t, "allow", conn.SetDontFragment(false))
		run(t, "send", send(3000))
		for left := 3008; left > 0; {
			p := w.next(gateway)
			header := 20
			if gateway.Is6() {
				header = 48
			}
			if whole(p) || len(p) == header {
				t.Fatalf("%v: %x", gateway, p[:8])
			}
			left -= len(p) - header
		}
	}
}

// TestReportsBreakNothing: what routers say is no error of the calls that come next,
// however much it is.
func TestReportsBreakNothing(t *testing.T) {
	enterNamespace(t)
	n, _ := testNetwork(t)
	w := openWire(t)
	for _, gateway := range addrs(pathGateways...) {
		conn, told := listenOn(t, n, gateway)
		run(t, "forbid", conn.SetDontFragment(true))
		to := netip.AddrPortFrom(gateway, 4500)
		for i := range 80 {
			if _, err := conn.WriteToUDPAddrPort(make([]byte, 1000), to); err != nil {
				t.Fatalf("%v: write %d: %v", gateway, i, err)
			}
			w.tooBig(w.next(gateway), 1280)
			if _, err := conn.WriteTo(make([]byte, 900), net.UDPAddrFromAddrPort(to)); err != nil {
				t.Fatalf("%v: write %d: %v", gateway, i, err)
			}
			w.tooBig(w.next(gateway), 1280)
		}
		wantReport(t, told, report{gateway, 1280})
	}
}

// onWire runs a test for each of pathGateways, with a socket whose datagrams to it may not
// be fragmented, and that takes reports.
func onWire(t *testing.T, test func(w *wire, s *udpSocket, to netip.AddrPort)) {
	t.Helper()
	enterNamespace(t)
	n, _ := testNetwork(t)
	w := openWire(t)
	for _, gateway := range addrs(pathGateways...) {
		c, err := n.ListenPacket(t.Context(), gateway, 0)
		run(t, "ListenPacket", err)
		defer c.Close()
		s := c.(*udpSocket)
		s.OnTooBig(func(netip.Addr, int) {})
		run(t, "forbid", s.SetDontFragment(true))
		test(w, s, netip.AddrPortFrom(gateway, 4500))
	}
}

// TestReportsOfARun: a router answers each datagram of a run, as when the path has become
// narrower or ends there. All that costs nothing that is sent next, by whatever call, nor do
// reports that come while it is tried.
func TestReportsOfARun(t *testing.T) {
	onWire(t, func(w *wire, s *udpSocket, to netip.AddrPort) {
		b := make([]byte, 100)
		batch := func(segment int, runs ...[]byte) error {
			_, err := s.WriteBatch(runs, slices.Repeat([]int{segment}, len(runs)), to)
			return err
		}
		run(t, "send", batch(100, b))
		p := w.next(to.Addr())
		for _, mtu := range []int{1280, 0} {
			meanwhile, real := 0, s.out.system
			say := func(reports int) {
				for range reports {
					w.tooBig(p, mtu)
				}
				awaitReport(t, s.raw)
			}
			s.out.system = func(trap, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, uintptr, syscall.Errno) {
				if meanwhile > 0 {
					meanwhile--
					say(1)
				}
				return real(trap, a1, a2, a3, a4, a5, a6)
			}
			for _, c := range []struct {
				name string
				call func() error
				most int // so many reports can come meanwhile
			}{
				{"a datagram", func() error { _, err := s.WriteToUDPAddrPort(b, to); return err }, 0},
				{"to a net.Addr", func() error { _, err := s.WriteTo(b, net.UDPAddrFromAddrPort(to)); return err }, 0},
				{"singles", func() error { return batch(100, b, b) }, maxTries},
				{"a run", func() error { return batch(50, b) }, maxTries},
				{"one by one", func() error {
					s.apart = true
					defer func() { s.apart = false }()
					return batch(50, b)
				}, maxTries},
			} {
				for _, reports := range []struct{ before, meanwhile int }{{46, 0}, {46, 3}, {3000, 0}} { // more than fit
					say(reports.before)
					meanwhile = min(reports.meanwhile, c.most)
					if err := c.call(); err != nil || meanwhile > 0 {
						t.Errorf("%v, MTU %d: %s: %v, %d more reports were to come", to.Addr(), mtu, c.name, err, meanwhile)
					}
				}
				if meanwhile = 4 * c.most; meanwhile > 0 && c.call() == nil {
					t.Errorf("%v, MTU %d: %s has no end", to.Addr(), mtu, c.name)
				}
				meanwhile = 0
				if err := c.call(); err != nil {
					t.Errorf("%v, MTU %d: %s at last: %v", to.Addr(), mtu, c.name, err)
				}
			}
			s.out.system = real
		}
	})
}

// awaitReport waits until a report of a router is there.
func awaitReport(t *testing.T, raw syscall.RawConn) {
	t.Helper()
	run(t, "control", raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(poll, 5000)
		if n != 1 || err != nil {
			t.Errorf("no report: %d, %v", n, err)
		}
	}))
}
