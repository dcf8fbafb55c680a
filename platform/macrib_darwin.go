package platform

import (
	"net"
	"net/netip"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// parseRoutes are the routes of a table as the kernel gives it (net/route.h), without those that
// are not in use.
func parseRoutes(rib []byte) ([]macRoute, error) {
	messages, err := route.ParseRIB(route.RIBTypeRoute, rib)
	if err != nil {
		return nil, err
	}
	var all []macRoute
	for _, m := range messages {
		if m, ok := m.(*route.RouteMessage); ok && m.Flags&unix.RTF_UP != 0 {
			if r, ok := routeOf(m); ok {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// routeOf understands a message about a route; not one of a kind that nobody here makes.
func routeOf(m *route.RouteMessage) (macRoute, bool) {
	at := func(i int) route.Addr {
		if i < len(m.Addrs) {
			return m.Addrs[i]
		}
		return nil
	}
	r := macRoute{Link: m.Index, Scoped: m.Flags&unix.RTF_IFSCOPE != 0, Cloned: m.Flags&unix.RTF_WASCLONED != 0}
	dst, ok := ipOf(at(unix.RTAX_DST))
	if !ok {
		return r, false
	}
	if m.Flags&unix.RTF_GATEWAY != 0 {
		r.Gateway, _ = ipOf(at(unix.RTAX_GATEWAY))
	}
	bits := dst.BitLen()
	if m.Flags&unix.RTF_HOST == 0 {
		if bits, ok = maskBits(at(unix.RTAX_NETMASK), dst); !ok {
			return r, false
		}
	}
	r.Dst = netip.PrefixFrom(dst.WithZone(""), bits).Masked()
	return r, r.Dst.IsValid()
}

func ipOf(a route.Addr) (netip.Addr, bool) {
	switch a := a.(type) {
	case *route.Inet4Addr:
		return netip.AddrFrom4(a.IP), true
	case *route.Inet6Addr:
		return netip.AddrFrom16(a.IP), true
	}
	return netip.Addr{}, false
}

// maskBits is the length of a netmask. The kernel leaves out zeros at a mask's end, all of
// it for a default route.
func maskBits(a route.Addr, dst netip.Addr) (int, bool) {
	var mask []byte
	switch a := a.(type) {
	case *route.Inet4Addr:
		mask = a.IP[:]
	case *route.Inet6Addr:
		mask = a.IP[:]
	default:
		return 0, dst.IsUnspecified()
	}
	ones, size := net.IPMask(mask).Size()
	return ones, size == dst.BitLen()
}

// routeMessage is what the routing socket is told, to add or to delete a route by an interface
// of that name.
func routeMessage(kind int, r macRoute, link string, pid, seq int) ([]byte, error) {
	addrs := make([]route.Addr, unix.RTAX_NETMASK+1)
	addrs[unix.RTAX_DST] = addrOf(r.Dst.Addr())
	addrs[unix.RTAX_GATEWAY] = &route.LinkAddr{Index: r.Link, Name: link}
	m := route.RouteMessage{
		Version: unix.RTM_VERSION, Type: kind, Flags: unix.RTF_UP | unix.RTF_STATIC, Index: r.Link,
		ID: uintptr(pid), Seq: seq, Addrs: addrs,
	}
	if r.Dst.IsSingleIP() {
		m.Flags |= unix.RTF_HOST
	} else {
		mask := net.CIDRMask(r.Dst.Bits(), r.Dst.Addr().BitLen())
		a, _ := netip.AddrFromSlice(mask)
		addrs[unix.RTAX_NETMASK] = addrOf(a)
	}
	return m.Marshal()
}

func addrOf(a netip.Addr) route.Addr {
	if a.Is4() {
		return &route.Inet4Addr{IP: a.As4()}
	}
	return &route.Inet6Addr{IP: a.As16()}
}
