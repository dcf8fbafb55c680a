//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"wayfarer/ike"
	"wayfarer/ike/esp"
	"wayfarer/platform"
	"wayfarer/tun"
)

// pipe is a TUN device and a UDP socket. outward and inward carry packets from one to the
// other until something fails.
type pipe interface {
	outward(codec) error
	inward(codec) error
	// ike has datagrams that are IKE (RFC 3948 §2) given to take, which keeps nothing.
	// It is called before inward.
	ike(take func(b []byte, from netip.AddrPort))
	writeTo(b []byte, to netip.AddrPort) error
	local() net.Addr
}

func (e *endpoint) open() (pipe, error) {
	switch e.io {
	case "whole":
		return openWhole(e)
	case "single":
		return openSingle(e)
	case "library":
		return openLibrary(e)
	}
	return nil, fmt.Errorf("io %q is not known", e.io)
}

// isIKE tells the datagrams of port 4500 apart. Keepalives are taken for IKE.
func isIKE(b []byte) bool { return len(b) < 4 || binary.BigEndian.Uint32(b) == 0 }

// receiveBuffer is what the sockets hold, in bytes, as much as the client's.
const receiveBuffer = 1 << 20

// batchSocket is what package platform gives.
type batchSocket interface {
	ike.BatchConn
	syscall.Conn
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

func listen(port int) (batchSocket, error) {
	c, err := platform.ListenPacket(context.Background(), farOutside, uint16(port))
	if err != nil {
		return nil, err
	}
	socket, ok := c.(batchSocket)
	if !ok {
		return nil, errors.New("this system's sockets take no batches")
	}
	return socket, holdMuch(socket)
}

// holdMuch gives a socket its receiveBuffer, whatever the system's limit is.
func holdMuch(socket syscall.Conn) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = os.NewSyscallError("SO_RCVBUFFORCE", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer))
	})
	return errors.Join(err, refused)
}

// whole moves packets as the client does: what the host hands over whole leaves with one
// call, and the reverse.
type whole struct {
	device tun.Device
	socket batchSocket
	taken  func(b []byte, from netip.AddrPort)

	// owned by outward
	out ike.Batch
	to  netip.AddrPort
}

// batchReads is how many runs one call takes from the socket.
const batchReads = 8

func openWhole(e *endpoint) (*whole, error) {
	device, err := tun.Open(e.device, e.mtu)
	if err != nil {
		return nil, err
	}
	socket, err := listen(e.port)
	return &whole{device: device, socket: socket}, err
}

func (w *whole) ike(take func([]byte, netip.AddrPort)) { w.taken = take }

func (w *whole) writeTo(b []byte, to netip.AddrPort) error {
	_, err := w.socket.WriteToUDPAddrPort(b, to)
	return err
}

func (w *whole) local() net.Addr { return w.socket.LocalAddr() }

func (w *whole) outward(c codec) error {
	take := func(packet []byte) {
		dst, ok := w.out.Room(len(packet) + codecRoom)
		if !ok {
			w.flush(c)
			dst, _ = w.out.Room(len(packet) + codecRoom)
		}
		b, to := c.seal(dst, packet)
		if b == nil {
			return
		}
		if to != w.to {
			w.flush(c) // which finishes this one, too
			first, _ := w.out.Room(len(b))
			copy(first, b)
			w.to = to
		}
		w.out.Add(len(b))
	}
	for {
		err := w.device.Read(take)
		w.flush(c)
		if err != nil {
			return err
		}
	}
}

func (w *whole) flush(c codec) {
	c.finish()
	for runs, segments := w.out.Runs, w.out.Segments; len(runs) > 0; {
		n, err := w.socket.WriteBatch(runs, segments, w.to)
		if err == nil {
			break
		}
		runs, segments = runs[n+1:], segments[n+1:] // one is lost
	}
	w.out.Empty()
}

func (w *whole) inward(c codec) error {
	bufs, sizes, segments, from := make([][]byte, batchReads), make([]int, batchReads), make([]int, batchReads), make([]netip.AddrPort, batchReads)
	for i := range bufs {
		bufs[i] = make([]byte, 64<<10)
	}
	var packets [][]byte
	for {
		n, err := w.socket.ReadBatch(bufs, sizes, segments, from)
		if err != nil {
			return err
		}
		packets = packets[:0]
		for i := range n {
			for run := bufs[i][:sizes[i]]; len(run) > 0; {
				b := run[:min(segments[i], len(run))]
				run = run[len(b):]
				if w.taken != nil && isIKE(b) {
					w.taken(b, from[i])
				} else if packet := c.open(b); packet != nil {
					packets = append(packets, packet)
				}
			}
		}
		_ = w.device.Write(packets) // what the host refuses is lost
	}
}

