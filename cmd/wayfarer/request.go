package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

// request is the body for the service: the profile with the certificate that it names,
// and the secrets. Files are read before a person is asked. Whoever gets the request
// zeroises it.
func (e *env) request(ctx context.Context, svc service, flags *connectFlags, entry *store.Entry) (*control.ConnectRequest, error) {
	if err := flags.readSecrets(ctx, e, entry); err != nil {
		return nil, err
	}
	req, err := entry.Request(ctx, questions{e, svc})
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
	req.TrustNew, req.Ask, req.NoReconnect = flags.trustNew, e.ask != nil, flags.noReconnect
	req.TimeoutSeconds = seconds(flags.timeout)
	e.warnOfExpiry(req.Profile.Certificate)
	return req, nil
}

// seconds are whole ones, rounded up.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// readSecrets takes over the secrets that the command line names.
func (f *connectFlags) readSecrets(ctx context.Context, e *env, entry *store.Entry) error {
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
		read, err := e.secretFile(ctx, secret.path, secret.flag, secret.what)
		if err != nil {
			return err
		}
		clear(*secret.to)
		*secret.to = read
	}
	return nil
}

// warnOfExpiry warns of a certificate of the user that is not valid now: the gateway
// decides.
func (e *env) warnOfExpiry(certificate string) {
	certs, err := app.ParseCertificates([]byte(certificate))
	if err != nil {
		return // there is none
	}
	const day = "2006-01-02"
	switch now, leaf := e.now(), certs[0]; {
	case now.After(leaf.NotAfter):
		fmt.Fprintf(e.err, "Warning: your certificate expired on %s; the gateway may refuse it.\n", leaf.NotAfter.UTC().Format(day))
	case now.Before(leaf.NotBefore):
		fmt.Fprintf(e.err, "Warning: your certificate is not valid before %s; the gateway may refuse it.\n", leaf.NotBefore.UTC().Format(day))
	}
}

// questions are what a profile may lack, put to the person at the terminal.
type questions struct {
	*env
	svc service
}

var _ store.Asker = questions{}

// Passphrase implements store.Asker.
func (q questions) Passphrase(ctx context.Context, file string) ([]byte, error) {
	return q.askSecret(ctx, q.svc, "Passphrase for "+plainLine(file)+": ",
		app.NewFailure(app.CodeCancelled, "", file+" is protected by a passphrase and there is no terminal to ask on",
			"connect from a terminal"))
}

// Password implements store.Asker.
func (q questions) Password(ctx context.Context, p *app.Profile) ([]byte, error) {
	password, err := q.askSecret(ctx, q.svc, fmt.Sprintf("Password for %s at %s: ", plainLine(p.Login), plainLine(p.Gateway)),
		app.NewFailure(app.CodeCancelled, app.StepSignIn, "a password is needed and there is no terminal to ask on", "use --password-file"))
	if err == nil && len(password) == 0 {
		return nil, app.NewFailure(app.CodeCancelled, app.StepSignIn, "no password was given", "")
	}
	return password, err
}

// GroupSecret implements store.Asker.
func (q questions) GroupSecret(ctx context.Context, p *app.Profile) ([]byte, error) {
	missing := usage(fmt.Sprintf("%s needs the group's secret", p.Auth), "give --group-secret-file")
	secret, err := q.askSecret(ctx, q.svc, fmt.Sprintf("Group secret for %s: ", plainLine(p.Gateway)), missing)
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
