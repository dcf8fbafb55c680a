//go:build linux

package main

import (
	"crypto/cipher"
	"crypto/des"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wayfarer/ike"
)

// plan is how long things are measured.
type plan struct {
	rounds        int
	more          int           // rounds, for those that were disturbed
	length        time.Duration // of a transfer
	settle, idle  time.Duration // before an idle connection is looked at; how long it is
	pings, loaded int           // at a time; beside an upload, for which the hundredth that takes longest is a goal
	attempts      int
	bound         float64 // of others' share of the processors
}

var (
	// Go's runtime collects garbage each two minutes at least: a look at a service that rests
	// holds one collection.
	fullPlan  = plan{rounds: 5, more: 5, length: 2 * time.Second, settle: 20 * time.Second, idle: 120 * time.Second, pings: 300, loaded: 1000, attempts: 2}
	quickPlan = plan{rounds: 1, length: time.Second, settle: 3 * time.Second, idle: 5 * time.Second, pings: 100, loaded: 100, attempts: 1}
)

// short is for what no goal is of, and need not be exact.
func (p plan) short() plan {
	p.length = min(p.length, quickPlan.length)
	p.settle, p.idle = min(p.settle, 20*time.Second), min(p.idle, 20*time.Second)
	p.pings, p.loaded = min(p.pings, quickPlan.pings), min(p.loaded, quickPlan.loaded)
	return p
}

// subset is what is measured in one go, with the variants in another order in each round.
type subset struct {
	name     string
	variants []variant
	measure  measureFunc
	values   []string // columns of its table
	bound    float64  // of others' share of the processors; 0: the run's
	anySpeed bool     // what is measured does not depend on the processors' speed
	// alone, if set, is done in every round beside the variants; it needs no link.
	alone func(w *world, p plan, record func(variant string) testFunc) error
}

// speed is that of the processors now, 0 if it makes no difference to the subset.
func (s subset) speed() float64 {
	if s.anySpeed {
		return 0
	}
	return speed()
}

// measureFunc runs a subset's tests on a link by calling test for each.
type measureFunc func(w *world, p plan, l *link, test testFunc)

// testFunc does a test and keeps what it gives; more than once, if others disturb it.
type testFunc func(name string, f func() (measured, error))

var (
	tcpValues    = []string{valueRate, valueNearCost, valueFarCost, valueMemory, valueAllocs}
	packetValues = []string{valuePackets, valuePacketNS}
	pingValues   = []string{valueMedian, valueP99}
)

// pingInterval is that of pings under load.
const pingInterval = 10 * time.Millisecond

// pingBound is the share of the processors that others may take from pings: a hundredth of
// the time, away, is the hundredth of the pings that is looked at.
const pingBound = 0.02

var subsets = []subset{
	{
		name: "tcp", variants: []variant{veth, forwarder, fastClient, wireguard, openvpn}, values: tcpValues,
		measure: func(_ *world, p plan, l *link, test testFunc) {
			for _, way := range directions {
				test(string(way)+", 1", func() (measured, error) { return l.tcp(p.length, 1, way) })
			}
			eightStreams(p, l, test)
		},
	},
	{
		name: "pps", variants: []variant{veth, forwarder, fastClient, wireguard, openvpn}, values: packetValues,
		measure: packetRates,
	},
	{
		name: "ping", variants: []variant{veth, forwarder, fastClient, wireguard, openvpn}, values: pingValues, bound: pingBound,
		measure: func(_ *world, p plan, l *link, test testFunc) {
			test("idle", func() (measured, error) { return l.ping(p.pings, 5*time.Millisecond) })
			test("loaded", func() (measured, error) { return l.loadedPing(p.loaded, pingInterval, up) })
			test("loaded down", func() (measured, error) { return l.loadedPing(p.pings, pingInterval, down) })
			test("slow uplink", func() (measured, error) { return l.slowPing(p.pings, pingInterval) })
		},
	},
	{
		name: "idle", anySpeed: true, values: []string{valueSwitches, valueIdleCPU, valueMemory},
		variants: []variant{fastClient, wireguard.measuring(unusedShortly), openvpn.measuring(unusedShortly)},
		measure:  unused,
	},
	{
		name: "datagrams", values: slices.Concat(tcpValues, pingValues), variants: []variant{
			{name: wayfarerName, start: benchClient{suite: "aes128gcm16", io: "single"}.start},
			{name: libraryName, start: func(w *world) (*link, error) { return w.pair("static", "library", "single") }},
		},
		measure: func(w *world, p plan, l *link, test testFunc) {
			oneStream(w, p, l, test)
			test("ping loaded down", func() (measured, error) { return l.loadedPing(p.pings, pingInterval, down) })
		},
	},
	{name: "suites", variants: suiteVariants(), values: tcpValues, measure: oneStream, alone: desAlone},
	{
		name: "sas", values: tcpValues, variants: []variant{
			{name: "1 SA", start: benchClient{suite: "aes128gcm16", io: "whole", groups: liveSAs, shared: true}.start},
			{name: "8 SAs", start: benchClient{suite: "aes128gcm16", io: "whole", groups: liveSAs}.start},
		},
		measure: func(_ *world, p plan, l *link, test testFunc) {
			_, targets := benchClient{groups: liveSAs}.networks()
			for _, way := range []direction{up, down} {
				test(string(way), func() (measured, error) { return l.tcp(p.length, 1, way, targets...) })
			}
		},
	},
	{
		name: "rekey", values: tcpValues, variants: []variant{
			{name: "none", start: gcmClient.start},
			// Half of the lifetime is when the client rekeys.
			{name: "every 10 s", start: benchClient{suite: "aes128gcm16", io: "whole", rekey: 20 * time.Second}.start},
		},
		measure: func(_ *world, _ plan, l *link, test testFunc) {
			test("both", func() (measured, error) { return l.tcp(12*time.Second, 1, both) })
		},
	},
	{
		name: "strongswan", values: slices.Concat(tcpValues, packetValues, pingValues), variants: []variant{
			{name: wayfarerName, start: startLabWayfarer},
			{name: charonName, needs: "charon-cmd", start: startLabClient("charon-cmd", labProfile)},
			{name: vpncName, needs: "vpnc", start: startLabClient("vpnc", "-e", "aes128-sha1", "hybrid-am")},
		},
		measure: func(w *world, p plan, l *link, test testFunc) {
			oneStream(w, p, l, test)
			p = p.short()
			test(string(both), func() (measured, error) { return l.tcp(p.length, 1, both) })
			eightStreams(p, l, test)
			test("ping idle", func() (measured, error) { return l.ping(p.pings, 5*time.Millisecond) })
			test("ping loaded", func() (measured, error) { return l.loadedPing(p.pings, pingInterval, up) })
			test("ping loaded down", func() (measured, error) { return l.loadedPing(p.pings, pingInterval, down) })
			packetRates(w, p, l, test) // last: what it leaves in queues is nobody's
		},
	},
	{name: "connect", values: []string{valueSeconds}, alone: connectTimes},
}

