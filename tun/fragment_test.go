package tun

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// udpPacket builds an IPv4 packet of UDP with correct checksums. Options are those of
// IP, in hexadecimal, a multiple of four bytes.
func udpPacket(t testing.TB, flags, id uint16, options string, payload int) []byte {
	t.Helper()
	opts, err := hex.DecodeString(options)
	if err != nil {
		t.Fatal(err)
	}
	udp := make([]byte, 8+payload)
	binary.BigEndian.PutUint16(udp, 4242)
	binary.BigEndian.PutUint16(udp[2:], 53)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	for i := range payload {
		udp[8+i] = byte(i*7 + i>>8)
	}
	addrs := slices.Concat(near4.AsSlice(), far4.AsSlice())
	pseudo := slices.Concat(addrs, []byte{0, 17}, binary.BigEndian.AppendUint16(nil, uint16(len(udp))))
	binary.BigEndian.PutUint16(udp[6:], ^fold(slices.Concat(pseudo, udp)))
	head := []byte{0x45 + byte(len(opts)/4), 0x10, 0, 0, 0, 0, 0, 0, 61, 17, 0, 0}
	binary.BigEndian.PutUint16(head[2:], uint16(20+len(opts)+len(udp)))
	binary.BigEndian.PutUint16(head[4:], id)
	binary.BigEndian.PutUint16(head[6:], flags)
	head = slices.Concat(head, addrs, opts)
	binary.BigEndian.PutUint16(head[10:], ^fold(head))
	return append(head, udp...)
}

// cut collects the fragments of a packet.
func cut(t testing.TB, f *Fragmenter, packet []byte, mtu int) [][]byte {
	t.Helper()
	rest, ok := f.Cut(packet, mtu)
	if !ok {
		return nil
	}
	var all [][]byte
	for {
		dst := bytes.Repeat([]byte{0xaa}, mtu)
		n := rest.Next(dst)
		if n == 0 {
			return all
		}
		all = append(all, dst[:n])
	}
}

// reassemble puts fragments together as a receiver does (RFC 791 §3.2), and checks of
// each what a router would.
func reassemble(t testing.TB, fragments [][]byte, mtu int) []byte {
	t.Helper()
	var whole []byte
	end := 0
	first := fragments[0]
	start := int(binary.BigEndian.Uint16(first[6:])&0x1fff) * 8
	for i, p := range fragments {
		header := int(p[0]&15) * 4
		flags := binary.BigEndian.Uint16(p[6:])
		at, more := int(flags&0x1fff)*8, flags&0x2000 != 0
		switch {
		case len(p) > mtu || int(binary.BigEndian.Uint16(p[2:])) != len(p):
			t.Fatalf("fragment %d: %d bytes, %x", i, len(p), p[:header])
		case fold(p[:header]) != 0xffff:
			t.Fatalf("fragment %d: header checksum of %x", i, p[:header])
		case at != start+end || more && (len(p)-header)%8 != 0 || len(p) == header:
			t.Fatalf("fragment %d: %d bytes at %d, more: %v; %d expected", i, len(p)-header, at, more, start+end)
		case !more && i != len(fragments)-1:
			t.Fatalf("fragment %d of %d says that it is the last", i, len(fragments))
		case p[1] != first[1] || !bytes.Equal(p[4:6], first[4:6]) || flags&0xc000 != 0 || !bytes.Equal(p[8:10], first[8:10]) || !bytes.Equal(p[12:20], first[12:20]):
			t.Fatalf("fragment %d: header %x, the first has %x", i, p[:header], first[:header])
		}
		whole = append(whole, p[header:]...)
		end += len(p) - header
	}
	return whole
}

// TestFragments: sizes around every limit; put together again they are what they were.
func TestFragments(t *testing.T) {
	var f Fragmenter
	for _, mtu := range []int{68, 100, 510, 576, 577, 583, 1218, 1300, 1422} {
		for _, payload := range []int{0, 1, 500, mtu - 29, mtu - 28, mtu - 27, 2*mtu - 28, 8192, 65507} {
			p := udpPacket(t, 0, 77, "", max(payload, 0))
			pieces := cut(t, &f, p, mtu)
			if got := reassemble(t, pieces, mtu); !bytes.Equal(got, p[20:]) {
				t.Fatalf("%d bytes with MTU %d: %d bytes come out", len(p), mtu, len(got))
			}
			each := (mtu - 20) / 8 * 8
			if want := max(1, (len(p)-20+each-1)/each); len(p) > mtu && len(pieces) != want {
				t.Errorf("%d bytes with MTU %d: %d fragments, want %d", len(p), mtu, len(pieces), want)
			}
			if last := binary.BigEndian.Uint16(pieces[len(pieces)-1][6:]); last&0x2000 != 0 {
				t.Errorf("%d bytes with MTU %d: the last fragment promises more", len(p), mtu)
			}
			if id := binary.BigEndian.Uint16(pieces[0][4:]); id != 77 {
				t.Errorf("identification %d", id)
			}
		}
	}
}

