package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func winSplit() Tunnel {
	return Tunnel{
		Interface: "wayfarer0", MTU: 1300, Addresses: prefixes("10.99.0.7/24"), Routes: prefixes("10.1.0.0/16"),
		DNS: addrs("10.1.0.53"), SearchDomains: []string{"corp.example"}, MatchDomains: []string{"Corp.example.", "lab.example"},
		WINS: addrs("10.1.0.5", "10.1.0.6"),
	}
}

func winFull() Tunnel {
	return Tunnel{
		Interface: "wayfarer0", MTU: 1300, Addresses: prefixes("10.99.0.7/32"), Routes: prefixes("0.0.0.0/0"),
		DNS: addrs("10.1.0.53"), SearchDomains: []string{"corp.example"},
	}
}

func trimmed(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// TestWindowsCalls: what is asked of Windows, in its order.
func TestWindowsCalls(t *testing.T) {
	both := winFull()
	both.Addresses, both.Routes = prefixes("10.99.0.7/32", "2001:db8::7/128"), prefixes("0.0.0.0/0", "::/0")
	both.DNS = addrs("10.1.0.53", "2001:db8::53")
	near := Tunnel{Interface: "wayfarer0", MTU: 1300, Routes: prefixes("192.168.0.0/16"), Exclude: prefixes("192.168.7.0/24", "198.51.100.0/24")}
	first, second := winSplit(), winSplit()
	second.Interface, second.Addresses, second.Routes, second.WINS = "wayfarer1", nil, prefixes("10.2.0.0/16"), nil
	second.DNS, second.MatchDomains = addrs("10.2.0.53"), []string{"corp.example", "other.example"}
	rule0, rule1, rule2 := ruleGUID(0), ruleGUID(1), ruleGUID(2)
	ruleCalls := func(guid, domains, servers string) string {
		return strings.NewReplacer("GUID", guid, "DOMAINS", domains, "SERVERS", servers).Replace(`
			make key GUID
			write GUID Comment = wayfarer
			write GUID ConfigOptions = 8
			write GUID GenericDNSServers = SERVERS
			write GUID Name = [DOMAINS]
			write GUID Version = 2
			reload names`)
	}
	const settings = "set wayfarer0 IPv4 mtu 1300 metric 0 auto false dad 0 discovery 0\n"
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"split", Config{Tunnels: []Tunnel{winSplit()}}, settings + `
			make key Tcpip_{LINK-4}
			write Tcpip_{LINK-4} NameServerList = [10.1.0.5 10.1.0.6]
			add address 10.99.0.7 to wayfarer0
			add route 10.1.0.0/16 via 0.0.0.0 to wayfarer0
			set names of wayfarer0 IPv4:  search corp.example` + ruleCalls(rule0, ".corp.example .lab.example", "10.1.0.53")},
		{"full: the local network is the tunnel's", Config{Tunnels: []Tunnel{winFull()}}, `
			set 26 filters
			` + settings + `
			add address 10.99.0.7 to wayfarer0
			add route 0.0.0.0/0 via 0.0.0.0 to wayfarer0
			add route 192.168.1.0/24 via 0.0.0.0 to wayfarer0
			set names of wayfarer0 IPv4: 10.1.0.53 search corp.example` + ruleCalls(rule0, ".", "10.1.0.53")},
		{"full, with local networks", Config{Tunnels: []Tunnel{winFull()}, AllowLocal: true}, `
			set 26 filters
			` + settings + `
			add address 10.99.0.7 to wayfarer0
			add route 0.0.0.0/0 via 0.0.0.0 to wayfarer0
			set names of wayfarer0 IPv4: 10.1.0.53 search corp.example` + ruleCalls(rule0, ".", "10.1.0.53")},
		{"both families", Config{Tunnels: []Tunnel{both}}, `
			set 8 filters
			` + settings + `
			set wayfarer0 IPv6 mtu 1300 metric 0 auto false dad 0 discovery 0
			add address 10.99.0.7 to wayfarer0
			add address 2001:db8::7 to wayfarer0
			add route 0.0.0.0/0 via 0.0.0.0 to wayfarer0
			add route ::/0 via :: to wayfarer0
			add route 192.168.1.0/24 via 0.0.0.0 to wayfarer0
			set names of wayfarer0 IPv4: 10.1.0.53 search corp.example
			set names of wayfarer0 IPv6: 2001:db8::53 search corp.example` + ruleCalls(rule0, ".", "10.1.0.53;2001:db8::53")},
		{"the local network within a route, and what is excluded", Config{Tunnels: []Tunnel{near}}, settings + `
			add route 192.168.0.0/16 via 0.0.0.0 to wayfarer0
			add route 192.168.1.1/32 via 0.0.0.0 to Wi-Fi
			add route 192.168.7.0/24 via 192.168.1.1 to Wi-Fi
			add route 192.168.1.0/24 via 0.0.0.0 to wayfarer0`},
		{"two tunnels, one domain", Config{Tunnels: []Tunnel{first, second}}, settings + `
			make key Tcpip_{LINK-4}
			write Tcpip_{LINK-4} NameServerList = [10.1.0.5 10.1.0.6]
			add address 10.99.0.7 to wayfarer0
			set wayfarer1 IPv4 mtu 1300 metric 0 auto false dad 0 discovery 0
			add route 10.1.0.0/16 via 0.0.0.0 to wayfarer0
			add route 10.2.0.0/16 via 0.0.0.0 to wayfarer1
			set names of wayfarer0 IPv4:  search corp.example
			set names of wayfarer1 IPv4:  search corp.example` +
			ruleCalls(rule0, ".corp.example", "10.1.0.53;10.2.0.53") +
			ruleCalls(rule1, ".lab.example", "10.1.0.53") + ruleCalls(rule2, ".other.example", "10.2.0.53")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newFakeWindows()
			n := w.on(t, t.TempDir())
			before := w.String()
			if err := n.Set(t.Context(), tt.cfg); err != nil {
				t.Fatal(err)
			}
			if w.listed > 2 { // to plan, and to make routes
				t.Errorf("the routes were listed %d times", w.listed)
			}
			if got, want := strings.Join(w.calls, "\n"), strings.Join(trimmed(tt.want), "\n"); got != want {
				t.Errorf("calls\n%s\nwant\n%s", got, want)
			}
			w.calls = nil
			if err := n.Set(t.Context(), tt.cfg); err != nil || len(w.calls) > 0 {
				t.Errorf("the same again: %q, %v", w.calls, err)
			}
			if err := n.Set(t.Context(), Config{}); err != nil {
				t.Fatal(err)
			}
			if after := w.String(); after != before {
				t.Errorf("afterwards\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

// TestWindowsHeeds: the DNS client and NetBT have read what the registry has, whatever wish
// follows which.
func TestWindowsHeeds(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	wins := winFull()
	wins.WINS = addrs("10.1.0.9")
	for _, tt := range []struct {
		name   string
		cfg    Config
		domain string // servers of all names, and of corp.example
		wins   string
	}{
		{"split", Config{Tunnels: []Tunnel{winSplit()}}, " 10.1.0.53", "[10.1.0.5 10.1.0.6]"},
		{"nothing", Config{}, " ", "[]"},
		{"full", Config{Tunnels: []Tunnel{wins}}, "10.1.0.53 ", "[10.1.0.9]"},
		{"nothing again", Config{}, " ", "[]"},
	} {
		if len(tt.cfg.Tunnels) == 0 {
			delete(w.netBT, luidTunnel) // no address, no NetBT
		}
		if err := n.Set(t.Context(), tt.cfg); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(w.client, w.rules()) || w.client["."]+" "+w.client[".corp.example"] != tt.domain {
			t.Errorf("%s: the DNS client has %v, the registry %v", tt.name, w.client, w.rules())
		}
		if got := fmt.Sprint(w.netBT[luidTunnel]); got != tt.wins {
			t.Errorf("%s: NetBT has %s", tt.name, got)
		}
	}
}

// TestWindowsTakesRoutes: what a DHCP server says, and public addresses that a local
// network has taken, do not keep packets out of the tunnel.
func TestWindowsTakesRoutes(t *testing.T) {
	w := newFakeWindows()
	router := addrs("192.168.1.1")[0]
	w.table = append(w.table, winRoute{luidWiFi, netip.MustParsePrefix("203.0.113.0/24"), router, 0},
		winRoute{luidWiFi, netip.MustParsePrefix("203.0.113.9/32"), router, 0})
	onLink := func(networks ...string) {
		for _, p := range prefixes(networks...) {
			w.table = append(w.table, winRoute{luidWiFi, p, unspecified(p.Addr()), 256})
		}
	}
	onLink("224.0.0.0/4", "255.255.255.255/32", "192.0.2.5/32", "192.168.1.77/32", "192.0.2.8/30", "192.0.2.11/32", "2001:db8:7::5/128")
	w.find(luidWiFi).Addresses = append(w.find(luidWiFi).Addresses, netip.MustParsePrefix("198.51.100.8/24"))
	onLink("198.51.100.0/24", "198.51.100.8/32", "198.51.100.255/32")
	full := winFull()
	full.Addresses, full.Routes = append(full.Addresses, prefixes("2001:db8::7/128")...), append(full.Routes, prefixes("::/0")...)
	n := w.on(t, t.TempDir())
	if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{full}, AllowLocal: true}); err != nil {
		t.Fatal(err)
	}
	view, err := n.host.(*winHost).sys.view()
	if err != nil {
		t.Fatal(err)
	}
	for i := range view.links {
		view.links[i].Description = "" // what way would leave out
	}
	for to, want := range map[string]string{
		"203.0.113.1": "wayfarer0", "203.0.113.9": "wayfarer0", "198.51.100.9": "wayfarer0", "8.8.8.8": "wayfarer0",
		"192.0.2.5": "wayfarer0", "192.0.2.11": "wayfarer0", "2001:db8:7::5": "wayfarer0", "192.168.1.40": "Wi-Fi", "192.168.1.77": "Wi-Fi", "172.20.0.9": "vEthernet",
		"198.51.100.8": "Wi-Fi", "198.51.100.255": "Wi-Fi", "255.255.255.255": "Wi-Fi", "224.0.0.9": "Wi-Fi",
	} {
		if _, link := view.way(netip.MustParseAddr(to), nil); link == nil || link.Name != want {
			t.Errorf("%s goes by %v; want %s", to, link, want)
		}
	}
}

// TestWindowsFailure: a failure of any call leaves the host as before.
func TestWindowsFailure(t *testing.T) {
	full := winFull()
	full.WINS = addrs("10.1.0.5")
	cfg := Config{Tunnels: []Tunnel{full}, BlockOutside: true, AllowLocal: true}
	w := newFakeWindows()
	if err := w.on(t, t.TempDir()).Set(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if len(w.steps) < 40 {
		t.Fatalf("%d calls", len(w.steps))
	}
	for _, call := range w.steps {
		if call == "reload names" {
			continue // it has no result
		}
		w := newFakeWindows()
		before := w.String()
		n := w.on(t, t.TempDir())
		w.fail[call] = refused
		err := n.Set(t.Context(), cfg)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, refused) {
			t.Errorf("%s fails: %v", call, err)
		}
		if after := w.String(); after != before {
			t.Errorf("%s fails: the host is\n%s\nand was\n%s", call, after, before)
		}
		clear(w.fail)
		if err := n.Set(t.Context(), Config{}); err != nil || w.String() != before {
			t.Errorf("%s failed: restored with %v\n%s", call, err, w)
		}
	}
}

// winLife is what a process wishes in the course of its life.
func winLife() []Config {
	full, moved := winFull(), winSplit()
	full.WINS = addrs("10.1.0.9")
	moved.Routes = append(prefixes("0.0.0.0/0"), moved.Routes...)
	moved.Exclude, moved.MTU = prefixes("10.1.7.0/24"), 1200
	both := winFull()
	both.Addresses, both.DNS = append(both.Addresses, prefixes("2001:db8::7/128")...), append(both.DNS, addrs("2001:db8::53")...)
	return []Config{
		{BlockOutside: true},
		{Tunnels: []Tunnel{both}, BlockOutside: true},
		{Tunnels: []Tunnel{full}, BlockOutside: true, AllowLocal: true}, // without IPv6 servers
		{Tunnels: []Tunnel{moved}},                                      // with IPv6 blocked
		{},
	}
}

func liveOnWindows(ctx context.Context, n *Network) (died bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, died = r.(stopped); !died {
				panic(r)
			}
		}
	}()
	for _, cfg := range winLife() {
		if err := n.Set(ctx, cfg); err != nil {
			return false, err
		}
	}
	return false, nil
}

