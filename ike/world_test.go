package ike

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
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

// The addresses of the tests' network.
var (
	gatewayAddr = netip.MustParseAddr("192.0.2.1")
	clientAddr  = netip.MustParseAddr("198.51.100.7")
	insideHost  = netip.MustParseAddr("10.10.0.2")
	firstVIP    = netip.MustParseAddr("10.99.0.1") // what the pool gives to the first client
)

const (
	testLogin    = "ada"
	testPassword = "correct horse \"battery\" staple"
	testLevel    = slog.LevelDebug - 4 // everything
)

// world is a gateway, a client that is about to dial, and the network between
// them, in virtual time. Tests change what they need before start or dial.
//
// Phase 1 is done with a curve, which is quick; tests that want the default suites
// set client.IKE to nil.
type world struct {
	t       *testing.T
	began   time.Time
	net     *gateway.Net
	gateway gateway.Config
	gw      *gateway.Gateway
	crash   func() // the gateway falls silent without a word
	stop    func() // the gateway says goodbye
	creds   *gateway.Credentials
	client  Config
	address netip.Addr     // the client's
	prepare func(*Session) // see dial
	socket  socketKind     // of the client's, see inWorlds

	rawSockets []gateway.Socket // for ESP as an IP protocol

	mu       sync.Mutex
	rule     gateway.Filter
	hooks    map[gateway.Step]hook
	wire     []datagram
	received []receivedMessage
	events   []Event
	packets  [][]byte // inner packets that the gateway got
	log      bytes.Buffer
}

// hook changes a message of the gateway, see gateway.Config.
type hook = func(*gateway.Message) []*gateway.Message

// datagram is one that was sent; after is the time since the world began.
type datagram struct {
	after    time.Duration
	from, to netip.AddrPort
	data     []byte
}

// receivedMessage is a message that the gateway accepted.
type receivedMessage struct {
	step  gateway.Step
	after time.Duration
	*gateway.Message
}

// inWorld runs a test in a synctest bubble with a world of its own.
func inWorld(t *testing.T, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, began: time.Now(), net: gateway.NewNet(), address: clientAddr, hooks: make(map[gateway.Step]hook)}
		w.net.SetFilter(w.filter)
		var err error
		if w.creds, err = gateway.SelfSigned("gw.example.com", gatewayAddr.String()); err != nil {
			t.Fatal(err)
		}
		w.gateway = gateway.Config{
			Chain: w.creds.Chain, Key: w.creds.Key,
			Users: map[string]string{testLogin: testPassword},
			Pool:  netip.MustParsePrefix("10.99.0.0/24"),
			Settings: gateway.Settings{
				DNS: []netip.Addr{insideHost}, DefaultDomain: "corp.example.com",
				SplitInclude: []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16")},
			},
			Packets: w.gatewayGot, Hook: w.runHook, Received: w.note,
		}
		w.client = Config{
			Gateway: "gw.example.com", Login: testLogin, Password: Secret(testPassword),
			IKE:     suites(t, ParseIKESuite, "aes256-sha256-ecp256"),
			Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{gatewayAddr}, nil },
			ListenPacket: func(_ context.Context, _ netip.Addr, port uint16) (net.PacketConn, error) {
				return w.listen(netip.AddrPortFrom(w.address, port))
			},
			ListenESP: func(context.Context, netip.Addr) (net.PacketConn, error) { return nil, errNoRawSockets },
			Event: func(e Event) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.events = append(w.events, e)
			},
			Log: slog.New(slog.NewTextHandler(&lockedWriter{w: w}, &slog.HandlerOptions{Level: testLevel})),
		}
		w.client.Trust.CAs = append(w.client.Trust.CAs, w.creds.CA)
		test(w)
	})
}

// listen opens a socket of the client's.
func (w *world) listen(at netip.AddrPort) (net.PacketConn, error) {
	conn, err := w.net.Listen(at)
	if err != nil || w.socket == nil {
		return conn, err
	}
	return w.socket(w.t, conn), nil
}

var errNoRawSockets = errors.New("no raw sockets in this world")

type lockedWriter struct{ w *world }

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.log.Write(b)
}

