package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"hash"
	mathrand "math/rand/v2"
	"testing"
)

// transforms are all that Validate allows.
var transforms = []struct {
	name string
	t    Transform
}{
	{"aes128gcm16", Transform{AESGCM16, 16, None}},
	{"aes192gcm16", Transform{AESGCM16, 24, None}},
	{"aes256gcm16", Transform{AESGCM16, 32, None}},
	{"aes128-md5", Transform{AESCBC, 16, HMACMD5_96}},
	{"aes128-sha1", Transform{AESCBC, 16, HMACSHA1_96}},
	{"aes128-sha256", Transform{AESCBC, 16, HMACSHA256_128}},
	{"aes128-sha384", Transform{AESCBC, 16, HMACSHA384_192}},
	{"aes128-sha512", Transform{AESCBC, 16, HMACSHA512_256}},
	{"aes192-md5", Transform{AESCBC, 24, HMACMD5_96}},
	{"aes192-sha1", Transform{AESCBC, 24, HMACSHA1_96}},
	{"aes192-sha256", Transform{AESCBC, 24, HMACSHA256_128}},
	{"aes192-sha384", Transform{AESCBC, 24, HMACSHA384_192}},
	{"aes192-sha512", Transform{AESCBC, 24, HMACSHA512_256}},
	{"aes256-md5", Transform{AESCBC, 32, HMACMD5_96}},
	{"aes256-sha1", Transform{AESCBC, 32, HMACSHA1_96}},
	{"aes256-sha256", Transform{AESCBC, 32, HMACSHA256_128}},
	{"aes256-sha384", Transform{AESCBC, 32, HMACSHA384_192}},
	{"aes256-sha512", Transform{AESCBC, 32, HMACSHA512_256}},
	{"3des-md5", Transform{TripleDESCBC, 24, HMACMD5_96}},
	{"3des-sha1", Transform{TripleDESCBC, 24, HMACSHA1_96}},
	{"3des-sha256", Transform{TripleDESCBC, 24, HMACSHA256_128}},
	{"3des-sha384", Transform{TripleDESCBC, 24, HMACSHA384_192}},
	{"3des-sha512", Transform{TripleDESCBC, 24, HMACSHA512_256}},
}

func transformNamed(tb testing.TB, name string) Transform {
	tb.Helper()
	for _, tt := range transforms {
		if tt.name == name {
			return tt.t
		}
	}
	tb.Fatalf("no transform %s", name)
	return Transform{}
}

// refSA is ESP written a second time, as plainly as the RFCs say it, with tables of
// its own, so that a mistake in the package is not mirrored.
type refSA struct {
	t      Transform
	spi    uint32
	keymat []byte
}

func (r refSA) blockCipher() (cipher.Block, error) {
	key := r.keymat[:r.t.KeyLen]
	if r.t.Cipher == TripleDESCBC {
		return des.NewTripleDESCipher(key)
	}
	return aes.NewCipher(key)
}

func (r refSA) mac(data []byte) []byte {
	var h func() hash.Hash
	var n int
	switch r.t.Integrity {
	case HMACMD5_96:
		h, n = md5.New, 12
	case HMACSHA1_96:
		h, n = sha1.New, 12
	case HMACSHA256_128:
		h, n = sha256.New, 16
	case HMACSHA384_192:
		h, n = sha512.New384, 24
	case HMACSHA512_256:
		h, n = sha512.New, 32
	}
	m := hmac.New(h, r.keymat[r.t.KeyLen:])
	m.Write(data)
	return m.Sum(nil)[:n]
}

// plaintext appends padding and trailer.
func (r refSA) plaintext(inner []byte, next byte) []byte {
	align := 4
	switch r.t.Cipher {
	case AESCBC:
		align = 16
	case TripleDESCBC:
		align = 8
	}
	out := bytes.Clone(inner)
	pad := byte(0)
	for (len(out)+2)%align != 0 {
		pad++
		out = append(out, pad)
	}
	return append(out, pad, next)
}

// protect makes the packet that carries plaintext, trailer included.
func (r refSA) protect(tb testing.TB, seq uint32, iv, plaintext []byte) []byte {
	tb.Helper()
	block, err := r.blockCipher()
	if err != nil {
		tb.Fatal(err)
	}
	packet := binary.BigEndian.AppendUint32(nil, r.spi)
	packet = binary.BigEndian.AppendUint32(packet, seq)
	if r.t.Cipher == AESGCM16 {
		aead, err := cipher.NewGCM(block)
		if err != nil {
			tb.Fatal(err)
		}
		nonce := append(bytes.Clone(r.keymat[r.t.KeyLen:r.t.KeyLen+4]), iv...)
		ciphertext := aead.Seal(nil, nonce, plaintext, packet)
		return append(append(packet, iv...), ciphertext...)
	}
	ciphertext := make([]byte, len(plaintext))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(ciphertext, plaintext)
	packet = append(append(packet, iv...), ciphertext...)
	return append(packet, r.mac(packet)...)
}

