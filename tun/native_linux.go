package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
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
// question in sixteen to a name server does stand behind the upload.
type native struct {
	wgtun.Device
	conn   syscall.RawConn // of the library's file, which is the first queue's
	waits  *os.File        // an epoll that watches them all
	closed atomic.Bool
	close  func() error // made once

	in       reading
	splitter splitter
	answers  answering
	out      writing
	coalesce coalescer
}

const (
	// maxQueues is how many queues an interface has.
	maxQueues = 16
	// heardQueues is how many of them are for connections whose far end has sent
	// something: one for what has no ports, as pings, and others among which connections
	// of TCP and of UDP are spread, apart from each other: no telephone is put behind
	// uploads by TCP, however many there are. An upload is in none of the rest.
	heardQueues = 1 + tcpQueues + udpQueues
	// Ports of a program are often all even or all odd: the numbers are odd.
	tcpQueues = 7
	udpQueues = 5
)

// reading is the state of Read.
type reading struct {
	conn   syscall.RawConn // that of waits
	queues []int
	turn   int  // the queue that is read
	over   bool // its turn is: the kernel is asked which queues have packets
	ready  [maxQueues]unix.EpollEvent
	buf    []byte
	wait   bool // for a packet
	n      int
	errno  unix.Errno
	call   func(uintptr) bool // try; made once
}

// handing is what it takes to hand a packet to the host.
type handing struct {
	queues  []int
	queue   int // by which this one goes
	vectors [maxCoalesced + 1]unix.Iovec
	count   int
	errno   unix.Errno
}

// writing is the state of Write.
type writing struct {
	handing
	call func(uintptr) bool // try; made once
}

// answering is the state of Answer, beside that of Read.
type answering struct {
	handing
	parts [2][]byte     // the first, an offload header, says that nothing is left to be done
	call  func(uintptr) // try; made once
}

// FromQueues makes a Device, as that of [Open], of an interface whose queues behave as those
// with IFF_VNET_HDR do: 13, among which packets are spread, to 16. Their descriptors do not
// block; dev was made of the first of them. If it takes datagrams, what of UDP belongs
// together is handed over together.
func FromQueues(dev wgtun.Device, queues []int, datagrams bool) (Device, error) {
	if len(queues) < heardQueues || len(queues) > maxQueues {
		return nil, fmt.Errorf("%d queues instead of %d to %d", len(queues), heardQueues, maxQueues)
	}
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
	n.in.queues, n.answers.queues, n.out.queues, n.in.over = queues, queues, queues, true
	n.in.buf = make([]byte, offloadLen+MaxMTU+1+Tailroom)
	n.answers.parts[0] = make([]byte, offloadLen)
	n.in.call, n.answers.call, n.out.call = n.in.try, n.answers.try, n.out.try
	n.coalesce.write, n.coalesce.udp = n.write, datagrams
	return n, nil
}

// takesDatagrams says whether the host takes datagrams that were put together: Linux 6.2
// and later. It asks for what the library has asked for already.
func takesDatagrams(queue int) bool {
	const all = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6
	return unix.IoctlSetInt(queue, unix.TUNSETOFFLOAD, all) == nil
}

// watchAll makes a file that can be read when one of the queues can; it tells their places
// in the list.
func watchAll(queues []int) (*os.File, error) {
	all, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	for i, fd := range queues {
		if err := unix.EpollCtl(all, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
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

// try reads from the queue whose turn it is; once that is empty, from another. It does not
// ask for ever: the queues of an interface that is being removed seem to have packets.
func (r *reading) try(waits uintptr) bool {
	r.errno = unix.EAGAIN
	for range maxQueues {
		if r.over && !r.next(waits) {
			break
		}
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(r.queues[r.turn]), uintptr(unsafe.Pointer(unsafe.SliceData(r.buf))), uintptr(len(r.buf)-Tailroom))
		if errno != unix.EAGAIN {
			r.n, r.errno = int(n), errno
			return true
		}
		r.over = true
	}
	return !r.wait
}

// next makes it the turn of the next queue that has a packet; not of the same, as long as
// there is another.
func (r *reading) next(waits uintptr) bool {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, waits, uintptr(unsafe.Pointer(&r.ready[0])), maxQueues, 0, 0, 0)
	if n == 0 || errno != 0 {
		return false
	}
	nearest := maxQueues
	for _, event := range r.ready[:n] {
		behind := (int(event.Fd) - r.turn - 1 + maxQueues) % maxQueues
		nearest = min(nearest, behind)
	}
	r.turn, r.over = (r.turn+1+nearest)%maxQueues, false
	return true
}

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
	r.over = true
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

// prepare takes a packet, the first of whose parts is its offload header, or begins with it.
func (h *handing) prepare(parts [][]byte) {
	for i, p := range parts {
		h.vectors[i].Base = unsafe.SliceData(p)
		h.vectors[i].SetLen(len(p))
	}
	h.count = len(parts)
	h.queue = queueOf(parts)
}

func (h *handing) hand() {
	_, _, h.errno = syscall.RawSyscall(unix.SYS_WRITEV, uintptr(h.queues[h.queue]), uintptr(unsafe.Pointer(&h.vectors[0])), uintptr(h.count))
}

// outcome is that of a call which itself has ended with err.
func (h *handing) outcome(err error) error {
	if err == nil && h.errno != 0 {
		return os.NewSyscallError("writev", h.errno)
	}
	return err
}

func (w *writing) try(uintptr) bool {
	w.hand()
	return w.errno != unix.EAGAIN
}

// try does not come again: an answer for which there is no room is lost.
func (a *answering) try(uintptr) { a.hand() }

// write hands a packet to the host.
func (n *native) write(parts [][]byte) error {
	n.out.prepare(parts)
	return n.out.outcome(n.conn.Write(n.out.call))
}

// Answer implements Device. It goes by the file that Read uses: that of Write has one user
// at a time.
func (n *native) Answer(packet []byte) error {
	n.answers.parts[1] = packet
	n.answers.prepare(n.answers.parts[:])
	err := n.answers.outcome(n.in.conn.Control(n.answers.call))
	if err != nil && n.closed.Load() {
		return os.ErrClosed
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

// queueOf is the queue by which a packet goes that stands behind its offload header. The
// first is that of fragments, too: the kernel tells them apart by addresses alone, so that
// those of all connections between two hosts are one to it.
func queueOf(parts [][]byte) int {
	u, _ := unitOf(parts[0][offloadLen:]) // the headers of packets that were put together
	if len(u.packet) == 0 {
		var ok bool
		if u, ok = unitOf(parts[1]); !ok {
			return 0
		}
	}
	ports := u.packet[u.transport:]
	sum := int(binary.BigEndian.Uint16(ports)) + int(binary.BigEndian.Uint16(ports[2:]))
	if u.proto == protoUDP {
		return 1 + tcpQueues + sum%udpQueues
	}
	return 1 + sum%tcpQueues
}

// Close implements Device.
func (n *native) Close() error {
	n.closed.Store(true)
	return n.close()
}

// closeNow closes all files. A file's Close returns when it is no longer used: Read and
// Answer use the queues by the one, Write by the other.
func (n *native) closeNow() error {
	n.waits.Close()
	err := n.Device.Close()
	closeAll(n.out.queues[1:])
	return err
}
