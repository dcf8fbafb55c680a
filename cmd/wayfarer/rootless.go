package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/daemon"
	"wayfarer/tun"
)

// nextAddress is how long dial tries one of several addresses.
const nextAddress = 5 * time.Second

// rootless is a daemon inside this process, which needs no rights and changes
// nothing of the computer: each connection ends in a network stack of its own. To
// the commands it is a service like the one behind a socket.
type rootless struct {
	daemon *daemon.Daemon

	mu    sync.Mutex
	stack *tun.Stack // the newest
}

var _ service = (*rootless)(nil)

// newRootless makes one that logs to log; nil: nowhere.
func newRootless(log *slog.Logger) *rootless {
	r := &rootless{}
	r.daemon = daemon.New(daemon.Options{Version: app.Version(), OpenTUN: r.open, Log: log})
	return r
}

func (r *rootless) open(cfg daemon.TUNConfig) (tun.Device, error) {
	if len(cfg.Addresses) == 0 {
		return nil, usage("local_networks: this computer has no address there to speak from", "give a single address, as in local_networks=10.1.0.7")
	}
	stack, err := tun.NewStack(tun.StackConfig{
		Addresses:     cfg.Addresses,
		MTU:           cfg.MTU,
		DNS:           cfg.DNS,
		SearchDomains: cfg.SearchDomains,
	})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.stack = stack
	r.mu.Unlock()
	return stack, nil
}

// dial connects through the tunnel. Names are looked up inside of it; their addresses
// are tried in turn. What is not behind the gateway is refused here, because only a
// timeout would come of it.
func (r *rootless) dial(ctx context.Context, network, address string) (net.Conn, error) {
	r.mu.Lock()
	stack := r.stack
	r.mu.Unlock()
	if stack == nil {
		return nil, errors.New("there is no connection")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, err := stack.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !r.reaches(a) })
	if len(addrs) == 0 {
		return nil, fmt.Errorf("network is unreachable: %s is not behind the gateway", host)
	}
	for _, addr := range addrs[:len(addrs)-1] {
		limit, cancel := context.WithTimeout(ctx, nextAddress)
		conn, err := stack.DialContext(limit, network, net.JoinHostPort(addr.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
	}
	return stack.DialContext(ctx, network, net.JoinHostPort(addrs[len(addrs)-1].String(), port))
}

func (r *rootless) reaches(addr netip.Addr) bool {
	for _, c := range r.daemon.Connections() {
		for _, route := range c.Routes {
			if route.Contains(addr) && addr.IsGlobalUnicast() {
				return true
			}
		}
	}
	return false
}

// close ends all connections, also after ctx, in bounded time.
func (r *rootless) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	return r.daemon.Close(ctx)
}

// Status implements service.
func (r *rootless) Status(context.Context) (*app.Status, error) {
	status := r.daemon.Status()
	return &status, nil
}

// Watch implements service.
func (r *rootless) Watch(ctx context.Context) iter.Seq2[*app.Status, error] {
	return func(yield func(*app.Status, error) bool) {
		changes, stop := r.daemon.Watch()
		defer stop()
		for {
			status := r.daemon.Status()
			if !yield(&status, nil) {
				return
			}
			select {
			case <-changes:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Connect implements service.
func (r *rootless) Connect(ctx context.Context, req *control.ConnectRequest) (string, error) {
	id, failure := r.daemon.Connect(ctx, "", req)
	return id, asError(failure)
}

// Disconnect implements service.
func (r *rootless) Disconnect(ctx context.Context, id string) error {
	return asError(r.daemon.Disconnect(ctx, id))
}

// Answer implements service.
func (r *rootless) Answer(_ context.Context, id string, answer *control.Answer) error {
	return asError(r.daemon.Answer(id, answer))
}

// asError keeps a nil failure from becoming an error that is not nil.
func asError(f *app.Failure) error {
	if f == nil {
		return nil
	}
	return f
}
