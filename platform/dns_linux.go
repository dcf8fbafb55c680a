package platform

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	resolvConfPath = "/etc/resolv.conf"
	resolvHeader   = "# written by wayfarer\n"
	// resolvServers is how many servers the C library reads (resolv.conf(5),
	// MAXNS).
	resolvServers = 3
)

// planDNS finds out who owns name resolution and plans for that.
func (h *linuxHost) planDNS(ctx context.Context, cfg Config, applied []change) ([]change, error) {
	tunnels := slices.DeleteFunc(slices.Clone(cfg.Tunnels), func(t Tunnel) bool { return len(t.DNS) == 0 })
	if len(tunnels) == 0 {
		return nil, nil
	}
	state, err := h.readFile(resolvConfPath)
	if err != nil {
		return nil, err
	}
	if isStub(state.Seen) && h.bus.answers(ctx) {
		return h.planResolved(tunnels)
	}
	c := &fileChange{h: h, Path: resolvConfPath, Was: state}
	before := state.Seen
	if standing, ok := find(applied, c.id()).(*fileChange); ok && bytes.Equal(before, standing.Content) {
		before = standing.Was.Seen
	}
	c.Content = resolvConf(tunnels, before)
	return []change{c}, nil
}

// isStub says whether a resolv.conf names nobody but systemd-resolved.
func isStub(content []byte) bool {
	servers := keyword(content, "nameserver")
	return len(servers) > 0 && !slices.ContainsFunc(servers, func(s string) bool {
		return s != "127.0.0.53" && s != "127.0.0.54"
	})
}

// keyword lists the rest of all lines of a resolv.conf that begin with word.
func keyword(content []byte, word string) []string {
	var values []string
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == word {
			values = append(values, strings.Join(fields[1:], " "))
		}
	}
	return values
}

// resolvConf writes a resolv.conf for the tunnels; before is the host's own.
func resolvConf(tunnels []Tunnel, before []byte) []byte {
	tunnels = slices.Clone(tunnels)
	slices.SortStableFunc(tunnels, func(a, b Tunnel) int { // for all names first
		return min(len(a.MatchDomains), 1) - min(len(b.MatchDomains), 1)
	})
	var servers []netip.Addr
	var search []string
	for _, t := range tunnels {
		servers = appendNew(servers, t.DNS...)
		search = appendNew(search, t.SearchDomains...)
	}
	var fallback []string
	if len(tunnels[0].MatchDomains) > 0 { // no tunnel wants all names
		fallback = keyword(before, "nameserver")
		for _, domains := range keyword(before, "search") {
			search = appendNew(search, strings.Fields(domains)...)
		}
	}
	room := resolvServers - min(len(fallback), 1)
	var b bytes.Buffer
	b.WriteString(resolvHeader)
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for _, server := range servers[:min(len(servers), room)] {
		fmt.Fprintf(&b, "nameserver %v\n", server.Unmap())
	}
	for _, server := range fallback {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	for _, options := range keyword(before, "options") {
		// Trust in answers marked as authentic was meant for another server.
		words := slices.DeleteFunc(strings.Fields(options), func(o string) bool { return o == "trust-ad" })
		if len(words) > 0 {
			fmt.Fprintf(&b, "options %s\n", strings.Join(words, " "))
		}
	}
	return b.Bytes()
}

func appendNew[T comparable](list []T, more ...T) []T {
	for _, v := range more {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}
