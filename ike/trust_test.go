package ike

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	_ "crypto/md5" // for certificates signed with MD5
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/isakmp"
)

// trustCase is a gateway and a profile, and what the one thinks of the other. The
// zero values stand for the usual: the host gw.example.com at 192.0.2.1, IDir is
// the leaf's subject.
type trustCase struct {
	certs    []*x509.Certificate // the leaf first
	trust    Trust
	allow    Weak
	host     string
	addr     netip.Addr
	remoteID string
	idir     *isakmp.ID

	reason   TrustReason // "": trusted
	needs    Weak
	askable  bool
	contains string // in the error's text
}

func (c *trustCase) gatewayTrust(t testing.TB) (*gatewayTrust, isakmp.ID) {
	t.Helper()
	g := &gatewayTrust{trust: c.trust, allow: c.allow, host: "gw.example.com", addr: netip.MustParseAddr("192.0.2.1")}
	if c.host != "" {
		g.host = c.host
	}
	if c.addr.IsValid() {
		g.addr = c.addr
	}
	if c.remoteID != "" {
		id, err := ParseIdentity(c.remoteID)
		if err != nil {
			t.Fatal(err)
		}
		g.remoteID = &id
	}
	if c.idir != nil {
		return g, *c.idir
	}
	return g, isakmp.ID{Type: isakmp.IDDERDN, Data: c.certs[0].RawSubject}
}

func (c *trustCase) run(t *testing.T) {
	t.Helper()
	g, idir := c.gatewayTrust(t)
	leaf, err := g.check(raws(c.certs...), idir)
	c.compare(t, leaf, err)
}

func (c *trustCase) compare(t *testing.T, leaf *x509.Certificate, err error) {
	t.Helper()
	if c.reason == "" {
		if err != nil || !leaf.Equal(c.certs[0]) {
			t.Errorf("not trusted: %v", err)
		}
		return
	}
	var refusal *TrustError
	if !errors.As(err, &refusal) || leaf != nil {
		t.Fatalf("want %s, got a certificate: %v, %v", c.reason, leaf != nil, err)
	}
	if refusal.Reason != c.reason || refusal.Needs != c.needs || refusal.Askable != c.askable {
		t.Errorf("reason %s, needs %q, askable %v; want %s, %q, %v\n%v", refusal.Reason, refusal.Needs, refusal.Askable,
			c.reason, c.needs, c.askable, err)
	}
	if refusal.Step != StepCheckCertificate || refusal.Certificate == nil || !refusal.Certificate.Equal(c.certs[0]) {
		t.Errorf("step %s, certificate %v", refusal.Step, refusal.Certificate)
	}
	if !strings.Contains(refusal.Error(), c.contains) || c.needs != 0 && !strings.Contains(refusal.Error(), c.needs.String()) {
		t.Errorf("%q does not tell about %q, %q", refusal, c.contains, c.needs)
	}
}

