package tun

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// Open creates a network interface with mtu bytes. It is called utun and a number, which
// the system chooses, unless name is of that form. The interface goes away with Close or
// with the process. Errors are ErrNoRights, or what the system answered.
func Open(name string, mtu int) (Device, error) {
	if err := checkMTU(mtu); err != nil {
		return nil, err
	}
	dev, err := wgtun.CreateTUN(utunName(name), mtu)
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w", name, explain(err))
	}
	return newUtun(dev), nil
}

// Available says, without making an interface, whether Open can make one: the error is
// ErrNoRights if the process is not root's.
func Available() error {
	if os.Geteuid() != 0 {
		return explain(unix.EPERM)
	}
	return nil
}

// explain gives the system's error the meaning that it has here.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (root): %w", ErrNoRights, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("another program uses it: %w", err)
	default:
		return err
	}
}
