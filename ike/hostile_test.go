package ike

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// certify gives the gateway another certificate, of a CA that the client trusts.
func (w *world) certify(edits ...func(*x509.Certificate)) {
	pki := &testPKI{t: w.t}
	ca := pki.ca("CA", nil, testKeys().ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(8 * 24 * time.Hour) })
	edits = append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"gw.example.com"}, []net.IP{gatewayAddr.AsSlice()}
	}}, edits...)
	w.gateway.Chain, w.gateway.Key = []*x509.Certificate{pki.gateway(ca, edits...)}, testKeys().gateway
	w.client.Trust.CAs = []*x509.Certificate{ca.cert}
}

// changeProof alters the message in which the gateway proves who it is.
func (w *world) changeProof(f func(*gateway.Message)) {
	w.change(gateway.MM6, f)
	w.change(gateway.AM2, f)
}

// signedHash takes HASH_R out of a signature: what a man in the middle, who knows
// all keys, would put in place of a signature that he cannot make.
func signedHash(key *rsa.PublicKey, sig []byte, size int) []byte {
	m := new(big.Int).Exp(new(big.Int).SetBytes(sig), big.NewInt(int64(key.E)), key.N)
	b := m.Bytes()
	return b[len(b)-size:]
}

// notBelieved dials and checks that nothing about the user has left: no Transaction
// was sent, with whatever content.
func (w *world) notBelieved() (time.Duration, error) {
	w.t.Helper()
	var err error
	d := elapsed(func() { _, err = w.tryDial() })
	transactions := w.sent(func(m datagram) bool {
		h, ok := ikeHeader(m.from, m.to, m.data)
		return ok && byClient(m) && h.Exchange == isakmp.Transaction
	})
	if len(transactions) != 0 || len(w.messages(gateway.XAuthReply)) != 0 {
		w.t.Errorf("%d Transactions were sent to a gateway that is not trusted", len(transactions))
	}
	if err == nil {
		w.t.Fatal("connected")
	}
	return d, err
}

