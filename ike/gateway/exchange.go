package gateway

import (
	"crypto/sha256"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// chain is the run of initialisation vectors inside one M-ID (RFC 2409 Appendix B).
type chain struct{ iv []byte }

// chain finds the IVs for a message; those of an unknown M-ID are derived from the
// last block of phase 1. An Informational is never chained.
func (s *sa) chain(h isakmp.Header) *chain {
	if phase1(h) {
		return &s.phase1IV
	}
	if c := s.chains[h.MessageID]; c != nil && h.Exchange != isakmp.Informational {
		return c
	}
	c := &chain{iv: s.suite.hash.hash.exchangeIV(s.phase1IV.iv, h.MessageID, s.block.BlockSize())}
	if h.Exchange != isakmp.Informational {
		s.keepChain(h.MessageID, c)
	}
	return c
}

// keepChain remembers a chain and forgets the oldest.
func (s *sa) keepChain(mid uint32, c *chain) {
	if s.chains[mid] == nil {
		if len(s.chainOrder) == maxExchanges {
			delete(s.chains, s.chainOrder[0])
			s.chainOrder = slices.Delete(s.chainOrder, 0, 1)
		}
		s.chainOrder = append(s.chainOrder, mid)
	}
	s.chains[mid] = c
}

// forgetChain has the IV of a message ID derived again.
func (s *sa) forgetChain(mid uint32) {
	delete(s.chains, mid)
	s.chainOrder = slices.DeleteFunc(s.chainOrder, func(m uint32) bool { return m == mid })
}

// receivedIV is the IV with which a message is decrypted. It makes no chain: who
// sends the message is not known yet.
func (s *sa) receivedIV(h isakmp.Header) []byte {
	if c := s.chains[h.MessageID]; c != nil && h.Exchange != isakmp.Informational {
		return c.iv
	}
	return s.suite.hash.hash.exchangeIV(s.phase1IV.iv, h.MessageID, s.block.BlockSize())
}

// replies remembers what was answered to which datagram, so that a duplicate gets
// the same bytes again and moves no IV.
type replies struct {
	known map[[sha256.Size]byte][][]byte
	order [][sha256.Size]byte
}

func (r *replies) find(raw []byte) (answer [][]byte, duplicate bool) {
	answer, duplicate = r.known[sha256.Sum256(raw)]
	return answer, duplicate
}

func (r *replies) keep(raw []byte, answer [][]byte) {
	if r.known == nil {
		r.known = make(map[[sha256.Size]byte][][]byte)
	}
	if len(r.order) == maxReplies {
		delete(r.known, r.order[0])
		r.order = slices.Delete(r.order, 0, 1)
	}
	sum := sha256.Sum256(raw)
	r.known[sum] = answer
	r.order = append(r.order, sum)
}

// respond sends the answer to the message that is being handled.
func (s *sa) respond(m *Message) {
	raws := s.build(m)
	s.answer = append(s.answer, raws...)
	s.transmit(raws)
}

// notify sends a message that nobody answers.
func (s *sa) notify(m *Message) { s.transmit(s.build(m)) }

// request is a message of ours that is repeated until it is answered.
type request struct {
	raws   [][]byte
	tries  int
	wait   time.Duration
	timer  *timer
	failed func()
}

// request sends m until done is called for its M-ID; failed is called when no
// answer came.
func (s *sa) request(m *Message, failed func()) { s.insist(m.Header.MessageID, s.build(m), failed) }

// respondSecond is respond for the second of three messages. It is repeated until
// done is called for its M-ID: only we wait for the third (strongSwan does the same).
func (s *sa) respondSecond(m *Message) {
	raws := s.build(m)
	s.answer = append(s.answer, raws...)
	s.insist(m.Header.MessageID, raws, func() {})
}

func (s *sa) insist(mid uint32, raws [][]byte, failed func()) {
	r := &request{raws: raws, wait: retransmitFirst, failed: failed}
	s.requests[mid] = r
	s.transmit(r.raws)
	if !s.gw.cfg.Quirks.NoRetransmission {
		s.repeat(mid, r)
	}
}

func (s *sa) repeat(mid uint32, r *request) {
	r.timer = s.gw.after(r.wait, func() {
		if r.tries == retransmitTries {
			delete(s.requests, mid)
			r.failed()
			return
		}
		r.tries++
		r.wait = time.Duration(float64(r.wait) * retransmitGrowth)
		s.gw.log.Debug("sending retransmit", "number", r.tries, "sa", s.ckyI)
		s.transmit(r.raws)
		s.repeat(mid, r)
	})
}

// done ends the repetition of a request. It reports whether there was one.
func (s *sa) done(mid uint32) bool {
	r := s.requests[mid]
	if r == nil {
		return false
	}
	r.timer.stop()
	delete(s.requests, mid)
	return true
}
