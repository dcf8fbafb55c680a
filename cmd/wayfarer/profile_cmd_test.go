package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

// savedWorld is a world in which these profiles are saved.
func savedWorld(t *testing.T, entries ...store.Entry) *world {
	t.Helper()
	w := newWorld(t, newFakeService(playConnected))
	for i := range entries {
		if err := openStore(t).Save(&entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loadSaved(t *testing.T, name string) *store.Entry {
	t.Helper()
	entry, err := openStore(t).Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

func office() store.Entry {
	return store.Entry{
		Profile:  app.Profile{Version: 1, Name: "office", Gateway: "vpn.example.com", Login: "ada", MTU: 1300},
		Password: []byte("hush"), GroupSecret: []byte("open sesame"),
	}
}

func home() store.Entry {
	return store.Entry{Profile: app.Profile{Version: 1, Name: "home", Gateway: "home.example.com"}}
}

// expect runs a command line and compares its exit code and what it says.
func (w *world) expect(t *testing.T, exit int, out, stderr string, args ...string) {
	t.Helper()
	if got := w.run(t, args...); got != exit || w.out.String() != out || !strings.HasPrefix(w.err.String(), stderr) || stderr == "" && w.err.Len() > 0 {
		t.Errorf("%q: exit %d\nout %q, want %q\nerr %q, want %q…", args, got, &w.out, out, &w.err, stderr)
	}
	if all := w.out.String() + w.err.String(); strings.Contains(all, "hush") || strings.Contains(all, "sesame") {
		t.Errorf("%q shows a secret: %s", args, all)
	}
}

func TestProfileList(t *testing.T) {
	w := savedWorld(t)
	w.expect(t, 0, "No profiles are saved.\n", "", "profile", "list")
	w.expect(t, 0, `{"profiles":[]}`+"\n", "", "profile", "list", "--json")

	w = savedWorld(t, office(), home())
	w.expect(t, 0, "  office  ada at vpn.example.com\n  home    home.example.com\n", "", "profile", "list")
	w.expect(t, 0, `{"profiles":[{"version":1,"name":"office","gateway":"vpn.example.com","login":"ada","mtu":1300,`+
		`"password_saved":true,"group_secret_saved":true},`+
		`{"version":1,"name":"home","gateway":"home.example.com","password_saved":false,"group_secret_saved":false}]}`+"\n",
		"", "profile", "list", "--json")

	// One that cannot be read does not hide the others.
	if err := keyring.Set("wayfarer", "profile office", "version = 7"); err != nil {
		t.Fatal(err)
	}
	if got := w.run(t, "profile", "list"); got != 0 || !strings.Contains(w.out.String(), "office  cannot be read: version 7") ||
		!strings.Contains(w.out.String(), "home    home.example.com") {
		t.Errorf("exit %d, %q", got, &w.out)
	}
	var list struct{ Profiles []shownProfile }
	if w.run(t, "profile", "list", "--json"); json.Unmarshal(w.out.Bytes(), &list) != nil || len(list.Profiles) != 2 || list.Profiles[0].Error == "" {
		t.Errorf("%q", &w.out)
	}

	keyring.MockInitWithError(os.ErrClosed)
	w.expect(t, 1, "", "wayfarer: the keyring is not available", "profile", "list")
}

func TestProfileShow(t *testing.T) {
	w := savedWorld(t, office(), home())
	w.expect(t, 0, "version = 1\nname = 'office'\ngateway = 'vpn.example.com'\nlogin = 'ada'\nmtu = 1300\n"+
		"# The password is saved.\n# The group's secret is saved.\n", "", "profile", "show", "office")
	w.expect(t, 0, `{"version":1,"name":"home","gateway":"home.example.com","password_saved":false,"group_secret_saved":false}`+"\n",
		"", "profile", "show", "home", "--json")
	// A profile may come from anybody.
	strange := store.Entry{Profile: app.Profile{Version: 1, Name: "strange", Gateway: "x\u202ey\x1b[31m"}}
	if err := openStore(t).Save(&strange); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list"}, {"show", "strange"}} {
		if w.run(t, append([]string{"profile"}, args...)...); strings.ContainsAny(w.out.String(), "\u202e\x1b") {
			t.Errorf("%s: %q", args, &w.out)
		}
	}
	w.expect(t, 2, "", "wayfarer: there is no saved profile \"absent\"; ", "profile", "show", "absent")
	w.expect(t, 2, "", "wayfarer: accepts 1 arg(s)", "profile", "show")
	w.expect(t, 2, "", `wayfarer: unknown command "sohw" for "wayfarer profile"`, "profile", "sohw")
}

func TestProfileRemoveAndRename(t *testing.T) {
	w := savedWorld(t, office(), home())
	w.expect(t, 0, "home is now flat.\n", "", "profile", "rename", "home", "flat")
	w.expect(t, 2, "", "wayfarer: there is a profile of that name already: \"flat\"; ", "profile", "rename", "office", "flat")
	w.expect(t, 2, "", "wayfarer: no such profile \"home\"; ", "profile", "rename", "home", "x")
	w.expect(t, 2, "", "wayfarer: a profile's name must not begin or end with a space", "profile", "rename", "office", " x")
	w.expect(t, 0, "Removed office.\n", "", "profile", "remove", "office")
	w.expect(t, 2, "", "wayfarer: no such profile \"office\"; ", "profile", "remove", "office")
	if names, err := openStore(t).Names(); err != nil || !slices.Equal(names, []string{"flat"}) {
		t.Errorf("left %q, %v", names, err)
	}
	if _, err := keyring.Get("wayfarer", "profile office"); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("the password is still there: %v", err)
	}
}

func TestProfileAdd(t *testing.T) {
	w := savedWorld(t, home())
	w.stdin = "hush\n"
	w.expect(t, 0, "Saved: `wayfarer connect office` connects.\n", "", "profile", "add", "office",
		"--gateway", "vpn.example.com", "--login", "ada", "--ca", "testdata/ca.pem", "--set", "mtu=1300", "--password-file", "-")
	got := loadSaved(t, "office")
	if p := got.Profile; p.Gateway != "vpn.example.com" || p.MTU != 1300 || len(p.CA) != 1 || !app.IsPEM([]byte(p.CA[0])) || string(got.Password) != "hush" {
		t.Errorf("saved %+v", got)
	}
	w.expect(t, 0, "Saved: `wayfarer connect rsa` connects.\n", "", "profile", "add", "rsa",
		"--gateway", "x", "--auth", "rsa", "--cert", "testdata/user.pem", "--key", "testdata/user.key")
	if p := loadSaved(t, "rsa").Profile; !filepath.IsAbs(p.Certificate) || !filepath.IsAbs(p.Key) {
		t.Errorf("saved %+v", p)
	}
	for _, tt := range []struct{ args, says string }{
		{"home --gateway x --login y", "wayfarer: there is a profile \"home\" already; change it with `wayfarer profile edit home`"},
		{"-x --gateway x --login y", "wayfarer: unknown shorthand flag"},
		{"x --gateway y", "wayfarer: login: missing; give --login"},
		{"x --gateway y --login z --ike aes512", "wayfarer: ike: "},
		{"x --gateway y --login z --password-file missing", "wayfarer: the password file cannot be read"},
		{"x --gateway y --login z --timeout 5s", "wayfarer: unknown flag: --timeout"},
	} {
		w.expect(t, 2, "", tt.says, append([]string{"profile", "add"}, strings.Fields(tt.args)...)...)
	}
	if names, _ := openStore(t).Names(); !slices.Equal(names, []string{"home", "office", "rsa"}) {
		t.Errorf("saved %q", names)
	}
}

func TestProfileEditByFlags(t *testing.T) {
	w := savedWorld(t, office())
	w.expect(t, 0, "Saved office.\n", "", "profile", "edit", "office", "--login", "bob", "--set", "mtu=0", "--set", "block_outside=true")
	want := office()
	want.Profile.Login, want.Profile.MTU, want.Profile.BlockOutside = "bob", 0, true
	if got := loadSaved(t, "office"); !reflect.DeepEqual(*got, want) {
		t.Errorf("saved %+v", got)
	}
	w.expect(t, 2, "", "wayfarer: --set name: this does not rename a profile; ", "profile", "edit", "office", "--set", "name=x")
	w.expect(t, 2, "", "wayfarer: --set mtu: \"x\" is no number", "profile", "edit", "office", "--set", "mtu=x")
	w.expect(t, 2, "", "wayfarer: there is no saved profile \"x\"", "profile", "edit", "x", "--set", "mtu=1")
	w.expect(t, 2, "", "wayfarer: there is no terminal for an editor; ", "profile", "edit", "office")
}

// editor is a person who does these edits one after the other.
func (w *world) editor(t *testing.T, edits ...func(string) string) {
	w.edit = func(_ context.Context, path string) error {
		text, err := os.ReadFile(path)
		if err != nil || len(edits) == 0 {
			t.Fatalf("an edit too many: %v", err)
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("the file is %v, %v", info.Mode(), err)
		}
		if strings.Contains(string(text), "hush") {
			t.Errorf("the file holds a secret: %s", text)
		}
		edit := edits[0]
		edits = edits[1:]
		return os.WriteFile(path, []byte(edit(string(text))), 0o600)
	}
	t.Cleanup(func() {
		if len(edits) > 0 {
			t.Errorf("%d edits were not asked for", len(edits))
		}
	})
}

func swap(from, to string) func(string) string {
	return func(text string) string { return strings.Replace(text, from, to, 1) }
}

func TestProfileEdit(t *testing.T) {
	w := savedWorld(t, office(), home())
	w.terminal()
	w.editor(t, func(text string) string {
		for _, key := range []string{"# Profile office.", " remote_networks", " quirks", "\nlogin = 'ada'\n"} {
			if !strings.Contains(text, key) {
				t.Errorf("%q is not in\n%s", key, text)
			}
		}
		return text
	})
	w.expect(t, 0, "Nothing was changed.\n", "", "profile", "edit", "office")
	w.editor(t, func(string) string { return " \n" })
	w.expect(t, 0, "Nothing was changed.\n", "", "profile", "edit", "office")

	w.editor(t, swap("name = 'office'\n", "name = 'work'\nlogin = 'bob'\n"), swap("login = 'ada'", ""))
	w.terminal("")
	if got := w.run(t, "profile", "edit", "office"); got != 0 || !strings.Contains(w.out.String(), "Saved work.") || !strings.Contains(w.err.String(), "Edit again?") {
		t.Errorf("exit %d, %q, %q", got, &w.out, &w.err)
	}
	want := office()
	want.Profile.Name, want.Profile.Login = "work", "bob"
	if got := loadSaved(t, "work"); !reflect.DeepEqual(*got, want) {
		t.Errorf("saved %+v", got)
	}
	if names, _ := openStore(t).Names(); !slices.Equal(names, []string{"work", "home"}) {
		t.Errorf("profiles %q", names)
	}

	for _, tt := range []struct {
		name, from, to, says string
	}{
		{"syntax", "\nlogin", "\nlogn", "unknown key \"logn\""},
		{"value", "mtu = 1300", "auth = 'x'", "auth: \"x\" is none of hybrid"},
		{"name taken", "'work'", "'home'", "there is a profile of that name already"},
		{"bad name", "'work'", "'-'", "must not begin with a hyphen"},
		{"CA", "mtu = 1300", "ca = ['missing']", "missing"},
	} {
		w.terminal("n")
		w.editor(t, swap(tt.from, tt.to))
		if got := w.run(t, "profile", "edit", "work"); got != 9 || !strings.Contains(w.err.String(), tt.says) {
			t.Errorf("%s: exit %d, %q", tt.name, got, &w.err)
		}
		if got := loadSaved(t, "work"); !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: saved %+v", tt.name, got)
		}
	}
	w.edit = func(context.Context, string) error { return errors.New("exit status 1") }
	w.expect(t, 1, "", "wayfarer: the editor failed: exit status 1; ", "profile", "edit", "work")
}

func TestRunEditor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	script := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = --wait ] && echo edited > \"$2\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "windows" {
		t.Skip("the editor of this test is a shell script")
	}
	t.Setenv("VISUAL", script+" --wait")
	t.Setenv("EDITOR", "false")
	if err := runEditor(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if text := readTestFile(t, path); text != "edited\n" {
		t.Errorf("got %q", text)
	}
	t.Setenv("VISUAL", "")
	if err := runEditor(t.Context(), path); err == nil {
		t.Error("a failing editor is no error")
	}
}

