package ike

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"wayfarer/ike/isakmp"
)

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// tlv is an attribute with a hexadecimal value, in which blanks are for the reader.
func tlv(typ uint16, hex string) isakmp.Attribute {
	return isakmp.Attribute{Type: typ, Value: unhex(strings.ReplaceAll(hex, " ", ""))}
}

func TestParseAssignment(t *testing.T) {
	tv := isakmp.BasicAttribute
	const (
		net10  = "0a0a0000 ffff0000"
		net192 = "c0a80100 ffffff00"
		ports  = " 0000 0000 0000"
		ip6    = "20010db8 00000000 00000000 00000001"
	)
	for _, tt := range []struct {
		name    string
		as      []isakmp.Attribute
		want    Assignment
		dropped int
	}{
		{"nothing", nil, Assignment{}, 0},
		{"empty values are not granted", []isakmp.Attribute{
			tlv(isakmp.CfgIP4Address, ""), tlv(isakmp.CfgIP4DNS, ""), tlv(isakmp.UnityBanner, ""),
			tlv(isakmp.UnitySplitInclude, ""), tlv(isakmp.UnitySavePassword, ""), tlv(isakmp.CfgAddressExpiry, ""),
		}, Assignment{}, 0},

		{"address", []isakmp.Attribute{tlv(1, "0a630001")}, Assignment{Addresses: prefixes("10.99.0.1/32")}, 0},
		{"the first address counts", []isakmp.Attribute{tlv(1, "0a630001"), tlv(1, "0a630002")}, Assignment{Addresses: prefixes("10.99.0.1/32")}, 0},
		{"the mask is informative", []isakmp.Attribute{tlv(1, "0a630001"), tlv(2, "ffff0000")}, Assignment{Addresses: prefixes("10.99.0.1/32")}, 0},
		{"IPv6 address", []isakmp.Attribute{tlv(8, ip6)}, Assignment{Addresses: prefixes("2001:db8::1/128")}, 0},
		{"IPv6 address with prefix length", []isakmp.Attribute{tlv(8, ip6+"40")}, Assignment{Addresses: prefixes("2001:db8::1/128")}, 0},
		{"both families", []isakmp.Attribute{tlv(8, ip6), tlv(1, "0a630001")}, Assignment{Addresses: prefixes("2001:db8::1/128", "10.99.0.1/32")}, 0},
		{"address of three bytes", []isakmp.Attribute{tlv(1, "0a6300")}, Assignment{}, 1},
		{"address of five bytes", []isakmp.Attribute{tlv(1, "0a63000101")}, Assignment{}, 1},
		{"address in TV form", []isakmp.Attribute{tv(1, 0x0a63)}, Assignment{}, 1},

		{
			"DNS and WINS",
			[]isakmp.Attribute{tlv(3, "0a0a0035"), tlv(4, "0a0a002a"), tlv(3, "0a0a0135"), tlv(4, "0a0a012a")},
			Assignment{DNS: addrs("10.10.0.53", "10.10.1.53"), WINS: addrs("10.10.0.42", "10.10.1.42")},
			0,
		},
		{"the same server twice", []isakmp.Attribute{tlv(3, "0a0a0035"), tlv(3, "0a0a0035")}, Assignment{DNS: addrs("10.10.0.53")}, 0},
		{"several servers in one", []isakmp.Attribute{tlv(3, "0a0a0035 0a0a0135")}, Assignment{DNS: addrs("10.10.0.53", "10.10.1.53")}, 0},
		{
			"four servers in one",
			[]isakmp.Attribute{tlv(3, "0a0a0035 0a0a0135 0a0a0235 0a0a0335")},
			Assignment{DNS: addrs("10.10.0.53", "10.10.1.53", "10.10.2.53", "10.10.3.53")},
			0,
		},
		{"IPv6 servers", []isakmp.Attribute{tlv(10, ip6), tlv(11, ip6)}, Assignment{DNS: addrs("2001:db8::1"), WINS: addrs("2001:db8::1")}, 0},
		{"IPv6 server of four bytes", []isakmp.Attribute{tlv(10, "0a0a0035")}, Assignment{}, 1},
		{"server of five bytes", []isakmp.Attribute{tlv(3, "0a0a003501"), tlv(4, "0a")}, Assignment{}, 2},

		{"expiry", []isakmp.Attribute{tlv(5, "00000e10")}, Assignment{Expiry: time.Hour}, 0},
		{"expiry in TV form", []isakmp.Attribute{tv(5, 3600)}, Assignment{Expiry: time.Hour}, 0},
		{"expiry beyond all time", []isakmp.Attribute{tlv(5, "ffffffffffffffff")}, Assignment{Expiry: 1 << 32 * time.Second}, 0},
		{"version", []isakmp.Attribute{text(7, "Cisco\x07 ASA\n9.1 ")}, Assignment{Application: "Cisco ASA\n9.1"}, 0},
		{"subnet", []isakmp.Attribute{tlv(13, net10), tlv(13, net192)}, Assignment{SplitInclude: prefixes("10.10.0.0/16", "192.168.1.0/24")}, 0},

		{
			"IPv6 subnets",
			[]isakmp.Attribute{tlv(15, ip6+"40"), tlv(13, net10), tlv(15, ip6+"00")},
			Assignment{SplitInclude: prefixes("2001:db8::/64", "10.10.0.0/16", "::/0")},
			0,
		},
		{"IPv6 subnet of 16 bytes", []isakmp.Attribute{tlv(15, ip6)}, Assignment{}, 1},
		{"IPv6 subnet of 129 bits", []isakmp.Attribute{tlv(15, ip6+"81")}, Assignment{}, 1},
		{"IPv6 multicast, link-local, loopback", []isakmp.Attribute{
			tlv(15, "ff020000 00000000 00000000 00000000 10"), tlv(15, "fe800000 00000000 00000000 00000000 0a"),
			tlv(15, "00000000 00000000 00000000 00000001 80"), tlv(15, "00000000 00000000 0000ffff 00000000 60"),
		}, Assignment{}, 4},

		{"UDP port", []isakmp.Attribute{tv(28677, 10000)}, Assignment{NATTPort: 10000}, 0},
		{"UDP port of IKE, and none", []isakmp.Attribute{tv(28677, 500), tv(28677, 0), tlv(28677, "010000")}, Assignment{}, 3},
		{"host name", []isakmp.Attribute{text(28682, "Ada-Laptop")}, Assignment{HostName: "ada-laptop"}, 0},
		{"host name that is none", []isakmp.Attribute{text(28682, "ada;reboot")}, Assignment{}, 1},

		{"banner", []isakmp.Attribute{text(28672, "Welcome\r\nto\x1b[31m us\x00")}, Assignment{Banner: "Welcome \nto[31m us"}, 0},
		{"password may be stored", []isakmp.Attribute{tv(28673, 1)}, Assignment{}, 0},
		{"password may not be stored", []isakmp.Attribute{tv(28673, 0)}, Assignment{ForbidSave: true}, 0},
		{"domain", []isakmp.Attribute{text(28674, "Corp.Example.COM.")}, Assignment{DefaultDomain: "corp.example.com"}, 0},
		{"domain that ends in NUL", []isakmp.Attribute{text(28674, "corp.example.com\x00")}, Assignment{DefaultDomain: "corp.example.com"}, 0},
		{
			"split DNS",
			[]isakmp.Attribute{text(28675, "a.example,b.example c.example\x00d.example\x00"), text(28675, "e.example,A.example")},
			Assignment{SplitDNS: []string{"a.example", "b.example", "c.example", "d.example", "e.example"}},
			0,
		},
		{
			"split DNS, one of which is none",
			[]isakmp.Attribute{text(28675, "a.example,b\nsearch evil.example,c.example")},
			Assignment{SplitDNS: []string{"a.example", "evil.example", "c.example"}},
			1,
		},
		{"backup servers", []isakmp.Attribute{text(28681, "gw2.example.com,192.0.2.7")}, Assignment{BackupServers: []string{"gw2.example.com", "192.0.2.7"}}, 0},
		{"PFS group", []isakmp.Attribute{tv(28679, 14)}, Assignment{pfs: findGroup("modp2048")}, 0},
		{"PFS group that nobody knows", []isakmp.Attribute{tv(28679, 99)}, Assignment{}, 0},

		{"split entries of 14 bytes", []isakmp.Attribute{tlv(28676, net10+ports+net192+ports)}, Assignment{SplitInclude: prefixes("10.10.0.0/16", "192.168.1.0/24")}, 0},
		{"split entries of 8 bytes", []isakmp.Attribute{tlv(28676, net10+net192)}, Assignment{SplitInclude: prefixes("10.10.0.0/16", "192.168.1.0/24")}, 0},
		{
			"four of 14 bytes, which could be seven of 8",
			[]isakmp.Attribute{tlv(28676, net10+ports+net192+ports+"0a0b0000 ffff0000"+ports+"0a0c0000 ffff0000"+ports)},
			Assignment{SplitInclude: prefixes("10.10.0.0/16", "192.168.1.0/24", "10.11.0.0/16", "10.12.0.0/16")},
			0,
		},
		{"garbage in ports", []isakmp.Attribute{tlv(28676, net10+"ffff dead beef")}, Assignment{SplitInclude: prefixes("10.10.0.0/16")}, 0},
		{
			"one entry an attribute",
			[]isakmp.Attribute{tlv(28676, net10+ports), tlv(28676, net192+ports), tlv(28676, net10+ports)},
			Assignment{SplitInclude: prefixes("10.10.0.0/16", "192.168.1.0/24")},
			0,
		},
		{"everything", []isakmp.Attribute{tlv(28676, "00000000 00000000"+ports)}, Assignment{SplitInclude: prefixes("0.0.0.0/0")}, 0},
		{"one host", []isakmp.Attribute{tlv(28676, "0a0a0001 ffffffff"+ports)}, Assignment{SplitInclude: prefixes("10.10.0.1/32")}, 0},
		{"host bits", []isakmp.Attribute{tlv(28676, "0a0a0102 ffff0000"+ports)}, Assignment{SplitInclude: prefixes("10.10.0.0/16")}, 0},
		{"mask with a hole", []isakmp.Attribute{tlv(28676, "0a0a0000 ff00ff00"+ports+net192+ports)}, Assignment{SplitInclude: prefixes("192.168.1.0/24")}, 1},
		{"mask backwards", []isakmp.Attribute{tlv(28676, "0a0a0000 0000ffff"+ports)}, Assignment{}, 1},
		{"loopback", []isakmp.Attribute{tlv(28676, "7f000000 ff000000"+ports)}, Assignment{}, 1},
		{"multicast", []isakmp.Attribute{tlv(28676, "e0000000 f0000000"+ports)}, Assignment{}, 1},
		{"link-local", []isakmp.Attribute{tlv(28676, "a9fe0000 ffff0000"+ports)}, Assignment{}, 1},
		{"15 bytes", []isakmp.Attribute{tlv(28676, net10+ports+"00")}, Assignment{}, 1},
		{"4 bytes", []isakmp.Attribute{tlv(28676, "0a0a0000")}, Assignment{}, 1},
		{"local LAN", []isakmp.Attribute{tlv(28678, net192+ports)}, Assignment{SplitExclude: prefixes("192.168.1.0/24")}, 0},

		{"what nobody asked for", []isakmp.Attribute{
			tlv(6, "0a0a0001"), tlv(12, ip6), tlv(14, "0001"), tlv(28680, "80010001"), tlv(23456, "0a0a0001"), tlv(16384, "00"), tv(isakmp.XAuthStatus, 1),
		}, Assignment{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, dropped := parseAssignment(tt.as)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("\n got %+v\nwant %+v", got, tt.want)
			}
			if len(dropped) != tt.dropped {
				t.Errorf("dropped %q, want %d", dropped, tt.dropped)
			}
		})
	}
}

