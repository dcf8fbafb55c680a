package ike

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

const strangeMID = 0x5caff01d

// loginRequest asks for login and password under strangeMID.
func loginRequest(h isakmp.Header) *gateway.Message {
	return transaction(h, strangeMID, isakmp.Config{Type: isakmp.ConfigRequest, Attributes: empty(isakmp.XAuthUserName, isakmp.XAuthPassword)})
}

// clearLoginRequest does so in the clear, with something in HASH's place.
func clearLoginRequest(h isakmp.Header) *gateway.Message {
	m := loginRequest(h)
	m.Header.Flags = 0
	m.Payloads = append([]isakmp.Payload{{Type: isakmp.PayloadHash, Body: make([]byte, 32)}}, m.Payloads...)
	return m
}

// answers counts what the client sent under strangeMID.
func (w *world) answers() int {
	return len(w.sent(func(d datagram) bool {
		h, ok := ikeHeader(d.from, d.to, d.data)
		return byClient(d) && ok && h.MessageID == strangeMID
	}))
}

// TestNoLoginBeforeProof: whoever asks for the login before the gateway has proved
// who it is gets no answer, then or later.
func TestNoLoginBeforeProof(t *testing.T) {
	for _, tt := range []struct {
		name    string
		steps   []gateway.Step
		request func(isakmp.Header) *gateway.Message
	}{
		{"in the clear", []gateway.Step{gateway.MM2, gateway.MM4, gateway.MM6, gateway.AM2}, clearLoginRequest},
		{"encrypted", []gateway.Step{gateway.MM6}, loginRequest},
	} {
		for _, step := range tt.steps {
			for _, instead := range []bool{false, true} {
				t.Run(tt.name, func(t *testing.T) {
					inWorld(t, func(w *world) {
						w.client.Exchange = ExchangeMain
						if step == gateway.AM2 {
							w.client.Exchange = ExchangeAggressive
						}
						w.hook(step, func(m *gateway.Message) []*gateway.Message {
							if instead {
								return []*gateway.Message{tt.request(m.Header)}
							}
							return []*gateway.Message{tt.request(m.Header), m}
						})
						w.start()
						s, err := w.tryDial()
						if n := w.answers(); n != 0 {
							t.Errorf("%d answers", n)
						}
						if instead {
							wantError[*NoAnswerError](w.t, err)
							return
						}
						if err != nil {
							w.t.Fatal(err)
						}
						w.exchangePackets(s, receive(s), "hello")
						w.theReply()
					})
				})
			}
		}
	}
}

// TestTransactionsNeedHASH: a Transaction counts only encrypted and with a right
// HASH in front, followed by one Attribute payload.
func TestTransactionsNeedHASH(t *testing.T) {
	for name, change := range map[string]func(*gateway.Message){
		"wrong HASH": func(m *gateway.Message) { m.Hash = func(h []byte) []byte { h[3] ^= 8; return h } },
		"short HASH": func(m *gateway.Message) { m.Hash = func(h []byte) []byte { return h[:16] } },
		"no HASH":    func(m *gateway.Message) { m.Hash = func([]byte) []byte { return nil } },
		"in the clear": func(m *gateway.Message) {
			*m = *clearLoginRequest(m.Header)
		},
		"two Attribute payloads": func(m *gateway.Message) { m.Payloads = append(m.Payloads, m.Payloads[0]) },
		"no Attribute payload": func(m *gateway.Message) {
			m.Payloads = []isakmp.Payload{{Type: isakmp.PayloadNonce, Body: make([]byte, 8)}}
		},
		"attributes that cannot be read": func(m *gateway.Message) {
			m.Replace(isakmp.PayloadAttribute, []byte{1, 0, 0, 0, 0x40, 0x88})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.change(gateway.XAuthRequest, change)
				w.start()
				if _, err := w.tryDial(); err == nil {
					w.t.Error("connected")
				}
				if n := len(w.messages(gateway.XAuthReply)); n != 0 {
					w.t.Errorf("%d replies", n)
				}
			})
		})
	}
}

// quickModeOffer is a first Quick Mode message of the gateway, as good as its own.
func quickModeOffer(h isakmp.Header) *gateway.Message {
	h.Exchange, h.MessageID, h.Flags = isakmp.QuickMode, strangeMID, isakmp.FlagEncrypted
	m := &gateway.Message{Step: "TEST", Header: h}
	m.Add(isakmp.PayloadSA, isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{{
		Protocol: isakmp.ProtoESP, SPI: []byte{1, 2, 3, 4}, Transforms: []isakmp.Transform{{ID: isakmp.ESPAESGCM16, Attributes: []isakmp.Attribute{
			isakmp.BasicAttribute(isakmp.AttrESPEncapsulation, isakmp.EncapUDPTunnel), isakmp.BasicAttribute(isakmp.AttrESPKeyLength, 256),
		}}},
	}}}.Append(nil))
	m.Add(isakmp.PayloadNonce, make([]byte, 32))
	m.Add(isakmp.PayloadID, networkID("0.0.0.0/0").Append(nil))
	m.Add(isakmp.PayloadID, networkID("10.99.0.1/32").Append(nil))
	return m
}