// TestFragmentsOfFragments: a router in the middle may cut what was cut before.
func TestFragmentsOfFragments(t *testing.T) {
	var f Fragmenter
	p := udpPacket(t, 0, 5, "", 4000)
	var all [][]byte
	for _, piece := range cut(t, &f, p, 1500) {
		all = append(all, cut(t, &f, piece, 300)...)
	}
	if got := reassemble(t, all, 300); !bytes.Equal(got, p[20:]) {
		t.Errorf("%d of %d bytes", len(got), len(p)-20)
	}
}

// TestFragmentOptions: the fragments after the first have the options with the copied
// flag (RFC 791 §3.1), padded.
func TestFragmentOptions(t *testing.T) {
	for _, tt := range []struct{ name, options, copied string }{
		{"none", "", ""},
		{"record route", "07070400000000" + "00", ""},
		{"router alert", "94040000", "94040000"},
		{"security and stream", "820b0000000000000000008804" + "000100", "820b00000000000000000088040001" + "00"},
		{"no-operation, strict route, timestamp", "01" + "8907040a0a0a0a" + "4408050000000000", "8907040a0a0a0a" + "00"},
		{"no-operation with copied flag is no option", "81030001", "81030000"},
		{"behind the end", "00940400" + "00000000", ""},
		{"length 0", "94000000", ""},
		{"length 1", "94010000", ""},
		{"beyond the header", "01010194", ""},
		{"longer than the header", "94050000", ""},
		{"forty bytes", strings.Repeat("94040000", 10), strings.Repeat("94040000", 10)},
	} {
		var f Fragmenter
		p := udpPacket(t, 0, 9, tt.options, 900)
		pieces := cut(t, &f, p, 300)
		if got := hex.EncodeToString(pieces[0][20 : int(pieces[0][0]&15)*4]); got != tt.options {
			t.Errorf("%s: the first has %s", tt.name, got)
		}
		for _, piece := range pieces[1:] {
			if got := hex.EncodeToString(piece[20 : int(piece[0]&15)*4]); got != tt.copied {
				t.Errorf("%s: a later one has %s, want %s", tt.name, got, tt.copied)
			}
		}
		if got := reassemble(t, pieces, 300); !bytes.Equal(got, p[20+len(tt.options)/2:]) {
			t.Errorf("%s: %d bytes come out", tt.name, len(got))
		}
	}
}

// TestFragmentIdentification: what had none gets one that differs from packet to
// packet; what is a fragment keeps its own, even 0.
func TestFragmentIdentification(t *testing.T) {
	f := Fragmenter{id: 0xfffd}
	p := udpPacket(t, 0, 0, "", 900)
	var ids []uint16
	for range 4 {
		pieces := cut(t, &f, p, 300)
		reassemble(t, pieces, 300) // the same in all of them
		ids = append(ids, binary.BigEndian.Uint16(pieces[0][4:]))
	}
	if want := []uint16{0xfffe, 0xffff, 1, 2}; !slices.Equal(ids, want) {
		t.Errorf("identifications %x, want %x", ids, want)
	}
	for _, flags := range []uint16{0x2000, 3, 0x2003} {
		pieces := cut(t, &f, udpPacket(t, flags, 0, "", 904), 300)
		if id := binary.BigEndian.Uint16(pieces[0][4:]); id != 0 {
			t.Errorf("flags %04x: identification %d", flags, id)
		}
		if last := binary.BigEndian.Uint16(pieces[len(pieces)-1][6:]); last&0x2000 != flags&0x2000 {
			t.Errorf("flags %04x: the last fragment has %04x", flags, last)
		}
	}
}

// TestFragmentRefuses: what must not or cannot be cut.
func TestFragmentRefuses(t *testing.T) {
	edit := func(at int, v ...byte) []byte {
		p := udpPacket(t, 0, 1, "", 900)
		copy(p[at:], v)
		return p
	}
	for name, p := range map[string][]byte{
		"empty":                        {},
		"don't fragment":               edit(6, 0x40),
		"IPv6":                         edit(0, 0x65),
		"header too short":             edit(0, 0x44),
		"header beyond the packet":     edit(0, 0x4f)[:50],
		"longer than it is":            edit(2, 0xff, 0xff),
		"shorter than its header":      edit(2, 0, 19),
		"cut off":                      edit(0)[:19],
		"beyond 65535":                 edit(6, 0x1f, 0xff),
		"in the middle, and no 8-fold": edit(6, 0x20, 0, 0)[:len(edit(0))],
	} {
		if name == "in the middle, and no 8-fold" {
			binary.BigEndian.PutUint16(p[2:], uint16(len(p)-1))
		}
		var f Fragmenter
		if _, ok := f.Cut(p, 300); ok {
			t.Errorf("%s: is cut", name)
		}
	}
}

