package gateway

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"wayfarer/ike/isakmp"
)

// withQuirks sets the quirks of a gateway.
func withQuirks(q Quirks) func(*Config) { return func(c *Config) { c.Quirks = q } }

// TestQuirkyVendorIDs: what is shown beside the usual ones, late, or in their place.
func TestQuirkyVendorIDs(t *testing.T) {
	own := []byte("a vendor of its own")
	has := func(m *Message, id string) bool {
		return slices.ContainsFunc(only(m.Payloads, isakmp.PayloadVendorID), func(b []byte) bool { return string(b) == id })
	}
	for _, tt := range []struct {
		quirks    Quirks
		mm2, mm4  string
		notInMM2  string
		emptyCert bool
	}{
		{quirks: Quirks{VendorIDs: [][]byte{own}}, mm2: string(own)},
		{quirks: Quirks{LateDPD: true}, mm4: dpdVID, notInMM2: dpdVID},
		{quirks: Quirks{NetgearDPD: true}, mm2: netgearDPDVID, notInMM2: dpdVID},
		{quirks: Quirks{EmptyCertRequest: true}, emptyCert: true},
	} {
		inWorld(t, withQuirks(tt.quirks), func(w *world) {
			i := w.newInitiator(clientAt)
			i.say(i.mm1())
			mm2 := i.expect(isakmp.MainMode)
			i.say(i.mm3())
			mm4 := i.expect(isakmp.MainMode)
			if tt.mm2 != "" && !has(mm2, tt.mm2) || tt.mm4 != "" && !has(mm4, tt.mm4) || tt.notInMM2 != "" && has(mm2, tt.notInMM2) {
				t.Errorf("%+v: MM2 %s, MM4 %s", tt.quirks, isakmp.Describe(mm2.Payloads), isakmp.Describe(mm4.Payloads))
			}
			if got := bytes.Equal(mm4.Payload(isakmp.PayloadCertReq), []byte{isakmp.CertX509Sig}); got != tt.emptyCert {
				t.Errorf("%+v: CERTREQ for nobody: %v", tt.quirks, got)
			}
		})
	}
}

// TestStrictOffers: what is refused that others take.
func TestStrictOffers(t *testing.T) {
	for name, tt := range map[string]struct {
		quirks Quirks
		change func(*initiator)
	}{
		"lifetime":     {Quirks{StrictLifetime: true}, func(*initiator) {}}, // 86400 s is offered
		"no vendor ID": {Quirks{NeedXAuthVendor: true}, func(i *initiator) { i.vendors = i.vendors[1:] }},
		"hybrid":       {Quirks{NoHybrid: true}, func(*initiator) {}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, withQuirks(tt.quirks), func(w *world) {
				i := w.newInitiator(clientAt)
				tt.change(i)
				i.say(i.mm1())
				if n, err := isakmp.ParseNotify(i.hear().Payload(isakmp.PayloadNotify)); err != nil || n.Type != isakmp.NotifyNoProposalChosen {
					t.Errorf("%+v, %v", n, err)
				}
			})
		})
	}
	t.Run("fitting", func(t *testing.T) {
		inWorld(t, func(c *Config) {
			c.IKELifetime = 24 * time.Hour
			c.Quirks = Quirks{StrictLifetime: true, NeedXAuthVendor: true}
		}, func(w *world) { w.newInitiator(clientAt).phase1Main() })
	})
}

