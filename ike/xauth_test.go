package ike

import (
	"context"
	"crypto/md5"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// transaction makes a Transaction message of the gateway with a message ID of its
// own, from the header of another message.
func transaction(h isakmp.Header, mid uint32, c isakmp.Config) *gateway.Message {
	h.Exchange, h.MessageID, h.Flags = isakmp.Transaction, mid, isakmp.FlagEncrypted
	m := &gateway.Message{Step: "TEST", Header: h}
	m.Add(isakmp.PayloadAttribute, c.Append(nil))
	return m
}

// changeConfig alters the Attribute payload of the gateway's messages of a step.
func (w *world) changeConfig(step gateway.Step, f func(*isakmp.Config)) {
	w.change(step, func(m *gateway.Message) { editConfig(w.t, m, f) })
}

func editConfig(t *testing.T, m *gateway.Message, f func(*isakmp.Config)) {
	t.Helper()
	c, err := isakmp.ParseConfig(m.Payload(isakmp.PayloadAttribute))
	if err != nil {
		t.Error(err)
		return
	}
	f(&c)
	m.Replace(isakmp.PayloadAttribute, c.Append(nil))
}

// ask makes the gateway's XAUTH REQUEST ask for other things. The gateway knows
// neither of them: a right login is one without a password.
func (w *world) ask(as ...isakmp.Attribute) {
	w.gateway.Users = map[string]string{testLogin: ""}
	w.changeConfig(gateway.XAuthRequest, func(c *isakmp.Config) { c.Attributes = as })
}

func empty(types ...uint16) []isakmp.Attribute {
	var as []isakmp.Attribute
	for _, t := range types {
		as = append(as, isakmp.Attribute{Type: t})
	}
	return as
}

func text(typ uint16, s string) isakmp.Attribute {
	return isakmp.Attribute{Type: typ, Value: []byte(s)}
}

func valueOf(c isakmp.Config, typ uint16) string {
	a, _ := isakmp.Find(c.Attributes, typ)
	return string(a.Value)
}

// theReply is the only REPLY that the gateway accepted.
func (w *world) theReply() isakmp.Config {
	w.t.Helper()
	replies := w.configs(gateway.XAuthReply)
	if len(replies) != 1 {
		w.t.Fatalf("%d XAUTH replies", len(replies))
	}
	return replies[0]
}

// wantCancelled: the REPLY says that there will be none, and nothing else.
func (w *world) wantCancelled() {
	w.t.Helper()
	synctest.Wait()
	status, ok := isakmp.Find(w.theReply().Attributes, isakmp.XAuthStatus)
	if v, _ := status.Uint(); !ok || v != uint64(isakmp.XAuthFail) || len(w.theReply().Attributes) != 1 {
		w.t.Errorf("REPLY %+v", w.theReply())
	}
	if n := len(w.gw.Clients()); n != 0 {
		w.t.Errorf("the gateway keeps %d SAs", n)
	}
}

// TestCredentialsArrive: login and password arrive byte for byte.
func TestCredentialsArrive(t *testing.T) {
	for _, tt := range []struct{ login, password string }{
		{"ada", "x"},
		{"ada", `quotes ' " and \ $(rm) %s`},
		{"CORP\\ada", "пароль-密码-🔑"},
		{"ada@example.com", strings.Repeat("a", 64)},
		{"Ädä Löve", "\x00\x01\xff not text \n\r"},
		{"ada", strings.Repeat("long", 500)},
		{"ada", " "},
	} {
		inBoth(t, func(w *world) {
			w.client.Login, w.client.Password = tt.login, Secret(tt.password)
			w.gateway.Users = map[string]string{tt.login: tt.password}
			w.start()
			w.dial()
			if r := w.theReply(); valueOf(r, isakmp.XAuthUserName) != tt.login || valueOf(r, isakmp.XAuthPassword) != tt.password {
				w.t.Errorf("REPLY %+v", r)
			}
			if string(w.client.Password) != tt.password {
				w.t.Error("Dial changed the Config")
			}
		})
	}
}

// TestXAuthType: the type comes back exactly if it was asked with one.
func TestXAuthType(t *testing.T) {
	generic := isakmp.BasicAttribute(isakmp.XAuthType, xauthGeneric)
	for name, request := range map[string][]isakmp.Attribute{
		"without": empty(isakmp.XAuthUserName),
		"generic": append([]isakmp.Attribute{generic}, empty(isakmp.XAuthUserName)...),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.ask(request...)
				w.start()
				w.dial()
				_, has := isakmp.Find(w.theReply().Attributes, isakmp.XAuthType)
				if has != (len(request) == 2) || len(w.theReply().Attributes) != len(request) {
					t.Errorf("REPLY %+v", w.theReply())
				}
			})
		})
	}
	for _, kind := range []uint16{4, 5, 65535} { // SecurID is Nortel's 5
		inWorld(t, func(w *world) {
			w.ask(append(xauthType(kind), empty(isakmp.XAuthUserName, isakmp.XAuthPassword)...)...)
			w.start()
			_, err := w.tryDial()
			if e := wantError[*ProtocolError](w.t, err); e.Step != StepSignIn {
				t.Errorf("type %d: %v", kind, e)
			}
			w.wantCancelled()
		})
	}
}

