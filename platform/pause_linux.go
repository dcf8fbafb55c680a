package platform

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// pauseLength is how long a pause is, and 50 µs more by the kernel's slack.
	pauseLength = 250 * time.Microsecond
	// pauseSpacing is how far apart datagrams may come, on the average, for a pause: then
	// one lets four and more gather.
	pauseSpacing = 60 * time.Microsecond
	// pauseCount and pauseSize are how many datagrams must have come so, one after the
	// other, and how large they must have been, in bytes on the average of a call.
	pauseCount = 4
	pauseSize  = 512
)

// pauses says when a reader waits a moment before it looks for more, as a network card does
// before it interrupts.
//
// A gateway that sends each datagram by itself wakes its reader for nearly each of them.
// That costs several times what a datagram does, and the host, too, gets each by itself. So
// amid a dense stream of large ones, a download, the reader looks a little later. What comes
// meanwhile waits until then, the small as well, at most about 0.3 ms: nowhere else does a
// packet wait for others. After runs, what is small, or what comes now and then, there is no
// pause.
type pauses struct {
	dense int       // so many datagrams have come closely; up to pauseCount
	last  time.Time // when the last call gave something
	rest  func()    // is what it does
}

// pausing is whether some reader of this process rests. Meanwhile it keeps one of the
// processors that Go's scheduler has, so there must be another.
var pausing atomic.Bool

// gave notes what a call has given, just now, to a reader that had room for so many.
func (p *pauses) gave(now time.Time, room int, sizes, segments []int) {
	n, total, single := len(sizes), 0, true
	for i, size := range sizes {
		total += size
		single = single && size == segments[i]
	}
	closely := now.Sub(p.last) < time.Duration(n)*pauseSpacing
	p.last = now
	if single && closely && n < room && total >= n*pauseSize { // with no room there are more
		p.dense = min(p.dense+n, pauseCount)
	} else {
		p.dense = 0
	}
}

// pause rests, if that pays.
func (p *pauses) pause() {
	if p.dense == pauseCount && runtime.GOMAXPROCS(0) > 1 && pausing.CompareAndSwap(false, true) {
		p.rest()
		pausing.Store(false)
	}
}

// rest waits in the kernel, without the knowledge of Go's scheduler: with a timer of Go's the
// stream costs half as much again as without pauses, for its poller goes on waking up for
// each datagram, and with a call that the scheduler knows of as much as without. A signal,
// such as the runtime's when it stops all goroutines, ends the pause.
func rest() {
	length := unix.NsecToTimespec(int64(pauseLength))
	_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&length)), 0, 0)
}
