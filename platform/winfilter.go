package platform

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// winLayer is where the Windows Filtering Platform asks filters: when a program begins to
// send, when something is received that nobody has sent for, and when the host is a router.
type winLayer string

const (
	layerConnect4 winLayer = "connect4"
	layerConnect6 winLayer = "connect6"
	layerAccept4  winLayer = "accept4"
	layerAccept6  winLayer = "accept6"
	layerForward4 winLayer = "forward4"
	layerForward6 winLayer = "forward6"
)

func (l winLayer) ipv6() bool { return strings.HasSuffix(string(l), "6") }

// winFilter permits or blocks what meets all of its conditions. In one layer the filter
// with the greatest weight decides.
type winFilter struct {
	layer      winLayer
	weight     uint8 // 0 to 15
	permit     bool
	conditions []winCondition
}

// String tells all of a filter, and is what it is known by.
func (f winFilter) String() string {
	words := []string{string(f.layer), fmt.Sprint(f.weight), "block"}
	if f.permit {
		words[2] = "permit"
	}
	for _, c := range f.conditions {
		words = append(words, c.String())
	}
	return strings.Join(words, " ")
}

// winField is what a condition is about, and decides the type of its value.
type winField string

const (
	fieldProgram    winField = "program"     // string: a path
	fieldLoopback   winField = "loopback"    // no value
	fieldInterface  winField = "interface"   // uint64: LUID of the one that it goes or comes by
	fieldLeaves     winField = "leaves-by"   // uint64: LUID of the one that it is passed on to
	fieldArrives    winField = "arrives-by"  // uint64: LUID of the one that it is passed on from
	fieldRemote     winField = "remote"      // netip.Prefix
	fieldTo         winField = "to"          // netip.Prefix of what is passed on
	fieldProtocol   winField = "protocol"    // uint8
	fieldLocalPort  winField = "local-port"  // uint16
	fieldRemotePort winField = "remote-port" // uint16
	fieldICMPType   winField = "icmp-type"   // uint16
)

// winCondition compares a field with a value. Of several about the same field one has to
// hold.
type winCondition struct {
	field winField
	value any
}

func (c winCondition) String() string {
	if c.value == nil {
		return string(c.field)
	}
	return fmt.Sprintf("%s %v", c.field, c.value)
}

// Weights of filters, so that the first of these that applies decides.
const (
	weightProgram  = 15
	weightLoopback = 14
	weightTunnel   = 13
	weightPortal   = 13
	weightDNS      = 12
	weightKeep     = 11
	weightLocal    = 10
	weightBlock    = 0
)

// IP protocols (IANA).
const (
	protocolTCP    uint8 = 6
	protocolUDP    uint8 = 17
	protocolICMPv6 uint8 = 58
)

// winFilterChange is our provider's filters: what may leave the host.
type winFilterChange struct {
	h       *winHost
	Tunnels []winTunnelRef
	Program string
	// Block holds back all that does not go by a tunnel.
	Block bool
	// BlockIPv6 does so for IPv6, and lets link-local addresses be.
	BlockIPv6 bool
	// BlockDNS keeps names from being looked up outside.
	BlockDNS bool
	Local    []netip.Prefix // is not held back
	Portal   []netip.Addr   // the block lets the host itself reach them
	// Found are the texts of filters of which nobody knows any more what they were made of.
	Found []string `json:",omitempty"`
}

type winTunnelRef struct {
	Name string
	LUID uint64
}

// planFilters decides what is held back. A system whose filters cannot be reached can
// have tunnels, but no block.
func (h *winHost) planFilters(cfg Config, view *winView, home *home, servers []netip.Addr) ([]change, Report, error) {
	w := cfg.withholds(home, servers)
	report := Report{IPv6Blocked: w.noIPv6}
	c := &winFilterChange{
		h: h, Program: h.sys.program, Block: cfg.BlockOutside, BlockIPv6: w.noIPv6 && !cfg.BlockOutside,
		BlockDNS: w.dns, Local: w.local, Portal: w.portal,
	}
	for _, t := range cfg.Tunnels {
		c.Tunnels = append(c.Tunnels, winTunnelRef{t.Interface, view.byName(t.Interface).LUID})
	}
	if len(c.filters()) == 0 {
		return nil, report, nil
	}
	if _, err := h.sys.filters(); err != nil {
		if cfg.BlockOutside {
			return nil, report, err
		}
		report.IPv6Blocked = false
		report.Unguarded = fmt.Sprintf("the Windows Filtering Platform cannot be reached: %v", err)
		h.log.Warn("network: names and IPv6 are not held back", "error", err)
		return nil, report, nil
	}
	return []change{c}, report, nil
}

func (c *winFilterChange) String() string {
	return "filters:\n" + strings.Join(c.texts(), "\n")
}

func (c *winFilterChange) texts() []string {
	if len(c.Found) > 0 {
		return slices.Clone(c.Found)
	}
	var texts []string
	for _, f := range c.filters() {
		texts = append(texts, f.String())
	}
	return texts
}

func (c *winFilterChange) id() string     { return "filters" }
func (c *winFilterChange) kind() string   { return "win-filters" }
func (c *winFilterChange) part() Part     { return PartFirewall }
func (c *winFilterChange) survives() bool { return false }
func (c *winFilterChange) blocks() bool   { return c.Block }
func (c *winFilterChange) inherit(change) {}

// apply replaces the filters at once, so that there is no moment without them.
func (c *winFilterChange) apply(context.Context) error {
	if stands, err := c.stands(); err != nil || stands {
		return err
	}
	c.Found = nil
	return c.h.sys.setFilters(c.filters())
}

