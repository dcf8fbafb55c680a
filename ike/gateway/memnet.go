package gateway

import (
	"container/heap"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Bounds of the packet network.
const (
	maxDatagram = 65507 // of UDP over IPv4
	queueLen    = 1024  // datagrams that wait for a reader; more are lost
)

// Net is a packet network in memory for tests. It uses nothing but channels, locks
// and timers, and so works in virtual time (testing/synctest). Datagrams with the
// same delay arrive in the order in which they were sent.
type Net struct {
	mu      sync.Mutex
	filter  Filter
	conns   map[netip.AddrPort]*memConn
	nats    []*NAT
	flying  flight
	sent    uint64 // numbers datagrams, to keep their order
	nextOut uint16 // next port of a NAT
}

// Filter decides what becomes of a datagram: no Delivery loses it, several
// duplicate it. It sees the addresses that stand on the packet outside of any NAT,
// may keep and change datagram, and is called from the sender's goroutine, several
// of which may send at once.
type Filter func(from, to netip.AddrPort, datagram []byte) []Delivery

// Delivery is one copy of a datagram that arrives.
type Delivery struct {
	After    time.Duration
	Datagram []byte
}

// NewNet makes a network that delivers everything at once.
func NewNet() *Net {
	return &Net{conns: make(map[netip.AddrPort]*memConn), nextOut: 20000}
}

// SetFilter replaces the filter; nil delivers everything at once.
func (n *Net) SetFilter(f Filter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = f
}

// Listen opens a socket at an address of the network, or at a free port of it if
// the port is zero. Its LocalAddr is a *net.UDPAddr.
func (n *Net) Listen(local netip.AddrPort) (net.PacketConn, error) {
	const ephemeral = 49152
	n.mu.Lock()
	defer n.mu.Unlock()
	if !local.Addr().IsValid() || local.Addr().IsUnspecified() {
		return nil, fmt.Errorf("memnet: cannot listen on %v: want one address", local)
	}
	if local.Port() == 0 {
		for port := ephemeral; port <= 0xffff; port++ {
			free := netip.AddrPortFrom(local.Addr(), uint16(port))
			if n.conns[free] == nil {
				local = free
				break
			}
		}
	}
	if local.Port() == 0 {
		return nil, fmt.Errorf("memnet: no port of %v is free", local.Addr())
	}
	return n.listenLocked(local)
}

// ListenIP opens a socket for the packets of an IP protocol to or from an address of
// the network, of which there is one protocol only. Its LocalAddr is a *net.IPAddr.
// Filters see such packets with port 0; NATs do not translate them.
func (n *Net) ListenIP(local netip.Addr) (net.PacketConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listenLocked(netip.AddrPortFrom(local, 0))
}

func (n *Net) listenLocked(local netip.AddrPort) (net.PacketConn, error) {
	if n.conns[local] != nil {
		return nil, fmt.Errorf("memnet: %v is in use", local)
	}
	c := &memConn{net: n, local: local, queue: make(chan memPacket, queueLen), closed: make(chan struct{}), deadline: newDeadline()}
	n.conns[local] = c
	return c, nil
}

// netAddr is an address as package net has it; port 0 means a raw socket.
func netAddr(a netip.AddrPort) net.Addr {
	if a.Port() == 0 {
		return &net.IPAddr{IP: a.Addr().AsSlice()}
	}
	return net.UDPAddrFromAddrPort(a)
}

// NAT translates addresses between an inside network and one outside address. A
// mapping is made by a datagram to the outside, serves all peers, and keeps the
// port only by chance.
type NAT struct {
	net     *Net
	inside  netip.Prefix
	outside netip.Addr
	out     map[netip.AddrPort]netip.AddrPort // owned by net.mu
	in      map[netip.AddrPort]netip.AddrPort
}

// AddNAT puts a NAT before all sockets whose address is in inside.
func (n *Net) AddNAT(inside netip.Prefix, outside netip.Addr) *NAT {
	nat := &NAT{net: n, inside: inside, outside: outside}
	nat.Rebind()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nats = append(n.nats, nat)
	return nat
}

// Rebind forgets all mappings, as a NAT does that restarts: the next datagram from
// the inside gets another port.
func (nat *NAT) Rebind() {
	nat.net.mu.Lock()
	defer nat.net.mu.Unlock()
	nat.out = make(map[netip.AddrPort]netip.AddrPort)
	nat.in = make(map[netip.AddrPort]netip.AddrPort)
}

// translateLocked is the source address of a datagram outside of its NAT.
func (n *Net) translateLocked(from, to netip.AddrPort) netip.AddrPort {
	for _, nat := range n.nats {
		if !nat.inside.Contains(from.Addr()) || nat.inside.Contains(to.Addr()) || from.Port() == 0 {
			continue
		}
		if _, ok := nat.out[from]; !ok {
			n.nextOut++
			outside := netip.AddrPortFrom(nat.outside, n.nextOut)
			nat.out[from], nat.in[outside] = outside, from
		}
		return nat.out[from]
	}
	return from
}

// connLocked is the socket that an address outside of any NAT leads to, or nil.
func (n *Net) connLocked(to netip.AddrPort) *memConn {
	for _, nat := range n.nats {
		if to.Addr() == nat.outside {
			return n.conns[nat.in[to]]
		}
	}
	return n.conns[to]
}

func (n *Net) send(from, to netip.AddrPort, datagram []byte) {
	n.mu.Lock()
	from, filter := n.translateLocked(from, to), n.filter
	n.mu.Unlock()
	deliveries := []Delivery{{Datagram: datagram}}
	if filter != nil {
		deliveries = filter(from, to, datagram)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for _, d := range deliveries {
		n.sent++
		heap.Push(&n.flying, memPacket{from: from, to: to, data: d.Datagram, at: now.Add(d.After), number: n.sent})
		if d.After > 0 {
			time.AfterFunc(d.After, n.land)
		}
	}
	n.landLocked(now)
}

func (n *Net) land() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.landLocked(time.Now())
}

// landLocked hands out what has arrived by now, in order.
func (n *Net) landLocked(now time.Time) {
	for len(n.flying) > 0 && !n.flying[0].at.After(now) {
		p := heap.Pop(&n.flying).(memPacket)
		if c := n.connLocked(p.to); c != nil {
			select {
			case c.queue <- p:
			default: // a full queue loses packets, as a socket's buffer does
			}
		}
	}
}

// memPacket is a datagram under way.
type memPacket struct {
	from, to netip.AddrPort // outside of any NAT
	data     []byte
	at       time.Time
	number   uint64
}

// flight is a heap of datagrams by arrival.
type flight []memPacket

func (f flight) Len() int      { return len(f) }
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f flight) Less(i, j int) bool {
	if f[i].at.Equal(f[j].at) {
		return f[i].number < f[j].number
	}
	return f[i].at.Before(f[j].at)
}
func (f *flight) Push(p any) { *f = append(*f, p.(memPacket)) }
func (f *flight) Pop() any {
	last := len(*f) - 1
	p := (*f)[last]
	*f = (*f)[:last]
	return p
}

