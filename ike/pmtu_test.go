package ike

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// sendBurst sends inner packets of some lengths at once.
func (w *world) sendBurst(s *Session, lengths ...int) (packets [][]byte) {
	w.t.Helper()
	for i, n := range lengths {
		packets = append(packets, ipv4(s.Assignment().Addresses[0].Addr(), insideHost, string(bytes.Repeat([]byte{byte(i)}, n-28))))
		if err := s.WritePacket(withTail(packets[i])); err != nil {
			w.t.Fatal(err)
		}
	}
	s.Flush()
	synctest.Wait()
	return packets
}

// rounded is the size of the largest probe of at most size bytes: IP, UDP, the non-ESP
// marker and the ISAKMP header make 60, and whole blocks of AES follow.
func rounded(size int) int { return size - (size-60)%16 }

// TestPathSearch: for every path, the search ends at the largest of the common sizes
// that it carries, after few probes.
func TestPathSearch(t *testing.T) {
	for _, start := range []int{1400, 1500, 1300, 1276, 576} {
		for path := 572; path <= 1600; path++ {
			p := pathSearch{round: rounded, start: start, least: leastPath}
			probes, failed := 0, 0
			for size := p.next(); size != 0; size = p.next() {
				if probes++; size > path {
					p.high = size
					failed++
				} else {
					p.low = size
				}
				if probes > 20 {
					t.Fatalf("path %d: %+v goes on", path, p)
				}
			}
			best := 0
			for _, size := range pathSizes {
				if size = rounded(size); size <= path {
					best = max(best, size)
				}
			}
			if p.low < best || p.low > path {
				t.Errorf("path %d, start %d: found %d, want %d", path, start, p.low, best)
			}
			if probes > 8 || failed > 5 {
				t.Errorf("path %d, start %d: %d probes, %d of them in vain", path, start, probes, failed)
			}
		}
	}
	p := pathSearch{round: rounded, start: 1400, least: leastPath}
	var tried []int
	for size := p.next(); size != 0; size = p.next() {
		tried, p.high = append(tried, size), size
	}
	if want := []int{1388, 1276, 572}; !slices.Equal(tried, want) {
		t.Errorf("without an answer %v are tried, want %v", tried, want)
	}
}

// TestPathMTU: the engine finds out what the path carries, without delay for the
// connection, and no ESP packet is fragmented before, meanwhile or afterwards.
func TestPathMTU(t *testing.T) {
	for _, tt := range []struct {
		path, size, mtu int
		within          time.Duration // until packets pass
	}{
		{1500, 1500, 1438, 0},
		{1492, 1484, 1422, 15 * time.Second},
		{1400, 1388, 1326, 15 * time.Second},
		{1399, 1388, 1326, 15 * time.Second},
		{1280, 1276, 1214, pathInterval + 2*time.Second},
		{1000, 764, 702, pathInterval + 4*time.Second},
		{576, 572, 510, pathInterval + 4*time.Second},
	} {
		inWorlds(t, func(w *world) {
			w.client.ESP = suites(w.t, ParseESPSuite, "aes256gcm16")
			conn := w.overPath(tt.path)
			w.start()
			var s *Session
			if d := elapsed(func() { s = w.dial() }); d != 0 {
				w.t.Errorf("%d: connected after %v", tt.path, d)
			}
			for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
				synctest.Wait()
				mtu := s.MTU()
				if tt.path >= 1400 && mtu < 1300 {
					w.t.Fatalf("%d: MTU %d meanwhile", tt.path, mtu)
				}
				conn.forget()
				w.sendBurst(s, mtu, mtu, mtu, mtu/2)
				if _, fragmented, _ := conn.noted(); len(fragmented) > 0 {
					w.t.Fatalf("%d: fragments of %v", tt.path, fragmented)
				}
				if largest, _, _ := conn.noted(); largest > mtu && time.Since(begin) >= tt.within {
					break
				}
				if time.Since(begin) > tt.within {
					w.t.Fatalf("%d: packets are lost for %v", tt.path, time.Since(begin))
				}
			}
			time.Sleep(20 * time.Second)
			if mtu, size := s.MTU(), s.path.size(); mtu != tt.mtu || size != tt.size {
				w.t.Errorf("%d: MTU %d, path %d; want %d, %d", tt.path, mtu, size, tt.mtu, tt.size)
			}
			if n := len(w.eventsOf(EventMTU)); n == 0 || n > 4 {
				w.t.Errorf("%d: told %d times", tt.path, n)
			}
			conn.forget()
			for i, p := range w.sendBurst(s, tt.mtu, tt.mtu, tt.mtu/2, tt.mtu, tt.mtu) {
				if !w.gatewayHas(p) {
					w.t.Errorf("%d: packet %d of %d bytes is lost", tt.path, i, len(p))
				}
			}
			if _, fragmented, all := conn.noted(); len(fragmented) > 0 || slices.Max(all) > tt.path {
				w.t.Errorf("%d: datagrams of %v, fragments of %v", tt.path, all, fragmented)
			}
			w.exchangePackets(s, receive(s), "after")
		})
	}
}

