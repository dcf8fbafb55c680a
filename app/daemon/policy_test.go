package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"wayfarer/app"
	"wayfarer/app/control"
)

func TestReadSetUp(t *testing.T) {
	const office, old = "gateway = 'vpn.example.com'\n", "gateway = 'old.example.com'\nallow_weak = ['3des']\n"
	for _, tt := range []struct {
		name   string
		policy string // "-": there is no file
		want   app.Policy
		left   []string // profiles
		says   string   // the error; empty: none
	}{
		{"none", "-", app.Policy{}, []string{"office", "old"}, ""},
		{"empty", "", app.Policy{}, []string{"office", "old"}, ""},
		{"block", "force_block_outside = true\n", app.Policy{ForceBlockOutside: true}, []string{"office", "old"}, ""},
		{"managed only", "forbid_adding_gateways = true\n", app.Policy{ForbidAdding: true}, []string{"office", "old"}, ""},
		{"strong only", "forbid_weak = true\n", app.Policy{ForbidWeak: true}, []string{"office"}, "managed profile old: this computer's policy forbids weak"},
		{"misspelt", "forbid_week = true\n", strictest, []string{"office"}, `unknown key "forbid_week"`},
		{"no TOML", "forbid_weak\n", strictest, []string{"office"}, "policy.toml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"profiles.d/office.toml!": office, "profiles.d/old.toml!": old}
			if tt.policy != "-" {
				files["policy.toml!"] = tt.policy
			}
			set, errs := ReadSetUp(place(t, files))
			var left []string
			for _, m := range set.Profiles {
				left = append(left, m.Profile.Name)
				if m.Profile.BlockOutside != tt.want.ForceBlockOutside {
					t.Errorf("%s: block_outside is %v", m.Profile.Name, m.Profile.BlockOutside)
				}
			}
			if set.Policy != tt.want || strings.Join(left, " ") != strings.Join(tt.left, " ") {
				t.Errorf("%+v and the profiles %v", set.Policy, left)
			}
			var said []string
			for _, err := range errs {
				said = append(said, err.Error())
			}
			if got := strings.Join(said, "\n"); (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
				t.Errorf("errors %q", got)
			}
		})
	}
}

// A policy that others can write could have been lifted by them.
func TestPolicyOfOthers(t *testing.T) {
	dir := place(t, map[string]string{"policy.toml!": "forbid_weak = false\n"})
	if err := os.Chmod(filepath.Join(dir, "policy.toml"), 0o666); err != nil {
		t.Fatal(err)
	}
	if set, errs := ReadSetUp(dir); set.Policy != strictest || len(errs) != 1 {
		t.Errorf("%+v, %v", set.Policy, errs)
	}
}

func TestPolicy(t *testing.T) {
	weak := func() *control.ConnectRequest {
		req := named("mine")
		req.Profile.AllowWeak = []string{"modp1024", "3des"}
		return req
	}
	byName := &control.ConnectRequest{Profile: app.Profile{Name: "site"}, Password: []byte("x")}
	site := managed(func(m *Managed) { m.Profile.AlwaysOn = false })
	for _, tt := range []struct {
		name   string
		policy app.Policy
		req    *control.ConnectRequest
		says   string // the failure; empty: it is connected
		block  bool
	}{
		{"nothing is forbidden", app.Policy{}, weak(), "", false},
		{"weak", app.Policy{ForbidWeak: true}, weak(), "forbids weak algorithms: allow_weak = modp1024,3des", false},
		{"strong", app.Policy{ForbidWeak: true}, named("mine"), "", false},
		{"a gateway of his own", app.Policy{ForbidAdding: true}, named("mine"), "the administrator's profiles only", false},
		{"with the managed one's name", app.Policy{ForbidAdding: true}, named("site"), "the administrator's profiles only", false},
		{"a managed one", app.Policy{ForbidAdding: true}, byName, "", false},
		{"no managed one", app.Policy{ForbidAdding: true}, &control.ConnectRequest{Profile: app.Profile{Name: "other"}}, "the administrator's profiles only", false},
		{"blocked", app.Policy{ForceBlockOutside: true}, named("mine"), "", true},
		{"a managed one, blocked", app.Policy{ForceBlockOutside: true}, byName, "", true},
	} {
		for _, owner := range []string{"ada", ManagedOwner} {
			t.Run(tt.name+", "+owner, func(t *testing.T) {
				inSetUpWorld(t, works, SetUp{Profiles: []Managed{site}, Policy: tt.policy}, func(t *testing.T, w *world) {
					id, failure := w.Connect(t.Context(), owner, tt.req)
					synctest.Wait()
					if tt.says != "" {
						if failure == nil || failure.Code != app.CodePolicy || failure.Exit != 12 || !strings.Contains(failure.Message, tt.says) {
							t.Errorf("%v", failure)
						}
						if w.dialled() != 0 {
							t.Error("it was tried all the same")
						}
						return
					}
					if failure != nil {
						t.Fatal(failure)
					}
					w.wantState(id, app.StateConnected)
					if got := w.host.last().BlockOutside; got != tt.block {
						t.Errorf("the block is %v", got)
					}
					if tt.req.Profile.BlockOutside {
						t.Error("the client's request is changed")
					}
				})
			})
		}
	}
}

