package ike

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// phase1Begun counts the phase-1 exchanges that the gateway answered.
func (w *world) phase1Begun() int { return len(w.messages(gateway.MM1)) + len(w.messages(gateway.AM1)) }

// TestReauthentication: before the lifetime of phase 1 ends, a new one is built
// beside it, with the same address and without a lost packet.
func TestReauthentication(t *testing.T) {
	const life = 300 * time.Second
	inBothWorlds(t, func(w *world) {
		w.gateway.IKELifetime = life
		w.setRule(slow)
		w.start()
		s := w.dial()
		old := w.cookiesOf()
		began := s.Stats().Established
		st := w.newStream(s)
		st.run(100*time.Millisecond, 240*time.Second+time.Second)
		if n := len(w.eventsOf(EventReauth)); n != 1 || w.phase1Begun() != 2 {
			w.t.Fatalf("%d reauthentications", n)
		}
		stats := s.Stats()
		if age := stats.Established.Sub(began); age < 225*time.Second || age > 241*time.Second || stats.Rekeys != 1 {
			w.t.Errorf("renewed at an age of %v, %d times", age, stats.Rekeys)
		}
		if s.Assignment().Addresses[0].Addr() != firstVIP {
			w.t.Errorf("address %v", s.Assignment().Addresses)
		}
		st.run(100*time.Millisecond, 60*time.Second)
		st.wantNoLoss()
		w.wantAlive(s)
		w.checkReauthentication(old)
		if n := len(w.steps()); n != len(allSteps) {
			w.t.Errorf("the user was told of steps %v", w.steps())
		}
	})
}

// checkReauthentication: INITIAL-CONTACT came the first time only, the old address
// was asked for, and the old SA was deleted.
func (w *world) checkReauthentication(old isakmp.Header) {
	w.t.Helper()
	var initial []bool
	for _, step := range []gateway.Step{gateway.MM5, gateway.AM3} {
		for _, m := range w.messages(step) {
			initial = append(initial, slices.ContainsFunc(m.Payloads, func(p isakmp.Payload) bool {
				n, err := isakmp.ParseNotify(p.Body)
				return p.Type == isakmp.PayloadNotify && err == nil && n.Type == isakmp.NotifyInitialContact
			}))
		}
	}
	if !slices.Equal(initial, []bool{true, false}) {
		w.t.Errorf("INITIAL-CONTACT %v", initial)
	}
	requests := w.configs(gateway.ConfigRequest)
	if len(requests) != 2 || address(requests[1].Attributes...) != firstVIP {
		w.t.Errorf("requests %+v", requests)
	}
	deleted := false
	for _, m := range w.messages(gateway.Delete) {
		d, err := isakmp.ParseDelete(m.Payload(isakmp.PayloadDelete))
		if err == nil && d.Protocol == isakmp.ProtoISAKMP {
			deleted = string(d.SPIs[0]) == string(slices.Concat(old.CKYI[:], old.CKYR[:])) && m.Header.CKYI == old.CKYI
		}
	}
	if n := len(w.gw.Clients()); n != 1 || !deleted {
		w.t.Errorf("old ISAKMP SA deleted: %v; the gateway has %d", deleted, n)
	}
}

// TestReconnectSuppressesInitialContact from the first time on.
func TestReconnectSuppressesInitialContact(t *testing.T) {
	inBoth(t, func(w *world) {
		w.client.Reconnect = true
		w.start()
		w.dial()
		for _, m := range slices.Concat(w.messages(gateway.MM5), w.messages(gateway.AM3)) {
			if m.Payload(isakmp.PayloadNotify) != nil {
				w.t.Errorf("%s carries a notification", m.step)
			}
		}
	})
}

// TestOldISAKMPSAAnswers: after a reauthentication the gateway may still probe on
// the old SA for a while.
func TestOldISAKMPSAAnswers(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		held := []datagram(nil)
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			if !toClient(from) {
				return deliver(data)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			held = append(held, datagram{data: slices.Clone(data)})
			return nil
		})
		if err := w.gw.Probe(firstVIP); err != nil { // on its way while phase 1 is renewed
			w.t.Fatal(err)
		}
		w.setRule(nil)
		w.renew(s)
		synctest.Wait()
		if n := len(w.eventsOf(EventReauth)); n != 1 {
			t.Fatalf("%d reauthentications", n)
		}
		for _, tt := range []struct {
			wait    time.Duration
			answers int
		}{{9 * time.Second, 1}, {2 * time.Second, 0}} {
			time.Sleep(tt.wait)
			before := w.oldAnswers()
			w.spoof(held[0].data)
			if n := w.oldAnswers() - before; n != tt.answers {
				t.Errorf("%d answers on the old SA", n)
			}
		}
		w.wantAlive(s)
	})
}

