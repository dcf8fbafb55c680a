package tun

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostSocket is a socket of the host behind an interface, which it puts up. It takes datagrams
// to 10.0.0.1, port 53.
func hostSocket(t testing.TB, name string) *net.UDPConn {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := netlink.ParseAddr("10.0.0.1/24")
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 53})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(roundTripTime))
	return c
}

// TestDatagramsToHost: the host's sockets get each datagram, in its order, those that were
// put together and those that were not.
func TestDatagramsToHost(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) { datagramsToHost(t, mode) })
	}
}

func datagramsToHost(t *testing.T, m mode) {
	dev := m.device(t)
	n, _ := dev.(*native)
	foretold, writes := false, 0
	if n != nil {
		foretold = n.coalesce.udp
		n.coalesce.udp = foretold || m.name == "fast" // whatever was foretold: it turns out
		write := n.coalesce.write
		n.coalesce.write = func(parts [][]byte) error {
			err := write(parts)
			if err == nil {
				writes++
			}
			return err
		}
	}
	c := hostSocket(t, "wf0")
	datagrams := datagramsOf(false, 1, 1, 1200, 1200, 1200, 700, 64, 64, 64, 0, 64)
	var packets [][]byte
	for _, in := range datagrams {
		packets = append(packets, in.datagram())
	}
	if err := dev.Write(packets); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	for i, in := range datagrams {
		size, _, err := c.ReadFromUDPAddrPort(buf)
		if err != nil || !bytes.Equal(buf[:size], in.payload) {
			t.Fatalf("datagram %d: %d bytes, want %d, %v", i, size, len(in.payload), err)
		}
	}
	if n == nil {
		return
	}
	if m.name == "fast" && n.coalesce.udp != foretold {
		t.Errorf("foretold %v, but datagrams are taken together: %v", foretold, n.coalesce.udp)
	}
	if want := map[bool]int{true: 5, false: 11}[n.coalesce.udp]; writes != want {
		t.Errorf("%d writes, want %d", writes, want)
	}
}

// BenchmarkDatagramsToHost is what a datagram costs that the host gets, a socket's reading
// included, together or each by itself.
func BenchmarkDatagramsToHost(b *testing.B) {
	for _, size := range []int{64, 1200} {
		for _, udp := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d/together=%v", size, udp), func(b *testing.B) {
				done := make(chan struct{})
				go func() { // whose thread ends with it
					defer close(done)
					benchmarkToHost(b, size, udp)
				}()
				<-done
			})
		}
	}
}

func benchmarkToHost(b *testing.B, size int, udp bool) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Skipf("cannot create a network namespace: %v", err)
	}
	dev, err := Open("wf0", 1400)
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	dev.(*native).coalesce.udp = udp
	c := hostSocket(b, "wf0")
	var packets [][]byte
	sizes := make([]int, 32)
	for i := range sizes {
		sizes[i] = size
	}
	for _, in := range datagramsOf(false, sizes...) {
		packets = append(packets, in.datagram())
	}
	buf := make([]byte, 2000)
	for b.Loop() {
		if err := dev.Write(packets); err != nil {
			b.Fatal(err)
		}
		for range packets {
			if _, _, err := c.ReadFromUDPAddrPort(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(packets)), "ns/packet")
}
