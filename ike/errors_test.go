package ike

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"testing"

	"wayfarer/ike/isakmp"
)

func TestWeak(t *testing.T) {
	all := []string{"3des", "md5", "modp1024", "modp1536", "rsa1024", "sha1-cert", "expired", "psk-aggressive"}
	for _, tt := range []struct {
		names []string
		want  Weak
		text  string
	}{
		{nil, 0, ""},
		{[]string{"3des"}, Weak3DES, "3des"},
		{[]string{"md5", "3des", "md5"}, Weak3DES | WeakMD5, "3des,md5"},
		{[]string{"modp1024", "modp1536"}, WeakMODP1024 | WeakMODP1536, "modp1024,modp1536"},
		{[]string{"rsa1024", "sha1-cert", "expired"}, WeakRSA1024 | WeakSHA1Cert | WeakExpired, "rsa1024,sha1-cert,expired"},
		{[]string{"psk-aggressive"}, WeakPSKAggressive, "psk-aggressive"},
		{[]string{"all"}, WeakAll, "3des,md5,modp1024,modp1536,rsa1024,sha1-cert,expired,psk-aggressive"},
		{[]string{"expired", "all"}, WeakAll, "3des,md5,modp1024,modp1536,rsa1024,sha1-cert,expired,psk-aggressive"},
	} {
		got, err := ParseWeak(tt.names)
		if err != nil || got != tt.want || got.String() != tt.text {
			t.Errorf("ParseWeak(%q) = %v (%d), %v", tt.names, got, got, err)
		}
		again, err := ParseWeak(got.Names())
		if err != nil || again != got {
			t.Errorf("%v read again is %v, %v", got, again, err)
		}
	}
	if !slices.Equal(WeakAll.Names(), all) {
		t.Errorf("all is %q", WeakAll.Names())
	}
	for _, name := range []string{"", "3DES", "des", "sha1", "3des,md5", " 3des", "none"} {
		if w, err := ParseWeak([]string{"md5", name}); err == nil || w != 0 {
			t.Errorf("ParseWeak(%q) = %v", name, w)
		}
	}
}

// TestErrorTexts: an error names the step and says in one line what happened.
func TestErrorTexts(t *testing.T) {
	for _, tt := range []struct {
		err   error
		want  string
		wraps error
	}{
		{&NoAnswerError{Step: StepFindGateway, Gateway: "192.0.2.1:500"}, "find-gateway: no answer from gateway 192.0.2.1:500", nil},
		{&NoAnswerError{Step: StepSignIn, Gateway: "g", Hint: "network is unreachable"}, "sign-in: no answer from gateway g (network is unreachable)", nil},
		{&NoAnswerError{Step: StepFindGateway, Gateway: "g", Err: io.EOF}, "find-gateway: no answer from gateway g: EOF", io.EOF},
		{
			&RefusedError{Step: StepAgreeSecurity, What: RefusedProposal, Notify: isakmp.NotifyNoProposalChosen},
			"agree-security: the gateway refused the proposal (NO_PROPOSAL_CHOSEN)", nil,
		},
		{
			&RefusedError{Step: StepGetSettings, What: RefusedSettings, Detail: "it gave no address"},
			"get-settings: the gateway refused the settings: it gave no address", nil,
		},
		{&RefusedError{Step: StepSignIn, What: RefusedConnection}, "sign-in: the gateway refused the connection", nil},
		{
			&WeakError{Step: StepAgreeSecurity, Needs: Weak3DES | WeakMD5, What: "3des-md5"},
			"agree-security: 3des-md5 is too weak and not allowed (3des,md5)", nil,
		},
		{&ProtocolError{Step: StepBuildTunnel, Detail: "Quick Mode"}, "build-tunnel: the gateway broke the protocol: Quick Mode", nil},
		{
			&ProtocolError{Step: StepBuildTunnel, Detail: "Quick Mode", Err: context.Canceled},
			"build-tunnel: the gateway broke the protocol: Quick Mode: context canceled", context.Canceled,
		},
		{&CredentialsError{Step: StepSignIn}, "sign-in: the gateway refused the login", nil},
		{&CredentialsError{Step: StepSignIn, Message: "account locked"}, "sign-in: the gateway refused the login: account locked", nil},
		{
			&TrustError{Step: StepCheckCertificate, Detail: "it sent no signature"},
			"check-certificate: the gateway is not trusted: it sent no signature", nil,
		},
		{&AddressChangedError{Old: "10.0.0.1", New: "10.0.0.2"}, "the gateway changed the address from 10.0.0.1 to 10.0.0.2", nil},
		{&ClosedByGatewayError{}, "the gateway ended the connection", nil},
		{&ConfigError{Field: "gateway", Err: io.EOF}, "gateway: EOF", io.EOF},
		{&ConfigError{"pfs", io.EOF, WeakMODP1024}, "pfs: EOF; it needs to be allowed by name (modp1024)", io.EOF},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
		}
		if got := errors.Unwrap(tt.err); got != tt.wraps {
			t.Errorf("%v wraps %v", tt.err, got)
		}
	}
}

func TestTrustErrorFingerprint(t *testing.T) {
	if got := (&TrustError{}).SHA256(); got != [32]byte{} {
		t.Errorf("without a certificate: %x", got)
	}
	e := TrustError{Certificate: &x509.Certificate{Raw: []byte("certificate")}}
	if got := e.SHA256(); got != sha256.Sum256([]byte("certificate")) {
		t.Errorf("%x", got)
	}
}
