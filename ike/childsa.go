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
	rekeyAfter    uint32    // packets, either way
	worn          bool      // rekeyed for rekeyAfter; owned by the control loop
	rekeys        int
	headerLen     int    // bytes before the inner packet
	cpiIn         uint16 // that the gateway compresses with; 0: nobody does

	in    *esp.Inbound // guarded by Session.readMu
	tired bool         // in has opened rekeyAfter packets; guarded by Session.readMu

	out     *esp.Outbound // belongs to who has claimed it; anybody reads its counters
	sending claim         // of out

	received atomic.Bool // an authentic packet has come: the peer has the keys
	active   bool        // sends; guarded by Session.mu
	held     bool        // sends when told, or when the peer has; set before it is installed
	retireAt time.Time   // guarded by Session.mu; zero: not replaced
}

// spent says whether the keys have done as much as they may.
func (c *childSA) spent() bool {
	return max(uint64(c.out.Sequence()), c.in.Stats().Packets) >= uint64(c.rekeyAfter)
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
	s.openHeld()
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

// remove forgets a ChildSA and its keys.
func (s *Session) remove(c *childSA) {
	s.mu.Lock()
	s.children = slices.DeleteFunc(s.children, func(o *childSA) bool { return o == c })
	s.publishLocked() // before c is claimed: outboundFor looks until it is not in the list
	s.mu.Unlock()
	s.readMu.Lock()
	c.in.Zero()
	s.readMu.Unlock()
	if c.sending.remove() {
		c.out.Zero()
	}
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

// Receive has deliver called with the inner packets that come from the gateway, some at
// a time and one call after the other. It must not block for long nor call back; the
// packets' memory is the session's again when it returns. Before it is set, and with
// nil, packets are dropped. When Receive has returned, what was set before is not
// called any more.
func (s *Session) Receive(deliver func(packets [][]byte)) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	s.sink = deliver
}

// receiveESP opens ESP packets, where they are, and delivers what was in them.
func (s *Session) receiveESP(packets [][]byte) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	inner, expanded := packets[:0], 0
	var alive *childSA
	for _, packet := range packets {
		if len(packet) < 4 {
			continue
		}
		spi := binary.BigEndian.Uint32(packet)
		c := (*s.inbound.Load())[spi]
		if c == nil {
			if c = s.hold(spi, packet); c == nil {
				continue
			}
		}
		if c.cpiIn != 0 && s.expanded == nil {
			s.expanded = make([]byte, 2*maxExpanded)
		}
		if c.cpiIn != 0 && len(s.expanded)-expanded < maxExpanded {
			s.deliver(inner)
			inner, expanded = packets[:0], 0
		}
		p, authentic := s.open(c, packet, &expanded)
		if authentic {
			alive = c
		}
		if p != nil {
			inner = append(inner, p)
		}
	}
	if alive != nil {
		now := time.Now()
		s.lastHeard.Store(s.clock.stamp(now))
		s.watchdog.heard(now)
		if !alive.tired && alive.in.Stats().Packets >= uint64(alive.rekeyAfter) {
			alive.tired = true
			s.requestRekey()
		}
	}
	s.deliver(inner)
}

func (s *Session) deliver(packets [][]byte) {
	if len(packets) > 0 && s.sink != nil {
		s.sink(packets)
	}
}

// heldPacket waits for the SA of a reserved SPI; guarded by Session.readMu.
type heldPacket struct {
	packet []byte
	at     time.Time
}

// openHeld opens the packets that came before their SA. It keeps those whose SA is
// still missing.
func (s *Session) openHeld() {
	s.readMu.Lock()
	inbound := *s.inbound.Load()
	var ready [][]byte
	s.held = slices.DeleteFunc(s.held, func(h heldPacket) bool {
		stale := time.Since(h.at) > heldFor
		missing := inbound[binary.BigEndian.Uint32(h.packet)] == nil
		if !stale && !missing {
			ready = append(ready, h.packet)
		}
		return stale || !missing
	})
	s.readMu.Unlock()
	if len(ready) > 0 {
		s.receiveESP(ready)
	}
}

