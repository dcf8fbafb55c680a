package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
)

// The certificate of ada, testdata/user.pem, is valid from 2025 to 2099. With its key
// it is in user.p12, under this passphrase.
const userPassphrase = "sesame"

func readTestFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func secretPath(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What each method needs is sent, and nothing else.
func TestRequests(t *testing.T) {
	for _, tt := range []struct {
		args  string
		stdin string
		want  control.ConnectRequest
		key   bool
	}{
		{
			args: "--auth xauth-psk --login ada --password-file - --group-secret-file GROUP --group-id staff", stdin: "hush\n",
			want: control.ConnectRequest{
				Profile:  app.Profile{Auth: "xauth-psk", Login: "ada", GroupID: "staff"},
				Password: []byte("hush"), GroupSecret: []byte("of the group"),
			},
		},
		{
			args: "--auth xauth-psk --login ada --password-file PASSWORD --group-secret-file -", stdin: "of all\r\n",
			want: control.ConnectRequest{
				Profile: app.Profile{Auth: "xauth-psk", Login: "ada"}, Password: []byte("of the user"), GroupSecret: []byte("of all"),
			},
		},
		{
			args: "--login ada --password-file PASSWORD --group-secret-file GROUP",
			want: control.ConnectRequest{
				Profile: app.Profile{Login: "ada"}, Password: []byte("of the user"), GroupSecret: []byte("of the group"),
			},
		},
		{
			args: "--auth psk --group-secret-file GROUP --set local_networks=10.1.0.0/24",
			want: control.ConnectRequest{
				Profile:     app.Profile{Auth: "psk", LocalNetworks: []string{"10.1.0.0/24"}},
				GroupSecret: []byte("of the group"),
			},
		},
		{
			args: "--auth rsa --cert testdata/user.pem --key testdata/user.key", key: true,
			want: control.ConnectRequest{Profile: app.Profile{Auth: "rsa"}},
		},
		{
			args: "--auth xauth-rsa --cert testdata/user.pem --key testdata/user.key --login ada --password-file PASSWORD", key: true,
			want: control.ConnectRequest{Profile: app.Profile{Auth: "xauth-rsa", Login: "ada"}, Password: []byte("of the user")},
		},
	} {
		t.Run(tt.args, func(t *testing.T) {
			svc := newFakeService(playConnected)
			w := newWorld(t, svc)
			w.stdin = tt.stdin
			args := strings.NewReplacer("GROUP", secretPath(t, "of the group\n"), "PASSWORD", secretPath(t, "of the user")).Replace(tt.args)
			if got := w.run(t, append([]string{"connect", "--gateway", "vpn.example.com"}, strings.Fields(args)...)...); got != 0 || w.err.Len() > 0 {
				t.Fatalf("exit %d, stderr %q", got, &w.err)
			}
			got := svc.request(t)
			if tt.key {
				checkUser(t, &got)
			}
			want := tt.want
			want.Profile.Gateway, want.TimeoutSeconds = "vpn.example.com", 60
			if !reflect.DeepEqual(got, want) {
				t.Errorf("sent\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// checkUser looks at ada's certificate and key in a request and takes them out.
func checkUser(t *testing.T, req *control.ConnectRequest) {
	t.Helper()
	certs, err := app.ParseCertificates([]byte(req.Profile.Certificate))
	if err != nil || len(certs) != 1 || certs[0].Subject.CommonName != "ada" {
		t.Fatalf("certificate: %v in %q", err, req.Profile.Certificate)
	}
	key, err := app.ParseKey(req.Key)
	if err != nil || !app.BelongsTo(key, certs[0]) || req.Profile.Key != "" {
		t.Fatalf("key: %v; the profile has %q", err, req.Profile.Key)
	}
	req.Profile.Certificate, req.Key = "", nil
}

var connectPKCS12 = []string{"connect", "--gateway", "vpn.example.com", "--auth", "rsa", "--cert", "testdata/user.p12"}

func TestPassphrase(t *testing.T) {
	const question = "Passphrase for testdata/user.p12: "
	for _, tt := range []struct {
		name   string
		person func(*world)
		exit   int
		says   string
	}{
		{"right", func(w *world) { w.terminal(userPassphrase) }, 0, ""},
		{"wrong", func(w *world) { w.terminal("simsalabim") }, 2, "wayfarer: testdata/user.p12: wrong passphrase; try again\n"},
		{"none", func(w *world) { w.terminal("") }, 2, "wayfarer: testdata/user.p12: wrong passphrase; try again\n"},
		{"end of input", func(w *world) { w.terminal().eof = true }, 9, "wayfarer: cancelled\n"},
		{"nobody", func(*world) {}, 9, "wayfarer: testdata/user.p12 is protected by a passphrase and there is no terminal to ask on; connect from a terminal\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newFakeService(playConnected)
			w := newWorld(t, svc)
			tt.person(w)
			if got := w.run(t, connectPKCS12...); got != tt.exit || !strings.HasSuffix(w.err.String(), tt.says) {
				t.Fatalf("exit %d, stderr %q", got, &w.err)
			}
			if w.person != nil && !reflect.DeepEqual(w.person.asked, []string{question}) {
				t.Errorf("asked %q", w.person.asked)
			}
			if out := w.err.String() + w.out.String(); strings.Contains(out, userPassphrase) || strings.Contains(out, "simsalabim") {
				t.Errorf("the passphrase is shown: %q", out)
			}
			if tt.exit != 0 {
				if len(svc.requests) > 0 {
					t.Error("something was sent")
				}
				return
			}
			req := svc.request(t)
			if sent, _ := json.Marshal(req); bytes.Contains(sent, []byte(userPassphrase)) {
				t.Error("the passphrase was sent")
			}
			checkUser(t, &req)
		})
	}
}

// Without a service nobody is asked for anything.
func TestNothingIsAskedInVain(t *testing.T) {
	svc := newFakeService(nil)
	svc.gone = app.NewFailure(app.CodeNoService, "", "the service does not run", "")
	for _, args := range [][]string{connectPKCS12, {"connect", "--gateway", "g", "--auth", "psk"}} {
		w := newWorld(t, svc)
		person := w.terminal("secret")
		if got := w.run(t, args...); got != 8 || len(person.asked) > 0 {
			t.Errorf("%q: exit %d, asked %q", args, got, person.asked)
		}
	}
}

func TestGroupSecretIsAskedFor(t *testing.T) {
	args := []string{"connect", "--gateway", "vpn.example.com", "--login", "ada", "--auth", "xauth-psk"}
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	person := w.terminal("of the group", "of the user")
	if got := w.run(t, args...); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	if want := []string{"Group secret for vpn.example.com: ", "Password for ada at vpn.example.com: "}; !reflect.DeepEqual(person.asked, want) {
		t.Errorf("asked %q", person.asked)
	}
	if req := svc.request(t); string(req.GroupSecret) != "of the group" || string(req.Password) != "of the user" {
		t.Errorf("sent %+v", req)
	}
	if strings.Contains(w.err.String()+w.out.String(), "of the") {
		t.Error("a secret was shown")
	}

	svc = newFakeService(playConnected)
	w = newWorld(t, svc)
	w.terminal("")
	if got := w.run(t, args...); got != 2 || len(svc.requests) > 0 {
		t.Errorf("none given: exit %d, stderr %q", got, &w.err)
	}
}

// A method without a user asks for no password.
func TestNoPasswordIsAskedFor(t *testing.T) {
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	person := w.terminal()
	if got := w.run(t, "connect", "--gateway", "g", "--auth", "psk", "--group-secret-file", secretPath(t, "x")); got != 0 || len(person.asked) > 0 {
		t.Errorf("exit %d, asked %q, stderr %q", got, person.asked, &w.err)
	}
}

// The gateway decides about the user's certificate; a word of warning is due.
func TestCertificateOutOfDate(t *testing.T) {
	for now, want := range map[time.Time]string{
		time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC): "Warning: your certificate expired on 2099-01-01; the gateway may refuse it.\n",
		time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC): "Warning: your certificate is not valid before 2025-01-01; the gateway may refuse it.\n",
		testTime: "",
	} {
		svc := newFakeService(playConnected)
		w := newWorld(t, svc)
		w.now = func() time.Time { return now }
		args := []string{"connect", "--json", "--gateway", "g", "--auth", "rsa", "--cert", "testdata/user.pem", "--key", "testdata/user.key"}
		if got := w.run(t, args...); got != 0 || w.err.String() != want || len(svc.requests) != 1 || !json.Valid(w.out.Bytes()) {
			t.Errorf("exit %d, stderr %q, want %q", got, &w.err, want)
		}
	}
}

// Private keys are no part of a command line or a profile, and are not repeated.
func TestKeyAsText(t *testing.T) {
	key := readTestFile(t, "testdata/user.key")
	cert := readTestFile(t, "testdata/user.pem")
	for _, args := range [][]string{
		{"--cert", "testdata/user.pem", "--key", key},
		{"--cert", "testdata/user.pem", "--set", "key=" + key},
		{"--cert", cert + key},
		{"--set", "certificate=" + key},
	} {
		svc := newFakeService(playConnected)
		w := newWorld(t, svc)
		got := w.run(t, append([]string{"connect", "--gateway", "g", "--auth", "rsa"}, args...)...)
		if got != 2 || len(svc.requests) > 0 || strings.Count(w.err.String(), "\n") != 1 {
			t.Errorf("exit %d, stderr %q", got, &w.err)
		}
		if strings.Contains(w.err.String(), strings.Split(key, "\n")[1]) || strings.Contains(w.err.String(), "BEGIN") {
			t.Errorf("the key is shown: %q", &w.err)
		}
	}
}

// A saved profile has the paths of certificate and key, and the secrets; the files
// are read anew each time, from wherever.
func TestSaveCredentials(t *testing.T) {
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	args := "connect --gateway g --login ada --auth xauth-rsa --cert testdata/user.pem --key testdata/user.key --save office --password-file " + secretPath(t, "hush")
	if got := w.run(t, strings.Fields(args)...); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	entry := load(t, "office")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if p := entry.Profile; p.Certificate != filepath.Join(here, "testdata", "user.pem") || p.Key != filepath.Join(here, "testdata", "user.key") {
		t.Errorf("saved %+v", p)
	}
	t.Chdir(t.TempDir())
	svc.requests = nil
	if got := w.run(t, "connect", "office"); got != 0 {
		t.Fatalf("again: exit %d, stderr %q", got, &w.err)
	}
	req := svc.request(t)
	checkUser(t, &req)

	svc.requests = nil
	if got := w.run(t, "connect", "--gateway", "g", "--auth", "psk", "--group-secret-file", secretPath(t, "of the group"), "--save", "plant"); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	if entry := load(t, "plant"); string(entry.GroupSecret) != "of the group" {
		t.Errorf("saved %+v", entry)
	}
	svc.requests = nil
	if got := w.run(t, "connect", "plant"); got != 0 {
		t.Fatalf("again: exit %d, stderr %q", got, &w.err)
	}
	if req := svc.request(t); string(req.GroupSecret) != "of the group" || req.Password != nil {
		t.Errorf("sent %+v", req)
	}
}

// What a gateway forbids to store is the user's password; the group's secret is the
// administrator's.
func TestForbiddenToSaveKeepsTheGroupSecret(t *testing.T) {
	svc := newFakeService(func(s *fakeService) {
		c := connected()
		c.Warnings = append(c.Warnings, app.Warning{Code: app.WarningNoSave, Severity: app.SeverityInfo, Text: "x"})
		s.set(c)
	})
	w := newWorld(t, svc)
	args := "connect --gateway g --login ada --auth xauth-psk --group-secret-file " + secretPath(t, "of the group") +
		" --password-file " + secretPath(t, "of the user")
	if got := w.run(t, append(strings.Fields(args), "--save", "office")...); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	if entry := load(t, "office"); entry.Password != nil || string(entry.GroupSecret) != "of the group" {
		t.Errorf("saved %q and %q", entry.Password, entry.GroupSecret)
	}
	value, err := keyring.Get("wayfarer", "profile office")
	if err != nil || strings.Contains(value, "password") {
		t.Errorf("%v, %s", err, value)
	}

	// A profile with a password from before loses it at the next connect.
	profiles, err := store.Open()
	if err != nil {
		t.Fatal(err)
	}
	entry := load(t, "office")
	entry.Password = []byte("of the user")
	if err := profiles.Save(entry); err != nil {
		t.Fatal(err)
	}
	if got := w.run(t, "connect", "office"); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	if entry := load(t, "office"); entry.Password != nil || string(entry.GroupSecret) != "of the group" {
		t.Errorf("updated to %q and %q", entry.Password, entry.GroupSecret)
	}
}
