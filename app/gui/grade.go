package gui

import (
	"strings"

	"fyne.io/fyne/v2/lang"
)

// grade says how safe algorithms are, the worst first.
type grade int

// Grades. What no table knows has none: it is shown without a judgement.
const (
	gradeNone grade = iota
	gradeWeak
	gradeAcceptable
	gradeStrong
)

// String is the grade in the user's language; empty: there is none.
func (g grade) String() string {
	switch g {
	case gradeWeak:
		return lang.L("weak")
	case gradeAcceptable:
		return lang.L("acceptable")
	case gradeStrong:
		return lang.L("strong")
	}
	return ""
}

// algorithm is a row of the tables below.
type algorithm struct {
	name  string // for people
	grade grade
	why   func() string // nil where the grade is strong
}

// algorithms are the parts of suites' names, of IKE and of ESP. What counts is what the
// standards say of use today: RFC 8247 (IKE) and RFC 8221 (ESP) by "MUST", "SHOULD NOT"
// and "MUST NOT", NIST SP 800-131A Rev. 2 by "acceptable" and "disallowed" and, for how
// long, SP 800-57 Part 1 Rev. 5 §5.6.
var algorithms = map[string]algorithm{
	// RFC 8221 §5, RFC 8247 §2.1: AES-CBC and AES-GCM with an ICV of 16 octets MUST, 3DES
	// SHOULD NOT; SP 800-131A §2: three-key 3DES is disallowed after 2023. Tags of fewer
	// than 16 octets: SP 800-38D Appendix C.
	"aes256":      {name: "AES-256-CBC", grade: gradeStrong},
	"aes192":      {name: "AES-192-CBC", grade: gradeStrong},
	"aes128":      {name: "AES-128-CBC", grade: gradeStrong},
	"aes256gcm16": {name: "AES-256-GCM", grade: gradeStrong},
	"aes192gcm16": {name: "AES-192-GCM", grade: gradeStrong},
	"aes128gcm16": {name: "AES-128-GCM", grade: gradeStrong},
	"aes256gcm12": {"AES-256-GCM-12", gradeAcceptable, shortTag},
	"aes192gcm12": {"AES-192-GCM-12", gradeAcceptable, shortTag},
	"aes128gcm12": {"AES-128-GCM-12", gradeAcceptable, shortTag},
	"aes256gcm8":  {"AES-256-GCM-8", gradeAcceptable, shortTag},
	"aes192gcm8":  {"AES-192-GCM-8", gradeAcceptable, shortTag},
	"aes128gcm8":  {"AES-128-GCM-8", gradeAcceptable, shortTag},
	"aes256ctr":   {name: "AES-256-CTR", grade: gradeStrong},
	"aes192ctr":   {name: "AES-192-CTR", grade: gradeStrong},
	"aes128ctr":   {name: "AES-128-CTR", grade: gradeStrong},
	"3des": {"3DES", gradeWeak, func() string {
		return lang.L("3DES works on blocks of 64 bits, which repeat in long connections; NIST has disallowed it since 2024")
	}},

	// RFC 8221 §6, RFC 8247 §2.2 and §2.3: HMAC with SHA-2 MUST, with SHA-1 MUST- (to be
	// downgraded), with MD5 MUST NOT; AES-XCBC SHOULD for small devices only.
	"sha256": {name: "HMAC-SHA-256", grade: gradeStrong},
	"sha384": {name: "HMAC-SHA-384", grade: gradeStrong},
	"sha512": {name: "HMAC-SHA-512", grade: gradeStrong},
	"sha1": {"HMAC-SHA-1", gradeAcceptable, func() string {
		return lang.L("SHA-1 is broken for signatures, but not in the way it is used here; standards are phasing it out")
	}},
	"aesxcbc": {"AES-XCBC-96", gradeAcceptable, func() string {
		return lang.L("AES-XCBC is sound, but meant for small devices and checked with 96 bits only")
	}},
	"sha256_96": {"HMAC-SHA-256-96", gradeAcceptable, func() string {
		return lang.L("the check of SHA-256 is cut to 96 bits, as an old draft had it and no standard does")
	}},
	"md5": {"HMAC-MD5", gradeWeak, func() string {
		return lang.L("MD5 is broken; the standards forbid it")
	}},

	// RFC 8247 §2.4: group 14 MUST, 19 SHOULD, 5 and 2 SHOULD NOT; RFC 9395 §3 deprecates
	// group 2. SP 800-131A §5: below 112 bits of strength disallowed; SP 800-57: 112 bits
	// until 2030.
	"modp2048": {"MODP-2048", gradeAcceptable, func() string {
		return lang.L("a key exchange of 2048 bits is as strong as a key of 112 bits: enough until 2030, says NIST")
	}},
	"modp3072": {name: "MODP-3072", grade: gradeStrong},
	"modp4096": {name: "MODP-4096", grade: gradeStrong},
	"modp6144": {name: "MODP-6144", grade: gradeStrong},
	"modp8192": {name: "MODP-8192", grade: gradeStrong},
	"ecp256":   {name: "ECP-256", grade: gradeStrong},
	"ecp384":   {name: "ECP-384", grade: gradeStrong},
	"ecp521":   {name: "ECP-521", grade: gradeStrong},
	"modp1536": {"MODP-1536", gradeWeak, func() string {
		return lang.L("a key exchange of 1536 bits is below what the standards ask for (2048)")
	}},
	"modp1024": {"MODP-1024", gradeWeak, func() string {
		return lang.L("a key exchange of 1024 bits can be broken by states; what is recorded today can be read then")
	}},
}

func shortTag() string {
	return lang.L("the check of each packet is shorter than the 128 bits that the standards ask for")
}

// judgement is what there is to say of a suite.
type judgement struct {
	names []string // of its algorithms, for people
	grade grade    // the worst of them; none where one is unknown
	why   []string // what keeps it from being strong, the worst first
}

// judge grades a suite by its name, such as "aes256-sha256-modp2048".
func judge(suite string) judgement {
	var j judgement
	if suite == "" {
		return j
	}
	worst := gradeStrong
	var weak, acceptable []string
	for part := range strings.SplitSeq(suite, "-") {
		a, known := algorithms[part]
		if !known {
			a.name = plainLine(part)
		}
		j.names = append(j.names, a.name)
		worst = min(worst, a.grade)
		switch a.grade {
		case gradeWeak:
			weak = append(weak, a.why())
		case gradeAcceptable:
			acceptable = append(acceptable, a.why())
		}
	}
	j.grade, j.why = worst, append(weak, acceptable...)
	return j
}
