package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

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
			"gateway (TCP and UDP); host names are looked up there, too. Ctrl+C ends the connection.\n\n" +
			"On loopback the proxy serves your programs only, where the system tells whose a program is: on Linux.\n" +
			"Elsewhere every user of the computer can use it while it runs.",
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
	svc := newRootless(nil)
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
		showProxy(e.out, listener, "http://intranet/")
	}
	return a.serveProxy(ctx, svc, listener)
}

// cause is a network error without the operation that it was in.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// showProxy says how to use the proxy; example is a page behind the gateway.
func showProxy(w io.Writer, listener *proxyListener, example string) {
	at := listener.Addr()
	fmt.Fprintf(w, "\nThe SOCKS5 proxy is %v; host names are looked up behind the gateway.\n", at)
	if others := listener.openTo(); others != "" {
		fmt.Fprintln(w, others)
	}
	fmt.Fprintf(w, "\n  curl --proxy socks5h://%v %s\n  chromium --proxy-server=socks5://%v %s\n", at, example, at, example)
	fmt.Fprintln(w, "  Firefox: Settings, Network Settings, SOCKS v5, with \"Proxy DNS when using SOCKS v5\"")
	fmt.Fprintln(w, "\nCtrl+C ends the connection.")
}

// serveProxy serves until ctx ends, with nil, or until the connection is over.
func (a *attempt) serveProxy(ctx context.Context, svc *rootless, listener *proxyListener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	listener.refused = func() {
		fmt.Fprintln(a.err, "A program of another user wanted to use the proxy, and was refused; so will all others be.")
	}
	server := newSOCKS(svc.dial, listener.mayAssociate)
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
