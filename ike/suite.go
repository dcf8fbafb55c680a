package ike

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	_ "crypto/md5"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"slices"
	"strings"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

// cipherAlg is a row of the table of block ciphers that both phases know. All run
// in CBC mode in phase 1.
type cipherAlg struct {
	name    string
	ikeID   uint16 // phase-1 encryption attribute, 0: not in phase 1
	espID   uint8  // phase-2 transform ID
	keyBits uint16 // value of the key length attribute, 0: none is sent
	keyLen  int    // bytes
	aead    bool   // needs no integrity algorithm (RFC 4106)
	esp     esp.Cipher
	weak    Weak
}

var ciphers = []*cipherAlg{
	{name: "aes256", ikeID: isakmp.CipherAESCBC, espID: isakmp.ESPAESCBC, keyBits: 256, keyLen: 32, esp: esp.AESCBC},
	{name: "aes192", ikeID: isakmp.CipherAESCBC, espID: isakmp.ESPAESCBC, keyBits: 192, keyLen: 24, esp: esp.AESCBC},
	{name: "aes128", ikeID: isakmp.CipherAESCBC, espID: isakmp.ESPAESCBC, keyBits: 128, keyLen: 16, esp: esp.AESCBC},
	{name: "3des", ikeID: isakmp.Cipher3DES, espID: isakmp.ESP3DES, keyLen: 24, esp: esp.TripleDESCBC, weak: Weak3DES},
	{name: "aes256gcm16", espID: isakmp.ESPAESGCM16, keyBits: 256, keyLen: 32, aead: true, esp: esp.AESGCM16},
	{name: "aes192gcm16", espID: isakmp.ESPAESGCM16, keyBits: 192, keyLen: 24, aead: true, esp: esp.AESGCM16},
	{name: "aes128gcm16", espID: isakmp.ESPAESGCM16, keyBits: 128, keyLen: 16, aead: true, esp: esp.AESGCM16},
	{name: "aes256gcm12", espID: isakmp.ESPAESGCM12, keyBits: 256, keyLen: 32, aead: true, esp: esp.AESGCM12},
	{name: "aes192gcm12", espID: isakmp.ESPAESGCM12, keyBits: 192, keyLen: 24, aead: true, esp: esp.AESGCM12},
	{name: "aes128gcm12", espID: isakmp.ESPAESGCM12, keyBits: 128, keyLen: 16, aead: true, esp: esp.AESGCM12},
	{name: "aes256gcm8", espID: isakmp.ESPAESGCM8, keyBits: 256, keyLen: 32, aead: true, esp: esp.AESGCM8},
	{name: "aes192gcm8", espID: isakmp.ESPAESGCM8, keyBits: 192, keyLen: 24, aead: true, esp: esp.AESGCM8},
	{name: "aes128gcm8", espID: isakmp.ESPAESGCM8, keyBits: 128, keyLen: 16, aead: true, esp: esp.AESGCM8},
	{name: "aes256ctr", espID: isakmp.ESPAESCTR, keyBits: 256, keyLen: 32, esp: esp.AESCTR},
	{name: "aes192ctr", espID: isakmp.ESPAESCTR, keyBits: 192, keyLen: 24, esp: esp.AESCTR},
	{name: "aes128ctr", espID: isakmp.ESPAESCTR, keyBits: 128, keyLen: 16, esp: esp.AESCTR},
}

// newBlock makes the phase-1 block cipher.
func (c *cipherAlg) newBlock(key []byte) (cipher.Block, error) {
	if c.ikeID == isakmp.Cipher3DES {
		return des.NewTripleDESCipher(key)
	}
	return aes.NewCipher(key)
}

// hashAlg is a row of the table of hashes: phase-1 hash and prf (its HMAC), and
// phase-2 integrity.
type hashAlg struct {
	name  string
	ikeID uint16 // 0: not in phase 1
	espID uint16
	hash  crypto.Hash // of phase 1
	esp   esp.Integrity
	weak  Weak
}

