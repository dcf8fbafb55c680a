package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
)

func someRecords() []app.LogRecord {
	return []app.LogRecord{
		{Level: "error", Message: "the service's"},
		{Level: "info", Message: "ada's", Connection: "c1", Owner: "ada", Attributes: map[string]string{"step": "sign-in"}},
		{Level: "debug", Message: "ada's detail", Connection: "c1", Owner: "ada"},
		{Level: "warn", Message: "bob's", Connection: "c2", Owner: "bob"},
		{Level: "trace", Message: "ada's payload", Connection: "c1", Owner: "ada"},
	}
}

func messages(t *testing.T, body string) string {
	t.Helper()
	var all []string
	for line := range strings.Lines(body) {
		var r app.LogRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, r.Message)
	}
	return strings.Join(all, ", ")
}

// A user reads the lines of own connections, an administrator all.
func TestLogs(t *testing.T) {
	ada, root := peer{name: "ada"}, peer{name: "root", admin: true}
	for _, tt := range []struct {
		who         peer
		query, want string
	}{
		{root, "", "the service's, ada's, bob's"},
		{root, "?level=trace", "the service's, ada's, ada's detail, bob's, ada's payload"},
		{root, "?level=error", "the service's"},
		{ada, "", "ada's"},
		{ada, "?level=debug", "ada's, ada's detail"},
		{ada, "?level=trace&follow=false", "ada's, ada's detail, ada's payload"},
		{ada, "?level=error", ""},
		{peer{name: "eve"}, "?level=trace", ""},
		{peer{}, "?level=trace", ""}, // the service's lines have no owner either
	} {
		logs := &fakeLogs{records: someRecords()}
		s := &Server{Backend: &fakeBackend{}, Log: discard(), Logs: logs, identify: as(tt.who)}
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, httptest.NewRequest("GET", "/v1/logs"+tt.query, nil))
		if got := messages(t, w.Body.String()); got != tt.want || w.Code != http.StatusOK || logs.watching() > 0 {
			t.Errorf("%s%s: HTTP status %d, got %s, want %s", tt.who.name, tt.query, w.Code, got, tt.want)
		}
	}
}

func TestNoLogs(t *testing.T) {
	s := &Server{Backend: &fakeBackend{}, Log: discard(), identify: as(peer{name: "ada"})}
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest("GET", "/v1/logs", nil))
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "keeps no log") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// With follow, lines come as they are written; those of others do not.
func TestLogsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs, p := &fakeLogs{records: someRecords()}, newPipes()
		serveIn(t, &Server{Backend: &fakeBackend{}, Log: discard(), Logs: logs, identify: as(peer{name: "ada"})}, p)
		lines, status, end := openStream(t, p, "/v1/logs?follow")
		defer end()
		read := func() string {
			t.Helper()
			if !lines.Scan() {
				t.Fatalf("the stream ended: %v", lines.Err())
			}
			return messages(t, lines.Text())
		}
		if got := read(); status != http.StatusOK || got != "ada's" {
			t.Errorf("HTTP status %d, %s", status, got)
		}
		time.Sleep(time.Hour)
		start := time.Now()
		logs.add(app.LogRecord{Level: "info", Owner: "bob", Message: "hidden"}, app.LogRecord{Level: "info", Owner: "ada", Message: "new"})
		if got := read(); got != "new" || time.Since(start) != 0 {
			t.Errorf("after %v: %s", time.Since(start), got)
		}
	})
}

// Who follows and does not read is dropped, however much there is to tell.
func TestSlowReaderOfLogsIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs, p := &fakeLogs{}, newPipes()
		serveIn(t, &Server{Backend: &fakeBackend{}, Log: discard(), Logs: logs, identify: as(peer{name: "ada"})}, p)
		_, _, end := openStream(t, p, "/v1/logs?follow")
		defer end()
		synctest.Wait()
		for i := range 10 * logChunk {
			logs.add(app.LogRecord{Level: "info", Owner: "ada", Message: fmt.Sprint(i)})
		}
		time.Sleep(eventInterval + writeTime - time.Millisecond)
		synctest.Wait()
		if logs.watching() != 1 {
			t.Fatalf("dropped before %v", writeTime)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if logs.watching() != 0 {
			t.Errorf("still there after %v", writeTime)
		}
	})
}

func TestClientLogs(t *testing.T) {
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	logs := &fakeLogs{records: someRecords()}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	s := &Server{Backend: &fakeBackend{}, Log: discard(), Logs: logs, identify: as(peer{name: "root", admin: true})}
	go func() { served <- s.Serve(ctx, l) }()
	client := &Client{Path: path}
	var got []string
	for r, err := range client.Logs(t.Context(), "warn", false) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Message)
	}
	if strings.Join(got, ", ") != "the service's, bob's" {
		t.Errorf("got %s", got)
	}
	for _, err := range client.Logs(t.Context(), "loud", false) {
		if failureOf(t, err).Code != app.CodeUsage {
			t.Errorf("an unknown level: %v", err)
		}
	}
	var last error
	got = nil
	for r, err := range client.Logs(t.Context(), "error", true) {
		if last = err; err != nil {
			break
		}
		if got = append(got, r.Message); len(got) == 1 {
			logs.add(app.LogRecord{Level: "error", Message: "the next"})
		} else {
			stop() // of the service
		}
	}
	if strings.Join(got, ", ") != "the service's, the next" || last == nil || failureOf(t, last).Exit != 8 {
		t.Errorf("followed %s, %v", got, last)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// openStream opens a stream over pipes and returns its lines.
func openStream(t *testing.T, p *pipes, path string) (lines *bufio.Scanner, status int, end func()) {
	t.Helper()
	conn, err := p.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewScanner(resp.Body), resp.StatusCode, func() { conn.Close() }
}
