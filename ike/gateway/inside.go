package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Inside is a network behind the gateway: one host with a userspace network stack.
// On all its addresses it has
//
//	TCP 80      a web page; GET /bytes?n=N sends N bytes (at most 1 GiB), POST to
//	            any path swallows what is sent and says how much it was
//	UDP, TCP 53 a name server for Hosts
//	UDP, TCP 7  echo; also ping
type Inside struct {
	Addresses []netip.Addr          // IPv4
	Hosts     map[string]netip.Addr // IPv4 addresses by full name without the last dot
}

const (
	insideQueue = 1024 // packets on their way into the stack; more are lost
	insideMTU   = 1300 // fits any usual path when it is in ESP in UDP
	insideNIC   = 1

	// insideSendBuffer is how much a TCP connection sends ahead: less than the
	// 208 KiB that a client's UDP socket holds on Linux, so that a burst is not lost.
	insideSendBuffer = 128 << 10

	maxBytes   = 1 << 30         // of a download
	idleLife   = 2 * time.Minute // of a connection on which nothing happens
	maxDNSTCP  = 1 << 16
	maxDatagrm = 2048 // of UDP services; the MTU keeps them smaller
)

// insideStack is an Inside that runs.
type insideStack struct {
	config   *Inside
	link     *channel.Endpoint
	stack    *stack.Stack
	services sync.WaitGroup // everything that runs
	closers  []io.Closer
	ctx      context.Context // ends the packets' reader
	cancel   context.CancelFunc
}

func (i *Inside) start() (*insideStack, error) {
	s := &insideStack{config: i, link: channel.New(insideQueue, insideMTU, ""), stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.configure(); err != nil {
		s.close()
		return nil, err
	}
	if err := s.serve(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *insideStack) configure() error {
	// Selective acknowledgements are off by default; RACK, which is on, answers
	// losses with one timeout after the other.
	sack, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 1 << 12, Default: insideSendBuffer, Max: insideSendBuffer}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &send} {
		if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("inside network: TCP: %v", err)
		}
	}
	if err := s.stack.CreateNIC(insideNIC, s.link); err != nil {
		return fmt.Errorf("inside network: %v", err)
	}
	for _, a := range s.config.Addresses {
		if !a.Is4() {
			return fmt.Errorf("inside network: address %v: want IPv4", a)
		}
		address := tcpip.ProtocolAddress{
			Protocol:          ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddrFrom4(a.As4()).WithPrefix(),
		}
		if err := s.stack.AddProtocolAddress(insideNIC, address, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("inside network: address %v: %v", a, err)
		}
	}
	s.stack.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: insideNIC})
	return nil
}

// serve starts the services.
func (s *insideStack) serve() error {
	for _, service := range []struct {
		port   uint16
		handle func(net.Conn)
	}{{7, echo}, {53, s.dnsOverTCP}} {
		l, err := s.listen(service.port)
		if err != nil {
			return err
		}
		s.services.Go(func() { s.accept(l, service.handle) })
	}
	for _, service := range []struct {
		port   uint16
		answer func([]byte) []byte
	}{{7, func(b []byte) []byte { return b }}, {53, s.dns}} {
		c, err := gonet.DialUDP(s.stack, &tcpip.FullAddress{NIC: insideNIC, Port: service.port}, nil, ipv4.ProtocolNumber)
		if err != nil {
			return fmt.Errorf("inside network: UDP port %d: %w", service.port, err)
		}
		s.closers = append(s.closers, c)
		s.services.Go(func() { answerDatagrams(c, service.answer) })
	}
	l, err := s.listen(80)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(page), ReadHeaderTimeout: idleLife, IdleTimeout: idleLife}
	s.closers = append(s.closers, server)
	s.services.Go(func() { _ = server.Serve(l) }) // ends by Close only
	return nil
}

