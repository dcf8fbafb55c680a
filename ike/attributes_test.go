package ike

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// When an attribute of Mode-Config is asked for.
const (
	never = iota
	always
	withUnity
	withoutNATT // and with Unity
)

// TestEveryAttribute goes through all attributes that draft-dukes-ike-mode-cfg-02 §3.4
// and Cisco's Unity have: when each is asked for, with which value, and what of a
// gateway's answer lands where.
func TestEveryAttribute(t *testing.T) {
	tv := isakmp.BasicAttribute
	const ip6 = "20010db8000000000000000000000001"
	for _, tt := range []struct {
		name  string
		typ   uint16
		asked int
		value string // that goes with the question
		given isakmp.Attribute
		want  Assignment // that comes of it
	}{
		{"IP4_ADDRESS", 1, always, "\x0a\x63\x00\x07", tlv(1, "0a630001"), Assignment{Addresses: prefixes("10.99.0.1/32")}},
		{"IP4_NETMASK", 2, always, "", tlv(2, "ffffff00"), Assignment{}}, // informative
		{"IP4_DNS", 3, always, "", tlv(3, "0a0a0035"), Assignment{DNS: addrs("10.10.0.53")}},
		{"IP4_NBNS", 4, always, "", tlv(4, "0a0a002a"), Assignment{WINS: addrs("10.10.0.42")}},
		{"ADDRESS_EXPIRY", 5, always, "", tlv(5, "00000e10"), Assignment{Expiry: time.Hour}},
		{"IP4_DHCP", 6, never, "", tlv(6, "0a0a0001"), Assignment{}}, // settings come from here
		{"APPLICATION_VERSION", 7, always, "Wayfarer 1.0", text(7, "ASA 9.1"), Assignment{Application: "ASA 9.1"}},
		{"IP6_ADDRESS", 8, always, "", tlv(8, ip6), Assignment{Addresses: prefixes("2001:db8::1/128")}},
		{"IP6_NETMASK", 9, never, "", tlv(9, "40"), Assignment{}}, // no longer in use
		{"IP6_DNS", 10, always, "", tlv(10, ip6), Assignment{DNS: addrs("2001:db8::1")}},
		{"IP6_NBNS", 11, never, "", tlv(11, ip6), Assignment{WINS: addrs("2001:db8::1")}},
		{"IP6_DHCP", 12, never, "", tlv(12, ip6), Assignment{}},
		{"IP4_SUBNET", 13, never, "", tlv(13, "0a0a0000ffff0000"), Assignment{SplitInclude: prefixes("10.10.0.0/16")}},
		{"SUPPORTED_ATTRIBUTES", 14, never, "", tlv(14, "00010002"), Assignment{}},
		{"IP6_SUBNET", 15, never, "", tlv(15, ip6+"40"), Assignment{SplitInclude: prefixes("2001:db8::/64")}},
		{"Microsoft's IP4_SERVER", 23456, never, "", tlv(23456, "0a0a0001"), Assignment{}},
		{"Microsoft's IP6_SERVER", 23457, never, "", tlv(23457, ip6), Assignment{}},

		{"BANNER", 28672, withUnity, "", text(28672, "Welcome"), Assignment{Banner: "Welcome"}},
		{"SAVE_PASSWD", 28673, withUnity, "", tv(28673, 0), Assignment{ForbidSave: true}},
		{"DEF_DOMAIN", 28674, withUnity, "", text(28674, "corp.example.com"), Assignment{DefaultDomain: "corp.example.com"}},
		{"SPLITDNS", 28675, withUnity, "", text(28675, "a.example,b.example"), Assignment{SplitDNS: []string{"a.example", "b.example"}}},
		{"SPLIT_INCLUDE", 28676, withUnity, "", tlv(28676, "0a0a0000ffff0000000000000000"), Assignment{SplitInclude: prefixes("10.10.0.0/16")}},
		{"UDP_NATT_PORT", 28677, withoutNATT, "", tv(28677, 10000), Assignment{NATTPort: 10000}},
		{"LOCAL_LAN", 28678, withUnity, "", tlv(28678, "c0a80100ffffff00000000000000"), Assignment{SplitExclude: prefixes("192.168.1.0/24")}},
		{"PFS", 28679, withUnity, "", tv(28679, 14), Assignment{pfs: findGroup("modp2048")}},
		{"FW_TYPE", 28680, never, "", tlv(28680, "80010001"), Assignment{}},
		{"BACKUP_SERVERS", 28681, withUnity, "", text(28681, "gw2.example.com"), Assignment{BackupServers: []string{"gw2.example.com"}}},
		{"DDNS_HOSTNAME", 28682, withUnity, "ada-laptop", text(28682, "ada-laptop"), Assignment{HostName: "ada-laptop"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, dropped := parseAssignment([]isakmp.Attribute{tt.given})
			if !reflect.DeepEqual(got, tt.want) || len(dropped) > 0 {
				t.Errorf("given: %+v, dropped %q; want %+v", got, dropped, tt.want)
			}
			for _, gw := range []struct{ unity, natt bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
				asked := tt.asked == always || tt.asked == withUnity && gw.unity || tt.asked == withoutNATT && gw.unity && !gw.natt
				got, ok := isakmp.Find(requestOf(t, gw.unity, gw.natt), tt.typ)
				if ok != asked || ok && string(got.Value) != tt.value {
					t.Errorf("Unity %v, NAT traversal %v: asked %v with %q", gw.unity, gw.natt, ok, got.Value)
				}
			}
		})
	}
}