// TestStrictMessages: what is passed over in silence.
func TestStrictMessages(t *testing.T) {
	inWorld(t, withQuirks(Quirks{StrictNATD: true}), func(w *world) {
		i := w.newInitiator(clientAt)
		i.say(i.mm1())
		i.expect(isakmp.MainMode)
		m := i.mm3()
		m.Add(isakmp.PayloadNATDDraft, make([]byte, 32))
		i.say(m)
		if answer := i.rawWithin(time.Second); answer != nil {
			t.Errorf("NAT-D of a draft is answered by %x", answer)
		}
		i.say(i.mm3())
		i.expect(isakmp.MainMode)
	})
	inWorld(t, withQuirks(Quirks{ClientID: isakmp.ID{Type: isakmp.IDUserFQDN}}), func(w *world) {
		i := w.newInitiator(clientAt)
		i.say(i.mm1())
		i.expect(isakmp.MainMode)
		i.say(i.mm3())
		i.takeKeys(i.expect(isakmp.MainMode))
		i.say(i.mm5())
		if answer := i.rawWithin(time.Second); answer != nil {
			t.Errorf("a stranger is answered by %x", answer)
		}
		m := &Message{Step: MM5, Header: i.header(isakmp.MainMode, 0, true)}
		i.phase1IV.iv = i.suite.hash.hash.phase1IV(i.gxi, i.gxr, i.block.BlockSize())
		i.idiBody = isakmp.ID{Type: isakmp.IDUserFQDN}.Append(nil)
		m.Add(isakmp.PayloadID, i.idiBody)
		m.Add(isakmp.PayloadHash, i.hashI(i.idiBody))
		i.say(m)
		i.expect(isakmp.MainMode)
	})
}

// TestClearMM6, padding at random, and a client that lives with both.
func TestClearMM6(t *testing.T) {
	inWorld(t, withQuirks(Quirks{ClearMM6: true, RandomPadding: true}), func(w *world) {
		i := w.newInitiator(clientAt)
		if m := i.phase1Main(); m.Header.Encrypted() || m.Payload(isakmp.PayloadSig) == nil {
			t.Errorf("%+v", m)
		}
		if i.login() != uint64(isakmp.XAuthOK) {
			t.Error("not let in")
		}
		size := i.block.BlockSize()
		for n := range 2 * size {
			padded := w.gatewaySA().pad(make([]byte, n))
			if len(padded)%size != 0 || len(padded) <= n || int(padded[len(padded)-1]) != len(padded)-n {
				t.Errorf("%d bytes are padded to %d, the last is %d", n, len(padded), padded[len(padded)-1])
			}
		}
	})
}

// gatewaySA is the gateway's only SA.
func (w *world) gatewaySA() (only *sa) {
	_ = w.gateway.do(func() error {
		for _, s := range w.gateway.sas {
			only = s
		}
		return nil
	})
	return only
}

// TestQuirkyXAuth: a TYPE, Check Point's numbers, and no patience with a wrong login.
func TestQuirkyXAuth(t *testing.T) {
	inWorld(t, withQuirks(Quirks{XAuthType: true, CheckPointXAuth: true}), func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		mid, c := i.expectConfig(isakmp.ConfigRequest)
		if len(c.Attributes) != 3 || c.Attributes[0].Type != 13 || !c.Attributes[0].Basic || c.Attributes[1].Type != 14 || c.Attributes[2].Type != 15 {
			t.Errorf("asked for %+v", c.Attributes)
		}
		i.config(XAuthReply, mid, isakmp.ConfigReply,
			isakmp.Attribute{Type: 14, Value: []byte("ada")}, isakmp.Attribute{Type: 15, Value: []byte("secret")})
		if _, c = i.expectConfig(isakmp.ConfigSet); len(c.Attributes) != 1 || c.Attributes[0].Type != 20 {
			t.Errorf("STATUS as %+v", c.Attributes)
		}
	})
	inWorld(t, withQuirks(Quirks{DeleteOnFail: true}), func(w *world) {
		i := w.newInitiator(clientAt)
		i.password = "wrong"
		i.phase1Main()
		mid, _ := i.expectConfig(isakmp.ConfigRequest)
		i.config(XAuthReply, mid, isakmp.ConfigReply, isakmp.Attribute{Type: isakmp.XAuthUserName, Value: []byte("ada")})
		if _, c := i.expectConfig(isakmp.ConfigSet); len(c.Attributes) != 1 {
			t.Errorf("%+v", c)
		}
		if d := i.deletion(); d.Protocol != isakmp.ProtoISAKMP {
			t.Errorf("%+v", d)
		}
	})
}

