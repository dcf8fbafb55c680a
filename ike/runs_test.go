package ike

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/gateway"
)

// runConn makes a BatchConn of any socket: what has come by the time of a call comes in
// as few runs as possible.
type runConn struct {
	net.PacketConn
	ends     readEnds
	t        testing.TB
	arrivals chan arrived
	left     *arrived // did not belong to the last run
	longest  int      // datagrams of a run; owned by the reader
}

type arrived struct {
	data []byte
	from netip.AddrPort
}

func newRunConn(t testing.TB, conn net.PacketConn) *runConn {
	c := &runConn{PacketConn: conn, ends: newReadEnds(), t: t, arrivals: make(chan arrived, 1000)}
	go func() {
		defer close(c.arrivals)
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			c.arrivals <- arrived{bytes.Clone(buf[:n]), addrPortOf(from)}
		}
	}()
	return c
}

func (c *runConn) SetReadDeadline(t time.Time) error { return c.ends.SetReadDeadline(t) }

// wait waits for a datagram.
func (c *runConn) wait() (arrived, error) {
	select {
	case d, ok := <-c.arrivals:
		if !ok {
			return d, net.ErrClosed
		}
		return d, nil
	case <-c.ends:
		return arrived{}, os.ErrDeadlineExceeded
	}
}

func (c *runConn) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	next := c.left
	c.left = nil
	if next == nil {
		d, err := c.wait()
		if err != nil {
			return 0, err
		}
		next = &d
	}
	n := -1
	ended, count := true, 0
	for next != nil {
		if ended || next.from != from[n] || len(next.data) > segments[n] || sizes[n]+len(next.data) > maxDatagram {
			if n+1 == len(bufs) {
				c.left = next
				break
			}
			n++
			sizes[n], segments[n], from[n], count = 0, len(next.data), next.from, 0
		}
		sizes[n] += copy(bufs[n][sizes[n]:], next.data)
		count++
		c.longest = max(c.longest, count)
		ended = len(next.data) < segments[n] || len(next.data) == 0
		next = nil
		select {
		case d, ok := <-c.arrivals:
			if ok {
				next = &d
			}
		default:
		}
	}
	return n + 1, nil
}

func (c *runConn) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	for i, run := range runs {
		if count := (len(run) + segments[i] - 1) / segments[i]; len(run) == 0 || len(run) > maxRunLen || count > maxRun {
			c.t.Errorf("a run of %d bytes in %d datagrams", len(run), count)
		}
		var failed error
		for part := range slices.Chunk(run, segments[i]) {
			if _, err := c.WriteTo(part, net.UDPAddrFromAddrPort(to)); err != nil {
				failed = err
			}
		}
		if failed != nil {
			return i, failed
		}
	}
	return len(runs), nil
}

// addrConn gives and takes addresses without an allocation, as *net.UDPConn does.
type addrConn struct{ net.PacketConn }

func (c addrConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.ReadFrom(b)
	return n, addrPortOf(from), err
}

func (c addrConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return c.WriteTo(b, net.UDPAddrFromAddrPort(to))
}

// runsOut takes runs, and gives datagrams one by one, as sockets of Windows do.
type runsOut struct{ *runConn }

func (c runsOut) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	d, err := c.wait()
	if err != nil {
		return 0, err
	}
	sizes[0], segments[0], from[0] = copy(bufs[0], d.data), len(d.data), d.from
	return 1, nil
}

// socketKind makes a socket of its kind of any.
type socketKind func(testing.TB, net.PacketConn) net.PacketConn

// sockets are the ways in which sockets may move datagrams.
var sockets = []struct {
	name string
	of   socketKind
}{
	{"datagrams", func(_ testing.TB, c net.PacketConn) net.PacketConn { return c }},
	{"addresses", func(_ testing.TB, c net.PacketConn) net.PacketConn { return addrConn{c} }},
	{"runs", func(t testing.TB, c net.PacketConn) net.PacketConn { return newRunConn(t, c) }},
	{"runs out", func(t testing.TB, c net.PacketConn) net.PacketConn { return runsOut{newRunConn(t, c)} }},
}

// inWorlds runs a test with sockets of each kind.
func inWorlds(t *testing.T, test func(*world)) {
	t.Helper()
	for _, socket := range sockets {
		t.Run(socket.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.socket = socket.of
				test(w)
			})
		})
	}
}

