package platform

import (
	_ "embed"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linuxSelfTest is what a self-test tells where all of it works.
//
//go:embed testdata/selftest-linux.txt
var linuxSelfTest string

// TestSelfTest: in a namespace where all of it works, and in ones where something does
// not.
func TestSelfTest(t *testing.T) {
	var stray *netlink.Rule // comes up on the way
	for _, tt := range []struct {
		name  string
		spoil func(*testing.T, *linuxHost)
		want  string
	}{
		{"all", nil, linuxSelfTest},
		{"no firewall", func(_ *testing.T, h *linuxHost) {
			h.firewall = func() (firewallState, error) {
				return firewallState{}, os.NewSyscallError("netlink", unix.EPROTONOSUPPORT)
			}
		}, "guard against forged packets ok: the kernel has no nftables: "},
		{"no interface", func(t *testing.T, _ *linuxHost) {
			run(t, "delete", netlink.LinkDel(linkByName(t, "wayfarertest")))
		}, "address failed: address: interface wayfarertest: there is no such interface\nundo all of it ok\n"},
		{"something stays", func(t *testing.T, _ *linuxHost) {
			rule := netlink.NewRule()
			rule.Priority, rule.Table = 30000, routeTable
			stray = rule
		}, "undo all of it failed: the network is not as before: it was "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enterNamespace(t)
			addTUN(t, "wayfarertest")
			n, h := testNetwork(t)
			before := hostState(t)
			if stray = nil; tt.spoil != nil {
				tt.spoil(t, h)
			}
			got := selfTest(n, "wayfarertest", func(c Check) {
				if stray != nil && c.Name == "WINS servers" {
					run(t, "rule", netlink.RuleAdd(stray))
				}
			})
			if stray != nil {
				run(t, "rule", netlink.RuleDel(stray))
			}
			if got != tt.want && (tt.name == "all" || !strings.Contains(got, tt.want)) {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
			if after := hostState(t); after != before && tt.name != "no interface" {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
		})
	}
}

// TestTellsResolved: what systemd-resolved has of an interface is told, and of no other.
func TestTellsResolved(t *testing.T) {
	h := &linuxHost{root: t.TempDir(), bus: &fakeBus{
		asked: []resolvedServer{{Link: 4, Family: unix.AF_INET, Address: []byte{10, 1, 1, 1}}, {Link: 5, Family: unix.AF_INET, Address: []byte{10, 9, 9, 9}}, {Link: 4}},
		where: []resolvedDomain{{4, "corp.example", true}, {5, ".", true}},
	}}
	want := []string{"systemd-resolved: server 10.1.1.1", "systemd-resolved: domain corp.example only-route true"}
	if got := h.tellNames(t.Context(), 4); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
