package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
)

var testCertificate = sync.OnceValues(func() (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "rhum\x1b[31m"},
		DNSNames:     []string{"vpn.example.com"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Unix(1<<32, 0),
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "rhum"}}, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
})

func unknownGateway(t *testing.T) *ike.TrustError {
	cert, err := testCertificate()
	if err != nil {
		t.Fatal(err)
	}
	return &ike.TrustError{
		Step: ike.StepCheckCertificate, Reason: ike.TrustUnknown, Certificate: cert,
		Detail: "nothing vouches for it", Askable: true,
	}
}

// trusting is a gateway that wants its pin.
func trusting(t *testing.T, session *fakeSession) func(context.Context, int, *ike.Config) (Session, error) {
	unknown := unknownGateway(t)
	return func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
		if cfg.Trust.Pin != unknown.SHA256() {
			return nil, unknown
		}
		return session, nil
	}
}

func TestTrustQuestion(t *testing.T) {
	cases := []struct {
		name   string
		answer control.Answer
		code   app.Code // empty: connected
	}{
		{"accepted", control.Answer{Accept: true}, ""},
		{"refused", control.Answer{}, app.CodeUntrusted},
		{"cancelled", control.Answer{Cancel: true}, app.CodeCancelled},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.script = trusting(t, newSession())
				req := request()
				req.Ask = true
				id := w.connect(req)
				c := w.wantState(id, app.StateActionNeeded)
				sum := unknownGateway(t).SHA256()
				if p := c.Prompt; p == nil || p.Kind != app.PromptTrust || p.Secret || p.Certificate == nil ||
					p.Certificate.SHA256 != hex.EncodeToString(sum[:]) || p.Certificate.Subject != "CN=rhum[31m" ||
					len(p.Certificate.Names) != 1 {
					t.Fatalf("prompt %+v, certificate %+v", c.Prompt, c.Prompt.Certificate)
				}
				tc.answer.PromptID = c.Prompt.ID
				if failure := w.Answer(id, &tc.answer); failure != nil {
					t.Fatal(failure)
				}
				synctest.Wait()
				if tc.code != "" {
					w.wantFailure(id, tc.code)
					return
				}
				c = w.wantState(id, app.StateConnected)
				if w.dialled() != 2 || c.Prompt != nil {
					t.Errorf("dialled %d times, prompt %v", w.dialled(), c.Prompt)
				}
			})
		})
	}
}

// The question names the gateway that answered, of a profile's several.
func TestTrustQuestionNamesTheGateway(t *testing.T) {
	for host, want := range map[string]string{"b.example": "Trust the gateway b.example?", "": "Trust the gateway a.example, b.example?"} {
		inWorld(t, func(t *testing.T, w *world) {
			unknown := unknownGateway(t)
			unknown.Host = host
			w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, unknown }
			req := request()
			req.Ask, req.Profile.Gateway = true, "a.example, b.example"
			c := w.wantState(w.connect(req), app.StateActionNeeded)
			if c.Prompt.Text != want {
				t.Errorf("asked %q, want %q", c.Prompt.Text, want)
			}
		})
	}
}

func TestTrustNew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = trusting(t, newSession())
		req := request()
		req.TrustNew = true
		id := w.connect(req)
		c := w.wantState(id, app.StateConnected)
		if w.dialled() != 2 {
			t.Errorf("dialled %d times", w.dialled())
		}
		if !slices.ContainsFunc(c.Warnings, func(w app.Warning) bool { return w.Code == app.WarningTrustedNew }) {
			t.Errorf("it is not told: %+v", c.Warnings)
		}
	})
}

// A gateway that is known needs no trust beforehand.
func TestTrustNewIsNotNeeded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		req := request()
		req.TrustNew = true
		if c := w.wantState(w.connect(req), app.StateConnected); len(c.Warnings) > 0 {
			t.Errorf("warnings: %+v", c.Warnings)
		}
	})
}

