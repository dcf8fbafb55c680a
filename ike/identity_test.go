package ike

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"wayfarer/ike/isakmp"
)

func TestParseIdentity(t *testing.T) {
	for _, c := range []struct {
		in   string
		typ  isakmp.IDType
		data string // text, or hexadecimal after 0x
		out  string // String, if it is not in
	}{
		{"gw.example.com", isakmp.IDFQDN, "gw.example.com", ""},
		{" gw_1 ", isakmp.IDFQDN, "gw_1", "gw_1"},
		{"fqdn:gw", isakmp.IDFQDN, "gw", "gw"},
		{"fqdn:192.0.2.1", isakmp.IDFQDN, "192.0.2.1", ""},
		{"fqdn:a=b", isakmp.IDFQDN, "a=b", ""},
		{"fqdn:ada@example.com", isakmp.IDFQDN, "ada@example.com", ""},
		{"fqdn:a/b:c", isakmp.IDFQDN, "a/b:c", ""},
		{"fqdn:fqdn:x", isakmp.IDFQDN, "fqdn:x", ""},
		{"ada@example.com", isakmp.IDUserFQDN, "ada@example.com", ""},
		{"email:ada@example.com", isakmp.IDUserFQDN, "ada@example.com", "ada@example.com"},
		{"email:ada", isakmp.IDUserFQDN, "ada", ""},
		{"email:", isakmp.IDUserFQDN, "", ""},
		{"email:grüße@example.com", isakmp.IDUserFQDN, "grüße@example.com", "grüße@example.com"},
		{"192.0.2.1", isakmp.IDIPv4Addr, "0xc0000201", ""},
		{"ip:192.0.2.1", isakmp.IDIPv4Addr, "0xc0000201", "192.0.2.1"},
		{"2001:db8::1", isakmp.IDIPv6Addr, "0x20010db8000000000000000000000001", ""},
		{"ip: 2001:DB8:0::1", isakmp.IDIPv6Addr, "0x20010db8000000000000000000000001", "2001:db8::1"},
		{"::ffff:192.0.2.1", isakmp.IDIPv4Addr, "0xc0000201", "192.0.2.1"},
		{"keyid:labgroup", isakmp.IDKeyID, "labgroup", ""},
		{"keyid:192.0.2.1", isakmp.IDKeyID, "192.0.2.1", ""},
		{"keyid:two words", isakmp.IDKeyID, "two words", ""},
		{"keyid:", isakmp.IDKeyID, "", ""},

		// The DER is that of OpenSSL and strongSwan for the same names.
		{"CN=rhum", isakmp.IDDERDN, "0x300f310d300b060355040313047268756d", ""},
		{"dn:CN=rhum", isakmp.IDDERDN, "0x300f310d300b060355040313047268756d", "CN=rhum"},
		{"O=Lab, CN=ca", isakmp.IDDERDN, "0x301b310c300a060355040a13034c6162310b3009060355040313026361", ""},
		{"o=Lab,cn=ca", isakmp.IDDERDN, "0x301b310c300a060355040a13034c6162310b3009060355040313026361", "O=Lab, CN=ca"},
		{"/O=Lab/CN=ca", isakmp.IDDERDN, "0x301b310c300a060355040a13034c6162310b3009060355040313026361", "O=Lab, CN=ca"},
		{" O = Lab , 2.5.4.3 = ca ", isakmp.IDDERDN, "0x301b310c300a060355040a13034c6162310b3009060355040313026361", "O=Lab, CN=ca"},
		{"CN=#13026361", isakmp.IDDERDN, "0x300d310b3009060355040313026361", "CN=ca"},
	} {
		id, err := ParseIdentity(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		want := []byte(c.data)
		if h, ok := strings.CutPrefix(c.data, "0x"); ok {
			if want, err = hex.DecodeString(h); err != nil {
				t.Fatal(err)
			}
		}
		if id.Type != c.typ || !bytes.Equal(id.Data, want) {
			t.Errorf("%q is %d %x, want %d %x", c.in, id.Type, id.Data, c.typ, want)
		}
		out := c.out
		if out == "" {
			out = c.in
		}
		if got := id.String(); got != out {
			t.Errorf("%q is written %q, want %q", c.in, got, out)
		}
	}
}

func TestParseIdentityRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "fqdn:", "dn:", "ip:", "ip:gw", "ip:192.0.2.1/24", "fe80::1%eth0", "host name", "gr\u00fc\u00dfe.example.com",
		"a b@example.com", "email:a b", "gw\x00", "gw\nx", "keyid:\xff", "keyid:\x1b[0m", "keyid:\u202egw", "gw\xff", strings.Repeat("x", maxIdentityText+1),
		"dn:gw", "=", "CN=", "CN= ", "dn:CN", "user:ada", "http://gw", "CN=gw,", ",CN=gw", "CN=gw,,O=Lab", "CN=gw,O", "/", "/CN=gw/", "//CN=gw", "=gw",
		"XX=gw", "1=gw", "2.999999=gw,3.1=x", "CN=gw+", "+CN=gw", "CN=#", "CN=#1", "CN=#zz", "CN=#130263", "CN=#1302636100", "CN=#30800000",
		`CN="gw"`, `CN=gw\`, `CN=a\q`, `CN=\ff`, `CN=\zz`, "dn:" + strings.Repeat("CN=x,", maxDNAttributes) + "CN=x",
	} {
		if id, err := ParseIdentity(in); err == nil {
			t.Errorf("%q is %d %x", in, id.Type, id.Data)
		}
	}
}

// TestDN compares with crypto/x509/pkix, which encodes the same name.
func TestDN(t *testing.T) {
	at := func(oid asn1.ObjectIdentifier, value any) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: oid, Value: value}
	}
	x520 := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, n} }
	ia5 := func(s string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(s)} }
	email := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	uid, dc := asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
	type rdn = pkix.RelativeDistinguishedNameSET

	for _, c := range []struct {
		in   string
		want pkix.RDNSequence
		out  string // if it is not in
	}{
		{"C=DE, ST=BY, L=Ulm, O=Lab, OU=VPN, CN=gw", pkix.RDNSequence{
			rdn{at(x520(6), "DE")},
			rdn{at(x520(8), "BY")},
			rdn{at(x520(7), "Ulm")},
			rdn{at(x520(10), "Lab")},
			rdn{at(x520(11), "VPN")},
			rdn{at(x520(3), "gw")},
		}, ""},
		{"SN=Lovelace, serialNumber=12, UID=ada", pkix.RDNSequence{rdn{at(x520(4), "Lovelace")}, rdn{at(x520(5), "12")}, rdn{at(uid, "ada")}}, ""},
		{"DC=example, DC=com, emailAddress=a@b", pkix.RDNSequence{rdn{at(dc, ia5("example"))}, rdn{at(dc, ia5("com"))}, rdn{at(email, ia5("a@b"))}}, "DC=example, DC=com, E=a@b"},
		{"DC=münchen", pkix.RDNSequence{rdn{at(dc, "münchen")}}, ""},
		{"CN=a@b, O=Grüße", pkix.RDNSequence{rdn{at(x520(3), "a@b")}, rdn{at(x520(10), "Grüße")}}, ""},
		{"2.5.4.12=Dr, 1.2.3.4=x", pkix.RDNSequence{rdn{at(x520(12), "Dr")}, rdn{at(asn1.ObjectIdentifier{1, 2, 3, 4}, "x")}}, ""},
		{"OU=xy+CN=gw, O=Lab", pkix.RDNSequence{rdn{at(x520(11), "xy"), at(x520(3), "gw")}, rdn{at(x520(10), "Lab")}}, "-"},
		{"/O=Lab, Inc./CN=a+b", pkix.RDNSequence{rdn{at(x520(10), "Lab, Inc.")}, rdn{at(x520(3), "a+b")}}, `O=Lab\, Inc., CN=a\+b`},
		{`/O=a\/b/CN=c`, pkix.RDNSequence{rdn{at(x520(10), "a/b")}, rdn{at(x520(3), "c")}}, "O=a/b, CN=c"},
		{"CN=a=b", pkix.RDNSequence{rdn{at(x520(3), "a=b")}}, ""},
		{`CN=\,\+\"\\\<\>\;`, pkix.RDNSequence{rdn{at(x520(3), `,+"\<>;`)}}, ""},
		{`CN=\ a\ , O=\#b`, pkix.RDNSequence{rdn{at(x520(3), " a ")}, rdn{at(x520(10), "#b")}}, ""},
		{`CN=a\2cb\0A\C3\BC`, pkix.RDNSequence{rdn{at(x520(3), "a,b\nü")}}, `CN=a\,b\0Aü`},
		{`CN=\E2\80\AEgw`, pkix.RDNSequence{rdn{at(x520(3), "\u202egw")}}, ""},
		{"CN=#0500", pkix.RDNSequence{rdn{at(x520(3), asn1.NullRawValue)}}, ""},
		{"CN=#1e0400670077", pkix.RDNSequence{rdn{at(x520(3), asn1.RawValue{Tag: asn1.TagBMPString, Bytes: []byte("\x00g\x00w")})}}, "CN=gw"},
		{"CN=#1401e9", pkix.RDNSequence{rdn{at(x520(3), asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte{0xe9}})}}, "CN=é"},
	} {
		want, err := asn1.Marshal(c.want)
		if err != nil {
			t.Fatal(err)
		}
		id, err := ParseIdentity("dn:" + c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if !bytes.Equal(id.Data, want) {
			t.Errorf("%q is\n%x, want\n%x", c.in, id.Data, want)
		}
		out := c.out
		switch out {
		case "":
			out = c.in
		case "-": // the attributes of a SET come back sorted
			out = "CN=gw+OU=xy, O=Lab"
		}
		if got := id.String(); got != out {
			t.Errorf("%q is written %q, want %q", c.in, got, out)
		}
	}
}

