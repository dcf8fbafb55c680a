package platform

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// firewallTable is the name of our table, of the family inet.
const firewallTable = "wayfarer"

// firewallChange is our table: what may leave the host, and what may come to the
// tunnels' addresses.
type firewallChange struct {
	// Guards are the tunnels and the addresses that only they receive packets for.
	Guards []guard
	// Block holds back all that does not leave by a tunnel.
	Block bool
	// BlockIPv6 does so for IPv6, and lets link-local addresses be.
	BlockIPv6 bool
	// Local are networks that are not held back.
	Local []netip.Prefix
	// Portal are addresses that the block lets the host itself reach.
	Portal []netip.Addr
}

// planFirewall decides what is held back. A system without nftables can have tunnels,
// but no block.
func (h *linuxHost) planFirewall(cfg Config, home *home, servers []netip.Addr, applied []change) ([]change, Report, error) {
	w := cfg.withholds(home, servers)
	report := Report{IPv6Blocked: w.noIPv6}
	c := &firewallChange{Guards: w.guards, Block: cfg.BlockOutside, BlockIPv6: w.noIPv6 && !cfg.BlockOutside, Local: w.local, Portal: w.portal}
	state, err := h.firewall()
	if noFirewall(err) && !cfg.BlockOutside {
		report.IPv6Blocked = false
		report.Unguarded = fmt.Sprintf("the kernel has no nftables: %v", err)
		h.log.Warn("network: packets for a tunnel's addresses are accepted everywhere", "error", err)
		return nil, report, nil
	}
	if err != nil {
		return nil, report, rights(err)
	}
	if state.foreign && find(applied, c.id()) == nil {
		return nil, report, fmt.Errorf("there is a firewall table inet %s that is somebody else's", firewallTable)
	}
	return []change{c}, report, nil
}

// noFirewall says whether the kernel does not know nftables: no netfilter, netfilter
// without tables (EINVAL), or without a table for both address families.
func noFirewall(err error) bool {
	for _, unknown := range []error{unix.EPROTONOSUPPORT, unix.EINVAL, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, unknown) {
			return true
		}
	}
	return false
}

func (c *firewallChange) String() string {
	var rules []string
	for _, r := range c.rules() {
		rules = append(rules, r.String())
	}
	return "firewall:\n" + strings.Join(rules, "\n")
}

func (c *firewallChange) id() string     { return "firewall" }
func (c *firewallChange) kind() string   { return "firewall" }
func (c *firewallChange) part() Part     { return PartFirewall }
func (c *firewallChange) survives() bool { return false }
func (c *firewallChange) blocks() bool   { return c.Block }
func (c *firewallChange) inherit(change) {}

// is says whether the table has the rules of this change.
func (c *firewallChange) is(state firewallState) bool {
	return state.exists && slices.EqualFunc(state.rules, c.rules(), func(is string, want rule) bool { return is == want.String() })
}

// apply replaces the table at once, so that there is no moment without it.
func (c *firewallChange) apply(context.Context) error { return c.settle(firewallOf) }

// settle looks once more if another program has removed or made the table since the look.
func (c *firewallChange) settle(look func(*nftables.Conn) (firewallState, error)) error {
	err := c.replace(look)
	if gone(err) || errors.Is(err, unix.EEXIST) {
		err = c.replace(look)
	}
	return rights(err)
}

// replace makes the table, unless it is there as it shall be.
func (c *firewallChange) replace(look func(*nftables.Conn) (firewallState, error)) error {
	conn, done, err := dialFirewall()
	if err != nil {
		return err
	}
	defer done()
	state, err := look(conn)
	if err != nil || c.is(state) {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: firewallTable}
	if state.exists {
		conn.DelTable(table)
	}
	conn.CreateTable(table)
	chains := map[string]*nftables.Chain{}
	for _, base := range baseChains {
		policy := nftables.ChainPolicyAccept
		chains[base.name] = conn.AddChain(&nftables.Chain{
			Name: base.name, Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: base.hook, Priority: base.priority, Policy: &policy,
		})
	}
	for _, r := range c.rules() {
		conn.AddRule(&nftables.Rule{
			Table: table, Chain: chains[r.chain], Exprs: r.exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, r.text),
		})
	}
	return conn.Flush()
}

