package ike

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// Exit codes of the command line, by which the matrix tells errors apart. What an
// error type becomes is the daemon's to say; this is the part that it cannot change.
const (
	exitConnected = 0
	exitNoAnswer  = 3
	exitUntrusted = 4
	exitSignIn    = 5
	exitProtocol  = 10
	exitSettings  = 11
)

func exitCode(err error) int {
	var (
		silent      *NoAnswerError
		untrusted   *TrustError
		credentials *CredentialsError
		protocol    *ProtocolError
		refused     *RefusedError
	)
	switch {
	case err == nil:
		return exitConnected
	case errors.As(err, &untrusted):
		return exitUntrusted
	case errors.As(err, &credentials):
		return exitSignIn
	case errors.As(err, &refused) && refused.What == RefusedSettings:
		return exitSettings
	case errors.As(err, &protocol):
		return exitProtocol
	case errors.As(err, &silent):
		return exitNoAnswer
	}
	return -1
}

// hostility is a row of the matrix: what a gateway, or a man in the middle, does, and
// how it ends. Unless login is set, nothing about the user may leave.
type hostility struct {
	name  string
	setup func(*world)
	exit  int
	login bool
}

// TestHostileGateway: the matrix, in Main and Aggressive Mode.
func TestHostileGateway(t *testing.T) {
	for _, rows := range [][]hostility{hostileProofs, hostileAnswers(), hostileOrder(), hostileFragments, hostileSettings} {
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				inBoth(t, func(w *world) {
					row.setup(w)
					w.start()
					s, err := w.tryDial()
					if got := exitCode(err); got != row.exit {
						w.t.Errorf("exit code %d, want %d: %v\n%s", got, row.exit, err, w.logText())
					}
					w.checkLeft(row.login)
					if err == nil {
						w.setRule(nil)
						checkSane(w.t, s.Assignment())
						w.exchangePackets(s, receive(s), "hello")
					}
				})
			})
		}
	}
}

// checkLeft: one login left, or no Transaction of whatever content.
func (w *world) checkLeft(login bool) {
	w.t.Helper()
	if login {
		w.theReply()
		return
	}
	n := len(w.sent(func(d datagram) bool {
		h, ok := ikeHeader(d.from, d.to, d.data)
		return ok && byClient(d) && h.Exchange == isakmp.Transaction
	}))
	if n != 0 || len(w.messages(gateway.XAuthReply)) != 0 {
		w.t.Errorf("%d Transactions have left", n)
	}
}

// checkSane: whatever the gateway says, what is passed on can be shown and used.
func checkSane(t *testing.T, a Assignment) {
	t.Helper()
	for _, s := range append(append([]string{a.Banner, a.Application, a.DefaultDomain}, a.SplitDNS...), a.BackupServers...) {
		if strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("text %q", s)
		}
	}
	for _, name := range append(append([]string{a.DefaultDomain}, a.SplitDNS...), a.BackupServers...) {
		if name != "" && !validName(name) {
			t.Errorf("name %q", name)
		}
	}
	for _, s := range append(slices.Clone(a.DNS), a.WINS...) {
		if !usableAddress(s) {
			t.Errorf("server %v", s)
		}
	}
	for _, p := range append(append(slices.Clone(a.Addresses), a.SplitInclude...), a.SplitExclude...) {
		if p != p.Masked() || p.Bits() > 0 && !usableAddress(p.Addr()) && !p.Addr().IsUnspecified() {
			t.Errorf("network %v", p)
		}
	}
	if len(a.DNS) > maxServers || len(a.SplitInclude) > maxNetworks || len(a.SplitDNS) > maxNames || len(a.Banner) > maxGatewayText {
		t.Error("more than was asked for")
	}
}

// swear lets the gateway use a certificate that is made here, of a CA that the client
// trusts.
func (w *world) swear(key *rsa.PrivateKey, change func(*testPKI, *testCA) []*x509.Certificate) {
	w.certify()
	pki := &testPKI{t: w.t}
	ca := pki.ca("CA", nil, testKeys().ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(48 * time.Hour) })
	w.client.Trust.CAs = []*x509.Certificate{ca.cert}
	w.gateway.Key, w.gateway.Chain = key, change(pki, ca)
}

