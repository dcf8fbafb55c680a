package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"wayfarer/app"
)

// testPath is where a test listens.
func testPath(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		return `\\.\pipe\wayfarer-` + rand.Text()
	}
	return filepath.Join(t.TempDir(), "s")
}

// fakeBackend keeps connections and remembers what it was asked to do.
type fakeBackend struct {
	mu       sync.Mutex
	conns    []app.Connection
	watchers map[chan struct{}]bool
	requests []ConnectRequest // with copies of the secrets
	answers  []Answer
	ended    []string
	restored int
	failure  *app.Failure // of the next calls
}

func (b *fakeBackend) Connections() []app.Connection {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.conns)
}

func (b *fakeBackend) Watch() (<-chan struct{}, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan struct{}, 1)
	if b.watchers == nil {
		b.watchers = map[chan struct{}]bool{}
	}
	b.watchers[c] = true
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, c)
	}
}

func (b *fakeBackend) watching() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.watchers)
}

// change replaces the connections and tells the watchers.
func (b *fakeBackend) change(conns ...app.Connection) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = conns
	for c := range b.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (b *fakeBackend) Connect(_ context.Context, owner string, req *ConnectRequest) (string, *app.Failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure != nil {
		return "", b.failure
	}
	kept := *req
	kept.Password, kept.GroupSecret, kept.Key = slices.Clone(req.Password), slices.Clone(req.GroupSecret), slices.Clone(req.Key)
	b.requests = append(b.requests, kept)
	id := "c" + strconv.Itoa(len(b.requests))
	b.conns = append(b.conns, app.Connection{ID: id, Owner: owner, State: app.StateConnecting, Profile: req.Profile.Name})
	return id, nil
}

func (b *fakeBackend) Disconnect(_ context.Context, id string) *app.Failure {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure != nil {
		return b.failure
	}
	b.ended = append(b.ended, id)
	b.conns = slices.DeleteFunc(b.conns, func(c app.Connection) bool { return c.ID == id })
	return nil
}

func (b *fakeBackend) Answer(id string, answer *Answer) *app.Failure {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure != nil {
		return b.failure
	}
	kept := *answer
	kept.Text = slices.Clone(answer.Text)
	b.answers = append(b.answers, kept)
	return nil
}

func (b *fakeBackend) RestoreNetwork(context.Context) *app.Failure {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure != nil {
		return b.failure
	}
	b.restored++
	return nil
}

// touched counts what reached the backend and changes something.
func (b *fakeBackend) touched() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.requests) + len(b.answers) + len(b.ended) + b.restored
}

// fakeLogs is a log that can be read.
type fakeLogs struct {
	mu       sync.Mutex
	records  []app.LogRecord
	watchers map[chan struct{}]bool
}

func (l *fakeLogs) Since(after uint64, least slog.Level) ([]app.LogRecord, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []app.LogRecord
	for _, r := range l.records[after:] {
		if level, _ := app.ParseLogLevel(r.Level); level >= least {
			out = append(out, r)
		}
	}
	return out, uint64(len(l.records))
}

func (l *fakeLogs) Watch() (<-chan struct{}, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan struct{}, 1)
	if l.watchers == nil {
		l.watchers = map[chan struct{}]bool{}
	}
	l.watchers[c] = true
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watchers, c)
	}
}

func (l *fakeLogs) watching() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.watchers)
}

func (l *fakeLogs) add(records ...app.LogRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, records...)
	for c := range l.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// discard is a log for tests that do not look at it.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// as is an identify that finds the same peer at the end of every connection.
func as(p peer) func(net.Conn) (peer, error) {
	return func(net.Conn) (peer, error) { return p, nil }
}

// serveIn serves s on l until the test ends.
func serveIn(t *testing.T, s *Server, l net.Listener) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// write sends a request, as "GET /v1/status", with a body if there has to be one.
func write(conn net.Conn, request string) error {
	body := ""
	if strings.HasSuffix(request, "/connections") || strings.HasSuffix(request, "/answers") {
		body = "{}"
	}
	_, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", request, len(body), body)
	return err
}

// ask makes a request on a connection that stays open, and returns the HTTP status.
func ask(t *testing.T, conn net.Conn, answers *bufio.Reader, request string) int {
	t.Helper()
	if err := write(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// pipes is a listener and dialer in memory, so that time can be virtual.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// sharedBuffer is a buffer for several goroutines.
type sharedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *sharedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
