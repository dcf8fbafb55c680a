package gateway

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// quickMode is an exchange under way.
type quickMode struct {
	ours      bool // we began it
	suite     espSuite
	spiIn     uint32
	spiOut    uint32
	cpiIn     uint16 // 0: no compression
	cpiOut    uint16
	ni, nr    []byte
	gxy       []byte // empty without PFS
	client    netip.Prefix
	remote    netip.Prefix
	idBodies  [][]byte // IDci, IDcr as sent by the side that began
	life      time.Duration
	key       *dhKey // ours, until g^xy is known
	abandoned *timer
}

const (
	minSPI = 256 // lower ones are reserved (RFC 4303 §2.1)

	// defaultLife holds where a proposal names no lifetime (RFC 2407 §4.5).
	defaultLife = 28800 * time.Second
)

// Quick Mode (RFC 2409 §5.5); either side may begin, the IDs stand in the order of
// that side:
//
//	QM1 -> HASH(1), SA, Ni [, KE], IDci, IDcr
//	                <- QM2 HASH(2), SA, Nr [, KE], IDci, IDcr [, N]
//	QM3 -> HASH(3)
func (s *sa) quickMode(r *received) error {
	q := s.quick[r.header.MessageID]
	switch {
	case q == nil:
		return s.qm1(r)
	case q.ours:
		return s.qm2(r, q)
	default:
		return s.qm3(r, q)
	}
}

// qm1 answers a client that wants a tunnel.
func (s *sa) qm1(r *received) error {
	mid := r.header.MessageID
	if !hmac.Equal(r.hash, s.suite.hash.hash.phase2Hash(s.keys.skeyidA, mid, nil, r.rest)) {
		return errHash
	}
	if s.state != ready || len(s.quick) >= maxChildren || len(s.children) >= maxChildren {
		return errors.New("no tunnel wanted now")
	}
	bodies, err := need(r.payloads, isakmp.PayloadSA, isakmp.PayloadNonce)
	if err != nil {
		return err
	}
	if n := len(bodies[1]); n < minNonce || n > maxNonce {
		return fmt.Errorf("nonce of %d bytes", n)
	}
	r.accept(QM1)
	q := &quickMode{ni: bodies[1], idBodies: only(r.payloads, isakmp.PayloadID)}
	answer, shorter, err := s.chooseESP(q, bodies[0])
	if err != nil {
		return s.refuseQuickMode(isakmp.NotifyNoProposalChosen, err)
	}
	if err := s.selectors(q); err != nil {
		return s.refuseQuickMode(isakmp.NotifyInvalidIDInfo, err)
	}
	if err := s.responderKeys(q, only(r.payloads, isakmp.PayloadKE)); err != nil {
		return s.refuseQuickMode(isakmp.NotifyInvalidKeyInfo, err)
	}
	m := &Message{Step: QM2, Header: s.header(isakmp.QuickMode, mid, true), niBody: q.ni}
	m.Add(isakmp.PayloadSA, answer.Append(nil))
	m.Add(isakmp.PayloadNonce, q.nr)
	if q.key != nil {
		m.Add(isakmp.PayloadKE, q.key.public)
	}
	m.Add(isakmp.PayloadID, q.idBodies[0])
	m.Add(isakmp.PayloadID, q.idBodies[1])
	if shorter && s.gw.cfg.ResponderLifetime {
		s.addResponderLifetime(m, isakmp.ProtoESP, midBytes(q.spiIn), q.life)
	}
	if s.gw.cfg.Quirks.CommitBit {
		m.Header.Flags |= isakmp.FlagCommit
	}
	s.respondSecond(m)
	s.keepQuickMode(mid, q)
	return nil
}

// keepQuickMode waits for the next message, but not for ever.
func (s *sa) keepQuickMode(mid uint32, q *quickMode) {
	s.quick[mid] = q
	q.abandoned = s.gw.after(halfOpenLife, func() { s.dropQuickMode(mid) })
}

func (s *sa) dropQuickMode(mid uint32) {
	s.done(mid)
	s.quick[mid].abandoned.stop()
	delete(s.quick, mid)
}

// refuseQuickMode tells the client why, in an Informational of its own. The message
// counts as handled: a duplicate of it gets the same answer.
func (s *sa) refuseQuickMode(t isakmp.NotifyType, reason error) error {
	s.log.Info("refused a tunnel", "user", s.user, "notify", t, "reason", reason)
	m := &Message{Step: Notify, Header: s.header(isakmp.Informational, s.newMID(), true)}
	m.Add(isakmp.PayloadNotify, isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, Type: t}.Append(nil))
	s.respond(m)
	return nil
}