// hostileProofs are gateways that cannot prove who they are.
var hostileProofs = []hostility{
	{"SIG missing", func(w *world) { w.changeProof(func(m *gateway.Message) { m.Remove(isakmp.PayloadSig) }) }, exitUntrusted, false},
	{"right HASH in place of SIG", func(w *world) {
		w.changeProof(func(m *gateway.Message) {
			hash := signedHash(&w.creds.Key.PublicKey, m.Payload(isakmp.PayloadSig), sha256.Size)
			m.Remove(isakmp.PayloadSig)
			m.Add(isakmp.PayloadHash, hash)
		})
	}, exitUntrusted, false},
	{"SIG by the wrong key", func(w *world) { w.gateway.Key = testKeys().rogue }, exitUntrusted, false},
	{"expired", func(w *world) {
		w.certify(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
	}, exitUntrusted, false},
	{"not yet valid", func(w *world) {
		w.certify(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
	}, exitUntrusted, false},
	{"for another name", func(w *world) {
		w.certify(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"gw.example.org"}, nil })
	}, exitUntrusted, false},
	{"self-signed", func(w *world) {
		w.swear(testKeys().gateway, func(p *testPKI, _ *testCA) []*x509.Certificate { return []*x509.Certificate{p.gateway(nil)} })
	}, exitUntrusted, false},
	{"issued by a namesake of the CA", func(w *world) {
		w.swear(testKeys().gateway, func(p *testPKI, _ *testCA) []*x509.Certificate {
			namesake := p.ca("CA", nil, testKeys().rogue)
			return []*x509.Certificate{p.gateway(namesake), namesake.cert}
		})
	}, exitUntrusted, false},
	{"wrong EKU", func(w *world) {
		w.certify(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} })
	}, exitUntrusted, false},
	{"MD5-signed", func(w *world) {
		w.client.AllowWeak = WeakAll // which it is beyond
		w.swear(testKeys().gateway, func(p *testPKI, ca *testCA) []*x509.Certificate {
			return []*x509.Certificate{p.parse(resign(p.t, p.gateway(ca).Raw, testKeys().ca, crypto.MD5))}
		})
	}, exitUntrusted, false},
	{"1024-bit", func(w *world) {
		w.swear(testKeys().small, func(p *testPKI, ca *testCA) []*x509.Certificate {
			return []*x509.Certificate{p.gatewayWithKey(ca, &testKeys().small.PublicKey)}
		})
	}, exitUntrusted, false},
	{"a chain that never ends", func(w *world) {
		w.swear(testKeys().gateway, func(p *testPKI, _ *testCA) []*x509.Certificate {
			a := p.ca("a", nil, testKeys().sub)
			b := p.ca("b", a, testKeys().rogue)
			a = p.ca("a", b, testKeys().sub)
			return []*x509.Certificate{p.gateway(a), a.cert, b.cert}
		})
	}, exitUntrusted, false},
	{"more certificates than anybody needs", func(w *world) {
		w.changeProof(func(m *gateway.Message) {
			for range maxCertPayloads {
				m.Add(isakmp.PayloadCert, m.Payload(isakmp.PayloadCert))
			}
		})
	}, exitProtocol, false},
	{"60 KB of certificates", func(w *world) {
		w.gateway.FragmentSize = -1
		w.changeProof(func(m *gateway.Message) {
			for range maxCertPayloads - 1 {
				m.Add(isakmp.PayloadCert, isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: make([]byte, 4000)}.Append(nil))
			}
		})
	}, exitUntrusted, false},
	{"8 MB of certificates in fragments", func(w *world) {
		w.changeProof(func(m *gateway.Message) {
			h := m.Header
			h.Flags, h.NextPayload = 0, isakmp.PayloadFragment
			*m = gateway.Message{Step: m.Step, Header: h, Raw: []byte("replaced below")}
		})
		w.flood(8<<20, func(h isakmp.Header, i int) []byte {
			f := isakmp.Fragment{ID: 1, Number: uint8(1 + i%maxFragments), Data: bytes.Repeat([]byte{byte(i)}, 4096)}
			return isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadFragment, Body: f.Append(nil)})
		})
	}, exitNoAnswer, false},
}

