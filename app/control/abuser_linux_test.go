package control_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// abuserVariable has the test program be an abuser instead; it holds one in JSON.
const abuserVariable = "WAYFARER_TEST_ABUSER"

// abuser says what a process that abuses the local API does.
type abuser struct {
	Socket, Gateway string
	UID             int
	Stranger        bool // who must not learn of others' connections
	Seed            uint64
	Rounds          int           // of each worker
	Time            time.Duration // 0: all rounds; else as many as fit
}

// abuseReport is what came of it.
type abuseReport struct {
	UID                   int
	Requests, Connections int
	Statuses              map[int]int
	Violations            []string
}

const (
	abuseWorkers = 8
	abuseHeld    = 2           // connections that a worker leaves open behind it
	abuseWait    = time.Second // for an answer
)

func encodedSecret() string { return base64.StdEncoding.EncodeToString([]byte(abuseSecret)) }

func runAbuser(t *testing.T) {
	var orders abuser
	if err := json.Unmarshal([]byte(os.Getenv(abuserVariable)), &orders); err != nil {
		t.Fatal(err)
	}
	if orders.UID != os.Getuid() {
		if err := becomeUser(orders.UID); err != nil {
			t.Fatal(err)
		}
	}
	end := time.Time{}
	if orders.Time > 0 {
		end = time.Now().Add(orders.Time)
	}
	var all sync.WaitGroup
	workers := make([]*abuseWorker, abuseWorkers)
	for i := range workers {
		w := &abuseWorker{abuser: orders, rng: rand.New(rand.NewPCG(orders.Seed, uint64(orders.UID)<<8|uint64(i)))}
		w.Statuses = map[int]int{}
		workers[i] = w
		all.Go(func() {
			for range orders.Rounds {
				if !end.IsZero() && time.Now().After(end) {
					break
				}
				w.round()
			}
			w.drop(0)
		})
	}
	all.Wait()
	sum := abuseReport{UID: orders.UID, Statuses: map[int]int{}}
	for _, w := range workers {
		sum.Requests += w.Requests
		sum.Connections += w.Connections
		sum.Violations = append(sum.Violations, w.Violations...)
		for status, n := range w.Statuses {
			sum.Statuses[status] += n
		}
	}
	if err := json.NewEncoder(os.NewFile(3, "report")).Encode(&sum); err != nil {
		t.Fatal(err)
	}
}

func becomeUser(id int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setresgid(id, id, id); err != nil {
		return err
	}
	return syscall.Setresuid(id, id, id)
}

// abuseWorker is one of those who abuse at the same time.
type abuseWorker struct {
	abuser
	abuseReport
	rng  *rand.Rand
	held []net.Conn
	ids  []string // of connections that an answer told of lately
}

var idInAnswer = regexp.MustCompile(`"id":"(c\d+)"`)

// round opens a connection, says something on it, and reads the answers, or not.
func (w *abuseWorker) round() {
	conn, err := net.Dial("unix", w.Socket)
	if err != nil {
		w.violated("nobody listens: %v", err)
		time.Sleep(abuseWait)
		return
	}
	w.Connections++
	var said []byte
	n := 1 + w.rng.IntN(4)
	for range n {
		request := w.request()
		if w.rng.IntN(2) == 0 {
			request = w.mutate(request)
		}
		said = append(said, request...)
	}
	w.Requests += n
	_ = conn.SetDeadline(time.Now().Add(abuseWait))
	switch w.rng.IntN(8) {
	case 0: // breaks off
		_, _ = conn.Write(said[:w.rng.IntN(len(said)+1)])
		conn.Close()
	case 1: // stalls, or does not read, and stays
		_, _ = conn.Write(said[:w.rng.IntN(len(said)+1)])
		w.hold(conn)
	case 2: // talks on while a stream goes out, and stays
		_, _ = conn.Write(append([]byte("GET /v1/logs?follow HTTP/1.1\r\nHost: x\r\n\r\n"), said...))
		w.answers(conn, 1)
		_, _ = conn.Write(said)
		w.hold(conn)
	default:
		_, _ = conn.Write(said) // it may have been closed in the middle
		w.answers(conn, n)
		conn.Close()
	}
}

func (w *abuseWorker) hold(conn net.Conn) {
	w.held = append(w.held, conn)
	w.drop(abuseHeld)
}

// drop closes the oldest connections but so many.
func (w *abuseWorker) drop(most int) {
	for len(w.held) > most {
		w.held[0].Close()
		w.held = w.held[1:]
	}
}

// answers reads what comes of so many requests, of which some may be none.
func (w *abuseWorker) answers(conn net.Conn, n int) {
	from := bufio.NewReader(conn)
	for range n {
		resp, err := http.ReadResponse(from, nil)
		if err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(abuseWait / 10)) // streams do not end
		body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
		w.judge(resp.StatusCode, body)
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(abuseWait))
	}
}

// judge looks whether an answer should have been.
func (w *abuseWorker) judge(status int, body []byte) {
	w.Statuses[status]++
	for _, found := range idInAnswer.FindAllSubmatch(body, -1) {
		w.ids = append(w.ids, string(found[1]))
	}
	w.ids = w.ids[max(0, len(w.ids)-8):]
	switch {
	case status == http.StatusInternalServerError, status < 100, status > 599:
		w.violated("HTTP status %d: %.300s", status, body)
	case bytes.Contains(body, []byte(abuseSecret)), bytes.Contains(body, []byte(encodedSecret())):
		w.violated("a secret is told: %.300s", body)
	case !w.Stranger:
	case status == http.StatusCreated, status == http.StatusNoContent:
		w.violated("the stranger may: HTTP status %d", status)
	case bytes.Contains(body, []byte(abuseName)), bytes.Contains(body, []byte(w.Gateway)), bytes.Contains(body, []byte(`"id":`)):
		w.violated("the stranger learns: %.300s", body)
	}
}

