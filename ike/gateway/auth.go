package gateway

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// authMethod is a way to authenticate in phase 1 (RFC 2409 §5.1 and §5.4, RFC 4754,
// draft-ietf-ipsec-isakmp-hybrid-auth-05, draft-beaulieu-ike-xauth-02 §7.2).
type authMethod struct {
	name  string
	id    uint16         // the value of the attribute that a client offers
	psk   bool           // keys come from a secret, both sides prove themselves by HASH
	signs bool           // the client signs; in hybrid authentication only the gateway does
	xauth bool           // then the user signs in
	curve elliptic.Curve // ECDSA
	hash  newHash        // ECDSA: of HASH_I and HASH_R in place of the negotiated one
}

var authMethods = []*authMethod{
	{name: "hybrid-rsa", id: isakmp.AuthHybridInitRSA, xauth: true},
	{name: "xauth-psk", id: isakmp.AuthXAUTHInitPSK, psk: true, xauth: true},
	{name: "xauth-rsa", id: isakmp.AuthXAUTHInitRSA, signs: true, xauth: true},
	{name: "psk", id: isakmp.AuthPSK, psk: true},
	{name: "rsa", id: isakmp.AuthRSASig, signs: true},
	{name: "ecdsa-256", id: isakmp.AuthECDSA256, signs: true, curve: elliptic.P256(), hash: sha256.New},
	{name: "ecdsa-384", id: isakmp.AuthECDSA384, signs: true, curve: elliptic.P384(), hash: sha512.New384},
	{name: "ecdsa-521", id: isakmp.AuthECDSA521, signs: true, curve: elliptic.P521(), hash: sha512.New},
}

// offers reports whether the gateway has what a method needs.
func (g *Gateway) offers(m *authMethod) bool {
	if m.psk {
		return len(g.cfg.Secrets) > 0
	}
	if m.signs && len(g.cfg.ClientCAs) == 0 || m.id == isakmp.AuthHybridInitRSA && g.cfg.Quirks.NoHybrid {
		return false
	}
	switch key := g.cfg.Key.Public().(type) {
	case *rsa.PublicKey:
		return m.curve == nil
	case *ecdsa.PublicKey:
		return m.curve == key.Curve
	}
	return false
}

// secret is the pre-shared key of a client: that of its group where it has named
// one already, as in Aggressive Mode, else the one for everybody.
func (s *sa) secret() ([]byte, error) {
	if id, err := isakmp.ParseID(s.idiBody); err == nil {
		if secret, ok := s.gw.cfg.Secrets[string(id.Data)]; ok {
			return []byte(secret), nil
		}
	}
	if secret, ok := s.gw.cfg.Secrets[""]; ok {
		return []byte(secret), nil
	}
	return nil, errors.New("no secret for this client")
}

// skeyid makes SKEYID by the method's formula (RFC 2409 §5).
func (s *sa) skeyid(gxy []byte) ([]byte, error) {
	h := s.suite.hash.hash
	if !s.method.psk {
		return h.skeyidSignature(s.ni, s.nr, gxy), nil
	}
	secret, err := s.secret()
	if err != nil {
		return nil, err
	}
	return h.skeyidPSK(secret, s.ni, s.nr), nil
}

// hashI and hashR are the proofs of RFC 2409 §5, over the ID payload's body.
func (s *sa) hashI(idiBody []byte) []byte {
	return s.authHash().authHash(s.keys.skeyid, s.gxi, s.gxr, s.ckyI, s.ckyR, s.saiBody, idiBody)
}

func (s *sa) hashR(idrBody []byte) []byte {
	return s.authHash().authHash(s.keys.skeyid, s.gxr, s.gxi, s.ckyR, s.ckyI, s.saiBody, idrBody)
}

func (s *sa) authHash() newHash {
	if s.method.hash != nil {
		return s.method.hash
	}
	return s.suite.hash.hash
}

// addProof adds IDir, the certificates and SIG_R, or with a secret HASH_R.
func (s *sa) addProof(m *Message) error {
	id := s.gw.cfg.Identity.Append(nil)
	m.Add(isakmp.PayloadID, id)
	if s.method.psk {
		m.Add(isakmp.PayloadHash, s.hashR(id))
		return nil
	}
	sig, err := s.sign(s.hashR(id))
	if err != nil {
		return err
	}
	if s.askedCert || !s.gw.cfg.CertOnRequest {
		for _, c := range s.gw.cfg.Chain {
			m.Add(isakmp.PayloadCert, isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: c.Raw}.Append(nil))
		}
	}
	m.Add(isakmp.PayloadSig, sig)
	return nil
}

