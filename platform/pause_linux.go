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
	pauseLength = 100 * time.Microsecond
	// pauseCount and pauseSize are how many datagrams a call must have given, and how
	// large they must have been on the average, in bytes, for a pause before the next.
	pauseCount = 2
	pauseSize  = 512
)

// pauses says when a reader waits a moment before it looks for more, as a network card does
// before it interrupts.
//
// A gateway that sends each datagram by itself wakes its reader for nearly each of them.
// That costs several times what a datagram does, and the host, too, gets each by itself. So
// amid a dense stream of large ones, a download, the reader looks a little later. What comes
// meanwhile waits until then, the small as well; after runs, what is small, or what came
// alone, there is no pause.
type pauses struct {
	dense bool   // the last call gave several datagrams, singly, and there were no more
	rest  func() // is what it does
}

// pausing is whether some reader of this process rests. Meanwhile it keeps one of the
// processors that Go's scheduler has, so there must be another.
var pausing atomic.Bool

// gave notes what a call has given to a reader that had room for so many.
func (p *pauses) gave(room int, sizes, segments []int) {
	total := 0
	p.dense = len(sizes) >= pauseCount && len(sizes) < room
	for i, size := range sizes {
		total += size
		p.dense = p.dense && size == segments[i]
	}
	p.dense = p.dense && total >= pauseSize*len(sizes)
}

// pause rests, if that pays.
func (p *pauses) pause() {
	if p.dense && runtime.GOMAXPROCS(0) > 1 && pausing.CompareAndSwap(false, true) {
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
