package daemon

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
	"wayfarer/tun"
)

const (
	maxCAs    = 64  // certificates in a profile
	maxRoutes = 256 // networks in each list of a profile
	maxString = 1024
)

// choices are the keys with few values; the empty one is the default.
var choices = []struct {
	key    string
	value  func(*app.Profile) string
	values []string
}{
	{"auth", func(p *app.Profile) string { return p.Auth }, app.AuthMethods()},
	{"exchange", func(p *app.Profile) string { return p.Exchange }, []string{"auto", "main", "aggressive"}},
	{"mode_config", func(p *app.Profile) string { return p.ModeConfig }, []string{"auto", "pull", "push", "off"}},
	{"selectors", func(p *app.Profile) string { return p.Selectors }, []string{"auto", "one", "per-network"}},
	{"nat_t", func(p *app.Profile) string { return p.NATT }, []string{"auto", "off", "draft-00", "draft-01", "draft-02", "draft-03"}},
}

// newConfig makes the engine's configuration of a request, without the secrets that
// must be copied, and hooks. A request that cannot be used is a usage failure that
// names the key.
func newConfig(req *control.ConnectRequest) (*ike.Config, *app.Failure) {
	p := &req.Profile
	if err := checkProfile(p); err != nil {
		return nil, usage(err)
	}
	cfg := &ike.Config{
		Gateway:        p.Gateway,
		Login:          p.Login,
		Auth:           ike.AuthMethod(or(p.Auth, string(ike.AuthHybrid))),
		Exchange:       ike.Exchange(or(p.Exchange, string(ike.ExchangeAuto))),
		PFS:            ike.PFS(or(p.PFS, string(ike.PFSAuto))),
		ModeConfig:     ike.ModeConfig(or(p.ModeConfig, string(ike.ModeConfigAuto))),
		Selectors:      ike.Selectors(or(p.Selectors, string(ike.SelectorsAuto))),
		NATT:           ike.NATT(or(p.NATT, string(ike.NATTAuto))),
		LocalPort:      uint16(p.LocalPort),
		Application:    "Wayfarer " + app.Version(),
		LocalNetworks:  prefixes(p.LocalNetworks),
		RemoteNetworks: prefixes(p.RemoteNetworks),
		Networks:       prefixes(p.RoutesAdd),
		IPComp:         p.IPComp,
	}
	cfg.HostName, _ = os.Hostname() // or there is none to tell
	for _, part := range []func(*ike.Config, *app.Profile) error{identities, trust, suites, quirks} {
		if err := part(cfg, p); err != nil {
			return nil, usage(err)
		}
	}
	if err := credentials(cfg, req); err != nil {
		return nil, usage(err)
	}
	whole := *cfg
	whole.GroupSecret = req.GroupSecret
	if err := whole.Check(); err != nil {
		return nil, explain(err, "")
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
		{"name", p.Name},
		{"gateway", p.Gateway},
		{"login", p.Login},
		{"remote_id", p.RemoteID},
		{"local_id", p.LocalID},
		{"group_id", p.GroupID},
	} {
		if len(s.value) > maxString || printable(s.value, maxString) != s.value || strings.Contains(s.value, "\n") {
			return &keyError{key: s.key, err: errors.New("too long, or with control characters")}
		}
	}
	if strings.Trim(p.Gateway, ", ") == "" {
		return &keyError{key: "gateway", err: errors.New("missing"), hint: "give a host name or address"}
	}
	if m, ok := p.AuthMethod(); ok && m.Login && p.Login == "" {
		return &keyError{key: "login", err: errors.New("missing"), hint: "give the user name for the gateway"}
	}
	for _, c := range choices {
		if err := oneOf(c.value(p), c.values); err != nil {
			return &keyError{key: c.key, err: err}
		}
	}
	if p.ModeConfig == string(ike.ModeConfigOff) && len(p.LocalNetworks) == 0 {
		return &keyError{key: "mode_config", err: errors.New("without it nothing says what is on this side"), hint: "give local_networks"}
	}
	if p.MTU != 0 && (p.MTU < tun.MinMTU || p.MTU > 1500) {
		return &keyError{key: "mtu", err: fmt.Errorf("%d is not within %d to 1500", p.MTU, tun.MinMTU)}
	}
	if p.LocalPort < 0 || p.LocalPort > 0xffff {
		return &keyError{key: "local_port", err: fmt.Errorf("%d is no UDP port", p.LocalPort), hint: "give 500 for the ports that IKE has by its standard, or 0 for any"}
	}
	if p.Key != "" {
		return &keyError{key: "key", err: errors.New("its place is not the profile that is sent"), hint: "send it as the request's key"}
	}
	for _, r := range []struct {
		key    string
		values []string
	}{
		{"routes_add", p.RoutesAdd},
		{"routes_skip", p.RoutesSkip},
		{"local_networks", p.LocalNetworks},
		{"remote_networks", p.RemoteNetworks},
	} {
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
	if p.GroupID == "" || cfg.LocalID != nil {
		return nil
	}
	// A group's name is a KEY_ID, whatever it looks like.
	group, err := ike.ParseIdentity("keyid:" + strings.TrimPrefix(p.GroupID, "keyid:"))
	if err != nil || len(group.Data) == 0 {
		return &keyError{key: "group_id", err: errors.New("not the name of a group")}
	}
	cfg.LocalID = &group
	return nil
}

func trust(cfg *ike.Config, p *app.Profile) error {
	cfg.Trust.SystemRoots = p.SystemRoots
	for _, text := range p.CA {
		certs, err := app.ParseCertificates([]byte(text))
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
		if cfg.Trust.Pin == ([32]byte{}) { // which would mean that there is none
			return &keyError{key: "pin", err: errors.New("not a fingerprint of anything")}
		}
	}
	return nil
}

// suites reads offers. A weak one that is not allowed is a mistake of the profile
// and not left out silently.
func suites(cfg *ike.Config, p *app.Profile) (err error) {
	if cfg.AllowWeak, err = ike.ParseWeak(p.AllowWeak); err != nil {
		return &keyError{key: "allow_weak", err: err}
	}
	if cfg.IKE, err = parseSuites("ike", p.IKE, ike.ParseIKESuite); err != nil {
		return err
	}
	cfg.ESP, err = parseSuites("esp", p.ESP, ike.ParseESPSuite)
	return err
}

func parseSuites[S any](key string, names []string, parse func(string) (S, error)) ([]S, error) {
	var list []S
	for _, name := range names {
		s, err := parse(name)
		if err != nil {
			return nil, &keyError{key: key, err: err}
		}
		list = append(list, s)
	}
	return list, nil
}

func quirks(cfg *ike.Config, p *app.Profile) (err error) {
	if cfg.Quirks, err = ike.ParseQuirks(p.Quirks); err != nil {
		return &keyError{key: "quirks", err: err}
	}
	return nil
}

// allowWeak is the hint that would help, and what it costs.
func allowWeak(needs ike.Weak) string {
	return "if that risk is acceptable: --allow-weak " + needs.String()
}
