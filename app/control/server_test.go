package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
)

// Who asks is found out for each request, also on a connection that stays open.
func TestRightsOfEachRequest(t *testing.T) {
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	backend := &fakeBackend{}
	serveIn(t, &Server{Backend: backend, Log: discard(), identify: func(net.Conn) (peer, error) {
		return peer{name: "ada", mayConnect: asked.Add(1) == 1}, nil // lost after the first
	}}, l)
	conn, err := dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for i, want := range []int{http.StatusCreated, http.StatusForbidden} {
		if got := ask(t, conn, answers, "POST /v1/connections"); got != want {
			t.Errorf("request %d: HTTP status %d, want %d", i, got, want)
		}
	}
	if backend.touched() != 1 {
		t.Errorf("%d requests reached the backend", backend.touched())
	}
}

// The log hears of a user without rights once in a while.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &Server{Backend: &fakeBackend{}, Log: slog.New(slog.NewTextHandler(&log, nil)), identify: as(peer{name: "eve"})}
		routes := s.routes()
		for range 2 {
			for range 50 {
				routes.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/v1/connections", strings.NewReader("{}")))
				routes.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/v1/restore-network", nil))
			}
			time.Sleep(tellInterval)
		}
		if n := strings.Count(log.String(), "refused: no right"); n != 2 || !strings.Contains(log.String(), "user=eve") {
			t.Errorf("%d lines:\n%s", n, &log)
		}
	})
}

// Who asks often waits, and only they.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Backend: &fakeBackend{}, Log: discard()}
		who := peer{id: "1002"}
		s.identify = func(net.Conn) (peer, error) { return who, nil }
		routes := s.routes()
		ask := func(n int) time.Duration {
			start := time.Now()
			for range n {
				routes.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/status", nil))
			}
			return time.Since(start)
		}
		if d := ask(requestBurst); d != 0 {
			t.Errorf("a burst took %v", d)
		}
		if d := ask(requestsPerSecond); d.Round(time.Millisecond) != time.Second {
			t.Errorf("more took %v", d)
		}
		who = peer{id: "1000"}
		if d := ask(1); d != 0 {
			t.Errorf("another user waited %v", d)
		}
		for i := range 4 * maxPaced {
			s.requests.wait(t.Context(), fmt.Sprint(i))
			time.Sleep(time.Second)
		}
		if n := len(s.requests.users); n > maxPaced {
			t.Errorf("%d users are remembered", n)
		}
	})
}

// The refusal of a user who may not connect has the exit code of an absent service.
func TestConnectRefusedUser(t *testing.T) {
	s := &Server{Backend: &fakeBackend{}, Log: discard(), identify: as(peer{name: "eve"})}
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest("POST", "/v1/connections", strings.NewReader(`{}`)))
	var report app.ErrorReport
	if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if f := report.Failure(); f.Exit != 8 || !strings.Contains(f.Message, "refuses this user") || f.Hint == "" {
		t.Errorf("got %+v", f)
	}
}

func TestOthersConnectionsShowStateAndOwner(t *testing.T) {
	backend := &fakeBackend{conns: []app.Connection{
		{ID: "c1", Owner: "ada", State: app.StateConnected, Profile: "office", Banner: "hello"},
		{ID: "c2", Owner: "bob", State: app.StateActionNeeded, Prompt: &app.Prompt{ID: "p1"}},
	}}
	for _, tt := range []struct {
		who  peer
		want string
	}{
		{peer{name: "ada"}, `{"version":"1.2","connections":[{"id":"c1","state":"connected","profile":"office","owner":"ada","banner":"hello"},{"state":"action-needed","owner":"bob"}]}`},
		{peer{name: "eve"}, `{"version":"1.2","connections":[{"state":"connected","owner":"ada"},{"state":"action-needed","owner":"bob"}]}`},
		{peer{name: "root", admin: true}, `{"version":"1.2","connections":[{"id":"c1","state":"connected","profile":"office","owner":"ada","banner":"hello"},` +
			`{"id":"c2","state":"action-needed","owner":"bob","prompt":{"id":"p1","kind":"","secret":false}}]}`},
	} {
		s := &Server{Backend: backend, Log: discard(), Version: "1.2", identify: as(tt.who)}
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, httptest.NewRequest("GET", "/v1/status", nil))
		if got := strings.TrimSpace(w.Body.String()); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.who.name, got, tt.want)
		}
	}
}

func TestNoConnectionsAreAnEmptyList(t *testing.T) {
	s := &Server{Backend: &fakeBackend{}, Log: discard(), Version: "1.2", identify: as(peer{})}
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest("GET", "/v1/status", nil))
	if got := strings.TrimSpace(w.Body.String()); got != `{"version":"1.2","connections":[]}` {
		t.Errorf("got %s", got)
	}
}

