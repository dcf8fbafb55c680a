package tun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	stackNIC = 1
	// stackQueue is how many packets wait for Read before the stack drops, as a
	// network card's queue does; TCP slows down then.
	stackQueue = 1024
	// nextAddress is how long DialContext tries one of several addresses.
	nextAddress = 5 * time.Second
)

// StackConfig says what the gateway assigned to a [Stack].
type StackConfig struct {
	Addresses []netip.Addr // at least one
	MTU       int          // in bytes
	// DNS are the servers inside the tunnel, in the order in which they are
	// asked. The host's resolver is never used; without servers only addresses
	// can be dialled.
	DNS []netip.Addr
	// SearchDomains are tried for a name without a dot, in this order, before
	// the name itself, and for others after it.
	SearchDomains []string
}

// Stack is a TCP/IP stack inside the process, and the Device that carries its
// packets. It needs no rights and does not touch the host. Programs use it through
// DialContext, ListenPacket and LookupHost, from any number of goroutines.
type Stack struct {
	cfg    StackConfig
	has4   bool
	has6   bool
	net    *stack.Stack
	link   *channel.Endpoint
	closed context.Context
	close  context.CancelFunc
	out    []byte // the packet that Read gives, with Tailroom
	// mu is shared by whatever makes connections, and exclusive for Close: a
	// connection made in the middle of the end would never end itself.
	mu   sync.RWMutex
	once sync.Once
}

var _ Device = (*Stack)(nil)

// NewStack makes a stack with a default route into the tunnel.
func NewStack(cfg StackConfig) (*Stack, error) {
	if err := checkMTU(cfg.MTU); err != nil {
		return nil, err
	}
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("a network stack needs an address")
	}
	s := &Stack{
		cfg:  cfg,
		link: channel.New(stackQueue, uint32(cfg.MTU), ""),
		net: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
			HandleLocal:        true,
		}),
	}
	s.closed, s.close = context.WithCancel(context.Background())
	if err := s.configure(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) configure() error {
	// Selective acknowledgements are off by default. RACK, which is on, answers a
	// burst of losses with one timeout after the other: an upload stood still for
	// longer than its program waits (gVisor issues 6113 and 9778).
	sack, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0)
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &recovery} {
		if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("network stack: TCP: %v", err)
		}
	}
	if err := s.net.CreateNIC(stackNIC, s.link); err != nil {
		return fmt.Errorf("network stack: %v", err)
	}
	for _, addr := range s.cfg.Addresses {
		if !addr.IsValid() {
			return errors.New("network stack: invalid address")
		}
		addr = addr.Unmap().WithZone("")
		full := tcpip.ProtocolAddress{
			Protocol:          protocolOf(addr),
			AddressWithPrefix: tcpip.AddrFromSlice(addr.AsSlice()).WithPrefix(),
		}
		if err := s.net.AddProtocolAddress(stackNIC, full, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("network stack: address %v: %v", addr, err)
		}
		s.has4, s.has6 = s.has4 || addr.Is4(), s.has6 || addr.Is6()
	}
	if s.has4 {
		s.net.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: stackNIC})
	}
	if s.has6 {
		s.net.AddRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: stackNIC})
	}
	return nil
}

// Read implements Device.
func (s *Stack) Read(take func(packet []byte)) error {
	pkt := s.link.ReadContext(s.closed)
	if pkt == nil {
		return os.ErrClosed
	}
	for total := 0; pkt != nil; pkt = s.link.Read() {
		view := pkt.ToView()
		pkt.DecRef()
		s.out = slices.Grow(append(s.out[:0], view.AsSlice()...), Tailroom)
		view.Release()
		take(s.out)
		if total += len(s.out); total >= readAtOnce {
			break
		}
	}
	return nil
}

// Write implements Device. Packets that are not IP are dropped.
func (s *Stack) Write(packets [][]byte) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed.Err() != nil {
		return os.ErrClosed
	}
	for _, packet := range packets {
		s.inject(packet)
	}
	return nil
}

// Answer implements Device, as Write does. Both only wait for Close.
func (s *Stack) Answer(packet []byte) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed.Err() != nil {
		return os.ErrClosed
	}
	s.inject(packet)
	return nil
}

