package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// newHost opens this computer's network. Runs of the computer have no name: a fast start
// keeps what a shutdown would remove, so all that is in a journal is undone, which does no
// harm where it is gone.
func newHost(log *slog.Logger, _ string) (_ host, boot string, _ error) {
	program, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("find this program: %w", err)
	}
	return &winHost{log: log, sys: thisWindows(program)}, "", nil
}

// thisWindows is this computer.
func thisWindows(program string) winSystem {
	return winSystem{
		program: program,
		links:   readLinks, settings: readSettings, setSettings: writeSettings,
		addAddress: addAddress, removeAddress: removeAddress,
		routes: readRoutes, addRoute: addRoute, removeRoute: removeRoute,
		setNames: setNames, reloadNames: reloadNames,
		readKey: readKey, writeKey: writeKey, removeKey: removeKey, subkeys: subkeys,
		engine: openEngine,
		notify: notifyChanges, notifyFilters: notifyFilters, notifyKeys: notifyKeys, notifyPower: notifyPower,
		listen: listenOutside, bind: bindTo,
	}
}

// onSocket sets options of a socket.
func onSocket(raw syscall.RawConn, set func(windows.Handle) error) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = set(windows.Handle(fd)) })
	return errors.Join(err, os.NewSyscallError("setsockopt", failed))
}

// bindTo has a socket's packets leave by an interface.
func bindTo(raw syscall.RawConn, ipv6 bool, index uint32) error {
	return onSocket(raw, winLeaveBy(ipv6, index).set)
}

func (o socketOption) set(fd windows.Handle) error {
	return windows.SetsockoptInt(fd, o.level, o.name, o.value)
}

// pathSocket is a UDP socket of which it can be told whether its datagrams are fragmented,
// and which sends many of them with a call.
type pathSocket struct {
	*net.UDPConn
	raw     syscall.RawConn
	ipv6    bool
	batches winBatches
}

// SetDontFragment forbids that datagrams are fragmented, here or on the way, or allows it.
// While it is forbidden, sending one that is larger than the link takes fails with
// WSAEMSGSIZE; what routers have reported does not count. Windows before 10 1809 knows
// only the older option.
func (s *pathSocket) SetDontFragment(on bool) error {
	option, older := winDontFragment(s.ipv6, on)
	return onSocket(s.raw, func(fd windows.Handle) error {
		if option.set(fd) == nil {
			return nil
		}
		return older.set(fd)
	})
}

// OnTooBig has nothing to call: Windows passes no reports of routers on to UDP sockets. The
// path is found out by what arrives.
func (s *pathSocket) OnTooBig(func(to netip.Addr, mtu int)) {}

// withPath makes a socket know its path.
func withPath(conn net.PacketConn, ipv6 bool) (net.PacketConn, error) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return conn, nil
	}
	raw, err := udp.SyscallConn()
	s := &pathSocket{UDPConn: udp, raw: raw, ipv6: ipv6}
	s.batches = winBatches{
		sendRun: func(run, control []byte, to netip.AddrPort) error {
			_, _, err := udp.WriteMsgUDPAddrPort(run, control, to)
			return err
		},
		sendOne: udp.WriteToUDPAddrPort,
		refuses: func(err error) bool {
			return errors.Is(err, windows.WSAEINVAL) || errors.Is(err, windows.WSAENOPROTOOPT) || errors.Is(err, windows.WSAEOPNOTSUPP)
		},
		apart: err != nil || !sendsRuns(raw),
	}
	return s, err
}

// sendsRuns says whether the system knows how to cut what is sent into datagrams.
func sendsRuns(raw syscall.RawConn) bool {
	return onSocket(raw, func(fd windows.Handle) error {
		_, err := windows.GetsockoptInt(fd, ipprotoUDP, udpSendMsgSize)
		return err
	}) == nil
}

// WriteBatch sends runs of datagrams of segments[i] bytes, the last of a run perhaps
// shorter, a run with a call where the system can do that. It returns how many runs went
// out before the error; of the run after these some datagrams may have gone, too. It never
// sends one twice.
func (s *pathSocket) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	return s.batches.writeBatch(runs, segments, to)
}

// ReadBatch waits for a datagram and puts it into the first of bufs. Windows could give
// more of them in a row (UDP_RECV_MAX_COALESCED_SIZE), but does not always say where one
// ends.
func (s *pathSocket) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (n int, err error) {
	if sizes[0], from[0], err = s.ReadFromUDPAddrPort(bufs[0]); err != nil {
		return 0, err
	}
	segments[0] = sizes[0]
	return 1, nil
}

// outsideSocket is a UDP socket that stays outside of the tunnels.
type outsideSocket struct {
	*pathSocket
	closed func()
}

// Close closes the socket.
func (s *outsideSocket) Close() error {
	s.closed()
	return s.pathSocket.Close()
}

func listenOutside(ctx context.Context, gateway netip.Addr, port uint16, closed func()) (net.PacketConn, syscall.RawConn, error) {
	conn, err := ListenPacket(ctx, gateway, port)
	if err != nil {
		return nil, nil, err
	}
	path, ok := conn.(*pathSocket)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("a %T is no UDP socket", conn), conn.Close())
	}
	// The system's default holds some 50 packets; a refusal only makes the tunnel slower.
	_ = path.SetReadBuffer(receiveBuffer)
	return &outsideSocket{path, closed}, path.raw, nil
}
