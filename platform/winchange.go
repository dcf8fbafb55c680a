package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// winLinkChange is what a tunnel's interface has for one address family: an MTU, and a
// metric by which its routes come before all others.
type winLinkChange struct {
	plain
	h    *winHost
	Name string
	LUID uint64
	IPv6 bool
	MTU  int
	Was  winSettings
}

func (c *winLinkChange) String() string {
	return fmt.Sprintf("interface %s %s mtu %d metric 0", c.Name, ipName(c.IPv6), c.MTU)
}

func (c *winLinkChange) id() string           { return fmt.Sprintf("interface %d %s", c.LUID, ipName(c.IPv6)) }
func (c *winLinkChange) part() Part           { return PartAddress }
func (c *winLinkChange) kind() string         { return "win-interface" }
func (c *winLinkChange) tunnel() string       { return c.Name }
func (c *winLinkChange) inherit(older change) { c.Was = older.(*winLinkChange).Was }

func ipName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// wanted is how the interface shall be.
func (c *winLinkChange) wanted() winSettings {
	return winSettings{MTU: uint32(c.MTU), RouterDiscovery: routerDiscoveryOff}
}

func (c *winLinkChange) apply(context.Context) error {
	is, err := c.h.sys.settings(c.LUID, c.IPv6)
	if err != nil || is == c.wanted() {
		return err
	}
	return c.h.sys.setSettings(c.LUID, c.IPv6, c.wanted())
}

func (c *winLinkChange) undo(context.Context) error {
	if same, err := c.h.same(c.LUID, c.Name); err != nil || !same {
		return err
	}
	is, err := c.h.sys.settings(c.LUID, c.IPv6)
	if errors.Is(err, fs.ErrNotExist) || err == nil && is != c.wanted() {
		return nil
	}
	if err != nil {
		return err
	}
	return c.h.sys.setSettings(c.LUID, c.IPv6, c.Was)
}

// same says whether an interface still has both name and number: after a restart of the
// service the number may be another interface's.
func (h *winHost) same(luid uint64, name string) (bool, error) {
	if h.seen == nil {
		links, err := h.sys.links()
		if err != nil {
			return false, err
		}
		h.seen = &winView{links: links}
	}
	return h.seen.has(luid, name), nil
}

// winAddressChange is an address of an interface, without a network.
type winAddressChange struct {
	plain
	h       *winHost
	Name    string
	LUID    uint64
	Address netip.Addr
	Was     bool // it was there before
}

func (c *winAddressChange) String() string { return fmt.Sprintf("address %v on %s", c.Address, c.Name) }

func (c *winAddressChange) id() string           { return fmt.Sprintf("address %v on %d", c.Address, c.LUID) }
func (c *winAddressChange) part() Part           { return PartAddress }
func (c *winAddressChange) kind() string         { return "win-address" }
func (c *winAddressChange) inherit(older change) { c.Was = older.(*winAddressChange).Was }

func (c *winAddressChange) apply(context.Context) error {
	present, err := c.h.hasAddress(c.LUID, c.Address)
	if err != nil || present {
		return err
	}
	return unlessThere(c.h.sys.addAddress(c.LUID, c.Address))
}

func (c *winAddressChange) undo(context.Context) error {
	if c.Was {
		return nil
	}
	if same, err := c.h.same(c.LUID, c.Name); err != nil || !same {
		return err
	}
	return unlessAbsent(c.h.sys.removeAddress(c.LUID, c.Address))
}

func (h *winHost) hasAddress(luid uint64, a netip.Addr) (bool, error) {
	links, err := h.sys.links()
	return slices.ContainsFunc(links, func(l winLink) bool {
		return l.LUID == luid && slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	}), err
}

// unlessThere is nil where err says that somebody has made meanwhile what was to be made.
func unlessThere(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// winRouteChange is a route: into a tunnel, or past it for what stays outside.
type winRouteChange struct {
	plain
	h       *winHost
	Name    string
	LUID    uint64
	Dst     netip.Prefix
	NextHop netip.Addr
	Was     bool // it was there before
}

func (c *winRouteChange) String() string {
	if c.NextHop.IsUnspecified() {
		return fmt.Sprintf("route %v dev %s", c.Dst, c.Name)
	}
	return fmt.Sprintf("route %v via %v dev %s", c.Dst, c.NextHop, c.Name)
}

func (c *winRouteChange) id() string {
	return fmt.Sprintf("route %v via %v on %d", c.Dst, c.NextHop, c.LUID)
}

func (c *winRouteChange) part() Part           { return PartRoute }
func (c *winRouteChange) kind() string         { return "win-route" }
func (c *winRouteChange) inherit(older change) { c.Was = older.(*winRouteChange).Was }
func (c *winRouteChange) route() winRoute {
	return winRoute{LUID: c.LUID, Dst: c.Dst, NextHop: c.NextHop}
}

func (c *winRouteChange) apply(context.Context) error {
	if c.h.table == nil {
		var err error
		if c.h.table, err = c.h.sys.routes(); err != nil {
			return err
		}
	}
	want := c.route()
	if slices.ContainsFunc(c.h.table, func(r winRoute) bool { return r.same(&want) }) {
		return nil
	}
	c.h.setOwn(&want, true)
	if err := unlessThere(c.h.sys.addRoute(want)); err != nil {
		return err
	}
	c.h.table = append(c.h.table, want)
	return nil
}

func (c *winRouteChange) undo(context.Context) error {
	if c.Was {
		return nil
	}
	if same, err := c.h.same(c.LUID, c.Name); err != nil || !same {
		return err
	}
	route := c.route()
	c.h.setOwn(&route, false)
	c.h.table = nil
	return unlessAbsent(c.h.sys.removeRoute(route))
}

// setOwn remembers which routes are ours, for they are no news.
func (h *winHost) setOwn(r *winRoute, own bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own = slices.DeleteFunc(h.own, func(o winRoute) bool { return o.same(r) })
	if own {
		h.own = append(h.own, *r)
	}
}

func (h *winHost) isOwn(r *winRoute) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.own, func(o winRoute) bool { return o.same(r) })
}

