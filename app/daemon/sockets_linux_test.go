package daemon

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"wayfarer/ike"
	"wayfarer/platform"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// TestSockets: a session finds in the host's sockets all that it can make use of.
func TestSockets(t *testing.T) {
	conn, err := platform.ListenPacket(t.Context(), loopback, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, ok := conn.(ike.BatchConn); !ok {
		t.Error("it takes no runs of datagrams")
	}
	if _, ok := conn.(ike.PathConn); !ok {
		t.Error("it finds out nothing about the path")
	}
}

// hostPatience is how long what is lost on loopback is waited for.
const hostPatience = 20 * time.Second

// hostWire is a wire between the host's sockets: the session's ESP goes by one to another,
// and from that comes all that comes to the session. The addresses stay those of the
// network in memory, by which the session's IKE goes.
type hostWire struct {
	*wire
	near, far     ike.BatchConn // the session's, the test's
	nearAt, farAt netip.AddrPort
	from          atomic.Pointer[netip.AddrPort] // who sends what comes: one port of the gateway's

	// owned by who sends ESP
	bufs            [][]byte
	sizes, segments []int
	senders         []netip.AddrPort
}

func newHostWire(w *wire) (*hostWire, error) {
	h := &hostWire{wire: w}
	var err error
	if h.near, h.nearAt, err = hostSocket(); err != nil {
		return nil, err
	}
	if h.far, h.farAt, err = hostSocket(); err != nil {
		return nil, err
	}
	for range 16 {
		h.bufs = append(h.bufs, make([]byte, 1<<16))
	}
	h.sizes, h.segments, h.senders = make([]int, len(h.bufs)), make([]int, len(h.bufs)), make([]netip.AddrPort, len(h.bufs))
	go func() {
		for a := range w.arrivals {
			h.from.Store(&a.from)
			if _, err := h.far.WriteBatch([][]byte{a.run}, []int{a.segment}, h.nearAt); err != nil {
				return // what does not come is missed
			}
		}
	}()
	return h, nil
}

func hostSocket() (ike.BatchConn, netip.AddrPort, error) {
	conn, err := platform.ListenPacket(context.Background(), loopback, 0)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return conn.(ike.BatchConn), netip.AddrPortFrom(loopback, uint16(conn.LocalAddr().(*net.UDPAddr).Port)), nil
}

func (h *hostWire) Close() error {
	return errors.Join(h.wire.Close(), h.near.Close(), h.far.Close())
}

func (h *hostWire) SetReadDeadline(t time.Time) error { return h.near.SetReadDeadline(t) }

// ReadBatch implements ike.BatchConn.
func (h *hostWire) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	n, err := h.near.ReadBatch(bufs, sizes, segments, from)
	for i := range n {
		if from[i] == h.farAt {
			from[i] = *h.from.Load()
		}
	}
	return n, err
}

// WriteBatch implements ike.BatchConn. What it sends has come when it returns.
func (h *hostWire) WriteBatch(runs [][]byte, segments []int, _ netip.AddrPort) (int, error) {
	n, err := h.near.WriteBatch(runs, segments, h.farAt)
	if err != nil {
		return n, err
	}
	missing := 0
	for i, run := range runs {
		missing += (len(run) + segments[i] - 1) / segments[i]
	}
	if err := h.far.SetReadDeadline(time.Now().Add(hostPatience)); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for missing > 0 {
		got, err := h.far.ReadBatch(h.bufs, h.sizes, h.segments, h.senders)
		if err != nil {
			return 0, err
		}
		for i := range got {
			for datagram := range slices.Chunk(h.bufs[i][:h.sizes[i]], h.segments[i]) {
				h.sent = append(h.sent, bytes.Clone(datagram))
				missing--
			}
		}
	}
	return n, nil
}
