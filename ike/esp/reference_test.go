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
	"fmt"
	"hash"
	mathrand "math/rand/v2"
	"slices"
	"testing"
)

// namedTransform is a Transform with its usual name.
type namedTransform struct {
	name string
	t    Transform
}

// transforms are all that there are.
var transforms = func() (all []namedTransform) {
	for _, keyLen := range []int{16, 24, 32} {
		aes := fmt.Sprint("aes", keyLen*8)
		all = append(all,
			namedTransform{aes + "gcm16", Transform{AESGCM16, keyLen, None}},
			namedTransform{aes + "gcm12", Transform{AESGCM12, keyLen, None}},
			namedTransform{aes + "gcm8", Transform{AESGCM8, keyLen, None}})
		for _, mac := range macs {
			all = append(all,
				namedTransform{aes + "-" + mac.name, Transform{AESCBC, keyLen, mac.alg}},
				namedTransform{aes + "ctr-" + mac.name, Transform{AESCTR, keyLen, mac.alg}})
		}
	}
	for _, mac := range macs {
		all = append(all, namedTransform{"3des-" + mac.name, Transform{TripleDESCBC, 24, mac.alg}})
	}
	return all
}()

// macs are all integrity algorithms; sizes are in bytes.
var macs = []struct {
	name     string
	alg      Integrity
	key, icv int
}{
	{"md5", HMACMD5_96, 16, 12},
	{"sha1", HMACSHA1_96, 20, 12},
	{"sha256_96", HMACSHA256_96, 32, 12},
	{"sha256", HMACSHA256_128, 32, 16},
	{"sha384", HMACSHA384_192, 48, 24},
	{"sha512", HMACSHA512_256, 64, 32},
	{"aesxcbc", AESXCBC_96, 16, 12},
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

// salt is the AEAD's or counter mode's, empty with others.
func (r refSA) salt() []byte {
	if r.aead() || r.t.Cipher == AESCTR {
		return r.keymat[r.t.KeyLen : r.t.KeyLen+4]
	}
	return nil
}

func (r refSA) aead() bool { return slices.Contains([]Cipher{AESGCM16, AESGCM12, AESGCM8}, r.t.Cipher) }

func (r refSA) mac(tb testing.TB, data []byte) []byte {
	tb.Helper()
	key := r.keymat[r.t.KeyLen+len(r.salt()):]
	var sum []byte
	if r.t.Integrity == AESXCBC_96 {
		sum = refXCBC(tb, key, data)
	} else {
		m := hmac.New(map[Integrity]func() hash.Hash{
			HMACMD5_96: md5.New, HMACSHA1_96: sha1.New, HMACSHA256_96: sha256.New, HMACSHA256_128: sha256.New,
			HMACSHA384_192: sha512.New384, HMACSHA512_256: sha512.New,
		}[r.t.Integrity], key)
		m.Write(data)
		sum = m.Sum(nil)
	}
	for _, m := range macs {
		if m.alg == r.t.Integrity {
			return sum[:m.icv]
		}
	}
	tb.Fatalf("no MAC %v", r.t.Integrity)
	return nil
}

// refXCBC is the last block of the padded message in CBC mode.
func refXCBC(tb testing.TB, key, data []byte) []byte {
	tb.Helper()
	newBlock := func(key []byte) cipher.Block {
		b, err := aes.NewCipher(key)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	derived := func(b byte) []byte {
		k := bytes.Repeat([]byte{b}, 16)
		newBlock(key).Encrypt(k, k)
		return k
	}
	padded, last := bytes.Clone(data), derived(2)
	if len(data) == 0 || len(data)%16 != 0 {
		last = derived(3)
		padded = append(padded, 0x80)
		padded = append(padded, make([]byte, (16-len(padded)%16)%16)...)
	}
	for i, b := range last {
		padded[len(padded)-16+i] ^= b
	}
	cipher.NewCBCEncrypter(newBlock(derived(1)), make([]byte, 16)).CryptBlocks(padded, padded)
	return padded[len(padded)-16:]
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
	if r.aead() {
		aead, err := cipher.NewGCM(block)
		if err != nil {
			tb.Fatal(err)
		}
		ciphertext := aead.Seal(nil, slices.Concat(r.salt(), iv), plaintext, packet)
		short := map[Cipher]int{AESGCM16: 0, AESGCM12: 4, AESGCM8: 8}[r.t.Cipher] // bytes cut from the tag
		return slices.Concat(packet, iv, ciphertext[:len(ciphertext)-short])
	}
	ciphertext := make([]byte, len(plaintext))
	if r.t.Cipher == AESCTR {
		cipher.NewCTR(block, slices.Concat(r.salt(), iv, []byte{0, 0, 0, 1})).XORKeyStream(ciphertext, plaintext)
	} else {
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(ciphertext, plaintext)
	}
	packet = slices.Concat(packet, iv, ciphertext)
	return append(packet, r.mac(tb, packet)...)
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
	n := t.KeyLen
	if t.Integrity == None || t.Cipher == AESCTR {
		n += 4
	}
	for _, mac := range macs {
		if mac.alg == t.Integrity {
			n += mac.key
		}
	}
	return refSA{t: t, spi: testSPI, keymat: randomBytes(rand, n)}
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
// size up to an Ethernet frame's; with longer keys, which change no size, of some.
// Open refuses those that no IP header fits into.
func TestReference(t *testing.T) {
	for _, tt := range transforms {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rand := newRand(1)
			ref := newRef(tt.t, rand)
			in, out := ref.inbound(t), ref.outbound(t, rand)
			var sent OutboundStats
			var received InboundStats
			step := 1
			if tt.t.KeyLen > 16 && tt.t.Cipher != TripleDESCBC {
				step = 7
			}
			for n := 1; n <= 1500; n += step {
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
			if got := out.Stats(); got != sent || out.sequence != uint32(sent.Packets) {
				t.Errorf("sent: %+v, sequence %d, want %+v", got, out.sequence, sent)
			}
			in.Finish()
			if got := in.Stats(); got != received {
				t.Errorf("received: %+v, want %+v", got, received)
			}
		})
	}
}
