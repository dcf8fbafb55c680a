package ike

import (
	"bytes"
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

	in      *esp.Inbound // belongs to the owner of the way in; anybody reads its counters
	inTired bool         // in has opened rekeyAfter packets; belongs to the same

	out      *esp.Outbound // belongs to who has claimed it; anybody reads its counters
	outTired bool          // out has sealed rekeyAfter packets; belongs to the same
	sending  claim         // of out

	received atomic.Bool // an authentic packet has come: the peer has the keys
	active   bool        // sends; guarded by Session.mu
	held     bool        // sends when told, or when the peer has; set before it is installed
	retireAt time.Time   // guarded by Session.mu; zero: not replaced
}

// spent says whether the keys have done as much as they may.
func (c *childSA) spent() bool {
	return max(c.out.Stats().Packets, c.in.Stats().Packets) >= uint64(c.rekeyAfter)
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
	s.transport.byOwner(s.openHeld)
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
	if !s.transport.byOwner(c.in.Zero) {
		c.in.Zero()
	}
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
	both := addrBytes(p)
	src, ok = netip.AddrFromSlice(both[:len(both)/2])
	dst, _ = netip.AddrFromSlice(both[len(both)/2:])
	return src, dst, ok
}

// addrBytes is source and destination of an IP packet, as they stand in it; nil: neither
// IPv4 nor IPv6.
func addrBytes(p []byte) []byte {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return p[12:20]
	case len(p) >= 40 && p[0]>>4 == 6:
		return p[8:40]
	}
	return nil
}

// lastAddrs are those of an earlier packet: the packets of a connection have the same, and
// policy says the same of them.
type lastAddrs struct {
	both [2 * 16]byte
	n    int
}

func (l *lastAddrs) are(both []byte) bool { return bytes.Equal(l.both[:l.n], both) }

func (l *lastAddrs) set(both []byte) { l.n = copy(l.both[:], both) }

// WritePacket takes an inner packet for the gateway, which leaves with the next Flush at
// the latest. The packet's capacity must leave Tailroom behind it; what stands there is
// as before when WritePacket returns, and so is the packet, unless it was compressed.
// What no SA covers is dropped. One goroutine at a time may call WritePacket and Flush.
// After WritePacket it calls Flush before it waits for anything, also when the session has
// ended: until then an SA that is removed keeps its keys. When it has ended, WritePacket
// returns the session's error; amid a batch it may drop the packet instead, until Flush.
func (s *Session) WritePacket(packet []byte) error {
	path, o := s.espPath.Load(), &s.outbox
	if o.sa == nil { // once a batch
		select {
		case <-s.done:
			return s.Err()
		default:
		}
	}
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
	return nil
}

// Flush sends the packets that WritePacket has taken.
func (s *Session) Flush() {
	s.unclaim() // before that they may be plaintext
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
	addrs, o := addrBytes(packet), &s.outbox
	if last := &o.lookup; last.sa != nil && last.addrs.are(addrs) && last.among == s.outbound.Load() && s.claim(last.sa) {
		return last.sa
	}
	src, dst, ok := packetAddrs(packet)
	if !ok {
		return nil
	}
	holds := func(c *childSA) bool { return c.local.Contains(src) && c.remote.Contains(dst) }
	for {
		out := s.outbound.Load()
		i := slices.IndexFunc(*out, holds)
		if i < 0 {
			return nil
		}
		if c := (*out)[i]; s.claim(c) {
			o.lookup.sa, o.lookup.among = c, out
			o.lookup.addrs.set(addrs)
			return c
		}
		// It has been removed from the list since.
	}
}

// claim claims an SA for the next packet. It reports false if the SA has been removed.
func (s *Session) claim(c *childSA) bool {
	if s.outbox.sa == c {
		return true
	}
	s.unclaim()
	if !c.sending.take() {
		return false
	}
	s.outbox.sa = c
	return true
}

// unclaim completes the packets that the claimed SA has begun, and lets go of it.
func (s *Session) unclaim() {
	c := s.outbox.sa
	if c == nil {
		return
	}
	s.outbox.sa = nil
	c.out.Finish()
	if !c.outTired && c.out.Stats().Packets >= uint64(c.rekeyAfter) {
		c.outTired = true
		s.requestRekey()
	}
	if c.sending.release() {
		c.out.Zero()
	}
}

// Tailroom is what WritePacket needs behind a packet, in bytes.
const Tailroom = esp.MaxTrailer
