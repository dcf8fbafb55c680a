package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
	"wayfarer/platform"
	"wayfarer/tun"
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
	for name, after := range map[string]func(w *world, id string, s *fakeSession){
		"it comes": func(w *world, id string, s *fakeSession) {
			s.mu.Lock()
			s.stats.Children = newSession().stats.Children
			s.mu.Unlock()
			time.Sleep(lookForESP)
			synctest.Wait()
			w.wantState(id, app.StateConnected)
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
				after(w, id, session)
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

func TestReconnectKeepsInterfaceAndRoutes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var sessions []*fakeSession
		w.script = func(_ context.Context, n int, cfg *ike.Config) (Session, error) {
			if n > 0 && (!cfg.Reconnect || cfg.RequestAddress != netip.MustParseAddr("10.99.0.1") || string(cfg.Password) != "hush") {
				t.Errorf("redialled with Reconnect=%v, RequestAddress=%v", cfg.Reconnect, cfg.RequestAddress)
			}
			s := newSession()
			sessions = append(sessions, s)
			return s, nil
		}
		id := w.connect(request())
		sets := w.host.count()
		sessions[0].end(&ike.NoAnswerError{Step: ike.Step(app.StepTest)})
		synctest.Wait()
		if c := w.wantState(id, app.StateReconnecting); c.TUN == nil || len(c.Routes) != 1 || c.IKE != nil || c.Failure != nil {
			t.Errorf("while reconnecting: %+v", c)
		}
		w.devices[0].packets <- []byte{0x45} // nobody to carry it: dropped, not stuck
		time.Sleep(minBackoff)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if len(w.devices) != 1 || w.host.count() != sets {
			t.Errorf("%d devices, %d more changes of the host", len(w.devices), w.host.count()-sets)
		}
		w.devices[0].packets <- []byte{0x45, 1}
		synctest.Wait()
		if got := sessions[1].written(); len(got) != 1 || !bytes.Equal(got[0], []byte{0x45, 1}) {
			t.Errorf("the new session got %x", got)
		}
	})
}

func TestReconnectWithAnotherAddress(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var first *fakeSession
		w.script = func(_ context.Context, n int, cfg *ike.Config) (Session, error) {
			s := newSession()
			if n == 0 {
				first = s
			} else {
				s.assignment.Addresses = []netip.Prefix{netip.MustParsePrefix("10.99.0.2/32")}
			}
			return s, nil
		}
		id := w.connect(request())
		first.end(&ike.AddressChangedError{Old: "10.99.0.1", New: "10.99.0.2"})
		time.Sleep(minBackoff)
		synctest.Wait()
		c := w.wantState(id, app.StateConnected)
		if c.Addresses[0].Addr() != netip.MustParseAddr("10.99.0.2") || len(w.devices) != 2 || !w.devices[0].isClosed() {
			t.Errorf("address %v, %d devices", c.Addresses, len(w.devices))
		}
		if got := w.host.last().Tunnels; len(got) != 1 || got[0].Addresses[0] != c.Addresses[0] {
			t.Errorf("the host has %+v", got)
		}
	})
}

// The delays grow from half a second to 60 s and are random within; a short-lived success does
// not reset them, a longer one does.
func TestReconnectBackOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var at []time.Time
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			at = append(at, time.Now())
			if n%2 == 1 {
				return nil, &ike.NoAnswerError{Gateway: "vpn.example.com"}
			}
			s := newSession()
			s.end(&ike.ClosedByGatewayError{})
			return s, nil
		}
		w.connect(request())
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(at) < 100 {
			t.Fatalf("%d attempts in two hours", len(at))
		}
		var longest time.Duration
		limit := minBackoff
		for i := 1; i < len(at); i++ {
			gap := at[i].Sub(at[i-1])
			if gap > limit {
				t.Errorf("attempt %d came after %v, the limit is %v", i, gap, limit)
			}
			longest = max(longest, gap)
			limit = min(2*limit, maxBackoff)
		}
		if longest < maxBackoff/2 {
			t.Errorf("the longest delay was %v", longest)
		}
		for _, c := range w.Connections() {
			w.Disconnect(t.Context(), c.ID)
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		var ended time.Time
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			if 0 < n && n < 8 {
				return nil, &ike.NoAnswerError{}
			}
			if gap := time.Since(ended); n > 8 && gap > minBackoff {
				t.Errorf("attempt %d came %v after a good connection", n, gap)
			}
			s := newSession()
			time.AfterFunc(maxBackoff, func() {
				ended = time.Now()
				s.end(&ike.NoAnswerError{})
			})
			return s, nil
		}
		w.connect(request())
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := w.dialled(); n < 50 {
			t.Errorf("dialled %d times", n)
		}
	})
}

