package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/profiles"
	"wayfarer/platform"
)

// strictest is the policy where the administrator's cannot be read: what he has forbidden
// is not known.
var strictest = app.Policy{ForbidWeak: true, ForceBlockOutside: true, ForbidAdding: true}

// SetUp is what an administrator has placed on this computer: profiles, and what every
// connection must keep to.
type SetUp struct {
	Profiles []Managed
	Policy   app.Policy
}

// ReadSetUp reads the file policy.toml in dir, and the profiles in its directory
// profiles.d as ReadManaged does, which the policy holds for as well. Each error is of
// one file and names it. Without a policy everything is allowed; with one that cannot be
// read, or that others could change, nothing that a policy may forbid.
func ReadSetUp(dir string) (SetUp, []error) {
	list, errs := ReadManaged(filepath.Join(dir, "profiles.d"))
	path := filepath.Join(dir, "policy.toml")
	set := SetUp{}
	data, err := platform.ReadOwned(path, platform.OthersMayRead, maxProfile)
	if err == nil {
		err = profiles.Unmarshal(data, &set.Policy)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		set.Policy = strictest
		errs = append(errs, fmt.Errorf("policy %s: %w; until it can be read, all that a policy can forbid is forbidden", path, err))
	}
	for i := range list {
		m := &list[i]
		if failure := imposePolicy(set.Policy, m, true); failure != nil {
			errs = append(errs, fmt.Errorf("managed profile %s: %w", m.Profile.Name, failure))
			m.Zero()
			continue
		}
		set.Profiles = append(set.Profiles, *m)
	}
	return set, errs
}

// imposePolicy gives a request what the policy demands, or says what it forbids.
func imposePolicy(policy app.Policy, req *control.ConnectRequest, managed bool) *app.Failure {
	p := &req.Profile
	switch {
	case policy.ForbidAdding && !managed:
		return app.NotPlaced()
	case policy.ForbidWeak && len(p.AllowWeak) > 0:
		return app.NewFailure(app.CodePolicy, "", "this computer's policy forbids weak algorithms: allow_weak = "+strings.Join(p.AllowWeak, ","),
			"leave it out, and have the gateway offer stronger ones")
	}
	p.BlockOutside = p.BlockOutside || policy.ForceBlockOutside
	return nil
}

// Managed is what an administrator has set up, as the user owner may see it.
func (d *Daemon) Managed(owner string) app.Managed {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]app.ManagedProfile, len(d.managed)) // not nil: JSON shows an empty list
	for i := range d.managed {
		m := &d.managed[i]
		list[i] = app.ManagedProfile{
			Profile:          m.Profile,
			PasswordSaved:    owner == ManagedOwner && len(m.Password) > 0,
			GroupSecretSaved: len(m.GroupSecret) > 0,
		}
	}
	return app.Managed{Policy: d.policy, Profiles: list}
}

// managedLocked is the managed profile that a request means: it has its name, and no
// gateway. What identifies a person, login and password, is the user's; only the
// administrator uses those that were placed with the profile. The secrets of groups and
// keys are for all who connect it. Whoever connects it can have the block beside; it cannot
// be had without what the administrator wants of it, nor with the local network where he
// keeps that out. Nil if there is none of this name.
func (d *Daemon) managedLocked(owner string, req *control.ConnectRequest) (*control.ConnectRequest, *app.Failure) {
	if req.Profile.Name == "" || req.Profile.Gateway != "" {
		return nil, nil
	}
	for i := range d.managed {
		m := d.managed[i] // its secrets stay the daemon's
		if m.Profile.Name != req.Profile.Name {
			continue
		}
		if m.Profile.AlwaysOn && owner != ManagedOwner {
			return nil, app.NewFailure(app.CodeUsage, "", m.Profile.Name+" is always on: the service connects it by itself", "ask the administrator")
		}
		if m.Profile.Login == "" {
			m.Profile.Login = req.Profile.Login
		}
		if owner != ManagedOwner || len(m.Password) == 0 {
			m.Password = req.Password
		}
		// With an optional one the method would be another.
		if method, _ := m.Profile.AuthMethod(); method.GroupSecret == app.Required && len(m.GroupSecret) == 0 {
			m.GroupSecret = req.GroupSecret
		}
		m.TimeoutSeconds, m.TrustNew, m.NoReconnect = req.TimeoutSeconds, req.TrustNew, req.NoReconnect
		m.Ask = req.Ask && !m.Profile.AlwaysOn
		m.Profile.BlockOutside = m.Profile.BlockOutside || req.Profile.BlockOutside
		return &m, nil
	}
	return nil, nil
}