// TestSkipSignIn: a client that is known is let in at once; its request for settings
// is not answered, and its address and tunnel go over.
func TestSkipSignIn(t *testing.T) {
	inWorld(t, withQuirks(Quirks{SkipSignIn: true}), func(w *world) {
		w.connect()
		time.Sleep(time.Second)
		j := w.newInitiator(netip.MustParseAddrPort("198.51.100.7:40001"))
		j.phase1Main()
		j.config(ConfigRequest, 5, isakmp.ConfigRequest, isakmp.Attribute{Type: isakmp.CfgIP4Address})
		if m := j.rawWithin(time.Minute); m != nil {
			t.Errorf("asked or answered: %+v", j.decode(m))
		}
		c := w.gateway.Clients()
		if len(c) != 2 || c[0].Address.IsValid() || c[1].Address.String() != "10.99.0.1" || !c[1].SignedIn || len(c[1].Tunnels) != 1 {
			t.Errorf("%+v", c)
		}
		k := w.newInitiator(netip.MustParseAddrPort("198.51.100.8:40001")) // from elsewhere
		k.phase1Main()
		k.expectConfig(isakmp.ConfigRequest)
	})
}

// TestQuirkySettings: only what was asked for, after requests that were not heard, in
// the words of racoon.
func TestQuirkySettings(t *testing.T) {
	settings := Settings{
		Banner: "Hi", SplitDNS: []string{"a.test", "b.test"}, SplitInclude: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")},
	}
	inWorld(t, func(c *Config) { c.Settings, c.Quirks = settings, Quirks{OnlyAsked: true, DeafToRequests: 2} }, func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		i.login()
		m := &Message{Step: ConfigRequest, Header: i.header(isakmp.Transaction, 5, true)}
		m.Add(isakmp.PayloadAttribute, isakmp.Config{Type: isakmp.ConfigRequest, Attributes: []isakmp.Attribute{{Type: isakmp.UnityBanner}}}.Append(nil))
		raw := i.encode(m)
		for range 2 {
			if i.transmit(raw); i.rawWithin(time.Second) != nil {
				t.Error("heard too early")
			}
		}
		i.transmit(raw)
		if _, c := i.expectConfig(isakmp.ConfigReply); len(c.Attributes) != 1 || c.Attributes[0].Type != isakmp.UnityBanner {
			t.Errorf("%+v", c.Attributes)
		}
	})
	inWorld(t, func(c *Config) { c.Settings, c.Quirks = settings, Quirks{ZeroSplitDNS: true, SpoiltPorts: true} }, func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		i.login()
		as := i.settingsFor(netip.Addr{})
		names, _ := isakmp.Find(as, isakmp.UnitySplitDNS)
		networks, _ := isakmp.Find(as, isakmp.UnitySplitInclude)
		if string(names.Value) != "a.test\x00,b.test\x00" || len(networks.Value) != 14 || bytes.Equal(networks.Value[8:], make([]byte, 6)) {
			t.Errorf("%q, %x", names.Value, networks.Value)
		}
	})
}

// TestAddressByUser: who signs in again has the same address, though he did not ask.
func TestAddressByUser(t *testing.T) {
	for _, quirk := range []bool{true, false} {
		inWorld(t, withQuirks(Quirks{AddressByUser: quirk}), func(w *world) {
			_, first := w.another("198.51.100.7:1", "ada", netip.Addr{})
			if _, second := w.another("198.51.100.8:1", "ada", netip.Addr{}); (first == second) != quirk {
				t.Errorf("%v: %v, then %v", quirk, first, second)
			}
		})
	}
}

