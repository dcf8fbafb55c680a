package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"wayfarer/app"
)

// remembering is a body that keeps hold of all the memory it was read into.
type remembering struct {
	io.Reader
	given [][]byte
}

func (r *remembering) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p[:min(len(p), 3000)])
	r.given = append(r.given, p[:n])
	return n, err
}

// What a body was read into is overwritten, also where a buffer was too small, and where
// the request is refused.
func TestBodiesLeaveNoCopies(t *testing.T) {
	padding := strings.Repeat(" ", 40<<10)
	for _, body := range []string{
		`{"password":"aHVudGVyMg==","profile":{"name":"` + padding + `"}}`,
		`{"password":"aHVudGVyMg==","unknown":"` + padding + `"}`,
		`{"password":"aHVudGVyMg==","ask":"` + padding + `"}`,
		`{"password":"aHVudGVyMg==","profile":{"name":"` + padding,
		`{"password":"aHVudGVyMg==","profile":{"name":"` + strings.Repeat(" ", maxBody) + `"}}`,
	} {
		s := &Server{Backend: &fakeBackend{}, Log: discard(), identify: as(peer{name: "ada", mayConnect: true})}
		source := &remembering{Reader: strings.NewReader(body)}
		s.routes().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/v1/connections", source))
		if len(source.given) < 3 {
			t.Fatalf("%d reads", len(source.given))
		}
		for i, part := range source.given {
			if !bytes.Equal(part, make([]byte, len(part))) {
				t.Errorf("%.60s: read %d stays: %.60s", body, i, part)
			}
		}
	}
}

