//go:build lab && linux

package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wayfarer/app"
)

// Bounds of the time to be connected again, once the gateway is reachable.
const (
	underTraffic = 5 * time.Second
	// whenIdle is the engine's dead peer detection: half a minute of silence, five
	// probes, and the sign-in.
	whenIdle = 60 * time.Second
)

// fault is something that goes wrong, and how it ends. Without an end it is over as
// soon as it has happened.
type fault struct {
	name   string
	begin  []string
	lasts  time.Duration // at least, so that it is noticed
	end    []string
	short  bool // part of the short run
	spares bool // the connection does not suffer
}

var clearFaults = []string{"fault", "clear"}

// gatewayFaults are those of the gateway.
var gatewayFaults = []fault{
	{name: "crash", begin: []string{"gw", "crash"}, short: true},
	{name: "restart", begin: []string{"gw", "restart"}, short: true},
	{name: "kill and start", begin: []string{"gw", "kill"}, lasts: 10 * time.Second, end: []string{"gw", "start"}, short: true},
	{name: "kill and start, later", begin: []string{"gw", "kill"}, lasts: 45 * time.Second, end: []string{"gw", "start"}},
	{name: "freeze, shortly", begin: []string{"gw", "freeze"}, lasts: 3 * time.Second, end: []string{"gw", "thaw"}},
	{name: "freeze", begin: []string{"gw", "freeze"}, lasts: 12 * time.Second, end: []string{"gw", "thaw"}, short: true},
	{name: "delete-ike", begin: []string{"gw", "delete-ike"}, short: true},
	{name: "delete-child", begin: []string{"gw", "delete-child"}, short: true},
	{name: "rekey-child", begin: []string{"gw", "rekey-child"}, short: true, spares: true},
	{name: "rekey-ike", begin: []string{"gw", "rekey-ike"}},
}