func TestSameDN(t *testing.T) {
	der := func(s string) []byte {
		id, err := ParseIdentity("dn:" + s)
		if err != nil {
			t.Fatal(err)
		}
		return id.Data
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"O=Lab, CN=gw", "O=Lab, CN=gw", true},
		{"O=Lab, CN=gw", "o=LAB, cn=Gw", true},
		{"O=My Lab", `O=\ my   lab\   `, true},
		{"O=Mylab", "O=My lab", false},
		{"CN=gw", "CN=#1e0400470057", true}, // BMPString
		{"CN=gw", "CN=#0c026777", true},     // UTF8String
		{"O=grüße", "O=GRÜSSE", false},
		{"O=grüne", "O=GRÜNE", true},
		{"O=Lab, CN=gw", "CN=gw, O=Lab", false},
		{"O=Lab, CN=gw", "CN=gw", false},
		{"CN=gw", "O=gw", false},
		{"CN=gw", "CN=gw2", false},
		{"CN=gw+OU=x", "OU=X+CN=GW", true},
		{"CN=gw+OU=x", "CN=gw, OU=x", false},
		{"CN=a+CN=a+CN=b", "CN=a+CN=b+CN=b", false},
		{"CN=gw+OU=x", "CN=gw", false},
		{"CN=#0500", "CN=#0500", true},
		{"CN=#0500", "CN=#0101ff", false},
		{"CN=#0500", "CN=null", false},
	} {
		if got := sameDN(der(c.a), der(c.b)); got != c.want {
			t.Errorf("%q and %q are the same: %v", c.a, c.b, got)
		}
		if sameDN(der(c.a), der(c.b)) != sameDN(der(c.b), der(c.a)) {
			t.Errorf("%q and %q depend on the order", c.a, c.b)
		}
	}
	if empty := []byte{0x30, 0}; sameDN(empty, empty) || sameDN(nil, nil) {
		t.Error("nobody is somebody")
	}
}

