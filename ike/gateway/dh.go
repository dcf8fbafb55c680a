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

// exponentLen is the size of a MODP private value in bytes: twice the strength of
// the largest group here and more.
const exponentLen = 48

// dhKey is our half of an exchange in a group.
type dhKey struct {
	group  *group
	public []byte // body of our KE payload
	x      *big.Int
	ecp    *ecdh.PrivateKey
}

// newKey makes a key pair. KE bodies are padded on the left to the group's length;
// those of ECP groups are x and y without a prefix (RFC 5903 §7).
func (g *group) newKey(rand io.Reader) (*dhKey, error) {
	k := &dhKey{group: g}
	if g.curve != nil {
		var err error
		if k.ecp, err = g.scalar(rand); err != nil {
			return nil, err
		}
		k.public = k.ecp.PublicKey().Bytes()[1:]
		return k, nil
	}
	b := make([]byte, exponentLen)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, err
	}
	k.x = new(big.Int).SetBytes(b)
	k.public = new(big.Int).Exp(big.NewInt(2), k.x, g.prime()).FillBytes(make([]byte, g.size))
	return k, nil
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

// secret is g^xy for the peer's KE body, padded on the left to the group's length;
// in ECP groups it is the x coordinate alone (RFC 5903 §7).
func (k *dhKey) secret(peer []byte) ([]byte, error) {
	if len(peer) != k.group.size {
		return nil, fmt.Errorf("KE of %d bytes for %s", len(peer), k.group.name)
	}
	if k.ecp != nil {
		const uncompressed = 4
		theirs, err := k.group.curve.NewPublicKey(append([]byte{uncompressed}, peer...))
		if err != nil {
			return nil, err
		}
		return k.ecp.ECDH(theirs)
	}
	p, y := k.group.prime(), new(big.Int).SetBytes(peer)
	if one := big.NewInt(1); y.Cmp(one) <= 0 || y.Cmp(new(big.Int).Sub(p, one)) >= 0 {
		return nil, errors.New("KE outside the group")
	}
	return y.Exp(y, k.x, p).FillBytes(make([]byte, k.group.size)), nil
}
