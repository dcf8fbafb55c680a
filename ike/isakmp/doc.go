// Package isakmp is the wire format of IKEv1: bytes to values and back.
//
// It holds no cryptography and no state. A datagram is a Header followed by a
// chain of payloads (RFC 2408 §3). [ParseHeader] splits the header off,
// [ParsePayloads] walks the chain, and one ParseX function per payload type
// turns a payload's body into a value; every value has an Append method that
// writes the body back.
//
// The parsers are total: every length field opens a sub-string that must be
// used up, so a message is either understood as a whole or refused. What is not
// understood survives raw: unknown payload types, attributes, vendor IDs.
// Payloads keep the bytes as received, because IKEv1 hashes messages in the form
// in which they crossed the wire.
//
// Sizes are bounded ([MaxPayloads], [MaxAttributes], [MaxProposals],
// [MaxTransforms]), and nothing is allocated in proportion to a length field
// that the input does not back with bytes.
package isakmp
