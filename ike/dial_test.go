package ike

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

func TestParseEndpoints(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []endpoint // nil: refused
	}{
		{"vpn.example.com", []endpoint{{"vpn.example.com", 500}}},
		{"vpn.example.com:4500", []endpoint{{"vpn.example.com", 4500}}},
		{" a.example , b.example:10500 ", []endpoint{{"a.example", 500}, {"b.example", 10500}}},
		{"192.0.2.1", []endpoint{{"192.0.2.1", 500}}},
		{"192.0.2.1:4500", []endpoint{{"192.0.2.1", 4500}}},
		{"2001:db8::1", []endpoint{{"2001:db8::1", 500}}},
		{"[2001:db8::1]", []endpoint{{"2001:db8::1", 500}}},
		{"[2001:db8::1]:4500", []endpoint{{"2001:db8::1", 4500}}},
		{"", nil},
		{"a,,b", nil},
		{",", nil},
		{":500", nil},
		{"a:0", nil},
		{"a:65536", nil},
		{"a:-1", nil},
		{"a:b:c", nil},
		{"https://a", nil},
		{"a b", nil},
		{"2001:db8::1:99999", nil},
	} {
		got, err := parseEndpoints(tt.in)
		if (err == nil) != (tt.want != nil) || !slices.Equal(got, tt.want) && err == nil {
			t.Errorf("%q: %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

// exchangesSeen lists the phase-1 exchanges that the client began, in order.
func (w *world) exchangesSeen() []isakmp.ExchangeType {
	var out []isakmp.ExchangeType
	seen := make(map[isakmp.Cookie]bool)
	for _, d := range w.sent(byClient) {
		if h, ok := ikeHeader(d.from, d.to, d.data); ok && h.CKYR.IsZero() && !seen[h.CKYI] {
			seen[h.CKYI] = true
			out = append(out, h.Exchange)
		}
	}
	return out
}

// TestAutoFallsBack: a gateway that ignores Main Mode is asked in Aggressive Mode,
// with another cookie.
func TestAutoFallsBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			h, ok := ikeHeader(from, to, data)
			return loseIf(ok && h.Exchange == isakmp.MainMode, data)
		})
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
		if d := time.Since(w.began); d != 12*time.Second {
			t.Errorf("connecting took %v", d)
		}
		if got := w.exchangesSeen(); !slices.Equal(got, []isakmp.ExchangeType{isakmp.MainMode, isakmp.AggressiveMode}) {
			t.Errorf("exchanges %v", got)
		}
		if s.Stats().Exchange != ExchangeAggressive {
			t.Error("another exchange is told")
		}
	})
}

// TestAutoSilent: when nothing helps, the first failure is told, after the patience
// for both.
func TestAutoSilent(t *testing.T) {
	inWorld(t, func(w *world) {
		var err error
		d := elapsed(func() { _, err = w.tryDial() })
		if e := wantError[*NoAnswerError](w.t, err); e.Step != StepFindGateway {
			t.Errorf("%+v", e)
		}
		if d != otherExchangePatience+giveUpAfter {
			t.Errorf("it took %v", d)
		}
	})
}

// TestExchangeIsKept: an exchange that was asked for is the only one tried, and no
// exchange follows one that has come further than its first answer.
func TestExchangeIsKept(t *testing.T) {
	for _, exchange := range bothExchanges {
		inWorld(t, func(w *world) {
			w.client.Exchange = exchange
			if _, err := w.tryDial(); err == nil {
				w.t.Fatal("connected to nobody")
			}
			if got := w.exchangesSeen(); !slices.Equal(got, []isakmp.ExchangeType{exchange.isakmp()}) {
				t.Errorf("%s: exchanges %v", exchange, got)
			}
		})
	}
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeAuto
		w.hook(gateway.MM4, func(*gateway.Message) []*gateway.Message { return nil })
		w.start()
		_, err := w.tryDial()
		if e := wantError[*NoAnswerError](w.t, err); e.Step != StepAgreeSecurity {
			t.Errorf("%+v", e)
		}
		if got := w.exchangesSeen(); !slices.Equal(got, []isakmp.ExchangeType{isakmp.MainMode}) {
			t.Errorf("exchanges %v", got)
		}
	})
}

