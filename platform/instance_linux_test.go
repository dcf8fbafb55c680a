package platform

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func socketIn(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "i") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "wayfarer", "gui.sock")
}

func TestInstanceSocket(t *testing.T) {
	path := socketIn(t)
	i, err := socketMeeting(path).claim(t.Context(), nil)
	must(t, err)
	for file, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	got := make(chan []string, 1)
	i.Serve(func(args []string) { got <- args })
	if _, err := socketMeeting(path).claim(t.Context(), []string{"a", "b"}); !errors.Is(err, ErrHandedOver) {
		t.Fatalf("got %v", err)
	}
	if args := <-got; len(args) != 2 {
		t.Errorf("got %q", args)
	}
	must(t, i.Close())
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// A process that died has left its socket.
func TestStaleInstanceSocket(t *testing.T) {
	path := socketIn(t)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	dead.SetUnlinkOnClose(false)
	must(t, dead.Close())
	i, err := socketMeeting(path).claim(t.Context(), nil)
	must(t, err)
	must(t, i.Close())
}

// Who was taken for hung, and ends at last, leaves its successor's socket alone.
func TestInstanceLeavesItsSuccessor(t *testing.T) {
	path := socketIn(t)
	hung, err := listenAlone(path, false)
	must(t, err)
	if _, err := listenAlone(path, false); !errors.Is(err, errSomebody) {
		t.Errorf("got %v", err)
	}
	successor, err := listenAlone(path, true)
	must(t, err)
	must(t, hung.Close())
	conn, err := net.Dial("unix", path)
	must(t, err)
	must(t, conn.Close())
	must(t, successor.Close())
}

// Of many that start at once one is the instance.
func TestManyInstancesAtOnce(t *testing.T) {
	path := socketIn(t)
	var instances, others atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			i, err := socketMeeting(path).claim(t.Context(), []string{"x"})
			switch {
			case errors.Is(err, ErrHandedOver):
				others.Add(1)
			case err != nil:
				t.Error(err)
			default:
				instances.Add(1)
				i.Serve(func([]string) {})
				t.Cleanup(func() { must(t, i.Close()) })
			}
		})
	}
	all.Wait()
	if instances.Load() != 1 || others.Load() != 15 {
		t.Errorf("%d instances, %d others", instances.Load(), others.Load())
	}
}

func TestInstanceIsOfItsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	path := socketIn(t)
	listener, err := listenAlone(path, false)
	must(t, err)
	defer listener.Close()
	// The rights would keep them out; here the kernel's word is looked at.
	must(t, os.Chmod(path, 0o666))
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		must(t, os.Chmod(dir, 0o755))
	}
	for _, tt := range []struct {
		uid   uintptr
		taken bool
	}{{0, true}, {4242, false}} {
		go func() {
			runtime.LockOSThread() // ends with this thread
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, tt.uid, tt.uid, tt.uid); errno != 0 {
				t.Error(errno)
			}
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 1))
		}()
		conn, err := listener.Accept()
		must(t, err)
		if err := identifyOwnUser(conn); (err == nil) != tt.taken {
			t.Errorf("uid %d: %v", tt.uid, err)
		}
		must(t, conn.Close())
	}
}

func TestInstancePath(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	t.Setenv("WAYLAND_DISPLAY", "../x")
	t.Setenv("DISPLAY", ":1.0")
	if got := instancePath("gui"); got != "/run/user/7/wayfarer/gui-.._x:1.0.sock" {
		t.Errorf("got %s", got)
	}
	t.Setenv("WAYLAND_DISPLAY", "")
	t.Setenv("DISPLAY", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_CACHE_HOME", "/home/ada/.cache")
	if got := instancePath("gui"); got != "/home/ada/.cache/wayfarer/gui.sock" {
		t.Errorf("got %s", got)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	i, err := ClaimInstance(t.Context(), "gui", nil)
	if i == nil || err == nil {
		t.Errorf("got %v, %v", i, err)
	}
}

// The first process is killed while it is the instance.
func TestInstanceAfterAKill(t *testing.T) {
	if path := os.Getenv("WAYFARER_TEST_INSTANCE"); path != "" {
		i, err := socketMeeting(path).claim(t.Context(), nil)
		must(t, err)
		i.Serve(func([]string) { select {} })
		_, _ = os.Stdout.WriteString("ready\n")
		select {}
	}
	path := socketIn(t)
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe, "-test.run", "^TestInstanceAfterAKill$")
	cmd.Env = append(os.Environ(), "WAYFARER_TEST_INSTANCE="+path)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = out.Read(make([]byte, 6))
	must(t, err)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	i, err := socketMeeting(path).claim(t.Context(), nil)
	must(t, err)
	must(t, i.Close())
}
