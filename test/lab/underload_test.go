//go:build lab && linux

package lab

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Under load, packets of the ping are this far apart, and the throughput is counted
// in intervals half as long as it may be zero.
const (
	densePing      = 10 * time.Millisecond
	stallAtMost    = 200 * time.Millisecond
	throughputStep = stallAtMost / 2
)

// TestRekeyUnderLoad: ESP SAs are renewed every ten seconds and the ISAKMP SA every
// thirty while a transfer runs, and a ping every 10 ms: no packet is lost, the transfer
// never stands still.
//
// The gateway tells nobody that it ends ISAKMP SAs at an age of 43 s. The client learns
// that from the first one, before the measurement.
func TestRekeyUnderLoad(t *testing.T) {
	length := 40 * time.Second
	if exhaustive() {
		length = 5 * time.Minute
	}
	h := start(t, "rw", "debug")
	// A gateway that still has an earlier lease of the same user may hand that out when
	// phase 1 is renewed, and another address is another connection.
	mustLab(t, "gw", "restart")
	h.up(t, loadProfile(t, "busy"))
	learning := startGauge(t, h.ns, "0.2") // silence is noticed with traffic only
	eventually(t, 2*time.Minute, "the client has learned how long an ISAKMP SA lives", func() bool {
		return strings.Contains(h.log(), "renewing earlier")
	})
	eventually(t, 10*time.Second, "it has a new one", func() bool { return h.connection(t).IKE.Rekeys > 0 })
	learning.end()
	time.Sleep(3 * time.Second)

	before := h.connection(t)
	g := startGauge(t, h.ns, fmt.Sprint(densePing.Seconds()))
	steps := h.throughput(t, length)
	sent, lost := g.stop(t, densePing)
	after := h.connection(t)

	stall, least, sum := time.Duration(0), steps[0], 0.0
	for run, i := 0, 0; i < len(steps); i++ {
		if run++; steps[i] > 0 {
			run = 0
		}
		stall, least = max(stall, time.Duration(run)*throughputStep), min(least, steps[i])
		sum += steps[i]
	}
	answers := g.answers(t)
	silence := g.silence(t, answers[0].at, answers[len(answers)-1].at)
	ike := after.IKE.Rekeys - before.IKE.Rekeys
	esp := newest(after.ESP).Rekeys - newest(before.ESP).Rekeys
	t.Logf("%v: %d ISAKMP SAs and %d ESP SAs renewed; %d pings, %d lost, at most %v without an answer; %.1f Mbit/s, at least %.1f in %v, zero for %v",
		length, ike, esp, sent, len(lost), silence, sum/float64(len(steps))/1e6, least/1e6, throughputStep, stall)
	if len(lost) > 0 {
		t.Errorf("lost %d of %d pings: %v", len(lost), sent, lost[:min(len(lost), 50)])
	}
	if stall >= stallAtMost {
		t.Errorf("no throughput for %v", stall)
	}
	if seconds := int(length.Seconds()); ike < seconds/30-1 || ike < 1 || esp < seconds/10-1 {
		t.Errorf("%d ISAKMP SAs and %d ESP SAs renewed in %v", ike, esp, length)
	}
	if !after.Since.Equal(*before.Since) {
		t.Errorf("connected since %v, before since %v", after.Since, before.Since)
	}
	h.down(t)
}

// throughput receives from the company's network, and tells how much in each step, in
// bits a second. The rate is one that gateway and client do not lose packets at by
// themselves.
func (h *host) throughput(t *testing.T, length time.Duration) (steps []float64) {
	t.Helper()
	out := mustInside(t, h.ns, "iperf3", "-J", "-c", "10.10.0.2", "-R", "-b", "20M",
		"-t", fmt.Sprint(int(length.Seconds())), "-i", fmt.Sprint(throughputStep.Seconds()), "--connect-timeout", "5000")
	var result struct {
		Intervals []struct {
			Sum struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			}
		}
	}
	if err := json.Unmarshal([]byte(out[max(strings.Index(out, "{"), 0):]), &result); err != nil { // behind warnings
		t.Fatalf("iperf3: %v\n%s", err, out)
	}
	for _, i := range result.Intervals {
		steps = append(steps, i.Sum.BitsPerSecond)
	}
	if len(steps) < int(length/throughputStep)-2 {
		t.Fatalf("iperf3 measured %d steps", len(steps))
	}
	return steps
}
