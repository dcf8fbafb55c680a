package platform

import (
	"net/netip"
	"slices"
	"strings"
)

// merged are servers and search domains of all tunnels, those first that are to resolve
// all names.
func merged(tunnels []Tunnel) (servers []netip.Addr, search []string) {
	tunnels = slices.Clone(tunnels)
	slices.SortStableFunc(tunnels, func(a, b Tunnel) int {
		return min(len(a.MatchDomains), 1) - min(len(b.MatchDomains), 1)
	})
	for _, t := range tunnels {
		servers = appendNew(servers, t.DNS...)
		search = appendNew(search, t.SearchDomains...)
	}
	return servers, search
}

// isBelow says whether a domain is another one, or below that.
func isBelow(domain, other string) bool {
	domain, other = strings.ToLower(strings.Trim(domain, ".")), strings.ToLower(strings.Trim(other, "."))
	return domain == other || strings.HasSuffix(domain, "."+other)
}

// resolvesAll says whether all names are the tunnel's to resolve.
func resolvesAll(t Tunnel) bool { return len(t.DNS) > 0 && len(t.MatchDomains) == 0 }
