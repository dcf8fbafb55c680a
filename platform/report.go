package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Report is what users should know about how a wish was made true.
type Report struct {
	// DNS is who owns the host's name resolution: systemd-resolved,
	// NetworkManager, resolvconf, openresolv or file; on Windows NRPT, its table of
	// rules; on macOS configd. Empty if no tunnel has DNS servers.
	DNS string
	// IPv6Blocked: all IPv4 goes through a tunnel and IPv6 cannot, so it is held
	// back.
	IPv6Blocked bool
	// Unguarded says why packets for a tunnel's addresses are accepted from other
	// interfaces, and IPv6 is not held back: the system has no firewall. Empty
	// if they are not.
	Unguarded string
	// Unsplit: a tunnel's servers shall resolve the names of some domains only, and who
	// owns name resolution cannot tell names apart: they are asked for all.
	Unsplit bool
	// OtherServers are asked for names as well although no tunnel has them, by programs
	// that go by /etc/resolv.conf. What they are asked may leave outside of the tunnels.
	OtherServers []netip.Addr
	// NamesElsewhere are domains of the tunnels that other interfaces resolve.
	NamesElsewhere []NameClaim
	// NamesTaken is who has replaced the tunnels' name servers, and did so again
	// whenever they were put back: a program's name, "another program", or
	// [GroupPolicy]. Empty if they are in use.
	NamesTaken string
	// WINSUnheeded says why programs will not ask the tunnels' WINS servers although they
	// were set. Empty if they can, or there are none.
	WINSUnheeded string
	// Outside are single addresses that the tunnels' routes cover and that are reached past
	// the tunnels, because the host has a route for each: a DHCP server can have told it
	// (CVE-2024-3661). Only macOS has no way to take them.
	Outside []netip.Addr
	// Overlaps are the places where the local network has a tunnel's addresses.
	Overlaps []Overlap
}

// GroupPolicy has taken the names where it has a table of rules for them, also an empty
// one: Windows heeds no others.
const GroupPolicy = "group policy"

// NameClaim is a tunnel's domain, or one below that, for which another interface's DNS
// servers are asked.
type NameClaim struct {
	Interface, Domain string
	Tunnel            string // interface
}

// Report is about the last wish that Set made true.
func (n *Network) Report() Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.report
}

// OverlapKind is what of the local network a tunnel's route covers.
type OverlapKind string

// Kinds of overlap.
const (
	OverlapNetwork OverlapKind = "network" // that an interface is attached to
	OverlapRouter  OverlapKind = "router"  // a default gateway
	OverlapDNS     OverlapKind = "dns"     // a DNS server in use
	OverlapDHCP    OverlapKind = "dhcp"    // the server of an interface's address
)

// Overlap is a part of the local network whose addresses a tunnel claims too.
type Overlap struct {
	Kind      OverlapKind
	Local     netip.Prefix // a network, or a single address
	Interface string       // that leads to it; empty if it cannot be told
	Tunnel    string       // interface
	Route     netip.Prefix // of the tunnel; equal to Local, around it, or inside
	// Kept: it stays reachable beside the tunnel. Otherwise the tunnel has the
	// addresses that are in both.
	Kept bool
}

func (o Overlap) String() string {
	text := fmt.Sprintf("%s %v", o.Kind, o.Local)
	if o.Interface != "" {
		text += " on " + o.Interface
	}
	what := "the tunnel has it"
	switch {
	case o.Kept:
		what = "it stays reachable"
	case o.Local.Bits() < o.Route.Bits():
		what = "the tunnel has that part of it"
	}
	return fmt.Sprintf("%s meets the tunnel's network %v: %s", text, o.Route, what)
}

// Overlaps lists where the local networks and the routes of a wish meet, and what
// would be done about it. Routes for all addresses do not count. It changes nothing.
func (n *Network) Overlaps(cfg Config) ([]Overlap, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host.overlaps(cfg, n.applied)
}

// Conflict is another program's claim to what a tunnel needs for itself.
type Conflict struct {
	Interface string
	Owner     string // what the interface is: wireguard, tun, …
	// Claim is the network that is routed there, for instance 0.0.0.0/1, or "DNS"
	// if all names are resolved there.
	Claim string
	// Wins: packets go there although the wish that stands wants the same network for
	// a tunnel.
	Wins bool
}

func (c Conflict) String() string {
	return fmt.Sprintf("%s (%s) has %s", c.Interface, c.Owner, c.Claim)
}

// Conflicts lists the other VPNs that have the default route, or half of it, and the
// interfaces other than the wish's that have all names resolved. It changes nothing.
func (n *Network) Conflicts(ctx context.Context) ([]Conflict, error) {
	return n.host.conflicts(ctx, n.interfaces())
}

// interfaces of the wish that stands, and of one that comes.
func (n *Network) interfaces() []string {
	if names := n.tunnels.Load(); names != nil {
		return *names
	}
	return nil
}

// Online says whether packets can leave the host at all, outside of the tunnels: whether
// an interface is up that has an address. It is true where that cannot be told.
func (n *Network) Online() bool {
	online, err := n.host.online(n.interfaces())
	if err != nil {
		n.log.Warn("network: cannot see the host", "error", err)
		return true
	}
	return online
}

// Dialer makes connections that stay outside all tunnels, and that BlockOutside lets
// through.
func (n *Network) Dialer() *net.Dialer { return n.host.dialer() }

// errNoServers: a host without DNS servers of its own.
var errNoServers = errors.New("the host has no DNS servers outside the tunnels")

// LookupOutside finds a gateway's addresses by the servers that the host has without
// its tunnels, past the tunnels: one of them may be dead. Names that the host resolves
// by a file need no server.
func (n *Network) LookupOutside(ctx context.Context, name string) ([]netip.Addr, error) {
	n.mu.Lock()
	servers := n.host.nameservers(n.applied)
	n.mu.Unlock()
	var asked atomic.Uint32
	resolver := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if len(servers) == 0 {
				return nil, errNoServers
			}
			// The resolver asks again when a server does not answer.
			server := servers[int(asked.Add(1)-1)%len(servers)]
			return n.Dialer().DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
		},
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", name)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return slices.Compact(addrs), err
}
