package ike

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// latency is how long a datagram takes, in tests where messages are to cross.
const latency = 50 * time.Millisecond

func slow(_, _ netip.AddrPort, data []byte) []gateway.Delivery {
	return []gateway.Delivery{{After: latency, Datagram: data}}
}

// stream sends numbered packets both ways at intervals.
type stream struct {
	w        *world
	s        *Session
	received func() [][]byte
	onlyIn   bool // the gateway alone sends
	n        int
}

func (w *world) newStream(s *Session) *stream {
	time.Sleep(4 * latency) // QM3 has arrived
	return &stream{w: w, s: s, received: receive(s)}
}

// run goes on for a while.
func (st *stream) run(interval, length time.Duration) {
	st.w.t.Helper()
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(interval) {
		st.n++
		if !st.onlyIn {
			send(st.w.t, st.s, ipv4(firstVIP, insideHost, fmt.Sprint("out ", st.n)))
		}
		if err := st.w.gw.SendPacket(ipv4(insideHost, firstVIP, fmt.Sprint("in ", st.n))); err != nil {
			st.w.t.Fatal(err)
		}
	}
}

// lost counts the packets of each direction that have not arrived.
func (st *stream) lost() (out, in int) {
	time.Sleep(4 * latency)
	have := make(map[string]bool)
	for _, p := range st.received() {
		have[string(p)] = true
	}
	st.w.mu.Lock()
	for _, p := range st.w.packets {
		have[string(p)] = true
	}
	st.w.mu.Unlock()
	for i := range st.n {
		if !st.onlyIn && !have[string(ipv4(firstVIP, insideHost, fmt.Sprint("out ", i+1)))] {
			out++
		}
		if !have[string(ipv4(insideHost, firstVIP, fmt.Sprint("in ", i+1)))] {
			in++
		}
	}
	return out, in
}

func (st *stream) wantNoLoss() {
	st.w.t.Helper()
	if out, in := st.lost(); out+in != 0 {
		st.w.t.Errorf("%d packets out and %d packets in of %d were lost", out, in, st.n)
	}
}

// espSent lists the SPIs of the client's ESP packets in order, each run once, with
// the time of its first packet.
func (w *world) espSent() (spis []uint32, at []time.Duration) {
	for _, d := range w.sent(byClient) {
		if isIKE(d.from, d.to, d.data) || len(d.data) < 8 {
			continue
		}
		spi := binary.BigEndian.Uint32(d.data)
		if len(spis) == 0 || spis[len(spis)-1] != spi {
			spis, at = append(spis, spi), append(at, d.after)
		}
	}
	return spis, at
}

// deletedESP lists the SPIs in the client's Deletes for ESP SAs.
func (w *world) deletedESP() (spis []uint32) {
	w.t.Helper()
	for _, m := range w.messages(gateway.Delete) {
		d, err := isakmp.ParseDelete(m.Payload(isakmp.PayloadDelete))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, spi := range d.SPIs {
			if d.Protocol == isakmp.ProtoESP {
				spis = append(spis, binary.BigEndian.Uint32(spi))
			}
		}
	}
	return spis
}

// spisOf lists the inbound SPIs of a session, newest first.
func spisOf(s *Session) (spis []uint32) {
	for _, c := range s.Stats().Children {
		spis = append(spis, c.SPIIn)
	}
	return spis
}

