package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// recordedSA is one direction of a conversation that strongSwan's log gave the keys
// of.
type recordedSA struct {
	Suite, Client, Keymat string
	SPI                   uint32
	Packets               []struct{ ESP, Inner string }
}

func recorded(t *testing.T) (sas []recordedSA) {
	t.Helper()
	text, err := os.ReadFile("testdata/strongswan.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &sas); err != nil {
		t.Fatal(err)
	}
	return sas
}

// TestRecorded opens packets that strongSwan and vpnc exchanged with a strongSwan
// gateway, with the keys of the gateway's log; tshark decrypted the inner packets.
func TestRecorded(t *testing.T) {
	seen := map[string]bool{}
	for _, sa := range recorded(t) {
		seen[sa.Suite] = true
		t.Run(fmt.Sprintf("%s/%s/%08x", sa.Suite, sa.Client, sa.SPI), func(t *testing.T) {
			in, err := NewInbound(transformNamed(t, sa.Suite), sa.SPI, unhex(t, sa.Keymat))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range sa.Packets {
				packet := unhex(t, p.ESP)
				got, err := in.Open(make([]byte, len(packet)), packet)
				if err != nil || hex.EncodeToString(got) != p.Inner {
					t.Errorf("Open: %v\n got %x\nwant %s", err, got, p.Inner)
				}
			}
		})
	}
	for _, suite := range []string{
		"aes128gcm16", "aes192gcm16", "aes256gcm16", "aes128-md5", "aes128-sha1", "aes256-sha256",
		"aes192-sha384", "aes256-sha512", "3des-md5", "3des-sha1", "3des-sha256",
	} {
		if !seen[suite] {
			t.Errorf("no recording of %s", suite)
		}
	}
}

// TestRecordedShort opens the same packets without the last bytes of their ICVs: that
// is what peers send that cut it further.
func TestRecordedShort(t *testing.T) {
	short := []struct {
		from, to Transform // without key lengths
		cut      int       // bytes
	}{
		{Transform{Cipher: AESGCM16}, Transform{Cipher: AESGCM12}, 4},
		{Transform{Cipher: AESGCM16}, Transform{Cipher: AESGCM8}, 8},
		{Transform{Cipher: AESCBC, Integrity: HMACSHA256_128}, Transform{Cipher: AESCBC, Integrity: HMACSHA256_96}, 4},
		{Transform{Cipher: TripleDESCBC, Integrity: HMACSHA256_128}, Transform{Cipher: TripleDESCBC, Integrity: HMACSHA256_96}, 4},
	}
	opened := make([]int, len(short))
	for _, sa := range recorded(t) {
		tr := transformNamed(t, sa.Suite)
		for i, s := range short {
			if tr.Cipher != s.from.Cipher || tr.Integrity != s.from.Integrity {
				continue
			}
			in, err := NewInbound(Transform{s.to.Cipher, tr.KeyLen, s.to.Integrity}, sa.SPI, unhex(t, sa.Keymat))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range sa.Packets {
				packet := unhex(t, p.ESP)
				packet = packet[:len(packet)-s.cut]
				got, err := in.Open(make([]byte, len(packet)), packet)
				if err != nil || hex.EncodeToString(got) != p.Inner {
					t.Errorf("%s as %v: %v\n got %x\nwant %s", sa.Suite, s.to, err, got, p.Inner)
				}
				opened[i]++
			}
		}
	}
	for i, n := range opened {
		if n == 0 {
			t.Errorf("no packet for %v", short[i].to)
		}
	}
}

