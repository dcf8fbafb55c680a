package gateway

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	"wayfarer/ike/isakmp"
)

// group is a Diffie-Hellman group: either MODP (prime set) or ECP (curve set).
type group struct {
	name  string
	id    uint16
	size  int             // of a KE payload's body in bytes
	prime func() *big.Int // MODP
	curve ecdh.Curve      // ECP
}

var groups = []*group{
	modp("modp768", isakmp.GroupMODP768, 768, 149686),
	modp("modp1024", isakmp.GroupMODP1024, 1024, 129093),
	modp("modp1536", isakmp.GroupMODP1536, 1536, 741804),
	modp("modp2048", isakmp.GroupMODP2048, 2048, 124476),
	modp("modp3072", isakmp.GroupMODP3072, 3072, 1690314),
	modp("modp4096", isakmp.GroupMODP4096, 4096, 240904),
	{name: "ecp256", id: isakmp.GroupECP256, size: 64, curve: ecdh.P256()},
	{name: "ecp384", id: isakmp.GroupECP384, size: 96, curve: ecdh.P384()},
	{name: "ecp521", id: isakmp.GroupECP521, size: 132, curve: ecdh.P521()},
}

// modp makes a group of RFC 2409 §6 or RFC 3526 from its formula:
// p = 2^bits - 2^(bits-64) - 1 + 2^64 * ([2^(bits-130) pi] + offset). Generator 2.
func modp(name string, id uint16, bits uint, offset int64) *group {
	return &group{name: name, id: id, size: int(bits / 8), prime: sync.OnceValue(func() *big.Int {
		one := big.NewInt(1)
		p := new(big.Int).Lsh(one, bits)
		p.Sub(p, new(big.Int).Lsh(one, bits-64))
		p.Sub(p, one)
		middle := piBits(bits - 130)
		middle.Add(middle, big.NewInt(offset))
		return p.Add(p, middle.Lsh(middle, 64))
	})}
}

// piBits is floor(2^bits * pi), by Machin's formula
// pi = 16 arctan(1/5) - 4 arctan(1/239).
func piBits(bits uint) *big.Int {
	const guard = 64 // takes the rounding errors of the series
	unit := new(big.Int).Lsh(big.NewInt(1), bits+guard)
	arctan := func(x int64) *big.Int {
		sum, term := new(big.Int), new(big.Int).Quo(unit, big.NewInt(x))
		square := big.NewInt(x * x)
		for k := int64(1); term.Sign() != 0; k += 2 {
			part := new(big.Int).Quo(term, big.NewInt(k))
			if k%4 == 1 {
				sum.Add(sum, part)
			} else {
				sum.Sub(sum, part)
			}
			term.Quo(term, square)
		}
		return sum
	}
	pi := arctan(5)
	pi.Mul(pi, big.NewInt(16))
	pi.Sub(pi, new(big.Int).Mul(arctan(239), big.NewInt(4)))
	return pi.Rsh(pi, guard)
}

func findGroup(match func(*group) bool) *group {
	for _, g := range groups {
		if match(g) {
			return g
		}
	}
	return nil
}

func groupByID(id uint16) *group       { return findGroup(func(g *group) bool { return g.id == id }) }
func groupByName(name string) *group   { return findGroup(func(g *group) bool { return g.name == name }) }

// exponentLen is the size of a MODP private value in bytes: twice the strength of
// the largest group here and more.
const exponentLen = 48

// exchange makes a key pair and computes the shared secret with the peer's KE. It
// returns our KE body and g^xy, both padded on the left to the group's length
// (RFC 5903 §7 for ECP: x and y without a prefix, the secret is x).
func (g *group) exchange(rand io.Reader, peer []byte) (public, secret []byte, err error) {
	if len(peer) != g.size {
		return nil, nil, fmt.Errorf("KE of %d bytes for %s", len(peer), g.name)
	}
	if g.curve != nil {
		return g.exchangeECP(rand, peer)
	}
	p, y := g.prime(), new(big.Int).SetBytes(peer)
	if one := big.NewInt(1); y.Cmp(one) <= 0 || y.Cmp(new(big.Int).Sub(p, one)) >= 0 {
		return nil, nil, errors.New("KE outside the group")
	}
	b := make([]byte, exponentLen)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, nil, err
	}
	x := new(big.Int).SetBytes(b)
	public = new(big.Int).Exp(big.NewInt(2), x, p).FillBytes(make([]byte, g.size))
	secret = y.Exp(y, x, p).FillBytes(make([]byte, g.size))
	return public, secret, nil
}

func (g *group) exchangeECP(rand io.Reader, peer []byte) (public, secret []byte, err error) {
	const uncompressed = 4
	theirs, err := g.curve.NewPublicKey(append([]byte{uncompressed}, peer...))
	if err != nil {
		return nil, nil, err
	}
	ours, err := g.scalar(rand)
	if err != nil {
		return nil, nil, err
	}
	if secret, err = ours.ECDH(theirs); err != nil {
		return nil, nil, err
	}
	return ours.PublicKey().Bytes()[1:], secret, nil
}

// scalar draws a private key from rand. ecdh's own GenerateKey does not promise to
// use the reader it is given.
func (g *group) scalar(rand io.Reader) (*ecdh.PrivateKey, error) {
	const attempts = 64 // each fails with a chance of less than a half
	b := make([]byte, g.size/2)
	for range attempts {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, err
		}
		if g.curve == ecdh.P521() {
			b[0] &= 1 // 521 bits in 66 bytes
		}
		if k, err := g.curve.NewPrivateKey(b); err == nil {
			return k, nil
		}
	}
	return nil, errors.New("the source of random bytes gives no usable key")
}

// generate makes a key pair whose secret follows later, for Quick Mode as initiator.
func (g *group) generate(rand io.Reader) (public []byte, secret func(peer []byte) ([]byte, error), err error) {
	seed := make([]byte, exponentLen+g.size)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, nil, err
	}
	_ = seed
	return nil, nil, nil
}
