package gateway

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/isakmp"
)

func types(m *Message) []isakmp.PayloadType {
	var ts []isakmp.PayloadType
	for _, p := range m.Payloads {
		ts = append(ts, p.Type)
	}
	return ts
}

func TestMainMode(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i := w.newInitiator(clientAt)
		i.say(i.mm1())
		mm2 := i.expect(isakmp.MainMode)
		chosen, err := isakmp.ParseSA(mm2.Payload(isakmp.PayloadSA))
		if err != nil || len(chosen.Proposals) != 1 || len(chosen.Proposals[0].Transforms) != 1 {
			t.Fatalf("%+v, %v", chosen, err)
		}
		want := slices.Clone(i.offer)
		want[6] = isakmp.BasicAttribute(isakmp.AttrLifeDuration, 28800) // shorter than the 86400 of the offer
		got := chosen.Proposals[0].Transforms[0].Attributes
		if !slices.EqualFunc(got, want, func(a, b isakmp.Attribute) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) }) {
			t.Errorf("chosen %+v", got)
		}
		if vids := only(mm2.Payloads, isakmp.PayloadVendorID); len(vids) != len(vendorIDs)+1 { // of NAT traversal
			t.Errorf("%d vendor IDs", len(vids))
		}
		i.say(i.mm3())
		mm4 := i.expect(isakmp.MainMode)
		i.takeKeys(mm4)
		h := i.suite.hash.hash
		natD := only(mm4.Payloads, isakmp.PayloadNATD)
		if len(natD) != 2 || !bytes.Equal(natD[0], h.natHash(i.ckyI, i.ckyR, clientAt)) || !bytes.Equal(natD[1], h.natHash(i.ckyI, i.ckyR, gatewayAt)) {
			t.Errorf("NAT-D %x", natD)
		}
		i.say(i.mm5())
		mm6 := i.expect(isakmp.MainMode)
		if got := types(mm6); !slices.Equal(got, []isakmp.PayloadType{isakmp.PayloadID, isakmp.PayloadCert, isakmp.PayloadSig}) {
			t.Errorf("MM6 %v", got)
		}
		id := mm6.Payload(isakmp.PayloadID)
		if string(id[4:]) != "gw.demo.test" || isakmp.IDType(id[0]) != isakmp.IDFQDN {
			t.Errorf("IDir %q", id)
		}
		if err := rsa.VerifyPKCS1v15(w.gateway.cfg.Key.Public().(*rsa.PublicKey), crypto.Hash(0), i.hashR(id), mm6.Payload(isakmp.PayloadSig)); err != nil {
			t.Errorf("SIG_R: %v", err)
		}
		c := w.gateway.Clients()
		if len(c) != 1 || c[0].Suite != "aes128-sha256-ecp256" || c[0].SignedIn || c[0].ClientNAT || c[0].GatewayNAT {
			t.Errorf("clients: %+v", c)
		}
	})
}

func TestAggressiveMode(t *testing.T) {
	for name, encrypted := range map[string]bool{"AM3 encrypted": true, "AM3 in clear": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(c *Config) { c.CertOnRequest = true }, func(w *world) {
				i := w.newInitiator(clientAt)
				m := &Message{Step: AM1, Header: i.header(isakmp.AggressiveMode, 0, false)}
				i.saPayload(m)
				i.keyPayloads(m)
				i.idiBody = isakmp.ID{Type: isakmp.IDKeyID, Protocol: 17, Port: 500, Data: []byte("group")}.Append(nil)
				m.Add(isakmp.PayloadID, i.idiBody)
				if encrypted {
					m.Add(isakmp.PayloadCertReq, isakmp.Cert{Encoding: isakmp.CertX509Sig}.Append(nil))
				}
				for _, v := range i.vendors {
					m.Add(isakmp.PayloadVendorID, v)
				}
				i.say(m)
				am2 := i.expect(isakmp.AggressiveMode)
				i.takeKeys(am2)
				if got := am2.Payload(isakmp.PayloadCert) != nil; got != encrypted {
					t.Errorf("certificate sent: %v, asked for: %v", got, encrypted)
				}
				last := am2.Payloads[len(am2.Payloads)-1]
				err := rsa.VerifyPKCS1v15(w.gateway.cfg.Key.Public().(*rsa.PublicKey), crypto.Hash(0), i.hashR(am2.Payload(isakmp.PayloadID)), last.Body)
				if last.Type != isakmp.PayloadSig || err != nil {
					t.Errorf("%v at the end of AM2: %v", last.Type, err)
				}
				am3 := &Message{Step: AM3, Header: i.header(isakmp.AggressiveMode, 0, encrypted)}
				am3.Add(isakmp.PayloadHash, i.hashI(i.idiBody))
				i.say(am3)
				if i.login() != uint64(isakmp.XAuthOK) {
					t.Error("the login was refused")
				}
			})
		})
	}
}

