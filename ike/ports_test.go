package ike

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// clientPorts lists the ports that the client has sent from, by the gateway's port.
func (w *world) clientPorts() map[uint16][]uint16 {
	ports := make(map[uint16][]uint16)
	for _, d := range w.sent(byClient) {
		ports[d.to.Port()] = appendNew(ports[d.to.Port()], 8, d.from.Port())
	}
	return ports
}

// TestLocalPort: 500 stands for the fixed pair, any other port serves both of the
// gateway's.
func TestLocalPort(t *testing.T) {
	for _, tt := range []struct {
		local, clear, marked uint16
	}{
		{500, 500, 4500},
		{4500, 4500, 4500},
		{12345, 12345, 12345},
	} {
		for name, setup := range map[string]func(*world){
			"direct":     func(*world) {},
			"behind NAT": func(w *world) { w.net.AddNAT(netip.PrefixFrom(clientAddr, 24), netip.MustParseAddr("203.0.113.9")) },
		} {
			t.Run(name, func(t *testing.T) {
				inTurns(t, func(w *world) {
					setup(w)
					w.client.LocalPort = tt.local
					w.start()
					s := w.dial()
					received := receive(s)
					w.exchangePackets(s, received, "hello")
					w.renew(s)
					time.Sleep(2 * time.Second)
					w.exchangePackets(s, received, "afterwards")
					if got := w.clientPorts(); name == "direct" && (!slices.Equal(got[portIKE], []uint16{tt.clear}) || !slices.Equal(got[portNATT], []uint16{tt.marked}) || len(got) != 2) {
						w.t.Errorf("sent from ports %v", got)
					}
					if got := s.Stats().Local; got != netip.AddrPortFrom(clientAddr, tt.marked) {
						w.t.Errorf("our end is at %v", got)
					}
					if s.transport.esp.Load() != s.transport.socket(portNATT).receiver {
						w.t.Error("another loop than that of ESP's socket takes it")
					}
					s.Close()
					again := w.dial() // at once: the ports are free
					w.exchangePackets(again, receive(again), "again")
				})
			})
		}
	}
}

// TestLocalPortNATD: the address that NAT detection compares has the port that is sent
// from, so that no NAT is seen where there is none.
func TestLocalPortNATD(t *testing.T) {
	inBoth(t, func(w *world) {
		w.client.LocalPort = 500
		w.start()
		if got := w.dial().Stats().NAT; got != NATForced {
			w.t.Errorf("NAT %v", got)
		}
	})
}

// TestLocalPortTaken: it is told which port, before anything is sent, and the other of
// the pair is given back.
func TestLocalPortTaken(t *testing.T) {
	for _, tt := range []struct{ local, taken uint16 }{{500, 500}, {500, 4500}, {4500, 4500}, {777, 777}} {
		inWorlds(t, func(w *world) {
			w.client.LocalPort = tt.local
			other, err := w.net.Listen(netip.AddrPortFrom(clientAddr, tt.taken))
			if err != nil {
				w.t.Fatal(err)
			}
			w.start()
			for range 2 {
				_, err = w.tryDial()
				if e := wantError[*SocketError](w.t, err); e.Port != tt.taken || e.Err == nil {
					w.t.Errorf("%d taken: %+v", tt.taken, e)
				}
			}
			if sent := w.sent(byClient); len(sent) > 0 {
				w.t.Errorf("%d taken: %d datagrams left", tt.taken, len(sent))
			}
			other.Close()
			s := w.dial()
			w.exchangePackets(s, receive(s), "hello")
		})
	}
}

// TestLocalPortOfNextAddress: each address of a gateway is tried from the same ports.
func TestLocalPortOfNextAddress(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.LocalPort = 500
		w.client.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.66"), gatewayAddr}, nil
		}
		w.start()
		w.dial()
	})
}

