package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// fakeWindows behaves as Windows' network does, as far as it is used: addresses bring
// their routes, interfaces take theirs with them, names stand in the registry, what is there
// is not made again, and filters change by transactions.
type fakeWindows struct {
	ifs   []winLink
	table []winRoute
	stack map[string]winSettings // by "LUID family"
	keys  map[string]map[string]any
	wfp   fakeFilters // what was committed
	txn   *fakeEngine // the session whose transaction is open

	client map[string]string   // servers by domain, as the DNS client has read them
	netBT  map[uint64][]string // WINS servers by interface, as NetBT has read them

	calls     []string // that change something
	steps     []string // these, and the calls within a transaction
	before    func()   // is called before each step
	fail      map[string]error
	sockets   []string // what was bound to what
	listeners []func()
	removed   []func() // who is told of removed filters
	power     []func(bool)
	listed    int // how often the routes were
	watched   []watchedKeys
	respells  bool // a list of domains gets a comma at its end
	late      int  // so many looks see no interface
	late6     int  // so many looks see no IPv6 on an interface
	looks     int
}

// watchedKeys are who is told of what changes below some keys.
type watchedKeys struct {
	paths []string
	told  func()
}

// Interfaces of the fake.
const (
	luidLoopback = 1
	luidWiFi     = 2
	luidSwitch   = 3
	luidTunnel   = 4
	luidTunnel1  = 5
)

// newFakeWindows is a laptop in a Wi-Fi, with a virtual switch, and two tunnels'
// interfaces that have nothing yet.
func newFakeWindows() *fakeWindows {
	w := &fakeWindows{stack: map[string]winSettings{}, keys: map[string]map[string]any{}, netBT: map[uint64][]string{}, fail: map[string]error{}}
	w.addLink(winLink{LUID: luidLoopback, Index: 1, Name: "Loopback", Kind: ifLoopback, Addresses: prefixes("127.0.0.1/8", "::1/128"), Metric4: 75, Metric6: 75})
	w.addLink(winLink{
		LUID: luidWiFi, Index: 12, Name: "Wi-Fi", Kind: 71, Hardware: true, Addresses: prefixes("192.168.1.23/24", "fe80::23/64"),
		DNS: addrs("192.168.1.1"), DHCP: addrs("192.168.1.1"), Metric4: 35, Metric6: 35,
	})
	w.addLink(winLink{LUID: luidSwitch, Index: 20, Name: "vEthernet", Kind: 6, Addresses: prefixes("172.20.0.1/20"), DNS: addrs("fec0:0:0:ffff::1"), Metric4: 15})
	w.addLink(winLink{LUID: luidTunnel, Index: 30, Name: "wayfarer0", Description: "Wayfarer Tunnel", Kind: ifPropVirtual, Metric4: 5, Metric6: 5})
	w.addLink(winLink{LUID: luidTunnel1, Index: 31, Name: "wayfarer1", Description: "Wayfarer Tunnel #2", Kind: ifPropVirtual, Metric4: 5, Metric6: 5})
	w.table = append(w.table, winRoute{luidWiFi, netip.MustParsePrefix("0.0.0.0/0"), addrs("192.168.1.1")[0], 0})
	return w
}

// addLink adds an interface, and the routes that its addresses bring.
func (w *fakeWindows) addLink(l winLink) {
	l.GUID, l.Up = fmt.Sprintf("{LINK-%d}", l.LUID), true
	w.ifs = append(w.ifs, l)
	for _, ipv6 := range []bool{false, true} {
		w.stack[stackKey(l.LUID, ipv6)] = winSettings{MTU: 1500, Metric: 5, AutoMetric: true, DADTransmits: 3, RouterDiscovery: 1}
	}
	for _, a := range l.Addresses {
		w.table = append(w.table, winRoute{l.LUID, a.Masked(), unspecified(a.Addr()), 256}, winRoute{l.LUID, single(a.Addr()), unspecified(a.Addr()), 256})
	}
}

func stackKey(luid uint64, ipv6 bool) string { return fmt.Sprintf("%d %s", luid, ipName(ipv6)) }

// removeLink is what happens when a tunnel's process ends.
func (w *fakeWindows) removeLink(luid uint64) {
	w.ifs = slices.DeleteFunc(w.ifs, func(l winLink) bool { return l.LUID == luid })
	w.table = slices.DeleteFunc(w.table, func(r winRoute) bool { return r.LUID == luid })
	delete(w.netBT, luid)
	delete(w.stack, stackKey(luid, false))
	delete(w.stack, stackKey(luid, true))
}

