package ike

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wayfarer/ike/isakmp"
)

// Path MTU discovery (RFC 8899, for datagrams whose delivery the other side proves).
// ESP in UDP must not be fragmented: many NATs and firewalls drop fragments. So its
// datagrams say "don't fragment", and how large they may be is found out by probes:
// R-U-THERE, filled up to a size, which every gateway with DPD acknowledges. An
// encrypted message may have zeros behind its last payload (RFC 2409 Appendix B), and
// neither the HASH nor, in racoon, what it covers changes by them.
//
// Sizes are those of whole datagrams in bytes, IP header included.
const (
	// pathMTU is what a path that nobody has probed is taken to carry.
	pathMTU = 1400
	// maxInnerMTU is the largest inner packet on such a path.
	maxInnerMTU = 1300
	// largestPath is as far as the search goes: Ethernet's.
	largestPath = 1500
	// Every path carries that much (RFC 791 §3.1, RFC 8200 §5), so it never needs
	// to be fragmented.
	leastPath, leastPath6 = 576, 1280

	pathInterval = time.Second // between two probes of a size
	pathTries    = 2
	// pathRenew is how long a finding is believed (RFC 1191 §6.3: at least 10 minutes
	// before a larger one is tried). A path that shrinks and tells nobody takes the
	// small packets as before, so nothing but a probe of the present size notices.
	pathRenew = 10 * time.Minute
	// pathPause is the least time from one search to the next that a suspicion
	// begins, since anybody can raise one.
	pathPause = 30 * time.Second
)

// pathSizes are the MTUs that paths have: among them those of Ethernet, PPPoE, tunnels
// over it, mobile networks, and the least ones of IPv6 and IPv4. Gaps are bridged.
var pathSizes = []int{576, 640, 768, 1006, 1152, 1280, 1320, 1358, 1400, 1420, 1440, 1454, 1472, 1480, 1492, 1500}

// PathConn is what a socket of Config.ListenPacket or Config.ListenESP may be, beside
// a net.PacketConn: one that can find out how large datagrams may be. On any other,
// the system's way of handling large datagrams stays as it is, and the path is not
// probed.
type PathConn interface {
	net.PacketConn
	// SetDontFragment forbids that datagrams are fragmented, here or on the way, or
	// allows it. While it is forbidden, sending one that is too large for the link
	// fails.
	SetDontFragment(bool) error
	// OnTooBig has f called whenever a router reports that a datagram to an address
	// was larger than the mtu bytes, IP header included, that it can pass on. That
	// is not authenticated. It must be called before the first datagram is sent.
	OnTooBig(f func(to netip.Addr, mtu int))
}

// dontFragment is a socket's handling of fragmentation.
type dontFragment struct {
	conn PathConn // nil: it is left to the system

	mu  sync.Mutex // held while the setting, which is the socket's, is not as is set
	set bool
}

// forbid sets whether fragmentation is forbidden in general.
func (d *dontFragment) forbid(on bool) error {
	if d.conn == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.conn.SetDontFragment(on)
	if err == nil {
		d.set = on
	}
	return err
}

// fragmentation says whether a datagram may be fragmented.
type fragmentation uint8

const (
	asUsual   fragmentation = iota // as is set for the socket
	allowed                        // better in pieces than not at all
	forbidden                      // better not at all
)

// send calls write with the socket set as this datagram needs it. What goes as usual, as
// nearly all does, does not wait for those that do not: at worst one of these makes it be
// lost, or come in pieces, as any path may. A probe must not: it would prove what is not so.
func (d *dontFragment) send(f fragmentation, write func() error) error {
	if d.conn == nil || f == asUsual {
		return write()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.set == (f == forbidden) {
		return write()
	}
	if err := d.conn.SetDontFragment(f == forbidden); err != nil {
		return err
	}
	defer d.conn.SetDontFragment(d.set)
	return write()
}

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	udpHeaderLen  = 8
)

func (t *transport) ipHeaderLen() int {
	if t.gateway.Is6() {
		return ipv6HeaderLen
	}
	return ipv4HeaderLen
}

// udpSize is the size of a UDP datagram with a payload.
func (t *transport) udpSize(payload int) int { return t.ipHeaderLen() + udpHeaderLen + payload }

// leastPath is what every path to the gateway carries.
func (t *transport) leastPath() int {
	if t.gateway.Is6() {
		return leastPath6
	}
	return leastPath
}

