package esp

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
)

// cbcMode is a BlockMode that takes a new IV, as those of the standard library do:
// making a new one for each packet would allocate.
type cbcMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// cbcEncrypter encrypts in CBC mode (RFC 3602, RFC 2451).
type cbcEncrypter struct {
	mode cbcMode
	ivs  ivSource
}

func newCBCSealer(p *parts, rand io.Reader) (sealer, error) {
	if rand == nil {
		return nil, errors.New("esp: CBC needs a source of random IVs")
	}
	mode, ok := cipher.NewCBCEncrypter(p.block, make([]byte, p.block.BlockSize())).(cbcMode)
	if !ok {
		return nil, errors.New("esp: the CBC encrypter takes no new IV")
	}
	e := &cbcEncrypter{mode: mode, ivs: ivSource{rand: rand}}
	e.ivs.next = len(e.ivs.pool)
	return &macSealer{encrypter: e, auth: p.auth, icv: p.icv}, nil
}

func (e *cbcEncrypter) encrypt(packet, plaintext []byte) error {
	header := headerLen + e.mode.BlockSize()
	iv := packet[headerLen:header]
	if err := e.ivs.draw(iv); err != nil {
		return err
	}
	e.mode.SetIV(iv)
	e.mode.CryptBlocks(packet[header:], plaintext)
	return nil
}

func (e *cbcEncrypter) zero() { clear(e.ivs.pool[:]) }

// cbcDecrypter is the other direction of cbcEncrypter.
type cbcDecrypter struct {
	mode cbcMode
}

func newCBCOpener(p *parts) (opener, error) {
	mode, ok := cipher.NewCBCDecrypter(p.block, make([]byte, p.block.BlockSize())).(cbcMode)
	if !ok {
		return nil, errors.New("esp: the CBC decrypter takes no new IV")
	}
	return &macOpener{decrypter: &cbcDecrypter{mode: mode}, auth: p.auth, icv: p.icv}, nil
}

func (d *cbcDecrypter) decrypt(dst, packet []byte) {
	header := headerLen + d.mode.BlockSize()
	d.mode.SetIV(packet[headerLen:header])
	d.mode.CryptBlocks(dst, packet[header:])
}

// zero has nothing to wipe: all that it holds is inside the standard library.
func (d *cbcDecrypter) zero() {}

// ivSource hands out unpredictable IVs (RFC 3602 §3). It reads them in blocks: a
// call of the system's random source costs more than the encryption of a small
// packet.
type ivSource struct {
	rand io.Reader
	pool [4096]byte // a multiple of every IV's length
	next int        // the first byte that was not handed out
}

func (s *ivSource) draw(iv []byte) error {
	if s.next == len(s.pool) {
		if _, err := io.ReadFull(s.rand, s.pool[:]); err != nil {
			return fmt.Errorf("esp: no random IV: %w", err)
		}
		s.next = 0
	}
	s.next += copy(iv, s.pool[s.next:])
	return nil
}
