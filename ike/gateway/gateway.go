package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"wayfarer/ike/isakmp"
)

// Gateway answers road warriors. Make it with New and run it with Serve.
type Gateway struct {
	cfg  Config
	log  *slog.Logger
	ike  []ikeSuite // accepted; empty: all
	esp  []espSuite
	natt []*natVariant

	datagrams chan datagram
	calls     chan func()
	stopped   chan struct{} // closed when Serve returns
	once      sync.Once     // Serve runs once

	// Owned by the loop.
	sas      map[cookies]*sa
	begun    map[beginning]*sa // half of phase 1 or more, by who began it
	children map[uint32]*child // by inbound SPI
	pool     pool
	toInside chan []byte
	raw      *socket // for ESP as IP protocol 50; nil: none
}

// cookies name an ISAKMP SA.
type cookies struct{ i, r isakmp.Cookie }

// beginning names an SA by its first message, which has no CKY-R yet.
type beginning struct {
	peer netip.AddrPort
	ckyI isakmp.Cookie
}

// datagram is one as received, without its sender being believed.
type datagram struct {
	path path
	data []byte
}

// path is a way to a client.
type path struct {
	sock *socket
	peer netip.AddrPort
}

type socket struct {
	Socket
	local netip.AddrPort
}

// nonESPMarker is in front of IKE messages on port 4500 (RFC 3948 §2.2).
const nonESPMarker = "\x00\x00\x00\x00"

// ErrStopped is returned by the methods of a gateway whose Serve has returned.
var ErrStopped = errors.New("gateway: not serving")

// New makes a gateway.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g := &Gateway{
		cfg: cfg, log: cfg.Log,
		datagrams: make(chan datagram, 256), calls: make(chan func()), stopped: make(chan struct{}),
		sas: make(map[cookies]*sa), begun: make(map[beginning]*sa), children: make(map[uint32]*child),
		pool: newPool(cfg.Pool, cfg.Pool6),
	}
	var err error
	if g.ike, err = parseSuites(parseIKESuite, cfg.IKE); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if g.esp, err = parseSuites(parseESPSuite, cfg.ESP); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if g.natt, err = parseNATT(cfg.NATT); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// Serve answers on the sockets until ctx ends; then it sends every client a Delete
// and returns nil. If a socket fails or is closed meanwhile, it returns that error
// at once: clients see a gateway that crashed. It closes the sockets. A gateway
// serves once.
func (g *Gateway) Serve(ctx context.Context, sockets ...Socket) error {
	err := ErrStopped
	g.once.Do(func() { err = g.serve(ctx, sockets) })
	return err
}

func (g *Gateway) serve(ctx context.Context, sockets []Socket) error {
	var readers sync.WaitGroup
	failed := make(chan error, len(sockets)+1)
	defer readers.Wait()
	defer close(g.stopped)
	for _, s := range sockets {
		defer s.Conn.Close()
		local, ok := addrPortOf(s.Conn.LocalAddr())
		if !ok {
			return fmt.Errorf("gateway: %v is neither a UDP nor a raw socket", s.Conn.LocalAddr())
		}
		sock := &socket{Socket: s, local: local}
		if s.Raw {
			g.raw = sock
		}
		readers.Go(func() { failed <- g.read(sock) })
	}
	fromInside := make(chan []byte)
	if g.cfg.Inside != nil {
		stack, err := g.cfg.Inside.start()
		if err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		defer stack.close()
		g.toInside = make(chan []byte, insideQueue)
		defer close(g.toInside)
		stack.run(fromInside, g.toInside)
	}
	for {
		select {
		case <-ctx.Done():
			g.shutdown()
			return nil
		case err := <-failed:
			g.forget()
			return fmt.Errorf("gateway: %w", err)
		case d := <-g.datagrams:
			g.receive(d)
		case f := <-g.calls:
			f()
		case p := <-fromInside:
			g.sendInner(p)
		}
	}
}