// An answer is for one certificate: a gateway that shows another one in the fresh
// attempt is not trusted, and no question is asked twice.
func TestTrustIsAskedOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, unknownGateway(t) }
		req := request()
		req.TrustNew = true
		id := w.connect(req)
		w.wantFailure(id, app.CodeUntrusted)
		if w.dialled() != 2 {
			t.Errorf("dialled %d times", w.dialled())
		}
	})
}

func TestTrustIsNotAsked(t *testing.T) {
	cases := []struct {
		name    string
		change  func(*control.ConnectRequest, *ike.TrustError)
		options string
	}{
		{name: "nobody there", change: func(r *control.ConnectRequest, _ *ike.TrustError) { r.Ask = false }},
		{name: "not askable", change: func(r *control.ConnectRequest, e *ike.TrustError) { e.Askable = false }},
		{name: "not askable, trust-new", change: func(r *control.ConnectRequest, e *ike.TrustError) { e.Askable, r.TrustNew = false, true }},
		{name: "pinned", change: func(r *control.ConnectRequest, e *ike.TrustError) {
			r.Profile.Pin = hex.EncodeToString(make([]byte, 31)) + "01"
			r.TrustNew = true
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				unknown, req := unknownGateway(t), request()
				req.Ask = true
				tc.change(req, unknown)
				w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, unknown }
				id := w.connect(req)
				if f := w.wantFailure(id, app.CodeUntrusted); f.Step != app.StepCheckCertificate {
					t.Errorf("failed at %q", f.Step)
				}
				if w.dialled() != 1 {
					t.Errorf("dialled %d times", w.dialled())
				}
			})
		})
	}
}

// The pin that an answer gave holds for reconnects too.
func TestAcceptedPinStays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		accept := trusting(t, session)
		w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
			if n == 2 {
				session = newSession()
				accept = trusting(t, session)
			}
			return accept(ctx, n, cfg)
		}
		req := request()
		req.TrustNew = true
		id := w.connect(req)
		session.end(&ike.NoAnswerError{})
		time.Sleep(minBackoff)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if w.dialled() != 3 {
			t.Errorf("dialled %d times", w.dialled())
		}
	})
}

func TestPasswordIsAskedBeforeDialling(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		req := request()
		req.Ask, req.Password = true, nil
		id := w.connect(req)
		c := w.wantState(id, app.StateActionNeeded)
		if c.Prompt.Kind != app.PromptPassword || !c.Prompt.Secret || w.dialled() != 0 {
			t.Fatalf("prompt %+v after %d dials", c.Prompt, w.dialled())
		}
		text := []byte(" spaces and “quotes” ")
		answer := control.Answer{PromptID: c.Prompt.ID, Text: text}
		if failure := w.Answer(id, &answer); failure != nil {
			t.Fatal(failure)
		}
		clear(text) // the daemon has a copy
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if got := string(w.dials[0].Password); got != " spaces and “quotes” " {
			t.Errorf("password %q", got)
		}
	})
}

func TestNobodyAnswers(t *testing.T) {
	t.Run("password", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			req := request()
			req.Password = nil
			id := w.connect(req)
			if f := w.wantFailure(id, app.CodeCancelled); f.Step != app.StepSignIn {
				t.Errorf("failed at %q", f.Step)
			}
			if w.dialled() != 0 {
				t.Error("dialled without a password")
			}
		})
	})
	t.Run("one-time password", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.script = func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
				_, err := cfg.Prompt(ctx, ike.Prompt{Kind: ike.PromptOTP})
				// The engine words it in its own way.
				return nil, &ike.ProtocolError{Step: ike.StepSignIn, Detail: err.Error()}
			}
			id := w.connect(request())
			w.wantFailure(id, app.CodeCancelled)
		})
	})
}

