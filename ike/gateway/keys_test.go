package gateway

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"math/big"
	"net/netip"
	"strings"
	"testing"

	"wayfarer/ike/isakmp"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s: %x, want %s", what, got, want)
	}
}

func cookie(t *testing.T, s string) isakmp.Cookie { return isakmp.Cookie(unhex(t, s)) }

// TestPublishedKeys compares with NIST's CAVP vectors for IKEv1 (ikev1_dsa.fax and
// ikev1_psk.fax, SHA-1).
func TestPublishedKeys(t *testing.T) {
	h := newHash(sha1.New)
	gxy := unhex(t, "8ba4cbc73c0187301dc19a975823854dbd641c597f637f8d053a83b9514673eb")
	k := h.deriveKeys(h.skeyidSignature(unhex(t, "69a62284195f1680"), unhex(t, "80c94ba25c8abda5"), gxy), gxy,
		cookie(t, "8c3bcd3a69831d7f"), cookie(t, "d2d9a7ff4fbe95a7"))
	same(t, "SKEYID", k.skeyid, "707197817fb2d90cf54d1842606bdea59b9f4823")
	same(t, "SKEYID_d", k.skeyidD, "384be709a8a5e63c3ed160cfe3921c4b37d5b32d")
	same(t, "SKEYID_a", k.skeyidA, "48b327575abe3adba0f279849e289022a13e2b47")
	same(t, "SKEYID_e", k.skeyidE, "a4a415c8e0c38c0da847c356cc61c24df8025560")

	gxy = unhex(t, "739003ba2c11c982946c65e26acf661fbf8ebb78011a9fead79efa12fe3e71cc")
	skeyid := h.skeyidPSK(unhex(t, "75"), unhex(t, "b9a2d0e922dc66dd"), unhex(t, "2130166863b5ddef"))
	k = h.deriveKeys(skeyid, gxy, cookie(t, "83d374c30b3b5082"), cookie(t, "5afc0da06c728029"))
	same(t, "SKEYID by PSK", k.skeyid, "62b04d112877e442fc3282fc37c076997718a0b9")
	same(t, "SKEYID_d by PSK", k.skeyidD, "369e5aad1bdb5faf6a3d929d500cdc236710a9ab")
	same(t, "SKEYID_a by PSK", k.skeyidA, "588e957d8d790d093b3a39f121473473af78e9bb")
	same(t, "SKEYID_e by PSK", k.skeyidE, "cd74b0c048219db81384d3fda8f6cda51e398a2b")
}

// TestDerivations checks what follows from the first published set of keys.
// The values were computed from the formulas of RFC 2409 with another program.
func TestDerivations(t *testing.T) {
	h := newHash(sha1.New)
	skeyid := unhex(t, "707197817fb2d90cf54d1842606bdea59b9f4823")
	skeyidD := unhex(t, "384be709a8a5e63c3ed160cfe3921c4b37d5b32d")
	skeyidE := unhex(t, "a4a415c8e0c38c0da847c356cc61c24df8025560")
	ckyI, ckyR := cookie(t, "8c3bcd3a69831d7f"), cookie(t, "d2d9a7ff4fbe95a7")
	same(t, "AES-128 key", h.cipherKey(skeyidE, 16), "a4a415c8e0c38c0da847c356cc61c24d")
	const long = "4b556580207dfb05f77f1f860c70b9758630d4d97ef632e21601d6af34c38699"
	same(t, "AES-256 key", h.cipherKey(skeyidE, 32), long)
	same(t, "3DES key", h.cipherKey(skeyidE, 24), long[:48])

	gxi, gxr := bytes.Repeat([]byte{0x11}, 32), bytes.Repeat([]byte{0x22}, 32)
	iv := h.phase1IV(gxi, gxr, 16)
	same(t, "first IV", iv, "9e16538e7b8a384ed83b3117eadd6b51")
	same(t, "IV of an exchange", h.exchangeIV(iv, 0x01020304, 16), "31b18fb9ef721fcf25f84c6ad49c6df9")

	sai := unhex(t, "00000001000000010000002c01010001000000240101000080010005800200028003000180040002800b0001000c000400007080")
	id := unhex(t, "011101f4c0a80001")
	same(t, "HASH_I", h.authHash(skeyid, gxi, gxr, ckyI, ckyR, sai, id), "144597e9d92c7035de46f8f7d760c69963e1d60b")
	same(t, "HASH_R", h.authHash(skeyid, gxr, gxi, ckyR, ckyI, sai, id), "764196f93dffd8552762d44565c8091e06b10037")

	same(t, "NAT-D 500", h.natHash(ckyI, ckyR, netip.MustParseAddrPort("192.0.2.1:500")), "47f51ca55f41390a9fc2f69daf28438685e8f554")
	same(t, "NAT-D 4500", h.natHash(ckyI, ckyR, netip.MustParseAddrPort("192.0.2.1:4500")), "1136fa3b30feb7fdc7247081d8e68d8539409741")

	same(t, "KEYMAT", h.keymat(skeyidD, nil, 0xc0ffee01, unhex(t, "69a62284195f1680"), unhex(t, "80c94ba25c8abda5"), 52),
		"557d20d1aad07f4907c25da1136f33ca729ed618ef20b80671cf824d56282a6961beaee32ce19d651b929539707e846e8a9f0c48")
}

