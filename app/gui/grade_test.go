package gui

import (
	"strings"
	"testing"

	"wayfarer/ike"
)

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		suite string
		names string
		grade grade
		why   []string // a part of each reason
	}{
		{"aes256gcm16", "AES-256-GCM", gradeStrong, nil},
		{"aes256-sha256-ecp256", "AES-256-CBC HMAC-SHA-256 ECP-256", gradeStrong, nil},
		{"aes256-sha256-modp2048", "AES-256-CBC HMAC-SHA-256 MODP-2048", gradeAcceptable, []string{"2030"}},
		{"aes128-sha1", "AES-128-CBC HMAC-SHA-1", gradeAcceptable, []string{"SHA-1"}},
		{"aes256gcm8-modp3072", "AES-256-GCM-8 MODP-3072", gradeAcceptable, []string{"128 bits"}},
		{"aes128-sha1-modp1024", "AES-128-CBC HMAC-SHA-1 MODP-1024", gradeWeak, []string{"1024", "SHA-1"}},
		{"3des-md5-modp1536", "3DES HMAC-MD5 MODP-1536", gradeWeak, []string{"3DES", "MD5", "1536"}},
		{"aes256-new\x1b[1m", "AES-256-CBC new[1m", gradeNone, nil},
		{"3des-new", "3DES new", gradeNone, []string{"3DES"}},
		{"", "", gradeNone, nil},
	} {
		j := judge(tt.suite)
		if got := strings.Join(j.names, " "); got != tt.names || j.grade != tt.grade || len(j.why) != len(tt.why) {
			t.Errorf("%q: got %q, %q, %q", tt.suite, got, j.grade, j.why)
			continue
		}
		for i, part := range tt.why {
			if !strings.Contains(j.why[i], part) {
				t.Errorf("%q: reason %d is %q, want one of %s", tt.suite, i, j.why[i], part)
			}
		}
	}
}

// Whatever the engine can agree on has a grade, and it is weak exactly when the engine
// wants it allowed by name.
func TestJudgeKnowsWhatTheEngineOffers(t *testing.T) {
	named := []string{
		"aes192-sha384-ecp521", "aes192-sha1-modp6144", "aes256-sha1-modp8192", // not offered by default
		"aes192gcm16", "aes256gcm12", "aes192gcm12", "aes128gcm12", "aes256gcm8", "aes192gcm8", "aes128gcm8",
		"aes256ctr-sha256", "aes192ctr-sha256", "aes128ctr-aesxcbc", "aes256-sha256_96", "aes256-sha512-modp2048",
	}
	weak := map[string]ike.Weak{}
	for _, s := range ike.DefaultIKE(ike.WeakAll) {
		weak[s.String()] = s.Weak()
	}
	for _, s := range ike.DefaultESP(ike.WeakAll) {
		weak[s.String()] = s.Weak()
	}
	for _, name := range named {
		if s, err := ike.ParseIKESuite(name); err == nil {
			weak[name] = s.Weak()
		} else if s, err := ike.ParseESPSuite(name); err == nil {
			weak[name] = s.Weak()
		} else {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, w := range weak {
		j := judge(name)
		if j.grade == gradeNone || (j.grade == gradeWeak) != (w != 0) || (j.grade == gradeStrong) != (len(j.why) == 0) {
			t.Errorf("%s: grade %q for weakness %v, because %q", name, j.grade, w, j.why)
		}
	}
}
