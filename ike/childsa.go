package ike

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// Rekeying of phase 2. A new ChildSA receives when it is installed; it sends after
// the peer's first packet on it, or after activateAfter; the very first sends at
// once. The old one receives until its Delete or until oldChildGrace is over.
const (
	activateAfter   = time.Second
	commitPatience  = 2 * time.Second // for CONNECTED, when the commit bit is set (RFC 2408 §3.1)
	oldChildGrace   = 30 * time.Second
	rekeyShare      = 0.9
	rekeyMargin     = 60 * time.Second
	rekeyJitter     = 0.05
	rekeyPause      = 10 * time.Second // after a refusal, at least
	maxHeldPackets  = 16               // for an SA that is about to be installed
	heldFor         = 2 * time.Second
	maxBatch        = 128     // ESP packets that are opened at once
	rekeySequence   = 3 << 30 // of 2^32 sequence numbers (RFC 4303 §3.3.3)
	rekeySequence64 = 1 << 19 // 64-bit block ciphers: under 1 GB (Sweet32)
)

// childSA is a pair of ESP SAs. Its fields are set before it is installed, except
// where it is said.
type childSA struct {
	spiIn, spiOut uint32
	suite         ESPSuite
	pair          selectorPair // that it serves
	local, remote netip.Prefix // as negotiated
	established   time.Time
	expires       time.Time
	rekeyAt       time.Time // owned by the control loop
	rekeyAfter    uint32    // sequence number
	worn          bool      // rekeyed for rekeyAfter; owned by the control loop
	rekeys        int
	headerLen     int    // bytes before the inner packet
	cpiIn         uint16 // that the gateway compresses with; 0: nobody does

	in  *esp.Inbound  // owned by ReadPackets
	out *esp.Outbound // owned by WritePackets

	received atomic.Bool // an authentic packet has come: the peer has the keys
	active   bool        // sends; guarded by Session.mu
	held     bool        // sends when told, or when the peer has; set before it is installed
	retireAt time.Time   // guarded by Session.mu; zero: not replaced
}

// stats is a snapshot of what it has carried itself.
func (c *childSA) stats() ChildStats {
	in, out := c.in.Stats(), c.out.Stats()
	return ChildStats{
		SPIIn: c.spiIn, SPIOut: c.spiOut, Suite: c.suite.String(), Local: c.local, Remote: c.remote,
		BytesIn: in.Bytes, PacketsIn: in.Packets, BytesOut: out.Bytes, PacketsOut: out.Packets,
		Replayed: in.Replayed, BadICV: in.BadICV, IPComp: c.cpiIn != 0, BadIPComp: in.BadExpansion,
		Established: c.established, Expires: c.expires, Rekeys: c.rekeys,
	}
}

// count adds what others have carried.
func (s *ChildStats) count(others ChildStats) {
	s.BytesIn += others.BytesIn
	s.BytesOut += others.BytesOut
	s.PacketsIn += others.PacketsIn
	s.PacketsOut += others.PacketsOut
	s.Replayed += others.Replayed
	s.BadICV += others.BadICV
	s.BadIPComp += others.BadIPComp
}

func (c *childSA) confirmed() bool { return c.received.Load() }

// selectorPair is what an ESP SA is wanted for: a network of ours and one behind
// the gateway.
type selectorPair struct{ local, remote netip.Prefix }

// selectorPairs lists what ESP SAs are wanted: for each of our networks or assigned
// addresses everything behind the gateway, or each of its networks.
func (s *Session) selectorPairs(a Assignment, perNetwork bool) []selectorPair {
	locals := a.Addresses
	if len(s.cfg.LocalNetworks) > 0 {
		locals = s.cfg.LocalNetworks
	}
	var pairs []selectorPair
	for _, local := range locals {
		remotes := s.cfg.RemoteNetworks
		if len(remotes) == 0 && perNetwork {
			remotes = appendNew(slices.Clone(a.SplitInclude), maxNetworks, s.cfg.Networks...)
		}
		if len(remotes) == 0 {
			remotes = []netip.Prefix{everything(local)}
		}
		for _, remote := range remotes {
			if local.Addr().Is4() == remote.Addr().Is4() {
				pairs = append(pairs, selectorPair{local.Masked(), remote.Masked()})
			}
		}
	}
	return pairs
}

// within reports whether network a is part of b.
func within(a, b netip.Prefix) bool { return a.Bits() >= b.Bits() && b.Contains(a.Addr()) }

func (s ESPSuite) transform() esp.Transform {
	t := esp.Transform{Cipher: s.cipher.esp, KeyLen: s.cipher.keyLen}
	if s.hash != nil {
		t.Integrity = s.hash.esp
	}
	return t
}