// oldAnswers counts the client's messages on its first ISAKMP SA.
func (w *world) oldAnswers() int {
	all := w.sent(byClient)
	first, _ := ikeHeader(all[0].from, all[0].to, all[0].data)
	return len(slices.DeleteFunc(all, func(d datagram) bool {
		h, ok := ikeHeader(d.from, d.to, d.data)
		return !ok || h.CKYI != first.CKYI
	}))
}

// renew makes the client reauthenticate now.
func (w *world) renew(s *Session) {
	w.do(s, func() { s.sa.reauthAt = time.Now() })
}

// TestPasswordIsKept: what the user typed once serves for reauthentication.
func TestPasswordIsKept(t *testing.T) {
	inBoth(t, func(w *world) {
		w.client.Password = nil
		asked := w.answering(testPassword)
		w.start()
		s := w.dial()
		received := receive(s)
		for i := range 2 {
			w.renew(s)
			synctest.Wait()
			if n := s.Stats().Rekeys; n != i+1 || len(*asked) != 1 {
				w.t.Fatalf("%d reauthentications, asked %+v", n, *asked)
			}
		}
		w.exchangePackets(s, received, "hello")
		s.Close()
		if got, _ := s.knownPassword(""); got != nil {
			w.t.Errorf("the password %q is kept after the end", string(got))
		}
	})
}

// TestPasswordUnderOtherWords: a password that is kept is not sent again where the
// gateway's words have changed; what the user answers to those is not kept.
func TestPasswordUnderOtherWords(t *testing.T) {
	words := "Enter the password" // of the gateway
	open := func(w *world) *Session {
		words = "Enter the password"
		w.gateway.XAuth = func(round int, _ []isakmp.Attribute) gateway.XAuthTurn {
			if round > 0 {
				return gateway.XAuthTurn{Passed: true, User: testLogin}
			}
			ask := empty(isakmp.XAuthUserName, isakmp.XAuthPassword)
			if words != "" {
				ask = append(ask, text(isakmp.XAuthMessage, words))
			}
			return gateway.XAuthTurn{Ask: ask}
		}
		w.start()
		return w.dial()
	}
	t.Run("asked", func(t *testing.T) {
		inBoth(t, func(w *world) {
			asked := w.answering("654321")
			s := open(w)
			for i, next := range []string{"Enter the password", "Enter the code", "Enter the password", ""} {
				words = next
				w.renew(s)
				synctest.Wait()
				if n := s.Stats().Rekeys; n != i+1 {
					w.t.Fatalf("%d reauthentications after %d", n, i+1)
				}
			}
			var sent []string
			for _, c := range w.configs(gateway.XAuthReply) {
				a, _ := isakmp.Find(c.Attributes, isakmp.XAuthPassword)
				sent = append(sent, string(a.Value))
			}
			if want := []string{testPassword, testPassword, "654321", testPassword, testPassword}; !slices.Equal(sent, want) {
				w.t.Errorf("sent %q", sent)
			}
			if want := []Prompt{{Kind: PromptChallenge, Text: "Enter the code", Secret: true}}; !slices.Equal(*asked, want) {
				w.t.Errorf("asked %+v", *asked)
			}
		})
	})
	t.Run("nobody to ask", func(t *testing.T) {
		inBoth(t, func(w *world) {
			s := open(w)
			words = "Enter the code"
			w.renew(s)
			_, err := w.waitEnd(s, time.Second)
			if e := wantError[*CredentialsError](w.t, err); e.Message != "Enter the code" {
				w.t.Errorf("%+v", e)
			}
			for i, c := range w.configs(gateway.XAuthReply) {
				if _, sent := isakmp.Find(c.Attributes, isakmp.XAuthPassword); sent != (i == 0) {
					w.t.Errorf("reply %d has a password: %v", i, sent)
				}
			}
		})
	})
}

