package ike

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// TestNATTVariants: the best way of NAT traversal that both sides know is used, and
// a profile may ask for one draft alone.
func TestNATTVariants(t *testing.T) {
	for _, tt := range []struct {
		theirs []string
		ours   NATT
		want   string
		port   uint16 // where ESP goes
		marker int    // zero bytes in front of it
	}{
		{[]string{"rfc3947", "draft-03", "draft-02", "draft-01", "draft-00"}, NATTAuto, "rfc3947", 4500, 0},
		{[]string{"draft-02", "draft-03"}, NATTAuto, "draft-03", 4500, 0},
		{[]string{"draft-02", "draft-00"}, NATTAuto, "draft-02", 4500, 0},
		{[]string{"rfc3947", "draft-02"}, NATTDraft02, "draft-02", 4500, 0},
		{[]string{"rfc3947", "draft-03"}, NATTDraft03, "draft-03", 4500, 0},
		{[]string{"draft-01", "draft-00"}, NATTDraft01, "draft-01", 500, 8},
		{[]string{"rfc3947", "draft-00"}, NATTDraft00, "draft-00", 500, 8},
	} {
		t.Run(tt.want, func(t *testing.T) {
			inTurns(t, func(w *world) {
				w.gateway.NATT, w.client.NATT = tt.theirs, tt.ours
				w.start()
				s := w.dial()
				received := receive(s)
				w.exchangePackets(s, received, "hello")
				if got := s.Stats().NATT; got != tt.want {
					w.t.Errorf("NAT traversal by %s", got)
				}
				esp := s.Stats().Children[0].SPIOut
				last := slices.DeleteFunc(w.sent(byClient), func(d datagram) bool {
					return !bytes.HasPrefix(d.data, append(make([]byte, tt.marker), be32(esp)...))
				})
				if len(last) != 1 || last[0].to.Port() != tt.port {
					w.t.Errorf("ESP of ours: %+v", last)
				}
				w.rekey(s)
				w.renew(s)
				time.Sleep(2 * time.Second)
				w.exchangePackets(s, received, "afterwards")
				if n := s.Stats().Rekeys; n != 1 {
					w.t.Errorf("%d reauthentications", n)
				}
			})
		})
	}
}

