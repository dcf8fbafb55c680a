package platform

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// espSockets opens two sockets for plain ESP, each with an address of its own, of which the
// second is given what the first sends there; so is the first.
func espSockets(t *testing.T, ipv6 bool) (from, to *ipSocket, at [2]netip.AddrPort) {
	t.Helper()
	n, _ := testNetwork(t)
	var sockets [2]*ipSocket
	for i, addr := range addrs("127.0.0.1", "127.0.0.2") {
		if ipv6 {
			addr = addrs("::1", "2001:db8::2")[i]
		}
		c, err := n.ListenESP(t.Context(), addr)
		run(t, "ListenESP", err)
		t.Cleanup(func() { c.Close() })
		sockets[i], at[i] = c.(*ipSocket), netip.AddrPortFrom(addr, 0)
		run(t, "bind", sockets[i].bind(addr))
	}
	return sockets[0], sockets[1], at
}

// bind gives a socket an address, so that it is given nothing else.
func (s *ipSocket) bind(addr netip.Addr) error {
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		if addr.Is6() {
			failed = unix.Bind(int(fd), &unix.SockaddrInet6{Addr: addr.As16()})
		} else {
			failed = unix.Bind(int(fd), &unix.SockaddrInet4{Addr: addr.As4()})
		}
	})
	return errors.Join(err, failed)
}

// bothESP runs a test in a namespace for each address family.
func bothESP(t *testing.T, test func(t *testing.T, from, to *ipSocket, at [2]netip.AddrPort)) {
	for name, ipv6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			enterNamespace(t)
			from, to, at := espSockets(t, ipv6)
			test(t, from, to, at)
		})
	}
}

// TestESPBatches: all packets arrive as they are, in their order, several with a call, and
// of those that are too large for the link the others go.
func TestESPBatches(t *testing.T) {
	bothESP(t, func(t *testing.T, from, to *ipSocket, at [2]netip.AddrPort) {
		var runs, want [][]byte
		var segments []int
		for i, shape := range [][3]int{{1, 1400, 0}, {20, 1400, 300}, {64, 10, 0}, {3, 20, 19}, {1, 9000, 0}, {2, 1, 0}} {
			run, packets := runOf(shape[0], shape[1], shape[2], byte(i))
			runs, segments, want = append(runs, run), append(segments, shape[1]), append(want, packets...)
		}
		n, err := from.WriteBatch(runs, segments, netip.AddrPortFrom(at[1].Addr(), 4500))
		if n != len(runs) || err != nil {
			t.Fatalf("%d of %d runs, %v", n, len(runs), err)
		}
		r := newReader(32)
		got, _ := r.next(t, to, len(want), at[0])
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("packet %d has %d bytes % x…, want %d", i, len(got[i]), got[i][:2], len(want[i]))
			}
		}
		run, _ := runOf(2, 500, 0, 9)
		_, err = from.WriteBatch([][]byte{run}, []int{500}, at[1])
		if err != nil {
			t.Fatal(err)
		}
		if n, err := to.ReadBatch(r.bufs, r.sizes, r.segments, r.from); n != 2 || err != nil {
			t.Errorf("one call gives %d packets, %v", n, err)
		}
	})
}

// TestESPOptions: IPv4 options are no part of the packet.
func TestESPOptions(t *testing.T) {
	enterNamespace(t)
	from, to, at := espSockets(t, false)
	r := newReader(8)
	for _, options := range []int{4, 40, 0} {
		var failed error
		run(t, "control", from.raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptString(int(fd), unix.SOL_IP, unix.IP_OPTIONS, string(bytes.Repeat([]byte{1}, options)))
		}))
		run(t, "IP_OPTIONS", failed)
		packets, want := runOf(3, 100, 1, byte(options))
		if _, err := from.WriteBatch([][]byte{packets}, []int{100}, at[1]); err != nil {
			t.Fatal(err)
		}
		if got, _ := r.next(t, to, len(want), at[0]); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d bytes of options: other packets: % x", options, got)
		}
		if got := int(to.fronts[0][0]&15) * 4; got != 20+options {
			t.Errorf("the header has %d bytes", got)
		}
	}
}

// TestStrip: what is no IPv4 packet is nothing.
func TestStrip(t *testing.T) {
	for _, tt := range []struct {
		first byte
		size  int
		want  string
	}{
		{0x45, 28, "abcdefgh"},
		{0x46, 28, "efgh"},
		{0x47, 28, ""},
		{0x48, 28, ""},
		{0x4f, 28, ""},
		{0x45, 20, ""},
		{0x45, 19, ""},
		{0x44, 28, ""},
		{0x40, 28, ""},
		{0x65, 28, ""},
		{0x05, 28, ""},
		{0x45, 0, ""},
	} {
		b := []byte("abcdefgh")
		if n := (&ipv4Front{tt.first}).strip(b, tt.size); string(b[:n]) != tt.want {
			t.Errorf("%#x, %d bytes: %q, want %q", tt.first, tt.size, b[:n], tt.want)
		}
	}
}

// TestESPTooLarge: of a run with a packet that the link does not take the others go.
func TestESPTooLarge(t *testing.T) {
	bothESP(t, func(t *testing.T, from, to *ipSocket, at [2]netip.AddrPort) {
		run(t, "MTU", netlink.LinkSetMTU(linkByName(t, "lo"), 1500))
		from.OnTooBig(func(netip.Addr, int) {})
		run(t, "forbid", from.SetDontFragment(true))
		good, want := runOf(2, 1000, 500, 1)
		large, more := runOf(2, 1600, 700, 2)
		n, err := from.WriteBatch([][]byte{good, large, good}, []int{1000, 1600, 1000}, at[1])
		if n != 1 || !errors.Is(err, unix.EMSGSIZE) {
			t.Fatalf("%d runs, %v", n, err)
		}
		run(t, "allow", from.SetDontFragment(false))
		if n, err = from.WriteBatch([][]byte{large}, []int{1600}, at[1]); n != 1 || err != nil {
			t.Fatalf("may be fragmented: %d runs, %v", n, err)
		}
		want = slices.Concat(want, more[2:], more)
		if got, _ := newReader(8).next(t, to, len(want), at[0]); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Error("other packets")
		}
	})
}

// TestESPAllocations: none, and closing ends whoever waits.
func TestESPAllocations(t *testing.T) {
	bothESP(t, func(t *testing.T, from, to *ipSocket, at [2]netip.AddrPort) {
		run, packets := runOf(40, 1400, 77, 1)
		runs, segments := [][]byte{run}, []int{1400}
		r := newReader(8)
		if n := testing.AllocsPerRun(50, func() {
			if _, err := from.WriteBatch(runs, segments, at[1]); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < len(packets); {
				n, err := to.ReadBatch(r.bufs, r.sizes, r.segments, r.from)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
		ended := make(chan error)
		go func() {
			_, err := to.ReadBatch(r.bufs, r.sizes, r.segments, r.from)
			ended <- err
		}()
		to.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading: %v", err)
		}
	})
}
