package ike

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

const (
	espLifetime = 3600 * time.Second // offered
	qm3Patience = 10 * time.Second   // ESP on the new SA confirms it as well
	maxAnswered = 4096               // Quick Modes that the gateway may begin under one ISAKMP SA
	minSPI      = 256                // the ones below are reserved (RFC 4303 §2.1)
)

var (
	rulesQM1 = []rule{
		{isakmp.PayloadHash, 1, 1},
		{isakmp.PayloadSA, 1, 1},
		{isakmp.PayloadNonce, 1, 1},
		{isakmp.PayloadKE, 0, 1},
		{isakmp.PayloadID, 0, 2},
		{isakmp.PayloadNATOA, 0, 2},
		{isakmp.PayloadNATOADraft, 0, 2},
	}
	rulesQM2 = rulesQM1
	rulesQM3 = []rule{{isakmp.PayloadHash, 1, 1}}
)

// quickOffer is one try at a phase-2 negotiation: suites that share a group, or have
// none.
type quickOffer struct {
	suites []ESPSuite
	group  *group // PFS; nil: none
	ipcomp bool   // offered with IPComp first, without it second
}

// quickOffers lists the offers in the order in which they are tried. A Quick Mode
// has one group at most (RFC 2409 §5.5). With PFS "auto" the first try has none,
// the second the group of phase 1: never is the weaker tried after the stronger.
func (sa *isakmpSA) quickOffers() []quickOffer {
	var open []ESPSuite
	var offers []quickOffer
	for _, s := range sa.s.espSuites {
		if s.group == nil {
			open = append(open, s)
			continue
		}
		i := slices.IndexFunc(offers, func(o quickOffer) bool { return o.group == s.group })
		if i < 0 {
			i = len(offers)
			offers = append(offers, quickOffer{group: s.group})
		}
		offers[i].suites = append(offers[i].suites, s)
	}
	if len(open) == 0 {
		return offers
	}
	switch pfs := sa.s.cfg.PFS; {
	case pfs == PFSOff:
		offers = append(offers, quickOffer{suites: open})
	case pfs != PFSAuto && pfs != "":
		offers = append(offers, quickOffer{suites: open, group: findGroup(string(pfs))})
	case sa.s.pfsWish() != nil:
		offers = append(offers, quickOffer{suites: open, group: sa.s.pfsWish()})
	default:
		offers = append(offers, quickOffer{suites: open}, quickOffer{suites: open, group: sa.suite.group})
	}
	return offers
}

// newChild negotiates a pair of ESP SAs, with the offer that worked before if there
// was one.
func (sa *isakmpSA) newChild(ctx context.Context, pair selectorPair) (*childSA, error) {
	offers := sa.quickOffers()
	// A strongSwan that is to compress and has no kernel for it refuses the whole
	// offer, and does not look at what stands behind the bundle.
	if sa.s.cfg.IPComp {
		offers = append(withIPComp(offers), offers...)
	}
	if sa.s.quickOffer != nil {
		offers = []quickOffer{*sa.s.quickOffer}
	}
	var err error
	for i := range offers {
		var c *childSA
		if c, err = sa.quickMode(ctx, &offers[i], pair); err == nil {
			sa.s.quickOffer = &offers[i]
			return c, nil
		}
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.What != RefusedProposal {
			return nil, err
		}
	}
	return nil, err
}