// TestNoEarlyQuickMode: none happens before Mode-Config is over; the very same one
// is answered later.
func TestNoEarlyQuickMode(t *testing.T) {
	for _, step := range []gateway.Step{gateway.XAuthRequest, gateway.XAuthSet, gateway.ConfigReply} {
		inBoth(t, func(w *world) {
			w.hook(step, func(m *gateway.Message) []*gateway.Message {
				return []*gateway.Message{quickModeOffer(m.Header), m}
			})
			w.start()
			s := w.dial()
			said := w.sent(func(d datagram) bool {
				h, ok := ikeHeader(d.from, d.to, d.data)
				return byClient(d) && ok && h.Exchange == isakmp.Informational
			})
			if n := w.answers(); n+len(said) != 0 {
				w.t.Errorf("%s: %d answers and %d notifications", step, n, len(said))
			}
			w.exchangePackets(s, receive(s), "hello")
		})
	}
	inWorld(t, func(w *world) {
		w.start()
		w.dial()
		w.say(firstVIP, func(h isakmp.Header) []*gateway.Message { return []*gateway.Message{quickModeOffer(h)} })
		synctest.Wait()
		if n := w.answers(); n != 1 {
			t.Errorf("%d answers when the session is up", n)
		}
	})
}

// spoof delivers datagrams that seem to come from the gateway's port 4500.
func (w *world) spoof(datagrams ...[]byte) {
	w.t.Helper()
	w.setRule(func(from, _ netip.AddrPort, data []byte) []gateway.Delivery {
		if !toClient(from) {
			return deliver(data)
		}
		var out []gateway.Delivery
		for _, d := range datagrams {
			out = append(out, gateway.Delivery{Datagram: d})
		}
		return out
	})
	if err := w.gw.Probe(firstVIP); err != nil {
		w.t.Fatal(err)
	}
	w.setRule(nil)
	synctest.Wait()
}

func withMarker(b []byte) []byte { return append(make([]byte, nonESPMarkerLen), b...) }

// cookiesOf reads the header of the client's last IKE message.
func (w *world) cookiesOf() isakmp.Header {
	w.t.Helper()
	sent := w.sent(func(d datagram) bool { return byClient(d) && isIKE(d.from, d.to, d.data) })
	h, ok := ikeHeader(sent[len(sent)-1].from, sent[len(sent)-1].to, sent[len(sent)-1].data)
	if !ok {
		w.t.Fatal("no IKE message")
	}
	return h
}

// deleteOf is a Delete for an SA, as the gateway would encrypt it.
func deleteOf(h isakmp.Header, proto isakmp.ProtocolID, spi []byte) *gateway.Message {
	d := isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: proto, SPISize: uint8(len(spi)), SPIs: [][]byte{spi}}
	m := &gateway.Message{Step: "TEST", Header: h}
	m.Add(isakmp.PayloadDelete, d.Append(nil))
	return m
}

// TestUnauthenticatedIsNotObeyed: Delete and Notify without encryption and right
// HASH change nothing, nor does a Delete for somebody else's SA.
func TestUnauthenticatedIsNotObeyed(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		h := w.cookiesOf()
		child := s.Stats().Children[0]
		w.spoof(withMarker(clearDelete(h)), withMarker(clearNotify(h, isakmp.NotifyInvalidSPI)), withMarker(clearNotify(h, isakmp.NotifyNoProposalChosen)))
		w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
			var ms []*gateway.Message
			for _, hash := range []func([]byte) []byte{
				func([]byte) []byte { return nil },
				func(right []byte) []byte { right[31] ^= 1; return right },
				func(right []byte) []byte { return right[:1] },
				func([]byte) []byte { return []byte{} },
			} {
				for i, m := range []*gateway.Message{
					deleteOf(h, isakmp.ProtoISAKMP, slices.Concat(h.CKYI[:], h.CKYR[:])),
					deleteOf(h, isakmp.ProtoESP, be32(child.SPIOut)),
				} {
					m.Header.MessageID += uint32(2*len(ms) + i)
					m.Hash = hash
					ms = append(ms, m)
				}
			}
			other := h.CKYR
			other[0]++
			return append(ms,
				deleteOf(h, isakmp.ProtoISAKMP, slices.Concat(h.CKYI[:], other[:])),
				deleteOf(h, isakmp.ProtoISAKMP, h.CKYI[:]),
				deleteOf(h, isakmp.ProtoESP, be32(child.SPIOut+1)),
				deleteOf(h, isakmp.ProtoAH, be32(child.SPIOut)))
		})
		synctest.Wait()
		w.wantAlive(s)
		if got := s.Stats().Children; len(got) != 1 || got[0].SPIIn != child.SPIIn {
			w.t.Errorf("ESP SAs %+v", got)
		}
		w.exchangePackets(s, received, "still here")
	})
}