// TestProbesDoNotOvertake: a path may reorder datagrams, so the first probe stays well
// behind the last Quick Mode message; after a change of the network nothing is waited for.
func TestProbesDoNotOvertake(t *testing.T) {
	inWorlds(t, func(w *world) {
		conn := w.overPath(1500)
		w.start()
		s := w.dial()
		conn.forget()
		time.Sleep(pathInterval - time.Millisecond)
		if _, _, all := conn.noted(); len(all) != 0 {
			w.t.Errorf("datagrams of %v follow Quick Mode", all)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if _, _, all := conn.noted(); len(all) == 0 || slices.Max(all) < 1300 {
			w.t.Errorf("no probe: %v", all)
		}
		time.Sleep(time.Minute)
		conn.forget()
		s.NetworkChanged()
		synctest.Wait()
		if _, _, all := conn.noted(); len(all) == 0 || slices.Max(all) < 1300 {
			w.t.Errorf("no probe of the other network: %v", all)
		}
	})
}

// TestMTUWithoutESP: while the gateway has deleted the ESP SA, packets are not thought to
// need no room for ESP.
func TestMTUWithoutESP(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.overPath(1500)
		var told []string
		w.client.Event = func(e Event) {
			if e.Kind == EventMTU {
				told = append(told, e.Text)
			}
		}
		w.gateway.Quirks.DeleteAtOnce = true
		w.start()
		s := w.dial()
		for s.Err() == nil {
			if mtu := s.MTU(); mtu != maxInnerMTU && mtu != 1438 {
				w.t.Errorf("MTU %d", mtu)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if !slices.Equal(told, []string{"1438"}) {
			w.t.Errorf("told: %s", told)
		}
	})
}

// TestPathMTUOfSuites: what is found is used to the last block.
func TestPathMTUOfSuites(t *testing.T) {
	for suite, mtu := range map[string]int{"aes256-sha1": 1422, "aes256-sha512": 1406, "3des-sha1": 1438, "aes128gcm16": 1438} {
		inWorlds(t, func(w *world) {
			w.client.ESP, w.client.AllowWeak = suites(w.t, ParseESPSuite, suite), Weak3DES
			conn := w.overPath(1500)
			w.start()
			s := w.dial()
			time.Sleep(pathInterval + time.Second)
			conn.forget()
			send(w.t, s, ipv4(firstVIP, insideHost, string(make([]byte, s.MTU()-28))))
			if largest, _, all := conn.noted(); s.MTU() != mtu || len(all) != 1 || largest <= 1500-16 {
				w.t.Errorf("%s: MTU %d, %v on the wire", suite, s.MTU(), all)
			}
		})
	}
}

// TestPathLosesProbes: of each size the first probe is lost, or its answer; that costs
// time and nothing else.
func TestPathLosesProbes(t *testing.T) {
	for _, answers := range []bool{false, true} {
		inWorlds(t, func(w *world) {
			w.overPath(1420)
			w.start()
			s := w.dial()
			n := 0
			w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
				h, ok := ikeHeader(from, to, data)
				if !ok || h.Exchange != isakmp.Informational || toClient(from) != answers || !answers && len(data) < 300 {
					return deliver(data)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				n++
				return loseIf(n%2 == 1, data)
			})
			s.NetworkChanged()
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if size := s.path.size(); size != rounded(1420) || n < 4 {
				w.t.Errorf("answers are lost: %v; path %d after %d of them", answers, size, n)
			}
		})
	}
}

