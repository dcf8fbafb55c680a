package esp

import (
	"crypto/cipher"
	"crypto/hmac"
	"errors"
	"fmt"
	"hash"
	"io"
)

// cbcMode is a BlockMode that takes a new IV, as those of the standard library do:
// making a new one for each packet would allocate.
type cbcMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// authenticator computes a truncated HMAC. The key's two pads are hashed once.
type authenticator struct {
	mac hash.Hash
	sum [64]byte // of the longest hash
	icv int
}

func newAuthenticator(alg *integrityAlg, key []byte) authenticator {
	a := authenticator{mac: hmac.New(alg.new, key), icv: alg.icv}
	a.mac.Reset() // the first one stores the state after the pads
	return a
}

// compute returns the ICV of data. It is valid until the next call.
func (a *authenticator) compute(data []byte) []byte {
	a.mac.Reset()
	a.mac.Write(data)
	return a.mac.Sum(a.sum[:0])[:a.icv]
}

// cbcSealer encrypts in CBC mode and then authenticates SPI, sequence number, IV
// and ciphertext (RFC 4303 §3.3.2).
type cbcSealer struct {
	mode cbcMode
	auth authenticator
	ivs  ivSource
}

func newCBCSealer(block cipher.Block, alg *integrityAlg, key []byte, rand io.Reader) (*cbcSealer, error) {
	if rand == nil {
		return nil, errors.New("esp: CBC needs a source of random IVs")
	}
	mode, ok := cipher.NewCBCEncrypter(block, make([]byte, block.BlockSize())).(cbcMode)
	if !ok {
		return nil, errors.New("esp: the CBC encrypter takes no new IV")
	}
	s := &cbcSealer{mode: mode, auth: newAuthenticator(alg, key), ivs: ivSource{rand: rand}}
	s.ivs.next = len(s.ivs.pool)
	return s, nil
}

func (s *cbcSealer) seal(packet []byte) error {
	header := headerLen + s.mode.BlockSize()
	iv := packet[headerLen:header]
	if err := s.ivs.draw(iv); err != nil {
		return err
	}
	authentic := packet[:len(packet)-s.auth.icv]
	s.mode.SetIV(iv)
	s.mode.CryptBlocks(authentic[header:], authentic[header:])
	copy(packet[len(authentic):], s.auth.compute(authentic))
	return nil
}

func (s *cbcSealer) zero() { clear(s.ivs.pool[:]) }

// cbcOpener is the other direction of cbcSealer.
type cbcOpener struct {
	mode cbcMode
	auth authenticator
}

func newCBCOpener(block cipher.Block, alg *integrityAlg, key []byte) (*cbcOpener, error) {
	mode, ok := cipher.NewCBCDecrypter(block, make([]byte, block.BlockSize())).(cbcMode)
	if !ok {
		return nil, errors.New("esp: the CBC decrypter takes no new IV")
	}
	return &cbcOpener{mode: mode, auth: newAuthenticator(alg, key)}, nil
}

func (o *cbcOpener) open(dst, packet []byte) bool {
	header := headerLen + o.mode.BlockSize()
	authentic, icv := packet[:len(packet)-o.auth.icv], packet[len(packet)-o.auth.icv:]
	if !hmac.Equal(icv, o.auth.compute(authentic)) {
		return false
	}
	o.mode.SetIV(authentic[headerLen:header])
	o.mode.CryptBlocks(dst, authentic[header:])
	return true
}

// zero has nothing to wipe: all that it holds is inside the standard library.
func (o *cbcOpener) zero() {}

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
