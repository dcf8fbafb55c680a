package ike

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// imitation is a kind of gateway as package gateway imitates it, and the client that
// has to get along with it.
type imitation struct {
	kind      string // its row in gatewayKinds
	variant   string
	exchanges []Exchange // nil: both
	setup     func(*world)
	// check looks at what is special, once packets have passed and ESP was rekeyed.
	check func(*world, *Session, func() [][]byte)
	// moves says that a reauthentication gets another address.
	moves bool
}

// shrewID is the one identity that Shrew's gateway knows.
const shrewID = "vpn@example.com"

var imitations = []imitation{
	{kind: "racoon", setup: imitateRacoon, check: checkRacoon, moves: true},
	{kind: "racoon", variant: "xauth-psk", setup: func(w *world) {
		w.client.Auth = AuthXAUTHPSK
		w.withSecret()
		imitateRacoon(w)
	}, check: checkRacoon, moves: true},

	{kind: "strongSwan", setup: func(w *world) { gateway.StrongSwan(&w.gateway) }, check: checkNarrowed},
	{kind: "strongSwan", variant: "a round each", setup: func(w *world) {
		gateway.StrongSwan(&w.gateway)
		w.script(false,
			xauthRound{ask: empty(isakmp.XAuthUserName), want: map[uint16]string{isakmp.XAuthUserName: testLogin}},
			xauthRound{ask: empty(isakmp.XAuthPassword), want: map[uint16]string{isakmp.XAuthPassword: testPassword}})
	}, check: checkNarrowed},

	{kind: "Libreswan", setup: func(w *world) { imitateLibreswan(w, gateway.PushChained) }, check: checkPushed("chained")},
	{kind: "Libreswan", variant: "xauth-rsa", setup: func(w *world) {
		w.client.Auth = AuthXAUTHRSA
		w.certifyBoth(testKeys().gateway, testKeys().sub)
		gateway.Libreswan(&w.gateway)
	}, check: checkPushed("chained")},
	{kind: "Libreswan", variant: "Openswan 2.4", setup: func(w *world) { imitateLibreswan(w, gateway.PushRaw) }, check: checkPushed("last phase-1 block")},
	{kind: "Libreswan", variant: "SoftRemote", setup: func(w *world) { imitateLibreswan(w, gateway.PushDerived) }, check: checkPushed("derived")},
	{kind: "Libreswan", variant: "pulled", setup: func(w *world) {
		imitateLibreswan(w, gateway.PushChained)
		w.gateway.Push = false
	}, check: checkNarrowed},

	{kind: "Cisco", setup: func(w *world) {
		w.client.Auth = AuthXAUTHPSK
		w.withSecret()
		gateway.Cisco(&w.gateway)
	}, check: checkCisco},
	{kind: "Cisco", variant: "mutual group authentication", setup: func(w *world) {
		w.withSecret()
		w.client.Auth = AuthHybrid
		w.gateway.Secrets = map[string]string{testGroup: testGroupSecret}
		w.gateway.MutualGroup = true
		gateway.Cisco(&w.gateway)
	}, check: checkCisco},

	{kind: "FortiGate", variant: "KEY_ID", setup: imitateFortiGate, check: checkLifetime},
	{kind: "FortiGate", variant: "FQDN", setup: func(w *world) {
		imitateFortiGate(w)
		w.client.LocalID = &Identity{Type: isakmp.IDFQDN, Data: []byte(testGroup)}
	}, check: checkLifetime},

	{kind: "FRITZ!Box", exchanges: []Exchange{ExchangeAggressive}, setup: func(w *world) {
		w.client.Auth, w.client.AllowWeak, w.client.GroupSecret = AuthXAUTHPSK, WeakPSKAggressive, Secret(testGroupSecret)
		w.client.LocalID = &Identity{Type: isakmp.IDKeyID, Data: []byte(testLogin)}
		w.gateway.Secrets = map[string]string{testLogin: testGroupSecret}
		gateway.FritzBox(&w.gateway)
	}, check: checkProbed},

	{kind: "SonicWALL", exchanges: []Exchange{ExchangeMain}, setup: func(w *world) {
		w.client.Quirks, _ = ParseQuirks([]string{"clear-auth"})
		gateway.SonicWALL(&w.gateway)
	}},
	{kind: "SonicWALL", variant: "without MM6", exchanges: []Exchange{ExchangeAggressive}, setup: func(w *world) { gateway.SonicWALL(&w.gateway) }},

	{kind: "Juniper", setup: func(w *world) {
		w.answering(testPassword)
		gateway.Juniper(&w.gateway)
	}, check: checkJuniper},

	{kind: "Check Point", exchanges: []Exchange{ExchangeMain}, setup: func(w *world) { gateway.CheckPoint(&w.gateway) }},
	{kind: "Check Point", variant: "empty-id", exchanges: []Exchange{ExchangeAggressive}, setup: func(w *world) {
		w.client.Quirks, _ = ParseQuirks([]string{"empty-id"})
		gateway.CheckPoint(&w.gateway)
	}},

	{kind: "Shrew", variant: "pulled", setup: imitateShrew, check: checkShrew},
	{kind: "Shrew", variant: "pushed", setup: func(w *world) {
		w.gateway.Push = true
		imitateShrew(w)
	}, check: checkShrew},
}

