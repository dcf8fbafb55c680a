package platform

import (
	"context"
	"log/slog"
	"time"
)

const (
	// clockTime is how often the clocks are compared where nobody tells that the
	// computer has slept, nor that a clock has jumped.
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
// whenever one of them jumps, which a sleep makes one do; whenever there is a hint that
// something has happened; and every clockTime once nobody tells of either (told and jumps are
// nil or closed). A wake that they were the first to see is reported once. One of a sleep that
// told has told is left to it, as far as jumps go: that is when the computer is ready again.
func watchSleep(ctx context.Context, log *slog.Logger, slept func() (time.Duration, error), told <-chan bool, jumps, hints <-chan struct{}) <-chan bool {
	sleeps := make(chan bool)
	clocks := sleepClocks{slept: slept}
	clocks.slid() // from now on
	go func() {
		var tick <-chan time.Time
		last := false // what told told
		seen := false // a wake, since anything was told
		for {
			if told == nil && jumps == nil && tick == nil {
				tick = time.After(clockTime)
			}
			asleep, news := false, false
			select {
			case <-ctx.Done():
				return
			case is, open := <-told:
				slid := clocks.slid()
				if !open {
					log.Debug("network: nobody tells of sleep any more, the clocks do")
					told, last, news = nil, false, slid
					break
				}
				asleep, last, news, seen = is, is, is || slid || !seen, false
			case _, open := <-jumps:
				if !open {
					log.Debug("network: nobody tells that a clock jumps, so they are compared now and then")
					jumps = nil
				}
				if !last {
					news = clocks.slid()
					seen = seen || news
				}
			case <-tick:
				tick, news = nil, clocks.slid()
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
