package platform

import "math/bits"

// socketOption is what a socket is told by setsockopt.
type socketOption struct{ level, name, value int }

// Levels, the same on Windows and macOS.
const (
	levelIPv4 = 0  // IPPROTO_IP
	levelIPv6 = 41 // IPPROTO_IPV6
)

// winLeaveBy has packets leave by an interface (IP_UNICAST_IF, IPV6_UNICAST_IF). IPv4's option
// takes the number in network byte order.
func winLeaveBy(ipv6 bool, index uint32) socketOption {
	if ipv6 {
		return socketOption{levelIPv6, 31, int(index)}
	}
	return socketOption{levelIPv4, 31, int(bits.ReverseBytes32(index))}
}

// winDontFragment forbids fragments, or allows them: with IP_MTU_DISCOVER (IP_PMTUDISC_PROBE,
// IP_PMTUDISC_DONT), or with IP_DONTFRAGMENT, which all know. The two families' options have
// the same numbers.
func winDontFragment(ipv6, on bool) (option, older socketOption) {
	level, mode, flag := levelIPv4, 2, 0
	if ipv6 {
		level = levelIPv6
	}
	if on {
		mode, flag = 3, 1
	}
	return socketOption{level, 71, mode}, socketOption{level, 14, flag}
}

// macLeaveBy has packets leave by an interface (IP_BOUND_IF, IPV6_BOUND_IF).
func macLeaveBy(ipv6 bool, index int) socketOption {
	if ipv6 {
		return socketOption{levelIPv6, 125, index}
	}
	return socketOption{levelIPv4, 25, index}
}

// macDontFragment forbids fragments, or allows them (IP_DONTFRAG, IPV6_DONTFRAG).
func macDontFragment(ipv6, on bool) socketOption {
	value := 0
	if on {
		value = 1
	}
	if ipv6 {
		return socketOption{levelIPv6, 62, value}
	}
	return socketOption{levelIPv4, 28, value}
}
