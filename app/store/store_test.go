package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
	"wayfarer/app/profiles"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	return &Store{dir: filepath.Join(t.TempDir(), "wayfarer"), ring: &fakeRing{entries: map[string]string{}}}
}

// fakeRing is a keyring in memory that can fail.
type fakeRing struct {
	mu      sync.Mutex
	entries map[string]string
	fails   error // what every call returns
	// left writes succeed, then all calls fail. The first of them has its effect all
	// the same if torn is set. 0: no end.
	left int
	torn bool
}

var errCrash = errors.New("crash")

func (r *fakeRing) Get(_, key string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails != nil {
		return "", r.fails
	}
	value, ok := r.entries[key]
	if !ok {
		return "", keyring.ErrNotFound
	}
	return value, nil
}

func (r *fakeRing) write(effect func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails != nil {
		return r.fails
	}
	if r.left--; r.left == 0 {
		if r.torn {
			effect()
		}
		r.fails = errCrash
		return r.fails
	}
	effect()
	return nil
}

func (r *fakeRing) Set(_, key, value string) error {
	return r.write(func() { r.entries[key] = value })
}

func (r *fakeRing) Delete(_, key string) error {
	if _, err := r.Get("", key); err != nil {
		return err
	}
	return r.write(func() { delete(r.entries, key) })
}

func (r *fakeRing) fail(err error) { r.fails = err }

func ringOf(s *Store) *fakeRing { return s.ring.(*fakeRing) }

// stands is what the keyring has of a profile.
func stands(t *testing.T, s *Store, name string) string {
	t.Helper()
	ix, err := s.readIndex()
	if err != nil || ix.find(name) < 0 {
		t.Fatalf("no profile %q: %v", name, err)
	}
	return ringOf(s).entries[keyOf+ix.Profiles[ix.find(name)].Key]
}

// files are the paths of all files, of whichever folder.
func files(s *Store) []string {
	list, _ := filepath.Glob(filepath.Join(s.files(), "*", "*"))
	return list
}

func save(t *testing.T, s *Store, profiles ...app.Profile) {
	t.Helper()
	for _, p := range profiles {
		if err := s.Save(&Entry{Profile: p}); err != nil {
			t.Fatal(err)
		}
	}
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

	value := stands(t, s, "office")
	if strings.Contains(value, "CERTIFICATE") || len(value) > maxEntry {
		t.Errorf("certificates are in the keyring:\n%s", value)
	}
	if n := len(files(s)); n != 2 { // two different texts, three places
		t.Errorf("%d files, want 2", n)
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
	if value := stands(t, s, "office"); strings.Contains(value, "secrets") {
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
	if n := len(files(s)); n != 0 {
		t.Errorf("%d files", n)
	}
}

func TestNames(t *testing.T) {
	s := newStore(t)
	if names, err := s.Names(); err != nil || len(names) != 0 {
		t.Errorf("empty keyring: got %v, %v", names, err)
	}
	save(t, s, app.Profile{Name: "office"}, app.Profile{Name: "lab"}, app.Profile{Name: "office"})
	names, err := s.Names()
	if err != nil || !reflect.DeepEqual(names, []string{"office", "lab"}) {
		t.Errorf("got %v, %v", names, err)
	}
}

func TestLoadErrors(t *testing.T) {
	s := newStore(t)
	if _, err := s.Load("absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: got %v", err)
	}

	damaged := map[string]string{
		"not toml":       "version = ",
		"newer":          "version = 7",
		"password":       "version = 1\n[secrets]\npassword = '%'",
		"group secret":   "version = 1\n[secrets]\npassword = 'aHVzaA=='\ngroup_secret = '%'",
		"no such file":   "version = 1\nca = ['sha256:" + strings.Repeat("0", 16) + "/" + strings.Repeat("0", 64) + "']",
		"no such rest":   "file = 'sha256:" + strings.Repeat("0", 16) + "/" + strings.Repeat("0", 64) + "'",
		"path traversal": "version = 1\nca = ['sha256:" + strings.Repeat("0", 16) + "/../../../etc/passwd']",
	}
	for name, value := range damaged {
		save(t, s, app.Profile{Name: name})
		ringOf(s).entries[keyOf+name] = value
		if _, err := s.Load(name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}

	if err := s.Save(&Entry{Profile: app.Profile{Name: "ca", CA: []string{testPEM}}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files(s)[0], []byte(testPEM+testPEM), 0o600); err != nil {
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
	big := &Entry{Profile: app.Profile{Name: "big"}, Password: make([]byte, 1000), GroupSecret: make([]byte, 1000)}
	if err := s.Save(big); !errors.Is(err, ErrTooBig) {
		t.Errorf("too big: got %v", err)
	}
	if len(ringOf(s).entries) != 1 || len(files(s)) != 0 { // the index
		t.Errorf("left behind: %v, %v", ringOf(s).entries, files(s))
	}
	if names, _ := s.Names(); len(names) != 0 {
		t.Errorf("a profile that was not stored is listed: %v", names)
	}

	ringOf(s).fail(errors.New("the bus has left"))
	if err := s.Save(&Entry{Profile: app.Profile{Name: "x"}}); !errors.Is(err, ErrNoKeyring) {
		t.Errorf("Save without a keyring: got %v", err)
	}
	if _, err := s.Load("x"); !errors.Is(err, ErrNoKeyring) {
		t.Errorf("Load without a keyring: got %v", err)
	}
	if _, err := s.Names(); !errors.Is(err, ErrNoKeyring) {
		t.Errorf("Names without a keyring: got %v", err)
	}
	for what, err := range map[string]error{"Remove": s.Remove("x"), "Rename": s.Rename("x", "y"), "Reorder": s.Reorder(nil)} {
		if !errors.Is(err, ErrNoKeyring) {
			t.Errorf("%s without a keyring: got %v", what, err)
		}
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
	entry.Profile.RoutesAdd = []string{strings.Repeat("x", maxEntry)}
	if err := s.Save(entry); err != nil {
		t.Fatal(err)
	}
	ringOf(s).fail(errors.New("the bus has left"))
	err := s.Save(entry)
	if err == nil || strings.Contains(err.Error(), password) || strings.Contains(err.Error(), group) {
		t.Errorf("got %v", err)
	}
	if len(files(s)) != 2 {
		t.Errorf("%d files", len(files(s)))
	}
	for _, file := range files(s) {
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

// TestClone: nothing that is done to a copy shows in the entry.
func TestClone(t *testing.T) {
	entry := &Entry{Profile: app.Profile{Name: "office", CA: []string{testPEM}}, Password: []byte("correct horse"), GroupSecret: []byte("battery")}
	clone := entry.Clone()
	if !reflect.DeepEqual(clone, entry) {
		t.Errorf("got %+v, want %+v", clone, entry)
	}
	clone.Profile.CA[0] = "changed"
	clone.Zero()
	if entry.Profile.CA[0] != testPEM || string(entry.Password) != "correct horse" || string(entry.GroupSecret) != "battery" {
		t.Errorf("left %+v", entry)
	}
}
