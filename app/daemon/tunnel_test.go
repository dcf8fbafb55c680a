package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
)

func TestConnectAndDisconnect(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			if string(cfg.Password) != "hush" || cfg.Login != "ada" || cfg.Gateway != "vpn.example.com" {
				t.Errorf("dialled as %q at %q", cfg.Login, cfg.Gateway)
			}
			if cfg.Reconnect || cfg.RequestAddress.IsValid() {
				t.Error("the first attempt claims to be a reconnect")
			}
			return session, nil
		}
		req := request()
		id := w.connect(req)
		req.Zero() // the daemon has a copy
		c := w.wantState(id, app.StateConnected)
		if c.Owner != "ada" || c.Profile != "office" || c.Step != "" || c.TUN.Name != "wayfarer0" || c.TUN.MTU != 1280 {
			t.Errorf("connection %+v, tun %+v", c, c.TUN)
		}
		host := w.host.last()
		if len(host.Tunnels) != 1 || host.Tunnels[0].Interface != "wayfarer0" ||
			!slices.Equal(host.Tunnels[0].Routes, session.assignment.SplitInclude) {
			t.Errorf("the host got %+v", host)
		}
		// Delete is sent while the packets can still leave, and the interface goes last.
		session.onClose = func() {
			if len(w.host.last().Tunnels) == 0 || w.devices[0].isClosed() {
				t.Error("the session was closed after the network")
			}
		}
		if failure := w.Disconnect(t.Context(), id); failure != nil {
			t.Errorf("Disconnect: %v", failure)
		}
		if !session.isClosed() {
			t.Error("the session was not closed")
		}
		w.checkNothingLeft()
		if len(w.Connections()) != 0 {
			t.Errorf("connections left: %+v", w.Connections())
		}
	})
}

func TestPasswordIsZeroisedAtTheEnd(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var kept ike.Secret
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			kept = cfg.Password
			return newSession(), nil
		}
		req := request()
		id := w.connect(req)
		req.Zero()
		if string(kept) != "hush" {
			t.Fatalf("password while connected: %q", []byte(kept))
		}
		w.Disconnect(t.Context(), id)
		if !bytes.Equal(kept, make([]byte, 4)) {
			t.Errorf("password after the end: %q", []byte(kept))
		}
	})
}

func TestStepsComeFromTheEngine(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		next := make(chan ike.Step)
		w.script = func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
			for step := range next {
				cfg.Event(ike.Event{Kind: ike.EventStep, Step: step})
			}
			return newSession(), nil
		}
		id := w.connect(request())
		for _, step := range []ike.Step{ike.StepFindGateway, ike.StepAgreeSecurity, ike.StepCheckCertificate, ike.StepSignIn, ike.StepGetSettings, ike.StepBuildTunnel} {
			changes, stop := w.Watch()
			next <- step
			<-changes
			stop()
			synctest.Wait()
			if c := w.wantState(id, app.StateConnecting); c.Step != app.Step(step) {
				t.Errorf("step %q, want %q", c.Step, step)
			}
		}
		close(next)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
	})
}

func TestConnectedIsMeasured(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		session.stats.LastHeard = time.Now().Add(-proofAge - time.Second)
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
		id := w.connect(request())
		if f := w.wantFailure(id, app.CodeNoAnswer); f.Step != app.StepTest {
			t.Errorf("failed at %q", f.Step)
		}
		if !session.isClosed() {
			t.Error("the session was not closed")
		}
		w.checkNothingLeft()
	})
}

// A session without an ESP SA is not connected: either it gets one, or it ends and says
// why.
func TestConnectedHasESP(t *testing.T) {
	refusal := &ike.RefusedError{Step: ike.StepBuildTunnel, What: ike.RefusedTunnel, Authenticated: true}
	after := func(w *world, id string, d time.Duration, state app.State) {
		w.t.Helper()
		time.Sleep(d)
		synctest.Wait()
		w.wantState(id, state)
	}
	for name, then := range map[string]func(w *world, id string, s *fakeSession){
		"it comes": func(w *world, id string, s *fakeSession) {
			s.setChild(0)
			after(w, id, lookForESP, app.StateConnected)
		},
		"others were deleted": func(w *world, id string, s *fakeSession) {
			for deleted := range 3 { // the last stays
				s.setChild(1 + deleted)
				after(w, id, lasting-lookForESP, app.StateConnecting)
			}
			after(w, id, 2*lookForESP, app.StateConnected)
		},
		"plain ESP": func(w *world, id string, s *fakeSession) {
			s.setPlain(0)
			after(w, id, lasting-lookForESP, app.StateConnecting)
			after(w, id, 2*lookForESP, app.StateConnected)
		},
		"plain ESP with a packet": func(w *world, id string, s *fakeSession) {
			s.setPlain(1)
			after(w, id, lookForESP, app.StateConnected)
		},
		"none comes": func(w *world, id string, s *fakeSession) {
			s.end(refusal)
			synctest.Wait()
			if f := w.wantFailure(id, app.CodeSettingsRefused); f.Step != app.StepBuildTunnel || w.dialled() != 1 {
				w.t.Errorf("%+v after %d attempts", f, w.dialled())
			}
			w.checkNothingLeft()
		},
		"the time is over": func(w *world, id string, _ *fakeSession) {
			time.Sleep(defaultTimeout)
			synctest.Wait()
			w.wantFailure(id, app.CodeNoAnswer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				session := newSession()
				session.stats.Children = nil
				w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
				id := w.connect(request())
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if c := w.wantState(id, app.StateConnecting); c.Step != app.StepTest {
					t.Errorf("step %q", c.Step)
				}
				then(w, id, session)
			})
		})
	}
}