// requestOf is what a client that had 10.99.0.7 before asks a gateway for.
func requestOf(t *testing.T, unity, natt bool) []isakmp.Attribute {
	t.Helper()
	s, err := newSession(&Config{
		Gateway: "gw.example.com", Login: testLogin, Password: Secret(testPassword),
		RequestAddress: netip.MustParseAddr("10.99.0.7"), HostName: "ada-laptop", Application: "Wayfarer 1.0",
	})
	if err != nil {
		t.Fatal(err)
	}
	sa := &isakmpSA{s: s}
	if unity {
		sa.caps |= capUnity
	}
	if natt {
		sa.natt = nattVariants[0]
	}
	return sa.requestAttributes()
}

// TestWantedAddresses: what we have is asked for again, and what we had until then.
func TestWantedAddresses(t *testing.T) {
	had4, has4, has6 := netip.MustParseAddr("10.99.0.7"), netip.MustParseAddr("10.99.0.8"), netip.MustParseAddr("2001:db8::8")
	for _, tt := range []struct {
		had        netip.Addr
		has        []netip.Prefix
		want, and6 netip.Addr
	}{
		{netip.Addr{}, nil, netip.Addr{}, netip.Addr{}},
		{had4, nil, had4, netip.Addr{}},
		{has6, nil, netip.Addr{}, has6},
		{had4, prefixes("10.99.0.8/32", "2001:db8::8/128"), has4, has6},
		{had4, prefixes("2001:db8::8/128"), had4, has6},
	} {
		s := &Session{cfg: Config{RequestAddress: tt.had}, assignment: Assignment{Addresses: tt.has}}
		if ip4, ip6 := s.wantedAddresses(); ip4 != tt.want || ip6 != tt.and6 {
			t.Errorf("had %v, has %v: wants %v and %v", tt.had, tt.has, ip4, ip6)
		}
	}
}

// TestUntoldAttributes: what there is nothing to say about is not said.
func TestUntoldAttributes(t *testing.T) {
	for _, name := range []string{"", "ada's laptop", "ada\nlaptop", "-"} {
		inWorld(t, func(w *world) {
			w.client.HostName = name
			w.start()
			w.dial()
			as := w.configs(gateway.ConfigRequest)[0].Attributes
			if a, ok := isakmp.Find(as, isakmp.UnityDDNSHostname); ok {
				t.Errorf("told the name %q", a.Value)
			}
			if a, ok := isakmp.Find(as, isakmp.CfgApplicationVersion); !ok || len(a.Value) > 0 {
				t.Errorf("asked for the version: %v, with %q", ok, a.Value)
			}
		})
	}
}
