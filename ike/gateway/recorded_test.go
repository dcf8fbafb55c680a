package gateway

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wayfarer/ike/isakmp"
)

// recording is a conversation of strongSwan's gateway with a real client, and what
// the gateway computed meanwhile.
type recording struct {
	values   map[string][][]byte
	messages []recordedMessage
}

type recordedMessage struct {
	fromClient bool
	raw        []byte
}

func readRecording(t *testing.T, file string) recording {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := recording{values: make(map[string][][]byte)}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		name, text, _ := strings.Cut(lines.Text(), " ")
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if name == "client" || name == "gateway" {
			r.messages = append(r.messages, recordedMessage{name == "client", b})
		} else {
			r.values[name] = append(r.values[name], b)
		}
	}
	return r
}

// listener follows a recorded conversation with the gateway's own code: it knows
// the Diffie-Hellman secret from the record and derives everything else.
type listener struct {
	*sa
	t      *testing.T
	rec    recording
	ids    int // phase-1 proofs seen
	hashed int // messages whose HASH was right
	quick  map[uint32]*quickMode
	seeds  int // pairs of ESP SAs
	sigs   int // signatures
	parts  [2]assembly
}

// TestRecorded derives all keys, decrypts all messages, and verifies all hashes of
// conversations of other implementations.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) != 8 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			l := &listener{t: t, rec: readRecording(t, file), quick: make(map[uint32]*quickMode)}
			l.sa = &sa{gw: &Gateway{}, method: authMethods[0], chains: make(map[uint32]*chain)}
			for _, m := range l.rec.messages {
				l.hear(m)
			}
			if l.ids != 2 || l.sigs != 1 || l.hashed < 8 || l.seeds == 0 || l.seeds != len(l.rec.values["esp_seed_initiator"]) {
				t.Errorf("checked %d proofs, %d signatures, %d hashes, %d ESP SAs", l.ids, l.sigs, l.hashed, l.seeds)
			}
			l.checkNAT()
		})
	}
}

func (l *listener) hear(m recordedMessage) {
	h, body, err := isakmp.ParseHeader(m.raw)
	if err != nil {
		l.t.Fatal(err)
	}
	if h.NextPayload == isakmp.PayloadFragment {
		side := &l.parts[0]
		if m.fromClient {
			side = &l.parts[1]
		}
		if whole := side.add(l.gw, h, body); whole != nil {
			l.hear(recordedMessage{m.fromClient, whole})
		}
		return
	}
	switch {
	case !phase1(h):
		l.phase2(h, body)
	case h.Encrypted():
		o, err := l.open(h, body, l.phase1IV.iv)
		if err != nil {
			l.t.Fatal(err)
		}
		l.phase1IV.iv = o.next
		l.phase1(m.fromClient, o.payloads)
	default:
		ps, _, err := isakmp.ParsePayloads(h.NextPayload, body)
		if err != nil {
			l.t.Fatal(err)
		}
		l.ckyI, l.ckyR = h.CKYI, h.CKYR
		l.phase1(m.fromClient, ps)
	}
}

func (l *listener) phase1(fromClient bool, ps []isakmp.Payload) {
	get := func(t isakmp.PayloadType) []byte { return (&Message{Payloads: ps}).Payload(t) }
	if body := get(isakmp.PayloadSA); body != nil && fromClient {
		l.saiBody = body
	} else if body != nil {
		chosen, err := isakmp.ParseSA(body)
		if err != nil {
			l.t.Fatal(err)
		}
		suite, auth, ok := ikeTransform(chosen.Proposals[0].Transforms[0])
		if !ok || auth != isakmp.AuthHybridInitRSA {
			l.t.Fatalf("chosen %v by %d", suite, auth)
		}
		l.suite = suite
	}
	if ke, nonce := get(isakmp.PayloadKE), get(isakmp.PayloadNonce); ke != nil && fromClient {
		l.gxi, l.ni = ke, nonce
	} else if ke != nil {
		l.gxr, l.nr = ke, nonce
		l.deriveRecorded()
	}
	l.proof(fromClient, get)
}

