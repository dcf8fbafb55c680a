package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// crashHost is a Linux host that stops right before its nth change is applied or undone.
type crashHost struct {
	*linuxHost
	left int
	stop func()
}

// crashChange is a change of a crashHost.
type crashChange struct {
	change
	host *crashHost
}

func (h *crashHost) plan(ctx context.Context, cfg Config, applied []change) ([]change, Report, error) {
	var inner []change
	for _, c := range applied {
		inner = append(inner, unwrap(c))
	}
	changes, report, err := h.linuxHost.plan(ctx, cfg, inner)
	for i, c := range changes {
		changes[i] = &crashChange{c, h}
	}
	return changes, report, err
}

func unwrap(c change) change {
	if c, ok := c.(*crashChange); ok {
		return c.change
	}
	return c
}

func (c *crashChange) inherit(older change)         { c.change.inherit(unwrap(older)) }
func (c *crashChange) MarshalJSON() ([]byte, error) { return json.Marshal(c.change) }

func (c *crashChange) apply(ctx context.Context) error {
	c.host.step()
	return c.change.apply(ctx)
}

func (c *crashChange) undo(ctx context.Context) error {
	c.host.step()
	return c.change.undo(ctx)
}

func (h *crashHost) step() {
	if h.left == 0 {
		h.stop()
	}
	h.left--
}

// life is what a process wishes in the course of its life.
func life(dns bool) []Config {
	full := fullTunnel
	moved := splitTunnel
	moved.Routes = append(prefixes("0.0.0.0/0"), splitTunnel.Routes[1:]...)
	moved.MTU = 1200
	if dns {
		full.DNS, full.SearchDomains, full.WINS = addrs("10.1.1.1"), []string{"corp.example"}, addrs("10.1.1.5")
		moved.DNS, moved.WINS = addrs("10.1.1.2"), addrs("10.1.1.6")
	}
	return []Config{
		{BlockOutside: true},
		{Tunnels: []Tunnel{full}, BlockOutside: true, AllowLocal: true},
		{Tunnels: []Tunnel{moved}}, // with IPv6 blocked
		{},
	}
}

func live(ctx context.Context, n *Network, dns bool) error {
	for _, cfg := range life(dns) {
		if err := n.Set(ctx, cfg); err != nil {
			return err
		}
	}
	return nil
}

// everything is the state of host and files, those of the journal aside.
func everything(t *testing.T, root string, bus *fakeBus) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(hostState(t))
	paths, err := filepath.Glob("/proc/sys/net/ipv4/conf/*/*")
	run(t, "sysctls", err)
	for _, path := range paths {
		if value, err := os.ReadFile(path); err == nil {
			fmt.Fprintf(&b, "%s = %s\n", path, strings.TrimSpace(string(value)))
		}
	}
	for line := range strings.Lines(describe(t, root)) {
		if !strings.HasPrefix(line, "/proc ") && !strings.Contains(line, lockFile) {
			b.WriteString(line)
		}
	}
	if bus != nil {
		fmt.Fprintf(&b, "resolved %v\n", bus.links)
	}
	return b.String()
}

// TestCrashedHost stops a process before each change to a real host, in a namespace
// and below a root, and lets another recover. The interface outlives the process, so
// nothing goes by itself.
func TestCrashedHost(t *testing.T) {
	for _, tt := range []struct {
		name, conf string
		resolved   bool
		recover    func(n *Network) error // nil: the control, which does not
	}{
		{name: "Recover", conf: "nameserver 192.0.2.9", recover: func(n *Network) error { return n.Recover(t.Context(), false) }},
		{name: "resolved", conf: "nameserver 127.0.0.53\n", resolved: true, recover: func(n *Network) error { return n.Set(t.Context(), Config{}) }},
		{name: "control", conf: "nameserver 192.0.2.9\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			differences, after := 0, 0
			for crashed := true; crashed; after++ {
				t.Run(strconv.Itoa(after), func(t *testing.T) {
					enterNamespace(t)
					addTUN(t, "wayfarer0")
					run(t, "rp_filter", os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0))
					n, h := testNetwork(t)
					bus := &fakeBus{silent: !tt.resolved, links: map[int32]bool{}}
					h.bus = bus
					run(t, "resolv.conf", os.WriteFile(filepath.Join(h.root, "etc/resolv.conf"), []byte(tt.conf), 0o640))
					before := everything(t, h.root, bus)
					n.host = &crashHost{h, after, func() { panic(stopped{}) }}
					crashed = stops(t, func() error { return live(t.Context(), n, true) })
					n.journal.close()
					n.host = h // for the test's end
					next, nextHost, err := networkBelow(h.root)
					run(t, "open", err)
					nextHost.bus = bus
					n.journal = next.journal
					if tt.recover != nil {
						run(t, "recover", tt.recover(next))
					}
					if state := everything(t, h.root, bus); state != before {
						if differences++; tt.recover != nil {
							t.Errorf("gone\n%s\nnew\n%s", added(state, before), added(before, state))
						}
					}
					n.applied = nil
				})
			}
			if after < 30 || tt.recover == nil && differences < 25 {
				t.Errorf("%d crashes, %d differences", after, differences)
			}
		})
	}
}

