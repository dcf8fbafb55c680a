package ike

import "sync/atomic"

// claim says who may use the keys of an SA: its owner, in the midst of a batch, or who has
// removed it and wipes them. Neither ever waits for the other.
type claim struct{ state atomic.Int32 }

const (
	claimFree    int32 = iota
	claimTaken         // by the owner
	claimRemoved       // while the owner has it: the owner wipes the keys
	claimGone          // the keys are wiped, or will be by who has removed the SA
)

// take is the owner's; it reports false if the SA has been removed.
func (c *claim) take() bool { return c.state.CompareAndSwap(claimFree, claimTaken) }

// release ends what take began. It reports true if the SA was removed meanwhile: then the
// owner wipes the keys.
func (c *claim) release() bool {
	return !c.state.CompareAndSwap(claimTaken, claimFree) && c.state.CompareAndSwap(claimRemoved, claimGone)
}

// remove makes every take fail. It reports true if the keys are the caller's to wipe, once:
// nobody uses them.
func (c *claim) remove() bool {
	for {
		switch {
		case c.state.CompareAndSwap(claimFree, claimGone):
			return true
		case c.state.CompareAndSwap(claimTaken, claimRemoved), c.state.Load() >= claimRemoved:
			return false
		}
	}
}
