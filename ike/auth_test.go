package ike

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

const (
	testGroup       = "sales"
	testGroupSecret = "of the group"
)

// ecdsaKeys are made once, two for each curve: a gateway's and a client's.
var ecdsaKeys = sync.OnceValue(func() map[elliptic.Curve][2]*ecdsa.PrivateKey {
	keys := make(map[elliptic.Curve][2]*ecdsa.PrivateKey)
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		var pair [2]*ecdsa.PrivateKey
		for i := range pair {
			key, err := ecdsa.GenerateKey(c, rand.Reader)
			if err != nil {
				panic(err)
			}
			pair[i] = key
		}
		keys[c] = pair
	}
	return keys
})

// certifyBoth gives the gateway and the client certificates of one CA.
func (w *world) certifyBoth(gw, client crypto.Signer) {
	pki := &testPKI{t: w.t}
	days := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(48 * time.Hour) }
	ca := pki.ca("CA of both", nil, testKeys().ca, days)
	w.gateway.Key, w.gateway.ClientCAs = gw, []*x509.Certificate{ca.cert}
	w.gateway.Chain = []*x509.Certificate{pki.gatewayWithKey(ca, gw.Public(), days)}
	w.client.Key = client
	w.client.Certificates = []*x509.Certificate{pki.gatewayWithKey(ca, client.Public(), days, func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames, c.EmailAddresses = "ada", nil, []string{"ada@example.com"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})}
	w.client.Trust = Trust{CAs: []*x509.Certificate{ca.cert}}
}

// withSecret lets both sides share a group's secret, and sends the group's name.
func (w *world) withSecret() {
	w.client.GroupSecret, w.client.AllowWeak = Secret(testGroupSecret), WeakPSKAggressive
	w.client.LocalID = &Identity{Type: isakmp.IDKeyID, Data: []byte(testGroup)}
	w.gateway.Secrets = map[string]string{testGroup: testGroupSecret}
	if w.client.Exchange == ExchangeMain { // where the gateway does not see the name in time
		w.gateway.Secrets = map[string]string{"": testGroupSecret}
	}
}

// authentications are all ways to authenticate; setup is called with the exchange
// set.
var authentications = []struct {
	name  string
	auth  AuthMethod
	setup func(*world)
	login bool
}{
	{"hybrid-rsa", AuthHybrid, func(*world) {}, true},
	{"xauth-psk", AuthXAUTHPSK, (*world).withSecret, true},
	{"xauth-rsa", AuthXAUTHRSA, func(w *world) { w.certifyBoth(testKeys().gateway, testKeys().sub) }, true},
	{"psk", AuthPSK, (*world).withSecret, false},
	{"rsa", AuthRSA, func(w *world) { w.certifyBoth(testKeys().gateway, testKeys().sub) }, false},
	{"ecdsa-256", AuthRSA, ecdsaOn(elliptic.P256()), false},
	{"ecdsa-384", AuthRSA, ecdsaOn(elliptic.P384()), false},
	{"ecdsa-521", AuthRSA, ecdsaOn(elliptic.P521()), false},
}

func ecdsaOn(c elliptic.Curve) func(*world) {
	return func(w *world) { w.certifyBoth(ecdsaKeys()[c][0], ecdsaKeys()[c][1]) }
}

// TestAuthentications connects in every way, in both exchanges, with suites of
// different hashes. The gateway derives its keys and checks the client's proof by
// code of its own.
func TestAuthentications(t *testing.T) {
	for _, tt := range authentications {
		for _, suite := range []string{"aes256-sha256-ecp256", "aes128-sha1-ecp256", "aes256-sha512-ecp384"} {
			t.Run(tt.name+" "+suite, func(t *testing.T) {
				inBoth(t, func(w *world) {
					w.client.IKE = suites(w.t, ParseIKESuite, suite)
					w.client.Auth = tt.auth
					tt.setup(w)
					w.start()
					s := w.dial()
					w.exchangePackets(s, receive(s), "hello")
					if st := s.Stats(); st.Auth != tt.name || st.Suite != suite || st.Exchange != w.client.Exchange {
						w.t.Errorf("stats %+v", st)
					}
					if n := len(w.messages(gateway.XAuthReply)); (n == 1) != tt.login {
						w.t.Errorf("%d XAUTH replies", n)
					}
					if slices.Contains(w.steps(), StepSignIn) != tt.login {
						w.t.Errorf("steps %v", w.steps())
					}
				})
			})
		}
	}
}