// sha256_96 is not told from sha256 by its number: where a list of suites has both,
// the first one counts.
var hashes = []*hashAlg{
	{name: "sha256", ikeID: isakmp.HashSHA256, espID: isakmp.ESPAuthSHA256, hash: crypto.SHA256, esp: esp.HMACSHA256_128},
	{name: "sha384", ikeID: isakmp.HashSHA384, espID: isakmp.ESPAuthSHA384, hash: crypto.SHA384, esp: esp.HMACSHA384_192},
	{name: "sha512", ikeID: isakmp.HashSHA512, espID: isakmp.ESPAuthSHA512, hash: crypto.SHA512, esp: esp.HMACSHA512_256},
	{name: "sha1", ikeID: isakmp.HashSHA1, espID: isakmp.ESPAuthSHA1, hash: crypto.SHA1, esp: esp.HMACSHA1_96},
	{name: "md5", ikeID: isakmp.HashMD5, espID: isakmp.ESPAuthMD5, hash: crypto.MD5, esp: esp.HMACMD5_96, weak: WeakMD5},
	{name: "aesxcbc", espID: isakmp.ESPAuthAESXCBC, esp: esp.AESXCBC_96},
	{name: "sha256_96", espID: isakmp.ESPAuthSHA256, esp: esp.HMACSHA256_96},
}

// IKESuite is a set of phase-1 algorithms: "aes256-sha256-modp2048".
type IKESuite struct {
	cipher *cipherAlg
	hash   *hashAlg
	group  *group
}

// ESPSuite is a set of phase-2 algorithms: "aes128gcm16", "aes256-sha256", with a
// group where Quick Mode is to make a Diffie-Hellman exchange of its own
// ("aes128-sha1-modp2048"). The hash "sha256_96" is SHA-256 as gateways want it that
// cut the ICV to 96 bits.
type ESPSuite struct {
	cipher *cipherAlg
	hash   *hashAlg // nil with an AEAD cipher
	group  *group   // nil: as Config.PFS says
}

// ParseIKESuite reads a suite's name, as strongSwan writes it.
func ParseIKESuite(name string) (IKESuite, error) {
	var s IKESuite
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return s, fmt.Errorf("IKE suite %q: want cipher-hash-group, as in aes256-sha256-modp2048", name)
	}
	if s.cipher = findCipher(parts[0]); s.cipher == nil || s.cipher.ikeID == 0 {
		return s, fmt.Errorf("IKE suite %q: unknown cipher %q, known are %s", name, parts[0], list(ciphers, func(c *cipherAlg) string { return phase1Name(c.name, c.ikeID) }))
	}
	if s.hash = findHash(parts[1]); s.hash == nil || s.hash.ikeID == 0 {
		return s, fmt.Errorf("IKE suite %q: unknown hash %q, known are %s", name, parts[1], list(hashes, func(h *hashAlg) string { return phase1Name(h.name, h.ikeID) }))
	}
	if s.group = findGroup(parts[2]); s.group == nil {
		return s, fmt.Errorf("IKE suite %q: unknown group %q, known are %s", name, parts[2], list(groups, func(g *group) string { return g.name }))
	}
	return s, nil
}

// ParseESPSuite reads a suite's name, as strongSwan writes it.
func ParseESPSuite(name string) (ESPSuite, error) {
	var s ESPSuite
	parts := strings.Split(name, "-")
	if s.cipher = findCipher(parts[0]); s.cipher == nil {
		return s, fmt.Errorf("ESP suite %q: unknown cipher %q, known are %s", name, parts[0], list(ciphers, func(c *cipherAlg) string { return c.name }))
	}
	parts = parts[1:]
	if !s.cipher.aead {
		if len(parts) == 0 {
			return s, fmt.Errorf("ESP suite %q: encryption without integrity is never used; add a hash, as in aes256-sha256", name)
		}
		if s.hash = findHash(parts[0]); s.hash == nil {
			return s, fmt.Errorf("ESP suite %q: unknown hash %q, known are %s", name, parts[0], list(hashes, func(h *hashAlg) string { return h.name }))
		}
		parts = parts[1:]
	}
	if len(parts) > 0 {
		if s.group = findGroup(parts[0]); s.group == nil {
			return s, fmt.Errorf("ESP suite %q: unknown group %q, known are %s", name, parts[0], list(groups, func(g *group) string { return g.name }))
		}
		parts = parts[1:]
	}
	if len(parts) > 0 {
		return s, fmt.Errorf("ESP suite %q: %q is too much", name, strings.Join(parts, "-"))
	}
	return s, nil
}

