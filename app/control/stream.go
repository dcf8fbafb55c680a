package control

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"wayfarer/app"
)

// stream is an answer of JSON lines that may go on for as long as the client likes. A
// client that does not read is dropped after writeTime.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// open begins a stream for a user, who has so many at most. The caller calls done.
func (s *Server) open(p peer, w http.ResponseWriter, r *http.Request) (_ *stream, done func(), _ *refusal) {
	if refusal := patient(w, r); refusal != nil {
		return nil, nil, refusal
	}
	w.Header().Set("Connection", "close") // nothing may follow
	if g := guestOf(r); g != nil {
		if err := g.stream(); err != nil {
			return nil, nil, usage(http.StatusBadRequest, err.Error())
		}
	}
	if !s.watches.enter(p.id) {
		return nil, nil, &refusal{http.StatusServiceUnavailable, app.NewFailure(app.CodeNoService, "",
			"too many programs watch the service", "end some of them")}
	}
	w.Header().Set("Content-Type", "application/jsonl")
	return &stream{w, http.NewResponseController(w)}, func() { s.watches.leave(p.id) }, nil
}

// send writes whole lines; false: the client has gone, or does not read.
func (s *stream) send(lines []byte) bool {
	mustTake(s.w)
	_, err := s.w.Write(lines)
	return err == nil && s.control.Flush() == nil
}

// next waits for a change, but lets eventInterval pass, unless the change is urgent: what
// changes meanwhile is sent together. What changed until ctx ends is still to be sent: the
// server may be stopping.
func next(ctx context.Context, changes <-chan struct{}, urgent func() bool) (more bool) {
	pause := time.After(eventInterval)
	for changed := false; ; {
		select {
		case <-ctx.Done():
			return false
		case <-pause:
			if pause = nil; changed {
				return true
			}
		case <-changes:
			if pause == nil || urgent() {
				return true
			}
			changed = true
		}
	}
}

// events sends the whole status at once and after each change, until the client
// goes. A change that the peer may not see becomes no line. That of a connection's state
// does not wait: people, and the command line, wait for it.
func (s *Server) events(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	out, done, refusal := s.open(p, w, r)
	if refusal != nil {
		return refusal
	}
	defer done()
	changes, stop := s.Backend.Watch()
	defer stop()
	var last []byte
	var shown app.Status
	bound := rate.NewLimiter(rate.Every(eventInterval), urgentBurst)
	urgent := func() bool { return !sameStates(s.now(p).Connections, shown.Connections) && bound.Allow() }
	for more := true; ; more = next(r.Context(), changes, urgent) {
		shown = s.now(p)
		line, err := json.Marshal(shown)
		if err != nil {
			s.Log.Error("encode an event", "error", err)
			return nil
		}
		if !bytes.Equal(line, last) {
			last = line
			if !out.send(append(line, '\n')) {
				return nil
			}
		}
		if !more {
			return nil
		}
	}
}

func sameStates(a, b []app.Connection) bool {
	return slices.EqualFunc(a, b, func(x, y app.Connection) bool { return x.ID == y.ID && x.State == y.State })
}

// logs sends the lines of the log that the peer may read, and with follow those that
// come, until the client goes.
func (s *Server) logs(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	query, refusal := parseLogQuery(r)
	if refusal != nil {
		return refusal
	}
	if s.Logs == nil {
		return usage(http.StatusNotFound, "this service keeps no log")
	}
	out, done, refusal := s.open(p, w, r)
	if refusal != nil {
		return refusal
	}
	defer done()
	changes, stop := s.Logs.Watch()
	defer stop()
	if !out.send(nil) { // there may be no line yet, and the client shall see that it is served
		return nil
	}
	var newest uint64
	never := func() bool { return false }
	for more := true; ; more = next(r.Context(), changes, never) {
		var records []app.LogRecord
		records, newest = s.Logs.Since(newest, query.level)
		for part := range slices.Chunk(records, logChunk) {
			if !out.send(s.logLines(p, part)) {
				return nil
			}
		}
		if !more || !query.follow {
			return nil
		}
	}
}

// logChunk is how many lines are written under one deadline.
const logChunk = 64

// logLines are the records that the peer may read, as lines.
func (s *Server) logLines(p peer, records []app.LogRecord) []byte {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for i := range records {
		if !p.mayRead(&records[i]) {
			continue
		}
		if err := encoder.Encode(&records[i]); err != nil {
			s.Log.Error("encode a line of the log", "error", err)
		}
	}
	return lines.Bytes()
}

type logQuery struct {
	follow bool
	level  slog.Level
}

// parseLogQuery reads ?follow and ?level=LEVEL; what is unknown is refused.
func parseLogQuery(r *http.Request) (logQuery, *refusal) {
	q := logQuery{level: slog.LevelInfo}
	for key, values := range r.URL.Query() {
		value, ok := values[len(values)-1], false
		switch key {
		case "follow":
			var err error
			q.follow, err = strconv.ParseBool(value)
			if value == "" {
				q.follow, err = true, nil
			}
			ok = err == nil
		case "level":
			q.level, ok = app.ParseLogLevel(value)
		}
		if !ok {
			return q, usage(http.StatusBadRequest, "the request's query is not understood; it may have follow, and level, which is one of "+strings.Join(app.LogLevels(), ", "))
		}
	}
	return q, nil
}