// TestWindowsCrash stops a process before each of its calls and lets another recover, with
// the tunnel's interface gone as it is when a process ends, with another one in its place,
// and still there.
func TestWindowsCrash(t *testing.T) {
	for _, tt := range []struct {
		name    string
		then    func(*fakeWindows) // what becomes of the interface
		recover bool
	}{
		{"interface gone", func(w *fakeWindows) { w.removeLink(luidTunnel) }, true},
		{"interface stays", func(*fakeWindows) {}, true},
		{"another interface", func(w *fakeWindows) {
			w.removeLink(luidTunnel)
			w.addLink(winLink{LUID: luidTunnel, Index: 40, Name: "other", Kind: 6, Addresses: prefixes("10.99.0.7/32")})
		}, true},
		{"control", func(*fakeWindows) {}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			crashes, differences := 0, 0
			for died := true; died; crashes++ {
				w := newFakeWindows()
				plain := newFakeWindows()
				tt.then(plain)
				want := plain.String()
				dir := t.TempDir()
				n := w.on(t, dir)
				left, within := crashes, 0
				w.before = func() {
					if w.txn != nil { // what it has changed so far counts for nothing: some will do
						if within++; within%10 != 0 {
							return
						}
					}
					if left--; left < 0 {
						panic(stopped{})
					}
				}
				var err error
				if died, err = liveOnWindows(t.Context(), n); err != nil {
					t.Fatal(err)
				}
				n.journal.close()
				w.before, w.txn = nil, nil // its session ends
				tt.then(w)
				next := w.on(t, dir)
				if tt.recover {
					if err := next.Recover(t.Context(), false); err != nil {
						t.Fatalf("crash %d: %v", crashes, err)
					}
				}
				if got := w.String(); got != want {
					if differences++; tt.recover {
						t.Errorf("crash %d: the host is\n%s\nand not\n%s", crashes, got, want)
					}
				}
				next.journal.close()
			}
			if crashes < 40 || !tt.recover && differences < 35 {
				t.Errorf("%d crashes, %d differences", crashes, differences)
			}
		})
	}
}