// TestAggressiveGroups: the first message of Aggressive Mode fixes the group, so
// each group is an exchange of its own.
func TestAggressiveGroups(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeAggressive
		w.client.IKE = suites(t, ParseIKESuite, "aes256-sha256-ecp256", "aes256-sha1-ecp384", "aes128-sha256-ecp256", "aes256-sha256-ecp521")
		w.gateway.IKE = []string{"aes256-sha256-ecp521"}
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
		if d := time.Since(w.began); d != 2*refusedPatience {
			t.Errorf("connecting took %v: two groups were refused", d)
		}
		if got := w.exchangesSeen(); len(got) != 3 {
			t.Errorf("exchanges %v", got)
		}
	})
}

// TestSeveralGateways: only one that does not answer makes us go on.
func TestSeveralGateways(t *testing.T) {
	dead, other := netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("192.0.2.67")
	for _, tt := range []struct {
		name    string
		gateway string
		hosts   map[string][]netip.Addr
		after   time.Duration
		err     bool
	}{
		{
			name: "second host", gateway: "dead.example.com, gw.example.com", after: otherAddressPatience,
			hosts: map[string][]netip.Addr{"dead.example.com": {dead}, "gw.example.com": {gatewayAddr}},
		},
		{
			name: "second address", gateway: "gw.example.com", after: otherAddressPatience,
			hosts: map[string][]netip.Addr{"gw.example.com": {dead, gatewayAddr}},
		},
		{
			name: "third of all", gateway: "a.example,gw.example.com", after: 2 * otherAddressPatience,
			hosts: map[string][]netip.Addr{"a.example": {dead, other}, "gw.example.com": {gatewayAddr}},
		},
		{
			name: "unknown name first", gateway: "nowhere.example,gw.example.com",
			hosts: map[string][]netip.Addr{"gw.example.com": {gatewayAddr}},
		},
		{
			name: "4-in-6 address", gateway: "gw.example.com",
			hosts: map[string][]netip.Addr{"gw.example.com": {netip.AddrFrom16(gatewayAddr.As16())}},
		},
		{
			name: "last is dead too", gateway: "a.example,b.example", after: otherAddressPatience + giveUpAfter, err: true,
			hosts: map[string][]netip.Addr{"a.example": {dead}, "b.example": {other}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = ExchangeMain
				w.client.Gateway = tt.gateway
				w.client.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
					if a := tt.hosts[host]; a != nil {
						return a, nil
					}
					return nil, errors.New("no such host")
				}
				w.start()
				s, err := w.tryDial()
				if d := time.Since(w.began); d != tt.after {
					t.Errorf("it took %v", d)
				}
				if tt.err {
					wantError[*NoAnswerError](w.t, err)
					return
				}
				if err != nil {
					w.t.Fatal(err)
				}
				w.exchangePackets(s, receive(s), "hello")
			})
		})
	}
	t.Run("refused", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.client.Gateway = "gw.example.com,dead.example.com"
			w.client.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
				if host == "gw.example.com" {
					return []netip.Addr{gatewayAddr}, nil
				}
				return []netip.Addr{dead}, nil
			}
			w.client.Password = Secret("wrong")
			w.start()
			_, err := w.tryDial()
			wantError[*CredentialsError](w.t, err)
			if time.Since(w.began) != 0 {
				t.Error("a gateway that refuses made us try another")
			}
		})
	})
}

