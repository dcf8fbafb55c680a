package platform

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// watch implements host. Of what the routing socket and configd say only the fact counts
// that they say something; what has changed is seen by looking. The clocks are compared then,
// too: interfaces that come back are the first that a wake is noticed by, and all that tells
// of one in which the display stays dark.
func (h *macHost) watch(ctx context.Context, tunnels func() []string) (*watchSource, error) {
	changes, err := h.sys.changes(ctx)
	if err != nil {
		return nil, err
	}
	var silent []string
	names, err := h.sys.names(ctx)
	if err != nil {
		silent = append(silent, "names")
		h.log.Warn("network: nobody tells when name servers are changed, so it is looked now and then", "error", err)
	}
	power, err := h.sys.power(ctx)
	if err != nil {
		silent = append(silent, "sleep")
		h.log.Warn("network: nobody tells when the computer sleeps, so the clocks do", "error", err)
	}
	hints, hint := newHints()
	slid, compare := newHints()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changes:
			case <-names:
				h.renamed.Store(true)
			}
			compare()
			hint()
		}
	}()
	look := func() (surroundings, error) {
		view, err := h.view(tunnels())
		if err != nil {
			return surroundings{}, err
		}
		return view.surroundings(), nil
	}
	return &watchSource{
		hints: hints, sleeps: watchSleep(ctx, h.log, h.sys.slept, power, nil, slid), silent: silent, look: look,
		intact:      func(standing []change) (bool, error) { return h.intact(ctx, standing) },
		blockIntact: func(standing []change) (bool, error) { return h.blockIntact(ctx, standing) },
	}, nil
}

// askTime is how long it takes at least, while the routing socket tells something, until
// programs are asked again for what it does not tell: it has messages of the neighbours, too,
// and to start programs at each would keep the computer busy.
const askTime = time.Minute

// intact says whether all is as it was made. Routes are compared whenever anything was told,
// keys of the dynamic store and rules of the packet filter when configd has told something,
// or askTime is over. Of rules, and of the key with WINS servers, nobody tells.
func (h *macHost) intact(ctx context.Context, standing []change) (bool, error) {
	h.lookAgain()
	ask := h.renamed.Swap(false) || time.Since(h.asked) >= askTime
	if ask {
		h.asked = time.Now()
	}
	for _, c := range standing {
		if stands, err := h.stillStands(ctx, c, ask); err != nil || !stands {
			if err != nil {
				h.renamed.Store(true) // so that it is looked again
			}
			return false, err
		}
	}
	return true, nil
}

// stillStands says so of one change, and, if programs are not to be asked, of what they would
// be asked for, too. What has gone with its interface is no news: who reads packets from that
// is told.
func (h *macHost) stillStands(ctx context.Context, c change, ask bool) (bool, error) {
	switch c := c.(type) {
	case *macRouteChange:
		stands, err := c.stands()
		return stands || h.names[c.Index] != c.Name, err
	case *macStoreChange:
		if ask {
			return c.stands(ctx)
		}
	case *macFilterChange:
		if ask {
			return h.holds(ctx)
		}
	}
	return true, nil
}

// blockIntact says whether the packet filter still holds back what a leak block holds back.
func (h *macHost) blockIntact(ctx context.Context, standing []change) (bool, error) {
	for _, c := range standing {
		if filter, ok := c.(*macFilterChange); ok && filter.Block {
			return h.holds(ctx)
		}
	}
	return true, nil
}

// surroundings describes the host without the tunnels.
func (v *macView) surroundings() surroundings {
	var network, defaults []string
	for _, l := range v.links {
		if !l.Up || l.Loopback || slices.Contains(v.tunnels, l.Name) {
			continue
		}
		network = append(network, fmt.Sprintf("link %d %s %v", l.Index, l.Name, l.Running))
		for _, a := range l.Addresses {
			network = append(network, fmt.Sprintf("address %v %s", a, l.Name))
		}
	}
	for _, r := range v.routes {
		switch link := v.outside(&r); {
		case link == nil || link.Loopback || r.Cloned:
		case r.isDefault():
			defaults = append(defaults, fmt.Sprintf("default via %v dev %d scoped %v", r.Gateway, r.Link, r.Scoped))
		case r.Gateway.IsValid() && !r.Scoped:
			network = append(network, fmt.Sprintf("route %v via %v dev %d", r.Dst, r.Gateway, r.Link))
		}
	}
	slices.Sort(network)
	slices.Sort(defaults)
	return surroundings{strings.Join(network, "\n"), strings.Join(defaults, "\n")}
}

// innerNames begin the names of interfaces that lead to networks within the host, unless
// a default route leaves by them: bridges to virtual machines, and other VPNs.
var innerNames = []string{"bridge", "vmnet", "vmenet", "vnic", "feth", "utun", "ipsec", "ppp", "tun", "tap", "gif", "stf"}

// vpnNames begin the names of interfaces that other VPNs have.
var vpnNames = []string{"utun", "ipsec", "ppp", "tun", "tap", "gif"}

// linkKind is the name of an interface without its number.
func linkKind(name string) string { return strings.TrimRight(name, "0123456789") }