// TestGatewayKinds connects to each kind of gateway, which does all that is known of
// it, exchanges packets, renews both kinds of SAs, and takes leave.
func TestGatewayKinds(t *testing.T) {
	for _, im := range imitations {
		t.Run(strings.TrimSuffix(im.kind+", "+im.variant, ", "), func(t *testing.T) {
			exchanges := im.exchanges
			if exchanges == nil {
				exchanges = bothExchanges
			}
			for _, exchange := range exchanges {
				inWorld(t, func(w *world) {
					w.client.Exchange = exchange
					w.gateway.Settings.SplitDNS = []string{"corp.example.com", "lab.example.com"}
					im.setup(w)
					w.start()
					im.live(w)
				})
			}
		})
	}
}

// live is the life of a connection.
func (im imitation) live(w *world) {
	s := w.dial()
	received := receive(s)
	im.wantRecognised(w, s)
	w.exchangePackets(s, received, "hello")
	if a := s.Assignment(); a.DefaultDomain != "corp.example.com" || !slices.Equal(a.SplitDNS, []string{"corp.example.com", "lab.example.com"}) ||
		!slices.Equal(a.SplitInclude, prefixes("10.10.0.0/16")) || len(a.DNS) != 1 {
		w.t.Errorf("settings %+v", a)
	}
	if n := len(w.eventsOf(EventWarning)); n != 0 {
		w.t.Errorf("warnings %+v", w.eventsOf(EventWarning))
	}
	w.rekey(s)
	time.Sleep(2 * time.Second)
	w.exchangePackets(s, received, "rekeyed by us")
	if err := w.gw.RekeyChild(firstVIP); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	w.exchangePackets(s, received, "rekeyed by the gateway")
	if n := len(w.eventsOf(EventRekeyed)); n != 2 {
		w.t.Errorf("rekeyed %d times", n)
	}
	if im.check != nil {
		im.check(w, s, received)
		w.wantAlive(s)
	}
	w.renew(s)
	if im.moves {
		_, err := w.waitEnd(s, time.Second)
		wantError[*AddressChangedError](w.t, err)
	} else {
		time.Sleep(30 * time.Second) // for what is left out on a renewal
		w.wantAlive(s)
		w.exchangePackets(s, received, "renewed")
		if n := s.Stats().Rekeys; n != 1 {
			w.t.Errorf("%d reauthentications", n)
		}
	}
	s.Close()
	synctest.Wait()
	if n := len(w.gw.Clients()); n != 0 {
		w.t.Errorf("the gateway keeps %d SAs", n)
	}
}

