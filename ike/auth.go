package ike

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

const (
	nonceLen = 32 // of ours; a peer's may have 8 to 256 bytes (RFC 2409 §5)
	minNonce = 8
	maxNonce = 256

	// phase1Lifetime is offered: racoon with proposal_check claim or strict
	// takes no more than its own, which often is 8 hours.
	phase1Lifetime = 28800 * time.Second
	// defaultLifetime holds if an answer names none (RFC 2407 §4.5).
	defaultLifetime = 28800 * time.Second
	// minLifetime ignores lifetimes that would have us do nothing but rekey.
	minLifetime = 10 * time.Second
)

// authMethodIDs are the authentication method attributes that we offer.
var authMethodIDs = map[AuthMethod]uint16{AuthHybrid: isakmp.AuthHybridInitRSA}

// saOffer is the body of our SA payload, SAi_b: one proposal with a transform a
// suite. Its bytes are hashed, so they are made once.
func (sa *isakmpSA) saOffer(suites []IKESuite) []byte {
	p := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtoISAKMP}
	for i, s := range suites {
		as := []isakmp.Attribute{isakmp.BasicAttribute(isakmp.AttrEncryption, s.cipher.ikeID)}
		if s.cipher.keyBits != 0 {
			as = append(as, isakmp.BasicAttribute(isakmp.AttrKeyLength, s.cipher.keyBits))
		}
		p.Transforms = append(p.Transforms, isakmp.Transform{
			Number: uint8(i + 1), ID: isakmp.TransformKeyIKE,
			Attributes: append(as,
				isakmp.BasicAttribute(isakmp.AttrHash, s.hash.ikeID),
				isakmp.BasicAttribute(isakmp.AttrGroup, s.group.id),
				isakmp.BasicAttribute(isakmp.AttrAuthMethod, authMethodIDs[sa.s.cfg.Auth]),
				isakmp.BasicAttribute(isakmp.AttrLifeType, isakmp.LifeSeconds),
				isakmp.NumberAttribute(isakmp.AttrLifeDuration, uint32(sa.s.phase1Lifetime/time.Second)),
			),
		})
	}
	return isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{p}}.Append(nil)
}

// selectSuite reads the gateway's SA answer. It must be exactly one transform and
// mean exactly one that we offered, however it is written: an answer with another
// cipher, key length, hash, group or method is refused.
func (sa *isakmpSA) selectSuite(body []byte, offered []IKESuite) error {
	answer, err := isakmp.ParseSA(body)
	if err != nil {
		return err
	}
	if len(answer.Proposals) != 1 || len(answer.Proposals[0].Transforms) != 1 {
		return errors.New("SA answer without exactly one transform")
	}
	p := answer.Proposals[0]
	t := p.Transforms[0]
	if p.Protocol != isakmp.ProtoISAKMP || t.ID != isakmp.TransformKeyIKE {
		return fmt.Errorf("SA answer for %v with transform %d", p.Protocol, t.ID)
	}
	values := make(map[uint16]uint64)
	for _, a := range t.Attributes {
		v, ok := a.Uint()
		if !ok {
			return fmt.Errorf("SA answer: attribute %d", a.Type)
		}
		switch a.Type {
		case isakmp.AttrLifeType, isakmp.AttrLifeDuration:
			continue // read by lifetimeOf: a pair may stand there twice
		case isakmp.AttrEncryption, isakmp.AttrHash, isakmp.AttrAuthMethod, isakmp.AttrGroup, isakmp.AttrKeyLength:
		default:
			return fmt.Errorf("SA answer: attribute %d was not offered", a.Type)
		}
		if _, twice := values[a.Type]; twice {
			return fmt.Errorf("SA answer: attribute %d twice", a.Type)
		}
		values[a.Type] = v
	}
	if got, want := values[isakmp.AttrAuthMethod], uint64(authMethodIDs[sa.s.cfg.Auth]); got != want {
		return fmt.Errorf("SA answer: authentication method %d instead of %d", got, want)
	}
	if _, ok := values[isakmp.AttrKeyLength]; !ok && values[isakmp.AttrEncryption] == uint64(isakmp.CipherAESCBC) {
		values[isakmp.AttrKeyLength] = 128 // some gateways leave it out for AES-128
	}
	i := slices.IndexFunc(offered, func(s IKESuite) bool {
		return values[isakmp.AttrEncryption] == uint64(s.cipher.ikeID) &&
			values[isakmp.AttrKeyLength] == uint64(s.cipher.keyBits) &&
			values[isakmp.AttrHash] == uint64(s.hash.ikeID) &&
			values[isakmp.AttrGroup] == uint64(s.group.id)
	})
	if i < 0 {
		return fmt.Errorf("SA answer with algorithms that were not offered: %v", values)
	}
	sa.suite = offered[i]
	sa.lifetime = min(sa.s.phase1Lifetime, lifetimeOf(t.Attributes, isakmp.AttrLifeType, isakmp.AttrLifeDuration))
	return nil
}

// lifetimeOf reads the seconds out of life type and duration pairs. The default
// holds where there are none or they make no sense.
func lifetimeOf(as []isakmp.Attribute, lifeType, lifeDuration uint16) time.Duration {
	seconds := false
	for _, a := range as {
		v, ok := a.Uint()
		switch {
		case !ok:
		case a.Type == lifeType:
			seconds = v == uint64(isakmp.LifeSeconds)
		case a.Type == lifeDuration && seconds:
			if v >= uint64(minLifetime/time.Second) && v <= uint64(defaultLifetime/time.Second)*1000 {
				return time.Duration(v) * time.Second
			}
		}
	}
	return defaultLifetime
}