// TestSlowPath: an answer to a probe of a smaller size, which comes late, is none to the
// one that is out.
func TestSlowPath(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.overPath(1420)
		w.start()
		w.setRule(func(from, _ netip.AddrPort, data []byte) []gateway.Delivery {
			if toClient(from) {
				return []gateway.Delivery{{After: 1200 * time.Millisecond, Datagram: data}}
			}
			return deliver(data)
		})
		s := w.dial()
		for range 40 {
			time.Sleep(time.Second)
			if size := s.path.size(); size > 1420 {
				w.t.Fatalf("path %d", size)
			}
		}
		if size := s.path.size(); size != 1420 {
			w.t.Errorf("path %d", size)
		}
	})
}

// TestPathWithoutProbes: where nothing can be proved, the safe assumption stands, and
// routers may fragment what is too large for them.
func TestPathWithoutProbes(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"no DPD": func(w *world) { w.withoutVendor(capDPD) },
		"no answer to probes": func(w *world) {
			w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
				h, ok := ikeHeader(from, to, data)
				return loseIf(ok && !toClient(from) && h.Exchange == isakmp.Informational && len(data) > 300, data)
			})
		},
	} {
		inWorlds(t, func(w *world) {
			conn := w.overPath(1200)
			prepare(w)
			w.start()
			s := w.dial()
			time.Sleep(15 * time.Second)
			conn.forget()
			w.exchangePackets(s, receive(s), string(make([]byte, 1200)))
			if largest, fragmented, _ := conn.noted(); s.MTU() != 1300 || conn.whole || len(fragmented) != 1 || largest > 1200 {
				w.t.Errorf("%s: MTU %d, fragmented %v", name, s.MTU(), fragmented)
			}
			conn.forget()
			for i, p := range w.sendBurst(s, 1200, 1200, 1200, 600) {
				if !w.gatewayHas(p) {
					w.t.Errorf("%s: packet %d is lost", name, i)
				}
			}
			if _, fragmented, all := conn.noted(); len(fragmented) != 3 || len(all) != 4 {
				w.t.Errorf("%s: of datagrams of %v, fragmented %v", name, all, fragmented)
			}
			if n := len(w.eventsOf(EventMTU)); n != 0 {
				w.t.Errorf("%s: told %d times", name, n)
			}
			w.wantAlive(s)
		})
	}
}

// TestPathOfAnotherNetwork: a change of the network has the path looked at again; the
// size follows, down at once and up.
func TestPathOfAnotherNetwork(t *testing.T) {
	inWorlds(t, func(w *world) {
		conn := w.overPath(1500)
		w.start()
		s := w.dial()
		time.Sleep(time.Second)
		for _, tt := range []struct {
			path, size int
			after      time.Duration
		}{{1280, 1276, 3 * time.Second}, {576, 572, 3 * time.Second}, {1500, 1500, time.Second}, {1400, 1388, 15 * time.Second}} {
			conn.set(tt.path)
			s.NetworkChanged()
			time.Sleep(tt.after)
			if size := s.path.size(); size != tt.size {
				w.t.Errorf("%d: %d after %v", tt.path, size, tt.after)
			}
			time.Sleep(time.Minute)
		}
		w.wantAlive(s)
	})
}

// TestPathShrinks: packets that get lost from some moment on are reason enough.
func TestPathShrinks(t *testing.T) {
	inWorlds(t, func(w *world) {
		conn := w.overPath(1500)
		w.start()
		s := w.dial()
		receive(s)
		time.Sleep(time.Minute)
		conn.set(1280)
		for range 50 { // five seconds
			w.sendBurst(s, 1300, 1300, 1300)
			time.Sleep(100 * time.Millisecond)
		}
		if size := s.path.size(); size != 1276 {
			w.t.Errorf("path %d", size)
		}
		w.wantAlive(s)
	})
}