// A gateway that is lost for hours is not left alone while packets want to go out to it.
func TestReconnectForTraffic(t *testing.T) {
	for _, traffic := range []bool{true, false} {
		inWorld(t, func(t *testing.T, w *world) {
			var at []time.Time
			var first *fakeSession
			w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
				if n == 0 {
					first = newSession()
					return first, nil
				}
				at = append(at, time.Now())
				return nil, &ike.NoAnswerError{Gateway: "vpn.example.com"}
			}
			id := w.connect(request())
			synctest.Wait()
			first.end(&ike.NoAnswerError{Gateway: "vpn.example.com"})
			time.Sleep(time.Hour)
			began := time.Now()
			for range 3000 {
				if traffic {
					w.devices[0].packets <- []byte{0x45}
				}
				time.Sleep(200 * time.Millisecond)
			}
			w.Disconnect(t.Context(), id)
			synctest.Wait()
			var longest time.Duration
			for i := 1; i < len(at); i++ {
				if at[i-1].After(began) {
					longest = max(longest, at[i].Sub(at[i-1]))
				}
			}
			if limit := wantedBackoff + 200*time.Millisecond; traffic != (longest <= limit) || longest == 0 {
				t.Errorf("traffic %v: at most %v between attempts, the limit is %v", traffic, longest, limit)
			}
		})
	}
}

func TestNoReconnect(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
		req := request()
		req.NoReconnect = true
		id := w.connect(req)
		session.end(&ike.NoAnswerError{Step: ike.Step(app.StepTest), Gateway: "192.0.2.1"})
		synctest.Wait()
		w.wantFailure(id, app.CodeNoAnswer)
		if c := w.get(id); c.Addresses != nil || c.Routes != nil || c.TUN != nil || c.IKE != nil {
			t.Errorf("a failed connection still shows %+v", c)
		}
		w.checkNothingLeft()
		if w.dialled() != 1 {
			t.Errorf("dialled %d times", w.dialled())
		}
	})
}

// Whatever will not become better by waiting ends a lost connection; above all a
// refused password, since gateways lock accounts.
func TestReconnectGivesUp(t *testing.T) {
	cases := []struct {
		err  error
		code app.Code
	}{
		{&ike.CredentialsError{Step: ike.StepSignIn}, app.CodeSignInRefused},
		{&ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustPin}, app.CodeUntrusted},
		{&ike.WeakError{Step: ike.StepAgreeSecurity, Needs: ike.WeakMD5}, app.CodeNoProposal},
		{&ike.RefusedError{Step: ike.StepAgreeSecurity, What: ike.RefusedProposal}, app.CodeNoProposal},
		{&ike.ConfigError{Field: "pfs", Err: errors.New("unknown")}, app.CodeUsage},
		{errors.New("a bug"), app.CodeInternal},
	}
	for _, tc := range cases {
		t.Run(string(tc.code), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var first *fakeSession
				w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
					if n > 0 {
						return nil, tc.err
					}
					first = newSession()
					return first, nil
				}
				id := w.connect(request())
				first.end(&ike.NoAnswerError{})
				time.Sleep(time.Hour)
				synctest.Wait()
				w.wantFailure(id, tc.code)
				w.checkNothingLeft()
				if w.dialled() != 2 {
					t.Errorf("dialled %d times", w.dialled())
				}
			})
		})
	}
}

