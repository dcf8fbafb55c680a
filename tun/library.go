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
	bufs  [][]byte // of Read; made when first needed
	sizes []int
	out   [1][]byte // of Write: a copy, with headroom
}

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
		err := errEmpty // with which the library panics
		if len(p) > 0 {
			l.out[0] = append(append(l.out[0][:0], make([]byte, libraryHeadroom)...), p...)
			_, err = l.Device.Write(l.out[:], libraryHeadroom)
		}
		if refused == nil {
			refused = err
		}
	}
	return refused
}
