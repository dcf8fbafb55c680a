package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// watch implements host. What has changed is seen by looking.
func (h *winHost) watch(ctx context.Context, tunnels func() []string) (*watchSource, error) {
	hints, hint := newHints()
	stop, err := h.sys.notify(hint)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, stop)
	var silent []string
	if stop, err := h.sys.notifyFilters(hint); err != nil {
		silent = append(silent, "filters")
		h.log.Warn("network: nobody tells when filters are removed, so it is looked now and then", "error", err)
	} else {
		context.AfterFunc(ctx, stop)
	}
	if stop, err := h.sys.notifyKeys(nameKeys, hint); err != nil {
		silent = append(silent, "names")
		h.log.Warn("network: nobody tells when rules for names and name servers are changed", "error", err)
	} else {
		context.AfterFunc(ctx, stop)
	}
	look := func() (surroundings, error) {
		view, err := h.sys.view()
		if err != nil {
			return surroundings{}, err
		}
		return view.surroundings(tunnels(), h.isOwn), nil
	}
	sleeps := h.sleeps(ctx)
	if sleeps == nil {
		silent = append(silent, "sleep")
	}
	return &watchSource{hints: hints, sleeps: sleeps, silent: silent, look: look, intact: h.intact, blockIntact: h.intact}, nil
}

// nrptPolicyAbove is where group policy's table of rules is, which may not be there yet.
const nrptPolicyAbove = `SOFTWARE\Policies\Microsoft`