// After a sign-in that ended in the dark the same password is sent once more, not
// until the account is locked. Whatever failed before it has sent none and is tried
// for as long as it takes.
func TestReconnectSparesTheAccount(t *testing.T) {
	silent := func(step ike.Step) error { return &ike.NoAnswerError{Step: step, Gateway: "192.0.2.1"} }
	for _, tt := range []struct {
		name  string
		lost  error // of the session
		again []error
		dials int
		code  app.Code // empty: connected again
	}{
		{"silence", silent("test"), []error{silent(ike.StepSignIn), silent(ike.StepSignIn)}, 3, app.CodeNoAnswer},
		{"nonsense", silent("test"), []error{&ike.ProtocolError{Step: ike.StepSignIn}, &ike.ProtocolError{Step: ike.StepSignIn}}, 3, app.CodeProtocol},
		{"timeout", silent("test"), []error{errTimeout, errTimeout}, 3, app.CodeNoAnswer},
		{"closed", silent("test"), []error{&ike.ClosedByGatewayError{}, &ike.ClosedByGatewayError{}}, 3, app.CodeNoAnswer},
		{"of the session itself", silent(ike.StepSignIn), []error{silent(ike.StepSignIn)}, 2, app.CodeNoAnswer},
		{"not in a row", silent("test"), []error{silent(ike.StepSignIn), silent(ike.StepFindGateway), silent(ike.StepSignIn)}, 4, app.CodeNoAnswer},
		{"before it", silent("test"), []error{silent(ike.StepFindGateway), silent(ike.StepFindGateway), silent(ike.StepCheckCertificate)}, 5, ""},
		{"refused", silent("test"), []error{&ike.RefusedError{Step: ike.StepSignIn, What: ike.RefusedConnection}}, 2, app.CodeSignInRefused},
		{"once, then well", silent("test"), []error{silent(ike.StepSignIn)}, 3, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				first := newSession()
				w.script = func(_ context.Context, n int, cfg *ike.Config) (Session, error) {
					cfg.Event(ike.Event{Kind: ike.EventStep, Step: ike.StepSignIn})
					switch {
					case n == 0:
						return first, nil
					case n <= len(tt.again):
						return nil, tt.again[n-1]
					}
					return newSession(), nil
				}
				id := w.connect(request())
				first.end(tt.lost)
				time.Sleep(time.Hour)
				synctest.Wait()
				if tt.code == "" {
					w.wantState(id, app.StateConnected)
				} else {
					w.wantFailure(id, tt.code)
				}
				if w.dialled() != tt.dials {
					t.Errorf("dialled %d times, want %d", w.dialled(), tt.dials)
				}
			})
		})
	}
}

// Each sign-in that worked makes the next failure the first one again.
func TestReconnectForgetsOldSignIns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			if n%2 == 1 {
				return nil, &ike.NoAnswerError{Step: ike.StepSignIn}
			}
			s := newSession()
			time.AfterFunc(2*maxBackoff, func() { s.end(&ike.NoAnswerError{}) })
			return s, nil
		}
		w.connect(request())
		time.Sleep(time.Hour)
		synctest.Wait()
		if w.dialled() < 10 {
			t.Errorf("gave up after %d attempts", w.dialled())
		}
	})
}

// On reauthentication the session itself can be told that the password is wrong.
func TestCredentialsRefusedWhileConnected(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
		id := w.connect(request())
		session.end(&ike.CredentialsError{Step: ike.StepSignIn})
		time.Sleep(time.Hour)
		synctest.Wait()
		w.wantFailure(id, app.CodeSignInRefused)
		if w.dialled() != 1 {
			t.Errorf("dialled %d times", w.dialled())
		}
	})
}