// TestSecretRefused: a gateway that does not know the group's secret is not believed,
// and what it sends does not leave us with a login sent.
func TestSecretRefused(t *testing.T) {
	for _, auth := range []AuthMethod{AuthPSK, AuthXAUTHPSK} {
		for name, setup := range map[string]func(*world){
			"another secret": func(w *world) {
				w.gateway.Secrets = map[string]string{testGroup: "guess", "": "guess"}
			},
			"HASH_R missing": func(w *world) { w.changeProof(func(m *gateway.Message) { m.Remove(isakmp.PayloadHash) }) },
			"HASH_R with one bit changed": func(w *world) {
				w.changeProof(func(m *gateway.Message) { m.Payload(isakmp.PayloadHash)[5] ^= 16 })
			},
			"HASH_R of one byte": func(w *world) {
				w.changeProof(func(m *gateway.Message) { m.Replace(isakmp.PayloadHash, m.Payload(isakmp.PayloadHash)[:1]) })
			},
			"SIG in place of HASH_R": func(w *world) {
				w.changeProof(func(m *gateway.Message) {
					hash := m.Payload(isakmp.PayloadHash)
					m.Remove(isakmp.PayloadHash)
					m.Add(isakmp.PayloadSig, hash)
				})
			},
			"another identity than expected": func(w *world) {
				w.client.RemoteID = &Identity{Type: isakmp.IDFQDN, Data: []byte("other.example.com")}
			},
		} {
			t.Run(string(auth)+" "+name, func(t *testing.T) {
				inBoth(t, func(w *world) {
					w.client.Auth = auth
					w.withSecret()
					setup(w)
					w.start()
					_, err := w.notBelieved()
					if name == "another secret" && w.client.Exchange == ExchangeMain {
						// The gateway cannot read MM5, and says nothing.
						if e := wantError[*NoAnswerError](w.t, err); e.Step != StepCheckCertificate {
							w.t.Errorf("%v", err)
						}
						return
					}
					want := TrustSecret
					if name == "another identity than expected" {
						want = TrustName
					}
					if e := wantError[*TrustError](w.t, err); e.Reason != want || e.Askable {
						w.t.Errorf("%+v", *e)
					}
				})
			})
		}
	}
}

// TestAnotherSecretInMainMode: what a gateway with another secret sends does not
// decrypt. That ends the attempt soon, unless something follows that does: anybody can
// send noise.
func TestAnotherSecretInMainMode(t *testing.T) {
	for garbled, connects := range map[int]bool{1: true, 100: false} {
		t.Run(fmt.Sprint(garbled), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Auth, w.client.Exchange = AuthXAUTHPSK, ExchangeMain
				w.withSecret()
				w.start()
				count := 0
				w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
					h, ok := ikeHeader(from, to, data)
					if !ok || !toClient(from) || !h.Encrypted() {
						return deliver(data)
					}
					w.mu.Lock()
					defer w.mu.Unlock()
					if count++; count > garbled {
						return deliver(data)
					}
					noise := slices.Clone(data)
					noise[len(noise)-int(h.Length)+isakmp.HeaderLen] ^= 0x5a // in the first block: garbles that
					return deliver(noise)
				})
				if connects {
					w.dial()
					return
				}
				d, err := w.notBelieved()
				if e := wantError[*TrustError](w.t, err); e.Reason != TrustSecret || e.Step != StepCheckCertificate || d != refusedPatience {
					t.Errorf("after %v: %v", d, err)
				}
			})
		})
	}
}

