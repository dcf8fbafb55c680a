package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// macSystem is what is asked of macOS.
type macSystem struct {
	uid    int // of this process
	links  func() ([]macLink, error)
	routes func() ([]macRoute, error)
	// addRoute fails with fs.ErrExist if there is a route for the network, and
	// removeRoute does nothing if there is none.
	addRoute    func(macRoute) error
	removeRoute func(macRoute) error
	setMTU      func(link string, mtu int) error
	// run starts a program of the system's, without a shell, and gives what it writes.
	run func(ctx context.Context, input, program string, args ...string) (string, error)
	// bind has a socket send by one interface only (IP_BOUND_IF), whatever the routes.
	bind func(c syscall.RawConn, ipv6 bool, link int) error
	// dontFragment forbids that a socket's datagrams are fragmented, or allows it.
	dontFragment func(c syscall.RawConn, ipv6, on bool) error
	// batches are the calls that move several datagrams, if there are such.
	batches func() macCalls
	// changes has a value whenever interfaces, addresses or routes have changed, until
	// ctx ends.
	changes func(ctx context.Context) (<-chan struct{}, error)
	// names has one whenever configd has made something else of the dynamic store's names.
	names func(ctx context.Context) (<-chan struct{}, error)
	// power tells of sleep, until ctx ends, or it is closed because nobody does any more.
	power func(ctx context.Context) (<-chan bool, error)
	slept func() (time.Duration, error) // since the computer was started
}

// macLink is an interface.
type macLink struct {
	Index                 int
	Name                  string
	MTU                   int // bytes
	Up, Running, Loopback bool
	Addresses             []netip.Prefix
}

// macRoute is a route of macOS's one table.
type macRoute struct {
	Dst     netip.Prefix
	Gateway netip.Addr // invalid: the network is the interface's own
	Link    int        // index of the interface
	// Scoped: it counts only for sockets that are bound to the interface.
	Scoped bool
	// Cloned: the kernel has made it of another, for a single address.
	Cloned bool
}

func (r macRoute) isDefault() bool { return r.Dst.Bits() == 0 }

// Programs of the system's. What they do has no API that can be reached without cgo.
const (
	ifconfigPath = "/sbin/ifconfig"
	pfctlPath    = "/sbin/pfctl"
	scutilPath   = "/usr/sbin/scutil"
	ipconfigPath = "/usr/sbin/ipconfig"
)

// macHost is a computer with macOS.
type macHost struct {
	log *slog.Logger
	sys macSystem
	// tokenPath is the file with the token that keeps the packet filter on.
	tokenPath string

	// Owned by Network.Set:
	table map[netip.Prefix]macRoute // routes for all sockets, as they are; nil: not read yet
	names map[int]string            // of the interfaces when table was read, by index
	ours  []int                     // interfaces of the tunnels that stand or come
	asked time.Time                 // when it was last looked what programs have to be asked for

	renamed atomic.Bool // configd has told of names since then

	filter  macFilter
	sockets macSockets
}

func newMacHost(log *slog.Logger, sys macSystem, tokenPath string) *macHost {
	h := &macHost{log: log, sys: sys, tokenPath: tokenPath}
	h.sockets.bound = map[*macSocket]bool{}
	return h
}

// sweep implements host: our rules of the packet filter, the token that keeps it on, and our
// keys of the dynamic store.
func (h *macHost) sweep(ctx context.Context, standing []change, keepBlock bool) ([]change, error) {
	if h.sys.uid != 0 {
		return nil, nil // nothing of ours could have been made, nor can be removed
	}
	left, err := h.sweepFilter(ctx, standing, keepBlock)
	return left, joinParts(err, h.sweepStore(ctx, standing))
}

// sweepFilter removes a token that is left alone, as it is after a restart, without a word.
func (h *macHost) sweepFilter(ctx context.Context, standing []change, keepBlock bool) ([]change, error) {
	c := &macFilterChange{h: h, Block: true}
	if find(standing, c.id()) != nil {
		return nil, nil
	}
	found, err := h.loadedRules(ctx)
	if err != nil {
		h.log.Warn("network: cannot look for rules of the packet filter that no journal lists", "error", err)
		return nil, nil
	}
	switch {
	case found == "":
		err = h.release(ctx)
	case keepBlock:
		h.log.Warn("network: rules of the packet filter that no journal lists stay until the first wish without a block")
		h.leftBehind(c)
		return []change{c}, nil
	default:
		h.log.Warn("network: rules of the packet filter that no journal lists are removed")
		err = c.undo(ctx)
	}
	if err != nil {
		return nil, &Error{c.part(), fmt.Errorf("remove what no journal lists from the packet filter: %w", err)}
	}
	return nil, nil
}

