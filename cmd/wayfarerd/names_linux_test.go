package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
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

// TestBlockIsHandedOver: an always-on profile's block stands on while a service that was one
// process, and was killed, is followed by one of two.
func TestBlockIsHandedOver(t *testing.T) {
	w := newWorld(t)
	w.write("etc/wayfarer/profiles.d/office.secret", "hunter2\n", 0o600)
	w.write("etc/wayfarer/profiles.d/office.toml",
		"gateway = '127.0.0.2'\nlogin = 'ada'\nsystem_roots = true\nalways_on = true\nblock_outside = true\nsecret_file = 'office.secret'\n", 0o644)
	w.start(worldOrder{})
	inside, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", w.root()))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	// A packet to an address of the link's own is what the block would let nobody send.
	var outside net.Conn
	w.inside(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("192.0.2.2/24")
		if err == nil {
			err = errors.Join(netlink.LinkSetUp(veth), netlink.AddrAdd(veth, addr))
		}
		if err == nil {
			outside, err = net.Dial("udp4", "192.0.2.9:9")
		}
		return err
	})
	defer outside.Close()
	blocked := func() bool {
		_, err := outside.Write([]byte("leak"))
		return err != nil
	}
	w.until("the block stands", blocked)
	service := w.service()
	w.cmd.Process.Kill()
	w.exit()
	w.until("the service dies with the root process", func() bool { return gone(service) })
	// As if it had been one process: what it left is in the state directory itself.
	journal := w.path("state/network.journal")
	if err := errors.Join(os.Rename(w.path("state/service/network.journal"), journal), os.Chown(journal, 0, 0)); err != nil {
		t.Fatal(err)
	}
	stop, leaks := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				leaks <- n
				return
			default:
			}
			if !blocked() {
				n++
			}
			time.Sleep(time.Millisecond)
		}
	}()
	w.start(worldOrder{Network: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), inside.Fd())})
	w.until("the profile is tried", func() bool {
		status, err := w.client().Status(t.Context())
		return err == nil && len(status.Connections) == 1
	})
	close(stop)
	if n := <-leaks; n > 0 || !blocked() {
		t.Errorf("%d packets left meanwhile", n)
	}
}
