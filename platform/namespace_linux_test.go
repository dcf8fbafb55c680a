package platform

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enterNamespace moves the test to a network namespace of its own with an interface
// eth0 that is connected to nothing. Each test has its own goroutine; its thread
// stays locked, so both end with the test.
func enterNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to create a network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("cannot create a network namespace: %v", err)
	}
	// No link-local addresses of random content.
	run(t, "addr_gen_mode", os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0))
	run(t, "link", netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}))
	for _, name := range []string{"lo", "peer", "eth0"} {
		run(t, name, netlink.LinkSetUp(linkByName(t, name)))
	}
	for _, addr := range []string{"192.0.2.2/24", "2001:db8::2/64"} {
		parsed, err := netlink.ParseAddr(addr)
		run(t, addr, err)
		parsed.Flags = unix.IFA_F_NODAD
		run(t, addr, netlink.AddrAdd(linkByName(t, "eth0"), parsed))
	}
	for _, gateway := range []string{"192.0.2.1", "2001:db8::1"} {
		run(t, gateway, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway), LinkIndex: linkByName(t, "eth0").Attrs().Index}))
	}
	settle(t)
}

// settle waits until the kernel has noticed that interfaces are up, which it does on
// its own time: IPv6 has its routes then.
func settle(t *testing.T) {
	t.Helper()
	for t.Context().Err() == nil {
		state := hostState(t)
		ready := true
		for line := range strings.Lines(state) {
			var addr, name string
			var mtu int
			if _, err := fmt.Sscanf(line, "link %s mtu %d up true", &name, &mtu); err == nil && name != "lo" {
				ready = ready && strings.Contains(state, "route6 table 255: ff00::/8 dev "+name)
			}
			if _, err := fmt.Sscanf(line, "address %s on %s", &addr, &name); err == nil && name != "lo" {
				if a := netip.MustParsePrefix(addr).Addr(); a.Is6() {
					ready = ready && strings.Contains(state, fmt.Sprintf("route6 table 255: %v/128", a))
				}
			}
		}
		if ready {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func linkByName(t *testing.T, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	run(t, name, err)
	return link
}

// addTUN makes a TUN interface that stays until the test ends.
func addTUN(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("needs /dev/net/tun: %v", err)
	}
	file := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { file.Close() })
	ifr, err := unix.NewIfreq(name)
	run(t, name, err)
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	run(t, name, unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr))
	return file
}

// testNetwork is a Network on the test's namespace and an otherwise empty file
// system, in which no bus answers. Kernel settings are the namespace's.
func testNetwork(t *testing.T) (*Network, *linuxHost) {
	t.Helper()
	root := t.TempDir()
	run(t, "etc", os.Mkdir(filepath.Join(root, "etc"), 0o755))
	run(t, "proc", os.Symlink("/proc", filepath.Join(root, "proc")))
	n, h, err := networkBelow(root)
	run(t, "open", err)
	t.Cleanup(func() { n.Close() })
	return n, h
}

// firewallHere reads the firewall of the caller's namespace, whichever thread calls it.
func firewallHere(t *testing.T) func() (firewallState, error) {
	t.Helper()
	here, err := os.Open("/proc/thread-self/ns/net")
	run(t, "namespace", err)
	t.Cleanup(func() { here.Close() })
	return func() (state firewallState, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and the thread ends with the goroutine
			if err = unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err == nil {
				state, err = readFirewall()
			}
		}()
		<-done
		return state, err
	}
}

// networkBelow is a Network on the files below root.
func networkBelow(root string) (*Network, *linuxHost, error) {
	log := slog.New(slog.DiscardHandler)
	opened, boot, err := newHost(log, "/state")
	if err != nil {
		return nil, nil, err
	}
	h := opened.(*linuxHost)
	h.root, h.bus = root, &fakeBus{silent: true}
	journal, err := openJournal(log, filepath.Join(root, h.stateDir), boot)
	return &Network{log: log, host: h, journal: journal}, h, err
}

// hostState is everything of the namespace that a Network may touch, as text.
func hostState(t *testing.T) string {
	t.Helper()
	var lines []string
	links, err := netlink.LinkList()
	run(t, "links", err)
	names := map[int]string{}
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		lines = append(lines, fmt.Sprintf("link %s mtu %d up %v", a.Name, a.MTU, a.Flags&net.FlagUp != 0))
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		run(t, "addresses", err)
		for _, addr := range addrs {
			lines = append(lines, fmt.Sprintf("address %v on %s", addr.IPNet, a.Name))
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		run(t, "rules", err)
		for _, r := range rules {
			lines = append(lines, strings.TrimRight(fmt.Sprintf("rule%s %d: %s%s lookup %d%s%s", familyName[family], r.Priority,
				option("not ", r.Invert), option(fmt.Sprintf("fwmark %#x", r.Mark), r.Mark != 0), r.Table,
				option(" suppress_prefixlength 0", r.SuppressPrefixlen == 0), option(" proto 119", r.Protocol == routeProtocol)), " "))
		}
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		run(t, "routes", err)
		for _, r := range routes {
			dst := "default"
			if r.Dst != nil {
				dst = r.Dst.String()
			}
			lines = append(lines, fmt.Sprintf("route%s table %d: %s%s%s%s%s%s", familyName[family], r.Table,
				option("throw ", r.Type == unix.RTN_THROW), dst, option(" dev "+names[r.LinkIndex], r.Type != unix.RTN_THROW),
				option(fmt.Sprintf(" via %v", r.Gw), r.Gw != nil), option(fmt.Sprintf(" src %v", r.Src), r.Src != nil),
				option(" proto 119", r.Protocol == routeProtocol)))
		}
	}
	conn, err := nftables.New()
	run(t, "nftables", err)
	tables, err := conn.ListTables()
	run(t, "nftables", err)
	for _, table := range tables {
		lines = append(lines, fmt.Sprintf("nftables %d %s", table.Family, table.Name))
	}
	firewall, err := readFirewall()
	run(t, "firewall", err)
	for _, r := range firewall.rules {
		lines = append(lines, "firewall "+r)
	}
	for _, name := range []string{"all", "default", "eth0"} {
		value, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name + "/rp_filter")
		run(t, "rp_filter", err)
		lines = append(lines, fmt.Sprintf("rp_filter %s = %s", name, strings.TrimSpace(string(value))))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

var familyName = map[int]string{netlink.FAMILY_V4: "4", netlink.FAMILY_V6: "6"}

func option(text string, present bool) string {
	if present {
		return text
	}
	return ""
}

// way says which interface a packet to dst leaves by, and with which source address.
func way(t *testing.T, dst string, mark uint32) string {
	t.Helper()
	routes, err := netlink.RouteGetWithOptions(net.ParseIP(dst), &netlink.RouteGetOptions{Mark: mark})
	if err != nil {
		return err.Error()
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	run(t, "link", err)
	return fmt.Sprintf("%s from %v", link.Attrs().Name, routes[0].Src)
}