// adopt prepares a socket that may be able to find out the path MTU.
func (t *transport) adopt(d *dontFragment, conn net.PacketConn) {
	var able bool
	if d.conn, able = conn.(PathConn); !able {
		return
	}
	d.conn.OnTooBig(func(to netip.Addr, mtu int) {
		if to.Unmap().WithZone("") == t.gateway.WithZone("") {
			t.tooBig(max(mtu, t.leastPath()))
		}
	})
	t.forbid(d, false) // by default, a system may forbid what it believes to pass
}

func (t *transport) forbid(d *dontFragment, on bool) {
	if err := d.forbid(on); err != nil {
		t.log.Debug("setting whether datagrams may be fragmented", "err", err)
	}
}

// allowedAbove lets datagrams be fragmented that are larger than what the path carries
// whole.
func allowedAbove(size, whole int) fragmentation {
	if size > whole {
		return allowed
	}
	return asUsual
}

// forbidFragments sets whether datagrams that the path carries whole, as far as is
// known, may be fragmented should it not.
func (t *transport) forbidFragments(on bool) {
	for u := range t.sockets {
		t.forbid(&u.fragments, on)
	}
}

// pathSearch narrows down the largest size that passes, by what has passed and what
// has not.
type pathSearch struct {
	round func(size int) int // what a probe of at most that size has
	start int
	least int
	low   int // passes; 0: nothing is known to
	high  int // does not pass; 0: nothing is known not to
}

// next is the size to try, 0 when nothing is left to find out: first what is expected,
// then how far up it goes, or down; then what lies between.
func (p *pathSearch) next() int {
	switch top := p.round(largestPath); {
	case p.low == 0 && p.high == 0:
		return p.round(p.start)
	case p.low == 0:
		for _, size := range []int{leastPath6, p.least} {
			if size = p.round(size); size < p.high {
				return size
			}
		}
		return 0
	case p.high == 0 && p.low < top:
		return top
	case p.high == 0:
		return 0
	}
	var between []int
	for _, size := range pathSizes {
		if size = p.round(size); size > p.low && size < p.high {
			between = append(between, size)
		}
	}
	if len(between) == 0 {
		return 0
	}
	return between[len(between)/2]
}

// pathState is what a session knows of its path.
type pathState struct {
	proven atomic.Int32 // the size that is known to pass; 0: none is yet
	hint   atomic.Int32 // what a router reported since the last search; 0: nothing

	// Owned by the control loop.
	search      *pathSearch // nil: none runs
	sa          *isakmpSA   // that it runs on
	trial       int         // the size that is being tried; 0: none
	tries       int
	first, last uint32    // numbers of its probes
	due         time.Time // of the next probe, or the next search; zero: none is
	began       time.Time // of the last search
}

// size is what the path carries, as far as is known.
func (p *pathState) size() int {
	if proven := int(p.proven.Load()); proven != 0 {
		return proven
	}
	return pathMTU
}

// longestMessage is the longest IKE message that goes in one datagram to a gateway that
// knows fragments: one that the path carries, once that is known.
func (sa *isakmpSA) longestMessage() int {
	if proven := int(sa.s.path.proven.Load()); proven != 0 {
		return min(sa.fragmentAbove, proven-sa.s.transport.udpSize(sa.markerLen()))
	}
	return sa.fragmentAbove
}

// MTU is the largest inner packet that fits the path whole, in bytes. It may be less
// than what a link with IPv6 or even IPv4 must carry: such packets are sent all the
// same, in fragments. Until the path has been probed it is a safe value for paths of
// at least 1,400 bytes. EventMTU tells when it has changed.
func (s *Session) MTU() int {
	size, mtu := s.path.size(), largestPath
	if s.path.proven.Load() == 0 {
		mtu = maxInnerMTU
	}
	path := s.espPath.Load()
	if size -= path.marker; path.raw != nil {
		size += udpHeaderLen
	}
	fit := func(c *childSA) { mtu = min(mtu, c.suite.transform().MaxInner(size, s.transport.gateway.Is6())) }
	for _, c := range *s.outbound.Load() {
		fit(c)
	}
	if c := s.newest.Load(); c != nil {
		fit(c) // while there is none, the next will be like the last
	}
	return mtu
}

// probesPath reports whether the path can be probed at all.
func (s *Session) probesPath() bool {
	return s.sa.caps&capDPD != 0 && s.transport.socket(s.sa.peer.Port()).fragments.conn != nil
}

// beginPath begins with what is assumed of a path, which is probed from due on.
func (s *Session) beginPath(due time.Time) {
	s.transport.forbidFragments(s.probesPath())
	s.path.search, s.path.due = nil, due
}

// doubtPath has the path probed again, since packets are lost.
func (s *Session) doubtPath(now time.Time) {
	if p := &s.path; p.search == nil {
		p.due = later(now, p.began.Add(pathPause))
	}
}

