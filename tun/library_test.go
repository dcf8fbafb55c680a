package tun

import (
	"bytes"
	"errors"
	"io"
	"testing"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// batchDevice gives and takes packets as the library's devices do.
type batchDevice struct {
	wgtun.Device
	packets [][]byte
	written [][]byte
}

func (*batchDevice) BatchSize() int { return 2 }

func (d *batchDevice) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	for ; n < len(bufs) && len(d.packets) > 0; n++ {
		sizes[n] = copy(bufs[n][offset:], d.packets[0])
		d.packets = d.packets[1:]
	}
	if n < len(bufs) {
		err = io.EOF
	}
	return n, err
}

func (d *batchDevice) Write(bufs [][]byte, offset int) (int, error) {
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
	l := &packetIO{Device: &batchDevice{packets: packets}}
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
	far := new(batchDevice)
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
