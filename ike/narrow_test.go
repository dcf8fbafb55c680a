package ike

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// narrow is a socket whose datagrams take a link and then a path of some size.
type narrow struct {
	net.PacketConn
	header int // of IP, and UDP unless the socket is a raw one

	mu         sync.Mutex
	link, path int
	silent     bool // routers do not say that a datagram was too large
	whole      bool // fragmentation is forbidden
	tooBig     func(netip.Addr, int)
	largest    int // of the datagrams that arrived whole
	fragmented []int
	sizes      []int // of all that left
}

func (c *narrow) SetDontFragment(on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = on
	return nil
}

func (c *narrow) OnTooBig(f func(netip.Addr, int)) { c.tooBig = f }

// takes reports whether the link takes a datagram of a size.
func (c *narrow) takes(size int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return size <= c.link || !c.whole
}

func (c *narrow) WriteTo(b []byte, to net.Addr) (int, error) {
	if !c.takes(len(b) + c.header) {
		return 0, syscall.EMSGSIZE
	}
	c.carry(len(b) + c.header)
	c.mu.Lock()
	lost := c.whole && len(b)+c.header > c.path
	c.mu.Unlock()
	if lost {
		if !c.silent {
			c.tooBig(gatewayAddr, c.path)
		}
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

// carry notes a datagram that the link takes.
func (c *narrow) carry(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes = append(c.sizes, size)
	switch {
	case size > min(c.link, c.path) && !c.whole:
		c.fragmented = append(c.fragmented, size)
	case size <= c.path:
		c.largest = max(c.largest, size)
	}
}

func (c *narrow) set(path int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.path = path
}

// forget begins the notes anew.
func (c *narrow) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.largest, c.fragmented, c.sizes = 0, nil, nil
}

// noted is how large datagrams were.
func (c *narrow) noted() (largest int, fragmented, all []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.largest, slices.Clone(c.fragmented), slices.Clone(c.sizes)
}

// narrowAddrs is a narrow socket that gives and takes addresses.
type narrowAddrs struct{ *narrow }

func (c narrowAddrs) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	return addrConn{c.narrow}.ReadFromUDPAddrPort(b)
}

func (c narrowAddrs) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return addrConn{c.narrow}.WriteToUDPAddrPort(b, to)
}

// narrowRuns is a narrow socket that takes and gives runs.
type narrowRuns struct {
	*narrow
	t     testing.TB
	reads BatchConn
}

func (c narrowRuns) ReadBatch(bufs [][]byte, sizes, segments []int, from []netip.AddrPort) (int, error) {
	return c.reads.ReadBatch(bufs, sizes, segments, from)
}

// WriteBatch sends nothing of a run whose segments are larger than the link takes, as
// UDP_SEGMENT does. What a router does not pass on is lost datagram by datagram.
func (c narrowRuns) WriteBatch(runs [][]byte, segments []int, to netip.AddrPort) (int, error) {
	for i := range runs {
		if !c.takes(segments[i] + c.header) {
			return i, syscall.EMSGSIZE
		}
		if _, err := (&runConn{PacketConn: c.narrow, t: c.t}).WriteBatch(runs[i:i+1], segments[i:], to); err != nil {
			return i, err
		}
	}
	return len(runs), nil
}

// overPath has the client's datagrams take a path of some size, about whose limit
// nobody says anything.
func (w *world) overPath(size int) *narrow {
	c := &narrow{header: 28, link: 1500, path: size, silent: true, whole: true}
	listen := w.client.ListenPacket
	w.client.ListenPacket = func(ctx context.Context, gw netip.Addr, port uint16) (_ net.PacketConn, err error) {
		if gw.Is6() {
			c.header = 48
		}
		if c.PacketConn, err = listen(ctx, gw, port); err != nil {
			return nil, err
		}
		switch conn := c.PacketConn.(type) {
		case BatchConn:
			return narrowRuns{c, w.t, conn}, nil
		case addrPortConn:
			return narrowAddrs{c}, nil
		}
		return c, nil
	}
	return c
}