func TestNameLookup(t *testing.T) {
	failed := errors.New("no such host")
	for _, tt := range []struct {
		name    string
		resolve func(context.Context, string) ([]netip.Addr, error)
		is      error
	}{
		{"error", func(context.Context, string) ([]netip.Addr, error) { return nil, failed }, failed},
		{"no address", func(context.Context, string) ([]netip.Addr, error) { return nil, nil }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Resolve = tt.resolve
				_, err := w.tryDial()
				e := wantError[*NoAnswerError](w.t, err)
				if e.Step != StepFindGateway || e.Gateway != "gw.example.com" || tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

// TestListenFails: the hook's error comes back as it is.
func TestListenFails(t *testing.T) {
	inWorld(t, func(w *world) {
		denied := errors.New("denied")
		w.client.ListenPacket = func(context.Context, netip.Addr, uint16) (net.PacketConn, error) { return nil, denied }
		if _, err := w.tryDial(); !errors.Is(err, denied) {
			t.Errorf("error %v", err)
		}
	})
}

// deafConn sends nothing: each write fails.
type deafConn struct {
	net.PacketConn
	err error
}

func (c deafConn) WriteTo([]byte, net.Addr) (int, error) { return 0, c.err }

// TestSocketErrorIsAHint: a datagram that cannot be sent is lost like any other, but
// the final error tells.
func TestSocketErrorIsAHint(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeMain
		listen := w.client.ListenPacket
		w.client.ListenPacket = func(ctx context.Context, gw netip.Addr, port uint16) (net.PacketConn, error) {
			c, err := listen(ctx, gw, port)
			return deafConn{c, errors.New("network is unreachable")}, err
		}
		var err error
		d := elapsed(func() { _, err = w.tryDial() })
		if e := wantError[*NoAnswerError](w.t, err); e.Hint != "network is unreachable" || d != giveUpAfter {
			t.Errorf("after %v: %+v", d, e)
		}
	})
}

// moodyConn fails to send while it has an error.
type moodyConn struct {
	net.PacketConn
	err *atomic.Pointer[error]
}

func (c moodyConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if err := c.err.Load(); err != nil {
		return 0, *err
	}
	return c.PacketConn.WriteTo(b, to)
}

// TestOldSocketErrorIsNoHint: what went wrong before the gateway was last heard does not
// explain why it is silent now.
func TestOldSocketErrorIsNoHint(t *testing.T) {
	for _, later := range []bool{false, true} { // it goes wrong again
		inWorlds(t, func(w *world) {
			full, fail := errors.New("no buffer space available"), new(atomic.Pointer[error])
			kind := w.socket
			w.socket = func(t testing.TB, c net.PacketConn) net.PacketConn { return kind(t, moodyConn{c, fail}) }
			w.start()
			s := w.dial()
			received := receive(s)
			fail.Store(&full)
			send(w.t, s, ipv4(firstVIP, insideHost, "lost"))
			fail.Store(nil)
			time.Sleep(time.Minute)
			w.exchangePackets(s, received, "hello")
			want := ""
			w.crash()
			if later {
				fail.Store(&full)
				want = full.Error()
			}
			_, err := w.waitEnd(s, time.Hour)
			if e := wantError[*NoAnswerError](w.t, err); e.Hint != want {
				w.t.Errorf("the hint is %q, want %q", e.Hint, want)
			}
		})
	}
}

// TestCustomPort: on a port of the gateway's choice there is no float, and every
// message carries the marker.
func TestCustomPort(t *testing.T) {
	inBothWorlds(t, func(w *world) {
		at := netip.AddrPortFrom(gatewayAddr, 10500)
		w.client.Gateway = "gw.example.com:10500"
		w.startAt(at)
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
		if got := s.Stats().Gateway; got != at {
			w.t.Errorf("gateway at %v", got)
		}
		for _, d := range w.sent(byClient) {
			if d.to != at {
				w.t.Errorf("a datagram went to %v", d.to)
			}
		}
	})
}

// TestStartOn4500: a gateway that is only reached on port 4500.
func TestStartOn4500(t *testing.T) {
	inBothWorlds(t, func(w *world) {
		w.client.Gateway = "gw.example.com:4500"
		w.startAt(netip.AddrPortFrom(gatewayAddr, portNATT))
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
	})
}

// TestFloat: phase 1 begins on port 500, and moves to 4500 when the keys are there,
// from one and the same port of ours.
func TestFloat(t *testing.T) {
	for exchange, clear := range map[Exchange]int{ExchangeMain: 2, ExchangeAggressive: 1} {
		inWorld(t, func(w *world) {
			w.client.Exchange = exchange
			w.start()
			w.dial()
			ports := make(map[uint16]bool)
			for i, d := range w.sent(byClient) {
				want := uint16(portNATT)
				if i < clear {
					want = portIKE
				}
				if d.to.Port() != want {
					t.Errorf("%s: message %d went to port %d", exchange, i, d.to.Port())
				}
				ports[d.from.Port()] = true
			}
			if len(ports) != 1 {
				t.Errorf("%s: sent from ports %v", exchange, ports)
			}
		})
	}
}

func TestIPv6Outside(t *testing.T) {
	server, client := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:ffff::7")
	inBothWorlds(t, func(w *world) {
		w.client.Gateway = "[2001:db8::1]"
		w.client.Resolve = nil // an address is not looked up
		creds, err := gateway.SelfSigned(server.String())
		if err != nil {
			w.t.Fatal(err)
		}
		w.gateway.Chain, w.gateway.Key, w.client.Trust.CAs = creds.Chain, creds.Key, []*x509.Certificate{creds.CA}
		w.gateway.Identity = isakmp.ID{Type: isakmp.IDIPv6Addr, Data: server.AsSlice()}
		w.client.ListenPacket = func(_ context.Context, gw netip.Addr, _ uint16) (net.PacketConn, error) {
			if gw != server {
				w.t.Errorf("a socket towards %v", gw)
			}
			return w.listen(netip.AddrPortFrom(client, 0))
		}
		w.startAt(netip.AddrPortFrom(server, portIKE), netip.AddrPortFrom(server, portNATT))
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
		if st := s.Stats(); st.Identity != server.String() || st.Gateway.Addr() != server {
			w.t.Errorf("%+v", st)
		}
		if mtu := s.MTU(); mtu != 1300 {
			w.t.Errorf("MTU %d", mtu)
		}
	})
}

// TestNATDetection: what stands between the two sides is told, and makes no
// difference, since we always encapsulate.
func TestNATDetection(t *testing.T) {
	inside := netip.MustParsePrefix("198.51.100.0/24")
	for _, tt := range []struct {
		name  string
		setup func(*world)
		want  NAT
	}{
		{"none", func(*world) {}, NATForced},
		{"before us", func(w *world) { w.net.AddNAT(inside, netip.MustParseAddr("203.0.113.9")) }, NATLocal},
		{"before the gateway", func(w *world) { w.gateway.ForceEncapsulation = true }, NATRemote},
		{"both", func(w *world) {
			w.net.AddNAT(inside, netip.MustParseAddr("203.0.113.9"))
			w.gateway.ForceEncapsulation = true
		}, NATBoth},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				tt.setup(w)
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				if got := s.Stats().NAT; got != tt.want {
					w.t.Errorf("NAT %v", got)
				}
				if !w.gw.Clients()[0].ClientNAT {
					w.t.Error("the gateway was not made to encapsulate")
				}
			})
		})
	}
}

