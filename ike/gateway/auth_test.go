package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"wayfarer/ike/isakmp"
)

// use makes the initiator authenticate by a method of the table.
func (i *initiator) use(name string) {
	i.method = row(authMethods, func(m *authMethod) bool { return m.name == name })
	i.offer[4] = isakmp.BasicAttribute(isakmp.AttrAuthMethod, i.method.id)
}

// toMM5 goes through Main Mode as far as MM5, and returns that without a proof.
func (i *initiator) toMM5(id isakmp.ID) *Message {
	i.w.t.Helper()
	i.idiBody = id.Append(nil)
	i.say(i.mm1())
	i.expect(isakmp.MainMode)
	i.say(i.mm3())
	i.takeKeys(i.expect(isakmp.MainMode))
	m := &Message{Step: MM5, Header: i.header(isakmp.MainMode, 0, true)}
	m.Add(isakmp.PayloadID, i.idiBody)
	return m
}

func groupID(name string) isakmp.ID { return isakmp.ID{Type: isakmp.IDKeyID, Data: []byte(name)} }

// TestSharedSecret: HASH_I and HASH_R prove that both sides know it, with XAUTH
// afterwards or without.
func TestSharedSecret(t *testing.T) {
	for _, method := range []string{"psk", "xauth-psk"} {
		for _, secret := range []string{"for all", "wrong"} {
			t.Run(method+", "+secret, func(t *testing.T) {
				inWorld(t, func(c *Config) { c.Secrets = map[string]string{"": "for all"} }, func(w *world) {
					i := w.newInitiator(clientAt)
					i.use(method)
					i.gw.cfg.Secrets = map[string]string{"": secret}
					m := i.toMM5(groupID("sales"))
					m.Add(isakmp.PayloadHash, i.hashI(i.idiBody))
					i.say(m)
					if secret == "wrong" {
						if answer := i.rawWithin(time.Second); answer != nil {
							t.Errorf("answer %x", answer)
						}
						return
					}
					mm6 := i.expect(isakmp.MainMode)
					if got, want := mm6.Payload(isakmp.PayloadHash), i.hashR(mm6.Payload(isakmp.PayloadID)); string(got) != string(want) {
						t.Errorf("HASH_R %x, want %x", got, want)
					}
					if c := w.gateway.Clients()[0]; c.SignedIn != (method == "psk") || method == "psk" && c.User != "sales" {
						t.Errorf("%+v", c)
					}
				})
			})
		}
	}
	t.Run("of another group", func(t *testing.T) {
		inWorld(t, func(c *Config) { c.Secrets = map[string]string{"sales": "theirs"} }, func(w *world) {
			i := w.newInitiator(clientAt)
			i.use("psk")
			i.say(i.mm1())
			i.expect(isakmp.MainMode)
			i.say(i.mm3()) // the group's name comes too late in Main Mode
			if answer := i.rawWithin(time.Second); answer != nil {
				t.Errorf("answer %x", answer)
			}
		})
	})
}

// TestMutualGroup: beside hybrid authentication the client proves to know its group's
// secret.
func TestMutualGroup(t *testing.T) {
	for name, tt := range map[string]struct {
		group, secret string
		lets          bool
	}{
		"right": {"sales", "theirs", true}, "wrong secret": {"sales", "ours", false}, "no such group": {"board", "theirs", false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(c *Config) { c.MutualGroup, c.Secrets = true, map[string]string{"sales": "theirs"} }, func(w *world) {
				i := w.newInitiator(clientAt)
				m := i.toMM5(groupID(tt.group))
				m.Add(isakmp.PayloadHash, i.hashI(i.idiBody))
				m.Add(isakmp.PayloadNotify, isakmp.Notify{
					DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: isakmp.NotifyUnityGroupHash,
					Data: i.suite.hash.hash.prf(i.keys.skeyid, []byte(tt.secret)),
				}.Append(nil))
				i.say(m)
				if answer := i.rawWithin(time.Second); (answer != nil) != tt.lets {
					t.Errorf("answer %x", answer)
				}
			})
		})
	}
}

// clientCA issues certificates of clients.
type clientCA struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// certificate is one for ada.
func (ca *clientCA) certificate(t *testing.T, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "ada"},
		DNSNames: []string{"ada.demo.test"}, EmailAddresses: []string{"ada@demo.test"},
		NotBefore: ca.cert.NotBefore, NotAfter: ca.cert.NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestClientCertificates: who signs must have a certificate of one of our CAs with
