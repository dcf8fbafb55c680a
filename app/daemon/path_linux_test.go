package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"wayfarer/ike"
	"wayfarer/ike/esp"
	"wayfarer/ike/gateway"
	"wayfarer/tun"
)

// The path of packets from the host's interface to the wire and back, with nothing in it
// that waits for a clock: the interface's queues are pairs of sockets, and the session's
// datagrams pass through the test's hands.

// The addresses of the path. Each network behind the gateway has its ESP SA.
var (
	pathNetworks = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("fd00:1::/64")}
	pathLocals   = []netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd00:99::1")}
	pathGateway  = netip.MustParseAddr("192.0.2.1")
	pathClient   = netip.MustParseAddr("198.51.100.7")
)

// gate is a session with its gateway, whose ESP the test carries.
type gate struct {
	*ike.Session
	wire *wire
	sas  []*gateway.SAs // as pathNetworks
	// done has a value when lastWord has come: what was before it has been delivered.
	done chan struct{}
}

// lastWord is an inner packet that says that nothing follows; the host does not get it.
func lastWord() []byte {
	return ipPacket(ipHead{src: pathNetworks[0].Addr(), dst: pathLocals[0], proto: 254, ttl: 1}, []byte("last word"))
}

// Receive implements Session.
func (g *gate) Receive(deliver func([][]byte)) {
	if deliver == nil {
		g.Session.Receive(nil)
		return
	}
	last := lastWord()
	g.Session.Receive(func(packets [][]byte) {
		n := len(packets)
		packets = slices.DeleteFunc(packets, func(p []byte) bool { return bytes.Equal(p, last) })
		if len(packets) > 0 {
			deliver(packets)
		}
		if len(packets) < n {
			g.done <- struct{}{}
		}
	})
}

// Kinds of sockets that a gate has.
const (
	byDatagrams = iota
	byRuns      // see runWire
	byHost      // see hostWire
	pathSockets
)

// newGate connects, with an ESP suite, by sockets of a kind.
func newGate(esp string, sockets int) (*gate, error) {
	creds, err := gateway.SelfSigned(pathGateway.String())
	if err != nil {
		return nil, err
	}
	given := make(chan *gateway.SAs, len(pathNetworks))
	gw, err := gateway.New(gateway.Config{
		Chain: creds.Chain, Key: creds.Key, Users: map[string]string{"ada": "secret"},
		Pool: netip.PrefixFrom(pathLocals[0], 32), Pool6: netip.PrefixFrom(pathLocals[1], 128),
		Offices:  []netip.Prefix{netip.PrefixFrom(pathLocals[0], 32), netip.PrefixFrom(pathLocals[1], 128)},
		Handover: func(s *gateway.SAs) { given <- s },
	})
	if err != nil {
		return nil, err
	}
	network := gateway.NewNet()
	var served []gateway.Socket
	for _, port := range []uint16{500, 4500} {
		conn, err := network.Listen(netip.AddrPortFrom(pathGateway, port))
		if err != nil {
			return nil, err
		}
		served = append(served, gateway.Socket{Conn: conn, NonESP: port != 500})
	}
	go gw.Serve(context.Background(), served...)
	suite, err := ike.ParseIKESuite("aes256-sha256-ecp256")
	if err != nil {
		return nil, err
	}
	inner, err := ike.ParseESPSuite(esp)
	if err != nil {
		return nil, err
	}
	g := &gate{done: make(chan struct{}, 1)}
	var wires []*wire
	g.Session, err = ike.Dial(context.Background(), &ike.Config{
		Gateway: pathGateway.String(), Login: "ada", Password: ike.Secret("secret"), IKE: []ike.IKESuite{suite}, ESP: []ike.ESPSuite{inner}, AllowWeak: inner.Weak(),
		Trust:         ike.Trust{CAs: []*x509.Certificate{creds.CA}},
		LocalNetworks: []netip.Prefix{netip.PrefixFrom(pathLocals[0], 32), netip.PrefixFrom(pathLocals[1], 128)}, RemoteNetworks: pathNetworks,
		ListenESP: func(context.Context, netip.Addr) (net.PacketConn, error) { return nil, errors.New("no raw sockets") },
		ListenPacket: func(_ context.Context, _ netip.Addr, port uint16) (net.PacketConn, error) {
			conn, err := network.Listen(netip.AddrPortFrom(pathClient, port))
			if err != nil {
				return nil, err
			}
			w := newWire(conn)
			wires = append(wires, w)
			switch sockets {
			case byRuns:
				return runWire{w}, nil
			case byHost:
				return newHostWire(w)
			}
			return w, nil
		},
	})
	if err != nil {
		return nil, err
	}
	g.sas = make([]*gateway.SAs, len(pathNetworks))
	for range pathNetworks {
		s := <-given
		g.sas[slices.Index(pathNetworks, s.Remote)] = s
	}
	for _, w := range wires { // ESP has one of them
		for i, p := range pathPackets() {
			if err := g.WritePacket(withRoom(p)); err != nil {
				return nil, fmt.Errorf("to network %d: %w", i, err)
			}
		}
		g.Flush()
		if len(w.takeSent()) == len(pathNetworks) {
			g.wire = w
			return g, nil
		}
	}
	return nil, errors.New("no socket carries ESP")
}

