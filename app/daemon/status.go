package daemon

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
)

var (
	allIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	allIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// connection is what status tells. The session is asked outside of the lock: it may
// report an event at the same moment.
func (t *tunnel) connection() app.Connection {
	t.mu.Lock()
	since := t.since.UTC()
	c := app.Connection{
		ID:       t.id,
		State:    t.shownState(),
		Profile:  t.profile.Name,
		Owner:    t.owner,
		Since:    &since,
		Gateway:  &app.Gateway{Host: app.Hosts(t.profile.Gateway)[0]},
		Warnings: slices.Clone(t.warnings),
		TUN:      t.tun,
	}
	switch c.State {
	case app.StateConnecting:
		c.Step = t.step
	case app.StateActionNeeded:
		if c.Step, c.Prompt = t.step, t.prompt; t.state == app.StateConnected {
			c.Step = app.StepSignIn // anew, beside the traffic
		}
	case app.StateFailed, app.StateBlocked:
		c.Failure = t.failure
	}
	for _, w := range []app.Warning{{Code: app.WarningLastAttempt, Text: t.last}, {Code: app.WarningCaptivePortal, Text: t.portal}} {
		if w.Severity = app.SeverityWarning; w.Text != "" {
			c.Warnings = append(c.Warnings, w)
		}
	}
	if t.trusted {
		c.Warnings = append(c.Warnings, app.Warning{
			Code: app.WarningTrustedNew, Severity: app.SeverityInfo,
			Text: "the gateway was unknown and is trusted because --trust-new says so",
		})
	}
	session, shown := t.session, t.shown
	t.mu.Unlock()

	shown.show(&c)
	if c.TUN != nil {
		c.Warnings = append(c.Warnings, t.daemon.hostWarnings(c.TUN.Name, &shown)...)
	}
	if session != nil {
		showStats(&c, session.Stats())
	}
	return c
}

func (s *settings) show(c *app.Connection) {
	a := &s.assignment
	c.Addresses = slices.Clone(s.addresses)
	c.DNS = slices.Clone(a.DNS)
	c.WINS = slices.Clone(a.WINS)
	c.Domains = s.allDomains()
	c.SplitInclude = slices.Clone(a.SplitInclude)
	c.SplitExclude = slices.Clone(a.SplitExclude)
	c.Routes = slices.Clone(s.routes)
	c.Banner = printable(a.Banner, 2*maxText)
	c.Warnings = append(c.Warnings, s.warnings...)
}

func showStats(c *app.Connection, s ike.Stats) {
	if s.Host != "" {
		c.Gateway.Host = s.Host
	}
	c.Gateway.Address, c.Gateway.Port = s.Gateway.Addr().Unmap(), s.Gateway.Port()
	c.Gateway.Identity = printable(s.Identity, maxText)
	if s.CertificateSHA256 != [32]byte{} {
		c.Gateway.CertificateSHA256 = hex.EncodeToString(s.CertificateSHA256[:])
	}
	c.IKE = &app.IKE{
		Version:       1,
		Exchange:      string(s.Exchange),
		Auth:          s.Auth,
		Suite:         s.Suite,
		NATT:          s.NATT,
		NAT:           string(s.NAT),
		Fragmentation: s.Fragmentation,
		DPD:           s.DPD,
		Established:   moment(s.Established),
		Expires:       moment(s.Expires),
		Rekeys:        s.Rekeys,
		LastHeard:     moment(s.LastHeard),
	}
	for _, child := range s.Children {
		c.ESP = append(c.ESP, showChild(&child))
	}
	warnWeak(c, s)
	warnCompression(c, s)
}

func showChild(s *ike.ChildStats) app.ESP {
	return app.ESP{
		SPIIn:       fmt.Sprintf("0x%x", s.SPIIn),
		SPIOut:      fmt.Sprintf("0x%x", s.SPIOut),
		Suite:       s.Suite,
		Local:       s.Local,
		Remote:      s.Remote,
		BytesIn:     s.BytesIn,
		BytesOut:    s.BytesOut,
		PacketsIn:   s.PacketsIn,
		PacketsOut:  s.PacketsOut,
		Replayed:    s.Replayed,
		BadICV:      s.BadICV,
		Established: moment(s.Established),
		Expires:     moment(s.Expires),
		Rekeys:      s.Rekeys,
	}
}

// warnWeak stands as long as something weak is in use, whether or not the engine has
// said so.
func warnWeak(c *app.Connection, s ike.Stats) {
	if m, _ := (&app.Profile{Auth: s.Auth}).AuthMethod(); m.GroupSecret == app.Required && s.Exchange == ike.ExchangeAggressive {
		c.Warnings = append(c.Warnings, app.Warning{
			Code: "psk-aggressive", Severity: app.SeverityWarning,
			Text: "aggressive mode gives everybody who asks what is needed to guess the group's secret",
		})
	}
	const code = "weak-crypto"
	if slices.ContainsFunc(c.Warnings, func(w app.Warning) bool { return w.Code == code }) {
		return
	}
	var weak ike.Weak
	if suite, err := ike.ParseIKESuite(s.Suite); err == nil {
		weak |= suite.Weak()
	}
	for _, child := range s.Children {
		if suite, err := ike.ParseESPSuite(child.Suite); err == nil {
			weak |= suite.Weak()
		}
	}
	if weak != 0 {
		c.Warnings = append(c.Warnings, app.Warning{
			Code: code, Severity: app.SeverityWarning,
			Text: fmt.Sprintf("this connection uses algorithms that are no longer safe: %v", weak),
		})
	}
}

// warnCompression stands as long as packets are compressed: package ike says what
// their lengths tell.
func warnCompression(c *app.Connection, s ike.Stats) {
	if slices.ContainsFunc(s.Children, func(child ike.ChildStats) bool { return child.IPComp }) {
		c.Warnings = append(c.Warnings, app.Warning{
			Code: "compression", Severity: app.SeverityWarning,
			Text: "packets are compressed before they are encrypted, as the profile wants (ipcomp): their lengths can give away what is in them",
		})
	}
}

// moment is a time for JSON; one that never was is absent.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