// TestUntrusted: in both exchanges, the login does not leave before SIG_R,
// certificate and name have been verified.
func TestUntrusted(t *testing.T) {
	host := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{name}, nil }
	}
	leafPin := func(w *world) [32]byte { return sha256.Sum256(w.gateway.Chain[0].Raw) }
	for _, tt := range []struct {
		name   string
		setup  func(*world)
		reason TrustReason
		ask    bool
		needs  Weak
	}{
		{"SIG missing", func(w *world) { w.changeProof(func(m *gateway.Message) { m.Remove(isakmp.PayloadSig) }) }, TrustSignature, false, 0},
		{"right HASH in place of SIG", func(w *world) {
			w.changeProof(func(m *gateway.Message) {
				hash := signedHash(&w.creds.Key.PublicKey, m.Payload(isakmp.PayloadSig), sha256.Size)
				m.Remove(isakmp.PayloadSig)
				m.Add(isakmp.PayloadHash, hash)
			})
		}, TrustSignature, false, 0},
		{"SIG with one bit changed", func(w *world) {
			w.changeProof(func(m *gateway.Message) { m.Payload(isakmp.PayloadSig)[17] ^= 1 })
		}, TrustSignature, false, 0},
		{"SIG of no bytes", func(w *world) {
			w.changeProof(func(m *gateway.Message) { m.Replace(isakmp.PayloadSig, nil) })
		}, TrustSignature, false, 0},
		{"SIG by another key", func(w *world) { w.gateway.Key = testKeys().rogue }, TrustSignature, false, 0},
		{"SIG over another identity", func(w *world) {
			w.changeProof(func(m *gateway.Message) {
				m.Replace(isakmp.PayloadID, isakmp.ID{Type: isakmp.IDIPv4Addr, Data: gatewayAddr.AsSlice()}.Append(nil))
			})
		}, TrustSignature, false, 0},
		{"certificate missing", func(w *world) { w.changeProof(func(m *gateway.Message) { m.Remove(isakmp.PayloadCert) }) }, TrustMissing, false, 0},
		{"certificate unreadable", func(w *world) {
			w.changeProof(func(m *gateway.Message) {
				m.Replace(isakmp.PayloadCert, isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: []byte("certificate")}.Append(nil))
			})
		}, TrustInvalid, false, 0},
		{"expired", func(w *world) {
			w.certify(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
		}, TrustExpired, false, WeakExpired},
		{"not yet valid", func(w *world) {
			w.certify(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
		}, TrustExpired, false, WeakExpired},
		{"of another host", func(w *world) { w.certify(host("other.example.com")) }, TrustName, true, 0},
		{"identity not in the certificate", func(w *world) {
			w.gateway.Identity = isakmp.ID{Type: isakmp.IDFQDN, Data: []byte("other.example.com")}
		}, TrustName, true, 0},
		{"another identity than expected", func(w *world) {
			w.client.RemoteID = &Identity{Type: isakmp.IDFQDN, Data: []byte("other.example.com")}
		}, TrustName, true, 0},
		{"identity of a wrong length", func(w *world) {
			w.gateway.Identity = isakmp.ID{Type: isakmp.IDIPv4Addr, Data: []byte{192, 0, 2}}
		}, TrustInvalid, false, 0},
		{"unknown CA", func(w *world) {
			w.client.Trust.CAs = []*x509.Certificate{(&testPKI{t: w.t}).ca("other CA", nil, testKeys().rogue).cert}
		}, TrustIssuer, false, 0},
		{"nothing configured", func(w *world) { w.client.Trust = Trust{} }, TrustUnknown, true, 0},
		{"nothing configured, SIG by another key", func(w *world) {
			w.client.Trust, w.gateway.Key = Trust{}, testKeys().rogue
		}, TrustSignature, false, 0},
		{"another certificate than pinned", func(w *world) { w.client.Trust = Trust{Pin: [32]byte{1}} }, TrustPin, false, 0},
		{"pinned, SIG by another key", func(w *world) {
			w.client.Trust, w.gateway.Key = Trust{Pin: leafPin(w)}, testKeys().rogue
		}, TrustSignature, false, 0},
		{"pinned, but expired", func(w *world) {
			w.certify(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
			w.client.Trust = Trust{Pin: leafPin(w)}
		}, TrustExpired, false, WeakExpired},
		{"a client's certificate", func(w *world) {
			w.certify(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		}, TrustUsage, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				tt.setup(w)
				w.start()
				d, err := w.notBelieved()
				e := wantError[*TrustError](w.t, err)
				if e.Step != StepCheckCertificate || e.Reason != tt.reason || e.Askable != tt.ask || e.Needs != tt.needs {
					w.t.Errorf("%v: %+v", e, *e)
				}
				if tt.ask && e.SHA256() != leafPin(w) {
					w.t.Errorf("asks about %x", e.SHA256())
				}
				// Whoever encrypts MM6 and proves himself in it is the one that we talk
				// to. Without a proof it may have been altered, and AM2 may be anybody's.
				proved := tt.reason != TrustSignature && tt.reason != TrustMissing && tt.name != "certificate unreadable"
				patience := refusedPatience
				if proved && w.client.Exchange == ExchangeMain {
					patience = 0
				}
				if d != patience {
					w.t.Errorf("it took %v", d)
				}
				if synctest.Wait(); w.client.Exchange == ExchangeMain && len(w.gw.Clients()) != 0 {
					w.t.Error("the gateway was not told by a Delete")
				}
			})
		})
	}
}

