package platform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMacWay: by which interface packets leave without the tunnels.
func TestMacWay(t *testing.T) {
	f := newFakeMac()
	f.links = append(f.links,
		macLink{Index: 5, Name: "en1", Up: true}, macLink{Index: 6, Name: "en2"}, macLink{Index: 20, Name: "utun9", Up: true})
	f.routes = append(f.routes,
		macRoute{Dst: prefixes("0.0.0.0/1")[0], Link: 12},                  // the tunnel's
		macRoute{Dst: prefixes("192.168.1.77/32")[0], Link: 12},            // the tunnel's
		macRoute{Dst: prefixes("0.0.0.0/0")[0], Link: 5, Scoped: true},     // not the primary one
		macRoute{Dst: prefixes("10.9.0.0/16")[0], Link: 20},                // another VPN's
		macRoute{Dst: prefixes("10.8.0.0/16")[0], Link: 6},                 // is down
		macRoute{Dst: prefixes("10.7.0.0/16")[0], Link: 99},                // is gone
		macRoute{Dst: prefixes("172.16.0.0/12")[0], Link: 5, Scoped: true}) // for bound sockets
	for to, want := range map[string]string{
		"203.0.113.5": "en0", "192.168.1.77": "en0", "10.9.1.1": "utun9", "10.8.1.1": "en0", "10.7.1.1": "en0", "172.16.1.1": "en0",
		"2001:db8:99::1": "en0", "127.0.0.1": "lo0",
	} {
		view := macView{f.links, f.routes, []string{"utun4"}}
		if link := view.way(addrs(to)[0]); link == nil || link.Name != want {
			t.Errorf("%s: %v", to, link)
		}
	}
	f.routes = slices.DeleteFunc(f.routes, func(r macRoute) bool { return r.isDefault() && !r.Scoped })
	view := macView{f.links, f.routes, []string{"utun4"}}
	if link := view.way(addrs("203.0.113.5")[0]); link == nil || link.Name != "en1" {
		t.Errorf("without a primary interface: %v", link)
	}
}

// TestMacHome: what a Mac knows of the network that it is in.
func TestMacHome(t *testing.T) {
	f := newFakeMac()
	_, h := f.network(t, t.TempDir())
	view, err := h.view([]string{"utun4"})
	run(t, "view", err)
	home := h.look(t.Context(), view)
	var networks []string
	for _, n := range home.networks {
		networks = append(networks, fmt.Sprint(n.Prefix, " ", n.link, " ", n.inner))
	}
	got := fmt.Sprint(networks, home.routers, home.dhcp, home.own, home.ways)
	want := "[192.168.1.0/24 en0 false 2001:db8:1::/64 en0 false 192.168.64.0/24 bridge100 true] [192.168.1.1] [192.168.1.1] " +
		"[192.168.1.20 fe80::20 2001:db8:1::20 192.168.64.1 fe80::9] [en0]"
	if got != want {
		t.Errorf("home is\n%s\ninstead of\n%s", got, want)
	}
	if servers := h.nameservers(nil); !slices.Equal(servers, addrs("192.168.1.1")) {
		t.Errorf("%v", servers)
	}
}

