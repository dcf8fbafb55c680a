package gateway

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// bundled makes ESP with IPComp and ESP alone of an initiator's QM1.
func bundled(t *testing.T, m *Message, half isakmp.Proposal) {
	t.Helper()
	offer, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
	if err != nil {
		t.Fatal(err)
	}
	alone := offer.Proposals[0]
	alone.Number = 2
	offer.Proposals = append(offer.Proposals, half, alone)
	m.Replace(isakmp.PayloadSA, offer.Append(nil))
}

// TestIPComp: a bundle is agreed to if the Config says so and it is DEFLATE in tunnel
// mode, and then packets are compressed both ways.
func TestIPComp(t *testing.T) {
	const cpi = 0x4321
	for _, tt := range []struct {
		name   string
		agrees bool
		change func(*isakmp.Proposal)
		want   bool
	}{
		{"agreed", true, func(*isakmp.Proposal) {}, true},
		{"not configured", false, func(*isakmp.Proposal) {}, false},
		{"another algorithm", true, func(p *isakmp.Proposal) { p.Transforms[0].ID = 3 }, false},
		{"no mode", true, func(p *isakmp.Proposal) { p.Transforms[0].Attributes = nil }, false},
		{"reserved CPI", true, func(p *isakmp.Proposal) { p.SPI = []byte{0, 9} }, false},
		{"long CPI", true, func(p *isakmp.Proposal) { p.SPI = []byte{0, 0, 9, 9} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(c *Config) { c.IPComp = tt.agrees }, func(w *world) {
				i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
				q := &quickMode{suite: i.espOffer, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix("0.0.0.0/0")}
				qm1 := i.quick1(q)
				half := isakmp.Proposal{
					Number: 1, Protocol: isakmp.ProtoIPComp, SPI: []byte{cpi >> 8, cpi & 0xff},
					Transforms: []isakmp.Transform{{Number: 1, ID: isakmp.IPCompDeflate, Attributes: []isakmp.Attribute{
						isakmp.BasicAttribute(isakmp.AttrESPEncapsulation, i.mode),
					}}},
				}
				tt.change(&half)
				bundled(t, qm1, half)
				i.say(qm1)
				qm2 := i.expect(isakmp.QuickMode)
				answer, err := isakmp.ParseSA(qm2.Payload(isakmp.PayloadSA))
				if err != nil {
					t.Fatal(err)
				}
				if got := len(answer.Proposals) == 2; got != tt.want {
					t.Fatalf("answer %+v", answer)
				}
				if !tt.want {
					return
				}
				theirs := binary.BigEndian.Uint16(answer.Proposals[1].SPI)
				if theirs < minCPI || answer.Proposals[0].Number != 1 || answer.Proposals[1].Number != 1 {
					t.Errorf("answer %+v", answer)
				}
				answer.Proposals = answer.Proposals[:1]
				qm2.Replace(isakmp.PayloadSA, answer.Append(nil)) // what finish understands
				i.finish(q, qm2)
				i.say(&Message{Step: QM3, Header: i.header(isakmp.QuickMode, qm1.Header.MessageID, true), niBody: q.ni, nrBody: q.nr})
				synctest.Wait()
				i.carry(i.keyTunnel(q), cpi, theirs)
			})
		})
	}
}

// carry sends a text both ways and looks at how it travels.
func (i *initiator) carry(tun *tunnel, ours, theirs uint16) {
	i.w.t.Helper()
	text := strings.Repeat("all work and no play ", 40)
	out, in := packet(i.address, netip.MustParseAddr("10.9.0.2"), text), packet(netip.MustParseAddr("10.9.0.2"), i.address, text)
	own := &child{sa: &sa{gw: i.gw}, in: tun.in, out: tun.out}
	own.compress(&quickMode{cpiIn: ours, cpiOut: theirs})
	i.sendInner(tun, bytes.Clone(out))
	if got := i.w.arrived(); len(got) != 1 || !bytes.Equal(got[0], out) {
		i.w.t.Errorf("%d packets arrived", len(got))
	}
	if err := i.w.gateway.SendPacket(in); err != nil {
		i.w.t.Fatal(err)
	}
	synctest.Wait()
	i.rawWithin(time.Second)
	if len(i.esp) != 1 || len(i.esp[0]) > len(text)/2 {
		i.w.t.Fatalf("%d packets came", len(i.esp))
	}
	got, err := tun.in.Open(make([]byte, maxInner), i.esp[0])
	if err != nil || !bytes.Equal(got, in) {
		i.w.t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestIPCompRefusals: what is no IPComp of this tunnel does not get through.
func TestIPCompRefusals(t *testing.T) {
	c := &ipcomp{cpiIn: 0x1000}
	for _, payload := range [][]byte{nil, {4, 0, 0x10}, {4, 0, 0x10, 1, 3, 0}, {4, 0, 0x10, 0}, {4, 0, 0x10, 0, 0xff, 0xff}} {
		if got, _, err := c.expand(make([]byte, maxInner), payload, esp.NextIPComp); err == nil {
			t.Errorf("%x became %x", payload, got)
		}
	}
}