// TestTrusted: what the cases above would be if all were well.
func TestTrusted(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setup func(*world)
	}{
		{"by its name", func(w *world) { w.certify() }},
		{"by its address", func(w *world) {
			w.certify(func(c *x509.Certificate) { c.DNSNames = nil })
		}},
		{"by the identity of the profile", func(w *world) {
			w.certify(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"other.example.com"}, nil })
			w.client.RemoteID = &Identity{Type: isakmp.IDFQDN, Data: []byte("OTHER.example.com")}
		}},
		{"expired, which is allowed", func(w *world) {
			w.certify(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
			w.client.AllowWeak = WeakExpired
		}},
		{"pinned, of an unknown CA and another host", func(w *world) {
			w.certify(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"other.example.com"}, nil })
			w.client.Trust = Trust{Pin: sha256.Sum256(w.gateway.Chain[0].Raw)}
		}},
		{"certificate only on request", func(w *world) { w.gateway.CertOnRequest = true }},
		{"asked for our certificate", func(w *world) { // to which hybrid owes an empty one
			for _, step := range []gateway.Step{gateway.MM4, gateway.AM2} {
				w.change(step, func(m *gateway.Message) { m.Add(isakmp.PayloadCertReq, []byte{isakmp.CertX509Sig}) })
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				tt.setup(w)
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				if got := s.Stats().CertificateSHA256; got != sha256.Sum256(w.gateway.Chain[0].Raw) {
					w.t.Errorf("the certificate is told as %x", got)
				}
				for _, step := range []gateway.Step{gateway.MM5, gateway.AM3} {
					for _, m := range w.messages(step) {
						if want := tt.name == "asked for our certificate"; (m.Payload(isakmp.PayloadCert) != nil) != want {
							w.t.Errorf("an empty certificate was sent: %v", !want)
						}
					}
				}
			})
		})
	}
}

// TestForgedProof: forgeries in front of the true message do not matter.
func TestForgedProof(t *testing.T) {
	other := func(h isakmp.Header, _ []byte) [][]byte {
		h.CKYR[0] ^= 1
		return [][]byte{isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadSA, Body: []byte("SA")})}
	}
	flip := func(at int) func(isakmp.Header, []byte) [][]byte { // counted from the end
		return func(_ isakmp.Header, m []byte) [][]byte {
			m[len(m)-at] ^= 1
			return [][]byte{m}
		}
	}
	cookie := func(_ isakmp.Header, m []byte) [][]byte {
		m[15] ^= 1 // the last byte of CKY-R
		return [][]byte{m}
	}
	for _, tt := range []struct {
		name     string
		exchange Exchange
		message  int
		forge    func(isakmp.Header, []byte) [][]byte
	}{
		{"AM2 with a broken signature", ExchangeAggressive, 0, flip(1)},
		{"AM2 with another cookie", ExchangeAggressive, 0, cookie},
		{"AM2 that says nothing", ExchangeAggressive, 0, other},
		{"AM2 with another KE", ExchangeAggressive, 0, func(_ isakmp.Header, m []byte) [][]byte {
			kx, err := findGroup("ecp256").newKeyExchange(zeroReader{1})
			if err != nil {
				panic(err)
			}
			i := 28 + 4 + len(firstBody(m)) // KE follows SA
			copy(m[i+4:], kx.public())
			return [][]byte{m}
		}},
		{"MM4 with another cookie", ExchangeMain, 1, cookie},
		{"MM6 with another cookie", ExchangeMain, 2, cookie},
		{"MM6 cut short", ExchangeMain, 2, func(h isakmp.Header, m []byte) [][]byte {
			h.Length = 28 + 17
			return [][]byte{append(h.Append(nil), m[28:28+17]...)}
		}},
		{"REQUEST with a broken HASH", ExchangeMain, 3, flip(1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = tt.exchange
				w.gateway.FragmentSize = -1
				w.forgeBefore(tt.message, tt.forge)
				w.start()
				s := w.dial()
				if d := time.Since(w.began); d != time.Second {
					t.Errorf("connecting took %v", d)
				}
				w.exchangePackets(s, receive(s), "hello")
			})
		})
	}
}

// firstBody is the body of a message's first payload.
func firstBody(m []byte) []byte {
	h, body, err := isakmp.ParseHeader(m)
	if err != nil {
		panic(err)
	}
	ps, _, err := isakmp.ParsePayloads(h.NextPayload, body)
	if err != nil {
		panic(err)
	}
	return ps[0].Body
}