// TestRekey: before its lifetime ends, an ESP SA is replaced without the loss of a
// packet, and the old one is deleted after its grace.
func TestRekey(t *testing.T) {
	const life = 300 * time.Second
	inBothWorlds(t, func(w *world) {
		w.gateway.ESPLifetime = life
		w.setRule(slow)
		w.start()
		s := w.dial()
		first := spisOf(s)
		st := w.newStream(s)
		st.run(100*time.Millisecond, 240*time.Second+latency)
		if n := len(w.eventsOf(EventRekeyed)); n != 1 {
			w.t.Fatalf("%d times rekeyed", n)
		}
		if at := w.messages(gateway.QM1)[1].after; at < 225*time.Second || at > 242*time.Second {
			w.t.Errorf("rekeyed at %v", at)
		}
		if got := spisOf(s); len(got) != 2 || got[1] != first[0] {
			w.t.Errorf("ESP SAs %x after %x", got, first)
		}
		st.run(100*time.Millisecond, oldChildGrace+time.Second)
		st.wantNoLoss()
		c := s.Stats().Children
		if len(c) != 1 || c[0].SPIIn == first[0] || c[0].Rekeys != 1 {
			w.t.Errorf("ESP SAs %+v", c)
		}
		if got := w.deletedESP(); !slices.Equal(got, first) {
			w.t.Errorf("deleted %x", got)
		}
		if got := w.gw.Clients()[0].Tunnels; len(got) != 1 || got[0].SPIOut != c[0].SPIIn {
			w.t.Errorf("the gateway has %+v", got)
		}
		if s.Stats().Rekeys != 0 {
			w.t.Error("a rekeyed ESP SA counts as a reauthentication")
		}
	})
}

// TestWhenTheNewOneSends: at the gateway's first packet on it, or after a second.
func TestWhenTheNewOneSends(t *testing.T) {
	for name, answers := range map[string]bool{"gateway sends": true, "gateway is silent": false} {
		t.Run(name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.setRule(slow)
				w.start()
				s := w.dial()
				st := w.newStream(s)
				st.run(100*time.Millisecond, time.Second)
				if err := w.gw.RekeyChild(firstVIP); err != nil {
					w.t.Fatal(err)
				}
				// QM1, QM2 and QM3 take three times the latency.
				time.Sleep(2 * latency)
				began := time.Since(w.began)
				if answers {
					st.run(10*time.Millisecond, 2*time.Second)
				} else {
					for range 200 {
						send(w.t, s, ipv4(firstVIP, insideHost, "out"))
						time.Sleep(10 * time.Millisecond)
					}
				}
				w.checkSwitch(began, answers)
			})
		})
	}
	t.Run("by us", func(t *testing.T) {
		inWorlds(t, func(w *world) {
			w.setRule(slow)
			w.start()
			s := w.dial()
			w.newStream(s)
			w.rekey(s)
			time.Sleep(2 * latency) // QM2 is here
			began := time.Since(w.began)
			for range 200 {
				send(w.t, s, ipv4(firstVIP, insideHost, "out"))
				time.Sleep(10 * time.Millisecond)
			}
			if _, at := w.espSent(); len(at) != 2 || at[1] < began+time.Second || at[1] > began+time.Second+10*time.Millisecond {
				t.Errorf("QM2 came at %v, the new SA sends at %v", began, at)
			}
		})
	})
	t.Run("by us, gateway sends", func(t *testing.T) {
		inWorlds(t, func(w *world) {
			w.setRule(slow)
			w.start()
			s := w.dial()
			st := w.newStream(s)
			w.rekey(s)
			time.Sleep(2 * latency) // QM2 is here
			began := time.Since(w.began)
			st.run(10*time.Millisecond, 2*time.Second)
			if _, at := w.espSent(); len(at) != 2 || at[1] < began+2*latency || at[1] > began+2*latency+20*time.Millisecond {
				t.Errorf("QM2 came at %v, the new SA sends at %v", began, at)
			}
			st.wantNoLoss()
		})
	})
}

// checkSwitch: HASH(3) has shown that the gateway has the keys, or its first packet.
func (w *world) checkSwitch(began time.Duration, answers bool) {
	w.t.Helper()
	_, at := w.espSent()
	if len(at) != 2 || at[1] < began || at[1] > began+activateAfter {
		w.t.Errorf("QM1 came at %v, the new SA sends at %v (gateway sends: %v)", began, at, answers)
	}
}

// rekey makes the client rekey its ESP SA now.
func (w *world) rekey(s *Session) {
	w.do(s, func() { s.current(s.pairs[0]).rekeyAt = time.Now() })
}

