package ike

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"wayfarer/ike/isakmp"
)

func certPayload(encoding uint8, data []byte) isakmp.Payload {
	return isakmp.Payload{Type: isakmp.PayloadCert, Body: isakmp.Cert{Encoding: encoding, Data: data}.Append(nil)}
}

func TestCertificates(t *testing.T) {
	p := &testPKI{t: t}
	ca := p.ca("ca", nil, testKeys().ca)
	sub := p.ca("sub", ca, testKeys().sub)
	leaf := p.gateway(sub)
	unreadable := &x509.Certificate{Raw: []byte{0x30, 0}}
	x509Payload := func(c *x509.Certificate) isakmp.Payload { return certPayload(isakmp.CertX509Sig, c.Raw) }
	bag := func(cs ...*x509.Certificate) isakmp.Payload {
		return certPayload(isakmp.CertPKCS7, pkcs7(raws(cs...)...))
	}
	bulk := func(n int) isakmp.Payload { return certPayload(isakmp.CertX509Sig, bytes.Repeat([]byte{0x30}, n)) }

	for _, c := range []struct {
		name     string
		payloads []isakmp.Payload
		want     []*x509.Certificate
	}{
		{"none", nil, nil},
		{"one", []isakmp.Payload{x509Payload(leaf)}, certs(leaf)},
		{"three, as sent", []isakmp.Payload{x509Payload(leaf), x509Payload(ca.cert), x509Payload(sub.cert)}, certs(leaf, ca.cert, sub.cert)},
		{"an empty one", []isakmp.Payload{certPayload(isakmp.CertX509Sig, nil)}, nil},
		{"without an encoding", []isakmp.Payload{{Type: isakmp.PayloadCert}}, nil},
		{"CRLs and unknown encodings", []isakmp.Payload{certPayload(isakmp.CertCRL, []byte{1}), x509Payload(leaf), certPayload(99, []byte{2})}, certs(leaf)},
		{"PKCS#7 behind the leaf", []isakmp.Payload{x509Payload(leaf), bag(ca.cert, sub.cert)}, certs(leaf, ca.cert, sub.cert)},
		{"PKCS#7 before the leaf", []isakmp.Payload{bag(ca.cert, sub.cert), x509Payload(leaf)}, certs(leaf, ca.cert, sub.cert)},
		{"PKCS#7 alone, the leaf first", []isakmp.Payload{bag(leaf, sub.cert, ca.cert)}, certs(leaf, sub.cert, ca.cert)},
		{"PKCS#7 alone, the leaf last", []isakmp.Payload{bag(ca.cert, sub.cert, leaf)}, certs(leaf, ca.cert, sub.cert)},
		{"PKCS#7 alone, the leaf in the middle", []isakmp.Payload{bag(sub.cert, leaf, ca.cert)}, certs(leaf, sub.cert, ca.cert)},
		{"PKCS#7 alone, with one that cannot be read", []isakmp.Payload{certPayload(isakmp.CertPKCS7, pkcs7(sub.cert.Raw, unreadable.Raw, leaf.Raw))}, certs(sub.cert, unreadable, leaf)},
		{"PKCS#7 of a self-signed stranger and the leaf", []isakmp.Payload{bag(ca.cert, leaf)}, certs(leaf, ca.cert)},
		{"PKCS#7 with one that is self-signed", []isakmp.Payload{bag(ca.cert)}, certs(ca.cert)},
		{"PKCS#7 without certificates", []isakmp.Payload{bag()}, nil},
		{"eight", slices.Repeat([]isakmp.Payload{x509Payload(leaf)}, 8), slices.Repeat(certs(leaf), 8)},
	} {
		got, err := certificates(c.payloads)
		if err != nil || !slices.EqualFunc(got, raws(c.want...), bytes.Equal) {
			t.Errorf("%s: %d certificates, %v", c.name, len(got), err)
		}
	}

	// All 64 KB in one, and one byte more.
	if got, err := certificates([]isakmp.Payload{bulk(32 << 10), bulk(32<<10 - 1), certPayload(isakmp.CertCRL, []byte{1})}); err != nil || len(got) != 2 {
		t.Errorf("64 KB: %d certificates, %v", len(got), err)
	}
	broken := pkcs7(leaf.Raw)
	for _, c := range []struct {
		name     string
		payloads []isakmp.Payload
		want     string
	}{
		{"nine", slices.Repeat([]isakmp.Payload{x509Payload(leaf)}, 9), "more than 8 certificates"},
		{"nine in PKCS#7", []isakmp.Payload{bag(slices.Repeat(certs(leaf), 9)...)}, "more than 8 certificates"},
		{"nine in all", []isakmp.Payload{bag(slices.Repeat(certs(leaf), 5)...), bag(slices.Repeat(certs(leaf), 4)...)}, "more than 8 certificates"},
		{"64 KB and a byte", []isakmp.Payload{bulk(32 << 10), bulk(32 << 10), certPayload(isakmp.CertCRL, []byte{1})}, "more than 65536 bytes"},
		{"65 KB in PKCS#7", []isakmp.Payload{certPayload(isakmp.CertPKCS7, make([]byte, 40<<10)), bulk(25 << 10)}, "cannot be read"},
		{"65 KB with PKCS#7", []isakmp.Payload{bulk(40 << 10), certPayload(isakmp.CertPKCS7, make([]byte, 25<<10))}, "more than 65536 bytes"},
		{"garbage in PKCS#7", []isakmp.Payload{certPayload(isakmp.CertPKCS7, []byte("garbage"))}, "cannot be read"},
		{"nothing in PKCS#7", []isakmp.Payload{certPayload(isakmp.CertPKCS7, nil)}, "cannot be read"},
		{"a certificate as PKCS#7", []isakmp.Payload{certPayload(isakmp.CertPKCS7, leaf.Raw)}, "cannot be read"},
		{"PKCS#7 with a byte behind", []isakmp.Payload{certPayload(isakmp.CertPKCS7, append(bytes.Clone(broken), 0))}, "cannot be read"},
		{"PKCS#7 of another kind", []isakmp.Payload{certPayload(isakmp.CertPKCS7, bytes.Replace(broken, []byte{1, 7, 2}, []byte{1, 7, 3}, 1))}, "cannot be read"},
		{"PKCS#7 of garbage", []isakmp.Payload{certPayload(isakmp.CertPKCS7, pkcs7([]byte("garbage")))}, "cannot be read"},
	} {
		if got, err := certificates(c.payloads); err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: %d certificates, %v", c.name, len(got), err)
		}
	}
	for n := range broken {
		if got, err := unwrapPKCS7(broken[:n]); err == nil {
			t.Fatalf("%d of %d bytes of PKCS#7 give %d certificates", n, len(broken), len(got))
		}
	}

	// The buffer of the message is used again.
	payload := x509Payload(leaf)
	got, err := certificates([]isakmp.Payload{payload})
	clear(payload.Body)
	if err != nil || !bytes.Equal(got[0], leaf.Raw) {
		t.Error("the result changes with the message")
	}
}

