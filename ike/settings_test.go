package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// settingsOf is an Attribute payload of a gateway that gives an address and more.
func settingsOf(addr netip.Addr, more ...isakmp.Attribute) isakmp.Config {
	as := []isakmp.Attribute{{Type: isakmp.CfgIP4Address, Value: addr.AsSlice()}}
	return isakmp.Config{Type: isakmp.ConfigSet, Identifier: 4711, Attributes: append(as, more...)}
}

func address(as ...isakmp.Attribute) (addr netip.Addr) {
	if a, ok := isakmp.Find(as, isakmp.CfgIP4Address); ok {
		addr, _ = netip.AddrFromSlice(a.Value)
	}
	return addr
}

// TestModeConfigStyles: whichever way the gateway gives its settings, they arrive
// without delay.
func TestModeConfigStyles(t *testing.T) {
	for _, tt := range []struct {
		name     string
		style    ModeConfig
		push     bool
		requests int // that the gateway gets
		acks     int
		fails    bool
	}{
		{name: "pull", style: ModeConfigPull, requests: 1},
		{name: "push", style: ModeConfigPush, push: true, acks: 1},
		{name: "auto, gateway waits", style: ModeConfigAuto, requests: 1},
		{name: "auto, gateway pushes", style: ModeConfigAuto, push: true, requests: 1, acks: 1},
		{name: "default", requests: 1},
		{name: "push, gateway waits", style: ModeConfigPush, fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.client.ModeConfig, w.gateway.Push = tt.style, tt.push
				w.start()
				s, err := w.tryDial()
				if tt.fails {
					if e := wantError[*NoAnswerError](w.t, err); e.Step != StepGetSettings || time.Since(w.began) != 30*time.Second {
						w.t.Errorf("after %v: %+v", time.Since(w.began), e)
					}
					return
				}
				if err != nil {
					w.t.Fatal(err)
				}
				if d := time.Since(w.began); d != 0 {
					w.t.Errorf("it took %v", d)
				}
				synctest.Wait()
				if n := len(w.messages(gateway.ConfigRequest)); n != tt.requests {
					w.t.Errorf("%d requests", n)
				}
				if n := len(w.messages(gateway.ConfigAck)); n != tt.acks {
					w.t.Errorf("%d acknowledgements", n)
				}
				w.exchangePackets(s, receive(s), "hello")
				if a := s.Assignment(); a.DefaultDomain != "corp.example.com" || a.Addresses[0].Addr() != firstVIP {
					w.t.Errorf("%+v", a)
				}
			})
		})
	}
}

// TestPullIgnoresSet: a client that pulls acknowledges what is pushed, and waits for
// its REPLY.
func TestPullIgnoresSet(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.ModeConfig = ModeConfigPull
		w.hook(gateway.ConfigReply, func(m *gateway.Message) []*gateway.Message {
			return []*gateway.Message{transaction(m.Header, 5, settingsOf(netip.MustParseAddr("10.99.0.77"))), m}
		})
		w.start()
		s := w.dial()
		if got := s.Assignment().Addresses[0].Addr(); got != firstVIP {
			t.Errorf("address %v", got)
		}
		if n := len(w.transactionsTo(5)); n != 1 {
			t.Errorf("%d acknowledgements", n)
		}
	})
}

// TestEarlySet: settings may come with the verdict of XAUTH (Shrew) or before it
// (Juniper). They are taken without a REQUEST.
func TestEarlySet(t *testing.T) {
	domain := text(isakmp.UnityDefDomain, "early.example.com")
	for name, h := range map[string]hook{
		"with the verdict": func(m *gateway.Message) []*gateway.Message {
			editConfig(t, m, func(c *isakmp.Config) {
				c.Attributes = append(c.Attributes, settingsOf(firstVIP, domain).Attributes...)
			})
			return []*gateway.Message{m}
		},
		"before the verdict": func(m *gateway.Message) []*gateway.Message {
			return []*gateway.Message{transaction(m.Header, 5, settingsOf(firstVIP, domain)), m}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.gateway.Push = true // makes it assign the address; its own SET comes too late to matter
				w.hook(gateway.XAuthSet, h)
				w.change(gateway.ConfigSet, func(m *gateway.Message) { m.Raw = []byte("never mind") })
				w.start()
				s := w.dial()
				if n := len(w.messages(gateway.ConfigRequest)); n != 0 {
					w.t.Errorf("%d requests", n)
				}
				if a := s.Assignment(); a.DefaultDomain != "early.example.com" || a.Addresses[0].Addr() != firstVIP {
					w.t.Errorf("%+v", a)
				}
				w.exchangePackets(s, receive(s), "hello")
			})
		})
	}
}

