package platform

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
)

// TestOutsiders: what stays outside, and what is reported, for each home and wish.
func TestOutsiders(t *testing.T) {
	lan := func(network string) *home {
		p := netip.MustParsePrefix(network)
		return &home{
			networks: []localNetwork{{p, "eth0", false}, {netip.MustParsePrefix("172.30.0.0/24"), "docker0", true}},
			routers:  []localAddr{{p.Masked().Addr().Next(), "eth0"}},
			dhcp:     []netip.Addr{p.Masked().Addr().Next()},
		}
	}
	tunnel := func(routes ...string) Tunnel {
		return Tunnel{Interface: "wayfarer0", Routes: prefixes(routes...)}
	}
	with := func(t Tunnel, edit func(*Tunnel)) Tunnel {
		edit(&t)
		return t
	}
	for _, tt := range []struct {
		name     string
		home     *home
		servers  []netip.Addr
		cfg      Config
		stay     string
		overlaps []string
	}{
		{name: "no tunnel", home: lan("192.168.1.0/24")},
		{name: "elsewhere", home: lan("192.168.1.0/24"), cfg: Config{Tunnels: []Tunnel{tunnel("10.0.0.0/8")}}},
		{
			name: "the same network", home: lan("192.168.1.0/24"), servers: addrs("192.168.1.1", "8.8.8.8"),
			cfg: Config{Tunnels: []Tunnel{tunnel("192.168.1.0/24")}}, stay: "[192.168.1.1/32]",
			overlaps: []string{
				"network 192.168.1.0/24 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
				"router 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: it stays reachable",
				"dns 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: it stays reachable",
				"dhcp 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: it stays reachable",
			},
		},
		{
			name: "in a company's larger one", home: lan("10.1.2.0/24"), cfg: Config{Tunnels: []Tunnel{tunnel("10.0.0.0/8")}}, stay: "[10.1.2.1/32]",
			overlaps: []string{
				"network 10.1.2.0/24 on eth0 meets the tunnel's network 10.0.0.0/8: the tunnel has it",
				"router 10.1.2.1/32 on eth0 meets the tunnel's network 10.0.0.0/8: it stays reachable",
				"dhcp 10.1.2.1/32 on eth0 meets the tunnel's network 10.0.0.0/8: it stays reachable",
			},
		},
		{
			name: "around a company's smaller one", home: lan("10.0.0.0/8"), cfg: Config{Tunnels: []Tunnel{tunnel("10.9.0.0/16")}},
			overlaps: []string{"network 10.0.0.0/8 on eth0 meets the tunnel's network 10.9.0.0/16: the tunnel has that part of it"},
		},
		{
			name: "the router's address is the company's DNS server", home: lan("192.168.1.0/24"),
			cfg: Config{Tunnels: []Tunnel{with(tunnel("192.168.1.0/24"), func(t *Tunnel) { t.DNS = addrs("192.168.1.1") })}},
			overlaps: []string{
				"network 192.168.1.0/24 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
				"router 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
				"dhcp 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
			},
		},
		{
			name: "the router's address is a route", home: lan("192.168.1.0/24"), cfg: Config{Tunnels: []Tunnel{tunnel("192.168.1.1/32")}},
			overlaps: []string{
				"network 192.168.1.0/24 on eth0 meets the tunnel's network 192.168.1.1/32: the tunnel has that part of it",
				"router 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.1/32: the tunnel has it",
				"dhcp 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.1/32: the tunnel has it",
			},
		},
		{
			name: "another DNS server at home, for other names", home: lan("192.168.1.0/24"), servers: addrs("192.168.1.5"),
			cfg: Config{Tunnels: []Tunnel{with(tunnel("192.168.1.0/25"), func(t *Tunnel) {
				t.DNS, t.MatchDomains = addrs("10.1.1.1"), []string{"corp.example"}
			})}}, stay: "[192.168.1.1/32 192.168.1.5/32]",
			overlaps: []string{
				"network 192.168.1.0/24 on eth0 meets the tunnel's network 192.168.1.0/25: the tunnel has that part of it",
				"router 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/25: it stays reachable",
				"dns 192.168.1.5/32 on eth0 meets the tunnel's network 192.168.1.0/25: it stays reachable",
				"dhcp 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/25: it stays reachable",
			},
		},
		{name: "full", home: lan("192.168.1.0/24"), cfg: Config{Tunnels: []Tunnel{with(tunnel("0.0.0.0/0"), func(t *Tunnel) { t.DNS = addrs("10.1.1.1") })}}, servers: addrs("192.168.1.1"), stay: "[172.30.0.0/24]"},
		{name: "full, without DNS", home: lan("192.168.1.0/24"), cfg: Config{Tunnels: []Tunnel{tunnel("0.0.0.0/0")}}, servers: addrs("192.168.1.1", "8.8.8.8"), stay: "[172.30.0.0/24 192.168.1.1/32]"},
		{name: "full, local", home: lan("192.168.1.0/24"), cfg: Config{Tunnels: []Tunnel{tunnel("0.0.0.0/0")}, AllowLocal: true}, stay: "[192.168.1.0/24 172.30.0.0/24]"},
		{name: "full, local with public addresses", home: lan("203.0.113.0/24"), servers: addrs("203.0.113.1"), cfg: Config{Tunnels: []Tunnel{tunnel("0.0.0.0/0")}, AllowLocal: true}, stay: "[172.30.0.0/24]"},
		{
			name: "full and a company's network, local", home: lan("192.168.1.0/24"),
			cfg: Config{Tunnels: []Tunnel{tunnel("0.0.0.0/0", "192.168.0.0/16")}, AllowLocal: true}, stay: "[172.30.0.0/24 192.168.1.1/32]",
			overlaps: []string{
				"network 192.168.1.0/24 on eth0 meets the tunnel's network 192.168.0.0/16: the tunnel has it",
				"router 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.0.0/16: it stays reachable",
				"dhcp 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.0.0/16: it stays reachable",
			},
		},
		{
			name: "blocked", home: lan("192.168.1.0/24"), servers: addrs("192.168.1.1"),
			cfg: Config{Tunnels: []Tunnel{tunnel("192.168.1.0/24")}, BlockOutside: true},
			overlaps: []string{
				"network 192.168.1.0/24 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
				"router 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
				"dns 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
				"dhcp 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stay := outsiders(tt.cfg, tt.home, tt.servers)
			if got := fmt.Sprint(stay); got != "["+strings.Trim(tt.stay, "[]")+"]" {
				t.Errorf("outside stay %s", got)
			}
			var found []string
			for _, o := range findOverlaps(tt.cfg, tt.home, tt.servers, stay) {
				found = append(found, o.String())
			}
			if !slices.Equal(found, tt.overlaps) {
				t.Errorf("overlaps\n%s", strings.Join(found, "\n"))
			}
		})
	}
}

