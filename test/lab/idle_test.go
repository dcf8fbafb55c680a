//go:build lab && linux

package lab

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// moment is how close together the runs of threads belong to one wake-up of a process:
// a timer or a datagram makes Go's runtime switch between a few threads, and more where
// processors are scarce.
const moment = 50 * time.Millisecond

// halfMinute is what context switches are counted in: the collection of garbage that
// Go's runtime does every two minutes is in one of four.
const halfMinute = 30 * time.Second

// What the service may cost, all processes together. The lab's gateway asks every ten
// seconds whether the client is there, which is one wake-up of five.
const (
	wakesAtMost    = 0.5 // a second, idle
	switchesAtMost = 1.0 // a second, idle
	memoryAtMost   = 25  // MB, idle and under load
)

// TestIdleCost measures what the service costs while nothing happens: how often it wakes
// up, how often the kernel ran one of its threads, and its memory, which it also measures
// under load before.
//
// Of the context switches those of the runtime's watchdog, sysmon, are told and not judged.
// It wakes up by the clock when a timer is due, the kernel ends the sleep of the thread that
// serves the timers up to a thousandth of its length later, and so long the watchdog looks,
// some fifty times 20 µs apart and then ever more rarely.
func TestIdleCost(t *testing.T) {
	if !exhaustive() {
		t.Skip("takes ten minutes: make soak")
	}
	const length = 10 * time.Minute
	h := start(t, "rw2", "info")
	h.up(t, loadProfile(t, "hybrid"))
	root, service := h.processes(t)
	pids := []int{root, service}
	loaded := h.loadedMemory(t, pids)
	time.Sleep(30 * time.Second) // the path has been found out
	threads := newThreads(t, root, service)
	var steps []float64 // switches in each half minute, without sysmon's
	tick := time.NewTicker(moment)
	defer tick.Stop()
	for i := range int(length / moment) {
		<-tick.C
		threads.look(t)
		if (i+1)%int(halfMinute/moment) == 0 {
			steps = append(steps, float64(threads.judged())/halfMinute.Seconds())
		}
	}
	for i := len(steps) - 1; i > 0; i-- {
		steps[i] -= steps[i-1]
	}
	slices.Sort(steps)
	perSecond := steps[len(steps)/2]
	table := report{title: fmt.Sprintf("connected and idle for %v", length)}
	rate := 0.0
	for _, pid := range pids {
		seen := threads[pid]
		woken := float64(seen.wakes) / length.Seconds()
		table.add(fmt.Sprint(pid), "%5.2f wake-ups/s | %5.2f thread switches/s, %5.2f of them sysmon's | %4.1f MB", woken,
			float64(seen.all)/length.Seconds(), float64(seen.sysmon)/length.Seconds(), memoryOf(t, pid))
		rate += woken
	}
	idle := memoryOf(t, pids...)
	table.add("both", "%5.2f wake-ups/s | %5.2f thread switches/s without sysmon's, in the half minute in the middle | %4.1f MB, under load %.1f", rate, perSecond, idle, loaded)
	table.show(t)
	if c := h.connection(t); time.Since(*c.IKE.LastHeard) > time.Minute {
		t.Errorf("last heard %v", c.IKE.LastHeard)
	}
	if rate > wakesAtMost || perSecond > switchesAtMost {
		t.Errorf("%.2f wake-ups/s, %.2f thread switches/s", rate, perSecond)
	}
	if idle > memoryAtMost || loaded > memoryAtMost {
		t.Errorf("%.1f MB, under load %.1f", idle, loaded)
	}
	h.down(t)
}

// loadedMemory is the most that processes held in memory while data went up and then down,
// in MB.
func (h *host) loadedMemory(t *testing.T, pids []int) (most float64) {
	t.Helper()
	for _, direction := range [][]string{nil, {"-R"}} {
		ended := make(chan error, 1)
		go func() {
			_, err := inside(h.ns, append([]string{"iperf3", "-c", "10.10.0.2", "-P", "8", "-t", "10", "--connect-timeout", "5000"}, direction...)...)
			ended <- err
		}()
		for running := true; running; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("iperf3 %v: %v", direction, err)
				}
				running = false
			case <-time.After(200 * time.Millisecond):
				most = max(most, memoryOf(t, pids...))
			}
		}
	}
	return most
}

// memoryOf is what processes hold in memory, in MB; what they share counts once.
func memoryOf(t *testing.T, pids ...int) (sum float64) {
	t.Helper()
	for _, pid := range pids {
		sum += float64(numberOf(t, fmt.Sprintf("%d/smaps_rollup", pid), "Pss")) * 1024 / 1e6
	}
	return sum
}

// threads are how often the threads of processes gave up the processor.
type threads map[int]*threadCounts // by the process

type threadCounts struct {
	all, sysmon   int // since newThreads; sysmon is the first thread that Go's runtime starts
	wakes         int // moments in which there were any
	first, before int // see look
	firstSysmon   int
}

func newThreads(t *testing.T, pids ...int) threads {
	t.Helper()
	m := threads{}
	for _, pid := range pids {
		all, sysmon := switches(t, pid)
		m[pid] = &threadCounts{first: all, before: all, firstSysmon: sysmon}
	}
	return m
}

// look is called once in a moment.
func (m threads) look(t *testing.T) {
	t.Helper()
	for pid, c := range m {
		all, sysmon := switches(t, pid)
		if all != c.before {
			c.wakes++
		}
		c.before, c.all, c.sysmon = all, all-c.first, sysmon-c.firstSysmon
	}
}

// judged is how many there were without those of sysmon.
func (m threads) judged() (n int) {
	for _, c := range m {
		n += c.all - c.sysmon
	}
	return n
}

// switches counts those of a process, since it began.
func switches(t *testing.T, pid int) (all, sysmon int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(entries) < 2 {
		t.Fatalf("process %d has %d threads: %v", pid, len(entries), err)
	}
	threads := make([]int, len(entries))
	for i, e := range entries {
		threads[i], _ = strconv.Atoi(e.Name()) // the kernel's own
	}
	slices.Sort(threads)
	for i, thread := range threads {
		status := fmt.Sprintf("%d/task/%d/status", pid, thread)
		n := numberOf(t, status, "voluntary_ctxt_switches") + numberOf(t, status, "nonvoluntary_ctxt_switches")
		if all += n; i == 1 {
			sysmon = n
		}
	}
	return all, sysmon
}

// numberOf reads a value from a file of /proc.
func numberOf(t *testing.T, file, key string) int {
	t.Helper()
	data, err := os.ReadFile("/proc/" + file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + key + `:\s+(\d+)`).FindSubmatch(data)
	if m == nil {
		t.Fatalf("%s has no %s", file, key)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}
