package daemon

import (
	"context"

	"wayfarer/platform"
)

// watchHost hears of what happens to the host until the returned function is called.
func (d *Daemon) watchHost() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	events, err := d.network.Watch(ctx)
	if err != nil {
		cancel()
		d.log.Warn("changes of this computer's network are not noticed", "error", err)
		return func() {}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range events {
			d.hostChanged(ctx, event)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// hostChanged gives every connection a chance to find a new way at once, and makes the
// host's network as wished again.
func (d *Daemon) hostChanged(ctx context.Context, event platform.Event) {
	d.log.Info("this computer's network has changed", "event", event.Kind)
	switch event.Kind {
	case platform.EventSleep:
		return // what is lost by it is found when it wakes up
	case platform.EventNames, platform.EventTaken: // the way to the gateways is the same
	default:
		d.portals.forget()
		d.mu.Lock()
		for _, t := range d.tunnels {
			t.nudge()
		}
		d.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	if err := d.reapply(ctx); err != nil {
		d.log.Error("this computer's network could not be set up again", "error", err)
	}
}

// online says whether an attempt can reach anybody.
func (d *Daemon) online() bool { return d.network == nil || d.network.Online() }
