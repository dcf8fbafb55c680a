//go:build cgo && x11

package main

import (
	"context"
	"os"
	"time"

	"fyne.io/fyne/v2"
	"github.com/go-gl/glfw/v3.4/glfw"
	"golang.org/x/sys/unix"
)

// Times of the rest.
const (
	// restTime is how long Fyne's loop rests at once, and with it what other goroutines
	// want of it. Each rest costs too: for a while, Go's scheduler looks after the
	// thread that is gone into C.
	restTime = 500 * time.Millisecond
	// turnTime lets the loop draw what has come, at its own pace of 60 turns a second.
	turnTime = 20 * time.Millisecond
	// liveTime is how long the loop keeps its pace after the display had an event, so
	// that what a person sets going runs smoothly.
	liveTime = time.Second
)

// rest has Fyne's loop wait for the display while still says that nothing moves. By
// itself the loop turns 60 times a second, also with a window that is hidden or changes
// once a second, and that costs more than all else that the window does then. An event
// ends the wait.
func rest(ctx context.Context, still func() bool) {
	for ctx.Err() == nil {
		pause := liveTime
		if still() {
			fyne.DoAndWait(func() {
				if unix.Gettid() != os.Getpid() {
					return // the loop is over, and with it the display
				}
				began := time.Now()
				glfw.WaitEventsTimeout(restTime.Seconds())
				if time.Since(began) >= restTime {
					pause = turnTime
				}
			})
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}