// zeroReader reads bytes of one value.
type zeroReader struct{ value byte }

func (z zeroReader) Read(b []byte) (int, error) {
	return copy(b, bytes.Repeat([]byte{z.value}, len(b))), nil
}

// changeSA alters the gateway's SA answer of the given steps.
func (w *world) changeSA(f func(*isakmp.SA), steps ...gateway.Step) {
	for _, step := range steps {
		w.change(step, func(m *gateway.Message) {
			sa, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
			if err != nil {
				w.t.Error(err)
				return
			}
			f(&sa)
			m.Replace(isakmp.PayloadSA, sa.Append(nil))
		})
	}
}

// attributes are those of the answer's only transform.
func attributes(sa *isakmp.SA) *[]isakmp.Attribute { return &sa.Proposals[0].Transforms[0].Attributes }

// set replaces an attribute of the answer.
func set(typ, value uint16) func(*isakmp.SA) {
	return func(sa *isakmp.SA) {
		for i, a := range *attributes(sa) {
			if a.Type == typ {
				(*attributes(sa))[i] = isakmp.BasicAttribute(typ, value)
			}
		}
	}
}

// add appends an attribute to the answer.
func add(typ, value uint16) func(*isakmp.SA) {
	return func(sa *isakmp.SA) { *attributes(sa) = append(*attributes(sa), isakmp.BasicAttribute(typ, value)) }
}

// without takes attributes out of the answer.
func without(types ...uint16) func(*isakmp.SA) {
	return func(sa *isakmp.SA) {
		*attributes(sa) = slices.DeleteFunc(*attributes(sa), func(a isakmp.Attribute) bool { return slices.Contains(types, a.Type) })
	}
}

func both(fs ...func(*isakmp.SA)) func(*isakmp.SA) {
	return func(sa *isakmp.SA) {
		for _, f := range fs {
			f(sa)
		}
	}
}

// TestPhase1AnswerRefused: the answer must mean exactly one transform that was
// offered. SIG_R covers our offer, not the answer, so nothing else protects it.
func TestPhase1AnswerRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*isakmp.SA)
	}{
		{"another cipher", both(set(isakmp.AttrEncryption, isakmp.Cipher3DES), without(isakmp.AttrKeyLength))},
		{"DES", both(set(isakmp.AttrEncryption, isakmp.CipherDES), without(isakmp.AttrKeyLength))},
		{"another key length", set(isakmp.AttrKeyLength, 128)},
		{"no key length", without(isakmp.AttrKeyLength)}, // means 128
		{"another hash", set(isakmp.AttrHash, isakmp.HashSHA1)},
		{"no hash", without(isakmp.AttrHash)},
		{"another group", set(isakmp.AttrGroup, isakmp.GroupMODP2048)},
		{"no group", without(isakmp.AttrGroup)},
		{"pre-shared key", set(isakmp.AttrAuthMethod, isakmp.AuthPSK)},
		{"signatures", set(isakmp.AttrAuthMethod, isakmp.AuthRSASig)},
		{"hybrid the other way round", set(isakmp.AttrAuthMethod, isakmp.AuthHybridRespRSA)},
		{"XAUTH with a pre-shared key", set(isakmp.AttrAuthMethod, isakmp.AuthXAUTHInitPSK)},
		{"no method", without(isakmp.AttrAuthMethod)},
		{"a PRF", add(isakmp.AttrPRF, 1)},
		{"an attribute twice", add(isakmp.AttrHash, isakmp.HashSHA256)},
		{"an attribute without a value", func(sa *isakmp.SA) {
			*attributes(sa) = append(*attributes(sa), isakmp.Attribute{Type: isakmp.AttrHash})
		}},
		{"two transforms", func(sa *isakmp.SA) {
			p := &sa.Proposals[0]
			p.Transforms = append(p.Transforms, p.Transforms[0])
		}},
		{"two proposals", func(sa *isakmp.SA) { sa.Proposals = append(sa.Proposals, sa.Proposals[0]) }},
		{"for ESP", func(sa *isakmp.SA) { sa.Proposals[0].Protocol = isakmp.ProtoESP }},
		{"another transform ID", func(sa *isakmp.SA) { sa.Proposals[0].Transforms[0].ID = 2 }},
		{"another DOI", func(sa *isakmp.SA) { sa.DOI = 2 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.changeSA(tt.change, gateway.MM2, gateway.AM2)
				w.start()
				d, err := w.notBelieved()
				if e := wantError[*ProtocolError](w.t, err); e.Step != StepAgreeSecurity || d != refusedPatience {
					w.t.Errorf("after %v: %v", d, e)
				}
			})
		})
	}
}

