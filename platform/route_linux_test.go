package platform

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	splitTunnel = Tunnel{
		Interface: "wayfarer0", MTU: 1300, Addresses: prefixes("10.1.2.3/32"),
		Routes: prefixes("192.168.1.0/24", "10.0.0.0/8"),
	}
	fullTunnel = Tunnel{
		Interface: "wayfarer0", MTU: 1280, Addresses: prefixes("10.1.2.3/32", "fd00::3/128"),
		Routes:  prefixes("0.0.0.0/0", "::/0"),
		Exclude: prefixes("198.51.100.0/24"),
	}
	otherTunnel = Tunnel{
		Interface: "wayfarer1", MTU: 1400, Addresses: prefixes("172.16.0.9/24"),
		Routes: prefixes("172.16.0.0/12", "fd01::/64"),
	}
)

// TestHostState is the host's state for each wish, and that it is as before after.
func TestHostState(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"split tunnel", Config{Tunnels: []Tunnel{splitTunnel}}, `
address 10.1.2.3/32 on wayfarer0
firewall guard: iifname != "wayfarer0" iifname != "lo" ip daddr 10.1.2.3/32 drop
link wayfarer0 mtu 1300 up true
nftables 1 wayfarer
route4 table 119: 10.0.0.0/8 dev wayfarer0 src 10.1.2.3 proto 119
route4 table 119: 192.168.1.0/24 dev wayfarer0 src 10.1.2.3 proto 119
rule4 30560: not fwmark 0x3766 lookup 119 proto 119`},

		{"full tunnel", Config{Tunnels: []Tunnel{fullTunnel}}, `
address 10.1.2.3/32 on wayfarer0
address fd00::3/128 on wayfarer0
firewall guard: iifname != "wayfarer0" iifname != "lo" ip daddr 10.1.2.3/32 drop
firewall guard: iifname != "wayfarer0" iifname != "lo" ip6 daddr fd00::3/128 drop
link wayfarer0 mtu 1280 up true
nftables 1 wayfarer
route4 table 119: 0.0.0.0/0 dev wayfarer0 src 10.1.2.3 proto 119
route4 table 119: throw 198.51.100.0/24 proto 119
route6 table 119: ::/0 dev wayfarer0 src fd00::3 proto 119
rule4 30560: not fwmark 0x3766 lookup 119 proto 119
rule6 30560: not fwmark 0x3766 lookup 119 proto 119`},

		{"two tunnels", Config{Tunnels: []Tunnel{splitTunnel, otherTunnel}}, `
address 10.1.2.3/32 on wayfarer0
address 172.16.0.9/24 on wayfarer1
firewall guard: iifname != "wayfarer0" iifname != "lo" ip daddr 10.1.2.3/32 drop
firewall guard: iifname != "wayfarer1" iifname != "lo" ip daddr 172.16.0.9/32 drop
link wayfarer0 mtu 1300 up true
link wayfarer1 mtu 1400 up true
nftables 1 wayfarer
route4 table 119: 10.0.0.0/8 dev wayfarer0 src 10.1.2.3 proto 119
route4 table 119: 172.16.0.0/12 dev wayfarer1 src 172.16.0.9 proto 119
route4 table 119: 192.168.1.0/24 dev wayfarer0 src 10.1.2.3 proto 119
route6 table 119: fd01::/64 dev wayfarer1 proto 119
rule4 30560: not fwmark 0x3766 lookup 119 proto 119
rule6 30560: not fwmark 0x3766 lookup 119 proto 119`},

		{"addresses only", Config{Tunnels: []Tunnel{{Interface: "wayfarer1", MTU: 1500, Addresses: prefixes("172.16.0.9/24")}}}, `
address 172.16.0.9/24 on wayfarer1
firewall guard: iifname != "wayfarer1" iifname != "lo" ip daddr 172.16.0.9/32 drop
link wayfarer1 mtu 1500 up true
nftables 1 wayfarer`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enterNamespace(t)
			addTUN(t, "wayfarer0")
			addTUN(t, "wayfarer1")
			before := hostState(t)
			n, _ := testNetwork(t)
			run(t, "Set", n.Set(t.Context(), tt.cfg))
			if got := added(before, hostState(t)); got != strings.TrimSpace(tt.want) {
				t.Errorf("the host has\n%s\nand not\n%s", got, tt.want)
			}
			run(t, "restore", n.Set(t.Context(), Config{}))
			if after := hostState(t); after != before {
				t.Errorf("the host was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// TestConverge walks from wish to wish in one namespace; each must give the state
// that it gives on a fresh host.
func TestConverge(t *testing.T) {
	fresh := func(t *testing.T, cfg Config) (state string) {
		t.Run("fresh", func(t *testing.T) {
			enterNamespace(t)
			addTUN(t, "wayfarer0")
			addTUN(t, "wayfarer1")
			n, _ := testNetwork(t)
			before := hostState(t)
			run(t, "Set", n.Set(t.Context(), cfg))
			state = added(before, hostState(t))
		})
		return state
	}
	moved := splitTunnel
	moved.Interface = "wayfarer1"
	renumbered := splitTunnel
	renumbered.Addresses, renumbered.MTU = prefixes("10.1.2.4/32"), 1200
	wishes := []Config{
		{Tunnels: []Tunnel{splitTunnel}},
		{Tunnels: []Tunnel{splitTunnel, otherTunnel}},
		{Tunnels: []Tunnel{otherTunnel}},
		{Tunnels: []Tunnel{otherTunnel, fullTunnel}},
		{Tunnels: []Tunnel{fullTunnel}},
		{Tunnels: []Tunnel{splitTunnel}},
		{Tunnels: []Tunnel{renumbered}},
		{Tunnels: []Tunnel{moved}},
		{Tunnels: []Tunnel{splitTunnel}},
		{},
	}
	var states []string
	for _, cfg := range wishes {
		states = append(states, fresh(t, cfg))
	}
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	addTUN(t, "wayfarer1")
	n, _ := testNetwork(t)
	before := hostState(t)
	for i, cfg := range wishes {
		run(t, "Set", n.Set(t.Context(), cfg))
		if got := added(before, hostState(t)); got != states[i] {
			t.Errorf("wish %d: the host has\n%s\nand not\n%s", i, got, states[i])
		}
	}
	if after := hostState(t); after != before {
		t.Errorf("the host was\n%s\nand is\n%s", before, after)
	}
}

// watch counts the changes of links, addresses, routes and rules from now on. The
// kernel reports a change before it confirms it.
func watch(t *testing.T) (changes func() int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	run(t, "netlink", err)
	t.Cleanup(func() { unix.Close(fd) })
	run(t, "bind", unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	for _, group := range []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	} {
		run(t, "group", unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	}
	return func() int {
		n, buf := 0, make([]byte, 1<<16)
		for {
			if _, _, err := unix.Recvfrom(fd, buf, 0); err != nil {
				return n
			}
			n++
		}
	}
}

func TestSetIsIdempotent(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	addTUN(t, "wayfarer1")
	n, _ := testNetwork(t)
	cfg := Config{Tunnels: []Tunnel{fullTunnel, otherTunnel}}
	changes := watch(t)
	run(t, "Set", n.Set(t.Context(), cfg))
	settle(t)
	if changes() == 0 {
		t.Fatal("the first Set changes nothing")
	}
	run(t, "Set", n.Set(t.Context(), cfg))
	if got := changes(); got != 0 {
		t.Errorf("the second Set makes %d changes", got)
	}
}

// TestSetRepairs: what somebody took away comes back.
func TestSetRepairs(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, _ := testNetwork(t)
	cfg := Config{Tunnels: []Tunnel{splitTunnel}}
	run(t, "Set", n.Set(t.Context(), cfg))
	want := hostState(t)
	link := linkByName(t, "wayfarer0")
	for what, damage := range map[string]func() error{
		"link":    func() error { return netlink.LinkSetDown(link) },
		"MTU":     func() error { return netlink.LinkSetMTU(link, 1499) },
		"address": func() error { return netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(splitTunnel.Addresses[0])}) },
		"route": func() error {
			return netlink.RouteDel(&netlink.Route{Dst: ipNet(splitTunnel.Routes[0]), Table: routeTable})
		},
		"rule": func() error {
			rule := netlink.NewRule()
			rule.Priority = rulePriority
			return netlink.RuleDel(rule)
		},
	} {
		run(t, what, damage())
		if hostState(t) == want {
			t.Fatalf("%s: no damage done", what)
		}
		run(t, what, n.Set(t.Context(), cfg))
		if got := hostState(t); added(got, want) != "" {
			t.Errorf("%s: missing\n%s", what, added(got, want))
		}
	}
}

// TestSetRollsBack: a failure at the very end leaves the wish before.
func TestSetRollsBack(t *testing.T) {
	for _, first := range []Config{{}, {Tunnels: []Tunnel{splitTunnel}}, {Tunnels: []Tunnel{otherTunnel, splitTunnel}}} {
		enterNamespace(t)
		addTUN(t, "wayfarer0")
		addTUN(t, "wayfarer1")
		n, h := testNetwork(t)
		h.bus = &fakeBus{fail: errors.New("no more names")}
		run(t, "stub", os.WriteFile(h.root+"/etc/resolv.conf", []byte("nameserver 127.0.0.53\n"), 0o644))
		run(t, "Set", n.Set(t.Context(), first))
		before := hostState(t)
		second := fullTunnel
		second.DNS = addrs("10.1.1.1")
		err := n.Set(t.Context(), Config{Tunnels: []Tunnel{second, otherTunnel}})
		var e *Error
		if !errors.As(err, &e) || e.Part != PartDNS || !strings.Contains(err.Error(), "no more names") {
			t.Errorf("error %v", err)
		}
		if after := hostState(t); after != before {
			t.Errorf("the host was\n%s\nand is\n%s", before, after)
		}
	}
}

func TestSetFails(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, _ := testNetwork(t)
	before := hostState(t)
	edit := func(f func(*Tunnel)) Config {
		tunnel := splitTunnel
		f(&tunnel)
		return Config{Tunnels: []Tunnel{tunnel}}
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		part Part
	}{
		{"no such interface", edit(func(t *Tunnel) { t.Interface = "wayfarer9" }), PartAddress},
		{"MTU too small", edit(func(t *Tunnel) { t.MTU = 1 }), PartAddress},
		{"address that the kernel refuses", edit(func(t *Tunnel) { t.Addresses = prefixes("10.1.2.3/32", "ff02::1/128") }), PartAddress},
		{"route that the kernel refuses", edit(func(t *Tunnel) { t.Routes = prefixes("10.0.0.0/8", "::ffff:0:0/96") }), PartRoute},
	} {
		err := n.Set(t.Context(), tt.cfg)
		var e *Error
		if !errors.As(err, &e) || e.Part != tt.part {
			t.Errorf("%s: %v", tt.name, err)
		}
		if after := hostState(t); after != before {
			t.Errorf("%s: the host was\n%s\nand is\n%s", tt.name, before, after)
		}
	}
}

// TestInterfaceGone: a tunnel whose interface has gone is undone without complaint.
func TestInterfaceGone(t *testing.T) {
	enterNamespace(t)
	before := hostState(t)
	file := addTUN(t, "wayfarer0")
	n, _ := testNetwork(t)
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{fullTunnel}}))
	run(t, "close", file.Close())
	run(t, "restore", n.Set(t.Context(), Config{}))
	if after := hostState(t); after != before {
		t.Errorf("the host was\n%s\nand is\n%s", before, after)
	}
	// An interface of the same name is another one.
	addTUN(t, "wayfarer0")
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{fullTunnel}}))
	if got := way(t, "203.0.113.1", 0); got != "wayfarer0 from 10.1.2.3" {
		t.Error(got)
	}
}

