package ike

import "wayfarer/ike/isakmp"

// Identity is what a side calls itself in phase 1 (RFC 2407 §4.6.2).
type Identity struct {
	Type isakmp.IDType
	Data []byte
}