// liveSAs is how many ESP SAs there are at once.
const liveSAs = 8

func oneStream(_ *world, p plan, l *link, test testFunc) {
	for _, way := range []direction{up, down} {
		test(string(way), func() (measured, error) { return l.tcp(p.length, 1, way) })
	}
}

func eightStreams(p plan, l *link, test testFunc) {
	for _, way := range directions {
		test(string(way)+", 8", func() (measured, error) { return l.tcp(p.length, 8, way) })
	}
}

func packetRates(w *world, p plan, l *link, test testFunc) {
	for _, size := range []int{64, 512, 1400} {
		test(fmt.Sprintf("%d bytes", size), func() (measured, error) { return l.packets(w, size, p.length) })
	}
}

func unused(_ *world, p plan, l *link, test testFunc) {
	test("connected", func() (measured, error) { return l.idle(p.settle, p.idle), nil })
}

func unusedShortly(w *world, p plan, l *link, test testFunc) { unused(w, p.short(), l, test) }

// suiteVariants are all ESP suites that the client knows. Those that it offers by itself
// send up, then down; for those that have to be named it is one short transfer both ways,
// and their allocations, which take a while to ask for, are left out.
func suiteVariants() (list []variant) {
	offered := make(map[string]bool)
	for _, suite := range ike.DefaultESP(ike.WeakAll) {
		offered[suite.String()] = true
	}
	for _, suite := range ike.ESPSuiteNames() {
		v := variant{name: suite, start: benchClient{suite: suite, io: "whole"}.start}
		if !offered[suite] {
			v.measure = func(_ *world, p plan, l *link, test testFunc) {
				bare := *l
				bare.service = nil
				test(string(both), func() (measured, error) { return bare.tcp(p.short().length, 1, both) })
			}
		}
		list = append(list, v)
	}
	return list
}

const desName = "crypto/des"

// desAlone measures what the standard library's 3DES costs without anything around it.
func desAlone(_ *world, p plan, record func(string) testFunc) error {
	block, err := des.NewTripleDESCipher([]byte("8 bytes,of three keys,24"))
	if err != nil {
		return err
	}
	iv := make([]byte, des.BlockSize)
	for way, mode := range map[direction]cipher.BlockMode{up: cipher.NewCBCEncrypter(block, iv), down: cipher.NewCBCDecrypter(block, iv)} {
		record(desName)(string(way), func() (measured, error) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			buf, bytes := make([]byte, 1400), 0
			used := threadCPU() // the other processors are free for others
			for end := time.Now().Add(p.length / 2); time.Now().Before(end); bytes += len(buf) {
				mode.CryptBlocks(buf, buf)
			}
			return measured{map[string]float64{valueNearCost: (threadCPU() - used) / float64(bytes) * 1e9}, 0}, nil
		})
	}
	return nil
}

// threadCPU is the processor time of this thread, in seconds.
func threadCPU() float64 {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &r) != nil {
		return 0
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// farAway is the round-trip time of the second measurement of connecting.
const farAway = 100 * time.Millisecond

// connectTimes measures how long the client and charon-cmd take to connect, near and far, in
// any order.
func connectTimes(w *world, _ plan, record func(string) testFunc) (err error) {
	lab, err := w.startLab()
	if err != nil {
		return err
	}
	if err := command(lab.script, "connect", labProfile); err != nil { // writes charon-cmd's configuration
		return err
	}
	if err := command(lab.script, "disconnect"); err != nil {
		return err
	}
	s, err := w.startService(lab.client)
	if err != nil {
		return err
	}
	defer s.stop()
	places := []struct {
		name      string
		roundTrip time.Duration
	}{{"near", 0}, {farAway.String(), farAway}}
	rand.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	for _, place := range places {
		if err := lab.delay(place.roundTrip); err != nil {
			return err
		}
		clients := []func(){
			func() { record(wayfarerName)(place.name, func() (measured, error) { return lab.connectWayfarer(s) }) },
			func() { record(charonName)(place.name, lab.connectCharon) },
		}
		rand.Shuffle(len(clients), func(i, j int) { clients[i], clients[j] = clients[j], clients[i] })
		for _, connect := range clients {
			connect()
		}
	}
	return lab.delay(0)
}
