package gateway

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// IPComp with DEFLATE in tunnel mode (RFC 3173, RFC 2394), by another implementation
// of DEFLATE than the client's.
const (
	ipCompHeader = 4
	minCPI       = 256 // (RFC 3173 §3.3)
	cpis         = 61440 - minCPI
	maxInner     = 2048 // bytes of an expanded packet
)

// ipcomp is the compression of a tunnel.
type ipcomp struct {
	cpiIn, cpiOut uint16
	double        bool // see Quirks.TwoTunnels
	writer        *flate.Writer
}

// newCPI draws a CPI for clients to use.
func (g *Gateway) newCPI() uint16 { return uint16(minCPI + g.randomUint32(0)%cpis) }

// offeredIPComp finds DEFLATE in tunnel mode in the second half of a bundle, ESP being
// the first or the last.
func (s *sa) offeredIPComp(bundle []isakmp.Proposal) (cpi uint16, t isakmp.Transform, ok bool) {
	i := slices.IndexFunc(bundle, func(p isakmp.Proposal) bool { return p.Protocol == isakmp.ProtoIPComp })
	if !s.gw.cfg.IPComp || len(bundle) != 2 || i < 0 || len(bundle[i].SPI) != 2 {
		return 0, t, false
	}
	cpi = binary.BigEndian.Uint16(bundle[i].SPI)
	for _, t := range bundle[i].Transforms {
		v, _ := attributeValues(t.Attributes, isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration)
		mode := v[isakmp.AttrESPEncapsulation]
		if t.ID == isakmp.IPCompDeflate && (mode == uint64(isakmp.EncapTunnel) || mode == uint64(s.encapsulation())) {
			return cpi, t, cpi >= minCPI
		}
	}
	return 0, t, false
}

// ipcompProposal is the second half of a bundle of ours.
func (s *sa) ipcompProposal(number uint8, cpi uint16) isakmp.Proposal {
	return isakmp.Proposal{
		Number: number, Protocol: isakmp.ProtoIPComp, SPI: binary.BigEndian.AppendUint16(nil, cpi),
		Transforms: []isakmp.Transform{{
			Number: 1, ID: isakmp.IPCompDeflate,
			Attributes: []isakmp.Attribute{isakmp.BasicAttribute(isakmp.AttrESPEncapsulation, s.encapsulation())},
		}},
	}
}

// compress has a tunnel compress as Quick Mode agreed.
func (c *child) compress(q *quickMode) {
	c.ipcomp = &ipcomp{cpiIn: q.cpiIn, cpiOut: q.cpiOut, double: c.sa.gw.cfg.Quirks.TwoTunnels}
	c.ipcomp.writer, _ = flate.NewWriter(nil, flate.BestCompression) // a constant level is no error
	c.in.ExpandWith(c.ipcomp.expand)
	if !c.ipcomp.double {
		c.out.CompressWith(func(packet []byte) int { return copy(packet, c.ipcomp.payload(packet)) })
	}
}

// payload is the IPComp payload of a packet, empty if it would not be smaller.
func (i *ipcomp) payload(packet []byte) []byte {
	next := esp.NextIPv4
	if packet[0]>>4 == 6 {
		next = esp.NextIPv6
	}
	b := bytes.NewBuffer(binary.BigEndian.AppendUint16([]byte{next, 0}, i.cpiOut))
	i.writer.Reset(b)
	i.writer.Write(packet) // a Buffer takes everything
	i.writer.Close()
	if b.Len() >= len(packet) {
		return nil
	}
	return b.Bytes()
}

// between makes the packet that goes from one outer address to the other, inside of
// ESP, when IPComp has a tunnel of its own.
func (i *ipcomp) between(from, to netip.Addr, packet []byte) []byte {
	protocol, payload := esp.NextIPComp, i.payload(packet)
	if payload == nil {
		protocol, payload = esp.NextIPv4, packet
	}
	header := make([]byte, 20, 20+len(payload))
	header[0], header[8], header[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(header[2:], uint16(20+len(payload)))
	copy(header[12:], from.AsSlice())
	copy(header[16:], to.AsSlice())
	return append(header, payload...)
}

// expand is an esp.Expander.
func (i *ipcomp) expand(dst, payload []byte, next byte) ([]byte, byte, error) {
	if next != esp.NextIPComp {
		return dst[:copy(dst, payload)], next, nil
	}
	if len(payload) < ipCompHeader || binary.BigEndian.Uint16(payload[2:]) != i.cpiIn {
		return nil, 0, esp.ErrMalformed
	}
	inner, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(payload[ipCompHeader:])), maxInner+1))
	if err != nil || len(inner) > len(dst) {
		return nil, 0, esp.ErrMalformed
	}
	return dst[:copy(dst, inner)], payload[0], nil
}