// wantRecognised: who has a vendor ID is recognised by it.
func (im imitation) wantRecognised(w *world, s *Session) {
	w.t.Helper()
	kind := gatewayKinds[slices.IndexFunc(gatewayKinds, func(k gatewayKind) bool { return k.name == im.kind })]
	var got quirk
	w.do(s, func() { got = s.sa.quirks })
	if want := kind.vendorQuirks | kind.answerQuirks; got != want {
		w.t.Errorf("quirks %v, want %v", got, want)
	}
	said := strings.Contains(w.logText(), `msg="the gateway's kind is known" kind=`)
	if said != (len(kind.vendors) > 0) {
		w.t.Errorf("recognised: %v", said)
	}
}

// TestEveryKindIsImitated: a row of the table without a test is none, and its vendor
// IDs are rows of the other table.
func TestEveryKindIsImitated(t *testing.T) {
	for _, k := range gatewayKinds {
		if !slices.ContainsFunc(imitations, func(im imitation) bool { return im.kind == k.name }) {
			t.Errorf("nobody imitates %s", k.name)
		}
		for _, name := range k.vendors {
			if !slices.ContainsFunc(vendorIDs, func(v vendorID) bool { return v.name == name }) {
				t.Errorf("%s: unknown vendor ID %q", k.name, name)
			}
		}
		if (k.vendorQuirks|k.answerQuirks)&quirkClearAuth != 0 {
			t.Errorf("%s may leave encryption out without being asked for", k.name)
		}
	}
}

func imitateRacoon(w *world) {
	w.client.IKE = nil // it knows no elliptic curves
	w.client.Quirks, _ = ParseQuirks([]string{"sha256-96"})
	gateway.Racoon(&w.gateway)
	w.client.RemoteID = &Identity{Type: isakmp.IDDERDN, Data: w.gateway.Identity.Data}
}

// checkRacoon: fragments of 552 bytes, RESPONDER-LIFETIME, acknowledgements of probes
// with reversed cookies, and all return traffic on the newest SA.
func checkRacoon(w *world, s *Session, received func() [][]byte) {
	w.t.Helper()
	if _, theirs := w.fragments(); theirs == 0 && s.Stats().Auth == "hybrid-rsa" {
		w.t.Error("no fragments")
	}
	for _, d := range w.sent(nil) {
		if !byClient(d) && len(d.data) > 552 {
			w.t.Errorf("the gateway sent %d bytes", len(d.data))
		}
	}
	checkLifetime(w, s, received)
	checkProbed(w, s, received)
	if suite := s.Stats().Children[0].Suite; suite != "aes256-sha256_96" {
		w.t.Errorf("ESP suite %s", suite)
	}
}

// checkLifetime: the ESP SA ends when the gateway's RESPONDER-LIFETIME says.
func checkLifetime(w *world, s *Session, _ func() [][]byte) {
	w.t.Helper()
	c := s.Stats().Children[0]
	if l := c.Expires.Sub(c.Established); l != w.gateway.ESPLifetime {
		w.t.Errorf("an ESP SA for %v, the gateway said %v", l, w.gateway.ESPLifetime)
	}
}

// checkProbed: the gateway's acknowledgements count, and its own probes are answered.
func checkProbed(w *world, s *Session, _ func() [][]byte) {
	w.t.Helper()
	w.do(s, func() { s.sa.probeUrgently(time.Now()) })
	synctest.Wait()
	var open int
	w.do(s, func() { open = s.sa.dpd.tries })
	acks, _ := w.notifies(isakmp.NotifyRUThereAck)
	before := len(acks)
	if err := w.gw.Probe(firstVIP); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
	if acks, _ = w.notifies(isakmp.NotifyRUThereAck); open != 0 || len(acks) != before+1 {
		w.t.Errorf("%d probes are open, %d were answered", open, len(acks)-before)
	}
}

