package ike

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/klauspost/compress/flate"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// IPComp (RFC 3173) with DEFLATE (RFC 2394), in tunnel mode: the whole inner packet
// is compressed, and what is made of it goes into ESP.
//
//	ESP | next header, flags, CPI | DEFLATE of the inner packet
//
// A packet that does not shrink goes into ESP as it is. Config.IPComp says why it is
// never offered by default.
const (
	ipCompHeaderLen = 4
	cpiDeflate      = 2         // says DEFLATE without having been negotiated
	minCPI          = 256       // of the negotiated ones, both inclusive
	maxCPI          = 61439     // (RFC 3173 §3.3)
	minCompress     = 90        // bytes (RFC 2394 §3)
	maxCompress     = 2048      // bytes: Linux expands with a window of this size
	maxExpanded     = 1<<16 - 1 // bytes of an IP packet

	// After patientMisses packets in a row that did not shrink, the next ones go
	// untried: twice as many after each further miss (RFC 3173 §2.2).
	patientMisses = 4
	maxSkip       = 256
)

// compressor makes IPComp payloads for the gateway. It keeps nothing of a packet for
// the next one: any may be lost.
type compressor struct {
	cpi    uint16
	buf    [maxCompress]byte
	n      int // bytes in buf
	limit  int // that n may reach
	misses int // packets in a row that did not shrink
	skip   int // packets to come that are not tried
}

// Write takes compressed bytes, until they are no gain.
func (c *compressor) Write(b []byte) (int, error) {
	if len(b) > c.limit-c.n {
		return 0, io.ErrShortWrite
	}
	c.n += copy(c.buf[c.n:], b)
	return len(b), nil
}

// compress is an esp.Compressor.
func (c *compressor) compress(packet []byte) int {
	if len(packet) < minCompress || len(packet) > maxCompress {
		return 0
	}
	if c.skip > 0 {
		c.skip--
		return 0
	}
	c.n, c.limit = ipCompHeaderLen, len(packet)-1
	if err := flate.StatelessDeflate(c, packet, true, nil); err != nil {
		if c.misses++; c.misses >= patientMisses {
			c.skip = min(1<<min(c.misses, 16), maxSkip)
		}
		return 0
	}
	c.misses = 0
	c.buf[0], c.buf[1] = esp.NextIPv4, 0
	if packet[0]>>4 == 6 {
		c.buf[0] = esp.NextIPv6
	}
	binary.BigEndian.PutUint16(c.buf[2:], c.cpi)
	return copy(packet, c.buf[:c.n])
}

// expander undoes the gateway's compression.
type expander struct {
	known func(cpi uint16) bool // is one of ours
	ours  func(netip.Addr) bool // is where inner packets go to

	src  bytes.Reader
	from io.ReadCloser // expands what is in src
	more [1]byte
}

func newExpander(known func(uint16) bool, ours func(netip.Addr) bool) *expander {
	x := &expander{known: known, ours: ours}
	x.from = flate.NewReader(&x.src)
	return x
}

// expand is an esp.Expander.
func (x *expander) expand(dst, payload []byte, next byte) ([]byte, byte, error) {
	payload, next = x.untunnel(payload, next)
	if next != esp.NextIPComp {
		if len(dst) < len(payload) {
			return nil, 0, esp.ErrRoom
		}
		return dst[:copy(dst, payload)], next, nil
	}
	if len(payload) < ipCompHeaderLen || !x.known(binary.BigEndian.Uint16(payload[2:])) {
		return nil, 0, esp.ErrMalformed
	}
	inner := payload[0]
	if inner != esp.NextIPv4 && inner != esp.NextIPv6 {
		return nil, 0, esp.ErrMalformed // compressed twice, or a part of a packet only
	}
	n, err := x.inflate(dst[:min(len(dst), maxExpanded)], payload[ipCompHeaderLen:])
	return dst[:n], inner, err
}

