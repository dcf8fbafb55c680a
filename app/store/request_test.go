package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/profiles"
)

// fakeAsker answers what it has and remembers what it was asked.
type fakeAsker struct {
	passphrase, secret, password string
	err                          error
	asked                        []string
}

func (a *fakeAsker) answer(question, text string) ([]byte, error) {
	a.asked = append(a.asked, question)
	return []byte(text), a.err
}

func (a *fakeAsker) Passphrase(_ context.Context, file string) ([]byte, error) {
	return a.answer("passphrase of "+file, a.passphrase)
}

func (a *fakeAsker) GroupSecret(_ context.Context, p *app.Profile) ([]byte, error) {
	return a.answer("secret of "+p.GroupID, a.secret)
}

func (a *fakeAsker) Password(_ context.Context, p *app.Profile) ([]byte, error) {
	return a.answer("password of "+p.Login, a.password)
}

const testdata = "../profiles/testdata/"

// Each method gets what it needs, what is missing is asked for, and what it has no use
// for stays here.
func TestRequest(t *testing.T) {
	all := Entry{Password: []byte("stored"), GroupSecret: []byte("group")}
	for _, tt := range []struct {
		name  string
		entry Entry
		want  control.ConnectRequest
		asked []string
	}{
		{
			"hybrid",
			Entry{Profile: app.Profile{Login: "ada"}},
			control.ConnectRequest{Profile: app.Profile{Login: "ada"}, Password: []byte("typed")},
			[]string{"password of ada"},
		},
		{
			"hybrid, all stored",
			Entry{Password: all.Password, GroupSecret: all.GroupSecret},
			control.ConnectRequest{Password: all.Password, GroupSecret: all.GroupSecret},
			nil,
		},
		{
			"xauth-psk",
			Entry{Profile: app.Profile{Auth: "xauth-psk", Login: "ada", GroupID: "staff"}},
			control.ConnectRequest{
				Profile:  app.Profile{Auth: "xauth-psk", Login: "ada", GroupID: "staff"},
				Password: []byte("typed"), GroupSecret: []byte("told"),
			},
			[]string{"secret of staff", "password of ada"},
		},
		{
			"psk",
			Entry{Profile: app.Profile{Auth: "psk"}, Password: all.Password, GroupSecret: all.GroupSecret},
			control.ConnectRequest{Profile: app.Profile{Auth: "psk"}, GroupSecret: all.GroupSecret},
			nil,
		},
		{
			"CA from a file",
			Entry{Profile: app.Profile{Auth: "psk", CA: []string{testdata + "cas.pem", testPEM}}, GroupSecret: all.GroupSecret},
			control.ConnectRequest{Profile: app.Profile{Auth: "psk", CA: []string{read(t, "cas.pem"), testPEM}}, GroupSecret: all.GroupSecret},
			nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask := &fakeAsker{secret: "told", password: "typed"}
			before := tt.entry.Profile
			req, err := tt.entry.Request(t.Context(), ask)
			if err != nil || !reflect.DeepEqual(*req, tt.want) || !reflect.DeepEqual(ask.asked, tt.asked) {
				t.Fatalf("got %+v, %v\nwant %+v\nasked %q", req, err, tt.want, ask.asked)
			}
			if !reflect.DeepEqual(tt.entry.Profile, before) {
				t.Errorf("the profile became %+v", tt.entry.Profile)
			}
			// Zeroised, the request leaves the entry as it is to be saved.
			if req.Zero(); len(req.Password) > 0 && (tt.entry.Password[0] == 0 || req.Password[0] != 0) {
				t.Errorf("the entry has %q, the request %q", tt.entry.Password, req.Password)
			}
		})
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(testdata + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRequestWithCertificate(t *testing.T) {
	entry := &Entry{Profile: app.Profile{Auth: "rsa", Certificate: testdata + "ada.pem", Key: testdata + "ada.key"}}
	req, err := entry.Request(t.Context(), &fakeAsker{})
	if err != nil {
		t.Fatal(err)
	}
	certs, err := app.ParseCertificates([]byte(req.Profile.Certificate))
	if err != nil || req.Profile.Key != "" {
		t.Fatalf("%v in %+v", err, req.Profile)
	}
	if key, err := app.ParseKey(req.Key); err != nil || !app.BelongsTo(key, certs[0]) {
		t.Errorf("key: %v", err)
	}
	if entry.Profile.Key == "" {
		t.Error("the entry has lost the path of its key")
	}
}

func TestRequestErrors(t *testing.T) {
	gone := errors.New("gone for lunch")
	for _, tt := range []struct {
		name  string
		p     app.Profile
		ask   fakeAsker
		want  error
		asked int
	}{
		{"no CA file", app.Profile{CA: []string{"missing"}}, fakeAsker{}, fs.ErrNotExist, 0},
		{"no certificate file", app.Profile{Auth: "xauth-rsa", Certificate: "missing"}, fakeAsker{}, fs.ErrNotExist, 0},
		{"wrong passphrase", app.Profile{Auth: "rsa", Certificate: testdata + "modern.p12"}, fakeAsker{passphrase: "simsalabim"}, profiles.ErrPassphrase, 1},
		{"nobody there", app.Profile{Auth: "xauth-psk"}, fakeAsker{err: gone}, gone, 1},
		{"nobody there", app.Profile{}, fakeAsker{err: gone}, gone, 1},
	} {
		entry := &Entry{Profile: tt.p}
		if _, err := entry.Request(t.Context(), &tt.ask); !errors.Is(err, tt.want) || len(tt.ask.asked) != tt.asked {
			t.Errorf("%s: got %v, asked %q", tt.name, err, tt.ask.asked)
		}
	}
}

func TestLearn(t *testing.T) {
	pin := strings.Repeat("ab", 32)
	gateway := &app.Gateway{CertificateSHA256: pin}
	forbids := []app.Warning{{Code: app.WarningNoSave}}
	for _, tt := range []struct {
		name      string
		conn      app.Connection
		trusted   bool
		pinBefore string
		changed   bool
		pin       string
		password  string
	}{
		{"nothing new", app.Connection{Gateway: gateway}, false, "", false, "", "hush"},
		{"trusted", app.Connection{Gateway: gateway}, true, "", true, pin, "hush"},
		{"trusted before", app.Connection{Gateway: gateway}, true, pin, false, pin, "hush"},
		{"no certificate", app.Connection{Gateway: &app.Gateway{}}, true, "", false, "", "hush"},
		{"no gateway", app.Connection{}, true, "", false, "", "hush"},
		{"forbidden", app.Connection{Warnings: forbids}, false, "", true, "", ""},
		{"both", app.Connection{Gateway: gateway, Warnings: forbids}, true, "", true, pin, ""},
	} {
		password := []byte("hush")
		entry := &Entry{Profile: app.Profile{Pin: tt.pinBefore}, Password: password}
		if got := entry.Learn(&tt.conn, tt.trusted); got != tt.changed || entry.Profile.Pin != tt.pin || string(entry.Password) != tt.password {
			t.Errorf("%s: %v, left %+v", tt.name, got, entry)
		}
		if tt.password == "" && password[0] != 0 {
			t.Errorf("%s: the password was dropped, not overwritten", tt.name)
		}
		if entry.Learn(&tt.conn, tt.trusted) {
			t.Errorf("%s: something new a second time", tt.name)
		}
	}
}
