package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fakeMac is a computer with macOS, as far as a Network can see and change it.
type fakeMac struct {
	links  []macLink
	routes []macRoute
	store  map[string]map[string][]string // dynamic store: lists, by key
	others string                         // what scutil --dns tells of others' resolvers

	mainRules string   // of the packet filter
	rules     []string // in our anchor
	tokens    []string
	off       bool // although there are tokens
	given     int  // tokens, so far

	sockets map[string]int // "IPv6 link" bound, how often
	hints   chan struct{}
	renamed chan struct{} // configd has told of names
	kit     fakeKit       // tells of sleep
	mute    error         // nobody tells of names and sleep
	looks   int           // at the interfaces
	refuse  string        // commands with this in them fail
	lose    bool          // what is set in the store next is not
	calls   macCalls      // that move several datagrams
	diary   []string      // commands that change something
	step    func(string)  // called before each of them
	slept   atomic.Int64  // nanoseconds since the start
}

// newFakeMac is at home: Wi-Fi, with what macOS has by itself.
func newFakeMac() *fakeMac {
	f := &fakeMac{
		store: map[string]map[string][]string{
			"State:/Network/Global/DNS": {"ServerAddresses": {"192.168.1.1"}},
		},
		mainRules: "scrub-anchor \"com.apple/*\" all fragment reassemble\nanchor \"com.apple/*\" all\n",
		sockets:   map[string]int{}, hints: make(chan struct{}, 1), renamed: make(chan struct{}, 1), kit: fakeKit{messages: make(chan any)}, step: func(string) {},
	}
	f.links = []macLink{
		{Index: 1, Name: "lo0", MTU: 16384, Up: true, Running: true, Loopback: true, Addresses: prefixes("127.0.0.1/8", "::1/128")},
		{Index: 4, Name: "en0", MTU: 1500, Up: true, Running: true, Addresses: prefixes("192.168.1.20/24", "fe80::20/64", "2001:db8:1::20/64")},
		{Index: 7, Name: "bridge100", MTU: 1500, Up: true, Running: true, Addresses: prefixes("192.168.64.1/24")},
		{Index: 9, Name: "utun0", MTU: 1380, Up: true, Running: true, Addresses: prefixes("fe80::9/64")},
		{Index: 12, Name: "utun4", MTU: 1500},
	}
	router, router6 := addrs("192.168.1.1")[0], addrs("fe80::1")[0]
	f.routes = []macRoute{
		{Dst: prefixes("0.0.0.0/0")[0], Gateway: router, Link: 4},
		{Dst: prefixes("127.0.0.0/8")[0], Gateway: addrs("127.0.0.1")[0], Link: 1},
		{Dst: prefixes("169.254.0.0/16")[0], Link: 4},
		{Dst: prefixes("192.168.1.0/24")[0], Link: 4},
		{Dst: prefixes("192.168.1.0/25")[0], Link: 4, Scoped: true},
		{Dst: prefixes("192.168.1.1/32")[0], Link: 4},
		{Dst: prefixes("192.168.1.1/32")[0], Link: 4, Cloned: true},
		{Dst: prefixes("192.168.1.20/32")[0], Link: 4},
		{Dst: prefixes("192.168.64.0/24")[0], Link: 7},
		{Dst: prefixes("224.0.0.0/4")[0], Link: 4},
		{Dst: prefixes("255.255.255.255/32")[0], Link: 4},
		{Dst: prefixes("::/0")[0], Gateway: router6, Link: 4},
		{Dst: prefixes("::/0")[0], Gateway: addrs("fe80::")[0], Link: 9, Scoped: true},
		{Dst: prefixes("2001:db8:1::/64")[0], Link: 4},
		{Dst: prefixes("2001:db8:1::20/128")[0], Link: 1},
		{Dst: prefixes("fe80::/64")[0], Link: 4},
		{Dst: prefixes("ff00::/8")[0], Link: 4},
	}
	return f
}

// removeLink is what happens when the process ends that a tunnel's interface belongs to.
func (f *fakeMac) removeLink(name string) {
	index := f.link(name).Index
	f.links = slices.DeleteFunc(f.links, func(l macLink) bool { return l.Name == name })
	f.routes = slices.DeleteFunc(f.routes, func(r macRoute) bool { return r.Link == index })
}

// link is an interface by its name.
func (f *fakeMac) link(name string) *macLink {
	view := macView{links: f.links}
	return view.byName(name)
}

