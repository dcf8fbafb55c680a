package platform

import (
	"context"
	"time"
)

const (
	// clockTime is how often the clocks are compared where nobody tells that the
	// computer has slept.
	clockTime = 30 * time.Second
	// clockJump is how far they differ then, at least. They do not drift.
	clockJump = time.Second
)

// watchClocks reports each growth of slept, at the latest after clockTime, and at once if
// it has grown when there is a hint that something has happened.
func watchClocks(ctx context.Context, slept func() (time.Duration, error), hints <-chan struct{}) <-chan bool {
	sleeps := make(chan bool)
	go func() {
		before, err := slept()
		if err != nil {
			return
		}
		ticker := time.NewTicker(clockTime)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-hints:
			}
			now, err := slept()
			if err != nil || now-before < clockJump {
				continue
			}
			before = now
			select {
			case sleeps <- false:
			case <-ctx.Done():
				return
			}
		}
	}()
	return sleeps
}
