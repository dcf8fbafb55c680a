package ike

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// Retransmission (RFC 2408 §5.1): the side that waits for an answer resends, at
// growing, jittered intervals. Fixed rapid retries trip gateways' flood limits.
const (
	firstInterval  = 2 * time.Second
	intervalGrowth = 1.6
	intervalJitter = 0.1
	maxTries       = 6
	giveUpAfter    = 60 * time.Second
	// reachInterval bounds the intervals of the first message to a gateway that is lost:
	// once it is back, users do not wait for an interval that has grown. A repetition is no
	// new attempt, it has the same cookie.
	reachInterval = 2500 * time.Millisecond
	// refusedPatience is how much longer to wait once a message that cannot be
	// authenticated has refused the exchange: the true gateway may yet answer.
	refusedPatience = 5 * time.Second
	maxPending      = 8 // messages that came before their keys
	maxReplies      = 8 // answers kept for duplicates
	maxChains       = 64
	// maxSeen bounds the messages that are remembered against replay: at one DPD
	// exchange every ten seconds those of four days.
	maxSeen = 1 << 16
)

// message is a received message whose structure is understood. Whether it is
// authentic is for its exchange to say, except that the HASH of Informational and
// Transaction messages has been verified.
type message struct {
	isakmp.Header
	payloads []isakmp.Payload
	raw      []byte // the datagram (reassembled), to tell duplicates
	plain    []byte // decrypted payloads without padding; nil in clear
	nextIV   []byte // last ciphertext block; nil in clear
}

func (m *message) all(typ isakmp.PayloadType) []isakmp.Payload {
	var out []isakmp.Payload
	for _, p := range m.payloads {
		if p.Type == typ {
			out = append(out, p)
		}
	}
	return out
}

// body returns the body of the first payload of a type, nil if there is none.
func (m *message) body(typ isakmp.PayloadType) []byte {
	for _, p := range m.payloads {
		if p.Type == typ {
			return p.Body
		}
	}
	return nil
}

// afterHash is everything behind the leading HASH payload with generic headers, as
// received and without padding: what the phase-2 hashes cover.
func (m *message) afterHash() []byte { return m.plain[len(m.payloads[0].Raw):] }

func (m *message) String() string {
	return fmt.Sprintf("%v %08x %s", m.Exchange, m.MessageID, isakmp.Describe(m.payloads))
}

// rule says how often a payload may stand in a message.
type rule struct {
	payload  isakmp.PayloadType
	min, max int
}

// checkRules holds a message against its table before anything else looks at it.
// Vendor IDs and notifications may stand anywhere; private payload types that
// nobody knows are passed over.
func checkRules(m *message, encrypted bool, rules []rule) error {
	if m.Encrypted() != encrypted {
		return fmt.Errorf("encrypted is %v, want %v", m.Encrypted(), encrypted)
	}
	count := make(map[isakmp.PayloadType]int)
	for _, p := range m.payloads {
		count[p.Type]++
	}
	for _, r := range rules {
		if n := count[r.payload]; n < r.min || n > r.max {
			return fmt.Errorf("%d %v payloads, want %d to %d", n, r.payload, r.min, r.max)
		}
		delete(count, r.payload)
	}
	for typ := range count {
		switch {
		case typ == isakmp.PayloadVendorID, typ == isakmp.PayloadNotify:
		case typ >= 128 && typ != isakmp.PayloadNATDDraft && typ != isakmp.PayloadNATOADraft && typ != isakmp.PayloadFragment:
		default:
			return fmt.Errorf("unexpected %v payload", typ)
		}
	}
	return nil
}

// What an acceptFunc says about a message, beside nil for "this is the answer".
var errNotMine = errors.New("belongs to another exchange")

// fatalError ends an exchange at once. Only a peer that has proved to hold the keys
// may cause one; anything else is dropped and remembered.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// acceptFunc looks at a message. Nil: it is the answer, and its IV is taken over.
// errNotMine: the default handler gets it. A fatalError ends the exchange. Any
// other error: the message is dropped and remembered for the final error.
type acceptFunc func(*message) error