// TestPhase1AnswerAccepted: the same meaning may be written in other ways, and the
// lifetime is the shorter one.
func TestPhase1AnswerAccepted(t *testing.T) {
	long := func(sa *isakmp.SA) {
		*attributes(sa) = append(*attributes(sa), isakmp.BasicAttribute(isakmp.AttrLifeType, isakmp.LifeSeconds),
			isakmp.NumberAttribute(isakmp.AttrLifeDuration, 86400))
	}
	lifetimes := []uint16{isakmp.AttrLifeType, isakmp.AttrLifeDuration}
	for _, tt := range []struct {
		name   string
		change func(*isakmp.SA)
		life   time.Duration
	}{
		{"as offered", func(*isakmp.SA) {}, phase1Lifetime},
		{"longer lifetime", both(without(lifetimes...), long), phase1Lifetime},
		{"shorter lifetime", set(isakmp.AttrLifeDuration, 600), 600 * time.Second},
		{"lifetime of nothing", set(isakmp.AttrLifeDuration, 0), phase1Lifetime},
		{"lifetime of a second", set(isakmp.AttrLifeDuration, 1), phase1Lifetime},
		{"no lifetime", without(lifetimes...), defaultLifetime},
		{"lifetime in kilobytes", set(isakmp.AttrLifeType, isakmp.LifeKilobytes), phase1Lifetime},
		{"key length left out", without(isakmp.AttrKeyLength), phase1Lifetime},
		{"long form", func(sa *isakmp.SA) {
			for i, a := range *attributes(sa) {
				(*attributes(sa))[i] = isakmp.Attribute{Type: a.Type, Value: append([]byte{0, 0}, a.Value...)}
			}
		}, phase1Lifetime},
		{"another order", func(sa *isakmp.SA) {
			as := *attributes(sa)
			slices.Reverse(as[:len(as)-2]) // life duration follows life type
		}, phase1Lifetime},
		{"another number, with an SPI", func(sa *isakmp.SA) {
			sa.Proposals[0].Number, sa.Proposals[0].SPI, sa.Proposals[0].Transforms[0].Number = 0, make([]byte, 16), 9
		}, phase1Lifetime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.client.IKE = suites(w.t, ParseIKESuite, "aes256-sha256-ecp256", "aes128-sha256-ecp256")
				w.gateway.IKE = []string{"aes128-sha256-ecp256"}
				w.changeSA(tt.change, gateway.MM2, gateway.AM2)
				w.start()
				s := w.dial()
				if st := s.Stats(); st.Suite != "aes128-sha256-ecp256" || st.Expires.Sub(st.Established) != tt.life {
					w.t.Errorf("suite %s, lifetime %v", st.Suite, st.Expires.Sub(st.Established))
				}
			})
		})
	}
}

