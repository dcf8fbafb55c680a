package ike

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// Dead peer detection (RFC 3706). A probe goes out only after silence, and silence
// means that no authenticated packet came, ESP or IKE.
const (
	dpdIdle      = 30 * time.Second
	dpdInterval  = 5 * time.Second
	dpdUrgent    = time.Second // after a change of the network
	dpdTries     = 5
	natKeepAlive = 20 * time.Second // without own transmission (RFC 3948 §4)
)

// dpdState is the probing side; owned with its SA.
type dpdState struct {
	sequence uint32 // of the last probe
	started  bool
	tries    int // unanswered probes
	last     time.Time
	urgent   bool
}

// answerProbe acknowledges R-U-THERE with its number, even an old one: gateways
// repeat them.
func (sa *isakmpSA) answerProbe(m *message, n isakmp.Notify) {
	mid, err := sa.newMessageID()
	if err != nil {
		sa.log.Error("no DPD answer", "err", err)
		return
	}
	ack := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: n.SPI, Type: isakmp.NotifyRUThereAck, Data: n.Data}
	sa.reply(m, sa.sealHashed(isakmp.Informational, mid, isakmp.Payload{Type: isakmp.PayloadNotify, Body: ack.Append(nil)}))
}

// probe sends R-U-THERE. A repeated probe keeps its number.
func (sa *isakmpSA) probe(now time.Time) {
	d := &sa.dpd
	switch {
	case !d.started:
		var b [4]byte
		if err := sa.random(b[:]); err != nil {
			sa.log.Error("no DPD probe", "err", err)
			return
		}
		d.sequence = binary.BigEndian.Uint32(b[:]) >> 1 // the top bit is 0 at first
		d.started = true
	case d.tries == 0:
		d.sequence++
	}
	d.tries++
	d.last = now
	sa.notify(isakmp.ProtoISAKMP, sa.cookies(), isakmp.NotifyRUThere, be32(d.sequence))
}

// probeAnswered takes an acknowledgement of the probe that is out; its cookies may
// stand in either order (racoon).
func (sa *isakmpSA) probeAnswered(n isakmp.Notify) {
	reversed := slices.Concat(sa.ckyR[:], sa.ckyI[:])
	if !bytes.Equal(n.SPI, sa.cookies()) && !bytes.Equal(n.SPI, reversed) {
		return
	}
	if len(n.Data) == 4 && binary.BigEndian.Uint32(n.Data) == sa.dpd.sequence {
		sa.dpd.tries, sa.dpd.urgent = 0, false
	}
}

// dpdDue says when the next probe is due, or, after the last one, when the gateway
// is dead.
func (sa *isakmpSA) dpdDue(lastHeard time.Time) time.Time {
	d := &sa.dpd
	if d.tries > 0 && lastHeard.After(d.last) && !d.urgent {
		d.tries = 0 // traffic is as good as an answer
	}
	switch {
	case d.tries > 0 && d.urgent:
		return d.last.Add(dpdUrgent)
	case d.tries > 0:
		return d.last.Add(dpdInterval)
	}
	return lastHeard.Add(dpdIdle)
}