// checkNonce holds the gateway's nonce against its bounds.
func checkNonce(nr []byte) error {
	if len(nr) < minNonce || len(nr) > maxNonce {
		return fmt.Errorf("nonce of %d bytes", len(nr))
	}
	return nil
}

// localID is IDii. Without one in the profile it is our address, as strongSwan has
// it; the port is 0, as it must be with NAT traversal (RFC 3947 §4).
func (sa *isakmpSA) localID() []byte {
	if id := sa.s.cfg.LocalID; id != nil {
		return isakmp.ID{Type: id.Type, Data: id.Data}.Append(nil)
	}
	return addressID(sa.s.transport.local(sa.peer.Addr()).Addr()).Append(nil)
}

func addressID(a netip.Addr) isakmp.ID {
	if a.Is4() {
		return isakmp.ID{Type: isakmp.IDIPv4Addr, Data: a.AsSlice()}
	}
	return isakmp.ID{Type: isakmp.IDIPv6Addr, Data: a.AsSlice()}
}

// certRequests asks the gateway for its certificate: strongSwan sends it only when
// asked.
func (sa *isakmpSA) certRequests() []isakmp.Payload {
	var ps []isakmp.Payload
	for _, dn := range sa.s.cfg.Trust.certRequests() {
		c := isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: dn}
		ps = append(ps, isakmp.Payload{Type: isakmp.PayloadCertReq, Body: c.Append(nil)})
	}
	return ps
}

// afterHashI are the payloads that follow HASH_I: the empty certificate that hybrid
// authentication owes a CERTREQ (draft-ietf-ipsec-isakmp-hybrid-auth-05 §4.2), and
// INITIAL-CONTACT on the first connection (RFC 2407 §4.6.3.3).
func (sa *isakmpSA) afterHashI() []isakmp.Payload {
	var ps []isakmp.Payload
	if sa.wantsCert {
		c := isakmp.Cert{Encoding: isakmp.CertX509Sig}
		ps = append(ps, isakmp.Payload{Type: isakmp.PayloadCert, Body: c.Append(nil)})
	}
	if sa.s.dialing() && !sa.s.cfg.Reconnect {
		n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: sa.cookies(), Type: isakmp.NotifyInitialContact}
		ps = append(ps, isakmp.Payload{Type: isakmp.PayloadNotify, Body: n.Append(nil)})
	}
	return ps
}

// cookies are the SPI of an ISAKMP SA in Notify and Delete.
func (sa *isakmpSA) cookies() []byte { return concat(sa.ckyI[:], sa.ckyR[:]) }

// deriveKeys makes the secrets of the SA from the Diffie-Hellman exchange.
func (sa *isakmpSA) deriveKeys(kx keyExchange, ker, ni, nr []byte) error {
	gxy, err := kx.shared(ker)
	if err != nil {
		return err
	}
	defer clear(gxy)
	skeyid := skeyidSignature(sa.suite.hash.hash, ni, nr, gxy)
	if sa.keys, err = newPhase1Keys(sa.suite, skeyid, gxy, sa.ckyI, sa.ckyR); err != nil {
		return err
	}
	sa.phase1IV = initialIV(sa.suite, kx.public(), ker, sa.keys.block.BlockSize())
	return nil
}

// authenticateGateway verifies SIG_R over HASH_R, the certificate and its names
// (RFC 2409 §5.1, RFC 2407 §4.6.2). In hybrid authentication only this protects
// the password: HASH_I proves nothing, and a HASH in place of the signature could
// come from anybody.
func (sa *isakmpSA) authenticateGateway(m *message, hashR []byte) error {
	sig := m.body(isakmp.PayloadSig)
	if sig == nil {
		return &TrustError{Step: sa.step, Reason: TrustSignature, Detail: "it sent no signature"}
	}
	id, err := isakmp.ParseID(m.body(isakmp.PayloadID))
	if err != nil {
		return &TrustError{Step: sa.step, Reason: TrustInvalid, Detail: err.Error()}
	}
	certs, err := certificates(m.all(isakmp.PayloadCert))
	if err != nil {
		return &TrustError{Step: sa.step, Reason: TrustInvalid, Detail: err.Error()}
	}
	leaf, err := sa.s.gatewayTrust(sa.peer.Addr()).check(certs, id)
	var trust *TrustError
	if errors.As(err, &trust) && trust.Askable && trust.Certificate != nil {
		// Ask about a certificate only if the gateway holds its key.
		if sigErr := verifySignature(trust.Certificate, hashR, sig); sigErr != nil {
			return &TrustError{Step: sa.step, Reason: TrustSignature, Certificate: trust.Certificate, Detail: sigErr.Error()}
		}
	}
	if err != nil {
		return err
	}
	if err := verifySignature(leaf, hashR, sig); err != nil {
		return &TrustError{Step: sa.step, Reason: TrustSignature, Certificate: leaf, Detail: err.Error()}
	}
	sa.idir = isakmp.ID{Type: id.Type, Protocol: id.Protocol, Port: id.Port, Data: bytes.Clone(id.Data)}
	sa.certificate = fingerprint(leaf)
	return nil
}