// TestQuirkyInformationals: lifetimes, Deletes and acknowledgements of probes as some
// gateways send them.
func TestQuirkyInformationals(t *testing.T) {
	inWorld(t, func(c *Config) {
		c.ResponderLifetime, c.ESPLifetime = true, time.Hour
		c.Quirks = Quirks{OddLifetimes: true, DeleteTheirs: true, ReversedCookies: true, ProbeMID: true}
	}, func(w *world) {
		i, _ := w.another(clientAt.String(), "ada", netip.Addr{})
		tun, qm2 := i.quick(i.espOffer, "0.0.0.0/0")
		n, err := isakmp.ParseNotify(qm2.Payload(isakmp.PayloadNotify))
		if err != nil {
			t.Fatal(err)
		}
		as, err := isakmp.ParseAttributes(n.Data)
		if err != nil || len(as) != 5 || as[0].Type != 77 || as[3].Type != isakmp.AttrESPLifeType {
			t.Errorf("%+v, %v", as, err)
		}
		i.sayDPD(isakmp.NotifyRUThere, 4711, 1)
		ack := i.expect(isakmp.Informational)
		if n, err := isakmp.ParseNotify(ack.Payload(isakmp.PayloadNotify)); err != nil || ack.Header.MessageID != 4711 ||
			!bytes.Equal(n.SPI, slices.Concat(i.ckyR[:], i.ckyI[:])) {
			t.Errorf("under %d: %+v, %v", ack.Header.MessageID, n, err)
		}
		if err := w.gateway.DeleteChild(i.address); err != nil {
			t.Fatal(err)
		}
		if d := i.deletion(); d.DOI != 0 || binary.BigEndian.Uint32(d.SPIs[0]) != tun.in.SPI() {
			t.Errorf("%+v, the client receives on %08x", d, tun.in.SPI())
		}
	})
}

// TestKinds: each kind makes a gateway, with what it is known by.
func TestKinds(t *testing.T) {
	creds, err := SelfSigned("gw.demo.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		kind  func(*Config)
		known bool // by a vendor ID
	}{
		"racoon": {Racoon, true}, "strongSwan": {StrongSwan, true}, "Libreswan": {Libreswan, true}, "Cisco": {Cisco, true},
		"FortiGate": {FortiGate, true}, "FRITZ!Box": {FritzBox, false}, "SonicWALL": {SonicWALL, true},
		"Juniper": {Juniper, false}, "Check Point": {CheckPoint, true},
		"Shrew": {func(c *Config) { Shrew(c, "a@b.test") }, false},
	} {
		cfg := Config{
			Chain: creds.Chain, Key: creds.Key, Users: map[string]string{"ada": "secret"}, Pool: netip.MustParsePrefix("10.99.0.0/24"),
			Settings: Settings{SplitInclude: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}, DefaultDomain: "demo.test"},
		}
		tt.kind(&cfg)
		if _, err := New(cfg); err != nil || (len(cfg.Quirks.VendorIDs) > 0) != tt.known {
			t.Errorf("%s: %v, %d vendor IDs", name, err, len(cfg.Quirks.VendorIDs))
		}
		if cfg.XAuth != nil {
			checkScript(t, name, cfg.XAuth)
		}
	}
}

// checkScript signs ada in, whatever she is asked for, and nobody with a wrong
// password.
func checkScript(t *testing.T, name string, script func(int, []isakmp.Attribute) XAuthTurn) {
	t.Helper()
	for _, secret := range []string{"secret", "wrong"} {
		var reply []isakmp.Attribute
		for round := 0; ; round++ {
			turn := script(round, reply)
			if len(turn.Ask) == 0 {
				if turn.Passed != (secret == "secret") || turn.User != "ada" {
					t.Errorf("%s: %q ends in %+v", name, secret, turn)
				}
				break
			}
			reply = nil
			for _, a := range turn.Ask {
				value := secret
				if a.Type == isakmp.XAuthUserName {
					value = "ada"
				}
				reply = append(reply, isakmp.Attribute{Type: a.Type, Value: []byte(value)})
			}
		}
	}
}
