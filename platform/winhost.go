package platform

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// winHost is a Windows computer.
type winHost struct {
	log *slog.Logger
	sys winSystem

	// seen is the interfaces as they were when the first change was undone for this wish;
	// nil: none was. Owned by Network.Set.
	seen *winView
	// table is the routes as they are, read when the first one is made for this wish. Owned
	// by Network.Set.
	table []winRoute
	// noIPv6 are interfaces of the wish whose IPv6 was awaited in vain. Owned by Network.Set.
	noIPv6 map[string]bool
	// heeded: group policy had a table of rules for names, which alone is heeded, at the
	// last Set. Owned by Network.Set.
	heeded bool
	// given is what interfaces' keys have had, by their path, since they were given names.
	// Owned by Network.Set.
	given map[string]givenNames

	mu      sync.Mutex
	own     []winRoute          // that Set has made
	tunnels []string            // interfaces of the wish that stands or comes
	sockets map[*winSocket]bool // that are open
	unwatch func()              // ends their renewal; nil: it has not begun
}

// sweep implements host: our filters, and our rules for names.
func (h *winHost) sweep(ctx context.Context, standing []change, keepBlock bool) ([]change, error) {
	left, err := h.sweepFilters(ctx, standing, keepBlock)
	return left, joinParts(err, h.sweepRules(standing))
}

func (h *winHost) sweepFilters(ctx context.Context, standing []change, keepBlock bool) ([]change, error) {
	found, err := h.sys.filters()
	if err != nil {
		h.log.Warn("network: cannot look for filters that no journal lists", "error", err)
		return nil, nil
	}
	c := &winFilterChange{h: h, Program: h.sys.program, Block: true, Found: found}
	switch {
	case len(found) == 0 || find(standing, c.id()) != nil:
		return nil, nil
	case keepBlock:
		h.log.Warn("network: filters that no journal lists stay until the first wish without a block", "filters", len(found))
		return []change{c}, nil
	}
	h.log.Warn("network: filters that no journal lists are removed", "filters", len(found))
	if err := c.undo(ctx); err != nil {
		return nil, &Error{c.part(), fmt.Errorf("remove %d filters that no journal lists: %w", len(found), err)}
	}
	return nil, nil
}

func (h *winHost) sweepRules(standing []change) error {
	rules, err := h.sys.subkeys(nrptKey)
	if unlessAbsent(err) != nil {
		h.log.Warn("network: cannot look for rules for names that no journal lists", "error", err)
		return nil
	}
	var failed []error
	removed := false
	for _, guid := range rules {
		c := &winRuleChange{h: h, GUID: guid}
		is, err := h.sys.readKey(c.path())
		if unlessAbsent(err) != nil {
			h.log.Warn("network: cannot read a rule for names", "rule", guid, "error", err)
		}
		if is["Comment"] != nrptComment || find(standing, c.id()) != nil {
			continue
		}
		h.log.Warn("network: a rule for names that no journal lists is removed", "rule", guid)
		if err := unlessAbsent(h.sys.removeKey(c.path())); err != nil {
			failed = append(failed, &Error{c.part(), fmt.Errorf("remove the rule %s that no journal lists: %w", guid, err)})
			continue
		}
		removed = true
	}
	if removed {
		h.sys.reloadNames()
	}
	return first(failed)
}

// lookAgain implements host.
func (h *winHost) lookAgain() { h.seen, h.table = nil, nil }

// decode implements host.
func (h *winHost) decode(kind string, data json.RawMessage) (change, error) {
	var c change
	switch kind {
	case "win-interface":
		c = &winLinkChange{h: h}
	case "win-address":
		c = &winAddressChange{h: h}
	case "win-route":
		c = &winRouteChange{h: h}
	case "win-names":
		c = &winNamesChange{h: h}
	case "win-rule":
		c = &winRuleChange{h: h}
	case "win-wins":
		c = &winWINSChange{h: h}
	case "win-filters":
		c = &winFilterChange{h: h}
	default:
		return nil, fmt.Errorf("unknown kind of change %q", kind)
	}
	return c, json.Unmarshal(data, c)
}

