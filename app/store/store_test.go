package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
	"wayfarer/app/profiles"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	keyring.MockInit()
	return &Store{dir: filepath.Join(t.TempDir(), "certificates")}
}

const testPEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

func TestSaveAndLoad(t *testing.T) {
	s := newStore(t)
	profile := app.Profile{
		Version: profiles.Version, Name: "office", Gateway: "vpn.example.com", Login: "ada",
		CA: []string{strings.Repeat(testPEM, 100), testPEM}, Certificate: testPEM, AllowWeak: []string{"3des"},
	}
	// Any bytes are a password or a group's secret.
	entry := &Entry{Profile: profile, Password: []byte(" \"p\x00\xffß' \n"), GroupSecret: []byte("\x00\xfe\n")}
	if err := s.Save(entry); err != nil {
		t.Fatal(err)
	}
	if entry.Profile.CA[1] != testPEM {
		t.Error("Save changed the caller's profile")
	}
	got, err := s.Load("office")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, entry) {
		t.Errorf("got  %+v\nwant %+v", got, entry)
	}

	value, err := keyring.Get(service, keyOf+"office")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(value, "CERTIFICATE") || len(value) > maxEntry {
		t.Errorf("certificates are in the keyring:\n%s", value)
	}
	files, _ := os.ReadDir(s.dir)
	if len(files) != 2 { // two different texts, three places
		t.Errorf("%d files, want 2", len(files))
	}
}

func TestSaveWithoutPassword(t *testing.T) {
	s := newStore(t)
	if err := s.Save(&Entry{Profile: app.Profile{Name: "office"}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load("office")
	if err != nil || got.Password != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if value, _ := keyring.Get(service, keyOf+"office"); strings.Contains(value, "secrets") {
		t.Errorf("secrets in %s", value)
	}
}

// The user's own certificate and key stay in their files: the profile has the paths.
func TestPathsAreKept(t *testing.T) {
	s := newStore(t)
	profile := app.Profile{Version: profiles.Version, Name: "office", Certificate: "/home/ada/ada.p12", Key: "/home/ada/ada.key"}
	if err := s.Save(&Entry{Profile: profile}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load("office")
	if err != nil || !reflect.DeepEqual(got.Profile, profile) {
		t.Errorf("got %+v, %v", got, err)
	}
	if files, _ := os.ReadDir(s.dir); len(files) != 0 {
		t.Errorf("%d files", len(files))
	}
}

func TestNames(t *testing.T) {
	s := newStore(t)
	if names, err := s.Names(); err != nil || len(names) != 0 {
		t.Errorf("empty keyring: got %v, %v", names, err)
	}
	for _, name := range []string{"office", "lab", "office"} {
		if err := s.Save(&Entry{Profile: app.Profile{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	names, err := s.Names()
	if err != nil || !reflect.DeepEqual(names, []string{"lab", "office"}) {
		t.Errorf("got %v, %v", names, err)
	}
}

func TestLoadErrors(t *testing.T) {
	s := newStore(t)
	if _, err := s.Load("absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: got %v", err)
	}

	damaged := map[string]string{
		"no TOML":        "version = ",
		"newer":          "version = 7",
		"password":       "version = 1\n[secrets]\npassword = '%'",
		"group secret":   "version = 1\n[secrets]\npassword = 'aHVzaA=='\ngroup_secret = '%'",
		"no such file":   "version = 1\nca = ['sha256:" + strings.Repeat("0", 64) + "']",
		"path traversal": "version = 1\nca = ['sha256:../../etc/passwd']",
	}
	for name, value := range damaged {
		if err := keyring.Set(service, keyOf+name, value); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}

	if err := s.Save(&Entry{Profile: app.Profile{Name: "ca", CA: []string{testPEM}}}); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.pem"))
	if err := os.WriteFile(files[0], []byte(testPEM+testPEM), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("ca"); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("exchanged certificate: got %v", err)
	}
	// Saving again repairs the file.
	if err := s.Save(&Entry{Profile: app.Profile{Name: "ca", CA: []string{testPEM}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("ca"); err != nil {
		t.Error(err)
	}
}

func TestSaveErrors(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"", " x", "x ", "-x", "a\nb", "a\x1bb", "\xff", strings.Repeat("x", 65)} {
		if err := s.Save(&Entry{Profile: app.Profile{Name: name}}); err == nil {
			t.Errorf("name %q: no error", name)
		}
	}
	big := app.Profile{Name: "big", Key: strings.Repeat("x", maxEntry)}
	if err := s.Save(&Entry{Profile: big}); !errors.Is(err, ErrTooBig) {
		t.Errorf("too big: got %v", err)
	}
	if names, _ := s.Names(); len(names) != 0 {
		t.Errorf("a profile that was not stored is listed: %v", names)
	}

	keyring.MockInitWithError(errors.New("the bus has left"))
	if err := s.Save(&Entry{Profile: app.Profile{Name: "x"}}); !errors.Is(err, ErrNoKeyring) {
		t.Errorf("Save without a keyring: got %v", err)
	}
	if _, err := s.Load("x"); !errors.Is(err, ErrNoKeyring) {
		t.Errorf("Load without a keyring: got %v", err)
	}
	if _, err := s.Names(); !errors.Is(err, ErrNoKeyring) {
		t.Errorf("Names without a keyring: got %v", err)
	}
}

// Neither errors nor files hold the password.
func TestPasswordStaysInTheKeyring(t *testing.T) {
	s := newStore(t)
	const password, group = "correct horse", "battery staple"
	entry := &Entry{Profile: app.Profile{Name: "office", CA: []string{testPEM}}, Password: []byte(password), GroupSecret: []byte(group)}
	if err := s.Save(entry); err != nil {
		t.Fatal(err)
	}
	entry.Profile.Key = strings.Repeat("x", maxEntry)
	err := s.Save(entry)
	if err == nil || strings.Contains(err.Error(), password) || strings.Contains(err.Error(), group) {
		t.Errorf("got %v", err)
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "*"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || bytes.Contains(data, []byte(password)) || bytes.Contains(data, []byte(group)) {
			t.Errorf("%s: %v", file, err)
		}
	}
	entry.Zero()
	if !bytes.Equal(entry.Password, make([]byte, len(password))) || !bytes.Equal(entry.GroupSecret, make([]byte, len(group))) {
		t.Error("Zero left a secret")
	}
}