// deriveRecorded compares the keys with those in the record.
func (l *listener) deriveRecorded() {
	value := func(name string) []byte {
		if len(l.rec.values[name]) == 0 {
			l.t.Fatalf("no %s in the record", name)
		}
		return l.rec.values[name][0]
	}
	h, gxy := l.suite.hash.hash, value("secret")
	l.keys = h.deriveKeys(h.skeyidSignature(l.ni, l.nr, gxy), gxy, l.ckyI, l.ckyR)
	key := h.cipherKey(l.keys.skeyidE, l.suite.cipher.keyLen)
	var err error
	if l.block, err = l.suite.cipher.block(key); err != nil {
		l.t.Fatal(err)
	}
	l.phase1IV.iv = h.phase1IV(l.gxi, l.gxr, l.block.BlockSize())
	for name, got := range map[string][]byte{
		"skeyid": l.keys.skeyid, "skeyid_d": l.keys.skeyidD, "skeyid_a": l.keys.skeyidA, "skeyid_e": l.keys.skeyidE,
		"key": key, "iv": l.phase1IV.iv,
	} {
		// strongSwan logs the whole hash as IV.
		if want := value(name); !bytes.HasPrefix(want, got) || name != "iv" && len(want) != len(got) {
			l.t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
}

// proof checks HASH_I, and HASH_R by the signature over it.
func (l *listener) proof(fromClient bool, get func(isakmp.PayloadType) []byte) {
	if id := get(isakmp.PayloadID); id != nil && fromClient {
		l.idiBody = id
	}
	if hash := get(isakmp.PayloadHash); hash != nil && fromClient {
		l.ids++
		if want := l.hashI(l.idiBody); !bytes.Equal(hash, want) || !bytes.Equal(hash, l.rec.values["hash_i"][0]) {
			l.t.Errorf("HASH_I: %x, computed %x", hash, want)
		}
	}
	if sig := get(isakmp.PayloadSig); sig != nil {
		l.ids++
		hashR := l.hashR(get(isakmp.PayloadID))
		if !bytes.Equal(hashR, l.rec.values["hash_r"][0]) {
			l.t.Errorf("HASH_R: %x, recorded %x", hashR, l.rec.values["hash_r"][0])
		}
		c, err := isakmp.ParseCert(get(isakmp.PayloadCert))
		if err != nil {
			l.t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(c.Data)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(cert.PublicKey.(*rsa.PublicKey), crypto.Hash(0), hashR, sig); err != nil {
			l.t.Errorf("SIG_R: %v", err)
		}
		l.sigs++
	}
}

// phase2 decrypts a message and verifies its HASH.
func (l *listener) phase2(h isakmp.Header, body []byte) {
	o, err := l.open(h, body, l.receivedIV(h))
	if err != nil {
		l.t.Fatalf("%v %d: %v", h.Exchange, h.MessageID, err)
	}
	f := l.suite.hash.hash
	want := f.phase2Hash(l.keys.skeyidA, h.MessageID, nil, o.rest)
	q := l.quick[h.MessageID]
	switch {
	case h.Exchange != isakmp.QuickMode:
	case q == nil:
		q = &quickMode{ni: only(o.payloads, isakmp.PayloadNonce)[0]}
		l.quick[h.MessageID] = q
	case q.nr == nil:
		want = f.phase2Hash(l.keys.skeyidA, h.MessageID, q.ni, o.rest)
		q.nr = only(o.payloads, isakmp.PayloadNonce)[0]
	default:
		want = f.hash3(l.keys.skeyidA, h.MessageID, q.ni, q.nr)
		l.keymat(q)
	}
	if !bytes.Equal(o.hash, want) {
		l.t.Fatalf("HASH of %v %d: %x, computed %x", h.Exchange, h.MessageID, o.hash, want)
	}
	if h.Exchange != isakmp.Informational {
		l.keepChain(h.MessageID, &chain{o.next})
	}
	l.hashed++
}

// keymat compares the keys of a pair of ESP SAs. The seeds in the record are what
// is hashed: [g(qm)^xy |] protocol | SPI | Ni_b | Nr_b.
func (l *listener) keymat(q *quickMode) {
	for i, side := range []string{"initiator", "responder"} {
		seed := l.rec.values["esp_seed_"+side][l.seeds]
		rest := len(seed) - len(q.ni) - len(q.nr) - 5
		spi := uint32(seed[rest+1])<<24 | uint32(seed[rest+2])<<16 | uint32(seed[rest+3])<<8 | uint32(seed[rest+4])
		want := bytes.Clone(l.rec.values["esp_"+side+"_encryption"][l.seeds])
		if integrity := l.rec.values["esp_"+side+"_integrity"]; integrity != nil {
			want = append(want, integrity[l.seeds]...)
		}
		got := l.suite.hash.hash.keymat(l.keys.skeyidD, seed[:rest], spi, q.ni, q.nr, len(want))
		if !bytes.Equal(got, want) {
			l.t.Errorf("KEYMAT %d of the %s: %x, want %x", i, side, got, want)
		}
	}
	l.seeds++
}

// checkNAT compares NAT-D hashes with the record.
func (l *listener) checkNAT() {
	inputs := l.rec.values["natd_input"]
	if len(inputs) == 0 || len(inputs) != len(l.rec.values["natd"]) {
		l.t.Fatalf("%d inputs of NAT-D", len(inputs))
	}
	for i, in := range inputs {
		const cookies, ip, port = 16, 4, 2
		if len(in) != cookies+ip+port {
			l.t.Fatalf("NAT-D input of %d bytes", len(in))
		}
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte(in[cookies:])), binary.BigEndian.Uint16(in[cookies+ip:]))
		got := l.suite.hash.hash.natHash(isakmp.Cookie(in[:8]), isakmp.Cookie(in[8:16]), addr)
		if want := l.rec.values["natd"][i]; !bytes.Equal(got, want) {
			l.t.Errorf("NAT-D of %v: %x, want %x", addr, got, want)
		}
	}
}
