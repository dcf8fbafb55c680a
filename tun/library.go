package tun

import (
	"errors"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

var errEmpty = errors.New("a packet without a byte")

// libraryHeadroom is what the library needs before a packet, in bytes: macOS's utun says
// there which address family it is of.
const libraryHeadroom = 4

// packetIO moves the packets of an interface by the library's own Read and Write.
type packetIO struct {
	wgtun.Device
	bufs   [][]byte // of Read; made when first needed
	sizes  []int
	answer handed // of Answer
	out    handed // of Write
}

// handed is room for a copy of a packet, with headroom. On each system the library's own
// Write may run beside another: it writes before that packet alone (macOS), into memory
// that wintun gives for it (Windows), or takes its turn (Linux).
type handed [1][]byte

// Read implements Device.
func (l *packetIO) Read(take func(packet []byte)) error {
	if l.bufs == nil {
		l.bufs, l.sizes = make([][]byte, l.BatchSize()), make([]int, l.BatchSize())
		for i := range l.bufs {
			l.bufs[i] = make([]byte, libraryHeadroom+MaxMTU, libraryHeadroom+MaxMTU+Tailroom)
		}
	}
	n, err := l.Device.Read(l.bufs, l.sizes, libraryHeadroom)
	for i := range n {
		take(l.bufs[i][libraryHeadroom:][:l.sizes[i]])
	}
	return err
}

// Write implements Device. It hands over each packet by itself, for the library ends with
// the first one that the system refuses.
func (l *packetIO) Write(packets [][]byte) (refused error) {
	for _, p := range packets {
		if err := l.out.hand(l.Device, p); refused == nil {
			refused = err
		}
	}
	return refused
}

// Answer implements Device.
func (l *packetIO) Answer(packet []byte) error { return l.answer.hand(l.Device, packet) }

func (h *handed) hand(to wgtun.Device, packet []byte) error {
	if len(packet) == 0 {
		return errEmpty // with which the library panics
	}
	h[0] = append(append(h[0][:0], make([]byte, libraryHeadroom)...), packet...)
	_, err := to.Write(h[:], libraryHeadroom)
	return err
}