// passwordRounds makes the gateway ask for a password in as many rounds as it has words,
// and then let everybody in.
func (w *world) passwordRounds(words *[]string) {
	w.gateway.XAuth = func(round int, _ []isakmp.Attribute) gateway.XAuthTurn {
		if round == len(*words) {
			return gateway.XAuthTurn{Passed: true, User: testLogin}
		}
		ask := empty(isakmp.XAuthPassword)
		if said := (*words)[round]; said != "" {
			ask = append(ask, text(isakmp.XAuthMessage, said))
		}
		return gateway.XAuthTurn{Ask: ask}
	}
}

// passwordsSent lists the passwords that have left.
func (w *world) passwordsSent() (sent []string) {
	for _, c := range w.configs(gateway.XAuthReply) {
		sent = append(sent, valueOf(c, isakmp.XAuthPassword))
	}
	return sent
}

// TestPasswordUnderOtherWordsLater: the Dials of one connection know together under
// which words of which gateway its password was given.
func TestPasswordUnderOtherWordsLater(t *testing.T) {
	for _, tt := range []struct {
		name     string
		together bool
		second   string // gateway, of the second and the last Dial
		want     []string
	}{
		{"together", true, "gw.example.com", []string{testPassword, "654321", testPassword, testPassword}},
		{"two gateways", true, gatewayAddr.String(), []string{testPassword, testPassword, testPassword, "654321"}},
		{"each by itself", false, "gw.example.com", []string{testPassword, testPassword, testPassword, testPassword}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				if tt.together {
					w.client.Words = new(Words)
				}
				asked := w.answering("654321")
				words := []string{""}
				w.passwordRounds(&words)
				w.start()
				for i, said := range []string{"Enter the password", "Enter the code", "Enter the password", "Enter the password"} {
					words[0], w.client.Gateway = said, "gw.example.com"
					if i%2 == 1 {
						w.client.Gateway = tt.second
					}
					w.dial().Close()
				}
				if got := w.passwordsSent(); !slices.Equal(got, tt.want) {
					w.t.Errorf("sent %q", got)
				}
				for _, p := range *asked {
					if p.Kind != PromptChallenge {
						w.t.Errorf("asked %+v", p)
					}
				}
			})
		})
	}
}

// TestPasswordAskedTwice: a gateway that asks for a password again in one sign-in, without
// a word, may mean a one-time password: what is typed then is used, and not again.
func TestPasswordAskedTwice(t *testing.T) {
	inBoth(t, func(w *world) {
		words := []string{"", ""}
		w.passwordRounds(&words)
		asked := w.answering("654321")
		w.start()
		s := w.dial()
		words = words[:1]
		w.renew(s)
		synctest.Wait()
		if got := w.passwordsSent(); !slices.Equal(got, []string{testPassword, "654321", testPassword}) {
			w.t.Errorf("sent %q", got)
		}
		if want := []Prompt{{Kind: PromptPassword, Secret: true, Once: true}}; !slices.Equal(*asked, want) {
			w.t.Errorf("asked %+v", *asked)
		}
	})
}

// TestOneTimePasswordOnRenewal: the user is asked, and while he thinks the tunnel
// carries packets.
func TestOneTimePasswordOnRenewal(t *testing.T) {
	inBothWorlds(t, func(w *world) {
		w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)...)
		thinking := false
		w.client.Prompt = func(context.Context, Prompt) (Answer, error) {
			if thinking {
				time.Sleep(15 * time.Second)
			}
			return Answer{Secret("123456")}, nil
		}
		w.start()
		s := w.dial()
		st := w.newStream(s)
		thinking = true
		w.renew(s)
		st.run(100*time.Millisecond, 20*time.Second)
		st.wantNoLoss()
		if n := s.Stats().Rekeys; n != 1 {
			w.t.Errorf("%d reauthentications", n)
		}
	})
}

