package esp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
)

// TestOpenBitFlips flips each bit of a packet. The SA must refuse it, count it, and
// still take the genuine packet.
func TestOpenBitFlips(t *testing.T) {
	for _, tt := range transforms {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rand := newRand(11)
			ref := newRef(tt.t, rand)
			in := ref.inbound(t)
			seen := ref.seal(t, 2000, randomBytes(rand, ref.ivLen()), ipv4(rand, 60))
			dst := make([]byte, 200)
			if _, err := in.Open(dst, seen); err != nil {
				t.Fatal(err)
			}
			genuine := ref.seal(t, 2001, randomBytes(rand, ref.ivLen()), ipv4(rand, 61))
			var want InboundStats
			want.Packets, want.Bytes = 1, 60
			for bit := range len(genuine) * 8 {
				packet := bytes.Clone(genuine)
				packet[bit/8] ^= 0x80 >> (bit % 8)
				wantErr := ErrICV
				if bit < 32 {
					wantErr = ErrMalformed // another SPI
				} else if seq := binary.BigEndian.Uint32(packet[4:]); seq == 2000 || seq+1024 <= 2000 {
					wantErr = ErrReplay
					want.Replayed++
				} else {
					want.BadICV++
				}
				if got, err := in.Open(dst, packet); !errors.Is(err, wantErr) || got != nil {
					t.Fatalf("bit %d: got %v, want %v", bit, err, wantErr)
				}
			}
			in.Finish()
			if got := in.Stats(); got != want || want.Replayed == 0 {
				t.Errorf("counted %+v, want %+v", got, want)
			}
			if _, err := in.Open(dst, genuine); err != nil {
				t.Errorf("the genuine packet after its forgeries: %v", err)
			}
		})
	}
}

// TestOpenLength refuses every prefix and every extension of a packet.
func TestOpenLength(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(12)
		ref := newRef(tt.t, rand)
		in := ref.inbound(t)
		genuine := ref.seal(t, 1, randomBytes(rand, ref.ivLen()), ipv4(rand, 70))
		dst := make([]byte, 400)
		block, icv := in.layout.block, in.layout.icv
		for n := range len(genuine) + 100 {
			if n == len(genuine) {
				continue
			}
			packet := append(bytes.Clone(genuine), make([]byte, 100)...)[:n]
			ciphertext := n - 8 - ref.ivLen() - icv
			want := ErrICV
			if ciphertext < block || ciphertext%block != 0 {
				want = ErrMalformed
			}
			if _, err := in.Open(dst, packet); !errors.Is(err, want) {
				t.Fatalf("%s: %d of %d bytes: got %v, want %v", tt.name, n, len(genuine), err, want)
			}
		}
		if _, err := in.Open(dst, genuine); err != nil {
			t.Errorf("%s: the genuine packet: %v", tt.name, err)
		}
	}
}

