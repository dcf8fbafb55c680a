package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// Nonces outside these bounds are refused (RFC 2409 §5); nonceLen is what we send.
const (
	minNonce = 8
	maxNonce = 256
	nonceLen = 32
)

// Main Mode (RFC 2409 §5.1, hybrid draft §4.2), as responder, here with hybrid
// authentication; other methods put CERT and SIG_I in the place of HASH_I, or HASH_R
// in that of SIG_R:
//
//	MM1 -> SA, V...
//	                <- MM2 SA, V...
//	MM3 -> KE, Ni, NAT-D, NAT-D
//	                <- MM4 KE, Nr, NAT-D, NAT-D
//	MM5 -> HDR* IDii, HASH_I [, CERTREQ] [, N]
//	                <- MM6 HDR* IDir, CERT..., SIG_R [, N]
//
// Aggressive Mode:
//
//	AM1 -> SA, KE, Ni, IDii [, CERTREQ], V...
//	                <- AM2 SA, KE, Nr, IDir, CERT..., V..., NAT-D, NAT-D, SIG_R
//	AM3 -> HDR(*) HASH_I, NAT-D, NAT-D [, N]
func (s *sa) receivePhase1(p path, h isakmp.Header, body []byte) error {
	if h.MessageID != 0 {
		return errors.New("M-ID in phase 1")
	}
	if s.state == waitFirst {
		s.exchange = h.Exchange
	}
	if h.Exchange != s.exchange {
		return fmt.Errorf("%v inside %v", h.Exchange, s.exchange)
	}
	switch {
	case s.state == waitFirst && s.exchange == isakmp.MainMode:
		return s.clear(h, body, func(ps []isakmp.Payload) error { return s.mm1(h, ps) })
	case s.state == waitFirst:
		return s.clear(h, body, func(ps []isakmp.Payload) error { return s.am1(h, ps) })
	case s.state == waitMM3:
		return s.clear(h, body, func(ps []isakmp.Payload) error { return s.mm3(p, h, ps) })
	case s.state == waitMM5:
		return s.mm5(p, h, body)
	case s.state == waitAM3:
		return s.am3(p, h, body)
	}
	return errors.New("phase 1 is complete")
}

// clear parses a cleartext message.
func (s *sa) clear(h isakmp.Header, body []byte, then func([]isakmp.Payload) error) error {
	if h.Encrypted() {
		return errors.New("encrypted before there are keys")
	}
	ps, rest, err := isakmp.ParsePayloads(h.NextPayload, body)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes after the last payload", len(rest))
	}
	return then(ps)
}

// need takes the one payload of each of the given types.
func need(ps []isakmp.Payload, types ...isakmp.PayloadType) ([][]byte, error) {
	var bodies [][]byte
	for _, t := range types {
		found := only(ps, t)
		if len(found) != 1 {
			return nil, fmt.Errorf("%d %v payloads", len(found), t)
		}
		bodies = append(bodies, found[0])
	}
	return bodies, nil
}

func (s *sa) mm1(h isakmp.Header, ps []isakmp.Payload) error {
	bodies, err := need(ps, isakmp.PayloadSA)
	if err != nil {
		return err
	}
	if s.redirect() {
		return errRedirected
	}
	s.readVendorIDs(ps)
	chosen, err := s.choose(bodies[0])
	if err != nil {
		s.refuse(isakmp.NotifyNoProposalChosen)
		return err
	}
	s.logReceived(MM1, h, ps)
	s.state = waitMM3
	m := &Message{Step: MM2, Header: s.header(isakmp.MainMode, 0, false)}
	m.Add(isakmp.PayloadSA, chosen.Append(nil))
	s.addVendorIDs(m)
	s.respond(m)
	return nil
}

// choose takes the first offered transform that is accepted, and remembers it.
func (s *sa) choose(saiBody []byte) (isakmp.SA, error) {
	offer, err := isakmp.ParseSA(saiBody)
	if err != nil {
		return isakmp.SA{}, err
	}
	if len(offer.Proposals) != 1 || offer.Proposals[0].Protocol != isakmp.ProtoISAKMP {
		return isakmp.SA{}, errors.New("not one ISAKMP proposal")
	}
	proposal := offer.Proposals[0]
	for _, t := range proposal.Transforms {
		suite, auth, ok := ikeTransform(t)
		method := row(authMethods, func(m *authMethod) bool { return m.id == auth })
		if !ok || method == nil || !s.gw.offers(method) || len(s.gw.ike) > 0 && !slices.Contains(s.gw.ike, suite) {
			continue
		}
		attributes, lifetime, shorter := s.gw.shorten(t.Attributes, isakmp.AttrLifeType, isakmp.AttrLifeDuration,
			s.gw.cfg.IKELifetime, s.gw.cfg.IKELifetime)
		if q := &s.gw.cfg.Quirks; q.StrictLifetime && shorter || q.NeedXAuthVendor && method.xauth && !s.peer.xauth {
			continue
		}
		s.suite, s.method, s.saiBody = suite, method, saiBody
		t.Attributes, s.lifetime = attributes, lifetime
		proposal.Transforms = []isakmp.Transform{t}
		offer.Proposals = []isakmp.Proposal{proposal}
		return offer, nil
	}
	return isakmp.SA{}, errors.New("no acceptable transform")
}