// TestLeaf is about the gateway's own certificate, its names and the profile.
func TestLeaf(t *testing.T) {
	p := &testPKI{t: t}
	ca := p.ca("ca", nil, testKeys().ca)
	trusted := cas(ca)
	good := p.gateway(ca)
	pin := Trust{Pin: sha256.Sum256(good.Raw)}
	keys := testKeys()
	signedWith := func(h crypto.Hash, edits ...func(*x509.Certificate)) *x509.Certificate {
		return p.parse(resign(t, p.gateway(ca, edits...).Raw, keys.ca, h))
	}
	dn := func(s string) *isakmp.ID {
		id, err := ParseIdentity("dn:" + s)
		if err != nil {
			t.Fatal(err)
		}
		return &isakmp.ID{Type: id.Type, Data: id.Data}
	}
	id := func(typ isakmp.IDType, data string) *isakmp.ID { return &isakmp.ID{Type: typ, Data: []byte(data)} }
	// A racoon's: the name of the host is nowhere in it.
	rhum := p.gateway(ca, subject("rhum"), noSAN, func(c *x509.Certificate) { c.Subject.Organization = nil })
	rich := p.gateway(ca, func(c *x509.Certificate) {
		c.DNSNames = []string{"Gw.Example.com", "*.vpn.example.com"}
		c.EmailAddresses = []string{"gw@example.com"}
		c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1).To4(), net.ParseIP("2001:db8::1")}
	})
	named := func(edits ...func(*x509.Certificate)) *x509.Certificate { return p.gateway(ca, edits...) }

	for _, c := range []struct {
		name string
		trustCase
	}{
		// Validity.
		{"expired", trustCase{certs: certs(named(valid(-2, -1))), trust: trusted, reason: TrustExpired, needs: WeakExpired, contains: "expired on"}},
		{"not yet valid", trustCase{certs: certs(named(valid(1, 2))), trust: trusted, reason: TrustExpired, needs: WeakExpired, contains: "not valid before"}},
		{"expired, allowed", trustCase{certs: certs(named(valid(-2, -1))), trust: trusted, allow: WeakExpired}},
		{"not yet valid, allowed", trustCase{certs: certs(named(valid(1, 2))), trust: trusted, allow: WeakExpired}},
		{"expired, all else allowed", trustCase{certs: certs(named(valid(-2, -1))), trust: trusted, allow: WeakAll &^ WeakExpired, reason: TrustExpired, needs: WeakExpired}},
		{"expired, with the right pin", func() trustCase {
			c := named(valid(-2, -1))
			return trustCase{certs: certs(c), trust: Trust{Pin: sha256.Sum256(c.Raw)}, reason: TrustExpired, needs: WeakExpired}
		}()},

		// Keys.
		{"RSA-1024", trustCase{certs: certs(p.gatewayWithKey(ca, &keys.small.PublicKey)), trust: trusted, reason: TrustWeak, needs: WeakRSA1024, contains: "1024 bits"}},
		{"RSA-1024, allowed", trustCase{certs: certs(p.gatewayWithKey(ca, &keys.small.PublicKey)), trust: trusted, allow: WeakRSA1024}},
		{"RSA-2047", trustCase{certs: certs(p.gatewayWithKey(ca, weakKey(2047))), trust: trusted, reason: TrustWeak, needs: WeakRSA1024}},
		{"RSA-1023, allowed", trustCase{certs: certs(p.gatewayWithKey(ca, weakKey(1023))), trust: trusted, allow: WeakAll, reason: TrustWeak}},
		{"RSA-512", trustCase{certs: certs(p.gatewayWithKey(ca, weakKey(512))), trust: trusted, reason: TrustWeak, contains: "512 bits"}},
		{"RSA-512, allowed", trustCase{certs: certs(p.gatewayWithKey(ca, weakKey(512))), trust: trusted, allow: WeakAll, reason: TrustWeak}},
		{"RSA-16384", trustCase{certs: certs(p.gatewayWithKey(ca, weakKey(16384))), trust: trusted, allow: WeakAll, reason: TrustInvalid}},
		{"even exponent", trustCase{certs: certs(p.gatewayWithKey(ca, &rsa.PublicKey{N: keys.gateway.N, E: 65536})), trust: trusted, allow: WeakAll, reason: TrustWeak, contains: "exponent"}},
		{"exponent 1", trustCase{certs: certs(p.gatewayWithKey(ca, &rsa.PublicKey{N: keys.gateway.N, E: 1})), trust: trusted, allow: WeakAll, reason: TrustWeak, contains: "exponent"}},
		{"P-256", trustCase{certs: certs(p.gatewayWithKey(ca, ecKey(t, elliptic.P256()))), trust: trusted}},
		{"P-224", trustCase{certs: certs(p.gatewayWithKey(ca, ecKey(t, elliptic.P224()))), trust: trusted, allow: WeakAll, reason: TrustWeak, contains: "224 bits"}},
		{"Ed25519", trustCase{certs: certs(p.gatewayWithKey(ca, ed25519.PublicKey(make([]byte, 32)))), trust: trusted}},
		{"X25519, which cannot sign", trustCase{certs: certs(x25519(p, ca)), trust: trusted, allow: WeakAll, reason: TrustInvalid, contains: "unknown kind"}},
		{"exponent 3", trustCase{certs: certs(p.gatewayWithKey(ca, &rsa.PublicKey{N: keys.gateway.N, E: 3})), trust: trusted}},

		// Signatures on the certificate.
		{"signed with SHA-1", trustCase{certs: certs(signedWith(crypto.SHA1)), trust: trusted, reason: TrustWeak, needs: WeakSHA1Cert, contains: "SHA-1"}},
		{"signed with SHA-1, allowed", trustCase{certs: certs(signedWith(crypto.SHA1)), trust: trusted, allow: WeakSHA1Cert}},
		{"signed with SHA-1, itself trusted", func() trustCase {
			c := signedWith(crypto.SHA1)
			return trustCase{certs: certs(c), trust: Trust{CAs: certs(c)}, reason: TrustWeak, needs: WeakSHA1Cert}
		}()},
		{"signed with MD5", trustCase{certs: certs(signedWith(crypto.MD5)), trust: trusted, reason: TrustWeak, contains: "MD5"}},
		{"signed with MD5, all allowed", trustCase{certs: certs(signedWith(crypto.MD5)), trust: trusted, allow: WeakAll, reason: TrustWeak}},
		{"signed with MD2", trustCase{certs: certs(unknownAlgorithm(p, good)), trust: trusted, allow: WeakAll, reason: TrustInvalid, contains: "unknown way"}},
		{"signed with MD2, the right pin", trustCase{
			certs: certs(unknownAlgorithm(p, good)), trust: Trust{Pin: sha256.Sum256(unknownAlgorithm(p, good).Raw)},
			allow: WeakAll, reason: TrustInvalid,
		}},
		{"all that may be allowed is needed", trustCase{
			certs: certs(p.parse(resign(t, p.gatewayWithKey(ca, &keys.small.PublicKey, valid(-2, -1)).Raw, keys.ca, crypto.SHA1))),
			trust: trusted, reason: TrustWeak, needs: WeakRSA1024 | WeakSHA1Cert | WeakExpired,
		}},
		{"the rest of what may be allowed is needed", trustCase{
			certs: certs(p.parse(resign(t, p.gatewayWithKey(ca, &keys.small.PublicKey).Raw, keys.ca, crypto.SHA1))),
			trust: trusted, allow: WeakRSA1024, reason: TrustWeak, needs: WeakSHA1Cert,
		}},
		{"weak, and of another CA: allowing does not help", trustCase{
			certs: certs(p.gateway(p.ca("rogue", nil, keys.rogue), valid(-2, -1))), trust: trusted, reason: TrustIssuer,
		}},

		// A weak CA.
		{"RSA-1024 CA", smallCA(p, 0, TrustWeak, WeakRSA1024)},
		{"RSA-1024 CA, allowed", smallCA(p, WeakRSA1024, "", 0)},
		{"intermediate signed with SHA-1", sha1Intermediate(p, 0, TrustWeak, WeakSHA1Cert)},
		{"intermediate signed with SHA-1, expired allowed", sha1Intermediate(p, WeakExpired, TrustWeak, WeakSHA1Cert)},
		{"intermediate signed with SHA-1, allowed", sha1Intermediate(p, WeakSHA1Cert, "", 0)},
		{"RSA-1024 intermediate", smallIntermediate(p, 0, TrustWeak, WeakRSA1024)},
		{"RSA-1024 intermediate, allowed", smallIntermediate(p, WeakRSA1024, "", 0)},
		{"expired CA", oldCA(p, 0, TrustExpired, WeakExpired)},
		{"expired CA, allowed", oldCA(p, WeakExpired, "", 0)},

		// Usage.
		{"for clients", trustCase{certs: certs(named(extKeyUsages(x509.ExtKeyUsageClientAuth))), trust: trusted, allow: WeakAll, reason: TrustUsage, contains: "extended key usage"}},
		{"for any use", trustCase{certs: certs(named(extKeyUsages(x509.ExtKeyUsageAny))), trust: trusted}},
		{"without extended key usage", trustCase{certs: certs(named(extKeyUsages())), trust: trusted}},
		{"for IPsec IKE", trustCase{certs: certs(named(extKeyUsages(), unknownEKU(ekuIPsecIKE))), trust: trusted}},
		{"for IKE intermediates", trustCase{certs: certs(named(extKeyUsages(x509.ExtKeyUsageClientAuth), unknownEKU(ekuIKEIntermediate))), trust: trusted}},
		{"for an unknown use", trustCase{certs: certs(named(extKeyUsages(), unknownEKU(asn1.ObjectIdentifier{1, 2, 3}))), trust: trusted, reason: TrustUsage}},
		{"for encryption", trustCase{certs: certs(named(keyUsage(x509.KeyUsageKeyEncipherment))), trust: trusted, reason: TrustUsage, contains: "key usage"}},
		{"for non-repudiation", trustCase{certs: certs(named(keyUsage(x509.KeyUsageContentCommitment))), trust: trusted, reason: TrustUsage}},
		{"without key usage", trustCase{certs: certs(named(keyUsage(0))), trust: trusted}},
		{"an unknown critical extension", trustCase{certs: certs(named(unknownCritical)), trust: trusted, allow: WeakAll, reason: TrustUsage, contains: "1.2.3.4"}},
		{"for clients, with the right pin", func() trustCase {
			c := named(extKeyUsages(x509.ExtKeyUsageClientAuth))
			return trustCase{certs: certs(c), trust: Trust{Pin: sha256.Sum256(c.Raw)}, reason: TrustUsage}
		}()},

		// Nothing is known: the question.
		{"nothing configured", trustCase{certs: certs(good), reason: TrustUnknown, askable: true}},
		{"nothing configured, another name", trustCase{certs: certs(rhum), reason: TrustUnknown, askable: true}},
		{"nothing configured, expired", trustCase{certs: certs(named(valid(-2, -1))), reason: TrustExpired, needs: WeakExpired}},
		{"nothing configured, expired, allowed", trustCase{certs: certs(named(valid(-2, -1))), allow: WeakExpired, reason: TrustUnknown, askable: true}},
		{"nothing configured, RSA-512", trustCase{certs: certs(p.gatewayWithKey(ca, weakKey(512))), reason: TrustWeak}},
		{"nothing configured, for clients", trustCase{certs: certs(named(extKeyUsages(x509.ExtKeyUsageClientAuth))), reason: TrustUsage}},
		{"nothing configured, malformed ID", trustCase{certs: certs(good), idir: id(isakmp.IDIPv4Addr, "123"), reason: TrustInvalid}},
		{"self-signed, nothing configured", trustCase{certs: certs(p.gateway(nil)), reason: TrustUnknown, askable: true}},

		// The pin.
		{"the right pin", trustCase{certs: certs(good), trust: pin}},
		{"the right pin, another name", trustCase{certs: certs(good), trust: pin, host: "other.example.com", remoteID: "other", idir: id(isakmp.IDFQDN, "third")}},
		{"the right pin, another CA", trustCase{certs: certs(good), trust: Trust{Pin: pin.Pin, CAs: certs(p.ca("rogue", nil, keys.rogue).cert)}}},
		{"the right pin, malformed ID", trustCase{certs: certs(good), trust: pin, idir: id(isakmp.IDIPv4Addr, "12345"), reason: TrustInvalid}},
		{"the right pin, RSA-1024", func() trustCase {
			c := p.gatewayWithKey(ca, &keys.small.PublicKey)
			return trustCase{certs: certs(c), trust: Trust{Pin: sha256.Sum256(c.Raw)}, reason: TrustWeak, needs: WeakRSA1024}
		}()},
		{"the right pin, signed with SHA-1", func() trustCase {
			c := signedWith(crypto.SHA1)
			return trustCase{certs: certs(c), trust: Trust{Pin: sha256.Sum256(c.Raw)}, reason: TrustWeak, needs: WeakSHA1Cert}
		}()},
		{"the right pin, signed with MD5", func() trustCase {
			c := signedWith(crypto.MD5)
			return trustCase{certs: certs(c), trust: Trust{Pin: sha256.Sum256(c.Raw)}, allow: WeakAll, reason: TrustWeak}
		}()},
		{"another pin", trustCase{certs: certs(named()), trust: pin, reason: TrustPin, contains: "another one"}},
		{"another pin, all allowed", trustCase{certs: certs(named(valid(-2, -1))), trust: pin, allow: WeakAll, reason: TrustPin}},
		{"another pin, the CA would do", trustCase{certs: certs(named()), trust: Trust{Pin: pin.Pin, CAs: trusted.CAs}, reason: TrustPin}},
		{"the pin of the second certificate", trustCase{certs: certs(named(), good), trust: pin, reason: TrustPin}},

		// The profile's remote ID.
		{"remote DN", trustCase{certs: certs(rhum), trust: trusted, remoteID: "dn:CN=rhum"}},
		{"remote DN in other words", trustCase{certs: certs(good), trust: trusted, remoteID: "/o=LAB/cn=GW", idir: dn("O=  lab , CN=gw")}},
		{"remote DN in another order", trustCase{certs: certs(good), trust: trusted, remoteID: "CN=gw, O=Lab", reason: TrustName, askable: true, contains: `instead of "CN=gw, O=Lab"`}},
		{"remote DN is a part", trustCase{certs: certs(good), trust: trusted, remoteID: "CN=gw", reason: TrustName, askable: true}},
		{"remote DN, another DN sent", trustCase{certs: certs(good), trust: trusted, remoteID: "O=Lab,CN=gw", idir: dn("O=Lab,CN=other"), reason: TrustName, askable: true}},
		{"remote DN as expected, but another certificate", trustCase{certs: certs(good), trust: trusted, remoteID: "CN=rhum", idir: dn("CN=rhum"), reason: TrustName, askable: true, contains: "its certificate is for O=Lab, CN=gw"}},
		{"remote FQDN", trustCase{certs: certs(rich), trust: trusted, host: "elsewhere", remoteID: "gw.EXAMPLE.com", idir: id(isakmp.IDFQDN, "GW.example.com")}},
		{"remote FQDN, DN sent", trustCase{certs: certs(good), trust: trusted, remoteID: "gw.example.com", reason: TrustName, askable: true}},
		{"remote FQDN as expected, but another certificate", trustCase{certs: certs(rhum), trust: trusted, remoteID: "gw.example.com", idir: id(isakmp.IDFQDN, "gw.example.com"), reason: TrustName, askable: true}},
		{"remote e-mail", trustCase{certs: certs(rich), trust: trusted, remoteID: "gw@example.com", idir: id(isakmp.IDUserFQDN, "GW@example.com")}},
		{"remote e-mail, but another certificate", trustCase{certs: certs(good), trust: trusted, remoteID: "gw@example.com", idir: id(isakmp.IDUserFQDN, "gw@example.com"), reason: TrustName, askable: true}},
		{"remote address", trustCase{certs: certs(rich), trust: trusted, remoteID: "192.0.2.1", idir: id(isakmp.IDIPv4Addr, "\xc0\x00\x02\x01")}},
		{"remote address of IPv6", trustCase{certs: certs(rich), trust: trusted, remoteID: "2001:db8::1", idir: id(isakmp.IDIPv6Addr, "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")}},
		{"remote address, but another certificate", trustCase{certs: certs(good), trust: trusted, remoteID: "192.0.2.1", idir: id(isakmp.IDIPv4Addr, "\xc0\x00\x02\x01"), reason: TrustName, askable: true}},
		{"remote key ID: no certificate names it", trustCase{certs: certs(good), trust: trusted, remoteID: "keyid:gw", idir: id(isakmp.IDKeyID, "gw"), reason: TrustName, askable: true}},

		// What the gateway calls itself, without a remote ID in the profile.
		{"FQDN", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDFQDN, "gw.example.com")}},
		{"FQDN of another host", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDFQDN, "other.example.com"), reason: TrustName, askable: true}},
		{"FQDN with a NUL behind", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDFQDN, "gw.example.com\x00"), reason: TrustName, askable: true}},
		{"FQDN is the common name, without subjectAltName", trustCase{certs: certs(named(noSAN, subject("gw.example.com"))), trust: trusted, idir: id(isakmp.IDFQDN, "GW.example.com")}},
		{"FQDN is the common name, with another subjectAltName", trustCase{certs: certs(named(subject("gw2.example.com"))), trust: trusted, idir: id(isakmp.IDFQDN, "gw2.example.com"), reason: TrustName, askable: true}},
		{"FQDN is the common name, with a subjectAltName that is no host", trustCase{
			certs: certs(named(noSAN, subject("gw.example.com"), func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "x"}} })),
			trust: trusted, idir: id(isakmp.IDFQDN, "gw.example.com"), reason: TrustName, askable: true,
		}},
		{"FQDN that reads as an address", trustCase{certs: certs(rich), trust: trusted, idir: id(isakmp.IDFQDN, "192.0.2.1"), reason: TrustName, askable: true}},
		{"address that the certificate does not name", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDIPv4Addr, "\xc0\x00\x02\x01"), reason: TrustName, askable: true}},
		{"an address in the common name of a certificate with subjectAltName", trustCase{certs: certs(named(subject("192.0.2.1"))), trust: trusted, host: "192.0.2.1", reason: TrustName, askable: true}},
		{"empty DN", trustCase{certs: certs(named(func(c *x509.Certificate) { c.Subject = pkix.Name{} })), trust: trusted, idir: id(isakmp.IDDERDN, "\x30\x00"), reason: TrustName, askable: true}},
		{"empty FQDN", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDFQDN, ""), reason: TrustName, askable: true}},
		{"subnet", trustCase{certs: certs(rich), trust: trusted, idir: id(isakmp.IDIPv4Subnet, "\xc0\x00\x02\x01\xff\xff\xff\xff"), reason: TrustName, askable: true}},
		{"IPv4 of three bytes", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDIPv4Addr, "\xc0\x00\x02"), reason: TrustInvalid}},
		{"IPv4 of sixteen bytes", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDIPv4Addr, strings.Repeat("\x00", 16)), reason: TrustInvalid}},
		{"IPv6 of four bytes", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDIPv6Addr, "\xc0\x00\x02\x01"), reason: TrustInvalid}},
		{"garbage DN", trustCase{certs: certs(good), trust: trusted, idir: id(isakmp.IDDERDN, "CN=gw"), reason: TrustInvalid}},
		{"unknown type", trustCase{certs: certs(good), trust: trusted, idir: id(201, "*$AnyConnectClient$*"), reason: TrustName, askable: true}},
		{"another name and another CA", trustCase{certs: certs(p.gateway(p.ca("rogue", nil, keys.rogue))), trust: trusted, host: "other", reason: TrustIssuer}},

		// The host that the profile connects to.
		{"another host", trustCase{certs: certs(good), trust: trusted, host: "other.example.com", reason: TrustName, askable: true, contains: `not for "other.example.com"`}},
		{"a host out of many", trustCase{
			certs: certs(named(dnsNames(slices.Repeat([]string{"x.example.com"}, 20)...))), trust: trusted,
			reason: TrustName, askable: true, contains: "x.example.com, …",
		}},
		{"a host with a long name", trustCase{
			certs: certs(named(dnsNames(strings.Repeat("x", 1000)))), trust: trusted,
			reason: TrustName, askable: true, contains: strings.Repeat("x", maxDescription) + "…, not",
		}},
		{"a host with control characters", trustCase{
			certs: certs(named(func(c *x509.Certificate) { c.EmailAddresses = []string{"a\x1b[0mb"} })), trust: trusted,
			host: "other", reason: TrustName, askable: true, contains: "a[0mb",
		}},
		{"a racoon's DN", trustCase{certs: certs(rhum), trust: trusted, reason: TrustName, askable: true}},
		{"host in other letters, with a dot", trustCase{certs: certs(good), trust: trusted, host: "GW.Example.COM."}},
		{"wildcard", trustCase{certs: certs(rich), trust: trusted, host: "eu.vpn.example.com"}},
		{"wildcard over two labels", trustCase{certs: certs(rich), trust: trusted, host: "a.eu.vpn.example.com", addr: netip.MustParseAddr("192.0.2.9"), reason: TrustName, askable: true}},
		{"wildcard without a label", trustCase{certs: certs(rich), trust: trusted, host: "vpn.example.com", addr: netip.MustParseAddr("192.0.2.9"), reason: TrustName, askable: true}},
		{"wildcard within a label", trustCase{certs: certs(named(dnsNames("gw*.example.com"))), trust: trusted, host: "gw1.example.com", reason: TrustName, askable: true}},
		{"wildcard in the common name", trustCase{certs: certs(named(noSAN, subject("*.example.com"))), trust: trusted}},
		{"common name, without subjectAltName", trustCase{certs: certs(named(noSAN, subject("gw.example.com"))), trust: trusted}},
		{"common name, with another subjectAltName", trustCase{certs: certs(named(subject("gw.example.com"), dnsNames("x.example.com"))), trust: trusted, reason: TrustName, askable: true}},
		{"host is an address", trustCase{certs: certs(rich), trust: trusted, host: "192.0.2.1"}},
		{"host is an address of IPv6, written in full", trustCase{certs: certs(rich), trust: trusted, host: "2001:0db8:0:0::1"}},
		{"host is another address", trustCase{certs: certs(rich), trust: trusted, host: "192.0.2.2", reason: TrustName, askable: true}},
		{"host is an address in the common name", trustCase{certs: certs(named(noSAN, subject("192.0.2.1"))), trust: trusted, host: "192.0.2.1"}},
		{"host is an address as DNS name", trustCase{certs: certs(named(dnsNames("192.0.2.1"))), trust: trusted, host: "192.0.2.1", reason: TrustName, askable: true}},
		{"the address of the host", trustCase{certs: certs(rich), trust: trusted, host: "elsewhere.example.com", addr: netip.MustParseAddr("192.0.2.1")}},
		{"the mapped address of the host", trustCase{certs: certs(rich), trust: trusted, host: "elsewhere.example.com", addr: netip.MustParseAddr("::ffff:192.0.2.1")}},
		{"the address of the host does not count with public CAs", trustCase{
			certs: certs(rich), trust: Trust{CAs: trusted.CAs, SystemRoots: true},
			host: "elsewhere.example.com", addr: netip.MustParseAddr("192.0.2.1"), reason: TrustName, askable: true,
		}},
	} {
		t.Run(c.name, c.run)
	}
}

