package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"
)

// Bounds of UDP ASSOCIATE: what one program may cost that opens associations and
// forgets them.
const (
	maxAssociations = 32
	maxFlows        = 64    // destinations of one association
	maxQueued       = 16    // datagrams that wait while a destination is looked up
	maxDatagram     = 65535 // bytes, of UDP

	idleFlow        = 2 * time.Minute // RFC 4787 §4.3
	idleAssociation = 10 * time.Minute
)

// relay answers UDP ASSOCIATE (RFC 1928 §7).
type relay struct {
	dial  dialFunc
	may   func(from netip.AddrPort) bool // who may send
	slots chan struct{}                  // one for each association
}

// association passes the datagrams of one program on.
type association struct {
	*relay
	conn   net.PacketConn
	wanted *statute.AddrSpec // where the program says that it sends from; may be zero
	client net.Addr          // where it does, from its first datagram on

	mu    sync.Mutex
	flows map[string]chan<- []byte // to destinations, by their address
}

// associate implements the server's handler. It returns when the program's connection
// to the proxy ends (RFC 1928 §7), or when nothing has come for long; the server then
// closes that.
func (r *relay) associate(ctx context.Context, w io.Writer, req *socks5.Request) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return errors.Join(errors.New("too many UDP associations"), socks5.SendReply(w, statute.RepServerFailure, nil))
	}
	at := addrPort(req.LocalAddr)
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0)))
	if err != nil {
		return errors.Join(err, socks5.SendReply(w, statute.RepServerFailure, nil))
	}
	defer conn.Close()
	if err := socks5.SendReply(w, statute.RepSuccess, conn.LocalAddr()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, req.Reader) // which ends with the connection
		conn.Close()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &association{relay: r, conn: conn, wanted: req.DestAddr, flows: map[string]chan<- []byte{}}
	return a.serve(ctx)
}

// serve passes on what the program sends.
func (a *association) serve(ctx context.Context) error {
	buf := make([]byte, maxDatagram)
	for {
		a.touch()
		n, from, err := a.conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if !a.isClient(from) {
			continue
		}
		d, err := statute.ParseDatagram(buf[:n])
		if err != nil || d.Frag != 0 { // which need not be put together (RFC 1928 §7)
			continue
		}
		a.forward(ctx, &d)
	}
}

// touch begins the association's idle time anew.
func (a *association) touch() { _ = a.conn.SetReadDeadline(time.Now().Add(idleAssociation)) }

// isClient says whether a datagram is of the program whose association this is: the
// first one that may send, from where it said that it would.
func (a *association) isClient(from net.Addr) bool {
	at := addrPort(from)
	if a.client != nil {
		return at == addrPort(a.client)
	}
	said, _ := netip.AddrFromSlice(a.wanted.IP)
	said = said.Unmap()
	switch {
	case said.IsValid() && !said.IsUnspecified() && said != at.Addr(),
		a.wanted.Port != 0 && a.wanted.Port != int(at.Port()),
		!a.may(at):
		return false
	}
	a.client = from
	return true
}

// forward hands a datagram to the flow of its destination, and begins one if there is
// none yet. What is too much is lost, as everywhere with UDP.
func (a *association) forward(ctx context.Context, d *statute.Datagram) {
	to := d.DstAddr.String()
	a.mu.Lock()
	defer a.mu.Unlock()
	flow := a.flows[to]
	if flow == nil {
		if len(a.flows) == maxFlows {
			return
		}
		queue := make(chan []byte, maxQueued)
		a.flows[to], flow = queue, queue
		go a.run(ctx, to, d.Header(), queue)
	}
	select {
	case flow <- bytes.Clone(d.Data):
	default:
	}
}

// run is a flow: it passes datagrams to a destination, and what comes back to the
// program, until neither has come for a while.
func (a *association) run(ctx context.Context, to string, header []byte, queue <-chan []byte) {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.flows, to)
	}()
	conn, err := a.dial(ctx, "udp", to)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	touch := func() { _ = conn.SetReadDeadline(time.Now().Add(idleFlow)) }
	touch()
	go func() {
		defer cancel()
		a.back(conn, header, touch)
	}()
	for {
		select {
		case data := <-queue:
			touch()
			if _, err := conn.Write(data); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// back passes what comes from a destination to the program, behind the header that
// names the destination as the program did.
func (a *association) back(conn net.Conn, header []byte, touch func()) {
	buf := make([]byte, len(header)+maxDatagram)
	copy(buf, header)
	for {
		n, err := conn.Read(buf[len(header):])
		if err != nil {
			return
		}
		touch()
		a.touch()
		if _, err := a.conn.WriteTo(buf[:len(header)+n], a.client); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}