func TestGatewayAsks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
			cfg.Event(ike.Event{Kind: ike.EventStep, Step: ike.StepSignIn})
			for _, want := range []string{"123456", "4711"} {
				answer, err := cfg.Prompt(ctx, ike.Prompt{Kind: ike.PromptOTP, Text: "Enter \x1b[2JPASSCODE", Secret: true})
				if err != nil {
					return nil, err
				}
				if string(answer.Text) != want {
					t.Errorf("answer %q", []byte(answer.Text))
				}
			}
			return newSession(), nil
		}
		req := request()
		req.Ask, req.TimeoutSeconds = true, 10
		id := w.connect(req)
		for i, text := range []string{"123456", "4711"} {
			time.Sleep(9 * time.Minute) // thinking does not count
			synctest.Wait()
			c := w.wantState(id, app.StateActionNeeded)
			if p := c.Prompt; p.Kind != app.PromptOTP || p.Text != "Enter [2JPASSCODE" || !p.Secret || c.Step != app.StepSignIn {
				t.Errorf("question %d: %+v at %q", i, p, c.Step)
			}
			wrong := control.Answer{PromptID: "p9", Text: []byte("x")}
			if failure := w.Answer(id, &wrong); failure == nil || failure.Code != app.CodeUsage {
				t.Errorf("an answer to no question: %v", failure)
			}
			right := control.Answer{PromptID: c.Prompt.ID, Text: []byte(text)}
			if failure := w.Answer(id, &right); failure != nil {
				t.Fatal(failure)
			}
			if failure := w.Answer(id, &right); failure == nil {
				t.Error("the same question was answered twice")
			}
			synctest.Wait()
		}
		w.wantState(id, app.StateConnected)
	})
}

// Time before and after the question counts together.
func TestTimeoutExcludesThinking(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
			time.Sleep(4 * time.Second)
			if _, err := cfg.Prompt(ctx, ike.Prompt{Kind: ike.PromptOTP}); err != nil {
				return nil, err
			}
			return hang(ctx, n, cfg)
		}
		req := request()
		req.Ask, req.TimeoutSeconds = true, 10
		id := w.connect(req)
		time.Sleep(time.Hour)
		synctest.Wait()
		c := w.wantState(id, app.StateActionNeeded)
		w.Answer(id, &control.Answer{PromptID: c.Prompt.ID, Text: []byte("1")})
		time.Sleep(6*time.Second - time.Millisecond)
		synctest.Wait()
		w.wantState(id, app.StateConnecting)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		w.wantFailure(id, app.CodeNoAnswer)
	})
}

func TestCancelledQuestion(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
			_, err := cfg.Prompt(ctx, ike.Prompt{Kind: ike.PromptChallenge})
			return nil, &ike.CredentialsError{Step: ike.StepSignIn, Message: err.Error()}
		}
		req := request()
		req.Ask = true
		id := w.connect(req)
		c := w.wantState(id, app.StateActionNeeded)
		w.Answer(id, &control.Answer{PromptID: c.Prompt.ID, Cancel: true})
		synctest.Wait()
		w.wantFailure(id, app.CodeCancelled)
	})
}

