package tun

import (
	"encoding/binary"
	"errors"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// errOffload: the header before a packet does not fit the packet.
var errOffload = errors.New("the offload header does not fit the packet")

// splitter cuts what the host left to its interface to cut. The zero value is ready.
type splitter struct {
	headers [maxHeaders]byte // of the next segment
}

// split calls take with the packets that the one in buf stands for, which begins with
// its offload header and has n bytes, that included. Each is a part of buf, and has
// Tailroom bytes of capacity behind it, which take puts back; so buf has as much behind
// n. The headers of a segment are written over the end of the one before it, which is
// lost.
func (s *splitter) split(buf []byte, n int, take func(packet []byte)) error {
	if n <= offloadLen {
		return errOffload
	}
	o, packet := parseOffload(buf), buf[offloadLen:n]
	if o.kind != offloadNone {
		return s.segment(o, buf[offloadLen:n+Tailroom], n-offloadLen, take)
	}
	if o.flags&offloadChecksum != 0 {
		if o.checksumStart+o.checksumField+2 > len(packet) {
			return errOffload
		}
		complete(packet[o.checksumStart:], o.checksumField, 0)
	}
	take(buf[offloadLen : n : n+Tailroom])
	return nil
}

// segments is a packet that is to be cut.
type segments struct {
	ipv6       bool
	transport  int // where the TCP or UDP header begins
	headers    int // bytes
	tcp        bool
	addressSum uint16
	ipSum      uint16 // IPv4: of the header without length, identification and checksum
	id         uint16 // IPv4: of the first
	sequence   uint32 // TCP
	flags      byte   // TCP
}

// parseSegments checks the headers of a packet that is to be cut.
func parseSegments(o offload, p []byte) (g segments, ok bool) {
	if len(p) < ipv4HeaderLen {
		return g, false
	}
	g.ipv6, g.tcp, g.transport = p[0]>>4 == 6, o.kind != offloadUDP, o.checksumStart
	least, field, transportLen := ipv4HeaderLen, udpChecksum, udpHeaderLen
	if g.ipv6 {
		least = ipv6HeaderLen
	}
	if g.tcp {
		field, transportLen = tcpChecksum, tcpHeaderLen
	}
	known := o.kind == offloadTCP4 && p[0]>>4 == 4 || o.kind == offloadTCP6 && g.ipv6 || o.kind == offloadUDP && (g.ipv6 || p[0]>>4 == 4)
	if !known || o.checksumField != field || o.size == 0 || g.transport < least || g.transport+transportLen > len(p) ||
		!g.ipv6 && g.transport != int(p[0]&0x0f)*4 {
		return g, false
	}
	if g.tcp {
		transportLen = int(p[g.transport+12]>>4) * 4
	}
	g.headers = g.transport + transportLen
	return g, (!g.tcp || transportLen >= tcpHeaderLen) && g.headers < len(p) && g.headers <= maxHeaders
}

// segment cuts the packet in buf[:n].
func (s *splitter) segment(o offload, buf []byte, n int, take func(packet []byte)) error {
	g, ok := parseSegments(o, buf[:n])
	if !ok {
		return errOffload
	}
	header := s.headers[:g.headers]
	copy(header, buf)
	transport := header[g.transport:]
	proto := byte(protoUDP)
	if g.tcp {
		proto = protoTCP
		g.sequence, g.flags = binary.BigEndian.Uint32(transport[4:]), transport[tcpFlags]
	}
	g.addressSum = addressSum(header, proto)
	binary.BigEndian.PutUint16(transport[o.checksumField:], 0)
	if !g.ipv6 {
		g.id = binary.BigEndian.Uint16(header[4:])
		clear(header[2:6])
		clear(header[ipv4Checksum:][:2])
		g.ipSum = checksum.Checksum(header[:g.transport], 0)
	}
	for i, at := 0, g.headers; at < n; i++ {
		end := min(at+o.size, n)
		g.write(header, i, end-at, end == n)
		packet := buf[at-g.headers : end : end+Tailroom]
		copy(packet, header)
		transport := packet[g.transport:]
		complete(transport, o.checksumField, checksum.Combine(g.addressSum, uint16(len(transport))))
		take(packet)
		at = end
	}
	return nil
}

// write makes the headers those of the segment number i, which carries size bytes. FIN
// and PSH belong to the last one, CWR to the first (RFC 3168 §6.1.2).
func (g *segments) write(header []byte, i, size int, last bool) {
	transport := header[g.transport:]
	if g.tcp {
		binary.BigEndian.PutUint32(transport[4:], g.sequence)
		g.sequence += uint32(size)
		transport[tcpFlags] = g.flags
		if !last {
			transport[tcpFlags] &^= tcpFIN | tcpPSH
		}
		if i > 0 {
			transport[tcpFlags] &^= tcpCWR
		}
	} else {
		binary.BigEndian.PutUint16(transport[udpLength:], uint16(udpHeaderLen+size))
	}
	total := len(header) + size
	if g.ipv6 {
		binary.BigEndian.PutUint16(header[4:], uint16(total-ipv6HeaderLen))
		return
	}
	id := g.id + uint16(i)
	binary.BigEndian.PutUint16(header[2:], uint16(total))
	binary.BigEndian.PutUint16(header[4:], id)
	binary.BigEndian.PutUint16(header[ipv4Checksum:], ^checksum.Combine(g.ipSum, checksum.Combine(uint16(total), id)))
}
