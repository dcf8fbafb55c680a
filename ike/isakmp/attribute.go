package isakmp

import (
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Attribute is a data attribute (RFC 2408 §3.3): in proposals, XAUTH and
// Mode-Config.
type Attribute struct {
	Type  uint16 // 15 bits
	Basic bool   // TV form: Value has two bytes
	Value []byte
}

// attributeFormat is the bit that tells TV from TLV.
const attributeFormat = 0x8000

// attributeHeaderLen is the size of type and length.
const attributeHeaderLen = 4

// BasicAttribute makes an attribute in TV form.
func BasicAttribute(typ, value uint16) Attribute {
	return Attribute{Type: typ, Basic: true, Value: binary.BigEndian.AppendUint16(nil, value)}
}

// NumberAttribute makes an attribute for a variable-length number: TV when it
// fits two bytes, else TLV with four (RFC 2407 §4.5).
func NumberAttribute(typ uint16, value uint32) Attribute {
	if value <= 0xffff {
		return BasicAttribute(typ, uint16(value))
	}
	return Attribute{Type: typ, Value: binary.BigEndian.AppendUint32(nil, value)}
}

// Uint reads the value as an unsigned number of up to eight bytes, in whichever
// form it came.
func (a Attribute) Uint() (v uint64, ok bool) {
	if len(a.Value) == 0 || len(a.Value) > 8 {
		return 0, false
	}
	for _, c := range a.Value {
		v = v<<8 | uint64(c)
	}
	return v, true
}

// ParseAttributes reads attributes up to the end of b.
func ParseAttributes(b []byte) ([]Attribute, error) {
	var as []Attribute
	s := cryptobyte.String(b)
	for !s.Empty() {
		if len(as) == MaxAttributes {
			return nil, malformed("more than %d attributes", MaxAttributes)
		}
		var a Attribute
		var length uint16
		if !s.ReadUint16(&a.Type) {
			return nil, malformed("truncated attribute")
		}
		a.Basic = a.Type&attributeFormat != 0
		a.Type &^= attributeFormat
		if a.Basic {
			if !readBytes(&s, &a.Value, 2) {
				return nil, malformed("truncated attribute %d", a.Type)
			}
		} else if !s.ReadUint16(&length) || !readBytes(&s, &a.Value, int(length)) {
			return nil, malformed("attribute %d longer than its payload", a.Type)
		}
		as = append(as, a)
	}
	return as, nil
}

// AppendAttributes writes attributes. A Basic value must have two bytes, any
// other at most 65,535; else it panics. It grows b at most once, as AppendPayloads.
func AppendAttributes(b []byte, as []Attribute) []byte {
	size := 0
	for _, a := range as {
		size += attributeHeaderLen + len(a.Value)
	}
	b = slices.Grow(b, size)
	for _, a := range as {
		if a.Basic {
			if len(a.Value) != 2 {
				panic("isakmp: basic attribute whose value has not two bytes")
			}
			b = binary.BigEndian.AppendUint16(b, a.Type|attributeFormat)
			b = append(b, a.Value...)
			continue
		}
		if len(a.Value) > 0xffff {
			panic("isakmp: attribute too long")
		}
		b = binary.BigEndian.AppendUint16(b, a.Type&^attributeFormat)
		b = binary.BigEndian.AppendUint16(b, uint16(len(a.Value)))
		b = append(b, a.Value...)
	}
	return b
}

// Find returns the first attribute of the given type.
func Find(as []Attribute, typ uint16) (Attribute, bool) {
	for _, a := range as {
		if a.Type == typ {
			return a, true
		}
	}
	return Attribute{}, false
}