// TestOldReceives: packets on the old SA are taken until its grace is over.
func TestOldReceives(t *testing.T) {
	for delay, taken := range map[time.Duration]bool{oldChildGrace - 2*time.Second: true, oldChildGrace + 2*time.Second: false} {
		inWorlds(t, func(w *world) {
			w.start()
			s := w.dial()
			received := receive(s)
			synctest.Wait()
			late := ipv4(insideHost, firstVIP, "late")
			w.setRule(func(_, _ netip.AddrPort, data []byte) []gateway.Delivery {
				return []gateway.Delivery{{After: delay, Datagram: data}}
			})
			if err := w.gw.SendPacket(late); err != nil {
				w.t.Fatal(err)
			}
			synctest.Wait()
			w.setRule(nil)
			w.rekey(s)
			synctest.Wait()
			w.exchangePackets(s, received, "switches at once")
			time.Sleep(delay + time.Second)
			if containsPacket(received(), late) != taken {
				t.Errorf("a packet that was under way for %v was taken: %v", delay, !taken)
			}
		})
	}
}

// TestRekeyByGateway: strongSwan rekeys by itself.
func TestRekeyByGateway(t *testing.T) {
	for _, esp := range []string{"", "aes128-sha256", "aes256gcm16-ecp256"} {
		inTurns(t, func(w *world) {
			if esp != "" {
				w.gateway.ESP = []string{esp}
			}
			w.setRule(slow)
			w.start()
			s := w.dial()
			first := s.Stats().Children[0]
			st := w.newStream(s)
			st.run(100*time.Millisecond, 10*time.Second)
			for range 3 {
				if err := w.gw.RekeyChild(firstVIP); err != nil {
					w.t.Fatal(err)
				}
				st.run(100*time.Millisecond, 10*time.Second)
			}
			if n := len(w.eventsOf(EventRekeyed)); n != 3 {
				w.t.Errorf("%d times rekeyed", n)
			}
			st.run(100*time.Millisecond, oldChildGrace+time.Second)
			st.wantNoLoss()
			c := s.Stats().Children
			if len(c) != 1 || c[0].Rekeys != 3 || c[0].Suite != first.Suite || c[0].SPIIn == first.SPIIn {
				w.t.Errorf("ESP SAs %+v", c)
			}
			if n := len(w.gw.Clients()[0].Tunnels); n != 1 {
				w.t.Errorf("the gateway has %d tunnels", n)
			}
		})
	}
}

// TestRekeyCollision: both sides rekey at the same time.
func TestRekeyCollision(t *testing.T) {
	inBothWorlds(t, func(w *world) {
		w.setRule(slow)
		w.start()
		s := w.dial()
		st := w.newStream(s)
		st.run(100*time.Millisecond, 10*time.Second)
		w.rekey(s)
		if err := w.gw.RekeyChild(firstVIP); err != nil {
			w.t.Fatal(err)
		}
		st.run(100*time.Millisecond, 10*time.Second)
		if n := len(s.Stats().Children); n != 3 {
			w.t.Errorf("%d ESP SAs", n)
		}
		st.run(100*time.Millisecond, oldChildGrace+time.Second)
		w.wantAlive(s)
		st.wantNoLoss()
		if n, m := len(s.Stats().Children), len(w.gw.Clients()[0].Tunnels); n != 1 || m != 1 {
			w.t.Errorf("%d ESP SAs, the gateway has %d", n, m)
		}
		if n := len(w.messages(gateway.QM1)); n != 2 {
			w.t.Errorf("%d Quick Modes of ours", n)
		}
	})
}

// quickModeOf picks the datagrams of Quick Modes in one direction.
func quickModeOf(client bool) func(from, to netip.AddrPort, data []byte) bool {
	return func(from, to netip.AddrPort, data []byte) bool {
		h, ok := ikeHeader(from, to, data)
		return ok && h.Exchange == isakmp.QuickMode && toClient(from) != client
	}
}

// TestLostQM3: the gateway does not know the new SA until QM3 is repeated, which
// its repeated QM2 brings about.
func TestLostQM3(t *testing.T) {
	inBothWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		st := w.newStream(s)
		st.run(100*time.Millisecond, time.Second)
		count := 0
		ours := quickModeOf(true)
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			w.mu.Lock()
			defer w.mu.Unlock()
			if ours(from, to, data) {
				count++
			}
			return loseIf(count == 2 && ours(from, to, data), data)
		})
		w.rekey(s)
		st.run(100*time.Millisecond, 3*time.Second)
		if count != 3 {
			w.t.Errorf("%d Quick Mode messages of ours", count)
		}
		if out, in := st.lost(); in != 0 || out > 11 {
			w.t.Errorf("%d packets out and %d in were lost", out, in)
		}
		before, _ := st.lost()
		st.run(100*time.Millisecond, 40*time.Second)
		if out, in := st.lost(); out != before || in != 0 {
			w.t.Errorf("later %d packets out and %d in were lost", out-before, in)
		}
	})
}

