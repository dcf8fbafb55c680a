package ike

import "sync/atomic"

// claim says who may use the keys of an outbound SA: its one owner, amid a batch, or the one
// who has removed the SA, to wipe them. Neither ever waits for the other.
//
//	free ⇄ taken → removed → gone
//	free → gone
type claim struct{ state atomic.Int32 }

const (
	claimFree    int32 = iota
	claimTaken         // by the owner
	claimRemoved       // while the owner has it: the owner wipes the keys
	claimGone          // the keys are wiped, or about to be by whom remove or release told so
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
