package daemon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"wayfarer/ike"
)

// parcel describes packets between us and a network behind the gateway.
type parcel struct {
	inward  bool
	network int  // of pathNetworks
	lane    byte // in the far address: the host's queue
	proto   byte
	port    byte // tells connections apart
	tos     byte
	id      uint16
	may     bool   // IPv4: it may be fragmented
	offset  uint16 // IPv4: with MoreFragments
	ip      []byte // IPv4: options
	seq     uint32
	flags   byte
	options []byte // of TCP
	payload []byte
}

// packet makes the packet, with all its checksums.
func (c parcel) packet() []byte {
	near, far := pathLocals[0], pathNetworks[c.network].Addr()
	if far.Is6() {
		near = pathLocals[1]
	}
	b := far.AsSlice()
	b[len(b)-2], b[len(b)-1] = c.lane, 7
	far, _ = netip.AddrFromSlice(b)
	h := ipHead{src: near, dst: far, proto: c.proto, tos: c.tos, ttl: 64, id: c.id, flags: c.offset, options: c.ip}
	if !c.may {
		h.flags |= 0x4000
	}
	if c.inward {
		h.src, h.dst = far, near
	}
	switch c.proto {
	case plainTCP:
		tcp := binary.BigEndian.AppendUint32([]byte{0x30, c.port, 0, 80}, c.seq)
		tcp = append(tcp, 0, 0, 0, 9, byte(20+len(c.options))<<2, c.flags, 0x12, 0x34, 0, 0, 0, 0)
		return summed(ipPacket(h, slices.Concat(tcp, c.options, c.payload)))
	case plainUDP:
		return summed(ipPacket(h, slices.Concat([]byte{0x30, c.port, 0, 53, 0, 0, 0, 0}, c.payload)))
	}
	return ipPacket(h, c.payload)
}

// draw makes choices of the fuzzer's bytes.
type draw struct{ data []byte }

// below is a number from 0 on.
func (d *draw) below(n int) int {
	if len(d.data) < 2 {
		d.data = nil
		return 0
	}
	v := int(binary.LittleEndian.Uint16(d.data))
	d.data = d.data[2:]
	return v % n
}

func (d *draw) one(of ...int) int { return of[d.below(len(of))] }

// content is a payload of n bytes that differ.
func (d *draw) content(n int) []byte {
	b, salt := make([]byte, n), uint32(d.below(1<<16))
	for i := range b {
		salt = salt*1664525 + 1013904223
		b[i] = byte(salt >> 24)
	}
	return b
}

// syn is options of TCP, most with an MSS of 1460, at an even or an odd place.
func (d *draw) syn() []byte {
	mss := []byte{2, 4, 1460 >> 8, 1460 & 0xff}
	return [][]byte{mss, slices.Concat([]byte{1}, mss, []byte{1, 1, 1}), slices.Concat([]byte{4, 2}, mss, []byte{1, 0}), {1, 1, 4, 2}}[d.below(4)]
}

// parcel draws what all kinds have.
func (d *draw) parcel(inward bool) parcel {
	network := d.below(len(pathNetworks))
	return parcel{
		inward: inward, network: network, lane: byte(d.below(pathQueues)), port: byte(d.below(3)), tos: byte(d.one(0, 2, 3, 0xb8)),
		id: uint16(d.one(0, 7, 0xfffe)), may: d.below(2) == 0, seq: uint32(d.one(1, 0x7fffffff, 0xffffff00)), flags: plainACK,
	}
}

// odd makes a packet that nothing is put together with.
func (d *draw) odd(c parcel) []byte {
	what := d.below(7)
	if pathNetworks[c.network].Addr().Is6() && (what == 1 || what == 4) || c.inward && what == 5 {
		what = 0
	}
	size := d.one(0, 1, 8, 100, 1200, 1400, 5000)
	switch what {
	case 0: // of a protocol that nobody knows
		c.proto, c.payload = 253, d.content(size)
	case 1: // a fragment
		c.proto, c.may = 99, true
		c.offset, c.payload = uint16(d.one(0x2000, 0x2010, 0x0100)), d.content(size/8*8)
	case 2: // a message of ICMP, or an error, of which no error may tell
		c.proto, c.payload = 1, append([]byte{byte(d.one(8, 3, 11)), 0, 0, 0}, d.content(size)...)
		if pathNetworks[c.network].Addr().Is6() {
			c.proto, c.payload[0] = 58, byte(d.one(128, 1, 2))
		}
	case 3: // TCP that is cut off
		c.proto, c.flags = plainTCP, plainSYN
		p := c.packet()
		p = p[:len(p)-1-d.below(19)]
		if p[0]>>4 == 6 {
			binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		} else {
			binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		}
		return p
	case 4: // with options, that are copied into fragments or not
		c.proto, c.may, c.payload = 253, true, d.content(size)
		c.ip = [][]byte{{0x94, 4, 0, 0}, {7, 7, 4, 0, 0, 0, 0, 0}}[d.below(2)]
	case 5: // no IP
		return append([]byte{0x75}, d.content(30)...)
	case 6: // to where no SA leads
		c.proto, c.payload = 253, d.content(size)
		p := c.packet()
		p[map[byte]int{4: 17, 6: 27}[p[0]>>4]] ^= 0x40
		p[map[byte]int{4: 13, 6: 11}[p[0]>>4]] ^= 0x40
		return p
	}
	return c.packet()
}