// stands says whether the filters are there; Windows lists them in any order.
func (c *winFilterChange) stands() (bool, error) {
	is, err := c.h.sys.filters()
	wanted := c.texts()
	slices.Sort(is)
	slices.Sort(wanted)
	return slices.Equal(is, wanted), err
}

func (c *winFilterChange) undo(context.Context) error {
	is, err := c.h.sys.filters()
	if err != nil || len(is) == 0 {
		return err
	}
	return c.h.sys.setFilters(nil)
}

// filters are those of the change. The model are wireguard-windows' filters; unlike them
// these do not overrule other programs' blocks.
func (c *winFilterChange) filters() []winFilter {
	if !c.Block && !c.BlockIPv6 && !c.BlockDNS {
		return nil
	}
	var all []winFilter
	add := func(weight uint8, permit bool, layers []winLayer, conditions ...winCondition) {
		for _, l := range layers {
			all = append(all, winFilter{layer: l, weight: weight, permit: permit, conditions: conditions})
		}
	}
	held := c.heldLayers()
	sends := []winLayer{layerConnect4, layerConnect6}
	ends := slices.DeleteFunc(slices.Clone(held), func(l winLayer) bool { return l == layerForward4 || l == layerForward6 })
	if c.BlockDNS && !c.Block {
		ends = appendNew(ends, sends...)
	}
	add(weightProgram, true, ends, winCondition{fieldProgram, c.Program})
	add(weightLoopback, true, ends, winCondition{fieldLoopback, nil})
	for _, t := range c.Tunnels {
		add(weightTunnel, true, ends, winCondition{fieldInterface, t.LUID})
	}
	for _, a := range c.Portal {
		add(weightPortal, true, ofFamily([]winLayer{layerConnect4, layerConnect6}, a), winCondition{fieldRemote, single(a)})
	}
	if c.BlockDNS {
		add(weightDNS, false, sends, winCondition{fieldProtocol, protocolUDP}, winCondition{fieldProtocol, protocolTCP}, winCondition{fieldRemotePort, uint16(53)})
	}
	if len(held) == 0 {
		return all
	}
	c.addHousekeeping(add)
	c.addForward(add, held)
	for _, p := range c.open() {
		add(weightLocal, true, ofFamily(ends, p.Addr()), winCondition{fieldRemote, p})
	}
	add(weightBlock, false, held)
	return all
}

// heldLayers are those in which all is held back that nothing permits.
func (c *winFilterChange) heldLayers() []winLayer {
	switch {
	case c.Block:
		return []winLayer{layerConnect4, layerConnect6, layerAccept4, layerAccept6, layerForward4, layerForward6}
	case c.BlockIPv6:
		return []winLayer{layerConnect6, layerAccept6, layerForward6}
	}
	return nil
}

// ofFamily are the layers of an address's family.
func ofFamily(layers []winLayer, a netip.Addr) []winLayer {
	return slices.DeleteFunc(slices.Clone(layers), func(l winLayer) bool { return l.ipv6() != a.Is6() })
}

// addHousekeeping lets through what an interface needs to get and keep its addresses:
// DHCP (RFC 2131 §4.1, RFC 8415 §7.2), neighbour discovery (RFC 4861 §4) and the
// multicast reports that it depends on (RFC 2710 §3, RFC 3810 §5).
func (c *winFilterChange) addHousekeeping(add func(uint8, bool, []winLayer, ...winCondition)) {
	udp := func(local, remote uint16) []winCondition {
		return []winCondition{{fieldProtocol, protocolUDP}, {fieldLocalPort, local}, {fieldRemotePort, remote}}
	}
	if c.Block {
		add(weightKeep, true, []winLayer{layerConnect4, layerAccept4}, udp(68, 67)...)
	}
	link := winCondition{fieldRemote, netip.MustParsePrefix("fe80::/10")}
	servers := winCondition{fieldRemote, netip.MustParsePrefix("ff02::1:2/128")}
	add(weightKeep, true, []winLayer{layerConnect6}, append(udp(546, 547), link, servers)...)
	add(weightKeep, true, []winLayer{layerAccept6}, append(udp(546, 547), link)...)
	icmp := func(types ...uint8) []winCondition {
		conditions := []winCondition{{fieldProtocol, protocolICMPv6}}
		for _, t := range types {
			conditions = append(conditions, winCondition{fieldICMPType, uint16(t)})
		}
		return conditions
	}
	add(weightKeep, true, []winLayer{layerConnect6}, icmp(neighbourICMPv6...)...)
	add(weightKeep, true, []winLayer{layerAccept6}, icmp(130, 134, 135, 136)...)
}

// addForward lets pass on what goes to a tunnel or comes from one, or goes to what is not
// held back.
func (c *winFilterChange) addForward(add func(uint8, bool, []winLayer, ...winCondition), held []winLayer) {
	forward := slices.DeleteFunc(slices.Clone(held), func(l winLayer) bool { return l != layerForward4 && l != layerForward6 })
	for _, t := range c.Tunnels {
		add(weightTunnel, true, forward, winCondition{fieldLeaves, t.LUID})
		add(weightTunnel, true, forward, winCondition{fieldArrives, t.LUID})
	}
	for _, p := range c.open() {
		add(weightLocal, true, ofFamily(forward, p.Addr()), winCondition{fieldTo, p})
	}
}

// open lists the destinations that are not held back.
func (c *winFilterChange) open() []netip.Prefix { return openPrefixes(c.Local, c.Block, c.BlockIPv6) }
