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
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Numbers by which others can tell our routes, rules and packets.
const (
	// routeTable is the number of our routing table.
	routeTable = 119
	// bypassMark is the mark (SO_MARK, all 32 bits) of packets that stay outside.
	bypassMark = 0x3766
	// routeProtocol is the protocol number of our routes and rules (RTA_PROTOCOL,
	// FRA_PROTOCOL).
	routeProtocol = 119
	// rulePriority is our rule's: before main (32766) and what wg-quick puts right
	// before that.
	rulePriority = 30560
)

// maxGateways bounds how many gateways' addresses are remembered.
const maxGateways = 16

// linuxHost is a network namespace, and the files and bus that belong to it.
type linuxHost struct {
	log  *slog.Logger
	nl   *netlink.Handle
	root string // of the file system
	// stateDir is a folder below root.
	stateDir string
	bus      bus
	firewall func() (firewallState, error)
	// sync puts a file on the disk.
	sync func(*os.File) error
	// names asks the process with root for name resolution; nil: this one has root.
	names *namesClient

	// Owned by Network.Set:
	routes  map[netip.Prefix]netlink.Route // our table as it is; nil: not read yet
	written map[string][]byte              // what this process last wrote, by path

	mu       sync.Mutex
	gateways []netip.Addr // the last ones that a socket was opened for
}

func newHost(log *slog.Logger, stateDir string) (_ host, boot string, _ error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, "", fmt.Errorf("netlink: %w", err)
	}
	h := &linuxHost{log: log, nl: handle, root: "/", stateDir: stateDir, bus: systemBus{}, firewall: readFirewall, sync: (*os.File).Sync, written: map[string][]byte{}}
	boot, err = h.sysctl("kernel/random/boot_id")
	if err != nil {
		log.Warn("network: this run of the computer has no name", "error", err)
	}
	return h, boot, nil
}

// sweep implements host. The root process and the service have a journal each, and by the
// host neither could tell what is the other's.
func (h *linuxHost) sweep(context.Context, []change, bool) ([]change, error) { return nil, nil }

// lookAgain implements host.
func (h *linuxHost) lookAgain() { h.routes = nil }

// decode implements host.
func (h *linuxHost) decode(kind string, data json.RawMessage) (change, error) {
	var c change
	switch kind {
	case "link":
		c = &linkChange{h: h}
	case "address":
		c = &addressChange{h: h}
	case "route":
		c = &routeChange{h: h}
	case "rule":
		c = &ruleChange{h: h}
	case "sysctl":
		c = &sysctlChange{h: h}
	case "firewall":
		c = &firewallChange{}
	case "file":
		c = &fileChange{h: h}
	case "resolved":
		c = &resolvedChange{h: h}
	case "resolvconf":
		c = &resolvconfChange{h: h}
	case "names":
		c = &namesChange{h: h}
	default:
		return nil, fmt.Errorf("unknown kind of change %q", kind)
	}
	return c, json.Unmarshal(data, c)
}

func (h *linuxHost) close() error {
	if h.names != nil {
		h.names.close()
	}
	h.nl.Close()
	return nil
}

// mark makes a socket's packets carry our mark.
func mark(_, _ string, c syscall.RawConn) error {
	var marked error
	err := c.Control(func(fd uintptr) {
		marked = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, bypassMark)
	})
	return errors.Join(err, rights(os.NewSyscallError("SO_MARK", marked)))
}

// tunnelSocket prepares a socket for a tunnel's packets.
func tunnelSocket(network, address string, c syscall.RawConn) error {
	if err := mark(network, address, c); err != nil {
		return err
	}
	// With the rights that the mark needs it cannot be refused; if it were, the tunnel
	// would only be slower.
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	})
}

func (h *linuxHost) dialer() *net.Dialer { return &net.Dialer{Control: mark} }

// listenPacket implements host.
func (h *linuxHost) listenPacket(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error) {
	if gateway.Is6() {
		return h.listen(ctx, "udp6", fmt.Sprintf("[::]:%d", port), gateway)
	}
	return h.listen(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", port), gateway)
}

// listenESP implements host.
func (h *linuxHost) listenESP(ctx context.Context, gateway netip.Addr) (net.PacketConn, error) {
	network, wildcard := "ip4:50", "0.0.0.0"
	if gateway.Is6() {
		network, wildcard = "ip6:50", "::"
	}
	conn, err := h.listen(ctx, network, wildcard, gateway)
	if errors.Is(err, unix.EPERM) && !errors.Is(err, ErrNoRights) {
		return nil, fmt.Errorf("%w (CAP_NET_RAW): %w", ErrNoRawSocket, err)
	}
	return conn, err
}

// listen opens a socket whose packets carry our mark, and remembers for whom.
func (h *linuxHost) listen(ctx context.Context, network, address string, gateway netip.Addr) (net.PacketConn, error) {
	config := net.ListenConfig{Control: tunnelSocket}
	conn, err := config.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.gateways, gateway) {
		h.gateways = append(h.gateways, gateway)
		h.gateways = h.gateways[max(0, len(h.gateways)-maxGateways):]
	}
	return withPath(conn, gateway.Is6())
}

// rights adds to the system's refusal what it means.
func rights(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (CAP_NET_ADMIN): %w", ErrNoRights, err)
	}
	return err
}

