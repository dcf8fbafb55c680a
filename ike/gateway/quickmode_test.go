package gateway

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/isakmp"
)

// server is an address behind the gateway.
var server = netip.MustParseAddr("10.9.0.1")

// TestTunnel builds a tunnel with every suite, with and without PFS, and moves
// packets in both directions.
func TestTunnel(t *testing.T) {
	for _, name := range []string{
		"aes128gcm16", "aes192gcm16", "aes256gcm16", "aes128-sha1", "aes192-sha256", "aes256-sha384", "aes256-sha512",
		"aes128-md5", "3des-sha1", "aes128gcm16-modp1024", "aes256-sha256-ecp384",
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(c *Config) { c.ESP = []string{name} }, func(w *world) {
				suite, err := parseESPSuite(name)
				if err != nil {
					t.Fatal(err)
				}
				i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
				tun, _ := i.quick(suite, "0.0.0.0/0")
				i.sendInner(tun, packet(i.address, server, "to the server"))
				got := w.arrived()
				if len(got) != 1 || string(got[0][20:]) != "to the server" {
					t.Fatalf("arrived %q", got)
				}
				if err := w.gateway.SendPacket(packet(server, i.address, "to the client")); err != nil {
					t.Fatal(err)
				}
				if got := i.inner(tun); !slices.Equal(got, []string{"to the client"}) {
					t.Errorf("received %q", got)
				}
				now := w.gateway.Clients()[0].Tunnels
				if len(now) != 1 || now[0].Suite != name || now[0].In.Packets != 1 || now[0].Out.Packets != 1 || now[0].SPIOut != tun.in.SPI() {
					t.Errorf("%+v", now)
				}
			})
		})
	}
}

// TestPolicy: packets that do not belong into the tunnel are dropped.
func TestPolicy(t *testing.T) {
	inWorld(t, func(c *Config) { c.Networks = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")} }, func(w *world) {
		i, tun := w.connect()
		for _, p := range [][]byte{
			packet(netip.MustParseAddr("10.99.0.2"), server, "another's source"),
			packet(i.address, netip.MustParseAddr("10.8.0.1"), "another network"),
		} {
			i.sendInner(tun, p)
		}
		if got := w.arrived(); len(got) != 0 {
			t.Errorf("arrived %q", got)
		}
		for _, p := range [][]byte{packet(server, netip.MustParseAddr("10.99.0.2"), "to another"), nil, {0x45}} {
			if err := w.gateway.SendPacket(p); err != nil {
				t.Fatal(err)
			}
		}
		if got := i.inner(tun); len(got) != 0 {
			t.Errorf("received %q", got)
		}
		narrow, _ := i.quick(i.espOffer, "10.9.0.0/25")
		i.sendInner(narrow, packet(i.address, netip.MustParseAddr("10.9.0.200"), "outside of the selector"))
		if got := w.arrived(); len(got) != 0 {
			t.Errorf("arrived %q", got)
		}
	})
}

