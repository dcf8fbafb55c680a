package tun

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// ipv6Packet builds an IPv6 packet.
func ipv6Packet(src, dst netip.Addr, next byte, payload []byte) []byte {
	head := []byte{0x60, 0, 0, 0, 0, 0, next, 64}
	binary.BigEndian.PutUint16(head[4:], uint16(len(payload)))
	return slices.Concat(head, src.AsSlice(), dst.AsSlice(), payload)
}

func tooBig(p []byte, mtu int) []byte {
	dst := bytes.Repeat([]byte{0xaa}, TooBigSize)
	return dst[:TooBig(dst, p, mtu)]
}

// TestTooBigIPv4: every byte of the answer (RFC 1191 §4).
func TestTooBigIPv4(t *testing.T) {
	for _, size := range []int{20, 500, 1400} {
		p := udpPacket(t, 0x4000, 0, "", size)
		got := tooBig(p, 1218)
		quote := min(len(p), 548)
		want := slices.Concat([]byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 1, 0, 0}, far4.AsSlice(), near4.AsSlice(), []byte{3, 4, 0, 0, 0, 0, 0x04, 0xc2}, p[:quote])
		binary.BigEndian.PutUint16(want[2:], uint16(len(want)))
		binary.BigEndian.PutUint16(want[10:], ^fold(want[:20]))
		binary.BigEndian.PutUint16(want[22:], ^fold(want[20:]))
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes:\n%x, want\n%x", size, got, want)
		}
	}
}

// TestTooBigIPv6: every byte of the answer (RFC 4443 §3.2), which never names less than
// the least MTU of IPv6.
func TestTooBigIPv6(t *testing.T) {
	for _, size := range []int{21, 1400} {
		for mtu, named := range map[int]uint16{510: 1280, 1280: 1280, 1418: 1418} {
			p := ipv6Packet(near6, far6, 17, bytes.Repeat([]byte{7}, size))
			got := tooBig(p, mtu)
			want := slices.Concat([]byte{0x60, 0, 0, 0, 0, 0, 58, 64}, far6.AsSlice(), near6.AsSlice(), []byte{2, 0, 0, 0, 0, 0, byte(named >> 8), byte(named)}, p[:min(len(p), 1232)])
			binary.BigEndian.PutUint16(want[4:], uint16(len(want)-40))
			pseudo := slices.Concat(want[8:40], []byte{0, 0, want[4], want[5], 0, 0, 0, 58})
			binary.BigEndian.PutUint16(want[42:], ^fold(slices.Concat(pseudo, want[40:])))
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, MTU %d:\n%x, want\n%x", size, mtu, got, want)
			}
		}
	}
}

// TestTooBigIsSilent: what must not be answered, and what may.
func TestTooBigIsSilent(t *testing.T) {
	v4 := func(at int, v ...byte) []byte {
		p := udpPacket(t, 0x4000, 0, "", 1400)
		copy(p[at:], v)
		return p
	}
	icmp := func(typ ...byte) []byte {
		p := v4(9, 1)
		copy(p[20:], typ)
		return p
	}
	v6 := func(src, dst string, next byte, payload ...byte) []byte {
		return ipv6Packet(netip.MustParseAddr(src), netip.MustParseAddr(dst), next, append(payload, make([]byte, 1400)...))
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"echo request", icmp(8), true},
		{"first fragment", v4(6, 0x60, 0), true},
		{"later fragment", v4(6, 0x40, 1), false},
		{"unreachable", icmp(3, 1), false},
		{"source quench", icmp(4), false},
		{"redirect", icmp(5), false},
		{"time exceeded", icmp(11), false},
		{"parameter problem", icmp(12), false},
		{"ICMP without a type", v4(2, 0, 20, 0, 0, 0x40, 0, 64, 1), false},
		{"to multicast", v4(16, 224, 0, 0, 251), false},
		{"to everybody", v4(16, 255, 255, 255, 255), false},
		{"to loopback", v4(16, 127, 0, 0, 1), false},
		{"from nobody", v4(12, 0, 0, 0, 0), false},
		{"from multicast", v4(12, 224, 0, 0, 1), false},
		{"cut off", v4(0)[:19], false},
		{"no IP", v4(0, 0x55), false},
		{"nothing", nil, false},

		{"IPv6 echo request", v6("fd00::1", "fd00::2", 58, 128), true},
		{"IPv6 fragment", v6("fd00::1", "fd00::2", 44, 17, 0, 0, 8), true},
		{"IPv6 unreachable", v6("fd00::1", "fd00::2", 58, 1), false},
		{"IPv6 error of a new kind", v6("fd00::1", "fd00::2", 58, 127), false},
		{"IPv6 error behind options", v6("fd00::1", "fd00::2", 60, 58, 0, 0, 0, 0, 0, 0, 0, 2), false},
		{"IPv6 without a type", ipv6Packet(near6, far6, 58, nil), false},
		{"IPv6 to multicast", v6("fd00::1", "ff02::1", 17), false},
		{"IPv6 from nobody", v6("::", "fd00::2", 17), false},
		{"IPv6 cut off", v6("fd00::1", "fd00::2", 17)[:39], false},
	} {
		if got := len(tooBig(tt.packet, 1218)) > 0; got != tt.want {
			t.Errorf("%s: answered: %v", tt.name, got)
		}
	}
}
