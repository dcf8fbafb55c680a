package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"slices"
	"strings"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// cipherRow is a block cipher as both phases name it.
type cipherRow struct {
	name   string
	ike    uint16 // phase-1 attribute; 0: not in phase 1
	esp    uint8  // phase-2 transform ID
	keyLen int    // bytes
	fixed  bool   // has one key length and no attribute for it
	aead   bool   // goes without a hash
	cipher esp.Cipher
}

var cipherRows = []*cipherRow{
	{name: "aes128", ike: isakmp.CipherAESCBC, esp: isakmp.ESPAESCBC, keyLen: 16, cipher: esp.AESCBC},
	{name: "aes192", ike: isakmp.CipherAESCBC, esp: isakmp.ESPAESCBC, keyLen: 24, cipher: esp.AESCBC},
	{name: "aes256", ike: isakmp.CipherAESCBC, esp: isakmp.ESPAESCBC, keyLen: 32, cipher: esp.AESCBC},
	{name: "3des", ike: isakmp.Cipher3DES, esp: isakmp.ESP3DES, keyLen: 24, fixed: true, cipher: esp.TripleDESCBC},
	{name: "aes128gcm16", esp: isakmp.ESPAESGCM16, keyLen: 16, aead: true, cipher: esp.AESGCM16},
	{name: "aes192gcm16", esp: isakmp.ESPAESGCM16, keyLen: 24, aead: true, cipher: esp.AESGCM16},
	{name: "aes256gcm16", esp: isakmp.ESPAESGCM16, keyLen: 32, aead: true, cipher: esp.AESGCM16},
	{name: "aes128gcm12", esp: isakmp.ESPAESGCM12, keyLen: 16, aead: true, cipher: esp.AESGCM12},
	{name: "aes192gcm12", esp: isakmp.ESPAESGCM12, keyLen: 24, aead: true, cipher: esp.AESGCM12},
	{name: "aes256gcm12", esp: isakmp.ESPAESGCM12, keyLen: 32, aead: true, cipher: esp.AESGCM12},
	{name: "aes128gcm8", esp: isakmp.ESPAESGCM8, keyLen: 16, aead: true, cipher: esp.AESGCM8},
	{name: "aes192gcm8", esp: isakmp.ESPAESGCM8, keyLen: 24, aead: true, cipher: esp.AESGCM8},
	{name: "aes256gcm8", esp: isakmp.ESPAESGCM8, keyLen: 32, aead: true, cipher: esp.AESGCM8},
	{name: "aes128ctr", esp: isakmp.ESPAESCTR, keyLen: 16, cipher: esp.AESCTR},
	{name: "aes192ctr", esp: isakmp.ESPAESCTR, keyLen: 24, cipher: esp.AESCTR},
	{name: "aes256ctr", esp: isakmp.ESPAESCTR, keyLen: 32, cipher: esp.AESCTR},
}

func (c *cipherRow) block(key []byte) (cipher.Block, error) {
	if c.ike == isakmp.Cipher3DES {
		return des.NewTripleDESCipher(key)
	}
	return aes.NewCipher(key)
}

// hashRow is a hash as both phases name it: phase-1 hash and prf, phase-2 integrity.
type hashRow struct {
	name      string
	ike       uint16 // 0: not in phase 1
	esp       uint16
	hash      newHash
	integrity esp.Integrity
}

var hashRows = []*hashRow{
	{"md5", isakmp.HashMD5, isakmp.ESPAuthMD5, md5.New, esp.HMACMD5_96},
	{"sha1", isakmp.HashSHA1, isakmp.ESPAuthSHA1, sha1.New, esp.HMACSHA1_96},
	{"sha256", isakmp.HashSHA256, isakmp.ESPAuthSHA256, sha256.New, esp.HMACSHA256_128},
	{"sha384", isakmp.HashSHA384, isakmp.ESPAuthSHA384, sha512.New384, esp.HMACSHA384_192},
	{"sha512", isakmp.HashSHA512, isakmp.ESPAuthSHA512, sha512.New, esp.HMACSHA512_256},
	{"aesxcbc", 0, isakmp.ESPAuthAESXCBC, nil, esp.AESXCBC_96},
	{"sha256_96", 0, isakmp.ESPAuthSHA256, nil, esp.HMACSHA256_96}, // an offer of number 5 means sha256, see looksLike
}

