package ike

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// testKeys are made once: a key takes longer than all the rest.
var testKeys = sync.OnceValue(func() (k struct{ ca, sub, rogue, gateway, small *rsa.PrivateKey }) {
	for _, p := range []struct {
		key  **rsa.PrivateKey
		bits int
	}{{&k.ca, 2048}, {&k.sub, 2048}, {&k.rogue, 2048}, {&k.gateway, 2048}, {&k.small, 1024}} {
		key, err := rsa.GenerateKey(rand.Reader, p.bits)
		if err != nil {
			panic(err)
		}
		*p.key = key
	}
	return k
})

// testPKI issues certificates of one kind: all signed with SHA-256, or all with
// SHA-1, or all expired.
type testPKI struct {
	t       testing.TB
	sha1    bool
	expired bool
}

// testCA is a CA that can issue.
type testCA struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// ca issues a CA certificate; without a parent it is its own.
func (p *testPKI) ca(cn string, parent *testCA, key *rsa.PrivateKey, edits ...func(*x509.Certificate)) *testCA {
	template := &x509.Certificate{
		Subject: pkix.Name{Organization: []string{"Lab"}, CommonName: cn},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return &testCA{p.issue(template, parent, &key.PublicKey, key, edits), key}
}

// gateway issues a gateway's certificate for gw.example.com.
func (p *testPKI) gateway(parent *testCA, edits ...func(*x509.Certificate)) *x509.Certificate {
	key := testKeys().gateway
	return p.gatewayWithKey(parent, &key.PublicKey, edits...)
}

func (p *testPKI) gatewayWithKey(parent *testCA, key crypto.PublicKey, edits ...func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		Subject:  pkix.Name{Organization: []string{"Lab"}, CommonName: "gw"},
		DNSNames: []string{"gw.example.com"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	return p.issue(template, parent, key, testKeys().gateway, edits)
}

// issue signs with the parent's key; a certificate without a parent signs itself
// with own.
func (p *testPKI) issue(template *x509.Certificate, parent *testCA, key crypto.PublicKey, own *rsa.PrivateKey, edits []func(*x509.Certificate)) *x509.Certificate {
	p.t.Helper()
	now := time.Now()
	template.SerialNumber = big.NewInt(serial())
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
	if p.expired {
		template.NotBefore, template.NotAfter = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
	}
	for _, e := range edits {
		e(template)
	}
	issuer := template
	if parent != nil {
		issuer, own = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key, own)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.sha1 {
		der = resign(p.t, der, own, crypto.SHA1)
	}
	return p.parse(der)
}

func (p *testPKI) parse(der []byte) *x509.Certificate {
	p.t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

var serial = func() func() int64 {
	var mu sync.Mutex
	n := int64(0)
	return func() int64 {
		mu.Lock()
		defer mu.Unlock()
		n++
		return n
	}
}()

// resign signs a certificate that RSA has signed with SHA-256 anew with a hash that
// crypto/x509 does not sign with.
func resign(t testing.TB, der []byte, key *rsa.PrivateKey, h crypto.Hash) []byte {
	t.Helper()
	arc := map[crypto.Hash]byte{crypto.MD5: 4, crypto.SHA1: 5, crypto.SHA256: 11}[h]
	// sha256WithRSAEncryption, 1.2.840.113549.1.1.11, and its siblings differ in
	// the last byte.
	old := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}
	return rebuild(t, der, key, h, func(tbs []byte) []byte {
		return bytes.Replace(tbs, old, append(bytes.Clone(old[:10]), arc), 1)
	})
}

// rebuild changes the bytes to be signed and signs them; change must keep the
// algorithm of h in them.
func rebuild(t testing.TB, der []byte, key *rsa.PrivateKey, h crypto.Hash, change func(tbs []byte) []byte) []byte {
	t.Helper()
	var c struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	tbs := change(c.TBS.FullBytes)
	hasher := h.New()
	hasher.Write(tbs)
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, h, hasher.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	c.TBS = asn1.RawValue{FullBytes: tbs}
	c.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, map[crypto.Hash]int{crypto.MD5: 4, crypto.SHA1: 5, crypto.SHA256: 11}[h]}
	c.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	if der, err = asn1.Marshal(c); err != nil {
		t.Fatal(err)
	}
	return der
}

// version1 takes version and extensions out: a certificate as CAs had them in the
// nineties.
func version1(t testing.TB, tbs []byte) []byte {
	t.Helper()
	s := cryptobyte.String(tbs)
	var in cryptobyte.String
	if !s.ReadASN1(&in, cbasn1.SEQUENCE) {
		t.Fatal("no SEQUENCE")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for !in.Empty() {
			var element cryptobyte.String
			var tag cbasn1.Tag
			if !in.ReadAnyASN1Element(&element, &tag) {
				t.Fatal("no element")
			}
			if tag != cbasn1.Tag(0).ContextSpecific().Constructed() && tag != cbasn1.Tag(3).ContextSpecific().Constructed() {
				b.AddBytes(element)
			}
		}
	})
	return b.BytesOrPanic()
}

// pkcs7 wraps certificates as gateways send a chain: a SignedData without content
// and signers (RFC 2315 §9).
func pkcs7(certs ...[]byte) []byte {
	data := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	var b cryptobyte.Builder
	explicit0 := cbasn1.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2})
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(data) })
				if len(certs) > 0 {
					b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
						for _, c := range certs {
							b.AddBytes(c)
						}
					})
				}
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
			})
		})
	})
	return b.BytesOrPanic()
}

func raws(certs ...*x509.Certificate) [][]byte {
	var r [][]byte
	for _, c := range certs {
		r = append(r, c.Raw)
	}
	return r
}

// recordedGateways reads testdata/gateways.txt: bodies by "conversation payload".
func recordedGateways(t testing.TB) map[string][][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/gateways.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string][][]byte)
	key := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		b, err := hex.DecodeString(line)
		switch {
		case line == "" || line[0] == '#':
		case err != nil || line == "ca":
			key = line
			m[key] = append(m[key], nil)
		default:
			last := len(m[key]) - 1
			m[key][last] = append(m[key][last], b...)
		}
	}
	return m
}

// weakKey is a public key that nobody generates any more; only its size matters.
func weakKey(bits int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(12345)), E: 65537}
}
