package ike

import (
	"bytes"
	stdflate "compress/flate"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"

	"wayfarer/ike/esp"
)

const (
	testCPI    = 0x1234
	protoTCP   = 6
	protoInner = esp.NextIPv4
)

var testVIP = netip.MustParseAddr("10.99.0.1")

func testExpander() *expander {
	return newExpander(func(cpi uint16) bool { return cpi == testCPI }, func(a netip.Addr) bool { return a == testVIP })
}

// prose is an inner packet of n bytes that compresses well, noise one that does not.
func prose(n int) []byte {
	const words = "the quick brown fox jumps over the lazy dog, "
	return ipv4(insideHost, testVIP, string(bytes.Repeat([]byte(words), n/len(words)+1)[:n-28]))
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n-28)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return ipv4(insideHost, testVIP, string(b))
}

// ipcompPayload is what another implementation makes of a packet.
func ipcompPayload(next byte, cpi uint16, packet []byte) []byte {
	b := bytes.NewBuffer(binary.BigEndian.AppendUint16([]byte{next, 0}, cpi))
	w, _ := stdflate.NewWriter(b, stdflate.BestCompression)
	w.Write(packet)
	w.Close()
	return b.Bytes()
}

// TestCompress: shorter, or as it was; and another implementation expands it.
func TestCompress(t *testing.T) {
	v6 := prose(400)
	v6[0] = 0x60
	for _, tt := range []struct {
		name   string
		packet []byte
		next   byte // 0: stays as it is
	}{
		{"text", prose(1300), esp.NextIPv4},
		{"IPv6", v6, esp.NextIPv6},
		{"at the threshold", prose(minCompress), esp.NextIPv4},
		{"below the threshold", prose(minCompress - 1), 0},
		{"the largest", prose(maxCompress), esp.NextIPv4},
		{"too large", prose(maxCompress + 1), 0},
		{"noise", noise(1300, 1), 0},
		{"nothing", nil, 0},
	} {
		c := &compressor{cpi: testCPI}
		packet := bytes.Clone(tt.packet)
		n := c.compress(packet)
		if tt.next == 0 {
			if n != 0 || !bytes.Equal(packet, tt.packet) {
				t.Errorf("%s: was compressed to %d bytes, or altered", tt.name, n)
			}
			continue
		}
		if n == 0 || n >= len(packet) {
			t.Errorf("%s: %d of %d bytes", tt.name, n, len(packet))
			continue
		}
		if want := []byte{tt.next, 0, testCPI >> 8, testCPI & 0xff}; !bytes.Equal(packet[:4], want) {
			t.Errorf("%s: header %x, want %x", tt.name, packet[:4], want)
		}
		got, err := io.ReadAll(stdflate.NewReader(bytes.NewReader(packet[4:n])))
		if err != nil || !bytes.Equal(got, tt.packet) {
			t.Errorf("%s: expands to %d bytes, %v", tt.name, len(got), err)
		}
	}
}

