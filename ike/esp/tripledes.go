package esp

import (
	"crypto/des"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"sync"
)

// tripleDES is 3DES in CBC mode (FIPS 46-3, SP 800-67). A block spends its time waiting
// for one table after the other, so four blocks, which do not depend on each other, are
// in work at once: in less than half of the time that the standard library takes for
// one after the other.
//
// A half of a block is held as what the expansion E makes of it: eight groups of six
// bits, see expand. Since E, like everything but the S-boxes, is linear, it is in the
// tables, with P, and a round is nothing but the key, eight tables and XOR.
type tripleDES struct {
	boxes    *desBoxes
	enc, dec desKeys
	lanes    [desLanes]uint64 // blocks at work
}

const (
	desLanes  = 4
	desRounds = 16
)

// desKeys are the keys of the rounds of three DES, each as the groups of expand, in the
// order of their use.
type desKeys [3 * desRounds]uint64

// desBoxes are the S-boxes with P and E behind them, in the order of the groups in a
// half of a block from its highest byte on.
type desBoxes [8][64]uint64

// newTripleDES refuses keys whose neighbouring parts are equal, parity aside:
// 3DES would be single DES (RFC 2451 §2.3).
func newTripleDES(key []byte) (cbcCipher, error) {
	same := func(a, b []byte) bool {
		return slices.EqualFunc(a, b, func(x, y byte) bool { return x|1 == y|1 })
	}
	if same(key[:8], key[8:16]) || same(key[8:16], key[16:]) {
		return nil, errors.New("esp: the 3DES key is a single DES key")
	}
	return expandTripleDES(key), nil
}

// expandTripleDES computes the keys of the rounds: encryption with the first key,
// decryption with the second, encryption with the third (FIPS 46-3 §2).
func expandTripleDES(key []byte) *tripleDES {
	c := &tripleDES{boxes: makeDESBoxes()}
	for i := range 3 {
		k := c.enc[i*desRounds:][:desRounds]
		scheduleDES(k, binary.BigEndian.Uint64(key[i*des.BlockSize:]))
		if i == 1 {
			slices.Reverse(k)
		}
	}
	c.dec = c.enc
	slices.Reverse(c.dec[:])
	return c
}

// encrypt has blocks of four texts in work at a time. A text that is finished makes room
// for the next one.
func (c *tripleDES) encrypt(texts [][]byte) {
	var left [desLanes][]byte // the ciphertext before the next block, and what is left
	for {
		active, last := 0, 0
		for i, text := range left {
			for len(text) <= des.BlockSize && len(texts) > 0 {
				text, texts = texts[0], texts[1:]
			}
			left[i] = text
			if len(text) > des.BlockSize {
				c.lanes[i] = binary.LittleEndian.Uint64(text) ^ binary.LittleEndian.Uint64(text[des.BlockSize:])
				active, last = active+1, i
			}
		}
		switch active {
		case 0:
			return
		case 1: // nor will there be more
			c.boxes.encryptChain(&c.enc, left[last])
			return
		}
		c.boxes.four(&c.enc, &c.lanes)
		for i, text := range left {
			if len(text) > des.BlockSize {
				left[i] = text[des.BlockSize:]
				binary.LittleEndian.PutUint64(left[i], c.lanes[i])
			}
		}
	}
}

// decrypt has four blocks in work at a time. They are read before one is written: dst
// may be where they are.
func (c *tripleDES) decrypt(dst, text []byte) {
	before := binary.LittleEndian.Uint64(text)
	for text = text[des.BlockSize:]; len(text) > 0; {
		n := min(len(text)/des.BlockSize, desLanes)
		var ciphertext [desLanes]uint64
		for i := range n {
			ciphertext[i] = binary.LittleEndian.Uint64(text[i*des.BlockSize:])
		}
		c.lanes = ciphertext
		c.boxes.four(&c.dec, &c.lanes)
		for i := range n {
			binary.LittleEndian.PutUint64(dst[i*des.BlockSize:], c.lanes[i]^before)
			before = ciphertext[i]
		}
		dst, text = dst[n*des.BlockSize:], text[n*des.BlockSize:]
	}
}

func (c *tripleDES) zero() {
	clear(c.enc[:])
	clear(c.dec[:])
	clear(c.lanes[:])
}

// encryptChain encrypts a text that is alone. What a block waits for is the rounds of
// the one before it only: the permutations are linear, too, and stay out of the chain.
func (b *desBoxes) encryptChain(k *desKeys, text []byte) {
	l, r := initialPermutation(binary.LittleEndian.Uint64(text))
	for text = text[des.BlockSize:]; len(text) > 0; text = text[des.BlockSize:] {
		left, right := initialPermutation(binary.LittleEndian.Uint64(text))
		l, r = l^left, r^right
		for first := 0; first < len(k); first += desRounds {
			for round := first; round < first+desRounds; round += 2 {
				t := r ^ k[round]
				l ^= b.even(t) ^ b.odd(t)
				t = l ^ k[round+1]
				r ^= b.even(t) ^ b.odd(t)
			}
			l, r = r, l
		}
		binary.LittleEndian.PutUint64(text, finalPermutation(l, r))
	}
}

