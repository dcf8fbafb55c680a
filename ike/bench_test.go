package ike

import (
	"net/netip"
	"strings"
	"testing"
)

// BenchmarkHandshake is a connection from its beginning to its end, with the gateway's
// half of the work, over loopback.
func BenchmarkHandshake(b *testing.B) {
	for _, suite := range []string{"aes256-sha256-modp2048", "aes256-sha256-ecp256", "aes256-sha384-ecp384"} {
		b.Run(suite, func(b *testing.B) {
			cfg := loopbackGateway(b)
			cfg.IKE = suites(b, ParseIKESuite, suite)
			b.ReportAllocs()
			for b.Loop() {
				s, err := Dial(b.Context(), cfg)
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}

// benchPacket is as long as a full segment of TCP, benchBatch as many of them as a packet
// of 64 KiB makes.
const (
	benchPacket = 1400
	benchBatch  = 45
)

func full(src, dst netip.Addr) []byte {
	const headers = 28
	return ipv4(src, dst, strings.Repeat("x", benchPacket-headers))
}

// BenchmarkWritePacket is the way out of packets, to where they leave: policy, sealing,
// and runs of datagrams.
func BenchmarkWritePacket(b *testing.B) {
	s := loopbackSession(b)
	packet := withTail(full(firstVIP, insideHost))
	b.SetBytes(benchBatch * benchPacket)
	b.ReportAllocs()
	for b.Loop() {
		for range benchBatch {
			if err := s.WritePacket(packet); err != nil {
				b.Fatal(err)
			}
		}
		s.unclaim()
		s.outbox.Empty()
	}
}

// BenchmarkReceive is the way in, from where datagrams have come to where packets are
// delivered: SPI, opening, replay, policy.
func BenchmarkReceive(b *testing.B) {
	s := loopbackSession(b)
	f := newForeignSA(b, s, 0x01020304)
	installed := make(chan struct{})
	s.do(func() error { s.install(f.child); close(installed); return nil })
	<-installed
	delivered := 0
	s.Receive(func(packets [][]byte) { delivered += len(packets) })
	a := allArrivals(1)
	a.from[0] = netip.AddrPortFrom(s.transport.gateway, portNATT)
	packet := full(insideHost, firstVIP)
	b.SetBytes(benchBatch * benchPacket)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		a.sizes[0] = 0
		for range benchBatch {
			sealed := f.seal(b, packet)
			a.segments[0] = len(sealed)
			a.sizes[0] += copy(a.bufs[0][a.sizes[0]:], sealed)
		}
		b.StartTimer()
		s.transport.sort(s.transport.conn, a, 1)
		s.receiveESP(a.esp)
	}
	if delivered == 0 || delivered%benchBatch != 0 {
		b.Errorf("%d packets were delivered", delivered)
	}
}