// quickMode negotiates as initiator (RFC 2409 §5.5):
//
//	QM1 ->  HDR*, HASH(1), SA, Ni [, KE], IDci, IDcr
//	QM2 <-  HDR*, HASH(2), SA, Nr [, KE], IDci, IDcr
//	QM3 ->  HDR*, HASH(3)
func (sa *isakmpSA) quickMode(ctx context.Context, offer *quickOffer, pair selectorPair) (*childSA, error) {
	mid, err := sa.newMessageID()
	if err != nil {
		return nil, err
	}
	neg, err := sa.newNegotiation(offer.group, offer.ipcomp)
	if err != nil {
		return nil, err
	}
	defer sa.s.release(neg.spiIn)
	neg.ni, neg.pair = neg.nonce, pair
	qm1 := []isakmp.Payload{
		{Type: isakmp.PayloadSA, Body: sa.espOffer(offer, neg)},
		{Type: isakmp.PayloadNonce, Body: neg.ni},
	}
	if neg.kx != nil {
		qm1 = append(qm1, isakmp.Payload{Type: isakmp.PayloadKE, Body: neg.kx.public()})
	}
	qm1 = append(qm1,
		isakmp.Payload{Type: isakmp.PayloadID, Body: selectorID(pair.local).Append(nil)},
		isakmp.Payload{Type: isakmp.PayloadID, Body: selectorID(pair.remote).Append(nil)})

	m, err := sa.roundTrip(ctx, sa.sealHashed(isakmp.QuickMode, mid, qm1...), func(m *message) error {
		if m.Exchange == isakmp.Informational {
			return sa.refusedQuickMode(m)
		}
		if m.Exchange != isakmp.QuickMode || m.MessageID != mid {
			return errNotMine
		}
		return sa.acceptQM2(m, offer, neg)
	})
	if err != nil {
		return nil, err
	}
	child, err := sa.newChildSA(neg)
	if err != nil {
		return nil, err
	}
	child.held = m.Flags&isakmp.FlagCommit != 0
	sa.s.install(child) // before QM3: the gateway may send at once
	if child.held {
		time.AfterFunc(commitPatience, func() { sa.s.activate(child) })
	}
	hash3 := sa.keys.hash3(mid, neg.ni, neg.nr)
	sa.reply(m, sa.seal(isakmp.QuickMode, mid, isakmp.Payload{Type: isakmp.PayloadHash, Body: hash3}))
	return child, nil
}

// negotiation is what a Quick Mode has found out so far.
type negotiation struct {
	spiIn, spiOut uint32
	cpiIn, cpiOut uint16 // 0: IPComp is not offered, not agreed
	nonce         []byte // ours
	ni, nr        []byte
	group         *group
	kx            keyExchange
	gqm           []byte
	suite         ESPSuite
	lifetime      time.Duration
	pair          selectorPair
	local, remote netip.Prefix
}

// newNegotiation reserves an SPI and draws nonce, key and, with IPComp, CPI.
func (sa *isakmpSA) newNegotiation(g *group, ipcomp bool) (*negotiation, error) {
	n := &negotiation{group: g, nonce: make([]byte, nonceLen), lifetime: espLifetime}
	if err := sa.random(n.nonce); err != nil {
		return nil, err
	}
	var err error
	if g != nil {
		if n.kx, err = sa.s.keyExchange(g); err != nil {
			return nil, err
		}
	}
	if ipcomp {
		if n.cpiIn, err = sa.s.drawCPI(); err != nil {
			return nil, err
		}
	}
	n.spiIn, err = sa.s.reserve()
	return n, err
}

// espOffer is the body of our SA payload: one proposal with a transform a suite; with
// IPComp a bundle, and the same without it.
func (sa *isakmpSA) espOffer(offer *quickOffer, neg *negotiation) []byte {
	p := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtoESP, SPI: be32(neg.spiIn)}
	for i, s := range offer.suites {
		as := sa.commonOffer()
		if s.hash != nil {
			as = append(as, isakmp.BasicAttribute(isakmp.AttrESPAuth, s.hash.espID))
		}
		if s.cipher.keyBits != 0 {
			as = append(as, isakmp.BasicAttribute(isakmp.AttrESPKeyLength, s.cipher.keyBits))
		}
		if offer.group != nil {
			as = append(as, isakmp.BasicAttribute(isakmp.AttrESPGroup, offer.group.id))
		}
		p.Transforms = append(p.Transforms, isakmp.Transform{Number: uint8(i + 1), ID: s.cipher.espID, Attributes: as})
	}
	ps := []isakmp.Proposal{p}
	if offer.ipcomp {
		alone := p
		alone.Number = 2
		ps = append(ps, sa.ipcompOffer(p.Number, neg.cpiIn), alone)
	}
	return isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: ps}.Append(nil)
}

// commonOffer is what each offered phase-2 transform has.
func (sa *isakmpSA) commonOffer() []isakmp.Attribute {
	return []isakmp.Attribute{
		isakmp.BasicAttribute(isakmp.AttrESPLifeType, isakmp.LifeSeconds),
		isakmp.NumberAttribute(isakmp.AttrESPLifeDuration, uint32(espLifetime/time.Second)),
		isakmp.BasicAttribute(isakmp.AttrESPEncapsulation, sa.encapsulation()),
	}
}

// refusedQuickMode looks for the gateway's refusal. The HASH of an Informational has
// been verified, so it counts.
func (sa *isakmpSA) refusedQuickMode(m *message) error {
	for _, p := range m.all(isakmp.PayloadNotify) {
		n, err := isakmp.ParseNotify(p.Body)
		if err == nil && n.Type.IsError() && n.Type != isakmp.NotifyInvalidSPI {
			return fatalError{sa.refused(n.Type, true)}
		}
	}
	return errNotMine
}

