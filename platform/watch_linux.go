package platform

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// againTime is the pause before netlink is asked again, after an overflow of its queue.
const againTime = time.Second

// watch implements host. Of netlink's messages only the fact counts that they come;
// what has changed is seen by looking, so that nothing is missed when the queue
// overflows, and routes that are merely refreshed are no event.
//
// Sleep and wake are logind's to tell. Where there is none, or somebody goes past it, the
// kernel tells when the clock jumps (watchClock), and then the time is looked at that
// CLOCK_BOOTTIME has and CLOCK_MONOTONIC, which stands still meanwhile, has not: a clock
// that was only set is no sleep. A kernel that does not tell has this looked at each 30 s.
//
// Whoever writes resolv.conf is told by inotify. What is there is looked at then, so
// that our own writing is no event.
func (h *linuxHost) watch(ctx context.Context, tunnels func() []string) (*watchSource, error) {
	hints := make(chan struct{}, 1)
	listen, err := subscribe(ctx, unix.NETLINK_ROUTE, routeGroups)
	if err != nil {
		return nil, err
	}
	go listen(h, hints)
	listen, err = subscribe(ctx, unix.NETLINK_NETFILTER, firewallGroups)
	if err == nil {
		go listen(h, hints)
	} else {
		h.log.Warn("network: nobody tells when another program removes the firewall", "error", err)
	}
	look := func() (surroundings, error) { return h.surroundings(tunnels()) }
	names, err := h.watchNames(ctx)
	if err != nil {
		h.log.Warn("network: nobody tells when another program replaces the name servers", "error", err)
	}
	jumps, err := watchClock(ctx, h.log)
	if err != nil {
		h.log.Debug("network: nobody tells that the clock jumps", "error", err)
	}
	return &watchSource{hints: hints, names: names, sleeps: h.sleeps(ctx, sleptFor, jumps), foreign: h.foreignNames, look: look, intact: h.intact}, nil
}

// intact says whether rules, routes and firewall are as they were made. Managers of
// networks and firewalls remove what is not theirs when they start (systemd-networkd,
// "flush ruleset"). What has gone with its interface is no news: who reads packets from
// that is told.
func (h *linuxHost) intact(standing []change) (bool, error) {
	h.lookAgain()
	for _, c := range standing {
		var stands bool
		var err error
		switch c := c.(type) {
		case *ruleChange:
			stands, err = c.stands()
		case *routeChange:
			stands, err = c.stands()
		case *firewallChange:
			var state firewallState
			state, err = h.firewall()
			stands = c.is(state)
		default:
			continue
		}
		if err != nil || !stands {
			return false, err
		}
	}
	return true, nil
}

// foreignNames says whether resolv.conf is another program's.
func (h *linuxHost) foreignNames() bool {
	is, err := h.readFile(resolvConfPath)
	return err == nil && !is.fromOurs()
}

// watchNames gets a value whenever resolv.conf is replaced, written or removed, until ctx
// ends. The directory tells of that, but for a file that is a mount.
func (h *linuxHost) watchNames(ctx context.Context) (<-chan struct{}, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	file := filepath.Join(h.root, resolvConfPath)
	_, err = unix.InotifyAddWatch(fd, filepath.Dir(file), unix.IN_CREATE|unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE|unix.IN_ONLYDIR)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("inotify: %s: %w", filepath.Dir(file), err)
	}
	if _, err := unix.InotifyAddWatch(fd, file, unix.IN_CLOSE_WRITE|unix.IN_DONT_FOLLOW); err != nil {
		h.log.Debug("network: no watch of the file alone", "file", resolvConfPath, "error", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	context.AfterFunc(ctx, func() { events.Close() })
	names := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 1<<12)
		for {
			size, err := events.Read(buf)
			if err != nil {
				if ctx.Err() == nil {
					h.log.Warn("network: inotify ends", "error", err)
				}
				return
			}
			if !aboutFile(buf[:size], filepath.Base(file)) {
				continue
			}
			select {
			case names <- struct{}{}:
			default:
			}
		}
	}()
	return names, nil
}

// aboutFile says whether one of inotify's events (inotify(7)) is about a file of the
// directory, is of a watch of a file alone, or says that some were lost.
func aboutFile(events []byte, name string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[4:])
		size := int(binary.NativeEndian.Uint32(events[12:]))
		if events = events[unix.SizeofInotifyEvent:]; size > len(events) {
			return false
		}
		if size == 0 && mask&unix.IN_IGNORED == 0 || string(bytes.TrimRight(events[:size], "\x00")) == name {
			return true
		}
		events = events[size:]
	}
	return false
}

// sleeps is what the login manager tells for as long as it does, and what the clocks do of
// sleeps that it does not tell of.
func (h *linuxHost) sleeps(ctx context.Context, slept func() (time.Duration, error), jumps <-chan struct{}) <-chan bool {
	told, err := h.bus.sleeps(ctx)
	if err != nil {
		h.log.Debug("network: no login manager tells of sleep, the clocks do", "error", err)
	}
	return watchSleep(ctx, h.log, slept, told, jumps, nil)
}

// Groups of netlink messages: of links, addresses, routes and rules; of the firewall.
const (
	routeGroups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE |
		unix.RTMGRP_IPV6_ROUTE | unix.RTMGRP_IPV4_RULE | 1<<(unix.RTNLGRP_IPV6_RULE-1)
	firewallGroups = 1 << (unix.NFNLGRP_NFTABLES - 1)
)

