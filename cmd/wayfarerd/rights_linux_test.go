package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"wayfarer/app"
	"wayfarer/app/daemon"
)

// mask is a set of capabilities as /proc shows it.
func mask(list ...cap.Value) string {
	var m uint64
	for _, c := range list {
		m |= 1 << c
	}
	return fmt.Sprintf("%016x", m)
}

// TestRights reads what the kernel says of the running processes.
func TestRights(t *testing.T) {
	const raw = "name = 'plain'\ngateway = '127.0.0.1'\nauth = 'psk'\nnat_t = 'off'\nlocal_port = 500\nsecret_file = 'plain.secret'\nexchange = 'main'\nmode_config = 'off'\nlocal_networks = ['10.1.0.0/16']\nremote_networks = ['10.2.0.0/16']\n"
	for _, tt := range []struct {
		name   string
		user   bool
		plain  bool // a managed profile with plain ESP on port 500
		alone  bool // not started as root
		wanted []cap.Value
	}{
		{"user", true, false, false, []cap.Value{cap.NET_ADMIN}},
		{"no user", false, false, false, []cap.Value{cap.NET_ADMIN}},
		{"plain ESP", true, true, false, []cap.Value{cap.NET_ADMIN, cap.NET_RAW, cap.NET_BIND_SERVICE}},
		{"alone", true, false, true, []cap.Value{cap.NET_ADMIN}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			uid := testUID
			if !tt.user {
				w.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644)
				uid = 0
			}
			if tt.plain {
				w.write("etc/wayfarer/profiles.d/plain.toml", raw, 0o644)
				w.write("etc/wayfarer/profiles.d/plain.secret", "opensesame\n", 0o600)
			}
			if tt.alone {
				for _, dir := range []string{"state", "run"} {
					if err := errors.Join(os.Mkdir(w.path(dir), 0o755), os.Chown(w.path(dir), uid, uid)); err != nil {
						t.Fatal(err)
					}
				}
				openPath(t, w.dir)
			}
			w.start(worldOrder{Alone: tt.alone})
			service := w.root()
			if !tt.alone {
				service = w.service()
				expect(t, w.root(), 0, rootCapabilities, "2")
			}
			expect(t, service, uid, tt.wanted, "2")
			for _, pid := range []int{w.root(), service} {
				limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
				if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0 bytes") {
					t.Errorf("limits %s %v", limits, err)
				}
				// What belongs to root of a process is not its user's to look into.
				var stat unix.Stat_t
				if err := unix.Stat(fmt.Sprintf("/proc/%d/mem", pid), &stat); err != nil || stat.Uid != 0 {
					t.Errorf("the memory is open to user %d (%v)", stat.Uid, err)
				}
				if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) != "wayfarerd\n" {
					t.Errorf("it is called %q", name)
				}
			}
			if warned := strings.Contains(w.logged(), "there is no user wayfarer"); warned == tt.user {
				t.Errorf("log %s", w.logged())
			}
			w.cmd.Process.Signal(syscall.SIGTERM)
			if code := w.exit(); code != 0 || !gone(service) {
				t.Errorf("exit %d", code)
			}
		})
	}
}

// TestThread: whatever thread is free, the limits of the service never become those that
// the kernel shows of the whole process.
func TestThread(t *testing.T) {
	var first int
	for range 2000 {
		plain, limited := make(chan int), make(chan int)
		go func() { plain <- unix.Gettid() }()
		if <-plain == unix.Getpid() {
			first++ // the next goroutine will mostly be on it, too
		}
		onThread(func() { limited <- unix.Gettid() })
		if <-limited == unix.Getpid() {
			t.Fatal("on the first thread")
		}
	}
	t.Logf("of 2000 other goroutines %d were on the first thread", first)
}

