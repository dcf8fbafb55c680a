package platform

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
)

// batchConn is what the protocol engine takes for a socket that moves runs.
type batchConn interface {
	net.PacketConn
	ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error)
	WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error)
}

// reader is what ReadBatch fills.
type reader struct {
	bufs            [][]byte
	sizes, segments []int
	from            []netip.AddrPort
}

func newReader(n int) *reader {
	r := &reader{sizes: make([]int, n), segments: make([]int, n), from: make([]netip.AddrPort, n)}
	for range n {
		r.bufs = append(r.bufs, make([]byte, 1<<16))
	}
	return r
}

// next reads n datagrams, and says how many runs they came in.
func (r *reader) next(t testing.TB, s batchConn, n int, from netip.AddrPort) (datagrams [][]byte, runs int) {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(10 * time.Second))
	for len(datagrams) < n {
		count, err := s.ReadBatch(r.bufs, r.sizes, r.segments, r.from)
		if err != nil {
			t.Fatalf("%d of %d datagrams: %v", len(datagrams), n, err)
		}
		runs += count
		for i := range count {
			if r.from[i] != from {
				t.Fatalf("from %v, want %v", r.from[i], from)
			}
			for b := r.bufs[i][:r.sizes[i]]; len(b) > 0; {
				size := min(len(b), r.segments[i])
				datagrams = append(datagrams, bytes.Clone(b[:size]))
				b = b[size:]
			}
		}
	}
	return datagrams, runs
}

// runOf makes a run of datagrams of one size and a shorter one, each of a content of its own.
func runOf(count, segment, last int, salt byte) (run []byte, datagrams [][]byte) {
	for i := range count {
		datagrams = append(datagrams, bytes.Repeat([]byte{salt, byte(i)}, segment)[:segment])
	}
	if last > 0 {
		datagrams = append(datagrams, bytes.Repeat([]byte{salt, 0xff}, last)[:last])
	}
	return bytes.Join(datagrams, nil), datagrams
}

var loopbacks = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// localAt is the address of a socket, seen from its own machine.
func localAt(s net.PacketConn, addr netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(addr, uint16(s.LocalAddr().(*net.UDPAddr).Port))
}

// TestOrdinaryBatches: the sockets of this system carry runs, be it one by one.
func TestOrdinaryBatches(t *testing.T) {
	for _, addr := range loopbacks {
		var conns [2]batchConn
		for i := range conns {
			c, err := ListenPacket(t.Context(), addr, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			batch, ok := c.(batchConn)
			if !ok {
				t.Skip("ordinary sockets of this system move single datagrams")
			}
			conns[i] = batch
		}
		from, to := conns[0], conns[1]
		r := newReader(8)
		for round := range 2 {
			run, want := runOf(20, 700, 300, byte(round))
			if n, err := from.WriteBatch([][]byte{run}, []int{700}, localAt(to, addr)); n != 1 || err != nil {
				t.Fatalf("%v: %d, %v", addr, n, err)
			}
			got, _ := r.next(t, to, len(want), localAt(from, addr))
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Fatalf("%v: datagram %d has %d bytes, want %d", addr, i, len(got[i]), len(want[i]))
				}
			}
		}
	}
}
