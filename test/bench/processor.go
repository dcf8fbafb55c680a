//go:build linux

package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ticks are what /proc counts processor time in, a second; it is so on every Linux that Go
// runs on.
const ticks = 100

// kernelThread is a bit of the flags in /proc/PID/stat (PF_KTHREAD).
const kernelThread = 0x00200000

// process is what /proc/PID/stat says.
type process struct {
	parent int
	kernel bool
	cpu    float64 // seconds, of its ended threads too
}

func readProcess(pid int) (p process, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, false
	}
	// Behind the name, which may have blanks: state, parent and so on.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const parent, flags, user, system = 1, 6, 11, 12
	if len(fields) <= system {
		return p, false
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(fields[i]) // the kernel's own
		return n
	}
	return process{number(parent), number(flags)&kernelThread != 0, float64(number(user)+number(system)) / ticks}, true
}

// processes are all that run.
func processes() map[int]process {
	all := make(map[int]process)
	folders, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, f := range folders {
		pid, _ := strconv.Atoi(filepath.Base(f))
		if p, ok := readProcess(pid); ok {
			all[pid] = p
		}
	}
	return all
}

// family are a process and all that it has started.
func family(pid int) []int {
	all := processes()
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		for child, p := range all {
			if p.parent == list[i] {
				list = append(list, child)
			}
		}
	}
	return list
}

// cpuOf is the processor time of processes, in seconds.
func cpuOf(pids []int) (sum float64) {
	for _, pid := range pids {
		p, _ := readProcess(pid) // one that has ended has cost nothing since
		sum += p.cpu
	}
	return sum
}

// numberOf reads a value from a file of /proc; 0 if there is none.
func numberOf(file, key string) float64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if fields := strings.Fields(value); name == key && len(fields) > 0 {
			v, _ := strconv.ParseFloat(fields[0], 64) // the kernel's own
			return v
		}
	}
	return 0
}

// memoryOf is what processes hold in memory, in megabytes; what they share counts once.
func memoryOf(pids []int) (sum float64) {
	for _, pid := range pids {
		sum += numberOf(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss") * 1024 / 1e6
	}
	return sum
}

// memoryInterval is how often a transfer's memory is looked at, which takes a millisecond.
const memoryInterval = 250 * time.Millisecond

// watchMemory looks at each tick what processes hold in memory. The function that it
// returns ends that and tells the most.
func watchMemory(pids []int, ticks <-chan time.Time) func() float64 {
	var highest float64
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ticks:
				highest = max(highest, memoryOf(pids))
			case <-end:
				return
			}
		}
	}()
	return func() float64 {
		close(end)
		<-ended
		return highest
	}
}

// switchesOf is how often the kernel ran threads of processes.
func switchesOf(pids []int) (sum float64) {
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid)) // the pattern is well-formed
		for _, status := range threads {
			sum += numberOf(status, "voluntary_ctxt_switches") + numberOf(status, "nonvoluntary_ctxt_switches")
		}
	}
	return sum
}

// meter tells whose the processors were for a while.
type meter struct {
	near, far []int // the two ends' processes

	began           time.Time
	busy            float64 // of the machine
	kernel          float64
	own             float64 // of this program and its children that ended
	nearCPU, farCPU float64
}

// usage is what a meter has seen: seconds of processor time of the two ends, and the share
// of all processors that went to processes which have nothing to do with it.
type usage struct{ near, far, foreign float64 }

func newMeter(near, far []int) *meter {
	m := &meter{near: near, far: far, began: time.Now(), busy: machine()}
	m.kernel, m.own = kernelThreads(), ownCPU()
	m.nearCPU, m.farCPU = cpuOf(near), cpuOf(far)
	return m
}

func (m *meter) read() usage {
	now := newMeter(m.near, m.far)
	u := usage{near: now.nearCPU - m.nearCPU, far: now.farCPU - m.farCPU}
	ours := u.near + u.far + now.own - m.own + now.kernel - m.kernel
	all := now.began.Sub(m.began).Seconds() * float64(runtime.NumCPU())
	u.foreign = min(1, max(0, (now.busy-m.busy-ours)/all))
	return u
}

// machine is how long the processors were busy with processes, or taken away by the
// machine below this one, in seconds.
func machine() (busy float64) {
	data, _ := os.ReadFile("/proc/stat") // else all shares are zero
	line, _, _ := strings.Cut(string(data), "\n")
	const user, nice, system, steal = 1, 2, 3, 8
	fields := strings.Fields(line)
	for _, i := range []int{user, nice, system, steal} {
		if i < len(fields) {
			v, _ := strconv.ParseFloat(fields[i], 64) // the kernel's own
			busy += v / ticks
		}
	}
	return busy
}

// speedTime is how long the processors' speed is measured.
const speedTime = 50 * time.Millisecond

// speed is how fast all processors together seal with AES-GCM, in bytes a second. Who lends
// this machine its processors may have others' work on the other threads of their cores,
// which nothing else shows: it was seen to halve the speed, from one second to the next.
func speed() (sum float64) {
	sealed := make(chan float64)
	for range runtime.NumCPU() {
		go func() { sealed <- sealFor(speedTime) }()
	}
	for range runtime.NumCPU() {
		sum += <-sealed
	}
	return sum
}

// sealFor seals packets on one processor, in bytes a second.
func sealFor(length time.Duration) float64 {
	const size, atOnce = 1400, 100
	block, err1 := aes.NewCipher(make([]byte, 16))
	gcm, err2 := cipher.NewGCM(block)
	if errors.Join(err1, err2) != nil {
		return 0 // cannot be, with this key
	}
	nonce, packet := make([]byte, gcm.NonceSize()), make([]byte, size, size+gcm.Overhead())
	sum, began := 0.0, time.Now()
	for time.Since(began) < length {
		for range atOnce {
			gcm.Seal(packet[:0], nonce, packet, nil)
			sum += size
		}
	}
	return sum / time.Since(began).Seconds()
}

// kernelThreads is the processor time of the kernel's own threads: they work for whoever
// uses the network.
func kernelThreads() (sum float64) {
	for _, p := range processes() {
		if p.kernel {
			sum += p.cpu
		}
	}
	return sum
}

// ownCPU is the processor time of this program and of its children that it has waited for.
func ownCPU() (sum float64) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil {
			sum += float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
		}
	}
	return sum
}
