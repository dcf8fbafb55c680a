package platform

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The messages here are put together by hand from net/route.h, netinet/in.h, netinet6/in6.h
// and net/if_dl.h of XNU: a struct rt_msghdr of 92 bytes, then socket addresses, each of which
// ends at a multiple of four bytes.

// rtMetrics is the part of struct rt_msghdr from rtm_errno on, which says nothing here.
const rtMetrics = `00000000 00000000 00000000
	00000000 00000000 00000000 00000000 00000000 00000000 00000000
	00000000 00000000 00000000 00000000 00000000 00000000 00000000`

func routeBytes(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRouteMessage: what the routing socket is told. Behind it lie zeros, for the kernel may
// write more than it was given.
func TestRouteMessage(t *testing.T) {
	const (
		process = "c9260000 07000000" // rtm_pid, rtm_seq
		utun4   = "0d 12 0c00 00 05 00 00 7574756e34 000000"
	)
	for _, tt := range []struct {
		name string
		kind int
		dst  string
		want string
	}{
		{"add a network", 1, "10.1.2.0/24", `8c04 05 01 0c00 0000 01080000 07000000` + process + rtMetrics +
			`1002 0000 0a010200 0000000000000000` + utun4 + `1002 0000 ffffff00 0000000000000000`},
		{"delete a network", 2, "0.0.0.0/1", `8c04 05 02 0c00 0000 01080000 07000000` + process + rtMetrics +
			`1002 0000 00000000 0000000000000000` + utun4 + `1002 0000 80000000 0000000000000000`},
		{"add a host", 1, "10.1.2.3/32", `7c04 05 01 0c00 0000 05080000 03000000` + process + rtMetrics +
			`1002 0000 0a010203 0000000000000000` + utun4},
		{"add a network of IPv6", 1, "2001:db8::/33", `a404 05 01 0c00 0000 01080000 07000000` + process + rtMetrics +
			`1c1e 0000 00000000 20010db8000000000000000000000000 00000000` + utun4 +
			`1c1e 0000 00000000 ffffffff800000000000000000000000 00000000`},
		{"delete a host of IPv6", 2, "2001:db8::3/128", `8804 05 02 0c00 0000 05080000 03000000` + process + rtMetrics +
			`1c1e 0000 00000000 20010db8000000000000000000000003 00000000` + utun4},
	} {
		got, err := routeMessage(tt.kind, macRoute{Dst: netip.MustParsePrefix(tt.dst), Link: 12}, "utun4", 9929, 7)
		want := routeBytes(t, tt.want)
		if err != nil || !bytes.Equal(got, append(want, make([]byte, 1024)...)) {
			t.Errorf("%s: %v\n%x\ninstead of\n%x", tt.name, err, got[:min(len(want), len(got))], want)
		}
	}
}

// TestParseRoutes: what the kernel has in its table. It leaves out zeros at a netmask's end, and
// has the bits of its radix tree's keys where the family would be.
func TestParseRoutes(t *testing.T) {
	const none = "00000000 00000000" // rtm_pid, rtm_seq
	router := addrs("192.168.1.1")[0]
	for _, tt := range []struct {
		name, rib string
		want      []macRoute
	}{
		{
			"the default route", `8000 05 04 0400 0000 03080000 07000000` + none + rtMetrics +
				`1002 0000 00000000 0000000000000000 1002 0000 c0a80101 0000000000000000 00000000`,
			[]macRoute{{Dst: prefixes("0.0.0.0/0")[0], Gateway: router, Link: 4}},
		},
		{
			"that of an interface only", `8000 05 04 0500 0000 03080001 07000000` + none + rtMetrics +
				`1002 0000 00000000 0000000000000000 1002 0000 c0a80101 0000000000000000 00000000`,
			[]macRoute{{Dst: prefixes("0.0.0.0/0")[0], Gateway: router, Link: 5, Scoped: true}},
		},
		{
			"a network of an interface's", `8800 05 04 0400 0000 01010000 07000000` + none + rtMetrics +
				`1002 0000 c0a80100 0000000000000000 1412 0400 06000000 00000000 00000000 00000000
			 07ff ffff ffffff00`,
			[]macRoute{{Dst: prefixes("192.168.1.0/24")[0], Link: 4}},
		},
		{
			"half of all", `8400 05 04 0c00 0000 01080000 07000000` + none + rtMetrics +
				`1002 0000 00000000 0000000000000000 0d12 0c00 00050000 7574756e34 000000 05ff ffff 80000000`,
			[]macRoute{{Dst: prefixes("0.0.0.0/1")[0], Link: 12}},
		},
		{
			"a neighbour", `8000 05 04 0400 0000 05040300 03000000` + none + rtMetrics +
				`1002 0000 c0a80109 0000000000000000 1412 0400 06060600 020000000009 0000 00000000`,
			[]macRoute{{Dst: prefixes("192.168.1.9/32")[0], Link: 4, Cloned: true}},
		},
		{
			"a network of IPv6", `9c00 05 04 0400 0000 01010000 07000000` + none + rtMetrics +
				`1c1e 0000 00000000 20010db8000100000000000000000000 00000000 1412 0400 06000000 00000000 00000000 00000000
			 10ff ffff ffffffff ffffffffffffffff`,
			[]macRoute{{Dst: prefixes("2001:db8:1::/64")[0], Link: 4}},
		},
		{
			"the default route of IPv6, whose router's zone is in its address", `9800 05 04 0400 0000 03080000 07000000` + none + rtMetrics +
				`1c1e 0000 00000000 00000000000000000000000000000000 00000000
			 1c1e 0000 00000000 fe800004000000000000000000000001 00000000 00000000`,
			[]macRoute{{Dst: prefixes("::/0")[0], Gateway: addrs("fe80::1")[0], Link: 4}},
		},
		{"one that is down", `8000 05 04 0400 0000 02080000 07000000` + none + rtMetrics +
			`1002 0000 00000000 0000000000000000 1002 0000 c0a80101 0000000000000000 00000000`, nil},
	} {
		got, err := parseRoutes(routeBytes(t, tt.rib))
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}