// TestNATFound tells the gateway wrong addresses.
func TestNATFound(t *testing.T) {
	inWorld(t, func(c *Config) { c.ForceEncapsulation = true }, func(w *world) {
		i := w.newInitiator(clientAt)
		i.say(i.mm1())
		i.expect(isakmp.MainMode)
		m := i.mm3()
		m.Remove(isakmp.PayloadNATD)
		for range 2 {
			m.Add(isakmp.PayloadNATD, make([]byte, 32))
		}
		i.say(m)
		mm4 := i.expect(isakmp.MainMode)
		if c := w.gateway.Clients(); !c[0].ClientNAT || !c[0].GatewayNAT {
			t.Errorf("%+v", c[0])
		}
		if ours := only(mm4.Payloads, isakmp.PayloadNATD)[1]; bytes.Equal(ours, i.suite.hash.hash.natHash(i.ckyI, i.ckyR, gatewayAt)) {
			t.Error("the hash of the gateway's address is right, which must be hidden")
		}
	})
}

// TestPhase1Refusals: what is offered is not accepted, or a message is wrong.
func TestPhase1Refusals(t *testing.T) {
	offer := func(change func(i *initiator)) func(t *testing.T) {
		return func(t *testing.T) {
			inWorld(t, func(c *Config) { c.IKE = []string{"aes128-sha256-ecp256", "3des-sha1-modp1024"} }, func(w *world) {
				i := w.newInitiator(clientAt)
				change(i)
				i.say(i.mm1())
				m := i.hear()
				if m == nil || m.Header.Encrypted() || m.Header.Exchange != isakmp.Informational || m.Header.MessageID == 0 {
					t.Fatalf("answer %+v", m)
				}
				n, err := isakmp.ParseNotify(m.Payload(isakmp.PayloadNotify))
				if err != nil || n.Type != isakmp.NotifyNoProposalChosen {
					t.Errorf("%+v, %v", n, err)
				}
				if c := w.gateway.Clients(); len(c) != 0 {
					t.Errorf("clients: %+v", c)
				}
			})
		}
	}
	t.Run("suite not accepted", offer(func(i *initiator) { i.offer[3] = isakmp.BasicAttribute(isakmp.AttrGroup, isakmp.GroupECP384) }))
	t.Run("unknown cipher", offer(func(i *initiator) { i.offer[0] = isakmp.BasicAttribute(isakmp.AttrEncryption, 8) }))
	t.Run("AES without key length", offer(func(i *initiator) { i.offer = slices.Delete(i.offer, 1, 2) }))
	t.Run("other method", offer(func(i *initiator) { i.offer[4] = isakmp.BasicAttribute(isakmp.AttrAuthMethod, 1) }))
	t.Run("unknown attribute", offer(func(i *initiator) { i.offer = append(i.offer, isakmp.BasicAttribute(13, 1)) }))
	t.Run("repeated attribute", offer(func(i *initiator) { i.offer = append(i.offer, i.offer[0]) }))
	t.Run("3DES with key length", offer(func(i *initiator) {
		i.offer[0] = isakmp.BasicAttribute(isakmp.AttrEncryption, isakmp.Cipher3DES)
		i.offer[2] = isakmp.BasicAttribute(isakmp.AttrHash, isakmp.HashSHA1)
		i.offer[3] = isakmp.BasicAttribute(isakmp.AttrGroup, isakmp.GroupMODP1024)
	}))

	silent := func(send func(i *initiator)) func(t *testing.T) {
		return func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				i := w.newInitiator(clientAt)
				send(i)
				if m := i.hear(); m != nil {
					t.Errorf("answer %+v", m)
				}
			})
		}
	}
	toMM3 := func(change func(i *initiator, m *Message)) func(i *initiator) {
		return func(i *initiator) {
			i.say(i.mm1())
			i.expect(isakmp.MainMode)
			m := i.mm3()
			change(i, m)
			i.say(m)
		}
	}
	t.Run("short nonce", silent(toMM3(func(_ *initiator, m *Message) { m.Replace(isakmp.PayloadNonce, make([]byte, 7)) })))
	t.Run("KE of zeros", silent(toMM3(func(_ *initiator, m *Message) { m.Replace(isakmp.PayloadKE, make([]byte, 64)) })))
	t.Run("no KE", silent(toMM3(func(_ *initiator, m *Message) { m.Remove(isakmp.PayloadKE) })))
	t.Run("two nonces", silent(toMM3(func(_ *initiator, m *Message) { m.Add(isakmp.PayloadNonce, make([]byte, 32)) })))
	t.Run("M-ID in MM3", silent(toMM3(func(_ *initiator, m *Message) { m.Header.MessageID = 1 })))
	t.Run("MM3 of another exchange", silent(toMM3(func(_ *initiator, m *Message) { m.Header.Exchange = isakmp.AggressiveMode })))
	t.Run("transaction before keys", silent(toMM3(func(i *initiator, m *Message) { m.Header.Exchange, m.Header.MessageID = isakmp.Transaction, 5 })))
	toMM5 := func(change func(i *initiator, m *Message)) func(i *initiator) {
		return func(i *initiator) {
			i.say(i.mm1())
			i.expect(isakmp.MainMode)
			i.say(i.mm3())
			i.takeKeys(i.expect(isakmp.MainMode))
			m := i.mm5()
			change(i, m)
			i.say(m)
		}
	}
	t.Run("wrong HASH_I", silent(toMM5(func(_ *initiator, m *Message) { m.Replace(isakmp.PayloadHash, make([]byte, 32)) })))
	t.Run("no HASH_I", silent(toMM5(func(_ *initiator, m *Message) { m.Remove(isakmp.PayloadHash) })))
	t.Run("MM5 in clear", silent(toMM5(func(_ *initiator, m *Message) { m.Header.Flags = 0 })))
}

