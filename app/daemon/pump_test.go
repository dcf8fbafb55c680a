package daemon

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"

	"wayfarer/ike"
)

// syn is a TCP SYN over IPv4 with an MSS option, without checksums.
func syn(mss uint16) []byte {
	p := make([]byte, 44)
	p[0], p[9] = 0x45, 6
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[32], p[33] = 6<<4, 2
	p[40], p[41] = 2, 4
	binary.BigEndian.PutUint16(p[42:], mss)
	return p
}

func mssOf(p []byte) uint16 { return binary.BigEndian.Uint16(p[42:]) }

func TestPumpCarriesBothWays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = fixed(session)
		w.connect(request())
		dev := w.devices[0]
		for _, p := range [][]byte{{0x45, 1, 2, 3}, syn(1460), make([]byte, maxPacket)} {
			dev.packets <- p
			session.inbound <- p
		}
		synctest.Wait()
		for name, got := range map[string][][]byte{"out": session.written(), "in": dev.received()} {
			if len(got) != 3 {
				t.Fatalf("%s: %d packets", name, len(got))
			}
			if !bytes.Equal(got[0], []byte{0x45, 1, 2, 3}) || len(got[2]) != maxPacket {
				t.Errorf("%s: changed a packet: %x, %d bytes", name, got[0], len(got[2]))
			}
			if mss := mssOf(got[1]); mss != 1280-40 {
				t.Errorf("%s: MSS %d", name, mss)
			}
		}
	})
}

// What the engine writes before and behind a packet stays within its own buffer.
func TestBatchBuffersLeaveRoom(t *testing.T) {
	b := newBatch(3)
	for i := range b.bufs {
		b.sizes[i] = maxPacket
	}
	for i, p := range b.cut(3, 0xffff, 0xffff) {
		if len(p) != headroom+maxPacket || cap(p) < len(p)+ike.Tailroom {
			t.Errorf("buffer %d: length %d, capacity %d", i, len(p), cap(p))
		}
		whole := p[:cap(p)]
		for j := range whole {
			whole[j] = byte(i + 1)
		}
	}
	for i, buf := range b.bufs {
		if !bytes.Equal(buf[:cap(buf)], bytes.Repeat([]byte{byte(i + 1)}, cap(buf))) {
			t.Errorf("buffer %d shares memory", i)
		}
	}
}

// endless gives as many packets as wanted and then ends.
type endless struct {
	fakeTUN
	left int
}

func (d *endless) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	d.left--
	sizes[0], bufs[0][offset] = 44, 0x45
	return 1, nil
}

func (d *endless) BatchSize() int { return 1 }

type sink struct{ Session }

func (sink) WritePackets([][]byte, int) error { return nil }

func TestPumpAllocatesNothingPerPacket(t *testing.T) {
	const packets = 10_000
	var session Session = sink{}
	b := newBatch(1)
	allocs := testing.AllocsPerRun(1, func() {
		p := &pump{device: &endless{left: packets}, log: slog.New(slog.DiscardHandler), failed: make(chan error, 1), stopped: make(chan struct{})}
		p.session.Store(&session)
		p.outward(b)
	})
	if allocs > 20 {
		t.Errorf("%v allocations for %d packets", allocs, packets)
	}
}
