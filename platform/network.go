package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what the host shall look like. The zero value restores it.
type Config struct {
	Tunnels []Tunnel
	// BlockOutside lets nothing leave the host, nor be forwarded by it, but by a
	// tunnel: only the packets of [Network.ListenPacket], [Network.ListenESP] and
	// [Network.Dialer], and what an interface needs to get and keep its addresses (DHCP, neighbour
	// discovery). It needs no tunnel, and stands until a wish without it, also
	// when the process dies.
	BlockOutside bool
	// AllowLocal keeps the local network reachable, beside a full tunnel and
	// with BlockOutside: the private addresses of the networks that the host is
	// attached to. A network with public addresses is not believed to be local.
	AllowLocal bool
	// Portal are addresses that BlockOutside lets the host itself reach meanwhile:
	// those of the page where the local network wants its users to sign in. With
	// them go the host's own DNS servers, by which the page is found.
	Portal []netip.Addr
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
	PartAddress  Part = "address" // the interface and its addresses
	PartRoute    Part = "route"   // routes, rules, kernel settings for them
	PartDNS      Part = "dns"     // and WINS
	PartSocket   Part = "socket"  // a socket that bypasses the tunnels
	PartFirewall Part = "firewall"
	PartJournal  Part = "journal" // the list of what is to be undone
	PartWatch    Part = "watch"   // hearing of the host's changes
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
	ErrUnsupported = errors.New("not available on this operating system")
	// ErrNoRights: the process lacks the rights.
	ErrNoRights = errors.New("no right to configure the network")
	// ErrNoInterface: a tunnel's interface does not exist, or no more.
	ErrNoInterface = errors.New("there is no such interface")
	// ErrNoRawSocket: the process lacks the right to open a raw socket.
	ErrNoRawSocket = errors.New("no right to open a raw socket")
)

// FileError says that a file which is the administrator's has to be replaced, and that
// this process may not. A helper with more rights could.
type FileError struct {
	Path string
	Err  error // of the system
}

