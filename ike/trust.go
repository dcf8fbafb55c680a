package ike

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wayfarer/ike/isakmp"
)

// gatewayTrust checks what a gateway sent in CERT payloads.
//
// Three things are asked of a certificate, in this order: that it is good in itself
// (valid, strong, meant for this), that somebody trusted issued it, and that it
// names the gateway. Only the last two can be answered by a pin.
type gatewayTrust struct {
	trust    Trust
	allow    Weak
	host     string     // of Config.Gateway: a name or an address, without a port
	addr     netip.Addr // that we are connected to
	remoteID *Identity
}

// check verifies the certificates, as received and the gateway's own first, and
// binds IDir to the first, which it returns. Every error is a *TrustError.
func (t *gatewayTrust) check(certs [][]byte, idir isakmp.ID) (*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, refuse(TrustMissing, "it sent no certificate")
	}
	leaf, err := x509.ParseCertificate(certs[0])
	if err != nil {
		return nil, refuse(TrustInvalid, "its certificate cannot be read: %v", err)
	}
	var others []*x509.Certificate
	for _, der := range certs[1:] {
		// What cannot be read cannot lead to a CA, but another may.
		if c, err := x509.ParseCertificate(der); err == nil {
			others = append(others, c)
		}
	}
	refusal := t.checkCertificate(leaf, others)
	if refusal == nil || refusal.Askable {
		if err := identityOf(idir).check(); err != nil {
			refusal = refuse(TrustInvalid, "%v", err)
		}
	}
	if refusal == nil && !t.pinned() {
		refusal = t.checkNames(leaf, identityOf(idir))
	}
	if refusal != nil {
		refusal.Certificate = leaf
		return nil, refusal
	}
	return leaf, nil
}

// conceded says what about an accepted certificate would have been refused, had the
// profile not allowed it; empty if nothing.
func (t *gatewayTrust) conceded(certs [][]byte, idir isakmp.ID) string {
	strict := *t
	strict.allow = 0
	if _, err := strict.check(certs, idir); err != nil {
		return err.(*TrustError).Detail
	}
	return ""
}

