package tun

import (
	"strings"
	"syscall"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

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
func newUtun(dev wgtun.Device) Device {
	go func() {
		for range dev.Events() {
		}
	}()
	return FromLibrary(utun{dev})
}

// Read leaves out errors of the library's watch of the interface's state: a plain number
// of the system's, where those of the device itself name a file.
func (u utun) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		n, err := u.Device.Read(bufs, sizes, offset)
		if _, watch := err.(syscall.Errno); !watch {
			return n, err
		}
	}
}
