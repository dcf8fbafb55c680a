package ike

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wayfarer/ike/isakmp"
)

// Bounds on what is taken from a gateway.
const (
	maxServers     = 64
	maxNetworks    = 256
	maxNames       = 64
	maxDropped     = 16 // refused attributes that are told
	maxNameLen     = 253
	pushPatience   = 30 * time.Second
	splitEntryLen  = 14 // address, mask, protocol, ports
	splitShortLen  = 8  // address, mask: strongSwan's attr plugin
	minExpiry      = time.Minute
	ip4Len         = 4
	ip6Len         = 16
	ip6PrefixedLen = 17 // old form of IP6_ADDRESS with a prefix length
)

// unityAttributes are asked for when the gateway has shown the Unity vendor ID. The
// rules of a firewall (FW_TYPE) are not: they would have to be obeyed.
var unityAttributes = []uint16{
	isakmp.UnityBanner, isakmp.UnitySavePassword, isakmp.UnityDefDomain, isakmp.UnitySplitDNS,
	isakmp.UnitySplitInclude, isakmp.UnityLocalLAN, isakmp.UnityPFS, isakmp.UnityBackupServers,
}

// modeConfig gets the settings (draft-dukes-ike-mode-cfg-02 §2, §5.1), pulled:
//
//	->  HDR*, HASH, ATTR(REQUEST)
//	<-  HDR*, HASH, ATTR(REPLY)
//
// or pushed:
//
//	<-  HDR*, HASH, ATTR(SET)
//	->  HDR*, HASH, ATTR(ACK)
//
// With "auto" the REQUEST goes out at once and a SET that comes instead is the
// answer, so neither kind of gateway is kept waiting.
func (sa *isakmpSA) modeConfig(ctx context.Context) (Assignment, error) {
	sa.enter(StepGetSettings)
	if pushed := sa.pushed; pushed != nil && sa.s.cfg.ModeConfig != ModeConfigPull {
		sa.pushed = nil
		return sa.checkAssignment(*pushed)
	}
	request, mid, identifier, err := sa.configRequest()
	if err != nil {
		return Assignment{}, err
	}
	var c isakmp.Config
	accept := func(m *message) (err error) {
		if m.Exchange != isakmp.Transaction {
			return errNotMine
		}
		if c, err = sa.parseTransaction(m); err != nil {
			return err
		}
		switch {
		case c.Type == isakmp.ConfigReply && request != nil && m.MessageID == mid && c.Identifier == identifier:
			return nil
		case c.Type == isakmp.ConfigSet && sa.s.cfg.ModeConfig != ModeConfigPull && hasSettings(c.Attributes):
			return nil
		}
		return errNotMine
	}
	patience := pushPatience
	if request != nil {
		patience = sa.giveUp
	}
	if !sa.s.dialing() {
		patience = renewalPatience
	}
	m, err := sa.wait(ctx, request, patience, accept)
	var silent *NoAnswerError
	if errors.As(err, &silent) && !sa.s.dialing() {
		sa.log.Info("the gateway does not give settings again")
		return sa.s.Assignment(), nil
	}
	if err != nil {
		return Assignment{}, err
	}
	if c.Type == isakmp.ConfigReply {
		a, dropped := parseAssignment(c.Attributes)
		sa.reportDropped(dropped)
		return sa.checkAssignment(a)
	}
	sa.takeSet(m, c)
	pushed := sa.pushed
	sa.pushed = nil
	return sa.checkAssignment(*pushed)
}

// configRequest makes a REQUEST under a message ID and an identifier of its own; nil
// where the settings are waited for.
func (sa *isakmpSA) configRequest() (request []byte, mid uint32, identifier uint16, err error) {
	if sa.s.cfg.ModeConfig == ModeConfigPush && sa.s.dialing() {
		return nil, 0, 0, nil
	}
	if mid, err = sa.newMessageID(); err != nil {
		return nil, 0, 0, err
	}
	var id [2]byte
	if err := sa.random(id[:]); err != nil {
		return nil, 0, 0, err
	}
	identifier = binary.BigEndian.Uint16(id[:])
	c := isakmp.Config{Type: isakmp.ConfigRequest, Identifier: identifier, Attributes: sa.requestAttributes()}
	return sa.sealConfig(mid, c), mid, identifier, nil
}

