package tun

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// TestReadDoesNotWait: Read ends with what there is, be it one packet, so that this can
// leave; and after a while, however much there is, so that what it has given does not wait
// for the rest. The library's own way has those that were read ahead.
func TestReadDoesNotWait(t *testing.T) { inModes(t, readDoesNotWait) }

func readDoesNotWait(t *testing.T, dev Device) {
	up(t, "wf0", near4.String()+"/32", far4.String()+"/32")
	c, err := net.Dial("udp4", netip.AddrPortFrom(far4, 7).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size = 1200
	read := func() (packets, bytes int) {
		t.Helper()
		for packets == 0 { // among what the kernel says of its own
			if err := dev.Read(func(p []byte) {
				if u, _ := unitOf(p); u.proto == protoUDP && !u.ipv6 {
					packets, bytes = packets+1, bytes+len(p)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		return packets, bytes
	}
	for range 3 { // each waits for the next one only
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if n, _ := read(); n != 1 {
			t.Errorf("%d packets, want 1", n)
		}
	}
	const many = 150
	for range many {
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	for left := many; left > 0; {
		n, bytes := read()
		if _, ok := dev.(*native); !ok {
			if left -= n; bytes > readAtOnce+MinMTU+size {
				t.Errorf("%d bytes at once", bytes)
			}
			continue
		}
		bytes += n * offloadLen
		if left -= n; bytes > readAtOnce+MinMTU+size || left > 0 && bytes < readAtOnce {
			t.Errorf("%d bytes at once, %d packets left", bytes, left)
		}
	}
}

// TestFromQueues: there are as many queues as packets are spread among, and no more than are
// asked at once.
func TestFromQueues(t *testing.T) {
	for count, ok := range map[int]bool{0: false, 1: false, heardQueues - 1: false, heardQueues: true, maxQueues: true, maxQueues + 1: false} {
		var queues []int
		for range count {
			fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			queues = append(queues, fd)
		}
		first, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		dev, err := FromQueues(fileDevice{file: first}, queues, false)
		if (err == nil) != ok {
			t.Errorf("%d queues: %v", count, err)
		}
		if err != nil {
			first.Close()
			closeAll(queues)
			continue
		}
		if err := dev.Close(); err != nil {
			t.Errorf("%d queues: Close: %v", count, err)
		}
		closeAll(queues[:1]) // the device has left it to its file
	}
}

// fileDevice is a library's device with nothing but a file.
type fileDevice struct {
	wgtun.Device
	file *os.File
}

func (d fileDevice) File() *os.File { return d.file }

func (d fileDevice) Close() error { return d.file.Close() }