// changes notes a command that changes something, and says whether it fails.
func (f *fakeMac) changes(command string) error {
	f.step(command)
	f.diary = append(f.diary, command)
	if f.refuse != "" && strings.Contains(command, f.refuse) {
		return errors.New("refused: " + command)
	}
	return nil
}

func (f *fakeMac) system() macSystem {
	return macSystem{
		links: func() ([]macLink, error) {
			f.looks++
			return cloneLinks(f.links), nil
		},
		routes:      func() ([]macRoute, error) { return slices.Clone(f.routes), nil },
		addRoute:    f.addRoute,
		removeRoute: f.removeRoute,
		setMTU: func(name string, mtu int) error {
			if err := f.changes(fmt.Sprintf("mtu %s %d", name, mtu)); err != nil {
				return err
			}
			link := f.link(name)
			if link == nil {
				return syscall.ENXIO
			}
			link.MTU = mtu
			return nil
		},
		run: f.run,
		bind: func(_ syscall.RawConn, ipv6 bool, link int) error {
			f.sockets[fmt.Sprint(ipv6, " ", link)]++
			return nil
		},
		batches: func() macCalls { return f.calls },
		dontFragment: func(_ syscall.RawConn, ipv6, on bool) error {
			f.diary = append(f.diary, fmt.Sprintf("don't fragment %v %v", ipv6, on))
			return nil
		},
		changes: func(context.Context) (<-chan struct{}, error) { return f.hints, nil },
		names: func(context.Context) (<-chan struct{}, error) {
			if f.mute != nil {
				return nil, f.mute
			}
			return f.renamed, nil
		},
		power: func(ctx context.Context) (<-chan bool, error) {
			if f.mute != nil {
				return nil, f.mute
			}
			return powerNews(ctx, slog.New(slog.DiscardHandler), f.kit.open)
		},
		slept: func() (time.Duration, error) { return time.Duration(f.slept.Load()), nil },
	}
}

func cloneLinks(links []macLink) []macLink {
	all := slices.Clone(links)
	for i := range all {
		all[i].Addresses = slices.Clone(all[i].Addresses)
	}
	return all
}

func (f *fakeMac) addRoute(r macRoute) error {
	if err := f.changes(fmt.Sprintf("add %v %d", r.Dst, r.Link)); err != nil {
		return err
	}
	view := macView{links: f.links}
	if view.byIndex(r.Link) == nil {
		return syscall.ENXIO
	}
	if slices.ContainsFunc(f.routes, func(o macRoute) bool { return o.Dst == r.Dst && !o.Scoped && !o.Cloned }) {
		return fs.ErrExist
	}
	f.routes = append(f.routes, r)
	return nil
}

func (f *fakeMac) removeRoute(r macRoute) error {
	if err := f.changes(fmt.Sprintf("delete %v %d", r.Dst, r.Link)); err != nil {
		return err
	}
	f.routes = slices.DeleteFunc(f.routes, func(o macRoute) bool { return o == r })
	return nil
}

func (f *fakeMac) run(_ context.Context, input, program string, args ...string) (string, error) {
	command := strings.Join(append([]string{filepath.Base(program)}, args...), " ")
	switch program {
	case ifconfigPath:
		return "", f.ifconfig(command, args)
	case pfctlPath:
		return f.pfctl(command, input, args)
	case scutilPath:
		if slices.Equal(args, []string{"--dns"}) {
			return f.resolvers(), nil
		}
		return f.scutil(input)
	case ipconfigPath:
		if args[1] == "en0" {
			return "192.168.1.1\n", nil
		}
		return "", errors.New("exit status 1")
	}
	return "", errors.New("no such program: " + program)
}