func xauthType(kind uint16) []isakmp.Attribute {
	return []isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthType, kind)}
}

// TestCHAP: the password stays here, and only its hash with the challenge leaves. A
// gateway that sends no challenge means a plain password.
func TestCHAP(t *testing.T) {
	for _, challenge := range []string{"0123456789abcdef", ""} {
		inWorld(t, func(w *world) {
			request := append(xauthType(xauthCHAP), empty(isakmp.XAuthUserName, isakmp.XAuthPassword)...)
			w.ask(append(request, text(isakmp.XAuthChallenge, challenge))...)
			w.start()
			w.tryDial() // the gateway does not understand the answer
			got := valueOf(w.theReply(), isakmp.XAuthPassword)
			if challenge == "" {
				if got != testPassword {
					t.Errorf("answer %q", got)
				}
				return
			}
			if want := md5.Sum([]byte(got[:1] + testPassword + challenge)); got[1:] != string(want[:]) {
				t.Errorf("answer %x", got)
			}
		})
	}
}

// TestOneTimePasswords: the stored password is never sent in their place, nor are
// they kept.
func TestOneTimePasswords(t *testing.T) {
	for _, kind := range []uint16{xauthOTP, xauthSKey} {
		inWorld(t, func(w *world) {
			w.ask(append(xauthType(kind), text(isakmp.XAuthUserName, ""), text(isakmp.XAuthPassword, ""), text(isakmp.XAuthChallenge, "otp-md5 499 ke1234"))...)
			w.gateway.Users[testLogin] = "MULE FOAL"
			asked := w.answering("MULE FOAL")
			w.start()
			s := w.dial()
			if want := []Prompt{{Kind: PromptOTP, Text: "otp-md5 499 ke1234", Secret: true}}; !slices.Equal(*asked, want) {
				t.Errorf("asked %+v", *asked)
			}
			if got, _ := s.knownPassword(""); string(got) != testPassword {
				t.Errorf("the password is %q now", string(got))
			}
		})
	}
}

// TestDomain: a gateway that wants the domain by itself gets it so.
func TestDomain(t *testing.T) {
	for _, tt := range []struct{ login, user, domain string }{
		{`CORP\ada`, "ada", "CORP"}, {"ada", "ada", ""}, {`A\B\c`, `B\c`, "A"},
	} {
		inWorld(t, func(w *world) {
			w.client.Login = tt.login
			w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthDomain)...)
			w.gateway.Users[tt.user] = ""
			w.start()
			w.dial()
			r := w.theReply()
			if len(r.Attributes) != 2 || valueOf(r, isakmp.XAuthUserName) != tt.user || valueOf(r, isakmp.XAuthDomain) != tt.domain {
				t.Errorf("%s: REPLY %+v", tt.login, r)
			}
		})
	}
}

// TestCheckPoint: its numbers for XAUTH are those of Mode-Config, which is not
// mistaken for XAUTH afterwards.
func TestCheckPoint(t *testing.T) {
	inBoth(t, func(w *world) {
		w.ask(isakmp.BasicAttribute(13, xauthGeneric), text(14, ""), text(15, ""))
		w.gateway.Users[""] = "" // the gateway does not find the login
		w.changeConfig(gateway.XAuthSet, func(c *isakmp.Config) { c.Attributes[0].Type = 20 })
		w.changeConfig(gateway.ConfigReply, func(c *isakmp.Config) { // 13 is a network there
			c.Attributes = append(c.Attributes, text(isakmp.CfgIP4Subnet, "\x0a\x14\x00\x00\xff\xff\x00\x00"))
		})
		w.start()
		s := w.dial()
		if r := w.theReply(); valueOf(r, 14) != testLogin || valueOf(r, 15) != testPassword || len(r.Attributes) != 3 || r.Attributes[0].Type != 13 {
			w.t.Errorf("REPLY %+v", r)
		}
		if got := s.Assignment().SplitInclude; len(got) != 2 || got[1].String() != "10.20.0.0/16" {
			w.t.Errorf("networks %v", got)
		}
	})
}

