package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

const (
	// maxFlows is how many connections are looked at side by side; those of a
	// batch are few.
	maxFlows = 8
	// maxCoalesced is how many segments become one packet.
	maxCoalesced = 64
)

// coalescer puts segments of TCP that follow each other together, so that the host
// takes them as one packet, and datagrams of UDP if it can take those. Nothing is copied
// but headers. A packet whose checksums are wrong stays by itself, so that the host sees
// that they are.
type coalescer struct {
	// write takes a packet in parts, the first of which is its offload header, or
	// begins with it.
	write func(parts [][]byte) error
	udp   bool // the host takes datagrams, too

	flows [maxFlows]flow
	next  int // the flow that gives way
	plain [offloadLen]byte
	pair  [2][]byte
	err   error // of the first packet that was refused since the last flush
}

// flow is what has been put together of a connection.
type flow struct {
	unit            // the first packet
	count    int    // packets; 0: none
	size     int    // bytes of payload in each, but perhaps the last
	total    int    // bytes of payload
	sequence uint32 // TCP: of the next
	id       uint16 // IPv4: of the last packet
	closed   bool   // nothing can follow

	checked   bool   // the first packet's checksums are right
	addresses uint16 // their sum, in all of its packets; set before checked

	memory  [offloadLen + maxHeaders]byte
	parts   [][]byte // headers, then payloads
	packets [][]byte // as they came
}

// add takes a packet, which must stay as it is until the next flush.
func (c *coalescer) add(p []byte) {
	u, ok := unitOf(p)
	if !ok {
		if c.udp || u.proto != protoUDP { // it may belong to a connection that waits
			c.flushFlows()
		}
		c.alone(p)
		return
	}
	if u.proto == protoUDP && !c.udp {
		c.alone(p)
		return
	}
	f := c.flowOf(u)
	if f != nil && f.takes(u) {
		f.append(u)
		return
	}
	if f == nil && u.begins() {
		f = &c.flows[c.next]
		c.next = (c.next + 1) % maxFlows
	}
	if f != nil {
		c.flushFlow(f)
	}
	if !u.begins() || u.proto == protoUDP && !c.udp { // as has just turned out
		c.alone(p)
		return
	}
	f.begin(u)
}

// unit is a packet that can be coalesced.
type unit struct {
	packet    []byte
	ipv6      bool
	proto     byte
	transport int // where the TCP or UDP header begins
	headers   int // bytes
}

// unitOf looks at a packet. It can be coalesced if it has no IPv4 options, fragmentation, or
// extension headers.
func unitOf(p []byte) (u unit, ok bool) {
	u.packet = p
	switch {
	case len(p) >= ipv4HeaderLen && p[0]>>4 == 4:
		u.proto, u.transport = p[9], ipv4HeaderLen
		ok = p[0] == 0x45 && int(binary.BigEndian.Uint16(p[2:])) == len(p) &&
			binary.BigEndian.Uint16(p[6:])&(ipv4MoreFragments|ipv4OffsetMask) == 0
	case len(p) >= ipv6HeaderLen && p[0]>>4 == 6:
		u.proto, u.transport, u.ipv6 = p[6], ipv6HeaderLen, true
		ok = int(binary.BigEndian.Uint16(p[4:])) == len(p)-ipv6HeaderLen
	}
	transport := p[min(u.transport, len(p)):]
	switch {
	case u.proto == protoTCP && len(transport) >= tcpHeaderLen:
		header := int(transport[12]>>4) * 4
		u.headers = u.transport + header
		return u, ok && header >= tcpHeaderLen && header <= len(transport)
	case u.proto == protoUDP && len(transport) >= udpHeaderLen:
		u.headers = u.transport + udpHeaderLen
		return u, ok && int(binary.BigEndian.Uint16(transport[udpLength:])) == len(transport)
	}
	return u, false
}

// payload is what the packet carries.
func (u *unit) payload() []byte { return u.packet[u.headers:] }

// begins says whether others could follow the packet. What tells of congestion may be in
// it (ECE, and the counter of AccECN), if it is in all of them; CWR is of one packet.
func (u *unit) begins() bool {
	const of = tcpSYN | tcpFIN | tcpRST | tcpURG | tcpCWR | tcpACK
	return len(u.payload()) > 0 && (u.proto == protoUDP || u.packet[u.transport+tcpFlags]&of == tcpACK)
}

// ends says whether nothing can follow the packet.
func (u *unit) ends() bool { return u.proto == protoTCP && u.packet[u.transport+tcpFlags]&tcpPSH != 0 }

// flowOf finds what is waiting of the same connection.
func (c *coalescer) flowOf(u unit) *flow {
	p := u.packet
	for i := range c.flows {
		f := &c.flows[i]
		if f.count == 0 || f.ipv6 != u.ipv6 || f.proto != u.proto {
			continue
		}
		from, to := 12, 24 // addresses and ports
		if f.ipv6 {
			from, to = 8, 44
		}
		if bytes.Equal(f.packet[from:to], p[from:to]) {
			return f
		}
	}
	return nil
}

func (f *flow) begin(u unit) {
	size := len(u.payload())
	f.unit = u
	f.count, f.size, f.total = 1, size, size
	if u.proto == protoTCP {
		f.sequence = binary.BigEndian.Uint32(u.packet[u.transport+4:]) + uint32(size)
	}
	f.id = binary.BigEndian.Uint16(u.packet[4:])
	f.checked, f.closed = false, u.ends()
	f.parts = append(f.parts[:0], nil, u.payload())
	f.packets = append(f.packets[:0], u.packet)
}

