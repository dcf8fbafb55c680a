//go:build lab && linux

package lab

import "testing"

// One connection through NAT, there and back: the part of the lab that "make test"
// runs where the machine allows it.
func TestSmoke(t *testing.T) {
	h := start(t, "rw", "debug")
	p := loadProfile(t, "hybrid")
	before := network(t, h.ns)
	h.up(t, p)
	probe(t, h.ns, p)
	h.checkNames(t, corp)
	h.down(t)
	restored(t, h.ns, before)
}