// A connection whose interface somebody removes gets a new one, with the same wishes, by
// connecting anew; its block stands meanwhile. Whoever removes it again and again meets the
// usual back-off.
func TestInterfaceVanishes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		req := request()
		req.Profile.BlockOutside = true
		id := w.connect(req)
		wanted, held := w.host.last(), w.host.count()
		w.device(0).broken <- tun.ErrRemoved
		synctest.Wait()
		c := w.wantState(id, app.StateBlocked)
		if c.TUN != nil || !w.device(0).isClosed() || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Text, "removed the tunnel's interface") {
			t.Errorf("without an interface: %+v", c)
		}
		time.Sleep(minBackoff)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if got := w.host.last(); !reflect.DeepEqual(got, wanted) {
			t.Errorf("the host is asked for\n%+v, before it was\n%+v", got, wanted)
		}
		began, opened := time.Now(), w.opened()
		for w.opened() < opened+40 {
			if dev := w.device(w.opened() - 1); !dev.isClosed() {
				dev.broken <- tun.ErrRemoved
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if took := time.Since(began); took < 5*time.Minute {
			t.Errorf("40 interfaces within %v", took)
		}
		for _, cfg := range w.host.sets[held:] {
			if !cfg.BlockOutside {
				t.Fatal("the block was lifted meanwhile")
			}
		}
	})
}

func TestInterfaceVanishesForGood(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		req := request()
		req.NoReconnect = true
		id := w.connect(req)
		w.device(0).broken <- tun.ErrRemoved
		synctest.Wait()
		w.wantFailure(id, app.CodeNetworkConfig)
		w.checkNothingLeft()
	})
}

// An interface that vanishes right when the gateway pushes settings, or the path changes,
// is not replaced by one that nobody reads: it is noticed as removed.
func TestInterfaceVanishesDuringAChange(t *testing.T) {
	for name, change := range map[string]func(t *tunnel){
		"settings": func(t *tunnel) { t.pushed <- struct{}{} },
		"path":     func(t *tunnel) { t.resized <- struct{}{} },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var session *fakeSession
				w.script = func(context.Context, int, *ike.Config) (Session, error) {
					session = newSession()
					return session, nil
				}
				id := w.connect(request())
				session.mtu.Store(1200) // the host has to be asked
				w.host.fail(&platform.Error{Part: platform.PartAddress, Err: platform.ErrNoInterface})
				change(w.tunnels[0])
				synctest.Wait()
				w.device(0).broken <- tun.ErrRemoved
				w.host.fail(nil)
				time.Sleep(2 * minBackoff)
				synctest.Wait()
				w.wantState(id, app.StateConnected)
				w.device(1).packets <- []byte{0x45, 1}
				synctest.Wait()
				if len(session.written()) != 1 {
					t.Error("the new interface carries nothing")
				}
			})
		})
	}
}

// An always-on connection gets a new interface, whenever it has lost the old one, and
// keeps no part of the host for that meanwhile.
func TestManagedInterfaceVanishes(t *testing.T) {
	for name, lose := range map[string]func(w *world, session *fakeSession){
		"connected": func(w *world, _ *fakeSession) { w.device(0).broken <- tun.ErrRemoved },
		"reconnecting": func(w *world, session *fakeSession) {
			session.end(&ike.NoAnswerError{})
			synctest.Wait()
			w.device(0).broken <- tun.ErrRemoved
		},
	} {
		t.Run(name, func(t *testing.T) {
			var first *fakeSession
			inManagedWorld(t, func(w *world, n int) (Session, error) {
				session := newSession()
				if n == 0 {
					first = session
				}
				return session, nil
			}, []Managed{managed(nil)}, func(t *testing.T, w *world) {
				synctest.Wait()
				lose(w, first)
				synctest.Wait()
				if name == "connected" {
					if last := w.host.last(); len(last.Tunnels) != 0 || !w.device(0).isClosed() {
						t.Errorf("the host keeps %+v", last)
					}
				}
				time.Sleep(minRest * 9 / 8)
				synctest.Wait()
				if w.opened() != 2 || !w.device(0).isClosed() || w.device(1).isClosed() {
					t.Fatalf("%d interfaces", w.opened())
				}
				if last := w.host.last(); len(last.Tunnels) != 1 {
					t.Errorf("the host has %+v", last)
				}
			})
		})
	}
}