func TestQuickModeRefusals(t *testing.T) {
	vip := netip.MustParsePrefix("10.99.0.1/32")
	for _, tt := range []struct {
		name   string
		change func(i *initiator, m *Message)
		want   isakmp.NotifyType
	}{
		{"another client's address", func(_ *initiator, m *Message) {
			m.Payloads[2].Body = selector(netip.MustParsePrefix("10.99.0.2/32"))
		}, isakmp.NotifyInvalidIDInfo},
		{"a network as client", func(_ *initiator, m *Message) {
			m.Payloads[2].Body = selector(netip.MustParsePrefix("10.99.0.0/24"))
		}, isakmp.NotifyInvalidIDInfo},
		{"unknown network", func(_ *initiator, m *Message) {
			m.Payloads[3].Body = selector(netip.MustParsePrefix("172.16.0.0/12"))
		}, isakmp.NotifyInvalidIDInfo},
		{"no IDs", func(_ *initiator, m *Message) { m.Remove(isakmp.PayloadID) }, isakmp.NotifyInvalidIDInfo},
		{"ID with a port", func(_ *initiator, m *Message) { m.Payloads[3].Body[3] = 80 }, isakmp.NotifyInvalidIDInfo},
		{"ID with a broken mask", func(_ *initiator, m *Message) {
			m.Payloads[3].Body = isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: []byte{10, 0, 0, 0, 255, 0, 255, 0}}.Append(nil)
		}, isakmp.NotifyInvalidIDInfo},
		{"ID with host bits", func(_ *initiator, m *Message) {
			m.Payloads[3].Body = isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: []byte{10, 9, 0, 1, 255, 255, 255, 0}}.Append(nil)
		}, isakmp.NotifyInvalidIDInfo},
		{"IPv6 ID", func(_ *initiator, m *Message) {
			m.Payloads[3].Body = isakmp.ID{Type: isakmp.IDIPv6Addr, Data: make([]byte, 16)}.Append(nil)
		}, isakmp.NotifyInvalidIDInfo},
		{"KE without PFS", func(_ *initiator, m *Message) { m.Add(isakmp.PayloadKE, make([]byte, 64)) }, isakmp.NotifyInvalidKeyInfo},
		{"other suite", func(i *initiator, m *Message) { i.offerESP(m, "aes256-sha1") }, isakmp.NotifyNoProposalChosen},
		{"PFS where none is accepted", func(i *initiator, m *Message) { i.offerESP(m, "aes128gcm16-ecp256") }, isakmp.NotifyNoProposalChosen},
		{"no encapsulation", func(i *initiator, m *Message) {
			i.mode = isakmp.EncapTunnel
			i.offerESP(m, "aes128gcm16")
			i.mode = isakmp.EncapUDPTunnel
		}, isakmp.NotifyNoProposalChosen},
		{"SPI of zero", func(_ *initiator, m *Message) {
			m.Payloads[0].Body = []byte(strings.Replace(string(m.Payloads[0].Body), spiOf(m), "\x00\x00\x00\x00", 1))
		}, isakmp.NotifyNoProposalChosen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(c *Config) {
				c.ESP, c.Networks = []string{"aes128gcm16"}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			}, func(w *world) {
				i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
				m := i.quick1(&quickMode{suite: i.espOffer, client: vip, remote: netip.MustParsePrefix("10.9.0.0/24")})
				tt.change(i, m)
				i.say(m)
				if n := i.notified(); n.Type != tt.want {
					t.Errorf("refused by %v, want %v", n.Type, tt.want)
				}
				if c := w.gateway.Clients(); len(c) != 1 || len(c[0].Tunnels) != 0 {
					t.Errorf("%+v", c)
				}
				i.quick(i.espOffer, "10.9.0.0/24") // what is right still works
			})
		})
	}
}

func spiOf(m *Message) string {
	offer, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
	if err != nil {
		panic(err)
	}
	return string(offer.Proposals[0].SPI)
}

// offerESP replaces the proposal of a QM1.
func (i *initiator) offerESP(m *Message, name string) {
	suite, err := parseESPSuite(name)
	if err != nil {
		i.w.t.Fatal(err)
	}
	q := &quickMode{suite: suite, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix("10.9.0.0/24")}
	other := i.quick1(q)
	m.Replace(isakmp.PayloadSA, other.Payload(isakmp.PayloadSA))
	if ke := other.Payload(isakmp.PayloadKE); ke != nil {
		m.Add(isakmp.PayloadKE, ke)
	}
}

// TestWrongQM3: without a right HASH(3) there is no tunnel; with it there is.
func TestWrongQM3(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
		q := &quickMode{suite: i.espOffer, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix("0.0.0.0/0")}
		qm1 := i.quick1(q)
		i.say(qm1)
		i.finish(q, i.expect(isakmp.QuickMode))
		before := i.chains[qm1.Header.MessageID].iv
		m := &Message{Step: QM3, Header: i.header(isakmp.QuickMode, qm1.Header.MessageID, true), niBody: q.ni, nrBody: q.nr}
		m.Hash = func(h []byte) []byte { h[31] ^= 1; return h }
		for _, want := range []int{0, 1} {
			i.chains[qm1.Header.MessageID].iv = before
			i.say(m)
			synctest.Wait()
			if c := w.gateway.Clients(); len(c[0].Tunnels) != want {
				t.Errorf("%d tunnels, want %d", len(c[0].Tunnels), want)
			}
			m.Hash = nil
		}
	})
}