// requestAttributes lists what is asked for: empty values, but the addresses that we
// would like to keep, and what is told about this computer.
func (sa *isakmpSA) requestAttributes() []isakmp.Attribute {
	var as []isakmp.Attribute
	ask := func(types ...uint16) {
		for _, t := range types {
			as = append(as, isakmp.Attribute{Type: t})
		}
	}
	tell := func(typ uint16, value []byte) { as = append(as, isakmp.Attribute{Type: typ, Value: value}) }
	wanted4, wanted6 := sa.s.wantedAddresses()
	tell(isakmp.CfgIP4Address, wanted4.AsSlice())
	ask(isakmp.CfgIP4Netmask, isakmp.CfgIP4DNS, isakmp.CfgIP4NBNS, isakmp.CfgAddressExpiry)
	tell(isakmp.CfgApplicationVersion, []byte(sa.s.cfg.Application))
	tell(isakmp.CfgIP6Address, wanted6.AsSlice())
	ask(isakmp.CfgIP6DNS)
	if sa.caps&capUnity == 0 {
		return as
	}
	ask(unityAttributes...)
	if sa.wantsUDPPort() {
		ask(isakmp.UnityNATTPort)
	}
	if name := sa.s.cfg.HostName; validName(name) {
		tell(isakmp.UnityDDNSHostname, []byte(name))
	}
	return as
}

// takeSet takes in a SET and acknowledges it: each attribute with an empty value,
// STATUS as it came.
func (sa *isakmpSA) takeSet(m *message, c isakmp.Config) {
	ack := isakmp.Config{Type: isakmp.ConfigAck, Identifier: c.Identifier}
	for _, a := range c.Attributes {
		if a.Type != isakmp.XAuthStatus {
			a = isakmp.Attribute{Type: a.Type}
		}
		ack.Attributes = append(ack.Attributes, a)
	}
	sa.reply(m, sa.sealConfig(m.MessageID, ack))
	if hasSettings(c.Attributes) {
		var a Assignment
		switch {
		case sa.pushed != nil:
			a = *sa.pushed // several early SETs count together
		case sa.state == stateUp:
			a = sa.s.Assignment()
		}
		a.forget(c.Attributes)
		sa.reportDropped(a.add(c.Attributes))
		sa.pushed = &a
	}
}

// hasSettings reports whether there is anything but XAUTH's.
func hasSettings(as []isakmp.Attribute) bool {
	return slices.ContainsFunc(as, func(a isakmp.Attribute) bool { return !isXAuthAttribute(a) })
}

func (sa *isakmpSA) reportDropped(dropped []string) {
	for _, text := range dropped {
		sa.log.Warn("ignored a setting of the gateway", "setting", text)
		sa.s.event(Event{Kind: EventWarning, Step: sa.step, Code: "gateway-settings", Text: text})
	}
}

// checkAssignment refuses settings that cannot work or would do harm.
func (sa *isakmpSA) checkAssignment(a Assignment) (Assignment, error) {
	if len(a.Addresses) == 0 {
		return a, &RefusedError{Step: sa.step, What: RefusedSettings, Authenticated: true, Detail: "it gave no address"}
	}
	for _, p := range a.Addresses {
		if p.Addr() == sa.peer.Addr() {
			return a, &ProtocolError{Step: sa.step, Detail: fmt.Sprintf("it gave its own address %v", p.Addr())}
		}
	}
	return a, nil
}

// transaction handles a Transaction outside of XAUTH and Mode-Config: settings
// pushed later, or a SET whose REPLY came first.
func (sa *isakmpSA) transaction(m *message) error {
	c, err := sa.parseTransaction(m)
	if err != nil {
		return dropped("Transaction: %v", err)
	}
	if c.Type == isakmp.ConfigRequest && isXAuth(c.Attributes) && sa.state == stateUp && sa.s.method.xauth {
		sa.commit(m)
		sa.signInAgain(m, c)
		return nil
	}
	if c.Type != isakmp.ConfigSet {
		return dropped("%v with identifier %d that nobody waits for", c.Type, c.Identifier)
	}
	sa.commit(m)
	sa.pushed = nil
	sa.takeSet(m, c)
	if status, ok := isakmp.Find(c.Attributes, isakmp.XAuthStatus); ok && sa.state == stateUp {
		if err := sa.verdict(status, c); err != nil {
			return fatalError{err}
		}
	}
	if sa.pushed == nil || sa.state != stateUp {
		return nil
	}
	return sa.s.newSettings(*sa.pushed)
}

// parseAssignment reads Mode-Config and Unity attributes. Repeated ones are merged.
// What makes no sense is left out and said in dropped.
func parseAssignment(as []isakmp.Attribute) (a Assignment, dropped []string) {
	dropped = a.add(as)
	return a, dropped
}

