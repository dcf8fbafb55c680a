package platform

import (
	"cmp"
	"net/netip"
	"slices"
)

// macWay is where packets to a network shall go: into a tunnel, or, with an empty name,
// wherever the host sends them without tunnels.
type macWay struct {
	netip.Prefix
	tunnel string
}

// carve lists the routes into the tunnels that make packets go the ways that are wanted,
// of which the longest prefix counts, on a host that has but one table of routes. There
// the host's own routes are in the way, and nothing can be said to stay outside:
//
//   - where the host has a route for the same network, or for a part of it, two halves of
//     that are routed: they are more specific, and the host's route stays as it is;
//   - around what stays outside, and is in no such part, a network is cut up.
//
// A host's route for a single address cannot be outdone: that stays outside.
func carve(wanted []macWay, host []netip.Prefix) []macWay {
	var c carver
	for _, all := range []netip.Prefix{
		netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	} {
		c.walk(all, within(wanted, all), hostWithin(host, all), "", "")
	}
	slices.SortFunc(c.routes, func(a, b macWay) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return c.routes
}

type carver struct{ routes []macWay }

// walk adds the routes below p. Wanted and host are those in p, and p itself; want is
// where packets to p shall go, and is where they go by the routes around p.
func (c *carver) walk(p netip.Prefix, wanted []macWay, host []netip.Prefix, want, is string) {
	if i := slices.IndexFunc(wanted, func(w macWay) bool { return w.Prefix == p }); i >= 0 {
		want = wanted[i].tunnel
	}
	taken := slices.Contains(host, p)
	if taken {
		is = ""
	}
	inner := slices.DeleteFunc(slices.Clone(wanted), func(w macWay) bool { return w.Prefix == p })
	innerHost := slices.DeleteFunc(slices.Clone(host), func(h netip.Prefix) bool { return h == p })
	if want == is && len(inner) == 0 && (want == "" || len(innerHost) == 0) {
		return
	}
	if want != is && !taken && !exposes(inner, innerHost) {
		c.routes = append(c.routes, macWay{p, want})
		is = want
	}
	if p.IsSingleIP() || want == is && len(inner)+len(innerHost) == 0 {
		return
	}
	low, high := halves(p)
	for _, half := range []netip.Prefix{low, high} {
		c.walk(half, within(inner, half), hostWithin(innerHost, half), want, is)
	}
}

// exposes says whether a route around these would take with it what stays outside, for
// lack of a route of the host's that is more specific.
func exposes(inner []macWay, host []netip.Prefix) bool {
	return slices.ContainsFunc(inner, func(w macWay) bool {
		return w.tunnel == "" && !slices.ContainsFunc(host, func(h netip.Prefix) bool { return covers(h, w.Prefix) })
	})
}

func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits() + 1
	upper := p.Addr().AsSlice()
	upper[(bits-1)/8] |= 1 << (7 - (bits-1)%8)
	addr, _ := netip.AddrFromSlice(upper)
	return netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(addr, bits)
}

func within(ways []macWay, p netip.Prefix) []macWay {
	return slices.DeleteFunc(slices.Clone(ways), func(w macWay) bool { return !covers(p, w.Prefix) })
}

func hostWithin(host []netip.Prefix, p netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(host), func(h netip.Prefix) bool { return !covers(p, h) })
}
