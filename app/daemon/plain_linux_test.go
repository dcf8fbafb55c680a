package daemon

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// What becomes of packets on their way, one by one and each made from scratch: the plain
// reference that the fast path is compared with. It shares nothing with that.

const (
	plainTCP = 6
	plainUDP = 17

	plainSYN, plainFIN, plainPSH, plainACK, plainCWR = 0x02, 0x01, 0x08, 0x10, 0x80
)

// plainSum is the Internet checksum of the parts, which but for the last have an even
// length (RFC 1071).
func plainSum(parts ...[]byte) uint16 {
	var sum uint64
	for i, b := range slices.Concat(parts...) {
		sum += uint64(b) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ipHead are the fields of an IP header that tests choose.
type ipHead struct {
	src, dst netip.Addr
	proto    byte
	tos, ttl byte
	id       uint16 // IPv4
	flags    uint16 // IPv4: with the offset
	options  []byte // IPv4
}

// ipPacket puts an IP header before a payload.
func ipPacket(h ipHead, payload []byte) []byte {
	if h.dst.Is6() {
		head := []byte{0x60, h.tos, 0, 0, byte(len(payload) >> 8), byte(len(payload)), h.proto, h.ttl}
		return slices.Concat(head, h.src.AsSlice(), h.dst.AsSlice(), payload)
	}
	total, header := 20+len(h.options)+len(payload), 20+len(h.options)
	head := []byte{
		0x40 | byte(header/4), h.tos, byte(total >> 8), byte(total), byte(h.id >> 8), byte(h.id),
		byte(h.flags >> 8), byte(h.flags), h.ttl, h.proto, 0, 0,
	}
	head = slices.Concat(head, h.src.AsSlice(), h.dst.AsSlice(), h.options)
	binary.BigEndian.PutUint16(head[10:], plainSum(head))
	return append(head, payload...)
}

// upperAt is where the header behind the IP header begins.
func upperAt(p []byte) int {
	if p[0]>>4 == 6 {
		return 40
	}
	return int(p[0]&15) * 4
}

func protoOf(p []byte) byte {
	if p[0]>>4 == 6 {
		return p[6]
	}
	return p[9]
}

// fieldOf is where the checksum stands in a TCP or UDP header.
func fieldOf(proto byte) int {
	if proto == plainTCP {
		return 16
	}
	return 6
}

// pseudo is the pseudo-header of a packet of TCP, UDP or ICMPv6.
func pseudo(p []byte) []byte {
	addresses := p[12:20]
	if p[0]>>4 == 6 {
		addresses = p[8:40]
	}
	n := len(p) - upperAt(p)
	return slices.Concat(addresses, []byte{0, protoOf(p), byte(n >> 8), byte(n)})
}

// summed completes the lengths and checksums of a packet of TCP or UDP.
func summed(p []byte) []byte {
	at, proto := upperAt(p), protoOf(p)
	if p[0]>>4 == 6 {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	} else {
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		clear(p[10:12])
		binary.BigEndian.PutUint16(p[10:], plainSum(p[:at]))
	}
	if proto == plainUDP {
		binary.BigEndian.PutUint16(p[at+4:], uint16(len(p)-at))
	}
	field := p[at+fieldOf(proto):][:2]
	clear(field)
	sum := plainSum(pseudo(p), p[at:])
	if sum == 0 && proto == plainUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
	return p
}

// offloadHead is what stands before a packet whose checksum, and in segments of size bytes
// whose cutting if that is not zero, are left to who takes it (virtio 1.2 §5.1.6). It puts
// into the packet what belongs there then: the sum of the pseudo-header.
func offloadHead(p []byte, size int) []byte {
	at, proto := upperAt(p), protoOf(p)
	kind, header := byte(0), at+8
	if proto == plainTCP {
		header = at + int(p[at+12]>>4)*4
	}
	switch {
	case size == 0:
	case proto == plainUDP:
		kind = 5
	case p[0]>>4 == 6:
		kind = 4
	default:
		kind = 1
	}
	if kind != 0 && proto == plainTCP && p[at+13]&plainCWR != 0 {
		kind |= 0x80
	}
	binary.BigEndian.PutUint16(p[at+fieldOf(proto):], ^plainSum(pseudo(p)))
	head := []byte{1, kind}
	for _, v := range []int{header, size, at, fieldOf(proto)} {
		head = binary.NativeEndian.AppendUint16(head, uint16(v))
	}
	return head
}

// apart are the packets that one behind its offload header stands for. It reports false if
// that is not as it should be.
func apart(whole []byte) (packets [][]byte, ok bool) {
	head, p := whole[:10], slices.Clone(whole[10:])
	if head[0] == 0 {
		return [][]byte{p}, head[1] == 0
	}
	at, proto := upperAt(p), protoOf(p)
	size := int(binary.NativeEndian.Uint16(head[4:]))
	if want := offloadHead(slices.Clone(p), size); !slices.Equal(head, want) && head[1] != 0 {
		return nil, false
	}
	left := binary.BigEndian.Uint16(p[at+fieldOf(proto):])
	if left%0xffff != ^plainSum(pseudo(p))%0xffff {
		return nil, false
	}
	one := summed(slices.Clone(p))
	if size == 0 {
		return [][]byte{one}, true
	}
	if copy(one[at+fieldOf(proto):][:2], p[at+fieldOf(proto):]); !slices.Equal(one, p) { // lengths, IPv4's checksum
		return nil, false
	}
	header := int(binary.NativeEndian.Uint16(head[2:]))
	payload := p[header:]
	for i := 0; i*size < len(payload); i++ {
		begin, end := i*size, min((i+1)*size, len(payload))
		q := slices.Concat(p[:header], payload[begin:end])
		if q[0]>>4 == 4 {
			binary.BigEndian.PutUint16(q[4:], binary.BigEndian.Uint16(p[4:])+uint16(i))
		}
		if proto == plainTCP {
			binary.BigEndian.PutUint32(q[at+4:], binary.BigEndian.Uint32(p[at+4:])+uint32(begin))
			if end < len(payload) {
				q[at+13] &^= plainFIN | plainPSH
			}
			if i > 0 {
				q[at+13] &^= plainCWR
			}
		}
		packets = append(packets, summed(q))
	}
	return packets, true
}

// plainPath is what a path that carries limit bytes makes of the host's packets.
type plainPath struct {
	limit int
	id    uint16 // the last one that was given to a packet without
}

// clamp lowers the MSS option of a SYN.
func (l *plainPath) clamp(p []byte) []byte {
	p = slices.Clone(p)
	at := upperAt(p)
	fragment := p[0]>>4 == 4 && binary.BigEndian.Uint16(p[6:])&0x3fff != 0
	if protoOf(p) != plainTCP || fragment || len(p) < at+20 || p[at+13]&plainSYN == 0 {
		return p
	}
	most := l.limit - 20 - 20
	if p[0]>>4 == 6 {
		most = l.limit - 40 - 20
	}
	end := at + int(p[at+12]>>4)*4
	for o := at + 20; o < end && p[o] != 0; {
		switch {
		case p[o] == 1:
			o++
		case p[o] == 2:
			if int(binary.BigEndian.Uint16(p[o+2:])) <= most {
				return p
			}
			binary.BigEndian.PutUint16(p[o+2:], uint16(most))
			return summed(p)
		default:
			o += int(p[o+1])
		}
	}
	return p
}

// out are the packets that go to the gateway for one of the host's, and the answer to the
// host, if there is one.
func (l *plainPath) out(p []byte) (packets [][]byte, answer []byte) {
	p = l.clamp(p)
	switch {
	case len(p) <= l.limit || p[0]>>4 == 6 && len(p) <= 1280:
		return [][]byte{p}, nil
	case p[0]>>4 == 6:
		return nil, l.tooBig6(p)
	case p[6]&0x40 != 0:
		return nil, l.tooBig4(p)
	}
	return l.cut(p), nil
}

// cut makes fragments (RFC 791 §3.2).
func (l *plainPath) cut(p []byte) (fragments [][]byte) {
	at, flags := upperAt(p), binary.BigEndian.Uint16(p[6:])
	h := ipHead{
		src: netip.AddrFrom4([4]byte(p[12:])), dst: netip.AddrFrom4([4]byte(p[16:])), proto: p[9], tos: p[1], ttl: p[8],
		id: binary.BigEndian.Uint16(p[4:]), options: p[20:at],
	}
	if h.id == 0 && flags&0x3fff == 0 {
		l.id++
		h.id = l.id
	}
	payload, offset := p[at:], int(flags&0x1fff)
	for len(payload) > 0 {
		size := (l.limit - 20 - len(h.options)) / 8 * 8
		h.flags = flags&0x2000 | uint16(offset)
		if size < len(payload) {
			h.flags |= 0x2000
		}
		size = min(size, len(payload))
		fragments = append(fragments, ipPacket(h, payload[:size]))
		payload, offset = payload[size:], offset+size/8
		if len(h.options) > 0 && h.options[0]&0x80 == 0 { // parcels have one at most
			h.options = nil
		}
	}
	return fragments
}

// tooBig4 is the answer of RFC 1191 §4, of 576 bytes at most.
func (l *plainPath) tooBig4(p []byte) []byte {
	at := upperAt(p)
	if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 || p[9] == 1 && slices.Contains([]byte{3, 4, 5, 11, 12}, p[at]) {
		return nil
	}
	icmp := slices.Concat([]byte{3, 4, 0, 0, 0, 0, byte(l.limit >> 8), byte(l.limit)}, p[:min(len(p), 576-28)])
	binary.BigEndian.PutUint16(icmp[2:], plainSum(icmp))
	return ipPacket(ipHead{src: netip.AddrFrom4([4]byte(p[16:])), dst: netip.AddrFrom4([4]byte(p[12:])), proto: 1, ttl: 64, flags: 0x4000}, icmp)
}

// tooBig6 is that of RFC 4443 §3.2, of 1280 bytes at most.
func (l *plainPath) tooBig6(p []byte) []byte {
	if p[6] == 58 && p[40] < 128 {
		return nil
	}
	limit := max(l.limit, 1280)
	icmp := slices.Concat([]byte{2, 0, 0, 0, 0, 0, byte(limit >> 8), byte(limit)}, p[:min(len(p), 1280-48)])
	answer := ipPacket(ipHead{src: netip.AddrFrom16([16]byte(p[24:])), dst: netip.AddrFrom16([16]byte(p[8:])), proto: 58, ttl: 64}, icmp)
	binary.BigEndian.PutUint16(answer[42:], plainSum(pseudo(answer), answer[40:]))
	return answer
}
