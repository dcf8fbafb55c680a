package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
)

// plant is a profile that leaves nothing open, for the administrator.
func plant() app.ManagedProfile {
	return app.ManagedProfile{
		Profile: app.Profile{Name: "plant", Gateway: "vpn.example.com", Login: "ada"}, PasswordSaved: true,
	}
}

func placed(change func(*app.ManagedProfile)) app.Managed {
	p := plant()
	if change != nil {
		change(&p)
	}
	return app.Managed{Profiles: []app.ManagedProfile{p}}
}

// A profile of the administrator's is connected by its name, with or without a keyring.
func TestConnectManaged(t *testing.T) {
	for name, keyringError := range map[string]error{"no keyring": os.ErrClosed, "not in the keyring": nil} {
		t.Run(name, func(t *testing.T) {
			svc := newFakeService(playConnected)
			svc.placed = placed(nil)
			w := newWorld(t, svc)
			if keyringError != nil {
				keyring.MockInitWithError(keyringError)
			}
			if got := w.run(t, "connect", "plant", "--timeout", "1500ms"); got != 0 || !strings.HasPrefix(w.out.String(), "Connected to ") {
				t.Fatalf("exit %d, stdout %q, stderr %q", got, &w.out, &w.err)
			}
			want := control.ConnectRequest{Profile: app.Profile{Name: "plant"}, TimeoutSeconds: 2}
			if got := svc.request(t); !reflect.DeepEqual(got, want) {
				t.Errorf("sent %+v, want %+v", got, want)
			}
			if got := w.run(t, "connect", "plant", "--json"); got != 0 || !strings.HasPrefix(w.out.String(), `{"id":"c1"`) {
				t.Errorf("exit %d, stdout %q, stderr %q", got, &w.out, &w.err)
			}
			// What only a profile of the user's own can be told, is not for it.
			for _, flag := range []string{"--set=mtu=1300", "--gateway=evil.example.com", "--allow-weak=all", "--save=mine"} {
				svc.requests = nil
				if got := w.run(t, "connect", "plant", flag); got == 0 || len(svc.requests) > 0 {
					t.Errorf("%s: exit %d, sent %+v", flag, got, svc.requests)
				}
			}
		})
	}
}

// A script of the administrator's has no home, and so no profiles of its own.
func TestConnectManagedWithoutHome(t *testing.T) {
	for want, placed := range map[int]app.Managed{0: placed(nil), 1: {}} {
		svc := newFakeService(playConnected)
		svc.placed = placed
		w := newWorld(t, svc)
		w.env.profiles = func() (*store.Store, error) { return nil, errors.New("no home") }
		if got := w.run(t, "connect", "plant"); got != want || want != 0 && w.err.String() != "wayfarer: no home\n" {
			t.Errorf("exit %d, stderr %q", got, &w.err)
		}
	}
}