// memConn is a socket of a Net.
type memConn struct {
	net      *Net
	local    netip.AddrPort
	queue    chan memPacket
	closed   chan struct{}
	close    sync.Once
	deadline *deadline
}

func (c *memConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-c.closed: // goes before what still waits
		return 0, nil, c.err("read", net.ErrClosed)
	case <-c.deadline.passed():
		return 0, nil, c.err("read", os.ErrDeadlineExceeded)
	default:
	}
	select {
	case <-c.closed:
		return 0, nil, c.err("read", net.ErrClosed)
	case <-c.deadline.passed():
		return 0, nil, c.err("read", os.ErrDeadlineExceeded)
	case p := <-c.queue:
		return copy(b, p.data), netAddr(p.from), nil
	}
}

func (c *memConn) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, c.err("write", net.ErrClosed)
	default:
	}
	addr, ok := addrPortOf(to)
	if _, udp := to.(*net.UDPAddr); !ok || udp != (c.local.Port() != 0) {
		return 0, c.err("write", fmt.Errorf("address %v is none for this socket", to))
	}
	if len(b) > maxDatagram {
		return 0, c.err("write", errors.New("message too long"))
	}
	c.net.send(c.local, addr, append([]byte(nil), b...))
	return len(b), nil
}

func (c *memConn) err(op string, err error) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Err: err}
}

func (c *memConn) Close() error {
	err := c.err("close", net.ErrClosed)
	c.close.Do(func() {
		close(c.closed)
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		delete(c.net.conns, c.local)
		err = nil
	})
	return err
}

func (c *memConn) LocalAddr() net.Addr { return netAddr(c.local) }

func (c *memConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.deadline.set(t)
	return nil
}

// SetWriteDeadline does nothing: writes do not block.
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// deadline is a channel that closes at a time which may be moved.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{}
}

func newDeadline() *deadline { return &deadline{done: make(chan struct{})} }

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

// set moves the deadline. A reader that waits already goes by the old channel, so
// that one is closed when the new time comes, too.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	select {
	case <-d.done:
		d.done = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	done := d.done
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { d.expire(done) })
		return
	}
	close(done)
}

// expire closes done, unless the deadline was moved while the timer fired.
func (d *deadline) expire(done chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if done == d.done && d.timer != nil {
		close(done)
		d.timer = nil
	}
}