// winNamesChange are an interface's DNS servers and search domains. They are kept in the
// registry by the interface's GUID, which the next interface of that name will have.
type winNamesChange struct {
	h       *winHost
	Name    string
	LUID    uint64
	GUID    string
	Servers []netip.Addr
	Search  []string
}

func (c *winNamesChange) String() string {
	return fmt.Sprintf("names on %s: servers %v search %s", c.Name, c.Servers, strings.Join(c.Search, " "))
}

func (c *winNamesChange) id() string     { return "names on " + c.GUID }
func (c *winNamesChange) part() Part     { return PartDNS }
func (c *winNamesChange) kind() string   { return "win-names" }
func (c *winNamesChange) survives() bool { return true }
func (c *winNamesChange) blocks() bool   { return false }
func (c *winNamesChange) inherit(change) {}

func (c *winNamesChange) apply(context.Context) error { return c.set(c.Servers, c.Search) }

func (c *winNamesChange) undo(context.Context) error {
	same, err := c.h.same(c.LUID, c.Name)
	if err != nil {
		return err
	}
	if same {
		return c.set(nil, nil)
	}
	for _, path := range []string{c.path(false), c.path(true)} {
		if _, err := c.h.sys.readKey(path); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := c.h.sys.writeKey(path, map[string]any{"NameServer": nil, "SearchList": nil}); err != nil {
			return err
		}
	}
	return nil
}

// keyNames are the name servers and search domains that an interface's key has, as text.
type keyNames struct{ servers, search string }

// givenNames are what an interface was given, and what its key has of it: Windows may write a
// list in another way.
type givenNames struct{ wanted, has keyNames }

// namesIn reads an interface's key.
func (h *winHost) namesIn(path string) (keyNames, error) {
	is, err := h.sys.readKey(path)
	return keyNames{text(is["NameServer"]), text(is["SearchList"])}, unlessAbsent(err)
}

// path is the interface's key of a family.
func (c *winNamesChange) path(ipv6 bool) string {
	if ipv6 {
		return tcpip6Key + c.GUID
	}
	return tcpip4Key + c.GUID
}

// family is what the interface shall have of a family, and whether it has that. IPv6 may be
// switched off, so nothing is wished of it without a server of it; what it has from an earlier
// wish goes.
func (c *winNamesChange) family(ipv6 bool, servers []netip.Addr, search []string) (family []netip.Addr, domains []string, same bool, err error) {
	family = slices.DeleteFunc(slices.Clone(servers), func(a netip.Addr) bool { return a.Is6() != ipv6 })
	if !ipv6 || len(family) > 0 {
		domains = search
	}
	is, err := c.h.namesIn(c.path(ipv6))
	wanted := asKey(family, domains)
	same = is == wanted || c.h.given[c.path(ipv6)] == givenNames{wanted, is}
	return family, domains, same, err
}

// asKey is how an interface's key is to have names.
func asKey(servers []netip.Addr, search []string) keyNames {
	return keyNames{joined(servers, ","), strings.Join(search, ",")}
}