// TestLeavesOthersAlone: what was there before stays when the tunnel goes.
func TestLeavesOthersAlone(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	link := linkByName(t, "wayfarer0")
	run(t, "up", netlink.LinkSetUp(link))
	run(t, "MTU", netlink.LinkSetMTU(link, 1111))
	run(t, "address", netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(splitTunnel.Addresses[0])}))
	before := hostState(t)
	n, _ := testNetwork(t)
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{splitTunnel}}))
	run(t, "again", n.Set(t.Context(), Config{Tunnels: []Tunnel{splitTunnel}}))
	run(t, "restore", n.Set(t.Context(), Config{}))
	if missing := added(hostState(t), before); missing != "" {
		t.Errorf("missing\n%s", missing)
	}
}

func TestWays(t *testing.T) {
	const gateway, dhcp = "203.0.113.1", "10.9.9.9"
	for _, tt := range []struct {
		name   string
		tunnel Tunnel
		dst    string
		mark   uint32
		want   string
	}{
		{"full: anything", fullTunnel, gateway, 0, "wayfarer0 from 10.1.2.3"},
		{"full: marked", fullTunnel, gateway, bypassMark, "eth0 from 192.0.2.2"},
		{"full: another's mark", fullTunnel, gateway, 0x4000, "wayfarer0 from 10.1.2.3"},
		{"full: local network", fullTunnel, "192.0.2.77", 0, "wayfarer0 from 10.1.2.3"},
		{"full: excluded", fullTunnel, "198.51.100.7", 0, "eth0 from 192.0.2.2"},
		{"full: against a more specific route in main", fullTunnel, dhcp, 0, "wayfarer0 from 10.1.2.3"},
		{"full: IPv6", fullTunnel, "2001:db8:1::1", 0, "wayfarer0 from fd00::3"},
		{"full: IPv6 marked", fullTunnel, "2001:db8:1::1", bypassMark, "eth0 from 2001:db8::2"},
		{"full: IPv6 local network", fullTunnel, "2001:db8::77", 0, "wayfarer0 from fd00::3"},
		{"full: itself", fullTunnel, "127.0.0.1", 0, "lo from 127.0.0.1"},
		{"split: inside", splitTunnel, "192.168.1.1", 0, "wayfarer0 from 10.1.2.3"},
		{"split: inside, marked", splitTunnel, "192.168.1.1", bypassMark, "eth0 from 192.0.2.2"},
		{"split: outside", splitTunnel, gateway, 0, "eth0 from 192.0.2.2"},
		{"split: against a more specific route in main", splitTunnel, dhcp, 0, "wayfarer0 from 10.1.2.3"},
		{"split: IPv6", splitTunnel, "2001:db8:1::1", 0, "eth0 from 2001:db8::2"},
		{
			"excluded from a split network",
			Tunnel{Interface: "wayfarer0", MTU: 1300, Addresses: prefixes("10.1.2.3/32"), Routes: prefixes("10.0.0.0/8"), Exclude: prefixes("10.5.0.0/16")},
			"10.5.1.1", 0, "eth0 from 192.0.2.2",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enterNamespace(t)
			addTUN(t, "wayfarer0")
			run(t, "route", netlink.RouteAdd(&netlink.Route{
				Dst: ipNet(netip.MustParsePrefix("10.9.9.0/24")), Gw: net.ParseIP("192.0.2.1"),
				LinkIndex: linkByName(t, "eth0").Attrs().Index,
			}))
			n, _ := testNetwork(t)
			run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tt.tunnel}}))
			if got := way(t, tt.dst, tt.mark); got != tt.want {
				t.Errorf("%s; want %s", got, tt.want)
			}
		})
	}
}

