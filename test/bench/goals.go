//go:build linux

package main

import "wayfarer/test/bench/report"

// goals are what the data path has to reach: ratios of what was measured in the same round,
// or numbers by themselves.
var goals = func() []report.Goal {
	var list []report.Goal
	ratio := func(name, test, value string, of, over string, must, aim float64, more bool) {
		list = append(list, report.Goal{
			Name: name, Of: report.Key{Variant: of, Test: test, Value: value}, Over: report.Key{Variant: over, Test: test, Value: value},
			Must: must, Aim: aim, More: more,
		})
	}
	number := func(name, test, value string, must, aim float64) {
		list = append(list, report.Goal{Name: name, Of: report.Key{Variant: wayfarerName, Test: test, Value: value}, Must: must, Aim: aim})
	}
	for _, way := range []string{"up", "down"} {
		one := "tcp: " + way + ", 1"
		ratio("TCP "+way+" ÷ wireguard-go", one, valueRate, wayfarerName, wireguardName, 2.3, 2.6, true)
		ratio("TCP "+way+" ÷ without cryptography", one, valueRate, wayfarerName, forwarderName, 0.60, 0.70, true)
		ratio("client CPU "+way+" ÷ wireguard-go", one, valueNearCost, wayfarerName, wireguardName, 0.30, 0.25, false)
		ratio("gateway without GSO, client CPU "+way+" ÷ wireguard/tun+StdNetBind", "datagrams: "+way, valueNearCost, wayfarerName, libraryName, 0.5, 0.37, false)
		ratio("strongSwan gateway, client CPU "+way+" ÷ charon-cmd", "strongswan: "+way, valueNearCost, wayfarerName, charonName, 0.15, 0.10, false)
		suite := "suites: " + way
		ratio("AES-128-CBC with SHA-1 "+way+" ÷ own GCM", suite, valueRate, "aes128-sha1", "aes128gcm16", 0.47, 0.65, true)
		ratio("AES-256-CBC with SHA2-256 "+way+" ÷ own GCM", suite, valueRate, "aes256-sha256", "aes256gcm16", 0.40, 0.55, true)
		ratio("3DES with SHA-1, client CPU "+way+" ÷ crypto/des", suite, valueNearCost, "3des-sha1", desName, 1.1, 0.6, false)
		ratio("8 ESP SAs "+way+" ÷ 1", "sas: "+way, valueRate, "8 SAs", "1 SA", 0.95, 1, true)
	}
	ratio("64-byte packets a second ÷ wireguard-go", "pps: 64 bytes", valuePackets, wayfarerName, wireguardName, 3.5, 4.4, true)
	ratio("ping idle, median ÷ wireguard-go", "ping: idle", valueMedian, wayfarerName, wireguardName, 1, 0.6, false)
	ratio("ping under load, p99 ÷ wireguard-go", "ping: loaded", valueP99, wayfarerName, wireguardName, 0.3, 0.15, false)
	// None: what is left is of the service, not of packets.
	const none = 0.005
	for _, way := range []string{"up", "down"} {
		number("allocations for a packet, "+way, "tcp: "+way+", 1", valueAllocs, none, none)
		number("resident memory under load "+way+", MB", "tcp: "+way+", 1", valueMemory, 25, 15)
	}
	number("context switches a second, idle", "idle: connected", valueSwitches, 1, 0.2)
	ratio("connect ÷ charon-cmd", "connect: near", valueSeconds, wayfarerName, charonName, 1, 0.6, false)
	ratio("connect at 100 ms ÷ charon-cmd", "connect: 100ms", valueSeconds, wayfarerName, charonName, 1, 0.9, false)
	ratio("rekeying every 10 s ÷ none", "rekey: both", valueRate, "every 10 s", "none", 0.95, 1, true)
	return list
}()
