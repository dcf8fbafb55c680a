package daemon

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"wayfarer/ike"
	"wayfarer/tun"
)

// maxPacket is the largest IP packet. A buffer holds one of any size, whatever MTU
// somebody gives the interface, and leaves the device room to coalesce.
const maxPacket = 65535

// headroom before each packet suits both ends.
const headroom = max(ike.Headroom, tun.Headroom)

const (
	// pieces is how many fragments are handed over at once.
	pieces = 16
	// tooBigRate bounds the answers to packets that are too big, a second (RFC 4443
	// §2.4 (f)).
	tooBigRate = 10
)

// pump moves inner packets between one device and the session of the moment.
// Outward runs as long as the device, inward as long as a session: when a session
// is lost, the host's packets are read and dropped until the next one.
//
// What does not fit the path to the gateway is kept from being fragmented there: TCP
// is told to send less, IPv4 packets that may be cut are cut before they are
// encapsulated, and the senders of the others get an answer (RFC 4301 §7, §8).
type pump struct {
	device  tun.Device
	limit   atomic.Int64 // the largest inner packet that the path carries, in bytes
	log     *slog.Logger
	session atomic.Pointer[Session]
	in      batch         // of the one inward that runs
	failed  chan error    // gets one value when the device ends without Close
	dropped chan struct{} // has a value when a packet went out while there was no session
	stopped chan struct{}
	writeMu sync.Mutex // a device has one writer at a time

	// owned by outward
	fragmenter tun.Fragmenter
	pieces     batch // for fragments; made when first needed
	answers    *rate.Limiter
	answer     []byte
}

// batch is a set of packet buffers, made once.
type batch struct {
	bufs    [][]byte
	sizes   []int
	packets [][]byte // bufs cut to what was read
}

// newBatch makes n buffers for packets of up to size bytes.
func newBatch(n, size int) batch {
	b := batch{bufs: make([][]byte, n), sizes: make([]int, n), packets: make([][]byte, n)}
	stride := headroom + size + ike.Tailroom
	memory := make([]byte, n*stride)
	for i := range b.bufs {
		at := memory[i*stride:]
		b.bufs[i] = at[: headroom+size : stride]
	}
	return b
}

// cut returns the first n buffers, each with the packet that was read into it at
// its end, clamped to what fits limit bytes.
func (b *batch) cut(n, limit int) [][]byte {
	mss4, mss6 := tun.MSS(limit)
	for i := range n {
		b.packets[i] = b.bufs[i][:headroom+b.sizes[i]]
		tun.ClampMSS(b.packets[i][headroom:], mss4, mss6)
	}
	return b.packets[:n]
}

// newPump starts to read the device. The path carries inner packets of limit bytes.
func newPump(device tun.Device, limit int, log *slog.Logger) *pump {
	p := &pump{
		device:  device,
		log:     log,
		in:      newBatch(device.BatchSize(), maxPacket),
		failed:  make(chan error, 1),
		dropped: make(chan struct{}, 1),
		stopped: make(chan struct{}),
		answers: rate.NewLimiter(tooBigRate, tooBigRate),
	}
	p.setLimit(limit)
	go p.outward(newBatch(device.BatchSize(), maxPacket))
	return p
}

// setLimit changes how large inner packets may be, in bytes, from the next batch on.
func (p *pump) setLimit(limit int) { p.limit.Store(int64(limit)) }

// wait returns when nothing of the pump runs; the device must have been closed, the
// session detached.
func (p *pump) wait() { <-p.stopped }

// hasEnded says whether the device is gone: nothing of the host's comes in any more.
func (p *pump) hasEnded() bool {
	select {
	case <-p.stopped:
		return true
	default:
		return false
	}
}

// attach starts to carry packets of session. Detach waits until that has stopped,
// which it does when session has been closed.
func (p *pump) attach(session Session) (detach func()) {
	p.session.Store(&session)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.inward(session)
	}()
	return func() {
		p.session.Store(nil)
		<-ended
	}
}

// outward carries from the host to the gateway.
func (p *pump) outward(b batch) {
	defer close(p.stopped)
	for {
		n, err := p.device.Read(b.bufs, b.sizes, headroom)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				p.failed <- err
			}
			return
		}
		if n == 0 {
			continue
		}
		session := p.session.Load()
		if session == nil {
			select {
			case p.dropped <- struct{}{}:
			default:
			}
			continue
		}
		limit := int(p.limit.Load())
		p.send(*session, b.cut(n, limit), limit)
	}
}

// send hands packets to the session, in their order.
func (p *pump) send(session Session, packets [][]byte, limit int) {
	begin := 0
	for i, packet := range packets {
		if !tun.Fits(packet[headroom:], limit) {
			p.write(session, packets[begin:i])
			p.shrink(session, packet[headroom:], limit)
			begin = i + 1
		}
	}
	p.write(session, packets[begin:])
}

func (p *pump) write(session Session, packets [][]byte) {
	if len(packets) == 0 {
		return
	}
	if err := session.WritePackets(packets, headroom); err != nil && !errors.Is(err, net.ErrClosed) {
		p.log.Debug("packets to the gateway were lost", "error", err)
	}
}

// shrink sends the fragments of a packet that does not fit. If it cannot be cut, its
// sender is told.
func (p *pump) shrink(session Session, packet []byte, limit int) {
	fragments, ok := p.fragmenter.Cut(packet, limit)
	if !ok {
		p.refuse(packet, limit)
		return
	}
	b := &p.pieces
	if len(b.bufs) == 0 || len(b.bufs[0]) < headroom+limit {
		*b = newBatch(pieces, limit)
	}
	for n := pieces; n == pieces; {
		for n = 0; n < pieces; n++ {
			if b.sizes[n] = fragments.Next(b.bufs[n][headroom:]); b.sizes[n] == 0 {
				break
			}
		}
		p.write(session, b.cut(n, limit))
	}
}

// refuse tells the sender of a packet how large its packets may be.
func (p *pump) refuse(packet []byte, limit int) {
	if p.answer == nil {
		p.answer = make([]byte, headroom+tun.TooBigSize)
	}
	n := tun.TooBig(p.answer[headroom:], packet, limit)
	if n == 0 || !p.answers.Allow() {
		return
	}
	p.deliver([][]byte{p.answer[:headroom+n]})
}

// deliver hands packets to the host and reports whether the device still takes them.
func (p *pump) deliver(packets [][]byte) bool {
	p.writeMu.Lock()
	defer p.writeMu.Unlock()
	_, err := p.device.Write(packets, headroom)
	if errors.Is(err, os.ErrClosed) {
		return false
	}
	if err != nil {
		p.log.Debug("packets to the host were lost", "error", err)
	}
	return true
}

// inward carries from the gateway to the host, and outlives packets that the host
// refuses, but not the device.
func (p *pump) inward(session Session) {
	for {
		n, err := session.ReadPackets(p.in.bufs, p.in.sizes, headroom)
		if err != nil {
			return // the session tells why it ended
		}
		if n == 0 {
			continue
		}
		if !p.deliver(p.in.cut(n, int(p.limit.Load()))) {
			return
		}
	}
}
