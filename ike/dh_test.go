package ike

import (
	"bytes"
	"context"
	"crypto/rand"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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

// TestShortExponents: private exponents have at least twice the strength of the group,
// by the higher of the numbers of RFC 3526 §8 (first estimate) and RFC 7919 Appendix A,
// and not many bits more, since each costs time.
func TestShortExponents(t *testing.T) {
	least := map[string]int{
		"modp1024": 160, "modp1536": 180, "modp2048": 225, "modp3072": 275, "modp4096": 325, "modp6144": 375, "modp8192": 400,
	}
	for _, g := range groups {
		if g.prime == nil {
			continue
		}
		seen := make(map[string]bool)
		for range 20 {
			k, err := newMODP(g, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if n := k.x.BitLen(); n != g.expBits || n < least[g.name] || n > max(256, least[g.name]+31) {
				t.Errorf("%s: an exponent of %d bits, want %d or a few more", g.name, n, least[g.name])
			}
			seen[k.x.String()] = true
		}
		if len(seen) != 20 {
			t.Errorf("%s: %d different exponents of 20", g.name, len(seen))
		}
	}
}

// BenchmarkKeyExchange: what one side computes, our public value and the shared secret.
func BenchmarkKeyExchange(b *testing.B) {
	for _, g := range groups {
		b.Run(g.name, func(b *testing.B) {
			peer, err := g.newKeyExchange(rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				k, err := g.newKeyExchange(rand.Reader)
				if err != nil {
					b.Fatal(err)
				}
				k.public()
				if _, err := k.shared(peer.public()); err != nil {
					b.Fatal(err)
				}
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

// countedKeys counts the key exchanges that a session makes.
func (w *world) countedKeys() func(g *group) int {
	var mu sync.Mutex
	made := make(map[*group]int)
	w.prepare = func(s *Session) {
		newKeyExchange := s.newKeyExchange
		s.newKeyExchange = func(g *group) (keyExchange, error) {
			mu.Lock()
			defer mu.Unlock()
			made[g]++
			return newKeyExchange(g)
		}
	}
	return func(g *group) int {
		mu.Lock()
		defer mu.Unlock()
		return made[g]
	}
}

// TestKeyAhead: while the name is looked up, the first key exchange is made; it is used
// once, and only with the group that the gateway has chosen.
func TestKeyAhead(t *testing.T) {
	offer := []string{"aes256-sha256-modp2048", "aes256-sha256-ecp256"}
	for _, tt := range []struct {
		name             string
		offer            []string
		chosen           string
		exchange         Exchange
		ahead, modp, ecp int // made before the name is known, and in all
	}{
		{"as expected", offer, "aes256-sha256-modp2048", ExchangeMain, 1, 1, 0},
		{"aggressive", offer, "aes256-sha256-modp2048", ExchangeAggressive, 1, 1, 0},
		{"another group", offer, "aes256-sha256-ecp256", ExchangeMain, 1, 1, 1},
		{"elliptic curve", offer[1:], "aes256-sha256-ecp256", ExchangeMain, 0, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.IKE, w.client.Exchange, w.client.PFS = suites(t, ParseIKESuite, tt.offer...), tt.exchange, PFSOff
				w.gateway.IKE = []string{tt.chosen}
				made := w.countedKeys()
				modp, ecp := findGroup("modp2048"), findGroup("ecp256")
				resolve := w.client.Resolve
				w.client.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
					time.Sleep(time.Second)
					if n := made(modp) + made(ecp); n != tt.ahead {
						t.Errorf("%d key exchanges were made ahead", n)
					}
					return resolve(ctx, host)
				}
				w.start()
				s := w.dial()
				if made(modp) != tt.modp || made(ecp) != tt.ecp {
					t.Errorf("%d of MODP and %d of ECP, want %d and %d", made(modp), made(ecp), tt.modp, tt.ecp)
				}
				if s.ahead != nil {
					t.Error("a key exchange is kept that nobody needs")
				}
				before := made(modp)
				w.renew(s)
				synctest.Wait()
				if tt.modp == 1 && tt.ecp == 0 && made(modp) != before+1 {
					t.Errorf("reauthentication made %d key exchanges", made(modp)-before)
				}
				w.exchangePackets(s, receive(s), "afterwards")
			})
		})
	}
}

// TestKeyAheadOnce: no two exchanges get the same key.
func TestKeyAheadOnce(t *testing.T) {
	s, err := newSession(&Config{Gateway: "gw.example.com", Login: "x", Password: Secret("x"), IKE: suites(t, ParseIKESuite, "aes256-sha256-modp2048")})
	if err != nil {
		t.Fatal(err)
	}
	s.prepareKey()
	seen := make(map[string]bool)
	for range 3 {
		kx, err := s.keyExchange(findGroup("modp2048"))
		if err != nil {
			t.Fatal(err)
		}
		seen[string(kx.public())] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d different keys for 3 exchanges", len(seen))
	}
}
