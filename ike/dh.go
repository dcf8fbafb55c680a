package ike

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"sync"

	"wayfarer/ike/isakmp"
)

// group is a Diffie-Hellman group, over a prime field or an elliptic curve.
type group struct {
	name string
	id   uint16 // group description attribute (RFC 2409 Appendix A)
	size int    // bytes of a KE payload
	weak Weak

	prime   *big.Int   // MODP
	expBits int        // MODP: bits of a private exponent, at least twice the strength (RFC 3526 §8, RFC 7919 Appendix A)
	curve   ecdh.Curve // ECP
}

var groups = []*group{
	modp("modp2048", isakmp.GroupMODP2048, modp2048, 256, 0),
	modp("modp3072", isakmp.GroupMODP3072, modp3072, 288, 0),
	modp("modp4096", isakmp.GroupMODP4096, modp4096, 328, 0),
	modp("modp6144", isakmp.GroupMODP6144, modp6144, 384, 0),
	modp("modp8192", isakmp.GroupMODP8192, modp8192, 416, 0),
	{name: "ecp256", id: isakmp.GroupECP256, size: 64, curve: ecdh.P256()},
	{name: "ecp384", id: isakmp.GroupECP384, size: 96, curve: ecdh.P384()},
	{name: "ecp521", id: isakmp.GroupECP521, size: 132, curve: ecdh.P521()},
	modp("modp1536", isakmp.GroupMODP1536, modp1536, 256, WeakMODP1536),
	modp("modp1024", isakmp.GroupMODP1024, modp1024, 256, WeakMODP1024),
}

func modp(name string, id uint16, prime string, expBits int, weak Weak) *group {
	p, ok := new(big.Int).SetString(prime, 16)
	if !ok {
		panic("ike: prime of " + name)
	}
	return &group{name: name, id: id, size: p.BitLen() / 8, weak: weak, prime: p, expBits: expBits}
}

func findGroup(name string) *group {
	i := slices.IndexFunc(groups, func(g *group) bool { return g.name == name })
	if i < 0 {
		return nil
	}
	return groups[i]
}

func groupByID(id uint64) *group {
	i := slices.IndexFunc(groups, func(g *group) bool { return uint64(g.id) == id })
	if i < 0 {
		return nil
	}
	return groups[i]
}

// keyExchange is one side's ephemeral Diffie-Hellman key.
type keyExchange interface {
	// public is the body of our KE payload, g^xi, of the group's size.
	public() []byte
	// shared is g^xy for the peer's KE payload body, left-padded with zeros to
	// the group's size (RFC 7296 §3.4 has the words). It refuses values that
	// would make the secret guessable (CVE-2015-3240).
	shared(peer []byte) ([]byte, error)
}

var errBadKE = errors.New("the key exchange value is not of the group")

// newKeyExchange draws a key from rand.
func (g *group) newKeyExchange(rand io.Reader) (keyExchange, error) {
	if g.curve != nil {
		return newECP(g, rand)
	}
	return newMODP(g, rand)
}

type modpKey struct {
	group *group
	x     *big.Int
	gx    func() *big.Int // computed once, when first needed
}

func newMODP(g *group, rand io.Reader) (*modpKey, error) {
	b := make([]byte, g.expBits/8)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	b[0] |= 0x80 // never a short exponent by chance
	x := new(big.Int).SetBytes(b)
	clear(b)
	return &modpKey{g, x, sync.OnceValue(func() *big.Int { return new(big.Int).Exp(big.NewInt(2), x, g.prime) })}, nil
}

func (k *modpKey) public() []byte { return k.gx().FillBytes(make([]byte, k.group.size)) }

func (k *modpKey) shared(peer []byte) ([]byte, error) {
	if len(peer) != k.group.size {
		return nil, errBadKE
	}
	y := new(big.Int).SetBytes(peer)
	pMinus1 := new(big.Int).Sub(k.group.prime, big.NewInt(1))
	if y.Cmp(big.NewInt(1)) <= 0 || y.Cmp(pMinus1) >= 0 {
		return nil, errBadKE
	}
	z := new(big.Int).Exp(y, k.x, k.group.prime)
	return z.FillBytes(make([]byte, k.group.size)), nil
}

// ecpKey: KE is x|y without the point format byte, the secret is x (RFC 5903 §7,
// §9).
type ecpKey struct {
	group *group
	key   *ecdh.PrivateKey
}

// uncompressed is the point format of crypto/ecdh (SEC 1 §2.3.3).
const uncompressed = 4

func newECP(g *group, rand io.Reader) (*ecpKey, error) {
	scalar := make([]byte, g.size/2)
	defer clear(scalar)
	for {
		if _, err := io.ReadFull(rand, scalar); err != nil {
			return nil, fmt.Errorf("random numbers: %w", err)
		}
		if g.id == isakmp.GroupECP521 {
			scalar[0] &= 1 // 521 bits in 66 bytes
		}
		if key, err := g.curve.NewPrivateKey(scalar); err == nil {
			return &ecpKey{g, key}, nil
		} // else zero or beyond the order: draw again
	}
}

func (k *ecpKey) public() []byte { return k.key.PublicKey().Bytes()[1:] }

func (k *ecpKey) shared(peer []byte) ([]byte, error) {
	if len(peer) != k.group.size {
		return nil, errBadKE
	}
	pub, err := k.group.curve.NewPublicKey(append([]byte{uncompressed}, peer...))
	if err != nil {
		return nil, errBadKE
	}
	return k.key.ECDH(pub)
}

// aheadKey is a key exchange that is made before it is known whether it will be needed.
type aheadKey struct {
	group *group
	kx    keyExchange
}

// prepareKey begins to compute the key exchange that will probably be the first, while
// the gateway's name is looked up: with the group that we like best. Those of elliptic
// curves take no time worth it.
func (s *Session) prepareKey() {
	g := groupsOf(s.ikeSuites)[0]
	if g.prime == nil {
		return
	}
	if kx, err := s.newKeyExchange(g); err == nil { // else the error comes again when it is needed
		s.ahead = &aheadKey{g, kx}
		go kx.public()
	}
}

// keyExchange is a fresh one with a group: what was prepared, once, else a new one.
func (s *Session) keyExchange(g *group) (keyExchange, error) {
	if a := s.ahead; a != nil && a.group == g {
		s.ahead = nil
		return a.kx, nil
	}
	return s.newKeyExchange(g)
}