// TestWindowsKeepsBlock: a leak block stays until the first wish without it.
func TestWindowsKeepsBlock(t *testing.T) {
	w := newFakeWindows()
	dir := t.TempDir()
	n := w.on(t, dir)
	if err := n.Set(t.Context(), Config{BlockOutside: true}); err != nil {
		t.Fatal(err)
	}
	n.journal.close() // killed
	block := len(w.wfp.filters)
	next := w.on(t, dir)
	if err := next.Recover(t.Context(), true); err != nil || len(w.wfp.filters) != block {
		t.Errorf("recovered: %v, %d filters", err, len(w.wfp.filters))
	}
	if err := next.Set(t.Context(), Config{}); err != nil || len(w.wfp.filters) != 0 {
		t.Errorf("opened: %v, %d filters", err, len(w.wfp.filters))
	}
}

// winLost is a Windows on which a process with a block and a tunnel was killed, whose
// journal is lost, and the directory that it was in.
func winLost(t *testing.T) (*fakeWindows, string) {
	t.Helper()
	w := newFakeWindows()
	w.keys[nrptKey+`\{OTHER}`] = map[string]any{"Name": []string{".other.example"}, "Comment": "somebody's"}
	dir := t.TempDir()
	n := w.on(t, dir)
	if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{winSplit()}, BlockOutside: true}); err != nil {
		t.Fatal(err)
	}
	n.journal.close() // killed
	if err := os.Remove(filepath.Join(dir, journalFile)); err != nil {
		t.Fatal(err)
	}
	w.calls = nil
	return w, dir
}