// TestQM2Again: QM3 is repeated, byte for byte.
func TestQM2Again(t *testing.T) {
	inWorlds(t, func(w *world) {
		theirs := quickModeOf(false)
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			if theirs(from, to, data) {
				return []gateway.Delivery{{Datagram: data}, {After: time.Second, Datagram: data}, {After: 2 * time.Second, Datagram: data}}
			}
			return deliver(data)
		})
		w.start()
		s := w.dial()
		time.Sleep(3 * time.Second)
		ours := quickModeOf(true)
		sent := w.sent(func(d datagram) bool { return ours(d.from, d.to, d.data) })
		if len(sent) != 4 || !bytes.Equal(sent[1].data, sent[2].data) || !bytes.Equal(sent[1].data, sent[3].data) {
			t.Errorf("%d Quick Mode messages", len(sent))
		}
		if n := len(spisOf(s)); n != 1 {
			t.Errorf("%d ESP SAs", n)
		}
	})
}

// TestGatewayQuickModeRefused: what the gateway may not propose, with what it is told.
func TestGatewayQuickModeRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*gateway.Message)
		notify isakmp.NotifyType // 0: it is not answered at all
	}{
		{"another cipher", inSA(transformID(isakmp.ESPAESCTR)), isakmp.NotifyNoProposalChosen},
		{"NULL", inSA(both(transformID(isakmp.ESPNull), without(isakmp.AttrESPKeyLength))), isakmp.NotifyNoProposalChosen},
		{"weak group", inSA(add(isakmp.AttrESPGroup, isakmp.GroupMODP1024)), isakmp.NotifyNoProposalChosen},
		{"reserved SPI", spi(0, 0, 0, 1), isakmp.NotifyNoProposalChosen},
		{"for another address", changeIDs(func(ids []isakmp.ID) []isakmp.ID {
			return []isakmp.ID{ids[0], networkID("10.99.0.2/32")}
		}), isakmp.NotifyInvalidIDInfo},
		{"without IDs", changeIDs(func([]isakmp.ID) []isakmp.ID { return nil }), isakmp.NotifyInvalidIDInfo},
		{"wrong HASH", func(m *gateway.Message) { m.Hash = func(h []byte) []byte { h[0]++; return h } }, 0},
		{"nonce too short", func(m *gateway.Message) { m.Replace(isakmp.PayloadNonce, []byte("short")) }, 0},
		{"KE without a group", func(m *gateway.Message) { m.Add(isakmp.PayloadKE, make([]byte, 64)) }, 0},
		{"two SAs", func(m *gateway.Message) { m.Add(isakmp.PayloadSA, m.Payload(isakmp.PayloadSA)) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.start()
				s := w.dial()
				received := receive(s)
				w.change(gateway.QM1, tt.change)
				if err := w.gw.RekeyChild(firstVIP); err != nil {
					w.t.Fatal(err)
				}
				synctest.Wait()
				if n := len(w.messages(gateway.QM2)); n != 0 {
					t.Errorf("%d answers", n)
				}
				if tt.notify != 0 {
					if ns, _ := w.notifies(tt.notify); len(ns) != 1 {
						t.Errorf("%d refusals", len(ns))
					}
				}
				time.Sleep(time.Minute)
				w.wantAlive(s)
				if n := len(spisOf(s)); n != 1 {
					t.Errorf("%d ESP SAs", n)
				}
				w.exchangePackets(s, received, "still here")
			})
		})
	}
}

