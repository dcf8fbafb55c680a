package app

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return block("PRIVATE KEY", der)
}

func TestParseKey(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(p256)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))
	legacy := strings.Replace(pkcs1, "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1)
	self := selfSigned(t, rsaKey)

	for _, tt := range []struct {
		name, text string
		err        error // or
		says       string
	}{
		{name: "PKCS #8, RSA", text: pkcs8(t, rsaKey)},
		{name: "PKCS #8, ECDSA", text: pkcs8(t, p256)},
		{name: "PKCS #1", text: pkcs1},
		{name: "SEC 1 after its parameters", text: block("EC PARAMETERS", []byte{6, 0}) + block("EC PRIVATE KEY", sec1)},
		{name: "after a certificate", text: block("CERTIFICATE", self.Raw) + pkcs1},
		{name: "certificate only", text: block("CERTIFICATE", self.Raw), err: ErrNoKey},
		{name: "empty", err: ErrNoKey},
		{name: "encrypted", text: block("ENCRYPTED PRIVATE KEY", []byte{1}), err: ErrEncryptedKey},
		{name: "encrypted, legacy", text: legacy, err: ErrEncryptedKey},
		{name: "garbage", text: block("PRIVATE KEY", []byte("s3cret")), says: "unreadable"},
		{name: "PKCS #1 called SEC 1", text: block("EC PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), says: "unreadable"},
		{name: "larger than any key", text: block("RSA PRIVATE KEY", make([]byte, maxKeyDER+1)), says: "more than 12288 bytes"},
		{name: "P-224", text: pkcs8(t, p224), says: "P-224"},
		{name: "Ed25519", text: pkcs8(t, edwards), says: "neither RSA nor ECDSA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := ParseKey([]byte(tt.text))
			switch {
			case tt.err != nil:
				if !errors.Is(err, tt.err) {
					t.Errorf("error %v, want %v", err, tt.err)
				}
			case tt.says != "":
				if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("error %v", err)
				}
			case err != nil:
				t.Error(err)
			case !rsaKey.Equal(key) && !p256.Equal(key):
				t.Error("another key")
			case BelongsTo(key, self) != rsaKey.Equal(key):
				t.Error("taken for a key of another certificate")
			}
		})
	}
}

func selfSigned(t *testing.T, key *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ada"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestParseCertificates(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := block("CERTIFICATE", selfSigned(t, key).Raw)
	certs, err := ParseCertificates([]byte("words\n" + text + block("X509 CRL", nil) + text))
	if err != nil || len(certs) != 2 || certs[0].Subject.CommonName != "ada" {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	for text, says := range map[string]string{
		"": "no PEM certificate", "/etc/ssl/ca.pem": "no PEM certificate", block("CERTIFICATE", []byte{1}): "unreadable",
		block("CERTIFICATE", make([]byte, maxCertificate+1)): "larger than",
	} {
		if _, err := ParseCertificates([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
