package platform

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// macTunnel is a tunnel for some networks and the names of one domain.
var macTunnel = Tunnel{
	Interface: "utun4", MTU: 1300, Addresses: prefixes("10.1.2.3/32"), Routes: prefixes("10.0.0.0/8"),
	DNS: addrs("10.1.1.1", "10.1.1.2"), SearchDomains: []string{"corp.example"}, MatchDomains: []string{"corp.example", "lab.example"},
	WINS: addrs("10.1.1.5"),
}

// macFull is a tunnel for everything, IPv6 too.
var macFull = Tunnel{
	Interface: "utun4", MTU: 1280, Addresses: prefixes("10.1.2.3/32", "2001:db8:ff::3/128"), Routes: prefixes("0.0.0.0/0", "::/0"),
	DNS: addrs("10.1.1.1"),
}

const macService = "store State:/Network/Service/5741F7A2-66A3-4E5C-9D4B-000000040000/"

// TestMacSet: what each wish adds to a computer, that wishing it again changes nothing,
// and that nothing is left of it.
func TestMacSet(t *testing.T) {
	only4 := macFull
	only4.Addresses, only4.Routes, only4.DNS = prefixes("10.1.2.3/32"), prefixes("0.0.0.0/0"), nil
	only4.Exclude = prefixes("192.0.2.0/24")
	home := macTunnel
	home.Routes = prefixes("192.168.1.0/24", "10.1.1.0/24")
	home.DNS, home.WINS = nil, nil
	const guards = `rule  0 pass in quick on lo0 inet from any to 10.1.2.3 no state
rule  1 block drop in quick on ! utun4 inet from any to 10.1.2.3`
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // lines that are new
	}{
		{"split", Config{Tunnels: []Tunnel{macTunnel}}, `filter on true
link utun4 mtu 1300 up true [10.1.2.3/32]
route 10.0.0.0/8 via invalid IP dev 12 scoped false cloned false
route 10.1.2.3/32 via invalid IP dev 12 scoped false cloned false
` + guards + `
` + macService + `DNS map["ServerAddresses":["10.1.1.1" "10.1.1.2"] "SupplementalMatchDomains":["lab.example"] "SupplementalMatchDomainsNoSearch #":["1"]]
` + macService + `SMB map["WINSAddresses":["10.1.1.5"]]
store State:/Network/Service/5741F7A2-66A3-4E5C-9D4B-000000040001/DNS map["ServerAddresses":["10.1.1.1" "10.1.1.2"] "SupplementalMatchDomains":["corp.example"]]`},
		{"the home network is the company's too", Config{Tunnels: []Tunnel{home}}, `filter on true
link utun4 mtu 1300 up true [10.1.2.3/32]
route 10.1.1.0/24 via invalid IP dev 12 scoped false cloned false
route 10.1.2.3/32 via invalid IP dev 12 scoped false cloned false
route 192.168.1.0/25 via invalid IP dev 12 scoped false cloned false
route 192.168.1.128/25 via invalid IP dev 12 scoped false cloned false
` + guards},
		{"full", Config{Tunnels: []Tunnel{macFull}}, `filter on true
link utun4 mtu 1280 up true [10.1.2.3/32 2001:db8:ff::3/128]
route 0.0.0.0/1 via invalid IP dev 12 scoped false cloned false
route 10.1.2.3/32 via invalid IP dev 12 scoped false cloned false
route 128.0.0.0/1 via invalid IP dev 12 scoped false cloned false
route 192.168.1.0/25 via invalid IP dev 12 scoped false cloned false
route 192.168.1.128/25 via invalid IP dev 12 scoped false cloned false
route 2001:db8:1:0:8000::/65 via invalid IP dev 12 scoped false cloned false
route 2001:db8:1::/65 via invalid IP dev 12 scoped false cloned false
route 2001:db8:ff::3/128 via invalid IP dev 12 scoped false cloned false
route 8000::/1 via invalid IP dev 12 scoped false cloned false
route ::/1 via invalid IP dev 12 scoped false cloned false
` + guards + `
rule  2 pass in quick on lo0 inet6 from any to 2001:db8:ff::3 no state
rule  3 block drop in quick on ! utun4 inet6 from any to 2001:db8:ff::3
rule  4 pass out quick on lo0 all no state
rule  5 pass out quick on utun4 all no state
rule  6 block return out quick proto udp from any to any port = 53
rule  7 block return out quick proto tcp from any to any port = 53
` + macService + `DNS map["ServerAddresses":["10.1.1.1"] "SupplementalMatchDomains":[""] "SupplementalMatchDomainsNoSearch #":["1"]]`},
		{"all IPv4, with something outside and the local network", Config{Tunnels: []Tunnel{only4}, AllowLocal: true}, `filter on true
link utun4 mtu 1280 up true [10.1.2.3/32]
route 0.0.0.0/1 via invalid IP dev 12 scoped false cloned false
route 10.1.2.3/32 via invalid IP dev 12 scoped false cloned false
route 128.0.0.0/2 via invalid IP dev 12 scoped false cloned false
route 192.0.0.0/23 via invalid IP dev 12 scoped false cloned false
route 192.0.128.0/17 via invalid IP dev 12 scoped false cloned false
route 192.0.16.0/20 via invalid IP dev 12 scoped false cloned false
route 192.0.3.0/24 via invalid IP dev 12 scoped false cloned false
route 192.0.32.0/19 via invalid IP dev 12 scoped false cloned false
route 192.0.4.0/22 via invalid IP dev 12 scoped false cloned false
route 192.0.64.0/18 via invalid IP dev 12 scoped false cloned false
route 192.0.8.0/21 via invalid IP dev 12 scoped false cloned false
route 192.1.0.0/16 via invalid IP dev 12 scoped false cloned false
route 192.128.0.0/9 via invalid IP dev 12 scoped false cloned false
route 192.16.0.0/12 via invalid IP dev 12 scoped false cloned false
route 192.2.0.0/15 via invalid IP dev 12 scoped false cloned false
route 192.32.0.0/11 via invalid IP dev 12 scoped false cloned false
route 192.4.0.0/14 via invalid IP dev 12 scoped false cloned false
route 192.64.0.0/10 via invalid IP dev 12 scoped false cloned false
route 192.8.0.0/13 via invalid IP dev 12 scoped false cloned false
route 193.0.0.0/8 via invalid IP dev 12 scoped false cloned false
route 194.0.0.0/7 via invalid IP dev 12 scoped false cloned false
route 196.0.0.0/6 via invalid IP dev 12 scoped false cloned false
route 200.0.0.0/5 via invalid IP dev 12 scoped false cloned false
route 208.0.0.0/4 via invalid IP dev 12 scoped false cloned false
route 224.0.0.0/3 via invalid IP dev 12 scoped false cloned false
` + guards + `
rule  2 pass out quick on lo0 all no state
rule  3 pass out quick on utun4 all no state
rule  4 pass out quick inet6 proto udp from any port = 546 to fe80::/10 port = 547 no state
rule  5 pass out quick inet6 proto udp from any port = 546 to ff02::1:2 port = 547 no state
rule  6 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 131 no state
rule  7 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 132 no state
rule  8 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 133 no state
rule  9 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 135 no state
rule 10 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 136 no state
rule 11 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 143 no state
rule 12 pass out quick inet6 from any to fe80::/10 no state
rule 13 pass out quick inet6 from any to ff02::/16 no state
rule 14 block return out quick inet6 all`},
		{"nothing but the block", Config{BlockOutside: true, Portal: addrs("203.0.113.80")}, `filter on true
rule  0 pass out quick on lo0 all no state
rule  1 pass out quick inet from any to 203.0.113.80 no state
rule  2 pass out quick inet from any to 192.168.1.1 no state
rule  3 pass out quick inet proto udp from any port = 68 to any port = 67 no state
rule  4 pass out quick inet6 proto udp from any port = 546 to fe80::/10 port = 547 no state
rule  5 pass out quick inet6 proto udp from any port = 546 to ff02::1:2 port = 547 no state
rule  6 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 131 no state
rule  7 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 132 no state
rule  8 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 133 no state
rule  9 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 135 no state
rule 10 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 136 no state
rule 11 pass out quick inet6 proto ipv6-icmp from any to any icmp6-type 143 no state
rule 12 block return out quick all`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeMac()
			n, _ := f.network(t, t.TempDir())
			before := f.String()
			run := func(cfg Config) {
				t.Helper()
				if err := n.Set(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
			}
			run(tt.cfg)
			wins := slices.ContainsFunc(tt.cfg.Tunnels, func(t Tunnel) bool { return len(t.WINS) > 0 })
			if r := n.Report(); (r.WINSUnheeded != "") != wins {
				t.Errorf("report %+v", r)
			}
			if got := added(before, f.String()); got != tt.want {
				t.Errorf("new is\n%s\ninstead of\n%s", got, tt.want)
			}
			stands := f.String()
			f.diary = nil
			run(tt.cfg)
			if f.String() != stands || len(f.diary) > 0 {
				t.Errorf("the same wish again: %q", f.diary)
			}
			run(Config{})
			if f.String() != before {
				t.Errorf("left is\n%s\ngone is\n%s", added(before, f.String()), added(f.String(), before))
			}
		})
	}
}

