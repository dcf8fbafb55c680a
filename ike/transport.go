package ike

import (
	"context"
	"encoding/binary"
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

const (
	maxDatagram = 64 << 10
	// inboxSize bounds IKE datagrams that wait for their SA; espQueue bounds
	// ESP packets that wait for ReadPackets: at 10 Gbit/s half a millisecond.
	inboxSize = 64
	espQueue  = 512
	// readErrorPause keeps a broken socket from spinning the receive loop.
	readErrorPause = 100 * time.Millisecond
)

// addrPortConn is what *net.UDPConn has over net.PacketConn: no allocation per
// datagram.
type addrPortConn interface {
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
}

// transport is the one UDP socket of a session, which serves both gateway ports.
// The marker is added and stripped by the gateway's port, not by ours: ours is any.
type transport struct {
	conn    net.PacketConn
	fast    addrPortConn // conn, or nil
	gateway netip.Addr
	clock   clock
	log     *slog.Logger

	mu  sync.Mutex
	sas map[isakmp.Cookie]*isakmpSA // by CKY-I

	esp  chan *espPacket // to ReadPackets
	free chan *espPacket // back

	nonIKE atomic.Bool    // ESP comes on port 500 behind eight zero bytes
	raw    net.PacketConn // ESP as IP protocol 50; nil: not used
	rawEnd chan struct{}  // closed when its receive loop has ended

	localAddr atomic.Pointer[netip.Addr] // of the route to the gateway
	lastSent  atomic.Int64               // stamp, for the keepalive
	lastError atomic.Pointer[error]      // of the socket, as a hint
	closed    chan struct{}              // closed when the receive loop has ended
}

// espPacket is a received ESP datagram.
type espPacket struct {
	buf []byte
}

func newTransport(ctx context.Context, cfg *Config, gateway netip.Addr, clock clock, log *slog.Logger) (*transport, error) {
	listen := cfg.ListenPacket
	if listen == nil {
		listen = listenPacket
	}
	conn, err := listen(ctx, gateway)
	if err != nil {
		return nil, fmt.Errorf("opening a UDP socket: %w", err)
	}
	t := &transport{
		conn: conn, gateway: gateway, clock: clock, log: log,
		sas:    make(map[isakmp.Cookie]*isakmpSA),
		esp:    make(chan *espPacket, espQueue),
		free:   make(chan *espPacket, espQueue),
		closed: make(chan struct{}),
	}
	t.fast, _ = conn.(addrPortConn)
	t.lastSent.Store(clock.stamp(time.Now()))
	go t.receive()
	return t, nil
}

// listenPacket is the default of Config.ListenPacket.
func listenPacket(ctx context.Context, gateway netip.Addr) (net.PacketConn, error) {
	network := "udp4"
	if gateway.Is6() {
		network = "udp6"
	}
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, ":0")
}

// local is our address and port as the path to the gateway has them, for NAT-D and
// for IDii.
func (t *transport) local(gateway netip.Addr) netip.AddrPort {
	bound := addrPortOf(t.conn.LocalAddr())
	if bound.Addr().IsValid() && !bound.Addr().IsUnspecified() {
		return bound
	}
	if a := t.localAddr.Load(); a != nil {
		return netip.AddrPortFrom(*a, bound.Port())
	}
	addr := netip.IPv4Unspecified()
	if gateway.Is6() {
		addr = netip.IPv6Unspecified()
	}
	// A connected socket tells the source address; no packet is sent.
	if c, err := net.Dial("udp", netip.AddrPortFrom(gateway, portIKE).String()); err == nil {
		addr = addrPortOf(c.LocalAddr()).Addr()
		c.Close()
	}
	t.localAddr.Store(&addr)
	return netip.AddrPortFrom(addr, bound.Port())
}