func imitateLibreswan(w *world, style gateway.PushStyle) {
	w.client.Auth = AuthXAUTHPSK
	w.withSecret()
	gateway.Libreswan(&w.gateway)
	w.gateway.Settings.Banner = "Welcome"
	w.gateway.Quirks.Push = style
}

// checkNarrowed: the ESP SA is for the gateway's network alone.
func checkNarrowed(w *world, s *Session, _ func() [][]byte) {
	w.t.Helper()
	if got := s.Stats().Children[0].Remote; got != w.gateway.Networks[0] {
		w.t.Errorf("an ESP SA for %v", got)
	}
}

// checkPushed: beside that, the pushed settings were decrypted by a rule for the IV,
// and acknowledged so that the gateway understood it.
func checkPushed(rule string) func(*world, *Session, func() [][]byte) {
	return func(w *world, s *Session, received func() [][]byte) {
		w.t.Helper()
		checkNarrowed(w, s, received)
		if n := len(w.messages(gateway.ConfigAck)); n != 1 {
			w.t.Errorf("%d acknowledgements of the settings", n)
		}
		pushed := w.transactionOf(gateway.ConfigAck)
		if line := fmt.Sprintf("mid=%08x iv=%s", pushed, rule); !strings.Contains(strings.ReplaceAll(w.logText(), `"`, ""), line) {
			w.t.Errorf("the log does not say %s", line)
		}
	}
}

// transactionOf is the message ID of the first message of a step.
func (w *world) transactionOf(step gateway.Step) uint32 {
	if all := w.messages(step); len(all) > 0 {
		return all[0].Header.MessageID
	}
	return 0
}

// checkCisco: one SA for everything, DPD in spite of its late vendor ID, a new SA for
// each that is deleted early, and private notifications that nobody minds. Quick Mode
// follows the settings at once: it drops clients that take their time.
func checkCisco(w *world, s *Session, received func() [][]byte) {
	w.t.Helper()
	st := s.Stats()
	if len(st.Children) == 0 || st.Children[0].Remote != netip.MustParsePrefix("0.0.0.0/0") || !st.DPD {
		w.t.Errorf("%+v", st)
	}
	if asked, began := w.messages(gateway.ConfigRequest)[0].after, w.messages(gateway.QM1)[0].after; began != asked {
		w.t.Errorf("Quick Mode %v after the request for settings", began-asked)
	}
	for _, typ := range []isakmp.NotifyType{40500, 32768, 32769} {
		w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
			m := &gateway.Message{Step: gateway.Notify, Header: h}
			m.Add(isakmp.PayloadNotify, isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: typ}.Append(nil))
			return []*gateway.Message{m}
		})
	}
	traffic := &stream{w: w, s: s, received: received}
	began := len(w.messages(gateway.QM1))
	traffic.run(time.Second, 45*time.Minute)
	if n := len(w.messages(gateway.QM1)) - began; n < 2 {
		w.t.Errorf("%d Quick Modes for what was deleted", n)
	}
	if out, in := traffic.lost(); out+in > 2*5 {
		w.t.Errorf("%d packets out and %d in of %d were lost", out, in, traffic.n)
	}
}

func imitateFortiGate(w *world) {
	w.client.Auth = AuthXAUTHPSK
	w.withSecret()
	gateway.FortiGate(&w.gateway)
}

// checkJuniper: its settings came before the verdict, and it speaks of things that
// nobody knows.
func checkJuniper(w *world, _ *Session, _ func() [][]byte) {
	w.t.Helper()
	if n := len(w.messages(gateway.ConfigRequest)); n != 0 {
		w.t.Errorf("%d requests for what was given already", n)
	}
	w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
		const heartbeat = 40001
		m := &gateway.Message{Step: gateway.Notify, Header: h}
		m.Add(isakmp.PayloadNotify, isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: heartbeat, Data: []byte{1}}.Append(nil))
		return []*gateway.Message{m}
	})
}

func imitateShrew(w *world) {
	w.client.LocalID = &Identity{Type: isakmp.IDUserFQDN, Data: []byte(shrewID)}
	gateway.Shrew(&w.gateway, shrewID)
}

