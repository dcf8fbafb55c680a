package ike

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
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

	"wayfarer/ike/isakmp"
)

// exhaustive says whether tests with a stride go through everything, which takes
// minutes: make exhaustive.
func exhaustive() bool { return os.Getenv("EXHAUSTIVE") != "" }

// conversation is what was said until a client was connected, and what came of it.
// The client draws its random numbers from a seed, so it says the same again as long
// as it hears the same.
type conversation struct {
	client Config
	clock  time.Duration // from the beginning of a bubble
	words  []datagram    // of both sides
	// answers are the gateway's datagrams behind each of the client's, as indices of
	// words.
	answers [][]int
	outcome outcome
}

// outcome is everything negotiated or authenticated, and proof that the keys are the
// same: an ESP packet of the client.
type outcome struct {
	auth, suite, identity string
	certificate           [32]byte
	assignment            Assignment
	child                 ChildStats // without counters and times
	esp                   []byte

	lifetime, espLifetime time.Duration // may be shorter
}

// flipModes are the conversations, one for each way of phase 1 and of the settings.
var flipModes = []struct {
	name  string
	setup func(*world)
}{
	{"hybrid main", func(w *world) { w.client.Exchange = ExchangeMain }},
	{"hybrid aggressive", func(w *world) { w.client.Exchange, w.gateway.FragmentSize = ExchangeAggressive, -1 }},
	{"push", func(w *world) {
		w.client.Exchange, w.client.ModeConfig, w.gateway.Push = ExchangeMain, ModeConfigPush, true
	}},
	{"fragments", func(w *world) { w.client.Exchange, w.gateway.FragmentSize = ExchangeMain, 400 }},
	{"psk main", func(w *world) { w.client.Exchange, w.client.Auth = ExchangeMain, AuthPSK; w.withSecret() }},
	{"psk aggressive", func(w *world) { w.client.Exchange, w.client.Auth = ExchangeAggressive, AuthPSK; w.withSecret() }},
	{"xauth-psk main", func(w *world) { w.client.Exchange, w.client.Auth = ExchangeMain, AuthXAUTHPSK; w.withSecret() }},
	{"xauth-psk aggressive", func(w *world) {
		w.client.Exchange, w.client.Auth = ExchangeAggressive, AuthXAUTHPSK
		w.withSecret()
	}},
	{"rsa main", func(w *world) {
		w.client.Exchange, w.client.Auth = ExchangeMain, AuthRSA
		w.certifyBoth(testKeys().gateway, &cachedSigner{Signer: testKeys().sub})
	}},
	{"rsa aggressive", func(w *world) {
		w.client.Exchange, w.client.Auth, w.gateway.FragmentSize = ExchangeAggressive, AuthRSA, -1
		w.certifyBoth(testKeys().gateway, &cachedSigner{Signer: testKeys().sub})
	}},
	{"xauth-rsa main", func(w *world) {
		w.client.Exchange, w.client.Auth = ExchangeMain, AuthXAUTHRSA
		w.certifyBoth(testKeys().gateway, &cachedSigner{Signer: testKeys().sub})
	}},
	{"xauth-rsa aggressive", func(w *world) {
		w.client.Exchange, w.client.Auth, w.gateway.FragmentSize = ExchangeAggressive, AuthXAUTHRSA, -1
		w.certifyBoth(testKeys().gateway, &cachedSigner{Signer: testKeys().sub})
	}},
	{"pfs", func(w *world) { w.client.Exchange, w.client.PFS = ExchangeMain, "ecp256" }},
}

// cachedSigner signs the same only once: a signature takes longer than all the rest
// of a conversation.
type cachedSigner struct {
	crypto.Signer
	mu    sync.Mutex
	known map[string][]byte
}

func (c *cachedSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sig := c.known[string(digest)]; sig != nil {
		return bytes.Clone(sig), nil
	}
	sig, err := c.Signer.Sign(rand, digest, opts)
	if c.known == nil || len(c.known) > 1000 {
		c.known = make(map[string][]byte)
	}
	c.known[string(digest)] = bytes.Clone(sig)
	return sig, err
}

// converse records a conversation with a gateway of our own.
func converse(t *testing.T, setup func(*world)) *conversation {
	t.Helper()
	c := new(conversation)
	inWorld(t, func(w *world) {
		c.clock = time.Since(bubbleBegins())
		setup(w)
		w.client.Rand = seeded()
		w.start()
		s := w.dial()
		c.client = w.client
		for _, d := range w.sent(nil) {
			if byClient(d) {
				c.answers = append(c.answers, nil)
			} else {
				last := len(c.answers) - 1
				c.answers[last] = append(c.answers[last], len(c.words))
			}
			c.words = append(c.words, d)
		}
		c.outcome = outcomeOf(w.t, s, func() []byte {
			sent := w.sent(func(d datagram) bool { return byClient(d) && !isIKE(d.from, d.to, d.data) })
			return sent[len(sent)-1].data
		})
	})
	c.client.Event, c.client.Log = nil, nil
	return c
}

