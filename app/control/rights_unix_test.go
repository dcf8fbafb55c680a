//go:build linux || darwin

package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"wayfarer/app"
)

// Kinds of users, as columns of rightsTable.
const (
	isRoot = iota
	isService
	isMember       // of group wayfarer
	isOwner        // of c1
	isAllowed      // as the owner, but has no connection
	isAtTheMachine // polkit says so; has no connection
	isFormerOwner  // of c1, with no right to connect any more
	isStranger     // with an account
	isUnknown      // without
	isUnreadable   // the operating system does not tell
	kindsOfUsers   = iota
)

// users are of fakeAccounts; at is whether they are in front of the machine, as far as the
// user tells, and polkit as far as the process does.
var users = [kindsOfUsers]struct {
	kind       string
	cred       credentials
	at, polkit bool
}{
	isRoot:         {kind: "root", cred: credentials{0, 0}},
	isService:      {kind: "service", cred: credentials{990, 990}},
	isMember:       {kind: "member", cred: credentials{1000, 1000}},
	isOwner:        {kind: "owner", cred: credentials{1001, 1001}, at: true},
	isAllowed:      {kind: "allowed", cred: credentials{1002, 1002}, at: true},
	isAtTheMachine: {kind: "at the machine", cred: credentials{1002, 1002}, polkit: true},
	isFormerOwner:  {kind: "former owner", cred: credentials{1001, 1001}},
	isStranger:     {kind: "stranger", cred: credentials{1002, 1002}},
	isUnknown:      {kind: "unknown", cred: credentials{4242, 4242}},
	isUnreadable:   {kind: "unreadable"},
}

// Answers of rightsTable. What they tell is of rightsBackend and rightsRecords.
const (
	seesAll   = `200 {"version":"1.2","connections":[{"id":"c1","state":"connected","profile":"office","owner":"bob","banner":"hello"},{"id":"c2","state":"action-needed","owner":"carol","prompt":{"id":"p1","kind":"otp","text":"code","secret":true}}]}`
	seesOwn   = `200 {"version":"1.2","connections":[{"id":"c1","state":"connected","profile":"office","owner":"bob","banner":"hello"},{"state":"action-needed","owner":"carol"}]}`
	seesThat  = `200 {"version":"1.2","connections":[{"state":"connected","owner":"bob"},{"state":"action-needed","owner":"carol"}]}`
	readsAll  = `200 {"time":"0001-01-01T00:00:00Z","level":"info","message":"the service's"} {"time":"0001-01-01T00:00:00Z","level":"info","connection":"c1","owner":"bob","message":"bob's"}`
	readsOwn  = `200 {"time":"0001-01-01T00:00:00Z","level":"info","connection":"c1","owner":"bob","message":"bob's"}`
	readsNone = `200`
	placed    = `200 {"policy":{"forbid_weak":true,"force_block_outside":false,"forbid_adding_gateways":false},"profiles":[]}`
	made      = `201 {"id":"c1"}`
	yes       = `204`
	refused   = `403 no-service`
	unknown   = `404 usage`
)

// rightsTable is the table of doc.go: what each kind of user gets from each endpoint.
var rightsTable = []struct {
	pattern, request string // the pattern is that of Server.endpoints
	want             [kindsOfUsers]string
}{
	{"GET /v1/status", "GET /v1/status", [...]string{seesAll, seesAll, seesAll, seesOwn, seesThat, seesThat, seesOwn, seesThat, seesThat, refused}},
	{"GET /v1/events", "GET /v1/events", [...]string{seesAll, seesAll, seesAll, seesOwn, seesThat, seesThat, seesOwn, seesThat, seesThat, refused}},
	{"GET /v1/managed", "GET /v1/managed", [...]string{placed, placed, placed, placed, placed, placed, placed, placed, placed, refused}},
	{"GET /v1/logs", "GET /v1/logs", [...]string{readsAll, readsAll, readsAll, readsOwn, readsNone, readsNone, readsOwn, readsNone, readsNone, refused}},
	{"POST /v1/connections", "POST /v1/connections", [...]string{made, made, made, made, made, made, refused, refused, refused, refused}},
	{"DELETE /v1/connections/{id}", "DELETE /v1/connections/c1", [...]string{yes, yes, yes, yes, unknown, unknown, yes, unknown, unknown, refused}},
	{"DELETE /v1/connections/{id}", "DELETE /v1/connections/c2", [...]string{yes, yes, yes, unknown, unknown, unknown, unknown, unknown, unknown, refused}},
	{"DELETE /v1/connections/{id}", "DELETE /v1/connections/c9", [...]string{unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown, refused}},
	{"POST /v1/connections/{id}/answers", "POST /v1/connections/c1/answers", [...]string{yes, yes, yes, yes, unknown, unknown, yes, unknown, unknown, refused}},
	{"POST /v1/connections/{id}/answers", "POST /v1/connections/c2/answers", [...]string{yes, yes, yes, unknown, unknown, unknown, unknown, unknown, unknown, refused}},
	{"POST /v1/connections/{id}/answers", "POST /v1/connections/c9/answers", [...]string{unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown, refused}},
	{"POST /v1/restore-network", "POST /v1/restore-network", [...]string{yes, yes, yes, refused, refused, refused, refused, refused, refused, refused}},
	{"", "GET /v1/nothing", [...]string{unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown, refused}},
}

