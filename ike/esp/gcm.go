package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"slices"
)

// sealer encrypts and authenticates the packets of one SA.
type sealer interface {
	// seal makes packet = SPI | sequence number | IV | ciphertext | ICV, in which
	// SPI and sequence number stand: it writes the IV, encrypts plaintext, which is
	// elsewhere or where the ciphertext will be, and writes the ICV. It may leave
	// some of that, of the last maxLanes packets, to finish; plaintext that is
	// elsewhere is not needed then. If it fails the plaintext is unchanged.
	seal(packet, plaintext []byte) error
	// finish completes the packets that seal has left.
	finish()
	// zero wipes the key material that it holds itself.
	zero()
}

// opener authenticates and decrypts the packets of one SA.
type opener interface {
	// open checks the ICV of packet, whose length has been checked, and decrypts
	// into dst, which is as long as the ciphertext. It reports whether the packet
	// is authentic; if not, dst holds nothing of use.
	open(dst, packet []byte) bool
	// zero wipes the key material that it holds itself.
	zero()
}

// gcm is AES-GCM: sealer and opener. The nonce is salt | IV, the additional data
// is SPI | sequence number (RFC 4106 §4, §5).
type gcm struct {
	aead  cipher.AEAD
	nonce [saltLen + counterIVLen]byte
}

// Sizes in bytes of AES-GCM, and of AES-CTR (RFC 4106 §4, RFC 3686 §4).
const (
	saltLen      = 4 // the nonce of RFC 3686
	counterIVLen = 8
	gcmTagLen    = 16 // before it is cut
)

func newGCM(p *parts) (*gcm, error) {
	block, err := aes.NewCipher(p.key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithTagSize(block, p.icv)
	if err != nil {
		return nil, err
	}
	g := &gcm{aead: aead}
	copy(g.nonce[:], p.salt)
	return g, nil
}

func newGCMSealer(p *parts, _ io.Reader) (sealer, error) { return newGCM(p) }
func newGCMOpener(p *parts) (opener, error)              { return newGCM(p) }

// putCounterIV takes the sequence number as the IV: a key must never see an IV
// twice (RFC 3686 §2.1, RFC 4106 §3.1), and a sequence number is never used twice.
func putCounterIV(packet []byte) {
	binary.BigEndian.PutUint64(packet[headerLen:], uint64(binary.BigEndian.Uint32(packet[4:])))
}

// inputs returns the nonce and the additional data of packet.
func (g *gcm) inputs(packet []byte) (nonce, aad []byte) {
	*(*[counterIVLen]byte)(g.nonce[saltLen:]) = [counterIVLen]byte(packet[headerLen:])
	return g.nonce[:], packet[:headerLen]
}

func (g *gcm) seal(packet, plaintext []byte) error {
	putCounterIV(packet)
	nonce, aad := g.inputs(packet)
	g.aead.Seal(packet[headerLen+counterIVLen:][:0], nonce, plaintext, aad)
	return nil
}

func (g *gcm) open(dst, packet []byte) bool {
	nonce, aad := g.inputs(packet)
	_, err := g.aead.Open(dst[:0], nonce, packet[headerLen+counterIVLen:], aad)
	return err == nil
}

// finish has nothing to do: seal leaves nothing.
func (g *gcm) finish() {}

func (g *gcm) zero() { clear(g.nonce[:]) }

// shortGCM is AES-GCM with an ICV that is shorter than the standard library cuts
// its own. It computes the whole one and compares the first bytes of it. That takes
// a second pass on opening, and room, which grows to what the largest packet needs.
type shortGCM struct {
	gcm
	icv     int
	scratch []byte
}

func newShortGCM(p *parts) (*shortGCM, error) {
	whole := *p
	whole.icv = gcmTagLen
	g, err := newGCM(&whole)
	if err != nil {
		return nil, err
	}
	return &shortGCM{gcm: *g, icv: p.icv}, nil
}

func newShortGCMSealer(p *parts, _ io.Reader) (sealer, error) { return newShortGCM(p) }
func newShortGCMOpener(p *parts) (opener, error)              { return newShortGCM(p) }

func (g *shortGCM) seal(packet, plaintext []byte) error {
	putCounterIV(packet)
	nonce, aad := g.inputs(packet)
	g.scratch = slices.Grow(g.scratch[:0], len(plaintext)+gcmTagLen)
	copy(packet[headerLen+counterIVLen:], g.aead.Seal(g.scratch, nonce, plaintext, aad))
	return nil
}

// open decrypts aside, seals the result once more, and gives it out if that leads
// to the ICV that the packet has.
func (g *shortGCM) open(dst, packet []byte) bool {
	nonce, aad := g.inputs(packet)
	n := len(packet) - headerLen - counterIVLen - g.icv
	ciphertext, icv := packet[headerLen+counterIVLen:][:n], packet[len(packet)-g.icv:]
	g.scratch = slices.Grow(g.scratch[:0], 2*n+gcmTagLen)
	// Encryption and decryption are the same; the tag of this pass is of no use.
	plaintext := g.aead.Seal(g.scratch, nonce, ciphertext, aad)[:n]
	tag := g.aead.Seal(g.scratch[n:n], nonce, plaintext, aad)[n:]
	if subtle.ConstantTimeCompare(icv, tag[:g.icv]) != 1 {
		return false
	}
	copy(dst, plaintext)
	return true
}

// zero also wipes what was decrypted last.
func (g *shortGCM) zero() {
	g.gcm.zero()
	clear(g.scratch[:cap(g.scratch)])
}