// inject hands a packet to the stack, which takes them from any number of goroutines.
func (s *Stack) inject(packet []byte) {
	if len(packet) == 0 {
		return
	}
	var proto tcpip.NetworkProtocolNumber
	switch packet[0] >> 4 {
	case 4:
		proto = ipv4.ProtocolNumber
	case 6:
		proto = ipv6.ProtocolNumber
	default:
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	s.link.InjectInbound(proto, pkt)
	pkt.DecRef()
}

// MTU implements Device.
func (s *Stack) MTU() (int, error) { return int(s.link.MTU()), nil }

// SetMTU changes the MTU, in bytes, for connections that are made from now on.
func (s *Stack) SetMTU(mtu int) error {
	if err := checkMTU(mtu); err != nil {
		return err
	}
	s.link.SetMTU(uint32(mtu))
	return nil
}

// Name implements Device.
func (s *Stack) Name() (string, error) { return "userspace", nil }

// Close ends all connections and waits until nothing of the stack runs any more.
func (s *Stack) Close() error {
	s.once.Do(func() {
		s.close() // ends what waits under the lock
		s.mu.Lock()
		defer s.mu.Unlock()
		s.net.Destroy()
		s.link.Close()
	})
	return nil
}

// DialContext connects through the tunnel. Network is tcp, tcp4, tcp6, udp, udp4 or
// udp6; address is host:port with a name that [Stack.LookupHost] resolves, or an
// address. Addresses are tried in turn.
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	proto, family := splitNetwork(network)
	if proto == "" {
		return fail(net.UnknownNetworkError(network))
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fail(&net.AddrError{Err: "invalid port", Addr: address})
	}
	addrs, err := s.LookupHost(ctx, host)
	if err != nil {
		return fail(err)
	}
	var last error = &net.AddrError{Err: "no suitable address", Addr: host}
	for i, addr := range addrs {
		if !s.reaches(addr, family) {
			continue
		}
		limit, cancel := ctx, func() {}
		if i < len(addrs)-1 {
			limit, cancel = context.WithTimeout(ctx, nextAddress)
		}
		conn, err := s.dial(limit, proto, netip.AddrPortFrom(addr, uint16(port)))
		cancel()
		if err == nil {
			return conn, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return fail(last)
}

func (s *Stack) dial(ctx context.Context, proto string, to netip.AddrPort) (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed.Err() != nil {
		return nil, net.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()
	remote, number := fullAddress(to), protocolOf(to.Addr())
	if proto == "udp" {
		conn, err := gonet.DialUDP(s.net, nil, &remote, number)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
	conn, err := gonet.DialContextTCP(ctx, s.net, remote, number)
	switch {
	case err == nil:
		return conn, nil
	case s.closed.Err() != nil:
		return nil, net.ErrClosed
	}
	return nil, err
}

// ListenPacket opens an unconnected UDP socket on an ephemeral port of the stack's
// address. Network is udp4 or udp6, or udp for IPv4 where the stack has it.
func (s *Stack) ListenPacket(network string) (net.PacketConn, error) {
	fail := func(err error) (net.PacketConn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	proto, family := splitNetwork(network)
	if proto != "udp" {
		return fail(net.UnknownNetworkError(network))
	}
	if family == 0 && s.has4 {
		family = '4'
	}
	number, has := tcpip.NetworkProtocolNumber(ipv6.ProtocolNumber), s.has6
	if family == '4' {
		number, has = ipv4.ProtocolNumber, s.has4
	}
	if !has {
		return fail(errors.New("the tunnel has no address of this family"))
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed.Err() != nil {
		return fail(net.ErrClosed)
	}
	conn, err := gonet.DialUDP(s.net, &tcpip.FullAddress{NIC: stackNIC}, nil, number)
	if err != nil {
		return fail(err)
	}
	return packetConn{conn}, nil
}

// packetConn refuses addresses on which gVisor's would panic.
type packetConn struct{ *gonet.UDPConn }

func (c packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	if udpAddr, ok := addr.(*net.UDPAddr); !ok || udpAddr == nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: addr, Err: net.InvalidAddrError("not a UDP address")}
	}
	return c.UDPConn.WriteTo(b, addr)
}

// reaches says whether the stack can send to addr, and family ('4', '6' or 0) allows
// it.
func (s *Stack) reaches(addr netip.Addr, family byte) bool {
	if addr.Is4() {
		return s.has4 && family != '6'
	}
	return s.has6 && family != '4'
}

// splitNetwork takes "tcp4" apart; proto is empty when network is unknown.
func splitNetwork(network string) (proto string, family byte) {
	proto = strings.TrimRight(network, "46")
	if proto != "tcp" && proto != "udp" || len(network) > len(proto)+1 {
		return "", 0
	}
	if len(network) > len(proto) {
		family = network[len(proto)]
	}
	return proto, family
}

func protocolOf(addr netip.Addr) tcpip.NetworkProtocolNumber {
	if addr.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: stackNIC, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}
