package platform

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Runs of datagrams (UDP_SEGMENT, UDP_GRO: udp(7)) in batches (sendmmsg(2),
// recvmmsg(2)). The calls are raw ones, on a descriptor that does not block: telling the
// scheduler of each costs a tenth of the speed.

const (
	// maxMessages is how many runs one call takes or gives.
	maxMessages = 64
	// controlSize holds one control message with a number.
	controlSize = 32
)

// mmsghdr is the kernel's.
type mmsghdr struct {
	unix.Msghdr
	size uint32
}

// messages are the arguments of sendmmsg and recvmmsg. The kernel sees pointers among
// its fields, so it never moves: it is part of a socket on the heap.
type messages struct {
	headers [maxMessages]mmsghdr
	vectors [maxMessages][2]unix.Iovec // of an IP header, if there is one, and of the buffer
	names   [maxMessages]socketName
	control [maxMessages][controlSize / 8]uint64
	trap    uintptr // number of the system call
	count   int     // of messages
	done    int
	errno   unix.Errno
	call    func(fd uintptr) bool // m.try; made once
	// system is syscall.RawSyscall6.
	system func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno)
}

func newMessages(trap uintptr) *messages {
	m := &messages{trap: trap, system: syscall.RawSyscall6}
	m.call = m.try
	for i := range m.headers {
		m.headers[i].Iov = &m.vectors[i][1]
		m.headers[i].SetIovlen(1)
		m.headers[i].Name = (*byte)(unsafe.Pointer(&m.names[i]))
	}
	return m
}

// try does the system call; it reports false if the socket is not ready.
func (m *messages) try(fd uintptr) bool {
	n, _, errno := m.system(m.trap, fd, uintptr(unsafe.Pointer(&m.headers[0])), uintptr(m.count), 0, 0, 0)
	m.done, m.errno = int(n), errno
	return errno != unix.EAGAIN
}

// set makes b the buffer of message i.
func (m *messages) set(i int, b []byte) {
	m.vectors[i][1].Base = unsafe.SliceData(b)
	m.vectors[i][1].SetLen(len(b))
}

// address makes b what message i sends, without a control message.
func (m *messages) address(i int, b []byte, to *socketName) {
	m.set(i, b)
	m.names[i] = *to
	m.headers[i].Namelen = uint32(to.size())
	m.headers[i].Control = nil
	m.headers[i].SetControllen(0)
}

// known says whether the kernel has a socket option that holds a number.
func (m *messages) known(raw syscall.RawConn, level, name uintptr) bool {
	value, size := (*int32)(unsafe.Pointer(&m.control[0][0])), (*int32)(unsafe.Pointer(&m.control[0][1]))
	*size = int32(unsafe.Sizeof(*value))
	var errno unix.Errno
	err := raw.Control(func(fd uintptr) {
		_, _, errno = m.system(unix.SYS_GETSOCKOPT, fd, level, name, uintptr(unsafe.Pointer(value)), uintptr(unsafe.Pointer(size)), 0)
	})
	return err == nil && errno == 0
}

// cmsg is the control message of message i.
func (m *messages) cmsg(i int) *unix.Cmsghdr { return (*unix.Cmsghdr)(unsafe.Pointer(&m.control[i])) }

// data is what the control message of message i says.
func (m *messages) data(i int) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(&m.control[i]), unix.CmsgLen(0))
}

// udpSocket is a UDP socket that moves many datagrams with a call. Reading has one caller,
// and so has WriteBatch.
type udpSocket struct {
	pathSocket

	in, out *messages // made when first needed
	// Owned by the reader.
	gathers bool // runs come as one message
	// Owned by the writer.
	asked  bool // what the kernel knows
	apart  bool // datagrams never go as runs
	singly int  // so many runs go datagram by datagram
}

// ReadFromUDPAddrPort waits for a datagram.
func (s *udpSocket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	m := s.reading()
	if err := s.receive(m, [][]byte{b}); err != nil {
		return 0, netip.AddrPort{}, err
	}
	return int(m.headers[0].size), m.names[0].addrPort(), nil
}

// ReadFrom implements net.PacketConn.
func (s *udpSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

func (s *udpSocket) reading() *messages {
	if s.in == nil {
		s.in = newMessages(unix.SYS_RECVMMSG)
	}
	return s.in
}

// ReadBatch waits until something has come and puts a run of datagrams into each of
// bufs, which have room for 64 KiB: sizes[i] bytes in datagrams of segments[i] bytes, the
// last perhaps shorter, from one sender. It returns how many runs there are. From the
// first call on, only ReadBatch reads from the socket.
func (s *udpSocket) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	m := s.reading()
	if !s.gathers {
		s.gathers = true
		// Without it runs have one datagram.
		_ = s.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1) })
	}
	if err := s.receive(m, bufs); err != nil {
		return 0, err
	}
	for i := range m.done {
		sizes[i], from[i] = int(m.headers[i].size), m.names[i].addrPort()
		segments[i] = sizes[i]
		if c := m.cmsg(i); int(m.headers[i].Controllen) >= unix.CmsgLen(4) && c.Level == unix.SOL_UDP && c.Type == unix.UDP_GRO {
			segments[i] = int(*(*int32)(m.data(i)))
		}
	}
	s.note(m, sizes, segments)
	return m.done, nil
}