// TestCompressNeverLarger: whatever the content, no ESP packet grows by compression.
func TestCompressNeverLarger(t *testing.T) {
	suite := esp.Transform{Cipher: esp.AESGCM16, KeyLen: 16}
	keymat := make([]byte, suite.KeyMaterialLen())
	plain, err := esp.NewOutbound(suite, 1000, keymat, nil)
	if err != nil {
		t.Fatal(err)
	}
	compressing, err := esp.NewOutbound(suite, 1000, keymat, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 28; n < 1500; n += 7 {
		// The first half can be compressed, more or less of it.
		packet := noise(n, byte(n))
		copy(packet[28:28+(n-28)*(n%5)/8], prose(1500)[28:])
		compressing.CompressWith((&compressor{cpi: testCPI}).compress)
		var sizes [2]int
		for i, out := range []*esp.Outbound{plain, compressing} {
			buf := make([]byte, esp.MaxHeadroom+n, esp.MaxHeadroom+n+esp.MaxTailroom)
			copy(buf[esp.MaxHeadroom:], packet)
			sealed, err := out.Seal(buf, esp.MaxHeadroom, n)
			if err != nil {
				t.Fatal(err)
			}
			sizes[i] = len(sealed)
		}
		if sizes[1] > sizes[0] {
			t.Errorf("a packet of %d bytes became one of %d, without compression %d", n, sizes[1], sizes[0])
		}
	}
}

// TestCompressBackOff: traffic that does not shrink is left alone for a growing while.
func TestCompressBackOff(t *testing.T) {
	c := &compressor{cpi: testCPI}
	compressed := func(packet []byte) bool { return c.compress(bytes.Clone(packet)) > 0 }
	for range patientMisses - 1 {
		compressed(noise(500, 2))
	}
	if !compressed(prose(500)) {
		t.Fatal("no more patience too early")
	}
	for range patientMisses {
		compressed(noise(500, 3))
	}
	for _, want := range []int{16, 32, 64, 128, 256, 256} {
		for i := range want {
			if compressed(prose(500)) {
				t.Fatalf("packet %d of %d was tried", i+1, want)
			}
		}
		if compressed(noise(500, 4)) {
			t.Fatal("noise was compressed")
		}
	}
	for range maxSkip {
		compressed(prose(500))
	}
	for range 2 {
		if !compressed(prose(500)) {
			t.Error("compression does not come back")
		}
	}
}

// zlibPacket as zlib's level 6 makes it, with the window of 2^11 bytes that Linux has.
const (
	zlibPacket = "450000d000000000401100000a0a00020a630001000000000000000074686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f672c2074686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f672c2074686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f672c2074686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f672c20"
	zlibStream = "736560b8c000040e820c0c5c5c0c4c5cc90c8c0c50509291aa50589a999cad9054945f9ea790965fa190559a5b50ac905f965aa40092ce49acaa5448c94fd75118248a01"
)

// TestExpand: what is well-formed and fits comes out, nothing else does.
func TestExpand(t *testing.T) {
	golden, _ := hex.DecodeString(zlibPacket)
	stream, _ := hex.DecodeString(zlibStream)
	packet := prose(1300)
	payload := ipcompPayload(protoInner, testCPI, packet)
	header := func(change func([]byte)) []byte {
		p := bytes.Clone(payload)
		change(p)
		return p
	}
	v6 := prose(400)
	v6[0] = 0x60
	for _, tt := range []struct {
		name    string
		payload []byte
		room    int
		want    []byte
		err     error
	}{
		{"whole", payload, 2048, packet, nil},
		{"zlib", append([]byte{4, 0, 0x12, 0x34}, stream...), 2048, golden, nil},
		{"IPv6", ipcompPayload(esp.NextIPv6, testCPI, v6), 2048, v6, nil},
		{"just fits", payload, 1300, packet, nil},
		{"does not fit", payload, 1299, nil, esp.ErrRoom},
		{"flags are ignored", header(func(p []byte) { p[1] = 0xff }), 2048, packet, nil},
		{"more behind the end", append(bytes.Clone(payload), 1, 2, 3), 2048, packet, nil},
		{"nothing", nil, 2048, nil, esp.ErrMalformed},
		{"half a header", payload[:3], 2048, nil, esp.ErrMalformed},
		{"header only", payload[:4], 2048, nil, esp.ErrMalformed},
		{"wrong CPI", header(func(p []byte) { p[3]++ }), 2048, nil, esp.ErrMalformed},
		{"the CPI that needs no negotiation", header(func(p []byte) { p[2], p[3] = 0, cpiDeflate }), 2048, nil, esp.ErrMalformed},
		{"compressed twice", ipcompPayload(esp.NextIPComp, testCPI, payload), 2048, nil, esp.ErrMalformed},
		{"part of a packet", header(func(p []byte) { p[0] = protoTCP }), 2048, nil, esp.ErrMalformed},
		{"ESP inside", header(func(p []byte) { p[0] = 50 }), 2048, nil, esp.ErrMalformed},
		{"garbage", append([]byte{4, 0, 0x12, 0x34}, noise(300, 7)...), 2048, nil, esp.ErrMalformed},
		{"reserved kind of block", []byte{4, 0, 0x12, 0x34, 0x07}, 2048, nil, esp.ErrMalformed},
		{"distance before the beginning", []byte{4, 0, 0x12, 0x34, 0x4b, 0x04, 0x12, 0x00}, 2048, nil, esp.ErrMalformed},
		{"bomb", ipcompPayload(protoInner, testCPI, make([]byte, 10<<20)), 1 << 20, nil, esp.ErrRoom},
		{"largest IP packet", ipcompPayload(protoInner, testCPI, make([]byte, maxExpanded)), 1 << 20, make([]byte, maxExpanded), nil},
		{"one byte more", ipcompPayload(protoInner, testCPI, make([]byte, maxExpanded+1)), 1 << 20, nil, esp.ErrRoom},
	} {
		got, next, err := testExpander().expand(make([]byte, tt.room), tt.payload, esp.NextIPComp)
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
			continue
		}
		if err == nil && (!bytes.Equal(got, tt.want) || next != tt.payload[0]) {
			t.Errorf("%s: %d bytes of %d, want %d", tt.name, len(got), next, len(tt.want))
		}
	}
}