func (h *macHost) sweepStore(ctx context.Context, standing []change) error {
	keys, err := h.ourKeys(ctx)
	if err != nil {
		h.log.Warn("network: cannot look for keys of the dynamic store that no journal lists", "error", err)
		return nil
	}
	var failed []error
	for _, key := range keys {
		c := &macStoreChange{h: h, Key: key}
		if find(standing, c.id()) != nil {
			continue
		}
		h.log.Warn("network: a key of the dynamic store that no journal lists is removed", "key", key)
		if err := c.undo(ctx); err != nil {
			failed = append(failed, &Error{c.part(), fmt.Errorf("remove the key %s that no journal lists: %w", key, err)})
		}
	}
	return first(failed)
}

// ourKeys lists the keys of the dynamic store that are ours.
func (h *macHost) ourKeys(ctx context.Context) ([]string, error) {
	said, err := h.sys.run(ctx, "list "+storePrefix+".*\n", scutilPath)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Fields(said), func(word string) bool { return !ours.MatchString(word) }), nil
}

// lookAgain implements host.
func (h *macHost) lookAgain() { h.table = nil }

// decode implements host.
func (h *macHost) decode(kind string, data json.RawMessage) (change, error) {
	var c change
	switch kind {
	case "mac-link":
		c = &macLinkChange{h: h}
	case "mac-address":
		c = &macAddressChange{h: h}
	case "mac-route":
		c = &macRouteChange{h: h}
	case "mac-store":
		c = &macStoreChange{h: h}
	case "mac-filter":
		c = &macFilterChange{h: h}
	default:
		return nil, fmt.Errorf("unknown kind of change %q", kind)
	}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, err
	}
	if filter, ok := c.(*macFilterChange); ok {
		h.leftBehind(filter)
	}
	return c, nil
}

func (h *macHost) close() error {
	h.sockets.stop()
	return nil
}

// plan implements host.
func (h *macHost) plan(ctx context.Context, cfg Config, applied []change) ([]change, Report, error) {
	tunnels := tunnelsOf(cfg, applied)
	h.sockets.avoid(tunnels)
	if len(cfg.Tunnels) == 0 && !cfg.BlockOutside {
		return nil, Report{}, nil
	}
	if h.sys.uid != 0 {
		return nil, Report{}, &Error{PartAddress, fmt.Errorf("%w (root)", ErrNoRights)}
	}
	view, err := h.view(tunnels)
	if err != nil {
		return nil, Report{}, &Error{PartRoute, err}
	}
	home, servers := h.look(ctx, view), h.nameservers(applied)
	changes, report, err := h.planFilter(ctx, cfg, home, servers)
	if err != nil {
		return nil, Report{}, &Error{PartFirewall, err}
	}
	for _, t := range cfg.Tunnels {
		link := view.byName(t.Interface)
		if link == nil {
			return nil, Report{}, &Error{PartAddress, fmt.Errorf("interface %s: %w", t.Interface, ErrNoInterface)}
		}
		changes = append(changes, h.planLink(link, t)...)
	}
	stay := h.outsiders(cfg, home, servers)
	report.Overlaps = findOverlaps(cfg, home, servers, stay)
	taken := view.taken()
	report.Outside = h.exposed(cfg, home, stay, taken)
	h.ours = nil
	for _, l := range view.links {
		if slices.Contains(tunnels, l.Name) {
			h.ours = append(h.ours, l.Index)
		}
	}
	for _, w := range carve(wantedWays(cfg, stay, taken), taken) {
		changes = append(changes, &macRouteChange{h: h, Name: w.tunnel, Index: view.byName(w.tunnel).Index, Dst: w.Prefix})
	}
	names, err := h.planNames(cfg)
	if err != nil {
		return nil, Report{}, &Error{PartDNS, err}
	}
	for _, t := range cfg.Tunnels {
		if len(t.DNS) > 0 {
			report.DNS = "configd"
		}
		if len(t.WINS) > 0 {
			report.WINSUnheeded = winsUnheeded
		}
	}
	return append(changes, names...), report, nil
}

func (h *macHost) planLink(link *macLink, t Tunnel) []change {
	var changes []change
	for _, a := range t.Addresses {
		changes = append(changes, &macAddressChange{
			h: h, Name: link.Name, Index: link.Index, Address: a.Addr(),
			Was: link.has(a.Addr()),
		})
	}
	return append(changes, &macLinkChange{
		h: h, Name: link.Name, Index: link.Index, MTU: t.MTU, WasMTU: link.MTU, WasUp: link.Up,
	})
}

