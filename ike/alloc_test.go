package ike

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// realRuns makes a BatchConn of a real socket.
type realRuns struct {
	*net.UDPConn
	gather int // so many datagrams for the SA of the test, which are of one length, make a run
}

func (c *realRuns) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (_ int, err error) {
	if segments[0], from[0], err = c.ReadFromUDPAddrPort(bufs[0]); err != nil {
		return 0, err
	}
	sizes[0] = segments[0]
	if binary.BigEndian.Uint32(bufs[0]) != allocSPI {
		return 1, nil
	}
	for sizes[0] < c.gather*segments[0] {
		n, err := c.Read(bufs[0][sizes[0]:])
		if err != nil {
			return 0, err
		}
		sizes[0] += n
	}
	return 1, nil
}

func (c *realRuns) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	for i, run := range runs {
		for datagram := range slices.Chunk(run, segments[i]) {
			if _, err := c.WriteToUDPAddrPort(datagram, to); err != nil {
				return i, err
			}
		}
	}
	return len(runs), nil
}

// TestNoAllocations: a packet costs none on a real socket, in either direction, in whatever
// way the socket moves datagrams. (One that knows net.Addr alone needs one for each. No
// system has such.)
func TestNoAllocations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		runs   bool
		gather int   // datagrams that arrive at once
		whole  int32 // what the path carries; more goes one by one
	}{
		{"runs", true, 3, pathMTU},
		{"runs out", true, 1, pathMTU},
		{"single datagrams", false, 1, pathMTU},
		{"too large for a run", true, 1, 60},
		{"too large", false, 1, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := loopbackGateway(t)
			cfg.ListenPacket = func(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error) {
				conn, err := listenPacket(ctx, gateway, port)
				if !tt.runs || err != nil {
					return conn, err
				}
				return &realRuns{conn.(*net.UDPConn), tt.gather}, nil
			}
			s, err := Dial(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.transport.whole.Store(tt.whole)
			sendingAllocates(t, s)
			receivingAllocates(t, s, tt.gather)
		})
	}
}

const (
	allocRuns = 200
	allocSPI  = 0x01020304 // of the SA whose packets come
)

// sendingAllocates fails if it does.
func sendingAllocates(t *testing.T, s *Session) {
	t.Helper()
	sink, err := net.ListenPacket("udp4", "127.0.0.1:0") // nobody reads it: only our side is measured
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	s.espPath.Store(&espPath{peer: addrPortOf(sink.LocalAddr())})
	var packets [][]byte
	for _, text := range []string{"hello", "hello", "a longer text", "hello"} {
		packets = append(packets, withTail(ipv4(firstVIP, insideHost, text)))
	}
	before := s.Stats().Children[0].PacketsOut
	n := testing.AllocsPerRun(allocRuns, func() {
		for _, packet := range packets {
			if err := s.WritePacket(packet); err != nil {
				t.Fatal(err)
			}
		}
		s.Flush()
	})
	if n != 0 {
		t.Errorf("WritePacket and Flush allocate %v times", n)
	}
	if got := s.Stats().Children[0].PacketsOut - before; got != uint64(len(packets)*(allocRuns+1)) {
		t.Errorf("%d packets went out", got)
	}
}

// receivingAllocates fails if it does, from the socket to who takes the packets; as many
// datagrams as are said arrive at once.
func receivingAllocates(t *testing.T, s *Session, atOnce int) {
	t.Helper()
	f := newForeignSA(t, s, allocSPI)
	installed := make(chan struct{})
	s.do(func() error { s.install(f.child); close(installed); return nil })
	<-installed
	var datagrams [][]byte
	for range (allocRuns + 1) * atOnce {
		datagrams = append(datagrams, f.seal(t, ipv4(insideHost, firstVIP, "hello")))
	}
	delivered := make(chan int)
	s.Receive(func(packets [][]byte) { delivered <- len(packets) })
	gateway, err := net.DialUDP("udp4", nil, s.transport.conn.conn.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	if n := testing.AllocsPerRun(allocRuns, func() {
		for _, datagram := range datagrams[:atOnce] {
			if _, err := gateway.Write(datagram); err != nil {
				t.Fatal(err)
			}
		}
		datagrams = datagrams[atOnce:]
		if n := <-delivered; n != atOnce {
			t.Fatalf("%d packets at once, want %d", n, atOnce)
		}
	}); n != 0 {
		t.Errorf("receiving allocates %v times", n)
	}
}

// TestNoAllocationsPlain: nor does a packet of plain ESP.
func TestNoAllocationsPlain(t *testing.T) {
	for name, listen := range map[string]func(*rawConn) net.PacketConn{
		"single packets": func(c *rawConn) net.PacketConn { return c },
		"batches":        func(c *rawConn) net.PacketConn { return rawRuns{c} },
	} {
		for _, whole := range []int32{pathMTU, 40} {
			s := loopbackSession(t)
			raw := &rawConn{ends: newReadEnds(), from: make(chan []byte)}
			s.cfg.ListenESP = func(context.Context, netip.Addr) (net.PacketConn, error) { return listen(raw), nil }
			opened := make(chan error)
			s.do(func() error {
				err := s.transport.openRaw(t.Context(), &s.cfg)
				if err == nil {
					s.transport.receiveBy(s.transport.raw.Load().receiver)
				}
				opened <- err
				return nil
			})
			if err := <-opened; err != nil {
				t.Fatal(err)
			}
			s.transport.whole.Store(whole) // less than the packets have goes one by one
			s.espPath.Store(&espPath{peer: s.sa.peer, raw: &net.IPAddr{IP: s.sa.peer.Addr().AsSlice()}})
			inner := withTail(ipv4(firstVIP, insideHost, "hello"))
			if n := testing.AllocsPerRun(200, func() {
				if err := s.WritePacket(inner); err != nil {
					t.Fatal(err)
				}
				s.Flush()
			}); n != 0 || raw.sent != 201 {
				t.Errorf("%s: sending allocates %v times; %d packets went out", name, n, raw.sent)
			}
			taken := make(chan struct{})
			byOwner(t, s, func() { s.transport.takeESP = func([][]byte) { taken <- struct{}{} } })
			packet := []byte("a packet")
			if n := testing.AllocsPerRun(200, func() { raw.from <- packet; <-taken }); n != 0 {
				t.Errorf("%s: receiving allocates %v times", name, n)
			}
			close(raw.from)
			<-s.transport.raw.Load().ended
		}
	}
}

// rawRuns is the same as a BatchConn.
type rawRuns struct{ *rawConn }

func (c rawRuns) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	n, _, err := c.ReadFrom(bufs[0])
	sizes[0], segments[0], from[0] = n, n, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	return 1, err
}

func (c rawRuns) WriteBatch(runs [][]byte, _ []int, _ netip.AddrPort) (int, error) {
	c.sent += len(runs)
	return len(runs), nil
}

// rawConn is a raw socket that gives what comes over a channel, all from one address.
type rawConn struct {
	net.PacketConn
	ends readEnds
	from chan []byte
	sent int
}

var rawPeer net.Addr = &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}

func (c *rawConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case packet, ok := <-c.from:
		if !ok {
			return 0, nil, net.ErrClosed
		}
		return copy(b, packet), rawPeer, nil
	case <-c.ends:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *rawConn) SetReadDeadline(t time.Time) error { return c.ends.SetReadDeadline(t) }
func (c *rawConn) SetWriteDeadline(time.Time) error  { return nil }

func (c *rawConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.sent++
	return len(b), nil
}

func (c *rawConn) Close() error { return nil }
