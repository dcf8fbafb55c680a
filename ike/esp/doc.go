// Package esp turns an inner IP packet into an ESP packet and back: tunnel mode,
// RFC 4303. It has no sockets, no timers and no policy; UDP encapsulation, the
// lookup of the SA by SPI and the check of selectors are its callers'.
//
// A Transform names the algorithms. Outbound and Inbound are the two directions
// of a pair of SAs, each with its own SPI and keys. Inside, a sealer or opener does
// the cryptography (combined mode in gcm.go; encrypt-then-MAC in mac.go, with the
// cipher modes of cbc.go and ctr.go), and the rest, sequence numbers, padding,
// replay window, checks of the inner packet, is the same for all transforms.
//
// Ciphers and hashes are the standard library's, but for CBC mode, where it does one
// block after the other. AES by the processor's instructions (aescbc.go, with the only
// assembly of the project; the standard library stands in where there are none) and
// 3DES (tripledes.go, on all processors) have several blocks in work at once: those of
// one packet when they decrypt, those of several packets when they encrypt, which is why
// there are Begin and Finish. Fuzzers compare both with the standard library. Finish also
// shows others, in both directions, how many packets and bytes there were.
//
// One goroutine owns a direction: it alone calls Seal and Begin, or Open, and Finish and
// Zero. Nothing is locked and, once an SA stands, nothing is allocated, on errors
// neither; only AES-GCM with an 8-byte ICV grows a buffer when a packet is larger than
// all before it. SPI and Stats may be called from anywhere.
//
// IPComp (RFC 3173) is a stage between the inner packet and ESP that the caller may
// hook into an SA: Compressor, Expander. It runs after the ICV and the replay window
// have been checked.
//
// There is neither NULL encryption nor encryption without integrity, and sequence
// numbers have 32 bits: extended ones are never negotiated.
package esp