// neverInside are addresses whose routes no tunnel takes: the host itself, its links,
// groups.
var neverInside = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// wantedWays says where packets go with the wish. Stay are networks outside, taken those
// that the host has routes for.
func wantedWays(cfg Config, stay, taken []netip.Prefix) []macWay {
	var ways []macWay
	add := func(p netip.Prefix, tunnel string) {
		if !slices.ContainsFunc(ways, func(w macWay) bool { return w.Prefix == p }) {
			ways = append(ways, macWay{p, tunnel})
		}
	}
	for _, p := range stay {
		add(p, "")
	}
	for _, t := range cfg.Tunnels {
		for _, p := range t.Routes {
			add(p.Masked(), t.Interface)
		}
		for _, p := range t.Exclude {
			add(p.Masked(), "")
		}
	}
	for _, p := range taken {
		if slices.ContainsFunc(neverInside, func(never netip.Prefix) bool { return covers(never, p) }) {
			add(p, "")
		}
	}
	return ways
}

// anchors are addresses of the local networks that stay outside whatever the wish: the
// host's own, the routers, without which there is no way out, and the gateways, whose
// packets would go by a router that does not pass them back to where they came from.
func (h *macHost) anchors(cfg Config, home *home) []netip.Prefix {
	addrs := slices.Concat(home.own, h.sockets.gateways())
	for _, r := range home.routers {
		addrs = append(addrs, r.Addr)
	}
	var stay []netip.Prefix
	for _, a := range addrs {
		some, all := routesOf(cfg, single(a))
		if home.linkOf(a) != "" && (all || len(some) > 0) {
			stay = appendNew(stay, single(a))
		}
	}
	return stay
}

// exposed are the single addresses that stay outside against the wish, because the host has a
// route for each that cannot be outdone. A block holds them back.
func (h *macHost) exposed(cfg Config, home *home, stay, taken []netip.Prefix) []netip.Addr {
	if cfg.BlockOutside {
		return nil
	}
	stay = slices.Concat(stay, neverInside)
	for _, t := range cfg.Tunnels {
		stay = append(stay, t.Exclude...)
	}
	known := slices.Concat(home.own, h.sockets.gateways())
	for _, r := range home.routers {
		known = append(known, r.Addr)
	}
	var outside []netip.Addr
	for _, p := range taken {
		some, all := routesOf(cfg, p)
		if !p.IsSingleIP() || len(some) == 0 && !all || slices.Contains(known, p.Addr()) ||
			slices.ContainsFunc(stay, func(s netip.Prefix) bool { return covers(s.Masked(), p) }) {
			continue
		}
		outside = append(outside, p.Addr())
	}
	slices.SortFunc(outside, netip.Addr.Compare)
	return outside
}

// macLinkChange is an interface that is up, with an MTU.
type macLinkChange struct {
	plain
	h      *macHost
	Name   string
	Index  int
	MTU    int
	WasMTU int
	WasUp  bool
}

func (c *macLinkChange) String() string { return fmt.Sprintf("link %s mtu %d up", c.Name, c.MTU) }
func (c *macLinkChange) id() string     { return fmt.Sprintf("link %d", c.Index) }
func (c *macLinkChange) part() Part     { return PartAddress }
func (c *macLinkChange) kind() string   { return "mac-link" }
func (c *macLinkChange) tunnel() string { return c.Name }

func (c *macLinkChange) inherit(older change) {
	o := older.(*macLinkChange)
	c.WasMTU, c.WasUp = o.WasMTU, o.WasUp
}

func (c *macLinkChange) apply(ctx context.Context) error {
	link, err := c.h.same(c.Index, c.Name)
	if err != nil {
		return err
	}
	if link == nil {
		return ErrNoInterface
	}
	if link.MTU != c.MTU {
		if err := c.h.sys.setMTU(c.Name, c.MTU); err != nil {
			return err
		}
	}
	if link.Up {
		return nil
	}
	return c.h.ifconfig(ctx, c.Name, "up")
}

func (c *macLinkChange) undo(ctx context.Context) error {
	link, err := c.h.same(c.Index, c.Name)
	if err != nil || link == nil {
		return err
	}
	var failed error
	if link.MTU == c.MTU && c.MTU != c.WasMTU {
		failed = c.h.sys.setMTU(c.Name, c.WasMTU)
	}
	if !c.WasUp && link.Up {
		failed = errors.Join(failed, c.h.ifconfig(ctx, c.Name, "down"))
	}
	return failed
}

