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
// allocate.
type ctr struct {
	block     cipher.Block
	counter   [aes.BlockSize]byte // nonce | IV | number of the block, from 1 (RFC 3686 §4)
	keystream [aes.BlockSize]byte
}

func newCTR(p *parts) (*ctr, error) {
	block, err := aes.NewCipher(p.key)
	if err != nil {
		return nil, err
	}
	c := &ctr{block: block}
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
	copy(c.counter[saltLen:], packet[headerLen:headerLen+counterIVLen])
	for number := uint32(1); len(src) > 0; number++ {
		binary.BigEndian.PutUint32(c.counter[saltLen+counterIVLen:], number)
		c.block.Encrypt(c.keystream[:], c.counter[:])
		n := subtle.XORBytes(dst, src, c.keystream[:])
		dst, src = dst[n:], src[n:]
	}
}

func (c *ctr) zero() {
	clear(c.counter[:])
	clear(c.keystream[:])
}
