package ike

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"wayfarer/ike/isakmp"
)

// Dead peer detection (RFC 3706). A probe goes out only after silence, and silence
// means that no authenticated packet came, ESP or IKE. It keeps NAT mappings as well as a
// keepalive does, so it goes out in place of one that is due not long before: a computer
// that rests, and its radio, are woken once.
const (
	dpdIdle      = 30 * time.Second
	dpdInterval  = 5 * time.Second
	dpdTries     = 5
	natKeepAlive = 20 * time.Second // without own transmission (RFC 3948 §4)

	// While packets go out and none comes back, or when the network has changed,
	// the user is waiting: probes are urgent.
	unansweredAfter = 2 * time.Second
	urgentInterval  = time.Second
	urgentTries     = 3
	// lastPatience is what the last of them gets once packets have been unanswered for
	// deadAfter. The first has had more than two seconds by then, and its answer counts too.
	lastPatience = 500 * time.Millisecond
	deadAfter    = unansweredAfter + (urgentTries-1)*urgentInterval + lastPatience
	// A gateway that answers probes but no ESP has lost the ESP SA: a new one is
	// negotiated, at growing intervals.
	renewAfter  = 3 * time.Second
	renewPause  = time.Minute
	renewAtMost = 10 * time.Minute
	// together are packets of one moment, as the last acknowledgements of connections
	// that end. Who misses an answer sends again, TCP not earlier than after 200 ms.
	together = 100 * time.Millisecond
)

// dpdState is the probing side; owned with its SA.
type dpdState struct {
	sequence uint32 // of the last probe
	started  bool
	tries    int // unanswered probes
	last     time.Time
	urgent   bool
}

// answerProbe acknowledges R-U-THERE with its number, even an old one: gateways
// repeat them.
func (sa *isakmpSA) answerProbe(m *message, n isakmp.Notify) {
	mid, err := sa.newMessageID()
	if err != nil {
		sa.log.Error("no DPD answer", "err", err)
		return
	}
	ack := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: n.SPI, Type: isakmp.NotifyRUThereAck, Data: n.Data}
	sa.reply(m, sa.sealHashed(isakmp.Informational, mid, isakmp.Payload{Type: isakmp.PayloadNotify, Body: ack.Append(nil)}))
}

// probe sends R-U-THERE. A repeated probe keeps its number.
func (sa *isakmpSA) probe(now time.Time) {
	d := &sa.dpd
	if d.tries == 0 {
		if err := sa.nextNumber(); err != nil {
			sa.log.Error("no DPD probe", "err", err)
			return
		}
	}
	d.tries++
	d.last = now
	sa.inform(sa.rUThere())
}

// nextNumber takes the number of the next probe.
func (sa *isakmpSA) nextNumber() error {
	d := &sa.dpd
	if d.started {
		d.sequence++
		return nil
	}
	var b [4]byte
	if err := sa.random(b[:]); err != nil {
		return err
	}
	d.sequence = binary.BigEndian.Uint32(b[:]) >> 1 // the top bit is 0 at first
	d.started = true
	return nil
}

// rUThere is the probe with the last number.
func (sa *isakmpSA) rUThere() isakmp.Payload {
	n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: sa.cookies(), Type: isakmp.NotifyRUThere, Data: be32(sa.dpd.sequence)}
	return isakmp.Payload{Type: isakmp.PayloadNotify, Body: n.Append(nil)}
}

// probeUrgently begins to probe every second. It does nothing while it already does.
func (sa *isakmpSA) probeUrgently(now time.Time) {
	if sa.caps&capDPD == 0 || sa.dpd.urgent {
		return
	}
	sa.dpd.tries, sa.dpd.urgent = 0, true
	sa.probe(now)
}

// probeAnswered takes an acknowledgement of the probe that is out; its cookies may
// stand in either order (racoon).
func (sa *isakmpSA) probeAnswered(n isakmp.Notify) {
	reversed := slices.Concat(sa.ckyR[:], sa.ckyI[:])
	if !bytes.Equal(n.SPI, sa.cookies()) && !bytes.Equal(n.SPI, reversed) {
		return
	}
	if len(n.Data) != 4 {
		return
	}
	number := binary.BigEndian.Uint32(n.Data)
	if number == sa.dpd.sequence {
		sa.dpd.tries, sa.dpd.urgent = 0, false
	}
	sa.s.pathAnswered(sa, number)
}

// dpdDue says when the next probe is due, or, after the last one, when the gateway
// is dead.
func (sa *isakmpSA) dpdDue(lastHeard time.Time) time.Time {
	d := &sa.dpd
	if d.tries > 0 && lastHeard.After(d.last) {
		d.tries, d.urgent = 0, false // any authentic packet is as good as an answer
	}
	switch {
	case d.tries > 0 && d.urgent:
		return d.last.Add(sa.urgentPatience())
	case d.tries > 0:
		return d.last.Add(dpdInterval)
	}
	return lastHeard.Add(dpdIdle)
}

// urgentPatience is how long to wait for the answer to the last urgent probe.
func (sa *isakmpSA) urgentPatience() time.Duration {
	w := &sa.s.watchdog
	since := w.unanswered.Load()
	if sa.dpd.tries < urgentTries || since == 0 {
		return urgentInterval
	}
	return min(max(w.clock.at(since).Add(deadAfter).Sub(sa.dpd.last), lastPatience), urgentInterval)
}

// exhausted reports whether enough probes went unanswered.
func (d *dpdState) exhausted() bool {
	return d.tries >= dpdTries || d.urgent && d.tries >= urgentTries
}

// clock stamps times so that they fit an atomic and do not jump when the computer's
// clock is set.
type clock struct{ began time.Time }

