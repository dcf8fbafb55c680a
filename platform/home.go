package platform

import (
	"net/netip"
	"slices"
)

// home is the network that the host is in, without tunnels.
type home struct {
	networks []localNetwork
	routers  []localAddr // default gateways
	dhcp     []netip.Addr
	own      []netip.Addr // the host's addresses
	ways     []string     // interfaces by which packets can leave the host
}

// localNetwork is a network that an interface is attached to.
type localNetwork struct {
	netip.Prefix
	link string
	// inner: it ends within the host, as a container's does.
	inner bool
}

type localAddr struct {
	netip.Addr
	link string
}

// privateNetworks are the addresses that a local network may have: RFC 1918, RFC 6598,
// RFC 3927, RFC 4193. Others belong to somebody, and a network that hands them out may
// want to see the packets to their owner (CVE-2023-36672).
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
}

func isPrivate(p netip.Prefix) bool {
	return slices.ContainsFunc(privateNetworks, func(private netip.Prefix) bool { return covers(private, p) })
}

// isLocal says whether p can be a local network: of several hosts, and not the one that
// every link has.
func isLocal(p netip.Prefix) bool {
	return !p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast()
}

// covers says whether all of inner lies in outer.
func covers(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// lastOf is the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	last := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(last)
	return a
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// routesOf lists the routes of a wish that contain p, without those for all addresses,
// and says whether there is one for all.
func routesOf(cfg Config, p netip.Prefix) (some []netip.Prefix, all bool) {
	for _, t := range cfg.Tunnels {
		for _, r := range t.Routes {
			switch {
			case !covers(r.Masked(), p):
			case r.Bits() == 0:
				all = true
			default:
				some = append(some, r.Masked())
			}
		}
	}
	return some, all
}

// outsiders lists what stays outside although the tunnels' routes cover it, and
// although nobody asked for it:
//
//   - of the local networks, beside a full tunnel, those within the host, and with
//     AllowLocal those with private addresses;
//   - the routers, and the DNS servers in use as long as the tunnels do not resolve
//     all names, if they are in a local network that a tunnel's route covers.
//
// A strict block would hold them back anyway.
func outsiders(cfg Config, home *home, servers []netip.Addr) []netip.Prefix {
	var stay []netip.Prefix
	strict := cfg.BlockOutside && !cfg.AllowLocal
	for _, n := range home.networks {
		some, all := routesOf(cfg, n.Prefix)
		if all && len(some) == 0 && (n.inner || cfg.AllowLocal && isPrivate(n.Prefix)) {
			stay = appendNew(stay, n.Prefix)
		}
	}
	named := slices.ContainsFunc(cfg.Tunnels, resolvesAll)
	for _, r := range home.routers {
		if some, _ := routesOf(cfg, single(r.Addr)); len(some) > 0 && !strict && !isServer(cfg, r.Addr) {
			stay = appendNew(stay, single(r.Addr))
		}
	}
	for _, server := range servers {
		some, all := routesOf(cfg, single(server))
		if (all || len(some) > 0) && !named && !strict && !isServer(cfg, server) && home.has(server) {
			stay = appendNew(stay, single(server))
		}
	}
	return slices.DeleteFunc(stay, func(p netip.Prefix) bool {
		return slices.ContainsFunc(cfg.Tunnels, func(t Tunnel) bool {
			return slices.ContainsFunc(slices.Concat(t.Routes, t.Exclude), func(r netip.Prefix) bool { return r.Masked() == p })
		})
	})
}

// isServer says whether an address is a name server of a tunnel: then it is in the
// tunnel that it is needed.
func isServer(cfg Config, a netip.Addr) bool {
	return slices.ContainsFunc(cfg.Tunnels, func(t Tunnel) bool { return slices.Contains(slices.Concat(t.DNS, t.WINS), a) })
}

// has says whether an address is in a local network with private addresses.
func (all *home) has(a netip.Addr) bool {
	return slices.ContainsFunc(all.networks, func(n localNetwork) bool { return n.Contains(a) && isPrivate(n.Prefix) })
}

// linkOf names the interface that leads to a local address.
func (all *home) linkOf(a netip.Addr) string {
	for _, n := range all.networks {
		if n.Contains(a) {
			return n.link
		}
	}
	return ""
}

// findOverlaps compares the surroundings with the tunnels' routes. Stay are the
// networks that are kept outside.
func findOverlaps(cfg Config, home *home, servers []netip.Addr, stay []netip.Prefix) []Overlap {
	var found []Overlap
	note := func(kind OverlapKind, local netip.Prefix, link string) {
		kept := slices.ContainsFunc(stay, func(p netip.Prefix) bool { return covers(p, local) })
		for _, t := range cfg.Tunnels {
			for _, r := range t.Routes {
				if r = r.Masked(); r.Bits() > 0 && r.Overlaps(local) {
					found = append(found, Overlap{kind, local, link, t.Interface, r, kept})
				}
			}
		}
	}
	for _, n := range home.networks {
		note(OverlapNetwork, n.Prefix, n.link)
	}
	for _, r := range home.routers {
		note(OverlapRouter, single(r.Addr), r.link)
	}
	for kind, addrs := range map[OverlapKind][]netip.Addr{OverlapDNS: servers, OverlapDHCP: home.dhcp} {
		for _, a := range addrs {
			if link := home.linkOf(a); link != "" {
				note(kind, single(a), link)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Overlap) int { return overlapOrder[a.Kind] - overlapOrder[b.Kind] })
	return found
}

var overlapOrder = map[OverlapKind]int{OverlapNetwork: 0, OverlapRouter: 1, OverlapDNS: 2, OverlapDHCP: 3}

// takesAll says whether the tunnels' routes cover all addresses of a family, at once
// or in halves.
func takesAll(cfg Config, zero netip.Addr) bool {
	var halves []netip.Prefix
	for _, t := range cfg.Tunnels {
		for _, r := range t.Routes {
			if r = r.Masked(); r.Addr().Is4() != zero.Is4() {
				continue
			}
			switch r.Bits() {
			case 0:
				return true
			case 1:
				halves = appendNew(halves, r)
			}
		}
	}
	return len(halves) == 2
}

// localGroups are where local networks find their members: multicast that routers do
// not pass on (RFC 5771 §4, RFC 2365 §5, RFC 4291 §2.7), broadcast, link-local addresses.
var localGroups = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/24"),
	netip.MustParsePrefix("239.255.0.0/16"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff02::/16"),
}

// openPrefixes are the destinations that a block does not hold back: the local networks
// with what finds their members, and what IPv6 needs of the link where only it is blocked.
func openPrefixes(local []netip.Prefix, block, blockIPv6 bool) []netip.Prefix {
	open := slices.Clone(local)
	if len(open) > 0 {
		open = append(open, localGroups...)
	}
	if blockIPv6 {
		open = appendNew(open, netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff02::/16"))
	}
	return slices.DeleteFunc(open, func(p netip.Prefix) bool { return p.Addr().Is4() && !block })
}

func appendNew[T comparable](list []T, more ...T) []T {
	for _, v := range more {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// somewhere is an address in a network for all addresses or half of them, of which
// nobody has routes: anycast that is no more in use (RFC 7526), or a network that is
// not globally reachable (RFC 6666).
func somewhere(network netip.Prefix) netip.Addr {
	for _, addr := range []netip.Addr{
		netip.AddrFrom4([4]byte{192, 88, 99, 1}), netip.AddrFrom4([4]byte{1, 0, 0, 0}),
		netip.MustParseAddr("100::1"), netip.MustParseAddr("8000::1"),
	} {
		if network.Contains(addr) {
			return addr
		}
	}
	return network.Addr()
}
