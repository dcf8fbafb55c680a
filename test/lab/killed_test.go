//go:build lab && linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wayfarer/app"
)

// exhaustive asks for every combination of what a test otherwise takes in turns.
func exhaustive() bool { return os.Getenv("EXHAUSTIVE") != "" }

// filesMark divides what hostScript prints.
const filesMark = "# files of the service\n"

// hostScript prints all that a service may change about a host, as text to compare: what
// the kernel has, resolv.conf with its owner and what has been put beside it, and then
// the service's own files, but for those that it keeps.
const hostScript = `
exec 2>&1
ip -o link show
ip -o addr show
ip -4 route show table all
ip -6 route show table all
ip -4 rule show
ip -6 rule show
nft list ruleset
grep -rs '' /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward
cd /etc
find . -maxdepth 1 \( -name resolv.conf -o -name provider.conf -o -name '*wayfarer*' \) -printf '%p %y %m %U %G %s %l\n' | sort
cat resolv.conf
echo '` + "# files of the service" + `'
cd /run/wayfarer
find . -type f ! -name network.lock -printf '%p %m %U %G\n' -exec cat {} + | sort
`

func hostState(t *testing.T, ns string) string {
	t.Helper()
	return mustInside(t, ns, "sh", "-c", hostScript)
}

// withoutFiles is the part of a state that is not the service's own.
func withoutFiles(state string) string {
	host, _, _ := strings.Cut(state, filesMark)
	return host
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

// lives are what a service does between its start and its end. They go on as far as the
// service lives.
var lives = []struct {
	name    string
	prepare string // the host, in /etc
	chain   string // of the firewall: it stands until somebody undoes it
	live    func(h *host, t *testing.T)
}{
	{
		"full tunnel, block, reconnect", "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter", "output",
		func(h *host, t *testing.T) {
			_ = h.tries(t, "full", "--block-outside") && h.loses(t, "full") && h.wayfarer("disconnect").exit == 0
		},
	},
	{
		"full tunnel, IPv6 blocked, local network", "mv resolv.conf provider.conf; ln -s provider.conf resolv.conf", "output",
		func(h *host, t *testing.T) {
			_ = h.tries(t, "full", "--local-network") && h.wayfarer("disconnect").exit == 0
		},
	},
	{
		"two split tunnels", "chmod 604 resolv.conf; chown 1234:5678 resolv.conf", "guard",
		func(h *host, t *testing.T) {
			_ = h.tries(t, "hybrid") && h.tries(t, "other") && h.wayfarer("disconnect").exit == 0
		},
	},
}

// tries connects, and says whether it worked.
func (h *host) tries(t *testing.T, name string, more ...string) bool {
	t.Helper()
	p := loadProfile(t, name)
	return h.connect(t, p, p["USER"], p["PASSWORD"], more...).exit == 0
}

// loses has the gateway end the connection, and says whether it has come back.
func (h *host) loses(t *testing.T, name string) bool {
	t.Helper()
	r := h.wayfarer("status", "--json")
	mustLab(t, "gw", "delete-ike", "gw", name)
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		now := h.wayfarer("status", "--json")
		if now.exit != 0 {
			return false
		}
		if strings.Contains(now.stdout, `"state":"`+string(app.StateConnected)) && sinceOf(now.stdout) != sinceOf(r.stdout) {
			return true
		}
	}
	t.Error("the connection has not come back")
	return false
}

func sinceOf(status string) string {
	_, rest, _ := strings.Cut(status, `"since":"`)
	since, _, _ := strings.Cut(rest, `"`)
	return since
}

// ways are who is killed, and what undoes then what is left.
var ways = []struct {
	victim  string
	recover func(h *host, t *testing.T)
}{
	{killService, startAgain},
	{killRoot, restoreNetwork},
	{killService, restoreNetwork},
	{killRoot, startAgain},
}

