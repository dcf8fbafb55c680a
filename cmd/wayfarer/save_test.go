package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
	"wayfarer/app/store"
)

func TestSaveAndConnectAgain(t *testing.T) {
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	w.stdin = " pass\"word\n"
	if got := w.run(t, with("--ca", "testdata/ca.pem", "--save", "office")...); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	if want := "Saved: `wayfarer connect office` connects again.\n"; w.err.String() != want {
		t.Errorf("stderr %q", &w.err)
	}
	first := svc.request(t)
	first.Profile.Version = 1

	svc = newFakeService(playConnected)
	w.service = func(string) installed { return svc }
	if got := w.run(t, "connect", "office"); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	if second := svc.request(t); !reflect.DeepEqual(first, second) {
		t.Errorf("first  %+v\nsecond %+v", first, second)
	}

	// What the command line adds is for once.
	svc = newFakeService(playConnected)
	if got := w.run(t, "connect", "office", "--allow-weak", "3des", "--trust-new"); got != 0 || len(svc.request(t).Profile.AllowWeak) != 1 {
		t.Errorf("exit %d, sent %+v", got, svc.requests)
	}
	if entry := load(t, "office"); len(entry.Profile.AllowWeak) > 0 || entry.Profile.Pin != "" {
		t.Errorf("stored %+v", entry.Profile)
	}
}

// A saved profile is replaced by nothing but itself.
func TestSaveRefusesToReplace(t *testing.T) {
	const refusal = "wayfarer: --save: there is another profile \"office\" already; choose another name\n"
	for _, tt := range []struct {
		name string
		args []string
		exit int
	}{
		{"another gateway", []string{"connect", "--gateway", "other.example.com", "--login", "ada", "--password-file", "-", "--save", "office"}, 2},
		{"changed for once", []string{"connect", "office", "--set", "mtu=1300", "--save", "office"}, 2},
		{"another pin", with("--pin", strings.Repeat("0", 64), "--save", "office"), 2},
		{"the same", with("--save", "office"), 0},
		{"the same, by name", []string{"connect", "office", "--save", "office"}, 0},
		{"under another name", []string{"connect", "office", "--set", "mtu=1300", "--save", "small"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newFakeService(playConnected)
			w := newWorld(t, svc)
			saveProfile(t, "secret")
			pinned := load(t, "office")
			pinned.Profile.Pin = testPin
			if err := w.store(pinned); err != nil {
				t.Fatal(err)
			}
			w.stdin = "new secret"
			got := w.run(t, tt.args...)
			if got != tt.exit || tt.exit != 0 && (w.err.String() != refusal || len(svc.requests) > 0) {
				t.Fatalf("exit %d, %d requests, stderr %q", got, len(svc.requests), &w.err)
			}
			entry := load(t, "office")
			if entry.Profile.Gateway != "vpn.example.com" || entry.Profile.Pin != testPin || entry.Profile.MTU != 0 {
				t.Errorf("saved %+v", entry.Profile)
			}
			// What was pinned once is not asked about again.
			if tt.exit == 0 && svc.request(t).Profile.Pin != testPin {
				t.Errorf("sent %+v", svc.request(t).Profile)
			}
		})
	}
}

