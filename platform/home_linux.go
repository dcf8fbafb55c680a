package platform

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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

// innerKinds are interfaces that lead to networks within the host, unless a default
// route leaves by them.
var innerKinds = []string{"bridge", "veth", "dummy", "tuntap", "wireguard"}

// notHome lists the interfaces of tunnels that stand or are wished.
func notHome(cfg Config, applied []change) []string {
	names := interfaces(cfg)
	for _, c := range applied {
		if link, ok := c.(*linkChange); ok {
			names = append(names, link.Name)
		}
	}
	return names
}

// look reads the host's surroundings; tunnels are interfaces that do not count.
func (h *linuxHost) look(tunnels []string) (*home, error) {
	var all home
	links, err := dump(func() ([]netlink.Link, error) { return h.nl.LinkList() })
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	inner := map[string]bool{}
	veths, carrier := map[string]bool{}, map[string]bool{}
	for _, link := range links {
		a := link.Attrs()
		if a.Flags&net.FlagLoopback == 0 && a.Flags&net.FlagUp != 0 && !slices.Contains(tunnels, a.Name) {
			names[a.Index] = a.Name
			inner[a.Name] = slices.Contains(innerKinds, link.Type())
			veths[a.Name] = link.Type() == "veth"
			carrier[a.Name] = a.RawFlags&unix.IFF_LOWER_UP != 0
		}
	}
	add := func(p netip.Prefix, link string) {
		p = p.Masked()
		if !p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() &&
			!slices.ContainsFunc(all.networks, func(n localNetwork) bool { return n.Prefix == p && n.link == link }) {
			all.networks = append(all.networks, localNetwork{Prefix: p, link: link})
		}
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.nl.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if link := names[a.LinkIndex]; link != "" {
			addr := prefixOf(a.IPNet).Addr()
			all.own = append(all.own, addr)
			if carrier[link] && !addr.IsLinkLocalUnicast() {
				all.ways = appendNew(all.ways, link)
			}
			add(prefixOf(a.IPNet), link)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump(func() ([]netlink.Route, error) {
			return h.nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Type == unix.RTN_UNICAST {
				all.addRoute(&r, names, inner, add)
			}
		}
	}
	for i, n := range all.networks {
		all.networks[i].inner = inner[n.link]
	}
	// A container's own interface is a veth as well.
	all.ways = slices.DeleteFunc(all.ways, func(link string) bool { return inner[link] && !veths[link] })
	all.dhcp = h.dhcpServers()
	return &all, nil
}

// addRoute learns from a route of the main table what the host is attached to.
func (all *home) addRoute(r *netlink.Route, names map[int]string, inner map[string]bool, add func(netip.Prefix, string)) {
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
	}
	for _, hop := range hops {
		link := names[hop.LinkIndex]
		gateway, ok := netip.AddrFromSlice(hop.Gw)
		switch toAll := isDefault(r); {
		case link == "":
		case toAll:
			inner[link] = false
			router := localAddr{gateway.Unmap(), link}
			if ok && !gateway.IsLinkLocalUnicast() && !slices.Contains(all.routers, router) {
				all.routers = append(all.routers, router)
			}
		case !ok:
			add(prefixOf(r.Dst), link)
		}
	}
}

func isDefault(r *netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// leaseFiles are where DHCP clients keep what they were given: systemd-networkd,
// NetworkManager's own client, dhclient.
var leaseFiles = []string{
	"run/systemd/netif/leases/*", "var/lib/NetworkManager/internal-*.lease",
	"var/lib/dhcp/dhclient*.leases", "var/lib/NetworkManager/dhclient-*.lease",
}

var leaseServer = regexp.MustCompile(`(?m)^\s*(?:SERVER_ADDRESS=|option dhcp-server-identifier )([0-9.]+)`)

// maxFile bounds what is read of a file that other programs write.
const maxFile = 1 << 20

// dhcpServers lists the servers of leases.
func (h *linuxHost) dhcpServers() []netip.Addr {
	var servers []netip.Addr
	for _, pattern := range leaseFiles {
		paths, _ := filepath.Glob(filepath.Join(h.root, pattern))
		for _, path := range paths {
			content, err := readBounded(path)
			if err != nil {
				continue
			}
			for _, match := range leaseServer.FindAllSubmatch(content, -1) {
				if addr, err := netip.ParseAddr(string(match[1])); err == nil {
					servers = appendNew(servers, addr)
				}
			}
		}
	}
	return servers
}

// readBounded reads a regular file of at most maxFile bytes.
func readBounded(path string) ([]byte, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
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

// covers says whether all of inner lies in outer.
func covers(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
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
	resolvesAll := slices.ContainsFunc(cfg.Tunnels, func(t Tunnel) bool { return len(t.DNS) > 0 && len(t.MatchDomains) == 0 })
	for _, r := range home.routers {
		if some, _ := routesOf(cfg, single(r.Addr)); len(some) > 0 && !strict && !isServer(cfg, r.Addr) {
			stay = appendNew(stay, single(r.Addr))
		}
	}
	for _, server := range servers {
		some, all := routesOf(cfg, single(server))
		if (all || len(some) > 0) && !resolvesAll && !strict && !isServer(cfg, server) && home.has(server) {
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

// overlaps implements host.
func (h *linuxHost) overlaps(cfg Config, applied []change) ([]Overlap, error) {
	home, err := h.look(notHome(cfg, applied))
	if err != nil {
		return nil, err
	}
	servers := h.nameservers(applied)
	return findOverlaps(cfg, home, servers, outsiders(cfg, home, servers)), nil
}
