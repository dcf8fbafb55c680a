//go:build linux

package main

import (
	"crypto/cipher"
	"crypto/des"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// plan is how long things are measured.
type plan struct {
	rounds          int
	more            int           // rounds, for those that were disturbed
	length          time.Duration // of a transfer
	settle, idle    time.Duration // before an idle connection is looked at; how long it is
	pings, attempts int
	bound           float64 // of others' share of the processors
}

var (
	// Go's runtime collects garbage each two minutes at least: a look at a service that rests
	// holds one collection.
	fullPlan  = plan{rounds: 5, more: 5, length: 2 * time.Second, settle: 20 * time.Second, idle: 120 * time.Second, pings: 300, attempts: 2}
	quickPlan = plan{rounds: 1, length: time.Second, settle: 3 * time.Second, idle: 5 * time.Second, pings: 100, attempts: 1}
)

// subset is what is measured in one go, with the variants in another order in each round.
type subset struct {
	name     string
	variants []variant
	// measure runs the subset's tests on a link by calling test for each.
	measure func(w *world, p plan, l *link, test testFunc)
	values  []string // columns of its table
	// alone, if set, is done in every round beside the variants; it needs no link.
	alone func(w *world, p plan, record func(variant string) testFunc) error
}

// testFunc does a test and keeps what it gives; more than once, if others disturb it.
type testFunc func(name string, f func() (measured, error))

var tcpValues = []string{valueRate, valueNearCost, valueFarCost, valueMemory, valueAllocs}

var subsets = []subset{
	{
		name: "tcp", variants: []variant{veth, forwarder, fastClient, wireguard, openvpn}, values: tcpValues,
		measure: func(_ *world, p plan, l *link, test testFunc) {
			for _, streams := range []int{1, 8} {
				for _, way := range directions {
					test(fmt.Sprintf("%s, %d", way, streams), func() (measured, error) { return l.tcp(p.length, streams, way) })
				}
			}
		},
	},
	{
		name: "pps", variants: []variant{forwarder, fastClient, wireguard, openvpn}, values: []string{valuePackets, valuePacketNS},
		measure: func(w *world, p plan, l *link, test testFunc) {
			for _, size := range []int{64, 512, 1400} {
				test(fmt.Sprintf("%d bytes", size), func() (measured, error) { return l.packets(w, size, p.length) })
			}
		},
	},
	{
		name: "ping", variants: []variant{veth, forwarder, fastClient, wireguard, openvpn}, values: []string{valueMedian, valueP99},
		measure: func(_ *world, p plan, l *link, test testFunc) {
			test("idle", func() (measured, error) { return l.ping(p.pings, 5*time.Millisecond) })
			test("loaded", func() (measured, error) { return l.loadedPing(p.pings, 10*time.Millisecond) })
			test("slow uplink", func() (measured, error) { return l.slowPing(p.pings, 10*time.Millisecond) })
		},
	},
	{
		name: "idle", variants: []variant{fastClient, wireguard}, values: []string{valueSwitches, valueIdleCPU, valueMemory},
		measure: func(_ *world, p plan, l *link, test testFunc) {
			test("connected", func() (measured, error) { return l.idle(p.settle, p.idle), nil })
		},
	},
	{
		name: "datagrams", values: tcpValues, variants: []variant{
			{name: wayfarerName, start: benchClient{suite: "aes128gcm16", io: "single"}.start},
			{name: libraryName, start: func(w *world) (*link, error) { return w.pair("static", "library", "single") }},
		},
		measure: oneStream,
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
		name: "strongswan", values: tcpValues, variants: []variant{
			{name: wayfarerName, start: startLabWayfarer},
			{name: charonName, needs: "charon-cmd", start: startLabClient("charon-cmd", labProfile)},
			{name: vpncName, needs: "vpnc", start: startLabClient("vpnc", "-e", "aes128-sha1", "hybrid-am")},
		},
		measure: oneStream,
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

// suiteNames are the ESP suites that are compared: every cipher, every length of a key and
// every integrity.
var suiteNames = []string{
	"aes128gcm16", "aes192gcm16", "aes256gcm16", "aes128gcm12", "aes128gcm8", "aes128ctr-sha1", "aes256ctr-sha256",
	"aes128-sha1", "aes192-sha1", "aes256-sha1", "aes128-sha256", "aes256-sha256", "aes256-sha384", "aes256-sha512",
	"aes128-sha256_96", "aes128-aesxcbc", "aes128-md5", "3des-sha1", "3des-md5",
}

func suiteVariants() (list []variant) {
	for _, suite := range suiteNames {
		list = append(list, variant{name: suite, start: benchClient{suite: suite, io: "whole"}.start})
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