func (c *firewallChange) undo(context.Context) error {
	conn, done, err := dialFirewall()
	if err != nil {
		if noFirewall(err) {
			return nil
		}
		return err
	}
	defer done()
	state, err := firewallOf(conn)
	if noFirewall(err) {
		return nil
	}
	if err != nil {
		return rights(err)
	}
	if !state.exists || state.foreign {
		return nil
	}
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: firewallTable})
	if err := conn.Flush(); err != nil && !gone(err) {
		return rights(err)
	}
	return nil
}

// baseChains are all the table's chains. Packets for a tunnel's address are dropped
// before anything else looks at them.
var baseChains = []struct {
	name     string
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
}{
	{"guard", nftables.ChainHookPrerouting, nftables.ChainPriorityRaw},
	{"output", nftables.ChainHookOutput, nftables.ChainPriorityFilter},
	{"forward", nftables.ChainHookForward, nftables.ChainPriorityFilter},
}

// rule is one rule of a chain, and how nft would write it, which is its comment too:
// rules are told apart by it.
type rule struct {
	chain, text string
	exprs       []expr.Any
}

func (r rule) String() string { return r.chain + ": " + r.text }

func (c *firewallChange) rules() []rule {
	var rules []rule
	add := func(chain string, parts ...match) {
		r := rule{chain: chain}
		var words []string
		for _, p := range parts {
			words = append(words, p.text)
			r.exprs = append(r.exprs, p.exprs...)
		}
		r.text = strings.Join(words, " ")
		rules = append(rules, r)
	}
	for _, g := range c.Guards {
		for _, a := range g.Addresses {
			add("guard", isNot(inBy(g.Link)), isNot(inBy("lo")), to(single(a)), drop)
		}
	}
	if !c.Block && !c.BlockIPv6 {
		return rules
	}
	for _, chain := range []string{"output", "forward"} {
		if !c.Block {
			add(chain, isNot(ipv6), accept)
		}
		if chain == "output" {
			add(chain, outBy("lo"), accept)
			add(chain, marked, accept)
			c.addHousekeeping(add)
			for _, a := range c.Portal {
				add(chain, to(single(a)), accept)
			}
		}
		for _, g := range c.Guards {
			add(chain, outBy(g.Link), accept)
			if chain == "forward" {
				add(chain, inBy(g.Link), accept)
			}
		}
		for _, p := range c.open() {
			add(chain, to(p), accept)
		}
		add(chain, reject)
	}
	return rules
}

// addHousekeeping lets through what an interface needs to get and keep its addresses:
// DHCP (RFC 2131 §4.1, RFC 8415 §7.2), neighbour discovery (RFC 4861 §4) and the
// multicast reports that it depends on (RFC 2710 §3, RFC 3810 §5).
func (c *firewallChange) addHousekeeping(add func(string, ...match)) {
	if c.Block {
		add("output", isNot(ipv6), udp(68, 67), accept)
	}
	add("output", to(netip.MustParsePrefix("fe80::/10")), udp(546, 547), accept)
	add("output", to(netip.MustParsePrefix("ff02::1:2/128")), udp(546, 547), accept)
	for _, kind := range neighbourICMPv6 {
		add("output", icmp6(kind), accept)
	}
}

// open lists the destinations that are not held back.
func (c *firewallChange) open() []netip.Prefix { return openPrefixes(c.Local, c.Block, c.BlockIPv6) }

// match is a part of a rule.
type match struct {
	text  string
	exprs []expr.Any
}

