package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/daemon"
)

// safeBuffer is a bytes.Buffer for a service that writes while the test reads.
type safeBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	ready chan struct{} // gets a value when the service runs
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes.Contains(p, []byte("wayfarerd runs")) {
		b.ready <- struct{}{}
	}
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// running is a service in this process.
type running struct {
	socket string
	log    *safeBuffer
	stop   func() int // as a signal does; returns the exit code
}

// start starts the service. Connecting to nobody, it changes nothing of the host.
func start(t *testing.T) *running {
	t.Helper()
	return startIn(t, t.TempDir())
}

func startIn(t *testing.T, dir string) *running {
	t.Helper()
	r := &running{socket: filepath.Join(dir, "run", "s"), log: &safeBuffer{ready: make(chan struct{}, 1)}}
	if runtime.GOOS == "windows" {
		r.socket = `\\.\pipe\` + filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)
	}
	ctx, cancel := context.WithCancel(t.Context())
	exit := make(chan int, 1)
	go func() {
		exit <- run(ctx, []string{"--socket", r.socket, "--state-dir", filepath.Join(dir, "state"), "--log-level", "trace"}, r.log, serve)
	}()
	r.stop = sync.OnceValue(func() int {
		cancel()
		return <-exit
	})
	t.Cleanup(func() { r.stop() })
	select {
	case <-r.log.ready:
	case code := <-exit:
		exit <- code
		t.Fatalf("exit %d: %s", code, r.log)
	}
	return r
}

func TestService(t *testing.T) {
	r := start(t)
	client := &control.Client{Path: r.socket}
	status, err := client.Status(t.Context())
	if err != nil || status.Version != app.Version() || len(status.Connections) != 0 {
		t.Errorf("Status: %+v, %v", status, err)
	}
	// A profile that cannot be used is refused by the daemon behind the API.
	_, err = client.Connect(t.Context(), &control.ConnectRequest{Profile: app.Profile{Gateway: "127.0.0.1", Login: "ada", MTU: 1}})
	var failure *app.Failure
	if !errors.As(err, &failure) || failure.Code != app.CodeUsage || !strings.Contains(failure.Message, "mtu") {
		t.Errorf("Connect: %v", err)
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit %d: %s", code, r.log)
	}
	if _, err := os.Stat(r.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}

// What a service that crashed left is undone before anybody can connect. The journal
// of another version cannot be, which the log says, and nothing of the host changes.
func TestStartUndoesWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	left := []byte(`{"v":99,"kind":"route","change":{}}` + "\n")
	if err := os.WriteFile(filepath.Join(dir, "state", "network.journal"), left, 0o600); err != nil {
		t.Fatal(err)
	}
	r := startIn(t, dir)
	log, _, found := strings.Cut(r.log.String(), "wayfarerd runs")
	if !found || !strings.Contains(log, "level=WARN") || !strings.Contains(log, "an earlier service left") || !strings.Contains(log, "network.journal") {
		t.Errorf("log at the start: %s", r.log)
	}
	if _, err := (&control.Client{Path: r.socket}).Status(t.Context()); err != nil {
		t.Errorf("it does not serve: %v", err)
	}
}

// A second service on the same socket gives up and leaves the first alone.
func TestSecondService(t *testing.T) {
	r := start(t)
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--socket", r.socket}, &stderr, serve); code != 1 {
		t.Errorf("exit %d", code)
	}
	if want := "wayfarerd: another wayfarerd answers on " + r.socket + "\n"; stderr.String() != want {
		t.Errorf("stderr %q", &stderr)
	}
	if _, err := (&control.Client{Path: r.socket}).Status(t.Context()); err != nil {
		t.Errorf("the first one was disturbed: %v", err)
	}
}

// Without the right to make its folders the service says what would help.
func TestNoRights(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs a folder in which not even root may write: /sys")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{
		{"--socket", "/sys/wayfarer/s", "--state-dir", t.TempDir()},
		{"--socket", filepath.Join(t.TempDir(), "s"), "--state-dir", "/sys/wayfarer"},
	} {
		var stderr bytes.Buffer
		code := run(ended, args, &stderr, serve)
		if code != 7 || !strings.Contains(stderr.String(), "/sys/wayfarer: ") || !strings.HasSuffix(stderr.String(), rightsHint+"\n") {
			t.Errorf("%v: exit %d, %s", args, code, &stderr)
		}
	}
}

// The service ends its connections, and whoever watches sees that and then the end
// of the service.
func TestStopEndsConnections(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := start(t)
	client := &control.Client{Path: r.socket}
	profile := app.Profile{Gateway: silent.LocalAddr().String(), Login: "ada"}
	if _, err := client.Connect(t.Context(), &control.ConnectRequest{Profile: profile, Password: []byte("hunter2")}); err != nil {
		t.Fatal(err)
	}
	var connections []int
	var last error
	for status, err := range client.Watch(t.Context()) {
		if err != nil {
			last = err
			continue
		}
		connections = append(connections, len(status.Connections))
		go r.stop()
	}
	if connections[0] != 1 || connections[len(connections)-1] != 0 {
		t.Errorf("connections at each change: %v", connections)
	}
	for _, form := range []string{"hunter2", "aHVudGVyMg"} {
		if strings.Contains(r.log.String(), form) {
			t.Errorf("the log holds the password: %s", r.log)
		}
	}
	var failure *app.Failure
	if !errors.As(last, &failure) || failure.Code != app.CodeNoService {
		t.Errorf("got %v", last)
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit %d: %s", code, r.log)
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"--nothing", 2, "wayfarerd: unknown flag: --nothing; see `wayfarerd --help`\n"},
		{"--log-level loud", 2, "wayfarerd: unknown log level \"loud\"; see `wayfarerd --help`\n"},
		{"now", 2, "wayfarerd: unexpected argument \"now\"; see `wayfarerd --help`\n"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(tt.args), &stderr, serve); code != tt.code || stderr.String() != tt.want {
			t.Errorf("%s: exit %d, stderr %q", tt.args, code, &stderr)
		}
	}
	var help bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &help, serve); code != 0 || !strings.Contains(help.String(), "--state-dir") {
		t.Errorf("--help: exit %d, %s", code, &help)
	}
}

// The environment names the socket for both sides.
func TestSocketVariable(t *testing.T) {
	t.Setenv(control.SocketVariable, "/elsewhere/s")
	opts, err := parse(nil, &bytes.Buffer{})
	if err != nil || opts.socket != "/elsewhere/s" || opts.stateDir == "" {
		t.Errorf("got %+v, %v", opts, err)
	}
}

// TestLevelNames: the service's own log has a name for each level.
func TestLevelNames(t *testing.T) {
	for _, name := range app.LogLevels() {
		level, _ := app.ParseLogLevel(name)
		var stderr bytes.Buffer
		run(t.Context(), []string{"--log-level", "trace"}, &stderr, func(ctx context.Context, logs *daemon.Logs, _ options) error {
			slog.New(logs).Log(ctx, level, "hello")
			return nil
		})
		if !strings.Contains(stderr.String(), "level="+strings.ToUpper(name)+" msg=hello") {
			t.Errorf("%s: %s", name, stderr.String())
		}
	}
}
