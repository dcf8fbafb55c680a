//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"wayfarer/app"
	"wayfarer/test/bench/report"
)

// Names of what is measured.
const (
	valueRate     = "Mbit/s"
	valueNearCost = "client s/GB" // processor time
	valueFarCost  = "far s/GB"
	valueMemory   = "client MB"
	valueAllocs   = "allocations/packet"
	valuePackets  = "packets/s"
	valuePacketNS = "client ns/packet"
	valueMedian   = "median ms"
	valueP99      = "p99 ms"
	valueSwitches = "switches/s"
	valueIdleCPU  = "processor %"
	valueSeconds  = "seconds"
)

// measured is what one measurement gave.
type measured struct {
	values  map[string]float64
	foreign float64
}

// direction says which way data goes, seen from the client.
type direction string

const (
	up   direction = "up"
	down direction = "down"
	both direction = "both"
)

var directions = []direction{up, down, both}

// transfer is what iperf3 says of one.
type transfer struct{ bytes, rate float64 }

const firstPort = 5210

// iperf sends over TCP for a while, with streams to each target at the same time.
func (l *link) iperf(length time.Duration, streams int, way direction, targets ...netip.Addr) (total transfer, err error) {
	var servers []*exec.Cmd
	defer func() {
		for _, s := range servers {
			stop(s)
		}
	}()
	for i, target := range targets {
		s := l.server.program("iperf3", "-s", "-1", "-B", target.String(), "-p", strconv.Itoa(firstPort+i))
		if err := s.Start(); err != nil {
			return total, err
		}
		servers = append(servers, s)
	}
	if err := l.listening(len(targets)); err != nil {
		return total, err
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	for i, target := range targets {
		args := []string{
			"iperf3", "-C", "cubic", "-J", "-c", target.String(), "-p", strconv.Itoa(firstPort + i),
			"-t", strconv.FormatFloat(length.Seconds(), 'f', -1, 64), "-P", strconv.Itoa(streams),
		}
		switch way {
		case down:
			args = append(args, "--reverse")
		case both:
			args = append(args, "--bidir")
		}
		cmd := l.client.program(args...)
		group.Go(func() {
			out, failed := output(cmd)
			t, unread := parseIperf(out)
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, failed, unread)
			total.bytes += t.bytes
			total.rate += t.rate
		})
	}
	group.Wait()
	return total, err
}

// listening waits until the servers do.
func (l *link) listening(n int) error {
	return within(deviceTimeout, "iperf3 listens", func() bool {
		out, err := l.server.output("ss", "-Hltn")
		if err != nil {
			return false
		}
		for i := range n {
			if !strings.Contains(string(out), fmt.Sprintf(":%d ", firstPort+i)) {
				return false
			}
		}
		return true
	})
}