// TestGarbage sends what is no message. The gateway must not answer nor stumble.
func TestGarbage(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, tun := w.connect()
		good := slices.Clone(i.sent)
		for n := range good {
			i.transmit(good[:n])
		}
		for _, b := range [][]byte{nil, {0xff}, {0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 1}, bytes.Repeat([]byte{0xff}, 100), make([]byte, 28)} {
			if _, err := i.conn.WriteTo(b, net.UDPAddrFromAddrPort(gatewayAt)); err != nil {
				t.Fatal(err)
			}
		}
		h := i.header(isakmp.MainMode, 0, false)
		h.CKYR = isakmp.Cookie{}
		i.transmit(isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadSA, Body: []byte{1, 2, 3}}))
		h.CKYR = isakmp.Cookie{1}
		i.transmit(isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadSA}))
		if m := i.raw(); m != nil {
			if answer := i.decode(m); answer.Header.Exchange != isakmp.Informational {
				t.Errorf("answer %+v", answer)
			}
		}
		i.sendInner(tun, packet(i.address, netip.MustParseAddr("10.9.0.1"), "still there"))
		if got := w.arrived(); len(got) != 1 {
			t.Errorf("%d packets arrived", len(got))
		}
	})
}

// TestDuplicates sends every message twice: the answer is the same bytes again, and
// nothing happens twice.
func TestDuplicates(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i := w.newInitiator(clientAt)
		// again repeats the last message and compares the answer.
		again := func(what string, answer []byte) {
			t.Helper()
			i.transmit(i.sent)
			if got := i.rawWithin(time.Second); !bytes.Equal(got, answer) {
				t.Errorf("%s: the answer to the duplicate differs", what)
			}
		}
		i.say(i.mm1())
		mm2 := i.raw()
		again("MM1", mm2)
		i.decode(mm2)
		i.say(i.mm3())
		mm4 := i.raw()
		again("MM3", mm4)
		i.takeKeys(i.decode(mm4))
		i.say(i.mm5())
		mm6, request := i.raw(), i.raw()
		again("MM5", mm6)
		i.decode(mm6)
		mid := i.decode(request).Header.MessageID
		i.config(XAuthReply, mid, isakmp.ConfigReply,
			isakmp.Attribute{Type: isakmp.XAuthUserName, Value: []byte("ada")}, isakmp.Attribute{Type: isakmp.XAuthPassword, Value: []byte("secret")})
		set := i.raw()
		if len(set) != isakmp.HeaderLen+48 { // HASH of 36 and ATTR of 12 bytes: nothing to pad
			t.Errorf("SET of %d bytes", len(set))
		}
		again("XAUTH REPLY", nil)
		i.config(XAuthAck, i.decode(set).Header.MessageID, isakmp.ConfigAck)
		again("XAUTH ACK", nil)
		i.config(ConfigRequest, 77, isakmp.ConfigRequest)
		reply := i.raw()
		again("CONFIG REQUEST", reply)
		i.decode(reply)
		i.address = netip.MustParseAddr("10.99.0.1")

		q := &quickMode{suite: i.espOffer, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix("0.0.0.0/0")}
		qm1 := i.quick1(q)
		i.say(qm1)
		qm2 := i.raw()
		again("QM1", qm2)
		i.finish(q, i.decode(qm2))
		i.say(&Message{Step: QM3, Header: i.header(isakmp.QuickMode, qm1.Header.MessageID, true), niBody: q.ni, nrBody: q.nr})
		again("QM3", nil)
		if c := w.gateway.Clients(); len(c) != 1 || len(c[0].Tunnels) != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestTampered flips a bit in each encrypted message: it is ignored, and the right
// message is still understood.
func TestTampered(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const flags = 19 // where they stand in the header
		i, _ := w.connect()
		tamper := func(m *Message) {
			t.Helper()
			raw := i.encode(m)
			for _, at := range []int{flags, isakmp.HeaderLen, isakmp.HeaderLen + 20, len(raw) - 1} {
				bad := slices.Clone(raw)
				bad[at] ^= 0x11
				i.transmit(bad)
				if answer := i.rawWithin(time.Second); answer != nil {
					t.Errorf("%s with byte %d changed was answered", m.Step, at)
				}
			}
			i.transmit(raw)
			if i.hear() == nil {
				t.Errorf("%s was not answered", m.Step)
			}
		}
		// The last block of a message is padding where it can be.
		cfg := &Message{Step: ConfigRequest, Header: i.header(isakmp.Transaction, 99, true)}
		cfg.Add(isakmp.PayloadAttribute, isakmp.Config{Type: isakmp.ConfigRequest, Attributes: []isakmp.Attribute{
			{Type: 1}, {Type: 2}, {Type: 3}, {Type: 4}, {Type: 5}, {Type: 6},
		}}.Append(nil))
		tamper(cfg)
		dpd := &Message{Step: Notify, Header: i.header(isakmp.Informational, 98, true)}
		dpd.Add(isakmp.PayloadNotify, isakmp.Notify{DOI: 1, Protocol: isakmp.ProtoISAKMP, SPI: make([]byte, 16), Type: isakmp.NotifyRUThere, Data: []byte{0, 0, 0, 5}}.Append(nil))
		tamper(dpd)
		// Last, because its answer is repeated.
		tamper(i.quick1(&quickMode{suite: i.espOffer, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix("10.0.0.0/8")}))
	})
}