// given is a packet as the host gives it, behind its offload header, and the queue it waits
// in.
func (d *draw) given() (whole []byte, lane byte) {
	c := d.parcel(false)
	size := d.one(1, 7, 88, 537, 1003, 1358, 1400) // of a segment
	total := min(d.one(1, 2, size-1, size, size+1, 7*size, 20*size+3, 60_000), 700*size)
	c.proto = byte(d.one(plainTCP, plainTCP, plainUDP))
	switch d.below(6) {
	case 0:
		return append(make([]byte, 10), d.odd(c)...), c.lane
	case 1: // a single packet whose checksum is left
		c.payload = d.content(min(total, 9000))
		size = 0
	case 2: // one that wants nothing
		c.payload = d.content(min(total, 9000))
		return append(make([]byte, 10), c.packet()...), c.lane
	case 3: // a connection begins
		c.proto, c.flags, c.options = plainTCP, byte(d.one(plainSYN, plainSYN|plainACK)), d.syn()
		if d.below(2) == 0 {
			return append(make([]byte, 10), c.packet()...), c.lane
		}
		size = 0
	default:
		c.payload = d.content(max(total, 1))
		c.flags |= byte(d.one(0, plainPSH, plainPSH|plainFIN, plainCWR, 0x40))
		if d.below(2) == 0 {
			c.options = []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
		}
		if c.proto == plainUDP && size > 0 && len(c.payload) > 64*size {
			c.payload = c.payload[:64*size]
		}
	}
	p := c.packet()
	head := offloadHead(p, size)
	return append(head, p...), c.lane
}

// pathSuites are the ESP suites: GCM is done with a packet once it is taken; in CBC mode
// several are encrypted together, when the memory that they came from holds others.
var pathSuites = [...]string{"aes256gcm16", "aes128-sha1", "aes256-sha256"}

var pathGates [len(pathSuites)][pathSockets]func() (*gate, error)

func init() {
	for suite, esp := range pathSuites {
		for sockets := range pathSockets {
			pathGates[suite][sockets] = sync.OnceValues(func() (*gate, error) { return newGate(esp, sockets) })
		}
	}
}

// pathKinds is how many kinds of path there are: each suite with each kind of socket and of
// host.
const pathKinds = len(pathSuites) * pathSockets * pathHosts

// path is the whole path for one input.
type path struct {
	*gate
	end     hostEnd
	pump    *pump
	sockets int
	host    int
}

// onPath runs a test on a path of a kind.
func onPath(t *testing.T, kind, limit int, single bool, test func(*path)) {
	t.Helper()
	suite, sockets, host := kind%len(pathSuites), kind/len(pathSuites)%pathSockets, kind/len(pathSuites)/pathSockets
	g, err := pathGates[suite][sockets]()
	if err != nil {
		t.Fatal(err)
	}
	end, err := newHost(host, single)
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	p := &pump{
		device: end, log: slog.New(slog.DiscardHandler), answers: rate.NewLimiter(rate.Inf, 0),
		failed: make(chan error, 1), dropped: make(chan struct{}, 1),
	}
	p.setLimit(limit)
	defer p.attach(g)()
	test(&path{g, end, p, sockets, host})
}

// pass has the pump take what waits.
func (w *path) pass() {
	w.pump.stopped = make(chan struct{})
	w.pump.outward()
}

// FuzzPath: what the host gives leaves as the packets that a host without offloads and a
// router that takes them one by one would send, and the host gets what the gateway has sent.
func FuzzPath(f *testing.F) {
	for seed := range uint64(14 * pathKinds) {
		r := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 400)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		binary.LittleEndian.PutUint16(data, uint16(seed%uint64(pathKinds)))
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1000 {
			return
		}
		d := &draw{data}
		kind, limit := d.below(pathKinds), d.one(576, 600, 1280, 1281, 1400, 1438)
		onPath(t, kind, limit, false, func(w *path) { pathOut(t, w, limit, &draw{d.data}) })
		onPath(t, kind, limit, true, func(w *path) { pathIn(t, w, limit, &draw{d.data}) })
	})
}

