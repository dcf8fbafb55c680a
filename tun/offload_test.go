package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// inner describes packets of one connection, for a maker that shares nothing with what
// is tested.
type inner struct {
	ipv6     bool
	port     byte // tells connections apart
	id       uint16
	df       bool
	tos, ttl byte
	sequence uint32
	ack      uint32
	flags    byte
	ae       byte   // 1: the flag beside the offset (AccECN)
	options  []byte // of TCP
	window   byte   // its low byte
	payload  []byte
}

// packet makes a TCP packet with its checksums.
func (in inner) packet() []byte {
	tcp := []byte{0x30, in.port, 0, 80}
	tcp = binary.BigEndian.AppendUint32(tcp, in.sequence)
	tcp = binary.BigEndian.AppendUint32(tcp, in.ack)
	tcp = append(tcp, byte(20+len(in.options))/4<<4|in.ae, in.flags, 0x12, in.window, 0, 0, 0, 0)
	return in.around(6, 16, slices.Concat(tcp, in.options, in.payload))
}

// datagram makes a UDP packet with its checksums.
func (in inner) datagram() []byte {
	udp := []byte{0x30, in.port, 0, 53, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(in.payload)))
	return in.around(17, 6, slices.Concat(udp, in.payload))
}

// around puts an IP header before b and completes the checksum in it.
func (in inner) around(proto byte, field int, b []byte) []byte {
	src, dst := []byte{10, 0, 0, 2}, []byte{10, 0, 0, 1}
	head := []byte{0x45, in.tos, 0, 0, 0, 0, 0, 0, in.ttl, proto, 0, 0}
	if in.ipv6 {
		src, dst = far6.AsSlice(), near6.AsSlice()
		head = []byte{0x60, in.tos, 0, 0, 0, 0, proto, in.ttl}
		binary.BigEndian.PutUint16(head[4:], uint16(len(b)))
	}
	pseudo := slices.Concat(src, dst, []byte{0, proto}, binary.BigEndian.AppendUint16(nil, uint16(len(b))))
	sum := ^fold(slices.Concat(pseudo, b))
	if sum == 0 && proto == 17 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[field:], sum)
	if !in.ipv6 {
		binary.BigEndian.PutUint16(head[2:], uint16(20+len(b)))
		binary.BigEndian.PutUint16(head[4:], in.id)
		if in.df {
			head[6] = 0x40
		}
		binary.BigEndian.PutUint16(head[10:], ^fold(slices.Concat(head, src, dst)))
	}
	return slices.Concat(head, src, dst, b)
}

// super makes what the host hands over for segments of size bytes each: one packet and
// its offload header, the checksum field holding the pseudo-header's sum.
func (in inner) super(kind byte, size int) []byte {
	p := in.packet()
	if kind == offloadUDP {
		p = in.datagram()
	}
	start, field, proto := 20, 16, byte(6)
	if in.ipv6 {
		start = 40
	}
	header := start + 20 + len(in.options)
	if kind == offloadUDP {
		field, proto, header = 6, 17, start+8
	}
	addresses := p[start-8 : start]
	if in.ipv6 {
		addresses = p[8:40]
	}
	pseudo := slices.Concat(addresses, []byte{0, proto}, binary.BigEndian.AppendUint16(nil, uint16(len(p)-start)))
	binary.BigEndian.PutUint16(p[start+field:], fold(pseudo))
	head := []byte{1, kind, 0, 0, 0, 0, 0, 0, 0, 0}
	for i, v := range []int{header, size, start, field} {
		binary.NativeEndian.PutUint16(head[2+2*i:], uint16(v))
	}
	return append(head, p...)
}

// segments are the packets that super stands for, made one by one.
func (in inner) segments(kind byte, size int) (packets [][]byte) {
	payload, flags := in.payload, in.flags
	for i := 0; len(payload) > 0; i++ {
		n := min(size, len(payload))
		in.payload, payload = payload[:n], payload[n:]
		in.flags = flags
		if len(payload) > 0 {
			in.flags &^= 0x09 // FIN, PSH
		}
		if i > 0 {
			in.flags &^= 0x80 // CWR
		}
		if kind == offloadUDP {
			packets = append(packets, in.datagram())
		} else {
			packets = append(packets, in.packet())
		}
		in.sequence += uint32(n)
		in.id++
	}
	return packets
}

