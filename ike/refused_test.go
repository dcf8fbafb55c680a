package ike

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// sayPayloads has the gateway send an authenticated message of a connected session.
func (w *world) sayPayloads(exchange isakmp.ExchangeType, ps ...isakmp.Payload) {
	w.t.Helper()
	w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
		h.Exchange = exchange
		return []*gateway.Message{{Step: "TEST", Header: h, Payloads: ps}}
	})
	synctest.Wait()
}

// TestMalformedInside: what an authentic message contains may make no sense all the
// same. It is dropped, and nothing else happens.
func TestMalformedInside(t *testing.T) {
	set := settingsOf(netip.MustParseAddr("10.99.0.77")).Append(nil)
	attribute := func(body []byte) isakmp.Payload { return isakmp.Payload{Type: isakmp.PayloadAttribute, Body: body} }
	for name, tt := range map[string]struct {
		exchange isakmp.ExchangeType
		payloads []isakmp.Payload
	}{
		"Notify":                  {isakmp.Informational, []isakmp.Payload{{Type: isakmp.PayloadNotify, Body: []byte{0, 0, 0, 1, 1}}}},
		"Delete":                  {isakmp.Informational, []isakmp.Payload{{Type: isakmp.PayloadDelete, Body: []byte{0, 0, 0, 1, 3, 4, 0, 2, 1, 2, 3, 4}}}},
		"two Attribute payloads":  {isakmp.Transaction, []isakmp.Payload{attribute(set), attribute(set)}},
		"Attribute payload":       {isakmp.Transaction, []isakmp.Payload{attribute(set[:len(set)-1])}},
		"unknown Attribute type":  {isakmp.Transaction, []isakmp.Payload{attribute(append([]byte{9}, set[1:]...))}},
		"a REPLY nobody asked":    {isakmp.Transaction, []isakmp.Payload{attribute(append([]byte{byte(isakmp.ConfigReply)}, set[1:]...))}},
		"Quick Mode without SA":   {isakmp.QuickMode, []isakmp.Payload{{Type: isakmp.PayloadNonce, Body: make([]byte, 32)}}},
		"Quick Mode, unread SA":   {isakmp.QuickMode, []isakmp.Payload{{Type: isakmp.PayloadSA, Body: []byte{1}}, {Type: isakmp.PayloadNonce, Body: make([]byte, 32)}}},
		"Quick Mode, empty SA":    {isakmp.QuickMode, []isakmp.Payload{{Type: isakmp.PayloadSA, Body: isakmp.SA{DOI: 1, Situation: 1}.Append(nil)}, {Type: isakmp.PayloadNonce, Body: make([]byte, 32)}}},
		"Quick Mode, unread IDs":  {isakmp.QuickMode, quickModeWith([]byte{1}, []byte{1})},
		"Quick Mode, ID of ports": {isakmp.QuickMode, quickModeWith([]byte{4, 6, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0}, networkID("10.99.0.1/32").Append(nil))},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				s := w.dial()
				received := receive(s)
				before := spisOf(s)
				w.sayPayloads(tt.exchange, tt.payloads...)
				time.Sleep(time.Minute)
				w.wantAlive(s)
				if got := spisOf(s); !slices.Equal(got, before) || s.Assignment().Addresses[0].Addr() != firstVIP {
					t.Errorf("ESP SAs %08x, address %v", got, s.Assignment().Addresses)
				}
				w.exchangePackets(s, received, "still here")
			})
		})
	}
}

// quickModeWith is a good first message but for its IDs.
func quickModeWith(ids ...[]byte) []isakmp.Payload {
	m := quickModeOffer(isakmp.Header{})
	m.Remove(isakmp.PayloadID)
	for _, id := range ids {
		m.Add(isakmp.PayloadID, id)
	}
	return m.Payloads
}