// TestShortHashes covers keys that are longer than two blocks of the prf.
func TestShortHashes(t *testing.T) {
	h := newHash(md5.New)
	k := h.cipherKey([]byte("sixteen bytes!!!"), 32)
	k1 := h.prf([]byte("sixteen bytes!!!"), []byte{0})
	if !bytes.Equal(k[:16], k1) || !bytes.Equal(k[16:], h.prf([]byte("sixteen bytes!!!"), k1)) {
		t.Errorf("expanded key %x", k)
	}
}

// TestPrimes checks that the computed groups are safe primes, and the beginning and
// end that RFC 2409 and RFC 3526 print for all of them.
func TestPrimes(t *testing.T) {
	for _, g := range groups {
		if g.prime == nil {
			continue
		}
		p := g.prime()
		text := strings.ToUpper(p.Text(16))
		if len(text) != g.size*2 || !strings.HasPrefix(text, "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E08") ||
			!strings.HasSuffix(text, "FFFFFFFFFFFFFFFF") {
			t.Errorf("%s: %s", g.name, text)
		}
		// 2 generates the subgroup of order q, so it is a square: one round of
		// the primality test is enough for constants that nobody chose.
		q := new(big.Int).Rsh(p, 1)
		if !p.ProbablyPrime(1) || !q.ProbablyPrime(1) {
			t.Errorf("%s is not a safe prime", g.name)
		}
	}
}

// TestExchange lets every group agree with itself, and refuse what it must.
func TestExchange(t *testing.T) {
	for _, g := range groups {
		a, err := g.newKey(zeroRand{1})
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.newKey(zeroRand{2})
		if err != nil {
			t.Fatal(err)
		}
		ab, err1 := a.secret(b.public)
		ba, err2 := b.secret(a.public)
		if err1 != nil || err2 != nil || !bytes.Equal(ab, ba) || len(a.public) != g.size {
			t.Errorf("%s: %v, %v, %x and %x", g.name, err1, err2, ab, ba)
		}
		if want := g.size; g.curve == nil && len(ab) != want || g.curve != nil && len(ab) != want/2 {
			t.Errorf("%s: secret of %d bytes", g.name, len(ab))
		}
		bad := [][]byte{nil, a.public[1:], append([]byte{0}, a.public...), make([]byte, g.size)}
		if g.prime != nil {
			one := make([]byte, g.size)
			one[g.size-1] = 1
			bad = append(bad, one, new(big.Int).Sub(g.prime(), big.NewInt(1)).Bytes(), g.prime().Bytes())
		} else {
			off := bytes.Clone(b.public)
			off[0] ^= 1
			bad = append(bad, off)
		}
		for _, ke := range bad {
			if _, err := a.secret(ke); err == nil {
				t.Errorf("%s accepts %x", g.name, ke)
			}
		}
	}
}

// TestSecretKeepsLeadingZeros: one exchange in 256 has a secret that is shorter as a
// number.
func TestSecretKeepsLeadingZeros(t *testing.T) {
	g := row(groups, func(g *group) bool { return g.name == "modp1024" })
	a := &dhKey{group: g, x: big.NewInt(1)} // g^xy is the peer's value itself
	small := make([]byte, g.size)
	small[g.size-1] = 5
	if got, err := a.secret(small); err != nil || !bytes.Equal(got, small) {
		t.Errorf("secret %x, %v", got, err)
	}
}

// zeroRand is a poor source of random bytes.
type zeroRand struct{ b byte }

func (z zeroRand) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = z.b
	}
	return len(b), nil
}
