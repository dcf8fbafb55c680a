package ike

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// editSA changes the proposals of the gateway's SA payload.
func (w *world) editSA(step gateway.Step, edit func(ps []isakmp.Proposal) []isakmp.Proposal) {
	w.change(step, func(m *gateway.Message) {
		sa, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
		if err != nil {
			w.t.Error(err)
			return
		}
		sa.Proposals = edit(sa.Proposals)
		m.Replace(isakmp.PayloadSA, sa.Append(nil))
	})
}

// setMode changes the encapsulation mode of a proposal; 0 takes it away.
func setMode(p *isakmp.Proposal, mode uint16) {
	t := &p.Transforms[0]
	t.Attributes = slices.DeleteFunc(slices.Clone(t.Attributes), func(a isakmp.Attribute) bool { return a.Type == isakmp.AttrESPEncapsulation })
	if mode != 0 {
		t.Attributes = append(t.Attributes, isakmp.BasicAttribute(isakmp.AttrESPEncapsulation, mode))
	}
}

// TestIPCompAnswers: which answers to a bundle are taken, and as what. ps[0] is ESP,
// ps[1] IPComp.
func TestIPCompAnswers(t *testing.T) {
	const compressed, plain, refused = "compressed", "plain", "refused"
	type proposals = []isakmp.Proposal
	with := func(change func(ps proposals)) func(proposals) proposals {
		return func(ps proposals) proposals { change(ps); return ps }
	}
	for _, tt := range []struct {
		name string
		edit func(proposals) proposals
		want string
	}{
		{"as it is", with(func(proposals) {}), compressed},
		{"ESP alone, under the bundle's number", func(ps proposals) proposals { return ps[:1] }, plain},
		{"IPComp first", func(ps proposals) proposals { return proposals{ps[1], ps[0]} }, compressed},
		{"ESP repeated behind it (strongSwan)", func(ps proposals) proposals {
			again := ps[0]
			again.Number++
			return append(ps, again)
		}, compressed},
		{"another number", with(func(ps proposals) { ps[0].Number, ps[1].Number = 7, 7 }), compressed},
		{"CPI of four bytes", with(func(ps proposals) { ps[1].SPI = append([]byte{0, 0}, ps[1].SPI...) }), compressed},
		{"CPI of DEFLATE", with(func(ps proposals) { ps[1].SPI = []byte{0, 2} }), compressed},
		{"private CPI", with(func(ps proposals) { ps[1].SPI = []byte{0xff, 0xff} }), compressed},
		{"IPComp in tunnel mode, ESP in UDP", with(func(ps proposals) { setMode(&ps[1], isakmp.EncapTunnel) }), compressed},
		{"ESP in transport mode", with(func(ps proposals) { setMode(&ps[0], isakmp.EncapUDPTransport) }), compressed},
		{"what is no attribute of IPComp", with(func(ps proposals) {
			as := &ps[1].Transforms[0].Attributes
			*as = append(*as, isakmp.BasicAttribute(isakmp.AttrESPGroup, 14), isakmp.BasicAttribute(isakmp.AttrESPAuth, 1))
		}), compressed},

		{"IPComp in transport mode", with(func(ps proposals) { setMode(&ps[1], isakmp.EncapTransport) }), refused},
		{"IPComp in UDP transport mode", with(func(ps proposals) { setMode(&ps[1], isakmp.EncapUDPTransport) }), refused},
		{"IPComp without a mode", with(func(ps proposals) { setMode(&ps[1], 0) }), refused},
		{"ESP without UDP", with(func(ps proposals) { setMode(&ps[0], isakmp.EncapTunnel) }), refused},
		{"ESP in transport mode, no IPComp", func(ps proposals) proposals { setMode(&ps[0], isakmp.EncapUDPTransport); return ps[:1] }, refused},
		{"LZS", with(func(ps proposals) { ps[1].Transforms[0].ID = 3 }), refused},
		{"CPI of zero", with(func(ps proposals) { ps[1].SPI = []byte{0, 0} }), refused},
		{"reserved CPI", with(func(ps proposals) { ps[1].SPI = []byte{0, 255} }), refused},
		{"CPI of another algorithm", with(func(ps proposals) { ps[1].SPI = []byte{0, 3} }), refused},
		{"no CPI", with(func(ps proposals) { ps[1].SPI = nil }), refused},
		{"CPI of three bytes", with(func(ps proposals) { ps[1].SPI = []byte{0, 1, 0} }), refused},
		{"CPI above 16 bits", with(func(ps proposals) { ps[1].SPI = []byte{0, 1, 1, 0} }), refused},
		{"two IPComp transforms", with(func(ps proposals) {
			ps[1].Transforms = append(ps[1].Transforms, ps[1].Transforms[0])
		}), refused},
		{"two ESP transforms", with(func(ps proposals) {
			ps[0].Transforms = append(ps[0].Transforms, ps[0].Transforms[0])
		}), refused},
		{"numbers that differ", with(func(ps proposals) { ps[1].Number++ }), refused},
		{"IPComp alone", func(ps proposals) proposals { return ps[1:] }, refused},
		{"ESP twice", func(ps proposals) proposals { return proposals{ps[0], ps[0], ps[1]} }, refused},
		{"IPComp twice", func(ps proposals) proposals { return proposals{ps[0], ps[1], ps[1]} }, refused},
		{"AH too", func(ps proposals) proposals {
			ah := ps[0]
			ah.Protocol = isakmp.ProtoAH
			return append(ps, ah)
		}, refused},
		{"ESP repeated with another SPI", func(ps proposals) proposals {
			again := ps[0]
			again.Number++
			again.SPI = []byte{9, 9, 9, 9}
			return append(ps, again)
		}, refused},
		{"the bundle repeated", func(ps proposals) proposals {
			again := slices.Clone(ps)
			again[0].Number, again[1].Number = 2, 2
			return append(ps, again...)
		}, refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.IPComp, w.gateway.IPComp = true, true
				w.editSA(gateway.QM2, tt.edit)
				w.start()
				s, err := w.tryDial()
				if tt.want == refused {
					wantError[*ProtocolError](t, err)
					return
				}
				if err != nil {
					t.Fatalf("%v\n%s", err, w.logText())
				}
				if got := s.Stats().Children[0].IPComp; got != (tt.want == compressed) {
					t.Errorf("compression: %v, want %s", got, tt.want)
				}
			})
		})
	}
}

