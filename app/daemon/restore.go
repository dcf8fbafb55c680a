package daemon

import (
	"context"
	"errors"
	"fmt"

	"wayfarer/app"
	"wayfarer/platform"
)

// RestoreNetwork undoes what is left on the host: what an earlier service left, and
// what could not be taken away when a connection ended. While there are connections it
// refuses, for what they have must stay.
func (d *Daemon) RestoreNetwork(ctx context.Context) *app.Failure {
	if d.network == nil {
		return nil
	}
	select {
	case d.host <- struct{}{}:
		defer func() { <-d.host }()
	case <-ctx.Done():
		return app.NewFailure(app.CodeCancelled, "", "the network is being changed", "try again")
	}
	if n := d.alive(); n > 0 {
		return app.NewFailure(app.CodeUsage, "", fmt.Sprintf("connections are in use (%d)", n),
			"`wayfarer disconnect` ends them and restores the network; an administrator's ends everybody's")
	}
	err := d.network.Set(ctx, platform.Config{})
	if err = errors.Join(err, d.network.Recover(ctx, false)); err != nil {
		return app.NewFailure(app.CodeNetworkConfig, "", fmt.Sprintf("not everything could be undone: %v", err),
			"look at the log of the service, and try again")
	}
	d.log.Info("the network is restored")
	return nil
}

// alive counts the connections that have a part of the host, or may get one.
func (d *Daemon) alive() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, t := range d.tunnels {
		if !t.hasEnded() {
			n++
		}
	}
	return n
}
