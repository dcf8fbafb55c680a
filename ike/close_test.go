package ike

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// TestCloseDeletes: the gateway is told, ESP first, each protocol in a message of its
// own.
func TestCloseDeletes(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16"), netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("10.30.0.0/16")}
	for _, selectors := range []Selectors{SelectorsOne, SelectorsPerNetwork} {
		inBoth(t, func(w *world) {
			w.client.Selectors, w.gateway.Settings.SplitInclude = selectors, networks
			w.start()
			s := w.dial()
			spis := spisOf(s)
			if err := s.Close(); err != nil {
				w.t.Errorf("Close: %v", err)
			}
			synctest.Wait()
			deletes := w.messages(gateway.Delete)
			var protocols []isakmp.ProtocolID
			for _, m := range deletes {
				d, err := isakmp.ParseDelete(m.Payload(isakmp.PayloadDelete))
				if err != nil || len(m.Payloads) != 1 || !m.Header.Encrypted() {
					w.t.Errorf("Delete %+v, %v", m, err)
				}
				protocols = append(protocols, d.Protocol)
			}
			if !slices.Equal(protocols, []isakmp.ProtocolID{isakmp.ProtoESP, isakmp.ProtoISAKMP}) {
				w.t.Errorf("Deletes for %v", protocols)
			}
			got := w.deletedESP()
			slices.Sort(got)
			if slices.Sort(spis); !slices.Equal(got, spis) {
				w.t.Errorf("deleted %x, had %x", got, spis)
			}
			if n := len(w.gw.Clients()); n != 0 {
				w.t.Errorf("the gateway keeps %d SAs", n)
			}
			w.wantSocketClosed()
		})
	}
}

// TestCloseTwice: by anybody, at once and later.
func TestCloseTwice(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		if s.Err() != nil {
			t.Errorf("Err before the end: %v", s.Err())
		}
		var closers sync.WaitGroup
		for range 3 {
			closers.Go(func() { s.Close() })
		}
		closers.Wait()
		if err := s.Close(); err != nil || !errors.Is(s.Err(), net.ErrClosed) {
			t.Errorf("Close: %v, Err: %v", err, s.Err())
		}
		select {
		case <-s.Done():
		default:
			t.Error("Done is open")
		}
		synctest.Wait()
		if n := len(w.messages(gateway.Delete)); n != 2 {
			t.Errorf("%d Deletes", n)
		}
	})
}

// TestCloseOfTheDead: closing does not wait for a gateway that does not answer, and
// a session that has ended keeps its reason.
func TestCloseOfTheDead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		w.crash()
		if d := elapsed(func() { s.Close() }); d != 0 {
			t.Errorf("Close took %v", d)
		}
	})
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		w.crash()
		_, err := w.waitEnd(s, time.Hour)
		wantError[*NoAnswerError](w.t, err)
		s.Close()
		wantError[*NoAnswerError](w.t, s.Err())
	})
}

// stuckConn is a socket whose link takes nothing while it is stuck. As in package net a
// write that waits holds the socket, until the deadline or Close.
type stuckConn struct {
	net.PacketConn
	stuck  atomic.Bool
	lock   chan struct{} // what a write has while it runs
	ended  chan struct{} // by the deadline
	closed chan struct{}
	once   sync.Once
}

func newStuckConn(c net.PacketConn) *stuckConn {
	return &stuckConn{PacketConn: c, lock: make(chan struct{}, 1), ended: make(chan struct{}), closed: make(chan struct{})}
}

func (c *stuckConn) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case c.lock <- struct{}{}:
		defer func() { <-c.lock }()
	case <-c.closed:
		return 0, net.ErrClosed
	}
	if !c.stuck.Load() {
		return c.PacketConn.WriteTo(b, to)
	}
	select {
	case <-c.ended:
		return 0, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *stuckConn) SetWriteDeadline(t time.Time) error {
	time.AfterFunc(time.Until(t), func() { c.once.Do(func() { close(c.ended) }) })
	return nil
}

func (c *stuckConn) Close() error {
	close(c.closed)
	return c.PacketConn.Close()
}

// TestCloseOfAStuckLink: packets that wait for the link do not hold the end up, whatever
// the control loop waits for.
func TestCloseOfAStuckLink(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first func(*world, *Session) // what the control loop is to send
	}{
		{"Delete", func(*world, *Session) {}},
		{"probe", func(_ *world, s *Session) { s.NetworkChanged() }},
		{"Quick Mode", func(w *world, s *Session) { w.rekey(s) }},
		{"reauthentication", func(w *world, s *Session) { w.renew(s) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				var conn *stuckConn
				kind := w.socket
				w.socket = func(t testing.TB, c net.PacketConn) net.PacketConn {
					conn = newStuckConn(c)
					return kind(t, conn)
				}
				w.start()
				s := w.dial()
				conn.stuck.Store(true)
				var flushed sync.WaitGroup
				if err := s.WritePacket(withTail(ipv4(firstVIP, insideHost, "waits"))); err != nil {
					w.t.Fatal(err)
				}
				flushed.Go(s.Flush)
				synctest.Wait()
				tt.first(w, s)
				synctest.Wait()
				if d := elapsed(func() { s.Close() }); d > closePatience {
					w.t.Errorf("Close took %v", d)
				}
				flushed.Wait()
				if err := s.Err(); !errors.Is(err, net.ErrClosed) {
					w.t.Errorf("Err: %v", err)
				}
				w.wantSocketClosed()
			})
		})
	}
}

