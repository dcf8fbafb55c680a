package ike

import (
	"bytes"
	"encoding/binary"

	"wayfarer/ike/isakmp"
)

// informational obeys an Informational message whose HASH has been verified: DPD,
// Delete, lifetimes. It is never answered with a Notify.
func (sa *isakmpSA) informational(m *message) error {
	for _, p := range m.payloads {
		switch p.Type {
		case isakmp.PayloadNotify:
			n, err := isakmp.ParseNotify(p.Body)
			if err != nil {
				return dropped("Notify: %v", err)
			}
			if err := sa.notified(m, n); err != nil {
				return err
			}
		case isakmp.PayloadDelete:
			d, err := isakmp.ParseDelete(p.Body)
			if err != nil {
				return dropped("Delete: %v", err)
			}
			if err := sa.deleted(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (sa *isakmpSA) notified(m *message, n isakmp.Notify) error {
	switch n.Type {
	case isakmp.NotifyRUThere:
		sa.answerProbe(m, n)
	case isakmp.NotifyRUThereAck:
		sa.probeAnswered(n)
	case isakmp.NotifyResponderLifetime:
		sa.noteLifetimes(m)
	case isakmp.NotifyConnected:
		sa.s.activateHeld()
	case isakmp.NotifyUnityLoadBalance:
		// Once a login has left, it is not given to another gateway in the same breath.
		if to, ok := redirection(n); ok && sa.s.dialing() && !sa.s.loginSent {
			return fatalError{&redirectError{to: to, authenticated: true}}
		}
	default:
		if !n.Type.IsError() {
			sa.log.Debug("ignored a notification", "type", n.Type)
			return nil
		}
		sa.log.Warn("the gateway reports an error", "type", n.Type)
		if sa.state != stateUp {
			return fatalError{sa.refused(n.Type, true)}
		}
	}
	return nil
}

// deleted obeys a Delete: of an SPI that the gateway receives on, by mistake also
// of one that we receive on (Cisco), or of this ISAKMP SA.
func (sa *isakmpSA) deleted(d isakmp.Delete) error {
	for _, spi := range d.SPIs {
		switch {
		case d.Protocol == isakmp.ProtoISAKMP && bytes.Equal(spi, sa.cookies()):
			sa.log.Info("the gateway deleted the ISAKMP SA")
			if sa.state != stateUp {
				return fatalError{&ClosedByGatewayError{}} // nothing depends on it yet
			}
			return sa.s.lost(sa)
		case d.Protocol == isakmp.ProtoESP && len(spi) == 4 && sa.state == stateUp:
			sa.s.deleteChild(binary.BigEndian.Uint32(spi))
		}
	}
	return nil
}

// notify sends an Informational with one Notify. Nobody acknowledges it.
func (sa *isakmpSA) notify(proto isakmp.ProtocolID, spi []byte, typ isakmp.NotifyType, data []byte) {
	n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: proto, SPI: spi, Type: typ, Data: data}
	sa.inform(isakmp.Payload{Type: isakmp.PayloadNotify, Body: n.Append(nil)})
}

// delete tells the gateway that we drop an SA (RFC 2408 §3.15): for ESP named by
// our inbound SPI, since the receiver drops its outbound.
func (sa *isakmpSA) delete(proto isakmp.ProtocolID, spis ...[]byte) {
	if len(spis) == 0 {
		return
	}
	d := isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: proto, SPISize: uint8(len(spis[0])), SPIs: spis}
	sa.inform(isakmp.Payload{Type: isakmp.PayloadDelete, Body: d.Append(nil)})
}

func (sa *isakmpSA) inform(p isakmp.Payload) {
	mid, err := sa.newMessageID()
	if err != nil {
		sa.log.Error("no message sent", "err", err)
		return
	}
	sa.transmit(sa.sealHashed(isakmp.Informational, mid, p))
}

// closeSA sends the Deletes, ESP first, each in a message of its own. A gateway that
// was refused gets one too, as soon as there are keys: half-open SAs count against
// our address there.
func (sa *isakmpSA) closeSA(children []*childSA) {
	if sa.keys == nil || sa.ckyR.IsZero() || sa.state == stateClosed {
		return
	}
	var spis [][]byte
	for _, c := range children {
		spis = append(spis, be32(c.spiIn))
	}
	sa.delete(isakmp.ProtoESP, spis...)
	sa.delete(isakmp.ProtoISAKMP, sa.cookies())
}