// TestPathGrows: a finding below the most is doubted after 10 minutes, not earlier.
func TestPathGrows(t *testing.T) {
	inWorlds(t, func(w *world) {
		conn := w.overPath(1280)
		w.start()
		s := w.dial()
		receive(s)
		time.Sleep(time.Minute)
		conn.set(1500)
		conn.forget()
		time.Sleep(8 * time.Minute)
		if _, _, all := conn.noted(); slices.Max(all) > 200 {
			w.t.Errorf("probes of %v", all)
		}
		time.Sleep(2 * time.Minute)
		if size := s.path.size(); size != 1500 {
			w.t.Errorf("path %d", size)
		}
		conn.forget()
		time.Sleep(time.Hour)
		_, _, all := conn.noted()
		if large := slices.DeleteFunc(all, func(size int) bool { return size <= 500 }); !slices.Equal(large, slices.Repeat([]int{1500}, 6)) {
			w.t.Errorf("probes of %v in an hour in which the largest size passes", large)
		}
	})
}

// TestPathShrinksQuietly: a path that is smaller than it was and still takes small packets
// is noticed.
func TestPathShrinksQuietly(t *testing.T) {
	inWorlds(t, func(w *world) {
		conn := w.overPath(1500)
		w.start()
		s := w.dial()
		got := receive(s)
		time.Sleep(time.Minute)
		conn.set(1280)
		for began := time.Now(); time.Since(began) < pathRenew; time.Sleep(time.Second) {
			w.exchangePackets(s, got, "small")
		}
		if size := s.path.size(); size != 1276 {
			w.t.Errorf("path %d", size)
		}
		w.wantAlive(s)
	})
}

// TestPathDropsAProbe: one lost check of the present size changes nothing.
func TestPathDropsAProbe(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.overPath(1500)
		w.start()
		s := w.dial()
		receive(s)
		time.Sleep(time.Minute)
		lost := 0
		w.setRule(func(from, _ netip.AddrPort, data []byte) []gateway.Delivery {
			w.mu.Lock()
			defer w.mu.Unlock()
			if !toClient(from) && len(data) > 1400 {
				lost++
			}
			return loseIf(!toClient(from) && len(data) > 1400 && lost == 1, data)
		})
		time.Sleep(pathRenew)
		if size := s.path.size(); size != 1500 || lost != 2 {
			w.t.Errorf("path %d after %d probes", size, lost)
		}
	})
}

// TestRouterReports: a router's report has the path looked at again. It proves nothing:
// a false one costs a few probes, and a flood of them no more.
func TestRouterReports(t *testing.T) {
	inWorlds(t, func(w *world) {
		conn := w.overPath(1500)
		w.start()
		s := w.dial()
		receive(s)
		time.Sleep(time.Minute)
		conn.set(1340)
		conn.silent = false
		w.sendBurst(s, 1400, 1400, 1400)
		time.Sleep(3 * time.Second) // the report is tried first, and then what was before
		if size := s.path.size(); size != rounded(1340) {
			w.t.Errorf("a true report: path %d", size)
		}
		time.Sleep(time.Minute)

		conn.set(1500)
		s.NetworkChanged()
		time.Sleep(time.Minute)
		told := len(w.eventsOf(EventMTU))
		conn.forget()
		for range 600 {
			for _, mtu := range []int{0, 68, 576, 1000, 1499} {
				conn.tooBig(gatewayAddr, mtu)
			}
			time.Sleep(time.Second)
			if size := s.path.size(); size != 1500 {
				w.t.Fatalf("false reports: path %d", size)
			}
		}
		_, _, all := conn.noted()
		probes := len(slices.DeleteFunc(all, func(size int) bool { return size < 500 }))
		if probes == 0 || probes > 63 { // three each half minute
			w.t.Errorf("%d probes in 10 minutes", probes)
		}
		if n := len(w.eventsOf(EventMTU)); n != told {
			w.t.Errorf("told %d times", n-told)
		}

		time.Sleep(time.Minute)
		conn.forget()
		w.do(s, func() { // while the control loop does not look
			for _, mtu := range []int{1400, 1300, 1499} {
				conn.tooBig(gatewayAddr, mtu)
			}
			if hint := s.path.hint.Swap(0); hint != 1300 {
				w.t.Errorf("of reports of 1400, 1300 and 1499 %d is heeded", hint)
			}
		})
		conn.tooBig(insideHost, 600)
		conn.tooBig(gatewayAddr, 1500)
		time.Sleep(time.Minute)
		if _, _, all := conn.noted(); slices.Max(all) > 200 {
			w.t.Errorf("reports that are no news: %v", all)
		}
	})
}

