package platform

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPauses: what a reader rests after.
func TestPauses(t *testing.T) {
	many := func(n, size int) []int { return slices.Repeat([]int{size}, n) }
	for _, tt := range []struct {
		name            string
		before          int // have come closely before
		sizes, segments []int
		after           time.Duration
		want            int
	}{
		{"a stream", 4, many(5, 1400), many(5, 1400), 624 * time.Microsecond, 4},
		{"a slower one", 4, many(5, 1400), many(5, 1400), 625 * time.Microsecond, 2},
		{"one of single calls", 4, many(1, 1400), many(1, 1400), 124 * time.Microsecond, 4},
		{"a gap", 4, many(1, 1400), many(1, 1400), 125 * time.Microsecond, 2},
		{"another", 2, many(1, 1400), many(1, 1400), 999 * time.Microsecond, 1},
		{"a third", 1, many(1, 1400), many(1, 1400), 125 * time.Microsecond, 0},
		{"now and then one", 4, many(1, 1400), many(1, 1400), time.Millisecond, 0},
		{"many, a little later", 2, many(7, 1400), many(7, 1400), 999 * time.Microsecond, 1},
		{"many, later", 4, many(7, 1400), many(7, 1400), time.Millisecond, 0},
		{"a stream begins", 0, many(3, 1400), many(3, 1400), 0, 3},
		{"and goes on", 3, many(1, 1400), many(1, 1400), 0, 4},
		{"the smallest", 3, many(2, 512), many(2, 512), 0, 4},
		{"with a small one in it", 3, []int{1400, 60, 1400}, []int{1400, 60, 1400}, 0, 4},
		{"acknowledgements", 4, many(5, 88), many(5, 88), 0, 0},
		{"mostly small", 4, []int{1400, 60, 60}, []int{1400, 60, 60}, 0, 0},
		{"runs", 4, many(5, 14000), many(5, 1400), 0, 0},
		{"a run among them", 4, []int{1400, 2800, 1400}, []int{1400, 1400, 1400}, 0, 0},
		{"there are more", 4, many(8, 1400), many(8, 1400), 0, 4},
	} {
		begin := time.Now()
		p := pauses{dense: tt.before, last: begin}
		total := 0
		for _, size := range tt.sizes {
			total += size
		}
		if much := p.gave(begin.Add(tt.after), 8, tt.sizes, tt.segments); much != (total >= 8192) {
			t.Errorf("%s: %d bytes are much: %t", tt.name, total, much)
		}
		if p.dense != tt.want {
			t.Errorf("%s: dense %d, want %d", tt.name, p.dense, tt.want)
		}
		if !p.last.Equal(begin.Add(tt.after)) {
			t.Errorf("%s: the moment was not noted", tt.name)
		}
		if more := len(tt.sizes) == 8; p.more != more {
			t.Errorf("%s: more wait: %t, want %t", tt.name, p.more, more)
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
	// read moves datagrams that come right behind those before, or long after them.
	read := func(size, count int, closely bool, want int, why string) {
		t.Helper()
		before, run := to.pauses, make([]byte, size*count)
		for reads := (&calls{udpSocket: to}); reads.n != 1; { // until all come at once
			rested, reads.n = 0, 0
			to.pauses.dense, to.pauses.more, to.pauses.last = before.dense, before.more, time.Time{}
			if closely {
				to.pauses.last = time.Now().Add(time.Hour)
			}
			if _, err := from.WriteBatch([][]byte{run}, []int{size}, localAt(to, addr)); err != nil {
				t.Fatal(err)
			}
			r.next(t, reads, count, localAt(from, addr))
		}
		if rested != want {
			t.Errorf("%s: rested %d times, want %d", why, rested, want)
		}
	}
	const closely, later = true, false
	read(1400, 1, later, 0, "the first")
	to.option(t, unix.SOL_UDP, unix.UDP_GRO, 0)
	to.pauses.rest = func() { rested++ }
	read(1400, 5, closely, 0, "before a stream")
	read(1400, 5, closely, 1, "amid a stream")
	read(1400, 8, closely, 1, "amid a stream, as many as a call takes")
	read(1400, 5, closely, 0, "while more may wait")
	runtime.GOMAXPROCS(1)
	read(1400, 5, closely, 0, "with one processor")
	runtime.GOMAXPROCS(2)
	pausing.Store(true)
	read(1400, 5, closely, 0, "while another rests")
	pausing.Store(false)
	read(1400, 5, later, 1, "after a stream")
	read(1400, 5, closely, 0, "after some time")
	read(88, 5, closely, 1, "after another stream")
	read(1400, 1, closely, 0, "after small ones")
	read(1400, 1, closely, 0, "after one alone")
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
