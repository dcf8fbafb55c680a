package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
	"wayfarer/platform"
	"wayfarer/tun"
)

const (
	// maxConnections bounds what one daemon holds alive: each costs a socket, an
	// interface and some megabytes of packet buffers.
	maxConnections = 32
	// maxUserConnections bounds those of one user, so that nobody takes them all. Those
	// of managed profiles are not root's own.
	maxUserConnections = 8
	// maxFailed bounds a user's failed connections that status still shows.
	maxFailed = 8
)

// Session is what a tunnel needs of an *ike.Session.
type Session interface {
	Assignment() ike.Assignment
	Stats() ike.Stats
	MTU() int
	// NetworkChanged makes the session ask the gateway at once whether it is there.
	NetworkChanged()
	// Receive has a function called with the packets from the gateway, one call after
	// the other, until Receive(nil) returns; WritePacket takes those to it, and Flush
	// sends them: both are one goroutine's, which waits for nothing between them.
	Receive(deliver func(packets [][]byte))
	WritePacket(packet []byte) error
	Flush()
	Done() <-chan struct{}
	Err() error
	Close() error
}

// Network is the host's network, as a wish that it converges to; *platform.Network
// is one.
type Network interface {
	// Set makes the host's network as the configuration says, or leaves it as it
	// was and returns an error. The zero value restores what was there before.
	Set(context.Context, platform.Config) error
	// ListenPacket opens a UDP socket whose packets never enter a tunnel, on a port
	// of the host's, 0 being any; ListenESP a raw one for IP protocol 50.
	ListenPacket(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error)
	ListenESP(ctx context.Context, gateway netip.Addr) (net.PacketConn, error)
	// Recover undoes what an earlier service left on the host; with keepBlock its
	// leak block stays.
	Recover(ctx context.Context, keepBlock bool) error
	// Report is about the last configuration that Set made true.
	Report() platform.Report
	// Conflicts lists the other VPNs that have all the way out, or all the names.
	Conflicts(context.Context) ([]platform.Conflict, error)
	// Watch reports what happens to the host until the context ends.
	Watch(context.Context) (<-chan platform.Event, error)
	// Online says whether packets can leave the host.
	Online() bool
	// LookupOutside finds a host's addresses past the tunnels, and Dialer connects so.
	LookupOutside(ctx context.Context, host string) ([]netip.Addr, error)
	Dialer() *net.Dialer
}

// TUNConfig says which virtual interface a connection needs.
type TUNConfig struct {
	Name          string // proposed; the device's own Name counts
	MTU           int    // bytes
	Addresses     []netip.Addr
	DNS           []netip.Addr
	SearchDomains []string
}

// sameButMTU: the MTU of a device can be changed, nothing else of it.
func (c *TUNConfig) sameButMTU(other *TUNConfig) bool {
	return c.Name == other.Name &&
		slices.Equal(c.Addresses, other.Addresses) && slices.Equal(c.DNS, other.DNS) &&
		slices.Equal(c.SearchDomains, other.SearchDomains)
}

// Options of a daemon. The zero value is a rootless daemon without a virtual
// interface of its own: OpenTUN is what such a daemon still needs.
type Options struct {
	Log     *slog.Logger // nil discards
	Version string       // for Status

	// Dial connects to a gateway; nil is ike.Dial.
	Dial func(context.Context, *ike.Config) (Session, error)
	// Network is changed for each connection; nil changes nothing of the host and
	// leaves the sockets to ike: the rootless mode.
	Network Network
	// OpenTUN makes the virtual interface; nil is tun.Open. Addresses and names
	// matter to userspace stacks only: an interface of the OS gets them by Network.
	OpenTUN func(TUNConfig) (tun.Device, error)

	// Managed are the profiles that an administrator has placed. Those that are always
	// on are connected at once. The daemon keeps them, and overwrites their secrets
	// when it is closed.
	Managed []Managed
	// Policy is what every connection must keep to.
	Policy app.Policy
}

