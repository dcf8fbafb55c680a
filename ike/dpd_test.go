package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// notifies lists the notifications of a type that the gateway accepted, with their
// times.
func (w *world) notifies(typ isakmp.NotifyType) (ns []isakmp.Notify, at []time.Duration) {
	w.t.Helper()
	for _, m := range w.messages(gateway.Notify) {
		n, err := isakmp.ParseNotify(m.Payload(isakmp.PayloadNotify))
		if err != nil {
			w.t.Fatal(err)
		}
		if n.Type == typ {
			ns, at = append(ns, n), append(at, m.after)
		}
	}
	return ns, at
}

// keepalives lists when the client sent NAT keepalives.
func (w *world) keepalives() []time.Duration {
	var at []time.Duration
	for _, d := range w.sent(func(d datagram) bool { return byClient(d) && bytes.Equal(d.data, natKeepalive) }) {
		at = append(at, d.after)
	}
	return at
}

// talk sends a packet each way at intervals, for as long as it is told.
func (w *world) talk(s *Session, interval, length time.Duration) {
	w.t.Helper()
	synctest.Wait()
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(interval) {
		send(w.t, s, ipv4(firstVIP, insideHost, "talk"))
		if err := w.gw.SendPacket(ipv4(insideHost, firstVIP, "talk")); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestDeadGateway: a gateway that falls silent is asked when the next keepalive is due, five
// times at intervals of 5 s, always with the same number.
func TestDeadGateway(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.setRule(loseFromGateway)
		d, err := w.waitEnd(s, time.Hour)
		e := wantError[*NoAnswerError](w.t, err)
		if d != 45*time.Second || e.Gateway != "192.0.2.1:4500" {
			w.t.Errorf("after %v: %+v", d, e)
		}
		probes, at := w.notifies(isakmp.NotifyRUThere)
		if want := []time.Duration{20 * time.Second, 25 * time.Second, 30 * time.Second, 35 * time.Second, 40 * time.Second}; !slices.Equal(at, want) {
			w.t.Errorf("probes at %v", at)
		}
		h := w.cookiesOf()
		for _, n := range probes {
			if !bytes.Equal(n.Data, probes[0].Data) || n.Data[0]&0x80 != 0 || !bytes.Equal(n.SPI, slices.Concat(h.CKYI[:], h.CKYR[:])) {
				w.t.Errorf("probe %+v", n)
			}
		}
		w.wantSocketClosed()
	})
}

// TestIdle: while nothing happens, the gateway is asked every 20 s, with growing numbers,
// and nothing else is said: keepalives and probes have the same moments.
func TestIdle(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		synctest.Wait()
		before := len(w.sent(nil))
		time.Sleep(10*time.Minute + time.Second)
		w.wantAlive(s)
		probes, at := w.notifies(isakmp.NotifyRUThere)
		if len(probes) != 30 {
			w.t.Errorf("probes at %v", at)
		}
		if n := len(w.sent(nil)) - before; n != 2*len(probes) {
			w.t.Errorf("%d datagrams for %d probes", n, len(probes))
		}
		for i, n := range probes[1:] {
			if be := probes[i].Data; !bytes.Equal(n.Data, be32(uint32(be[0])<<24|uint32(be[1])<<16|uint32(be[2])<<8|uint32(be[3])+1)) {
				w.t.Errorf("number %x after %x", n.Data, be)
			}
		}
	})
}

// TestTrafficIsProof: authentic packets of the gateway are as good as answers, and
// nothing else is.
func TestTrafficIsProof(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.talk(s, natKeepAlive-time.Second, 10*time.Minute)
		if _, at := w.notifies(isakmp.NotifyRUThere); len(at) != 0 {
			w.t.Errorf("probes at %v", at)
		}
	})
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		in := s.Stats().Children[0].SPIIn
		w.setRule(func(from, _ netip.AddrPort, data []byte) []gateway.Delivery {
			if !toClient(from) {
				return deliver(data)
			}
			forged := [][]byte{append(be32(in), make([]byte, 100)...), natKeepalive, withMarker(clearNotify(w.cookiesOf(), isakmp.NotifyConnected))}
			var out []gateway.Delivery
			for i, f := range forged {
				out = append(out, gateway.Delivery{After: time.Duration(i+1) * 4 * time.Second, Datagram: f})
			}
			return out
		})
		d, err := w.waitEnd(s, time.Hour)
		wantError[*NoAnswerError](w.t, err)
		if d != natKeepAlive+dpdTries*dpdInterval {
			w.t.Errorf("ended after %v: forgeries counted", d)
		}
	})
}

