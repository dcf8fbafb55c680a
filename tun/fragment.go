package tun

import "encoding/binary"

// MinIPv6MTU is the smallest MTU, in bytes, that a link with IPv6 may have (RFC 8200
// §5).
const MinIPv6MTU = 1280

// Fits reports whether packet may be sent as it is where the largest packet is mtu
// bytes long. IPv6 hosts need not send less than MinIPv6MTU bytes, whatever they are
// told, so as much always fits.
func Fits(packet []byte, mtu int) bool {
	return len(packet) <= mtu || len(packet) <= MinIPv6MTU && packet[0]>>4 == 6
}

// Fields of the IPv4 header (RFC 791 §3.1).
const (
	ipv4DontFragment  = 0x4000
	ipv4MoreFragments = 0x2000
	ipv4OffsetMask    = 0x1fff // in units of 8 bytes

	ipv4OptEnd    = 0
	ipv4OptNop    = 1
	ipv4OptCopied = 0x80 // the option stands in every fragment
)

// Fragmenter cuts IPv4 packets. The zero value is ready; one goroutine may use it.
type Fragmenter struct {
	id uint16 // the last one that was given
}

// Cut prepares to cut packet into fragments of at most mtu bytes (RFC 791 §3.2); mtu
// is at least 68. It reports false if the packet is malformed, not IPv4, or has
// DontFragment set. The packet must stay as it is until the last fragment is made.
//
// A fragment may be cut again. A whole packet whose identification is zero gets one:
// its sender took it to be atomic (RFC 6864 §4.1), and the fragments of two such
// packets would be mixed up.
func (f *Fragmenter) Cut(packet []byte, mtu int) (Fragments, bool) {
	header, ok := ipv4HeaderOf(packet)
	if !ok || binary.BigEndian.Uint16(packet[6:])&ipv4DontFragment != 0 {
		return Fragments{}, false
	}
	packet = packet[:binary.BigEndian.Uint16(packet[2:])]
	flags := binary.BigEndian.Uint16(packet[6:])
	offset, more := int(flags&ipv4OffsetMask)*8, flags&ipv4MoreFragments != 0
	payload := packet[header:]
	if offset+len(payload) > MaxMTU || more && len(payload)%8 != 0 {
		return Fragments{}, false
	}
	id := binary.BigEndian.Uint16(packet[4:])
	if id == 0 && offset == 0 && !more {
		if f.id++; f.id == 0 {
			f.id = 1
		}
		id = f.id
	}
	return Fragments{header: packet[:header], payload: payload, offset: offset, more: more, id: id, mtu: mtu}, true
}

// Fragments are what is left to make of a packet.
type Fragments struct {
	header  []byte // of the packet
	payload []byte // that is left
	offset  int    // of it, in bytes
	more    bool   // other fragments of the packet, from before, follow
	id      uint16
	mtu     int
	begun   bool
}

// Next writes the next fragment to dst, which has room for it, and returns its length
// in bytes; 0 if there are no more.
func (f *Fragments) Next(dst []byte) int {
	if len(f.payload) == 0 {
		return 0
	}
	header := copy(dst, f.header)
	if f.begun {
		header = copiedHeader(dst, f.header)
	}
	f.begun = true
	size := (f.mtu - header) &^ 7
	last := size >= len(f.payload)
	if last {
		size = len(f.payload)
	}
	flags := binary.BigEndian.Uint16(f.header[6:])&^(ipv4OffsetMask|ipv4MoreFragments) | uint16(f.offset/8)
	if !last || f.more {
		flags |= ipv4MoreFragments
	}
	total := header + copy(dst[header:], f.payload[:size])
	dst[0] = 4<<4 | byte(header/4)
	binary.BigEndian.PutUint16(dst[2:], uint16(total))
	binary.BigEndian.PutUint16(dst[4:], f.id)
	binary.BigEndian.PutUint16(dst[6:], flags)
	clear(dst[ipv4Checksum:][:2])
	complete(dst[:header], ipv4Checksum, 0)
	f.payload, f.offset = f.payload[size:], f.offset+size
	return total
}

// copiedHeader writes to dst the header of the fragments after the first: of the
// options only those that are to be copied. It returns the length in bytes.
func copiedHeader(dst, header []byte) int {
	n := copy(dst, header[:ipv4HeaderLen])
	for options := header[ipv4HeaderLen:]; len(options) > 0 && options[0] != ipv4OptEnd; {
		size := 1
		if options[0] != ipv4OptNop {
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				break
			}
			size = int(options[1])
		}
		if options[0]&ipv4OptCopied != 0 {
			n += copy(dst[n:], options[:size])
		}
		options = options[size:]
	}
	for ; n%4 != 0; n++ {
		dst[n] = ipv4OptEnd
	}
	return n
}

// ipv4HeaderOf returns the length in bytes of the header of an IPv4 packet, and false
// if the lengths in it are not true.
func ipv4HeaderOf(p []byte) (int, bool) {
	if len(p) < ipv4HeaderLen || p[0]>>4 != 4 {
		return 0, false
	}
	header, total := int(p[0]&0x0f)*4, int(binary.BigEndian.Uint16(p[2:]))
	return header, header >= ipv4HeaderLen && total >= header && total <= len(p)
}
