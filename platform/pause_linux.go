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
	// one lets two and more gather. A gateway that has to share its processors is slowed
	// down by what it wakes, and for as long as a reader takes each datagram by itself, its
	// stream comes this slowly.
	pauseSpacing = 125 * time.Microsecond
	// pauseGap is how long a gap may be for some of what was before it to count.
	pauseGap = time.Millisecond
	// pauseCount and pauseSize are how many datagrams must have come so, and how large they
	// must have been, in bytes on the average of a call.
	pauseCount = 4
	pauseSize  = 512
	// muchInHand is with how many bytes a reader is busy for longer than it takes to wake one
	// that waits.
	muchInHand = 8 << 10
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
	dense int       // so many datagrams have come closely, up to pauseCount; a short gap leaves half
	more  bool      // the last call could not give all that waited
	last  time.Time // when it gave something
	rest  func()    // is what it does
}

// pausing is whether some reader of this process rests. Meanwhile it keeps one of the
// processors that Go's scheduler has, so there must be another.
var pausing atomic.Bool

// gave notes what a call has given, just now, to a reader that had room for so many, and
// whether that is much.
func (p *pauses) gave(now time.Time, room int, sizes, segments []int) (much bool) {
	n, total, single := len(sizes), 0, true
	for i, size := range sizes {
		total += size
		single = single && size == segments[i]
	}
	gap := now.Sub(p.last)
	p.last, p.more = now, n == room
	switch {
	case !single || total < n*pauseSize:
		p.dense = 0
	case gap < time.Duration(n)*pauseSpacing:
		p.dense = min(p.dense+n, pauseCount)
	case gap < pauseGap:
		p.dense /= 2
	default:
		p.dense = 0
	}
	return total >= muchInHand
}

// pause rests, if that pays.
func (p *pauses) pause() {
	if p.dense == pauseCount && !p.more && runtime.GOMAXPROCS(0) > 1 && pausing.CompareAndSwap(false, true) {
		p.rest()
		pausing.Store(false)
	}
}

// rest waits in the kernel, without the knowledge of Go's scheduler: with a timer of Go's the
// stream costs half as much again as without pauses, and with a call that the scheduler knows
// of as much as without. Nobody watches the socket meanwhile, but for errors. A signal, such
// as the runtime's when it stops all goroutines, ends the pause.
func (s *pathSocket) rest() {
	s.raw.in.quiet()
	length := unix.NsecToTimespec(int64(pauseLength))
	_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&length)), 0, 0)
}