const testPCF = "[main]\nDescription=office\nHost=vpn.example.com\nAuthType=1\nGroupName=staff\nGroupPwd=open sesame\nUsername=ada\nUserPassword=hush\n"

func writeTestFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProfileImport(t *testing.T) {
	path := writeTestFile(t, "office.pcf", testPCF)
	const weak = "psk-aggressive,modp1024"
	for _, tt := range []struct {
		name    string
		answers []string // nil: no terminal
		exit    int
		saved   bool
		allowed string
	}{
		{"no terminal", nil, 0, true, ""},
		{"yes, no", []string{"", ""}, 0, true, ""},
		{"yes, yes", []string{"y", "y"}, 0, true, weak},
		{"no", []string{"n"}, 9, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := savedWorld(t)
			if tt.answers != nil {
				w.terminal(tt.answers...)
			}
			if got := w.run(t, "profile", "import", path); got != tt.exit {
				t.Errorf("exit %d, %q", got, &w.err)
			}
			for _, part := range []string{"Cisco VPN client (.pcf)", "Gateway           vpn.example.com", "Group             staff", "Also in the file  password, group's secret", "- The file holds the group's password in the clear"} {
				if !strings.Contains(w.out.String(), part) {
					t.Errorf("%q is not in\n%s", part, &w.out)
				}
			}
			if all := w.out.String() + w.err.String(); strings.Contains(all, "hush") || strings.Contains(all, "sesame") {
				t.Errorf("a secret is shown:\n%s", all)
			}
			if told := strings.Contains(w.out.String(), "wayfarer profile edit office --allow-weak "+weak); told != (tt.saved && tt.allowed == "") {
				t.Errorf("said\n%s", &w.out)
			}
			if names, _ := openStore(t).Names(); len(names) > 0 != tt.saved {
				t.Fatalf("saved %q", names)
			} else if !tt.saved {
				return
			}
			if got := loadSaved(t, "office"); strings.Join(got.Profile.AllowWeak, ",") != tt.allowed || string(got.Password) != "hush" || string(got.GroupSecret) != "open sesame" {
				t.Errorf("saved %+v", got)
			}
		})
	}
}