// TestReauthenticationFails: what ends the session at once, because another try
// would lock the account or trust somebody else.
func TestReauthenticationFails(t *testing.T) {
	t.Run("password changed", func(t *testing.T) {
		inBoth(t, func(w *world) {
			w.start()
			s := w.dial()
			w.changeConfig(gateway.XAuthSet, func(c *isakmp.Config) {
				c.Attributes = []isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthStatus, isakmp.XAuthFail)}
			})
			w.renew(s)
			_, err := w.waitEnd(s, time.Second)
			wantError[*CredentialsError](w.t, err)
			if n := len(w.messages(gateway.XAuthReply)); n != 2 {
				w.t.Errorf("%d answers", n)
			}
		})
	})
	t.Run("hangs up", func(t *testing.T) {
		inBoth(t, func(w *world) {
			w.start()
			s := w.dial()
			w.hook(gateway.XAuthSet, func(m *gateway.Message) []*gateway.Message {
				h := m.Header
				h.Exchange = isakmp.Informational
				return []*gateway.Message{deleteOf(h, isakmp.ProtoISAKMP, slices.Concat(h.CKYI[:], h.CKYR[:]))}
			})
			w.renew(s)
			_, err := w.waitEnd(s, time.Second)
			wantError[*CredentialsError](w.t, err)
		})
	})
	t.Run("another gateway answers", func(t *testing.T) {
		inBoth(t, func(w *world) {
			w.start()
			s := w.dial()
			w.changeProof(func(m *gateway.Message) { m.Payload(isakmp.PayloadSig)[9] ^= 1 })
			w.renew(s)
			_, err := w.waitEnd(s, refusedPatience)
			if e := wantError[*TrustError](w.t, err); e.Reason != TrustSignature {
				w.t.Errorf("%+v", e)
			}
			if n := len(w.messages(gateway.XAuthReply)); n != 1 {
				w.t.Errorf("%d answers", n)
			}
		})
	})
	t.Run("another address", func(t *testing.T) {
		inBoth(t, func(w *world) {
			w.start()
			s := w.dial()
			w.changeConfig(gateway.ConfigReply, func(c *isakmp.Config) { c.Attributes[0].Value = []byte{10, 99, 0, 77} })
			w.renew(s)
			_, err := w.waitEnd(s, time.Second)
			wantError[*AddressChangedError](w.t, err)
			synctest.Wait()
			if n := len(w.gw.Clients()); n != 0 {
				w.t.Errorf("the gateway keeps %d SAs", n)
			}
		})
	})
}

// TestReauthenticationRetried: what may be better next time is tried again, while
// the old SA carries packets; at its end there is nothing left to do.
func TestReauthenticationRetried(t *testing.T) {
	phase1 := func(from, to netip.AddrPort, data []byte) bool {
		h, ok := ikeHeader(from, to, data)
		return ok && (h.Exchange == isakmp.MainMode || h.Exchange == isakmp.AggressiveMode)
	}
	inBothWorlds(t, func(w *world) {
		w.gateway.IKELifetime = 600 * time.Second
		w.start()
		s := w.dial()
		st := w.newStream(s)
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			return loseIf(phase1(from, to, data), data)
		})
		w.renew(s)
		st.run(time.Second, 100*time.Second)
		w.setRule(nil)
		st.run(time.Second, 90*time.Second)
		if n := s.Stats().Rekeys; n != 1 {
			w.t.Errorf("%d reauthentications", n)
		}
		st.run(time.Second, 600*time.Second)
		st.wantNoLoss()
		w.wantAlive(s)
	})
	inBothWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		receive(s)
		w.do(s, func() { s.sa.lifetime = 600 * time.Second }) // as the gateway said
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			return loseIf(phase1(from, to, data), data)
		})
		w.renew(s)
		d, err := w.waitEnd(s, time.Hour)
		if e := wantError[*NoAnswerError](w.t, err); d != 600*time.Second {
			w.t.Errorf("after %v: %+v", d, e)
		}
	})
}

// do runs f in the control loop.
func (w *world) do(s *Session, f func()) {
	done := make(chan struct{})
	s.do(func() error {
		f()
		close(done)
		return nil
	})
	<-done
	s.wake()
}

// TestRenewalWithoutQuestions: some gateways know us already and leave out XAUTH and
// settings.
func TestRenewalWithoutQuestions(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		w.change(gateway.XAuthRequest, func(m *gateway.Message) {
			editConfig(w.t, m, func(c *isakmp.Config) {
				*c = isakmp.Config{Type: isakmp.ConfigSet, Attributes: []isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthStatus, isakmp.XAuthOK)}}
			})
		})
		w.hook(gateway.ConfigReply, func(*gateway.Message) []*gateway.Message { return nil })
		w.renew(s)
		time.Sleep(2 * renewalPatience)
		w.wantAlive(s)
		if n := len(w.messages(gateway.XAuthReply)); n != 1 {
			w.t.Errorf("%d answers", n)
		}
		w.exchangePackets(s, received, "hello")
	})
}

