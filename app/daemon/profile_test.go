package daemon

import (
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
)

func testCA(t *testing.T) string {
	cert, err := testCertificate()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func TestConfigOfAProfile(t *testing.T) {
	cfg, failure := newConfig(&control.ConnectRequest{Profile: app.Profile{
		Version: 1, Name: "office", Gateway: "vpn.example.com, 192.0.2.1:4500", Login: "ada", Auth: "hybrid",
		Exchange: "main", CA: []string{testCA(t) + testCA(t)}, Pin: strings.Repeat("Ab:", 31) + "ab", SystemRoots: true,
		IKE: []string{"aes256-sha256-modp2048", "3des-sha1-modp1024"}, ESP: []string{"aes128gcm16"},
		AllowWeak: []string{"3des", "modp1024"}, PFS: "modp2048", ModeConfig: "push", RemoteID: "fqdn:vpn.example.com",
		Selectors: "per-network", NATT: "draft-02", LocalPort: 500, RoutesAdd: []string{"172.16.0.0/12", "10.1.1.1"}, Quirks: []string{"latin1"},
		IPComp: true,
	}})
	if failure != nil {
		t.Fatal(failure)
	}
	if cfg.Gateway != "vpn.example.com, 192.0.2.1:4500" || cfg.Login != "ada" || cfg.Auth != ike.AuthHybrid ||
		cfg.Exchange != ike.ExchangeMain || cfg.PFS != "modp2048" || cfg.ModeConfig != ike.ModeConfigPush ||
		cfg.AllowWeak != ike.Weak3DES|ike.WeakMODP1024 || len(cfg.Trust.CAs) != 2 || !cfg.Trust.SystemRoots ||
		cfg.Trust.Pin != [32]byte([]byte(strings.Repeat("\xab", 32))) ||
		cfg.Selectors != ike.SelectorsPerNetwork || cfg.NATT != ike.NATTDraft02 || !slices.Equal(cfg.Networks, nets("172.16.0.0/12 10.1.1.1/32")) ||
		cfg.Quirks == (ike.Quirks{}) || cfg.LocalPort != 500 || !cfg.IPComp || cfg.Application != "Wayfarer "+app.Version() ||
		len(cfg.IKE) != 2 || len(cfg.ESP) != 1 || cfg.RemoteID == nil || cfg.LocalID != nil {
		t.Errorf("config %+v", cfg)
	}

	cfg, failure = newConfig(&control.ConnectRequest{Profile: app.Profile{Gateway: "vpn.example.com", Login: "ada"}})
	if failure != nil {
		t.Fatal(failure)
	}
	if cfg.Exchange != ike.ExchangeAuto || cfg.PFS != ike.PFSAuto || cfg.ModeConfig != ike.ModeConfigAuto || cfg.Auth != ike.AuthHybrid ||
		cfg.Selectors != ike.SelectorsAuto || cfg.NATT != ike.NATTAuto || cfg.LocalPort != 0 || cfg.Certificates != nil || cfg.Key != nil || cfg.LocalNetworks != nil || cfg.IPComp {
		t.Errorf("defaults %+v", cfg)
	}
}

// secretFor is what a method that needs a group's secret gets.
func secretFor(p *app.Profile) []byte {
	if m, _ := p.AuthMethod(); m.GroupSecret == app.Required {
		return []byte("hush")
	}
	return nil
}

func TestIdentityOfAProfile(t *testing.T) {
	for _, tt := range []struct{ local, group, want string }{
		{"", "", ""},
		{"", "staff", "keyid:staff"},
		{"", "keyid:staff", "keyid:staff"},
		{"", "10.0.0.1", "keyid:10.0.0.1"},
		{"", "ada@example.com", "keyid:ada@example.com"},
		{"ada@example.com", "staff", "ada@example.com"},
	} {
		cfg, failure := newConfig(&control.ConnectRequest{Profile: app.Profile{Gateway: "g", Login: "ada", LocalID: tt.local, GroupID: tt.group}})
		if failure != nil {
			t.Fatal(failure)
		}
		got := ""
		if cfg.LocalID != nil {
			got = cfg.LocalID.String()
		}
		if got != tt.want {
			t.Errorf("local_id %q, group_id %q: %q, want %q", tt.local, tt.group, got, tt.want)
		}
	}
}

func TestRefusedProfiles(t *testing.T) {
	cases := []struct {
		key    string // that the message names
		says   string
		change func(*app.Profile)
	}{
		{"gateway", "missing", func(p *app.Profile) { p.Gateway = " , " }},
		{"login", "missing", func(p *app.Profile) { p.Login = "" }},
		{"login", "control characters", func(p *app.Profile) { p.Login = "ada\n" }},
		{"name", "too long", func(p *app.Profile) { p.Name = strings.Repeat("x", 2000) }},
		{"version", "2", func(p *app.Profile) { p.Version = 2 }},
		{"auth", "none of hybrid", func(p *app.Profile) { p.Auth = "kerberos" }},
		{"exchange", "none of auto, main", func(p *app.Profile) { p.Exchange = "base" }},
		{"mode_config", "none of", func(p *app.Profile) { p.ModeConfig = "x" }},
		{"selectors", "none of", func(p *app.Profile) { p.Selectors = "x" }},
		{"nat_t", "none of", func(p *app.Profile) { p.NATT = "draft-09" }},
		{"mtu", "575", func(p *app.Profile) { p.MTU = 575 }},
		{"mtu", "1501", func(p *app.Profile) { p.MTU = 1501 }},
		{"mtu", "-1", func(p *app.Profile) { p.MTU = -1 }},
		{"local_port", "no UDP port", func(p *app.Profile) { p.LocalPort = -1 }},
		{"local_port", "no UDP port", func(p *app.Profile) { p.LocalPort = 65536 }},
		{"routes_add", "not a network", func(p *app.Profile) { p.RoutesAdd = []string{"ten.0.0.0/8"} }},
		{"routes_add", "cannot be behind", func(p *app.Profile) { p.RoutesAdd = []string{"127.0.0.0/8"} }},
		{"routes_skip", "not a network", func(p *app.Profile) { p.RoutesSkip = []string{"10.0.0.0/8", "10.0.0.0/33"} }},
		{"routes_skip", "more than", func(p *app.Profile) { p.RoutesSkip = make([]string, 257) }},
		{"local_networks", "not a network", func(p *app.Profile) { p.LocalNetworks = []string{"office"} }},
		{"local_networks", "cannot be behind", func(p *app.Profile) { p.LocalNetworks = []string{"169.254.0.0/16"} }},
		{"remote_networks", "not a network", func(p *app.Profile) { p.RemoteNetworks = []string{"10.0.0.0/8 "} }},
		{"mode_config", "local_networks", func(p *app.Profile) { p.ModeConfig = "off" }},
		{"group_id", "control characters", func(p *app.Profile) { p.GroupID = "staff\x1b" }},
		{"group_id", "not the name", func(p *app.Profile) { p.GroupID = "keyid:" }},
		{"quirks", "unknown quirk", func(p *app.Profile) { p.Quirks = []string{"racoon"} }},
		{"key", "not the profile", func(p *app.Profile) { p.Key = "/home/ada/key.pem" }},
		{"exchange", "--allow-weak psk-aggressive", func(p *app.Profile) { p.Auth, p.Exchange = "xauth-psk", "aggressive" }},
		{"exchange", "--allow-weak psk-aggressive", func(p *app.Profile) { p.Auth, p.Exchange = "psk", "aggressive" }},
		{"ca", "no PEM certificate", func(p *app.Profile) { p.CA = []string{"/etc/ssl/ca.pem"} }},
		{"ca", "unreadable", func(p *app.Profile) {
			p.CA = []string{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}
		}},
		{"ca", "more than 64", func(p *app.Profile) { p.CA = []string{strings.Repeat(testCA(t), 65)} }},
		{"pin", "fingerprint", func(p *app.Profile) { p.Pin = "ab" }},
		{"pin", "fingerprint", func(p *app.Profile) { p.Pin = strings.Repeat("x", 64) }},
		{"pin", "fingerprint of anything", func(p *app.Profile) { p.Pin = strings.Repeat("0", 64) }},
		{"ike", "unknown cipher", func(p *app.Profile) { p.IKE = []string{"rot13-sha1-modp2048"} }},
		{"ike", "--allow-weak md5", func(p *app.Profile) { p.IKE = []string{"aes128-md5-modp2048"} }},
		{"esp", "--allow-weak 3des", func(p *app.Profile) { p.ESP = []string{"3des-sha1"} }},
		{"esp", "never used", func(p *app.Profile) { p.ESP = []string{"aes128"} }},
		{"allow_weak", "unknown weakness", func(p *app.Profile) { p.AllowWeak = []string{"des"} }},
	}
	for _, tc := range cases {
		t.Run(tc.key+" "+tc.says, func(t *testing.T) {
			p := app.Profile{Gateway: "vpn.example.com", Login: "ada"}
			tc.change(&p)
			_, failure := newConfig(&control.ConnectRequest{Profile: p, GroupSecret: secretFor(&p)})
			if failure == nil {
				t.Fatal("accepted")
			}
			if failure.Code != app.CodeUsage || failure.Exit != 2 || !strings.HasPrefix(failure.Message, tc.key) ||
				!strings.Contains(failure.Error(), tc.says) {
				t.Errorf("%+v", failure)
			}
			if strings.Contains(failure.Error(), "\n") {
				t.Errorf("more than one line: %q", failure.Error())
			}
		})
	}
}
