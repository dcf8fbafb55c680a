package ike

import (
	"bytes"
	"crypto/cipher"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wayfarer/ike/isakmp"
)

// samples is where the recordings stand: conversations of strongSwan's and vpnc's
// clients with a strongSwan gateway, each with a capture of the wire and the
// gateway's log of every intermediate value.
const samples = "../test/lab/samples"

// negotiated says what a recording is about.
type negotiated struct {
	name     string
	ike, esp string     // suites
	auth     AuthMethod // zero: hybrid
	remoteID string     // of the gateway, where its certificate does not name its address
}

// labSecret is the shared secret of the recordings that use one.
const labSecret = "labsecret"

// recordings lists what was negotiated in each of them.
var recordings = []negotiated{
	{name: "hybrid-main", ike: "aes256-sha256-modp2048", esp: "aes128gcm16"},
	{name: "hybrid-main-aes128-sha1", ike: "aes128-sha1-modp2048", esp: "aes128-sha1"},
	{name: "hybrid-main-ecp256-gcm256", ike: "aes256-sha256-ecp256", esp: "aes256gcm16"},
	{name: "hybrid-main-port4500", ike: "aes256-sha256-modp2048", esp: "aes128gcm16"},
	{name: "hybrid-aggr", ike: "aes256-sha1-modp2048", esp: "aes128-sha1"},
	{name: "hybrid-aggr-vpnc", ike: "aes256-sha1-modp2048", esp: "aes128-sha1"},
	{name: "chain-frag", remoteID: "fqdn:chain.lab.test", ike: "aes256-sha256-modp2048", esp: "aes128gcm16"},
	{name: "legacy-3des-md5", ike: "3des-md5-modp1024", esp: "3des-md5", remoteID: "dn:O=Lab, CN=legacy-gw"},
	{name: "pfs", remoteID: "fqdn:gw.lab.test", ike: "aes256-sha256-modp2048", esp: "aes128-sha1-modp2048"},
	{name: "push", remoteID: "fqdn:gw.lab.test", ike: "aes256-sha256-modp2048", esp: "aes128gcm16"},
	{name: "split8", remoteID: "fqdn:gw.lab.test", ike: "aes256-sha256-modp2048", esp: "aes128gcm16"},
	{name: "rekey-by-gateway", remoteID: "fqdn:gw.lab.test", ike: "aes256-sha256-modp2048", esp: "aes128gcm16"},
	{name: "wrong-password", ike: "aes256-sha256-modp2048", esp: "aes128gcm16"},
	{name: "psk-main", ike: "aes256-sha256-modp2048", esp: "aes128-sha1", auth: AuthXAUTHPSK},
	{name: "psk-aggr-vpnc", ike: "aes256-sha1-modp2048", esp: "aes128-sha1", auth: AuthXAUTHPSK},
	{name: "rsa-main", ike: "aes256-sha256-modp2048", esp: "aes128gcm16", auth: AuthXAUTHRSA, remoteID: "fqdn:gw.lab.test"},
}

// eachRecording runs a test for every recording.
func eachRecording(t *testing.T, test func(*testing.T, *recording)) {
	t.Helper()
	for _, row := range recordings {
		t.Run(row.name, func(t *testing.T) { test(t, readRecording(t, row.name)) })
	}
}

// recording is a conversation between a client and a gateway.
type recording struct {
	negotiated
	ike             IKESuite
	esp             ESPSuite
	client, gateway netip.Addr
	began           time.Time
	datagrams       []recordedDatagram
	messages        []*recordedMessage
	values          []loggedValue

	// Of phase 1, from the messages in clear.
	ckyI, ckyR       isakmp.Cookie
	saiB             []byte
	gxi, gxr, ni, nr []byte
	keys             *phase1Keys
}

// recordedDatagram is one UDP datagram of a recording.
type recordedDatagram struct {
	at         time.Duration // since the first
	fromClient bool
	port       uint16 // the gateway's
	payload    []byte
	message    *recordedMessage // that it carries or is a fragment of; nil in ESP
	completes  bool             // the message, as its only or last fragment
}

// recordedMessage is an ISAKMP message of a recording, decrypted.
type recordedMessage struct {
	*message
	fromClient bool
	content    []byte // behind the header, as on the wire
	iv         []byte // that it was encrypted with; nil in clear
	padded     []byte // decrypted content with its padding
}

