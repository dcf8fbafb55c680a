package platform

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// outside is a namespace at eth0's other end, with a capture of what arrives there.
type outside struct {
	t    *testing.T
	here netns.NsHandle
	ns   netns.NsHandle
	tap  int // packet socket
}

// newOutside moves eth0's other end to a namespace of its own. The host's routers are
// known neighbours, so that packets leave without asking for them.
func newOutside(t *testing.T) *outside {
	t.Helper()
	here, err := netns.Get()
	run(t, "namespace", err)
	there, err := netns.New()
	run(t, "namespace", err)
	run(t, "namespace", netns.Set(here))
	t.Cleanup(func() {
		here.Close()
		there.Close()
	})
	run(t, "move", netlink.LinkSetNsFd(linkByName(t, "peer"), int(there)))
	o := &outside{t: t, here: here, ns: there}
	var mac net.HardwareAddr
	o.within(func() {
		for _, addr := range []string{"192.0.2.1/24", "2001:db8::1/64", "192.168.7.1/24"} {
			parsed, err := netlink.ParseAddr(addr)
			run(t, addr, err)
			parsed.Flags = unix.IFA_F_NODAD
			run(t, addr, netlink.AddrAdd(linkByName(t, "peer"), parsed))
		}
		run(t, "up", netlink.LinkSetUp(linkByName(t, "peer")))
		mac = linkByName(t, "peer").Attrs().HardwareAddr
		o.tap, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		run(t, "packet socket", err)
		t.Cleanup(func() { unix.Close(o.tap) })
		run(t, "timeout", unix.SetsockoptTimeval(o.tap, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	})
	eth0 := linkByName(t, "eth0")
	parsed, err := netlink.ParseAddr("192.168.7.2/24")
	run(t, "address", err)
	run(t, "address", netlink.AddrAdd(eth0, parsed))
	for _, ip := range []string{"192.0.2.1", "2001:db8::1", "192.168.7.1", "192.168.7.77", "fe80::77"} {
		run(t, ip, netlink.NeighSet(&netlink.Neigh{
			LinkIndex: eth0.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: mac,
		}))
	}
	settle(t)
	return o
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// within runs f in the outside namespace.
func (o *outside) within(f func()) {
	run(o.t, "namespace", netns.Set(o.ns))
	defer func() { run(o.t, "namespace", netns.Set(o.here)) }()
	f()
}

// sentinel is the destination of the last packet of each capture.
const sentinel = "192.0.2.1:4500"

// captured lists the UDP destinations and ICMPv6 types that left the host until now.
func (o *outside) captured(n *Network) []string {
	o.t.Helper()
	conn, err := n.Dialer().Dial("udp", sentinel)
	run(o.t, "sentinel", err)
	_, err = conn.Write([]byte("that is all"))
	run(o.t, "sentinel", errors.Join(err, conn.Close()))
	var seen []string
	packet := make([]byte, 1<<16)
	for {
		length, from, err := unix.Recvfrom(o.tap, packet, 0)
		run(o.t, "capture", err)
		if at := from.(*unix.SockaddrLinklayer); at.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		switch what := describePacket(packet[:length]); what {
		case sentinel:
			slices.Sort(seen)
			return slices.Compact(seen)
		case "":
		default:
			seen = append(seen, what)
		}
	}
}

// describePacket gives the destination of a UDP packet, the type of an ICMPv6 packet.
func describePacket(p []byte) string {
	switch {
	case len(p) > 28 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_UDP:
		dst := netip.AddrFrom4([4]byte(p[16:20]))
		return netip.AddrPortFrom(dst, binary.BigEndian.Uint16(p[22:])).String()
	case len(p) > 48 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_UDP:
		dst := netip.AddrFrom16([16]byte(p[24:40]))
		return netip.AddrPortFrom(dst, binary.BigEndian.Uint16(p[42:])).String()
	case len(p) > 40 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_ICMPV6 && p[40] == 135:
		return "neighbour solicitation"
	}
	return ""
}

// say sends a datagram, or is refused. Those of the table below are all that a host
// has to say.
func say(t *testing.T, from, to, device string) {
	t.Helper()
	config := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
			if device != "" {
				failed = errors.Join(failed, unix.BindToDevice(int(fd), device))
			}
		})
		return errors.Join(err, failed)
	}}
	if from != "" {
		config.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))
	}
	conn, err := config.Dial("udp", to)
	if err != nil {
		if !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
			t.Fatalf("%s: %v", to, err)
		}
		return
	}
	conn.Write([]byte("hello")) // a refusal is what the capture shows
	conn.Close()
}