// roundTrip sends a request, resends it until an answer is accepted, and gives up
// with an error that tells what was seen meanwhile.
func (sa *isakmpSA) roundTrip(ctx context.Context, request []byte, accept acceptFunc) (*message, error) {
	return sa.wait(ctx, request, sa.giveUp, accept)
}

// await waits for a message that the gateway sends of its own accord.
func (sa *isakmpSA) await(ctx context.Context, patience time.Duration, accept acceptFunc) (*message, error) {
	return sa.wait(ctx, nil, patience, accept)
}

func (sa *isakmpSA) wait(ctx context.Context, request []byte, patience time.Duration, accept acceptFunc) (*message, error) {
	r := retransmission{sa: sa, request: request, interval: firstInterval}
	r.reaching = sa.s.dialing() && sa.s.cfg.Reconnect && sa.ckyR.IsZero()
	if request != nil {
		r.send()
	}
	a := awaited{request: &r, accept: accept, ends: time.Now().Add(patience), deadline: time.NewTimer(patience)}
	defer a.deadline.Stop()
	early := sa.pending
	sa.pending = nil
	for i, datagram := range early {
		if m, err := a.offer(datagram); m != nil || err != nil {
			sa.pending = append(early[i+1:], sa.pending...)
			return m, err
		}
	}
	var probe chan struct{}
	if sa.inControl {
		probe = sa.s.probeNow
	}
	for {
		select {
		case <-probe:
			sa.s.networkChanged()
		case datagram := <-sa.inbox:
			if m, err := a.offer(datagram); m != nil || err != nil {
				return m, err
			}
		case <-r.due:
			sa.log.Debug("resending", "step", sa.step, "try", r.tries+1)
			r.send()
		case <-a.deadline.C:
			return nil, sa.silence(a.refusal)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// awaited is the answer to a request, which has not come yet.
type awaited struct {
	request  *retransmission
	accept   acceptFunc
	refusal  error // why the first message was refused that may have been meant as it
	ends     time.Time
	deadline *time.Timer // for ends
}

// offer looks at a datagram. With neither a message nor an error it was something else.
func (a *awaited) offer(datagram []byte) (*message, error) {
	sa := a.request.sa
	sa.resent = false
	m, err := sa.receive(datagram, a.accept)
	if sa.resent {
		a.request.hurry()
	}
	var fatal fatalError
	if errors.As(err, &fatal) {
		return nil, fatal.error
	}
	if sa.gone {
		return nil, errSADeleted
	}
	if err != nil && !errors.Is(err, errDropped) {
		sa.log.Debug("refused a message", "step", sa.step, "err", err)
		if a.refusal == nil {
			a.refusal = err
		}
		if left := time.Until(a.ends); left > sa.afterRefusal {
			a.ends = time.Now().Add(sa.afterRefusal)
			a.deadline.Reset(sa.afterRefusal)
		}
	}
	return m, nil
}

// retransmission is a request that is sent until it is answered.
type retransmission struct {
	sa       *isakmpSA
	request  []byte // nil: there is none, the gateway speaks first
	reaching bool   // the first message to a gateway that is lost: without an end
	tries    int
	hurries  int
	interval time.Duration    // to the next
	due      <-chan time.Time // nil: never again
}

func (r *retransmission) send() {
	r.sa.transmit(r.request)
	r.due = nil
	if r.tries++; r.tries < maxTries || r.reaching {
		r.due = time.After(jittered(r.interval))
		r.interval = time.Duration(float64(r.interval) * intervalGrowth)
	}
	if r.reaching {
		r.interval = min(r.interval, reachInterval)
	}
}

// hurry sends the request at once: the gateway had not got our last answer, so it has
// passed over the request that followed. There is a bound: anybody can send duplicates.
func (r *retransmission) hurry() {
	if r.request != nil && r.hurries < maxTries {
		r.hurries++
		r.sa.transmit(r.request)
	}
}

// errSADeleted ends an exchange whose ISAKMP SA the gateway has deleted, while the
// session goes on with its ESP SAs.
var errSADeleted = errors.New("the gateway deleted the ISAKMP SA")

// silence is the error of an exchange that nobody answered. If something was
// refused meanwhile, that explains more.
func (sa *isakmpSA) silence(refusal error) error {
	var protocol *ProtocolError
	switch {
	case refusal == nil:
		return &NoAnswerError{Step: sa.step, Gateway: sa.peer.String(), Hint: sa.s.hint()}
	case isTyped(refusal):
		return refusal
	case errors.As(refusal, &protocol):
		return protocol
	}
	return &ProtocolError{Step: sa.step, Detail: "its answer was refused", Err: refusal}
}

// isTyped tells the package's own error types, whose text needs no frame.
func isTyped(err error) bool {
	var (
		refused  *RefusedError
		trust    *TrustError
		weak     *WeakError
		redirect *redirectError
	)
	return errors.As(err, &refused) || errors.As(err, &trust) || errors.As(err, &weak) || errors.As(err, &redirect)
}

func jittered(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*intervalJitter*float64(d))
}

// errDropped marks messages that say nothing about the exchange that waits:
// duplicates, strays, noise, and those that the default handler took.
var errDropped = errors.New("dropped")

func dropped(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDropped, fmt.Sprintf(format, args...))
}

// receive takes a datagram through duplicate detection, decoding, the state gate
// and accept, and commits its IV when accepted. What accept does not want goes to
// the default handler. It returns the accepted message, if this was it.
func (sa *isakmpSA) receive(datagram []byte, accept acceptFunc) (*message, error) {
	m, err := sa.decode(datagram)
	if err != nil {
		sa.log.Debug("dropped a message", "err", err)
		if sa.s.method.psk && sa.state == stateNew && errors.Is(err, errUndecryptable) {
			// The keys come from the secret (RFC 2409 §5).
			return nil, &TrustError{Step: sa.step, Reason: TrustSecret, Detail: "what it sends does not decrypt: it knows another secret of the group"}
		}
		return nil, dropped("%v", err)
	}
	if m == nil {
		return nil, nil // a fragment, a duplicate, or too early
	}
	sa.log.Debug("parsed " + m.String())
	sa.trace(traceReceived, m.Exchange, m.MessageID, m.Encrypted(), m.payloads)
	if m.Exchange == isakmp.Informational && (!m.Encrypted() || sa.state == stateNew) {
		return nil, sa.unauthenticated(m)
	}
	if !sa.permits(m.Exchange) {
		return nil, dropped("%v in state %v", m.Exchange, sa.state)
	}
	if accept != nil {
		switch err = accept(m); {
		case err == nil:
			sa.commit(m)
			if m.Encrypted() { // what came in the clear proves nothing yet
				sa.s.heard()
			}
			return m, nil
		case !errors.Is(err, errNotMine):
			return nil, err
		}
	}
	return nil, sa.handle(m)
}

// decode parses a datagram and decrypts it with a copy of the IV. It returns nil
// without an error if there is nothing to look at yet or any more.
func (sa *isakmpSA) decode(datagram []byte) (*message, error) {
	h, body, err := isakmp.ParseHeader(datagram)
	if err != nil {
		return nil, err
	}
	hint := h.Exchange == isakmp.Informational && !h.Encrypted() // a refusal may come without CKY-R
	if h.CKYI != sa.ckyI || !sa.ckyR.IsZero() && h.CKYR != sa.ckyR && !hint {
		return nil, errors.New("cookies of another SA")
	}
	if h.NextPayload == isakmp.PayloadFragment {
		return sa.reassemble(h, body)
	}
	if sa.resendReply(datagram) || sa.seen(body) {
		return nil, nil
	}
	m := &message{Header: h, raw: datagram}
	if !h.Encrypted() {
		var rest []byte
		m.payloads, rest, err = isakmp.ParsePayloads(h.NextPayload, body)
		if err == nil && len(rest) > 0 && !isFill(body, rest) {
			err = fmt.Errorf("%d bytes after the last payload", len(rest))
		}
		return m, err
	}
	// M-ID is 0 in phase 1 and nowhere else (RFC 2408 §3.1). A later message with
	// 0 would go without a HASH.
	if phase1 := h.Exchange == isakmp.MainMode || h.Exchange == isakmp.AggressiveMode; phase1 != (h.MessageID == 0) {
		return nil, fmt.Errorf("%v with message ID %08x", h.Exchange, h.MessageID)
	}
	if sa.keys == nil || sa.state == stateNew && h.MessageID != 0 && h.Exchange != isakmp.Informational {
		if len(sa.pending) < maxPending {
			sa.pending = append(sa.pending, datagram)
		}
		return nil, nil
	}
	return sa.decrypt(m, body)
}

// isFill reports whether what follows the last payload of a cleartext message are the
// zeros with which Libreswan and Openswan fill it up to a multiple of four bytes.
func isFill(body, rest []byte) bool {
	return len(rest) < 4 && len(body)%4 == 0 && bytes.Count(rest, []byte{0}) == len(rest)
}

// reassemble adds a fragment and decodes the message that it completes. The outer
// header counts for nothing but its cookies.
func (sa *isakmpSA) reassemble(outer isakmp.Header, body []byte) (*message, error) {
	ps, _, err := isakmp.ParsePayloads(outer.NextPayload, body)
	if err != nil {
		return nil, err
	}
	f, err := isakmp.ParseFragment(ps[0].Body)
	if err != nil {
		return nil, err
	}
	whole, err := sa.fragments.add(f, time.Now())
	if whole == nil || err != nil {
		return nil, err
	}
	h, _, err := isakmp.ParseHeader(whole)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reassembled: %w", err)
	case h.NextPayload == isakmp.PayloadFragment || h.CKYI != outer.CKYI || h.CKYR != outer.CKYR || int(h.Length) != len(whole):
		return nil, errors.New("reassembled message contradicts its fragments")
	}
	return sa.decode(whole)
}

