package ike

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// onRenewal is a Prompt hook that knows the first answer at once and asks somebody
// afterwards.
func (w *world) onRenewal(somebody func(context.Context) (Answer, error)) (asked func() int) {
	n := 0
	w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)...)
	w.client.Prompt = func(ctx context.Context, _ Prompt) (Answer, error) {
		if n++; n == 1 {
			return Answer{Secret("123456")}, nil
		}
		return somebody(ctx)
	}
	return func() int { return n - 1 }
}

// slowly answers after a time, unless the question is withdrawn.
func slowly(d time.Duration) func(context.Context) (Answer, error) {
	return func(ctx context.Context) (Answer, error) {
		select {
		case <-time.After(d):
			return Answer{Secret("654321")}, nil
		case <-ctx.Done():
			return Answer{}, context.Cause(ctx)
		}
	}
}

// TestSlowRenewal: a user may take longer to find a one-time password than the gateway
// may for everything; the old SA carries packets meanwhile, and bounds it.
func TestSlowRenewal(t *testing.T) {
	const typing = 3 * reauthPatience
	inBothWorlds(t, func(w *world) {
		asked := w.onRenewal(slowly(typing))
		w.start()
		s := w.dial()
		st := w.newStream(s)
		w.renew(s)
		st.run(time.Second, typing+5*time.Second)
		st.wantNoLoss()
		w.wantAlive(s)
		if n := s.Stats().Rekeys; n != 1 || asked() != 1 {
			w.t.Errorf("%d reauthentications, asked %d times", n, asked())
		}
	})
	t.Run("too slow", func(t *testing.T) {
		inWorld(t, func(w *world) {
			asked := w.onRenewal(slowly(time.Hour))
			w.start()
			s := w.dial()
			receive(s)
			w.do(s, func() { s.sa.lifetime = 10 * time.Minute }) // as the gateway said
			w.renew(s)
			d, err := w.waitEnd(s, time.Hour)
			wantError[*NoAnswerError](t, err)
			if d != 10*time.Minute || asked() != 1 {
				t.Errorf("ended after %v, asked %d times", d, asked())
			}
		})
	})
}

// TestSlowGatewayOnRenewal: its own time stays bounded, beside the user's.
func TestSlowGatewayOnRenewal(t *testing.T) {
	const typing = 2 * time.Minute
	inWorld(t, func(w *world) {
		asked := w.onRenewal(slowly(typing))
		w.start()
		s := w.dial()
		receive(s)
		w.hook(gateway.XAuthSet, func(*gateway.Message) []*gateway.Message { return nil })
		began := time.Now()
		w.renew(s)
		time.Sleep(typing + xauthPatience + time.Second)
		w.wantAlive(s)
		w.do(s, func() {
			if due := s.sa.reauthAt.Sub(began); s.reauthing || due != typing+xauthPatience+reauthRetry {
				t.Errorf("still tries: %v; the next try is due after %v", s.reauthing, due)
			}
		})
		if asked() != 1 {
			t.Errorf("asked %d times", asked())
		}
	})
}

// TestLateAnswer: gateways drop what is half-open. An answer that took longer is not
// lost, nor sent twice: it is for a fresh phase 1, if that asks the same.
func TestLateAnswer(t *testing.T) {
	for _, another := range []bool{false, true} {
		inBoth(t, func(w *world) {
			text := "first"
			w.gateway.Users = map[string]string{testLogin: ""}
			w.hook(gateway.XAuthRequest, func(m *gateway.Message) []*gateway.Message {
				editConfig(w.t, m, func(c *isakmp.Config) {
					c.Attributes = append(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode), isakmp.Attribute{Type: isakmp.XAuthMessage, Value: []byte(text)})
				})
				return []*gateway.Message{m}
			})
			var asked []string
			var answers []Secret
			w.client.Prompt = func(_ context.Context, p Prompt) (Answer, error) {
				asked = append(asked, p.Text)
				if len(asked) == 1 {
					time.Sleep(time.Minute)
				}
				if another {
					text = "second"
				}
				answers = append(answers, Secret("12345"+string(rune('0'+len(asked)))))
				return Answer{answers[len(answers)-1]}, nil
			}
			w.start()
			s := w.dial()
			want := []string{"first"}
			if another {
				want = []string{"first", "second"}
			}
			if !slices.Equal(asked, want) {
				w.t.Errorf("asked %q", asked)
			}
			replies := w.configs(gateway.XAuthReply)
			sent, _ := isakmp.Find(replies[0].Attributes, isakmp.XAuthPasscode)
			if last := "12345" + string(rune('0'+len(want))); len(replies) != 1 || string(sent.Value) != last {
				w.t.Errorf("%d replies with %q, want %q", len(replies), sent.Value, last)
			}
			for _, a := range answers {
				if !bytes.Equal(a, make([]byte, len(a))) {
					w.t.Errorf("%q is left", string(a))
				}
			}
			w.exchangePackets(s, receive(s), "hello")
		})
	}
}

