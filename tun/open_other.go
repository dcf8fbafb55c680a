//go:build !linux

package tun

// Open fails with ErrUnsupported.
func Open(name string, mtu int) (Device, error) { return nil, ErrUnsupported }
