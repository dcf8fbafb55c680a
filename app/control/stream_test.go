package control

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
)

// openEvents opens an event stream over pipes and returns its lines.
func openEvents(t *testing.T, p *pipes) (lines *bufio.Scanner, status int, end func()) {
	t.Helper()
	return openStream(t, p, "/v1/events")
}

func nextStatus(t *testing.T, lines *bufio.Scanner) app.Status {
	t.Helper()
	if !lines.Scan() {
		t.Fatalf("the stream ended: %v", lines.Err())
	}
	var status app.Status
	if err := json.Unmarshal(lines.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	return status
}

func startEvents(t *testing.T, who peer) (*fakeBackend, *pipes) {
	backend, p := &fakeBackend{}, newPipes()
	serveIn(t, &Server{Backend: backend, Log: discard(), identify: as(who)}, p)
	return backend, p
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend, p := startEvents(t, peer{name: "ada"})
		lines, _, end := openEvents(t, p)
		defer end()
		if first := nextStatus(t, lines); len(first.Connections) != 0 {
			t.Errorf("first line: %+v", first)
		}

		// The first change after a pause comes at once.
		time.Sleep(time.Hour)
		start := time.Now()
		backend.change(app.Connection{ID: "c1", Owner: "ada", State: app.StateConnecting})
		if got := nextStatus(t, lines); got.Connections[0].State != app.StateConnecting || time.Since(start) != 0 {
			t.Errorf("after %v: %+v", time.Since(start), got)
		}

		// Those that follow closely come as one.
		for i := range 100 {
			backend.change(app.Connection{ID: "c1", Owner: "ada", State: app.StateConnecting, Banner: string(rune('A' + i))})
			synctest.Wait()
		}
		if got := nextStatus(t, lines); got.Connections[0].Banner != string(rune('A'+99)) || time.Since(start) != eventInterval {
			t.Errorf("after %v: %+v", time.Since(start), got)
		}

		// That of the state comes at once.
		backend.change(app.Connection{ID: "c1", Owner: "ada", State: app.StateConnected})
		if got := nextStatus(t, lines); got.Connections[0].State != app.StateConnected || time.Since(start) != eventInterval {
			t.Errorf("after %v: %+v", time.Since(start), got)
		}

		// What the peer does not see is no event.
		time.Sleep(time.Second)
		hidden := app.Connection{ID: "c2", Owner: "bob", State: app.StateConnecting, Step: app.StepFindGateway}
		shown := app.Connection{ID: "c1", Owner: "ada", State: app.StateConnected}
		backend.change(shown, hidden)
		nextStatus(t, lines) // that there is one
		hidden.Step = app.StepSignIn
		backend.change(shown, hidden)
		time.Sleep(time.Second)
		hidden.State = app.StateConnected
		backend.change(shown, hidden)
		if got := nextStatus(t, lines); got.Connections[1].State != app.StateConnected {
			t.Errorf("a line for a hidden change: %+v", got)
		}
	})
}

// A state that changes again and again does not become lines without end.
func TestEventsOfStatesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend, p := startEvents(t, peer{name: "ada"})
		lines, _, end := openEvents(t, p)
		defer end()
		nextStatus(t, lines)
		start, told := time.Now(), 0
		go func() {
			for i := 0; time.Since(start) < time.Second; i++ {
				backend.change(app.Connection{ID: "c1", Owner: "ada", State: [...]app.State{app.StateConnecting, app.StateFailed}[i%2]})
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			end()
		}()
		for lines.Scan() {
			told++
		}
		if most := urgentBurst + 2*int(time.Second/eventInterval) + 1; told <= urgentBurst || told > most {
			t.Errorf("%d lines, at most %d", told, most)
		}
	})
}

func TestSlowReaderIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend, p := startEvents(t, peer{name: "ada"})
		lines, _, end := openEvents(t, p)
		defer end()
		nextStatus(t, lines)
		synctest.Wait()
		if n := backend.watching(); n != 1 {
			t.Fatalf("%d watch", n)
		}
		// Nobody reads this line.
		backend.change(app.Connection{ID: "c1", Owner: "ada"})
		time.Sleep(writeTime - time.Millisecond)
		synctest.Wait()
		if n := backend.watching(); n != 1 {
			t.Fatalf("dropped before %v", writeTime)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := backend.watching(); n != 0 {
			t.Errorf("%d still watch after %v", n, writeTime)
		}
	})
}

func TestEventsEndWithTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend, p := startEvents(t, peer{name: "ada"})
		lines, _, end := openEvents(t, p)
		nextStatus(t, lines)
		end()
		synctest.Wait()
		if n := backend.watching(); n != 0 {
			t.Errorf("%d still watch", n)
		}
	})
}

func TestWatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := startEvents(t, peer{name: "ada"})
		var last func()
		for range maxUserWatches {
			_, status, end := openEvents(t, p)
			defer end()
			last = end
			if status != http.StatusOK {
				t.Fatalf("HTTP status %d", status)
			}
		}
		_, status, end := openEvents(t, p)
		end()
		if status != http.StatusServiceUnavailable {
			t.Errorf("one too many: HTTP status %d", status)
		}
		last()
		synctest.Wait()
		if _, status, end = openEvents(t, p); status != http.StatusOK {
			t.Errorf("after one has ended: HTTP status %d", status)
		}
		end()
	})
}

func TestWatchesAreBoundedInAll(t *testing.T) {
	s := crowd{most: maxWatches, mostOfUser: maxUserWatches}
	for i := range maxWatches {
		if !s.enter(string(rune('A' + i/maxUserWatches))) {
			t.Fatalf("refused the %dth", i)
		}
	}
	if s.enter("somebody else") {
		t.Error("one too many")
	}
	for i := range maxUserWatches {
		if !s.enter(rootUser) {
			t.Fatalf("refused the administrator's %dth", i)
		}
	}
	if s.enter(rootUser) {
		t.Error("one too many of the administrator")
	}
	s.leave(rootUser)
	if s.enter("somebody else") {
		t.Error("the administrator's was counted")
	}
	s.leave("A")
	if !s.enter("somebody else") {
		t.Error("refused although one has left")
	}
}

func TestServeEndsEventStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend, p := &fakeBackend{}, newPipes()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		s := &Server{Backend: backend, Log: discard(), identify: as(peer{})}
		go func() { ended <- s.Serve(ctx, p) }()
		lines, _, end := openEvents(t, p)
		defer end()
		nextStatus(t, lines)
		backend.change(app.Connection{State: app.StateDisconnecting})
		stop()
		if got := nextStatus(t, lines); len(got.Connections) != 1 {
			t.Errorf("the last change was not told: %+v", got)
		}
		if lines.Scan() {
			t.Error("the stream goes on")
		}
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if backend.watching() != 0 {
			t.Error("the watch goes on")
		}
	})
}

// Whoever opens a connection and says nothing, or not all, does not keep it.
func TestSilentClientIsDropped(t *testing.T) {
	for name, said := range map[string]string{
		"nothing":     "",
		"half header": "POST /v1/connections HTTP/1.1\r\n",
		"half body":   "POST /v1/connections HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, p := startEvents(t, peer{name: "ada", mayConnect: true})
				conn, err := p.dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				start := time.Now()
				go conn.Write([]byte(said))
				for buf := make([]byte, 4096); err == nil; {
					_, err = conn.Read(buf)
				}
				if d := time.Since(start); d > requestTime+2*time.Second {
					t.Errorf("kept for %v", d)
				}
			})
		})
	}
}
