package ike

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// distinguishedName is an X.501 name: relative names, in the order in which they
// are encoded, each of one attribute or of several.
type distinguishedName [][]dnAttribute

type dnAttribute struct {
	typ   x509.OID
	value []byte // DER, tag and length included
}

// maxDNAttributes bounds a name from the network; those in use have fewer than ten.
const maxDNAttributes = 64

// dnNames are the short names of attribute types (RFC 4519 §2, RFC 5280 §4.1.2.4).
// The first of a type is the one that is shown.
var dnNames = []struct {
	name string
	oid  x509.OID
	ia5  bool // written as IA5String, not as PrintableString
}{
	{"CN", oid("2.5.4.3"), false},
	{"O", oid("2.5.4.10"), false},
	{"OU", oid("2.5.4.11"), false},
	{"C", oid("2.5.4.6"), false},
	{"ST", oid("2.5.4.8"), false},
	{"L", oid("2.5.4.7"), false},
	{"E", oid("1.2.840.113549.1.9.1"), true},
	{"emailAddress", oid("1.2.840.113549.1.9.1"), true},
	{"DC", oid("0.9.2342.19200300.100.1.25"), true},
	{"SN", oid("2.5.4.4"), false},
	{"serialNumber", oid("2.5.4.5"), false},
	{"UID", oid("0.9.2342.19200300.100.1.1"), false},
}

func oid(s string) x509.OID {
	o, err := x509.ParseOID(s)
	if err != nil {
		panic(err)
	}
	return o
}

var errDN = errors.New("malformed distinguished name")

// parseDN reads a DER Name (RFC 5280 §4.1.2.4).
func parseDN(der []byte) (distinguishedName, error) {
	s := cryptobyte.String(der)
	var sequence cryptobyte.String
	if !s.ReadASN1(&sequence, cbasn1.SEQUENCE) || !s.Empty() {
		return nil, errDN
	}
	var d distinguishedName
	for count := 0; !sequence.Empty(); {
		var set cryptobyte.String
		if !sequence.ReadASN1(&set, cbasn1.SET) || set.Empty() {
			return nil, errDN
		}
		var rdn []dnAttribute
		for ; !set.Empty(); count++ {
			var pair, typ, value cryptobyte.String
			if count == maxDNAttributes || !set.ReadASN1(&pair, cbasn1.SEQUENCE) ||
				!pair.ReadASN1(&typ, cbasn1.OBJECT_IDENTIFIER) || !pair.ReadAnyASN1Element(&value, nil) || !pair.Empty() {
				return nil, errDN
			}
			a := dnAttribute{value: value}
			if a.typ.UnmarshalBinary(typ) != nil {
				return nil, errDN
			}
			rdn = append(rdn, a)
		}
		d = append(d, rdn)
	}
	return d, nil
}

// der writes the name. The attributes of a relative name are sorted, as DER
// demands of a SET.
func (d distinguishedName) der() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, rdn := range d {
			pairs := make([][]byte, len(rdn))
			for i, a := range rdn {
				var p cryptobyte.Builder
				p.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(a.oid()) })
					b.AddBytes(a.value)
				})
				pairs[i] = p.BytesOrPanic()
			}
			slices.SortFunc(pairs, slices.Compare)
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(slices.Concat(pairs...)) })
		}
	})
	return b.BytesOrPanic()
}

// oid is the content of the type's encoding.
func (a dnAttribute) oid() []byte {
	b, err := a.typ.MarshalBinary()
	if err != nil {
		panic(err) // no OID fails to be written
	}
	return b
}

// text is the attribute's string, whichever string type it has.
func (a dnAttribute) text() (string, bool) {
	var content cryptobyte.String
	var tag cbasn1.Tag
	s := cryptobyte.String(a.value)
	if !s.ReadAnyASN1(&content, &tag) {
		return "", false
	}
	const numericString, teletexString, bmpString = cbasn1.Tag(18), cbasn1.T61String, cbasn1.Tag(30)
	switch tag {
	case cbasn1.UTF8String, cbasn1.PrintableString, cbasn1.IA5String, numericString:
		return string(content), utf8.Valid(content)
	case teletexString: // Latin-1 in practice
		runes := make([]rune, len(content))
		for i, c := range content {
			runes[i] = rune(c)
		}
		return string(runes), true
	case bmpString:
		var units []uint16
		for u := uint16(0); content.ReadUint16(&u); {
			units = append(units, u)
		}
		return string(utf16.Decode(units)), content.Empty()
	}
	return "", false
}

// equal compares values as RFC 5280 §7.1 does: strings without regard to their
// type, to case and to the number of spaces; all else byte for byte.
func (a dnAttribute) equal(b dnAttribute) bool {
	if !a.typ.Equal(b.typ) {
		return false
	}
	s, isText := a.text()
	t, isTextToo := b.text()
	if !isText || !isTextToo {
		return slices.Equal(a.value, b.value)
	}
	return strings.EqualFold(foldSpace(s), foldSpace(t))
}

func foldSpace(s string) string { return strings.Join(strings.Fields(s), " ") }

// sameDN compares two DER names: the same relative names in the same order. An
// empty name names nobody and equals nothing.
func sameDN(a, b []byte) bool {
	d, err := parseDN(a)
	e, err2 := parseDN(b)
	return err == nil && err2 == nil && len(d) > 0 && slices.EqualFunc(d, e, sameRDN)
}

