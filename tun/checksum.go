package tun

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Places of the Internet checksum (RFC 1071) in headers.
const (
	ipv4Checksum = 10
	icmpChecksum = 2
	tcpChecksum  = 16
	udpChecksum  = 6
)

// complete writes the checksum of b, and of whatever has the sum given, to b[field:],
// where there are zeros, or the sum of the pseudo-header stands already.
func complete(b []byte, field int, sum uint16) {
	sum = ^checksum.Checksum(b, sum)
	if sum == 0 && field == udpChecksum {
		sum = 0xffff // zero says that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(b[field:], sum)
}

// headerSum is the sum of an IPv4 header without options: what checksum.Checksum says,
// without its preparations for bytes of any number and alignment.
func headerSum(h *[ipv4HeaderLen]byte) uint16 {
	var sum uint64
	for i := 0; i < len(h); i += 4 {
		sum += uint64(binary.BigEndian.Uint32(h[i:]))
	}
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum&0xffff)
}

// addressSum is the part of the pseudo-header's sum that is the same for all packets of
// a connection (RFC 9293 §3.1, RFC 8200 §8.1).
func addressSum(p []byte, proto byte) uint16 {
	addresses := p[12:20]
	if p[0]>>4 == 6 {
		addresses = p[8:40]
	}
	return checksum.Combine(checksum.Checksum(addresses, 0), uint16(proto))
}