// Daemon owns connections. It is safe for concurrent use.
type Daemon struct {
	log     *slog.Logger
	version string
	policy  app.Policy
	dial    func(context.Context, *ike.Config) (Session, error)
	network Network
	openTUN func(TUNConfig) (tun.Device, error)
	// opensAhead: openTUN needs to know nothing of the connection.
	opensAhead bool
	// checkTUN says whether openTUN can work at all.
	checkTUN func() error
	lookup   func(ctx context.Context, host string) ([]netip.Addr, error)
	// addresses are those of this computer.
	addresses func() []netip.Addr
	portals   portals
	look      func(context.Context) *portal
	stopWatch func() // of the host

	// host is a lock on what the host's network is, one that gives up with its
	// context: whoever holds the token may use wishes and call network.Set.
	host   chan struct{}
	wishes []wish

	watchers watchers // of what Connections returns

	mu      sync.Mutex
	closed  bool
	seen    seen      // of the host's network as it stands
	managed []Managed // nil when it is closed
	tunnels []*tunnel // oldest first
	lastID  int
	names   map[string]bool // interfaces in use
}

var _ control.Backend = (*Daemon)(nil)

// New makes a daemon with no connections but those of always-on profiles. Close ends it.
func New(opts Options) *Daemon {
	d := &Daemon{
		log:       opts.Log,
		version:   opts.Version,
		policy:    opts.Policy,
		dial:      opts.Dial,
		network:   opts.Network,
		openTUN:   opts.OpenTUN,
		checkTUN:  func() error { return nil },
		lookup:    lookup,
		addresses: addresses,
		portals:   portals{looking: make(chan struct{}, 1), network: 1},
		stopWatch: func() {},
		host:      make(chan struct{}, 1),
		managed:   opts.Managed,
		names:     make(map[string]bool),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.dial == nil {
		d.dial = func(ctx context.Context, cfg *ike.Config) (Session, error) {
			s, err := ike.Dial(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return s, nil
		}
	}
	if d.openTUN == nil {
		d.openTUN = func(cfg TUNConfig) (tun.Device, error) { return tun.Open(cfg.Name, cfg.MTU) }
		d.checkTUN = tun.Available
		d.opensAhead = d.network != nil // which sets addresses and MTU
	}
	d.look = d.lookForPortal
	if d.network != nil {
		d.stopWatch = d.watchHost()
	}
	d.startManaged()
	return d
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

func addresses() []netip.Addr {
	var list []netip.Addr
	addrs, _ := net.InterfaceAddrs() // none is an answer, too
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p.Addr())
		}
	}
	return list
}

// Status is everything that there is to tell.
func (d *Daemon) Status() app.Status {
	return app.Status{Version: d.version, Connections: d.Connections()}
}

// Connections lists all connections, oldest first, as their owner sees them.
func (d *Daemon) Connections() []app.Connection {
	d.mu.Lock()
	tunnels := slices.Clone(d.tunnels)
	d.mu.Unlock()
	list := make([]app.Connection, len(tunnels))
	for i, t := range tunnels {
		list[i] = t.connection()
	}
	return list
}

// Watch returns a channel that gets a value, coalesced, after each change of what
// Connections returns, and a function that ends the watch.
func (d *Daemon) Watch() (changes <-chan struct{}, stop func()) {
	return d.watchers.watch()
}

// Connect starts a connection for owner and returns its ID at once. A failed
// connection of the same owner and profile makes room for it.
func (d *Daemon) Connect(_ context.Context, owner string, req *control.ConnectRequest) (string, *app.Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return "", app.NewFailure(app.CodeNoService, "", "the service is stopping", "try again when it runs")
	}
	m, failure := d.managedLocked(owner, req)
	if failure != nil {
		return "", failure
	}
	if m == nil {
		if failure := d.refuseProfile(&req.Profile); failure != nil {
			return "", failure
		}
		whole := *req // the caller's stays as it is
		req = &whole
	} else {
		req = m
	}
	if failure := imposePolicy(d.policy, req, m != nil); failure != nil {
		return "", failure
	}
	// What the administrator connects of that is not among his own.
	managed := m != nil && owner == ManagedOwner
	cfg, failure := newConfig(req)
	if failure != nil {
		return "", failure
	}
	lost, failure := d.makeRoomLocked(owner, &req.Profile, managed)
	if failure != nil {
		return "", failure
	}
	t := d.addLocked(owner, req, cfg, managed)
	t.replaces = lost
	go t.run()
	return t.id, nil
}

// addLocked makes a connection, which does not run yet, of a client's or a managed profile.
func (d *Daemon) addLocked(owner string, req *control.ConnectRequest, cfg *ike.Config, managed bool) *tunnel {
	d.lastID++
	t := newTunnel(d, "c"+strconv.Itoa(d.lastID), owner, req, cfg)
	t.managed = managed
	d.tunnels = append(d.tunnels, t)
	d.watchers.notify()
	return t
}