// TestSmallLink: a link of our own that carries less is noticed by sending.
func TestSmallLink(t *testing.T) {
	inWorlds(t, func(w *world) {
		conn := w.overPath(1500)
		w.start()
		s := w.dial()
		receive(s)
		time.Sleep(time.Minute)
		conn.mu.Lock()
		conn.link = 1300
		conn.mu.Unlock()
		// Of the run that begins with what is too large nothing may go; the next one has to.
		if packets := w.sendBurst(s, 1400, 1400, 200, 300); !w.gatewayHas(packets[3]) {
			w.t.Error("what the link takes is lost")
		}
		time.Sleep(time.Second) // nothing needs to be waited for
		if size := s.path.size(); size != 1276 {
			w.t.Errorf("path %d", size)
		}
	})
}

// TestLargeMessages: IKE messages may be fragmented if they are large, small ones and
// ESP may not; ESP only where an inner packet cannot be made smaller.
func TestLargeMessages(t *testing.T) {
	inWorlds(t, func(w *world) {
		conn := w.overPath(1280)
		w.start()
		s := w.dial()
		time.Sleep(20 * time.Second)
		for _, size := range []int{100, 576 - 28} {
			conn.forget()
			s.transport.send(make([]byte, size), s.sa.peer)
			if largest, fragmented, _ := conn.noted(); largest != size+28 || len(fragmented) != 0 || !conn.whole {
				w.t.Errorf("%d bytes: fragmented %v", size, fragmented)
			}
		}
		conn.forget()
		s.transport.send(make([]byte, 3000), s.sa.peer)
		if _, fragmented, _ := conn.noted(); !slices.Equal(fragmented, []int{3028}) || !conn.whole {
			w.t.Errorf("3000 bytes: fragmented %v, forbidden afterwards: %v", fragmented, conn.whole)
		}
		conn.forget()
		send(w.t, s, ipv4(firstVIP, insideHost, string(make([]byte, s.MTU()))))
		if _, fragmented, _ := conn.noted(); len(fragmented) != 1 {
			w.t.Error("what cannot be made smaller is lost")
		}
		conn.forget()
		large := s.MTU() + 28
		for i, p := range w.sendBurst(s, 100, large, large, 100, large) {
			if !w.gatewayHas(p) {
				w.t.Errorf("packet %d of %d bytes is lost", i, len(p))
			}
		}
		if largest, fragmented, all := conn.noted(); len(fragmented) != 3 || len(all) != 5 || largest > 200 || !conn.whole {
			w.t.Errorf("of datagrams of %v, fragmented %v", all, fragmented)
		}
	})
}

// TestLargeMessagesOnASmallPath: once it is known how small the path is, a gateway that
// knows fragments of IKE gets its long messages in those, and not in fragments of IP.
func TestLargeMessagesOnASmallPath(t *testing.T) {
	for _, able := range []bool{true, false} {
		inWorlds(t, func(w *world) {
			conn := w.overPath(576)
			w.client.Login = strings.Repeat("long", 200) // 800 bytes, less than what goes whole by default
			w.gateway.Users[w.client.Login] = testPassword
			if !able {
				w.gateway.FragmentSize = -1
			}
			w.start()
			s := w.dial()
			receive(s)
			time.Sleep(time.Minute)
			if size := s.path.size(); size != 572 {
				w.t.Fatalf("path %d", size)
			}
			conn.forget()
			before, _ := w.fragments()
			w.renew(s)
			time.Sleep(2 * time.Second)
			ours, _ := w.fragments()
			_, fragmented, _ := conn.noted()
			if (ours > before) != able || (len(fragmented) == 0) != able || s.Stats().Rekeys != 1 {
				w.t.Errorf("the gateway knows fragments: %v; %d of IKE, %v of IP, %d reauthentications", able, ours-before, fragmented, s.Stats().Rekeys)
			}
		})
	}
}

