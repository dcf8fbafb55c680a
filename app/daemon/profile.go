package daemon

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/tun"
)

const (
	maxCAs    = 64  // certificates in a profile
	maxRoutes = 256 // routes_add and routes_skip, each
	maxString = 1024
)

// unsupported says what a profile can ask for and no part of the program does yet.
// Such a profile is refused rather than half obeyed.
var unsupported = []struct {
	key string
	set func(*app.Profile) bool
}{
	{"auth", func(p *app.Profile) bool { return p.Auth != "" && p.Auth != string(ike.AuthHybrid) }},
	{"group_id", func(p *app.Profile) bool { return p.GroupID != "" }},
	{"certificate", func(p *app.Profile) bool { return p.Certificate != "" }},
	{"key", func(p *app.Profile) bool { return p.Key != "" }},
	{"mode_config", func(p *app.Profile) bool { return p.ModeConfig == "off" }},
	{"selectors", func(p *app.Profile) bool { return p.Selectors == "per-network" }},
	{"local_networks", func(p *app.Profile) bool { return len(p.LocalNetworks) > 0 }},
	{"remote_networks", func(p *app.Profile) bool { return len(p.RemoteNetworks) > 0 }},
	{"nat_t", func(p *app.Profile) bool { return p.NATT != "" && p.NATT != "auto" }},
	{"local_port", func(p *app.Profile) bool { return p.LocalPort != 0 }},
	{"ipcomp", func(p *app.Profile) bool { return p.IPComp }},
	{"local_network", func(p *app.Profile) bool { return p.LocalNetwork }},
	{"block_outside", func(p *app.Profile) bool { return p.BlockOutside }},
	{"always_on", func(p *app.Profile) bool { return p.AlwaysOn }},
	{"secret_file", func(p *app.Profile) bool { return p.SecretFile != "" }},
	{"quirks", func(p *app.Profile) bool { return len(p.Quirks) > 0 }},
}

// choices are the keys with few values; the empty one is the default.
var choices = []struct {
	key    string
	value  func(*app.Profile) string
	values []string
}{
	{"auth", func(p *app.Profile) string { return p.Auth }, []string{"hybrid", "xauth-psk", "xauth-rsa", "psk", "rsa"}},
	{"exchange", func(p *app.Profile) string { return p.Exchange }, []string{"auto", "main", "aggressive"}},
	{"mode_config", func(p *app.Profile) string { return p.ModeConfig }, []string{"auto", "pull", "push", "off"}},
	{"selectors", func(p *app.Profile) string { return p.Selectors }, []string{"auto", "one", "per-network"}},
	{"nat_t", func(p *app.Profile) string { return p.NATT }, []string{"auto", "off", "draft-00", "draft-01", "draft-02", "draft-03"}},
}

// newConfig makes the engine's configuration of a profile, without secrets and
// hooks. A profile that cannot be used is a usage failure that names the key.
func newConfig(p *app.Profile) (*ike.Config, *app.Failure) {
	if err := checkProfile(p); err != nil {
		return nil, usage(err)
	}
	for _, u := range unsupported {
		if u.set(p) {
			return nil, app.NewFailure(app.CodeUsage, "", u.key+" is not supported yet as the profile sets it", "leave it out")
		}
	}
	cfg := &ike.Config{
		Gateway:    p.Gateway,
		Login:      p.Login,
		Auth:       ike.AuthHybrid,
		Exchange:   ike.Exchange(or(p.Exchange, string(ike.ExchangeAuto))),
		PFS:        ike.PFS(or(p.PFS, string(ike.PFSAuto))),
		ModeConfig: ike.ModeConfig(or(p.ModeConfig, string(ike.ModeConfigAuto))),
	}
	for _, part := range []func(*ike.Config, *app.Profile) error{identities, trust, suites} {
		if err := part(cfg, p); err != nil {
			return nil, usage(err)
		}
	}
	return cfg, nil
}

// keyError is a mistake in one key of a profile.
type keyError struct {
	key  string
	err  error
	hint string
}

func (e *keyError) Error() string { return e.key + ": " + e.err.Error() }

func (e *keyError) Unwrap() error { return e.err }

