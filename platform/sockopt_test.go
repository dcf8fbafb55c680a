package platform

import "testing"

// TestSocketOptions: the numbers and the byte order that Windows (ws2ipdef.h) and macOS
// (netinet/in.h, netinet6/in6.h) want.
func TestSocketOptions(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want socketOption
	}{
		{"Windows, IPv4: network byte order", winLeaveBy(false, 0x0102), socketOption{0, 31, 0x02010000}},
		{"Windows, IPv6: as it is", winLeaveBy(true, 0x0102), socketOption{41, 31, 0x0102}},
		{"Windows, no interface", winLeaveBy(false, 0), socketOption{0, 31, 0}},
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
