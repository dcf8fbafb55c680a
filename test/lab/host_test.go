//go:build lab && linux

package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wayfarer/app"
)

// host is a client's namespace in which the service runs.
type host struct {
	t       *testing.T
	ns      string
	logFile string
	service *exec.Cmd // nil: it was killed, or stopped
	prefix  []string  // of the service's command line
}

// start runs the service in a namespace for the length of the test. The prefix is a
// program that starts it, if any.
func start(t *testing.T, ns, level string, prefix ...string) *host {
	t.Helper()
	need(t)
	mustLab(t, "fault", "clear")
	mustLab(t, "disconnect", "-n", ns)
	h := &host{t: t, ns: ns, logFile: filepath.Join(t.TempDir(), "wayfarerd.log"), prefix: prefix}
	if err := os.RemoveAll(h.run()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(h.run(), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	h.launch(level)
	return h
}

// run is the folder with the service's socket and state.
func (h *host) run() string { return filepath.Join(stateDir, "ns", h.ns, "run", "wayfarer") }

// launch runs the service, with what an earlier one has left.
func (h *host) launch(level string) {
	h.t.Helper()
	args := append([]string{"exec", h.ns}, h.prefix...)
	args = append(args, filepath.Join(binDir, "wayfarerd"),
		"--socket", "/run/wayfarer/wayfarerd.sock", "--state-dir", "/run/wayfarer/state", "--log-level", level)
	h.service = exec.Command(script, args...)
	log, err := os.OpenFile(h.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	h.service.Stdout, h.service.Stderr = log, log
	if err := h.service.Start(); err != nil {
		h.t.Fatal(err)
	}
	eventually(h.t, 5*time.Second, "the service listens", func() bool {
		conn, err := net.Dial("unix", filepath.Join(h.run(), "wayfarerd.sock"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// stop ends the service, which must end by itself, and shows the end of its log
// when the test failed.
func (h *host) stop() {
	if service := h.service; service != nil {
		h.service = nil
		ended := make(chan error, 1)
		service.Process.Signal(syscall.SIGTERM)
		go func() { ended <- service.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				h.t.Errorf("%s: wayfarerd: %v", h.ns, err)
			}
		case <-time.After(15 * time.Second):
			service.Process.Kill()
			h.t.Errorf("%s: wayfarerd did not end within 15 s of SIGTERM", h.ns)
		}
	}
	if h.t.Failed() {
		log := strings.Split(h.log(), "\n")
		h.t.Logf("%s: end of the service's log:\n%s", h.ns, strings.Join(log[max(0, len(log)-60):], "\n"))
	}
}

func (h *host) log() string {
	data, err := os.ReadFile(h.logFile)
	if err != nil {
		h.t.Error(err)
	}
	return string(data)
}

// wayfarer runs the command line.
func (h *host) wayfarer(args ...string) result {
	h.t.Helper()
	return execute(h.t, "", append([]string{"exec", h.ns, filepath.Join(binDir, "wayfarer")}, args...)...)
}

// connect connects by a profile's flags as a user of etc/users.
func (h *host) connect(t *testing.T, p profile, login, password string, more ...string) result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"connect"}, strings.Fields(p["WAYFARER"])...)
	args = append(args, "--login", login, "--password-file", file)
	return h.wayfarer(append(args, more...)...)
}

// up connects as alice and returns the connection as the status shows it.
func (h *host) up(t *testing.T, p profile, more ...string) app.Connection {
	t.Helper()
	if r := h.connect(t, p, p["USER"], p["PASSWORD"], more...); r.exit != 0 {
		t.Fatalf("connect: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
	}
	return h.connection(t)
}

// down disconnects.
func (h *host) down(t *testing.T) {
	t.Helper()
	if r := h.wayfarer("disconnect"); r.exit != 0 {
		t.Fatalf("disconnect: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
	}
}

// status is what "status --json" says; keys that the contract does not have fail.
func (h *host) status(t *testing.T) app.Status {
	t.Helper()
	r := h.wayfarer("status", "--json")
	if r.exit != 0 {
		t.Fatalf("status: exit %d\n%s", r.exit, r.stderr)
	}
	var s app.Status
	dec := json.NewDecoder(bytes.NewReader([]byte(r.stdout)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatalf("status --json: %v\n%s", err, r.stdout)
	}
	if strings.Contains(r.stdout, "null") {
		t.Errorf("status --json has a null:\n%s", r.stdout)
	}
	return s
}

// connection is the only connection there is; it must be connected.
func (h *host) connection(t *testing.T) app.Connection {
	t.Helper()
	s := h.status(t)
	if len(s.Connections) != 1 || s.Connections[0].State != app.StateConnected {
		t.Fatalf("status: want one connection that is connected, got %+v", s.Connections)
	}
	return s.Connections[0]
}

// ping checks that an address answers.
func (h *host) ping(t *testing.T, addr string) {
	t.Helper()
	if out, err := inside(h.ns, "ping", "-n", "-c1", "-W2", addr); err != nil {
		t.Errorf("%s does not answer: %v\n%s", addr, err, out)
	}
}

// network is all that a connection may change about a host, as text to compare.
func network(t *testing.T, ns string) string {
	t.Helper()
	var b strings.Builder
	for _, cmd := range []string{
		"ip -o link show",
		"ip -o addr show",
		"ip -4 route show table all",
		"ip -6 route show table all",
		"ip -4 rule show",
		"ip -6 rule show",
		"nft list ruleset",
		"stat -c %F:%a:%u:%g /etc/resolv.conf",
		"cat /etc/resolv.conf",
		"sysctl -q net.ipv4.conf net.ipv6.conf net.ipv4.ip_forward",
	} {
		fmt.Fprintf(&b, "# %s\n%s\n", cmd, mustInside(t, ns, strings.Fields(cmd)...))
	}
	return b.String()
}

// differences lists the lines that only one of two texts has.
func differences(before, after string) string {
	count := map[string]int{}
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	var b strings.Builder
	for _, text := range []string{before, after} {
		for line := range strings.Lines(text) {
			switch n := count[line]; {
			case n < 0:
				fmt.Fprintf(&b, "- %s", line)
			case n > 0:
				fmt.Fprintf(&b, "+ %s", line)
			}
			delete(count, line)
		}
	}
	return b.String()
}

// restored checks that the host's network is as it was before.
func restored(t *testing.T, ns, before string) {
	t.Helper()
	if diff := differences(before, network(t, ns)); diff != "" {
		t.Errorf("%s: the host's network is not as it was:\n%s", ns, diff)
	}
}
