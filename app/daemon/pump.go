package daemon

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"sync/atomic"

	"wayfarer/ike"
	"wayfarer/tun"
)

// maxPacket is the largest IP packet. A buffer holds one of any size, whatever MTU
// somebody gives the interface, and leaves the device room to coalesce.
const maxPacket = 65535

// headroom before each packet suits both ends.
const headroom = max(ike.Headroom, tun.Headroom)

// pump moves inner packets between one device and the session of the moment.
// Outward runs as long as the device, inward as long as a session: when a session
// is lost, the host's packets are read and dropped until the next one.
type pump struct {
	device     tun.Device
	mss4, mss6 uint16
	log        *slog.Logger
	session    atomic.Pointer[Session]
	in         batch      // of the one inward that runs
	failed     chan error // gets one value when the device ends without Close
	stopped    chan struct{}
}

// batch is a set of packet buffers, made once.
type batch struct {
	bufs    [][]byte
	sizes   []int
	packets [][]byte // bufs cut to what was read
}

func newBatch(n int) batch {
	b := batch{bufs: make([][]byte, n), sizes: make([]int, n), packets: make([][]byte, n)}
	const stride = headroom + maxPacket + ike.Tailroom
	memory := make([]byte, n*stride)
	for i := range b.bufs {
		at := memory[i*stride:]
		b.bufs[i] = at[: headroom+maxPacket : stride]
	}
	return b
}

// cut returns the first n buffers, each with the packet that was read into it at
// its end, clamped.
func (b *batch) cut(n int, mss4, mss6 uint16) [][]byte {
	for i := range n {
		b.packets[i] = b.bufs[i][:headroom+b.sizes[i]]
		tun.ClampMSS(b.packets[i][headroom:], mss4, mss6)
	}
	return b.packets[:n]
}

// newPump starts to read the device.
func newPump(device tun.Device, mtu int, log *slog.Logger) *pump {
	p := &pump{
		device:  device,
		log:     log,
		in:      newBatch(device.BatchSize()),
		failed:  make(chan error, 1),
		stopped: make(chan struct{}),
	}
	p.mss4, p.mss6 = tun.MSS(mtu)
	go p.outward(newBatch(device.BatchSize()))
	return p
}

// wait returns when nothing of the pump runs; the device must have been closed, the
// session detached.
func (p *pump) wait() { <-p.stopped }

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
		session := p.session.Load()
		if session == nil || n == 0 {
			continue
		}
		if err := (*session).WritePackets(b.cut(n, p.mss4, p.mss6), headroom); err != nil && !errors.Is(err, net.ErrClosed) {
			p.log.Debug("packets to the gateway were lost", "error", err)
		}
	}
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
		_, err = p.device.Write(p.in.cut(n, p.mss4, p.mss6), headroom)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			p.log.Debug("packets from the gateway were lost", "error", err)
		}
	}
}
