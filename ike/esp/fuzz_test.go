package esp

import (
	"errors"
	"fmt"
	"testing"
)

// FuzzOpen gives arbitrary packets, and arbitrary plaintexts in authentic packets,
// to SAs of all kinds. Nothing may panic, and what comes out is a whole IP packet.
func FuzzOpen(f *testing.F) {
	var refs []refSA
	for i, name := range []string{"aes128gcm16", "aes128-sha256", "3des-md5", "aes128gcm8", "aes128ctr-aesxcbc"} {
		random := newRand(byte(20 + i))
		ref := newRef(transformNamed(f, name), random)
		refs = append(refs, ref)
		for n := 20; n < 80; n += 13 {
			inner := ipv4(random, n)
			f.Add(ref.seal(f, uint32(n), randomBytes(random, ref.ivLen()), inner))
			f.Add(ref.plaintext(inner, 4))
		}
		f.Add(ref.plaintext(ipv6(random, 60), 41))
		f.Add(ref.plaintext(make([]byte, 30), 59))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2048 {
			return // longer ones only take time
		}
		for _, ref := range refs {
			packets := [][]byte{data}
			if n := len(data) / 16 * 16; n > 0 { // a multiple of every block
				packets = append(packets, ref.protect(t, 7, make([]byte, ref.ivLen()), data[:n]))
			}
			for i, packet := range packets {
				in := ref.inbound(t)
				dst := make([]byte, len(packet))
				inner, err := in.Open(dst, packet)
				if err == nil {
					if err := wholeIP(inner); err != nil {
						t.Errorf("%x opened to %x: %v", packet, inner, err)
					}
				} else if i == 1 && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrDummy) {
					t.Errorf("authentic packet %x: %v", packet, err)
				}
				in.Finish()
				if want := in.Stats(); err == nil && want.Packets != 1 || err != nil && want.Packets != 0 {
					t.Errorf("counted %+v, error %v", want, err)
				}
			}
		}
	})
}

// wholeIP checks the lengths of an IP packet, plainly.
func wholeIP(p []byte) error {
	var want int
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		want = int(p[2])<<8 | int(p[3])
	case len(p) >= 40 && p[0]>>4 == 6:
		want = 40 + (int(p[4])<<8 | int(p[5]))
	default:
		return fmt.Errorf("no header")
	}
	if want != len(p) {
		return fmt.Errorf("%d bytes, header says %d", len(p), want)
	}
	return nil
}
