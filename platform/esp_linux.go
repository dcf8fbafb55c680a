package platform

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ipSocket is a raw socket for one IP protocol whose calls do not fail because of what
// routers say. Many packets go with a call, each as a message of its own: the kernel makes
// no runs of them.
type ipSocket struct {
	pathSocket

	// Owned by the reader.
	in     *messages // made when first needed
	fronts *[maxMessages]ipv4Front

	out *messages // owned by the writer; made when first needed
}

// ipv4Front is an IPv4 header without options.
type ipv4Front [20]byte

// ReadFrom implements net.PacketConn.
func (s *ipSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	var size, segment [1]int
	var from [1]netip.AddrPort
	if _, err := s.ReadBatch([][]byte{b}, size[:], segment[:], from[:]); err != nil {
		return 0, nil, err
	}
	return size[0], &net.IPAddr{IP: from[0].Addr().AsSlice()}, nil
}

// ReadBatch waits until something has come and puts a packet into each of bufs, which have
// room for 64 KiB: sizes[i] bytes behind the IP header, in one segment, from an address
// without a port. It returns how many there are. From the first call on, only ReadBatch
// reads from the socket.
func (s *ipSocket) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	if s.in == nil {
		s.in = newMessages(unix.SYS_RECVMMSG)
		if !s.ipv6 {
			s.splitHeaders()
		}
	}
	m := s.in
	if err := s.receive(m, bufs); err != nil {
		return 0, err
	}
	for i := range m.done {
		sizes[i] = int(m.headers[i].size)
		if !s.ipv6 {
			sizes[i] = s.fronts[i].strip(bufs[i], sizes[i])
		}
		segments[i] = sizes[i]
		from[i] = netip.AddrPortFrom(m.names[i].addrPort().Addr(), 0)
	}
	s.note(m, sizes, segments)
	return m.done, nil
}

// splitHeaders has the header of what comes by IPv4, which the kernel puts before it
// (raw(7); net.IPConn takes it away, a syscall.RawConn does not), go elsewhere.
func (s *ipSocket) splitHeaders() {
	s.fronts = new([maxMessages]ipv4Front)
	for i := range s.fronts {
		v := &s.in.vectors[i]
		v[0].Base = &s.fronts[i][0]
		v[0].SetLen(len(s.fronts[i]))
		s.in.headers[i].Iov = &v[0]
		s.in.headers[i].SetIovlen(2)
	}
}

// strip takes the IPv4 options from the front of b, where a packet of so many bytes, its
// header included, goes on. It returns how many are left, none if that is no packet.
func (f *ipv4Front) strip(b []byte, size int) int {
	header := int(f[0]&15) * 4
	if f[0]>>4 != 4 || header < len(f) || header > size {
		return 0
	}
	if header > len(f) {
		copy(b, b[header-len(f):size-len(f)])
	}
	return size - header
}

// WriteBatch sends runs of packets of segments[i] bytes, the last of a run perhaps shorter,
// to an address; the port does not count. It returns how many runs went out before the
// error; of the run after these some packets may have gone, too. It never sends one twice.
func (s *ipSocket) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	if s.out == nil {
		s.out = newMessages(unix.SYS_SENDMMSG)
	}
	name, err := s.nameOf(netip.AddrPortFrom(to.Addr(), 0))
	if err != nil {
		return 0, err
	}
	return s.writeEach(s.out, runs, segments, &name)
}