// TestNoDPD: a gateway that does not know DPD is not asked. When the network has
// changed, a Quick Mode shows whether it is there.
func TestNoDPD(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.withoutVendor(capDPD)
		w.start()
		s := w.dial()
		s.NetworkChanged()
		time.Sleep(time.Minute)
		w.wantAlive(s)
		if n := len(w.messages(gateway.QM1)); n != 2 {
			w.t.Errorf("%d Quick Modes", n)
		}
		w.setRule(loseFromGateway)
		time.Sleep(5 * time.Minute)
		w.wantAlive(s)
		s.NetworkChanged()
		if d, _ := w.waitEnd(s, time.Hour); d != controlPatience {
			w.t.Errorf("ended after %v", d)
		}
		if _, at := w.notifies(isakmp.NotifyRUThere); len(at) != 0 {
			w.t.Errorf("probes at %v", at)
		}
	})
}

// TestAnswersProbes: each R-U-THERE gets its number back, also one that comes again,
// and a duplicate gets the same answer.
func TestAnswersProbes(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		s := w.dial()
		numbers := [][]byte{be32(7), be32(8), be32(7), be32(1 << 31), be32(0)}
		for i, number := range numbers {
			w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
				n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: slices.Concat(h.CKYI[:], h.CKYR[:]), Type: isakmp.NotifyRUThere, Data: number}
				m := &gateway.Message{Step: "TEST", Header: h}
				m.Add(isakmp.PayloadNotify, n.Append(nil))
				return []*gateway.Message{m}
			})
			synctest.Wait()
			if acks, _ := w.notifies(isakmp.NotifyRUThereAck); len(acks) != i+1 || !bytes.Equal(acks[i].Data, number) {
				w.t.Fatalf("acknowledgements %+v", acks)
			}
		}
		w.wantAlive(s)
		ours := func(d datagram) bool { return byClient(d) && isIKE(d.from, d.to, d.data) }
		before := len(w.sent(ours))
		w.setRule(func(from, _ netip.AddrPort, data []byte) []gateway.Delivery {
			if toClient(from) {
				return []gateway.Delivery{{Datagram: data}, {Datagram: data}, {After: time.Second, Datagram: data}}
			}
			return deliver(data)
		})
		if err := w.gw.Probe(firstVIP); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		sent := w.sent(ours)[before:]
		if len(sent) != 3 || !bytes.Equal(sent[0].data, sent[1].data) || !bytes.Equal(sent[0].data, sent[2].data) {
			w.t.Errorf("%d answers to a probe and its duplicates", len(sent))
		}
	})
}

// TestAckForms: an acknowledgement counts with the number of the probe that is out
// and the cookies of the SA, in either order. A wrong one is still an authentic
// message of the gateway.
func TestAckForms(t *testing.T) {
	probe := isakmp.Notify{Data: be32(5)}
	for _, tt := range []struct {
		name   string
		change func(n *isakmp.Notify)
		counts bool
	}{
		{"right", func(*isakmp.Notify) {}, true},
		{"cookies reversed", func(n *isakmp.Notify) { n.SPI = slices.Concat(n.SPI[8:], n.SPI[:8]) }, true},
		{"older number", func(n *isakmp.Notify) { n.Data = be32(4) }, false},
		{"future number", func(n *isakmp.Notify) { n.Data = be32(6) }, false},
		{"long number", func(n *isakmp.Notify) { n.Data = append(be32(0), be32(5)...) }, false},
		{"other cookies", func(n *isakmp.Notify) { n.SPI[3]++ }, false},
		{"no cookies", func(n *isakmp.Notify) { n.SPI = nil }, false},
	} {
		sa := &isakmpSA{s: new(Session), ckyI: isakmp.Cookie{1}, ckyR: isakmp.Cookie{2}, dpd: dpdState{sequence: 5, tries: 2, urgent: true}}
		n := probe
		n.SPI = sa.cookies()
		tt.change(&n)
		sa.probeAnswered(n)
		if got := sa.dpd.tries == 0 && !sa.dpd.urgent; got != tt.counts {
			t.Errorf("%s: counts %v", tt.name, got)
		}
	}
}

// TestUnanswered: while packets go out and nothing comes back, a dead gateway is
// noticed in seconds.
func TestUnanswered(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		w.exchangePackets(s, received, "hello")
		time.Sleep(10 * time.Second)
		w.setRule(loseFromGateway)
		began := time.Since(w.began)
		send(w.t, s, ipv4(firstVIP, insideHost, "anybody there?"))
		d, err := w.waitEnd(s, time.Hour)
		wantError[*NoAnswerError](w.t, err)
		if d != 4500*time.Millisecond {
			w.t.Errorf("ended after %v", d)
		}
		want := []time.Duration{began + 2*time.Second, began + 3*time.Second, began + 4*time.Second}
		if _, at := w.notifies(isakmp.NotifyRUThere); !slices.Equal(at, want) {
			w.t.Errorf("probes at %v, want %v", at, want)
		}
	})
}

