package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// pairFaults are what happens to datagrams in pairs. Overtaken ones come behind those
// sent at the same time, late ones behind their repetition.
var pairFaults = []fault{
	{"lost", func([]byte) []gateway.Delivery { return nil }},
	{"doubled", func(d []byte) []gateway.Delivery { return []gateway.Delivery{{Datagram: d}, {Datagram: d}} }},
	{"overtaken", func(d []byte) []gateway.Delivery {
		return []gateway.Delivery{{After: 10 * time.Millisecond, Datagram: d}}
	}},
	{"late", func(d []byte) []gateway.Delivery { return []gateway.Delivery{{After: 3 * time.Second, Datagram: d}} }},
}

const (
	// worstPair is what two faults may cost: STATUS is lost and comes again after 2 s,
	// its ACK is late, and the REQUEST for settings that went out with it, which the
	// gateway does not take before, is repeated after 2 s and 3.2 s, each time at most
	// a tenth later.
	worstPair = 7800 * time.Millisecond
	// worstSingle is one repetition.
	worstSingle = 2300 * time.Millisecond
	// pairStride is the step from pair to pair where not all of them are tried.
	pairStride = 67
)

// hitBoth lets a fault happen to datagram i, and another to datagram j.
func (w *world) hitBoth(i int, first fault, j int, second fault) {
	count := -1
	w.setRule(func(_, _ netip.AddrPort, data []byte) []gateway.Delivery {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch count++; count {
		case i:
			return first.do(data)
		case j:
			return second.do(data)
		}
		return deliver(data)
	})
}

// TestPairsOfFaults: whatever happens to any two datagrams, in either direction and in
// every mode, the client connects within the time that the schedules of both sides
// allow; packets flow, and nothing was said in two ways.
func TestPairsOfFaults(t *testing.T) {
	for _, mode := range flipModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			total := 0
			inWorld(t, func(w *world) {
				mode.setup(w)
				w.start()
				w.dial()
				synctest.Wait()
				total = len(w.sent(nil))
			})
			stride := pairStride
			if exhaustive() {
				stride = 1
			}
			n, tried := 0, 0
			for i := range total {
				for j := i; j < total; j++ { // i twice: a single fault
					for a, first := range pairFaults {
						for b, second := range pairFaults {
							if i == j && a != b {
								continue
							}
							if n++; n%stride != 0 {
								continue
							}
							tried++
							name := fmt.Sprintf("datagram %d %s, %d %s", i, first.name, j, second.name)
							inWorld(t, func(w *world) {
								mode.setup(w)
								w.hitBoth(i, first, j, second)
								w.copesWith(name, i == j)
							})
						}
					}
				}
			}
			t.Logf("%d of %d pairs of %d datagrams", tried, n, total)
		})
	}
}

// copesWith connects in spite of the faults that were set.
func (w *world) copesWith(faults string, single bool) {
	w.t.Helper()
	w.start()
	s, err := w.tryDial()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", faults, err, w.logText())
	}
	most := worstPair
	if single {
		most = worstSingle
	}
	if d := time.Since(w.began); d > most {
		w.t.Errorf("%s: connecting took %v\n%s", faults, d, w.logText())
	}
	w.flowsWithin(s, receive(s), worstPair)
	w.oneContent()
	if n := len(w.configs(gateway.XAuthReply)); n > 1 || (n == 1) != s.method.xauth {
		w.t.Errorf("%s: %d XAUTH replies", faults, n)
	}
}

// TestRequestFollowsAnswer: a gateway that repeats STATUS has passed over the REQUEST
// for settings too, so that goes out again behind the ACK, out of its turn.
func TestRequestFollowsAnswer(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeMain
		var ack []byte
		seen, lost := 0, 0
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			h, ok := ikeHeader(from, to, data)
			if toClient(from) || !ok || h.Exchange != isakmp.Transaction {
				return deliver(data)
			}
			if seen++; seen == 2 { // behind the REPLY
				ack = bytes.Clone(data)
			}
			if bytes.Equal(data, ack) && lost < 2 {
				lost++
				return nil
			}
			return deliver(data)
		})
		w.start()
		s := w.dial()
		if d := time.Since(w.began); d != 5600*time.Millisecond { // 2 s and 3.6 s are the gateway's
			t.Errorf("connecting took %v", d)
		}
		w.exchangePackets(s, receive(s), "hello")
	})
}
