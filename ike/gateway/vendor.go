package gateway

import (
	"bytes"

	"wayfarer/ike/isakmp"
)

// vendorID is one that the gateway understands and sends.
type vendorID struct {
	id    string
	match int // bytes that must agree; what follows is a version or capabilities
	seen  func(*sa)
}

// vendorIDs, in the order of sending. Values: draft-beaulieu-ike-xauth-02 §4,
// RFC 3706 §5.1; Unity and fragmentation as strongSwan and racoon have them. Those
// of NAT traversal follow.
var vendorIDs = []vendorID{
	{"\x09\x00\x26\x89\xdf\xd6\xb7\x12", 8, func(s *sa) { s.peer.xauth = true }},
	{dpdVID, 14, func(s *sa) { s.peer.dpd = true }},
	{"\x12\xf5\xf2\x8c\x45\x71\x68\xa9\x70\x2d\x9f\xe2\x74\xcc\x01\x00", 14, func(s *sa) { s.peer.unity = true }},
	{fragmentationVID, 16, func(s *sa) { s.peer.fragments = s.gw.cfg.FragmentSize > 0 }},
}

const (
	dpdVID           = "\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57\x01\x00"
	netgearDPDVID    = "\x3b\x90\x31\xdc\xe4\xfc\xf8\x8b\x48\x9a\x92\x39\x63\xdd\x0c\x49" // md5 of "DPD"
	fragmentationVID = "\x40\x48\xb7\xd5\x6e\xbc\xe8\x85\x25\xe7\xde\x7f\x00\xd6\xc2\xd3\x80\x00\x00\x00"
)

// readVendorIDs may be called for every message of phase 1: some clients send
// theirs late.
func (s *sa) readVendorIDs(ps []isakmp.Payload) {
	for _, body := range only(ps, isakmp.PayloadVendorID) {
		s.noteNATT(body)
		for _, v := range vendorIDs {
			if bytes.HasPrefix(body, []byte(v.id[:v.match])) {
				v.seen(s)
			}
		}
	}
}

func (s *sa) addVendorIDs(m *Message) {
	q := &s.gw.cfg.Quirks
	for _, v := range vendorIDs {
		switch {
		case v.id == fragmentationVID && s.gw.cfg.FragmentSize < 0:
		case v.id == dpdVID && q.LateDPD && m.Step == MM2:
		case v.id == dpdVID && q.NetgearDPD:
			m.Add(isakmp.PayloadVendorID, []byte(netgearDPDVID))
		default:
			m.Add(isakmp.PayloadVendorID, []byte(v.id))
		}
	}
	for _, v := range s.gw.natt {
		m.Add(isakmp.PayloadVendorID, []byte(v.ids[0]))
	}
	for _, id := range q.VendorIDs {
		m.Add(isakmp.PayloadVendorID, id)
	}
}