// checkShrew: asked for settings, it hears the third request; else none is needed.
func checkShrew(w *world, s *Session, _ func() [][]byte) {
	w.t.Helper()
	if got := s.Assignment().Expiry; got != 24*time.Hour {
		w.t.Errorf("the address expires in %v", got)
	}
	requests := 1
	if w.gateway.Quirks.SettingsInStatus {
		requests = 0
	}
	if n := len(w.messages(gateway.ConfigRequest)); n != requests {
		w.t.Errorf("%d requests for settings were heard", n)
	}
}

// TestRacoonRefuses: what racoon does not take, and that we never show it.
func TestRacoonRefuses(t *testing.T) {
	for name, change := range map[string]func(*world){
		"a lifetime beyond its own": func(w *world) {
			w.prepare = func(s *Session) { s.phase1Lifetime = 36600 * time.Second } // strongSwan's
		},
		"XAUTH without its vendor ID": func(w *world) {
			w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
				return deliver([]byte(strings.Replace(string(data), "\x09\x00\x26\x89\xdf\xd6\xb7\x12", "notXAUTH", 1)))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = ExchangeMain
				imitateRacoon(w)
				change(w)
				w.start()
				_, err := w.tryDial()
				if e := wantError[*RefusedError](t, err); e.Notify != isakmp.NotifyNoProposalChosen {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

// TestRacoonWrongPassword: the SA is gone before our acknowledgement arrives.
func TestRacoonWrongPassword(t *testing.T) {
	inBoth(t, func(w *world) {
		imitateRacoon(w)
		w.client.Password = Secret("wrong")
		w.start()
		_, err := w.tryDial()
		wantError[*CredentialsError](w.t, err)
		if n := len(w.messages(gateway.XAuthAck)); n != 0 {
			w.t.Errorf("%d acknowledgements were heard", n)
		}
	})
}

// TestRacoonKeepsOldAddress: beside the new address it lets Quick Mode use the old one,
// so what flows goes on until the session is built anew.
func TestRacoonKeepsOldAddress(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeMain
		imitateRacoon(w)
		w.start()
		first := w.dial()
		w.client.Reconnect, w.client.RequestAddress = true, firstVIP
		second := w.dial()
		if a, b := first.Assignment().Addresses[0], second.Assignment().Addresses[0]; a == b {
			t.Errorf("both have %v", a)
		}
		w.exchangePackets(first, receive(first), "on the first")
		w.exchangePackets(second, receive(second), "on the second")
	})
}

// TestLibreswanKnowsNoHybrid: its table only has the numbers.
func TestLibreswanKnowsNoHybrid(t *testing.T) {
	inBoth(t, func(w *world) {
		gateway.Libreswan(&w.gateway)
		w.start()
		_, err := w.tryDial()
		if e := wantError[*RefusedError](w.t, err); e.What != RefusedProposal {
			w.t.Errorf("%+v", e)
		}
	})
}

// TestSonicWALLNeedsLeave: without clear-auth in the profile its MM6 is not believed.
func TestSonicWALLNeedsLeave(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeMain
		gateway.SonicWALL(&w.gateway)
		w.start()
		if _, err := w.tryDial(); err == nil {
			t.Error("connected")
		}
		if n := len(w.messages(gateway.XAuthReply)); n != 0 {
			t.Errorf("%d replies to XAUTH", n)
		}
	})
}

// TestNetgearDPD: its vendor ID for DPD is not RFC 3706's.
func TestNetgearDPD(t *testing.T) {
	inBoth(t, func(w *world) {
		w.gateway.Quirks.NetgearDPD = true
		w.start()
		s := w.dial()
		if !s.Stats().DPD {
			w.t.Error("no DPD")
		}
		checkProbed(w, s, nil)
	})
}