// TestUnreadCertificates: a CERT payload that cannot be read ends the attempt before
// the login leaves, as an untrusted gateway.
func TestUnreadCertificates(t *testing.T) {
	for name, body := range map[string][]byte{"nothing": {}, "PKCS#7 garbage": {isakmp.CertPKCS7, 0x30, 0x80, 1}} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.changeProof(func(m *gateway.Message) { m.Replace(isakmp.PayloadCert, body) })
				w.start()
				_, err := w.tryDial()
				if e := wantError[*TrustError](w.t, err); e.Reason != TrustInvalid && e.Reason != TrustMissing {
					w.t.Errorf("%+v", e)
				}
				if n := len(w.messages(gateway.XAuthReply)); n != 0 {
					w.t.Errorf("%d replies to XAUTH", n)
				}
			})
		})
	}
}

// TestUnreadID: an IDir that cannot be read is nobody's.
func TestUnreadID(t *testing.T) {
	inBoth(t, func(w *world) {
		for _, step := range []gateway.Step{gateway.MM6, gateway.AM2} {
			w.change(step, func(m *gateway.Message) { m.Replace(isakmp.PayloadID, []byte{byte(isakmp.IDFQDN), 0, 0}) })
		}
		w.start()
		_, err := w.tryDial()
		if e := wantError[*TrustError](w.t, err); e.Reason != TrustInvalid {
			w.t.Errorf("%+v", e)
		}
		if n := len(w.messages(gateway.XAuthReply)); n != 0 {
			w.t.Errorf("%d replies to XAUTH", n)
		}
	})
}

// TestUnreadAnswer: what QM2 chooses is nothing, or has a number that is none.
func TestUnreadAnswer(t *testing.T) {
	for name, change := range map[string]func(*isakmp.SA){
		"no proposal": func(sa *isakmp.SA) { sa.Proposals = nil },
		"no number": func(sa *isakmp.SA) {
			tr := &sa.Proposals[0].Transforms[0]
			tr.Attributes = append(tr.Attributes, isakmp.Attribute{Type: isakmp.AttrESPAuth, Value: make([]byte, 9)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.changeSA(change, gateway.QM2)
				w.start()
				_, err := w.tryDial()
				if e := wantError[*ProtocolError](w.t, err); e.Step != StepBuildTunnel {
					w.t.Errorf("%+v", e)
				}
			})
		})
	}
}

