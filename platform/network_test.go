package platform

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// world is a host made of names and values, and a diary of what happened to it.
type world struct {
	values map[string]string
	diary  []string
	fail   map[string]bool // "apply a=1" or "undo a=1": what fails, without an effect

	before    func(*worldChange) // called before each change
	stops     bool               // with a panic, after so many changes
	stopAfter int
}

type worldChange struct {
	w          *world
	Key, Value string
	Was        string
}

func (c *worldChange) String() string       { return c.Key + "=" + c.Value }
func (c *worldChange) id() string           { return c.Key }
func (c *worldChange) kind() string         { return "value" }
func (c *worldChange) part() Part           { return Part("part of " + c.Key) }
func (c *worldChange) inherit(older change) { c.Was = older.(*worldChange).Was }

// survives and blocks: by their names.
func (c *worldChange) survives() bool { return strings.HasPrefix(c.Key, "file") }
func (c *worldChange) blocks() bool   { return strings.HasPrefix(c.Key, "block") }

func (c *worldChange) apply(context.Context) error {
	if c.w.values[c.Key] == c.Value {
		return nil
	}
	return c.set("apply "+c.String(), c.Value)
}

func (c *worldChange) undo(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.set("undo "+c.String(), c.Was)
}

func (c *worldChange) set(what, value string) error {
	if c.w.fail[what] {
		return errors.New("refused")
	}
	if c.w.before != nil {
		c.w.before(c)
	}
	if c.w.stops && c.w.stopAfter == 0 {
		panic(stopped{})
	}
	c.w.stopAfter--
	c.w.diary = append(c.w.diary, what)
	c.w.values[c.Key] = value
	return nil
}

// plan implements host: the interfaces' names are the wish.
func (w *world) plan(_ context.Context, cfg Config, _ []change) ([]change, Report, error) {
	var changes []change
	for _, t := range cfg.Tunnels {
		key, value, _ := strings.Cut(t.Interface, "=")
		changes = append(changes, &worldChange{w: w, Key: key, Value: value, Was: w.values[key]})
	}
	return changes, Report{}, nil
}

func (w *world) decode(kind string, data json.RawMessage) (change, error) {
	if kind != "value" {
		return nil, fmt.Errorf("unknown kind %q", kind)
	}
	c := &worldChange{w: w}
	return c, json.Unmarshal(data, c)
}

func (w *world) listenPacket(context.Context, netip.Addr, uint16) (net.PacketConn, error) {
	return nil, errors.New("no sockets in this world")
}

func (w *world) listenESP(context.Context, netip.Addr) (net.PacketConn, error) {
	return nil, errors.New("no raw sockets in this world")
}

func (w *world) dialer() *net.Dialer                                     { return &net.Dialer{} }
func (w *world) nameservers([]change) []netip.Addr                       { return nil }
func (w *world) verify(context.Context, Config, *Report) error           { return nil }
func (w *world) overlaps(Config, []change) ([]Overlap, error)            { return nil, nil }
func (w *world) conflicts(context.Context, []string) ([]Conflict, error) { return nil, nil }
func (w *world) online([]string) (bool, error)                           { return true, nil }

func (w *world) watch(context.Context, func() []string) (*watchSource, error) {
	return nil, errors.New("nothing happens in this world")
}

func (w *world) describe() (string, error) { return "", nil }

func (w *world) tell(context.Context, string) ([]string, error) { return nil, nil }

func (w *world) lookAgain() {}

func (w *world) sweep(context.Context, []change, bool) ([]change, error) { return nil, nil }

func (w *world) close() error { return nil }

