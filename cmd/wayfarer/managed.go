package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
)

// forManaged are the flags that a profile of the administrator's leaves open.
var forManaged = []string{
	"timeout", "json", "socket", "login", "password-file", "group-secret-file", "trust-new", "no-reconnect",
}

// managed finds a profile that the administrator has placed. Without one of this name, or
// with a service too old to have any, it is nil.
func (e *env) managed(ctx context.Context, svc installed, name string) (*app.ManagedProfile, error) {
	set, err := svc.Managed(ctx)
	if failure, ok := errors.AsType[*app.Failure](err); ok && failure.Code == app.CodeUsage {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(set.Profiles, func(p app.ManagedProfile) bool { return p.Name == name })
	if i < 0 {
		return nil, nil
	}
	return &set.Profiles[i], nil
}

// connectManaged connects a profile that the administrator has placed with the service,
// for a user whose keyring has none of that name; that is the failure unsaved, which
// holds if the service has none either.
func (e *env) connectManaged(ctx context.Context, flags *connectFlags, name string, asJSON bool, unsaved *app.Failure) error {
	svc := e.service(e.socket)
	p, err := e.managed(ctx, svc, name)
	switch {
	case err != nil:
		return err
	case p == nil:
		return unsaved
	}
	req, err := e.managedRequest(ctx, svc, flags, p)
	if err != nil {
		return err
	}
	_, conn, err := e.establish(ctx, svc, req, flags.timeout)
	if err != nil {
		return err
	}
	e.showNew(conn, asJSON)
	return nil
}

// managedRequest is the profile's name, with what it leaves to its user. Whoever gets the
// request zeroises it.
func (e *env) managedRequest(ctx context.Context, svc service, flags *connectFlags, p *app.ManagedProfile) (*control.ConnectRequest, error) {
	entry := &store.Entry{Profile: p.Profile}
	req := &control.ConnectRequest{
		Profile: app.Profile{Name: p.Name}, TimeoutSeconds: seconds(flags.timeout),
		Ask: e.ask != nil, TrustNew: flags.trustNew, NoReconnect: flags.noReconnect,
	}
	method, _ := p.AuthMethod() // the service has seen that there is one
	if login, err := flags.flags.GetString("login"); err == nil && login != "" {
		if p.Login != "" && p.Login != login {
			return nil, usage(fmt.Sprintf("--login: the administrator has set %s's login: %s", p.Name, p.Login), "leave it out")
		}
		entry.Profile.Login, req.Profile.Login = login, login
	}
	if method.Login && entry.Profile.Login == "" {
		return nil, usage(p.Name+" has no login", "give yours: --login")
	}
	if err := flags.checkSecrets(&p.Profile); err != nil {
		return nil, err
	}
	err := flags.readSecrets(ctx, e, entry)
	ask := questions{e, svc}
	if err == nil && method.GroupSecret == app.Required && !p.GroupSecretSaved && len(entry.GroupSecret) == 0 {
		entry.GroupSecret, err = ask.GroupSecret(ctx, &entry.Profile)
	}
	if err == nil && method.Login && !p.PasswordSaved && !p.AlwaysOn && len(entry.Password) == 0 {
		entry.Password, err = ask.Password(ctx, &entry.Profile)
	}
	if err != nil {
		entry.Zero()
		return nil, err
	}
	req.Password, req.GroupSecret = entry.Password, entry.GroupSecret
	return req, nil
}

// placed is what the administrator has set up; without a service that tells it, nothing.
func (e *env) placed(ctx context.Context) *app.Managed {
	if set, err := e.service(e.socket).Managed(ctx); err == nil {
		return set
	}
	return &app.Managed{}
}

// showPolicy tells what this computer's policy demands, if it does.
func showPolicy(w io.Writer, policy app.Policy) {
	if rules := policy.Rules(); len(rules) > 0 {
		fmt.Fprintf(w, "This computer's policy: %s.\n", strings.Join(rules, "; "))
	}
}