// TestWindowsLostJournal: filters and rules for names are found without a journal. A block
// that stays is gone with the first wish without one, also after another process.
func TestWindowsLostJournal(t *testing.T) {
	for _, keepBlock := range []bool{false, true} {
		w, dir := winLost(t)
		block, none := w.wfp.String(), (&fakeFilters{}).String()
		n := w.on(t, dir)
		if err := n.Recover(t.Context(), keepBlock); err != nil {
			t.Fatal(err)
		}
		if got, want := w.wfp.String(), map[bool]string{false: none, true: block}[keepBlock]; got != want {
			t.Errorf("keep the block %v: the filters are %s", keepBlock, got)
		}
		if rules, err := w.subkeys(nrptKey); err != nil || !slices.Equal(rules, []string{"{OTHER}"}) || !slices.Contains(w.calls, "reload names") {
			t.Errorf("rules %v, %v, %q", rules, err, w.calls)
		}
		if keepBlock { // it is no news, and the next process knows it by the journal
			if n.taken(n.host.(*winHost).intact) {
				t.Error("the block that stays counts as taken")
			}
			n.journal.close()
			n = w.on(t, dir)
			if err := n.Recover(t.Context(), true); err != nil || w.wfp.String() != block || len(n.applied) != 1 {
				t.Errorf("the next process: %v, %v, %s", err, n.applied, &w.wfp)
			}
		}
		if err := n.Set(t.Context(), Config{}); err != nil || w.wfp.String() != none {
			t.Errorf("keep the block %v: opened: %v, %s", keepBlock, err, &w.wfp)
		}
	}
}