func TestParseDNRefuses(t *testing.T) {
	good, _ := hex.DecodeString("301b310c300a060355040a13034c6162310b3009060355040313026361")
	if d, err := parseDN(good); err != nil || len(d) != 2 {
		t.Fatalf("%v, %v", d, err)
	}
	for n := range good {
		if d, err := parseDN(good[:n]); err == nil {
			t.Errorf("%d bytes are %v", n, d)
		}
	}
	for _, s := range []string{
		"301b310c300a060355040a13034c6162310b300906035504031302636100", // behind the name
		"30023100",                           // an empty SET
		"300f310d300b060355040a13024c610500", // behind a value
		"300b3109300706055504030500",         // no OID
		"300b310930070600130363617a",         // an empty OID
		"300d310b3009060355048313026361",     // an OID that ends early
		"300d310b300930060355040313026361",   // no OID, but a SEQUENCE
		"300d300b3009060355040313026361",     // no SET
		"3080310b30090603550403130263610000", // indefinite length
		"300e310b300906035504031302636100",   // a byte among the relative names
	} {
		der, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := parseDN(der); err == nil {
			t.Errorf("%s is %v", s, d)
		}
	}
	many := func(n int) []byte {
		rdns := pkix.RDNSequence{}
		for range n {
			rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "x"}})
		}
		der, err := asn1.Marshal(rdns)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if _, err := parseDN(many(maxDNAttributes)); err != nil {
		t.Error(err)
	}
	if _, err := parseDN(many(maxDNAttributes + 1)); err == nil {
		t.Errorf("%d attributes accepted", maxDNAttributes+1)
	}
}