// decrypt tries the IVs that the message may have been made with. A phase-1 message
// is taken as it is; any later one must begin with HASH, and where the HASH needs
// no nonces it must verify.
func (sa *isakmpSA) decrypt(m *message, ciphertext []byte) (*message, error) {
	bs := sa.keys.block.BlockSize()
	if len(ciphertext) == 0 || len(ciphertext)%bs != 0 {
		return nil, fmt.Errorf("%d bytes of ciphertext", len(ciphertext))
	}
	m.nextIV = slices.Clone(ciphertext[len(ciphertext)-bs:])
	var last error
	for _, c := range sa.ivs(m) {
		plain := make([]byte, len(ciphertext))
		cipher.NewCBCDecrypter(sa.keys.block, c.iv).CryptBlocks(plain, ciphertext)
		ps, rest, err := isakmp.ParsePayloads(m.NextPayload, plain)
		if err == nil {
			m.payloads, m.plain = ps, plain[:len(plain)-len(rest)]
			err = sa.checkHash(m)
		}
		if err == nil {
			if c.rule != "" {
				sa.log.Debug("decrypted", "mid", fmt.Sprintf("%08x", m.MessageID), "iv", c.rule)
			}
			return m, nil
		}
		last = err
	}
	return nil, fmt.Errorf("%w: %w", errUndecryptable, last)
}

