package esp

import (
	"encoding/binary"
	"io"
	"sync/atomic"
)

// Next header values that an Expander deals with (RFC 4303 §2.6, IANA
// "protocol-numbers").
const (
	NextIPv4   byte = 4
	NextIPv6   byte = 41
	NextIPComp byte = 108

	nextDummy = 59
)

// MaxSequence is the highest sequence number that Seal uses. RFC 4303 §3.3.3
// forbids to wrap; the distance to 2^32 is a margin of packets on their way.
const MaxSequence uint32 = 1<<32 - 1<<20 - 1

// Outbound is an SA towards the peer.
type Outbound struct {
	spi    uint32
	layout layout
	sealer sealer // nil once zeroised

	compress Compressor // nil: none

	sequence uint32 // of the last packet
	total    uint64 // bytes of inner packets

	packets, bytes atomic.Uint64 // as of the last Finish
}

// OutboundStats counts the packets that are finished. Bytes are those of inner packets.
type OutboundStats struct {
	Packets, Bytes uint64
}

// NewOutbound makes the SA with which packets are sent. spi is the one that the
// peer chose, not zero. keymat is KeyMaterialLen bytes long, fresh for this SA
// (with AES-GCM and AES-CTR a second SA with the same key would give its plaintext
// away), and remains the caller's to wipe. rand gives the IVs in CBC mode.
func NewOutbound(t Transform, spi uint32, keymat []byte, rand io.Reader) (*Outbound, error) {
	p, err := t.prepare(spi, keymat)
	if err != nil {
		return nil, err
	}
	s, err := p.cipher.sealer(p, rand)
	if err != nil {
		return nil, err
	}
	return &Outbound{spi: spi, layout: p.layout, sealer: s}, nil
}

// A Compressor makes the IPComp payload of an IP packet, in place, and returns its
// length in bytes, or 0 if the packet is to stay as it is (RFC 3173 §2.2).
type Compressor func(packet []byte) int

// CompressWith has every inner packet compressed before it is encrypted. It is
// called before the first Seal.
func (o *Outbound) CompressWith(c Compressor) { o.compress = c }

// Seal makes an ESP packet of the inner IP packet buf[offset:offset+n], in place:
// it writes the header and the IV before it, the trailer and the ICV after it, and
// returns the ESP packet, a part of buf.
//
// It needs MaxHeadroom bytes before the inner packet and, within the capacity of
// buf, MaxTailroom bytes after it, else it returns ErrRoom; what stood there is
// overwritten. ErrMalformed: not an IP packet. ErrExhausted: see MaxSequence. Any
// other error is that of the source of random IVs. An error uses up no sequence
// number and, unless there is a Compressor, leaves the inner packet as it was.
func (o *Outbound) Seal(buf []byte, offset, n int) ([]byte, error) {
	if offset < MaxHeadroom || offset > len(buf) || n < 0 || n > len(buf)-offset || cap(buf)-offset-n < MaxTailroom {
		return nil, ErrRoom
	}
	packet, err := o.seal(buf[offset-o.layout.header:cap(buf)], buf[offset:offset+n])
	o.Finish()
	return packet, err
}

// Begin is Seal with the ESP packet made elsewhere, at the beginning of dst, which must
// be MaxHeadroom and MaxTailroom longer than the inner packet and not overlap it. Inner
// needs MaxTrailer bytes of capacity behind it, which are what they were afterwards, and
// is not needed any longer.
//
// The packet must not leave before Finish. Until then it may be plaintext, for several
// packets are encrypted together in much less time than one by one.
func (o *Outbound) Begin(dst, inner []byte) ([]byte, error) {
	n := len(inner)
	if len(dst) < MaxHeadroom+n+MaxTailroom || cap(inner)-n < MaxTrailer {
		return nil, ErrRoom
	}
	tail := (*[MaxTrailer]byte)(inner[n : n+MaxTrailer])
	behind := *tail
	packet, err := o.seal(dst, inner)
	*tail = behind
	return packet, err
}

// Finish completes the packets that Begin has begun, where they are, and counts them.
func (o *Outbound) Finish() {
	if o.sealer != nil {
		o.sealer.finish()
	}
	o.packets.Store(uint64(o.sequence))
	o.bytes.Store(o.total)
}

// seal begins the ESP packet of inner at the beginning of dst. Inner is elsewhere or
// where its ciphertext will be; the trailer is written behind it.
func (o *Outbound) seal(dst, inner []byte) ([]byte, error) {
	if o.sealer == nil {
		return nil, ErrZeroed
	}
	if len(inner) == 0 {
		return nil, ErrMalformed
	}
	var next byte
	switch inner[0] >> 4 {
	case 4:
		next = NextIPv4
	case 6:
		next = NextIPv6
	default:
		return nil, ErrMalformed
	}
	if o.sequence >= MaxSequence {
		return nil, ErrExhausted
	}
	seq := o.sequence + 1
	n := len(inner)
	if o.compress != nil {
		if c := o.compress(inner); c > 0 {
			n, next = c, NextIPComp
		}
	}

	padding := -(n + trailerLen) & (o.layout.block - 1) // blocks are powers of two
	plaintext := inner[:n+padding+trailerLen]
	trailer := plaintext[n:]
	for i := range padding {
		trailer[i] = byte(i + 1)
	}
	trailer[padding], trailer[padding+1] = byte(padding), next
	packet := dst[:o.layout.header+len(plaintext)+o.layout.icv]
	binary.BigEndian.PutUint64(packet, uint64(o.spi)<<32|uint64(seq))

	if err := o.sealer.seal(packet, plaintext); err != nil {
		return nil, err
	}
	o.sequence = seq
	o.total += uint64(len(inner))
	return packet, nil
}

// SPI is the one of the SA, chosen by the peer.
func (o *Outbound) SPI() uint32 { return o.spi }

// Stats counts what is finished so far. Anybody may call it.
func (o *Outbound) Stats() OutboundStats {
	return OutboundStats{Packets: o.packets.Load(), Bytes: o.bytes.Load()}
}

// Zero makes the SA useless: every later Seal returns ErrZeroed. Packets that wait for
// Finish are completed. It wipes salts, unused IVs and the expanded keys of CBC mode;
// others are inside the standard library, which has no means to wipe them, and are left
// to the garbage collector.
func (o *Outbound) Zero() {
	o.Finish()
	if o.sealer != nil {
		o.sealer.zero()
		o.sealer, o.compress = nil, nil
	}
}