// makeRoomLocked forgets the failed connections that a new one for profile
// replaces, and refuses it if the owner's own is alive or there are too many. One that is
// lost, but for its block, is given back: the new one takes its place.
func (d *Daemon) makeRoomLocked(owner string, profile *app.Profile, managed bool) (lost *tunnel, _ *app.Failure) {
	alive, own := 0, 0
	for _, t := range slices.Clone(d.tunnels) {
		same := t.owner == owner && t.sameProfile(profile)
		switch {
		case t.hasEnded() && same:
			d.forgetLocked(t)
		case t.hasEnded():
		case same && t.isLost():
			lost = t
		case same:
			// Before the sign-in: the networks would clash after it.
			what := profile.Name
			if what == "" {
				what = fmt.Sprintf("the gateway %s", profile.Gateway)
			}
			return nil, app.NewFailure(app.CodeUsage, "",
				fmt.Sprintf("%s is already in use as connection %s", what, t.id), "disconnect it first")
		default:
			alive++
			if t.owner == owner && !t.managed {
				own++
			}
		}
	}
	if alive >= maxConnections || own >= maxUserConnections && !managed {
		return nil, app.NewFailure(app.CodeUsage, "",
			fmt.Sprintf("there are %d connections already, %d of them yours", alive, own), "disconnect one first")
	}
	return lost, nil
}

// hasOther says whether another connection than t is alive.
func (d *Daemon) hasOther(t *tunnel) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.tunnels, func(other *tunnel) bool { return other != t && !other.hasEnded() })
}

// ended is called when t has given back all it had: it stays visible if it failed.
func (d *Daemon) ended(t *tunnel, failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !failed {
		d.forgetLocked(t)
	}
	var old []*tunnel
	for _, other := range d.tunnels {
		if other.hasEnded() && other.owner == t.owner {
			old = append(old, other)
		}
	}
	for _, other := range old[:max(0, len(old)-maxFailed)] {
		d.forgetLocked(other)
	}
	d.watchers.notify()
}

func (d *Daemon) forgetLocked(t *tunnel) {
	d.tunnels = slices.DeleteFunc(d.tunnels, func(other *tunnel) bool { return other == t })
}

func (d *Daemon) find(id string) (*tunnel, *app.Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.tunnels, func(t *tunnel) bool { return t.id == id })
	if i < 0 {
		return nil, app.NewFailure(app.CodeUsage, "", fmt.Sprintf("there is no connection %q", id),
			"wayfarer status lists them")
	}
	return d.tunnels[i], nil
}

// Disconnect ends a connection, in whichever state, and forgets it. It returns when
// the host is as it was, or with a network-config failure that says why it is not.
func (d *Daemon) Disconnect(ctx context.Context, id string) *app.Failure {
	t, failure := d.find(id)
	if failure != nil {
		return failure
	}
	return d.disconnect(ctx, t)
}

func (d *Daemon) disconnect(ctx context.Context, t *tunnel) *app.Failure {
	t.stop()
	select {
	case <-t.done:
	case <-ctx.Done():
		return app.NewFailure(app.CodeCancelled, "", "the connection is still being taken down",
			"wayfarer status tells when it is gone")
	}
	d.mu.Lock()
	d.forgetLocked(t)
	d.watchers.notify()
	d.mu.Unlock()
	return t.leftBehind
}

// Answer answers the prompt that a connection waits on.
func (d *Daemon) Answer(id string, answer *control.Answer) *app.Failure {
	t, failure := d.find(id)
	if failure != nil {
		return failure
	}
	return t.answer(answer)
}

// Close ends all connections and returns when the host is as it was. No connection
// can be made afterwards. The error joins what could not be restored.
func (d *Daemon) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	tunnels := slices.Clone(d.tunnels)
	for i := range d.managed {
		d.managed[i].Zero()
	}
	d.managed = nil
	d.mu.Unlock()

	d.stopWatch()
	for _, t := range tunnels {
		t.stop() // all at once; waiting comes after
	}
	var errs []error
	for _, t := range tunnels {
		if failure := d.disconnect(ctx, t); failure != nil {
			errs = append(errs, failure)
		}
	}
	return errors.Join(errs...)
}

// takeName gives the lowest interface name that is free, here and on the host.
func (d *Daemon) takeName() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := 0; ; i++ {
		name := "wayfarer" + strconv.Itoa(i)
		if d.names[name] {
			continue
		}
		if d.network != nil {
			if _, err := net.InterfaceByName(name); err == nil {
				continue
			}
		}
		d.names[name] = true
		return name
	}
}

func (d *Daemon) giveName(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, name)
}