// forget drops the settings that attributes bring anew; all others stay as they are.
func (a *Assignment) forget(as []isakmp.Attribute) {
	for _, attr := range as {
		switch attr.Type {
		case isakmp.CfgIP4Address, isakmp.CfgIP6Address:
			a.Addresses = nil
		case isakmp.CfgIP4DNS, isakmp.CfgIP6DNS:
			a.DNS = nil
		case isakmp.CfgIP4NBNS, isakmp.CfgIP6NBNS:
			a.WINS = nil
		case isakmp.CfgIP4Subnet, isakmp.CfgIP6Subnet, isakmp.UnitySplitInclude:
			a.SplitInclude = nil
		case isakmp.UnityLocalLAN:
			a.SplitExclude = nil
		case isakmp.UnitySplitDNS:
			a.SplitDNS = nil
		case isakmp.UnityBackupServers:
			a.BackupServers = nil
		}
	}
}

// add takes in attributes, and says what made no sense.
func (a *Assignment) add(as []isakmp.Attribute) (dropped []string) {
	p := settingsParser{a: a}
	for _, attr := range as {
		if len(attr.Value) == 0 {
			continue // not granted
		}
		if err := p.attribute(attr); err != nil && len(dropped) < maxDropped {
			dropped = append(dropped, err.Error())
		}
	}
	return dropped
}

type settingsParser struct{ a *Assignment }

// attribute reads one of draft-dukes-ike-mode-cfg-02 §3.4, or hands it on.
func (p settingsParser) attribute(attr isakmp.Attribute) error {
	a, v := p.a, attr.Value
	switch attr.Type {
	case isakmp.CfgIP4Address, isakmp.CfgIP6Address:
		return p.address(v)
	case isakmp.CfgIP4Netmask: // informative: the address is the interface's alone
	case isakmp.CfgIP4DNS:
		return appendServers(&a.DNS, v, ip4Len, "DNS server")
	case isakmp.CfgIP6DNS:
		return appendServers(&a.DNS, v, ip6Len, "DNS server")
	case isakmp.CfgIP4NBNS:
		return appendServers(&a.WINS, v, ip4Len, "WINS server")
	case isakmp.CfgIP6NBNS:
		return appendServers(&a.WINS, v, ip6Len, "WINS server")
	case isakmp.CfgIP4Subnet:
		return appendNetworks(&a.SplitInclude, v, splitShortLen)
	case isakmp.CfgIP6Subnet:
		return appendNetworks6(&a.SplitInclude, v)
	case isakmp.CfgAddressExpiry:
		if n, ok := attr.Uint(); ok {
			a.Expiry = time.Duration(min(n, 1<<32)) * time.Second
		}
	case isakmp.CfgApplicationVersion:
		a.Application = harmless(v)
	default:
		return p.unity(attr)
	}
	return nil
}

// unity reads the attributes of Cisco's extension.
func (p settingsParser) unity(attr isakmp.Attribute) error {
	a, v := p.a, attr.Value
	switch attr.Type {
	case isakmp.UnityBanner:
		a.Banner = harmless(v)
	case isakmp.UnitySavePassword:
		n, ok := attr.Uint()
		a.ForbidSave = ok && n == 0
	case isakmp.UnityDefDomain:
		names, err := domainNames(v)
		if len(names) > 0 {
			a.DefaultDomain = names[0]
		}
		return err
	case isakmp.UnitySplitDNS:
		names, err := domainNames(v)
		a.SplitDNS = appendNew(a.SplitDNS, maxNames, names...)
		return err
	case isakmp.UnitySplitInclude:
		return appendNetworks(&a.SplitInclude, v, splitEntryLen)
	case isakmp.UnityLocalLAN:
		return appendNetworks(&a.SplitExclude, v, splitEntryLen)
	case isakmp.UnityPFS:
		if n, ok := attr.Uint(); ok {
			a.pfs = groupByID(n)
		}
	case isakmp.UnityBackupServers:
		names, err := domainNames(v)
		a.BackupServers = appendNew(a.BackupServers, maxNames, names...)
		return err
	case isakmp.UnityNATTPort:
		n, ok := attr.Uint()
		if !ok || n == portIKE || n == 0 || n > 0xffff {
			return fmt.Errorf("UDP port %x for ESP", v)
		}
		a.NATTPort = uint16(n)
	case isakmp.UnityDDNSHostname:
		names, err := domainNames(v)
		if len(names) > 0 {
			a.HostName = names[0]
		}
		return err
	}
	return nil // nobody asked for others
}