func TestWrongPassword(t *testing.T) {
	for _, exchange := range []Exchange{ExchangeAuto, ExchangeMain, ExchangeAggressive} {
		inWorld(t, func(w *world) {
			w.client.Exchange = exchange
			w.client.Password = Secret("wrong")
			w.changeConfig(gateway.XAuthSet, func(c *isakmp.Config) {
				c.Attributes = append(c.Attributes, text(isakmp.XAuthMessage, "account \x1b[31mlocked\x00"))
			})
			w.start()
			var err error
			d := elapsed(func() { _, err = w.tryDial() })
			e := wantError[*CredentialsError](w.t, err)
			if e.Step != StepSignIn || e.Message != "account [31mlocked" || d != 0 {
				t.Errorf("after %v: %+v", d, e)
			}
			w.theReply()
			synctest.Wait()
			if n := len(w.gw.Clients()); n != 0 {
				t.Errorf("the gateway keeps %d SAs", n)
			}
			w.wantSocketClosed()
		})
	}
}

// TestRounds: login and password may be asked for one after the other, each in a
// transaction of its own.
func TestRounds(t *testing.T) {
	inBoth(t, func(w *world) {
		w.gateway.Users = map[string]string{"": testPassword}
		w.hook(gateway.XAuthRequest, func(m *gateway.Message) []*gateway.Message {
			first := transaction(m.Header, 7, isakmp.Config{Type: isakmp.ConfigRequest, Identifier: 1, Attributes: empty(isakmp.XAuthUserName)})
			editConfig(w.t, m, func(c *isakmp.Config) { c.Attributes = empty(isakmp.XAuthPassword) })
			return []*gateway.Message{first, m}
		})
		w.start()
		w.dial()
		if r := w.theReply(); len(r.Attributes) != 1 || valueOf(r, isakmp.XAuthPassword) != testPassword {
			w.t.Errorf("second REPLY %+v", r)
		}
		if n := len(w.transactionsTo(7)); n != 1 {
			w.t.Errorf("%d answers to the first REQUEST", n)
		}
	})
}

// transactionsTo lists the client's Transactions with a message ID.
func (w *world) transactionsTo(mid uint32) []datagram {
	return w.sent(func(d datagram) bool {
		h, ok := ikeHeader(d.from, d.to, d.data)
		return byClient(d) && ok && h.Exchange == isakmp.Transaction && h.MessageID == mid
	})
}

// answering is a Prompt hook that notes the questions.
func (w *world) answering(answer string) *[]Prompt {
	asked := new([]Prompt)
	w.client.Prompt = func(_ context.Context, p Prompt) (Answer, error) {
		*asked = append(*asked, p)
		return Answer{Text: Secret(answer)}, nil
	}
	return asked
}

func TestPrompts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		request []isakmp.Attribute
		typ     uint16
		want    Prompt
	}{
		{"password", empty(isakmp.XAuthUserName, isakmp.XAuthPassword), isakmp.XAuthPassword, Prompt{Kind: PromptPassword, Secret: true}},
		{
			"passcode", append(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode), text(isakmp.XAuthMessage, "token\tplease\r\n")), isakmp.XAuthPasscode,
			Prompt{Kind: PromptOTP, Text: "token please", Secret: true},
		},
		{
			"next PIN", append(empty(isakmp.XAuthUserName, isakmp.XAuthNextPIN), text(isakmp.XAuthMessage, "\x1b]0;evil\x07new\u202e PIN\nline")), isakmp.XAuthNextPIN,
			Prompt{Kind: PromptNextPIN, Text: "]0;evilnew PIN\nline", Secret: true},
		},
		{
			"answer", append(empty(isakmp.XAuthUserName, isakmp.XAuthAnswer), text(isakmp.XAuthMessage, "one"), text(isakmp.XAuthChallenge, "two")), isakmp.XAuthAnswer,
			Prompt{Kind: PromptChallenge, Text: "one\ntwo"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.ask(tt.request...)
				if tt.typ == isakmp.XAuthPassword {
					w.gateway.Users[testLogin] = "answer"
				}
				w.client.Password = nil
				asked := w.answering("answer")
				w.start()
				w.dial()
				if !slices.Equal(*asked, []Prompt{tt.want}) {
					t.Errorf("asked %+v", *asked)
				}
				if got := valueOf(w.theReply(), tt.typ); got != "answer" {
					t.Errorf("REPLY with %q", got)
				}
				if strings.Contains(w.logText(), "answer\"") {
					t.Error("the log shows the answer")
				}
			})
		})
	}
}

