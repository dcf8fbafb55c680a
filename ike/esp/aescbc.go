//go:build amd64 || arm64

package esp

import (
	"crypto/aes"
	"encoding/binary"

	"golang.org/x/sys/cpu"
)

// aesCBC is AES in CBC mode by the processor's AES instructions. The standard library
// decrypts one block at a time and encrypts one packet at a time, which leaves most of
// what these instructions can do unused: they take several cycles, but a new one may
// begin in every cycle.
type aesCBC struct {
	rounds  int
	enc     [maxRoundKeys * aes.BlockSize]byte // in the order of their use
	dec     [maxRoundKeys * aes.BlockSize]byte
	pending [maxLanes]*byte // see encrypt
}

const maxRoundKeys = 15 // with a key of 32 bytes

// newAESCBC returns nil if the processor has no AES instructions.
func newAESCBC(key []byte) cbcCipher {
	if !cpu.X86.HasAES && !cpu.ARM64.HasAES {
		return nil
	}
	c := new(aesCBC)
	c.expand(key)
	return c
}

// expand computes the round keys: those of encryption (FIPS 197 §5.2) and those of the
// equivalent inverse cipher (§5.3.5).
func (c *aesCBC) expand(key []byte) {
	const word = 4
	nk := len(key) / word
	c.rounds = nk + 6
	w := c.enc[:(c.rounds+1)*aes.BlockSize]
	copy(w, key)
	rcon := byte(1)
	for i := nk; i < len(w)/word; i++ {
		temp := binary.BigEndian.Uint32(w[(i-1)*word:])
		switch {
		case i%nk == 0:
			temp = subWord(temp<<8|temp>>24) ^ uint32(rcon)<<24
			rcon = rcon<<1 ^ rcon>>7*0x1b
		case nk > 6 && i%nk == 4:
			temp = subWord(temp)
		}
		binary.BigEndian.PutUint32(w[i*word:], temp^binary.BigEndian.Uint32(w[(i-nk)*word:]))
	}
	for i := range c.rounds + 1 {
		k := (*[aes.BlockSize]byte)(c.dec[i*aes.BlockSize:])
		copy(k[:], w[(c.rounds-i)*aes.BlockSize:])
		if i != 0 && i != c.rounds {
			invMixColumns(k)
		}
	}
}

// encrypt has a block of each text in work at the same time, as long as there are two.
// Lanes that are left over do the work of another one again.
func (c *aesCBC) encrypt(texts [][]byte) {
	done := 0 // bytes of blocks, in all texts that are not finished
	for {
		active, shortest := 0, 0
		for _, text := range texts {
			left := len(text) - aes.BlockSize - done
			if left <= 0 {
				continue
			}
			if active == 0 || left < shortest {
				shortest = left
			}
			c.pending[active] = &text[done]
			active++
		}
		switch active {
		case 0:
			clear(c.pending[:])
			return
		case 1:
			encryptChain(&c.enc, c.rounds, c.pending[0], shortest)
		default:
			for i := active; i < maxLanes; i++ {
				c.pending[i] = c.pending[0]
			}
			encryptLanes(&c.enc, c.rounds, &c.pending, shortest)
		}
		done += shortest
	}
}

func (c *aesCBC) decrypt(dst, text []byte) {
	if n := len(text) - aes.BlockSize; n > 0 {
		decryptChain(&c.dec, c.rounds, &dst[:n][0], &text[0], n)
	}
}

func (c *aesCBC) zero() {
	clear(c.enc[:])
	clear(c.dec[:])
}

// subWord is SubWord of FIPS 197 §5.2.
//
//go:noescape
func subWord(w uint32) uint32

// invMixColumns is InvMixColumns of FIPS 197 §5.3.3.
//
//go:noescape
func invMixColumns(key *[aes.BlockSize]byte)

// encryptChain encrypts the n bytes behind the IV at text.
//
//go:noescape
func encryptChain(keys *[maxRoundKeys * aes.BlockSize]byte, rounds int, text *byte, n int)

// encryptLanes encrypts the n bytes behind each of the IVs.
//
//go:noescape
func encryptLanes(keys *[maxRoundKeys * aes.BlockSize]byte, rounds int, lanes *[maxLanes]*byte, n int)

// decryptChain decrypts the n bytes behind the IV at text into dst.
//
//go:noescape
func decryptChain(keys *[maxRoundKeys * aes.BlockSize]byte, rounds int, dst, text *byte, n int)