// change notes a call that changes something, and fails if the test wants it.
func (w *fakeWindows) change(format string, args ...any) error {
	err := w.step(format, args...)
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
	return err
}

// step is change for what counts later.
func (w *fakeWindows) step(format string, args ...any) error {
	if w.before != nil {
		w.before()
	}
	call := fmt.Sprintf(format, args...)
	w.steps = append(w.steps, call)
	return w.fail[call]
}

// What Windows answers.
var (
	errWinMissing  = fmt.Errorf("%w: ERROR_NOT_FOUND", fs.ErrNotExist)
	errWinThere    = fmt.Errorf("%w: ERROR_OBJECT_ALREADY_EXISTS", fs.ErrExist)
	errWinHasBelow = errors.New("ERROR_ACCESS_DENIED: the key has keys below")
)

func (w *fakeWindows) find(luid uint64) *winLink {
	i := slices.IndexFunc(w.ifs, func(l winLink) bool { return l.LUID == luid })
	if i < 0 {
		return nil
	}
	return &w.ifs[i]
}

func (w *fakeWindows) name(luid uint64) string {
	if l := w.find(luid); l != nil {
		return l.Name
	}
	return "nothing"
}

func (w *fakeWindows) links() ([]winLink, error) {
	w.looks++
	if w.late > 0 {
		w.late--
		return nil, nil
	}
	links := slices.Clone(w.ifs)
	for i, l := range links {
		links[i].Addresses = slices.Clone(l.Addresses)
		if s := w.stack[stackKey(l.LUID, false)]; !s.AutoMetric {
			links[i].Metric4 = s.Metric
		}
		if servers := text(w.keys[tcpip4Key+l.GUID]["NameServer"]); servers != "" {
			links[i].DNS = addrs(strings.Split(servers, ",")...)
		}
	}
	return links, nil
}

func (w *fakeWindows) settings(luid uint64, ipv6 bool) (winSettings, error) {
	s, ok := w.stack[stackKey(luid, ipv6)]
	if ipv6 && w.late6 > 0 {
		w.late6--
		ok = false
	}
	if !ok {
		return s, errWinMissing
	}
	return s, nil
}

func (w *fakeWindows) setSettings(luid uint64, ipv6 bool, s winSettings) error {
	if err := w.change("set %s %s mtu %d metric %d auto %v dad %d discovery %d", w.name(luid), ipName(ipv6), s.MTU, s.Metric, s.AutoMetric, s.DADTransmits, s.RouterDiscovery); err != nil {
		return err
	}
	if _, there := w.stack[stackKey(luid, ipv6)]; !there {
		return errWinMissing
	}
	w.stack[stackKey(luid, ipv6)] = s
	return nil
}

func (w *fakeWindows) addAddress(luid uint64, a netip.Addr) error {
	if err := w.change("add address %v to %s", a, w.name(luid)); err != nil {
		return err
	}
	l := w.find(luid)
	if l == nil || w.stack[stackKey(luid, a.Is6())].MTU == 0 {
		return errWinMissing
	}
	if slices.Contains(l.Addresses, single(a)) {
		return errWinThere
	}
	l.Addresses = append(l.Addresses, single(a))
	if servers, _ := w.keys[netBTKey+l.GUID][winsValue].([]string); a.Is4() { // NetBT reads when an address comes
		w.netBT[luid] = servers
	}
	w.table = append(w.table, winRoute{luid, single(a), unspecified(a), 256})
	return nil
}

func (w *fakeWindows) removeAddress(luid uint64, a netip.Addr) error {
	if err := w.change("remove address %v from %s", a, w.name(luid)); err != nil {
		return err
	}
	l := w.find(luid)
	if l == nil || !slices.Contains(l.Addresses, single(a)) {
		return errWinMissing
	}
	l.Addresses = slices.DeleteFunc(l.Addresses, func(p netip.Prefix) bool { return p == single(a) })
	gone := winRoute{luid, single(a), unspecified(a), 256}
	w.table = slices.DeleteFunc(w.table, func(r winRoute) bool { return r == gone })
	return nil
}

func (w *fakeWindows) routes() ([]winRoute, error) {
	w.listed++
	return slices.Clone(w.table), nil
}