const (
	out4, out6   = "198.51.100.1:9", "[2001:db8:2::1]:9"
	bound4       = "198.51.100.2:9" // by a socket bound to the interface, which routes do not stop
	bound6       = "[2001:db8:2::2]:9"
	local4       = "192.168.7.77:9"
	group4       = "224.0.0.251:5353"
	linkLocal    = "[fe80::77]:9"
	dhcp4, dhcp6 = "255.255.255.255:67", "[ff02::1:2]:547"
	fakeDHCP     = "198.51.100.3:67" // from another port
	markedOut    = "198.51.100.4:500"
	company      = "10.9.9.9:9"
	forwarded    = "198.51.100.5:9"
	solicitation = "neighbour solicitation"
)

// sayAll sends one of each.
func sayAll(t *testing.T, n *Network, inner netns.NsHandle) {
	t.Helper()
	say(t, "", out4, "")
	say(t, "", out6, "")
	say(t, "", bound4, "eth0")
	say(t, "", bound6, "eth0")
	say(t, "", local4, "")
	say(t, "", group4, "eth0")
	say(t, "", "[fe80::77%eth0]:9", "")
	say(t, "0.0.0.0:68", dhcp4, "eth0")
	say(t, "[::]:546", "[ff02::1:2%eth0]:547", "")
	say(t, "", fakeDHCP, "eth0")
	say(t, "", company, "")
	// The neighbour is unknown, so only the question for it can be seen.
	for _, to := range []string{markedOut, "[2001:db8::99]:9"} {
		conn, err := n.Dialer().Dial("udp", to)
		run(t, to, err)
		_, err = conn.Write([]byte("hello"))
		run(t, to, err)
		conn.Close()
	}
	here, err := netns.Get()
	run(t, "namespace", err)
	defer here.Close()
	run(t, "namespace", netns.Set(inner))
	say(t, "", forwarded, "")
	run(t, "namespace", netns.Set(here))
}

// innerNamespace is a container on the host, for which the host forwards.
func innerNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	here, err := netns.Get()
	run(t, "namespace", err)
	defer here.Close()
	there, err := netns.New()
	run(t, "namespace", err)
	t.Cleanup(func() { there.Close() })
	run(t, "namespace", netns.Set(here))
	run(t, "veth", netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "cont0"}, PeerName: "cont1", PeerNamespace: netlink.NsFd(there)}))
	address := func(link, addr string) {
		parsed, err := netlink.ParseAddr(addr)
		run(t, addr, err)
		run(t, addr, netlink.AddrAdd(linkByName(t, link), parsed))
		run(t, link, netlink.LinkSetUp(linkByName(t, link)))
	}
	address("cont0", "172.30.0.1/24")
	run(t, "forward", os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	mac := linkByName(t, "cont0").Attrs().HardwareAddr
	run(t, "namespace", netns.Set(there))
	address("cont1", "172.30.0.2/24")
	index := linkByName(t, "cont1").Attrs().Index
	run(t, "route", netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("172.30.0.1"), LinkIndex: index}))
	run(t, "neighbour", netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: net.ParseIP("172.30.0.1"), HardwareAddr: mac}))
	run(t, "namespace", netns.Set(here))
	return there
}

