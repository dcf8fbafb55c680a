package profiles

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"wayfarer/app"
)

// The files in testdata are OpenSSL's. The certificate of ada was issued by a CA that
// the root in cas.pem issued. The passphrase is that of filePassphrase, of empty.p12
// and certificate.p12 empty:
//
//	openssl pkcs12 -export -in ada.pem -inkey ada.key -certfile cas.pem -out modern.p12
//	openssl pkcs12 -export -legacy -in ada.pem -inkey ada.key -certfile cas.pem -out legacy.p12
//	openssl pkcs12 -export -in ada.pem -inkey ada.key -out empty.p12
//	openssl pkcs12 -export -in ada.pem -nokeys -out certificate.p12
//	openssl pkcs8 -topk8 -in ada.key -out encrypted.key
//	openssl ec -in ada.key -aes128 -out legacy.key
const filePassphrase = "päss"

func testFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// together writes files as one.
func together(t *testing.T, names ...string) string {
	t.Helper()
	var text string
	for _, name := range names {
		text += testFile(t, name)
	}
	path := filepath.Join(t.TempDir(), "together.pem")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadCredentials(t *testing.T) {
	for _, tt := range []struct {
		name             string
		certificate, key string
		passphrase       bool
		chain            []string
	}{
		{name: "PEM", certificate: "testdata/ada.pem", key: "testdata/ada.key", chain: []string{"ada"}},
		{name: "PEM text in the profile", certificate: testFile(t, "ada.pem"), key: "testdata/ada.key", chain: []string{"ada"}},
		{name: "DER", certificate: "testdata/ada.der", key: "testdata/ada.key", chain: []string{"ada"}},
		{name: "chain, in any order", certificate: together(t, "cas.pem", "ada.pem"), key: "testdata/ada.key", chain: []string{"ada", "sub"}},
		{name: "one file", certificate: together(t, "ada.key", "ada.pem", "cas.pem"), chain: []string{"ada", "sub"}},
		{name: "the same file twice", certificate: together(t, "ada.pem", "ada.key"), key: together(t, "ada.pem", "ada.key"), chain: []string{"ada"}},
		{name: "PKCS #12", certificate: "testdata/modern.p12", passphrase: true, chain: []string{"ada", "sub"}},
		{name: "PKCS #12 of old", certificate: "testdata/legacy.p12", passphrase: true, chain: []string{"ada", "sub"}},
		{name: "PKCS #12 without a passphrase", certificate: "testdata/empty.p12", chain: []string{"ada"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			secret := []byte(filePassphrase)
			asked := 0
			c, err := ReadCredentials(AnyOwner, tt.certificate, tt.key, func() ([]byte, error) {
				asked++
				return secret, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			certs, err := app.ParseCertificates([]byte(c.Certificate))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, cert := range certs {
				names = append(names, cert.Subject.CommonName)
			}
			if !reflect.DeepEqual(names, tt.chain) || !c.Leaf.Equal(certs[0]) {
				t.Errorf("chain %q, want %q", names, tt.chain)
			}
			key, err := app.ParseKey(c.Key)
			if err != nil || !app.BelongsTo(key, c.Leaf) {
				t.Errorf("key: %v", err)
			}
			if (asked == 1) != tt.passphrase || tt.passphrase != bytes.Equal(secret, make([]byte, len(secret))) {
				t.Errorf("asked %d times; the passphrase is %q now", asked, secret)
			}
			c.Zero()
			if !bytes.Equal(c.Key, make([]byte, len(c.Key))) {
				t.Error("Zero left the key")
			}
		})
	}
}

func TestReadCredentialsErrors(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big.pem")
	if err := os.WriteFile(big, make([]byte, maxCredentials+1), 0o600); err != nil {
		t.Fatal(err)
	}
	edwards := edwardsPKCS12(t)
	cancelled := errors.New("cancelled")
	for _, tt := range []struct {
		certificate, key, passphrase string
		err                          error // that is wrapped, or
		says                         string
	}{
		{certificate: "testdata/absent.pem", err: fs.ErrNotExist},
		{certificate: "testdata/ada.pem", key: "testdata/absent.key", err: fs.ErrNotExist},
		{certificate: "testdata", says: "read testdata: "},
		{certificate: big, says: "larger than"},
		{certificate: "testdata/ada.pem", key: big, says: "larger than"},
		{certificate: "testdata/ada.pem", says: "a certificate without its key"},
		{certificate: "testdata/ada.der", says: "a certificate without its key"},
		{certificate: testFile(t, "ada.pem"), says: "the profile is a certificate without its key"},
		{certificate: "testdata/ada.pem", key: "testdata/ada.pem", says: "testdata/ada.pem: no private key"},
		{certificate: "testdata/ada.key", says: "no PEM certificate"},
		{certificate: "testdata/ada.pem", key: "testdata/other.key", says: "the key in testdata/other.key does not belong to the certificate in testdata/ada.pem"},
		{certificate: "testdata/ada.pem", key: "testdata/encrypted.key", err: app.ErrEncryptedKey, says: "openssl pkcs12"},
		{certificate: "testdata/ada.pem", key: "testdata/legacy.key", err: app.ErrEncryptedKey, says: "openssl pkcs12"},
		{certificate: "testdata/modern.p12", key: "testdata/ada.key", says: "leave testdata/ada.key out"},
		{certificate: "testdata/modern.p12", passphrase: "pass", err: ErrPassphrase, says: "testdata/modern.p12: wrong passphrase"},
		{certificate: "testdata/legacy.p12", passphrase: "\U0001F511", says: "testdata/legacy.p12 is neither"},
		{certificate: "testdata/modern.p12", err: cancelled},
		{certificate: "testdata/certificate.p12", says: "testdata/certificate.p12 is neither PEM, nor PKCS #12 with a certificate and its key"},
		{certificate: "toml.go", says: "toml.go is neither PEM, nor PKCS #12"},
		{certificate: edwards, passphrase: "x", says: "neither RSA nor ECDSA"},
	} {
		t.Run(fmt.Sprintf("%.20s %s", filepath.Base(tt.certificate), filepath.Base(tt.key)), func(t *testing.T) {
			c, err := ReadCredentials(AnyOwner, tt.certificate, tt.key, func() ([]byte, error) {
				if tt.passphrase == "" {
					return nil, cancelled
				}
				return []byte(tt.passphrase), nil
			})
			if c != nil || err == nil {
				t.Fatalf("got %+v, %v", c, err)
			}
			if tt.err != nil && !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v", err)
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("not a line: %q", err)
			}
		})
	}
}

// edwardsPKCS12 is a file whose key IKEv1 knows no signature for.
func edwardsPKCS12(t *testing.T) string {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ed"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	data, err := pkcs12.Modern.Encode(key, cert, nil, "x")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ed.p12")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A chain ends, whatever the certificates say of each other.
func TestChainEnds(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(subject, issuer string) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader,
			&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject}},
			&x509.Certificate{Subject: pkix.Name{CommonName: issuer}}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	ring := []*x509.Certificate{issue("a", "b"), issue("b", "c"), issue("c", "a")}
	if got := chain(ring[0], ring); len(got) != 3 {
		t.Errorf("%d certificates of a ring of 3", len(got))
	}
	var long []*x509.Certificate
	for i := range 20 {
		long = append(long, issue(fmt.Sprint(i), fmt.Sprint(i+1)))
	}
	if got := chain(long[0], long); len(got) != maxChain {
		t.Errorf("%d certificates", len(got))
	}
}

