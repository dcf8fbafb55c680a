package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
)

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

// whenLogged is a log that calls then for each line with a message.
type whenLogged struct {
	slog.Handler
	message string
	then    func()
}

func (h whenLogged) Enabled(context.Context, slog.Level) bool { return true }

func (h whenLogged) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h whenLogged) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.then()
	}
	return nil
}

// Who sees that a connection has failed makes it anew at once, as after a question of
// trust: it is not in its own way.
func TestAnewAsSoonAsFailed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(_ context.Context, dial int, _ *ike.Config) (Session, error) {
			if dial == 0 {
				return nil, errors.New("out of paper")
			}
			return newSession(), nil
		}
		var id string
		w.log = slog.New(whenLogged{slog.DiscardHandler, "connection failed", func() {
			var failure *app.Failure
			if id, failure = w.Connect(t.Context(), "ada", named("office")); failure != nil {
				t.Error(failure)
			}
		}})
		if _, failure := w.Connect(t.Context(), "ada", named("office")); failure != nil {
			t.Fatal(failure)
		}
		synctest.Wait()
		w.wantState(id, app.StateConnected)
	})
}
