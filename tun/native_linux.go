package tun

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// native is an interface that the library has made. Its packets pass through the file
// whole, as the host gives and takes them: the library would copy each segment.
//
// The calls are raw ones, on descriptors that do not block and that the runtime's poller
// watches: telling the scheduler of each costs a tenth of the speed.
//
// The host's packets wait in several queues, which are read in turn: a key that was pressed
// does not stand behind the megabytes of an upload. The kernel puts a packet into the queue
// by which the last one of its connection was handed over, and those of a connection that is
// new, or has heard nothing for three seconds, into any (tun_automq_select_queue): one
// question in four to a name server does stand behind the upload.
type native struct {
	wgtun.Device
	conn   syscall.RawConn // of the library's file, which is the first queue's
	waits  *os.File        // an epoll that watches them all
	closed atomic.Bool
	close  func() error // made once

	in       reading
	splitter splitter
	out      writing
	coalesce coalescer
}

// maxQueues is how many queues an interface has: one for all but TCP, and others among
// which connections of TCP are spread.
const maxQueues = 4

// reading is the state of Read.
type reading struct {
	conn   syscall.RawConn // that of waits
	queues []int
	turn   int // the queue that is next
	buf    []byte
	wait   bool // for a packet
	n      int
	errno  unix.Errno
	call   func(uintptr) bool // try; made once
}

// writing is the state of Write.
type writing struct {
	queues  []int
	queue   int // by which this one goes
	vectors [maxCoalesced + 1]unix.Iovec
	count   int
	errno   unix.Errno
	call    func(uintptr) bool // try; made once
}

// newNative takes an interface that was made of the first of its queues' descriptors.
func newNative(dev wgtun.Device, queues []int) (*native, error) {
	conn, err := dev.File().SyscallConn()
	if err != nil {
		return nil, err
	}
	n := &native{Device: dev, conn: conn}
	n.close = sync.OnceValue(n.closeNow)
	if n.waits, err = watchAll(queues); err != nil {
		return nil, err
	}
	if n.in.conn, err = n.waits.SyscallConn(); err != nil {
		n.waits.Close()
		return nil, err
	}
	n.in.queues, n.out.queues = queues, queues
	n.in.buf = make([]byte, offloadLen+MaxMTU+1+Tailroom)
	n.in.call, n.out.call = n.in.try, n.out.try
	n.coalesce.write, n.coalesce.udp = n.write, takesDatagrams(conn)
	return n, nil
}

// takesDatagrams says whether the host takes datagrams that were put together: Linux 6.2
// and later. It asks for what the library has asked for already.
func takesDatagrams(conn syscall.RawConn) bool {
	const all = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6
	var refused error
	err := conn.Control(func(fd uintptr) { refused = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, all) })
	return err == nil && refused == nil
}

// watchAll makes a file that can be read when one of the queues can.
func watchAll(queues []int) (*os.File, error) {
	all, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	for _, fd := range queues {
		if err := unix.EpollCtl(all, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			unix.Close(all)
			return nil, os.NewSyscallError("epoll_ctl", err)
		}
	}
	if err := unix.SetNonblock(all, true); err != nil { // or the runtime's poller would not watch it
		unix.Close(all)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(all), "tun queues"), nil
}

// try reads from the queue whose turn it is, or else from the next that has a packet.
func (r *reading) try(uintptr) bool {
	for range r.queues {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(r.queues[r.turn]), uintptr(unsafe.Pointer(unsafe.SliceData(r.buf))), uintptr(len(r.buf)-Tailroom))
		r.n, r.errno = int(n), errno
		if errno != unix.EAGAIN {
			return true
		}
		r.next()
	}
	return !r.wait
}

func (r *reading) next() { r.turn = (r.turn + 1) % len(r.queues) }

// Read implements Device. It returns as soon as nothing waits, so that what it has given
// can be sent; and after readAtOnce, when it is another queue's turn.
func (n *native) Read(take func(packet []byte)) error {
	r := &n.in
	r.wait = true
	for total := 0; total < readAtOnce; total += r.n {
		err := r.conn.Read(r.call)
		switch {
		case err == nil && r.errno == 0:
		case err == nil && r.errno == unix.EAGAIN:
			return nil
		case err == nil && r.errno == unix.EINTR:
			r.n = 0
			continue
		case n.closed.Load():
			return os.ErrClosed
		case n.removed():
			return ErrRemoved
		case err == nil:
			return os.NewSyscallError("read", r.errno)
		default:
			return err
		}
		r.wait = false
		// A packet that the host has not described well is lost, as on any link.
		_ = n.splitter.split(r.buf, r.n, take)
	}
	r.next()
	return nil
}

// removed says whether the interface is gone though the device is still open.
func (n *native) removed() bool {
	gone := false
	err := n.conn.Control(func(fd uintptr) {
		var ifr unix.Ifreq
		gone = errors.Is(unix.IoctlIfreq(int(fd), unix.TUNGETIFF, &ifr), unix.EBADFD)
	})
	return err == nil && gone
}

func (w *writing) try(uintptr) bool {
	_, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, uintptr(w.queues[w.queue]), uintptr(unsafe.Pointer(&w.vectors[0])), uintptr(w.count))
	w.errno = errno
	return errno != unix.EAGAIN
}

// write hands a packet to the host.
func (n *native) write(parts [][]byte) error {
	w := &n.out
	for i, p := range parts {
		w.vectors[i].Base = unsafe.SliceData(p)
		w.vectors[i].SetLen(len(p))
	}
	w.count = len(parts)
	w.queue = queueOf(parts, len(w.queues))
	err := n.conn.Write(w.call)
	if err == nil && w.errno != 0 {
		err = os.NewSyscallError("writev", w.errno)
	}
	return err
}

// Write implements Device.
func (n *native) Write(packets [][]byte) error {
	for _, p := range packets {
		n.coalesce.add(p)
	}
	err := n.coalesce.flush()
	if err != nil && n.closed.Load() {
		return os.ErrClosed
	}
	return err
}

// queueOf is the queue, of so many, by which a packet goes that stands behind its offload
// header.
func queueOf(parts [][]byte, queues int) int {
	p := parts[0][offloadLen:]
	if len(p) == 0 {
		p = parts[1]
	}
	u, _ := unitOf(p)
	if u.proto != protoTCP || len(p) < u.transport+4 {
		return 0
	}
	ports := int(binary.BigEndian.Uint16(p[u.transport:])) + int(binary.BigEndian.Uint16(p[u.transport+2:]))
	return 1 + ports%(queues-1)
}

// Close implements Device.
func (n *native) Close() error {
	n.closed.Store(true)
	return n.close()
}

// closeNow closes all files. A file's Close returns when it is no longer used: who reads
// the queues uses the one, who writes to them the other.
func (n *native) closeNow() error {
	n.waits.Close()
	err := n.Device.Close()
	closeAll(n.in.queues[1:])
	return err
}
