package daemon

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/tun"
)

// syn is a TCP SYN over IPv4 with an MSS option, without checksums.
func syn(mss uint16) []byte {
	p := make([]byte, 44)
	p[0], p[9] = 0x45, 6
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[32], p[33] = 6<<4, 2
	p[40], p[41] = 2, 4
	binary.BigEndian.PutUint16(p[42:], mss)
	return p
}

func mssOf(p []byte) uint16 { return binary.BigEndian.Uint16(p[42:]) }

func TestPumpCarriesBothWays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = fixed(session)
		w.connect(request())
		dev := w.devices[0]
		for _, p := range [][]byte{{0x45, 1, 2, 3}, syn(1460), make([]byte, 1280)} {
			dev.packets <- p
			session.inbound <- p
		}
		synctest.Wait()
		for name, got := range map[string][][]byte{"out": session.written(), "in": dev.received()} {
			if len(got) != 3 {
				t.Fatalf("%s: %d packets", name, len(got))
			}
			if !bytes.Equal(got[0], []byte{0x45, 1, 2, 3}) || len(got[2]) != 1280 {
				t.Errorf("%s: changed a packet: %x, %d bytes", name, got[0], len(got[2]))
			}
			if mss := mssOf(got[1]); mss != 1280-40 {
				t.Errorf("%s: MSS %d", name, mss)
			}
		}
	})
}

// endless gives a packet as often as wanted and then ends.
type endless struct {
	fakeTUN
	packet []byte
	left   int
}

func (d *endless) Read(take func([]byte)) error {
	if d.left == 0 {
		return io.EOF
	}
	d.left--
	take(d.packet)
	return nil
}

// sink is a session that takes packets and looks at the room behind them.
type sink struct {
	Session
	cramped int // packets without room
}

func (s *sink) WritePacket(packet []byte) error {
	if cap(packet)-len(packet) < ike.Tailroom {
		s.cramped++
	}
	return nil
}

func (*sink) Flush() {}

// pumped are packets that the pump treats in different ways, on a path that carries 600
// bytes.
func pumped() map[string][]byte {
	syn := ipv4(44, dontFragment, 0)
	syn[9] = 6                                    // TCP
	copy(syn[20+12:], []byte{6 << 4, 2})          // SYN, a header of 24 bytes
	copy(syn[40:], []byte{2, 4, 1460 >> 8, 0xb4}) // MSS 1460, which is clamped
	return map[string][]byte{"fits": ipv4(600, dontFragment, 0), "clamped": syn, "cut": ipv4(1200, 0, 0)}
}

// carry takes a packet from a device to a session as often as wanted, and returns how
// many packets came without room behind them.
func carry(packet []byte, times int) int {
	taken := new(sink)
	var session Session = taken
	p := &pump{
		device: &endless{packet: slices.Grow(slices.Clone(packet), tun.Tailroom), left: times},
		log:    slog.New(slog.DiscardHandler), failed: make(chan error, 1), stopped: make(chan struct{}),
	}
	p.setLimit(600)
	p.session.Store(&session)
	p.outward()
	return taken.cramped
}

// TestPumpAllocatesNothingPerPacket: what a thousand packets more cost is nothing; all
// leave room for what the session appends.
func TestPumpAllocatesNothingPerPacket(t *testing.T) {
	for name, packet := range pumped() {
		few := testing.AllocsPerRun(5, func() { carry(packet, 1) })
		many := testing.AllocsPerRun(5, func() { carry(packet, 1000) })
		if many != few {
			t.Errorf("%s: %v allocations for one packet, %v for 1,000", name, few, many)
		}
		if n := carry(packet, 3); n > 0 {
			t.Errorf("%s: %d packets without room behind them", name, n)
		}
	}
}

// BenchmarkPump is the way of a packet from the device to the session, encryption aside.
func BenchmarkPump(b *testing.B) {
	for name, packet := range pumped() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(packet)))
			carry(packet, b.N)
		})
	}
}

// ipv4 is a packet of an unknown protocol, without a checksum.
func ipv4(size int, flags uint16, mark byte) []byte {
	p := bytes.Repeat([]byte{mark}, size)
	copy(p, []byte{0x45, 0, byte(size >> 8), byte(size), 0, 7, byte(flags >> 8), byte(flags), 64, 253, 0, 0, 10, 99, 0, 1, 10, 10, 0, 2})
	return p
}

func ipv6(size int) []byte {
	p := make([]byte, size)
	copy(p, []byte{0x60, 0, 0, 0, byte((size - 40) >> 8), byte(size - 40), 253, 64, 0xfd})
	p[23], p[24], p[39] = 1, 0xfd, 2
	return p
}

