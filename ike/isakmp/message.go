package isakmp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// Bounds on what a message may hold. Real gateways stay far below: strongSwan
// sends at most 20 payloads, a Mode-Config reply of 256 split networks is one
// attribute.
const (
	HeaderLen     = 28
	MaxPayloads   = 64
	MaxProposals  = 64
	MaxTransforms = 255 // the count is one byte
	MaxAttributes = 1024
)

// genericHeaderLen is the size of the header of every payload (RFC 2408 §3.2).
const genericHeaderLen = 4

// ErrMalformed is what every parse error of this package wraps.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Cookie is CKY-I or CKY-R: together they name an ISAKMP SA (RFC 2408 §2.5.3).
type Cookie [8]byte

// IsZero reports whether the cookie is unset, as CKY-R is in the first message.
func (c Cookie) IsZero() bool { return c == Cookie{} }

// String is the cookie in hexadecimal, as strongSwan's log writes it.
func (c Cookie) String() string { return hex.EncodeToString(c[:]) }

// Header is the ISAKMP header (RFC 2408 §3.1).
type Header struct {
	CKYI, CKYR  Cookie
	NextPayload PayloadType
	Version     uint8 // major 4 bits, minor 4 bits
	Exchange    ExchangeType
	Flags       Flags
	MessageID   uint32 // M-ID: 0 in phase 1
	Length      uint32 // of the whole message in bytes; Append writes it as it is
}

// Version1 is the version byte of IKEv1.
const Version1 uint8 = 0x10

// Encrypted reports whether the body is ciphertext.
func (h *Header) Encrypted() bool { return h.Flags&FlagEncrypted != 0 }

// ParseHeader reads the header of a datagram (without non-ESP marker) and
// returns the body, of exactly Length-28 bytes. Bytes after Length are dropped,
// as RFC 2408 §5.1 leaves them undefined.
func ParseHeader(datagram []byte) (h Header, body []byte, err error) {
	s := cryptobyte.String(datagram)
	var next, exchange, flags uint8
	if !s.CopyBytes(h.CKYI[:]) || !s.CopyBytes(h.CKYR[:]) ||
		!s.ReadUint8(&next) || !s.ReadUint8(&h.Version) ||
		!s.ReadUint8(&exchange) || !s.ReadUint8(&flags) ||
		!s.ReadUint32(&h.MessageID) || !s.ReadUint32(&h.Length) {
		return Header{}, nil, malformed("%d bytes are no ISAKMP header", len(datagram))
	}
	h.NextPayload, h.Exchange, h.Flags = PayloadType(next), ExchangeType(exchange), Flags(flags)
	if h.Version>>4 != Version1>>4 {
		return Header{}, nil, malformed("version %d.%d", h.Version>>4, h.Version&15)
	}
	if h.Length < HeaderLen || h.Length > uint32(len(datagram)) {
		return Header{}, nil, malformed("length %d in a datagram of %d bytes", h.Length, len(datagram))
	}
	return h, datagram[HeaderLen:h.Length:h.Length], nil
}

// readBytes is s.ReadBytes with a result that has no spare capacity: appending to
// it must not write over what follows, which may yet be hashed.
func readBytes(s *cryptobyte.String, out *[]byte, n int) bool {
	ok := s.ReadBytes(out, n)
	*out = slices.Clip(*out)
	return ok
}

// Append writes the header, Length included.
func (h Header) Append(b []byte) []byte {
	b = append(b, h.CKYI[:]...)
	b = append(b, h.CKYR[:]...)
	b = append(b, byte(h.NextPayload), h.Version, byte(h.Exchange), byte(h.Flags))
	b = binary.BigEndian.AppendUint32(b, h.MessageID)
	return binary.BigEndian.AppendUint32(b, h.Length)
}

// Payload is one link of a message's chain.
type Payload struct {
	Type PayloadType
	Body []byte // without the generic header
	Raw  []byte // with the generic header, as received; nil in a payload to send
}

// ParsePayloads walks the chain that starts with type first. Body and Raw alias
// b. Rest is what follows the last payload: the padding of an encrypted message
// (never interpreted, RFC 2409 Appendix B), or surplus that the caller of a
// cleartext message refuses.
func ParsePayloads(first PayloadType, b []byte) (ps []Payload, rest []byte, err error) {
	for next := first; next != PayloadNone; {
		if len(ps) == MaxPayloads {
			return nil, nil, malformed("more than %d payloads", MaxPayloads)
		}
		body, follows, n, err := readGeneric(b)
		if err != nil {
			return nil, nil, fmt.Errorf("%v payload: %w", next, err)
		}
		ps = append(ps, Payload{Type: next, Body: body, Raw: b[:n:n]})
		next, b = follows, b[n:]
	}
	return ps, b, nil
}

// readGeneric reads a generic payload header and the body that it announces.
func readGeneric(b []byte) (body []byte, next PayloadType, n int, err error) {
	s := cryptobyte.String(b)
	var np, reserved uint8
	var length uint16
	if !s.ReadUint8(&np) || !s.ReadUint8(&reserved) || !s.ReadUint16(&length) {
		return nil, 0, 0, malformed("truncated generic header")
	}
	if length < genericHeaderLen || !readBytes(&s, &body, int(length)-genericHeaderLen) {
		return nil, 0, 0, malformed("length %d with %d bytes left", length, len(b))
	}
	return body, PayloadType(np), int(length), nil
}

// AppendPayloads writes a chain of payloads; their Raw form is not looked at. A
// body of more than 65,531 bytes does not fit a payload and panics: callers bound
// what they send. It grows b at most once: of a secret no copies stay behind.
func AppendPayloads(b []byte, ps ...Payload) []byte {
	size := 0
	for _, p := range ps {
		size += genericHeaderLen + len(p.Body)
	}
	b = slices.Grow(b, size)
	for i, p := range ps {
		next := PayloadNone
		if i+1 < len(ps) {
			next = ps[i+1].Type
		}
		b = appendGeneric(b, next, p.Body)
	}
	return b
}

func appendGeneric(b []byte, next PayloadType, body []byte) []byte {
	length := genericHeaderLen + len(body)
	if length > 0xffff {
		panic("isakmp: payload too long")
	}
	b = append(b, byte(next), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	return append(b, body...)
}

// AppendMessage writes a cleartext message: h with its NextPayload and Length
// filled in, and the chain.
func AppendMessage(b []byte, h Header, ps ...Payload) []byte {
	h.NextPayload = FirstType(ps)
	h.Length = HeaderLen
	for _, p := range ps {
		h.Length += genericHeaderLen + uint32(len(p.Body))
	}
	return AppendPayloads(h.Append(b), ps...)
}

// FirstType is the type of the first payload, for a header's NextPayload.
func FirstType(ps []Payload) PayloadType {
	if len(ps) == 0 {
		return PayloadNone
	}
	return ps[0].Type
}

// Describe lists payload types as the log shows them: "[ ID CERT SIG ]".
func Describe(ps []Payload) string {
	var b strings.Builder
	b.WriteString("[ ")
	for _, p := range ps {
		b.WriteString(p.Type.String())
		if p.Type == PayloadNotify {
			if n, err := ParseNotify(p.Body); err == nil {
				fmt.Fprintf(&b, "(%v)", n.Type)
			}
		}
		b.WriteByte(' ')
	}
	b.WriteByte(']')
	return b.String()
}