// TestUnusableAddresses: no host can have these, be it ours or a server.
func TestUnusableAddresses(t *testing.T) {
	for _, s := range []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "169.254.1.1",
		"::", "::1", "ff02::1", "fe80::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
	} {
		a := netip.MustParseAddr(s)
		types := []uint16{isakmp.CfgIP4Address, isakmp.CfgIP4DNS, isakmp.CfgIP4NBNS}
		if a.Is6() {
			types = []uint16{isakmp.CfgIP6Address, isakmp.CfgIP6DNS, isakmp.CfgIP6NBNS}
		}
		for _, typ := range types {
			got, dropped := parseAssignment([]isakmp.Attribute{{Type: typ, Value: a.AsSlice()}})
			if len(dropped) != 1 || !reflect.DeepEqual(got, Assignment{}) {
				t.Errorf("attribute %d, %v: %+v, dropped %q", typ, a, got, dropped)
			}
		}
	}
}

// TestAssignmentBounds: a gateway may send a lot, and we take only so much.
func TestAssignmentBounds(t *testing.T) {
	var dns, wins, include, exclude, names []isakmp.Attribute
	for i := range uint32(1000) {
		server := be32(0x0a000001 + i)
		dns = append(dns, isakmp.Attribute{Type: isakmp.CfgIP4DNS, Value: server})
		wins = append(wins, isakmp.Attribute{Type: isakmp.CfgIP4NBNS, Value: server})
		include = append(include, tlv(isakmp.UnitySplitInclude, fmt.Sprintf("%08x ffffff00 000000000000", 0x0a000000+i<<8)))
		exclude = append(exclude, tlv(isakmp.UnityLocalLAN, fmt.Sprintf("%08x ffffff00", 0x0a000000+i<<8)))
		names = append(names, text(isakmp.UnitySplitDNS, fmt.Sprintf("a%d.example,b%d.example", i, i)),
			text(isakmp.UnityBackupServers, fmt.Sprintf("gw%d.example", i)))
	}
	a, dropped := parseAssignment(slices.Concat(dns, wins, include, exclude, names))
	if len(a.DNS) != maxServers || len(a.WINS) != maxServers || len(a.SplitInclude) != maxNetworks || len(a.SplitExclude) != maxNetworks ||
		len(a.SplitDNS) != maxNames || len(a.BackupServers) != maxNames || len(dropped) != 0 {
		t.Errorf("%d DNS, %d WINS, %d and %d networks, %d names, %d gateways, dropped %d",
			len(a.DNS), len(a.WINS), len(a.SplitInclude), len(a.SplitExclude), len(a.SplitDNS), len(a.BackupServers), len(dropped))
	}
}