// read hands the socket's datagrams to the loop.
func (g *Gateway) read(s *socket) error {
	const troubles = 100 // errors in a row; some systems report a peer's ICMP here
	buf := make([]byte, 1<<16)
	for n := 0; ; {
		size, from, err := s.Conn.ReadFrom(buf)
		if err != nil {
			if n++; errors.Is(err, net.ErrClosed) || n > troubles {
				return err
			}
			continue
		}
		n = 0
		peer, ok := addrPortOf(from)
		if !ok {
			continue
		}
		d := datagram{path: path{sock: s, peer: peer}, data: append([]byte(nil), buf[:size]...)}
		select {
		case g.datagrams <- d:
		case <-g.stopped:
			return net.ErrClosed
		}
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// post runs f in the loop, unless the gateway has stopped.
func (g *Gateway) post(f func()) error {
	select {
	case g.calls <- f:
		return nil
	case <-g.stopped:
		return ErrStopped
	}
}

// do runs f in the loop and waits for it.
func (g *Gateway) do(f func() error) error {
	result := make(chan error, 1)
	if err := g.post(func() { result <- f() }); err != nil {
		return err
	}
	return <-result
}

// timer calls a function in the loop. Owned by the loop.
type timer struct {
	t       *time.Timer
	stopped bool
}

func (g *Gateway) after(d time.Duration, f func()) *timer {
	t := new(timer)
	t.t = time.AfterFunc(d, func() {
		_ = g.post(func() { // a gateway that has stopped needs no timers
			if !t.stopped {
				f()
			}
		})
	})
	return t
}

// stop ends the timer, also one whose call is already on its way. It may be nil.
func (t *timer) stop() {
	if t != nil {
		t.stopped = true
		t.t.Stop()
	}
}

// receive tells IKE from ESP and finds the SA.
func (g *Gateway) receive(d datagram) {
	packet, message := espOf(d.path.sock, d.data)
	if packet != nil {
		g.receiveESP(datagram{d.path, packet})
		return
	}
	d.data = message
	h, body, err := isakmp.ParseHeader(d.data)
	if err != nil {
		g.log.Debug("dropped a datagram", "from", d.path.peer, "reason", err)
		return
	}
	d.data = d.data[:h.Length]
	if h.CKYR.IsZero() {
		g.receiveFirst(d, h, body)
		return
	}
	if s := g.sas[cookies{h.CKYI, h.CKYR}]; s != nil {
		s.receive(d, h, body)
		return
	}
	g.log.Debug("dropped a message of an unknown SA", "from", d.path.peer, "sa", h.CKYI)
}

// receiveFirst handles MM1 and AM1.
func (g *Gateway) receiveFirst(d datagram, h isakmp.Header, body []byte) {
	key := beginning{d.path.peer, h.CKYI}
	s := g.begun[key]
	if s != nil {
		s.receive(d, h, body) // a duplicate
		return
	}
	if len(g.sas) >= maxSAs || h.CKYI.IsZero() {
		return
	}
	s = &sa{
		gw: g, path: d.path, begun: key, ckyI: h.CKYI, state: waitFirst, created: time.Now(),
		chains: make(map[uint32]*chain), requests: make(map[uint32]*request), quick: make(map[uint32]*quickMode),
	}
	s.log = g.log.With("sa", s.ckyI)
	s.ckyR = g.cookie()
	g.begun[key], g.sas[cookies{s.ckyI, s.ckyR}] = s, s
	s.timer = g.after(halfOpenLife, func() { s.drop("it stayed half-open") })
	if s.receive(d, h, body); s.state == waitFirst && s.assembly.parts == nil {
		s.drop("its first message was refused")
	}
}

// cookie draws a CKY-R that is not in use.
func (g *Gateway) cookie() (c isakmp.Cookie) {
	for c.IsZero() {
		g.random(c[:])
	}
	return c
}

// random fills b. A gateway without random numbers cannot go on.
func (g *Gateway) random(b []byte) {
	if n, err := g.cfg.Rand.Read(b); n != len(b) {
		panic(fmt.Sprintf("gateway: %d of %d random bytes: %v", n, len(b), err))
	}
}

// randomUint32 draws a number of at least the given size: M-IDs and SPIs.
func (g *Gateway) randomUint32(least uint32) uint32 {
	for {
		var b [4]byte
		g.random(b[:])
		if v := binary.BigEndian.Uint32(b[:]); v >= least {
			return v
		}
	}
}

// shutdown says goodbye to everybody.
func (g *Gateway) shutdown() {
	for _, s := range g.sas {
		s.end("the gateway stops")
	}
}

// forget stops all timers without a word.
func (g *Gateway) forget() {
	for _, s := range g.sas {
		s.drop("the gateway stopped")
	}
}