// TestMacTakenAway: what somebody took away meanwhile comes back with the next Set.
func TestMacTakenAway(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	before := f.String()
	cfg := Config{Tunnels: []Tunnel{macTunnel}, BlockOutside: true}
	run(t, "Set", n.Set(t.Context(), cfg))
	want := f.String()
	for name, take := range map[string]func(){
		"rules":      func() { f.rules = nil },
		"the filter": func() { f.tokens = nil },
		"names":      func() { delete(f.store, strings.TrimPrefix(macService, "store ")+"DNS") },
		"other names": func() {
			f.store[strings.TrimPrefix(macService, "store ")+"DNS"] = map[string][]string{"ServerAddresses": {"192.0.2.66"}}
		},
		"routes": func() {
			f.routes = slices.DeleteFunc(f.routes, func(r macRoute) bool { return r.Link == 12 && !r.Dst.IsSingleIP() })
		},
		"MTU":  func() { f.link("utun4").MTU = 1500 },
		"down": func() { f.link("utun4").Up = false },
	} {
		take()
		run(t, name, n.Set(t.Context(), cfg))
		if f.String() != want {
			t.Errorf("%s: gone is\n%s\nnew is\n%s", name, added(f.String(), want), added(want, f.String()))
		}
	}
	run(t, "close", n.Close())
	if f.String() != before {
		t.Errorf("left is\n%s", added(before, f.String()))
	}
}

