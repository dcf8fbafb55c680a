package control

import (
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
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"wayfarer/app"
)

// Rights, by who asks what: the table of doc.go.
func TestRights(t *testing.T) {
	root := peer{name: "root", admin: true, mayConnect: true}
	ada := peer{name: "ada", mayConnect: true}
	bob := peer{name: "bob", mayConnect: true}
	eve := peer{name: "eve"}
	for _, tt := range []struct {
		who          peer
		method, path string
		want         int
	}{
		{root, "GET", "/v1/status", 200},
		{ada, "GET", "/v1/status", 200},
		{bob, "GET", "/v1/status", 200},
		{eve, "GET", "/v1/status", 200},
		{root, "POST", "/v1/connections", 201},
		{ada, "POST", "/v1/connections", 201},
		{eve, "POST", "/v1/connections", 403},
		{root, "DELETE", "/v1/connections/c1", 204},
		{ada, "DELETE", "/v1/connections/c1", 204},
		{bob, "DELETE", "/v1/connections/c1", 404},
		{eve, "DELETE", "/v1/connections/c1", 404},
		{root, "DELETE", "/v1/connections/c9", 404},
		{root, "POST", "/v1/connections/c1/answers", 204},
		{ada, "POST", "/v1/connections/c1/answers", 204},
		{bob, "POST", "/v1/connections/c1/answers", 404},
		{eve, "POST", "/v1/connections/c1/answers", 404},
		{ada, "POST", "/v1/connections/c9/answers", 404},
		// Who lost the right to connect keeps the connection that is theirs.
		{peer{name: "ada"}, "DELETE", "/v1/connections/c1", 204},
	} {
		t.Run(fmt.Sprintf("%s %s %s", tt.who.name, tt.method, tt.path), func(t *testing.T) {
			backend := &fakeBackend{conns: []app.Connection{{ID: "c1", Owner: "ada", State: app.StateConnected, Profile: "office"}}}
			s := &Server{Backend: backend, Log: discard(), identify: as(tt.who)}
			w := httptest.NewRecorder()
			s.routes().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, bodyOf(tt.method)))
			if w.Code != tt.want {
				t.Errorf("got HTTP status %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			touched := len(backend.requests) + len(backend.answers) + len(backend.ended)
			if refused := tt.want >= 400; refused && touched > 0 {
				t.Error("a refused request reached the backend")
			}
		})
	}
}

func bodyOf(method string) io.Reader {
	if method == "POST" {
		return strings.NewReader("{}")
	}
	return nil
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

func TestUnidentifiedPeer(t *testing.T) {
	s := &Server{Backend: &fakeBackend{}, Log: discard(), identify: func(net.Conn) (peer, error) {
		return peer{name: "root", admin: true}, errors.New("no credentials")
	}}
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest("GET", "/v1/status", nil))
	if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "connections") {
		t.Errorf("got %d %s", w.Code, w.Body)
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
		{"other version", "GET", "/v2/status", "", 404, "does not know this path"},
		{"wrong method", "PUT", "/v1/connections", "{}", 405, "method"},
		{"wrong method of a connection", "GET", "/v1/connections/c1", "", 405, "method"},
		{"unknown field", "POST", "/v1/connections", `{"pasword":"` + secret + `"}`, 400, `unknown field "pasword"`},
		{"unknown key of the profile", "POST", "/v1/connections", `{"profile":{"gatway":"` + secret + `"}}`, 400, `unknown field "gatway"`},
		{"number for a secret", "POST", "/v1/connections", `{"password":` + number + `}`, 400, `"password" must be []uint8`},
		{"text for a number", "POST", "/v1/connections", `{"timeout_seconds":"` + secret + `"}`, 400, `"timeout_seconds" must be int`},
		{"number for a group's secret", "POST", "/v1/connections", `{"group_secret":` + number + `}`, 400, `"group_secret" must be []uint8`},
		{"list for a key", "POST", "/v1/connections", `{"key":["` + secret + `"]}`, 400, `"key`},
		{"no base64", "POST", "/v1/connections", `{"password":"` + secret + `!"}`, 400, "illegal base64"},
		{"no JSON", "POST", "/v1/connections", secret, 400, "no JSON at byte 1"},
		{"half", "POST", "/v1/connections", `{"password":"` + secret, 400, "ends too early"},
		{"empty", "POST", "/v1/connections", "", 400, "ends too early"},
		{"two values", "POST", "/v1/connections", `{}{"password":"` + secret + `"}`, 400, "something follows"},
		{"too large", "POST", "/v1/connections", `{"profile":{"login":"` + secret + strings.Repeat(" ", maxBody) + `"}}`, 413, "larger than"},
		{"body where none belongs", "DELETE", "/v1/connections/c1", "{}", 400, "must have no body"},
		{"events with a body", "GET", "/v1/events", "{}", 400, "must have no body"},
		{"answer with an unknown field", "POST", "/v1/connections/c1/answers", `{"otp":"` + secret + `"}`, 400, `unknown field "otp"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			backend := &fakeBackend{conns: []app.Connection{{ID: "c1", Owner: "ada"}}}
			s := &Server{
				Backend: backend, identify: as(peer{name: "ada", mayConnect: true}),
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
			s := &Server{Backend: backend, Log: discard(), identify: as(peer{name: "ada", mayConnect: true})}
			for _, request := range []*http.Request{
				httptest.NewRequest("POST", "/v1/connections", strings.NewReader("{}")),
				httptest.NewRequest("DELETE", "/v1/connections/c1", nil),
				httptest.NewRequest("POST", "/v1/connections/c1/answers", strings.NewReader("{}")),
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
	var mu sync.Mutex
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serveIn(t, &Server{
		Backend: &fakeBackend{}, identify: as(peer{name: "ada", mayConnect: true}),
		Log: slog.New(slog.NewJSONHandler(&locked{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug - 4})),
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
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(log.String(), "office") {
		t.Errorf("nothing was logged: %s", &log)
	}
	for _, form := range []string{"hunter2", "aHVudGVyMg"} {
		if strings.Contains(log.String(), form) {
			t.Errorf("the log holds the password: %s", &log)
		}
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
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