// TestIPCompNotOffered: IPComp in an answer to an offer without it is no answer.
func TestIPCompNotOffered(t *testing.T) {
	inWorld(t, func(w *world) {
		w.editSA(gateway.QM2, func(ps []isakmp.Proposal) []isakmp.Proposal {
			return append(ps, isakmp.Proposal{
				Number: ps[0].Number, Protocol: isakmp.ProtoIPComp, SPI: []byte{9, 9},
				Transforms: []isakmp.Transform{{Number: 1, ID: isakmp.IPCompDeflate, Attributes: []isakmp.Attribute{
					isakmp.BasicAttribute(isakmp.AttrESPEncapsulation, isakmp.EncapTunnel),
				}}},
			})
		})
		w.start()
		_, err := w.tryDial()
		if e := wantError[*ProtocolError](t, err); !strings.Contains(e.Error(), "not offered") {
			t.Error(e)
		}
	})
}

// TestIPCompProposals: which of the gateway's own proposals is answered. It offers a
// bundle, and ESP alone behind it.
func TestIPCompProposals(t *testing.T) {
	type proposals = []isakmp.Proposal
	for _, tt := range []struct {
		name       string
		asked      bool
		edit       func(proposals) proposals
		compressed bool
		refused    bool
	}{
		{"both", true, func(ps proposals) proposals { return ps }, true, false},
		{"bundle only", true, func(ps proposals) proposals { return ps[:2] }, true, false},
		{"bundle only, not asked for", false, func(ps proposals) proposals { return ps[:2] }, false, true},
		{"LZS first", true, func(ps proposals) proposals {
			lzs := ps[1].Transforms[0]
			lzs.ID = 3
			ps[1].Transforms = []isakmp.Transform{lzs, ps[1].Transforms[0]}
			return ps
		}, true, false},
		{"LZS only", true, func(ps proposals) proposals { ps[1].Transforms[0].ID = 3; return ps }, false, false},
		{"transport mode", true, func(ps proposals) proposals { setMode(&ps[1], isakmp.EncapTransport); return ps }, false, false},
		{"no suite in the bundle", true, func(ps proposals) proposals {
			ps[0].Transforms = slices.Clone(ps[0].Transforms)
			ps[0].Transforms[0].ID = 99
			return ps
		}, false, false},
		{"AH in the bundle", true, func(ps proposals) proposals { ps[1].Protocol = isakmp.ProtoAH; return ps }, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.IPComp, w.gateway.IPComp = true, true
				w.start()
				s := w.dial()
				received := receive(s)
				s.cfg.IPComp = tt.asked
				w.editSA(gateway.QM1, tt.edit)
				before := s.Stats().Children[0].SPIIn
				if err := w.gw.RekeyChild(s.Assignment().Addresses[0].Addr()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * activateAfter)
				synctest.Wait()
				now := s.Stats().Children[0]
				if refused := now.SPIIn == before; refused != tt.refused {
					t.Fatalf("refused: %v\n%s", refused, w.logText())
				}
				if tt.refused {
					if !strings.Contains(w.logText(), "the profile does not ask for") {
						t.Error("the log does not say why")
					}
					return
				}
				w.wantCompression(s, received, "rekeyed", tt.compressed)
			})
		})
	}
}