func load(t *testing.T, name string) *store.Entry {
	t.Helper()
	profiles, err := store.Open()
	if err != nil {
		t.Fatal(err)
	}
	entry, err := profiles.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// An accepted certificate becomes the saved profile's pin, at whichever connect.
func TestTrustIsSaved(t *testing.T) {
	t.Run("with --save", func(t *testing.T) {
		w := newWorld(t, newFakeService(playTrust))
		w.stdin = "secret"
		w.terminal("yes")
		if got := w.run(t, with("--save", "office")...); got != 0 {
			t.Fatalf("exit %d, stderr %q", got, &w.err)
		}
		if got := load(t, "office"); got.Profile.Pin != testPin || string(got.Password) != "secret" {
			t.Errorf("stored %+v", got)
		}
	})
	t.Run("with --save --trust-new", func(t *testing.T) {
		for _, trust := range [][]string{nil, {"--ca", "testdata/ca.pem"}} { // a CA, and a name that does not fit
			w := newWorld(t, newFakeService(playTrustedNew))
			w.stdin = "secret"
			if got := w.run(t, with(append(trust, "--save", "office", "--trust-new")...)...); got != 0 || load(t, "office").Profile.Pin != testPin {
				t.Errorf("%s: exit %d, stderr %q", trust, got, &w.err)
			}
		}
	})
	t.Run("with NAME --trust-new", func(t *testing.T) {
		w := newWorld(t, newFakeService(playTrustedNew))
		saveProfile(t, "secret")
		if got := w.run(t, "connect", "office", "--trust-new"); got != 0 || load(t, "office").Profile.Pin != testPin {
			t.Errorf("exit %d, stderr %q", got, &w.err)
		}
	})
	t.Run("not asked", func(t *testing.T) {
		w := newWorld(t, newFakeService(playConnected))
		w.stdin = "secret"
		if got := w.run(t, with("--system-roots", "--save", "office", "--trust-new")...); got != 0 || load(t, "office").Profile.Pin != "" {
			t.Errorf("exit %d, stderr %q", got, &w.err)
		}
	})
	t.Run("with NAME", func(t *testing.T) {
		w := newWorld(t, newFakeService(playTrust))
		saveProfile(t, "secret")
		w.terminal("yes")
		if got := w.run(t, "connect", "office", "--set", "mtu=1200"); got != 0 {
			t.Fatalf("exit %d, stderr %q", got, &w.err)
		}
		if got := load(t, "office"); got.Profile.Pin != testPin || string(got.Password) != "secret" || got.Profile.MTU != 0 {
			t.Errorf("stored %+v", got)
		}
	})
	t.Run("refused", func(t *testing.T) {
		w := newWorld(t, newFakeService(playTrust))
		saveProfile(t, "secret")
		w.terminal("no")
		if got := w.run(t, "connect", "office"); got != 4 || load(t, "office").Profile.Pin != "" {
			t.Errorf("exit %d, stderr %q", got, &w.err)
		}
	})
}

func saveProfile(t *testing.T, password string) {
	t.Helper()
	profiles, err := store.Open()
	if err != nil {
		t.Fatal(err)
	}
	entry := &store.Entry{Profile: app.Profile{Name: "office", Gateway: "vpn.example.com", Login: "ada"}, Password: []byte(password)}
	if err := profiles.Save(entry); err != nil {
		t.Fatal(err)
	}
}

// A gateway may forbid that the password is stored.
func TestForbiddenPassword(t *testing.T) {
	play := func(s *fakeService) {
		c := connected()
		c.Warnings = []app.Warning{{Code: app.WarningNoSave, Severity: app.SeverityInfo, Text: "The gateway forbids storing the password."}}
		s.set(c)
	}
	w := newWorld(t, newFakeService(play))
	w.stdin = "secret"
	if got := w.run(t, with("--save", "lab")...); got != 0 || !strings.Contains(w.err.String(), "not saved") || load(t, "lab").Password != nil {
		t.Errorf("exit %d, stderr %q", got, &w.err)
	}
	saveProfile(t, "secret")
	if got := w.run(t, "connect", "office"); got != 0 || load(t, "office").Password != nil {
		t.Errorf("exit %d, stderr %q", got, &w.err)
	}
	// It is asked for from then on.
	person := w.terminal("secret")
	if got := w.run(t, "connect", "office"); got != 0 || len(person.asked) != 1 || load(t, "office").Password != nil {
		t.Errorf("exit %d, asked %v, stderr %q", got, person.asked, &w.err)
	}
}

// Where the gateway has asked for a password again, none is stored: neither the one that
// it did not take, nor what may have been for once.
func TestRetypedPassword(t *testing.T) {
	w := newWorld(t, newFakeService(func(s *fakeService) {
		prompt := &app.Prompt{ID: "p1", Kind: app.PromptPassword, Secret: true}
		s.set(app.Connection{ID: "c1", State: app.StateActionNeeded, Step: app.StepSignIn, Prompt: prompt})
		<-s.answered
		s.set(connected())
	}))
	w.stdin = "secret"
	w.terminal("other")
	if got := w.run(t, with("--save", "lab")...); got != 0 || !strings.Contains(w.err.String(), "asked for another one") || load(t, "lab").Password != nil {
		t.Errorf("exit %d, stderr %q", got, &w.err)
	}
}

func TestNoKeyring(t *testing.T) {
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	keyring.MockInitWithError(os.ErrClosed)
	w.stdin = "secret"
	want := "wayfarer: the keyring is not available: file already closed; unlock or start a keyring, or connect with --gateway and without --save\n"
	for _, args := range [][]string{with("--save", "office"), {"connect", "office"}, {"connect", "office", "--trust-new"}} {
		if got := w.run(t, args...); got != 1 || w.err.String() != want {
			t.Errorf("exit %d, stderr %q", got, &w.err)
		}
	}
	if len(svc.conns) > 0 {
		t.Error("connected all the same")
	}
	if got := w.run(t, connectOffice...); got != 0 {
		t.Errorf("without a profile: exit %d, stderr %q", got, &w.err)
	}
}