// TestUnfinishedQuickMode: a Quick Mode of the gateway that ends without QM3 leaves
// nothing behind, and holds nothing up for long.
func TestUnfinishedQuickMode(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		first := spisOf(s)
		w.hook(gateway.QM3, func(*gateway.Message) []*gateway.Message { return nil })
		if err := w.gw.RekeyChild(firstVIP); err != nil {
			w.t.Fatal(err)
		}
		// The gateway has installed its half all the same, and sends on it.
		synctest.Wait()
		w.hook(gateway.QM3, nil)
		w.exchangePackets(s, received, "on the new one")
		time.Sleep(2 * time.Minute)
		w.wantAlive(s)
		if got := spisOf(s); len(got) != 1 || got[0] == first[0] {
			t.Errorf("ESP SAs %x", got)
		}
	})
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		first := spisOf(s)
		w.say(firstVIP, func(h isakmp.Header) []*gateway.Message { return []*gateway.Message{quickModeOffer(h)} })
		synctest.Wait()
		if n := len(spisOf(s)); n != 2 {
			t.Errorf("%d ESP SAs while the answer is out", n)
		}
		w.exchangePackets(s, received, "meanwhile")
		time.Sleep(2 * time.Minute)
		w.wantAlive(s)
		if got := spisOf(s); !slices.Equal(got, first) {
			t.Errorf("ESP SAs %x", got)
		}
		w.exchangePackets(s, received, "afterwards")
	})
}

// TestGatewayDeletesESPAtOnce: a gateway that deletes each new ESP SA gets another at
// once, after one second and after two, and then no more, whatever goes on meanwhile.
func TestGatewayDeletesESPAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		setup  func(*world)
		pairs  int
		detail string
	}{
		{"in UDP", func(*world) {}, 1, "it deleted the ESP SA right after it was made, 4 times in a row"},
		{"plain", func(w *world) {
			w.client.NATT = NATTOff
			w.withRawSockets()
		}, 1, "it deleted the ESP SA right after it was made, 4 times in a row; perhaps it has no plain ESP"},
		{"one for each network", func(w *world) {
			w.client.Selectors = SelectorsPerNetwork
			w.gateway.Settings.SplitInclude = networksOf(2)
		}, 2, "it deleted the ESP SA right after it was made, 4 times in a row"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				tt.setup(w)
				w.gateway.Quirks.DeleteAtOnce = true
				w.start()
				s := w.dial()
				d, err := w.waitEnd(s, time.Minute)
				e := wantError[*RefusedError](w.t, err)
				if e.What != RefusedTunnel || e.Step != StepBuildTunnel || !e.Authenticated || e.Detail != tt.detail {
					w.t.Errorf("%+v", e)
				}
				if n := len(w.messages(gateway.QM1)); n != (1+maxShortLived)*tt.pairs || d != 3*time.Second {
					w.t.Errorf("%d Quick Modes; ended after %v", n, d)
				}
				if n := s.Stats().ShortLived; n != 1+maxShortLived {
					w.t.Errorf("%d short-lived ESP SAs", n)
				}
			})
		})
	}
}

// TestGatewayBeginsToDeleteESP: a tunnel that has carried packets may do so again in
// another session.
func TestGatewayBeginsToDeleteESP(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
		for s.Err() == nil {
			w.gw.DeleteChild(firstVIP) // while there is one
			time.Sleep(10 * time.Millisecond)
		}
		if e := wantError[*RefusedError](w.t, s.Err()); e.What != RefusedConnection {
			t.Errorf("%+v", e)
		}
	})
}

// TestRekeyedOftenThenDeleted: that the gateway deletes what it has replaced is no row,
// however soon it does.
func TestRekeyedOftenThenDeleted(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		for range 2 * maxShortLived {
			old := s.Stats().Children[0].SPIOut
			w.rekey(s)
			time.Sleep(2 * time.Second)
			w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
				return []*gateway.Message{deleteOf(h, isakmp.ProtoESP, be32(old))}
			})
			synctest.Wait()
		}
		if err := w.gw.DeleteChild(firstVIP); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.exchangePackets(s, received, "afterwards")
	})
}

func networksOf(n int) (ps []netip.Prefix) {
	for i := range n {
		ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
	}
	return ps
}

