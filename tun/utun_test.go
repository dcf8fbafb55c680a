package tun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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
}

func (l *library) BatchSize() int { return 1 }

func (l *library) Events() <-chan wgtun.Event { return l.events }

func (l *library) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if len(l.answers) > 0 {
		err := l.answers[0]
		l.answers = l.answers[1:]
		return 0, err
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
		u := &utun{packetIO{Device: &library{answers: tt.answers}}}
		var got []string
		err := u.Read(func(p []byte) { got = append(got, string(p)) })
		if len(got) != tt.n || !errors.Is(err, tt.err) {
			t.Errorf("%v: %q, %v", tt.answers, got, err)
		}
		if tt.n == 1 && got[0] != "packet" {
			t.Errorf("%q", got)
		}
	}
}

func TestUtunWrite(t *testing.T) {
	l := &library{}
	u := &utun{packetIO{Device: l}}
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
		newUtun(l)
		for range 30 {
			l.events <- wgtun.EventUp
		}
		close(l.events)
	})
}