// flood puts that many bytes of messages in the place of what the gateway sends when
// it is to prove itself.
func (w *world) flood(size int, message func(h isakmp.Header, i int) []byte) {
	w.hook(gateway.MM6, floodHook(size, message))
	w.hook(gateway.AM2, floodHook(size, message))
}

func floodHook(size int, message func(h isakmp.Header, i int) []byte) hook {
	return func(m *gateway.Message) (out []*gateway.Message) {
		h := m.Header
		h.Flags = 0
		for i := 0; size > 0; i++ {
			raw := message(h, i)
			size -= len(raw)
			out = append(out, &gateway.Message{Step: m.Step, Header: h, Raw: raw})
		}
		return out
	}
}

// hostileAnswers are answers that weaken what was offered.
func hostileAnswers() []hostility {
	answer := func(change func(*isakmp.SA)) func(*world) {
		return func(w *world) { w.changeSA(change, gateway.MM2, gateway.AM2) }
	}
	rows := []hostility{
		{"another method", answer(set(isakmp.AttrAuthMethod, isakmp.AuthXAUTHInitPSK)), exitProtocol, false},
		{"the RSA signature method", answer(set(isakmp.AttrAuthMethod, isakmp.AuthRSASig)), exitProtocol, false},
		{"another group", answer(set(isakmp.AttrGroup, isakmp.GroupMODP1024)), exitProtocol, false},
		{"another key length", answer(set(isakmp.AttrKeyLength, 128)), exitProtocol, false},
		{"a key length of none", answer(set(isakmp.AttrKeyLength, 0)), exitProtocol, false},
		{"a weaker cipher", answer(both(set(isakmp.AttrEncryption, isakmp.CipherDES), without(isakmp.AttrKeyLength))), exitProtocol, false},
		{"a weaker hash", answer(set(isakmp.AttrHash, isakmp.HashMD5)), exitProtocol, false},
	}
	for _, suite := range []string{"aes256-sha256-modp2048", "aes256-sha256-ecp256"} {
		for name, ke := range badKEs(findGroup(suite[len("aes256-sha256-"):])) {
			rows = append(rows, hostility{fmt.Sprintf("KE %s of %s", name, suite), func(w *world) {
				w.client.IKE = suites(w.t, ParseIKESuite, suite)
				for _, step := range []gateway.Step{gateway.MM4, gateway.AM2} {
					w.change(step, func(m *gateway.Message) { m.Replace(isakmp.PayloadKE, ke) })
				}
			}, exitProtocol, false})
		}
	}
	return rows
}

// everyStep are all messages of a gateway up to the tunnel.
var everyStep = []gateway.Step{
	gateway.MM2, gateway.MM4, gateway.MM6, gateway.AM2, gateway.XAuthRequest, gateway.XAuthSet, gateway.ConfigReply, gateway.QM2,
}

// inFront sends forged cleartext messages in front of every message of the gateway,
// which itself comes in one piece.
func inFront(forge func(h isakmp.Header) [][]byte) func(*world) {
	return func(w *world) {
		w.gateway.FragmentSize = -1
		for _, step := range everyStep {
			w.hook(step, func(m *gateway.Message) (out []*gateway.Message) {
				for _, raw := range forge(m.Header) {
					out = append(out, &gateway.Message{Step: "FORGED", Header: m.Header, Raw: raw})
				}
				return append(out, m)
			})
		}
	}
}

// instead lets the gateway say something else than its proof.
func instead(make func(isakmp.Header) *gateway.Message) func(*world) {
	return func(w *world) {
		for _, step := range []gateway.Step{gateway.MM6, gateway.AM2} {
			w.hook(step, func(m *gateway.Message) []*gateway.Message { return []*gateway.Message{make(m.Header)} })
		}
	}
}

