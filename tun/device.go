package tun

import (
	"errors"
	"fmt"
)

// Device is a source and sink of inner IP packets. One goroutine may read, and answer,
// while another writes; Close may be called at any time, more than once, and ends both.
type Device interface {
	// Read waits for packets from the host and calls take with one after the other,
	// until there is none left, or after some 64 KiB. The packet may be changed, as
	// may [Tailroom] bytes of its capacity behind it if they are put back; when take
	// returns both are the device's again. After Close it returns os.ErrClosed;
	// [ErrRemoved] when somebody else has removed the interface.
	Read(take func(packet []byte)) error
	// Write hands packets to the host, those of a connection in their order. A packet
	// that the host refuses does not stop those behind it; the error is what was
	// said of the first. It keeps nothing of the packets.
	Write(packets [][]byte) error
	// Answer hands one packet to the host, for the goroutine that reads; take may call it.
	// It may overtake a Write that runs beside it. It keeps nothing of the packet.
	Answer(packet []byte) error
	// MTU is the largest packet, in bytes.
	MTU() (int, error)
	// Name is the interface's name.
	Name() (string, error)
	// Close removes the interface.
	Close() error
}

// Tailroom is the capacity in bytes behind a packet that Read gives: for what a tunnel
// appends before it encrypts.
const Tailroom = 32

// readAtOnce is after how many bytes Read returns, though more may wait.
const readAtOnce = 64 << 10

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
