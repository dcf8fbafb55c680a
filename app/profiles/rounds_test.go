package profiles

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

// roundsOfTests is written in three bytes, which makes files that ask for more as long
// as those that can be made.
const roundsOfTests = 1 << 15

// pkcs12Files are a user's certificate and key, by the way in which they are encrypted.
func pkcs12Files(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(1), 100), Subject: pkix.Name{CommonName: "ada"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for name, encoder := range map[string]*pkcs12.Encoder{
		"PBES2": pkcs12.Modern2023, "PBMAC1": pkcs12.Modern2026, "3DES": pkcs12.LegacyDES, "RC2": pkcs12.LegacyRC2,
	} {
		if files[name], err = encoder.WithIterations(roundsOfTests).Encode(key, cert, []*x509.Certificate{cert}, "hush"); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestRounds: all iteration counts of a file are seen, and nothing else is taken for
// one.
func TestRounds(t *testing.T) {
	for name, file := range pkcs12Files(t) {
		if n := rounds(file, maxDepth); n < 3*roundsOfTests || n > 3*roundsOfTests+1 { // PBMAC1 has a MacData beside its own
			t.Errorf("%s: %d rounds", name, n)
		}
	}
	for _, name := range []string{"modern.p12", "legacy.p12"} {
		if n := rounds([]byte(testFile(t, name)), maxDepth); n != 3*2048 {
			t.Errorf("%s: %d rounds", name, n)
		}
	}
}

// TestHostileRounds: a file that would keep us busy for hours is refused before the
// passphrase is asked for; one byte less of it is not.
func TestHostileRounds(t *testing.T) {
	count, most := []byte{2, 3, 0, 0x80, 0}, []byte{2, 3, 0x7f, 0xff, 0xff}
	for name, file := range pkcs12Files(t) {
		places := bytes.Count(file, count)
		if places != 3 {
			t.Fatalf("%s: %d counts", name, places)
		}
		for i := range places {
			parts := bytes.SplitN(file, count, i+2)
			before := bytes.Join(parts[:i+1], count)
			one := bytes.Join([][]byte{before, parts[i+1]}, most)
			if n := rounds(one, maxDepth); n > maxRounds || n < 1<<23 {
				t.Errorf("%s, count %d: %d rounds", name, i, n)
			}
		}
		path := filepath.Join(t.TempDir(), "hostile.p12")
		if err := os.WriteFile(path, bytes.ReplaceAll(file, count, most), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadCredentials(AnyOwner, path, "", func() ([]byte, error) {
			t.Errorf("%s: the passphrase was asked for", name)
			return nil, errors.New("no")
		})
		if err == nil || !strings.Contains(err.Error(), "rounds of key derivation") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAbsurdRounds: counts that fit no integer, that are negative, or that many parts
// share.
func TestAbsurdRounds(t *testing.T) {
	type params struct {
		Salt  []byte
		Count *big.Int
	}
	part := func(n *big.Int) asn1.RawValue {
		der, err := asn1.Marshal(params{[]byte("salt"), n})
		if err != nil {
			t.Fatal(err)
		}
		return asn1.RawValue{FullBytes: der}
	}
	huge := new(big.Int).Lsh(big.NewInt(1), 100)
	for _, tt := range []struct {
		name    string
		parts   []asn1.RawValue
		refused bool
	}{
		{"all that is allowed", []asn1.RawValue{part(big.NewInt(maxRounds))}, false},
		{"one more", []asn1.RawValue{part(big.NewInt(maxRounds)), part(big.NewInt(1))}, true},
		{"beyond an integer", []asn1.RawValue{part(huge)}, true},
		{"the largest integer, often", []asn1.RawValue{part(big.NewInt(1<<63 - 1)), part(big.NewInt(1<<63 - 1)), part(big.NewInt(1<<63 - 1))}, true},
		{"below zero, to make up", []asn1.RawValue{part(new(big.Int).Neg(big.NewInt(1 << 40))), part(big.NewInt(maxRounds + 1))}, true},
	} {
		der, err := asn1.Marshal(tt.parts)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkRounds(der); (err != nil) != tt.refused {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	deep := asn1.RawValue{FullBytes: part(huge).FullBytes}
	for range 10_000 {
		der, err := asn1.Marshal([]asn1.RawValue{deep})
		if err != nil {
			t.Fatal(err)
		}
		deep.FullBytes = der
	}
	checkRounds(deep.FullBytes) // returns
}

// TestLargePKCS12: a key of whatever size takes its time to be checked.
func TestLargePKCS12(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.p12")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0x30}, maxPKCS12+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCredentials(AnyOwner, path, "", nil); err == nil || !strings.Contains(err.Error(), "PKCS #12 of less than") {
		t.Errorf("%v", err)
	}
}
