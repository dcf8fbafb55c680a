package gateway

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"wayfarer/ike/isakmp"
)

// saState is how far an ISAKMP SA has come.
//
//	waitFirst -MM1-> waitMM3 -MM3-> waitMM5 -MM5-> waitXAuth -STATUS acked-> ready
//	    \------AM1-----------------> waitAM3 -AM3----^  \---no XAUTH----------^
type saState uint8

const (
	waitFirst saState = iota
	waitMM3
	waitMM5
	waitAM3
	waitXAuth
	ready
)

func (s saState) String() string {
	return [...]string{
		"waiting for MM1 or AM1", "waiting for MM3", "waiting for MM5", "waiting for AM3",
		"waiting for XAUTH", "ready",
	}[s]
}

// sa is an ISAKMP SA. Owned by the gateway's loop.
type sa struct {
	gw      *Gateway
	log     *slog.Logger
	begun   beginning
	path    path // of the last authenticated packet
	state   saState
	created time.Time
	timer   *timer // end of the half-open time, then of the lifetime

	ckyI, ckyR isakmp.Cookie
	exchange   isakmp.ExchangeType
	suite      ikeSuite
	lifetime   time.Duration
	method     *authMethod
	saiBody    []byte // SAi_b, as received
	gxi, gxr   []byte // KE bodies
	ni, nr     []byte
	idiBody    []byte // IDii_b, as received
	askedCert  bool   // the client sent a CERTREQ
	keys       phase1Keys
	block      cipher.Block
	phase1IV   chain

	peer struct { // what the client's vendor IDs announced
		dpd, fragments, unity, xauth bool
	}
	natt                  *natVariant // agreed; nil: none
	clientNAT, gatewayNAT bool
	initialContact        bool

	chains     map[uint32]*chain // IVs by M-ID
	chainOrder []uint32
	replies    replies
	answer     [][]byte            // of the message being handled
	requests   map[uint32]*request // ours that wait for an answer, by M-ID
	assembly   assembly

	xauth    xauth
	user     string
	renewal  bool       // of an older SA, without sign-in
	deaf     int        // requests for settings that were not heard
	address  netip.Addr // given by Mode-Config; invalid: none
	address6 netip.Addr
	pushMID  uint32
	pushed   func() // what follows when the settings were acknowledged

	quick    map[uint32]*quickMode // exchanges under way, by M-ID
	children []*child              // oldest first

	heard    time.Time // the last authenticated packet
	dpdTimer *timer
	dpdSeq   uint32
	dpdOpen  int // probes without an answer
}

// receive handles a datagram for this SA.
func (s *sa) receive(d datagram, h isakmp.Header, body []byte) {
	if h.NextPayload == isakmp.PayloadFragment {
		if whole := s.assembly.add(s.gw, h, body); whole != nil {
			s.receiveWhole(datagram{d.path, whole})
		}
		return
	}
	s.handle(d, h, body)
}

// receiveWhole handles a message that was put together from fragments.
func (s *sa) receiveWhole(d datagram) {
	h, body, err := isakmp.ParseHeader(d.data)
	switch {
	case err != nil:
		s.log.Debug("dropped a message made of fragments", "reason", err)
	case h.CKYI != s.ckyI || h.CKYR != s.ckyR && !h.CKYR.IsZero() || h.NextPayload == isakmp.PayloadFragment:
		s.log.Debug("dropped a message made of fragments", "reason", "its header does not fit")
	default:
		d.data = d.data[:h.Length]
		s.handle(d, h, body)
	}
}

// handle answers a duplicate as before, and hands any other message to its exchange.
// A message that an exchange refuses changes nothing.
func (s *sa) handle(d datagram, h isakmp.Header, body []byte) {
	if answer, duplicate := s.replies.find(d.data); duplicate {
		s.log.Debug("received a duplicate", "exchange", h.Exchange, "mid", h.MessageID)
		s.transmitTo(d.path, answer)
		return
	}
	s.answer = nil
	var err error
	switch h.Exchange {
	case isakmp.MainMode, isakmp.AggressiveMode:
		err = s.receivePhase1(d.path, h, body)
	case isakmp.Transaction:
		err = s.receivePhase2(d.path, h, body, s.transaction)
	case isakmp.QuickMode:
		err = s.receivePhase2(d.path, h, body, s.quickMode)
	case isakmp.Informational:
		err = s.receivePhase2(d.path, h, body, s.informational)
	default:
		err = fmt.Errorf("exchange %v", h.Exchange)
	}
	if err != nil {
		s.log.Debug("refused a message", "exchange", h.Exchange, "mid", h.MessageID, "state", s.state, "reason", err)
		return
	}
	s.replies.keep(d.data, s.answer)
}

// receivePhase2 decrypts a message of any exchange after phase 1. The handler
// checks the HASH by calling accept before it changes anything.
func (s *sa) receivePhase2(p path, h isakmp.Header, body []byte, handler func(*received) error) error {
	if s.state < waitXAuth {
		return errors.New("phase 1 is not complete")
	}
	if !h.Encrypted() {
		return errEncrypted
	}
	o, err := s.open(h, body, s.receivedIV(h))
	if err != nil {
		return err
	}
	return handler(&received{sa: s, path: p, header: h, opened: o})
}

