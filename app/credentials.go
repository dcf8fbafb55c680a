package app

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxKeyDER bounds a private key in bytes: RSA with 16,384 bits fits. One of 512 KB
// would take minutes to check.
const maxKeyDER = 12 << 10

// Errors of ParseKey.
var (
	// ErrNoKey: there is no private key in the text.
	ErrNoKey = errors.New("no private key in it")
	// ErrEncryptedKey: the private key is protected by a passphrase.
	ErrEncryptedKey = errors.New("the private key is encrypted")
)

// maxCertificate bounds one certificate, in bytes of DER: far more than any has, and far
// less than a payload of IKE holds.
const maxCertificate = 16 << 10

// ParseCertificates reads the certificates of a PEM text, in their order; other blocks
// are skipped. A text without certificates is an error, and one of more than 16 KiB.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if len(block.Bytes) > maxCertificate {
			return nil, fmt.Errorf("a certificate is larger than %d bytes", maxCertificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("unreadable certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return certs, nil
}

// ParseKey reads the first private key of a PEM text: PKCS #8 (RFC 5208), PKCS #1
// (RFC 8017) or SEC 1 (RFC 5915), not encrypted, RSA or ECDSA. Other blocks are
// skipped. The error may be ErrNoKey or ErrEncryptedKey; it quotes nothing of the
// text.
func ParseKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		parse := map[string]func([]byte) (any, error){
			"PRIVATE KEY":           x509.ParsePKCS8PrivateKey,
			"RSA PRIVATE KEY":       func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
			"EC PRIVATE KEY":        func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
			"ENCRYPTED PRIVATE KEY": func([]byte) (any, error) { return nil, ErrEncryptedKey },
		}[block.Type]
		if parse == nil {
			continue
		}
		if _, legacy := block.Headers["DEK-Info"]; legacy { // RFC 1421 §4.6.1.3
			return nil, ErrEncryptedKey
		}
		if len(block.Bytes) > maxKeyDER {
			clear(block.Bytes)
			return nil, fmt.Errorf("a private key of more than %d bytes", maxKeyDER)
		}
		key, err := parse(block.Bytes)
		clear(block.Bytes)
		if errors.Is(err, ErrEncryptedKey) {
			return nil, err
		}
		if err != nil {
			return nil, errors.New("unreadable private key")
		}
		return UsableKey(key)
	}
	return nil, ErrNoKey
}

// UsableKey is a parsed private key as a signer, if it is of a kind that IKEv1 knows:
// RSA, or ECDSA on P-256, P-384 or P-521 (RFC 4754).
func UsableKey(key any) (crypto.Signer, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		if name := key.Curve.Params().Name; name == "P-224" {
			return nil, fmt.Errorf("keys on %s are not used in IKEv1", name)
		}
		return key, nil
	}
	return nil, errors.New("the private key is neither RSA nor ECDSA")
}

// BelongsTo reports whether key is the private key of the certificate.
func BelongsTo(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// HoldsKey reports whether a PEM text has a private key in it.
func HoldsKey(text []byte) bool { return bytes.Contains(text, []byte("PRIVATE KEY-----")) }

// IsPEM reports whether a text holds PEM rather than the path of a file.
func IsPEM(text []byte) bool { return bytes.Contains(text, []byte("-----BEGIN ")) }
