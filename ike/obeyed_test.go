package ike

import (
	"bytes"
	"context"
	"crypto/cipher"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// TestMessageIDZero: after phase 1 a message with M-ID 0 is not obeyed; it would go
// without a HASH.
func TestMessageIDZero(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		var msg []byte
		w.do(s, func() {
			sa := s.sa
			d := isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, SPISize: 4, SPIs: [][]byte{be32(s.Stats().Children[0].SPIOut)}}
			body := isakmp.AppendPayloads(nil, isakmp.Payload{Type: isakmp.PayloadDelete, Body: d.Append(nil)})
			body = append(body, make([]byte, -len(body)&15)...)
			cipher.NewCBCEncrypter(sa.keys.block, sa.phase1IV).CryptBlocks(body, body)
			h := sa.header(isakmp.Informational, 0)
			h.Flags, h.NextPayload = isakmp.FlagEncrypted, isakmp.PayloadDelete
			h.Length = uint32(isakmp.HeaderLen + len(body))
			msg = append(h.Append(nil), body...)
		})
		w.spoof(withMarker(msg))
		synctest.Wait()
		if strings.Contains(w.logText(), "the gateway deleted an ESP SA") {
			t.Error("a Delete without HASH was obeyed")
		}
	})
}

// TestReplayedRequest: an XAUTH REQUEST that comes again, long after, is no new one.
func TestReplayedRequest(t *testing.T) {
	inWorld(t, func(w *world) {
		var request []byte
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			if h, ok := ikeHeader(from, to, data); ok && toClient(from) && h.Exchange == isakmp.Transaction && request == nil {
				request = bytes.Clone(data)
			}
			return deliver(data)
		})
		w.start()
		s := w.dial()
		receive(s)
		w.setRule(nil)
		for range 2 * maxReplies {
			if err := w.gw.Probe(firstVIP); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		header := len(withMarker(nil)) + isakmp.HeaderLen
		altered := bytes.Clone(request)
		altered[header-isakmp.HeaderLen+19] |= byte(isakmp.FlagAuthOnly) // nothing that is authenticated
		for _, again := range [][]byte{request, altered} {
			heard := s.Stats().LastHeard
			time.Sleep(time.Second)
			w.spoof(again)
			synctest.Wait()
			if strings.Contains(w.logText(), "asks for the login again") || s.Stats().LastHeard.After(heard) {
				t.Error("a replayed REQUEST was obeyed")
			}
		}
	})
}

// TestReflection: our own messages, sent back to us, are no sign of life.
func TestReflection(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.crash()
		conn, err := w.net.Listen(netip.AddrPortFrom(gatewayAddr, portNATT))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			b := make([]byte, 4096)
			for {
				n, from, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				conn.WriteTo(b[:n], from)
			}
		}()
		d, err := w.waitEnd(s, time.Hour)
		conn.Close()
		wantError[*NoAnswerError](w.t, err)
		if want := natKeepAlive + dpdTries*dpdInterval; d != want {
			t.Errorf("ended after %v, want %v", d, want)
		}
	})
}

// TestAskedWithoutVerdict: a gateway that asks for the password again before it has
// said that the first was right does not get the same one without asking.
func TestAskedWithoutVerdict(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		ask := func(mid uint32) {
			w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
				return []*gateway.Message{transaction(h, mid, isakmp.Config{Type: isakmp.ConfigRequest, Attributes: empty(isakmp.XAuthUserName, isakmp.XAuthPassword)})}
			})
			synctest.Wait()
		}
		ask(100)
		w.wantAlive(s)
		ask(101)
		time.Sleep(time.Second)
		wantError[*CredentialsError](w.t, s.Err())
	})
}

// TestEndWhileAnswering: what ends a session ends it also while QM3 is awaited.
func TestEndWhileAnswering(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.say(firstVIP, func(h isakmp.Header) []*gateway.Message { return []*gateway.Message{quickModeOffer(h)} })
		synctest.Wait()
		w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
			return []*gateway.Message{transaction(h, 5, settingsOf(netip.MustParseAddr("10.99.0.9")))}
		})
		synctest.Wait()
		wantError[*AddressChangedError](w.t, s.Err())
	})
}

// TestPartialSettings: a SET that brings one setting leaves the others as they are.
func TestPartialSettings(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		before := s.Assignment()
		w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
			return []*gateway.Message{transaction(h, 5, isakmp.Config{Type: isakmp.ConfigSet, Attributes: []isakmp.Attribute{text(isakmp.UnityBanner, "hello")}})}
		})
		synctest.Wait()
		a := s.Assignment()
		if a.Banner != "hello" || len(a.SplitInclude) != len(before.SplitInclude) || len(a.DNS) != len(before.DNS) || a.DefaultDomain != before.DefaultDomain {
			t.Errorf("settings %+v, before %+v", a, before)
		}
	})
}

// TestNothingTakenOver: the first address fails in Quick Mode; what it had assigned
// is forgotten at the second, which is tried since no login has left.
func TestNothingTakenOver(t *testing.T) {
	inWorld(t, func(w *world) {
		other := netip.MustParseAddr("192.0.2.67")
		w.client.Exchange = ExchangeMain
		w.client.Auth = AuthPSK
		w.withSecret()
		w.client.Resolve = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{gatewayAddr, other}, nil }
		w.hook(gateway.QM2, func(*gateway.Message) []*gateway.Message { return nil })
		w.gateway.Settings.SplitInclude = nil
		w.start()
		second := w.gateway
		second.Pool, second.Hook, second.Received = netip.MustParsePrefix("10.77.0.0/24"), nil, nil
		gw, err := gateway.New(second)
		if err != nil {
			t.Fatal(err)
		}
		var sockets []gateway.Socket
		for _, port := range []uint16{portIKE, portNATT} {
			conn, err := w.net.Listen(netip.AddrPortFrom(other, port))
			if err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, gateway.Socket{Conn: conn, NonESP: port == portNATT})
		}
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan struct{})
		go func() { defer close(served); gw.Serve(ctx, sockets...) }()
		w.t.Cleanup(func() { stop(); <-served })
		s := w.dial()
		if got := s.Stats().Children[0].Local.String(); got != "10.77.0.1/32" {
			t.Errorf("ESP SA for %s", got)
		}
	})
}

// TestChanceIsNotLearned: a few silent seconds do not make phase 1 be renewed for
// good.
func TestChanceIsNotLearned(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.talk(s, time.Second, 40*time.Second)
		for range 4 {
			send(t, s, ipv4(firstVIP, insideHost, "to a dead host"))
			time.Sleep(time.Second)
		}
		w.talk(s, time.Second, 10*time.Minute)
		if n := len(w.eventsOf(EventReauth)); n != 0 {
			t.Errorf("%d reauthentications", n)
		}
	})
}