// TestBundle: a proposal of ESP and IPComp is passed over for one of ESP alone.
func TestBundle(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
		m := i.quick1(&quickMode{suite: i.espOffer, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix("0.0.0.0/0")})
		offer, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
		if err != nil {
			t.Fatal(err)
		}
		alone := offer.Proposals[0]
		alone.Number = 2
		comp := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtoIPComp, SPI: []byte{1, 0}, Transforms: []isakmp.Transform{{Number: 1, ID: 2}}}
		offer.Proposals = append(offer.Proposals, comp, alone)
		m.Replace(isakmp.PayloadSA, offer.Append(nil))
		i.say(m)
		answer, err := isakmp.ParseSA(i.expect(isakmp.QuickMode).Payload(isakmp.PayloadSA))
		if err != nil || len(answer.Proposals) != 1 || answer.Proposals[0].Number != 2 {
			t.Errorf("%+v, %v", answer, err)
		}
	})
}

func TestNarrowing(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("10.8.0.0/24")}
	for _, tt := range []struct {
		narrow        bool
		offered, want string
	}{
		{false, "0.0.0.0/0", "0.0.0.0/0"},
		{true, "0.0.0.0/0", "10.9.0.0/24"},
		{true, "10.8.0.0/24", "10.8.0.0/24"},
		{true, "10.8.0.128/25", "10.8.0.128/25"},
	} {
		inWorld(t, func(c *Config) { c.Narrow, c.Networks = tt.narrow, networks }, func(w *world) {
			i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
			_, qm2 := i.quick(i.espOffer, tt.offered)
			got, err := parseSelector(only(qm2.Payloads, isakmp.PayloadID)[1])
			if err != nil || got.String() != tt.want {
				t.Errorf("narrow %v: %s became %v, %v", tt.narrow, tt.offered, got, err)
			}
		})
	}
}