// withoutVendor takes vendor IDs out of the gateway's messages.
func (w *world) withoutVendor(caps capability) {
	for _, step := range []gateway.Step{gateway.MM2, gateway.AM2} {
		w.change(step, func(m *gateway.Message) {
			m.Payloads = slices.DeleteFunc(m.Payloads, func(p isakmp.Payload) bool {
				v, ok := identifyVendor(p.Body)
				return p.Type == isakmp.PayloadVendorID && ok && v.caps&caps != 0
			})
		})
	}
}

// TestNoNATTraversal: without it ESP needs a raw socket, and where that cannot be
// had the gateway is told that we go.
func TestNoNATTraversal(t *testing.T) {
	for name, setup := range map[string]func(*world){
		"gateway without": func(w *world) { w.withoutVendor(capNATT) },
		"switched off":    func(w *world) { w.client.NATT = NATTOff },
		"no NAT-D": func(w *world) {
			for _, step := range []gateway.Step{gateway.MM4, gateway.AM2} {
				w.change(step, func(m *gateway.Message) { m.Remove(isakmp.PayloadNATD) })
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				setup(w)
				w.start()
				if _, err := w.tryDial(); !errors.Is(err, errNoRawSockets) {
					w.t.Errorf("error %v", err)
				}
				for _, d := range w.sent(byClient) {
					if d.to.Port() != portIKE {
						w.t.Errorf("a datagram went to %v", d.to)
					}
				}
				synctest.Wait()
				if n := len(w.gw.Clients()); n != 0 {
					w.t.Errorf("the gateway keeps %d SAs", n)
				}
			})
		})
	}
}