// ifconfig understands ifconfig(8).
func (f *fakeMac) ifconfig(command string, args []string) error {
	if err := f.changes(command); err != nil {
		return err
	}
	link := f.link(args[0])
	if link == nil {
		return errors.New("interface does not exist")
	}
	switch args[1] {
	case "up", "down":
		link.Up = args[1] == "up"
		link.Running = link.Up
		return nil
	}
	a, err := netip.ParseAddr(args[2])
	if err != nil || (args[1] == "inet6") != a.Is6() {
		return fmt.Errorf("%v: bad value", args)
	}
	switch rest := strings.Join(args[3:], " "); rest {
	case "prefixlen 128 alias", args[2] + " netmask 255.255.255.255 alias":
		if link.has(a) {
			return errors.New("ioctl (SIOCAIFADDR): File exists")
		}
		link.Addresses = append(link.Addresses, single(a))
		f.routes = append(f.routes, macRoute{Dst: single(a), Link: link.Index})
	case "-alias":
		if !link.has(a) {
			return errors.New("ioctl (SIOCDIFADDR): Can't assign requested address")
		}
		link.Addresses = slices.DeleteFunc(link.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
		f.routes = slices.DeleteFunc(f.routes, func(r macRoute) bool { return r.Dst == single(a) && r.Link == link.Index })
	default:
		return fmt.Errorf("%q: bad value", rest)
	}
	return nil
}

// macRule is the part of pf.conf(5) that is used here.
var macRule = func() *regexp.Regexp {
	const (
		address = `(any|[0-9a-f.:]+(/[0-9]+)?)`
		port    = `( port = [0-9]+)?`
		ends    = `(all|from ` + address + port + ` to ` + address + port + `( user = [0-9]+)?)`
		family  = `( inet| inet6)?( proto (udp|tcp|ipv6-icmp))?`
	)
	return regexp.MustCompile(`^(pass|block (drop|return)) (in|out) quick( on (! )?[a-z]+[0-9]+)?` + family + ` ` + ends + `( icmp6-type [0-9]+)?( no state)?$`)
}()

// noALTQ is what pfctl says to everything.
const noALTQ = "No ALTQ support in kernel\nALTQ related functions disabled\n"

// pfctl understands pfctl(8).
func (f *fakeMac) pfctl(command, input string, args []string) (string, error) {
	switch line := strings.Join(args, " "); line {
	case "-s rules":
		return f.mainRules, nil
	case "-s info":
		return "Status: " + map[bool]string{true: "Enabled", false: "Disabled"}[len(f.tokens) > 0 && !f.off] + " for 0 days\n", nil
	case "-s References":
		text := "TOKENS:\nPID      Process Name                 TOKEN                    TIMESTAMP\n"
		for _, token := range f.tokens {
			text += "100      pfctl                " + token + "     0 days 00:00:20\n"
		}
		return text, nil
	case "-a " + macAnchor + " -s rules":
		return noALTQ + strings.Join(f.rules, "\n"), nil
	case "-F states":
		return "", f.changes(command)
	case "-E":
		if err := f.changes(command); err != nil {
			return "", err
		}
		f.given++
		f.off = false
		f.tokens = append(f.tokens, strconv.Itoa(1000+f.given))
		return fmt.Sprintf("%spf enabled\nToken : %d\n", noALTQ, 1000+f.given), nil
	case "-a " + macAnchor + " -f -":
		if err := f.changes(command); err != nil {
			return "", err
		}
		rules := strings.Split(strings.TrimSpace(input), "\n")
		for i, r := range rules { // what stands stays if one of the new ones is wrong
			if r != "" && !macRule.MatchString(r) {
				return "", fmt.Errorf("stdin:%d: syntax error: %q", i+1, r)
			}
		}
		f.rules = rules
		return "", nil
	case "-a " + macAnchor + " -F rules":
		if err := f.changes(command); err != nil {
			return "", err
		}
		f.rules = nil
		return "rules cleared\n", nil
	}
	if len(args) == 2 && args[0] == "-X" && slices.Contains(f.tokens, args[1]) {
		if err := f.changes("pfctl -X"); err != nil {
			return "", err
		}
		f.tokens = slices.DeleteFunc(f.tokens, func(t string) bool { return t == args[1] })
		return "", nil
	}
	return "", fmt.Errorf("pfctl: %q", args)
}

// scutil understands scutil(8)'s commands for the dynamic store.
func (f *fakeMac) scutil(input string) (string, error) {
	var said strings.Builder
	var lists map[string][]string // nil: there is no dictionary yet
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		switch {
		case words[0] == "d.init":
			lists = map[string][]string{}
		case lists == nil && (words[0] == "d.add" || words[0] == "set"):
			return "d.add: dictionary must be initialized\n", nil
		case words[0] == "remove" && f.store[words[1]] == nil:
			said.WriteString("  No such key\n")
		case words[0] == "d.add" && words[2] == "*":
			lists[words[1]] = nil
			for _, w := range words[3:] {
				lists[words[1]] = append(lists[words[1]], strings.Trim(w, `"`))
			}
		case words[0] == "d.add" && words[2] == "#":
			lists[words[1]+" #"] = words[3:]
			if len(words) != 4 {
				return "", fmt.Errorf("scutil: %q", line)
			}
		case words[0] == "set" || words[0] == "remove":
			if err := f.changes("scutil " + strings.TrimSpace(line)); err != nil {
				return "", err
			}
			if delete(f.store, words[1]); words[0] == "set" && !f.lose {
				f.store[words[1]] = lists
			}
			f.lose = false
		case words[0] == "list":
			n := 0
			for _, key := range slices.Sorted(maps.Keys(f.store)) {
				if strings.HasPrefix(key, strings.TrimSuffix(words[1], ".*")) {
					fmt.Fprintf(&said, "  subKey [%d] = %s\n", n, key)
					n++
				}
			}
		case words[0] == "show" && f.refuse == "show":
			return "", errors.New("refused: " + line)
		case words[0] == "show":
			said.WriteString(f.show(words[1]))
		default:
			return "", fmt.Errorf("scutil: %q", line)
		}
	}
	return said.String(), nil
}