// TestAnotherSource: only the gateway's address is listened to, whichever port it
// uses.
func TestAnotherSource(t *testing.T) {
	mallory := netip.MustParseAddr("203.0.113.66")
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeMain
		conns := make(map[uint16]net.PacketConn)
		for _, port := range []uint16{portIKE, portNATT} {
			conn, err := w.net.Listen(netip.AddrPortFrom(mallory, port))
			if err != nil {
				w.t.Fatal(err)
			}
			defer conn.Close()
			conns[port] = conn
		}
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			if !toClient(from) {
				return deliver(data)
			}
			go conns[from.Port()].WriteTo(data, net.UDPAddrFromAddrPort(to)) // its own words from elsewhere
			return nil
		})
		w.start()
		_, err := w.tryDial()
		wantError[*NoAnswerError](w.t, err)
	})
	inWorld(t, func(w *world) {
		conn, err := w.net.Listen(netip.AddrPortFrom(gatewayAddr, 4501))
		if err != nil {
			w.t.Fatal(err)
		}
		defer conn.Close()
		lost := false
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			if from.Port() != portNATT || !isIKE(from, to, data) {
				return deliver(data)
			}
			lost = true
			go conn.WriteTo(data, net.UDPAddrFromAddrPort(to))
			return nil
		})
		w.start()
		if s := w.dial(); !lost || s.Stats().Gateway.Port() != portNATT {
			t.Errorf("the gateway's other port was followed to %v", s.Stats().Gateway)
		}
	})
}

// garbage makes datagrams that are none: noise of every length, and messages of the
// SA with noise inside.
func garbage(h isakmp.Header, marker bool) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	var out [][]byte
	for n := range 120 {
		out = append(out, noise(n))
	}
	for i := range 400 {
		h := h
		h.NextPayload = isakmp.PayloadType(r.Uint32())
		h.Exchange = []isakmp.ExchangeType{isakmp.MainMode, isakmp.AggressiveMode, isakmp.Informational, isakmp.Transaction, isakmp.QuickMode, 33, 34, 0, 255}[r.IntN(9)]
		h.Flags, h.MessageID = isakmp.Flags(r.Uint32()), r.Uint32()*uint32(i%2)
		body := noise(r.IntN(100))
		if i%3 == 0 {
			h.NextPayload = isakmp.PayloadFragment
			body = append([]byte{0, 0, byte(len(body) >> 8), byte(len(body))}, body...)
		}
		h.Length = uint32(isakmp.HeaderLen + len(body))
		if i%7 == 0 {
			h.Length = r.Uint32()
		}
		b := append(h.Append(nil), body...)
		if marker {
			b = withMarker(b)
		}
		out = append(out, b)
	}
	return append(out, binary.BigEndian.AppendUint32(nil, 1), make([]byte, 4), make([]byte, 8), make([]byte, 3000))
}

// TestGarbage: it neither ends a connection nor keeps one from being made.
func TestGarbage(t *testing.T) {
	for n := range 4 {
		inBoth(t, func(w *world) {
			w.gateway.FragmentSize = -1
			w.forgeBefore(n, func(h isakmp.Header, _ []byte) [][]byte { return garbage(h, false) })
			w.start()
			s := w.dial()
			w.exchangePackets(s, receive(s), "hello")
			if d := time.Since(w.began); d > 5*time.Second {
				w.t.Errorf("message %d: connecting took %v", n, d)
			}
		})
	}
	inBoth(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		w.spoof(garbage(w.cookiesOf(), true)...)
		w.wantAlive(s)
		w.exchangePackets(s, received, "still here")
	})
}

// TestFlood: messages that nobody reads, because the user is being asked, do not
// pile up, nor do they hold up anything else.
func TestFlood(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)...)
		w.answering("1")
		w.start()
		s := w.dial()
		received := receive(s)
		thinking := make(chan struct{})
		w.do(s, func() {
			s.cfg.Prompt = func(context.Context, Prompt) (Answer, error) {
				<-thinking
				return Answer{Secret("2")}, nil
			}
		})
		w.renew(s)
		synctest.Wait()
		flood := slices.Repeat([][]byte{withMarker(clearDelete(w.cookiesOf()))}, 200)
		for range 10 {
			w.spoof(flood...)
		}
		s.transport.mu.Lock()
		sa := s.transport.sas[w.cookiesOf().CKYI]
		s.transport.mu.Unlock()
		if n := len(sa.inbox); n != inboxSize {
			t.Errorf("%d messages wait", n)
		}
		w.exchangePackets(s, received, "meanwhile")
		close(thinking)
		time.Sleep(3 * time.Second) // an answer that comes before the inbox is empty is asked for again, once
		if n := s.Stats().Rekeys; n != 1 {
			t.Errorf("%d reauthentications", n)
		}
		w.exchangePackets(s, received, "afterwards")
	})
}