// TestMacOverlaps: what a Mac has to keep outside is reported so.
func TestMacOverlaps(t *testing.T) {
	f := newFakeMac()
	n, h := f.network(t, t.TempDir())
	tunnel := macTunnel
	tunnel.Routes, tunnel.DNS = prefixes("192.168.1.0/24"), addrs("192.168.1.1")
	h.sockets.bound[&macSocket{gateway: addrs("192.168.1.50")[0]}] = true
	found, err := n.Overlaps(Config{Tunnels: []Tunnel{tunnel}})
	run(t, "Overlaps", err)
	var got []string
	for _, o := range found {
		got = append(got, o.String())
	}
	want := []string{
		"network 192.168.1.0/24 on en0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
		"router 192.168.1.1/32 on en0 meets the tunnel's network 192.168.1.0/24: it stays reachable",
		"dns 192.168.1.1/32 on en0 meets the tunnel's network 192.168.1.0/24: it stays reachable",
		"dhcp 192.168.1.1/32 on en0 meets the tunnel's network 192.168.1.0/24: it stays reachable",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	view, _ := h.view(nil)
	home := h.look(t.Context(), view)
	if stay := fmt.Sprint(h.anchors(Config{Tunnels: []Tunnel{tunnel}}, home)); stay != "[192.168.1.20/32 192.168.1.50/32 192.168.1.1/32]" {
		t.Errorf("outside stay %s", stay)
	}
}

func TestMacConflicts(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	conflicts := func(want string) {
		t.Helper()
		found, err := n.Conflicts(t.Context())
		run(t, "Conflicts", err)
		var got []string
		for _, c := range found {
			got = append(got, fmt.Sprintf("%v wins %v", c, c.Wins))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("got %q", got)
		}
	}
	conflicts("") // the system's own interfaces claim nothing
	f.links = append(f.links, macLink{Index: 20, Name: "utun9", Up: true, Running: true})
	f.routes = append(f.routes, macRoute{Dst: prefixes("0.0.0.0/1")[0], Link: 20, Gateway: addrs("10.99.0.1")[0]})
	f.others = resolversOf("", "192.0.2.53", "utun9") + resolversOf("x.example", "192.0.2.53", "utun9")
	conflicts("utun9 (utun) has 0.0.0.0/1 wins false, utun9 (utun) has DNS wins false")
	tunnel := macFull
	tunnel.DNS = nil
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}}))
	conflicts("utun9 (utun) has 0.0.0.0/1 wins false, utun9 (utun) has DNS wins false") // its half is in quarters
	f.routes = append(f.routes, macRoute{Dst: prefixes("192.88.99.0/24")[0], Link: 20}, macRoute{Dst: prefixes("128.0.0.0/1")[0], Link: 20},
		macRoute{Dst: prefixes("192.88.99.0/25")[0], Link: 4, Scoped: true})
	conflicts("utun9 (utun) has 0.0.0.0/1 wins false, utun9 (utun) has 128.0.0.0/1 wins true, utun9 (utun) has DNS wins false")
}

func TestMacOnline(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	if !n.Online() {
		t.Error("not online at home")
	}
	f.link("en0").Running = false
	if n.Online() {
		t.Error("online by a bridge to virtual machines")
	}
}

// macEvents are a watch's events, in virtual time.
type macEvents struct {
	*testing.T
	events <-chan Event
}

// after does something and looks which events follow from it within a second.
func (e macEvents) after(what string, do func(), want string) {
	e.Helper()
	do()
	time.Sleep(time.Second)
	var got []string
	for quiet := false; !quiet; {
		synctest.Wait()
		select {
		case event := <-e.events:
			got = append(got, string(event.Kind))
		default:
			quiet = true
		}
	}
	if text := strings.Join(got, " "); text != want {
		e.Errorf("%s: got %q instead of %q", what, text, want)
	}
}

// watched starts a watch of a Network of the computer's.
func (f *fakeMac) watched(ctx context.Context, t *testing.T) (*Network, macEvents) {
	n, _ := f.network(t, t.TempDir())
	events, err := n.Watch(ctx)
	run(t, "Watch", err)
	return n, macEvents{t, events}
}

// TestMacWatch: a change of the network is an event, one by ourselves is none, and what
// somebody takes away is one.
func TestMacWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFakeMac()
		n, events := f.watched(ctx, t)
		hint := func(want string, changes ...func()) {
			t.Helper()
			events.after("a hint", func() {
				for _, change := range changes {
					change()
				}
				f.hints <- struct{}{}
			}, want)
		}
		hint("")
		run(t, "Set", n.Set(ctx, Config{Tunnels: []Tunnel{macTunnel}}))
		hint("")
		hint("", func() {
			f.routes = append(f.routes, macRoute{Dst: prefixes("192.168.1.9/32")[0], Link: 4, Cloned: true})
		})
		hint("network", func() {
			f.routes = append(f.routes, macRoute{Dst: prefixes("10.99.0.0/16")[0], Link: 4, Gateway: addrs("192.168.1.9")[0]})
		})
		hint("default-route", func() { f.routes[0].Gateway = addrs("192.168.1.254")[0] })
		hint("taken", func() {
			f.routes = slices.DeleteFunc(f.routes, func(r macRoute) bool { return r.Dst == prefixes("10.0.0.0/8")[0] })
		})
		hint("", func() {
			f.links = slices.DeleteFunc(f.links, func(l macLink) bool { return l.Name == "utun4" })
		})
		cancel()
		synctest.Wait()
	})
}

