package gateway

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"net"
	"sync"
	"time"
)

// Credentials are a throw-away CA and a gateway certificate that it issued.
type Credentials struct {
	CA    *x509.Certificate
	Chain []*x509.Certificate // the gateway's certificate
	Key   *rsa.PrivateKey     // the gateway's
}

// throwAwayKeys are made once per process: RSA keys take tenths of a second, and
// tests want many gateways.
var throwAwayKeys = sync.OnceValues(func() (keys [2]*rsa.PrivateKey, err error) {
	const bits = 2048
	for i := range keys {
		if keys[i], err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			return keys, err
		}
	}
	return keys, nil
})

// SelfSigned makes a CA and a gateway certificate for host names and addresses,
// valid for half a day before and after now. Every call makes another CA with
// another name; the keys, RSA with 2048 bits, are the process's own, which makes
// the first call slow.
func SelfSigned(hosts ...string) (*Credentials, error) {
	if len(hosts) == 0 {
		return nil, errors.New("gateway: a certificate needs a host")
	}
	keys, err := throwAwayKeys()
	if err != nil {
		return nil, err
	}
	const validity = 12 * time.Hour
	now := time.Now()
	serial := make([]byte, 8)
	rand.Read(serial) // cannot fail
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: new(big.Int).SetBytes(serial),
			Subject:      pkix.Name{Organization: []string{"Wayfarer demo"}, CommonName: name},
			NotBefore:    now.Add(-validity), NotAfter: now.Add(validity),
			BasicConstraintsValid: true,
		}
	}
	authority := template("CA " + hex.EncodeToString(serial))
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign
	ca, err := issue(authority, authority, keys[0], keys[0])
	if err != nil {
		return nil, err
	}
	server := template(hosts[0])
	server.KeyUsage = x509.KeyUsageDigitalSignature
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, host)
		}
	}
	cert, err := issue(server, ca, keys[1], keys[0])
	if err != nil {
		return nil, err
	}
	return &Credentials{CA: ca, Chain: []*x509.Certificate{cert}, Key: keys[1]}, nil
}

// issue signs a certificate for key by the parent's key.
func issue(template, parent *x509.Certificate, key, by *rsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