// same gives the interface that has both index and name, or nil: after a restart of the
// service either may be another interface's.
func (h *macHost) same(index int, name string) (*macLink, error) {
	links, err := h.sys.links()
	if err != nil {
		return nil, err
	}
	view := macView{links: links}
	link := view.byName(name)
	if link == nil || link.Index != index {
		return nil, nil
	}
	return link, nil
}

func (h *macHost) ifconfig(ctx context.Context, args ...string) error {
	_, err := h.sys.run(ctx, "", ifconfigPath, args...)
	return err
}

// macAddressChange is an address of an interface, whose far end has the same: no network
// comes with it.
type macAddressChange struct {
	plain
	h       *macHost
	Name    string
	Index   int
	Address netip.Addr
	Was     bool // it was there before
}

func (c *macAddressChange) String() string { return fmt.Sprintf("address %v on %s", c.Address, c.Name) }

func (c *macAddressChange) id() string           { return fmt.Sprintf("address %v on %d", c.Address, c.Index) }
func (c *macAddressChange) part() Part           { return PartAddress }
func (c *macAddressChange) kind() string         { return "mac-address" }
func (c *macAddressChange) inherit(older change) { c.Was = older.(*macAddressChange).Was }

func (c *macAddressChange) apply(ctx context.Context) error {
	link, err := c.h.same(c.Index, c.Name)
	if err != nil {
		return err
	}
	if link == nil {
		return ErrNoInterface
	}
	if link.has(c.Address) {
		return nil
	}
	address := c.Address.String()
	if c.Address.Is6() {
		return c.h.ifconfig(ctx, c.Name, "inet6", address, "prefixlen", "128", "alias")
	}
	return c.h.ifconfig(ctx, c.Name, "inet", address, address, "netmask", "255.255.255.255", "alias")
}

func (c *macAddressChange) undo(ctx context.Context) error {
	if c.Was {
		return nil
	}
	link, err := c.h.same(c.Index, c.Name)
	if err != nil || link == nil || !link.has(c.Address) {
		return err
	}
	return c.h.ifconfig(ctx, c.Name, macFamily(c.Address), c.Address.String(), "-alias")
}

// macRouteChange is a route into a tunnel, for which the host has none.
type macRouteChange struct {
	plain
	h     *macHost
	Name  string
	Index int
	Dst   netip.Prefix
}

func (c *macRouteChange) String() string  { return fmt.Sprintf("route %v dev %s", c.Dst, c.Name) }
func (c *macRouteChange) id() string      { return fmt.Sprintf("route %v", c.Dst) }
func (c *macRouteChange) part() Part      { return PartRoute }
func (c *macRouteChange) kind() string    { return "mac-route" }
func (c *macRouteChange) inherit(change)  {}
func (c *macRouteChange) route() macRoute { return macRoute{Dst: c.Dst, Link: c.Index} }

// stands says whether the table has the route, by the interface that has both index and
// name: after a restart of the service either may be another interface's.
func (c *macRouteChange) stands() (bool, error) {
	if err := c.h.readTable(); err != nil {
		return false, err
	}
	is, taken := c.h.table[c.Dst]
	return taken && is.Link == c.Index && c.h.names[c.Index] == c.Name, nil
}

func (c *macRouteChange) apply(context.Context) error {
	stands, err := c.stands()
	if err != nil || stands {
		return err
	}
	if is, taken := c.h.table[c.Dst]; taken && slices.Contains(c.h.ours, is.Link) { // another tunnel's
		if err := c.h.sys.removeRoute(is); err != nil {
			return err
		}
	}
	if err := c.h.sys.addRoute(c.route()); err != nil {
		return err
	}
	c.h.table[c.Dst] = c.route()
	return nil
}

func (c *macRouteChange) undo(context.Context) error {
	stands, err := c.stands()
	if err != nil || !stands {
		return err
	}
	if err := c.h.sys.removeRoute(c.route()); err != nil {
		return err
	}
	delete(c.h.table, c.Dst)
	return nil
}

// readTable reads the routes that count for every socket, once for each wish.
func (h *macHost) readTable() error {
	if h.table != nil {
		return nil
	}
	view, err := h.view(nil)
	if err != nil {
		return err
	}
	h.table, h.names = map[netip.Prefix]macRoute{}, map[int]string{}
	for _, l := range view.links {
		h.names[l.Index] = l.Name
	}
	for _, r := range view.routes {
		if !r.Scoped && !r.Cloned {
			h.table[r.Dst] = r
		}
	}
	return nil
}

