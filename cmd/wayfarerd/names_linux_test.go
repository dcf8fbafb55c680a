package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNamesSocketOutlives: whoever has got hold of the service's end of the socket, by
// passing it on before the service ended, neither keeps the root process alive nor has it
// change names afterwards.
func TestNamesSocketOutlives(t *testing.T) {
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			w := newWorld(t)
			before := w.names()
			w.start(worldOrder{})
			w.connected()
			if w.names() == before {
				t.Fatal("the names are nobody's")
			}
			socket := takeMessages(t, w.service())
			if killed {
				syscall.Kill(w.service(), syscall.SIGKILL)
			} else {
				w.cmd.Process.Signal(syscall.SIGTERM)
			}
			w.until("the root process ends", func() bool { return gone(w.root()) })
			w.exit()
			if w.names() != before {
				t.Errorf("names: %s", w.names())
			}
			if err := unix.Send(socket, []byte(`{"ID":1,"Set":true}`), unix.MSG_NOSIGNAL); err != unix.EPIPE {
				t.Errorf("somebody still listens: %v", err)
			}
		})
	}
}

// takeMessages duplicates the one socket of a process that keeps messages apart, until
// the test ends.
func takeMessages(t *testing.T, pid int) (fd int) {
	t.Helper()
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Skipf("needs pidfd_open: %v", err)
	}
	defer unix.Close(process)
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			t.Skipf("needs pidfd_getfd: %v", err)
		}
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_SEQPACKET {
			t.Cleanup(func() { unix.Close(fd) })
			return fd
		}
		unix.Close(fd)
	}
	t.Fatal("the service has no such socket")
	return -1
}
