package esp

import (
	"bytes"
	"errors"
	"testing"
)

// shorten and lengthen stand for a compression: the payload is the number of bytes
// that follow, which are all the same.
func shorten(packet []byte) int {
	tail := bytes.TrimRight(packet[40:], "\xff")
	if len(tail) > 0 {
		return 0
	}
	packet[40] = byte(len(packet) - 40)
	return 41
}

func lengthen(dst, payload []byte, next byte) ([]byte, byte, error) {
	if next != NextIPComp {
		return dst[:copy(dst, payload)], next, nil
	}
	if len(payload) != 41 {
		return nil, 0, ErrMalformed
	}
	n := 40 + int(payload[40])
	if len(dst) < n {
		return nil, 0, ErrRoom
	}
	copy(dst, payload[:40])
	copy(dst[40:n], bytes.Repeat([]byte{0xff}, n-40))
	return dst[:n], NextIPv4, nil
}

// compressible is an inner packet that shorten shortens.
func compressible(n int) []byte {
	packet := ipv4(newRand(3), n)
	copy(packet[40:], bytes.Repeat([]byte{0xff}, n-40))
	return packet
}

// TestCompression: what is compressed comes out as it was, on the wire it is IPComp
// and shorter, and the counters are of inner packets.
func TestCompression(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(31)
		ref := newRef(tt.t, rand)
		out, in := ref.outbound(t, rand), ref.inbound(t)
		out.CompressWith(shorten)
		in.ExpandWith(lengthen)
		plain := ref.outbound(t, rand)
		var total uint64
		for _, tc := range []struct {
			inner   []byte
			smaller bool
		}{{compressible(200), true}, {ipv4(rand, 200), false}, {ipv6(rand, 200), false}} {
			packet := sealed(t, out, tc.inner)
			uncompressed := len(sealed(t, plain, tc.inner))
			if smaller := len(packet) < uncompressed; smaller != tc.smaller || len(packet) > uncompressed {
				t.Errorf("%s: %d bytes, %d without compression", tt.name, len(packet), uncompressed)
			}
			got, err := in.Open(make([]byte, 256), bytes.Clone(packet))
			if err != nil || !bytes.Equal(got, tc.inner) {
				t.Fatalf("%s: got %x, %v, want %x", tt.name, got, err, tc.inner)
			}
			total += uint64(len(tc.inner))
		}
		in.Finish()
		if s := in.Stats(); s.Packets != 3 || s.Bytes != total || s.BadExpansion != 0 {
			t.Errorf("%s: in: %+v, want 3 packets of %d bytes", tt.name, s, total)
		}
		if s := out.Stats(); s.Packets != 3 || s.Bytes != total {
			t.Errorf("%s: out: %+v, want 3 packets of %d bytes", tt.name, s, total)
		}
	}
}

// TestExpansionOrder: only what is authentic and no replay is ever expanded.
func TestExpansionOrder(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(32)
		ref := newRef(tt.t, rand)
		out, in := ref.outbound(t, rand), ref.inbound(t)
		out.CompressWith(shorten)
		calls := 0
		in.ExpandWith(func(dst, payload []byte, next byte) ([]byte, byte, error) {
			calls++
			return lengthen(dst, payload, next)
		})
		packet := sealed(t, out, compressible(100))
		forged := bytes.Clone(packet)
		forged[len(forged)-1] ^= 1
		for _, tc := range []struct {
			name   string
			packet []byte
			want   error
			calls  int
		}{{"forgery", forged, ErrICV, 0}, {"genuine", packet, nil, 1}, {"replay", packet, ErrReplay, 1}} {
			if _, err := in.Open(make([]byte, 256), bytes.Clone(tc.packet)); !errors.Is(err, tc.want) || calls != tc.calls {
				t.Errorf("%s: %s: %v after %d expansions, want %v after %d", tt.name, tc.name, err, calls, tc.want, tc.calls)
			}
		}
	}
}

// TestExpansionRefused: an authentic packet that cannot be expanded, or is no IP
// packet when it was, is dropped; it cannot come again.
func TestExpansionRefused(t *testing.T) {
	ref := newRef(transformNamed(t, "aes128gcm16"), newRand(33))
	for _, tt := range []struct {
		name   string
		expand Expander
		room   int
		want   error
		bad    uint64
	}{
		{"no expander", nil, 256, ErrMalformed, 0},
		{"no room", lengthen, 120, ErrRoom, 1},
		{"malformed", func([]byte, []byte, byte) ([]byte, byte, error) { return nil, 0, ErrMalformed }, 256, ErrMalformed, 1},
		{"nested", func(dst, _ []byte, _ byte) ([]byte, byte, error) { return dst[:100], NextIPComp, nil }, 256, ErrMalformed, 0},
		{"no IP packet", func(dst, _ []byte, _ byte) ([]byte, byte, error) { return dst[:100], NextIPv4, nil }, 256, ErrMalformed, 0},
		{"nothing", func([]byte, []byte, byte) ([]byte, byte, error) { return nil, NextIPv4, nil }, 256, ErrMalformed, 0},
	} {
		out, in := ref.outbound(t, newRand(1)), ref.inbound(t)
		out.CompressWith(shorten)
		in.ExpandWith(tt.expand)
		packet := sealed(t, out, compressible(200))
		if _, err := in.Open(make([]byte, tt.room), bytes.Clone(packet)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		in.Finish()
		if s := in.Stats(); s.Packets != 0 || s.BadExpansion != tt.bad {
			t.Errorf("%s: %+v", tt.name, s)
		}
		if _, err := in.Open(make([]byte, 256), bytes.Clone(packet)); !errors.Is(err, ErrReplay) {
			t.Errorf("%s: again: %v, want %v", tt.name, err, ErrReplay)
		}
	}
}

// TestCompressionZero: the hooks go with the keys.
func TestCompressionZero(t *testing.T) {
	ref := newRef(transformNamed(t, "aes128gcm16"), newRand(34))
	out, in := ref.outbound(t, newRand(1)), ref.inbound(t)
	out.CompressWith(shorten)
	in.ExpandWith(lengthen)
	out.Zero()
	in.Zero()
	if out.compress != nil || in.expand != nil {
		t.Error("an SA without keys keeps its compression")
	}
}
