package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAnswers: who reads answers the host amid a stream that is written to it. Each answer
// arrives as it is, and each packet of the stream, in its order; the host heeds the answers.
func TestAnswers(t *testing.T) {
	inModes(t, func(t *testing.T, dev Device) {
		stream := hostSocket(t, "wf0")
		up6(t, "wf0")
		asked := []*asker{ask(t, "ip4:icmp", near4, far4), ask(t, "ip6:ipv6-icmp", near6, far6)}

		var others sync.WaitGroup
		defer others.Wait()
		defer dev.Close()
		others.Go(func() { answerAll(t, dev) })
		done, begun := make(chan struct{}), make(chan struct{})
		defer close(done)
		others.Go(func() { writeStream(t, dev, stream, begun, done) })
		<-begun
		for i := range uint16(200) {
			for _, a := range asked {
				a.wantAnswer(t, i)
			}
		}
		for _, a := range asked {
			if mtu := a.pathMTU(t); mtu != a.limit {
				t.Errorf("the host sends %d bytes to %v, was told %d", mtu, a.to, a.limit)
			}
		}
	})
}

// answered4 and answered6 are the largest packets that are not answered, in bytes.
const answered4, answered6 = 600, MinIPv6MTU

// answerAll reads, and answers all that is too big, until the device is closed.
func answerAll(t *testing.T, dev Device) {
	answer := make([]byte, TooBigSize)
	take := func(p []byte) {
		limit := answered4
		if p[0]>>4 == 6 {
			limit = answered6
		}
		if len(p) <= limit {
			return
		}
		n := TooBig(answer, p, limit)
		if err := dev.Answer(answer[:n]); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		clear(answer) // nothing is kept
	}
	for {
		if err := dev.Read(take); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
			break
		}
	}
	if err := dev.Answer([]byte{0x45}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("an answer after Close: %v", err)
	}
}

// writeStream writes runs of datagrams and wants each where the host takes them, time and
// again until it is done.
func writeStream(t *testing.T, dev Device, host *net.UDPConn, begun, done chan struct{}) {
	begin := sync.OnceFunc(func() { close(begun) })
	defer begin()
	datagrams := datagramsOf(false, 1000, 1000, 1000, 1000, 700, 64, 64, 64, 0, 1100, 1100, 1100)
	var packets [][]byte
	for _, in := range datagrams {
		packets = append(packets, in.datagram())
	}
	buf := make([]byte, 2000)
	for {
		if err := dev.Write(packets); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
			return
		}
		for i, in := range datagrams {
			n, _, err := host.ReadFromUDPAddrPort(buf)
			if err != nil || !bytes.Equal(buf[:n], in.payload) {
				t.Errorf("datagram %d: %d bytes, want %d, %v", i, n, len(in.payload), err)
				return
			}
		}
		begin()
		select {
		case <-done:
			return
		default:
		}
	}
}

// asker is a program of the host that sends more than is carried, and hears what comes of it.
type asker struct {
	to      netip.Addr
	ipv6    bool
	limit   int // bytes in a packet
	from    net.PacketConn
	answers net.PacketConn
}

func ask(t *testing.T, icmp string, from, to netip.Addr) *asker {
	t.Helper()
	a := &asker{to: to, ipv6: to.Is6(), limit: answered4}
	if a.ipv6 {
		a.limit = answered6
	}
	var err error
	if a.answers, err = net.ListenPacket(icmp, from.String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.answers.Close() })
	a.answers.SetReadDeadline(time.Now().Add(roundTripTime))
	if a.from, err = net.ListenPacket("udp", netip.AddrPortFrom(from, 0).String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.from.Close() })
	// It goes on after an answer, and lets nothing be fragmented.
	level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if a.ipv6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	control(t, a.from.(*net.UDPConn), func(fd int) error {
		return unix.SetsockoptInt(fd, level, option, unix.IP_PMTUDISC_PROBE)
	})
	return a
}

func control(t *testing.T, c syscall.Conn, what func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err = raw.Control(func(fd uintptr) { failed = what(int(fd)) }); err != nil || failed != nil {
		t.Fatal(errors.Join(err, failed))
	}
}

// wantAnswer sends a datagram of its own kind, and wants the answer that quotes it.
func (a *asker) wantAnswer(t *testing.T, number uint16) {
	t.Helper()
	datagram := bytes.Repeat(binary.BigEndian.AppendUint16(nil, number), 1240/2)
	if _, err := a.from.WriteTo(datagram, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.to, 9))); err != nil {
		t.Fatal(err)
	}
	head := []byte{icmpUnreachable, icmpFragNeeded, 0, 0, 0, 0, answered4 >> 8, answered4 & 0xff}
	header, size := ipv4HeaderLen, maxICMPError
	if a.ipv6 {
		head = []byte{icmpv6TooBig, 0, 0, 0, 0, 0, answered6 >> 8, answered6 & 0xff}
		header, size = ipv6HeaderLen, maxICMPv6Error
	}
	buf := make([]byte, 2000)
	for {
		n, _, err := a.answers.ReadFrom(buf)
		if err != nil {
			t.Fatalf("answer %d of %v: %v", number, a.to, err)
		}
		if a.ipv6 && buf[0] != icmpv6TooBig {
			continue // the kernel's own
		}
		got := slices.Clone(buf[:n])
		clear(got[2:4]) // the checksum, which the kernel has looked at if it heeds it
		quoted := header + udpHeaderLen
		if want := size - header; n != want || !bytes.Equal(got[:8], head) || !bytes.Equal(got[8+quoted:], datagram[:want-8-quoted]) {
			t.Fatalf("answer %d of %v: %d bytes, %x", number, a.to, n, got)
		}
		return
	}
}

// pathMTU is how large a packet the host sends there.
func (a *asker) pathMTU(t *testing.T) (mtu int) {
	t.Helper()
	c, err := net.Dial("udp", netip.AddrPortFrom(a.to, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	level, option := unix.IPPROTO_IP, unix.IP_MTU
	if a.ipv6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	control(t, c.(*net.UDPConn), func(fd int) error {
		mtu, err = unix.GetsockoptInt(fd, level, option)
		return err
	})
	return mtu
}

// TestAnswerAllocatesNothing, nor is one lost without a word.
func TestAnswerAllocatesNothing(t *testing.T) {
	inModes(t, func(t *testing.T, dev Device) {
		answer := make([]byte, TooBigSize)
		answer = answer[:TooBig(answer, inner{ttl: 64, payload: random(1000)}.datagram(), answered4)]
		if err := dev.Answer(answer); !errors.Is(err, unix.EIO) {
			t.Errorf("an answer while the interface is down: %v", err)
		}
		up(t, "wf0", near4.String()+"/32", far4.String()+"/32")
		n := testing.AllocsPerRun(100, func() {
			if err := dev.Answer(answer); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations for an answer", n)
		}
	})
}