// testJournal is a journal that the test's end closes.
func testJournal(t *testing.T, dir, boot string) *journal {
	t.Helper()
	j, err := openJournal(slog.New(slog.DiscardHandler), dir, boot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	return j
}

// on is a Network on this world.
func (w *world) on(t *testing.T) *Network {
	t.Helper()
	return &Network{log: slog.New(slog.DiscardHandler), host: w, journal: testJournal(t, t.TempDir(), "boot")}
}

func (w *world) String() string {
	var all []string
	for k, v := range w.values {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func wish(names string) Config {
	var cfg Config
	for _, name := range strings.Fields(names) {
		cfg.Tunnels = append(cfg.Tunnels, Tunnel{Interface: name, MTU: 1300})
	}
	return cfg
}

func TestSet(t *testing.T) {
	const start = "a=0 b=0 c=0 d=0"
	for _, tt := range []struct {
		name   string
		first  string // a wish that succeeds
		fail   string
		second string
		diary  string // of the second
		want   string // after it
		err    string
		rest   string // the diary of restoring; empty: not looked at
	}{
		{name: "apply in order", second: "a=1 b=1 c=1", diary: "apply a=1, apply b=1, apply c=1", want: "a=1 b=1 c=1 d=0"},
		{name: "the same again", first: "a=1 b=1", second: "a=1 b=1", want: "a=1 b=1 c=0 d=0"},
		{name: "nothing", second: "", want: start},
		{name: "restore in reverse", first: "a=1 b=1", second: "", diary: "undo b=1, undo a=1", want: start},
		{name: "another value", first: "a=1 b=1", second: "a=2 b=1", diary: "apply a=2", want: "a=2 b=1 c=0 d=0"},
		{name: "one goes, one comes", first: "a=1 b=1", second: "b=1 c=1", diary: "apply c=1, undo a=1", want: "a=0 b=1 c=1 d=0"},
		{
			name: "failure at the first", fail: "apply a=1", second: "a=1 b=1",
			diary: "undo a=1", want: start, err: "part of a: a=1: refused",
		},
		{
			name: "failure in the middle", fail: "apply c=1", second: "a=1 b=1 c=1 d=1",
			diary: "apply a=1, apply b=1, undo c=1, undo b=1, undo a=1", want: start, err: "part of c: c=1: refused",
		},
		{
			name: "failure after replacing", first: "a=1 b=1", fail: "apply c=1", second: "a=2 c=1",
			diary: "apply a=2, undo c=1, apply a=1", want: "a=1 b=1 c=0 d=0", err: "part of c: c=1: refused",
		},
		{
			name: "failure of the way back", first: "b=1", fail: "apply c=1, undo a=1", second: "a=1 b=1 c=1",
			diary: "apply a=1, undo c=1", want: "a=1 b=1 c=0 d=0", err: "part of c: c=1: refused\nundo a=1: refused",
		},
		{
			name: "failure to undo", first: "a=1 b=1", fail: "undo b=1", second: "c=1",
			diary: "apply c=1, undo a=1", want: "a=0 b=1 c=1 d=0", err: "part of b: undo b=1: refused",
		},
		{
			name: "two failures to undo", first: "a=1 b=1", fail: "undo a=1, undo b=1", second: "",
			want: "a=1 b=1 c=0 d=0", err: "part of b: undo b=1: refused\npart of a: undo a=1: refused", rest: "undo b=1, undo a=1",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{values: map[string]string{"a": "0", "b": "0", "c": "0", "d": "0"}, fail: map[string]bool{}}
			n := w.on(t)
			if err := n.Set(t.Context(), wish(tt.first)); err != nil {
				t.Fatal(err)
			}
			w.diary = nil
			for what := range strings.SplitSeq(tt.fail, ", ") {
				w.fail[what] = true
			}
			err := n.Set(t.Context(), wish(tt.second))
			if fmt.Sprint(err) != cmp.Or(tt.err, "<nil>") {
				t.Errorf("error %v; want %q", err, tt.err)
			}
			if err != nil && !errors.As(err, new(*Error)) {
				t.Errorf("error is a %T", err)
			}
			if got := strings.Join(w.diary, ", "); got != tt.diary {
				t.Errorf("diary %q; want %q", got, tt.diary)
			}
			if w.String() != tt.want {
				t.Errorf("world %v; want %s", w, tt.want)
			}
			clear(w.fail)
			w.diary = nil
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			if got := strings.Join(w.diary, ", "); tt.rest != "" && got != tt.rest {
				t.Errorf("diary of restoring %q; want %q", got, tt.rest)
			}
			if w.String() != start {
				t.Errorf("restored world %v; want %s", w, start)
			}
		})
	}
}

// TestSetCancelled: a cancelled context does not stop the way back.
func TestSetCancelled(t *testing.T) {
	w := &world{values: map[string]string{}, fail: map[string]bool{"apply b=1": true}}
	n := w.on(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Set(ctx, wish("a=1 b=1")); err == nil || w.values["a"] != "" {
		t.Errorf("%v: %v", w, err)
	}
	w.fail = nil
	if err := n.Set(ctx, wish("a=1")); err != nil {
		t.Fatal(err)
	}
	if err := n.Set(ctx, Config{}); err != nil || w.values["a"] != "" {
		t.Errorf("%v: %v", w, err)
	}
}

func TestConfigCheck(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tt := range []struct {
		name    string
		tunnels []Tunnel
		part    Part // empty: accepted
		text    string
	}{
		{"nothing", nil, "", ""},
		{"minimal", []Tunnel{{Interface: "a", MTU: 1300}}, "", ""},
		{"no interface", []Tunnel{{MTU: 1300}}, PartAddress, "missing"},
		{"interface twice", []Tunnel{{Interface: "a", MTU: 1}, {Interface: "a", MTU: 1}}, PartAddress, "twice"},
		{"no MTU", []Tunnel{{Interface: "a"}}, PartAddress, "MTU 0"},
		{"invalid address", []Tunnel{{Interface: "a", MTU: 1, Addresses: []netip.Prefix{{}}}}, PartAddress, "invalid address"},
		{"invalid route", []Tunnel{{Interface: "a", MTU: 1, Routes: []netip.Prefix{{}}}}, PartRoute, "invalid route"},
		{
			"one network, two tunnels",
			[]Tunnel{
				{Interface: "a", MTU: 1, Routes: []netip.Prefix{prefix("10.1.0.0/16")}},
				{Interface: "b", MTU: 1, Routes: []netip.Prefix{prefix("10.1.2.3/16")}},
			},
			PartRoute, "a and b both claim the network 10.1.0.0/16",
		},
		{
			"two full tunnels",
			[]Tunnel{
				{Interface: "a", MTU: 1, Routes: []netip.Prefix{prefix("0.0.0.0/0")}},
				{Interface: "b", MTU: 1, Routes: []netip.Prefix{prefix("0.0.0.0/0")}},
			},
			PartRoute, "0.0.0.0/0",
		},
		{
			"one network in another",
			[]Tunnel{
				{Interface: "a", MTU: 1, Routes: []netip.Prefix{prefix("10.0.0.0/8"), prefix("10.0.0.0/8")}},
				{Interface: "b", MTU: 1, Routes: []netip.Prefix{prefix("10.1.0.0/16")}},
			},
			"", "",
		},
		{"invalid server", []Tunnel{{Interface: "a", MTU: 1, DNS: []netip.Addr{{}}}}, PartDNS, "invalid DNS server"},
		{"good domains", []Tunnel{{Interface: "a", MTU: 1, SearchDomains: []string{"corp.example", "x_y.example."}, MatchDomains: []string{"local"}}}, "", ""},
		{"injected line", []Tunnel{{Interface: "a", MTU: 1, SearchDomains: []string{"a\nb"}}}, PartDNS, "not a domain"},
		{"two in one", []Tunnel{{Interface: "a", MTU: 1, MatchDomains: []string{"a.example b.example"}}}, PartDNS, "not a domain"},
		{"empty domain", []Tunnel{{Interface: "a", MTU: 1, SearchDomains: []string{""}}}, PartDNS, "not a domain"},
		{"empty label", []Tunnel{{Interface: "a", MTU: 1, SearchDomains: []string{"a..b"}}}, PartDNS, "not a domain"},
		{"long label", []Tunnel{{Interface: "a", MTU: 1, SearchDomains: []string{strings.Repeat("a", 64)}}}, PartDNS, "not a domain"},
		{"long domain", []Tunnel{{Interface: "a", MTU: 1, SearchDomains: []string{strings.Repeat("a.", 128)}}}, PartDNS, "not a domain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := (&world{values: map[string]string{}}).on(t)
			err := n.Set(t.Context(), Config{Tunnels: tt.tunnels})
			var e *Error
			if tt.part == "" && err != nil {
				t.Error(err)
			}
			if tt.part != "" && (!errors.As(err, &e) || e.Part != tt.part || !strings.Contains(err.Error(), tt.text)) {
				t.Errorf("%v; want %s: %s", err, tt.part, tt.text)
			}
		})
	}
}

func TestListenPacketError(t *testing.T) {
	n := &Network{host: &world{}}
	gateway := addrs("192.0.2.1")[0]
	for _, listen := range []func() (net.PacketConn, error){
		func() (net.PacketConn, error) { return n.ListenPacket(t.Context(), gateway, 0) },
		func() (net.PacketConn, error) { return n.ListenESP(t.Context(), gateway) },
	} {
		conn, err := listen()
		var e *Error
		if conn != nil || !errors.As(err, &e) || e.Part != PartSocket {
			t.Errorf("%v, %v", conn, err)
		}
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func run(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// added lists the lines of after that before does not have, without those that the
// kernel adds to any interface that is up: its local and broadcast routes.
func added(before, after string) string {
	var lines []string
	had := strings.Split(before, "\n")
	for line := range strings.Lines(after) {
		line = strings.TrimSuffix(line, "\n")
		kernels := strings.Contains(line, "table 255:")
		if !kernels && !slices.Contains(had, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// stops says whether f ended before its time, by a panic with stopped.
func stops(t *testing.T, f func() error) (stopped_ bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, stopped_ = r.(stopped); !stopped_ {
				panic(r)
			}
		}
	}()
	run(t, "a life without a crash", f())
	return false
}

// TestTunnelsOf: the interface of a tunnel that stands is none of the surroundings, also
// when it is not wished any more.
func TestTunnelsOf(t *testing.T) {
	cfg := Config{Tunnels: []Tunnel{{Interface: "new"}, {Interface: "kept"}}}
	for _, links := range [][]change{
		{&macAddressChange{Name: "en0"}, &macLinkChange{Name: "kept"}, &macLinkChange{Name: "old"}},
		{&winAddressChange{Name: "Wi-Fi"}, &winLinkChange{Name: "kept"}, &winLinkChange{Name: "old"}, &winLinkChange{Name: "old", IPv6: true}},
	} {
		if got := tunnelsOf(cfg, links); !slices.Equal(got, []string{"new", "kept", "old"}) {
			t.Errorf("%v: got %v", links, got)
		}
	}
}

// TestUndoLooksOnce: to undo many routes the interfaces are not read for each.
func TestUndoLooksOnce(t *testing.T) {
	var routes []netip.Prefix
	for i := range 50 {
		routes = append(routes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 24))
	}
	w, f := newFakeWindows(), newFakeMac()
	mac, _ := f.network(t, t.TempDir())
	for _, system := range []struct {
		n         *Network
		looks     *int
		Interface string
	}{{w.on(t, t.TempDir()), &w.looks, "wayfarer0"}, {mac, &f.looks, "utun4"}} {
		cfg := Config{Tunnels: []Tunnel{{Interface: system.Interface, MTU: 1300, Addresses: prefixes("10.99.0.7/32"), Routes: routes}}}
		if err := system.n.Set(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if len(system.n.applied) < len(routes) {
			t.Fatalf("%d changes", len(system.n.applied))
		}
		*system.looks = 0
		if err := system.n.Set(t.Context(), Config{}); err != nil || *system.looks > 5 {
			t.Errorf("%s: %v, the interfaces were read %d times", system.Interface, err, *system.looks)
		}
	}
}

// TestRecoverLooksAgain: what could not be undone is tried again, by how the host is then:
// another interface may have the number of the tunnel's.
func TestRecoverLooksAgain(t *testing.T) {
	w, dir := newFakeWindows(), t.TempDir()
	cfg := Config{Tunnels: []Tunnel{{Interface: "wayfarer0", MTU: 1300, Addresses: prefixes("10.99.0.7/32"), Routes: prefixes("10.1.0.0/16")}}}
	n := w.on(t, dir)
	if err := n.Set(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	n.journal.close() // killed
	next := w.on(t, dir)
	w.fail["remove route 10.1.0.0/16 via 0.0.0.0 from wayfarer0"] = errors.New("busy")
	if err := next.Recover(t.Context(), false); err == nil {
		t.Fatal("nothing failed")
	}
	w.removeLink(luidTunnel)
	w.addLink(winLink{LUID: luidTunnel, Index: 40, Name: "other", Kind: 6, Addresses: prefixes("10.1.0.7/16")})
	before := w.String()
	if err := next.Recover(t.Context(), false); err != nil || w.String() != before {
		t.Errorf("%v, the host is\n%s\nand was\n%s", err, w, before)
	}
}

// TestRouteAgain: a route that was undone can be made again for the same wish, and one that
// stands is not made twice.
func TestRouteAgain(t *testing.T) {
	w, f := newFakeWindows(), newFakeMac()
	mac, _ := f.network(t, t.TempDir())
	for name, system := range map[string]struct {
		n    *Network
		host fmt.Stringer
	}{"wayfarer0": {w.on(t, t.TempDir()), w}, "utun4": {mac, f}} {
		cfg := Config{Tunnels: []Tunnel{{Interface: name, MTU: 1300, Addresses: prefixes("10.99.0.7/32"), Routes: prefixes("10.1.0.0/16")}}}
		if err := system.n.Set(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		before := system.host.String()
		i := slices.IndexFunc(system.n.applied, func(c change) bool { return c.part() == PartRoute })
		if i < 0 {
			t.Fatalf("%s: no route", name)
		}
		c := system.n.applied[i]
		for _, step := range []struct {
			what  string
			do    func(context.Context) error
			there bool
		}{{"made", c.apply, true}, {"undone", c.undo, false}, {"made again", c.apply, true}, {"made twice", c.apply, true}, {"undone again", c.undo, false}} {
			asked := len(w.calls)
			if err := step.do(t.Context()); err != nil || (system.host.String() == before) != step.there {
				t.Errorf("%s: %s: %v, the host is\n%s", name, step.what, err, system.host)
			}
			if step.what == "made twice" && len(w.calls) > asked {
				t.Errorf("%s: it is made twice", name)
			}
		}
	}
}

// TestBlockIsTold: who looks after a leak block learns of it by whatever it came and went.
func TestBlockIsTold(t *testing.T) {
	blocked := Config{BlockOutside: true}
	for _, tt := range []struct {
		name string
		lost bool // the journal does not know of the block
	}{{"left by a killed process", false}, {"left without a journal", true}} {
		w, dir := newFakeWindows(), t.TempDir()
		killed := w.on(t, dir)
		if err := killed.Set(t.Context(), blocked); err != nil {
			t.Fatal(err)
		}
		killed.journal.close()
		if tt.lost {
			dir = t.TempDir()
		}
		n := w.on(t, dir)
		for _, step := range []struct {
			what   string
			do     func() error
			stands bool
		}{
			{"kept", func() error { return n.Recover(t.Context(), true) }, true},
			{"ended", func() error { return n.Set(t.Context(), Config{}) }, false},
			{"wished", func() error { return n.Set(t.Context(), blocked) }, true},
		} {
			_, changed := n.block()
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-changed:
			default:
				t.Errorf("%s, %s: nobody is told", tt.name, step.what)
			}
			if stands, _ := n.block(); stands != step.stands {
				t.Errorf("%s, %s: the block stands: %v", tt.name, step.what, stands)
			}
		}
	}
}

// TestSameDir: a directory is known by whatever path leads to it.
func TestSameDir(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	paths := map[string]bool{dir: true, dir + "/.": true, other: false, filepath.Join(dir, "missing"): false}
	if runtime.GOOS != "windows" { // where links need a right
		link := filepath.Join(other, "link")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		paths[link] = true
	}
	for path, want := range paths {
		if sameDir(path, dir) != want || sameDir(dir, path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}