// plan implements host.
func (h *linuxHost) plan(ctx context.Context, cfg Config, applied []change) ([]change, Report, error) {
	if len(cfg.Tunnels) == 0 && !cfg.BlockOutside {
		return nil, Report{}, nil
	}
	home, err := h.look(tunnelsOf(cfg, applied))
	if err != nil {
		return nil, Report{}, &Error{PartRoute, err}
	}
	servers := h.nameservers(applied)
	changes, report, err := h.planFirewall(cfg, home, servers, applied)
	if err != nil {
		return nil, Report{}, &Error{PartFirewall, err}
	}
	var routes []change
	for _, t := range cfg.Tunnels {
		link, err := h.linkOf(t)
		if err != nil {
			return nil, Report{}, &Error{PartAddress, err}
		}
		more, err := h.planLink(link, t)
		if err != nil {
			return nil, Report{}, &Error{PartAddress, fmt.Errorf("interface %s: %w", t.Interface, err)}
		}
		changes = append(changes, more...)
		routes = append(routes, h.planRoutes(link, t)...)
	}
	stay := outsiders(cfg, home, servers)
	report.Overlaps = findOverlaps(cfg, home, servers, stay)
	changes = slices.Concat(changes, routes, h.planThrows(stay), h.planRules(cfg))
	loose, err := h.planReversePath(cfg, applied)
	if err != nil {
		return nil, Report{}, &Error{PartRoute, err}
	}
	changes = append(changes, loose...)
	dns, owner, err := h.planDNS(ctx, cfg, applied)
	if err != nil {
		return nil, Report{}, &Error{PartDNS, err}
	}
	report.DNS = owner
	return append(changes, dns...), report, nil
}

// linkOf is a tunnel's interface; the error wraps ErrNoInterface if there is none.
func (h *linuxHost) linkOf(t Tunnel) (netlink.Link, error) {
	link, err := h.nl.LinkByName(t.Interface)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		err = ErrNoInterface
	}
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", t.Interface, err)
	}
	return link, nil
}

func (h *linuxHost) planLink(link netlink.Link, t Tunnel) ([]change, error) {
	attrs := link.Attrs()
	var changes []change
	present, err := h.addresses(attrs.Index)
	if err != nil {
		return nil, err
	}
	for _, a := range t.Addresses {
		changes = append(changes, &addressChange{
			h: h, Name: t.Interface, Index: attrs.Index, Address: a,
			Was: slices.Contains(present, a),
		})
	}
	return append(changes, &linkChange{
		h: h, Name: t.Interface, Index: attrs.Index, MTU: t.MTU,
		WasMTU: attrs.MTU, WasUp: attrs.Flags&net.FlagUp != 0,
	}), nil
}

func (h *linuxHost) planRoutes(link netlink.Link, t Tunnel) []change {
	var changes []change
	for _, dst := range t.Routes {
		c := &routeChange{h: h, Name: t.Interface, Index: link.Attrs().Index, Dst: dst.Masked()}
		for _, a := range t.Addresses {
			if a.Addr().Is4() == dst.Addr().Is4() {
				c.Src = a.Addr()
				break
			}
		}
		changes = append(changes, c)
	}
	for _, dst := range t.Exclude {
		changes = append(changes, &routeChange{h: h, Dst: dst.Masked()})
	}
	return changes
}

// planThrows keeps networks outside, of which none is a tunnel's route.
func (h *linuxHost) planThrows(stay []netip.Prefix) []change {
	var changes []change
	for _, dst := range stay {
		changes = append(changes, &routeChange{h: h, Dst: dst})
	}
	return changes
}

// planRules lists the rules that the wish needs, per address family.
func (h *linuxHost) planRules(cfg Config) []change {
	var changes []change
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if slices.ContainsFunc(cfg.Tunnels, func(t Tunnel) bool {
			return slices.ContainsFunc(slices.Concat(t.Routes, t.Exclude), func(dst netip.Prefix) bool {
				return dst.Addr().Is4() == (family == netlink.FAMILY_V4)
			})
		}) {
			changes = append(changes, &ruleChange{h: h, Family: family})
		}
	}
	return changes
}

// reversePath is the one kernel setting that is ever changed.
const reversePath = "net/ipv4/conf/all/rp_filter"

// planReversePath makes the kernel's reverse path check loose if it would drop a
// gateway's packets.
func (h *linuxHost) planReversePath(cfg Config, applied []change) ([]change, error) {
	if !h.routesGateway(cfg) {
		return nil, nil
	}
	c := &sysctlChange{h: h, Path: reversePath, Value: "2"}
	if find(applied, c.id()) != nil {
		return []change{c}, nil // whether it is needed can no longer be seen
	}
	was, err := h.sysctl(reversePath)
	if err != nil {
		return nil, err
	}
	c.Was = was
	if was == "1" || was == "0" && h.anyStrict() {
		return []change{c}, nil
	}
	return nil, nil
}

// routesGateway says whether a gateway's IPv4 address lies in a tunnel's routes.
func (h *linuxHost) routesGateway(cfg Config) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range cfg.Tunnels {
		for _, dst := range t.Routes {
			if dst.Addr().Is4() && dst.Bits() == 0 || slices.ContainsFunc(h.gateways, func(g netip.Addr) bool {
				return g.Is4() && dst.Contains(g)
			}) {
				return true
			}
		}
	}
	return false
}

// anyStrict says whether an interface's reverse path check is strict.
func (h *linuxHost) anyStrict() bool {
	files, _ := filepath.Glob(filepath.Join(h.root, "proc/sys/net/ipv4/conf/*/rp_filter"))
	for _, file := range files {
		value, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(value)) == "1" {
			return true
		}
	}
	return false
}

// sysctl reads a kernel setting.
func (h *linuxHost) sysctl(path string) (string, error) {
	value, err := os.ReadFile(filepath.Join(h.root, "proc/sys", path))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(value)), nil
}
