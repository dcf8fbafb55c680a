package esp

//lint:file-ignore ST1003 the underscore stands where the RFCs' names have a hyphen between numbers

import (
	"crypto/aes"
	"crypto/des"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Cipher is an ESP encryption algorithm. The zero value is none and not valid.
type Cipher uint8

// Encryption algorithms.
const (
	AESGCM16     Cipher = iota + 1 // AES-GCM with a 16-byte ICV (RFC 4106)
	AESGCM12                       // AES-GCM with a 12-byte ICV (RFC 4106)
	AESGCM8                        // AES-GCM with an 8-byte ICV (RFC 4106)
	AESCBC                         // AES-CBC (RFC 3602)
	AESCTR                         // AES-CTR (RFC 3686)
	TripleDESCBC                   // 3DES-CBC (RFC 2451)
)

// Integrity is an ESP integrity algorithm. The zero value is None.
type Integrity uint8

// Integrity algorithms. The number after the underscore is the length in bits to
// which the MAC is cut.
const (
	None           Integrity = iota // only with a cipher that has its own: AES-GCM
	HMACMD5_96                      // RFC 2403
	HMACSHA1_96                     // RFC 2404
	HMACSHA256_128                  // RFC 4868
	HMACSHA384_192                  // RFC 4868
	HMACSHA512_256                  // RFC 4868
	AESXCBC_96                      // RFC 3566

	// HMACSHA256_96 is of no standard, but of a draft (draft-ietf-ipsec-ciph-sha-256-00)
	// that Linux, Android and appliances followed for years.
	HMACSHA256_96
)

// Transform is the algorithms of one SA.
type Transform struct {
	Cipher    Cipher
	KeyLen    int // of the encryption key, in bytes, without salt
	Integrity Integrity
}

// Sizes in bytes of a packet's parts.
const (
	headerLen  = 8 // SPI and sequence number
	trailerLen = 2 // pad length and next header

	// MaxHeadroom is the most that Seal writes before the inner packet: SPI,
	// sequence number and IV.
	MaxHeadroom = headerLen + aes.BlockSize
	// MaxTailroom is the most that Seal writes after the inner packet: at most
	// 15 bytes of padding, pad length, next header and an ICV of 32 bytes.
	MaxTailroom = 64
	// MaxTrailer is how much of that is written before the ICV.
	MaxTrailer = aes.BlockSize - 1 + trailerLen
)

// cipherAlg is a row of the table of encryption algorithms. Sizes are in bytes.
type cipherAlg struct {
	name    string
	keyLens []int
	salt    int // follows the encryption key in the key material (RFC 4106 §8.1, RFC 3686 §5.1)
	iv      int
	block   int                                 // alignment of the plaintext with its trailer (RFC 4303 §2.4)
	icv     int                                 // 0: not an AEAD, needs an integrity algorithm
	cbc     func(key []byte) (cbcCipher, error) // in CBC mode
	sealer  func(p *parts, rand io.Reader) (sealer, error)
	opener  func(p *parts) (opener, error)
}

var aesKeyLens = []int{16, 24, 32}

var cipherAlgs = map[Cipher]*cipherAlg{
	AESGCM16: {
		name: "AES-GCM-16", keyLens: aesKeyLens, salt: saltLen, iv: counterIVLen, block: 4, icv: 16,
		sealer: newGCMSealer, opener: newGCMOpener,
	},
	AESGCM12: {
		name: "AES-GCM-12", keyLens: aesKeyLens, salt: saltLen, iv: counterIVLen, block: 4, icv: 12,
		sealer: newGCMSealer, opener: newGCMOpener,
	},
	AESGCM8: {
		name: "AES-GCM-8", keyLens: aesKeyLens, salt: saltLen, iv: counterIVLen, block: 4, icv: 8,
		sealer: newShortGCMSealer, opener: newShortGCMOpener,
	},
	AESCBC: {
		name: "AES-CBC", keyLens: aesKeyLens, iv: aes.BlockSize, block: aes.BlockSize,
		cbc: newAES, sealer: newCBCSealer, opener: newCBCOpener,
	},
	AESCTR: {
		name: "AES-CTR", keyLens: aesKeyLens, salt: saltLen, iv: counterIVLen, block: 4,
		sealer: newCTRSealer, opener: newCTROpener,
	},
	TripleDESCBC: {
		name: "3DES-CBC", keyLens: []int{24}, iv: des.BlockSize, block: des.BlockSize,
		cbc: newTripleDES, sealer: newCBCSealer, opener: newCBCOpener,
	},
}

// integrityAlg is a row of the table of integrity algorithms. Sizes are in bytes;
// the key of an HMAC is as long as the hash (RFC 2403 §3, RFC 2404 §3, RFC 4868
// §2.1.1).
type integrityAlg struct {
	name string
	key  int
	icv  int
	new  func(key []byte) (authenticator, error)
}

var integrityAlgs = map[Integrity]*integrityAlg{
	HMACMD5_96:     {name: "HMAC-MD5-96", key: md5.Size, icv: 12, new: newHMAC(md5.New)},
	HMACSHA1_96:    {name: "HMAC-SHA1-96", key: sha1.Size, icv: 12, new: newHMAC(sha1.New)},
	HMACSHA256_96:  {name: "HMAC-SHA2-256-96", key: sha256.Size, icv: 12, new: newHMAC(sha256.New)},
	HMACSHA256_128: {name: "HMAC-SHA2-256-128", key: sha256.Size, icv: 16, new: newHMAC(sha256.New)},
	HMACSHA384_192: {name: "HMAC-SHA2-384-192", key: sha512.Size384, icv: 24, new: newHMAC(sha512.New384)},
	HMACSHA512_256: {name: "HMAC-SHA2-512-256", key: sha512.Size, icv: 32, new: newHMAC(sha512.New)},
	AESXCBC_96:     {name: "AES-XCBC-MAC-96", key: aes.BlockSize, icv: 12, new: newXCBC},
}

func (c Cipher) String() string {
	if alg := cipherAlgs[c]; alg != nil {
		return alg.name
	}
	return fmt.Sprintf("cipher %d", uint8(c))
}

func (i Integrity) String() string {
	if alg := integrityAlgs[i]; alg != nil {
		return alg.name
	}
	if i == None {
		return "none"
	}
	return fmt.Sprintf("integrity %d", uint8(i))
}

// layout is the algorithms of a valid Transform and the sizes of its packets, in
// bytes.
type layout struct {
	cipher    *cipherAlg
	integrity *integrityAlg // nil with an AEAD
	header    int           // SPI, sequence number and IV
	block     int
	icv       int
}

// layout fails for an unknown algorithm, a key length that the cipher does not have, and a
// cipher without integrity.
func (t Transform) layout() (layout, error) {
	c := cipherAlgs[t.Cipher]
	if c == nil {
		return layout{}, fmt.Errorf("esp: unknown %v", t.Cipher)
	}
	if !slices.Contains(c.keyLens, t.KeyLen) {
		return layout{}, fmt.Errorf("esp: %v has no key of %d bytes", t.Cipher, t.KeyLen)
	}
	l := layout{cipher: c, header: headerLen + c.iv, block: c.block, icv: c.icv}
	if l.icv != 0 {
		if t.Integrity != None {
			return layout{}, fmt.Errorf("esp: %v takes no other integrity algorithm, got %v", t.Cipher, t.Integrity)
		}
		return l, nil
	}
	if l.integrity = integrityAlgs[t.Integrity]; l.integrity == nil {
		return layout{}, fmt.Errorf("esp: %v needs an integrity algorithm, got %v", t.Cipher, t.Integrity)
	}
	l.icv = l.integrity.icv
	return l, nil
}

// KeyMaterialLen is the length in bytes of the key material of one direction:
// encryption key | salt | integrity key, in this order (RFC 2409 §5.5, RFC 4106
// §8.1, RFC 3686 §5.1). It is 0 if t is not valid.
func (t Transform) KeyMaterialLen() int {
	l, err := t.layout()
	if err != nil {
		return 0
	}
	n := t.KeyLen + l.cipher.salt
	if l.integrity != nil {
		n += l.integrity.key
	}
	return n
}

// HeaderLen is the length in bytes of SPI, sequence number and IV: where a packet's
// ciphertext begins. It is 0 if t is not valid.
func (t Transform) HeaderLen() int {
	l, _ := t.layout()
	return l.header
}

// MaxInner is the length in bytes of the largest inner packet whose ESP packet,
// encapsulated in UDP (RFC 3948), fits a path of the given MTU, outer IPv4 or IPv6
// header included. It is 0 if nothing fits or t is not valid.
func (t Transform) MaxInner(pathMTU int, outerIPv6 bool) int {
	const udp, ipv4, ipv6 = 8, 20, 40
	l, err := t.layout()
	if err != nil {
		return 0
	}
	room := pathMTU - ipv4 - udp - l.header - l.icv
	if outerIPv6 {
		room -= ipv6 - ipv4
	}
	return max(0, room/l.block*l.block-trailerLen)
}

// parts is what one direction of an SA is made of. Key and salt are parts of the
// caller's key material.
type parts struct {
	layout
	key  []byte // of the cipher
	salt []byte
	auth authenticator // nil with an AEAD
}

// prepare checks what an SA is to be made of and cuts the key material.
func (t Transform) prepare(spi uint32, keymat []byte) (*parts, error) {
	l, err := t.layout()
	if err != nil {
		return nil, err
	}
	if spi == 0 {
		return nil, errors.New("esp: an SPI of zero is never sent")
	}
	if want := t.KeyMaterialLen(); len(keymat) != want {
		return nil, fmt.Errorf("esp: %d bytes of key material, want %d", len(keymat), want)
	}
	key, keymat := keymat[:t.KeyLen], keymat[t.KeyLen:]
	p := &parts{layout: l, key: key, salt: keymat[:l.cipher.salt]}
	if l.integrity != nil {
		p.auth, err = l.integrity.new(keymat[l.cipher.salt:])
	}
	return p, err
}
