//go:build lab && linux

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"wayfarer/app"
)

// outside records what a client sends by its link, until the returned function is
// called, which gives the file.
func outside(t *testing.T, ns string) (stop func() string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "outside.pcap")
	// The client's own side: what it receives is not asked for.
	cmd := exec.Command(script, "exec", ns, "tcpdump", "-i", outsideLink, "-Q", "out", "--immediate-mode", "-U", "-s0", "-Z", "root", "-w", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running := true
	stop = func() string {
		if running {
			running = false
			cmd.Process.Signal(syscall.SIGINT)
			cmd.Wait()
		}
		return file
	}
	t.Cleanup(func() { stop() })
	eventually(t, 10*time.Second, "tcpdump captures", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > 0
	})
	return stop
}

// captured are those packets of a capture that match a filter, a line each, with their time.
func captured(t *testing.T, file, filter string) []string {
	t.Helper()
	cmd := exec.Command("tcpdump", "-r", file, "-nn", "-tt", filter)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// permitted is what may leave beside IKE and ESP: ARP, neighbour discovery and its
// multicast reports, DHCP. In a filter "and" binds no closer than "or".
const permitted = "arp or (icmp6[0] >= 133 and icmp6[0] <= 136) or (ip6[6] == 0 and ip6[40] == 58 and ip6[48] == 143)" +
	" or (udp src port 68 and dst port 67) or (udp src port 546 and dst port 547)"

// ownLookups are names that the service itself looks up past the tunnel: the gateway's,
// and while that does not answer those of the pages that a captive portal would replace.
var ownLookups = regexp.MustCompile(`> 203\.0\.113\.53\.53: .* A{1,4}\? (gw\.lab\.test|detectportal\.firefox\.com|connectivitycheck\.gstatic\.com)\. `)

// leaks are the packets of a capture that are neither permitted nor the tunnel's, from
// the first one to the gateway on.
func leaks(t *testing.T, file, gateway string) []string {
	t.Helper()
	tunnel := "dst host " + gateway + " and (udp dst port 500 or udp dst port 4500 or ip proto 50)"
	own := captured(t, file, tunnel)
	if len(own) == 0 {
		t.Fatal("the capture has nothing for the gateway")
	}
	var found []string
	for _, p := range captured(t, file, fmt.Sprintf("not (%s) and not (%s)", tunnel, permitted)) {
		if p >= own[0] && !ownLookups.MatchString(p) { // the times have the same length
			found = append(found, p)
		}
	}
	return found
}

// kinds are what the generator's packets look like outside.
var kinds = map[string]string{
	"UDP to the Internet":            "udp dst port 9999 and dst host 203.0.113.80",
	"UDP of an old socket":           "udp dst port 9998 and dst host 203.0.113.80",
	"UDP to the company":             "udp dst port 9999 and dst host 10.10.0.2",
	"UDP over IPv6":                  "udp dst port 9999 and dst host 2001:db8:80::80",
	"UDP over IPv6 of an old socket": "udp dst port 9998 and dst host 2001:db8:80::80",
	"broadcast":                      "dst host 255.255.255.255 and udp dst port 9999",
	"multicast":                      "dst host 224.0.0.251",
	"multicast over IPv6":            "dst host ff02::fb",
	"TCP to the Internet":            "tcp dst port 80 and dst host 203.0.113.80",
	"TCP to the company":             "tcp dst port 80 and dst host 10.10.0.2",
	"TCP over IPv6":                  "tcp dst port 80 and dst host 2001:db8:80::80",
	"ping to the Internet":           "icmp[0] == 8 and dst host 203.0.113.80",
	"ping over IPv6":                 "icmp6[0] == 128 and dst host 2001:db8:80::80",
	"DNS":                            "udp dst port 53 and dst host 203.0.113.53",
	"what is forwarded":              "src host 10.55.0.2",
}

// seeLeaks checks that every kind of the generator's packets has left.
func seeLeaks(t *testing.T, file, when string) {
	t.Helper()
	for name, filter := range kinds {
		if len(captured(t, file, filter)) == 0 {
			t.Errorf("%s: %s was to be seen outside, and is not", when, name)
		}
	}
}

// startGenerators has a client send, and a computer behind it, for the length of the test.
func startGenerators(t *testing.T, ns string) {
	t.Helper()
	mustLab(t, "office", ns)
	t.Cleanup(func() { mustLab(t, "office", "down") })
	startGenerator(t, ns, "all")
	startGenerator(t, "branch", "all")
}

// hardships are what happens to a connection while the generator runs: rekeying, a
// gateway that is gone and comes back, and at last the service is killed.
func (h *host) hardships(t *testing.T) {
	t.Helper()
	time.Sleep(time.Second)
	mustLab(t, "gw", "rekey-child")
	time.Sleep(time.Second)
	mustLab(t, "gw", "kill")
	h.until(t, 60*time.Second, app.StateBlocked, app.StateReconnecting)
	time.Sleep(3 * time.Second)
	mustLab(t, "gw", "start")
	h.until(t, 90*time.Second, app.StateConnected)
	time.Sleep(time.Second)
}

// until waits for one of the states.
func (h *host) until(t *testing.T, d time.Duration, states ...app.State) {
	t.Helper()
	eventually(t, d, fmt.Sprintf("the connection is %v", states), func() bool {
		for _, c := range h.status(t).Connections {
			for _, s := range states {
				if c.State == s {
					return true
				}
			}
		}
		return false
	})
}

// kill kills the service, both processes, and lets the generator go on.
func (h *host) kill(t *testing.T) {
	t.Helper()
	h.service.Process.Kill()
	h.service.Wait()
	h.service = nil
	time.Sleep(2 * time.Second)
}

// TestNoPacketOutside: with --block-outside nothing leaves but what is the tunnel's, from
// the first packet to the gateway to the next start of a service that was killed. Then
// everything does, which shows that the generator had not rested; and without the option
// it does all the time, which shows that it is seen.
func TestNoPacketOutside(t *testing.T) {
	for _, tc := range []struct {
		name, profile string
		flags         []string
		blocked       bool
	}{
		{"full tunnel", "full", []string{"--block-outside"}, true},
		{"split tunnel, gateway by name", "hybrid", []string{"--block-outside", "--gateway", "gw.lab.test"}, true},
		{"gateway over IPv6", "hybrid6", []string{"--block-outside"}, true},
		{"control", "hybrid", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			serviceUser(t, "rw2")
			h := start(t, "rw2", "debug")
			t.Cleanup(func() { mustLab(t, "gw", "start") })
			p := loadProfile(t, tc.profile)
			startGenerators(t, h.ns)
			stop := outside(t, h.ns)
			time.Sleep(time.Second) // let it be seen before
			h.up(t, p, tc.flags...)
			if tc.blocked {
				seeLeaks(t, stop(), "before the connection")
				stop = outside(t, h.ns)
			}
			h.hardships(t)
			h.kill(t)
			file := stop()
			if !tc.blocked {
				seeLeaks(t, file, "without a block")
				if len(leaks(t, file, p["GATEWAY"])) == 0 {
					t.Error("the control shows no leak")
				}
				return
			}
			checkNoLeak(t, file, p["GATEWAY"])
			h.launch("debug")
			h.status(t)
			stop = outside(t, h.ns)
			time.Sleep(time.Second)
			seeLeaks(t, stop(), "after the next start")
		})
	}
}