// splitAll splits, and overwrites what it is given as a tunnel does that encrypts in
// place, the room behind included, which it puts back.
func splitAll(t testing.TB, s *splitter, whole []byte) (packets [][]byte, err error) {
	t.Helper()
	buf := append(bytes.Clone(whole), make([]byte, Tailroom)...)
	err = s.split(buf, len(whole), func(p []byte) {
		if cap(p) != len(p)+Tailroom {
			t.Fatalf("%d bytes behind a packet", cap(p)-len(p))
		}
		packets = append(packets, bytes.Clone(p))
		for i := range p {
			p[i] = 0xee
		}
	})
	return packets, err
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// seeded is n bytes that look random and are the same each time, for a fuzzer's seeds.
func seeded(n int) []byte {
	b, r := make([]byte, n), rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func wantPackets(t *testing.T, name string, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d packets, want %d", name, len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: packet %d is\n%x, want\n%x", name, i, got[i], want[i])
		}
	}
}

// TestSplit: the segments are those that a host without offloads sends.
func TestSplit(t *testing.T) {
	s := new(splitter)
	timestamps := []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	for _, ipv6 := range []bool{false, true} {
		for _, size := range []int{1, 7, 536, 1000, 1400, 65000} {
			for _, total := range []int{1, 2, 1000, 1001, 14_000, 60_000} {
				if total/size > 5000 {
					total = 5000 * size
				}
				for _, flags := range []byte{0x10, 0x18, 0x19, 0xd8} {
					in := inner{ipv6: ipv6, id: 0xfffe, df: true, tos: 2, ttl: 64, sequence: 0xffffff00, ack: 7, flags: flags, options: timestamps, payload: random(total)}
					kind := byte(offloadTCP4)
					if ipv6 {
						kind = offloadTCP6
					}
					whole := in.super(kind, size)
					if flags&0x80 != 0 {
						whole[1] |= offloadECN
					}
					got, err := splitAll(t, s, whole)
					if err != nil {
						t.Fatal(err)
					}
					wantPackets(t, fmt.Sprintf("TCP, IPv6 %v, %d bytes by %d, flags %#x", ipv6, total, size, flags), got, in.segments(kind, size))
				}
				in := inner{ipv6: ipv6, id: 9, ttl: 64, payload: random(total)}
				got, err := splitAll(t, s, in.super(offloadUDP, size))
				if err != nil {
					t.Fatal(err)
				}
				wantPackets(t, fmt.Sprintf("UDP, IPv6 %v, %d bytes by %d", ipv6, total, size), got, in.segments(offloadUDP, size))
			}
		}
	}
}

// TestSplitChecksum: a single packet gets the checksum that the host left out, and only
// then.
func TestSplitChecksum(t *testing.T) {
	s := new(splitter)
	in := inner{ttl: 64, payload: random(101), flags: 0x18}
	for kind, want := range map[byte][]byte{offloadTCP4: in.packet(), offloadUDP: in.datagram()} {
		whole := in.super(kind, 0)
		whole[1] = offloadNone
		if got, err := splitAll(t, s, whole); err != nil || len(got) != 1 || !bytes.Equal(got[0], want) {
			t.Errorf("%x, %v, want %x", got, err, want)
		}
		as := append(make([]byte, offloadLen), "\x45anything"...)
		if got, err := splitAll(t, s, as); err != nil || len(got) != 1 || string(got[0]) != "\x45anything" {
			t.Errorf("%q, %v", got, err)
		}
	}
	// A sum of zero is written as all ones (RFC 768).
	for i := range 1 << 16 {
		in.payload = []byte{byte(i >> 8), byte(i)}
		if p := in.datagram(); p[26] == 0xff && p[27] == 0xff {
			whole := in.super(offloadUDP, 0)
			whole[1] = offloadNone
			if got, _ := splitAll(t, s, whole); !bytes.Equal(got[0], p) {
				t.Errorf("%x, want %x", got[0], p)
			}
			return
		}
	}
	t.Fatal("no packet with such a sum")
}