func (w *fakeWindows) addRoute(r winRoute) error {
	if err := w.change("add route %v via %v to %s", r.Dst, r.NextHop, w.name(r.LUID)); err != nil {
		return err
	}
	if w.find(r.LUID) == nil || w.stack[stackKey(r.LUID, r.Dst.Addr().Is6())].MTU == 0 {
		return errWinMissing
	}
	if slices.ContainsFunc(w.table, func(is winRoute) bool { return is.same(&r) }) {
		return errWinThere
	}
	w.table = append(w.table, r)
	return nil
}

func (w *fakeWindows) removeRoute(r winRoute) error {
	if err := w.change("remove route %v via %v from %s", r.Dst, r.NextHop, w.name(r.LUID)); err != nil {
		return err
	}
	before := len(w.table)
	w.table = slices.DeleteFunc(w.table, func(is winRoute) bool { return is.same(&r) })
	if len(w.table) == before {
		return errWinMissing
	}
	return nil
}

func (w *fakeWindows) setNames(luid uint64, ipv6 bool, servers []netip.Addr, search []string) error {
	if err := w.change("set names of %s %s: %s search %s", w.name(luid), ipName(ipv6), joined(servers, " "), strings.Join(search, " ")); err != nil {
		return err
	}
	l, path := w.find(luid), tcpip4Key
	if ipv6 {
		path = tcpip6Key
	}
	if l == nil || w.stack[stackKey(luid, ipv6)].MTU == 0 {
		return errWinMissing
	}
	list := strings.Join(search, ",")
	if w.respells && list != "" {
		list += ","
	}
	w.keys[path+l.GUID] = map[string]any{"NameServer": joined(servers, ","), "SearchList": list}
	return nil
}

func (w *fakeWindows) readKey(path string) (map[string]any, error) {
	values, ok := w.keys[path]
	if !ok {
		return nil, errWinMissing
	}
	return maps.Clone(values), nil
}

