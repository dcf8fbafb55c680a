//go:build lab && linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// moment is how close together the runs of threads belong to one wake-up of a process:
// a timer or a datagram makes Go's runtime switch between a few threads, and more where
// processors are scarce.
const moment = 50 * time.Millisecond

// TestIdleCost reports what the service costs while nothing happens: how often it wakes
// up, how often the kernel ran one of its threads, and its memory. It measures and does
// not judge, but for what cannot be chance.
func TestIdleCost(t *testing.T) {
	if !exhaustive() {
		t.Skip("takes ten minutes: make soak")
	}
	const length = 10 * time.Minute
	h := start(t, "rw2", "info")
	h.up(t, loadProfile(t, "hybrid"))
	time.Sleep(30 * time.Second) // the path has been found out
	root, service := h.processes(t)
	pids := []int{root, service}
	runs, wakes := map[int]int{}, map[int]int{} // of the threads, and the moments of these
	last := map[int]int{root: switches(t, root), service: switches(t, service)}
	tick := time.NewTicker(moment)
	defer tick.Stop()
	for range int(length / moment) {
		<-tick.C
		for _, pid := range pids {
			if n := switches(t, pid); n != last[pid] {
				runs[pid] += n - last[pid]
				wakes[pid]++
				last[pid] = n
			}
		}
	}
	table := report{title: fmt.Sprintf("connected and idle for %v", length)}
	rate, memory := 0.0, 0
	for _, pid := range pids {
		memoryMap := fmt.Sprintf("%d/smaps_rollup", pid)
		rss, pss := numberOf(t, memoryMap, "Rss"), numberOf(t, memoryMap, "Pss")
		woken, ran := float64(wakes[pid])/length.Seconds(), float64(runs[pid])/length.Seconds()
		table.add(fmt.Sprint(pid), "%5.2f wake-ups/s | %5.2f thread switches/s | %6d KB resident, %6d KB its share", woken, ran, rss, pss)
		rate, memory = rate+woken, memory+pss
	}
	table.add("both", "%5.2f wake-ups/s | %6d KB", rate, memory)
	table.show(t)
	if c := h.connection(t); time.Since(*c.IKE.LastHeard) > time.Minute {
		t.Errorf("last heard %v", c.IKE.LastHeard)
	}
	if rate > 4 || memory > 60<<10 {
		t.Errorf("%.1f wake-ups/s, %d KB", rate, memory)
	}
	h.down(t)
}

// switches is how often the threads of a process gave up the processor.
func switches(t *testing.T, pid int) (n int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, thread := range threads {
		id := strings.TrimPrefix(thread, "/proc/")
		n += numberOf(t, id+"/status", "voluntary_ctxt_switches") + numberOf(t, id+"/status", "nonvoluntary_ctxt_switches")
	}
	return n
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
