package gateway

import (
	"bytes"

	"wayfarer/ike/isakmp"
)

// Cisco's IKE fragmentation, undocumented: a payload of type 132 after an ISAKMP
// header of its own carries the next slice of the complete message, which was
// encrypted as a whole. All senders give every message the ID 1.
const (
	fragmentID        = 1
	fragmentHeaderLen = 8 // generic header, ID, number, flags

	maxFragments = 32
	maxAssembled = 1 << 16
)

// fragment cuts a message into datagrams of at most limit bytes. As with strongSwan
// their headers have the exchange type of phase 1 and no M-ID.
func fragment(s *sa, raw []byte, limit int) [][]byte {
	room := limit - isakmp.HeaderLen - fragmentHeaderLen
	var out [][]byte
	for number := uint8(1); len(raw) > 0; number++ {
		n := min(room, len(raw))
		f := isakmp.Fragment{ID: fragmentID, Number: number, Last: n == len(raw), Data: raw[:n]}
		raw = raw[n:]
		out = append(out, isakmp.AppendMessage(nil, s.header(s.exchange, 0, false),
			isakmp.Payload{Type: isakmp.PayloadFragment, Body: f.Append(nil)}))
	}
	return out
}

// assembly is the message that is being put together. Fragments are not
// authenticated: a set that makes no sense is dropped without consequences.
type assembly struct {
	parts map[uint8][]byte
	last  uint8 // number of the last one; 0: not here yet
	size  int
}

// add takes a fragment and returns the message when it is complete.
func (a *assembly) add(g *Gateway, h isakmp.Header, body []byte) []byte {
	ps, _, err := isakmp.ParsePayloads(h.NextPayload, body)
	if err != nil || len(ps) != 1 || g.cfg.FragmentSize < 0 {
		return nil
	}
	f, err := isakmp.ParseFragment(ps[0].Body)
	if err != nil || f.Number > maxFragments {
		return nil
	}
	if old, ok := a.parts[f.Number]; ok && !bytes.Equal(old, f.Data) {
		*a = assembly{} // the next message, which has the same ID
	} else if ok {
		return nil
	}
	if f.Last && a.last != 0 || a.last != 0 && f.Number > a.last {
		*a = assembly{}
	}
	if f.Last {
		for number := range a.parts {
			if number > f.Number {
				*a = assembly{}
				break
			}
		}
		a.last = f.Number
	}
	if a.size += len(f.Data); a.size > maxAssembled {
		*a = assembly{}
		return nil
	}
	if a.parts == nil {
		a.parts = make(map[uint8][]byte)
	}
	a.parts[f.Number] = f.Data
	if len(a.parts) != int(a.last) {
		return nil
	}
	var whole []byte
	for number := uint8(1); number <= a.last; number++ {
		whole = append(whole, a.parts[number]...)
	}
	*a = assembly{}
	return whole
}
