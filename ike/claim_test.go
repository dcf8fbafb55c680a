package ike

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"wayfarer/ike/esp"
)

// TestClaim: exactly one wipes the keys, whatever the order.
func TestClaim(t *testing.T) {
	var c claim
	if !c.take() || c.release() || !c.take() || c.release() {
		t.Error("its owner may not use it, or shall wipe it")
	}
	if !c.remove() || c.remove() || c.take() {
		t.Error("free: who removes it does not wipe it, or not alone")
	}
	c = claim{}
	if !c.take() || c.remove() || c.remove() || !c.release() || c.take() || c.remove() {
		t.Error("taken: the owner does not wipe it, or not alone")
	}
	for range 1000 {
		var c claim
		var wipes int
		var mu sync.Mutex
		wipe := func(mine bool) {
			mu.Lock()
			defer mu.Unlock()
			if mine {
				wipes++
			}
		}
		var both sync.WaitGroup
		both.Go(func() {
			for c.take() {
				wipe(c.release())
			}
		})
		both.Go(func() { wipe(c.remove()) })
		both.Wait()
		if wipes != 1 {
			t.Fatalf("wiped %d times", wipes)
		}
	}
}

// zeroed says whether the keys of an SA are gone. It changes nothing: there is no packet.
func zeroed(c *childSA) bool {
	_, err := c.out.Begin(make([]byte, esp.MaxHeadroom+esp.MaxTailroom), withTail(nil))
	return errors.Is(err, esp.ErrZeroed)
}

// TestRemoveAmidBatch: an SA that is removed amid a batch keeps its keys until what it has
// begun is encrypted; the next packet goes by another. One that nobody uses loses its keys
// at once.
func TestRemoveAmidBatch(t *testing.T) {
	for _, suite := range []string{"aes128gcm16", "aes128-sha1"} {
		t.Run(suite, func(t *testing.T) {
			s := loopbackSession(t)
			peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			s.espPath.Store(&espPath{peer: peer.LocalAddr().(*net.UDPAddr).AddrPort()})
			first, second := newPairedSA(t, s, suite, 0x11111111), newPairedSA(t, s, suite, 0x22222222)
			install := func(c *childSA) {
				done := make(chan struct{})
				s.do(func() error { s.install(c); close(done); return nil })
				<-done
			}
			install(first.child)
			write := func(text string) {
				if err := s.WritePacket(withTail(ipv4(firstVIP, insideHost, text))); err != nil {
					t.Fatal(err)
				}
			}
			write("one")
			install(second.child)
			s.remove(first.child)
			if zeroed(first.child) {
				t.Error("its keys are gone amid a batch")
			}
			write("two")
			if !zeroed(first.child) {
				t.Error("its keys are there though another is used")
			}
			begun := bytes.Clone(s.outbox.Runs[0][:s.outbox.Segments[0]])
			write("three")
			s.remove(second.child)
			s.Flush()
			if !zeroed(second.child) {
				t.Error("its keys are there after the batch")
			}
			peer.SetReadDeadline(time.Now().Add(time.Minute))
			for i, want := range []string{"one", "two", "three"} {
				buf := make([]byte, maxDatagram)
				n, err := peer.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				in := second.peer
				if i == 0 {
					in = first.peer
					if !bytes.Equal(buf[:n], begun) {
						t.Error("what it had begun was not finished when another was used")
					}
				}
				inner, err := in.Open(make([]byte, n), buf[:n])
				if err != nil || !bytes.HasSuffix(inner, []byte(want)) {
					t.Errorf("packet %d: %q, %v", i, inner, err)
				}
			}
			third := newPairedSA(t, s, suite, 0x33333333)
			install(third.child)
			write("four")
			s.Flush()
			s.remove(third.child)
			if !zeroed(third.child) {
				t.Error("the keys of an SA that nobody uses are there")
			}
		})
	}
}

// pairedSA is an SA of ours, and the gateway's end of its way out.
type pairedSA struct {
	child *childSA
	peer  *esp.Inbound
}

// newPairedSA makes an SA of a suite for a session.
func newPairedSA(t *testing.T, s *Session, name string, spi uint32) pairedSA {
	t.Helper()
	suite, err := ParseESPSuite(name)
	if err != nil {
		t.Fatal(err)
	}
	tr := suite.transform()
	keymat := bytes.Repeat([]byte{byte(spi)}, tr.KeyMaterialLen())
	f := newForeignSA(t, s, spi)
	var errs [3]error
	var p pairedSA
	p.child = f.child
	p.child.suite, p.child.headerLen, p.child.active = suite, tr.HeaderLen(), true
	p.child.in, errs[0] = esp.NewInbound(tr, spi, keymat)
	p.child.out, errs[1] = esp.NewOutbound(tr, spi, keymat, s.rand)
	p.peer, errs[2] = esp.NewInbound(tr, spi, keymat)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRemoveBeforePacket: a packet for which an SA was found that has been removed since
// goes by another.
func TestRemoveBeforePacket(t *testing.T) {
	s := loopbackSession(t)
	old := *s.outbound.Load()
	gone := newPairedSA(t, s, "aes128gcm16", 0x11111111).child
	s.outbound.Store(&[]*childSA{gone, old[0]}) // as it was when the writer read it
	send(t, s, ipv4(firstVIP, insideHost, "before"))
	gone.sending.remove()
	other := newPairedSA(t, s, "aes128gcm16", 0x22222222).child
	s.claim(other)
	written := make(chan error)
	go func() { written <- s.WritePacket(withTail(ipv4(firstVIP, insideHost, "hello"))) }()
	for other.sending.state.Load() != claimFree { // it leaves it when it has read the list
		runtime.Gosched()
	}
	s.outbound.Store(&old)
	if err := <-written; err != nil || s.outbox.sa != old[0] {
		t.Errorf("%v; it went by %p, want %p", err, s.outbox.sa, old[0])
	}
	s.Flush()
}

// writeUntil writes packets, and says if one is lost.
func writeUntil(s *Session, stop <-chan struct{}) error {
	defer s.Flush()
	packet := withTail(ipv4(firstVIP, insideHost, "hello"))
	for i := 1; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		before := s.outbox.used
		if err := s.WritePacket(packet); err != nil {
			return err
		}
		if s.outbox.used == before {
			return errors.New("a packet was lost")
		}
		if i%5 == 0 {
			s.Flush()
		}
	}
}

// TestRemoveWhilePackets: SAs come and go while packets are written; none is sealed with
// the keys of one that is gone, and none is lost as long as there is another.
func TestRemoveWhilePackets(t *testing.T) {
	s := loopbackSession(t)
	sink, err := net.ListenPacket("udp4", "127.0.0.1:0") // nobody reads it
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	s.espPath.Store(&espPath{peer: netip.MustParseAddrPort(sink.LocalAddr().String())})
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- writeUntil(s, stop) }()
	var gone []*childSA
	for i := range uint32(200) {
		f := newForeignSA(t, s, 0x40000000+i)
		f.child.active = true
		done := make(chan struct{})
		s.do(func() error {
			s.install(f.child)
			if len(gone) > 0 {
				s.remove(gone[len(gone)-1])
			}
			close(done)
			return nil
		})
		<-done
		gone = append(gone, f.child)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	for i, c := range gone[:len(gone)-1] {
		if !zeroed(c) {
			t.Errorf("SA %d has its keys", i)
		}
	}
}