// his name in it, and its key.
func TestClientCertificates(t *testing.T) {
	keys, err := throwAwayKeys()
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signRSA := func(hash []byte) []byte {
		sig, err := keys[1].Sign(rand.Reader, hash, crypto.Hash(0))
		if err != nil {
			t.Error(err)
		}
		return sig
	}
	signEC := func(hash []byte) []byte {
		r, s, err := ecdsa.Sign(rand.Reader, ec, hash)
		if err != nil {
			t.Error(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	dn := isakmp.ID{Type: isakmp.IDDERDN}
	for _, tt := range []struct {
		name, method string
		key          crypto.PublicKey
		sign         func([]byte) []byte
		id           isakmp.ID // without data: the certificate's subject
		change       func(m *Message)
		lets         bool
	}{
		{name: "RSA", method: "rsa", key: keys[1].Public(), sign: signRSA, id: dn, lets: true},
		{name: "RSA and XAUTH", method: "xauth-rsa", key: keys[1].Public(), sign: signRSA, id: dn, lets: true},
		{name: "host name", method: "rsa", key: keys[1].Public(), sign: signRSA, id: isakmp.ID{Type: isakmp.IDFQDN, Data: []byte("ada.demo.test")}, lets: true},
		{name: "address", method: "rsa", key: keys[1].Public(), sign: signRSA, id: isakmp.ID{Type: isakmp.IDUserFQDN, Data: []byte("ada@demo.test")}, lets: true},
		{name: "another's name", method: "rsa", key: keys[1].Public(), sign: signRSA, id: isakmp.ID{Type: isakmp.IDFQDN, Data: []byte("bob.demo.test")}},
		{name: "another's key", method: "rsa", key: keys[0].Public(), sign: signRSA, id: dn},
		{name: "a key of another kind", method: "rsa", key: ec.Public(), sign: signEC, id: dn},
		{name: "no certificate", method: "rsa", key: keys[1].Public(), sign: signRSA, id: dn, change: func(m *Message) { m.Remove(isakmp.PayloadCert) }},
		{name: "no signature", method: "rsa", key: keys[1].Public(), sign: signRSA, id: dn, change: func(m *Message) { m.Remove(isakmp.PayloadSig) }},
		{name: "garbage for a certificate", method: "rsa", key: keys[1].Public(), sign: signRSA, id: dn, change: func(m *Message) {
			m.Replace(isakmp.PayloadCert, []byte{isakmp.CertX509Sig, 1, 2, 3})
		}},
		{name: "nothing for a certificate", method: "rsa", key: keys[1].Public(), sign: signRSA, id: dn, change: func(m *Message) {
			m.Replace(isakmp.PayloadCert, nil)
		}},
		{name: "ECDSA", method: "ecdsa-256", key: ec.Public(), sign: signEC, id: dn, lets: true},
		{name: "ECDSA, spoilt", method: "ecdsa-256", key: ec.Public(), sign: func(hash []byte) []byte { return signEC(append([]byte{1}, hash...)) }, id: dn},
		{name: "RSA for ECDSA", method: "ecdsa-256", key: keys[1].Public(), sign: signRSA, id: dn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ca clientCA
			inWorld(t, func(c *Config) {
				creds, err := SelfSigned("clients.demo.test") // their CA
				if err != nil {
					t.Fatal(err)
				}
				ca = clientCA{creds.CA, keys[0]}
				c.ClientCAs = append(c.ClientCAs, creds.CA)
				if tt.method == "ecdsa-256" {
					c.Key = ec
				}
			}, func(w *world) {
				cert := ca.certificate(t, tt.key)
				id := tt.id
				if id.Data == nil {
					id.Data = cert.RawSubject
				}
				i := w.newInitiator(clientAt)
				i.use(tt.method)
				m := i.toMM5(id)
				m.Add(isakmp.PayloadCert, isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: cert.Raw}.Append(nil))
				m.Add(isakmp.PayloadCert, isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: ca.cert.Raw}.Append(nil))
				m.Add(isakmp.PayloadSig, tt.sign(i.hashI(i.idiBody)))
				if tt.change != nil {
					tt.change(m)
				}
				i.say(m)
				if answer := i.rawWithin(time.Second); (answer != nil) != tt.lets {
					t.Errorf("answer of %d bytes", len(answer))
				}
			})
		})
	}
}

// TestNoKeyForMethod: a gateway whose key is of neither kind offers nothing that it
// would have to sign.
func TestNoKeyForMethod(t *testing.T) {
	g := &Gateway{cfg: Config{Key: oddSigner{}}}
	for _, m := range authMethods {
		if g.offers(m) {
			t.Errorf("offers %s", m.name)
		}
	}
}

type oddSigner struct{ crypto.Signer }

func (oddSigner) Public() crypto.PublicKey { return nil }
