package main

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpTries bounds how often a list of sockets is read that changed meanwhile.
const dumpTries = 3

// tellsOwners says whether the system tells whose a socket on loopback is: it does where
// it knows this listener.
func tellsOwners(listener net.Listener) bool {
	at := addrPort(listener.Addr())
	return owned(netlink.SocketDiagTCP, func(s *netlink.Socket) bool {
		return s.State == netlink.TCP_LISTEN && socketAddr(s.ID.Source, s.ID.SourcePort) == at
	})
}

// ownsTCP says whether the end of a TCP connection on loopback is held by a program of
// this user. A socket that its program has closed is nobody's.
func ownsTCP(end, other netip.AddrPort) bool {
	return owned(netlink.SocketDiagTCP, func(s *netlink.Socket) bool {
		return s.State == netlink.TCP_ESTABLISHED && socketAddr(s.ID.Source, s.ID.SourcePort) == end &&
			socketAddr(s.ID.Destination, s.ID.DestinationPort) == other
	})
}

// ownsUDP says whether all that send from a UDP port on loopback are programs of this
// user.
func ownsUDP(end netip.AddrPort) bool {
	return owned(netlink.SocketDiagUDP, func(s *netlink.Socket) bool {
		at := socketAddr(s.ID.Source, s.ID.SourcePort)
		return at == end || at.Port() == end.Port() && at.Addr().IsUnspecified()
	})
}

// owned says whether there are such sockets, and all are this user's. list is one of
// netlink's, which ask sock_diag(7) for those of an address family.
func owned(list func(family uint8) ([]*netlink.Socket, error), such func(*netlink.Socket) bool) bool {
	found := false
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} { // a socket of IPv6 may speak IPv4
		for range dumpTries {
			sockets, err := list(family)
			for _, s := range sockets {
				if !such(s) {
					continue
				}
				if s.UID != uint32(os.Geteuid()) {
					return false
				}
				found = true
			}
			if !errors.Is(err, netlink.ErrDumpInterrupted) {
				break
			}
		}
	}
	return found
}

// socketAddr is an address as sock_diag tells it, comparable.
func socketAddr(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}
