package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// describe implements host.
func (h *linuxHost) describe() (string, error) {
	var b strings.Builder
	rules, err := h.nl.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return "", fmt.Errorf("rules: %w", err)
	}
	for _, r := range rules {
		if r.Table == routeTable {
			fmt.Fprintln(&b, r)
		}
	}
	routes, err := h.nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: routeTable}, netlink.RT_FILTER_TABLE)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("routes: %w", err)
	}
	for _, r := range routes {
		fmt.Fprintln(&b, r)
	}
	firewall, err := h.firewall()
	if err == nil { // a kernel without nftables has nothing of ours
		fmt.Fprintln(&b, firewall.rules)
	}
	content, err := readBounded(filepath.Join(h.root, resolvConfPath))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	b.Write(content)
	return b.String(), nil
}
