package esp

import (
	"crypto/cipher"
	"encoding/binary"
)

// sealer encrypts and authenticates the packets of one SA.
type sealer interface {
	// seal completes packet = SPI | sequence number | IV | plaintext | ICV, in
	// which SPI, sequence number and plaintext stand: it writes the IV, encrypts
	// in place and writes the ICV. If it fails the plaintext is unchanged.
	seal(packet []byte) error
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
	nonce [gcmSaltLen + gcmIVLen]byte
}

const (
	gcmSaltLen = 4
	gcmIVLen   = 8
)

func newGCM(block cipher.Block, salt []byte) (*gcm, error) {
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	g := &gcm{aead: aead}
	copy(g.nonce[:], salt)
	return g, nil
}

// seal takes the sequence number as the IV: a key must never see an IV twice
// (RFC 4106 §3.1), and a sequence number is never used twice.
func (g *gcm) seal(packet []byte) error {
	iv := packet[headerLen : headerLen+gcmIVLen]
	binary.BigEndian.PutUint64(iv, uint64(binary.BigEndian.Uint32(packet[4:])))
	copy(g.nonce[gcmSaltLen:], iv)
	plaintext := packet[headerLen+gcmIVLen : len(packet)-g.aead.Overhead()]
	g.aead.Seal(plaintext[:0], g.nonce[:], plaintext, packet[:headerLen])
	return nil
}

func (g *gcm) open(dst, packet []byte) bool {
	copy(g.nonce[gcmSaltLen:], packet[headerLen:])
	_, err := g.aead.Open(dst[:0], g.nonce[:], packet[headerLen+gcmIVLen:], packet[:headerLen])
	return err == nil
}

func (g *gcm) zero() { clear(g.nonce[:]) }