// A living session may ask too, when it signs in again; and a password typed then
// is the one for the next reconnect.
func TestConnectedSessionAsks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		session.stats.LastHeard = time.Now()
		session.stats.Children = []ike.ChildStats{{SPIIn: 1, SPIOut: 2, PacketsIn: 3}}
		var prompt func(context.Context, ike.Prompt) (ike.Answer, error)
		w.script = func(_ context.Context, n int, cfg *ike.Config) (Session, error) {
			if n > 0 {
				if string(cfg.Password) != "new" {
					t.Errorf("reconnected with %q", []byte(cfg.Password))
				}
				return newSession(), nil
			}
			prompt = cfg.Prompt
			return session, nil
		}
		req := request()
		req.Ask = true
		id := w.connect(req)
		since := *w.get(id).Since
		time.Sleep(10 * time.Second)
		go func() {
			answer, err := prompt(t.Context(), ike.Prompt{Kind: ike.PromptPassword})
			if err != nil {
				t.Error(err)
			}
			answer.Text.Zero() // as the engine does
		}()
		synctest.Wait()
		c := w.wantState(id, app.StateActionNeeded)
		if c.Step != app.StepSignIn || !c.Since.Equal(since) || c.IKE == nil || c.IKE.LastHeard == nil || len(c.ESP) != 1 || c.ESP[0].PacketsIn != 3 || c.TUN == nil || len(c.SplitInclude) != 1 {
			t.Errorf("while it asks: %+v", c)
		}
		w.devices[0].packets <- ipv4(100, 0, 1)
		session.inbound <- ipv4(100, 0, 2)
		synctest.Wait()
		if out, in := len(session.written()), len(w.devices[0].received()); out != 1 || in != 1 {
			t.Errorf("while it asks: %d packets go out, %d come in", out, in)
		}
		w.Answer(id, &control.Answer{PromptID: c.Prompt.ID, Text: []byte("new")})
		synctest.Wait()
		if c := w.wantState(id, app.StateConnected); !c.Since.Equal(since) || c.Step != "" {
			t.Errorf("after the answer: %+v", c)
		}
		session.end(&ike.NoAnswerError{})
		time.Sleep(minBackoff)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if w.dialled() != 2 {
			t.Errorf("dialled %d times", w.dialled())
		}
	})
}

// What may have been a one-time password is not sent again.
func TestPasswordForOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
			if n > 0 {
				return newSession(), nil
			}
			_, err := cfg.Prompt(ctx, ike.Prompt{Kind: ike.PromptPassword, Once: true})
			return session, err
		}
		req := request()
		req.Ask = true
		id := w.connect(req)
		c := w.wantState(id, app.StateActionNeeded)
		w.Answer(id, &control.Answer{PromptID: c.Prompt.ID, Text: []byte("123456")})
		synctest.Wait()
		session.end(&ike.NoAnswerError{})
		time.Sleep(minBackoff)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if first, then := w.dials[0], w.dials[1]; string(then.Password) != string(first.Password) || first.Words == nil || then.Words != first.Words {
			t.Errorf("reconnected with %q, words shared: %v", []byte(then.Password), then.Words == first.Words)
		}
	})
}

// Where nobody is there to ask, the password is sent under any words of the gateway.
func TestPasswordUnderAnyWords(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.connect(request())
		if w.dials[0].Words != nil {
			t.Error("the words of the gateway count, and nobody can answer to them")
		}
	})
}

// A session that asks something nobody answers is over, and not tried again.
func TestConnectedSessionGetsNoAnswer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var prompt func(context.Context, ike.Prompt) (ike.Answer, error)
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			prompt = cfg.Prompt
			return newSession(), nil
		}
		id := w.connect(request())
		if _, err := prompt(t.Context(), ike.Prompt{Kind: ike.PromptOTP}); err == nil {
			t.Error("an answer came from nowhere")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		w.wantFailure(id, app.CodeCancelled)
		if w.dialled() != 1 {
			t.Errorf("dialled %d times", w.dialled())
		}
	})
}

// answerLate is an engine whose question outlives its session.
func answerLate(t *testing.T, prompt func(context.Context, ike.Prompt) (ike.Answer, error)) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := prompt(context.WithoutCancel(t.Context()), ike.Prompt{Kind: ike.PromptOTP, Text: "old"})
		done <- err
	}()
	synctest.Wait()
	return done
}

// The question of a session that ends goes with it, and disturbs neither the state nor
// the question nor the life of the next one.
func TestQuestionEndsWithItsSession(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sessions := []*fakeSession{newSession(), newSession()}
		var prompts []func(context.Context, ike.Prompt) (ike.Answer, error)
		w.script = func(_ context.Context, n int, cfg *ike.Config) (Session, error) {
			prompts = append(prompts, cfg.Prompt)
			return sessions[n], nil
		}
		req := request()
		req.Ask = true
		id := w.connect(req)
		old := answerLate(t, prompts[0])
		w.wantState(id, app.StateActionNeeded)
		sessions[0].end(&ike.NoAnswerError{})
		synctest.Wait()
		if c := w.wantState(id, app.StateReconnecting); c.Prompt != nil {
			t.Errorf("the dead session still asks %+v", c.Prompt)
		}
		if err := <-old; err == nil {
			t.Error("the dead session's question got an answer")
		}
		time.Sleep(minBackoff)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		// Not even one that begins after its session's end.
		if err := <-answerLate(t, prompts[0]); err == nil {
			t.Error("a question of the dead session got an answer")
		}
		w.wantState(id, app.StateConnected)
		if sessions[1].isClosed() || w.dialled() != 2 {
			t.Errorf("the dead session's question ended the next one, after %d dials", w.dialled())
		}
	})
}