// TestCookies: CKY-R is not zero, and stays what it is.
func TestCookies(t *testing.T) {
	for _, tt := range []struct {
		step   gateway.Step
		change func(*isakmp.Cookie)
		silent bool // a message of another SA is none at all
	}{
		{gateway.MM2, func(c *isakmp.Cookie) { *c = isakmp.Cookie{} }, false},
		{gateway.AM2, func(c *isakmp.Cookie) { *c = isakmp.Cookie{} }, false},
		{gateway.MM4, func(c *isakmp.Cookie) { c[0]++ }, true},
		{gateway.MM4, func(c *isakmp.Cookie) { *c = isakmp.Cookie{} }, true},
		{gateway.MM6, func(c *isakmp.Cookie) { c[0]++ }, true},
	} {
		inWorld(t, func(w *world) {
			w.client.Exchange = ExchangeMain
			w.gateway.FragmentSize = -1 // fragments have a header of their own
			if tt.step == gateway.AM2 {
				w.client.Exchange = ExchangeAggressive
			}
			w.change(tt.step, func(m *gateway.Message) { tt.change(&m.Header.CKYR) })
			w.start()
			_, err := w.notBelieved()
			if tt.silent {
				wantError[*NoAnswerError](w.t, err)
			} else {
				wantError[*ProtocolError](w.t, err)
			}
		})
	}
}

// badKEs are key exchange values that make the secret guessable, or are none.
func badKEs(g *group) map[string][]byte {
	bad := map[string][]byte{
		"no bytes": {}, "zero": make([]byte, g.size), "too short": bytes.Repeat([]byte{7}, g.size-1), "too long": bytes.Repeat([]byte{7}, g.size+1),
		"all ones": bytes.Repeat([]byte{0xff}, g.size),
	}
	if g.prime != nil {
		minus1 := new(big.Int).Sub(g.prime, big.NewInt(1))
		bad["one"] = big.NewInt(1).FillBytes(make([]byte, g.size))
		bad["p - 1"] = minus1.FillBytes(make([]byte, g.size))
		bad["p"] = g.prime.FillBytes(make([]byte, g.size))
	} else {
		bad["not on the curve"] = bytes.Repeat([]byte{7}, g.size)
	}
	return bad
}

// TestBadKE: such a value ends phase 1 before anything is sent under its keys.
func TestBadKE(t *testing.T) {
	for _, suite := range suites(t, ParseIKESuite, "aes256-sha256-modp2048", "aes256-sha256-ecp256") {
		for name, ke := range badKEs(suite.group) {
			t.Run(suite.group.name+" "+name, func(t *testing.T) {
				inBoth(t, func(w *world) {
					w.client.IKE = []IKESuite{suite}
					for _, step := range []gateway.Step{gateway.MM4, gateway.AM2} {
						w.change(step, func(m *gateway.Message) { m.Replace(isakmp.PayloadKE, ke) })
					}
					w.start()
					d, err := w.notBelieved()
					if wantError[*ProtocolError](w.t, err); d != refusedPatience {
						w.t.Errorf("after %v: %v", d, err)
					}
					for _, m := range w.sent(byClient) {
						if h, _ := ikeHeader(m.from, m.to, m.data); h.Encrypted() {
							w.t.Error("an encrypted message was sent")
						}
					}
				})
			})
		}
	}
}