// newChildSA derives the keys of both directions; each is named by its receiver's
// SPI.
func (sa *isakmpSA) newChildSA(n *negotiation) (*childSA, error) {
	suite := sa.cut(n.suite)
	t := suite.transform()
	keyIn := sa.keys.keymat(n.gqm, isakmp.ProtoESP, n.spiIn, n.ni, n.nr, t.KeyMaterialLen())
	keyOut := sa.keys.keymat(n.gqm, isakmp.ProtoESP, n.spiOut, n.ni, n.nr, t.KeyMaterialLen())
	defer clear(keyIn)
	defer clear(keyOut)
	clear(n.gqm)
	in, err := esp.NewInbound(t, n.spiIn, keyIn)
	if err != nil {
		return nil, err
	}
	out, err := esp.NewOutbound(t, n.spiOut, keyOut, sa.s.rand)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	l := n.lifetime
	soft := min(time.Duration(rekeyShare*float64(l)), l-rekeyMargin) - sa.s.jitter(time.Duration(rekeyJitter*float64(l)))
	c := &childSA{
		spiIn: n.spiIn, spiOut: n.spiOut, suite: suite, pair: n.pair, local: n.local, remote: n.remote,
		established: now, expires: now.Add(l), rekeyAt: now.Add(max(soft, l/2)),
		rekeyAfter: rekeySequence, headerLen: t.HeaderLen(), in: in, out: out,
	}
	if n.suite.cipher.espID == isakmp.ESP3DES {
		c.rekeyAfter = rekeySequence64
	}
	sa.log.Info("ESP SA is established", "spi_in", fmt.Sprintf("%08x", c.spiIn), "spi_out", fmt.Sprintf("%08x", c.spiOut),
		"suite", c.suite.String(), "local", c.local, "remote", c.remote, "lifetime", l)
	sa.compress(c, n)
	return c, nil
}

// reserve draws an inbound SPI. ESP for it that comes before its SA is held back.
func (s *Session) reserve() (uint32, error) {
	var b [4]byte
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if _, err := io.ReadFull(s.rand, b[:]); err != nil {
			return 0, fmt.Errorf("random numbers: %w", err)
		}
		spi := binary.BigEndian.Uint32(b[:])
		if spi < minSPI || s.reserved[spi] || slices.ContainsFunc(s.children, func(c *childSA) bool { return c.spiIn == spi }) {
			continue
		}
		s.reserved[spi] = true
		return spi, nil
	}
}

// release gives up a reserved SPI; one whose SA was installed stays.
func (s *Session) release(spi uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, spi)
}

// install makes a ChildSA receive, and the first one send.
func (s *Session) install(c *childSA) {
	s.mu.Lock()
	delete(s.reserved, c.spiIn)
	old := s.newestLocked(c.pair)
	if old != nil {
		c.rekeys = old.rekeys + 1
		// Should c not take over, old is rekeyed once more, but not right away.
		old.rekeyAt = c.established.Add(old.expires.Sub(c.established) / 2)
	}
	s.children = append(s.children, c)
	s.newest.Store(c)
	s.publishLocked()
	s.mu.Unlock()
	if old != nil {
		s.event(Event{Kind: EventRekeyed})
	}
	switch {
	case c.held:
	case old == nil:
		s.activate(c)
	default:
		time.AfterFunc(activateAfter, func() { s.activate(c) })
	}
	select {
	case s.installed <- struct{}{}:
	default:
	}
}

// activate makes a ChildSA send, and the older ones retire.
func (s *Session) activate(c *childSA) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.children, c)
	if i < 0 || c.active {
		return
	}
	c.active = true
	for _, old := range s.children[:i] {
		if old.pair == c.pair && old.retireAt.IsZero() {
			old.retireAt = time.Now().Add(oldChildGrace)
		}
	}
	s.publishLocked()
	s.wake()
}

// activateHeld sends on ChildSAs whose Quick Mode had the commit bit set: the gateway
// has said that it is ready.
func (s *Session) activateHeld() {
	s.mu.Lock()
	children := slices.Clone(s.children)
	s.mu.Unlock()
	for _, c := range children {
		if c.held {
			s.activate(c)
		}
	}
}

// remove forgets a ChildSA and its keys, but not what it has carried.
func (s *Session) remove(c *childSA) {
	s.mu.Lock()
	if i := slices.Index(s.children, c); i >= 0 {
		s.children = slices.Delete(s.children, i, i+1)
		past := s.past[c.pair]
		past.count(c.stats())
		s.past[c.pair] = past
	}
	s.publishLocked()
	s.mu.Unlock()
	s.readMu.Lock()
	c.in.Zero()
	s.readMu.Unlock()
	s.writeMu.Lock()
	c.out.Zero()
	s.writeMu.Unlock()
}