// four is 3DES of blocks that were loaded as little-endian numbers. The halves trade
// places after the last round, and the permutations between one DES and the next undo
// each other.
func (b *desBoxes) four(k *desKeys, blocks *[desLanes]uint64) {
	l0, r0 := initialPermutation(blocks[0])
	l1, r1 := initialPermutation(blocks[1])
	l2, r2 := initialPermutation(blocks[2])
	l3, r3 := initialPermutation(blocks[3])
	for first := 0; first < len(k); first += desRounds {
		for round := first; round < first+desRounds; round += 2 {
			k0, k1 := k[round], k[round+1]
			t0 := r0 ^ k0
			l0 ^= b.even(t0) ^ b.odd(t0)
			t1 := r1 ^ k0
			l1 ^= b.even(t1) ^ b.odd(t1)
			t2 := r2 ^ k0
			l2 ^= b.even(t2) ^ b.odd(t2)
			t3 := r3 ^ k0
			l3 ^= b.even(t3) ^ b.odd(t3)
			t0 = l0 ^ k1
			r0 ^= b.even(t0) ^ b.odd(t0)
			t1 = l1 ^ k1
			r1 ^= b.even(t1) ^ b.odd(t1)
			t2 = l2 ^ k1
			r2 ^= b.even(t2) ^ b.odd(t2)
			t3 = l3 ^ k1
			r3 ^= b.even(t3) ^ b.odd(t3)
		}
		l0, r0, l1, r1, l2, r2, l3, r3 = r0, l0, r1, l1, r2, l2, r3, l3
	}
	blocks[0] = finalPermutation(l0, r0)
	blocks[1] = finalPermutation(l1, r1)
	blocks[2] = finalPermutation(l2, r2)
	blocks[3] = finalPermutation(l3, r3)
}

// even and odd are what the S-boxes make of the groups of a half with the round's key:
// divided so that the compiler inlines them.
func (b *desBoxes) even(t uint64) uint64 {
	return b[0][t>>56&63] ^ b[1][t>>48&63] ^ b[2][t>>40&63] ^ b[3][t>>32&63]
}

func (b *desBoxes) odd(t uint64) uint64 {
	return b[4][t>>24&63] ^ b[5][t>>16&63] ^ b[6][t>>8&63] ^ b[7][t&63]
}

// groupOf is the byte of an expanded half that holds what goes into an S-box, counted
// from the highest: those of S1, S3, S5 and S7 first.
func groupOf(box int) int { return box%2*4 + box/2 }

// expand is the E of a half, a group of six bits in each byte, as groupOf has them. A
// group is four bits and a neighbour on either side.
func expand(half uint32) uint64 {
	const six = 0x3f3f3f3f
	return uint64(bits.RotateLeft32(half, -3)&six)<<32 | uint64(bits.RotateLeft32(half, 1)&six)
}

// contract takes the neighbours away again.
func contract(groups uint64) uint32 {
	const four = 0x0f0f0f0f
	return uint32(groups>>33)&four<<4 | uint32(groups>>1)&four
}

// initialPermutation is IP, with the halves expanded. In the little-endian number the
// bytes of the block are rows of bits from the last one to the first. IP takes the
// columns: 2, 4, 6, 8 are the left half, 1, 3, 5, 7 the right one.
func initialPermutation(block uint64) (left, right uint64) {
	gather := func(x uint64) uint32 { // every other byte
		x &= 0x00ff00ff00ff00ff
		x = (x | x>>8) & 0x0000ffff0000ffff
		return uint32(x | x>>16)
	}
	columns := transpose(block)
	return expand(gather(columns)), expand(gather(columns >> 8))
}

// finalPermutation is the inverse of initialPermutation.
func finalPermutation(left, right uint64) uint64 {
	scatter := func(half uint32) uint64 {
		x := uint64(half)
		x = (x | x<<16) & 0x0000ffff0000ffff
		return (x | x<<8) & 0x00ff00ff00ff00ff
	}
	return transpose(scatter(contract(left)) | scatter(contract(right))<<8)
}

// transpose mirrors a matrix of eight by eight bits: single bits, then squares of two by
// two, then of four by four change places.
func transpose(x uint64) uint64 {
	t := (x ^ x>>7) & 0x00aa00aa00aa00aa
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000cccc0000cccc
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000f0f0f0f0
	return x ^ t ^ t<<28
}

// scheduleDES computes the keys of the rounds of one DES (FIPS 46-3, "Key schedule
// calculation").
func scheduleDES(rounds []uint64, key uint64) {
	const size, mask = 28, 1<<28 - 1
	cd := permute(key, 64, permutedChoice1[:])
	c, d := cd>>size, cd&mask
	for i := range rounds {
		shift := keyShifts[i]
		c, d = (c<<shift|c>>(size-shift))&mask, (d<<shift|d>>(size-shift))&mask
		k := permute(c<<size|d, 2*size, permutedChoice2[:])
		rounds[i] = 0
		for box := range 8 {
			rounds[i] |= k >> (42 - 6*box) & 63 << (56 - 8*groupOf(box))
		}
	}
}

// makeDESBoxes computes the tables from the S-boxes, when the first SA needs them.
var makeDESBoxes = sync.OnceValue(func() *desBoxes {
	b := new(desBoxes)
	for box := range sBoxes {
		for in := range 64 {
			row, column := in>>4&2|in&1, in>>1&15
			out := uint64(sBoxes[box][row*16+column]) << (28 - 4*box)
			b[groupOf(box)][in] = expand(uint32(permute(out, 32, permutationP[:])))
		}
	}
	return b
})

// permute takes the bits of x that table names. Bits count from 1, the highest of size.
func permute(x uint64, size int, table []byte) (out uint64) {
	for _, bit := range table {
		out = out<<1 | x>>(size-int(bit))&1
	}
	return out
}
