package platform

import (
	"net/netip"
	"slices"
)

// retryRuns is how many runs, or datagrams that are read, go one by one where the system has
// refused to move more with a call. The reason may be the network card or a filter, and both
// can change.
const retryRuns = 1 << 12

// sendEach sends the datagrams of a run one by one, also those behind one that fails. It
// returns the first error.
func sendEach(run []byte, segment int, to netip.AddrPort, send func([]byte, netip.AddrPort) (int, error)) (first error) {
	for datagram := range slices.Chunk(run, segment) {
		if _, err := send(datagram, to); err != nil && first == nil {
			first = err
		}
	}
	return first
}