// TestOverlaps is a real host in a network that the company has too.
func TestOverlaps(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	eth0 := linkByName(t, "eth0")
	parsed, err := netlink.ParseAddr("192.168.1.20/24")
	run(t, "address", err)
	run(t, "address", netlink.AddrAdd(eth0, parsed))
	run(t, "route", netlink.RouteReplace(&netlink.Route{Gw: net.ParseIP("192.168.1.1"), LinkIndex: eth0.Attrs().Index}))
	n, h := testNetwork(t)
	writeAt(t, h.root, "etc/resolv.conf", "nameserver 192.168.1.2\n", 0o644)
	writeAt(t, h.root, "run/systemd/netif/leases/2", "# private\nADDRESS=192.168.1.20\nSERVER_ADDRESS=192.168.1.3\n", 0o644)
	writeAt(t, h.root, "var/lib/dhcp/dhclient.eth0.leases", "lease {\n  option dhcp-server-identifier 192.168.1.4;\n}\n", 0o644)
	tunnel := splitTunnel
	tunnel.Routes = prefixes("192.168.1.0/24")
	cfg := Config{Tunnels: []Tunnel{tunnel}}
	found, err := n.Overlaps(cfg)
	run(t, "Overlaps", err)
	var got []string
	for _, o := range found {
		got = append(got, fmt.Sprintf("%s %v %s kept %v", o.Kind, o.Local, o.Interface, o.Kept))
	}
	want := []string{
		"network 192.168.1.0/24 eth0 kept false", "router 192.168.1.1/32 eth0 kept true", "dns 192.168.1.2/32 eth0 kept true",
		"dhcp 192.168.1.3/32 eth0 kept false", "dhcp 192.168.1.4/32 eth0 kept false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for range 2 {
		run(t, "Set", n.Set(t.Context(), cfg))
		if report := n.Report(); !slices.Equal(report.Overlaps, found) || report.DNS != "" {
			t.Errorf("%+v", report)
		}
	}
	for dst, want := range map[string]string{
		"192.168.1.1": "eth0 from 192.168.1.20", "192.168.1.2": "eth0 from 192.168.1.20",
		"192.168.1.77": "wayfarer0 from 10.1.2.3", "198.51.100.1": "eth0 from 192.168.1.20",
	} {
		if got := way(t, dst, 0); got != want {
			t.Errorf("%s: %s; want %s", dst, got, want)
		}
	}
}