func TestNoCertificate(t *testing.T) {
	p := &testPKI{t: t}
	good := p.gateway(p.ca("ca", nil, testKeys().ca))
	for _, c := range []struct {
		name  string
		certs [][]byte
		want  TrustReason
	}{
		{"none", nil, TrustMissing},
		{"empty", [][]byte{{}}, TrustInvalid},
		{"garbage", [][]byte{[]byte("garbage")}, TrustInvalid},
		{"garbage before a certificate", [][]byte{[]byte("garbage"), good.Raw}, TrustInvalid},
		{"cut", [][]byte{good.Raw[:len(good.Raw)-1]}, TrustInvalid},
		{"with a byte behind", [][]byte{append(slices.Clone(good.Raw), 0)}, TrustInvalid},
	} {
		g := &gatewayTrust{host: "gw.example.com", trust: Trust{Pin: sha256.Sum256(good.Raw)}}
		leaf, err := g.check(c.certs, isakmp.ID{Type: isakmp.IDFQDN, Data: []byte("gw.example.com")})
		var refusal *TrustError
		if !errors.As(err, &refusal) || refusal.Reason != c.want || refusal.Askable || refusal.Certificate != nil || leaf != nil {
			t.Errorf("%s: %v, %v", c.name, leaf, err)
		}
	}
	// What cannot be read among the others is passed over.
	c := trustCase{certs: certs(good), trust: Trust{Pin: sha256.Sum256(good.Raw)}}
	g, idir := c.gatewayTrust(t)
	leaf, err := g.check([][]byte{good.Raw, []byte("garbage")}, idir)
	c.compare(t, leaf, err)
}

