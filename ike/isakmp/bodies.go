package isakmp

import (
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// KE, nonce, HASH, SIG, vendor ID and NAT-D payloads have no structure of their
// own: their body is the value.

// ID is the body of an identification payload (RFC 2407 §4.6.2).
type ID struct {
	Type     IDType
	Protocol uint8
	Port     uint16
	Data     []byte
}

// ParseID reads the body of an ID payload. It does not look into Data.
func ParseID(body []byte) (ID, error) {
	var id ID
	var typ uint8
	s := cryptobyte.String(body)
	if !s.ReadUint8(&typ) || !s.ReadUint8(&id.Protocol) || !s.ReadUint16(&id.Port) {
		return ID{}, malformed("truncated ID")
	}
	id.Type, id.Data = IDType(typ), s
	return id, nil
}

// Append writes the body of an ID payload.
func (id ID) Append(b []byte) []byte {
	b = append(b, byte(id.Type), id.Protocol)
	b = binary.BigEndian.AppendUint16(b, id.Port)
	return append(b, id.Data...)
}

// Cert is the body of a certificate or certificate request payload (RFC 2408
// §3.9, §3.10). Data may be empty: a request for any certificate, or the answer
// of a side that has none.
type Cert struct {
	Encoding uint8
	Data     []byte
}

// ParseCert reads the body of a CERT or CERTREQ payload; every body is one.
// Without an encoding byte it is taken as X.509, as Shrew's gateway sends its
// request.
func ParseCert(body []byte) (Cert, error) {
	if len(body) == 0 {
		return Cert{Encoding: CertX509Sig, Data: []byte{}}, nil
	}
	return Cert{Encoding: body[0], Data: body[1:]}, nil
}

// Append writes the body of a CERT or CERTREQ payload.
func (c Cert) Append(b []byte) []byte { return append(append(b, c.Encoding), c.Data...) }

// Notify is the body of a notification payload (RFC 2408 §3.14).
type Notify struct {
	DOI      uint32
	Protocol ProtocolID
	SPI      []byte
	Type     NotifyType
	Data     []byte
}

// ParseNotify reads the body of a Notify payload.
func ParseNotify(body []byte) (Notify, error) {
	var n Notify
	var proto, spiSize uint8
	var typ uint16
	s := cryptobyte.String(body)
	if !s.ReadUint32(&n.DOI) || !s.ReadUint8(&proto) || !s.ReadUint8(&spiSize) ||
		!s.ReadUint16(&typ) || !readBytes(&s, &n.SPI, int(spiSize)) {
		return Notify{}, malformed("truncated Notify")
	}
	n.Protocol, n.Type, n.Data = ProtocolID(proto), NotifyType(typ), s
	return n, nil
}

// Append writes the body of a Notify payload.
func (n Notify) Append(b []byte) []byte {
	if len(n.SPI) > 0xff {
		panic("isakmp: SPI too long")
	}
	b = binary.BigEndian.AppendUint32(b, n.DOI)
	b = append(b, byte(n.Protocol), byte(len(n.SPI)))
	b = binary.BigEndian.AppendUint16(b, uint16(n.Type))
	b = append(b, n.SPI...)
	return append(b, n.Data...)
}

// Delete is the body of a delete payload (RFC 2408 §3.15).
type Delete struct {
	DOI      uint32
	Protocol ProtocolID
	SPISize  uint8
	SPIs     [][]byte // each of SPISize bytes
}

// ParseDelete reads the body of a Delete payload.
func ParseDelete(body []byte) (Delete, error) {
	var d Delete
	var proto uint8
	var count uint16
	s := cryptobyte.String(body)
	if !s.ReadUint32(&d.DOI) || !s.ReadUint8(&proto) || !s.ReadUint8(&d.SPISize) || !s.ReadUint16(&count) {
		return Delete{}, malformed("truncated Delete")
	}
	if len(s) != int(count)*int(d.SPISize) || count > 0 && d.SPISize == 0 {
		return Delete{}, malformed("Delete of %d SPIs of %d bytes with %d bytes left", count, d.SPISize, len(s))
	}
	d.Protocol = ProtocolID(proto)
	if count > 0 {
		d.SPIs = slices.AppendSeq(make([][]byte, 0, count), slices.Chunk([]byte(s), int(d.SPISize)))
	}
	return d, nil
}

// Append writes the body of a Delete payload.
func (d Delete) Append(b []byte) []byte {
	if len(d.SPIs) > 0xffff {
		panic("isakmp: too many SPIs")
	}
	b = binary.BigEndian.AppendUint32(b, d.DOI)
	b = append(b, byte(d.Protocol), d.SPISize)
	b = binary.BigEndian.AppendUint16(b, uint16(len(d.SPIs)))
	for _, spi := range d.SPIs {
		if len(spi) != int(d.SPISize) {
			panic("isakmp: SPI of another size")
		}
		b = append(b, spi...)
	}
	return b
}

// Config is the body of an Attribute payload, which carries XAUTH and
// Mode-Config (draft-dukes-ike-mode-cfg-02 §3.2).
type Config struct {
	Type       ConfigType
	Identifier uint16
	Attributes []Attribute
}

// maxConfigPadding is how many zero bytes may follow the last attribute:
// Libreswan pads the payload to four bytes.
const maxConfigPadding = 3

// ParseConfig reads the body of an Attribute payload.
func ParseConfig(body []byte) (Config, error) {
	var c Config
	var typ, reserved uint8
	s := cryptobyte.String(body)
	if !s.ReadUint8(&typ) || !s.ReadUint8(&reserved) || !s.ReadUint16(&c.Identifier) {
		return Config{}, malformed("truncated Attribute payload")
	}
	c.Type = ConfigType(typ)
	as, err := ParseAttributes(s)
	for pad := 1; err != nil && pad <= maxConfigPadding && pad <= len(s) && s[len(s)-pad] == 0; pad++ {
		as, err = ParseAttributes(s[:len(s)-pad])
	}
	if err != nil {
		return Config{}, err
	}
	c.Attributes = as
	return c, nil
}

// Append writes the body of an Attribute payload.
func (c Config) Append(b []byte) []byte {
	b = append(b, byte(c.Type), 0)
	b = binary.BigEndian.AppendUint16(b, c.Identifier)
	return AppendAttributes(b, c.Attributes)
}

// Fragment is the body of a Cisco IKE fragment payload: a slice of a complete
// message. Undocumented; as racoon, strongSwan and Libreswan use it.
type Fragment struct {
	ID     uint16 // of the message; all known senders say 1
	Number uint8  // from 1
	Last   bool
	Data   []byte
}

const fragmentLast = 1

// ParseFragment reads the body of a fragment payload. A fragment without data or
// with number 0 is refused (CVE-2009-1574).
func ParseFragment(body []byte) (Fragment, error) {
	var f Fragment
	var flags uint8
	s := cryptobyte.String(body)
	if !s.ReadUint16(&f.ID) || !s.ReadUint8(&f.Number) || !s.ReadUint8(&flags) {
		return Fragment{}, malformed("truncated fragment")
	}
	if f.Number == 0 || s.Empty() {
		return Fragment{}, malformed("fragment %d of %d bytes", f.Number, len(s))
	}
	f.Last, f.Data = flags&fragmentLast != 0, s
	return f, nil
}

// Append writes the body of a fragment payload.
func (f Fragment) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, f.ID)
	var flags uint8
	if f.Last {
		flags = fragmentLast
	}
	b = append(b, f.Number, flags)
	return append(b, f.Data...)
}
