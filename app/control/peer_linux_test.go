package control

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wayfarer/app"
)

// asUser opens a connection as another user: on Linux the system call changes the
// user of one thread, which here dies with its goroutine.
func asUser(t *testing.T, path string, id int) net.Conn {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, errno := unix.RawSyscall(call, uintptr(id), uintptr(id), uintptr(id)); errno != 0 {
				done <- result{nil, errno}
				return
			}
		}
		conn, err := net.Dial("unix", path)
		done <- result{conn, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.conn.Close() })
	return r.conn
}

// The kernel's word on who connects, over a real socket: an unknown user learns
// that a connection exists and may not make one.
func TestStrangerOnARealSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	backend := &fakeBackend{conns: []app.Connection{{ID: "c1", Owner: "root", State: app.StateConnected, Profile: "office"}}}
	serveIn(t, &Server{Backend: backend, Log: discard(), Version: "1.2"}, l)

	for _, tt := range []struct {
		uid           int
		request, want string
	}{
		{4242, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", `{"version":"1.2","connections":[{"state":"connected","owner":"root"}]}`},
		{4242, "POST /v1/connections HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "refuses this user"},
		{4242, "DELETE /v1/connections/c1 HTTP/1.1\r\nHost: x\r\n\r\n", "no such connection"},
		{0, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", `"profile":"office"`},
	} {
		conn := asUser(t, path, tt.uid)
		if _, err := io.WriteString(conn, tt.request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(body), tt.want) {
			t.Errorf("uid %d: got %s %v, want …%s…", tt.uid, body, err, tt.want)
		}
	}
	if len(backend.requests)+len(backend.ended) > 0 {
		t.Error("the stranger reached the backend")
	}
}
