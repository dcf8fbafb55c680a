package store

import (
	"context"
	"slices"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/profiles"
)

// Asker asks a person for what a profile does not have. An error of its methods ends
// Request, which returns it, wrapped. What they return is not theirs any more.
type Asker interface {
	// Passphrase asks for that of a file with the user's certificate and key.
	Passphrase(ctx context.Context, file string) ([]byte, error)
	// GroupSecret asks for the secret that the profile's method needs.
	GroupSecret(ctx context.Context, p *app.Profile) ([]byte, error)
	// Password asks for that of the profile's login. When it returns none, and no
	// error, the service asks.
	Password(ctx context.Context, p *app.Profile) ([]byte, error)
}

// Request is what the service gets of a profile: with the certificates that it names,
// and the secrets that its method needs. Files are read before a person is asked. What
// the person says of password and group's secret is put into the entry, too, as the
// next Save would keep it; a passphrase is not kept.
//
// How to connect (TrustNew, Ask, NoReconnect, TimeoutSeconds) is the caller's to fill
// in. The request has copies of its own; the caller zeroises it.
//
// The error is the asker's; or of a certificate or key, and names the file: it wraps
// profiles.ErrPassphrase, after which Request may be tried again, or is the operating
// system's.
func (e *Entry) Request(ctx context.Context, ask Asker) (_ *control.ConnectRequest, err error) {
	method, _ := e.Profile.AuthMethod() // the service refuses one that there is not
	req := &control.ConnectRequest{Profile: e.Profile}
	defer func() {
		if err != nil {
			req.Zero()
		}
	}()
	if err := profiles.ReadCAs(&req.Profile); err != nil {
		return nil, err
	}
	if method.Certificate {
		c, err := profiles.ReadCredentials(profiles.AnyOwner, e.Profile.Certificate, e.Profile.Key, func() ([]byte, error) {
			return ask.Passphrase(ctx, e.Profile.Certificate)
		})
		if err != nil {
			return nil, err
		}
		req.Profile.Certificate, req.Profile.Key, req.Key = c.Certificate, "", c.Key
	}
	if method.GroupSecret == app.Required && len(e.GroupSecret) == 0 {
		if e.GroupSecret, err = ask.GroupSecret(ctx, &e.Profile); err != nil {
			return nil, err
		}
	}
	if method.Login && len(e.Password) == 0 {
		if e.Password, err = ask.Password(ctx, &e.Profile); err != nil {
			return nil, err
		}
	}
	if method.Login {
		req.Password = slices.Clone(e.Password)
	}
	if method.GroupSecret != app.NotUsed {
		req.GroupSecret = slices.Clone(e.GroupSecret)
	}
	return req, nil
}

// Learn brings a profile up to date with what its connection, now connected, has
// shown: the pin of a gateway that the person has trusted, and no password where the
// gateway forbids that it is kept. It reports whether there is anything new to save.
func (e *Entry) Learn(c *app.Connection, trusted bool) (changed bool) {
	if trusted && c.Gateway != nil && c.Gateway.CertificateSHA256 != "" {
		changed = e.Profile.Pin != c.Gateway.CertificateSHA256
		e.Profile.Pin = c.Gateway.CertificateSHA256
	}
	if ForbidsSaving(c) && len(e.Password) > 0 {
		e.ForgetPassword()
		changed = true
	}
	return changed
}

// ForgetPassword overwrites the password and drops it.
func (e *Entry) ForgetPassword() {
	clear(e.Password)
	e.Password = nil
}

// ForbidsSaving reports whether the gateway of a connection forbids that the password
// is kept.
func ForbidsSaving(c *app.Connection) bool {
	return slices.ContainsFunc(c.Warnings, func(w app.Warning) bool { return w.Code == app.WarningNoSave })
}