// acceptQM2 verifies HASH(2) and reads the answer. Once the HASH is right, a wrong
// answer is the gateway's own and ends the exchange.
func (sa *isakmpSA) acceptQM2(m *message, offer *quickOffer, neg *negotiation) error {
	if err := checkRules(m, true, rulesQM2); err != nil {
		return err
	}
	if !hmac.Equal(m.payloads[0].Body, sa.keys.hash2(m.MessageID, neg.ni, m.afterHash())) {
		return errors.New("wrong HASH(2)")
	}
	fail := func(err error) error {
		return fatalError{&ProtocolError{Step: sa.step, Detail: "Quick Mode", Err: err}}
	}
	neg.nr = m.body(isakmp.PayloadNonce)
	if err := checkNonce(neg.nr); err != nil {
		return fail(err)
	}
	answer, err := isakmp.ParseSA(m.body(isakmp.PayloadSA))
	if err != nil {
		return fail(err)
	}
	if err := sa.selectAnswer(answer.Proposals, offer, neg); err != nil {
		return fail(err)
	}
	if err := neg.finishKE(m.body(isakmp.PayloadKE)); err != nil {
		return fail(err)
	}
	idci, idcr, err := selectors(m)
	if err != nil {
		return fail(err)
	}
	if idci != neg.pair.local || !within(idcr, neg.pair.remote) {
		return fatalError{&RefusedError{
			Step: sa.step, What: RefusedSettings, Authenticated: true,
			Detail: fmt.Sprintf("it answered with %v and %v instead of %v and %v", idci, idcr, neg.pair.local, neg.pair.remote),
		}}
	}
	neg.local, neg.remote = idci, idcr
	sa.noteESPLifetime(m, neg)
	return nil
}

// selectAnswer matches the gateway's answer with our offer.
func (sa *isakmpSA) selectAnswer(ps []isakmp.Proposal, offer *quickOffer, neg *negotiation) error {
	esp, ipcomp, err := answered(ps)
	if err != nil {
		return err
	}
	if ipcomp != nil {
		if !offer.ipcomp {
			return errors.New("IPComp, which was not offered")
		}
		if _, err := sa.selectIPComp(ipcomp, neg); err != nil {
			return err
		}
	}
	return sa.selectESP(*esp, esp.Transforms[0], offer.suites, neg)
}

// finishKE makes g(qm)^xy; a KE payload stands there exactly when a group was
// agreed.
func (n *negotiation) finishKE(ke []byte) (err error) {
	if (n.kx == nil) != (ke == nil) {
		return fmt.Errorf("KE payload is there: %v, PFS was agreed: %v", ke != nil, n.kx != nil)
	}
	if n.kx != nil {
		n.gqm, err = n.kx.shared(ke)
	}
	return err
}

// selectESP matches a transform with the suites that are allowed, and takes SPI and
// lifetime.
func (sa *isakmpSA) selectESP(p isakmp.Proposal, t isakmp.Transform, suites []ESPSuite, neg *negotiation) error {
	if p.Protocol != isakmp.ProtoESP || len(p.SPI) != 4 {
		return fmt.Errorf("proposal for %v with an SPI of %d bytes", p.Protocol, len(p.SPI))
	}
	if neg.spiOut = binary.BigEndian.Uint32(p.SPI); neg.spiOut < minSPI {
		return fmt.Errorf("SPI %d", neg.spiOut)
	}
	values := make(map[uint16]uint64)
	for _, a := range t.Attributes {
		v, ok := a.Uint()
		if !ok {
			return fmt.Errorf("attribute %d", a.Type)
		}
		switch a.Type {
		case isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration:
			continue
		case isakmp.AttrESPGroup, isakmp.AttrESPEncapsulation, isakmp.AttrESPAuth, isakmp.AttrESPKeyLength:
		default:
			return fmt.Errorf("attribute %d is not acceptable", a.Type)
		}
		if _, twice := values[a.Type]; twice {
			return fmt.Errorf("attribute %d twice", a.Type)
		}
		values[a.Type] = v
	}
	// In a bundle it is IPComp that makes the tunnel, so that ESP may say transport
	// mode: the number that follows each of the tunnel modes.
	tunnel := uint64(sa.encapsulation())
	if got := values[isakmp.AttrESPEncapsulation]; got != tunnel && (neg.cpiOut == 0 || got != tunnel+1) {
		return fmt.Errorf("encapsulation mode %d instead of %d", got, tunnel)
	}
	var wantGroup uint64
	if neg.group != nil {
		wantGroup = uint64(neg.group.id)
	}
	if got := values[isakmp.AttrESPGroup]; got != wantGroup {
		return fmt.Errorf("group %d instead of %d", got, wantGroup)
	}
	i := slices.IndexFunc(suites, func(s ESPSuite) bool {
		var auth uint64
		if s.hash != nil {
			auth = uint64(s.hash.espID)
		}
		return t.ID == s.cipher.espID && values[isakmp.AttrESPKeyLength] == uint64(s.cipher.keyBits) && values[isakmp.AttrESPAuth] == auth
	})
	if i < 0 {
		return fmt.Errorf("transform %d with %v is not acceptable", t.ID, values)
	}
	neg.suite = suites[i]
	neg.suite.group = neg.group
	neg.lifetime = min(neg.lifetime, lifetimeOf(t.Attributes, isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration))
	return nil
}

