package gateway

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

var (
	hostA = netip.MustParseAddrPort("192.0.2.1:500")
	hostB = netip.MustParseAddrPort("198.51.100.1:4500")
)

func listen(t *testing.T, n *Net, addr netip.AddrPort) net.PacketConn {
	t.Helper()
	c, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func sendTo(t *testing.T, c net.PacketConn, to netip.AddrPort, data string) {
	t.Helper()
	if _, err := c.WriteTo([]byte(data), net.UDPAddrFromAddrPort(to)); err != nil {
		t.Fatal(err)
	}
}

func receiveFrom(t *testing.T, c net.PacketConn) (string, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 2000)
	n, from, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), from.(*net.UDPAddr).AddrPort()
}

func TestNetDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNet()
		a, b := listen(t, n, hostA), listen(t, n, hostB)
		sendTo(t, a, hostB, "one")
		sendTo(t, a, hostB, "two")
		for _, want := range []string{"one", "two"} {
			if got, from := receiveFrom(t, b); got != want || from != hostA {
				t.Fatalf("got %q from %v, want %q from %v", got, from, want, hostA)
			}
		}
		sendTo(t, a, netip.MustParseAddrPort("203.0.113.1:1"), "to nobody")
		if _, err := n.Listen(hostA); err == nil {
			t.Error("two sockets at one address")
		}
		if _, err := n.Listen(netip.MustParseAddrPort("0.0.0.0:500")); err == nil {
			t.Error("a socket at the unspecified address")
		}
		if _, err := a.WriteTo(make([]byte, maxDatagram+1), net.UDPAddrFromAddrPort(hostB)); err == nil {
			t.Error("a datagram beyond the bound was sent")
		}
	})
}

func TestNetKeepsOrderAndDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNet()
		a, b := listen(t, n, hostA), listen(t, n, hostB)
		n.SetFilter(func(from, to netip.AddrPort, d []byte) []Delivery {
			switch d[0] {
			case 'x':
				return nil
			case 'd':
				return []Delivery{{After: time.Second, Datagram: d}, {After: 3 * time.Second, Datagram: bytes.ToUpper(d)}}
			case 's':
				return []Delivery{{After: 2 * time.Second, Datagram: d}}
			}
			return []Delivery{{After: time.Second, Datagram: d}}
		})
		for _, s := range []string{"slow", "lost", "x", "double", "1", "2", "3", "4", "5"} {
			sendTo(t, a, hostB, s)
		}
		start := time.Now()
		for _, want := range []struct {
			data string
			at   time.Duration
		}{
			{"lost", 1}, {"double", 1}, {"1", 1}, {"2", 1}, {"3", 1}, {"4", 1}, {"5", 1}, {"slow", 2}, {"DOUBLE", 3},
		} {
			got, _ := receiveFrom(t, b)
			if at := time.Since(start); got != want.data || at != want.at*time.Second {
				t.Errorf("got %q after %v, want %q after %v", got, at, want.data, want.at*time.Second)
			}
		}
	})
}

func TestNetDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := listen(t, NewNet(), hostA)
		start := time.Now()
		read := func() error {
			_, _, err := c.ReadFrom(make([]byte, 1))
			return err
		}
		c.SetReadDeadline(start.Add(time.Minute))
		if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		var timeout net.Error
		if err := read(); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
		// A deadline set while a read waits moves that read.
		c.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { c.SetReadDeadline(time.Now()) })
		if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour+time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		c.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { c.Close() })
		if err := read(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read from a socket that closes: %v", err)
		}
		if _, err := c.WriteTo(nil, net.UDPAddrFromAddrPort(hostB)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write to a closed socket: %v", err)
		}
	})
}

func TestNetLosesWhatNobodyReads(t *testing.T) {
	n := NewNet()
	a, b := listen(t, n, hostA), listen(t, n, hostB)
	for range queueLen + 10 {
		sendTo(t, a, hostB, "x")
	}
	if waiting := len(b.(*memConn).queue); waiting != queueLen {
		t.Errorf("%d datagrams wait, want %d", waiting, queueLen)
	}
}

func TestNetNAT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNet()
		outside := netip.MustParseAddr("203.0.113.9")
		nat := n.AddNAT(netip.MustParsePrefix("192.0.2.0/24"), outside)
		a, b := listen(t, n, hostA), listen(t, n, hostB)
		sendTo(t, b, netip.AddrPortFrom(outside, 20001), "unsolicited")
		sendTo(t, a, hostB, "hello")
		_, first := receiveFrom(t, b)
		if first.Addr() != outside || first.Port() == hostA.Port() {
			t.Fatalf("seen from %v", first)
		}
		sendTo(t, b, first, "answer")
		if got, from := receiveFrom(t, a); got != "answer" || from != hostB {
			t.Fatalf("got %q from %v", got, from)
		}
		nat.Rebind()
		sendTo(t, b, first, "too late")
		sendTo(t, a, hostB, "hello again")
		_, second := receiveFrom(t, b)
		if second == first {
			t.Fatal("the port is the same after Rebind")
		}
		sendTo(t, b, second, "welcome")
		if got, _ := receiveFrom(t, a); got != "welcome" {
			t.Fatalf("got %q", got)
		}
		// Two sockets behind the NAT reach each other without it.
		c := listen(t, n, netip.MustParseAddrPort("192.0.2.2:500"))
		sendTo(t, c, hostA, "neighbour")
		if _, from := receiveFrom(t, a); from.Addr().String() != "192.0.2.2" {
			t.Errorf("neighbour seen from %v", from)
		}
	})
}
