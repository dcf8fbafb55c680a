package platform

import "testing"

// TestSocketOptions: the numbers and the byte order that Windows (ws2ipdef.h) and macOS
// (netinet/in.h, netinet6/in6.h) want.
func TestSocketOptions(t *testing.T) {
	probe, forbid := winDontFragment(false, true)
	probe6, forbid6 := winDontFragment(true, true)
	let, allow := winDontFragment(false, false)
	let6, allow6 := winDontFragment(true, false)
	for _, tt := range []struct {
		name      string
		got, want socketOption
	}{
		{"Windows, IPv4: network byte order", winLeaveBy(false, 0x0102), socketOption{0, 31, 0x02010000}},
		{"Windows, IPv6: as it is", winLeaveBy(true, 0x0102), socketOption{41, 31, 0x0102}},
		{"Windows, no interface", winLeaveBy(false, 0), socketOption{0, 31, 0}},
		{"Windows, no fragments", probe, socketOption{0, 71, 3}},
		{"Windows, no fragments of IPv6", probe6, socketOption{41, 71, 3}},
		{"Windows, fragments", let, socketOption{0, 71, 2}},
		{"Windows, fragments of IPv6", let6, socketOption{41, 71, 2}},
		{"older Windows, no fragments", forbid, socketOption{0, 14, 1}},
		{"older Windows, no fragments of IPv6", forbid6, socketOption{41, 14, 1}},
		{"older Windows, fragments", allow, socketOption{0, 14, 0}},
		{"older Windows, fragments of IPv6", allow6, socketOption{41, 14, 0}},
		{"macOS, IPv4", macLeaveBy(false, 7), socketOption{0, 25, 7}},
		{"macOS, IPv6", macLeaveBy(true, 7), socketOption{41, 125, 7}},
		{"macOS, no fragments", macDontFragment(false, true), socketOption{0, 28, 1}},
		{"macOS, no fragments of IPv6", macDontFragment(true, true), socketOption{41, 62, 1}},
		{"macOS, fragments", macDontFragment(false, false), socketOption{0, 28, 0}},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %+v; want %+v", tt.name, tt.got, tt.want)
		}
	}
}
