package ike

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"wayfarer/ike/isakmp"
)

// Bounds on what a gateway may send before anything about it is known.
const (
	maxCertificates     = 8
	maxCertificateBytes = 64 << 10 // of all CERT payloads together
)

// Bounds on what we ask for: the request goes out in the first messages, which
// should fit one datagram.
const (
	maxCertRequests     = 8
	maxCertRequestBytes = 1024
)

// certificates collects the certificates of CERT payloads (RFC 2408 §3.9) as DER,
// the gateway's own first. Those that a PKCS#7 payload holds are unwrapped; CRLs
// and other encodings are ignored, an empty payload is no certificate. The result
// does not alias the payloads.
func certificates(payloads []isakmp.Payload) ([][]byte, error) {
	var certs, wrapped [][]byte
	size := 0
	for _, p := range payloads {
		c, err := isakmp.ParseCert(p.Body)
		if err != nil {
			return nil, err
		}
		if size += len(c.Data); size > maxCertificateBytes {
			return nil, fmt.Errorf("more than %d bytes of certificates", maxCertificateBytes)
		}
		switch c.Encoding {
		case isakmp.CertX509Sig:
			if len(c.Data) > 0 {
				certs = append(certs, bytes.Clone(c.Data))
			}
		case isakmp.CertPKCS7:
			unwrapped, err := unwrapPKCS7(bytes.Clone(c.Data))
			if err != nil {
				return nil, err
			}
			wrapped = append(wrapped, unwrapped...)
		}
		if len(certs)+len(wrapped) > maxCertificates {
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
	}
	if len(certs) == 0 {
		endEntityFirst(wrapped)
	}
	return append(certs, wrapped...), nil
}

var (
	errPKCS7 = errors.New("a PKCS#7 certificate payload that cannot be read")

	// oidSignedData is 1.2.840.113549.1.7.2 (RFC 2315 §14).
	oidSignedData = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
)

// unwrapPKCS7 returns the certificates of a SignedData without signers, the usual
// bag of a chain (RFC 2315 §9.1). Signers and CRLs in it are not looked at.
func unwrapPKCS7(der []byte) ([][]byte, error) {
	explicit0 := cbasn1.Tag(0).ContextSpecific().Constructed()
	s := cryptobyte.String(der)
	var contentInfo, contentType, content, signedData, bag cryptobyte.String
	var hasCertificates bool
	if !s.ReadASN1(&contentInfo, cbasn1.SEQUENCE) || !s.Empty() ||
		!contentInfo.ReadASN1(&contentType, cbasn1.OBJECT_IDENTIFIER) || !bytes.Equal(contentType, oidSignedData) ||
		!contentInfo.ReadASN1(&content, explicit0) || !contentInfo.Empty() ||
		!content.ReadASN1(&signedData, cbasn1.SEQUENCE) || !content.Empty() ||
		!signedData.SkipASN1(cbasn1.INTEGER) || // version
		!signedData.SkipASN1(cbasn1.SET) || // digestAlgorithms
		!signedData.SkipASN1(cbasn1.SEQUENCE) || // contentInfo
		!signedData.ReadOptionalASN1(&bag, &hasCertificates, explicit0) {
		return nil, errPKCS7
	}
	var certs [][]byte
	for !bag.Empty() {
		var cert cryptobyte.String
		if !bag.ReadASN1Element(&cert, cbasn1.SEQUENCE) {
			return nil, errPKCS7
		}
		if certs = append(certs, cert); len(certs) > maxCertificates {
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
	}
	return certs, nil
}

// endEntityFirst moves the first certificate that issued none of them to the front:
// the certificates of a PKCS#7 bag are a set and have no order.
func endEntityFirst(certs [][]byte) {
	parsed := make([]*x509.Certificate, len(certs))
	for i, der := range certs {
		var err error
		if parsed[i], err = x509.ParseCertificate(der); err != nil {
			return // the check of the first one will say so
		}
	}
	i := slices.IndexFunc(parsed, func(c *x509.Certificate) bool {
		return !slices.ContainsFunc(parsed, func(other *x509.Certificate) bool {
			return bytes.Equal(other.RawIssuer, c.RawSubject)
		})
	})
	if i > 0 {
		leaf := certs[i]
		copy(certs[1:], certs[:i])
		certs[0] = leaf
	}
}

// certRequests lists the names that go into CERTREQ payloads (RFC 2408 §3.10): of
// the trusted CAs, in DER. Without CAs, or with too many of them, it is one empty
// name, which asks for any certificate. There is always a request, because
// strongSwan sends its certificate only when asked.
func (t Trust) certRequests() [][]byte {
	var names [][]byte
	size := 0
	for _, c := range t.CAs {
		name := c.RawSubject
		if !c.IsCA {
			name = c.RawIssuer // c is a gateway's certificate or an old root, which is its own issuer
		}
		if slices.ContainsFunc(names, func(n []byte) bool { return bytes.Equal(n, name) }) {
			continue
		}
		names = append(names, name)
		size += len(name)
	}
	if len(names) == 0 || len(names) > maxCertRequests || size > maxCertRequestBytes {
		return [][]byte{{}}
	}
	return names
}

// verifySignature checks SIG_R. RSA makes it over the hash as it is, in PKCS#1 v1.5
// form without DigestInfo (RFC 2409 §5.1): the padding is checked in full and the
// signature must be as long as the key, since lax checks have let forgeries pass
// (CVE-2018-16151). ECDSA is r|s, each as wide as the curve's field (RFC 4754 §7).
func verifySignature(leaf *x509.Certificate, hash, sig []byte) error {
	wrong := errors.New("its signature does not fit its certificate")
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() > maxRSABits || rsa.VerifyPKCS1v15(key, crypto.Hash(0), hash, sig) != nil {
			return wrong
		}
		return nil
	case *ecdsa.PublicKey:
		width := (key.Curve.Params().BitSize + 7) / 8
		if len(sig) != 2*width {
			return wrong
		}
		r, s := new(big.Int).SetBytes(sig[:width]), new(big.Int).SetBytes(sig[width:])
		if !ecdsa.Verify(key, hash, r, s) {
			return wrong
		}
		return nil
	}
	return fmt.Errorf("signatures by a %v key are not supported", leaf.PublicKeyAlgorithm)
}
