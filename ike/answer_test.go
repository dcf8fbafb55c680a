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

// changeIDs alters IDci and IDcr of QM2.
func changeIDs(f func(ids []isakmp.ID) []isakmp.ID) func(*gateway.Message) {
	return func(m *gateway.Message) {
		var ids []isakmp.ID
		for _, p := range m.Payloads {
			if p.Type == isakmp.PayloadID {
				id, err := isakmp.ParseID(p.Body)
				if err != nil {
					panic(err)
				}
				ids = append(ids, id)
			}
		}
		m.Remove(isakmp.PayloadID)
		for _, id := range f(ids) {
			m.Add(isakmp.PayloadID, id.Append(nil))
		}
	}
}

func networkID(prefix string) isakmp.ID { return selectorID(netip.MustParsePrefix(prefix)) }

// inSA makes a change of the message out of one of its SA answer.
func inSA(f func(*isakmp.SA)) func(*gateway.Message) {
	return func(m *gateway.Message) {
		sa, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
		if err != nil {
			panic(err)
		}
		f(&sa)
		m.Replace(isakmp.PayloadSA, sa.Append(nil))
	}
}

func spi(b ...byte) func(*gateway.Message) {
	return inSA(func(sa *isakmp.SA) { sa.Proposals[0].SPI = b })
}

func transformID(id uint8) func(*isakmp.SA) {
	return func(sa *isakmp.SA) { sa.Proposals[0].Transforms[0].ID = id }
}

// quickModeRefusals are answers that the gateway vouches for by its HASH(2), and
// that are none all the same.
var quickModeRefusals = []struct {
	name     string
	change   func(*gateway.Message)
	settings bool // it is the networks that do not fit
}{
	{name: "SPI 0", change: spi(0, 0, 0, 0)},
	{name: "reserved SPI", change: spi(0, 0, 0, 255)},
	{name: "SPI of two bytes", change: spi(1, 2)},
	{name: "SPI of eight bytes", change: spi(1, 2, 3, 4, 5, 6, 7, 8)},
	{name: "no SPI", change: spi()},
	{name: "tunnel without UDP", change: inSA(set(isakmp.AttrESPEncapsulation, isakmp.EncapTunnel))},
	{name: "transport", change: inSA(set(isakmp.AttrESPEncapsulation, isakmp.EncapTransport))},
	{name: "transport in UDP", change: inSA(set(isakmp.AttrESPEncapsulation, isakmp.EncapUDPTransport))},
	{name: "tunnel in UDP by another draft", change: inSA(set(isakmp.AttrESPEncapsulation, isakmp.EncapUDPTunnelDraft))},
	{name: "no encapsulation mode", change: inSA(without(isakmp.AttrESPEncapsulation))},
	{name: "ESN", change: inSA(add(isakmp.AttrESPESN, 1))},
	{name: "key rounds", change: inSA(add(isakmp.AttrESPKeyRounds, 1))},
	{name: "NULL", change: inSA(both(transformID(isakmp.ESPNull), without(isakmp.AttrESPKeyLength)))},
	{name: "NULL with its integrity", change: inSA(transformID(isakmp.ESPNull))},
	{name: "another cipher", change: inSA(transformID(isakmp.ESPAESCTR))},
	{name: "GCM instead of CBC", change: inSA(transformID(isakmp.ESPAESGCM16))},
	{name: "another key length", change: inSA(set(isakmp.AttrESPKeyLength, 128))},
	{name: "no key length", change: inSA(without(isakmp.AttrESPKeyLength))},
	{name: "another integrity", change: inSA(set(isakmp.AttrESPAuth, isakmp.ESPAuthMD5))},
	{name: "no integrity", change: inSA(without(isakmp.AttrESPAuth))},
	{name: "an attribute twice", change: inSA(add(isakmp.AttrESPAuth, isakmp.ESPAuthSHA256))},
	{name: "a group", change: inSA(add(isakmp.AttrESPGroup, isakmp.GroupMODP2048))},
	{name: "two transforms", change: inSA(func(sa *isakmp.SA) {
		p := &sa.Proposals[0]
		p.Transforms = append(p.Transforms, p.Transforms[0])
	})},
	{name: "two proposals", change: inSA(func(sa *isakmp.SA) { sa.Proposals = append(sa.Proposals, sa.Proposals[0]) })},
	{name: "AH", change: inSA(func(sa *isakmp.SA) { sa.Proposals[0].Protocol = isakmp.ProtoAH })},
	{name: "SA that cannot be read", change: func(m *gateway.Message) { m.Replace(isakmp.PayloadSA, []byte("SA")) }},
	{name: "nonce of 7 bytes", change: func(m *gateway.Message) { m.Replace(isakmp.PayloadNonce, make([]byte, 7)) }},
	{name: "nonce of 257 bytes", change: func(m *gateway.Message) { m.Replace(isakmp.PayloadNonce, make([]byte, 257)) }},
	{name: "KE that nobody asked for", change: func(m *gateway.Message) { m.Add(isakmp.PayloadKE, make([]byte, 64)) }},
	{name: "no IDs", change: changeIDs(func([]isakmp.ID) []isakmp.ID { return nil })},
	{name: "one ID", change: changeIDs(func(ids []isakmp.ID) []isakmp.ID { return ids[:1] })},
	{name: "ID for a port", change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		ids[1].Protocol, ids[1].Port = 17, 53
		return ids
	})},
	{name: "ID that is no network", change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{ids[0], {Type: isakmp.IDFQDN, Data: []byte("corp.example.com")}}
	})},
	{name: "ID with a torn mask", change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{ids[0], {Type: isakmp.IDIPv4Subnet, Data: []byte{10, 0, 0, 0, 255, 0, 255, 0}}}
	})},
	{name: "ID of a wrong length", change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{ids[0], {Type: isakmp.IDIPv4Subnet, Data: []byte{10, 0, 0, 0}}}
	})},
	{name: "another address", settings: true, change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{networkID("10.99.0.2/32"), ids[1]}
	})},
	{name: "our network instead of our address", settings: true, change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{networkID("10.99.0.0/24"), ids[1]}
	})},
	{name: "IDs exchanged", settings: true, change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{ids[1], ids[0]}
	})},
	{name: "networks of another family", settings: true, change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{ids[0], networkID("::/0")}
	})},
	{name: "a wider network", settings: true, change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{ids[0], networkID("10.8.0.0/13")}
	})},
	{name: "a network beside", settings: true, change: changeIDs(func(ids []isakmp.ID) []isakmp.ID {
		return []isakmp.ID{ids[0], networkID("10.11.0.0/16")}
	})},
}