// TestDefaultRouteRenewed: while a full tunnel stands, the host gets a default route as
// DHCP clients and administrators add it, also without naming the interface. The kernel
// looks for the router's interface by all rules then, and must not find the tunnel.
func TestDefaultRouteRenewed(t *testing.T) {
	for _, onLink := range []bool{false, true} {
		enterNamespace(t)
		addTUN(t, "wayfarer0")
		n, _ := testNetwork(t)
		run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{fullTunnel}}))
		for _, router := range []string{"192.0.2.1", "192.0.2.9", "2001:db8::1", "2001:db8::9"} {
			route := &netlink.Route{Gw: net.ParseIP(router), Protocol: unix.RTPROT_DHCP, Table: unix.RT_TABLE_MAIN}
			if onLink {
				route.LinkIndex = linkByName(t, "eth0").Attrs().Index
			}
			outside, tunnel := "198.18.0.1", "wayfarer0 from 10.1.2.3"
			if route.Gw.To4() == nil {
				outside, tunnel = "2001:db8:1::1", "wayfarer0 from fd00::3"
			}
			old, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
			run(t, "list", err)
			for _, r := range old {
				if isDefault(&r) && (r.Gw.To4() == nil) == (route.Gw.To4() == nil) {
					run(t, "the lease ends", netlink.RouteDel(&r))
				}
			}
			run(t, router, netlink.RouteAdd(route))
			found, err := netlink.RouteGetWithOptions(net.ParseIP(outside), &netlink.RouteGetOptions{Mark: bypassMark})
			run(t, "marked", err)
			if len(found) != 1 || found[0].LinkIndex != linkByName(t, "eth0").Attrs().Index || !found[0].Gw.Equal(route.Gw) {
				t.Errorf("%s, interface named %v: marked packets go by %v", router, onLink, found)
			}
			if got := way(t, outside, 0); got != tunnel {
				t.Errorf("%s, interface named %v: others go by %s", router, onLink, got)
			}
		}
	}
}