const dontFragment = 0x4000

// TestPumpKeepsWithinThePath: what is too large goes in pieces, in its place between
// the others, or is answered.
func TestPumpKeepsWithinThePath(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		session.mtu.Store(600)
		w.script = fixed(session)
		w.connect(request())
		dev := w.devices[0]
		packets := [][]byte{
			ipv4(600, dontFragment, 1), ipv4(601, dontFragment, 2), ipv4(10_000, 0, 3), ipv4(20, 0, 4), ipv4(1200, 0, 5),
			ipv6(1280), ipv6(1281), make([]byte, 601),
		}
		for _, p := range packets {
			dev.packets <- p
		}
		synctest.Wait()
		var sizes []int
		var marks []byte
		for _, p := range session.written() {
			sizes = append(sizes, len(p))
			marks = append(marks, p[len(p)-1])
		}
		// 10,000 bytes: 17 times 576 and 188 behind a header each; 1,200: 576 twice and 28.
		want := slices.Concat([]int{600}, slices.Repeat([]int{596}, 17), []int{208, 20, 596, 596, 48, 1280})
		if !slices.Equal(sizes, want) {
			t.Errorf("sizes %v, want %v", sizes, want)
		}
		if order := slices.Compact(marks[:len(marks)-1]); !bytes.Equal(order, []byte{1, 3, 2, 5}) { // 2: an address's last byte
			t.Errorf("order %v", order)
		}
		answers := dev.answers()
		if len(answers) != 2 {
			t.Fatalf("%d answers", len(answers))
		}
		if a := answers[0]; a[9] != 1 || a[20] != 3 || a[21] != 4 || binary.BigEndian.Uint16(a[26:]) != 600 || !bytes.Equal(a[28:], packets[1][:len(a)-28]) {
			t.Errorf("answer %x", a)
		}
		if a := answers[1]; a[6] != 58 || a[40] != 2 || binary.BigEndian.Uint32(a[44:]) != 1280 || !bytes.Equal(a[48:], packets[6][:len(a)-48]) {
			t.Errorf("answer %x", a)
		}
	})
}

// TestPumpAnswersAtARate: ten a second, whoever asks.
func TestPumpAnswersAtARate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.connect(request())
		dev := w.devices[0]
		for range 5 * 40 {
			dev.packets <- ipv4(1281, dontFragment, 0)
			time.Sleep(25 * time.Millisecond)
		}
		if n := len(dev.answers()); n < 50 || n > 60 {
			t.Errorf("%d answers in 5 seconds", n)
		}
	})
}

// broken is a device that reads what it is given, and takes nothing.
type broken struct {
	endless
}

func (*broken) Write([][]byte) error { return io.ErrShortWrite }
func (*broken) Answer([]byte) error  { return io.ErrShortWrite }

// ended is a session that takes nothing any more.
type ended struct{ sink }

func (*ended) Receive(func([][]byte))   {}
func (*ended) WritePacket([]byte) error { return io.ErrUnexpectedEOF }

// TestPumpLogsLossesOnceASecond: each kind of loss by itself, with how many were passed
// over, and those cost nothing.
func TestPumpLogsLossesOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs, log := newLog()
		device := new(broken)
		p := &pump{device: device, log: log, answers: rate.NewLimiter(rate.Inf, 0), failed: make(chan error, 1)}
		p.setLimit(1280)
		defer p.attach(&ended{})()
		read := func(packet []byte) {
			device.packet, device.left, p.stopped = packet, 1, make(chan struct{})
			p.outward()
			<-p.failed
		}
		small, large := ipv4(60, 0, 0), ipv4(1281, dontFragment, 0)
		batch := [][]byte{small, small}
		for i := range 2*2000 + 1 { // a packet each half a millisecond
			if i > 0 {
				time.Sleep(time.Second / 2000)
			}
			read(small)
			p.inward(batch)
			if i%2 == 0 {
				read(large)
			}
		}
		if n := testing.AllocsPerRun(100, func() { p.send(small); p.inward(batch) }); n > 0 {
			t.Errorf("%v allocations for losses that are passed over", n)
		}
		records, _ := logs.Since(0, app.LevelTrace)
		got := map[string][]string{}
		for _, r := range records {
			got[r.Message] = append(got[r.Message], r.Attributes["error"]+" "+r.Attributes["not_logged"])
		}
		short, eof := io.ErrShortWrite.Error(), io.ErrUnexpectedEOF.Error()
		want := map[string][]string{
			"a packet to the gateway was lost": {eof + " 0", eof + " 1999", eof + " 1999"},
			"packets to the host were lost":    {short + " 0", short + " 1999", short + " 1999"},
			"an answer to the host was lost":   {short + " 0", short + " 999", short + " 999"},
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("logged %v, want %v", got, want)
		}
	})
}

