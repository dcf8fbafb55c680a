package platform

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// nextEvents are the events of the next second.
func nextEvents(events <-chan Event) []EventKind {
	var kinds []EventKind
	timeout := time.After(time.Second)
	for {
		select {
		case e, open := <-events:
			if !open {
				return kinds
			}
			kinds = append(kinds, e.Kind)
		case <-timeout:
			return kinds
		}
	}
}

// TestWindowsWatch: what is news, and what is not.
func TestWindowsWatch(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events, err := n.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(what string, want ...EventKind) {
			t.Helper()
			w.changed()
			if got := nextEvents(events); !slices.Equal(got, want) {
				t.Errorf("%s: %v; want %v", what, got, want)
			}
			synctest.Wait()
		}
		expect("nothing")
		// A route past the tunnel by a router, and routes into it, are our own.
		tunnel := winFull()
		tunnel.Exclude = prefixes("198.51.100.0/24")
		if err := n.Set(ctx, Config{Tunnels: []Tunnel{tunnel}}); err != nil {
			t.Fatal(err)
		}
		expect("our own changes")
		for what, lose := range map[string]func(){
			"filters": func() { w.wfp.filters = nil },
			"routes":  func() { w.table = slices.DeleteFunc(w.table, func(r winRoute) bool { return r.LUID == luidTunnel }) },
		} {
			lose()
			expect(what+" lost", EventTaken)
			if err := n.Set(ctx, Config{Tunnels: []Tunnel{tunnel}}); err != nil {
				t.Fatal(err)
			}
			expect(what + " made again")
		}
		all, table := slices.Clone(w.ifs), slices.Clone(w.table)
		w.ifs = slices.DeleteFunc(w.ifs, func(l winLink) bool { return l.LUID == luidTunnel })
		w.table = slices.DeleteFunc(w.table, func(r winRoute) bool { return r.LUID == luidTunnel })
		expect("routes that went with their interface")
		w.ifs, w.table = all, table
		if err := n.Set(ctx, Config{}); err != nil {
			t.Fatal(err)
		}
		expect("their end")
		w.table[len(w.table)-1].NextHop = addrs("192.168.1.254")[0]
		expect("another router", EventDefaultRoute)
		w.table = append(w.table, winRoute{luidWiFi, netip.MustParsePrefix("203.0.113.0/24"), addrs("192.168.1.1")[0], 0})
		expect("a route of the DHCP server's", EventNetwork)
		w.find(luidWiFi).Up = false
		expect("no Wi-Fi", EventNetwork, EventDefaultRoute)
		for _, asleep := range []bool{true, false} {
			w.power[0](asleep)
			want := map[bool]EventKind{true: EventSleep, false: EventWake}[asleep]
			if got := nextEvents(events); !slices.Equal(got, []EventKind{want}) {
				t.Errorf("%v; want %s", got, want)
			}
		}
		cancel()
		synctest.Wait()
		w.changed() // nobody is told
	})
}

// TestWindowsBlockTaken: a leak block that somebody takes away is noticed at once, or within
// ten seconds if the engine tells nobody.
func TestWindowsBlockTaken(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refused error // by the engine, to tell
		told    bool
		within  time.Duration
	}{
		{"told", nil, true, settleTime},
		{"the engine has started again", nil, false, blockTime},
		{"not told", errors.New("no subscription"), true, blockTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				w := newFakeWindows()
				w.fail["notifyFilters"] = tt.refused
				n := w.on(t, t.TempDir())
				events, err := n.Watch(ctx)
				if err != nil {
					t.Fatal(err)
				}
				cfg := Config{BlockOutside: true}
				if err := n.Set(ctx, cfg); err != nil {
					t.Fatal(err)
				}
				whole := w.wfp.String()
				synctest.Wait()
				for range 2 {
					start := time.Now()
					n.mu.Lock() // as the watch has it when it looks
					w.loseFilters(tt.told)
					n.mu.Unlock()
					select {
					case e := <-events:
						if e.Kind != EventTaken || time.Since(start) != tt.within {
							t.Errorf("%v after %v", e, time.Since(start))
						}
					case <-time.After(3 * blockTime):
						t.Error("not noticed")
					}
					if err := n.Set(ctx, cfg); err != nil || w.wfp.String() != whole {
						t.Errorf("%v: %v", err, &w.wfp)
					}
					synctest.Wait()
				}
				if got := nextEvents(events); len(got) > 0 {
					t.Errorf("nothing is taken: %v", got)
				}
				cancel()
				synctest.Wait()
				w.loseFilters(tt.told) // nobody is told
			})
		})
	}
}