// Decoding holds on to nothing of a body either.
func TestDecodingAllocatesNoCopy(t *testing.T) {
	body := []byte(`{"password":"` + strings.Repeat("A", 400<<10) + `"}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var req ConnectRequest
	if json.Unmarshal(body, &req) != nil || checkConnectRequest(body) != nil {
		t.Fatal("refused")
	}
	runtime.ReadMemStats(&after)
	decoded := after.TotalAlloc - before.TotalAlloc
	if secret := uint64(300 << 10); decoded > secret+secret/4 {
		t.Errorf("%d bytes for a secret of %d", decoded, secret)
	}
}

// A body of nothing but keys that nobody knows costs no more than it has bytes.
func TestUnknownKeysCostNothing(t *testing.T) {
	var body bytes.Buffer
	body.WriteString(`{`)
	for i := range 100_000 {
		fmt.Fprintf(&body, `"k%d":0,`, i)
	}
	body.WriteString(`"ask":true}`)
	cost := testing.AllocsPerRun(1, func() {
		if err := checkConnectRequest(body.Bytes()); err == nil || harmless(err) != `unknown field "k0"` {
			t.Error(err)
		}
	})
	if cost > 100 {
		t.Errorf("%v allocations", cost)
	}
}

// One user has only so many bodies read at a time, and leaves room for others.
func TestBodiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		who := peer{name: "eve", id: "1002", mayConnect: true}
		s := &Server{Backend: &fakeBackend{}, Log: discard()}
		s.identify = as(who)
		routes := s.routes()
		var ends []*io.PipeWriter
		for range maxUserBodies {
			r, w := io.Pipe()
			ends = append(ends, w)
			go routes.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/v1/connections", r))
		}
		synctest.Wait()
		ask := func() int {
			w := httptest.NewRecorder()
			routes.ServeHTTP(w, httptest.NewRequest("POST", "/v1/connections", strings.NewReader("{}")))
			return w.Code
		}
		if got := ask(); got != http.StatusServiceUnavailable {
			t.Errorf("one too many: HTTP status %d", got)
		}
		s.identify = as(peer{name: "ada", id: "1000", mayConnect: true})
		if got := ask(); got != http.StatusCreated {
			t.Errorf("another user: HTTP status %d", got)
		}
		for _, w := range ends {
			w.Close()
		}
		synctest.Wait()
		s.identify = as(who)
		if got := ask(); got != http.StatusCreated {
			t.Errorf("afterwards: HTTP status %d", got)
		}
	})
}

// An answer may be as long as gateways take, and no longer.
func TestAnswersAreBounded(t *testing.T) {
	for size, want := range map[int]int{maxAnswer - 2: http.StatusNoContent, maxAnswer - 1: http.StatusBadRequest} {
		backend := &fakeBackend{conns: []app.Connection{{ID: "c1", Owner: "ada"}}}
		s := &Server{Backend: backend, Log: discard(), identify: as(peer{name: "ada"})}
		body, err := json.Marshal(Answer{PromptID: "p1", Text: bytes.Repeat([]byte("x"), size)})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, httptest.NewRequest("POST", "/v1/connections/c1/answers", bytes.NewReader(body)))
		if w.Code != want || (backend.touched() == 1) != (want < 300) {
			t.Errorf("%d bytes: HTTP status %d", size, w.Code)
		}
	}
}

// askOnce sends a request over pipes and returns the status and the body.
func askOnce(t *testing.T, p *pipes, request string) (int, string) {
	t.Helper()
	conn, err := p.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.WriteString(conn, request)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body) // which may end early
	return resp.StatusCode, string(body)
}

func TestHeadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := startEvents(t, peer{name: "ada"})
		const slack = 4 << 10 // that net/http adds
		for size, want := range map[int]int{maxHeader / 2: 200, maxHeader + slack: 431} {
			if got, _ := askOnce(t, p, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", size)+"\r\n\r\n"); got != want {
				t.Errorf("%d bytes: HTTP status %d, want %d", size, got, want)
			}
		}
	})
}

// Everybody's pace is bounded, whatever they ask for.
func TestPaceOfUnknownPaths(t *testing.T) {
	for _, request := range []string{"GET /v1/nothing", "PUT /v1/status", "GET /v1/status", "GET //v1"} {
		s := &Server{Backend: &fakeBackend{}, Log: discard(), identify: as(peer{name: "eve", id: "1002"})}
		routes := s.routes()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // who would have to wait gets no answer
		method, path, _ := strings.Cut(request, " ")
		answered := 0
		for range requestBurst * 2 {
			w := httptest.NewRecorder()
			routes.ServeHTTP(w, httptest.NewRequest(method, path, nil).WithContext(ctx))
			if w.Body.Len() > 0 {
				answered++
			}
		}
		if answered > 0 {
			t.Errorf("%s: %d answers", request, answered)
		}
	}
}

// Whoever cannot be told gets no other answer than that, whatever they ask for.
func TestNothingForTheUnidentified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		serveIn(t, &Server{Backend: &fakeBackend{}, Log: discard(), identify: func(net.Conn) (peer, error) {
			return peer{name: "root", admin: true}, errors.New("no credentials")
		}}, p)
		for _, request := range []string{"GET /v1/status", "GET /v1/nothing", "PUT /v1/status", "GET //v1", "OPTIONS *"} {
			if got, body := askOnce(t, p, request+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); got != http.StatusForbidden {
				t.Errorf("%s: HTTP status %d %s", request, got, body)
			}
		}
	})
}

// panicking is a backend with a mistake in it.
type panicking struct{ fakeBackend }

func (*panicking) Connections() []app.Connection { panic("a mistake") }

// A mistake ends one request, and is told.
func TestPanicIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, p := &sharedBuffer{}, newPipes()
		serveIn(t, &Server{Backend: &panicking{}, Log: slog.New(slog.NewTextHandler(log, nil)), identify: as(peer{name: "ada"})}, p)
		conn, err := p.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(conn, "GET /v1/status"+head)
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v", err)
		}
		if got, _ := askOnce(t, p, "GET /v1/nothing"+head); got != http.StatusNotFound {
			t.Errorf("afterwards: HTTP status %d", got)
		}
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "a mistake") {
			t.Errorf("log: %s", log)
		}
	})
}

// The administrator's streams are not among those of all the others.
func TestStreamsOfTheAdministrator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := &Server{Backend: &fakeBackend{}, Log: discard(), identify: as(peer{name: "root", id: rootUser, admin: true})}
		serveIn(t, s, p)
		s.watches.mu.Lock()
		s.watches.all = maxWatches // of others
		s.watches.mu.Unlock()
		_, status, end := openEvents(t, p)
		end()
		if status != http.StatusOK {
			t.Errorf("HTTP status %d", status)
		}
	})
}
