package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
	"wayfarer/platform"
)

func managed(change func(*Managed)) Managed {
	m := Managed{
		Profile:  app.Profile{Name: "site", Gateway: "vpn.example.com", Login: "ada", AlwaysOn: true},
		Password: []byte("hush"),
	}
	if change != nil {
		change(&m)
	}
	return m
}

// inManagedWorld runs test with a daemon that has managed profiles.
func inManagedWorld(t *testing.T, script func(w *world, n int) (Session, error), list []Managed, test func(t *testing.T, w *world)) {
	t.Helper()
	inSetUpWorld(t, script, SetUp{Profiles: list}, test)
}

// inSetUpWorld runs test with a daemon for which an administrator has placed something.
func inSetUpWorld(t *testing.T, script func(w *world, n int) (Session, error), set SetUp, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, host: &fakeNetwork{events: make(chan platform.Event)}}
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) { return script(w, n) }
		opts := w.options()
		opts.Managed, opts.Policy = set.Profiles, set.Policy
		w.Daemon = New(opts)
		defer func() {
			if err := w.Close(t.Context()); err != nil {
				t.Errorf("Close: %v", err)
			}
			synctest.Wait()
			w.checkNothingLeft()
		}()
		synctest.Wait()
		test(t, w)
	})
}

func works(*world, int) (Session, error) { return newSession(), nil }

func TestManagedConnectsByItself(t *testing.T) {
	other := managed(func(m *Managed) { m.Profile.Name, m.Profile.AlwaysOn = "spare", false })
	inManagedWorld(t, works, []Managed{managed(nil), other}, func(t *testing.T, w *world) {
		list := w.Connections()
		if len(list) != 1 || list[0].State != app.StateConnected || list[0].Profile != "site" || list[0].Owner != ManagedOwner {
			t.Fatalf("%+v", list)
		}
		if got := w.dials[0]; string(got.Password) != "hush" {
			t.Errorf("dialled with %q", []byte(got.Password))
		}
		// The administrator ends it, until the service starts again or he says so.
		if f := w.Disconnect(t.Context(), list[0].ID); f != nil {
			t.Fatal(f)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := len(w.Connections()); n != 0 || w.dialled() != 1 {
			t.Errorf("%d connections, dialled %d times", n, w.dialled())
		}
		byName := func(owner, name string) (string, *app.Failure) {
			id, f := w.Connect(t.Context(), owner, &control.ConnectRequest{Profile: app.Profile{Name: name}, Ask: true})
			synctest.Wait()
			return id, f
		}
		for _, name := range []string{"site", "spare"} {
			id, f := byName(ManagedOwner, name)
			if f != nil {
				t.Fatalf("%s: %v", name, f)
			}
			w.wantState(id, app.StateConnected)
			w.Disconnect(t.Context(), id)
		}
		if string(w.dials[1].Password) != "hush" {
			t.Error("the secret was spent")
		}
		for _, who := range [][2]string{{"ada", "site"}, {ManagedOwner, "nothing"}} {
			if _, f := byName(who[0], who[1]); f == nil || f.Code != app.CodeUsage {
				t.Errorf("%v: %v", who, f)
			}
		}
	})
}

func TestManagedSecretsAreZeroised(t *testing.T) {
	list := []Managed{managed(func(m *Managed) { m.GroupSecret, m.Key = []byte("group"), []byte("key") })}
	list[0].Key = nil // not of this method
	password, group := list[0].Password, list[0].GroupSecret
	inManagedWorld(t, works, list, func(t *testing.T, w *world) {})
	if !bytes.Equal(password, make([]byte, 4)) || !bytes.Equal(group, make([]byte, 5)) {
		t.Errorf("left %q and %q", password, group)
	}
}

// Nothing makes an always-on connection give up, and nothing makes it lock the account.
func TestManagedComesBack(t *testing.T) {
	refused := &ike.CredentialsError{Step: ike.StepSignIn}
	for _, tt := range []struct {
		name     string
		err      error
		min, max int // attempts in a day
	}{
		{"silence", &ike.NoAnswerError{Step: ike.StepFindGateway}, 1440, 4000},
		{"refused", refused, 6, 12},
		{"silence at the sign-in", &ike.NoAnswerError{Step: ike.StepSignIn}, 7, 13},
		{"not trusted", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustPin}, 6, 12},
		{"a question", &unansweredError{app.PromptOTP}, 6, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fails := new(atomic.Bool)
			fails.Store(true)
			inManagedWorld(t, func(w *world, n int) (Session, error) {
				if fails.Load() {
					return nil, tt.err
				}
				return newSession(), nil
			}, []Managed{managed(nil)}, func(t *testing.T, w *world) {
				for range 24 * 60 {
					time.Sleep(time.Minute)
					if tt.max < 100 {
						w.host.happen(platform.EventNetwork) // does not cut a rest short
					}
				}
				synctest.Wait()
				c := w.Connections()[0]
				if n := w.dialled(); n < tt.min || n > tt.max {
					t.Errorf("%d attempts", n)
				}
				if c.State != app.StateReconnecting {
					t.Errorf("state %s", c.State)
				}
				says := []string{}
				if tt.max < 100 {
					says = append(says, "the next attempt is at")
				}
				wantWarning(t, c, app.WarningLastAttempt, says...)
				fails.Store(false)
				time.Sleep(maxRest * 9 / 8)
				synctest.Wait()
				if c := w.Connections()[0]; c.State != app.StateConnected || len(c.Warnings) > 0 {
					t.Errorf("%s, %+v", c.State, c.Warnings)
				}
			})
		})
	}
}