// TestAnswered: traffic that is answered in time causes no probe.
func TestAnswered(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		for range 10 {
			send(w.t, s, ipv4(firstVIP, insideHost, "question"))
			time.Sleep(unansweredAfter - 100*time.Millisecond)
			if err := w.gw.SendPacket(ipv4(insideHost, firstVIP, "answer")); err != nil {
				w.t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if _, at := w.notifies(isakmp.NotifyRUThere); len(at) != 0 {
			w.t.Errorf("probes at %v", at)
		}
		if n := len(w.messages(gateway.QM1)); n != 1 {
			w.t.Errorf("%d Quick Modes", n)
		}
	})
}

// TestOneWayTraffic: a gateway that lives and a host that does not answer are no
// reason to end the session, nor to negotiate all the time.
func TestOneWayTraffic(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		for range 30 * 60 {
			send(w.t, s, ipv4(firstVIP, insideHost, "log line"))
			time.Sleep(time.Second)
		}
		w.wantAlive(s)
		// At first after 3 s, then after 2, 4, 8 and 10 minutes.
		if n := len(w.messages(gateway.QM1)); n < 3 || n > 8 {
			w.t.Errorf("%d Quick Modes in half an hour", n)
		}
		if n := len(s.Stats().Children); n > 2 {
			w.t.Errorf("%d ESP SAs", n)
		}
	})
}

// TestLastPackets: packets that nobody answers, as the last acknowledgements of connections,
// cost one probe. After that an idle session does nothing but what it always does.
func TestLastPackets(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "question")
		for i := range 3 { // each of them alone
			if i > 0 {
				w.talk(s, time.Second, 10*time.Second)
			}
			send(w.t, s, ipv4(firstVIP, insideHost, "acknowledgement"))
			time.Sleep(together / 2)
			send(w.t, s, ipv4(firstVIP, insideHost, "acknowledgement"))
			before, _ := w.notifies(isakmp.NotifyRUThere)
			time.Sleep(natKeepAlive - time.Second)
			after, _ := w.notifies(isakmp.NotifyRUThere)
			if n := len(after) - len(before); n != 1 {
				w.t.Errorf("%d probes", n)
			}
			if d := &s.watchdog; d.armed.Load() || d.unanswered.Load() != 0 {
				w.t.Error("the control loop still looks")
			}
		}
		time.Sleep(30 * time.Minute)
		if n := len(w.messages(gateway.QM1)); n != 1 {
			w.t.Errorf("%d Quick Modes", n)
		}
	})
}

// TestLonelyPackets: when ESP is lost, packets that are far apart are reason enough for a
// new SA. Then, too, the control loop looks only while there are any.
func TestLonelyPackets(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		w.talk(s, time.Second, 10*time.Second)
		child := s.Stats().Children[0]
		w.setRule(func(_, _ netip.AddrPort, data []byte) []gateway.Delivery { // all ESP, and no IKE
			return loseIf(!bytes.HasPrefix(data, make([]byte, nonESPMarkerLen)), data)
		})
		for range 2 {
			send(w.t, s, ipv4(firstVIP, insideHost, "anybody there?"))
			time.Sleep(5 * time.Second)
		}
		if got := s.Stats().Children[0]; got.SPIIn == child.SPIIn {
			w.t.Error("no new ESP SA")
		}
		for range 3 {
			time.Sleep(10 * time.Second)
			if s.watchdog.armed.Load() {
				w.t.Error("the control loop still looks")
			}
			send(w.t, s, ipv4(firstVIP, insideHost, "anybody there?"))
		}
		time.Sleep(10 * time.Second)
		if n := len(w.messages(gateway.QM1)); n != 2 {
			w.t.Errorf("%d Quick Modes in a minute", n)
		}
	})
}