// pathOut has the host give what is drawn.
func pathOut(t *testing.T, w *path, limit int, d *draw) {
	plain := &plainPath{limit: limit}
	var want, told [pathQueues][][]byte // by lane
	type wrapped struct {
		whole []byte
		lane  byte
	}
	for len(d.data) > 0 {
		var batch []wrapped
		for range 1 + d.below(6) {
			whole, lane := d.given()
			batch = append(batch, wrapped{whole, lane})
		}
		for _, b := range batch {
			numbered := plain.id
			packets, ok := apart(b.whole)
			if !ok {
				t.Fatalf("the host gives %x", b.whole)
			}
			for _, p := range packets {
				sent, answer := plain.outWhere(p)
				want[b.lane] = append(want[b.lane], sent...)
				if answer != nil {
					told[b.lane] = append(told[b.lane], answer)
				}
			}
			if ok, err := w.end.give(b.whole, int(b.lane)); !ok || err != nil {
				t.Fatalf("the host cannot give %d bytes: %v", len(b.whole), err)
			}
			// Fragments are numbered as they are read, and any queue may be read first.
			if d.below(4) == 0 || plain.id != numbered {
				w.pass()
			}
		}
		w.pass()
	}
	w.settle(t) // a session that gets no answers asks for new SAs
	var got, heard [pathQueues][][]byte
	for i, datagram := range w.wire.takeSent() {
		p, network, err := w.open(datagram)
		if err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
		_, dst := addrsOf(p)
		if !pathNetworks[network].Contains(dst) {
			t.Errorf("a packet to %v goes by the SA to %v", dst, pathNetworks[network])
		}
		lane := laneOf(dst)
		got[lane] = append(got[lane], p)
	}
	for _, whole := range w.end.got() {
		src, _ := addrsOf(whole[10:])
		heard[laneOf(src)] = append(heard[laneOf(src)], whole[10:])
	}
	for lane := range pathQueues {
		w.compare(t, fmt.Sprintf("out, queue %d", lane), got[lane], want[lane])
		w.compare(t, fmt.Sprintf("answers, queue %d", lane), heard[lane], told[lane])
	}
}

// outWhere is out for packets that need not be IP, nor go to where an SA leads.
func (l *plainPath) outWhere(p []byte) (packets [][]byte, answer []byte) {
	if p[0]>>4 != 4 && p[0]>>4 != 6 {
		return nil, nil
	}
	packets, answer = l.out(p)
	_, dst := addrsOf(p)
	if !slices.ContainsFunc(pathNetworks, func(n netip.Prefix) bool { return n.Contains(dst) }) {
		packets = nil
	}
	return packets, answer
}

func addrsOf(p []byte) (src, dst netip.Addr) {
	if p[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
	}
	return netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
}

func laneOf(far netip.Addr) int {
	b := far.AsSlice()
	return int(b[len(b)-2]) % pathQueues
}

// normal is a packet without what may differ: the two forms of zero in the checksum of TCP.
func normal(p []byte) []byte {
	p = bytes.Clone(p)
	if at := upperAt(p); protoOf(p) == plainTCP && len(p) >= at+18 && p[at+16] == 0xff && p[at+17] == 0xff {
		clear(p[at+16:][:2])
	}
	return p
}

// unnumbered is a packet without what else may differ for the host: the identification of
// one that may not be fragmented (RFC 6864 §4.1).
func unnumbered(p []byte) []byte {
	p = normal(p)
	if p[0] == 0x45 && p[6] == 0x40 && plainSum(p[:20]) == 0 {
		clear(p[4:6])
		clear(p[10:12])
	}
	return p
}

func (w *path) compare(t *testing.T, what string, got, want [][]byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if g, w := normal(got[i]), normal(want[i]); !bytes.Equal(g, w) {
			t.Fatalf("%s: packet %d is\n%x, want\n%x", what, i, g, w)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s, sockets %d, host %d: %d packets, want %d", what, w.sockets, w.host, len(got), len(want))
	}
}

