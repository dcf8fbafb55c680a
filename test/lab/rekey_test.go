//go:build lab && linux

package lab

import (
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wayfarer/app"
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

// stay connects, lets a ping run while the test waits, and checks that the connection
// has not been interrupted, and how many pings were lost at most.
func stay(t *testing.T, ns, name, login string, mayLose int, wait func(h *host, events func() string)) {
	h := start(t, ns, "debug")
	p := loadProfile(t, name)
	p["USER"], p["PASSWORD"] = login, users(t)[login]
	from := len(gatewayLog(t))
	before := network(t, h.ns)
	began := h.up(t, p)
	tr := startTraffic(t, h.ns, "10.10.0.2")
	wait(h, func() string { return gatewayLog(t)[from:] })
	h.ping(t, "10.10.0.2")
	sent, lost := tr.stop(t)
	t.Logf("%d pings, %d lost", sent, lost)
	if lost > mayLose {
		t.Errorf("%d of %d pings lost, want at most %d", lost, sent, mayLose)
	}
	c := h.connection(t)
	if !c.Since.Equal(*began.Since) || c.Addresses[0] != began.Addresses[0] {
		t.Errorf("connected since %v with %v, at first since %v with %v", c.Since, c.Addresses, began.Since, began.Addresses)
	}
	h.checkGateway(t, p)
	h.down(t)
	restored(t, h.ns, before)
}

func newest(esp []app.ESP) app.ESP {
	return slices.MaxFunc(esp, func(a, b app.ESP) int { return a.Rekeys - b.Rekeys })
}

// The gateway renews its ESP SAs every 15 s: the connection stays up over three of
// its Quick Modes, and no packet is lost.
func TestRekey(t *testing.T) {
	need(t)
	t.Parallel()
	stay(t, "rw", "rekey", "alice", 0, func(h *host, events func() string) {
		eventually(t, 150*time.Second, "the gateway has begun three Quick Modes", func() bool {
			return len(gatewayQuickMode.FindAllString(events(), -1)) >= 3
		})
		time.Sleep(2 * time.Second)
		made := len(childEstablished.FindAllString(events(), -1))
		if c := h.connection(t); newest(c.ESP).Rekeys != made-1 || c.IKE.Rekeys != 0 {
			t.Errorf("the gateway has made %d ESP SAs; status: %d renewed", made, newest(c.ESP).Rekeys)
		}
		if made > 15 {
			t.Errorf("%d ESP SAs for three Quick Modes of the gateway", made)
		}
	})
}

var (
	gatewayQuickMode  = regexp.MustCompile(`<rekey\|\d+> queueing QUICK_MODE task`)
	childEstablished  = regexp.MustCompile(`<rekey\|\d+> CHILD_SA net\{\d+\} established`)
	phase1Established = regexp.MustCompile(`<ikelife\|\d+> IKE_SA ikelife\[\d+\] established`)
)

// A gateway that drops traffic once its ISAKMP SA is a minute old, without having
// announced that: the connection stays up across reauthentications for 130 s. What
// it takes to notice the first time, and only that, may be lost: 8 s.
func TestReauthentication(t *testing.T) {
	need(t)
	t.Parallel()
	stay(t, "rw2", "ikelife", "bob", 8*5, func(h *host, events func() string) {
		time.Sleep(130 * time.Second)
		made := len(phase1Established.FindAllString(events(), -1))
		if c := h.connection(t); made < 2 || c.IKE.Rekeys != made-1 {
			t.Errorf("the gateway has made %d ISAKMP SAs; status: %d renewed", made, c.IKE.Rekeys)
		}
	})
}