// ikeSuite is a set of phase-1 algorithms.
type ikeSuite struct {
	cipher *cipherRow
	hash   *hashRow
	group  *group
}

func (s ikeSuite) String() string { return s.cipher.name + "-" + s.hash.name + "-" + s.group.name }

// espSuite is a set of phase-2 algorithms. Hash is nil with an AEAD, group is nil
// without PFS.
type espSuite struct {
	cipher *cipherRow
	hash   *hashRow
	group  *group
}

func (s espSuite) String() string {
	name := s.cipher.name
	if s.hash != nil {
		name += "-" + s.hash.name
	}
	if s.group != nil {
		name += "-" + s.group.name
	}
	return name
}

func (s espSuite) transform() esp.Transform {
	t := esp.Transform{Cipher: s.cipher.cipher, KeyLen: s.cipher.keyLen}
	if s.hash != nil {
		t.Integrity = s.hash.integrity
	}
	return t
}

func row[T any](rows []*T, match func(*T) bool) *T {
	for _, r := range rows {
		if match(r) {
			return r
		}
	}
	return nil
}

func parseIKESuite(name string) (s ikeSuite, err error) {
	parts := strings.Split(name, "-")
	if len(parts) == 3 {
		s.cipher = row(cipherRows, func(c *cipherRow) bool { return c.name == parts[0] && c.ike != 0 })
		s.hash = row(hashRows, func(h *hashRow) bool { return h.name == parts[1] && h.ike != 0 })
		s.group = row(groups, func(g *group) bool { return g.name == parts[2] })
	}
	if s.cipher == nil || s.hash == nil || s.group == nil {
		return s, fmt.Errorf("IKE suite %q: want one like aes256-sha256-modp2048", name)
	}
	return s, nil
}

func parseESPSuite(name string) (s espSuite, err error) {
	bad := fmt.Errorf("ESP suite %q: want one like aes128gcm16 or aes256-sha256-modp2048", name)
	parts := strings.Split(name, "-")
	if s.cipher = row(cipherRows, func(c *cipherRow) bool { return c.name == parts[0] }); s.cipher == nil {
		return s, bad
	}
	parts = parts[1:]
	if !s.cipher.aead {
		if len(parts) > 0 {
			s.hash = row(hashRows, func(h *hashRow) bool { return h.name == parts[0] })
		}
		if s.hash == nil {
			return s, bad
		}
		parts = parts[1:]
	}
	if len(parts) > 0 {
		s.group = row(groups, func(g *group) bool { return g.name == parts[0] })
		if len(parts) > 1 || s.group == nil {
			return s, bad
		}
	}
	return s, nil
}

func parseSuites[S any](parse func(string) (S, error), names []string) ([]S, error) {
	var suites []S
	for _, name := range names {
		s, err := parse(name)
		if err != nil {
			return nil, err
		}
		suites = append(suites, s)
	}
	return suites, nil
}

// attributeValues are the attributes of an offered transform by type. A repeated
// type makes the transform unusable, except for life types and durations, which
// come in pairs and are looked at elsewhere.
func attributeValues(as []isakmp.Attribute, lifeType, lifeDuration uint16) (map[uint16]uint64, bool) {
	values := make(map[uint16]uint64)
	for _, a := range as {
		if a.Type == lifeType || a.Type == lifeDuration {
			continue
		}
		v, ok := a.Uint()
		if _, repeated := values[a.Type]; !ok || repeated {
			return nil, false
		}
		values[a.Type] = v
	}
	return values, true
}