// errUndecryptable marks messages that make no sense when decrypted.
var errUndecryptable = errors.New("does not decrypt")

type ivCandidate struct {
	rule string // for the log, where there is a choice
	iv   []byte
}

// ivs lists the IVs to try. Phase 1 has one chain (RFC 2409 Appendix B). Later
// messages chain within their message ID, Informational ones never. Gateways differ
// over Transactions: most derive the IV, some reuse a message ID and go on with its
// chain, old Openswan starts from the last phase-1 block itself.
func (sa *isakmpSA) ivs(m *message) []ivCandidate {
	if m.MessageID == 0 {
		return []ivCandidate{{"", sa.phase1IV}}
	}
	derived := ivCandidate{"derived", derivedIV(sa.keys.hash, sa.phase1IV, m.MessageID)}
	chained, known := sa.chains[m.MessageID]
	switch {
	case m.Exchange == isakmp.Transaction && known:
		return []ivCandidate{{"chained", chained}, derived, {"last phase-1 block", sa.phase1IV}}
	case m.Exchange == isakmp.Transaction:
		return []ivCandidate{derived, {"last phase-1 block", sa.phase1IV}}
	case m.Exchange == isakmp.QuickMode && known:
		return []ivCandidate{{"", chained}}
	}
	derived.rule = ""
	return []ivCandidate{derived}
}