// bubbleBegins is the time at which every bubble starts.
func bubbleBegins() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func seeded() io.Reader { return mathrand.NewChaCha8([32]byte{1}) }

// outcomeOf looks at a connected session, and has it send a packet, which sent
// fetches.
func outcomeOf(t *testing.T, s *Session, sent func() []byte) outcome {
	t.Helper()
	time.Sleep(commitPatience + time.Millisecond) // nobody authenticates the commit bit
	send(t, s, ipv4(firstVIP, insideHost, "the very same packet"))
	st := s.Stats()
	child := st.Children[0]
	o := outcome{
		auth: st.Auth, suite: st.Suite, identity: st.Identity, certificate: st.CertificateSHA256, assignment: s.Assignment(),
		lifetime: st.Expires.Sub(st.Established), espLifetime: child.Expires.Sub(child.Established),
		child: ChildStats{SPIIn: child.SPIIn, SPIOut: child.SPIOut, Suite: child.Suite, Local: child.Local, Remote: child.Remote},
	}
	synctest.Wait()
	o.esp = sent()
	return o
}

// sameAs compares an outcome with that of the true conversation.
func (o outcome) sameAs(truth outcome) error {
	if o.lifetime > truth.lifetime || o.espLifetime > truth.espLifetime {
		return fmt.Errorf("lifetimes of %v and %v", o.lifetime, o.espLifetime)
	}
	o.lifetime, o.espLifetime = truth.lifetime, truth.espLifetime
	if !reflect.DeepEqual(o, truth) {
		return fmt.Errorf("%+v instead of %+v", o, truth)
	}
	return nil
}

// echo plays the gateway's part of a conversation again, with one bit of one of its
// datagrams flipped each time that it is sent. It is the client's socket.
type echo struct {
	*conversation
	readEnds
	flipped int // index in words; -1: none
	bit     int

	inbox  chan datagram
	closed chan struct{}
	once   sync.Once

	mu           sync.Mutex
	said         [][]byte // what the client has said
	heard        int      // how many datagrams the gateway has said
	esp          []byte
	transactions []transactionAt // of the client
}

// transactionAt is a Transaction of the client, and how much of the conversation it
// had heard.
type transactionAt struct {
	data  []byte
	heard int
}

func (c *conversation) echo(flipped, bit int) *echo {
	return &echo{conversation: c, readEnds: newReadEnds(), flipped: flipped, bit: bit, inbox: make(chan datagram, 256), closed: make(chan struct{})}
}

func (e *echo) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-e.closed:
		return 0, nil, net.ErrClosed
	case <-e.readEnds:
		return 0, nil, os.ErrDeadlineExceeded
	case d := <-e.inbox:
		return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
	}
}

func (e *echo) WriteTo(b []byte, to net.Addr) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	local, peer := addrPortOf(e.LocalAddr()), addrPortOf(to)
	h, ok := ikeHeader(local, peer, b)
	switch {
	case !ok:
		e.esp = bytes.Clone(b)
		return len(b), nil
	case h.Exchange == isakmp.Informational:
		return len(b), nil
	case h.Exchange == isakmp.Transaction:
		e.transactions = append(e.transactions, transactionAt{bytes.Clone(b), e.heard})
	}
	n := slices.IndexFunc(e.said, func(s []byte) bool { return bytes.Equal(s, b) })
	if n < 0 {
		n = len(e.said)
		e.said = append(e.said, bytes.Clone(b))
	}
	if n < len(e.answers) {
		for _, i := range e.answers[n] {
			e.answer(i)
		}
	}
	return len(b), nil
}

func (e *echo) answer(i int) {
	d := e.words[i]
	if i == e.flipped {
		d.data = bytes.Clone(d.data)
		d.data[e.bit/8] ^= 1 << (e.bit % 8)
	}
	e.heard = max(e.heard, i+1)
	select {
	case e.inbox <- d:
	default: // as a socket's buffer
	}
}

func (e *echo) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

func (e *echo) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(e.words[0].from)
}

func (e *echo) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (e *echo) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// dial connects, inside a bubble.
func (e *echo) dial() (*Session, error) {
	cfg := e.client
	cfg.Rand = seeded()
	cfg.ListenPacket = func(context.Context, netip.Addr, uint16) (net.PacketConn, error) { return e, nil }
	return Dial(context.Background(), &cfg)
}

