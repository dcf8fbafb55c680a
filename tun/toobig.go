package tun

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Numbers of ICMP (RFC 792, RFC 1191 §4) and ICMPv6 (RFC 4443 §3.2).
const (
	protoICMP   = 1
	protoICMPv6 = 58

	icmpUnreachable   = 3
	icmpFragNeeded    = 4
	icmpSourceQuench  = 4
	icmpRedirect      = 5
	icmpTimeExceeded  = 11
	icmpParameter     = 12
	icmpv6TooBig      = 2
	icmpv6FirstInform = 128 // below are errors
	icmpHeaderLen     = 8
	icmpHopLimit      = 64
	maxICMPError      = 576        // of the whole packet (RFC 1812 §4.3.2.3)
	maxICMPv6Error    = MinIPv6MTU // likewise (RFC 4443 §2.4)
)

// TooBigSize is the room in bytes that the answer of [TooBig] needs at most.
const TooBigSize = maxICMPv6Error

// TooBig writes to dst, which has room for TooBigSize bytes, what the sender of packet
// is to be told if nothing beyond mtu bytes gets through: ICMP "fragmentation needed"
// (RFC 1191 §4) or ICMPv6 "packet too big" (RFC 4443 §3.2), as if from where the
// packet goes. It returns the length in bytes; 0 if there must be no answer (RFC 1122
// §3.2.2, RFC 4443 §2.4): to errors, to fragments but the first, to what was not sent
// by one host to another.
func TooBig(dst, packet []byte, mtu int) int {
	if len(packet) == 0 {
		return 0
	}
	switch packet[0] >> 4 {
	case 4:
		return tooBigIPv4(dst, packet, mtu)
	case 6:
		return tooBigIPv6(dst, packet, max(mtu, MinIPv6MTU))
	}
	return 0
}

func tooBigIPv4(dst, p []byte, mtu int) int {
	header, ok := ipv4HeaderOf(p)
	if !ok {
		return 0
	}
	p = p[:binary.BigEndian.Uint16(p[2:])]
	if binary.BigEndian.Uint16(p[6:])&ipv4OffsetMask != 0 || p[9] == protoICMP && isICMPError(p[header:]) {
		return 0
	}
	from, to := netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
	if !isHost(from) || !isHost(to) {
		return 0
	}
	total := min(ipv4HeaderLen+icmpHeaderLen+len(p), maxICMPError)
	answer := dst[:total]
	clear(answer[:ipv4HeaderLen+icmpHeaderLen])
	answer[0], answer[8], answer[9] = 0x45, icmpHopLimit, protoICMP
	binary.BigEndian.PutUint16(answer[2:], uint16(total))
	binary.BigEndian.PutUint16(answer[6:], ipv4DontFragment) // so that it needs no identification
	copy(answer[12:], p[16:20])
	copy(answer[16:], p[12:16])
	complete(answer[:ipv4HeaderLen], ipv4Checksum, 0)
	icmp := answer[ipv4HeaderLen:]
	icmp[0], icmp[1] = icmpUnreachable, icmpFragNeeded
	binary.BigEndian.PutUint16(icmp[6:], uint16(mtu))
	copy(icmp[icmpHeaderLen:], p)
	complete(icmp, icmpChecksum, 0)
	return total
}

func isICMPError(icmp []byte) bool {
	if len(icmp) == 0 {
		return true // nobody knows
	}
	switch icmp[0] {
	case icmpUnreachable, icmpSourceQuench, icmpRedirect, icmpTimeExceeded, icmpParameter:
		return true
	}
	return false
}

func tooBigIPv6(dst, p []byte, mtu int) int {
	if len(p) < ipv6HeaderLen {
		return 0
	}
	next, upper := upperIPv6(p[6], p[ipv6HeaderLen:])
	if next == protoICMPv6 && (len(upper) == 0 || upper[0] < icmpv6FirstInform) {
		return 0
	}
	if !isHost(netip.AddrFrom16([16]byte(p[8:]))) || !isHost(netip.AddrFrom16([16]byte(p[24:]))) {
		return 0
	}
	total := min(ipv6HeaderLen+icmpHeaderLen+len(p), maxICMPv6Error)
	answer := dst[:total]
	clear(answer[:ipv6HeaderLen+icmpHeaderLen])
	answer[0], answer[6], answer[7] = 6<<4, protoICMPv6, icmpHopLimit
	binary.BigEndian.PutUint16(answer[4:], uint16(total-ipv6HeaderLen))
	copy(answer[8:], p[24:40])
	copy(answer[24:], p[8:24])
	icmp := answer[ipv6HeaderLen:]
	icmp[0] = icmpv6TooBig
	binary.BigEndian.PutUint32(icmp[4:], uint32(mtu))
	copy(icmp[icmpHeaderLen:], p)
	complete(icmp, icmpChecksum, checksum.Combine(addressSum(answer, protoICMPv6), uint16(len(icmp))))
	return total
}

// isHost reports whether an address can be that of one host.
func isHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != limitedBroadcast
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