// TestLargeMessagesOfDial: nothing is known of the path yet, and large messages must
// arrive all the same.
func TestLargeMessagesOfDial(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.IKE = nil // a larger group, larger messages
		conn := w.overPath(300)
		w.start()
		w.dial()
		if _, fragmented, _ := conn.noted(); len(fragmented) == 0 {
			w.t.Error("no message was large")
		}
	})
}

// TestPathOtherOverheads: plain ESP has no UDP header, old NAT traversal a marker, IPv6
// a longer header.
func TestPathOtherOverheads(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(*world) *narrow // the socket of ESP
		mtu     int
		size    int // of the datagram that it makes
	}{
		{"draft-00", func(w *world) *narrow {
			w.client.NATT, w.gateway.NATT = NATTDraft00, []string{"draft-00"}
			return w.overPath(1500)
		}, 1426, 1496},
		{"plain ESP", func(w *world) *narrow {
			return w.overRaw(1500, func(raw *narrow, conn net.PacketConn) net.PacketConn {
				raw.PacketConn = conn
				return raw
			})
		}, 1442, 1496},
		{"plain ESP in batches", func(w *world) *narrow {
			return w.overRaw(1500, func(raw *narrow, conn net.PacketConn) net.PacketConn {
				raw.PacketConn = rawAddrs{conn}
				return narrowRuns{raw, w.t, newRunConn(w.t, raw)}
			})
		}, 1442, 1496},
		{"IPv6", func(w *world) *narrow { return w.overIPv6(1500) }, 1406, 1488},
	} {
		inWorlds(t, func(w *world) {
			w.client.ESP = suites(w.t, ParseESPSuite, "aes128gcm16")
			conn := tt.prepare(w)
			if tt.name != "IPv6" {
				w.start()
			}
			s := w.dial()
			time.Sleep(20 * time.Second)
			conn.forget()
			send(w.t, s, ipv4(firstVIP, insideHost, string(make([]byte, s.MTU()-28))))
			if _, _, all := conn.noted(); s.MTU() != tt.mtu || !slices.Equal(all, []int{tt.size}) || !conn.whole {
				w.t.Errorf("%s: MTU %d, %v on the wire; want %d, %d", tt.name, s.MTU(), all, tt.mtu, tt.size)
			}
		})
	}
}

// overRaw has plain ESP go over a path, by the socket that wrap makes of a raw one.
func (w *world) overRaw(path int, wrap func(*narrow, net.PacketConn) net.PacketConn) *narrow {
	w.overPath(path)
	w.client.NATT = NATTOff
	w.withRawSockets()
	raw := &narrow{header: 20, link: path, path: path}
	listen := w.client.ListenESP
	w.client.ListenESP = func(ctx context.Context, gw netip.Addr) (net.PacketConn, error) {
		conn, err := listen(ctx, gw)
		if err != nil {
			return nil, err
		}
		return wrap(raw, conn), nil
	}
	return raw
}

// overIPv6 starts a gateway with an IPv6 address.
func (w *world) overIPv6(path int) *narrow {
	w.t.Helper()
	server, client := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::7")
	creds, err := gateway.SelfSigned("gw.example.com", server.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.gateway.Chain, w.gateway.Key, w.client.Trust.CAs = creds.Chain, creds.Key, []*x509.Certificate{creds.CA}
	w.client.Resolve = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{server}, nil }
	w.address = client
	conn := w.overPath(path)
	w.startAt(netip.AddrPortFrom(server, portIKE), netip.AddrPortFrom(server, portNATT))
	return conn
}

