package tun

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"
)

// TestQueuesTakeTurns: what is sent beside a stream that waits is read after some of it,
// not after all of it; and the stream keeps its order.
func TestQueuesTakeTurns(t *testing.T) {
	for _, stream := range []byte{protoTCP, protoUDP} {
		t.Run(map[byte]string{protoTCP: "datagram beside TCP", protoUDP: "TCP beside datagrams"}[stream], func(t *testing.T) {
			enterNamespace(t)
			dev, err := Open("wf0", 1300)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			defer time.AfterFunc(roundTripTime, func() { dev.Close() }).Stop() // what is lost would be waited for
			udp := hostSocket(t, "wf0")
			tcp, err := net.ListenPacket("ip4:tcp", "10.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			defer tcp.Close()
			// The far end has sent something, as it does on any connection.
			in := inner{port: 1, ttl: 64, flags: tcpACK}
			if err := dev.Write([][]byte{in.packet(), in.datagram()}); err != nil {
				t.Fatal(err)
			}
			far := net.IPv4(10, 0, 0, 2)
			send := func(proto byte, payload []byte) {
				if proto == protoUDP {
					_, err = udp.WriteTo(payload, &net.UDPAddr{IP: far, Port: 0x3001})
				} else {
					header := []byte{0, 80, 0x30, 1, 19: 0}
					header[tcpOffset] = 5 << 4
					_, err = tcp.WriteTo(slices.Concat(header, payload), &net.IPAddr{IP: far})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			const many, size = 200, 1200
			payload := make([]byte, size)
			for i := range many {
				binary.BigEndian.PutUint16(payload, uint16(i))
				send(stream, payload)
			}
			other := byte(protoTCP + protoUDP - stream)
			send(other, payload[:100])
			taken, before := 0, -1
			for taken < many || before < 0 {
				err := dev.Read(func(p []byte) {
					u, _ := unitOf(p)
					switch {
					case u.ipv6 || len(u.payload()) == 0: // the kernel's own
					case u.proto == other:
						before = taken
					case int(binary.BigEndian.Uint16(u.payload())) != taken:
						t.Fatalf("packet %d is %d", taken, binary.BigEndian.Uint16(u.payload()))
					default:
						taken++
					}
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if before > readAtOnce/size+1 {
				t.Errorf("read behind %d of %d packets", before, many)
			}
		})
	}
}

func TestQueueOf(t *testing.T) {
	one, next := inner{port: 1}, inner{port: 2}
	one6 := inner{port: 1, ipv6: true}
	header := make([]byte, offloadLen)
	for _, c := range []struct {
		name  string
		parts [][]byte
		want  int
	}{
		{"TCP", [][]byte{header, one.packet()}, 1 + (0x3001+80)%3},
		{"another connection", [][]byte{header, next.packet()}, 1 + (0x3002+80)%3},
		{"IPv6", [][]byte{header, one6.packet()}, 1 + (0x3001+80)%3},
		{"put together", [][]byte{slices.Concat(header, one.packet()), make([]byte, 1000)}, 1 + (0x3001+80)%3},
		{"datagrams", [][]byte{slices.Concat(header, one.datagram()), nil}, 0},
		{"no ports", [][]byte{header, one.packet()[:23]}, 0},
		{"nothing", [][]byte{header, nil}, 0},
	} {
		if got := queueOf(c.parts, 4); got != c.want {
			t.Errorf("%s: queue %d, want %d", c.name, got, c.want)
		}
	}
}
