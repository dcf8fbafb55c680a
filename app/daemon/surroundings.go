package daemon

import (
	"context"
	"log/slog"

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
	level := slog.LevelInfo
	if event.Kind == platform.EventTaken && d.isOutdated() {
		level = slog.LevelDebug // it is said again and again
	}
	d.log.Log(ctx, level, "this computer's network has changed", "event", event.Kind)
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
	d.reapply(ctx)
}

// isOutdated says whether the host's network could not be made as wished once more.
func (d *Daemon) isOutdated() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen.outdated != ""
}

// online says whether an attempt can reach anybody.
func (d *Daemon) online() bool { return d.network == nil || d.network.Online() }