// plan implements host.
func (h *winHost) plan(ctx context.Context, cfg Config, applied []change) ([]change, Report, error) {
	tunnels := tunnelsOf(cfg, applied)
	h.mu.Lock()
	h.tunnels = tunnels
	h.mu.Unlock()
	if len(cfg.Tunnels) == 0 {
		h.noIPv6 = nil
		if !cfg.BlockOutside {
			return nil, Report{}, nil
		}
	}
	cfg, err := h.awaitTunnels(ctx, cfg)
	if err != nil {
		return nil, Report{}, err
	}
	view, err := h.sys.view()
	if err != nil {
		return nil, Report{}, &Error{PartRoute, err}
	}
	view.routes = slices.DeleteFunc(view.routes, func(r winRoute) bool { return h.isOwn(&r) }) // as Windows is without us
	home, servers := view.home(tunnels), view.nameservers(tunnels)
	changes, report, err := h.planFilters(cfg, view, home, servers)
	if err != nil {
		return nil, Report{}, &Error{PartFirewall, err}
	}
	var routes []change
	for _, t := range cfg.Tunnels {
		link := view.byName(t.Interface)
		more, err := h.planLink(link, t)
		if err != nil {
			return nil, Report{}, &Error{PartAddress, fmt.Errorf("interface %s: %w", t.Interface, err)}
		}
		changes = append(changes, more...)
		for _, dst := range t.Routes {
			routes = append(routes, h.planRoute(view, link, dst.Masked(), unspecified(dst.Addr())))
		}
	}
	stay := outsiders(cfg, home, servers)
	report.Overlaps = findOverlaps(cfg, home, servers, stay)
	for _, t := range cfg.Tunnels {
		for _, p := range t.Exclude {
			stay = appendNew(stay, p.Masked())
		}
	}
	changes = slices.Concat(changes, routes, h.planOutside(cfg, view, tunnels, stay), h.planTaken(cfg, view, tunnels, stay))
	dns := h.planNames(cfg, view)
	if len(dns) > 0 {
		report.DNS = "NRPT"
	}
	return append(changes, dns...), report, nil
}

// A new interface is not there at once: its driver is, and the stack follows.
const (
	awaitTries = 40
	awaitPause = 125 * time.Millisecond
)

// awaitTunnels waits until the tunnels' interfaces can be given what they are to have, and
// returns the wish without the IPv6 of those that have none: Windows can do without it, or
// without it on some interfaces.
func (h *winHost) awaitTunnels(ctx context.Context, cfg Config) (Config, error) {
	cfg.Tunnels = slices.Clone(cfg.Tunnels)
	for i := range cfg.Tunnels {
		t := &cfg.Tunnels[i]
		err := h.await(ctx, t.Interface, false, awaitTries)
		if err == nil && needsIPv6(t) {
			err = h.awaitIPv6(ctx, t)
		}
		if err != nil {
			return cfg, &Error{PartAddress, fmt.Errorf("interface %s: %w", t.Interface, err)}
		}
	}
	return cfg, nil
}

