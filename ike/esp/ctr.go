package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"io"
)

// ctr is AES in counter mode (RFC 3686), and a decrypter. The one of the
// standard library cannot be given another IV, and making one for each packet would
// allocate. But AES-GCM encrypts in counter mode, too, several blocks at a time, with
// the same counter, from the second block on (SP 800-38D §7.1).
type ctr struct {
	block     cipher.Block
	gcm       cipher.AEAD
	counter   [aes.BlockSize]byte // nonce | IV | number of the block, from 1 (RFC 3686 §4)
	keystream [aes.BlockSize]byte
	rest      [2 * aes.BlockSize]byte // what gcm leaves of a text
}

// ctrTagLen is the shortest tag that AES-GCM makes, in bytes. It is of no use here.
const ctrTagLen = 12

func newCTR(p *parts) (*ctr, error) {
	block, err := aes.NewCipher(p.key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithTagSize(block, ctrTagLen)
	if err != nil {
		return nil, err
	}
	c := &ctr{block: block, gcm: gcm}
	copy(c.counter[:], p.salt)
	return c, nil
}

// ctrSealer encrypts in counter mode.
type ctrSealer struct {
	macSealer
	ctr *ctr
}

func newCTRSealer(p *parts, _ io.Reader) (sealer, error) {
	c, err := newCTR(p)
	if err != nil {
		return nil, err
	}
	return &ctrSealer{macSealer{auth: p.auth, icv: p.icv}, c}, nil
}

func (s *ctrSealer) seal(packet, plaintext []byte) error {
	putCounterIV(packet)
	s.ctr.crypt(packet[headerLen+counterIVLen:], plaintext, packet)
	s.authenticate(packet)
	return nil
}

// finish has nothing to do: seal leaves nothing.
func (s *ctrSealer) finish() {}

func (s *ctrSealer) zero() {
	s.ctr.zero()
	s.auth.zero()
}

func newCTROpener(p *parts) (opener, error) {
	c, err := newCTR(p)
	if err != nil {
		return nil, err
	}
	return &macOpener{decrypter: c, auth: p.auth, icv: p.icv}, nil
}

func (c *ctr) decrypt(dst, packet []byte) { c.crypt(dst, packet[headerLen+counterIVLen:], packet) }

// crypt encrypts or decrypts, which is the same, with the IV of packet. dst may be src.
func (c *ctr) crypt(dst, src, packet []byte) {
	const first = aes.BlockSize
	copy(c.counter[saltLen:], packet[headerLen:headerLen+counterIVLen])
	// As many whole blocks as leave room for the tag, which the rest is written over.
	if end := (len(src) - ctrTagLen) &^ (aes.BlockSize - 1); end > first {
		rest := c.rest[:copy(c.rest[:], src[end:])]
		c.gcm.Seal(dst[first:first], c.counter[:saltLen+counterIVLen], src[first:end], nil)
		c.blocks(dst[end:], rest, uint32(end/aes.BlockSize+1))
		src = src[:first]
	}
	c.blocks(dst, src, 1)
}

// blocks encrypts or decrypts one block after the other. The first has a number.
func (c *ctr) blocks(dst, src []byte, number uint32) {
	for ; len(src) > 0; number++ {
		binary.BigEndian.PutUint32(c.counter[saltLen+counterIVLen:], number)
		c.block.Encrypt(c.keystream[:], c.counter[:])
		n := subtle.XORBytes(dst, src, c.keystream[:])
		dst, src = dst[n:], src[n:]
	}
}

func (c *ctr) zero() {
	clear(c.counter[:])
	clear(c.keystream[:])
	clear(c.rest[:])
}