func (f *fakeMac) show(key string) string {
	lists, there := f.store[key]
	if !there {
		return "  No such key\n"
	}
	var b strings.Builder
	b.WriteString("<dictionary> {\n")
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		if scalar, ok := strings.CutSuffix(name, " #"); ok {
			fmt.Fprintf(&b, "  %s : %s\n", scalar, lists[name][0])
			continue
		}
		fmt.Fprintf(&b, "  %s : <array> {\n", name)
		for i, v := range lists[name] {
			fmt.Fprintf(&b, "    %d : %s\n", i, v)
		}
		b.WriteString("  }\n")
	}
	return b.String() + "}\n"
}

// resolvers is what configd makes of the store, the primary service's servers last. It
// takes no SearchDomains of services that have no addresses, as ours; names are completed
// with the supplemental domains of those that do not say otherwise.
func (f *fakeMac) resolvers() string {
	var b strings.Builder
	b.WriteString("DNS configuration\n" + f.others)
	var search []string
	add := func(domain string, servers, search []string) {
		b.WriteString("\nresolver #1\n")
		for i, s := range search {
			fmt.Fprintf(&b, "  search domain[%d] : %s\n", i, s)
		}
		if domain != "" {
			fmt.Fprintf(&b, "  domain   : %s\n", domain)
		}
		for i, s := range servers {
			fmt.Fprintf(&b, "  nameserver[%d] : %s\n", i, s)
		}
		b.WriteString("  flags    : Supplemental, Request A records\n  reach    : 0x00000002 (Reachable)\n")
	}
	for _, key := range slices.Sorted(maps.Keys(f.store)) {
		for _, domain := range f.store[key]["SupplementalMatchDomains"] {
			add(domain, f.store[key]["ServerAddresses"], nil)
			if domain != "" && f.store[key][noSearchName+" #"] == nil {
				search = append(search, domain)
			}
		}
	}
	add("", f.store["State:/Network/Global/DNS"]["ServerAddresses"], search)
	b.WriteString("\nDNS configuration (for scoped queries)\n\nresolver #1\n  nameserver[0] : 192.0.2.77\n")
	return b.String()
}

// String is all of the state that changes are about.
func (f *fakeMac) String() string {
	var lines []string
	for _, l := range f.links {
		lines = append(lines, fmt.Sprintf("link %s mtu %d up %v %v", l.Name, l.MTU, l.Up, l.Addresses))
	}
	for _, r := range f.routes {
		lines = append(lines, fmt.Sprintf("route %v via %v dev %d scoped %v cloned %v", r.Dst, r.Gateway, r.Link, r.Scoped, r.Cloned))
	}
	for key, lists := range f.store {
		lines = append(lines, fmt.Sprintf("store %s %q", key, lists))
	}
	for i, r := range f.rules {
		lines = append(lines, fmt.Sprintf("rule %2d %s", i, r))
	}
	lines = append(lines, fmt.Sprintf("filter on %v", len(f.tokens) > 0))
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// network is a Network of a process on this computer, whose state is in dir.
func (f *fakeMac) network(t *testing.T, dir string) (*Network, *macHost) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	h := newMacHost(log, f.system(), filepath.Join(dir, "pf.token"))
	return &Network{log: log, host: h, sweeps: true, journal: testJournal(t, dir, "boot")}, h
}

var _ host = (*macHost)(nil)