// stretch draws packets of the gateway that follow each other, of one connection.
func (d *draw) stretch() (packets [][]byte, c parcel) {
	c = d.parcel(true)
	if d.below(5) == 0 {
		return [][]byte{d.odd(c)}, c
	}
	c.proto = byte(d.one(plainTCP, plainTCP, plainUDP))
	size := d.one(1, 50, 536, 1360)
	if d.below(6) == 0 {
		c.proto, c.flags, c.options, size = plainTCP, plainSYN|plainACK, d.syn(), 0
	}
	for range 1 + d.below(12) {
		c.payload = d.content(size)
		p := c.packet()
		switch d.below(24) {
		case 0: // a wrong checksum, which nobody makes right
			if c.flags&plainSYN == 0 {
				p[len(p)-1] ^= 0x10
			}
		case 1:
			c.payload = c.payload[:size/2]
			p = c.packet()
		case 2:
			c.flags |= plainPSH
			p = c.packet()
			c.flags &^= plainPSH
		case 3: // something is missing
			c.seq += 5
		case 4: // with an option, so that it stays by itself, in its place
			if p[0]>>4 == 4 {
				c.ip = []byte{0x94, 4, 0, 0}
				p = c.packet()
				c.ip = nil
			}
		}
		packets = append(packets, p)
		c.seq += uint32(len(c.payload))
		c.id++
		if c.flags&plainSYN != 0 {
			break
		}
	}
	return packets, c
}

// connectionOf is what must keep its order.
func connectionOf(p []byte) string {
	at := upperAt(p)
	src, dst := addrsOf(p)
	return fmt.Sprintf("%v %v %d %x", src, dst, protoOf(p), p[at:min(len(p), at+4)])
}

// pathIn has the gateway send what is drawn.
func pathIn(t *testing.T, w *path, limit int, d *draw) {
	plain := &plainPath{limit: limit}
	want, got := map[string][][]byte{}, map[string][][]byte{}
	for total := 0; len(d.data) > 0 && total < 100_000; {
		var waiting []arrivingPacket
		for range 1 + d.below(4) {
			packets, c := d.stretch()
			at := d.below(len(waiting) + 1)
			for _, p := range packets {
				waiting = slices.Insert(waiting, at, arrivingPacket{p, c.network})
				at += 1 + d.below(2) // among those of others
				at = min(at, len(waiting))
				total += len(p)
			}
		}
		var datagrams [][]byte
		for _, a := range waiting {
			sealed, err := w.seal(a.packet, a.network)
			if err != nil {
				t.Fatal(err)
			}
			switch d.below(20) {
			case 0: // forged, in another's place
				sealed[len(sealed)-1] ^= 1
				datagrams = append(datagrams, sealed)
				continue
			case 1: // twice
				datagrams = append(datagrams, sealed)
			case 2:
				datagrams = append(datagrams, []byte{0xff})
			}
			datagrams = append(datagrams, sealed)
			if src, _ := addrsIf(a.packet); slices.ContainsFunc(pathNetworks, func(n netip.Prefix) bool { return n.Contains(src) }) {
				p := plain.clamp(a.packet)
				want[connectionOf(p)] = append(want[connectionOf(p)], unnumbered(p))
			}
		}
		w.arrive(datagrams, w.sockets != byDatagrams)
		if w.sockets == byHost { // a socket holds only so much
			w.settle(t)
		}
	}
	w.settle(t)
	for _, whole := range w.end.got() {
		packets, ok := apart(whole)
		if !ok {
			t.Fatalf("the host gets %x", whole)
		}
		if whole[1] == 5 && w.host != asDatagrams {
			t.Error("the host gets datagrams together, which it does not take")
		}
		for _, p := range packets {
			got[connectionOf(p)] = append(got[connectionOf(p)], unnumbered(p))
		}
	}
	for name, list := range want {
		w.compare(t, "in, "+name, got[name], list)
	}
	if len(got) != len(want) {
		t.Errorf("in: %d connections, want %d", len(got), len(want))
	}
}

// settle returns when all that has come to the session has been handed on.
func (w *path) settle(t *testing.T) {
	t.Helper()
	sealed, err := w.seal(lastWord(), 0)
	if err != nil {
		t.Fatal(err)
	}
	w.arrive([][]byte{sealed}, w.sockets != byDatagrams)
	select {
	case <-w.done:
	case <-time.After(hostPatience):
		t.Fatal("packets of the gateway are lost")
	}
}

type arrivingPacket struct {
	packet  []byte
	network int
}

// addrsIf is addrsOf for packets that need not be IP.
func addrsIf(p []byte) (src, dst netip.Addr) {
	if p[0]>>4 != 4 && p[0]>>4 != 6 {
		return src, dst
	}
	return addrsOf(p)
}

var (
	_ Session       = (*gate)(nil)
	_ ike.BatchConn = runWire{}
	_ ike.BatchConn = (*hostWire)(nil)
)