// TestRawSocketRefused: plain ESP that this computer refuses shows before the login
// leaves, and where it was asked for by name, before anything does.
func TestRawSocketRefused(t *testing.T) {
	for name, setup := range map[string]func(*world){
		"switched off": func(w *world) { w.client.NATT = NATTOff },
		"gateway without": func(w *world) {
			w.gateway.NATT = []string{}
			w.withoutVendor(capUnity)
		},
		"gateway with Unity, without a port": func(w *world) { w.gateway.NATT = []string{} },
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				setup(w)
				w.start()
				_, err := w.tryDial()
				if e := wantError[*SocketError](w.t, err); e.Port != 0 || !errors.Is(e, errNoRawSockets) {
					w.t.Errorf("%+v", e)
				}
				switch sent, replies := w.sent(byClient), w.messages(gateway.XAuthReply); name {
				case "switched off":
					if len(sent) > 0 {
						w.t.Errorf("%d datagrams left", len(sent))
					}
				case "gateway without":
					if len(replies) > 0 || len(sent) == 0 {
						w.t.Errorf("%d answers to XAUTH left", len(replies))
					}
				}
			})
		})
	}
}

// udpESP is a gateway's socket for Cisco's own UDP encapsulation: it looks like one for
// plain ESP, and carries the packets in UDP.
type udpESP struct {
	net.PacketConn
	mu     sync.Mutex
	client net.Addr
}

func (u *udpESP) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := u.PacketConn.ReadFrom(b)
		if err != nil {
			return 0, nil, err
		}
		u.mu.Lock()
		u.client = from
		u.mu.Unlock()
		if n > 1 { // no keepalive
			return n, &net.IPAddr{IP: from.(*net.UDPAddr).IP}, nil
		}
	}
}

func (u *udpESP) WriteTo(b []byte, _ net.Addr) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.PacketConn.WriteTo(b, u.client)
}

// TestUDPPort: a Unity gateway without NAT traversal names a UDP port, to which ESP
// goes bare, kept open in NATs; IKE stays on port 500 and no raw socket is needed.
// NAT traversal, or plain ESP by name, go before it.
func TestUDPPort(t *testing.T) {
	const port = 10000
	for _, tt := range []struct {
		name  string
		setup func(*world)
		asked bool
		to    uint16 // where ESP goes
	}{
		{"instead of NAT traversal", func(w *world) { w.gateway.NATT = []string{} }, true, port},
		{"beside NAT traversal", func(*world) {}, false, portNATT},
		{"plain ESP", func(w *world) {
			w.client.NATT = NATTOff
			w.client.ListenESP = func(context.Context, netip.Addr) (net.PacketConn, error) { return w.net.ListenIP(clientAddr) }
		}, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inTurns(t, func(w *world) {
				tt.setup(w)
				w.gateway.Settings.Extra = []isakmp.Attribute{isakmp.BasicAttribute(isakmp.UnityNATTPort, port)}
				var raw net.PacketConn
				var err error
				if tt.to == 0 {
					raw, err = w.net.ListenIP(gatewayAddr)
				} else {
					raw, err = w.net.Listen(netip.AddrPortFrom(gatewayAddr, port))
					raw = &udpESP{PacketConn: raw}
				}
				if err != nil {
					w.t.Fatal(err)
				}
				w.rawSockets = []gateway.Socket{{Conn: raw, Raw: true}}
				w.start()
				s := w.dial()
				received := receive(s)
				w.exchangePackets(s, received, "hello")
				w.renew(s)
				time.Sleep(2 * time.Second)
				w.exchangePackets(s, received, "afterwards")
				if _, asked := isakmp.Find(w.configs(gateway.ConfigRequest)[0].Attributes, isakmp.UnityNATTPort); asked != tt.asked {
					w.t.Errorf("asked for the port: %v", asked)
				}
				if got := s.Assignment().NATTPort; got != port {
					w.t.Errorf("port %d in the settings", got)
				}
				ports := w.clientPorts()
				if ports[tt.to] == nil || tt.to != portNATT && ports[portNATT] != nil || tt.to != port && ports[port] != nil {
					w.t.Errorf("sent to %v", ports)
				}
				w.wantKeepalive(tt.to)
			})
		})
	}
}

// wantKeepalive waits for one to a port of the gateway, or a probe in its place, while nothing
// else is sent.
func (w *world) wantKeepalive(to uint16) {
	w.t.Helper()
	if to == 0 {
		return // IP protocols have none
	}
	before := len(w.sent(byClient))
	time.Sleep(natKeepAlive + time.Second)
	synctest.Wait()
	if !slices.ContainsFunc(w.sent(byClient)[before:], func(d datagram) bool { return d.to.Port() == to }) {
		w.t.Errorf("no keepalive to port %d", to)
	}
}