// TestSplitRefuses: an offload header that does not fit the packet is an error.
func TestSplitRefuses(t *testing.T) {
	good := inner{ttl: 64, flags: 0x10, payload: random(3000)}.super(offloadTCP4, 1000)
	put := func(at, v int) func([]byte) {
		return func(b []byte) { binary.NativeEndian.PutUint16(b[at:], uint16(v)) }
	}
	for name, change := range map[string]func([]byte){
		"segments of nothing":            put(4, 0),
		"a kind that nobody asked for":   func(b []byte) { b[1] = 3 },
		"the other family":               func(b []byte) { b[1] = offloadTCP6 },
		"UDP with a TCP checksum":        func(b []byte) { b[1] = offloadUDP },
		"a header beyond the packet":     put(6, 65535),
		"a header within the IP header":  put(6, 19),
		"a header that is not where":     put(6, 24),
		"a checksum elsewhere":           put(8, 6),
		"TCP with less than its header":  func(b []byte) { b[offloadLen+32] = 4 << 4 },
		"an IP header with options":      func(b []byte) { b[offloadLen] = 0x46 },
		"no IP":                          func(b []byte) { b[offloadLen] = 0x75 },
		"a checksum beyond (single)":     func(b []byte) { b[1] = 0; put(6, 65000)(b) },
		"a checksum half beyond(single)": func(b []byte) { b[1] = 0; put(6, len(b)-offloadLen-17)(b) },
	} {
		bad := bytes.Clone(good)
		change(bad)
		if got, err := splitAll(t, new(splitter), bad); !errors.Is(err, errOffload) || len(got) > 0 {
			t.Errorf("%s: %d packets, %v", name, len(got), err)
		}
	}
	for n := range 60 {
		if _, err := splitAll(t, new(splitter), good[:n]); n < 50 && !errors.Is(err, errOffload) {
			if n > offloadLen && n < 51 {
				t.Errorf("the first %d bytes: %v", n, err)
			}
		}
	}
}

// FuzzSplit: whatever stands in the headers, nothing panics and segments are within
// bounds.
func FuzzSplit(f *testing.F) {
	for _, ipv6 := range []bool{false, true} {
		in := inner{ipv6: ipv6, ttl: 64, flags: 0x18, payload: seeded(300)}
		for _, kind := range []byte{offloadTCP4, offloadTCP6, offloadUDP} {
			f.Add(in.super(kind, 100))
		}
	}
	s := new(splitter)
	f.Fuzz(func(t *testing.T, whole []byte) {
		if len(whole) > 4096 {
			return
		}
		packets, err := splitAll(t, s, whole)
		if err != nil && len(packets) > 0 {
			t.Errorf("%d packets and %v", len(packets), err)
		}
		for _, p := range packets {
			if len(p) == 0 || len(p) > len(whole) {
				t.Errorf("a packet of %d bytes of %d", len(p), len(whole))
			}
		}
	})
}

// coalesced runs packets through a coalescer and gives what it writes.
func coalesced(t testing.TB, packets [][]byte, udp bool) (written [][]byte) {
	t.Helper()
	c := &coalescer{udp: udp, write: func(parts [][]byte) error {
		whole := bytes.Join(parts, nil)
		checkWhole(t, whole)
		written = append(written, whole)
		return nil
	}}
	for _, p := range packets {
		c.add(p)
	}
	if err := c.flush(); err != nil {
		t.Error(err)
	}
	return written
}

// FuzzSegments: what a large packet is cut into are the packets that a host without
// offloads sends.
func FuzzSegments(f *testing.F) {
	f.Add(false, false, byte(0x18), uint16(1360), uint16(20_000), uint32(0xffffff00), uint16(0xfffe), byte(12))
	f.Add(true, false, byte(0xd9), uint16(1), uint16(100), uint32(1), uint16(0), byte(0))
	f.Add(true, true, byte(0), uint16(500), uint16(501), uint32(0), uint16(7), byte(0))
	s := new(splitter)
	f.Fuzz(func(t *testing.T, ipv6, udp bool, flags byte, size, total uint16, sequence uint32, id uint16, options byte) {
		if size == 0 || total == 0 || total > 65_000 || total/size > 2000 {
			return
		}
		in := inner{ipv6: ipv6, id: id, df: true, ttl: 64, sequence: sequence, flags: flags, payload: make([]byte, total)}
		for i := range in.payload {
			in.payload[i] = byte(i*31) ^ flags
		}
		kind := byte(offloadTCP4)
		switch {
		case udp:
			kind = offloadUDP
		case ipv6:
			kind = offloadTCP6
		}
		if !udp {
			in.options = make([]byte, options%11*4)
		}
		got, err := splitAll(t, s, in.super(kind, int(size)))
		if err != nil {
			t.Fatal(err)
		}
		wantPackets(t, fmt.Sprintf("kind %d, %d bytes by %d", kind, total, size), got, in.segments(kind, int(size)))
	})
}