// checkHash verifies HASH = prf(SKEYID_a, M-ID | rest) of Informational and
// Transaction messages, and that HASH comes first wherever it must.
func (sa *isakmpSA) checkHash(m *message) error {
	if m.MessageID == 0 {
		return nil // phase 1 is authenticated by its own exchange
	}
	if len(m.payloads) == 0 || m.payloads[0].Type != isakmp.PayloadHash {
		return errors.New("no HASH in front")
	}
	if m.Exchange == isakmp.QuickMode {
		return nil // HASH(1) to HASH(3) are for the exchange to verify
	}
	if !hmac.Equal(m.payloads[0].Body, sa.keys.hash1(m.MessageID, m.afterHash())) {
		return errors.New("wrong HASH")
	}
	return nil
}

// commit takes over the IV of a message that has been verified.
func (sa *isakmpSA) commit(m *message) {
	sa.remember(m.raw)
	if m.nextIV == nil {
		return
	}
	switch {
	case m.MessageID == 0:
		sa.phase1IV = m.nextIV
	case m.Exchange != isakmp.Informational:
		sa.setChain(m.MessageID, m.nextIV)
	}
}

func (sa *isakmpSA) setChain(mid uint32, iv []byte) {
	if _, known := sa.chains[mid]; !known {
		if sa.chainOrder = append(sa.chainOrder, mid); len(sa.chainOrder) > maxChains {
			delete(sa.chains, sa.chainOrder[0]) // its exchange is over long before
			sa.chainOrder = sa.chainOrder[1:]
		}
	}
	sa.chains[mid] = iv
}

// seal encrypts payloads and returns the whole message. The chain advances, so a
// message is sealed once and resent byte for byte.
func (sa *isakmpSA) seal(exchange isakmp.ExchangeType, mid uint32, ps ...isakmp.Payload) []byte {
	return sa.sealFilled(exchange, mid, 0, ps...)
}

// sealFilled is seal with zeros behind the last payload, for a message of at least
// size bytes.
func (sa *isakmpSA) sealFilled(exchange isakmp.ExchangeType, mid uint32, size int, ps ...isakmp.Payload) []byte {
	iv := sa.phase1IV
	if mid != 0 {
		var ok bool
		if iv, ok = sa.chains[mid]; !ok || exchange == isakmp.Informational {
			iv = derivedIV(sa.keys.hash, sa.phase1IV, mid)
		}
	}
	bs := sa.keys.block.BlockSize()
	plain := isakmp.AppendPayloads(nil, ps...)
	defer clear(plain) // a login may be in it
	n := max(len(plain), size-isakmp.HeaderLen)
	body := make([]byte, (n+bs-1)/bs*bs)
	copy(body, plain)
	cipher.NewCBCEncrypter(sa.keys.block, iv).CryptBlocks(body, body)
	last := slices.Clone(body[len(body)-bs:])
	switch {
	case mid == 0:
		sa.phase1IV = last
	case exchange != isakmp.Informational:
		sa.setChain(mid, last)
	}
	sa.log.Debug(fmt.Sprintf("generating %v %08x %s", exchange, mid, isakmp.Describe(ps)))
	sa.trace(traceSent, exchange, mid, true, ps)
	h := sa.header(exchange, mid)
	h.Flags, h.NextPayload = isakmp.FlagEncrypted, isakmp.FirstType(ps)
	h.Length = uint32(isakmp.HeaderLen + len(body))
	msg := append(h.Append(nil), body...)
	sa.remember(msg)
	return msg
}

// sealHashed is seal with HASH(1) in front, as Informational, Transaction and the
// first Quick Mode message have it.
func (sa *isakmpSA) sealHashed(exchange isakmp.ExchangeType, mid uint32, ps ...isakmp.Payload) []byte {
	return sa.seal(exchange, mid, sa.withHash(mid, ps...)...)
}