// sameRDN compares two sets: each attribute needs a partner of its own.
func sameRDN(a, b []dnAttribute) bool {
	if len(a) != len(b) {
		return false
	}
	rest := slices.Clone(b)
	for _, x := range a {
		i := slices.IndexFunc(rest, x.equal)
		if i < 0 {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return true
}

// String writes the name in its own order, escaped as in RFC 4514 §2.4:
// "O=Lab, CN=gw". It is safe to show: what cannot be printed is escaped.
func (d distinguishedName) String() string {
	rdns := make([]string, len(d))
	for i, rdn := range d {
		pairs := make([]string, len(rdn))
		for j, a := range rdn {
			pairs[j] = a.String()
		}
		rdns[i] = strings.Join(pairs, "+")
	}
	return strings.Join(rdns, ", ")
}

// String is "CN=gw".
func (a dnAttribute) String() string {
	name := a.typ.String()
	for _, n := range dnNames {
		if n.oid.Equal(a.typ) {
			name = n.name
			break
		}
	}
	s, ok := a.text()
	if !ok || s == "" {
		return name + "=#" + hex.EncodeToString(a.value)
	}
	return name + "=" + escapeDN(s)
}

func escapeDN(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case isUnprintable(r) || r == utf8.RuneError:
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\%02X`, c)
			}
			continue
		case strings.ContainsRune(`,+"\<>;`, r), r == '#' && i == 0, r == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// readDN reads a name as people write it, first part first: "O=Lab, CN=gw", or
// "/O=Lab/CN=gw" as OpenSSL shows it. Escapes are those of RFC 4514 §2.4; "+" joins
// the attributes of one relative name in the first form.
func readDN(s string) (distinguishedName, error) {
	separator, joint := ",", "+"
	if rest, ok := strings.CutPrefix(s, "/"); ok {
		s, separator, joint = rest, "/", ""
	}
	var d distinguishedName
	count := 0
	for _, part := range splitEscaped(s, separator) {
		var rdn []dnAttribute
		for _, pair := range splitEscaped(part, joint) {
			a, err := readDNAttribute(pair)
			if err != nil {
				return nil, err
			}
			rdn = append(rdn, a)
			count++
		}
		d = append(d, rdn)
	}
	if count > maxDNAttributes {
		return nil, fmt.Errorf("more than %d attributes", maxDNAttributes)
	}
	return d, nil
}

// splitEscaped splits at each separator that no backslash precedes.
func splitEscaped(s, separator string) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i:i+1] == separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

func readDNAttribute(s string) (dnAttribute, error) {
	name, text, ok := strings.Cut(s, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return dnAttribute{}, fmt.Errorf("%q is not NAME=VALUE", s)
	}
	typ, ia5, err := readDNType(name)
	if err != nil {
		return dnAttribute{}, err
	}
	text = strings.TrimLeft(text, " ")
	if encoded, ok := strings.CutPrefix(text, "#"); ok {
		value, err := hex.DecodeString(strings.TrimRight(encoded, " "))
		var element cryptobyte.String
		if s := cryptobyte.String(value); err != nil || !s.ReadAnyASN1Element(&element, nil) || !s.Empty() {
			return dnAttribute{}, fmt.Errorf("%s: %q is not a value in hexadecimal", name, text)
		}
		return dnAttribute{typ, value}, nil
	}
	value, err := unescapeDN(text)
	if err != nil {
		return dnAttribute{}, fmt.Errorf("%s: %w", name, err)
	}
	return dnAttribute{typ, encodeDNString(value, ia5)}, nil
}

// readDNType reads a short name or a dotted OID.
func readDNType(name string) (typ x509.OID, ia5 bool, err error) {
	for _, n := range dnNames {
		if strings.EqualFold(n.name, name) {
			return n.oid, n.ia5, nil
		}
	}
	typ, err = x509.ParseOID(name)
	if err != nil {
		return x509.OID{}, false, fmt.Errorf("unknown attribute %q", name)
	}
	return typ, false, nil
}

// unescapeDN reads a value: a backslash stands before a special character or two
// hexadecimal digits; spaces at the end do not count unless they are escaped.
func unescapeDN(s string) (string, error) {
	var b []byte
	end := 0 // of what counts
	for i := 0; i < len(s); i++ {
		c, space := s[i], s[i] == ' '
		switch c {
		case '"':
			return "", errors.New("a quotation mark needs a backslash before it")
		case '\\':
			next := s[i+1 : min(i+3, len(s))]
			if pair, err := hex.DecodeString(next); err == nil && len(pair) == 1 {
				c, i = pair[0], i+2
			} else if next != "" && strings.IndexByte(` "#+,;<=>\/`, next[0]) >= 0 {
				c, i = next[0], i+1
			} else {
				return "", errors.New("a backslash before nothing special")
			}
		}
		b = append(b, c)
		if !space {
			end = len(b)
		}
	}
	if b = b[:end]; len(b) == 0 {
		return "", errors.New("no value")
	}
	if !utf8.Valid(b) {
		return "", errors.New("not UTF-8")
	}
	return string(b), nil
}

// encodeDNString writes a string value as IA5String or PrintableString, or as
// UTF8String if it has other characters.
func encodeDNString(s string, ia5 bool) []byte {
	tag := cbasn1.UTF8String
	switch {
	case ia5 && !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }):
		tag = cbasn1.IA5String
	case !ia5 && !strings.ContainsFunc(s, isNotPrintableString):
		tag = cbasn1.PrintableString
	}
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
	return b.BytesOrPanic()
}

func isNotPrintableString(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r))
}
