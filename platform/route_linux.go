package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkChange is an interface that is up, with an MTU.
type linkChange struct {
	plain
	h      *linuxHost
	Name   string
	Index  int
	MTU    int
	WasMTU int
	WasUp  bool
}

func (c *linkChange) String() string { return fmt.Sprintf("link %s mtu %d up", c.Name, c.MTU) }
func (c *linkChange) id() string     { return fmt.Sprintf("link %d", c.Index) }
func (c *linkChange) part() Part     { return PartAddress }
func (c *linkChange) kind() string   { return "link" }
func (c *linkChange) tunnel() string { return c.Name }

func (c *linkChange) inherit(older change) {
	o := older.(*linkChange)
	c.WasMTU, c.WasUp = o.WasMTU, o.WasUp
}

func (c *linkChange) apply(context.Context) error {
	link, err := c.h.nl.LinkByIndex(c.Index)
	if err != nil {
		return err
	}
	if link.Attrs().MTU != c.MTU {
		if err := c.h.nl.LinkSetMTU(link, c.MTU); err != nil {
			return rights(err)
		}
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return rights(c.h.nl.LinkSetUp(link))
	}
	return nil
}

func (c *linkChange) undo(context.Context) error {
	link, err := c.h.same(c.Index, c.Name)
	if err != nil || link == nil {
		return err
	}
	var failed error
	if link.Attrs().MTU == c.MTU && c.MTU != c.WasMTU {
		failed = c.h.nl.LinkSetMTU(link, c.WasMTU)
	}
	if !c.WasUp && link.Attrs().Flags&net.FlagUp != 0 {
		failed = errors.Join(failed, c.h.nl.LinkSetDown(link))
	}
	return failed
}

// same gives the interface that has both index and name, or nil: after a restart of
// the service the index may be another interface's.
func (h *linuxHost) same(index int, name string) (netlink.Link, error) {
	link, err := h.nl.LinkByIndex(index)
	if gone(err) || err == nil && link.Attrs().Name != name {
		return nil, nil
	}
	return link, err
}

// addressChange is an address on an interface, without a route of its own.
type addressChange struct {
	plain
	h       *linuxHost
	Name    string
	Index   int
	Address netip.Prefix
	Was     bool // it was there before
}

func (c *addressChange) String() string { return fmt.Sprintf("address %v on %s", c.Address, c.Name) }

func (c *addressChange) id() string   { return fmt.Sprintf("address %v on %d", c.Address, c.Index) }
func (c *addressChange) part() Part   { return PartAddress }
func (c *addressChange) kind() string { return "address" }

func (c *addressChange) inherit(older change) { c.Was = older.(*addressChange).Was }

func (c *addressChange) apply(context.Context) error {
	present, err := c.h.addresses(c.Index)
	if err != nil || slices.Contains(present, c.Address) {
		return err
	}
	// There is nobody on a tunnel to detect a duplicate of the address.
	const flags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD
	return rights(c.h.nl.AddrAdd(linkAt(c.Index), &netlink.Addr{
		IPNet: ipNet(c.Address), Flags: flags, Broadcast: net.IPv4zero,
	}))
}

func (c *addressChange) undo(context.Context) error {
	if c.Was {
		return nil
	}
	if link, err := c.h.same(c.Index, c.Name); err != nil || link == nil {
		return err
	}
	present, err := c.h.addresses(c.Index)
	if err != nil || !slices.Contains(present, c.Address) {
		return err
	}
	err = c.h.nl.AddrDel(linkAt(c.Index), &netlink.Addr{IPNet: ipNet(c.Address), Broadcast: net.IPv4zero})
	if gone(err) {
		return nil
	}
	return err
}

// addresses lists an interface's addresses.
func (h *linuxHost) addresses(index int) ([]netip.Prefix, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) {
		return h.nl.AddrList(linkAt(index), netlink.FAMILY_ALL)
	})
	var prefixes []netip.Prefix
	for _, a := range addrs {
		prefixes = append(prefixes, prefixOf(a.IPNet))
	}
	return prefixes, err
}

// routeChange is a route in our table: into a tunnel, or, with index 0, one that
// sends the search on to the next table.
type routeChange struct {
	plain
	h     *linuxHost
	Name  string
	Index int
	Dst   netip.Prefix
	Src   netip.Addr // the source address of new connections; may be missing
}

func (c *routeChange) String() string {
	switch {
	case c.Index == 0:
		return fmt.Sprintf("route throw %v", c.Dst)
	case c.Src.IsValid():
		return fmt.Sprintf("route %v dev %s src %v", c.Dst, c.Name, c.Src)
	}
	return fmt.Sprintf("route %v dev %s", c.Dst, c.Name)
}

func (c *routeChange) id() string     { return fmt.Sprintf("route %v", c.Dst) }
func (c *routeChange) part() Part     { return PartRoute }
func (c *routeChange) kind() string   { return "route" }
func (c *routeChange) inherit(change) {}

func (c *routeChange) route() *netlink.Route {
	r := &netlink.Route{Dst: ipNet(c.Dst), Table: routeTable, Protocol: routeProtocol, Type: unix.RTN_THROW}
	if c.Index != 0 {
		// Of the scope universe, as routes by a router are. Where the kernel looks for
		// the interface of another's router it wants scope link, and shall not find
		// this one.
		r.Type, r.LinkIndex, r.Scope = unix.RTN_UNICAST, c.Index, netlink.SCOPE_UNIVERSE
		r.Src = c.Src.AsSlice()
	}
	return r
}

