package platform

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fakeMacCalls does with a socket of Linux's what macOS is told to do: it reads the
// messages as macOS would.
type fakeMacCalls struct {
	t               *testing.T
	sends, receives int // calls
	atOnce          int // datagrams of a call, at most
	refuse          syscall.Errno
	once            bool // only the next call is refused
}

func (f *fakeMacCalls) calls() macCalls { return macCalls{send: f.send, receive: f.receive} }

// refused is what the call fails with.
func (f *fakeMacCalls) refused() syscall.Errno {
	errno := f.refuse
	if f.once {
		f.refuse = 0
	}
	return errno
}

// messagesAt is what a call is given.
func (f *fakeMacCalls) messagesAt(first *macMessage, count int) []macMessage {
	if count < 1 || count > maxMacMessages {
		f.t.Fatalf("%d messages", count)
	}
	messages := unsafe.Slice(first, count)
	for _, m := range messages {
		if m.vectors != 1 || m.control != nil || m.controlLen != 0 || m.flags != 0 || m.size != 0 {
			f.t.Fatalf("message %+v", m)
		}
	}
	return messages
}

func (f *fakeMacCalls) send(fd uintptr, first *macMessage, count int) (n int, _ syscall.Errno) {
	f.sends++
	if errno := f.refused(); errno != 0 {
		return -1, errno
	}
	for _, m := range f.messagesAt(first, count) {
		if n == f.atOnce {
			break
		}
		if m.nameLen != uint32(m.name[0]) {
			f.t.Fatalf("a name of %d bytes, % x", m.nameLen, m.name)
		}
		to := m.name.addrPort()
		var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		if to.Addr().Is4() {
			sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		}
		if err := unix.Sendto(int(fd), unsafe.Slice(m.vector.base, m.vector.size), unix.MSG_DONTWAIT, sa); err != nil {
			if n == 0 && errors.Is(err, unix.EMSGSIZE) {
				return -1, syscall.EMSGSIZE
			}
			f.t.Fatal(err)
		}
		n++
	}
	return n, 0
}

func (f *fakeMacCalls) receive(fd uintptr, first *macMessage, count int) (n int, _ syscall.Errno) {
	f.receives++
	if errno := f.refused(); errno != 0 {
		return -1, errno
	}
	messages := f.messagesAt(first, count)
	for ; n < min(len(messages), f.atOnce); n++ {
		m := &messages[n]
		size, from, err := unix.Recvfrom(int(fd), unsafe.Slice(m.vector.base, m.vector.size), unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN) && n == 0:
			return -1, syscall.EAGAIN
		case errors.Is(err, unix.EAGAIN):
			return n, 0
		case err != nil:
			f.t.Fatal(err)
		}
		m.size = uint64(size)
		switch from := from.(type) {
		case *unix.SockaddrInet4:
			m.nameLen = m.name.put(netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port)), false)
		case *unix.SockaddrInet6:
			m.nameLen = m.name.put(netip.AddrPortFrom(netip.AddrFrom16(from.Addr), uint16(from.Port)), true)
		}
	}
	return n, 0
}

// macSocketPair is a socket as the protocol engine gets it on macOS, and an ordinary one.
func macSocketPair(t *testing.T, addr netip.Addr, calls macCalls) (*macBatchSocket, *net.UDPConn) {
	t.Helper()
	f := newFakeMac()
	f.calls = calls
	n, _ := f.network(t, t.TempDir())
	conn, err := n.ListenPacket(t.Context(), addr, 0)
	run(t, "listen", err)
	t.Cleanup(func() { conn.Close() })
	s, ok := conn.(*macBatchSocket)
	if !ok {
		t.Fatalf("a %T", conn)
	}
	other, err := listenUDP(t.Context(), addr, 0)
	run(t, "listen", err)
	t.Cleanup(func() { other.Close() })
	return s, other
}