// noteESPLifetime applies a RESPONDER-LIFETIME that came with the answer (RFC 2407
// §4.6.3.1).
func (sa *isakmpSA) noteESPLifetime(m *message, neg *negotiation) {
	for _, p := range m.all(isakmp.PayloadNotify) {
		n, err := isakmp.ParseNotify(p.Body)
		if err != nil || n.Type != isakmp.NotifyResponderLifetime {
			continue
		}
		if as, err := isakmp.ParseAttributes(n.Data); err == nil {
			neg.lifetime = min(neg.lifetime, lifetimeOf(as, isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration))
		}
	}
}

// noteLifetimes does the same for phase 1.
func (sa *isakmpSA) noteLifetimes(m *message) {
	for _, p := range m.all(isakmp.PayloadNotify) {
		n, err := isakmp.ParseNotify(p.Body)
		if err != nil || n.Type != isakmp.NotifyResponderLifetime || n.Protocol != isakmp.ProtoISAKMP {
			continue
		}
		if as, err := isakmp.ParseAttributes(n.Data); err == nil {
			// The attribute numbers are those of phase 2 (RFC 2407 §4.6.3.1).
			if l := lifetimeOf(as, isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration); l < sa.lifetime {
				sa.lifetime = l
				if !sa.established.IsZero() {
					sa.scheduleReauth()
				}
			}
		}
	}
}

