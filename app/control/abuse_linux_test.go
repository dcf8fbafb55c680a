package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/daemon"
	"wayfarer/ike"
	"wayfarer/tun"
)

// Users without accounts: one has no right, the other may connect, as who sits at the
// machine may.
const (
	strangerID = 4242
	allowedID  = 4243
)

// Words that only the one who may connect says: the first may be told to administrators,
// the second to nobody.
const (
	abuseName   = "marker-of-a-profile"
	abuseSecret = "marker-of-a-secret"
)

// Bounds of what abuse may cost the service.
const (
	abuseLeft = 24 << 20  // bytes on the heap when it is over: the kept log, which may be full
	abusePeak = 256 << 20 // bytes on the heap meanwhile
)

// TestAbuse: processes of a stranger and of a user who may connect send random and mutated
// requests, break off, stall, do not read. The service answers others all the while, tells
// nobody what is not theirs, and has nothing left of it in the end. Short, but with
// EXHAUSTIVE for ten minutes.
func TestAbuse(t *testing.T) {
	if os.Getenv(abuserVariable) != "" {
		runAbuser(t)
		return
	}
	s := startAbused(t)
	client := &control.Client{Path: s.path}
	if _, err := client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := measure()
	peak := before.heap

	orders := abuser{Socket: s.path, Gateway: s.gateway, Seed: 1, Rounds: 25}
	if os.Getenv("EXHAUSTIVE") != "" {
		orders.Rounds, orders.Time = 1<<30, 10*time.Minute
	}
	reports := make(chan abuseReport, 2)
	abusers := 0
	abuse := func(uid int) {
		orders.UID, orders.Stranger = uid, uid == strangerID
		abusers++
		go func(orders abuser) { reports <- orders.start() }(orders)
	}
	if os.Getuid() == 0 {
		abuse(strangerID)
		abuse(allowedID)
	} else {
		t.Log("the stranger's part is left out: becoming another user needs root")
		abuse(os.Getuid())
	}

	normal := startNormal(t, client, s.gateway)
	var done []abuseReport
	for len(done) < abusers {
		select {
		case r := <-reports:
			done = append(done, r)
		case <-time.After(time.Second):
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	asked, slowest := normal.end()
	for _, r := range done {
		t.Logf("user %d: %d requests in %d connections; HTTP statuses %v", r.UID, r.Requests, r.Connections, r.Statuses)
		for _, v := range r.Violations {
			t.Errorf("user %d: %s", r.UID, v)
		}
		if len(r.Statuses) < 4 {
			t.Errorf("user %d got few kinds of answers: %v", r.UID, r.Statuses)
		}
		if r.UID != strangerID && r.Statuses[201] == 0 {
			t.Errorf("user %d never connected", r.UID)
		}
	}

	s.disconnectAll(t, client)
	after := awaitBase(before)
	t.Logf("a normal client was answered %d times, at most after %v", asked, slowest)
	t.Logf("heap %d KiB before, %d KiB at most, %d KiB after; goroutines %d, %d; descriptors %d, %d",
		before.heap>>10, peak>>10, after.heap>>10, before.goroutines, after.goroutines, before.descriptors, after.descriptors)
	if after.goroutines > before.goroutines || after.descriptors > before.descriptors {
		stacks := make([]byte, 1<<20)
		t.Errorf("something is left:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	if after.heap > before.heap+abuseLeft || peak > before.heap+abusePeak {
		t.Error("the heap has grown")
	}
	s.checkLog(t)
}

// abused is a service between abusers and a gateway that does not answer.
type abused struct {
	path, gateway string
	log           *watchedLog
}

func startAbused(t *testing.T) *abused {
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &abused{path: filepath.Join(dir, "s"), gateway: silent.LocalAddr().String(), log: &watchedLog{}}
	logs := daemon.NewLogs(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: app.LevelTrace}))
	d := daemon.New(daemon.Options{
		Log: slog.New(logs), Version: "test",
		Dial: func(ctx context.Context, cfg *ike.Config) (daemon.Session, error) {
			if cfg.Gateway != s.gateway { // garbled: nothing may leave this computer
				return nil, errors.New("another gateway")
			}
			return ike.Dial(ctx, cfg)
		},
		OpenTUN: func(daemon.TUNConfig) (tun.Device, error) { return nil, errors.New("no interface") },
	})
	listener, err := control.Listen(s.path)
	if err != nil {
		t.Fatal(err)
	}
	server := &control.Server{
		Backend: d, Log: slog.New(logs), Logs: logs, Version: "test",
		Authorize: func(_ context.Context, p control.Process) error {
			if p.UID != allowedID {
				return errors.New("not at the machine")
			}
			return nil
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, d.Close(context.Background()), silent.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *abused) disconnectAll(t *testing.T, client *control.Client) {
	status, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range status.Connections {
		if err := client.Disconnect(t.Context(), c.ID); err != nil {
			t.Error(err)
		}
	}
}

func (s *abused) checkLog(t *testing.T) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.log.lines == 0 {
		t.Error("nothing was logged")
	}
	for _, line := range s.log.bad {
		t.Errorf("log: %s", line)
	}
}

// watchedLog keeps the lines of a log that must not be.
type watchedLog struct {
	mu    sync.Mutex
	lines int
	bad   []string
}

// Write implements io.Writer.
func (l *watchedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines++
	if bytes.Contains(line, []byte("level=ERROR")) || bytes.Contains(line, []byte(abuseSecret)) || bytes.Contains(line, []byte(encodedSecret())) {
		if len(l.bad) < 10 {
			l.bad = append(l.bad, string(line))
		}
	}
	return len(line), nil
}

// normal is a client that behaves: it watches, asks, connects and disconnects.
type normal struct {
	t        *testing.T
	client   *control.Client
	gateway  string
	stop     context.CancelFunc
	finished sync.WaitGroup
	asked    int
	slowest  time.Duration
}

func startNormal(t *testing.T, client *control.Client, gateway string) *normal {
	ctx, stop := context.WithCancel(t.Context())
	n := &normal{t: t, client: client, gateway: gateway, stop: stop}
	n.finished.Go(func() {
		for _, err := range client.Watch(ctx) {
			if err != nil {
				t.Errorf("the stream of a normal client: %v", err)
			}
		}
	})
	n.finished.Go(func() {
		for tick := time.NewTicker(100 * time.Millisecond); ; n.asked++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if n.ask(); n.asked%20 == 0 {
				n.connect()
			}
		}
	})
	return n
}

func (n *normal) ask() {
	start := time.Now()
	if _, err := n.client.Status(n.t.Context()); err != nil {
		n.t.Errorf("a normal client: %v", err)
	}
	n.slowest = max(n.slowest, time.Since(start))
}

func (n *normal) connect() {
	id, err := n.client.Connect(n.t.Context(), &control.ConnectRequest{Profile: app.Profile{
		Version: 1, Name: "normal", Gateway: n.gateway, Login: "ada",
	}, Password: []byte("x")})
	if err == nil {
		err = n.client.Disconnect(n.t.Context(), id)
	}
	if err != nil {
		n.t.Errorf("a normal client: %v", err)
	}
}

func (n *normal) end() (asked int, slowest time.Duration) {
	n.stop()
	n.finished.Wait()
	return n.asked, n.slowest
}

// cost is what this process uses.
type cost struct {
	heap                    uint64
	goroutines, descriptors int
}

func measure() cost {
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, _ := os.ReadDir("/proc/self/fd") // none would show as too few
	return cost{m.HeapAlloc, runtime.NumGoroutine(), len(open)}
}

// awaitBase measures until there is no more than before, or it takes too long.
func awaitBase(before cost) (after cost) {
	for range 300 {
		after = measure()
		if after.goroutines <= before.goroutines && after.descriptors <= before.descriptors {
			break
		}
		time.Sleep(100 * time.Millisecond) // real sockets close in real time
	}
	return after
}

// start has another process do what a says.
func (a abuser) start() (report abuseReport) {
	report.UID = a.UID
	fail := func(err error) abuseReport {
		report.Violations = append(report.Violations, err.Error())
		return report
	}
	orders, err := json.Marshal(a)
	if err != nil {
		return fail(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer read.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAbuse$", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), abuserVariable+"="+string(orders))
	cmd.ExtraFiles = []*os.File{write}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	err = cmd.Start()
	write.Close()
	if err != nil {
		return fail(err)
	}
	decodeErr := json.NewDecoder(read).Decode(&report)
	if err := cmd.Wait(); err != nil || decodeErr != nil {
		return fail(fmt.Errorf("the abuser ended: %w, %w\n%s", err, decodeErr, output.String()))
	}
	return report
}
