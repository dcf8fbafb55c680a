//go:build lab && linux

package lab

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// traffic is a ping through the tunnel, five times a second, until it is stopped.
type traffic struct {
	cmd *exec.Cmd
	out strings.Builder
}

func startTraffic(t *testing.T, ns, addr string) *traffic {
	t.Helper()
	tr := &traffic{cmd: exec.Command(script, "exec", ns, "ping", "-n", "-i", "0.2", addr)}
	tr.cmd.Stdout, tr.cmd.Stderr = &tr.out, &tr.out
	if err := tr.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return tr
}

var pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// stop ends the ping and tells how many were sent and lost; the last may still be
// on its way and is not counted.
func (tr *traffic) stop(t *testing.T) (sent, lost int) {
	t.Helper()
	tr.cmd.Process.Signal(syscall.SIGINT)
	tr.cmd.Wait()
	m := pingSummary.FindStringSubmatch(tr.out.String())
	if m == nil {
		t.Fatalf("ping: %s", tr.out.String())
	}
	sent, _ = strconv.Atoi(m[1])
	received, _ := strconv.Atoi(m[2])
	if lost = sent - received; lost == 1 && !strings.Contains(tr.out.String(), "icmp_seq="+m[1]+" ") {
		lost = 0
	}
	return sent, lost
}

// The gateway renews its ESP SAs every 15 s: the connection stays up over at least
// three of its Quick Modes, and no packet is lost. Meanwhile a second client stays
// connected to a gateway that ends its ISAKMP SA after a minute, across the
// reauthentication that takes.
func TestRekeying(t *testing.T) {
	need(t)
	for _, tc := range []struct {
		name, ns string
		length   time.Duration
		rekeyed  string // by the profile's name in the gateway's log
	}{
		{"rekey", "rw", 62 * time.Second, `<rekey\|\d+> CHILD_SA net\{\d+\} established`},
		{"ikelife", "rw2", 130 * time.Second, `<ikelife\|\d+> IKE_SA ikelife\[\d+\] established`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, tc.ns, "debug")
			p := loadProfile(t, tc.name)
			log := len(gatewayLog(t))
			before := network(t, h.ns)
			began := h.up(t, p)
			tr := startTraffic(t, h.ns, "10.10.0.2")
			time.Sleep(tc.length)
			sent, lost := tr.stop(t)
			t.Logf("%d pings, %d lost", sent, lost)
			if sent < int(tc.length.Seconds()*4) || lost != 0 {
				t.Errorf("%d of %d pings lost", lost, sent)
			}
			c := h.connection(t)
			if !c.Since.Equal(*began.Since) || c.Addresses[0] != began.Addresses[0] {
				t.Errorf("connected since %v with %v, at first since %v with %v", c.Since, c.Addresses, began.Since, began.Addresses)
			}
			n := len(regexp.MustCompile(tc.rekeyed).FindAllString(gatewayLog(t)[log:], -1)) - 1
			switch tc.name {
			case "rekey":
				if n < 3 || c.ESP[0].Rekeys != n || c.IKE.Rekeys != 0 {
					t.Errorf("%d Quick Modes of the gateway, status: %d", n, c.ESP[0].Rekeys)
				}
			case "ikelife":
				if n < 1 || c.IKE.Rekeys != n {
					t.Errorf("%d reauthentications, status: %d", n, c.IKE.Rekeys)
				}
			}
			h.checkGateway(t, p)
			h.down(t)
			restored(t, h.ns, before)
		})
	}
}
