package platform

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// winSocket is a socket whose packets leave by an interface outside of the tunnels. It
// has to be told which: Windows looks a route up for each packet.
type winSocket struct {
	gateway netip.Addr
	// bind makes packets leave by the interface of that index.
	bind func(index uint32) error
	// bound is that index. Owned by the host, under its lock.
	bound uint32
}

// listenPacket implements host.
func (h *winHost) listenPacket(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error) {
	s := &winSocket{gateway: gateway}
	conn, raw, err := h.sys.listen(ctx, gateway, port, func() { h.forget(s) })
	if err != nil {
		return nil, err
	}
	s.bind = func(index uint32) error { return h.sys.bind(raw, gateway.Is6(), index) }
	if err := h.keepOutside(s); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// errOwnESP: Windows' own IPsec takes all packets of IP protocol 50.
var errOwnESP = errors.New("plain ESP is taken by Windows itself; let it be sent in UDP (nat_t = \"auto\")")

// listenESP implements host.
func (h *winHost) listenESP(context.Context, netip.Addr) (net.PacketConn, error) {
	return nil, errOwnESP
}

// dialer implements host. A connection is short, so it is bound once.
func (h *winHost) dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, address string, raw syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		h.mu.Lock()
		index, err := h.outsideLocked(to.Addr().Unmap())
		h.mu.Unlock()
		if err != nil || index == 0 {
			return err
		}
		return h.sys.bind(raw, to.Addr().Is6(), index)
	}}
}

// keepOutside binds a socket, now and whenever the network has changed, until it is
// forgotten.
func (h *winHost) keepOutside(s *winSocket) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unwatch == nil { // before it is looked: what changes after that is told
		if err := h.watchLocked(); err != nil {
			return err
		}
	}
	index, err := h.outsideLocked(s.gateway)
	if err != nil {
		return err
	}
	if err := s.bindTo(index); err != nil {
		return err
	}
	if h.sockets == nil {
		h.sockets = map[*winSocket]bool{}
	}
	h.sockets[s] = true
	return nil
}

func (h *winHost) forget(s *winSocket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets, s)
}

// bindTo binds a socket if it is not bound already. 0 is no interface: a gateway on this
// computer needs none.
func (s *winSocket) bindTo(index uint32) error {
	if index == s.bound {
		return nil
	}
	if err := s.bind(index); err != nil {
		return err
	}
	s.bound = index
	return nil
}

// outsideLocked is the index of the interface by which packets to an address leave outside
// of the tunnels. Without one they go to the loopback interface, which refuses them: a
// tunnel must not carry its own packets.
func (h *winHost) outsideLocked(to netip.Addr) (uint32, error) {
	view, err := h.sys.view()
	if err != nil {
		return 0, err
	}
	return view.outsideIndex(to, h.tunnels), nil
}

// outsideIndex is that of the interface by which packets to an address leave, of the loopback
// interface if there is none, and 0 for this computer's own.
func (v *winView) outsideIndex(to netip.Addr, tunnels []string) uint32 {
	if to.IsLoopback() {
		return 0
	}
	if _, link := v.way(to, tunnels); link != nil {
		return link.Index
	}
	if lo := v.link(func(l *winLink) bool { return l.Kind == ifLoopback }); lo != nil {
		return lo.Index
	}
	return 0
}

// watchLocked binds the open sockets again whenever the network has changed.
func (h *winHost) watchLocked() error {
	hints, hint := newHints()
	stop, err := h.sys.notify(hint)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-hints:
				h.renew()
			case <-done:
				return
			}
		}
	}()
	h.unwatch = func() {
		stop()
		close(done)
	}
	return nil
}

// renew binds each open socket to the interface of the moment.
func (h *winHost) renew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sockets) == 0 {
		return
	}
	view, err := h.sys.view()
	if err != nil {
		h.log.Warn("network: sockets stay with the interface that they had", "error", err)
		return
	}
	for s := range h.sockets {
		if err := s.bindTo(view.outsideIndex(s.gateway, h.tunnels)); err != nil {
			h.log.Warn("network: a socket could not be bound to the outside", "gateway", s.gateway, "error", err)
		}
	}
}
