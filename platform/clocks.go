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

// watchClocks reports each growth of slept.
func watchClocks(ctx context.Context, slept func() (time.Duration, error)) <-chan bool {
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
