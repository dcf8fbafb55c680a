package platform

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func waysOf(text string) []macWay {
	var all []macWay
	for _, word := range strings.Fields(text) {
		network, tunnel, _ := strings.Cut(word, ">")
		all = append(all, macWay{netip.MustParsePrefix(network), tunnel})
	}
	return all
}

func waysText(all []macWay) string {
	var words []string
	for _, w := range all {
		words = append(words, w.Prefix.String()+">"+w.tunnel)
	}
	return strings.Join(words, " ")
}

func TestCarve(t *testing.T) {
	const lan = "0.0.0.0/0 127.0.0.0/8 192.168.1.0/24 192.168.1.1/32 192.168.1.20/32 224.0.0.0/4"
	for _, tt := range []struct {
		name, wanted, host, want string
	}{
		{"nothing", "", lan, ""},
		{"split", "10.0.0.0/8>a", lan, "10.0.0.0/8>a"},
		{"full, no network", "0.0.0.0/0>a", "", "0.0.0.0/0>a"},
		{"full, nothing but a router", "0.0.0.0/0>a", "0.0.0.0/0", "0.0.0.0/1>a 128.0.0.0/1>a"},
		{
			"full, the local network too", "0.0.0.0/0>a 127.0.0.0/8> 224.0.0.0/4> 192.168.1.1/32> 192.168.1.20/32>", lan,
			"0.0.0.0/1>a 128.0.0.0/1>a 192.168.1.0/25>a 192.168.1.128/25>a",
		},
		{
			"full, the local network stays", "0.0.0.0/0>a 127.0.0.0/8> 224.0.0.0/4> 192.168.1.0/24>", lan,
			"0.0.0.0/1>a 128.0.0.0/1>a",
		},
		{
			"a router without a route of its own", "192.168.1.0/24>a 192.168.1.1/32>", "0.0.0.0/0 192.168.1.0/24",
			"192.168.1.0/32>a 192.168.1.2/31>a 192.168.1.4/30>a 192.168.1.8/29>a 192.168.1.16/28>a 192.168.1.32/27>a 192.168.1.64/26>a 192.168.1.128/25>a",
		},
		{
			"a host's route for one address", "192.168.1.0/24>a", "0.0.0.0/0 192.168.1.0/24 192.168.1.1/32",
			"192.168.1.0/25>a 192.168.1.128/25>a",
		},
		{"what is excluded", "10.0.0.0/8>a 10.128.0.0/9>", lan, "10.0.0.0/9>a"},
		{"a route in what is excluded", "10.0.0.0/8>a 10.128.0.0/9> 10.192.0.0/16>a", lan, "10.0.0.0/9>a 10.192.0.0/16>a"},
		{"a tunnel in another", "10.0.0.0/8>a 10.1.0.0/16>b", lan, "10.0.0.0/8>a 10.1.0.0/16>b"},
		{"another program's full tunnel", "0.0.0.0/0>a", "0.0.0.0/0 0.0.0.0/1 128.0.0.0/1", "0.0.0.0/2>a 64.0.0.0/2>a 128.0.0.0/2>a 192.0.0.0/2>a"},
		{
			"IPv6", "::/0>a fe80::/10> ff00::/8>", "::/0 fe80::/64 fe80::/10 ff00::/8 2001:db8::/64 2001:db8::20/128",
			"::/1>a 2001:db8::/65>a 2001:db8:0:0:8000::/65>a 8000::/1>a",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := carve(waysOf(tt.wanted), prefixes(strings.Fields(tt.host)...))
			if text := waysText(got); text != tt.want {
				t.Errorf("got %s", text)
			}
			checkWays(t, waysOf(tt.wanted), prefixes(strings.Fields(tt.host)...), got)
		})
	}
}

// longest is the way of the longest prefix around an address.
func longest(ways []macWay, a netip.Addr) string {
	bits, tunnel := -1, ""
	for _, w := range ways {
		if w.Contains(a) && w.Bits() > bits {
			bits, tunnel = w.Bits(), w.tunnel
		}
	}
	return tunnel
}

