package ike

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

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

// authMethod is a row of the table of authentication methods (RFC 2409 §5,
// draft-ietf-ipsec-isakmp-hybrid-auth-05 §3.2.1, draft-beaulieu-ike-xauth-02 §7.2,
// RFC 4754 §3).
type authMethod struct {
	config AuthMethod
	name   string
	id     uint16
	psk    bool        // keys come from the pre-shared key, HASH_R proves the gateway
	signs  bool        // we prove ourselves by signature, else by HASH_I
	xauth  bool        // then the gateway asks for the user
	curve  string      // ECDSA: of our key
	hash   crypto.Hash // ECDSA: of HASH_I and HASH_R, in place of the negotiated one
}

var authMethods = []*authMethod{
	{config: AuthHybrid, name: "hybrid-rsa", id: isakmp.AuthHybridInitRSA, xauth: true},
	{config: AuthXAUTHPSK, name: "xauth-psk", id: isakmp.AuthXAUTHInitPSK, psk: true, xauth: true},
	{config: AuthXAUTHRSA, name: "xauth-rsa", id: isakmp.AuthXAUTHInitRSA, signs: true, xauth: true},
	{config: AuthPSK, name: "psk", id: isakmp.AuthPSK, psk: true},
	{config: AuthRSA, name: "rsa", id: isakmp.AuthRSASig, signs: true},
	{config: AuthRSA, name: "ecdsa-256", id: isakmp.AuthECDSA256, signs: true, curve: "P-256", hash: crypto.SHA256},
	{config: AuthRSA, name: "ecdsa-384", id: isakmp.AuthECDSA384, signs: true, curve: "P-384", hash: crypto.SHA384},
	{config: AuthRSA, name: "ecdsa-521", id: isakmp.AuthECDSA521, signs: true, curve: "P-521", hash: crypto.SHA512},
}

// chooseMethod finds the method for a Config and checks that it has what the method
// needs.
func chooseMethod(c *Config) (*authMethod, error) {
	curve := ""
	if key, ok := c.Key.(interface{ Public() crypto.PublicKey }); ok {
		if pub, ok := key.Public().(*ecdsa.PublicKey); ok {
			curve = pub.Curve.Params().Name
		}
	}
	known := false
	for _, m := range authMethods {
		if m.config != c.Auth {
			continue
		}
		known = true
		switch {
		case m.signs && (c.Key == nil || len(c.Certificates) == 0):
			return nil, &ConfigError{Field: "certificate", Err: fmt.Errorf("%s needs a certificate and its key", c.Auth)}
		case m.psk && len(c.GroupSecret) == 0:
			return nil, &ConfigError{Field: "group_secret", Err: fmt.Errorf("%s needs a secret", c.Auth)}
		case !m.signs || m.curve == curve:
			return m, nil
		}
	}
	if !known {
		return nil, &ConfigError{Field: "authentication", Err: fmt.Errorf("%q is not supported", c.Auth)}
	}
	return nil, &ConfigError{Field: "key", Err: fmt.Errorf("a key on %s cannot be used with %s", curve, c.Auth)}
}

// fits reports whether a certificate's key is of the kind that the method signs with.
func (m *authMethod) fits(leaf *x509.Certificate) error {
	curve := ""
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok {
		curve = key.Curve.Params().Name
	}
	if curve != m.curve {
		return fmt.Errorf("its certificate's key is not one for %s", m.name)
	}
	return nil
}

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
				isakmp.BasicAttribute(isakmp.AttrAuthMethod, sa.s.method.id),
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
	if got, want := values[isakmp.AttrAuthMethod], uint64(sa.s.method.id); got != want {
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

// localID is IDii. Without one in the profile it is the subject of our certificate
// or our address, as strongSwan has it; the port is 0, as it must be with NAT
// traversal (RFC 3947 §4).
func (sa *isakmpSA) localID() []byte {
	if id := sa.s.cfg.LocalID; id != nil {
		return isakmp.ID{Type: id.Type, Data: id.Data}.Append(nil)
	}
	if sa.has(quirkEmptyID) {
		return isakmp.ID{Type: isakmp.IDUserFQDN}.Append(nil)
	}
	if sa.s.method.signs {
		return isakmp.ID{Type: isakmp.IDDERDN, Data: sa.s.cfg.Certificates[0].RawSubject}.Append(nil)
	}
	return addressID(sa.s.transport.local(sa.peer).Addr()).Append(nil)
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
	if sa.s.method.psk {
		return nil
	}
	var ps []isakmp.Payload
	for _, dn := range sa.s.cfg.Trust.certRequests() {
		c := isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: dn}
		ps = append(ps, isakmp.Payload{Type: isakmp.PayloadCertReq, Body: c.Append(nil)})
	}
	return ps
}

