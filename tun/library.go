package tun

import (
	"errors"
	"os"
	"runtime"
	"sync"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

var errEmpty = errors.New("a packet without a byte")

// libraryHeadroom is what the library needs before a packet, in bytes: macOS's utun says
// there which address family it is of.
const libraryHeadroom = 4

// readAhead is how many packets wait to be taken by Read at most: a run of datagrams to the
// gateway has no more.
const readAhead = 64

// packetIO moves the packets of an interface by the library's own Read and Write. Where the
// library gives one packet with each call, and does not tell whether another waits, a
// goroutine reads ahead: what waits is what it has read and nobody has taken. So it is on
// macOS and Windows alike; macOS would let its descriptor be read to the end, but in a second
// way that only a Mac can run.
type packetIO struct {
	wgtun.Device
	read    chan []byte // for Read, headroom included; closed behind the last one
	free    chan []byte // for ahead
	made    int         // how many buffers there are; owned by ahead
	err     error       // of the library's Read; set before read is closed
	closing sync.Once
	closed  chan struct{}
	answer  handed // of Answer
	out     handed // of Write
}

// handed is room for a copy of a packet, with headroom. On each system the library's own
// Write may run beside another: it writes before that packet alone (macOS), into memory
// that wintun gives for it (Windows), or takes its turn (Linux).
type handed [1][]byte

// FromLibrary takes over an interface of the library's that gives one packet with each Read,
// and starts to read it.
func FromLibrary(dev wgtun.Device) Device {
	l := &packetIO{
		Device: dev,
		read:   make(chan []byte, readAhead), free: make(chan []byte, readAhead),
		closed: make(chan struct{}),
	}
	go l.ahead()
	return l
}

// ahead reads until Close, or the first error. With one processor it lets each packet be
// taken before it reads on: wintun waits in a call of the system, which would keep the
// processor from who takes it for some milliseconds.
func (l *packetIO) ahead() {
	defer close(l.read)
	alone := runtime.GOMAXPROCS(0) == 1
	bufs, sizes := make([][]byte, 1), make([]int, 1)
	for {
		buf := l.room()
		if buf == nil {
			return
		}
		bufs[0] = buf
		n, err := l.Device.Read(bufs, sizes, libraryHeadroom)
		if n == 0 {
			l.free <- buf
		} else {
			l.read <- buf[:libraryHeadroom+sizes[0]] // there is room: it has that for all buffers
		}
		if err != nil {
			l.err = err
			return
		}
		if alone {
			runtime.Gosched()
			runtime.Gosched() // now and then the scheduler prefers who has just yielded
		}
	}
}

// room is a buffer to read into; none after Close, it may be. One is made when all before it
// have packets, up to readAhead.
func (l *packetIO) room() []byte {
	select {
	case buf := <-l.free:
		return buf
	default:
	}
	if l.made < readAhead {
		l.made++
		return make([]byte, libraryHeadroom+MaxMTU, libraryHeadroom+MaxMTU+Tailroom)
	}
	select {
	case buf := <-l.free:
		return buf
	case <-l.closed:
		return nil
	}
}

// Read implements Device.
func (l *packetIO) Read(take func(packet []byte)) error {
	buf, more := <-l.read
	for size := 0; more && !l.isClosed(); {
		take(buf[libraryHeadroom:])
		size += len(buf)
		l.free <- buf[:libraryHeadroom+MaxMTU]
		if size >= readAtOnce {
			return nil
		}
		select {
		case buf, more = <-l.read:
		default:
			return nil
		}
	}
	if l.isClosed() {
		return os.ErrClosed
	}
	return l.err
}

func (l *packetIO) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// Close implements Device.
func (l *packetIO) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Device.Close()
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