func TestTimeout(t *testing.T) {
	for _, seconds := range []int{0, 7} {
		t.Run(fmt.Sprint(seconds), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.script = hang
				req := request()
				req.TimeoutSeconds = seconds
				id := w.connect(req)
				limit := time.Duration(seconds) * time.Second
				if seconds == 0 {
					limit = defaultTimeout
				}
				time.Sleep(limit - time.Millisecond)
				synctest.Wait()
				w.wantState(id, app.StateConnecting)
				time.Sleep(time.Millisecond)
				synctest.Wait()
				w.wantFailure(id, app.CodeNoAnswer)
			})
		})
	}
}

// What the engine found out before the timeout says more than the timeout.
func TestTimeoutKeepsWhatTheEngineKnows(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(ctx context.Context, _ int, _ *ike.Config) (Session, error) {
			<-ctx.Done()
			return nil, &ike.RefusedError{Step: ike.StepAgreeSecurity, What: ike.RefusedProposal, Offered: []string{"aes256-sha256-modp2048"}}
		}
		id := w.connect(request())
		time.Sleep(defaultTimeout)
		synctest.Wait()
		w.wantFailure(id, app.CodeNoProposal)
	})
}

func TestDisconnectInEveryState(t *testing.T) {
	ask := func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
		if _, err := cfg.Prompt(ctx, ike.Prompt{Kind: ike.PromptOTP}); err != nil {
			return nil, err
		}
		return newSession(), nil
	}
	cases := []struct {
		name  string
		state app.State
		setup func(w *world) *control.ConnectRequest
	}{
		{"connecting", app.StateConnecting, func(w *world) *control.ConnectRequest {
			w.script = hang
			return request()
		}},
		{"asked by the gateway", app.StateActionNeeded, func(w *world) *control.ConnectRequest {
			w.script = ask
			req := request()
			req.Ask = true
			return req
		}},
		{"asked for a password", app.StateActionNeeded, func(w *world) *control.ConnectRequest {
			req := request()
			req.Ask, req.Password = true, nil
			return req
		}},
		{"asked for trust", app.StateActionNeeded, func(w *world) *control.ConnectRequest {
			w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, unknownGateway(t) }
			req := request()
			req.Ask = true
			return req
		}},
		{"building the tunnel", app.StateConnecting, func(w *world) *control.ConnectRequest {
			w.host.block = make(chan struct{})
			return request()
		}},
		{"connected", app.StateConnected, func(w *world) *control.ConnectRequest { return request() }},
		{"waiting to reconnect", app.StateReconnecting, func(w *world) *control.ConnectRequest {
			w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
				if n > 0 {
					return nil, &ike.NoAnswerError{Gateway: "vpn.example.com"}
				}
				s := newSession()
				time.AfterFunc(time.Second, func() { s.end(&ike.NoAnswerError{}) })
				return s, nil
			}
			return request()
		}},
		{"reconnecting", app.StateReconnecting, func(w *world) *control.ConnectRequest {
			w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
				if n > 0 {
					return hang(ctx, n, cfg)
				}
				s := newSession()
				time.AfterFunc(time.Second, func() { s.end(&ike.NoAnswerError{}) })
				return s, nil
			}
			return request()
		}},
		{"failed", app.StateFailed, func(w *world) *control.ConnectRequest {
			w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, &ike.CredentialsError{} }
			return request()
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := w.connect(tc.setup(w))
				if tc.state == app.StateReconnecting {
					time.Sleep(10 * time.Second)
					synctest.Wait()
				}
				w.wantState(id, tc.state)
				if w.host.block != nil {
					time.AfterFunc(restoreTimeout/2, func() { close(w.host.block) })
				}
				before := time.Now()
				if failure := w.Disconnect(t.Context(), id); failure != nil {
					t.Errorf("Disconnect: %v", failure)
				}
				if took := time.Since(before); took > 0 && w.host.block == nil {
					t.Errorf("it took %v", took)
				}
				if len(w.Connections()) != 0 {
					t.Errorf("connections left: %+v", w.Connections())
				}
				w.checkNothingLeft()
			})
		})
	}
}

func TestDisconnectShowsItself(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.connect(request())
		w.host.block = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		failure := w.Disconnect(ctx, id)
		if failure == nil || failure.Code != app.CodeCancelled {
			t.Errorf("Disconnect with a stuck host: %v", failure)
		}
		w.wantState(id, app.StateDisconnecting)
		close(w.host.block)
		synctest.Wait()
		if len(w.Connections()) != 0 {
			t.Error("it did not go away by itself")
		}
	})
}

// An engine that takes its time to end does not make the state go back.
func TestDisconnectingStays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
			_, err := cfg.Prompt(ctx, ike.Prompt{Kind: ike.PromptOTP})
			time.Sleep(2 * time.Second)
			return nil, err
		}
		req := request()
		req.Ask = true
		id := w.connect(req)
		go w.Disconnect(t.Context(), id)
		time.Sleep(time.Second)
		synctest.Wait()
		if c := w.wantState(id, app.StateDisconnecting); c.Prompt != nil || c.Step != "" {
			t.Errorf("disconnecting, with %+v", c)
		}
	})
}

func TestDisconnectTellsWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := w.connect(request())
		w.host.fail(errors.New("route: permission denied"))
		failure := w.Disconnect(t.Context(), id)
		if failure == nil || failure.Code != app.CodeNetworkConfig {
			t.Errorf("Disconnect: %v", failure)
		}
		if !w.devices[0].isClosed() {
			t.Error("the interface stays open")
		}
		// The next wish does not contain it any more.
		w.host.fail(nil)
		next := w.connect(request())
		w.wantState(next, app.StateConnected)
		if n := len(w.host.last().Tunnels); n != 1 {
			t.Errorf("the host is asked for %d tunnels", n)
		}
		w.Close(t.Context())
	})
}
