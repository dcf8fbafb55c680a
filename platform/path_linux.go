package platform

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds, for anybody can send what seem to be reports of routers.
const (
	// maxReports is how many are taken at once: more than a receive buffer holds, for while
	// one is left the next call fails.
	maxReports = 1 << 12
	// maxTries is how often a call is made again because of some that come meanwhile.
	maxTries = 8
)

// pathSocket is what a socket knows of the path that its datagrams take.
type pathSocket struct {
	raw    syscall.RawConn
	ipv6   bool
	tooBig atomic.Pointer[func(to netip.Addr, mtu int)]
}

// SetDontFragment forbids that datagrams are fragmented, here or on the way, or allows
// it. While it is forbidden, sending one that is larger than the link takes fails with
// EMSGSIZE; what routers have reported does not count.
func (s *pathSocket) SetDontFragment(on bool) error {
	option := func(level, name, value int) error {
		var failed error
		err := s.raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, name, value) })
		return errors.Join(err, os.NewSyscallError("setsockopt", failed))
	}
	switch {
	case s.ipv6 && on:
		return errors.Join(option(unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE), option(unix.SOL_IPV6, unix.IPV6_DONTFRAG, 1))
	case s.ipv6:
		return errors.Join(option(unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT), option(unix.SOL_IPV6, unix.IPV6_DONTFRAG, 0))
	case on:
		return option(unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	}
	return option(unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
}

// OnTooBig has f called, from whoever reads or writes, when a router or the system
// itself says that a datagram to an address was larger than the mtu bytes, IP header
// included, that a link takes. Routers are not authenticated.
func (s *pathSocket) OnTooBig(f func(to netip.Addr, mtu int)) {
	s.tooBig.Store(&f)
	level, name := unix.SOL_IP, unix.IP_RECVERR
	if s.ipv6 {
		level, name = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	// It cannot fail; if it did, nothing would be reported.
	_ = s.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), level, name, 1) })
}

// byRouters are the errors by which a call tells of routers' reports (ICMP), which say
// nothing about the call. Sending what is too large for the link is one of them, too.
var byRouters = []unix.Errno{
	unix.EMSGSIZE, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOPROTOOPT,
	unix.EOPNOTSUPP, unix.EHOSTDOWN, unix.ENONET, unix.EPROTO, unix.EACCES,
}

// again says whether a call that has failed is to be made once more, because routers'
// reports may be the reason, and takes these from the socket's error queue. It has been made
// again so many times. That there are none says little, for the call of another goroutine may
// have taken them; but that what is sent is too large is said by the link, too.
func (s *pathSocket) again(err error, tries int) bool {
	f := s.tooBig.Load()
	if f == nil || !slices.ContainsFunc(byRouters, func(e unix.Errno) bool { return errors.Is(err, e) }) {
		return false
	}
	var control [128]byte
	more := tries == 0 || !errors.Is(err, unix.EMSGSIZE)
	for range maxReports {
		var n int
		var to unix.Sockaddr
		empty := true
		_ = s.raw.Control(func(fd uintptr) {
			var err error
			_, n, _, to, err = unix.Recvmsg(int(fd), nil, control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			empty = err != nil
		})
		if empty {
			break
		}
		r, ok := parseReport(control[:n])
		more = more || ok && r.Origin != unix.SO_EE_ORIGIN_LOCAL // which says that the call itself failed
		if addr := addrOf(to); ok && r.Errno == uint32(unix.EMSGSIZE) && r.Info > 0 && addr.IsValid() {
			(*f)(addr, int(min(r.Info, 1<<16)))
		}
	}
	return more && tries < maxTries
}

// parseReport finds the sock_extended_err among a message's control messages.
func parseReport(control []byte) (r unix.SockExtendedErr, ok bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return r, false
	}
	for _, m := range messages {
		isReport := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR ||
			m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if size := int(unsafe.Sizeof(r)); isReport && len(m.Data) >= size {
			_, err := binary.Decode(m.Data[:size], binary.NativeEndian, &r)
			return r, err == nil
		}
	}
	return r, false
}

func addrOf(a unix.Sockaddr) netip.Addr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr).Unmap()
	}
	return netip.Addr{}
}

// udpSocket is a UDP socket whose calls do not fail because of what routers say. Reading
// goes on; writing is tried again a few times.
type udpSocket struct {
	*net.UDPConn
	pathSocket
	batches
}

func (s *udpSocket) ReadFromUDPAddrPort(b []byte) (n int, from netip.AddrPort, err error) {
	for {
		if n, from, err = s.UDPConn.ReadFromUDPAddrPort(b); err == nil || !s.again(err, 0) {
			return n, from, err
		}
	}
}

func (s *udpSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

func (s *udpSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (n int, err error) {
	for tries := 0; ; tries++ {
		if n, err = s.UDPConn.WriteToUDPAddrPort(b, to); err == nil || !s.again(err, tries) {
			return n, err
		}
	}
}

func (s *udpSocket) WriteTo(b []byte, to net.Addr) (n int, err error) {
	for tries := 0; ; tries++ {
		if n, err = s.UDPConn.WriteTo(b, to); err == nil || !s.again(err, tries) {
			return n, err
		}
	}
}

// withPath makes a socket know its path.
func withPath(conn net.PacketConn, ipv6 bool) (net.PacketConn, error) {
	switch c := conn.(type) {
	case *net.UDPConn:
		s := &udpSocket{UDPConn: c, pathSocket: pathSocket{ipv6: ipv6}}
		var err error
		s.raw, err = c.SyscallConn()
		return s, err
	case *net.IPConn:
		s := &ipSocket{IPConn: c, pathSocket: pathSocket{ipv6: ipv6}}
		var err error
		s.raw, err = c.SyscallConn()
		return s, err
	}
	return conn, nil
}
