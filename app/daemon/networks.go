package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/platform"
	"wayfarer/tun"
)

// settings is what the host gets: the gateway's wishes, as the profile changes them.
type settings struct {
	assignment ike.Assignment
	addresses  []netip.Prefix // of the interface
	local      []netip.Prefix // on this side of the tunnel: addresses, or an office's networks
	mtu        int            // of the interface
	limit      int            // of inner packets that the path to the gateway carries
	routes     []netip.Prefix // into the tunnel
	exclude    []netip.Prefix // out of a full tunnel
	search     []string       // domains that complete a short name
	match      []string       // the only domains that the tunnel's DNS is asked; empty: all
	warnings   []app.Warning
}

// newSettings decides which networks go into the tunnel:
//
//  1. the split-include list, if the gateway gave one; else what the SAs' selectors
//     cover, if that is less than everything; else everything (a full tunnel);
//  2. never more than the selectors cover: the engine would drop it;
//  3. the tunnel's DNS and WINS servers, wherever they are: names must not leave in
//     the clear because a gateway forgot its own servers;
//  4. with routes_add, without routes_skip.
//
// The gateway's own address gets no route of its own into the tunnel; a wider
// network may hold it, because the service's sockets pass the tunnel by. No route
// around the tunnel is made for it either: that would let a forged address of the
// gateway pull other traffic out (TunnelCrack, ServerIP). Split-exclude lists come
// from the gateway as well and are not obeyed (TunnelCrack, LocalNet).
//
// An office (local_networks) has addresses of its own: see [settings.settle].
func newSettings(p *app.Profile, session Session, own func() []netip.Addr) settings {
	a, stats := session.Assignment(), session.Stats()
	s := settings{assignment: a, addresses: a.Addresses, local: a.Addresses}
	if len(p.LocalNetworks) > 0 {
		s.settle(prefixes(p.LocalNetworks), own())
	}
	s.fit(p, session.MTU())
	covered := selectors(stats.Children)
	base := a.SplitInclude
	if len(base) == 0 {
		base = covered
	}
	routes := intersect(base, covered)
	for _, server := range slices.Concat(a.DNS, a.WINS) {
		host := netip.PrefixFrom(server, server.BitLen())
		if !anyContains(routes, host) && anyContains(covered, host) {
			routes = append(routes, host)
		}
	}
	for _, added := range prefixes(p.RoutesAdd) {
		if !anyContains(covered, added) {
			s.warn("route-not-covered", fmt.Sprintf("%v is routed into the tunnel, but the gateway agreed to %s only", added, list(covered)))
		}
		routes = append(routes, added)
	}
	holes := prefixes(p.RoutesSkip)
	for _, network := range prefixes(p.LocalNetworks) {
		if !network.IsSingleIP() {
			holes = append(holes, network) // on this side, also where the gateway's networks are wider
		}
	}
	s.routes, s.exclude = skip(routes, holes)
	s.routes = slices.DeleteFunc(s.routes, func(r netip.Prefix) bool {
		return r.IsSingleIP() && r.Addr() == stats.Gateway.Addr().Unmap() || !s.hasFamily(r)
	})
	s.routes = minimal(s.routes)
	s.domains()
	if a.ForbidSave {
		s.warnings = append(s.warnings, app.Warning{
			Code: app.WarningNoSave, Severity: app.SeverityInfo,
			Text: "the gateway forbids storing the password",
		})
	}
	return s
}

// settle gives the interface addresses where the gateway takes packets from an
// office's networks only: a network of one address is that address; of a wider one it
// is this computer's own address there, so that its programs do not speak from an
// outside address.
func (s *settings) settle(local []netip.Prefix, own []netip.Addr) {
	s.addresses, s.local = nil, local
	for _, network := range local {
		addr := network.Addr()
		if !network.IsSingleIP() {
			i := slices.IndexFunc(own, network.Contains)
			if i < 0 {
				s.warn("no-office-address", fmt.Sprintf("this computer has no address in %v: only others there reach the networks behind the gateway", network))
				continue
			}
			addr = own[i]
		}
		if p := netip.PrefixFrom(addr, addr.BitLen()); !slices.Contains(s.addresses, p) {
			s.addresses = append(s.addresses, p)
		}
	}
}

