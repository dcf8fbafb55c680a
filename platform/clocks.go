package platform

import (
	"context"
	"log/slog"
	"time"
)

const (
	// clockTime is how often the clocks are compared where nobody tells that the
	// computer has slept.
	clockTime = 30 * time.Second
	// clockJump is how far they differ then, at least. They do not drift.
	clockJump = time.Second
)

// newSleeps is a channel of what a system tells of sleep (true: will sleep; false: has
// slept). Whoever tells it must not be kept waiting, so the last thing told counts.
func newSleeps() (_ chan bool, tell func(asleep bool)) {
	told := make(chan bool, 1)
	return told, func(asleep bool) {
		select {
		case <-told:
		default:
		}
		select {
		case told <- asleep:
		default:
		}
	}
}

// sleepClocks see sleep by how far a clock that goes on meanwhile gets ahead of one that
// does not.
type sleepClocks struct {
	slept  func() (time.Duration, error)
	before time.Duration
}

// slid says whether the computer has slept since it was asked last.
func (c *sleepClocks) slid() bool {
	now, err := c.slept()
	if err != nil || now-c.before < clockJump {
		return false
	}
	c.before = now
	return true
}

// watchSleep passes on what told tells for as long as that is open. The clocks are compared
// whenever there is a hint that something has happened, and every clockTime once nobody tells
// (told is nil or closed); wakeAt is told when that will be next. A wake that they were the
// first to see is reported once.
func watchSleep(ctx context.Context, log *slog.Logger, slept func() (time.Duration, error), told <-chan bool, hints <-chan struct{}, wakeAt func(time.Time)) <-chan bool {
	sleeps := make(chan bool)
	clocks := sleepClocks{slept: slept}
	clocks.slid() // from now on
	next := func() <-chan time.Time {
		wakeAt(time.Now().Add(clockTime))
		return time.After(clockTime)
	}
	go func() {
		var tick <-chan time.Time
		if told == nil {
			tick = next()
		}
		seen := false // a wake, since anything was told
		for {
			asleep, news := false, false
			select {
			case <-ctx.Done():
				return
			case is, open := <-told:
				if !open {
					log.Debug("network: nobody tells of sleep any more, the clocks do")
					told, tick = nil, next()
					continue
				}
				slid := clocks.slid()
				asleep, news, seen = is, is || slid || !seen, false
			case <-tick:
				tick, news = next(), clocks.slid()
			case <-hints:
				news = clocks.slid()
				seen = seen || news
			}
			if !news {
				continue
			}
			select {
			case sleeps <- asleep:
			case <-ctx.Done():
				return
			}
		}
	}()
	return sleeps
}
