package daemon

import (
	"crypto/rsa"
	"errors"
	"fmt"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
)

// Bounds of what somebody may hand over to authenticate with.
const (
	maxSecret = 4096     // bytes of a password or a group's secret; gateways take far less
	maxKey    = 16 << 10 // bytes of PEM; RSA with 16,384 bits fits
	maxChain  = 8        // certificates of the user's own
	minRSA    = 1024     // bits; with less nobody signs any more
	strongRSA = 2048     // bits; with less the profile has to allow it
)

// credentials checks that a request has what its method authenticates with, and
// nothing that it has no use for, and takes over certificate and key.
func credentials(cfg *ike.Config, req *control.ConnectRequest) error {
	m, _ := req.Profile.AuthMethod() // checkProfile has seen that there is one
	switch {
	case len(req.Password) > maxSecret:
		return &keyError{key: "password", err: fmt.Errorf("longer than %d bytes", maxSecret)}
	case len(req.GroupSecret) > maxSecret:
		return &keyError{key: "group_secret", err: fmt.Errorf("longer than %d bytes", maxSecret)}
	case len(req.Key) > maxKey:
		return &keyError{key: "key", err: fmt.Errorf("longer than %d bytes", maxKey)}
	case !m.Login && len(req.Password) > 0:
		return unused("password", m)
	case m.GroupSecret == app.NotUsed && len(req.GroupSecret) > 0:
		return unused("group_secret", m)
	case m.GroupSecret == app.Required && len(req.GroupSecret) == 0:
		return &keyError{key: "group_secret", err: fmt.Errorf("%s needs it", m.Name), hint: "give the group's secret (--group-secret-file)"}
	case !m.Certificate && req.Profile.Certificate != "":
		return unused("certificate", m)
	case !m.Certificate && len(req.Key) > 0:
		return unused("key", m)
	case !m.Certificate:
		return nil
	}
	return ownCertificate(cfg, req)
}

func unused(key string, m app.AuthMethod) error {
	return &keyError{key: key, err: fmt.Errorf("%s has no use for it", m.Name), hint: "leave it out, or choose another method (--auth)"}
}

// ownCertificate takes over the user's certificate and its key.
func ownCertificate(cfg *ike.Config, req *control.ConnectRequest) error {
	const hint = "give the user's certificate and its key (--cert and --key)"
	if req.Profile.Certificate == "" {
		return &keyError{key: "certificate", err: fmt.Errorf("%s needs it", req.Profile.Auth), hint: hint}
	}
	if len(req.Key) == 0 {
		return &keyError{key: "key", err: errors.New("a certificate without its key"), hint: hint}
	}
	certs, err := app.ParseCertificates([]byte(req.Profile.Certificate))
	if err != nil {
		return &keyError{key: "certificate", err: err}
	}
	if len(certs) > maxChain {
		return &keyError{key: "certificate", err: fmt.Errorf("more than %d certificates", maxChain)}
	}
	key, err := app.ParseKey(req.Key)
	if err != nil {
		return &keyError{key: "key", err: err}
	}
	if !app.BelongsTo(key, certs[0]) {
		return &keyError{key: "key", err: errors.New("it does not belong to the certificate"), hint: hint}
	}
	if key, ok := key.(*rsa.PrivateKey); ok {
		switch bits := key.N.BitLen(); {
		case bits < minRSA:
			return &keyError{key: "key", err: fmt.Errorf("RSA with %d bits is never used", bits), hint: "have a new certificate made"}
		case bits < strongRSA && cfg.AllowWeak&ike.WeakRSA1024 == 0:
			return &keyError{key: "key", err: fmt.Errorf("RSA with %d bits is weak and not allowed", bits), hint: allowWeak(ike.WeakRSA1024)}
		}
	}
	cfg.Certificates, cfg.Key = certs, key
	return nil
}