// TestSystemRoots: without CAs of its own a profile may trust the system's, which
// do not know the test's.
func TestSystemRoots(t *testing.T) {
	p := &testPKI{t: t}
	ca := p.ca("ca", nil, testKeys().ca)
	tc := trustCase{certs: certs(p.gateway(ca)), trust: Trust{SystemRoots: true}, reason: TrustIssuer}
	tc.run(t)
	tc = trustCase{certs: certs(p.gateway(ca)), trust: Trust{SystemRoots: true, CAs: certs(ca.cert)}}
	tc.run(t)
}

// TestRecordedGateways checks what strongSwan gateways sent, on a day on which
// their certificates were valid.
func TestRecordedGateways(t *testing.T) {
	recorded := recordedGateways(t)
	ca, err := x509.ParseCertificate(recorded["ca"][0])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, host string
		trustCase
	}{
		{"hybrid-main", "gw.lab.test", trustCase{}},
		{"chain-frag", "chain.lab.test", trustCase{}},
		{"hybrid-main", "other.lab.test", trustCase{reason: TrustName, askable: true}},
		{"legacy-3des-md5", "gw.lab.test", trustCase{reason: TrustWeak, needs: WeakRSA1024 | WeakSHA1Cert}},
		{"legacy-3des-md5", "gw.lab.test", trustCase{allow: WeakRSA1024 | WeakSHA1Cert, reason: TrustName, askable: true}},
		{"legacy-3des-md5", "gw.lab.test", trustCase{allow: WeakRSA1024 | WeakSHA1Cert, remoteID: "O=Lab, CN=legacy-gw"}},
	} {
		t.Run(fmt.Sprintf("%s %s %v", c.name, c.host, c.allow), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)))
				tc := c.trustCase
				tc.host, tc.trust = c.host, Trust{CAs: certs(ca)}
				var ps []isakmp.Payload
				for _, body := range recorded[c.name+" CERT"] {
					ps = append(ps, isakmp.Payload{Type: isakmp.PayloadCert, Body: body})
				}
				ders, err := certificates(ps)
				if err != nil {
					t.Fatal(err)
				}
				leaf, err := x509.ParseCertificate(ders[0])
				if err != nil {
					t.Fatal(err)
				}
				idir, err := isakmp.ParseID(recorded[c.name+" ID"][0])
				if err != nil {
					t.Fatal(err)
				}
				tc.certs = certs(leaf)
				g, _ := tc.gatewayTrust(t)
				got, err := g.check(ders, idir)
				tc.compare(t, got, err)
			})
		})
	}
}

