package ike

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// Bounds on the search for a way from a certificate to a CA: a gateway may send
// certificates made to keep us busy.
const (
	maxChainDepth      = 6 // CA certificates above the gateway's
	maxSignatureChecks = 100
)

// RSA keys, in bits. Above the greatest a verification takes noticeable time
// (crypto/tls has the same limit).
const (
	minRSABits     = 2048
	minWeakRSABits = 1024 // with WeakRSA1024
	maxRSABits     = 8192
)

var (
	extKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 15}
	extSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

	// searchDoesWithout are extensions that limit what a CA may certify and that
	// only crypto/x509 evaluates: name constraints and policy constraints.
	searchDoesWithout = []asn1.ObjectIdentifier{{2, 5, 29, 30}, {2, 5, 29, 36}}

	// ekuIPsecIKE (RFC 4945 §5.1.3.12) and ekuIKEIntermediate, which macOS and
	// older Windows want, are the extended key usages of gateways.
	ekuIPsecIKE        = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17}
	ekuIKEIntermediate = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 8, 2, 2}
)

func hasExtension(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return true
		}
	}
	return false
}

// checkUsage asks whether a certificate may sign for an IKE gateway.
func checkUsage(leaf *x509.Certificate) *TrustError {
	switch {
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return refuse(TrustUsage, "its certificate has the unknown critical extension %v", leaf.UnhandledCriticalExtensions[0])
	case hasExtension(leaf, extKeyUsage) && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return refuse(TrustUsage, "its certificate is not for signatures (key usage)")
	case !allowsIKE(leaf):
		return refuse(TrustUsage, "its certificate is not for a gateway (extended key usage)")
	}
	return nil
}

// allowsIKE reports whether the extended key usage, if there is any, covers a
// gateway. In a CA it limits what the CA may certify.
func allowsIKE(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) ||
		slices.ContainsFunc(c.UnknownExtKeyUsage, func(id asn1.ObjectIdentifier) bool {
			return id.Equal(ekuIPsecIKE) || id.Equal(ekuIKEIntermediate)
		})
}

// checkKey asks for a public key of sufficient strength.
func checkKey(c *x509.Certificate, what string, allow Weak) *TrustError {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		switch {
		case bits < minWeakRSABits, bits < minRSABits && allow&WeakRSA1024 == 0:
			return refuse(TrustWeak, "%s has an RSA key of %d bits", what, bits)
		case bits > maxRSABits:
			return refuse(TrustInvalid, "%s has an RSA key of %d bits, more than %d", what, bits, maxRSABits)
		case key.E < 3 || key.E%2 == 0:
			return refuse(TrustWeak, "%s has an RSA key with the exponent %d", what, key.E)
		}
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits < 256 {
			return refuse(TrustWeak, "%s has an elliptic-curve key of %d bits", what, bits)
		}
	case ed25519.PublicKey:
	default:
		return refuse(TrustInvalid, "%s has a key of an unknown kind", what)
	}
	return nil
}

// checkSigned asks for a signature on the certificate that cannot be forged by a
// collision. MD5 is never enough.
func checkSigned(c *x509.Certificate, what string, allow Weak) *TrustError {
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return nil
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		if allow&WeakSHA1Cert != 0 {
			return nil
		}
		return refuse(TrustWeak, "%s is signed with SHA-1", what)
	case x509.MD5WithRSA:
		return refuse(TrustWeak, "%s is signed with MD5", what)
	}
	return refuse(TrustInvalid, "%s is signed in an unknown way", what)
}

// checkValidity asks whether the certificate is valid now.
func checkValidity(c *x509.Certificate, what string, allow Weak, now time.Time) *TrustError {
	switch {
	case allow&WeakExpired != 0:
	case now.Before(c.NotBefore):
		return refuse(TrustExpired, "%s is not valid before %s", what, c.NotBefore.UTC().Format(time.DateTime))
	case now.After(c.NotAfter):
		return refuse(TrustExpired, "%s expired on %s", what, c.NotAfter.UTC().Format(time.DateTime))
	}
	return nil
}

// chainVerifier looks for a way from a gateway's certificate to a trusted one.
//
// crypto/x509 decides the normal case, and what it finds is judged here once more.
// It refuses SHA-1 signatures and expired certificates without exception: where a
// profile allows those, search finds the way, and elsewhere it finds what to say.
// Nothing is fetched from the network, except that Windows and macOS verify against
// their system roots by themselves.
type chainVerifier struct {
	anchors     []*x509.Certificate
	systemRoots bool
	others      []*x509.Certificate // intermediates, as received
	allow       Weak
	now         time.Time

	checks  int         // signatures checked by search
	refusal *TrustError // why the first way that search found would not do
}

