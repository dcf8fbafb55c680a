package daemon

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"wayfarer/ike"
	"wayfarer/tun"
)

// tooBigRate bounds the answers to packets that are too big, a second (RFC 4443 §2.4
// (f)).
const tooBigRate = 10

// A device's packets have as much room behind them as a session needs.
const _ = uint(tun.Tailroom - ike.Tailroom)

// pump moves inner packets between one device and the session of the moment.
// It reads as long as there is the device: when a session is lost, the host's packets
// are dropped until the next one. What comes in is handed on by the session itself.
//
// What does not fit the path to the gateway is kept from being fragmented there: TCP
// is told to send less, IPv4 packets that may be cut are cut before they are
// encapsulated, and the senders of the others get an answer (RFC 4301 §7, §8).
//
// Each direction has one owner, and there is no lock between them. The goroutine outward
// reads the device, gives to the session, and answers the host. Inward belongs to the
// session that is attached, which calls it time after time and writes to the device by it;
// there is never a second one, for when detach returns its session calls it no more.
type pump struct {
	device  tun.Device
	limit   atomic.Int64 // the largest inner packet that the path carries, in bytes
	log     *slog.Logger
	session atomic.Pointer[Session]
	failed  chan error    // gets one value when the device ends without Close
	dropped chan struct{} // has a value when a packet went out while there was no session
	stopped chan struct{}

	// owned by outward
	using      *Session // that got packets since the last Flush, if any did
	fragmenter tun.Fragmenter
	piece      []byte // a fragment; made when first needed
	answers    *rate.Limiter
	answer     []byte
	lostOut    losses
	lostAnswer losses

	// owned by the session that is attached
	lostIn losses
}

// losses logs the first loss of each second: an ended session loses every packet of the
// host, and that would drive out of the log why it has ended. It has one owner; the zero
// value is ready.
type losses struct {
	logged time.Time
	passed int // over, since then
}

func (l *losses) add(log *slog.Logger, what string, err error) {
	now := time.Now()
	if now.Sub(l.logged) < time.Second {
		l.passed++
		return
	}
	log.Debug(what, "error", err, "not_logged", l.passed)
	l.logged, l.passed = now, 0
}

// newPump starts to read the device. The path carries inner packets of limit bytes.
func newPump(device tun.Device, limit int, log *slog.Logger) *pump {
	p := &pump{
		device:  device,
		log:     log,
		failed:  make(chan error, 1),
		dropped: make(chan struct{}, 1),
		stopped: make(chan struct{}),
		answers: rate.NewLimiter(tooBigRate, tooBigRate),
	}
	p.setLimit(limit)
	go p.outward()
	return p
}

// setLimit changes how large inner packets may be, in bytes, from the next one on.
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

// attach starts to carry packets of session, when the one before is detached. Detach ends
// that.
func (p *pump) attach(session Session) (detach func()) {
	session.Receive(p.inward)
	p.session.Store(&session)
	return func() {
		p.session.Store(nil)
		session.Receive(nil)
	}
}

// outward carries from the host to the gateway. What has been read leaves before it waits
// for more.
func (p *pump) outward() {
	take := p.send // once: it is allocated
	for {
		err := p.device.Read(take)
		p.use(nil)
		if err != nil {
			close(p.stopped) // who hears that it has failed finds it ended
			if !errors.Is(err, os.ErrClosed) {
				p.failed <- err
			}
			return
		}
	}
}

// send hands a packet of the host to the session, if there is one.
func (p *pump) send(packet []byte) {
	session := p.session.Load()
	if session == nil {
		select {
		case p.dropped <- struct{}{}:
		default:
		}
		return
	}
	p.use(session)
	limit := int(p.limit.Load())
	mss4, mss6 := tun.MSS(limit)
	tun.ClampMSS(packet, mss4, mss6)
	if !tun.Fits(packet, limit) {
		p.shrink(*session, packet, limit)
		return
	}
	p.write(*session, packet)
}

// use makes session the one that gets packets. The one before sends what it has been given.
func (p *pump) use(session *Session) {
	if p.using != session && p.using != nil {
		(*p.using).Flush()
	}
	p.using = session
}

func (p *pump) write(session Session, packet []byte) {
	if err := session.WritePacket(packet); err != nil && !errors.Is(err, net.ErrClosed) {
		p.lostOut.add(p.log, "a packet to the gateway was lost", err)
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
	if cap(p.piece) < limit+ike.Tailroom {
		p.piece = make([]byte, limit+ike.Tailroom)
	}
	for {
		n := fragments.Next(p.piece[:limit])
		if n == 0 {
			return
		}
		p.write(session, p.piece[:n])
	}
}

// refuse tells the sender of a packet how large its packets may be.
func (p *pump) refuse(packet []byte, limit int) {
	if p.answer == nil {
		p.answer = make([]byte, tun.TooBigSize)
	}
	n := tun.TooBig(p.answer, packet, limit)
	if n == 0 || !p.answers.Allow() {
		return
	}
	if err := p.device.Answer(p.answer[:n]); err != nil && !errors.Is(err, os.ErrClosed) {
		p.lostAnswer.add(p.log, "an answer to the host was lost", err)
	}
}

// inward carries from the gateway to the host.
func (p *pump) inward(packets [][]byte) {
	mss4, mss6 := tun.MSS(int(p.limit.Load()))
	for _, packet := range packets {
		tun.ClampMSS(packet, mss4, mss6)
	}
	if err := p.device.Write(packets); err != nil && !errors.Is(err, os.ErrClosed) {
		p.lostIn.add(p.log, "packets to the host were lost", err)
	}
}