// TestMacSleep: what the system tells of sleep is told at once. A wake that nothing but the
// network tells of, and one that it tells of first, are told once.
func TestMacSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFakeMac()
		_, events := f.watched(ctx, t)
		sleep := func() { f.slept.Add(int64(time.Hour)) }
		hint := func() { f.hints <- struct{}{} }
		news := func(low, high byte) func() { return func() { f.kit.messages <- powerTold(t, low, high) } }
		closed, opened := news(0x80, 2), news(0, 3)
		events.after("idle", func() { news(0x70, 2)(); news(0x90, 2)() }, "")
		events.after("the lid is closed", closed, "sleep")
		events.after("and opened", func() { sleep(); news(0x20, 3)(); opened() }, "wake")
		events.after("interfaces are back", hint, "")
		events.after("closed", closed, "sleep")
		events.after("interfaces are back first", func() { sleep(); hint() }, "wake")
		events.after("then it is told", opened, "")
		events.after("closed", closed, "sleep")
		events.after("a dark wake", func() { sleep(); hint() }, "wake")
		events.after("a wake after that", func() { sleep(); opened() }, "wake")
		events.after("closed", closed, "sleep")
		events.after("opened before it slept", opened, "wake")
		sleep()
		events.after("nobody looks at the clocks", func() { time.Sleep(10 * clockTime) }, "")
		events.after("until something happens", hint, "wake")
		sleep()
		events.after("nobody tells any more", func() { f.kit.messages <- endMessage(7); time.Sleep(clockTime) }, "wake")
		cancel()
		synctest.Wait()
	})
}

// TestMacMute: where the system tells neither of sleep nor of names, it is looked.
func TestMacMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFakeMac()
		f.mute = errors.New("no such function")
		n, events := f.watched(ctx, t)
		f.slept.Add(int64(time.Hour))
		events.after("asleep", func() { time.Sleep(clockTime) }, "wake")
		f.slept.Add(int64(time.Hour))
		events.after("asleep, and something happens", func() { f.hints <- struct{}{} }, "wake")
		run(t, "Set", n.Set(ctx, Config{Tunnels: []Tunnel{macTunnel}}))
		clear(f.store)
		time.Sleep(askTime)
		events.after("keys removed, and something happens", func() { f.hints <- struct{}{} }, "taken")
		cancel()
		synctest.Wait()
	})
}

