package ike

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"testing"
	"time"
)

// chainCases are about issuers. They hold for certificates of every kind, if what
// is weak about the kind is allowed: see TestChains.
var chainCases = []struct {
	name string
	make func(p *testPKI) trustCase
}{
	{"signed by the CA", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		return trustCase{certs: certs(p.gateway(ca)), trust: cas(ca)}
	}},
	{"the CA is sent as well", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		return trustCase{certs: certs(p.gateway(ca), ca.cert), trust: cas(ca)}
	}},
	{"the second of two CAs", func(p *testPKI) trustCase {
		ca, other := p.ca("ca", nil, testKeys().ca), p.ca("other", nil, testKeys().rogue)
		return trustCase{certs: certs(p.gateway(ca)), trust: cas(other, ca)}
	}},
	{"an intermediate", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := p.ca("sub", ca, testKeys().sub)
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca)}
	}},
	{"intermediates in disorder, with strangers", func(p *testPKI) trustCase {
		ca, stranger := p.ca("ca", nil, testKeys().ca), p.ca("stranger", nil, testKeys().rogue)
		sub := p.ca("sub", ca, testKeys().sub)
		subsub := p.ca("subsub", sub, testKeys().rogue)
		return trustCase{certs: certs(p.gateway(subsub), stranger.cert, sub.cert, subsub.cert), trust: cas(ca)}
	}},
	{"an intermediate is trusted, its CA is not known", func(p *testPKI) trustCase {
		sub := p.ca("sub", p.ca("ca", nil, testKeys().ca), testKeys().sub)
		return trustCase{certs: certs(p.gateway(sub)), trust: cas(sub)}
	}},
	{"the certificate itself is trusted", func(p *testPKI) trustCase {
		leaf := p.gateway(p.ca("ca", nil, testKeys().ca))
		return trustCase{certs: certs(leaf), trust: Trust{CAs: certs(leaf)}}
	}},
	{"the self-signed certificate itself is trusted", func(p *testPKI) trustCase {
		leaf := p.gateway(nil)
		return trustCase{certs: certs(leaf), trust: Trust{CAs: certs(leaf)}}
	}},
	{"a root of version 1", func(p *testPKI) trustCase {
		ca := p.oldRoot()
		return trustCase{certs: certs(p.gateway(ca)), trust: cas(ca)}
	}},
	{"two intermediates of one name, the wrong one first", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub, wrong := p.ca("sub", ca, testKeys().sub), p.ca("sub", ca, testKeys().rogue)
		return trustCase{certs: certs(p.gateway(sub), wrong.cert, sub.cert), trust: cas(ca)}
	}},
	{"six CAs above", func(p *testPKI) trustCase {
		chain, ca := p.chain(6)
		return trustCase{certs: chain, trust: cas(ca)}
	}},
	{"path length 1 and one intermediate", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca, pathLen(1))
		sub := p.ca("sub", ca, testKeys().sub, pathLen(0))
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca)}
	}},
	{"an intermediate limited to TLS servers", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := p.ca("sub", ca, testKeys().sub, extKeyUsages(x509.ExtKeyUsageServerAuth))
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca)}
	}},

	{"another CA", func(p *testPKI) trustCase {
		ca, rogue := p.ca("ca", nil, testKeys().ca), p.ca("rogue", nil, testKeys().rogue)
		return trustCase{certs: certs(p.gateway(rogue), rogue.cert), trust: cas(ca), reason: TrustIssuer}
	}},
	{"another CA of the same name", func(p *testPKI) trustCase {
		ca, rogue := p.ca("ca", nil, testKeys().ca), p.ca("ca", nil, testKeys().rogue)
		return trustCase{certs: certs(p.gateway(rogue), rogue.cert), trust: cas(ca), reason: TrustIssuer}
	}},
	{"self-signed", func(p *testPKI) trustCase {
		return trustCase{certs: certs(p.gateway(nil)), trust: cas(p.ca("ca", nil, testKeys().ca)), reason: TrustIssuer}
	}},
	{"self-signed with the CA's name", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		leaf := p.gateway(nil, func(c *x509.Certificate) { c.Subject = ca.cert.Subject })
		return trustCase{certs: certs(leaf, ca.cert), trust: cas(ca), reason: TrustIssuer}
	}},
	{"the intermediate is missing", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		return trustCase{certs: certs(p.gateway(p.ca("sub", ca, testKeys().sub)), ca.cert), trust: cas(ca), reason: TrustIssuer}
	}},
	{"the intermediate is another CA's", func(p *testPKI) trustCase {
		sub := p.ca("sub", p.ca("ca", nil, testKeys().rogue), testKeys().sub)
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(p.ca("ca", nil, testKeys().ca)), reason: TrustIssuer}
	}},
	{"a gateway's certificate as intermediate", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := &testCA{p.gateway(ca), testKeys().gateway}
		leaf := p.gateway(sub, subject("victim"))
		return trustCase{certs: certs(leaf, sub.cert), trust: cas(ca), reason: TrustIssuer, contains: "basic constraints"}
	}},
	{"a gateway's certificate that is trusted does not issue", func(p *testPKI) trustCase {
		other := &testCA{p.gateway(nil, subject("other")), testKeys().gateway}
		return trustCase{certs: certs(p.gateway(other)), trust: cas(other), reason: TrustIssuer, contains: "basic constraints"}
	}},
	{"an intermediate without basic constraints", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := p.ca("sub", ca, testKeys().sub, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false })
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), reason: TrustIssuer, contains: "basic constraints"}
	}},
	{"an intermediate that may not sign certificates", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := p.ca("sub", ca, testKeys().sub, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), reason: TrustIssuer, contains: "key usage"}
	}},
	{"a CA that may not sign certificates", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
		return trustCase{certs: certs(p.gateway(ca)), trust: cas(ca), reason: TrustIssuer, contains: "key usage"}
	}},
	{"an intermediate below path length 0", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca, pathLen(0))
		sub := p.ca("sub", ca, testKeys().sub)
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), reason: TrustIssuer, contains: "allows 0 CAs"}
	}},
	{"path length 0 in the middle", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := p.ca("sub", ca, testKeys().sub, pathLen(0))
		subsub := p.ca("subsub", sub, testKeys().rogue)
		return trustCase{certs: certs(p.gateway(subsub), subsub.cert, sub.cert), trust: cas(ca), reason: TrustIssuer, contains: "allows 0 CAs"}
	}},
	{"seven CAs above", func(p *testPKI) trustCase {
		chain, ca := p.chain(7)
		return trustCase{certs: chain, trust: cas(ca), reason: TrustIssuer}
	}},
	{"a chain in a circle", func(p *testPKI) trustCase {
		a := p.ca("a", nil, testKeys().sub)
		b := p.ca("b", a, testKeys().rogue)
		a = p.ca("a", b, testKeys().sub)
		return trustCase{certs: certs(p.gateway(a), a.cert, b.cert), trust: cas(p.ca("ca", nil, testKeys().ca)), reason: TrustIssuer}
	}},
	{"an intermediate limited to clients", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := p.ca("sub", ca, testKeys().sub, extKeyUsages(x509.ExtKeyUsageClientAuth))
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), reason: TrustIssuer, contains: "extended key usage"}
	}},
	{"an intermediate with an unknown critical extension", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := p.ca("sub", ca, testKeys().sub, unknownCritical)
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), reason: TrustIssuer, contains: "1.2.3.4"}
	}},
	{"a flipped bit in the signature", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		der := slices.Clone(p.gateway(ca).Raw)
		der[len(der)-1] ^= 1
		return trustCase{certs: certs(p.parse(der)), trust: cas(ca), reason: TrustIssuer}
	}},
	{"an intermediate signed with MD5", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		sub := p.signedWith(crypto.MD5, p.ca("sub", ca, testKeys().sub), ca)
		return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), reason: TrustIssuer}
	}},
	{"a CA signed with MD5 by itself", func(p *testPKI) trustCase {
		ca := p.ca("ca", nil, testKeys().ca)
		ca = p.signedWith(crypto.MD5, ca, ca)
		return trustCase{certs: certs(p.gateway(ca)), trust: cas(ca)}
	}},
}