func FuzzCertificates(f *testing.F) {
	recorded := recordedGateways(f)
	leaf := (&testPKI{t: f}).parse(recorded["hybrid-main CERT"][0][1:])
	chain := recorded["chain-frag CERT"]
	f.Add(chain[0], chain[1])
	f.Add(append([]byte{isakmp.CertPKCS7}, pkcs7(chain[0][1:], chain[1][1:])...), recorded["legacy-3des-md5 CERT"][0])
	f.Add([]byte{isakmp.CertCRL, 0x30}, append([]byte{isakmp.CertPKCS7}, pkcs7()...))
	f.Add([]byte{isakmp.CertPKCS7, 0x30, 0x80}, []byte{isakmp.CertX509Sig})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		ders, err := certificates([]isakmp.Payload{{Type: isakmp.PayloadCert, Body: a}, {Type: isakmp.PayloadCert, Body: b}})
		if err != nil {
			if ders != nil {
				t.Fatal("certificates and an error")
			}
			return
		}
		size := 0
		for _, der := range ders {
			size += len(der)
			if !bytes.Contains(a, der) && !bytes.Contains(b, der) {
				t.Fatalf("%x was not sent", der)
			}
		}
		if len(ders) > maxCertificates || size > maxCertificateBytes {
			t.Fatalf("%d certificates of %d bytes", len(ders), size)
		}
		g := &gatewayTrust{host: "gw.example.com", trust: Trust{CAs: certs(leaf)}, allow: WeakAll}
		if got, err := g.check(ders, isakmp.ID{Type: isakmp.IDFQDN, Data: b}); (got == nil) == (err == nil) {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

func TestCertRequests(t *testing.T) {
	p := &testPKI{t: t}
	ca := p.ca("ca", nil, testKeys().ca)
	other := p.ca("other", nil, testKeys().rogue)
	leaf := p.gateway(ca)
	many := func(n int, edits ...func(*x509.Certificate)) Trust {
		var list []*testCA
		for i := range n {
			list = append(list, p.ca(fmt.Sprintf("ca %d", i), nil, testKeys().ca, edits...))
		}
		return cas(list...)
	}
	long := func(c *x509.Certificate) {
		c.Subject.OrganizationalUnit = slices.Repeat([]string{strings.Repeat("x", 64)}, 5)
	}
	empty := [][]byte{{}}
	for _, c := range []struct {
		name  string
		trust Trust
		want  [][]byte
	}{
		{"no CA", Trust{}, empty},
		{"a pin", Trust{Pin: [32]byte{1}}, empty},
		{"the system's roots", Trust{SystemRoots: true}, empty},
		{"one CA", cas(ca), [][]byte{ca.cert.RawSubject}},
		{"two CAs", cas(ca, other), [][]byte{ca.cert.RawSubject, other.cert.RawSubject}},
		{"one CA twice", cas(ca, other, p.ca("ca", nil, testKeys().rogue)), [][]byte{ca.cert.RawSubject, other.cert.RawSubject}},
		{"a gateway's certificate: its issuer", Trust{CAs: certs(leaf)}, [][]byte{ca.cert.RawSubject}},
		{"a root of version 1", cas(p.oldRoot()), [][]byte{ca.cert.RawSubject}},
	} {
		if got := c.trust.certRequests(); !slices.EqualFunc(got, c.want, bytes.Equal) {
			t.Errorf("%s: %x", c.name, got)
		}
	}
	for _, c := range []struct {
		trust Trust
		want  int // names; 0: one empty
	}{{many(8), 8}, {many(9), 0}, {many(2, long), 2}, {many(3, long), 0}} {
		got := c.trust.certRequests()
		if c.want == 0 && (len(got) != 1 || len(got[0]) != 0) || c.want > 0 && (len(got) != c.want || len(got[0]) == 0) {
			t.Errorf("%d CAs: %d requests", len(c.trust.CAs), len(got))
		}
	}
	// This is how strongSwan's client asks for the lab's CA.
	recorded := recordedGateways(t)
	labCA := p.parse(recorded["ca"][0])
	if got := (Trust{CAs: certs(labCA)}).certRequests(); len(got) != 1 ||
		fmt.Sprintf("%x", got[0]) != "301b310c300a060355040a13034c6162310b3009060355040313026361" {
		t.Errorf("the lab's CA: %x", got)
	}
}

func TestVerifySignature(t *testing.T) {
	p := &testPKI{t: t}
	keys := testKeys()
	leaf := p.gateway(nil)
	hash := sha256.Sum256([]byte("HASH_R"))
	sign := func(key *rsa.PrivateKey, h crypto.Hash) []byte {
		sig, err := rsa.SignPKCS1v15(rand.Reader, key, h, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	good := sign(keys.gateway, 0)
	if err := verifySignature(leaf, hash[:], good); err != nil {
		t.Fatal(err)
	}
	// raw makes a signature from an encoded message that a lax check would take.
	raw := func(message []byte) []byte {
		m := new(big.Int).SetBytes(message)
		return m.Exp(m, keys.gateway.D, keys.gateway.N).FillBytes(make([]byte, 256))
	}
	encoded := func(padding int, rest ...byte) []byte {
		m := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, padding)...)
		return append(append(append(m, 0), hash[:]...), rest...)
	}
	if !bytes.Equal(raw(encoded(221)), good) {
		t.Fatal("the test does not encode as PKCS#1 does")
	}
	flipped := bytes.Clone(good)
	flipped[100] ^= 1
	pss, err := rsa.SignPSS(rand.Reader, keys.gateway, crypto.SHA256, hash[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, sig := range map[string][]byte{
		"empty": nil, "one bit": flipped, "cut": good[:255], "a zero before": append([]byte{0}, good...),
		"a zero behind": append(bytes.Clone(good), 0), "zeros": make([]byte, 256),
		"another key":               sign(keys.sub, 0),
		"with DigestInfo":           sign(keys.gateway, crypto.SHA256),
		"PSS":                       pss,
		"short padding and garbage": raw(encoded(8, make([]byte, 213)...)),
		"padding of 0xfe":           raw(bytes.Replace(encoded(221), []byte{0xff}, []byte{0xfe}, 1)),
		"block type 2":              raw(bytes.Replace(encoded(221), []byte{1}, []byte{2}, 1)),
	} {
		if verifySignature(leaf, hash[:], sig) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	other := sha256.Sum256([]byte("HASH_I"))
	if verifySignature(leaf, other[:], good) == nil || verifySignature(leaf, hash[:20], good) == nil {
		t.Error("the signature fits another hash")
	}

	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edLeaf := p.gatewayWithKey(p.ca("ca", nil, keys.ca), public)
	if err := verifySignature(edLeaf, hash[:], ed25519.Sign(private, hash[:])); err == nil || !strings.Contains(err.Error(), "Ed25519") {
		t.Errorf("Ed25519: %v", err)
	}
}

// TestRecordedSignatures: SIG_R and HASH_R of strongSwan gateways.
func TestRecordedSignatures(t *testing.T) {
	p := &testPKI{t: t}
	recorded := recordedGateways(t)
	for _, name := range []string{"hybrid-main", "legacy-3des-md5", "chain-frag"} {
		c, err := isakmp.ParseCert(recorded[name+" CERT"][0])
		if err != nil {
			t.Fatal(err)
		}
		leaf, hash, sig := p.parse(c.Data), recorded[name+" HASH_R"][0], recorded[name+" SIG"][0]
		if err := verifySignature(leaf, hash, sig); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		hash[0] ^= 1
		if verifySignature(leaf, hash, sig) == nil {
			t.Errorf("%s: accepted with another hash", name)
		}
	}
}