// TestLeaks captures what leaves a host by its outer interface, for each wish.
func TestLeaks(t *testing.T) {
	housekeeping := []string{dhcp4, dhcp6, solicitation, markedOut}
	everything := slices.Concat(housekeeping, []string{
		out4, out6, bound4, bound6, local4, group4, linkLocal, fakeDHCP, company, forwarded,
	})
	full4 := fullTunnel
	full4.Addresses, full4.Routes, full4.Exclude = prefixes("10.1.2.3/32"), prefixes("0.0.0.0/0"), nil
	halves := full4
	halves.Routes = prefixes("0.0.0.0/1", "128.0.0.0/1")
	excluded := full4
	excluded.Exclude = prefixes("2001:db8:2::1/128")
	full := fullTunnel
	full.Exclude = nil
	split := splitTunnel
	split.Routes = prefixes("10.0.0.0/8")
	without := func(what ...string) []string {
		return slices.DeleteFunc(slices.Clone(everything), func(s string) bool { return slices.Contains(what, s) })
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
		ipv6 bool // blocked, and said so

		nameserver string // of the host
	}{
		{name: "control", want: everything},
		{name: "split tunnel", cfg: Config{Tunnels: []Tunnel{split}}, want: without(company)},
		{name: "full tunnel", cfg: Config{Tunnels: []Tunnel{full}}, want: without(company, out4, out6, local4, forwarded)},
		{name: "full tunnel, local", cfg: Config{Tunnels: []Tunnel{full}, AllowLocal: true}, want: without(company, out4, out6, forwarded)},
		{name: "full IPv4 tunnel", cfg: Config{Tunnels: []Tunnel{full4}}, want: without(company, out4, out6, bound6, local4, forwarded), ipv6: true},
		{name: "full IPv4 tunnel, IPv6 excluded", cfg: Config{Tunnels: []Tunnel{excluded}}, want: without(company, out4, bound6, local4, forwarded), ipv6: true},
		{name: "full IPv4 tunnel in halves", cfg: Config{Tunnels: []Tunnel{halves}}, want: without(company, out4, out6, bound6, local4, forwarded), ipv6: true},
		{name: "blocked", cfg: Config{BlockOutside: true}, want: housekeeping},
		{name: "blocked, full tunnel", cfg: Config{Tunnels: []Tunnel{full}, BlockOutside: true}, want: housekeeping},
		{name: "blocked, full IPv4 tunnel", cfg: Config{Tunnels: []Tunnel{full4}, BlockOutside: true}, want: housekeeping, ipv6: true},
		{name: "blocked, split tunnel", cfg: Config{Tunnels: []Tunnel{split}, BlockOutside: true}, want: housekeeping},
		{name: "blocked, local", cfg: Config{BlockOutside: true, AllowLocal: true}, want: slices.Concat(housekeeping, []string{local4, group4, linkLocal})},
		{
			name: "blocked, portal", cfg: Config{BlockOutside: true, Portal: addrs("198.51.100.1", "198.51.100.5", "2001:db8:2::1")},
			want: slices.Concat(housekeeping, []string{out4, out6}), // not what is forwarded
		},
		{
			name: "blocked, the portal asks a name server", cfg: Config{BlockOutside: true, Portal: addrs("192.0.2.77")}, nameserver: "198.51.100.1",
			want: slices.Concat(housekeeping, []string{out4}),
		},
		{name: "blocked, name server without a portal", cfg: Config{BlockOutside: true}, nameserver: "198.51.100.1", want: housekeeping},
		{
			name: "blocked, full tunnel, local", cfg: Config{Tunnels: []Tunnel{full}, BlockOutside: true, AllowLocal: true},
			want: slices.Concat(housekeeping, []string{local4, group4, linkLocal}),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enterNamespace(t)
			addTUN(t, "wayfarer0")
			o := newOutside(t)
			inner := innerNamespace(t)
			n, h := testNetwork(t)
			if tt.nameserver != "" {
				run(t, "resolv.conf", os.WriteFile(filepath.Join(h.root, resolvConfPath), []byte("nameserver "+tt.nameserver+"\n"), 0o644))
			}
			want := slices.Clone(tt.want)
			slices.Sort(want)
			run(t, "Set", n.Set(t.Context(), tt.cfg))
			o.captured(n) // what came before
			sayAll(t, n, inner)
			if got := o.captured(n); !slices.Equal(got, want) {
				t.Errorf("left the host:\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if report := n.Report(); report.IPv6Blocked != tt.ipv6 || report.Unguarded != "" {
				t.Errorf("%+v", report)
			}
			run(t, "restore", n.Set(t.Context(), Config{}))
			if state, err := readFirewall(); err != nil || state.exists {
				t.Errorf("the firewall is still there: %v", err)
			}
		})
	}
}

