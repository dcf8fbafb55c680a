package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"wayfarer/app"
)

// table is lines of a label and a value, in people's words.
type table struct{ rows [][2]string }

// row adds a line; without a value there is nothing to tell.
func (t *table) row(label, value string) {
	if value = plainLine(value); value != "" {
		t.rows = append(t.rows, [2]string{label, value})
	}
}

func (t *table) write(w io.Writer) {
	width := 0
	for _, row := range t.rows {
		width = max(width, len(row[0]))
	}
	for _, row := range t.rows {
		fmt.Fprintf(w, "  %-*s  %s\n", width, row[0], row[1])
	}
}

// nameOf is what people call a connection.
func nameOf(c *app.Connection) string {
	switch {
	case c.Profile != "":
		return c.Profile
	case c.Gateway != nil:
		return c.Gateway.Host
	}
	return c.ID
}

// showConnected tells what a new connection gave.
func showConnected(w io.Writer, c *app.Connection) {
	fmt.Fprintf(w, "Connected to %s.\n", plainLine(nameOf(c)))
	var t table
	t.row("Gateway", gatewayOf(c))
	t.row("Address", join(c.Addresses))
	t.row("DNS", join(c.DNS))
	t.row("Domains", strings.Join(c.Domains, ", "))
	t.row("Networks", networksOf(c))
	for _, warning := range c.Warnings {
		t.row(labelOf(warning), warning.Text)
	}
	t.write(w)
	if banner := strings.TrimSpace(plain(c.Banner)); banner != "" {
		fmt.Fprintf(w, "\n%s\n\n", banner)
	}
}

// showStatus tells everything about all connections.
func showStatus(w io.Writer, status *app.Status, now time.Time) {
	if len(status.Connections) == 0 {
		fmt.Fprintln(w, "Not connected.")
	}
	for i := range status.Connections {
		if i > 0 {
			fmt.Fprintln(w)
		}
		showConnection(w, &status.Connections[i], now)
	}
}

// stateNames are the states in people's words.
var stateNames = map[app.State]string{
	app.StateDisconnected:  "disconnected",
	app.StateConnecting:    "connecting",
	app.StateActionNeeded:  "action needed",
	app.StateConnected:     "connected",
	app.StateReconnecting:  "reconnecting",
	app.StateDisconnecting: "disconnecting",
	app.StateBlocked:       "blocked",
	app.StateFailed:        "failed",
}

func showConnection(w io.Writer, c *app.Connection, now time.Time) {
	state := stateNames[c.State]
	if c.ID == "" {
		fmt.Fprintf(w, "A connection of %s: %s\n", plainLine(c.Owner), state)
		return
	}
	if words, ok := stepNames[c.Step]; ok && c.State != app.StateConnected {
		state += " (" + words.failed + ")"
	}
	if c.Since != nil {
		state += fmt.Sprintf(" since %s (%s)", c.Since.Local().Format(time.DateTime), ago(now, *c.Since))
	}
	fmt.Fprintf(w, "%s (%s): %s\n", plainLine(nameOf(c)), c.ID, state)
	var t table
	t.row("Owner", c.Owner)
	t.row("Gateway", gatewayOf(c))
	t.row("Addresses", join(c.Addresses))
	t.row("DNS", join(c.DNS))
	t.row("WINS", join(c.WINS))
	t.row("Domains", strings.Join(c.Domains, ", "))
	t.row("Networks", networksOf(c))
	t.row("Outside", join(c.SplitExclude))
	if c.TUN != nil {
		t.row("Interface", fmt.Sprintf("%s, MTU %d", c.TUN.Name, c.TUN.MTU))
	}
	ikeRows(&t, c.IKE, now)
	for i := range c.ESP {
		espRows(&t, &c.ESP[i], now)
	}
	for _, warning := range c.Warnings {
		t.row(labelOf(warning), warning.Text)
	}
	if c.Prompt != nil {
		t.row("Asks", strings.TrimSpace(promptText(c.Prompt))+" (answer with `wayfarer answer "+c.ID+"`)")
	}
	if c.Failure != nil {
		t.row("Failure", failureText(c.Failure))
	}
	t.write(w)
}

func promptText(p *app.Prompt) string {
	if p.Text != "" {
		return p.Text
	}
	return promptNames[p.Kind]
}

func ikeRows(t *table, i *app.IKE, now time.Time) {
	if i == nil {
		return
	}
	t.row("Security", fmt.Sprintf("IKEv%d %s mode, %s, %s%s", i.Version, i.Exchange, i.Auth, i.Suite, until(now, i.Expires)))
	if i.NATT != "" {
		t.row("NAT", fmt.Sprintf("%s (%s)", i.NAT, i.NATT))
	}
	if i.LastHeard != nil {
		t.row("Last heard", ago(now, *i.LastHeard)+" ago")
	}
}

func espRows(t *table, e *app.ESP, now time.Time) {
	t.row("Data", fmt.Sprintf("%s to %s, %s%s", e.Local, e.Remote, e.Suite, until(now, e.Expires)))
	traffic := fmt.Sprintf("%s in, %s out", size(e.BytesIn), size(e.BytesOut))
	if e.Replayed+e.BadICV > 0 {
		traffic += fmt.Sprintf("; dropped %d replayed, %d forged", e.Replayed, e.BadICV)
	}
	t.row("Traffic", traffic)
}

func labelOf(w app.Warning) string {
	if w.Severity == app.SeverityInfo {
		return "Note"
	}
	return "Warning"
}

func gatewayOf(c *app.Connection) string {
	g := c.Gateway
	if g == nil {
		return ""
	}
	text := g.Host
	if g.Address.IsValid() && g.Address.String() != g.Host {
		text += " (" + g.Address.String() + ")"
	}
	if g.Identity != "" {
		text += ", " + g.Identity
	}
	return text
}

// networksOf is what is reached through the gateway.
func networksOf(c *app.Connection) string {
	for _, route := range c.Routes {
		if route.Bits() == 0 {
			return "everything"
		}
	}
	return join(c.Routes)
}

func join[T fmt.Stringer](list []T) string { return strings.Join(names(list), ", ") }

// ago is the time that has passed since t, short.
func ago(now, t time.Time) string { return short(max(now.Sub(t), 0)) }

// until says when something ends, for the end of a line.
func until(now time.Time, t *time.Time) string {
	if t == nil {
		return ""
	}
	return ", renewed in " + short(max(t.Sub(now), 0))
}

// short is a duration in its two largest units.
func short(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// size is a number of bytes for people.
func size(n uint64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < len("kMGTPE")-1 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %cB", value, "kMGTPE"[prefix])
}

// plain makes text from elsewhere harmless on a terminal: no control characters but
// line feed and tab, none that change the direction of writing.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return -1
		}
		return r
	}, text)
}

// plainLine is plain text on one line.
func plainLine(text string) string {
	return strings.Join(strings.FieldsFunc(plain(text), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}
