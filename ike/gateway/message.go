package gateway

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"wayfarer/ike/isakmp"
)

// Step names a message by its place in its exchange.
type Step string

// Steps. Quick Mode's carry the same names whichever side begins.
const (
	MM1 Step = "MM1"
	MM2 Step = "MM2"
	MM3 Step = "MM3"
	MM4 Step = "MM4"
	MM5 Step = "MM5"
	MM6 Step = "MM6"
	AM1 Step = "AM1"
	AM2 Step = "AM2"
	AM3 Step = "AM3"

	XAuthRequest Step = "XAUTH REQUEST"
	XAuthReply   Step = "XAUTH REPLY"
	XAuthSet     Step = "XAUTH SET"
	XAuthAck     Step = "XAUTH ACK"

	ConfigRequest Step = "CONFIG REQUEST"
	ConfigReply   Step = "CONFIG REPLY"
	ConfigSet     Step = "CONFIG SET"
	ConfigAck     Step = "CONFIG ACK"

	QM1 Step = "QM1"
	QM2 Step = "QM2"
	QM3 Step = "QM3"

	Notify Step = "NOTIFY" // DPD included
	Delete Step = "DELETE"
)

// Message is a message of a client or to one, decoded.
type Message struct {
	Step   Step
	Header isakmp.Header // NextPayload and Length are filled in when it is sent
	// Payloads are in clear. Those of an encrypted message after phase 1 lack the
	// HASH payload, which is computed over what a hook leaves here.
	Payloads []isakmp.Payload
	// Hash, if a hook sets it, is given the right HASH and returns the one that
	// is sent; nil is sent as no HASH payload at all.
	Hash func(right []byte) []byte
	// Raw, if a hook sets it, is sent as it is, without the non-ESP marker,
	// instead of everything else here.
	Raw []byte

	niBody []byte // of Quick Mode, enters HASH(2)
	nrBody []byte // of Quick Mode, enters HASH(3)
}

// Payload is the body of the first payload of the given type, nil if there is none.
func (m *Message) Payload(t isakmp.PayloadType) []byte {
	for _, p := range m.Payloads {
		if p.Type == t {
			return p.Body
		}
	}
	return nil
}

// Replace sets the body of the first payload of the given type. It reports whether
// there was one.
func (m *Message) Replace(t isakmp.PayloadType, body []byte) bool {
	for i := range m.Payloads {
		if m.Payloads[i].Type == t {
			m.Payloads[i] = isakmp.Payload{Type: t, Body: body}
			return true
		}
	}
	return false
}

// Remove takes out all payloads of the given type.
func (m *Message) Remove(t isakmp.PayloadType) {
	var kept []isakmp.Payload
	for _, p := range m.Payloads {
		if p.Type != t {
			kept = append(kept, p)
		}
	}
	m.Payloads = kept
}

// Add appends a payload.
func (m *Message) Add(t isakmp.PayloadType, body []byte) {
	m.Payloads = append(m.Payloads, isakmp.Payload{Type: t, Body: body})
}

// only takes the payloads of one type.
func only(ps []isakmp.Payload, t isakmp.PayloadType) (bodies [][]byte) {
	for _, p := range ps {
		if p.Type == t {
			bodies = append(bodies, p.Body)
		}
	}
	return bodies
}

// phase1 reports whether the message belongs to phase 1, which has one chain of IVs
// and no HASH over the message.
func phase1(h isakmp.Header) bool {
	return h.Exchange == isakmp.MainMode || h.Exchange == isakmp.AggressiveMode
}

// build lets the hook change m and writes what is to be sent.
func (s *sa) build(m *Message) [][]byte {
	messages := []*Message{m}
	if s.gw.cfg.Hook != nil {
		messages = s.gw.cfg.Hook(m)
	}
	var raws [][]byte
	for _, m := range messages {
		s.gw.log.Debug(fmt.Sprintf("generating %v %d %s", m.Header.Exchange, m.Header.MessageID, isakmp.Describe(m.Payloads)),
			"step", m.Step, "sa", s.ckyI)
		raws = append(raws, s.encode(m))
	}
	return raws
}