// pathPackets are one for each network.
func pathPackets() (packets [][]byte) {
	for i := range pathNetworks {
		packets = append(packets, parcel{network: i, proto: 253}.packet())
	}
	return packets
}

func withRoom(p []byte) []byte { return append(make([]byte, 0, len(p)+ike.Tailroom), p...) }

// open is what the gateway makes of a datagram, and the network whose SA it came by.
func (g *gate) open(datagram []byte) (packet []byte, network int, err error) {
	i := slices.IndexFunc(g.sas, func(s *gateway.SAs) bool { return s.In.SPI() == binary.BigEndian.Uint32(datagram) })
	if i < 0 {
		return nil, 0, errors.New("unknown SPI")
	}
	packet, err = g.sas[i].In.Open(make([]byte, len(datagram)), datagram)
	return packet, i, err
}

// seal is a datagram of the gateway's.
func (g *gate) seal(packet []byte, network int) ([]byte, error) {
	buf := make([]byte, esp.MaxHeadroom+len(packet), esp.MaxHeadroom+len(packet)+esp.MaxTailroom)
	copy(buf[esp.MaxHeadroom:], packet)
	return g.sas[network].Out.Seal(buf, esp.MaxHeadroom, len(packet))
}

// wire is a socket of a session: its IKE goes by the network in memory, ESP to the test.
type wire struct {
	net.PacketConn
	arrivals chan arrival
	ends     chan struct{}

	mu   sync.Mutex
	sent [][]byte // ESP
}

// arrival is a run of datagrams.
type arrival struct {
	run     []byte
	segment int
	from    netip.AddrPort
}

func newWire(conn net.PacketConn) *wire {
	w := &wire{PacketConn: conn, arrivals: make(chan arrival, 1024), ends: make(chan struct{}, 1)}
	go func() {
		for {
			buf := make([]byte, 1<<16)
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				close(w.arrivals)
				return
			}
			w.arrivals <- arrival{buf[:n], n, from.(*net.UDPAddr).AddrPort()}
		}
	}()
	return w
}

func (w *wire) takeSent() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

// SetReadDeadline ends the read that waits, or the next one, or lets them wait again.
func (w *wire) SetReadDeadline(t time.Time) error {
	select {
	case <-w.ends:
	default:
	}
	if !t.IsZero() {
		w.ends <- struct{}{}
	}
	return nil
}

func (w *wire) wait() (arrival, error) {
	select {
	case a, ok := <-w.arrivals:
		if !ok {
			return a, net.ErrClosed
		}
		return a, nil
	case <-w.ends:
		return arrival{}, os.ErrDeadlineExceeded
	}
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	a, err := w.wait()
	return copy(b, a.run), net.UDPAddrFromAddrPort(a.from), err
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) < 4 || to.(*net.UDPAddr).Port == 500 || binary.BigEndian.Uint32(b) == 0 {
		return w.PacketConn.WriteTo(b, to)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, bytes.Clone(b))
	return len(b), nil
}

// runWire is one that takes and gives runs.
type runWire struct{ *wire }

// ReadBatch implements ike.BatchConn.
func (w runWire) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (n int, err error) {
	a, err := w.wait()
	if err != nil {
		return 0, err
	}
	for {
		sizes[n], segments[n], from[n] = copy(bufs[n], a.run), a.segment, a.from
		if n++; n == len(bufs) {
			return n, nil
		}
		select {
		case next, ok := <-w.arrivals:
			if !ok {
				return n, nil
			}
			a = next
		default:
			return n, nil
		}
	}
}

// WriteBatch implements ike.BatchConn.
func (w runWire) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	for i, run := range runs {
		if len(run) > 65507 || len(run) > 64*segments[i] {
			return i, fmt.Errorf("a run of %d bytes by %d", len(run), segments[i])
		}
		for datagram := range slices.Chunk(run, segments[i]) {
			if _, err := w.WriteTo(datagram, net.UDPAddrFromAddrPort(to)); err != nil {
				return i, err
			}
		}
	}
	return len(runs), nil
}

// arrive has datagrams come to the session: in runs, if the socket has some.
func (g *gate) arrive(datagrams [][]byte, runs bool) {
	from := netip.AddrPortFrom(pathGateway, 4500)
	for len(datagrams) > 0 {
		size := len(datagrams[0])
		run := bytes.Clone(datagrams[0])
		datagrams = datagrams[1:]
		for runs && len(run)%size == 0 && len(datagrams) > 0 && len(datagrams[0]) <= size && len(run)+len(datagrams[0]) <= 65507 && len(run) < 64*size {
			run = append(run, datagrams[0]...)
			datagrams = datagrams[1:]
		}
		g.wire.arrivals <- arrival{run, size, from}
	}
}

