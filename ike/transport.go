package ike

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wayfarer/ike/isakmp"
)

// inboxSize bounds IKE datagrams that wait for their SA.
const inboxSize = 64

// addrPortConn is what *net.UDPConn has over net.PacketConn: no allocation per
// datagram.
type addrPortConn interface {
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
}

// transport is the UDP socket of a session, which serves both gateway ports: the
// marker is added and stripped by the gateway's port, not by ours, which may be any.
// Only the fixed pair of ports (RFC 3947 §4) needs a socket for each.
type transport struct {
	conn    *socket
	natt    *socket // our port 4500, for what carries the marker; nil: conn does it
	gateway netip.Addr
	clock   clock
	log     *slog.Logger

	mu  sync.Mutex
	sas map[isakmp.Cookie]*isakmpSA // by CKY-I

	nonIKE atomic.Bool            // ESP comes on port 500 behind eight zero bytes
	raw    atomic.Pointer[socket] // of ESP as IP protocol 50; nil: not used

	whole  atomic.Int32  // ESP in larger datagrams may be fragmented
	tooBig func(mtu int) // takes reports that a datagram was too large

	esp     atomic.Pointer[receiver] // the owner of the way in of ESP
	takeESP func(packets [][]byte)   // called by it; whose memory it may use until it returns

	localAddr atomic.Pointer[netip.Addr] // of the route to the gateway
	lastSent  atomic.Int64               // stamp, for the keepalive
	lastError atomic.Pointer[socketError]

	noIKE, unknown, full, failed sparse // dropped messages, by the reason, and calls of the socket
}

// socketError is an error of a socket, as a hint.
type socketError struct {
	err error
	at  int64 // stamp
}

// sparse lets the first thing of each second be logged: what anybody can cause at the
// pace of packets costs no more than that, and drives nothing else out of a log.
type sparse struct {
	last   atomic.Int64 // stamp
	passed atomic.Int64 // over, since then
}

// next says whether this one is logged, and how many were not since the last one.
func (q *sparse) next(now int64) (passed int64, log bool) {
	last := q.last.Load()
	if last != 0 && now-last < int64(time.Second) || !q.last.CompareAndSwap(last, now) {
		q.passed.Add(1)
		return 0, false
	}
	return q.passed.Swap(0), true
}

// socket is a socket and its receive loop.
type socket struct {
	*receiver
	raw   bool         // it carries ESP as IP protocol 50
	fast  addrPortConn // conn, or nil
	batch BatchConn    // conn, or nil

	fragments dontFragment
}

// newTransport opens all sockets that are known to be needed, so that one which cannot
// be had shows before anything is sent. The function tooBig is called, at any time,
// when a router or this computer reports what its link can take; takeESP by the receive
// loop that owns the way in, with the ESP packets that have come.
func newTransport(ctx context.Context, cfg *Config, gateway netip.Addr, clock clock, log *slog.Logger, tooBig func(mtu int), takeESP func([][]byte)) (*transport, error) {
	t := &transport{
		gateway: gateway, clock: clock, log: log, tooBig: tooBig, takeESP: takeESP,
		sas: make(map[isakmp.Cookie]*isakmpSA),
	}
	t.lastSent.Store(clock.stamp(time.Now()))
	t.whole.Store(pathMTU)
	if err := t.open(ctx, cfg); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *transport) open(ctx context.Context, cfg *Config) (err error) {
	if t.conn, err = t.openUDP(ctx, cfg, cfg.LocalPort); err != nil {
		return err
	}
	if cfg.LocalPort == portIKE {
		if t.natt, err = t.openUDP(ctx, cfg, portNATT); err != nil {
			return err
		}
	}
	if cfg.NATT == NATTOff {
		return t.openRaw(ctx, cfg)
	}
	return nil
}

func (t *transport) openUDP(ctx context.Context, cfg *Config, port uint16) (*socket, error) {
	listen := cfg.ListenPacket
	if listen == nil {
		listen = listenPacket
	}
	conn, err := listen(ctx, t.gateway, port)
	switch {
	case err == nil:
	case port != 0:
		return nil, &SocketError{Port: port, Err: err}
	default:
		return nil, fmt.Errorf("opening a UDP socket: %w", err)
	}
	u := newSocket(conn)
	t.esp.CompareAndSwap(nil, u.receiver) // until openESP knows
	t.adopt(&u.fragments, conn)
	go t.receive(u)
	return u, nil
}

func newSocket(conn net.PacketConn) *socket {
	u := &socket{receiver: newReceiver(conn)}
	u.fast, _ = conn.(addrPortConn)
	u.batch, _ = conn.(BatchConn)
	return u
}

// listenPacket is the default of Config.ListenPacket.
func listenPacket(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error) {
	network := "udp4"
	if gateway.Is6() {
		network = "udp6"
	}
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, fmt.Sprintf(":%d", port))
}

