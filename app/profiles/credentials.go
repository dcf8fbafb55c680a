package profiles

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"software.sslmate.com/src/go-pkcs12"

	"wayfarer/app"
)

const (
	maxCredentials = 512 << 10 // bytes of a file; a whole bundle of public CAs fits
	maxPKCS12      = 64 << 10  // bytes; a longer key would take minutes to check
	maxChain       = 8         // certificates that are sent to a gateway
)

// ErrPassphrase means that the passphrase of a PKCS #12 file is wrong.
var ErrPassphrase = errors.New("wrong passphrase")

// Credentials are a user's certificate and its key, as the service takes them.
type Credentials struct {
	// Certificate is PEM: the user's own, then its issuers as far as the files have
	// them, but for a root, which every gateway knows or does not believe.
	Certificate string
	Key         []byte            // PEM, PKCS #8, not encrypted
	Leaf        *x509.Certificate // the user's own
}

// Zero overwrites the key.
func (c *Credentials) Zero() { clear(c.Key) }

// Source reads a file that a profile names, of at most limit bytes; secret says that a key
// may be in it. The error names the file.
type Source func(path string, secret bool, limit int) ([]byte, error)

// ReadCredentials reads a user's certificate and key from files. The first holds PEM
// certificates in any order, one in DER, or PKCS #12 (RFC 7292), which is told by what
// is in it; certificate may also be the PEM text itself. The key is in the second, in
// PEM, without a passphrase; if key is empty it is in the first. Both are read by read.
//
// A PKCS #12 file is tried without a passphrase, then with that which passphrase
// returns, once; ReadCredentials overwrites it. The error names the file and wraps
// ErrPassphrase, the error of passphrase, or the operating system's.
func ReadCredentials(read Source, certificate, key string, passphrase func() ([]byte, error)) (*Credentials, error) {
	data, name := []byte(certificate), "the profile"
	if !app.IsPEM(data) {
		var err error
		if data, err = read(certificate, key == "", maxCredentials); err != nil {
			return nil, err
		}
		name = certificate
	}
	defer clear(data) // the key may be in it
	switch cert, err := x509.ParseCertificate(bytes.Clone(data)); {
	case app.IsPEM(data):
		certs, err := app.ParseCertificates(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return readKey(read, certs, data, name, key)
	case err == nil:
		return readKey(read, []*x509.Certificate{cert}, nil, name, key)
	case key != "":
		return nil, fmt.Errorf("%s is no certificate, and PKCS #12 brings its own key: leave %s out", name, key)
	}
	return readPKCS12(data, name, passphrase)
}

// ReadCertificates reads a file of CA certificates by read, in PEM or one in DER, as PEM.
// The error names the file.
func ReadCertificates(read Source, path string) (string, error) {
	data, err := read(path, false, maxCredentials)
	if err != nil {
		return "", err
	}
	if app.IsPEM(data) {
		return string(data), nil
	}
	if _, err := x509.ParseCertificate(data); err != nil {
		return "", fmt.Errorf("%s is neither PEM nor a certificate in DER", path)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: data})), nil
}

// ReadCAs replaces the paths of files with CAs by what is in them, in a list of its
// own: the service reads no files of users. The error names the file.
func ReadCAs(p *app.Profile) error {
	p.CA = slices.Clone(p.CA)
	for i, text := range p.CA {
		if app.IsPEM([]byte(text)) {
			continue
		}
		var err error
		if p.CA[i], err = ReadCertificates(AnyOwner, text); err != nil {
			return err
		}
	}
	return nil
}

// AnyOwner is the Source of a user who names files of his own: whatever can be opened.
func AnyOwner(path string, _ bool, limit int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// One buffer, so that no copy of a growing one stays behind.
	buf := make([]byte, limit+1)
	n, err := io.ReadFull(file, buf)
	if err == nil {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	if err != io.ErrUnexpectedEOF && err != io.EOF {
		clear(buf)
		return nil, err
	}
	return buf[:n], nil
}

// readKey finds the key of one of certs, in a file or else in beside.
func readKey(read Source, certs []*x509.Certificate, beside []byte, name, file string) (*Credentials, error) {
	text, where := beside, name
	if file != "" {
		var err error
		if text, err = read(file, true, maxCredentials); err != nil {
			return nil, err
		}
		defer clear(text)
		where = file
	}
	key, err := app.ParseKey(text)
	switch {
	case errors.Is(err, app.ErrEncryptedKey):
		return nil, fmt.Errorf("%s: %w, which is read from PKCS #12 only: "+
			"openssl pkcs12 -export -in CERTIFICATE -inkey KEY -out FILE.p12", where, err)
	case errors.Is(err, app.ErrNoKey) && file == "":
		return nil, fmt.Errorf("%s is a certificate without its key", name)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return newCredentials(key, certs, where, name)
}

func readPKCS12(data []byte, name string, passphrase func() ([]byte, error)) (*Credentials, error) {
	if len(data) > maxPKCS12 {
		return nil, fmt.Errorf("%s is neither PEM, nor PKCS #12 of less than %d bytes", name, maxPKCS12)
	}
	if err := checkRounds(data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	parsed, cert, others, err := pkcs12.DecodeChain(data, "")
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		secret, perr := passphrase()
		if perr != nil {
			return nil, fmt.Errorf("%s: %w", name, perr)
		}
		defer clear(secret)
		parsed, cert, others, err = pkcs12.DecodeChain(data, string(secret))
		if errors.Is(err, pkcs12.ErrIncorrectPassword) {
			return nil, fmt.Errorf("%s: %w", name, ErrPassphrase)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s is neither PEM, nor PKCS #12 with a certificate and its key: %w", name, err)
	}
	key, err := app.UsableKey(parsed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return newCredentials(key, append([]*x509.Certificate{cert}, others...), name, name)
}

// newCredentials picks the certificate of key and its issuers out of certs.
func newCredentials(key crypto.Signer, certs []*x509.Certificate, keyFile, certFile string) (*Credentials, error) {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return app.BelongsTo(key, c) })
	if i < 0 {
		return nil, fmt.Errorf("the key in %s does not belong to the certificate in %s", keyFile, certFile)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("the key in %s: %w", keyFile, err)
	}
	defer clear(der)
	c := &Credentials{Leaf: certs[i], Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
	for _, cert := range chain(certs[i], certs) {
		c.Certificate += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return c, nil
}

// chain is leaf and its issuers out of certs, by their names, without the root.
func chain(leaf *x509.Certificate, certs []*x509.Certificate) []*x509.Certificate {
	list := []*x509.Certificate{leaf}
	for len(list) < maxChain {
		last := list[len(list)-1]
		i := slices.IndexFunc(certs, func(c *x509.Certificate) bool {
			root := bytes.Equal(c.RawSubject, c.RawIssuer)
			return !root && bytes.Equal(c.RawSubject, last.RawIssuer) && !slices.ContainsFunc(list, c.Equal)
		})
		if i < 0 {
			break
		}
		list = append(list, certs[i])
	}
	return list
}
