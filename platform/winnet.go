package platform

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// winSystem is what is asked of Windows. What is missing is an error that wraps
// fs.ErrNotExist, what is there already one that wraps fs.ErrExist. Paths of the registry
// are below HKEY_LOCAL_MACHINE.
type winSystem struct {
	program string // path of this one, whose packets the filters let through
	// links lists the interfaces, with what they have been given.
	links         func() ([]winLink, error)
	settings      func(luid uint64, ipv6 bool) (winSettings, error)
	setSettings   func(luid uint64, ipv6 bool, s winSettings) error
	addAddress    func(luid uint64, a netip.Addr) error
	removeAddress func(luid uint64, a netip.Addr) error
	routes        func() ([]winRoute, error)
	addRoute      func(winRoute) error
	removeRoute   func(winRoute) error
	// setNames replaces the DNS servers of an interface and the domains that complete
	// names, for one address family.
	setNames func(luid uint64, ipv6 bool, servers []netip.Addr, search []string) error
	// readKey reads those values of a key that are a string, []string or uint32.
	readKey func(path string) (map[string]any, error)
	// writeKey makes a key if necessary and sets values; one that is nil is removed.
	writeKey  func(path string, values map[string]any) error
	removeKey func(path string) error
	subkeys   func(path string) ([]string, error)
	// reloadNames has the DNS client read the registry and forget what it knows. It
	// also watches the registry, so that being refused only delays.
	reloadNames func()
	// engine opens a session with the Windows Filtering Platform.
	engine func() (winEngine, error)
	// notify calls f whenever interfaces, addresses or routes have changed.
	notify func(f func()) (stop func(), err error)
	// notifyFilters calls f whenever a filter of the Windows Filtering Platform, whoever's,
	// was removed.
	notifyFilters func(f func()) (stop func(), err error)
	// notifyKeys calls f whenever something below one of these keys may have changed. One
	// that is not there is not watched.
	notifyKeys func(paths []string, f func()) (stop func(), err error)
	// notifyPower calls f before the computer sleeps and after that.
	notifyPower func(f func(asleep bool)) (stop func(), err error)
	// listen opens a UDP socket, which calls closed when it is closed.
	listen func(ctx context.Context, gateway netip.Addr, port uint16, closed func()) (net.PacketConn, syscall.RawConn, error)
	// bind has a socket send by one interface only (IP_UNICAST_IF), whatever the routes.
	bind func(c syscall.RawConn, ipv6 bool, index uint32) error
}

// winLink is an interface.
type winLink struct {
	LUID  uint64
	Index uint32
	GUID  string // in braces
	Name  string // as people see it
	// Description is the driver's.
	Description string
	Kind        uint32 // IANA's ifType
	Up          bool
	// Hardware: it is a device, and not made by a program.
	Hardware  bool
	Addresses []netip.Prefix // with the networks they are in
	DNS       []netip.Addr
	DHCP      []netip.Addr // the server of its address
	// Metric4 and Metric6 count for all its routes.
	Metric4, Metric6 uint32
}

// IANA's numbers of kinds of interface (ifType).
const (
	ifLoopback    = 24
	ifPPP         = 23
	ifPropVirtual = 53
	ifTunnel      = 131
)

func (l *winLink) metric(ipv6 bool) uint32 {
	if ipv6 {
		return l.Metric6
	}
	return l.Metric4
}

// winSettings are what an interface has per address family.
type winSettings struct {
	MTU        uint32 // bytes
	Metric     uint32 // is added to its routes' metrics
	AutoMetric bool   // Windows chooses the metric
	// DADTransmits is how often an address is asked for before it is used
	// (RFC 4862 §5.1, RFC 5227).
	DADTransmits uint32
	// RouterDiscovery is RFC 4861's, as Windows numbers it.
	RouterDiscovery int32
}

// routerDiscoveryOff: no router is asked for, and none believed.
const routerDiscoveryOff = 0

// winRoute is a route of Windows' one table.
type winRoute struct {
	LUID    uint64
	Dst     netip.Prefix
	NextHop netip.Addr // unspecified: the network is the interface's own
	Metric  uint32
}

func (r *winRoute) same(other *winRoute) bool {
	return r.LUID == other.LUID && r.Dst == other.Dst && r.NextHop == other.NextHop
}

// onLink says whether packets go to their destination without a router.
func (r *winRoute) onLink() bool { return r.NextHop.IsUnspecified() }

// unspecified is the zero address of a's family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// winView is the host's network at one moment.
type winView struct {
	links  []winLink
	routes []winRoute
}

func (s *winSystem) view() (*winView, error) {
	links, err := s.links()
	if err != nil {
		return nil, err
	}
	routes, err := s.routes()
	return &winView{links, routes}, err
}

func (v *winView) link(match func(*winLink) bool) *winLink {
	if i := slices.IndexFunc(v.links, func(l winLink) bool { return match(&l) }); i >= 0 {
		return &v.links[i]
	}
	return nil
}

