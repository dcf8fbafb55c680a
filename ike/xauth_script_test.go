package ike

import (
	"context"
	"crypto/md5"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// xauthRound is a REQUEST of a script, and what the client must answer to it.
type xauthRound struct {
	ask  []isakmp.Attribute
	want map[uint16]string
}

// script lets the gateway play rounds, and then judge: a client passes whose answers
// are all as wanted. It notes the last answer of each kind.
func (w *world) script(sameMID bool, rounds ...xauthRound) {
	good := true
	w.gateway.XAuth = func(round int, reply []isakmp.Attribute) gateway.XAuthTurn {
		if round > 0 {
			for typ, want := range rounds[round-1].want {
				if a, ok := isakmp.Find(reply, typ); !ok || string(a.Value) != want {
					w.t.Errorf("round %d: attribute %d is %q, want %q", round, typ, a.Value, want)
					good = false
				}
			}
			wanted := len(rounds[round-1].want)
			if _, typed := isakmp.Find(reply, isakmp.XAuthType); typed {
				wanted++
			}
			if len(reply) != wanted {
				w.t.Errorf("round %d: %d attributes instead of %d", round, len(reply), wanted)
			}
		}
		if round < len(rounds) {
			return gateway.XAuthTurn{Ask: rounds[round].ask, SameMID: sameMID}
		}
		return gateway.XAuthTurn{Passed: good, User: testLogin, SameMID: sameMID}
	}
}

// TestXAuthScripts: whatever gateways ask, in however many rounds, under one message
// ID or several. The login and the password are given unasked and once, everything
// else is the user's to say.
func TestXAuthScripts(t *testing.T) {
	login := map[uint16]string{isakmp.XAuthUserName: testLogin}
	password := map[uint16]string{isakmp.XAuthPassword: testPassword}
	both := map[uint16]string{isakmp.XAuthUserName: testLogin, isakmp.XAuthPassword: testPassword}
	says := func(typ uint16, value string) map[uint16]string { return map[uint16]string{typ: value} }
	for _, tt := range []struct {
		name    string
		rounds  []xauthRound
		answers []string // of the user, in their order
		asked   []Prompt
	}{
		{name: "one round", rounds: []xauthRound{{ask: empty(isakmp.XAuthUserName, isakmp.XAuthPassword), want: both}}},
		{name: "typed", rounds: []xauthRound{{
			ask: append(xauthType(xauthGeneric), empty(isakmp.XAuthUserName, isakmp.XAuthPassword)...), want: both,
		}}},
		{name: "password apart from the name", rounds: []xauthRound{
			{ask: empty(isakmp.XAuthUserName), want: login}, {ask: empty(isakmp.XAuthPassword), want: password},
		}},
		{name: "none at all about the password", rounds: []xauthRound{{ask: empty(isakmp.XAuthUserName), want: login}}},
		{
			name: "token after the password (RADIUS challenge)",
			rounds: []xauthRound{
				{ask: empty(isakmp.XAuthUserName, isakmp.XAuthPassword), want: both},
				{
					ask:  append(empty(isakmp.XAuthPassword), text(isakmp.XAuthMessage, "Enter the code")),
					want: says(isakmp.XAuthPassword, "token-271828"),
				},
			},
			answers: []string{"token-271828"},
			asked:   []Prompt{{Kind: PromptChallenge, Text: "Enter the code", Secret: true}},
		},
		{
			name: "passcode, then another",
			rounds: []xauthRound{
				{
					ask:  empty(isakmp.XAuthUserName, isakmp.XAuthPasscode),
					want: map[uint16]string{isakmp.XAuthUserName: testLogin, isakmp.XAuthPasscode: "token-111111"},
				},
				{
					ask:  append(empty(isakmp.XAuthPasscode), text(isakmp.XAuthMessage, "Wait for the next code")),
					want: says(isakmp.XAuthPasscode, "token-222222"),
				},
			},
			answers: []string{"token-111111", "token-222222"},
			asked:   []Prompt{{Kind: PromptOTP, Secret: true}, {Kind: PromptOTP, Text: "Wait for the next code", Secret: true}},
		},
		{
			name: "new PIN (SecurID)",
			rounds: []xauthRound{
				{
					ask:  empty(isakmp.XAuthUserName, isakmp.XAuthPasscode),
					want: map[uint16]string{isakmp.XAuthUserName: testLogin, isakmp.XAuthPasscode: "token-111111"},
				},
				{
					ask:  append(empty(isakmp.XAuthAnswer), text(isakmp.XAuthMessage, "Choose a PIN yourself? y/n")),
					want: says(isakmp.XAuthAnswer, "y"),
				},
				{ask: append(empty(isakmp.XAuthNextPIN), text(isakmp.XAuthMessage, "New PIN")), want: says(isakmp.XAuthNextPIN, "new-pin-8642")},
				{ask: empty(isakmp.XAuthPasscode), want: says(isakmp.XAuthPasscode, "new-pin-333333")},
			},
			answers: []string{"token-111111", "y", "new-pin-8642", "new-pin-333333"},
			asked: []Prompt{
				{Kind: PromptOTP, Secret: true},
				{Kind: PromptChallenge, Text: "Choose a PIN yourself? y/n"},
				{Kind: PromptNextPIN, Text: "New PIN", Secret: true},
				{Kind: PromptOTP, Secret: true},
			},
		},
		{
			name: "one-time password (RFC 2289)",
			rounds: []xauthRound{{
				ask: append(append(xauthType(xauthOTP), empty(isakmp.XAuthUserName, isakmp.XAuthPassword)...),
					text(isakmp.XAuthChallenge, "otp-sha1 97 seed")),
				want: map[uint16]string{isakmp.XAuthUserName: testLogin, isakmp.XAuthPassword: "OUST COAT FOAL"},
			}},
			answers: []string{"OUST COAT FOAL"},
			asked:   []Prompt{{Kind: PromptOTP, Text: "otp-sha1 97 seed", Secret: true}},
		},
	} {
		for mids, sameMID := range map[string]bool{"new message IDs": false, "one message ID": true} {
			t.Run(tt.name+", "+mids, func(t *testing.T) {
				inBoth(t, func(w *world) {
					var asked []Prompt
					w.client.Prompt = func(_ context.Context, p Prompt) (Answer, error) {
						asked = append(asked, p)
						if len(asked) > len(tt.answers) {
							w.t.Fatalf("asked too much: %+v", p)
						}
						return Answer{Text: Secret(tt.answers[len(asked)-1])}, nil
					}
					w.script(sameMID, tt.rounds...)
					w.start()
					s := w.dial()
					if !slices.Equal(asked, tt.asked) {
						w.t.Errorf("asked %+v", asked)
					}
					if n := len(w.messages(gateway.XAuthReply)); n != len(tt.rounds) {
						w.t.Errorf("%d replies", n)
					}
					if d := time.Since(w.began); d != 0 {
						w.t.Errorf("it took %v", d)
					}
					w.exchangePackets(s, receive(s), "hello")
					for _, secret := range append(tt.answers, testPassword) {
						if len(secret) > 1 && strings.Contains(w.logText(), secret) {
							w.t.Errorf("the log shows %q", secret)
						}
					}
				})
			})
		}
	}
}

// TestCHAPPasses: the gateway computes RADIUS-CHAP itself (RFC 2865 §5.3).
func TestCHAPPasses(t *testing.T) {
	const challenge = "0123456789abcdef"
	inBoth(t, func(w *world) {
		w.gateway.XAuth = func(round int, reply []isakmp.Attribute) gateway.XAuthTurn {
			if round == 0 {
				ask := append(xauthType(xauthCHAP), empty(isakmp.XAuthUserName, isakmp.XAuthPassword)...)
				return gateway.XAuthTurn{Ask: append(ask, text(isakmp.XAuthChallenge, challenge))}
			}
			a, _ := isakmp.Find(reply, isakmp.XAuthPassword)
			if len(a.Value) != 1+md5.Size {
				return gateway.XAuthTurn{}
			}
			want := md5.Sum([]byte(string(a.Value[:1]) + testPassword + challenge))
			return gateway.XAuthTurn{Passed: string(a.Value[1:]) == string(want[:]), User: testLogin}
		}
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
	})
}

// TestVerdictWithMessage: the gateway's own words come with its refusal.
func TestVerdictWithMessage(t *testing.T) {
	inBoth(t, func(w *world) {
		w.gateway.XAuth = func(round int, _ []isakmp.Attribute) gateway.XAuthTurn {
			if round == 0 {
				return gateway.XAuthTurn{Ask: empty(isakmp.XAuthUserName, isakmp.XAuthPassword)}
			}
			return gateway.XAuthTurn{With: []isakmp.Attribute{text(isakmp.XAuthMessage, "your password has expired")}}
		}
		w.start()
		_, err := w.tryDial()
		if e := wantError[*CredentialsError](w.t, err); e.Message != "your password has expired" {
			w.t.Errorf("%+v", e)
		}
	})
}

// TestStatusWithoutRequest: a verdict that nothing went before counts only for a
// profile without a login.
func TestStatusWithoutRequest(t *testing.T) {
	for _, login := range []string{"", testLogin} {
		inBoth(t, func(w *world) {
			w.client.Login = login
			w.gateway.XAuth = func(int, []isakmp.Attribute) gateway.XAuthTurn { return gateway.XAuthTurn{Passed: true} }
			w.start()
			s, err := w.tryDial()
			if login != "" {
				wantError[*ProtocolError](w.t, err)
				return
			}
			if err != nil {
				w.t.Fatal(err)
			}
			w.exchangePackets(s, receive(s), "hello")
		})
	}
}

// TestAskedLater: XAUTH may begin at any time (draft-beaulieu-ike-xauth-02 §5), with as
// many rounds; data flow while the user thinks, and a wrong answer ends the session.
func TestAskedLater(t *testing.T) {
	for _, answer := range []string{"123456", "wrong"} {
		inBoth(t, func(w *world) {
			asked := 0
			w.client.Prompt = func(context.Context, Prompt) (Answer, error) {
				asked++
				time.Sleep(9 * time.Second)
				return Answer{Text: Secret(answer)}, nil
			}
			signedIn := false
			w.gateway.XAuth = func(round int, reply []isakmp.Attribute) gateway.XAuthTurn {
				switch {
				case round == 0:
					return gateway.XAuthTurn{Ask: empty(isakmp.XAuthUserName, isakmp.XAuthPassword)}
				case !signedIn:
					signedIn = true
					return gateway.XAuthTurn{Passed: true, User: testLogin}
				case round == 1:
					return gateway.XAuthTurn{Ask: append(empty(isakmp.XAuthPasscode), text(isakmp.XAuthMessage, "code"))}
				}
				code, _ := isakmp.Find(reply, isakmp.XAuthPasscode)
				return gateway.XAuthTurn{Passed: string(code.Value) == "123456", User: testLogin}
			}
			w.start()
			s := w.dial()
			received := receive(s)
			time.Sleep(time.Hour / 4)
			if err := w.gw.AskAgain(firstVIP); err != nil {
				w.t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			w.exchangePackets(s, received, "while the user thinks")
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if asked != 1 {
				w.t.Errorf("asked %d times", asked)
			}
			if answer == "123456" {
				w.wantAlive(s)
				w.exchangePackets(s, received, "afterwards")
				return
			}
			_, err := w.waitEnd(s, 0)
			wantError[*CredentialsError](w.t, err)
		})
	}
}