// proof is how we authenticate ourselves: certificates and SIG_I where the method
// has us sign, else HASH_I. Hybrid authentication owes a CERTREQ an empty
// certificate (draft-ietf-ipsec-isakmp-hybrid-auth-05 §4.2).
func (sa *isakmpSA) proof(hashI []byte) ([]isakmp.Payload, error) {
	var ps []isakmp.Payload
	certificate := func(der []byte) {
		c := isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: der}
		ps = append(ps, isakmp.Payload{Type: isakmp.PayloadCert, Body: c.Append(nil)})
	}
	m := sa.s.method
	if !m.signs {
		ps = append(ps, isakmp.Payload{Type: isakmp.PayloadHash, Body: hashI})
		if sa.wantsCert && !m.psk {
			certificate(nil)
		}
		return ps, nil
	}
	for _, c := range sa.s.cfg.Certificates {
		certificate(c.Raw)
	}
	sig, err := sa.sign(hashI)
	return append(ps, isakmp.Payload{Type: isakmp.PayloadSig, Body: sig}), err
}

// sign makes SIG_I: RSA over the hash as it is (RFC 2409 §5.1), ECDSA as r|s of the
// curve's width (RFC 4754 §7).
func (sa *isakmpSA) sign(hash []byte) ([]byte, error) {
	m := sa.s.method
	if m.curve == "" {
		return sa.s.cfg.Key.Sign(sa.s.rand, hash, crypto.Hash(0))
	}
	der, err := sa.s.cfg.Key.Sign(sa.s.rand, hash, m.hash)
	if err != nil {
		return nil, err
	}
	return rawECDSA(der, sa.s.cfg.Key.Public().(*ecdsa.PublicKey).Curve)
}

// rawECDSA turns a signature in ASN.1 into r|s.
func rawECDSA(der []byte, curve elliptic.Curve) ([]byte, error) {
	var inner cryptobyte.String
	var r, s big.Int
	input := cryptobyte.String(der)
	if !input.ReadASN1(&inner, cbasn1.SEQUENCE) || !input.Empty() || !inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&s) || !inner.Empty() {
		return nil, errors.New("the key makes signatures that cannot be read")
	}
	width := (curve.Params().BitSize + 7) / 8
	return append(r.FillBytes(make([]byte, width)), s.FillBytes(make([]byte, width))...), nil
}

// initialContact is the notification of a first connection (RFC 2407 §4.6.3.3): the
// gateway may forget what it has of us from before a crash.
func (sa *isakmpSA) initialContact() []isakmp.Payload {
	if !sa.s.dialing() || sa.s.cfg.Reconnect || sa.has(quirkNoInitialContact) {
		return nil
	}
	n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: sa.cookies(), Type: isakmp.NotifyInitialContact}
	return []isakmp.Payload{{Type: isakmp.PayloadNotify, Body: n.Append(nil)}}
}

// groupHash is what Cisco calls mutual group authentication: beside hybrid, a proof
// that we know the group's password. It stands in no RFC; as vpnc sends it.
func (sa *isakmpSA) groupHash() []isakmp.Payload {
	if sa.s.method.config != AuthHybrid || len(sa.s.cfg.GroupSecret) == 0 {
		return nil
	}
	n := isakmp.Notify{
		DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: sa.cookies(), Type: isakmp.NotifyUnityGroupHash,
		Data: prf(sa.keys.hash, sa.keys.skeyid, sa.s.cfg.GroupSecret),
	}
	return []isakmp.Payload{{Type: isakmp.PayloadNotify, Body: n.Append(nil)}}
}

// cookies are the SPI of an ISAKMP SA in Notify and Delete.
func (sa *isakmpSA) cookies() []byte { return slices.Concat(sa.ckyI[:], sa.ckyR[:]) }

// deriveKeys makes the secrets of the SA from the Diffie-Hellman exchange.
func (sa *isakmpSA) deriveKeys(kx keyExchange, ker, ni, nr []byte) error {
	gxy, err := kx.shared(ker)
	if err != nil {
		return err
	}
	defer clear(gxy)
	h := sa.suite.hash.hash
	skeyid := skeyidSignature(h, ni, nr, gxy)
	if sa.s.method.psk {
		skeyid = skeyidPSK(h, sa.s.cfg.GroupSecret, ni, nr)
	}
	if sa.keys, err = newPhase1Keys(sa.suite, skeyid, gxy, sa.ckyI, sa.ckyR); err != nil {
		return err
	}
	sa.phase1IV = initialIV(sa.suite, kx.public(), ker, sa.keys.block.BlockSize())
	return nil
}