func (v *winView) byName(name string) *winLink {
	return v.link(func(l *winLink) bool { return l.Name == name })
}

func (v *winView) byLUID(luid uint64) *winLink {
	return v.link(func(l *winLink) bool { return l.LUID == luid })
}

// has says whether an interface still has both name and number.
func (v *winView) has(luid uint64, name string) bool {
	return v.link(func(l *winLink) bool { return l.LUID == luid && l.Name == name }) != nil
}

// ownDriver begins the description of interfaces that package tun has made: they are up
// before a wish names them.
const ownDriver = "Wayfarer"

// leads says whether an interface leads out of the host, past the tunnels.
func (l *winLink) leads(tunnels []string) bool {
	return l.Up && l.Kind != ifLoopback && !slices.Contains(tunnels, l.Name) && !strings.HasPrefix(l.Description, ownDriver)
}

// outside is the interface of a route that leaves the host past the tunnels, or nil.
func (v *winView) outside(r *winRoute, tunnels []string) *winLink {
	if l := v.byLUID(r.LUID); l != nil && l.leads(tunnels) {
		return l
	}
	return nil
}

// ends says whether packets to an address end at the interface: it is one of its own, or a
// broadcast address (RFC 919 §7). Of any other a DHCP server, too, can say that it is on the
// link (RFC 3442).
func (l *winLink) ends(to netip.Addr) bool {
	return to == limitedBroadcast || slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool {
		return p.Addr() == to || to.Is4() && p.Bits() < 31 && lastOf(p) == to
	})
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// way is the route by which packets to an address leave outside of the tunnels: the
// longest prefix, then the smallest metric, as Windows chooses.
func (v *winView) way(to netip.Addr, tunnels []string) (way winRoute, link *winLink) {
	best := uint32(0)
	for _, r := range v.routes {
		l := v.outside(&r, tunnels)
		if l == nil || !r.Dst.Contains(to) {
			continue
		}
		metric := r.Metric + l.metric(to.Is6())
		if link == nil || r.Dst.Bits() > way.Dst.Bits() || r.Dst.Bits() == way.Dst.Bits() && metric < best {
			way, link, best = r, l, metric
		}
	}
	return way, link
}

// defaultLinks are the interfaces, tunnels aside, that a default route leaves by.
func (v *winView) defaultLinks(tunnels []string) []string {
	var names []string
	for _, r := range v.routes {
		if l := v.outside(&r, tunnels); l != nil && r.Dst.Bits() == 0 {
			names = appendNew(names, l.Name)
		}
	}
	return names
}

// home is the network that the host is in. What programs have made, virtual switches and
// other VPNs, ends within the host, unless a default route leaves by it.
func (v *winView) home(tunnels []string) *home {
	var all home
	ways := v.defaultLinks(tunnels)
	add := func(p netip.Prefix, l *winLink) {
		n := localNetwork{Prefix: p.Masked(), link: l.Name, inner: !l.Hardware && !slices.Contains(ways, l.Name)}
		if isLocal(p) && !slices.Contains(all.networks, n) {
			all.networks = append(all.networks, n)
		}
	}
	for i := range v.links {
		l := &v.links[i]
		if !l.leads(tunnels) {
			continue
		}
		all.dhcp = appendNew(all.dhcp, l.DHCP...)
		for _, a := range l.Addresses {
			all.own = append(all.own, a.Addr())
			if !a.Addr().IsLinkLocalUnicast() && (l.Hardware || slices.Contains(ways, l.Name)) {
				all.ways = appendNew(all.ways, l.Name)
			}
			add(a, l)
		}
	}
	for _, r := range v.routes {
		l := v.outside(&r, tunnels)
		switch {
		case l == nil:
		case r.Dst.Bits() == 0:
			if !r.onLink() && !r.NextHop.IsLinkLocalUnicast() {
				all.routers = appendNew(all.routers, localAddr{r.NextHop, l.Name})
			}
		case r.onLink():
			add(r.Dst, l)
		}
	}
	return &all
}

// nameservers are the DNS servers of the interfaces other than the tunnels, those of the
// preferred interface first. fec0:0:0:ffff::1 to ::3 are what Windows assumes where there
// are none.
func (v *winView) nameservers(tunnels []string) []netip.Addr {
	links := slices.Clone(v.links)
	slices.SortStableFunc(links, func(a, b winLink) int { return int(a.Metric4) - int(b.Metric4) })
	var servers []netip.Addr
	for _, l := range links {
		if !l.leads(tunnels) {
			continue
		}
		for _, a := range l.DNS {
			if !assumedServers.Contains(a) {
				servers = appendNew(servers, a)
			}
		}
	}
	return servers
}

var assumedServers = netip.MustParsePrefix("fec0:0:0:ffff::/64")