func certs(cs ...*x509.Certificate) []*x509.Certificate { return cs }

func cas(list ...*testCA) Trust {
	var t Trust
	for _, ca := range list {
		t.CAs = append(t.CAs, ca.cert)
	}
	return t
}

// signedWith signs a CA's certificate anew.
func (p *testPKI) signedWith(h crypto.Hash, ca, parent *testCA) *testCA {
	der := ca.cert.Raw
	if p.sha1 {
		der = resign(p.t, (&testPKI{t: p.t, expired: p.expired}).ca(ca.cert.Subject.CommonName, parent, ca.key).cert.Raw, parent.key, h)
	} else {
		der = resign(p.t, der, parent.key, h)
	}
	return &testCA{p.parse(der), ca.key}
}

func smallCA(p *testPKI, allow Weak, reason TrustReason, needs Weak) trustCase {
	ca := p.ca("small", nil, testKeys().small)
	return trustCase{certs: certs(p.gateway(ca)), trust: cas(ca), allow: allow, reason: reason, needs: needs}
}

func oldCA(p *testPKI, allow Weak, reason TrustReason, needs Weak) trustCase {
	ca := p.ca("old", nil, testKeys().ca, valid(-2, -1))
	return trustCase{certs: certs(p.gateway(ca)), trust: cas(ca), allow: allow, reason: reason, needs: needs}
}

