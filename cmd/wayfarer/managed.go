package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
)

// forManaged are the flags that a profile of the administrator's leaves open.
var forManaged = []string{
	"timeout", "json", "socket", "login", "password-file", "group-secret-file", "trust-new", "no-reconnect", "block-outside",
}

// setUp asks the service what the administrator has set up. One that is too old to tell
// has nothing.
func (e *env) setUp(ctx context.Context, svc installed) (*app.Managed, error) {
	set, err := svc.Managed(ctx)
	if failure, ok := errors.AsType[*app.Failure](err); ok && failure.Code == app.CodeUsage {
		return &app.Managed{}, nil
	}
	return set, err
}

// managedToConnect finds the profile of the administrator's to connect, about which the
// flags say no more than it leaves open.
func managedToConnect(set *app.Managed, flags *connectFlags, name string) (*app.ManagedProfile, error) {
	p := set.Find(name)
	switch {
	case p == nil:
		return nil, app.NotPlaced()
	case !flags.forManaged():
		return nil, usage(name+" is the administrator's, who alone changes it",
			"give no more than --"+strings.Join(forManaged, ", --"))
	}
	return p, nil
}

// connectManaged connects a profile that the administrator has placed with the service.
func (e *env) connectManaged(ctx context.Context, svc service, flags *connectFlags, set *app.Managed, name string, asJSON bool) error {
	p, err := managedToConnect(set, flags, name)
	if err != nil {
		return err
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
	if block, err := flags.flags.GetBool("block-outside"); err == nil {
		req.Profile.BlockOutside = block // whatever the administrator has set, the service keeps
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
	if set, err := e.setUp(ctx, e.service(e.socket)); err == nil {
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
