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

// dnsMode is who owns the host's name resolution.
type dnsMode string

const (
	dnsResolved   dnsMode = "systemd-resolved"
	dnsNetworkMgr dnsMode = "NetworkManager"
	dnsResolvconf dnsMode = "resolvconf" // Debian's
	dnsOpenresolv dnsMode = "openresolv"
	dnsFile       dnsMode = "file" // nobody: /etc/resolv.conf stands for itself
)

// detectDNS finds out who owns name resolution, as Tailscale does (dnsMode). What
// resolv.conf says counts, and only if it is true: distributions leave headers of
// programs that are long gone.
//
// NetworkManager ignores DNS servers of interfaces that are not its own, since 1.26.6,
// so where it writes resolv.conf itself the file is replaced like anybody's.
func (h *linuxHost) detectDNS(ctx context.Context, conf fileState) dnsMode {
	if (isStub(conf.Seen) || h.resolvesByNSS()) && h.bus.answers(ctx, resolvedName, resolvedPath, resolvedManager, "DNS") {
		return dnsResolved
	}
	switch owner := headerOwner(conf); owner {
	case dnsResolvconf:
		if program := h.resolvconf(); program != "" {
			return h.resolvconfStyle(ctx, program)
		}
	case dnsNetworkMgr:
		if h.bus.answers(ctx, networkManagerName, networkManagerDNS, networkManagerDNSManager, "Mode") {
			return dnsNetworkMgr
		}
	}
	return dnsFile
}

const (
	networkManagerName       = "org.freedesktop.NetworkManager"
	networkManagerDNS        = "/org/freedesktop/NetworkManager/DnsManager"
	networkManagerDNSManager = "org.freedesktop.NetworkManager.DnsManager"
)

// headerOwner is the program that the first comment of a resolv.conf names, or that
// a symlink leads to; empty if none does.
func headerOwner(conf fileState) dnsMode {
	if conf.Kind == fileSymlink {
		switch {
		case strings.HasSuffix(conf.Target, "run/NetworkManager/resolv.conf"):
			return dnsNetworkMgr
		case strings.HasSuffix(conf.Target, "run/resolvconf/resolv.conf"):
			return dnsResolvconf
		}
	}
	for line := range strings.Lines(string(conf.Seen)) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		switch {
		case !ok && strings.TrimSpace(line) != "":
			return ""
		case strings.Contains(comment, "NetworkManager"):
			return dnsNetworkMgr
		case strings.Contains(comment, "resolvconf"):
			return dnsResolvconf
		}
	}
	return ""
}

// resolvesByNSS says whether the C library asks systemd-resolved before it would read
// resolv.conf (nss-resolve(8)).
func (h *linuxHost) resolvesByNSS() bool {
	content, err := h.readThrough("/etc/nsswitch.conf")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "hosts:" {
			continue
		}
		resolve, dns := slices.Index(fields, "resolve"), slices.Index(fields, "dns")
		return resolve > 0 && (dns < 0 || resolve < dns)
	}
	return false
}

// planDNS finds out who owns name resolution and plans for that.
func (h *linuxHost) planDNS(ctx context.Context, cfg Config, applied []change) ([]change, string, error) {
	if h.names != nil {
		return h.planAskedNames(ctx, cfg.Tunnels)
	}
	wins, err := h.planWINS(cfg, applied)
	if err != nil {
		return nil, "", err
	}
	tunnels := slices.DeleteFunc(slices.Clone(cfg.Tunnels), func(t Tunnel) bool { return len(t.DNS) == 0 })
	if len(tunnels) == 0 {
		return wins, "", nil
	}
	owner, changes, err := h.planServers(ctx, tunnels, applied)
	return append(wins, changes...), string(owner), err
}

// nameOwner is who owns name resolution without us.
func (h *linuxHost) nameOwner(ctx context.Context, applied []change) (dnsMode, error) {
	conf, err := h.readFile(resolvConfPath)
	if err != nil {
		return "", err
	}
	standing, _ := find(applied, "file "+resolvConfPath).(*fileChange)
	if standing != nil && standing.ours(conf) {
		conf = standing.Was // who it belongs to, not who has it now
	}
	return h.detectDNS(ctx, conf), nil
}

func (h *linuxHost) planServers(ctx context.Context, tunnels []Tunnel, applied []change) (dnsMode, []change, error) {
	owner, err := h.nameOwner(ctx, applied)
	if err != nil {
		return "", nil, err
	}
	var changes []change
	switch owner {
	case dnsResolved:
		changes, err = h.planResolved(tunnels)
	case dnsOpenresolv:
		changes = []change{h.planResolvconf(tunnels)}
	default: // Debian's resolvconf, too: it has no record that keeps the others out
		var c *fileChange
		c, err = h.planFile(resolvConfPath, applied,
			func(before []byte) []byte { return resolvConf(tunnels, before) })
		changes = []change{c}
	}
	return owner, changes, err
}