// What forbids an interface is told before anybody is asked or dialled, so that no
// one-time password is lost; and with its remedy once.
func TestNoInterfaceToHope(t *testing.T) {
	for name, err := range map[string]error{"CAP_NET_ADMIN": tun.ErrNoRights, "modprobe tun": tun.ErrNoDevice} {
		inWorld(t, func(t *testing.T, w *world) {
			w.checkTUN = func() error { return fmt.Errorf("%w (%s)", err, name) }
			req := request()
			req.Ask, req.Password = true, nil
			f := w.wantFailure(w.connect(req), app.CodeNetworkConfig)
			if strings.Count(f.Error(), name) != 1 || f.Step != app.StepBuildTunnel {
				t.Errorf("%+v", f)
			}
			if w.dialled() != 0 {
				t.Error("dialled all the same")
			}
		})
	}
}

func TestHostRefuses(t *testing.T) {
	t.Run("interface", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.openErr = errors.New("interface: no right")
			id := w.connect(request())
			w.wantFailure(id, app.CodeNetworkConfig)
		})
	})
	t.Run("network", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			session := newSession()
			w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
			w.host.fail(errors.New("route: file exists"))
			id := w.connect(request())
			w.wantFailure(id, app.CodeNetworkConfig)
			if !session.isClosed() || !w.devices[0].isClosed() {
				t.Error("session or interface stays")
			}
			w.host.fail(nil)
		})
	})
	t.Run("socket", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.host.listenErr = errors.New("operation not permitted")
			w.script = func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
				_, err := cfg.ListenPacket(ctx, netip.MustParseAddr("192.0.2.1"), 0)
				return nil, &ike.NoAnswerError{Step: ike.StepFindGateway, Err: err}
			}
			id := w.connect(request())
			w.wantFailure(id, app.CodeNetworkConfig)
		})
	})
}

func TestPushedSettings(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		var event func(ike.Event)
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			event = cfg.Event
			return session, nil
		}
		id := w.connect(request())
		push := func(change func(a *ike.Assignment)) {
			session.mu.Lock()
			change(&session.assignment)
			session.mu.Unlock()
			event(ike.Event{Kind: ike.EventAssignment})
			synctest.Wait()
		}
		push(func(a *ike.Assignment) {
			a.SplitInclude = append(a.SplitInclude, netip.MustParsePrefix("10.10.1.0/24"))
		})
		c := w.wantState(id, app.StateConnected)
		if len(c.Routes) != 2 || len(w.host.last().Tunnels[0].Routes) != 2 || len(w.devices) != 1 {
			t.Errorf("routes %v, host %+v", c.Routes, w.host.last())
		}
		// Another name server is another interface in rootless mode: begin anew.
		push(func(a *ike.Assignment) { a.DNS = []netip.Addr{netip.MustParseAddr("10.10.0.54")} })
		w.wantState(id, app.StateReconnecting)
		if !session.isClosed() {
			t.Error("the old session stays")
		}
	})
}

func TestReconnectUsesTheLastAddresses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		addr := netip.MustParseAddr("192.0.2.1")
		w.lookup = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{addr}, nil }
		found := make(chan []netip.Addr, 2)
		var first *fakeSession
		w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
			addrs, err := cfg.Resolve(ctx, "vpn.example.com")
			if err != nil {
				t.Errorf("attempt %d: %v", n, err)
			}
			other, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if _, err := cfg.Resolve(other, "other.example.com"); n > 0 && err == nil {
				t.Error("another name got the addresses of the first")
			}
			found <- addrs
			s := newSession()
			if n == 0 {
				first = s
			}
			return s, nil
		}
		w.lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "vpn.example.com" {
				return nil, errors.New("no such host")
			}
			return []netip.Addr{addr}, nil
		}
		id := w.connect(request())
		<-found
		w.lookup = func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done() // the dead tunnel's server
			return nil, &net.DNSError{Err: "i/o timeout"}
		}
		first.end(&ike.NoAnswerError{})
		time.Sleep(minBackoff + 2*lookupTimeout)
		if addrs := <-found; !slices.Equal(addrs, []netip.Addr{addr}) {
			t.Errorf("found %v", addrs)
		}
		synctest.Wait()
		w.wantState(id, app.StateConnected)
	})
}
