package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/platform"
)

func nets(text string) []netip.Prefix {
	var out []netip.Prefix
	for _, f := range strings.Fields(text) {
		out = append(out, netip.MustParsePrefix(f))
	}
	return out
}

func hosts(text string) []netip.Addr {
	var out []netip.Addr
	for _, f := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(f))
	}
	return out
}

func TestRoutes(t *testing.T) {
	const all, gateway = "0.0.0.0/0", "192.0.2.1"
	cases := []struct {
		name      string
		address   string // 10.99.0.1/32 if empty
		include   string
		exclude   string
		remote    string
		dns, wins string
		add, skip string
		routes    string
		outside   string
		warning   string
	}{
		{name: "full tunnel", remote: all, routes: all},
		{name: "split include", include: "10.10.0.0/24 10.10.2.0/24", remote: all, routes: "10.10.0.0/24 10.10.2.0/24"},
		{name: "narrowed selector", remote: "10.10.0.0/16", routes: "10.10.0.0/16"},
		{name: "several selectors", remote: "10.10.0.0/24 10.20.0.0/24", routes: "10.10.0.0/24 10.20.0.0/24"},
		{name: "include wider than the selector", include: "10.0.0.0/8", remote: "10.10.0.0/16", routes: "10.10.0.0/16"},
		{name: "include beside the selector", include: "10.10.0.0/24 172.16.0.0/12", remote: "10.10.0.0/16", routes: "10.10.0.0/24"},
		{name: "include of everything", include: all, remote: all, routes: all},
		{name: "doubles and parts", include: "10.10.0.0/24 10.0.0.0/8 10.10.0.0/24", remote: all, routes: "10.0.0.0/8"},
		{name: "host bits", include: "10.10.0.9/24", remote: all, routes: "10.10.0.0/24"},
		{name: "no child", routes: ""},

		{
			name: "servers behind the tunnel", include: "10.10.0.0/24", remote: all, dns: "10.10.0.53 10.20.0.53", wins: "10.20.0.42",
			routes: "10.10.0.0/24 10.20.0.53/32 10.20.0.42/32",
		},
		{name: "servers that no selector covers", remote: "10.10.0.0/16", dns: "8.8.8.8", routes: "10.10.0.0/16"},
		{name: "servers in a full tunnel", remote: all, dns: "10.10.0.53", routes: all},

		{name: "added", include: "10.10.0.0/24", remote: all, add: "172.16.0.0/12 10.10.0.7", routes: "10.10.0.0/24 172.16.0.0/12"},
		{name: "added, not covered", remote: "10.10.0.0/16", add: "172.16.0.0/12", routes: "10.10.0.0/16 172.16.0.0/12", warning: "route-not-covered"},
		{name: "skipped", include: "10.10.0.0/24 10.20.0.0/24", remote: all, skip: "10.20.0.0/16", routes: "10.10.0.0/24"},
		{name: "skipped inside", include: "10.10.0.0/24", remote: all, skip: "10.10.0.64/26", routes: "10.10.0.128/25 10.10.0.0/26"},
		{name: "skipped from a full tunnel", remote: all, skip: "192.168.0.0/16", routes: all, outside: "192.168.0.0/16"},
		{name: "all skipped", remote: all, skip: all, routes: ""},

		{name: "the gateway itself", include: "10.10.0.0/24 192.0.2.1/32", remote: all, routes: "10.10.0.0/24"},
		{name: "the gateway as a name server", include: "10.10.0.0/24", remote: all, dns: gateway, routes: "10.10.0.0/24"},
		{name: "the gateway's network", include: "192.0.2.0/24", remote: all, routes: "192.0.2.0/24"},
		{name: "split exclude is not obeyed", exclude: "192.168.0.0/16", remote: all, routes: all},

		{name: "IPv6 without an address", include: "10.10.0.0/24 2001:db8::/32", remote: all + " ::/0", routes: "10.10.0.0/24"},
		{name: "IPv6", address: "2001:db8:1::1/128", remote: "::/0", routes: "::/0"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if tc.address == "" {
				tc.address = "10.99.0.1/32"
			}
			a := ike.Assignment{Addresses: nets(tc.address), SplitInclude: nets(tc.include), SplitExclude: nets(tc.exclude), DNS: hosts(tc.dns), WINS: hosts(tc.wins)}
			stats := ike.Stats{Gateway: netip.AddrPortFrom(netip.MustParseAddr(gateway), 4500)}
			for _, remote := range nets(tc.remote) {
				stats.Children = append(stats.Children, ike.ChildStats{Remote: remote})
			}
			s := newSettings(&app.Profile{RoutesAdd: strings.Fields(tc.add), RoutesSkip: strings.Fields(tc.skip)}, &fakeSession{assignment: a, stats: stats}, nil)
			if !slices.Equal(s.routes, nets(tc.routes)) {
				t.Errorf("routes %v, want %v", s.routes, tc.routes)
			}
			if !slices.Equal(s.exclude, nets(tc.outside)) {
				t.Errorf("outside %v, want %v", s.exclude, tc.outside)
			}
			var codes []string
			for _, w := range s.warnings {
				codes = append(codes, w.Code)
			}
			if strings.Join(codes, " ") != tc.warning {
				t.Errorf("warnings %v", s.warnings)
			}
		})
	}
}