// TestHalfOpen: a client that stops half-way is forgotten after 30 s.
func TestHalfOpen(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i := w.newInitiator(clientAt)
		i.say(i.mm1())
		i.expect(isakmp.MainMode)
		time.Sleep(halfOpenLife - time.Second)
		if len(w.gateway.Clients()) != 1 {
			t.Error("forgotten too early")
		}
		time.Sleep(time.Second + time.Nanosecond)
		if len(w.gateway.Clients()) != 0 {
			t.Error("not forgotten")
		}
	})
}

// TestFragments: the gateway sends its long messages in fragments and takes those of
// the client, in any order.
func TestFragments(t *testing.T) {
	inWorld(t, func(c *Config) { c.FragmentSize = 300 }, func(w *world) {
		i := w.newInitiator(clientAt)
		i.say(i.mm1())
		i.expect(isakmp.MainMode)
		i.say(i.mm3())
		i.takeKeys(i.expect(isakmp.MainMode))
		longest := 0
		w.net.SetFilter(func(from, to netip.AddrPort, d []byte) []Delivery {
			if from == gatewayAt {
				longest = max(longest, len(d))
			}
			return []Delivery{{Datagram: d}}
		})
		m := i.mm5()
		m.Add(isakmp.PayloadCertReq, make([]byte, 700))
		pieces := fragment(i.sa, i.encode(m), 250)
		if len(pieces) < 4 {
			t.Fatalf("%d fragments", len(pieces))
		}
		for _, n := range []int{3, 0, 0, 2, 1} { // out of order, with a duplicate
			i.transmit(pieces[n])
		}
		i.expect(isakmp.MainMode)
		synctest.Wait()
		if longest != 300 {
			t.Errorf("longest datagram of the gateway: %d bytes", longest)
		}
		if i.login() != uint64(isakmp.XAuthOK) {
			t.Error("the login was refused")
		}
	})
}