// chooseESP takes the first offered transform that is accepted.
func (s *sa) chooseESP(q *quickMode, body []byte) (answer isakmp.SA, shorter bool, err error) {
	offer, err := isakmp.ParseSA(body)
	if err != nil {
		return isakmp.SA{}, false, err
	}
	for _, p := range offer.Proposals {
		// Proposals with the same number belong together: ESP and IPComp.
		bundle := slices.DeleteFunc(slices.Clone(offer.Proposals), func(o isakmp.Proposal) bool { return o.Number != p.Number })
		cpi, deflate, compressed := s.offeredIPComp(bundle)
		if len(bundle) != 1 && !compressed || p.Protocol != isakmp.ProtoESP || len(p.SPI) != 4 || binary.BigEndian.Uint32(p.SPI) < minSPI {
			continue
		}
		for _, t := range p.Transforms {
			offered, mode, ok := espTransform(t)
			suite, accepted := s.gw.acceptESP(offered)
			if !ok || mode != s.encapsulation() || !accepted {
				continue
			}
			q.suite, q.spiOut, q.spiIn = suite, binary.BigEndian.Uint32(p.SPI), s.gw.newSPI()
			t.Attributes, q.life, shorter = s.gw.shorten(t.Attributes, isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration,
				s.gw.cfg.ESPLifetime, defaultLife)
			offer.Proposals = []isakmp.Proposal{{
				Number: p.Number, Protocol: p.Protocol, SPI: midBytes(q.spiIn), Transforms: []isakmp.Transform{t},
			}}
			if compressed {
				q.cpiIn, q.cpiOut = s.gw.newCPI(), cpi
				half := s.ipcompProposal(p.Number, q.cpiIn)
				half.Transforms = []isakmp.Transform{deflate}
				offer.Proposals = append(offer.Proposals, half)
			}
			return offer, shorter, nil
		}
	}
	return isakmp.SA{}, false, errors.New("no acceptable transform")
}

func (g *Gateway) newSPI() uint32 {
	for {
		if spi := g.randomUint32(minSPI); g.children[spi] == nil {
			return spi
		}
	}
}

// selectors checks what traffic the client wants to send: from its address, to
// something in our networks.
func (s *sa) selectors(q *quickMode) error {
	if len(q.idBodies) != 2 {
		return fmt.Errorf("%d IDs", len(q.idBodies))
	}
	var err error
	if q.client, err = parseSelector(q.idBodies[0]); err != nil {
		return err
	}
	if q.remote, err = parseSelector(q.idBodies[1]); err != nil {
		return err
	}
	if !s.has(q.client) {
		return fmt.Errorf("the client is not %v", q.client)
	}
	networks := s.gw.cfg.Networks
	if s.gw.cfg.Quirks.NetworksOnly && !slices.Contains(networks, q.remote) {
		return fmt.Errorf("%v is not one of our networks", q.remote)
	}
	i := slices.IndexFunc(networks, q.remote.Overlaps)
	if i < 0 {
		return fmt.Errorf("%v is none of our networks", q.remote)
	}
	if s.gw.cfg.Narrow && networks[i].Bits() > q.remote.Bits() {
		q.remote = networks[i].Masked()
		q.idBodies = [][]byte{q.idBodies[0], selector(q.remote)}
	}
	return nil
}

// has reports whether a network is the client's: an address that it was given, or a
// part of an office. With racoon, any address of the pool is.
func (s *sa) has(network netip.Prefix) bool {
	if network.IsSingleIP() && (network.Addr() == s.address || network.Addr() == s.address6) {
		return true
	}
	if s.gw.cfg.Quirks.OtherAddress && network.IsSingleIP() && s.gw.cfg.Pool.Contains(network.Addr()) {
		return true
	}
	return slices.ContainsFunc(s.gw.cfg.Offices, func(o netip.Prefix) bool {
		return o.Bits() <= network.Bits() && o.Contains(network.Addr())
	})
}

