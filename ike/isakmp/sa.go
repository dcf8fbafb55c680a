package isakmp

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// SA is the body of a security association payload (RFC 2408 §3.4): what one
// side offers, or the other has chosen. Proposals with the same number belong
// together, different numbers are alternatives.
type SA struct {
	DOI       uint32
	Situation uint32
	Proposals []Proposal
}

// Proposal offers transforms for one protocol (RFC 2408 §3.5).
type Proposal struct {
	Number     uint8
	Protocol   ProtocolID
	SPI        []byte // of the sender; empty or ignored in phase 1
	Transforms []Transform
}

// Transform is one combination of algorithms (RFC 2408 §3.6).
type Transform struct {
	Number     uint8
	ID         uint8 // TransformKeyIKE in phase 1, ESPAESCBC and others in phase 2
	Attributes []Attribute
}

// ParseSA reads the body of an SA payload. Only the IPsec DOI with the situation
// "identity only" is understood, and a proposal has at least one transform.
func ParseSA(body []byte) (SA, error) {
	var sa SA
	s := cryptobyte.String(body)
	if !s.ReadUint32(&sa.DOI) || !s.ReadUint32(&sa.Situation) {
		return SA{}, malformed("truncated SA")
	}
	if sa.DOI != DOIIPsec || sa.Situation != SituationIdentityOnly {
		return SA{}, malformed("SA with DOI %d and situation %d", sa.DOI, sa.Situation)
	}
	for more := true; more; {
		if len(sa.Proposals) == MaxProposals {
			return SA{}, malformed("more than %d proposals", MaxProposals)
		}
		body, next, n, err := readGeneric(s)
		if err != nil {
			return SA{}, err
		}
		if next != PayloadNone && next != PayloadProposal {
			return SA{}, malformed("%v among proposals", next)
		}
		p, err := parseProposal(body)
		if err != nil {
			return SA{}, err
		}
		sa.Proposals = append(sa.Proposals, p)
		s.Skip(n)
		more = next == PayloadProposal
	}
	if !s.Empty() {
		return SA{}, malformed("%d bytes after the last proposal", len(s))
	}
	return sa, nil
}

func parseProposal(body []byte) (Proposal, error) {
	var p Proposal
	var proto, spiSize, count uint8
	s := cryptobyte.String(body)
	if !s.ReadUint8(&p.Number) || !s.ReadUint8(&proto) || !s.ReadUint8(&spiSize) ||
		!s.ReadUint8(&count) || !readBytes(&s, &p.SPI, int(spiSize)) {
		return Proposal{}, malformed("truncated proposal")
	}
	if count == 0 {
		return Proposal{}, malformed("proposal %d without a transform", p.Number)
	}
	p.Protocol = ProtocolID(proto)
	for i := range int(count) {
		body, next, n, err := readGeneric(s)
		if err != nil {
			return Proposal{}, err
		}
		if last := i == int(count)-1; last && next != PayloadNone || !last && next != PayloadTransform {
			return Proposal{}, malformed("transform %d of %d followed by %v", i+1, count, next)
		}
		t, err := parseTransform(body)
		if err != nil {
			return Proposal{}, err
		}
		p.Transforms = append(p.Transforms, t)
		s.Skip(n)
	}
	if !s.Empty() {
		return Proposal{}, malformed("%d bytes after the last transform", len(s))
	}
	return p, nil
}

func parseTransform(body []byte) (Transform, error) {
	var t Transform
	var reserved uint16
	s := cryptobyte.String(body)
	if !s.ReadUint8(&t.Number) || !s.ReadUint8(&t.ID) || !s.ReadUint16(&reserved) {
		return Transform{}, malformed("truncated transform")
	}
	as, err := ParseAttributes(s)
	if err != nil {
		return Transform{}, err
	}
	t.Attributes = as
	return t, nil
}

// Append writes the body of an SA payload.
func (sa SA) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, sa.DOI)
	b = binary.BigEndian.AppendUint32(b, sa.Situation)
	for i, p := range sa.Proposals {
		next := PayloadNone
		if i+1 < len(sa.Proposals) {
			next = PayloadProposal
		}
		b = appendGeneric(b, next, p.append(nil))
	}
	return b
}

func (p Proposal) append(b []byte) []byte {
	if len(p.SPI) > 0xff || len(p.Transforms) > MaxTransforms {
		panic("isakmp: proposal too large")
	}
	b = append(b, p.Number, byte(p.Protocol), byte(len(p.SPI)), byte(len(p.Transforms)))
	b = append(b, p.SPI...)
	for i, t := range p.Transforms {
		next := PayloadNone
		if i+1 < len(p.Transforms) {
			next = PayloadTransform
		}
		body := AppendAttributes([]byte{t.Number, t.ID, 0, 0}, t.Attributes)
		b = appendGeneric(b, next, body)
	}
	return b
}
