package daemon

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wayfarer/app"
)

// place writes files as the administrator would: 0600 unless the name ends in "!", which
// it loses; with "!!" the file is somebody else's.
func place(t *testing.T, files map[string]string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose files managed profiles are")
	}
	dir := t.TempDir()
	for name, text := range files {
		mode, owner := os.FileMode(0o600), 0
		if theirs, ok := strings.CutSuffix(name, "!!"); ok {
			name, mode, owner = theirs, 0o644, 12345
		} else if public, ok := strings.CutSuffix(name, "!"); ok {
			name, mode = public, 0o644
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chown(path, owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	hybridProfile = "version = 1\ngateway = 'vpn.example.com'\nlogin = 'ada'\nalways_on = true\nsecret_file = 'secret'\n"
	pskProfile    = "gateway = 'vpn.example.com'\nauth = 'psk'\nlocal_networks = ['10.7.0.0/24']\nsecret_file = 'secret'\n"
	bothProfile   = "gateway = 'vpn.example.com'\nauth = 'xauth-psk'\nlogin = 'ada'\nsecret_file = 'secret'\n"
)

func TestReadManaged(t *testing.T) {
	for _, tt := range []struct {
		name            string
		profile         string
		secret          string
		password, group string
		says            string // the error; empty: it is read
	}{
		{name: "plain", profile: hybridProfile, secret: "hush\n", password: "hush"},
		{name: "plain, no newline", profile: hybridProfile, secret: "hush", password: "hush"},
		{name: "plain, DOS", profile: hybridProfile, secret: "hush\r\n", password: "hush"},
		{name: "plain, like a comment", profile: hybridProfile, secret: "#hush\n", password: "#hush"},
		{name: "plain, spaces", profile: hybridProfile, secret: " a b \n", password: " a b "},
		{name: "plain, for the group", profile: pskProfile, secret: "key\n", group: "key"},
		{name: "TOML", profile: hybridProfile, secret: "password = 'hush'\n", password: "hush"},
		{name: "TOML with escapes", profile: hybridProfile, secret: `password = "h\"u\u00e4"` + "\n", password: "h\"uä"},
		{name: "TOML for both", profile: bothProfile, secret: "password = 'hush'\ngroup_secret = 'key'\n", password: "hush", group: "key"},
		{name: "TOML unquoted", profile: hybridProfile, secret: "password = hush\n", says: "no TOML with the keys"},
		{name: "TOML misspelt", profile: hybridProfile, secret: "password = 'hush'\npasword = 'hush'\n", says: "no TOML with the keys"},
		{name: "two lines", profile: hybridProfile, secret: "hush\nhush\n", says: "more than one line"},
		{name: "empty", profile: hybridProfile, secret: "\n", says: "is empty"},
		{name: "one of two", profile: bothProfile, secret: "hush\n", says: "needs two secrets"},
		{name: "the group's is missing", profile: bothProfile + "always_on = true\n", secret: "password = 'hush'\n", says: "group_secret"},
		{name: "too long", profile: hybridProfile, secret: strings.Repeat("x", maxSecret+1), says: "larger than"},
		{name: "no secret file", profile: "gateway = 'vpn.example.com'\nlogin = 'ada'\nalways_on = true\n", secret: "x", says: "nobody is there to ask"},
		{name: "asked for all", profile: "gateway = 'vpn.example.com'\nauth = 'xauth-psk'\n", secret: "x"},
		{name: "asked for the password", profile: bothProfile, secret: "group_secret = 'key'\n", group: "key"},
		{name: "unknown key", profile: "gatway = 'x'\n", secret: "x", says: `unknown key "gatway"`},
		{name: "no gateway", profile: "login = 'ada'\nsecret_file = 'secret'\n", secret: "x", says: "gateway"},
		{name: "not usable", profile: hybridProfile + "mtu = 5\n", secret: "x", says: "mtu"},
		{name: "no CA", profile: hybridProfile + "ca = ['ca.pem']\n", secret: "x", says: "ca: open"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := place(t, map[string]string{"site.toml!": tt.profile, "secret": tt.secret})
			list, errs := ReadManaged(dir)
			if tt.says != "" {
				if len(list) != 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.says) || !strings.Contains(errs[0].Error(), filepath.Join(dir, "site.toml")) {
					t.Errorf("%d profiles, %v", len(list), errs)
				}
				for _, err := range errs {
					if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "\n") {
						t.Errorf("error %q", err)
					}
				}
				return
			}
			if len(errs) != 0 || len(list) != 1 {
				t.Fatalf("%d profiles, %v", len(list), errs)
			}
			m := list[0]
			if m.Profile.Name != "site" || string(m.Password) != tt.password || string(m.GroupSecret) != tt.group || m.Profile.SecretFile != "" {
				t.Errorf("password %q, group %q, %+v", m.Password, m.GroupSecret, m.Profile)
			}
		})
	}
}

