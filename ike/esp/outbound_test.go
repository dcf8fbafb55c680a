package esp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

func TestSealRoom(t *testing.T) {
	ref := newRef(transformNamed(t, "aes256-sha512"), newRand(1))
	for _, tt := range []struct {
		name             string
		len, cap, offset int
		n                int
		want             error
	}{
		{"just enough", 24 + 100, 24 + 100 + 64, 24, 100, nil},
		{"more than enough", 1000, 2000, 300, 100, nil},
		{"headroom", 23 + 100, 500, 23, 100, ErrRoom},
		{"negative offset", 100, 500, -1, 100, ErrRoom},
		{"tailroom", 24 + 100, 24 + 100 + 63, 24, 100, ErrRoom},
		{"beyond the length", 24 + 99, 500, 24, 100, ErrRoom},
		{"offset beyond the length", 24, 500, 25, 0, ErrRoom},
		{"negative length", 24 + 100, 500, 24, -1, ErrRoom},
		{"huge length", 24 + 100, 500, 24, 1<<31 - 1, ErrRoom},
		{"empty", 24 + 100, 500, 24, 0, ErrMalformed},
	} {
		out := ref.outbound(t, newRand(1))
		buf := make([]byte, tt.len, tt.cap)
		if tt.offset >= 0 && tt.offset < tt.len {
			buf[tt.offset] = 0x45
		}
		packet, err := out.Seal(buf, tt.offset, tt.n)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if err != nil && (packet != nil || out.sequence != 0) {
			t.Errorf("%s: a packet or a sequence number in spite of the error", tt.name)
		}
	}
}

// TestSealInPlace: the packet is where the caller expects it, and nothing outside
// the room is touched.
func TestSealInPlace(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(5)
		out := newRef(tt.t, rand).outbound(t, rand)
		for n := 20; n < 60; n++ {
			buf := bytes.Repeat([]byte{0xa5}, 40+n+100)
			copy(buf[40:], ipv4(rand, n))
			packet, err := out.Seal(buf, 40, n)
			if err != nil {
				t.Fatal(err)
			}
			before := 40 - tt.t.HeaderLen()
			if &packet[0] != &buf[before] {
				t.Fatalf("%s: the packet does not begin %d bytes before the inner one", tt.name, tt.t.HeaderLen())
			}
			after := before + len(packet)
			if after > 40+n+MaxTailroom || before < 40-MaxHeadroom {
				t.Fatalf("%s: %d bytes before and %d after", tt.name, 40-before, after-40-n)
			}
			for i, b := range buf {
				if (i < before || i >= after) && b != 0xa5 {
					t.Fatalf("%s: byte %d outside of packet [%d:%d] was changed", tt.name, i, before, after)
				}
			}
		}
	}
}

func TestSealVersion(t *testing.T) {
	rand := newRand(6)
	out := newRef(transformNamed(t, "aes128gcm16"), rand).outbound(t, rand)
	for version := range 16 {
		buf := make([]byte, MaxHeadroom+40, 200)
		buf[MaxHeadroom] = byte(version << 4)
		_, err := out.Seal(buf, MaxHeadroom, 40)
		if version == 4 || version == 6 {
			if err != nil {
				t.Errorf("version %d: %v", version, err)
			}
		} else if !errors.Is(err, ErrMalformed) {
			t.Errorf("version %d: got %v, want %v", version, err, ErrMalformed)
		}
	}
	if got := out.sequence; got != 2 {
		t.Errorf("sequence %d after two packets", got)
	}
}

// TestSealExhausted: the last number is 2^32 - 2^20 - 1, and no other follows.
func TestSealExhausted(t *testing.T) {
	for _, name := range []string{"aes128gcm16", "aes128gcm8", "aes128ctr-sha1", "aes128-sha1"} {
		rand := newRand(7)
		ref := newRef(transformNamed(t, name), rand)
		out := ref.outbound(t, rand)
		const last = 4293918719
		out.sequence = last - 1
		inner := ipv4(rand, 50)
		packet := sealed(t, out, inner)
		if want := ref.seal(t, last, packet[8:8+ref.ivLen()], inner); !bytes.Equal(packet, want) {
			t.Errorf("%s: the last packet is %x, want %x", name, packet, want)
		}
		for range 3 {
			buf := append(make([]byte, MaxHeadroom, 200), inner...)
			if _, err := out.Seal(buf, MaxHeadroom, len(inner)); !errors.Is(err, ErrExhausted) {
				t.Errorf("%s: got %v, want %v", name, err, ErrExhausted)
			}
			if !bytes.Equal(buf[MaxHeadroom:], inner) {
				t.Errorf("%s: the inner packet was changed", name)
			}
		}
		for _, want := range []uint32{last, MaxSequence} {
			if out.sequence != want {
				t.Errorf("%s: sequence %d, want %d", name, out.sequence, want)
			}
		}
	}
}

