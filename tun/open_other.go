//go:build !linux && !windows

package tun

// Available fails with ErrUnsupported.
func Available() error { return ErrUnsupported }

// Open fails with ErrUnsupported.
func Open(name string, mtu int) (Device, error) { return nil, ErrUnsupported }