// TestQuickModeAnswerRefused: such an answer ends the attempt at once.
func TestQuickModeAnswerRefused(t *testing.T) {
	for _, tt := range quickModeRefusals {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.ESP = suites(t, ParseESPSuite, "aes256-sha256")
				w.client.RemoteNetworks = w.gateway.Settings.SplitInclude
				w.change(gateway.QM2, tt.change)
				w.start()
				var err error
				d := elapsed(func() { _, err = w.tryDial() })
				if d != 0 {
					t.Errorf("it took %v", d)
				}
				if tt.settings {
					if e := wantError[*RefusedError](w.t, err); e.What != RefusedSettings || e.Step != StepBuildTunnel || !e.Authenticated {
						t.Errorf("%+v", e)
					}
				} else if e := wantError[*ProtocolError](w.t, err); e.Step != StepBuildTunnel {
					t.Errorf("%+v", e)
				}
				synctest.Wait()
				if n := len(w.gw.Clients()); n != 0 {
					t.Errorf("the gateway keeps %d SAs", n)
				}
				if n := len(w.messages(gateway.QM3)); n != 0 {
					t.Error("the answer was confirmed")
				}
			})
		})
	}
}

// TestQuickModeKE: with PFS there is exactly one good KE.
func TestQuickModeKE(t *testing.T) {
	g := findGroup("modp2048")
	changes := map[string]func(*gateway.Message){
		"missing":  func(m *gateway.Message) { m.Remove(isakmp.PayloadKE) },
		"no group": inSA(without(isakmp.AttrESPGroup)),
		"another group": allOf(inSA(set(isakmp.AttrESPGroup, isakmp.GroupECP256)), func(m *gateway.Message) {
			m.Replace(isakmp.PayloadKE, make([]byte, 64))
		}),
	}
	for name, ke := range badKEs(g) {
		changes[name] = func(m *gateway.Message) { m.Replace(isakmp.PayloadKE, ke) }
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.PFS = PFS(g.name)
				w.change(gateway.QM2, change)
				w.start()
				_, err := w.tryDial()
				if e := wantError[*ProtocolError](w.t, err); e.Step != StepBuildTunnel || time.Since(w.began) != 0 {
					t.Errorf("after %v: %+v", time.Since(w.began), e)
				}
			})
		})
	}
}

func allOf(fs ...func(*gateway.Message)) func(*gateway.Message) {
	return func(m *gateway.Message) {
		for _, f := range fs {
			f(m)
		}
	}
}