// openPath lets other users walk to a test's directory.
func openPath(t *testing.T, dir string) {
	t.Helper()
	for d := dir; d != os.TempDir() && d != "/"; d = d[:strings.LastIndex(d, "/")] {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func expect(t *testing.T, pid, uid int, capabilities []cap.Value, filters string) {
	t.Helper()
	user := strings.TrimSpace(strings.Repeat(strconv.Itoa(uid)+" ", 4))
	for key, want := range map[string]string{
		"Uid": user, "Gid": user, "Groups": "", "CapPrm": mask(capabilities...), "CapEff": mask(capabilities...), "CapBnd": mask(capabilities...),
		"CapInh": mask(), "CapAmb": mask(), "NoNewPrivs": "1", "Seccomp": "2", "Seccomp_filters": filters,
	} {
		if got := status(t, pid, key); got != want {
			t.Errorf("process of user %d: %s is %s, want %s", uid, key, got, want)
		}
	}
}

// TestNames: the service, which may not, has /etc/resolv.conf replaced, and it is put
// back whatever ends first.
func TestNames(t *testing.T) {
	const ours = "# written by wayfarer\nsearch corp.example\nnameserver 10.77.0.53\n"
	for _, mounted := range []bool{false, true} {
		t.Run(fmt.Sprintf("mounted %v", mounted), func(t *testing.T) {
			w := newWorld(t)
			before := w.names()
			w.start(worldOrder{Mounted: mounted})
			id := w.connected()
			if names := w.names(); !strings.HasSuffix(names, ours) {
				t.Errorf("connected: %s", names)
			}
			if err := w.client().Disconnect(t.Context(), id); err != nil {
				t.Error(err)
			}
			if names := w.names(); names != before {
				t.Errorf("disconnected: %s", names)
			}
		})
	}
	t.Run("terminated", func(t *testing.T) {
		w := newWorld(t)
		before := w.names()
		w.start(worldOrder{})
		w.connected()
		w.cmd.Process.Signal(syscall.SIGTERM)
		if code := w.exit(); code != 0 || w.names() != before {
			t.Errorf("exit %d, %s", code, w.names())
		}
	})
	t.Run("service killed", func(t *testing.T) {
		w := newWorld(t)
		before := w.names()
		w.start(worldOrder{})
		w.connected()
		syscall.Kill(w.service(), syscall.SIGKILL)
		if code := w.exit(); code != 1 || w.names() != before || !strings.Contains(w.logged(), "the service was killed (signal: killed)") {
			t.Errorf("exit %d, %s", code, w.names())
		}
	})
	t.Run("root process killed", func(t *testing.T) {
		w := newWorld(t)
		before := w.names()
		w.start(worldOrder{})
		w.connected()
		service := w.service()
		t.Cleanup(func() {
			if !gone(service) {
				syscall.Kill(service, syscall.SIGKILL)
			}
		})
		w.cmd.Process.Kill()
		w.exit()
		w.until("the service dies with the root process", func() bool { return gone(service) })
		if w.names() == before {
			t.Error("somebody has put the names back: this case proves nothing")
		}
		if strings.Contains(w.logged(), "wayfarerd stops") {
			t.Error("the service has ended in good order: a leak block would be gone")
		}
		w.start(worldOrder{})
		if w.names() != before {
			t.Errorf("started again: %s", w.names())
		}
	})
}

// TestAlone: a service that nobody helps says that it may not replace resolv.conf.
func TestAlone(t *testing.T) {
	w := newWorld(t)
	for _, dir := range []string{"state", "run"} {
		if err := errors.Join(os.Mkdir(w.path(dir), 0o755), os.Chown(w.path(dir), testUID, testUID)); err != nil {
			t.Fatal(err)
		}
	}
	openPath(t, w.dir)
	w.write("etc/resolv.conf", originalNames, 0o644)
	if err := os.Chmod(w.path("etc/resolv.conf"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := w.names()
	w.start(worldOrder{Alone: true})
	_, c := w.connect()
	if c.State != app.StateFailed || c.Failure.Code != app.CodeNetworkConfig || !strings.Contains(c.Failure.Message, "/etc/resolv.conf") {
		t.Errorf("%s: %+v", c.State, c.Failure)
	}
	if w.names() != before {
		t.Errorf("resolv.conf: %s", w.names())
	}
}

// TestManaged: a profile whose secret only root may read is connected by the service,
// which is not root.
func TestManaged(t *testing.T) {
	w := newWorld(t)
	w.start(worldOrder{}) // for the namespace in which the gateway is
	address, ca := w.gatewayIn(companyNetwork)
	w.write("etc/wayfarer/profiles.d/office.pem", ca, 0o644)
	w.write("etc/wayfarer/profiles.d/office.secret", "hunter2\n", 0o600)
	w.write("etc/wayfarer/profiles.d/office.toml",
		"gateway = '"+address+"'\nlogin = 'ada'\nca = ['office.pem']\nalways_on = true\nsecret_file = 'office.secret'\n", 0o644)
	w.write("etc/wayfarer/profiles.d/broken.toml", "gateway = 1\n", 0o644)
	inside, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", w.root()))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	w.cmd.Process.Signal(syscall.SIGTERM)
	w.exit()
	w.start(worldOrder{Network: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), inside.Fd())})
	c := w.settled()
	if c.State != app.StateConnected || c.Profile != "office" || c.Owner != daemon.ManagedOwner {
		t.Errorf("%s: %+v", c.State, c)
	}
	log := w.logged()
	if strings.Contains(log, "hunter2") || strings.Contains(log, "aHVudGVyMg") || strings.Count(log, "broken.toml") != 1 {
		t.Errorf("log %s", log)
	}
}

// TestExitCode: the root process ends as the service does, which has said why.
func TestExitCode(t *testing.T) {
	var stderr bytes.Buffer
	if code := tell(&stderr, exitError(7)); code != 7 || stderr.Len() != 0 {
		t.Errorf("exit %d, %q", code, &stderr)
	}
	for code, want := range map[string]error{"exit 0": nil, "exit 7": exitError(7)} {
		s := &service{ended: make(chan error, 1)}
		s.ended <- exec.Command("/bin/sh", "-c", code).Run()
		if err := s.wait(t.Context()); err != want {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// TestHanded: profiles arrive whole, and their secrets are not left behind.
func TestHanded(t *testing.T) {
	list := func() daemon.SetUp {
		return daemon.SetUp{Policy: app.Policy{ForbidWeak: true}, Profiles: []daemon.Managed{
			{Profile: app.Profile{Name: "a", Gateway: "192.0.2.1", CA: []string{"pem"}}, Password: []byte("hunter2"), Key: []byte("key")},
			{Profile: app.Profile{Name: "b"}},
			{Profile: app.Profile{Name: "c"}, GroupSecret: bytes.Repeat([]byte("s"), 100_000)},
		}}
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	given := list()
	go (&service{managed: write}).hand(given)
	got, err := readHanded(read)
	if err != nil || !reflect.DeepEqual(got, list()) {
		t.Errorf("%+v, %v", got, err)
	}
	read.Close()

	var whole bytes.Buffer
	if err := writeHanded(&whole, list()); err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(whole.Bytes(), []byte("hunter2"))
	if bytes.Contains(first, []byte("aHVudGVyMg")) {
		t.Error("the secret is in the JSON too")
	}
	for size := range min(whole.Len(), 600) {
		if _, err := readHanded(io.NopCloser(bytes.NewReader(whole.Bytes()[:size]))); err == nil {
			t.Fatalf("%d of %d bytes were enough", size, whole.Len())
		}
	}
	if _, err := readHanded(io.NopCloser(strings.NewReader("\xff\xff\xff\xff"))); err == nil {
		t.Error("4 GB were accepted")
	}
	refused := list()
	(&service{managed: write}).hand(refused) // whose pipe is closed
	for _, m := range slices.Concat(given.Profiles, refused.Profiles) {
		for _, secret := range secretsOf(&m) {
			if bytes.ContainsFunc(*secret, func(r rune) bool { return r != 0 }) {
				t.Errorf("the secret of %s is still there", m.Profile.Name)
			}
		}
	}
}

// attempt is a system call without effect, which an ordinary process may make.
type attempt struct {
	name string
	try  func() error
}

func call(number, a, b, c uintptr) func() error {
	return func() error {
		if _, _, errno := unix.RawSyscall(number, a, b, c); errno != 0 {
			return errno
		}
		return nil
	}
}

var attempts = []attempt{
	{"personality", call(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)},
	{"kcmp", call(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(os.Getpid()), 4)}, // KCMP_FS
	{"exec", func() error { return exec.Command("/bin/true").Run() }},
	{"memfd", func() error { _, err := unix.MemfdCreate("x", 0); return err }},
	{"kill", call(unix.SYS_KILL, uintptr(os.Getpid()), 0, 0)},
	{"priority", call(unix.SYS_GETPRIORITY, 0, 0, 0)},
	{"socket", func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); return err }},
	{"clock", func() error {
		fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK)
		err = errors.Join(err, unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &unix.ItimerSpec{}, nil))
		if _, errno := unix.Read(fd, make([]byte, 8)); errno != unix.EAGAIN { // nobody has set it
			err = errors.Join(err, fmt.Errorf("read: %w", errno))
		}
		return err
	}},
	{"clone3", call(unix.SYS_CLONE3, 0, 0, 0)},
	{"thread", func() error { // as many as it takes: each of these blocks one
		done := make(chan bool)
		for range 20 {
			go func() { unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil); done <- true }()
		}
		for range 20 {
			<-done
		}
		return nil
	}},
}

// outcomes are what became of the attempts, one a line.
func outcomes() string {
	var b strings.Builder
	for _, a := range attempts {
		fmt.Fprintf(&b, "%s: %v\n", a.name, a.try())
	}
	return b.String()
}

func tryService() error {
	return tryConfined(serviceMayHave, noClone3, serviceFilter)
}

func tryRoot() error { return tryConfined(rootCapabilities, rootFilter) }

func tryConfined(keep []cap.Value, policies ...func(*arch.Info) seccomp.Policy) error {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	before := outcomes()
	if err := confine(log, keep, filters(log, policies...)...); err != nil {
		return err
	}
	fmt.Printf("%safter\n%s", before, outcomes())
	return nil
}

// TestConfined: a process that gave up its rights cannot do what it could before.
func TestConfined(t *testing.T) {
	const free = "personality: <nil>\nkcmp: <nil>\nexec: <nil>\nmemfd: <nil>\nkill: <nil>\npriority: <nil>\nsocket: <nil>\nclock: <nil>\nclone3: invalid argument\nthread: <nil>\n"
	for stage, want := range map[string]string{
		"confined service": "personality: operation not permitted\nkcmp: operation not permitted\nexec: fork/exec /bin/true: operation not permitted\n" +
			"memfd: operation not permitted\nkill: operation not permitted\npriority: operation not permitted\nsocket: <nil>\nclock: <nil>\nclone3: " + unix.ENOSYS.Error() + "\nthread: <nil>\n",
		"confined root": "personality: operation not permitted\nkcmp: operation not permitted\nexec: <nil>\n" +
			"memfd: <nil>\nkill: <nil>\npriority: <nil>\nsocket: <nil>\nclock: <nil>\nclone3: invalid argument\nthread: <nil>\n",
	} {
		t.Run(stage, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), stageVariable+"="+stage)
			out, _ := cmd.CombinedOutput()
			if string(out) != free+"after\n"+want {
				t.Errorf("got\n%s", out)
			}
		})
	}
}