func TestFits(t *testing.T) {
	for _, tt := range []struct {
		version byte
		size    int
		mtu     int
		want    bool
	}{
		{4, 0, 510, true},
		{4, 510, 510, true},
		{4, 511, 510, false},
		{4, 1280, 510, false},
		{6, 1280, 510, true},
		{6, 1281, 510, false},
		{6, 1422, 1422, true},
		{6, 1423, 1422, false},
	} {
		p := make([]byte, tt.size)
		if len(p) > 0 {
			p[0] = tt.version << 4
		}
		if got := Fits(p, tt.mtu); got != tt.want {
			t.Errorf("IPv%d, %d bytes, MTU %d: %v", tt.version, tt.size, tt.mtu, got)
		}
	}
}

// TestStackReassembles: a TCP/IP stack takes the fragments of a large datagram in any
// order.
func TestStackReassembles(t *testing.T) {
	far := newStack(t, StackConfig{Addresses: []netip.Addr{far4}})
	conn := listenUDP(t, far, far4, 53)
	var f Fragmenter
	for _, id := range []uint16{0, 0, 4711} {
		p := udpPacket(t, 0, id, "", 8192)
		pieces := cut(t, &f, p, 510)
		rand.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		if err := far.Write(pieces); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10000)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _, err := conn.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:n], p[28:]) {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
}

// FuzzFragments: no packet panics, nothing longer than the MTU comes out, and what is
// cut is the same when it is put together.
func FuzzFragments(f *testing.F) {
	f.Add(udpPacket(f, 0, 0, "", 900), uint16(100))
	f.Add(udpPacket(f, 0x2000, 7, "94040000"+"01010101", 1200), uint16(0))
	f.Fuzz(func(t *testing.T, packet []byte, mtu uint16) {
		size := 68 + int(mtu)%2000
		before := bytes.Clone(packet)
		var fr Fragmenter
		pieces := cut(t, &fr, packet, size)
		if !bytes.Equal(packet, before) {
			t.Fatal("the packet has changed")
		}
		if len(pieces) == 0 {
			return
		}
		header, total := int(packet[0]&15)*4, int(binary.BigEndian.Uint16(packet[2:]))
		if got := reassemble(t, clean(pieces), size); !bytes.Equal(got, packet[header:total]) {
			t.Fatalf("%d of %d bytes", len(got), total-header)
		}
		answer := make([]byte, TooBigSize)
		if n := TooBig(answer, packet, size); n > TooBigSize {
			t.Fatalf("an answer of %d bytes", n)
		}
	})
}

// clean takes away the reserved flag, which is kept as it was.
func clean(pieces [][]byte) [][]byte {
	for _, p := range pieces {
		if p[6]&0x80 != 0 {
			p[6] &^= 0x80
			header := p[:int(p[0]&15)*4]
			copy(header[10:], []byte{0, 0})
			binary.BigEndian.PutUint16(header[10:], ^fold(header))
		}
	}
	return pieces
}

// TestFragmentsAllocateNothing: not even packets that are cut.
func TestFragmentsAllocateNothing(t *testing.T) {
	p, dst, answer := udpPacket(t, 0, 0, "", 8192), make([]byte, 1300), make([]byte, TooBigSize)
	var f Fragmenter
	if n := testing.AllocsPerRun(100, func() {
		rest, _ := f.Cut(p, 1300)
		for rest.Next(dst) > 0 {
			if !Fits(dst, 1300) {
				t.Error("does not fit")
			}
		}
		TooBig(answer, p, 1300)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkFragments compares, in one run, the look at a packet that fits with cutting
// one that does not: the metric is how many times as long that takes.
func BenchmarkFragments(b *testing.B) {
	small, large, dst := udpPacket(b, 0, 0, "", 1200), udpPacket(b, 0, 0, "", 8192), make([]byte, 1300)
	var f Fragmenter
	measure := func(work func()) time.Duration {
		began := time.Now()
		for range b.N {
			work()
		}
		return time.Since(began)
	}
	b.ReportAllocs()
	fits := measure(func() {
		if !Fits(small, 1300) {
			b.Error("does not fit")
		}
	})
	cuts := measure(func() {
		rest, _ := f.Cut(large, 1300)
		for rest.Next(dst) > 0 {
		}
	})
	b.ReportMetric(float64(cuts)/float64(max(fits, 1)), "cut/fit")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(fits.Nanoseconds())/float64(b.N), "ns/fit")
	b.ReportMetric(float64(cuts.Nanoseconds())/float64(b.N), "ns/8KB-cut")
}