// TestDeletedTogether: ESP SAs that the gateway deletes in one breath, one for each of
// its networks, are no row.
func TestDeletedTogether(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.Selectors = SelectorsPerNetwork
		w.gateway.Settings.SplitInclude = networksOf(2 * maxShortLived)
		w.start()
		s := w.dial()
		children := s.Stats().Children
		pairs := len(children)
		time.Sleep(time.Second)
		w.say(firstVIP, func(h isakmp.Header) (deletes []*gateway.Message) {
			for _, c := range children { // and none of those that take their places
				deletes = append(deletes, deleteOf(h, isakmp.ProtoESP, be32(c.SPIIn)))
			}
			return deletes
		})
		time.Sleep(3 * time.Second) // they may be heard one after the other, and count twice
		w.wantAlive(s)
		if n := len(s.Stats().Children); n != pairs || pairs != 2*maxShortLived {
			t.Errorf("%d ESP SAs of %d", n, pairs)
		}
	})
}

// TestGatewayDeletesESP: Cisco's gateways delete instead of rekeying; a new SA is
// negotiated at once, also when the Delete names the wrong SPI of the pair.
func TestGatewayDeletesESP(t *testing.T) {
	for name, deleteIt := range map[string]func(*world, *Session){
		"as it should": func(w *world, _ *Session) {
			if err := w.gw.DeleteChild(firstVIP); err != nil {
				w.t.Fatal(err)
			}
		},
		"by our SPI": func(w *world, s *Session) {
			w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
				return []*gateway.Message{deleteOf(h, isakmp.ProtoESP, be32(s.Stats().Children[0].SPIIn))}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.start()
				s := w.dial()
				received := receive(s)
				first := spisOf(s)
				for range 3 {
					time.Sleep(shortLife)
					deleteIt(w, s)
					synctest.Wait()
					w.exchangePackets(s, received, "at once")
				}
				if got := spisOf(s); len(got) != 1 || got[0] == first[0] {
					w.t.Errorf("ESP SAs %x", got)
				}
				if n := len(w.messages(gateway.QM1)); n != 4 {
					w.t.Errorf("%d Quick Modes", n)
				}
			})
		})
	}
	t.Run("the old one", func(t *testing.T) {
		inWorlds(t, func(w *world) {
			w.start()
			s := w.dial()
			received := receive(s)
			old := s.Stats().Children[0].SPIOut
			w.rekey(s)
			time.Sleep(2 * time.Second)
			w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
				return []*gateway.Message{deleteOf(h, isakmp.ProtoESP, be32(old))}
			})
			synctest.Wait()
			w.exchangePackets(s, received, "as before")
			if n := len(w.messages(gateway.QM1)); n != 2 || len(spisOf(s)) != 1 {
				t.Errorf("%d Quick Modes, %d ESP SAs", n, len(spisOf(s)))
			}
		})
	})
}

// TestRekeyRefused: a refusal is survived for as long as the old SA lives.
func TestRekeyRefused(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.gateway.ESPLifetime = 300 * time.Second
		w.start()
		s := w.dial()
		received := receive(s)
		w.hook(gateway.QM2, refuseProposal)
		w.talk(s, time.Second, 280*time.Second)
		w.wantAlive(s)
		if n := len(w.messages(gateway.QM1)); n < 2 || n > 6 {
			t.Errorf("%d Quick Modes", n)
		}
		w.exchangePackets(s, received, "on the old one")
		d, err := w.waitEnd(s, 30*time.Second)
		if e := wantError[*RefusedError](w.t, err); e.What != RefusedProposal || !e.Authenticated {
			t.Errorf("after %v: %+v", d, e)
		}
	})
}

// TestRekeyUnanswered: a gateway that answers nothing else but probes is given up.
func TestRekeyUnanswered(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.hook(gateway.QM2, func(*gateway.Message) []*gateway.Message { return nil })
		w.rekey(s)
		d, err := w.waitEnd(s, time.Hour)
		if e := wantError[*NoAnswerError](w.t, err); e.Step != StepBuildTunnel || d != controlPatience {
			t.Errorf("after %v: %+v", d, e)
		}
	})
}