func TestWindowsWatchRefused(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	for _, tt := range []struct{ call, silent string }{{"", ""}, {"notifyPower", "sleep"}, {"notifyFilters", "filters sleep"}, {"notifyKeys", "filters names sleep"}} {
		w.fail[tt.call] = errors.New("nobody tells")
		source, err := n.host.watch(t.Context(), func() []string { return nil })
		if err != nil {
			t.Fatalf("%s: %v", tt.call, err)
		}
		if got := strings.Join(source.silent, " "); got != tt.silent {
			t.Errorf("%s: silent are %q, want %q", tt.call, got, tt.silent)
		}
	}
	w.fail["notify"] = errors.New("no notification")
	var e *Error
	if _, err := n.Watch(t.Context()); !errors.As(err, &e) || e.Part != PartWatch {
		t.Errorf("without notification: %v", err)
	}
}

func TestWindowsSurroundings(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	tunnel := winFull()
	if !n.Online() {
		t.Error("not online")
	}
	overlaps, err := n.Overlaps(Config{Tunnels: []Tunnel{{Interface: "wayfarer0", MTU: 1300, Routes: prefixes("192.168.1.0/25")}}})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, o := range overlaps {
		texts = append(texts, o.String())
	}
	want := []string{
		"network 192.168.1.0/24 on Wi-Fi meets the tunnel's network 192.168.1.0/25: the tunnel has that part of it",
		"router 192.168.1.1/32 on Wi-Fi meets the tunnel's network 192.168.1.0/25: it stays reachable",
		"dns 192.168.1.1/32 on Wi-Fi meets the tunnel's network 192.168.1.0/25: it stays reachable",
		"dhcp 192.168.1.1/32 on Wi-Fi meets the tunnel's network 192.168.1.0/25: it stays reachable",
	}
	if !slices.Equal(texts, want) {
		t.Errorf("overlaps\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
	if servers := n.host.nameservers(nil); !slices.Equal(servers, addrs("192.168.1.1")) {
		t.Errorf("servers %v", servers)
	}
	if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}}); err != nil {
		t.Fatal(err)
	}
	if servers := n.host.nameservers(n.applied); !slices.Equal(servers, addrs("192.168.1.1")) {
		t.Errorf("servers beside a tunnel %v", servers)
	}
	if conflicts, err := n.Conflicts(t.Context()); len(conflicts) > 0 || err != nil {
		t.Errorf("conflicts %v, %v", conflicts, err)
	}
	w.addLink(winLink{LUID: 9, Index: 50, Name: "other", Kind: ifPropVirtual})
	w.addLink(winLink{LUID: 10, Index: 51, Name: "old", Kind: 6, Description: "TAP-Windows Adapter V9"})
	w.table = append(w.table, winRoute{9, netip.MustParsePrefix("0.0.0.0/1"), netip.IPv4Unspecified(), 0},
		winRoute{10, netip.MustParsePrefix("0.0.0.0/0"), netip.IPv4Unspecified(), 0})
	conflicts, err := n.Conflicts(t.Context())
	if err != nil || !slices.Equal(conflicts, []Conflict{{"other", "virtual", "0.0.0.0/1", true}, {"old", "tap", "0.0.0.0/0", false}}) {
		t.Errorf("conflicts %v, %v", conflicts, err)
	}
	// Beside a tunnel for some networks, and for the other family, nobody wins.
	w.removeLink(10)
	w.table = append(w.table, winRoute{9, netip.MustParsePrefix("8000::/1"), netip.IPv6Unspecified(), 0})
	for _, tt := range []struct {
		tunnel Tunnel
		wins   bool
	}{{tunnel, true}, {winSplit(), false}} {
		if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{tt.tunnel}}); err != nil {
			t.Fatal(err)
		}
		conflicts, err := n.Conflicts(t.Context())
		if err != nil || !slices.Equal(conflicts, []Conflict{{"other", "virtual", "0.0.0.0/1", tt.wins}, {"other", "virtual", "8000::/1", false}}) {
			t.Errorf("beside %v: conflicts %v, %v", tt.tunnel.Routes, conflicts, err)
		}
	}
	w.find(luidWiFi).Up = false
	if n.Online() {
		t.Error("online by a virtual switch alone")
	}
}

