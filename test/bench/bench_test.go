//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wayfarer/ike"
	"wayfarer/ike/esp"
	"wayfarer/ike/gateway"
	"wayfarer/test/bench/report"
)

func TestParseIperf(t *testing.T) {
	for _, tc := range []struct {
		out  string
		want transfer
		ok   bool
	}{
		{`{"end":{"sum_sent":{"bytes":9},"sum_received":{"bytes":8,"bits_per_second":32}}}`, transfer{8, 32}, true},
		{`{"end":{"sum_received":{"bytes":8,"bits_per_second":32},"sum_received_bidir_reverse":{"bytes":2,"bits_per_second":8}}}`, transfer{10, 40}, true},
		{`{"end":{},"error":"unable to connect"}`, transfer{}, false},
		{``, transfer{}, false},
	} {
		got, err := parseIperf([]byte(tc.out))
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("%s: got %v, %v", tc.out, got, err)
		}
	}
}

// TestAllocated: what was live after a collection has been counted before it.
func TestAllocated(t *testing.T) {
	const log = `level=INFO msg="wayfarerd runs"
gc 1 @0.031s 1%: 0.59+0.72+0.006 ms clock, 1.1+0.31/0.22/0.20+0.012 ms cpu, 3->4->2 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P
gc 2 @9.1s 1%: 0.5+0.7+0.0 ms clock, 1.1+0.3/0.2/0.2+0.0 ms cpu, 5->5->1 MB, 5 MB goal, 0 MB stacks, 0 MB globals, 2 P (forced)
gc nonsense
gc 3 @99.1s 1%: 0.5+0.7+0.0 ms clock, 1.1+0.3/0.2/0.2+0.0 ms cpu, 1->1->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P
`
	if got := allocated(log) / (1 << 20); got != 6 {
		t.Errorf("%v MB, want 6", got)
	}
	before, after := heap{bytes: 8000, packets: 10}, heap{bytes: 16000, packets: 110}
	if got := after.perPacket(before); got != 10 {
		t.Errorf("%v objects for a packet, want 10", got)
	}
	if got := after.perPacket(after); got != 0 {
		t.Errorf("%v objects for no packet", got)
	}
}

// TestUsualSpeed: a sample beside which the processors were slower or faster than usual is
// not clean.
func TestUsualSpeed(t *testing.T) {
	r := results{Bound: 0.1, Rounds: 5}
	for round, speed := range []report.Span{{Least: 90, Most: 100}, {Least: 100, Most: 110}, {Least: 79, Most: 100}, {Least: 100, Most: 126}, {Least: 100, Most: 100}} {
		r.keep(report.Sample{Round: round, Speed: speed})
	}
	if got := r.fewest(); got != 3 {
		t.Errorf("%d clean rounds, want 3", got)
	}
}

func TestResults(t *testing.T) {
	sample := func(variant string, round int, foreign, rate float64) report.Sample {
		return report.Sample{Variant: variant, Test: "tcp: up", Round: round, Foreign: foreign, Values: map[string]float64{valueRate: rate}}
	}
	r := results{Part: "tcp", Bound: 0.1, Values: tcpValues}
	if got := r.fewest(); got != 0 {
		t.Errorf("%d clean rounds of none", got)
	}
	r.keep(sample("a", 0, 0, 1))
	r.keep(sample("b", 0, 0.5, 2))
	r.keep(sample("b", 0, 0.4, 3)) // once more, and again disturbed
	r.Rounds++
	if len(r.Samples) != 2 || r.Samples[1].Values[valueRate] != 3 || r.fewest() != 0 {
		t.Errorf("%+v: %d clean", r.Samples, r.fewest())
	}
	r.Bound = 0.4
	if got := r.fewest(); got != 1 {
		t.Errorf("%d clean rounds, want 1", got)
	}
	r.Bound = 0.1
	r.keep(sample("b", 1, 0.1, 4))
	r.keep(sample("a", 1, 0, 4))
	r.Rounds++
	if got := r.fewest(); got != 1 {
		t.Errorf("%d clean rounds, want 1", got)
	}
	dir := t.TempDir()
	if err := r.save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := loadResults(dir, "tcp")
	if err != nil || again.Rounds != 2 || len(again.Samples) != 4 || again.Samples[2].Values[valueRate] != 4 {
		t.Errorf("%+v, %v", again, err)
	}
	if none, err := loadResults(dir, "ping"); none != nil || err != nil {
		t.Errorf("%v, %v", none, err)
	}
}

// planned are the tests of each variant of a part, in their order, none of them done.
func planned(t *testing.T, part subset) map[string][]string {
	t.Helper()
	tests := make(map[string][]string)
	record := func(variant string) testFunc {
		return func(name string, _ func() (measured, error)) { tests[variant] = append(tests[variant], name) }
	}
	for _, v := range part.variants {
		b := bench{plan: fullPlan}
		v.measures(part)(&b.world, b.plan, &link{}, record(v.name))
	}
	switch part.name {
	case "connect": // which needs a lab
		for _, name := range []string{wayfarerName, charonName} {
			tests[name] = []string{"near", farAway.String()}
		}
	case "suites":
		if err := part.alone(nil, fullPlan, record); err != nil {
			t.Fatal(err)
		}
	}
	return tests
}