// untunnel takes off the header between ESP and IPComp of a gateway that makes a
// tunnel of each, as the two SAs have it (RFC 2401 §4.3): racoon's kernels. It
// stands before uncompressed packets as well.
func (x *expander) untunnel(payload []byte, next byte) ([]byte, byte) {
	const headerLen, protocol, fragment = 20, 9, 0x3fff
	if next != esp.NextIPv4 || len(payload) < headerLen || payload[0] != 0x45 || binary.BigEndian.Uint16(payload[6:])&fragment != 0 {
		return payload, next
	}
	total := int(binary.BigEndian.Uint16(payload[2:]))
	_, dst, _ := packetAddrs(payload)
	if total < headerLen || total > len(payload) || x.ours(dst) {
		return payload, next
	}
	switch p := payload[protocol]; p {
	case esp.NextIPComp, esp.NextIPv4, esp.NextIPv6:
		return payload[headerLen:total], p
	}
	return payload, next
}

// inflate expands src into dst and returns how much that is. What does not fit is
// refused as a whole, however large it would become.
func (x *expander) inflate(dst, src []byte) (int, error) {
	x.src.Reset(src)
	if err := x.from.(flate.Resetter).Reset(&x.src, nil); err != nil {
		return 0, esp.ErrMalformed
	}
	n := 0
	for n < len(dst) {
		k, err := x.from.Read(dst[n:])
		n += k
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return 0, esp.ErrMalformed
		}
	}
	if k, err := x.from.Read(x.more[:]); k > 0 || err != io.EOF {
		return 0, esp.ErrRoom
	}
	return n, nil
}

// compress has a new ChildSA compress and expand, if that was agreed.
func (sa *isakmpSA) compress(c *childSA, n *negotiation) {
	if n.cpiOut == 0 {
		if sa.s.cfg.IPComp {
			sa.log.Info("the gateway does not agree to compression")
		}
		return
	}
	c.cpiIn = n.cpiIn
	in := newExpander(sa.s.knowsCPI, func(a netip.Addr) bool { return sa.s.policy.Load().ours(a) })
	out := &compressor{cpi: n.cpiOut}
	c.in.ExpandWith(in.expand)
	c.out.CompressWith(out.compress)
	sa.log.Info("packets are compressed", "cpi_in", n.cpiIn, "cpi_out", n.cpiOut)
}

// knowsCPI: a gateway may name the CPI of another ChildSA than its ESP's. It chooses
// the two SAs one by one.
func (s *Session) knowsCPI(cpi uint16) bool {
	for _, c := range *s.inbound.Load() {
		if c.cpiIn != 0 && c.cpiIn == cpi {
			return true
		}
	}
	return false
}

// drawCPI draws the CPI that the gateway is to use.
func (s *Session) drawCPI() (uint16, error) {
	var b [2]byte
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if _, err := io.ReadFull(s.rand, b[:]); err != nil {
			return 0, fmt.Errorf("random numbers: %w", err)
		}
		cpi := binary.BigEndian.Uint16(b[:])
		if cpi >= minCPI && cpi <= maxCPI && !slices.ContainsFunc(s.children, func(c *childSA) bool { return c.cpiIn == cpi }) {
			return cpi, nil
		}
	}
}

// bundles puts the proposals of an SA payload together that have the same number:
// they are meant all at once (RFC 2408 §4.2).
func bundles(ps []isakmp.Proposal) (all [][]isakmp.Proposal) {
	for i, p := range ps {
		if i == 0 || p.Number != ps[i-1].Number {
			all = append(all, nil)
		}
		last := len(all) - 1
		all[last] = append(all[last], p)
	}
	return all
}

