package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wayfarer/app"
	"wayfarer/platform"
)

// wish is the part of the host's network that one connection wants.
type wish struct {
	owner *tunnel
	// tunnel is its interface; nil while it has none.
	tunnel *platform.Tunnel
	// block holds back what goes through no tunnel, local lets the local network be.
	block, local bool
	// portal, while it is not nil, is what may be reached for signing in to the local
	// network; the tunnel, which is dead then, stands aside, and all else is held back
	// in its place.
	portal []netip.Addr
}

func (w *wish) empty() bool { return w.tunnel == nil && !w.block }

// moreThan says whether w has something that before had not.
func (w *wish) moreThan(before *wish) bool {
	return w.tunnel != nil || w.block && !before.block || w.portal != nil
}

// configOf is what all wishes come to. A block without the local network is not opened
// by another connection that wants the local network.
func configOf(wishes []wish) platform.Config {
	var cfg platform.Config
	strict := false
	for _, w := range wishes {
		if w.tunnel != nil && w.portal == nil {
			cfg.Tunnels = append(cfg.Tunnels, *w.tunnel)
		}
		block := w.block || w.portal != nil
		cfg.BlockOutside = cfg.BlockOutside || block
		cfg.AllowLocal = cfg.AllowLocal || w.local
		strict = strict || block && !w.local
		cfg.Portal = append(cfg.Portal, w.portal...)
	}
	cfg.AllowLocal = cfg.AllowLocal && !strict
	return cfg
}

// seen is what the host is like, as it was last looked at.
type seen struct {
	report    platform.Report
	conflicts []platform.Conflict
	outdated  string // why it could not be made as wished once more; empty: it was
}