// TestOpenPlaintext gives the SA authentic packets with every kind of content. The
// plaintexts are multiples of 16 bytes, which suits every transform.
func TestOpenPlaintext(t *testing.T) {
	v4 := func(total int) []byte {
		p := make([]byte, 20)
		p[0], p[3] = 0x45, byte(total)
		return p
	}
	v6 := func(payload int) []byte {
		p := make([]byte, 40)
		p[0], p[5] = 0x60, byte(payload)
		return p
	}
	with := func(p []byte, i int, b byte) []byte {
		p[i] = b
		return p
	}
	// pad fills up with n bytes of right padding and the trailer.
	pad := func(p []byte, n int, next byte) []byte {
		for i := range n {
			p = append(p, byte(i+1))
		}
		return append(p, byte(n), next)
	}
	for _, tt := range []struct {
		name      string
		plaintext []byte
		want      error
		inner     int // length, if no error
	}{
		{"IPv4", pad(v4(20), 10, 4), nil, 20},
		{"IPv4 and no padding", pad(append(v4(30), make([]byte, 10)...), 0, 4), nil, 30},
		{"IPv4 and more padding than needed", pad(v4(20), 10+32, 4), nil, 20},
		{"IPv4 and TFC padding", pad(append(v4(20), make([]byte, 10)...), 0, 4), nil, 20},
		{"IPv4 and both paddings", pad(append(v4(21), make([]byte, 5)...), 5, 4), nil, 21},
		{"IPv4 with options", pad(append(with(v4(24), 0, 0x46), make([]byte, 4)...), 6, 4), nil, 24},
		{"IPv4, most padding", pad(append(v4(31), make([]byte, 11)...), 255, 4), nil, 31},
		{"IPv6", pad(v6(0), 6, 41), nil, 40},
		{"IPv6 and a payload", pad(append(v6(6), make([]byte, 6)...), 0, 41), nil, 46},
		{"IPv6 and TFC padding", pad(append(v6(2), make([]byte, 6)...), 0, 41), nil, 42},

		{"dummy", pad(make([]byte, 20), 10, 59), ErrDummy, 0},
		{"dummy of random bytes", append(bytes.Repeat([]byte{0xee}, 31), 59), ErrDummy, 0},

		{"padding counts from zero", with(pad(v4(20), 10, 4), 20, 0), ErrMalformed, 0},
		{"padding wrong at its end", with(pad(v4(20), 10, 4), 29, 9), ErrMalformed, 0},
		{"padding of zeros", append(v4(20), append(make([]byte, 10), 10, 4)...), ErrMalformed, 0},
		{"padding longer than the packet", with(pad(v4(20), 10, 4), 30, 31), ErrMalformed, 0},
		{"padding of 255 in 32 bytes", with(pad(v4(20), 10, 4), 30, 255), ErrMalformed, 0},
		{"padding only", pad(nil, 30, 4), ErrMalformed, 0},
		{"nothing, IPv6", pad(nil, 14, 41), ErrMalformed, 0},
		{"padding eats the header", with(pad(pad(v4(20), 10, 4), 14, 4), 46, 29), ErrMalformed, 0},

		{"IPv6 as IPv4", pad(v6(0), 6, 4), ErrMalformed, 0},
		{"IPv4 as IPv6", pad(append(v4(40), make([]byte, 20)...), 6, 41), ErrMalformed, 0},
		{"version 5", pad(with(v4(20), 0, 0x55), 10, 4), ErrMalformed, 0},
		{"transport mode, ICMP", pad(v4(20), 10, 1), ErrMalformed, 0},
		{"transport mode, TCP", pad(v4(20), 10, 6), ErrMalformed, 0},
		{"next header 0", pad(v4(20), 10, 0), ErrMalformed, 0},
		{"IPv4 header cut", pad(v4(20)[:19], 11, 4), ErrMalformed, 0},
		{"IHL of 16 bytes", pad(with(v4(20), 0, 0x44), 10, 4), ErrMalformed, 0},
		{"IHL of 0", pad(with(v4(20), 0, 0x40), 10, 4), ErrMalformed, 0},
		{"IHL longer than the packet", pad(with(v4(20), 0, 0x46), 10, 4), ErrMalformed, 0},
		{"IPv4 total length below the header's", pad(v4(19), 10, 4), ErrMalformed, 0},
		{"IPv4 total length 0", pad(v4(0), 10, 4), ErrMalformed, 0},
		{"IPv4 total length one too long", pad(v4(21), 10, 4), ErrMalformed, 0},
		{"IPv4 total length 65535", pad(with(with(v4(20), 2, 255), 3, 255), 10, 4), ErrMalformed, 0},
		{"IPv6 header cut", pad(v6(0)[:39], 7, 41), ErrMalformed, 0},
		{"IPv6 payload one too long", pad(v6(1), 6, 41), ErrMalformed, 0},
		{"IPv6 payload 65535", pad(with(with(v6(0), 4, 255), 5, 255), 6, 41), ErrMalformed, 0},
	} {
		if len(tt.plaintext)%16 != 0 {
			t.Fatalf("%s: the test's plaintext has %d bytes", tt.name, len(tt.plaintext))
		}
		for _, tr := range transforms {
			rand := newRand(13)
			ref := newRef(tr.t, rand)
			in := ref.inbound(t)
			packet := ref.protect(t, 5, randomBytes(rand, ref.ivLen()), tt.plaintext)
			dst := make([]byte, len(packet))
			got, err := in.Open(dst, packet)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%s, %s: got %v, want %v", tt.name, tr.name, err, tt.want)
				continue
			}
			if err == nil && !bytes.Equal(got, tt.plaintext[:tt.inner]) {
				t.Errorf("%s, %s: got %x, want %x", tt.name, tr.name, got, tt.plaintext[:tt.inner])
			}
			// It was authentic: its number is used up, whatever it carried.
			if _, err := in.Open(dst, packet); !errors.Is(err, ErrReplay) {
				t.Errorf("%s, %s: the second time: got %v, want %v", tt.name, tr.name, err, ErrReplay)
			}
		}
	}
}

