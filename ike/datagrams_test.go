package ike

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
)

// TestReadsOfRuns: what fills a few buffers may fill more in the next call, and single
// datagrams all, until there is a long run. As long as there are few, these are used.
func TestReadsOfRuns(t *testing.T) {
	counted := &countConn{}
	u, a := &socket{batch: counted}, newArrivals(batchReads)
	for i, call := range []struct{ runs, size, buffers int }{
		{fewReads, 1400, fewReads},
		{fewReads, 2800, fewReads},
		{1, 1400, fewReads},
		{fewReads, 1400, fewReads}, // from here on there are all
		{fewReads, 1400, fewReads},
		{runReads, 2800, runReads},
		{runReads - 1, 1400, runReads},
		{runReads, 1400, runReads},
		{1, 1400, batchReads},
		{batchReads, 1400, batchReads},
		{0, 0, batchReads},
		{1, 2800, batchReads},
		{1, 1400, runReads},
	} {
		if i == 4 {
			a.makeBufs(batchReads)
		}
		counted.runs, counted.size = call.runs, call.size
		if n, err := u.read(a); n != call.runs || err != nil {
			t.Fatalf("call %d: %d runs, %v", i, n, err)
		}
		if counted.buffers != call.buffers {
			t.Errorf("call %d: %d buffers, want %d", i, counted.buffers, call.buffers)
		}
	}
}

// countConn gives runs, of which only the sizes are known, in datagrams of 1400 bytes.
type countConn struct {
	BatchConn
	runs, size, buffers int
}

func (c *countConn) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	c.buffers = len(bufs)
	for i := range c.runs {
		sizes[i], segments[i], from[i] = c.size, 1400, pipeGateway
	}
	return c.runs, nil
}

// TestBuffersAfterESP: a receive loop has few buffers until ESP comes.
func TestBuffersAfterESP(t *testing.T) {
	keepalive, packet := []byte{0xff}, []byte{0, 0, 1, 1, 0, 0, 0, 1}
	conn := &scriptedConn{calls: [][]byte{keepalive, keepalive, packet, packet, packet}}
	u := &socket{receiver: newReceiver(conn), batch: conn}
	tr := &transport{gateway: pipeGateway.Addr(), log: slog.New(slog.DiscardHandler)}
	taken := 0
	tr.takeESP = func(packets [][]byte) { taken += len(packets) }
	tr.esp.Store(u.receiver)
	tr.receive(u)
	want := []int{fewReads, fewReads, fewReads, fewReads, runReads, batchReads}
	if taken != fewReads+runReads+fewReads || !slices.Equal(conn.buffers, want) {
		t.Errorf("%d packets of ESP; the calls had %v buffers, want %v", taken, conn.buffers, want)
	}
}

// scriptedConn fills all buffers of a call with a datagram, and notes how many there are.
type scriptedConn struct {
	BatchConn
	calls   [][]byte
	buffers []int
}

func (c *scriptedConn) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	c.buffers = append(c.buffers, len(bufs))
	if len(c.calls) == 0 {
		return 0, net.ErrClosed
	}
	datagram := c.calls[0]
	c.calls = c.calls[1:]
	for i := range bufs {
		sizes[i], segments[i], from[i] = copy(bufs[i], datagram), len(datagram), netip.AddrPortFrom(pipeGateway.Addr(), portNATT)
	}
	return len(bufs), nil
}