// TestAckForm: an acknowledgement lists what came with empty values, and STATUS as it
// came (vpnc's form, which Cisco takes).
func TestAckForm(t *testing.T) {
	inWorld(t, func(w *world) {
		w.gateway.Push = true
		w.client.ModeConfig = ModeConfigPush
		w.start()
		w.dial()
		synctest.Wait()
		for _, c := range w.configs(gateway.ConfigAck) {
			if c.Type != isakmp.ConfigAck || len(c.Attributes) == 0 {
				t.Errorf("ACK %+v", c)
			}
			for _, a := range c.Attributes {
				if len(a.Value) != 0 {
					t.Errorf("ACK with a value: %+v", a)
				}
			}
		}
		ack := w.configs(gateway.XAuthAck)[0]
		status, _ := isakmp.Find(ack.Attributes, isakmp.XAuthStatus)
		if v, ok := status.Uint(); !ok || v != uint64(isakmp.XAuthOK) || !status.Basic {
			t.Errorf("ACK of the verdict: %+v", ack)
		}
	})
}

// TestSettingsLater: the gateway may push new settings at any time, but not another
// address.
func TestSettingsLater(t *testing.T) {
	dns := netip.MustParseAddr("10.10.0.53")
	for _, tt := range []struct {
		name   string
		config isakmp.Config
		ends   bool
	}{
		{"same address", settingsOf(firstVIP, isakmp.Attribute{Type: isakmp.CfgIP4DNS, Value: dns.AsSlice()}), false},
		{"no address", isakmp.Config{Type: isakmp.ConfigSet, Attributes: []isakmp.Attribute{{Type: isakmp.CfgIP4DNS, Value: dns.AsSlice()}}}, false},
		{"another address", settingsOf(netip.MustParseAddr("10.99.0.9")), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				s := w.dial()
				received := receive(s)
				w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
					return []*gateway.Message{transaction(h, 5, tt.config)}
				})
				synctest.Wait()
				if n := len(w.transactionsTo(5)); n != 1 {
					t.Errorf("%d acknowledgements", n)
				}
				if tt.ends {
					_, err := w.waitEnd(s, 0)
					if e := wantError[*AddressChangedError](w.t, err); !strings.Contains(e.Old, "10.99.0.1") || !strings.Contains(e.New, "10.99.0.9") {
						t.Errorf("%+v", e)
					}
					return
				}
				w.wantAlive(s)
				if a := s.Assignment(); !slices.Equal(a.DNS, []netip.Addr{dns}) || a.Addresses[0].Addr() != firstVIP {
					t.Errorf("%+v", a)
				}
				if n := len(w.eventsOf(EventAssignment)); n != 1 {
					t.Errorf("%d events", n)
				}
				w.exchangePackets(s, received, "hello")
			})
		})
	}
}

// TestUselessSettings: an address that cannot work ends the attempt.
func TestUselessSettings(t *testing.T) {
	give := func(addr ...byte) func(*isakmp.Config) {
		return func(c *isakmp.Config) {
			c.Attributes = slices.DeleteFunc(c.Attributes, func(a isakmp.Attribute) bool { return a.Type == isakmp.CfgIP4Address })
			if len(addr) > 0 {
				c.Attributes = append(c.Attributes, isakmp.Attribute{Type: isakmp.CfgIP4Address, Value: addr})
			}
		}
	}
	for _, tt := range []struct {
		name     string
		change   func(*isakmp.Config)
		protocol bool
	}{
		{"none", give(), false},
		{"no attributes", func(c *isakmp.Config) { c.Attributes = nil }, false},
		{"too short", give(10, 99, 0), false},
		{"loopback", give(127, 0, 0, 1), false},
		{"multicast", give(224, 0, 0, 1), false},
		{"zero", give(0, 0, 0, 0), false},
		{"the gateway's own", give(gatewayAddr.AsSlice()...), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.changeConfig(gateway.ConfigReply, tt.change)
				w.start()
				_, err := w.tryDial()
				if tt.protocol {
					if e := wantError[*ProtocolError](w.t, err); e.Step != StepGetSettings {
						t.Errorf("%+v", e)
					}
				} else if e := wantError[*RefusedError](w.t, err); e.Step != StepGetSettings || e.What != RefusedSettings || !e.Authenticated {
					t.Errorf("%+v", e)
				}
				if n := len(w.messages(gateway.QM1)); n != 0 {
					t.Error("Quick Mode was begun")
				}
				synctest.Wait()
				if n := len(w.gw.Clients()); n != 0 {
					t.Errorf("the gateway keeps %d SAs", n)
				}
			})
		})
	}
	t.Run("empty pool", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.gateway.Pool = netip.MustParsePrefix("10.99.0.1/32")
			w.start()
			w.dial()
			w.client.Reconnect = true // else the gateway drops the first
			w.client.Login, w.client.Password = "eve", Secret("x")
			w.gateway.Users["eve"] = "x"
			_, err := w.tryDial()
			if e := wantError[*RefusedError](w.t, err); e.What != RefusedSettings {
				t.Errorf("%+v", e)
			}
		})
	})
}