func addrPortOf(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
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

// send writes one datagram. An error is remembered as a hint, not returned: the
// retransmission is the remedy.
func (t *transport) send(b []byte, to netip.AddrPort) {
	var err error
	if t.fast != nil {
		_, err = t.fast.WriteToUDPAddrPort(b, to)
	} else {
		_, err = t.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
	t.lastSent.Store(t.clock.stamp(time.Now()))
	if err != nil {
		t.noteError(err)
	}
}

func (t *transport) noteError(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	t.log.Debug("socket error", "err", err)
	t.lastError.Store(&err)
}

func (t *transport) close() {
	t.conn.Close()
	<-t.closed
	if t.raw != nil {
		t.raw.Close()
		<-t.rawEnd
	}
}

// espPath is how ESP packets travel to the gateway.
type espPath struct {
	peer   netip.AddrPort
	marker int  // zero bytes in front
	raw    bool // as IP protocol 50
}

// sendESP sends the ESP packet buf[start:end]; a marker goes in front of it.
func (t *transport) sendESP(path *espPath, buf []byte, start, end int) {
	if path.raw {
		_, err := t.raw.WriteTo(buf[start:end], &net.IPAddr{IP: path.peer.Addr().AsSlice(), Zone: path.peer.Addr().Zone()})
		if err != nil {
			t.noteError(err)
		}
		return
	}
	clear(buf[start-path.marker : start])
	t.send(buf[start-path.marker:end], path.peer)
}

// openRaw opens the raw socket for ESP, once.
func (t *transport) openRaw(ctx context.Context, cfg *Config) error {
	if t.raw != nil {
		return nil
	}
	listen := cfg.ListenESP
	if listen == nil {
		listen = listenESP
	}
	conn, err := listen(ctx, t.gateway)
	if err != nil {
		return err
	}
	t.raw, t.rawEnd = conn, make(chan struct{})
	go t.receiveRaw()
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

// receiveRaw is the receive loop of the raw socket.
func (t *transport) receiveRaw() {
	defer close(t.rawEnd)
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := t.raw.ReadFrom(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.noteError(err)
			time.Sleep(readErrorPause)
		default:
			if ip, ok := from.(*net.IPAddr); ok && netip.MustParseAddr(ip.IP.String()).Unmap() == t.gateway.WithZone("") {
				t.queueESP(buf[:n])
			}
		}
	}
}

// receive is the receive loop. It owns the socket's reading side.
func (t *transport) receive() {
	defer close(t.closed)
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := t.read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			t.noteError(err)
			time.Sleep(readErrorPause)
			continue
		}
		t.demultiplex(buf[:n], from)
	}
}

func (t *transport) read(buf []byte) (int, netip.AddrPort, error) {
	if t.fast != nil {
		n, from, err := t.fast.ReadFromUDPAddrPort(buf)
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	n, from, err := t.conn.ReadFrom(buf)
	return n, addrPortOf(from), err
}

// demultiplex hands a datagram to its SA or to ReadPackets (RFC 3948 §2). Only the
// gateway's address is listened to, whichever port it uses.
func (t *transport) demultiplex(b []byte, from netip.AddrPort) {
	if from.Addr().WithZone("") != t.gateway.WithZone("") || len(b) < nonESPMarkerLen {
		return // a keepalive has one byte
	}
	if from.Port() == portIKE && t.nonIKE.Load() && len(b) > nonIKEMarkerLen && binary.BigEndian.Uint64(b) == 0 {
		t.queueESP(b[nonIKEMarkerLen:])
		return
	}
	if from.Port() != portIKE {
		if binary.BigEndian.Uint32(b) != 0 {
			t.queueESP(b)
			return
		}
		b = b[nonESPMarkerLen:]
	}
	h, _, err := isakmp.ParseHeader(b)
	if err != nil {
		t.log.Debug("dropped a datagram", "from", from, "err", err)
		return
	}
	t.mu.Lock()
	sa := t.sas[h.CKYI]
	t.mu.Unlock()
	if sa == nil {
		t.log.Debug("dropped a message of an unknown SA", "from", from, "cky_i", h.CKYI)
		return
	}
	select {
	case sa.inbox <- append([]byte(nil), b[:h.Length]...):
	default:
		t.log.Debug("dropped a message: too many wait", "from", from)
	}
}

// queueESP copies the packet, so that the receive loop can go on. A full queue
// drops, as a network does.
func (t *transport) queueESP(b []byte) {
	var p *espPacket
	select {
	case p = <-t.free:
	default:
		p = new(espPacket)
	}
	p.buf = append(p.buf[:0], b...)
	select {
	case t.esp <- p:
	default:
		t.release(p)
	}
}

// release gives a packet's buffer back.
func (t *transport) release(p *espPacket) {
	select {
	case t.free <- p:
	default:
	}
}

// hint is the socket's last error, for a gateway that did not answer.
func (t *transport) hint() string {
	if err := t.lastError.Load(); err != nil {
		return (*err).Error()
	}
	return ""
}
