package ike

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"net"
	"net/netip"

	"wayfarer/ike/isakmp"
)

const (
	portIKE         = 500
	portNATT        = 4500
	nonESPMarkerLen = 4 // zeros before IKE where ESP may come too (RFC 3948 §2.2)
	nonIKEMarkerLen = 8 // zeros before ESP where IKE may come too (NAT-T drafts 00 and 01)
)

// natKeepalive is sent to keep a NAT's mapping open (RFC 3948 §2.3).
var natKeepalive = []byte{0xff}

// NATT says how ESP crosses NATs: "auto" (in UDP always, by the best variant that the
// gateway knows), "off" (as IP protocol 50), or by one draft. With a gateway that does
// not know what is wanted, ESP is IP protocol 50: some say yes to that and then have
// none, see RefusedTunnel.
type NATT string

// NAT traversal settings.
const (
	NATTAuto    NATT = "auto"
	NATTOff     NATT = "off"
	NATTDraft00 NATT = "draft-00"
	NATTDraft01 NATT = "draft-01"
	NATTDraft02 NATT = "draft-02"
	NATTDraft03 NATT = "draft-03"
)

// nattVariant is a row of the table of NAT traversal variants, the best first.
type nattVariant struct {
	name    string
	cap     capability
	setting NATT // that asks for it alone; empty: only "auto" does
	auto    bool
	natd    isakmp.PayloadType
	mode    uint16 // encapsulation mode: tunnel in UDP
	// nonIKE: IKE stays on port 500, and ESP joins it there behind eight zero
	// bytes. Otherwise both move to 4500, and IKE goes behind four.
	nonIKE bool
}

var nattVariants = []*nattVariant{
	{"rfc3947", capNATT, "", true, isakmp.PayloadNATD, isakmp.EncapUDPTunnel, false},
	{"draft-03", capNATTDraft3, NATTDraft03, true, isakmp.PayloadNATDDraft, isakmp.EncapUDPTunnelDraft, false},
	{"draft-02", capNATTDraft2, NATTDraft02, true, isakmp.PayloadNATDDraft, isakmp.EncapUDPTunnelDraft, false},
	{"draft-01", capNATTDraft1, NATTDraft01, false, isakmp.PayloadNATDDraft, isakmp.EncapUDPTunnelDraft, true},
	{"draft-00", capNATTDraft0, NATTDraft00, false, isakmp.PayloadNATDDraft, isakmp.EncapUDPTunnelDraft, true},
}

// nattCaps are the variants that a setting offers.
func nattCaps(setting NATT) (caps capability, known bool) {
	known = setting == NATTAuto || setting == NATTOff
	for _, v := range nattVariants {
		if setting == NATTAuto && v.auto || setting == v.setting {
			caps |= v.cap
			known = true
		}
	}
	return caps, known
}

// chooseNATT picks the best variant that both sides have named.
func (sa *isakmpSA) chooseNATT() {
	sa.natt = nil
	offered, _ := nattCaps(sa.s.cfg.NATT)
	for _, v := range nattVariants {
		if sa.caps&offered&v.cap != 0 {
			sa.natt = v
			return
		}
	}
}

func (sa *isakmpSA) nattName() string {
	if sa.natt == nil {
		return ""
	}
	return sa.natt.name
}

// encapsulation is the encapsulation mode attribute for ESP.
func (sa *isakmpSA) encapsulation() uint16 {
	if sa.natt == nil {
		return isakmp.EncapTunnel
	}
	return sa.natt.mode
}

// natdHash is the body of a NAT-D payload (RFC 3947 §3.2):
//
//	HASH = HASH(CKY-I | CKY-R | IP | Port)
func natdHash(h crypto.Hash, i, r isakmp.Cookie, a netip.AddrPort) []byte {
	port := binary.BigEndian.AppendUint16(nil, a.Port())
	return hashOf(h, i[:], r[:], a.Addr().Unmap().AsSlice(), port)
}

