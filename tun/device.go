package tun

import (
	"errors"
	"fmt"
)

// Device is a source and sink of inner IP packets. One goroutine may read while
// another writes; Close may be called at any time, more than once, and ends both.
type Device interface {
	// Read waits for packets from the host and puts one into each
	// bufs[i][offset:], with its length in sizes[i]; it returns how many. sizes
	// is at least as long as bufs. With at least BatchSize buffers nothing is
	// lost. After Close it returns os.ErrClosed; [ErrRemoved] when somebody else has
	// removed the interface.
	Read(bufs [][]byte, sizes []int, offset int) (int, error)
	// Write hands the packets bufs[i][offset:] to the host and returns how many
	// there were. Offset is at least [Headroom]. The room before offset and the
	// capacity behind a packet belong to the device meanwhile: it may coalesce
	// packets there, so two buffers must not share memory. A packet that the
	// host refuses does not stop those behind it; the count is 0 then, and the
	// error joins what was said of each.
	Write(bufs [][]byte, offset int) (int, error)
	// BatchSize is the most packets that one Read returns. It is constant.
	BatchSize() int
	// MTU is the largest packet, in bytes.
	MTU() (int, error)
	// Name is the interface's name.
	Name() (string, error)
	// Close removes the interface.
	Close() error
}

// Headroom is the space in bytes that Write needs before a packet: Linux's
// virtio_net_hdr.
const Headroom = 10

// MinMTU and MaxMTU bound the MTU of a device, in bytes. Every IPv4 host accepts
// packets of 576 bytes (RFC 791 §3.1); 65535 is the largest IPv4 packet.
const (
	MinMTU = 576
	MaxMTU = 65535
)

// ErrRemoved ends Read when another program has removed the interface.
var ErrRemoved = errors.New("another program has removed the interface")

// Errors of Open that have a remedy.
var (
	// ErrNoDevice: the system has no virtual network interfaces.
	ErrNoDevice = errors.New("this system has no TUN device")
	// ErrNoRights: this process may not create network interfaces.
	ErrNoRights = errors.New("no right to create a network interface")
)

func checkMTU(mtu int) error {
	if mtu < MinMTU || mtu > MaxMTU {
		return fmt.Errorf("MTU %d is not within %d to %d", mtu, MinMTU, MaxMTU)
	}
	return nil
}