func smallIntermediate(p *testPKI, allow Weak, reason TrustReason, needs Weak) trustCase {
	ca := p.ca("ca", nil, testKeys().ca)
	sub := p.ca("sub", ca, testKeys().small)
	return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), allow: allow, reason: reason, needs: needs}
}

func sha1Intermediate(p *testPKI, allow Weak, reason TrustReason, needs Weak) trustCase {
	ca := p.ca("ca", nil, testKeys().ca)
	sub := p.signedWith(crypto.SHA1, p.ca("sub", ca, testKeys().sub), ca)
	return trustCase{certs: certs(p.gateway(sub), sub.cert), trust: cas(ca), allow: allow, reason: reason, needs: needs}
}

// unknownAlgorithm makes it say that it is signed with MD2, which crypto/x509 does
// not know.
func unknownAlgorithm(p *testPKI, c *x509.Certificate) *x509.Certificate {
	rsaWith := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01}
	return p.parse(bytes.ReplaceAll(c.Raw, append(slices.Clone(rsaWith), 11), append(rsaWith, 2)))
}

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PublicKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

// x25519 has a key for key agreement, made from one for signatures.
func x25519(p *testPKI, ca *testCA) *x509.Certificate {
	c := p.gatewayWithKey(ca, ed25519.PublicKey(make([]byte, 32)))
	return p.parse(bytes.Replace(c.Raw, []byte{6, 3, 0x2b, 0x65, 0x70}, []byte{6, 3, 0x2b, 0x65, 0x6e}, 1))
}

// Changes to a certificate before it is signed.

func subject(cn string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.CommonName = cn }
}

func dnsNames(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

func noSAN(c *x509.Certificate) { c.DNSNames = nil }

func unknownCritical(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
}

func keyUsage(u x509.KeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.KeyUsage = u }
}

func extKeyUsages(list ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = list }
}

func unknownEKU(id asn1.ObjectIdentifier) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, id) }
}

func pathLen(n int) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 }
}

// valid sets the validity in days from now.
func valid(from, to int) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(0, 0, from), time.Now().AddDate(0, 0, to)
	}
}