// checkWhole checks what the host does of a packet that was put together: it drops one with
// a wrong header, and whoever waits for it waits for ever.
func checkWhole(t testing.TB, whole []byte) {
	t.Helper()
	o, p := parseOffload(whole), whole[offloadLen:]
	if o.kind == offloadNone {
		return
	}
	start, addresses, proto := 20, p[12:20], byte(6)
	if p[0]>>4 == 6 {
		start, addresses = 40, p[8:40]
		if n := binary.BigEndian.Uint16(p[4:]); int(n) != len(p)-40 {
			t.Errorf("a length of %d in a packet of %d bytes", n, len(p))
		}
	} else if n := binary.BigEndian.Uint16(p[2:]); fold(p[:20]) != 0xffff || int(n) != len(p) {
		t.Errorf("the header % x of a packet of %d bytes", p[:20], len(p))
	}
	header, field := start+8, 6
	if o.kind == offloadUDP {
		proto = 17
		if n := binary.BigEndian.Uint16(p[start+4:]); int(n) != len(p)-start {
			t.Errorf("a datagram's length of %d in a packet of %d bytes", n, len(p))
		}
	} else {
		header, field = start+int(p[start+12]>>4)*4, 16
	}
	pseudo := slices.Concat(addresses, []byte{0, proto}, binary.BigEndian.AppendUint16(nil, uint16(len(p)-start)))
	if got, want := binary.BigEndian.Uint16(p[start+field:]), fold(pseudo); got != want {
		t.Errorf("a sum of %#x before the payload, want %#x", got, want)
	}
	if n := int(binary.NativeEndian.Uint16(whole[2:])); o.flags != 1 || o.checksumStart != start || o.checksumField != field || n != header {
		t.Errorf("offload header %+v, %d bytes of headers", o, n)
	}
}

