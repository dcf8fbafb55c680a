package store

import (
	"bytes"
	"encoding/asn1"
	"errors"
)

const (
	berSequence    = 0x30
	berConstructed = 0x20
	maxBERDepth    = 16 // of elements within elements; CMS needs 8 down to the content
)

var (
	errBER        = errors.New("not a signed message")
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// berElement is an element of BER (X.690 §8), of which Go's asn1 reads only the subset
// DER: signing programs write elements of indefinite length.
type berElement struct {
	tag     byte
	content []byte
}

// readBER reads the first element of data.
func readBER(data []byte, depth int) (e berElement, rest []byte, err error) {
	if len(data) < 2 || data[0]&0x1f == 0x1f || depth == 0 {
		return e, nil, errBER
	}
	e.tag = data[0]
	length, data := int(data[1]), data[2:]
	switch {
	case length == 0x80:
		return readIndefinite(e.tag, data, depth)
	case length > 0x80:
		n := length & 0x7f
		if n > 4 || n > len(data) {
			return e, nil, errBER
		}
		length = 0
		for _, b := range data[:n] {
			length = length<<8 | int(b)
		}
		data = data[n:]
	}
	if length < 0 || length > len(data) {
		return e, nil, errBER
	}
	e.content = data[:length]
	return e, data[length:], nil
}

// readIndefinite reads an element that two zeros end.
func readIndefinite(tag byte, data []byte, depth int) (e berElement, rest []byte, err error) {
	if tag&berConstructed == 0 {
		return e, nil, errBER
	}
	rest = data
	for !bytes.HasPrefix(rest, []byte{0, 0}) {
		if _, rest, err = readBER(rest, depth-1); err != nil {
			return e, nil, err
		}
	}
	return berElement{tag, data[:len(data)-len(rest)]}, rest[2:], nil
}

// within reads the elements of e one after the other, which must have these tags, and
// returns the last.
func (e berElement) within(tags ...byte) (berElement, error) {
	rest := e.content
	for _, tag := range tags {
		var err error
		if e, rest, err = readBER(rest, maxBERDepth); err != nil {
			return e, err
		}
		if e.tag != tag {
			return e, errBER
		}
	}
	return e, nil
}

// signedContent returns what a CMS message of the type signed-data (RFC 5652 §5.1) has
// signed:
//
//	ContentInfo          ::= SEQUENCE { OID, [0] SignedData }
//	SignedData           ::= SEQUENCE { version, digestAlgorithms SET, EncapsulatedContentInfo, ... }
//	EncapsulatedContentInfo ::= SEQUENCE { OID, [0] OCTET STRING OPTIONAL }
//
// It does not look at the signature.
func signedContent(data []byte) ([]byte, error) {
	const (
		integer, octets, oid, set = 0x02, 0x04, 0x06, 0x31
		context0                  = 0xa0
	)
	info, _, err := readBER(data, maxBERDepth)
	if err != nil || info.tag != berSequence {
		return nil, errBER
	}
	kind, err := info.within(oid)
	if err != nil {
		return nil, err
	}
	var id asn1.ObjectIdentifier
	der := append([]byte{oid, byte(len(kind.content))}, kind.content...)
	if _, err := asn1.Unmarshal(der, &id); err != nil || !id.Equal(oidSignedData) {
		return nil, errBER
	}
	e := info
	for _, path := range [][]byte{{oid, context0}, {berSequence}, {integer, set, berSequence}, {oid, context0}} {
		if e, err = e.within(path...); err != nil {
			return nil, err
		}
	}
	return berOctets(e.content)
}

// berOctets reads an OCTET STRING, which in BER may consist of several.
func berOctets(data []byte) ([]byte, error) {
	const octets = 0x04
	e, _, err := readBER(data, maxBERDepth)
	switch {
	case err != nil:
		return nil, err
	case e.tag == octets:
		return e.content, nil
	case e.tag != octets|berConstructed:
		return nil, errBER
	}
	var all []byte
	for rest := e.content; len(rest) > 0; {
		var part berElement
		if part, rest, err = readBER(rest, 1); err != nil || part.tag != octets {
			return nil, errBER
		}
		all = append(all, part.content...)
	}
	return all, nil
}