// inBothWorlds is inWorlds with both exchanges of phase 1.
func inBothWorlds(t *testing.T, test func(*world)) {
	t.Helper()
	for _, exchange := range bothExchanges {
		t.Run(string(exchange), func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.client.Exchange = exchange
				test(w)
			})
		})
	}
}

// inTurns is inWorlds with the exchanges of phase 1 taking turns: for tests of so many
// cases that each meets each kind of socket and each exchange, but not each of both.
func inTurns(t *testing.T, test func(*world)) {
	t.Helper()
	turn := 0
	inWorlds(t, func(w *world) {
		w.client.Exchange = bothExchanges[turn%len(bothExchanges)]
		turn++
		test(w)
	})
}

// TestRunsAreUsed: packets of one size leave as one run, and what comes in runs is taken
// apart, keepalives and messages of IKE too.
func TestRunsAreUsed(t *testing.T) {
	inWorld(t, func(w *world) {
		var conn *runConn
		listen := w.client.ListenPacket
		w.client.ListenPacket = func(ctx context.Context, gw netip.Addr, port uint16) (net.PacketConn, error) {
			plain, err := listen(ctx, gw, port)
			conn = newRunConn(t, plain)
			return conn, err
		}
		w.start()
		s := w.dial()
		received := receive(s)
		w.setRule(func(from, _ netip.AddrPort, data []byte) []gateway.Delivery {
			if toClient(from) && mathrand.IntN(10) == 0 {
				return []gateway.Delivery{{Datagram: []byte{0xff}}, {Datagram: data}} // a keepalive
			}
			return deliver(data)
		})
		var want [][]byte
		for i := range 200 {
			p := ipv4(insideHost, firstVIP, fmt.Sprintf("in %3d", i))
			want = append(want, p)
			if err := w.gw.SendPacket(p); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := received(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d packets, want %d", len(got), len(want))
		}
		if conn.longest < 2 {
			t.Errorf("the longest run has %d datagrams", conn.longest)
		}
	})
}

// recordConn is a socket that keeps what is sent.
type recordConn struct {
	net.PacketConn // none; only what follows is used
	ends           readEnds
	sent           [][]byte
	to             []net.Addr
	fail           func(b []byte) error
	closed         chan struct{}
}

func (c *recordConn) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 4500}
}

func (c *recordConn) ReadFrom([]byte) (int, net.Addr, error) {
	select {
	case <-c.closed:
		return 0, nil, net.ErrClosed
	case <-c.ends:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *recordConn) SetReadDeadline(t time.Time) error { return c.ends.SetReadDeadline(t) }

func (c *recordConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.fail != nil {
		if err := c.fail(b); err != nil {
			return 0, err
		}
	}
	c.sent, c.to = append(c.sent, bytes.Clone(b)), append(c.to, to)
	return len(b), nil
}

func (c *recordConn) Close() error { close(c.closed); return nil }

// recordRuns is one that takes runs, and of whose runs some fail.
type recordRuns struct {
	*recordConn
	t testing.TB
}

func (c recordRuns) ReadBatch([][]byte, []int, []int, []netip.AddrPort) (int, error) {
	_, _, err := c.ReadFrom(nil)
	return 0, err
}

func (c recordRuns) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	return (&runConn{PacketConn: c.recordConn, t: c.t}).WriteBatch(runs, segments, to)
}

// pipe is a session without a gateway, whose ESP SAs a test makes.
type pipe struct {
	*Session
	conn *recordConn
	sas  []*pipeSA
	spi  uint32
	t    testing.TB
}

// pipeSA is an ESP SA with the gateway's end of it.
type pipeSA struct {
	child *childSA
	in    *esp.Inbound
	out   *esp.Outbound
}

var pipeGateway = netip.MustParseAddrPort("192.0.2.1:4500")

