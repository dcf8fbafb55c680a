package ike

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"wayfarer/ike/isakmp"
)

// The way of datagrams through a socket, many at once where it can do that.

const (
	maxDatagram = 64 << 10
	// fewReads is how many buffers a receive loop on a BatchConn has until ESP comes: most
	// sockets see IKE only. When they are all filled, runReads are used: so many bytes of
	// long runs are still near the processor when they are decrypted. When single
	// datagrams fill these, too, as of a gateway that sends each by itself, batchReads
	// are: the more are taken at once, the longer is what the host gets in one piece.
	fewReads   = 2
	runReads   = 8
	batchReads = 32
	// readErrorPause keeps a broken socket from spinning the receive loop.
	readErrorPause = 100 * time.Millisecond
)

// BatchConn is what a socket of Config.ListenPacket or Config.ListenESP may be, beside a
// net.PacketConn: one that takes and gives runs of datagrams. A run is datagrams of one
// length, the last perhaps shorter, one behind the other. On any other socket each datagram
// is a call. Addresses of a raw socket have no port: it gives 0, and takes any.
type BatchConn interface {
	net.PacketConn
	// ReadBatch waits until something has come and puts a run into each of bufs, of
	// sizes[i] bytes in datagrams of segments[i] bytes, from one sender. It returns
	// how many runs there are. The other slices are at least as long as bufs.
	ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error)
	// WriteBatch sends the runs, of at most 64 datagrams and 65,507 bytes each, as a
	// Batch makes them. It returns how many went out before the error; of the run after
	// these some datagrams may have gone, too. It never sends one twice. Where it waits
	// for room, SetWriteDeadline ends that.
	WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error)
}

// arrivals is what one call of a socket has given. Owned by its receive loop.
type arrivals struct {
	bufs            [][]byte // few until ESP has come, then as many as the other slices have
	count           int      // of them are for the next call
	sizes, segments []int
	from            []netip.AddrPort
	esp             [][]byte // of all the runs
}

func newArrivals(most int) *arrivals {
	a := &arrivals{sizes: make([]int, most), segments: make([]int, most), from: make([]netip.AddrPort, most)}
	a.makeBufs(min(most, fewReads))
	a.count = len(a.bufs)
	return a
}

// makeBufs makes it so many buffers.
func (a *arrivals) makeBufs(n int) {
	for len(a.bufs) < n {
		a.bufs = append(a.bufs, make([]byte, maxDatagram))
	}
}

// took fits the number of buffers to what n of them were given.
func (a *arrivals) took(n int) {
	switch {
	case n < a.count:
	case n < runReads:
		a.count = min(runReads, len(a.bufs))
	default:
		a.count = len(a.bufs)
	}
	for i := range n {
		if a.sizes[i] > a.segments[i] {
			a.count = min(a.count, runReads)
		}
	}
}

// receive is the receive loop of a socket. It owns its reading side.
func (t *transport) receive(u *socket) {
	defer u.end()
	runs := 1
	if u.batch != nil {
		runs = batchReads
	}
	a := newArrivals(runs)
	for {
		n, err := u.read(a)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			u.attend()
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.noteError(err)
			time.Sleep(readErrorPause)
			continue
		}
		t.sort(u, a, n)
		if len(a.esp) > 0 && t.arrived(u.receiver, a.esp) {
			a.makeBufs(len(a.sizes))
		}
	}
}

func (u *socket) read(a *arrivals) (n int, err error) {
	switch {
	case u.batch != nil:
		n, err = u.batch.ReadBatch(a.bufs[:a.count], a.sizes, a.segments, a.from)
		a.took(n)
		for i, from := range a.from[:n] {
			a.from[i] = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		}
		return n, err
	case u.fast != nil:
		a.sizes[0], a.from[0], err = u.fast.ReadFromUDPAddrPort(a.bufs[0])
		a.from[0] = netip.AddrPortFrom(a.from[0].Addr().Unmap(), a.from[0].Port())
	default:
		var from net.Addr
		a.sizes[0], from, err = u.conn.ReadFrom(a.bufs[0])
		a.from[0] = addrPortOf(from)
	}
	a.segments[0] = a.sizes[0]
	return 1, err
}

// sort takes n runs apart: IKE goes to its SAs, ESP to a.esp. Only the gateway's address
// is listened to, whichever port it uses.
func (t *transport) sort(u *socket, a *arrivals, n int) {
	a.esp = a.esp[:0]
	for i := range n {
		if a.from[i].Addr().WithZone("") != t.gateway.WithZone("") {
			continue
		}
		// An empty datagram is a run of none, with segments of no length.
		for datagram := range slices.Chunk(a.bufs[i][:a.sizes[i]], max(a.segments[i], 1)) {
			if packet := t.demultiplex(datagram, a.from[i], u.raw); packet != nil {
				a.esp = append(a.esp, packet)
			}
		}
	}
}