// TestManagedWithBlock: whoever connects what the administrator has placed can have the leak
// block beside, and neither lift the administrator's nor reach the local network by it.
func TestManagedWithBlock(t *testing.T) {
	for _, tt := range []struct {
		name             string
		placed, asked    bool // the block
		placedL, askedL  bool // the local network
		wantBlock, wantL bool
	}{
		{name: "neither"},
		{"the user's", false, true, false, false, true, false},
		{"the administrator's", true, false, false, false, true, false},
		{"the administrator's local network", true, false, true, false, true, true},
		{"the user's, with the administrator's local network", false, true, true, false, true, true},
		{"the user's local network", true, false, false, true, true, false},
	} {
		for _, owner := range []string{"ada", ManagedOwner} {
			t.Run(tt.name+", "+owner, func(t *testing.T) {
				site := managed(func(m *Managed) {
					m.Profile.AlwaysOn, m.Profile.BlockOutside, m.Profile.LocalNetwork = false, tt.placed, tt.placedL
				})
				inManagedWorld(t, works, []Managed{site}, func(t *testing.T, w *world) {
					req := &control.ConnectRequest{
						Profile: app.Profile{Name: "site", BlockOutside: tt.asked, LocalNetwork: tt.askedL}, Password: []byte("x"),
					}
					id, failure := w.Connect(t.Context(), owner, req)
					synctest.Wait()
					if failure != nil {
						t.Fatal(failure)
					}
					if host := w.host.last(); host.BlockOutside != tt.wantBlock || host.AllowLocal != tt.wantL {
						t.Errorf("block %v, local network %v", host.BlockOutside, host.AllowLocal)
					}
					w.Disconnect(t.Context(), id)
					if w.Managed(owner).Profiles[0].BlockOutside != tt.placed {
						t.Error("the placed profile is changed")
					}
				})
			})
		}
	}
}

// TestManagedForEverybody: each user connects what the administrator has placed, with a
// password of his own, and changes nothing about it.
func TestManagedForEverybody(t *testing.T) {
	open := managed(func(m *Managed) {
		m.Profile.Name, m.Profile.Auth, m.Profile.AlwaysOn, m.Profile.Login = "open", "xauth-psk", false, ""
		m.Password, m.GroupSecret = nil, []byte("group")
	})
	mine := managed(func(m *Managed) { m.Profile.Name, m.Profile.AlwaysOn = "mine", false })
	bare := managed(func(m *Managed) { m.Profile.Name, m.Profile.Auth, m.Profile.AlwaysOn = "bare", "xauth-psk", false })
	inManagedWorld(t, works, []Managed{managed(nil), mine, open, bare}, func(t *testing.T, w *world) {
		connect := func(owner, name, login, password string) (*app.Failure, string, string, string) {
			before := w.dialled()
			id, failure := w.Connect(t.Context(), owner, &control.ConnectRequest{
				Profile:  app.Profile{Name: name, Login: login, AllowWeak: []string{"all"}, LocalNetwork: true, MTU: 1300},
				Password: []byte(password), GroupSecret: []byte("guessed"), TimeoutSeconds: 10,
			})
			synctest.Wait()
			if failure != nil {
				return failure, "", "", ""
			}
			defer w.Disconnect(t.Context(), id)
			if w.dialled() != before+1 {
				t.Fatalf("%s: dialled %d times", name, w.dialled()-before)
			}
			cfg := &w.dials[before]
			if host := w.host.last(); cfg.AllowWeak != 0 || host.BlockOutside || host.AllowLocal || host.Tunnels[0].MTU == 1300 {
				t.Errorf("%s: the user changed it", name)
			}
			return nil, cfg.Login, string(cfg.Password), string(cfg.GroupSecret)
		}
		for _, tt := range []struct {
			owner, name, login, password string
			wantLogin, wantPassword      string
			wantGroup                    string
		}{
			{"bob", "open", "bob@corp", "own", "bob@corp", "own", "group"},
			{"bob", "mine", "", "own", "ada", "own", ""},
			{"bob", "mine", "bob", "own", "ada", "own", ""},
			{"bob", "bare", "", "own", "ada", "own", "guessed"},
			{ManagedOwner, "open", "bob", "own", "bob", "own", "group"},
			{ManagedOwner, "mine", "bob", "own", "ada", "hush", ""},
		} {
			failure, login, password, group := connect(tt.owner, tt.name, tt.login, tt.password)
			if failure != nil || login != tt.wantLogin || password != tt.wantPassword || group != tt.wantGroup {
				t.Errorf("%s, %s: %v, dialled with %q, %q, %q", tt.owner, tt.name, failure, login, password, group)
			}
		}
		if failure, _, _, _ := connect("bob", "open", "", "own"); failure == nil || !strings.Contains(failure.Message, "login") {
			t.Errorf("without a login: %v", failure)
		}
		if failure, _, _, _ := connect("bob", "site", "", "own"); failure == nil || failure.Code != app.CodeUsage || !strings.Contains(failure.Message, "always on") {
			t.Errorf("always on: %v", failure)
		}
		// The administrator's password is his.
		before := w.dialled()
		id := w.connect(&control.ConnectRequest{Profile: app.Profile{Name: "mine"}})
		if c := w.wantState(id, app.StateFailed); c.Failure.Code != app.CodeCancelled || w.dialled() != before {
			t.Errorf("without a password of his own: %v", c.Failure)
		}

		for owner, saved := range map[string]bool{"bob": false, ManagedOwner: true} {
			set := w.Managed(owner)
			if len(set.Profiles) != 4 || set.Profiles[1].PasswordSaved != saved || set.Profiles[2].PasswordSaved || !set.Profiles[2].GroupSecretSaved {
				t.Errorf("%s sees %+v", owner, set)
			}
		}
	})
}