// TestAnotherInterface: an interface that has got a dead tunnel's index is not touched,
// although it looks as the tunnel did.
func TestAnotherInterface(t *testing.T) {
	enterNamespace(t)
	const index = 500
	add := func(name string) netlink.Link {
		run(t, name, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, Index: index}, PeerName: "far"}))
		run(t, "far", netlink.LinkSetUp(linkByName(t, "far")))
		return linkByName(t, name)
	}
	ours := add("wayfarer0")
	n, h := testNetwork(t)
	bus := &fakeBus{links: map[int32]bool{}}
	h.bus = bus
	writeAt(t, h.root, "etc/resolv.conf", "nameserver 127.0.0.53\n", 0o644)
	tunnel := splitTunnel
	tunnel.DNS = addrs("10.1.1.1")
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}}))
	n.journal.close() // killed
	n.applied = nil
	run(t, "remove", netlink.LinkDel(ours))
	other := add("other")
	run(t, "MTU", netlink.LinkSetMTU(other, tunnel.MTU))
	run(t, "address", netlink.AddrAdd(other, &netlink.Addr{IPNet: ipNet(tunnel.Addresses[0])}))
	run(t, "up", netlink.LinkSetUp(other))
	settle(t)
	want := hostState(t)
	next, nextHost, err := networkBelow(h.root)
	run(t, "open", err)
	nextHost.bus = bus
	n.journal = next.journal
	run(t, "Recover", next.Recover(t.Context(), false))
	var rest []string
	for line := range strings.Lines(want) { // what is ours, by its names
		if !strings.Contains(line, "proto 119") && !strings.Contains(line, "wayfarer") {
			rest = append(rest, line)
		}
	}
	if state := hostState(t); state != strings.Join(rest, "") || !bus.links[index] {
		t.Errorf("the host is\n%s\nand not\n%s", state, strings.Join(rest, ""))
	}
}

const crashEnv = "WAYFARER_TEST_CRASH" // "after root" of TestKilledChild

// TestKilledChild is not a test but the process that TestKilled kills.
func TestKilledChild(t *testing.T) {
	var after int
	var root string
	if _, err := fmt.Sscan(os.Getenv(crashEnv), &after, &root); err != nil {
		t.Skip("it is TestKilled that runs this")
	}
	n, h, err := networkFor(root)
	run(t, "open", err)
	addTUN(t, "wayfarer0")
	n.host = &crashHost{h, after, func() { unix.Kill(os.Getpid(), unix.SIGKILL) }}
	run(t, "live", live(t.Context(), n, root != "/"))
	run(t, "close", n.Close())
}

// networkFor is the real Network for "/", with a journal where the test wants it.
func networkFor(root string) (*Network, *linuxHost, error) {
	if root != "/" {
		return networkBelow(root)
	}
	n, err := New(slog.New(slog.DiscardHandler), os.Getenv(crashEnv+"_STATE"))
	if err != nil {
		return nil, nil, err
	}
	return n, n.host.(*linuxHost), nil
}

// TestKilled kills a process, with its interface, before each of its changes.
func TestKilled(t *testing.T) {
	for _, tt := range []struct {
		name string
		real bool // files below /, which DNS therefore is no part of
	}{{"Recover", false}, {"Restore", true}} {
		t.Run(tt.name, func(t *testing.T) {
			enterNamespace(t)
			run(t, "rp_filter", os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0))
			addTUN(t, "wayfarer0").Close() // a first interface leaves marks on the namespace
			root, state := t.TempDir(), t.TempDir()
			run(t, "etc", os.Mkdir(filepath.Join(root, "etc"), 0o755))
			run(t, "proc", os.Symlink("/proc", filepath.Join(root, "proc")))
			run(t, "resolv.conf", os.WriteFile(filepath.Join(root, "etc/resolv.conf"), []byte("nameserver 192.0.2.9\n"), 0o640))
			n, _, err := networkBelow(root)
			run(t, "open", err)
			run(t, "close", n.Close()) // makes the folder
			before := everything(t, root, nil)
			kills := 0
			for ; ; kills++ {
				child := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
				where := root
				if tt.real {
					where = "/"
				}
				child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", crashEnv, kills, where), crashEnv+"_STATE="+state)
				out, err := child.CombinedOutput()
				if err == nil {
					break
				}
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != -1 {
					t.Fatalf("%v:\n%s", err, out)
				}
				if tt.real {
					run(t, "Restore", Restore(t.Context(), state))
				} else {
					n, _, err := networkBelow(root)
					run(t, "open", err)
					run(t, "Recover", n.Recover(t.Context(), false))
					run(t, "close", n.Close())
				}
				if after := everything(t, root, nil); after != before {
					t.Errorf("killed before change %d: gone\n%s\nnew\n%s", kills, added(after, before), added(before, after))
				}
			}
			if kills < 25 {
				t.Errorf("only %d changes", kills)
			}
		})
	}
}
