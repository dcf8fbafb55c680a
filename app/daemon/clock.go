package daemon

import (
	"sync"
	"time"
)

// clock measures an attempt without the time in which its user thinks.
type clock struct {
	mu    sync.Mutex
	timer *time.Timer
	over  bool
	left  time.Duration
	since time.Time // when left was true
}

// newClock starts a clock that calls expired after d of counted time.
func newClock(d time.Duration, expired func()) *clock {
	return &clock{timer: time.AfterFunc(d, expired), left: d, since: time.Now()}
}

// hold stops the clock until release.
func (c *clock) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over && c.timer.Stop() {
		c.left -= time.Since(c.since)
	}
}

func (c *clock) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.since = time.Now()
	c.timer.Reset(c.left)
}

// stop stops the clock for good.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.timer.Stop()
}