// TestMacBatches: all datagrams go and come once, in their order, with few calls where the
// system does them, and one by one after it has refused.
func TestMacBatches(t *testing.T) {
	for name, tt := range map[string]struct {
		fake            fakeMacCalls
		sends, receives int // calls, of both rounds
	}{
		"as it is":              {fakeMacCalls{atOnce: 64}, 4, 0},
		"in parts":              {fakeMacCalls{atOnce: 10}, 18, 0}, // 64: 7 calls; 21: 2, for one datagram is no run
		"interrupted":           {fakeMacCalls{atOnce: 64, refuse: syscall.EINTR, once: true}, 5, 0},
		"the call is not there": {fakeMacCalls{refuse: syscall.ENOSYS}, 1, 1},
		"the call is forbidden": {fakeMacCalls{refuse: syscall.EPERM}, 1, 1},
		"no addresses":          {fakeMacCalls{refuse: syscall.EINVAL}, 1, 1},
		"too much at once":      {fakeMacCalls{atOnce: 64, refuse: syscall.EMSGSIZE, once: true}, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, addr := range loopbacks {
				fake := tt.fake
				fake.t = t
				s, other := macSocketPair(t, addr, fake.calls())
				for round := range 2 {
					macRound(t, s, other, addr, byte(round))
				}
				if fake.sends != tt.sends {
					t.Errorf("%v: %d calls that send, want %d", addr, fake.sends, tt.sends)
				}
				if tt.receives > 0 && fake.receives != tt.receives {
					t.Errorf("%v: %d calls that receive, want %d", addr, fake.receives, tt.receives)
				}
			}
		})
	}
}

// macRound sends runs from a socket and back to it.
func macRound(t *testing.T, s *macBatchSocket, other *net.UDPConn, addr netip.Addr, salt byte) {
	t.Helper()
	first, want := runOf(20, 1400, 300, salt)
	second, more := runOf(64, 10, 0, salt+1)
	single, one := runOf(1, 99, 0, salt+2)
	want = append(append(want, more...), one...)
	if n, err := s.WriteBatch([][]byte{first, second, single}, []int{1400, 10, 99}, localAt(other, addr)); n != 3 || err != nil {
		t.Fatalf("%v: %d runs, %v", addr, n, err)
	}
	buf := make([]byte, 2000)
	other.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i := range want {
		n, from, err := other.ReadFromUDPAddrPort(buf)
		if err != nil || !bytes.Equal(buf[:n], want[i]) || from.Port() != localAt(s, addr).Port() {
			t.Fatalf("%v: datagram %d: %d bytes from %v, %v", addr, i, n, from, err)
		}
	}
	for _, datagram := range want {
		if _, err := other.WriteToUDPAddrPort(datagram, localAt(s, addr)); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := newReader(8).next(t, s, len(want), localAt(other, addr))
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%v: datagram %d has %d bytes, want %d", addr, i, len(got[i]), len(want[i]))
		}
	}
}

// TestMacBatchesAgain: after a refusal the calls are tried again some time.
func TestMacBatchesAgain(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.EINVAL} {
		fake := &fakeMacCalls{t: t, atOnce: 64, refuse: errno}
		s, other := macSocketPair(t, loopbacks[0], fake.calls())
		r, buf := newReader(8), make([]byte, 100)
		large, datagrams := runOf(2, 10, 0, 1)
		round := func() {
			t.Helper()
			if n, err := s.WriteBatch([][]byte{large}, []int{10}, localAt(other, loopbacks[0])); n != 1 || err != nil {
				t.Fatalf("%d runs, %v", n, err)
			}
			for range datagrams {
				if _, _, err := other.ReadFromUDPAddrPort(buf); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := other.WriteToUDPAddrPort(large[:10], localAt(s, loopbacks[0])); err != nil {
				t.Fatal(err)
			}
			r.next(t, s, 1, localAt(other, loopbacks[0]))
		}
		round()
		fake.refuse = 0
		for range retryRuns {
			round()
		}
		if fake.sends != 1 || fake.receives != 1 {
			t.Errorf("%v: %d calls that send, %d that receive", errno, fake.sends, fake.receives)
		}
		if round(); fake.sends != 2 || fake.receives < 2 {
			t.Errorf("%v: after %d runs %d calls that send, %d that receive", errno, retryRuns, fake.sends, fake.receives)
		}
	}
}

