package esp

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"slices"
	"testing"
)

// TestDESVectors are known answers for single DES, which 3DES with three equal keys is:
// SP 800-17 and SP 800-20. Those of the substitution tables meet each entry of the
// S-boxes.
func TestDESVectors(t *testing.T) {
	for _, v := range []struct{ key, plaintext, ciphertext string }{
		// Variable plaintext, and its inverse.
		{"0101010101010101", "8000000000000000", "95f8a5e5dd31d900"},
		{"0101010101010101", "4000000000000000", "dd7f121ca5015619"},
		{"0101010101010101", "0000000000000001", "166b40b44aba4bd6"},
		{"0101010101010101", "95f8a5e5dd31d900", "8000000000000000"},
		// Variable key.
		{"8001010101010101", "0000000000000000", "95a8d72813daa94d"},
		{"4001010101010101", "0000000000000000", "0eec1487dd8c26d5"},
		{"0101010101010102", "0000000000000000", "869efd7f9f265a09"},
		// Permutation operation.
		{"1046913489980131", "0000000000000000", "88d55e54f54c97b4"},
		{"1007103489988020", "0000000000000000", "0c0cc00c83ea48fd"},
		// Substitution tables.
		{"7ca110454a1a6e57", "01a1d6d039776742", "690f5b0d9a26939b"},
		{"0131d9619dc1376e", "5cd54ca83def57da", "7a389d10354bd271"},
		{"07a1133e4a0b2686", "0248d43806f67172", "868ebb51cab4599a"},
		{"3849674c2602319e", "51454b582ddf440a", "7178876e01f19b2a"},
		{"04b915ba43feb5b6", "42fd443059577fa2", "af37fb421f8c4095"},
		{"0113b970fd34f2ce", "059b5e0851cf143a", "86a560f10ec6d85b"},
		{"0170f175468fb5e6", "0756d8e0774761d2", "0cd3da020021dc09"},
		{"43297fad38e373fe", "762514b829bf486a", "ea676b2cb7db2b7a"},
		{"07a7137045da2a16", "3bdd119049372802", "dfd64a815caf1a0f"},
		{"04689104c2fd3b2f", "26955f6835af609a", "5c513c9c4886c088"},
		{"37d06bb516cb7546", "164d5e404f275232", "0a2aeeae3ff4ab77"},
		{"1f08260d1ac2465e", "6b056e18759f5cca", "ef1bf03e5dfa575a"},
		{"584023641aba6176", "004bd6ef09176062", "88bf0db6d70dee56"},
		{"025816164629b007", "480d39006ee762f2", "a1f9915541020b56"},
		{"49793ebc79b3258f", "437540c8698f3cfa", "6fbf1cafcffd0556"},
		{"4fb05e1515ab73a7", "072d43a077075292", "2f22e49bab7ca1ac"},
		{"49e95d6d4ca229bf", "02fe55778117f12a", "5a6b612cc26cce4a"},
		{"018310dc409b26d6", "1d9d5c5018f728c2", "5f4c038ed12b2e41"},
		{"1c587f1c13924fef", "305532286d6f295a", "63fac0d034d9f793"},
	} {
		key, want := unhex(t, v.key), unhex(t, v.ciphertext)
		c := expandTripleDES(slices.Concat(key, key, key))
		text := slices.Concat(make([]byte, 8), unhex(t, v.plaintext))
		c.encrypt([][]byte{text})
		if !bytes.Equal(text[8:], want) {
			t.Errorf("%s with %s: encrypted to %x, want %x", v.plaintext, v.key, text[8:], want)
		}
		c.decrypt(text[8:], text)
		if !bytes.Equal(text[8:], unhex(t, v.plaintext)) {
			t.Errorf("%s with %s: decrypted to %x, want %s", v.ciphertext, v.key, text[8:], v.plaintext)
		}
	}
}

