package ike

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// fragments counts the fragments of each side.
func (w *world) fragments() (ours, theirs int) {
	for _, d := range w.sent(nil) {
		if h, ok := ikeHeader(d.from, d.to, d.data); ok && h.NextPayload == isakmp.PayloadFragment {
			if byClient(d) {
				ours++
			} else {
				theirs++
			}
		}
	}
	return ours, theirs
}

// inFragments makes both sides fragment whatever they can.
func (w *world) inFragments() {
	w.gateway.FragmentSize = 300
	w.prepare = func(s *Session) { s.fragmentAbove = 100 }
	w.gateway.Settings.Banner = strings.Repeat("Welcome. ", 100)
	w.client.Login = strings.Repeat("long", 200) // a REPLY of several fragments
	w.gateway.Users[w.client.Login] = testPassword
	w.client.LocalID = &Identity{Type: isakmp.IDKeyID, Data: []byte(strings.Repeat("group", 160))}
}

// TestFragments: long messages are cut and put together in both directions, in every
// exchange.
func TestFragments(t *testing.T) {
	for name, setup := range map[string]func(*world){
		"gateway": func(w *world) { w.gateway.FragmentSize = 300 },
		"us":      func(w *world) { w.prepare = func(s *Session) { s.fragmentAbove = 100 } },
		"both":    (*world).inFragments,
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.gateway.Settings.Banner = strings.Repeat("Welcome. ", 150)
				setup(w)
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				if got := s.Assignment().Banner; got != strings.TrimSpace(w.gateway.Settings.Banner) {
					w.t.Errorf("banner of %d bytes", len(got))
				}
				ours, theirs := w.fragments()
				if (ours > 0) != (name != "gateway") || theirs == 0 { // the banner is long in any case
					w.t.Errorf("%d fragments of ours, %d of the gateway", ours, theirs)
				}
				w.rekey(s)
				w.renew(s)
				time.Sleep(2 * time.Second)
				if n := s.Stats().Rekeys; n != 1 {
					w.t.Errorf("%d reauthentications", n)
				}
			})
		})
	}
}

// TestNoFragments to a gateway that has not said that it knows them.
func TestNoFragments(t *testing.T) {
	inBoth(t, func(w *world) {
		w.inFragments()
		w.gateway.FragmentSize = -1
		w.start()
		s := w.dial()
		if ours, theirs := w.fragments(); ours+theirs != 0 || s.Stats().Fragmentation {
			w.t.Errorf("%d fragments of ours, %d of the gateway", ours, theirs)
		}
	})
}

// TestEachFragment: whatever happens to any one datagram, of which most are
// fragments.
func TestEachFragment(t *testing.T) {
	reorder := fault{"overtaken", func(d []byte) []gateway.Delivery { return []gateway.Delivery{{After: time.Millisecond, Datagram: d}} }}
	for _, exchange := range bothExchanges {
		total := 0
		inWorld(t, func(w *world) {
			w.client.Exchange = exchange
			w.inFragments()
			w.start()
			w.dial()
			total = len(w.sent(nil))
		})
		for _, f := range append(faults, reorder) {
			for n := range total {
				t.Run(fmt.Sprintf("%s %d %s", exchange, n, f.name), func(t *testing.T) {
					inWorld(t, func(w *world) {
						w.client.Exchange = exchange
						w.inFragments()
						w.hit(n, f)
						w.start()
						s := w.dial()
						// A late fragment spoils the next message, whose ID is 1 as well.
						if d := time.Since(w.began); d > 10*time.Second {
							t.Errorf("connecting took %v", d)
						}
						w.flowsWithin(s, receive(s), 8*time.Second)
						w.theReply()
					})
				})
			}
		}
	}
}

// TestPoisonedFragments: fragments are not authenticated. A forged one spoils its
// message, and the repetition heals that.
func TestPoisonedFragments(t *testing.T) {
	forgeries := map[string]isakmp.Fragment{
		"first":       {ID: 1, Number: 1, Data: []byte("forged")},
		"second":      {ID: 1, Number: 2, Data: []byte("forged")},
		"last":        {ID: 1, Number: 2, Last: true, Data: []byte("forged")},
		"only":        {ID: 1, Number: 1, Last: true, Data: []byte("forged")},
		"high number": {ID: 1, Number: 255, Data: []byte("forged")},
		"thirtieth":   {ID: 1, Number: 30, Last: true, Data: make([]byte, 1200)},
	}
	for name, f := range forgeries {
		t.Run(name, func(t *testing.T) {
			for n := range 8 {
				inBoth(t, func(w *world) {
					w.gateway.FragmentSize = 300
					w.forgeBefore(n, func(h isakmp.Header, _ []byte) [][]byte {
						h.Flags, h.MessageID = 0, 0
						return [][]byte{isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadFragment, Body: f.Append(nil)})}
					})
					w.start()
					s := w.dial()
					if d := time.Since(w.began); d > fragmentLifetime {
						w.t.Errorf("message %d: connecting took %v", n, d)
					}
					w.flowsWithin(s, receive(s), 8*time.Second)
				})
			}
		})
	}
}