// selectorID writes a network as an ID payload; a single address as one.
func selectorID(p netip.Prefix) isakmp.ID {
	a := p.Addr()
	if p.IsSingleIP() {
		return addressID(a)
	}
	typ := isakmp.IDIPv4Subnet
	if a.Is6() {
		typ = isakmp.IDIPv6Subnet
	}
	mask := make([]byte, a.BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return isakmp.ID{Type: typ, Data: append(a.AsSlice(), mask...)}
}

// everything is 0.0.0.0/0 or ::/0, for the family of p.
func everything(p netip.Prefix) netip.Prefix {
	if p.Addr().Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// selectors reads IDci and IDcr. Without them the SA would be for the two outer
// addresses, which is nothing that a road warrior wants.
func selectors(m *message) (idci, idcr netip.Prefix, err error) {
	ids := m.all(isakmp.PayloadID)
	if len(ids) != 2 {
		return idci, idcr, fmt.Errorf("%d ID payloads instead of two", len(ids))
	}
	var out [2]netip.Prefix
	for i, p := range ids {
		id, err := isakmp.ParseID(p.Body)
		if err != nil {
			return idci, idcr, err
		}
		if out[i], err = selectorPrefix(id); err != nil {
			return idci, idcr, err
		}
	}
	return out[0], out[1], nil
}

func selectorPrefix(id isakmp.ID) (netip.Prefix, error) {
	bad := fmt.Errorf("ID of type %d with %d bytes is no network", id.Type, len(id.Data))
	if id.Protocol != 0 || id.Port != 0 {
		return netip.Prefix{}, fmt.Errorf("ID for protocol %d and port %d", id.Protocol, id.Port)
	}
	size := 4
	if id.Type == isakmp.IDIPv6Addr || id.Type == isakmp.IDIPv6Subnet {
		size = 16
	}
	switch id.Type {
	case isakmp.IDIPv4Addr, isakmp.IDIPv6Addr:
		if len(id.Data) != size {
			return netip.Prefix{}, bad
		}
		a, _ := netip.AddrFromSlice(id.Data)
		return netip.PrefixFrom(a, a.BitLen()), nil
	case isakmp.IDIPv4Subnet, isakmp.IDIPv6Subnet:
		if len(id.Data) != 2*size {
			return netip.Prefix{}, bad
		}
		a, _ := netip.AddrFromSlice(id.Data[:size])
		bits, ok := maskBits(id.Data[size:])
		if !ok {
			return netip.Prefix{}, fmt.Errorf("mask %x", id.Data[size:])
		}
		return netip.PrefixFrom(a, bits).Masked(), nil
	}
	return netip.Prefix{}, bad
}

// maskBits counts the ones of a contiguous mask.
func maskBits(mask []byte) (bits int, ok bool) {
	ended := false
	for _, b := range mask {
		for i := range 8 {
			one := b&(0x80>>i) != 0
			if one && ended {
				return 0, false
			}
			if one {
				bits++
			}
			ended = !one
		}
	}
	return bits, true
}

// quickModeRequest answers a Quick Mode that the gateway began: strongSwan rekeys by
// itself, and proposes 0.0.0.0/0 even where the first Quick Mode was narrowed.
//
//	QM1 <-  HDR*, HASH(1), SA, Ni [, KE], IDci, IDcr
//	QM2 ->  HDR*, HASH(2), SA, Nr [, KE], IDci, IDcr
//	QM3 <-  HDR*, HASH(3)
//
// Here IDci is the gateway's side and IDcr ours.
func (sa *isakmpSA) quickModeRequest(m *message) error {
	if _, ours := sa.chains[m.MessageID]; ours || sa.answered[m.MessageID] || sa.answering || len(sa.answered) == maxAnswered {
		return dropped("Quick Mode message of a running or finished exchange")
	}
	if err := checkRules(m, true, rulesQM1); err != nil {
		return dropped("Quick Mode: %v", err)
	}
	if !hmac.Equal(m.payloads[0].Body, sa.keys.hash1(m.MessageID, m.afterHash())) {
		return dropped("Quick Mode: wrong HASH(1)")
	}
	sa.commit(m)
	sa.s.heard()
	sa.answering, sa.answered[m.MessageID] = true, true
	defer func() { sa.answering = false }()
	if err := sa.answerQuickMode(m); err != nil {
		var fatal fatalError
		if errors.As(err, &fatal) {
			return err
		}
		sa.log.Warn("refused a Quick Mode of the gateway", "err", err)
	}
	return nil
}

func (sa *isakmpSA) answerQuickMode(m *message) error {
	neg, chosen, err := sa.chooseESP(m)
	if err != nil {
		sa.notify(isakmp.ProtoESP, nil, isakmp.NotifyNoProposalChosen, nil)
		return err
	}
	defer sa.s.release(neg.spiIn)
	neg.ni, neg.nr = m.body(isakmp.PayloadNonce), neg.nonce
	if err := checkNonce(neg.ni); err != nil {
		return err
	}
	idci, idcr, err := selectors(m)
	if err == nil {
		neg.pair, err = sa.s.pairFor(idcr, idci)
	}
	if err != nil {
		sa.notify(isakmp.ProtoESP, nil, isakmp.NotifyInvalidIDInfo, nil)
		return err
	}
	if err := neg.finishKE(m.body(isakmp.PayloadKE)); err != nil {
		return err
	}
	neg.local, neg.remote = neg.pair.local, idci
	if within(idcr, neg.local) {
		neg.local = idcr
	}
	sa.noteESPLifetime(m, neg)
	child, err := sa.newChildSA(neg)
	if err != nil {
		return err
	}
	child.held = true // HASH(3) shows that QM1 was no replay
	sa.s.install(child)

	_, err = sa.wait(sa.s.ctx, sa.sealQM2(m, chosen, neg), qm3Patience, func(r *message) error {
		if r.Exchange != isakmp.QuickMode || r.MessageID != m.MessageID {
			return errNotMine
		}
		if err := checkRules(r, true, rulesQM3); err != nil {
			return err
		}
		if !hmac.Equal(r.payloads[0].Body, sa.keys.hash3(m.MessageID, neg.ni, neg.nr)) {
			return errors.New("wrong HASH(3)")
		}
		return nil
	})
	var silent *NoAnswerError
	var protocol *ProtocolError
	if err != nil && !errors.As(err, &silent) && !errors.As(err, &protocol) {
		return fatalError{err} // something else ended the wait, and the session
	}
	if err != nil && !child.confirmed() {
		sa.s.remove(child)
		return err
	}
	sa.s.activate(child)
	return nil
}

// sealQM2 answers QM1 with the bundle that was chosen, and its IDs as they came.
func (sa *isakmpSA) sealQM2(qm1 *message, chosen []byte, neg *negotiation) []byte {
	ps := []isakmp.Payload{{Type: isakmp.PayloadSA, Body: chosen}, {Type: isakmp.PayloadNonce, Body: neg.nr}}
	if neg.kx != nil {
		ps = append(ps, isakmp.Payload{Type: isakmp.PayloadKE, Body: neg.kx.public()})
	}
	for _, id := range qm1.all(isakmp.PayloadID) {
		ps = append(ps, isakmp.Payload{Type: isakmp.PayloadID, Body: id.Body})
	}
	hash2 := sa.keys.hash2(qm1.MessageID, neg.ni, isakmp.AppendPayloads(nil, ps...))
	return sa.seal(isakmp.QuickMode, qm1.MessageID, append([]isakmp.Payload{{Type: isakmp.PayloadHash, Body: hash2}}, ps...)...)
}

// pairFor finds the selectors that an SA of the gateway serves.
func (s *Session) pairFor(local, remote netip.Prefix) (selectorPair, error) {
	for _, p := range s.pairs {
		if p.local.Overlaps(local) && p.remote.Overlaps(remote) {
			return p, nil
		}
	}
	return selectorPair{}, fmt.Errorf("it is for %v and %v, which is nothing of ours", local, remote)
}

// chooseESP picks the gateway's first transform that we would offer ourselves, and in
// a bundle IPComp's.
func (sa *isakmpSA) chooseESP(m *message) (*negotiation, []byte, error) {
	offer, err := isakmp.ParseSA(m.body(isakmp.PayloadSA))
	if err != nil {
		return nil, nil, err
	}
	last := errors.New("no proposal")
	for _, bundle := range bundles(offer.Proposals) {
		neg, err := sa.tryBundle(bundle)
		if err != nil {
			last = err
			continue
		}
		chosen := isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: bundle}
		return neg, chosen.Append(nil), nil
	}
	return nil, nil, last
}

// tryBundle makes bundle our answer, with our SPIs and one transform each.
func (sa *isakmpSA) tryBundle(bundle []isakmp.Proposal) (*negotiation, error) {
	esp, ipcomp, err := protocolsOf(bundle)
	if err != nil {
		return nil, err
	}
	probe := &negotiation{}
	if ipcomp != nil {
		if !sa.s.cfg.IPComp {
			return nil, errors.New("IPComp, which the profile does not ask for")
		}
		t, err := sa.selectIPComp(ipcomp, probe)
		if err != nil {
			return nil, err
		}
		ipcomp.Transforms = []isakmp.Transform{t}
	}
	last := errors.New("no transform")
	for _, t := range esp.Transforms {
		neg, err := sa.tryTransform(*esp, t, probe.cpiOut)
		if err != nil {
			last = err
			continue
		}
		esp.SPI, esp.Transforms = be32(neg.spiIn), []isakmp.Transform{t}
		if ipcomp != nil {
			ipcomp.SPI = binary.BigEndian.AppendUint16(nil, neg.cpiIn)
		}
		return neg, nil
	}
	return nil, last
}

func (sa *isakmpSA) tryTransform(p isakmp.Proposal, t isakmp.Transform, cpiOut uint16) (*negotiation, error) {
	var g *group
	if a, ok := isakmp.Find(t.Attributes, isakmp.AttrESPGroup); ok {
		id, _ := a.Uint()
		if g = groupByID(id); g == nil || g.weak&^sa.s.cfg.AllowWeak != 0 {
			return nil, fmt.Errorf("group %d is not acceptable", id)
		}
	}
	probe := &negotiation{group: g, lifetime: espLifetime, cpiOut: cpiOut}
	if err := sa.selectESP(p, t, sa.s.espSuites, probe); err != nil {
		return nil, err
	}
	neg, err := sa.newNegotiation(g, cpiOut != 0)
	if err != nil {
		return nil, err
	}
	neg.spiOut, neg.cpiOut, neg.suite, neg.lifetime = probe.spiOut, cpiOut, probe.suite, probe.lifetime
	return neg, nil
}