// TestLifetimes: the gateway shortens what is offered, or says so by a Notify, and
// deletes at the end.
func TestLifetimes(t *testing.T) {
	for _, byNotify := range []bool{false, true} {
		inWorld(t, func(c *Config) {
			c.IKELifetime, c.ESPLifetime, c.ResponderLifetime = 100*time.Second, 30*time.Second, byNotify
		}, func(w *world) {
			began := time.Now()
			i := w.newInitiator(clientAt)
			mm6 := i.phase1Main()
			i.login()
			i.settingsFor(netip.Addr{})
			_, qm2 := i.quick(i.espOffer, "0.0.0.0/0")
			tunnelAt := time.Now()
			for what, m := range map[string]*Message{"100": mm6, "30": qm2} {
				body := m.Payload(isakmp.PayloadNotify)
				if (body != nil) != byNotify {
					t.Fatalf("Notify: %x", body)
				}
				if n, err := isakmp.ParseNotify(body); byNotify && (err != nil || n.Type != isakmp.NotifyResponderLifetime ||
					string(n.Data) != map[string]string{"100": "\x80\x01\x00\x01\x80\x02\x00\x64", "30": "\x80\x01\x00\x01\x80\x02\x00\x1e"}[what]) {
					t.Errorf("%+v, %v", n, err)
				}
			}
			answer, err := isakmp.ParseSA(qm2.Payload(isakmp.PayloadSA))
			if err != nil {
				t.Fatal(err)
			}
			life, _ := isakmp.Find(answer.Proposals[0].Transforms[0].Attributes, isakmp.AttrESPLifeDuration)
			if v, _ := life.Uint(); v != map[bool]uint64{false: 30, true: 7200}[byNotify] {
				t.Errorf("lifetime in QM2: %d", v)
			}
			if d := i.deletion(); d.Protocol != isakmp.ProtoESP || time.Since(tunnelAt) != 30*time.Second {
				t.Errorf("%+v after %v", d, time.Since(tunnelAt))
			}
			if d := i.deletionWithin(2 * time.Minute); d.Protocol != isakmp.ProtoISAKMP || time.Since(began) != 100*time.Second {
				t.Errorf("%+v after %v", d, time.Since(began))
			}
			if c := w.gateway.Clients(); len(c) != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

func (i *initiator) deletionWithin(d time.Duration) isakmp.Delete {
	i.w.t.Helper()
	raw := i.rawWithin(d)
	if raw == nil {
		i.w.t.Fatal("no Delete")
	}
	del, err := isakmp.ParseDelete(i.decode(raw).Payload(isakmp.PayloadDelete))
	if err != nil {
		i.w.t.Fatal(err)
	}
	return del
}

// TestRekeyByGateway: the gateway begins a Quick Mode, and uses the result.
func TestRekeyByGateway(t *testing.T) {
	for _, name := range []string{"aes128gcm16", "aes128-sha1-modp1024"} {
		inWorld(t, nil, func(w *world) {
			suite, err := parseESPSuite(name)
			if err != nil {
				t.Fatal(err)
			}
			i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
			old, _ := i.quick(suite, "10.9.0.0/24")
			synctest.Wait()
			if err := w.gateway.RekeyChild(i.address); err != nil {
				t.Fatal(err)
			}
			qm1 := i.expect(isakmp.QuickMode)
			rest := isakmp.AppendPayloads(nil, qm1.Payloads...)
			if want := i.suite.hash.hash.phase2Hash(i.keys.skeyidA, qm1.Header.MessageID, nil, rest); string(qm1.Hash(nil)) != string(want) {
				t.Error("wrong HASH(1)")
			}
			ids := only(qm1.Payloads, isakmp.PayloadID)
			if ours, theirs := string(ids[0]), string(ids[1]); ours != string(selector(netip.MustParsePrefix("10.9.0.0/24"))) ||
				theirs != string(selector(netip.PrefixFrom(i.address, 32))) {
				t.Errorf("IDs %q", ids)
			}
			fresh := i.answerQuick(suite, qm1)
			if len(i.expect(isakmp.QuickMode).Payloads) != 0 {
				t.Error("QM3 has payloads")
			}
			synctest.Wait()
			if err := w.gateway.SendPacket(packet(server, i.address, "new")); err != nil {
				t.Fatal(err)
			}
			if got := i.inner(fresh); !slices.Equal(got, []string{"new"}) {
				t.Errorf("received %q", got)
			}
			for _, tun := range []*tunnel{old, fresh} {
				i.sendInner(tun, packet(i.address, server, "x"))
			}
			if got := w.arrived(); len(got) != 2 {
				t.Errorf("%d packets arrived on the old and the new tunnel", len(got))
			}
			if err := w.gateway.DeleteChild(i.address); err != nil {
				t.Fatal(err)
			}
			if d := i.deletion(); d.Protocol != isakmp.ProtoESP || binary.BigEndian.Uint32(d.SPIs[0]) != fresh.out.SPI() {
				t.Errorf("%+v", d)
			}
		})
	}
}

// answerQuick is a Quick Mode as responder. QM2 is sent twice.
func (i *initiator) answerQuick(suite espSuite, qm1 *Message) *tunnel {
	i.w.t.Helper()
	q := &quickMode{suite: suite, spiIn: i.gw.newSPI(), nr: make([]byte, nonceLen), ni: qm1.Payload(isakmp.PayloadNonce)}
	i.gw.random(q.nr)
	offer, err := isakmp.ParseSA(qm1.Payload(isakmp.PayloadSA))
	if err != nil {
		i.w.t.Fatal(err)
	}
	q.spiOut = binary.BigEndian.Uint32(offer.Proposals[0].SPI)
	offer.Proposals[0].SPI = midBytes(q.spiIn)
	m := &Message{Step: QM2, Header: i.header(isakmp.QuickMode, qm1.Header.MessageID, true), niBody: q.ni}
	m.Add(isakmp.PayloadSA, offer.Append(nil))
	m.Add(isakmp.PayloadNonce, q.nr)
	if suite.group != nil {
		key, err := suite.group.newKey(i.gw.cfg.Rand)
		if err != nil {
			i.w.t.Fatal(err)
		}
		if q.gxy, err = key.secret(qm1.Payload(isakmp.PayloadKE)); err != nil {
			i.w.t.Fatal(err)
		}
		m.Add(isakmp.PayloadKE, key.public)
	}
	for _, id := range only(qm1.Payloads, isakmp.PayloadID) {
		m.Add(isakmp.PayloadID, id)
	}
	i.say(m)
	return i.keyTunnel(q)
}

// TestWrongQM2: an answer to the gateway's Quick Mode that differs from the offer.
func TestWrongQM2(t *testing.T) {
	for name, change := range map[string]func(i *initiator, m *Message){
		"other suite": func(i *initiator, m *Message) { i.offerESP(m, "aes256-sha1") },
		"other IDs": func(_ *initiator, m *Message) {
			m.Payloads[len(m.Payloads)-1].Body = selector(netip.MustParsePrefix("10.0.0.0/8"))
		},
		"IDs swapped": func(_ *initiator, m *Message) {
			m.Payloads[len(m.Payloads)-2].Body = m.Payloads[len(m.Payloads)-1].Body
		},
		"surplus KE":   func(_ *initiator, m *Message) { m.Add(isakmp.PayloadKE, make([]byte, 64)) },
		"short nonce":  func(_ *initiator, m *Message) { m.Replace(isakmp.PayloadNonce, make([]byte, 4)) },
		"no nonce":     func(_ *initiator, m *Message) { m.Remove(isakmp.PayloadNonce) },
		"wrong HASH":   func(_ *initiator, m *Message) { m.Hash = func(h []byte) []byte { h[0] ^= 1; return h } },
		"two suites":   func(_ *initiator, m *Message) { twice(m) },
		"reserved SPI": func(_ *initiator, m *Message) { lowSPI(m) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				i, _ := w.connect()
				if err := w.gateway.RekeyChild(i.address); err != nil {
					t.Fatal(err)
				}
				qm1 := i.expect(isakmp.QuickMode)
				m := &Message{Step: QM2, Header: i.header(isakmp.QuickMode, qm1.Header.MessageID, true), niBody: qm1.Payload(isakmp.PayloadNonce)}
				for _, p := range qm1.Payloads {
					m.Add(p.Type, p.Body)
				}
				change(i, m)
				i.say(m)
				if raw := i.rawWithin(retransmitFirst + time.Second); raw == nil || i.isNewMessage(raw) {
					t.Error("QM1 is not repeated")
				}
				if c := w.gateway.Clients(); len(c[0].Tunnels) != 1 {
					t.Errorf("%+v", c)
				}
			})
		})
	}
}

// isNewMessage tells a QM3 from a repeated QM1.
func (i *initiator) isNewMessage(raw []byte) bool {
	const hashAlone = isakmp.HeaderLen + 48
	return len(raw) <= hashAlone
}

func twice(m *Message) {
	offer, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
	if err != nil {
		panic(err)
	}
	tr := &offer.Proposals[0].Transforms
	*tr = append(*tr, (*tr)[0])
	m.Replace(isakmp.PayloadSA, offer.Append(nil))
}

func lowSPI(m *Message) {
	offer, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
	if err != nil {
		panic(err)
	}
	offer.Proposals[0].SPI = []byte{0, 0, 0, 255}
	m.Replace(isakmp.PayloadSA, offer.Append(nil))
}

// TestRekeyUnanswered: the gateway's QM1 is repeated, then it gives up and keeps
// what it has.
func TestRekeyUnanswered(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, tun := w.connect()
		if err := w.gateway.RekeyChild(i.address); err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; i.raw() != nil; n++ {
		}
		if n != 1+retransmitTries {
			t.Errorf("QM1 was sent %d times", n)
		}
		i.sendInner(tun, packet(i.address, server, "x"))
		if len(w.arrived()) != 1 {
			t.Error("the old tunnel is gone")
		}
	})
}
