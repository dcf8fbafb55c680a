package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
	"wayfarer/platform"
)

// Reasons for which a connection ends on this side.
var (
	errStopped   = errors.New("disconnected")
	errCancelled = errors.New("cancelled by the user")
)

// tunnel is one connection. Its life is run, one straight line:
//
//	ask for a password -> hold back other traffic, if the profile wants it -> dial
//	  -> open the interface -> set the host's network
//	  -> carry packets -> (lost: dial again, keeping block, interface and routes)
//	  -> (lost for good: keep the block until somebody disconnects)
//	  -> restore the host's network -> close the interface
type tunnel struct {
	daemon  *Daemon
	log     *slog.Logger
	id      string
	owner   string
	profile app.Profile

	canAsk      bool
	trustNew    bool
	noReconnect bool
	alwaysOn    bool // it never gives up
	managed     bool // the profile is the administrator's, not a client's
	timeout     time.Duration
	replaces    *tunnel // lost for good; its block is to become this one's

	ctx    context.Context // ends with errStopped
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when nothing of it is left on the host
	// leftBehind says what could not be restored; written before done is closed.
	leftBehind *app.Failure

	// owned by run, and by the dialing that it waits for
	config   ike.Config
	link     *link
	ahead    chan opened // the interface that is being made for the link; nil: none is
	settings settings
	backups  []string // gateways that the last session named, for the next one
	clock    *clock   // of the attempt
	backoff  time.Duration
	signIns  int           // that failed in a row, for a reason that is unknown
	resting  bool          // the next pause is a rest
	rest     time.Duration // the last one
	// keepBlock: it has been connected, and losing it must not open the host.
	keepBlock bool

	// Of the local network's portal. Who has put a value into atPortal, a channel of one,
	// deals with the portal, and owns opened. openUntil is written with that and the host's
	// lock, so that either is enough to read it; the others are changed under the lock.
	atPortal  chan struct{}
	opened    int         // the network in which a portal was
	searching atomic.Bool // a portal may be open, or be opened
	openUntil time.Time
	shutter   *time.Timer // nil: there is no opening

	nudged  chan struct{} // the host's network has changed
	pushed  chan struct{} // the gateway has new settings
	resized chan struct{} // the path carries packets of another size
	asking  chan struct{} // has a value while somebody asks: one question at a time

	mu       sync.Mutex
	state    app.State // without the prompt
	since    time.Time // of shownState, or of connected beneath a question
	step     app.Step
	prompt   *app.Prompt
	prompts  int // asked so far, for IDs
	reply    chan control.Answer
	failure  *app.Failure
	warnings []app.Warning // of the engine, in this attempt
	trusted  bool          // an unknown gateway was, because trustNew says so
	last     string        // why the last attempt failed, while it is tried again
	portal   string        // what to do about the local network's portal
	held     bool          // the leak block stands
	session  Session
	tun      *app.TUN
	shown    settings                // of the session
	typed    ike.Secret              // the last password that a prompt got, for the next attempt
	resolved map[string][]netip.Addr // of the gateways' names that are tried, when last found
}

func newTunnel(d *Daemon, id, owner string, req *control.ConnectRequest, cfg *ike.Config) *tunnel {
	t := &tunnel{
		daemon:      d,
		log:         d.log.With(connectionKey, id, ownerKey, owner),
		id:          id,
		owner:       owner,
		profile:     req.Profile,
		canAsk:      req.Ask,
		trustNew:    req.TrustNew,
		noReconnect: req.NoReconnect,
		alwaysOn:    req.Profile.AlwaysOn,
		timeout:     time.Duration(req.TimeoutSeconds) * time.Second,
		done:        make(chan struct{}),
		config:      *cfg,
		nudged:      make(chan struct{}, 1),
		atPortal:    make(chan struct{}, 1),
		pushed:      make(chan struct{}, 1),
		resized:     make(chan struct{}, 1),
		asking:      make(chan struct{}, 1),
		resolved:    make(map[string][]netip.Addr),
		state:       app.StateConnecting,
		since:       time.Now(),
		step:        app.StepFindGateway,
	}
	if t.timeout <= 0 {
		t.timeout = defaultTimeout
	}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	if len(req.Password) > 0 {
		t.config.Password = bytes.Clone(req.Password)
	}
	if t.canAsk {
		t.config.Words = new(ike.Words)
	}
	if len(req.GroupSecret) > 0 {
		t.config.GroupSecret = bytes.Clone(req.GroupSecret)
	}
	t.config.Log = t.log
	t.config.Event = t.event
	t.config.Resolve = t.resolve
	t.config.ListenPacket = platform.ListenPacket
	if d.network != nil {
		t.config.ListenPacket = func(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error) {
			return ofHost(d.network.ListenPacket(ctx, gateway, port))
		}
		t.config.ListenESP = func(ctx context.Context, gateway netip.Addr) (net.PacketConn, error) {
			return ofHost(d.network.ListenESP(ctx, gateway))
		}
	}
	return t
}

// ofHost marks the error of a socket as this machine's.
func ofHost(conn net.PacketConn, err error) (net.PacketConn, error) {
	if err != nil {
		return nil, &hostError{err: err, passing: true}
	}
	return conn, nil
}

