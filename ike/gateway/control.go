package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// Client is an ISAKMP SA as it stands.
type Client struct {
	User        string
	Address     netip.Addr // inner address; invalid: none given
	Peer        netip.AddrPort
	Exchange    isakmp.ExchangeType
	Suite       string // "aes256-sha256-modp2048"
	ClientNAT   bool   // NAT before the client, or it says so to get encapsulation
	GatewayNAT  bool
	SignedIn    bool // XAUTH succeeded
	Established time.Time
	Tunnels     []Tunnel // oldest first
}

// Tunnel is a ChildSA as it stands. SPIs are the gateway's view.
type Tunnel struct {
	SPIIn, SPIOut  uint32
	Suite          string // "aes128gcm16", "aes256-sha1-modp2048"
	Client, Remote netip.Prefix
	In             esp.InboundStats
	Out            esp.OutboundStats
}

// Clients lists the ISAKMP SAs, oldest first. Like all methods that follow it waits
// for Serve to run, and returns ErrStopped, or here nothing, after Serve's end.
func (g *Gateway) Clients() []Client {
	var clients []Client
	_ = g.do(func() error { // a gateway that has stopped has no clients
		for _, s := range g.sas {
			c := Client{
				User: s.user, Address: s.address, Peer: s.path.peer, Exchange: s.exchange, ClientNAT: s.clientNAT, GatewayNAT: s.gatewayNAT,
				SignedIn: s.state == ready, Established: s.created,
			}
			if s.state != waitFirst {
				c.Suite = s.suite.String()
			}
			for _, t := range s.children {
				c.Tunnels = append(c.Tunnels, Tunnel{
					SPIIn: t.in.SPI(), SPIOut: t.out.SPI(), Suite: t.suite.String(),
					Client: t.client, Remote: t.remote, In: t.in.Stats(), Out: t.out.Stats(),
				})
			}
			clients = append(clients, c)
		}
		return nil
	})
	slices.SortFunc(clients, func(a, b Client) int { return a.Established.Compare(b.Established) })
	return clients
}

// RekeyChild begins a Quick Mode to replace the newest tunnel of the client with
// the given inner address. It does not wait for the outcome.
func (g *Gateway) RekeyChild(client netip.Addr) error {
	return g.withTunnel(client, func(c *child) error { return c.sa.beginQuickMode(c) })
}

// DeleteChild deletes the newest tunnel of a client and tells it.
func (g *Gateway) DeleteChild(client netip.Addr) error {
	return g.withTunnel(client, func(c *child) error {
		c.expire()
		return nil
	})
}

// DeleteIKE deletes all that belongs to a client and tells it.
func (g *Gateway) DeleteIKE(client netip.Addr) error {
	return g.with(client, func(s *sa) error {
		s.end("deleted by request")
		return nil
	})
}

// Probe sends a client an R-U-THERE (RFC 3706).
func (g *Gateway) Probe(client netip.Addr) error {
	return g.with(client, func(s *sa) error {
		s.probe()
		return nil
	})
}

// AskAgain begins XAUTH anew with a client that has signed in
// (draft-beaulieu-ike-xauth-02 §5).
func (g *Gateway) AskAgain(client netip.Addr) error {
	return g.with(client, func(s *sa) error {
		s.askCredentials()
		return nil
	})
}

// SendPacket sends an inner packet to the client that it is addressed to. If
// there is none, or no tunnel for it, the packet is lost.
func (g *Gateway) SendPacket(packet []byte) error {
	packet = append([]byte(nil), packet...)
	return g.post(func() { g.sendInner(packet) })
}

func (g *Gateway) with(client netip.Addr, f func(*sa) error) error {
	return g.do(func() error {
		s := g.client(client)
		if s == nil {
			return fmt.Errorf("gateway: no client %v", client)
		}
		return f(s)
	})
}

func (g *Gateway) withTunnel(client netip.Addr, f func(*child) error) error {
	return g.with(client, func(s *sa) error {
		if len(s.children) == 0 {
			return fmt.Errorf("gateway: client %v has no tunnel", client)
		}
		return f(s.children[len(s.children)-1])
	})
}
