//go:build linux

// Bench measures the client beside other VPNs: throughput, packets a second, latency, and
// what they cost. It needs root and a Linux with network namespaces, and touches nothing
// outside of those that it makes.
//
//	make bench                          everything, an hour and more
//	make bench BENCH=tcp,ping           parts of it: see below
//	make bench QUICK=1                  one short round of everything, 8 minutes
//	make bench REALTIME=1 BENCH=tcp     on a busy machine: see below
//
// The two ends are namespaces (room.go) that a pair of interfaces joins; both, and the
// programs that send and receive, share this machine's processors. The near end runs the
// real client, wayfarerd and wayfarer connect, or one of the programs it is compared with
// (variants.go). The far end is the program "endpoint" of this binary: IKE is that of
// package gateway, which hands over the ESP SAs, and a data path that uses the same
// packages as the client's (pipe.go). It can also leave encryption out, which shows what
// there is to be had, or move each datagram by itself, as most gateways do. The parts
// "strongswan" and "connect" use the lab (lab.go).
//
// Parts are tcp, pps, ping, idle, datagrams (a gateway without runs of datagrams), suites
// (all that the client knows), sas (8 ESP SAs at once), rekey, strongswan and connect. Some
// of what no goal is of is measured for a shorter time: suites that have to be named, other
// programs when idle, and strongSwan's gateway but for one TCP stream. A ping that is loaded
// has an upload beside it, unless it says down. Memory beside a transfer is the most that
// the client's processes held during it, looked at every quarter of a second.
//
// In each round of a part the variants are shuffled. A measurement during which processes
// that have nothing to do with it took more of the processors than a bound (a tenth, beside
// pings a fiftieth) is repeated, and left out of the medians if that does not help; then
// rounds are added. So is one before or after which the processors together sealed at a
// speed that is not the part's usual one, within a quarter: a virtual machine's share their
// cores with others, which no counter of its own shows, and cryptography suffers more from
// that than what it is compared with. What is compared was measured in the same round: the
// table shows the medians of these ratios.
//
// The processor time of an end is that of its processes, with what the kernel does in their
// name. Between namespaces that includes what lies beyond the interface: the kernel hands a
// datagram on to the socket at the other end, through the lab's routers and its NAT too, in
// the time of who sends it. Where the far end takes datagrams one by one, that is up to a
// third of what sending costs. It counts against all variants alike. (Threads for the far
// interface's packets, which veth has, take it off all of them; the ratios do not fall.)
//
// It wants an idle machine. On a busy one "make bench REALTIME=1" has everything run at a
// real-time priority: others wait then. That is good for what keeps both processors busy
// (tcp, suites, sas, rekey), and for nothing else: programs that wait for single packets
// are woken for each, and cost up to ten times of what they do otherwise.
//
// Each part has its file of samples, build/bench/PART.json; the tables and the chart
// (report) are made of all that there are. So a part can be run again by itself, and
// "-show" runs nothing.
package main