// macLife is what a process wishes in the course of its life, with another network in the
// middle of it.
func macLife(f *fakeMac) []func() Config {
	moved := macTunnel
	moved.Routes, moved.MTU = prefixes("0.0.0.0/0", "10.9.0.0/16"), 1200
	moved.DNS, moved.MatchDomains = addrs("10.1.1.2"), nil
	wish := func(cfg Config) func() Config { return func() Config { return cfg } }
	return []func() Config{
		wish(Config{BlockOutside: true}),
		wish(Config{Tunnels: []Tunnel{macFull}, BlockOutside: true, AllowLocal: true}),
		wish(Config{Tunnels: []Tunnel{macTunnel}}),
		wish(Config{Tunnels: []Tunnel{moved}}), // with IPv6 blocked
		wish(Config{}),
	}
}

// TestMacCrash stops a process before each thing that it does to the computer, and lets
// another recover, with the tunnel's interface gone as it is when a process ends, with another
// one in its place, and still there.
func TestMacCrash(t *testing.T) {
	for _, tt := range []struct {
		name     string
		then     func(*fakeMac) // what becomes of the interface
		recovers bool
	}{
		{"interface gone", func(f *fakeMac) { f.removeLink("utun4") }, true},
		{"interface stays", func(*fakeMac) {}, true},
		{"another interface", func(f *fakeMac) {
			f.removeLink("utun4")
			f.links = append(f.links, macLink{Index: 13, Name: "utun4", MTU: 1280, Up: true, Running: true, Addresses: prefixes("10.1.2.3/32")})
			f.routes = append(f.routes, macRoute{Dst: prefixes("10.0.0.0/8")[0], Link: 13}, macRoute{Dst: prefixes("10.1.2.3/32")[0], Link: 13})
		}, true},
		{"control", func(*fakeMac) {}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			differences, after := 0, 0
			for crashed := true; crashed; after++ {
				f, plain := newFakeMac(), newFakeMac()
				tt.then(plain)
				dir, want := t.TempDir(), plain.String()
				n, _ := f.network(t, dir)
				crashed = macLives(t, n, f, after)
				n.journal.close()
				tt.then(f)
				next, _ := f.network(t, dir)
				if tt.recovers {
					run(t, "Recover", next.Recover(t.Context(), false))
				}
				if f.String() != want {
					if differences++; tt.recovers {
						t.Errorf("stopped before step %d: left is\n%s\ngone is\n%s", after, added(want, f.String()), added(f.String(), want))
					}
				}
			}
			if after < 40 || !tt.recovers && differences < 30 {
				t.Errorf("%d steps, %d differences", after, differences)
			}
		})
	}
}