// Whatever a file holds, reading it ends with credentials or an error. PKCS #12 is not
// among the seeds: a mutated iteration count keeps the library busy for minutes.
func FuzzReadCredentials(f *testing.F) {
	for _, name := range []string{"ada.pem", "ada.der", "ada.key", "encrypted.key"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	path := filepath.Join(f.TempDir(), "file")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ReadCredentials(AnyOwner, path, "", func() ([]byte, error) { return nil, errors.New("none") })
		if err != nil {
			return
		}
		if block, _ := pem.Decode(c.Key); block == nil || c.Leaf == nil {
			t.Errorf("got %+v", c)
		}
	})
}

func TestReadCertificates(t *testing.T) {
	want := testFile(t, "cas.pem")
	if got, err := ReadCertificates(AnyOwner, "testdata/cas.pem"); err != nil || got != want {
		t.Errorf("PEM: %v", err)
	}
	got, err := ReadCertificates(AnyOwner, "testdata/ada.der")
	if block, rest := pem.Decode([]byte(got)); err != nil || block == nil || len(rest) > 0 || string(block.Bytes) != testFile(t, "ada.der") {
		t.Errorf("DER became %q, %v", got, err)
	}
	big := filepath.Join(t.TempDir(), "big.pem")
	if err := os.WriteFile(big, bytes.Repeat([]byte(want), maxCredentials/len(want)+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		"toml.go": "toml.go is neither PEM nor a certificate in DER", "missing": syscall.Errno(2).Error(), big: "larger than",
	} {
		if _, err := ReadCertificates(AnyOwner, path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