// receive waits until messages have come, and puts them into bufs.
func (s *pathSocket) receive(m *messages, bufs [][]byte) error {
	s.pauses.pause()
	m.count = min(len(bufs), maxMessages)
	for {
		for i := range m.count {
			m.set(i, bufs[i])
			m.headers[i].Namelen = uint32(unsafe.Sizeof(m.names[i]))
			m.headers[i].Control = (*byte)(unsafe.Pointer(&m.control[i]))
			m.headers[i].SetControllen(controlSize)
		}
		if err := s.raw.Read(m.call); err != nil {
			return err
		}
		if m.errno == 0 {
			return nil
		}
		if err := os.NewSyscallError("recvmmsg", m.errno); m.errno != unix.EINTR && !s.again(err, 0) {
			return err
		}
	}
}

// note remembers what a call has given. While the reader is busy with it nobody is woken.
func (s *pathSocket) note(m *messages, sizes, segments []int) {
	if s.pauses.gave(time.Now(), m.count, sizes[:m.done], segments) {
		s.raw.in.quiet()
	}
}

// WriteBatch sends runs of datagrams of segments[i] bytes, the last of a run perhaps
// shorter; a run has at most 64 datagrams and 65,507 bytes. It returns how many runs went
// out before the error; of the run after these some datagrams may have gone, too. It
// never sends one twice.
func (s *udpSocket) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	if s.out == nil {
		s.out = newMessages(unix.SYS_SENDMMSG)
	}
	if !s.asked { // before Linux 4.18 the message would be ignored: a run left as one datagram
		s.asked, s.apart = true, !s.out.known(s.raw, unix.SOL_UDP, unix.UDP_SEGMENT)
	}
	name, err := s.nameOf(to)
	if err != nil {
		return 0, err
	}
	if s.apart {
		return s.writeEach(s.out, runs, segments, &name)
	}
	tries := 0 // of the run that is next, in vain
	for sent := 0; sent < len(runs); {
		if s.singly > 0 {
			many := min(s.singly, len(runs)-sent)
			n, err := s.writeEach(s.out, runs[sent:sent+many], segments[sent:], &name)
			sent, s.singly = sent+n, s.singly-n
			if err != nil {
				return sent, err
			}
			continue
		}
		n, err := s.writeRuns(runs[sent:], segments[sent:], &name)
		sent += n
		switch {
		case err == nil:
			tries = 0
		case s.again(err, tries):
			tries++
		case len(runs[sent]) <= segments[sent]:
			return sent, err
		case !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIO):
			return sent, err // as a full queue, which would take the datagrams no sooner
		default:
			// A run may fail for what a single datagram does not: segments that are
			// larger than the link takes (EMSGSIZE, EINVAL), or all, where checksums
			// are not offloaded (EIO).
			if errors.Is(err, unix.EIO) {
				s.singly = retryRuns
			}
			if _, err := s.writeEach(s.out, runs[sent:sent+1], segments[sent:], &name); err != nil {
				return sent, err
			}
			sent, tries = sent+1, 0
		}
	}
	return len(runs), nil
}

// writeRuns sends as many runs as the system takes with one call.
func (s *udpSocket) writeRuns(runs [][]byte, segments []int, to *socketName) (int, error) {
	m := s.out
	m.count = min(len(runs), maxMessages)
	for i := range m.count {
		m.address(i, runs[i], to)
		if len(runs[i]) > segments[i] {
			c := m.cmsg(i)
			c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
			c.SetLen(unix.CmsgLen(2))
			*(*uint16)(m.data(i)) = uint16(segments[i])
			m.headers[i].Control = (*byte)(unsafe.Pointer(c))
			m.headers[i].SetControllen(unix.CmsgSpace(2))
		}
	}
	return s.send(m)
}

// writeEach does what WriteBatch does with a message for each datagram: of a run in which
// one fails the others go.
func (s *pathSocket) writeEach(m *messages, runs [][]byte, segments []int, to *socketName) (int, error) {
	var failed error // of run i
	tries := 0       // of the datagram that is next, in vain
	for i, at := 0, 0; i < len(runs); {
		m.count = 0
		for j, begin := i, at; j < len(runs) && m.count < maxMessages && (failed == nil || j == i); m.count++ {
			end := min(begin+segments[j], len(runs[j]))
			m.address(m.count, runs[j][begin:end], to)
			if begin = end; end == len(runs[j]) {
				j, begin = j+1, 0
			}
		}
		n, err := s.send(m)
		switch {
		case err == nil:
			tries = 0
		case s.again(err, tries):
			tries++
		default:
			n, tries = 1, 0 // it is passed over
			if failed == nil {
				failed = err
			}
		}
		for ; n > 0; n-- {
			if at += segments[i]; at < len(runs[i]) {
				continue
			}
			if failed != nil {
				return i, failed
			}
			i, at = i+1, 0
		}
	}
	return len(runs), nil
}

// send sends messages, and returns how many went.
func (s *pathSocket) send(m *messages) (int, error) {
	for {
		if err := s.raw.Write(m.call); err != nil {
			return 0, err
		}
		switch m.errno {
		case 0:
			return m.done, nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("sendmmsg", m.errno)
		}
	}
}
