package ike

import (
	"bytes"
	"fmt"
	"time"

	"wayfarer/ike/isakmp"
)

// Cisco IKE fragmentation: payload 132 behind an ISAKMP header of its own carries
// slices of a complete message, after encryption. It is documented nowhere; these
// are the habits of racoon, strongSwan and Libreswan.
const (
	// maxFragmentDatagram is the UDP payload of a fragment that we send: with
	// IP and UDP headers it fits 576 bytes, which every path carries.
	maxFragmentDatagram = 548
	maxFragments        = 32
	fragmentLifetime    = 15 * time.Second
	maxReassembled      = 64 << 10
	fragmentHeaderLen   = 8 // generic header, ID, number, flags
)

// reassembly collects the fragments of one message. The message ID in a fragment
// is always 1, so a fragment that contradicts the set starts a new one. Fragments
// are not authenticated: a bad one is dropped and changes nothing else.
type reassembly struct {
	parts   [maxFragments + 1][]byte // by number
	last    uint8                    // 0: not seen
	size    int                      // of all parts, in bytes
	started time.Time
}

// add takes a fragment and returns the message when it is complete.
func (r *reassembly) add(f isakmp.Fragment, now time.Time) ([]byte, error) {
	if int(f.Number) > maxFragments {
		return nil, fmt.Errorf("fragment number %d", f.Number)
	}
	if now.Sub(r.started) > fragmentLifetime {
		*r = reassembly{}
	}
	if old := r.parts[f.Number]; old != nil {
		if bytes.Equal(old, f.Data) && f.Last == (f.Number == r.last) {
			return nil, nil // a duplicate
		}
		*r = reassembly{} // the beginning of another message
	}
	if r.last != 0 && (f.Last || f.Number > r.last) {
		*r = reassembly{}
		return nil, fmt.Errorf("fragment %d after the last one", f.Number)
	}
	if r.size += len(f.Data); r.size > maxReassembled {
		*r = reassembly{}
		return nil, fmt.Errorf("fragments of more than %d bytes", maxReassembled)
	}
	if r.started.IsZero() {
		r.started = now
	}
	r.parts[f.Number] = bytes.Clone(f.Data)
	if f.Last {
		r.last = f.Number
	}
	return r.complete()
}

func (r *reassembly) complete() ([]byte, error) {
	if r.last == 0 {
		return nil, nil
	}
	var whole []byte
	for i := 1; i <= maxFragments; i++ {
		switch {
		case i > int(r.last) && r.parts[i] != nil:
			*r = reassembly{}
			return nil, fmt.Errorf("fragment %d after the last one", i)
		case i <= int(r.last) && r.parts[i] == nil:
			return nil, nil
		}
		whole = append(whole, r.parts[i]...)
	}
	*r = reassembly{}
	return whole, nil
}

// splitMessage cuts a message into fragment datagrams of at most size bytes, marker
// included. The outer header has the exchange type of phase 1, as strongSwan does
// it; the peer ignores it.
func splitMessage(msg []byte, h isakmp.Header, size int) [][]byte {
	h.Flags, h.MessageID = 0, 0
	if h.Exchange != isakmp.AggressiveMode {
		h.Exchange = isakmp.MainMode
	}
	room := size - nonESPMarkerLen - isakmp.HeaderLen - fragmentHeaderLen
	var out [][]byte
	for n := uint8(1); len(msg) > 0; n++ {
		cut := min(room, len(msg))
		f := isakmp.Fragment{ID: 1, Number: n, Last: cut == len(msg), Data: msg[:cut]}
		msg = msg[cut:]
		out = append(out, isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadFragment, Body: f.Append(nil)}))
	}
	return out
}