// TestOpenReplay: packets in any order within the window, each once; a forgery with
// a high number moves nothing.
func TestOpenReplay(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(14)
		ref := newRef(tt.t, rand)
		in := ref.inbound(t)
		packet := func(seq uint32) []byte {
			return ref.seal(t, seq, randomBytes(rand, ref.ivLen()), ipv4(rand, 40))
		}
		forged := packet(1 << 31)
		forged[len(forged)-1] ^= 1
		genuine := map[uint32][]byte{0: packet(0)}
		for _, s := range []uint32{1, 2, 3, 1000, 1024, 1025, 1026, 1<<32 - 1} {
			genuine[s] = packet(s)
		}
		dst := make([]byte, 100)
		for i, s := range []struct {
			packet []byte
			want   error
		}{
			{genuine[0], ErrReplay},
			{genuine[3], nil},
			{genuine[3], ErrReplay},
			{forged, ErrICV},
			{genuine[1000], nil},
			{forged, ErrICV},
			{genuine[1], nil},
			{genuine[1], ErrReplay},
			{genuine[1025], nil},
			{genuine[1], ErrReplay},
			{genuine[2], nil},
			{genuine[1026], nil},
			{genuine[2], ErrReplay},
			{genuine[1024], nil},
			{genuine[1<<32-1], nil},
			{genuine[1<<32-1], ErrReplay},
			{genuine[1026], ErrReplay},
			{genuine[0], ErrReplay},
		} {
			if _, err := in.Open(dst, s.packet); !errors.Is(err, s.want) || (err == nil) != (s.want == nil) {
				t.Errorf("%s: step %d: got %v, want %v", tt.name, i, err, s.want)
			}
		}
		in.Finish()
		if got, want := in.Stats(), (InboundStats{Packets: 8, Bytes: 8 * 40, Replayed: 8, BadICV: 2}); got != want {
			t.Errorf("%s: counted %+v, want %+v", tt.name, got, want)
		}
	}
}

// TestOpenPlaces: into another buffer, with just the room that it needs, and in
// place.
func TestOpenPlaces(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(15)
		ref := newRef(tt.t, rand)
		inner := ipv4(rand, 77)
		genuine := ref.seal(t, 1, randomBytes(rand, ref.ivLen()), inner)
		ciphertext := len(genuine) - tt.t.HeaderLen() - ref.inbound(t).layout.icv

		packet := bytes.Clone(genuine)
		got, err := ref.inbound(t).Open(packet[tt.t.HeaderLen():], packet)
		if err != nil || !bytes.Equal(got, inner) || &got[0] != &packet[tt.t.HeaderLen()] {
			t.Errorf("%s: in place: %x, %v", tt.name, got, err)
		}

		in := ref.inbound(t)
		if _, err := in.Open(make([]byte, ciphertext-1), genuine); !errors.Is(err, ErrRoom) {
			t.Errorf("%s: one byte too short: got %v, want %v", tt.name, err, ErrRoom)
		}
		if _, err := in.Open(nil, genuine); !errors.Is(err, ErrRoom) {
			t.Errorf("%s: no room: got %v, want %v", tt.name, err, ErrRoom)
		}
		dst := make([]byte, 0, ciphertext)
		got, err = in.Open(dst, genuine)
		if err != nil || !bytes.Equal(got, inner) || &got[0] != &dst[:1][0] {
			t.Errorf("%s: just room enough, after ErrRoom: %x, %v", tt.name, got, err)
		}
		if want := ref.seal(t, 1, genuine[8:8+ref.ivLen()], inner); !bytes.Equal(genuine, want) {
			t.Errorf("%s: Open changed the packet", tt.name)
		}

		// Nothing is written behind the ciphertext's length.
		long := bytes.Repeat([]byte{0xa5}, 300)
		if _, err := ref.inbound(t).Open(long, genuine); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if rest := long[ciphertext:]; !bytes.Equal(rest, bytes.Repeat([]byte{0xa5}, len(rest))) {
			t.Errorf("%s: Open wrote beyond the plaintext", tt.name)
		}
	}
}

func TestInboundZero(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(16)
		ref := newRef(tt.t, rand)
		in := ref.inbound(t)
		dst := make([]byte, 100)
		if _, err := in.Open(dst, ref.seal(t, 1, randomBytes(rand, ref.ivLen()), ipv4(rand, 30))); err != nil {
			t.Fatal(err)
		}
		o := in.opener
		in.Zero()
		in.Zero() // again is harmless
		if _, err := in.Open(dst, ref.seal(t, 2, randomBytes(rand, ref.ivLen()), ipv4(rand, 30))); !errors.Is(err, ErrZeroed) {
			t.Errorf("%s: got %v, want %v", tt.name, err, ErrZeroed)
		}
		if left := leftovers(o); left != "" {
			t.Errorf("%s: %s", tt.name, left)
		}
		if in.SPI() != testSPI || in.Stats().Packets != 1 {
			t.Errorf("%s: SPI and counters are gone", tt.name)
		}
	}
}

// TestWatchers: SPI and Stats from another goroutine, for the race detector.
func TestWatchers(t *testing.T) {
	rand := newRand(17)
	ref := newRef(transformNamed(t, "aes128gcm16"), rand)
	in, out := ref.inbound(t), ref.outbound(t, rand)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_, _ = in.SPI(), in.Stats()
				_, _ = out.SPI(), out.Stats()
			}
		}
	})
	dst := make([]byte, 200)
	for range 1000 {
		if _, err := in.Open(dst, sealed(t, out, ipv4(rand, 100))); err != nil {
			t.Error(err)
			break
		}
		in.Finish()
	}
	close(done)
	wg.Wait()
}
