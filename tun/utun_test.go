package tun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// library is the library's device of macOS: it begins with the answers to Read, and
// refuses packets that begin with 0.
type library struct {
	wgtun.Device
	answers []error
	events  chan wgtun.Event
	written [][]byte
	closed  atomic.Bool
}

func (l *library) Close() error {
	l.closed.Store(true)
	return nil
}

func (l *library) Events() <-chan wgtun.Event { return l.events }

func (l *library) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if len(l.answers) > 0 {
		err := l.answers[0]
		l.answers = l.answers[1:]
		return 0, err
	}
	if l.closed.Load() {
		return 0, os.ErrClosed
	}
	sizes[0] = copy(bufs[0][offset:], "packet")
	return 1, nil
}

func (l *library) Write(bufs [][]byte, offset int) (int, error) {
	for i, b := range bufs {
		if b[offset] == 0 { // an empty packet panics, as in the library
			return i, syscall.EAFNOSUPPORT
		}
		l.written = append(l.written, bytes.Clone(b[offset:]))
	}
	return len(bufs), nil
}

func TestUtunName(t *testing.T) {
	for name, want := range map[string]string{
		"wayfarer%d": "utun", "wayfarertest": "utun", "utun": "utun", "utun7": "utun7", "utun42": "utun42", "utun%d": "utun", "utun7x": "utun", "": "utun",
	} {
		if got := utunName(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func TestUtunRead(t *testing.T) {
	closed := &os.PathError{Op: "read", Path: "utun", Err: os.ErrClosed}
	for _, tt := range []struct {
		answers []error
		n       int
		err     error
	}{
		{nil, 1, nil},
		{[]error{syscall.ENOBUFS, syscall.EBADF}, 1, nil}, // of the library's watch
		{[]error{syscall.ENOBUFS, closed}, 0, os.ErrClosed},
	} {
		u := utun{&library{answers: tt.answers}}
		buf, sizes := make([]byte, 100), make([]int, 1)
		n, err := u.Read([][]byte{buf}, sizes, libraryHeadroom)
		if n != tt.n || !errors.Is(err, tt.err) {
			t.Errorf("%v: %d, %v", tt.answers, n, err)
		}
		if got := buf[libraryHeadroom:][:sizes[0]]; n == 1 && string(got) != "packet" {
			t.Errorf("%q", got)
		}
	}
}

func TestUtunWrite(t *testing.T) {
	l := &library{}
	u := &packetIO{Device: utun{l}}
	if err := u.Write([][]byte{[]byte("1"), []byte("2")}); err != nil {
		t.Error(err)
	}
	err := u.Write([][]byte{[]byte("3"), {0}, {}, []byte("4")})
	if !errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Error(err)
	}
	if err := u.Write([][]byte{{}}); err == nil {
		t.Error("a packet without a byte was accepted")
	}
	if got := fmt.Sprintf("%s", l.written); got != "[1 2 3 4]" {
		t.Errorf("the system has %s", got)
	}
}

// TestUtunEvents: what nobody wants to know must not stop the library.
func TestUtunEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &library{events: make(chan wgtun.Event)}
		defer newUtun(l).Close()
		for range 30 {
			l.events <- wgtun.EventUp
		}
		close(l.events)
	})
}