// TestExpandTruncated: no beginning of a payload is a payload.
func TestExpandTruncated(t *testing.T) {
	payload := ipcompPayload(protoInner, testCPI, prose(600))
	x := testExpander()
	for n := range payload {
		if _, _, err := x.expand(make([]byte, 2048), payload[:n], esp.NextIPComp); !errors.Is(err, esp.ErrMalformed) {
			t.Errorf("%d of %d bytes: %v", n, len(payload), err)
		}
	}
}

// TestExpandAfresh: a packet never refers to the one before it, and is none the worse
// for a bad one.
func TestExpandAfresh(t *testing.T) {
	first, second := prose(600), prose(700)
	// The second stream is made with the first packet as its history.
	b := bytes.NewBuffer([]byte{protoInner, 0, 0x12, 0x34})
	w, _ := stdflate.NewWriterDict(b, stdflate.BestCompression, first)
	w.Write(second)
	w.Close()
	x := testExpander()
	good := ipcompPayload(protoInner, testCPI, first)
	for i, tt := range []struct {
		payload []byte
		ok      bool
	}{{good, true}, {b.Bytes(), false}, {good, true}, {good[:40], false}, {good, true}, {good[:3], false}, {good, true}} {
		got, _, err := x.expand(make([]byte, 2048), tt.payload, esp.NextIPComp)
		if (err == nil) != tt.ok || tt.ok && !bytes.Equal(got, first) {
			t.Errorf("packet %d: %d bytes, %v", i, len(got), err)
		}
	}
}

// between puts an IP header in front of a payload.
func between(from, to netip.Addr, protocol byte, payload []byte) []byte {
	p := ipv4(from, to, string(payload))
	copy(p[20:], payload)
	p = p[:20+len(payload)]
	p[9] = protocol
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	return p
}

// TestUntunnel: one header between ESP and what it carries is taken off, where it is
// none of the inner packet.
func TestUntunnel(t *testing.T) {
	packet := prose(600)
	payload := ipcompPayload(protoInner, testCPI, packet)
	compressed := between(gatewayAddr, clientAddr, esp.NextIPComp, payload)
	plain := between(gatewayAddr, clientAddr, esp.NextIPv4, packet)
	changed := func(p []byte, change func([]byte)) []byte {
		p = bytes.Clone(p)
		change(p)
		return p
	}
	for _, tt := range []struct {
		name        string
		given, want []byte
	}{
		{"compressed", compressed, packet},
		{"uncompressed", plain, packet},
		{"more behind it", append(bytes.Clone(compressed), make([]byte, 20)...), packet},
		{"inner packet", packet, packet},
		{"a tunnel of the inner hosts", between(insideHost, testVIP, esp.NextIPv4, packet), between(insideHost, testVIP, esp.NextIPv4, packet)},
		{"one level only", between(gatewayAddr, clientAddr, esp.NextIPv4, plain), plain},
		{"compressed two levels down", between(gatewayAddr, clientAddr, esp.NextIPv4, compressed), compressed},
		{"fragment", changed(plain, func(p []byte) { p[6] = 0x20 }), changed(plain, func(p []byte) { p[6] = 0x20 })},
		{"longer than it is", changed(plain, func(p []byte) { p[2] = 0xff }), changed(plain, func(p []byte) { p[2] = 0xff })},
		{"shorter than its header", changed(plain, func(p []byte) { p[2], p[3] = 0, 19 }), changed(plain, func(p []byte) { p[2], p[3] = 0, 19 })},
		{"half a header", plain[:19], plain[:19]},
	} {
		got, next, err := testExpander().expand(make([]byte, 2048), tt.given, esp.NextIPv4)
		if err != nil || next != esp.NextIPv4 || !bytes.Equal(got, tt.want) {
			t.Errorf("%s: %d bytes of %d, %v, want %d bytes", tt.name, len(got), next, err, len(tt.want))
		}
	}
	if _, _, err := testExpander().expand(make([]byte, 599), plain, esp.NextIPv4); !errors.Is(err, esp.ErrRoom) {
		t.Errorf("without room: %v", err)
	}
}

