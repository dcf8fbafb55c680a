package platform

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestListenPacket: sockets carry the mark, hold a lot, and the last gateways are remembered.
func TestListenPacket(t *testing.T) {
	enterNamespace(t)
	n, h := testNetwork(t)
	for _, gateway := range addrs("203.0.113.1", "2001:db8::1", "::ffff:203.0.113.1") {
		conn, err := n.ListenPacket(t.Context(), gateway, 0)
		run(t, gateway.String(), err)
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		run(t, "raw", err)
		var mark, domain, buffer int
		var err1, err2, err3 error
		run(t, "control", raw.Control(func(fd uintptr) {
			mark, err1 = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK)
			domain, err2 = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
			buffer, err3 = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		}))
		run(t, "getsockopt", errors.Join(err1, err2, err3))
		if buffer != 2*receiveBuffer {
			t.Errorf("%v: %d bytes of buffer", gateway, buffer)
		}
		want := syscall.AF_INET
		if gateway.Is6() && !gateway.Is4In6() {
			want = syscall.AF_INET6
		}
		if mark != bypassMark || domain != want {
			t.Errorf("%v: mark %#x, family %d", gateway, mark, domain)
		}
		if port := conn.LocalAddr().(*net.UDPAddr).Port; port == 0 {
			t.Error("no port")
		}
	}
	if len(h.gateways) != 2 {
		t.Errorf("gateways %v", h.gateways)
	}
	for i := range 50 {
		conn, err := n.ListenPacket(t.Context(), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 0)
		run(t, "ListenPacket", err)
		conn.Close()
	}
	if len(h.gateways) != maxGateways || h.gateways[maxGateways-1] != netip.MustParseAddr("10.0.0.49") {
		t.Errorf("gateways %v", h.gateways)
	}
}

// TestListenPort: a port of the caller's choice, for both address families at once. It
// is free again as soon as it is closed, and only then.
func TestListenPort(t *testing.T) {
	enterNamespace(t)
	n, _ := testNetwork(t)
	for _, port := range []uint16{500, 4500, 12345} {
		for _, gateway := range addrs("203.0.113.1", "2001:db8::1") {
			for range 3 {
				conn, err := n.ListenPacket(t.Context(), gateway, port)
				run(t, gateway.String(), err)
				if got := conn.LocalAddr().(*net.UDPAddr).Port; got != int(port) {
					t.Errorf("port %d, want %d", got, port)
				}
				var e *Error
				if _, err := n.ListenPacket(t.Context(), gateway, port); !errors.Is(err, unix.EADDRINUSE) || !errors.As(err, &e) || e.Part != PartSocket {
					t.Errorf("port %d twice: %v", port, err)
				}
				conn.Close()
			}
		}
	}
}

// TestListenPortNoRights: a port below 1024 needs a right of its own, which is told
// from those that the network needs.
func TestListenPortNoRights(t *testing.T) {
	enterNamespace(t)
	n, _ := testNetwork(t)
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	only := [2]unix.CapUserData{{Effective: 1 << unix.CAP_NET_ADMIN, Permitted: 1 << unix.CAP_NET_ADMIN}} // of this thread
	run(t, "capset", unix.Capset(header, &only[0]))
	_, err := n.ListenPacket(t.Context(), netip.MustParseAddr("203.0.113.1"), 500)
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrNoRights) {
		t.Errorf("port 500: %v", err)
	}
	conn, err := n.ListenPacket(t.Context(), netip.MustParseAddr("203.0.113.1"), 4500)
	run(t, "port 4500", err)
	conn.Close()
}

// TestListenESP: packets of IP protocol 50 go past a full tunnel and its block to the
// gateway, and its answers come in. The control case shows where they would go without
// the mark.
func TestListenESP(t *testing.T) {
	for _, address := range []string{"192.0.2.1", "2001:db8::1"} {
		t.Run(address, func(t *testing.T) {
			gateway := netip.MustParseAddr(address)
			network := "ip4:50"
			if gateway.Is6() {
				network = "ip6:50"
			}
			enterNamespace(t)
			tunnel := addTUN(t, "wayfarer0")
			o := newOutside(t)
			var server net.PacketConn
			o.within(func() {
				var err error
				server, err = net.ListenPacket(network, address)
				run(t, "gateway", err)
			})
			defer server.Close()
			n, _ := testNetwork(t)
			full := fullTunnel
			full.Exclude = nil
			run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{full}, BlockOutside: true}))

			conn, err := n.ListenESP(t.Context(), gateway)
			run(t, "ListenESP", err)
			defer conn.Close()
			out, in := []byte("\x11\x22\x33\x44 out, with the mark"), []byte("\x55\x66\x77\x88 in")
			_, err = conn.WriteTo(out, &net.IPAddr{IP: gateway.AsSlice()})
			run(t, "send", err)
			from := wantPacket(t, server, out)
			if inTunnel(t, tunnel, out) {
				t.Error("the packet went into the tunnel")
			}
			_, err = server.WriteTo(in, from)
			run(t, "answer", err)
			if from := wantPacket(t, conn, in); from.String() != address {
				t.Errorf("the answer comes from %v", from)
			}

			plain, err := net.ListenPacket(network, "")
			run(t, "control", err)
			defer plain.Close()
			unmarked := []byte("\x99\xaa\xbb\xcc without the mark")
			_, err = plain.WriteTo(unmarked, &net.IPAddr{IP: gateway.AsSlice()})
			run(t, "send", err)
			if !inTunnel(t, tunnel, unmarked) {
				t.Error("without the mark, the packet does not go into the tunnel")
			}
			run(t, "restore", n.Set(t.Context(), Config{}))
		})
	}
}

// wantPacket reads a packet and returns its source.
func wantPacket(t *testing.T, conn net.PacketConn, want []byte) net.Addr {
	t.Helper()
	// Long enough for a packet on a loaded machine; its loss shows as an error.
	run(t, "deadline", conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 256)
	n, from, err := conn.ReadFrom(buf)
	run(t, "receive", err)
	if !bytes.Equal(buf[:n], want) {
		t.Errorf("received %q, want %q", buf[:n], want)
	}
	return from
}

// inTunnel reads all packets that wait in a TUN interface, and tells whether one ends
// in payload.
func inTunnel(t *testing.T, tunnel *os.File, payload []byte) (found bool) {
	t.Helper()
	raw, err := tunnel.SyscallConn()
	run(t, "tunnel", err)
	run(t, "tunnel", raw.Control(func(fd uintptr) {
		buf := make([]byte, 2048)
		for {
			n, err := unix.Read(int(fd), buf)
			if err != nil {
				return // there are no more
			}
			found = found || bytes.HasSuffix(buf[:n], payload)
		}
	}))
	return found
}
