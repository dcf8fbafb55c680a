package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"io"
)

// ctr is AES in counter mode (RFC 3686): encrypter and decrypter. The one of the
// standard library cannot be given another IV, and making one for each packet would
// allocate.
type ctr struct {
	block     cipher.Block
	counter   [aes.BlockSize]byte // nonce | IV | number of the block, from 1 (RFC 3686 §4)
	keystream [aes.BlockSize]byte
}

func newCTR(p *parts) *ctr {
	c := &ctr{block: p.block}
	copy(c.counter[:], p.salt)
	return c
}

func newCTRSealer(p *parts, _ io.Reader) (sealer, error) {
	return &macSealer{encrypter: newCTR(p), auth: p.auth, icv: p.icv}, nil
}

func newCTROpener(p *parts) (opener, error) {
	return &macOpener{decrypter: newCTR(p), auth: p.auth, icv: p.icv}, nil
}

func (c *ctr) encrypt(packet, plaintext []byte) error {
	putCounterIV(packet)
	c.crypt(packet[headerLen+counterIVLen:], plaintext, packet)
	return nil
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