// parseSelector reads IDci or IDcr: an address or network for all protocols and
// ports (RFC 2407 §4.6.2).
func parseSelector(body []byte) (netip.Prefix, error) {
	id, err := isakmp.ParseID(body)
	if err != nil {
		return netip.Prefix{}, err
	}
	if id.Protocol != 0 || id.Port != 0 {
		return netip.Prefix{}, fmt.Errorf("ID for protocol %d and port %d", id.Protocol, id.Port)
	}
	n := len(id.Data)
	switch {
	case id.Type == isakmp.IDIPv4Addr && n == 4, id.Type == isakmp.IDIPv6Addr && n == 16:
		a, _ := netip.AddrFromSlice(id.Data)
		return netip.PrefixFrom(a, a.BitLen()), nil
	case id.Type == isakmp.IDIPv4Subnet && n == 8, id.Type == isakmp.IDIPv6Subnet && n == 32:
		a, _ := netip.AddrFromSlice(id.Data[:n/2])
		bits, size := net.IPMask(id.Data[n/2:]).Size()
		p := netip.PrefixFrom(a, bits)
		if size == 0 || p != p.Masked() {
			return netip.Prefix{}, errors.New("ID of no network")
		}
		return p, nil
	}
	return netip.Prefix{}, fmt.Errorf("ID of type %d with %d bytes", id.Type, n)
}

func selector(p netip.Prefix) []byte {
	address, subnet := isakmp.IDIPv4Addr, isakmp.IDIPv4Subnet
	if p.Addr().Is6() {
		address, subnet = isakmp.IDIPv6Addr, isakmp.IDIPv6Subnet
	}
	if p.IsSingleIP() {
		return isakmp.ID{Type: address, Data: p.Addr().AsSlice()}.Append(nil)
	}
	return isakmp.ID{Type: subnet, Data: append(p.Addr().AsSlice(), net.CIDRMask(p.Bits(), p.Addr().BitLen())...)}.Append(nil)
}

// responderKeys draws Nr and, with PFS, makes our half of the exchange.
func (s *sa) responderKeys(q *quickMode, ke [][]byte) error {
	q.nr = make([]byte, nonceLen)
	s.gw.random(q.nr)
	if q.suite.group == nil {
		if len(ke) != 0 {
			return errors.New("KE without a group")
		}
		return nil
	}
	if len(ke) != 1 {
		return fmt.Errorf("%d KE payloads", len(ke))
	}
	var err error
	if q.key, err = q.suite.group.newKey(s.gw.cfg.Rand); err != nil {
		return err
	}
	q.gxy, err = q.key.secret(ke[0])
	return err
}

// qm3 ends an exchange that the client began.
func (s *sa) qm3(r *received, q *quickMode) error {
	mid := r.header.MessageID
	if !hmac.Equal(r.hash, s.suite.hash.hash.hash3(s.keys.skeyidA, mid, q.ni, q.nr)) {
		return errHash
	}
	r.accept(QM3)
	s.dropQuickMode(mid)
	if err := s.install(q); err != nil {
		return err
	}
	if s.gw.cfg.Quirks.CommitBit {
		s.sendConnected(mid, q.spiIn)
	}
	if s.gw.cfg.Quirks.DeleteAtOnce {
		s.gw.children[q.spiIn].expire()
	}
	return nil
}

// beginQuickMode replaces a tunnel by a new one with the same properties.
func (s *sa) beginQuickMode(old *child) error {
	q := &quickMode{
		ours: true, suite: old.suite, spiIn: s.gw.newSPI(), ni: make([]byte, nonceLen),
		client: old.client, remote: old.remote, life: s.gw.cfg.ESPLifetime,
		idBodies: [][]byte{selector(old.remote), selector(old.client)},
	}
	s.gw.random(q.ni)
	mid := s.newMID()
	m := &Message{Step: QM1, Header: s.header(isakmp.QuickMode, mid, true)}
	proposal := isakmp.Proposal{
		Protocol: isakmp.ProtoESP, SPI: midBytes(q.spiIn), Transforms: []isakmp.Transform{{
			Number: 1, ID: q.suite.cipher.esp, Attributes: q.suite.attributes(s.encapsulation(), uint32(q.life/time.Second)),
		}},
	}
	proposals := []isakmp.Proposal{proposal}
	if old.ipcomp != nil {
		q.cpiIn = s.gw.newCPI()
		proposals = append(proposals, s.ipcompProposal(proposal.Number, q.cpiIn))
		proposal.Number++
		proposals = append(proposals, proposal)
	}
	m.Add(isakmp.PayloadSA, isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: proposals}.Append(nil))
	m.Add(isakmp.PayloadNonce, q.ni)
	if q.suite.group != nil {
		var err error
		if q.key, err = q.suite.group.newKey(s.gw.cfg.Rand); err != nil {
			return err
		}
		m.Add(isakmp.PayloadKE, q.key.public)
	}
	m.Add(isakmp.PayloadID, q.idBodies[0])
	m.Add(isakmp.PayloadID, q.idBodies[1])
	s.quick[mid] = q
	s.request(m, func() {
		delete(s.quick, mid)
		s.log.Info("no answer to QM1", "user", s.user)
	})
	return nil
}