// takeHost waits for the lock on the host's network.
func (d *Daemon) takeHost(ctx context.Context) error {
	select {
	case d.host <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *Daemon) leaveHost() { <-d.host }

// change makes the host's network one in which t has what alter makes of its wish. It
// refuses networks that another connection has, or that another VPN keeps. What nobody
// wants any more is not asked for again, even if it could not be taken away.
func (d *Daemon) change(ctx context.Context, t *tunnel, alter func(*wish)) error {
	if d.network == nil {
		return nil
	}
	if err := d.takeHost(ctx); err != nil {
		return err
	}
	defer d.leaveHost()
	before, own := wish{owner: t}, wish{owner: t}
	next := slices.Clone(d.wishes)
	at := slices.IndexFunc(next, func(w wish) bool { return w.owner == t })
	if at >= 0 {
		before, own = next[at], next[at]
		next = slices.Delete(next, at, at+1)
	}
	alter(&own)
	if own.tunnel != nil {
		if failure := clash(own.tunnel, next); failure != nil {
			return failure
		}
	}
	switch {
	case !own.empty():
		next = append(next, own)
	case at < 0:
		return nil
	}
	found, err := d.set(ctx, next)
	if err == nil && own.tunnel != nil && own.portal == nil {
		if err = d.refuseConflict(ctx, found.conflicts, own.tunnel); err != nil {
			return err
		}
	}
	if err == nil || !own.moreThan(&before) {
		d.wishes = next
	}
	return err
}

// set makes the host as wishes say and looks at what came of it. The host's lock is held.
func (d *Daemon) set(ctx context.Context, wishes []wish) (seen, error) {
	cfg := configOf(wishes)
	if err := d.network.Set(ctx, cfg); err != nil {
		return seen{}, &hostError{err: err}
	}
	found := seen{report: d.network.Report()}
	if len(cfg.Tunnels) > 0 {
		var err error
		if found.conflicts, err = d.network.Conflicts(ctx); err != nil {
			d.log.Warn("other VPNs cannot be seen", "error", err)
		}
	}
	d.mu.Lock()
	d.seen = found
	d.mu.Unlock()
	d.watchers.notify()
	return found, nil
}

// refuseConflict takes a full tunnel back whose packets go to another VPN all the same:
// nobody shall believe that it carries them.
func (d *Daemon) refuseConflict(ctx context.Context, conflicts []platform.Conflict, t *platform.Tunnel) error {
	i := slices.IndexFunc(conflicts, func(c platform.Conflict) bool {
		claim, err := netip.ParsePrefix(c.Claim)
		return err == nil && c.Wins && slices.ContainsFunc(t.Routes, func(r netip.Prefix) bool { return r.Bits() == 0 && r.Overlaps(claim) })
	})
	if i < 0 {
		return nil
	}
	if _, err := d.set(ctx, d.wishes); err != nil {
		d.log.Error("the host's network is not as it was", "error", err)
	}
	return &hostError{err: &conflictError{conflicts[i]}}
}

// conflictError: another VPN has what a tunnel needs.
type conflictError struct{ platform.Conflict }

func (e *conflictError) Error() string {
	return fmt.Sprintf("another VPN, %s (%s), takes all packets (%s) before this one", e.Interface, e.Owner, e.Claim)
}

// reapply makes the host's network as wished once more: somebody may have changed it, and
// what is local is another thing in another network. An error that stays is told once.
func (d *Daemon) reapply(ctx context.Context) {
	err := d.takeHost(ctx)
	if err == nil {
		defer d.leaveHost()
		if len(d.wishes) > 0 {
			_, err = d.set(ctx, d.wishes)
		}
	}
	if err == nil {
		return
	}
	d.mu.Lock()
	same := d.seen.outdated == err.Error()
	d.seen.outdated = err.Error()
	d.mu.Unlock()
	if !same {
		d.log.Error("this computer's network could not be set up again", "error", err)
		d.watchers.notify()
	}
}

// takeOver makes the block that stands for old one that stands for heir, without a
// moment between, and says whether there was one.
func (d *Daemon) takeOver(ctx context.Context, old, heir *tunnel) bool {
	if d.takeHost(ctx) != nil {
		return false
	}
	defer d.leaveHost()
	for i := range d.wishes {
		if d.wishes[i].owner == old && d.wishes[i].block {
			d.wishes[i].owner = heir
			return true
		}
	}
	return false
}

// hostWarnings says what of the host matters to a tunnel with these settings.
func (d *Daemon) hostWarnings(name string, s *settings) []app.Warning {
	d.mu.Lock()
	found := d.seen
	d.mu.Unlock()
	var list []app.Warning
	warn := func(code string, severity app.Severity, format string, args ...any) {
		list = append(list, app.Warning{Code: code, Severity: severity, Text: fmt.Sprintf(format, args...)})
	}
	if found.outdated != "" {
		warn(app.WarningOutdated, app.SeverityWarning,
			"this computer's network has changed and could not be set up for that (%s): if something does not work, connect again", found.outdated)
	}
	if len(s.assignment.DNS) > 0 {
		nameWarnings(name, s, &found.report, warn)
	}
	full := slices.ContainsFunc(s.routes, func(r netip.Prefix) bool { return r.Bits() == 0 })
	if slices.Contains(s.routes, allIPv4) && found.report.IPv6Blocked {
		warn(app.WarningIPv6Blocked, app.SeverityInfo,
			"everything goes through the tunnel, which carries no IPv6: IPv6 is held back meanwhile")
	}
	if found.report.Unguarded != "" {
		warn(app.WarningUnguarded, app.SeverityWarning,
			"others in the local network can send packets to this computer's address in the tunnel, and IPv6 is not held back: %s", found.report.Unguarded)
	}
	if out := covered(found.report.Outside, s.routes); out != "" {
		warn(app.WarningOutside, app.SeverityWarning,
			"this computer has routes for %s, which the tunnel cannot take: packets to there leave past it; remove the routes, or connect with --block-outside if the local network may have set them", out)
	}
	for _, o := range found.report.Overlaps {
		if o.Tunnel == name {
			severity, text := overlapText(&o)
			warn(app.WarningOverlap, severity, "%s", text)
		}
	}
	for _, c := range found.conflicts {
		switch {
		case c.Claim == "DNS" && len(s.assignment.DNS) > 0 && len(s.match) == 0:
			warn(app.WarningConflict, app.SeverityWarning,
				"%s (%s) is asked for all names, too: what this computer looks up may leave by it", c.Interface, c.Owner)
		case c.Claim != "DNS" && full && c.Wins:
			warn(app.WarningConflict, app.SeverityWarning,
				"another VPN, %s (%s), has %s and takes those packets before this tunnel: end it", c.Interface, c.Owner, c.Claim)
		case c.Claim != "DNS" && full:
			warn(app.WarningConflict, app.SeverityInfo,
				"another VPN, %s (%s), has %s as well; this tunnel comes first", c.Interface, c.Owner, c.Claim)
		}
	}
	return list
}

// covered names the addresses that are in networks; of many the first and how many more.
func covered(addrs []netip.Addr, networks []netip.Prefix) string {
	const few = 5
	var in []netip.Addr
	for _, a := range addrs {
		if slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) }) {
			in = append(in, a)
		}
	}
	if more := len(in) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", joined(in[:few]), more)
	}
	return joined(in)
}

