package gateway

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wayfarer/ike/isakmp"
)

// answerSettings answers a Mode-Config REQUEST (draft-dukes-ike-mode-cfg-02 §2.1).
// Like strongSwan it tells all it has, whatever was asked for, unless it is strict.
func (s *sa) answerSettings(mid uint32, c isakmp.Config) {
	var wish netip.Addr
	if a, ok := isakmp.Find(c.Attributes, isakmp.CfgIP4Address); ok && len(a.Value) == 4 {
		wish = netip.AddrFrom4([4]byte(a.Value))
	}
	as := s.settings(wish)
	if s.gw.cfg.Quirks.OnlyAsked {
		as = slices.DeleteFunc(as, func(a isakmp.Attribute) bool {
			_, asked := isakmp.Find(c.Attributes, a.Type)
			return !asked
		})
	}
	s.respond(s.config(ConfigReply, mid, isakmp.ConfigReply, c.Identifier, as))
}

// pushSettings sends the settings without being asked (draft-dukes-ike-mode-cfg-02
// §2.2), and calls then when they were acknowledged.
func (s *sa) pushSettings(then func()) {
	s.pushMID, s.pushed = s.newMID(), then
	status := s.xauth.statusMID
	switch style := s.gw.cfg.Quirks.Push; {
	case style == PushChained && status != 0:
		s.pushMID = status
	case style == PushDerived && status != 0:
		s.pushMID = status
		s.forgetChain(status)
	case style == PushRaw:
		s.keepChain(s.pushMID, &chain{s.phase1IV.iv})
	}
	s.request(s.config(ConfigSet, s.pushMID, isakmp.ConfigSet, uint16(s.gw.randomUint32(0)), s.settings(netip.Addr{})),
		func() { s.end("no answer to the settings") })
}

// settings assigns an address and lists everything that the client is told. From an
// empty pool it gets settings without an address.
func (s *sa) settings(wish netip.Addr) []isakmp.Attribute {
	c := &s.gw.cfg.Settings
	var as []isakmp.Attribute
	add := func(typ uint16, value []byte) { as = append(as, isakmp.Attribute{Type: typ, Value: value}) }

	if s.gw.assign(s, wish) {
		add(isakmp.CfgIP4Address, s.address.AsSlice())
		if c.NetmaskBits > 0 {
			add(isakmp.CfgIP4Netmask, net.CIDRMask(c.NetmaskBits, 32))
		}
		if c.AddressExpiry > 0 {
			add(isakmp.CfgAddressExpiry, binary.BigEndian.AppendUint32(nil, uint32(c.AddressExpiry/time.Second)))
		}
		if s.address6.IsValid() {
			add(isakmp.CfgIP6Address, s.address6.AsSlice())
		}
	}
	for _, a := range c.DNS {
		if a.Is6() {
			add(isakmp.CfgIP6DNS, a.AsSlice())
		} else {
			add(isakmp.CfgIP4DNS, a.AsSlice())
		}
	}
	for _, a := range c.WINS {
		add(isakmp.CfgIP4NBNS, a.AsSlice())
	}
	if c.ApplicationVersion != "" {
		add(isakmp.CfgApplicationVersion, []byte(c.ApplicationVersion))
	}
	if s.peer.unity {
		as = append(as, s.unity()...)
	}
	return append(as, c.Extra...)
}

// unity lists Cisco's attributes.
func (s *sa) unity() []isakmp.Attribute {
	c, quirks := &s.gw.cfg.Settings, &s.gw.cfg.Quirks
	var as []isakmp.Attribute
	text := func(typ uint16, value string) {
		if value != "" {
			as = append(as, isakmp.Attribute{Type: typ, Value: []byte(value)})
		}
	}
	text(isakmp.UnityBanner, c.Banner)
	if c.SavePassword != nil {
		var v uint16
		if *c.SavePassword {
			v = 1
		}
		as = append(as, isakmp.BasicAttribute(isakmp.UnitySavePassword, v))
	}
	text(isakmp.UnityDefDomain, c.DefaultDomain)
	splitDNS := strings.Join(c.SplitDNS, ",")
	if quirks.ZeroSplitDNS && splitDNS != "" {
		splitDNS = strings.ReplaceAll(splitDNS, ",", "\x00,") + "\x00"
	}
	text(isakmp.UnitySplitDNS, splitDNS)
	as = append(as, s.networks(isakmp.UnitySplitInclude, c.SplitInclude)...)
	as = append(as, s.networks(isakmp.UnityLocalLAN, c.LocalLAN)...)
	if c.PFSGroup != 0 {
		as = append(as, isakmp.BasicAttribute(isakmp.UnityPFS, c.PFSGroup))
	}
	text(isakmp.UnityBackupServers, strings.Join(c.BackupServers, ","))
	return as
}

