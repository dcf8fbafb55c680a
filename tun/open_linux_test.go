package tun

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enterNamespace moves the test to a network namespace of its own. Each test has its
// own goroutine; its thread stays locked, so both end with the test.
func enterNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to create a network namespace")
	}
	if _, err := os.Stat(clonePath); err != nil {
		t.Skipf("needs %s: %v", clonePath, err)
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("cannot create a network namespace: %v", err)
	}
}

// device opens wf0 in a namespace of its own. It is closed with the test, or after a while:
// what is lost would be waited for.
func device(t *testing.T) Device {
	t.Helper()
	return modes[0].device(t)
}

func (m mode) device(t *testing.T) Device {
	t.Helper()
	enterNamespace(t)
	dev := m.open(t)
	timer := time.AfterFunc(roundTripTime, func() { dev.Close() })
	t.Cleanup(func() {
		timer.Stop()
		dev.Close()
	})
	return dev
}

// up gives an interface an address and a route.
func up(t *testing.T, name, addr, route string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	parsed, _ := netlink.ParseAddr(addr)
	_, dst, _ := net.ParseCIDR(route)
	for _, err := range []error{
		netlink.AddrAdd(link, parsed),
		netlink.LinkSetUp(link),
		netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen(t *testing.T) {
	enterNamespace(t)
	if first, err := Open("wf0", 1300); err != nil || first.Close() != nil { // what a process opens only once
		t.Fatal(err)
	}
	before := descriptors(t)
	dev, err := Open("wf%d", 1300)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if name, err := dev.Name(); name != "wf0" || err != nil {
		t.Fatalf("name %q, %v", name, err)
	}
	if mtu, err := dev.MTU(); mtu != 1300 || err != nil {
		t.Errorf("MTU %d, %v", mtu, err)
	}
	if _, err := Open("wf0", 1300); err == nil || !strings.Contains(err.Error(), "another program uses it") {
		t.Errorf("opened twice: %v", err)
	}

	read := make(chan error, 1)
	go func() {
		for {
			if err := dev.Read(func([]byte) {}); err != nil {
				read <- err
				return
			}
		}
	}()
	link, err := netlink.LinkByName("wf0")
	if err != nil {
		t.Fatal(err)
	}
	up(t, "wf0", "10.0.0.1/32", "10.0.0.2/32")
	if list, err := netlink.QdiscList(link); err != nil || len(list) != 1 || list[0].Type() != "noqueue" {
		t.Errorf("queueing disciplines %v, %v", list, err)
	}
	second := make(chan error)
	go func() { second <- dev.Close() }()
	if err := errors.Join(dev.Close(), <-second, dev.Close()); err != nil {
		t.Error(err)
	}
	if n := descriptors(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("read ends with %v", err)
	}
	if _, err := netlink.LinkByName("wf0"); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("after Close: %v", err)
	}
}

// descriptors is how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// An interface that somebody else removes is told apart from one that was closed.
func TestRemoved(t *testing.T) {
	enterNamespace(t)
	dev, err := Open("wf0", 1300)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	up(t, "wf0", "10.0.0.1/32", "10.0.0.2/32")
	link, err := netlink.LinkByName("wf0")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		var err error
		for err == nil { // the kernel's own packets come first
			err = dev.Read(func([]byte) {})
		}
		read <- err
	}()
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, ErrRemoved) {
		t.Errorf("read ends with %v", err)
	}
}

// TestOpenTraffic is the host's TCP and UDP over the interface, with segmentation
// offloads, against the stack: both devices prove each other.
func TestOpenTraffic(t *testing.T) {
	enterNamespace(t)
	dev, err := Open("wf0", 1300)
	if err != nil {
		t.Fatal(err)
	}
	up(t, "wf0", "10.0.0.1/32", "10.0.0.2/32")
	far := newStack(t, StackConfig{Addresses: []netip.Addr{far4}})
	connect(t, dev, far)
	go echo(listen(t, far, far4, 7))
	conn, err := net.Dial("tcp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	roundTrip(t, conn, 8<<20)

	server := listenUDP(t, far, far4, 7)
	udp, err := net.Dial("udp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	udp.Write([]byte("ping"))
	buf := make([]byte, 64)
	n, from, err := server.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "ping" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	server.WriteTo([]byte("pong"), from)
	if n, err := udp.Read(buf); err != nil || string(buf[:n]) != "pong" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// TestOpenDown: an interface that is down refuses packets, and recovers.
func TestOpenDown(t *testing.T) {
	enterNamespace(t)
	dev, err := Open("wf0", 1300)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	packet := tcpPacket(t, false, 2, "", 0)
	if err := dev.Write([][]byte{packet, packet}); !errors.Is(err, unix.EIO) {
		t.Errorf("down: %v", err)
	}
	up(t, "wf0", "10.0.0.1/32", "10.0.0.2/32")
	if err := dev.Write([][]byte{packet}); err != nil {
		t.Errorf("up: %v", err)
	}
}

func TestOpenFails(t *testing.T) {
	enterNamespace(t)
	openFiles := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := openFiles()
	for _, tt := range []struct {
		name string
		mtu  int
		want string
	}{
		{"wf0", 575, "MTU 575"},
		{"wf0", 65536, "MTU 65536"},
		{"a-name-longer-than-15", 1300, "not a name"},
		{"lo", 1300, `interface "lo"`},
		{"a/b", 1300, `interface "a/b"`},
	} {
		if _, err := Open(tt.name, tt.mtu); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, MTU %d: %v; want %q", tt.name, tt.mtu, err, tt.want)
		}
	}
	if _, err := attach("/nowhere/tun", "wf0", 1300); !errors.Is(err, ErrNoDevice) || !strings.Contains(err.Error(), "modprobe tun") {
		t.Errorf("without a device: %v", err)
	}
	// The capabilities are this thread's only.
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(header, &none[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("wf0", 1300); !errors.Is(err, ErrNoRights) {
		t.Errorf("without rights: %v", err)
	}
	if after := openFiles(); after != before {
		t.Errorf("%d open files, then %d", before, after)
	}
}

// Available foretells what Open answers, and makes nothing.
func TestAvailable(t *testing.T) {
	enterNamespace(t)
	if err := Available(); err != nil {
		t.Errorf("as root: %v", err)
	}
	if links, err := netlink.LinkList(); err != nil || len(links) != 1 {
		t.Errorf("interfaces beside lo: %v, %v", links, err)
	}
	if err := available(t.TempDir()+"/tun", unix.CAP_NET_ADMIN); !errors.Is(err, ErrNoDevice) {
		t.Errorf("without the device: %v", err)
	}
	// This thread ends with the test, and so does what it gives up here.
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	if err := Available(); !errors.Is(err, ErrNoRights) {
		t.Errorf("without CAP_NET_ADMIN: %v", err)
	}
	if _, err := Open("wf%d", 1300); !errors.Is(err, ErrNoRights) {
		t.Errorf("Open without CAP_NET_ADMIN: %v", err)
	}
}