// hostileOrder is what comes before its time, or from anybody.
func hostileOrder() []hostility {
	var types []isakmp.NotifyType
	for n := range 31 {
		types = append(types, isakmp.NotifyType(n))
	}
	for _, n := range []uint16{
		8191, 8192, 16384, 24576, 24577, 24578, 32768, 32769, 36136, 36137, 40001, 40500, 40501, 40502, 40503, 65535,
	} {
		types = append(types, isakmp.NotifyType(n))
	}
	// notify is of any type, with data that could mean something: an address, a
	// sequence number, lifetimes.
	notify := func(h isakmp.Header, typ isakmp.NotifyType, data []byte) []byte {
		h.Exchange, h.MessageID, h.Flags = isakmp.Informational, 0x01020304+uint32(typ), 0
		n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: slices.Concat(h.CKYI[:], h.CKYR[:]), Type: typ, Data: data}
		return isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadNotify, Body: n.Append(nil)})
	}
	return []hostility{
		{"Transaction instead of the proof, in clear", instead(clearLoginRequest), exitNoAnswer, false},
		{"Transaction instead of the proof, without HASH", instead(func(h isakmp.Header) *gateway.Message {
			m := loginRequest(h)
			m.Hash = func([]byte) []byte { return nil }
			if h.Exchange == isakmp.AggressiveMode { // when the gateway has keys, but the client has not
				m = clearLoginRequest(h)
			}
			return m
		}), exitNoAnswer, false},
		{"XAUTH REQUEST without HASH", func(w *world) {
			w.change(gateway.XAuthRequest, func(m *gateway.Message) { m.Hash = func([]byte) []byte { return nil } })
		}, exitNoAnswer, false},
		{"XAUTH REQUEST in clear", func(w *world) {
			w.change(gateway.XAuthRequest, func(m *gateway.Message) { *m = *clearLoginRequest(m.Header) })
		}, exitProtocol, false},
		{"cleartext Delete in front of everything", inFront(func(h isakmp.Header) [][]byte { return [][]byte{clearDelete(h)} }), exitConnected, true},
		{"cleartext Notify of every type in front of everything", inFront(func(h isakmp.Header) (out [][]byte) {
			for _, typ := range types {
				out = append(out, notify(h, typ, []byte{203, 0, 113, 66}))
			}
			return out
		}), exitConnected, true},
		{"cleartext Notify with lifetimes in front of everything", inFront(func(h isakmp.Header) [][]byte {
			return [][]byte{notify(h, isakmp.NotifyResponderLifetime, isakmp.AppendAttributes(nil, []isakmp.Attribute{
				isakmp.BasicAttribute(isakmp.AttrESPLifeType, isakmp.LifeSeconds), isakmp.BasicAttribute(isakmp.AttrESPLifeDuration, 11),
			}))}
		}), exitConnected, true},
		{"10,000 payloads in one message", func(w *world) {
			w.gateway.FragmentSize = -1
			w.changeProof(func(m *gateway.Message) {
				for range 10000 {
					m.Add(isakmp.PayloadVendorID, nil)
				}
			})
		}, exitNoAnswer, false},
		{"a whole message inside of a payload", func(w *world) {
			w.changeProof(func(m *gateway.Message) {
				whole := isakmp.AppendMessage(nil, m.Header, m.Payloads...)
				m.Payloads = []isakmp.Payload{{Type: isakmp.PayloadSA, Body: whole}}
			})
		}, exitProtocol, false},
		{"repeated proof", func(w *world) {
			w.changeProof(func(m *gateway.Message) { m.Add(isakmp.PayloadSig, m.Payload(isakmp.PayloadSig)) })
		}, exitProtocol, false},
		{"repeated identity", func(w *world) {
			w.changeProof(func(m *gateway.Message) { m.Add(isakmp.PayloadID, m.Payload(isakmp.PayloadID)) })
		}, exitProtocol, false},
	}
}

// fragmentsInFront sends fragments of the attacker's in front of every message.
func fragmentsInFront(fs ...isakmp.Fragment) func(*world) {
	return inFront(func(h isakmp.Header) (out [][]byte) {
		h.Flags, h.MessageID, h.Exchange = 0, 0, isakmp.MainMode
		for _, f := range fs {
			out = append(out, isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadFragment, Body: f.Append(nil)}))
		}
		return out
	})
}

func someFragment(number uint8, last bool, data string) isakmp.Fragment {
	return isakmp.Fragment{ID: 1, Number: number, Last: last, Data: []byte(data)}
}