// unlocked is a device that has more than the path carries, and counts without a lock: what
// one direction keeps is its owner's.
type unlocked struct {
	fakeTUN
	packet   []byte
	reads    atomic.Int64
	over     atomic.Bool
	answered int          // owned by who reads
	marks    []byte       // of what was written; owned by who writes
	writers  atomic.Int32 // at this moment
	crowded  atomic.Bool  // there were two
}

func (d *unlocked) Read(take func([]byte)) error {
	if d.over.Load() {
		return os.ErrClosed
	}
	take(d.packet)
	d.reads.Add(1)
	return nil
}

func (d *unlocked) Answer([]byte) error {
	d.answered++
	return nil
}

func (d *unlocked) Write(packets [][]byte) error {
	if d.writers.Add(1) > 1 {
		d.crowded.Store(true)
	}
	for _, p := range packets {
		d.marks = append(d.marks, p[len(p)-1])
	}
	runtime.Gosched()
	d.writers.Add(-1)
	return nil
}

// talker is a session that delivers without end.
type talker struct {
	Session
	mark    byte
	talk    sync.WaitGroup
	hush    chan struct{}
	silent  atomic.Bool
	packets atomic.Int64
}

func (s *talker) Receive(deliver func([][]byte)) {
	if deliver == nil {
		close(s.hush)
		s.talk.Wait()
		return
	}
	s.talk.Go(func() {
		for {
			select {
			case <-s.hush:
				s.silent.Store(true)
				return
			default:
				deliver([][]byte{ipv4(60, 0, s.mark)})
				s.packets.Add(1)
			}
		}
	})
}

func (*talker) Flush() {}