// TestLateAnswerIsWiped: also when no fresh phase 1 comes to use it.
func TestLateAnswerIsWiped(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ask(empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)...)
		answer := Secret("123456")
		w.client.Prompt = func(context.Context, Prompt) (Answer, error) {
			time.Sleep(time.Minute)
			w.crash()
			return Answer{answer}, nil
		}
		w.start()
		_, err := w.tryDial()
		wantError[*NoAnswerError](t, err)
		if !bytes.Equal(answer, make([]byte, len(answer))) {
			t.Errorf("%q is left", string(answer))
		}
	})
}

// TestThinking: what is within the gateway's time, and what is not.
func TestThinking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var th thinking
		ctx, cancel := th.within(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		time.Sleep(4 * time.Second)
		th.begin()
		time.Sleep(time.Minute)
		th.begin() // a second question meanwhile counts once
		time.Sleep(time.Minute)
		th.end()
		time.Sleep(time.Minute)
		if ctx.Err() != nil {
			t.Error("the user's time counts")
		}
		th.end()
		if got := th.time(); got != 3*time.Minute {
			t.Errorf("thought for %v", got)
		}
		<-ctx.Done()
		if d := time.Since(began); d != 3*time.Minute+10*time.Second || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			t.Errorf("ended after %v: %v", d, context.Cause(ctx))
		}
		ctx, cancel = th.within(t.Context(), time.Hour)
		cancel()
		<-ctx.Done()
	})
}

// TestDeclinedRenewal: who does not want to be asked is not asked again, and nothing
// is tried behind his back.
func TestDeclinedRenewal(t *testing.T) {
	no := errors.New("the window was closed")
	for name, somebody := range map[string]func(context.Context) (Answer, error){
		"at once": func(context.Context) (Answer, error) { return Answer{}, no },
		"late": func(context.Context) (Answer, error) {
			time.Sleep(2 * reauthPatience)
			return Answer{}, no
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				asked := w.onRenewal(somebody)
				w.start()
				s := w.dial()
				receive(s)
				w.renew(s)
				_, err := w.waitEnd(s, 2*reauthPatience)
				if !errors.Is(err, no) || asked() != 1 {
					w.t.Errorf("asked %d times: %v", asked(), err)
				}
			})
		})
	}
}

// TestOrphanWaitsForTheUser: without an ISAKMP SA, ESP goes on while a question waits,
// and no longer than ESP itself lives.
func TestOrphanWaitsForTheUser(t *testing.T) {
	for _, tt := range []struct {
		name   string
		typing time.Duration
		fine   bool
	}{
		{"slow", 3 * orphanedFor, true},
		{"slower than ESP lives", 2 * time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.onRenewal(slowly(tt.typing))
				w.gateway.ESPLifetime = 20 * time.Minute
				w.start()
				s := w.dial()
				receive(s)
				time.Sleep(reauthRetry)
				w.deleteISAKMP()
				if tt.fine {
					time.Sleep(tt.typing + 5*time.Second)
					w.wantAlive(s)
					if n := s.Stats().Rekeys; n != 1 {
						t.Errorf("%d reauthentications", n)
					}
					return
				}
				d, err := w.waitEnd(s, 30*time.Minute)
				wantError[*ClosedByGatewayError](t, err)
				if d > 20*time.Minute {
					t.Errorf("ended after %v", d)
				}
			})
		})
	}
}
