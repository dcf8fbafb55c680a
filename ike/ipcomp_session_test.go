package ike

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// compressible is a text that DEFLATE makes much smaller.
var compressible = strings.Repeat("the quick brown fox jumps over the lazy dog, ", 20)

// espSizes are the lengths of the ESP packets that went by since the given number
// of datagrams.
func (w *world) espSizes(since int, match func(datagram) bool) (sizes []int) {
	for _, d := range w.sent(nil)[since:] {
		if match(d) && len(d.data) > 1 && !isIKE(d.from, d.to, d.data) {
			sizes = append(sizes, len(d.data))
		}
	}
	return sizes
}

// wantCompression sends text both ways and looks at what went by.
func (w *world) wantCompression(s *Session, received func() [][]byte, text string, want bool) {
	w.t.Helper()
	if got := s.Stats().Children[0].IPComp; got != want {
		w.t.Fatalf("compression: %v, want %v\n%s", got, want, w.logText())
	}
	before := len(w.sent(nil))
	w.exchangePackets(s, received, text+compressible)
	for name, match := range map[string]func(datagram) bool{"out": byClient, "in": func(d datagram) bool { return !byClient(d) }} {
		sizes := w.espSizes(before, match)
		if len(sizes) != 1 || (sizes[0] < len(compressible)/2) != want {
			w.t.Errorf("%s: packets of %v bytes carried %d bytes of text, compressed: %v", name, sizes, len(compressible), want)
		}
	}
	w.exchangePackets(s, received, "short") // goes as it is
	if bad := s.Stats().Children[0].BadIPComp; bad != 0 {
		w.t.Errorf("%d packets could not be expanded", bad)
	}
}

// TestIPComp: compression needs both sides.
func TestIPComp(t *testing.T) {
	for _, tt := range []struct {
		name           string
		asked, offered bool
		natt           NATT
		esp            string
	}{
		{"agreed", true, true, NATTAuto, "aes128gcm16"},
		{"agreed, CBC", true, true, NATTAuto, "aes128-sha1"},
		{"agreed, PFS", true, true, NATTAuto, "aes128gcm16-ecp256"},
		{"agreed, encapsulated as in the drafts", true, true, "draft-02", "aes128gcm16"},
		{"refused", true, false, NATTAuto, "aes128gcm16"},
		{"not asked for", false, true, NATTAuto, "aes128gcm16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.client.IPComp, w.gateway.IPComp = tt.asked, tt.offered
				w.client.NATT, w.client.ESP = tt.natt, suites(t, ParseESPSuite, tt.esp)
				w.gateway.NATT = []string{"rfc3947", "draft-02"}
				w.start()
				s := w.dial()
				w.wantCompression(s, receive(s), tt.name, tt.asked && tt.offered)
				if refused := strings.Contains(w.logText(), "does not agree to compression"); refused != (tt.asked && !tt.offered) {
					t.Errorf("the log says that it was refused: %v", refused)
				}
			})
		})
	}
}

// TestIPCompOffer: a bundle first, the same without IPComp second, nothing of it
// unless asked.
func TestIPCompOffer(t *testing.T) {
	for _, asked := range []bool{true, false} {
		inWorlds(t, func(w *world) {
			w.client.IPComp = asked
			w.start()
			w.dial()
			offer, err := isakmp.ParseSA(w.messages(gateway.QM1)[0].Payload(isakmp.PayloadSA))
			if err != nil {
				t.Fatal(err)
			}
			var got []isakmp.ProtocolID
			var numbers []uint8
			for _, p := range offer.Proposals {
				got, numbers = append(got, p.Protocol), append(numbers, p.Number)
			}
			want := "[ESP] [1]"
			if asked {
				want = "[ESP IPCOMP ESP] [1 1 2]"
			}
			if g := fmt.Sprint(got, numbers); g != want {
				t.Fatalf("offered %s, want %s", g, want)
			}
			if !asked {
				return
			}
			cpi := binary.BigEndian.Uint16(offer.Proposals[1].SPI)
			if cpi < minCPI || cpi > maxCPI || len(offer.Proposals[1].SPI) != 2 {
				t.Errorf("CPI %x", offer.Proposals[1].SPI)
			}
			if offer.Proposals[1].Transforms[0].ID != isakmp.IPCompDeflate {
				t.Errorf("IPComp transform %d", offer.Proposals[1].Transforms[0].ID)
			}
			if fmt.Sprint(offer.Proposals[0].Transforms) != fmt.Sprint(offer.Proposals[2].Transforms) {
				t.Error("the offers with and without IPComp differ")
			}
		})
	}
}