// TestRekeyBySequence: before the sequence numbers of an SA end, it is replaced,
// once, however many packets follow until the new one sends.
func TestRekeyBySequence(t *testing.T) {
	for _, onlyIn := range []bool{false, true} { // the gateway's packets wear the keys out, too
		inWorlds(t, func(w *world) {
			w.setRule(slow)
			w.start()
			s := w.dial()
			st := w.newStream(s)
			st.onlyIn = onlyIn
			w.do(s, func() { s.current(s.pairs[0]).rekeyAfter = 100 })
			st.run(10*time.Millisecond, 500*time.Millisecond)
			if n := len(w.eventsOf(EventRekeyed)); n != 0 {
				t.Error("rekeyed too early")
			}
			st.run(10*time.Millisecond, 10*time.Second)
			if n := len(w.messages(gateway.QM1)); n != 2 || len(w.eventsOf(EventRekeyed)) != 1 {
				t.Errorf("only in %v: %d Quick Modes", onlyIn, n)
			}
			st.wantNoLoss()
		})
	}
	// A refusal is not followed by the next try at every opportunity.
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.hook(gateway.QM2, refuseProposal)
		w.do(s, func() { s.current(s.pairs[0]).rekeyAfter = 100 })
		w.talk(s, time.Second, 10*time.Minute)
		w.wantAlive(s)
		if n := len(w.messages(gateway.QM1)); n != 2 {
			t.Errorf("%d Quick Modes", n)
		}
	})
}

// refuseProposal is a hook that answers a Quick Mode by NO-PROPOSAL-CHOSEN.
func refuseProposal(m *gateway.Message) []*gateway.Message {
	n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, Type: isakmp.NotifyNoProposalChosen}
	refusal := &gateway.Message{Header: m.Header}
	refusal.Header.Exchange = isakmp.Informational
	refusal.Add(isakmp.PayloadNotify, n.Append(nil))
	return []*gateway.Message{refusal}
}

// TestSweet32: with 64-bit blocks an SA carries less than a gigabyte.
func TestSweet32(t *testing.T) {
	for suite, want := range map[string]uint32{"3des-sha1": 1 << 19, "aes128-sha1": 3 << 30} {
		inWorlds(t, func(w *world) {
			w.client.ESP, w.client.AllowWeak = suites(w.t, ParseESPSuite, suite), Weak3DES
			w.start()
			s := w.dial()
			if got := s.current(s.pairs[0]).rekeyAfter; got != want {
				t.Errorf("%s is rekeyed after %d packets", suite, got)
			}
		})
	}
}

// With ordinary lifetimes and a packet each way every minute, nothing is lost in a day,
// nor in a week, and nothing piles up.
func TestADay(t *testing.T)  { inTurns(t, func(w *world) { w.live(1) }) }
func TestAWeek(t *testing.T) { inWorlds(t, func(w *world) { w.live(7) }) }

func (w *world) live(days int) {
	const day = 24 * time.Hour
	length := time.Duration(days) * day
	w.certify(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(length + time.Hour) })
	w.setRule(slow)
	w.start()
	s := w.dial()
	st := w.newStream(s)
	st.run(time.Minute, length)
	w.wantAlive(s)
	st.wantNoLoss()
	// An ESP SA is rekeyed after 51 to 54 minutes, and with each new ISAKMP SA.
	if n := len(w.eventsOf(EventRekeyed)); n < 26*days || n > 32*days {
		w.t.Errorf("%d ESP SAs in %d days", n, days)
	}
	// An ISAKMP SA is renewed after 6:00 to 6:24 hours.
	if n := s.Stats().Rekeys; n < int(length/(384*time.Minute)) || n > 4*days || len(w.eventsOf(EventReauth)) != n {
		w.t.Errorf("%d reauthentications in %d days", n, days)
	}
	if n := len(spisOf(s)); n > 2 {
		w.t.Errorf("%d ESP SAs are left", n)
	}
	clients := w.gw.Clients()
	if len(clients) != 1 || len(clients[0].Tunnels) > 2 {
		w.t.Errorf("the gateway has %+v", clients)
	}
	s.transport.mu.Lock()
	defer s.transport.mu.Unlock()
	if n := len(s.transport.sas); n != 1 {
		w.t.Errorf("%d ISAKMP SAs are left", n)
	}
}
