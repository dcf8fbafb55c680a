package platform

import (
	"context"
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
	// routeTable is the number of our routing table. It is below 256, because the
	// netlink library forgets suppress_prefixlength for larger ones.
	routeTable = 119
	// bypassMark is the mark (SO_MARK, all 32 bits) of packets that stay outside.
	bypassMark = 0x3766
	// routeProtocol is the protocol number of our routes and rules (RTA_PROTOCOL,
	// FRA_PROTOCOL).
	routeProtocol = 119
	// rulePriority is the first of our three rules' priorities: before main
	// (32766) and what wg-quick puts right before that.
	rulePriority = 30560
)

// maxGateways bounds how many gateways' addresses are remembered.
const maxGateways = 16

// linuxHost is a network namespace, and the files and bus that belong to it.
type linuxHost struct {
	log  *slog.Logger
	nl   *netlink.Handle
	root string // of the file system
	bus  resolvedBus

	// Owned by Network.Set:
	routes  map[netip.Prefix]netlink.Route // our table as it is; nil: not read yet
	written []byte                         // what we last wrote to resolv.conf

	mu       sync.Mutex
	gateways []netip.Addr // the last ones that a socket was opened for
}

func newHost(log *slog.Logger) (host, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &linuxHost{log: log, nl: handle, root: "/", bus: systemBus{}}, nil
}

func (h *linuxHost) close() error {
	h.nl.Close()
	return nil
}

// listenPacket is a socket whose packets carry our mark.
func (h *linuxHost) listenPacket(ctx context.Context, gateway netip.Addr) (*net.UDPConn, error) {
	network, wildcard := "udp4", "0.0.0.0:0"
	if gateway.Is6() {
		network, wildcard = "udp6", "[::]:0"
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var marked error
		err := c.Control(func(fd uintptr) {
			marked = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, bypassMark)
		})
		return errors.Join(err, rights(os.NewSyscallError("SO_MARK", marked)))
	}}
	conn, err := config.ListenPacket(ctx, network, wildcard)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.gateways, gateway) {
		h.gateways = append(h.gateways, gateway)
		h.gateways = h.gateways[max(0, len(h.gateways)-maxGateways):]
	}
	return conn.(*net.UDPConn), nil
}

// rights adds to the system's refusal what it means.
func rights(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (CAP_NET_ADMIN): %w", ErrNoRights, err)
	}
	return err
}

// plan implements host.
func (h *linuxHost) plan(ctx context.Context, cfg Config, applied []change) ([]change, error) {
	h.routes = nil
	var links, routes []change
	for _, t := range cfg.Tunnels {
		link, err := h.nl.LinkByName(t.Interface)
		if err != nil {
			return nil, &Error{PartAddress, fmt.Errorf("interface %s: %w", t.Interface, err)}
		}
		changes, err := h.planLink(link, t)
		if err != nil {
			return nil, &Error{PartAddress, fmt.Errorf("interface %s: %w", t.Interface, err)}
		}
		links = append(links, changes...)
		routes = append(routes, h.planRoutes(link, t)...)
	}
	changes := slices.Concat(links, routes, h.planRules(cfg))
	loose, err := h.planReversePath(cfg, applied)
	if err != nil {
		return nil, &Error{PartRoute, err}
	}
	changes = append(changes, loose...)
	dns, err := h.planDNS(ctx, cfg, applied)
	if err != nil {
		return nil, &Error{PartDNS, err}
	}
	return append(changes, dns...), nil
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

// planRules lists the rules that the wish needs, per address family.
func (h *linuxHost) planRules(cfg Config) []change {
	var changes []change
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		var any, full bool
		for _, t := range cfg.Tunnels {
			for _, dst := range slices.Concat(t.Routes, t.Exclude) {
				if dst.Addr().Is4() == (family == netlink.FAMILY_V4) {
					any, full = true, full || dst.Bits() == 0
				}
			}
		}
		if any {
			changes = append(changes, &ruleChange{h: h, Family: family, Priority: rulePriority, Table: routeTable, Suppress: true})
		}
		if full {
			changes = append(changes,
				&ruleChange{h: h, Family: family, Priority: rulePriority + 1, Table: unix.RT_TABLE_MAIN, Suppress: true},
				&ruleChange{h: h, Family: family, Priority: rulePriority + 2, Table: routeTable})
		}
	}
	return changes
}

// planReversePath makes the kernel's reverse path check loose if it would drop a
// gateway's packets.
func (h *linuxHost) planReversePath(cfg Config, applied []change) ([]change, error) {
	const all = "net/ipv4/conf/all/rp_filter"
	if !h.routesGateway(cfg) {
		return nil, nil
	}
	c := &sysctlChange{h: h, Path: all, Value: "2"}
	if find(applied, c.id()) != nil {
		return []change{c}, nil // whether it is needed can no longer be seen
	}
	was, err := h.sysctl(all)
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
