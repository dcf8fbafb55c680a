package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
	"wayfarer/platform"
	"wayfarer/tun"
)

// world is a daemon between a scripted gateway and a recorded host.
type world struct {
	*Daemon
	t    *testing.T
	host *fakeNetwork

	mu      sync.Mutex
	dials   []ike.Config
	devices []*fakeTUN
	openErr error
	// script answers dial n, counted from 0. Nil connects with newSession.
	script func(ctx context.Context, n int, cfg *ike.Config) (Session, error)
}

// inWorld runs test in virtual time. At its end the daemon is closed, and nothing
// may be left: no network, no open device, no goroutine (synctest fails on those).
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer func() { // also after t.Fatal
			if err := w.Close(t.Context()); err != nil {
				t.Errorf("Close: %v", err)
			}
			synctest.Wait()
			w.checkNothingLeft()
		}()
		test(t, w)
	})
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, host: &fakeNetwork{events: make(chan platform.Event)}}
	w.Daemon = New(w.options())
	w.look = w.lookNowhere
	return w
}

func (w *world) lookNowhere(context.Context) *portal { return nil }

func (w *world) options() Options {
	return Options{
		Version: "test",
		Network: w.host,
		Dial: func(ctx context.Context, cfg *ike.Config) (Session, error) {
			w.mu.Lock()
			n := len(w.dials)
			kept := *cfg
			kept.Password, kept.GroupSecret = cfg.Password.Clone(), cfg.GroupSecret.Clone()
			w.dials = append(w.dials, kept)
			script := w.script
			w.mu.Unlock()
			if script == nil {
				return newSession(), nil
			}
			return script(ctx, n, cfg)
		},
		OpenTUN: func(cfg TUNConfig) (tun.Device, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.openErr != nil {
				return nil, w.openErr
			}
			dev := newTUN(cfg)
			w.devices = append(w.devices, dev)
			return dev, nil
		},
	}
}

func (w *world) checkNothingLeft() {
	w.t.Helper()
	if last := w.host.last(); len(last.Tunnels) != 0 || last.BlockOutside || last.AllowLocal || last.Portal != nil {
		w.t.Errorf("the host's network keeps %+v", last)
	}
	for i, dev := range w.devices {
		if !dev.isClosed() {
			w.t.Errorf("device %d is still open", i)
		}
	}
	if len(w.names) != 0 {
		w.t.Errorf("interface names are still taken: %v", w.names)
	}
}

// device is the nth one that was opened.
func (w *world) device(n int) *fakeTUN {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.devices[n]
}

func (w *world) opened() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.devices)
}

func (w *world) dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dials)
}

func request() *control.ConnectRequest {
	return &control.ConnectRequest{
		Profile:  app.Profile{Name: "office", Gateway: "vpn.example.com", Login: "ada"},
		Password: []byte("hush"),
	}
}

// connect starts a connection and waits until it comes to rest.
func (w *world) connect(req *control.ConnectRequest) string {
	w.t.Helper()
	id, failure := w.Connect(w.t.Context(), "ada", req)
	if failure != nil {
		w.t.Fatalf("Connect: %v", failure)
	}
	synctest.Wait()
	return id
}

func (w *world) get(id string) app.Connection {
	w.t.Helper()
	for _, c := range w.Connections() {
		if c.ID == id {
			return c
		}
	}
	w.t.Fatalf("there is no connection %s in %+v", id, w.Connections())
	panic("unreachable")
}

func (w *world) wantState(id string, want app.State) app.Connection {
	w.t.Helper()
	c := w.get(id)
	if c.State != want {
		w.t.Fatalf("state %q (failure %v), want %q", c.State, c.Failure, want)
	}
	return c
}

func (w *world) wantFailure(id string, code app.Code) *app.Failure {
	w.t.Helper()
	c := w.wantState(id, app.StateFailed)
	if c.Failure.Code != code || c.Failure.Exit != code.Exit() {
		w.t.Fatalf("failure %+v, want %s", c.Failure, code)
	}
	return c.Failure
}

// hang is a dial that ends with its context.
func hang(ctx context.Context, _ int, _ *ike.Config) (Session, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type fakeSession struct {
	assignment ike.Assignment
	stats      ike.Stats
	inbound    chan []byte
	onClose    func()
	mtu        atomic.Int64
	delivering sync.Mutex // held while deliver is called

	mu       sync.Mutex
	mute     bool // the gateway answers no questions
	asked    int  // whether it is there
	deliver  func([][]byte)
	unsent   [][]byte // until Flush
	outbound [][]byte
	closed   bool
	err      error
	done     chan struct{}
}

func newSession() *fakeSession {
	s := &fakeSession{
		assignment: ike.Assignment{
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/32")},
			DNS:       []netip.Addr{netip.MustParseAddr("10.10.0.53")},
			SplitInclude: []netip.Prefix{
				netip.MustParsePrefix("10.10.0.0/24"),
			},
		},
		stats: ike.Stats{
			Gateway:   netip.MustParseAddrPort("192.0.2.1:4500"),
			NATT:      "rfc3947",
			LastHeard: time.Now(),
			Children:  []ike.ChildStats{{Remote: netip.MustParsePrefix("0.0.0.0/0")}},
		},
		inbound: make(chan []byte),
		done:    make(chan struct{}),
	}
	s.mtu.Store(1280)
	return s
}

func (s *fakeSession) Assignment() ike.Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.assignment
}

// setChild gives the session a new ESP SA, after so many that the gateway deleted at once.
func (s *fakeSession) setChild(deleted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Children = []ike.ChildStats{{Remote: netip.MustParsePrefix("0.0.0.0/0"), Established: time.Now()}}
	s.stats.ShortLived = deleted
}

