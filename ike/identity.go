package ike

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"wayfarer/ike/isakmp"
)

// Identity is what a side calls itself in phase 1 (RFC 2407 §4.6.2).
type Identity struct {
	Type isakmp.IDType
	Data []byte // as in the ID payload: text, address bytes, or a DER name
}

// maxIdentityText bounds an identity that somebody typed, in bytes. The first
// message of Aggressive Mode carries it and should fit one datagram.
const maxIdentityText = 1024

// maxDescription bounds an identity that somebody reads, in characters.
const maxDescription = 256

// identityPrefixes name the types that a written identity may carry.
var identityPrefixes = []struct {
	name  string
	typ   isakmp.IDType
	parse func(string) (Identity, error)
}{
	{"dn", isakmp.IDDERDN, parseDNIdentity},
	{"fqdn", isakmp.IDFQDN, parseFQDN},
	{"email", isakmp.IDUserFQDN, parseEmail},
	{"ip", isakmp.IDIPv4Addr, parseIP},
	{"keyid", isakmp.IDKeyID, parseKeyID},
}

// ParseIdentity reads an identity as people write it: "dn:", "fqdn:", "email:",
// "ip:" or "keyid:" and the value. Without the type, a text with "=" is a
// distinguished name ("O=Lab, CN=gw" or "/O=Lab/CN=gw"), an address is an
// address, a text with "@" is an e-mail address (USER_FQDN), and anything else a
// host name.
func ParseIdentity(s string) (Identity, error) {
	s = trimSpace(s)
	if len(s) > maxIdentityText {
		return Identity{}, fmt.Errorf("an identity of %d bytes is longer than %d", len(s), maxIdentityText)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, isUnprintable) {
		return Identity{}, fmt.Errorf("identity %q holds characters that cannot be shown", s)
	}
	if name, value, ok := strings.Cut(s, ":"); ok {
		for _, p := range identityPrefixes {
			if p.name == name {
				return p.parse(trimSpace(value))
			}
		}
	}
	if strings.Contains(s, "=") {
		return parseDNIdentity(s)
	}
	if id, err := parseIP(s); err == nil {
		return id, nil
	}
	if strings.Contains(s, "@") {
		return parseEmail(s)
	}
	if strings.ContainsAny(s, ":/") {
		return Identity{}, fmt.Errorf("%q is neither a host name nor an address, and has no known type", s)
	}
	return parseFQDN(s)
}