// TestPacketsAfterTheEnd: writing fails with the reason of the end, and nothing is
// delivered any more.
func TestPacketsAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(*world, *Session) error{
		"closed": func(_ *world, s *Session) error { s.Close(); return net.ErrClosed },
		"gateway deletes it": func(w *world, s *Session) error {
			w.stop()
			<-s.Done()
			return s.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				s := w.dial()
				received := receive(s)
				send(t, s, ipv4(firstVIP, insideHost, "in time"))
				amid := ipv4(firstVIP, insideHost, "amid a batch")
				if err := s.WritePacket(withTail(amid)); err != nil {
					t.Fatal(err)
				}
				want := end(w, s)
				if err := s.WritePacket(withTail(amid)); err != nil && !errors.Is(err, want) {
					t.Errorf("WritePacket amid a batch: %v", err)
				}
				s.Flush()
				for range 2 {
					if err := s.WritePacket(withTail(ipv4(firstVIP, insideHost, "late"))); !errors.Is(err, want) {
						t.Errorf("WritePacket: %v", err)
					}
					s.Flush() // without effect
				}
				if n := len(received()); n != 0 {
					t.Errorf("%d packets", n)
				}
				s.NetworkChanged() // without effect
				if st := s.Stats(); len(st.Children) != 0 || st.Gateway.Addr() != gatewayAddr {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// TestCloseDuringRekey: a Quick Mode that nobody answers does not hold it up.
func TestCloseDuringRekey(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		s := w.dial()
		w.hook(gateway.QM2, func(*gateway.Message) []*gateway.Message { return nil })
		w.rekey(s)
		time.Sleep(time.Second)
		if d := elapsed(func() { s.Close() }); d != 0 || !errors.Is(s.Err(), net.ErrClosed) {
			t.Errorf("Close took %v: %v", d, s.Err())
		}
		synctest.Wait()
		if n := len(w.gw.Clients()); n != 0 {
			t.Errorf("the gateway keeps %d SAs", n)
		}
	})
}

// TestLogShowsNoSecrets: at the lowest level, through everything that a session does.
func TestLogShowsNoSecrets(t *testing.T) {
	inBoth(t, func(w *world) {
		var secrets [][]byte
		keep := func(bs ...[]byte) { // from Dial's goroutine and a reauthentication's
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, b := range bs {
				secrets = append(secrets, slices.Clone(b))
			}
		}
		w.prepare = func(s *Session) {
			make := s.newKeyExchange
			s.newKeyExchange = func(g *group) (keyExchange, error) {
				kx, err := make(g)
				return spyingExchange{kx, keep}, err
			}
		}
		w.client.PFS = "ecp256"
		w.changeConfig(gateway.XAuthRequest, func(c *isakmp.Config) {
			c.Attributes = append(c.Attributes, isakmp.Attribute{Type: isakmp.XAuthPasscode})
		})
		w.answering("otp-753951")
		w.start()
		s := w.dial()
		received := receive(s)
		w.do(s, func() {
			keep(s.sa.keys.skeyid, s.sa.keys.skeyidD, s.sa.keys.skeyidA, s.sa.keys.skeyidE, s.sa.keys.cipherKey)
		})
		w.exchangePackets(s, received, "inner content")
		w.rekey(s)
		w.renew(s)
		synctest.Wait()
		w.do(s, func() {
			keep(s.sa.keys.skeyid, s.sa.keys.skeyidD, s.sa.keys.skeyidA, s.sa.keys.skeyidE, s.sa.keys.cipherKey)
		})
		s.Close()
		keep([]byte(testPassword), []byte("otp-753951"), []byte("inner content"))
		log := strings.ToLower(w.logText())
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(secrets) < 15 || len(log) < 1000 {
			w.t.Fatalf("%d secrets, a log of %d bytes", len(secrets), len(log))
		}
		for _, secret := range secrets {
			for _, form := range formsOf(secret) {
				if strings.Contains(log, form) {
					w.t.Errorf("the log shows %q", form)
				}
			}
		}
	})
}

// spyingExchange hands out the shared secret.
type spyingExchange struct {
	keyExchange
	keep func(...[]byte)
}

func (e spyingExchange) shared(peer []byte) ([]byte, error) {
	z, err := e.keyExchange.shared(peer)
	e.keep(z)
	return z, err
}

// formsOf are the ways in which bytes could stand in a log, in lower case.
func formsOf(b []byte) []string {
	return []string{
		strings.ToLower(string(b)), hex.EncodeToString(b), strings.ToLower(base64.StdEncoding.EncodeToString(b)),
		strings.Trim(fmt.Sprint(b), "[]"), strings.ToLower(strings.Trim(fmt.Sprintf("%q", b), `"`)),
	}
}
