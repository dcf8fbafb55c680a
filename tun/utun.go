package tun

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// utunHeader is what the library needs before a packet, in bytes: macOS's utun says there
// which address family it is of.
const utunHeader = 4

// utunName is what the library understands of a name: an interface of macOS is called
// utun and a number, which the system chooses unless the name has one.
func utunName(name string) string {
	if number, ok := strings.CutPrefix(name, "utun"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
		return name
	}
	return "utun"
}

// utun smooths what the library says differently from Device on macOS.
type utun struct{ wgtun.Device }

// newUtun takes a device over. The library tells of the interface's state, which is
// nothing to us, to a channel that somebody has to read.
func newUtun(dev wgtun.Device) *utun {
	go func() {
		for range dev.Events() {
		}
	}()
	return &utun{dev}
}

// Read leaves out errors of the library's watch of the interface's state: a plain number
// of the system's, where those of the device itself name a file.
func (u *utun) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if offset < utunHeader {
		return 0, fmt.Errorf("utun needs %d bytes before a packet, not %d", utunHeader, offset)
	}
	for {
		n, err := u.Device.Read(bufs, sizes, offset)
		if _, watch := err.(syscall.Errno); !watch {
			return n, err
		}
	}
}

// Write hands over each packet by itself, for the library ends with the first one that
// the system refuses.
func (u *utun) Write(bufs [][]byte, offset int) (int, error) {
	if offset < Headroom {
		return 0, fmt.Errorf("a packet needs %d bytes before it, not %d", Headroom, offset)
	}
	var refused []error
	for i, b := range bufs {
		if len(b) <= offset {
			refused = append(refused, errors.New("a packet without a byte"))
		} else if _, err := u.Device.Write(bufs[i:i+1], offset); err != nil {
			refused = append(refused, err)
		}
	}
	if len(refused) > 0 {
		return 0, errors.Join(refused...)
	}
	return len(bufs), nil
}