// TestWindowsSweepRefused: what was found and cannot be removed is an error.
func TestWindowsSweepRefused(t *testing.T) {
	for call, part := range map[string]Part{"set 0 filters": PartFirewall, "remove key " + ruleGUID(0): PartDNS} {
		w, dir := winLost(t)
		w.fail[call] = errors.New("refused")
		var e *Error
		if err := w.on(t, dir).Recover(t.Context(), false); !errors.As(err, &e) || e.Part != part || !errors.Is(err, w.fail[call]) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// TestWindowsSweepSpares: what stands by a journal is not swept, and with another state
// directory nothing is, for it may be what a living process has made.
func TestWindowsSweepSpares(t *testing.T) {
	w, dir := winLost(t)
	before := w.String()
	n := w.on(t, dir)
	n.sweeps = false
	if err := n.Recover(t.Context(), false); err != nil || w.String() != before {
		t.Errorf("another directory: %v,\n%s", err, w)
	}
	n.sweeps = true
	if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{winSplit()}, BlockOutside: true}); err != nil {
		t.Fatal(err)
	}
	if err := n.Recover(t.Context(), false); err != nil || w.String() != before {
		t.Errorf("beside a wish: %v,\n%s", err, w)
	}
	// Beside a block that the journal lists, names are looked after all the same.
	n.journal.close()
	w.keys[nrptKey+`\{STRAY}`] = map[string]any{"Comment": nrptComment}
	block := w.wfp.String()
	if err := w.on(t, dir).Recover(t.Context(), true); err != nil || w.keys[nrptKey+`\{STRAY}`] != nil || w.wfp.String() != block {
		t.Errorf("beside a journal's block: %v,\n%s", err, w)
	}
}