func startAgain(h *host, t *testing.T) {
	h.launch("debug")
	if left := h.status(t).Connections; len(left) != 0 {
		t.Errorf("a service that was started again has connections: %+v", left)
	}
}

func restoreNetwork(h *host, t *testing.T) {
	if r := h.wayfarer("restore-network", "--state-dir", "/run/wayfarer/state"); r.exit != 0 {
		t.Errorf("restore-network: exit %d\n%s", r.exit, r.stderr)
	}
}

// TestKilled kills the service after each change that it makes to the host, journals
// included; its root process with it, or alone. It is started again, or restore-network
// is run, and the host is as it was before. The control is the host before that: mostly
// something is left, the firewall at least from its first change to the last. By default
// the ways take turns, with EXHAUSTIVE each is gone after each change.
func TestKilled(t *testing.T) {
	for _, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			h := start(t, "rw", "debug")
			t.Cleanup(func() { mustInside(t, h.ns, "sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter") })
			serviceUser(t, h.ns)
			mustInside(t, h.ns, "sh", "-c", "cd /etc; "+life.prepare)
			before, all := h.uneventful(t, life.live)
			firewall := count(all, firewallChange)
			if firewall < 2 {
				t.Fatalf("the firewall was not changed twice:\n%s", strings.Join(all, "\n"))
			}
			kills, left := 0, 0
			for n, over := 1, false; !over; n++ {
				for i, way := range ways {
					if !exhaustive() && i != n%len(ways) {
						continue
					}
					points := h.killAfter(t, way.victim, n, life.live)
					if over = len(points) < n; over {
						break // it makes no more
					}
					kills++
					kill := fmt.Sprintf("%s killed after change %d (%s)", way.victim, n, points[n-1])
					state := hostState(t, h.ns)
					if withoutFiles(state) != withoutFiles(before) {
						left++
					}
					if f := count(points[:n], firewallChange); 0 < f && f < firewall && !strings.Contains(state, "chain "+life.chain) {
						t.Errorf("%s: the firewall's chain %s is gone", kill, life.chain)
					}
					way.recover(h, t)
					if diff := differences(before, hostState(t, h.ns)); diff != "" {
						t.Fatalf("%s: the host is not as it was:\n%s", kill, diff)
					}
				}
			}
			if left < kills/2 {
				t.Errorf("killed %d times, and only %d times something was left: the comparison sees too little", kills, left)
			}
			t.Logf("killed %d times, %d times with something left on the host, after\n%s", kills, left, strings.Join(all, "\n"))
		})
	}
}

const firewallChange = "service: nftables"

func count(list []string, what string) int {
	n := 0
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// uneventful lets a service live and end, and returns what the host was like before, and
// what was changed.
func (h *host) uneventful(t *testing.T, live func(*host, *testing.T)) (before string, points []string) {
	t.Helper()
	h.stop() // it was started without the user
	h.launch("debug")
	h.status(t)
	before = hostState(t, h.ns)
	tr := trace(t, h, killRoot, 0)
	live(h, t)
	h.stop()
	if diff := differences(before, hostState(t, h.ns)); diff != "" {
		t.Fatalf("without being killed the service has left:\n%s", diff)
	}
	return before, tr.wait()
}

// killAfter lets a service live, but not beyond its nth change, and returns what it has
// changed: less than n if the service had come to its end.
func (h *host) killAfter(t *testing.T, victim string, n int, live func(*host, *testing.T)) []string {
	t.Helper()
	if h.service == nil {
		h.launch("debug")
		h.status(t) // by now it runs, and not only its root process
	}
	tr := trace(t, h, victim, n)
	live(h, t)
	h.service.Process.Signal(syscall.SIGTERM) // if it lives: the last changes are those of the end
	err := h.service.Wait()
	h.service = nil
	points := tr.wait()
	if killed := len(points) >= n; (err != nil) != killed && n < len(points) {
		t.Errorf("the service ended with %v after %d changes, to be killed after %d", err, len(points), n)
	}
	return points
}