// TestDialCancelled: whatever is being waited for, cancelling ends it at once with
// the context's cause, and leaves neither socket nor goroutine.
func TestDialCancelled(t *testing.T) {
	cause := errors.New("the user has changed his mind")
	silence := func(*gateway.Message) []*gateway.Message { return nil }
	for _, step := range []gateway.Step{
		gateway.MM2, gateway.MM4, gateway.MM6, gateway.AM2, gateway.XAuthRequest, gateway.XAuthSet, gateway.ConfigReply, gateway.QM2,
	} {
		t.Run(string(step), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = ExchangeMain
				if step == gateway.AM2 {
					w.client.Exchange = ExchangeAggressive
				}
				w.hook(step, silence)
				w.start()
				ctx, cancel := context.WithCancelCause(context.Background())
				time.AfterFunc(3*time.Second, func() { cancel(cause) })
				if _, err := w.tryDialContext(ctx); !errors.Is(err, cause) {
					t.Errorf("error %v", err)
				}
				if d := time.Since(w.began); d != 3*time.Second {
					t.Errorf("it took %v", d)
				}
				w.wantSocketClosed()
			})
		})
	}
	t.Run("name lookup", func(t *testing.T) {
		inWorld(t, func(w *world) {
			ctx, cancel := context.WithCancelCause(context.Background())
			w.client.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
				<-ctx.Done()
				return nil, fmt.Errorf("lookup: %w", ctx.Err())
			}
			time.AfterFunc(time.Second, func() { cancel(cause) })
			if _, err := w.tryDialContext(ctx); !errors.Is(err, cause) {
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("before", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.start()
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(cause)
			if _, err := w.tryDialContext(ctx); !errors.Is(err, cause) {
				t.Errorf("error %v", err)
			}
		})
	})
}

// wantSocketClosed fails if the client's socket is still open: its port is taken.
func (w *world) wantSocketClosed() {
	w.t.Helper()
	c, err := w.net.Listen(netip.AddrPortFrom(clientAddr, 49152))
	if err != nil {
		w.t.Errorf("the client's socket is still open: %v", err)
		return
	}
	c.Close()
}

// TestReach: a gateway that was lost is found again soon after it is back, whenever
// that is; a first connection asks at intervals that grow.
func TestReach(t *testing.T) {
	for _, reconnect := range []bool{true, false} {
		slowest := time.Duration(0)
		for away := time.Second; away < 50*time.Second; away += 700 * time.Millisecond {
			inWorld(t, func(w *world) {
				w.client.Reconnect = reconnect
				w.client.Exchange = ExchangeMain
				w.start()
				w.setRule(loseAll)
				time.AfterFunc(away, func() { w.setRule(nil) })
				began := time.Now()
				if s, err := w.tryDial(); err == nil {
					slowest = max(slowest, time.Since(began)-away)
					s.Close()
				} else if reconnect {
					t.Errorf("away for %v: %v", away, err)
				}
			})
		}
		if reconnect != (slowest <= 3*time.Second) {
			t.Errorf("reconnect %v: up to %v", reconnect, slowest)
		}
	}
}
