package platform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

// macCalls are macOS's calls that move several datagrams, sendmsg_x and recvmsg_x (XNU,
// bsd/sys/socket_private.h). They take count messages from the first on and return how many
// they have moved. The zero value: there are none.
type macCalls struct {
	send, receive func(fd uintptr, first *macMessage, count int) (int, syscall.Errno)
}

// macMessage is struct msghdr_x, of the same layout on amd64 and arm64.
type macMessage struct {
	name       *macName
	nameLen    uint32
	vector     *macVector
	vectors    int32
	control    *byte
	controlLen uint32
	flags      int32
	size       uint64 // of what was received, in bytes
}

// macVector is struct iovec.
type macVector struct {
	base *byte
	size uint64
}

// macName holds a struct sockaddr_in or sockaddr_in6, which begin with their size and
// family.
type macName [28]byte

const (
	macInet, macInet6       = 2, 30 // families
	macInetLen, macInet6Len = 16, 28
)

// put writes a socket address and returns its size in bytes.
func (n *macName) put(to netip.AddrPort, ipv6 bool) uint32 {
	clear(n[:])
	binary.BigEndian.PutUint16(n[2:], to.Port())
	if ipv6 {
		addr := to.Addr().As16()
		n[0], n[1] = macInet6Len, macInet6
		copy(n[8:], addr[:])
		return macInet6Len
	}
	addr := to.Addr().As4()
	n[0], n[1] = macInetLen, macInet
	copy(n[4:], addr[:])
	return macInetLen
}

// addrPort reads a socket address, without a zone; the zero value if it is of another
// family.
func (n *macName) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(n[2:])
	switch n[1] {
	case macInet:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[4:])), port)
	case macInet6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(n[8:])), port)
	}
	return netip.AddrPort{}
}

// maxMacMessages is how many datagrams one call moves: those of a run.
const maxMacMessages = 64

// macMessages are the arguments of a call. The kernel sees pointers among its fields, so
// it never moves: it is part of a socket on the heap.
type macMessages struct {
	messages [maxMacMessages]macMessage
	vectors  [maxMacMessages]macVector
	names    [maxMacMessages]macName
	does     func(fd uintptr, first *macMessage, count int) (int, syscall.Errno)
	count    int // of messages
	done     int
	errno    syscall.Errno
	call     func(fd uintptr) bool // m.try; made once
}

func newMacMessages(does func(uintptr, *macMessage, int) (int, syscall.Errno)) *macMessages {
	m := &macMessages{does: does}
	m.call = m.try
	return m
}

// try does the call; it reports false if the socket is not ready.
func (m *macMessages) try(fd uintptr) bool {
	for {
		m.done, m.errno = m.does(fd, &m.messages[0], m.count)
		if m.errno != syscall.EINTR {
			return m.errno != syscall.EAGAIN && (m.errno != 0 || m.done > 0)
		}
	}
}

// set makes b the buffer of message i, from or to a name of that size.
func (m *macMessages) set(i int, b []byte, nameLen uint32) {
	m.vectors[i] = macVector{unsafe.SliceData(b), uint64(len(b))}
	m.messages[i] = macMessage{name: &m.names[i], nameLen: nameLen, vector: &m.vectors[i], vectors: 1}
}

// macBatches is a UDP socket's way of moving many datagrams with a call on macOS. Reading
// and writing have one caller each.
type macBatches struct {
	raw     syscall.RawConn
	ipv6    bool
	in, out *macMessages // each owned by its caller, as the next two
	// So many datagrams are read, and so many runs sent, one by one.
	readSingly, sendSingly int
}

func newMacBatches(calls macCalls, raw syscall.RawConn, ipv6 bool) macBatches {
	return macBatches{raw: raw, ipv6: ipv6, in: newMacMessages(calls.receive), out: newMacMessages(calls.send)}
}

// refusesCalls says whether the system seems not to do such calls on this socket at all. It
// says so before anything has been moved.
func refusesCalls(errno syscall.Errno) bool {
	switch errno {
	case syscall.ENOSYS, syscall.EPERM, syscall.EINVAL, syscall.EOPNOTSUPP, syscall.ENOTCONN, syscall.EDESTADDRREQ:
		return true
	}
	return false
}

