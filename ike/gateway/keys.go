package gateway

import (
	"crypto/hmac"
	"encoding/binary"
	"hash"
	"net/netip"

	"wayfarer/ike/isakmp"
)

// newHash makes the negotiated hash; prf is its HMAC (RFC 2409 §4).
type newHash func() hash.Hash

func (h newHash) prf(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(h, key)
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

func (h newHash) sum(parts ...[]byte) []byte {
	d := h()
	for _, p := range parts {
		d.Write(p)
	}
	return d.Sum(nil)
}

// skeyidSignature is SKEYID of authentication by signatures, which hybrid
// authentication shares: prf(Ni_b | Nr_b, g^xy) (RFC 2409 §5.1).
func (h newHash) skeyidSignature(ni, nr, gxy []byte) []byte {
	return h.prf(append(append([]byte(nil), ni...), nr...), gxy)
}

// skeyidPSK is SKEYID of authentication by a pre-shared key: prf(key, Ni_b | Nr_b)
// (RFC 2409 §5.4).
func (h newHash) skeyidPSK(secret, ni, nr []byte) []byte { return h.prf(secret, ni, nr) }

// phase1Keys are what RFC 2409 §5 derives from SKEYID.
type phase1Keys struct {
	skeyid  []byte
	skeyidD []byte // for the keys of ESP
	skeyidA []byte // authenticates phase 2
	skeyidE []byte // encrypts everything
}

// deriveKeys computes
//
//	SKEYID_d = prf(SKEYID,            g^xy | CKY-I | CKY-R | 0)
//	SKEYID_a = prf(SKEYID, SKEYID_d | g^xy | CKY-I | CKY-R | 1)
//	SKEYID_e = prf(SKEYID, SKEYID_a | g^xy | CKY-I | CKY-R | 2)
func (h newHash) deriveKeys(skeyid, gxy []byte, ckyI, ckyR isakmp.Cookie) phase1Keys {
	k := phase1Keys{skeyid: skeyid}
	k.skeyidD = h.prf(skeyid, gxy, ckyI[:], ckyR[:], []byte{0})
	k.skeyidA = h.prf(skeyid, k.skeyidD, gxy, ckyI[:], ckyR[:], []byte{1})
	k.skeyidE = h.prf(skeyid, k.skeyidA, gxy, ckyI[:], ckyR[:], []byte{2})
	return k
}

// cipherKey is Ka of RFC 2409 Appendix B: the first n bytes of SKEYID_e, or where
// that is too short of K1 | K2 | ... with K1 = prf(SKEYID_e, 0) and
// Kn = prf(SKEYID_e, Kn-1).
func (h newHash) cipherKey(skeyidE []byte, n int) []byte {
	if len(skeyidE) >= n {
		return skeyidE[:n]
	}
	var key []byte
	block := []byte{0}
	for len(key) < n {
		block = h.prf(skeyidE, block)
		key = append(key, block...)
	}
	return key[:n]
}

// phase1IV is the first initialisation vector: hash(g^xi | g^xr) (RFC 2409 Appendix B).
func (h newHash) phase1IV(gxi, gxr []byte, blockLen int) []byte {
	return h.sum(gxi, gxr)[:blockLen]
}

// exchangeIV is the first initialisation vector of an exchange after phase 1:
// hash(last phase-1 ciphertext block | M-ID) (RFC 2409 Appendix B).
func (h newHash) exchangeIV(lastBlock []byte, mid uint32, blockLen int) []byte {
	return h.sum(lastBlock, midBytes(mid))[:blockLen]
}

// authHash is HASH_I and, with the two sides exchanged, HASH_R (RFC 2409 §5):
//
//	HASH_I = prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b)
//	HASH_R = prf(SKEYID, g^xr | g^xi | CKY-R | CKY-I | SAi_b | IDir_b)
func (h newHash) authHash(skeyid, gOwn, gOther []byte, own, other isakmp.Cookie, saiBody, idBody []byte) []byte {
	return h.prf(skeyid, gOwn, gOther, own[:], other[:], saiBody, idBody)
}

// phase2Hash is HASH(1), and the HASH of Informational and Transaction exchanges:
// prf(SKEYID_a, M-ID | rest); HASH(2) has Ni_b before the rest (RFC 2409 §5.5, §5.7).
func (h newHash) phase2Hash(skeyidA []byte, mid uint32, niBody, rest []byte) []byte {
	return h.prf(skeyidA, midBytes(mid), niBody, rest)
}

// hash3 is HASH(3) = prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b) (RFC 2409 §5.5).
func (h newHash) hash3(skeyidA []byte, mid uint32, niBody, nrBody []byte) []byte {
	return h.prf(skeyidA, []byte{0}, midBytes(mid), niBody, nrBody)
}

// keymat makes n bytes of key material for the SA that the given SPI names
// (RFC 2409 §5.5); gxy is empty without PFS:
//
//	K1 = prf(SKEYID_d,        [g(qm)^xy |] protocol | SPI | Ni_b | Nr_b)
//	Kn = prf(SKEYID_d, Kn-1 | [g(qm)^xy |] protocol | SPI | Ni_b | Nr_b)
func (h newHash) keymat(skeyidD, gxy []byte, spi uint32, niBody, nrBody []byte, n int) []byte {
	var material, block []byte
	for len(material) < n {
		block = h.prf(skeyidD, block, gxy, []byte{byte(isakmp.ProtoESP)}, midBytes(spi), niBody, nrBody)
		material = append(material, block...)
	}
	return material[:n]
}

// natHash is the body of a NAT-D payload: hash(CKY-I | CKY-R | IP | port)
// (RFC 3947 §3.2).
func (h newHash) natHash(ckyI, ckyR isakmp.Cookie, addr netip.AddrPort) []byte {
	return h.sum(ckyI[:], ckyR[:], addr.Addr().Unmap().AsSlice(), binary.BigEndian.AppendUint16(nil, addr.Port()))
}

// midBytes is a message ID or SPI as it enters a hash.
func midBytes(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
