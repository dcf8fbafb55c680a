package esp

import (
	"bytes"
	"crypto/sha1"
	"strings"
	"testing"
)

func TestLayout(t *testing.T) {
	for _, tt := range transforms {
		if _, err := tt.t.layout(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, tt := range []struct {
		t    Transform
		want string
	}{
		{Transform{}, "unknown cipher 0"},
		{Transform{9, 16, HMACSHA1_96}, "unknown cipher 9"},
		{Transform{AESCBC, 0, HMACSHA1_96}, "AES-CBC has no key of 0 bytes"},
		{Transform{AESCBC, 20, HMACSHA1_96}, "AES-CBC has no key of 20 bytes"},
		{Transform{AESGCM16, 20, None}, "AES-GCM-16 has no key of 20 bytes"},
		{Transform{AESGCM8, 20, None}, "AES-GCM-8 has no key of 20 bytes"},
		{Transform{AESCTR, 20, HMACSHA1_96}, "AES-CTR has no key of 20 bytes"},
		{Transform{TripleDESCBC, 16, HMACSHA1_96}, "3DES-CBC has no key of 16 bytes"},
		{Transform{TripleDESCBC, 8, HMACSHA1_96}, "3DES-CBC has no key of 8 bytes"},
		{Transform{AESCBC, 16, None}, "AES-CBC needs an integrity algorithm, got none"},
		{Transform{TripleDESCBC, 24, None}, "3DES-CBC needs an integrity algorithm, got none"},
		{Transform{AESCTR, 16, None}, "AES-CTR needs an integrity algorithm, got none"},
		{Transform{AESCBC, 16, 77}, "AES-CBC needs an integrity algorithm, got integrity 77"},
		{Transform{AESGCM16, 16, HMACSHA1_96}, "AES-GCM-16 takes no other integrity algorithm, got HMAC-SHA1-96"},
		{Transform{AESGCM12, 16, AESXCBC_96}, "AES-GCM-12 takes no other integrity algorithm, got AES-XCBC-MAC-96"},
		{Transform{AESGCM8, 16, HMACSHA256_96}, "AES-GCM-8 takes no other integrity algorithm, got HMAC-SHA2-256-96"},
	} {
		_, err := tt.t.layout()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want %q", tt.t, err, tt.want)
		}
		if n := tt.t.KeyMaterialLen(); n != 0 {
			t.Errorf("%v: KeyMaterialLen %d", tt.t, n)
		}
		if n := tt.t.HeaderLen(); n != 0 {
			t.Errorf("%v: HeaderLen %d", tt.t, n)
		}
		if n := tt.t.MaxInner(1500, false); n != 0 {
			t.Errorf("%v: MaxInner %d", tt.t, n)
		}
		if _, err := NewOutbound(tt.t, testSPI, make([]byte, 36), newRand(1)); err == nil {
			t.Errorf("%v: NewOutbound takes it", tt.t)
		}
		if _, err := NewInbound(tt.t, testSPI, make([]byte, 36)); err == nil {
			t.Errorf("%v: NewInbound takes it", tt.t)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		name           string
		keymat, header int
	}{
		{"aes128gcm16", 20, 16},
		{"aes192gcm16", 28, 16},
		{"aes256gcm16", 36, 16},
		{"aes128-md5", 32, 24},
		{"aes128-sha1", 36, 24},
		{"aes256-sha256", 64, 24},
		{"aes192-sha384", 72, 24},
		{"aes256-sha512", 96, 24},
		{"aes128gcm12", 20, 16},
		{"aes256gcm8", 36, 16},
		{"aes128ctr-sha1", 40, 16},
		{"aes192ctr-md5", 44, 16},
		{"aes256ctr-sha512", 100, 16},
		{"aes128-aesxcbc", 32, 24},
		{"aes256ctr-aesxcbc", 52, 16},
		{"aes128-sha256_96", 48, 24},
		{"3des-sha1", 44, 16},
		{"3des-md5", 40, 16},
	} {
		tr := transformNamed(t, tt.name)
		if got := tr.KeyMaterialLen(); got != tt.keymat {
			t.Errorf("%s: KeyMaterialLen %d, want %d", tt.name, got, tt.keymat)
		}
		if got := tr.HeaderLen(); got != tt.header {
			t.Errorf("%s: HeaderLen %d, want %d", tt.name, got, tt.header)
		}
	}
}

func TestMaxInnerTable(t *testing.T) {
	for _, tt := range []struct {
		name                               string
		at1500, at1492, at1400, at1280, v6 int
	}{
		{"aes128-sha1", 1422, 1422, 1326, 1214, 1406},
		{"aes256-md5", 1422, 1422, 1326, 1214, 1406},
		{"aes256-sha256", 1422, 1422, 1326, 1198, 1406},
		{"aes256-sha384", 1422, 1406, 1310, 1198, 1390},
		{"aes256-sha512", 1406, 1406, 1310, 1182, 1390},
		{"3des-sha1", 1438, 1430, 1342, 1222, 1422},
		{"aes128gcm16", 1438, 1430, 1338, 1218, 1418},
		{"aes128gcm12", 1442, 1434, 1342, 1222, 1422},
		{"aes128gcm8", 1446, 1438, 1346, 1226, 1426},
		{"aes128ctr-sha1", 1442, 1434, 1342, 1222, 1422},
		{"aes128-aesxcbc", 1422, 1422, 1326, 1214, 1406},
		{"aes128-sha256_96", 1422, 1422, 1326, 1214, 1406},
	} {
		tr := transformNamed(t, tt.name)
		for _, c := range []struct {
			mtu  int
			v6   bool
			want int
		}{{1500, false, tt.at1500}, {1492, false, tt.at1492}, {1400, false, tt.at1400}, {1280, false, tt.at1280}, {1500, true, tt.v6}} {
			if got := tr.MaxInner(c.mtu, c.v6); got != c.want {
				t.Errorf("%s, MTU %d, IPv6 %v: %d, want %d", tt.name, c.mtu, c.v6, got, c.want)
			}
		}
	}
}

// TestMaxInnerIsMax seals packets of that size, which must fit, and one byte
// longer, which must not.
func TestMaxInnerIsMax(t *testing.T) {
	rand := newRand(2)
	for _, tt := range transforms {
		out := newRef(tt.t, rand).outbound(t, rand)
		for mtu := 1280; mtu < 1280+2*16; mtu++ { // two blocks of each residue
			n := tt.t.MaxInner(mtu, false)
			if got := 28 + len(sealed(t, out, ipv4(rand, n))); got > mtu {
				t.Fatalf("%s: inner packet of %d bytes makes %d, MTU %d", tt.name, n, got, mtu)
			}
			if got := 28 + len(sealed(t, out, ipv4(rand, n+1))); got <= mtu {
				t.Fatalf("%s: inner packet of %d bytes would fit, MTU %d", tt.name, n+1, mtu)
			}
		}
		for _, mtu := range []int{-1 << 30, -1, 0, 28, 60, 65} {
			if n := tt.t.MaxInner(mtu, true); n != 0 {
				t.Errorf("%s, MTU %d: %d, want 0", tt.name, mtu, n)
			}
		}
	}
}

func TestNewErrors(t *testing.T) {
	cbc := Transform{AESCBC, 16, HMACSHA1_96}
	tripleDES := Transform{TripleDESCBC, 24, HMACSHA1_96}
	k1, k2, k3 := bytes.Repeat([]byte{0x10}, 8), bytes.Repeat([]byte{0x22}, 8), bytes.Repeat([]byte{0x32}, 8)
	k1parity := bytes.Repeat([]byte{0x11}, 8)
	mac := make([]byte, sha1.Size)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name   string
		t      Transform
		spi    uint32
		keymat []byte
		want   string // empty: it is taken
	}{
		{"right", cbc, 1, make([]byte, 36), ""},
		{"SPI zero", cbc, 0, make([]byte, 36), "SPI of zero"},
		{"key material too short", cbc, 1, make([]byte, 35), "35 bytes of key material, want 36"},
		{"key material too long", cbc, 1, make([]byte, 37), "37 bytes of key material, want 36"},
		{"no key material", cbc, 1, nil, "0 bytes of key material, want 36"},
		{"3DES", tripleDES, 1, join(k1, k2, k3, mac), ""},
		{"two-key 3DES", tripleDES, 1, join(k1, k2, k1, mac), ""},
		{"K1 = K2", tripleDES, 1, join(k1, k1, k3, mac), "single DES"},
		{"K2 = K3", tripleDES, 1, join(k1, k2, k2, mac), "single DES"},
		{"K1 = K2 but for parity", tripleDES, 1, join(k1, k1parity, k3, mac), "single DES"},
	} {
		_, errOut := NewOutbound(tt.t, tt.spi, tt.keymat, newRand(1))
		_, errIn := NewInbound(tt.t, tt.spi, tt.keymat)
		for _, err := range []error{errOut, errIn} {
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
			}
		}
	}
	if _, err := NewOutbound(cbc, 1, make([]byte, 36), nil); err == nil {
		t.Error("CBC without a source of IVs is taken")
	}
	for _, tr := range []Transform{{AESGCM16, 16, None}, {AESGCM8, 16, None}, {AESCTR, 16, HMACSHA1_96}} {
		if _, err := NewOutbound(tr, 1, make([]byte, tr.KeyMaterialLen()), nil); err != nil {
			t.Errorf("%v needs no source of IVs: %v", tr.Cipher, err)
		}
	}
}

// TestKeyMaterialIsCopied: the caller may wipe it at once.
func TestKeyMaterialIsCopied(t *testing.T) {
	for _, tt := range transforms {
		rand := newRand(3)
		ref := newRef(tt.t, rand)
		keymat := bytes.Clone(ref.keymat)
		in, err := NewInbound(tt.t, testSPI, keymat)
		if err != nil {
			t.Fatal(err)
		}
		out, err := NewOutbound(tt.t, testSPI, keymat, rand)
		if err != nil {
			t.Fatal(err)
		}
		clear(keymat)
		inner := ipv4(rand, 100)
		packet := sealed(t, out, inner)
		if want := ref.seal(t, 1, packet[8:8+ref.ivLen()], inner); !bytes.Equal(packet, want) {
			t.Errorf("%s: Seal uses the caller's key material", tt.name)
		}
		if got, err := in.Open(make([]byte, len(packet)), packet); err != nil || !bytes.Equal(got, inner) {
			t.Errorf("%s: Open uses the caller's key material: %v", tt.name, err)
		}
	}
}