// TestECDSASignatures: r|s of the curve's width over the hash, and nothing else.
func TestECDSASignatures(t *testing.T) {
	key := ecdsaKeys()[elliptic.P256()][0]
	leaf := &x509.Certificate{PublicKey: key.Public()}
	hash := make([]byte, 32)
	der, err := key.Sign(nil, hash, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := rawECDSA(der, elliptic.P256())
	if err != nil {
		t.Fatal(err)
	}
	if err := verifySignature(leaf, hash, sig); err != nil {
		t.Errorf("the right one: %v", err)
	}
	other := append([]byte{1}, hash[1:]...)
	for name, tt := range map[string]struct{ hash, sig []byte }{
		"in DER": {hash, der}, "none": {hash, nil}, "short": {hash, sig[:63]}, "long": {hash, append([]byte{0}, sig...)},
		"zero": {hash, make([]byte, 64)}, "of another hash": {other, sig},
	} {
		if verifySignature(leaf, tt.hash, tt.sig) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for _, bad := range [][]byte{nil, {0x30, 0}, der[:len(der)-1], append(slices.Clone(der), 0)} {
		if _, err := rawECDSA(bad, elliptic.P256()); err == nil {
			t.Errorf("our key's signature %x is sent", bad)
		}
	}
}

// TestLifetimeWords: durations that are no numbers, or make no sense, leave the
// default.
func TestLifetimeWords(t *testing.T) {
	kind := isakmp.BasicAttribute(isakmp.AttrLifeType, isakmp.LifeSeconds)
	for name, tt := range map[string]struct {
		as   []isakmp.Attribute
		want time.Duration
	}{
		"seconds":           {[]isakmp.Attribute{kind, isakmp.NumberAttribute(isakmp.AttrLifeDuration, 600)}, 10 * time.Minute},
		"too long a number": {[]isakmp.Attribute{kind, {Type: isakmp.AttrLifeDuration, Value: make([]byte, 9)}}, defaultLifetime},
		"empty":             {[]isakmp.Attribute{kind, {Type: isakmp.AttrLifeDuration}}, defaultLifetime},
		"of no type":        {[]isakmp.Attribute{isakmp.NumberAttribute(isakmp.AttrLifeDuration, 600)}, defaultLifetime},
		"kilobytes": {[]isakmp.Attribute{
			isakmp.BasicAttribute(isakmp.AttrLifeType, isakmp.LifeKilobytes), isakmp.NumberAttribute(isakmp.AttrLifeDuration, 600),
		}, defaultLifetime},
		"unknown type, then seconds": {[]isakmp.Attribute{
			isakmp.BasicAttribute(isakmp.AttrLifeType, 77), isakmp.NumberAttribute(isakmp.AttrLifeDuration, 30),
			kind, isakmp.NumberAttribute(isakmp.AttrLifeDuration, 600),
		}, 10 * time.Minute},
	} {
		if got := lifetimeOf(tt.as, isakmp.AttrLifeType, isakmp.AttrLifeDuration); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// TestLifetimeLater: RESPONDER-LIFETIME for phase 1 may come in a message of its own,
// and then reauthentication comes earlier. What is in it that cannot be read, or is
// not about phase 1, changes nothing.
func TestLifetimeLater(t *testing.T) {
	lifetime := func(seconds uint32) []byte {
		return isakmp.AppendAttributes(nil, []isakmp.Attribute{
			isakmp.BasicAttribute(isakmp.AttrESPLifeType, isakmp.LifeSeconds), isakmp.NumberAttribute(isakmp.AttrESPLifeDuration, seconds),
		})
	}
	for name, tt := range map[string]struct {
		protocol isakmp.ProtocolID
		data     []byte
		renewed  bool
	}{
		"phase 1":        {isakmp.ProtoISAKMP, lifetime(600), true},
		"longer":         {isakmp.ProtoISAKMP, lifetime(86400), false},
		"ESP":            {isakmp.ProtoESP, lifetime(600), false},
		"cannot be read": {isakmp.ProtoISAKMP, []byte{0, 2, 0, 9, 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				s := w.dial()
				n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: tt.protocol, Type: isakmp.NotifyResponderLifetime, Data: tt.data}
				w.sayPayloads(isakmp.Informational, isakmp.Payload{Type: isakmp.PayloadNotify, Body: n.Append(nil)})
				time.Sleep(10 * time.Minute)
				if got := s.Stats().Rekeys == 1; got != tt.renewed {
					t.Errorf("renewed: %v", got)
				}
			})
		})
	}
}

// TestMalformedAnswerExtras: beside a good QM2 stand notifications that cannot be read
// or mean something else. They do no harm.
func TestMalformedAnswerExtras(t *testing.T) {
	inBoth(t, func(w *world) {
		w.change(gateway.QM2, func(m *gateway.Message) {
			m.Add(isakmp.PayloadNotify, []byte{1})
			m.Add(isakmp.PayloadNotify, isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, Type: isakmp.NotifyReplayStatus, Data: []byte{0, 0, 0, 1}}.Append(nil))
		})
		w.change(gateway.MM6, func(m *gateway.Message) { m.Add(isakmp.PayloadNotify, []byte{1}) })
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
	})
}

// TestWrongQM3: the gateway's own Quick Mode ends in a message that proves nothing;
// the SA that it was for is not used.
func TestWrongQM3(t *testing.T) {
	for name, change := range map[string]func(*gateway.Message){
		"wrong HASH":      func(m *gateway.Message) { m.Hash = func(h []byte) []byte { h[0] ^= 1; return h } },
		"another payload": func(m *gateway.Message) { m.Add(isakmp.PayloadNonce, make([]byte, 16)) },
		"no HASH":         func(m *gateway.Message) { m.Hash = func([]byte) []byte { return nil } },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				s := w.dial()
				before := spisOf(s)
				w.change(gateway.QM3, change)
				if err := w.gw.RekeyChild(firstVIP); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				time.Sleep(qm3Patience + time.Second)
				w.wantAlive(s)
				if got := spisOf(s); !slices.Equal(got, before) {
					t.Errorf("ESP SAs %08x, before %08x", got, before)
				}
				send(t, s, ipv4(firstVIP, insideHost, "on the old one"))
				if used, _ := w.espSent(); len(used) != 1 {
					t.Errorf("ESP goes out on %08x", used)
				}
			})
		})
	}
}

