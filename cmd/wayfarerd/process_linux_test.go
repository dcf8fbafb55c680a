package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike/gateway"
)

// testUID is a user that only the tests' own /etc/passwd knows.
const testUID = 61234

// companyNetwork is behind the gateway of a world.
var companyNetwork = netip.MustParsePrefix("10.77.0.0/24")

// originalNames is the resolv.conf of a world.
const originalNames = "# ours\nnameserver 192.0.2.9\n"

// program is the real program, built as it is shipped.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programDir, "wayfarerd")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

var programDir string

// stageVariable names what this program is to do instead of running tests.
const stageVariable = "WAYFARERD_TEST_STAGE"

func TestMain(m *testing.M) {
	if stage := os.Getenv(stageVariable); stage != "" {
		runtime.LockOSThread()
		if err := stages[stage](); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", stage, err)
		}
		os.Exit(99)
	}
	var err error
	if programDir, err = os.MkdirTemp("", "wayfarerd"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(programDir)
	os.Exit(code)
}

var stages = map[string]func() error{
	"world": enterWorld, "systemd": enterSystemd, "sweep": sweepGroups, "confined service": tryService, "confined root": tryRoot,
}

// world is a mount and network namespace with an /etc of its own, in which the real
// program runs.
type world struct {
	t   *testing.T
	dir string
	// socket, where it is not the world's, as seen from here.
	socket string
	cmd    *exec.Cmd
	main   int // process that was started as wayfarerd
	mu     sync.Mutex
	log    *bytes.Buffer // guarded by mu
}

// worldOrder is what enterWorld is told.
type worldOrder struct {
	Program, Dir string
	Mounted      bool   // resolv.conf is a mount, as in containers
	Alone        bool   // start as the test's user, with CAP_NET_ADMIN
	Network      string // a network namespace; empty: a new one
}

// newWorld prepares a world in which the service has a user.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make namespaces")
	}
	w := &world{t: t, dir: t.TempDir(), log: new(bytes.Buffer)}
	w.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n"+userName+":x:"+strconv.Itoa(testUID)+":"+strconv.Itoa(testUID)+"::/:/bin/false\n", 0o644)
	w.write("etc/group", "root:x:0:\n", 0o644)
	w.write("etc/resolv.conf", originalNames, 0o640)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, content string, mode os.FileMode) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), []byte(content), mode); err != nil {
		w.t.Fatal(err)
	}
}

// names is what resolv.conf says, and its mode.
func (w *world) names() string {
	w.t.Helper()
	content, err := os.ReadFile(w.path("etc/resolv.conf"))
	info, statErr := os.Stat(w.path("etc/resolv.conf"))
	if err != nil || statErr != nil {
		w.t.Fatal(err, statErr)
	}
	return fmt.Sprintf("%v %s", info.Mode(), content)
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// start runs the program in the world until the test ends, and waits until it serves.
func (w *world) start(order worldOrder) { w.stage("world", order, 0) }

// stage runs this program as one of stages, which becomes another program.
func (w *world) stage(name string, order worldOrder, namespaces uintptr) {
	w.t.Helper()
	path, err := program()
	if err != nil {
		w.t.Fatal(err)
	}
	order.Program, order.Dir = path, w.dir
	text, err := json.Marshal(order)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stageVariable+"="+name, "WORLD="+string(text))
	cmd.Stdout, cmd.Stderr = w, w
	cmd.WaitDelay = time.Second // for a service that outlives the root process
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.cmd, w.main = cmd, cmd.Process.Pid
	if namespaces != 0 {
		w.socket = fmt.Sprintf("/proc/%d/root/run/wayfarer/wayfarerd.sock", w.main)
	}
	w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("log:\n%s", w.logged())
		}
	})
	w.until("it serves", func() bool {
		if log := w.logged(); strings.Contains(log, name+": ") {
			w.t.Skipf("no %s", log)
		}
		_, err := w.client().Status(w.t.Context())
		return err == nil
	})
}

