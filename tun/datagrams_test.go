package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"syscall"
	"testing"
)

// datagramsOf makes packets of one UDP connection, with payloads of these sizes.
func datagramsOf(ipv6 bool, sizes ...int) (all []inner) {
	in := inner{ipv6: ipv6, id: 5, df: true, tos: 1, ttl: 60}
	for _, n := range sizes {
		in.payload = random(n)
		all = append(all, in)
		in.id++
	}
	return all
}

// shift changes a number in a packet, and the checksum so that it stays right.
func shift(p []byte, at, by, sum int) {
	binary.BigEndian.PutUint16(p[at:], uint16(int(binary.BigEndian.Uint16(p[at:]))+by))
	changed := int(binary.BigEndian.Uint16(p[sum:])) - by
	binary.BigEndian.PutUint16(p[sum:], uint16((changed+0xfffe)%0xffff+1))
}

// TestCoalesceSamePorts: a connection of TCP and one of UDP are not one.
func TestCoalesceSamePorts(t *testing.T) {
	tcp := inner{df: true, ttl: 60, flags: 0x10, payload: random(50)}
	udp := datagramsOf(false, 50, 50)
	next := tcp
	next.sequence += 50
	var packets [][]byte
	for i, in := range []inner{tcp, next} {
		datagram := udp[i].datagram()
		shift(datagram, 22, 80-53, 26)
		packets = append(packets, in.packet(), datagram)
	}
	if n := len(coalesced(t, packets, true)); n != 2 {
		t.Errorf("%d packets, want 2", n)
	}
}

// TestCoalesceDatagrams: which datagrams are put together, by how many. What the host makes
// of it are the datagrams.
func TestCoalesceDatagrams(t *testing.T) {
	type change func(in *inner)
	for _, tt := range []struct {
		name   string
		sizes  []int
		change change       // of the second
		spoil  func([]byte) // the second, as a packet
		want   []int
	}{
		{"one", []int{100}, nil, nil, []int{1}},
		{"a run", []int{100, 100, 100}, nil, nil, []int{3}},
		{"of one byte", []int{1, 1}, nil, nil, []int{2}},
		{"a shorter one ends it", []int{100, 60, 60, 100}, nil, nil, []int{1, 1, 2}},
		{"a longer one begins another", []int{100, 101, 101}, nil, nil, []int{1, 2}},
		{"nothing to carry", []int{100, 0, 100}, nil, nil, []int{1, 1, 1}},
		{"as many as may be", slices.Repeat([]int{10}, 70), nil, nil, []int{6, 64}},
		{"as large as may be", slices.Repeat([]int{3000}, 25), nil, nil, []int{4, 21}},
		{"congestion was experienced", []int{9, 9, 9}, func(in *inner) { in.tos = 3 }, nil, []int{1, 1, 1}},
		{"another way", []int{9, 9, 9}, func(in *inner) { in.ttl-- }, nil, []int{1, 1, 1}},
		{"another connection", []int{9, 9, 9}, func(in *inner) { in.port++ }, nil, []int{1, 2}},
		{"a wrong checksum", []int{9, 9, 9}, nil, func(p []byte) { p[len(p)-1] ^= 1 }, []int{1, 1, 1}},
		{"no checksum", []int{9, 9, 9}, nil, func(p []byte) { clear(p[len(p)-11 : len(p)-9]) }, []int{1, 1, 1}},
		{"a length that is not its own", []int{9, 9, 9}, nil, func(p []byte) { shift(p, len(p)-13, -1, len(p)-11) }, []int{1, 1, 1}},
	} {
		for _, ipv6 := range []bool{false, true} {
			var packets, back [][]byte
			for i, in := range datagramsOf(ipv6, tt.sizes...) {
				if i == 1 && tt.change != nil {
					tt.change(&in)
				}
				p := in.datagram()
				if i == 1 && tt.spoil != nil {
					tt.spoil(p)
				}
				packets = append(packets, p)
			}
			var counts []int
			for _, whole := range coalesced(t, packets, true) {
				got, err := splitAll(t, new(splitter), whole)
				if err != nil {
					t.Fatalf("%s: %v", tt.name, err)
				}
				counts, back = append(counts, len(got)), append(back, got...)
			}
			if slices.Sort(counts); !slices.Equal(counts, tt.want) {
				t.Errorf("%s, IPv6 %v: %v datagrams, want %v", tt.name, ipv6, counts, tt.want)
			}
			if tt.name != "another connection" {
				wantPackets(t, tt.name, back, packets)
			}
		}
	}
}