// countingReader counts calls and remembers what it gave.
type countingReader struct {
	r     io.Reader
	calls []int
	given bytes.Buffer
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.calls = append(c.calls, len(p))
	n, err := c.r.Read(p)
	c.given.Write(p[:n])
	return n, err
}

// TestIVs: CBC packets carry the random bytes one after another, each once, read in
// blocks of 4096.
func TestIVs(t *testing.T) {
	for _, name := range []string{"aes128-sha1", "3des-sha1"} {
		rand := newRand(8)
		ref := newRef(transformNamed(t, name), rand)
		source := &countingReader{r: rand}
		out, err := NewOutbound(ref.t, ref.spi, ref.keymat, source)
		if err != nil {
			t.Fatal(err)
		}
		const packets = 1100 // more than two blocks of 3DES IVs
		var ivs []byte
		for range packets {
			ivs = append(ivs, sealed(t, out, ipv4(rand, 20))[8:8+ref.ivLen()]...)
		}
		blocks := (packets*ref.ivLen() + 4095) / 4096
		if len(source.calls) != blocks || source.calls[0] != 4096 {
			t.Errorf("%s: reads of %v, want %d of 4096", name, source.calls, blocks)
		}
		if !bytes.Equal(ivs, source.given.Bytes()[:len(ivs)]) {
			t.Errorf("%s: the IVs are not the random bytes in their order", name)
		}
	}
}