// protocolsOf are the halves of a bundle: ESP, and IPComp or nil.
func protocolsOf(bundle []isakmp.Proposal) (esp, ipcomp *isakmp.Proposal, err error) {
	for i, p := range bundle {
		half := &esp
		if p.Protocol == isakmp.ProtoIPComp {
			half = &ipcomp
		} else if p.Protocol != isakmp.ProtoESP {
			return nil, nil, fmt.Errorf("proposal for %v", p.Protocol)
		}
		if *half != nil {
			return nil, nil, fmt.Errorf("two proposals for %v under one number", p.Protocol)
		}
		*half = &bundle[i]
	}
	if esp == nil {
		return nil, nil, errors.New("proposal for IPCOMP without one for ESP")
	}
	return esp, ipcomp, nil
}

// answered reads which proposal of an offer the gateway has chosen: that of ESP, and
// of IPComp if it stands in a bundle with it. strongSwan repeats ESP behind a bundle,
// as if it were to be offered again.
func answered(ps []isakmp.Proposal) (esp, ipcomp *isakmp.Proposal, err error) {
	all := bundles(ps)
	if len(all) == 0 {
		return nil, nil, errors.New("SA answer without a proposal")
	}
	if esp, ipcomp, err = protocolsOf(all[0]); err != nil {
		return nil, nil, err
	}
	repeated := len(all) == 2 && ipcomp != nil && len(all[1]) == 1 && all[1][0].Protocol == isakmp.ProtoESP && bytes.Equal(all[1][0].SPI, esp.SPI)
	if len(all) > 1 && !repeated || len(esp.Transforms) != 1 || ipcomp != nil && len(ipcomp.Transforms) != 1 {
		return nil, nil, errors.New("SA answer without exactly one transform")
	}
	return esp, ipcomp, nil
}

// withIPComp lists the same offers with IPComp.
func withIPComp(offers []quickOffer) []quickOffer {
	offers = slices.Clone(offers)
	for i := range offers {
		offers[i].ipcomp = true
	}
	return offers
}

// ipcompOffer is the half of a bundle that offers IPComp. Of a group it says nothing
// (RFC 3173 §4.1).
func (sa *isakmpSA) ipcompOffer(number uint8, cpi uint16) isakmp.Proposal {
	return isakmp.Proposal{
		Number: number, Protocol: isakmp.ProtoIPComp, SPI: binary.BigEndian.AppendUint16(nil, cpi),
		Transforms: []isakmp.Transform{{Number: 1, ID: isakmp.IPCompDeflate, Attributes: sa.commonOffer()}},
	}
}

// selectIPComp takes the gateway's CPI and chooses the transform: DEFLATE in tunnel
// mode, the only one in which the whole inner packet is compressed. That it travels
// in UDP is the business of ESP, but some say it here too; what else is said does not
// concern IPComp and is ignored (RFC 3173 §4.1).
func (sa *isakmpSA) selectIPComp(p *isakmp.Proposal, neg *negotiation) (isakmp.Transform, error) {
	cpi, err := parseCPI(p.SPI)
	if err != nil {
		return isakmp.Transform{}, err
	}
	i := slices.IndexFunc(p.Transforms, func(t isakmp.Transform) bool {
		mode, _ := isakmp.Find(t.Attributes, isakmp.AttrESPEncapsulation)
		m, ok := mode.Uint()
		return t.ID == isakmp.IPCompDeflate && ok && (m == uint64(isakmp.EncapTunnel) || m == uint64(sa.encapsulation()))
	})
	if i < 0 {
		return isakmp.Transform{}, errors.New("IPComp other than DEFLATE in tunnel mode")
	}
	neg.cpiOut = cpi
	return p.Transforms[i], nil
}

// parseCPI reads the CPI that stands as SPI, in two bytes or four (RFC 3173 §4.1).
func parseCPI(spi []byte) (uint16, error) {
	if len(spi) == 4 && spi[0] == 0 && spi[1] == 0 {
		spi = spi[2:]
	}
	if len(spi) != 2 {
		return 0, fmt.Errorf("CPI of %d bytes", len(spi))
	}
	cpi := binary.BigEndian.Uint16(spi)
	if cpi != cpiDeflate && cpi < minCPI {
		return 0, fmt.Errorf("CPI %d", cpi)
	}
	return cpi, nil
}