// newestLocked is the ChildSA for a pair of selectors that was made last.
func (s *Session) newestLocked(p selectorPair) *childSA {
	for _, c := range slices.Backward(s.children) {
		if c.pair == p {
			return c
		}
	}
	return nil
}

// publishLocked shows the ChildSAs to the data path: the active ones send, newest
// first; behind them the others, so that nothing is dropped while none of a pair is
// active yet.
func (s *Session) publishLocked() {
	in := make(map[uint32]*childSA, len(s.children))
	var active, others []*childSA
	for _, c := range slices.Backward(s.children) {
		in[c.spiIn] = c
		switch {
		case c.active:
			active = append(active, c)
		case !c.held:
			others = append(others, c)
		}
	}
	out := append(active, others...)
	s.inbound.Store(&in)
	s.outbound.Store(&out)
}

// current is the ChildSA that sends for a pair of selectors, nil if there is none.
func (s *Session) current(p selectorPair) *childSA {
	for _, c := range *s.outbound.Load() {
		if c.pair == p {
			return c
		}
	}
	return nil
}

// packetAddrs reads source and destination of an IP packet.
func packetAddrs(p []byte) (src, dst netip.Addr, ok bool) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), true
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), true
	}
	return src, dst, false
}

// ReadPackets waits for inner packets from the gateway and puts one into each
// bufs[i][offset:], with its length in sizes[i]. It returns how many. After the
// session's end it returns net.ErrClosed. One goroutine at a time may call it.
func (s *Session) ReadPackets(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		select {
		case p := <-s.transport.esp:
			if n := s.openBatch(p, bufs, sizes, offset); n > 0 {
				return n, nil
			}
		case <-s.installed:
			if n := s.openHeld(bufs, sizes, offset); n > 0 {
				return n, nil
			}
		case <-s.done:
			return 0, s.Err()
		}
	}
}

// openBatch opens a packet and those that wait behind it, but no flood of them at once:
// whoever removes an SA waits meanwhile.
func (s *Session) openBatch(p *espPacket, bufs [][]byte, sizes []int, offset int) (n int) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	for left := maxBatch; ; left-- {
		if size := s.open(p.buf, bufs[n][offset:]); size > 0 {
			sizes[n] = size
			n++
		}
		s.transport.release(p)
		if n == len(bufs) || left == 1 {
			return n
		}
		select {
		case p = <-s.transport.esp:
		default:
			return n
		}
	}
}

// heldPacket waits for the SA of a reserved SPI; owned by ReadPackets.
type heldPacket struct {
	packet []byte
	at     time.Time
}

// openHeld opens the packets that came before their SA. It keeps those whose SA is
// still missing, and comes again for those that fit no more.
func (s *Session) openHeld(bufs [][]byte, sizes []int, offset int) (n int) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	inbound := *s.inbound.Load()
	held := s.held
	s.held = nil
	for _, h := range held {
		switch {
		case time.Since(h.at) > heldFor:
		case n == len(bufs), inbound[binary.BigEndian.Uint32(h.packet)] == nil:
			s.held = append(s.held, h)
		default:
			if size := s.open(h.packet, bufs[n][offset:]); size > 0 {
				sizes[n] = size
				n++
			}
		}
	}
	if n == len(bufs) && len(s.held) > 0 {
		notify(s.installed)
	}
	return n
}

// open takes one ESP packet through SPI lookup, authentication, replay check,
// decryption and policy (RFC 4303 §3.4, RFC 4301 §5.2). It returns the length of
// the inner packet, 0 if there is none to deliver.
func (s *Session) open(packet, dst []byte) int {
	if len(packet) < 4 || len(dst) < len(packet) {
		return 0
	}
	spi := binary.BigEndian.Uint32(packet)
	c := (*s.inbound.Load())[spi]
	if c == nil {
		s.hold(spi, packet)
		return 0
	}
	inner, err := c.in.Open(dst, packet)
	if err != nil && !errors.Is(err, esp.ErrDummy) {
		s.noteTruncation(c)
		return 0 // counted there
	}
	now := time.Now()
	s.lastHeard.Store(s.clock.stamp(now))
	s.watchdog.heard(now)
	if !c.received.Load() {
		c.received.Store(true)
		s.activate(c)
	}
	if err != nil || !s.allowedIn(inner) {
		return 0
	}
	return len(inner)
}

