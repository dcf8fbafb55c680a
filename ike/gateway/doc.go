// Package gateway is a small IKEv1 gateway for road warriors, for demonstrations
// and for tests. It is not for production: it trades speed and access control for
// being easy to read and easy to make misbehave.
//
// It answers Main and Aggressive Mode, proves itself by a certificate or a group's
// secret, asks for login and password by XAUTH, gives settings by Mode-Config (asked for
// or pushed), and builds ESP tunnels by Quick Mode, in UDP or as IP protocol 50 (a raw
// [Socket]). Whoever connects reaches either a userspace network with a web page, a name
// server and an echo service ([Inside]), or callbacks of a test ([Config].Packets), or a
// data path that gets the ESP SAs ([Config].Handover).
//
// The wire formats are those of packages isakmp and esp. Keys, hashes and
// initialisation vectors are derived by code of this package (keys.go, dh.go), and
// packets are compressed by another implementation (ipcomp.go), so that a mistake of
// the client is not mirrored here.
//
// One goroutine, the loop of [Gateway.Serve], owns all state; sockets, timers and
// the exported methods hand their work to it. Time is only ever read through
// package time, so a gateway lives in a testing/synctest bubble. A test changes
// what the gateway says by [Config].Hook, which sees every message before it is
// hashed and encrypted, and what the network does to it by the filters of [Net].
// [Config].Quirks are habits of gateways in the field, and [Racoon], [Cisco] and their
// like put together all that is known of one kind.
//
//	Serve -> receive (demultiplex, reassemble, duplicates)
//	           phase1 -> xauth -> modecfg -> quickmode -> child
//	           informational (DPD, Delete, Notify)
//	         esp     -> child -> Inside or Packets
package gateway
