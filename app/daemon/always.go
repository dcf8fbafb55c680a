package daemon

import "wayfarer/app"

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
