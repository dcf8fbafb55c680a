//go:build lab && linux

package lab

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The lab's script, state and programs; set by TestMain.
var (
	script   string
	stateDir string
	binDir   string
	skip     string // why nothing can be run here
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	name := cmp.Or(os.Getenv("LAB_NAME"), "wt")
	os.Setenv("LAB_NAME", name)
	stateDir = cmp.Or(os.Getenv("LAB_STATE"), "/tmp/vpnlab-"+name)
	var err error
	if script, err = filepath.Abs("lab"); err != nil {
		panic(err)
	}
	if binDir, err = filepath.Abs(cmp.Or(os.Getenv("LAB_BIN"), "../../build/bin")); err != nil {
		panic(err)
	}
	if out, err := lab("prereqs"); err != nil {
		skip = strings.TrimSpace(out)
		return m.Run()
	}
	for _, p := range []string{"wayfarer", "wayfarerd"} {
		if _, err := os.Stat(filepath.Join(binDir, p)); err != nil {
			fmt.Fprintf(os.Stderr, "%v: run make build\n", err)
			return 1
		}
	}
	if os.Getenv("LAB_KEEP") == "" {
		defer lab("down")
	}
	if out, err := lab("up"); err != nil {
		fmt.Fprintf(os.Stderr, "lab up: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// lab runs the lab's script; the output is both streams.
func lab(args ...string) (string, error) {
	out, err := exec.Command(script, args...).CombinedOutput()
	return string(out), err
}

func mustLab(t *testing.T, args ...string) string {
	t.Helper()
	out, err := lab(args...)
	if err != nil {
		t.Fatalf("lab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// inside runs a program in a namespace.
func inside(ns string, args ...string) (string, error) {
	return lab(append([]string{"exec", ns}, args...)...)
}

func mustInside(t *testing.T, ns string, args ...string) string {
	t.Helper()
	return mustLab(t, append([]string{"exec", ns}, args...)...)
}

// need skips where the lab cannot be built, and begins without faults.
func need(t *testing.T) {
	t.Helper()
	if skip != "" {
		t.Skip(skip)
	}
}

// eventually waits until ok, at most d.
func eventually(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// profile is what "lab profile" prints.
type profile map[string]string

func loadProfile(t *testing.T, name string) profile {
	t.Helper()
	p := profile{}
	for line := range strings.Lines(mustLab(t, "profile", name)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		p[key] = value
	}
	return p
}

// list splits a comma-separated value; "-" is none.
func (p profile) list(key string) []string {
	if p[key] == "-" {
		return nil
	}
	return strings.Split(p[key], ",")
}

// users are the logins and passwords of etc/users.
func users(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("etc/users")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if login, password, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok && line[0] != '#' {
			all[login] = password
		}
	}
	if len(all) == 0 {
		t.Fatal("etc/users has no users")
	}
	return all
}

// result is how a program ended.
type result struct {
	exit           int
	stdout, stderr string
}

// execute runs a command of the script with standard input, and tells how it ended.
func execute(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(script, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// gatewayLog is the log of the gateway since the lab was built or a capture began.
func gatewayLog(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(stateDir, "ns/gw/run/strongswan/charon.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