// TestParts: what is measured of whom.
func TestParts(t *testing.T) {
	eight := []string{"up, 8", "down, 8", "both, 8"}
	sizes := []string{"64 bytes", "512 bytes", "1400 bytes"}
	lab := slices.Concat([]string{"up", "down", "both"}, eight, []string{"ping idle", "ping loaded", "ping loaded down"}, sizes)
	peers := []string{vethName, forwarderName, wayfarerName, wireguardName, openvpnName}
	for _, tt := range []struct {
		part     string
		variants []string
		tests    []string
	}{
		{"tcp", peers, slices.Concat([]string{"up, 1", "down, 1", "both, 1"}, eight)},
		{"pps", peers, sizes},
		{"ping", peers, []string{"idle", "loaded", "loaded down", "slow uplink"}},
		{"idle", []string{wayfarerName, wireguardName, openvpnName}, []string{"connected"}},
		{"datagrams", []string{wayfarerName, libraryName}, []string{"up", "down", "ping loaded down"}},
		{"strongswan", []string{wayfarerName, charonName, vpncName}, lab},
	} {
		i := slices.IndexFunc(subsets, func(s subset) bool { return s.name == tt.part })
		if i < 0 {
			t.Fatalf("no part %s", tt.part)
		}
		tests := planned(t, subsets[i])
		if len(tests) != len(tt.variants) {
			t.Errorf("%s: %d variants, want %d", tt.part, len(tests), len(tt.variants))
		}
		for _, v := range tt.variants {
			if !slices.Equal(tests[v], tt.tests) {
				t.Errorf("%s: %s: %q, want %q", tt.part, v, tests[v], tt.tests)
			}
		}
	}
}

// TestSuites: each one that the client reads is measured, and the gateway takes it.
func TestSuites(t *testing.T) {
	credentials, err := gateway.SelfSigned("gateway.bench.test")
	if err != nil {
		t.Fatal(err)
	}
	tests := planned(t, subsets[slices.IndexFunc(subsets, func(s subset) bool { return s.name == "suites" })])
	for _, suite := range ike.ESPSuiteNames() {
		if got := tests[suite]; !slices.Equal(got, []string{"up", "down"}) && !slices.Equal(got, []string{"both"}) {
			t.Errorf("%s: %q", suite, got)
		}
		_, err := gateway.New(gateway.Config{
			Chain: credentials.Chain, Key: credentials.Key, ESP: []string{suite}, Pool: poolNetwork,
		})
		if err != nil {
			t.Errorf("%s: %v", suite, err)
		}
	}
}

// TestShort: no plan is longer for what is short.
func TestShort(t *testing.T) {
	if p := fullPlan.short(); p.length != time.Second || p.pings != 100 || p.loaded != 100 || p.settle > fullPlan.settle || p.idle >= fullPlan.idle || p.rounds != fullPlan.rounds {
		t.Errorf("%+v", p)
	}
	if p := quickPlan.short(); p != quickPlan {
		t.Errorf("%+v, want %+v", p, quickPlan)
	}
}

// TestGoals: every goal is of something that is measured.
func TestGoals(t *testing.T) {
	var b bench
	if err := b.choose(""); err != nil || len(b.parts) != len(subsets) {
		t.Fatal(err)
	}
	known := make(map[report.Key]bool)
	for _, part := range subsets {
		for variant, tests := range planned(t, part) {
			for _, test := range tests {
				for _, value := range part.values {
					known[report.Key{Variant: variant, Test: part.name + ": " + test, Value: value}] = true
				}
			}
		}
	}
	for _, g := range goals {
		for _, k := range []report.Key{g.Of, g.Over} {
			if k != (report.Key{}) && !known[k] {
				t.Errorf("%s: %+v is not measured", g.Name, k)
			}
		}
		if (g.Must > g.Aim) == g.More && g.Must != g.Aim {
			t.Errorf("%s: the aim is below what must be", g.Name)
		}
	}
	if b.choose("tcp,none") == nil {
		t.Error("an unknown part was taken")
	}
}

func TestProcesses(t *testing.T) {
	own, ok := readProcess(os.Getpid())
	if !ok || own.parent != os.Getppid() || own.kernel {
		t.Errorf("%+v", own)
	}
	if k, ok := readProcess(2); ok && os.Getpid() != 2 && k.parent == 0 && !k.kernel {
		t.Errorf("kthreadd: %+v", k)
	}
	if _, ok := readProcess(-1); ok {
		t.Error("there is no process -1")
	}
	if !slices.Contains(family(os.Getppid()), os.Getpid()) {
		t.Error("not a child of its parent")
	}
	m := newMeter([]int{os.Getpid()}, nil)
	for end := ownCPU() + 0.05; ownCPU() < end; {
	}
	if u := m.read(); u.near <= 0 || u.far != 0 || u.foreign < 0 || u.foreign > 1 {
		t.Errorf("%+v", u)
	}
	if memoryOf([]int{os.Getpid()}) <= 0 || switchesOf([]int{os.Getpid()}) <= 0 {
		t.Error("no memory, or no thread ever ran")
	}
	if busy := machine(); busy <= 0 {
		t.Errorf("busy for %v s", busy)
	}
}