// nameWarnings says where names go that should go into a tunnel with name servers, or
// should not.
func nameWarnings(name string, s *settings, r *platform.Report, warn func(code string, severity app.Severity, format string, args ...any)) {
	switch r.NamesTaken {
	case "":
	case platform.GroupPolicy:
		warn(app.WarningDNSTaken, app.SeverityWarning,
			"group policy has rules of its own for names (NRPT), and Windows heeds no others: the tunnel's names are looked up past it; ask who manages this computer to add them there")
	default:
		warn(app.WarningDNSTaken, app.SeverityWarning, hints.namesTaken, r.NamesTaken)
	}
	if len(r.OtherServers) > 0 {
		warn(app.WarningDNSLeak, app.SeverityWarning, hints.otherServers, joined(r.OtherServers), r.DNS)
	}
	for _, c := range r.NamesElsewhere {
		if c.Tunnel == name {
			warn(app.WarningDNSLeak, app.SeverityWarning,
				"the network on %s calls %s its own: such names are looked up there, past the tunnel; ignore its domains (systemd-networkd: UseDomains=no, NetworkManager: ipv4.dns-search), or leave that network", c.Interface, c.Domain)
		}
	}
	if r.Unsplit && len(s.match) > 0 {
		warn(app.WarningDNSUnsplit, app.SeverityInfo,
			"this computer cannot look up some names here and others there (%s): the tunnel's servers are asked for all; systemd-resolved could", r.DNS)
	}
}

func joined(addrs []netip.Addr) string {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// overlapNames are the parts of a local network in people's words.
var overlapNames = map[platform.OverlapKind]string{
	platform.OverlapNetwork: "network",
	platform.OverlapRouter:  "router",
	platform.OverlapDNS:     "DNS server",
	platform.OverlapDHCP:    "DHCP server",
}

func overlapText(o *platform.Overlap) (app.Severity, string) {
	local := o.Local.String()
	if o.Local.IsSingleIP() {
		local = o.Local.Addr().String()
	}
	if o.Interface != "" {
		local += " on " + o.Interface
	}
	text := fmt.Sprintf("the local %s %s has addresses of the network %v behind the gateway: ", overlapNames[o.Kind], local, o.Route)
	switch {
	case o.Kept:
		return app.SeverityInfo, text + "it stays reachable, past the tunnel"
	case o.Kind == platform.OverlapNetwork:
		return app.SeverityWarning, text + "what is in both is reached through the tunnel"
	}
	return app.SeverityWarning, text + "it cannot be reached meanwhile"
}

// blameHost looks on this side for why a gateway does not answer: a portal that wants
// users to sign in first, or another VPN that the packets go by.
func (d *Daemon) blameHost(ctx context.Context, f *app.Failure) {
	if d.network == nil || f.Code != app.CodeNoAnswer {
		return
	}
	if found, _ := d.portals.find(ctx, d.look); found != nil {
		f.Hint = found.invitation()
		return
	}
	conflicts, err := d.network.Conflicts(ctx)
	if err != nil {
		d.log.Debug("other VPNs cannot be seen", "error", err)
	}
	for _, c := range conflicts {
		if c.Claim != "DNS" {
			f.Hint = fmt.Sprintf("another VPN, %s (%s), has %s and may not let this one through; %s", c.Interface, c.Owner, c.Claim, f.Hint)
			return
		}
	}
}
