package esp

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
)

// TestAllocations: none, on any path.
func TestAllocations(t *testing.T) {
	for _, tt := range transforms {
		random := newRand(18)
		ref := newRef(tt.t, random)
		out, err := NewOutbound(ref.t, ref.spi, ref.keymat, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		in := ref.inbound(t)
		buf := make([]byte, MaxHeadroom+200, 400)
		inner := slices.Grow(ipv4(random, 200), MaxTrailer)
		dst := make([]byte, 400)
		// More runs than a block of random bytes has IVs.
		none := func(what string, f func() error, want error) {
			t.Helper()
			var got error
			if n := testing.AllocsPerRun(600, func() { got = f() }); n != 0 {
				t.Errorf("%s: %s allocates %v times", tt.name, what, n)
			}
			if !errors.Is(got, want) || (got == nil) != (want == nil) {
				t.Errorf("%s: %s: got %v, want %v", tt.name, what, got, want)
			}
		}
		seal := func() ([]byte, error) {
			copy(buf[MaxHeadroom:], inner)
			return out.Seal(buf, MaxHeadroom, len(inner))
		}
		open := func(packet []byte) error {
			_, err := in.Open(dst, packet)
			return err
		}
		none("Seal", func() error { _, err := seal(); return err }, nil)
		none("Begin", func() error { _, err := out.Begin(dst, inner); return err }, nil)
		none("Begin and Finish", func() error {
			_, err := out.Begin(dst, inner)
			out.Finish()
			return err
		}, nil)
		none("Seal and Open", func() error {
			packet, err := seal()
			if err != nil {
				return err
			}
			return open(packet)
		}, nil)
		none("Seal without room", func() error { _, err := out.Seal(buf, 0, 100); return err }, ErrRoom)
		none("Seal of no IP packet", func() error { _, err := out.Seal(buf, 100, 0); return err }, ErrMalformed)

		genuine := ref.seal(t, 1<<20, randomBytes(random, ref.ivLen()), inner)
		if err := open(genuine); err != nil {
			t.Fatal(err)
		}
		none("Open of a replay", func() error { return open(genuine) }, ErrReplay)
		none("Open of a fragment", func() error { return open(genuine[:20]) }, ErrMalformed)
		none("Open without room", func() error { _, err := in.Open(nil, genuine); return err }, ErrRoom)
		forged := ref.seal(t, 1<<21, randomBytes(random, ref.ivLen()), inner)
		forged[100] ^= 1
		none("Open of a forgery", func() error { return open(forged) }, ErrICV)
		// The window is set back, so that the packet passes it each time.
		again := func(packet []byte) error { in.window = window{}; return open(packet) }
		plaintext := make([]byte, 32)
		malformed := ref.protect(t, 1, make([]byte, ref.ivLen()), plaintext)
		none("Open of no IP packet", func() error { return again(malformed) }, ErrMalformed)
		plaintext[31] = nextDummy
		dummy := ref.protect(t, 1, make([]byte, ref.ivLen()), plaintext)
		none("Open of a dummy", func() error { return again(dummy) }, ErrDummy)
		out.sequence = MaxSequence
		none("Seal at the end", func() error { _, err := seal(); return err }, ErrExhausted)
		in.Zero()
		out.Zero()
		none("Open when zeroised", func() error { return open(genuine) }, ErrZeroed)
		none("Seal when zeroised", func() error { _, err := seal(); return err }, ErrZeroed)
	}
}