func TestIdentityEqual(t *testing.T) {
	for _, c := range []struct {
		a, b Identity
		want bool
	}{
		{Identity{isakmp.IDFQDN, []byte("gw")}, Identity{isakmp.IDFQDN, []byte("GW")}, true},
		{Identity{isakmp.IDFQDN, []byte("gw")}, Identity{isakmp.IDUserFQDN, []byte("gw")}, false},
		{Identity{isakmp.IDFQDN, []byte("gw")}, Identity{isakmp.IDFQDN, []byte("gw\x00")}, false},
		{Identity{isakmp.IDFQDN, []byte("disk")}, Identity{isakmp.IDFQDN, []byte("dis\u212a")}, false}, // Kelvin sign
		{Identity{isakmp.IDUserFQDN, []byte("A@b")}, Identity{isakmp.IDUserFQDN, []byte("a@B")}, true},
		{Identity{isakmp.IDKeyID, []byte("gw")}, Identity{isakmp.IDKeyID, []byte("GW")}, false},
		{Identity{isakmp.IDKeyID, []byte("gw")}, Identity{isakmp.IDKeyID, []byte("gw")}, true},
		{Identity{isakmp.IDIPv4Addr, []byte{1, 2, 3, 4}}, Identity{isakmp.IDIPv4Addr, []byte{1, 2, 3, 4}}, true},
		{Identity{isakmp.IDIPv4Addr, []byte{1, 2, 3, 4}}, Identity{isakmp.IDIPv4Addr, []byte{1, 2, 3, 5}}, false},
		{Identity{isakmp.IDDERDN, []byte("x")}, Identity{isakmp.IDDERDN, []byte("x")}, false},
	} {
		if c.a.equal(c.b) != c.want || c.b.equal(c.a) != c.want {
			t.Errorf("%v and %v are equal: %v", c.a, c.b, !c.want)
		}
	}
}

