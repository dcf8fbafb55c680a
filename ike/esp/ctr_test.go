package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"slices"
	"testing"
)

// TestCTRLengths compares texts of all lengths with the standard library's counter mode,
// where they are and elsewhere. Nothing is written behind them.
func TestCTRLengths(t *testing.T) {
	random := newRand(3)
	key, salt := randomBytes(random, 16), randomBytes(random, saltLen)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCTR(&parts{key: key, salt: salt})
	if err != nil {
		t.Fatal(err)
	}
	lengths := []int{1400, 1403, 65535}
	for n := range 200 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		packet := randomBytes(random, headerLen+counterIVLen+n)
		text := packet[headerLen+counterIVLen:]
		want := make([]byte, n)
		counter := slices.Concat(salt, packet[headerLen:headerLen+counterIVLen], []byte{0, 0, 0, 1})
		cipher.NewCTR(block, counter).XORKeyStream(want, text)

		got := bytes.Repeat([]byte{0xa5}, n+20)
		c.crypt(got[:n:n], text, packet)
		if !bytes.Equal(got[:n], want) || !bytes.Equal(got[n:], bytes.Repeat([]byte{0xa5}, 20)) {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
		copy(got, text)
		c.crypt(got[:n:n], got[:n], packet)
		if !bytes.Equal(got[:n], want) || !bytes.Equal(got[n:], bytes.Repeat([]byte{0xa5}, 20)) {
			t.Fatalf("%d bytes where they are: %x, want %x", n, got, want)
		}
	}
}
