package gui

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	known := redaction{logins: []string{"ada", "ada.lovelace"}, hosts: []string{"rhum", "Acme Office"}}
	for _, tt := range []struct{ in, want string }{
		// Secrets, in all the ways in which they are written.
		{`password=hunter2 next`, `password=[secret] next`},
		{`"Password": "hun \" ter2", "x": 1`, `"Password": [secret], "x": 1`},
		{`group_secret = 'abc'`, `group_secret = [secret]`},
		{`XAUTH_USER_PASSWORD: abc; XAUTH_NEXT_PIN=1234`, `XAUTH_USER_PASSWORD: [secret]; XAUTH_NEXT_PIN=[secret]`},
		{"a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb", "a\n[secret]\nb"},
		{"-----BEGIN PRIVATE KEY-----\nMII cut off", "[secret]"},
		{`XAUTH_USER_NAME [secret], XAUTH_USER_PASSWORD [secret]`, `XAUTH_USER_NAME [secret], XAUTH_USER_PASSWORD [secret]`},
		// Logins.
		{`signed in as ada, not Ada or adam; ada.lovelace`, `signed in as [login 1], not [login 1] or adam; [login 2]`},
		{`owner=grace said grace; "login": "hopper"`, `owner=[login 1] said [login 1]; "login": "[login 2]"`},
		{`from x.y+z@corp.example`, `from [login 1]`},
		// Names of hosts and companies, but not of files and units.
		{`vpn.example.com:500 and VPN.example.com, then a.b.corp`, `[host 1]:500 and [host 1], then [host 2]`},
		{`CN=rhum, O=Acme\, Inc.`, `CN=[host 1], O=[host 2]`},
		{`rhum answers, rhumba does not; acme office`, `[host 1] answers, rhumba does not; [host 2]`},
		{`/run/wayfarerd.sock /etc/resolv.conf wayfarerd.service`, `/run/wayfarerd.sock /etc/resolv.conf wayfarerd.service`},
		{`UNITY_BANNER "Welcome to \"Acme\"", XAUTH_MESSAGE "Acme"`, `UNITY_BANNER [text], XAUTH_MESSAGE [text]`},
		// Public addresses; those of private networks tell nothing.
		{`8.8.8.8:500 8.8.4.4/32 8.8.8.8 192.168.1.1 10.0.0.1 127.0.0.1 100.64.0.1`, `[address 1]:500 [address 2]/32 [address 1] 192.168.1.1 10.0.0.1 127.0.0.1 100.64.0.1`},
		{`[2a00::1]:4500 2A00::1 fe80::1 fd00::1 ::1 12:00:01 at 2026-01-02T12:00:01Z`, `[[address 1]]:4500 [address 1] fe80::1 fd00::1 ::1 12:00:01 at 2026-01-02T12:00:01Z`},
		{`999.1.1.1 1.2.3`, `999.1.1.1 1.2.3`},
		{``, ``},
	} {
		if got := known.apply(tt.in); got != tt.want {
			t.Errorf("%q:\ngot  %q\nwant %q", tt.in, got, tt.want)
		}
	}
}

// What the person ticks stays, and secrets go all the same.
func TestRedactShows(t *testing.T) {
	const text = `ada@corp.example vpn.example.com 8.8.8.8 CN=rhum owner=ada UNITY_BANNER "Hi" password=hunter2`
	for _, tt := range []struct {
		show redaction
		want string
	}{
		{redaction{showLogins: true, showHosts: true, showAddresses: true}, strings.Replace(text, "hunter2", blanked, 1)},
		{redaction{showHosts: true, showAddresses: true}, `[login 1] vpn.example.com 8.8.8.8 CN=rhum owner=[login 2] UNITY_BANNER "Hi" password=[secret]`},
		{redaction{showLogins: true, showAddresses: true}, `ada@[host 1] [host 2] 8.8.8.8 CN=[host 3] owner=ada UNITY_BANNER [text] password=[secret]`},
		{redaction{showLogins: true, showHosts: true}, `ada@corp.example vpn.example.com [address 1] CN=rhum owner=ada UNITY_BANNER "Hi" password=[secret]`},
	} {
		if got := tt.show.apply(text); got != tt.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", tt.show, got, tt.want)
		}
	}
}

// Whatever the text is, no known name stands in it afterwards by itself.
func FuzzRedact(f *testing.F) {
	f.Add("ada and a.example at 8.8.8.8 password=x")
	f.Add("[login 1] ada.ada_ada-ada")
	f.Fuzz(func(t *testing.T, text string) {
		r := redaction{logins: []string{"ada"}, hosts: []string{"rhum"}}
		got := r.apply(text)
		for word := range strings.FieldsSeq(got) {
			if strings.EqualFold(word, "ada") || strings.EqualFold(word, "rhum") || word == "8.8.8.8" {
				t.Errorf("%q became %q", text, got)
			}
		}
	})
}
