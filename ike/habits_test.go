package ike

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// TestReturnOnNewest: racoon sends all return traffic on its newest ESP SA, also what
// belongs to another one of ours. What belongs to none is not taken.
func TestReturnOnNewest(t *testing.T) {
	inBothWorlds(t, func(w *world) {
		networks := prefixes("10.10.0.0/16", "10.20.0.0/16", "10.30.0.0/16")
		w.gateway.Settings.SplitInclude, w.gateway.Networks = networks, nil
		w.gateway.Quirks.ReturnOnNewest = true
		w.client.Selectors = SelectorsPerNetwork
		w.start()
		s := w.dial()
		received := receive(s)
		for i := range networks {
			host := networks[i].Addr().Next()
			out, in := ipv4(firstVIP, host, "out"), ipv4(host, firstVIP, "in")
			send(w.t, s, out)
			synctest.Wait()
			if err := w.gw.SendPacket(in); err != nil {
				w.t.Fatal(err)
			}
			synctest.Wait()
			if !w.gatewayHas(out) || !containsPacket(received(), in) {
				w.t.Errorf("%v: out %v, in %v", host, w.gatewayHas(out), containsPacket(received(), in))
			}
		}
		stray := ipv4(netip.MustParseAddr("10.40.0.1"), firstVIP, "stray")
		if err := w.gw.SendPacket(stray); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		if containsPacket(received(), stray) {
			w.t.Error("a packet of no network of ours was taken")
		}
		in := 0
		for _, tunnel := range w.gw.Clients()[0].Tunnels[:2] {
			in += int(tunnel.Out.Packets)
		}
		if in != 0 {
			w.t.Errorf("the gateway used its older SAs for %d packets", in)
		}
	})
}

// TestOtherAddress: racoon gives another address when we sign in again. The session
// ends with that as its reason, so that the next one has it from the beginning.
func TestOtherAddress(t *testing.T) {
	inBothWorlds(t, func(w *world) {
		w.gateway.Quirks.OtherAddress = true
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
		_, err := w.waitEnd(s, phase1Lifetime)
		e := wantError[*AddressChangedError](w.t, err)
		if e.Old != "[10.99.0.1/32]" || e.New != "[10.99.0.2/32]" {
			w.t.Errorf("%v", e)
		}
		synctest.Wait()
		if n := len(w.gw.Clients()); n != 0 {
			w.t.Errorf("the gateway keeps %d SAs", n)
		}
	})
}

// TestRepeatedAttributes: Shrew's gateway gives each network in an attribute of its
// own, and an expiry that nobody asked for; others repeat name servers.
func TestRepeatedAttributes(t *testing.T) {
	entry := func(third byte) isakmp.Attribute {
		return isakmp.Attribute{Type: isakmp.UnitySplitInclude, Value: []byte{10, 11, third, 0, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0}}
	}
	inBoth(t, func(w *world) {
		w.gateway.Quirks.SettingsInStatus = true
		w.gateway.Settings = gateway.Settings{Extra: []isakmp.Attribute{
			entry(1),
			{Type: isakmp.CfgIP4DNS, Value: []byte{10, 10, 0, 2}},
			entry(2), entry(1),
			{Type: isakmp.CfgIP4DNS, Value: []byte{10, 10, 0, 3}},
			entry(3), text(isakmp.UnitySplitDNS, "a.example.com"), text(isakmp.UnitySplitDNS, "b.example.com,a.example.com"),
			{Type: isakmp.CfgAddressExpiry, Value: []byte{0, 0, 14, 16}},
		}}
		w.start()
		s := w.dial()
		a := s.Assignment()
		if !slices.Equal(a.SplitInclude, prefixes("10.11.1.0/24", "10.11.2.0/24", "10.11.3.0/24")) || len(a.DNS) != 2 ||
			!slices.Equal(a.SplitDNS, []string{"a.example.com", "b.example.com"}) || a.Expiry != time.Hour {
			w.t.Errorf("%+v", a)
		}
		if n := len(w.messages(gateway.ConfigRequest)); n != 0 {
			w.t.Errorf("%d requests for what was given already", n)
		}
	})
}

// TestNoRetransmission: a gateway that says everything once relies on our
// repetitions; what it says unasked, and is lost, nobody repeats.
func TestNoRetransmission(t *testing.T) {
	for _, exchange := range bothExchanges {
		total := 0
		setup := func(w *world) {
			w.client.Exchange, w.gateway.FragmentSize = exchange, -1
			w.gateway.Quirks.NoRetransmission = true
		}
		inWorld(t, func(w *world) {
			setup(w)
			w.start()
			w.dial()
			synctest.Wait()
			total = len(w.sent(nil))
		})
		connected := 0
		for n := range total {
			inWorld(t, func(w *world) {
				setup(w)
				w.hit(n, faults[0])
				w.start()
				s, err := w.tryDial()
				if err == nil {
					connected++
					w.wantAlive(s)
					return
				}
				if code := exitCode(err); code != exitNoAnswer {
					t.Errorf("%s, datagram %d lost: %v", exchange, n, err)
				}
			})
		}
		if connected < total/2 {
			t.Errorf("%s: connected with %d of %d losses", exchange, connected, total)
		}
	}
}
