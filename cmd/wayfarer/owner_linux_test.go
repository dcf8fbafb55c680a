package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketOf makes a socket of another user, or of this one (-1).
func socketOf(t *testing.T, uid, family, kind int) int {
	t.Helper()
	if uid >= 0 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		own, err := unix.SetfsuidRetUid(uid)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Setfsuid(own)
		if now, _ := unix.SetfsuidRetUid(-1); now != uid {
			t.Skip("only root can be another user")
		}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no socket: %v", err)
	}
	return fd
}

// connectAs connects a socket of a user, which may speak IPv4 from one of IPv6.
func connectAs(t *testing.T, uid, family, kind int, to net.Addr) net.Conn {
	t.Helper()
	fd := socketOf(t, uid, family, kind)
	at := addrPort(to)
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	if family == unix.AF_INET6 {
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	if err := unix.Connect(fd, sa); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// nobody is a user that this test is not.
const nobody = 65534

func TestProxyIsThisUsers(t *testing.T) {
	listener, err := listenProxy("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if !listener.own {
		t.Skip("the kernel does not tell whose a socket is (sock_diag)")
	}
	if others := listener.openTo(); others != "" {
		t.Errorf("said to be open: %s", others)
	}
	refused := 0
	listener.refused = func() { refused++ }
	accepted, ended := make(chan net.Conn, 10), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		own := connectAs(t, -1, family, unix.SOCK_STREAM, listener.Addr())
		conn := <-accepted
		if conn.RemoteAddr().String() != addrPort(own.LocalAddr()).String() {
			t.Errorf("accepted %v", conn.RemoteAddr())
		}
		conn.Close()
	}
	for range 2 {
		stranger := connectAs(t, nobody, unix.AF_INET, unix.SOCK_STREAM, listener.Addr())
		stranger.SetReadDeadline(time.Now().Add(10 * time.Second)) // never, unless the proxy takes it
		if n, err := stranger.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("a stranger reads %d bytes, %v", n, err)
		}
	}
	listener.Close()
	<-ended
	if refused != 1 {
		t.Errorf("told %d times", refused)
	}
}

// A socket that its program has closed is nobody's: its user is not known any more.
func TestClosedSocketIsNobodys(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	end, other := addrPort(client.LocalAddr()), addrPort(listener.Addr())
	if !tellsOwners(listener) || !ownsTCP(end, other) {
		t.Skip("the kernel does not tell whose a socket is (sock_diag)")
	}
	client.Close()
	if ownsTCP(end, other) {
		t.Error("a closed socket is taken for this user's")
	}
	if ownsTCP(other, end) {
		t.Error("a connection that is not accepted yet is taken for a program's")
	}
}

func TestDatagramsAreThisUsers(t *testing.T) {
	proxy, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	wildcard, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer wildcard.Close()
	local := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addrPort(wildcard.LocalAddr()).Port())
	for name, tt := range map[string]struct {
		from netip.AddrPort
		want bool
	}{
		"connected":   {addrPort(connectAs(t, -1, unix.AF_INET, unix.SOCK_DGRAM, proxy.LocalAddr()).LocalAddr()), true},
		"of IPv6":     {addrPort(connectAs(t, -1, unix.AF_INET6, unix.SOCK_DGRAM, proxy.LocalAddr()).LocalAddr()), true},
		"unconnected": {local, true},
		"stranger":    {addrPort(connectAs(t, nobody, unix.AF_INET, unix.SOCK_DGRAM, proxy.LocalAddr()).LocalAddr()), false},
		"none":        {netip.MustParseAddrPort("127.0.0.1:1"), false},
	} {
		if got := ownsUDP(tt.from); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
