package platform

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSocket opens a socket as the protocol engine gets it.
func batchSocket(t testing.TB, gateway netip.Addr) *udpSocket {
	t.Helper()
	c, err := ListenPacket(context.Background(), gateway, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*udpSocket)
}

func (s *udpSocket) option(t testing.TB, level, name, value int) {
	t.Helper()
	var failed error
	err := s.raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, name, value) })
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
}

// TestBatches: all datagrams arrive, in their order, with each way that the system may
// leave us.
func TestBatches(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, from, to *udpSocket){
		"as it is":                func(*testing.T, *udpSocket, *udpSocket) {},
		"no checksum offload":     func(_ *testing.T, from, _ *udpSocket) { from.singly = retryRuns },
		"runs are refused":        func(t *testing.T, from, _ *udpSocket) { from.option(t, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) },
		"runs are not received":   func(t *testing.T, _, to *udpSocket) { to.option(t, unix.SOL_UDP, unix.UDP_GRO, 0) },
		"may be fragmented":       func(_ *testing.T, from, _ *udpSocket) { from.SetDontFragment(false) },
		"may not be":              func(_ *testing.T, from, _ *udpSocket) { from.SetDontFragment(true) },
		"reports of routers come": func(_ *testing.T, from, _ *udpSocket) { from.OnTooBig(func(netip.Addr, int) {}) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, addr := range loopbacks {
				if name == "runs are refused" && addr.Is6() {
					continue // IPv6 has no datagrams without a checksum
				}
				from, to := batchSocket(t, addr), batchSocket(t, addr)
				r := newReader(8)
				first, _ := runOf(1, 10, 0, 0)
				if _, err := from.WriteBatch([][]byte{first}, []int{10}, localAt(to, addr)); err != nil {
					t.Fatal(err)
				}
				r.next(t, to, 1, localAt(from, addr)) // from now on it takes runs
				prepare(t, from, to)
				var runs, want [][]byte
				var segments []int
				for i, shape := range [][3]int{{1, 1400, 0}, {20, 1400, 300}, {64, 10, 0}, {3, 20, 19}, {1, 9000, 0}, {2, 1, 0}} {
					run, datagrams := runOf(shape[0], shape[1], shape[2], byte(i))
					runs, segments, want = append(runs, run), append(segments, shape[1]), append(want, datagrams...)
				}
				if n, err := from.WriteBatch(runs, segments, localAt(to, addr)); n != len(runs) || err != nil {
					t.Fatalf("%v: %d of %d runs, %v", addr, n, len(runs), err)
				}
				got, received := r.next(t, to, len(want), localAt(from, addr))
				for i := range want {
					if !bytes.Equal(got[i], want[i]) {
						t.Fatalf("%v: datagram %d has %d bytes % x…, want %d", addr, i, len(got[i]), got[i][:2], len(want[i]))
					}
				}
				if whole := name == "as it is"; whole && received != len(runs) {
					t.Errorf("%v: %d runs arrived, %d were sent", addr, received, len(runs))
				}
			}
		})
	}
}

// TestBatchesMany: more runs than a call takes.
func TestBatchesMany(t *testing.T) {
	addr := loopbacks[0]
	from, to := batchSocket(t, addr), batchSocket(t, addr)
	const n = 2*maxMessages + 3
	runs, segments := make([][]byte, n), make([]int, n)
	for i := range runs {
		runs[i], _ = runOf(1, 100+i, 0, byte(i))
		segments[i] = 100 + i
	}
	if sent, err := from.WriteBatch(runs, segments, localAt(to, addr)); sent != n || err != nil {
		t.Fatalf("%d, %v", sent, err)
	}
	got, _ := newReader(maxMessages+5).next(t, to, n, localAt(from, addr))
	for i := range got {
		if !bytes.Equal(got[i], runs[i]) {
			t.Fatalf("datagram %d: %d bytes", i, len(got[i]))
		}
	}
}