func TestNetworkChanged(t *testing.T) {
	t.Run("gateway lives", func(t *testing.T) {
		inWorlds(t, func(w *world) {
			w.start()
			s := w.dial()
			received := receive(s)
			time.Sleep(5 * time.Second)
			s.NetworkChanged()
			synctest.Wait()
			_, at := w.notifies(isakmp.NotifyRUThere)
			if at5 := []time.Duration{5 * time.Second}; !slices.Equal(at, at5) || !slices.Equal(w.keepalives(), at5) {
				w.t.Errorf("probes at %v, keepalives at %v", at, w.keepalives())
			}
			time.Sleep(natKeepAlive - time.Second)
			w.wantAlive(s)
			if _, at := w.notifies(isakmp.NotifyRUThere); len(at) != 1 {
				w.t.Errorf("probes at %v", at)
			}
			w.exchangePackets(s, received, "hello")
		})
	})
	t.Run("gateway is unreachable", func(t *testing.T) {
		inWorlds(t, func(w *world) {
			w.start()
			s := w.dial()
			receive(s)
			w.setRule(loseAll)
			s.NetworkChanged()
			s.NetworkChanged()
			d, err := w.waitEnd(s, time.Hour)
			wantError[*NoAnswerError](w.t, err)
			if d != 3*time.Second {
				w.t.Errorf("ended after %v", d)
			}
		})
	})
	t.Run("gateway comes back", func(t *testing.T) {
		inWorlds(t, func(w *world) {
			w.start()
			s := w.dial()
			receive(s)
			w.setRule(loseAll)
			s.NetworkChanged()
			time.Sleep(2500 * time.Millisecond)
			w.setRule(nil)
			if err := w.gw.Probe(firstVIP); err != nil { // any authentic message will do
				w.t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.wantAlive(s)
		})
	})
}

// TestKeepalive: after 20 s without own transmission, and never else.
func TestKeepalive(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.withoutVendor(capDPD)
		w.start()
		s := w.dial()
		received := receive(s)
		time.Sleep(70 * time.Second)
		if want := []time.Duration{20 * time.Second, 40 * time.Second, 60 * time.Second}; !slices.Equal(w.keepalives(), want) {
			w.t.Errorf("keepalives at %v", w.keepalives())
		}
		for range 10 {
			time.Sleep(natKeepAlive - time.Second)
			w.exchangePackets(s, received, "busy")
		}
		if n := len(w.keepalives()); n != 4 { // one more before it became busy
			w.t.Errorf("keepalives at %v", w.keepalives())
		}
		time.Sleep(natKeepAlive)
		synctest.Wait()
		if n := len(w.keepalives()); n != 5 {
			w.t.Errorf("keepalives at %v", w.keepalives())
		}
	})
}

// TestKeepaliveAndProbe: a gateway that was heard a moment ago gets keepalives, and a probe in
// place of one only if the next one would be too late for it. No own silence is longer than
// 20 s, none of the gateway's longer than 30 s, however often it sends something by itself.
func TestKeepaliveAndProbe(t *testing.T) {
	for _, every := range []time.Duration{5300, 9700, 15300, 19100, 25700, 29300} {
		every *= time.Millisecond // never at the moment of a keepalive
		t.Run(every.String(), func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.start()
				s := w.dial()
				receive(s)
				synctest.Wait()
				began := len(w.sent(nil))
				ownLast, heardLast := time.Since(w.began), time.Since(w.began)
				for range 10 * time.Minute / every {
					time.Sleep(every)
					if err := w.gw.SendPacket(ipv4(insideHost, firstVIP, "news")); err != nil {
						w.t.Fatal(err)
					}
				}
				w.wantAlive(s)
				for _, d := range w.sent(nil)[began:] {
					if !byClient(d) {
						if silent := d.after - heardLast; silent > dpdIdle {
							w.t.Errorf("after %v: the gateway has been silent for %v", d.after, silent)
						}
						heardLast = d.after
						continue
					}
					if silent := d.after - ownLast; silent != natKeepAlive {
						w.t.Errorf("after %v: silent for %v", d.after, silent)
					}
					ownLast = d.after
					probe := !bytes.Equal(d.data, natKeepalive)
					if silent := d.after - heardLast; probe != (silent >= dpdIdle-natKeepAlive) {
						w.t.Errorf("after %v: the gateway has been silent for %v: a probe %v", d.after, silent, probe)
					}
				}
			})
		})
	}
}

// loseSPIs loses the ESP packets of some SAs.
func loseSPIs(spis ...uint32) gateway.Filter {
	return func(_, _ netip.AddrPort, data []byte) []gateway.Delivery {
		return loseIf(slices.ContainsFunc(spis, func(spi uint32) bool { return bytes.HasPrefix(data, be32(spi)) }), data)
	}
}

