package gateway

import (
	"crypto/hmac"
	"encoding/binary"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// informational handles Notify and Delete (RFC 2409 §5.7). It is never answered,
// apart from DPD.
func (s *sa) informational(r *received) error {
	if !hmac.Equal(r.hash, s.suite.hash.hash.phase2Hash(s.keys.skeyidA, r.header.MessageID, nil, r.rest)) {
		return errHash
	}
	step := Notify
	if len(only(r.payloads, isakmp.PayloadDelete)) > 0 {
		step = Delete
	}
	r.accept(step)
	for _, body := range only(r.payloads, isakmp.PayloadNotify) {
		n, err := isakmp.ParseNotify(body)
		if err != nil {
			return err
		}
		s.notified(r.header.MessageID, n)
	}
	for _, body := range only(r.payloads, isakmp.PayloadDelete) {
		d, err := isakmp.ParseDelete(body)
		if err != nil {
			return err
		}
		s.deleted(d)
	}
	return nil
}

func (s *sa) notified(mid uint32, n isakmp.Notify) {
	switch n.Type {
	case isakmp.NotifyRUThere:
		s.acknowledgeProbe(mid, n.Data)
	case isakmp.NotifyInitialContact:
		if s.initialContact = true; s.state == ready {
			s.gw.dropOthers(s)
		}
	case isakmp.NotifyRUThereAck: // having heard it is all that matters
	default:
		s.log.Debug("received a Notify", "type", n.Type)
	}
}

// acknowledgeProbe answers every R-U-THERE, with the number that it has (RFC 3706
// §5.4).
func (s *sa) acknowledgeProbe(mid uint32, number []byte) {
	spi := slices.Concat(s.ckyI[:], s.ckyR[:])
	if s.gw.cfg.Quirks.ReversedCookies {
		spi = slices.Concat(s.ckyR[:], s.ckyI[:])
	}
	if !s.gw.cfg.Quirks.ProbeMID {
		mid = s.newMID()
	}
	s.sendNotifyAs(mid, spi, isakmp.NotifyRUThereAck, number)
}

// sendNotify sends a Notify about this ISAKMP SA, authenticated.
func (s *sa) sendNotify(t isakmp.NotifyType, data []byte) {
	s.sendNotifyAs(s.newMID(), slices.Concat(s.ckyI[:], s.ckyR[:]), t, data)
}

func (s *sa) sendNotifyAs(mid uint32, spi []byte, t isakmp.NotifyType, data []byte) {
	m := &Message{Step: Notify, Header: s.header(isakmp.Informational, mid, true)}
	m.Add(isakmp.PayloadNotify, isakmp.Notify{
		DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: spi, Type: t, Data: data,
	}.Append(nil))
	s.notify(m)
}

// sendConnected ends the waiting that the commit bit asked for (RFC 2408 §3.1),
// under the message ID of the Quick Mode.
func (s *sa) sendConnected(mid, spi uint32) {
	m := &Message{Step: Notify, Header: s.header(isakmp.Informational, mid, true)}
	m.Add(isakmp.PayloadNotify, isakmp.Notify{
		DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, SPI: midBytes(spi), Type: isakmp.NotifyConnected,
	}.Append(nil))
	s.notify(m)
}

// deleted obeys a Delete: of ESP SAs, which the client names by its inbound SPI, or
// of this ISAKMP SA (RFC 2408 §3.15).
func (s *sa) deleted(d isakmp.Delete) {
	for _, spi := range d.SPIs {
		switch {
		case d.Protocol == isakmp.ProtoESP && len(spi) == 4:
			if c := s.childByOutbound(binary.BigEndian.Uint32(spi)); c != nil {
				c.remove()
			}
		case d.Protocol == isakmp.ProtoISAKMP && string(spi) == string(append(s.ckyI[:], s.ckyR[:]...)):
			s.drop("the client deleted it")
			return
		}
	}
}

// sendDelete names an ESP SA by the SPI that we receive on, an ISAKMP SA by its
// cookies.
func (s *sa) sendDelete(proto isakmp.ProtocolID, spi []byte) {
	doi := isakmp.DOIIPsec
	if s.gw.cfg.Quirks.DeleteTheirs && proto == isakmp.ProtoESP {
		doi, spi = 0, midBytes(s.gw.children[binary.BigEndian.Uint32(spi)].out.SPI())
	}
	m := &Message{Step: Delete, Header: s.header(isakmp.Informational, s.newMID(), true)}
	m.Add(isakmp.PayloadDelete, isakmp.Delete{
		DOI: doi, Protocol: proto, SPISize: uint8(len(spi)), SPIs: [][]byte{spi},
	}.Append(nil))
	s.notify(m)
}

// scheduleDPD looks after a silence whether the client is alive (RFC 3706 §5.5).
func (s *sa) scheduleDPD(wait time.Duration) {
	s.dpdTimer = s.gw.after(wait, func() {
		interval := s.gw.cfg.DPD
		if silence := time.Since(s.heard); silence < interval {
			s.scheduleDPD(interval - silence)
			return
		}
		if s.dpdOpen == dpdTries {
			s.drop("the client is gone")
			return
		}
		s.probe()
		s.scheduleDPD(interval)
	})
}

// probe sends R-U-THERE.
func (s *sa) probe() {
	if s.dpdSeq == 0 {
		s.dpdSeq = s.gw.randomUint32(1) >> 1 // the top bit is zero (RFC 3706 §6.2)
	}
	s.dpdSeq++
	s.dpdOpen++
	s.sendNotify(isakmp.NotifyRUThere, binary.BigEndian.AppendUint32(nil, s.dpdSeq))
}

// addResponderLifetime tells a lifetime that is shorter than the client's offer
// (RFC 2407 §4.6.3.1).
func (s *sa) addResponderLifetime(m *Message, proto isakmp.ProtocolID, spi []byte, life time.Duration) {
	as := []isakmp.Attribute{
		isakmp.BasicAttribute(isakmp.AttrESPLifeType, isakmp.LifeSeconds),
		isakmp.NumberAttribute(isakmp.AttrESPLifeDuration, uint32(life/time.Second)),
	}
	if s.gw.cfg.Quirks.OddLifetimes {
		const nobodyKnows = 77
		as = append([]isakmp.Attribute{
			isakmp.BasicAttribute(nobodyKnows, 1),
			isakmp.BasicAttribute(isakmp.AttrESPLifeType, nobodyKnows), isakmp.NumberAttribute(isakmp.AttrESPLifeDuration, 30),
		}, as...)
	}
	m.Add(isakmp.PayloadNotify, isakmp.Notify{
		DOI: isakmp.DOIIPsec, Protocol: proto, SPI: spi, Type: isakmp.NotifyResponderLifetime,
		Data: isakmp.AppendAttributes(nil, as),
	}.Append(nil))
}