// writeKey can be interrupted before each value.
func (w *fakeWindows) writeKey(path string, values map[string]any) error {
	short := path[strings.LastIndex(path, `\`)+1:]
	if err := w.change("make key %s", short); err != nil {
		return err
	}
	if w.keys[path] == nil {
		w.keys[path] = map[string]any{}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := w.change("write %s %s = %v", short, name, values[name]); err != nil {
			return err
		}
		if values[name] == nil {
			delete(w.keys[path], name)
		} else {
			w.keys[path][name] = values[name]
		}
	}
	return nil
}

func (w *fakeWindows) removeKey(path string) error {
	if err := w.change("remove key %s", path[strings.LastIndex(path, `\`)+1:]); err != nil {
		return err
	}
	if _, there := w.keys[path]; !there {
		return errWinMissing
	}
	if below, _ := w.subkeys(path); len(below) > 0 {
		return errWinHasBelow
	}
	delete(w.keys, path)
	return nil
}

func (w *fakeWindows) subkeys(path string) ([]string, error) {
	var names []string
	_, there := w.keys[path]
	for key := range w.keys {
		if name, below := strings.CutPrefix(key, path+`\`); below {
			names = append(names, name)
		}
	}
	if names == nil && !there {
		return nil, errWinMissing
	}
	slices.Sort(names)
	return names, nil
}

// reloadNames is the DNS client's: it has what the registry has then.
func (w *fakeWindows) reloadNames() {
	_ = w.change("reload names")
	w.client = w.rules()
}

// rules are those of the registry, as the DNS client reads them.
func (w *fakeWindows) rules() map[string]string {
	rules := map[string]string{}
	all, _ := w.subkeys(nrptKey)
	for _, guid := range all {
		rule := w.keys[nrptKey+`\`+guid]
		if rule["Version"] != uint32(2) || rule["ConfigOptions"] != uint32(8) {
			continue // it heeds none that is half written, nor one of another kind
		}
		for _, domain := range rule["Name"].([]string) {
			rules[domain] = text(rule["GenericDNSServers"])
		}
	}
	return rules
}

func (w *fakeWindows) notify(f func()) (func(), error) {
	w.listeners = append(w.listeners, f)
	at := len(w.listeners) - 1
	return func() { w.listeners[at] = func() {} }, w.fail["notify"]
}

func (w *fakeWindows) notifyFilters(f func()) (func(), error) {
	if err := w.fail["notifyFilters"]; err != nil {
		return nil, err
	}
	w.removed = append(w.removed, f)
	at := len(w.removed) - 1
	return func() { w.removed[at] = func() {} }, nil
}

func (w *fakeWindows) notifyKeys(paths []string, f func()) (func(), error) {
	if err := w.fail["notifyKeys"]; err != nil {
		return nil, err
	}
	w.watched = append(w.watched, watchedKeys{paths, f})
	at := len(w.watched) - 1
	return func() { w.watched[at].paths = nil }, nil
}

// touch tells those who watch a key, or one above it, that it has changed.
func (w *fakeWindows) touch(path string) {
	for _, watch := range w.watched {
		if slices.ContainsFunc(watch.paths, func(above string) bool { return strings.HasPrefix(path, above+`\`) }) {
			watch.told()
		}
	}
}

// loseFilters is what another program does, or the engine's own end, of which nobody tells.
func (w *fakeWindows) loseFilters(told bool) {
	w.wfp = fakeFilters{}
	for _, f := range w.removed {
		if told {
			f()
		}
	}
}

func (w *fakeWindows) notifyPower(f func(bool)) (func(), error) {
	w.power = append(w.power, f)
	return func() {}, w.fail["notifyPower"]
}

// changed tells those who listen.
func (w *fakeWindows) changed() {
	for _, f := range w.listeners {
		f()
	}
}

// String is all that can be changed, without what an interface's registry key says when
// it says nothing.
func (w *fakeWindows) String() string {
	var lines []string
	for _, l := range w.ifs {
		for _, a := range l.Addresses {
			lines = append(lines, fmt.Sprintf("address %v dev %s", a, l.Name))
		}
		for _, ipv6 := range []bool{false, true} {
			if s := w.stack[stackKey(l.LUID, ipv6)]; s.MTU != 0 {
				lines = append(lines, fmt.Sprintf("stack %s %s %v", l.Name, ipName(ipv6), s))
			}
		}
	}
	for _, r := range w.table {
		lines = append(lines, fmt.Sprintf("route %v via %v dev %s metric %d", r.Dst, r.NextHop, w.name(r.LUID), r.Metric))
	}
	for path, values := range w.keys {
		for name, value := range values {
			if fmt.Sprint(value) != "" {
				lines = append(lines, fmt.Sprintf("key %s %s = %v", path, name, value))
			}
		}
	}
	lines = append(lines, w.wfp.String())
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// system is Windows with this network.
func (w *fakeWindows) system() winSystem {
	return winSystem{
		program: `C:\Program Files\Wayfarer\wayfarerd.exe`,
		links:   w.links, settings: w.settings, setSettings: w.setSettings,
		addAddress: w.addAddress, removeAddress: w.removeAddress,
		routes: w.routes, addRoute: w.addRoute, removeRoute: w.removeRoute,
		setNames: w.setNames, reloadNames: w.reloadNames,
		readKey: w.readKey, writeKey: w.writeKey, removeKey: w.removeKey, subkeys: w.subkeys,
		engine: w.engine,
		notify: w.notify, notifyFilters: w.notifyFilters, notifyKeys: w.notifyKeys, notifyPower: w.notifyPower,
		listen: w.listen, bind: w.bind,
	}
}

// listen opens a socket of the system that the test runs on.
func (w *fakeWindows) listen(ctx context.Context, gateway netip.Addr, port uint16, closed func()) (net.PacketConn, syscall.RawConn, error) {
	udp, err := listenUDP(ctx, gateway, port)
	if err != nil {
		return nil, nil, err
	}
	raw, err := udp.SyscallConn()
	return closing{udp, closed}, raw, err
}

type closing struct {
	*net.UDPConn
	closed func()
}

func (c closing) Close() error {
	c.closed()
	return c.UDPConn.Close()
}

func (w *fakeWindows) bind(_ syscall.RawConn, ipv6 bool, index uint32) error {
	w.sockets = append(w.sockets, fmt.Sprintf("%s by %d", ipName(ipv6), index))
	return w.fail["bind"]
}

// host is a computer with this network.
func (w *fakeWindows) host() *winHost {
	return &winHost{log: slog.New(slog.DiscardHandler), sys: w.system()}
}

// on is a Network on it, with a journal in dir.
func (w *fakeWindows) on(t *testing.T, dir string) *Network {
	t.Helper()
	return &Network{log: slog.New(slog.DiscardHandler), host: w.host(), sweeps: true, journal: testJournal(t, dir, "")}
}
