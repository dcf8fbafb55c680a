package esp

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
)

// truncatedPeer is an SA with HMACSHA256_128 and a peer that cuts to 96 bits.
func truncatedPeer(tb testing.TB, name string) (in *Inbound, right, truncating refSA) {
	tb.Helper()
	right = newRef(transformNamed(tb, name), newRand(30))
	truncating = right
	truncating.t.Integrity = HMACSHA256_96
	return right.inbound(tb), right, truncating
}

// TestTruncated96: packets of a peer that cuts to 96 bits are refused, and counted.
// With CBC their length gives them away, with counter mode only the ICV does.
func TestTruncated96(t *testing.T) {
	for name, want := range map[string]error{
		"aes128-sha256": ErrMalformed, "aes256-sha256": ErrMalformed, "3des-sha256": ErrMalformed, "aes128ctr-sha256": ErrICV,
	} {
		in, _, peer := truncatedPeer(t, name)
		random := newRand(31)
		packet := func(seq uint32) []byte {
			return peer.seal(t, seq, randomBytes(random, peer.ivLen()), ipv4(random, 60))
		}
		dst := make([]byte, 200)
		for seq := uint32(1); seq <= 3; seq++ {
			if got, err := in.Open(dst, packet(seq)); !errors.Is(err, want) || got != nil {
				t.Errorf("%s: got %x, %v, want %v", name, got, err, want)
			}
		}
		forged := packet(4)
		forged[30] ^= 1
		if _, err := in.Open(dst, forged); !errors.Is(err, want) {
			t.Errorf("%s: forged: got %v, want %v", name, err, want)
		}
		in.Finish()
		if got := in.Stats(); got.Truncated96 != 3 || got.Packets != 0 || got.Bytes != 0 {
			t.Errorf("%s: counted %+v", name, got)
		}
		if in.window != (window{}) {
			t.Errorf("%s: a refused packet changed the window", name)
		}
	}
}

// TestTruncated96Bounds: nothing is looked for in more than 16 packets, nor once the
// peer is known to do right.
func TestTruncated96Bounds(t *testing.T) {
	for name, right := range map[string]bool{"after many": false, "after an authentic one": true} {
		in, genuine, peer := truncatedPeer(t, "aes128-sha256")
		random := newRand(32)
		dst := make([]byte, 200)
		packet := peer.seal(t, 9, randomBytes(random, 16), ipv4(random, 60))
		want := uint64(16)
		if right {
			want = 0
			if _, err := in.Open(dst, genuine.seal(t, 1, randomBytes(random, 16), ipv4(random, 60))); err != nil {
				t.Fatal(err)
			}
		}
		for range 40 {
			if _, err := in.Open(dst, packet); !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
		}
		if got := in.Stats().Truncated96; got != want {
			t.Errorf("%s: %d counted, want %d", name, got, want)
		}
		if _, err := in.Open(dst, genuine.seal(t, 2, randomBytes(random, 16), ipv4(random, 60))); err != nil {
			t.Errorf("%s: the right packet: %v", name, err)
		}
	}
}

// TestTruncated96Others: no other algorithm is suspected, and lengths that no packet
// has do not use up the search.
func TestTruncated96Others(t *testing.T) {
	for _, tt := range transforms {
		in := newRef(tt.t, newRand(33)).inbound(t)
		if got, want := in.probes != 0, strings.HasSuffix(tt.name, "-sha256"); got != want {
			t.Errorf("%s: searched %v, want %v", tt.name, got, want)
		}
	}
	in, _, peer := truncatedPeer(t, "aes128-sha256")
	random := newRand(34)
	packet := peer.seal(t, 1, randomBytes(random, 16), ipv4(random, 60))
	dst := make([]byte, 200)
	for n := range packet {
		if (n-headerLen)%16 != 12 { // those that are as long as other packets are
			if _, err := in.Open(dst, packet[:n]); err == nil {
				t.Fatalf("%d bytes are taken", n)
			}
		}
	}
	if in.probes == 0 {
		t.Fatal("fragments used up the search")
	}
	if _, err := in.Open(dst, packet); !errors.Is(err, ErrMalformed) || in.Stats().Truncated96 != 1 {
		t.Errorf("got %v, counted %+v", err, in.Stats())
	}
	in.Zero()
	if _, err := in.Open(dst, packet); !errors.Is(err, ErrZeroed) || in.Stats().Truncated96 != 1 {
		t.Errorf("zeroised: got %v, counted %+v", err, in.Stats())
	}
}

// TestTruncated96Allocations: the search is made within the data path.
func TestTruncated96Allocations(t *testing.T) {
	in, _, peer := truncatedPeer(t, "aes128-sha256")
	packet := peer.seal(t, 1, randomBytes(newRand(35), 16), ipv4(newRand(35), 60))
	dst := make([]byte, 200)
	if n := testing.AllocsPerRun(10, func() { in.Open(dst, packet) }); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
	if in.Stats().Truncated96 != 11 {
		t.Errorf("counted %+v", in.Stats())
	}
}

// TestShortGCMGrows: packets of all sizes, in both orders, on one SA; the room for
// the largest serves all others.
func TestShortGCMGrows(t *testing.T) {
	random := newRand(36)
	ref := newRef(transformNamed(t, "aes256gcm8"), random)
	out, err := NewOutbound(ref.t, ref.spi, ref.keymat, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	in := ref.inbound(t)
	for _, n := range []int{65000, 20, 9000, 1400, 65535, 21} {
		inner := ipv4(random, n)
		packet := sealed(t, out, inner)
		got, err := in.Open(make([]byte, len(packet)), packet)
		if err != nil || string(got) != string(inner) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	buf := append(make([]byte, MaxHeadroom, 66000), ipv4(random, 65535)...)
	dst := make([]byte, 66000)
	if n := testing.AllocsPerRun(10, func() {
		buf[MaxHeadroom], buf[MaxHeadroom+2], buf[MaxHeadroom+3] = 0x45, 0xff, 0xff
		packet, err := out.Seal(buf, MaxHeadroom, 65535)
		if err == nil {
			_, err = in.Open(dst, packet)
		}
		if err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}