// pathFaults are those of the path between the client behind a NAT and the gateway.
var pathFaults = []fault{
	{name: "blackhole", begin: []string{"fault", "blackhole"}, lasts: 12 * time.Second, end: clearFaults, short: true},
	{name: "blackhole, longer", begin: []string{"fault", "blackhole"}, lasts: 75 * time.Second, end: clearFaults},
	{name: "reject", begin: []string{"fault", "reject"}, lasts: 12 * time.Second, end: clearFaults},
	{name: "drop-ike", begin: []string{"fault", "drop-ike"}, lasts: 12 * time.Second, end: clearFaults, spares: true},
	{name: "drop-esp", begin: []string{"fault", "drop-esp"}, lasts: 12 * time.Second, end: clearFaults, short: true},
	{name: "drop-esp-raw", begin: []string{"fault", "drop-esp-raw"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "drop-500", begin: []string{"fault", "drop-500"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "drop-4500", begin: []string{"fault", "drop-4500"}, lasts: 12 * time.Second, end: clearFaults},
	{name: "drop-frags", begin: []string{"fault", "drop-frags"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "drop-big", begin: []string{"fault", "drop-big", "1200"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "drop-from-gw", begin: []string{"fault", "drop-from-gw"}, lasts: 12 * time.Second, end: clearFaults},
	{name: "loss 30", begin: []string{"fault", "loss", "30"}, lasts: 15 * time.Second, end: clearFaults},
	{name: "dup", begin: []string{"fault", "dup"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "mtu 1300", begin: []string{"fault", "mtu", "1300"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "rate 2mbit", begin: []string{"fault", "rate", "2mbit"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "delay 100", begin: []string{"fault", "delay", "100"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "nat-flush", begin: []string{"fault", "nat-flush"}, spares: true},
	{name: "nat-timeout 2", begin: []string{"fault", "nat-timeout", "2"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "nat-rebind", begin: []string{"fault", "nat-rebind"}, short: true},
	{name: "nat-move", begin: []string{"fault", "nat-move"}, short: true},
	{name: "nat-ports", begin: []string{"fault", "nat-ports"}},
	{name: "dns-down", begin: []string{"fault", "dns-down"}, lasts: 5 * time.Second, end: clearFaults, spares: true},
	{name: "link-down", begin: []string{"fault", "link-down", "rw"}, lasts: 8 * time.Second, end: []string{"fault", "link-up", "rw"}, short: true},
}

// selected are the faults of this run: all, or those of the short one.
func selected(all ...[]fault) (chosen []fault) {
	for _, list := range all {
		for _, f := range list {
			if f.short || exhaustive() {
				chosen = append(chosen, f)
			}
		}
	}
	return chosen
}

// happen lets a fault happen and end, and tells since when the gateway can be reached.
func (f *fault) happen(t *testing.T) (reachable time.Time) {
	t.Helper()
	began := time.Now()
	mustLab(t, f.begin...)
	if f.end == nil && f.begin[0] == "gw" && f.spares {
		return began
	}
	time.Sleep(f.lasts)
	if f.end != nil {
		mustLab(t, f.end...)
	}
	return time.Now()
}

// report is a table of what was measured.
type report struct {
	title string
	rows  []string
}

func (r *report) add(name string, format string, args ...any) {
	r.rows = append(r.rows, fmt.Sprintf("| %-22s | %s |", name, fmt.Sprintf(format, args...)))
}

func (r *report) show(t *testing.T) { t.Logf("%s\n%s", r.title, strings.Join(r.rows, "\n")) }

// Whatever goes wrong, with traffic the connection is back five seconds after the
// gateway can be reached again; and what does not concern it does not disturb it.
func TestFaultsUnderTraffic(t *testing.T) {
	h := start(t, "rw", "debug")
	p := loadProfile(t, "hybrid")
	table := report{title: "silence once the gateway can be reached, under traffic"}
	defer table.show(t)
	connected := false
	for _, f := range selected(gatewayFaults, pathFaults) {
		t.Run(f.name, func(t *testing.T) {
			if !connected {
				h.up(t, p)
			}
			connected = false
			g := startGauge(t, h.ns, "0.1")
			time.Sleep(time.Second)
			began, logged := time.Now(), len(h.log())
			reachable := f.happen(t)
			until := reachable.Add(underTraffic + 3*time.Second)
			time.Sleep(time.Until(until))
			silence := g.silence(t, reachable, until)
			before := g.silence(t, began, reachable)
			table.add(f.name, "%6.1f s | %4.1f s", silence.Seconds(), before.Seconds())
			if silence > underTraffic {
				t.Errorf("no traffic for %v\n%s", silence, h.log()[logged:])
			}
			if f.spares && max(silence, before) > 2*time.Second {
				t.Errorf("no traffic for %v before and %v after its end", before, silence)
			}
			g.end()
			mustLab(t, clearFaults...)
			eventually(t, 10*time.Second, "it is connected", func() bool { return h.state(t) == app.StateConnected })
			connected = true
		})
	}
}

// state is that of the only connection.
func (h *host) state(t *testing.T) app.State {
	t.Helper()
	s := h.status(t)
	if len(s.Connections) != 1 {
		t.Fatalf("%d connections", len(s.Connections))
	}
	return s.Connections[0].State
}

// Without any traffic a lost connection is noticed by dead peer detection, and comes
// back by itself.
func TestFaultsIdle(t *testing.T) {
	h := start(t, "rw2", "debug")
	p := loadProfile(t, "hybrid")
	p["USER"], p["PASSWORD"] = "bob", users(t)["bob"]
	table := report{title: "connected again once the gateway can be reached, without traffic"}
	defer table.show(t)
	for _, f := range []fault{
		{name: "crash", begin: []string{"gw", "crash"}, short: true},
		{name: "restart", begin: []string{"gw", "restart"}, short: true},
		{name: "kill and start", begin: []string{"gw", "kill"}, lasts: 20 * time.Second, end: []string{"gw", "start"}},
		{name: "freeze", begin: []string{"gw", "freeze"}, lasts: 75 * time.Second, end: []string{"gw", "thaw"}},
		{name: "blackhole", begin: []string{"fault", "blackhole"}, lasts: 90 * time.Second, end: clearFaults},
		{name: "delete-ike", begin: []string{"gw", "delete-ike"}},
		{name: "delete-child", begin: []string{"gw", "delete-child"}},
	} {
		if !f.short && !exhaustive() {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			if len(h.status(t).Connections) == 0 {
				h.up(t, p)
			}
			time.Sleep(2 * time.Second) // the path has been found out
			reachable := f.happen(t)
			// The gateway's own list: asking it disturbs nobody.
			eventually(t, whenIdle, "the gateway has an ESP SA of the client", func() bool {
				return strings.Contains(mustLab(t, "gw", "sas"), "INSTALLED")
			})
			eventually(t, time.Second, "it is connected", func() bool { return h.state(t) == app.StateConnected })
			took := time.Since(reachable)
			table.add(f.name, "%6.1f s", took.Seconds())
			h.ping(t, "10.10.0.2")
		})
	}
}
