package ike

import (
	"slices"
	"strings"
	"testing"

	"wayfarer/ike/isakmp"
)

func TestParseIKESuite(t *testing.T) {
	for _, c := range ciphers {
		for _, h := range hashes {
			for _, g := range groups {
				name := c.name + "-" + h.name + "-" + g.name
				s, err := ParseIKESuite(name)
				if c.ikeID == 0 || h.ikeID == 0 {
					if err == nil {
						t.Errorf("%s is not for phase 1", name)
					}
					continue
				}
				if err != nil || s.String() != name || s.cipher != c || s.hash != h || s.group != g {
					t.Errorf("%s: %v, %v", name, s, err)
				}
				if s.Weak() != c.weak|h.weak|g.weak {
					t.Errorf("%s is weak by %v", name, s.Weak())
				}
			}
		}
	}
	for _, name := range []string{
		"", "-", "--", "aes256", "aes256-sha256", "aes256-sha256-modp2048-modp2048", "aes256-sha256-modp2048 ", "AES256-sha256-modp2048",
		"des-sha1-modp1024", "null-sha1-modp1024", "aes-sha256-modp2048", "aes256-sha224-modp2048", "aes256-prfsha256-modp2048",
		"aes256-sha256-modp768", "aes256-sha256-modp1024s160", "aes256-sha256-curve25519", "aes256gcm16-sha256-modp2048", "aes256-sha256-",
	} {
		if s, err := ParseIKESuite(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("ParseIKESuite(%q) = %v, %v", name, s, err)
		}
	}
}

func TestParseESPSuite(t *testing.T) {
	parse := func(name string, c *cipherAlg, h *hashAlg, g *group) {
		s, err := ParseESPSuite(name)
		if err != nil || s.String() != name || s.cipher != c || s.hash != h || s.group != g {
			t.Errorf("%s: %v, %v", name, s, err)
			return
		}
		want := c.weak
		if h != nil {
			want |= h.weak
		}
		if g != nil {
			want |= g.weak
		}
		if s.Weak() != want {
			t.Errorf("%s is weak by %v, want %v", name, s.Weak(), want)
		}
		if s.transform().KeyMaterialLen() == 0 {
			t.Errorf("%s is no transform of package esp", name)
		}
	}
	var all []string
	for _, c := range ciphers {
		for _, g := range append([]*group{nil}, groups...) {
			suffix := ""
			if g != nil {
				suffix = "-" + g.name
			}
			if c.aead {
				parse(c.name+suffix, c, nil, g)
				if g == nil {
					all = append(all, c.name)
				}
				continue
			}
			for _, h := range hashes {
				parse(c.name+"-"+h.name+suffix, c, h, g)
				if g == nil {
					all = append(all, c.name+"-"+h.name)
				}
			}
		}
	}
	if got := ESPSuiteNames(); !slices.Equal(got, all) {
		t.Errorf("the names are %q, want %q", got, all)
	}
	for _, name := range []string{
		"", "-", "aes256", "3des", "aes256-modp2048", "aes256gcm16-sha256", "aes256gcm16-sha256-modp2048", "aes128-sha1-modp2048-modp2048",
		"null-sha1", "des-sha1", "aes256gmac", "aes128gcm16-", "aes128-sha1-", "aes128-sha1-modp768", "AES128GCM16", "aes128-sha1 ",
	} {
		if s, err := ParseESPSuite(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("ParseESPSuite(%q) = %v, %v", name, s, err)
		}
	}
}