// takes reports whether a packet is the next one, with headers that say the same, and
// whether the checksums of all are right.
func (f *flow) takes(u unit) bool {
	payload := len(u.payload())
	if f.closed || u.headers != f.headers || payload == 0 || payload > f.size ||
		f.count == maxCoalesced || f.headers+f.total+payload > MaxMTU || !f.sameIP(u.packet) {
		return false
	}
	if u.proto == protoTCP && !f.sameTCP(u.packet[u.transport:u.headers]) {
		return false
	}
	if !f.checked {
		f.addresses = addressSum(f.packet, f.proto)
		f.checked = f.verified(f.addresses)
	}
	return f.checked && u.verified(f.addresses)
}

// sameIP compares IP headers.
func (f *flow) sameIP(p []byte) bool {
	first := f.packet
	if f.ipv6 {
		return bytes.Equal(first[:4], p[:4]) && first[7] == p[7]
	}
	return first[1] == p[1] && first[6] == p[6] && first[8] == p[8] &&
		(p[6]&(ipv4DontFragment>>8) != 0 || binary.BigEndian.Uint16(p[4:]) == f.id+1)
}

// sameTCP compares TCP headers.
func (f *flow) sameTCP(tcp []byte) bool {
	old := f.packet[f.transport:f.headers]
	return binary.BigEndian.Uint32(tcp[4:]) == f.sequence &&
		bytes.Equal(old[8:12], tcp[8:12]) && // acknowledgement
		old[tcpOffset] == tcp[tcpOffset] && old[tcpFlags]&^tcpPSH == tcp[tcpFlags]&^tcpPSH &&
		bytes.Equal(old[14:16], tcp[14:16]) && // window
		bytes.Equal(old[18:], tcp[18:]) // urgent pointer, options
}

// verified reports whether the checksums of a packet are right, whose addresses have the sum
// given; that of UDP must be there.
func (u *unit) verified(addresses uint16) bool {
	p := u.packet
	if !u.ipv6 && headerSum((*[ipv4HeaderLen]byte)(p)) != 0xffff {
		return false
	}
	transport := p[u.transport:]
	return checksum.Checksum(transport, checksum.Combine(addresses, uint16(len(transport)))) == 0xffff
}

func (f *flow) append(u unit) {
	if f.count == 1 {
		copy(f.memory[offloadLen:], f.packet[:f.headers])
	}
	payload := u.payload()
	f.parts, f.packets = append(f.parts, payload), append(f.packets, u.packet)
	f.count, f.total, f.sequence = f.count+1, f.total+len(payload), f.sequence+uint32(len(payload))
	f.id = binary.BigEndian.Uint16(u.packet[4:])
	if u.proto == protoTCP {
		f.memory[offloadLen+u.transport+tcpFlags] |= u.packet[u.transport+tcpFlags]
	}
	f.closed = len(payload) < f.size || u.ends()
}

// flush writes all that waits. The error is of the first packet that was refused since the
// last flush.
func (c *coalescer) flush() (refused error) {
	c.flushFlows()
	refused, c.err = c.err, nil
	return refused
}

func (c *coalescer) flushFlows() {
	for i := range c.flows {
		c.flushFlow(&c.flows[i])
	}
}

func (c *coalescer) flushFlow(f *flow) {
	count := f.count
	f.count = 0
	switch {
	case count == 1:
		c.alone(f.packet)
	case count > 1:
		f.finish()
		if err := c.write(f.parts); err != nil {
			c.separate(f, err)
		}
	}
}

// separate writes packets that were refused together, for some reason. If datagrams were
// invalid together and are taken each by itself, no more are put together, and none wait.
func (c *coalescer) separate(f *flow, reason error) {
	before := c.err
	c.err = nil
	for _, p := range f.packets {
		c.alone(p)
	}
	ends := c.err == nil && f.proto == protoUDP && errors.Is(reason, syscall.EINVAL)
	if before != nil {
		c.err = before
	}
	if ends {
		c.udp = false
		c.flushFlows()
	}
}

func (c *coalescer) note(err error) {
	if c.err == nil {
		c.err = err
	}
}

// finish makes the headers those of the whole.
func (f *flow) finish() {
	header := f.memory[offloadLen:][:f.headers]
	o := offload{flags: offloadChecksum, size: f.size, checksumStart: f.transport, checksumField: tcpChecksum}
	if f.ipv6 {
		o.kind = offloadTCP6
		binary.BigEndian.PutUint16(header[4:], uint16(f.headers-ipv6HeaderLen+f.total))
	} else {
		o.kind = offloadTCP4
		binary.BigEndian.PutUint16(header[2:], uint16(f.headers+f.total))
		clear(header[ipv4Checksum:][:2])
		complete(header[:ipv4HeaderLen], ipv4Checksum, 0)
	}
	transport := header[f.transport:]
	size := uint16(len(transport) + f.total)
	if f.proto == protoUDP {
		o.kind, o.checksumField = offloadUDP, udpChecksum
		binary.BigEndian.PutUint16(transport[udpLength:], size)
	}
	binary.BigEndian.PutUint16(transport[o.checksumField:], checksum.Combine(f.addresses, size))
	o.put(f.memory[:], f.headers)
	f.parts[0] = f.memory[:offloadLen+f.headers]
}

// alone writes a packet as it is.
func (c *coalescer) alone(p []byte) {
	c.pair = [2][]byte{c.plain[:], p}
	c.note(c.write(c.pair[:]))
}