// shorten applies our lifetime to the attributes of a chosen transform. Unless the
// gateway tells it by RESPONDER-LIFETIME, the durations are lowered. It returns the
// lifetime that results, where def stands for one that is not offered, and whether
// it is shorter than the client's.
func (g *Gateway) shorten(as []isakmp.Attribute, lifeType, lifeDuration uint16, ours, def time.Duration) ([]isakmp.Attribute, time.Duration, bool) {
	life, seconds := def, false
	out := slices.Clone(as)
	for i, a := range out {
		v, ok := a.Uint()
		switch {
		case a.Type == lifeType:
			seconds = ok && v == uint64(isakmp.LifeSeconds)
		case a.Type == lifeDuration && seconds && ok && v > 0 && v <= 1<<32-1:
			life = time.Duration(v) * time.Second
			if life > ours && !g.cfg.ResponderLifetime && !(g.cfg.Quirks.QuietLifetime && lifeDuration == isakmp.AttrESPLifeDuration) {
				out[i] = isakmp.NumberAttribute(lifeDuration, uint32(ours/time.Second))
			}
		}
	}
	return out, min(life, ours), ours < life
}

// refuse sends a cleartext Notify: nobody can trust it, but it may help.
func (s *sa) refuse(t isakmp.NotifyType) {
	m := &Message{Step: Notify, Header: s.header(isakmp.Informational, s.gw.randomUint32(1), false)}
	m.Add(isakmp.PayloadNotify, isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: t}.Append(nil))
	s.notify(m)
}

func (s *sa) mm3(p path, h isakmp.Header, ps []isakmp.Payload) error {
	bodies, err := need(ps, isakmp.PayloadKE, isakmp.PayloadNonce)
	if err != nil {
		return err
	}
	if err := s.checkNATD(ps); err != nil {
		return err
	}
	if err := s.exchangeKeys(bodies[0], bodies[1]); err != nil {
		return err
	}
	s.readVendorIDs(ps)
	s.readCertReq(ps)
	s.detectNAT(p, ps)
	s.logReceived(MM3, h, ps)
	s.state, s.path = waitMM5, p
	m := &Message{Step: MM4, Header: s.header(isakmp.MainMode, 0, false)}
	m.Add(isakmp.PayloadKE, s.gxr)
	m.Add(isakmp.PayloadNonce, s.nr)
	s.addCertRequests(m)
	if s.gw.cfg.Quirks.LateDPD {
		m.Add(isakmp.PayloadVendorID, []byte(dpdVID))
	}
	s.addNATD(m)
	s.respond(m)
	return nil
}

// exchangeKeys makes our half of the Diffie-Hellman exchange and all keys.
func (s *sa) exchangeKeys(gxi, ni []byte) error {
	if len(ni) < minNonce || len(ni) > maxNonce {
		return fmt.Errorf("nonce of %d bytes", len(ni))
	}
	key, err := s.suite.group.newKey(s.gw.cfg.Rand)
	if err != nil {
		return err
	}
	gxy, err := key.secret(gxi)
	if err != nil {
		return err
	}
	s.gxi, s.gxr, s.ni = gxi, key.public, ni
	s.nr = make([]byte, nonceLen)
	s.gw.random(s.nr)
	h := s.suite.hash.hash
	skeyid, err := s.skeyid(gxy)
	if err != nil {
		return err
	}
	s.keys = h.deriveKeys(skeyid, gxy, s.ckyI, s.ckyR)
	if s.block, err = s.suite.cipher.block(h.cipherKey(s.keys.skeyidE, s.suite.cipher.keyLen)); err != nil {
		return err
	}
	s.phase1IV.iv = h.phase1IV(s.gxi, s.gxr, s.block.BlockSize())
	return nil
}

func (s *sa) readCertReq(ps []isakmp.Payload) {
	s.askedCert = s.askedCert || len(only(ps, isakmp.PayloadCertReq)) > 0
}

func (s *sa) mm5(p path, h isakmp.Header, body []byte) error {
	if !h.Encrypted() {
		return errEncrypted
	}
	o, err := s.open(h, body, s.phase1IV.iv)
	if err != nil {
		return err
	}
	bodies, err := need(o.payloads, isakmp.PayloadID)
	if err != nil {
		return err
	}
	if err := s.verifyClient(bodies[0], o.payloads); err != nil {
		return err
	}
	s.idiBody, s.phase1IV.iv = bodies[0], o.next
	s.hear(p)
	s.readVendorIDs(o.payloads)
	s.readCertReq(o.payloads)
	s.readInitialContact(o.payloads)
	s.logReceived(MM5, h, o.payloads)

	m := &Message{Step: MM6, Header: s.header(isakmp.MainMode, 0, !s.gw.cfg.Quirks.ClearMM6)}
	if err := s.addProof(m); err != nil {
		return err
	}
	if s.gw.cfg.ResponderLifetime {
		s.addResponderLifetime(m, isakmp.ProtoISAKMP, append(s.ckyI[:], s.ckyR[:]...), s.lifetime)
	}
	s.respond(m)
	s.authenticated()
	return nil
}

