package ike

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// TestAlteredProof: a gateway's proof that somebody altered on the way, or sent a copy
// of in front, does not end the attempt: the gateway's own, or its repetition, does it.
func TestAlteredProof(t *testing.T) {
	for name, change := range map[string]func(data []byte) []gateway.Delivery{
		"altered": func(data []byte) []gateway.Delivery { return deliver(altered(t, data)) },
		"a copy in front": func(data []byte) []gateway.Delivery {
			return []gateway.Delivery{{Datagram: altered(t, data)}, {Datagram: data}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, auth := range authentications {
				t.Run(auth.name, func(t *testing.T) {
					inBoth(t, func(w *world) {
						w.client.Auth = auth.auth
						auth.setup(w)
						seen := false
						w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
							h, ok := ikeHeader(from, to, data)
							proof := h.Exchange == isakmp.MainMode && h.Encrypted() || h.Exchange == isakmp.AggressiveMode && !h.Encrypted()
							if seen || !ok || !toClient(from) || !proof {
								return deliver(data)
							}
							seen = true
							return change(data)
						})
						w.start()
						s := w.dial()
						w.exchangePackets(s, receive(s), "hello")
						if d := time.Since(w.began); d >= refusedPatience {
							w.t.Errorf("connecting took %v", d)
						}
						told := make(map[Step]int)
						for _, step := range w.steps() {
							if told[step]++; told[step] > 1 {
								w.t.Errorf("%s was told twice", step)
							}
						}
					})
				})
			}
		})
	}
}

// altered flips a bit of the proof in a message: at its end where it is encrypted.
func altered(t *testing.T, data []byte) []byte {
	t.Helper()
	data = bytes.Clone(data)
	msg := data
	if binary.BigEndian.Uint32(data) == 0 {
		msg = data[nonESPMarkerLen:]
	}
	h, body, err := isakmp.ParseHeader(msg)
	if err != nil {
		t.Fatal(err)
	}
	if h.Encrypted() || h.NextPayload == isakmp.PayloadFragment {
		data[len(data)-20] ^= 1
		return data
	}
	ps, _, err := isakmp.ParsePayloads(h.NextPayload, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.Type == isakmp.PayloadSig || p.Type == isakmp.PayloadHash {
			i := bytes.Index(data, p.Body)
			data[i] ^= 1
		}
	}
	return data
}
