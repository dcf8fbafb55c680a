package tun

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

var (
	near4, far4 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	near6, far6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
)

// newStack makes a stack that is closed at the test's end; then nothing of it may
// run any more.
func newStack(t *testing.T, cfg StackConfig) *Stack {
	t.Helper()
	if cfg.MTU == 0 {
		cfg.MTU = 1300
	}
	s, err := NewStack(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// connect pumps packets between two devices until one of them is closed.
func connect(t *testing.T, a, b Device) {
	t.Helper()
	var pumps sync.WaitGroup
	pump := func(from, to Device) {
		for {
			var packets [][]byte
			err := from.Read(func(p []byte) { packets = append(packets, slices.Clone(p)) })
			if err != nil {
				if !errors.Is(err, os.ErrClosed) {
					t.Errorf("read: %v", err)
				}
				return
			}
			if err := to.Write(packets); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Errorf("write: %v", err)
			}
		}
	}
	pumps.Go(func() { pump(a, b) })
	pumps.Go(func() { pump(b, a) })
	t.Cleanup(func() {
		a.Close()
		b.Close()
		pumps.Wait()
	})
}

// pair is a client's stack and a server's, back to back.
func pair(t *testing.T, client StackConfig) (near, far *Stack) {
	t.Helper()
	client.Addresses = []netip.Addr{near4, near6}
	near, far = newStack(t, client), newStack(t, StackConfig{Addresses: []netip.Addr{far4, far6}})
	connect(t, near, far)
	return near, far
}

func listen(t *testing.T, s *Stack, addr netip.Addr, port uint16) net.Listener {
	t.Helper()
	l, err := gonet.ListenTCP(s.net, fullAddress(netip.AddrPortFrom(addr, port)), protocolOf(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func listenUDP(t *testing.T, s *Stack, addr netip.Addr, port uint16) net.PacketConn {
	t.Helper()
	at := fullAddress(netip.AddrPortFrom(addr, port))
	c, err := gonet.DialUDP(s.net, &at, nil, protocolOf(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echo sends back what comes over each connection.
func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

func TestStackTCP(t *testing.T) {
	for _, tt := range []struct {
		network string
		addr    netip.Addr
	}{{"tcp", far4}, {"tcp4", far4}, {"tcp", far6}, {"tcp6", far6}} {
		t.Run(tt.network+" "+tt.addr.String(), func(t *testing.T) {
			near, far := pair(t, StackConfig{})
			go echo(listen(t, far, tt.addr, 7))
			conn, err := near.DialContext(t.Context(), tt.network, netip.AddrPortFrom(tt.addr, 7).String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			roundTrip(t, conn, 1<<20)
		})
	}
}

// roundTripTime is far more than a round trip takes, also on a busy machine.
const roundTripTime = 30 * time.Second

// roundTrip sends random bytes over an echoing connection and compares.
func roundTrip(t *testing.T, conn net.Conn, size int) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(roundTripTime)) // who loses packets never ends
	sent := make([]byte, size)
	rand.Read(sent)
	go conn.Write(sent)
	got := make([]byte, size)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, got) {
		t.Error("the bytes that came back are others")
	}
}

// TestStackAnswers: who reads answers what is too big amid what comes the other way. All
// that is sent comes back, and the stack heeds the answers.
func TestStackAnswers(t *testing.T) {
	for _, tt := range []struct {
		addr  netip.Addr
		limit int
	}{{far4, 600}, {far6, MinIPv6MTU}} {
		t.Run(tt.addr.String(), func(t *testing.T) {
			near := newStack(t, StackConfig{Addresses: []netip.Addr{near4, near6}, MTU: 1500})
			far := newStack(t, StackConfig{Addresses: []netip.Addr{far4, far6}, MTU: 1500})
			path := &narrow{Stack: near, limit: tt.limit}
			connect(t, path, far)
			go echo(listen(t, far, tt.addr, 7))
			conn, err := near.DialContext(t.Context(), "tcp", netip.AddrPortFrom(tt.addr, 7).String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			roundTrip(t, conn, 1<<20)
			if n := path.answers.Load(); n == 0 || n > 200 {
				t.Errorf("%d answers", n)
			}
		})
	}
}

// narrow is a stack with a path that is narrower than it thinks.
type narrow struct {
	*Stack
	limit   int
	answers atomic.Int64
}

func (n *narrow) Read(take func([]byte)) error {
	return n.Stack.Read(func(p []byte) {
		if len(p) <= n.limit {
			take(p)
			return
		}
		answer := make([]byte, TooBigSize)
		if err := n.Answer(answer[:TooBig(answer, p, n.limit)]); err == nil {
			n.answers.Add(1)
		}
		clear(answer) // nothing is kept
	})
}

func TestStackUDP(t *testing.T) {
	near, far := pair(t, StackConfig{})
	for _, tt := range []struct {
		network string
		addr    netip.Addr
	}{{"udp", far4}, {"udp4", far4}, {"udp6", far6}} {
		t.Run(tt.network, func(t *testing.T) {
			server := listenUDP(t, far, tt.addr, 7)
			defer server.Close()
			conn, err := near.ListenPacket(tt.network)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			// net.IPv4 and ParseIP give 16 bytes for an IPv4 address.
			to := &net.UDPAddr{IP: net.ParseIP(tt.addr.String()), Port: 7}
			if _, err := conn.WriteTo([]byte("ping"), to); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 64)
			n, from, err := server.ReadFrom(buf)
			if err != nil || string(buf[:n]) != "ping" {
				t.Fatalf("%q, %v", buf[:n], err)
			}
			if _, err := server.WriteTo([]byte("pong"), from); err != nil {
				t.Fatal(err)
			}
			if n, from, err = conn.ReadFrom(buf); err != nil || string(buf[:n]) != "pong" || from.String() != netip.AddrPortFrom(tt.addr, 7).String() {
				t.Errorf("%q from %v, %v", buf[:n], from, err)
			}
			for _, wrong := range []net.Addr{nil, (*net.UDPAddr)(nil), &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 7}} {
				if _, err := conn.WriteTo([]byte("x"), wrong); err == nil {
					t.Errorf("WriteTo(%v) succeeds", wrong)
				}
			}
		})
	}
	t.Run("connected", func(t *testing.T) {
		server := listenUDP(t, far, far4, 7)
		conn, err := near.DialContext(t.Context(), "udp", "10.0.0.2:7")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte("ping"))
		buf := make([]byte, 64)
		if n, _, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != "ping" {
			t.Errorf("%q, %v", buf[:n], err)
		}
	})
}

func TestStackRefuses(t *testing.T) {
	only4 := newStack(t, StackConfig{Addresses: []netip.Addr{near4}})
	for _, tt := range []struct{ network, address, want string }{
		{"tcp", "10.0.0.2", "missing port"},
		{"tcp", "10.0.0.2:http", "invalid port"},
		{"tcp", "10.0.0.2:65536", "invalid port"},
		{"tcp", "[fd00::2]:80", "no suitable address"},
		{"tcp6", "10.0.0.2:80", "no suitable address"},
		{"udp4", "[fd00::2]:80", "no suitable address"},
		{"unix", "/run/x", "unknown network"},
		{"tcp46", "10.0.0.2:80", "unknown network"},
		{"tcp", "name.example:80", "no DNS server"},
	} {
		_, err := only4.DialContext(t.Context(), tt.network, tt.address)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("dial %s %s: %v; want %q", tt.network, tt.address, err, tt.want)
		}
	}
	for _, network := range []string{"udp6", "tcp", "udpx"} {
		if _, err := only4.ListenPacket(network); err == nil {
			t.Errorf("listen %s succeeds", network)
		}
	}
	for _, cfg := range []StackConfig{
		{MTU: 1300},
		{Addresses: []netip.Addr{near4}, MTU: 575},
		{Addresses: []netip.Addr{near4}, MTU: 65536},
		{Addresses: []netip.Addr{{}}, MTU: 1300},
		{Addresses: []netip.Addr{near4, near4}, MTU: 1300},
	} {
		if _, err := NewStack(cfg); err == nil {
			t.Errorf("NewStack(%v) succeeds", cfg)
		}
	}
}

// TestStackRefusedConnection: the peer's reset ends the dial.
func TestStackRefusedConnection(t *testing.T) {
	near, _ := pair(t, StackConfig{})
	if _, err := near.DialContext(t.Context(), "tcp", "10.0.0.2:81"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

// TestStackPackets looks at single packets: in their order, with room behind, and what is dropped.
func TestStackPackets(t *testing.T) {
	s := newStack(t, StackConfig{Addresses: []netip.Addr{near4}, MTU: 1280})
	conn, err := s.ListenPacket("udp")
	if err != nil {
		t.Fatal(err)
	}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(far4, 9))
	for i := range 3 {
		conn.WriteTo([]byte{byte(i)}, to)
	}
	var got []byte
	take := func(p []byte) {
		if len(p) != 29 || p[0] != 0x45 || cap(p) < len(p)+Tailroom {
			t.Errorf("% x, capacity %d", p, cap(p))
		}
		got = append(got, p[28])
	}
	for len(got) < 3 {
		if err := s.Read(take); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, []byte{0, 1, 2}) {
		t.Errorf("% x", got)
	}
	garbage := [][]byte{{}, {0}, {0xff, 1, 2}, {0x45}, {0x60}, make([]byte, 2000)}
	if err := s.Write(garbage); err != nil {
		t.Error(err)
	}
}

// TestStackClose: whoever waits for the stack is let go, and nothing of it runs on.
func TestStackClose(t *testing.T) {
	near, far := newStack(t, StackConfig{Addresses: []netip.Addr{near4}, DNS: []netip.Addr{far4}}), newStack(t, StackConfig{Addresses: []netip.Addr{far4}})
	connect(t, near, far)
	l := listen(t, far, far4, 7)
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := l.Accept()
		accepted <- conn
	}()
	tcp, err := near.DialContext(t.Context(), "tcp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer (<-accepted).Close()
	udp, err := near.ListenPacket("udp")
	if err != nil {
		t.Fatal(err)
	}
	listenUDP(t, far, far4, 53) // never answers
	var waiting sync.WaitGroup
	started := make(chan struct{}, 4)
	wait := func(what string, f func() error) {
		waiting.Go(func() {
			started <- struct{}{}
			if err := f(); err == nil {
				t.Errorf("%s succeeds", what)
			}
		})
	}
	wait("TCP read", func() error { _, err := tcp.Read(make([]byte, 1)); return err })
	wait("UDP read", func() error { _, _, err := udp.ReadFrom(make([]byte, 1)); return err })
	wait("dial", func() error { _, err := near.DialContext(t.Context(), "tcp", "10.0.0.99:7"); return err })
	wait("lookup", func() error { _, err := near.LookupHost(t.Context(), "name"); return err })
	for range cap(started) {
		<-started
	}
	near.Close()
	far.Close()
	waiting.Wait()
	near.Close() // again

	if _, err := near.DialContext(t.Context(), "tcp", "10.0.0.2:7"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after Close: %v", err)
	}
	if _, err := near.ListenPacket("udp"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen after Close: %v", err)
	}
	if err := near.Write([][]byte{{0x45}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if err := near.Answer([]byte{0x45}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("answer after Close: %v", err)
	}
	if err := near.Read(func([]byte) {}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if bytes.Contains(stacks, []byte("created by gvisor.dev")) {
		t.Errorf("still running:\n%s", stacks)
	}
}

// TestStackCloseWhileDialling: a connection that is made at the very end ends too.
func TestStackCloseWhileDialling(t *testing.T) {
	for range 20 {
		near, far := newStack(t, StackConfig{Addresses: []netip.Addr{near4}}), newStack(t, StackConfig{Addresses: []netip.Addr{far4}})
		connect(t, near, far)
		go echo(listen(t, far, far4, 7))
		var dials sync.WaitGroup
		for _, address := range []string{"10.0.0.2:7", "10.0.0.99:7", "10.0.0.2:8"} {
			dials.Go(func() {
				for {
					if _, err := near.DialContext(t.Context(), "tcp", address); errors.Is(err, net.ErrClosed) {
						return
					}
				}
			})
		}
		runtime.Gosched()
		near.Close()
		far.Close()
		dials.Wait()
	}
}

func TestStackDialCancelled(t *testing.T) {
	s := newStack(t, StackConfig{Addresses: []netip.Addr{near4}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		// The SYN is on its way.
		s.Read(func([]byte) {})
		cancel()
	}()
	if _, err := s.DialContext(ctx, "tcp", "10.0.0.2:7"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestStackSetMTU: connections made afterwards know the new size.
func TestStackSetMTU(t *testing.T) {
	s := newStack(t, StackConfig{Addresses: []netip.Addr{near4}, MTU: 1300})
	for _, mtu := range []int{1422, 576} {
		if err := s.SetMTU(mtu); err != nil {
			t.Fatal(err)
		}
		if got, err := s.MTU(); got != mtu || err != nil {
			t.Errorf("MTU %d, %v; want %d", got, err, mtu)
		}
		conn, err := s.ListenPacket("udp4")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.WriteTo(make([]byte, 3000), net.UDPAddrFromAddrPort(netip.AddrPortFrom(far4, 53))); err != nil {
			t.Fatal(err)
		}
		for left := 3028; left > 0; {
			err := s.Read(func(p []byte) {
				if len(p) > mtu {
					t.Fatalf("%d bytes with an MTU of %d", len(p), mtu)
				}
				left -= len(p)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.SetMTU(575); err == nil {
		t.Error("575 is taken")
	}
}