// setPlain makes the session's ESP SA one of plain ESP, through which so many packets came.
func (s *fakeSession) setPlain(packets uint64) {
	s.setChild(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.NATT, s.stats.Children[0].PacketsIn = "", packets
}

func (s *fakeSession) Stats() ike.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *fakeSession) NetworkChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked++; !s.mute {
		s.stats.LastHeard = time.Now()
	}
}

func (s *fakeSession) askedFor() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *fakeSession) MTU() int { return int(s.mtu.Load()) }

// Receive implements Session. What is put into inbound goes to the last one that was set.
func (s *fakeSession) Receive(deliver func([][]byte)) {
	s.delivering.Lock()
	defer s.delivering.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliver == nil && deliver != nil {
		go s.receive()
	}
	s.deliver = deliver
}

func (s *fakeSession) receive() {
	for {
		select {
		case p := <-s.inbound:
			s.delivering.Lock()
			s.mu.Lock()
			deliver := s.deliver
			s.mu.Unlock()
			if deliver != nil {
				deliver([][]byte{slices.Clone(p)})
			}
			s.delivering.Unlock()
		case <-s.done:
			return
		}
	}
}

func (s *fakeSession) WritePacket(packet []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsent = append(s.unsent, slices.Clone(packet))
	return nil
}

func (s *fakeSession) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbound, s.unsent = append(s.outbound, s.unsent...), nil
}

func (s *fakeSession) Done() <-chan struct{} { return s.done }

func (s *fakeSession) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *fakeSession) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if s.onClose != nil {
		s.onClose()
	}
	s.end(net.ErrClosed)
	return nil
}

// end ends the session as the engine would.
func (s *fakeSession) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.done)
	}
}

func (s *fakeSession) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *fakeSession) written() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.outbound)
}

type fakeNetwork struct {
	mu        sync.Mutex
	sets      []platform.Config
	err       error // of Set
	listenErr error
	block     chan struct{} // Set waits for it
	recovered int
	report    platform.Report
	conflicts []platform.Conflict
	events    chan platform.Event
	offline   bool
	outside   func(host string) ([]netip.Addr, error) // nil: there are no servers
}

func (n *fakeNetwork) Set(ctx context.Context, cfg platform.Config) error {
	n.mu.Lock()
	block, err := n.block, n.err
	n.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sets = append(n.sets, cfg)
	return nil
}

func (n *fakeNetwork) Recover(context.Context, bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.recovered++
	return n.err
}

func (n *fakeNetwork) Report() platform.Report { return n.report }

func (n *fakeNetwork) Conflicts(context.Context) ([]platform.Conflict, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conflicts, nil
}

// Watch passes on what a test sends to events.
func (n *fakeNetwork) Watch(ctx context.Context) (<-chan platform.Event, error) {
	events := make(chan platform.Event)
	go func() {
		defer close(events)
		for {
			select {
			case event := <-n.events:
				select {
				case events <- event:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}

// happen tells the daemon, and waits until it has done what it does about it.
func (n *fakeNetwork) happen(kind platform.EventKind) {
	n.events <- platform.Event{Kind: kind}
	synctest.Wait()
}

func (n *fakeNetwork) Online() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.offline
}

func (n *fakeNetwork) setOffline(offline bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.offline = offline
}

func (n *fakeNetwork) LookupOutside(_ context.Context, host string) ([]netip.Addr, error) {
	if n.outside == nil {
		return nil, errors.New("no servers here")
	}
	return n.outside(host)
}

func (n *fakeNetwork) Dialer() *net.Dialer { return &net.Dialer{} }

func (n *fakeNetwork) ListenPacket(context.Context, netip.Addr, uint16) (net.PacketConn, error) {
	if n.listenErr != nil {
		return nil, n.listenErr
	}
	return nil, errors.New("no sockets here")
}

func (n *fakeNetwork) ListenESP(ctx context.Context, gateway netip.Addr) (net.PacketConn, error) {
	return n.ListenPacket(ctx, gateway, 0)
}

func (n *fakeNetwork) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

func (n *fakeNetwork) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.sets)
}

func (n *fakeNetwork) last() platform.Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.sets) == 0 {
		return platform.Config{}
	}
	return n.sets[len(n.sets)-1]
}

type fakeTUN struct {
	cfg     TUNConfig
	packets chan []byte
	broken  chan error
	closed  chan struct{}
	once    sync.Once

	mu       sync.Mutex
	written  [][]byte
	answered [][]byte
}

func newTUN(cfg TUNConfig) *fakeTUN {
	return &fakeTUN{cfg: cfg, packets: make(chan []byte), broken: make(chan error, 1), closed: make(chan struct{})}
}

func (d *fakeTUN) Read(take func([]byte)) error {
	select {
	case p := <-d.packets:
		take(slices.Grow(slices.Clone(p), tun.Tailroom))
		return nil
	case err := <-d.broken:
		return err
	case <-d.closed:
		return os.ErrClosed
	}
}

func (d *fakeTUN) Write(packets [][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range packets {
		d.written = append(d.written, slices.Clone(p))
	}
	return nil
}

func (d *fakeTUN) Answer(packet []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answered = append(d.answered, slices.Clone(packet))
	return nil
}

func (d *fakeTUN) MTU() (int, error)     { return d.cfg.MTU, nil }
func (d *fakeTUN) Name() (string, error) { return d.cfg.Name, nil }

func (d *fakeTUN) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

func (d *fakeTUN) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

func (d *fakeTUN) received() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.written)
}

func (d *fakeTUN) answers() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.answered)
}