// nameKeys are the keys below which Windows has what is told of names. WINS servers are not
// among them: NetBT would read those that are put back not before an address comes. What DHCP
// writes of other interfaces is a hint, too, a few times an hour.
var nameKeys = []string{
	`SYSTEM\CurrentControlSet\Services\Dnscache\Parameters`,
	nrptPolicyAbove,
	strings.TrimSuffix(tcpip4Key, `\`),
	strings.TrimSuffix(tcpip6Key, `\`),
}

// newHints is a channel that has a value after hint was called.
func newHints() (_ <-chan struct{}, hint func()) {
	hints := make(chan struct{}, 1)
	return hints, func() {
		select {
		case hints <- struct{}{}:
		default:
		}
	}
}

// intact says whether routes, filters and what is told of names are as they were made, and
// whether group policy has a table of rules for names as at the last Set, which tells of it.
// What has gone with its interface is no news. It is asked now and then while a leak block
// stands, too: a filter engine that was started again has forgotten its filters, and whom
// to tell.
func (h *winHost) intact(standing []change) (bool, error) {
	view, err := h.sys.view()
	if err != nil {
		return false, err
	}
	for _, c := range standing {
		stands := true
		switch c := c.(type) {
		case *winRouteChange:
			want := c.route()
			stands = slices.ContainsFunc(view.routes, func(r winRoute) bool { return r.same(&want) }) || !view.has(c.LUID, c.Name)
		case *winFilterChange:
			stands, err = c.stands()
		case *winRuleChange:
			if stands, err = c.stands(); err == nil && stands {
				var policy bool
				policy, err = h.policy()
				stands = policy == h.heeded
			}
		case *winNamesChange:
			stands, err = c.stands()
			stands = stands || !view.has(c.LUID, c.Name)
		}
		if err != nil || !stands {
			return false, err
		}
	}
	return true, nil
}

// sleeps is what Windows tells of sleep.
func (h *winHost) sleeps(ctx context.Context) <-chan bool {
	told, tell := newSleeps()
	stop, err := h.sys.notifyPower(tell)
	if err != nil {
		h.log.Warn("network: nobody tells when the computer sleeps", "error", err)
		return nil
	}
	context.AfterFunc(ctx, stop)
	return told
}

// surroundings describes the host without the tunnels, and without the routes that are
// own.
func (v *winView) surroundings(tunnels []string, own func(*winRoute) bool) surroundings {
	var network, defaults []string
	for _, l := range v.links {
		if !l.leads(tunnels) {
			continue
		}
		network = append(network, fmt.Sprintf("link %d %s", l.Index, l.Name))
		for _, a := range l.Addresses {
			network = append(network, fmt.Sprintf("address %v %s", a, l.Name))
		}
	}
	for _, r := range v.routes {
		l := v.outside(&r, tunnels)
		switch {
		case l == nil, own(&r):
		case r.Dst.Bits() == 0:
			defaults = append(defaults, fmt.Sprintf("default via %v dev %d metric %d", r.NextHop, l.Index, r.Metric+l.metric(r.Dst.Addr().Is6())))
		case !r.onLink():
			network = append(network, fmt.Sprintf("route %v via %v dev %d", r.Dst, r.NextHop, l.Index))
		}
	}
	slices.Sort(network)
	slices.Sort(defaults)
	return surroundings{strings.Join(network, "\n"), strings.Join(defaults, "\n")}
}

// vpnIfTypes are interfaces that other VPNs have, and what they are called.
var vpnIfTypes = map[uint32]string{ifPPP: "ppp", ifPropVirtual: "virtual", ifTunnel: "tunnel"}

// conflicts implements host.
func (h *winHost) conflicts(_ context.Context, tunnels []string) ([]Conflict, error) {
	view, err := h.sys.view()
	if err != nil {
		return nil, err
	}
	var found []Conflict
	for _, r := range view.routes {
		l := view.outside(&r, tunnels)
		if l == nil || r.Dst.Bits() > 1 {
			continue
		}
		owner, vpn := vpnIfTypes[l.Kind]
		if strings.Contains(l.Description, "TAP-") { // OpenVPN's older driver poses as Ethernet
			owner, vpn = "tap", true
		}
		if vpn {
			// Half of all addresses is a longer prefix than a tunnel's route for all.
			found = appendNew(found, Conflict{Interface: l.Name, Owner: owner, Claim: r.Dst.String(), Wins: r.Dst.Bits() == 1 && view.takesAll(tunnels, r.Dst.Addr().Is6())})
		}
	}
	return found, nil
}

// takesAll says whether a tunnel has a route for all addresses of a family.
func (v *winView) takesAll(tunnels []string, ipv6 bool) bool {
	return slices.ContainsFunc(v.routes, func(r winRoute) bool {
		l := v.byLUID(r.LUID)
		return r.Dst.Bits() == 0 && r.Dst.Addr().Is6() == ipv6 && l != nil && slices.Contains(tunnels, l.Name)
	})
}

// online implements host.
func (h *winHost) online(tunnels []string) (bool, error) {
	view, err := h.sys.view()
	if err != nil {
		return false, err
	}
	return len(view.home(tunnels).ways) > 0, nil
}

// describe implements host. What the system gives and takes away by itself is left out.
func (h *winHost) describe() (string, error) {
	view, err := h.sys.view()
	if err != nil {
		return "", err
	}
	var lines []string
	for _, l := range view.links {
		for _, a := range l.Addresses {
			if !a.Addr().IsLinkLocalUnicast() {
				lines = append(lines, fmt.Sprintf("address %v dev %s", a.Addr(), l.Name))
			}
		}
		lines = append(lines, fmt.Sprintf("names of %s by %s", l.Name, joined(l.DNS, " ")))
		wins, err := h.wins(l.GUID)
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("WINS of %s by %s", l.Name, strings.Join(wins, " ")))
	}
	for _, r := range view.routes {
		a, l := r.Dst.Addr(), view.byLUID(r.LUID)
		if l != nil && !a.IsMulticast() && !a.IsLinkLocalUnicast() && r.Dst.String() != "255.255.255.255/32" {
			lines = append(lines, fmt.Sprintf("route %v via %v dev %s", r.Dst, r.NextHop, l.Name))
		}
	}
	rules, err := h.sys.subkeys(nrptKey)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, guid := range rules {
		lines = append(lines, "rule "+guid)
	}
	filters, err := h.sys.filters()
	if err == nil { // a system without the engine has nothing of ours
		lines = append(lines, filters...)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// tell implements host.
func (h *winHost) tell(_ context.Context, iface string) ([]string, error) {
	view, err := h.sys.view()
	if err != nil {
		return nil, err
	}
	var lines []string
	link := view.byName(iface)
	if link != nil {
		if lines, err = h.tellLink(link); err != nil {
			return nil, err
		}
	}
	for _, r := range view.routes {
		if l := view.byLUID(r.LUID); l != nil && (l == link || h.isOwn(&r)) {
			lines = append(lines, fmt.Sprintf("route: %v via %v by %s metric %d", r.Dst, r.NextHop, l.Name, r.Metric))
		}
	}
	rules, err := h.sys.subkeys(nrptKey)
	if unlessAbsent(err) != nil {
		return nil, err
	}
	for _, guid := range rules {
		values, err := h.sys.readKey(nrptKey + `\` + guid)
		if unlessAbsent(err) != nil {
			return nil, err
		}
		if values["Comment"] == nrptComment {
			lines = append(lines, valueLines("NRPT "+guid, values)...)
		}
	}
	filters, err := h.sys.filters()
	if err != nil { // which Set has told
		return lines, nil
	}
	lines = append(lines, fmt.Sprintf("filters: %d", len(filters)))
	for _, f := range filters {
		lines = append(lines, "filter: "+f)
	}
	return lines, nil
}

// tellLink is what the system says of an interface, and the registry has of it.
func (h *winHost) tellLink(link *winLink) ([]string, error) {
	var lines []string
	for _, ipv6 := range []bool{false, true} {
		s, err := h.sys.settings(link.LUID, ipv6)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("interface: %s %s mtu %d metric %d automatic %v address probes %d router discovery %d",
			link.Name, ipName(ipv6), s.MTU, s.Metric, s.AutoMetric, s.DADTransmits, s.RouterDiscovery))
	}
	for _, a := range link.Addresses {
		lines = append(lines, fmt.Sprintf("address: %v", a))
	}
	for _, a := range link.DNS {
		lines = append(lines, fmt.Sprintf("name server: %v", a))
	}
	for _, key := range []struct{ name, path string }{{"IPv4", tcpip4Key}, {"IPv6", tcpip6Key}, {"NetBT", netBTKey}} {
		values, err := h.sys.readKey(key.path + link.GUID)
		if unlessAbsent(err) != nil {
			return nil, err
		}
		maps.DeleteFunc(values, func(name string, _ any) bool {
			return !slices.Contains([]string{"NameServer", "SearchList", winsValue}, name)
		})
		lines = append(lines, valueLines("registry "+key.name, values)...)
	}
	return lines, nil
}

// valueLines are the values of a key that say something.
func valueLines(key string, values map[string]any) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if value := fmt.Sprint(values[name]); value != "" && value != "[]" {
			lines = append(lines, fmt.Sprintf("%s: %s = %s", key, name, value))
		}
	}
	return lines
}
