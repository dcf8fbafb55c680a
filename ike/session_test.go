package ike

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
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
)

const (
	testLogin    = "ada"
	testPassword = "correct horse \"battery\" staple"
)

// world is a gateway, a client that is about to dial, and the network between
// them, in virtual time. Tests change what they need before start or dial.
type world struct {
	t       *testing.T
	net     *gateway.Net
	gateway gateway.Config
	gw      *gateway.Gateway
	client  Config

	mu      sync.Mutex
	events  []Event
	toGW    [][]byte // datagrams of the client
	packets [][]byte // inner packets that the gateway got
	log     bytes.Buffer
}

// inWorld runs a test in a synctest bubble with a world of its own.
func inWorld(t *testing.T, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: gateway.NewNet()}
		creds, err := gateway.SelfSigned("gw.example.com", gatewayAddr.String())
		if err != nil {
			t.Fatal(err)
		}
		w.gateway = gateway.Config{
			Chain: creds.Chain, Key: creds.Key,
			Users: map[string]string{testLogin: testPassword},
			Pool:  netip.MustParsePrefix("10.99.0.0/24"),
			Settings: gateway.Settings{
				DNS: []netip.Addr{insideHost}, DefaultDomain: "corp.example.com",
				SplitInclude: []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16")},
			},
			Packets: func(_ netip.Addr, p []byte) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.packets = append(w.packets, bytes.Clone(p))
			},
		}
		w.client = Config{
			Gateway: "gw.example.com", Login: testLogin, Password: Secret(testPassword),
			Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{gatewayAddr}, nil },
			ListenPacket: func(_ context.Context, gw netip.Addr) (net.PacketConn, error) {
				return w.net.Listen(netip.AddrPortFrom(clientAddr, 0))
			},
			Event: func(e Event) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.events = append(w.events, e)
			},
			Log: slog.New(slog.NewTextHandler(&lockedWriter{w: w}, &slog.HandlerOptions{Level: slog.LevelDebug - 4})),
		}
		w.client.Trust.CAs = append(w.client.Trust.CAs, creds.CA)
		test(w)
	})
}

type lockedWriter struct{ w *world }

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.log.Write(b)
}

// start runs the gateway until the test ends.
func (w *world) start() {
	w.t.Helper()
	var err error
	if w.gw, err = gateway.New(w.gateway); err != nil {
		w.t.Fatal(err)
	}
	var sockets []gateway.Socket
	for _, port := range []uint16{portIKE, portNATT} {
		conn, err := w.net.Listen(netip.AddrPortFrom(gatewayAddr, port))
		if err != nil {
			w.t.Fatal(err)
		}
		sockets = append(sockets, gateway.Socket{Conn: conn, NonESP: port == portNATT})
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		w.gw.Serve(ctx, sockets...)
	}()
	w.t.Cleanup(func() { stop(); <-served })
}

// tryDial dials; the session, if there is one, is closed when the test ends.
func (w *world) tryDial() (*Session, error) {
	s, err := Dial(context.Background(), &w.client)
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
	return s
}