// sign makes SIG_R: with RSA PKCS#1 v1.5 around the HASH itself, without a
// DigestInfo (RFC 2409 §5.1), with ECDSA r|s (RFC 4754 §7).
func (s *sa) sign(hash []byte) ([]byte, error) {
	key, ok := s.gw.cfg.Key.(*ecdsa.PrivateKey)
	if !ok {
		return s.gw.cfg.Key.Sign(s.gw.cfg.Rand, hash, crypto.Hash(0))
	}
	r, v, err := ecdsa.Sign(s.gw.cfg.Rand, key, hash)
	if err != nil {
		return nil, err
	}
	width := (key.Curve.Params().BitSize + 7) / 8
	return append(r.FillBytes(make([]byte, width)), v.FillBytes(make([]byte, width))...), nil
}

// addCertRequests asks a client that is to sign for its certificate.
func (s *sa) addCertRequests(m *Message) {
	if s.gw.cfg.Quirks.EmptyCertRequest {
		m.Add(isakmp.PayloadCertReq, isakmp.Cert{Encoding: isakmp.CertX509Sig}.Append(nil))
	}
	if !s.method.signs {
		return
	}
	for _, ca := range s.gw.cfg.ClientCAs {
		m.Add(isakmp.PayloadCertReq, isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: ca.RawSubject}.Append(nil))
	}
}

// verifyClient checks how the client proves itself: by a signature, or by HASH_I,
// which shows with a secret that it knows that, and else no more than that it has
// the same keys.
func (s *sa) verifyClient(idBody []byte, ps []isakmp.Payload) error {
	id, err := isakmp.ParseID(idBody)
	if err != nil {
		return err
	}
	if want := s.gw.cfg.Quirks.ClientID; want.Type != 0 && (id.Type != want.Type || !bytes.Equal(id.Data, want.Data)) {
		return fmt.Errorf("no client of the name %q is known", id.Data)
	}
	if s.method.signs {
		return s.verifySignature(id, s.hashI(idBody), ps)
	}
	if hash := only(ps, isakmp.PayloadHash); len(hash) != 1 || !hmac.Equal(hash[0], s.hashI(idBody)) {
		return fmt.Errorf("HASH_I: %w", errHash)
	}
	if s.gw.cfg.MutualGroup && !s.method.psk {
		return s.verifyGroup(id, ps)
	}
	return nil
}

// verifyGroup checks Cisco's mutual group authentication, which stands in no RFC: a
// Notify 40503 with prf(SKEYID, group password).
func (s *sa) verifyGroup(id isakmp.ID, ps []isakmp.Payload) error {
	secret, ok := s.gw.cfg.Secrets[string(id.Data)]
	if !ok {
		return errors.New("no such group")
	}
	want := s.suite.hash.hash.prf(s.keys.skeyid, []byte(secret))
	for _, body := range only(ps, isakmp.PayloadNotify) {
		n, err := isakmp.ParseNotify(body)
		if err == nil && n.Type == isakmp.NotifyUnityGroupHash && hmac.Equal(n.Data, want) {
			return nil
		}
	}
	return errors.New("the group's password was not proved")
}

// verifySignature checks SIG_I, the certificate that it is made with, and that the
// certificate names the client.
func (s *sa) verifySignature(id isakmp.ID, hashI []byte, ps []isakmp.Payload) error {
	leaf, err := s.clientCertificate(ps)
	if err != nil {
		return err
	}
	named := id.Type == isakmp.IDDERDN && string(id.Data) == string(leaf.RawSubject) ||
		id.Type == isakmp.IDFQDN && slices.Contains(leaf.DNSNames, string(id.Data)) ||
		id.Type == isakmp.IDUserFQDN && slices.Contains(leaf.EmailAddresses, string(id.Data))
	if !named {
		return fmt.Errorf("the client's certificate is of %v", leaf.Subject)
	}
	sig := only(ps, isakmp.PayloadSig)
	if len(sig) != 1 {
		return fmt.Errorf("%d signatures", len(sig))
	}
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if s.method.curve == nil {
			return rsa.VerifyPKCS1v15(key, crypto.Hash(0), hashI, sig[0])
		}
	case *ecdsa.PublicKey:
		if half := len(sig[0]) / 2; key.Curve == s.method.curve &&
			ecdsa.Verify(key, hashI, new(big.Int).SetBytes(sig[0][:half]), new(big.Int).SetBytes(sig[0][half:])) {
			return nil
		}
	}
	return fmt.Errorf("the client's signature is none of %s", s.method.name)
}

// clientCertificate is the first certificate that the client sent, which one of our
// CAs must have issued, perhaps by way of the others.
func (s *sa) clientCertificate(ps []isakmp.Payload) (*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, body := range only(ps, isakmp.PayloadCert) {
		c, err := isakmp.ParseCert(body)
		if err != nil {
			return nil, err
		}
		cert, err := x509.ParseCertificate(c.Data)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: time.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, ca := range s.gw.cfg.ClientCAs {
		options.Roots.AddCert(ca)
	}
	for _, c := range certs[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(options)
	return certs[0], err
}
