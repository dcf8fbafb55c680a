package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"wayfarer/ike/esp"
)

// insideClient connects to a gateway with an Inside and returns the network stack of
// the client, whose packets go through the tunnel. It lives in real time: the
// network stack starts goroutines of its own.
func insideClient(t *testing.T, inside *Inside) *insideStack {
	t.Helper()
	w := &world{t: t, net: NewNet()}
	w.serve(func(c *Config) { c.Inside, c.Log = inside, slog.New(slog.DiscardHandler) })
	t.Cleanup(func() {
		w.stop()
		if err := <-w.served; err != nil {
			t.Error(err)
		}
	})
	i := w.newInitiator(clientAt)
	i.phase1Main()
	i.login()
	i.settingsFor(netip.Addr{})
	tun, _ := i.quick(i.espOffer, "0.0.0.0/0")

	s := &insideStack{config: &Inside{Addresses: []netip.Addr{i.address}}, link: channel.New(insideQueue, insideMTU, ""), stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.configure(); err != nil {
		t.Fatal(err)
	}
	out, in := make(chan []byte), make(chan []byte, insideQueue)
	s.run(out, in)
	i.conn.SetReadDeadline(time.Time{})
	s.services.Go(func() { i.receiveInner(tun, in) })
	s.services.Go(func() { i.sendInnerFrom(tun, out, s.ctx) })
	t.Cleanup(func() {
		i.conn.Close()
		s.close()
	})
	return s
}

// receiveInner opens ESP until the socket closes.
func (i *initiator) receiveInner(tun *tunnel, to chan<- []byte) {
	defer close(to)
	buf := make([]byte, 1<<16)
	for {
		n, _, err := i.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if inner, err := tun.in.Open(make([]byte, n), buf[:n]); err == nil {
			to <- inner
		}
	}
}

func (i *initiator) sendInnerFrom(tun *tunnel, from <-chan []byte, ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case inner := <-from:
			buf := append(append(make([]byte, esp.MaxHeadroom), inner...), make([]byte, esp.MaxTailroom)...)
			if sealed, err := tun.out.Seal(buf, esp.MaxHeadroom, len(inner)); err == nil {
				_, _ = i.conn.WriteTo(sealed, net.UDPAddrFromAddrPort(gatewayAt)) // fails when the test ends
			}
		}
	}
}

func (s *insideStack) dial(ctx context.Context, port uint16) (net.Conn, error) {
	return gonet.DialContextTCP(ctx, s.stack, tcpip.FullAddress{NIC: insideNIC, Addr: tcpip.AddrFrom4(server.As4()), Port: port}, ipv4.ProtocolNumber)
}

func (s *insideStack) dialUDP(t *testing.T, port uint16) net.Conn {
	t.Helper()
	c, err := gonet.DialUDP(s.stack, nil, &tcpip.FullAddress{NIC: insideNIC, Addr: tcpip.AddrFrom4(server.As4()), Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestInside uses every service through a tunnel.
func TestInside(t *testing.T) {
	s := insideClient(t, &Inside{Addresses: []netip.Addr{server}, Hosts: map[string]netip.Addr{"www.demo.test": server}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, 80) }}}
	t.Cleanup(web.CloseIdleConnections)
	for _, tt := range []struct {
		method, path, body string
		status             int
		check              func(string) bool
	}{
		{"GET", "/", "", 200, func(b string) bool {
			return strings.Contains(b, "It works") && strings.Contains(b, s.config.Addresses[0].String())
		}},
		{"GET", "/bytes?n=1000000", "", 200, func(b string) bool { return len(b) == 1000000 }},
		{"GET", "/bytes?n=0", "", 200, func(b string) bool { return b == "" }},
		{"POST", "/anything", strings.Repeat("x", 300000), 200, func(b string) bool { return b == "300000\n" }},
		{"GET", "/bytes?n=-1", "", 400, nil},
		{"GET", "/bytes?n=99999999999", "", 400, nil},
		{"GET", "/bytes", "", 400, nil},
		{"GET", "/elsewhere", "", 404, nil},
	} {
		req, err := http.NewRequestWithContext(ctx, tt.method, "http://"+server.String()+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := web.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", tt.method, tt.path, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || tt.check != nil && !tt.check(string(body)) {
			t.Errorf("%s %s: %d, %v, %.200q", tt.method, tt.path, resp.StatusCode, err, body)
		}
	}

	name := dnsmessage.MustNewName("WWW.demo.test.")
	query, err := (&dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	dnsUDP := s.dialUDP(t, 53)
	exchange(t, dnsUDP, query, func(answer []byte) { resolved(t, answer) })
	dnsTCP, err := s.dial(ctx, 53)
	if err != nil {
		t.Fatal(err)
	}
	defer dnsTCP.Close()
	for range 2 { // a connection serves several queries
		exchange(t, dnsTCP, append([]byte{0, byte(len(query))}, query...), func(answer []byte) {
			if len(answer) < 2 || int(answer[1]) != len(answer)-2 {
				t.Fatalf("length in %x", answer)
			}
			resolved(t, answer[2:])
		})
	}

	for _, c := range []net.Conn{s.dialUDP(t, 7), mustDial(t, ctx, s, 7)} {
		exchange(t, c, []byte("hello"), func(answer []byte) {
			if string(answer) != "hello" {
				t.Errorf("echo %q", answer)
			}
		})
	}
}

func mustDial(t *testing.T, ctx context.Context, s *insideStack, port uint16) net.Conn {
	t.Helper()
	c, err := s.dial(ctx, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange writes to a connection and reads once.
func exchange(t *testing.T, c net.Conn, out []byte, check func([]byte)) {
	t.Helper()
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	check(buf[:n])
}

func resolved(t *testing.T, answer []byte) {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	if !m.Response || m.ID != 7 || len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A != server.As4() {
		t.Errorf("answer %+v", m)
	}
}

// TestDNS: answers without an address, and what is no query.
func TestDNS(t *testing.T) {
	s := &insideStack{config: &Inside{Hosts: map[string]netip.Addr{"www.demo.test": server}}}
	ask := func(name string, typ dnsmessage.Type) dnsmessage.Message {
		t.Helper()
		query, err := (&dnsmessage.Message{Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET,
		}}}).Pack()
		if err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(s.dns(query)); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := ask("www.demo.test.", dnsmessage.TypeAAAA); m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 0 {
		t.Errorf("AAAA: %+v", m)
	}
	if m := ask("ftp.demo.test.", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeNameError || len(m.Answers) != 0 {
		t.Errorf("unknown name: %+v", m)
	}
	response, err := (&dnsmessage.Message{Header: dnsmessage.Header{Response: true}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{nil, {1, 2, 3}, make([]byte, 12), response} {
		if got := s.dns(b); got != nil {
			t.Errorf("%x was answered by %x", b, got)
		}
	}
}

func TestInsideErrors(t *testing.T) {
	if s, err := (&Inside{Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}).start(); err == nil {
		s.close()
		t.Error("an IPv6 address was accepted")
	}
	if s, err := (&Inside{Addresses: []netip.Addr{server, server}}).start(); err == nil {
		s.close()
		t.Error("an address was accepted twice")
	}
}