// TestCounterIVs: the IV is the sequence number, so none comes twice, and it needs no
// random bytes.
func TestCounterIVs(t *testing.T) {
	for _, name := range []string{"aes256gcm16", "aes256gcm12", "aes256gcm8", "aes256ctr-sha1"} {
		rand := newRand(8)
		ref := newRef(transformNamed(t, name), rand)
		out, err := NewOutbound(ref.t, ref.spi, ref.keymat, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, start := range []uint32{0, 0x00ffffff, 0x89abcdef} {
			out.sequence = start
			for i := range uint32(3) {
				packet := sealed(t, out, ipv4(rand, 50))
				seq, iv := binary.BigEndian.Uint32(packet[4:]), binary.BigEndian.Uint64(packet[8:])
				if want := start + i + 1; seq != want || iv != uint64(want) {
					t.Errorf("%s: sequence number %#x, IV %#x, want %#x", name, seq, iv, want)
				}
			}
		}
	}
}

// failingReader gives n bytes and then fails.
type failingReader struct {
	n   int
	err error
}

func (f *failingReader) Read(p []byte) (int, error) {
	if f.n == 0 {
		return 0, f.err
	}
	n := min(f.n, len(p))
	f.n -= n
	return n, nil
}

// TestIVFailure: no packet leaves with a weak IV, and the SA lives on when the
// source does.
func TestIVFailure(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int{0, 16, 4095} {
		rand := newRand(9)
		ref := newRef(transformNamed(t, "aes128-sha1"), rand)
		source := &failingReader{n: n, err: broken}
		out, err := NewOutbound(ref.t, ref.spi, ref.keymat, source)
		if err != nil {
			t.Fatal(err)
		}
		inner := ipv4(rand, 100)
		buf := append(make([]byte, MaxHeadroom, 300), inner...)
		for range 2 {
			if _, err := out.Seal(buf, MaxHeadroom, len(inner)); !errors.Is(err, broken) {
				t.Fatalf("after %d bytes: got %v, want %v", n, err, broken)
			}
			if !bytes.Equal(buf[MaxHeadroom:], inner) || out.sequence != 0 || out.Stats() != (OutboundStats{}) {
				t.Fatalf("after %d bytes: the failure changed packet, sequence or counters", n)
			}
		}
		source.n = 1 << 20
		packet, err := out.Seal(buf, MaxHeadroom, len(inner))
		if err != nil || out.sequence != 1 {
			t.Fatalf("the SA does not recover: %v", err)
		}
		if got, err := ref.inbound(t).Open(make([]byte, len(packet)), packet); err != nil || !bytes.Equal(got, inner) {
			t.Errorf("Open: %v", err)
		}
	}
}

// leftovers says what of its secrets a zeroised sealer or opener still has.
func leftovers(x any) string {
	switch x := x.(type) {
	case *gcm:
		if x.nonce != [12]byte{} {
			return "the salt is still there"
		}
	case *shortGCM:
		if len(bytes.Trim(x.scratch[:cap(x.scratch)], "\x00")) != 0 {
			return "the last plaintext is still there"
		}
		return leftovers(&x.gcm)
	case *ctrSealer:
		return leftovers(x.ctr) + leftovers(x.auth)
	case *cbcSealer:
		if x.ivs.pool != [4096]byte{} {
			return "the unused IVs are still there"
		}
		return leftovers(x.cipher) + leftovers(x.auth)
	case *macOpener:
		return leftovers(x.decrypter) + leftovers(x.auth)
	case *cbcDecrypter:
		return leftovers(x.cipher)
	case *aesCBC:
		if x.enc != [240]byte{} || x.dec != [240]byte{} {
			return "round keys are still there"
		}
	case *ctr:
		if x.counter != [16]byte{} || x.keystream != [16]byte{} || x.rest != [32]byte{} {
			return "nonce, key stream or text is still there"
		}
	case *xcbc:
		if x.k2 != [16]byte{} || x.k3 != [16]byte{} || x.e != [16]byte{} {
			return "K2 or K3 is still there"
		}
	case *tripleDES:
		if x.enc != (desKeys{}) || x.dec != (desKeys{}) || x.lanes != [desLanes]uint64{} {
			return "keys of the rounds, or the last blocks, are still there"
		}
	case *stdCBC, *hmacAuth: // have none of their own
	default:
		return fmt.Sprintf("what has a %T?", x)
	}
	return ""
}

func TestOutboundZero(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(10)
		out := newRef(tt.t, rand).outbound(t, rand)
		inner := ipv4(rand, 50)
		sealed(t, out, inner)
		s := out.sealer
		out.Zero()
		out.Zero() // again is harmless
		buf := append(make([]byte, MaxHeadroom, 200), inner...)
		if _, err := out.Seal(buf, MaxHeadroom, len(inner)); !errors.Is(err, ErrZeroed) {
			t.Errorf("%s: got %v, want %v", tt.name, err, ErrZeroed)
		}
		if left := leftovers(s); left != "" {
			t.Errorf("%s: %s", tt.name, left)
		}
		if out.SPI() != testSPI || out.sequence != 1 || out.Stats().Packets != 1 || out.Stats().Bytes != 50 {
			t.Errorf("%s: SPI and counters are gone", tt.name)
		}
	}
}

// TestBegin: the packet is the one that Seal makes, and what it is made of stays as it
// was, with what stands behind it.
func TestBegin(t *testing.T) {
	for _, tt := range transforms {
		ref := newRef(tt.t, newRand(5))
		inPlace, elsewhere := ref.outbound(t, newRand(6)), ref.outbound(t, newRand(6))
		random := newRand(7)
		for n := 20; n < 60; n++ {
			inner := ipv4(random, n)
			want := sealed(t, inPlace, inner)
			buf := append(append(bytes.Repeat([]byte{0xa5}, 40), inner...), bytes.Repeat([]byte{0x5a}, 40)...)
			before := bytes.Clone(buf)
			dst := bytes.Repeat([]byte{0xcc}, MaxHeadroom+n+MaxTailroom)
			packet, err := elsewhere.Begin(dst, buf[40:40+n])
			elsewhere.Finish()
			if err != nil || !bytes.Equal(packet, want) || &packet[0] != &dst[0] {
				t.Fatalf("%s: %d bytes: %x, %v; want %x", tt.name, n, packet, err, want)
			}
			if !bytes.Equal(buf, before) {
				t.Fatalf("%s: %d bytes: the inner packet was changed, or what is around it", tt.name, n)
			}
			if rest := dst[len(packet):]; !bytes.Equal(rest, bytes.Repeat([]byte{0xcc}, len(rest))) {
				t.Fatalf("%s: %d bytes: something was written behind the packet", tt.name, n)
			}
		}
	}
}

