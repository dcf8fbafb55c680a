package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/things-go/go-socks5/statute"
)

// memoryPackets is a socket without a network, in virtual time.
type memoryPackets struct {
	in  chan packet
	out chan packet

	mu       sync.Mutex
	deadline time.Time
	moved    chan struct{} // closed when the deadline is another
}

type packet struct {
	data []byte
	addr net.Addr
}

func newMemoryPackets() *memoryPackets {
	return &memoryPackets{in: make(chan packet), out: make(chan packet, 100), moved: make(chan struct{})}
}

func (m *memoryPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		m.mu.Lock()
		late, moved := time.After(time.Until(m.deadline)), m.moved
		m.mu.Unlock()
		select {
		case p := <-m.in:
			return copy(b, p.data), p.addr, nil
		case <-late:
			return 0, nil, os.ErrDeadlineExceeded
		case <-moved:
		}
	}
}

func (m *memoryPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	m.out <- packet{bytes.Clone(b), to}
	return len(b), nil
}

func (m *memoryPackets) SetReadDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deadline = t
	close(m.moved)
	m.moved = make(chan struct{})
	return nil
}

func (m *memoryPackets) SetDeadline(t time.Time) error    { return m.SetReadDeadline(t) }
func (m *memoryPackets) SetWriteDeadline(time.Time) error { return nil }
func (m *memoryPackets) Close() error                     { return nil }
func (m *memoryPackets) LocalAddr() net.Addr              { return program(1) }

// program is where a program sends from.
func program(port int) net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }

// behind is what is behind a gateway: hosts that read all and say what they are told to.
type behind struct {
	mu    sync.Mutex
	hosts []net.Conn // in the order in which they were dialled
	names []string
}

func (b *behind) dial(_ context.Context, _, address string) (net.Conn, error) {
	near, far := net.Pipe()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts, b.names = append(b.hosts, far), append(b.names, address)
	go io.Copy(io.Discard, far)
	return near, nil
}

// testAssociation is an association that runs; ended gets the time that it took.
func testAssociation(may func(netip.AddrPort) bool, wanted statute.AddrSpec) (*memoryPackets, *behind, <-chan time.Duration) {
	inside, conn := &behind{}, newMemoryPackets()
	a := &association{relay: &relay{dial: inside.dial, may: may}, conn: conn, wanted: &wanted, flows: map[string]chan<- []byte{}}
	ended := make(chan time.Duration, 1)
	began := time.Now()
	go func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		a.serve(ctx)
		ended <- time.Since(began)
	}()
	return conn, inside, ended
}

func everybody(netip.AddrPort) bool { return true }

// to is a datagram for a host behind the gateway.
func to(host string, data string) []byte {
	d, err := statute.NewDatagram(host, []byte(data))
	if err != nil {
		panic(err)
	}
	return d.Bytes()
}

func TestAssociationIdles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, inside, ended := testAssociation(everybody, statute.AddrSpec{})
		conn.in <- packet{to("a.example:7", "1"), program(5000)}
		synctest.Wait()
		// What comes back counts as what is sent does, and comes as from where it was sent.
		for range 6 {
			time.Sleep(idleFlow - time.Second)
			fmt.Fprint(inside.hosts[0], "reply")
			if p := <-conn.out; !bytes.Equal(p.data, to("a.example:7", "reply")) || p.addr.String() != program(5000).String() {
				t.Fatalf("came back: %q to %v", p.data, p.addr)
			}
		}
		// The flow ends; the association has another one.
		time.Sleep(idleFlow + time.Second)
		if _, err := inside.hosts[0].Write([]byte("late")); err == nil {
			t.Error("an idle flow does not end")
		}
		conn.in <- packet{to("a.example:7", "2"), program(5000)}
		synctest.Wait()
		if len(inside.hosts) != 2 {
			t.Errorf("%d flows, want 2", len(inside.hosts))
		}
		want := 6*(idleFlow-time.Second) + idleFlow + time.Second + idleAssociation
		if took := <-ended; took != want {
			t.Errorf("it ended after %v, want %v", took, want)
		}
	})
}

func TestAssociationBoundsFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, inside, ended := testAssociation(everybody, statute.AddrSpec{})
		for i := range maxFlows + 10 {
			conn.in <- packet{to(fmt.Sprintf("192.0.2.1:%d", i+1), "x"), program(5000)}
		}
		synctest.Wait()
		if len(inside.hosts) != maxFlows {
			t.Errorf("%d flows, want %d", len(inside.hosts), maxFlows)
		}
		<-ended
	})
}

// An association is one program's: who may send, and says so first.
func TestAssociationIsOnePrograms(t *testing.T) {
	for _, tt := range []struct {
		name   string
		wanted statute.AddrSpec
		want   []string
	}{
		{"from anywhere", statute.AddrSpec{IP: net.IPv4zero}, []string{"b:1", "c:1"}},
		{"from a port", statute.AddrSpec{IP: net.IPv4zero, Port: 5002}, []string{"d:1"}},
		{"from elsewhere", statute.AddrSpec{IP: net.IPv4(192, 0, 2, 1)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stranger := func(from netip.AddrPort) bool { return from.Port() != 5000 }
				conn, inside, ended := testAssociation(stranger, tt.wanted)
				fragment := to("e:1", "data")
				fragment[2] = 1
				for _, p := range []packet{
					{to("a:1", "data"), program(5000)}, // of another user
					{to("b:1", "data"), program(5001)},
					{to("d:1", "data"), program(5002)},
					{to("c:1", "data"), program(5001)},
					{[]byte("short"), program(5001)},
					{fragment, program(5001)},
				} {
					conn.in <- p
					synctest.Wait()
				}
				if fmt.Sprint(inside.names) != fmt.Sprint(tt.want) {
					t.Errorf("passed on to %v, want %v", inside.names, tt.want)
				}
				<-ended
			})
		})
	}
}

// Associations are counted, and end with the program's connection.
func TestAssociationsAreBounded(t *testing.T) {
	listener, err := listenProxy("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go newSOCKS((&behind{}).dial, everybody).Serve(listener)
	open := func() (net.Conn, byte) {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.Write([]byte{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0})
		reply := make([]byte, 2+10)
		if _, err := io.ReadFull(conn, reply); err != nil {
			t.Fatal(err)
		}
		return conn, reply[3]
	}
	var first net.Conn
	for range maxAssociations {
		conn, reply := open()
		if reply != statute.RepSuccess {
			t.Fatalf("refused: %d", reply)
		}
		first = conn
	}
	if _, reply := open(); reply != statute.RepServerFailure {
		t.Errorf("one too many: reply %d", reply)
	}
	first.Close()
	for {
		conn, reply := open()
		if reply == statute.RepSuccess {
			break // the proxy has seen the end of the other
		}
		conn.Close()
	}
}