// deleteISAKMP makes the gateway delete the ISAKMP SA and say nothing of ESP, as IOS
// does, or say it in another order.
func (w *world) deleteISAKMP(then ...func(isakmp.Header) *gateway.Message) {
	w.t.Helper()
	w.say(firstVIP, func(h isakmp.Header) []*gateway.Message {
		ms := []*gateway.Message{deleteOf(h, isakmp.ProtoISAKMP, slices.Concat(h.CKYI[:], h.CKYR[:]))}
		for i, f := range then {
			h.MessageID += uint32(i + 1)
			ms = append(ms, f(h))
		}
		return ms
	})
}

// TestGatewayDeletesISAKMP: ESP goes on while a new phase 1 is built at once.
func TestGatewayDeletesISAKMP(t *testing.T) {
	inBothWorlds(t, func(w *world) {
		w.setRule(slow)
		w.start()
		s := w.dial()
		st := w.newStream(s)
		st.run(100*time.Millisecond, reauthRetry)
		w.deleteISAKMP()
		st.run(100*time.Millisecond, 5*time.Second)
		if n := s.Stats().Rekeys; n != 1 {
			w.t.Errorf("%d reauthentications", n)
		}
		st.run(100*time.Millisecond, 60*time.Second)
		st.wantNoLoss()
		w.wantAlive(s)
	})
}

// TestGatewayDeletesAll: with ESP gone too, the connection is over.
func TestGatewayDeletesAll(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		s := w.dial()
		w.stop()
		d, err := w.waitEnd(s, time.Second)
		wantError[*ClosedByGatewayError](w.t, err)
		if d != 0 {
			w.t.Errorf("it took %v", d)
		}
		w.wantSocketClosed()
	})
}

// TestGatewayDeletesESPLast: after a Delete for the ISAKMP SA, one for ESP is still
// heard, and a new phase 1 makes a new ESP SA.
func TestGatewayDeletesESPLast(t *testing.T) {
	inBoth(t, func(w *world) {
		w.setRule(slow)
		w.start()
		s := w.dial()
		time.Sleep(reauthRetry)
		received := receive(s)
		out := s.Stats().Children[0].SPIOut
		w.deleteISAKMP(func(h isakmp.Header) *gateway.Message { return deleteOf(h, isakmp.ProtoESP, be32(out)) })
		time.Sleep(2 * time.Second)
		w.setRule(nil)
		w.wantAlive(s)
		if n := s.Stats().Rekeys; n != 1 {
			w.t.Errorf("%d reauthentications", n)
		}
		w.exchangePackets(s, received, "hello")
		if n := len(spisOf(s)); n != 1 {
			w.t.Errorf("%d ESP SAs", n)
		}
	})
}

// TestOrphaned: if no new phase 1 can be built, ESP outlives its ISAKMP SA for a
// minute, whatever else becomes due meanwhile.
func TestOrphaned(t *testing.T) {
	for _, tt := range []struct {
		name string
		due  func(*Session) // in the control loop
		talk bool
	}{
		{"nothing else", func(*Session) {}, false},
		{"ESP is due for rekeying", func(s *Session) { s.current(s.pairs[0]).rekeyAt = time.Now().Add(10 * time.Second) }, false},
		{"the lifetime of phase 1 ends", func(s *Session) { s.sa.lifetime = time.Since(s.sa.established) + 10*time.Second }, false},
		{"ESP is not answered", func(*Session) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				s := w.dial()
				receive(s)
				w.do(s, func() { tt.due(s) })
				w.deleteISAKMP()
				w.setRule(loseFromGateway)
				if tt.talk {
					for s.Err() == nil {
						send(w.t, s, ipv4(firstVIP, insideHost, "anybody there?"))
						select {
						case <-time.After(700 * time.Millisecond):
						case <-s.Done():
						}
					}
				}
				_, err := w.waitEnd(s, time.Hour)
				wantError[*ClosedByGatewayError](w.t, err)
				want := reauthRetry + otherAddressPatience // the first that an SA of this age may try
				if tt.talk {
					want = renewAfter
				}
				if d := time.Since(w.began); d != want {
					t.Errorf("ended after %v, want %v", d, want)
				}
			})
		})
	}
}

