package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/daemon"
)

// shipped is where the files for Linux are.
const shipped = "../../installer/linux/"

func readShipped(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(shipped + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// settings are the values that a unit gives a setting.
func settings(unit, key string) []string {
	var values []string
	for line := range strings.Lines(unit) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			values = append(values, strings.Fields(value)...)
		}
	}
	return values
}

// TestUnitFacts: what the unit says is what the program does.
func TestUnitFacts(t *testing.T) {
	t.Setenv(control.SocketVariable, "")
	unit := readShipped(t, "wayfarerd.service")
	var capabilities []string
	for _, c := range slices.Concat(dividing, serviceMayHave, rootCapabilities) {
		capabilities = append(capabilities, strings.ToUpper(c.String()))
	}
	for key, want := range map[string][]string{
		"CapabilityBoundingSet": capabilities,
		"StateDirectory":        {strings.TrimPrefix(daemon.StateDir(), "/var/lib/")},
		"RuntimeDirectory":      {strings.TrimPrefix(filepath.Dir(control.DefaultPath()), "/run/")},
		"User":                  nil, // it gives up root by itself
		"AmbientCapabilities":   nil,
		"NoNewPrivileges":       {"yes"},
		"LimitCORE":             {"0"},
	} {
		if got := settings(unit, key); !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	stop, err := time.ParseDuration(strings.Join(settings(unit, "TimeoutStopSec"), "") + "s")
	if err != nil || stop <= closeTime {
		t.Errorf("it is killed after %v (%v), while it may take %v to end", stop, err, closeTime)
	}
	users := readShipped(t, "wayfarer.sysusers")
	if !regexp.MustCompile(`(?m)^u ` + userName + ` `).MatchString(users) {
		t.Errorf("no user %s in\n%s", userName, users)
	}
	rules := readShipped(t, "wayfarer.rules")
	if !strings.Contains(rules, `subject.user === "`+userName+`"`) || strings.Count(rules, "org.freedesktop.") != strings.Count(rules, "org.freedesktop.resolve1.") {
		t.Errorf("rules\n%s", rules)
	}
}

// TestUnitVerified has systemd read the files.
func TestUnitVerified(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip(err)
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.Replace(readShipped(t, "wayfarerd.service"), "/usr/sbin/wayfarerd", path, 1)
	file := filepath.Join(t.TempDir(), "wayfarerd.service")
	if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), file) { // it tells of others, too
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err = exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=35", file).CombinedOutput()
	if err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
	if tool, err := exec.LookPath("systemd-sysusers"); err == nil {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		content := strings.NewReader(readShipped(t, "wayfarer.sysusers"))
		cmd := exec.Command(tool, "--root="+root, "--replace=/usr/lib/sysusers.d/wayfarer.conf", "-")
		cmd.Stdin = content
		out, err := cmd.CombinedOutput()
		made, _ := os.ReadFile(filepath.Join(root, "etc/passwd"))
		groups, _ := os.ReadFile(filepath.Join(root, "etc/group"))
		if err != nil || !strings.HasPrefix(string(made), userName+":") || !strings.HasPrefix(string(groups), userName+":") {
			t.Errorf("sysusers: %v\n%s%s%s", err, out, made, groups)
		}
	}
}

// systemdPaths are where the service manager is.
var systemdPaths = []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"}

