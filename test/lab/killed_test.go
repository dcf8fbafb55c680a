//go:build lab && linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exhaustive asks for every combination of what a test otherwise takes in turns.
func exhaustive() bool { return os.Getenv("EXHAUSTIVE") != "" }

// hostScript prints all that a service may change about a host, as text to compare: what
// the kernel has, resolv.conf with its owner and what else has been put beside it, and
// the service's files, the lock and its own directory aside.
const hostScript = `
exec 2>&1
ip -o link show
ip -o addr show
ip -4 route show table all
ip -6 route show table all
ip -4 rule show
ip -6 rule show
nft list ruleset
cd /etc
ls -ALdn resolv.conf | cut -d' ' -f1-4
stat -c '%N %F %a %u %g %s' resolv.conf .*wayfarer* 2>/dev/null
cat resolv.conf
grep -rs '' /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward
cd /run/wayfarer/state
find . -type f ! -name network.lock -printf '%p %m %U %G\n' -exec cat {} +
`

func hostState(t *testing.T, ns string) string {
	t.Helper()
	return mustInside(t, ns, "sh", "-c", hostScript)
}

// serviceUser makes the user as whom the service runs known in a namespace, for the
// length of the test.
func serviceUser(t *testing.T, ns string) {
	t.Helper()
	for name, line := range map[string]string{
		"passwd": "wayfarer:x:61234:61234::/:/bin/false\n",
		"group":  "wayfarer:x:61234:\n",
	} {
		path := filepath.Join(stateDir, "ns", ns, "etc", name)
		before, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, append([]byte(line), before...), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.WriteFile(path, before, 0o644) })
	}
}

// gone waits for the end of a service that was killed.
func (h *host) gone(t *testing.T) {
	t.Helper()
	if err := h.service.Wait(); err == nil {
		t.Error("a service that was killed ended with 0")
	}
	h.service = nil
}

// names are the ways in which resolv.conf may stand there.
var resolvConfs = map[string]string{
	"root's":  "",
	"symlink": "mv resolv.conf provider.conf && ln -s provider.conf resolv.conf",
	"other's": "chmod 604 resolv.conf && chown 1234:5678 resolv.conf",
}

// lives are what a service does between its start and its end, kind by kind of what it
// changes of the host.
var lives = []struct {
	name, profile, resolvConf string
	flags                     []string
	live                      func(h *host, t *testing.T, p profile)
}{
	{"full tunnel with a block", "full", "root's", []string{"--block-outside"}, func(h *host, t *testing.T, p profile) {
		if h.connect(t, p, p["USER"], p["PASSWORD"], "--block-outside").exit == 0 {
			h.wayfarer("disconnect")
		}
	}},
}

// TestKilled kills the service after each change that it makes to the host, journals
// included, and starts it again, or runs restore-network: the host is as it was before.
// What is seen of the host without either is the control.
func TestKilled(t *testing.T) {
	for _, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			h := start(t, "rw", "debug")
			h.stop()
			h.service = nil
			p := loadProfile(t, life.profile)
			serviceUser(t, h.ns)
			before := hostState(t, h.ns)
			for n := 1; ; n++ {
				began := time.Now()
				h.launch("debug")
				tr := trace(t, h, killService, 0)
				life.live(h, t, p)
				serviceUserDummy(h)
				points := tr.wait()
				fmt.Println(time.Since(began), len(points), strings.Join(points, "\n"))
				fmt.Println(differences(before, hostState(t, h.ns)))
				break
			}
		})
	}
}
func serviceUserDummy(h *host) { h.service.Process.Signal(os.Interrupt) }
