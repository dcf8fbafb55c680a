package ike

import (
	"context"
	"errors"
)

// Session is a connection to a gateway.
type Session struct{}

// Dial connects: phase 1, XAUTH, Mode-Config and the first Quick Mode. It returns
// one of the error types of this package, or ctx's error.
func Dial(ctx context.Context, cfg *Config) (*Session, error) {
	return nil, errors.New("ike: Dial is being written")
}

// Assignment is what the gateway gave.
func (s *Session) Assignment() Assignment { return Assignment{} }

// Stats is a snapshot of the session.
func (s *Session) Stats() Stats { return Stats{} }

// ReadPackets waits for inner packets from the gateway and puts one into each
// bufs[i][offset:], with its length in sizes[i]. It returns how many. After the
// session's end it returns net.ErrClosed. One goroutine at a time may call it.
func (s *Session) ReadPackets(bufs [][]byte, sizes []int, offset int) (int, error) { return 0, nil }

// WritePackets sends the inner packets bufs[i][offset:] to the gateway. It works in
// place: offset must be at least Headroom, and each buffer's capacity must leave
// Tailroom behind the packet. Packets that no SA covers are dropped. One goroutine
// at a time may call it.
func (s *Session) WritePackets(bufs [][]byte, offset int) error { return nil }

// NetworkChanged makes the session probe the gateway at once.
func (s *Session) NetworkChanged() {}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return nil }

// Err is why the session ended: nil before, net.ErrClosed after Close.
func (s *Session) Err() error { return nil }

// Close tells the gateway (Delete, ESP first) and ends the session.
func (s *Session) Close() error { return nil }

// Headroom and Tailroom are what WritePackets needs before and behind a packet.
const (
	Headroom = 24
	Tailroom = 64
)
