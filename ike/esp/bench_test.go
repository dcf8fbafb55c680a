package esp

import (
	"crypto/rand"
	"slices"
	"testing"
)

const benchInner = 1400

// BenchmarkSeal: one packet of those that a read of 64 KiB from the interface gives,
// which are completed together.
func BenchmarkSeal(b *testing.B) { benchmarkSeal(b, 45) }

// BenchmarkSealAlone: a packet that is alone.
func BenchmarkSealAlone(b *testing.B) { benchmarkSeal(b, 1) }

func benchmarkSeal(b *testing.B, together int) {
	for _, tt := range transforms {
		b.Run(tt.name, func(b *testing.B) {
			random := newRand(1)
			ref := newRef(tt.t, random)
			out, err := NewOutbound(ref.t, ref.spi, ref.keymat, rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			inner := slices.Grow(ipv4(random, benchInner), MaxTrailer)
			const room = MaxHeadroom + benchInner + MaxTailroom
			dst := make([]byte, room*together)
			b.SetBytes(benchInner)
			b.ReportAllocs()
			next := 0
			for b.Loop() {
				if _, err := out.Begin(dst[next*room:], inner); err != nil {
					b.Fatal(err)
				}
				if next++; next == together {
					out.Finish()
					next = 0
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, tt := range transforms {
		b.Run(tt.name, func(b *testing.B) {
			random := newRand(1)
			ref := newRef(tt.t, random)
			in := ref.inbound(b)
			packet := ref.seal(b, 1, randomBytes(random, ref.ivLen()), ipv4(random, benchInner))
			dst := make([]byte, len(packet))
			b.SetBytes(benchInner)
			b.ReportAllocs()
			for b.Loop() {
				in.window = window{} // the same packet again
				if _, err := in.Open(dst, packet); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReplay(b *testing.B) {
	b.Run("in-order", func(b *testing.B) {
		var w window
		seq := uint32(0)
		for b.Loop() {
			seq++
			if w.fresh(seq) {
				w.mark(seq)
			}
		}
	})
	b.Run("duplicate", func(b *testing.B) {
		var w window
		w.mark(1000)
		for b.Loop() {
			if w.fresh(1000) {
				b.Fatal("taken twice")
			}
		}
	})
}