// TestClientProofCounts: the gateway checks how the client proves itself, so that the
// tests above mean something.
func TestClientProofCounts(t *testing.T) {
	for _, tt := range authentications {
		if tt.auth != AuthXAUTHRSA && tt.auth != AuthRSA {
			continue
		}
		for name, spoil := range map[string]func(*world){
			"of another CA":    func(w *world) { w.gateway.ClientCAs = []*x509.Certificate{w.creds.CA} },
			"key of another":   func(w *world) { w.client.Key = w.gateway.Key },
			"identity of none": func(w *world) { w.client.LocalID = &Identity{Type: isakmp.IDFQDN, Data: []byte("bob.example.com")} },
		} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.client.Auth, w.client.Exchange = tt.auth, ExchangeMain
					tt.setup(w)
					spoil(w)
					w.start()
					_, err := w.notBelieved()
					wantError[*NoAnswerError](w.t, err)
				})
			})
		}
	}
}

// TestClientIdentity: the profile's identity is sent in place of the certificate's
// subject.
func TestClientIdentity(t *testing.T) {
	inBoth(t, func(w *world) {
		w.client.Auth = AuthRSA
		w.certifyBoth(testKeys().gateway, testKeys().sub)
		w.client.LocalID = &Identity{Type: isakmp.IDUserFQDN, Data: []byte("ada@example.com")}
		w.start()
		w.dial()
		if c := w.gw.Clients(); len(c) != 1 || c[0].User != "ada@example.com" {
			w.t.Errorf("clients %+v", c)
		}
	})
}

// TestGatewayKeyKind: with a method for one kind of key, a certificate of another kind
// is refused, however good.
func TestGatewayKeyKind(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Auth, w.client.Exchange = AuthRSA, ExchangeMain
		w.certifyBoth(testKeys().gateway, testKeys().sub)
		curve := ecdsaKeys()[elliptic.P256()][0]
		pki := &testPKI{t: w.t}
		ca := pki.ca("CA", nil, testKeys().ca)
		w.client.Trust.CAs = []*x509.Certificate{ca.cert}
		w.gateway.Chain = []*x509.Certificate{pki.gatewayWithKey(ca, curve.Public())}
		w.start()
		_, err := w.notBelieved()
		if e := wantError[*TrustError](w.t, err); e.Reason != TrustSignature {
			t.Errorf("%+v", *e)
		}
	})
}

// disguised is a key that says it is RSA, and signs with ECDSA.
type disguised struct {
	crypto.PublicKey
	key *ecdsa.PrivateKey
}

func (d *disguised) Public() crypto.PublicKey { return d.PublicKey }

func (d *disguised) Sign(rand io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	der, err := ecdsa.SignASN1(rand, d.key, digest)
	if err != nil {
		return nil, err
	}
	return rawECDSA(der, d.key.Curve)
}

// TestGatewayKeyInDisguise: a right signature by the key of a trusted certificate is
// none if it is not of the kind that was agreed.
func TestGatewayKeyInDisguise(t *testing.T) {
	inBoth(t, func(w *world) {
		curve := ecdsaKeys()[elliptic.P256()][0]
		w.certifyBoth(curve, testKeys().sub)
		w.gateway.Key = &disguised{&testKeys().gateway.PublicKey, curve}
		w.client.Key, w.client.Certificates = nil, nil // hybrid authentication, with RSA
		w.start()
		_, err := w.notBelieved()
		if e := wantError[*TrustError](w.t, err); e.Reason != TrustSignature {
			w.t.Errorf("%+v", *e)
		}
	})
}

