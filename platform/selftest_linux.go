package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// describe implements host.
func (h *linuxHost) describe() (string, error) {
	lines, err := h.ours()
	if err != nil {
		return "", err
	}
	content, err := readBounded(filepath.Join(h.root, resolvConfPath))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return strings.Join(append(lines, string(content)), "\n"), nil
}

// ours lists what the kernel has of ours.
func (h *linuxHost) ours() ([]string, error) {
	var lines []string
	rules, err := dump(func() ([]netlink.Rule, error) { return h.nl.RuleList(netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	for _, r := range rules {
		if r.Table == routeTable {
			not := map[bool]string{true: "not "}[r.Invert]
			lines = append(lines, fmt.Sprintf("rule of %s: %d: %sfwmark %#x lookup %d", ruleFamily(r.Family), r.Priority, not, r.Mark, r.Table))
		}
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: routeTable}, netlink.RT_FILTER_TABLE)
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("routes: %w", err)
	}
	links, err := dump(func() ([]netlink.Link, error) { return h.nl.LinkList() })
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	for _, r := range routes {
		lines = append(lines, fmt.Sprintf("route: %v by %s table %d type %d", r.Dst, nameOf(r.LinkIndex, links), r.Table, r.Type))
	}
	firewall, err := h.firewall()
	if err == nil { // a kernel without nftables has nothing of ours
		for _, r := range firewall.rules {
			lines = append(lines, "firewall: "+r)
		}
	}
	return lines, nil
}

func ruleFamily(family int) string {
	if family == netlink.FAMILY_V6 {
		return "IPv6"
	}
	return "IPv4"
}

// tell implements host.
func (h *linuxHost) tell(ctx context.Context, iface string) ([]string, error) {
	lines, err := h.ours()
	if err != nil {
		return nil, err
	}
	link, err := h.nl.LinkByName(iface)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return lines, nil
		}
		return nil, fmt.Errorf("interface %s: %w", iface, err)
	}
	index := link.Attrs().Index
	lines = append(lines, fmt.Sprintf("interface: %s mtu %d %v", iface, link.Attrs().MTU, link.Attrs().Flags))
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.nl.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	for _, a := range addrs {
		lines = append(lines, fmt.Sprintf("address: %v", a.IPNet))
	}
	return append(lines, h.tellNames(ctx, int32(index))...), nil
}

// tellNames is what says where names are looked up. What is not there says nothing.
func (h *linuxHost) tellNames(ctx context.Context, index int32) []string {
	var lines []string
	servers, err := h.bus.servers(ctx)
	if err == nil { // systemd-resolved is there
		for _, s := range servers {
			if a, ok := netip.AddrFromSlice(s.Address); ok && s.Link == index {
				lines = append(lines, fmt.Sprintf("systemd-resolved: server %v", a))
			}
		}
	}
	domains, err := h.bus.domains(ctx)
	if err == nil {
		for _, d := range domains {
			if d.Link == index {
				lines = append(lines, fmt.Sprintf("systemd-resolved: domain %s only-route %v", d.Domain, d.RoutingOnly))
			}
		}
	}
	for _, path := range []string{resolvConfPath, filepath.Join(h.stateDir, sambaInclude)} {
		content, err := readBounded(filepath.Join(h.root, path))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				lines = append(lines, path+": "+line)
			}
		}
	}
	return lines
}