// withRawSockets lets both sides send ESP as an IP protocol.
func (w *world) withRawSockets() {
	w.client.ListenESP = func(context.Context, netip.Addr) (net.PacketConn, error) { return w.net.ListenIP(clientAddr) }
	conn, err := w.net.ListenIP(gatewayAddr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.rawSockets = []gateway.Socket{{Conn: conn, Raw: true}}
}

// withRawRuns has our side take and give many packets with a call, behind withRawSockets.
func (w *world) withRawRuns() {
	listen := w.client.ListenESP
	w.client.ListenESP = func(ctx context.Context, gw netip.Addr) (net.PacketConn, error) {
		conn, err := listen(ctx, gw)
		if err != nil {
			return nil, err
		}
		return newRunConn(w.t, rawAddrs{conn}), nil
	}
}

// rawAddrs is a raw socket that takes addresses with ports.
type rawAddrs struct{ net.PacketConn }

func (c rawAddrs) WriteTo(b []byte, to net.Addr) (int, error) {
	return c.PacketConn.WriteTo(b, &net.IPAddr{IP: to.(*net.UDPAddr).IP})
}

// TestPlainESP: without NAT traversal ESP is an IP protocol of its own, and IKE stays
// on port 500.
func TestPlainESP(t *testing.T) {
	for name, setup := range map[string]func(*world){
		"gateway without": func(w *world) { w.gateway.NATT = []string{} },
		"switched off":    func(w *world) { w.client.NATT = NATTOff },
		"batches":         func(w *world) { w.client.NATT = NATTOff },
	} {
		t.Run(name, func(t *testing.T) {
			inTurns(t, func(w *world) {
				setup(w)
				w.withRawSockets()
				if name == "batches" {
					w.withRawRuns()
				}
				w.start()
				s := w.dial()
				received := receive(s)
				w.exchangePackets(s, received, "hello")
				if st := s.Stats(); st.NATT != "" || st.NAT != NATNone || st.Gateway.Port() != portIKE {
					w.t.Errorf("%+v", st)
				}
				if s.transport.esp.Load() != s.transport.raw.Load().receiver {
					w.t.Error("another loop than the raw socket's takes ESP")
				}
				for _, d := range w.sent(byClient) {
					if p := d.to.Port(); p != portIKE && p != 0 {
						w.t.Errorf("a datagram went to port %d", p)
					}
				}
				w.renew(s)
				time.Sleep(2 * time.Second)
				w.exchangePackets(s, received, "afterwards")
				s.Close()
				c, err := w.net.ListenIP(clientAddr)
				if err != nil {
					w.t.Fatalf("the raw socket is still open: %v", err)
				}
				c.Close()
			})
		})
	}
}

// TestPlainESPFromStrangers is not taken.
func TestPlainESPFromStrangers(t *testing.T) {
	for _, batches := range []bool{false, true} {
		plainESPFromStrangers(t, batches)
	}
}

func plainESPFromStrangers(t *testing.T, batches bool) {
	inWorld(t, func(w *world) {
		w.client.NATT = NATTOff
		w.withRawSockets()
		if batches {
			w.withRawRuns()
		}
		mallory, err := w.net.ListenIP(netip.MustParseAddr("203.0.113.66"))
		if err != nil {
			w.t.Fatal(err)
		}
		defer mallory.Close()
		w.start()
		s := w.dial()
		received := receive(s)
		f := newForeignSA(w.t, s, 0x01020304)
		w.do(s, func() { s.install(f.child) })
		for range 3 {
			if _, err := mallory.WriteTo(f.seal(w.t, ipv4(insideHost, firstVIP, "forged")), &net.IPAddr{IP: clientAddr.AsSlice()}); err != nil {
				w.t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := len(received()); n != 0 {
			t.Errorf("%d packets of a stranger", n)
		}
		w.exchangePackets(s, received, "hello")
	})
}

// TestAddressExpiry: the settings are asked for again before the address expires.
func TestAddressExpiry(t *testing.T) {
	inBoth(t, func(w *world) {
		w.gateway.Settings.AddressExpiry = 10 * time.Minute
		w.start()
		s := w.dial()
		received := receive(s)
		if got := s.Assignment().Expiry; got != 10*time.Minute {
			w.t.Errorf("expiry %v", got)
		}
		time.Sleep(30 * time.Minute)
		w.wantAlive(s)
		requests := w.messages(gateway.ConfigRequest)
		if len(requests) != 4 || requests[1].after != 8*time.Minute {
			w.t.Errorf("%d requests, the second after %v", len(requests), requests[1].after)
		}
		w.exchangePackets(s, received, "hello")
		w.changeConfig(gateway.ConfigReply, func(c *isakmp.Config) { c.Attributes[0].Value = []byte{10, 99, 0, 77} })
		_, err := w.waitEnd(s, 10*time.Minute)
		wantError[*AddressChangedError](w.t, err)
	})
}

// TestCommitBit: a gateway may ask us to wait until it is ready (RFC 2408 §3.1). If
// it never says so, we do not wait for long.
func TestCommitBit(t *testing.T) {
	for name, silent := range map[string]bool{"CONNECTED comes": false, "CONNECTED is lost": true} {
		t.Run(name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.gateway.Quirks.CommitBit = true
				if silent {
					w.hook(gateway.Notify, func(*gateway.Message) []*gateway.Message { return nil })
				}
				w.start()
				s := w.dial()
				active := func() bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					return s.children[0].active
				}
				if active() == silent {
					t.Errorf("sends at once: %v", !silent)
				}
				time.Sleep(commitPatience)
				synctest.Wait()
				if !active() {
					t.Error("still waits")
				}
				w.exchangePackets(s, receive(s), "hello")
			})
		})
	}
}