// TestDeletedDuringRekey: the gateway deletes the ISAKMP SA while it owes an answer
// to our Quick Mode.
func TestDeletedDuringRekey(t *testing.T) {
	inBoth(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		time.Sleep(reauthRetry)
		w.hook(gateway.QM2, func(m *gateway.Message) []*gateway.Message {
			h := m.Header
			h.Exchange = isakmp.Informational
			return []*gateway.Message{deleteOf(h, isakmp.ProtoISAKMP, slices.Concat(h.CKYI[:], h.CKYR[:]))}
		})
		w.rekey(s)
		synctest.Wait()
		w.hook(gateway.QM2, nil)
		w.flowsWithin(s, received, 5*time.Second)
		time.Sleep(2 * time.Minute)
		w.wantAlive(s)
		if n := s.Stats().Rekeys; n != 1 {
			w.t.Errorf("%d reauthentications", n)
		}
	})
}

// TestESPDeletedDuringReauthentication: on the ISAKMP SA that is being built.
func TestESPDeletedDuringReauthentication(t *testing.T) {
	inBoth(t, func(w *world) {
		w.setRule(slow)
		w.start()
		s := w.dial()
		received := receive(s)
		time.Sleep(time.Second)
		out := s.Stats().Children[0].SPIOut
		w.hook(gateway.ConfigReply, func(m *gateway.Message) []*gateway.Message {
			h := m.Header
			h.Exchange, h.MessageID = isakmp.Informational, 99
			return []*gateway.Message{deleteOf(h, isakmp.ProtoESP, be32(out)), m}
		})
		w.renew(s)
		for range 100 { // the control loop has something to do meanwhile
			s.NetworkChanged()
			w.talk(s, 5*time.Millisecond, 10*time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		w.setRule(nil)
		w.wantAlive(s)
		if n := s.Stats().Rekeys; n != 1 {
			w.t.Errorf("%d reauthentications", n)
		}
		w.exchangePackets(s, received, "hello")
	})
}

// TestFickleGateway: one that deletes each ISAKMP SA as soon as it is there does not
// make us sign in all the time.
func TestFickleGateway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		w.hook(gateway.QM2, func(m *gateway.Message) []*gateway.Message {
			h := m.Header
			h.Exchange, h.MessageID = isakmp.Informational, h.MessageID+1
			return []*gateway.Message{m, deleteOf(h, isakmp.ProtoISAKMP, slices.Concat(h.CKYI[:], h.CKYR[:]))}
		})
		w.renew(s)
		time.Sleep(time.Minute)
		w.wantAlive(s)
		if n := len(w.messages(gateway.XAuthReply)); n < 3 || n > 6 {
			t.Errorf("signed in %d times in a minute", n)
		}
		w.hook(gateway.QM2, nil)
		time.Sleep(time.Minute)
		w.exchangePackets(s, received, "hello")
	})
}

// TestCloseDuringReauthentication at each of its steps: nothing is left behind.
func TestCloseDuringReauthentication(t *testing.T) {
	for _, step := range []gateway.Step{gateway.MM2, gateway.MM6, gateway.AM2, gateway.XAuthRequest, gateway.XAuthSet, gateway.ConfigReply, gateway.QM2} {
		t.Run(string(step), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = ExchangeMain
				if step == gateway.AM2 {
					w.client.Exchange = ExchangeAggressive
				}
				w.start()
				s := w.dial()
				w.hook(step, func(*gateway.Message) []*gateway.Message { return nil })
				w.renew(s)
				time.Sleep(time.Second)
				if d := elapsed(func() { s.Close() }); d != 0 {
					t.Errorf("Close took %v", d)
				}
				w.wantSocketClosed()
				time.Sleep(time.Minute)
				if n := len(w.gw.Clients()); n != 0 {
					t.Errorf("the gateway keeps %d SAs", n)
				}
			})
		})
	}
}

// TestWordsOutliveSilence: a gateway that once asks without words has not changed them.
func TestWordsOutliveSilence(t *testing.T) {
	var w Words
	w.keep("gw", "Password:")
	w.keep("gw", "")
	if w.differ("gw", "Password:") || !w.differ("gw", "Token:") {
		t.Errorf("remembered %q", w.of["gw"])
	}
	w.keep("other", "")
	if !w.differ("other", "Token:") {
		t.Error("words where there were none are the same")
	}
}