func TestNoFragments(t *testing.T) {
	inWorld(t, func(c *Config) { c.FragmentSize = -1 }, func(w *world) {
		i := w.newInitiator(clientAt)
		i.say(i.mm1())
		for _, v := range only(i.expect(isakmp.MainMode).Payloads, isakmp.PayloadVendorID) {
			if string(v) == fragmentationVID {
				t.Error("fragmentation is announced")
			}
		}
		i.say(i.mm3())
		i.takeKeys(i.expect(isakmp.MainMode))
		mm5 := i.encode(i.mm5())
		for _, f := range fragment(i.sa, mm5, 100) {
			i.transmit(f)
		}
		if i.rawWithin(time.Second) != nil {
			t.Error("fragments were taken")
		}
		i.transmit(mm5)
		if raw := i.raw(); len(raw) < 1000 {
			t.Errorf("MM6 in %d bytes", len(raw))
		}
	})
}

// TestAssembly: sets of fragments that make no sense are dropped.
func TestAssembly(t *testing.T) {
	g := &Gateway{}
	h := isakmp.Header{NextPayload: isakmp.PayloadFragment}
	add := func(a *assembly, number uint8, last bool, data string) []byte {
		body := isakmp.AppendPayloads(nil, isakmp.Payload{
			Type: isakmp.PayloadFragment,
			Body: isakmp.Fragment{ID: 1, Number: number, Last: last, Data: []byte(data)}.Append(nil),
		})
		return a.add(g, h, body)
	}
	var a assembly
	if add(&a, 1, false, "ab") != nil || add(&a, 2, true, "cd") == nil || a.parts != nil {
		t.Error("two fragments make no message, or leave something behind")
	}
	add(&a, 1, false, "old")
	if add(&a, 1, false, "new"); string(add(&a, 2, true, "!")) != "new!" {
		t.Error("a new message does not replace an old one with the same ID")
	}
	add(&a, 3, false, "beyond")
	if got := add(&a, 2, true, "last"); got != nil || a.parts[3] != nil {
		t.Error("a fragment after the last one")
	}
	a = assembly{}
	add(&a, 2, true, "last")
	if add(&a, 3, true, "another last"); a.last != 3 || a.parts[2] != nil {
		t.Error("two last fragments")
	}
	a = assembly{}
	if add(&a, maxFragments+1, true, "x"); a.parts != nil {
		t.Error("a fragment with too high a number")
	}
	big := string(make([]byte, 60000))
	add(&a, 1, false, big)
	if add(&a, 2, true, big) != nil || a.parts != nil {
		t.Error("a message beyond the bound")
	}
	if a.add(g, h, []byte{0, 0, 0, 9, 1, 2, 3}) != nil || a.add(g, h, []byte{0, 0, 0, 8, 0, 1, 0, 1}) != nil {
		t.Error("a malformed fragment")
	}
}