// TestBatchTooLarge: what the link does not take is told by its run; of that run the
// smaller ones go, and nothing goes twice. If it may be fragmented, it is.
func TestBatchTooLarge(t *testing.T) {
	onWire(t, func(w *wire, s *udpSocket, to netip.AddrPort) {
		gateway := to.Addr()
		good, _ := runOf(2, 1000, 500, 1)
		large, _ := runOf(2, 1600, 700, 2)
		last, _ := runOf(1, 600, 0, 3)
		runs, segments := [][]byte{good, large, last}, []int{1000, 1600, 600}
		sent, err := s.WriteBatch(runs, segments, to)
		if sent != 1 || !errors.Is(err, unix.EMSGSIZE) {
			t.Fatalf("%v: %d runs, %v", gateway, sent, err)
		}
		sent, err = s.WriteBatch(runs[2:], segments[2:], to)
		if sent != 1 || err != nil {
			t.Fatalf("%v: %d runs, %v", gateway, sent, err)
		}
		header := 28
		if gateway.Is6() {
			header = 48
		}
		for left := []int{1000, 1000, 500, 700, 600}; len(left) > 0; {
			size := len(w.next(gateway)) - header
			for size > 0 && len(left) > 0 && size >= left[0] { // a run is seen whole here
				size, left = size-left[0], left[1:]
			}
			if size != 0 {
				t.Fatalf("%v: %d bytes too much; still to come %v", gateway, size, left)
			}
		}

		run(t, "allow", s.SetDontFragment(false))
		if sent, err = s.WriteBatch(runs, segments, to); sent != len(runs) || err != nil {
			t.Fatalf("%v: may be fragmented: %d runs, %v", gateway, sent, err)
		}
		fragments := 0
		for ended := false; !ended; {
			p := w.next(gateway)
			if gateway.Is6() && p[6] == unix.IPPROTO_FRAGMENT || gateway.Is4() && binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
				fragments++
			}
			ended = len(p)-header == len(last)
		}
		if fragments != 4 { // of two datagrams
			t.Errorf("%v: %d fragments", gateway, fragments)
		}
	})
}

// TestBatchAfterRefusal: that nobody listens at one port stops no batch to another.
func TestBatchAfterRefusal(t *testing.T) {
	for _, addr := range loopbacks {
		from, to := batchSocket(t, addr), batchSocket(t, addr)
		from.OnTooBig(func(netip.Addr, int) {})
		gone := batchSocket(t, addr)
		nobody := localAt(gone, addr)
		gone.Close()
		run, want := runOf(5, 100, 50, 7)
		r := newReader(8)
		for i := range 20 {
			if n, err := from.WriteBatch([][]byte{run}, []int{100}, nobody); n != 1 || err != nil {
				t.Fatalf("%v: to nobody, round %d: %d, %v", addr, i, n, err)
			}
			if n, err := from.WriteBatch([][]byte{run[:100], run}, []int{100, 100}, localAt(to, addr)); n != 2 || err != nil {
				t.Fatalf("%v: round %d: %d, %v", addr, i, n, err)
			}
			if got, _ := r.next(t, to, 1+len(want), localAt(from, addr)); len(got) != 1+len(want) {
				t.Fatalf("%v: round %d: %d datagrams", addr, i, len(got))
			}
		}
	}
}

// TestBatchClose ends whoever waits.
func TestBatchClose(t *testing.T) {
	s := batchSocket(t, loopbacks[0])
	ended := make(chan error)
	go func() {
		r := newReader(1)
		_, err := s.ReadBatch(r.bufs, r.sizes, r.segments, r.from)
		ended <- err
	}()
	time.Sleep(10 * time.Millisecond) // it may wait by then, or not
	s.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading: %v", err)
	}
	if n, err := s.WriteBatch([][]byte{{1, 2}}, []int{1}, localAt(s, loopbacks[0])); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing: %d, %v", n, err)
	}
}

// TestBatchAllocations: none.
func TestBatchAllocations(t *testing.T) {
	for _, addr := range loopbacks {
		from, to := batchSocket(t, addr), batchSocket(t, addr)
		run, datagrams := runOf(40, 1400, 77, 1)
		runs, segments, dst := [][]byte{run}, []int{1400}, localAt(to, addr)
		r := newReader(8)
		n := testing.AllocsPerRun(50, func() {
			if _, err := from.WriteBatch(runs, segments, dst); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < len(datagrams); {
				count, err := to.ReadBatch(r.bufs, r.sizes, r.segments, r.from)
				if err != nil {
					t.Fatal(err)
				}
				for i := range count {
					got += (r.sizes[i] + r.segments[i] - 1) / r.segments[i]
				}
			}
		})
		if n != 0 {
			t.Errorf("%v: %v allocations", addr, n)
		}
		one := make([]byte, 1400)
		if n := testing.AllocsPerRun(50, func() {
			if _, err := from.WriteToUDPAddrPort(one, dst); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations for one by itself", addr, n)
		}
	}
}

func BenchmarkBatches(b *testing.B) {
	addr := loopbacks[0]
	for _, count := range []int{1, 46} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			from, to := batchSocket(b, addr), batchSocket(b, addr)
			run, _ := runOf(count, 1400, 0, 1)
			runs, segments, dst := [][]byte{run}, []int{1400}, localAt(to, addr)
			r := newReader(8)
			b.SetBytes(int64(len(run)))
			for b.Loop() {
				if _, err := from.WriteBatch(runs, segments, dst); err != nil {
					b.Fatal(err)
				}
				for got := 0; got < len(run); {
					n, err := to.ReadBatch(r.bufs, r.sizes, r.segments, r.from)
					if err != nil {
						b.Fatal(err)
					}
					for _, size := range r.sizes[:n] {
						got += size
					}
				}
			}
		})
	}
}

