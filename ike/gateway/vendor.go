package gateway

import (
	"bytes"
	"net/netip"
	"slices"

	"wayfarer/ike/isakmp"
)

// vendorID is one that the gateway understands and sends.
type vendorID struct {
	id    string
	match int // bytes that must agree; what follows is a version or capabilities
	seen  func(*sa)
}

// vendorIDs, in the order of sending. Values: draft-beaulieu-ike-xauth-02 §4,
// RFC 3706 §5.1, RFC 3947 §3.1; Unity and fragmentation as strongSwan and racoon
// have them.
var vendorIDs = []vendorID{
	{"\x09\x00\x26\x89\xdf\xd6\xb7\x12", 8, func(s *sa) { s.peer.xauth = true }},
	{"\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57\x01\x00", 14, func(s *sa) { s.peer.dpd = true }},
	{"\x12\xf5\xf2\x8c\x45\x71\x68\xa9\x70\x2d\x9f\xe2\x74\xcc\x01\x00", 14, func(s *sa) { s.peer.unity = true }},
	{fragmentationVID, 16, func(s *sa) { s.peer.fragments = s.gw.cfg.FragmentSize > 0 }},
	{"\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f", 16, func(s *sa) { s.peer.natT = true }},
}

const fragmentationVID = "\x40\x48\xb7\xd5\x6e\xbc\xe8\x85\x25\xe7\xde\x7f\x00\xd6\xc2\xd3\x80\x00\x00\x00"

// readVendorIDs may be called for every message of phase 1: some clients send
// theirs late.
func (s *sa) readVendorIDs(ps []isakmp.Payload) {
	for _, body := range only(ps, isakmp.PayloadVendorID) {
		for _, v := range vendorIDs {
			if bytes.HasPrefix(body, []byte(v.id[:v.match])) {
				v.seen(s)
			}
		}
	}
}

func (s *sa) addVendorIDs(m *Message) {
	for _, v := range vendorIDs {
		if v.id != fragmentationVID || s.gw.cfg.FragmentSize > 0 {
			m.Add(isakmp.PayloadVendorID, []byte(v.id))
		}
	}
}

// addNATD adds our view of both addresses: first the client's, then ours.
func (s *sa) addNATD(m *Message) {
	if !s.peer.natT {
		return
	}
	h := s.suite.hash.hash
	ours := h.natHash(s.ckyI, s.ckyR, s.path.localAddr())
	if s.gw.cfg.ForceEncapsulation {
		s.gw.random(ours)
	}
	m.Add(isakmp.PayloadNATD, h.natHash(s.ckyI, s.ckyR, s.path.peer))
	m.Add(isakmp.PayloadNATD, ours)
}

// detectNAT compares the client's view with ours: its first hash is of our address,
// the others are of its own (RFC 3947 §3.2).
func (s *sa) detectNAT(p path, ps []isakmp.Payload) {
	bodies := only(ps, isakmp.PayloadNATD)
	if len(bodies) < 2 {
		return
	}
	is := func(body []byte, addr netip.AddrPort) bool {
		return bytes.Equal(body, s.suite.hash.hash.natHash(s.ckyI, s.ckyR, addr))
	}
	s.gatewayNAT = !is(bodies[0], p.localAddr())
	s.clientNAT = !slices.ContainsFunc(bodies[1:], func(body []byte) bool { return is(body, p.peer) })
}
