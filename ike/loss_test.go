package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// fault is what happens to one datagram.
type fault struct {
	name string
	do   func(data []byte) []gateway.Delivery
}

var faults = []fault{
	{"lost", func([]byte) []gateway.Delivery { return nil }},
	{"doubled", func(d []byte) []gateway.Delivery { return []gateway.Delivery{{Datagram: d}, {Datagram: d}} }},
	{"doubled later", func(d []byte) []gateway.Delivery {
		return []gateway.Delivery{{Datagram: d}, {After: 5 * time.Second, Datagram: d}}
	}},
	{"delayed", func(d []byte) []gateway.Delivery { return []gateway.Delivery{{After: 3 * time.Second, Datagram: d}} }},
}

// hit lets a fault happen to datagram number n on the wire, counted from 0.
func (w *world) hit(n int, f fault) {
	count := 0
	w.setRule(func(_, _ netip.AddrPort, data []byte) []gateway.Delivery {
		w.mu.Lock()
		defer w.mu.Unlock()
		if count++; count == n+1 {
			return f.do(data)
		}
		return deliver(data)
	})
}

// flowsWithin sends packets both ways every half second, and says how long it took
// until both arrived.
func (w *world) flowsWithin(s *Session, received func() [][]byte, most time.Duration) time.Duration {
	w.t.Helper()
	began := time.Now()
	var outs, ins [][]byte
	anyOf := func(want [][]byte, have func([]byte) bool) bool { return slices.ContainsFunc(want, have) }
	for i := 0; time.Since(began) <= most; i++ {
		out, in := ipv4(firstVIP, insideHost, fmt.Sprint("out ", i)), ipv4(insideHost, firstVIP, fmt.Sprint("in ", i))
		outs, ins = append(outs, out), append(ins, in)
		send(w.t, s, out)
		if err := w.gw.SendPacket(in); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		if anyOf(outs, w.gatewayHas) && anyOf(ins, func(p []byte) bool { return containsPacket(received(), p) }) {
			return time.Since(began)
		}
		time.Sleep(500 * time.Millisecond)
	}
	w.t.Fatalf("no packets flow within %v\n%s", most, w.logText())
	return 0
}

// ikeBetween counts the IKE datagrams of a span of time.
func (w *world) ikeBetween(from, to time.Duration) int {
	return len(w.sent(func(d datagram) bool { return isIKE(d.from, d.to, d.data) && d.after > from && d.after <= to }))
}

// oneContent fails if the client sent two different messages in the place of one:
// duplicates are answered byte for byte.
func (w *world) oneContent() {
	w.t.Helper()
	type place struct {
		cookie   isakmp.Cookie
		exchange isakmp.ExchangeType
		mid      uint32
		size     uint32
	}
	seen := make(map[place]string)
	for _, d := range w.sent(byClient) {
		h, ok := ikeHeader(d.from, d.to, d.data)
		if !ok || h.Exchange == isakmp.Informational || h.NextPayload == isakmp.PayloadFragment {
			continue
		}
		p := place{h.CKYI, h.Exchange, h.MessageID, h.Length}
		if old, ok := seen[p]; ok && old != string(d.data) {
			w.t.Errorf("%v %08x was sent with two contents", h.Exchange, h.MessageID)
		}
		seen[p] = string(d.data)
	}
}

// TestEachDatagram: whatever happens to any one datagram, in either direction, the
// client connects, answers once, and both sides fall silent afterwards.
func TestEachDatagram(t *testing.T) {
	for _, exchange := range bothExchanges {
		total := 0
		inWorld(t, func(w *world) {
			w.client.Exchange = exchange
			w.gateway.FragmentSize = -1
			w.start()
			w.dial()
			synctest.Wait()
			total = len(w.sent(nil))
		})
		for _, f := range faults {
			for n := range total {
				t.Run(fmt.Sprintf("%s %d %s", exchange, n, f.name), func(t *testing.T) {
					inWorld(t, func(w *world) {
						w.client.Exchange = exchange
						w.gateway.FragmentSize = -1
						w.hit(n, f)
						w.start()
						s := w.dial()
						if d := time.Since(w.began); d > 4*time.Second {
							t.Errorf("connecting took %v", d)
						}
						received := receive(s)
						w.flowsWithin(s, received, 8*time.Second)
						w.theReply()
						w.oneContent()
						w.wantQuiet(s, received)
					})
				})
			}
		}
	}
}