// TestRefusedRuns: a run that fails for what single datagrams do not goes as these; one
// that fails for anything else is not tried again and again.
func TestRefusedRuns(t *testing.T) {
	for _, tt := range []struct {
		errno unix.Errno
		calls int // that try runs, of two batches
		fails bool
	}{
		{unix.EIO, 1, false}, // not tried again
		{unix.EMSGSIZE, 2, false},
		{unix.EINVAL, 2, false},
		{unix.ENOBUFS, 2, true},
		{unix.EPERM, 2, true},
		{unix.ENETUNREACH, 2, true},
	} {
		for _, addr := range loopbacks {
			from, to := batchSocket(t, addr), batchSocket(t, addr)
			from.out = newMessages(unix.SYS_SENDMMSG)
			calls, real := 0, from.out.system
			from.out.system = func(trap, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, uintptr, syscall.Errno) {
				if from.out.headers[0].Control != nil {
					calls++
					return 0, 0, tt.errno
				}
				return real(trap, a1, a2, a3, a4, a5, a6)
			}
			run, datagrams := runOf(3, 100, 0, 7)
			r := newReader(4)
			for range 2 {
				n, err := from.WriteBatch([][]byte{run}, []int{100}, localAt(to, addr))
				if tt.fails {
					if n != 0 || !errors.Is(err, tt.errno) {
						t.Errorf("%v: %d, %v", tt.errno, n, err)
					}
					continue
				}
				if n != 1 || err != nil {
					t.Errorf("%v: %d, %v", tt.errno, n, err)
				}
				if got, _ := r.next(t, to, len(datagrams), localAt(from, addr)); !slices.EqualFunc(got, datagrams, bytes.Equal) {
					t.Errorf("%v: other datagrams", tt.errno)
				}
			}
			if calls != tt.calls {
				t.Errorf("%v: %d calls with runs, want %d", tt.errno, calls, tt.calls)
			}
			if tt.errno != unix.EIO {
				continue
			}
			// Another network card may be in use by then.
			if from.singly != retryRuns-1 {
				t.Errorf("%d runs are still to go singly", from.singly)
			}
			for from.singly > 0 {
				if _, err := from.WriteBatch([][]byte{run[:1]}, []int{1}, localAt(to, addr)); err != nil {
					t.Fatal(err)
				}
				r.next(t, to, 1, localAt(from, addr))
			}
			from.out.system = real
			if n, err := from.WriteBatch([][]byte{run}, []int{100}, localAt(to, addr)); n != 1 || err != nil || from.singly != 0 {
				t.Errorf("runs again: %d, %v, %d", n, err, from.singly)
			}
		}
	}
}

// TestWithoutSegments: a kernel before 4.18 ignores what makes datagrams of a run, so that
// one large datagram would leave. It is asked before, and given a message for each.
func TestWithoutSegments(t *testing.T) {
	for _, addr := range loopbacks {
		from, to := batchSocket(t, addr), batchSocket(t, addr)
		from.out = newMessages(unix.SYS_SENDMMSG)
		calls, asked, real := 0, 0, from.out.system
		from.out.system = func(trap, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, uintptr, syscall.Errno) {
			switch {
			case trap != unix.SYS_GETSOCKOPT:
				calls++
				for i := range from.out.count {
					from.out.headers[i].SetControllen(0)
				}
			case a2 == unix.SOL_UDP && a3 == unix.UDP_SEGMENT:
				asked++
				return 0, 0, unix.ENOPROTOOPT
			}
			return real(trap, a1, a2, a3, a4, a5, a6)
		}
		first, want := runOf(40, 500, 300, 1)
		second, more := runOf(3, 100, 0, 2)
		third, last := runOf(30, 700, 0, 3)
		want = slices.Concat(want, more, last)
		r := newReader(8)
		for range 2 {
			calls = 0
			n, err := from.WriteBatch([][]byte{first, second, third}, []int{500, 100, 700}, localAt(to, addr))
			if n != 3 || err != nil {
				t.Fatalf("%v: %d runs, %v", addr, n, err)
			}
			if got, _ := r.next(t, to, len(want), localAt(from, addr)); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%v: other datagrams", addr)
			}
			if calls != 2 || asked != 1 { // of 64 messages, and of 10
				t.Errorf("%v: %d calls, asked %d times", addr, calls, asked)
			}
		}
	}
}

