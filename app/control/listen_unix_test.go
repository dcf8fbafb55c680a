//go:build linux || darwin

package control

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"wayfarer/app"
)

func TestListenMakesFolderAndSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "wayfarer", "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("got %v, %v, want mode 0666", info, err)
	}
	l.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}

func TestListenRefusesToStartTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	backend := &fakeBackend{conns: []app.Connection{{ID: "c1"}}}
	serveIn(t, &Server{Backend: backend, Log: discard()}, l)
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another wayfarerd answers") {
		t.Errorf("got %v", err)
	}
	status, err := (&Client{Path: path}).Status(t.Context())
	if err != nil || len(status.Connections) != 1 {
		t.Errorf("the first one was disturbed: %v, %v", status, err)
	}
}

func TestListenReplacesASocketOfTheDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("got %v", err)
	}
	target := filepath.Join(t.TempDir(), "target")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(link); err == nil {
		t.Error("a symbolic link was followed")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "mine" {
		t.Errorf("got %q, %v", data, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is gone: %v", err)
	}
}

// Of many that start at once beside a socket of the dead, one serves, and its socket
// stays.
func TestListenAtOnce(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "s")
		dead, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		dead.(*net.UnixListener).SetUnlinkOnClose(false)
		dead.Close()
		listeners := make(chan net.Listener, 8)
		var started sync.WaitGroup
		for range cap(listeners) {
			started.Go(func() {
				if l, err := Listen(path); err == nil {
					listeners <- l
				} else if !strings.Contains(err.Error(), "another wayfarerd answers") {
					t.Error(err)
				}
			})
		}
		started.Wait()
		if n := len(listeners); n != 1 {
			t.Fatalf("%d listen", n)
		}
		if conn, err := net.Dial("unix", path); err != nil {
			t.Error(err)
		} else {
			conn.Close()
		}
		(<-listeners).Close()
	}
}

// Nobody else may hold the lock.
func TestListenLockIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path + ".lock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