// authenticated ends phase 1; the gateway asks for the login at once, where the
// method has one.
func (s *sa) authenticated() {
	s.state = waitXAuth
	switch {
	case s.gw.cfg.Quirks.RedirectLate && s.gw.cfg.Quirks.Redirect.IsValid():
		s.sendNotify(isakmp.NotifyUnityLoadBalance, s.gw.cfg.Quirks.Redirect.AsSlice())
	case s.method.xauth && s.gw.cfg.Quirks.SkipSignIn && s.takeOver():
	case s.method.xauth:
		s.askCredentials()
	default:
		id, _ := isakmp.ParseID(s.idiBody) // was parsed before
		s.user = string(id.Data)
		s.established()
	}
}

// takeOver finds the SA that this one replaces, by the client's address and
// identity, and goes on in its place. It reports whether there is one.
func (s *sa) takeOver() bool {
	for _, old := range s.gw.sas {
		if old != s && old.state == ready && old.path.peer.Addr() == s.path.peer.Addr() && bytes.Equal(old.idiBody, s.idiBody) {
			s.user, s.renewal = old.user, true
			s.gw.assign(s, old.address)
			s.established()
			return true
		}
	}
	return false
}

var errRedirected = errors.New("sent to another gateway")

// redirect answers a first message with the address of another gateway, in clear.
func (s *sa) redirect() bool {
	to := s.gw.cfg.Quirks.Redirect
	if !to.IsValid() || s.gw.cfg.Quirks.RedirectLate {
		return false
	}
	m := &Message{Step: Notify, Header: s.header(isakmp.Informational, s.gw.randomUint32(1), false)}
	m.Add(isakmp.PayloadNotify, isakmp.Notify{
		DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: isakmp.NotifyUnityLoadBalance, Data: to.AsSlice(),
	}.Append(nil))
	s.notify(m)
	return true
}

func (s *sa) am1(h isakmp.Header, ps []isakmp.Payload) error {
	bodies, err := need(ps, isakmp.PayloadSA, isakmp.PayloadKE, isakmp.PayloadNonce, isakmp.PayloadID)
	if err != nil {
		return err
	}
	if s.redirect() {
		return errRedirected
	}
	s.readVendorIDs(ps)
	chosen, err := s.choose(bodies[0])
	if err != nil {
		s.refuse(isakmp.NotifyNoProposalChosen)
		return err
	}
	if _, err := isakmp.ParseID(bodies[3]); err != nil {
		return err
	}
	s.idiBody = bodies[3]
	if err := s.exchangeKeys(bodies[1], bodies[2]); err != nil {
		s.refuse(isakmp.NotifyInvalidKeyInfo)
		return err
	}
	s.readCertReq(ps)
	m := &Message{Step: AM2, Header: s.header(isakmp.AggressiveMode, 0, false)}
	m.Add(isakmp.PayloadSA, chosen.Append(nil))
	m.Add(isakmp.PayloadKE, s.gxr)
	m.Add(isakmp.PayloadNonce, s.nr)
	proof := new(Message)
	if err := s.addProof(proof); err != nil {
		return err
	}
	last := len(proof.Payloads) - 1
	m.Payloads = append(m.Payloads, proof.Payloads[:last]...)
	s.addCertRequests(m)
	s.addVendorIDs(m)
	s.addNATD(m)
	m.Payloads = append(m.Payloads, proof.Payloads[last]) // SIG_R or HASH_R comes last
	s.logReceived(AM1, h, ps)
	s.state = waitAM3
	s.respondSecond(m)
	return nil
}

func (s *sa) am3(p path, h isakmp.Header, body []byte) error {
	finish := func(ps []isakmp.Payload, iv []byte) error {
		if err := s.checkNATD(ps); err != nil {
			return err
		}
		if err := s.verifyClient(s.idiBody, ps); err != nil {
			return err
		}
		s.phase1IV.iv = iv
		s.done(h.MessageID)
		s.hear(p)
		s.readVendorIDs(ps)
		s.detectNAT(p, ps)
		s.readInitialContact(ps)
		s.logReceived(AM3, h, ps)
		s.authenticated()
		return nil
	}
	if !h.Encrypted() { // as racoon sends it; the chain stays at its first IV
		return s.clear(h, body, func(ps []isakmp.Payload) error { return finish(ps, s.phase1IV.iv) })
	}
	o, err := s.open(h, body, s.phase1IV.iv)
	if err != nil {
		return err
	}
	return finish(o.payloads, o.next)
}

func (s *sa) readInitialContact(ps []isakmp.Payload) {
	for _, body := range only(ps, isakmp.PayloadNotify) {
		if n, err := isakmp.ParseNotify(body); err == nil && n.Type == isakmp.NotifyInitialContact {
			s.initialContact = true
		}
	}
}