// qm2 takes the client's answer to our QM1.
func (s *sa) qm2(r *received, q *quickMode) error {
	mid := r.header.MessageID
	if !hmac.Equal(r.hash, s.suite.hash.hash.phase2Hash(s.keys.skeyidA, mid, q.ni, r.rest)) {
		return errHash
	}
	bodies, err := need(r.payloads, isakmp.PayloadSA, isakmp.PayloadNonce)
	if err != nil {
		return err
	}
	if err := s.answered(q, bodies[0]); err != nil {
		return err
	}
	ids := only(r.payloads, isakmp.PayloadID)
	if len(ids) != 2 || !bytes.Equal(ids[0], q.idBodies[0]) || !bytes.Equal(ids[1], q.idBodies[1]) {
		return errors.New("other IDs than in our QM1")
	}
	if n := len(bodies[1]); n < minNonce || n > maxNonce {
		return fmt.Errorf("nonce of %d bytes", n)
	}
	ke := only(r.payloads, isakmp.PayloadKE)
	if pfs := q.key != nil; pfs != (len(ke) == 1) {
		return fmt.Errorf("%d KE payloads", len(ke))
	} else if pfs {
		if q.gxy, err = q.key.secret(ke[0]); err != nil {
			return err
		}
	}
	q.nr = bodies[1]
	r.accept(QM2)
	s.done(mid)
	delete(s.quick, mid)
	m := &Message{Step: QM3, Header: s.header(isakmp.QuickMode, mid, true), niBody: q.ni, nrBody: q.nr}
	s.respond(m)
	return s.install(q)
}

// answered checks that the client has chosen what we offered.
func (s *sa) answered(q *quickMode, body []byte) error {
	sa, err := isakmp.ParseSA(body)
	if err != nil {
		return err
	}
	if cpi, _, ok := s.offeredIPComp(sa.Proposals); ok && q.cpiIn != 0 {
		q.cpiOut = cpi
		sa.Proposals = sa.Proposals[:1]
	}
	if len(sa.Proposals) != 1 || len(sa.Proposals[0].Transforms) != 1 {
		return errors.New("not one transform chosen")
	}
	p := sa.Proposals[0]
	suite, mode, ok := espTransform(p.Transforms[0])
	if !ok || !suite.looksLike(q.suite) || mode != s.encapsulation() || p.Protocol != isakmp.ProtoESP {
		return errors.New("another transform than offered")
	}
	if len(p.SPI) != 4 || binary.BigEndian.Uint32(p.SPI) < minSPI {
		return errors.New("unusable SPI")
	}
	q.spiOut = binary.BigEndian.Uint32(p.SPI)
	_, q.life, _ = s.gw.shorten(p.Transforms[0].Attributes, isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration,
		s.gw.cfg.ESPLifetime, defaultLife)
	return nil
}

// install makes the pair of ESP SAs.
func (s *sa) install(q *quickMode) error {
	t, h := q.suite.transform(), s.suite.hash.hash
	keymat := func(spi uint32) []byte {
		return h.keymat(s.keys.skeyidD, q.gxy, spi, q.ni, q.nr, t.KeyMaterialLen())
	}
	in, err := esp.NewInbound(t, q.spiIn, keymat(q.spiIn))
	if err != nil {
		return err
	}
	out, err := esp.NewOutbound(t, q.spiOut, keymat(q.spiOut), s.gw.cfg.Rand)
	if err != nil {
		return err
	}
	c := &child{
		sa: s, suite: q.suite, in: in, out: out, headerLen: t.HeaderLen(), client: q.client, remote: q.remote, established: time.Now(),
	}
	if q.cpiOut != 0 {
		c.compress(q)
	}
	c.timer = s.gw.after(q.life, c.expire)
	s.children = append(s.children, c)
	s.gw.children[q.spiIn] = c
	c.handOver()
	s.log.Info("tunnel up", "user", s.user, "suite", q.suite, "client", q.client, "remote", q.remote, "ipcomp", c.ipcomp != nil)
	return nil
}