func isVPN(name string) bool { return slices.Contains(vpnNames, linkKind(name)) }

// look is the network that the host is in.
func (h *macHost) look(ctx context.Context, v *macView) *home {
	all := v.home()
	var asked []string
	for _, r := range all.routers {
		if slices.Contains(asked, r.link) {
			continue
		}
		asked = append(asked, r.link)
		// An interface whose addresses somebody has typed in has no server.
		said, err := h.sys.run(ctx, "", ipconfigPath, "getoption", r.link, "server_identifier")
		if a, parseErr := netip.ParseAddr(strings.TrimSpace(said)); err == nil && parseErr == nil {
			all.dhcp = appendNew(all.dhcp, a)
		}
	}
	return all
}

func (v *macView) home() *home {
	var all home
	exits := map[string]bool{}
	for _, r := range v.routes {
		if link := v.outside(&r); link != nil && r.isDefault() && !r.Scoped {
			exits[link.Name] = true
		}
	}
	inner := func(l *macLink) bool { return slices.Contains(innerNames, linkKind(l.Name)) && !exits[l.Name] }
	add := func(p netip.Prefix, l *macLink) {
		n := localNetwork{Prefix: p.Masked(), link: l.Name, inner: inner(l)}
		if isLocal(p) && !slices.Contains(all.networks, n) {
			all.networks = append(all.networks, n)
		}
	}
	for i := range v.links {
		l := &v.links[i]
		if !l.Up || l.Loopback || slices.Contains(v.tunnels, l.Name) {
			continue
		}
		for _, a := range l.Addresses {
			all.own = append(all.own, a.Addr())
			if l.Running && !a.Addr().IsLinkLocalUnicast() && !inner(l) {
				all.ways = appendNew(all.ways, l.Name)
			}
			add(a, l)
		}
	}
	for _, r := range v.routes {
		link := v.outside(&r)
		switch {
		case link == nil || link.Loopback || r.Cloned || r.Scoped && !r.isDefault():
		case r.isDefault():
			if r.Gateway.IsValid() && !r.Gateway.IsLinkLocalUnicast() {
				all.routers = appendNew(all.routers, localAddr{r.Gateway, link.Name})
			}
		case !r.Gateway.IsValid():
			add(r.Dst, link)
		}
	}
	return &all
}

// overlaps implements host.
func (h *macHost) overlaps(cfg Config, applied []change) ([]Overlap, error) {
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	view, err := h.view(tunnelsOf(cfg, applied))
	if err != nil {
		return nil, err
	}
	home, servers := h.look(ctx, view), h.nameservers(applied)
	return findOverlaps(cfg, home, servers, h.outsiders(cfg, home, servers)), nil
}

// outsiders lists what stays outside although nobody asked for it.
func (h *macHost) outsiders(cfg Config, home *home, servers []netip.Addr) []netip.Prefix {
	return appendNew(outsiders(cfg, home, servers), h.anchors(cfg, home)...)
}

// online implements host.
func (h *macHost) online(tunnels []string) (bool, error) {
	view, err := h.view(tunnels)
	if err != nil {
		return false, err
	}
	return len(view.home().ways) > 0, nil
}

// conflicts implements host. A route that only counts for bound sockets is nobody's claim:
// the system has several for itself.
func (h *macHost) conflicts(ctx context.Context, tunnels []string) ([]Conflict, error) {
	view, err := h.view(tunnels)
	if err != nil {
		return nil, err
	}
	var found []Conflict
	for _, r := range view.routes {
		if link := view.outside(&r); link != nil && isVPN(link.Name) && !r.Scoped && r.Dst.Bits() <= 1 {
			found = appendNew(found, Conflict{
				Interface: link.Name, Owner: linkKind(link.Name), Claim: r.Dst.String(), Wins: view.wins(link.Index, r.Dst),
			})
		}
	}
	said, err := h.sys.run(ctx, "", scutilPath, "--dns")
	if err != nil {
		h.log.Debug("network: nobody tells who resolves names", "error", err)
	}
	for _, r := range parseResolvers(said) {
		if r.domain == "" && isVPN(r.link) && !slices.Contains(tunnels, r.link) {
			found = appendNew(found, Conflict{Interface: r.link, Owner: linkKind(r.link), Claim: "DNS"})
		}
	}
	return found, nil
}

// wins says whether packets into a network leave by an interface although a tunnel has
// routes for all addresses, which are in two halves at least.
func (v *macView) wins(index int, network netip.Prefix) bool {
	to := somewhere(network)
	all := false
	var best *macRoute
	for i, r := range v.routes {
		if r.Scoped || r.Cloned {
			continue
		}
		tunnel := v.byIndex(r.Link) != nil && v.outside(&r) == nil
		all = all || tunnel && r.Dst.Bits() <= 2 && r.Dst.Addr().Is4() == to.Is4()
		if r.Dst.Contains(to) && (best == nil || r.Dst.Bits() > best.Dst.Bits()) {
			best = &v.routes[i]
		}
	}
	return all && best.Link == index
}