// TestRedirect: Cisco's load balancing sends us to another gateway, which has to
// prove who it is like the first.
func TestRedirect(t *testing.T) {
	first := netip.MustParseAddr("192.0.2.200")
	for name, late := range map[string]bool{"in the clear": false, "after phase 1": true} {
		t.Run(name, func(t *testing.T) {
			inBothWorlds(t, func(w *world) {
				w.client.Resolve = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{first}, nil }
				balancer := w.gateway
				balancer.Hook, balancer.Received = nil, nil
				balancer.Quirks = gateway.Quirks{Redirect: gatewayAddr, RedirectLate: late}
				w.serve(balancer, netip.AddrPortFrom(first, portIKE), netip.AddrPortFrom(first, portNATT))
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				if got := s.Stats().Gateway.Addr(); got != gatewayAddr {
					w.t.Errorf("gateway at %v", got)
				}
				patience := refusedPatience // in the clear it may be anybody's word
				if late {
					patience = 0
				}
				if d := time.Since(w.began); d != patience {
					w.t.Errorf("connecting took %v", d)
				}
			})
		})
	}
	t.Run("in a circle", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.gateway.Quirks = gateway.Quirks{Redirect: gatewayAddr, RedirectLate: true}
			w.start()
			if _, err := w.tryDial(); err == nil {
				t.Fatal("connected")
			}
			if n := w.phase1Begun(); n != 1+maxRedirects {
				t.Errorf("%d attempts", n)
			}
		})
	})
}

// TestHabits: what gateways in the field do that makes no difference.
func TestHabits(t *testing.T) {
	for name, setup := range map[string]func(*gateway.Config){
		"no retransmission": func(c *gateway.Config) { c.Quirks.NoRetransmission = true },
		"identifier 0":      func(c *gateway.Config) { c.Quirks.ZeroIdentifier = true },
		"padded attributes": func(c *gateway.Config) { c.Quirks.PadAttributes = true },
		"padded messages": func(c *gateway.Config) {
			c.Quirks = gateway.Quirks{PadMessages: true, VendorIDs: [][]byte{[]byte("of 13 bytes..")}}
		},
		"settings in STATUS":      func(c *gateway.Config) { c.Quirks.SettingsInStatus = true },
		"settings before STATUS":  func(c *gateway.Config) { c.Quirks.SettingsBeforeStatus = true },
		"push on STATUS's chain":  func(c *gateway.Config) { c.Push, c.Quirks.Push = true, gateway.PushChained },
		"push on STATUS's ID":     func(c *gateway.Config) { c.Push, c.Quirks.Push = true, gateway.PushDerived },
		"push on phase 1's block": func(c *gateway.Config) { c.Push, c.Quirks.Push = true, gateway.PushRaw },
		"one SA a network":        func(c *gateway.Config) { c.Quirks.NetworksOnly, c.Networks = true, c.Settings.SplitInclude },
		"returns on the newest":   func(c *gateway.Config) { c.Quirks.ReturnOnNewest = true },
	} {
		t.Run(name, func(t *testing.T) {
			for _, style := range []ModeConfig{ModeConfigAuto, ModeConfigPush} {
				inBoth(t, func(w *world) {
					setup(&w.gateway)
					if style == ModeConfigPush && !w.gateway.Push {
						return
					}
					w.client.ModeConfig = style
					w.start()
					s := w.dial()
					if d := time.Since(w.began); d != 0 {
						w.t.Errorf("connecting took %v", d)
					}
					w.exchangePackets(s, receive(s), "hello")
					if a := s.Assignment(); a.DefaultDomain != "corp.example.com" {
						w.t.Errorf("%+v", a)
					}
				})
			}
		})
	}
}

