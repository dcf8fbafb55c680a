package app

import (
	"encoding/json"
	"runtime/debug"
	"slices"
	"testing"
)

func TestVersionOf(t *testing.T) {
	build := func(v string) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: v}}
	}
	for _, tt := range []struct {
		release string
		info    *debug.BuildInfo
		want    string
	}{
		{"1.2.3", build("v9.9.9"), "1.2.3"},
		{"", nil, "devel"},
		{"", build(""), "devel"},
		{"", build("(devel)"), "devel"},
		{"", build("v0.0.0-20260102030405-0123456789ab+dirty"), "0.0.0-20260102030405-0123456789ab+dirty"},
	} {
		if got := versionOf(tt.release, tt.info); got != tt.want {
			t.Errorf("versionOf(%q, %v) = %q, want %q", tt.release, tt.info, got, tt.want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	want := map[Code]int{
		CodeInternal: 1, CodeUsage: 2, CodeNoAnswer: 3, CodeUntrusted: 4, CodeSignInRefused: 5, CodeNoProposal: 6,
		CodeNetworkConfig: 7, CodeNoService: 8, CodeCancelled: 9, CodeProtocol: 10, CodeSettingsRefused: 11, CodePolicy: 12,
		"from-the-future": 1,
	}
	for code, exit := range want {
		if got := code.Exit(); got != exit {
			t.Errorf("%s.Exit() = %d, want %d", code, got, exit)
		}
	}
}

// Absent values are omitted: all that is known of another user's connection is
// its state and owner.
func TestConnectionOmitsAbsentValues(t *testing.T) {
	got, err := json.Marshal(Connection{State: StateConnected, Owner: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"state":"connected","owner":"ada"}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAuthMethod(t *testing.T) {
	if names := AuthMethods(); !slices.Equal(names, []string{"hybrid", "xauth-psk", "xauth-rsa", "psk", "rsa"}) {
		t.Errorf("methods %v", names)
	}
	for _, name := range append(AuthMethods(), "") {
		m, ok := (&Profile{Auth: name}).AuthMethod()
		want := name
		if name == "" {
			want = "hybrid"
		}
		if !ok || m.Name != want || m.Login != (want != "psk" && want != "rsa") ||
			m.Certificate != (want == "rsa" || want == "xauth-rsa") || (m.GroupSecret == Required) != (want == "psk" || want == "xauth-psk") {
			t.Errorf("%q: %+v, %v", name, m, ok)
		}
	}
	if m, ok := (&Profile{Auth: "kerberos"}).AuthMethod(); ok {
		t.Errorf("kerberos: %+v", m)
	}
}

func TestHosts(t *testing.T) {
	for in, want := range map[string][]string{
		"":                          {""},
		"vpn.example.com":           {"vpn.example.com"},
		"vpn.example.com:4500":      {"vpn.example.com"},
		"a.example, b.example:4500": {"a.example", "b.example"},
		"[2001:db8::1]:500,[::1]":   {"2001:db8::1", "::1"},
		"2001:db8::1":               {"2001:db8::1"},
	} {
		if got := Hosts(in); !slices.Equal(got, want) {
			t.Errorf("Hosts(%q) = %q, want %q", in, got, want)
		}
	}
}
