package tun

import (
	"encoding/binary"
	"math/bits"
)

// MSS gives the largest TCP segments, in bytes without headers, that fit into an
// inner packet of mtu bytes over IPv4 and IPv6 (RFC 9293 §3.7.1: without options).
func MSS(mtu int) (mss4, mss6 uint16) {
	clamp := func(n int) uint16 { return uint16(min(max(n, 0), 0xffff)) }
	return clamp(mtu - ipv4HeaderLen - tcpHeaderLen), clamp(mtu - ipv6HeaderLen - tcpHeaderLen)
}

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20

	protoHopByHop = 0
	protoTCP      = 6
	protoRouting  = 43
	protoDestOpts = 60

	tcpSYN     = 0x02
	tcpOptEnd  = 0
	tcpOptNop  = 1
	tcpOptMSS  = 2
	tcpMSSSize = 4
)

// ClampMSS lowers the MSS option of a TCP SYN or SYN-ACK in packet to mss4 or mss6
// and reports whether it changed the packet. Fragments, segments without the option
// and whatever is malformed stay as they are. It allocates nothing.
func ClampMSS(packet []byte, mss4, mss6 uint16) bool {
	if len(packet) == 0 {
		return false
	}
	switch packet[0] >> 4 {
	case 4:
		return clampTCP(tcpInIPv4(packet), mss4)
	case 6:
		return clampTCP(tcpInIPv6(packet), mss6)
	}
	return false
}

// tcpInIPv4 returns the TCP segment of an unfragmented IPv4 packet, or nil.
func tcpInIPv4(p []byte) []byte {
	if len(p) < ipv4HeaderLen || p[9] != protoTCP {
		return nil
	}
	if binary.BigEndian.Uint16(p[6:])&(ipv4MoreFragments|ipv4OffsetMask) != 0 {
		return nil
	}
	header, ok := ipv4HeaderOf(p)
	if !ok {
		return nil
	}
	return p[header:binary.BigEndian.Uint16(p[2:])]
}

// tcpInIPv6 returns the TCP segment of an IPv6 packet without a fragment header, or
// nil. It looks behind extension headers (RFC 8200 §4).
func tcpInIPv6(p []byte) []byte {
	if len(p) < ipv6HeaderLen {
		return nil
	}
	length := int(binary.BigEndian.Uint16(p[4:]))
	if ipv6HeaderLen+length > len(p) {
		return nil
	}
	next, upper := upperIPv6(p[6], p[ipv6HeaderLen:ipv6HeaderLen+length])
	if next != protoTCP {
		return nil
	}
	return upper
}

// upperIPv6 goes past the extension headers that a whole packet may have (RFC 8200
// §4) and returns what follows; nil if they are cut off. A fragment header ends it.
func upperIPv6(next byte, p []byte) (byte, []byte) {
	for next == protoHopByHop || next == protoRouting || next == protoDestOpts {
		if len(p) < 8 {
			return next, nil
		}
		header := 8 + int(p[1])*8
		if header > len(p) {
			return next, nil
		}
		next, p = p[0], p[header:]
	}
	return next, p
}

func clampTCP(tcp []byte, mss uint16) bool {
	if len(tcp) < tcpHeaderLen || tcp[13]&tcpSYN == 0 {
		return false
	}
	header := int(tcp[12]>>4) * 4
	if header < tcpHeaderLen || header > len(tcp) {
		return false
	}
	for at := tcpHeaderLen; at < header; {
		kind := tcp[at]
		if kind == tcpOptEnd {
			return false
		}
		if kind == tcpOptNop {
			at++
			continue
		}
		if at+2 > header {
			return false
		}
		size := int(tcp[at+1])
		if size < 2 || at+size > header {
			return false
		}
		if kind == tcpOptMSS {
			return size == tcpMSSSize && lowerMSS(tcp, at+2, mss)
		}
		at += size
	}
	return false
}

// lowerMSS writes mss at tcp[at:] if it is lower than what stands there, and updates
// the checksum: HC' = ~(~HC + ~m + m') (RFC 1624 §3).
func lowerMSS(tcp []byte, at int, mss uint16) bool {
	old := binary.BigEndian.Uint16(tcp[at:])
	if old <= mss {
		return false
	}
	binary.BigEndian.PutUint16(tcp[at:], mss)
	if at%2 == 1 { // the field straddles two words of the sum
		old, mss = bits.ReverseBytes16(old), bits.ReverseBytes16(mss)
	}
	checksum := tcp[16:18]
	sum := uint32(^binary.BigEndian.Uint16(checksum)) + uint32(^old) + uint32(mss)
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(checksum, ^uint16(sum))
	return true
}