// TestWindowsDescribe: a self-test sees what is left of each kind of change.
func TestWindowsDescribe(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	before, err := n.host.describe()
	if err != nil {
		t.Fatal(err)
	}
	tunnel := winFull()
	tunnel.WINS = addrs("10.1.0.5")
	if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}, BlockOutside: true}); err != nil {
		t.Fatal(err)
	}
	after, err := n.host.describe()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"address 10.99.0.7 dev wayfarer0", "route 0.0.0.0/0 via 0.0.0.0 dev wayfarer0", "names of wayfarer0 by 10.1.0.53",
		"WINS of wayfarer0 by 10.1.0.5", "rule " + ruleGUID(0), "connect4 0 block",
	} {
		if strings.Contains(before, part) || !strings.Contains(after, part) {
			t.Errorf("%s is not told:\n%s", part, after)
		}
	}
}

// TestWindowsSockets: sockets leave by the interface that leads to their gateway, whatever
// the network becomes, and never by a tunnel.
func TestWindowsSockets(t *testing.T) {
	w := newFakeWindows()
	h := w.host()
	n := &Network{log: h.log, host: h, journal: testJournal(t, t.TempDir(), "")}
	synctest.Test(t, func(t *testing.T) {
		var bound []uint32
		s := &winSocket{gateway: addrs("203.0.113.1")[0], bind: func(index uint32) error {
			bound = append(bound, index)
			return nil
		}}
		local := &winSocket{gateway: addrs("127.0.0.1")[0], bind: func(uint32) error { return errors.New("a local gateway needs none") }}
		for _, socket := range []*winSocket{s, local} {
			if err := h.keepOutside(socket); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(what string, want ...uint32) {
			t.Helper()
			w.changed()
			synctest.Wait()
			if !slices.Equal(bound, want) {
				t.Errorf("%s: bound to %v; want %v", what, bound, want)
			}
			bound = nil
		}
		expect("Wi-Fi", 12)
		if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{winFull()}}); err != nil {
			t.Fatal(err)
		}
		expect("beside a full tunnel")
		w.find(luidWiFi).Up = false
		expect("no Wi-Fi", 1)
		w.addLink(winLink{LUID: 9, Index: 50, Name: "LTE", Kind: 243, Hardware: true})
		w.table = append(w.table, winRoute{9, netip.MustParsePrefix("0.0.0.0/0"), netip.IPv4Unspecified(), 0})
		expect("LTE", 50)
		w.find(luidWiFi).Up = true
		w.find(9).Metric4 = 50
		expect("Wi-Fi again: a smaller metric", 12)
		w.table = append(w.table, winRoute{9, netip.MustParsePrefix("203.0.113.0/24"), netip.IPv4Unspecified(), 500})
		expect("a longer prefix", 50)
		s.bind = func(uint32) error { return errors.New("refused") }
		w.table = w.table[:len(w.table)-1]
		expect("refused")
		s.bind = func(index uint32) error {
			bound = append(bound, index)
			return nil
		}
		expect("tried again", 12)
		h.forget(s)
		w.find(luidWiFi).Up = false
		expect("forgotten")
		if err := h.close(); err != nil {
			t.Fatal(err)
		}
	})
	w.fail["notify"] = errors.New("no notification")
	if err := w.host().keepOutside(&winSocket{gateway: addrs("203.0.113.1")[0], bind: func(uint32) error { return nil }}); err == nil {
		t.Error("a socket that would not be renewed")
	}
}

// TestWindowsSocketFirst: what changes while the first socket is bound is not missed.
func TestWindowsSocketFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWindows()
		h := w.host()
		var bound []uint32
		s := &winSocket{gateway: addrs("203.0.113.1")[0], bind: func(index uint32) error {
			if bound = append(bound, index); len(bound) == 1 {
				w.find(luidWiFi).Up = false
				w.changed()
			}
			return nil
		}}
		if err := h.keepOutside(s); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if want := []uint32{12, 1}; !slices.Equal(bound, want) {
			t.Errorf("bound to %v; want %v", bound, want)
		}
		if err := h.close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWindowsOpensSockets: a UDP socket and a connection leave by the outside, and a closed