// rfc3602 are the test cases of RFC 3602 §4 that are IPsec packets. They have no
// ICV.
var rfc3602 = []struct {
	number            int
	key, packet, data string // data: as carried, without the trailer
	next              byte
}{
	{
		number: 5,
		key:    "90d382b4 10eeba7a d938c46c ec1a82bf",
		packet: `00004321 00000001 e96e8c08 ab465763 fd098d45 dd3ff893
			f663c25d 325c18c6 a9453e19 4e120849 a4870b66 cc6b9965 330013b4 898dc856
			a4699e52 3a55db08 0b59ec3a 8e4b7e52 775b07d1 db34ed9c 538ab50c 551b874a
			a269add0 47ad2d59 13ac19b7 cfbad4a6`,
		data: `08000ebd a70a0000 8e9c083d b95b0700 08090a0b 0c0d0e0f 10111213 14151617
			18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637`,
		next: 1,
	},
	{
		number: 6,
		key:    "90d382b4 10eeba7a d938c46c ec1a82bf",
		packet: `00004321 00000008 69d08df7 d203329d b093fc49 24e5bd80
			f5199588 1ec4e0c4 488987ce 742e8109 689bb379 d2d750c0 d915dca3 46a89f75`,
		data: "0800b5e8 a80a0500 a69c083d 0b660e00 77777777 77777777 77777777",
		next: 1,
	},
	{
		number: 7,
		key:    "01234567 89abcdef 01234567 89abcdef",
		packet: `00008765 00000002 f4e76524 4f6407ad f13dc138 0f673f37
			773b5241 a4c44922 5e4f3ce5 ed611b0c 237ca96c f74a9301 3c1b0ea1 a0cf70f8
			e4ecaec7 8ac53aad 7a0f022b 859243c6 47752e94 a859352b 8a4d4d2d ecd136e5
			c177f132 ad3fbfb2 201ac990 4c74ee0a 109e0ca1 e4dfe9d5 a100b842 f1c22f0d`,
		data: `45000054 09040000 4001f988 c0a87b03 c0a87bc8 08009f76 a90a0100 b49c083d
			02a20400 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f 20212223
			24252627 28292a2b 2c2d2e2f 30313233 34353637`,
		next: 4,
	},
	{
		number: 8,
		key:    "01234567 89abcdef 01234567 89abcdef",
		packet: `00008765 00000005 85d47224 b5f3dd5d 2101d4ea 8dffab22
			15b92683 819596a8 047232cc 00f7048f e45318e1 1f8a0f62 ede3c3fc 61203bb5
			0f980a08 c9843fd3 a1b06d5c 07ff9639 b7eb7dfb 3512e5de 435e7207 ed971ef3
			d2726d9b 5ef6affc 6d17a0de cbb13892`,
		data: `45000044 090c0000 4001f990 c0a87b03 c0a87bc8 0800d63c aa0a0200 c69c083d
			a3de0300 ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff
			ffffffff`,
		next: 4,
	},
}

// TestRFC3602 adds an ICV to the published packets. The tunnel-mode ones are
// made, byte by byte, and opened; transport-mode ones are decrypted and refused.
func TestRFC3602(t *testing.T) {
	for _, tt := range rfc3602 {
		t.Run(fmt.Sprint("case ", tt.number), func(t *testing.T) {
			published, data := unhex(t, tt.packet), unhex(t, tt.data)
			macKey := bytes.Repeat([]byte{0x0b}, 32)
			ref := refSA{
				t:      Transform{AESCBC, 16, HMACSHA256_128},
				spi:    binary.BigEndian.Uint32(published),
				keymat: append(unhex(t, tt.key), macKey...),
			}
			packet := append(bytes.Clone(published), ref.mac(t, published)...)

			dst := make([]byte, len(packet))
			inner, err := ref.inbound(t).Open(dst, packet)
			if !bytes.Equal(dst[:len(data)], data) {
				t.Errorf("decrypted:\n got %x\nwant %x", dst[:len(data)], data)
			}
			if tt.next == 1 {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("transport mode: Open returned %v, want %v", err, ErrMalformed)
				}
				return
			}
			if err != nil || !bytes.Equal(inner, data) {
				t.Errorf("Open: %x, %v", inner, err)
			}
			iv := append(bytes.Clone(published[8:24]), make([]byte, 4096)...)
			out, err := NewOutbound(ref.t, ref.spi, ref.keymat, bytes.NewReader(iv))
			if err != nil {
				t.Fatal(err)
			}
			out.sequence = uint32(published[7]) - 1
			if got := sealed(t, out, data); !bytes.Equal(got, packet) {
				t.Errorf("Seal:\n got %x\nwant %x", got, packet)
			}
		})
	}
}