// TestPumpOwners: who reads answers beside who writes, and one session follows the other:
// nothing that is one owner's is another's.
func TestPumpOwners(t *testing.T) {
	d := &unlocked{packet: ipv4(1281, dontFragment, 0xff)}
	p := &pump{
		device: d, answers: rate.NewLimiter(rate.Inf, 0),
		failed: make(chan error, 1), dropped: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	p.setLimit(1280)
	go p.outward()
	const sessions = 50
	for mark := range byte(sessions) {
		s := &talker{mark: mark, hush: make(chan struct{})}
		detach := p.attach(s)
		reads := d.reads.Load()
		for s.packets.Load() < 5 || d.reads.Load() < reads+5 {
			runtime.Gosched()
		}
		detach()
		if !s.silent.Load() {
			t.Errorf("session %d is detached and delivers", mark)
		}
	}
	d.over.Store(true)
	p.wait()
	if d.crowded.Load() {
		t.Error("two wrote to the device")
	}
	if d.answered < 4*sessions { // the first may have come before the session
		t.Errorf("%d answers", d.answered)
	}
	if order := slices.Compact(slices.Clone(d.marks)); len(order) != sessions || !slices.IsSorted(order) {
		t.Errorf("the device got packets of %v", order)
	}
}

// slot is a session whose other end is a network stack, over a path of some size.
type slot struct {
	*fakeSession
	far      *tun.Stack
	limit    int
	delivery sync.WaitGroup
	mu       sync.Mutex
	over     int // packets that do not fit
}

func (s *slot) WritePacket(packet []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(packet) > s.limit {
		s.over++
		return nil
	}
	return s.far.Write([][]byte{packet})
}

// Receive implements Session. It is unset when the far stack has been closed.
func (s *slot) Receive(deliver func([][]byte)) {
	if deliver == nil {
		s.delivery.Wait()
		return
	}
	s.delivery.Go(func() {
		for s.far.Read(func(packet []byte) { deliver([][]byte{packet}) }) == nil {
		}
	})
}

// TestPumpWithStacks: datagrams of any size arrive over a path that carries far less than
// the two interfaces think.
func TestPumpWithStacks(t *testing.T) {
	near, far := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.10.0.2")
	stack := func(addr netip.Addr) *tun.Stack {
		s, err := tun.NewStack(tun.StackConfig{Addresses: []netip.Addr{addr}, MTU: 1422})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const limit = 510
	device, other := stack(near), stack(far)
	p := newPump(device, limit, slog.New(slog.DiscardHandler))
	session := &slot{fakeSession: newSession(), far: other, limit: limit}
	detach := p.attach(session)
	defer func() {
		device.Close()
		other.Close()
		detach()
		p.wait()
		if session.over > 0 {
			t.Errorf("%d packets did not fit", session.over)
		}
	}()
	receiver, err := other.ListenPacket("udp4")
	if err != nil {
		t.Fatal(err)
	}
	sender, err := device.ListenPacket("udp4")
	if err != nil {
		t.Fatal(err)
	}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(far, uint16(receiver.LocalAddr().(*net.UDPAddr).Port)))
	buf := make([]byte, 10_000)
	for size := 400; size <= 8192; size += 433 {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := sender.WriteTo(sent, to); err != nil {
			t.Fatal(err)
		}
		if n, _, err := receiver.ReadFrom(buf); err != nil || !bytes.Equal(buf[:n], sent) {
			t.Errorf("%d of %d bytes: %v", n, size, err)
		}
	}
}

// bulk is a device that always has more: a Read gives some packets, as a kernel's does.
type bulk struct {
	fakeTUN
	reads, left int
}

func (d *bulk) Read(take func([]byte)) error {
	if d.left == 0 {
		return os.ErrClosed
	}
	d.left--
	for range d.reads {
		take(make([]byte, 60, 100))
	}
	return nil
}

// TestPumpFlushes: what a Read has given leaves before the next one, however much there
// is.
func TestPumpFlushes(t *testing.T) {
	s := &flushed{fakeSession: newSession()}
	var session Session = s
	p := &pump{device: &bulk{reads: 5, left: 10}, failed: make(chan error, 1), stopped: make(chan struct{})}
	p.setLimit(1280)
	p.session.Store(&session)
	p.outward()
	if s.most != 5 || len(s.written()) != 50 || s.flushes < 10 {
		t.Errorf("at most %d packets waited, %d went in %d turns", s.most, len(s.written()), s.flushes)
	}
}

// TestPumpFlushesTheSessionBefore: what one session has been given leaves though the host's
// next packet, of the same Read, goes to another.
func TestPumpFlushesTheSessionBefore(t *testing.T) {
	first, second := &flushed{fakeSession: newSession()}, &flushed{fakeSession: newSession()}
	sessions := [...]Session{first, second}
	p := &pump{}
	p.setLimit(1280)
	for i := range sessions {
		p.session.Store(&sessions[i])
		p.send(make([]byte, 60, 100))
	}
	if len(first.written()) != 1 || len(second.written()) != 0 {
		t.Errorf("%d and %d packets have left amid the Read", len(first.written()), len(second.written()))
	}
}

// TestPumpGathers: beside a device of the library's, which gives one packet with each Read,
// what the host sends while the session sends leaves together with the next Flush. A packet
// that comes alone leaves alone.
func TestPumpGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := tuntest.NewChannelTUN()
		s := &held{flushed: flushed{fakeSession: newSession()}, sends: make(chan struct{})}
		var session Session = s
		p := &pump{device: tun.FromLibrary(host.TUN()), failed: make(chan error, 1), stopped: make(chan struct{})}
		p.setLimit(1280)
		p.session.Store(&session)
		go p.outward()
		send := func(marks ...byte) {
			for _, mark := range marks {
				host.Outbound <- ipv4(1280, dontFragment, mark)
			}
			synctest.Wait()
		}
		send(0)
		send(1, 2, 3, 4, 5, 6, 7, 8, 9)
		for range 2 {
			s.sends <- struct{}{}
			synctest.Wait()
		}
		close(s.sends)
		send(10)
		if s.most != 9 || s.flushes != 3 {
			t.Errorf("%d flushes, of %d packets at most", s.flushes, s.most)
		}
		got := s.written()
		for i, p := range got {
			if len(p) != 1280 || p[1279] != byte(i) {
				t.Errorf("packet %d is the %dth, of %d bytes", p[len(p)-1], i, len(p))
			}
		}
		if len(got) != 11 {
			t.Errorf("%d packets", len(got))
		}
		p.device.Close()
		p.wait()
		if len(p.failed) > 0 {
			t.Error(<-p.failed)
		}
	})
}

// held is a session that takes its time to send.
type held struct {
	flushed
	sends chan struct{}
}

func (s *held) Flush() {
	<-s.sends
	s.flushed.Flush()
}

// flushed counts what waits for Flush.
type flushed struct {
	*fakeSession
	waiting, most, flushes int
}

func (s *flushed) WritePacket(packet []byte) error {
	s.waiting++
	s.most = max(s.most, s.waiting)
	return s.fakeSession.WritePacket(packet)
}

func (s *flushed) Flush() {
	s.waiting = 0
	s.flushes++
	s.fakeSession.Flush()
}