// TestChains runs the same cases over certificates signed with SHA-256, with SHA-1
// where that is allowed, and over expired ones where that is allowed: the second
// verifier must judge as the first.
func TestChains(t *testing.T) {
	for _, kind := range []struct {
		name  string
		pki   testPKI
		allow Weak
	}{
		{"SHA-256", testPKI{}, 0},
		{"SHA-256, all allowed", testPKI{}, WeakAll},
		{"SHA-1", testPKI{sha1: true}, WeakSHA1Cert},
		{"expired", testPKI{expired: true}, WeakExpired},
		{"SHA-1 and expired", testPKI{sha1: true, expired: true}, WeakSHA1Cert | WeakExpired},
	} {
		for _, c := range chainCases {
			t.Run(kind.name+"/"+c.name, func(t *testing.T) {
				p := kind.pki
				p.t = t
				tc := c.make(&p)
				tc.allow = kind.allow
				tc.run(t)
				if kind.allow == 0 || kind.allow == WeakAll || tc.reason != "" {
					return
				}
				// What is allowed is needed: each one alone is missed.
				for _, w := range []Weak{WeakSHA1Cert, WeakExpired} {
					if kind.allow&w != 0 {
						without := tc
						without.allow, without.needs, without.reason = kind.allow&^w, w, TrustWeak
						if w == WeakExpired {
							without.reason = TrustExpired
						}
						without.run(t)
					}
				}
			})
		}
	}
}

