package esp

import "errors"

// What Seal and Open report. All are returned as they are, so that the data path
// allocates nothing; compare with errors.Is.
var (
	// ErrMalformed: the packet breaks RFC 4303, or what it carries is not a whole
	// IP packet. Before the ICV is checked that is anybody's doing, after it the
	// peer's.
	ErrMalformed = errors.New("esp: malformed packet")
	// ErrReplay: the sequence number is zero, was seen, or is too old
	// (RFC 4303 §3.4.3).
	ErrReplay = errors.New("esp: replayed packet")
	// ErrICV: the packet is not authentic.
	ErrICV = errors.New("esp: wrong integrity check value")
	// ErrDummy: an authentic packet without content, sent to confuse traffic
	// analysis; it is dropped in silence (RFC 4303 §2.6).
	ErrDummy = errors.New("esp: dummy packet")
	// ErrExhausted: the SA has no sequence number left; it must be replaced.
	ErrExhausted = errors.New("esp: sequence numbers exhausted")
	// ErrRoom: the caller's buffer has no room for the result.
	ErrRoom = errors.New("esp: no room in the buffer")
	// ErrZeroed: the SA was zeroised.
	ErrZeroed = errors.New("esp: SA zeroised")
)