// fit sets how large packets may be. An interface must take more than small paths carry
// whole: the pump cuts what is too large for them. What a profile says counts instead
// of what was found out; but below its least MTU an interface has no IPv6.
func (s *settings) fit(p *app.Profile, limit int) {
	if p.MTU != 0 {
		limit = p.MTU
	}
	s.mtu, s.limit = max(limit, tun.MinMTU), limit
	if s.hasFamily(allIPv6) {
		s.mtu = max(s.mtu, tun.MinIPv6MTU)
	}
}

func (s *settings) warn(code, text string) {
	s.warnings = append(s.warnings, app.Warning{Code: code, Severity: app.SeverityWarning, Text: text})
}

// hasFamily: without an address of its family a route leads nowhere.
func (s *settings) hasFamily(r netip.Prefix) bool {
	return slices.ContainsFunc(s.local, func(a netip.Prefix) bool {
		return a.Addr().Is4() == r.Addr().Is4()
	})
}

// domains takes the gateway's names: whatever is none is dropped, because names end
// up in configuration files.
func (s *settings) domains() {
	take := func(names []string) (good []string) {
		for _, name := range names {
			name = strings.ToLower(strings.Trim(strings.TrimSpace(name), "."))
			switch {
			case !isDomain(name):
				s.warnings = append(s.warnings, app.Warning{
					Code: "gateway-settings", Severity: app.SeverityInfo,
					Text: fmt.Sprintf("the gateway gave a domain that is none: %q", printable(name, 64)),
				})
			case !slices.Contains(good, name):
				good = append(good, name)
			}
		}
		return good
	}
	if s.assignment.DefaultDomain != "" {
		s.search = take([]string{s.assignment.DefaultDomain})
	}
	if s.match = take(s.assignment.SplitDNS); len(s.match) > 0 {
		for _, name := range s.search {
			if !slices.Contains(s.match, name) {
				s.match = append(s.match, name)
			}
		}
	}
}

// isDomain: labels of letters, digits, hyphens and underscores (RFC 1123 §2.1, and
// what Active Directory adds), each up to 63 bytes, 253 in all.
func isDomain(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// address is what a reconnect asks for again.
func (s *settings) address() netip.Addr {
	if len(s.assignment.Addresses) == 0 {
		return netip.Addr{}
	}
	return s.assignment.Addresses[0].Addr()
}

// allDomains is what status shows.
func (s *settings) allDomains() []string {
	domains := slices.Clone(s.search)
	for _, name := range s.match {
		if !slices.Contains(domains, name) {
			domains = append(domains, name)
		}
	}
	return domains
}

func (s *settings) tunConfig() TUNConfig {
	cfg := TUNConfig{MTU: s.mtu, DNS: s.assignment.DNS, SearchDomains: s.search}
	for _, a := range s.addresses {
		cfg.Addresses = append(cfg.Addresses, a.Addr())
	}
	return cfg
}

func (s *settings) tunnel(name string) platform.Tunnel {
	return platform.Tunnel{
		Interface:     name,
		MTU:           s.mtu,
		Addresses:     s.addresses,
		Routes:        s.routes,
		Exclude:       s.exclude,
		DNS:           s.assignment.DNS,
		SearchDomains: s.search,
		MatchDomains:  s.match,
		WINS:          s.assignment.WINS,
	}
}

func sameTunnel(a, b *platform.Tunnel) bool {
	return a.Interface == b.Interface && a.MTU == b.MTU &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Routes, b.Routes) &&
		slices.Equal(a.Exclude, b.Exclude) && slices.Equal(a.DNS, b.DNS) &&
		slices.Equal(a.SearchDomains, b.SearchDomains) &&
		slices.Equal(a.MatchDomains, b.MatchDomains) && slices.Equal(a.WINS, b.WINS)
}

