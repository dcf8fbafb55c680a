package ike

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"wayfarer/ike/isakmp"
)

// alterations lists the messages of recorded gateways that TestReplayAltered changes.
var alterations = []struct {
	recording string
	message   string // for the name of the test
	exchange  isakmp.ExchangeType
	nth       int // encrypted message of the exchange by the gateway, from 0; in clear -1
	// payloads are those that are protected; nil are all.
	payloads []isakmp.PayloadType
	// trust: a change in an ID, CERT, SIG or HASH payload must be a *TrustError.
	trust bool
}{
	{recording: "hybrid-main", message: "MM6", exchange: isakmp.MainMode, trust: true},
	{recording: "legacy-3des-md5", message: "MM6", exchange: isakmp.MainMode, trust: true},
	{recording: "chain-frag", message: "MM6", exchange: isakmp.MainMode, trust: true},
	{recording: "psk-main", message: "MM6", exchange: isakmp.MainMode, trust: true},
	{recording: "rsa-main", message: "MM6", exchange: isakmp.MainMode, trust: true},
	{recording: "hybrid-aggr", message: "AM2", exchange: isakmp.AggressiveMode, nth: -1, trust: true, payloads: []isakmp.PayloadType{
		isakmp.PayloadKE, isakmp.PayloadNonce, isakmp.PayloadID, isakmp.PayloadCert, isakmp.PayloadSig,
	}},
	{recording: "hybrid-main", message: "XAUTH REQUEST", exchange: isakmp.Transaction},
	{recording: "hybrid-main", message: "XAUTH SET", exchange: isakmp.Transaction, nth: 1},
	{recording: "hybrid-main", message: "Mode-Config REPLY", exchange: isakmp.Transaction, nth: 2},
	{recording: "push", message: "Mode-Config SET", exchange: isakmp.Transaction, nth: 2},
	{recording: "hybrid-main", message: "QM2", exchange: isakmp.QuickMode},
	{recording: "hybrid-aggr", message: "QM2", exchange: isakmp.QuickMode},
	{recording: "pfs", message: "QM2", exchange: isakmp.QuickMode},
}

// TestReplayAltered flips one bit in what strongSwan said, and encrypts it again with
// the true keys. There must be no connection, and nothing of what the client says
// upon the true message: no login after a false MM6, no Quick Mode after a false
// Mode-Config reply.
func TestReplayAltered(t *testing.T) {
	for _, a := range alterations {
		t.Run(a.recording+" "+a.message, func(t *testing.T) {
			inReplay(t, a.recording, func(t *testing.T, r *recording) {
				m := r.fromGateway(t, a.exchange, a.nth)
				for _, change := range changes(m, a.payloads) {
					p := newReplay(t, r)
					p.altered, p.alter = m, func(plain []byte) { plain[change.at] ^= change.mask }
					if a.recording == "push" {
						p.client.ModeConfig = ModeConfigPush
					}
					p.wantRefusal(t, change, a.trust)
					p.end()
				}
			})
		})
	}
}

// change is one bit to flip.
type change struct {
	at      int // in the plaintext
	mask    byte
	payload isakmp.PayloadType
	header  bool // of the payload
}

// changes lists a change in each byte of a message, or in some two hundred of a long
// one.
func changes(m *recordedMessage, payloads []isakmp.PayloadType) []change {
	step := 1 + len(m.content)/200
	var out []change
	start := 0
	for i, p := range m.payloads {
		for at := start; at < start+len(p.Raw); at++ {
			c := change{at: at, mask: 1 << (at % 8), payload: p.Type, header: at-start < len(p.Raw)-len(p.Body)}
			// HASH covers what follows it, and not the reserved byte of its own header.
			unprotected := i == 0 && m.MessageID != 0 && at == 1
			wanted := payloads == nil || !c.header && slices.Contains(payloads, p.Type)
			if at%step == 0 && wanted && !unprotected {
				out = append(out, c)
			}
		}
		start += len(p.Raw)
	}
	return out
}

// wantRefusal dials and expects an error, and silence after the altered message.
func (p *replay) wantRefusal(t *testing.T, c change, trust bool) {
	t.Helper()
	s, err := p.dial()
	if err == nil {
		s.Close()
		t.Errorf("connected with another byte %d, in %v", c.at, c.payload)
		return
	}
	var untrusted *TrustError
	proof := slices.Contains([]isakmp.PayloadType{isakmp.PayloadID, isakmp.PayloadCert, isakmp.PayloadSig, isakmp.PayloadHash}, c.payload)
	if trust && proof && !c.header && !errors.As(err, &untrusted) {
		t.Errorf("another byte %d, in %v: error %v", c.at, c.payload, err)
	}
	altered := slices.Index(p.messages, p.altered)
	for _, m := range slices.Concat(p.words, p.sense) {
		if slices.Index(p.messages, m) > altered {
			t.Errorf("another byte %d, in %v: the client went on with %v", c.at, c.payload, m.message)
		}
	}
	for _, h := range p.extra {
		if h.Exchange != isakmp.Informational && h.MessageID != 0 {
			t.Errorf("another byte %d, in %v: the client sent %+v", c.at, c.payload, h)
		}
	}
}

// fromGateway finds the nth encrypted message of the gateway in an exchange type; -1
// is the first in clear.
func (r *recording) fromGateway(t *testing.T, exchange isakmp.ExchangeType, nth int) *recordedMessage {
	t.Helper()
	for _, m := range r.messages {
		if m.fromClient || m.Exchange != exchange || m.Encrypted() != (nth >= 0) {
			continue
		}
		if nth <= 0 {
			return m
		}
		nth--
	}
	t.Fatalf("no such %v", exchange)
	return nil
}

// TestReplayBeforeItsTime connects years before the gateway's certificate was made.
func TestReplayBeforeItsTime(t *testing.T) {
	r := readRecording(t, "hybrid-main")
	synctest.Test(t, func(t *testing.T) {
		p := newReplay(t, r)
		defer p.end()
		_, err := p.dial()
		var untrusted *TrustError
		if !errors.As(err, &untrusted) || untrusted.Reason != TrustExpired || untrusted.Needs != WeakExpired {
			t.Errorf("error %v", err)
		}
	})
}