func TestRefusedRequests(t *testing.T) {
	const secret = "hunter2"
	number := "73571113"
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string // in the message
	}{
		{"unknown path", "GET", "/v1/nothing", "", 404, "does not know this path"},
		{"another version", "GET", "/v2/status", "", 404, "version 2 of the local API is not known, only 1"},
		{"no version", "GET", "/vx/status", "", 404, "does not know this path"},
		{"wrong method", "PUT", "/v1/connections", "{}", 405, "method"},
		{"wrong method of a connection", "GET", "/v1/connections/c1", "", 405, "method"},
		{"unknown field", "POST", "/v1/connections", `{"pasword":"` + secret + `"}`, 400, `unknown field "pasword"`},
		{"unknown key of the profile", "POST", "/v1/connections", `{"profile":{"gatway":"` + secret + `"}}`, 400, `unknown field "gatway"`},
		{"number for a secret", "POST", "/v1/connections", `{"password":` + number + `}`, 400, `"password" must be []uint8`},
		{"text for a number", "POST", "/v1/connections", `{"timeout_seconds":"` + secret + `"}`, 400, `"timeout_seconds" must be int`},
		{"number for a group's secret", "POST", "/v1/connections", `{"group_secret":` + number + `}`, 400, `"group_secret" must be []uint8`},
		{"list for a key", "POST", "/v1/connections", `{"key":["` + secret + `"]}`, 400, `"key`},
		{"no base64", "POST", "/v1/connections", `{"password":"` + secret + `!"}`, 400, "no base64"},
		{"no JSON", "POST", "/v1/connections", secret, 400, "no JSON at byte 1"},
		{"half", "POST", "/v1/connections", `{"password":"` + secret, 400, "ends too early"},
		{"empty", "POST", "/v1/connections", "", 400, "ends too early"},
		{"two values", "POST", "/v1/connections", `{}{"password":"` + secret + `"}`, 400, "no JSON at byte 3"},
		{"key in capitals", "POST", "/v1/connections", `{"TRUST_NEW":true}`, 400, `unknown field "TRUST_NEW"`},
		{"status with a body", "GET", "/v1/status", "{}", 400, "must have no body"},
		{"too large", "POST", "/v1/connections", `{"profile":{"login":"` + secret + strings.Repeat(" ", maxBody) + `"}}`, 413, "larger than"},
		{"body where none belongs", "DELETE", "/v1/connections/c1", "{}", 400, "must have no body"},
		{"events with a body", "GET", "/v1/events", "{}", 400, "must have no body"},
		{"log with a body", "GET", "/v1/logs", "{}", 400, "must have no body"},
		{"unknown level", "GET", "/v1/logs?level=loud", "", 400, "error, warn, info, debug, trace"},
		{"neither true nor false", "GET", "/v1/logs?follow=perhaps", "", 400, "follow"},
		{"unknown part of a query", "GET", "/v1/logs?folow", "", 400, "follow"},
		{"restoring what", "PUT", "/v1/restore-network", "", 405, "method"},
		{"answer with an unknown field", "POST", "/v1/connections/c1/answers", `{"otp":"` + secret + `"}`, 400, `unknown field "otp"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			backend := &fakeBackend{conns: []app.Connection{{ID: "c1", Owner: "ada"}}}
			s := &Server{
				Backend: backend, identify: as(peer{name: "ada", mayConnect: true}), Logs: &fakeLogs{},
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			}
			w := httptest.NewRecorder()
			s.routes().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body)))
			var report app.ErrorReport
			if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil {
				t.Fatalf("%v in %s", err, w.Body)
			}
			if w.Code != tt.status || report.Error.Code != app.CodeUsage || !strings.Contains(report.Error.Message, tt.want) {
				t.Errorf("got %d %s, want %d …%s…", w.Code, w.Body, tt.status, tt.want)
			}
			if len(backend.requests)+len(backend.answers) > 0 {
				t.Error("the request reached the backend")
			}
			for _, s := range []string{secret, number} {
				if strings.Contains(w.Body.String()+log.String(), s) {
					t.Errorf("the secret is told: %s\n%s", w.Body, &log)
				}
			}
		})
	}
}

// A failure of the backend reaches the client whole, with a fitting HTTP status.
func TestBackendFailures(t *testing.T) {
	for code, status := range map[app.Code]int{
		app.CodeInternal: 500, app.CodeUsage: 400, app.CodeNoAnswer: 504, app.CodeUntrusted: 502, app.CodeSignInRefused: 502,
		app.CodeNoProposal: 502, app.CodeNetworkConfig: 409, app.CodeNoService: 403, app.CodeCancelled: 409,
		app.CodeProtocol: 502, app.CodeSettingsRefused: 502, app.CodePolicy: 403, "from-the-future": 500,
	} {
		t.Run(string(code), func(t *testing.T) {
			failure := app.NewFailure(code, app.StepSignIn, "a message", "a hint")
			backend := &fakeBackend{failure: failure, conns: []app.Connection{{ID: "c1", Owner: "ada"}}}
			s := &Server{Backend: backend, Log: discard(), identify: as(peer{name: "ada", mayConnect: true, admin: true})}
			for _, request := range []*http.Request{
				httptest.NewRequest("POST", "/v1/connections", strings.NewReader("{}")),
				httptest.NewRequest("DELETE", "/v1/connections/c1", nil),
				httptest.NewRequest("POST", "/v1/connections/c1/answers", strings.NewReader("{}")),
				httptest.NewRequest("POST", "/v1/restore-network", nil),
			} {
				w := httptest.NewRecorder()
				s.routes().ServeHTTP(w, request)
				var report app.ErrorReport
				if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil {
					t.Fatal(err)
				}
				if got := report.Failure(); w.Code != status || !reflect.DeepEqual(got, failure) {
					t.Errorf("%s: got %d %+v, want %d %+v", request.Method, w.Code, got, status, failure)
				}
			}
		})
	}
}

// keeping is a backend that keeps the slices it is given, to look at them later.
type keeping struct {
	fakeBackend
	secrets [][]byte
}

func (b *keeping) Connect(ctx context.Context, owner string, req *ConnectRequest) (string, *app.Failure) {
	b.secrets = append(b.secrets, req.Password, req.GroupSecret, req.Key)
	return b.fakeBackend.Connect(ctx, owner, req)
}

func (b *keeping) Answer(id string, answer *Answer) *app.Failure {
	b.secrets = append(b.secrets, answer.Text)
	return b.fakeBackend.Answer(id, answer)
}

func TestSecretsAreZeroised(t *testing.T) {
	backend := &keeping{}
	s := &Server{Backend: backend, Log: discard(), identify: as(peer{name: "ada", mayConnect: true})}
	for _, r := range []*http.Request{
		httptest.NewRequest("POST", "/v1/connections", strings.NewReader(`{"password":"c2VjcmV0","group_secret":"c2VjcmV0","key":"c2VjcmV0"}`)),
		httptest.NewRequest("POST", "/v1/connections/c1/answers", strings.NewReader(`{"prompt":"p1","text":"c2VjcmV0"}`)),
	} {
		s.routes().ServeHTTP(httptest.NewRecorder(), r)
	}
	zero := make([]byte, len("secret"))
	for i, secret := range backend.secrets {
		if !bytes.Equal(secret, zero) {
			t.Errorf("after the requests, secret %d: %q", i, secret)
		}
	}
	got := backend.requests[0]
	if string(got.Password) != "secret" || string(got.GroupSecret) != "secret" || string(got.Key) != "secret" ||
		string(backend.answers[0].Text) != "secret" {
		t.Error("the backend did not get the secrets")
	}
}

// Passwords never reach the log, at any level.
func TestSecretsAreNotLogged(t *testing.T) {
	log := &sharedBuffer{}
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serveIn(t, &Server{
		Backend: &fakeBackend{}, identify: as(peer{name: "ada", mayConnect: true}),
		Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug - 4})),
	}, l)
	c := &Client{Path: path}
	ctx := t.Context()
	id, err := c.Connect(ctx, &ConnectRequest{
		Profile: app.Profile{Name: "office"}, Password: []byte("hunter2"), GroupSecret: []byte("hunter2"), Key: []byte("hunter2"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Answer(ctx, id, &Answer{PromptID: "p1", Text: []byte("hunter2")}); err != nil {
		t.Fatal(err)
	}
	if err := c.Disconnect(ctx, id); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "office") {
		t.Errorf("nothing was logged: %s", log)
	}
	for _, form := range []string{"hunter2", "aHVudGVyMg"} {
		if strings.Contains(log.String(), form) {
			t.Errorf("the log holds the password: %s", log)
		}
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	l := newPipes()
	l.Close()
	s := &Server{Backend: &fakeBackend{}, Log: discard()}
	if err := s.Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func FuzzConnectBody(f *testing.F) {
	f.Add([]byte(`{"profile":{"name":"office","ca":["x"]},"password":"c2VjcmV0","timeout_seconds":60}`))
	f.Add([]byte(`{"profile":{"mtu":1e3}}`))
	backend := &fakeBackend{}
	s := &Server{Backend: backend, Log: discard(), identify: as(peer{name: "ada", mayConnect: true})}
	routes := s.routes()
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest("POST", "/v1/connections", bytes.NewReader(body)))
		if w.Code == http.StatusCreated {
			return
		}
		var report app.ErrorReport
		if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil || report.Error.Code != app.CodeUsage {
			t.Errorf("%q: got %d %s", body, w.Code, w.Body)
		}
	})
}