// TestBlockOutlives: the block stands when the process is gone, until it is recovered
// from, or the next wish.
func TestBlockOutlives(t *testing.T) {
	enterNamespace(t)
	before := hostState(t)
	n, h := testNetwork(t)
	n.Close()
	for _, keep := range []bool{false, true} {
		first, _, err := networkBelow(h.root)
		run(t, "open", err)
		run(t, "Set", first.Set(t.Context(), Config{BlockOutside: true}))
		blocked := hostState(t)
		first.journal.close() // killed
		next, _, err := networkBelow(h.root)
		run(t, "open", err)
		if hostState(t) != blocked || blocked == before {
			t.Errorf("killed: the host is\n%s", hostState(t))
		}
		run(t, "Recover", next.Recover(t.Context(), keep))
		if want := map[bool]string{false: before, true: blocked}[keep]; hostState(t) != want {
			t.Errorf("recovered, keep %v: the host is\n%s", keep, hostState(t))
		}
		run(t, "Set", next.Set(t.Context(), Config{BlockOutside: keep}))
		run(t, "Close", next.Close())
		if hostState(t) != before {
			t.Errorf("restored, keep %v: the host is\n%s", keep, hostState(t))
		}
	}
}

// TestGuard: a tunnel's address is reached through the tunnel only (CVE-2019-14899).
func TestGuard(t *testing.T) {
	enterNamespace(t)
	tun := addTUN(t, "wayfarer0")
	o := newOutside(t)
	n, _ := testNetwork(t)
	run(t, "rp_filter", os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0))
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{splitTunnel}}))
	server, err := net.ListenPacket("udp4", "0.0.0.0:0")
	run(t, "listen", err)
	defer server.Close()
	port := server.LocalAddr().(*net.UDPAddr).Port
	o.within(func() {
		run(t, "route", netlink.RouteAdd(&netlink.Route{
			Dst: ipNet(splitTunnel.Addresses[0]), Gw: net.ParseIP("192.0.2.2"), LinkIndex: linkByName(t, "peer").Attrs().Index,
		}))
	})
	var fromOutside []net.Conn
	o.within(func() {
		for _, to := range []string{"10.1.2.3", "192.0.2.2"} {
			conn, err := net.Dial("udp4", net.JoinHostPort(to, strconv.Itoa(port)))
			run(t, to, err)
			t.Cleanup(func() { conn.Close() })
			fromOutside = append(fromOutside, conn)
		}
	})
	heard := func() string {
		for i, what := range []string{"to the tunnel's address", "to the interface's address"} {
			_, err := fromOutside[i].Write([]byte(what))
			run(t, what, err)
		}
		_, err := tun.Write(udpPacket("10.77.0.1", "10.1.2.3", port, "by the tunnel"))
		run(t, "tunnel", err)
		own, err := net.Dial("udp4", net.JoinHostPort("10.1.2.3", strconv.Itoa(port)))
		run(t, "own", err)
		_, err = own.Write([]byte("by itself"))
		run(t, "own", errors.Join(err, own.Close()))
		var all []string
		server.SetReadDeadline(time.Now().Add(10 * time.Second))
		for len(all) == 0 || all[len(all)-1] != "by itself" {
			buf := make([]byte, 64)
			length, _, err := server.ReadFrom(buf)
			run(t, "read", err)
			all = append(all, string(buf[:length]))
		}
		return strings.Join(all, ", ")
	}
	if got := heard(); got != "to the interface's address, by the tunnel, by itself" {
		t.Errorf("heard %s", got)
	}
	conn, err := nftables.New()
	run(t, "nftables", err)
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: firewallTable})
	run(t, "nftables", conn.Flush())
	if got := heard(); got != "to the tunnel's address, to the interface's address, by the tunnel, by itself" {
		t.Errorf("control: heard %s", got)
	}
	// What somebody took away comes back with the next wish.
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{splitTunnel}}))
	if got := heard(); strings.Contains(got, "to the tunnel's address") {
		t.Errorf("repaired: heard %s", got)
	}
}

