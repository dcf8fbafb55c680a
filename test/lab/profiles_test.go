//go:build lab && linux

package lab

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// network that a profile's gateway gives, beside what "lab profile" says.
type gives struct {
	pool    string // of the address
	dns     []string
	wins    []string
	domains []string
	banner  string
	include []string // split-include; none: everything goes through the tunnel
	exclude []string
	names   map[string]string // that DNS must resolve inside
}

var (
	corp = gives{
		pool: "10.99.0.0/24", dns: []string{"10.10.0.53", "10.10.1.53"}, wins: []string{"10.10.0.42", "10.10.1.42"},
		domains: []string{"corp.lab.test"}, banner: "Welcome to the lab gateway",
		include: []string{"10.10.0.0/24", "10.10.1.0/24", "10.10.2.0/24"},
		names:   map[string]string{"srv.corp.lab.test": "10.10.0.2", "www.internet.test": "203.0.113.80"},
	}
	plain = gives{
		pool: "10.99.1.0/24", dns: []string{"10.10.0.53"},
		names: map[string]string{"srv.corp.lab.test": "10.10.0.2", "www.internet.test": "203.0.113.80"},
	}
	overlap = with(corp, func(g *gives) { g.include = []string{"10.10.0.0/24", "192.168.50.0/24"} })
	full    = with(corp, func(g *gives) { g.include = nil })
	split8  = with(corp, func(g *gives) {
		g.pool, g.wins, g.banner = "10.99.2.0/24", nil, ""
		g.include, g.exclude = []string{"10.10.0.0/24", "10.10.1.0/24"}, []string{"192.168.50.0/24"}
	})
	tiny = gives{
		pool: "10.99.9.1/32", dns: []string{"10.10.0.53"}, include: corp.include,
		names: map[string]string{"srv.corp.lab.test": "10.10.0.2"},
	}
	other = gives{
		pool: "10.98.0.0/24", dns: []string{"10.20.0.53"}, domains: []string{"other.lab.test"},
		include: []string{"10.20.0.0/24"},
		names:   map[string]string{"srv.other.lab.test": "10.20.0.2"},
	}
)

func with(g gives, change func(*gives)) gives {
	change(&g)
	return g
}

// connectable are the profiles that a correct client can use.
var connectable = []struct {
	name  string
	gives gives
}{
	{"hybrid", corp},
	{"hybrid-am", corp},
	{"ecp", corp},
	{"sha2", corp},
	{"legacy", plain},
	{"legacy-md5", plain},
	{"legacy-am", plain},
	{"push", corp},
	{"rekey", corp},
	{"ikelife", corp},
	{"full", full},
	{"tiny", tiny},
	{"chain", corp},
	{"chain-frag", corp},
	{"split8", split8},
	{"pfs", corp},
	{"hybrid6", corp},
	{"overlap", overlap},
	{"radius", corp},
	{"xauth-eap", corp},
	{"other", other},
	{"psk", corp},
	{"psk-am", corp},
	{"rsa", corp},
	{"rsa-am", corp},
}

// Every profile that can be connected works, from behind NAT (rw) and from a
// public address (rw2), and leaves the host as it was.
func TestProfiles(t *testing.T) {
	for _, ns := range []string{"rw", "rw2"} {
		t.Run(ns, func(t *testing.T) {
			h := start(t, ns, "debug")
			for _, tc := range connectable {
				t.Run(tc.name, func(t *testing.T) {
					p := loadProfile(t, tc.name)
					if p["RADIUS"] == "no" {
						t.Skip("no freeradius on this machine")
					}
					h.tryProfile(t, p, tc.gives)
				})
			}
		})
	}
}

func (h *host) tryProfile(t *testing.T, p profile, g gives) {
	before := network(t, h.ns)
	defer h.wayfarer("disconnect") // after a failure; else there is nothing left to end

	c := h.up(t, p)
	probe(t, h.ns, p)
	h.checkStatus(t, p, g, c)
	h.checkKernel(t, c)
	h.checkNames(t, g)
	h.checkGateway(t, p)
	throughput(t, h.ns, p.list("REACHABLE")[0])
	if len(g.include) == 0 {
		h.checkFullTunnel(t, p)
	}

	h.down(t)
	restored(t, h.ns, before)
	if left := h.status(t).Connections; len(left) != 0 {
		t.Errorf("after disconnect the status shows %+v", left)
	}
	if sas := gatewaySAs(t, p); strings.Contains(sas, "["+c.Addresses[0].Addr().String()+"]") {
		t.Errorf("after disconnect the gateway still has\n%s", sas)
	}
}

// A gateway that pushes the settings is understood without being told of.
func TestPushUnannounced(t *testing.T) {
	h := start(t, "rw", "debug")
	p := loadProfile(t, "push")
	before := network(t, h.ns)
	c := h.up(t, p, "--set", "mode_config=auto", "--exchange", "auto")
	probe(t, h.ns, p)
	h.checkStatus(t, p, corp, c)
	h.down(t)
	restored(t, h.ns, before)
}

// probe: networks that should be reachable are, those that should not are not, and
// the server sees the client by its inside address.
func probe(t *testing.T, ns string, p profile) {
	t.Helper()
	if out, err := lab("probe", "-n", ns, p["NAME"]); err != nil {
		t.Errorf("probe: %v\n%s", err, out)
	}
}

// checkNames: the names of the company's network resolve, by the system's resolver.
func (h *host) checkNames(t *testing.T, g gives) {
	t.Helper()
	for name, want := range g.names {
		out, err := inside(h.ns, "getent", "ahostsv4", name)
		if err != nil || !strings.HasPrefix(out, want+" ") {
			t.Errorf("%s: got %q (%v), want %s", name, out, err, want)
		}
	}
}

// checkFullTunnel: the Internet sees the gateway, not the client.
func (h *host) checkFullTunnel(t *testing.T, p profile) {
	t.Helper()
	out, err := inside(h.ns, "curl", "-s", "-m", "5", "http://203.0.113.80/")
	if err != nil || !strings.Contains(out, "peer=198.51.100.10") {
		t.Errorf("the Internet sees %q (%v), want the gateway", out, err)
	}
}

// throughput: iperf3 runs in both directions.
func throughput(t *testing.T, ns, server string) {
	t.Helper()
	for _, direction := range [][]string{nil, {"-R"}} {
		var report struct {
			End struct {
				Received struct {
					Bits float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			} `json:"end"`
			Error string `json:"error"`
		}
		eventually(t, 10*time.Second, "iperf3 finds its server idle", func() bool {
			out, _ := inside(ns, append([]string{"iperf3", "-J", "-t", "1", "-c", server}, direction...)...)
			report.Error = ""
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatalf("iperf3: %v\n%s", err, out)
			}
			// with the end of the last test
			return !strings.Contains(report.Error, "busy") && !strings.Contains(report.Error, "reset by peer")
		})
		if report.Error != "" || report.End.Received.Bits < 1e6 {
			t.Errorf("iperf3 %v: %s, %.0f bit/s", direction, report.Error, report.End.Received.Bits)
		}
		t.Logf("iperf3 %v: %.0f Mbit/s", direction, report.End.Received.Bits/1e6)
	}
}

func prefixes(t *testing.T, list []string) []netip.Prefix {
	t.Helper()
	var all []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}