// open takes one ESP packet through authentication, replay check, decryption and policy
// (RFC 4303 §3.4, RFC 4301 §5.2). It returns the inner packet, nil if there is none to
// deliver, and whether the gateway has sent it. What was compressed takes room of
// s.expanded, of which the first bytes are in use.
func (s *Session) open(c *childSA, packet []byte, expanded *int) (inner []byte, authentic bool) {
	dst := packet[min(c.headerLen, len(packet)):]
	if c.cpiIn != 0 {
		dst = s.expanded[*expanded:]
	}
	inner, err := c.in.Open(dst, packet)
	if err != nil && !errors.Is(err, esp.ErrDummy) {
		s.noteTruncation(c)
		return nil, false // counted there
	}
	if !c.received.Load() {
		c.received.Store(true)
		s.activate(c)
	}
	if err != nil || !s.allowedIn(inner) {
		return nil, true
	}
	if c.cpiIn != 0 {
		*expanded += len(inner)
	}
	return inner, true
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

// hold keeps a packet for an SPI that is reserved; others are noise. It returns the SA that
// has just been installed for the SPI, if one has.
func (s *Session) hold(spi uint32, packet []byte) *childSA {
	s.mu.Lock()
	reserved := s.reserved[spi]
	s.mu.Unlock()
	if !reserved {
		return (*s.inbound.Load())[spi]
	}
	s.held = slices.DeleteFunc(s.held, func(h heldPacket) bool { return time.Since(h.at) > heldFor })
	if len(s.held) < maxHeldPackets {
		s.held = append(s.held, heldPacket{slices.Clone(packet), time.Now()})
	}
	return nil
}

// allowedIn is the inbound policy: to our address, from a network behind the
// gateway. A gateway may answer on any of the sibling SAs (racoon sends everything
// on the newest), so their selectors count together; where the gateway has named
// networks, only these and the Config's.
func (s *Session) allowedIn(p []byte) bool {
	src, dst, ok := packetAddrs(p)
	if !ok {
		return false
	}
	v := verdict{src: src, dst: dst, policy: s.policy.Load(), inbound: s.inbound.Load()}
	if last := &s.verdict; last.src == v.src && last.dst == v.dst && last.policy == v.policy && last.inbound == v.inbound {
		return last.allowed
	}
	v.allowed = v.policy.allows(src, dst, *v.inbound)
	s.verdict = v
	return v.allowed
}

// verdict is what became of a packet: those of a connection have the same addresses.
type verdict struct {
	src, dst netip.Addr
	policy   *policy // under which it was said, as was
	inbound  *map[uint32]*childSA
	allowed  bool
}

// allows reports whether packets from src to dst may come in on ESP SAs.
func (p *policy) allows(src, dst netip.Addr, inbound map[uint32]*childSA) bool {
	if src.IsLoopback() || src.IsMulticast() || src.IsUnspecified() || thisNetwork.Contains(src) || src == broadcast {
		return false
	}
	if !slices.ContainsFunc(p.local, func(n netip.Prefix) bool { return n.Contains(dst) && !n.Contains(src) }) {
		return false
	}
	if len(p.sources) > 0 {
		return slices.ContainsFunc(p.sources, func(n netip.Prefix) bool { return n.Contains(src) })
	}
	for _, c := range inbound {
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

// WritePacket takes an inner packet for the gateway, which leaves with the next Flush at
// the latest. The packet's capacity must leave Tailroom behind it; what stands there is
// as before when WritePacket returns, and so is the packet, unless it was compressed.
// What no SA covers is dropped. After the session's end it returns its error. One
// goroutine at a time may call WritePacket and Flush. After WritePacket it calls Flush
// before it waits for anything, also when the session has ended: until then an SA that is
// removed keeps its keys.
func (s *Session) WritePacket(packet []byte) error {
	select {
	case <-s.done:
		return s.Err()
	default:
	}
	path, o := s.espPath.Load(), &s.outbox
	if o.path != path {
		s.Flush()
		o.path = path
	}
	need := path.marker + esp.MaxHeadroom + len(packet) + esp.MaxTailroom
	dst, ok := o.Room(need)
	if !ok {
		s.Flush()
		dst, _ = o.Room(need)
	}
	c := s.outboundFor(packet)
	if c == nil {
		return nil
	}
	clear(dst[:path.marker])
	sealed, err := c.out.Begin(dst[path.marker:], packet)
	if errors.Is(err, esp.ErrExhausted) {
		s.requestRekey()
		return nil
	}
	if err != nil {
		return fmt.Errorf("sealing a packet: %w", err)
	}
	o.Add(path.marker + len(sealed))
	if c.out.Sequence() == c.rekeyAfter {
		s.requestRekey()
	}
	return nil
}

// Flush sends the packets that WritePacket has taken.
func (s *Session) Flush() {
	s.outbox.finish() // before that they may be plaintext
	if len(s.outbox.Runs) == 0 {
		return
	}
	s.transport.sendESP(&s.outbox)
	s.outbox.Empty()
	s.watchdog.sent(s.transport.lastSent.Load(), s.wake)
}

// outboundFor is the security policy lookup. It finds the newest SA whose selectors hold
// the packet, and claims it: its keys stay until the next Flush, or until another is
// claimed.
func (s *Session) outboundFor(packet []byte) *childSA {
	src, dst, ok := packetAddrs(packet)
	if !ok {
		return nil
	}
	holds := func(c *childSA) bool { return c.local.Contains(src) && c.remote.Contains(dst) }
	for {
		out := *s.outbound.Load()
		i := slices.IndexFunc(out, holds)
		if i < 0 {
			return nil
		}
		if s.outbox.use(out[i]) {
			return out[i]
		}
		// It has been removed from the list since.
	}
}

// Tailroom is what WritePacket needs behind a packet, in bytes.
const Tailroom = esp.MaxTrailer
