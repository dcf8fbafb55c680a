package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// macSockets are the sockets that stay outside of the tunnels.
type macSockets struct {
	mu      sync.Mutex
	bound   map[*macSocket]bool
	tunnels []string // interfaces of the wish that stands or comes
	end     func()   // of the watch for new ways; nil: there is none
}

// macSocket is a UDP socket to a gateway. It sends by the interface by which the gateway
// is reached without the tunnels, and by another one when that changes.
type macSocket struct {
	*net.UDPConn
	h       *macHost
	raw     syscall.RawConn
	gateway netip.Addr
	pass    macPass
	way     atomic.Pointer[macLink] // nil: there was none yet
	tooBig  atomic.Pointer[func(to netip.Addr, mtu int)]
}

// errNoWay: there is no network, and without a way that is known the routes would lead
// into a tunnel.
var errNoWay = fmt.Errorf("no interface leads outside of the tunnels: %w", syscall.ENETUNREACH)

// listenPacket implements host.
func (h *macHost) listenPacket(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error) {
	udp, err := listenUDP(ctx, gateway, port)
	if err != nil {
		return nil, err
	}
	_ = udp.SetReadBuffer(receiveBuffer) // a refusal only makes the tunnel slower
	s := &macSocket{UDPConn: udp, h: h, gateway: gateway}
	s.pass = macPass{protocol: "udp", from: udp.LocalAddr().(*net.UDPAddr).AddrPort().Port(), to: gateway.WithZone("")}
	if s.raw, err = udp.SyscallConn(); err == nil {
		err = h.adopt(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if calls := h.sys.batches(); calls.send != nil {
		return newMacBatchSocket(s, calls), nil
	}
	return s, nil
}

// adopt binds a socket, from now on to whatever interface leads outside.
func (h *macHost) adopt(ctx context.Context, s *macSocket) error {
	if err := h.pass(ctx, s.pass); err != nil {
		return err
	}
	h.sockets.mu.Lock()
	h.sockets.bound[s] = true
	watched := h.sockets.end != nil
	h.sockets.mu.Unlock()
	if !watched {
		if err := h.watchWays(); err != nil {
			return err
		}
	}
	return h.rebind()
}

// watchWays binds the sockets anew whenever the network has changed.
func (h *macHost) watchWays() error {
	ctx, end := context.WithCancel(context.Background())
	hints, err := h.sys.changes(ctx)
	if err != nil {
		end()
		return err
	}
	h.sockets.mu.Lock()
	defer h.sockets.mu.Unlock()
	if h.sockets.end != nil {
		end()
		return nil
	}
	h.sockets.end = end
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hints:
				if err := h.rebind(); err != nil {
					h.log.Warn("network: sockets stay with the interface that they had", "error", err)
				}
			}
		}
	}()
	return nil
}

// rebind has each socket send by the interface that leads outside now. One that has no
// way any more keeps the last.
func (h *macHost) rebind() error {
	h.sockets.mu.Lock()
	defer h.sockets.mu.Unlock()
	view, err := h.view(h.sockets.tunnels)
	if err != nil {
		return err
	}
	var failed []error
	for s := range h.sockets.bound {
		now := view.way(s.gateway)
		if was := s.way.Load(); now == nil || was != nil && was.Index == now.Index && was.MTU == now.MTU {
			continue
		}
		if err := h.sys.bind(s.raw, s.gateway.Is6(), now.Index); err != nil {
			failed = append(failed, fmt.Errorf("bind to %s: %w", now.Name, err))
			continue
		}
		s.way.Store(now)
	}
	return errors.Join(failed...)
}

// avoid says which interfaces are tunnels.
func (s *macSockets) avoid(tunnels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tunnels = tunnels
}

// gateways are those of the open sockets.
func (s *macSockets) gateways() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []netip.Addr
	for socket := range s.bound {
		all = appendNew(all, socket.gateway)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

func (s *macSockets) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		s.end()
		s.end = nil
	}
}

// Close implements net.PacketConn.
func (s *macSocket) Close() error {
	s.h.sockets.mu.Lock()
	delete(s.h.sockets.bound, s)
	s.h.sockets.mu.Unlock()
	s.h.unpass(s.pass)
	return s.UDPConn.Close()
}

// WriteToUDPAddrPort sends a datagram, unless there was no way outside yet.
func (s *macSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if s.way.Load() == nil {
		return 0, errNoWay
	}
	n, err := s.UDPConn.WriteToUDPAddrPort(b, to)
	s.reportSize(to.Addr(), err)
	return n, err
}

// WriteTo implements net.PacketConn.
func (s *macSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("a %T is no address of UDP", to)
	}
	return s.WriteToUDPAddrPort(b, udp.AddrPort())
}

// SetDontFragment forbids that datagrams are fragmented, here or on the way, or allows
// it. While it is forbidden, sending one that is larger than the link takes fails.
func (s *macSocket) SetDontFragment(on bool) error {
	return s.h.sys.dontFragment(s.raw, s.gateway.Is6(), on)
}

// OnTooBig has f called when a datagram is larger than the mtu bytes, IP header included,
// that the interface takes. What routers say, macOS tells only the sockets that have one
// peer for ever.
func (s *macSocket) OnTooBig(f func(to netip.Addr, mtu int)) { s.tooBig.Store(&f) }

func (s *macSocket) reportSize(to netip.Addr, err error) {
	f, way := s.tooBig.Load(), s.way.Load()
	if f != nil && way != nil && way.MTU > 0 && errors.Is(err, syscall.EMSGSIZE) {
		(*f)(to, way.MTU)
	}
}

// errKernelESP: the kernel's own IPsec takes IP protocol 50, and shows it to no socket.
var errKernelESP = fmt.Errorf("the kernel keeps IP protocol 50 for itself: %w", ErrUnsupported)

// listenESP implements host.
func (h *macHost) listenESP(context.Context, netip.Addr) (net.PacketConn, error) {
	return nil, errKernelESP
}

// dialer implements host: its sockets are bound once, and a block lets root's packets to
// where they lead through.
func (h *macHost) dialer() *net.Dialer {
	return &net.Dialer{ControlContext: func(ctx context.Context, network, address string, c syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if to.Addr().IsLoopback() {
			return nil
		}
		h.sockets.mu.Lock()
		tunnels := h.sockets.tunnels
		h.sockets.mu.Unlock()
		view, err := h.view(tunnels)
		if err != nil {
			return err
		}
		link := view.way(to.Addr())
		if link == nil {
			return errNoWay
		}
		if err := h.pass(ctx, macPass{protocol: network[:3], to: to.Addr().WithZone(""), port: to.Port()}); err != nil {
			return err
		}
		return h.sys.bind(c, to.Addr().Is6(), link.Index)
	}}
}