// TestDroppedIsBounded: people read what was dropped.
func TestDroppedIsBounded(t *testing.T) {
	var as []isakmp.Attribute
	for range 200 {
		as = append(as, isakmp.Attribute{Type: isakmp.UnitySplitInclude, Value: slices.Repeat(unhex("0a0a0000ff00ff00000000000000"), 1000)},
			text(isakmp.UnityDefDomain, strings.Repeat("-", 4000)))
	}
	_, dropped := parseAssignment(as)
	size := 0
	for _, s := range dropped {
		size += len(s)
	}
	if len(dropped) == 0 || len(dropped) > maxDropped || size > maxDropped*2*maxGatewayText {
		t.Errorf("%d texts of %d bytes", len(dropped), size)
	}
}

func TestValidName(t *testing.T) {
	label := strings.Repeat("a", 63)
	for name, want := range map[string]bool{
		"example.com": true, "a": true, "1.example": true, "xn--bcher-kva.example": true, "_srv.example": true, "A-B.example": true,
		label + ".example": true, strings.Join([]string{label, label, label, label[:61]}, "."): true,

		"": false, ".": false, ".example": false, "example.": false, "a..b": false,
		"-a.example": false, "a-.example": false, "-": false, "--help": false,
		label + "a.example": false, strings.Join([]string{label, label, label, label[:62]}, "."): false,
		"a b": false, "a\tb": false, "a\nb": false, "a\r": false, "a\x00b": false, "a\x1b[2Jb": false, "a\x7f": false,
		"a;reboot": false, "$(id)": false, "`id`": false, "a|b": false, "a/b": false, "a\\b": false, "a'b": false, `a"b`: false,
		"bücher.example": false, "a\xffb": false, "a:b": false, "a@b": false, "*.example": false, "\u202egnp.exe": false,
	} {
		if got := validName(name); got != want {
			t.Errorf("validName(%q) = %v", name, got)
		}
	}
}