// refuse makes the error of a check.
func refuse(reason TrustReason, format string, args ...any) *TrustError {
	return &TrustError{Step: StepCheckCertificate, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func (t *gatewayTrust) pinned() bool { return t.trust.Pin != [32]byte{} }

// certificateWeaknesses are the sets that could mend a certificate, small ones
// first.
var certificateWeaknesses = []Weak{
	WeakExpired, WeakSHA1Cert, WeakRSA1024,
	WeakSHA1Cert | WeakRSA1024, WeakExpired | WeakSHA1Cert, WeakExpired | WeakRSA1024,
	WeakExpired | WeakSHA1Cert | WeakRSA1024,
}

// checkCertificate asks for quality and issuer. If allowing a weakness would have
// helped, the error names the fewest that would; if nothing would have, it tells
// what cannot be mended.
func (t *gatewayTrust) checkCertificate(leaf *x509.Certificate, others []*x509.Certificate) *TrustError {
	refusal := t.judge(leaf, others, t.allow)
	if refusal == nil || refusal.Askable {
		return refusal
	}
	var beyond *TrustError
	for _, w := range certificateWeaknesses {
		beyond = t.judge(leaf, others, t.allow|w)
		if beyond == nil || beyond.Askable {
			refusal.Needs = w
			refusal.Detail += fmt.Sprintf(" (not allowed: %v)", w)
			return refusal
		}
	}
	return beyond
}

// judge is checkCertificate for one set of allowed weaknesses.
func (t *gatewayTrust) judge(leaf *x509.Certificate, others []*x509.Certificate, allow Weak) *TrustError {
	if t.pinned() && sha256.Sum256(leaf.Raw) != t.trust.Pin {
		return refuse(TrustPin, "its certificate is another one than before (SHA-256 %x)", sha256.Sum256(leaf.Raw))
	}
	now := time.Now()
	const what = "its certificate"
	if r := checkUsage(leaf); r != nil {
		return r
	}
	if r := checkKey(leaf, what, allow); r != nil {
		return r
	}
	if r := checkSigned(leaf, what, allow); r != nil {
		return r
	}
	if r := checkValidity(leaf, what, allow, now); r != nil {
		return r
	}
	switch {
	case t.pinned():
		return nil
	case len(t.trust.CAs) == 0 && !t.trust.SystemRoots:
		r := refuse(TrustUnknown, "nothing says whether to trust its certificate")
		r.Askable = true
		return r
	}
	v := chainVerifier{anchors: t.trust.CAs, systemRoots: t.trust.SystemRoots, others: others, allow: allow, now: now}
	return v.verify(leaf)
}

// checkNames asks whether the certificate is the gateway's: it calls itself what the
// profile expects, its certificate names it so, and if the profile expects nothing
// the certificate names the host that we connect to. Any other certificate of the
// same CA might be a user's. A pin can overrule this.
func (t *gatewayTrust) checkNames(leaf *x509.Certificate, idir Identity) *TrustError {
	detail := ""
	switch name := describeID(isakmp.ID{Type: idir.Type, Data: idir.Data}); {
	case t.remoteID != nil && !t.remoteID.equal(idir):
		detail = fmt.Sprintf("it calls itself %q instead of %q", name, *t.remoteID)
	case !certifies(leaf, idir):
		detail = fmt.Sprintf("it calls itself %q, but its certificate is for %s", name, subjects(leaf))
	case t.remoteID == nil && !t.namesHost(leaf):
		detail = fmt.Sprintf("its certificate is for %s, not for %q", subjects(leaf), t.host)
	default:
		return nil
	}
	r := refuse(TrustName, "%s", detail)
	r.Askable = true
	return r
}

// certifies reports whether the certificate names id: a distinguished name as its
// subject, all else in the subjectAltName of the fitting type.
func certifies(leaf *x509.Certificate, id Identity) bool {
	switch id.Type {
	case isakmp.IDDERDN:
		return sameDN(leaf.RawSubject, id.Data)
	case isakmp.IDFQDN:
		return namesHostName(leaf, string(id.Data))
	case isakmp.IDUserFQDN:
		return slices.ContainsFunc(leaf.EmailAddresses, func(s string) bool { return equalFoldASCII(s, string(id.Data)) })
	case isakmp.IDIPv4Addr, isakmp.IDIPv6Addr:
		return namesAddr(leaf, addrOf(id.Data))
	}
	return false
}

// namesHost reports whether the certificate names the gateway of the profile. The
// address that its name led to counts as well, but not with public CAs: those
// certify an address to whoever holds it, and who answers DNS chooses the address.
func (t *gatewayTrust) namesHost(leaf *x509.Certificate) bool {
	if addr, err := netip.ParseAddr(t.host); err == nil {
		return namesAddr(leaf, addr)
	}
	return namesHostName(leaf, t.host) || !t.trust.SystemRoots && namesAddr(leaf, t.addr)
}

// namesHostName matches a host name, wildcards by the rules of crypto/x509. The
// common name counts only in a certificate without subjectAltName.
func namesHostName(leaf *x509.Certificate, host string) bool {
	dns := x509.Certificate{DNSNames: leaf.DNSNames}
	if !hasExtension(leaf, extSubjectAltName) {
		dns.DNSNames = []string{leaf.Subject.CommonName}
	}
	return dns.VerifyHostname(host) == nil
}

func namesAddr(leaf *x509.Certificate, addr netip.Addr) bool {
	if !hasExtension(leaf, extSubjectAltName) {
		cn, err := netip.ParseAddr(leaf.Subject.CommonName)
		return err == nil && cn == addr.Unmap()
	}
	return slices.ContainsFunc(leaf.IPAddresses, func(ip net.IP) bool { return addrOf(ip).Unmap() == addr.Unmap() })
}

// subjects lists for whom a certificate is, for people.
func subjects(leaf *x509.Certificate) string {
	list := []string{describeID(isakmp.ID{Type: isakmp.IDDERDN, Data: leaf.RawSubject})}
	for _, s := range slices.Concat(leaf.DNSNames, leaf.EmailAddresses) {
		list = append(list, printable([]byte(s)))
	}
	for _, ip := range leaf.IPAddresses {
		list = append(list, ip.String())
	}
	const most = 8
	if len(list) > most {
		list = append(list[:most], "…")
	}
	for i, s := range list {
		if r := []rune(s); len(r) > maxDescription {
			list[i] = string(r[:maxDescription]) + "…"
		}
	}
	return strings.Join(list, ", ")
}