// seal makes the packet that carries inner.
func (r refSA) seal(tb testing.TB, seq uint32, iv, inner []byte) []byte {
	tb.Helper()
	next := byte(4)
	if inner[0]>>4 == 6 {
		next = 41
	}
	return r.protect(tb, seq, iv, r.plaintext(inner, next))
}

func (r refSA) ivLen() int {
	if r.t.Cipher == AESCBC {
		return 16
	}
	return 8
}

// newRand gives tests bytes that are the same in every run.
func newRand(seed byte) *mathrand.ChaCha8 { return mathrand.NewChaCha8([32]byte{seed}) }

func randomBytes(rand *mathrand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// ipv4 is a packet of n >= 20 bytes with a random content.
func ipv4(rand *mathrand.ChaCha8, n int) []byte {
	p := randomBytes(rand, n)
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[2:], uint16(n))
	return p
}

// ipv6 is a packet of n >= 40 bytes with a random content.
func ipv6(rand *mathrand.ChaCha8, n int) []byte {
	p := randomBytes(rand, n)
	p[0] = 0x60 | p[0]&0xf
	binary.BigEndian.PutUint16(p[4:], uint16(n-40))
	return p
}

const testSPI = 0xc0ffee01

// newRef makes a reference SA with random keys.
func newRef(t Transform, rand *mathrand.ChaCha8) refSA {
	n := map[Integrity]int{None: 4, HMACMD5_96: 16, HMACSHA1_96: 20, HMACSHA256_128: 32, HMACSHA384_192: 48, HMACSHA512_256: 64}
	return refSA{t: t, spi: testSPI, keymat: randomBytes(rand, t.KeyLen+n[t.Integrity])}
}

func (r refSA) inbound(tb testing.TB) *Inbound {
	tb.Helper()
	in, err := NewInbound(r.t, r.spi, r.keymat)
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

func (r refSA) outbound(tb testing.TB, rand *mathrand.ChaCha8) *Outbound {
	tb.Helper()
	out, err := NewOutbound(r.t, r.spi, r.keymat, rand)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// sealed puts inner into a buffer with the least room that Seal accepts and seals it.
func sealed(tb testing.TB, out *Outbound, inner []byte) []byte {
	tb.Helper()
	buf := make([]byte, MaxHeadroom, MaxHeadroom+len(inner)+MaxTailroom)
	buf = append(buf, inner...)
	packet, err := out.Seal(buf, MaxHeadroom, len(inner))
	if err != nil {
		tb.Fatalf("Seal of %d bytes: %v", len(inner), err)
	}
	return packet
}

// TestReference compares with the reference, in both directions, packets of every
// size up to an Ethernet frame's. Open refuses those that no IP header fits into.
func TestReference(t *testing.T) {
	for _, tt := range transforms {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rand := newRand(1)
			ref := newRef(tt.t, rand)
			in, out := ref.inbound(t), ref.outbound(t, rand)
			var sent OutboundStats
			var received InboundStats
			for n := 1; n <= 1500; n++ {
				inner := ipv4(rand, max(n, 20))[:n]
				if n >= 40 && n%2 == 1 {
					inner = ipv6(rand, n)
				}
				packet := sealed(t, out, inner)
				sent.Packets++
				sent.Bytes += uint64(n)

				iv := packet[8 : 8+ref.ivLen()]
				if want := ref.seal(t, uint32(sent.Packets), iv, inner); !bytes.Equal(packet, want) {
					t.Fatalf("Seal of %d bytes:\n got %x\nwant %x", n, packet, want)
				}
				got, err := in.Open(make([]byte, len(packet)), packet)
				if n < 20 {
					if !errors.Is(err, ErrMalformed) {
						t.Fatalf("Open of %d bytes: got %v, want %v", n, err, ErrMalformed)
					}
					continue
				}
				received.Packets++
				received.Bytes += uint64(n)
				if err != nil || !bytes.Equal(got, inner) {
					t.Fatalf("Open of %d bytes: %v\n got %x\nwant %x", n, err, got, inner)
				}
			}
			if got := out.Stats(); got != sent || out.Sequence() != uint32(sent.Packets) {
				t.Errorf("sent: %+v, sequence %d, want %+v", got, out.Sequence(), sent)
			}
			if got := in.Stats(); got != received {
				t.Errorf("received: %+v, want %+v", got, received)
			}
		})
	}
}