// TestTripleDESVectors is the example of SP 800-67 Appendix B.1: three blocks, which do
// not depend on each other.
func TestTripleDESVectors(t *testing.T) {
	c := expandTripleDES(unhex(t, "0123456789abcdef 23456789abcdef01 456789abcdef0123"))
	plaintext := []byte("The qufck brown fox jump")
	want := unhex(t, "a826fd8ce53b855f cce21c8112256fe6 68d5c05dd9b6b900")
	var texts [][]byte
	for block := range slices.Chunk(plaintext, des.BlockSize) {
		texts = append(texts, slices.Concat(make([]byte, des.BlockSize), block))
	}
	c.encrypt(texts)
	for i, text := range texts {
		if block := text[des.BlockSize:]; !bytes.Equal(block, want[i*des.BlockSize:][:des.BlockSize]) {
			t.Errorf("block %d is %x", i, block)
		}
	}
}

// stdTripleDES is what the project's own is compared with.
func stdTripleDES(t testing.TB, key []byte) cbcCipher {
	t.Helper()
	block, err := des.NewTripleDESCipher(key)
	return overBlocks(t, block, err)
}

// TestWeakDESKeys: the weak and the semi-weak keys (SP 800-67), and keys that
// differ in their parity, make what the standard library makes of them.
func TestWeakDESKeys(t *testing.T) {
	weak := []string{
		"0101010101010101", "fefefefefefefefe", "e0e0e0e0f1f1f1f1", "1f1f1f1f0e0e0e0e",
		"011f011f010e010e", "1f011f010e010e01", "01e001e001f101f1", "e001e001f101f101",
		"01fe01fe01fe01fe", "fe01fe01fe01fe01", "1fe01fe00ef10ef1", "e01fe01ff10ef10e",
		"1ffe1ffe0efe0efe", "fe1ffe1ffe0efe0e", "e0fee0fef1fef1fe", "fee0fee0fef1fef1",
		"0000000000000000", "ffffffffffffffff", "0123456789abcdef", "0022446688aaccee",
	}
	for _, a := range weak {
		for _, b := range weak {
			key := slices.Concat(unhex(t, a), unhex(t, b), unhex(t, a))
			fuzzCBC(t, expandTripleDES(key), stdTripleDES(t, key), des.BlockSize, []byte{2, 0, 5}, unhex(t, b))
		}
	}
}

// FuzzTripleDES compares with the standard library.
func FuzzTripleDES(f *testing.F) {
	key := []byte("three keys of 64 bits...")
	f.Add(key, []byte{1}, []byte("a block"))
	f.Add(key, []byte{176, 176, 176, 176, 176, 176, 176, 176}, []byte("full packets"))
	f.Add(key, []byte{0, 4, 176, 5, 88, 1, 7, 8}, []byte("of any size"))
	f.Add(make([]byte, 24), []byte{255, 254, 9}, []byte{})
	f.Fuzz(func(t *testing.T, key, shape, data []byte) {
		if len(key) != 24 {
			return
		}
		fuzzCBC(t, expandTripleDES(key), stdTripleDES(t, key), des.BlockSize, shape, data)
	})
}

// BenchmarkDES is what the project's own 3DES has to beat: CBC decryption of a packet by
// the standard library, and by it.
func BenchmarkDES(b *testing.B) {
	key := []byte("three keys of 64 bits...")
	block, err := des.NewTripleDESCipher(key)
	if err != nil {
		b.Fatal(err)
	}
	text := make([]byte, des.BlockSize+benchInner)
	binary.BigEndian.PutUint64(text, 1)
	b.Run("crypto/des", func(b *testing.B) {
		mode := cipher.NewCBCDecrypter(block, text[:des.BlockSize])
		b.SetBytes(benchInner)
		for b.Loop() {
			mode.CryptBlocks(text[des.BlockSize:], text[des.BlockSize:])
		}
	})
	b.Run("own", func(b *testing.B) {
		c := expandTripleDES(key)
		b.SetBytes(benchInner)
		for b.Loop() {
			c.decrypt(text[des.BlockSize:], text)
		}
	})
}
