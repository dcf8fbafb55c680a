package tun

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
)

// tcpPacket builds a packet with a correct checksum. Options are padded with zeros;
// between are IPv6 extension headers, the first of which is of type first.
func tcpPacket(t testing.TB, ipv6 bool, flags byte, options string, first byte, between ...byte) []byte {
	t.Helper()
	opts, err := hex.DecodeString(options)
	if err != nil {
		t.Fatal(err)
	}
	for len(opts)%4 != 0 {
		opts = append(opts, 0)
	}
	tcp := []byte{0x30, 0x39, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, byte((20 + len(opts)) / 4 << 4), flags, 0xff, 0xff, 0, 0, 0, 0}
	tcp = append(append(tcp, opts...), "payload"...)
	src, dst := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.168.1.1")
	if ipv6 {
		src, dst = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("2001:db8::2")
	}
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, 6}, binary.BigEndian.AppendUint16(nil, uint16(len(tcp))))
	binary.BigEndian.PutUint16(tcp[16:], ^fold(slices.Concat(pseudo, tcp)))
	if ipv6 {
		if len(between) == 0 {
			first = 6
		}
		head := []byte{0x60, 0, 0, 0, 0, 0, first, 64}
		binary.BigEndian.PutUint16(head[4:], uint16(len(between)+len(tcp)))
		return slices.Concat(head, src.AsSlice(), dst.AsSlice(), between, tcp)
	}
	head := []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0}
	binary.BigEndian.PutUint16(head[2:], uint16(20+len(tcp)))
	return slices.Concat(head, src.AsSlice(), dst.AsSlice(), tcp)
}

// fold is the ones' complement sum of b (RFC 1071).
func fold(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestClampMSS(t *testing.T) {
	const syn, synAck, ack, rst = 0x02, 0x12, 0x10, 0x04
	edit := func(p []byte, at int, v ...byte) []byte {
		copy(p[at:], v)
		return p
	}
	const mss1460, mss1260, mss1240 = "020405b4", "020404ec", "020404d8"
	hopByHop := []byte{6, 0, 1, 4, 0, 0, 0, 0}
	routingThenOpts := []byte{60, 0, 0, 0, 0, 0, 0, 0, 6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	fragment := []byte{6, 0, 0, 1, 0, 0, 0, 7}
	for _, tt := range []struct {
		name   string
		packet []byte
		want   string // the new option, or empty for "as it was"
	}{
		{"SYN", tcpPacket(t, false, syn, mss1460, 0), mss1260},
		{"SYN-ACK", tcpPacket(t, false, synAck, mss1460, 0), mss1260},
		{"SYN with ECN", tcpPacket(t, false, 0xc2, mss1460, 0), mss1260},
		{"behind other options", tcpPacket(t, false, syn, "01010402"+mss1460, 0), mss1260},
		{"at an odd offset", tcpPacket(t, false, syn, "01"+mss1460, 0), mss1260},
		{"largest", tcpPacket(t, false, syn, "0204ffff", 0), mss1260},
		{"largest at an odd offset", tcpPacket(t, false, syn, "010101"+"0204ffff", 0), mss1260},
		{"equal", tcpPacket(t, false, syn, mss1260, 0), ""},
		{"lower", tcpPacket(t, false, syn, "02040218", 0), ""},
		{"not a SYN", tcpPacket(t, false, ack, mss1460, 0), ""},
		{"reset", tcpPacket(t, false, rst, mss1460, 0), ""},
		{"no option", tcpPacket(t, false, syn, "", 0), ""},
		{"after the end of options", tcpPacket(t, false, syn, "00000000"+mss1460, 0), ""},
		{"option with a wrong length", tcpPacket(t, false, syn, "020305b4", 0), ""},
		{"option of length 0", tcpPacket(t, false, syn, "0300"+mss1460, 0), ""},
		{"option beyond the header", tcpPacket(t, false, syn, "0101010101010204", 0), ""},
		{"kind without a length", tcpPacket(t, false, syn, "01010103", 0), ""},
		{"first fragment", edit(tcpPacket(t, false, syn, mss1460, 0), 6, 0x20, 0), ""},
		{"later fragment", edit(tcpPacket(t, false, syn, mss1460, 0), 6, 0, 3), ""},
		{"UDP", edit(tcpPacket(t, false, syn, mss1460, 0), 9, 17), ""},
		{"data offset too small", edit(tcpPacket(t, false, syn, mss1460, 0), 32, 0x40), ""},
		{"data offset too large", edit(tcpPacket(t, false, syn, mss1460, 0), 32, 0xf0), ""},
		{"header length too small", edit(tcpPacket(t, false, syn, mss1460, 0), 0, 0x44), ""},
		{"total length too large", edit(tcpPacket(t, false, syn, mss1460, 0), 2, 0xff), ""},
		{"total length too small", edit(tcpPacket(t, false, syn, mss1460, 0), 2, 0, 19), ""},
		{"version 5", edit(tcpPacket(t, false, syn, mss1460, 0), 0, 0x55), ""},
		{"empty", nil, ""},

		{"IPv6 SYN", tcpPacket(t, true, syn, mss1460, 0), mss1240},
		{"IPv6 SYN-ACK at an odd offset", tcpPacket(t, true, synAck, "01"+mss1460, 0), mss1240},
		{"IPv6 hop-by-hop", tcpPacket(t, true, syn, mss1460, 0, hopByHop...), mss1240},
		{"IPv6 routing and destination options", tcpPacket(t, true, syn, mss1460, 43, routingThenOpts...), mss1240},
		{"IPv6 fragment", tcpPacket(t, true, syn, mss1460, 44, fragment...), ""},
		{"IPv6 lower", tcpPacket(t, true, syn, "02040218", 0), ""},
		{"IPv6 payload length too large", edit(tcpPacket(t, true, syn, mss1460, 0), 4, 0xff), ""},
		{"IPv6 extension header too long", edit(tcpPacket(t, true, syn, mss1460, 0, hopByHop...), 41, 0xff), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.packet)
			mss4, mss6 := MSS(1300)
			if changed := ClampMSS(tt.packet, mss4, mss6); changed != (tt.want != "") {
				t.Fatalf("changed = %v", changed)
			}
			if tt.want == "" {
				if !bytes.Equal(tt.packet, before) {
					t.Fatal("the packet has changed")
				}
				return
			}
			want, _ := hex.DecodeString(tt.want)
			if at := bytes.Index(tt.packet, want); at < 0 {
				t.Fatalf("no option %s in %x", tt.want, tt.packet)
			}
			if !validTCP(tt.packet) {
				t.Error("the checksum is wrong")
			}
		})
	}
}