func (w *world) logText() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// replies counts XAUTH REPLY messages in what the gateway received.
func countReplies(w *world) *int {
	n := new(int)
	previous := w.gateway.Received
	w.gateway.Received = func(m *gateway.Message) {
		if previous != nil {
			previous(m)
		}
		if body := m.Payload(isakmp.PayloadAttribute); body != nil {
			if c, err := isakmp.ParseConfig(body); err == nil && c.Type == isakmp.ConfigReply {
				*n++
			}
		}
	}
	return n
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

// send sends an inner packet with room around it.
func send(t *testing.T, s *Session, packet []byte) {
	t.Helper()
	buf := make([]byte, Headroom+len(packet), Headroom+len(packet)+Tailroom)
	copy(buf[Headroom:], packet)
	if err := s.WritePackets([][]byte{buf}, Headroom); err != nil {
		t.Fatalf("WritePackets: %v", err)
	}
}

// receive starts reading inner packets until the session ends.
func receive(s *Session) func() [][]byte {
	var mu sync.Mutex
	var got [][]byte
	go func() {
		bufs, sizes := [][]byte{make([]byte, 2048), make([]byte, 2048)}, make([]int, 2)
		for {
			n, err := s.ReadPackets(bufs, sizes, 4)
			if err != nil {
				return
			}
			mu.Lock()
			for i := range n {
				got = append(got, bytes.Clone(bufs[i][4:4+sizes[i]]))
			}
			mu.Unlock()
		}
	}()
	return func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

// exchangePackets proves that the tunnel carries packets both ways.
func (w *world) exchangePackets(s *Session, received func() [][]byte, text string) {
	w.t.Helper()
	vip := s.Assignment().Addresses[0].Addr()
	out, in := ipv4(vip, insideHost, "out "+text), ipv4(insideHost, vip, "in "+text)
	synctest.Wait() // QM3 must be there before the gateway's first packet
	send(w.t, s, out)
	if err := w.gw.SendPacket(in); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.packets, func(p []byte) bool { return bytes.Equal(p, out) }) {
		w.t.Errorf("the gateway did not get the packet %q", text)
	}
	if !slices.ContainsFunc(received(), func(p []byte) bool { return bytes.Equal(p, in) }) {
		w.t.Errorf("the client did not get the packet %q", text)
	}
}

// steps lists the steps that the client told.
func (w *world) steps() []Step {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Step
	for _, e := range w.events {
		if e.Kind == EventStep {
			out = append(out, e.Step)
		}
	}
	return out
}

func TestConnect(t *testing.T) {
	for _, exchange := range []Exchange{ExchangeMain, ExchangeAggressive} {
		t.Run(string(exchange), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = exchange
				w.start()
				s := w.dial()
				received := receive(s)
				w.exchangePackets(s, received, "hello")

				a := s.Assignment()
				if want := []netip.Prefix{netip.MustParsePrefix("10.99.0.1/32")}; !slices.Equal(a.Addresses, want) {
					t.Errorf("addresses %v, want %v", a.Addresses, want)
				}
				if a.DefaultDomain != "corp.example.com" || len(a.SplitInclude) != 1 || len(a.DNS) != 1 {
					t.Errorf("assignment %+v", a)
				}
				st := s.Stats()
				if st.Exchange != exchange || st.Suite != "aes256-sha256-modp2048" || st.NATT != "rfc3947" || !st.DPD || !st.Fragmentation {
					t.Errorf("stats %+v", st)
				}
				if st.Gateway != netip.AddrPortFrom(gatewayAddr, portNATT) {
					t.Errorf("gateway at %v", st.Gateway)
				}
				if len(st.Children) != 1 || st.Children[0].PacketsIn != 1 || st.Children[0].PacketsOut != 1 {
					t.Errorf("ESP SAs %+v", st.Children)
				}
				want := []Step{StepFindGateway, StepAgreeSecurity, StepCheckCertificate, StepSignIn, StepGetSettings, StepBuildTunnel}
				if got := w.steps(); !slices.Equal(got, want) {
					t.Errorf("steps %v, want %v", got, want)
				}
				if err := s.Close(); err != nil || !errors.Is(s.Err(), net.ErrClosed) {
					t.Errorf("Close: %v, Err: %v", err, s.Err())
				}
				synctest.Wait()
				if c := w.gw.Clients(); len(c) != 0 {
					t.Errorf("the gateway keeps %+v after the Deletes", c)
				}
				if strings.Contains(w.logText(), testPassword) {
					t.Error("the log shows the password")
				}
			})
		})
	}
}

func TestWrongPassword(t *testing.T) {
	inWorld(t, func(w *world) {
		replies := countReplies(w)
		w.client.Password = Secret("wrong")
		w.start()
		_, err := w.tryDial()
		var credentials *CredentialsError
		if !errors.As(err, &credentials) || credentials.Step != StepSignIn {
			t.Errorf("error %v", err)
		}
		if *replies != 1 {
			t.Errorf("%d XAUTH replies were sent", *replies)
		}
	})
}

func TestNoGateway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeMain
		began := time.Now()
		_, err := w.tryDial()
		var silent *NoAnswerError
		if !errors.As(err, &silent) || silent.Step != StepFindGateway {
			t.Errorf("error %v", err)
		}
		if d := time.Since(began); d != giveUpAfter {
			t.Errorf("gave up after %v", d)
		}
	})
}