func TestHarmless(t *testing.T) {
	const bound = maxGatewayText
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"text", "Enter PIN:", "Enter PIN:"},
		{"UTF-8", "Grüße, 世界", "Grüße, 世界"},
		{"Latin-1", "Gr\xfc\xdfe", "Grüße"},
		{"white space around", " \n text\t\r\n", "text"},
		{"lines", "a\r\nb\nc\td", "a \nb\nc d"},
		{"escape sequence", "\x1b]0;owned\x07\x1b[2Jtext", "]0;owned[2Jtext"},
		{"NUL, backspace and DEL", "a\x00b\x08c\x7fd", "abcd"},
		{"C1 controls", "a\u0085b\u009bc", "abc"},
		{"C1 controls in Latin-1", "a\x85b\x9bc\xfc", "abcü"},
		{"right to left", "\u202etxt.exe\u2066\u200b\ufeff", "txt.exe"},
		{"line and paragraph separators", "a\u2028b\u2029c", "abc"},
		{"private use and unassigned", "a\ue000b\U0010ffffc\u0378d", "abcd"},
		{"long", strings.Repeat("a", bound+1), strings.Repeat("a", bound)},
		{"long, cut in two bytes", strings.Repeat("a", bound-1) + "ü", strings.Repeat("a", bound-1)},
		{"long, cut in three bytes", strings.Repeat("a", bound-2) + "世界", strings.Repeat("a", bound-2)},
		{"long, cut in four bytes", strings.Repeat("a", bound-3) + "𝄞", strings.Repeat("a", bound-3)},
		{"long, not cut", strings.Repeat("a", bound-3) + "世", strings.Repeat("a", bound-3) + "世"},
		{"long Latin-1", strings.Repeat("\xfc", bound+5), strings.Repeat("ü", bound/2)},
		{"Latin-1 that becomes too long", strings.Repeat("a", bound-1) + "\xfc", strings.Repeat("a", bound-1)},
	} {
		if got := harmless([]byte(tt.in)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// checkHarmless says what is wrong with a text that people are shown.
func checkHarmless(s string) error {
	if !utf8.ValidString(s) || len(s) > maxGatewayText || s != strings.TrimSpace(s) {
		return fmt.Errorf("%d bytes: %q", len(s), s)
	}
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) {
			return fmt.Errorf("%q", r)
		}
	}
	return nil
}