// macLives has a process live, and says whether it was stopped before that step.
func macLives(t *testing.T, n *Network, f *fakeMac, step int) bool {
	f.step = func(string) {
		if step == 0 {
			panic(stopped{})
		}
		step--
	}
	defer func() { f.step = func(string) {} }()
	return stops(t, func() error {
		for _, cfg := range macLife(f) {
			if err := n.Set(t.Context(), cfg()); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestMacRefused: whatever the system refuses, the computer is as it was before.
func TestMacRefused(t *testing.T) {
	cfg := Config{Tunnels: []Tunnel{macFull}, BlockOutside: true}
	probe := newFakeMac()
	n, _ := probe.network(t, t.TempDir())
	run(t, "Set", n.Set(t.Context(), cfg))
	for _, command := range probe.diary {
		f := newFakeMac()
		f.refuse = command
		n, _ := f.network(t, t.TempDir())
		before := f.String()
		err := n.Set(t.Context(), cfg)
		if !errors.As(err, new(*Error)) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: error %v", command, err)
		}
		if f.String() != before {
			t.Errorf("%s: left is\n%s", command, added(before, f.String()))
		}
	}
	if len(probe.diary) < 15 {
		t.Errorf("%q", probe.diary)
	}
}

// TestMacAnotherInterface: an interface that has got a dead tunnel's name is not touched.
func TestMacAnotherInterface(t *testing.T) {
	f := newFakeMac()
	dir := t.TempDir()
	n, _ := f.network(t, dir)
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{macTunnel}}))
	n.journal.close() // killed, and the interface with it
	for i := range f.routes {
		if f.routes[i].Link == 12 {
			f.routes[i].Link = 13
		}
	}
	f.link("utun4").Index = 13
	other := *f.link("utun4")
	next, _ := f.network(t, dir)
	run(t, "Recover", next.Recover(t.Context(), false))
	if now := *f.link("utun4"); fmt.Sprint(now) != fmt.Sprint(other) {
		t.Errorf("the interface is %v and was %v", now, other)
	}
	if !slices.ContainsFunc(f.routes, func(r macRoute) bool { return r.Link == 13 }) {
		t.Error("its routes are gone")
	}
	if len(f.store) != 1 || len(f.rules) != 0 || len(f.tokens) != 0 {
		t.Errorf("left is %q %q", f.store, f.rules)
	}
}

// TestMacTwoTunnels: a network moves from one tunnel to another.
func TestMacTwoTunnels(t *testing.T) {
	f := newFakeMac()
	f.links = append(f.links, macLink{Index: 15, Name: "utun5", MTU: 1500})
	n, _ := f.network(t, t.TempDir())
	before := f.String()
	a, b := macTunnel, macTunnel
	b.Interface, b.Addresses, b.Routes = "utun5", prefixes("10.7.7.7/32"), prefixes("172.16.0.0/12", "10.5.0.0/16")
	for i, tunnels := range [][]Tunnel{{a, b}, {a, b}} {
		if i == 1 {
			tunnels[0].Routes, tunnels[1].Routes = prefixes("172.16.0.0/12"), prefixes("10.0.0.0/8", "10.5.0.0/16")
		}
		run(t, "Set", n.Set(t.Context(), Config{Tunnels: tunnels}))
		ways := map[string]int{}
		for _, r := range f.routes {
			ways[r.Dst.String()] = r.Link
		}
		want := map[bool][3]int{true: {12, 15, 15}, false: {15, 12, 0}}[i == 0] // 10.5.0.0/16 is in its own tunnel then
		if got := [3]int{ways["10.0.0.0/8"], ways["172.16.0.0/12"], ways["10.5.0.0/16"]}; got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	run(t, "Set", n.Set(t.Context(), Config{}))
	if f.String() != before {
		t.Errorf("left is\n%s", added(before, f.String()))
	}
}

func TestMacPlanErrors(t *testing.T) {
	tunnel := macTunnel
	tunnel.Interface = "utun9"
	for _, tt := range []struct {
		name string
		uid  int
		main string // rules of the packet filter
		cfg  Config
		want error
		part Part
	}{
		{"no interface", 0, "", Config{Tunnels: []Tunnel{tunnel}}, ErrNoInterface, PartAddress},
		{"not root", 501, "", Config{Tunnels: []Tunnel{macTunnel}}, ErrNoRights, PartAddress},
		{"no anchor", 0, "pass all\n", Config{BlockOutside: true}, errNoAnchor, PartFirewall},
	} {
		f := newFakeMac()
		if tt.main != "" {
			f.mainRules = tt.main
		}
		n, h := f.network(t, t.TempDir())
		h.sys.uid = tt.uid
		var e *Error
		if err := n.Set(t.Context(), tt.cfg); !errors.Is(err, tt.want) || !errors.As(err, &e) || e.Part != tt.part {
			t.Errorf("%s: %v", tt.name, err)
		}
		if len(f.diary) > 0 {
			t.Errorf("%s: %q", tt.name, f.diary)
		}
	}
	f := newFakeMac()
	f.mainRules = "pass all\n"
	n, _ := f.network(t, t.TempDir())
	run(t, "without a block", n.Set(t.Context(), Config{Tunnels: []Tunnel{macFull}}))
	if r := n.Report(); !strings.Contains(r.Unguarded, "com.apple/*") || !slices.Equal(r.OtherServers, addrs("192.168.1.1")) || len(f.rules) > 0 {
		t.Errorf("%+v", r)
	}
}

// macLost is a computer on which a process with a block and a tunnel was killed, whose
// journal is lost, the directory that it was in, and what was before.
func macLost(t *testing.T) (f *fakeMac, dir, before string) {
	t.Helper()
	f, dir = newFakeMac(), t.TempDir()
	before = f.String()
	n, _ := f.network(t, dir)
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{macTunnel}, BlockOutside: true}))
	n.journal.close() // killed
	run(t, "remove", os.Remove(filepath.Join(dir, journalFile)))
	return f, dir, before
}

