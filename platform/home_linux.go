package platform

import (
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// innerKinds are interfaces that lead to networks within the host, unless a default
// route leaves by them.
var innerKinds = []string{"bridge", "veth", "dummy", "tuntap", "wireguard"}

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
		if isLocal(p) && !slices.ContainsFunc(all.networks, func(n localNetwork) bool { return n.Prefix == p && n.link == link }) {
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
		case !ok && prefixOf(r.Dst).Bits() == 1: // as good as all: another VPN's
			inner[link] = false
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

var leaseServer = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\s*(?:SERVER_ADDRESS=|option dhcp-server-identifier )([0-9.]+)`)
})

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
			for _, match := range leaseServer().FindAllSubmatch(content, -1) {
				if addr, err := netip.ParseAddr(string(match[1])); err == nil {
					servers = appendNew(servers, addr)
				}
			}
		}
	}
	return servers
}

// overlaps implements host.
func (h *linuxHost) overlaps(cfg Config, applied []change) ([]Overlap, error) {
	home, err := h.look(tunnelsOf(cfg, applied))
	if err != nil {
		return nil, err
	}
	servers := h.nameservers(applied)
	return findOverlaps(cfg, home, servers, outsiders(cfg, home, servers)), nil
}
