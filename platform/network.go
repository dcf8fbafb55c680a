package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what the host shall look like. The zero value restores it.
type Config struct {
	Tunnels []Tunnel
}

// Tunnel is one tunnel's part of the host's network.
type Tunnel struct {
	Interface string         // name of an existing interface
	MTU       int            // in bytes
	Addresses []netip.Prefix // of the interface; they bring no routes with them
	Routes    []netip.Prefix // into the tunnel; 0.0.0.0/0 and ::/0 are full tunnels
	Exclude   []netip.Prefix // stay outside, although a route covers them

	// DNS are the servers inside the tunnel, in the order of preference. Without
	// them the domains below mean nothing.
	DNS []netip.Addr
	// SearchDomains complete names without a dot.
	SearchDomains []string
	// MatchDomains are the domains whose names DNS resolves (split DNS). Empty
	// means all names, if DNS is set.
	MatchDomains []string
	// WINS are NetBIOS name servers, where the system has a place for them.
	WINS []netip.Addr
}

// Part is a part of the host's network.
type Part string

// Parts that can fail.
const (
	PartAddress Part = "address" // the interface and its addresses
	PartRoute   Part = "route"   // routes, rules, kernel settings for them
	PartDNS     Part = "dns"
	PartSocket  Part = "socket" // a socket that bypasses the tunnels
)

// Error says which part of the host's network could not be set up. It wraps what
// the system answered.
type Error struct {
	Part Part
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Part, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Errors that Error may wrap.
var (
	// ErrUnsupported: not available on this operating system.
	ErrUnsupported = errors.New("the host's network cannot be configured on this operating system yet")
	// ErrNoRights: the process lacks the rights.
	ErrNoRights = errors.New("no right to configure the network")
)

// undoTime bounds the way back, which a cancelled context must not stop.
const undoTime = 10 * time.Second

// Network is the host's network. All methods may be called concurrently.
type Network struct {
	log  *slog.Logger
	host host

	mu      sync.Mutex
	applied []change // in the order of their application
}

// host is what an operating system implements.
type host interface {
	// plan turns a wish into changes, in the order of their application. It
	// reads what undoing them will need and changes nothing. Applied are the
	// changes that stand.
	plan(ctx context.Context, cfg Config, applied []change) ([]change, error)
	listenPacket(ctx context.Context, gateway netip.Addr) (*net.UDPConn, error)
	close() error
}

// New opens the host's network and changes nothing yet; it needs no rights. Nothing
// is kept in stateDir yet.
func New(log *slog.Logger, stateDir string) (*Network, error) {
	host, err := newHost(log)
	if err != nil {
		return nil, err
	}
	return &Network{log: log, host: host}, nil
}

// Set makes the host as cfg wishes. It is idempotent. After an error, which is an
// *Error, the host is as before the call.
func (n *Network) Set(ctx context.Context, cfg Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := cfg.check(); err != nil {
		return err
	}
	wanted, err := n.host.plan(ctx, cfg, slices.Clone(n.applied))
	if err != nil {
		return err
	}
	n.applied, err = converge(ctx, n.log, n.applied, wanted)
	return err
}

// ListenPacket opens a UDP socket on an ephemeral port whose packets stay outside
// all tunnels, of the address family of gateway. The error is an *Error.
func (n *Network) ListenPacket(ctx context.Context, gateway netip.Addr) (net.PacketConn, error) {
	conn, err := n.host.listenPacket(ctx, gateway.Unmap())
	if err != nil {
		return nil, &Error{PartSocket, err}
	}
	return conn, nil
}

// Close restores the host.
func (n *Network) Close() error {
	return errors.Join(n.Set(context.Background(), Config{}), n.host.close())
}

// check refuses what no host can have.
func (c Config) check() error {
	names := map[string]bool{}
	routes := map[netip.Prefix]string{}
	for _, t := range c.Tunnels {
		switch {
		case t.Interface == "" || names[t.Interface]:
			return &Error{PartAddress, fmt.Errorf("interface %q is missing or twice in the wish", t.Interface)}
		case t.MTU <= 0:
			return &Error{PartAddress, fmt.Errorf("interface %s: MTU %d", t.Interface, t.MTU)}
		}
		names[t.Interface] = true
		for _, a := range t.Addresses {
			if !a.IsValid() {
				return &Error{PartAddress, fmt.Errorf("interface %s: invalid address", t.Interface)}
			}
		}
		for _, r := range slices.Concat(t.Routes, t.Exclude) {
			if !r.IsValid() {
				return &Error{PartRoute, fmt.Errorf("interface %s: invalid route", t.Interface)}
			}
			if other, taken := routes[r.Masked()]; taken && other != t.Interface {
				return &Error{PartRoute, fmt.Errorf("%s and %s both claim the network %v", other, t.Interface, r.Masked())}
			}
			routes[r.Masked()] = t.Interface
		}
		if err := t.checkDNS(); err != nil {
			return &Error{PartDNS, fmt.Errorf("interface %s: %w", t.Interface, err)}
		}
	}
	return nil
}

// checkDNS makes sure that names, which come from a gateway, can be written to a
// configuration file.
func (t *Tunnel) checkDNS() error {
	for _, server := range t.DNS {
		if !server.IsValid() {
			return errors.New("invalid DNS server")
		}
	}
	for _, domain := range slices.Concat(t.SearchDomains, t.MatchDomains) {
		if !isDomain(domain) {
			return fmt.Errorf("%q is not a domain", domain)
		}
	}
	return nil
}

// isDomain says whether s is a domain name in ASCII (RFC 1035 §2.3.4, and the
// underscore that real networks use); a dot may end it.
func isDomain(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
			if !letter && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