func TestProfileImportErrors(t *testing.T) {
	w := savedWorld(t)
	for _, path := range []string{filepath.Join(t.TempDir(), "missing"), t.TempDir()} {
		w.expect(t, 2, "", "wayfarer: the file cannot be read: "+path, "profile", "import", path)
	}
	w.stdin = "Dear Ada"
	w.expect(t, 2, "", "wayfarer: -: this is not a VPN profile that Wayfarer can read", "profile", "import", "-")
	w.stdin = strings.Repeat("#", 2<<20)
	w.expect(t, 2, "", "wayfarer: -: the file is larger than", "profile", "import", "-")
	w.stdin = "<plist><dict><key>PayloadContent</key><array><dict><key>PayloadType</key><string>com.apple.vpn.managed</string>" +
		"<key>VPNType</key><string>IKEv2</string><key>UserDefinedName</key><string>New\x1b</string></dict></array></dict></plist>"
	if got := w.run(t, "profile", "import", "-"); got != 2 {
		t.Errorf("exit %d, %q, %q", got, &w.out, &w.err)
	}
	w.stdin = testPCF
	keyring.MockInitWithError(os.ErrClosed)
	if got := w.run(t, "profile", "import", "-"); got != 1 || !strings.Contains(w.err.String(), "the keyring is not available") {
		t.Errorf("exit %d, %q", got, &w.err)
	}
}

