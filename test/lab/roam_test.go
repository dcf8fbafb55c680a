//go:build lab && linux

package lab

import (
	"slices"
	"testing"
	"time"
)

// The client gets another address, also that of a NAT, or none for a while: running
// traffic flows again within five seconds, in the same
// session unless the link was away for longer than it takes to give the gateway up.
func TestRoaming(t *testing.T) {
	table := report{title: "silence after roaming"}
	defer table.show(t)
	for _, tc := range []struct {
		name, ns  string
		begin     []string
		lasts     time.Duration
		end       []string
		reconnect bool // it may become another session
	}{
		{"another address", "rw2", []string{"fault", "client-addr"}, 0, nil, false},
		{"and back", "rw2", []string{"fault", "client-addr"}, 2 * time.Second, []string{"fault", "client-addr", "192.0.2.34"}, false},
		{"link down, 2 s", "rw", []string{"fault", "link-down", "rw"}, 2 * time.Second, []string{"fault", "link-up", "rw"}, false},
		{"link down, 10 s", "rw", []string{"fault", "link-down", "rw"}, 10 * time.Second, []string{"fault", "link-up", "rw"}, true},
		{"NAT: other ports", "rw", []string{"fault", "nat-rebind"}, 0, nil, false},
		{"NAT: other address", "rw", []string{"fault", "nat-move"}, 0, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, tc.ns, "debug")
			p := loadProfile(t, "hybrid")
			before := h.up(t, p)
			g := startGauge(t, h.ns, "0.1")
			time.Sleep(time.Second)
			f := fault{begin: tc.begin, lasts: tc.lasts, end: tc.end}
			at := f.happen(t)
			until := at.Add(underTraffic + 3*time.Second)
			time.Sleep(time.Until(until))
			silence := g.silence(t, at, until)
			table.add(tc.name, "%.1f s", silence.Seconds())
			if silence > underTraffic {
				t.Errorf("no traffic for %v", silence)
			}
			c := h.connection(t)
			if !tc.reconnect && (!c.Since.Equal(*before.Since) || !slices.Equal(c.Addresses, before.Addresses)) {
				t.Errorf("connected since %v with %v, at first since %v with %v", c.Since, c.Addresses, before.Since, before.Addresses)
			}
			g.end()
			h.down(t)
			mustLab(t, clearFaults...)
		})
	}
}

// Two clients behind one NAT work at the same time, whoever comes first, and keep
// their connections while ESP SAs are renewed and one of them leaves and comes again.
func TestTwoBehindOneNAT(t *testing.T) {
	p := loadProfile(t, "rekey")
	second := profile{}
	for key, value := range p {
		second[key] = value
	}
	second["USER"], second["PASSWORD"] = "bob", users(t)["bob"]
	for _, order := range [][2]string{{"rw", "rw3"}, {"rw3", "rw"}} {
		t.Run(order[0]+" first", func(t *testing.T) {
			a, b := start(t, order[0], "debug"), start(t, order[1], "debug")
			ca := a.up(t, p)
			cb := b.up(t, second)
			if ca.Addresses[0] == cb.Addresses[0] {
				t.Errorf("both have %v", ca.Addresses)
			}
			ga, gb := startGauge(t, a.ns, "0.1"), startGauge(t, b.ns, "0.1")
			time.Sleep(35 * time.Second)
			for _, h := range []*host{a, b} {
				if n := newest(h.connection(t).ESP).Rekeys; n < 2 {
					t.Errorf("%s: %d ESP SAs renewed in 35 s, want at least 2", h.ns, n)
				}
			}
			if sent, lost := ga.stop(t, 100*time.Millisecond); len(lost) > 0 {
				t.Errorf("%s: lost %d of %d", a.ns, len(lost), sent)
			}
			a.down(t)
			a.up(t, p)
			a.ping(t, "10.10.0.2")
			if sent, lost := gb.stop(t, 100*time.Millisecond); len(lost) > 0 {
				t.Errorf("%s: lost %d of %d", b.ns, len(lost), sent)
			}
			if c := b.connection(t); !c.Since.Equal(*cb.Since) {
				t.Errorf("%s: connected since %v, at first since %v", b.ns, c.Since, cb.Since)
			}
			a.down(t)
			b.down(t)
		})
	}
}