// What the profile leaves open comes from the command line, or is asked for.
func TestConnectManagedWithOwnSecrets(t *testing.T) {
	open := placed(func(p *app.ManagedProfile) { p.Auth, p.Login, p.PasswordSaved = "xauth-psk", "", false })
	fixed := placed(func(p *app.ManagedProfile) { p.PasswordSaved = false })
	dir := t.TempDir()
	password, group := filepath.Join(dir, "password"), filepath.Join(dir, "group")
	for path, secret := range map[string]string{password: "own\n", group: "shared\n"} {
		if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		placed app.Managed
		args   []string
		want   control.ConnectRequest // nil Profile.Name: it is refused
		says   string
	}{
		{
			"all", open,
			[]string{"--login", "bob", "--password-file", password, "--group-secret-file", group, "--trust-new", "--no-reconnect"},
			control.ConnectRequest{
				Profile: app.Profile{Name: "plant", Login: "bob"}, Password: []byte("own"), GroupSecret: []byte("shared"),
				TrustNew: true, NoReconnect: true, TimeoutSeconds: 60,
			},
			"",
		},
		{
			"the password", fixed,
			[]string{"--password-file", password},
			control.ConnectRequest{Profile: app.Profile{Name: "plant"}, Password: []byte("own"), TimeoutSeconds: 60},
			"",
		},
		{
			"stricter", placed(nil),
			[]string{"--block-outside"},
			control.ConnectRequest{Profile: app.Profile{Name: "plant", BlockOutside: true}, TimeoutSeconds: 60},
			"",
		},
		{
			"no stricter", placed(func(p *app.ManagedProfile) { p.BlockOutside = true }),
			[]string{"--block-outside=false"},
			control.ConnectRequest{Profile: app.Profile{Name: "plant"}, TimeoutSeconds: 60},
			"",
		},
		{"laxer", placed(nil), []string{"--local-network"}, control.ConnectRequest{}, "plant is the administrator's, who alone changes it"},
		{"no login", open, []string{"--password-file", password}, control.ConnectRequest{}, "plant has no login; give yours: --login"},
		{"another login", fixed, []string{"--login", "bob"}, control.ConnectRequest{}, "the administrator has set plant's login: ada"},
		{"no password", fixed, nil, control.ConnectRequest{}, "a password is needed and there is no terminal to ask on"},
		{"no group secret", open, []string{"--login", "bob", "--password-file", password}, control.ConnectRequest{}, "needs the group's secret"},
		{"no use for it", fixed, []string{"--group-secret-file", group, "--password-file", "/nonexistent"}, control.ConnectRequest{}, "--password-file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newFakeService(playConnected)
			svc.placed = tt.placed
			w := newWorld(t, svc)
			got := w.run(t, append([]string{"connect", "plant"}, tt.args...)...)
			if tt.says != "" {
				if got == 0 || len(svc.requests) > 0 || !strings.Contains(w.err.String(), tt.says) {
					t.Errorf("exit %d, stderr %q", got, &w.err)
				}
				return
			}
			if got != 0 {
				t.Fatalf("exit %d, stderr %q", got, &w.err)
			}
			if sent := svc.request(t); !reflect.DeepEqual(sent, tt.want) {
				t.Errorf("sent %+v, want %+v", sent, tt.want)
			}
		})
	}
}

// What the service says of a managed profile is told, unless it has none.
func TestConnectManagedIsRefused(t *testing.T) {
	inUse := app.NewFailure(app.CodeUsage, "", "plant is already in use as connection c1", "disconnect it first")
	policy := app.NewFailure(app.CodePolicy, "", "this computer's policy forbids weak algorithms", "leave it out")
	noService := app.NewFailure(app.CodeNoService, "", "the service does not run", "start it")
	const unsaved = "wayfarer: there is no saved profile \"plant\"; save one with `wayfarer connect --gateway … --save NAME`\n"
	for _, tt := range []struct {
		name          string
		placed        app.Managed
		refusal, gone error
		exit          int
		want          string
	}{
		{"none", app.Managed{}, nil, nil, 2, unsaved},
		{"in use", placed(nil), inUse, nil, 2, "wayfarer: plant is already in use as connection c1; disconnect it first\n"},
		{"forbidden", placed(nil), policy, nil, 12, "wayfarer: this computer's policy forbids weak algorithms; leave it out\n"},
		{"no service", placed(nil), nil, noService, 8, "wayfarer: the service does not run; start it\n"},
	} {
		svc := newFakeService(nil)
		svc.placed, svc.refusal, svc.gone = tt.placed, tt.refusal, tt.gone
		w := newWorld(t, svc)
		if got := w.run(t, "connect", "plant"); got != tt.exit || w.err.String() != tt.want {
			t.Errorf("%s: exit %d, stderr %q", tt.name, got, &w.err)
		}
	}
}

