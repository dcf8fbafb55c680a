package daemon

import (
	"encoding/pem"
	"strings"
	"testing"

	"wayfarer/app"
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
	cfg, failure := newConfig(&app.Profile{
		Version: 1, Name: "office", Gateway: "vpn.example.com, 192.0.2.1:4500", Login: "ada", Auth: "hybrid",
		Exchange: "main", CA: []string{testCA(t) + testCA(t)}, Pin: strings.Repeat("Ab:", 31) + "ab", SystemRoots: true,
		IKE: []string{"aes256-sha256-modp2048", "3des-sha1-modp1024"}, ESP: []string{"aes128gcm16"},
		AllowWeak: []string{"3des", "modp1024"}, PFS: "modp2048", ModeConfig: "push", RemoteID: "fqdn:vpn.example.com",
	})
	if failure != nil {
		t.Fatal(failure)
	}
	if cfg.Gateway != "vpn.example.com, 192.0.2.1:4500" || cfg.Login != "ada" || cfg.Auth != ike.AuthHybrid ||
		cfg.Exchange != ike.ExchangeMain || cfg.PFS != "modp2048" || cfg.ModeConfig != ike.ModeConfigPush ||
		cfg.AllowWeak != ike.Weak3DES|ike.WeakMODP1024 || len(cfg.Trust.CAs) != 2 || !cfg.Trust.SystemRoots ||
		cfg.Trust.Pin != [32]byte([]byte(strings.Repeat("\xab", 32))) ||
		len(cfg.IKE) != 2 || len(cfg.ESP) != 1 || cfg.RemoteID == nil || cfg.LocalID != nil {
		t.Errorf("config %+v", cfg)
	}

	cfg, failure = newConfig(&app.Profile{Gateway: "vpn.example.com", Login: "ada"})
	if failure != nil {
		t.Fatal(failure)
	}
	if cfg.Exchange != ike.ExchangeAuto || cfg.PFS != ike.PFSAuto || cfg.ModeConfig != ike.ModeConfigAuto || cfg.Auth != ike.AuthHybrid {
		t.Errorf("defaults %+v", cfg)
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
		{"routes_add", "not a network", func(p *app.Profile) { p.RoutesAdd = []string{"ten.0.0.0/8"} }},
		{"routes_add", "cannot be behind", func(p *app.Profile) { p.RoutesAdd = []string{"127.0.0.0/8"} }},
		{"routes_skip", "not a network", func(p *app.Profile) { p.RoutesSkip = []string{"10.0.0.0/8", "10.0.0.0/33"} }},
		{"routes_skip", "more than", func(p *app.Profile) { p.RoutesSkip = make([]string, 257) }},
		{"ca", "no PEM certificate", func(p *app.Profile) { p.CA = []string{"/etc/ssl/ca.pem"} }},
		{"ca", "unreadable", func(p *app.Profile) {
			p.CA = []string{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}
		}},
		{"ca", "more than 64", func(p *app.Profile) { p.CA = []string{strings.Repeat(testCA(t), 65)} }},
		{"pin", "fingerprint", func(p *app.Profile) { p.Pin = "ab" }},
		{"pin", "fingerprint", func(p *app.Profile) { p.Pin = strings.Repeat("x", 64) }},
		{"ike", "unknown cipher", func(p *app.Profile) { p.IKE = []string{"rot13-sha1-modp2048"} }},
		{"ike", "--allow-weak md5", func(p *app.Profile) { p.IKE = []string{"aes128-md5-modp2048"} }},
		{"esp", "--allow-weak 3des", func(p *app.Profile) { p.ESP = []string{"3des-sha1"} }},
		{"esp", "never used", func(p *app.Profile) { p.ESP = []string{"aes128"} }},
		{"allow_weak", "unknown weakness", func(p *app.Profile) { p.AllowWeak = []string{"des"} }},

		{"auth", "not supported yet", func(p *app.Profile) { p.Auth = "xauth-psk" }},
		{"auth", "not supported yet", func(p *app.Profile) { p.Auth = "rsa" }},
		{"group_id", "not supported yet", func(p *app.Profile) { p.GroupID = "staff" }},
		{"certificate", "not supported yet", func(p *app.Profile) { p.Certificate = "x" }},
		{"key", "not supported yet", func(p *app.Profile) { p.Key = "x" }},
		{"mode_config", "not supported yet", func(p *app.Profile) { p.ModeConfig = "off" }},
		{"selectors", "not supported yet", func(p *app.Profile) { p.Selectors = "per-network" }},
		{"local_networks", "not supported yet", func(p *app.Profile) { p.LocalNetworks = []string{"10.0.0.0/8"} }},
		{"remote_networks", "not supported yet", func(p *app.Profile) { p.RemoteNetworks = []string{"10.0.0.0/8"} }},
		{"nat_t", "not supported yet", func(p *app.Profile) { p.NATT = "off" }},
		{"local_port", "not supported yet", func(p *app.Profile) { p.LocalPort = 500 }},
		{"ipcomp", "not supported yet", func(p *app.Profile) { p.IPComp = true }},
		{"local_network", "not supported yet", func(p *app.Profile) { p.LocalNetwork = true }},
		{"block_outside", "not supported yet", func(p *app.Profile) { p.BlockOutside = true }},
		{"always_on", "not supported yet", func(p *app.Profile) { p.AlwaysOn = true }},
		{"secret_file", "not supported yet", func(p *app.Profile) { p.SecretFile = "/etc/shadow" }},
		{"quirks", "not supported yet", func(p *app.Profile) { p.Quirks = []string{"racoon"} }},
	}
	seen := map[string]bool{}
	for _, tc := range cases {
		t.Run(tc.key+" "+tc.says, func(t *testing.T) {
			p := app.Profile{Gateway: "vpn.example.com", Login: "ada"}
			tc.change(&p)
			_, failure := newConfig(&p)
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
		if tc.says == "not supported yet" {
			seen[tc.key] = true
		}
	}
	for _, u := range unsupported {
		if !seen[u.key] {
			t.Errorf("no case for %s", u.key)
		}
	}
}
