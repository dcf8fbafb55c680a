package tun

import (
	"net"
	"net/netip"
	"testing"
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