// validTCP checks the checksum over pseudo header and segment; there are no
// extension headers of other types than in the tests above.
func validTCP(p []byte) bool {
	addrs, tcp := p[12:20], p[20:]
	if p[0]>>4 == 6 {
		next := p[6]
		addrs, tcp = p[8:40], p[40:]
		for next != 6 {
			next, tcp = tcp[0], tcp[8+int(tcp[1])*8:]
		}
	}
	length := binary.BigEndian.AppendUint16(nil, uint16(len(tcp)))
	return fold(slices.Concat(addrs, []byte{0, 6}, length, tcp)) == 0xffff
}

// TestClampMSSEveryChecksum walks through all sums, and so all carries of RFC 1624.
func TestClampMSSEveryChecksum(t *testing.T) {
	for _, options := range []string{"020404ed", "020405b4", "0204ffff", "01020404ed", "01020405b4", "010204ffff"} {
		packet := tcpPacket(t, false, 0x02, options, 0)
		for port := range 0x10000 {
			p := slices.Clone(packet)
			binary.BigEndian.PutUint16(p[20:], uint16(port))
			p[36], p[37] = 0, 0
			pseudo := slices.Concat(p[12:20], []byte{0, 6, 0, byte(len(p) - 20)}, p[20:])
			binary.BigEndian.PutUint16(p[36:], ^fold(pseudo))
			if !ClampMSS(p, 1260, 1240) || !validTCP(p) {
				t.Fatalf("%s, port %d: not clamped, or the checksum is wrong", options, port)
			}
		}
	}
}

func TestClampMSSAllocates(t *testing.T) {
	packet := tcpPacket(t, true, 0x02, "020405b4", 0)
	if n := testing.AllocsPerRun(100, func() { ClampMSS(packet, 1260, 1240) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestMSS(t *testing.T) {
	for _, tt := range []struct {
		mtu        int
		mss4, mss6 uint16
	}{{1300, 1260, 1240}, {576, 536, 516}, {65535, 65495, 65475}, {50, 10, 0}, {1 << 20, 0xffff, 0xffff}} {
		if mss4, mss6 := MSS(tt.mtu); mss4 != tt.mss4 || mss6 != tt.mss6 {
			t.Errorf("MSS(%d) = %d, %d", tt.mtu, mss4, mss6)
		}
	}
}

func FuzzClampMSS(f *testing.F) {
	f.Add(tcpPacket(f, false, 0x02, "020405b4", 0), uint16(1260))
	f.Add(tcpPacket(f, false, 0x12, "01020405b4", 0), uint16(1000))
	f.Add(tcpPacket(f, true, 0x02, "020405b4", 0, 6, 0, 1, 4, 0, 0, 0, 0), uint16(1240))
	f.Fuzz(func(t *testing.T, packet []byte, mss uint16) {
		before := slices.Clone(packet)
		changed := ClampMSS(packet, mss, mss)
		if !changed && !bytes.Equal(before, packet) {
			t.Fatal("changed in secret")
		}
		if changed && ClampMSS(packet, mss, mss) {
			t.Fatal("lowered twice")
		}
		different := 0
		for i := range packet {
			if packet[i] != before[i] {
				different++
			}
		}
		if different > 4 {
			t.Fatalf("%d bytes changed", different)
		}
		// The TCP segment begins at an even offset, so the sum of the whole packet
		// must stay what it was: 0 and 0xffff are the same number.
		if was, is := fold(before)%0xffff, fold(packet)%0xffff; was != is {
			t.Fatalf("the sum was %#x and is %#x", was, is)
		}
	})
}