// one is bound no more.
func TestWindowsOpensSockets(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{winFull()}}); err != nil {
		t.Fatal(err)
	}
	conn, err := n.ListenPacket(t.Context(), addrs("203.0.113.1")[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"IPv4 by 12"}; !slices.Equal(w.sockets, want) {
		t.Errorf("bound %q", w.sockets)
	}
	h := n.host.(*winHost)
	if err := conn.Close(); err != nil || len(h.sockets) > 0 {
		t.Errorf("closed: %v, %d sockets", err, len(h.sockets))
	}
	w.sockets = nil
	for _, address := range []string{"203.0.113.1:80", "127.0.0.1:80"} {
		if err := n.Dialer().Control("tcp4", address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if want := []string{"IPv4 by 12"}; !slices.Equal(w.sockets, want) {
		t.Errorf("connections bound %q", w.sockets)
	}
	if _, err := n.ListenESP(t.Context(), addrs("203.0.113.1")[0]); !errors.Is(err, errOwnESP) {
		t.Errorf("plain ESP: %v", err)
	}
	w.fail["bind"] = errors.New("refused")
	if _, err := n.ListenPacket(t.Context(), addrs("203.0.113.1")[0], 0); !errors.Is(err, w.fail["bind"]) || len(h.sockets) > 0 {
		t.Errorf("refused: %v, %d sockets", err, len(h.sockets))
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestWindowsNamesTaken: what is told of names is noticed when another program changes it, and
// so is group policy that comes late.
func TestWindowsNamesTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newFakeWindows()
		n := w.on(t, t.TempDir())
		events, err := n.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		split := winSplit()
		split.MatchDomains = nil
		split.DNS = append(split.DNS, addrs("2001:db8::53")...)
		cfg := Config{Tunnels: []Tunnel{split}}
		if err := n.Set(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		nextEvents(events)
		rule, link := nrptKey+`\`+ruleGUID(0), "{LINK-4}"
		for _, tt := range []struct {
			name  string
			path  string // of the key that changes
			do    func()
			taken bool
			want  string // who has the names
		}{
			{"nothing", rule, func() {}, false, ""},
			{"our rule is removed", rule, func() { delete(w.keys, rule) }, true, ""},
			{"our rule is changed", rule, func() { w.keys[rule]["GenericDNSServers"] = "192.0.2.53" }, true, ""},
			{"the interface's servers are changed", tcpip4Key + link, func() { w.keys[tcpip4Key+link]["NameServer"] = "192.0.2.53" }, true, ""},
			{"its IPv6 servers are", tcpip6Key + link, func() { w.keys[tcpip6Key+link]["NameServer"] = "" }, true, ""},
			{"WINS servers are changed", netBTKey + link, func() { w.keys[netBTKey+link][winsValue] = []string{"192.0.2.5"} }, false, ""},
			{"group policy comes", nrptPolicyKey, func() { w.keys[nrptPolicyKey] = map[string]any{} }, true, GroupPolicy},
			{"group policy stays", nrptPolicyKey, func() {}, false, GroupPolicy},
			{"group policy goes", nrptPolicyKey, func() { delete(w.keys, nrptPolicyKey) }, true, ""},
		} {
			n.mu.Lock() // as the watch has it when it looks
			tt.do()
			n.mu.Unlock()
			w.touch(tt.path)
			got := nextEvents(events)
			if taken := len(got) == 1 && got[0] == EventTaken; taken != tt.taken || !taken && len(got) > 0 {
				t.Errorf("%s: %v", tt.name, got)
			}
			if err := n.Set(ctx, cfg); err != nil || n.Report().NamesTaken != tt.want {
				t.Errorf("%s: %v, %+v", tt.name, err, n.Report())
			}
			nextEvents(events)
		}
		cancel()
		synctest.Wait()
	})
}

// TestWindowsRespelled: a list that Windows writes otherwise than it was told is not taken
// away, and not told again; one that somebody has changed is.
func TestWindowsRespelled(t *testing.T) {
	w := newFakeWindows()
	w.respells = true
	n := w.on(t, t.TempDir())
	h := n.host.(*winHost)
	cfg := Config{Tunnels: []Tunnel{winSplit()}, BlockOutside: true}
	set := func(named bool) {
		t.Helper()
		w.calls = nil
		err := n.Set(t.Context(), cfg)
		if calls := strings.Join(w.calls, "\n"); err != nil || strings.Contains(calls, "set names") != named {
			t.Errorf("%v, calls\n%s", err, calls)
		}
	}
	set(true)
	if n.taken(h.intact) {
		t.Error("what Windows has written counts as taken")
	}
	set(false)
	w.keys[tcpip4Key+"{LINK-4}"]["SearchList"] = "other.example,"
	if !n.taken(h.intact) {
		t.Error("what somebody has written does not count as taken")
	}
	set(true)
	cfg.Tunnels[0].SearchDomains = []string{"lab.example"}
	set(true)
}