// TestExpandAllocations: none, on errors that flate does not word neither.
func TestExpandAllocations(t *testing.T) {
	x := testExpander()
	dst := make([]byte, 2048)
	for name, payload := range map[string][]byte{
		"text": ipcompPayload(protoInner, testCPI, prose(1300)), "half noise": ipcompPayload(protoInner, testCPI, append(prose(600), noise(600, 9)...)),
		"wrong CPI": ipcompPayload(protoInner, 300, prose(1300)), "bomb": ipcompPayload(protoInner, testCPI, make([]byte, 100_000)),
	} {
		if n := testing.AllocsPerRun(100, func() { x.expand(dst, payload, esp.NextIPComp) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzIPComp: whatever comes from a gateway is refused or is what another
// implementation makes of it, within its bounds; whatever we send comes back as it
// was.
func FuzzIPComp(f *testing.F) {
	packet := prose(600)
	payload := ipcompPayload(protoInner, testCPI, packet)
	f.Add(payload, esp.NextIPComp)
	f.Add(payload[:50], esp.NextIPComp)
	f.Add(packet, esp.NextIPv4)
	f.Add(between(gatewayAddr, clientAddr, esp.NextIPComp, payload), esp.NextIPv4)
	f.Add(ipcompPayload(esp.NextIPComp, testCPI, payload), esp.NextIPComp)
	f.Add(ipcompPayload(protoInner, testCPI, make([]byte, 5000)), esp.NextIPComp)
	x, c := testExpander(), &compressor{cpi: testCPI}
	f.Fuzz(func(t *testing.T, data []byte, next byte) {
		const room = 3000
		dst := bytes.Repeat([]byte{0xa5}, room+1)
		got, inner, err := x.expand(dst[:room:room], data, next)
		if dst[room] != 0xa5 {
			t.Fatal("wrote beyond the room")
		}
		if err == nil && next == esp.NextIPComp {
			want, err := io.ReadAll(io.LimitReader(stdflate.NewReader(bytes.NewReader(data[4:])), room+1))
			if err != nil || !bytes.Equal(got, want) || inner != data[0] {
				t.Fatalf("expanded to %d bytes of %d, want %d, %v", len(got), inner, len(want), err)
			}
		}
		if err == nil && next != esp.NextIPComp && next != esp.NextIPv4 && !bytes.Equal(got, data) {
			t.Fatal("altered what is not compressed")
		}
		c.skip, c.misses = 0, 0
		sent := bytes.Clone(data)
		n := c.compress(sent)
		if n == 0 {
			if !bytes.Equal(sent, data) {
				t.Fatal("altered what it does not compress")
			}
			return
		}
		got, inner, err = x.expand(dst[:room:room], sent[:n], esp.NextIPComp)
		if err != nil || n >= len(data) || !bytes.Equal(got, data) || inner != sent[0] {
			t.Fatalf("%d bytes became %d and came back as %d, %v", len(data), n, len(got), err)
		}
	})
}

func BenchmarkIPComp(b *testing.B) {
	for name, packet := range map[string][]byte{"text": prose(1300), "noise": noise(1300, 1)} {
		b.Run("compress/"+name, func(b *testing.B) {
			c, buf := &compressor{cpi: testCPI}, make([]byte, len(packet))
			b.SetBytes(int64(len(packet)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, packet)
				c.compress(buf)
			}
		})
		b.Run("expand/"+name, func(b *testing.B) {
			x, dst, payload := testExpander(), make([]byte, 2048), ipcompPayload(protoInner, testCPI, packet)
			b.SetBytes(int64(len(packet)))
			b.ReportAllocs()
			for b.Loop() {
				x.expand(dst, payload, esp.NextIPComp)
			}
		})
	}
}