// udpPacket is an IPv4 packet; its UDP checksum is left out.
func udpPacket(src, dst string, port int, payload string) []byte {
	p := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(payload)))
	p = append(p, netip.MustParseAddr(src).AsSlice()...)
	p = append(p, netip.MustParseAddr(dst).AsSlice()...)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	p = binary.BigEndian.AppendUint16(p, 4000)
	p = binary.BigEndian.AppendUint16(p, uint16(port))
	p = binary.BigEndian.AppendUint16(p, uint16(8+len(payload)))
	return append(binary.BigEndian.AppendUint16(p, 0), payload...)
}

// TestForeignTable: a table of our name that is not ours is neither used nor removed.
func TestForeignTable(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, _ := testNetwork(t)
	conn, err := nftables.New()
	run(t, "nftables", err)
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: firewallTable})
	conn.AddChain(&nftables.Chain{Name: "theirs", Table: table})
	run(t, "nftables", conn.Flush())
	before := hostState(t)
	var e *Error
	err = n.Set(t.Context(), Config{Tunnels: []Tunnel{splitTunnel}})
	if !errors.As(err, &e) || e.Part != PartFirewall || !strings.Contains(err.Error(), "somebody else's") {
		t.Errorf("Set: %v", err)
	}
	run(t, "undo", (&firewallChange{}).undo(t.Context()))
	if after := hostState(t); after != before {
		t.Errorf("the host was\n%s\nand is\n%s", before, after)
	}
}

// TestFirewallRaced: a table that another program removes or makes between the look and the
// replacement fails nothing.
func TestFirewallRaced(t *testing.T) {
	enterNamespace(t)
	ours := &firewallChange{Block: true}
	for name, race := range map[string]struct{ before, meanwhile func() error }{
		"removed": {func() error { return (&firewallChange{}).apply(t.Context()) }, func() error { return (&firewallChange{}).undo(t.Context()) }},
		"made":    {func() error { return (&firewallChange{}).undo(t.Context()) }, func() error { return (&firewallChange{}).apply(t.Context()) }},
	} {
		run(t, name, race.before())
		looks := 0
		run(t, name, ours.settle(func(conn *nftables.Conn) (firewallState, error) {
			state, err := firewallOf(conn)
			if looks++; looks == 1 {
				run(t, name, race.meanwhile())
			}
			return state, err
		}))
		if state, err := readFirewall(); err != nil || looks != 2 || !ours.is(state) {
			t.Errorf("%s: %v, %d looks, %+v", name, err, looks, state)
		}
	}
}

// TestNoFirewall: a kernel without nftables has tunnels, and says what is missing.
func TestNoFirewall(t *testing.T) {
	for _, missing := range []error{unix.EPROTONOSUPPORT, unix.EINVAL, unix.EOPNOTSUPP} {
		enterNamespace(t)
		addTUN(t, "wayfarer0")
		n, h := testNetwork(t)
		h.firewall = func() (firewallState, error) { return firewallState{}, os.NewSyscallError("netlink", missing) }
		full4 := fullTunnel
		full4.Addresses, full4.Routes = prefixes("10.1.2.3/32"), prefixes("0.0.0.0/0")
		run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{full4}}))
		if r := n.Report(); r.IPv6Blocked || !strings.Contains(r.Unguarded, missing.Error()) {
			t.Errorf("%+v", r)
		}
		var e *Error
		if err := n.Set(t.Context(), Config{BlockOutside: true}); !errors.As(err, &e) || e.Part != PartFirewall || !errors.Is(err, missing) {
			t.Errorf("a block: %v", err)
		}
		run(t, "restore", n.Set(t.Context(), Config{}))
	}
}

// TestOwnAddress: a site's gateway keeps its own address reachable, although a tunnel
// has it too.
func TestOwnAddress(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, _ := testNetwork(t)
	tunnel := splitTunnel
	tunnel.Addresses = prefixes("192.0.2.2/32", "10.1.2.3/32")
	for range 2 {
		run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}}))
		if state, err := readFirewall(); err != nil || len(state.rules) != 1 || !strings.Contains(state.rules[0], "10.1.2.3") {
			t.Errorf("%+v, %v", state, err)
		}
	}
}