// stands says whether the interface has what it was given.
func (c *winNamesChange) stands() (bool, error) {
	for _, ipv6 := range []bool{false, true} {
		if _, _, same, err := c.family(ipv6, c.Servers, c.Search); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// set replaces what the interface has.
func (c *winNamesChange) set(servers []netip.Addr, search []string) error {
	for _, ipv6 := range []bool{false, true} {
		family, domains, same, err := c.family(ipv6, servers, search)
		if err != nil {
			return err
		}
		if same {
			continue
		}
		if err := c.h.sys.setNames(c.LUID, ipv6, family, domains); err != nil {
			return err
		}
		has, err := c.h.namesIn(c.path(ipv6))
		if err != nil {
			return err
		}
		if c.h.given == nil {
			c.h.given = map[string]givenNames{}
		}
		c.h.given[c.path(ipv6)] = givenNames{asKey(family, domains), has}
	}
	return nil
}

// text is a value of the registry, empty if it is missing.
func text(value any) string {
	s, _ := value.(string)
	return s
}

// Where Windows keeps what interfaces have, by their GUIDs, and the rules that say which
// servers are asked for which names (NRPT). Where group policy has a table of rules the
// others do not count.
const (
	tcpip4Key     = `SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\`
	tcpip6Key     = `SYSTEM\CurrentControlSet\Services\Tcpip6\Parameters\Interfaces\`
	netBTKey      = `SYSTEM\CurrentControlSet\Services\NetBT\Parameters\Interfaces\Tcpip_`
	nrptKey       = `SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig`
	nrptPolicyKey = `SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig`
)

// nrptComment is how our rules can be told from others'.
const nrptComment = "wayfarer"

// winRuleChange is a rule of the name resolution policy table: names below these domains
// ("." is all) are looked up by these servers.
type winRuleChange struct {
	h       *winHost
	GUID    string
	Domains []string
	Servers []netip.Addr
}

func (c *winRuleChange) String() string {
	return fmt.Sprintf("rule %s: %s by %s", c.GUID, strings.Join(c.Domains, " "), joined(c.Servers, ";"))
}

func (c *winRuleChange) id() string     { return "rule " + c.GUID }
func (c *winRuleChange) part() Part     { return PartDNS }
func (c *winRuleChange) kind() string   { return "win-rule" }
func (c *winRuleChange) survives() bool { return true }
func (c *winRuleChange) blocks() bool   { return false }
func (c *winRuleChange) inherit(change) {}
func (c *winRuleChange) path() string   { return nrptKey + `\` + c.GUID }

// values are what the DNS client reads ([MS-GPNRPT] §2.2.2): version 2 of the format, and
// option 8, servers for a domain.
func (c *winRuleChange) values() map[string]any {
	return map[string]any{
		"Version": uint32(2), "ConfigOptions": uint32(8), "Comment": nrptComment,
		"Name": c.Domains, "GenericDNSServers": joined(c.Servers, ";"),
	}
}

// stands says whether the table has the rule.
func (c *winRuleChange) stands() (bool, error) {
	is, err := c.h.sys.readKey(c.path())
	return err == nil && reflect.DeepEqual(is, c.values()), unlessAbsent(err)
}

func (c *winRuleChange) apply(context.Context) error {
	if stands, err := c.stands(); err != nil || stands {
		return err
	}
	if err := c.h.sys.writeKey(c.path(), c.values()); err != nil {
		return err
	}
	c.h.sys.reloadNames()
	return nil
}

func (c *winRuleChange) undo(context.Context) error {
	is, err := c.h.sys.readKey(c.path())
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(is) > 0 && is["Comment"] != nrptComment {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unlessAbsent(c.h.sys.removeKey(c.path())); err != nil {
		return err
	}
	c.h.sys.reloadNames()
	return nil
}

// winWINSChange are the WINS servers of an interface.
type winWINSChange struct {
	h       *winHost
	Name    string
	GUID    string
	Servers []string
	Was     []string
}

func (c *winWINSChange) String() string {
	return fmt.Sprintf("WINS on %s: %s", c.Name, strings.Join(c.Servers, " "))
}

func (c *winWINSChange) id() string           { return "WINS on " + c.GUID }
func (c *winWINSChange) part() Part           { return PartDNS }
func (c *winWINSChange) kind() string         { return "win-wins" }
func (c *winWINSChange) survives() bool       { return true }
func (c *winWINSChange) blocks() bool         { return false }
func (c *winWINSChange) inherit(older change) { c.Was = older.(*winWINSChange).Was }

const winsValue = "NameServerList"

func (c *winWINSChange) apply(context.Context) error {
	is, err := c.h.wins(c.GUID)
	if err != nil || slices.Equal(is, c.Servers) {
		return err
	}
	return c.h.sys.writeKey(netBTKey+c.GUID, map[string]any{winsValue: c.Servers})
}

func (c *winWINSChange) undo(context.Context) error {
	is, err := c.h.wins(c.GUID)
	if err != nil || !slices.Equal(is, c.Servers) {
		return err
	}
	values := map[string]any{winsValue: nil}
	if len(c.Was) > 0 {
		values[winsValue] = c.Was
	}
	return c.h.sys.writeKey(netBTKey+c.GUID, values)
}

// wins are the WINS servers that an interface has been given.
func (h *winHost) wins(guid string) ([]string, error) {
	values, err := h.sys.readKey(netBTKey + guid)
	servers, _ := values[winsValue].([]string)
	return servers, unlessAbsent(err)
}

func joined(addrs []netip.Addr, separator string) string {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, separator)
}
