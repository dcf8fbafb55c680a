package tun

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// mode is a way in which packets pass between the host and an interface.
type mode struct {
	name string
	of   func(*testing.T, *native) Device
}

// modes are the fast path, the same without what older kernels do not have, and the
// library's own way.
var modes = []mode{
	{"fast", func(_ *testing.T, n *native) Device { return n }},
	{"no UDP", func(t *testing.T, n *native) Device {
		offloads(t, n, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
		n.coalesce.udp = false
		return n
	}},
	{"UDP together is refused", func(_ *testing.T, n *native) Device {
		n.coalesce.write = func(parts [][]byte) error {
			if parts[0][1] == offloadUDP {
				return unix.EINVAL
			}
			return n.write(parts)
		}
		return n
	}},
	{"checksums only", func(t *testing.T, n *native) Device {
		offloads(t, n, unix.TUN_F_CSUM)
		n.coalesce.udp = false
		return n
	}},
	{"no offload", func(t *testing.T, n *native) Device {
		offloads(t, n, 0)
		n.coalesce.udp = false
		return n
	}},
	{"library", nil},
}

// inModes runs a test with an interface of each mode.
func inModes(t *testing.T, test func(*testing.T, Device)) {
	t.Helper()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) { test(t, mode.device(t)) })
	}
}

// withQueues is inModes without the library's own way, which has one queue.
func withQueues(t *testing.T, test func(*testing.T, *native)) {
	t.Helper()
	for _, mode := range modes {
		if mode.of != nil {
			t.Run(mode.name, func(t *testing.T) { test(t, mode.device(t).(*native)) })
		}
	}
}

// open makes wf0.
func (m mode) open(t *testing.T) Device {
	t.Helper()
	if m.of == nil {
		return openLibrary(t, "wf0")
	}
	dev, err := Open("wf0", 1300)
	if err != nil {
		t.Fatal(err)
	}
	return m.of(t, dev.(*native))
}

// openLibrary opens an interface that moves packets by the library's way alone, as on other
// systems.
func openLibrary(t *testing.T, name string) Device {
	t.Helper()
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := errors.Join(unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr), setMTU(name, 1300)); err != nil {
		t.Fatal(err)
	}
	dev, _, err := wgtun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	return FromLibrary(dev)
}

// offloads says what the host leaves to the interface.
func offloads(t *testing.T, n *native, what int) {
	t.Helper()
	var refused error
	err := n.conn.Control(func(fd uintptr) { refused = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, what) })
	if err = errors.Join(err, refused); err != nil {
		t.Fatal(err)
	}
}

// TestModes: what the host sends arrives and comes back, as large packets, in tiny
// segments, in runs of datagrams and in fragments, over IPv4 and IPv6.
func TestModes(t *testing.T) {
	inModes(t, func(t *testing.T, dev Device) {
		far := newStack(t, StackConfig{Addresses: []netip.Addr{far4, far6}})
		connect(t, dev, far)
		up6(t, "wf0")
		up(t, "wf0", near4.String()+"/32", far4.String()+"/32")
		for _, addr := range []netip.Addr{far4, far6} {
			go echo(listen(t, far, addr, 7))
			for mss, size := range map[int]int{0: 1 << 20, 100: 1 << 16} {
				conn := dialTCP(t, addr, mss)
				roundTrip(t, conn, size)
				conn.Close()
			}
			go echoDatagrams(listenUDP(t, far, addr, 7))
			udp, err := net.Dial("udp", netip.AddrPortFrom(addr, 7).String())
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			udp.SetDeadline(time.Now().Add(roundTripTime))
			runTrip(t, udp.(*net.UDPConn), 200, 20)
			runTrip(t, udp.(*net.UDPConn), 1000, 60)
			runTrip(t, udp.(*net.UDPConn), 8000, 1) // in fragments
		}
	})
}

// up6 gives an interface IPv6, where addresses are tried out first. It returns when the
// host takes what comes to the address: when there is a route.
func up6(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	routes, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	defer close(done)
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		t.Fatal(err)
	}
	addr, _ := netlink.ParseAddr(near6.String() + "/64")
	addr.Flags = unix.IFA_F_NODAD
	if err := errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	late := time.After(roundTripTime)
	for {
		select {
		case r := <-routes:
			if r.Table == unix.RT_TABLE_LOCAL && r.Dst != nil && r.Dst.IP.Equal(addr.IP) {
				return
			}
		case <-late:
			t.Fatal("there is no route to the interface's address")
		}
	}
}

// dialTCP connects to the echo, with segments of at most mss bytes; 0: as large as may be.
func dialTCP(t *testing.T, addr netip.Addr, mss int) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: roundTripTime, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if mss > 0 {
			_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, mss) })
		}
		return err
	}}
	conn, err := d.Dial("tcp", netip.AddrPortFrom(addr, 7).String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func echoDatagrams(c net.PacketConn) {
	buf := make([]byte, MaxMTU)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}

// runTrip has the host send a run of datagrams (UDP_SEGMENT), and wants each back.
func runTrip(t *testing.T, c *net.UDPConn, size, count int) {
	t.Helper()
	run := random(size * count)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	segment := 0
	if count > 1 {
		segment = size
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, segment) })
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(run); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, MaxMTU)
	for i := range count {
		n, err := c.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], run[i*size:][:size]) {
			t.Fatal(fmt.Errorf("datagram %d of %d by %d bytes: %d bytes, %w", i, count, size, n, err))
		}
	}
}