// TestVerifiersAgree asks both verifiers about every chain that crypto/x509 can
// judge.
func TestVerifiersAgree(t *testing.T) {
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			tc := c.make(&testPKI{t: t})
			v := chainVerifier{anchors: tc.trust.CAs, others: tc.certs[1:], now: time.Now()}
			roots := x509.NewCertPool()
			for _, ca := range tc.trust.CAs {
				roots.AddCert(ca)
			}
			standard := v.verifyStandard(tc.certs[0], roots) == nil
			own := v.search(tc.certs[:1])
			if want := tc.reason == ""; standard != want || own != want {
				t.Errorf("crypto/x509 %v, search %v, want %v", standard, own, want)
			}
		})
	}
}

// TestConstraints: only crypto/x509 evaluates for which names and policies a CA may
// certify; the search does without such CAs rather than ignore it.
func TestConstraints(t *testing.T) {
	for _, kind := range []struct {
		name  string
		sha1  bool
		allow Weak
	}{{"SHA-256", false, 0}, {"all allowed", false, WeakAll}, {"SHA-1", true, WeakAll}} {
		for domain, good := range map[string]bool{"example.com": !kind.sha1, "example.org": false, "": false} {
			p := &testPKI{t: t, sha1: kind.sha1}
			ca := p.ca("ca", nil, testKeys().ca)
			sub := p.ca("sub", ca, testKeys().sub, func(c *x509.Certificate) {
				if domain == "" {
					// PolicyConstraints: requireExplicitPolicy from here on.
					c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 3, 0x80, 1, 0}}}
					return
				}
				c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{domain}, true
			})
			tc := trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), allow: kind.allow}
			if !good {
				tc.reason = TrustIssuer
			}
			t.Run(kind.name+"/"+domain, tc.run)
		}
	}
}

// TestSearchIsBounded: certificates that lead nowhere by many ways cost no more
// than so many signatures.
func TestSearchIsBounded(t *testing.T) {
	p := &testPKI{t: t}
	ca := p.ca("ca", nil, testKeys().ca)
	var others []*x509.Certificate
	for range maxCertificates {
		others = append(others, p.ca("same", &testCA{p.ca("same", nil, testKeys().sub).cert, testKeys().sub}, testKeys().sub).cert)
	}
	leaf := p.gateway(&testCA{others[0], testKeys().sub})
	v := chainVerifier{anchors: cas(ca).CAs, others: others, now: time.Now()}
	if v.search(certs(leaf)) || v.checks < maxSignatureChecks || v.checks > maxSignatureChecks+maxCertificates*maxChainDepth {
		t.Errorf("%d signatures checked", v.checks)
	}
}

// TestSearchInACircle: no certificate is gone through twice.
func TestSearchInACircle(t *testing.T) {
	p := &testPKI{t: t}
	a := p.ca("a", nil, testKeys().sub)
	b := p.ca("b", a, testKeys().rogue)
	a = p.ca("a", b, testKeys().sub)
	v := chainVerifier{others: certs(a.cert, b.cert), now: time.Now()}
	if v.search(certs(p.gateway(a))) || v.checks != 2 {
		t.Errorf("%d signatures checked", v.checks)
	}
}

// TestHugeKeys: an intermediate with a key that is slow to use is not used.
func TestHugeKeys(t *testing.T) {
	p := &testPKI{t: t}
	ca := p.ca("ca", nil, testKeys().ca)
	for bits, used := range map[int]int{maxRSABits: 1, maxRSABits + 1: 0} {
		v := chainVerifier{anchors: cas(ca).CAs, others: certs(p.gatewayWithKey(ca, weakKey(bits))), now: time.Now()}
		if r := v.verify(p.gateway(ca)); r != nil || len(v.others) != used {
			t.Errorf("%d bits: %d used, %v", bits, len(v.others), r)
		}
	}
}

// chain makes a gateway's certificate with n CAs above it, the last of which it
// returns apart.
func (p *testPKI) chain(n int) ([]*x509.Certificate, *testCA) {
	root := p.ca("ca", nil, testKeys().ca)
	var list []*x509.Certificate
	parent := root
	for i := range n - 1 {
		parent = p.ca(fmt.Sprintf("sub%d", i), parent, testKeys().sub)
		list = append([]*x509.Certificate{parent.cert}, list...)
	}
	return append(certs(p.gateway(parent)), list...), root
}

// oldRoot is a self-signed certificate of X.509 version 1, without extensions.
func (p *testPKI) oldRoot() *testCA {
	h := crypto.SHA256
	if p.sha1 {
		h = crypto.SHA1
	}
	key := testKeys().ca
	ca := p.ca("ca", nil, key)
	der := rebuild(p.t, ca.cert.Raw, key, h, func(tbs []byte) []byte { return version1(p.t, tbs) })
	return &testCA{p.parse(der), key}
}