// TestPathProbesAreNoLiveness: a gateway that dies while the path is probed is found
// out as always, and a probe never takes the number of another.
func TestPathProbesAreNoLiveness(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.overPath(1200)
		w.start()
		s := w.dial()
		receive(s)
		w.setRule(loseFromGateway)
		d, err := w.waitEnd(s, time.Hour)
		wantError[*NoAnswerError](w.t, err)
		if d < natKeepAlive+dpdTries*dpdInterval || d > dpdIdle+dpdTries*dpdInterval+time.Second {
			w.t.Errorf("ended after %v", d)
		}
		probes, _ := w.notifies(isakmp.NotifyRUThere)
		var numbers []string
		for _, n := range probes {
			numbers = append(numbers, fmt.Sprintf("%x", n.Data))
		}
		alive := numbers[len(numbers)-dpdTries:]
		if len(slices.Compact(slices.Clone(alive))) != 1 || len(slices.Compact(numbers)) != len(probes)-dpdTries+1 {
			w.t.Errorf("numbers %v", numbers)
		}
	})
}

// TestPathSurvivesReauthentication: the search goes on with the new ISAKMP SA.
func TestPathSurvivesReauthentication(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.overPath(1492)
		w.start()
		s := w.dial()
		receive(s)
		time.Sleep(time.Second)
		w.renew(s)
		time.Sleep(20 * time.Second)
		if size := s.path.size(); size != 1484 || s.Stats().Rekeys != 1 {
			w.t.Errorf("path %d after %d reauthentications", size, s.Stats().Rekeys)
		}
	})
}

// TestProbeOnTheWire: a probe is one Informational, filled with zeros behind its last
// payload, which its HASH does not cover.
func TestProbeOnTheWire(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.overPath(1500)
		w.start()
		s := w.dial()
		time.Sleep(pathInterval + time.Second)
		probes := w.sent(func(d datagram) bool {
			h, ok := ikeHeader(d.from, d.to, d.data)
			return ok && byClient(d) && h.Exchange == isakmp.Informational && len(d.data) > 1000
		})
		if len(probes) != 2 || len(probes[0].data)+28 != 1388 || len(probes[1].data)+28 != 1500 {
			w.t.Fatalf("%d probes", len(probes))
		}
		for _, d := range probes {
			h, body, err := isakmp.ParseHeader(ikeMessage(d.from, d.to, d.data))
			if err != nil || int(h.Length) != len(d.data)-nonESPMarkerLen {
				w.t.Fatalf("%+v, %v", h, err)
			}
			m, err := s.sa.decrypt(&message{Header: h}, body)
			if err != nil || len(m.payloads) != 2 || m.payloads[1].Type != isakmp.PayloadNotify {
				w.t.Errorf("%+v, %v", m, err)
			}
			if !bytes.Equal(m.payloads[0].Body, s.sa.keys.hash1(h.MessageID, isakmp.AppendPayloads(nil, m.payloads[1]))) {
				w.t.Error("the HASH covers more than the payload")
			}
		}
	})
}

// TestUsualDatagramsDoNotWait: while a datagram may be fragmented, what goes as usual goes;
// a probe waits, which must not be fragmented.
func TestUsualDatagramsDoNotWait(t *testing.T) {
	conn := &narrow{}
	d := &dontFragment{conn: conn}
	if err := d.forbid(true); err != nil {
		t.Fatal(err)
	}
	sending, goOn := make(chan struct{}), make(chan struct{})
	var sent []string // without a lock: the race detector sees two at once
	var others sync.WaitGroup
	others.Go(func() {
		d.send(allowed, func() error {
			close(sending)
			<-goOn
			sent = append(sent, fmt.Sprint("large, whole: ", conn.whole))
			return nil
		})
	})
	<-sending
	others.Go(func() {
		d.send(forbidden, func() error {
			sent = append(sent, fmt.Sprint("probe, whole: ", conn.whole))
			return nil
		})
	})
	d.send(asUsual, func() error { close(goOn); return nil }) // or it never ends
	others.Wait()
	if want := []string{"large, whole: false", "probe, whole: true"}; !slices.Equal(sent, want) {
		t.Errorf("sent %q, want %q", sent, want)
	}
}
