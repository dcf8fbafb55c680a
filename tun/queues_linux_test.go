package tun

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// sender is a connection by which the host sends.
type sender struct {
	proto byte
	port  byte // tells those of a protocol apart
}

// TestQueuesTakeTurns: what is sent beside a stream that waits is read after some of it,
// not after all of it; and the stream keeps its order.
func TestQueuesTakeTurns(t *testing.T) {
	for name, tt := range map[string]struct{ stream, other sender }{
		"datagram beside TCP":       {sender{protoTCP, 1}, sender{protoUDP, 1}},
		"TCP beside datagrams":      {sender{protoUDP, 1}, sender{protoTCP, 1}},
		"datagram beside datagrams": {sender{protoUDP, 1}, sender{protoUDP, 2}},
		"ping beside datagrams":     {sender{protoUDP, 1}, sender{protoICMP, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			withQueues(t, func(t *testing.T, dev *native) { queuesTakeTurns(t, dev, tt.stream, tt.other) })
		})
	}
}

func queuesTakeTurns(t *testing.T, dev Device, stream, other sender) {
	hostSocket(t, "wf0")
	send := func(by sender, payload []byte) {
		c, err := net.ListenPacket("ip4:"+strconv.Itoa(int(by.proto)), "10.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var header []byte
		switch by.proto {
		case protoTCP:
			header = []byte{0, 80, 0x30, by.port, tcpOffset: 5 << 4, tcpHeaderLen - 1: 0}
		case protoUDP:
			header = []byte{0, 53, 0x30, by.port, 0, 0, 0, 0}
			binary.BigEndian.PutUint16(header[udpLength:], uint16(udpHeaderLen+len(payload)))
		case protoICMP:
			header = []byte{8, 0, 0, 0, 0, 0, 0, 0}
		}
		if _, err := c.WriteTo(append(header, payload...), &net.IPAddr{IP: net.IPv4(10, 0, 0, 2)}); err != nil {
			t.Fatal(err)
		}
	}
	// The far end has sent something, as it does on any connection.
	for _, by := range []sender{stream, other} {
		in := inner{port: by.port, ttl: 64, flags: tcpACK}
		p := in.packet()
		switch by.proto {
		case protoUDP:
			p = in.datagram()
		case protoICMP:
			p = in.around(protoICMP, icmpChecksum, make([]byte, 8))
		}
		if err := dev.Write([][]byte{p}); err != nil {
			t.Fatal(err)
		}
	}
	const many, size = 200, 1200
	payload := make([]byte, size)
	for i := range many {
		binary.BigEndian.PutUint16(payload, uint16(i))
		send(stream, payload)
	}
	const begun = 10 // the stream's turn
	taken, before := 0, -1
	for taken < many || before < 0 {
		err := dev.Read(func(p []byte) {
			u, ok := unitOf(p)
			from := sender{proto: u.proto}
			switch {
			case u.ipv6, ok && len(u.payload()) == 0, u.proto == protoICMP && p[ipv4HeaderLen] != 8:
				return // the kernel's own
			case ok:
				from.port = p[ipv4HeaderLen+3]
			}
			switch from {
			case other:
				before = taken
			case stream:
				if i := int(binary.BigEndian.Uint16(u.payload())); i != taken {
					t.Fatalf("packet %d is %d", taken, i)
				}
				if taken++; taken == begun {
					send(other, make([]byte, 100))
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if before > readAtOnce/size+1 {
		t.Errorf("read behind %d of %d packets", before, many)
	}
}

// TestQueueOfConnection: each queue is waited for, and what the host sends in a connection
// comes by the queue by which the far end's last packet was handed over.
func TestQueueOfConnection(t *testing.T) {
	withQueues(t, queueOfConnection)
}

func queueOfConnection(t *testing.T, n *native) {
	up6(t, "wf0")
	up(t, "wf0", near4.String()+"/32", far4.String()+"/32")
	waiting := func() bool {
		var fds [1]unix.PollFd
		if err := n.in.conn.Control(func(fd uintptr) { fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN} }); err != nil {
			t.Fatal(err)
		}
		ready, err := unix.Poll(fds[:], 0)
		if err != nil {
			t.Fatal(err)
		}
		return ready == 1
	}
	mark := []byte("of the host")
	queue := -1
	read := func() {
		if err := n.Read(func(p []byte) {
			if bytes.HasSuffix(p, mark) {
				queue = n.in.turn
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, ipv6 := range []bool{false, true} {
		network, near, far := "ip4:", near4, far4
		if ipv6 {
			network, near, far = "ip6:", near6, far6
		}
		for _, proto := range []string{"udp", "tcp"} {
			c, err := net.ListenPacket(network+proto, near.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for port := range byte(heardQueues) {
				in := inner{port: port, ttl: 64, flags: tcpACK, ipv6: ipv6}
				p, back := in.packet(), []byte{0, 80, 0x30, port, tcpOffset: 5 << 4, tcpHeaderLen - 1: 0}
				if proto == "udp" {
					p, back = in.datagram(), []byte{0, 53, 0x30, port, 0, 19, 0, 0}
				}
				if err := n.Write([][]byte{p}); err != nil {
					t.Fatal(err)
				}
				for waiting() { // the kernel's own
					read()
				}
				if _, err := c.WriteTo(append(back, mark...), &net.IPAddr{IP: far.AsSlice()}); err != nil {
					t.Fatal(err)
				}
				woken := waiting()
				for queue = -1; queue < 0; {
					read()
				}
				if want := queueOf([][]byte{make([]byte, offloadLen), p}); queue != want || !woken {
					t.Errorf("%s%s, port %d: by queue %d, want %d; is waited for: %v", network, proto, port, queue, want, woken)
				}
			}
		}
	}
}

// TestNewConnections: few of them are put behind an upload. Which queue they get is the
// kernel's choice, in all modes alike: one is tried.
func TestNewConnections(t *testing.T) {
	dev := device(t)
	up(t, "wf0", near4.String()+"/32", far4.String()+"/32")
	c, err := net.ListenPacket("ip4:udp", near4.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const many = 512
	for i := range uint16(many) {
		question := binary.BigEndian.AppendUint16(nil, 0x4000+i)
		question = append(question, 0, 53, 0, 8, 0, 0)
		if _, err := c.WriteTo(question, &net.IPAddr{IP: far4.AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
	n := dev.(*native)
	by := make(map[int]int)
	for left := many; left > 0; {
		if err := dev.Read(func(p []byte) {
			if u, _ := unitOf(p); u.proto == protoUDP && !u.ipv6 {
				by[n.in.turn]++
				left--
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	for queue := range heardQueues {
		if by[queue] > many/8 { // a sixteenth, but for chance
			t.Errorf("%d of %d are in queue %d", by[queue], many, queue)
		}
	}
}

// TestDeviceAllocations: none, whether packets wait or are waited for.
func TestDeviceAllocations(t *testing.T) { inModes(t, deviceAllocations) }

func deviceAllocations(t *testing.T, dev Device) {
	c := hostSocket(t, "wf0")
	to, datagram := netip.AddrPortFrom(far4, 7), make([]byte, 1000)
	first, next := inner{port: 1, ttl: 64, df: true, flags: tcpACK, payload: datagram}, inner{port: 1, ttl: 64, df: true, sequence: 1000, flags: tcpACK, payload: datagram}
	packets := [][]byte{first.packet(), next.packet(), first.datagram()}
	count := 0
	take := func(p []byte) {
		if len(p) > len(datagram) {
			count++
		}
	}
	both := func(send func()) float64 {
		return testing.AllocsPerRun(500, func() {
			count = 0
			for send(); count == 0; {
				if err := dev.Read(take); err != nil {
					t.Fatal(err)
				}
			}
			if err := dev.Write(packets); err != nil {
				t.Fatal(err)
			}
		})
	}
	send := func() {
		if _, err := c.WriteToUDPAddrPort(datagram, to); err != nil {
			t.Fatal(err)
		}
	}
	if n := both(send); n != 0 {
		t.Errorf("Read and Write allocate %v times", n)
	}
	later := make(chan struct{})
	defer close(later)
	go func() {
		for range later {
			send()
		}
	}()
	if n := both(func() { later <- struct{}{} }); n != 0 {
		t.Errorf("Read that waits, and Write, allocate %v times", n)
	}
}

func TestQueueOf(t *testing.T) {
	payload := make([]byte, 1000)
	one, next := inner{port: 1, payload: payload}, inner{port: 2, payload: payload}
	one6 := inner{port: 1, ipv6: true, payload: payload}
	fragment := func(p []byte, field ...byte) []byte {
		copy(p[6:], field)
		return p
	}
	header := make([]byte, offloadLen)
	const tcp, udp = 1, 1 + tcpQueues // the first of each
	for _, c := range []struct {
		name  string
		parts [][]byte
		want  int
	}{
		{"TCP", [][]byte{header, one.packet()}, tcp + (0x3001+80)%tcpQueues},
		{"another connection", [][]byte{header, next.packet()}, tcp + (0x3002+80)%tcpQueues},
		{"IPv6", [][]byte{header, one6.packet()}, tcp + (0x3001+80)%tcpQueues},
		{"put together", [][]byte{slices.Concat(header, one.packet()[:40]), one.packet()[40:]}, tcp + (0x3001+80)%tcpQueues},
		{"UDP", [][]byte{header, one.datagram()}, udp + (0x3001+53)%udpQueues},
		{"another connection of UDP", [][]byte{header, next.datagram()}, udp + (0x3002+53)%udpQueues},
		{"UDP over IPv6", [][]byte{header, one6.datagram()}, udp + (0x3001+53)%udpQueues},
		{"datagrams", [][]byte{slices.Concat(header, one.datagram()[:28]), one.datagram()[28:]}, udp + (0x3001+53)%udpQueues},
		{"a first fragment", [][]byte{header, fragment(one.datagram(), 0x20, 0)}, 0},
		{"a later fragment", [][]byte{header, fragment(one.datagram(), 0, 185)}, 0},
		{"a later fragment of TCP", [][]byte{header, fragment(one.packet(), 0x20, 185)}, 0},
		{"a fragment over IPv6", [][]byte{header, fragment(one6.datagram(), 44)}, 0},
		{"a ping", [][]byte{header, one.around(protoICMP, icmpChecksum, make([]byte, 8))}, 0},
		{"half a header", [][]byte{header, one.packet()[:23]}, 0},
		{"nothing", [][]byte{header, nil}, 0},
	} {
		if got := queueOf(c.parts); got != c.want {
			t.Errorf("%s: queue %d, want %d", c.name, got, c.want)
		}
	}
}