const lookupEnv = "WAYFARER_TEST_LOOKUP" // root of TestLookupChild

// TestLookupOutside: a name is found by the host's own server, past a full tunnel and
// through the block. The resolver works on threads of its own, so a process of its own
// is in the namespace.
func TestLookupOutside(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	o := newOutside(t)
	root := t.TempDir()
	writeAt(t, root, "etc/resolv.conf", "nameserver 192.0.2.1\n", 0o644)
	run(t, "proc", os.Symlink("/proc", filepath.Join(root, "proc")))
	o.within(func() {
		server, err := net.ListenPacket("udp4", "192.0.2.1:53")
		run(t, "listen", err)
		t.Cleanup(func() { server.Close() })
		go answerNames(server)
	})
	child := exec.Command(os.Args[0], "-test.run=^TestLookupChild$", "-test.v")
	child.Env = append(os.Environ(), lookupEnv+"="+root)
	if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") || strings.Contains(string(out), "SKIP") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestLookupChild is TestLookupOutside's process.
func TestLookupChild(t *testing.T) {
	root := os.Getenv(lookupEnv)
	if root == "" {
		t.Skip("it is TestLookupOutside that runs this")
	}
	n, _, err := networkBelow(root)
	run(t, "open", err)
	defer n.Close()
	tunnel := fullTunnel
	tunnel.DNS = addrs("10.1.1.1")
	for _, cfg := range []Config{{}, {Tunnels: []Tunnel{tunnel}, BlockOutside: true}} {
		run(t, "Set", n.Set(t.Context(), cfg))
		found, err := n.LookupOutside(t.Context(), "vpn.gateway.example")
		if err != nil || !slices.Equal(found, addrs("203.0.113.7")) {
			t.Errorf("%v, %v", found, err)
		}
	}
	run(t, "Set", n.Set(t.Context(), Config{}))
	writeAt(t, root, "etc/resolv.conf", "", 0o644)
	if _, err := n.LookupOutside(t.Context(), "vpn.gateway.example"); err == nil || !strings.Contains(err.Error(), errNoServers.Error()) {
		t.Errorf("without servers: %v", err)
	}
}

// answerNames answers every question for an IPv4 address.
func answerNames(server net.PacketConn) {
	buf := make([]byte, 512)
	for {
		length, from, err := server.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:length]) != nil || len(m.Questions) == 0 {
			continue
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
				Body:   &dnsmessage.AResource{A: [4]byte{203, 0, 113, 7}},
			}}
		}
		if reply, err := m.Pack(); err == nil {
			server.WriteTo(reply, from)
		}
	}
}