// TestFilters runs the filters on what the kernel would show them.
func TestFilters(t *testing.T) {
	known, err := arch.GetInfo("")
	if err != nil {
		t.Skip(err)
	}
	const allowed, refused, unknown = uint32(seccomp.ActionAllow), uint32(seccomp.ActionErrno) | uint32(unix.EPERM), uint32(seccomp.ActionErrno) | uint32(unix.ENOSYS)
	const otherArch = 0x40000028 // AUDIT_ARCH_ARM
	number := func(name string) uint32 { return uint32(known.SyscallNames[name]) }
	service, root := serviceFilter(known), rootFilter(known)
	for _, tt := range []struct {
		name   string
		policy seccomp.Policy
		arch   uint32
		nr     uint32
		flags  uint32
		want   uint32
	}{
		{"read", service, uint32(known.ID), number("read"), 0, allowed},
		{"a thread", service, uint32(known.ID), number("clone"), unix.CLONE_THREAD | unix.CLONE_VM, allowed},
		{"a process", service, uint32(known.ID), number("clone"), unix.CLONE_VM | unix.CLONE_VFORK, refused},
		{"execve", service, uint32(known.ID), number("execve"), 0, refused},
		{"a client's process", service, uint32(known.ID), number("pidfd_open"), 0, allowed},
		{"its descriptors", service, uint32(known.ID), number("pidfd_getfd"), 0, refused},
		{"a signal to it", service, uint32(known.ID), number("pidfd_send_signal"), 0, refused},
		{"setns", service, uint32(known.ID), number("setns"), 0, refused},
		{"a call of the future", service, uint32(known.ID), 9999, 0, refused},
		{"another architecture", service, otherArch, number("read"), 0, refused},
		{"root's execve", root, uint32(known.ID), number("execve"), 0, allowed},
		{"root's process", root, uint32(known.ID), number("clone"), unix.CLONE_VM | unix.CLONE_VFORK, allowed},
		{"root's user namespace", root, uint32(known.ID), number("clone"), unix.CLONE_NEWUSER, refused},
		{"root's ptrace", root, uint32(known.ID), number("ptrace"), 0, refused},
		{"root's bpf", root, uint32(known.ID), number("bpf"), 0, refused},
		{"clone3", noClone3(known), uint32(known.ID), number("clone3"), 0, unknown},
		{"all but clone3", noClone3(known), uint32(known.ID), number("execve"), 0, allowed},
	} {
		program, err := tt.policy.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		if got := runFilter(t, program, tt.nr, tt.arch, tt.flags); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
	// A name that is misspelt would be left out without a word.
	arm, err := arch.GetInfo("arm64")
	if err != nil {
		t.Fatal(err)
	}
	amd, err := arch.GetInfo("amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{serviceCalls, rootCalls} {
		both := append(among(arm, list), among(amd, list)...)
		for _, name := range list {
			if !slices.Contains(both, name) {
				t.Errorf("no architecture has %s", name)
			}
		}
	}
}

// runFilter interprets a program. The interpreter reads in network order, the kernel
// gives a filter the machine's: struct seccomp_data of seccomp(2), the flags being the
// low half of the first argument.
func runFilter(t *testing.T, program []bpf.Instruction, number, architecture, flags uint32) uint32 {
	t.Helper()
	data := make([]byte, 64)
	put := func(at int, v uint32) { copy(data[at:], []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}) }
	put(0, number)
	put(4, architecture)
	put(16, flags)
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}