// sameProfile: a profile is known by its name; where one of the two has none, by whom
// it reaches.
func (t *tunnel) sameProfile(p *app.Profile) bool {
	if t.profile.Name != "" && p.Name != "" {
		return t.profile.Name == p.Name
	}
	return t.profile.Gateway == p.Gateway && t.profile.Login == p.Login
}

// title is what other connections' failures call it.
func (t *tunnel) title() string {
	if t.profile.Name != "" {
		return fmt.Sprintf("%s (%s)", t.profile.Name, t.id)
	}
	return fmt.Sprintf("%s (%s)", t.profile.Gateway, t.id)
}

func (t *tunnel) hasEnded() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// stop makes run end; done tells when it has.
func (t *tunnel) stop() {
	if t.hasEnded() {
		return
	}
	t.update(func() { t.setState(app.StateDisconnecting) })
	t.cancel(errStopped)
}

func (t *tunnel) run() {
	if t.replaces != nil {
		if t.daemon.takeOver(t.ctx, t.replaces, t) {
			t.keepBlock = true
			t.update(func() { t.held = true })
		}
		t.replaces.stop()
		t.replaces = nil
	}
	if t.alwaysOn { // whatever keeps it from connecting
		if err := t.hold(t.ctx); err != nil {
			t.log.Error("the block of an always-on profile cannot be put up", "error", err)
		}
	}
	err := t.live()
	if t.keepBlock && t.ctx.Err() == nil {
		t.standBlocked(err)
	}
	if left := t.lower(dropAll); left != nil {
		t.log.Error("the host's network is not as it was", "error", left)
		t.leftBehind = explain(left, app.StepBuildTunnel)
	}
	t.forgetSecrets()
	t.update(func() { t.session, t.tun, t.shown, t.held = nil, nil, settings{}, false })
	if t.ctx.Err() != nil {
		close(t.done)
	} else {
		t.fail(app.StateFailed, err)
	}
	failed := t.ctx.Err() == nil // nobody has ended it meanwhile
	t.cancel(errStopped)         // whatever still goes on
	t.daemon.ended(t, failed)
}

// standBlocked is the end of a connection whose loss must not open the host: its block
// stays until somebody disconnects, or connects anew.
func (t *tunnel) standBlocked(err error) {
	if left := t.lower(dropTunnel); left != nil {
		t.log.Error("the host's network is not as it was", "error", left)
	}
	t.forgetSecrets()
	t.update(func() { t.session, t.tun, t.shown = nil, nil, settings{} })
	t.fail(app.StateBlocked, err)
	<-t.ctx.Done()
}

// isLost says whether only the block is left of the connection.
func (t *tunnel) isLost() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == app.StateBlocked
}

// fail shows why the connection ended, with what this computer tells of the reason. Who
// sees that it has failed can make it anew at once.
func (t *tunnel) fail(state app.State, err error) {
	t.mu.Lock()
	f := explain(err, t.step)
	t.mu.Unlock()
	explainFor(f, err, &t.profile)
	t.daemon.blameHost(t.ctx, f)
	t.update(func() {
		t.failure, t.last, t.portal = f, "", ""
		t.setState(state)
		if state == app.StateFailed {
			close(t.done)
		}
	})
	t.log.Info("connection failed", "code", f.Code, "step", f.Step, "error", err)
}

func (t *tunnel) forgetSecrets() {
	t.adoptPassword()
	t.config.Password.Zero()
	t.config.GroupSecret.Zero()
	t.config.Key = nil // which cannot be overwritten
}

// event takes the engine's reports; it must not block nor call the session.
func (t *tunnel) event(e ike.Event) {
	switch e.Kind {
	case ike.EventStep:
		t.setStep(app.Step(e.Step))
	case ike.EventWarning:
		t.warn(warningOf(e))
	case ike.EventAssignment:
		select {
		case t.pushed <- struct{}{}:
		default:
		}
	case ike.EventMTU:
		select {
		case t.resized <- struct{}{}:
		default:
		}
	default:
		t.daemon.watchers.notify()
	}
}

// update changes what status shows, and says so.
func (t *tunnel) update(change func()) {
	t.mu.Lock()
	before, carried := t.shownState(), t.state == app.StateConnected
	change()
	if carries := t.state == app.StateConnected; carries != carried || !carries && t.shownState() != before {
		t.since = time.Now()
	}
	t.mu.Unlock()
	t.daemon.watchers.notify()
}

// setState is called within update. A connection that is being taken down only
// comes to its end.
func (t *tunnel) setState(s app.State) {
	if t.state != app.StateDisconnecting {
		t.state = s
	}
}

// shownState is the state that users see; mu is held. A question stands above where
// the connection is meanwhile, so that it is seen, until nothing is left to ask for.
func (t *tunnel) shownState() app.State {
	switch {
	case t.prompt != nil && t.state != app.StateDisconnecting && t.state != app.StateFailed:
		return app.StateActionNeeded
	case t.state == app.StateReconnecting && t.held:
		return app.StateBlocked
	}
	return t.state
}

func (t *tunnel) setStep(s app.Step) { t.update(func() { t.step = s }) }