func checkNoLeak(t *testing.T, file, gateway string) {
	t.Helper()
	if found := leaks(t, file, gateway); len(found) > 0 {
		t.Errorf("%d packets have left, the first:\n%s", len(found), strings.Join(found[:min(len(found), 20)], "\n"))
	}
}

// TestAlwaysOnBlock: a profile that is always on keeps its block when the service is
// killed and started again, either process first, until it is connected again.
func TestAlwaysOnBlock(t *testing.T) {
	serviceUser(t, "rw2")
	p := loadProfile(t, "full")
	placeProfile(t, "rw2", p)
	startGenerators(t, "rw2")
	stop := outside(t, "rw2")
	h := start(t, "rw2", "debug")
	h.until(t, 30*time.Second, app.StateConnected)
	for _, victim := range []string{killRoot, killService} {
		root, service := h.processes(t)
		if victim == killService {
			root = service
		}
		syscall.Kill(root, syscall.SIGKILL)
		h.service.Wait()
		time.Sleep(2 * time.Second)
		h.launch("debug")
		h.until(t, 30*time.Second, app.StateConnected)
	}
	time.Sleep(time.Second)
	checkNoLeak(t, stop(), p["GATEWAY"])
	h.down(t)
	stop = outside(t, h.ns)
	time.Sleep(time.Second)
	seeLeaks(t, stop(), "after disconnecting")
}

// placeProfile makes a profile of the lab a managed one that is always on and blocks what
// is outside, for the length of the test.
func placeProfile(t *testing.T, ns string, p profile) {
	t.Helper()
	dir := filepath.Join(stateDir, "ns", ns, "etc", "wayfarer")
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca, err := os.ReadFile(p["CA"])
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, "profiles.d"), 0o755)
	}
	for name, content := range map[string]string{
		"lab.pem":    string(ca),
		"lab.secret": fmt.Sprintf("password = %q\n", p["PASSWORD"]),
		"lab.toml": fmt.Sprintf("version = 1\ngateway = %q\nlogin = %q\nremote_id = %q\nca = [\"lab.pem\"]\nike = [%q]\nesp = [%q]\n"+
			"secret_file = \"lab.secret\"\nalways_on = true\nblock_outside = true\n",
			p["GATEWAY"], p["USER"], p["REMOTE_ID"], p["IKE_PROPOSAL"], p["ESP_PROPOSAL"]),
	} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "profiles.d", name), []byte(content), 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCompanyNames: what programs look up of the company's domain goes into the tunnel
// only, also while it is dead. Before and after, it does not: the control.
func TestCompanyNames(t *testing.T) {
	const question = "udp dst port 53 or tcp dst port 53"
	for name, profile := range map[string]string{"full tunnel": "full", "split tunnel": "hybrid"} {
		t.Run(name, func(t *testing.T) {
			serviceUser(t, "rw2")
			h := start(t, "rw2", "debug")
			t.Cleanup(func() { mustLab(t, "gw", "start") })
			startGenerator(t, h.ns, "names")
			control := outside(t, h.ns)
			time.Sleep(time.Second)
			if len(captured(t, control(), question)) == 0 {
				t.Error("before the connection names were to be seen outside, and are not")
			}
			h.up(t, loadProfile(t, profile))
			stop := outside(t, h.ns)
			h.hardships(t)
			for _, q := range captured(t, stop(), question) {
				if strings.Contains(q, companyName) {
					t.Fatalf("a name has left: %s", q)
				}
			}
			h.down(t)
			control = outside(t, h.ns)
			time.Sleep(time.Second)
			if len(captured(t, control(), question)) == 0 {
				t.Error("after the connection names were to be seen outside, and are not")
			}
		})
	}
}