// ESPSuiteNames are all that ParseESPSuite reads, without the groups: each cipher, with
// each hash if it needs one.
func ESPSuiteNames() (names []string) {
	for _, c := range ciphers {
		if c.aead {
			names = append(names, c.name)
			continue
		}
		for _, h := range hashes {
			names = append(names, c.name+"-"+h.name)
		}
	}
	return names
}

// list names the rows of a table that have a name, for people.
func list[T any](rows []T, name func(T) string) string {
	var names []string
	for _, r := range rows {
		if n := name(r); n != "" {
			names = append(names, n)
		}
	}
	return strings.Join(names, ", ")
}

// phase1Name is the name of an algorithm that phase 1 has a number for, or empty.
func phase1Name(name string, ikeID uint16) string {
	if ikeID == 0 {
		return ""
	}
	return name
}

func findCipher(name string) *cipherAlg {
	i := slices.IndexFunc(ciphers, func(c *cipherAlg) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return ciphers[i]
}

func findHash(name string) *hashAlg {
	i := slices.IndexFunc(hashes, func(h *hashAlg) bool { return h.name == name })
	if i < 0 {
		return nil
	}
	return hashes[i]
}

func (s IKESuite) String() string { return s.cipher.name + "-" + s.hash.name + "-" + s.group.name }

// Weak is what a profile must allow before the suite is offered.
func (s IKESuite) Weak() Weak { return s.cipher.weak | s.hash.weak | s.group.weak }

func (s ESPSuite) String() string {
	name := s.cipher.name
	if s.hash != nil {
		name += "-" + s.hash.name
	}
	if s.group != nil {
		name += "-" + s.group.name
	}
	return name
}

// Weak is what a profile must allow before the suite is offered.
func (s ESPSuite) Weak() Weak {
	w := s.cipher.weak
	if s.hash != nil {
		w |= s.hash.weak
	}
	if s.group != nil {
		w |= s.group.weak
	}
	return w
}

// The default offers; other suites are offered when they are named. A first message
// of eight phase-1 transforms stays below 500 bytes, which every path carries. Weak
// ones are appended when Config.AllowWeak has all that they need.
var (
	defaultIKE = []string{
		"aes256-sha256-modp2048", "aes256-sha256-ecp256", "aes256-sha384-ecp384", "aes256-sha512-modp4096",
		"aes128-sha256-modp2048", "aes256-sha256-modp3072", "aes256-sha1-modp2048", "aes128-sha1-modp2048",
	}
	weakIKE = []string{
		"aes256-sha1-modp1536", "aes256-sha1-modp1024", "aes128-sha1-modp1024",
		"3des-sha1-modp2048", "3des-sha1-modp1536", "3des-sha1-modp1024", "3des-md5-modp1024",
	}
	defaultESP = []string{
		"aes256gcm16", "aes128gcm16", "aes256-sha256", "aes128-sha256", "aes256-sha512", "aes256-sha384",
		"aes256-sha1", "aes128-sha1",
	}
	weakESP = []string{"aes128-md5", "3des-sha1", "3des-md5"}
)

// DefaultIKE is what is offered in phase 1 when Config.IKE is empty.
func DefaultIKE(allow Weak) []IKESuite {
	return defaults(ParseIKESuite, IKESuite.Weak, allow, defaultIKE, weakIKE)
}

// DefaultESP is what is offered in phase 2 when Config.ESP is empty.
func DefaultESP(allow Weak) []ESPSuite {
	return defaults(ParseESPSuite, ESPSuite.Weak, allow, defaultESP, weakESP)
}

func defaults[S any](parse func(string) (S, error), weak func(S) Weak, allow Weak, lists ...[]string) []S {
	var out []S
	for _, names := range lists {
		for _, name := range names {
			s, err := parse(name)
			if err != nil {
				panic(err) // a mistake in the tables above
			}
			if weak(s)&^allow == 0 {
				out = append(out, s)
			}
		}
	}
	return out
}
