package daemon

import (
	"wayfarer/app"
	"wayfarer/app/control"
)

// startManaged connects the profiles that are always on. Their blocks belong to the
// host's network from the first wish on, whoever has that.
func (d *Daemon) startManaged() {
	var started []*tunnel
	for i := range d.managed {
		m := &d.managed[i]
		if !m.Profile.AlwaysOn {
			continue
		}
		cfg, failure := newConfig(m)
		if failure != nil { // it was accepted when it was read
			d.log.Error("managed profile", "profile", m.Profile.Name, "error", failure)
			continue
		}
		d.mu.Lock()
		t := d.addLocked(ManagedOwner, m, cfg, true)
		d.mu.Unlock()
		if p := &m.Profile; p.BlockOutside {
			d.wishes = append(d.wishes, wish{owner: t, block: true, local: p.LocalNetwork})
		}
		started = append(started, t)
	}
	for _, t := range started {
		d.log.Info("connecting a managed profile", "profile", t.profile.Name, "connection", t.id)
		go t.run()
	}
}

// managedLocked is the managed profile that the administrator's request means: it says
// nothing but the name. Nil if there is none.
func (d *Daemon) managedLocked(owner string, req *control.ConnectRequest) *control.ConnectRequest {
	if owner != ManagedOwner || req.Profile.Name == "" || req.Profile.Gateway != "" {
		return nil
	}
	for i := range d.managed {
		if d.managed[i].Profile.Name != req.Profile.Name {
			continue
		}
		m := d.managed[i] // its secrets stay the daemon's
		m.TimeoutSeconds = req.TimeoutSeconds
		m.Ask = req.Ask && !m.Profile.AlwaysOn
		return &m
	}
	return nil
}

// refuseProfile says what a client's profile must not have.
func (d *Daemon) refuseProfile(p *app.Profile) *app.Failure {
	for _, key := range []struct {
		name string
		set  bool
	}{{"always_on", p.AlwaysOn}, {"secret_file", p.SecretFile != ""}} {
		if key.set {
			return app.NewFailure(app.CodeUsage, "", key.name+" is for profiles that the administrator places in "+ManagedDir(), "leave it out")
		}
	}
	if p.BlockOutside && d.network == nil {
		return app.NewFailure(app.CodeUsage, "", "block_outside: without the service nothing can be held back", "leave it out, or use wayfarer connect")
	}
	return nil
}