// withHash puts HASH(1) in front of payloads.
func (sa *isakmpSA) withHash(mid uint32, ps ...isakmp.Payload) []isakmp.Payload {
	rest := isakmp.AppendPayloads(nil, ps...)
	hash := sa.keys.hash1(mid, rest)
	clear(rest)
	return append([]isakmp.Payload{{Type: isakmp.PayloadHash, Body: hash}}, ps...)
}

// clear makes a cleartext phase-1 message.
func (sa *isakmpSA) clear(exchange isakmp.ExchangeType, ps ...isakmp.Payload) []byte {
	sa.log.Debug(fmt.Sprintf("generating %v 0 %s", exchange, isakmp.Describe(ps)))
	sa.trace(traceSent, exchange, 0, false, ps)
	return isakmp.AppendMessage(nil, sa.header(exchange, 0), ps...)
}

func (sa *isakmpSA) header(exchange isakmp.ExchangeType, mid uint32) isakmp.Header {
	return isakmp.Header{CKYI: sa.ckyI, CKYR: sa.ckyR, Version: isakmp.Version1, Exchange: exchange, MessageID: mid}
}

// transmit sends a message, in fragments if it is long and the gateway has said
// that it knows them.
func (sa *isakmpSA) transmit(msg []byte) {
	able := sa.caps&capFragmentation != 0 || sa.has(quirkFragmentFirst)
	if !able || sa.has(quirkNoFragments) || len(msg) <= sa.longestMessage() {
		sa.transmitDatagram(msg)
		return
	}
	h, _, err := isakmp.ParseHeader(msg)
	if err != nil {
		panic("ike: own message does not parse: " + err.Error())
	}
	for _, f := range splitMessage(msg, h, maxFragmentDatagram) {
		sa.transmitDatagram(f)
	}
}

func (sa *isakmpSA) transmitDatagram(b []byte) { sa.s.transport.send(sa.marked(b), sa.peer) }

// marked puts the non-ESP marker in front of a message, where it needs one.
func (sa *isakmpSA) marked(b []byte) []byte {
	return append(make([]byte, sa.markerLen(), sa.markerLen()+len(b)), b...)
}

func (sa *isakmpSA) markerLen() int {
	if sa.peer.Port() == portIKE {
		return 0
	}
	return nonESPMarkerLen
}

// reply sends the last message of an exchange. It is not resent by a timer but
// when the message that it answers comes again, byte for byte: else two peers that
// both resend would echo for ever.
func (sa *isakmpSA) reply(to *message, msg []byte) {
	if len(sa.replies) == maxReplies {
		sa.replies = slices.Delete(sa.replies, 0, 1)
	}
	sa.replies = append(sa.replies, storedReply{sha256.Sum256(to.raw), msg})
	sa.transmit(msg)
}

type storedReply struct {
	to  [sha256.Size]byte
	msg []byte
}

// knownSeed keeps others from making messages that look alike.
var knownSeed = maphash.MakeSeed()

// remember notes a message that was obeyed, or that is our own, by its body: what
// stands in the header but the message ID, which HASH and IV depend on, is not
// authenticated. An SA that has seen too many is renewed.
func (sa *isakmpSA) remember(msg []byte) {
	if len(sa.known) >= maxSeen {
		sa.reauthAt = time.Now()
		return
	}
	if sa.known == nil {
		sa.known = make(map[uint64]struct{})
	}
	sa.known[maphash.Bytes(knownSeed, msg[isakmp.HeaderLen:])] = struct{}{}
}

// seen reports whether a message was obeyed before or is our own, sent back to us: a
// HASH is the same in both directions. Neither is an answer, a refusal, or a sign of
// life.
func (sa *isakmpSA) seen(body []byte) bool {
	if len(sa.known) >= maxSeen {
		return true
	}
	_, known := sa.known[maphash.Bytes(knownSeed, body)]
	return known
}

// resendReply answers a duplicate as its original was answered.
func (sa *isakmpSA) resendReply(datagram []byte) bool {
	if len(sa.replies) == 0 {
		return false
	}
	sum := sha256.Sum256(datagram)
	for i, r := range sa.replies {
		if r.to == sum {
			sa.log.Debug("resending the answer to a duplicate")
			sa.transmit(r.msg)
			sa.resent = i == len(sa.replies)-1
			return true
		}
	}
	return false
}
