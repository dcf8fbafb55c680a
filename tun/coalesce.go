package tun

import (
	"bytes"
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

const (
	// maxFlows is how many TCP connections are looked at side by side; those of a
	// batch are few.
	maxFlows = 8
	// maxCoalesced is how many segments become one packet.
	maxCoalesced = 64
)

// coalescer puts segments of TCP that follow each other together, so that the host
// takes them as one packet. Nothing is copied but headers. A segment whose checksums are
// wrong stays by itself, so that the host sees that they are.
type coalescer struct {
	// write takes a packet in parts, the first of which is its offload header, or
	// begins with it.
	write func(parts [][]byte)

	flows [maxFlows]flow
	next  int // the flow that gives way
	plain [offloadLen]byte
	pair  [2][]byte
}

// flow is what has been put together of a connection.
type flow struct {
	count    int // segments; 0: none
	ipv6     bool
	size     int // bytes of payload in each, but perhaps the last
	total    int // bytes of payload
	headers  int // bytes
	sequence uint32
	id       uint16 // IPv4: of the last segment
	verified bool   // the first segment's checksums are right
	closed   bool   // nothing can follow
	memory   [offloadLen + maxHeaders]byte
	first    []byte   // the whole first packet
	parts    [][]byte // headers, then payloads
}

// add takes a packet, which must stay as it is until the next flush.
func (c *coalescer) add(p []byte) {
	tcp, ok := tcpOf(p)
	if !ok {
		if !isUDP(p) { // it may belong to a connection that waits
			c.flush()
		}
		c.alone(p)
		return
	}
	f := c.flowOf(p, tcp)
	if f != nil {
		if f.takes(p, tcp) {
			f.append(p, tcp)
			return
		}
		c.flushFlow(f)
	}
	if payload := len(p) - headersLen(p, tcp); payload <= 0 || tcp[tcpFlags]&^tcpPSH != tcpACK {
		c.alone(p)
		return
	}
	if f == nil {
		f = &c.flows[c.next]
		c.next = (c.next + 1) % maxFlows
		c.flushFlow(f)
	}
	f.begin(p, tcp)
}

func isUDP(p []byte) bool {
	return len(p) >= ipv4HeaderLen && p[0]>>4 == 4 && p[9] == protoUDP || len(p) >= ipv6HeaderLen && p[0]>>4 == 6 && p[6] == protoUDP
}

// tcpOf returns the TCP segment of a packet that can be coalesced: without IPv4 options,
// fragmentation, or extension headers.
func tcpOf(p []byte) ([]byte, bool) {
	transport := ipv4HeaderLen
	switch {
	case len(p) >= ipv4HeaderLen && p[0] == 0x45:
		flags := binary.BigEndian.Uint16(p[6:])
		if p[9] != protoTCP || int(binary.BigEndian.Uint16(p[2:])) != len(p) || flags&(ipv4MoreFragments|ipv4OffsetMask) != 0 {
			return nil, false
		}
	case len(p) >= ipv6HeaderLen && p[0]>>4 == 6:
		if p[6] != protoTCP || int(binary.BigEndian.Uint16(p[4:])) != len(p)-ipv6HeaderLen {
			return nil, false
		}
		transport = ipv6HeaderLen
	default:
		return nil, false
	}
	tcp := p[transport:]
	if len(tcp) < tcpHeaderLen {
		return nil, false
	}
	header := int(tcp[12]>>4) * 4
	return tcp, header >= tcpHeaderLen && header <= len(tcp)
}

// headersLen is the length in bytes of all headers of a packet.
func headersLen(p, tcp []byte) int { return len(p) - len(tcp) + int(tcp[12]>>4)*4 }

// flowOf finds what is waiting of the same connection.
func (c *coalescer) flowOf(p, tcp []byte) *flow {
	for i := range c.flows {
		f := &c.flows[i]
		if f.count == 0 || f.first[0]>>4 != p[0]>>4 {
			continue
		}
		from, to := 12, 24 // addresses and ports
		if f.ipv6 {
			from, to = 8, 44
		}
		if bytes.Equal(f.first[from:to], p[from:to]) {
			return f
		}
	}
	return nil
}

func (f *flow) begin(p, tcp []byte) {
	f.headers = headersLen(p, tcp)
	payload := p[f.headers:]
	f.count, f.ipv6, f.size, f.total = 1, p[0]>>4 == 6, len(payload), len(payload)
	f.sequence = binary.BigEndian.Uint32(tcp[4:]) + uint32(len(payload))
	f.id = binary.BigEndian.Uint16(p[4:])
	f.verified, f.closed = false, tcp[tcpFlags]&tcpPSH != 0
	f.first = p
	f.parts = append(f.parts[:0], nil, payload)
}

// takes reports whether the segment of a packet is the next one, with headers that say
// the same, and whether the checksums of all are right.
func (f *flow) takes(p, tcp []byte) bool {
	first, headers := f.first, headersLen(p, tcp)
	transport, payload := len(p)-len(tcp), len(p)-headers
	if f.closed || headers != f.headers || payload == 0 || payload > f.size || tcp[tcpFlags]&^tcpPSH != tcpACK ||
		f.count == maxCoalesced || f.headers+f.total+payload > MaxMTU || binary.BigEndian.Uint32(tcp[4:]) != f.sequence {
		return false
	}
	old := first[transport:]
	if !bytes.Equal(old[8:12], tcp[8:12]) || // acknowledgement
		!bytes.Equal(old[14:16], tcp[14:16]) || // window
		!bytes.Equal(old[18:headers-transport], tcp[18:headers-transport]) { // urgent pointer, options
		return false
	}
	if f.ipv6 {
		if !bytes.Equal(first[:4], p[:4]) || first[7] != p[7] {
			return false
		}
	} else if first[1] != p[1] || first[6] != p[6] || first[8] != p[8] ||
		p[6]&(ipv4DontFragment>>8) == 0 && binary.BigEndian.Uint16(p[4:]) != f.id+1 {
		return false
	}
	f.verified = f.verified || verified(first, old)
	return f.verified && verified(p, tcp)
}

// verified reports whether the checksums of a packet are right.
func verified(p, tcp []byte) bool {
	if p[0]>>4 == 4 && checksum.Checksum(p[:ipv4HeaderLen], 0) != 0xffff {
		return false
	}
	return checksum.Checksum(tcp, checksum.Combine(addressSum(p, protoTCP), uint16(len(tcp)))) == 0xffff
}

func (f *flow) append(p, tcp []byte) {
	if f.count == 1 {
		copy(f.memory[offloadLen:], f.first[:f.headers])
	}
	payload := p[f.headers:]
	f.parts = append(f.parts, payload)
	f.count, f.total, f.sequence = f.count+1, f.total+len(payload), f.sequence+uint32(len(payload))
	f.id = binary.BigEndian.Uint16(p[4:])
	f.memory[offloadLen+len(p)-len(tcp)+tcpFlags] |= tcp[tcpFlags]
	f.closed = len(payload) < f.size || tcp[tcpFlags]&tcpPSH != 0
}

// flush writes all that waits.
func (c *coalescer) flush() {
	for i := range c.flows {
		c.flushFlow(&c.flows[i])
	}
}

func (c *coalescer) flushFlow(f *flow) {
	switch {
	case f.count == 1:
		c.alone(f.first)
	case f.count > 1:
		f.finish()
		c.write(f.parts)
	}
	f.count = 0
}

// finish makes the headers those of the whole.
func (f *flow) finish() {
	header := f.memory[offloadLen:][:f.headers]
	o := offload{flags: offloadChecksum, kind: offloadTCP4, size: f.size, checksumStart: ipv4HeaderLen, checksumField: tcpChecksum}
	if f.ipv6 {
		o.kind, o.checksumStart = offloadTCP6, ipv6HeaderLen
		binary.BigEndian.PutUint16(header[4:], uint16(f.headers-ipv6HeaderLen+f.total))
	} else {
		binary.BigEndian.PutUint16(header[2:], uint16(f.headers+f.total))
		clear(header[ipv4Checksum:][:2])
		complete(header[:ipv4HeaderLen], ipv4Checksum, 0)
	}
	tcp := header[o.checksumStart:]
	sum := checksum.Combine(addressSum(header, protoTCP), uint16(len(tcp)+f.total))
	binary.BigEndian.PutUint16(tcp[tcpChecksum:], sum)
	o.put(f.memory[:], f.headers)
	f.parts[0] = f.memory[:offloadLen+f.headers]
}

// alone writes a packet as it is.
func (c *coalescer) alone(p []byte) {
	c.pair = [2][]byte{c.plain[:], p}
	c.write(c.pair[:])
}