// pathQueues is how many queues an interface has.
const pathQueues = 16

// interfaceEnd is an interface of Linux, with offloads.
type interfaceEnd struct {
	tun.Device
	near []int // the queues
	host []int // their other ends
}

// Kinds of interfaces that a host has.
const (
	asSegments  = iota // of TCP
	asDatagrams        // UDP together too
	asLibrary          // see libraryEnd
	pathHosts
)

// hostEnd is an interface whose host is the test.
type hostEnd interface {
	tun.Device
	// give has the host hand over a packet behind its offload header, by a queue. It reports
	// false when the queue is full.
	give(whole []byte, queue int) (bool, error)
	// got is what the host has been handed since, in the same form.
	got() [][]byte
}

func newHost(kind int, single bool) (hostEnd, error) {
	if kind == asLibrary {
		host := new(libraryHost)
		return &libraryEnd{Device: tun.FromLibrary(host), host: host}, nil
	}
	return newInterface(kind == asDatagrams, single)
}

// newInterface makes one that takes datagrams together or does not. In a single file, what
// the host is handed keeps its order.
func newInterface(datagrams, single bool) (*interfaceEnd, error) {
	e := new(interfaceEnd)
	for len(e.near) < pathQueues {
		if single && len(e.near) > 0 {
			near, err := unix.FcntlInt(uintptr(e.near[0]), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			e.near = append(e.near, near)
			continue
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		e.near, e.host = append(e.near, pair[0]), append(e.host, pair[1])
		for _, fd := range pair {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20); err != nil { // without rights: less goes at once
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<20)
			}
		}
	}
	var err error
	e.Device, err = tun.FromQueues(&queueDevice{file: os.NewFile(uintptr(e.near[0]), "queue")}, e.near, datagrams)
	return e, err
}

// Close implements tun.Device.
func (e *interfaceEnd) Close() error {
	for _, fd := range e.host {
		unix.Close(fd)
	}
	return e.Device.Close()
}

// Read implements tun.Device. It ends where there is nothing to wait for.
func (e *interfaceEnd) Read(take func([]byte)) error {
	var polls []unix.PollFd
	for _, fd := range e.near {
		polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if n, err := unix.Poll(polls, 0); n == 0 || err != nil {
		return os.ErrClosed
	}
	return e.Device.Read(take)
}

func (e *interfaceEnd) give(whole []byte, queue int) (bool, error) {
	_, err := unix.Write(e.host[queue], whole)
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	return true, err
}

func (e *interfaceEnd) got() (wholes [][]byte) {
	buf := make([]byte, 1<<17)
	for _, fd := range e.host {
		for {
			n, err := unix.Read(fd, buf)
			if err != nil || n == 0 {
				break
			}
			wholes = append(wholes, bytes.Clone(buf[:n]))
		}
	}
	return wholes
}

// queueDevice is what of the library's device is used.
type queueDevice struct {
	wgtun.Device
	file *os.File
}

func (d *queueDevice) File() *os.File { return d.file }
func (d *queueDevice) Close() error   { return d.file.Close() }

// libraryEnd is an interface of the library's, without offloads: it gives one packet with
// each call.
type libraryEnd struct {
	tun.Device // for what the host gets; nothing comes from it
	host       *libraryHost
	given      [][]byte   // until the next Read
	reading    tun.Device // for what the host has given
}

// Read implements tun.Device. It ends where there is nothing to wait for.
func (e *libraryEnd) Read(take func([]byte)) error {
	if e.reading == nil {
		e.reading = tun.FromLibrary(&libraryHost{given: e.given})
		e.given = nil
	}
	err := e.reading.Read(take)
	if err != nil {
		e.reading = nil
	}
	return err
}

func (e *libraryEnd) give(whole []byte, _ int) (bool, error) {
	packets, ok := apart(whole)
	e.given = append(e.given, packets...)
	return ok, nil
}

func (e *libraryEnd) got() (wholes [][]byte) {
	wholes, e.host.got = e.host.got, nil
	return wholes
}

// libraryHost is the library's end. What it is given to read ends.
type libraryHost struct {
	wgtun.Device
	given [][]byte
	got   [][]byte
}

func (h *libraryHost) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if len(h.given) == 0 {
		return 0, os.ErrClosed
	}
	sizes[0] = copy(bufs[0][offset:], h.given[0])
	h.given = h.given[1:]
	return 1, nil
}

func (h *libraryHost) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		h.got = append(h.got, append(make([]byte, 10), b[offset:]...))
	}
	return len(bufs), nil
}

func (*libraryHost) Close() error { return nil }