// hostileFragments are fragments that nobody asked for.
var hostileFragments = []hostility{
	{"fragment of no bytes", fragmentsInFront(someFragment(1, true, "")), exitConnected, true},
	{"fragment number 0", fragmentsInFront(someFragment(0, true, "x"), someFragment(0, false, "y")), exitConnected, true},
	{"fragment number 255", fragmentsInFront(someFragment(255, true, "x"), someFragment(254, false, "y")), exitConnected, true},
	{"overlapping fragments", fragmentsInFront(
		someFragment(1, false, "one"), someFragment(2, false, "two"), someFragment(1, false, "another"), someFragment(2, true, "last"),
	), exitConnected, true},
	{"two ends", fragmentsInFront(someFragment(3, true, "c"), someFragment(2, true, "b"), someFragment(5, false, "e")), exitConnected, true},
	{"two sets interleaved", fragmentsInFront(
		someFragment(1, false, "a1"), someFragment(1, false, "b1"), someFragment(2, false, "a2"), someFragment(2, true, "b2"), someFragment(3, true, "a3"),
	), exitConnected, true},
	{"fragments of fragments", func(w *world) {
		inFront(func(h isakmp.Header) [][]byte {
			h.Flags, h.MessageID, h.Exchange = 0, 0, isakmp.MainMode
			wrap := func(data []byte) []byte {
				f := isakmp.Fragment{ID: 1, Number: 1, Last: true, Data: data}
				return isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadFragment, Body: f.Append(nil)})
			}
			return [][]byte{wrap(wrap(wrap(clearDelete(h))))}
		})(w)
	}, exitConnected, true},
	{"a Delete in fragments", func(w *world) {
		inFront(func(h isakmp.Header) (out [][]byte) {
			whole := clearDelete(h)
			h.Flags, h.MessageID, h.Exchange = 0, 0, isakmp.MainMode
			for i, part := range [][]byte{whole[:30], whole[30:]} {
				f := isakmp.Fragment{ID: 1, Number: uint8(i + 1), Last: i == 1, Data: part}
				out = append(out, isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadFragment, Body: f.Append(nil)}))
			}
			return out
		})(w)
	}, exitConnected, true},
	{"fragments without an end", func(w *world) {
		w.flood(1<<20, func(h isakmp.Header, i int) []byte {
			f := isakmp.Fragment{ID: 1, Number: uint8(1 + i%255), Data: bytes.Repeat([]byte{byte(i)}, 1000)}
			return isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadFragment, Body: f.Append(nil)})
		})
	}, exitNoAnswer, false},
}

// extraSettings are given in addition to the true ones.
func extraSettings(as ...isakmp.Attribute) func(*world) {
	return func(w *world) {
		w.gateway.FragmentSize = -1
		w.gateway.Settings.Extra = as
	}
}

// givenAddress gives another address than the pool's.
func givenAddress(a ...byte) func(*world) {
	return func(w *world) {
		w.changeConfig(gateway.ConfigReply, func(c *isakmp.Config) {
			c.Attributes[0] = isakmp.Attribute{Type: isakmp.CfgIP4Address, Value: a}
		})
	}
}

// entries makes n long entries of a network list.
func entries(n int, entry func(i int) []byte) (value []byte) {
	for i := range n {
		value = append(append(value, entry(i)...), make([]byte, splitEntryLen-splitShortLen)...)
	}
	return value
}