// TestReversePath sends real packets to a gateway through a full tunnel's rules, with
// every setting of the kernel's reverse path check.
func TestReversePath(t *testing.T) {
	for _, tt := range []struct {
		all, eth0 string
		tunnel    Tunnel
		during    string // rp_filter of all
	}{
		{"0", "0", fullTunnel, "0"},
		{"1", "0", fullTunnel, "2"},
		{"0", "1", fullTunnel, "2"},
		{"1", "1", fullTunnel, "2"},
		{"2", "1", fullTunnel, "2"},
		{"1", "1", splitTunnel, "1"},
		// The gateway lies in a network behind itself.
		{"1", "1", Tunnel{Interface: "wayfarer0", MTU: 1300, Addresses: prefixes("10.1.2.3/32"), Routes: prefixes("203.0.113.0/24")}, "2"},
	} {
		t.Run(tt.all+tt.eth0+" "+tt.tunnel.Routes[0].String(), func(t *testing.T) {
			enterNamespace(t)
			addTUN(t, "wayfarer0")
			gateway := remoteGateway(t)
			run(t, "rp_filter", os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte(tt.all), 0))
			run(t, "rp_filter", os.WriteFile("/proc/sys/net/ipv4/conf/eth0/rp_filter", []byte(tt.eth0), 0))
			before := hostState(t)
			n, h := testNetwork(t)
			conn, err := n.ListenPacket(t.Context(), gateway.Addr(), 0)
			run(t, "ListenPacket", err)
			defer conn.Close()
			for range 2 {
				run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tt.tunnel}}))
				if got, _ := h.sysctl("net/ipv4/conf/all/rp_filter"); got != tt.during {
					t.Errorf("rp_filter is %s", got)
				}
			}
			if _, err := conn.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(gateway)); err != nil {
				t.Fatal(err)
			}
			// Long enough for a packet on a loaded machine; its loss shows as an error.
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			buf := make([]byte, 16)
			if length, _, err := conn.ReadFrom(buf); err != nil || string(buf[:length]) != "hello" {
				t.Errorf("the gateway's answer: %q, %v", buf[:length], err)
			}
			run(t, "restore", n.Set(t.Context(), Config{}))
			if after := hostState(t); after != before {
				t.Errorf("the host was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// remoteGateway moves eth0's other end to a namespace of its own, in which an echo
// server at 203.0.113.1 is the gateway.
func remoteGateway(t *testing.T) netip.AddrPort {
	t.Helper()
	here, err := netns.Get()
	run(t, "namespace", err)
	defer here.Close()
	there, err := netns.New()
	run(t, "namespace", err)
	defer there.Close()
	run(t, "namespace", netns.Set(here))
	run(t, "move", netlink.LinkSetNsFd(linkByName(t, "peer"), int(there)))
	run(t, "namespace", netns.Set(there))
	for name, addr := range map[string]string{"lo": "203.0.113.1/32", "peer": "192.0.2.1/24"} {
		parsed, err := netlink.ParseAddr(addr)
		run(t, addr, err)
		run(t, addr, netlink.AddrAdd(linkByName(t, name), parsed))
		run(t, name, netlink.LinkSetUp(linkByName(t, name)))
	}
	server, err := net.ListenPacket("udp4", "203.0.113.1:0")
	run(t, "listen", err)
	run(t, "namespace", netns.Set(here))
	t.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 16)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(buf[:n], from)
		}
	}()
	return server.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestNoRights: without capabilities everything is refused in clear words.
