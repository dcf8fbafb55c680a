package platform

import (
	"encoding/binary"
	"net/netip"
)

// A control message of Windows (WSACMSGHDR, ws2def.h; the same on amd64 and arm64), which
// has the stack cut what is sent into datagrams, or the network card if it can
// (UDP_SEND_MSG_SIZE, ws2ipdef.h; Windows 10 2004).
//
//	len: uint64 | level, type: int32 | segment: uint32 | 4 bytes to the next
const (
	ipprotoUDP      = 17
	udpSendMsgSize  = 2
	winControlLen   = 20
	winControlSpace = 24
)

// winBatches is a UDP socket's way of sending many datagrams with a call on Windows.
type winBatches struct {
	// sendRun sends what control says, with one call; all of it or nothing.
	sendRun func(run, control []byte, to netip.AddrPort) error
	// sendOne sends a datagram.
	sendOne func(datagram []byte, to netip.AddrPort) (int, error)
	// refuses says whether an error of sendRun is not that run's alone: the system seems
	// not to know the message.
	refuses func(error) bool

	// Owned by the writer.
	apart   bool // the system sends no runs
	singly  int  // so many runs go datagram by datagram
	control [winControlSpace]byte
}

// writeBatch sends runs as ike.BatchConn says.
func (b *winBatches) writeBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	for i, run := range runs {
		if err := b.write(run, segments[i], to); err != nil {
			return i, err
		}
	}
	return len(runs), nil
}

func (b *winBatches) write(run []byte, segment int, to netip.AddrPort) error {
	if b.singly > 0 {
		b.singly--
	} else if !b.apart && len(run) > segment {
		err := b.sendRun(run, b.controlFor(segment), to)
		if err == nil {
			return nil
		}
		// Nothing has gone. A run may fail for what its datagrams do not.
		if b.refuses(err) {
			b.singly = retryRuns
		}
	}
	return sendEach(run, segment, to, b.sendOne)
}

// controlFor is the message that cuts into datagrams of segment bytes.
func (b *winBatches) controlFor(segment int) []byte {
	c := b.control[:]
	binary.LittleEndian.PutUint64(c, winControlLen)
	binary.LittleEndian.PutUint32(c[8:], ipprotoUDP)
	binary.LittleEndian.PutUint32(c[12:], udpSendMsgSize)
	binary.LittleEndian.PutUint32(c[16:], uint32(segment))
	return c
}
