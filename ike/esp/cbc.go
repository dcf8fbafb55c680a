package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
)

// maxLanes is how many packets a cbcCipher encrypts at the same time: in CBC mode a
// block waits for the one before it, but not for those of other packets.
const maxLanes = 8

// cbcCipher is a block cipher in CBC mode with one key (RFC 3602, RFC 2451). A text is
// an IV and, behind it, whole blocks.
type cbcCipher interface {
	// encrypt encrypts up to maxLanes texts where they are.
	encrypt(texts [][]byte)
	// decrypt decrypts text into dst, which is as long as the blocks and either where
	// they are or elsewhere.
	decrypt(dst, text []byte)
	// zero wipes the key material that it holds itself.
	zero()
}

// cbcSealer encrypts in CBC mode. Packets wait until there are maxLanes of them, or
// until finish.
type cbcSealer struct {
	macSealer
	cipher  cbcCipher
	iv      int // its length
	ivs     ivSource
	waiting [maxLanes][]byte // whole packets
	texts   [maxLanes][]byte // parts of them
	n       int
}

func newCBCSealer(p *parts, rand io.Reader) (sealer, error) {
	if rand == nil {
		return nil, errors.New("esp: CBC needs a source of random IVs")
	}
	c, err := p.cipher.cbc(p.key)
	if err != nil {
		return nil, err
	}
	s := &cbcSealer{macSealer: macSealer{auth: p.auth, icv: p.icv}, cipher: c, iv: p.cipher.iv}
	s.ivs = ivSource{rand: rand, next: len(s.ivs.pool)}
	return s, nil
}

func (s *cbcSealer) seal(packet, plaintext []byte) error {
	text := packet[headerLen : len(packet)-s.icv]
	if err := s.ivs.draw(text[:s.iv]); err != nil {
		return err
	}
	copy(text[s.iv:], plaintext)
	s.waiting[s.n], s.texts[s.n] = packet, text
	s.n++
	if s.n == maxLanes {
		s.finish()
	}
	return nil
}

func (s *cbcSealer) finish() {
	if s.n == 0 {
		return
	}
	s.cipher.encrypt(s.texts[:s.n])
	for _, packet := range s.waiting[:s.n] {
		s.authenticate(packet)
	}
	clear(s.waiting[:s.n])
	clear(s.texts[:s.n])
	s.n = 0
}

func (s *cbcSealer) zero() {
	s.cipher.zero()
	s.auth.zero()
	clear(s.ivs.pool[:])
}

// cbcDecrypter decrypts in CBC mode.
type cbcDecrypter struct {
	cipher cbcCipher
}

func newCBCOpener(p *parts) (opener, error) {
	c, err := p.cipher.cbc(p.key)
	if err != nil {
		return nil, err
	}
	return &macOpener{decrypter: &cbcDecrypter{c}, auth: p.auth, icv: p.icv}, nil
}

func (d *cbcDecrypter) decrypt(dst, packet []byte) { d.cipher.decrypt(dst, packet[headerLen:]) }

func (d *cbcDecrypter) zero() { d.cipher.zero() }

// newAES takes the processor's instructions where it can.
func newAES(key []byte) (cbcCipher, error) {
	if c := newAESCBC(key); c != nil {
		return c, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return newStdCBC(block)
}

// stdCBC is the CBC mode of the standard library. It has no means to wipe keys.
type stdCBC struct {
	encrypter, decrypter ivMode
}

// ivMode is a BlockMode that takes a new IV, as those of the standard library do:
// making a new one for each packet would allocate.
type ivMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

func newStdCBC(block cipher.Block) (cbcCipher, error) {
	iv := make([]byte, block.BlockSize())
	encrypter, ok := cipher.NewCBCEncrypter(block, iv).(ivMode)
	decrypter, ok2 := cipher.NewCBCDecrypter(block, iv).(ivMode)
	if !ok || !ok2 {
		return nil, errors.New("esp: the CBC mode takes no new IV")
	}
	return &stdCBC{encrypter, decrypter}, nil
}

func (c *stdCBC) encrypt(texts [][]byte) {
	for _, text := range texts {
		iv, blocks := text[:c.encrypter.BlockSize()], text[c.encrypter.BlockSize():]
		c.encrypter.SetIV(iv)
		c.encrypter.CryptBlocks(blocks, blocks)
	}
}

func (c *stdCBC) decrypt(dst, text []byte) {
	c.decrypter.SetIV(text[:c.decrypter.BlockSize()])
	c.decrypter.CryptBlocks(dst, text[c.decrypter.BlockSize():])
}

func (c *stdCBC) zero() {}

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