// check dials and holds the outcome against the true one. It reports whether the
// client connected.
func (e *echo) check(t *testing.T) bool {
	t.Helper()
	s, err := e.dial()
	if err == nil {
		e.mu.Lock()
		e.esp = nil
		e.mu.Unlock()
		o := outcomeOf(t, s, func() []byte { return e.esp })
		if err := o.sameAs(e.outcome); err != nil {
			t.Errorf("connected by %v", err)
		}
		s.Close()
	}
	e.checkLogin(t)
	return err == nil
}

// checkLogin: no Transaction of the client comes before what went before the first of
// them in the true conversation, and its answer to the first XAUTH REQUEST is the
// true one.
func (e *echo) checkLogin(t *testing.T) {
	t.Helper()
	at := slices.IndexFunc(e.words, func(d datagram) bool {
		h, ok := ikeHeader(d.from, d.to, d.data)
		return ok && byClient(d) && h.Exchange == isakmp.Transaction
	})
	truth := e.words[at].data
	heard := at // datagrams, up to the last one of the gateway
	for heard > 0 && byClient(e.words[heard-1]) {
		heard--
	}
	for _, l := range e.transactions {
		if l.heard < heard {
			t.Errorf("a Transaction was sent after %d of %d datagrams", l.heard, heard)
		}
		if hasLogin := e.client.Auth != AuthPSK && e.client.Auth != AuthRSA; hasLogin && sameMID(l.data, truth) && !bytes.Equal(l.data, truth) {
			t.Errorf("another login was sent: %x", l.data)
		}
	}
}

// sameMID compares the message IDs of two messages behind markers.
func sameMID(a, b []byte) bool {
	const at = nonESPMarkerLen + 20
	return bytes.Equal(a[at:at+4], b[at:at+4])
}

// protectedBytes tells which bytes of a datagram may not differ: ciphertext, where a
// flipped bit spoils a block, and in clear what the gateway's proof covers or is.
// Fragments are of encrypted messages here; all but the headers is such in them.
func protectedBytes(d datagram) []bool {
	protected := make([]bool, len(d.data))
	mark := func(from, to int) {
		for i := from; i < to; i++ {
			protected[i] = true
		}
	}
	msg := ikeMessage(d.from, d.to, d.data)
	start := len(d.data) - len(msg)
	h, body, err := isakmp.ParseHeader(msg)
	if err != nil {
		return protected
	}
	switch start += isakmp.HeaderLen; {
	case h.Encrypted():
		mark(start, len(d.data))
	case h.NextPayload == isakmp.PayloadFragment:
		if start += fragmentHeaderLen; body[6] == 1 {
			start += isakmp.HeaderLen // of the message that begins here
		}
		mark(start, len(d.data))
	default:
		ps, _, _ := isakmp.ParsePayloads(h.NextPayload, body)
		for _, p := range ps {
			end := start + len(p.Raw)
			switch p.Type {
			case isakmp.PayloadKE, isakmp.PayloadNonce, isakmp.PayloadID, isakmp.PayloadCert, isakmp.PayloadSig, isakmp.PayloadHash:
				mark(end-len(p.Body), end)
			}
			start = end
		}
	}
	return protected
}

// flipStride is the step from bit to bit where not all of them are tried. It has no
// common divisor with 8.
const flipStride = 17

// TestFlippedBits flips every bit of everything that the gateway says, in every mode:
// the client does not panic, says login and password neither earlier nor otherwise,
// and is connected only if everything negotiated and authenticated is as in the true
// conversation. What IKEv1 leaves unauthenticated may differ.
func TestFlippedBits(t *testing.T) {
	for _, mode := range flipModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			c := converse(t, mode.setup)
			c.inBubble(t, func(t *testing.T) {
				if !c.echo(-1, 0).check(t) {
					t.Fatal("the true conversation, played again, does not connect")
				}
			})
			stride := flipStride
			if exhaustive() {
				stride = 1
			}
			flips, connected := 0, 0
			for i, d := range c.words {
				if byClient(d) {
					continue
				}
				protected := protectedBytes(d)
				for first := flips % stride; first < 8*len(d.data); {
					const inOneBubble = 64 // a failed attempt takes a minute or two, and certificates expire
					c.inBubble(t, func(t *testing.T) {
						for n := 0; n < inOneBubble && first < 8*len(d.data); n++ {
							if c.echo(i, first).check(t) {
								connected++
								if protected[first/8] {
									t.Error("connected in spite of a change in what is encrypted or proved")
								}
							}
							if t.Failed() {
								t.Fatalf("bit %d of datagram %d, %d bytes after %v", first, i, len(d.data), d.after)
							}
							flips++
							first += stride
						}
					})
				}
			}
			t.Logf("%d bits, %d connected all the same", flips, connected)
		})
	}
}

// inBubble runs a test at the time of the conversation.
func (c *conversation) inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(c.clock)
		test(t)
	})
}