// TestCoalesce: what is put together, by how many segments.
func TestCoalesce(t *testing.T) {
	base := inner{id: 5, df: true, tos: 1, ttl: 60, sequence: 0xfffffff0, ack: 9, flags: 0x10, options: []byte{1, 1, 1, 1}}
	sized := func(sizes ...int) (packets []inner) {
		in := base
		for _, n := range sizes {
			in.payload = random(n)
			packets = append(packets, in)
			in.sequence += uint32(n)
			in.id++
		}
		return packets
	}
	changed := func(i int, change func(*inner)) []inner {
		packets := sized(100, 100, 100)
		change(&packets[i])
		return packets
	}
	all := func(change func(*inner)) []inner {
		packets := sized(100, 100, 100)
		for i := range packets {
			change(&packets[i])
		}
		return packets
	}
	for _, tt := range []struct {
		name    string
		packets []inner
		want    []int // segments in each packet that is written
	}{
		{"one", sized(100), []int{1}},
		{"a run", sized(100, 100, 100), []int{3}},
		{"a shorter one ends it", sized(100, 60, 60, 100), []int{2, 1, 1}},
		{"a longer one begins another", sized(100, 101, 101), []int{1, 2}},
		{"nothing to carry", sized(100, 0, 100), []int{1, 1, 1}},
		{"a gap", changed(1, func(in *inner) { in.sequence++ }), []int{1, 1, 1}},
		{"PSH ends it", changed(1, func(in *inner) { in.flags |= 8 }), []int{2, 1}},
		{"FIN", changed(1, func(in *inner) { in.flags |= 1 }), []int{1, 1, 1}},
		{"SYN", changed(1, func(in *inner) { in.flags |= 2 }), []int{1, 1, 1}},
		{"RST", changed(1, func(in *inner) { in.flags |= 4 }), []int{1, 1, 1}},
		{"URG", changed(1, func(in *inner) { in.flags |= 0x20 }), []int{1, 1, 1}},
		{"ECE", changed(1, func(in *inner) { in.flags |= 0x40 }), []int{1, 1, 1}},
		{"CWR", changed(1, func(in *inner) { in.flags |= 0x80 }), []int{1, 1, 1}},
		{"AE", changed(1, func(in *inner) { in.ae = 1 }), []int{1, 1, 1}},
		{"ECE in all", all(func(in *inner) { in.flags |= 0x40 }), []int{3}},
		{"AE and ECE in all", all(func(in *inner) { in.flags, in.ae = in.flags|0x40, 1 }), []int{3}},
		{"CWR in all", all(func(in *inner) { in.flags |= 0x80 }), []int{1, 1, 1}},
		{"no ACK", changed(1, func(in *inner) { in.flags = 0 }), []int{1, 1, 1}},
		{"another acknowledgement", changed(2, func(in *inner) { in.ack++ }), []int{2, 1}},
		{"another window", changed(2, func(in *inner) { in.window++ }), []int{2, 1}},
		{"another option", changed(2, func(in *inner) { in.options = []byte{1, 1, 1, 0} }), []int{2, 1}},
		{"more options", changed(2, func(in *inner) { in.options = append(in.options, in.options...) }), []int{2, 1}},
		{"congestion was experienced", changed(1, func(in *inner) { in.tos = 3 }), []int{1, 1, 1}},
		{"another way", changed(2, func(in *inner) { in.ttl-- }), []int{2, 1}},
		{"may be fragmented", changed(2, func(in *inner) { in.df = false }), []int{2, 1}},
		{"another connection", changed(1, func(in *inner) { in.port++ }), []int{1, 1, 1}},
		{"as many as may be", sized(slices.Repeat([]int{10}, 70)...), []int{64, 6}},
		{"as large as may be", sized(slices.Repeat([]int{3000}, 25)...), []int{21, 4}},
	} {
		for _, ipv6 := range []bool{false, true} {
			if ipv6 && tt.name == "may be fragmented" {
				continue // IPv6 never is
			}
			var packets, back [][]byte
			for _, in := range tt.packets {
				in.ipv6 = ipv6
				packets = append(packets, in.packet())
			}
			var counts []int
			for _, whole := range coalesced(t, packets, true) {
				got, err := splitAll(t, new(splitter), whole)
				if err != nil {
					t.Fatalf("%s: %v", tt.name, err)
				}
				counts, back = append(counts, len(got)), append(back, got...)
			}
			slices.SortFunc(back, bytes.Compare)
			slices.SortFunc(packets, bytes.Compare)
			slices.Sort(counts)
			want := slices.Sorted(slices.Values(tt.want))
			if !slices.Equal(counts, want) {
				t.Errorf("%s, IPv6 %v: %v segments, want %v", tt.name, ipv6, counts, want)
			}
			wantPackets(t, tt.name, back, packets)
		}
	}
}

// TestCoalesceIdentification: packets that may be fragmented keep their numbers.
func TestCoalesceIdentification(t *testing.T) {
	in := inner{id: 7, ttl: 64, flags: 0x10, payload: random(50)}
	next := in
	next.sequence += 50
	for id, want := range map[uint16]int{8: 1, 7: 2, 9: 2} {
		next.id = id
		if n := len(coalesced(t, [][]byte{in.packet(), next.packet()}, true)); n != want {
			t.Errorf("%d: %d packets, want %d", id, n, want)
		}
	}
}

// wantBack compares, in any order, what was coalesced, split again, with the packets.
func wantBack(t *testing.T, name string, whole, packets [][]byte) {
	t.Helper()
	var back [][]byte
	for _, p := range whole {
		got, err := splitAll(t, new(splitter), p)
		if err != nil {
			t.Fatal(err)
		}
		back = append(back, got...)
	}
	slices.SortFunc(back, bytes.Compare)
	slices.SortFunc(packets, bytes.Compare)
	wantPackets(t, name, back, packets)
}