// TestDefaultSuites: nothing weak is offered unless it is allowed by name, and what
// is weak comes last.
func TestDefaultSuites(t *testing.T) {
	singles := []Weak{0, Weak3DES, WeakMD5, WeakMODP1024, WeakMODP1536, WeakRSA1024, WeakSHA1Cert, WeakExpired, WeakPSKAggressive}
	for _, allow := range append(singles, Weak3DES|WeakMODP1024, Weak3DES|WeakMD5, WeakAll) {
		ike, esp := DefaultIKE(allow), DefaultESP(allow)
		checkDefaults(t, allow, ike, IKESuite.Weak, len(DefaultIKE(0)))
		checkDefaults(t, allow, esp, ESPSuite.Weak, len(DefaultESP(0)))
	}
	for _, s := range DefaultESP(WeakAll) {
		if s.group != nil {
			t.Errorf("%v has a group: Config.PFS decides", s)
		}
	}
	for _, w := range []Weak{Weak3DES, WeakMODP1024, WeakMODP1536, Weak3DES | WeakMODP1024, Weak3DES | WeakMD5 | WeakMODP1024} {
		if !slices.ContainsFunc(DefaultIKE(w), func(s IKESuite) bool { return s.Weak() == w }) {
			t.Errorf("allowing %v changes nothing", w)
		}
	}
}

func checkDefaults[S interface {
	comparable
	String() string
}](t *testing.T, allow Weak, suites []S, weak func(S) Weak, strong int) {
	t.Helper()
	if len(suites) < strong {
		t.Errorf("allowed %v: %d suites", allow, len(suites))
	}
	for i, s := range suites {
		if weak(s)&^allow != 0 {
			t.Errorf("allowed %v: %v is offered", allow, s)
		}
		if (weak(s) != 0) != (i >= strong) {
			t.Errorf("allowed %v: %v at place %d", allow, s, i)
		}
		if slices.Contains(suites[:i], s) {
			t.Errorf("%v twice", s)
		}
	}
}

// TestFirstMessageIsSmall: what goes out before anybody knows fragmentation fits a
// datagram that every path carries.
func TestFirstMessageIsSmall(t *testing.T) {
	sa := newRecordedSA()
	s, err := newSession(&Config{Gateway: "gw.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	sa.s = s
	size := isakmp.HeaderLen
	for _, p := range append(vendorPayloads(NATTAuto), isakmp.Payload{Type: isakmp.PayloadSA, Body: sa.saOffer(s.ikeSuites)}) {
		size += 4 + len(p.Body)
	}
	if size > 500 {
		t.Errorf("the first message has %d bytes", size)
	}
}

// TestSuiteTables: what tells algorithms apart on the wire does tell them apart.
func TestSuiteTables(t *testing.T) {
	type onWire struct {
		id   uint16
		bits uint16
	}
	seenIKE, seenESP := make(map[onWire]string), make(map[onWire]string)
	for _, c := range ciphers {
		for table, w := range map[*map[onWire]string]onWire{
			&seenIKE: {c.ikeID, c.keyBits}, &seenESP: {uint16(c.espID), c.keyBits},
		} {
			if other := (*table)[w]; other != "" && w.id != 0 {
				t.Errorf("%s and %s are both %+v", other, c.name, w)
			}
			(*table)[w] = c.name
		}
		if c.keyBits != 0 && int(c.keyBits) != 8*c.keyLen {
			t.Errorf("%s: %d bits in %d bytes", c.name, c.keyBits, c.keyLen)
		}
		if c.ikeID != 0 {
			if b, err := c.newBlock(make([]byte, c.keyLen)); err != nil || b.BlockSize() < 8 {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	for i, h := range hashes {
		if h.ikeID != 0 && !h.hash.Available() {
			t.Errorf("%s is not linked in", h.name)
		}
		for _, other := range hashes[:i] {
			if h.name == other.name || h.ikeID != 0 && h.ikeID == other.ikeID {
				t.Errorf("%s and %s", h.name, other.name)
			}
		}
	}
	for i, g := range groups {
		for _, other := range groups[:i] {
			if g.name == other.name || g.id == other.id {
				t.Errorf("%s and %s", g.name, other.name)
			}
		}
		if g != findGroup(g.name) || g != groupByID(uint64(g.id)) {
			t.Errorf("%s is not found", g.name)
		}
	}
	if findGroup("modp768") != nil || groupByID(1) != nil || groupByID(0) != nil || groupByID(1<<16+14) != nil {
		t.Error("a group that nobody should use is found")
	}
}