// hashI and hashR are the hashes that the two sides prove themselves with. ECDSA has
// a hash of its own for them (RFC 4754 §3).
func (sa *isakmpSA) hashI(gxi, gxr, saiB, idiiB []byte) []byte {
	return sa.keys.hashI(sa.authHash(), gxi, gxr, sa.ckyI, sa.ckyR, saiB, idiiB)
}

func (sa *isakmpSA) hashR(gxi, gxr, saiB, idirB []byte) []byte {
	return sa.keys.hashR(sa.authHash(), gxi, gxr, sa.ckyI, sa.ckyR, saiB, idirB)
}

func (sa *isakmpSA) authHash() crypto.Hash {
	if h := sa.s.method.hash; h != 0 {
		return h
	}
	return sa.suite.hash.hash
}

// authenticateGateway verifies what the gateway proves itself with: HASH_R where a
// secret is shared, else SIG_R over HASH_R, its certificate and names (RFC 2409
// §5, RFC 2407 §4.6.2). In hybrid authentication only this protects the password:
// HASH_I proves nothing, and a HASH in place of the signature could come from
// anybody.
//
// A message is genuine when the proof in it is right: it is as the other end of the
// key exchange made it, even if that end is not to be trusted.
func (sa *isakmpSA) authenticateGateway(m *message, hashR []byte) (genuine bool, err error) {
	id, err := isakmp.ParseID(m.body(isakmp.PayloadID))
	if err != nil {
		return false, &TrustError{Step: sa.step, Reason: TrustInvalid, Detail: err.Error()}
	}
	if sa.s.method.psk {
		genuine, err = sa.checkHashR(m, id, hashR)
	} else {
		genuine, err = sa.checkSigR(m, id, hashR)
	}
	var trust *TrustError
	if errors.As(err, &trust) {
		trust.Host = sa.s.host
	}
	if err != nil {
		return genuine, err
	}
	sa.idir = isakmp.ID{Type: id.Type, Protocol: id.Protocol, Port: id.Port, Data: bytes.Clone(id.Data)}
	return true, nil
}

func (sa *isakmpSA) checkHashR(m *message, id isakmp.ID, hashR []byte) (genuine bool, err error) {
	if !hmac.Equal(m.body(isakmp.PayloadHash), hashR) {
		return false, &TrustError{Step: sa.step, Reason: TrustSecret, Detail: "it does not know the group's secret"}
	}
	if want := sa.s.cfg.RemoteID; want != nil && !want.equal(Identity{id.Type, id.Data}) {
		return true, &TrustError{Step: sa.step, Reason: TrustName, Detail: fmt.Sprintf("it calls itself %q instead of %q", describeID(id), *want)}
	}
	return true, nil
}

func (sa *isakmpSA) checkSigR(m *message, id isakmp.ID, hashR []byte) (genuine bool, err error) {
	sig := m.body(isakmp.PayloadSig)
	if sig == nil {
		return false, &TrustError{Step: sa.step, Reason: TrustSignature, Detail: "it sent no signature"}
	}
	certs, err := certificates(m.all(isakmp.PayloadCert))
	if err != nil {
		return false, &TrustError{Step: sa.step, Reason: TrustInvalid, Detail: err.Error()}
	}
	policy := sa.s.gatewayTrust(sa.peer.Addr())
	leaf, err := policy.check(certs, id)
	var trust *TrustError
	if errors.As(err, &trust) {
		leaf = trust.Certificate
	}
	if leaf == nil {
		return false, err
	}
	sigErr := sa.s.method.fits(leaf)
	if sigErr == nil {
		sigErr = verifySignature(leaf, hashR, sig)
	}
	switch {
	case trust != nil && (sigErr == nil || !trust.Askable): // asked about only if the gateway holds its key
		return sigErr == nil, err
	case sigErr != nil:
		return false, &TrustError{Step: sa.step, Reason: TrustSignature, Certificate: leaf, Detail: sigErr.Error()}
	}
	sa.certificate = fingerprint(leaf)
	if weakness := policy.conceded(certs, id); weakness != "" && sa.s.dialing() {
		sa.s.event(Event{Kind: EventWarning, Step: sa.step, Code: "weak-certificate", Text: weakness})
	}
	return true, nil
}
