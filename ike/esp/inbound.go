package esp

import (
	"encoding/binary"
	"sync/atomic"
)

// Inbound is an SA from the peer.
type Inbound struct {
	spi    uint32
	layout layout
	opener opener   // nil once zeroised
	expand Expander // nil: none
	window window
	probes int // left, see probeTruncation

	opened, total uint64 // inner packets that Open returned, and their bytes

	packets, bytes                              atomic.Uint64 // as of the last Finish
	replayed, badICV, truncated96, badExpansion atomic.Uint64
}

// InboundStats counts what Open met. Packets and Bytes are of inner packets that
// it had returned by the last Finish.
type InboundStats struct {
	Packets, Bytes   uint64
	Replayed, BadICV uint64

	// Truncated96 counts packets that were refused by an SA with HMACSHA256_128
	// and would have been authentic with HMACSHA256_96: the peer is of the kind
	// that needs that. It is looked for in the first packets of an SA only. A hint
	// and no more: somebody on the path who takes four bytes off the packets of
	// any other peer makes them look the same.
	Truncated96 uint64

	// BadExpansion counts authentic packets that the Expander refused.
	BadExpansion uint64
}

// Peers with an old HMAC-SHA2-256 announce the same algorithm and cut it to 96
// bits. An SA tells them by the first packets that it refuses, until it has met an
// authentic one.
const (
	truncatedICV     = 12 // bytes
	truncationProbes = 16
)

// NewInbound makes the SA with which packets are received. spi is the one that we
// chose, not zero. keymat is KeyMaterialLen bytes long and remains the caller's to
// wipe.
func NewInbound(t Transform, spi uint32, keymat []byte) (*Inbound, error) {
	p, err := t.prepare(spi, keymat)
	if err != nil {
		return nil, err
	}
	o, err := p.cipher.opener(p)
	if err != nil {
		return nil, err
	}
	i := &Inbound{spi: spi, layout: p.layout, opener: o}
	if t.Integrity == HMACSHA256_128 {
		i.probes = truncationProbes
	}
	return i, nil
}

// An Expander undoes the peer's compression. Of the payload of an ESP packet and its
// next header it makes, in dst, what they would have been without IPComp; what it
// returns is checked like any other payload. It fails with ErrMalformed, or with
// ErrRoom if dst is too small.
type Expander func(dst, payload []byte, next byte) (expanded []byte, inner byte, err error)

// ExpandWith has every payload expanded after it was decrypted. It is called before
// the first Open.
func (i *Inbound) ExpandWith(e Expander) { i.expand = e }

// Open checks and decrypts packet, from SPI to ICV, into dst and returns the inner
// IP packet, a part of dst, cut to the length that its header states.
//
// dst needs the capacity of the ciphertext, which len(packet) always exceeds, else
// Open returns ErrRoom. It must not overlap packet, with one exception: with dst =
// packet[HeaderLen:] the packet is decrypted where it is. With an Expander it must
// not overlap at all, packet is overwritten, and the length of dst bounds the inner
// packet. After an error the content of dst is undefined.
//
// The other errors are ErrMalformed, ErrReplay, ErrICV and ErrDummy. Only a packet
// with a right ICV changes the replay window; it does so with ErrDummy and with
// errors in what was encrypted, too.
func (i *Inbound) Open(dst, packet []byte) ([]byte, error) {
	if i.opener == nil {
		return nil, ErrZeroed
	}
	n := len(packet) - i.layout.header - i.layout.icv
	if n < i.layout.block || n%i.layout.block != 0 || binary.BigEndian.Uint32(packet) != i.spi {
		i.probeTruncation(packet)
		return nil, ErrMalformed
	}
	if cap(dst) < n {
		return nil, ErrRoom
	}
	plaintext := dst[:n]
	if i.expand != nil {
		plaintext = packet[i.layout.header:][:n]
	}
	seq := binary.BigEndian.Uint32(packet[4:])
	if !i.window.fresh(seq) {
		i.replayed.Add(1)
		return nil, ErrReplay
	}
	if !i.opener.open(plaintext, packet) {
		i.badICV.Add(1)
		i.probeTruncation(packet)
		return nil, ErrICV
	}
	i.probes = 0
	i.window.mark(seq)
	payload, next, err := unpad(plaintext)
	if err == nil && i.expand != nil {
		if payload, next, err = i.expand(dst[:max(n, len(dst))], payload, next); err != nil {
			i.badExpansion.Add(1)
		}
	}
	if err != nil {
		return nil, err
	}
	length := innerLen(payload, next)
	if length < 0 {
		return nil, ErrMalformed
	}
	inner := payload[:length]
	i.opened++
	i.total += uint64(len(inner))
	return inner, nil
}