// natdPayloads are our two NAT-D payloads: the destination as we see it, then our
// source. The source is made wrong on purpose, so that the gateway takes us to be
// behind a NAT and encapsulates ESP in UDP: protocol 50 needs rights, and many
// paths do not carry it.
func (sa *isakmpSA) natdPayloads() []isakmp.Payload {
	if sa.natt == nil {
		return nil
	}
	h := sa.suite.hash.hash
	src := natdHash(h, sa.ckyI, sa.ckyR, sa.s.transport.local(sa.peer))
	src[0] ^= 0xff
	return []isakmp.Payload{
		{Type: sa.natt.natd, Body: natdHash(h, sa.ckyI, sa.ckyR, sa.peer)},
		{Type: sa.natt.natd, Body: src},
	}
}

// detectNAT reads the gateway's NAT-D payloads: the first is our address as it sees
// it, the others are its own (RFC 3947 §3.2). The finding is only told: we always
// encapsulate. A gateway that names NAT traversal and then sends no NAT-D does not
// do it.
func (sa *isakmpSA) detectNAT(m *message) {
	sa.nat = NATNone
	if sa.natt == nil {
		return
	}
	ps := m.all(sa.natt.natd)
	if len(ps) == 0 {
		sa.natt = nil
		return
	}
	h := sa.suite.hash.hash
	local := !bytes.Equal(ps[0].Body, natdHash(h, sa.ckyI, sa.ckyR, sa.s.transport.local(sa.peer)))
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

// prepareESP opens the raw socket for a gateway that knows no NAT traversal, before a
// one-time password is spent on it. Unity gateways may yet name a UDP port for ESP.
func (sa *isakmpSA) prepareESP(ctx context.Context) error {
	if sa.natt != nil {
		return nil
	}
	err := sa.s.transport.openRaw(ctx, &sa.s.cfg)
	if err != nil && sa.wantsUDPPort() {
		sa.log.Info("no raw socket for ESP; the gateway may have a UDP port for it", "err", err)
		return nil
	}
	return err
}

// wantsUDPPort reports whether the gateway is asked for Cisco's own UDP encapsulation,
// which is older than NAT traversal and gives way to it.
func (sa *isakmpSA) wantsUDPPort() bool {
	return sa.natt == nil && sa.caps&capUnity != 0 && sa.s.cfg.NATT == NATTAuto
}

// openESP settles how ESP packets travel. With Cisco's own encapsulation they go bare
// to a UDP port that Mode-Config named, while Quick Mode says plain tunnel, and IKE
// stays where it is.
func (s *Session) openESP(ctx context.Context, sa *isakmpSA, a Assignment) error {
	path := &espPath{peer: sa.peer}
	switch {
	case sa.wantsUDPPort() && a.NATTPort != 0:
		path.peer = netip.AddrPortFrom(sa.peer.Addr(), a.NATTPort)
	case sa.natt == nil:
		if err := s.transport.openRaw(ctx, &s.cfg); err != nil {
			return err
		}
		path.raw = &net.IPAddr{IP: sa.peer.Addr().AsSlice(), Zone: sa.peer.Addr().Zone()}
	case sa.natt.nonIKE:
		path.marker = nonIKEMarkerLen
		s.transport.nonIKE.Store(true)
	}
	owner := s.transport.socket(path.peer.Port())
	if path.raw != nil {
		owner = s.transport.raw.Load()
	}
	s.transport.receiveBy(owner.receiver)
	s.espPath.Store(path)
	return nil
}

// keepAlive keeps the NAT mappings of both IKE and ESP; said is that IKE has just sent
// something.
func (s *Session) keepAlive(said bool) {
	if !said {
		s.transport.send(natKeepalive, s.sa.peer)
	}
	if path := s.espPath.Load(); path.peer != s.sa.peer {
		s.transport.send(natKeepalive, path.peer)
	}
}

// float moves to port 4500, where IKE carries the non-ESP marker and shares the
// port with ESP (RFC 3947 §4). A gateway on a port of its own choice is there
// already.
func (sa *isakmpSA) float() {
	if sa.natt != nil && !sa.natt.nonIKE && sa.peer.Port() == portIKE {
		sa.peer = netip.AddrPortFrom(sa.peer.Addr(), portNATT)
	}
}
