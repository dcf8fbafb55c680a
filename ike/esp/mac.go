package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/subtle"
	"hash"
)

// decrypter is a cipher mode that authenticates nothing.
type decrypter interface {
	// decrypt takes packet = SPI | sequence number | IV | ciphertext and decrypts
	// into dst, which is as long as the ciphertext.
	decrypt(dst, packet []byte)
	// zero wipes the key material that it holds itself.
	zero()
}

// macSealer authenticates SPI, sequence number, IV and ciphertext after encryption
// (RFC 4303 §3.3.2).
type macSealer struct {
	auth authenticator
	icv  int
}

// authenticate writes the ICV of packet, which is complete otherwise.
func (s *macSealer) authenticate(packet []byte) {
	data := packet[:len(packet)-s.icv]
	copy(packet[len(data):], s.auth.compute(data))
}

// macOpener is the other direction of macSealer.
type macOpener struct {
	decrypter
	auth authenticator
	icv  int
}

func (o *macOpener) open(dst, packet []byte) bool {
	if !o.authentic(packet, o.icv) {
		return false
	}
	o.decrypt(dst, packet[:len(packet)-o.icv])
	return true
}

// authentic reports whether the last icv bytes of packet are the ICV of the others.
func (o *macOpener) authentic(packet []byte, icv int) bool {
	data, got := packet[:len(packet)-icv], packet[len(packet)-icv:]
	return hmac.Equal(got, o.auth.compute(data)[:icv])
}

func (o *macOpener) zero() {
	o.decrypter.zero()
	o.auth.zero()
}

// authenticator computes the MACs of one SA, of which an ICV is the beginning.
type authenticator interface {
	// compute returns the whole MAC of data. It is valid until the next call.
	compute(data []byte) []byte
	// zero wipes the key material that it holds itself.
	zero()
}

// hmacAuth computes an HMAC. The key's two pads are hashed once.
type hmacAuth struct {
	mac hash.Hash
	sum [64]byte // of the longest hash
}

func newHMAC(h func() hash.Hash) func(key []byte) (authenticator, error) {
	return func(key []byte) (authenticator, error) {
		a := &hmacAuth{mac: hmac.New(h, key)}
		a.mac.Reset() // the first one stores the state after the pads
		return a, nil
	}
}

func (a *hmacAuth) compute(data []byte) []byte {
	a.mac.Reset()
	a.mac.Write(data)
	return a.mac.Sum(a.sum[:0])
}

// zero has nothing to wipe: all that it holds is inside the standard library.
func (a *hmacAuth) zero() {}

// xcbc computes AES-XCBC-MAC (RFC 3566 §4).
type xcbc struct {
	block  cipher.Block // with K1
	k2, k3 [aes.BlockSize]byte
	e      [aes.BlockSize]byte // E[i]
}

func newXCBC(key []byte) (authenticator, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var k [3][aes.BlockSize]byte // K1, K2, K3
	for i := range k {
		for j := range k[i] {
			k[i][j] = byte(i + 1)
		}
		block.Encrypt(k[i][:], k[i][:])
	}
	x := &xcbc{k2: k[1], k3: k[2]}
	x.block, err = aes.NewCipher(k[0][:])
	return x, err
}

func (x *xcbc) compute(data []byte) []byte {
	clear(x.e[:])
	for len(data) > aes.BlockSize {
		subtle.XORBytes(x.e[:], x.e[:], data[:aes.BlockSize])
		x.block.Encrypt(x.e[:], x.e[:])
		data = data[aes.BlockSize:]
	}
	last := &x.k2
	if len(data) < aes.BlockSize {
		last = &x.k3
		x.e[len(data)] ^= 0x80
	}
	subtle.XORBytes(x.e[:], x.e[:], data)
	subtle.XORBytes(x.e[:], x.e[:], last[:])
	x.block.Encrypt(x.e[:], x.e[:])
	return x.e[:]
}

func (x *xcbc) zero() {
	clear(x.k2[:])
	clear(x.k3[:])
	clear(x.e[:])
}