// trimSpace leaves a space at the end that a backslash makes part of a name.
func trimSpace(s string) string {
	trimmed := strings.TrimSpace(s)
	if strings.HasSuffix(trimmed, `\`) && strings.HasPrefix(strings.TrimLeftFunc(s, unicode.IsSpace), trimmed+" ") {
		return trimmed + " "
	}
	return trimmed
}

func parseDNIdentity(s string) (Identity, error) {
	d, err := readDN(s)
	if err != nil {
		return Identity{}, fmt.Errorf("distinguished name %q: %w", s, err)
	}
	return Identity{Type: isakmp.IDDERDN, Data: d.der()}, nil
}

func parseFQDN(s string) (Identity, error) {
	if s == "" {
		return Identity{}, errors.New("an identity without a name")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII || r == ' ' }) {
		return Identity{}, fmt.Errorf("host name %q: only ASCII without spaces", s)
	}
	return Identity{Type: isakmp.IDFQDN, Data: []byte(s)}, nil
}

// parseEmail takes an empty text too: Check Point's gateways want an empty
// USER_FQDN.
func parseEmail(s string) (Identity, error) {
	if strings.Contains(s, " ") {
		return Identity{}, fmt.Errorf("e-mail address %q holds a space", s)
	}
	return Identity{Type: isakmp.IDUserFQDN, Data: []byte(s)}, nil
}

func parseIP(s string) (Identity, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return Identity{}, fmt.Errorf("%q is not an address", s)
	}
	return addressIdentity(a), nil
}

// parseKeyID takes an empty text too: there are gateways with an empty group name.
func parseKeyID(s string) (Identity, error) {
	return Identity{Type: isakmp.IDKeyID, Data: []byte(s)}, nil
}

func addressIdentity(a netip.Addr) Identity {
	if a = a.Unmap(); a.Is4() {
		return Identity{Type: isakmp.IDIPv4Addr, Data: a.AsSlice()}
	}
	return Identity{Type: isakmp.IDIPv6Addr, Data: a.AsSlice()}
}

// identityOf is the identity in an ID payload; protocol and port are not part of
// it.
func identityOf(id isakmp.ID) Identity { return Identity{Type: id.Type, Data: id.Data} }

// String writes the identity so that ParseIdentity reads it again, with its type
// only where the form would tell another one. Types that cannot be typed are
// described.
func (id Identity) String() string {
	s := id.text()
	if again, err := ParseIdentity(s); err == nil && again.equal(id) {
		return s
	}
	for _, p := range identityPrefixes {
		if p.typ == id.Type {
			return p.name + ":" + s
		}
	}
	return s
}

// describeID says in an ID payload's place what people can read: text without
// control characters, of at most 256 characters. The gateway may be anybody.
func describeID(id isakmp.ID) string {
	s := []rune(identityOf(id).text())
	if len(s) > maxDescription {
		s = append(s[:maxDescription-1], '…')
	}
	return string(s)
}

// text is the identity without its type, printable whatever the bytes are.
func (id Identity) text() string {
	d := id.Data
	hex := fmt.Sprintf("0x%x", d[:min(len(d), maxDescription)])
	if id.check() != nil {
		return fmt.Sprintf("malformed identity of type %d %s", id.Type, hex)
	}
	switch id.Type {
	case isakmp.IDIPv4Addr, isakmp.IDIPv6Addr:
		return addrOf(d).String()
	case isakmp.IDIPv4Subnet, isakmp.IDIPv6Subnet:
		return subnetText(d[:len(d)/2], d[len(d)/2:])
	case isakmp.IDIPv4Range, isakmp.IDIPv6Range:
		return addrOf(d[:len(d)/2]).String() + "-" + addrOf(d[len(d)/2:]).String()
	case isakmp.IDDERDN:
		parsed, _ := parseDN(d)
		return parsed.String()
	case isakmp.IDFQDN, isakmp.IDUserFQDN:
		return printable(d)
	case isakmp.IDKeyID:
		if utf8.Valid(d) {
			return printable(d)
		}
		return hex
	}
	return fmt.Sprintf("identity of type %d %s", id.Type, hex)
}

func addrOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func subnetText(addr, mask []byte) string {
	ones, end := 0, false
	for _, b := range mask {
		for bit := 7; bit >= 0; bit-- {
			set := b>>bit&1 == 1
			if set && end {
				return addrOf(addr).String() + "/" + addrOf(mask).String()
			}
			if set {
				ones++
			}
			end = end || !set
		}
	}
	return fmt.Sprintf("%v/%d", addrOf(addr), ones)
}

// idLengths are the sizes of identities that are addresses, in bytes. Reading such
// data by another length has broken gateways (CVE-2013-6075, CVE-2023-38711).
var idLengths = map[isakmp.IDType]int{
	isakmp.IDIPv4Addr: 4, isakmp.IDIPv4Subnet: 8, isakmp.IDIPv4Range: 8,
	isakmp.IDIPv6Addr: 16, isakmp.IDIPv6Subnet: 32, isakmp.IDIPv6Range: 32,
}

// check holds the data against the form that the type prescribes.
func (id Identity) check() error {
	if n, ok := idLengths[id.Type]; ok && len(id.Data) != n {
		return fmt.Errorf("an identity of type %d has %d bytes instead of %d", id.Type, len(id.Data), n)
	}
	if id.Type == isakmp.IDDERDN {
		if _, err := parseDN(id.Data); err != nil {
			return fmt.Errorf("the identity is no distinguished name: %w", err)
		}
	}
	return nil
}

// equal compares by meaning: distinguished names by their parts, host names and
// e-mail addresses without regard to case, all else byte for byte.
func (id Identity) equal(other Identity) bool {
	if id.Type != other.Type {
		return false
	}
	switch id.Type {
	case isakmp.IDDERDN:
		return sameDN(id.Data, other.Data)
	case isakmp.IDFQDN, isakmp.IDUserFQDN:
		return equalFoldASCII(string(id.Data), string(other.Data))
	}
	return bytes.Equal(id.Data, other.Data)
}

// equalFoldASCII ignores the case of a text that has ASCII on at least one side.
// Of equal length it is ASCII on both: "k" does not equal the Kelvin sign.
func equalFoldASCII(a, b string) bool {
	return len(a) == len(b) && strings.EqualFold(a, b)
}

func isUnprintable(r rune) bool { return !unicode.IsPrint(r) }

// printable is the text without what cannot be shown: control and formatting
// characters, bytes that are not UTF-8.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || isUnprintable(r) {
			return -1
		}
		return r
	}, string(b))
}
