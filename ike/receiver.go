package ike

import (
	"net"
	"time"
)

// maxPosted is how many calls may wait for a receive loop.
const maxPosted = 16

// receiver is the receive loop of a socket, as others see it. What they want of what it
// owns it does itself, between two reads.
type receiver struct {
	conn   net.PacketConn
	posted chan func()
	ended  chan struct{} // closed when the loop has ended
}

func newReceiver(conn net.PacketConn) *receiver {
	return &receiver{conn: conn, posted: make(chan func(), maxPosted), ended: make(chan struct{})}
}

// post has the loop call f, at once if it waits for datagrams. It reports false if the
// loop has ended.
func (r *receiver) post(f func()) bool {
	select {
	case <-r.ended: // nobody would take it out
		return false
	default:
	}
	select {
	case r.posted <- f:
		r.wake()
		return true
	case <-r.ended:
		return false
	}
}

// offer is post without waiting; it reports false, too, if too many calls wait.
func (r *receiver) offer(f func()) bool {
	select {
	case r.posted <- f:
		r.wake()
		return true
	default:
		return false
	}
}

// wake ends the read that waits, or the next one, with os.ErrDeadlineExceeded.
func (r *receiver) wake() { _ = r.conn.SetReadDeadline(time.Unix(1, 0)) }

// attend is what the loop does when a read was ended by wake.
func (r *receiver) attend() {
	_ = r.conn.SetReadDeadline(time.Time{}) // first: who posts from here on wakes it again
	r.callPosted()
}

func (r *receiver) callPosted() {
	for {
		select {
		case f := <-r.posted:
			f()
		default:
			return
		}
	}
}

// end is the last thing that the loop does.
func (r *receiver) end() {
	r.callPosted()
	close(r.ended)
}

// byOwner has the loop that owns the way in of ESP call f, and does not wait for it. It
// reports false if that has ended, as it does when the transport is closed.
func (t *transport) byOwner(f func()) bool {
	r := t.esp.Load()
	return r.post(func() {
		if t.esp.Load() == r {
			f()
		} else { // since
			t.byOwner(f)
		}
	})
}

// receiveBy makes r the loop that owns the way in of ESP. Only Dial's goroutine and the
// control loop call it.
func (t *transport) receiveBy(r *receiver) {
	done := make(chan struct{})
	if t.esp.Load() != r && t.byOwner(func() { t.esp.Store(r); close(done) }) {
		<-done
	}
}

// arrived takes ESP packets that have come by the socket of r. Its owner opens them where
// they are. Those that came by another socket than they should are few: they are copied,
// and reports false.
func (t *transport) arrived(r *receiver, packets [][]byte) (owned bool) {
	owner := t.esp.Load()
	if owner == r {
		t.takeESP(packets)
		return true
	}
	copies := make([][]byte, len(packets))
	for i, packet := range packets {
		copies[i] = append([]byte(nil), packet...)
	}
	owner.offer(func() { t.arrived(owner, copies) })
	return false
}