func TestDescribeID(t *testing.T) {
	subnet := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	for _, c := range []struct {
		id   isakmp.ID
		want string
	}{
		{isakmp.ID{Type: isakmp.IDFQDN, Data: []byte("gw.example.com")}, "gw.example.com"},
		{isakmp.ID{Type: isakmp.IDFQDN, Protocol: 17, Port: 500, Data: []byte("\x1b[31mgw\r\n\x00\xff\u202ex")}, "[31mgwx"},
		{isakmp.ID{Type: isakmp.IDKeyID, Data: []byte("lab\x07group")}, "labgroup"},
		{isakmp.ID{Type: isakmp.IDKeyID, Data: []byte{0xff, 0x00, 0x1b}}, "0xff001b"},
		{isakmp.ID{Type: isakmp.IDUserFQDN}, ""},
		{isakmp.ID{Type: isakmp.IDIPv4Addr, Data: []byte{192, 0, 2, 1}}, "192.0.2.1"},
		{isakmp.ID{Type: isakmp.IDIPv4Addr, Data: []byte{192, 0, 2}}, "malformed identity of type 1 0xc00002"},
		{isakmp.ID{Type: isakmp.IDIPv6Addr, Data: subnet("20010db8000000000000000000000001")}, "2001:db8::1"},
		{isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: make([]byte, 8)}, "0.0.0.0/0"},
		{isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: subnet("0a0a0000fffffe00")}, "10.10.0.0/23"},
		{isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: subnet("0a0a0001ffffffff")}, "10.10.0.1/32"},
		{isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: subnet("0a0a0000ff00ff00")}, "10.10.0.0/255.0.255.0"},
		{isakmp.ID{Type: isakmp.IDIPv6Subnet, Data: subnet("20010db8000000000000000000000000" + "ffffffff000000000000000000000000")}, "2001:db8::/32"},
		{isakmp.ID{Type: isakmp.IDIPv4Range, Data: subnet("0a000001" + "0a000009")}, "10.0.0.1-10.0.0.9"},
		{isakmp.ID{Type: isakmp.IDDERDN, Data: subnet("301b310c300a060355040a13034c6162310b3009060355040313026361")}, "O=Lab, CN=ca"},
		{isakmp.ID{Type: isakmp.IDDERDN, Data: subnet("300d310b30090603550403130200")}, "malformed identity of type 9 0x300d310b30090603550403130200"},
		{isakmp.ID{Type: 201, Data: []byte("*$")}, "identity of type 201 0x2a24"},
	} {
		if got := describeID(c.id); got != c.want {
			t.Errorf("%d %x is %q, want %q", c.id.Type, c.id.Data, got, c.want)
		}
	}
	if got := (Identity{Type: isakmp.IDIPv4Subnet, Data: make([]byte, 8)}).String(); got != "0.0.0.0/0" {
		t.Errorf("a subnet is written %q", got)
	}
	for _, typ := range []isakmp.IDType{isakmp.IDFQDN, isakmp.IDKeyID, isakmp.IDIPv4Addr, isakmp.IDDERDN, 99} {
		for _, fill := range []string{"ü", "\xff", "\x00"} {
			got := describeID(isakmp.ID{Type: typ, Data: bytes.Repeat([]byte(fill), 65000/len(fill))})
			if n := utf8.RuneCountInString(got); n > maxDescription {
				t.Errorf("type %d of 65,000 bytes is described in %d characters", typ, n)
			}
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{
		"gw.example.com", "192.0.2.1", "2001:db8::1", "ada@example.com", "keyid:labgroup", "keyid:a=b", "email:", "fqdn:1.2.3.4",
		"O=Lab, CN=gw", "/O=Lab/CN=gw", `CN=\ a\,b\ +OU=#0500, 1.2.3=x`, "CN=#1e0400670077",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseIdentity(s)
		if err != nil {
			return
		}
		if err := id.check(); err != nil {
			t.Fatal(err)
		}
		text := id.String()
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q is written %q", s, text)
		}
		again, err := ParseIdentity(text)
		if err != nil && len(text) > maxIdentityText {
			return // escapes make it longer
		}
		if err != nil || !again.equal(id) {
			t.Fatalf("%q is %x, written %q, which is %x, %v", s, id.Data, text, again.Data, err)
		}
	})
}

// FuzzParseDN: what a gateway may send as its name, or have in a certificate.
func FuzzParseDN(f *testing.F) {
	for _, s := range []string{"O=Lab, CN=gw", "CN=gw+OU=x", "CN=#0500", "CN=#1e0400670077", "E=a@b, DC=x"} {
		id, err := ParseIdentity(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(id.Data)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		d, err := parseDN(der)
		if err != nil {
			return
		}
		if again, err := parseDN(d.der()); err != nil || len(d) > 0 && !sameDN(der, d.der()) || len(again) != len(d) {
			t.Fatalf("%x became %x, %v", der, d.der(), err)
		}
		text := describeID(isakmp.ID{Type: isakmp.IDDERDN, Data: der})
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || utf8.RuneCountInString(text) > maxDescription {
			t.Fatalf("%x is described %q", der, text)
		}
		if len(d) == 0 {
			return
		}
		if id, err := ParseIdentity("dn:" + d.String()); err == nil && !sameDN(id.Data, der) {
			t.Fatalf("%x is written %q, which is %x", der, d, id.Data)
		}
	})
}