// wantQuiet: once all is done, nothing is said until DPD, and nothing but DPD then.
func (w *world) wantQuiet(s *Session, received func() [][]byte) {
	w.t.Helper()
	time.Sleep(15 * time.Second)
	w.exchangePackets(s, received, "done")
	from := time.Since(w.began)
	time.Sleep(2*natKeepAlive - time.Second)
	if n := w.ikeBetween(from, from+natKeepAlive-time.Second); n != 0 {
		w.t.Errorf("%d IKE messages while nothing happens\n%s", n, w.logText())
	}
	if n := w.ikeBetween(from, from+2*natKeepAlive-time.Second); n != 2 {
		w.t.Errorf("%d IKE messages for a probe and its answer\n%s", n, w.logText())
	}
	if n := w.ikeBetween(-1, from); n > 40 {
		w.t.Errorf("%d IKE messages for one connection", n)
	}
}

// TestSchedule: a request is repeated byte for byte, at growing and jittered
// intervals, six times in all, and given up after a minute.
func TestSchedule(t *testing.T) {
	silence := func(*gateway.Message) []*gateway.Message { return nil }
	for _, tt := range []struct {
		step     gateway.Step // from which on the gateway is silent
		exchange Exchange
	}{
		{gateway.MM2, ExchangeMain},
		{gateway.MM4, ExchangeMain},
		{gateway.MM6, ExchangeMain},
		{gateway.AM2, ExchangeAggressive},
		{gateway.ConfigReply, ExchangeMain},
		{gateway.QM2, ExchangeMain},
	} {
		t.Run(string(tt.step), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = tt.exchange
				w.hook(tt.step, silence)
				w.start()
				_, err := w.tryDial()
				wantError[*NoAnswerError](w.t, err)
				if d := time.Since(w.began); d != time.Minute {
					t.Errorf("gave up after %v", d)
				}
				var last []datagram
				for _, d := range w.sent(func(d datagram) bool { return byClient(d) && isIKE(d.from, d.to, d.data) }) {
					switch h, _ := ikeHeader(d.from, d.to, d.data); {
					case h.Exchange == isakmp.Informational: // the farewell
					case len(last) > 0 && slices.Equal(last[0].data, d.data):
						last = append(last, d)
					default:
						last = []datagram{d}
					}
				}
				checkSchedule(t, last)
			})
		})
	}
}

func checkSchedule(t *testing.T, ds []datagram) {
	t.Helper()
	if len(ds) != 6 {
		t.Fatalf("sent %d times", len(ds))
	}
	want := 2 * time.Second
	jitter := false
	for i, d := range ds[1:] {
		got := d.after - ds[i].after
		if got < want || got > want+want/10 {
			t.Errorf("interval %d is %v, want %v and a tenth at most", i, got, want)
		}
		jitter = jitter || got != want
		want = want * 16 / 10
	}
	if !jitter {
		t.Error("the intervals are not jittered")
	}
}

// TestAnswersAreNotRepeated by a timer: REPLY, ACK, AM3 and QM3 go out once, and
// again only when what they answer comes again.
func TestAnswersAreNotRepeated(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		w.dial()
		synctest.Wait()
		before := len(w.sent(nil))
		w.setRule(loseAll)
		time.Sleep(15 * time.Second)
		if n := len(w.sent(nil)) - before; n != 0 {
			w.t.Errorf("%d datagrams were repeated", n)
		}
	})
}

// TestManyLosses: every fourth, fifth or seventh datagram is lost.
func TestManyLosses(t *testing.T) {
	for start := range 3 {
		for _, period := range []int{4, 5, 7} {
			inBoth(t, func(w *world) {
				w.gateway.FragmentSize = -1
				count := start
				w.setRule(func(_, _ netip.AddrPort, data []byte) []gateway.Delivery {
					w.mu.Lock()
					defer w.mu.Unlock()
					count++
					return loseIf(count%period == 0, data)
				})
				w.start()
				s := w.dial()
				w.setRule(nil)
				w.flowsWithin(s, receive(s), 8*time.Second)
				w.theReply()
				w.oneContent()
			})
		}
	}
}