// What others could read or change is refused, and the rest is read.
func TestReadManagedRights(t *testing.T) {
	dir := place(t, map[string]string{
		"a.toml": strings.Replace(hybridProfile, "'secret'", "'open'", 1), "open!": "hush",
		"b.toml": hybridProfile, "secret": "hush",
		"c.toml": hybridProfile, "d.toml": hybridProfile + "name = 'b'\n",
		"e.toml": "this is no TOML", "f.txt": "nor a profile", "g.toml/x": "a folder",
	})
	if err := os.Chown(filepath.Join(dir, "c.toml"), 12345, 0); err != nil {
		t.Fatal(err)
	}
	list, errs := ReadManaged(dir)
	if len(list) != 1 || list[0].Profile.Name != "b" {
		t.Errorf("%+v", list)
	}
	wants := []string{"others may read it", "belongs to uid 12345", "b.toml has the name", "line 1", "no regular file"}
	if len(errs) != len(wants) {
		t.Fatalf("%v", errs)
	}
	for i, want := range wants {
		if !strings.Contains(errs[i].Error(), want) {
			t.Errorf("error %d is %v, want %s", i, errs[i], want)
		}
	}
	if list, errs := ReadManaged(filepath.Join(dir, "missing")); list != nil || errs != nil {
		t.Errorf("no folder: %v, %v", list, errs)
	}
	if list, errs := ReadManaged(filepath.Join(dir, "b.toml")); list != nil || len(errs) != 1 {
		t.Errorf("no folder but a file: %v, %v", list, errs)
	}
}

// Certificates and keys come from files beside the profile.
func TestReadManagedCertificates(t *testing.T) {
	testFile := func(name string) string {
		data, err := os.ReadFile("../profiles/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	const rsaProfile = "gateway = 'vpn.example.com'\nauth = 'rsa'\nlocal_networks = ['10.7.0.0/24']\nca = ['cas.pem']\n"
	pem := map[string]string{"cas.pem!": testFile("cas.pem"), "ada.pem!": testFile("ada.pem"), "ada.key": testFile("ada.key")}
	for _, tt := range []struct {
		name, profile string
		files         map[string]string
		says          string
	}{
		{"PEM", "certificate = 'ada.pem'\nkey = 'ada.key'\n", nil, ""},
		{"PKCS #12", "certificate = 'ada.p12'\nsecret_file = 'secret'\n", map[string]string{"ada.p12": testFile("modern.p12"), "secret": "päss\n"}, ""},
		{"PKCS #12, TOML", "certificate = 'ada.p12'\nsecret_file = 'secret'\n", map[string]string{"ada.p12": testFile("modern.p12"), "secret": "passphrase = 'päss'\n"}, ""},
		{"no passphrase", "certificate = 'ada.p12'\n", map[string]string{"ada.p12": testFile("modern.p12")}, "it needs a passphrase"},
		{"wrong passphrase", "certificate = 'ada.p12'\nsecret_file = 'secret'\n", map[string]string{"ada.p12": testFile("modern.p12"), "secret": "x"}, "wrong passphrase"},
		{"open key", "certificate = 'ada.pem'\nkey = 'open.key'\n", map[string]string{"open.key!": testFile("ada.key")}, "open.key: others may read it"},
		{"open PKCS #12", "certificate = 'open.p12'\n", map[string]string{"open.p12!": testFile("empty.p12")}, "open.p12: others may read it"},
		{"another's key", "certificate = 'ada.pem'\nkey = 'other.key'\n", map[string]string{"other.key": testFile("other.key")}, "does not belong to the certificate"},
		{"somebody's CA", "certificate = 'ada.pem'\nkey = 'ada.key'\n", map[string]string{"cas.pem!!": testFile("cas.pem")}, "cas.pem: it belongs to uid 12345"},
		{"somebody's certificate", "certificate = 'his.pem'\nkey = 'ada.key'\n", map[string]string{"his.pem!!": testFile("ada.pem")}, "his.pem: it belongs to uid 12345"},
		{"the key itself", "certificate = 'ada.pem'\nkey = '''" + testFile("ada.key") + "'''\n", nil, "not the key itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"site.toml!": rsaProfile + tt.profile}
			maps.Copy(files, pem)
			maps.Copy(files, tt.files)
			if _, foreign := tt.files["cas.pem!!"]; foreign {
				delete(files, "cas.pem!")
			}
			list, errs := ReadManaged(place(t, files))
			if tt.says != "" {
				if len(list) != 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.says) {
					t.Errorf("%d profiles, %v", len(list), errs)
				}
				return
			}
			if len(errs) != 0 || len(list) != 1 {
				t.Fatalf("%d profiles, %v", len(list), errs)
			}
			m := list[0]
			if !app.IsPEM([]byte(m.Profile.Certificate)) || m.Profile.Key != "" || !strings.Contains(string(m.Key), "PRIVATE KEY") || !app.IsPEM([]byte(m.Profile.CA[0])) {
				t.Errorf("%+v", m.Profile)
			}
		})
	}
}
