package ike

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// mutation is one change of what the gateway says. Five bytes of a fuzzer's script
// make one: which message, what is done to it, where, and with which value.
type mutation struct{ message, action, where, value, extra byte }

// script reads mutations; there is a bound, since each of them takes its time.
func mutations(script []byte) (ms []mutation) {
	const atMost = 8
	for b := range slices.Chunk(script, 5) {
		if len(b) == 5 && len(ms) < atMost {
			ms = append(ms, mutation{b[0], b[1], b[2], b[3], b[4]})
		}
	}
	return ms
}

// apply changes a message before it is hashed and encrypted: the gateway has proved
// who it is, or will, and means harm. It may also say more, or nothing.
func (mu mutation) apply(m *gateway.Message) []*gateway.Message {
	nth := 0
	if len(m.Payloads) > 0 {
		nth = int(mu.where) % len(m.Payloads)
	}
	body := func(change func([]byte) []byte) {
		if len(m.Payloads) > 0 {
			p := m.Payloads[nth]
			m.Payloads[nth] = isakmp.Payload{Type: p.Type, Body: change(bytes.Clone(p.Body))}
		}
	}
	at := func(b []byte) int { return (int(mu.value)<<8 | int(mu.extra)) % max(len(b), 1) }
	switch mu.action % 14 {
	case 0: // one byte is another
		body(func(b []byte) []byte {
			if len(b) > 0 {
				b[at(b)] ^= max(mu.extra, 1)
			}
			return b
		})
	case 1: // cut
		body(func(b []byte) []byte { return b[:at(b)] })
	case 2: // longer
		body(func(b []byte) []byte { return append(b, bytes.Repeat([]byte{mu.value}, int(mu.extra))...) })
	case 3: // a payload is missing
		if len(m.Payloads) > 0 {
			m.Payloads = slices.Delete(slices.Clone(m.Payloads), nth, nth+1)
		}
	case 4: // or twice there
		if len(m.Payloads) > 0 {
			m.Payloads = append(slices.Clone(m.Payloads), m.Payloads[nth])
		}
	case 5: // or another one
		if len(m.Payloads) > 0 {
			m.Payloads[nth] = isakmp.Payload{Type: isakmp.PayloadType(mu.value), Body: m.Payloads[nth].Body}
		}
	case 6: // or stands elsewhere
		slices.Reverse(m.Payloads)
	case 7:
		m.Header.Flags ^= isakmp.Flags(mu.value)
	case 8:
		m.Header.Exchange = []isakmp.ExchangeType{
			isakmp.MainMode, isakmp.AggressiveMode, isakmp.Informational, isakmp.Transaction, isakmp.QuickMode, isakmp.ExchangeType(mu.extra),
		}[mu.value%6]
	case 9:
		m.Header.MessageID += uint32(mu.value)
	case 10: // a Notify with it
		n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtocolID(mu.where % 5), Type: isakmp.NotifyType(int(mu.value)<<8 | int(mu.extra)), Data: []byte{0, 0, 0, mu.extra}}
		m.Add(isakmp.PayloadNotify, n.Append(nil))
	case 11: // an attribute with it
		if c, err := isakmp.ParseConfig(m.Payload(isakmp.PayloadAttribute)); err == nil {
			c.Attributes = append(c.Attributes, isakmp.Attribute{Type: fuzzedAttribute(mu.where), Value: bytes.Repeat([]byte{mu.value}, int(mu.extra))})
			m.Replace(isakmp.PayloadAttribute, c.Append(nil))
		}
	case 12:
		return []*gateway.Message{m, m}
	case 13:
		return nil
	}
	return []*gateway.Message{m}
}

// fuzzedAttribute is one of those that mean something.
func fuzzedAttribute(n byte) uint16 {
	switch base := uint16(n % 32); n >> 6 {
	case 0:
		return base
	case 1:
		return isakmp.XAuthType + base%12
	default:
		return isakmp.UnityBanner + base%12
	}
}

// proven are those parts of a message that the gateway's proof covers, or is.
func proven(m *gateway.Message) string {
	var all []byte
	for _, typ := range []isakmp.PayloadType{isakmp.PayloadKE, isakmp.PayloadNonce, isakmp.PayloadID, isakmp.PayloadSig, isakmp.PayloadHash} {
		all = append(append(all, byte(typ)), m.Payload(typ)...)
	}
	return string(all)
}

// FuzzSession lets a gateway say mutated things. The client must neither panic nor
// hang, nothing about the user may leave if the gateway's proof does not hold, and
// what is passed on must be fit to be shown and used.
func FuzzSession(f *testing.F) {
	for action := range byte(14) {
		f.Add(action, []byte{action % 7, action, 1, 2, 3, 3, action, 0, 40, 1})
	}
	f.Add(byte(1), []byte{0, 0, 3, 0, 200}) // another identity in AM2
	f.Add(byte(0), []byte{5, 11, 4, 10, 14, 5, 11, 132, 1, 56, 6, 0, 0, 9, 255})
	f.Add(byte(2), []byte{1, 0, 0, 0, 60, 1, 2, 1, 65, 200, 2, 9, 0, 0, 0})
	f.Fuzz(func(t *testing.T, mode byte, script []byte) {
		ms := mutations(script)
		inWorld(t, func(w *world) {
			flipModes[int(mode)%len(flipModes)].setup(w)
			w.client.Prompt = func(context.Context, Prompt) (Answer, error) { return Answer{Text: Secret("123456")}, nil }
			number, spoiled := byte(0), false
			w.gateway.Hook = func(m *gateway.Message) []*gateway.Message {
				before, step := proven(m), m.Step
				out := []*gateway.Message{m}
				for _, mu := range ms {
					if mu.message%16 == number && len(out) > 0 {
						out = append(mu.apply(out[0]), out[1:]...)
					}
				}
				number++
				switch bad := len(out) > 0 && proven(out[0]) != before; step {
				case gateway.MM4, gateway.AM2: // the gateway may have begun anew
					spoiled = bad
				case gateway.MM6:
					spoiled = spoiled || bad
				}
				return out
			}
			w.start()
			w.survives(&spoiled)
		})
	})
}

// survives dials and lives for a while.
func (w *world) survives(spoiled *bool) {
	w.t.Helper()
	const longEnough = 10 * time.Minute // for every step to be given up
	ctx, cancel := context.WithTimeout(context.Background(), longEnough)
	defer cancel()
	s, err := w.tryDialContext(ctx)
	if ctx.Err() != nil {
		w.t.Fatalf("the attempt hangs: %v\n%s", err, w.logText())
	}
	if synctest.Wait(); *spoiled {
		w.checkLeft(false)
	}
	if err != nil {
		return
	}
	checkSane(w.t, s.Assignment())
	received := receive(s)
	send(w.t, s, ipv4(firstVIP, insideHost, "out"))
	if err := w.gw.SendPacket(ipv4(insideHost, firstVIP, "in")); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(espLifetime + time.Minute) // with a rekeying
	for _, p := range received() {
		if !bytes.Equal(p, ipv4(insideHost, firstVIP, "in")) {
			w.t.Errorf("a packet out of nowhere: %x", p)
		}
	}
	s.Close()
}
