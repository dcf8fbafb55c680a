package ike

import (
	"crypto"
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"slices"

	"wayfarer/ike/isakmp"
)

// prf is HMAC with the negotiated hash (RFC 2409 §4).
func prf(h crypto.Hash, key []byte, data ...[]byte) []byte {
	m := hmac.New(h.New, key)
	for _, d := range data {
		m.Write(d)
	}
	return m.Sum(nil)
}

// hashOf is the negotiated hash itself.
func hashOf(h crypto.Hash, data ...[]byte) []byte {
	d := h.New()
	for _, b := range data {
		d.Write(b)
	}
	return d.Sum(nil)
}

// phase1Keys are the secrets of an ISAKMP SA (RFC 2409 §5).
type phase1Keys struct {
	hash      crypto.Hash
	skeyid    []byte
	skeyidD   []byte // SKEYID_d: keys of phase 2
	skeyidA   []byte // SKEYID_a: authenticates phase 2 and informational messages
	skeyidE   []byte // SKEYID_e: encrypts
	cipherKey []byte
	block     cipher.Block
}

// skeyidSignature is SKEYID for signatures, and for hybrid too, which its draft
// leaves open and all implementations do this way:
//
//	SKEYID = prf(Ni_b | Nr_b, g^xy)
func skeyidSignature(h crypto.Hash, ni, nr, gxy []byte) []byte {
	return prf(h, slices.Concat(ni, nr), gxy)
}

// skeyidPSK is SKEYID = prf(pre-shared-key, Ni_b | Nr_b).
func skeyidPSK(h crypto.Hash, psk, ni, nr []byte) []byte {
	return prf(h, psk, ni, nr)
}

// newPhase1Keys derives the rest from SKEYID (RFC 2409 §5):
//
//	SKEYID_d = prf(SKEYID, g^xy | CKY-I | CKY-R | 0)
//	SKEYID_a = prf(SKEYID, SKEYID_d | g^xy | CKY-I | CKY-R | 1)
//	SKEYID_e = prf(SKEYID, SKEYID_a | g^xy | CKY-I | CKY-R | 2)
func newPhase1Keys(suite IKESuite, skeyid, gxy []byte, i, r isakmp.Cookie) (*phase1Keys, error) {
	h := suite.hash.hash
	k := &phase1Keys{hash: h, skeyid: skeyid}
	k.skeyidD = prf(h, skeyid, gxy, i[:], r[:], []byte{0})
	k.skeyidA = prf(h, skeyid, k.skeyidD, gxy, i[:], r[:], []byte{1})
	k.skeyidE = prf(h, skeyid, k.skeyidA, gxy, i[:], r[:], []byte{2})
	k.cipherKey = expandKey(h, k.skeyidE, suite.cipher.keyLen)
	var err error
	k.block, err = suite.cipher.newBlock(k.cipherKey)
	return k, err
}

// zero overwrites all that can be overwritten. There may be no keys.
func (k *phase1Keys) zero() {
	if k == nil {
		return
	}
	for _, b := range [][]byte{k.skeyid, k.skeyidD, k.skeyidA, k.skeyidE, k.cipherKey} {
		clear(b)
	}
}

// expandKey makes the phase-1 cipher key (RFC 2409 Appendix B). If SKEYID_e is too
// short, it is not itself part of the key:
//
//	Ka = K1 | K2 | ...; K1 = prf(SKEYID_e, 0), Kn = prf(SKEYID_e, Kn-1)
func expandKey(h crypto.Hash, skeyidE []byte, n int) []byte {
	if len(skeyidE) >= n {
		return append([]byte(nil), skeyidE[:n]...)
	}
	return expand(h, n, []byte{0}, func(last []byte) []byte { return prf(h, skeyidE, last) })
}

// expand makes n bytes of key out of K1 = f(K0), K2 = f(K1), ..., and leaves no copies.
func expand(h crypto.Hash, n int, last []byte, f func([]byte) []byte) []byte {
	key := make([]byte, 0, n+h.Size())
	for len(key) < n {
		next := f(last)
		key = append(key, next...)
		clear(next)
		last = key[len(key)-h.Size():]
	}
	clear(key[n:])
	return key[:n]
}

// initialIV is the IV of the first encrypted phase-1 message (RFC 2409 Appendix B):
// hash(g^xi | g^xr).
func initialIV(suite IKESuite, gxi, gxr []byte, blockSize int) []byte {
	return hashOf(suite.hash.hash, gxi, gxr)[:blockSize]
}

// derivedIV is the IV of the first message of a later exchange (RFC 2409 Appendix
// B): hash(last phase-1 ciphertext block | M-ID).
func derivedIV(h crypto.Hash, lastPhase1Block []byte, mid uint32) []byte {
	return hashOf(h, lastPhase1Block, be32(mid))[:len(lastPhase1Block)]
}

// hashI is HASH_I = prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b), with
// the negotiated hash or the one of an ECDSA method.
func (k *phase1Keys) hashI(h crypto.Hash, gxi, gxr []byte, i, r isakmp.Cookie, saiB, idiiB []byte) []byte {
	return prf(h, k.skeyid, gxi, gxr, i[:], r[:], saiB, idiiB)
}

// hashR is HASH_R = prf(SKEYID, g^xr | g^xi | CKY-R | CKY-I | SAi_b | IDir_b).
func (k *phase1Keys) hashR(h crypto.Hash, gxi, gxr []byte, i, r isakmp.Cookie, saiB, idirB []byte) []byte {
	return prf(h, k.skeyid, gxr, gxi, r[:], i[:], saiB, idirB)
}

// hash1 is HASH(1) of Quick Mode, and the HASH of Informational and Transaction
// messages: prf(SKEYID_a, M-ID | rest), rest being all payloads behind HASH with
// their generic headers.
func (k *phase1Keys) hash1(mid uint32, rest []byte) []byte {
	return prf(k.hash, k.skeyidA, be32(mid), rest)
}

// hash2 is HASH(2) = prf(SKEYID_a, M-ID | Ni_b | rest).
func (k *phase1Keys) hash2(mid uint32, ni, rest []byte) []byte {
	return prf(k.hash, k.skeyidA, be32(mid), ni, rest)
}

// hash3 is HASH(3) = prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b).
func (k *phase1Keys) hash3(mid uint32, ni, nr []byte) []byte {
	return prf(k.hash, k.skeyidA, []byte{0}, be32(mid), ni, nr)
}

// keymat is KEYMAT of one direction of an ESP SA (RFC 2409 §5.5); gqm is g(qm)^xy,
// nil without PFS; spi is the receiver's:
//
//	K1 = prf(SKEYID_d, [g(qm)^xy |] protocol | SPI | Ni_b | Nr_b)
//	Kn = prf(SKEYID_d, Kn-1 | [g(qm)^xy |] protocol | SPI | Ni_b | Nr_b)
func (k *phase1Keys) keymat(gqm []byte, proto isakmp.ProtocolID, spi uint32, ni, nr []byte, n int) []byte {
	return expand(k.hash, n, nil, func(last []byte) []byte {
		return prf(k.hash, k.skeyidD, last, gqm, []byte{byte(proto)}, be32(spi), ni, nr)
	})
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