// TestMacBatchesFail: what fails otherwise is told, and nothing goes twice.
func TestMacBatchesFail(t *testing.T) {
	fake := &fakeMacCalls{t: t, atOnce: 64}
	addr := loopbacks[0]
	s, other := macSocketPair(t, addr, fake.calls())
	large, _ := runOf(2, 100, 0, 1)
	fake.refuse, fake.once = syscall.ENOBUFS, true
	if n, err := s.WriteBatch([][]byte{large, large}, []int{100, 100}, localAt(other, addr)); n != 0 || !errors.Is(err, syscall.ENOBUFS) {
		t.Errorf("no room: %d, %v", n, err)
	}
	fake.refuse, fake.once = syscall.ENOBUFS, true
	r := newReader(2)
	if n, err := s.ReadBatch(r.bufs, r.sizes, r.segments, r.from); n != 0 || !errors.Is(err, syscall.ENOBUFS) {
		t.Errorf("reading: %d, %v", n, err)
	}
	// A datagram that the link does not take is told with what the link takes.
	var sizes []int
	s.OnTooBig(func(_ netip.Addr, mtu int) { sizes = append(sizes, mtu) })
	huge := make([]byte, 2*65508)
	if n, err := s.WriteBatch([][]byte{large, huge}, []int{100, 65508}, localAt(other, addr)); n != 1 || !errors.Is(err, syscall.EMSGSIZE) || len(sizes) != 2 {
		t.Errorf("too large: %d, %v, %v", n, err, sizes)
	}
	s.way.Store(nil)
	if n, err := s.WriteBatch([][]byte{large}, []int{100}, localAt(other, addr)); n != 0 || !errors.Is(err, errNoWay) {
		t.Errorf("no way outside: %d, %v", n, err)
	}
	ended := make(chan error)
	go func() {
		_, err := s.ReadBatch(r.bufs, r.sizes, r.segments, r.from)
		ended <- err
	}()
	s.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestMacBatchesAllocations: none.
func TestMacBatchesAllocations(t *testing.T) {
	fake := &fakeMacCalls{t: t, atOnce: 64}
	calls := macCalls{send: func(_ uintptr, first *macMessage, count int) (int, syscall.Errno) {
		return len(fake.messagesAt(first, count)), 0
	}, receive: func(_ uintptr, first *macMessage, count int) (int, syscall.Errno) {
		return len(fake.messagesAt(first, count)), 0
	}}
	s, other := macSocketPair(t, loopbacks[0], calls)
	r, to := newReader(8), localAt(other, loopbacks[0])
	large, _ := runOf(20, 100, 50, 1)
	runs, segments := [][]byte{large, large}, []int{100, 100}
	if n := testing.AllocsPerRun(20, func() {
		if _, err := s.WriteBatch(runs, segments, to); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReadBatch(r.bufs, r.sizes, r.segments, r.from); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMacTrial: calls that do something else are not used.
func TestMacTrial(t *testing.T) {
	good := &fakeMacCalls{t: t, atOnce: 64}
	if err := good.calls().trial(); err != nil {
		t.Errorf("good ones: %v", err)
	}
	few := &fakeMacCalls{t: t, atOnce: 1} // 3 is left, for an ordinary call
	if err := few.calls().trial(); !errors.Is(err, errTrial) {
		t.Errorf("one datagram with a call: %v", err)
	}
	for name, bad := range map[string]func(*macCalls){
		"no addresses to": func(c *macCalls) {
			c.send = func(uintptr, *macMessage, int) (int, syscall.Errno) { return -1, syscall.EINVAL }
		},
		"receiving is refused": func(c *macCalls) {
			c.receive = func(uintptr, *macMessage, int) (int, syscall.Errno) { return -1, syscall.ENOSYS }
		},
		"no addresses from": func(c *macCalls) {
			c.receive = func(fd uintptr, first *macMessage, count int) (int, syscall.Errno) {
				n, errno := good.receive(fd, first, count)
				if n > 0 {
					*first.name = macName{}
				}
				return n, errno
			}
		},
		"no sizes": func(c *macCalls) {
			c.receive = func(fd uintptr, first *macMessage, count int) (int, syscall.Errno) {
				n, errno := good.receive(fd, first, count)
				first.size = 0
				return n, errno
			}
		},
		"nonsense for sizes": func(c *macCalls) {
			c.receive = func(fd uintptr, first *macMessage, count int) (int, syscall.Errno) {
				n, errno := good.receive(fd, first, count)
				first.size = 1 << 40
				return n, errno
			}
		},
	} {
		calls := good.calls()
		bad(&calls)
		if err := calls.trial(); !errors.Is(err, errTrial) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