// read puts a datagram into each of bufs. It reports false if they are to be read one by one.
func (b *macBatches) read(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (n int, ok bool, err error) {
	if b.readSingly > 0 {
		b.readSingly--
		return 0, false, nil
	}
	m := b.in
	m.count = min(len(bufs), maxMacMessages)
	for i := range m.count {
		m.set(i, bufs[i], uint32(len(m.names[i])))
	}
	if err := b.raw.Read(m.call); err != nil {
		return 0, true, err
	}
	if refusesCalls(m.errno) {
		b.readSingly = retryRuns
		return 0, false, nil
	}
	if m.errno != 0 {
		return 0, true, os.NewSyscallError("recvmsg_x", m.errno)
	}
	for i := range m.done {
		sizes[i], from[i] = min(int(m.messages[i].size), len(bufs[i])), m.names[i].addrPort()
		segments[i] = sizes[i]
	}
	return m.done, true, nil
}

// write sends datagrams of a run and returns what is left of it. If that is to be sent one
// by one there is no error.
func (b *macBatches) write(run []byte, segment int, to netip.AddrPort) (left []byte, err error) {
	if b.sendSingly > 0 {
		b.sendSingly--
		return run, nil
	}
	for m := b.out; len(run) > segment && to.Addr().Zone() == ""; {
		m.count = 0
		for datagram := range slices.Chunk(run[:min(len(run), maxMacMessages*segment)], segment) {
			m.set(m.count, datagram, m.names[m.count].put(to, b.ipv6))
			m.count++
		}
		if err := b.raw.Write(m.call); err != nil {
			return run, err
		}
		switch {
		case m.errno == 0:
			run = run[min(m.done*segment, len(run)):]
		case refusesCalls(m.errno):
			b.sendSingly = retryRuns
			return run, nil
		case m.errno == syscall.EMSGSIZE:
			// All together are more than the socket's buffer, or the link does not
			// take the first, and no other is larger: nothing has gone.
			return run, nil
		default:
			return run, os.NewSyscallError("sendmsg_x", m.errno)
		}
	}
	return run, nil
}

// macBatchSocket is a macSocket that moves many datagrams with a call.
type macBatchSocket struct {
	*macSocket
	batches macBatches
}

// macSendBuffer has room for a whole run, in bytes. The system's default holds 9,216.
const macSendBuffer = 256 << 10

func newMacBatchSocket(s *macSocket, calls macCalls) *macBatchSocket {
	_ = s.SetWriteBuffer(macSendBuffer) // or runs are split
	return &macBatchSocket{s, newMacBatches(calls, s.raw, s.gateway.Is6())}
}

// ReadBatch waits until something has come and puts a datagram into each of bufs: sizes[i]
// bytes, as segments[i] says, too. It returns how many there are.
func (s *macBatchSocket) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	n, ok, err := s.batches.read(bufs, sizes, segments, from)
	if ok {
		return n, err
	}
	if sizes[0], from[0], err = s.ReadFromUDPAddrPort(bufs[0]); err != nil {
		return 0, err
	}
	segments[0] = sizes[0]
	return 1, nil
}

// WriteBatch sends runs of datagrams of segments[i] bytes, the last of a run perhaps
// shorter. It returns how many runs went out before the error; of the run after these some
// datagrams may have gone, too. It never sends one twice.
func (s *macBatchSocket) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	if s.way.Load() == nil {
		return 0, errNoWay
	}
	for i, run := range runs {
		left, err := s.batches.write(run, segments[i], to)
		if err != nil {
			return i, err
		}
		if err := sendEach(left, segments[i], to, s.WriteToUDPAddrPort); err != nil {
			return i, err
		}
	}
	return len(runs), nil
}

// soundBatches says whether a kernel of that release, such as 24.6.0, keeps its locks:
// before 24.6 (macOS 15.6) recvmsg_x could leave a socket locked for ever, and loopback
// with it.
func soundBatches(release string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return n == 2 && (major > 24 || major == 24 && minor >= 6)
}

// macTrialTime bounds trial.
const macTrialTime = time.Second

// trial says whether the calls do on loopback what is expected of them: they are nowhere
// promised.
func (c macCalls) trial() error {
	var conns [2]*net.UDPConn
	var batches [2]macBatches
	for i := range conns {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		conns[i], batches[i] = conn, newMacBatches(c, raw, false)
	}
	if err := errors.Join(conns[0].SetDeadline(time.Now().Add(macTrialTime)), conns[1].SetDeadline(time.Now().Add(macTrialTime))); err != nil {
		return err
	}
	run, port := []byte("one two 3"), func(i int) netip.AddrPort { return conns[i].LocalAddr().(*net.UDPAddr).AddrPort() }
	left, err := batches[0].write(run, 4, port(1))
	if err != nil || len(left) > 0 {
		return errors.Join(errTrial, err)
	}
	bufs, sizes, segments, from := make([][]byte, 4), make([]int, 4), make([]int, 4), make([]netip.AddrPort, 4)
	for i := range bufs {
		bufs[i] = make([]byte, 16)
	}
	for len(run) > 0 {
		n, ok, err := batches[1].read(bufs, sizes, segments, from)
		if err != nil || !ok {
			return errors.Join(errTrial, err)
		}
		for i := range n {
			want := run[:min(4, len(run))]
			if string(bufs[i][:sizes[i]]) != string(want) || from[i] != port(0) {
				return errTrial
			}
			run = run[len(want):]
		}
	}
	return nil
}

var errTrial = errors.New("sendmsg_x and recvmsg_x do not what is expected of them")