// loggedValue is a dump of bytes in strongSwan's log.
type loggedValue struct {
	label string
	data  []byte
}

func readRecording(t testing.TB, name string) *recording {
	t.Helper()
	i := slices.IndexFunc(recordings, func(n negotiated) bool { return n.name == name })
	r := &recording{negotiated: recordings[i]}
	var err error
	if r.ike, err = ParseIKESuite(r.negotiated.ike); err != nil {
		t.Fatal(err)
	}
	if r.esp, err = ParseESPSuite(r.negotiated.esp); err != nil {
		t.Fatal(err)
	}
	if err := r.readCapture(filepath.Join(samples, name+".pcap")); err != nil {
		t.Fatalf("%s.pcap: %v", name, err)
	}
	if err := r.readLog(filepath.Join(samples, name+".log")); err != nil {
		t.Fatalf("%s.log: %v", name, err)
	}
	if err := r.decrypt(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// Sizes of the headers in a capture file, and of those in front of a UDP payload.
const (
	pcapFileHeader   = 24
	pcapPacketHeader = 16
	ethernetHeader   = 14
	ipv4Header       = 20
	udpHeader        = 8
)

// readCapture reads a pcap file with Ethernet frames: UDP over IPv4 without
// options, everything else is passed over. Whoever speaks first is the client.
func (r *recording) readCapture(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if len(b) < pcapFileHeader || le.Uint32(b) != 0xa1b2c3d4 || le.Uint32(b[20:]) != 1 {
		return fmt.Errorf("no little-endian capture of Ethernet")
	}
	ip := make(map[uint16][]byte) // fragments that came so far, by IP identification
	for b = b[pcapFileHeader:]; len(b) > 0; {
		at := time.Unix(int64(le.Uint32(b)), int64(le.Uint32(b[4:]))*1000)
		n := int(le.Uint32(b[8:]))
		frame := b[pcapPacketHeader : pcapPacketHeader+n]
		b = b[pcapPacketHeader+n:]
		if binary.BigEndian.Uint16(frame[12:]) != 0x0800 {
			continue
		}
		packet := frame[ethernetHeader:]
		packet = packet[:binary.BigEndian.Uint16(packet[2:])]
		if packet[0] != 0x45 || packet[9] != 17 {
			continue
		}
		// The fragments of a recording are in order.
		id, more := binary.BigEndian.Uint16(packet[4:]), packet[6]&0x20 != 0
		ip[id] = append(ip[id], packet[ipv4Header:]...)
		if more {
			continue
		}
		udp := ip[id]
		delete(ip, id)
		src, dst := netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		if len(r.datagrams) == 0 {
			r.client, r.gateway, r.began = src, dst, at
		}
		d := recordedDatagram{at: at.Sub(r.began), fromClient: src == r.client, payload: udp[udpHeader:]}
		d.port = binary.BigEndian.Uint16(udp)
		if d.fromClient {
			d.port = binary.BigEndian.Uint16(udp[2:])
		}
		r.datagrams = append(r.datagrams, d)
	}
	return nil
}

// isakmp is the message without the non-ESP marker, nil in an ESP packet.
func (d recordedDatagram) isakmp() []byte {
	if d.port != portNATT {
		return d.payload
	}
	b, _ := bytes.CutPrefix(d.payload, make([]byte, nonESPMarkerLen))
	if len(b) == len(d.payload) {
		return nil
	}
	return b
}

var (
	logLine   = regexp.MustCompile(`^[0-9:.]+ [0-9]+\[[A-Z]+\] (?:<[^>]*> )?(.*)`)
	dumpStart = regexp.MustCompile(`^(.*) => ([0-9]+) bytes @`)
	dumpLine  = regexp.MustCompile(`^ +[0-9]+: ((?:[0-9A-F]{2} ){1,16})`)
)

// readLog reads the dumps in strongSwan's log.
func (r *recording) readLog(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		m := logLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if start := dumpStart.FindStringSubmatch(m[1]); start != nil {
			r.values = append(r.values, loggedValue{label: start[1]})
		} else if dump := dumpLine.FindStringSubmatch(m[1]); dump != nil {
			v := &r.values[len(r.values)-1]
			if v.data, err = hex.AppendDecode(v.data, []byte(strings.ReplaceAll(dump[1], " ", ""))); err != nil {
				return err
			}
		}
	}
	return nil
}

// logged returns all values with a label, in their order.
func (r *recording) logged(label string) [][]byte {
	var out [][]byte
	for _, v := range r.values {
		if v.label == label {
			out = append(out, v.data)
		}
	}
	return out
}

// theLogged is the only value with a label.
func (r *recording) theLogged(t testing.TB, label string) []byte {
	t.Helper()
	all := r.logged(label)
	if len(all) != 1 {
		t.Fatalf("the log has %q %d times", label, len(all))
	}
	return all[0]
}

// decrypt puts fragments together, takes what phase 1 says in clear, derives the
// keys with the Diffie-Hellman secret of the log, and decrypts all messages. Both
// sides' messages go the way of received ones, since an IV does not depend on who
// looks at it.
func (r *recording) decrypt() error {
	sa := newRecordedSA()
	var fragments reassembly
	first := 0 // datagram of the message that is being put together
	for i := range r.datagrams {
		d := &r.datagrams[i]
		raw := d.isakmp()
		if raw == nil {
			first = i + 1
			continue
		}
		raw, err := wholeMessage(&fragments, raw)
		if err != nil {
			return fmt.Errorf("datagram %d: %w", i, err)
		}
		if raw == nil {
			continue
		}
		h, content, err := isakmp.ParseHeader(raw)
		if err != nil {
			return fmt.Errorf("datagram %d: %w", i, err)
		}
		m := &recordedMessage{message: &message{Header: h, raw: raw}, fromClient: d.fromClient, content: content}
		if err := r.open(sa, m); err != nil {
			return fmt.Errorf("datagram %d, %v %08x: %w", i, h.Exchange, h.MessageID, err)
		}
		r.messages = append(r.messages, m)
		for ; first <= i; first++ {
			r.datagrams[first].message = m
		}
		d.completes = true
	}
	return nil
}

// wholeMessage returns the datagram, or the message that it completes; nil if there
// are still fragments to come.
func wholeMessage(r *reassembly, datagram []byte) ([]byte, error) {
	h, body, err := isakmp.ParseHeader(datagram)
	if err != nil || h.NextPayload != isakmp.PayloadFragment {
		return datagram, err
	}
	ps, _, err := isakmp.ParsePayloads(h.NextPayload, body)
	if err != nil {
		return nil, err
	}
	f, err := isakmp.ParseFragment(ps[0].Body)
	if err != nil {
		return nil, err
	}
	return r.add(f, time.Time{})
}

// newRecordedSA is an SA that only decrypts and encrypts.
func newRecordedSA() *isakmpSA {
	return &isakmpSA{log: slog.New(slog.DiscardHandler), chains: make(map[uint32][]byte), state: stateUp}
}

// open fills in the rest of a message.
func (r *recording) open(sa *isakmpSA, m *recordedMessage) (err error) {
	if !m.Encrypted() {
		if m.payloads, _, err = isakmp.ParsePayloads(m.NextPayload, m.content); err == nil {
			r.noteClear(m)
		}
		return err
	}
	if sa.keys == nil {
		if err := r.deriveKeys(); err != nil {
			return err
		}
		sa.keys = r.keys
		sa.phase1IV = initialIV(r.ike, r.gxi, r.gxr, r.keys.block.BlockSize())
	}
	m.iv = sa.ivs(m.message)[0].iv
	if m.message, err = sa.decrypt(m.message, m.content); err != nil {
		return err
	}
	m.padded = make([]byte, len(m.content))
	cipher.NewCBCDecrypter(sa.keys.block, m.iv).CryptBlocks(m.padded, m.content)
	sa.commit(m.message)
	return nil
}

// noteClear takes cookies, SA, KE and nonces.
func (r *recording) noteClear(m *recordedMessage) {
	ke, nonce := m.body(isakmp.PayloadKE), m.body(isakmp.PayloadNonce)
	if m.fromClient {
		r.ckyI, r.saiB = m.CKYI, firstOf(r.saiB, m.body(isakmp.PayloadSA))
		r.gxi, r.ni = firstOf(r.gxi, ke), firstOf(r.ni, nonce)
		return
	}
	r.ckyR, r.gxr, r.nr = m.CKYR, firstOf(r.gxr, ke), firstOf(r.nr, nonce)
}

// firstOf is a, or b where there is no a yet.
func firstOf(a, b []byte) []byte {
	if a != nil {
		return a
	}
	return b
}

func (r *recording) gxy() []byte { return slices.Concat(r.logged("shared Diffie Hellman secret")...) }

func (r *recording) deriveKeys() (err error) {
	skeyid := skeyidSignature(r.ike.hash.hash, r.ni, r.nr, r.gxy())
	if r.auth == AuthXAUTHPSK {
		skeyid = skeyidPSK(r.ike.hash.hash, []byte(labSecret), r.ni, r.nr)
	}
	r.keys, err = newPhase1Keys(r.ike, skeyid, r.gxy(), r.ckyI, r.ckyR)
	return err
}

// find returns the first message that one side sent with a payload of a type.
func (r *recording) find(t testing.TB, fromClient bool, exchange isakmp.ExchangeType, payload isakmp.PayloadType) *recordedMessage {
	t.Helper()
	i := slices.IndexFunc(r.messages, func(m *recordedMessage) bool {
		return m.fromClient == fromClient && m.Exchange == exchange && m.body(payload) != nil
	})
	if i < 0 {
		t.Fatalf("no %v message with %v", exchange, payload)
	}
	return r.messages[i]
}

// phase1 is the exchange that the recording begins with.
func (r *recording) phase1() isakmp.ExchangeType { return r.messages[0].Exchange }

// findConfig finds the Transaction of a type that holds an attribute.
func (r *recording) findConfig(t testing.TB, typ isakmp.ConfigType, attribute uint16) (*recordedMessage, isakmp.Attribute) {
	t.Helper()
	for _, m := range r.messages {
		if m.Exchange != isakmp.Transaction {
			continue
		}
		c := m.config(t)
		if a, ok := isakmp.Find(c.Attributes, attribute); ok && c.Type == typ {
			return m, a
		}
	}
	t.Fatalf("no %v with attribute %d", typ, attribute)
	return nil, isakmp.Attribute{}
}

// config is what a Transaction says.
func (m *recordedMessage) config(t testing.TB) isakmp.Config {
	t.Helper()
	c, err := isakmp.ParseConfig(m.body(isakmp.PayloadAttribute))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// recordedQuickMode is one Quick Mode of a recording.
type recordedQuickMode struct {
	byClient      bool
	qm1, qm2, qm3 *recordedMessage
	spiI, spiR    []byte // chosen by initiator and responder, for what they receive
	ni, nr        []byte
	kei           []byte // KE of the initiator; nil without PFS
	gqm           []byte // g(qm)^xy of the log; nil without PFS
	keyIR, keyRI  []byte // of the log: from initiator to responder, and back
}

// quickModes lists them in their order.
func (r *recording) quickModes(t testing.TB) []*recordedQuickMode {
	t.Helper()
	byID := make(map[uint32]*recordedQuickMode)
	var out []*recordedQuickMode
	for _, m := range r.messages {
		if m.Exchange != isakmp.QuickMode {
			continue
		}
		q := byID[m.MessageID]
		switch {
		case q == nil:
			q = &recordedQuickMode{byClient: m.fromClient, qm1: m}
			byID[m.MessageID], out = q, append(out, q)
			q.spiI, q.ni, q.kei = espSPI(t, m), m.body(isakmp.PayloadNonce), m.body(isakmp.PayloadKE)
		case q.qm2 == nil:
			q.qm2, q.spiR, q.nr = m, espSPI(t, m), m.body(isakmp.PayloadNonce)
		default:
			q.qm3 = m
		}
	}
	all := func(label string, i int) []byte {
		if v := r.logged(label); len(v) > 0 {
			return v[i]
		}
		return nil
	}
	for i, q := range out {
		q.keyIR = slices.Concat(all("encryption initiator key", i), all("integrity initiator key", i))
		q.keyRI = slices.Concat(all("encryption responder key", i), all("integrity responder key", i))
		if q.kei != nil {
			q.gqm = all("DH secret", i)
		}
	}
	return out
}

func espSPI(t testing.TB, m *recordedMessage) []byte {
	t.Helper()
	sa, err := isakmp.ParseSA(m.body(isakmp.PayloadSA))
	if err != nil {
		t.Fatal(err)
	}
	return sa.Proposals[0].SPI
}

// samplesCA is the CA of all gateways in the recordings.
func samplesCA(t testing.TB) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(samples, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