// single makes a call for each packet and each datagram, as most gateways do.
type single struct {
	device *os.File
	socket batchSocket
	taken  func(b []byte, from netip.AddrPort)
}

func openSingle(e *endpoint) (*single, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(e.device)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	socket, err := listen(e.port)
	return &single{device: os.NewFile(uintptr(fd), "/dev/net/tun"), socket: socket}, err
}

func (s *single) ike(take func([]byte, netip.AddrPort)) { s.taken = take }

func (s *single) writeTo(b []byte, to netip.AddrPort) error {
	_, err := s.socket.WriteToUDPAddrPort(b, to)
	return err
}

func (s *single) local() net.Addr { return s.socket.LocalAddr() }

func (s *single) outward(c codec) error {
	packet, datagram := make([]byte, tun.MaxMTU+esp.MaxTrailer), make([]byte, tun.MaxMTU+codecRoom)
	for {
		n, err := s.device.Read(packet[:tun.MaxMTU])
		if err != nil {
			return err
		}
		if b, to := c.seal(datagram, packet[:n]); b != nil {
			c.finish()
			_ = s.writeTo(b, to) // what does not leave is lost
		}
	}
}

func (s *single) inward(c codec) error {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.socket.(interface {
			ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
		}).ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if s.taken != nil && isIKE(buf[:n]) {
			s.taken(buf[:n], from)
		} else if packet := c.open(buf[:n]); packet != nil {
			_, _ = s.device.Write(packet) // what the host refuses is lost
		}
	}
}

// library moves packets by wireguard's packages tun and conn.
type library struct {
	device  wgtun.Device
	bind    conn.Bind
	receive []conn.ReceiveFunc
}

func openLibrary(e *endpoint) (*library, error) {
	device, err := wgtun.CreateTUN(e.device, e.mtu)
	if err != nil {
		return nil, err
	}
	bind := conn.NewStdNetBind()
	receive, _, err := bind.Open(uint16(e.port))
	return &library{device: device, bind: bind, receive: receive}, err
}

// ike: this end has static keys only.
func (l *library) ike(func([]byte, netip.AddrPort)) {}

func (l *library) writeTo([]byte, netip.AddrPort) error { return errors.ErrUnsupported }
func (l *library) local() net.Addr                      { return new(net.UDPAddr) }

// libraryOffset is the room that the library wants before a packet that it writes.
const libraryOffset = 16

func (l *library) outward(c codec) error {
	n := l.bind.BatchSize()
	packets, datagrams, sizes := make([][]byte, n), make([][]byte, n), make([]int, n)
	for i := range packets {
		packets[i], datagrams[i] = make([]byte, tun.MaxMTU+libraryOffset+esp.MaxTrailer), make([]byte, tun.MaxMTU+codecRoom)
	}
	var to netip.AddrPort
	var endpoint conn.Endpoint
	var batch [][]byte
	for {
		n, err := l.device.Read(packets, sizes, libraryOffset)
		if err != nil && !errors.Is(err, wgtun.ErrTooManySegments) {
			return err
		}
		batch = batch[:0]
		for i := range n {
			b, peer := c.seal(datagrams[i], packets[i][libraryOffset:libraryOffset+sizes[i]])
			if b == nil {
				continue
			}
			if peer != to {
				if endpoint, err = l.bind.ParseEndpoint(peer.String()); err != nil {
					return err
				}
				to = peer
			}
			batch = append(batch, b)
		}
		c.finish()
		if len(batch) > 0 {
			_ = l.bind.Send(batch, endpoint) // what does not leave is lost
		}
	}
}

// inward reads IPv4 only: StdNetBind gives a function for each family.
func (l *library) inward(c codec) error {
	n := l.bind.BatchSize()
	bufs, rooms, sizes, endpoints := make([][]byte, n), make([][]byte, n), make([]int, n), make([]conn.Endpoint, n)
	for i := range bufs {
		rooms[i] = make([]byte, libraryOffset+64<<10)
		bufs[i] = rooms[i][libraryOffset:]
	}
	var packets [][]byte
	for {
		n, err := l.receive[0](bufs, sizes, endpoints)
		if err != nil {
			return err
		}
		packets = packets[:0]
		for i := range n {
			packet := c.open(bufs[i][:sizes[i]])
			if packet == nil {
				continue
			}
			begin := cap(rooms[i]) - cap(packet) // the header behind it is the library's
			packets = append(packets, rooms[i][begin-libraryOffset:begin+len(packet)])
		}
		_, _ = l.device.Write(packets, libraryOffset) // what the host refuses is lost
	}
}