// ikeTransform reads an offered phase-1 transform. It fails on what this gateway
// does not know, unknown attributes included.
func ikeTransform(t isakmp.Transform) (s ikeSuite, auth uint16, ok bool) {
	v, ok := attributeValues(t.Attributes, isakmp.AttrLifeType, isakmp.AttrLifeDuration)
	if !ok || t.ID != isakmp.TransformKeyIKE {
		return s, 0, false
	}
	for typ := range v {
		switch typ {
		case isakmp.AttrEncryption, isakmp.AttrHash, isakmp.AttrAuthMethod, isakmp.AttrGroup, isakmp.AttrKeyLength:
		default:
			return s, 0, false
		}
	}
	bits, hasBits := v[isakmp.AttrKeyLength]
	s.cipher = row(cipherRows, func(c *cipherRow) bool {
		return c.ike != 0 && uint64(c.ike) == v[isakmp.AttrEncryption] && c.takes(bits, hasBits)
	})
	s.hash = row(hashRows, func(h *hashRow) bool { return h.ike != 0 && uint64(h.ike) == v[isakmp.AttrHash] })
	s.group = row(groups, func(g *group) bool { return uint64(g.id) == v[isakmp.AttrGroup] })
	return s, uint16(v[isakmp.AttrAuthMethod]), s.cipher != nil && s.hash != nil && s.group != nil
}

// takes reports whether a key length attribute, or none, fits the cipher.
func (c *cipherRow) takes(bits uint64, present bool) bool {
	if c.fixed {
		return !present
	}
	return present && bits == uint64(c.keyLen)*8
}

// espTransform reads an offered phase-2 transform and its encapsulation mode.
func espTransform(t isakmp.Transform) (s espSuite, mode uint16, ok bool) {
	v, ok := attributeValues(t.Attributes, isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration)
	if !ok {
		return s, 0, false
	}
	for typ := range v {
		switch typ {
		case isakmp.AttrESPGroup, isakmp.AttrESPEncapsulation, isakmp.AttrESPAuth, isakmp.AttrESPKeyLength:
		default:
			return s, 0, false
		}
	}
	bits, hasBits := v[isakmp.AttrESPKeyLength]
	s.cipher = row(cipherRows, func(c *cipherRow) bool { return c.esp == t.ID && c.takes(bits, hasBits) })
	if s.cipher == nil {
		return s, 0, false
	}
	auth, hasAuth := v[isakmp.AttrESPAuth]
	if hasAuth {
		s.hash = row(hashRows, func(h *hashRow) bool { return uint64(h.esp) == auth })
	}
	if s.cipher.aead == hasAuth || hasAuth && s.hash == nil {
		return s, 0, false // integrity exactly once (RFC 4106 §8.4)
	}
	if id, pfs := v[isakmp.AttrESPGroup]; pfs {
		if s.group = row(groups, func(g *group) bool { return uint64(g.id) == id }); s.group == nil {
			return s, 0, false
		}
	}
	return s, uint16(v[isakmp.AttrESPEncapsulation]), true
}

// acceptESP finds what an offer stands for among the suites that this gateway takes.
func (g *Gateway) acceptESP(offered espSuite) (espSuite, bool) {
	if len(g.esp) == 0 {
		return offered, true
	}
	i := slices.IndexFunc(g.esp, offered.looksLike)
	if i < 0 {
		return espSuite{}, false
	}
	return g.esp[i], true
}

// looksLike reports whether offers of both are the same: HMAC-SHA2-256 has one
// number, to whatever length it is cut.
func (s espSuite) looksLike(o espSuite) bool {
	if s.cipher != o.cipher || s.group != o.group || (s.hash == nil) != (o.hash == nil) {
		return false
	}
	return s.hash == nil || s.hash.esp == o.hash.esp
}

// attributes are the phase-2 attributes of an offer of s.
func (s espSuite) attributes(mode uint16, seconds uint32) []isakmp.Attribute {
	as := []isakmp.Attribute{
		isakmp.BasicAttribute(isakmp.AttrESPEncapsulation, mode),
		isakmp.BasicAttribute(isakmp.AttrESPLifeType, isakmp.LifeSeconds),
		isakmp.NumberAttribute(isakmp.AttrESPLifeDuration, seconds),
	}
	if !s.cipher.fixed {
		as = append(as, isakmp.BasicAttribute(isakmp.AttrESPKeyLength, uint16(s.cipher.keyLen*8)))
	}
	if s.hash != nil {
		as = append(as, isakmp.BasicAttribute(isakmp.AttrESPAuth, s.hash.esp))
	}
	if s.group != nil {
		as = append(as, isakmp.BasicAttribute(isakmp.AttrESPGroup, s.group.id))
	}
	return as
}