// clash refuses a tunnel whose networks or addresses another connection has.
func clash(want *platform.Tunnel, others []wish) *app.Failure {
	const networkHint = "disconnect it first, or leave the network out with routes_skip"
	refuse := func(other wish, hint, format string, args ...any) *app.Failure {
		return app.NewFailure(app.CodeNetworkConfig, app.StepBuildTunnel,
			fmt.Sprintf("connection %s %s", other.owner.title(), fmt.Sprintf(format, args...)), hint)
	}
	for _, other := range others {
		if other.tunnel == nil {
			continue
		}
		for _, a := range want.Addresses {
			if slices.Contains(other.tunnel.Addresses, a) {
				return refuse(other, "disconnect it first", "has the address %v already", a)
			}
		}
		for _, r := range want.Routes {
			for _, o := range other.tunnel.Routes {
				switch full := r.Bits() == 0; {
				case full != (o.Bits() == 0):
					// the split tunnel's networks are the longer match
				case full && r.Overlaps(o):
					return refuse(other, "disconnect it first", "carries all traffic already")
				case r == o:
					return refuse(other, networkHint, "has the network %v already", r)
				case r.Overlaps(o):
					return refuse(other, networkHint, "has the network %v already, which %v overlaps", o, r)
				}
			}
		}
	}
	return nil
}

// selectors lists the networks behind the gateway that the SAs cover.
func selectors(children []ike.ChildStats) []netip.Prefix {
	var covered []netip.Prefix
	for _, c := range children {
		if c.Remote.IsValid() {
			covered = append(covered, c.Remote.Masked())
		}
	}
	return minimal(covered)
}

// intersect is what both lists cover.
func intersect(a, b []netip.Prefix) []netip.Prefix {
	var both []netip.Prefix
	for _, x := range a {
		for _, y := range b {
			switch x = x.Masked(); {
			case !x.Overlaps(y):
			case x.Bits() >= y.Bits():
				both = append(both, x)
			default:
				both = append(both, y)
			}
		}
	}
	return both
}

// skip takes networks out of routes: from a full tunnel as exclusions, from a
// narrower route by splitting it.
func skip(routes, holes []netip.Prefix) (left, exclude []netip.Prefix) {
	left = routes
	for _, hole := range holes {
		var next []netip.Prefix
		for _, r := range left {
			if r.Bits() == 0 && r.Overlaps(hole) && hole.Bits() > 0 {
				exclude = append(exclude, hole)
				next = append(next, r)
			} else {
				next = append(next, subtract(r, hole)...)
			}
		}
		left = next
	}
	return left, exclude
}

// subtract returns r without hole: one prefix for each bit by which hole is longer.
func subtract(r, hole netip.Prefix) []netip.Prefix {
	switch {
	case !r.Overlaps(hole):
		return []netip.Prefix{r}
	case hole.Bits() <= r.Bits():
		return nil
	}
	var left []netip.Prefix
	for bits := hole.Bits(); bits > r.Bits(); bits-- {
		addr := hole.Addr().AsSlice()
		addr[(bits-1)/8] ^= 0x80 >> ((bits - 1) % 8) // the other half
		sibling, _ := netip.AddrFromSlice(addr)
		left = append(left, netip.PrefixFrom(sibling, bits).Masked())
	}
	slices.Reverse(left)
	return left
}

// minimal drops what others in the list cover, and keeps the order.
func minimal(list []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for i, p := range list {
		covered := false
		for j, q := range list {
			if i != j && contains(q, p) && (q != p || j < i) {
				covered = true
			}
		}
		if !covered {
			out = append(out, p)
		}
	}
	return out
}

func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Overlaps(inner)
}

func anyContains(outer []netip.Prefix, inner netip.Prefix) bool {
	return slices.ContainsFunc(outer, func(o netip.Prefix) bool { return contains(o, inner) })
}

// prefixes parses what newConfig has checked.
func prefixes(texts []string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		if p, err := parsePrefix(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

func list(ps []netip.Prefix) string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}
