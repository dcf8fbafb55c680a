package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// kernel is the AES kernel of this processor with a key.
func kernel(t testing.TB, key []byte) cbcCipher {
	t.Helper()
	c := newAESCBC(key)
	if c == nil {
		t.Skip("this processor has no AES instructions that the kernel knows")
	}
	return c
}

// stdAES is what the kernel is compared with.
func stdAES(t testing.TB, key []byte) cbcCipher {
	t.Helper()
	block, err := aes.NewCipher(key)
	return overBlocks(t, block, err)
}

// overBlocks is the standard library's CBC with a cipher that was just made.
func overBlocks(t testing.TB, block cipher.Block, err error) cbcCipher {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newStdCBC(block)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWithoutKernel has packets made and opened where the processor's instructions must
// not be used. In an emulator, which EMULATOR names, the test cannot start itself without.
func TestWithoutKernel(t *testing.T) {
	const setting = "cpu.aes=off"
	if os.Getenv("GODEBUG") == setting {
		if newAESCBC(make([]byte, 16)) != nil {
			t.Error("there is a kernel")
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := append(strings.Fields(os.Getenv("EMULATOR")), self, "-test.run=^Test(WithoutKernel|Recorded|RFC3602|CBCVectors|BeginMany|ZeroFinishes|OpenPlaces|OutboundZero)$")
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "GODEBUG="+setting)
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("the test runs in an emulator: EMULATOR must name it")
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// cbcVectors are examples for CBC mode: SP 800-38A §F.2.1 to §F.2.6.
var cbcVectors = []struct{ key, ciphertext string }{
	{
		"2b7e151628aed2a6abf7158809cf4f3c",
		`7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
			73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7`,
	},
	{
		"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
		`4f021db243bc633d7178183a9fa071e8 b4d9ada9ad7dedf4e5e738763f69145a
			571b242012fb7ae07fa9baac3df102e0 08b0e27988598881d920a9e64f5615cd`,
	},
	{
		"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
		`f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d
			39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b`,
	},
}

func TestCBCVectors(t *testing.T) {
	iv := unhex(t, "000102030405060708090a0b0c0d0e0f")
	plaintext := unhex(t, `6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
		30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710`)
	for name, newCBC := range map[string]func(testing.TB, []byte) cbcCipher{"kernel": kernel, "standard library": stdAES} {
		t.Run(name, func(t *testing.T) {
			for _, v := range cbcVectors {
				c := newCBC(t, unhex(t, v.key))
				want := slices.Concat(iv, unhex(t, v.ciphertext))
				text := slices.Concat(iv, plaintext)
				c.encrypt([][]byte{text})
				if !bytes.Equal(text, want) {
					t.Errorf("encrypted to %x, want %x", text, want)
				}
				got := make([]byte, len(plaintext))
				c.decrypt(got, want)
				if !bytes.Equal(got, plaintext) {
					t.Errorf("decrypted to %x, want %x", got, plaintext)
				}
			}
		})
	}
}

// TestKeyExpansion has the last round keys of FIPS 197 Appendix A.
func TestKeyExpansion(t *testing.T) {
	for _, v := range []struct{ key, last string }{
		{"2b7e151628aed2a6abf7158809cf4f3c", "d014f9a8c9ee2589e13f0cc8b6630ca6"},
		{"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "e98ba06f448c773c8ecc720401002202"},
		{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "fe4890d1e6188d0b046df344706c631e"},
	} {
		c := kernel(t, unhex(t, v.key)).(*aesCBC)
		last := unhex(t, v.last)
		if got := c.enc[c.rounds*aes.BlockSize:][:aes.BlockSize]; !bytes.Equal(got, last) {
			t.Errorf("last round key %x, want %x", got, last)
		}
		if got := c.dec[:aes.BlockSize]; !bytes.Equal(got, last) {
			t.Errorf("first round key of decryption %x, want %x", got, last)
		}
	}
}

// fuzzCBC compares a cipher with the standard library: texts of the lengths that shape
// says, in blocks, between bytes that must stay as they are.
func fuzzCBC(t *testing.T, c, std cbcCipher, size int, shape, data []byte) {
	const guard = 0xa5
	random := newRand(byte(len(data)))
	var texts, wants [][]byte
	var memory []byte
	for _, blocks := range shape[:min(len(shape), maxLanes)] {
		n := (1 + int(blocks)) * size
		text := randomBytes(random, n)
		copy(text, data)
		memory = append(append(memory, text...), guard)
		wants = append(wants, text)
	}
	rest := memory
	for _, want := range wants {
		texts, rest = append(texts, rest[:len(want):len(want)]), rest[len(want)+1:]
	}
	plain := slices.Clone(memory)

	c.encrypt(texts)
	std.encrypt(wants)
	if !slices.EqualFunc(texts, wants, bytes.Equal) {
		t.Fatalf("encrypted %x to %x, want %x", plain, texts, wants)
	}
	rest = memory
	for _, text := range texts {
		if rest[len(text)] != guard {
			t.Fatal("something was written behind a text")
		}
		rest = rest[len(text)+1:]
		want := make([]byte, len(text)-size)
		std.decrypt(want, text)
		got := bytes.Repeat([]byte{guard}, len(want)+1)
		c.decrypt(got[:len(want)], text)
		if !bytes.Equal(got[:len(want)], want) || got[len(want)] != guard {
			t.Fatalf("decrypted %x to %x, want %x", text, got, want)
		}
		c.decrypt(text[size:], text)
		if !bytes.Equal(text[size:], want) {
			t.Fatalf("decrypted where it is to %x, want %x", text[size:], want)
		}
	}
}

// FuzzAESCBC compares the kernel with the standard library.
func FuzzAESCBC(f *testing.F) {
	for _, keyLen := range aesKeyLens {
		key := make([]byte, keyLen)
		f.Add(key, []byte{1}, []byte("one block"))
		f.Add(key, []byte{88, 88, 88, 88, 88, 88, 88, 88}, []byte("full packets"))
		f.Add(key, []byte{0, 4, 88, 5, 88, 1, 7, 8}, []byte("of any size"))
		f.Add(key, []byte{255, 254, 9}, []byte{})
	}
	f.Fuzz(func(t *testing.T, key, shape, data []byte) {
		if !slices.Contains(aesKeyLens, len(key)) {
			return
		}
		fuzzCBC(t, kernel(t, key), stdAES(t, key), aes.BlockSize, shape, data)
	})
}