// stands also says so of a route whose interface is no more: it cannot come back.
func (c *routeChange) stands() (bool, error) {
	made, err := c.made()
	if err != nil || made || c.Index == 0 {
		return made, err
	}
	link, err := c.h.same(c.Index, c.Name)
	return err == nil && link == nil, err
}

// made says whether our table has the route.
func (c *routeChange) made() (bool, error) {
	if err := c.h.readRoutes(); err != nil {
		return false, err
	}
	is, taken := c.h.routes[c.Dst]
	return taken && sameRoute(&is, c.route()), nil
}

func (c *routeChange) apply(context.Context) error {
	made, err := c.made()
	if err != nil || made {
		return err
	}
	want := c.route()
	if err := c.h.nl.RouteReplace(want); err != nil {
		return rights(err)
	}
	c.h.routes[c.Dst] = *want
	return nil
}

func (c *routeChange) undo(context.Context) error {
	made, err := c.made()
	if err != nil || !made {
		return err
	}
	if err := c.h.nl.RouteDel(c.route()); err != nil && !gone(err) {
		return err
	}
	delete(c.h.routes, c.Dst)
	return nil
}

// readRoutes reads our table, once per Set.
func (h *linuxHost) readRoutes() error {
	if h.routes != nil {
		return nil
	}
	all := map[netip.Prefix]netlink.Route{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump(func() ([]netlink.Route, error) {
			return h.nl.RouteListFiltered(family, &netlink.Route{Table: routeTable}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return err
		}
		for _, r := range routes {
			dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if family == netlink.FAMILY_V6 {
				dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			if r.Dst != nil {
				dst = prefixOf(r.Dst)
			}
			all[dst] = r
		}
	}
	h.routes = all
	return nil
}

// sameRoute compares what we set. The kernel says of an IPv6 throw route that it
// leads to the loopback interface.
func sameRoute(is, want *netlink.Route) bool {
	return is.Type == want.Type && is.Protocol == want.Protocol && is.Src.Equal(want.Src) &&
		(want.LinkIndex == 0 || is.LinkIndex == want.LinkIndex)
}

// ruleChange is the rule that leads packets without our mark to our table.
type ruleChange struct {
	plain
	h      *linuxHost
	Family int
}

func (c *ruleChange) String() string {
	return fmt.Sprintf("rule%s %d: not fwmark %#x lookup %d",
		map[int]string{netlink.FAMILY_V4: "4", netlink.FAMILY_V6: "6"}[c.Family], rulePriority, bypassMark, routeTable)
}

func (c *ruleChange) id() string     { return fmt.Sprintf("rule %d", c.Family) }
func (c *ruleChange) part() Part     { return PartRoute }
func (c *ruleChange) kind() string   { return "rule" }
func (c *ruleChange) inherit(change) {}

func (c *ruleChange) rule() *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Protocol = c.Family, rulePriority, routeTable, routeProtocol
	r.Invert, r.Mark = true, bypassMark
	return r
}

func (c *ruleChange) apply(context.Context) error {
	stands, err := c.stands()
	if err != nil || stands {
		return err
	}
	return rights(c.h.nl.RuleAdd(c.rule()))
}

func (c *ruleChange) undo(context.Context) error {
	stands, err := c.stands()
	if err != nil || !stands {
		return err
	}
	if err := c.h.nl.RuleDel(c.rule()); err != nil && !gone(err) {
		return err
	}
	return nil
}

func (c *ruleChange) stands() (bool, error) {
	rules, err := dump(func() ([]netlink.Rule, error) { return c.h.nl.RuleList(c.Family) })
	want := c.rule()
	return slices.ContainsFunc(rules, func(r netlink.Rule) bool { return sameRule(&r, want) }), err
}

func sameRule(is, want *netlink.Rule) bool {
	return is.Priority == want.Priority && is.Protocol == want.Protocol && is.Table == want.Table &&
		is.Invert == want.Invert && is.Mark == want.Mark
}

// sysctlChange is a kernel setting.
type sysctlChange struct {
	plain
	h     *linuxHost
	Path  string // below /proc/sys
	Value string
	Was   string
}

func (c *sysctlChange) String() string       { return fmt.Sprintf("sysctl %s = %s", c.Path, c.Value) }
func (c *sysctlChange) id() string           { return "sysctl " + c.Path }
func (c *sysctlChange) part() Part           { return PartRoute }
func (c *sysctlChange) kind() string         { return "sysctl" }
func (c *sysctlChange) inherit(older change) { c.Was = older.(*sysctlChange).Was }

func (c *sysctlChange) apply(context.Context) error {
	is, err := c.h.sysctl(c.Path)
	if err != nil || is == c.Value {
		return err
	}
	return c.write(c.Value)
}

func (c *sysctlChange) undo(context.Context) error {
	is, err := c.h.sysctl(c.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && is != c.Value {
		return nil
	}
	if err != nil {
		return err
	}
	return c.write(c.Was)
}

func (c *sysctlChange) write(value string) error {
	if c.Path != reversePath {
		return fmt.Errorf("%q is no setting that is ever changed", c.Path) // a journal that is not ours
	}
	return rights(os.WriteFile(filepath.Join(c.h.root, "proc/sys", c.Path), []byte(value+"\n"), 0))
}

// gone says whether the kernel refused because there is nothing of the kind.
func gone(err error) bool {
	return errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, unix.ENODEV) ||
		errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) ||
		errors.Is(err, unix.EADDRNOTAVAIL)
}

// dumpTries is how often a list is read that changes while it is read.
const dumpTries = 10

func dump[T any](list func() ([]T, error)) ([]T, error) {
	var all []T
	var err error
	for range dumpTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

func linkAt(index int) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if size == 32 { // a default route's 0.0.0.0 comes as 16 bytes
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits)
}