// TestIPCompRefusedWhole: a gateway that refuses the offer because of its bundle gets
// one without.
func TestIPCompRefusedWhole(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.IPComp, w.client.PFS = true, PFSOff
		w.start()
		refuse := true
		w.hook(gateway.QM2, func(m *gateway.Message) []*gateway.Message {
			if !refuse {
				return []*gateway.Message{m}
			}
			refuse = false
			n := gateway.Message{Step: gateway.Notify, Header: m.Header}
			n.Header.Exchange, n.Header.MessageID = isakmp.Informational, m.Header.MessageID+1
			n.Add(isakmp.PayloadNotify, isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, Type: isakmp.NotifyNoProposalChosen}.Append(nil))
			return []*gateway.Message{&n}
		})
		s := w.dial()
		w.wantCompression(s, receive(s), "plain", false)
		if !strings.Contains(w.logText(), "does not agree to compression") {
			t.Error("the log does not say that there is no compression")
		}
		var ipcomp []bool
		for _, m := range w.messages(gateway.QM1) {
			offer, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
			if err != nil {
				t.Fatal(err)
			}
			ipcomp = append(ipcomp, len(offer.Proposals) == 3)
		}
		if fmt.Sprint(ipcomp) != "[true false]" {
			t.Errorf("offers with IPComp: %v", ipcomp)
		}
	})
}

// TestIPCompRekey: compression is kept, whoever rekeys, with CPIs of its own.
func TestIPCompRekey(t *testing.T) {
	for _, byGateway := range []bool{false, true} {
		inWorlds(t, func(w *world) {
			w.client.IPComp, w.gateway.IPComp = true, true
			w.gateway.ESPLifetime = 2 * time.Minute
			w.start()
			s := w.dial()
			received := receive(s)
			w.wantCompression(s, received, "before", true)
			if byGateway {
				if err := w.gw.RekeyChild(s.Assignment().Addresses[0].Addr()); err != nil {
					t.Fatal(err)
				}
			} else {
				time.Sleep(time.Minute) // half of the lifetime
			}
			time.Sleep(2 * activateAfter)
			synctest.Wait()
			if n := len(s.Stats().Children); n != 2 {
				t.Fatalf("%d ESP SAs\n%s", n, w.logText())
			}
			if s.children[0].cpiIn == s.children[1].cpiIn {
				t.Error("the CPI was not drawn anew")
			}
			w.wantCompression(s, received, "after", true)
		})
	}
}

// TestIPCompGatewayBegins: what the gateway proposes by itself is taken with IPComp
// only if the profile asks for it.
func TestIPCompGatewayBegins(t *testing.T) {
	for _, asked := range []bool{true, false} {
		inWorlds(t, func(w *world) {
			w.client.IPComp, w.gateway.IPComp = true, true
			w.start()
			s := w.dial()
			received := receive(s)
			s.cfg.IPComp = asked
			if err := w.gw.RekeyChild(s.Assignment().Addresses[0].Addr()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * activateAfter)
			w.wantCompression(s, received, "rekeyed", asked)
		})
	}
}

// TestIPCompTwoTunnels: a gateway whose IPComp and ESP are a tunnel each puts a header
// between them.
func TestIPCompTwoTunnels(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.IPComp, w.gateway.IPComp, w.gateway.Quirks.TwoTunnels = true, true, true
		w.start()
		s := w.dial()
		w.wantCompression(s, receive(s), "tunnel in tunnel", true)
	})
}