// describe implements host: the routes by interfaces that programs make, what the packet
// filter has of ours, and our keys of the dynamic store.
func (h *macHost) describe() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	view, err := h.view(nil)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, r := range view.routes {
		if link := view.byIndex(r.Link); link != nil && isVPN(link.Name) && !r.Scoped && !r.Cloned && !r.Dst.Addr().IsLinkLocalUnicast() {
			lines = append(lines, fmt.Sprintf("route %v dev %s", r.Dst, link.Name))
		}
	}
	slices.Sort(lines)
	rules, err := h.loadedRules(ctx)
	if err != nil {
		return "", err
	}
	keys, err := h.sys.run(ctx, "list "+storePrefix+".*\n", scutilPath)
	if err != nil {
		return "", err
	}
	return strings.Join(append(lines, rules, keys), "\n"), nil
}

// tell implements host.
func (h *macHost) tell(ctx context.Context, iface string) ([]string, error) {
	view, err := h.view(nil)
	if err != nil {
		return nil, err
	}
	var lines []string
	if link := view.byName(iface); link != nil {
		lines = append(lines, fmt.Sprintf("interface: %s mtu %d up %v", link.Name, link.MTU, link.Up))
		for _, a := range link.Addresses {
			lines = append(lines, fmt.Sprintf("address: %v", a))
		}
		for _, r := range view.routes {
			if r.Link == link.Index && !r.Scoped && !r.Cloned {
				lines = append(lines, fmt.Sprintf("route: %v", r.Dst))
			}
		}
	}
	rules, err := h.loadedRules(ctx)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(rules) {
		lines = append(lines, "pf: "+strings.TrimSpace(line))
	}
	if info, err := h.pfctl(ctx, "", "-s", "info"); err == nil && strings.Contains(info, pfEnabled) {
		lines = append(lines, "pf: "+pfEnabled)
	}
	if token := h.token(); token != "" {
		lines = append(lines, "pf: kept on by the token "+token)
	}
	names, err := h.tellNames(ctx)
	return append(lines, names...), err
}

// tellNames is what the dynamic store has of ours, and whom the system asks for names.
func (h *macHost) tellNames(ctx context.Context) ([]string, error) {
	keys, err := h.ourKeys(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, key := range keys {
		lists, err := h.show(ctx, key)
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(lists)) {
			lines = append(lines, fmt.Sprintf("%s: %s = %q", key, name, lists[name]))
		}
	}
	said, err := h.sys.run(ctx, "", scutilPath, "--dns")
	if err != nil {
		return nil, err
	}
	for _, r := range parseResolvers(said) {
		lines = append(lines, fmt.Sprintf("scutil --dns: names of %q by %s", r.domain, joined(r.servers, " ")))
	}
	return lines, nil
}

// macView is the host's network at one moment.
type macView struct {
	links   []macLink
	routes  []macRoute
	tunnels []string // names of interfaces that are no part of the surroundings
}

func (h *macHost) view(tunnels []string) (*macView, error) {
	links, err := h.sys.links()
	if err != nil {
		return nil, err
	}
	routes, err := h.sys.routes()
	return &macView{links, routes, tunnels}, err
}

func (v *macView) byName(name string) *macLink {
	return v.find(func(l *macLink) bool { return l.Name == name })
}

func (v *macView) byIndex(index int) *macLink {
	return v.find(func(l *macLink) bool { return l.Index == index })
}

func (v *macView) find(match func(*macLink) bool) *macLink {
	for i := range v.links {
		if match(&v.links[i]) {
			return &v.links[i]
		}
	}
	return nil
}

// outside is a route's interface, or nil if it is a tunnel's, or gone.
func (v *macView) outside(r *macRoute) *macLink {
	link := v.byIndex(r.Link)
	if link == nil || slices.Contains(v.tunnels, link.Name) {
		return nil
	}
	return link
}

// taken lists the networks that the host has routes for, without tunnels.
func (v *macView) taken() []netip.Prefix {
	var all []netip.Prefix
	for _, r := range v.routes {
		if !r.Scoped && !r.Cloned && v.outside(&r) != nil {
			all = appendNew(all, r.Dst)
		}
	}
	return all
}

// way is the interface by which packets to an address leave without the tunnels: that of
// the most specific route, or of a default route that only counts for bound sockets.
func (v *macView) way(a netip.Addr) *macLink {
	var best *macRoute
	for i := range v.routes {
		r := &v.routes[i]
		if link := v.outside(r); link == nil || !link.Up || !r.Dst.Contains(a) || r.Scoped && !r.isDefault() {
			continue
		}
		if best == nil || r.Dst.Bits() > best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && best.Scoped && !r.Scoped {
			best = r
		}
	}
	if best == nil {
		return nil
	}
	return v.outside(best)
}

func (l *macLink) has(a netip.Addr) bool {
	return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr().WithZone("") == a })
}