func FuzzHarmless(f *testing.F) {
	f.Add([]byte("Welcome\r\nto us"))
	f.Add([]byte("\x1b[2J\u202e\xff"))
	f.Add([]byte(strings.Repeat("世", 700)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := checkHarmless(harmless(b)); err != nil {
			t.Error(err)
		}
	})
}

func FuzzParseAssignment(f *testing.F) {
	r := readRecording(f, "hybrid-main")
	reply, _ := r.findConfig(f, isakmp.ConfigReply, isakmp.CfgIP4Address)
	f.Add(isakmp.AppendAttributes(nil, reply.config(f).Attributes))
	f.Add(isakmp.AppendAttributes(nil, []isakmp.Attribute{
		tlv(isakmp.CfgIP6Address, "20010db8000000000000000000000001 40"), text(isakmp.UnitySplitDNS, "a\nb,c"),
		isakmp.BasicAttribute(isakmp.UnityPFS, 14), tlv(isakmp.UnitySplitInclude, "0a0a0000ff00ff00"), tlv(isakmp.UnityBackupServers, "00"),
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		as, err := isakmp.ParseAttributes(b)
		if err != nil {
			return
		}
		a, dropped := parseAssignment(as)
		checkAssignmentIsSane(t, a)
		if len(dropped) > maxDropped {
			t.Errorf("%d dropped", len(dropped))
		}
	})
}

// checkAssignmentIsSane holds an assignment against what the rest of the program
// relies on.
func checkAssignmentIsSane(t *testing.T, a Assignment) {
	t.Helper()
	families := make(map[bool]int)
	for _, p := range a.Addresses {
		families[p.Addr().Is4()]++
		if !p.IsSingleIP() || !usableAddress(p.Addr()) {
			t.Errorf("address %v", p)
		}
	}
	if families[true] > 1 || families[false] > 1 {
		t.Errorf("addresses %v", a.Addresses)
	}
	for _, s := range slices.Concat(a.DNS, a.WINS) {
		if !usableAddress(s) {
			t.Errorf("server %v", s)
		}
	}
	for _, p := range slices.Concat(a.SplitInclude, a.SplitExclude) {
		if p != p.Masked() || p.Addr().Is4In6() || p.Addr().IsLoopback() || p.Addr().IsMulticast() {
			t.Errorf("network %v", p)
		}
	}
	for _, n := range slices.Concat(a.SplitDNS, a.BackupServers) {
		if !validName(n) || n != strings.ToLower(n) {
			t.Errorf("name %q", n)
		}
	}
	if a.DefaultDomain != "" && !validName(a.DefaultDomain) || a.HostName != "" && !validName(a.HostName) {
		t.Errorf("domain %q, host name %q", a.DefaultDomain, a.HostName)
	}
	if a.NATTPort == portIKE {
		t.Error("ESP to the port of IKE")
	}
	for _, s := range []string{a.Banner, a.Application} {
		if err := checkHarmless(s); err != nil {
			t.Error(err)
		}
	}
	if len(a.DNS) > maxServers || len(a.WINS) > maxServers || len(a.SplitInclude) > maxNetworks || len(a.SplitExclude) > maxNetworks ||
		len(a.SplitDNS) > maxNames || len(a.BackupServers) > maxNames || a.Expiry < 0 || a.Expiry > 1<<32*time.Second {
		t.Errorf("beyond bounds: %+v", a)
	}
}