func (w *abuseWorker) violated(format string, args ...any) {
	if len(w.Violations) < 10 {
		w.Violations = append(w.Violations, fmt.Sprintf(format, args...))
	}
}

// request is a valid one, or nearly.
func (w *abuseWorker) request() []byte {
	id := fmt.Sprintf("c%d", 1+w.rng.IntN(64))
	if len(w.ids) > 0 && w.rng.IntN(4) > 0 {
		id = pick(w.rng, w.ids...)
	}
	switch w.rng.IntN(12) {
	case 0:
		return plain("GET", "/v1/status")
	case 1:
		return plain("GET", "/v1/events")
	case 2:
		return plain("GET", "/v1/logs?level="+pick(w.rng, "trace", "info", "loud", "")+pick(w.rng, "", "&follow", "&follow=maybe"))
	case 3:
		return plain("DELETE", "/v1/connections/"+id)
	case 4:
		return w.withBody("/v1/connections/"+id+"/answers", map[string]any{
			"prompt": fmt.Sprintf("p%d", 1+w.rng.IntN(3)), "text": encodedSecret(), "accept": true, "cancel": w.rng.IntN(2) == 0,
		})
	case 5:
		return plain("POST", "/v1/restore-network")
	case 6:
		return plain(pick(w.rng, "OPTIONS", "HEAD", "CONNECT", "PUT", "TRACE", "PRI"), pick(w.rng, "*", "/v1/status", "/v2/status", "//v1//status", "/v1/../etc", "/%2e%2e", "/v1/connections/", "/v1/connections/%00"))
	case 7:
		return []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	}
	return w.withBody("/v1/connections", w.connect())
}

func (w *abuseWorker) connect() map[string]any {
	profile := map[string]any{"version": 1, "name": fmt.Sprint(abuseName, w.rng.IntN(12)), "gateway": w.Gateway, "login": "ada"}
	if w.Stranger {
		profile["name"], profile["gateway"] = "a", "b"
	}
	req := map[string]any{"profile": profile, "password": encodedSecret(), "timeout_seconds": 1 + w.rng.IntN(3), "ask": w.rng.IntN(2) == 0}
	switch w.rng.IntN(6) {
	case 0: // is asked for the password
		delete(req, "password")
	case 1: // of the wrong kind
		target := pick(w.rng, req, profile)
		key := pick(w.rng, slices.Sorted(maps.Keys(target))...)
		target[key] = pick[any](w.rng, nil, -1, 1e300, true, []any{[]any{}}, map[string]any{"a": 1}, "\x00\u202e", "text")
	case 2: // large
		profile["ca"] = []string{string(bytes.Repeat([]byte("A"), w.rng.IntN(1<<21)))}
	case 3: // of many parts
		profile["ike"] = slices.Repeat([]string{"aes256-sha256-modp2048"}, w.rng.IntN(1<<12))
	}
	return req
}

func plain(method, path string) []byte {
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
}

func (w *abuseWorker) withBody(path string, value any) []byte {
	body, err := json.Marshal(value)
	if err != nil {
		w.violated("%v", err)
	}
	head := "POST " + path + " HTTP/1." + pick(w.rng, "1", "1", "1", "0") + "\r\nHost: x\r\n" + pick(w.rng, "", "", "", "Expect: 100-continue\r\n")
	if w.rng.IntN(4) > 0 {
		return fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n%s", head, len(body)+pick(w.rng, 0, 0, 0, 0, 0, 1, -1), body)
	}
	out := []byte(head + "Transfer-Encoding: chunked\r\n\r\n")
	for len(body) > 0 {
		n := 1 + w.rng.IntN(len(body))
		out = fmt.Appendf(out, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return append(out, "0\r\n\r\n"...)
}

// mutate changes some of a request's bytes, without regard to what they mean.
func (w *abuseWorker) mutate(request []byte) []byte {
	out := slices.Clone(request)
	for range 1 + w.rng.IntN(3) {
		if len(out) == 0 {
			return out
		}
		at := w.rng.IntN(min(len(out), 600)) // heads, and what follows them
		to := at + w.rng.IntN(min(len(out)-at, 64))
		switch w.rng.IntN(6) {
		case 0:
			out[at] ^= byte(1 << w.rng.IntN(8))
		case 1:
			out = slices.Delete(out, at, to)
		case 2:
			out = slices.Insert(out, at, slices.Clone(out[at:to])...)
		case 3:
			out = out[:at]
		case 4:
			noise := make([]byte, w.rng.IntN(64))
			for i := range noise {
				noise[i] = byte(w.rng.Uint32())
			}
			out = slices.Insert(out, at, noise...)
		case 5:
			out = slices.Insert(out, at, []byte(pick(w.rng, "\r\n", "\r\n\r\n", "\x00", "%00", "../", "\"", "{", "}",
				"Content-Length: 99999999999999999999\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n", "Transfer-Encoding: chunked\r\n",
				"Connection: upgrade\r\nUpgrade: h2c\r\n", "ffffffffffffffff\r\n", string(bytes.Repeat([]byte("["), 20000)),
				"X: "+string(bytes.Repeat([]byte("a"), 30000))+"\r\n"))...)
		}
	}
	return out
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }
