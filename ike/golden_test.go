package ike

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/isakmp"
)

var update = flag.Bool("update", false, "write testdata/golden anew, from conversations with our own gateway and with the recorded strongSwan")

// goldenModes are the conversations of which every byte is kept: each way to
// authenticate in each exchange, and what else changes the form of messages. Those
// with ECDSA are missing, since Go makes no two equal signatures of that kind; RSA's
// are always the same (RFC 8017 §8.2).
var goldenModes = []struct {
	name  string
	setup func(*world)
}{
	{"hybrid-main", func(w *world) { w.client.Exchange = ExchangeMain }},
	{"hybrid-aggressive", func(w *world) { w.client.Exchange = ExchangeAggressive }},
	{"hybrid-group-main", func(w *world) { w.client.Exchange = ExchangeMain; goldenGroup(w) }},
	{"hybrid-group-aggressive", func(w *world) { w.client.Exchange = ExchangeAggressive; goldenGroup(w) }},
	{"xauth-psk-main", func(w *world) { goldenSecret(w, ExchangeMain, AuthXAUTHPSK) }},
	{"xauth-psk-aggressive", func(w *world) { goldenSecret(w, ExchangeAggressive, AuthXAUTHPSK) }},
	{"xauth-rsa-main", func(w *world) { goldenCertificate(w, ExchangeMain, AuthXAUTHRSA) }},
	{"xauth-rsa-aggressive", func(w *world) { goldenCertificate(w, ExchangeAggressive, AuthXAUTHRSA) }},
	{"psk-main", func(w *world) { goldenSecret(w, ExchangeMain, AuthPSK) }},
	{"psk-aggressive", func(w *world) { goldenSecret(w, ExchangeAggressive, AuthPSK) }},
	{"rsa-main", func(w *world) { goldenCertificate(w, ExchangeMain, AuthRSA) }},
	{"rsa-aggressive", func(w *world) { goldenCertificate(w, ExchangeAggressive, AuthRSA) }},
	{"defaults", func(w *world) { w.client.IKE = nil }},
	{"push", func(w *world) {
		w.client.Exchange, w.client.ModeConfig, w.gateway.Push = ExchangeMain, ModeConfigPush, true
	}},
	{"per-network-pfs", func(w *world) {
		w.client.Exchange, w.client.PFS, w.client.Selectors = ExchangeMain, "ecp256", SelectorsPerNetwork
		w.client.ESP = suites(w.t, ParseESPSuite, "aes256-sha256")
	}},
	{"fragments", func(w *world) {
		w.client.Exchange, w.gateway.FragmentSize = ExchangeMain, 400
		w.prepare = func(s *Session) { s.fragmentAbove = 100 }
	}},
	{"nat-t-draft-02", func(w *world) {
		w.client.Exchange, w.client.NATT, w.gateway.NATT = ExchangeMain, NATTDraft02, []string{"draft-02"}
	}},
	{"nat-t-draft-00", func(w *world) {
		w.client.Exchange, w.client.NATT, w.gateway.NATT = ExchangeAggressive, NATTDraft00, []string{"draft-00"}
	}},
}

func goldenGroup(w *world) {
	w.withSecret()
	w.gateway.Secrets, w.gateway.MutualGroup = map[string]string{testGroup: testGroupSecret}, true
}

func goldenSecret(w *world, exchange Exchange, auth AuthMethod) {
	w.client.Exchange, w.client.Auth = exchange, auth
	w.withSecret()
}

func goldenCertificate(w *world, exchange Exchange, auth AuthMethod) {
	w.client.Exchange, w.client.Auth = exchange, auth
	w.certifyBoth(testKeys().gateway, testKeys().sub)
}

// goldenFlow is a conversation as a file has it. Where the client signs, its key and
// certificate are there too: throw-away ones, made for the file.
type goldenFlow struct {
	ca, certificate *x509.Certificate
	key             crypto.Signer
	words           []goldenWord
}

// goldenWord is a datagram.
type goldenWord struct {
	fromClient bool
	port       uint16 // the gateway's
	data       []byte
}

func (g goldenWord) String() string {
	side := "gateway"
	if g.fromClient {
		side = "client"
	}
	return fmt.Sprintf("%s %d %x", side, g.port, g.data)
}

const goldenHint = "if it is meant to say so: go test ./ike -run TestGolden -update"

func goldenFile(name string) string { return filepath.Join("testdata", "golden", name+".txt") }

// write writes the file.
func (f *goldenFlow) write(t *testing.T, name, about string) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n# Written by go test ./ike -run TestGolden -update.\n", about)
	if f.ca != nil {
		fmt.Fprintf(&b, "ca %x\n", f.ca.Raw)
	}
	if f.key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(f.key)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "certificate %x\nkey %x\n", f.certificate.Raw, der)
	}
	for _, w := range f.words {
		fmt.Fprintln(&b, w)
	}
	if err := os.MkdirAll(filepath.Dir(goldenFile(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenFile(name), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readGolden reads a file.
func readGolden(t *testing.T, name string) *goldenFlow {
	t.Helper()
	text, err := os.ReadFile(goldenFile(name))
	if err != nil {
		t.Fatalf("%v (go test ./ike -run TestGolden -update writes it)", err)
	}
	f := new(goldenFlow)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if fields[0] == "#" {
			continue
		}
		b, err := hex.DecodeString(fields[len(fields)-1])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		switch fields[0] {
		case "ca":
			f.ca, err = x509.ParseCertificate(b)
		case "certificate":
			f.certificate, err = x509.ParseCertificate(b)
		case "key":
			var key any
			key, err = x509.ParsePKCS8PrivateKey(b)
			f.key, _ = key.(crypto.Signer)
		default:
			port, _ := strconv.Atoi(fields[1])
			f.words = append(f.words, goldenWord{fields[0] == "client", uint16(port), b})
		}
		if err != nil {
			t.Fatalf("%s, %s: %v", name, fields[0], err)
		}
	}
	return f
}

// clientWords are the datagrams of the client.
func (f *goldenFlow) clientWords() []goldenWord {
	return slices.DeleteFunc(slices.Clone(f.words), func(w goldenWord) bool { return !w.fromClient })
}

// TestGolden: with the same random numbers the client says the same, byte for byte,
// from its first message to its Deletes: phase 1, sign-in, settings, Quick Modes, ESP,
// keepalives and probes.
func TestGolden(t *testing.T) {
	for _, mode := range goldenModes {
		t.Run(mode.name, func(t *testing.T) {
			if *update {
				recordGolden(t, mode.name, mode.setup)
			}
			f := readGolden(t, mode.name)
			inWorld(t, func(w *world) {
				mode.setup(w)
				w.client.Rand = &lockedRand{Reader: seeded()}
				w.client.Trust = Trust{CAs: []*x509.Certificate{f.ca}}
				if f.key != nil {
					w.client.Certificates, w.client.Key = []*x509.Certificate{f.certificate}, f.key
				}
				p := newPlayback(f)
				w.client.ListenPacket = func(context.Context, netip.Addr, uint16) (net.PacketConn, error) { return p, nil }
				err := goldenLife(w)
				if want := f.clientWords(); p.differs != nil || len(p.said) != len(want) {
					t.Fatalf("%d of %d datagrams: %v\n%s", len(p.said), len(want), p.differs, goldenHint)
				}
				if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// lockedRand is for several goroutines. What they draw at different times is always
// the same.
type lockedRand struct {
	io.Reader
	mu sync.Mutex
}

func (r *lockedRand) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Reader.Read(b)
}

// recordGolden writes a file from a conversation with our own gateway.
func recordGolden(t *testing.T, name string, setup func(*world)) {
	t.Helper()
	inWorld(t, func(w *world) {
		setup(w)
		w.client.Rand = &lockedRand{Reader: seeded()}
		w.setRule(slow) // so that nothing happens at once, in an order that chance decides
		w.start()
		if err := goldenLife(w); err != nil {
			t.Fatal(err)
		}
		f := &goldenFlow{ca: w.client.Trust.CAs[0], key: w.client.Key}
		if f.key != nil {
			f.certificate = w.client.Certificates[0]
		}
		for _, d := range w.sent(nil) {
			g := goldenWord{fromClient: byClient(d), port: d.from.Port(), data: d.data}
			if g.fromClient {
				g.port = d.to.Port()
			}
			f.words = append(f.words, g)
		}
		f.write(t, name, "A conversation of our client with our gateway.")
	})
}

// goldenLife is what a client does in these conversations.
func goldenLife(w *world) error {
	s, err := w.tryDial()
	if err != nil {
		return err
	}
	time.Sleep(time.Second)
	send(w.t, s, ipv4(firstVIP, insideHost, "first"))
	time.Sleep(time.Second)
	w.rekey(s)
	time.Sleep(5500 * time.Millisecond) // the new one has taken over, and no timer is due
	send(w.t, s, ipv4(firstVIP, insideHost, "second"))
	time.Sleep(30 * time.Second) // a probe
	err = s.Err()
	s.Close()
	synctest.Wait()
	return err
}

// playback plays the gateway's part of a file: behind each datagram of the client it
// says what it said then. It is the client's socket.
type playback struct {
	*goldenFlow
	readEnds
	peer   netip.Addr
	inbox  chan goldenWord
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	next    int // in words
	said    [][]byte
	differs error
}

func newPlayback(f *goldenFlow) *playback {
	return &playback{goldenFlow: f, readEnds: newReadEnds(), peer: gatewayAddr, inbox: make(chan goldenWord, len(f.words)), closed: make(chan struct{})}
}

func (p *playback) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-p.closed:
		return 0, nil, net.ErrClosed
	case <-p.readEnds:
		return 0, nil, os.ErrDeadlineExceeded
	case g := <-p.inbox:
		time.Sleep(2 * latency)
		return copy(b, g.data), net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.peer, g.port)), nil
	}
}

func (p *playback) WriteTo(b []byte, to net.Addr) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := goldenWord{true, addrPortOf(to).Port(), bytes.Clone(b)}
	p.said = append(p.said, got.data)
	switch {
	case p.differs != nil:
		return len(b), nil
	case p.next == len(p.words):
		p.differs = fmt.Errorf("beyond the end of the file it says %v", got)
		return len(b), nil
	case got.String() != p.words[p.next].String():
		p.differs = fmt.Errorf("it says\n%s\n%v\ninstead of\n%s\n%v", got.about(), got, p.words[p.next].about(), p.words[p.next])
		return len(b), nil
	}
	for p.next++; p.next < len(p.words) && !p.words[p.next].fromClient; p.next++ {
		p.inbox <- p.words[p.next]
	}
	return len(b), nil
}

// about says what kind of datagram it is.
func (g goldenWord) about() string {
	d := recordedDatagram{port: g.port, payload: g.data}
	h, _, err := isakmp.ParseHeader(d.isakmp())
	if err != nil {
		return "no IKE"
	}
	return fmt.Sprintf("%v %08x, %d bytes", h.Exchange, h.MessageID, h.Length)
}

func (p *playback) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// LocalAddr is the first that the network of the tests gives.
func (p *playback) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(clientAddr, goldenPort))
}