// verify returns nil when there is a way that will do.
func (v *chainVerifier) verify(leaf *x509.Certificate) *TrustError {
	v.others = slices.DeleteFunc(slices.Clone(v.others), func(c *x509.Certificate) bool {
		key, ok := c.PublicKey.(*rsa.PublicKey)
		return ok && key.N.BitLen() > maxRSABits
	})
	pool := x509.NewCertPool()
	for _, c := range v.anchors {
		pool.AddCert(c)
	}
	refusal := v.verifyStandard(leaf, pool)
	if refusal != nil {
		if v.search([]*x509.Certificate{leaf}) && v.allow&(WeakSHA1Cert|WeakExpired) != 0 {
			return nil
		}
		refusal = cmp.Or(v.refusal, refusal) // search tells more
	}
	if refusal != nil && v.systemRoots {
		refusal = v.verifyStandard(leaf, nil)
	}
	return refusal
}

// verifyStandard asks crypto/x509 for ways to one of the roots; nil are the
// system's. Extended key usage is left to judge, which knows those of IPsec.
func (v *chainVerifier) verifyStandard(leaf *x509.Certificate, roots *x509.CertPool) *TrustError {
	intermediates := x509.NewCertPool()
	for _, c := range v.others {
		intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: v.now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return refuse(TrustIssuer, "its certificate does not lead to a trusted CA: %v", err)
	}
	var refusal *TrustError
	for _, chain := range chains {
		r := v.judge(chain)
		if r == nil {
			return nil
		}
		refusal = cmp.Or(refusal, r)
	}
	return refusal
}

// search goes from the last certificate of the chain to its possible issuers, and
// reports whether one of the ways ends at an anchor and will do.
func (v *chainVerifier) search(chain []*x509.Certificate) bool {
	last := chain[len(chain)-1]
	if slices.ContainsFunc(v.anchors, last.Equal) {
		r := v.judge(chain)
		if r == nil {
			return true
		}
		v.refusal = cmp.Or(v.refusal, r)
	}
	for _, issuer := range slices.Concat(v.anchors, v.others) {
		if !bytes.Equal(issuer.RawSubject, last.RawIssuer) || slices.ContainsFunc(chain, issuer.Equal) ||
			slices.ContainsFunc(searchDoesWithout, func(id asn1.ObjectIdentifier) bool { return hasExtension(issuer, id) }) {
			continue
		}
		if v.checks++; v.checks > maxSignatureChecks {
			return false
		}
		// CheckSignature knows no MD5, and SHA-1 is judged with the whole chain.
		if issuer.CheckSignature(last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature) != nil {
			continue
		}
		if v.search(append(chain, issuer)) {
			return true
		}
	}
	return false
}

// judge holds a chain whose signatures fit, from the gateway's certificate to an
// anchor, against all other rules (RFC 5280 §6.1). The signature on the anchor
// itself proves nothing and is not looked at.
func (v *chainVerifier) judge(chain []*x509.Certificate) *TrustError {
	if depth := len(chain) - 1; depth > maxChainDepth {
		return refuse(TrustIssuer, "its certificate has %d CAs above it, more than %d", depth, maxChainDepth)
	}
	for i, ca := range chain[1:] {
		isAnchor := i == len(chain)-2
		what := fmt.Sprintf("the CA certificate %q", describeID(isakmp.ID{Type: isakmp.IDDERDN, Data: ca.RawSubject}))
		if r := v.judgeCA(ca, what, i, isAnchor); r != nil {
			return r
		}
	}
	return nil
}

// judgeCA judges one CA certificate with a number of others between it and the
// gateway's.
func (v *chainVerifier) judgeCA(ca *x509.Certificate, what string, below int, isAnchor bool) *TrustError {
	mayBeOld := isAnchor && ca.Version < 3 // from before there were extensions
	switch {
	case !(ca.BasicConstraintsValid && ca.IsCA) && !mayBeOld:
		return refuse(TrustIssuer, "%s is not one of a CA (basic constraints)", what)
	case hasExtension(ca, extKeyUsage) && ca.KeyUsage&x509.KeyUsageCertSign == 0:
		return refuse(TrustIssuer, "%s may not sign certificates (key usage)", what)
	case ca.BasicConstraintsValid && ca.MaxPathLen >= 0 && below > ca.MaxPathLen:
		return refuse(TrustIssuer, "%s allows %d CAs below it, and there are %d", what, ca.MaxPathLen, below)
	case !allowsIKE(ca):
		return refuse(TrustIssuer, "%s may not certify gateways (extended key usage)", what)
	case len(ca.UnhandledCriticalExtensions) > 0:
		return refuse(TrustIssuer, "%s has the unknown critical extension %v", what, ca.UnhandledCriticalExtensions[0])
	}
	if r := checkKey(ca, what, v.allow); r != nil {
		return r
	}
	if !isAnchor {
		if r := checkSigned(ca, what, v.allow); r != nil {
			return r
		}
	}
	return checkValidity(ca, what, v.allow, v.now)
}