// TestQuietLifetime: a gateway that deletes ESP SAs earlier than agreed gets a new one
// each time.
func TestQuietLifetime(t *testing.T) {
	inWorld(t, func(w *world) {
		w.gateway.Quirks.QuietLifetime = true
		w.gateway.ESPLifetime = 5 * time.Minute
		w.setRule(slow)
		w.start()
		s := w.dial()
		st := w.newStream(s)
		st.run(time.Second, time.Hour)
		w.wantAlive(s)
		if out, in := st.lost(); out+in > 2*13 {
			t.Errorf("%d packets out and %d in of %d were lost", out, in, st.n)
		}
	})
}

// TestIPv6Inside: an address of each family has an ESP SA of its own.
func TestIPv6Inside(t *testing.T) {
	pool := netip.MustParsePrefix("2001:db8:99::/112")
	host := netip.MustParseAddr("2001:db8:10::2")
	packet := func(src, dst netip.Addr, text string) []byte {
		p := make([]byte, 48+len(text))
		p[0], p[5], p[6], p[7] = 0x60, byte(8+len(text)), 17, 64
		copy(p[8:], src.AsSlice())
		copy(p[24:], dst.AsSlice())
		copy(p[48:], text)
		return p
	}
	inBothWorlds(t, func(w *world) {
		w.gateway.Pool6 = pool
		w.gateway.Settings.SplitInclude = nil
		w.start()
		s := w.dial()
		received := receive(s)
		w.exchangePackets(s, received, "IPv4")
		a := s.Assignment()
		if len(a.Addresses) != 2 || !pool.Contains(a.Addresses[1].Addr()) || len(spisOf(s)) != 2 {
			w.t.Fatalf("%+v, %d ESP SAs", a, len(spisOf(s)))
		}
		six := a.Addresses[1].Addr()
		out, in := packet(six, host, "out"), packet(host, six, "in")
		send(w.t, s, out)
		if err := w.gw.SendPacket(in); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		if !w.gatewayHas(out) || !containsPacket(received(), in) {
			w.t.Error("IPv6 is not carried")
		}
		if mtu := s.MTU(); mtu < 1280 {
			w.t.Errorf("MTU %d", mtu)
		}
		w.renew(s)
		time.Sleep(2 * time.Second)
		if n := s.Stats().Rekeys; n != 1 || len(s.Assignment().Addresses) != 2 {
			w.t.Errorf("%d reauthentications, %+v", n, s.Assignment().Addresses)
		}
	})
}

// TestFill: after the last payload of a cleartext message stand at most three zeros,
// which end it at a multiple of four bytes.
func TestFill(t *testing.T) {
	for _, tc := range []struct {
		message int // bytes before
		rest    string
		want    bool
	}{
		{7, "\x00", true},
		{6, "\x00\x00", true},
		{5, "\x00\x00\x00", true},
		{4, "\x00\x00\x00\x00", false},
		{6, "\x00\x01", false},
		{6, "\x00\x00\x00", false},
		{7, "\x00\x00", false},
	} {
		body := append(make([]byte, tc.message), tc.rest...)
		if got := isFill(body, body[tc.message:]); got != tc.want {
			t.Errorf("%d bytes and %q: %v", tc.message, tc.rest, got)
		}
	}
}

// TestRawSocketLate: a reauthentication that needs the raw socket opens it beside the
// control loop, which has settings for all sockets.
func TestRawSocketLate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.withRawSockets()
		w.start()
		s := w.dial()
		opened := make(chan error)
		go func() { opened <- s.transport.openRaw(context.Background(), &s.cfg) }()
		w.do(s, func() { s.transport.forbidFragments(true) })
		if err := <-opened; err != nil || s.transport.raw.Load() == nil {
			t.Errorf("%v; it is not there", err)
		}
		s.Close()
		if c, err := w.net.ListenIP(clientAddr); err != nil {
			t.Errorf("the raw socket is still open: %v", err)
		} else {
			c.Close()
		}
	})
}