// TestMacLostJournal: what can be told to be ours is found without a journal. A block that
// stays is gone with the first wish without one, also after another process.
func TestMacLostJournal(t *testing.T) {
	for _, keepBlock := range []bool{false, true} {
		f, dir, before := macLost(t)
		rules := len(f.rules)
		n, _ := f.network(t, dir)
		run(t, "Recover", n.Recover(t.Context(), keepBlock))
		left := added(before, f.String())
		if strings.Contains(left, "store ") || keepBlock && len(f.rules) != rules || !keepBlock && (len(f.rules) > 0 || len(f.tokens) > 0) {
			t.Errorf("keep the block %v: left are\n%s", keepBlock, left)
		}
		if keepBlock { // sockets get through it, and the next process knows it by the journal
			h := n.host.(*macHost)
			run(t, "pass", h.pass(t.Context(), macPass{protocol: "udp", to: addrs("203.0.113.1")[0], from: 4500}))
			if !strings.Contains(strings.Join(f.rules, "\n"), "port = 4500") {
				t.Errorf("a socket is held back by\n%s", strings.Join(f.rules, "\n"))
			}
			n.journal.close()
			n, _ = f.network(t, dir)
			if run(t, "Recover", n.Recover(t.Context(), true)); len(f.rules) == 0 || len(n.applied) != 1 {
				t.Errorf("the next process has %v, the rules are %q", n.applied, f.rules)
			}
		}
		run(t, "Set", n.Set(t.Context(), Config{}))
		if len(f.rules) > 0 || len(f.tokens) > 0 {
			t.Errorf("keep the block %v: opened: %q %q", keepBlock, f.rules, f.tokens)
		}
	}
}

// TestMacSweepRefused: what was found and cannot be removed is an error.
func TestMacSweepRefused(t *testing.T) {
	for refuse, part := range map[string]Part{"-F rules": PartFirewall, "pfctl -X": PartFirewall, "scutil remove": PartDNS} {
		f, dir, _ := macLost(t)
		f.refuse = refuse
		n, _ := f.network(t, dir)
		var e *Error
		if err := n.Recover(t.Context(), false); !errors.As(err, &e) || e.Part != part || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", refuse, err)
		}
	}
}

// TestMacRestarted: after a restart of the computer a token is left that is worth nothing,
// and nobody is warned of it.
func TestMacRestarted(t *testing.T) {
	f, dir, _ := macLost(t)
	f.rules, f.tokens, f.store = nil, nil, map[string]map[string][]string{}
	n, h := f.network(t, dir)
	var log strings.Builder
	h.log = slog.New(slog.NewTextHandler(&log, nil))
	run(t, "Recover", n.Recover(t.Context(), true))
	if h.token() != "" || log.Len() > 0 || len(n.applied) > 0 {
		t.Errorf("token %q, log %q, %v", h.token(), log.String(), n.applied)
	}
}
