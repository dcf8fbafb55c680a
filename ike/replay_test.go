package ike

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/x509"
	"encoding/binary"
	"errors"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// replay plays the gateway's part of a recording to a client of ours, which draws
// the recorded client's random numbers and has its Diffie-Hellman keys.
//
// The gateway's datagrams come when they came then, but not before the client has
// said what they answer. Where it says the same in other words, the answer would
// not decrypt, since its IV is the end of the recorded words; so the chain is set to
// that as soon as the client has spoken.
type replay struct {
	*recording
	t       testing.TB
	client  Config
	session *Session
	rand    recordedRand
	kx      []*recordedKey
	// alter changes the plaintext of one message of the gateway.
	altered *recordedMessage
	alter   func(plain []byte)

	began    time.Time
	stop     chan struct{} // ends the play
	toClient chan recordedDatagram
	said     chan struct{} // the client has said its next message

	mu     sync.Mutex
	next   int                // the client's next in messages
	words  []*recordedMessage // that the client said, byte for byte
	sense  []*recordedMessage // that it said in other words
	last   []byte             // what it said last
	spoken []goldenWord       // all that it said, without repetitions
	extra  []isakmp.Header    // of messages that the recorded client did not send
	esp    [][]byte           // its ESP packets
}

// unreplayable says which recordings cannot be replayed, and why.
var unreplayable = map[string]string{
	"hybrid-aggr-vpnc": "vpnc's nonces have 20 bytes and ours have 32: SKEYID would differ, and all that follows",
	"psk-aggr-vpnc":    "vpnc's nonces have 20 bytes and ours have 32: SKEYID would differ, and all that follows",
}

// inReplay runs a test in a synctest bubble, at the time of a recording.
func inReplay(t *testing.T, name string, test func(*testing.T, *recording)) {
	t.Helper()
	if reason := unreplayable[name]; reason != "" {
		t.Skip(reason)
	}
	r := readRecording(t, name)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(r.began))
		test(t, r)
	})
}

// newReplay prepares a replay that begins now.
func newReplay(t testing.TB, r *recording) *replay {
	p := &replay{
		recording: r, t: t, stop: make(chan struct{}),
		toClient: make(chan recordedDatagram), said: make(chan struct{}, len(r.messages)),
		rand: recordedRand{rest: mathrand.NewChaCha8([32]byte{})},
	}
	p.configure()
	p.draw()
	return p
}

// end stops the play.
func (p *replay) end() { close(p.stop) }

// configure makes a Config for what the recorded client offered and wanted.
func (p *replay) configure() {
	_, user := p.findConfig(p.t, isakmp.ConfigReply, isakmp.XAuthUserName)
	_, password := p.findConfig(p.t, isakmp.ConfigReply, isakmp.XAuthPassword)
	idii, err := isakmp.ParseID(p.find(p.t, true, p.phase1(), isakmp.PayloadID).body(isakmp.PayloadID))
	if err != nil {
		p.t.Fatal(err)
	}
	suite := p.recording.esp
	suite.group = nil
	p.client = Config{
		Gateway: netip.AddrPortFrom(p.gateway, p.datagrams[0].port).String(),
		Login:   string(user.Value), Password: Secret(password.Value),
		Auth: p.auth, Exchange: exchangeOf(p.phase1()), PFS: PFSOff,
		LocalID: &Identity{idii.Type, idii.Data},
		IKE:     []IKESuite{p.ike}, ESP: []ESPSuite{suite}, AllowWeak: p.ike.Weak() | suite.Weak(),
		ListenPacket: func(context.Context, netip.Addr, uint16) (net.PacketConn, error) {
			return &replaySocket{ends: newReadEnds(), p: p, closed: make(chan struct{})}, nil
		},
		Rand: &p.rand,
	}
	if p.client.AllowWeak != 0 {
		p.client.AllowWeak |= WeakRSA1024 | WeakSHA1Cert // a gateway of that age has such a certificate too
	}
	p.client.Trust.CAs = []*x509.Certificate{samplesCA(p.t)}
	if g := p.recording.esp.group; g != nil {
		p.client.PFS = PFS(g.name)
	}
	switch p.auth {
	case AuthXAUTHPSK:
		p.client.GroupSecret = Secret(labSecret)
	case AuthXAUTHRSA:
		// The recorded client's key stayed in the lab. The gateway's messages do
		// not depend on the certificate.
		pki := &testPKI{t: p.t}
		p.client.Certificates, p.client.Key = []*x509.Certificate{pki.gateway(nil)}, testKeys().gateway
	}
	if p.remoteID != "" {
		id, err := ParseIdentity(p.remoteID)
		if err != nil {
			p.t.Fatal(err)
		}
		p.client.RemoteID = &id
	}
}

// draw collects the recorded client's random numbers and keys, in the order in which
// ours draws them.
func (p *replay) draw() {
	p.rand.script = [][]byte{p.ckyI[:], p.ni}
	p.kx = []*recordedKey{{p.gxi, p.gxr, p.gxy()}}
	modes := make(map[uint32]*recordedQuickMode)
	for _, q := range p.quickModes(p.t) {
		modes[q.qm1.MessageID] = q
		if q.kei != nil {
			p.kx = append(p.kx, &recordedKey{q.kei, q.qm2.body(isakmp.PayloadKE), q.gqm})
		}
	}
	for _, m := range p.messages {
		q := modes[m.MessageID]
		switch mid := be32(m.MessageID); {
		case !m.fromClient || m.MessageID == 0:
		case m.Exchange == isakmp.Informational:
			p.rand.script = append(p.rand.script, mid)
		case m.Exchange == isakmp.Transaction:
			if c := m.config(p.t); c.Type == isakmp.ConfigRequest {
				p.rand.script = append(p.rand.script, mid, []byte{byte(c.Identifier >> 8), byte(c.Identifier)})
			}
		case m == q.qm1:
			p.rand.script = append(p.rand.script, mid, q.ni, q.spiI)
		case m == q.qm2:
			p.rand.script = append(p.rand.script, q.nr, q.spiR)
		}
	}
}

// recordedRand gives the numbers of its script, each to the first who wants one of
// its length, and to others arbitrary ones.
type recordedRand struct {
	script [][]byte
	rest   *mathrand.ChaCha8
}

func (r *recordedRand) Read(b []byte) (int, error) {
	if len(r.script) > 0 && len(r.script[0]) == len(b) {
		copy(b, r.script[0])
		r.script = r.script[1:]
		return len(b), nil
	}
	return r.rest.Read(b)
}

// recordedKey is a client's Diffie-Hellman key of which only the results are known.
type recordedKey struct{ ours, theirs, secret []byte }

func (k *recordedKey) public() []byte { return k.ours }

func (k *recordedKey) shared(peer []byte) ([]byte, error) {
	if !bytes.Equal(peer, k.theirs) {
		return nil, errBadKE
	}
	return bytes.Clone(k.secret), nil
}

// dial connects.
func (p *replay) dial() (*Session, error) {
	p.began = time.Now()
	go p.play()
	return dial(context.Background(), &p.client, func(s *Session) {
		p.session = s
		// The recorded client would not rekey by itself what the gateway rekeys.
		s.cfg.Event = func(e Event) {
			if e.Kind == EventRekeyed {
				s.keepChildren()
			}
		}
		s.phase1Lifetime = lifetimeOf(phase1Attributes(p.t, p.saiB), isakmp.AttrLifeType, isakmp.AttrLifeDuration)
		s.newKeyExchange = func(g *group) (keyExchange, error) {
			if len(p.kx) == 0 || len(p.kx[0].ours) != g.size {
				return nil, errors.New("the recorded client made no such key")
			}
			k := p.kx[0]
			p.kx = p.kx[1:]
			return k, nil
		}
	})
}

// keepChildren keeps the session from rekeying. It runs in the control loop.
func (s *Session) keepChildren() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.children {
		c.rekeyAt = c.expires
	}
}

func phase1Attributes(t testing.TB, saiB []byte) []isakmp.Attribute {
	t.Helper()
	sa, err := isakmp.ParseSA(saiB)
	if err != nil {
		t.Fatal(err)
	}
	return sa.Proposals[0].Transforms[0].Attributes
}

// play sends the gateway's datagrams, and waits where the client had spoken.
func (p *replay) play() {
	for _, d := range p.datagrams {
		switch {
		case d.fromClient && !d.completes:
		case d.fromClient:
			select {
			case <-p.said:
			case <-p.stop:
				return
			}
		case d.message != nil && d.message == p.altered:
			if d.completes {
				d.payload = p.forge(d.port)
				p.send(d)
			}
		default:
			p.send(d)
		}
	}
}

func (p *replay) send(d recordedDatagram) {
	due := time.NewTimer(time.Until(p.began.Add(d.at)))
	defer due.Stop()
	select {
	case <-due.C:
	case <-p.stop:
		return
	}
	select {
	case p.toClient <- d:
	case <-p.stop:
	}
}

// forge makes the altered message: what alter makes of the plaintext, encrypted as
// the gateway did.
func (p *replay) forge(port uint16) []byte {
	m := p.altered
	body := bytes.Clone(m.content)
	if m.Encrypted() {
		body = bytes.Clone(m.padded)
	}
	p.alter(body)
	if m.Encrypted() {
		cipher.NewCBCEncrypter(p.keys.block, m.iv).CryptBlocks(body, body)
	}
	out := append(m.Header.Append(nil), body...)
	if port == portNATT {
		out = append(make([]byte, nonESPMarkerLen), out...)
	}
	return out
}

// heard looks at a message of the client. If it is the next of the recording, the
// play goes on behind it.
func (p *replay) heard(raw []byte, port uint16) {
	h, _, err := isakmp.ParseHeader(raw)
	if err != nil {
		p.t.Errorf("the client sent %x: %v", raw, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if bytes.Equal(raw, p.last) {
		return // sent again
	}
	p.last = bytes.Clone(raw)
	p.spoken = append(p.spoken, goldenWord{true, port, p.last})
	for p.next < len(p.messages) && !p.messages[p.next].fromClient {
		p.next++
	}
	if p.next == len(p.messages) || p.messages[p.next].Exchange != h.Exchange || p.messages[p.next].MessageID != h.MessageID {
		p.extra = append(p.extra, h)
		return
	}
	m := p.messages[p.next]
	p.next++
	if sameBytes(raw, m) {
		p.words = append(p.words, m)
	} else {
		p.sense = append(p.sense, m)
	}
	p.rechain(m)
	p.said <- struct{}{}
}

// rechain sets the IV of the client's SA to the end of a recorded message. It runs
// in the goroutine that sends, which owns the SA.
func (p *replay) rechain(m *recordedMessage) {
	if !m.Encrypted() {
		return
	}
	t := p.session.transport
	t.mu.Lock()
	sa := t.sas[p.ckyI]
	t.mu.Unlock()
	sa.commit(m.message)
}

// replaySocket is the client's socket.
type replaySocket struct {
	net.PacketConn // without one: what is not below is not used
	ends           readEnds
	p              *replay
	once           sync.Once
	closed         chan struct{}
}

func (s *replaySocket) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-s.p.toClient:
		from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.p.gateway, d.port))
		return copy(b, d.payload), from, nil
	case <-s.closed:
		return 0, nil, net.ErrClosed
	case <-s.ends:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (s *replaySocket) SetReadDeadline(t time.Time) error { return s.ends.SetReadDeadline(t) }
func (s *replaySocket) SetWriteDeadline(time.Time) error  { return nil }

func (s *replaySocket) WriteTo(b []byte, to net.Addr) (int, error) {
	d := recordedDatagram{port: addrPortOf(to).Port(), payload: bytes.Clone(b)}
	switch raw := d.isakmp(); {
	case bytes.Equal(b, natKeepalive):
	case raw != nil:
		s.p.heard(raw, d.port)
	default:
		s.p.mu.Lock()
		s.p.esp = append(s.p.esp, d.payload)
		s.p.mu.Unlock()
	}
	return len(b), nil
}

func (s *replaySocket) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// LocalAddr is the recorded client's own address; it was behind a NAT.
func (s *replaySocket) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(natClient, portIKE))
}

var natClient = netip.MustParseAddr("192.168.50.2")

// labSettings are what most of the recorded gateways give.
var labSettings = Assignment{
	Addresses:     []netip.Prefix{netip.MustParsePrefix("10.99.0.1/32")},
	DNS:           []netip.Addr{netip.MustParseAddr("10.10.0.53"), netip.MustParseAddr("10.10.1.53")},
	WINS:          []netip.Addr{netip.MustParseAddr("10.10.0.42"), netip.MustParseAddr("10.10.1.42")},
	DefaultDomain: "corp.lab.test", SplitDNS: []string{"corp.lab.test"},
	SplitInclude: []netip.Prefix{
		netip.MustParsePrefix("10.10.0.0/24"), netip.MustParsePrefix("10.10.1.0/24"), netip.MustParsePrefix("10.10.2.0/24"),
	},
	Banner: "Welcome to the lab gateway",
}

// otherSettings are those of gateways that differ.
var otherSettings = map[string]Assignment{
	"legacy-3des-md5": {
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.1.1/32")},
		DNS:       []netip.Addr{netip.MustParseAddr("10.10.0.53")},
	},
	"split8": {
		Addresses:     []netip.Prefix{netip.MustParsePrefix("10.99.2.1/32")},
		DNS:           labSettings.DNS,
		DefaultDomain: "corp.lab.test",
		SplitInclude:  labSettings.SplitInclude[:2],
		SplitExclude:  []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24")},
	},
}

// TestReplay connects to what strongSwan said: signature and certificate must hold,
// login and password be taken, the settings understood, and the ESP SAs have the
// keys of the log.
func TestReplay(t *testing.T) {
	for _, row := range recordings {
		if row.name == "wrong-password" {
			continue // TestReplayWrongPassword
		}
		t.Run(row.name, func(t *testing.T) {
			inReplay(t, row.name, func(t *testing.T, r *recording) {
				p := newReplay(t, r)
				defer p.end()
				if row.name == "push" {
					p.client.ModeConfig = ModeConfigPush
				}
				p.replay(t)
			})
		})
	}
}

// TestReplayPushUnasked asks for settings that the gateway pushes unasked: with
// "auto" the REQUEST is out when the SET comes.
func TestReplayPushUnasked(t *testing.T) {
	inReplay(t, "push", func(t *testing.T, r *recording) {
		p := newReplay(t, r)
		defer p.end()
		const mid, identifier = 0xfeedface, 0xbeef
		script := append([][]byte{be32(mid), be32(identifier)[2:]}, p.rand.script[2:]...)
		p.rand.script = append(p.rand.script[:2:2], script...)
		p.replay(t, mid)
	})
}

// replay connects, lets all of the recording happen and closes. The client must not
// say anything beside the recorded client's messages, except what is expected.
func (p *replay) replay(t *testing.T, expected ...uint32) {
	t.Helper()
	s, err := p.dial()
	if err != nil {
		t.Fatal(err)
	}
	received := receive(s)
	time.Sleep(p.datagrams[len(p.datagrams)-1].at + time.Second)
	want, ok := otherSettings[p.name]
	if !ok {
		want = labSettings
	}
	if got := s.Assignment(); !reflect.DeepEqual(got, want) {
		t.Errorf("settings:\n got %+v\nwant %+v", got, want)
	}
	p.checkStats(t, s.Stats())
	p.checkPackets(t, s, received)
	s.Close()
	for _, h := range p.extra {
		if !slices.Contains(expected, h.MessageID) {
			t.Errorf("the client sent %+v, which the recorded one did not", h)
		}
	}
	for _, m := range p.sense {
		if whyOtherWords(t, p.recording, m) == "" {
			t.Errorf("%v is not the recorded one", m.message)
		}
	}
	if len(p.rand.script) > 0 && p.name != "rekey-by-gateway" { // there, one Delete less
		t.Errorf("random numbers that the client did not draw: %x", p.rand.script)
	}
}

// whyOtherWords says why a message of ours need not be the recorded client's. All
// else must be, byte for byte: MM5 with HASH_I, login and password, HASH(3), answers
// to DPD and to a Quick Mode, Deletes.
func whyOtherWords(t testing.TB, r *recording, m *recordedMessage) string {
	switch {
	case !m.Encrypted():
		return "we send other vendor IDs, and a false NAT-D differs from another false NAT-D"
	case m.Exchange == isakmp.AggressiveMode:
		return "NAT-D, in AM3"
	case m.body(isakmp.PayloadSig) != nil:
		return "our key is another"
	case m.Exchange == isakmp.QuickMode && m.body(isakmp.PayloadSA) != nil && r.quickModeBy(m):
		return "the order of attributes and the lifetime in QM1"
	case m.Exchange == isakmp.Informational && m.body(isakmp.PayloadDelete) != nil && r.name == "rekey-by-gateway":
		return "we delete several ESP SAs at once"
	case m.Exchange == isakmp.Transaction:
		switch m.config(t).Type {
		case isakmp.ConfigAck:
			return "we repeat STATUS and acknowledge all attributes"
		case isakmp.ConfigRequest:
			return "we ask for more"
		}
	}
	return ""
}

// quickModeBy reports whether m belongs to a Quick Mode that the client began.
func (r *recording) quickModeBy(m *recordedMessage) bool {
	first := slices.IndexFunc(r.messages, func(o *recordedMessage) bool { return o.MessageID == m.MessageID })
	return r.messages[first].fromClient
}

