package ike

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wayfarer/ike/esp"
)

// readEnds is the SetReadDeadline of sockets that tests make: a read waits for it, too.
type readEnds chan struct{}

func newReadEnds() readEnds { return make(readEnds, 1) }

// SetReadDeadline ends the read that waits, or the next one, or lets them wait again.
func (e readEnds) SetReadDeadline(t time.Time) error {
	select {
	case <-e:
	default:
	}
	if !t.IsZero() {
		select {
		case e <- struct{}{}:
		default:
		}
	}
	return nil
}

// byOwner calls f where ESP comes in.
func byOwner(t testing.TB, s *Session, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !s.transport.byOwner(func() { f(); close(done) }) {
		t.Error("the loop has ended")
		return
	}
	<-done
}

// TestOwnerCalls: the loop does what is posted though nothing comes, one call after the
// other, and all of it before it ends.
func TestOwnerCalls(t *testing.T) {
	s := loopbackSession(t)
	calls := 0 // without a lock: the race detector sees two at once
	var posters sync.WaitGroup
	for range 4 {
		posters.Go(func() {
			for range 100 {
				byOwner(t, s, func() { calls++ })
			}
		})
	}
	posters.Wait()
	if calls != 400 {
		t.Errorf("%d calls, want 400", calls)
	}
	busy := make(chan struct{})
	s.transport.byOwner(func() { <-busy })
	last := false
	s.transport.byOwner(func() { last = true })
	closed := make(chan struct{})
	go func() { s.transport.close(); close(closed) }()
	close(busy)
	<-closed
	if !last {
		t.Error("what was posted before the end is not done")
	}
	if s.transport.byOwner(func() { t.Error("called after the end") }) {
		t.Error("the loop takes calls after its end")
	}
	s.Receive(nil) // does not wait for ever
}

// TestRemoveWhileNothingComes: the keys of an inbound SA are wiped when it is removed,
// whatever its owner waits for.
func TestRemoveWhileNothingComes(t *testing.T) {
	s := loopbackSession(t)
	f := newForeignSA(t, s, 0x11111111)
	packet := f.seal(t, ipv4(insideHost, firstVIP, "hello"))
	removed := make(chan struct{})
	s.do(func() error { s.install(f.child); s.remove(f.child); close(removed); return nil })
	<-removed
	byOwner(t, s, func() {
		if _, err := f.child.in.Open(make([]byte, len(packet)), packet); !errors.Is(err, esp.ErrZeroed) {
			t.Errorf("opening a packet: %v, want %v", err, esp.ErrZeroed)
		}
	})
}

// secondSocket opens another socket for a session, until the test ends.
func secondSocket(t *testing.T, s *Session) *socket {
	t.Helper()
	u, err := s.transport.openUDP(t.Context(), &s.cfg, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.conn.Close(); <-u.ended })
	return u
}

// TestOwnerHandsOver: what was posted to a loop that is no longer the owner when it comes to
// that, the new one does.
func TestOwnerHandsOver(t *testing.T) {
	s := loopbackSession(t)
	next := secondSocket(t, s)
	first := s.transport.conn
	busy, nextBusy := make(chan struct{}), make(chan struct{})
	first.post(func() { <-busy })
	for len(first.posted) > 0 {
		runtime.Gosched()
	}
	next.post(func() { <-nextBusy })
	handed := make(chan struct{})
	go func() { s.transport.receiveBy(next.receiver); close(handed) }()
	for len(first.posted) == 0 {
		runtime.Gosched()
	}
	var called atomic.Bool
	done, passed := make(chan struct{}), make(chan struct{})
	s.transport.byOwner(func() { called.Store(true); close(done) })
	first.post(func() { close(passed) })
	close(busy)
	<-handed
	if <-passed; called.Load() {
		t.Error("the loop did what is another's")
	}
	close(nextBusy)
	<-done
}

// TestForeignESPFollowsTheOwner: ESP that was handed to a loop which has ceased to be the
// owner goes on to the new one.
func TestForeignESPFollowsTheOwner(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	taken := 0
	first, next, other := newReceiver(conn), newReceiver(conn), newReceiver(conn)
	tr := &transport{takeESP: func(packets [][]byte) { taken += len(packets) }}
	tr.esp.Store(first)
	tr.arrived(other, [][]byte{{1}, {2}})
	tr.esp.Store(next)
	if first.callPosted(); taken != 0 {
		t.Errorf("%d packets taken by a loop that is not the owner", taken)
	}
	if next.callPosted(); taken != 2 {
		t.Errorf("%d packets taken, want 2", taken)
	}
}

// TestOtherSocket: ESP that comes by another socket than it should is delivered, too, by
// the owner of the way in, of which there is one also while it changes.
func TestOtherSocket(t *testing.T) {
	s := loopbackSession(t)
	other := secondSocket(t, s)
	f := newForeignSA(t, s, 0x11111111)
	installed := make(chan struct{})
	s.do(func() error { s.install(f.child); close(installed); return nil })
	<-installed
	delivered, come := 0, make(chan struct{}, 1000) // delivered: without a lock, as above
	s.Receive(func(packets [][]byte) {
		delivered += len(packets)
		for range packets {
			come <- struct{}{}
		}
	})
	sockets := []*socket{s.transport.conn, other}
	var writers [2]net.Conn
	for i, u := range sockets {
		port := addrPortOf(u.conn.LocalAddr()).Port()
		var err error
		if writers[i], err = net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
			t.Fatal(err)
		}
		defer writers[i].Close()
	}
	const rounds = 300
	for i := range rounds {
		if i%50 == 49 {
			s.do(func() error { s.transport.receiveBy(sockets[i/50%2].receiver); return nil })
		}
		for _, w := range writers {
			if _, err := w.Write(f.seal(t, ipv4(insideHost, firstVIP, "hello"))); err != nil {
				t.Fatal(err)
			}
		}
		<-come
		<-come
	}
	byOwner(t, s, func() {
		if delivered != 2*rounds {
			t.Errorf("%d packets, want %d", delivered, 2*rounds)
		}
	})
}