// A good connection makes the next rest a short one again.
func TestManagedRestsAnew(t *testing.T) {
	var session *fakeSession
	var at []time.Time
	inManagedWorld(t, func(w *world, n int) (Session, error) {
		at = append(at, time.Now())
		if n < 6 || n == 7 {
			return nil, &ike.CredentialsError{Step: ike.StepSignIn}
		}
		session = newSession()
		return session, nil
	}, []Managed{managed(nil)}, func(t *testing.T, w *world) {
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		session.end(&ike.NoAnswerError{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(at) != 9 {
			t.Fatalf("%d attempts", len(at))
		}
		if first, last := at[1].Sub(at[0]), at[6].Sub(at[5]); first < minRest || first > 2*minRest || last < maxRest {
			t.Errorf("rests grow from %v to %v", first, last)
		}
		if again := at[8].Sub(at[7]); again < minRest || again > 2*minRest {
			t.Errorf("rests %v after a good connection", again)
		}
	})
}

// The block of an always-on profile stands from the first wish on, whoever has it, and
// until the administrator disconnects.
func TestManagedBlock(t *testing.T) {
	site := managed(func(m *Managed) { m.Profile.BlockOutside, m.Profile.LocalNetwork = true, true })
	inManagedWorld(t, func(w *world, n int) (Session, error) {
		if n == 0 {
			return newSession(), nil // the user's, if it is the first
		}
		return nil, &ike.CredentialsError{Step: ike.StepSignIn}
	}, []Managed{site}, func(t *testing.T, w *world) {
		for i, up := range w.host.blocks(0) {
			if !up {
				t.Errorf("wish %d opens the host", i)
			}
		}
		if cfg := w.host.last(); !cfg.BlockOutside || !cfg.AllowLocal {
			t.Errorf("the host has %+v", cfg)
		}
		id := w.Connections()[0].ID
		w.Disconnect(t.Context(), id)
		w.checkNothingLeft()
	})
}

func TestManagedIsNotForClients(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, change := range []func(*app.Profile){
			func(p *app.Profile) { p.AlwaysOn = true },
			func(p *app.Profile) { p.SecretFile = "/etc/shadow" },
		} {
			req := request()
			change(&req.Profile)
			if _, f := w.Connect(t.Context(), ManagedOwner, req); f == nil || f.Code != app.CodeUsage {
				t.Errorf("%v", f)
			}
		}
	})
}

func TestKeepsBlock(t *testing.T) {
	both := managed(func(m *Managed) { m.Profile.BlockOutside = true })
	notAlways := managed(func(m *Managed) { m.Profile.BlockOutside, m.Profile.AlwaysOn = true, false })
	for _, tt := range []struct {
		list []Managed
		want bool
	}{{nil, false}, {[]Managed{managed(nil)}, false}, {[]Managed{notAlways}, false}, {[]Managed{managed(nil), both}, true}} {
		if got := KeepsBlock(tt.list); got != tt.want {
			t.Errorf("%+v: %v", tt.list, got)
		}
	}
}

// The service gets managed profiles from the process that may read them.
func TestManagedAsJSON(t *testing.T) {
	want := managed(func(m *Managed) { m.GroupSecret, m.Key = []byte{0, 0xff}, []byte("PEM") })
	data, err := json.Marshal([]Managed{want})
	if err != nil {
		t.Fatal(err)
	}
	var got []Managed
	if err := json.Unmarshal(data, &got); err != nil || len(got) != 1 {
		t.Fatalf("%v", err)
	}
	if got[0].Profile.Name != "site" || !got[0].Profile.AlwaysOn || !bytes.Equal(got[0].Password, want.Password) ||
		!bytes.Equal(got[0].GroupSecret, want.GroupSecret) || !bytes.Equal(got[0].Key, want.Key) {
		t.Errorf("%+v", got[0])
	}
}