// noteTruncation warns, once, of a gateway that means another SHA-256 than it said:
// the tunnel stands, and no packet gets through. What to do about it is the user's
// choice: see InboundStats for how far it can be believed.
func (s *Session) noteTruncation(c *childSA) {
	if s.truncationTold || c.in.Stats().Truncated96 == 0 {
		return
	}
	s.truncationTold = true
	needed := c.suite
	needed.hash = findHash("sha256_96")
	text := fmt.Sprintf("the gateway seems to cut HMAC-SHA2-256 to 96 bits: no traffic passes with %s, the ESP suite %s is needed", c.suite, needed)
	s.log.Warn(text)
	s.event(Event{Kind: EventWarning, Step: StepBuildTunnel, Code: "sha256-96", Text: text})
}

// hold keeps a packet for an SPI that is reserved; others are noise.
func (s *Session) hold(spi uint32, packet []byte) {
	s.mu.Lock()
	reserved := s.reserved[spi]
	s.mu.Unlock()
	if !reserved {
		return
	}
	s.held = slices.DeleteFunc(s.held, func(h heldPacket) bool { return time.Since(h.at) > heldFor })
	if len(s.held) < maxHeldPackets {
		s.held = append(s.held, heldPacket{slices.Clone(packet), time.Now()})
	}
}

// allowedIn is the inbound policy: to our address, from a network behind the
// gateway. A gateway may answer on any of the sibling SAs (racoon sends everything
// on the newest), so their selectors count together; where the gateway has named
// networks, only these and the Config's.
func (s *Session) allowedIn(p []byte) bool {
	src, dst, ok := packetAddrs(p)
	if !ok || src.IsLoopback() || src.IsMulticast() || src.IsUnspecified() || thisNetwork.Contains(src) || src == broadcast {
		return false
	}
	pol := s.policy.Load()
	if !slices.ContainsFunc(pol.local, func(n netip.Prefix) bool { return n.Contains(dst) && !n.Contains(src) }) {
		return false
	}
	if len(pol.sources) > 0 {
		return slices.ContainsFunc(pol.sources, func(n netip.Prefix) bool { return n.Contains(src) })
	}
	for _, c := range *s.inbound.Load() {
		if c.remote.Contains(src) {
			return true
		}
	}
	return false
}

// thisNetwork and broadcast are no sources (RFC 1122 §3.2.1.3).
var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	broadcast   = netip.MustParseAddr("255.255.255.255")
)

// policy is what the assignment lets in; published as a whole.
type policy struct {
	local   []netip.Prefix
	sources []netip.Prefix // networks and servers that the gateway or the Config named; empty: any of an SA
}

// ours reports whether inner packets go to an address.
func (p *policy) ours(a netip.Addr) bool {
	return slices.ContainsFunc(p.local, func(n netip.Prefix) bool { return n.Contains(a) })
}

func newPolicy(a Assignment, c *Config) *policy {
	p := &policy{local: a.Addresses}
	if len(c.LocalNetworks) > 0 {
		p.local = c.LocalNetworks
	}
	if len(a.SplitInclude) > 0 {
		p.sources = slices.Concat(a.SplitInclude, c.RemoteNetworks, c.Networks)
		for _, server := range slices.Concat(a.DNS, a.WINS) {
			p.sources = append(p.sources, netip.PrefixFrom(server, server.BitLen()))
		}
	}
	return p
}

// WritePackets sends the inner packets bufs[i][offset:] to the gateway. It works in
// place: offset must be at least Headroom, and each buffer's capacity must leave
// Tailroom behind the packet. Packets that no SA covers are dropped. One goroutine
// at a time may call it.
func (s *Session) WritePackets(bufs [][]byte, offset int) error {
	select {
	case <-s.done:
		return s.Err()
	default:
	}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	out := *s.outbound.Load()
	path := s.espPath.Load()
	for _, buf := range bufs {
		c := outboundFor(out, buf[offset:])
		if c == nil {
			continue
		}
		packet, err := c.out.Seal(buf[:cap(buf)], offset, len(buf)-offset)
		if err != nil {
			if errors.Is(err, esp.ErrExhausted) {
				s.requestRekey()
				continue
			}
			return fmt.Errorf("sealing a packet: %w", err)
		}
		start := offset - c.headerLen
		s.transport.sendESP(path, buf[:cap(buf)], start, start+len(packet))
		s.watchdog.sent(s.wake)
		if c.out.Sequence() == c.rekeyAfter {
			s.requestRekey()
		}
	}
	return nil
}

// outboundFor is the security policy lookup: the newest SA whose selectors hold the
// packet.
func outboundFor(out []*childSA, packet []byte) *childSA {
	src, dst, ok := packetAddrs(packet)
	if !ok {
		return nil
	}
	for _, c := range out {
		if c.local.Contains(src) && c.remote.Contains(dst) {
			return c
		}
	}
	return nil
}

// Headroom and Tailroom are what WritePackets needs before and behind a packet, in
// bytes.
const (
	Headroom = esp.MaxHeadroom + nonIKEMarkerLen
	Tailroom = esp.MaxTailroom
)
