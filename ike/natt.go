package ike

import (
	"bytes"
	"crypto"
	"net/netip"

	"wayfarer/ike/isakmp"
)

const (
	portIKE         = 500
	portNATT        = 4500
	nonESPMarkerLen = 4 // zeros before IKE where ESP may come too (RFC 3948 §2.2)
)

// natKeepalive is sent to keep a NAT's mapping open (RFC 3948 §2.3).
var natKeepalive = []byte{0xff}

// natdHash is the body of a NAT-D payload (RFC 3947 §3.2):
//
//	HASH = HASH(CKY-I | CKY-R | IP | Port)
func natdHash(h crypto.Hash, i, r isakmp.Cookie, a netip.AddrPort) []byte {
	port := a.Port()
	return hashOf(h, i[:], r[:], a.Addr().Unmap().AsSlice(), []byte{byte(port >> 8), byte(port)})
}

// natdPayloads are our two NAT-D payloads: the destination as we see it, then our
// source. The source is made wrong on purpose, so that the gateway takes us to be
// behind a NAT and encapsulates ESP in UDP: protocol 50 needs rights, and many
// paths do not carry it.
func (sa *isakmpSA) natdPayloads() []isakmp.Payload {
	if !sa.natt() {
		return nil
	}
	h := sa.suite.hash.hash
	src := natdHash(h, sa.ckyI, sa.ckyR, sa.s.transport.local(sa.peer.Addr()))
	src[0] ^= 0xff
	typ := sa.natdType()
	return []isakmp.Payload{
		{Type: typ, Body: natdHash(h, sa.ckyI, sa.ckyR, sa.peer)},
		{Type: typ, Body: src},
	}
}

// natt reports whether both sides know NAT traversal.
func (sa *isakmpSA) natt() bool { return sa.caps&(capNATT|capNATTDraft2) != 0 }

func (sa *isakmpSA) natdType() isakmp.PayloadType {
	if sa.caps&capNATT != 0 {
		return isakmp.PayloadNATD
	}
	return isakmp.PayloadNATDDraft
}

func (sa *isakmpSA) nattName() string {
	switch {
	case sa.caps&capNATT != 0:
		return "rfc3947"
	case sa.caps&capNATTDraft2 != 0:
		return "draft-02"
	}
	return ""
}

// udpTunnel is the encapsulation mode attribute for ESP in UDP.
func (sa *isakmpSA) udpTunnel() uint16 {
	if sa.caps&capNATT != 0 {
		return isakmp.EncapUDPTunnel
	}
	return isakmp.EncapUDPTunnelDraft
}

// detectNAT reads the gateway's NAT-D payloads: the first is our address as it sees
// it, the others are its own (RFC 3947 §3.2). The finding is only told: we always
// encapsulate.
func (sa *isakmpSA) detectNAT(m *message) {
	ps := m.all(sa.natdType())
	if !sa.natt() || len(ps) == 0 {
		sa.nat = NATNone
		return
	}
	h := sa.suite.hash.hash
	local := !bytes.Equal(ps[0].Body, natdHash(h, sa.ckyI, sa.ckyR, sa.s.transport.local(sa.peer.Addr())))
	remote := len(ps) > 1
	for _, p := range ps[1:] {
		if bytes.Equal(p.Body, natdHash(h, sa.ckyI, sa.ckyR, sa.peer)) {
			remote = false
		}
	}
	switch {
	case local && remote:
		sa.nat = NATBoth
	case local:
		sa.nat = NATLocal
	case remote:
		sa.nat = NATRemote
	default:
		sa.nat = NATForced
	}
}

// float moves to port 4500, where IKE carries the non-ESP marker and shares the
// port with ESP (RFC 3947 §4). A gateway on a port of its own choice is there
// already.
func (sa *isakmpSA) float() {
	if sa.natt() && sa.peer.Port() == portIKE {
		sa.peer = netip.AddrPortFrom(sa.peer.Addr(), portNATT)
	}
}
