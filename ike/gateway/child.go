package gateway

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// child is a ChildSA: a pair of ESP SAs. Owned by the gateway's loop.
type child struct {
	sa          *sa
	suite       espSuite
	in          *esp.Inbound
	out         *esp.Outbound
	ipcomp      *ipcomp      // nil: packets are not compressed
	headerLen   int          // of ESP packets in bytes
	client      netip.Prefix // inner source of what the client sends
	remote      netip.Prefix // inner destination of it
	established time.Time
	timer       *timer
	ended       chan struct{} // closed by remove; nil unless it was handed over
}

// SAs is a tunnel's pair of ESP SAs that is another's to use, to count by Finish, and to
// zeroise: see [Config].Handover.
type SAs struct {
	In             *esp.Inbound
	Out            *esp.Outbound
	HeaderLen      int // of their packets, in bytes
	Client, Remote netip.Prefix
	Peer           netip.AddrPort  // where the client is
	Ended          <-chan struct{} // closed when the tunnel is over
}

// handOver gives the tunnel's packets away, if they are not the gateway's to carry.
func (c *child) handOver() {
	if c.sa.gw.cfg.Handover == nil {
		return
	}
	c.ended = make(chan struct{})
	c.sa.gw.cfg.Handover(&SAs{
		In: c.in, Out: c.out, HeaderLen: c.headerLen, Client: c.client, Remote: c.remote, Peer: c.sa.path.peer, Ended: c.ended,
	})
}

// remove forgets the tunnel.
func (c *child) remove() {
	c.timer.stop()
	delete(c.sa.gw.children, c.in.SPI())
	c.sa.children = slices.DeleteFunc(c.sa.children, func(o *child) bool { return o == c })
	if c.ended != nil {
		close(c.ended)
		return
	}
	c.in.Zero()
	c.out.Zero()
}

// expire ends the tunnel at the end of its lifetime.
func (c *child) expire() {
	c.sa.sendDelete(isakmp.ProtoESP, midBytes(c.in.SPI()))
	c.remove()
}

func (s *sa) childByOutbound(spi uint32) *child {
	for _, c := range s.children {
		if c.out.SPI() == spi {
			return c
		}
	}
	return nil
}

// receiveESP takes a packet of a client to where it wants to go.
func (g *Gateway) receiveESP(d datagram) {
	if len(d.data) < 4 {
		return
	}
	c := g.children[binary.BigEndian.Uint32(d.data)]
	if c == nil || c.ended != nil {
		g.log.Debug("dropped ESP of an unknown SPI", "from", d.path.peer)
		return
	}
	room := d.data[min(len(d.data), c.headerLen):]
	if c.ipcomp != nil {
		room = make([]byte, max(maxInner, len(d.data)))
	}
	inner, err := c.in.Open(room, d.data)
	c.in.Finish()
	if err != nil {
		g.log.Debug("dropped ESP", "from", d.path.peer, "reason", err)
		return
	}
	if d.path.sock.Raw {
		d.path = c.sa.path // says nothing about where IKE comes from
	}
	c.sa.hear(d.path)
	src, dst, ok := endpoints(inner)
	if !ok || !c.client.Contains(src) || !c.remote.Contains(dst) || !g.reachable(dst) {
		g.log.Debug("dropped a packet outside of its tunnel", "src", src, "dst", dst)
		return
	}
	switch {
	case g.toInside != nil:
		select {
		case g.toInside <- inner:
		default: // as any router that has too much to do
		}
	case g.cfg.Packets != nil:
		g.cfg.Packets(src, inner)
	}
}

func (g *Gateway) reachable(a netip.Addr) bool {
	return slices.ContainsFunc(g.cfg.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// endpoints are source and destination of an IP packet.
func endpoints(packet []byte) (src, dst netip.Addr, ok bool) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:])), true
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:])), true
	}
	return src, dst, false
}

// client finds the SA of a client by an address that it has from the pool, or that
// is in an office behind it.
func (g *Gateway) client(a netip.Addr) *sa {
	if s := g.pool.leases[a]; s != nil {
		return s
	}
	for _, s := range g.sas {
		if slices.ContainsFunc(s.children, func(c *child) bool { return c.client.Contains(a) }) {
			return s
		}
	}
	return nil
}

// sendInner sends a packet to the client whose address it has, on the newest tunnel
// that is meant for it.
func (g *Gateway) sendInner(packet []byte) {
	src, dst, ok := endpoints(packet)
	s := g.client(dst)
	if !ok || s == nil || s.encapsulation() == 0 || g.cfg.Handover != nil {
		return
	}
	for _, c := range slices.Backward(s.children) {
		if (!c.client.Contains(dst) || !c.remote.Contains(src)) && !g.cfg.Quirks.ReturnOnNewest {
			continue
		}
		if c.ipcomp != nil && c.ipcomp.double {
			packet = c.ipcomp.between(s.path.sock.local.Addr(), s.path.peer.Addr(), packet)
		}
		buf := make([]byte, esp.MaxHeadroom+len(packet), esp.MaxHeadroom+len(packet)+esp.MaxTailroom)
		copy(buf[esp.MaxHeadroom:], packet)
		sealed, err := c.out.Seal(buf, esp.MaxHeadroom, len(packet))
		if err != nil {
			g.log.Debug("could not seal a packet", "reason", err)
			return
		}
		s.sendESP(sealed)
		return
	}
}