// hostileSettings are settings that would do harm. The login has left by then: the
// gateway has proved who it is.
var hostileSettings = []hostility{
	{"4,000 networks", extraSettings(isakmp.Attribute{Type: isakmp.UnitySplitInclude, Value: entries(4000, func(i int) []byte {
		return []byte{10, byte(i >> 8), byte(i), 0, 255, 255, 255, 0}
	})}), exitConnected, true},
	{"10,000 empty attributes", extraSettings(empty(make([]uint16, 10000)...)...), exitProtocol, true},
	{"10,000 name servers", func(w *world) {
		value := make([]byte, 0, 40000)
		for i := range 10000 {
			value = append(value, 10, byte(i>>8), byte(i), 1)
		}
		extraSettings(isakmp.Attribute{Type: isakmp.CfgIP4DNS, Value: value})(w)
	}, exitConnected, true},
	{"10,000 domains", extraSettings(text(isakmp.UnitySplitDNS, strings.Repeat("a.example.com,", 4000))), exitConnected, true},
	{"masks with holes", extraSettings(isakmp.Attribute{Type: isakmp.UnitySplitInclude, Value: entries(2, func(i int) []byte {
		return []byte{10, 20, 0, 0, 255, 0, 255, byte(i)}
	})}), exitConnected, true},
	{"everything in two halves", extraSettings(isakmp.Attribute{Type: isakmp.UnityLocalLAN, Value: entries(2, func(i int) []byte {
		return []byte{byte(i * 128), 0, 0, 0, 128, 0, 0, 0}
	})}), exitConnected, true},
	{"networks that cannot be", extraSettings(isakmp.Attribute{Type: isakmp.UnitySplitInclude, Value: entries(4, func(i int) []byte {
		return [][]byte{
			{127, 0, 0, 0, 255, 0, 0, 0}, {224, 0, 0, 0, 240, 0, 0, 0}, {169, 254, 0, 0, 255, 255, 0, 0}, {255, 255, 255, 255, 255, 255, 255, 255},
		}[i]
	})}), exitConnected, true},
	{"name servers that cannot be", extraSettings(
		isakmp.Attribute{Type: isakmp.CfgIP4DNS, Value: []byte{127, 0, 0, 1}}, isakmp.Attribute{Type: isakmp.CfgIP4DNS, Value: []byte{224, 0, 0, 251}},
		isakmp.Attribute{Type: isakmp.CfgIP4DNS, Value: []byte{0, 0, 0, 0}}, isakmp.Attribute{Type: isakmp.CfgIP4NBNS, Value: []byte{1, 2, 3}},
		isakmp.Attribute{Type: isakmp.CfgIP6DNS, Value: append(make([]byte, 15), 1)},
	), exitConnected, true},
	{"loopback as the address", givenAddress(127, 0, 0, 1), exitSettings, true},
	{"multicast as the address", givenAddress(239, 1, 1, 1), exitSettings, true},
	{"0.0.0.0 as the address", givenAddress(0, 0, 0, 0), exitSettings, true},
	{"an address of three bytes", givenAddress(10, 99, 0), exitSettings, true},
	{"the gateway's own address", givenAddress(192, 0, 2, 1), exitProtocol, true},
	{"names with line feeds and escapes", extraSettings(
		text(isakmp.UnitySplitDNS, "a.example.com\nnameserver 203.0.113.66,\x1b]0;x\x07,`id`,$(id),../../etc,-rf,a..b,*"),
		text(isakmp.UnityDefDomain, "evil.example.com\noptions rotate"), text(isakmp.UnityBackupServers, "gw2.example.com;id,\n\n203.0.113.66"),
	), exitConnected, true},
	{"a banner with control codes", extraSettings(
		text(isakmp.UnityBanner, "\x1b[2J\x1b]52;c;AAAA\x07\u202ehello\x00\x9b31m"+strings.Repeat("A", 50000)),
		text(isakmp.CfgApplicationVersion, "\x1b[8m\r\n\u2066v1"),
	), exitConnected, true},
}

// TestClearAddress: what the matrix counts as connected was not led astray by an
// address in a Notify of anybody's.
func TestClearAddress(t *testing.T) {
	inBoth(t, func(w *world) {
		inFront(func(h isakmp.Header) [][]byte {
			h.Exchange, h.MessageID, h.Flags = isakmp.Informational, 0x01020304, 0
			n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: isakmp.NotifyUnityLoadBalance, Data: []byte{203, 0, 113, 66}}
			return [][]byte{isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadNotify, Body: n.Append(nil)})}
		})(w)
		w.start()
		s := w.dial()
		if st := s.Stats(); st.Gateway.Addr() != gatewayAddr || time.Since(w.began) != 0 {
			w.t.Errorf("connected to %v after %v", st.Gateway, time.Since(w.began))
		}
	})
}