// Finish counts what Open has returned, once for packets that came together: to store
// what others may read costs more than much else that is done for a packet.
func (i *Inbound) Finish() {
	i.packets.Store(i.opened)
	i.bytes.Store(i.total)
}

// probeTruncation looks whether a refused packet is one with an ICV of 96 bits. With
// CBC it was refused for its length already.
func (i *Inbound) probeTruncation(packet []byte) {
	n := len(packet) - i.layout.header - truncatedICV
	if i.probes == 0 || n < i.layout.block || n%i.layout.block != 0 {
		return
	}
	i.probes--
	if o := i.opener.(*macOpener); o.authentic(packet, truncatedICV) {
		i.truncated96.Add(1)
	}
}

// unpad takes the payload out of what was decrypted, at least four bytes:
// inner packet | traffic flow padding | padding | pad length | next header.
func unpad(plaintext []byte) (payload []byte, next byte, err error) {
	payload, trailer := plaintext[:len(plaintext)-trailerLen], plaintext[len(plaintext)-trailerLen:]
	padLen, next := int(trailer[0]), trailer[1]
	if next == nextDummy { // nothing else of it need be well-formed
		return nil, 0, ErrDummy
	}
	if padLen > len(payload) {
		return nil, 0, ErrMalformed
	}
	payload, padding := payload[:len(payload)-padLen], payload[len(payload)-padLen:]
	for i, b := range padding {
		if int(b) != i+1 {
			return nil, 0, ErrMalformed
		}
	}
	return payload, next, nil
}

// innerLen is the length that the header of the inner packet states, or -1 if the
// packet is of another version than the next header field says or incomplete.
func innerLen(payload []byte, next byte) int {
	const ipv4Header, ipv6Header = 20, 40
	switch {
	case next == NextIPv4 && len(payload) >= ipv4Header && payload[0]>>4 == 4:
		header, total := int(payload[0]&0xf)*4, int(binary.BigEndian.Uint16(payload[2:]))
		if header >= ipv4Header && header <= total && total <= len(payload) {
			return total
		}
	case next == NextIPv6 && len(payload) >= ipv6Header && payload[0]>>4 == 6:
		total := ipv6Header + int(binary.BigEndian.Uint16(payload[4:]))
		if total <= len(payload) {
			return total
		}
	}
	return -1
}

// SPI is the one of the SA, chosen by us.
func (i *Inbound) SPI() uint32 { return i.spi }

// Stats counts what Open met so far. Anybody may call it.
func (i *Inbound) Stats() InboundStats {
	return InboundStats{
		Packets:  i.packets.Load(),
		Bytes:    i.bytes.Load(),
		Replayed: i.replayed.Load(),
		BadICV:   i.badICV.Load(),

		Truncated96:  i.truncated96.Load(),
		BadExpansion: i.badExpansion.Load(),
	}
}

// Zero makes the SA useless: every later Open returns ErrZeroed. It wipes
// salts and the expanded keys of CBC mode; others are inside the standard library,
// which has no means to wipe them, and are left to the garbage collector.
func (i *Inbound) Zero() {
	i.Finish()
	if i.opener != nil {
		i.opener.zero()
		i.opener, i.expand = nil, nil
	}
}
