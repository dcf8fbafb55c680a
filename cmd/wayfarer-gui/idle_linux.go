//go:build cgo && x11

package main

// #include <X11/Xlib.h>
import "C"

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"fyne.io/fyne/v2"
	"fyne.io/systray"
	"github.com/go-gl/glfw/v3.4/glfw"
	"golang.org/x/sys/unix"
)

// Times of the rest.
const (
	// restTime is how long Fyne's loop rests at once, and with it what others than the
	// window want of it.
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
	// Of the display's connection; nil: not opened yet.
	file   *os.File
	events syscall.RawConn

	mu      sync.Mutex
	resting bool
	woken   bool      // something is to be done, or drawn
	opened  time.Time // the tray's menu, last
	touched time.Time // the window, last: the display had an event
}

// untouched is how long the display had no event.
func (r *rest) untouched() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.touched)
}

// wake has the loop do at once what it was given.
func (r *rest) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.woken = true
	if r.resting {
		r.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// run lets the loop rest whenever still says that nothing moves, until ctx ends.
func (r *rest) run(ctx context.Context, still func() bool) {
	go r.watchMenu(ctx)
	for ctx.Err() == nil {
		pause := liveTime
		switch {
		case !still():
			r.touch() // something goes on
		case !r.choosing():
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
	display := (*C.Display)(unsafe.Pointer(glfw.GetX11Display()))
	if C.XPending(display) > 0 {
		r.touch()
		return liveTime
	}
	if r.events == nil && r.open(int(C.XConnectionNumber(display))) != nil {
		return liveTime
	}
	if !r.lie() {
		return turnTime
	}
	_ = r.events.Read(readable) // until the end of the time, too
	r.mu.Lock()
	r.resting, r.woken = false, false
	r.mu.Unlock()
	if C.XPending(display) > 0 { // else it was the end of a frame
		r.touch()
		return liveTime
	}
	return turnTime
}

func (r *rest) touch() {
	r.mu.Lock()
	r.touched = time.Now()
	r.mu.Unlock()
}

// lie begins a rest, unless there is something to do.
func (r *rest) lie() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resting, r.woken = !r.woken, false
	if r.resting {
		r.resting = r.file.SetReadDeadline(time.Now().Add(restTime)) == nil
	}
	return r.resting
}

// open has Go's scheduler wait for the display: waiting in C would keep it busy, looking
// after the thread that is gone.
func (r *rest) open(connection int) error {
	fd, err := unix.FcntlInt(uintptr(connection), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.file = os.NewFile(uintptr(fd), "display")
	r.events, err = r.file.SyscallConn()
	return err
}

// readable says whether a file has something to read.
func readable(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}
