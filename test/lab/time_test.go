//go:build lab && linux

package lab

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var connectTime = flag.Bool("connect-time", false, "measure the time to connect")

// TestConnectTime prints a table and asserts nothing: how long wayfarer connect takes
// from its start to its end, and charon-cmd from its start to the line that says
// that the tunnel is there; ten times each, in turn, in the same lab.
func TestConnectTime(t *testing.T) {
	need(t)
	if !*connectTime {
		t.Skip("a measurement, for an idle machine: make lab-connect-time")
	}
	const runs = 10
	var table strings.Builder
	row := func(cells ...any) { fmt.Fprintf(&table, "%-12s %-22s %s\n", cells...) }
	row("profile", "wayfarer (max)", "charon-cmd (max)")
	var wrapper []time.Duration
	for range runs {
		began := time.Now()
		mustInside(t, "rw", "true")
		wrapper = append(wrapper, time.Since(began))
	}
	for _, name := range []string{"hybrid", "hybrid-am", "ecp", "legacy"} {
		t.Run(name, func(t *testing.T) {
			p := loadProfile(t, name)
			mustLab(t, "connect", name) // writes charon-cmd's configuration
			h := start(t, "rw", "info")
			var ours, theirs []time.Duration
			for range runs {
				began := time.Now()
				r := h.connect(t, p, p["USER"], p["PASSWORD"])
				ours = append(ours, time.Since(began))
				if r.exit != 0 {
					t.Fatalf("connect: exit %d\n%s", r.exit, r.stderr)
				}
				h.down(t)
				theirs = append(theirs, charonCmd(t, h.ns, p))
			}
			row(name, summary(ours), summary(theirs))
		})
	}
	t.Logf("median of %d, and in each the time to enter the namespace, %s:\n%s", runs, summary(wrapper), table.String())
}

func summary(d []time.Duration) string {
	slices.Sort(d)
	median := (d[len(d)/2-1] + d[len(d)/2]) / 2
	ms := func(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }
	return ms(median) + " (" + ms(d[len(d)-1]) + ")"
}

var established = regexp.MustCompile(`CHILD_SA \S+ established`)

// charonCmd connects once and tells how long that took.
func charonCmd(t *testing.T, ns string, p profile) time.Duration {
	t.Helper()
	mode := map[string]string{"main": "ikev1-hybrid", "aggr": "ikev1-hybrid-am"}[p["MODE"]]
	cmd := exec.Command(script, "exec", ns, "env", "STRONGSWAN_CONF=/run/strongswan/strongswan.conf",
		"charon-cmd", "--host", p["GATEWAY"], "--remote-identity", p["REMOTE_ID"], "--cert", p["CA"],
		"--ike-proposal", p["IKE_PROPOSAL"], "--esp-proposal", p["ESP_PROPOSAL"],
		"--identity", p["USER"], "--xauth-username", p["USER"], "--profile", mode)
	cmd.Stdin = strings.NewReader(p["PASSWORD"] + "\n")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal to ask on
	log := filepath.Join(stateDir, "ns", ns, "run/strongswan/client.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	for took == 0 {
		time.Sleep(time.Millisecond)
		text, err := os.ReadFile(log)
		switch d := time.Since(began); {
		case err == nil && established.Match(text):
			took = d
		case d > 20*time.Second:
			t.Errorf("charon-cmd did not connect:\n%s", text)
			took = d
		}
	}
	time.Sleep(200 * time.Millisecond) // it may hang when it is ended earlier
	cmd.Process.Signal(syscall.SIGTERM)
	stuck := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
	cmd.Wait()
	if !stuck.Stop() {
		mustLab(t, "disconnect", "-n", ns) // removes what it has left behind
	}
	return took
}