// TestMutualGroup: beside hybrid authentication, Cisco's gateways want to know that
// the client knows the group's password.
func TestMutualGroup(t *testing.T) {
	for secret, good := range map[string]bool{testGroupSecret: true, "wrong": false, "": false} {
		inBoth(t, func(w *world) {
			w.gateway.MutualGroup, w.gateway.Secrets = true, map[string]string{testGroup: testGroupSecret}
			w.client.LocalID = &Identity{Type: isakmp.IDKeyID, Data: []byte(testGroup)}
			if secret != "" {
				w.client.GroupSecret = Secret(secret)
			}
			w.start()
			if good {
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				return
			}
			_, err := w.tryDial()
			wantError[*NoAnswerError](w.t, err)
			if n := len(w.messages(gateway.XAuthReply)); n != 0 {
				w.t.Errorf("%d XAUTH replies", n)
			}
		})
	}
}

// TestOffice: a satellite office has networks of its own instead of an address from
// the gateway.
func TestOffice(t *testing.T) {
	for _, tt := range authentications {
		if tt.login {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.client.Auth = tt.auth
				tt.setup(w)
				w.client.LocalNetworks = prefixes("192.168.7.0/24")
				w.client.RemoteNetworks = prefixes("10.10.0.0/16", "10.20.0.0/16")
				w.gateway.Offices = prefixes("192.168.0.0/16")
				w.gateway.Networks = prefixes("10.0.0.0/8")
				w.start()
				s := w.dial()
				received := receive(s)
				if a := s.Assignment(); len(a.Addresses) != 0 || len(w.messages(gateway.ConfigRequest)) != 0 {
					w.t.Errorf("assignment %+v", a)
				}
				if st := s.Stats(); len(st.Children) != 2 {
					w.t.Fatalf("ESP SAs %+v", st.Children)
				}
				for _, remote := range []string{"10.10.0.2", "10.20.0.9"} {
					out, in := ipv4(netip.MustParseAddr("192.168.7.33"), netip.MustParseAddr(remote), "out"), ipv4(netip.MustParseAddr(remote), netip.MustParseAddr("192.168.7.33"), "in")
					send(w.t, s, out)
					synctest.Wait()
					if err := w.gw.SendPacket(in); err != nil {
						w.t.Fatal(err)
					}
					synctest.Wait()
					if !w.gatewayHas(out) || !containsPacket(received(), in) {
						w.t.Errorf("%s: out arrived %v, in arrived %v", remote, w.gatewayHas(out), containsPacket(received(), in))
					}
				}
			})
		})
	}
}

// TestOfficeRefused: networks that the gateway does not grant.
func TestOfficeRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Auth, w.client.Exchange = AuthPSK, ExchangeMain
		w.withSecret()
		w.client.LocalNetworks = prefixes("192.168.7.0/24")
		w.gateway.Offices = prefixes("192.168.8.0/24")
		w.start()
		_, err := w.tryDial()
		if e := wantError[*RefusedError](w.t, err); e.What != RefusedSettings || e.Step != StepBuildTunnel {
			t.Errorf("%+v", *e)
		}
	})
}

// TestEmptyUSERFQDN and other identities arrive as they are.
func TestIdentitiesArrive(t *testing.T) {
	for _, id := range []Identity{
		{Type: isakmp.IDKeyID, Data: []byte("group with blanks")},
		{Type: isakmp.IDUserFQDN, Data: []byte{}}, // Check Point's
		{Type: isakmp.IDFQDN, Data: []byte("road.example.com")},
		{Type: isakmp.IDIPv4Addr, Data: net.IPv4(192, 0, 2, 99).To4()},
	} {
		inBoth(t, func(w *world) {
			w.client.LocalID = &id
			step := gateway.MM5
			if w.client.Exchange == ExchangeAggressive {
				step = gateway.AM1
			}
			w.start()
			w.dial()
			got, err := isakmp.ParseID(w.messages(step)[0].Payload(isakmp.PayloadID))
			if err != nil || got.Type != id.Type || string(got.Data) != string(id.Data) || got.Port != 0 {
				w.t.Errorf("sent %+v, %v", got, err)
			}
		})
	}
}
