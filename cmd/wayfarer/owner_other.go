//go:build !linux

package main

import (
	"net"
	"net/netip"
)

// tellsOwners says whether the system tells whose a socket is. This one is not asked.
func tellsOwners(net.Listener) bool { return false }

// ownsTCP is never called, because tellsOwners is false.
func ownsTCP(_, _ netip.AddrPort) bool { return false }

// ownsUDP is never called, because tellsOwners is false.
func ownsUDP(netip.AddrPort) bool { return false }