func (p *replay) checkStats(t *testing.T, st Stats) {
	t.Helper()
	if st.Suite != p.ike.String() || st.Exchange != exchangeOf(p.phase1()) || st.NATT != "rfc3947" || st.NAT != NATBoth ||
		!st.DPD || !st.Fragmentation || st.Gateway.Addr() != p.gateway {
		t.Errorf("stats %+v", st)
	}
	q := p.lastQuickMode(t)
	if c := st.Children[0]; c.SPIIn != binary.BigEndian.Uint32(q.ours) || c.SPIOut != binary.BigEndian.Uint32(q.theirs) || c.Suite != p.recording.esp.String() {
		t.Errorf("ESP SA %+v, the log has %x and %x", c, q.ours, q.theirs)
	}
}

// sides are the SPIs and keys of a Quick Mode as the client sees them.
type sides struct{ ours, theirs, keyIn, keyOut []byte }

func (p *replay) lastQuickMode(t *testing.T) sides {
	all := p.quickModes(t)
	q := all[len(all)-1]
	if q.byClient {
		return sides{q.spiI, q.spiR, q.keyRI, q.keyIR}
	}
	return sides{q.spiR, q.spiI, q.keyIR, q.keyRI}
}

// checkPackets expects the recorded packets of the gateway, all of them answers to
// pings, and exchanges two more under the keys of the log.
func (p *replay) checkPackets(t *testing.T, s *Session, received func() [][]byte) {
	t.Helper()
	vip := s.Assignment().Addresses[0].Addr()
	var recorded int
	for _, d := range p.datagrams {
		if !d.fromClient && d.message == nil {
			recorded++
		}
	}
	packets := received()
	if recorded == 0 || len(packets) != recorded {
		t.Errorf("%d packets of %d", len(packets), recorded)
	}
	for _, packet := range packets {
		if _, dst, ok := packetAddrs(packet); !ok || dst != vip || !isEchoReply(packet) {
			t.Errorf("no answer to a ping: %x", packet)
		}
	}

	q := p.lastQuickMode(t)
	theirs, err := esp.NewInbound(p.recording.esp.transform(), binary.BigEndian.Uint32(q.theirs), q.keyOut)
	if err != nil {
		t.Fatal(err)
	}
	out := ipv4(vip, insideHost, "ping")
	send(t, s, out)
	p.mu.Lock()
	last := p.esp[len(p.esp)-1]
	p.mu.Unlock()
	if got, err := theirs.Open(make([]byte, len(last)), last); err != nil || !bytes.Equal(got, out) {
		t.Errorf("with the key of the log the gateway gets %x, %v", got, err)
	}

	in := ipv4(insideHost, vip, "pong")
	p.send(recordedDatagram{port: portNATT, payload: p.seal(t, q, in, recorded+1)})
	synctest.Wait()
	if packets = received(); !bytes.Equal(packets[len(packets)-1], in) {
		t.Errorf("with the key of the log the client gets %x", packets[len(packets)-1])
	}
}

// seal makes an ESP packet of the gateway with a sequence number.
func (p *replay) seal(t *testing.T, q sides, inner []byte, sequence int) (packet []byte) {
	t.Helper()
	gateway, err := esp.NewOutbound(p.recording.esp.transform(), binary.BigEndian.Uint32(q.ours), q.keyIn, p.rand.rest)
	if err != nil {
		t.Fatal(err)
	}
	for range sequence {
		buf := make([]byte, esp.MaxHeadroom+len(inner)+esp.MaxTailroom)
		copy(buf[esp.MaxHeadroom:], inner)
		if packet, err = gateway.Seal(buf, esp.MaxHeadroom, len(inner)); err != nil {
			t.Fatal(err)
		}
	}
	return packet
}

// isEchoReply checks an ICMP message with its checksum (RFC 792).
func isEchoReply(packet []byte) bool {
	icmp := packet[20:]
	var sum uint32
	for i := 0; i+1 < len(icmp); i += 2 {
		sum += uint32(icmp[i])<<8 | uint32(icmp[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return packet[9] == 1 && icmp[0] == 0 && sum == 0xffff
}

func TestReplayWrongPassword(t *testing.T) {
	inReplay(t, "wrong-password", func(t *testing.T, r *recording) {
		p := newReplay(t, r)
		defer p.end()
		_, err := p.dial()
		var credentials *CredentialsError
		if !errors.As(err, &credentials) || credentials.Step != StepSignIn {
			t.Errorf("error %v", err)
		}
		var replies int
		for _, m := range p.words {
			if m.Exchange == isakmp.Transaction {
				replies++
			}
		}
		if replies != 1 {
			t.Errorf("the recorded login and password were sent %d times", replies)
		}
	})
}