// goldenPort is the client's port in all files, the first of the tests' network.
const goldenPort = 49152

func (p *playback) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (p *playback) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// TestGoldenStrongSwan: what our client says to the recorded strongSwan, also where
// it need not be the recorded client's words (see whyOtherWords).
func TestGoldenStrongSwan(t *testing.T) {
	for _, row := range recordings {
		name := "strongswan-" + row.name
		t.Run(row.name, func(t *testing.T) {
			inReplay(t, row.name, func(t *testing.T, r *recording) {
				p := newReplay(t, r)
				defer p.end()
				f := &goldenFlow{key: p.client.Key}
				if f.key != nil {
					f.certificate = p.client.Certificates[0]
				}
				if !*update {
					f = readGolden(t, name)
				}
				if f.key != nil {
					p.client.Certificates, p.client.Key = []*x509.Certificate{f.certificate}, f.key
				}
				if row.name == "push" {
					p.client.ModeConfig = ModeConfigPush
				}
				if s, err := p.dial(); err == nil {
					time.Sleep(p.datagrams[len(p.datagrams)-1].at + time.Second)
					s.Close()
				} else if row.name != "wrong-password" {
					t.Fatal(err)
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				if *update {
					f.words = p.spoken
					f.write(t, name, "What our client says to strongSwan in test/lab/samples/"+row.name+".")
				}
				for i, got := range p.spoken {
					if i >= len(f.words) || got.String() != f.words[i].String() {
						t.Fatalf("message %d is another: %s\n%v\n%s", i, got.about(), got, goldenHint)
					}
				}
				if len(p.spoken) != len(f.words) {
					t.Errorf("%d messages of %d\n%s", len(p.spoken), len(f.words), goldenHint)
				}
			})
		})
	}
}