// TestProfileExport: what is exported is imported as it was, but for the secrets.
func TestProfileExport(t *testing.T) {
	w := savedWorld(t, home())
	entry := office()
	entry.Profile.CA = []string{readTestFile(t, "testdata/ca.pem")}
	if err := openStore(t).Save(&entry); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "office.toml")
	w.expect(t, 0, "", "", "profile", "export", "office", path)
	text := readTestFile(t, path)
	if p, err := profiles.Decode([]byte(text)); err != nil || !reflect.DeepEqual(*p, entry.Profile) || strings.Contains(text, "hush") {
		t.Errorf("exported %s, %v", text, err)
	}
	w.expect(t, 0, text, "", "profile", "export", "office")
	w.expect(t, 2, "", "wayfarer: the file cannot be written: "+path+": "+systemText(fs.ErrExist), "profile", "export", "office", path)
	w.expect(t, 2, "", "wayfarer: there is no saved profile", "profile", "export", "absent")
	if got := w.run(t, "profile", "import", path); got != 0 {
		t.Fatalf("exit %d, %q", got, &w.err)
	}
	entry.Profile.Name = "office 2"
	if got := loadSaved(t, "office 2"); !reflect.DeepEqual(got.Profile, entry.Profile) || got.Password != nil {
		t.Errorf("imported %+v", got)
	}

	rsa := store.Entry{Profile: app.Profile{Version: 1, Name: "rsa", Gateway: "x", Auth: "rsa", Certificate: "testdata/user.p12"}}
	if err := openStore(t).Save(&rsa); err != nil {
		t.Fatal(err)
	}
	w.expect(t, 0, "version = 1\nname = 'rsa'\ngateway = 'x'\nauth = 'rsa'\ncertificate = 'testdata/user.p12'\n",
		"testdata/user.p12 is not in it: others need a file of their own.\n", "profile", "export", "rsa")
	rsa.Profile.CA = []string{"missing.pem"}
	if err := openStore(t).Save(&rsa); err != nil {
		t.Fatal(err)
	}
	w.expect(t, 2, "", "wayfarer: missing.pem: "+systemText(fs.ErrNotExist)+"; ", "profile", "export", "rsa")
}

func TestProfileCompletion(t *testing.T) {
	w := savedWorld(t, office(), home())
	for _, command := range []string{"show", "edit", "remove", "rename", "export"} {
		if got := complete(t, w, "profile", command, ""); !slices.Equal(got, []string{"office", "home"}) {
			t.Errorf("%s: %q", command, got)
		}
	}
	if got := complete(t, w, "profile", "add", ""); len(got) > 0 {
		t.Errorf("add: %q", got)
	}
	if got := complete(t, w, "profile", "edit", "office", "--auth", ""); !slices.Equal(got, app.AuthMethods()) {
		t.Errorf("--auth: %q", got)
	}
}
