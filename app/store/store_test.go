package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
)

// full is a profile in which every field differs from its default.
func full(t *testing.T) app.Profile {
	t.Helper()
	var p app.Profile
	v := reflect.ValueOf(&p).Elem()
	for i := range v.NumField() {
		switch field := v.Field(i); field.Kind() {
		case reflect.String:
			field.SetString("value of " + v.Type().Field(i).Name + " \"\\ \u00e4")
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int:
			field.SetInt(int64(1000 + i))
		case reflect.Slice:
			field.Set(reflect.ValueOf([]string{"one", "two\nlines"}))
		default:
			t.Fatalf("field %s: a %s is not expected", v.Type().Field(i).Name, field.Kind())
		}
	}
	p.Version, p.Name = profileVersion, "büro 1"
	return p
}

func TestProfileRoundTrip(t *testing.T) {
	want := full(t)
	data, err := Encode(&want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, data)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

// The form that the design shows, defaults and all.
const exported = `version = 1
name = "office"
gateway = "vpn.example.com"      # host, host:port, several separated by commas
login = "ada"
auth = "hybrid"
exchange = "auto"
remote_id = "dn:CN=rhum"
local_id = ""
group_id = ""
ca = []
pin = ""
system_roots = false
certificate = ""
key = ""
ike = ["aes256-sha256-modp2048"]
esp = []
allow_weak = []
pfs = "auto"
mode_config = "auto"
selectors = "auto"
local_networks = []
remote_networks = []
nat_t = "auto"
local_port = 0
ipcomp = false
local_network = false
block_outside = false
always_on = false
secret_file = ""
routes_add = []
routes_skip = []
mtu = 0
quirks = []
`

func TestDecode(t *testing.T) {
	p, err := Decode([]byte(exported))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "office" || p.RemoteID != "dn:CN=rhum" || len(p.IKE) != 1 {
		t.Errorf("got %+v", p)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"unknown key", "version = 1\nname = 'x'\ngatway = 'y'\n", `line 3, column 1: unknown key "gatway"`},
		{"unknown table", "version = 1\n[secrets]\npassword = 'x'\n", `line 2, column 2: unknown key "secrets"`},
		{"wrong type", "version = 1\nmtu = 'big'\n", "line 2, column 7: "},
		{"no TOML", "version = 1\nname = \n", "line 2, column 8: "},
		{"newer", "version = 2\n", "version 2 of a profile is not known"},
		{"negative", "version = -1\n", "version -1 of a profile is not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(tt.in))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got error %v, want %s…", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func newStore(t *testing.T) *Store {
	t.Helper()
	keyring.MockInit()
	return &Store{dir: filepath.Join(t.TempDir(), "certificates")}
}

const testPEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

func TestSaveAndLoad(t *testing.T) {
	s := newStore(t)
	profile := app.Profile{
		Version: profileVersion, Name: "office", Gateway: "vpn.example.com", Login: "ada",
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
	profile := app.Profile{Version: profileVersion, Name: "office", Certificate: "/home/ada/ada.p12", Key: "/home/ada/ada.key"}
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

func FuzzDecode(f *testing.F) {
	f.Add([]byte(exported))
	f.Add([]byte("version = 1\n[secrets]\npassword = 'x'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := Decode(again)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, again)
		}
		a, _ := json.Marshal(p)
		b, _ := json.Marshal(q)
		if emptied(string(a)) != emptied(string(b)) {
			t.Errorf("%s\nbecame\n%s", a, b)
		}
	})
}

// emptied drops what is an empty list in one and absent in the other.
func emptied(s string) string {
	var fields map[string]any
	_ = json.Unmarshal([]byte(s), &fields)
	for k, v := range fields {
		if list, ok := v.([]any); ok && len(list) == 0 {
			delete(fields, k)
		}
	}
	out, _ := json.Marshal(fields)
	return string(out)
}