// checkWays asks, at both ends of every network, where packets go and where they shall.
func checkWays(t *testing.T, wanted []macWay, host []netip.Prefix, got []macWay) {
	t.Helper()
	table := slices.Clone(got)
	for _, h := range host {
		table = append(table, macWay{h, ""})
		if slices.ContainsFunc(got, func(w macWay) bool { return w.Prefix == h }) {
			t.Fatalf("%v is the host's route already", h)
		}
	}
	for _, w := range slices.Concat(wanted, table) {
		end := lastOf(w.Prefix)
		for _, a := range []netip.Addr{w.Addr(), end, w.Addr().Prev(), end.Next()} {
			if !a.IsValid() || slices.Contains(host, single(a)) {
				continue // what the host has a route of its own for stays outside
			}
			if got, want := longest(table, a), longest(wanted, a); got != want {
				t.Fatalf("%v goes to %q instead of %q", a, got, want)
			}
		}
	}
}

// TestCarveAnything: any wish on any host, each address of a small network.
func TestCarveAnything(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 7))
	network := func() netip.Prefix {
		p, _ := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(64))}).Prefix(26 + random.IntN(7))
		return p
	}
	for range 3000 {
		var wanted []macWay
		var host []netip.Prefix
		for range random.IntN(6) {
			w := macWay{network(), []string{"", "a", "b"}[random.IntN(3)]}
			if !slices.ContainsFunc(wanted, func(o macWay) bool { return o.Prefix == w.Prefix }) {
				wanted = append(wanted, w)
			}
		}
		for range random.IntN(6) {
			host = appendNew(host, network())
		}
		got := carve(wanted, host)
		table := slices.Clone(got)
		for _, h := range host {
			table = append(table, macWay{h, ""})
		}
		for i := range 64 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			if got, want := longest(table, a), longest(wanted, a); got != want && !slices.Contains(host, single(a)) {
				t.Fatal(fmt.Sprintf("wanted %s, host %v: %v goes to %q instead of %q by ", waysText(wanted), host, a, got, want), waysText(table))
			}
		}
		checkWays(t, wanted, host, got)
	}
}

// TestMacHostRoutes: routes for single addresses cannot be outdone, so they are told, unless
// they are meant to be there.
func TestMacHostRoutes(t *testing.T) {
	both := macFull
	both.Exclude = prefixes("198.51.100.0/24")
	for _, tt := range []struct {
		name string
		cfg  Config
		want []netip.Addr
	}{
		{"full", Config{Tunnels: []Tunnel{both}}, addrs("192.168.1.77", "203.0.113.5", "203.0.113.9", "2001:db8:5::5")},
		{"full, with local networks", Config{Tunnels: []Tunnel{both}, AllowLocal: true}, addrs("203.0.113.5", "203.0.113.9", "2001:db8:5::5")},
		{"all is held back", Config{Tunnels: []Tunnel{both}, BlockOutside: true}, nil},
		{"other networks", Config{Tunnels: []Tunnel{macTunnel}}, nil},
		{"one of them", Config{Tunnels: []Tunnel{{Interface: "utun4", MTU: 1300, Routes: prefixes("203.0.113.9/32")}}}, addrs("203.0.113.9")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeMac()
			router := addrs("192.168.1.1")[0]
			for _, p := range prefixes("203.0.113.5/32", "203.0.113.9/32", "192.168.1.77/32", "198.51.100.9/32", "2001:db8:5::5/128") {
				f.routes = append(f.routes, macRoute{Dst: p, Gateway: router, Link: 4})
			}
			f.routes = append(f.routes, macRoute{Dst: prefixes("203.0.113.44/32")[0], Gateway: router, Link: 4, Cloned: true})
			// A modem: its own address and the router's are no network.
			f.links = append(f.links, macLink{Index: 20, Name: "ppp0", MTU: 1400, Up: true, Running: true, Addresses: prefixes("203.0.113.60/32")})
			f.routes = append(f.routes, macRoute{Dst: prefixes("0.0.0.0/0")[0], Gateway: addrs("203.0.113.61")[0], Link: 20, Scoped: true},
				macRoute{Dst: prefixes("203.0.113.60/32")[0], Link: 1}, macRoute{Dst: prefixes("203.0.113.61/32")[0], Link: 20})
			n, _ := f.network(t, t.TempDir())
			run(t, "Set", n.Set(t.Context(), tt.cfg))
			if got := n.Report().Outside; !slices.Equal(got, tt.want) {
				t.Errorf("outside are %v", got)
			}
		})
	}
}
