package gateway

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"wayfarer/ike/isakmp"
)

// natVariant is a way for ESP to cross NATs (RFC 3947 and its drafts).
type natVariant struct {
	name string
	ids  []string // vendor IDs; the first is ours
	natd isakmp.PayloadType
	mode uint16 // encapsulation: tunnel in UDP
	// nonIKE: everything stays on port 500, where ESP goes behind eight zero bytes.
	nonIKE bool
}

// natVariants, the best first.
var natVariants = []*natVariant{
	{
		"rfc3947",
		[]string{"\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f"},
		isakmp.PayloadNATD, isakmp.EncapUDPTunnel, false,
	},
	{
		"draft-03",
		[]string{"\x7d\x94\x19\xa6\x53\x10\xca\x6f\x2c\x17\x9d\x92\x15\x52\x9d\x56"},
		isakmp.PayloadNATDDraft, isakmp.EncapUDPTunnelDraft, false,
	},
	{"draft-02", []string{
		"\x90\xcb\x80\x91\x3e\xbb\x69\x6e\x08\x63\x81\xb5\xec\x42\x7b\x1f", // with a line feed hashed
		"\xcd\x60\x46\x43\x35\xdf\x21\xf8\x7c\xfd\xb2\xfc\x68\xb6\xa4\x48",
	}, isakmp.PayloadNATDDraft, isakmp.EncapUDPTunnelDraft, false},
	{
		"draft-01",
		[]string{"\x16\xf6\xca\x16\xe4\xa4\x06\x6d\x83\x82\x1a\x0f\x0a\xea\xa8\x62"},
		isakmp.PayloadNATDDraft, isakmp.EncapUDPTunnelDraft, true,
	},
	{
		"draft-00",
		[]string{"\x44\x85\x15\x2d\x18\xb6\xbb\xcd\x0b\xe8\xa8\x46\x95\x79\xdd\xcc"},
		isakmp.PayloadNATDDraft, isakmp.EncapUDPTunnelDraft, true,
	},
}

// nonIKEMarker is in front of ESP on port 500 (drafts 00 and 01): a cookie of CKY-I
// that no SA has.
const nonIKEMarker = "\x00\x00\x00\x00\x00\x00\x00\x00"

func parseNATT(names []string) ([]*natVariant, error) {
	if names == nil {
		return natVariants[:1], nil
	}
	var vs []*natVariant
	for _, name := range names {
		v := row(natVariants, func(v *natVariant) bool { return v.name == name })
		if v == nil {
			return nil, fmt.Errorf("NAT traversal %q: want rfc3947, draft-03, draft-02, draft-01 or draft-00", name)
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// noteNATT takes in a vendor ID of the client: the best variant that both have named
// is used.
func (s *sa) noteNATT(id []byte) {
	for i, v := range natVariants {
		better := s.natt == nil || i < slices.Index(natVariants, s.natt)
		if better && slices.Contains(s.gw.natt, v) && slices.Contains(v.ids, string(id)) {
			s.natt = v
		}
	}
}

// checkNATD refuses what belongs to another variant than the agreed one, if the
// gateway is so strict.
func (s *sa) checkNATD(ps []isakmp.Payload) error {
	if !s.gw.cfg.Quirks.StrictNATD {
		return nil
	}
	for _, v := range natVariants {
		if (s.natt == nil || v.natd != s.natt.natd) && len(only(ps, v.natd)) > 0 {
			return fmt.Errorf("%v payload", v.natd)
		}
	}
	return nil
}

// addNATD adds our view of both addresses: first the client's, then ours.
func (s *sa) addNATD(m *Message) {
	if s.natt == nil {
		return
	}
	h := s.suite.hash.hash
	ours := h.natHash(s.ckyI, s.ckyR, s.path.localAddr())
	if s.gw.cfg.ForceEncapsulation {
		s.gw.random(ours)
	}
	m.Add(s.natt.natd, h.natHash(s.ckyI, s.ckyR, s.path.peer))
	m.Add(s.natt.natd, ours)
}

// detectNAT compares the client's view with ours: its first hash is of our address,
// the others are of its own (RFC 3947 §3.2).
func (s *sa) detectNAT(p path, ps []isakmp.Payload) {
	if s.natt == nil {
		return
	}
	bodies := only(ps, s.natt.natd)
	if len(bodies) < 2 {
		return
	}
	is := func(body []byte, addr netip.AddrPort) bool {
		return bytes.Equal(body, s.suite.hash.hash.natHash(s.ckyI, s.ckyR, addr))
	}
	s.gatewayNAT = !is(bodies[0], p.localAddr())
	s.clientNAT = !slices.ContainsFunc(bodies[1:], func(body []byte) bool { return is(body, p.peer) })
}

// encapsulation is the only mode in which this gateway can exchange ESP with the
// client; 0 if there is none.
func (s *sa) encapsulation() uint16 {
	switch {
	case s.natt == nil && s.gw.raw != nil:
		return isakmp.EncapTunnel
	case s.natt == nil || s.natt.nonIKE == s.path.sock.NonESP:
		return 0
	}
	return s.natt.mode
}

// sendESP sends an ESP packet the way that was agreed.
func (s *sa) sendESP(packet []byte) {
	switch {
	case s.natt == nil:
		path{sock: s.gw.raw, peer: netip.AddrPortFrom(s.path.peer.Addr(), 0)}.send(s.log, packet)
	case s.natt.nonIKE:
		s.path.send(s.log, append([]byte(nonIKEMarker), packet...))
	default:
		s.path.send(s.log, packet)
	}
}

// espOf tells ESP from IKE (RFC 3948 §2 and, on port 500, the drafts' markers). It
// returns the ESP packet, or nil and the IKE message, or neither.
func espOf(sock *socket, data []byte) (packet, message []byte) {
	switch {
	case sock.Raw:
		return data, nil
	case !sock.NonESP && len(data) > len(nonIKEMarker) && string(data[:len(nonIKEMarker)]) == nonIKEMarker:
		return data[len(nonIKEMarker):], nil
	case !sock.NonESP:
		return nil, data
	case len(data) < len(nonESPMarker):
		return nil, nil // a NAT keepalive, or nothing
	case binary.BigEndian.Uint32(data) != 0:
		return data, nil
	}
	return nil, data[len(nonESPMarker):]
}

// addrPortOf is the address of a UDP or, without a port, of a raw socket.
func addrPortOf(a net.Addr) (netip.AddrPort, bool) {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmap(a.AddrPort()), true
	case *net.IPAddr:
		addr, ok := netip.AddrFromSlice(a.IP)
		return netip.AddrPortFrom(addr.Unmap(), 0), ok
	}
	return netip.AddrPort{}, false
}