// TestNonceBounds: 8 to 256 bytes (RFC 2409 §5).
func TestNonceBounds(t *testing.T) {
	for size, good := range map[int]bool{0: false, 7: false, 8: true, 256: true, 257: false} {
		inWorld(t, func(w *world) {
			w.client.Exchange = ExchangeMain
			w.change(gateway.MM4, func(m *gateway.Message) { m.Replace(isakmp.PayloadNonce, make([]byte, size)) })
			w.start()
			_, err := w.notBelieved()
			if good { // and then the keys are not the same
				if e := wantError[*NoAnswerError](w.t, err); e.Step != StepCheckCertificate {
					t.Errorf("%d bytes: %v", size, err)
				}
				return
			}
			if e := wantError[*ProtocolError](w.t, err); e.Step != StepAgreeSecurity {
				t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeAggressive
		w.change(gateway.AM2, func(m *gateway.Message) { m.Replace(isakmp.PayloadNonce, make([]byte, 7)) })
		w.start()
		_, err := w.notBelieved()
		wantError[*ProtocolError](w.t, err)
	})
}

// TestRuleTables: a message that lacks a payload, has one too often, or has one
// that does not belong there, is not looked at any further.
func TestRuleTables(t *testing.T) {
	drop := func(typ isakmp.PayloadType) func(*gateway.Message) {
		return func(m *gateway.Message) { m.Remove(typ) }
	}
	twice := func(typ isakmp.PayloadType) func(*gateway.Message) {
		return func(m *gateway.Message) { m.Add(typ, m.Payload(typ)) }
	}
	extra := func(typ isakmp.PayloadType) func(*gateway.Message) {
		return func(m *gateway.Message) { m.Add(typ, []byte("extra")) }
	}
	for _, tt := range []struct {
		step   gateway.Step
		change func(*gateway.Message)
	}{
		{gateway.MM2, drop(isakmp.PayloadSA)},
		{gateway.MM2, twice(isakmp.PayloadSA)},
		{gateway.MM2, extra(isakmp.PayloadKE)},
		{gateway.MM2, extra(isakmp.PayloadHash)},
		{gateway.MM2, extra(99)},
		{gateway.MM4, drop(isakmp.PayloadKE)},
		{gateway.MM4, drop(isakmp.PayloadNonce)},
		{gateway.MM4, twice(isakmp.PayloadKE)},
		{gateway.MM4, twice(isakmp.PayloadNonce)},
		{gateway.MM4, extra(isakmp.PayloadID)},
		{gateway.MM4, extra(isakmp.PayloadAttribute)},
		{gateway.MM6, drop(isakmp.PayloadID)},
		{gateway.MM6, twice(isakmp.PayloadID)},
		{gateway.MM6, twice(isakmp.PayloadSig)},
		{gateway.MM6, extra(isakmp.PayloadAttribute)},
		{gateway.MM6, extra(isakmp.PayloadDelete)},
		{gateway.AM2, drop(isakmp.PayloadSA)},
		{gateway.AM2, drop(isakmp.PayloadKE)},
		{gateway.AM2, drop(isakmp.PayloadNonce)},
		{gateway.AM2, drop(isakmp.PayloadID)},
		{gateway.AM2, twice(isakmp.PayloadSig)},
		{gateway.AM2, extra(isakmp.PayloadDelete)},
	} {
		inWorld(t, func(w *world) {
			w.client.Exchange = ExchangeMain
			if tt.step == gateway.AM2 {
				w.client.Exchange = ExchangeAggressive
			}
			w.change(tt.step, tt.change)
			w.start()
			d, err := w.notBelieved()
			if wantError[*ProtocolError](w.t, err); d != refusedPatience {
				t.Errorf("%s: after %v: %v", tt.step, d, err)
			}
		})
	}
	t.Run("what may stand anywhere", func(t *testing.T) {
		for _, step := range []gateway.Step{gateway.MM2, gateway.MM4, gateway.MM6, gateway.AM2, gateway.QM2} {
			inWorld(t, func(w *world) {
				w.client.Exchange = ExchangeMain
				if step == gateway.AM2 {
					w.client.Exchange = ExchangeAggressive
				}
				w.change(step, func(m *gateway.Message) {
					m.Add(isakmp.PayloadVendorID, []byte("nobody knows this one"))
					m.Add(200, []byte("nor this"))
				})
				w.start()
				w.dial()
			})
		}
	})
}

// TestConceded: a certificate that only the profile's leave makes acceptable is said
// to be weak; a good one is not.
func TestConceded(t *testing.T) {
	for name, expired := range map[string]bool{"good": false, "expired": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.AllowWeak = WeakAll
				w.start()
				if expired {
					time.Sleep(24 * time.Hour) // the certificate lives for half a day
				}
				w.dial()
				var told []string
				for _, e := range w.eventsOf(EventWarning) {
					told = append(told, e.Code)
				}
				if got := slices.Contains(told, "weak-certificate"); got != expired {
					t.Errorf("warnings %q", told)
				}
			})
		})
	}
}