func (p settingsParser) address(v []byte) error {
	if len(v) == ip6PrefixedLen {
		v = v[:ip6Len]
	}
	addr, ok := netip.AddrFromSlice(v)
	if !ok || !usableAddress(addr) {
		return fmt.Errorf("address %x", v)
	}
	if slices.ContainsFunc(p.a.Addresses, func(q netip.Prefix) bool { return q.Addr().Is4() == addr.Is4() }) {
		return nil // duplicates: the first counts
	}
	p.a.Addresses = append(p.a.Addresses, netip.PrefixFrom(addr, addr.BitLen()))
	return nil
}

// usableAddress reports whether a host can have the address.
func usableAddress(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		!(a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240))
}

// appendServers reads addresses of a size; some gateways put several into one
// attribute.
func appendServers(list *[]netip.Addr, v []byte, size int, what string) error {
	if len(v)%size != 0 {
		return fmt.Errorf("%s of %d bytes", what, len(v))
	}
	for chunk := range slices.Chunk(v, size) {
		addr, _ := netip.AddrFromSlice(chunk)
		if !usableAddress(addr) {
			return fmt.Errorf("%s %v", what, addr)
		}
		*list = appendNew(*list, maxServers, addr)
	}
	return nil
}

// appendNew appends what is not there yet, up to a bound.
func appendNew[T comparable](list []T, bound int, values ...T) []T {
	for _, v := range values {
		if len(list) < bound && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// appendNetworks reads split entries: address and mask, in the long form followed
// by protocol and ports, of which only the networks are dependable. It returns why
// the first of those was left out that make no sense.
func appendNetworks(list *[]netip.Prefix, v []byte, entryLen int) error {
	switch {
	case len(v)%entryLen == 0:
	case len(v)%splitShortLen == 0:
		entryLen = splitShortLen
	default:
		return fmt.Errorf("network list of %d bytes", len(v))
	}
	var refusal error
	for entry := range slices.Chunk(v, entryLen) {
		prefix, err := network(entry[:4], entry[4:8])
		if err != nil {
			refusal = cmp.Or(refusal, err)
			continue
		}
		*list = appendNew(*list, maxNetworks, prefix)
	}
	return refusal
}

// appendNetworks6 reads one network: address and length of the prefix.
func appendNetworks6(list *[]netip.Prefix, v []byte) error {
	if len(v) != ip6PrefixedLen {
		return fmt.Errorf("network of %d bytes", len(v))
	}
	addr := netip.AddrFrom16([16]byte(v))
	p, err := addr.Prefix(int(v[ip6Len]))
	if err != nil || !usableNetwork(p) {
		return fmt.Errorf("network %v/%d", addr, v[ip6Len])
	}
	*list = appendNew(*list, maxNetworks, p)
	return nil
}

func network(addr, mask []byte) (netip.Prefix, error) {
	m := binary.BigEndian.Uint32(mask)
	bits := 0
	for ; bits < 32 && m&(1<<31) != 0; bits++ {
		m <<= 1
	}
	a := netip.AddrFrom4([4]byte(addr))
	if m != 0 {
		return netip.Prefix{}, fmt.Errorf("network %v with mask %x", a, mask)
	}
	p := netip.PrefixFrom(a, bits).Masked()
	if !usableNetwork(p) {
		return netip.Prefix{}, fmt.Errorf("network %v", p)
	}
	return p, nil
}

// usableNetwork reports whether a network can be behind a gateway.
func usableNetwork(p netip.Prefix) bool {
	// 0.0.0.0/8 is "this network" (RFC 1122 §3.2.1.3), ::/8 is reserved (RFC 4291
	// §4); with fewer bits they are a part of everything.
	const thisNetwork = 8
	return usableAddress(p.Addr()) || p.Addr().IsUnspecified() && p.Bits() < thisNetwork
}

// domainNames reads a list of host or domain names, separated by commas, blanks or
// zero bytes. Anything that is no name is left out: these strings go into
// resolvers' configurations (CVE-2018-10900 and its kin).
func domainNames(v []byte) (names []string, err error) {
	for f := range strings.FieldsFuncSeq(string(v), func(r rune) bool { return r == ',' || r == ' ' || r == 0 }) {
		name := strings.Trim(f, ".")
		if !validName(name) {
			err = fmt.Errorf("name %q", harmless([]byte(f)))
			continue
		}
		names = appendNew(names, maxNames, strings.ToLower(name))
	}
	return names, err
}

func validName(s string) bool {
	if len(s) == 0 || len(s) > maxNameLen {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
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