// TestEachByItself: of a run in which a datagram fails the others go, and nothing behind it;
// a report of a router, which says nothing about it, costs none.
func TestEachByItself(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fail   map[int]unix.Errno // calls of the kernel for one message, counted from 0
		sent   int
		passed []int // of the datagrams
	}{
		{"nothing fails", nil, 3, []int{0, 1, 2, 3, 4, 5, 6}},
		{"the first", map[int]unix.Errno{0: unix.ENOBUFS}, 0, []int{1, 2}},
		{"amid a run", map[int]unix.Errno{4: unix.ENOBUFS}, 1, []int{0, 1, 2, 3, 5}},
		{"all of a run", map[int]unix.Errno{3: unix.EPERM, 4: unix.EPERM, 5: unix.ENOBUFS}, 1, []int{0, 1, 2}},
		{"the last", map[int]unix.Errno{6: unix.ENOBUFS}, 2, []int{0, 1, 2, 3, 4, 5}},
		{"reports", map[int]unix.Errno{1: unix.ECONNREFUSED, 4: unix.EHOSTUNREACH}, 3, []int{0, 1, 2, 3, 4, 5, 6}},
		{"too large", map[int]unix.Errno{1: unix.EMSGSIZE, 2: unix.EMSGSIZE}, 0, []int{0, 2}},
		{"reports around one that fails", map[int]unix.Errno{1: unix.ECONNREFUSED, 2: unix.ENOBUFS, 3: unix.ECONNREFUSED}, 0, []int{0, 2}},
	} {
		from, to := batchSocket(t, loopbacks[0]), batchSocket(t, loopbacks[0])
		from.OnTooBig(func(netip.Addr, int) {})
		from.out = newMessages(unix.SYS_SENDMMSG)
		from.asked, from.apart = true, true
		tries, passed, real := 0, 0, from.out.system
		from.out.system = func(trap, a1, a2, a3, a4, a5, a6 uintptr) (done, _ uintptr, _ syscall.Errno) {
			for range a3 { // one after the other, as the kernel does
				errno := tt.fail[tries]
				if errno != 0 && done > 0 {
					break // told by the next call
				}
				tries++
				if errno != 0 {
					return 0, 0, errno
				}
				if _, _, errno := real(trap, a1, a2+done*unsafe.Sizeof(mmsghdr{}), 1, a4, a5, a6); errno != 0 {
					t.Fatal(errno)
				}
				done, passed = done+1, passed+1
			}
			return done, 0, 0
		}
		first, datagrams := runOf(2, 90, 40, 1)
		second, more := runOf(3, 50, 0, 2)
		third, last := runOf(1, 70, 0, 3)
		datagrams = slices.Concat(datagrams, more, last)
		n, err := from.WriteBatch([][]byte{first, second, third}, []int{90, 50, 70}, localAt(to, loopbacks[0]))
		if n != tt.sent || (err != nil) != (tt.sent < 3) || passed != len(tt.passed) {
			t.Errorf("%s: %d runs, %v; %d datagrams", tt.name, n, err, passed)
		}
		got, _ := newReader(8).next(t, to, len(tt.passed), localAt(from, loopbacks[0]))
		for i, want := range tt.passed {
			if !bytes.Equal(got[i], datagrams[want]) {
				t.Errorf("%s: datagram %d is not number %d", tt.name, i, want)
			}
		}
	}
}

// TestReportsAmidBatch: each run of a batch may be told a router's report, and is tried
// once more.
func TestReportsAmidBatch(t *testing.T) {
	const report, large = unix.EHOSTUNREACH, unix.EMSGSIZE
	for name, says := range map[string][]unix.Errno{ // one call after the other; 0: it takes one message
		"before each run":           {report, 0, report, 0, report, 0},
		"after one that goes apart": {large, large, 0, 0, 0, report, 0, report, 0},
	} {
		for _, addr := range loopbacks {
			from, to := batchSocket(t, addr), batchSocket(t, addr)
			from.OnTooBig(func(netip.Addr, int) {})
			from.out = newMessages(unix.SYS_SENDMMSG)
			said, real := says, from.out.system
			from.out.system = func(trap, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, uintptr, syscall.Errno) {
				if trap == unix.SYS_SENDMMSG {
					errno := said[0]
					if said = said[1:]; errno != 0 {
						return 0, 0, errno
					}
					a3 = 1
				}
				return real(trap, a1, a2, a3, a4, a5, a6)
			}
			first, want := runOf(3, 200, 0, 1)
			second, more := runOf(1, 300, 0, 2)
			third, last := runOf(2, 100, 10, 3)
			want = slices.Concat(want, more, last)
			n, err := from.WriteBatch([][]byte{first, second, third}, []int{200, 300, 100}, localAt(to, addr))
			if n != 3 || err != nil || len(said) > 0 {
				t.Fatalf("%s, %v: %d runs, %v; %d calls not made", name, addr, n, err, len(said))
			}
			if got, _ := newReader(8).next(t, to, len(want), localAt(from, addr)); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%s, %v: other datagrams", name, addr)
			}
		}
	}
}
