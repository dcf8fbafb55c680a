//go:build lab && linux

package lab

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The client without a NAT, so that no conntrack puts its fragments together.
const (
	mtuClient     = "rw2"
	mtuClientAddr = "192.0.2.34"
	mtuServer     = "10.10.0.2"
)

// smallPath makes the link to the gateway carry less, and says so to nobody.
func smallPath(t *testing.T, mtu int) {
	t.Helper()
	for _, rule := range []string{
		"add table inet quiet",
		"add chain inet quiet out { type filter hook output priority 0; }",
		"add rule inet quiet out meta l4proto { icmp, icmpv6 } drop",
	} {
		mustInside(t, "wan", "nft", rule)
	}
	t.Cleanup(func() {
		inside("wan", "nft", "delete table inet quiet")
		lab("fault", "clear")
	})
	mustLab(t, "fault", "mtu", fmt.Sprint(mtu))
}

// fragments counts the fragments of a sender in a capture.
func fragments(t *testing.T, file, sender string) int {
	t.Helper()
	out, err := exec.Command("tshark", "-r", file, "-o", "ip.defragment:FALSE",
		"-Y", "(ip.flags.mf == 1 || ip.frag_offset > 0) && ip.src == "+sender, "-T", "fields", "-e", "ip.id").Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	return strings.Count(string(out), "\n")
}

// iperfResult is what iperf3 says of two seconds.
type iperfResult struct {
	End struct {
		SumReceived struct{ Bytes int } `json:"sum_received"`
		Sum         struct {
			Packets     int
			LostPackets int `json:"lost_packets"`
		}
	}
}

func iperf(t *testing.T, args ...string) (r iperfResult) {
	t.Helper()
	out := mustInside(t, mtuClient, append([]string{"iperf3", "-J", "-c", mtuServer, "-t", "2", "--connect-timeout", "5000"}, args...)...)
	if err := json.Unmarshal([]byte(out[max(strings.Index(out, "{"), 0):]), &r); err != nil { // behind warnings
		t.Fatalf("iperf3: %v\n%s", err, out)
	}
	return r
}

// carries sends a lot by TCP both ways, and datagrams of 8 KB.
func carries(t *testing.T) {
	t.Helper()
	for _, way := range [][]string{nil, {"-R"}} {
		if r := iperf(t, way...); r.End.SumReceived.Bytes < 1<<20 {
			t.Errorf("TCP %v: %d bytes in 2 seconds", way, r.End.SumReceived.Bytes)
		}
	}
	if r := iperf(t, "-u", "-l", "8192", "-b", "2M"); r.End.Sum.Packets < 20 || r.End.Sum.LostPackets > 0 {
		t.Errorf("UDP: %d of %d datagrams were lost", r.End.Sum.LostPackets, r.End.Sum.Packets)
	}
}

// TestPathMTU: whatever the path carries, and although nobody says it, everything
// arrives, and nothing is sent in fragments.
func TestPathMTU(t *testing.T) {
	h := start(t, mtuClient, "debug")
	p := loadProfile(t, "hybrid")
	for _, path := range []struct{ mtu, inside int }{
		{1500, 1438}, {1492, 1422}, {1400, 1326}, {1280, 1214}, {576, 576},
	} {
		t.Run(fmt.Sprint(path.mtu), func(t *testing.T) {
			smallPath(t, path.mtu)
			file := capture(t, func() {
				h.up(t, p)
				eventually(t, 30*time.Second, fmt.Sprintf("the interface has an MTU of %d", path.inside), func() bool {
					return h.connection(t).TUN.MTU == path.inside
				})
				carries(t)
				h.down(t)
			})
			if n := fragments(t, file, mtuClientAddr); n > 0 {
				t.Errorf("%d fragments of the client", n)
			}
		})
	}
}

// TestPathMTUControl: what TestPathMTU looks for is there when the profile demands an
// MTU that the path does not carry.
func TestPathMTUControl(t *testing.T) {
	h := start(t, mtuClient, "debug")
	smallPath(t, 1280)
	file := capture(t, func() {
		h.up(t, loadProfile(t, "hybrid"), "--set", "mtu=1400")
		time.Sleep(10 * time.Second) // until it is known what the path carries
		if mtu := h.connection(t).TUN.MTU; mtu != 1400 {
			t.Errorf("MTU %d", mtu)
		}
		iperf(t)
		h.down(t)
	})
	if n := fragments(t, file, mtuClientAddr); n == 0 {
		t.Error("no fragments")
	}
}

// TestSmallPathCertificates: messages of IKE that the path does not carry whole arrive,
// the gateway's and ours, whether IKE has fragments of its own or not.
func TestSmallPathCertificates(t *testing.T) {
	h := start(t, mtuClient, "debug")
	smallPath(t, 576)
	for _, tt := range []struct {
		profile string
		flags   []string
	}{{"chain", nil}, {"chain-frag", nil}, {"rsa", nil}, {"rsa", []string{"--set", "quirks=no-fragments"}}} {
		h.up(t, loadProfile(t, tt.profile), tt.flags...)
		h.ping(t, mtuServer)
		h.down(t)
	}
}

// TestPathShrinks: a path that carries less from now on is noticed while packets are
// lost on it.
func TestPathShrinks(t *testing.T) {
	h := start(t, mtuClient, "debug")
	h.up(t, loadProfile(t, "hybrid"))
	eventually(t, 10*time.Second, "the path is known", func() bool { return h.connection(t).TUN.MTU == 1438 })
	time.Sleep(30 * time.Second) // the least time between two searches
	smallPath(t, 1280)
	if r := iperf(t, "-t", "15"); r.End.SumReceived.Bytes < 1<<20 {
		t.Errorf("%d bytes", r.End.SumReceived.Bytes)
	}
	if mtu := h.connection(t).TUN.MTU; mtu != 1214 {
		t.Errorf("MTU %d", mtu)
	}
	h.down(t)
}