// TestQuickModeAnswerAccepted: what may differ from our offer.
func TestQuickModeAnswerAccepted(t *testing.T) {
	narrow := netip.MustParsePrefix("10.10.0.0/24")
	for _, tt := range []struct {
		name   string
		setup  func(*world)
		remote netip.Prefix
		life   time.Duration
	}{
		{"as offered", func(*world) {}, netip.MustParsePrefix("0.0.0.0/0"), espLifetime},
		{"narrowed", func(w *world) { w.gateway.Narrow, w.gateway.Networks = true, []netip.Prefix{narrow} }, narrow, espLifetime},
		{"shorter lifetime", func(w *world) { w.gateway.ESPLifetime = 10 * time.Minute }, netip.MustParsePrefix("0.0.0.0/0"), 10 * time.Minute},
		{
			"RESPONDER-LIFETIME", func(w *world) { w.gateway.ESPLifetime, w.gateway.ResponderLifetime = 10*time.Minute, true },
			netip.MustParsePrefix("0.0.0.0/0"), 10 * time.Minute,
		},
		{"longer lifetime", func(w *world) {
			w.changeSA(set(isakmp.AttrESPLifeDuration, 60000), gateway.QM2)
		}, netip.MustParsePrefix("0.0.0.0/0"), espLifetime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				tt.setup(w)
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				if c := s.Stats().Children[0]; c.Remote != tt.remote || c.Expires.Sub(c.Established) != tt.life {
					t.Errorf("%+v", c)
				}
			})
		})
	}
}

// TestPhase1ResponderLifetime: the gateway may tell its lifetime by a notification.
func TestPhase1ResponderLifetime(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeMain
		w.gateway.IKELifetime, w.gateway.ResponderLifetime = time.Hour, true
		w.start()
		if st := w.dial().Stats(); st.Expires.Sub(st.Established) != time.Hour {
			t.Errorf("lifetime %v", st.Expires.Sub(st.Established))
		}
	})
}

// TestQuickModeHash: without a right HASH(2) the answer is nobody's, and the true
// one may follow.
func TestQuickModeHash(t *testing.T) {
	wrong := func(m *gateway.Message) {
		m.Hash = func(right []byte) []byte { right[0] ^= 1; return right }
	}
	none := func(m *gateway.Message) {
		m.Hash = func([]byte) []byte { return nil }
	}
	for name, change := range map[string]func(*gateway.Message){"wrong": wrong, "none": none} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.change(gateway.QM2, change)
				w.start()
				_, err := w.tryDial()
				if name == "wrong" {
					if wantError[*ProtocolError](w.t, err); time.Since(w.began) != refusedPatience {
						t.Errorf("after %v: %v", time.Since(w.began), err)
					}
					return
				}
				wantError[*NoAnswerError](w.t, err)
			})
		})
	}
}

// TestSelectors: one ESP SA for everything, or one a network; and networks each for
// itself where the gateway refuses everything.
func TestSelectors(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16"), netip.MustParsePrefix("10.20.0.0/16")}
	refuseFirst := func(w *world) {
		first := true
		w.hook(gateway.QM2, func(m *gateway.Message) []*gateway.Message {
			if !first {
				return []*gateway.Message{m}
			}
			first = false
			n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, Type: isakmp.NotifyInvalidIDInfo}
			refusal := &gateway.Message{Header: m.Header} // not in m, whose HASH is that of Quick Mode
			refusal.Header.Exchange = isakmp.Informational
			refusal.Add(isakmp.PayloadNotify, n.Append(nil))
			return []*gateway.Message{refusal}
		})
	}
	for _, tt := range []struct {
		name      string
		selectors Selectors
		setup     func(*world)
		want      []netip.Prefix
		refused   bool
	}{
		{"auto", SelectorsAuto, func(*world) {}, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, false},
		{"one", SelectorsOne, func(*world) {}, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, false},
		{"per network", SelectorsPerNetwork, func(*world) {}, networks, false},
		{"auto, one is refused", SelectorsAuto, refuseFirst, networks, false},
		{"one, which is refused", SelectorsOne, refuseFirst, nil, true},
		{"one of the networks is refused", SelectorsPerNetwork, refuseFirst, networks[1:], false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.client.Selectors = tt.selectors
				w.gateway.Settings.SplitInclude = networks
				tt.setup(w)
				w.start()
				s, err := w.tryDial()
				if tt.refused {
					if e := wantError[*RefusedError](w.t, err); e.What != RefusedSettings || e.Notify != isakmp.NotifyInvalidIDInfo {
						t.Errorf("%+v", e)
					}
					return
				}
				if err != nil {
					w.t.Fatal(err)
				}
				var got []netip.Prefix
				for _, c := range slices.Backward(s.Stats().Children) {
					got = append(got, c.Remote)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("ESP SAs for %v, want %v", got, tt.want)
				}
				received := receive(s)
				synctest.Wait()
				for _, n := range tt.want {
					host := insideHost
					if n.Bits() > 0 {
						host = n.Addr().Next().Next()
					}
					out, in := ipv4(firstVIP, host, "out"), ipv4(host, firstVIP, "in")
					send(w.t, s, out)
					if err := w.gw.SendPacket(in); err != nil {
						w.t.Fatal(err)
					}
					synctest.Wait()
					if !w.gatewayHas(out) || !containsPacket(received(), in) {
						t.Errorf("%v does not carry packets", n)
					}
				}
			})
		})
	}
}