// TestLostESP: the gateway has lost the ESP SA and does not say so, but answers
// probes: a new one is negotiated. Where that happens at the same age again, or the
// ISAKMP SA is deleted soon after, phase 1 is from then on renewed before that age.
func TestLostESP(t *testing.T) {
	const age = 300 * time.Second
	for name, deletes := range map[string]bool{"twice": false, "then the ISAKMP SA is deleted": true} {
		t.Run(name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.start()
				s := w.dial()
				received := receive(s)
				lose := func() {
					w.talk(s, time.Second, age)
					child := s.Stats().Children[0]
					w.setRule(loseSPIs(child.SPIIn, child.SPIOut))
					if d := w.flowsWithin(s, received, 10*time.Second); d > 5*time.Second {
						w.t.Errorf("it took %v to build another ESP SA", d)
					}
					w.setRule(nil)
					if got := s.Stats().Children; got[0].SPIIn == child.SPIIn {
						w.t.Errorf("ESP SAs %+v", got)
					}
					w.talk(s, time.Second, 10*time.Second)
				}
				lose()
				if n := len(w.eventsOf(EventReauth)); n != 0 {
					w.t.Fatalf("%d reauthentications after the first loss", n)
				}
				if deletes {
					w.deleteISAKMP()
				} else {
					w.do(s, func() { s.sa.reauthAt = time.Now() }) // an ordinary one
					w.talk(s, time.Second, time.Second)
					lose()
				}
				w.talk(s, time.Second, time.Second)
				want := map[bool]int{true: 1, false: 2}[deletes]
				if n := len(w.eventsOf(EventReauth)); n != want {
					w.t.Fatalf("%d reauthentications, want %d", n, want)
				}
				began := time.Now()
				for range 4 {
					n := len(w.eventsOf(EventReauth))
					for len(w.eventsOf(EventReauth)) == n {
						if w.talk(s, time.Second, 10*time.Second); time.Since(began) > age {
							w.t.Fatal("phase 1 is not renewed earlier than before")
						}
					}
					began = time.Now()
				}
				w.flowsWithin(s, received, 0)
			})
		})
	}
}

// TestSilentAgain: a gateway that falls silent is noticed within seconds also while no
// new ESP SA would be tried, because one has been a moment ago.
func TestSilentAgain(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.talk(s, time.Second, 10*time.Second)
		w.setRule(func(_, _ netip.AddrPort, data []byte) []gateway.Delivery { // all ESP, and no IKE
			return loseIf(!bytes.HasPrefix(data, make([]byte, nonESPMarkerLen)), data)
		})
		w.talk(s, time.Second, 12*time.Second)
		w.setRule(nil)
		w.talk(s, time.Second, 10*time.Second)
		w.setRule(loseFromGateway)
		send(w.t, s, ipv4(firstVIP, insideHost, "anybody there?"))
		if d, err := w.waitEnd(s, time.Hour); d > deadAfter+unansweredAfter {
			w.t.Errorf("noticed after %v: %v", d, err)
		}
	})
}

// TestSlowHost: a host that answers late is no sign of a lost ESP SA, although a new
// one was negotiated meanwhile.
func TestSlowHost(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		w.talk(s, time.Second, 2*time.Minute)
		for range 20 {
			send(w.t, s, ipv4(firstVIP, insideHost, "wake up"))
			time.Sleep(time.Second)
		}
		if n := len(w.messages(gateway.QM1)); n != 2 {
			w.t.Fatalf("%d Quick Modes", n)
		}
		w.exchangePackets(s, received, "awake")
		w.talk(s, time.Second, time.Hour)
		if n := len(w.eventsOf(EventReauth)); n != 0 {
			w.t.Errorf("%d reauthentications", n)
		}
	})
}

// TestNATRebinds: the gateway finds us again by our next authentic packet.
func TestNATRebinds(t *testing.T) {
	for _, idle := range []bool{false, true} {
		t.Run(fmt.Sprint("idle ", idle), func(t *testing.T) {
			inWorlds(t, func(w *world) {
				nat := w.net.AddNAT(netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("203.0.113.9"))
				w.start()
				s := w.dial()
				received := receive(s)
				w.exchangePackets(s, received, "before")
				at := w.gw.Clients()[0].Peer
				nat.Rebind()
				if idle {
					time.Sleep(dpdIdle + time.Second)
					if err := w.gw.SendPacket(ipv4(insideHost, firstVIP, "in by itself")); err != nil {
						w.t.Fatal(err)
					}
					synctest.Wait()
					if !containsPacket(received(), ipv4(insideHost, firstVIP, "in by itself")) {
						w.t.Error("the client is not found by its probe")
					}
				}
				w.exchangePackets(s, received, "after")
				if now := w.gw.Clients()[0].Peer; now == at {
					w.t.Error("the NAT gave the same port again")
				}
			})
		})
	}
}
