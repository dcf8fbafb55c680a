package ike

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wayfarer/ike/esp"
)

// wayIn is what a session works on when ESP comes. It belongs to the receive loop that
// the transport names its owner, as do the inbound halves of the ChildSAs: others have
// that loop do what they want of it (transport.byOwner).
type wayIn struct {
	sink           func(packets [][]byte)
	verdict        verdict // of the last packet
	held           []heldPacket
	expanded       []byte // for what was compressed; made when first needed
	truncationTold bool   // see noteTruncation
}

// Receive has deliver called with the inner packets that come from the gateway, some at
// a time and one call after the other. It must not block for long nor call back; the
// packets' memory is the session's again when it returns. Before it is set, and with
// nil, packets are dropped. When Receive has returned, what was set before is not
// called any more.
func (s *Session) Receive(deliver func(packets [][]byte)) {
	done := make(chan struct{})
	if s.transport.byOwner(func() { s.sink = deliver; close(done) }) {
		select {
		case <-done:
		case <-s.done:
		}
	}
}

// receiveESP opens ESP packets, where they are, and delivers what was in them.
func (s *Session) receiveESP(packets [][]byte) {
	inner, expanded := packets[:0], 0
	var c, alive *childSA // c is of the packet before: those of a read mostly have one SPI
	for _, packet := range packets {
		if len(packet) < 4 {
			continue
		}
		if spi := binary.BigEndian.Uint32(packet); c == nil || c.spiIn != spi {
			if c = (*s.inbound.Load())[spi]; c == nil {
				c = s.hold(spi, packet)
			}
		}
		if c == nil {
			continue
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
			if alive != nil && alive != c {
				s.opened(alive)
			}
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
		s.opened(alive)
	}
	s.deliver(inner)
}

// opened counts the packets that an SA has opened.
func (s *Session) opened(c *childSA) {
	c.in.Finish()
	if !c.inTired && c.in.Stats().Packets >= uint64(c.rekeyAfter) {
		c.inTired = true
		s.requestRekey()
	}
}

func (s *Session) deliver(packets [][]byte) {
	if len(packets) > 0 && s.sink != nil {
		s.sink(packets)
	}
}

// heldPacket waits for the SA of a reserved SPI.
type heldPacket struct {
	packet []byte
	at     time.Time
}

// openHeld opens the packets that came before their SA. It keeps those whose SA is
// still missing.
func (s *Session) openHeld() {
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
	addrs, policy, inbound := addrBytes(p), s.policy.Load(), s.inbound.Load()
	last := &s.verdict
	if last.policy == policy && last.inbound == inbound && last.addrs.are(addrs) {
		return last.allowed
	}
	src, dst, ok := packetAddrs(p)
	last.policy, last.inbound, last.allowed = policy, inbound, ok && policy.allows(src, dst, *inbound)
	last.addrs.set(addrs)
	return last.allowed
}

// verdict is what became of a packet.
type verdict struct {
	addrs   lastAddrs
	policy  *policy // under which it was said, as was
	inbound *map[uint32]*childSA
	allowed bool
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
