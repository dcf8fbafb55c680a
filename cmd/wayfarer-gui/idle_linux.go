//go:build cgo && x11

package main

import (
	"context"
	"os"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/systray"
	"github.com/go-gl/glfw/v3.4/glfw"
	"golang.org/x/sys/unix"
)

// Times of the rest.
const (
	// restTime is how long Fyne's loop rests at once, and with it what others than the
	// window want of it: Fyne itself, on a click in the tray's menu. Each rest costs too:
	// for a while, Go's scheduler looks after the thread that is gone into C.
	restTime = 500 * time.Millisecond
	// turnTime lets the loop draw what has come, at its own pace of 60 turns a second.
	turnTime = 20 * time.Millisecond
	// liveTime is how long the loop keeps its pace after the display had an event, so
	// that what a person sets going runs smoothly.
	liveTime = time.Second
	// menuTime is the same after the tray's menu was opened, for the click to come.
	menuTime = 10 * time.Second
)

// rest has Fyne's loop wait for the display while nothing moves. By itself the loop turns
// 60 times a second, also with a window that is hidden or changes once a second, and that
// costs more than all else that the window does then.
type rest struct {
	mu      sync.Mutex
	resting bool      // the display's library is there
	woken   bool      // something is to be done, or drawn
	opened  time.Time // the tray's menu, last
}

// wake has the loop do at once what it was given.
func (r *rest) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.woken = true
	if r.resting {
		glfw.PostEmptyEvent()
	}
}

// run lets the loop rest whenever still says that nothing moves, until ctx ends.
func (r *rest) run(ctx context.Context, still func() bool) {
	go r.watchMenu(ctx)
	for ctx.Err() == nil {
		pause := liveTime
		if still() && !r.choosing() {
			fyne.DoAndWait(func() { pause = r.once() })
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// watchMenu wakes the loop when the tray's menu is opened, since what is chosen there
// comes without a word to wake.
func (r *rest) watchMenu(ctx context.Context) {
	for {
		select {
		case <-systray.TrayOpenedCh:
			r.mu.Lock()
			r.opened = time.Now()
			r.mu.Unlock()
			r.wake()
		case <-ctx.Done():
			return
		}
	}
}

// choosing says whether the tray's menu may be open.
func (r *rest) choosing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.opened) < menuTime
}

// once rests, on Fyne's goroutine, until something happens. It returns for how long the
// loop has to turn now.
func (r *rest) once() time.Duration {
	if unix.Gettid() != os.Getpid() {
		return liveTime // the loop is over, and with it the display
	}
	r.mu.Lock()
	woken := r.woken
	r.resting, r.woken = !woken, false
	r.mu.Unlock()
	if woken {
		return turnTime
	}
	began := time.Now()
	glfw.WaitEventsTimeout(restTime.Seconds())
	r.mu.Lock()
	woken = r.woken
	r.resting, r.woken = false, false
	r.mu.Unlock()
	if woken || time.Since(began) >= restTime {
		return turnTime
	}
	return liveTime
}
