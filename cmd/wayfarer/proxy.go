package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"github.com/things-go/go-socks5"

	"wayfarer/app"
)

// proxyDialTime bounds how long the proxy tries to reach a host for a program.
const proxyDialTime = 30 * time.Second

const defaultProxy = "127.0.0.1:1080"

func newProxy(e *env) *cobra.Command {
	var listen string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "proxy [NAME]",
		Short: "Connect without any rights, as a SOCKS5 proxy",
		Long: "Connect like `wayfarer connect`, but inside this program: it needs no service and no rights, and changes\n" +
			"nothing of this computer. Programs that are told to use the SOCKS5 proxy reach the network behind the\n" +
			"gateway (TCP and UDP); host names are looked up there, too. Ctrl+C ends the connection.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: e.completeProfiles,
	}
	flags := addConnectFlags(cmd)
	cmd.Flags().StringVar(&listen, "listen", defaultProxy, "`HOST:PORT` of the proxy")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the connection as JSON")
	completeFlag(cmd, "listen", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := ""
		if len(args) > 0 {
			name = args[0]
		}
		return e.proxy(cmd.Context(), flags, name, listen, asJSON)
	}
	return cmd
}

func (e *env) proxy(ctx context.Context, flags *connectFlags, name, listen string, asJSON bool) (err error) {
	entry, err := flags.entry(e, name)
	if err != nil {
		return err
	}
	defer entry.Zero()
	listener, err := listenProxy(listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	svc := newRootless()
	defer func() { err = errors.Join(err, svc.close(ctx)) }()
	req, err := e.request(ctx, svc, flags, entry)
	if err != nil {
		return err
	}
	a, conn, err := e.establish(ctx, svc, req, flags.timeout)
	if err != nil {
		return err
	}
	if name != "" {
		if err := e.update(name, conn, a.hasTrusted(conn)); err != nil {
			fmt.Fprintln(e.err, errorLine(failureOf(err, nil))) // the connection is good all the same
		}
	}
	e.showNew(conn, asJSON)
	if !asJSON {
		showProxy(e.out, listener.Addr(), "http://intranet/")
	}
	return a.serveProxy(ctx, svc, listener)
}

// listenProxy opens the proxy's port. An address that others can reach is the user's
// explicit wish.
func listenProxy(address string) (net.Listener, error) {
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
	return listener, nil
}

// cause is a network error without the operation that it was in.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// showProxy says how to use the proxy; example is a page behind the gateway.
func showProxy(w io.Writer, at net.Addr, example string) {
	fmt.Fprintf(w, "\nThe SOCKS5 proxy is %v; host names are looked up behind the gateway.\n", at)
	if addr, err := netip.ParseAddrPort(at.String()); err == nil && !addr.Addr().IsLoopback() {
		fmt.Fprintln(w, "Everybody who reaches this address can use the connection.")
	}
	fmt.Fprintf(w, "\n  curl --proxy socks5h://%v %s\n  chromium --proxy-server=socks5://%v %s\n", at, example, at, example)
	fmt.Fprintln(w, "  Firefox: Settings, Network Settings, SOCKS v5, with \"Proxy DNS when using SOCKS v5\"")
	fmt.Fprintln(w, "\nCtrl+C ends the connection.")
}

// serveProxy serves until ctx ends, with nil, or until the connection is over.
func (a *attempt) serveProxy(ctx context.Context, svc *rootless, listener net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	server := newSOCKS(svc.dial)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, net.ErrClosed) {
			stop(app.NewFailure(app.CodeInternal, "", fmt.Sprintf("the proxy ended: %v", cause(err)), "start it again"))
		}
	}()
	err := a.stay(ctx)
	if failure, ok := errors.AsType[*app.Failure](context.Cause(ctx)); ok {
		err = failure
	}
	listener.Close()
	<-served
	return err
}

// newSOCKS makes a SOCKS5 server (RFC 1928: CONNECT and UDP ASSOCIATE) whose only
// way out is dial.
func newSOCKS(dial func(ctx context.Context, network, address string) (net.Conn, error)) *socks5.Server {
	return socks5.NewServer(
		socks5.WithResolver(unresolved{}),
		socks5.WithDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, proxyDialTime)
			defer cancel()
			return dial(ctx, network, address)
		}),
	)
}

// unresolved leaves host names to the dialer.
type unresolved struct{}

// Resolve implements socks5.NameResolver.
func (unresolved) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}