func TestWindowsForeignNames(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{winSplit()}}); err != nil {
		t.Fatal(err)
	}
	if r := n.Report(); r.DNS != "NRPT" || r.NamesTaken != "" {
		t.Errorf("report %+v", r)
	}
	// Another program has changed the rule and the WINS servers meanwhile: both stay.
	w.keys[nrptKey+`\`+ruleGUID(0)]["Comment"] = "somebody's"
	w.keys[netBTKey+"{LINK-4}"][winsValue] = []string{"10.9.9.9"}
	if err := n.Set(t.Context(), Config{}); err != nil {
		t.Fatal(err)
	}
	if w.keys[nrptKey+`\`+ruleGUID(0)] == nil || len(w.keys[netBTKey+"{LINK-4}"]) == 0 {
		t.Error("what is another's was undone")
	}
}

// TestWindowsGroupPolicy: a table of rules of group policy's, also one without a rule, is
// the only one that Windows heeds.
func TestWindowsGroupPolicy(t *testing.T) {
	rule := map[string]any{"Name": []string{".corp.example"}}
	for _, tt := range []struct {
		name string
		keys map[string]map[string]any
		want string
	}{
		{"none", nil, ""},
		{"a rule", map[string]map[string]any{nrptPolicyKey + `\{DOMAIN}`: rule}, GroupPolicy},
		{"a table without rules", map[string]map[string]any{nrptPolicyKey: {}}, GroupPolicy},
		{"rules of this computer's", map[string]map[string]any{nrptKey + `\{OTHER}`: rule}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newFakeWindows()
			maps.Copy(w.keys, tt.keys)
			n := w.on(t, t.TempDir())
			if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{winSplit()}}); err != nil {
				t.Fatal(err)
			}
			if r := n.Report(); r.NamesTaken != tt.want {
				t.Errorf("report %+v", r)
			}
		})
	}
}

// TestWindowsRuleSize: more domains than a rule takes are in several.
func TestWindowsRuleSize(t *testing.T) {
	servers := map[string][]netip.Addr{}
	var domains []string
	for i := range ruleDomains + 1 {
		d := "." + strings.Repeat("a", i+1)
		domains = append(domains, d)
		servers[d] = addrs("10.1.0.53")
	}
	rules := rulesFor(domains, servers)
	if len(rules) != 2 || len(rules[0].Domains) != ruleDomains || len(rules[1].Domains) != 1 {
		t.Errorf("%d rules", len(rules))
	}
}

// TestWindowsAwaits: an interface appears some time after it was made.
func TestWindowsAwaits(t *testing.T) {
	for _, tt := range []struct {
		name string
		late int
		want error
	}{{"late", 5, nil}, {"never", 1000, ErrNoInterface}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newFakeWindows()
			w.late = tt.late
			n := w.on(t, t.TempDir())
			synctest.Test(t, func(t *testing.T) {
				if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{winSplit()}}); !errors.Is(err, tt.want) {
					t.Errorf("%v", err)
				}
			})
		})
	}
	w := newFakeWindows()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.late = 1000
	if err := w.host().await(ctx, "wayfarer0", false, awaitTries); !errors.Is(err, ErrNoInterface) {
		t.Errorf("cancelled: %v", err)
	}
	delete(w.stack, stackKey(luidTunnel, false))
	w.late = 0
	if err := w.host().await(ctx, "wayfarer0", false, awaitTries); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without IPv4: %v", err)
	}
}

// TestWindowsAwaitsIPv6: an interface's IPv6 may come later than its IPv4, or never: then
// there is a tunnel without it, and no IPv6 past the tunnel.
func TestWindowsAwaitsIPv6(t *testing.T) {
	both := winFull()
	both.Addresses, both.Routes = append(both.Addresses, prefixes("2001:db8::7/128")...), append(both.Routes, prefixes("::/0")...)
	both.DNS = append(both.DNS, addrs("2001:db8::53")...)
	const never = 1000
	for _, tt := range []struct {
		name  string
		late6 int
		has   bool          // IPv6
		waits time.Duration // for it
	}{{"at once", 0, true, 0}, {"late", 5, true, 5 * awaitPause}, {"never", never, false, (awaitTries - 1) * awaitPause}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWindows()
				w.late6 = tt.late6
				n := w.on(t, t.TempDir())
				start := time.Now()
				for range 2 { // for the second it is not waited again
					if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{both}}); err != nil {
						t.Fatal(err)
					}
				}
				if waited := time.Since(start); waited != tt.waits {
					t.Errorf("waited %v; want %v", waited, tt.waits)
				}
				calls := strings.Join(w.calls, "\n")
				for _, call := range []string{"set wayfarer0 IPv6", "add address 2001:db8::7", "add route ::/0", "set names of wayfarer0 IPv6"} {
					if strings.Contains(calls, call) != tt.has {
						t.Errorf("%s: %v", call, !tt.has)
					}
				}
				if r := n.Report(); r.IPv6Blocked == tt.has || !strings.Contains(calls, "add route 0.0.0.0/0") {
					t.Errorf("report %+v, calls\n%s", r, calls)
				}
				if w.late6 = 0; !tt.has { // it is switched on again
					if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{both}}); err != nil || n.Report().IPv6Blocked {
						t.Errorf("switched on: %v, %+v", err, n.Report())
					}
				}
			})
		})
	}
	w := newFakeWindows()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.late6 = never
	if err := w.host().awaitIPv6(ctx, &both); !errors.Is(err, fs.ErrNotExist) || !needsIPv6(&both) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestWindowsOutside: what stays outside goes by the way that it has without the tunnel, by
// none where there is no network, and has no second route where Windows has made one.
func TestWindowsOutside(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	cfg := Config{Tunnels: []Tunnel{{
		Interface: "wayfarer0", MTU: 1300, Addresses: prefixes("10.99.0.7/32"),
		Routes: prefixes("192.168.0.0/16", "198.51.0.0/16"), Exclude: prefixes("192.168.1.0/24", "198.51.100.0/24"),
	}}}
	routes := w.table
	for _, tt := range []struct {
		name string
		away bool
		want string
	}{
		{"in a network", false, "add route 198.51.100.0/24 via 192.168.1.1 to Wi-Fi"},
		{"without a network", true, ""},
	} {
		if w.table = slices.Clone(routes); tt.away {
			w.table = slices.DeleteFunc(w.table, func(r winRoute) bool { return r.LUID != luidLoopback })
		}
		w.calls = nil
		if err := n.Set(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		past := slices.DeleteFunc(slices.Clone(w.calls), func(call string) bool {
			return !strings.HasPrefix(call, "add route 192.168.1.0/24") && !strings.HasPrefix(call, "add route 198.51.100.0/24")
		})
		if got := strings.Join(past, ", "); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
		if err := n.Set(t.Context(), Config{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWindowsSettingsOfOthers: an interface keeps what another program has set meanwhile, and
// may have lost its IPv6.
func TestWindowsSettingsOfOthers(t *testing.T) {
	cfg := Config{Tunnels: []Tunnel{{Interface: "wayfarer0", MTU: 1300, Addresses: prefixes("10.99.0.7/32", "2001:db8::7/128")}}}
	for _, lost := range []bool{false, true} {
		w := newFakeWindows()
		n := w.on(t, t.TempDir())
		if err := n.Set(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		key, theirs := stackKey(luidTunnel, true), winSettings{MTU: 1400, Metric: 7}
		if w.stack[key] = theirs; lost {
			delete(w.stack, key)
		}
		if err := n.Set(t.Context(), Config{}); err != nil {
			t.Errorf("lost %v: %v", lost, err)
		}
		if is, there := w.stack[key]; there == lost || !lost && is != theirs {
			t.Errorf("lost %v: it has %+v", lost, is)
		}
	}
}
