package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/platform"
)

// inNamespace says that the process is one that alone has a network namespace.
const inNamespace = "WAYFARER_TEST_IN_NAMESPACE"

// alone runs the calling test once more, in a process with an empty network namespace of
// its own: all threads of a daemon have to be in it. It returns true in that process.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to create a network namespace")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// On the real kernel: whoever removes the interface of a connection with block_outside
// meets the block, and soon a new interface with the same addresses and routes.
func TestRemovedInterfaceOfTheKernel(t *testing.T) {
	if !alone(t) {
		return
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("needs a TUN device: %v", err)
	}
	attach(t)
	outside := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.9:9"))
	leak := func() error { // the firewall refuses at once what it rejects
		conn, err := net.DialUDP("udp", nil, outside)
		must(t, err)
		defer conn.Close()
		_, err = conn.Write([]byte("leak"))
		return err
	}
	must(t, leak())
	network, err := platform.New(slog.New(slog.DiscardHandler), t.TempDir())
	must(t, err)
	again := make(chan struct{})
	dials := 0
	d := New(Options{Network: network, Dial: func(context.Context, *ike.Config) (Session, error) {
		if dials++; dials > 1 {
			<-again
		}
		s := newSession()
		s.assignment.DNS = nil // names are the whole computer's
		return s, nil
	}})
	defer func() { must(t, network.Close()) }()
	defer func() { must(t, d.Close(context.Background())) }()
	d.look = func(context.Context) *portal { return nil }

	req := request()
	req.Profile.BlockOutside = true
	_, failure := d.Connect(t.Context(), "ada", req)
	if failure != nil {
		t.Fatal(failure)
	}
	until := func(state app.State) app.Connection {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if c := d.Connections()[0]; c.State == state {
				return c
			} else if c.State == app.StateFailed || time.Now().After(end) {
				t.Fatalf("%s (%v), want %s", c.State, c.Failure, state)
			}
		}
	}
	name := until(app.StateConnected).TUN.Name
	before := wayTo(t, net.IPv4(10, 10, 0, 1))
	if before != name+" from 10.99.0.1" {
		t.Fatalf("the office is reached by %s", before)
	}
	first, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkDel(first))
	until(app.StateBlocked)
	if leak() == nil {
		t.Error("without the interface, packets leave the computer")
	}
	close(again)
	until(app.StateConnected)
	second, err := netlink.LinkByName(name)
	must(t, err)
	if second.Attrs().Index == first.Attrs().Index {
		t.Errorf("%s has index %d as before", name, second.Attrs().Index)
	}
	if after := wayTo(t, net.IPv4(10, 10, 0, 1)); after != before {
		t.Errorf("the office is reached by %s, before by %s", after, before)
	}
	if leak() == nil {
		t.Error("with the new interface, packets leave the computer")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// attach gives the namespace a network.
func attach(t *testing.T) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}))
	for name, addr := range map[string]string{"lo": "127.0.0.1/8", "peer": "192.0.2.1/24", "eth0": "192.0.2.2/24"} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetUp(link))
		parsed, err := netlink.ParseAddr(addr)
		must(t, err)
		must(t, netlink.AddrReplace(link, parsed))
	}
}

// wayTo says by which interface packets leave, and from which address.
func wayTo(t *testing.T, to net.IP) string {
	t.Helper()
	routes, err := netlink.RouteGet(to)
	if err != nil {
		return err.Error()
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	must(t, err)
	return link.Attrs().Name + " from " + routes[0].Src.String()
}
