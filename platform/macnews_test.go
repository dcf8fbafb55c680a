package platform

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// toldSocket is a routing socket that tells messages, or errors, one a read.
type toldSocket struct {
	tell   chan any
	closed chan struct{}
}

func (s *toldSocket) Read(b []byte) (int, error) {
	select {
	case m := <-s.tell:
		if err, failed := m.(error); failed {
			return 0, err
		}
		return copy(b, m.([]byte)), nil
	case <-s.closed:
		return 0, io.ErrClosedPipe
	}
}

func (s *toldSocket) Close() error {
	close(s.closed)
	return nil
}

// TestNewsHints: news are told, also those that were lost, and a socket that fails is
// opened again until it works.
func TestNewsHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var log strings.Builder
		socket := &toldSocket{tell: make(chan any)}
		opened, refuse := 0, 0
		open := func() (io.ReadCloser, error) {
			if opened++; opened > 1 && refuse > 0 {
				refuse--
				return nil, errors.New("no socket")
			}
			socket.closed = make(chan struct{})
			return socket, nil
		}
		hints, err := newsHints(ctx, slog.New(slog.NewTextHandler(&log, nil)), open, isRouteNews)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name   string
			told   any
			refuse int
			want   bool
			after  time.Duration
			opened int
		}{
			{"a new route", []byte{0, 0, 5, 1, 0}, 0, true, 0, 1},
			{"a packet without a route", []byte{0, 0, 5, 7, 0}, 0, false, 0, 1},
			{"a piece", []byte{0, 0, 5}, 0, false, 0, 1},
			{"an answer to somebody's question", []byte{0, 0, 5, 4, 0}, 0, false, 0, 1},
			{"lost news", syscall.ENOBUFS, 0, true, 0, 1},
			{"a failure", syscall.EIO, 0, true, newsPause, 2},
			{"a new address", []byte{0, 0, 5, 12}, 0, true, 0, 2},
			{"a failure that lasts", syscall.EIO, 2, true, 3 * newsPause, 5},
			{"a new route again", []byte{0, 0, 5, 1}, 0, true, 0, 5},
		} {
			refuse = tt.refuse
			start := time.Now()
			socket.tell <- tt.told
			got := false
			select {
			case <-hints:
				got = true
			case <-time.After(time.Minute):
			}
			if after := time.Since(start); got != tt.want || got && after != tt.after || opened != tt.opened {
				t.Errorf("%s: told %v after %v, opened %d times", tt.name, got, after, opened)
			}
		}
		if warned := strings.Count(log.String(), "level=WARN"); warned != 4 {
			t.Errorf("%d warnings: %s", warned, log.String())
		}
		cancel()
		synctest.Wait()
		select {
		case <-socket.closed:
		default:
			t.Error("the socket is left open")
		}
	})
}