// cutOrGrown makes a payload's body a byte shorter or longer. A nonce loses its first
// byte: as HMAC's key, one whose last byte is zero is the same without it (RFC 2104 §2).
func cutOrGrown(typ isakmp.PayloadType, body []byte, by int) []byte {
	if by < 0 && typ == isakmp.PayloadNonce {
		return body[-by:]
	}
	if by < 0 {
		return body[:max(len(body)+by, 0)]
	}
	return append(bytes.Clone(body), make([]byte, by)...)
}

// TestLengthsOffByOne: every payload of every message a byte too short or too long
// for what is in it. Up to the gateway's proof, the login does not leave if one of
// those was touched that the proof covers; whatever comes of the others is sane.
func TestLengthsOffByOne(t *testing.T) {
	covered := []isakmp.PayloadType{
		isakmp.PayloadSA, isakmp.PayloadKE, isakmp.PayloadNonce, isakmp.PayloadID, isakmp.PayloadSig, isakmp.PayloadHash,
	}
	for _, step := range everyStep {
		for _, by := range []int{-1, 1} {
			for nth := 0; ; nth++ {
				done := true
				var touched isakmp.PayloadType
				inWorld(t, func(w *world) {
					w.client.Exchange = ExchangeMain
					if step == gateway.AM2 {
						w.client.Exchange = ExchangeAggressive
					}
					w.change(step, func(m *gateway.Message) {
						if nth >= len(m.Payloads) {
							return
						}
						done, touched = false, m.Payloads[nth].Type
						m.Payloads[nth] = isakmp.Payload{Type: touched, Body: cutOrGrown(touched, m.Payloads[nth].Body, by)}
					})
					w.start()
					s, err := w.tryDial()
					phase1 := slices.Index(everyStep, step) <= slices.Index(everyStep, gateway.AM2)
					if !done && phase1 && slices.Contains(covered, touched) {
						if err == nil {
							t.Errorf("%s: connected with %v changed by %d", step, touched, by)
						}
						w.checkLeft(false)
					}
					if err == nil {
						checkSane(w.t, s.Assignment())
						if step != gateway.QM2 { // whose nonce the gateway does not know then
							w.exchangePackets(s, receive(s), "hello")
						}
					} else if exitCode(err) < 0 && !errors.Is(err, errNoRawSockets) {
						t.Errorf("%s: %v changed by %d: %T %v", step, touched, by, err, err)
					}
				})
				if done {
					break
				}
			}
		}
	}
}

// TestHeaderLengths: length fields of cleartext messages, off by one or far off. None
// leads to a connection.
func TestHeaderLengths(t *testing.T) {
	for _, step := range []gateway.Step{gateway.MM2, gateway.MM4, gateway.AM2} {
		for _, by := range []int{-1, 1, 4, -4, 0x7fff, -0x7fff} {
			more := true
			for nth := 0; more; nth++ {
				inWorld(t, func(w *world) {
					w.client.Exchange = ExchangeMain
					if step == gateway.AM2 {
						w.client.Exchange = ExchangeAggressive
					}
					w.gateway.FragmentSize = -1
					w.change(step, func(m *gateway.Message) {
						more = nth < len(m.Payloads)
						m.Raw = offBy(isakmp.AppendMessage(nil, m.Header, m.Payloads...), nth, by)
					})
					w.start()
					_, err := w.tryDial()
					w.checkLeft(false)
					if exitCode(err) <= 0 {
						t.Errorf("%s, length %d off by %d: %v", step, nth, by, err)
					}
				})
			}
		}
	}
}

// offBy changes the length field of the header, number 0, or of the payload with that
// number.
func offBy(raw []byte, nth, by int) []byte {
	if nth == 0 {
		length := int(binary.BigEndian.Uint32(raw[24:])) + by
		binary.BigEndian.PutUint32(raw[24:], uint32(max(length, 0)))
		return raw
	}
	at := isakmp.HeaderLen
	for range nth - 1 {
		at += int(binary.BigEndian.Uint16(raw[at+2:]))
	}
	binary.BigEndian.PutUint16(raw[at+2:], uint16(int(binary.BigEndian.Uint16(raw[at+2:]))+by))
	return raw
}