// TestUnit has a systemd in namespaces of its own start the shipped unit, and connects:
// a full tunnel, for which a setting of the kernel and /etc/resolv.conf are changed.
func TestUnit(t *testing.T) {
	w := newWorld(t)
	if !slices.ContainsFunc(systemdPaths, func(path string) bool { _, err := os.Stat(path); return err == nil }) {
		t.Skip("systemd is not installed")
	}
	w.write("etc/systemd/system/wayfarerd.service", readShipped(t, "wayfarerd.service"), 0o644)
	w.write("etc/systemd/system/wayfarerd.service.d/test.conf",
		"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=\nExecStart=/run/wayfarerd --log-level debug\nStandardError=append:/etc/wayfarerd.log\n", 0o644)
	w.write("etc/systemd/system/default.target", "[Unit]\nDefaultDependencies=no\nWants=wayfarerd.service\n", 0o644)
	w.write("etc/machine-id", strings.Repeat("0123456789abcdef", 2)+"\n", 0o444) // it is no first boot
	before := w.names()
	t.Cleanup(func() { // after the last process
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), stageVariable+"=sweep", "WORLD="+w.dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("control groups are left: %v\n%s", err, out)
		}
	})
	w.stage("systemd", worldOrder{}, unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS)
	t.Cleanup(func() {
		if log, err := os.ReadFile(w.path("etc/wayfarerd.log")); t.Failed() {
			t.Logf("the service's log: %v\n%s", err, log)
		}
	})
	manager := w.main
	for _, pid := range children(t, manager) {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) == "wayfarerd\n" {
			w.main = pid
		}
	}
	expect(t, w.root(), 0, rootCapabilities, status(t, w.root(), "Seccomp_filters"))
	expect(t, w.service(), testUID, []cap.Value{cap.NET_ADMIN}, status(t, w.service(), "Seccomp_filters"))

	filter := func() (value string) {
		w.inside(func() error {
			content, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/rp_filter")
			value = strings.TrimSpace(string(content))
			return err
		})
		return value
	}
	if got := filter(); got != "1" {
		t.Fatalf("rp_filter is %s", got)
	}
	address, ca := w.gatewayIn() // to everywhere
	id, err := w.client().Connect(t.Context(), &control.ConnectRequest{
		Profile: app.Profile{Gateway: address, Login: "ada", CA: []string{ca}}, Password: []byte("hunter2"), NoReconnect: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := w.settled(); c.State != app.StateConnected {
		t.Fatalf("%s: %+v", c.State, c.Failure)
	}
	if names := w.names(); !strings.Contains(names, "nameserver 10.77.0.53\n") {
		t.Errorf("connected: %s", names)
	}
	if got := filter(); got != "2" {
		t.Errorf("connected, rp_filter is %s", got)
	}
	if err := w.client().Disconnect(t.Context(), id); err != nil {
		t.Error(err)
	}
	if names := w.names(); names != before || filter() != "1" {
		t.Errorf("disconnected: rp_filter %s, %s", filter(), names)
	}
	// A service that is killed is started again.
	killed := w.service()
	syscall.Kill(killed, syscall.SIGKILL)
	w.until("it serves again", func() bool {
		if !gone(killed) {
			return false
		}
		_, err := w.client().Status(t.Context())
		return err == nil
	})
}

// enterSystemd becomes a service manager, in the namespaces that it was started in.
func enterSystemd() error {
	var order worldOrder
	if err := json.Unmarshal([]byte(os.Getenv("WORLD")), &order); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	program, err := os.ReadFile(order.Program)
	if err != nil {
		return err
	}
	// Its control groups stay below one of the test's.
	group := controlGroup(order.Dir)
	if err := errors.Join(mountControlGroups(), os.MkdirAll(group, 0o755),
		os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0), unix.Unshare(unix.CLONE_NEWCGROUP)); err != nil {
		return err
	}
	for _, m := range []struct{ source, target, kind string }{
		{"proc", "/proc", "proc"},
		{"sysfs", "/sys", "sysfs"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2"},
		{"tmpfs", "/run", "tmpfs"},
		{"tmpfs", "/var/lib", "tmpfs"},
		{"tmpfs", "/var/tmp", "tmpfs"}, // where PrivateTmp has folders
	} {
		if err := unix.Mount(m.source, m.target, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	err = errors.Join(
		unix.Mount(filepath.Join(order.Dir, "etc"), "/etc", "", unix.MS_BIND, ""),
		unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""), // also over what order is in
		os.WriteFile("/run/wayfarerd", program, 0o755),
		os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0),
	)
	lo, linkErr := netlink.LinkByName("lo")
	if err = errors.Join(err, linkErr); err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return err
	}
	for _, path := range systemdPaths {
		err = unix.Exec(path, []string{"systemd", "--system", "--log-target=console", "--show-status=0"}, []string{"container=test", "PATH=/usr/bin:/bin"})
	}
	return err
}

func mountControlGroups() error {
	return errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""))
}

// controlGroup is the test's control group, by the directory that it has for itself.
func controlGroup(dir string) string {
	return "/sys/fs/cgroup/" + strings.ReplaceAll(strings.TrimPrefix(dir, "/"), "/", "-")
}

// sweepGroups removes what a service manager has made of control groups.
func sweepGroups() error {
	if err := mountControlGroups(); err != nil {
		return err
	}
	var groups []string
	err := filepath.WalkDir(controlGroup(os.Getenv("WORLD")), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	for _, group := range slices.Backward(groups) {
		// Its last process may be on its way out.
		for range 100 {
			if err = os.Remove(group); !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if err == nil {
		os.Exit(0)
	}
	return err
}