// TestBrokenFragments: a fragment whose payload cannot be read is dropped, and the
// message arrives all the same.
func TestBrokenFragments(t *testing.T) {
	for name, body := range map[string][]byte{
		"length beyond the end": {0, 0, 0, 99, 0, 1, 1, 1, 7},
		"length too short":      {0, 0, 0, 3, 0, 1, 1, 1, 7},
		"no fragment header":    {0, 0, 0, 6, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				first := true
				w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
					h, ok := ikeHeader(from, to, data)
					if !ok || !toClient(from) || !first {
						return deliver(data)
					}
					first = false
					h.NextPayload, h.Length = isakmp.PayloadFragment, uint32(isakmp.HeaderLen+len(body))
					return append([]gateway.Delivery{{Datagram: append(h.Append(nil), body...)}}, deliver(data)...)
				})
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
			})
		})
	}
}

// TestManyMessageIDs: a gateway that begins one Transaction after the other does not
// make the client grow, and what comes on a chain that was given up is dropped.
func TestManyMessageIDs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		for mid := range uint32(2 * maxChains) {
			w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
				return []*gateway.Message{transaction(h, mid+1, settingsOf(firstVIP))}
			})
		}
		synctest.Wait()
		var chains, order int
		w.do(s, func() { chains, order = len(s.sa.chains), len(s.sa.chainOrder) })
		if chains > maxChains || order != chains {
			t.Errorf("%d chains, %d in order", chains, order)
		}
		w.exchangePackets(s, received, "hello")
	})
}

// TestTooManyToRemember: an SA that can remember no more messages against replay takes
// no more, and is replaced.
func TestTooManyToRemember(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		w.do(s, func() {
			for i := uint64(0); len(s.sa.known) < maxSeen; i++ {
				s.sa.known[i] = struct{}{}
			}
		})
		if err := w.gw.Probe(firstVIP); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if acks, _ := w.notifies(isakmp.NotifyRUThereAck); len(acks) != 0 {
			t.Error("a message was taken that cannot be told from a replayed one")
		}
		w.do(s, func() { s.sa.probe(time.Now()) }) // our own are remembered too
		time.Sleep(time.Second)
		if n := s.Stats().Rekeys; n != 1 {
			t.Errorf("%d reauthentications", n)
		}
		w.exchangePackets(s, receive(s), "hello")
	})
}

// TestSeveralEarlySets: settings that come in two messages before the verdict count
// together.
func TestSeveralEarlySets(t *testing.T) {
	inBoth(t, func(w *world) {
		w.gateway.Push = true // makes it assign the address
		w.change(gateway.ConfigSet, func(m *gateway.Message) { m.Raw = []byte("never mind") })
		w.hook(gateway.XAuthSet, func(m *gateway.Message) []*gateway.Message {
			domain := isakmp.Config{Type: isakmp.ConfigSet, Attributes: []isakmp.Attribute{text(isakmp.UnityDefDomain, "early.example.com")}}
			return []*gateway.Message{transaction(m.Header, 5, settingsOf(firstVIP)), transaction(m.Header, 6, domain), m}
		})
		w.start()
		s := w.dial()
		if a := s.Assignment(); a.DefaultDomain != "early.example.com" || a.Addresses[0].Addr() != firstVIP {
			w.t.Errorf("%+v", a)
		}
	})
}

// TestLaterListsReplace: a list in a later SET takes the place of the old one.
func TestLaterListsReplace(t *testing.T) {
	lan := func(third byte) isakmp.Attribute {
		return isakmp.Attribute{Type: isakmp.UnityLocalLAN, Value: []byte{192, 168, third, 0, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0}}
	}
	inWorld(t, func(w *world) {
		w.gateway.Settings.Extra = []isakmp.Attribute{lan(1), text(isakmp.UnityBackupServers, "one.example.com")}
		w.start()
		s := w.dial()
		w.sayPayloads(isakmp.Transaction, isakmp.Payload{
			Type: isakmp.PayloadAttribute,
			Body: settingsOf(firstVIP, lan(2), text(isakmp.UnityBackupServers, "two.example.com")).Append(nil),
		})
		if a := s.Assignment(); !slices.Equal(a.SplitExclude, prefixes("192.168.2.0/24")) || !slices.Equal(a.BackupServers, []string{"two.example.com"}) {
			t.Errorf("%+v", a)
		}
	})
}

