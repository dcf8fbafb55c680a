package platform

import (
	"net/netip"
	"slices"
)

// neighbourICMPv6 are the types by which a host finds its neighbours and says which
// groups it listens to (RFC 4861 §4, RFC 2710 §3, RFC 3810 §5).
var neighbourICMPv6 = []uint8{131, 132, 133, 135, 136, 143}

// guard is a tunnel and the addresses that only it receives packets for.
type guard struct {
	Link      string
	Addresses []netip.Addr
}

// withheld is what a wish holds back of the host's traffic, whatever the system does it
// with.
type withheld struct {
	guards []guard
	// noIPv6: the tunnels take all IPv4 and not all IPv6.
	noIPv6 bool
	// dns: all names are the tunnels' to resolve.
	dns    bool
	local  []netip.Prefix // is not held back
	portal []netip.Addr   // the block lets the host itself reach them
}

// withholds says what is held back; servers are the host's own DNS servers.
func (cfg Config) withholds(home *home, servers []netip.Addr) withheld {
	var w withheld
	full := takesAll(cfg, netip.IPv4Unspecified())
	w.noIPv6 = full && !takesAll(cfg, netip.IPv6Unspecified())
	if cfg.BlockOutside && len(cfg.Portal) > 0 {
		w.portal = appendNew(slices.Clone(cfg.Portal), servers...)
	}
	if cfg.AllowLocal {
		for _, n := range home.networks {
			if isPrivate(n.Prefix) {
				w.local = appendNew(w.local, n.Prefix)
			}
		}
	}
	for _, t := range cfg.Tunnels {
		g := guard{Link: t.Interface}
		for _, a := range t.Addresses {
			// A site's gateway may have its own address as a tunnel's.
			if !slices.Contains(home.own, a.Addr()) {
				g.Addresses = append(g.Addresses, a.Addr())
			}
		}
		w.guards = append(w.guards, g)
		w.dns = w.dns || full && resolvesAll(t)
		if w.noIPv6 && !cfg.BlockOutside { // what the wish excludes is meant to be outside
			w.local = appendNew(w.local, t.Exclude...)
		}
	}
	return w
}
