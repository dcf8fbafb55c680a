package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"wayfarer/app"
)

// startService serves a backend on a real socket, to this user.
func startService(t *testing.T) (*fakeBackend, *Client) {
	t.Helper()
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	backend := &fakeBackend{}
	serveIn(t, &Server{Backend: backend, Log: discard(), Version: "1.2"}, l)
	return backend, &Client{Path: path}
}

func failureOf(t *testing.T, err error) *app.Failure {
	t.Helper()
	f, ok := err.(*app.Failure)
	if !ok {
		t.Fatalf("got %T %v, want *app.Failure", err, err)
	}
	return f
}

func TestClient(t *testing.T) {
	backend, c := startService(t)
	ctx := t.Context()
	req := &ConnectRequest{
		Profile:  app.Profile{Name: "office", Gateway: "vpn.example.com", CA: []string{"a", "b"}, MTU: 1300},
		Password: []byte{0, 0xff, '"', '\n'}, GroupSecret: []byte{1, 0xfe}, Key: []byte("key"), TrustNew: true, Ask: true, NoReconnect: true, TimeoutSeconds: 30,
	}
	id, err := c.Connect(ctx, req)
	if err != nil || id != "c1" {
		t.Fatalf("Connect: %q, %v", id, err)
	}
	if !reflect.DeepEqual(&backend.requests[0], req) {
		t.Errorf("sent %+v, arrived %+v", *req, backend.requests[0])
	}
	if status, err := c.Status(ctx); err != nil || status.Version != "1.2" || status.Connections[0].Profile != "office" {
		t.Errorf("Status: %+v, %v", status, err)
	}
	answer := &Answer{PromptID: "p1", Text: []byte("123456"), Accept: true, Cancel: true}
	if err := c.Answer(ctx, id, answer); err != nil || !reflect.DeepEqual(&backend.answers[0], answer) {
		t.Errorf("Answer: %v; arrived %+v", err, backend.answers)
	}
	if err := c.Disconnect(ctx, id); err != nil || len(backend.ended) != 1 {
		t.Errorf("Disconnect: %v; ended %v", err, backend.ended)
	}
	want := app.NewFailure(app.CodeUsage, "", "there is no such connection", "see `wayfarer status`")
	if got := failureOf(t, c.Disconnect(ctx, "../c1")); !reflect.DeepEqual(got, want) {
		t.Errorf("Disconnect of nothing: %+v", got)
	}
}

func TestClientWatch(t *testing.T) {
	backend, c := startService(t)
	backend.change(app.Connection{ID: "c1", State: app.StateConnecting})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var seen []app.State
	for status, err := range c.Watch(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, status.Connections[0].State)
		switch len(seen) {
		case 1:
			backend.change(app.Connection{ID: "c1", State: app.StateConnected})
		case 2:
			stop()
		}
	}
	if want := []app.State{app.StateConnecting, app.StateConnected}; !reflect.DeepEqual(seen, want) {
		t.Errorf("got %v, want %v", seen, want)
	}
}

func TestClientWatchTellsTheServicesEnd(t *testing.T) {
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- (&Server{Backend: &fakeBackend{}, Log: discard()}).Serve(ctx, l) }()
	var last error
	for _, err := range (&Client{Path: path}).Watch(t.Context()) {
		stop()
		last = err
	}
	if last == nil || failureOf(t, last).Code != app.CodeNoService {
		t.Errorf("got %v", last)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestClientWithoutService(t *testing.T) {
	c := &Client{Path: filepath.Join(t.TempDir(), "absent")}
	_, err := c.Status(t.Context())
	if f := failureOf(t, err); f.Exit != 8 || !strings.Contains(f.Message, "does not run") || !strings.Contains(f.Hint, "wayfarerd") {
		t.Errorf("got %+v", f)
	}
	for _, err := range c.Watch(t.Context()) {
		if failureOf(t, err).Exit != 8 {
			t.Errorf("Watch: got %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); failureOf(t, err).Code != app.CodeCancelled {
		t.Errorf("cancelled: got %v", err)
	}
}

// What the operating system says of the socket, in words.
func TestUnreachable(t *testing.T) {
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	c := &Client{Path: "/run/x"}
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		want string
	}{
		{t.Context(), fmt.Errorf("dial: %w", fs.ErrNotExist), "the service does not run (nothing answers on /run/x)"},
		{t.Context(), fmt.Errorf("dial: %w", syscall.ECONNREFUSED), "the service does not run (nothing answers on /run/x)"},
		{t.Context(), fmt.Errorf("dial: %w", fs.ErrPermission), "the service refuses this user"},
		{late, context.DeadlineExceeded, "the service does not answer on /run/x"},
		{t.Context(), errors.New("http: server closed idle connection"), "the service has closed the connection"},
		{t.Context(), errors.New("odd"), "the service cannot be reached: odd"},
	} {
		f := c.unreachable(tt.ctx, tt.err)
		if f.Code != app.CodeNoService || f.Message != tt.want || f.Hint == "" {
			t.Errorf("%v: got %+v", tt.err, f)
		}
	}
}

// What to type is for the system: on macOS it leaves a group alone that there is, and starts
// a service that is loaded already, too.
func TestHints(t *testing.T) {
	for _, tt := range []struct{ goos, start, refused string }{
		{"linux", "systemctl start wayfarerd", "group wayfarer"},
		{"windows", "start the service wayfarerd", "ask an administrator"},
		{
			"darwin",
			"sudo launchctl bootstrap system /Library/LaunchDaemons/io.github.wayfarer.wayfarerd.plist; sudo launchctl kickstart system/io.github.wayfarer.wayfarerd",
			"dseditgroup -o read wayfarer >/dev/null 2>&1 || sudo dseditgroup -o create wayfarer; sudo dseditgroup -o edit -a USER -t user wayfarer",
		},
	} {
		if got := startHint(tt.goos); !strings.Contains(got, tt.start) {
			t.Errorf("%s: to start it: %s", tt.goos, got)
		}
		if got := refusedHint(tt.goos); !strings.Contains(got, tt.refused) {
			t.Errorf("%s: to be let in: %s", tt.goos, got)
		}
	}
}

// Something else answers on the socket.
func TestClientAmongStrangers(t *testing.T) {
	for name, reply := range map[string]string{
		"other errors":    "HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\n\r\nshort",
		"other answers":   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html",
		"no error inside": "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}",
		"no HTTP":         "220 mail.example.com ESMTP\r\n",
		"hangs up":        "",
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			l, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = http.ReadRequest(bufio.NewReader(conn))
					_, _ = conn.Write([]byte(reply))
					conn.Close()
				}
			}()
			c := &Client{Path: path}
			_, err = c.Status(t.Context())
			if f := failureOf(t, err); f.Code != app.CodeInternal && f.Code != app.CodeNoService || strings.Contains(f.Message, "http://") {
				t.Errorf("got %+v", f)
			}
			for _, err := range c.Watch(t.Context()) {
				failureOf(t, err)
			}
		})
	}
}

func TestDefaultPath(t *testing.T) {
	t.Setenv(SocketVariable, "/elsewhere/s")
	if got := DefaultPath(); got != "/elsewhere/s" {
		t.Errorf("got %s", got)
	}
	t.Setenv(SocketVariable, "")
	if got := DefaultPath(); !strings.Contains(got, "wayfarer") {
		t.Errorf("got %s", got)
	}
}
