package tun

import (
	"bytes"
	"errors"
	"io"
	"testing"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// libraryDevice gives and takes packets as the library's devices do, one with each Read; the
// last one comes with an error.
type libraryDevice struct {
	wgtun.Device
	packets [][]byte
	written [][]byte
}

func (d *libraryDevice) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	sizes[0] = copy(bufs[0][offset:], d.packets[0])
	if d.packets = d.packets[1:]; len(d.packets) == 0 {
		err = io.EOF
	}
	return 1, err
}

func (d *libraryDevice) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		clear(b[:offset]) // it is the device's
		d.written = append(d.written, bytes.Clone(b[offset:]))
	}
	return len(bufs), nil
}

// TestLibrary: packets pass the library's way of moving them as they are, with room
// behind, also those that come with an error.
func TestLibrary(t *testing.T) {
	packets := [][]byte{{1}, bytes.Repeat([]byte{2}, 1500), {3, 3}, bytes.Repeat([]byte{4}, MaxMTU), {5}}
	l := FromLibrary(&libraryDevice{packets: packets})
	var got [][]byte
	for {
		err := l.Read(func(p []byte) {
			if cap(p) < len(p)+Tailroom {
				t.Errorf("%d bytes behind a packet", cap(p)-len(p))
			}
			got = append(got, bytes.Clone(p))
			clear(p[:cap(p)])
		})
		if errors.Is(err, io.EOF) {
			break
		}
	}
	wantPackets(t, "read", got, packets)
	far := new(libraryDevice)
	l = &packetIO{Device: far}
	for _, n := range []int{3, 1, 5} {
		far.written = nil
		if err := l.Write(packets[:n]); err != nil {
			t.Fatal(err)
		}
		wantPackets(t, "written", far.written, packets[:n])
	}
	far.written = nil
	for _, p := range packets {
		if err := l.Answer(p); err != nil {
			t.Fatal(err)
		}
	}
	wantPackets(t, "answers", far.written, packets)
	if err := l.Answer(nil); !errors.Is(err, errEmpty) {
		t.Errorf("an answer without a byte: %v", err)
	}
	wantPackets(t, "given", packets, got) // nothing is kept of them, nor written to
}