// TestWatchMemory: what was held at a tick counts, though it is given back.
func TestWatchMemory(t *testing.T) {
	const size = 64 << 20
	ticks := make(chan time.Time)
	most := watchMemory([]int{os.Getpid()}, ticks)
	before := memoryOf([]int{os.Getpid()})
	held, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	ticks <- time.Time{}
	ticks <- time.Time{} // the first has been seen to
	if err := unix.Munmap(held); err != nil {
		t.Fatal(err)
	}
	ticks <- time.Time{}
	if got := most(); got < before+size/2/1e6 {
		t.Errorf("%.0f MB at most, %.0f before %d more", got, before, size>>20)
	}
}

// TestCodecs: what one end seals the other opens; nothing else comes out.
func TestCodecs(t *testing.T) {
	packet := make([]byte, 300, 300+esp.MaxTrailer)
	copy(packet, []byte{0x45, 0, 300 >> 8, 300 & 0xff, 0, 0, 0, 0, 64, 17, 0, 0, 10, 79, 0, 1, 10, 78, 0, 1})
	peer := netip.MustParseAddrPort("192.0.2.1:4500")
	near, err1 := (&endpoint{peer: peer, initiate: true}).staticTunnel()
	far, err2 := (&endpoint{peer: peer}).staticTunnel()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for name, ends := range map[string][2]codec{"plain": {&plain{peer}, &plain{peer}}, "static": {near, far}} {
		for i, from := range ends {
			dst := make([]byte, len(packet)+codecRoom)
			b, to := from.seal(dst, packet)
			from.finish()
			if to != peer || isIKE(b) {
				t.Fatalf("%s: %x to %v", name, b, to)
			}
			for _, bad := range [][]byte{nil, b[:3]} {
				if got := ends[1-i].open(bad); got != nil {
					t.Errorf("%s: opened %x", name, bad)
				}
			}
			if got := ends[1-i].open(b); !bytes.Equal(got, packet) {
				t.Errorf("%s: opened %x", name, got)
			}
		}
	}
	if b, _ := near.seal(make([]byte, codecRoom+8), make([]byte, 8, 8+esp.MaxTrailer)); b != nil {
		t.Errorf("sealed what is no packet: %x", b)
	}
}

func TestWithin(t *testing.T) {
	n := 0
	if err := within(time.Minute, "", func() bool { n++; return n == 3 }); err != nil || n != 3 {
		t.Errorf("%v after %d", err, n)
	}
	if within(0, "", func() bool { return false }) == nil {
		t.Error("waited for ever")
	}
}

// TestShow: results of a run are shown, saved and drawn without measuring anything.
func TestShow(t *testing.T) {
	dir := t.TempDir()
	r := results{Part: "tcp", Bound: 0.1, Values: tcpValues, Rounds: 1}
	for variant, rate := range map[string]float64{wayfarerName: 7600, wireguardName: 3000, forwarderName: 11000} {
		r.keep(report.Sample{Variant: variant, Test: "tcp: up, 1", Values: map[string]float64{valueRate: rate}})
	}
	if err := r.save(dir); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	b := bench{out: dir}
	if err := b.show(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 rounds, 3 of 3 samples clean", "2.53", "0.69", "few rounds", "not measured"} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	goals, err1 := os.ReadFile(filepath.Join(dir, "goals.json"))
	chart, err2 := os.ReadFile(filepath.Join(dir, "throughput.svg"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(goals, []byte(`"verdict": "must"`)) || !bytes.Contains(goals, []byte(`"verdict": "not measured"`)) {
		t.Errorf("goals:\n%s", goals)
	}
	if !bytes.Contains(chart, []byte("7600 Mbit/s")) || bytes.Contains(chart, []byte("OpenVPN")) || bytes.Contains(chart, []byte("*")) {
		t.Errorf("chart:\n%s", chart)
	}
	lab := results{Part: "strongswan", Bound: 0.1, Values: tcpValues, Rounds: 1}
	lab.keep(report.Sample{Variant: vpncName, Test: "strongswan: down", Values: map[string]float64{valueRate: 400}})
	if err := errors.Join(lab.save(dir), b.show(io.Discard)); err != nil {
		t.Fatal(err)
	}
	chart, err := os.ReadFile(filepath.Join(dir, "throughput.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"(*: with strongSwan&#39;s gateway)", "vpnc, AES-128-CBC *", "400 Mbit/s"} {
		if !bytes.Contains(chart, []byte(want)) {
			t.Errorf("no %q in the chart:\n%s", want, chart)
		}
	}
}
