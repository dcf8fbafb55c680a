package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
)

func TestDemo(t *testing.T) {
	before := warmUp(t)
	w := newWorld(t, nil)
	if code := w.run(t, "demo"); code != 0 {
		t.Fatalf("exit code %d; it said:\n%s%s", code, w.out.String(), w.err.String())
	}
	out := w.out.String()
	at := 0
	for _, pattern := range []string{
		`Address +127\.0\.0\.1:\d+ \(UDP\)`, `Certificate +CN=gateway\.demo\.test`, `SHA-256 +[0-9a-f]{64}`,
		`Finding gateway … ok`, `Agreeing on security … ok`, `Checking gateway certificate … ok`, `Signing in … ok`,
		`Getting settings … ok`, `Building tunnel … ok`, `Testing … ok`,
		`Address +10\.77\.1\.1/32`, `DNS +10\.77\.0\.53`, `Domains +demo\.test`, `Networks +10\.77\.0\.0/24`, `Welcome to the network`,
		`ok  It works \(\d+ bytes in `, `download +[1-9]\d* Mbit/s`, `upload +[1-9]\d* Mbit/s`, `Disconnected`,
	} {
		found := regexp.MustCompile(pattern).FindStringIndex(out[at:])
		if found == nil {
			t.Fatalf("%q is missing, or not in its place:\n%s", pattern, out)
		}
		at += found[1]
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours, although there is no terminal")
	}
	if w.err.Len() > 0 {
		t.Errorf("errors: %s", w.err.String())
	}
	wantGoroutines(t, before)
}

// warmUp starts what starts once per process, and counts goroutines.
func warmUp(t *testing.T) int {
	t.Helper()
	testHost(t).stop()
	if runtime.GOOS == "windows" {
		return runtime.NumGoroutine() + 1 // one waits for all pipes, and stays
	}
	return runtime.NumGoroutine()
}

// wantGoroutines fails if more goroutines than n stay.
func wantGoroutines(t *testing.T, n int) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for runtime.NumGoroutine() > n {
		select {
		case <-limit:
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines more:\n%s", runtime.NumGoroutine()-n, stacks[:runtime.Stack(stacks, true)])
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestDemoKeep(t *testing.T) {
	w := newWorld(t, nil)
	r := w.start(t, "demo", "--keep")
	address := r.out.wait(t, proxyAddress)
	if body, err := getThrough(address, demoPage); err != nil || !strings.Contains(body, "10.77.1.1") {
		t.Errorf("%v: %s", err, body)
	}
	r.stop()
	r.exit(t, "")
	if !strings.HasSuffix(r.out.String(), "\nDisconnected\nNothing of this computer was changed.\n") {
		t.Errorf("output:\n%s", r.out)
	}
}

func TestDemoServe(t *testing.T) {
	before := warmUp(t)
	w := newWorld(t, nil)
	t.Setenv(control.SocketVariable, "")
	r := w.start(t, "demo", "--serve")
	r.out.wait(t, "Ctrl\\+C ends it")
	out := r.out.String()
	value := func(label string) string { return r.out.wait(t, label+` +(\S+)`) }
	socket := value("Socket")
	if _, err := os.Stat(socket); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}

	client := newWorld(t, nil)
	client.env.service = func(path string) installed { return &control.Client{Path: path} }
	client.stdin = value("Password") + "\n"
	// The line that is shown, with the password from elsewhere.
	line := regexp.MustCompile(`(?m)^  wayfarer (--socket .* connect .*)$`).FindStringSubmatch(out)
	if line == nil {
		t.Fatalf("no line to connect:\n%s", out)
	}
	if code := client.run(t, append(strings.Fields(line[1]), "--password-file", "-")...); code != 0 {
		t.Errorf("connect: exit code %d: %s", code, client.err.String())
	}
	if code := client.run(t, "--socket", socket, "status"); code != 0 || !strings.Contains(client.out.String(), "connected since") {
		t.Errorf("status: exit code %d: %s%s", code, client.out.String(), client.err.String())
	}

	r.stop()
	r.exit(t, "")
	if _, err := os.Stat(filepath.Dir(socket)); err == nil && runtime.GOOS != "windows" {
		t.Error("the socket's folder is left behind")
	}
	if code := client.run(t, "--socket", socket, "status"); code != app.CodeNoService.Exit() {
		t.Errorf("status after the end: exit code %d", code)
	}
	wantGoroutines(t, before)
}

func TestDemoRefusesContradiction(t *testing.T) {
	w := newWorld(t, nil)
	if code := w.run(t, "demo", "--keep", "--serve"); code != app.CodeUsage.Exit() || strings.Count(w.err.String(), "\n") != 1 {
		t.Errorf("exit code %d: %s", code, w.err.String())
	}
}

func TestDemoIsCancelled(t *testing.T) {
	before := warmUp(t)
	w := newWorld(t, nil)
	r := w.start(t, "demo")
	r.out.wait(t, "Measuring")
	r.stop()
	r.exit(t, app.CodeCancelled)
	wantGoroutines(t, before)
}

func TestStyle(t *testing.T) {
	if got := (style{}).bold("x"); got != "x" {
		t.Errorf("plain: %q", got)
	}
	if got := (style{coloured: true}).good("x\x1b[2J"); got != "\x1b[1;32mx[2J\x1b[0m" {
		t.Errorf("coloured: %q", got)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if styleFor(file).coloured {
		t.Error("colours in a file")
	}
}

// Whoever started it and is gone, however that came, holds its input no longer.
func TestDemoServeHeld(t *testing.T) {
	w := newWorld(t, nil)
	t.Setenv(control.SocketVariable, "")
	t.Setenv(inputVariable, "1")
	in, holder := io.Pipe()
	r := w.startWith(t, in, "demo", "--serve")
	r.out.wait(t, "Ctrl\\+C ends it")
	socket := r.out.wait(t, `Socket +(\S+)`)
	select {
	case code := <-r.ended:
		t.Fatalf("it ended by itself, with exit code %d", code)
	default:
	}
	holder.Close()
	r.exit(t, "")
	if _, err := os.Stat(filepath.Dir(socket)); err == nil && runtime.GOOS != "windows" {
		t.Error("the socket's folder is left behind")
	}
}