// A satellite office has addresses and networks of its own, and its local traffic
// stays where it is.
func TestOffice(t *testing.T) {
	own := hosts("192.0.2.99 10.5.0.7 10.5.0.8 fd00::5")
	for _, tc := range []struct {
		name, local, assigned, remote, addresses, routes, outside, warning string
	}{
		{name: "own address in the network", local: "10.5.0.0/24", remote: "10.20.0.0/16", addresses: "10.5.0.7/32", routes: "10.20.0.0/16"},
		{name: "a single address", local: "10.6.0.1/32", remote: "10.20.0.0/16", addresses: "10.6.0.1/32", routes: "10.20.0.0/16"},
		{name: "an address given as such", local: "10.6.0.1", remote: "10.20.0.0/16", addresses: "10.6.0.1/32", routes: "10.20.0.0/16"},
		{name: "none of ours", local: "10.7.0.0/24", remote: "10.20.0.0/16", routes: "10.20.0.0/16", warning: "no-office-address"},
		{name: "several", local: "10.5.0.0/24 10.5.0.7/32 fd00::/64", remote: "10.20.0.0/16 fd01::/64", addresses: "10.5.0.7/32 fd00::5/128", routes: "10.20.0.0/16 fd01::/64"},
		{name: "other family", local: "10.5.0.0/24", remote: "10.20.0.0/16 fd01::/64", addresses: "10.5.0.7/32", routes: "10.20.0.0/16"},
		{name: "an assigned address that no SA has", local: "10.5.0.0/24", assigned: "10.99.0.1/32", remote: "10.20.0.0/16", addresses: "10.5.0.7/32", routes: "10.20.0.0/16"},
		{name: "inside of the company's network", local: "10.5.0.0/16", remote: "10.4.0.0/15", addresses: "10.5.0.7/32", routes: "10.4.0.0/16"},
		{name: "full tunnel", local: "10.5.0.0/24", remote: "0.0.0.0/0", addresses: "10.5.0.7/32", routes: "0.0.0.0/0", outside: "10.5.0.0/24"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			session := &fakeSession{assignment: ike.Assignment{Addresses: nets(tc.assigned)}}
			for _, remote := range nets(tc.remote) {
				session.stats.Children = append(session.stats.Children, ike.ChildStats{Remote: remote})
			}
			s := newSettings(&app.Profile{LocalNetworks: strings.Fields(tc.local)}, session, func() []netip.Addr { return own })
			tunnel := s.tunnel("wayfarer0")
			if !slices.Equal(tunnel.Addresses, nets(tc.addresses)) || len(s.tunConfig().Addresses) != len(nets(tc.addresses)) {
				t.Errorf("addresses %v, want %v", tunnel.Addresses, tc.addresses)
			}
			if !slices.Equal(tunnel.Routes, nets(tc.routes)) || !slices.Equal(tunnel.Exclude, nets(tc.outside)) {
				t.Errorf("routes %v without %v, want %v without %v", tunnel.Routes, tunnel.Exclude, tc.routes, tc.outside)
			}
			var codes []string
			for _, w := range s.warnings {
				codes = append(codes, w.Code)
			}
			if strings.Join(codes, " ") != tc.warning {
				t.Errorf("warnings %v", s.warnings)
			}
			var c app.Connection
			if s.show(&c); !slices.Equal(c.Addresses, nets(tc.addresses)) {
				t.Errorf("status shows %v", c.Addresses)
			}
		})
	}
}

// Whatever is taken out of a network, the rest covers all but that.
func TestSubtract(t *testing.T) {
	outer := netip.MustParsePrefix("10.10.10.0/24")
	for _, hole := range nets("10.10.10.0/24 10.0.0.0/8 10.10.10.77/32 10.10.10.128/25 10.10.11.0/24") {
		left := subtract(outer, hole)
		for i := range 256 {
			addr := netip.AddrFrom4([4]byte{10, 10, 10, byte(i)})
			n := 0
			for _, p := range left {
				if p.Contains(addr) {
					n++
				}
			}
			if want := !hole.Contains(addr); want != (n == 1) || n > 1 {
				t.Fatalf("%v without %v: %v is covered %d times by %v", outer, hole, addr, n, left)
			}
		}
	}
}