func (e *FileError) Error() string { return fmt.Sprintf("no right to replace %s: %v", e.Path, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

// undoTime bounds the way back, which a cancelled context must not stop.
const undoTime = 10 * time.Second

// Network is the host's network. All methods may be called concurrently.
type Network struct {
	log  *slog.Logger
	host host

	// sweeps: Recover also removes what no journal lists. Never changes.
	sweeps bool

	mu      sync.Mutex
	journal *journal
	applied []change      // in the order of their application
	changed chan struct{} // is closed when applied changes; nil: nobody waits
	report  Report        // of the wish that stands

	tunnels atomic.Pointer[[]string] // interfaces of the wish that stands or comes
}

// host is what an operating system implements.
type host interface {
	// plan turns a wish into changes, in the order of their application. It
	// reads what undoing them will need and changes nothing. Applied are the
	// changes that stand.
	plan(ctx context.Context, cfg Config, applied []change) ([]change, Report, error)
	// sweep removes what an earlier process has left although no journal lists it, as far
	// as it can be told to be ours and is nothing that stands; with keepBlock, what holds
	// packets back stays, and is returned as a change. The error is an *Error: of what was
	// found and could not be removed.
	sweep(ctx context.Context, standing []change, keepBlock bool) ([]change, error)
	// lookAgain forgets what was read of the host, by which changes are undone.
	lookAgain()
	// decode reads a change from the journal.
	decode(kind string, data json.RawMessage) (change, error)
	listenPacket(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error)
	listenESP(ctx context.Context, gateway netip.Addr) (net.PacketConn, error)
	dialer() *net.Dialer
	// nameservers lists the DNS servers that the host has without the changes.
	nameservers(applied []change) []netip.Addr
	// verify adds to the report what came of a wish that stands.
	verify(ctx context.Context, cfg Config, report *Report) error
	overlaps(cfg Config, applied []change) ([]Overlap, error)
	conflicts(ctx context.Context, tunnels []string) ([]Conflict, error)
	// online says whether packets can leave the host outside of the tunnels.
	online(tunnels []string) (bool, error)
	// watch begins to report changes of what is not in tunnels, until ctx ends.
	watch(ctx context.Context, tunnels func() []string) (*watchSource, error)
	// describe is what changes could leave on the host, as text to compare.
	describe() (string, error)
	// tell is what the system says of an interface, and of what is ours, line by line.
	tell(ctx context.Context, iface string) ([]string, error)
	close() error
}

// New opens the host's network and changes nothing yet; it needs no rights but to
// write to stateDir, which it makes if necessary. What is kept there outlives a crash:
// [Network.Recover] undoes it. Only one Network can be open per stateDir; for a second
// one, in whichever process, the error is a *[BusyError].
func New(log *slog.Logger, stateDir string) (*Network, error) {
	host, boot, err := newHost(log, stateDir)
	if err != nil {
		return nil, err
	}
	journal, err := openJournal(log, stateDir, boot)
	if err != nil {
		return nil, errors.Join(&Error{PartJournal, err}, host.close())
	}
	return &Network{log: log, host: host, sweeps: sameDir(stateDir, StateDir()), journal: journal}, nil
}

// sameDir says whether both paths lead to one directory, which exists.
func sameDir(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// Restore undoes whatever a service that died left on the host, its leak block too.
// The error is a *[BusyError], below an *Error, if the service lives.
func Restore(ctx context.Context, stateDir string) error {
	err := restore(ctx, stateDir)
	service := filepath.Join(stateDir, serviceDir)
	if errors.As(err, new(*BusyError)) {
		return err
	}
	if _, missing := os.Lstat(service); missing != nil {
		return err
	}
	return errors.Join(err, restore(ctx, service))
}

// serviceDir is the service's own directory below the state directory, where root has
// started it and it runs with fewer rights.
const serviceDir = "service"

func restore(ctx context.Context, stateDir string) error {
	n, err := New(slog.New(slog.DiscardHandler), stateDir)
	if err != nil {
		return err
	}
	return errors.Join(n.Recover(ctx, false), n.Close())
}

// Recover undoes what an earlier process left on the host. With keepBlock its leak
// block stays, until the first wish without BlockOutside: so that a machine that is to
// be always connected is not open while it connects. The error is an *Error; what
// could not be undone is tried again by the next call. A service calls it first; if
// it does not, the first Set does. With the state directory that is [StateDir], Recover also
// removes what no journal lists and what can be told to be ours all the same, for a journal
// can be lost; a block that stays then is in the journal again. With another directory it
// could be what a living process has made.
func (n *Network) Recover(ctx context.Context, keepBlock bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.recoverLocked(ctx, keepBlock)
	return joinParts(err, n.sweepLocked(ctx, keepBlock))
}

// sweepLocked removes what no journal lists, and takes over what of it stays.
func (n *Network) sweepLocked(ctx context.Context, keepBlock bool) error {
	if !n.sweeps {
		return nil
	}
	left, err := n.host.sweep(ctx, n.applied, keepBlock)
	if len(left) == 0 {
		return err
	}
	n.applied = append(n.applied, left...)
	n.changedLocked()
	if err := n.journal.keep(n.applied); err != nil {
		n.log.Warn("network: the journal does not list a block that stays", "error", err)
	}
	return err
}

func (n *Network) recoverLocked(ctx context.Context, keepBlock bool) error {
	if len(n.applied) > 0 || len(n.journal.left)+len(n.journal.kept) == 0 {
		return nil
	}
	n.host.lookAgain()
	left, err := n.journal.recover(ctx, n.host, keepBlock)
	n.applied = left
	n.changedLocked()
	return err
}

// Set makes the host as cfg wishes. It is idempotent. After an error, which is an
// *Error, the host is as before the call.
func (n *Network) Set(ctx context.Context, cfg Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := cfg.check(); err != nil {
		return err
	}
	if err := n.recoverLocked(ctx, cfg.BlockOutside); err != nil {
		n.log.Warn("network: not everything that an earlier process left is undone", "error", err)
	}
	n.host.lookAgain()
	wanted, report, err := n.host.plan(ctx, cfg, slices.Clone(n.applied))
	if err != nil {
		return err
	}
	before := n.interfaces()
	n.tunnels.Store(new(slices.Concat(before, interfaces(cfg)))) // none of them is news
	n.applied, err = converge(ctx, n.log, n.journal, n.applied, wanted)
	n.changedLocked()
	if err != nil {
		n.tunnels.Store(&before)
		return err
	}
	if err := n.host.verify(ctx, cfg, &report); err != nil {
		n.log.Warn("network: cannot see where names are looked up", "error", err)
	}
	n.report = report
	n.tunnels.Store(new(interfaces(cfg)))
	return nil
}

func interfaces(cfg Config) []string {
	var names []string
	for _, t := range cfg.Tunnels {
		names = append(names, t.Interface)
	}
	return names
}

// tunnelsOf lists the interfaces of tunnels that are wished or stand: each system has a
// change that is a tunnel's interface.
func tunnelsOf(cfg Config, applied []change) []string {
	names := interfaces(cfg)
	for _, c := range applied {
		if link, ok := c.(interface{ tunnel() string }); ok {
			names = appendNew(names, link.tunnel())
		}
	}
	return names
}

// ListenPacket opens a UDP socket on a port of the host's, 0 being any, whose packets
// stay outside all tunnels, of the address family of gateway. The error is an *Error;
// the system's own is below it if the port is taken or needs more rights. The
// socket can find out how large datagrams may be: it has SetDontFragment and OnTooBig.
func (n *Network) ListenPacket(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error) {
	conn, err := n.host.listenPacket(ctx, gateway.Unmap(), port)
	if err != nil {
		return nil, &Error{PartSocket, err}
	}
	return conn, nil
}

// receiveBuffer is what a tunnel's socket holds, in bytes. Linux makes it twice as many, and
// counts more for each packet: some 900 packets, a hundredth of a second at 1 Gbit/s. The
// system's default holds 90, so that a tenth of a second without a processor loses packets
// at 10 Mbit/s. A full one is what pings wait behind: with twice as much TCP is no quicker,
// and beside it a ping takes 2.8 ms in place of 1.6.
const receiveBuffer = 1 << 20

// ListenPacket opens a UDP socket as [Network.ListenPacket] does, but an ordinary one, for
// which no rights are needed: its packets take the way of all others.
func ListenPacket(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error) {
	conn, err := listenUDP(ctx, gateway.Unmap(), port)
	if err != nil {
		return nil, err
	}
	return withPath(conn, gateway.Unmap().Is6())
}

func listenUDP(ctx context.Context, gateway netip.Addr, port uint16) (*net.UDPConn, error) {
	network := "udp4"
	if gateway.Is6() {
		network = "udp6"
	}
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// ListenESP opens a raw socket for IP protocol 50 (ESP, RFC 4303), whose packets stay
// outside all tunnels, of the address family of gateway. What is read from it has no
// IP header and comes from anywhere. The error is an *Error; it wraps ErrNoRawSocket
// if the process has no right to one.
func (n *Network) ListenESP(ctx context.Context, gateway netip.Addr) (net.PacketConn, error) {
	conn, err := n.host.listenESP(ctx, gateway.Unmap())
	if err != nil {
		return nil, &Error{PartSocket, err}
	}
	return conn, nil
}

// Close restores the host.
func (n *Network) Close() error {
	return errors.Join(n.Set(context.Background(), Config{}), n.host.close(), n.journal.close())
}

// check refuses what no host can have.
func (cfg Config) check() error {
	names := map[string]bool{}
	routes := map[netip.Prefix]string{}
	for _, t := range cfg.Tunnels {
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