// rightsBackend has a connection of bob's and one of carol's, who never asks.
func rightsBackend() *fakeBackend {
	return &fakeBackend{conns: []app.Connection{
		{ID: "c1", Owner: "bob", State: app.StateConnected, Profile: "office", Banner: "hello"},
		{ID: "c2", Owner: "carol", State: app.StateActionNeeded, Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP, Text: "code", Secret: true}},
	}}
}

var rightsRecords = []app.LogRecord{
	{Level: "info", Message: "the service's"},
	{Level: "info", Message: "bob's", Connection: "c1", Owner: "bob"},
}

func rightsManaged(string) app.Managed {
	return app.Managed{Policy: app.Policy{ForbidWeak: true}, Profiles: []app.ManagedProfile{}}
}

// TestRights: every endpoint, asked by every kind of user over a socket.
func TestRights(t *testing.T) {
	for _, row := range rightsTable {
		for i, who := range users {
			t.Run(row.request+" "+who.kind, func(t *testing.T) {
				want := row.want[i]
				if i == isAtTheMachine && runtime.GOOS != "linux" && want == made {
					t.Skip("only Linux asks about processes")
				}
				backend := rightsBackend()
				got, err := exchange(serveRights(t, i, backend), row.request)
				if err != nil || got != want {
					t.Errorf("got  %s %v\nwant %s", got, err, want)
				}
				changed := want == made || want == yes
				if n := backend.touched(); changed && n != 1 || !changed && n != 0 {
					t.Errorf("the backend was asked %d times", n)
				}
				if changed := want == made; changed && backend.conns[2].Owner != ownerOf(who.cred) {
					t.Errorf("the connection is %s's", backend.conns[2].Owner)
				}
			})
		}
	}
}

func ownerOf(cred credentials) string { return fakeAccounts().peer(cred).name }

// serveRights serves a kind of user.
func serveRights(t *testing.T, kind int, backend *fakeBackend) (path string) {
	who, accounts := users[kind], fakeAccounts()
	accounts.present = func(uint32) bool { return who.at }
	return serveSocket(t, &Server{
		Backend: backend, Log: discard(), Logs: &fakeLogs{records: rightsRecords}, Version: "1.2",
		Authorize: func(context.Context, Process) error {
			if !who.polkit {
				return errors.New("not at the machine")
			}
			return nil
		},
		Managed: rightsManaged,
		identify: func(net.Conn) (peer, error) {
			if kind == isUnreadable { // whatever it comes with
				return peer{name: "bob", admin: true, mayConnect: true}, errors.New("no credentials")
			}
			return accounts.peer(who.cred), nil
		},
	})
}

// TestRightsOfEveryEndpoint: none is without a row in the table.
func TestRightsOfEveryEndpoint(t *testing.T) {
	rows := map[string]bool{}
	for _, row := range rightsTable {
		rows[row.pattern] = true
	}
	for _, e := range (&Server{}).endpoints() {
		if pattern := e.method + " " + e.path; !rows[pattern] {
			t.Errorf("rightsTable has no row for %s", pattern)
		}
	}
}

// exchange makes a request on a connection of its own and tells the HTTP status and what
// came: the code of an error, the first line of a stream that does not end, else all lines.
func exchange(path, request string) (string, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := write(conn, request); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(request, "/events") && resp.StatusCode == http.StatusOK {
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		return "200 " + strings.TrimSpace(line), err
	}
	data, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= 400 {
		var report app.ErrorReport
		err = errors.Join(err, json.Unmarshal(data, &report))
		data = []byte(report.Error.Code)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, strings.ReplaceAll(string(data), "\n", " "))), err
}

// serveSocket serves s on a real socket until the test ends.
func serveSocket(t *testing.T, s *Server) (path string) {
	t.Helper()
	path = t.TempDir() + "/s"
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serveIn(t, s, l)
	return path
}