// subscribe opens netlink for changes, in the network namespace of the caller, and gives
// the function that reads it until ctx ends.
func subscribe(ctx context.Context, protocol int, groups uint32) (func(*linuxHost, chan<- struct{}), error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "netlink")
	context.AfterFunc(ctx, func() { socket.Close() })
	return func(h *linuxHost, hints chan<- struct{}) {
		message := make([]byte, 1<<16)
		for {
			_, err := socket.Read(message)
			if ctx.Err() != nil {
				return
			}
			if err != nil { // ENOBUFS: some were lost, which is a hint too
				h.log.Debug("network: netlink", "error", err)
				select {
				case <-time.After(againTime):
				case <-ctx.Done():
					return
				}
			}
			select {
			case hints <- struct{}{}:
			default:
			}
		}
	}, nil
}

// sleptFor is how long the computer has slept since it was started.
func sleptFor() (time.Duration, error) {
	var awake, all unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake); err != nil {
		return 0, err
	}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &all); err != nil {
		return 0, err
	}
	return time.Duration(all.Nano() - awake.Nano()), nil
}

// surroundings describes the host without the tunnels.
func (h *linuxHost) surroundings(tunnels []string) (surroundings, error) {
	var network, defaults []string
	links, err := dump(func() ([]netlink.Link, error) { return h.nl.LinkList() })
	if err != nil {
		return surroundings{}, err
	}
	names := map[int]string{}
	for _, link := range links {
		a := link.Attrs()
		if a.Flags&net.FlagLoopback == 0 && a.Flags&net.FlagUp != 0 && !slices.Contains(tunnels, a.Name) {
			names[a.Index] = a.Name
			network = append(network, fmt.Sprintf("link %d %s %v", a.Index, a.Name, a.Flags&net.FlagRunning))
		}
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.nl.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return surroundings{}, err
	}
	for _, a := range addrs {
		// An address that is not usable yet is none.
		if name := names[a.LinkIndex]; name != "" && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			network = append(network, fmt.Sprintf("address %v %s", a.IPNet, name))
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump(func() ([]netlink.Route, error) {
			return h.nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return surroundings{}, err
		}
		for _, r := range routes {
			if isDefault(&r) && !slices.Contains(tunnels, nameOf(r.LinkIndex, links)) {
				defaults = append(defaults, fmt.Sprintf("default via %v dev %d metric %d %v", r.Gw, r.LinkIndex, r.Priority, r.MultiPath))
			}
		}
	}
	slices.Sort(network)
	slices.Sort(defaults)
	return surroundings{strings.Join(network, "\n"), strings.Join(defaults, "\n")}, nil
}

func nameOf(index int, links []netlink.Link) string {
	for _, link := range links {
		if link.Attrs().Index == index {
			return link.Attrs().Name
		}
	}
	return ""
}

// vpnKinds are interfaces that other VPNs have.
var vpnKinds = []string{"wireguard", "tuntap", "xfrm", "vti", "vti6", "ipip", "gre", "sit", "ip6tnl", "ppp"}

// conflicts implements host.
func (h *linuxHost) conflicts(ctx context.Context, tunnels []string) ([]Conflict, error) {
	links, err := dump(func() ([]netlink.Link, error) { return h.nl.LinkList() })
	if err != nil {
		return nil, err
	}
	var found []Conflict
	note := func(index int, claim string, kinds []string) {
		for _, link := range links {
			name, kind := link.Attrs().Name, kindOf(link)
			if link.Attrs().Index == index && !slices.Contains(tunnels, name) && (kinds == nil || slices.Contains(kinds, link.Type())) {
				found = appendNew(found, Conflict{Interface: name, Owner: kind, Claim: claim, Wins: h.wins(index, claim)})
			}
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump(func() ([]netlink.Route, error) {
			return h.nl.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Table == unix.RT_TABLE_LOCAL || r.Type != unix.RTN_UNICAST {
				continue
			}
			if r.Dst == nil {
				r.Dst = ipNet(map[int]netip.Prefix{
					netlink.FAMILY_V4: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
					netlink.FAMILY_V6: netip.PrefixFrom(netip.IPv6Unspecified(), 0),
				}[family])
			}
			if dst := prefixOf(r.Dst); dst.Bits() <= 1 {
				note(r.LinkIndex, dst.String(), vpnKinds)
			}
		}
	}
	domains, err := h.bus.domains(ctx)
	if err != nil {
		h.log.Debug("network: systemd-resolved tells no domains", "error", err)
	}
	for _, d := range domains {
		if d.Domain == "." {
			note(int(d.Link), "DNS", nil)
		}
	}
	return found, nil
}

// wins says whether packets into a network leave by an interface although a route of the
// tunnels for all addresses stands in our table.
func (h *linuxHost) wins(index int, claim string) bool {
	network, err := netip.ParsePrefix(claim)
	if err != nil {
		return false // DNS
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: routeTable}, netlink.RT_FILTER_TABLE)
	})
	if err != nil || !slices.ContainsFunc(routes, func(r netlink.Route) bool {
		return r.Type == unix.RTN_UNICAST && isDefault(&r) && (r.Family == netlink.FAMILY_V4) == network.Addr().Is4()
	}) {
		return false
	}
	// Nothing is sent: any address does that no narrower route can have.
	way, err := h.nl.RouteGet(somewhere(network).AsSlice())
	return err == nil && len(way) > 0 && way[0].LinkIndex == index
}

// online implements host. Addresses of networks that end within the host count for
// nothing, unless a default route leaves by them.
func (h *linuxHost) online(tunnels []string) (bool, error) {
	home, err := h.look(tunnels)
	if err != nil {
		return false, err
	}
	return len(home.ways) > 0, nil
}

// kindOf is what an interface is, in people's words.
func kindOf(link netlink.Link) string {
	if t, ok := link.(*netlink.Tuntap); ok && t.Mode == netlink.TUNTAP_MODE_TUN {
		return "tun"
	}
	return link.Type()
}