// TestBeginMany: packets of one buffer that are completed together, of equal or of any
// lengths, are those that Seal makes one by one.
func TestBeginMany(t *testing.T) {
	for _, tt := range transforms {
		ref := newRef(tt.t, newRand(5))
		single, together := ref.outbound(t, newRand(6)), ref.outbound(t, newRand(6))
		random := newRand(7)
		memory := make([]byte, 20*(MaxHeadroom+400+MaxTailroom))
		for count := range 20 {
			var want, got [][]byte
			n := 20 + int(random.Uint64()%380)
			for free := memory; len(got) < count; {
				if count%2 == 0 {
					n = 20 + int(random.Uint64()%380)
				}
				inner := slices.Grow(ipv4(random, n), MaxTrailer)
				want = append(want, sealed(t, single, inner))
				packet, err := together.Begin(free, inner)
				if err != nil {
					t.Fatal(err)
				}
				clear(inner[:cap(inner)]) // is not needed any longer
				got, free = append(got, packet), free[len(packet):]
			}
			together.Finish()
			if !slices.EqualFunc(got, want, bytes.Equal) {
				t.Fatalf("%s: %d packets together are others than one by one", tt.name, count)
			}
		}
	}
}

// TestZeroFinishes: an SA that ends while packets wait leaves no plaintext in them.
func TestZeroFinishes(t *testing.T) {
	for _, tt := range transforms {
		ref := newRef(tt.t, newRand(5))
		out, random := ref.outbound(t, newRand(6)), newRand(7)
		inner := slices.Grow(ipv4(random, 300), MaxTrailer)
		packet, err := out.Begin(make([]byte, 500), inner)
		if err != nil {
			t.Fatal(err)
		}
		out.Zero()
		if s := out.Stats(); s.Packets != 1 || s.Bytes != uint64(len(inner)) {
			t.Errorf("%s: counted %+v", tt.name, s)
		}
		out.Finish() // has nothing to do any longer
		if got, err := ref.inbound(t).Open(make([]byte, 500), packet); err != nil || !bytes.Equal(got, inner) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestBeginRefuses(t *testing.T) {
	ref := newRef(transformNamed(t, "aes256-sha512"), newRand(1))
	broken := errors.New("no entropy")
	inner := func(n, behind int) []byte { return append(make([]byte, 0, n+behind), ipv4(newRand(1), n)...) }
	for _, tt := range []struct {
		name    string
		dst     int
		inner   []byte
		prepare func(*Outbound)
		want    error
	}{
		{"just enough", 24 + 100 + 64, inner(100, 17), nil, nil},
		{"destination", 24 + 100 + 63, inner(100, 17), nil, ErrRoom},
		{"trailer", 500, inner(100, 16), nil, ErrRoom},
		{"empty", 500, make([]byte, 0, 17), nil, ErrMalformed},
		{"no IP", 500, make([]byte, 40, 60), nil, ErrMalformed},
		{"exhausted", 500, inner(100, 17), func(o *Outbound) { o.sequence = MaxSequence }, ErrExhausted},
		{"zeroised", 500, inner(100, 17), (*Outbound).Zero, ErrZeroed},
		{"no IV", 500, inner(100, 17), func(o *Outbound) {
			o.sealer.(*cbcSealer).ivs.rand = iotest.ErrReader(broken)
		}, broken},
	} {
		out := ref.outbound(t, newRand(1))
		if tt.prepare != nil {
			tt.prepare(out)
		}
		whole := tt.inner[:cap(tt.inner)]
		before, sequence := bytes.Clone(whole), out.sequence
		_, err := out.Begin(make([]byte, tt.dst), tt.inner)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if !bytes.Equal(whole, before) || err != nil && out.sequence != sequence {
			t.Errorf("%s: the inner packet was changed, or a sequence number used", tt.name)
		}
	}
}