// encode writes m, hashed and encrypted if its header says so.
func (s *sa) encode(m *Message) []byte {
	if m.Raw != nil {
		return m.Raw
	}
	if !m.Header.Encrypted() || s.block == nil { // a hook may want it before there are keys
		raw := isakmp.AppendMessage(nil, m.Header, m.Payloads...)
		for s.gw.cfg.Quirks.PadMessages && len(raw)%4 != 0 {
			raw = append(raw, 0)
			binary.BigEndian.PutUint32(raw[isakmp.HeaderLen-4:], uint32(len(raw)))
		}
		return raw
	}
	payloads := m.Payloads
	if !phase1(m.Header) {
		if hash := s.hash(m); hash != nil {
			payloads = append([]isakmp.Payload{{Type: isakmp.PayloadHash, Body: hash}}, payloads...)
		}
	}
	chain := s.chain(m.Header)
	body := isakmp.AppendPayloads(nil, payloads...)
	body = s.pad(body)
	cipher.NewCBCEncrypter(s.block, chain.iv).CryptBlocks(body, body)
	if len(body) > 0 {
		chain.iv = body[len(body)-s.block.BlockSize():]
	}
	h := m.Header
	h.NextPayload, h.Length = isakmp.FirstType(payloads), uint32(isakmp.HeaderLen+len(body))
	return append(h.Append(nil), body...)
}

// pad fills up to the cipher's block size (RFC 2409 Appendix B).
func (s *sa) pad(body []byte) []byte {
	size := s.block.BlockSize()
	if s.gw.cfg.Quirks.RandomPadding {
		padding := make([]byte, size-len(body)%size)
		s.gw.random(padding)
		padding[len(padding)-1] = byte(len(padding))
		return append(body, padding...)
	}
	for len(body)%size != 0 {
		body = append(body, 0)
	}
	return body
}

// hash is the HASH payload of a message to be sent after phase 1.
func (s *sa) hash(m *Message) []byte {
	var right []byte
	if m.Step == QM3 {
		right = s.suite.hash.hash.hash3(s.keys.skeyidA, m.Header.MessageID, m.niBody, m.nrBody)
	} else {
		// What follows HASH is hashed with its generic headers.
		rest := isakmp.AppendPayloads(nil, m.Payloads...)
		right = s.suite.hash.hash.phase2Hash(s.keys.skeyidA, m.Header.MessageID, m.niBody, rest)
	}
	if m.Hash != nil {
		return m.Hash(right)
	}
	return right
}

var (
	errHash      = errors.New("wrong HASH")
	errEncrypted = errors.New("not encrypted")
)

// opened is a received message, decrypted but not yet believed.
type opened struct {
	payloads []isakmp.Payload // without a leading HASH after phase 1
	hash     []byte           // that HASH
	rest     []byte           // what it covers, as received
	next     []byte           // IV of the next message in the chain
}

// open decrypts a message with the chain's IV, which it leaves as it is.
func (s *sa) open(h isakmp.Header, body, iv []byte) (*opened, error) {
	size := s.block.BlockSize()
	if len(body) == 0 || len(body)%size != 0 {
		return nil, fmt.Errorf("ciphertext of %d bytes", len(body))
	}
	clear := make([]byte, len(body))
	cipher.NewCBCDecrypter(s.block, iv).CryptBlocks(clear, body)
	payloads, padding, err := isakmp.ParsePayloads(h.NextPayload, clear)
	if err != nil {
		return nil, err
	}
	o := &opened{payloads: payloads, next: append([]byte(nil), body[len(body)-size:]...)}
	if phase1(h) {
		return o, nil
	}
	if len(payloads) == 0 || payloads[0].Type != isakmp.PayloadHash {
		return nil, errors.New("no HASH")
	}
	o.hash, o.payloads = payloads[0].Body, payloads[1:]
	o.rest = clear[len(payloads[0].Raw) : len(clear)-len(padding)]
	return o, nil
}
