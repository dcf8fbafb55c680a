package platform

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Check is one part of a self-test.
type Check struct {
	Name   string // of the kind of change
	Answer string // what is worth telling of it
	// System is what the system says that it has since then, line by line, as it is read
	// back.
	System []string
	Err    error // nil: it went well
}

// Addresses of the self-test, of networks that nobody uses for anything else: RFC 2544
// (benchmarks) and RFC 3849 (documentation).
var (
	testAddress4 = netip.MustParsePrefix("198.18.255.1/32")
	testAddress6 = netip.MustParsePrefix("2001:db8:ffff::1/128")
	testRoute4   = netip.MustParsePrefix("198.18.255.2/32")
	testRoute6   = netip.MustParsePrefix("2001:db8:ffff::2/128")
)

// SelfTest looks whether the system tells of changes, and makes each kind of change that Set
// makes, one more at a time, for an interface that is there for this alone, and tells of each,
// with what the system says that it has then. Then it undoes them and looks whether anything is
// left. Names, and for an instant all traffic, are without service meanwhile. It must not be
// called while there are tunnels.
func (n *Network) SelfTest(ctx context.Context, iface string, mtu int, tell func(Check)) {
	before, err := n.host.describe()
	if err != nil {
		tell(Check{Name: "look at the network", Err: err})
		return
	}
	said, err := n.host.tell(ctx, iface)
	if err != nil {
		tell(Check{Name: "ask the system what it has", Err: err})
		return
	}
	tell(n.listens(ctx))
	var cfg Config
	t := Tunnel{Interface: iface, MTU: mtu}
	for _, step := range []struct {
		name   string
		add    func()
		answer func(Report) string
	}{
		{"address", func() { t.Addresses = []netip.Prefix{testAddress4} }, nil},
		{"route and rule", func() { t.Routes = []netip.Prefix{testRoute4} }, nil},
		{"IPv6 address, route and rule", func() {
			t.Addresses, t.Routes = append(t.Addresses, testAddress6), append(t.Routes, testRoute6)
		}, nil},
		{"guard against forged packets", func() {}, func(r Report) string { return r.Unguarded }},
		{"name servers of a domain", func() {
			t.DNS, t.MatchDomains = []netip.Addr{testRoute4.Addr()}, []string{"selftest.invalid"}
			t.SearchDomains = []string{"search.selftest.invalid"}
		}, func(r Report) string { return r.DNS }},
		{"name servers of all names", func() { t.MatchDomains = nil }, func(r Report) string { return r.DNS }},
		{"WINS servers", func() { t.WINS = []netip.Addr{testRoute4.Addr()} }, func(r Report) string { return r.WINSUnheeded }},
		{"block of all other traffic", func() { cfg.BlockOutside, cfg.AllowLocal = true, true }, nil},
	} {
		step.add()
		cfg.Tunnels = []Tunnel{t}
		check := Check{Name: step.name, Err: n.Set(ctx, cfg)}
		if step.answer != nil && check.Err == nil {
			check.Answer = step.answer(n.Report())
		}
		now, err := n.host.tell(ctx, iface)
		check.System = slices.DeleteFunc(slices.Clone(now), func(line string) bool { return slices.Contains(said, line) })
		check.Err = errors.Join(check.Err, err)
		said = now
		tell(check)
		if check.Err != nil {
			break // each contains those before it
		}
	}
	undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	tell(Check{Name: "undo all of it", Err: errors.Join(n.Set(undoing, Config{}), n.asBefore(before))})
}

// listens says whether the system tells of changes, and of which it does not.
func (n *Network) listens(ctx context.Context) Check {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	check := Check{Name: "news of changes"}
	source, err := n.host.watch(ctx, n.interfaces)
	if err != nil {
		check.Err = err
	} else if len(source.silent) > 0 {
		check.Answer = "nobody tells of " + strings.Join(source.silent, ", ")
	}
	return check
}

// asBefore says what a self-test has left.
func (n *Network) asBefore(before string) error {
	after, err := n.host.describe()
	if err == nil && after != before {
		err = fmt.Errorf("the network is not as before: it was %q and is %q", oneLine(before), oneLine(after))
	}
	return err
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