// TestEmptyGroup: there are groups without a name.
func TestEmptyGroup(t *testing.T) {
	inBoth(t, func(w *world) {
		w.client.Auth = AuthXAUTHPSK
		w.withSecret()
		w.gateway.Secrets = map[string]string{"": testGroupSecret}
		w.client.LocalID = &Identity{Type: isakmp.IDKeyID}
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
	})
}

// TestCertRequestWithoutData: Shrew's names no authority, and perhaps not even an
// encoding. Hybrid authentication owes it an empty certificate all the same.
func TestCertRequestWithoutData(t *testing.T) {
	for name, body := range map[string][]byte{"encoding alone": {isakmp.CertX509Sig}, "nothing": {}} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				for _, step := range []gateway.Step{gateway.MM4, gateway.AM2} {
					w.change(step, func(m *gateway.Message) { m.Add(isakmp.PayloadCertReq, body) })
				}
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				for _, m := range slices.Concat(w.messages(gateway.MM5), w.messages(gateway.AM3)) {
					if c, err := isakmp.ParseCert(m.Payload(isakmp.PayloadCert)); err != nil || c.Encoding != isakmp.CertX509Sig || len(c.Data) != 0 {
						w.t.Errorf("%s answers with %+v, %v", m.step, c, err)
					}
				}
			})
		})
	}
}

// TestOfferedLifetime: what goes out in MM1 and AM1 is no longer than any gateway's
// own.
func TestOfferedLifetime(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		w.dial()
		for _, m := range slices.Concat(w.messages(gateway.MM1), w.messages(gateway.AM1)) {
			sa, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
			if err != nil {
				w.t.Fatal(err)
			}
			for _, tr := range sa.Proposals[0].Transforms {
				a, _ := isakmp.Find(tr.Attributes, isakmp.AttrLifeDuration)
				if v, ok := a.Uint(); !ok || v > 28800 {
					w.t.Errorf("offered %d s", v)
				}
			}
		}
	})
}

// TestProbeUnderItsOwnID: the FRITZ!Box acknowledges under the message ID of the probe.
func TestProbeUnderItsOwnID(t *testing.T) {
	inWorld(t, func(w *world) {
		w.gateway.Quirks.ProbeMID = true
		w.start()
		s := w.dial()
		w.do(s, func() { s.sa.probeUrgently(time.Now()) })
		synctest.Wait()
		var mids []uint32
		for _, d := range w.sent(nil) {
			if h, ok := ikeHeader(d.from, d.to, d.data); ok && h.Exchange == isakmp.Informational {
				mids = append(mids, h.MessageID)
			}
		}
		if len(mids) != 2 || mids[0] != mids[1] {
			t.Errorf("message IDs %08x", mids)
		}
		var answered bool
		w.do(s, func() { answered = s.sa.dpd.tries == 0 })
		if !answered {
			t.Error("the acknowledgement was not taken")
		}
	})
}

// TestDeletedByOurSPI: Cisco deletes an ESP SA by the SPI that we receive on.
func TestDeletedByOurSPI(t *testing.T) {
	inBoth(t, func(w *world) {
		w.gateway.Quirks.DeleteTheirs = true
		w.start()
		s := w.dial()
		received := receive(s)
		before := spisOf(s)[0]
		var named []uint32
		w.change(gateway.Delete, func(m *gateway.Message) {
			if d, err := isakmp.ParseDelete(m.Payload(isakmp.PayloadDelete)); err == nil && d.Protocol == isakmp.ProtoESP {
				named = append(named, binary.BigEndian.Uint32(d.SPIs[0]))
			}
		})
		if err := w.gw.DeleteChild(firstVIP); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		if !slices.Equal(named, []uint32{before}) {
			w.t.Errorf("deleted %08x, we had %08x", named, before)
		}
		time.Sleep(5 * time.Second)
		w.exchangePackets(s, received, "afterwards")
		if got := spisOf(s); len(got) != 1 || got[0] == before {
			w.t.Errorf("SPIs %08x", got)
		}
	})
}