// Two questions at once come one after the other, and each answer to its own.
func TestQuestionsQueue(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var prompt func(context.Context, ike.Prompt) (ike.Answer, error)
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			prompt = cfg.Prompt
			return newSession(), nil
		}
		req := request()
		req.Ask = true
		id := w.connect(req)
		got := make(map[string]string)
		var mu sync.Mutex
		for _, text := range []string{"first", "second"} {
			go func() {
				answer, err := prompt(t.Context(), ike.Prompt{Kind: ike.PromptOTP, Text: text})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got[text] = string(answer.Text)
			}()
			synctest.Wait()
		}
		for _, text := range []string{"first", "second"} {
			c := w.wantState(id, app.StateActionNeeded)
			if c.Prompt.Text != text {
				t.Errorf("asked %q, want %q", c.Prompt.Text, text)
			}
			w.Answer(id, &control.Answer{PromptID: c.Prompt.ID, Text: []byte("to " + text)})
			synctest.Wait()
		}
		w.wantState(id, app.StateConnected)
		mu.Lock()
		defer mu.Unlock()
		if got["first"] != "to first" || got["second"] != "to second" {
			t.Errorf("answers: %v", got)
		}
	})
}

// A session that asks while the tunnel is still being built is connected behind its
// question, not before it.
func TestQuestionStaysOverAChangeOfState(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.host.block = make(chan struct{})
		var prompt func(context.Context, ike.Prompt) (ike.Answer, error)
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			prompt = cfg.Prompt
			return newSession(), nil
		}
		req := request()
		req.Ask = true
		id := w.connect(req)
		go prompt(t.Context(), ike.Prompt{Kind: ike.PromptOTP})
		synctest.Wait()
		w.wantState(id, app.StateActionNeeded)
		close(w.host.block)
		synctest.Wait()
		c := w.wantState(id, app.StateActionNeeded)
		time.Sleep(2 * defaultTimeout)
		w.Answer(id, &control.Answer{PromptID: c.Prompt.ID, Text: []byte("1")})
		time.Sleep(2 * defaultTimeout) // the attempt's clock is over
		synctest.Wait()
		c = w.wantState(id, app.StateConnected)
		if since := time.Since(*c.Since); since != 4*defaultTimeout {
			t.Errorf("connected since %v", since)
		}
	})
}

// An attempt and a session end at the same moment: nothing of it is carried on.
func TestDialSucceedsAtTheTimeout(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = func(ctx context.Context, _ int, _ *ike.Config) (Session, error) {
			<-ctx.Done()
			return session, nil
		}
		id := w.connect(request())
		time.Sleep(defaultTimeout)
		synctest.Wait()
		w.wantFailure(id, app.CodeNoAnswer)
		if !session.isClosed() {
			t.Error("the session stays open")
		}
		if len(w.devices) != 0 {
			t.Error("an interface was made for it")
		}
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":               "plain",
		"two\nlines":          "two\nlines",
		"\x1b]0;title\x07x":   "]0;titlex",
		"a\u202egnp.exe":      "agnp.exe",
		"broken\xff":          "broken\uFFFD",
		"zero\x00 \u009b2J\r": "zero 2J",
	} {
		if got := printable(in, maxText); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	if got := printable("aé", 2); got != "a" {
		t.Errorf("cut in the middle of a character: %q", got)
	}
}
