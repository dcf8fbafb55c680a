package platform

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	resolvedName    = "org.freedesktop.resolve1"
	resolvedPath    = "/org/freedesktop/resolve1"
	resolvedManager = "org.freedesktop.resolve1.Manager"
	noSuchLink      = "org.freedesktop.resolve1.NoSuchLink"
	noSuchMethod    = "org.freedesktop.DBus.Error.UnknownMethod"
	accessDenied    = "org.freedesktop.DBus.Error.AccessDenied"
	mustAsk         = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"

	// linkTries and linkPause: resolved hears of a new interface a moment after
	// everybody else.
	linkTries = 20
	linkPause = 100 * time.Millisecond
)

// linkDNS and linkDomain are D-Bus structures (iay) and (sb) of
// org.freedesktop.resolve1(5).
type linkDNS struct {
	Family  int32
	Address []byte
}

type linkDomain struct {
	Domain      string
	RoutingOnly bool
}

// resolvedChange is a link's part in systemd-resolved.
type resolvedChange struct {
	plain
	h       *linuxHost
	Name    string
	Index   int
	Servers []netip.Addr
	Search  []string
	Match   []string // empty: all names
	older   string   // the wish that this one replaced
}

func (h *linuxHost) planResolved(tunnels []Tunnel) ([]change, error) {
	var changes []change
	for _, t := range tunnels {
		link, err := h.linkOf(t)
		if err != nil {
			return nil, err
		}
		changes = append(changes, &resolvedChange{
			h: h, Name: t.Interface, Index: link.Attrs().Index,
			Servers: t.DNS, Search: t.SearchDomains, Match: t.MatchDomains,
		})
	}
	return changes, nil
}

func (c *resolvedChange) String() string {
	return fmt.Sprintf("resolved %s servers %v domains %v", c.Name, c.Servers, c.domains())
}

func (c *resolvedChange) id() string           { return fmt.Sprintf("resolved %d", c.Index) }
func (c *resolvedChange) kind() string         { return "resolved" }
func (c *resolvedChange) part() Part           { return PartDNS }
func (c *resolvedChange) inherit(older change) { c.older = older.String() }

// domains lists search domains as they are, and domains that only route with "~" in
// front, as resolvectl writes them. All names is "~.".
func (c *resolvedChange) domains() []string {
	domains := slices.Clone(c.Search)
	for _, d := range c.Match {
		if !slices.Contains(c.Search, d) {
			domains = append(domains, "~"+d)
		}
	}
	if len(c.Match) == 0 {
		domains = append(domains, "~.")
	}
	return domains
}

func (c *resolvedChange) apply(ctx context.Context) error {
	var servers []linkDNS
	for _, s := range c.Servers {
		s = s.Unmap()
		family := int32(unix.AF_INET6)
		if s.Is4() {
			family = unix.AF_INET
		}
		servers = append(servers, linkDNS{family, s.AsSlice()})
	}
	var domains []linkDomain
	for _, d := range c.domains() {
		name, routing := strings.CutPrefix(d, "~")
		domains = append(domains, linkDomain{name, routing})
	}
	if err := c.call(ctx, "SetLinkDNS", servers); err != nil {
		return err
	}
	if err := c.call(ctx, "SetLinkDomains", domains); err != nil {
		return err
	}
	err := c.call(ctx, "SetLinkDefaultRoute", len(c.Match) == 0)
	if err != nil && !isBusError(err, noSuchMethod) { // older than systemd 240
		return err
	}
	if c.older == c.String() {
		return nil
	}
	return c.h.bus.call(ctx, "FlushCaches")
}

// undo does nothing about an interface that is gone, or has become another: resolved
// forgets them by itself.
func (c *resolvedChange) undo(ctx context.Context) error {
	if link, err := c.h.same(c.Index, c.Name); err != nil || link == nil {
		return err
	}
	err := c.h.bus.call(ctx, "RevertLink", int32(c.Index))
	if err != nil && !isBusError(err, noSuchLink) {
		return fmt.Errorf("systemd-resolved: RevertLink: %w", err)
	}
	return c.h.bus.call(ctx, "FlushCaches")
}

// call calls a method about the link, and waits until resolved knows the link.
func (c *resolvedChange) call(ctx context.Context, method string, arg any) error {
	var err error
	for range linkTries {
		err = c.h.bus.call(ctx, method, int32(c.Index), arg)
		if !isBusError(err, noSuchLink) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(linkPause):
		}
	}
	if isBusError(err, accessDenied) || isBusError(err, mustAsk) {
		return fmt.Errorf("systemd-resolved: %s: polkit does not let this user (is wayfarer.rules in /usr/share/polkit-1/rules.d?): %w", method, err)
	}
	if err != nil {
		return fmt.Errorf("systemd-resolved: %s: %w", method, err)
	}
	return nil
}

// isBusError says whether err is the D-Bus error name.
func isBusError(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}