// TestAskedTwiceAtOnce: while the user is being asked, another REQUEST gets no answer;
// the answer of an SA that was replaced meanwhile goes nowhere.
func TestAskedTwiceAtOnce(t *testing.T) {
	for name, replaced := range map[string]bool{"same SA": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				asked := 0
				w.client.Prompt = func(context.Context, Prompt) (Answer, error) {
					asked++
					time.Sleep(20 * time.Second)
					return Answer{Text: Secret("123456")}, nil
				}
				w.start()
				s := w.dial()
				w.gateway.Users[testLogin] = testPassword
				passcode := func(mid uint32) {
					w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
						return []*gateway.Message{transaction(h, mid, isakmp.Config{Type: isakmp.ConfigRequest, Attributes: empty(isakmp.XAuthPasscode)})}
					})
					synctest.Wait()
				}
				passcode(strangeMID)
				passcode(strangeMID + 1)
				if replaced {
					w.renew(s)
				}
				time.Sleep(time.Minute)
				w.wantAlive(s)
				want := 1
				if replaced {
					want = 0
				}
				if n := w.answers(); asked != 1 || n != want || len(w.transactionsTo(strangeMID+1)) != 0 {
					t.Errorf("asked %d times, %d answers, %d to the second", asked, n, len(w.transactionsTo(strangeMID+1)))
				}
			})
		})
	}
}

// TestAskingFails: when nobody can be asked for a one-time password, or the user gives
// up, the gateway is told so.
func TestAskingFails(t *testing.T) {
	given := errors.New("no thanks")
	inBoth(t, func(w *world) {
		w.client.Prompt = func(context.Context, Prompt) (Answer, error) { return Answer{}, given }
		w.ask(append(xauthType(xauthOTP), empty(isakmp.XAuthUserName, isakmp.XAuthPassword)...)...)
		w.start()
		if _, err := w.tryDial(); !errors.Is(err, given) {
			w.t.Errorf("error %v", err)
		}
		w.wantCancelled()
	})
}

// TestUnusableConfig: what Dial cannot use is refused before anything is sent, by the
// name of the field.
func TestUnusableConfig(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"authentication": func(c *Config) { c.Auth = "strange" },
		"certificate":    func(c *Config) { c.Auth = AuthRSA },
		"group_secret":   func(c *Config) { c.Auth = AuthXAUTHPSK },
		"key": func(c *Config) {
			c.Auth, c.Key = AuthXAUTHRSA, ecdsaKeys()[elliptic.P256()][0]
			c.Certificates = []*x509.Certificate{{}}
		},
		"mode_config": func(c *Config) { c.ModeConfig = "strange" },
		"selectors":   func(c *Config) { c.Selectors = "strange" },
		"nat_t":       func(c *Config) { c.NATT = "draft-99" },
		"exchange": func(c *Config) {
			c.Auth, c.GroupSecret, c.Exchange = AuthPSK, Secret("x"), ExchangeAggressive
		},
	} {
		inWorld(t, func(w *world) {
			change(&w.client)
			w.start()
			_, err := w.tryDial()
			if e := wantError[*ConfigError](t, err); e.Field != field {
				t.Errorf("%s: %v", field, err)
			}
			if n := len(w.sent(nil)); n != 0 {
				t.Errorf("%s: %d datagrams were sent", field, n)
			}
		})
	}
}

// TestStateNames are those of the log.
func TestStateNames(t *testing.T) {
	for state, want := range map[saState]string{
		stateNew: "new", stateAuthenticated: "authenticated", stateConfigured: "configured", stateUp: "up", stateClosed: "closed", 99: "saState(99)",
	} {
		if state.String() != want {
			t.Errorf("%d is %q", int(state), state)
		}
	}
	sa := &isakmpSA{state: stateClosed}
	for _, x := range []isakmp.ExchangeType{isakmp.MainMode, isakmp.Informational, isakmp.Transaction, isakmp.QuickMode} {
		if sa.permits(x) {
			t.Errorf("a closed SA looks at %v", x)
		}
	}
}