// TestMacNamesTaken: a key of ours that somebody removes or changes is put back as soon as
// configd tells that names have changed. What nobody tells of is found with it, or by what
// the routing socket tells, but not more often than once a minute.
func TestMacNamesTaken(t *testing.T) {
	key := storePrefix + "000000040000/"
	rename := func(f *fakeMac) { f.renamed <- struct{}{} }
	happen := func(f *fakeMac) { f.hints <- struct{}{} }
	for _, tt := range []struct {
		name  string
		spoil func(*fakeMac)
		tell  func(*fakeMac)
		later time.Duration
		want  string
	}{
		{"nothing", func(*fakeMac) {}, rename, 0, ""},
		{"name servers removed", func(f *fakeMac) { delete(f.store, key+"DNS") }, rename, 0, "taken"},
		{"search domains removed", func(f *fakeMac) { delete(f.store, storePrefix+"000000040001/DNS") }, rename, 0, "taken"},
		{"another server", func(f *fakeMac) { f.store[key+"DNS"]["ServerAddresses"] = []string{"192.0.2.1"} }, rename, 0, "taken"},
		{"WINS servers removed", func(f *fakeMac) { delete(f.store, key+"SMB") }, rename, 0, "taken"},
		{"rules flushed", func(f *fakeMac) { f.rules = nil }, rename, 0, "taken"},
		{"switched off", func(f *fakeMac) { f.off = true }, rename, 0, "taken"},
		{"WINS servers, with the network", func(f *fakeMac) { delete(f.store, key+"SMB") }, happen, askTime, "taken"},
		{"rules, with the network", func(f *fakeMac) { f.rules = nil }, happen, askTime, "taken"},
		{"too soon", func(f *fakeMac) { f.rules = nil }, happen, askTime - 10*time.Second, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				f := newFakeMac()
				n, events := f.watched(ctx, t)
				cfg := Config{Tunnels: []Tunnel{macTunnel}}
				run(t, "Set", n.Set(ctx, cfg))
				events.after("our own change", func() { rename(f) }, "")
				whole := f.String()
				time.Sleep(tt.later)
				tt.spoil(f)
				events.after("spoilt", func() { tt.tell(f) }, tt.want)
				run(t, "Set again", n.Set(ctx, cfg))
				if is := f.String(); is != whole || f.off {
					t.Errorf("is\n%s\nand was\n%s", is, whole)
				}
				events.after("put back", func() { rename(f) }, "")
				delete(f.store, key+"DNS")
				f.refuse = "show"
				events.after("the store does not answer", func() { rename(f) }, "")
				f.refuse = ""
				events.after("it does again", func() { happen(f) }, "taken")
				cancel()
				synctest.Wait()
			})
		})
	}
}

// TestMacBlockTaken: a leak block that somebody takes away is noticed within ten seconds,
// stands again with the next wish, and what got out meanwhile goes on no more.
func TestMacBlockTaken(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*fakeMac)
		mend  func(*fakeMac) // what Set cannot
	}{
		{"rules flushed", func(f *fakeMac) { f.rules = nil }, nil},
		{"a rule of somebody's", func(f *fakeMac) { f.rules = append([]string{"pass out quick all"}, f.rules...) }, nil},
		{"switched off", func(f *fakeMac) { f.off = true }, nil},
		{"token given back", func(f *fakeMac) { f.tokens = nil }, nil},
		{"no anchor", func(f *fakeMac) { f.mainRules = "" }, func(f *fakeMac) { f.mainRules = newFakeMac().mainRules }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				f := newFakeMac()
				n, _ := f.network(t, t.TempDir())
				events, err := n.Watch(ctx)
				run(t, "Watch", err)
				// next is the time until something of ours is taken.
				next := func() time.Duration {
					start := time.Now()
					select {
					case e := <-events:
						if e.Kind != EventTaken {
							t.Errorf("%v", e)
						}
						return time.Since(start)
					case <-time.After(3*blockTime - time.Second):
						return 0
					}
				}
				cfg := Config{Tunnels: []Tunnel{macTunnel}, BlockOutside: true}
				run(t, "Set", n.Set(ctx, cfg))
				whole := f.String()
				if waited := next(); waited != 0 {
					t.Errorf("nothing was taken, and told after %v", waited)
				}
				n.mu.Lock() // as the watch has it when it looks
				tt.spoil(f)
				n.mu.Unlock()
				if waited := next(); waited == 0 || waited > blockTime {
					t.Errorf("noticed after %v", waited)
				}
				if f.diary = nil; tt.mend != nil {
					if err := n.Set(ctx, cfg); !errors.Is(err, errNoAnchor) {
						t.Errorf("%v", err)
					}
					tt.mend(f)
				}
				run(t, "Set again", n.Set(ctx, cfg))
				if is := f.String(); is != whole || f.off {
					t.Errorf("is\n%s\nand was\n%s", is, whole)
				}
				if tt.mend == nil && !slices.Contains(f.diary, "pfctl -F states") {
					t.Errorf("what got out goes on: %q", f.diary)
				}
				if waited := next(); waited != 0 {
					t.Errorf("told again after %v", waited)
				}
				run(t, "Set", n.Set(ctx, Config{Tunnels: []Tunnel{macTunnel}})) // without a block
				f.rules = nil
				if waited := next(); waited != 0 {
					t.Errorf("without a block told after %v", waited)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}