// enterWorld becomes the program, in namespaces of its own.
func enterWorld() error {
	var order worldOrder
	if err := json.Unmarshal([]byte(os.Getenv("WORLD")), &order); err != nil {
		return err
	}
	if order.Network != "" {
		ns, err := netns.GetFromPath(order.Network)
		if err == nil {
			err = netns.Set(ns)
		}
		if err != nil {
			return err
		}
	} else if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	etc := filepath.Join(order.Dir, "etc")
	if err := unix.Mount(etc, "/etc", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if order.Mounted {
		conf := filepath.Join(etc, "resolv.conf")
		if err := unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return err
	}
	args := []string{"wayfarerd", "--socket", filepath.Join(order.Dir, "run/s"), "--state-dir", filepath.Join(order.Dir, "state"), "--log-level", "debug"}
	if order.Alone {
		prefix := []string{
			"setpriv", "--reuid", strconv.Itoa(testUID), "--regid", strconv.Itoa(testUID), "--clear-groups",
			"--inh-caps=+net_admin", "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin", order.Program,
		}
		path, err := exec.LookPath("setpriv")
		if err != nil {
			return err
		}
		return unix.Exec(path, append(prefix, args[1:]...), []string{"PATH=/usr/bin:/bin"})
	}
	return unix.Exec(order.Program, args, []string{"PATH=/usr/bin:/bin"})
}

func (w *world) client() *control.Client {
	return &control.Client{Path: cmp.Or(w.socket, w.path("run/s"))}
}

// until waits for something that other processes do.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for range 1500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("it never happened that %s", what)
}

// root is the process that was started, service the one that it started.
func (w *world) root() int { return w.main }

func (w *world) service() int {
	w.t.Helper()
	pids := children(w.t, w.root())
	if len(pids) != 1 {
		w.t.Fatalf("the root process has the children %v", pids)
	}
	return pids[0]
}

func children(t *testing.T, pid int) []int {
	t.Helper()
	var pids []int
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range paths {
		list, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(list)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// status is a process's line of /proc/PID/status.
func status(t *testing.T, pid int, key string) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	t.Fatalf("no %s in the status", key)
	return ""
}

// inside calls f on a thread in the world's network namespace.
func (w *world) inside(f func() error) {
	w.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with its namespace
		ns, err := netns.GetFromPid(w.root())
		if err == nil {
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// gatewayIn runs a gateway in the world, and gives its address and what to trust.
func (w *world) gatewayIn(networks ...netip.Prefix) (address, ca string) {
	w.t.Helper()
	credentials, err := gateway.SelfSigned("127.0.0.1")
	if err != nil {
		w.t.Fatal(err)
	}
	gw, err := gateway.New(gateway.Config{
		Chain: credentials.Chain, Key: credentials.Key,
		Users: map[string]string{"ada": "hunter2"}, Pool: netip.MustParsePrefix("10.77.1.0/24"),
		Settings: gateway.Settings{
			DNS: []netip.Addr{netip.MustParseAddr("10.77.0.53")}, DefaultDomain: "corp.example",
			SplitInclude: networks,
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var conn net.PacketConn
	w.inside(func() (err error) {
		conn, err = net.ListenPacket("udp4", "127.0.0.1:0")
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gw.Serve(ctx, gateway.Socket{Conn: conn, NonESP: true}) }()
	w.t.Cleanup(func() {
		cancel()
		<-ended
		conn.Close()
	})
	return conn.LocalAddr().String(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: credentials.CA.Raw}))
}

// connect connects to a gateway in the world, and says how that ended.
func (w *world) connect() (id string, c app.Connection) {
	w.t.Helper()
	address, ca := w.gatewayIn(companyNetwork)
	id, err := w.client().Connect(w.t.Context(), &control.ConnectRequest{
		Profile:  app.Profile{Gateway: address, Login: "ada", CA: []string{ca}},
		Password: []byte("hunter2"), NoReconnect: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return id, w.settled()
}

// settled waits until the only connection is connected or has failed.
func (w *world) settled() (c app.Connection) {
	w.t.Helper()
	w.until("the connection is settled", func() bool {
		status, err := w.client().Status(w.t.Context())
		if err != nil || len(status.Connections) != 1 {
			return false
		}
		c = status.Connections[0]
		return c.State == app.StateConnected || c.State == app.StateFailed
	})
	return c
}

func (w *world) connected() string {
	w.t.Helper()
	id, c := w.connect()
	if c.State != app.StateConnected {
		w.t.Fatalf("%s: %+v", c.State, c.Failure)
	}
	return id
}

// exit waits for the program's end.
func (w *world) exit() int {
	w.t.Helper()
	err := w.cmd.Wait()
	if err != nil && !errors.As(err, new(*exec.ExitError)) && !errors.Is(err, io.EOF) {
		w.t.Fatal(err)
	}
	return w.cmd.ProcessState.ExitCode()
}

func gone(pid int) bool {
	err := syscall.Kill(pid, 0)
	if err != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return err != nil || bytes.HasPrefix(rest, []byte("Z"))
}