func parseIperf(out []byte) (transfer, error) {
	type sum struct {
		Bytes float64
		Rate  float64 `json:"bits_per_second"`
	}
	var report struct {
		Error string
		End   struct {
			Received sum `json:"sum_received"`
			Reverse  sum `json:"sum_received_bidir_reverse"`
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return transfer{}, fmt.Errorf("iperf3's report: %w", err)
	}
	if report.Error != "" {
		return transfer{}, fmt.Errorf("iperf3: %s", report.Error)
	}
	e := report.End
	return transfer{e.Received.Bytes + e.Reverse.Bytes, e.Received.Rate + e.Reverse.Rate}, nil
}

// tcp measures a transfer and what it costs.
func (l *link) tcp(length time.Duration, streams int, way direction, targets ...netip.Addr) (measured, error) {
	if len(targets) == 0 {
		targets = []netip.Addr{l.target}
	}
	var before heap
	if l.service != nil {
		before = l.service.collected()
	}
	memory := watchMemory(l.near, time.Tick(memoryInterval))
	m := newMeter(l.near, l.far)
	t, err := l.iperf(length, streams, way, targets...)
	used, most := m.read(), memory()
	if err != nil {
		return measured{}, err
	}
	if t.bytes == 0 {
		return measured{}, errors.New("nothing was transferred")
	}
	gigabytes := t.bytes / 1e9
	values := map[string]float64{valueRate: t.rate / 1e6}
	if len(l.near) > 0 {
		values[valueNearCost], values[valueFarCost] = used.near/gigabytes, used.far/gigabytes
		values[valueMemory] = most
	}
	if l.service != nil {
		values[valueAllocs] = l.service.heap().perPacket(before)
	}
	return measured{values, used.foreign}, nil
}

// heap is what a service has allocated, as its garbage collections tell, and how many
// packets it has carried.
type heap struct{ bytes, packets float64 }

const (
	// leastObject is the smallest object that Go's heap has, in bytes.
	leastObject = 8
	// maxQuestions is how often a service is asked for its state, which makes it allocate,
	// until it collects garbage.
	maxQuestions = 1000
)

// perPacket is how many objects at most were allocated for each packet since, as far as
// garbage collections tell: of what comes after the last one nothing is known. That there
// are none at all is proven by the Go benchmarks and tests.
func (h heap) perPacket(before heap) float64 {
	if h.packets == before.packets {
		return 0
	}
	return (h.bytes - before.bytes) / leastObject / (h.packets - before.packets)
}

// collected is the heap just after a collection, which the service is brought to: what it
// had allocated until then, as to connect, is not counted for packets that come later.
func (s *service) collected() heap {
	before := s.heap()
	for range maxQuestions {
		if h := s.heap(); h.bytes > before.bytes {
			return h
		}
	}
	return before
}

func (s *service) heap() (h heap) {
	log, err := os.ReadFile(s.logFile)
	if err != nil {
		return h
	}
	h.bytes = allocated(string(log))
	c, err := s.connection()
	if err != nil {
		return h
	}
	for _, sa := range c.ESP {
		h.packets += float64(sa.PacketsIn + sa.PacketsOut)
	}
	return h
}

var collection = regexp.MustCompile(`(?m)^gc \d+ .* (\d+)->\d+->(\d+) MB, `)

// allocated adds up what was allocated before each collection that a log tells of, in
// bytes. (The two processes of a service write to the same log; the root process
// allocates next to nothing.)
func allocated(log string) (sum float64) {
	var live float64
	for _, m := range collection.FindAllStringSubmatch(log, -1) {
		before, err1 := strconv.ParseFloat(m[1], 64)
		after, err2 := strconv.ParseFloat(m[2], 64)
		if err := errors.Join(err1, err2); err != nil {
			continue
		}
		sum += max(0, before-live) * (1 << 20)
		live = after
	}
	return sum
}

// connection is the only one of the service.
func (s *service) connection() (app.Connection, error) {
	out, err := output(s.command("status", "--json"))
	if err != nil {
		return app.Connection{}, err
	}
	var status app.Status
	if err := json.Unmarshal(out, &status); err != nil {
		return app.Connection{}, err
	}
	if len(status.Connections) != 1 {
		return app.Connection{}, fmt.Errorf("%d connections", len(status.Connections))
	}
	return status.Connections[0], nil
}

// packets measures how many packets a second arrive at the far end, of so many bytes with
// their headers.
func (l *link) packets(w *world, size int, length time.Duration) (measured, error) {
	const port = "5201"
	count := l.server.program(w.self, "count", port, (length + time.Second).String())
	var counted strings.Builder
	count.Stdout = &counted
	if err := count.Start(); err != nil {
		return measured{}, err
	}
	if err := within(deviceTimeout, "the counter listens", func() bool {
		out, err := l.server.output("ss", "-Hlun")
		return err == nil && strings.Contains(string(out), ":"+port+" ")
	}); err != nil {
		stop(count)
		return measured{}, err
	}
	m := newMeter(l.near, l.far)
	err := l.client.do(w.self, "flood", l.target.String()+":"+port, strconv.Itoa(size), length.String())
	err = errors.Join(err, count.Wait())
	used := m.read()
	if err != nil {
		return measured{}, err
	}
	var c struct{ Packets, Seconds float64 }
	if err := json.Unmarshal([]byte(counted.String()), &c); err != nil {
		return measured{}, err
	}
	if c.Packets == 0 || c.Seconds == 0 {
		return measured{}, errors.New("no packet arrived")
	}
	values := map[string]float64{valuePackets: c.Packets / c.Seconds}
	if len(l.near) > 0 {
		values[valuePacketNS] = used.near / c.Packets * 1e9
	}
	return measured{values, used.foreign}, nil
}

var pingTime = regexp.MustCompile(`time=([\d.]+) ms`)

// answerWait is how long an echo is waited for; one that does not come counts as so long.
const answerWait = time.Second

// ping measures round trips.
func (l *link) ping(count int, interval time.Duration) (measured, error) {
	m := newMeter(l.near, l.far)
	out, err := l.client.output("ping", "-n", "-c", strconv.Itoa(count), "-W", strconv.FormatFloat(answerWait.Seconds(), 'f', -1, 64),
		"-i", strconv.FormatFloat(interval.Seconds(), 'f', -1, 64), l.target.String())
	used := m.read()
	var times []float64
	for _, match := range pingTime.FindAllStringSubmatch(string(out), -1) {
		t, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			return measured{}, err
		}
		times = append(times, t)
	}
	if len(times) < count*9/10 {
		return measured{}, fmt.Errorf("%d of %d pings were answered: %w", len(times), count, err)
	}
	for len(times) < count {
		times = append(times, float64(answerWait/time.Millisecond))
	}
	return measured{map[string]float64{
		valueMedian: report.Median(times), valueP99: report.Quantile(times, 0.99),
	}, used.foreign}, nil
}

