package esp

import (
	mathrand "math/rand/v2"
	"testing"
)

func TestWindowTable(t *testing.T) {
	const top = 1<<32 - 1
	type step struct {
		seq   uint32
		fresh bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"zero", []step{{0, false}, {1, true}, {0, false}}},
		{"in order, then again", []step{{1, true}, {2, true}, {3, true}, {3, false}, {2, false}, {1, false}}},
		{"late, once", []step{{10, true}, {4, true}, {4, false}, {9, true}, {10, false}}},
		{"does not begin with one", []step{{5000, true}, {4999, true}, {5000 - 1023, true}, {5000 - 1024, false}, {1, false}}},
		{"oldest in the window", []step{{1024, true}, {1, true}, {1, false}, {1025, true}, {1, false}, {2, true}}},
		{"jump within a word", []step{{64, true}, {100, true}, {64, false}, {65, true}}},
		{"jump over a word", []step{{1, true}, {130, true}, {64, true}, {127, true}, {1, false}}},
		{"jump of the window's width", []step{{7, true}, {7 + 1024, true}, {8, true}, {7, false}}},
		{"jump of the ring's width", []step{{7, true}, {7 + 2048, true}, {7 + 2048, false}, {7 + 2048 - 1023, true}}},
		{"jump over the ring", []step{{7, true}, {1 << 20, true}, {1<<20 - 1, true}, {1<<20 - 1023, true}, {1<<20 - 1024, false}}},
		{"the end", []step{{1, true}, {top, true}, {top, false}, {top - 1, true}, {top - 1023, true}, {top - 1024, false}, {1, false}, {0, false}}},
	} {
		var w window
		for i, s := range tt.steps {
			got := w.fresh(s.seq)
			if got != s.fresh {
				t.Errorf("%s: step %d: fresh(%d) = %v", tt.name, i, s.seq, got)
			}
			if got {
				w.mark(s.seq)
			}
		}
	}
}

// TestWindowModel compares with a set of all numbers ever seen.
func TestWindowModel(t *testing.T) {
	rand := mathrand.New(newRand(4))
	for _, start := range []uint32{0, 1 << 16, 1<<32 - 60_000} {
		var w window
		seen := map[uint32]bool{}
		var top uint32
		if start > 0 {
			w.mark(start)
			seen[start], top = true, start
		}
		for range 200_000 {
			seq := int64(top)
			switch rand.IntN(20) {
			case 0:
				seq += rand.Int64N(3 * 2048) // a jump
			case 1:
				seq -= rand.Int64N(3 * 2048) // too old, often
			case 2:
				seq -= 1024 + rand.Int64N(3) - 1 // the window's edge
			case 3, 4, 5, 6, 7, 8, 9:
				seq -= rand.Int64N(1024) // late
			default:
				seq += rand.Int64N(4) // in order, roughly
			}
			if seq < 0 || seq > 1<<32-1 {
				continue
			}
			n := uint32(seq)
			want := n != 0 && !seen[n] && (n > top || top-n < 1024)
			if got := w.fresh(n); got != want {
				t.Fatalf("top %d: fresh(%d) = %v", top, n, got)
			}
			if want {
				w.mark(n)
				seen[n], top = true, max(top, n)
			}
		}
	}
}
