package platform

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

func TestRouteOf(t *testing.T) {
	in4 := func(text string) route.Addr { return addrOf(netip.MustParseAddr(text)) }
	link := &route.LinkAddr{Index: 4, Name: "en0"}
	for _, tt := range []struct {
		name  string
		flags int
		addrs []route.Addr // destination, gateway, netmask
		want  macRoute
		ok    bool
	}{
		{
			"default", unix.RTF_GATEWAY,
			[]route.Addr{in4("0.0.0.0"), in4("192.168.1.1"), in4("0.0.0.0")},
			macRoute{Dst: prefixes("0.0.0.0/0")[0], Gateway: addrs("192.168.1.1")[0], Link: 4},
			true,
		},
		{
			"default without a mask", unix.RTF_GATEWAY | unix.RTF_IFSCOPE,
			[]route.Addr{in4("0.0.0.0"), in4("192.168.1.1"), nil},
			macRoute{Dst: prefixes("0.0.0.0/0")[0], Gateway: addrs("192.168.1.1")[0], Link: 4, Scoped: true},
			true,
		},
		{"network", 0, []route.Addr{in4("192.168.1.0"), link, in4("255.255.255.0")}, macRoute{Dst: prefixes("192.168.1.0/24")[0], Link: 4}, true},
		{"host", unix.RTF_HOST | unix.RTF_WASCLONED, []route.Addr{in4("192.168.1.9"), link}, macRoute{Dst: prefixes("192.168.1.9/32")[0], Link: 4, Cloned: true}, true},
		{"IPv6", 0, []route.Addr{in4("2001:db8::"), link, in4("ffff:ffff::")}, macRoute{Dst: prefixes("2001:db8::/32")[0], Link: 4}, true},
		{"a mask of another family", 0, []route.Addr{in4("192.168.1.0"), link, in4("ffff::")}, macRoute{}, false},
		{"a mask with a hole", 0, []route.Addr{in4("192.168.1.0"), link, in4("255.0.255.0")}, macRoute{}, false},
		{"no mask", 0, []route.Addr{in4("192.168.1.0"), link}, macRoute{}, false},
		{"no address", 0, []route.Addr{link}, macRoute{}, false},
		{"nothing", 0, nil, macRoute{}, false},
	} {
		r, ok := routeOf(&route.RouteMessage{Index: 4, Flags: tt.flags, Addrs: tt.addrs})
		if ok != tt.ok || ok && r != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, r, ok)
		}
	}
}

// TestThisMac reads what every Mac has, and changes nothing.
func TestThisMac(t *testing.T) {
	links, err := readLinks()
	run(t, "links", err)
	i := slices.IndexFunc(links, func(l macLink) bool { return l.Name == "lo0" })
	if i < 0 || !links[i].Loopback || !links[i].Up || !links[i].has(addrs("127.0.0.1")[0]) {
		t.Fatalf("%+v", links)
	}
	routes, err := readRoutes()
	run(t, "routes", err)
	if !slices.ContainsFunc(routes, func(r macRoute) bool { return r.Dst == prefixes("127.0.0.1/32")[0] && r.Link == links[i].Index }) {
		t.Errorf("%+v", routes)
	}
	for _, command := range [][]string{{scutilPath, "--dns"}, {ifconfigPath, "lo0"}} {
		if said, err := runProgram(t.Context(), "", command[0], command[1:]...); err != nil || said == "" {
			t.Errorf("%q: %q, %v", command, said, err)
		}
	}
	for _, path := range []string{pfctlPath, ipconfigPath} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if slept, err := sleptFor(); err != nil || slept < 0 {
		t.Errorf("%v, %v", slept, err)
	}
}

// The numbers that are written down for the tests of other systems are this system's.
var (
	_ = [1]int{}[levelIPv4-unix.IPPROTO_IP]
	_ = [1]int{}[levelIPv6-unix.IPPROTO_IPV6]
	_ = [1]int{}[25-unix.IP_BOUND_IF]
	_ = [1]int{}[125-unix.IPV6_BOUND_IF]
	_ = [1]int{}[28-unix.IP_DONTFRAG]
	_ = [1]int{}[62-unix.IPV6_DONTFRAG]
	_ = [1]int{}[1-unix.RTM_ADD]
	_ = [1]int{}[2-unix.RTM_DELETE]
	_ = [1]int{}[3-unix.RTM_CHANGE]
	_ = [1]int{}[6-unix.RTM_REDIRECT]
	_ = [1]int{}[0xc-unix.RTM_NEWADDR]
	_ = [1]int{}[0xd-unix.RTM_DELADDR]
	_ = [1]int{}[0xe-unix.RTM_IFINFO]
)