// uplinkConf is where systemd-resolved lists the servers behind its stub.
const uplinkConf = "/run/systemd/resolve/resolv.conf"

// nameservers implements host.
func (h *linuxHost) nameservers(applied []change) []netip.Addr {
	if h.names != nil {
		return h.askedNameservers(applied)
	}
	conf, err := h.readFile(resolvConfPath)
	if err != nil {
		return nil
	}
	var tunnels []netip.Addr
	for _, c := range applied {
		switch c := c.(type) {
		case *fileChange:
			if c.Path == resolvConfPath && c.ours(conf) {
				conf = c.Was
			}
		case *resolvedChange:
			tunnels = append(tunnels, c.Servers...)
		case *resolvconfChange:
			return h.recordedServers()
		}
	}
	content := conf.Seen
	if isStub(content) {
		if content, err = h.readThrough(uplinkConf); err != nil {
			return nil
		}
	}
	return slices.DeleteFunc(serversIn(content), func(a netip.Addr) bool { return slices.Contains(tunnels, a) })
}

// serversIn lists the servers that a resolv.conf names.
func serversIn(content []byte) []netip.Addr {
	var servers []netip.Addr
	for _, text := range keyword(content, "nameserver") {
		if addr, err := netip.ParseAddr(text); err == nil {
			servers = appendNew(servers, addr)
		}
	}
	return servers
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

// resolvConf writes a resolv.conf for the tunnels; before is the host's own. Its servers
// are left out: the resolver would ask them for a company's names as soon as the company's
// own do not answer.
func resolvConf(tunnels []Tunnel, before []byte) []byte {
	b := bytes.NewBuffer(resolvLines(merged(tunnels)))
	for _, options := range keyword(before, "options") {
		// Trust in answers marked as authentic was meant for another server.
		words := slices.DeleteFunc(strings.Fields(options), func(o string) bool { return o == "trust-ad" })
		if len(words) > 0 {
			fmt.Fprintf(b, "options %s\n", strings.Join(words, " "))
		}
	}
	return b.Bytes()
}

// resolvLines writes servers, as many as the C library reads, and search domains.
func resolvLines(servers []netip.Addr, search []string) []byte {
	var b bytes.Buffer
	b.WriteString(resolvHeader)
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for _, server := range servers[:min(len(servers), resolvServers)] {
		fmt.Fprintf(&b, "nameserver %v\n", server.Unmap())
	}
	return b.Bytes()
}

// verify implements host: it looks where names go now, whoever has had a hand in it.
func (h *linuxHost) verify(ctx context.Context, cfg Config, report *Report) error {
	if report.DNS == "" {
		return nil
	}
	owner := dnsMode(report.DNS)
	if owner == dnsResolved {
		domains, err := h.bus.domains(ctx)
		if err != nil {
			return err
		}
		report.NamesElsewhere = h.elsewhere(cfg.Tunnels, domains)
	} else {
		report.Unsplit = slices.ContainsFunc(cfg.Tunnels, func(t Tunnel) bool { return len(t.DNS) > 0 && len(t.MatchDomains) > 0 })
	}
	conf, err := h.readFile(resolvConfPath)
	if err != nil {
		return err
	}
	switch {
	case owner == dnsResolved && isStub(conf.Seen):
		return nil
	case owner != dnsResolved && owner != dnsOpenresolv && !conf.fromOurs():
		if report.NamesTaken = string(headerOwner(conf)); report.NamesTaken == "" {
			report.NamesTaken = "another program"
		}
		return nil
	}
	servers, _ := merged(cfg.Tunnels)
	report.OtherServers = slices.DeleteFunc(serversIn(conf.Seen), func(a netip.Addr) bool { return slices.Contains(servers, a) })
	return nil
}

// elsewhere lists which of the tunnels' domains, or of what is below them, systemd-resolved
// looks up by other links: the longest domain decides, and equal ones share.
func (h *linuxHost) elsewhere(tunnels []Tunnel, domains []resolvedDomain) []NameClaim {
	var found []NameClaim
	for _, d := range domains {
		name := ""
		if link, err := h.nl.LinkByIndex(int(d.Link)); err == nil {
			name = link.Attrs().Name
		}
		if name == "" || slices.ContainsFunc(tunnels, func(t Tunnel) bool { return t.Interface == name }) {
			continue
		}
		for _, t := range tunnels {
			if len(t.DNS) > 0 && slices.ContainsFunc(slices.Concat(t.MatchDomains, t.SearchDomains), func(ours string) bool { return isBelow(d.Domain, ours) }) {
				found = appendNew(found, NameClaim{Interface: name, Domain: d.Domain, Tunnel: t.Interface})
			}
		}
	}
	return found
}