// received is a decrypted message whose HASH has not been checked yet.
type received struct {
	*opened
	sa     *sa
	path   path
	header isakmp.Header
}

// accept makes the message ours after its HASH was found right: the chain of IVs
// and the client's address move on.
func (r *received) accept(step Step) {
	s := r.sa
	if r.header.Exchange != isakmp.Informational {
		s.keepChain(r.header.MessageID, &chain{r.next})
	}
	s.hear(r.path)
	s.logReceived(step, r.header, r.payloads)
}

// hear notes an authenticated packet, which shows where the client is
// (RFC 3948 §4, changed addresses).
func (s *sa) hear(p path) {
	s.heard = time.Now()
	s.dpdOpen = 0
	if p != s.path {
		s.log.Info("the client moved", "from", s.path.peer, "to", p.peer)
		s.path = p
	}
}

func (s *sa) logReceived(step Step, h isakmp.Header, ps []isakmp.Payload) {
	s.log.Debug(fmt.Sprintf("parsed %v %d %s", h.Exchange, h.MessageID, isakmp.Describe(ps)), "step", step)
	if s.gw.cfg.Received != nil {
		s.gw.cfg.Received(&Message{Step: step, Header: h, Payloads: ps})
	}
}

// header starts a message of ours.
func (s *sa) header(exchange isakmp.ExchangeType, mid uint32, encrypted bool) isakmp.Header {
	h := isakmp.Header{CKYI: s.ckyI, CKYR: s.ckyR, Version: isakmp.Version1, Exchange: exchange, MessageID: mid}
	if encrypted {
		h.Flags = isakmp.FlagEncrypted
	}
	return h
}

func (s *sa) transmit(raws [][]byte) { s.transmitTo(s.path, raws) }

// transmitTo sends messages, in fragments where they are long.
func (s *sa) transmitTo(p path, raws [][]byte) {
	for _, raw := range raws {
		limit := s.gw.cfg.FragmentSize
		if p.sock.NonESP {
			limit -= len(nonESPMarker)
		}
		datagrams := [][]byte{raw}
		if s.peer.fragments && limit > 0 && len(raw) > limit {
			datagrams = fragment(s, raw, limit)
		}
		for _, d := range datagrams {
			if p.sock.NonESP {
				d = append([]byte(nonESPMarker), d...)
			}
			p.send(s.log, d)
		}
	}
}

func (p path) send(log *slog.Logger, datagram []byte) {
	var to net.Addr = net.UDPAddrFromAddrPort(p.peer)
	if p.sock.Raw {
		to = &net.IPAddr{IP: p.peer.Addr().AsSlice()}
	}
	if _, err := p.sock.Conn.WriteTo(datagram, to); err != nil {
		log.Debug("could not send", "to", p.peer, "reason", err)
	}
}

// localAddr is the address of ours that the client sent to. For a socket that is
// bound to no address, it is the one that the system would send from.
func (p path) localAddr() netip.AddrPort {
	local := p.sock.local
	if !local.Addr().IsUnspecified() {
		return local
	}
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.peer)) // sends nothing
	if err != nil {
		return local
	}
	defer probe.Close()
	return netip.AddrPortFrom(unmap(probe.LocalAddr().(*net.UDPAddr).AddrPort()).Addr(), local.Port())
}

// established opens the gate to Mode-Config and Quick Mode.
func (s *sa) established() {
	s.state = ready
	s.timer.stop()
	s.timer = s.gw.after(time.Until(s.created.Add(s.lifetime)), func() { s.end("its lifetime is over") })
	s.log.Info("client signed in", "user", s.user, "peer", s.path.peer, "suite", s.suite)
	if s.initialContact {
		s.gw.dropOthers(s)
	}
	if s.peer.dpd && s.gw.cfg.DPD > 0 {
		s.scheduleDPD(s.gw.cfg.DPD)
	}
	if s.gw.cfg.Push {
		s.pushSettings(func() {})
	}
}

// dropOthers believes INITIAL-CONTACT: the client knows of no older SA
// (RFC 2407 §4.6.3.3).
func (g *Gateway) dropOthers(s *sa) {
	for _, other := range g.sas {
		if other != s && other.state == ready && other.user == s.user && other.path.peer.Addr() == s.path.peer.Addr() {
			other.drop("the client began anew")
		}
	}
}

// end takes leave: Delete for every ESP SA, then for the ISAKMP SA
// (RFC 2408 §3.15).
func (s *sa) end(reason string) {
	if s.state >= waitXAuth {
		for _, c := range s.children {
			s.sendDelete(isakmp.ProtoESP, midBytes(c.in.SPI()))
		}
		s.sendDelete(isakmp.ProtoISAKMP, append(s.ckyI[:], s.ckyR[:]...))
	}
	s.drop(reason)
}

// drop forgets the SA and everything under it.
func (s *sa) drop(reason string) {
	g := s.gw
	if g.sas[cookies{s.ckyI, s.ckyR}] != s {
		return
	}
	s.log.Info("SA ended", "user", s.user, "reason", reason)
	delete(g.sas, cookies{s.ckyI, s.ckyR})
	delete(g.begun, s.begun)
	s.timer.stop()
	s.dpdTimer.stop()
	for _, r := range s.requests {
		r.timer.stop()
	}
	for len(s.children) > 0 {
		s.children[0].remove()
	}
	g.pool.release(s)
}