// stamp is never 0 for a time since the beginning.
func (c clock) stamp(t time.Time) int64 { return int64(t.Sub(c.began)) + 1 }

func (c clock) at(stamp int64) time.Time { return c.began.Add(time.Duration(stamp - 1)) }

// watchdog notices that packets go out and none comes back. The data path only
// stores times; the control loop is woken once, and then looks at intervals for as
// long as there is traffic.
type watchdog struct {
	clock      clock
	last       atomic.Int64 // stamp of the last packet
	unanswered atomic.Int64 // stamp of the first unanswered packet; 0: none
	armed      atomic.Bool  // the control loop looks
	heardESP   atomic.Int64 // stamp of the last authentic ESP packet

	// Owned by the control loop.
	look    time.Time // when to look next, if armed
	rested  int64     // heardESP when a packet was left unanswered because it was alone
	pause   time.Duration
	renewAt time.Time // the earliest next renewal; pauses grow without success
	// renewed is the age of the ISAKMP SA at which ESP fell silent, while a new
	// ChildSA is tried as the remedy.
	renewed time.Duration
	// suspected is the age at which that last healed the silence, and suspect the
	// SA that had it.
	suspected time.Duration
	suspect   *isakmpSA
}

// sent notes a packet that went out at a stamp; it wakes the control loop if it does not
// look.
func (w *watchdog) sent(at int64, wake func()) {
	w.last.Store(at)
	if w.unanswered.Load() != 0 {
		return
	}
	w.unanswered.Store(at)
	if !w.armed.Swap(true) {
		wake()
	}
}

// heard notes an authentic ESP packet.
func (w *watchdog) heard(now time.Time) {
	w.heardESP.Store(w.clock.stamp(now))
	if w.unanswered.Load() != 0 {
		w.unanswered.Store(0)
	}
}

// due is when to look; the zero time if there is no traffic to watch.
func (w *watchdog) due() time.Time {
	if !w.armed.Load() {
		w.look = time.Time{}
		return w.look
	}
	if w.look.IsZero() {
		w.look = time.Now().Add(unansweredAfter)
	}
	return w.look
}

// watch looks whether traffic is answered. It probes the gateway, and if that
// answers probes but no ESP, asks for a new ChildSA.
func (s *Session) watch(now time.Time) (renew bool) {
	w := &s.watchdog
	if w.look.IsZero() || w.look.After(now) {
		return false
	}
	since, last, heard := w.unanswered.Load(), w.last.Load(), w.heardESP.Load()
	if since == 0 {
		s.trafficFlows(now)
		return false
	}
	silent := now.Sub(w.clock.at(since))
	if silent >= unansweredAfter {
		w.renewed = 0 // a new SA is no better: it was not the old one's fault
	}
	switch {
	case silent < unansweredAfter:
		w.look = w.clock.at(since).Add(unansweredAfter)
	case !s.orphaned.IsZero():
		w.look = now.Add(urgentInterval) // there is no ISAKMP SA to ask on
	case silent < renewAfter:
		s.sa.probeUrgently(now)
		s.doubtPath(now) // perhaps it carries less than before
		w.look = now.Add(urgentInterval)
	case s.sa.caps&capDPD != 0 && s.sa.dpd.tries > 0:
		w.look = now.Add(urgentInterval) // the gateway is dead, not the SA
	case last-since < int64(together) && w.rested != heard:
		w.rested = heard // the next one is expected to be answered
		w.rest(since, last)
	case w.renewAt.After(now) && now.Sub(w.clock.at(last)) >= unansweredAfter:
		w.rest(since, last)
	case w.renewAt.After(now):
		w.look = now.Add(unansweredAfter) // packets may be answered meanwhile, and then another silence begin
	default:
		w.renewed = max(w.clock.at(heard).Sub(s.sa.established), 0)
		w.pause = min(max(2*w.pause, renewPause), renewAtMost)
		w.renewAt = now.Add(w.pause)
		w.unanswered.Store(w.clock.stamp(now)) // judge the new SA by itself
		w.look = now.Add(unansweredAfter)
		return true
	}
	return false
}

// rest ends the watch until the next packet goes out, since nobody waits for an answer:
// an idle session must not wake the processor.
func (w *watchdog) rest(since, last int64) {
	w.look = time.Time{}
	w.unanswered.CompareAndSwap(since, 0)
	w.armed.Store(false)
	if at := w.last.Load(); at != last { // meanwhile
		w.unanswered.CompareAndSwap(0, at)
		w.armed.Store(true)
	}
}

// trafficFlows ends the watch until the next packet goes out. If a new ChildSA has
// just healed the silence, the gateway may have dropped the old one at the age that
// its ISAKMP SA had then: strongSwan does so at its rekey time, of which it tells
// nobody. Once may be chance; the second time at the same age is none.
func (s *Session) trafficFlows(now time.Time) {
	w := &s.watchdog
	if age := w.renewed; age >= minLearned {
		if w.suspected > 0 && age >= w.suspected*3/4 && age <= w.suspected*5/4 {
			s.learn(age)
			s.sa.reauthAt = now
		}
		w.suspected, w.suspect = age, s.sa
	}
	w.renewed, w.pause, w.renewAt = 0, 0, time.Time{}
	w.look = time.Time{}
	w.armed.Store(false)
	if w.unanswered.Load() != 0 { // between the two loads
		w.armed.Store(true)
	}
}

// learn takes an age at which the gateway is known to end phase 1: from now on it is
// renewed before.
func (s *Session) learn(age time.Duration) {
	s.log.Info("the gateway drops ESP when phase 1 reaches an age; renewing earlier", "age", age)
	s.learned = age
}

// minLearned keeps a coincidence from making us renew all the time.
const minLearned = 30 * time.Second
