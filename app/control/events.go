package control

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"wayfarer/app"
)

// events sends the whole status at once and after each change, until the client
// goes. Changes within eventInterval become one line; a change that the peer may
// not see becomes none. A client that does not read is dropped after writeTime.
func (s *Server) events(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	if refusal := patient(w, r); refusal != nil {
		return refusal
	}
	if !s.enter(p.name) {
		return &refusal{http.StatusServiceUnavailable, app.NewFailure(app.CodeNoService, "",
			"too many programs watch the service", "end some of them")}
	}
	defer s.leave(p.name)
	changes, stop := s.Backend.Watch()
	defer stop()

	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/jsonl")
	var last []byte
	for ended := false; ; {
		line, err := json.Marshal(s.now(p))
		if err != nil {
			s.Log.Error("encode an event", "err", err)
			return nil
		}
		if !bytes.Equal(line, last) {
			last = line
			_ = control.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := w.Write(append(line, '\n')); err != nil {
				return nil
			}
			if control.Flush() != nil {
				return nil
			}
		}
		if ended {
			return nil
		}
		// What changed until the end is still told: the server may be stopping.
		select {
		case <-r.Context().Done():
			ended = true
			continue
		case <-time.After(eventInterval):
		}
		select {
		case <-r.Context().Done():
			ended = true
		case <-changes:
		}
	}
}

// enter counts one more event stream of a user; false: there are enough.
func (s *Server) enter(user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for _, n := range s.watches {
		all += n
	}
	if all >= maxWatches || s.watches[user] >= maxUserWatches {
		return false
	}
	if s.watches == nil {
		s.watches = map[string]int{}
	}
	s.watches[user]++
	return true
}

func (s *Server) leave(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[user]--; s.watches[user] == 0 {
		delete(s.watches, user)
	}
}
