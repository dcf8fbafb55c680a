package gateway

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/isakmp"
)

// TestPushStyles: under which message ID and IV the settings are pushed.
func TestPushStyles(t *testing.T) {
	for style, name := range map[PushStyle]string{PushFresh: "fresh", PushChained: "chained", PushDerived: "derived", PushRaw: "raw"} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(c *Config) { c.Push, c.Quirks.Push = true, style }, func(w *world) {
				i := w.newInitiator(clientAt)
				i.phase1Main()
				mid, _ := i.expectConfig(isakmp.ConfigRequest)
				i.config(XAuthReply, mid, isakmp.ConfigReply,
					isakmp.Attribute{Type: isakmp.XAuthUserName, Value: []byte("ada")},
					isakmp.Attribute{Type: isakmp.XAuthPassword, Value: []byte("secret")})
				status, _ := i.expectConfig(isakmp.ConfigSet)
				i.config(XAuthAck, status, isakmp.ConfigAck)
				raw := i.raw()
				h, _, err := isakmp.ParseHeader(raw)
				if err != nil {
					t.Fatal(err)
				}
				switch style {
				case PushDerived:
					i.forgetChain(h.MessageID)
				case PushRaw:
					i.keepChain(h.MessageID, &chain{i.phase1IV.iv})
				}
				if same := h.MessageID == status; same != (style == PushChained || style == PushDerived) {
					t.Errorf("on the message ID of STATUS: %v", same)
				}
				c, err := isakmp.ParseConfig(i.decode(raw).Payload(isakmp.PayloadAttribute))
				if err != nil || c.Type != isakmp.ConfigSet {
					t.Fatalf("%+v, %v", c, err)
				}
				i.config(ConfigAck, h.MessageID, isakmp.ConfigAck)
				if i.rawWithin(time.Minute) != nil {
					t.Error("the SET is repeated though it was acknowledged")
				}
			})
		})
	}
}

// am1 begins Aggressive Mode.
func (i *initiator) am1() *Message {
	m := &Message{Step: AM1, Header: i.header(isakmp.AggressiveMode, 0, false)}
	i.exchange = isakmp.AggressiveMode
	i.saPayload(m)
	i.keyPayloads(m)
	i.idiBody = groupID("sales").Append(nil)
	m.Add(isakmp.PayloadID, i.idiBody)
	for _, v := range i.vendors {
		m.Add(isakmp.PayloadVendorID, v)
	}
	return m
}

// TestRedirected: to another gateway, in clear at once or after phase 1.
func TestRedirected(t *testing.T) {
	to := netip.MustParseAddr("192.0.2.77")
	check := func(t *testing.T, m *Message, encrypted bool) {
		t.Helper()
		n, err := isakmp.ParseNotify(m.Payload(isakmp.PayloadNotify))
		if err != nil || n.Type != isakmp.NotifyUnityLoadBalance || !bytes.Equal(n.Data, to.AsSlice()) || m.Header.Encrypted() != encrypted {
			t.Errorf("%+v, %v", n, err)
		}
	}
	for _, aggressive := range []bool{false, true} {
		inWorld(t, withQuirks(Quirks{Redirect: to}), func(w *world) {
			i := w.newInitiator(clientAt)
			if aggressive {
				i.say(i.am1())
			} else {
				i.say(i.mm1())
			}
			check(t, i.expect(isakmp.Informational), false)
		})
	}
	inWorld(t, withQuirks(Quirks{Redirect: to, RedirectLate: true}), func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		check(t, i.expect(isakmp.Informational), true)
	})
}

// TestAM1Refusals: what is told, and what is passed over in silence.
func TestAM1Refusals(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(i *initiator, m *Message)
		want   isakmp.NotifyType // 0: silence
	}{
		"suite": {func(i *initiator, m *Message) {
			i.offer[3] = isakmp.BasicAttribute(isakmp.AttrGroup, isakmp.GroupMODP768)
			i.saPayload(new(Message))
			m.Payloads[0].Body = i.saiBody
		}, isakmp.NotifyNoProposalChosen},
		"KE":        {func(_ *initiator, m *Message) { m.Replace(isakmp.PayloadKE, make([]byte, 64)) }, isakmp.NotifyInvalidKeyInfo},
		"no nonce":  {func(_ *initiator, m *Message) { m.Remove(isakmp.PayloadNonce) }, 0},
		"no ID":     {func(_ *initiator, m *Message) { m.Replace(isakmp.PayloadID, nil) }, 0},
		"encrypted": {func(_ *initiator, m *Message) { m.Header.Flags = isakmp.FlagEncrypted }, 0},
		"two proposals": {func(i *initiator, m *Message) {
			sa, err := isakmp.ParseSA(i.saiBody)
			if err != nil {
				i.w.t.Fatal(err)
			}
			sa.Proposals = append(sa.Proposals, sa.Proposals[0])
			m.Payloads[0].Body = sa.Append(nil)
		}, isakmp.NotifyNoProposalChosen},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				i := w.newInitiator(clientAt)
				m := i.am1()
				tt.change(i, m)
				i.transmit(isakmp.AppendMessage(nil, m.Header, m.Payloads...))
				answer := i.hear()
				if (answer == nil) != (tt.want == 0) {
					w.t.Fatalf("answer %+v", answer)
				}
				if answer != nil {
					if n, err := isakmp.ParseNotify(answer.Payload(isakmp.PayloadNotify)); err != nil || n.Type != tt.want {
						t.Errorf("%+v, %v", n, err)
					}
				}
			})
		})
	}
	t.Run("surplus bytes", func(t *testing.T) {
		inWorld(t, nil, func(w *world) {
			i := w.newInitiator(clientAt)
			raw := i.encode(i.am1())
			raw = append(raw, 0, 0, 0, 0)
			raw[27] += 4
			i.transmit(raw)
			if m := i.rawWithin(time.Second); m != nil {
				t.Errorf("answer %x", m)
			}
		})
	})
}

// TestIPv6Pool: an address of each family, the same host in both.
func TestIPv6Pool(t *testing.T) {
	inWorld(t, func(c *Config) {
		c.Pool6 = netip.MustParsePrefix("2001:db8::/96")
		c.Settings.DNS = []netip.Addr{netip.MustParseAddr("2001:db8:1::53")}
	}, func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		i.login()
		as := i.settingsFor(netip.Addr{})
		six, _ := isakmp.Find(as, isakmp.CfgIP6Address)
		dns, _ := isakmp.Find(as, isakmp.CfgIP6DNS)
		if want := netip.MustParseAddr("2001:db8::1"); !bytes.Equal(six.Value, want.AsSlice()) || len(dns.Value) != 16 {
			t.Errorf("%+v", as)
		}
		q := &quickMode{suite: i.espOffer, client: netip.MustParsePrefix("2001:db8::1/128"), remote: netip.MustParsePrefix("::/0")}
		i.say(i.quick1(q))
		if ids := only(i.expect(isakmp.QuickMode).Payloads, isakmp.PayloadID); len(ids) != 2 || isakmp.IDType(ids[0][0]) != isakmp.IDIPv6Addr {
			t.Errorf("IDs %x", ids)
		}
	})
}

// TestOffices: a network behind the client, for which it needs no address.
func TestOffices(t *testing.T) {
	inWorld(t, func(c *Config) {
		c.Offices = []netip.Prefix{netip.MustParsePrefix("192.168.5.0/24")}
		c.Networks, c.Quirks.NetworksOnly = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}, true
	}, func(w *world) {
		i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
		for _, tt := range []struct {
			client, remote string
			exchange       isakmp.ExchangeType
		}{
			{"192.168.5.0/24", "10.9.0.0/24", isakmp.QuickMode},
			{"192.168.5.64/26", "10.9.0.0/24", isakmp.QuickMode},
			{"192.168.4.0/23", "10.9.0.0/24", isakmp.Informational},
			{"192.168.5.0/24", "0.0.0.0/0", isakmp.Informational}, // not exactly the gateway's
		} {
			q := &quickMode{suite: i.espOffer, client: netip.MustParsePrefix(tt.client), remote: netip.MustParsePrefix(tt.remote)}
			qm1 := i.quick1(q)
			i.say(qm1)
			if i.expect(tt.exchange); tt.exchange != isakmp.QuickMode {
				continue
			}
			w.gateway.do(func() error { w.gatewaySAInLoop().dropQuickMode(qm1.Header.MessageID); return nil })
		}
	})
}

// gatewaySAInLoop is the gateway's only SA, for what runs in its loop.
func (w *world) gatewaySAInLoop() *sa {
	for _, s := range w.gateway.sas {
		return s
	}
	return nil
}

// TestReadyAfterCommit: with the commit bit the client hears when the gateway is ready.
func TestReadyAfterCommit(t *testing.T) {
	inWorld(t, withQuirks(Quirks{CommitBit: true}), func(w *world) {
		i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
		_, qm2 := i.quick(i.espOffer, "0.0.0.0/0")
		if qm2.Header.Flags&isakmp.FlagCommit == 0 {
			t.Error("no commit bit in QM2")
		}
		m := i.expect(isakmp.Informational)
		if n, err := isakmp.ParseNotify(m.Payload(isakmp.PayloadNotify)); err != nil || n.Type != isakmp.NotifyConnected || m.Header.MessageID != qm2.Header.MessageID {
			t.Errorf("%+v, %v", n, err)
		}
	})
}

// TestQM1Refusals: what is passed over in silence.
func TestQM1Refusals(t *testing.T) {
	for name, change := range map[string]func(*Message){
		"short nonce": func(m *Message) { m.Replace(isakmp.PayloadNonce, make([]byte, 7)) },
		"long nonce":  func(m *Message) { m.Replace(isakmp.PayloadNonce, make([]byte, 257)) },
		"two nonces":  func(m *Message) { m.Add(isakmp.PayloadNonce, make([]byte, 32)) },
		"no SA":       func(m *Message) { m.Remove(isakmp.PayloadSA) },
		"wrong HASH":  func(m *Message) { m.Hash = func([]byte) []byte { return make([]byte, 32) } },
		"no HASH":     func(m *Message) { m.Hash = func([]byte) []byte { return nil } },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
				m := i.quick1(&quickMode{suite: i.espOffer, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix("0.0.0.0/0")})
				change(m)
				i.say(m)
				if answer := i.rawWithin(time.Second); answer != nil {
					t.Errorf("answer %x", answer)
				}
			})
		})
	}
}

// TestToldLater: what may come from a client at any time.
func TestToldLater(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.another("198.51.100.7:1", "ada", netip.Addr{})
		time.Sleep(time.Second)
		i, _ := w.another("198.51.100.7:2", "ada", netip.Addr{})
		i.sayDPD(9999, 1, 0) // of a type that nobody knows
		for _, p := range []isakmp.Payload{{Type: isakmp.PayloadNotify, Body: []byte{1}}, {Type: isakmp.PayloadDelete, Body: []byte{1}}} {
			m := &Message{Step: Notify, Header: i.header(isakmp.Informational, 2, true), Payloads: []isakmp.Payload{p}}
			i.say(m)
		}
		synctest.Wait()
		if c := w.gateway.Clients(); len(c) != 2 {
			t.Errorf("%+v", c)
		}
		i.sayDPD(isakmp.NotifyInitialContact, 3, 0)
		synctest.Wait()
		if c := w.gateway.Clients(); len(c) != 1 || c[0].Peer != netip.MustParseAddrPort("198.51.100.7:2") {
			t.Errorf("after INITIAL-CONTACT: %+v", c)
		}
		if err := w.gateway.Probe(i.address); err != nil {
			t.Fatal(err)
		}
		if n := i.notified(); n.Type != isakmp.NotifyRUThere {
			t.Errorf("%+v", n)
		}
		if err := w.gateway.AskAgain(i.address); err != nil {
			t.Fatal(err)
		}
		if i.login() != uint64(isakmp.XAuthOK) {
			t.Error("not let in again")
		}
		i.conn.WriteTo([]byte("\x00\x00\x00\x00garbage"), net.UDPAddrFromAddrPort(gatewayAt))
		h := i.header(isakmp.NewGroupMode, 5, true)
		i.transmit(isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadHash, Body: make([]byte, 32)}))
		h.Exchange = isakmp.Transaction
		i.transmit(isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadHash, Body: make([]byte, 32)})) // no whole block
		if m := i.rawWithin(time.Second); m != nil {
			t.Errorf("garbage is answered by %x", m)
		}
	})
}

// TestNetSockets: ports of the network's choice, sockets without ports, and addresses
// that are none for them.
func TestNetSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNet()
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		one, two := listen(t, n, netip.AddrPortFrom(a, 0)), listen(t, n, netip.AddrPortFrom(a, 0))
		if one.LocalAddr().String() == two.LocalAddr().String() {
			t.Errorf("both have %v", one.LocalAddr())
		}
		raw, err := n.ListenIP(a)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		peer, err := n.ListenIP(b)
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if _, err := raw.WriteTo([]byte("esp"), &net.IPAddr{IP: b.AsSlice()}); err != nil {
			t.Fatal(err)
		}
		if err := peer.SetDeadline(time.Now().Add(time.Second)); err != nil || peer.SetWriteDeadline(time.Now()) != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		if size, from, err := peer.ReadFrom(buf); err != nil || string(buf[:size]) != "esp" || from.String() != a.String() {
			t.Errorf("%q from %v, %v", buf[:size], from, err)
		}
		if _, _, err := peer.ReadFrom(buf); err == nil {
			t.Error("no end at the deadline")
		}
		for conn, to := range map[net.PacketConn]net.Addr{raw: &net.UDPAddr{IP: b.AsSlice(), Port: 1}, one: &net.IPAddr{IP: b.AsSlice()}} {
			if _, err := conn.WriteTo([]byte("x"), to); err == nil {
				t.Errorf("%v sends to %T", conn.LocalAddr(), to)
			}
		}
	})
}

// TestMessageEdits are those of hooks.
func TestMessageEdits(t *testing.T) {
	m := new(Message)
	m.Add(isakmp.PayloadID, []byte("one"))
	m.Add(isakmp.PayloadNonce, []byte("two"))
	if m.Replace(isakmp.PayloadKE, nil) || !m.Replace(isakmp.PayloadID, []byte("three")) {
		t.Error("Replace says the wrong thing")
	}
	if m.Remove(isakmp.PayloadNonce); !slices.EqualFunc(m.Payloads, []isakmp.Payload{{Type: isakmp.PayloadID, Body: []byte("three")}},
		func(a, b isakmp.Payload) bool { return a.Type == b.Type && bytes.Equal(a.Body, b.Body) }) {
		t.Errorf("%+v", m.Payloads)
	}
	if m.Payload(isakmp.PayloadNonce) != nil {
		t.Error("a payload that was removed")
	}
}
