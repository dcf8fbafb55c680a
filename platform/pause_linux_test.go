package platform

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPauses: what a reader rests after.
func TestPauses(t *testing.T) {
	many := func(n, size int) []int { return slices.Repeat([]int{size}, n) }
	for _, tt := range []struct {
		name            string
		sizes, segments []int
		want            bool
	}{
		{"a stream", many(5, 1400), many(5, 1400), true},
		{"the least of one", many(2, 512), many(2, 512), true},
		{"with a small one in it", []int{1400, 60, 1400}, []int{1400, 60, 1400}, true},
		{"what comes alone", many(1, 1400), many(1, 1400), false},
		{"nothing", nil, nil, false},
		{"acknowledgements", many(5, 88), many(5, 88), false},
		{"mostly small", []int{1400, 60, 60}, []int{1400, 60, 60}, false},
		{"runs", many(5, 14000), many(5, 1400), false},
		{"a run among them", []int{1400, 2800, 1400}, []int{1400, 1400, 1400}, false},
		{"there are more", many(8, 1400), many(8, 1400), false},
	} {
		p := pauses{dense: !tt.want}
		p.gave(8, tt.sizes, tt.segments)
		if p.dense != tt.want {
			t.Errorf("%s: dense %v", tt.name, p.dense)
		}
	}
}

// TestPause: a reader rests amid a stream of single datagrams, once for each call, as long
// as no other does and there is a processor for the rest of the program.
func TestPause(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	addr := loopbacks[0]
	from, to := batchSocket(t, addr), batchSocket(t, addr)
	r := newReader(8)
	rested := 0
	read := func(size, count, want int, why string) {
		t.Helper()
		dense, run := to.pauses.dense, make([]byte, size*count)
		for reads := (&calls{udpSocket: to}); reads.n != 1; { // until all come at once
			rested, reads.n, to.pauses.dense = 0, 0, dense
			if _, err := from.WriteBatch([][]byte{run}, []int{size}, localAt(to, addr)); err != nil {
				t.Fatal(err)
			}
			r.next(t, reads, count, localAt(from, addr))
		}
		if rested != want {
			t.Errorf("%s: rested %d times, want %d", why, rested, want)
		}
	}
	read(1400, 1, 0, "the first")
	to.option(t, unix.SOL_UDP, unix.UDP_GRO, 0)
	to.pauses.rest = func() { rested++ }
	read(1400, 5, 0, "before a stream")
	read(1400, 5, 1, "amid a stream")
	runtime.GOMAXPROCS(1)
	read(1400, 5, 0, "with one processor")
	runtime.GOMAXPROCS(2)
	pausing.Store(true)
	read(1400, 5, 0, "while another rests")
	pausing.Store(false)
	read(88, 5, 1, "after a stream")
	read(1400, 1, 0, "after small ones")
	read(1400, 1, 0, "after one alone")
}

// calls counts those of ReadBatch.
type calls struct {
	*udpSocket
	n int
}

func (c *calls) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	c.n++
	return c.udpSocket.ReadBatch(bufs, sizes, segments, from)
}
