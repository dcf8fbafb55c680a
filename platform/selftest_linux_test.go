package platform

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestSelfTest: in a namespace where all of it works, and in ones where something does
// not.
func TestSelfTest(t *testing.T) {
	const all = "address ok\nroute and rule ok\nIPv6 address, route and rule ok\nguard against forged packets ok\n" +
		"name servers ok: file\nWINS servers ok\nblock of all other traffic ok\nundo all of it ok\n"
	var stray *netlink.Rule // comes up on the way
	for _, tt := range []struct {
		name  string
		spoil func(*testing.T, *linuxHost)
		want  string
	}{
		{"all", nil, all},
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
			var got strings.Builder
			if stray = nil; tt.spoil != nil {
				tt.spoil(t, h)
			}
			n.SelfTest(context.Background(), "wayfarertest", 1280, func(c Check) {
				got.WriteString(c.Name)
				switch {
				case c.Err != nil:
					got.WriteString(" failed: " + c.Err.Error())
				case c.Answer != "":
					got.WriteString(" ok: " + c.Answer)
				default:
					got.WriteString(" ok")
				}
				got.WriteString("\n")
				if stray != nil && c.Name == "WINS servers" {
					run(t, "rule", netlink.RuleAdd(stray))
				}
			})
			if stray != nil {
				run(t, "rule", netlink.RuleDel(stray))
			}
			if !strings.Contains(got.String(), tt.want) {
				t.Errorf("got\n%swant\n%s", got.String(), tt.want)
			}
			if after := hostState(t); after != before && tt.name != "no interface" {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
		})
	}
}
