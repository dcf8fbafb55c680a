package daemon

import (
	"context"
	"errors"
	"time"

	"wayfarer/app"
	"wayfarer/platform"
	"wayfarer/tun"
)

// restoreTimeout bounds what a stuck host service may cost a disconnect.
const restoreTimeout = 15 * time.Second

// link is what a connection has of the host.
type link struct {
	config TUNConfig
	device tun.Device
	name   string
	host   *platform.Tunnel // nil until applied
	pump   *pump
}

// hold puts up the leak block that the profile wants: before the first packet of an
// attempt leaves, and for as long as the connection lives.
func (t *tunnel) hold(ctx context.Context) error {
	if !t.profile.BlockOutside || t.isHeld() {
		return nil
	}
	if err := t.daemon.change(ctx, t, func(w *wish) { w.block, w.local = true, t.profile.LocalNetwork }); err != nil {
		return err
	}
	t.update(func() { t.held = true })
	return nil
}

func (t *tunnel) isHeld() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}

// dropTunnel leaves of a wish the block.
func dropTunnel(w *wish) { w.tunnel = nil }

// dropAll leaves nothing of a wish.
func dropAll(w *wish) { *w = wish{owner: w.owner} }

// raise makes interface and host as next says. What is as it should be stays. A link that
// has ended has been dropped before.
func (t *tunnel) raise(ctx context.Context, next settings) error {
	cfg := next.tunConfig()
	if t.link != nil {
		if cfg.Name = t.link.config.Name; !t.link.config.sameButMTU(&cfg) {
			if err := t.lower(dropTunnel); err != nil {
				return err
			}
		}
	}
	if t.link == nil {
		if err := t.open(cfg); err != nil {
			return err
		}
	}
	t.link.pump.setLimit(next.limit)
	want := next.tunnel(t.link.name)
	if t.link.host == nil || !sameTunnel(t.link.host, &want) || t.searching.Load() {
		if err := t.daemon.change(ctx, t, func(w *wish) {
			w.tunnel, w.local = &want, t.profile.LocalNetwork
			t.shut(w)
		}); err != nil {
			return err
		}
		t.link.host = &want
	}
	if err := t.link.setMTU(cfg.MTU); err != nil {
		return err
	}
	t.update(func() { t.tun = &app.TUN{Name: t.link.name, MTU: cfg.MTU} })
	t.settings = next
	return nil
}

// dropEnded gives back a link whose interface somebody has taken away: a session that
// got it would be connected and carry nothing.
func (t *tunnel) dropEnded() error {
	if t.link == nil || !t.link.pump.hasEnded() {
		return nil
	}
	return t.lower(dropTunnel)
}

// setMTU tells a device that is no interface of the operating system its MTU.
func (l *link) setMTU(mtu int) error {
	if l.config.MTU == mtu {
		return nil
	}
	if d, ok := l.device.(interface{ SetMTU(int) error }); ok {
		if err := d.SetMTU(mtu); err != nil {
			return &hostError{err: err}
		}
	}
	l.config.MTU = mtu
	return nil
}

// opened is an interface that has been made, or why it could not be.
type opened struct {
	taken  string // the name that was proposed
	name   string
	device tun.Device
	err    error
}

// makeTUN makes an interface and takes a name for it.
func (d *Daemon) makeTUN(cfg TUNConfig) opened {
	cfg.Name = d.takeName()
	device, err := d.openTUN(cfg)
	if err != nil {
		d.giveName(cfg.Name)
		return opened{err: &hostError{err: err}}
	}
	o := opened{taken: cfg.Name, device: device}
	if o.name, err = device.Name(); err != nil {
		d.discard(o)
		return opened{err: &hostError{err: err}}
	}
	return o
}

// discard gives back an interface that nobody uses.
func (d *Daemon) discard(o opened) {
	if o.device == nil {
		return
	}
	if err := o.device.Close(); err != nil {
		d.log.Warn("an interface that was not needed cannot be closed", "interface", o.name, "error", err)
	}
	d.giveName(o.taken)
}

// openAhead begins to make the interface that a connection will need, while the gateway
// tells with which settings: it has signed in, so nothing is asked any more. An interface
// of the operating system gets them afterwards.
func (t *tunnel) openAhead() {
	if !t.daemon.opensAhead || t.link != nil || t.ahead != nil {
		return
	}
	ahead := make(chan opened, 1)
	t.ahead = ahead
	go func() { ahead <- t.daemon.makeTUN(TUNConfig{MTU: tun.MinIPv6MTU}) }()
}

// dropAhead gives back what openAhead has made.
func (t *tunnel) dropAhead() {
	if t.ahead != nil {
		t.daemon.discard(<-t.ahead)
		t.ahead = nil
	}
}

func (t *tunnel) open(cfg TUNConfig) error {
	var o opened
	if t.ahead != nil {
		o = <-t.ahead
		t.ahead = nil
	} else {
		o = t.daemon.makeTUN(cfg)
	}
	if o.err != nil {
		return o.err
	}
	cfg.Name = o.taken
	t.link = &link{config: cfg, device: o.device, name: o.name, pump: newPump(o.device, cfg.MTU, t.log)}
	return nil
}

// lower gives back what raise took, and what else drop takes from the wish. It closes the
// interface also if the host could not be restored: that takes its addresses and routes
// away.
func (t *tunnel) lower(drop func(*wish)) error {
	ctx, cancel := context.WithTimeout(context.Background(), restoreTimeout)
	defer cancel()
	err := t.daemon.change(ctx, t, func(w *wish) {
		drop(w)
		t.shut(w)
	})
	if t.link == nil {
		return err
	}
	if cerr := t.link.device.Close(); cerr != nil {
		err = errors.Join(err, &hostError{err: cerr})
	}
	t.link.pump.wait()
	t.daemon.giveName(t.link.config.Name)
	t.link = nil
	t.update(func() { t.tun = nil })
	return err
}