// TestAnswerIsWiped: Dial zeroises what the user has said.
func TestAnswerIsWiped(t *testing.T) {
	inWorld(t, func(w *world) {
		answer := Secret("123456")
		w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)...)
		w.client.Prompt = func(context.Context, Prompt) (Answer, error) { return Answer{answer}, nil }
		w.start()
		w.dial()
		if string(answer) != strings.Repeat("\x00", 6) {
			t.Errorf("%q is left", string(answer))
		}
	})
}

// TestSlowUser: the gateway repeats its REQUEST while the user thinks; there is one
// question and one answer.
func TestSlowUser(t *testing.T) {
	inBoth(t, func(w *world) {
		w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)...)
		questions := 0
		w.client.Prompt = func(context.Context, Prompt) (Answer, error) {
			questions++
			time.Sleep(20 * time.Second)
			return Answer{Secret("123456")}, nil
		}
		w.start()
		s := w.dial()
		w.theReply()
		if d := time.Since(w.began); d != 20*time.Second || questions != 1 {
			w.t.Errorf("%d questions, connected after %v", questions, d)
		}
		w.exchangePackets(s, receive(s), "hello")
	})
}

func TestNobodyAnswers(t *testing.T) {
	gone := errors.New("the window was closed")
	for _, tt := range []struct {
		name   string
		prompt func(context.Context, Prompt) (Answer, error)
		want   error
	}{
		{"nobody to ask", nil, ErrNobodyToAsk},
		{"error", func(context.Context, Prompt) (Answer, error) { return Answer{}, gone }, gone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)...)
				w.client.Prompt = tt.prompt
				w.start()
				if _, err := w.tryDial(); !errors.Is(err, tt.want) {
					w.t.Errorf("error %v", err)
				}
				w.wantCancelled()
			})
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)...)
			w.client.Prompt = func(ctx context.Context, _ Prompt) (Answer, error) {
				<-ctx.Done()
				return Answer{}, ctx.Err()
			}
			w.start()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if _, err := w.tryDialContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if d := time.Since(w.began); d != 5*time.Second {
				t.Errorf("it took %v", d)
			}
			w.wantCancelled()
		})
	})
}

// TestAskedAgain: who asks for the password again did not like it, or means
// another. The same one is never sent twice.
func TestAskedAgain(t *testing.T) {
	again := func(w *world) {
		w.hook(gateway.XAuthSet, func(m *gateway.Message) []*gateway.Message {
			c := isakmp.Config{Type: isakmp.ConfigRequest, Identifier: 9, Attributes: append(empty(isakmp.XAuthPassword), text(isakmp.XAuthMessage, "next token"))}
			return []*gateway.Message{transaction(m.Header, 9, c), m}
		})
		w.start()
	}
	t.Run("nobody to ask", func(t *testing.T) {
		inWorld(t, func(w *world) {
			again(w)
			_, err := w.tryDial()
			if e := wantError[*CredentialsError](w.t, err); e.Message != "next token" {
				t.Errorf("%+v", e)
			}
			w.theReply()
		})
	})
	t.Run("asked", func(t *testing.T) {
		inWorld(t, func(w *world) {
			asked := w.answering("654321")
			again(w)
			w.dial()
			if want := []Prompt{{Kind: PromptChallenge, Text: "next token", Secret: true}}; !slices.Equal(*asked, want) {
				t.Errorf("asked %+v", *asked)
			}
		})
	})
	t.Run("another thing, nobody to ask", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.hook(gateway.XAuthSet, func(m *gateway.Message) []*gateway.Message {
				c := isakmp.Config{Type: isakmp.ConfigRequest, Identifier: 9, Attributes: empty(isakmp.XAuthPasscode)}
				return []*gateway.Message{transaction(m.Header, 9, c)}
			})
			w.start()
			if _, err := w.tryDial(); !errors.Is(err, ErrNobodyToAsk) {
				t.Errorf("error %v: the password was right so far", err)
			}
		})
	})
}

// TestUnknownXAuthAttribute: attributes that are not XAUTH's own are passed over;
// Cisco's gateways ask for some.
func TestUnknownXAuthAttribute(t *testing.T) {
	inWorld(t, func(w *world) {
		w.changeConfig(gateway.XAuthRequest, func(c *isakmp.Config) { c.Attributes = append(c.Attributes, empty(0x7d88)...) })
		w.start()
		w.dial()
		reply := w.configs(gateway.XAuthReply)[0]
		if _, answered := isakmp.Find(reply.Attributes, 0x7d88); answered {
			t.Errorf("reply %+v", reply)
		}
	})
}