// TestCoalesceFragments: a fragment that comes between datagrams stays between them.
func TestCoalesceFragments(t *testing.T) {
	var packets [][]byte
	for _, in := range datagramsOf(false, 50, 50, 50, 50) {
		packets = append(packets, in.datagram())
	}
	packets[2][6] = 0x20 // more fragments
	clear(packets[2][10:12])
	complete(packets[2][:20], ipv4Checksum, 0)
	written := coalesced(t, packets, true)
	if len(written) != 3 || !bytes.Equal(written[1][offloadLen:], packets[2]) {
		t.Errorf("%d packets", len(written))
	}
}

// TestCoalesceWithoutDatagrams: a host that does not take datagrams together gets each by
// itself, also one that says so only when it is given some.
func TestCoalesceWithoutDatagrams(t *testing.T) {
	var packets [][]byte
	for _, in := range datagramsOf(false, 50, 50, 50) {
		packets = append(packets, in.datagram())
	}
	if written := coalesced(t, packets, false); len(written) != 3 {
		t.Errorf("%d packets", len(written))
	}
	var written [][]byte
	tries, refuse := 0, func(p []byte) bool { return p[1] == offloadUDP }
	c := &coalescer{udp: true, write: func(parts [][]byte) error {
		whole := bytes.Join(parts, nil)
		if tries++; refuse(whole) {
			return syscall.EINVAL
		}
		written = append(written, whole[offloadLen:])
		return nil
	}}
	add := func() error {
		written, tries = nil, 0
		for _, p := range packets {
			c.add(p)
		}
		return c.flush()
	}
	for round, want := range []int{4, 3} {
		if err := add(); err != nil || tries != want {
			t.Errorf("round %d: %v, %d tries", round, err, tries)
		}
		wantPackets(t, "separate", written, packets)
	}
	// A host that takes nothing, as an interface that is down, says nothing about this.
	c.udp, refuse = true, func([]byte) bool { return true }
	if err := add(); !errors.Is(err, syscall.EINVAL) || !c.udp {
		t.Errorf("nothing is taken: %v, %v", err, c.udp)
	}
	refuse = func([]byte) bool { return false }
	if err := add(); err != nil || tries != 1 {
		t.Errorf("all is taken: %v, %d tries", err, tries)
	}
}

// TestCoalesceRefusedKeepsOrder: when a host turns out not to take datagrams together,
// those that wait leave before others of their connections, and so does the one for which
// another connection gave way.
func TestCoalesceRefusedKeepsOrder(t *testing.T) {
	for name, tt := range map[string]struct {
		ports []byte
		sizes []int
	}{
		"what does not follow": {[]byte{0, 1, 0, 0, 0, 1}, []int{50, 50, 50, 60, 60, 50}},
		"too many connections": {[]byte{0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 1}, slices.Repeat([]int{50}, 13)},
	} {
		want, written := make(map[byte][][]byte), make(map[byte][][]byte)
		c := &coalescer{udp: true, write: func(parts [][]byte) error {
			whole := bytes.Join(parts, nil)
			if whole[1] == offloadUDP {
				return syscall.EINVAL
			}
			p := whole[offloadLen:]
			written[p[ipv4HeaderLen+1]] = append(written[p[ipv4HeaderLen+1]], p)
			return nil
		}}
		for i, in := range datagramsOf(false, tt.sizes...) {
			in.port = tt.ports[i]
			p := in.datagram()
			want[in.port] = append(want[in.port], p)
			c.add(p)
		}
		if err := c.flush(); err != nil || c.udp {
			t.Errorf("%s: %v, UDP %v", name, err, c.udp)
		}
		for port, packets := range want {
			wantPackets(t, name, written[port], packets)
		}
	}
}

// TestCoalesceRefused: what a host has no memory for together goes one by one, and nothing
// follows from it.
func TestCoalesceRefused(t *testing.T) {
	in := inner{df: true, ttl: 64, flags: 0x10, payload: random(50)}
	var segments, datagrams [][]byte
	for range 3 {
		segments, datagrams = append(segments, in.packet()), append(datagrams, in.datagram())
		in.sequence += 50
	}
	for _, packets := range [][][]byte{segments, datagrams} {
		var written [][]byte
		c := &coalescer{udp: true, write: func(parts [][]byte) error {
			whole := bytes.Join(parts, nil)
			if whole[1] != 0 {
				return syscall.ENOMEM
			}
			written = append(written, whole[offloadLen:])
			return nil
		}}
		for _, p := range packets {
			c.add(p)
		}
		if err := c.flush(); err != nil || !c.udp {
			t.Errorf("%v, UDP %v", err, c.udp)
		}
		wantPackets(t, "separate", written, packets)
	}
}