// demultiplex hands IKE to its SA and returns an ESP packet, a part of b (RFC 3948 §2),
// which has come from the gateway's address.
func (t *transport) demultiplex(b []byte, from netip.AddrPort, raw bool) (packet []byte) {
	if len(b) < nonESPMarkerLen {
		return nil // a keepalive has one byte
	}
	if raw {
		return b
	}
	if from.Port() == portIKE && t.nonIKE.Load() && len(b) > nonIKEMarkerLen && binary.BigEndian.Uint64(b) == 0 {
		return b[nonIKEMarkerLen:]
	}
	if from.Port() != portIKE {
		if binary.BigEndian.Uint32(b) != 0 {
			return b
		}
		b = b[nonESPMarkerLen:]
	}
	h, _, err := isakmp.ParseHeader(b)
	if err != nil {
		t.noteDropped(&t.noIKE, "no IKE", from, h.CKYI)
		return nil
	}
	t.mu.Lock()
	sa := t.sas[h.CKYI]
	t.mu.Unlock()
	if sa == nil {
		t.noteDropped(&t.unknown, "of an unknown SA", from, h.CKYI)
		return nil
	}
	select {
	case sa.inbox <- append([]byte(nil), b[:h.Length]...):
	default:
		t.noteDropped(&t.full, "too many wait", from, h.CKYI)
	}
	return nil
}

// noteDropped logs a message that goes no further. Each reason has a pace of its own:
// what anybody can send does not hide what the gateway does.
func (t *transport) noteDropped(pace *sparse, why string, from netip.AddrPort, cookie isakmp.Cookie) {
	if passed, ok := pace.next(t.clock.stamp(time.Now())); ok {
		t.log.Debug("dropped a message", "why", why, "from", from, "cky_i", cookie, "not_logged", passed)
	}
}

// outbox collects datagrams of ESP on one path. Owned by who calls WritePacket and Flush.
type outbox struct {
	Batch
	path *espPath
	sa   *childSA // of the last packet, claimed; others have finished theirs

	lookup lookup // the last that found an SA

	// A run of one datagram.
	single [1][]byte
	length [1]int
}

// lookup is what the security policy said of a packet.
type lookup struct {
	addrs lastAddrs
	among *[]*childSA // the SAs, as they were
	sa    *childSA
}

// sendESP sends what the outbox holds, all of it finished. Only what the path is known not
// to carry whole may be fragmented.
func (t *transport) sendESP(o *outbox) {
	u := t.socket(o.path.peer.Port())
	if o.path.raw != nil {
		u = t.raw.Load()
	}
	whole := int(t.whole.Load())
	from := 0 // the first of the runs that go together
	for i, run := range o.Runs {
		if u.batch != nil && t.espSize(u, o.Segments[i]) <= whole {
			continue
		}
		t.writeRuns(u, o.Runs[from:i], o.Segments[from:i], o.path.peer)
		for datagram := range slices.Chunk(run, o.Segments[i]) {
			t.sendOne(u, o, datagram, whole)
		}
		from = i + 1
	}
	t.writeRuns(u, o.Runs[from:], o.Segments[from:], o.path.peer)
	t.lastSent.Store(t.clock.stamp(time.Now()))
}

// espSize is the size of a datagram with so many bytes of ESP.
func (t *transport) espSize(u *socket, payload int) int {
	if u.raw {
		return t.ipHeaderLen() + payload
	}
	return t.udpSize(payload)
}

// writeRuns sends runs of datagrams that the path carries whole.
func (t *transport) writeRuns(u *socket, runs [][]byte, segments []int, to netip.AddrPort) {
	for len(runs) > 0 {
		var n int
		err := u.fragments.send(asUsual, func() (err error) {
			n, err = u.batch.WriteBatch(runs, segments, to)
			return err
		})
		if err == nil {
			return
		}
		t.noteLost(err, t.espSize(u, segments[n]))
		runs, segments = runs[n+1:], segments[n+1:]
	}
}

// sendOne sends a datagram of ESP by itself.
func (t *transport) sendOne(u *socket, o *outbox, b []byte, whole int) {
	size := t.espSize(u, len(b))
	f := allowedAbove(size, whole)
	var err error
	switch {
	case !u.raw:
		err = t.write(b, o.path.peer, f)
	case u.batch != nil:
		o.single[0], o.length[0] = b, len(b)
		err = u.fragments.send(f, func() error {
			_, err := u.batch.WriteBatch(o.single[:], o.length[:], o.path.peer)
			return err
		})
	default:
		err = u.fragments.send(f, func() error {
			_, err := u.conn.WriteTo(b, o.path.raw)
			return err
		})
	}
	if err != nil {
		t.noteLost(err, size)
	}
}

// noteLost notes that a datagram of ESP could not be sent. That one is too large says nothing
// of the messages that a gateway does not answer.
func (t *transport) noteLost(err error, size int) {
	if !isTooLarge(err) {
		t.noteError(err)
		return
	}
	t.logError(err, t.clock.stamp(time.Now()))
	if size > t.leastPath() {
		t.tooBig(size - 1)
	}
}

// isTooLarge says whether a socket means that a datagram is larger than the link takes.
// Go has no name for Windows's own error (WSAEMSGSIZE) elsewhere.
func isTooLarge(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.Errno(10040))
}