// loadedPing is ping while TCP sends, from when TCP has found out how much it can.
func (l *link) loadedPing(count int, interval time.Duration, way direction) (measured, error) {
	const before, behind = 1500 * time.Millisecond, 500 * time.Millisecond // iperf3 takes whole seconds
	ended := make(chan error, 1)
	// What iperf3 costs is ours, and known only when it has ended: all of it is looked at.
	m := newMeter(l.near, l.far)
	go func() {
		_, err := l.iperf(before+time.Duration(count)*interval+behind, 1, way, l.target)
		ended <- err
	}()
	time.Sleep(before)
	got, err := l.ping(count, interval)
	if err := errors.Join(err, <-ended); err != nil {
		return measured{}, err
	}
	got.foreign = m.read().foreign
	return got, nil
}

// uplink is the slow link of slowPing, with a queue as long as what a socket may send.
const uplink = "tbf rate 50mbit burst 20kb limit 3mb"

// slowPing is loadedPing beside an upload, where the near end's link takes 50 Mbit/s.
func (l *link) slowPing(count int, interval time.Duration) (got measured, err error) {
	if err := l.client.script("tc qdisc add dev outside root " + uplink); err != nil {
		return measured{}, err
	}
	defer func() { err = errors.Join(err, l.client.script("tc qdisc del dev outside root")) }()
	return l.loadedPing(count, interval, up)
}

// idle measures what a connection costs that is not used. Others do not disturb that.
func (l *link) idle(settle, length time.Duration) measured {
	time.Sleep(settle)
	switches, m := switchesOf(l.near), newMeter(l.near, l.far)
	time.Sleep(length)
	used := m.read()
	return measured{map[string]float64{
		valueSwitches: (switchesOf(l.near) - switches) / length.Seconds(),
		valueIdleCPU:  used.near / length.Seconds() * 100,
		valueMemory:   memoryOf(l.near),
	}, 0}
}

// awaitUp waits until the far end answers.
func (l *link) awaitUp() error {
	return within(connectTimeout, l.target.String()+" answers", func() bool {
		return l.client.do("ping", "-n", "-c", "1", "-W", "1", l.target.String()) == nil
	})
}

// logs are the ends of what the programs of the link have said.
func (w *world) logs() string {
	var b strings.Builder
	for _, r := range []*room{w.near, w.far} {
		files, _ := filepath.Glob(filepath.Join(r.dir, "*.log")) // the pattern is well-formed
		for _, f := range files {
			data, _ := os.ReadFile(f) // an unreadable log says nothing
			fmt.Fprintf(&b, "%s:\n%s\n", f, tail(data))
		}
	}
	return b.String()
}
