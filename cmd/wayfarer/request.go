package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

// request is the body for the service: the profile with the certificate that it names,
// and the secrets. Files are read before a person is asked. The request has copies of
// its own of the entry's secrets; whoever gets it zeroises it.
func (e *env) request(ctx context.Context, svc service, flags *connectFlags, entry *store.Entry) (_ *control.ConnectRequest, err error) {
	if err := flags.readSecrets(e, entry); err != nil {
		return nil, err
	}
	method, _ := entry.Profile.AuthMethod() // check has seen that there is one
	req := &control.ConnectRequest{
		Profile:        entry.Profile,
		TrustNew:       flags.trustNew,
		Ask:            e.ask != nil,
		NoReconnect:    flags.noReconnect,
		TimeoutSeconds: int((flags.timeout + time.Second - 1) / time.Second),
	}
	defer func() {
		if err != nil {
			req.Zero()
		}
	}()
	if method.Certificate {
		credentials, err := e.credentials(ctx, svc, &entry.Profile)
		if err != nil {
			return nil, err
		}
		req.Profile.Certificate, req.Profile.Key, req.Key = credentials.Certificate, "", credentials.Key
	}
	if method.GroupSecret == app.Required && len(entry.GroupSecret) == 0 {
		if entry.GroupSecret, err = e.askGroupSecret(ctx, svc, &entry.Profile); err != nil {
			return nil, err
		}
	}
	if method.Login && len(entry.Password) == 0 {
		if entry.Password, err = e.askPassword(ctx, svc, &entry.Profile); err != nil {
			return nil, err
		}
	}
	if method.Login {
		req.Password = slices.Clone(entry.Password)
	}
	if method.GroupSecret != app.NotUsed {
		req.GroupSecret = slices.Clone(entry.GroupSecret)
	}
	return req, nil
}

// readSecrets takes over the secrets that the command line names.
func (f *connectFlags) readSecrets(e *env, entry *store.Entry) error {
	for _, secret := range []struct {
		path, flag, what string
		to               *[]byte
	}{
		{f.groupSecretFile, "--group-secret-file", "secret", &entry.GroupSecret},
		{f.passwordFile, "--password-file", "password", &entry.Password},
	} {
		if secret.path == "" {
			continue
		}
		read, err := e.secretFile(secret.path, secret.flag, secret.what)
		if err != nil {
			return err
		}
		clear(*secret.to)
		*secret.to = read
	}
	return nil
}

// credentials reads the user's certificate and key. An expired certificate is a
// warning: the gateway decides.
func (e *env) credentials(ctx context.Context, svc service, p *app.Profile) (*profiles.Credentials, error) {
	c, err := profiles.ReadCredentials(p.Certificate, p.Key, func() ([]byte, error) {
		return e.askSecret(ctx, svc, "Passphrase for "+plainLine(p.Certificate)+": ",
			app.NewFailure(app.CodeCancelled, "", p.Certificate+" is protected by a passphrase and there is no terminal to ask on",
				"connect from a terminal"))
	})
	if failure, ok := errors.AsType[*app.Failure](err); ok {
		return nil, failure
	}
	if err != nil {
		hint := ""
		switch _, ofFile := errors.AsType[*fs.PathError](err); {
		case ofFile:
			hint = "check --cert and --key"
		case errors.Is(err, profiles.ErrPassphrase):
			hint = "try again"
		}
		return nil, usage(reason(err), hint)
	}
	const day = "2006-01-02"
	switch now := e.now(); {
	case now.After(c.Leaf.NotAfter):
		fmt.Fprintf(e.err, "Warning: your certificate expired on %s; the gateway may refuse it.\n", c.Leaf.NotAfter.UTC().Format(day))
	case now.Before(c.Leaf.NotBefore):
		fmt.Fprintf(e.err, "Warning: your certificate is not valid before %s; the gateway may refuse it.\n", c.Leaf.NotBefore.UTC().Format(day))
	}
	return c, nil
}

// askPassword asks the person for the password of a profile.
func (e *env) askPassword(ctx context.Context, svc service, p *app.Profile) ([]byte, error) {
	password, err := e.askSecret(ctx, svc, fmt.Sprintf("Password for %s at %s: ", plainLine(p.Login), plainLine(p.Gateway)),
		app.NewFailure(app.CodeCancelled, app.StepSignIn, "a password is needed and there is no terminal to ask on", "use --password-file"))
	if err == nil && len(password) == 0 {
		return nil, app.NewFailure(app.CodeCancelled, app.StepSignIn, "no password was given", "")
	}
	return password, err
}

// askGroupSecret asks the person for the secret of a profile's group.
func (e *env) askGroupSecret(ctx context.Context, svc service, p *app.Profile) ([]byte, error) {
	missing := usage(fmt.Sprintf("%s needs the group's secret", p.Auth), "give --group-secret-file")
	secret, err := e.askSecret(ctx, svc, fmt.Sprintf("Group secret for %s: ", plainLine(p.Gateway)), missing)
	if err == nil && len(secret) == 0 {
		return nil, missing
	}
	return secret, err
}

// askSecret asks the person for a secret; nobody is the failure when nobody is there.
// The caller zeroises it.
func (e *env) askSecret(ctx context.Context, svc service, prompt string, nobody *app.Failure) ([]byte, error) {
	if e.ask == nil {
		return nil, nobody
	}
	// Nobody likes to type a password only to hear that there is no service.
	if _, err := svc.Status(ctx); err != nil {
		return nil, err
	}
	secret, err := e.ask.secret(ctx, prompt)
	if err != nil {
		return nil, cancelled()
	}
	return secret, nil
}