func newPipe(t testing.TB, runs bool, marker int) *pipe {
	t.Helper()
	record := &recordConn{ends: newReadEnds(), closed: make(chan struct{})}
	var conn net.PacketConn = record
	if runs {
		conn = recordRuns{record, t}
	}
	s, err := newSession(&Config{
		Gateway: pipeGateway.Addr().String(), Login: "x", Password: Secret("x"),
		ListenPacket: func(context.Context, netip.Addr, uint16) (net.PacketConn, error) { return conn, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.transport, err = newTransport(context.Background(), &s.cfg, pipeGateway.Addr(), s.clock, s.log, func(int) {}, s.receiveESP)
	if err != nil {
		t.Fatal(err)
	}
	s.transport.whole.Store(1500)
	s.transport.nonIKE.Store(marker > 0)
	s.espPath.Store(&espPath{peer: pipeGateway, marker: marker})
	s.policy.Store(newPolicy(Assignment{Addresses: pipeLocals}, &s.cfg))
	t.Cleanup(s.transport.close)
	return &pipe{Session: s, conn: record, t: t}
}

var (
	pipeLocals  = []netip.Prefix{netip.MustParsePrefix("10.99.0.1/32"), netip.MustParsePrefix("fd00:99::1/128")}
	pipeRemotes = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("fd00:1::/64")}
	pipeSuites  = []string{"aes128gcm16", "aes256-sha256", "aes128ctr-sha1", "aes128gcm8"}
)

// add makes an ESP SA to a network, which takes over from those before.
func (p *pipe) add(remote int) *pipeSA {
	p.t.Helper()
	p.spi++
	suite, err := ParseESPSuite(pipeSuites[int(p.spi)%len(pipeSuites)])
	if err != nil {
		p.t.Fatal(err)
	}
	tr := suite.transform()
	keyIn, keyOut := make([]byte, tr.KeyMaterialLen()), make([]byte, tr.KeyMaterialLen())
	random := mathrand.NewChaCha8([32]byte{byte(p.spi)}) // so that the fuzzer sees no change where there is none
	random.Read(keyIn)
	random.Read(keyOut)
	must := func(err error) {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	sa := new(pipeSA)
	in, err := esp.NewInbound(tr, p.spi, keyIn)
	must(err)
	out, err := esp.NewOutbound(tr, p.spi, keyOut, random)
	must(err)
	sa.out, err = esp.NewOutbound(tr, p.spi, keyIn, random)
	must(err)
	sa.in, err = esp.NewInbound(tr, p.spi, keyOut)
	must(err)
	local := pipeLocals[0]
	if !pipeRemotes[remote].Addr().Is4() {
		local = pipeLocals[1]
	}
	now := time.Now()
	sa.child = &childSA{
		spiIn: p.spi, spiOut: p.spi, suite: suite, pair: selectorPair{local, pipeRemotes[remote]}, local: local, remote: pipeRemotes[remote],
		established: now, expires: now.Add(time.Hour), rekeyAt: now.Add(time.Hour), rekeyAfter: rekeySequence, headerLen: tr.HeaderLen(), in: in, out: out,
	}
	p.install(sa.child)
	p.activate(sa.child)
	p.sas = append(p.sas, sa)
	return sa
}

// drop forgets the oldest ESP SA.
func (p *pipe) drop() {
	if len(p.sas) > 0 {
		p.remove(p.sas[0].child)
		p.sas = p.sas[1:]
	}
}

// saFor is the plain way to find the ESP SA of a packet: the newest that has its
// addresses.
func (p *pipe) saFor(local, remote int) *pipeSA {
	for _, sa := range slices.Backward(p.sas) {
		if sa.child.remote == pipeRemotes[remote] && sa.child.local == pipeLocals[local] {
			return sa
		}
	}
	return nil
}

// pipePacket is an inner packet between one of our addresses and a network.
func pipePacket(remote, size int, outward bool) []byte {
	src, dst := pipeLocals[0].Addr(), pipeRemotes[remote].Addr().Next()
	if !dst.Is4() {
		src = pipeLocals[1].Addr()
	}
	if !outward {
		src, dst = dst, src
	}
	if dst.Is4() {
		return ipv4(src, dst, string(bytes.Repeat([]byte{byte(size)}, size)))
	}
	head := []byte{0x60, 0, 0, 0, byte(size >> 8), byte(size), 59, 64}
	return slices.Concat(head, src.AsSlice(), dst.AsSlice(), bytes.Repeat([]byte{byte(size)}, size))
}

// FuzzRuns: packets through a session, of any sizes, for several ESP SAs that come and
// go in the midst of a batch, arrive at the other end one by one as they were given. So
// do those that come in runs, among forged and repeated ones.
func FuzzRuns(f *testing.F) {
	for seed := range uint64(6) {
		r := mathrand.New(mathrand.NewPCG(seed, 1))
		data := make([]byte, 600)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Add(bytes.Repeat([]byte{3, 0, 250}, 300)) // of one size
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1500 {
			return
		}
		for i := range 4 {
			outward(t, data, i&1 != 0, i>>1*nonIKEMarkerLen)
			inward(t, data, i&1 != 0, i>>1*nonIKEMarkerLen)
		}
	})
}

// outward sends what data says, and compares with what a gateway makes of the datagrams.
func outward(t *testing.T, data []byte, runs bool, marker int) {
	p := newPipe(t, runs, marker)
	var want [][]byte
	var by []*pipeSA
	for ; len(data) >= 3; data = data[3:] {
		remote, size := int(data[1])%len(pipeRemotes), int(data[2])*6
		switch what := data[0] % 32; what {
		case 0:
			p.add(remote)
		case 1:
			p.drop()
		case 2:
			p.Flush()
		default:
			packet := pipePacket(remote, size, true)
			local := remote / 2
			if what == 3 {
				packet = packet[:min(len(packet), 12)] // none
				remote = 0
			} else if sa := p.saFor(local, remote); sa != nil {
				want, by = append(want, packet), append(by, sa)
			}
			whole := append(withTail(packet), "what stands behind"[:Tailroom]...)
			before := bytes.Clone(whole)
			if err := p.WritePacket(whole[:len(packet)]); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(whole, before) {
				t.Fatal("a packet was changed, or what stands behind it")
			}
		}
	}
	p.Flush()
	if len(p.conn.sent) != len(want) {
		t.Fatalf("%d datagrams, want %d", len(p.conn.sent), len(want))
	}
	for i, b := range p.conn.sent {
		if len(b) < marker || !bytes.Equal(b[:marker], make([]byte, marker)) {
			t.Fatalf("datagram %d begins with % x", i, b[:marker])
		}
		got, err := by[i].in.Open(make([]byte, len(b)), b[marker:])
		if err != nil || !bytes.Equal(got, want[i]) {
			t.Fatalf("packet %d: %x, %v; want %x", i, got, err, want[i])
		}
	}
}

// inward has what data says arrive, and compares with what was sealed and is right.
func inward(t *testing.T, data []byte, runs bool, marker int) {
	p := newPipe(t, runs, marker)
	var got, want, waiting [][]byte
	var sent []sentPacket
	p.Receive(func(packets [][]byte) {
		for _, packet := range packets {
			got = append(got, bytes.Clone(packet))
		}
	})
	arrive := func() {
		from := pipeGateway
		if marker > 0 {
			from = netip.AddrPortFrom(pipeGateway.Addr(), portIKE)
		}
		for _, s := range sent {
			if covered(p, s.remote) {
				want = append(want, s.packet)
			}
		}
		takeRuns(p, waiting, from, runs)
		waiting, sent = nil, nil
	}
	for i := range pipeRemotes {
		p.add(i)
	}
	for ; len(data) >= 3; data = data[3:] {
		remote, size := int(data[1])%len(pipeRemotes), int(data[2])*6
		switch what := data[0] % 32; what {
		case 0:
			p.add(remote)
		case 1:
			arrive() // those of an SA that is gone count no more
			p.drop()
		case 2:
			arrive()
		case 3:
			waiting = append(waiting, []byte{0xff})
		case 4:
			if n := len(waiting); n > 0 {
				waiting = append(waiting, waiting[n-1])
			}
		default:
			if len(p.sas) == 0 {
				continue
			}
			packet := pipePacket(remote, size, false)
			sa := p.sas[int(data[0])%len(p.sas)]
			buf := slices.Concat(make([]byte, esp.MaxHeadroom), packet, make([]byte, esp.MaxTailroom))
			sealed, err := sa.out.Seal(buf, esp.MaxHeadroom, len(packet))
			if err != nil {
				t.Fatal(err)
			}
			datagram := slices.Concat(make([]byte, marker), sealed)
			if what == 5 {
				datagram[len(datagram)-1] ^= 1
			} else {
				sent = append(sent, sentPacket{packet, remote})
			}
			waiting = append(waiting, datagram)
		}
	}
	arrive()
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
}

// sentPacket is an inner packet from a network.
type sentPacket struct {
	packet []byte
	remote int
}

// covered says whether an ESP SA stands whose network packets may come from.
func covered(p *pipe, remote int) bool {
	return slices.ContainsFunc(p.sas, func(sa *pipeSA) bool { return sa.child.remote == pipeRemotes[remote] })
}

// allArrivals has all its buffers.
func allArrivals(n int) *arrivals {
	a := newArrivals(n)
	a.makeBufs(n)
	a.count = n
	return a
}

// takeRuns gives datagrams to the receive loop's functions, in runs or one by one.
func takeRuns(p *pipe, datagrams [][]byte, from netip.AddrPort, runs bool) {
	a := allArrivals(1)
	if runs {
		a = allArrivals(runReads)
	}
	for len(datagrams) > 0 {
		n := 0
		for n < len(a.bufs) && len(datagrams) > 0 {
			a.sizes[n], a.segments[n], a.from[n] = 0, len(datagrams[0]), from
			for len(datagrams) > 0 && len(datagrams[0]) <= a.segments[n] && a.sizes[n]+len(datagrams[0]) <= maxDatagram {
				size := copy(a.bufs[n][a.sizes[n]:], datagrams[0])
				a.sizes[n] += size
				datagrams = datagrams[1:]
				if !runs || size < a.segments[n] {
					break
				}
			}
			n++
		}
		p.transport.sort(p.transport.conn, a, n)
		if len(a.esp) > 0 {
			p.receiveESP(a.esp)
		}
	}
}

// TestLostRuns: what is too large goes by itself, and when a run cannot be sent, or one
// datagram, those behind it are.
func TestLostRuns(t *testing.T) {
	for _, runs := range []bool{false, true} {
		p := newPipe(t, runs, 0)
		sa := p.add(0)
		var told []int
		p.transport.tooBig = func(mtu int) { told = append(told, mtu) }
		p.conn.fail = func(b []byte) error {
			if len(b) > 1400 && len(b) < 1500 {
				return syscall.EMSGSIZE
			}
			return nil
		}
		var want []int
		for _, size := range []int{100, 100, 1380, 100, 100, 4000, 200} {
			send := withTail(pipePacket(0, size, true))
			if err := p.WritePacket(send); err != nil {
				t.Fatal(err)
			}
			if size != 1380 {
				want = append(want, len(send))
			}
		}
		p.Flush()
		var got []int
		for _, b := range p.conn.sent {
			inner, err := sa.in.Open(make([]byte, len(b)), b)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, len(inner))
		}
		if !slices.Equal(got, want) {
			t.Errorf("runs %v: packets of %v bytes went out, want %v", runs, got, want)
		}
		if len(told) != 1 || told[0] < 1400 || told[0] > 1500 {
			t.Errorf("runs %v: told of %v", runs, told)
		}
		if hint := p.hint(); hint != "" {
			t.Errorf("runs %v: a datagram that is too large explains silence: %q", runs, hint)
		}
		if first := binary.BigEndian.Uint32(p.conn.sent[len(p.conn.sent)-1][4:]); first != 7 {
			t.Errorf("runs %v: the last packet has number %d", runs, first)
		}
	}
}

// TestFullQueue: an error that does not say so is not taken for a datagram that is too large.
// It explains why a gateway is silent until that is heard again.
func TestFullQueue(t *testing.T) {
	for _, runs := range []bool{false, true} {
		for _, failure := range []error{syscall.ENOBUFS, syscall.ENETUNREACH, syscall.EPERM, syscall.ECONNREFUSED} {
			synctest.Test(t, func(t *testing.T) {
				p := newPipe(t, runs, 0)
				p.add(0)
				p.transport.tooBig = func(mtu int) { t.Errorf("runs %v, %v: told of %d", runs, failure, mtu) }
				p.conn.fail = func([]byte) error { return failure }
				send := func() {
					for range 3 {
						if err := p.WritePacket(withTail(pipePacket(0, 1300, true))); err != nil {
							t.Fatal(err)
						}
					}
					p.Flush()
				}
				for _, heard := range []bool{false, true} {
					if heard {
						p.heard()
						if hint := p.hint(); hint != "" {
							t.Errorf("runs %v, %v: the hint is %q after the gateway was heard", runs, failure, hint)
						}
						time.Sleep(time.Second)
					}
					send()
					if hint := p.hint(); hint != failure.Error() {
						t.Errorf("runs %v, %v, heard %v: the hint is %q", runs, failure, heard, hint)
					}
				}
			})
		}
	}
	if !isTooLarge(os.NewSyscallError("sendmmsg", syscall.EMSGSIZE)) || !isTooLarge(&net.OpError{Op: "write", Err: os.NewSyscallError("wsasendto", syscall.Errno(10040))}) {
		t.Error("what is too large is not known")
	}
}

// TestRunShapes: how datagrams are put together.
func TestRunShapes(t *testing.T) {
	for _, tt := range []struct {
		sizes []int
		want  []int // bytes of each run
	}{
		{[]int{100}, []int{100}},
		{[]int{100, 100, 100}, []int{300}},
		{[]int{100, 100, 60, 60, 60}, []int{260, 120}},
		{[]int{60, 100, 100}, []int{60, 200}},
		{slices.Repeat([]int{50}, 65), []int{64 * 50, 50}},
		{slices.Repeat([]int{1400}, 47), []int{46 * 1400, 1400}},
		{[]int{70_000, 10}, []int{70_000, 10}},
	} {
		o := new(Batch)
		for _, n := range tt.sizes {
			if _, ok := o.Room(n); !ok {
				t.Fatal("no room")
			}
			o.Add(n)
		}
		var got []int
		for _, run := range o.Runs {
			got = append(got, len(run))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: runs of %v, want %v", tt.sizes, got, tt.want)
		}
	}
}

// TestTinySegments: what a large packet of the host is cut into may be any number of tiny
// ones: all go, in their order, though they take far more room than it did.
func TestTinySegments(t *testing.T) {
	for _, runs := range []bool{false, true} {
		p := newPipe(t, runs, nonIKEMarkerLen)
		sa := p.add(0)
		const many = 64 << 10 / 8
		for i := range many {
			packet := pipePacket(0, 8, true)
			binary.BigEndian.PutUint32(packet[len(packet)-4:], uint32(i))
			if err := p.WritePacket(withTail(packet)); err != nil {
				t.Fatal(err)
			}
		}
		p.Flush()
		if len(p.conn.sent) != many {
			t.Fatalf("runs %v: %d datagrams, want %d", runs, len(p.conn.sent), many)
		}
		for i, b := range p.conn.sent {
			inner, err := sa.in.Open(make([]byte, len(b)), b[nonIKEMarkerLen:])
			if err != nil || binary.BigEndian.Uint32(inner[len(inner)-4:]) != uint32(i) {
				t.Fatalf("runs %v: datagram %d: % x, %v", runs, i, inner, err)
			}
		}
	}
}

// TestPathInMidBatch: what was sealed before the gateway's address changed goes to the old
// one.
func TestPathInMidBatch(t *testing.T) {
	for _, runs := range []bool{false, true} {
		p := newPipe(t, runs, 0)
		p.add(0)
		write := func(n int) {
			for range n {
				if err := p.WritePacket(withTail(pipePacket(0, 100, true))); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(3)
		p.espPath.Store(&espPath{peer: netip.AddrPortFrom(pipeGateway.Addr(), 4501)})
		write(2)
		p.Flush()
		var ports []int
		for _, to := range p.conn.to {
			ports = append(ports, to.(*net.UDPAddr).Port)
		}
		if want := []int{4500, 4500, 4500, 4501, 4501}; !slices.Equal(ports, want) {
			t.Errorf("runs %v: to the ports %v, want %v", runs, ports, want)
		}
	}
}

// TestExpandedBatch: packets of a batch that become large do not get in each other's way.
func TestExpandedBatch(t *testing.T) {
	p := newPipe(t, true, 0)
	sa := p.add(0)
	sa.child.cpiIn = 1000
	sa.child.in.ExpandWith(func(dst, payload []byte, _ byte) ([]byte, byte, error) {
		large := pipePacket(0, 40_000+int(payload[len(payload)-1]), false)
		return dst[:copy(dst, large)], esp.NextIPv4, nil
	})
	var datagrams, want, got [][]byte
	for i := range 10 {
		small := pipePacket(0, 100+i, false)
		buf := slices.Concat(make([]byte, esp.MaxHeadroom), small, make([]byte, esp.MaxTailroom))
		sealed, err := sa.out.Seal(buf, esp.MaxHeadroom, len(small))
		if err != nil {
			t.Fatal(err)
		}
		datagrams, want = append(datagrams, sealed), append(want, pipePacket(0, 40_100+i, false))
	}
	p.Receive(func(packets [][]byte) {
		for _, packet := range packets {
			got = append(got, bytes.Clone(packet))
		}
	})
	takeRuns(p, datagrams, pipeGateway, true)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d packets, want %d", len(got), len(want))
	}
}