// TestGCMVectors are the cases of draft-mcgrew-gcm-test-01 §4 with a 32-bit
// sequence number, with the whole ICV and with its first 12 and 8 bytes (RFC 4106
// §6, SP 800-38D §7.1). They are packets whose next header is 1, which Open refuses
// once it has decrypted them; the IVs are not those that Seal takes.
func TestGCMVectors(t *testing.T) {
	for _, tt := range []struct{ key, salt, packet, plaintext string }{
		{
			key: "feffe992 8665731c 6d6a8f94 67308308", salt: "cafebabe",
			packet: `0000a5f8 0000000a facedbad decaf888
				deb22cd9 b07c72c1 6e3a65be eb8df304 a5a5897d 33ae530f 1ba76d5d 114d2a5c
				3de81827 c10e9a4f 51330d0e ec416642 cfbb85a5 b47e48a4 ec3b9ba9 5d918bd1
				83b70d3a a8bc6ee4 c309e9d8 5a41ad4a`,
			plaintext: `4500003e 698f0000 80114dcc c0a80102 c0a80101 0a980035 002a2343 b2d00100
				00010000 00000000 03736970 09637962 65726369 74790264 6b000001 00010001`,
		},
		{
			key: "feffe992 8665731c 6d6a8f94 67308308 feffe992 8665731c", salt: "cafebabe",
			packet: `0000a5f8 0000000a facedbad decaf888
				a5b1f806 6029aea4 0e598b81 22de0242 0938b3ab 33f828e6 87b8858b 5bfbdbd0
				315b2745 2144cc77 95457b96 52037f53 18027b5b 4cd7a636`,
			plaintext: `45000028 a4ad4000 40067880 0a01038f 0a010612 802306b8 cb712602 dd6bb03e
				501016d0 75680001`,
		},
		{
			key: "abbccdde f0011223 34455667 78899aab abbccdde f0011223 34455667 78899aab", salt: "11223344",
			packet: `4a2cbfe3 00000002 01020304 05060708
				ff425c9b 724599df 7a3bcd51 0194e00d 6a78107f 1b0b1cbf 06efae9d 65a5d763
				748a6379 85771d34 7f054565 9f14e99d ef842d8e
				b335f4ee cfdbf831 824b4c49 15956c96`,
			plaintext: `45000030 69a64000 80062690 c0a80102 9389155e 0a9e008b 2dc57ee0 00000000
				70024000 20bf0000 020405b4 01010402 01020201`,
		},
		{
			key: "7d773d00 c144c525 ac619d18 c84a3f47", salt: "d9664267",
			packet: `335467ae ffffffff 43457e91 82443bc6
				437f866b cb3f699f e9b0822b ac961c45 04bef270`,
			plaintext: "01020201",
		},
	} {
		key, packet, want := unhex(t, tt.key), unhex(t, tt.packet), unhex(t, tt.plaintext)
		spi := binary.BigEndian.Uint32(packet)
		keymat := slices.Concat(key, unhex(t, tt.salt))
		for c, short := range map[Cipher]int{AESGCM16: 0, AESGCM12: 4, AESGCM8: 8} {
			in, err := NewInbound(Transform{c, len(key), None}, spi, keymat)
			if err != nil {
				t.Fatal(err)
			}
			dst := make([]byte, len(packet))
			if _, err := in.Open(dst, packet[:len(packet)-short]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v, SPI %#x: Open returned %v, want %v", c, spi, err, ErrMalformed)
			}
			if !bytes.Equal(dst[:len(want)], want) {
				t.Errorf("%v, SPI %#x:\n got %x\nwant %x", c, spi, dst[:len(want)], want)
			}
		}
	}
}

// TestCTRVectors are those of RFC 3686 §6. They have no ESP around them.
func TestCTRVectors(t *testing.T) {
	counting := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i)
		}
		return hex.EncodeToString(b)
	}
	text := hex.EncodeToString([]byte("Single block msg"))
	for i, tt := range []struct{ key, nonce, iv, plaintext, ciphertext string }{
		{
			"ae6852f8 121067cc 4bf7a576 5577f39e", "00000030", "00000000 00000000", text,
			"e4095d4f b7a7b379 2d6175a3 261311b8",
		},
		{
			"7e240678 17fae0d7 43d6ce1f 32539163", "006cb6db", "c0543b59 da48d90b", counting(32),
			"5104a106 168a72d9 790d41ee 8edad388 eb2e1efc 46da57c8 fce630df 9141be28",
		},
		{
			"7691be03 5e5020a8 ac6e6185 29f9a0dc", "00e0017b", "27777f3f 4a1786f0", counting(36),
			"c1cf48a8 9f2ffdd9 cf4652e9 efdb72d7 4540a42b de6d7836 d59a5cea aef31053 25b2072f",
		},
		{
			"16af5b14 5fc9f579 c175f93e 3bfb0eed 863d06cc fdb78515", "00000048", "36733c14 7d6d93cb", text,
			"4b55384f e259c9c8 4e7935a0 03cbe928",
		},
		{
			"7c5cb240 1b3dc33c 19e73408 19e0f69c 678c3db8 e6f6a91a", "0096b03b", "020c6ead c2cb500d", counting(32),
			"453243fc 609b2332 7edfaafa 7131cd9f 8490701c 5ad4a79c fc1fe0ff 42f4fb00",
		},
		{
			"02bf391e e8ecb159 b959617b 0965279b f59b60a7 86d3e0fe", "0007bdfd", "5cbd6027 8dcc0912", counting(36),
			"96893fc5 5e5c722f 540b7dd1 ddf7e758 d288bc95 c6916588 4536c811 662f2188 abee0935",
		},
		{
			"776beff2 851db06f 4c8a0542 c8696f6c 6a81af1e ec96b4d3 7fc1d689 e6c1c104", "00000060", "db5672c9 7aa8f0b2", text,
			"145ad01d bf824ec7 560863dc 71e3e0c0",
		},
		{
			"f6d66d6b d52d59bb 07963658 79eff886 c66dd51a 5b6a9974 4b50590c 87a23884", "00faac24", "c1585ef1 5a43d875", counting(32),
			"f05e231b 3894612c 49ee000b 804eb2a9 b8306b50 8f839d6a 5530831d 9344af1c",
		},
		{
			"ff7a617c e69148e4 f1726e2f 43581de2 aa62d9f8 05532edf f1eed687 fb54153d", "001cc5b7", "51a51d70 a1c11148", counting(36),
			"eb6c5282 1d0bbbf7 ce759446 2aca4faa b407df86 6569fd07 f48cc0b5 83d6071f 1ec0e6b8",
		},
	} {
		c, err := newCTR(&parts{key: unhex(t, tt.key), salt: unhex(t, tt.nonce)})
		if err != nil {
			t.Fatal(err)
		}
		packet := slices.Concat(make([]byte, headerLen), unhex(t, tt.iv), unhex(t, tt.ciphertext))
		got := make([]byte, len(tt.plaintext)/2)
		for range 2 { // nothing of a packet stays behind
			c.decrypt(got, packet)
			if hex.EncodeToString(got) != tt.plaintext {
				t.Errorf("vector %d: got %x, want %s", i+1, got, tt.plaintext)
			}
		}
	}
}

