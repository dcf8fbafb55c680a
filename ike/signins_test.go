package ike

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// informing is a message of the gateway that tells of something, authenticated.
func informing(h isakmp.Header, mid uint32, typ isakmp.NotifyType, data []byte) *gateway.Message {
	h.Exchange, h.MessageID, h.Flags = isakmp.Informational, mid, isakmp.FlagEncrypted
	n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: typ, Data: data}
	m := &gateway.Message{Step: gateway.Notify, Header: h}
	m.Add(isakmp.PayloadNotify, n.Append(nil))
	return m
}

// TestOneSignIn: once a login has left, nothing that the gateway does makes it leave
// again by itself: no other address, no other gateway, no other exchange.
func TestOneSignIn(t *testing.T) {
	other := netip.MustParseAddr("192.0.2.7")
	silent := func(*gateway.Message) []*gateway.Message { return nil }
	refuse := func(m *gateway.Message) []*gateway.Message {
		return []*gateway.Message{informing(m.Header, 0x01020304, isakmp.NotifyNoProposalChosen, nil)}
	}
	sendAway := func(m *gateway.Message) []*gateway.Message {
		return []*gateway.Message{informing(m.Header, 0x01020304, isakmp.NotifyUnityLoadBalance, other.AsSlice()), m}
	}
	for _, tt := range []struct {
		name string
		step gateway.Step
		hook hook
		fine bool // connected all the same
	}{
		{"silent after the login", gateway.XAuthSet, silent, false},
		{"silent about settings", gateway.ConfigReply, silent, false},
		{"silent in Quick Mode", gateway.QM2, silent, false},
		{"refuses the algorithms after the login", gateway.XAuthSet, refuse, false},
		{"refuses the algorithms in place of settings", gateway.ConfigReply, refuse, false},
		{"sends us away after the login", gateway.XAuthSet, sendAway, true},
		{"sends us away with the settings", gateway.ConfigReply, sendAway, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = ExchangeAuto
				w.client.Gateway = "gw.example.com, backup.example.com"
				w.client.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
					if host == "backup.example.com" {
						return []netip.Addr{other}, nil
					}
					return []netip.Addr{gatewayAddr, other}, nil
				}
				backup := w.gateway
				backup.Hook = nil
				w.serve(backup, netip.AddrPortFrom(other, portIKE), netip.AddrPortFrom(other, portNATT))
				w.hook(tt.step, tt.hook)
				w.start()
				_, err := w.tryDial()
				if (err == nil) != tt.fine {
					t.Errorf("Dial: %v", err)
				}
				if n := len(w.messages(gateway.XAuthReply)); n != 1 {
					t.Errorf("the login left %d times", n)
				}
				if sent := w.sent(func(d datagram) bool { return d.to.Addr() == other }); len(sent) > 0 {
					t.Errorf("%d datagrams went to another gateway", len(sent))
				}
			})
		})
	}
	t.Run("silent before the login", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.client.Resolve = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{other, gatewayAddr}, nil }
			dumb := w.gateway
			dumb.Received = nil
			dumb.Hook = func(m *gateway.Message) []*gateway.Message {
				if m.Step == gateway.XAuthRequest {
					return nil
				}
				return []*gateway.Message{m}
			}
			w.serve(dumb, netip.AddrPortFrom(other, portIKE), netip.AddrPortFrom(other, portNATT))
			w.start()
			s := w.dial()
			if got := s.Stats().Gateway.Addr(); got != gatewayAddr || time.Since(w.began) != xauthPatience {
				t.Errorf("connected to %v after %v", got, time.Since(w.began))
			}
		})
	})
}

// TestRedirectedForEver: gateways that send us round in a circle are told as what they
// are.
func TestRedirectedForEver(t *testing.T) {
	for _, late := range []bool{false, true} {
		inWorld(t, func(w *world) {
			w.client.Exchange = ExchangeMain
			w.gateway.Quirks = gateway.Quirks{Redirect: gatewayAddr, RedirectLate: late}
			w.start()
			_, err := w.tryDial()
			e := wantError[*RefusedError](w.t, err)
			if e.What != RefusedConnection || e.Notify != isakmp.NotifyUnityLoadBalance || e.Authenticated != late {
				t.Errorf("%+v", e)
			}
			if n := len(w.exchangesSeen()); n != 1+maxRedirects {
				t.Errorf("%d attempts", n)
			}
		})
	}
}