func TestDomains(t *testing.T) {
	cases := []struct {
		def, split             string
		search, match, domains string
		dropped                int
	}{
		{def: "Corp.Example.", search: "corp.example", domains: "corp.example"},
		{def: "corp.example", split: "lab.example corp.example", search: "corp.example", match: "lab.example corp.example", domains: "corp.example lab.example"},
		{def: "corp.example", split: "lab.example", search: "corp.example", match: "lab.example corp.example", domains: "corp.example lab.example"},
		{split: "_msdcs.corp lab", match: "_msdcs.corp lab", domains: "_msdcs.corp lab"},
		{def: "corp\noptions:debug", split: "a..b -x x- ünicode ; $(reboot) ok", match: "ok", domains: "ok", dropped: 7},
		{def: strings.Repeat("a", 64) + ".example", dropped: 1},
		{def: strings.Repeat("a.", 127) + "aa", dropped: 1},
	}
	for i, tc := range cases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := newSettings(&app.Profile{}, &fakeSession{assignment: ike.Assignment{DefaultDomain: tc.def, SplitDNS: strings.Fields(tc.split)}}, nil)
			tunnel := s.tunnel("wayfarer0")
			for _, c := range []struct {
				what      string
				got, want string
			}{
				{"search", strings.Join(tunnel.SearchDomains, " "), tc.search},
				{"match", strings.Join(tunnel.MatchDomains, " "), tc.match},
				{"domains", strings.Join(s.allDomains(), " "), tc.domains},
			} {
				if c.got != c.want {
					t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
				}
			}
			if len(s.warnings) != tc.dropped {
				t.Errorf("warnings %v", s.warnings)
			}
		})
	}
}

func TestSettingsOfAProfile(t *testing.T) {
	if got := newSettings(&app.Profile{}, newSession(), nil).mtu; got != 1280 {
		t.Errorf("MTU of the session: %d", got)
	}
	if got := newSettings(&app.Profile{MTU: 1400}, &fakeSession{}, nil).mtu; got != 1400 {
		t.Errorf("MTU of the profile: %d", got)
	}
	for _, tt := range []struct {
		addresses string
		mtu       int // of the profile
		of        int // of the interface
	}{{"10.0.0.1/32", 1000, 1000}, {"10.0.0.1/32 fd00::1/128", 1000, 1280}, {"fd00::1/128", 1400, 1400}} {
		a := ike.Assignment{Addresses: nets(tt.addresses)}
		if s := newSettings(&app.Profile{MTU: tt.mtu}, &fakeSession{assignment: a}, nil); s.mtu != tt.of || s.limit != tt.mtu {
			t.Errorf("%s, MTU %d of the profile: interface %d, path %d", tt.addresses, tt.mtu, s.mtu, s.limit)
		}
	}
	s := newSettings(&app.Profile{}, &fakeSession{assignment: ike.Assignment{ForbidSave: true}}, nil)
	if len(s.warnings) != 1 || s.warnings[0].Code != app.WarningNoSave {
		t.Errorf("warnings %v", s.warnings)
	}
}

func TestClash(t *testing.T) {
	other := []wish{{
		owner:  &tunnel{id: "c1", profile: app.Profile{Name: "plant"}},
		tunnel: &platform.Tunnel{Addresses: nets("10.99.0.1/32"), Routes: nets("10.10.0.0/16 192.168.1.0/24")},
	}}
	full := []wish{{
		owner:  &tunnel{id: "c2", profile: app.Profile{Gateway: "vpn.example.com"}},
		tunnel: &platform.Tunnel{Addresses: nets("10.98.0.1/32"), Routes: nets("0.0.0.0/0")},
	}}
	cases := []struct {
		name    string
		others  []wish
		address string
		routes  string
		says    string // empty: no clash
	}{
		{"apart", other, "10.99.0.2/32", "10.20.0.0/16", ""},
		{"same network", other, "10.99.0.2/32", "192.168.1.0/24", "plant (c1) has the network 192.168.1.0/24"},
		{"part of one", other, "10.99.0.2/32", "10.10.7.0/24", "plant (c1) has the network 10.10.0.0/16"},
		{"covers one", other, "10.99.0.2/32", "10.0.0.0/8", "plant (c1) has the network 10.10.0.0/16"},
		{"same address", other, "10.99.0.1/32", "10.20.0.0/16", "plant (c1) has the address 10.99.0.1/32"},
		{"full beside split", other, "10.99.0.2/32", "0.0.0.0/0", ""},
		{"split beside full", full, "10.99.0.2/32", "10.10.0.0/16", ""},
		{"two full", full, "10.99.0.2/32", "0.0.0.0/0", "vpn.example.com (c2) carries all traffic"},
		{"another family", full, "2001:db8::1/128", "::/0", ""},
		{"alone", nil, "10.99.0.1/32", "0.0.0.0/0", ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := clash(&platform.Tunnel{Addresses: nets(tc.address), Routes: nets(tc.routes)}, tc.others)
			if tc.says == "" {
				if f != nil {
					t.Errorf("refused: %v", f)
				}
				return
			}
			if f == nil || f.Code != app.CodeNetworkConfig || f.Exit != 7 || !strings.Contains(f.Message, tc.says) {
				t.Errorf("%v, want %q", f, tc.says)
			}
		})
	}
}