func TestNoRights(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, _ := testNetwork(t)
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // of this thread only
	run(t, "capset", unix.Capset(header, &none[0]))
	var e *Error
	for _, tunnel := range []Tunnel{splitTunnel, {Interface: "wayfarer0", MTU: 1300}} {
		err := n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}})
		if !errors.Is(err, ErrNoRights) || !errors.As(err, &e) || e.Part != PartFirewall || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("Set: %v", err)
		}
	}
	_, err := n.ListenPacket(t.Context(), netip.MustParseAddr("203.0.113.1"), 0)
	if !errors.Is(err, ErrNoRights) || !errors.As(err, &e) || e.Part != PartSocket || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("ListenPacket: %v", err)
	}
	_, err = n.ListenESP(t.Context(), netip.MustParseAddr("203.0.113.1"))
	if !errors.Is(err, ErrNoRawSocket) || errors.Is(err, ErrNoRights) || !errors.As(err, &e) || e.Part != PartSocket || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("ListenESP: %v", err)
	}
	run(t, "restore", n.Set(t.Context(), Config{}))
}

// TestTunnelsOfLinux is TestTunnelsOf with a Linux tunnel's interface.
func TestTunnelsOfLinux(t *testing.T) {
	if got := tunnelsOf(Config{}, []change{&linkChange{Name: "old"}}); !slices.Equal(got, []string{"old"}) {
		t.Errorf("got %v", got)
	}
}
