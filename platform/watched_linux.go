package platform

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watched is a socket that the runtime's poller does not watch itself: that would wake a
// thread of the program for what comes while the reader rests, or has much in hand, and will
// look again anyway. So the poller watches two descriptors of epoll(7) in its place, and these
// watch the socket only as long as they are asked to, but for errors. Before Linux 5.5 an epoll
// tells again and again of a socket that is watched and ready, until it has been read.
//
// It is a [syscall.RawConn] whose calls return net.ErrClosed once it is closed.
type watched struct {
	fd      int
	in, out waiting
	closed  atomic.Bool
	close   func() error // closeNow, once
}

// waiting is for one direction of a socket.
type waiting struct {
	mu       sync.Mutex // held by the one that calls or waits
	fd       int
	file     *os.File                 // an epoll of the socket alone
	conn     syscall.RawConn          // of the file
	events   uint32                   // that are waited for
	shortly  bool                     // watching ends with each call
	watching bool                     // for the events
	call     func(epoll uintptr) bool // try; made once
	watchNot func(epoll uintptr)      // watch for nothing but errors; made once
	do       func(fd uintptr) bool
	event    unix.EpollEvent
}

// takeOver makes a second descriptor of a socket. Once the first is closed, the runtime's poller
// does not watch the socket any more.
func takeOver(conn syscall.Conn) (*watched, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &watched{out: waiting{shortly: true}} // for the kernel tells of room whenever a datagram has left
	var failed error
	err = raw.Control(func(fd uintptr) { w.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, os.NewSyscallError("fcntl", failed)); err != nil {
		return nil, err
	}
	w.close = sync.OnceValue(w.closeNow)
	err = errors.Join(w.in.open(w.fd, unix.EPOLLIN), w.out.open(w.fd, unix.EPOLLOUT))
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *waiting) open(fd int, events uint32) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	w.fd, w.events, w.call = fd, events, w.try
	w.watchNot = func(epoll uintptr) { w.watch(epoll, 0) }
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{})
	if err == nil {
		err = unix.SetNonblock(epoll, true) // or the runtime's poller would not watch it
	}
	if err != nil {
		unix.Close(epoll)
		return os.NewSyscallError("epoll_ctl", err)
	}
	w.file = os.NewFile(uintptr(epoll), "socket")
	if err = w.file.SetReadDeadline(time.Time{}); err != nil { // refused for what Go's poller does not watch
		return err
	}
	w.conn, err = w.file.SyscallConn()
	return err
}

// wait calls do until it reports true, each time that the socket may be ready.
func (w *waiting) wait(do func(fd uintptr) bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.do = do
	err := w.conn.Read(w.call)
	if w.shortly {
		w.ignore()
	}
	return err
}

// try calls what waits, and has the socket watched if that was in vain. It is called again
// then: the epoll lists the socket as ready since it told so last, for nobody takes that from
// it, and of one that is listed it does not tell when watching begins.
func (w *waiting) try(epoll uintptr) bool {
	for {
		if w.do(uintptr(w.fd)) {
			return true
		}
		if w.watching {
			return false
		}
		w.watch(epoll, w.events)
	}
}

func (w *waiting) watch(epoll uintptr, events uint32) {
	w.watching, w.event.Events = events != 0, events
	// It cannot fail, for the epoll has the socket.
	_, _, _ = syscall.RawSyscall6(unix.SYS_EPOLL_CTL, epoll, unix.EPOLL_CTL_MOD, uintptr(w.fd), uintptr(unsafe.Pointer(&w.event)), 0, 0)
}

// quiet ends watching, until the next call is in vain.
func (w *waiting) quiet() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ignore()
}

func (w *waiting) ignore() {
	if w.watching {
		_ = w.conn.Control(w.watchNot)
	}
}

// error is err as users of sockets know it.
func (w *watched) error(err error) error {
	if err != nil && w.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// Read calls f until it reports true, each time that something may have come. One such call
// is made at a time.
func (w *watched) Read(f func(fd uintptr) bool) error { return w.error(w.in.wait(f)) }

// Write calls f until it reports true, each time that there may be room.
func (w *watched) Write(f func(fd uintptr) bool) error { return w.error(w.out.wait(f)) }

// Control calls f.
func (w *watched) Control(f func(fd uintptr)) error {
	return w.error(w.in.conn.Control(func(uintptr) { f(uintptr(w.fd)) }))
}

// SetReadDeadline ends calls of Read.
func (w *watched) SetReadDeadline(t time.Time) error { return w.error(w.in.file.SetReadDeadline(t)) }

// SetWriteDeadline ends calls of Write.
func (w *watched) SetWriteDeadline(t time.Time) error { return w.error(w.out.file.SetReadDeadline(t)) }

// Close closes the socket, and ends calls that wait.
func (w *watched) Close() error {
	w.closed.Store(true)
	return w.close()
}

// closeNow closes the socket after the files, whose Close returns when they, and so the
// socket, are no longer used.
func (w *watched) closeNow() error {
	for _, one := range []*waiting{&w.in, &w.out} {
		if one.file != nil {
			one.file.Close()
		}
	}
	return os.NewSyscallError("close", unix.Close(w.fd))
}