// networks writes a list of networks: address, mask, and in the long form six more
// bytes for protocol and ports, which are zero.
func (s *sa) networks(typ uint16, prefixes []netip.Prefix) []isakmp.Attribute {
	var as []isakmp.Attribute
	var long []byte
	for _, p := range prefixes {
		entry := append(p.Addr().AsSlice(), net.CIDRMask(p.Bits(), 32)...)
		if s.gw.cfg.Settings.ShortSplit {
			as = append(as, isakmp.Attribute{Type: typ, Value: entry})
		}
		ports := make([]byte, 6)
		if s.gw.cfg.Quirks.SpoiltPorts {
			s.gw.random(ports)
		}
		long = append(append(long, entry...), ports...)
	}
	if !s.gw.cfg.Settings.ShortSplit && len(long) > 0 {
		as = append(as, isakmp.Attribute{Type: typ, Value: long})
	}
	return as
}

// pool gives addresses to clients. Network and broadcast address of the prefix are
// not given out, unless it has no others.
type pool struct {
	prefix netip.Prefix
	six    netip.Prefix          // IPv6 addresses beside; invalid: none
	leases map[netip.Addr]*sa    // in use
	last   map[string]netip.Addr // by user, to give the same one again
	owners map[netip.Addr]string // the user who had the address last
}

func newPool(prefix, six netip.Prefix) pool {
	return pool{
		prefix: prefix.Masked(), six: six, leases: make(map[netip.Addr]*sa),
		last: make(map[string]netip.Addr), owners: make(map[netip.Addr]string),
	}
}

// assign gives s an address if it has none yet. A client that asks for the address
// of another connection of the same user is the same client which renews its
// ISAKMP SA: it takes over the address and the ESP SAs, as with strongSwan.
func (g *Gateway) assign(s *sa, wish netip.Addr) bool {
	p := &g.pool
	if s.address.IsValid() {
		return true
	}
	if g.cfg.Quirks.AddressByUser {
		wish = p.last[s.user]
	}
	if old := p.leases[wish]; old != nil && old.user == s.user && !g.cfg.Quirks.OtherAddress {
		p.release(old)
		p.take(s, wish)
		old.address, old.address6 = netip.Addr{}, netip.Addr{}
		for _, c := range old.children {
			c.sa = s
		}
		s.children, old.children = append(s.children, old.children...), nil
		return true
	}
	for _, a := range []netip.Addr{wish, p.last[s.user]} {
		if a.IsValid() && p.usable(a) {
			p.take(s, a)
			return true
		}
	}
	// An address that nobody ever had goes first, so that others find theirs again.
	var again netip.Addr
	for a := p.prefix.Addr(); p.prefix.Contains(a); a = a.Next() {
		if !p.usable(a) {
			continue
		}
		if p.owners[a] == "" {
			p.take(s, a)
			return true
		}
		if !again.IsValid() {
			again = a
		}
	}
	if again.IsValid() {
		p.take(s, again)
	}
	return again.IsValid()
}

func (p *pool) usable(a netip.Addr) bool {
	if p.prefix.Bits() < 31 && (a == p.prefix.Addr() || !p.prefix.Contains(a.Next())) {
		return false
	}
	return p.prefix.Contains(a) && p.leases[a] == nil
}

func (p *pool) take(s *sa, a netip.Addr) {
	delete(p.last, p.owners[a])
	p.leases[a], p.last[s.user], p.owners[a], s.address = s, a, s.user, a
	if p.six.IsValid() {
		s.address6 = p.sixth(a)
		p.leases[s.address6] = s
	}
}

// sixth is the IPv6 address that goes with an IPv4 address: the same host number.
func (p *pool) sixth(a netip.Addr) netip.Addr {
	six, four, first := p.six.Masked().Addr().As16(), a.As4(), p.prefix.Addr().As4()
	for i := range four {
		six[12+i] |= four[i] ^ first[i]
	}
	return netip.AddrFrom16(six)
}

func (p *pool) release(s *sa) {
	for _, a := range []netip.Addr{s.address, s.address6} {
		if a.IsValid() && p.leases[a] == s {
			delete(p.leases, a)
		}
	}
}
