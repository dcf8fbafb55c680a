package ike

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"

	"wayfarer/ike/isakmp"
)

func cookie(s string) (c isakmp.Cookie) {
	copy(c[:], unhex(s))
	return c
}

func wantHex(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s = %x, want %s", what, got, want)
	}
}

func mustIKE(t *testing.T, name string) IKESuite {
	t.Helper()
	s, err := ParseIKESuite(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSKEYID checks the SKEYID family against NIST's CAVP vectors for IKEv1 with
// SHA-1.
func TestSKEYID(t *testing.T) {
	for _, v := range []struct {
		name, gxy, psk, ni, nr, i, r string
		skeyid, d, a, e              string
	}{
		{
			name: "signature", gxy: "8ba4cbc73c0187301dc19a975823854dbd641c597f637f8d053a83b9514673eb",
			ni: "69a62284195f1680", nr: "80c94ba25c8abda5", i: "8c3bcd3a69831d7f", r: "d2d9a7ff4fbe95a7",
			skeyid: "707197817fb2d90cf54d1842606bdea59b9f4823", d: "384be709a8a5e63c3ed160cfe3921c4b37d5b32d",
			a: "48b327575abe3adba0f279849e289022a13e2b47", e: "a4a415c8e0c38c0da847c356cc61c24df8025560",
		},
		{
			name: "pre-shared key", gxy: "739003ba2c11c982946c65e26acf661fbf8ebb78011a9fead79efa12fe3e71cc", psk: "75",
			ni: "b9a2d0e922dc66dd", nr: "2130166863b5ddef", i: "83d374c30b3b5082", r: "5afc0da06c728029",
			skeyid: "62b04d112877e442fc3282fc37c076997718a0b9", d: "369e5aad1bdb5faf6a3d929d500cdc236710a9ab",
			a: "588e957d8d790d093b3a39f121473473af78e9bb", e: "cd74b0c048219db81384d3fda8f6cda51e398a2b",
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			suite := mustIKE(t, "aes128-sha1-modp2048")
			skeyid := skeyidSignature(crypto.SHA1, unhex(v.ni), unhex(v.nr), unhex(v.gxy))
			if v.psk != "" {
				skeyid = skeyidPSK(crypto.SHA1, unhex(v.psk), unhex(v.ni), unhex(v.nr))
			}
			wantHex(t, "SKEYID", skeyid, v.skeyid)
			k, err := newPhase1Keys(suite, skeyid, unhex(v.gxy), cookie(v.i), cookie(v.r))
			if err != nil {
				t.Fatal(err)
			}
			wantHex(t, "SKEYID_d", k.skeyidD, v.d)
			wantHex(t, "SKEYID_a", k.skeyidA, v.a)
			wantHex(t, "SKEYID_e", k.skeyidE, v.e)
		})
	}
}

// TestDerivations are values that were computed from the formulas of RFC 2409 by
// another program for the first vector of TestSKEYID.
func TestDerivations(t *testing.T) {
	gxy := unhex("8ba4cbc73c0187301dc19a975823854dbd641c597f637f8d053a83b9514673eb")
	ni, nr := unhex("69a62284195f1680"), unhex("80c94ba25c8abda5")
	i, r := cookie("8c3bcd3a69831d7f"), cookie("d2d9a7ff4fbe95a7")
	gxi, gxr := bytes.Repeat([]byte{0x11}, 32), bytes.Repeat([]byte{0x22}, 32)
	skeyid := skeyidSignature(crypto.SHA1, ni, nr, gxy)
	for name, key := range map[string]string{
		"aes128-sha1-modp2048": "a4a415c8e0c38c0da847c356cc61c24d",
		"aes256-sha1-modp2048": "4b556580207dfb05f77f1f860c70b9758630d4d97ef632e21601d6af34c38699",
		"3des-sha1-modp2048":   "4b556580207dfb05f77f1f860c70b9758630d4d97ef632e2",
	} {
		k, err := newPhase1Keys(mustIKE(t, name), skeyid, gxy, i, r)
		if err != nil {
			t.Fatal(err)
		}
		wantHex(t, name, k.cipherKey, key)
	}

	k, err := newPhase1Keys(mustIKE(t, "aes128-sha1-modp2048"), skeyid, gxy, i, r)
	if err != nil {
		t.Fatal(err)
	}
	iv0 := initialIV(mustIKE(t, "aes128-sha1-modp2048"), gxi, gxr, 16)
	wantHex(t, "IV0", iv0, "9e16538e7b8a384ed83b3117eadd6b51")
	wantHex(t, "derived IV", derivedIV(crypto.SHA1, iv0, 0x01020304), "31b18fb9ef721fcf25f84c6ad49c6df9")
	saiB := unhex("00000001000000010000002c01010001000000240101000080010005800200028003000180040002800b0001000c000400007080")
	idB := unhex("011101f4c0a80001")
	wantHex(t, "HASH_I", k.hashI(crypto.SHA1, gxi, gxr, i, r, saiB, idB), "144597e9d92c7035de46f8f7d760c69963e1d60b")
	wantHex(t, "HASH_R", k.hashR(crypto.SHA1, gxi, gxr, i, r, saiB, idB), "764196f93dffd8552762d44565c8091e06b10037")
	for port, want := range map[uint16]string{
		500: "47f51ca55f41390a9fc2f69daf28438685e8f554", 4500: "1136fa3b30feb7fdc7247081d8e68d8539409741",
	} {
		wantHex(t, "NAT-D", natdHash(crypto.SHA1, i, r, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)), want)
	}
	wantHex(t, "KEYMAT", k.keymat(nil, isakmp.ProtoESP, 0xc0ffee01, ni, nr, 52),
		"557d20d1aad07f4907c25da1136f33ca729ed618ef20b80671cf824d56282a6961beaee32ce19d651b929539707e846e8a9f0c48")

	k.zero()
	for _, b := range [][]byte{k.skeyid, k.skeyidD, k.skeyidA, k.skeyidE, k.cipherKey} {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Error("a key survives zero")
		}
	}
}

// TestKeysLeaveNoCopies: what a key is made of is overwritten but for the key itself.
func TestKeysLeaveNoCopies(t *testing.T) {
	var parts [][]byte
	key := expand(crypto.SHA256, 72, nil, func(last []byte) []byte {
		parts = append(parts, prf(crypto.SHA256, []byte("secret"), last))
		return parts[len(parts)-1]
	})
	if len(parts) != 3 || len(key) != 72 || slices.Equal(key, make([]byte, 72)) {
		t.Fatalf("%d parts, key %x", len(parts), key)
	}
	for _, p := range append(parts, key[72:cap(key)]) {
		if !slices.Equal(p, make([]byte, len(p))) {
			t.Errorf("%x is left", p)
		}
	}
}