// TestCoalesceVerifies: a wrong checksum is never made right.
func TestCoalesceVerifies(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		in := inner{ipv6: ipv6, df: true, ttl: 64, flags: 0x10}
		var good [][]byte
		for range 4 {
			in.payload = random(200)
			good = append(good, in.packet())
			in.sequence += 200
			in.id++
		}
		for i := range good {
			for _, at := range []int{8, 10, 70, 199} { // a hop limit, IPv4's checksum, the payload
				packets := make([][]byte, len(good))
				for j, p := range good {
					packets[j] = bytes.Clone(p)
				}
				packets[i][at] ^= 0x40
				wantBack(t, fmt.Sprintf("IPv6 %v, packet %d, byte %d", ipv6, i, at), coalesced(t, packets, true), packets)
			}
		}
	}
}

// TestCoalesceManyConnections: what is known of a connection is not taken for another's that
// comes in its place.
func TestCoalesceManyConnections(t *testing.T) {
	const each = 3
	var packets [][]byte
	for i := range 3 * maxFlows {
		in := inner{ipv6: i/maxFlows == 1, port: byte(i), df: true, ttl: 64, flags: 0x10}
		for range each {
			in.payload = random(200)
			p := in.packet()
			if i/maxFlows == 2 {
				p = in.datagram()
			}
			packets = append(packets, p)
			in.sequence += 200
			in.id++
		}
	}
	whole := coalesced(t, packets, true)
	if len(whole) != len(packets)/each {
		t.Errorf("%d packets became %d", len(packets), len(whole))
	}
	wantBack(t, "all", whole, packets)
}

// TestHeaderSum: it is what the library says of the same bytes.
func TestHeaderSum(t *testing.T) {
	for _, h := range [][]byte{
		bytes.Repeat([]byte{0xff}, ipv4HeaderLen), append(bytes.Repeat([]byte{0xff}, 18), 0, 1), make([]byte, ipv4HeaderLen),
	} {
		if got, want := headerSum((*[ipv4HeaderLen]byte)(h)), checksum.Checksum(h, 0); got != want {
			t.Errorf("%x: %#04x, want %#04x", h, got, want)
		}
	}
	for range 10_000 {
		h := random(ipv4HeaderLen)
		if got, want := headerSum((*[ipv4HeaderLen]byte)(h)), checksum.Checksum(h, 0); got != want {
			t.Fatalf("%x: %#04x, want %#04x", h, got, want)
		}
	}
}

// flowsOf makes a mixture of packets out of any bytes: of a few connections, mostly in
// order, some with something special.
func flowsOf(data []byte) (packets [][]byte) {
	var flows [12]inner
	for i := range flows {
		flows[i] = inner{ipv6: i%3 == 0, port: byte(i), df: i%2 == 0, ttl: 64, flags: 0x10}
	}
	for len(data) >= 4 {
		in := &flows[int(data[0])%len(flows)]
		what, size, salt := data[1], int(data[2])*5, data[3]
		data = data[4:]
		in.flags, in.ae = 0x10, 0
		switch what % 16 {
		case 0:
			in.flags = salt
		case 1:
			in.sequence += uint32(salt)
		case 2:
			in.ack++
		case 3:
			in.flags |= 8
		case 4:
			in.options = make([]byte, salt%11*4)
		case 5:
			in.id += uint16(salt)
		case 6:
			in.flags, in.ae = in.flags|salt&0x40, salt&1
		case 7:
			in.window = salt
		}
		in.payload = bytes.Repeat([]byte{salt}, size)
		p := in.packet()
		if in.port > 8 {
			p = in.datagram()
		}
		switch what {
		case 0xf5: // a first fragment
			p[6] |= 0x20
			if !in.ipv6 {
				clear(p[10:12])
				binary.BigEndian.PutUint16(p[10:], ^fold(p[:20]))
			}
		case 0xf6: // without a checksum
			if n := len(p) - size; in.port > 8 {
				clear(p[n-2 : n])
			}
		case 0xf7:
			p = in.datagram()
		case 0xf8:
			p[int(salt)%len(p)] ^= 1 << (size % 8)
		case 0xf9:
			p = p[:int(salt)%len(p)]
		}
		packets = append(packets, p)
		in.sequence += uint32(size)
		in.id++
	}
	return packets
}