// TestIPCompBadPackets: what cannot be expanded is dropped and counted; the session
// goes on.
func TestIPCompBadPackets(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.IPComp, w.gateway.IPComp = true, true
		w.start()
		s := w.dial()
		received := receive(s)
		vip := s.Assignment().Addresses[0].Addr()
		// Another CPI of ours than the one that the gateway knows.
		c := s.children[0]
		right := c.cpiIn
		byOwner(w.t, s, func() { c.cpiIn++ })
		packet := ipv4(insideHost, vip, compressible)
		if err := w.gw.SendPacket(packet); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		if bad := s.Stats().Children[0].BadIPComp; bad != 1 || containsPacket(received(), packet) {
			w.t.Errorf("%d bad packets, %d received", bad, len(received()))
		}
		byOwner(w.t, s, func() { c.cpiIn = right })
		w.exchangePackets(s, received, compressible)
		w.wantAlive(s)
	})
}

// TestIPCompSibling: the CPI of any ChildSA is known, that of none is not.
func TestIPCompSibling(t *testing.T) {
	s := &Session{}
	children := map[uint32]*childSA{1: {cpiIn: 1000}, 2: {cpiIn: 2000}, 3: {}}
	s.inbound.Store(&children)
	for cpi, want := range map[uint16]bool{1000: true, 2000: true, 3000: false, 0: false} {
		if s.knowsCPI(cpi) != want {
			t.Errorf("CPI %d is known: %v", cpi, !want)
		}
	}
}

// TestIPCompSelectors: it is the expanded packet that must fit the policy.
func TestIPCompSelectors(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.IPComp, w.gateway.IPComp = true, true
		w.start()
		s := w.dial()
		received := receive(s)
		byOwner(w.t, s, func() {
			s.children[0].in.ExpandWith(func(dst, payload []byte, next byte) ([]byte, byte, error) {
				x := newExpander(s.knowsCPI, s.policy.Load().ours)
				p, next, err := x.expand(dst, bytes.Clone(payload), next)
				if err == nil && next == esp.NextIPv4 {
					copy(p[12:], []byte{192, 168, 77, 1}) // a source outside of the gateway's networks
				}
				return p, next, err
			})
		})
		if err := w.gw.SendPacket(ipv4(insideHost, s.Assignment().Addresses[0].Addr(), compressible)); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		if n := len(received()); n != 0 {
			w.t.Errorf("%d packets from a foreign source came through", n)
		}
		if st := s.Stats().Children[0]; st.PacketsIn != 1 || st.BadIPComp != 0 {
			w.t.Errorf("%+v", st)
		}
	})
}
