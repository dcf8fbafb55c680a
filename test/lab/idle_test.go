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

// TestIdleCost reports what the service costs while nothing happens: how often the
// kernel ran one of its threads, and its memory. It measures and does not judge, but
// for what cannot be chance.
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
	before := map[int]int{}
	for _, pid := range pids {
		before[pid] = wakeUps(t, pid)
	}
	time.Sleep(length)
	table := report{title: fmt.Sprintf("connected and idle for %v", length)}
	wakes, memory := 0.0, 0
	for _, pid := range pids {
		rate := float64(wakeUps(t, pid)-before[pid]) / length.Seconds()
		memoryMap := fmt.Sprintf("%d/smaps_rollup", pid)
		rss, pss := numberOf(t, memoryMap, "Rss"), numberOf(t, memoryMap, "Pss")
		table.add(fmt.Sprint(pid), "%5.2f wake-ups/s | %6d KB resident | %6d KB of its own share", rate, rss, pss)
		wakes, memory = wakes+rate, memory+pss
	}
	table.add("all", "%5.2f wake-ups/s | %6d KB", wakes, memory)
	table.show(t)
	if c := h.connection(t); time.Since(*c.IKE.LastHeard) > time.Minute {
		t.Errorf("last heard %v", c.IKE.LastHeard)
	}
	if wakes > 4 || memory > 60<<10 {
		t.Errorf("%.1f wake-ups/s, %d KB", wakes, memory)
	}
	h.down(t)
}

// wakeUps is how often the threads of a process were given a processor.
func wakeUps(t *testing.T, pid int) (n int) {
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