// TestManagedIsShown: profile list, profile show and status tell what the administrator has
// set up; nothing changes it.
func TestManagedIsShown(t *testing.T) {
	w := savedWorld(t, office())
	w.svc.placed = placed(nil)
	w.svc.placed.Policy = app.Policy{ForbidWeak: true, ForceBlockOutside: true, ForbidAdding: true}
	const policy = "This computer's policy: weak algorithms are forbidden; nothing leaves outside of the tunnel; only the administrator's profiles are connected.\n"
	want := "  office  ada at vpn.example.com\n  plant   ada at vpn.example.com, the administrator's\n" + policy
	if got := w.run(t, "profile", "list"); got != 0 || w.out.String() != want {
		t.Errorf("list: exit %d, stdout %q", got, &w.out)
	}
	if got := w.run(t, "status"); got != 0 || w.out.String() != "Not connected.\n"+policy {
		t.Errorf("status: exit %d, stdout %q", got, &w.out)
	}
	var list struct {
		Profiles []struct {
			Name          string `json:"name"`
			Managed       bool   `json:"managed"`
			PasswordSaved bool   `json:"password_saved"`
		} `json:"profiles"`
		Policy app.Policy `json:"policy"`
	}
	w.run(t, "profile", "list", "--json")
	if err := json.Unmarshal(w.out.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Profiles) != 2 || list.Profiles[0].Managed || !list.Profiles[1].Managed || list.Profiles[1].Name != "plant" || list.Policy != w.svc.placed.Policy {
		t.Errorf("%s", &w.out)
	}
	w.run(t, "status", "--json")
	if strings.Contains(w.out.String(), "policy") {
		t.Errorf("status --json has more than its schema: %s", &w.out)
	}
	if got := w.run(t, "profile", "show", "plant"); got != 0 || !strings.Contains(w.out.String(), "gateway = 'vpn.example.com'\n") || !strings.Contains(w.out.String(), "# It is the administrator's") {
		t.Errorf("show: exit %d, stdout %q", got, &w.out)
	}
	for _, change := range [][]string{{"remove", "plant"}, {"rename", "plant", "mine"}, {"edit", "plant", "--login", "bob"}} {
		if got := w.run(t, append([]string{"profile"}, change...)...); got != 2 {
			t.Errorf("%v: exit %d, stderr %q", change, got, &w.err)
		}
	}
	// Without a keyring the administrator's are still there.
	keyring.MockInitWithError(os.ErrClosed)
	if got := w.run(t, "profile", "list"); got != 0 || w.out.String() != "  plant  ada at vpn.example.com, the administrator's\n"+policy || !strings.Contains(w.err.String(), "keyring") {
		t.Errorf("exit %d, stdout %q, stderr %q", got, &w.out, &w.err)
	}
}

// TestOnlyManaged: where the policy allows the administrator's profiles only, one of the
// user's own does not hide that of the same name, and nobody types a password for nothing.
func TestOnlyManaged(t *testing.T) {
	const forbidden = "wayfarer: this computer's policy allows the administrator's profiles only; `wayfarer profile list` shows them\n"
	for _, tt := range []struct {
		name   string
		policy app.Policy
		args   []string
		exit   int
		own    bool   // it is the user's that is connected
		says   string // on the standard error; empty: anything
	}{
		{"own first", app.Policy{}, []string{"office"}, 0, true, ""},
		{"managed only", app.Policy{ForbidAdding: true}, []string{"office"}, 0, false, ""},
		{"own one", app.Policy{ForbidAdding: true}, []string{"lab"}, 12, false, forbidden},
		{"unsaved", app.Policy{ForbidAdding: true}, []string{"--gateway", "vpn.example.com", "--login", "ada"}, 12, false, forbidden},
		{"changed", app.Policy{ForbidAdding: true}, []string{"office", "--set", "mtu=1300"}, 2, false, "wayfarer: office is the administrator's, who alone changes it; " +
			"give no more than --timeout, --json, --socket, --login, --password-file, --group-secret-file, --trust-new, --no-reconnect, --block-outside\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab := office()
			lab.Profile.Name, lab.Password = "lab", nil
			w := savedWorld(t, office(), lab)
			w.svc.placed = placed(func(p *app.ManagedProfile) { p.Name, p.Gateway = "office", "managed.example.com" })
			w.svc.placed.Policy = tt.policy
			if got := w.run(t, append([]string{"connect"}, tt.args...)...); got != tt.exit || tt.says != "" && w.err.String() != tt.says {
				t.Fatalf("exit %d, stderr %q", got, &w.err)
			}
			if tt.exit != 0 {
				if len(w.svc.requests) > 0 {
					t.Errorf("sent %+v", w.svc.requests)
				}
				return
			}
			if sent := w.svc.request(t).Profile; sent.Name != "office" || (sent.Gateway != "") != tt.own {
				t.Errorf("sent %+v", sent)
			}
			w.run(t, "profile", "show", "office")
			if managed := strings.Contains(w.out.String(), "managed.example.com"); managed == tt.own {
				t.Errorf("show: %s", &w.out)
			}
		})
	}
}
