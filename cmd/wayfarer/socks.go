package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/things-go/go-socks5"
)

// dialFunc is how the proxy reaches what is behind the gateway.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// proxyListener is where the proxy is offered. On loopback, where the system tells whose
// a program is, it takes connections of this user's programs only: the network behind
// the gateway is open to this user, not to everybody with an account on the computer.
type proxyListener struct {
	net.Listener
	own     bool   // only this user's programs
	refused func() // is told of the first program that is another's

	once sync.Once
}

// listenProxy opens the proxy's port. An address that others can reach is the user's
// explicit wish.
func listenProxy(address string) (*proxyListener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usage(fmt.Sprintf("--listen %s: HOST:PORT is expected", address), "as in --listen "+defaultProxy)
	}
	if host == "" {
		return nil, usage(fmt.Sprintf("--listen %s: the host is missing", address),
			"use 127.0.0.1, or 0.0.0.0 to let everybody on the network in")
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, usage(fmt.Sprintf("--listen %s: %v", address, cause(err)), "choose another port")
	}
	return &proxyListener{
		Listener: listener,
		own:      addrPort(listener.Addr()).Addr().IsLoopback() && tellsOwners(listener),
		refused:  func() {},
	}, nil
}

// Accept implements net.Listener.
func (l *proxyListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.own || ownsTCP(addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())) {
			return conn, err
		}
		conn.Close()
		l.once.Do(l.refused)
	}
}

// mayAssociate says whether datagrams from an address are taken.
func (l *proxyListener) mayAssociate(from netip.AddrPort) bool { return !l.own || ownsUDP(from) }

// openTo says who else than this user can use the proxy; empty: nobody.
func (l *proxyListener) openTo() string {
	switch {
	case l.own:
		return ""
	case addrPort(l.Addr()).Addr().IsLoopback():
		return "Every user of this computer can use the connection."
	}
	return "Everybody who reaches this address can use the connection."
}

// addrPort is an address of the net package, comparable.
func addrPort(a net.Addr) netip.AddrPort {
	at, _ := netip.ParseAddrPort(a.String()) // the zero value equals no socket's
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// newSOCKS makes a SOCKS5 server (RFC 1928: CONNECT and UDP ASSOCIATE) whose only
// way out is dial. Datagrams are taken where may says so.
func newSOCKS(dial dialFunc, may func(from netip.AddrPort) bool) *socks5.Server {
	limited := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, proxyDialTime)
		defer cancel()
		return dial(ctx, network, address)
	}
	r := &relay{dial: limited, may: may, slots: make(chan struct{}, maxAssociations)}
	return socks5.NewServer(
		socks5.WithResolver(unresolved{}),
		socks5.WithDial(limited),
		socks5.WithAssociateHandle(r.associate),
	)
}

// unresolved leaves host names to the dialer.
type unresolved struct{}

// Resolve implements socks5.NameResolver.
func (unresolved) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}
