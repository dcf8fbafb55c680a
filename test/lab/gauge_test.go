//go:build lab && linux

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gauge is a ping through the tunnel that keeps when each answer came.
type gauge struct {
	cmd   *exec.Cmd
	file  string
	began time.Time
}

// startGauge sends a packet at each interval, in seconds, until it is stopped.
func startGauge(t *testing.T, ns, interval string) *gauge {
	t.Helper()
	g := &gauge{file: filepath.Join(t.TempDir(), "ping"), began: time.Now()}
	out, err := os.Create(g.file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	g.cmd = exec.Command(script, "exec", ns, "stdbuf", "-oL", "ping", "-D", "-n", "-i", interval, "10.10.0.2")
	g.cmd.Stdout, g.cmd.Stderr = out, out
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if g.cmd.ProcessState == nil {
			g.end()
		}
	})
	return g
}

func (g *gauge) end() {
	g.cmd.Process.Signal(syscall.SIGINT)
	g.cmd.Wait()
}

func (g *gauge) output(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var pingAnswer = regexp.MustCompile(`(?m)^\[(\d+\.\d+)\] \d+ bytes from .* icmp_seq=(\d+) `)

// answer is one of a gauge.
type answer struct {
	at       time.Time
	sequence int
}

func (g *gauge) answers(t *testing.T) (all []answer) {
	t.Helper()
	for _, m := range pingAnswer.FindAllStringSubmatch(g.output(t), -1) {
		at, _ := strconv.ParseFloat(m[1], 64)
		sequence, _ := strconv.Atoi(m[2])
		all = append(all, answer{time.UnixMicro(int64(at * 1e6)), sequence})
	}
	return all
}

// silence is the longest time without an answer between two moments.
func (g *gauge) silence(t *testing.T, from, to time.Time) (longest time.Duration) {
	t.Helper()
	last := from
	for _, a := range g.answers(t) {
		if a.at.After(last) && a.at.Before(to) {
			longest, last = max(longest, a.at.Sub(last)), a.at
		}
	}
	return max(longest, to.Sub(last))
}

// stop ends the ping and tells how many were sent, and which had no answer; those of
// the last moment may still be on their way and are not counted.
func (g *gauge) stop(t *testing.T, interval time.Duration) (sent int, lost []int) {
	t.Helper()
	g.end()
	m := pingSummary.FindStringSubmatch(g.output(t))
	if m == nil {
		t.Fatalf("ping: %s", lastLines(g.output(t), 5))
	}
	sent, _ = strconv.Atoi(m[1])
	answered := map[int]bool{}
	for _, a := range g.answers(t) {
		answered[a.sequence] = true
	}
	for sequence := 1; sequence <= sent-int(500*time.Millisecond/interval); sequence++ {
		if !answered[sequence] {
			lost = append(lost, sequence)
		}
	}
	return sent, lost
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
