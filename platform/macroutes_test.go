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