var (
	accept = match{"accept", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}}
	drop   = match{"drop", []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}}
	// reject tells programs at once that they wait in vain.
	reject = match{"reject with icmpx admin-prohibited", []expr.Any{
		&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED},
	}}
	marked = match{
		fmt.Sprintf("meta mark %#x", bypassMark),
		equal(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, binaryutil.NativeEndian.PutUint32(bypassMark)),
	}
	ipv6 = match{"meta nfproto ipv6", equal(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, []byte{unix.NFPROTO_IPV6})}
)

// equal loads a value into register 1 and compares it.
func equal(load expr.Any, value []byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}

// isNot inverts a match of one comparison.
func isNot(m match) match {
	compare := *m.exprs[1].(*expr.Cmp)
	compare.Op = expr.CmpOpNeq
	value := strings.LastIndexByte(m.text, ' ')
	return match{m.text[:value] + " !=" + m.text[value:], []expr.Any{m.exprs[0], &compare}}
}

func outBy(link string) match { return by("oifname", expr.MetaKeyOIFNAME, link) }
func inBy(link string) match  { return by("iifname", expr.MetaKeyIIFNAME, link) }

func by(word string, key expr.MetaKey, link string) match {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, link)
	return match{fmt.Sprintf("%s %q", word, link), equal(&expr.Meta{Key: key, Register: 1}, name)}
}

// to matches destinations in p.
func to(p netip.Prefix) match {
	family, word, offset := byte(unix.NFPROTO_IPV4), "ip", uint32(16)
	if p.Addr().Is6() {
		family, word, offset = unix.NFPROTO_IPV6, "ip6", 24
	}
	size := uint32(p.Addr().BitLen() / 8)
	exprs := equal(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, []byte{family})
	exprs = append(exprs,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: ipNet(p).Mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()})
	return match{fmt.Sprintf("%s daddr %v", word, p), exprs}
}

func protocol(number byte) []expr.Any {
	return equal(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, []byte{number})
}

// udp matches source and destination port.
func udp(from, to uint16) match {
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 4}
	return match{fmt.Sprintf("udp sport %d udp dport %d", from, to), append(protocol(unix.IPPROTO_UDP), equal(load, ports)...)}
}

func icmp6(kind byte) match {
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}
	return match{fmt.Sprintf("icmpv6 type %d", kind), append(protocol(unix.IPPROTO_ICMPV6), equal(load, []byte{kind})...)}
}

// firewallState is what the kernel has of our table.
type firewallState struct {
	exists  bool
	foreign bool     // somebody else has made it
	rules   []string // as rule.String writes them, in the order of baseChains
}

// dialFirewall opens a connection to the kernel's firewall; done closes it. The kernel lets
// that wait until nobody uses any more what was removed, by whomever: ten milliseconds,
// which nobody here needs to wait for.
func dialFirewall() (_ *nftables.Conn, done func(), _ error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { go conn.CloseLasting() }, nil
}

func readFirewall() (firewallState, error) {
	conn, done, err := dialFirewall()
	if err != nil {
		return firewallState{}, err
	}
	defer done()
	return firewallOf(conn)
}

func firewallOf(conn *nftables.Conn) (firewallState, error) {
	var state firewallState
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return state, err
	}
	tables = slices.DeleteFunc(tables, func(t *nftables.Table) bool { return t.Name != firewallTable })
	if len(tables) == 0 {
		return state, nil
	}
	state.exists, state.foreign = true, true
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return state, err
	}
	chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != firewallTable })
	for _, base := range baseChains {
		i := slices.IndexFunc(chains, func(c *nftables.Chain) bool { return c.Name == base.name })
		if i < 0 {
			continue
		}
		state.foreign = false
		rules, err := conn.GetRules(tables[0], chains[i])
		if err != nil {
			return state, err
		}
		for _, r := range rules {
			text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			state.rules = append(state.rules, rule{chain: base.name, text: text}.String())
		}
	}
	return state, nil
}