func suites[S any](t testing.TB, parse func(string) (S, error), names ...string) []S {
	t.Helper()
	var list []S
	for _, n := range names {
		s, err := parse(n)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// start runs the gateway on its usual ports until the test ends.
func (w *world) start() {
	w.t.Helper()
	w.startAt(netip.AddrPortFrom(gatewayAddr, portIKE), netip.AddrPortFrom(gatewayAddr, portNATT))
}

// startAt runs the gateway on the given ports; all but port 500 carry the marker.
func (w *world) startAt(at ...netip.AddrPort) {
	w.t.Helper()
	w.gw, w.crash, w.stop = w.serve(w.gateway, at...)
}

// serve runs a gateway.
func (w *world) serve(cfg gateway.Config, at ...netip.AddrPort) (gw *gateway.Gateway, crash, stop func()) {
	w.t.Helper()
	gw, err := gateway.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	sockets := w.rawSockets
	w.rawSockets = nil
	for _, a := range at {
		conn, err := w.net.Listen(a)
		if err != nil {
			w.t.Fatal(err)
		}
		sockets = append(sockets, gateway.Socket{Conn: conn, NonESP: a.Port() != portIKE})
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		gw.Serve(ctx, sockets...) // its error is that of the crash
	}()
	crash = func() { sockets[0].Conn.Close(); <-served }
	stop = func() { cancel(); <-served }
	w.t.Cleanup(stop)
	return gw, crash, stop
}

// gatewayGot is called with the inner packets that reach the gateway.
func (w *world) gatewayGot(_ netip.Addr, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.packets = append(w.packets, bytes.Clone(p))
}

func (w *world) note(m *gateway.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.received = append(w.received, receivedMessage{m.Step, time.Since(w.began), m})
}

func (w *world) runHook(m *gateway.Message) []*gateway.Message {
	w.mu.Lock()
	h := w.hooks[m.Step]
	w.mu.Unlock()
	if h == nil {
		return []*gateway.Message{m}
	}
	return h(m)
}

// hook changes the gateway's messages of a step; nil leaves them as they are.
func (w *world) hook(step gateway.Step, h hook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooks[step] = h
}

// change is a hook that alters a message in place.
func (w *world) change(step gateway.Step, f func(*gateway.Message)) {
	w.hook(step, func(m *gateway.Message) []*gateway.Message {
		f(m)
		return []*gateway.Message{m}
	})
}

// say makes the gateway send messages of the test's own making. They are made from
// the header of an encrypted Informational with a message ID of its own.
func (w *world) say(client netip.Addr, make func(isakmp.Header) []*gateway.Message) {
	w.t.Helper()
	w.hook(gateway.Notify, func(m *gateway.Message) []*gateway.Message { return make(m.Header) })
	if err := w.gw.Probe(client); err != nil {
		w.t.Fatal(err)
	}
	w.hook(gateway.Notify, nil)
}

// filter notes every datagram and applies the rule.
func (w *world) filter(from, to netip.AddrPort, data []byte) []gateway.Delivery {
	w.mu.Lock()
	w.wire = append(w.wire, datagram{time.Since(w.began), from, to, bytes.Clone(data)})
	rule := w.rule
	w.mu.Unlock()
	if rule == nil {
		return []gateway.Delivery{{Datagram: data}}
	}
	return rule(from, to, data)
}

// setRule sets what becomes of datagrams from now on; nil delivers them.
func (w *world) setRule(rule gateway.Filter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = rule
}

// Rules that tests use more than once.
func deliver(data []byte) []gateway.Delivery                            { return []gateway.Delivery{{Datagram: data}} }
func loseAll(netip.AddrPort, netip.AddrPort, []byte) []gateway.Delivery { return nil }
func loseFromGateway(from, _ netip.AddrPort, d []byte) []gateway.Delivery {
	return loseIf(toClient(from), d)
}

func loseIf(lost bool, data []byte) []gateway.Delivery {
	if lost {
		return nil
	}
	return deliver(data)
}

func toClient(from netip.AddrPort) bool { return from.Addr() == gatewayAddr }

// ikeMessage strips the marker; it returns nil if the datagram is not IKE.
func ikeMessage(from, to netip.AddrPort, data []byte) []byte {
	if from.Port() == portIKE || to.Port() == portIKE {
		return data
	}
	if len(data) < nonESPMarkerLen || !bytes.Equal(data[:nonESPMarkerLen], make([]byte, nonESPMarkerLen)) {
		return nil
	}
	return data[nonESPMarkerLen:]
}

func isIKE(from, to netip.AddrPort, data []byte) bool { return ikeMessage(from, to, data) != nil }

// ikeHeader reads the header of an IKE datagram.
func ikeHeader(from, to netip.AddrPort, data []byte) (h isakmp.Header, ok bool) {
	msg := ikeMessage(from, to, data)
	if msg == nil {
		return h, false
	}
	h, _, err := isakmp.ParseHeader(msg)
	return h, err == nil
}

// sent lists the datagrams that match, or all of them.
func (w *world) sent(match func(datagram) bool) []datagram {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []datagram
	for _, d := range w.wire {
		if match == nil || match(d) {
			out = append(out, d)
		}
	}
	return out
}

func byClient(d datagram) bool { return !toClient(d.from) }

// messages lists what the gateway accepted of a step.
func (w *world) messages(step gateway.Step) []receivedMessage {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []receivedMessage
	for _, m := range w.received {
		if m.step == step {
			out = append(out, m)
		}
	}
	return out
}

// configs lists the Transactions of a type that the gateway accepted.
func (w *world) configs(step gateway.Step) []isakmp.Config {
	w.t.Helper()
	var out []isakmp.Config
	for _, m := range w.messages(step) {
		c, err := isakmp.ParseConfig(m.Payload(isakmp.PayloadAttribute))
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// tryDial dials; the session, if there is one, is closed when the test ends.
func (w *world) tryDial() (*Session, error) { return w.tryDialContext(context.Background()) }

func (w *world) tryDialContext(ctx context.Context) (*Session, error) {
	s, err := dial(ctx, &w.client, w.prepare)
	if err == nil {
		w.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

func (w *world) dial() *Session {
	w.t.Helper()
	s, err := w.tryDial()
	if err != nil {
		w.t.Fatalf("Dial: %v\n%s", err, w.logText())
	}
	synctest.Wait() // the gateway takes in QM3
	return s
}

func (w *world) logText() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// eventsOf lists the events of a kind.
func (w *world) eventsOf(kind EventKind) []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.events), func(e Event) bool { return e.Kind != kind })
}

// elapsed runs f and returns how much virtual time it took.
func elapsed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// wantError checks the type of an error and returns it as such.
func wantError[E error](t *testing.T, err error) (e E) {
	t.Helper()
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want a %T", err, err, e)
	}
	return e
}

// wantAlive fails when the session has ended.
func (w *world) wantAlive(s *Session) {
	w.t.Helper()
	if err := s.Err(); err != nil {
		w.t.Fatalf("the session ended: %v\n%s", err, w.logText())
	}
}

// waitEnd waits for the session to end and returns why, and after how long.
func (w *world) waitEnd(s *Session, atMost time.Duration) (time.Duration, error) {
	w.t.Helper()
	synctest.Wait()
	d := elapsed(func() {
		select {
		case <-s.Done():
		case <-time.After(atMost + time.Millisecond):
			w.t.Fatalf("the session still lives after %v\n%s", atMost, w.logText())
		}
	})
	return d, s.Err()
}

// ipv4 makes an inner packet of UDP with a payload.
func ipv4(src, dst netip.Addr, payload string) []byte {
	p := make([]byte, 28+len(payload))
	p[0], p[8], p[9] = 0x45, 64, 17
	p[2], p[3] = byte(len(p)>>8), byte(len(p))
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	copy(p[28:], payload)
	return p
}

// withTail is a packet with room behind it, as WritePacket needs it.
func withTail(packet []byte) []byte {
	return append(make([]byte, 0, len(packet)+Tailroom), packet...)
}

// send sends an inner packet.
func send(t *testing.T, s *Session, packet []byte) {
	t.Helper()
	if err := s.WritePacket(withTail(packet)); err != nil {
		t.Fatalf("WritePacket: %v", err)
	}
	s.Flush()
}

// receive collects the inner packets that come.
func receive(s *Session) func() [][]byte {
	var mu sync.Mutex
	var got [][]byte
	s.Receive(func(packets [][]byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range packets {
			got = append(got, bytes.Clone(p))
		}
	})
	return func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

func containsPacket(packets [][]byte, p []byte) bool {
	return slices.ContainsFunc(packets, func(q []byte) bool { return bytes.Equal(p, q) })
}

// gatewayHas reports whether an inner packet has reached the gateway.
func (w *world) gatewayHas(p []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return containsPacket(w.packets, p)
}

// exchangePackets proves that the tunnel carries packets both ways.
func (w *world) exchangePackets(s *Session, received func() [][]byte, text string) {
	w.t.Helper()
	vip := s.Assignment().Addresses[0].Addr()
	out, in := ipv4(vip, insideHost, "out "+text), ipv4(insideHost, vip, "in "+text)
	synctest.Wait() // QM3 must be there before the gateway's first packet
	send(w.t, s, out)
	synctest.Wait()
	if err := w.gw.SendPacket(in); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
	if !w.gatewayHas(out) {
		w.t.Errorf("the gateway did not get the packet %q\n%s", text, w.logText())
	}
	if !containsPacket(received(), in) {
		w.t.Errorf("the client did not get the packet %q\n%s", text, w.logText())
	}
}

// steps lists the steps that the client told.
func (w *world) steps() []Step {
	var out []Step
	for _, e := range w.eventsOf(EventStep) {
		out = append(out, e.Step)
	}
	return out
}