func TestConfigErrors(t *testing.T) {
	creds, err := SelfSigned("gw.demo.test")
	if err != nil {
		t.Fatal(err)
	}
	good := Config{Chain: creds.Chain, Key: creds.Key, Pool: netip.MustParsePrefix("10.0.0.0/24")}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no key":         func(c *Config) { c.Key = nil },
		"no certificate": func(c *Config) { c.Chain = nil },
		"no pool":        func(c *Config) { c.Pool = netip.Prefix{} },
		"IPv6 pool":      func(c *Config) { c.Pool = netip.MustParsePrefix("2001:db8::/64") },
		"no IPv6 pool":   func(c *Config) { c.Pool6 = netip.MustParsePrefix("192.0.2.0/24") },
		"small IPv6":     func(c *Config) { c.Pool6 = netip.MustParsePrefix("2001:db8::/124") },
		"no network":     func(c *Config) { c.Networks = make([]netip.Prefix, 1) },
		"IPv6 split":     func(c *Config) { c.Settings.SplitInclude = []netip.Prefix{netip.MustParsePrefix("::/0")} },
		"NAT traversal":  func(c *Config) { c.NATT = []string{"draft-04"} },
		"short lifetime": func(c *Config) { c.ESPLifetime = time.Millisecond },
		"tiny fragments": func(c *Config) { c.FragmentSize = 30 },
		"IKE suite":      func(c *Config) { c.IKE = []string{"aes128gcm16-sha1-modp2048"} },
		"IKE group":      func(c *Config) { c.IKE = []string{"aes128-sha1"} },
		"ESP suite":      func(c *Config) { c.ESP = []string{"aes128"} },
		"ESP cipher":     func(c *Config) { c.ESP = []string{"null-sha1"} },
		"ESP AEAD twice": func(c *Config) { c.ESP = []string{"aes128gcm16-sha1"} },
		"ESP surplus":    func(c *Config) { c.ESP = []string{"aes128-sha1-modp1024-x"} },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestTimerStops: a timer that is stopped after it fired, but before the loop came
// round to it, does nothing.
func TestTimerStops(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		var stopped, kept bool
		err := w.gateway.do(func() error {
			late := w.gateway.after(time.Second, func() { stopped = true })
			w.gateway.after(time.Second, func() { kept = true })
			time.Sleep(2 * time.Second) // keeps the loop busy
			late.stop()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if stopped || !kept {
			t.Errorf("the stopped timer ran: %v, the other: %v", stopped, kept)
		}
	})
}

// TestServeEnds: the two ways in which a gateway stops.
func TestServeEnds(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, _ := w.connect()
		w.stop()
		if d := i.deletion(); d.Protocol != isakmp.ProtoESP {
			t.Errorf("first %+v", d)
		}
		if d := i.deletion(); d.Protocol != isakmp.ProtoISAKMP || len(d.SPIs) != 1 || len(d.SPIs[0]) != 16 {
			t.Errorf("then %+v", d)
		}
		if err := <-w.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		w.served <- nil
		if err := w.gateway.Probe(i.address); !errors.Is(err, ErrStopped) {
			t.Errorf("a method after the end: %v", err)
		}
		if err := w.gateway.Serve(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("a second Serve: %v", err)
		}
	})
	inWorld(t, nil, func(w *world) {
		i, _ := w.connect()
		w.conn.Close()
		if err := <-w.served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
		w.served <- nil
		if m := i.raw(); m != nil {
			t.Error("a gateway that crashed said something")
		}
	})
}

// TestSecondOfThreeIsRepeated: AM2 and QM2 go out again until the third message is
// here, because the client does not know that it was lost.
func TestSecondOfThreeIsRepeated(t *testing.T) {
	repeated := func(i *initiator, second []byte) {
		t.Helper()
		for _, after := range []time.Duration{retransmitFirst, 3600 * time.Millisecond} {
			began := time.Now()
			if again := i.raw(); !bytes.Equal(again, second) || time.Since(began) != after {
				t.Errorf("after %v: %d bytes", time.Since(began), len(again))
			}
		}
	}
	inWorld(t, nil, func(w *world) {
		i := w.newInitiator(clientAt)
		m := &Message{Step: AM1, Header: i.header(isakmp.AggressiveMode, 0, false)}
		i.saPayload(m)
		i.keyPayloads(m)
		i.idiBody = isakmp.ID{Type: isakmp.IDKeyID, Data: []byte("group")}.Append(nil)
		m.Add(isakmp.PayloadID, i.idiBody)
		i.say(m)
		am2 := i.raw()
		repeated(i, am2)
		i.takeKeys(i.decode(am2))
		am3 := &Message{Step: AM3, Header: i.header(isakmp.AggressiveMode, 0, true)}
		am3.Add(isakmp.PayloadHash, i.hashI(i.idiBody))
		i.say(am3)
		for range 3 {
			if raw := i.raw(); bytes.Equal(raw, am2) {
				t.Error("AM2 came after AM3")
			}
		}
	})
	inWorld(t, nil, func(w *world) {
		i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
		suite, err := parseESPSuite("aes128gcm16")
		if err != nil {
			t.Fatal(err)
		}
		q := &quickMode{suite: suite, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix("0.0.0.0/0")}
		qm1 := i.quick1(q)
		i.say(qm1)
		qm2 := i.raw()
		repeated(i, qm2)
		i.finish(q, i.decode(qm2))
		i.say(&Message{Step: QM3, Header: i.header(isakmp.QuickMode, qm1.Header.MessageID, true), niBody: q.ni, nrBody: q.nr})
		if raw := i.rawWithin(time.Minute); raw != nil {
			t.Errorf("%d bytes after QM3", len(raw))
		}
	})
}