// tooBig takes a report of what a router passes on. It is not authenticated, so it only
// says where to begin to probe.
func (s *Session) tooBig(mtu int) {
	if mtu >= s.path.size() {
		return
	}
	for { // the least of those that wait
		old := s.path.hint.Load()
		if old != 0 && int(old) <= mtu {
			return
		}
		if s.path.hint.CompareAndSwap(old, int32(mtu)) {
			s.wake()
			return
		}
	}
}

// pathDue is when something is to be done about the path; the zero time if nothing is.
// Whether the gateway lives is asked first.
func (s *Session) pathDue() time.Time {
	p := &s.path
	if !s.probesPath() || s.sa.dpd.tries > 0 {
		return time.Time{}
	}
	if suspicious := p.began.Add(pathPause); p.search == nil && p.hint.Load() != 0 && (p.due.IsZero() || suspicious.Before(p.due)) {
		return suspicious
	}
	return p.due
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tendPath goes on with the search, or begins one.
func (s *Session) tendPath(now time.Time) {
	if due := s.pathDue(); due.IsZero() || due.After(now) {
		return
	}
	p := &s.path
	if p.search == nil {
		start := s.path.size()
		if hint := int(p.hint.Swap(0)); hint != 0 {
			start = min(start, hint)
		}
		p.search = &pathSearch{round: s.probeSize, start: start, least: s.transport.leastPath()}
		p.began, p.trial = now, 0
	}
	if p.sa != s.sa {
		p.sa, p.tries = s.sa, 0
	}
	for {
		if p.trial != 0 && p.tries == pathTries {
			p.search.high, p.trial = p.trial, 0
			s.adaptPath()
		}
		if p.trial == 0 {
			if p.trial, p.tries = p.search.next(), 0; p.trial == 0 {
				s.endSearch(now)
				return
			}
		}
		if err := s.probePath(p.trial); err == nil {
			break
		}
		p.tries = pathTries // it does not even fit our own link
	}
	p.due = now.Add(pathInterval)
}

// probeSize is the largest size, up to the one given, that a probe can have: it is
// encrypted in whole blocks.
func (s *Session) probeSize(size int) int {
	fixed := s.transport.udpSize(s.sa.markerLen() + isakmp.HeaderLen)
	return size - (size-fixed)%s.sa.keys.block.BlockSize()
}

// probePath sends R-U-THERE in a datagram of a size, which nobody may fragment.
func (s *Session) probePath(size int) error {
	p, sa := &s.path, s.sa
	if err := sa.nextNumber(); err != nil {
		return err
	}
	mid, err := sa.newMessageID()
	if err != nil {
		return err
	}
	if p.last = sa.dpd.sequence; p.tries == 0 {
		p.first = p.last
	}
	p.tries++
	sa.log.Debug("probing the path", "size", size, "try", p.tries)
	length := size - s.transport.udpSize(sa.markerLen())
	msg := sa.sealFilled(isakmp.Informational, mid, length, sa.withHash(mid, sa.rUThere())...)
	return s.transport.write(sa.marked(msg), sa.peer, forbidden)
}

// pathAnswered notes that the gateway has got the probe of a number.
func (s *Session) pathAnswered(sa *isakmpSA, number uint32) {
	p := &s.path
	if p.search == nil || p.trial == 0 || sa != p.sa || number-p.first > p.last-p.first {
		return
	}
	p.search.low, p.trial = p.trial, 0
	p.due = time.Now()
	s.adaptPath()
}

// adaptPath makes packets smaller as soon as those of the present size are known to be
// lost.
func (s *Session) adaptPath() {
	if p := s.path.search; p.low != 0 && p.high != 0 && p.high <= s.path.size() && p.low < s.path.size() {
		s.setPath(p.low)
	}
}

// endSearch takes over what was found. A gateway that has answered no probe at all may
// lie behind anything: then large packets are better fragmented than lost.
func (s *Session) endSearch(now time.Time) {
	p := &s.path
	found := p.search.low
	p.search, p.due = nil, now.Add(pathRenew)
	switch {
	case found != 0:
		s.transport.forbidFragments(true)
		s.setPath(found)
	case p.proven.Load() == 0:
		s.log.Info("the gateway answers no probes of the path")
		s.transport.forbidFragments(false)
	}
}

func (s *Session) setPath(size int) {
	if int(s.path.proven.Swap(int32(size))) == size {
		return
	}
	s.transport.whole.Store(int32(size))
	s.log.Info("the path carries datagrams", "size", size, "mtu", s.MTU())
	s.event(Event{Kind: EventMTU, Text: fmt.Sprint(s.MTU())})
}