func (s *insideStack) listen(port uint16) (net.Listener, error) {
	l, err := gonet.ListenTCP(s.stack, tcpip.FullAddress{NIC: insideNIC, Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("inside network: TCP port %d: %w", port, err)
	}
	s.closers = append(s.closers, l)
	return l, nil
}

// accept serves every connection until it ends or the stack does.
func (s *insideStack) accept(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.services.Go(func() {
			stop := context.AfterFunc(s.ctx, func() { c.Close() })
			defer stop()
			defer c.Close()
			handle(c)
		})
	}
}

// run moves packets between the loop and the stack, until the stack and the channel
// from are closed.
func (s *insideStack) run(to chan<- []byte, from <-chan []byte) {
	s.services.Go(func() { s.read(to) })
	s.services.Go(func() { s.write(from) })
}

// read takes the stack's packets to the loop.
func (s *insideStack) read(to chan<- []byte) {
	for {
		p := s.link.ReadContext(s.ctx)
		if p == nil {
			return
		}
		view := p.ToView()
		p.DecRef()
		select {
		case to <- view.AsSlice():
		case <-s.ctx.Done():
			return
		}
	}
}

// write takes the clients' packets into the stack. It is not done by the loop,
// because the stack may answer on the spot.
func (s *insideStack) write(from <-chan []byte) {
	for packet := range from {
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
		s.link.InjectInbound(ipv4.ProtocolNumber, p)
		p.DecRef()
	}
}

func (s *insideStack) close() {
	s.cancel()
	for _, c := range s.closers {
		_ = c.Close() // nothing is lost with them
	}
	s.services.Wait()
	s.stack.Close()
	s.link.Close()
}

// page is the web server.
func page(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return // the client went away
		}
		fmt.Fprintf(w, "%d\n", n)
	case r.URL.Path == "/bytes":
		n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
		if err != nil || n < 0 || n > maxBytes {
			http.Error(w, fmt.Sprintf("n must be a number up to %d", maxBytes), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, zeros{}, n) // fails if the client goes away
	case r.URL.Path == "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, welcome, host) // an address: nothing to escape
	default:
		http.NotFound(w, r)
	}
}

const welcome = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>It works</title>
<style>
body { font: 1.1em/1.5 system-ui, sans-serif; max-width: 32em; margin: 4em auto; padding: 0 1em; color: #223; background: #f6f8fa }
h1 { color: #17693b }
</style>
<h1>It works</h1>
<p>This page comes from a small web server behind the demonstration gateway. It reached you
through an encrypted tunnel; the server knows you as <b>%s</b>.</p>
</html>
`

// zeros is an endless source of bytes.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func echo(c net.Conn) {
	buf := make([]byte, 1<<15)
	for {
		_ = c.SetDeadline(time.Now().Add(idleLife)) // a closed connection fails below
		n, err := c.Read(buf)
		if _, werr := c.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// answerDatagrams answers each datagram with one, or none where answer gives nil.
func answerDatagrams(c *gonet.UDPConn, answer func([]byte) []byte) {
	buf := make([]byte, maxDatagrm)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			continue
		}
		if out := answer(buf[:n]); out != nil {
			_, _ = c.WriteTo(out, from) // lost, as datagrams may be
		}
	}
}

// dnsOverTCP serves messages with a length in front (RFC 1035 §4.2.2).
func (s *insideStack) dnsOverTCP(c net.Conn) {
	for {
		_ = c.SetDeadline(time.Now().Add(idleLife)) // a closed connection fails below
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, int(size[0])<<8|int(size[1]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		answer := s.dns(query)
		if answer == nil || len(answer) >= maxDNSTCP {
			return
		}
		if _, err := c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...)); err != nil {
			return
		}
	}
}

// dns answers a query for one name (RFC 1035 §4.1), nil if it is none.
func (s *insideStack) dns(query []byte) []byte {
	const ttl = 60 // seconds
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	h = dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, Authoritative: true, RecursionDesired: h.RecursionDesired}
	answer := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{q}}
	addr, known := s.config.Hosts[strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")]
	switch {
	case !known:
		answer.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA && q.Class == dnsmessage.ClassINET:
		answer.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl},
			Body:   &dnsmessage.AResource{A: addr.As4()},
		}}
	}
	out, err := answer.Pack()
	if err != nil {
		return nil
	}
	return out
}