// TestUninvited: a gateway that lets everybody in without asking is not ours.
func TestUninvited(t *testing.T) {
	ok := func(m *gateway.Message) {
		editConfig(t, m, func(c *isakmp.Config) {
			*c = isakmp.Config{Type: isakmp.ConfigSet, Attributes: []isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthStatus, isakmp.XAuthOK)}}
		})
	}
	inBoth(t, func(w *world) {
		w.change(gateway.XAuthRequest, ok)
		w.start()
		_, err := w.tryDial()
		wantError[*ProtocolError](w.t, err)
	})
}

// TestSignInAgain: a gateway may ask at any time. It gets one answer, and its
// verdict counts.
func TestSignInAgain(t *testing.T) {
	const mid = 77
	request := func(h isakmp.Header) []*gateway.Message {
		return []*gateway.Message{transaction(h, mid, isakmp.Config{Type: isakmp.ConfigRequest, Attributes: empty(isakmp.XAuthUserName, isakmp.XAuthPassword)})}
	}
	verdict := func(v uint16) func(isakmp.Header) []*gateway.Message {
		return func(h isakmp.Header) []*gateway.Message {
			return []*gateway.Message{transaction(h, mid+1, isakmp.Config{Type: isakmp.ConfigSet, Attributes: []isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthStatus, v)}})}
		}
	}
	for _, status := range []uint16{isakmp.XAuthOK, isakmp.XAuthFail} {
		inBoth(t, func(w *world) {
			w.start()
			s := w.dial()
			received := receive(s)
			w.say(firstVIP, request)
			synctest.Wait()
			if n := len(w.transactionsTo(mid)); n != 1 {
				w.t.Fatalf("%d answers", n)
			}
			w.say(firstVIP, verdict(status))
			synctest.Wait()
			if status == isakmp.XAuthOK {
				w.wantAlive(s)
				w.exchangePackets(s, received, "hello")
				return
			}
			_, err := w.waitEnd(s, 0)
			wantError[*CredentialsError](w.t, err)
		})
	}
}

// TestHangsUp: a gateway that takes leave after our answer did not like it; one that
// does so before has another reason.
func TestHangsUp(t *testing.T) {
	leave := func(m *gateway.Message) []*gateway.Message {
		d := isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPISize: 16, SPIs: [][]byte{slices.Concat(m.Header.CKYI[:], m.Header.CKYR[:])}}
		m.Header.Exchange = isakmp.Informational
		m.Payloads = []isakmp.Payload{{Type: isakmp.PayloadDelete, Body: d.Append(nil)}}
		return []*gateway.Message{m}
	}
	fail := func(m *gateway.Message) []*gateway.Message {
		n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: isakmp.NotifyAuthenticationFailed}
		m.Header.Exchange = isakmp.Informational
		m.Payloads = []isakmp.Payload{{Type: isakmp.PayloadNotify, Body: n.Append(nil)}}
		return []*gateway.Message{m}
	}
	for name, h := range map[string]hook{"by Delete": leave, "by Notify": fail} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.hook(gateway.XAuthSet, h)
				w.start()
				_, err := w.tryDial()
				wantError[*CredentialsError](w.t, err)
				if d := time.Since(w.began); d != 0 {
					w.t.Errorf("it took %v", d)
				}
			})
		})
	}
	t.Run("before the answer", func(t *testing.T) {
		inBoth(t, func(w *world) {
			w.hook(gateway.XAuthRequest, leave)
			w.start()
			_, err := w.tryDial()
			wantError[*ClosedByGatewayError](w.t, err)
		})
	})
}

// TestSilentSignIn: the gateway's silence is told with its step, after xauthPatience.
func TestSilentSignIn(t *testing.T) {
	for _, step := range []gateway.Step{gateway.XAuthRequest, gateway.XAuthSet} {
		inBoth(t, func(w *world) {
			w.hook(step, func(*gateway.Message) []*gateway.Message { return nil })
			w.start()
			var err error
			d := elapsed(func() { _, err = w.tryDial() })
			if e := wantError[*NoAnswerError](w.t, err); e.Step != StepSignIn || d != 30*time.Second {
				w.t.Errorf("%s: after %v: %+v", step, d, e)
			}
		})
	}
}
