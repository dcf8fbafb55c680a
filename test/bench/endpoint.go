//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/gateway"
)

// What the gateway of the benchmark knows of its only user. It guards nothing.
const (
	benchLogin    = "ada"
	benchPassword = "lovelace"
)

// endpoint is one end of a tunnel: a program that carries packets between a TUN device
// and a UDP socket, in one of several ways, encrypted or not.
type endpoint struct {
	device   string
	mtu      int
	port     int
	io       string
	crypt    string
	peer     netip.AddrPort // unless it is found by IKE
	initiate bool           // which of the two keys of a tunnel without IKE is ours

	ca       string         // file for the gateway's CA
	suite    string         // of ESP, the only one that the gateway agrees on
	networks []netip.Prefix // behind the gateway
	lifetime time.Duration  // of ESP SAs
}

// runEndpoint is the program "endpoint". It says "ready" when its device is there, and
// ends with a signal.
func runEndpoint(args []string) error {
	var e endpoint
	flags := flag.NewFlagSet("endpoint", flag.ContinueOnError)
	flags.StringVar(&e.device, "device", "bench0", "name of the TUN device")
	flags.IntVar(&e.mtu, "mtu", 1400, "of the device, in bytes")
	flags.IntVar(&e.port, "port", 4500, "UDP port")
	flags.StringVar(&e.io, "io", "whole", "whole: the data path of the client; single: a call for each packet; library: wireguard's")
	flags.StringVar(&e.crypt, "crypt", "ike", "ike, none or static")
	peer := flags.String("peer", "", "where the other end is, without IKE")
	flags.BoolVar(&e.initiate, "initiate", false, "be the one of the ends that sends with the first key")
	flags.StringVar(&e.ca, "ca", "", "`FILE` to write the gateway's CA to")
	flags.StringVar(&e.suite, "esp", "", "the ESP suite that the gateway agrees on")
	networks := flags.String("networks", "", "networks behind the gateway, separated by commas")
	flags.DurationVar(&e.lifetime, "lifetime", 0, "of ESP SAs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *peer != "" {
		var err error
		if e.peer, err = netip.ParseAddrPort(*peer); err != nil {
			return err
		}
	}
	for network := range strings.SplitSeq(*networks, ",") {
		if network == "" {
			continue
		}
		p, err := netip.ParsePrefix(network)
		if err != nil {
			return err
		}
		e.networks = append(e.networks, p)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return e.run(ctx)
}

func (e *endpoint) run(ctx context.Context) error {
	pipe, err := e.open()
	if err != nil {
		return err
	}
	var code codec
	served := make(chan error, 1)
	switch e.crypt {
	case "none":
		code = &plain{peer: e.peer}
	case "static":
		if code, err = e.staticTunnel(); err != nil {
			return err
		}
	case "ike":
		tunnels := new(tunnels)
		code = tunnels
		gw, err := e.gateway(tunnels)
		if err != nil {
			return err
		}
		ike := newIKEConn(pipe)
		pipe.ike(ike.receive)
		go func() { served <- gw.Serve(ctx, gateway.Socket{Conn: ike, NonESP: true}) }()
	default:
		return fmt.Errorf("crypt %q is not known", e.crypt)
	}
	failed := make(chan error, 2)
	go func() { failed <- pipe.outward(code) }()
	go func() { failed <- pipe.inward(code) }()
	fmt.Println("ready")
	select {
	case <-ctx.Done():
		if e.crypt == "ike" {
			return <-served // says goodbye
		}
		return nil
	case err := <-failed:
		return err
	case err := <-served:
		return err
	}
}

// gateway answers IKE and gives its tunnels away.
func (e *endpoint) gateway(t *tunnels) (*gateway.Gateway, error) {
	credentials, err := gateway.SelfSigned("gateway.bench.test", farOutside.String())
	if err != nil {
		return nil, err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: credentials.CA.Raw})
	if err := os.WriteFile(e.ca, ca, 0o644); err != nil {
		return nil, err
	}
	return gateway.New(gateway.Config{
		Chain: credentials.Chain, Key: credentials.Key, Users: map[string]string{benchLogin: benchPassword},
		ESP: []string{e.suite}, Pool: poolNetwork, Settings: gateway.Settings{SplitInclude: e.networks},
		ESPLifetime: e.lifetime, Handover: t.add,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
}

// codec makes datagrams of packets, and packets of datagrams. Each direction is one
// goroutine's.
type codec interface {
	// seal begins a datagram at the beginning of dst, which is codecRoom bytes longer
	// than the packet, and says where it goes; nil if it goes nowhere. The packet has
	// esp.MaxTrailer bytes of capacity behind it.
	seal(dst, packet []byte) ([]byte, netip.AddrPort)
	// finish completes the datagrams that seal has begun.
	finish()
	// open returns the packet in a datagram, a part of it; nil if there is none.
	open(datagram []byte) []byte
}

// codecRoom is how much longer than its packet a datagram can be, in bytes.
const codecRoom = esp.MaxHeadroom + esp.MaxTailroom

// plain is a tunnel without cryptography: a header as long as that of ESP, and the packet.
type plain struct{ peer netip.AddrPort }

const plainHeader = 8

func (p *plain) seal(dst, packet []byte) ([]byte, netip.AddrPort) {
	binary.BigEndian.PutUint64(dst, 1<<63)
	return dst[:plainHeader+copy(dst[plainHeader:], packet)], p.peer
}

func (p *plain) finish() {}

func (p *plain) open(datagram []byte) []byte {
	if len(datagram) <= plainHeader {
		return nil
	}
	return datagram[plainHeader:]
}

// tunnels are ESP SAs. They change as a whole.
type tunnels struct {
	mu   sync.Mutex                     // held by who changes them
	list atomic.Pointer[[]*gateway.SAs] // newest first
	last *esp.Outbound                  // of the last packet, others have finished theirs; owned by outward
}

// add takes the SAs until they are over.
func (t *tunnels) add(sas *gateway.SAs) {
	t.change(func(list []*gateway.SAs) []*gateway.SAs { return append([]*gateway.SAs{sas}, list...) })
	if sas.Ended == nil {
		return
	}
	go func() {
		<-sas.Ended
		t.change(func(list []*gateway.SAs) (rest []*gateway.SAs) {
			for _, other := range list {
				if other != sas {
					rest = append(rest, other)
				}
			}
			return rest
		})
	}()
}

func (t *tunnels) change(f func([]*gateway.SAs) []*gateway.SAs) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := f(t.all())
	t.list.Store(&list)
}

func (t *tunnels) all() []*gateway.SAs {
	if list := t.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (t *tunnels) seal(dst, packet []byte) ([]byte, netip.AddrPort) {
	const source, destination, end = 12, 16, 20
	if len(packet) < end || packet[0]>>4 != 4 {
		return nil, netip.AddrPort{}
	}
	from, to := netip.AddrFrom4([4]byte(packet[source:])), netip.AddrFrom4([4]byte(packet[destination:]))
	for _, sas := range t.all() {
		if !sas.Remote.Contains(from) || !sas.Client.Contains(to) {
			continue
		}
		if t.last != sas.Out {
			t.finish()
			t.last = sas.Out
		}
		sealed, err := sas.Out.Begin(dst, packet)
		if err != nil {
			return nil, netip.AddrPort{}
		}
		return sealed, sas.Peer
	}
	return nil, netip.AddrPort{}
}

func (t *tunnels) finish() {
	if t.last != nil {
		t.last.Finish()
	}
}

func (t *tunnels) open(datagram []byte) []byte {
	if len(datagram) < 4 {
		return nil
	}
	spi := binary.BigEndian.Uint32(datagram)
	for _, sas := range t.all() {
		if sas.In.SPI() != spi {
			continue
		}
		packet, err := sas.In.Open(datagram[min(len(datagram), sas.HeaderLen):], datagram)
		if err != nil {
			return nil
		}
		return packet
	}
	return nil
}

// staticTunnel is a tunnel with AES-GCM whose keys everybody knows, for programs that
// cannot do IKE.
func (e *endpoint) staticTunnel() (*tunnels, error) {
	t := esp.Transform{Cipher: esp.AESGCM16, KeyLen: 16}
	keys := [2][]byte{make([]byte, t.KeyMaterialLen()), make([]byte, t.KeyMaterialLen())}
	keys[1][0] = 1
	ours, theirs := 1, 0
	if e.initiate {
		ours, theirs = theirs, ours
	}
	const firstSPI = 0x1000
	in, err1 := esp.NewInbound(t, uint32(firstSPI+theirs), keys[theirs])
	out, err2 := esp.NewOutbound(t, uint32(firstSPI+ours), keys[ours], nil)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	all := netip.MustParsePrefix("0.0.0.0/0")
	tunnels := new(tunnels)
	tunnels.add(&gateway.SAs{In: in, Out: out, HeaderLen: t.HeaderLen(), Client: all, Remote: all, Peer: e.peer})
	return tunnels, nil
}

// ikeConn is the gateway's view of a socket whose ESP others read.
type ikeConn struct {
	writer interface {
		writeTo(b []byte, to netip.AddrPort) error
		local() net.Addr
	}
	datagrams chan ikeDatagram
	closed    chan struct{}
	once      sync.Once
}

type ikeDatagram struct {
	data []byte
	from netip.AddrPort
}

func newIKEConn(p pipe) *ikeConn {
	return &ikeConn{writer: p, datagrams: make(chan ikeDatagram, 64), closed: make(chan struct{})}
}

// receive takes a datagram; what is too much is lost, as in any socket.
func (c *ikeConn) receive(b []byte, from netip.AddrPort) {
	select {
	case c.datagrams <- ikeDatagram{append([]byte(nil), b...), from}:
	default:
	}
}

func (c *ikeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.datagrams:
		return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *ikeConn) WriteTo(b []byte, to net.Addr) (int, error) {
	return len(b), c.writer.writeTo(b, to.(*net.UDPAddr).AddrPort())
}

func (c *ikeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *ikeConn) LocalAddr() net.Addr { return c.writer.local() }

// The gateway uses no deadlines.
func (c *ikeConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *ikeConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (c *ikeConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