// socket is the one from which datagrams go to a port of the gateway.
func (t *transport) socket(to uint16) *socket {
	if t.natt != nil && to != portIKE {
		return t.natt
	}
	return t.conn
}

// local is our address and port as the path to the gateway has them, for NAT-D and
// for IDii.
func (t *transport) local(gateway netip.AddrPort) netip.AddrPort {
	bound := addrPortOf(t.socket(gateway.Port()).conn.LocalAddr())
	if bound.Addr().IsValid() && !bound.Addr().IsUnspecified() {
		return bound
	}
	if a := t.localAddr.Load(); a != nil {
		return netip.AddrPortFrom(*a, bound.Port())
	}
	addr := netip.IPv4Unspecified()
	if gateway.Addr().Is6() {
		addr = netip.IPv6Unspecified()
	}
	// A connected socket tells the source address; no packet is sent.
	if c, err := net.Dial("udp", gateway.String()); err == nil {
		addr = addrPortOf(c.LocalAddr()).Addr()
		c.Close()
	}
	t.localAddr.Store(&addr)
	return netip.AddrPortFrom(addr, bound.Port())
}

// addrPortOf is an address of package net, without a port if a raw socket has it.
func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	case *net.IPAddr:
		addr, _ := netip.AddrFromSlice(a.IP)
		return netip.AddrPortFrom(addr.Unmap(), 0)
	}
	return netip.AddrPort{}
}

func (t *transport) register(sa *isakmpSA) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sas[sa.ckyI] = sa
}

func (t *transport) unregister(sa *isakmpSA) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sas, sa.ckyI)
}

// send writes one datagram of IKE; a large one, of certificates, may be fragmented. An
// error is remembered as a hint, not returned: the retransmission is the remedy.
func (t *transport) send(b []byte, to netip.AddrPort) {
	if err := t.write(b, to, allowedAbove(t.udpSize(len(b)), t.leastPath())); err != nil {
		t.noteError(err)
	}
}

// write writes one UDP datagram.
func (t *transport) write(b []byte, to netip.AddrPort, f fragmentation) error {
	u := t.socket(to.Port())
	err := u.fragments.send(f, func() (err error) {
		if u.fast != nil {
			_, err = u.fast.WriteToUDPAddrPort(b, to)
		} else {
			_, err = u.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
		}
		return err
	})
	t.lastSent.Store(t.clock.stamp(time.Now()))
	return err
}

func (t *transport) noteError(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	now := t.clock.stamp(time.Now())
	t.logError(err, now)
	t.lastError.Store(&socketError{err, now})
}

func (t *transport) logError(err error, now int64) {
	if passed, ok := t.failed.next(now); ok {
		t.log.Debug("socket error", "err", err, "not_logged", passed)
	}
}

// endWrites has writes fail from closePatience on. One that waits until the link takes it
// holds the socket, so that the others wait for it, Deletes too.
func (t *transport) endWrites() {
	end := time.Now().Add(closePatience)
	for u := range t.sockets {
		_ = u.conn.SetWriteDeadline(end)
	}
}

// sockets ranges over those that are open.
func (t *transport) sockets(yield func(*socket) bool) {
	for _, u := range []*socket{t.conn, t.natt, t.raw.Load()} {
		if u != nil && !yield(u) {
			return
		}
	}
}

// close returns when the ports are free again: another attempt may need the same.
func (t *transport) close() {
	for u := range t.sockets {
		u.conn.Close()
		<-u.ended
	}
}

// espPath is how ESP packets travel to the gateway.
type espPath struct {
	peer   netip.AddrPort
	marker int         // zero bytes in front
	raw    *net.IPAddr // where it goes as IP protocol 50; nil: in UDP
}

// openRaw opens the raw socket for ESP, once.
func (t *transport) openRaw(ctx context.Context, cfg *Config) error {
	if t.raw.Load() != nil {
		return nil
	}
	listen := cfg.ListenESP
	if listen == nil {
		listen = listenESP
	}
	conn, err := listen(ctx, t.gateway)
	if err != nil {
		return &SocketError{Err: err}
	}
	u := newSocket(conn)
	u.raw = true
	t.adopt(&u.fragments, conn)
	go t.receive(u)
	t.raw.Store(u)
	return nil
}

// listenESP is the default of Config.ListenESP.
func listenESP(ctx context.Context, gateway netip.Addr) (net.PacketConn, error) {
	network := "ip4:50"
	if gateway.Is6() {
		network = "ip6:50"
	}
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, "")
}

// hint is the socket's last error, for a gateway that does not answer and was heard last
// at heard, a stamp: what happened before that does not explain it.
func (t *transport) hint(heard int64) string {
	if e := t.lastError.Load(); e != nil && e.at > heard {
		return e.err.Error()
	}
	return ""
}
