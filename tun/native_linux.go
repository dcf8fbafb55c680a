package tun

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// native is an interface that the library has made. Its packets pass through the file
// whole, as the host gives and takes them: the library would copy each segment.
//
// The calls are raw ones, on a descriptor that does not block and that the runtime's
// poller watches: telling the scheduler of each costs a tenth of the speed.
type native struct {
	wgtun.Device
	conn   syscall.RawConn
	closed atomic.Bool

	in       reading
	splitter splitter
	out      writing
	coalesce coalescer
}

// reading is the state of Read.
type reading struct {
	buf   []byte
	wait  bool // for a packet
	n     int
	errno unix.Errno
	call  func(fd uintptr) bool // try; made once
}

// writing is the state of Write.
type writing struct {
	vectors [maxCoalesced + 1]unix.Iovec
	count   int
	errno   unix.Errno
	call    func(fd uintptr) bool // try; made once
}

func newNative(dev wgtun.Device) (*native, error) {
	conn, err := dev.File().SyscallConn()
	if err != nil {
		return nil, err
	}
	n := &native{Device: dev, conn: conn}
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

func (r *reading) try(fd uintptr) bool {
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(r.buf))), uintptr(len(r.buf)-Tailroom))
	r.n, r.errno = int(n), errno
	return errno != unix.EAGAIN || !r.wait
}

// Read implements Device. It returns as soon as nothing waits, so that what it has given
// can be sent.
func (n *native) Read(take func(packet []byte)) error {
	r := &n.in
	r.wait = true
	for total := 0; total < readAtOnce; total += r.n {
		err := n.conn.Read(r.call)
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

func (w *writing) try(fd uintptr) bool {
	_, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&w.vectors[0])), uintptr(w.count))
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

// Close implements Device.
func (n *native) Close() error {
	n.closed.Store(true)
	return n.Device.Close()
}
