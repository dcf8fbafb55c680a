//go:build !linux && !windows

package platform

import "net"

// withPath leaves a socket as it is: the path is not probed on this system yet.
func withPath(conn net.PacketConn, _ bool) (net.PacketConn, error) { return conn, nil }