// TestReplyMustFit: only the REPLY to our REQUEST counts, by message ID and
// identifier.
func TestReplyMustFit(t *testing.T) {
	other := netip.MustParseAddr("10.99.0.66")
	inWorld(t, func(w *world) {
		w.hook(gateway.ConfigReply, func(m *gateway.Message) []*gateway.Message {
			c := settingsOf(other)
			c.Type = isakmp.ConfigReply
			return []*gateway.Message{transaction(m.Header, 5, c), m}
		})
		w.start()
		if got := w.dial().Assignment().Addresses[0].Addr(); got != firstVIP {
			t.Errorf("address %v", got)
		}
	})
	inWorld(t, func(w *world) {
		w.changeConfig(gateway.ConfigReply, func(c *isakmp.Config) { c.Identifier++ })
		w.start()
		_, err := w.tryDial()
		wantError[*NoAnswerError](w.t, err)
	})
}

// TestRequestedAddress: what Config.RequestAddress says goes into the REQUEST.
func TestRequestedAddress(t *testing.T) {
	wish := netip.MustParseAddr("10.99.0.42")
	for _, want := range []netip.Addr{{}, wish} {
		inWorld(t, func(w *world) {
			w.client.RequestAddress = want
			w.start()
			s := w.dial()
			if got := address(w.configs(gateway.ConfigRequest)[0].Attributes...); got != want {
				t.Errorf("asked for %v, want %v", got, want)
			}
			given := firstVIP
			if want.IsValid() {
				given = want
			}
			if got := s.Assignment().Addresses[0].Addr(); got != given {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestUnityIsAskedFor only where the gateway has shown that it knows it.
func TestUnityIsAskedFor(t *testing.T) {
	for _, unity := range []bool{true, false} {
		inBoth(t, func(w *world) {
			if !unity {
				w.withoutVendor(capUnity)
			}
			w.start()
			w.dial()
			_, asked := isakmp.Find(w.configs(gateway.ConfigRequest)[0].Attributes, isakmp.UnitySplitInclude)
			if asked != unity {
				w.t.Errorf("asked for Unity's attributes: %v", asked)
			}
		})
	}
}

// TestWarnings: what is left out of the settings is told.
func TestWarnings(t *testing.T) {
	inWorld(t, func(w *world) {
		w.changeConfig(gateway.ConfigReply, func(c *isakmp.Config) {
			c.Attributes = append(c.Attributes, text(isakmp.UnitySplitDNS, "good.example,ba\nd"))
		})
		w.start()
		s := w.dial()
		if got := s.Assignment().SplitDNS; !slices.Equal(got, []string{"good.example"}) {
			t.Errorf("split DNS %q", got)
		}
		if e := w.eventsOf(EventWarning); len(e) != 1 || e[0].Code != "gateway-settings" || e[0].Step != StepGetSettings {
			t.Errorf("events %+v", e)
		}
	})
}

// TestAssignmentIsACopy: the caller's changes stay with the caller.
func TestAssignmentIsACopy(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		a := s.Assignment()
		a.Addresses[0], a.DNS[0], a.SplitInclude[0] = netip.Prefix{}, netip.Addr{}, netip.Prefix{}
		if b := s.Assignment(); !b.Addresses[0].IsValid() || !b.DNS[0].IsValid() || !b.SplitInclude[0].IsValid() {
			t.Error("the session's own settings were changed")
		}
	})
}