func usage(err error) *app.Failure {
	hint := "correct the profile"
	if e, ok := errors.AsType[*keyError](err); ok && e.hint != "" {
		hint = e.hint
	}
	return app.NewFailure(app.CodeUsage, "", err.Error(), hint)
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func checkProfile(p *app.Profile) error {
	if p.Version < 0 || p.Version > 1 {
		return &keyError{key: "version", err: fmt.Errorf("%d is not known", p.Version)}
	}
	for _, s := range []struct{ key, value string }{
		{"name", p.Name}, {"gateway", p.Gateway}, {"login", p.Login}, {"remote_id", p.RemoteID}, {"local_id", p.LocalID},
	} {
		if len(s.value) > maxString || printable(s.value, maxString) != s.value || strings.Contains(s.value, "\n") {
			return &keyError{key: s.key, err: errors.New("too long, or with control characters")}
		}
	}
	if strings.Trim(p.Gateway, ", ") == "" {
		return &keyError{key: "gateway", err: errors.New("missing"), hint: "give a host name or address"}
	}
	if p.Login == "" {
		return &keyError{key: "login", err: errors.New("missing"), hint: "give the user name for the gateway"}
	}
	for _, c := range choices {
		if err := oneOf(c.value(p), c.values); err != nil {
			return &keyError{key: c.key, err: err}
		}
	}
	if p.MTU != 0 && (p.MTU < tun.MinMTU || p.MTU > 1500) {
		return &keyError{key: "mtu", err: fmt.Errorf("%d is not within %d to 1500", p.MTU, tun.MinMTU)}
	}
	for _, r := range []struct {
		key    string
		values []string
	}{{"routes_add", p.RoutesAdd}, {"routes_skip", p.RoutesSkip}} {
		if len(r.values) > maxRoutes {
			return &keyError{key: r.key, err: fmt.Errorf("more than %d networks", maxRoutes)}
		}
		for _, text := range r.values {
			if _, err := parsePrefix(text); err != nil {
				return &keyError{key: r.key, err: err}
			}
		}
	}
	return nil
}

func oneOf(value string, values []string) error {
	if value == "" {
		return nil
	}
	for _, v := range values {
		if v == value {
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(values, ", "))
}

// parsePrefix reads a network, or an address as a network of its own. Networks that
// can never be behind a gateway are refused.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if addr, aerr := netip.ParseAddr(text); aerr == nil {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is not a network, as in 192.168.1.0/24", printable(text, 64))
	}
	if a := p.Addr(); a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return netip.Prefix{}, fmt.Errorf("%v cannot be behind a gateway", p)
	}
	return p.Masked(), nil
}

func identities(cfg *ike.Config, p *app.Profile) error {
	for _, id := range []struct {
		key, text string
		to        **ike.Identity
	}{{"remote_id", p.RemoteID, &cfg.RemoteID}, {"local_id", p.LocalID, &cfg.LocalID}} {
		if id.text == "" {
			continue
		}
		parsed, err := ike.ParseIdentity(id.text)
		if err != nil {
			return &keyError{key: id.key, err: err}
		}
		*id.to = &parsed
	}
	return nil
}

func trust(cfg *ike.Config, p *app.Profile) error {
	cfg.Trust.SystemRoots = p.SystemRoots
	for _, text := range p.CA {
		certs, err := parseCertificates(text)
		if err != nil {
			return &keyError{key: "ca", err: err}
		}
		if cfg.Trust.CAs = append(cfg.Trust.CAs, certs...); len(cfg.Trust.CAs) > maxCAs {
			return &keyError{key: "ca", err: fmt.Errorf("more than %d certificates", maxCAs)}
		}
	}
	if p.Pin != "" {
		pin, err := hex.DecodeString(strings.ReplaceAll(p.Pin, ":", ""))
		if err != nil || len(pin) != len(cfg.Trust.Pin) {
			return &keyError{key: "pin", err: errors.New("not a SHA-256 fingerprint"), hint: "give 64 hexadecimal digits"}
		}
		copy(cfg.Trust.Pin[:], pin)
	}
	return nil
}

func parseCertificates(text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("unreadable certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return certs, nil
}

// suites reads offers. A weak one that is not allowed is a mistake of the profile
// and not left out silently.
func suites(cfg *ike.Config, p *app.Profile) error {
	allow, err := ike.ParseWeak(p.AllowWeak)
	if err != nil {
		return &keyError{key: "allow_weak", err: err}
	}
	cfg.AllowWeak = allow
	if cfg.IKE, err = parseSuites("ike", p.IKE, allow, ike.ParseIKESuite, ike.IKESuite.Weak); err != nil {
		return err
	}
	cfg.ESP, err = parseSuites("esp", p.ESP, allow, ike.ParseESPSuite, ike.ESPSuite.Weak)
	return err
}

func parseSuites[S any](key string, names []string, allow ike.Weak, parse func(string) (S, error), weak func(S) ike.Weak) ([]S, error) {
	var list []S
	for _, name := range names {
		s, err := parse(name)
		if err != nil {
			return nil, &keyError{key: key, err: err}
		}
		if needs := weak(s) &^ allow; needs != 0 {
			return nil, &keyError{key: key, err: fmt.Errorf("%s is weak and not allowed", name), hint: allowWeak(needs)}
		}
		list = append(list, s)
	}
	return list, nil
}

// allowWeak is the hint that would help, and what it costs.
func allowWeak(needs ike.Weak) string {
	return "if that risk is acceptable: --allow-weak " + needs.String()
}