// TestXCBCVectors are those of RFC 3566 §4.6, whole and cut.
func TestXCBCVectors(t *testing.T) {
	message := make([]byte, 34)
	for i := range message {
		message[i] = byte(i)
	}
	alg := integrityAlgs[AESXCBC_96]
	a, err := alg.new(message[:16])
	if err != nil {
		t.Fatal(err)
	}
	if alg.key != 16 || alg.icv != 12 {
		t.Errorf("key of %d bytes, ICV of %d", alg.key, alg.icv)
	}
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{nil, "75f0251d528ac01c4573dfd584d79f29"},
		{message[:3], "5b376580ae2f19afe7219ceef172756f"},
		{message[:16], "d2a246fa349b68a79998a4394ff7a263"},
		{message[:20], "47f51b4564966215b8985c63055ed308"},
		{message[:32], "f54f0ec8d2b9f3d36807734bd5283fd4"},
		{message, "becbb3bccdb518a30677d5481fb6b4d8"},
		{make([]byte, 1000), "f0dafee895db30253761103b5d84528f"},
	} {
		if got := hex.EncodeToString(a.compute(tt.data)); got != tt.want {
			t.Errorf("%d bytes: got %s, want %s", len(tt.data), got, tt.want)
		}
	}
}

// TestHMACVectors are published values, cut as ESP cuts them: RFC 2202 test case 5
// states the truncated value, RFC 4868 §2.7.2.3 has keys of the full length.
func TestHMACVectors(t *testing.T) {
	for _, tt := range []struct {
		alg       Integrity
		key, want string
		data      string
	}{
		{HMACMD5_96, strings.Repeat("0c", 16), "56461ef2342edc00f9bab995", "Test With Truncation"},
		{HMACSHA1_96, strings.Repeat("0c", 20), "4c1a03424b55e07fe7f27be1", "Test With Truncation"},
		{HMACMD5_96, strings.Repeat("0b", 16), "9294727a3638bb1c13f48ef8", "Hi There"},
		{HMACSHA1_96, strings.Repeat("0b", 20), "b617318655057264e28bc0b6", "Hi There"},
		{HMACSHA256_128, strings.Repeat("0b", 32), "198a607eb44bfbc69903a0f1cf2bbdc5", "Hi There"},
		{HMACSHA256_96, strings.Repeat("0b", 32), "198a607eb44bfbc69903a0f1", "Hi There"},
		{HMACSHA384_192, strings.Repeat("0b", 48), "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973", "Hi There"},
		{HMACSHA512_256, strings.Repeat("0b", 64), "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8", "Hi There"},
	} {
		alg := integrityAlgs[tt.alg]
		key := unhex(t, tt.key)
		if len(key) != alg.key {
			t.Errorf("%v: key of %d bytes, want %d", tt.alg, alg.key, len(key))
		}
		a, err := alg.new(key)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second from the cached state
			if got := hex.EncodeToString(a.compute([]byte(tt.data))[:alg.icv]); got != tt.want {
				t.Errorf("%v of %q: got %s, want %s", tt.alg, tt.data, got, tt.want)
			}
		}
	}
}