// needsIPv6 says whether a tunnel's interface is to have IPv6.
func needsIPv6(t *Tunnel) bool {
	return slices.ContainsFunc(slices.Concat(t.Addresses, t.Routes), func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// awaitIPv6 waits for an interface's IPv6, once, and leaves it out if it does not come.
func (h *winHost) awaitIPv6(ctx context.Context, t *Tunnel) error {
	tries := awaitTries
	if h.noIPv6[t.Interface] {
		tries = 1
	}
	err := h.await(ctx, t.Interface, true, tries)
	if !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
		delete(h.noIPv6, t.Interface)
		return err
	}
	if tries > 1 {
		h.log.Warn("network: the interface has no IPv6, so its IPv6 addresses and routes are left out; look whether IPv6 is switched off on this computer", "interface", t.Interface)
		if h.noIPv6 == nil {
			h.noIPv6 = map[string]bool{}
		}
		h.noIPv6[t.Interface] = true
	}
	is6 := func(p netip.Prefix) bool { return p.Addr().Is6() }
	t.Addresses = slices.DeleteFunc(slices.Clone(t.Addresses), is6)
	t.Routes = slices.DeleteFunc(slices.Clone(t.Routes), is6)
	t.DNS = slices.DeleteFunc(slices.Clone(t.DNS), netip.Addr.Is6)
	return nil
}

// await waits until an interface can be given addresses of a family. The error wraps
// ErrNoInterface if there is none, and fs.ErrNotExist if it has not got the family.
func (h *winHost) await(ctx context.Context, name string, ipv6 bool, tries int) error {
	for try := 1; ; try++ {
		links, err := h.sys.links()
		if err != nil {
			return err
		}
		view := winView{links: links}
		if link := view.byName(name); link != nil {
			_, err = h.sys.settings(link.LUID, ipv6)
		} else {
			err = ErrNoInterface
		}
		if !errors.Is(err, ErrNoInterface) && !errors.Is(err, fs.ErrNotExist) || try == tries {
			return err
		}
		select {
		case <-time.After(awaitPause):
		case <-ctx.Done():
			return err
		}
	}
}

// planLink gives the interface settings and addresses, IPv6's only if it has any. WINS
// servers come before the addresses: NetBT does not watch the registry, and reads it when an
// interface gets an address.
func (h *winHost) planLink(link *winLink, t Tunnel) ([]change, error) {
	var changes []change
	for _, ipv6 := range []bool{false, true} {
		if ipv6 && !needsIPv6(&t) {
			continue
		}
		was, err := h.sys.settings(link.LUID, ipv6)
		if err != nil {
			return nil, err
		}
		changes = append(changes, &winLinkChange{h: h, Name: link.Name, LUID: link.LUID, IPv6: ipv6, MTU: t.MTU, Was: was})
	}
	if len(t.WINS) > 0 {
		was, err := h.wins(link.GUID)
		if err != nil {
			return nil, err
		}
		changes = append(changes, &winWINSChange{h: h, Name: link.Name, GUID: link.GUID, Servers: strings.Split(joined(t.WINS, " "), " "), Was: was})
	}
	for _, a := range t.Addresses {
		was := slices.ContainsFunc(link.Addresses, func(p netip.Prefix) bool { return p.Addr() == a.Addr() })
		changes = append(changes, &winAddressChange{h: h, Name: link.Name, LUID: link.LUID, Address: a.Addr(), Was: was})
	}
	return changes, nil
}

func (h *winHost) planRoute(view *winView, link *winLink, dst netip.Prefix, nextHop netip.Addr) *winRouteChange {
	c := &winRouteChange{h: h, Name: link.Name, LUID: link.LUID, Dst: dst, NextHop: nextHop}
	want := c.route()
	c.Was = slices.ContainsFunc(view.routes, func(r winRoute) bool { return r.same(&want) })
	return c
}

// planOutside keeps networks outside that a tunnel's route covers, by the way that they
// have without the tunnel. Windows has one table, in which the longest prefix decides. If
// there is no way, the host has no network, and Set will be called again when it has.
func (h *winHost) planOutside(cfg Config, view *winView, tunnels []string, stay []netip.Prefix) []change {
	var changes []change
	for _, p := range stay {
		some, all := routesOf(cfg, p)
		if len(some) == 0 && !all {
			continue
		}
		way, link := view.way(p.Addr(), tunnels)
		if link == nil || way.Dst == p && way.onLink() {
			continue // Windows has that route by itself
		}
		changes = append(changes, h.planRoute(view, link, p, way.NextHop))
	}
	return changes
}

// planTaken gives the tunnels what other routes would keep outside although a tunnel's
// route covers them: the local networks (CVE-2023-36672), and what a DHCP server says
// (CVE-2024-3661). Of two routes to the same network the tunnel's has the smaller metric.
func (h *winHost) planTaken(cfg Config, view *winView, tunnels []string, stay []netip.Prefix) []change {
	var changes []change
	var taken []netip.Prefix
	for _, t := range cfg.Tunnels {
		for _, r := range t.Routes {
			taken = append(taken, r.Masked())
		}
	}
	for _, r := range view.routes {
		a := r.Dst.Addr()
		some, all := routesOf(cfg, r.Dst)
		link := view.outside(&r, tunnels)
		switch {
		case link == nil, r.Dst.Bits() == 0, len(some) == 0 && !all, slices.Contains(taken, r.Dst):
			continue
		case r.Dst.IsSingleIP() && r.onLink() && link.ends(a), a.IsMulticast(), a.IsLinkLocalUnicast():
			continue // the host's own addresses, and what never leaves the link
		case slices.ContainsFunc(stay, func(p netip.Prefix) bool { return covers(p, r.Dst) }):
			continue
		}
		taken = append(taken, r.Dst)
		tunnel := view.byName(tunnelOf(cfg, r.Dst))
		changes = append(changes, h.planRoute(view, tunnel, r.Dst, unspecified(a)))
	}
	return changes
}

// tunnelOf is the interface of the tunnel whose route to a network is the longest.
func tunnelOf(cfg Config, p netip.Prefix) string {
	name, bits := "", -1
	for _, t := range cfg.Tunnels {
		for _, r := range t.Routes {
			if covers(r.Masked(), p) && r.Bits() > bits {
				name, bits = t.Interface, r.Bits()
			}
		}
	}
	return name
}

// ruleDomains is how many domains one rule has; the DNS client takes no more than some
// fifty.
const ruleDomains = 50

// planNames sends names to the tunnels' servers: by a rule for some domains, or for all
// and as the interface's servers too, for programs that ask those themselves. An interface
// that has servers is asked for all names, whatever the rules say of some; so a tunnel
// with split DNS has none.
func (h *winHost) planNames(cfg Config, view *winView) []change {
	var changes []change
	byDomain := map[string][]netip.Addr{}
	var domains []string
	for _, t := range cfg.Tunnels {
		link := view.byName(t.Interface)
		if len(t.DNS) == 0 {
			continue
		}
		c := &winNamesChange{h: h, Name: link.Name, LUID: link.LUID, GUID: link.GUID, Search: t.SearchDomains}
		names := []string{"."}
		if len(t.MatchDomains) == 0 {
			c.Servers = t.DNS
		} else {
			names = t.MatchDomains
		}
		changes = append(changes, c)
		for _, name := range names {
			name = "." + strings.ToLower(strings.Trim(name, "."))
			domains = appendNew(domains, name)
			byDomain[name] = appendNew(byDomain[name], t.DNS...)
		}
	}
	for i, c := range rulesFor(domains, byDomain) {
		c.h, c.GUID = h, ruleGUID(i)
		changes = append(changes, c)
	}
	return changes
}

// rulesFor makes rules of the domains that have the same servers.
func rulesFor(domains []string, servers map[string][]netip.Addr) []*winRuleChange {
	var rules []*winRuleChange
	for _, d := range domains {
		i := slices.IndexFunc(rules, func(r *winRuleChange) bool {
			return len(r.Domains) < ruleDomains && slices.Equal(r.Servers, servers[d])
		})
		if i < 0 {
			i = len(rules)
			rules = append(rules, &winRuleChange{Servers: servers[d]})
		}
		rules[i].Domains = append(rules[i].Domains, d)
	}
	return rules
}

// ruleGUID names our nth rule, on every computer the same (RFC 9562 §5.8).
func ruleGUID(n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "wayfarer name resolution rule %d", n))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("{%X-%X-%X-%X-%X}", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// nameservers implements host.
func (h *winHost) nameservers(applied []change) []netip.Addr {
	links, err := h.sys.links()
	if err != nil {
		h.log.Warn("network: cannot see the host", "error", err)
		return nil
	}
	view := winView{links: links}
	return view.nameservers(tunnelsOf(Config{}, applied))
}

// verify implements host. As soon as group policy has a table of rules, an empty one too,
// its rules are the only ones that count.
func (h *winHost) verify(_ context.Context, _ Config, report *Report) error {
	if report.DNS == "" {
		return nil
	}
	var err error
	if h.heeded, err = h.policy(); h.heeded {
		report.NamesTaken = GroupPolicy
	}
	return err
}

// policy says whether group policy has a table of rules for names.
func (h *winHost) policy() (bool, error) {
	_, err := h.sys.subkeys(nrptPolicyKey)
	return err == nil, unlessAbsent(err)
}

// overlaps implements host.
func (h *winHost) overlaps(cfg Config, applied []change) ([]Overlap, error) {
	view, err := h.sys.view()
	if err != nil {
		return nil, err
	}
	tunnels := tunnelsOf(cfg, applied)
	home, servers := view.home(tunnels), view.nameservers(tunnels)
	return findOverlaps(cfg, home, servers, outsiders(cfg, home, servers)), nil
}

// close implements host.
func (h *winHost) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unwatch != nil {
		h.unwatch()
		h.unwatch = nil
	}
	return nil
}
