package platform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
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

// pathSocket is a socket that is told of the path that its datagrams take. Its calls do not
// fail because of what routers say: reading goes on, writing is tried again a few times.
type pathSocket struct {
	raw    *watched
	local  net.Addr
	ipv6   bool
	tooBig atomic.Pointer[func(to netip.Addr, mtu int)]
	pauses pauses // of the reader
	single sending
}

// sending is of one datagram by itself.
type sending struct {
	mu    sync.Mutex
	b     []byte
	name  socketName
	errno syscall.Errno
	call  func(fd uintptr) bool // try; made once
}

func (s *pathSocket) init(raw *watched, local net.Addr, ipv6 bool) {
	s.raw, s.local, s.ipv6, s.pauses.rest = raw, local, ipv6, s.rest
	s.single.call = s.single.try
}

// Close implements net.PacketConn.
func (s *pathSocket) Close() error { return s.raw.Close() }

// LocalAddr implements net.PacketConn.
func (s *pathSocket) LocalAddr() net.Addr { return s.local }

// SetDeadline implements net.PacketConn.
func (s *pathSocket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.PacketConn.
func (s *pathSocket) SetReadDeadline(t time.Time) error { return s.raw.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (s *pathSocket) SetWriteDeadline(t time.Time) error { return s.raw.SetWriteDeadline(t) }

// SyscallConn implements syscall.Conn.
func (s *pathSocket) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// WriteTo implements net.PacketConn.
func (s *pathSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	switch to := to.(type) {
	case *net.UDPAddr:
		return s.WriteToUDPAddrPort(b, to.AddrPort())
	case *net.IPAddr:
		addr, _ := netip.AddrFromSlice(to.IP)
		return s.WriteToUDPAddrPort(b, netip.AddrPortFrom(addr.WithZone(to.Zone), 0))
	}
	return 0, &net.AddrError{Err: "no address of a datagram", Addr: fmt.Sprint(to)}
}

// WriteToUDPAddrPort sends a datagram. Nothing is allocated for it.
func (s *pathSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (_ int, err error) {
	one := &s.single
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.name, err = s.nameOf(to); err != nil {
		return 0, err
	}
	one.b = b
	defer func() { one.b = nil }()
	for tries := 0; ; tries++ {
		err := s.raw.Write(one.call)
		switch {
		case err == nil && one.errno == 0:
			return len(b), nil
		case err == nil:
			err = os.NewSyscallError("sendto", one.errno)
		}
		if !errors.Is(err, unix.EINTR) && !s.again(err, tries) {
			return 0, err
		}
	}
}

// try does the system call; it reports false if there is no room.
func (s *sending) try(fd uintptr) bool {
	_, _, s.errno = syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.b))), uintptr(len(s.b)),
		0, uintptr(unsafe.Pointer(&s.name)), s.name.size())
	return s.errno != unix.EAGAIN
}

// socketName is a socket address of the kernel's, of either family.
type socketName unix.RawSockaddrInet6

func (s *socketName) size() uintptr {
	if s.Family == unix.AF_INET {
		return unix.SizeofSockaddrInet4
	}
	return unix.SizeofSockaddrInet6
}

// addrPort reads an address, without a zone; the zero value if it is of another family.
func (s *socketName) addrPort() netip.AddrPort {
	port := s.Port<<8 | s.Port>>8
	switch s.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(s)).Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), port)
	}
	return netip.AddrPort{}
}

// nameOf is an address as the socket's family has it.
func (s *pathSocket) nameOf(to netip.AddrPort) (name socketName, err error) {
	addr, port := to.Addr().Unmap(), to.Port()<<8|to.Port()>>8
	switch {
	case addr.Is4() && !s.ipv6:
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&name)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: addr.As4()}
	case addr.Is6() && s.ipv6:
		name = socketName{Family: unix.AF_INET6, Port: port, Addr: addr.As16()}
		if zone := addr.Zone(); zone != "" {
			name.Scope_id, err = s.indexOf(zone)
		}
	default:
		err = &net.AddrError{Err: "not of the socket's family", Addr: addr.String()}
	}
	return name, err
}

// indexOf is the index of an interface, by its name or written out.
func (s *pathSocket) indexOf(zone string) (index uint32, err error) {
	ifr, failed := unix.NewIfreq(zone)
	if failed == nil {
		err = s.raw.Control(func(fd uintptr) { failed = unix.IoctlIfreq(int(fd), unix.SIOCGIFINDEX, ifr) })
	}
	switch n, notNumber := strconv.ParseUint(zone, 10, 32); {
	case err != nil:
		return 0, err
	case failed == nil:
		return ifr.Uint32(), nil
	case notNumber == nil:
		return uint32(n), nil
	}
	return 0, os.NewSyscallError("interface "+zone, failed)
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

// withPath makes a socket one that is told of its path.
func withPath(conn net.PacketConn, ipv6 bool) (net.PacketConn, error) {
	plain, ok := conn.(syscall.Conn)
	if !ok {
		return conn, nil
	}
	raw, err := takeOver(plain)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := conn.Close(); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if _, ok := conn.(*net.IPConn); ok {
		s := new(ipSocket)
		s.init(raw, conn.LocalAddr(), ipv6)
		return s, nil
	}
	s := new(udpSocket)
	s.init(raw, conn.LocalAddr(), ipv6)
	return s, nil
}
