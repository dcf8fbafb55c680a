package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeAuthority decides about processes.
type fakeAuthority struct {
	answer func() error
	mu     sync.Mutex
	asked  []Process
}

func (a *fakeAuthority) authorize(_ context.Context, p Process) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, p)
	return a.answer()
}

// TestAuthorize: the process is asked about where its user alone may not connect, for
// each such request, and for no other.
func TestAuthorize(t *testing.T) {
	const connect, status, restore = "POST /v1/connections", "GET /v1/status", "POST /v1/restore-network"
	ours := Process{PID: int32(os.Getpid()), UID: uint32(os.Getuid())}
	yes := func() error { return nil }
	once := func() func() error {
		n := 0
		return func() error {
			if n++; n > 1 {
				return errors.New("the screen was locked")
			}
			return nil
		}
	}
	eve, root := peer{name: "eve"}, peer{name: "root", admin: true, mayConnect: true}
	for _, tt := range []struct {
		name     string
		who      peer
		answer   func() error // nil: there is no authority
		requests []string
		want     []int
		asked    int
	}{
		{"may", eve, yes, []string{connect, status, connect}, []int{201, 200, 201}, 2},
		{"may no longer", eve, once(), []string{connect, connect}, []int{201, 403}, 2},
		{"may not", eve, func() error { return errors.New("not here") }, []string{connect, status}, []int{403, 200}, 1},
		{"no authority", eve, nil, []string{connect, status}, []int{403, 200}, 0},
		{"administrates nothing", eve, yes, []string{restore}, []int{403}, 0},
		{"an administrator", root, yes, []string{connect, restore}, []int{201, 204}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{Backend: &fakeBackend{}, Log: discard(), identify: as(tt.who)}
			authority := &fakeAuthority{answer: tt.answer}
			if tt.answer != nil {
				s.Authorize = authority.authorize
			}
			conn, err := net.Dial("unix", serveSocket(t, s))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for i, request := range tt.requests {
				if got := ask(t, conn, answers, request); got != tt.want[i] {
					t.Errorf("%s: HTTP status %d, want %d", request, got, tt.want[i])
				}
			}
			if want := slices.Repeat([]Process{ours}, tt.asked); !slices.Equal(authority.asked, want) {
				t.Errorf("asked about %v, want %v", authority.asked, want)
			}
		})
	}
}

// visitorVariable has the test program connect to a socket, ask to connect, and end
// with its standard input.
const visitorVariable = "WAYFARER_TEST_VISITOR"

// TestAuthorizeNoOther: what is answered about a process that has ended is about its
// number, which may be another's by now.
func TestAuthorizeNoOther(t *testing.T) {
	if path := os.Getenv(visitorVariable); path != "" {
		conn, err := net.Dial("unix", path)
		if err == nil {
			err = write(conn, "POST /v1/connections")
		}
		io.Copy(io.Discard, os.Stdin)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, ends := range []bool{false, true} {
		visitor := exec.Command(os.Args[0], "-test.run=^TestAuthorizeNoOther$")
		input, err := visitor.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var log sharedBuffer
		backend := &fakeBackend{}
		asked, answer := make(chan Process), make(chan error)
		s := &Server{Backend: backend, Log: slog.New(slog.NewTextHandler(&log, nil)), identify: as(peer{name: "eve"})}
		s.Authorize = func(_ context.Context, p Process) error {
			asked <- p
			return <-answer
		}
		end := func() error { return errors.Join(input.Close(), visitor.Wait()) }
		t.Run("", func(t *testing.T) { // the server stops when it has handled the request
			visitor.Env = append(os.Environ(), visitorVariable+"="+serveSocket(t, s))
			if err := visitor.Start(); err != nil {
				t.Fatal(err)
			}
			if p := <-asked; int(p.PID) != visitor.Process.Pid || int(p.UID) != os.Getuid() {
				t.Errorf("asked about %v", p)
			}
			var err error
			if ends {
				err = end()
			}
			answer <- err
		})
		if !ends {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
		if got := backend.touched() == 1; got == ends {
			t.Errorf("ended %v: reached the backend: %v", ends, got)
		}
		if got := strings.Contains(log.String(), "process has ended"); got != ends {
			t.Errorf("ended %v: log\n%s", ends, log.String())
		}
	}
}

// A process that cannot be held is not asked about.
func TestAuthorizeUnknownProcess(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	authority := &fakeAuthority{answer: func() error { return nil }}
	p := holdProcess(ours)
	defer p.close()
	if err := p.authorized(t.Context(), authority.authorize); err == nil || len(authority.asked) > 0 {
		t.Errorf("%v, asked about %v", err, authority.asked)
	}
}
