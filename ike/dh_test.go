package ike

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"testing"
)

// pi is floor(2^bits * pi), by Machin's formula.
func pi(bits uint) *big.Int {
	const guard = 64
	one := new(big.Int).Lsh(big.NewInt(1), bits+guard)
	arctanInverse := func(x int64) *big.Int {
		term := new(big.Int).Quo(one, big.NewInt(x))
		sum, square := new(big.Int).Set(term), big.NewInt(x*x)
		for n := int64(3); term.Sign() != 0; n += 2 {
			term.Quo(term, square)
			part := new(big.Int).Quo(term, big.NewInt(n))
			if n%4 == 3 {
				sum.Sub(sum, part)
			} else {
				sum.Add(sum, part)
			}
		}
		return sum
	}
	p := new(big.Int).Mul(arctanInverse(5), big.NewInt(16))
	p.Sub(p, new(big.Int).Mul(arctanInverse(239), big.NewInt(4)))
	return p.Rsh(p, guard)
}

// TestPrimes computes the primes from their definition (RFC 2409 §6.2, RFC 3526).
func TestPrimes(t *testing.T) {
	k := map[string]int64{
		"modp1024": 129093, "modp1536": 741804, "modp2048": 124476, "modp3072": 1690314,
		"modp4096": 240904, "modp6144": 929484, "modp8192": 4743158,
	}
	for _, g := range groups {
		if g.prime == nil {
			continue
		}
		n := uint(g.size * 8)
		want := new(big.Int).Lsh(big.NewInt(1), n)
		want.Sub(want, new(big.Int).Lsh(big.NewInt(1), n-64))
		want.Sub(want, big.NewInt(1))
		middle := new(big.Int).Add(pi(n-130), big.NewInt(k[g.name]))
		want.Add(want, middle.Lsh(middle, 64))
		if g.prime.Cmp(want) != 0 {
			t.Errorf("%s is not the prime of its definition", g.name)
		}
		delete(k, g.name)
	}
	if len(k) != 0 {
		t.Errorf("groups without a prime: %v", k)
	}
}

func TestKeyExchange(t *testing.T) {
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			a, err := g.newKeyExchange(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			b, err := g.newKeyExchange(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			ab, err := a.shared(b.public())
			if err != nil {
				t.Fatal(err)
			}
			ba, err := b.shared(a.public())
			if err != nil {
				t.Fatal(err)
			}
			secret := g.size
			if g.curve != nil {
				secret /= 2
			}
			if !bytes.Equal(ab, ba) || len(ab) != secret {
				t.Errorf("shared secrets of %d and %d bytes, equal: %v", len(ab), len(ba), bytes.Equal(ab, ba))
			}
			if len(a.public()) != g.size {
				t.Errorf("KE of %d bytes, want %d", len(a.public()), g.size)
			}
		})
	}
}

// TestKeyExchangeRefuses has the values that make the secret guessable, and those
// that are not of the group.
func TestKeyExchangeRefuses(t *testing.T) {
	for _, g := range groups {
		k, err := g.newKeyExchange(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		bad := map[string][]byte{
			"empty": nil, "zero": make([]byte, g.size), "short": k.public()[1:], "long": append([]byte{0}, k.public()...),
		}
		if g.prime != nil {
			fill := func(n *big.Int) []byte { return n.FillBytes(make([]byte, g.size)) }
			one := big.NewInt(1)
			bad["one"] = fill(one)
			bad["p-1"] = fill(new(big.Int).Sub(g.prime, one))
			bad["p"] = fill(g.prime)
			bad["all ones"] = bytes.Repeat([]byte{0xff}, g.size)
		} else {
			off := bytes.Clone(k.public())
			off[len(off)-1] ^= 1
			bad["off the curve"] = off
		}
		for name, ke := range bad {
			if _, err := k.shared(ke); err == nil {
				t.Errorf("%s: %s was accepted", g.name, name)
			}
		}
	}
}

// TestSharedIsPadded: g^xy keeps its leading zeros, or one handshake in 256 fails.
func TestSharedIsPadded(t *testing.T) {
	g := findGroup("modp1024")
	k := &modpKey{group: g, x: big.NewInt(1)}
	peer := make([]byte, g.size)
	peer[g.size-1] = 5
	got, err := k.shared(peer)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, peer) {
		t.Errorf("5^1 = %x", got)
	}
}