// connection is what must keep its order: protocol, addresses and ports, as far as a
// packet has them.
func connection(p []byte) string {
	if len(p) >= 44 && p[0]>>4 == 6 {
		return string(p[6:7]) + string(p[8:44])
	}
	if len(p) >= 24 && p[0] == 0x45 {
		return string(p[9:10]) + string(p[12:24])
	}
	return "other"
}

// FuzzCoalesce: what is written stands for the packets that were given, each connection
// in its order. IPv4 identifications of packets that are never fragmented count for
// nothing (RFC 6864 §4.1), nor do the two forms of zero in a checksum.
func FuzzCoalesce(f *testing.F) {
	f.Add(bytes.Repeat([]byte{1, 9, 100, 7}, 70))
	f.Add(seeded(800))
	f.Add(bytes.Repeat([]byte{9, 9, 20, 7, 10, 9, 100, 7}, 70))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4000 {
			return
		}
		packets := slices.DeleteFunc(flowsOf(data), func(p []byte) bool { return len(p) == 0 })
		given := make([][]byte, len(packets))
		for i, p := range packets {
			given[i] = bytes.Clone(p)
		}
		want := make(map[string][][]byte)
		for _, p := range given {
			want[connection(p)] = append(want[connection(p)], plain(p))
		}
		for _, udp := range []bool{true, false} {
			got := make(map[string][][]byte)
			for _, whole := range coalesced(t, packets, udp) {
				back, err := splitAll(t, new(splitter), whole)
				if err != nil {
					t.Fatalf("%x: %v", whole, err)
				}
				for _, p := range back {
					got[connection(p)] = append(got[connection(p)], plain(p))
				}
			}
			for name, w := range want {
				wantPackets(t, fmt.Sprintf("UDP %v, %x", udp, name), got[name], w)
			}
			if len(got) != len(want) {
				t.Errorf("%d connections, want %d", len(got), len(want))
			}
		}
		for i := range packets {
			if !bytes.Equal(packets[i], given[i]) {
				t.Fatalf("packet %d was changed", i)
			}
		}
	})
}

// plain is a packet without what the fuzzer lets differ.
func plain(p []byte) []byte {
	p = bytes.Clone(p)
	if len(p) >= 40 && p[0] == 0x45 && p[6]&0x40 != 0 && (p[9] == 6 || p[9] == 17) && ^fold(p[:20]) == 0 {
		clear(p[4:6])
		clear(p[10:12])
	}
	return p
}

// TestOffloadAllocations: none per packet, neither way.
func TestOffloadAllocations(t *testing.T) {
	in := inner{df: true, ttl: 64, flags: 0x10, payload: random(14_000)}
	whole := append(in.super(offloadTCP4, 1000), make([]byte, Tailroom)...)
	buf, s, packets := make([]byte, len(whole)), new(splitter), in.segments(offloadTCP4, 1000)
	count := 0
	take := func([]byte) { count++ }
	if n := testing.AllocsPerRun(100, func() {
		copy(buf, whole)
		if err := s.split(buf, len(whole)-Tailroom, take); err != nil {
			t.Fatal(err)
		}
	}); n != 0 || count == 0 {
		t.Errorf("splitting allocates %v times", n)
	}
	c := &coalescer{udp: true, write: func([][]byte) error { return nil }}
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range packets {
			c.add(p)
		}
		c.flush()
	}); n != 0 {
		t.Errorf("coalescing allocates %v times", n)
	}
}

func BenchmarkSplit(b *testing.B) {
	in := inner{df: true, ttl: 64, flags: 0x10, payload: random(64_000)}
	whole := append(in.super(offloadTCP4, 1360), make([]byte, Tailroom)...)
	s, take := new(splitter), func([]byte) {}
	b.SetBytes(int64(len(whole)))
	for b.Loop() {
		// Headers are written over payload; the first is as it was.
		if err := s.split(whole, len(whole)-Tailroom, take); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCoalesce(b *testing.B) {
	in := inner{df: true, ttl: 64, flags: 0x10, payload: random(61_200)}
	packets := in.segments(offloadTCP4, 1360)
	c := &coalescer{udp: true, write: func([][]byte) error { return nil }}
	b.SetBytes(int64(len(in.payload)))
	for b.Loop() {
		for _, p := range packets {
			c.add(p)
		}
		c.flush()
	}
}
