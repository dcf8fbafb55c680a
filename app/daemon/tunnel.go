package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
	"wayfarer/platform"
	"wayfarer/tun"
)

// Times of a connection's life.
const (
	defaultTimeout = 60 * time.Second // of an attempt, the user's thinking not counted

	// A lost connection is tried again after a random part of a delay that grows
	// from the first to the second: a gateway that restarts is not met by all its
	// users in the same second.
	minBackoff = time.Second
	maxBackoff = 60 * time.Second

	// proofAge is how old the gateway's last authenticated packet may be when a
	// connection is called connected. Quick Mode has just ended then.
	proofAge = 30 * time.Second

	// maxSignIns is how many attempts in a row may fail while they sign in. What
	// the gateway thought of the password is unknown then, and a gateway locks an
	// account after a few wrong ones.
	maxSignIns = 2

	// restoreTimeout bounds what a stuck host service may cost a disconnect.
	restoreTimeout = 15 * time.Second

	// lookupTimeout bounds the name lookup of a reconnect, which may go to the
	// dead tunnel's own servers; then the addresses found last time are used.
	lookupTimeout = 3 * time.Second
)

// Reasons for which a connection ends on this side.
var (
	errTimeout         = errors.New("the attempt took too long")
	errStopped         = errors.New("disconnected")
	errCancelled       = errors.New("cancelled by the user")
	errSettingsChanged = errors.New("the gateway changed the settings")
)

// tunnel is one connection. Its life is run, one straight line:
//
//	ask for a password -> dial -> open the interface -> set the host's network
//	  -> carry packets -> (lost: dial again, keeping interface and routes)
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
	timeout     time.Duration

	ctx    context.Context // ends with errStopped
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when nothing of it is left on the host
	// leftBehind says what could not be restored; written before done is closed.
	leftBehind *app.Failure

	// owned by run, and by the dialing that it waits for
	config   ike.Config
	link     *link
	settings settings
	backups  []string // gateways that the last session named, for the next one
	clock    *clock   // of the attempt
	backoff  time.Duration
	signIns  int // that failed in a row, for a reason that is unknown

	pushed chan struct{} // the gateway has new settings
	asking chan struct{} // has a value while somebody asks: one question at a time

	mu       sync.Mutex
	state    app.State // without the prompt
	since    time.Time // of shownState
	step     app.Step
	prompt   *app.Prompt
	prompts  int // asked so far, for IDs
	reply    chan control.Answer
	failure  *app.Failure
	warnings []app.Warning // of the engine, in this attempt
	trusted  bool          // an unknown gateway was, because trustNew says so
	session  Session
	tun      *app.TUN
	shown    settings                // of the session
	typed    ike.Secret              // the last password that a prompt got, for the next attempt
	resolved map[string][]netip.Addr // of the gateways' names, when last found
}

// link is what a connection has of the host.
type link struct {
	config TUNConfig
	device tun.Device
	name   string
	host   *platform.Tunnel // nil until applied
	pump   *pump
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
		timeout:     time.Duration(req.TimeoutSeconds) * time.Second,
		done:        make(chan struct{}),
		config:      *cfg,
		pushed:      make(chan struct{}, 1),
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
	if len(req.GroupSecret) > 0 {
		t.config.GroupSecret = bytes.Clone(req.GroupSecret)
	}
	t.config.Log = t.log
	t.config.Event = t.event
	t.config.Resolve = t.resolve
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
	err := t.live()
	stopped := t.ctx.Err() != nil
	if left := t.lower(); left != nil {
		t.log.Error("the host's network is not as it was", "error", left)
		t.leftBehind = explain(left, app.StepBuildTunnel)
	}
	t.adoptPassword()
	t.config.Password.Zero()
	t.config.GroupSecret.Zero()
	t.config.Key = nil // which cannot be overwritten
	t.update(func() {
		t.session, t.tun, t.shown = nil, nil, settings{}
		if !stopped {
			t.failure = explain(err, t.step)
			explainFor(t.failure, err, &t.profile)
			t.setState(app.StateFailed)
			t.log.Info("connection failed", "code", t.failure.Code, "step", t.failure.Step, "error", err)
		}
	})
	close(t.done)
	t.daemon.ended(t, !stopped)
}

// live connects, and again whenever the connection is lost. It returns why it ended.
func (t *tunnel) live() error {
	session, err := t.attempt(app.StateConnecting)
	for err == nil {
		began := time.Now()
		err = t.carry(session)
		if t.ctx.Err() != nil || t.noReconnect || !t.mayRetry(err) {
			break
		}
		t.log.Warn("connection lost", "error", err)
		if time.Since(began) >= maxBackoff {
			t.backoff = 0 // it was a good one
		}
		session, err = t.reconnect()
	}
	return err
}

// reconnect tries until it works or cannot work.
func (t *tunnel) reconnect() (*dialled, error) {
	t.update(func() { t.setState(app.StateReconnecting) })
	for {
		t.backoff = min(max(2*t.backoff, minBackoff), maxBackoff)
		select {
		case <-time.After(rand.N(t.backoff)):
		case <-t.ctx.Done():
			return nil, context.Cause(t.ctx)
		}
		session, err := t.attempt(app.StateReconnecting)
		if err == nil {
			return session, nil
		}
		if t.ctx.Err() != nil || !t.mayRetry(err) {
			return nil, err
		}
		t.log.Info("reconnecting failed", "error", err)
	}
}

// mayRetry is asked once after each error that ends a session or an attempt.
func (t *tunnel) mayRetry(err error) bool {
	t.mu.Lock()
	step := t.step
	t.mu.Unlock()
	if failedAt(err, step) == app.StepSignIn {
		t.signIns++
	}
	return worthRetrying(err) && t.signIns < maxSignIns
}

// attempt goes once through all steps, in bounded time.
func (t *tunnel) attempt(state app.State) (*dialled, error) {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	t.clock = newClock(t.timeout, func() { cancel(errTimeout) })
	defer t.clock.stop()
	t.update(func() {
		t.setState(state)
		t.step, t.warnings = app.StepFindGateway, nil
	})
	t.adoptPassword()
	session, err := t.establish(ctx)
	var step app.Step
	t.update(func() { step = t.step })
	if err = attemptError(ctx, err); errors.Is(err, errTimeout) {
		err = &timeoutError{step: step, gateway: t.profile.Gateway}
	}
	if err != nil {
		return nil, err
	}
	t.signIns = 0
	t.config.Reconnect = true
	t.config.RequestAddress = t.settings.address()
	t.backups = t.settings.assignment.BackupServers
	return session, nil
}

// attemptError prefers the reason for which ctx ended to its mere end.
func attemptError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	ended := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	if cause == nil || cause == errTimeout && !ended {
		return err
	}
	return cause
}

func (t *tunnel) establish(ctx context.Context) (_ *dialled, err error) {
	if t.link == nil {
		// Found out later, it would have cost a one-time password.
		if err := t.daemon.checkTUN(); err != nil {
			return nil, &hostError{err: err}
		}
	}
	if err := t.needPassword(ctx); err != nil {
		return nil, err
	}
	session, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			session.Close()
		}
	}()
	t.setStep(app.StepBuildTunnel)
	next := newSettings(&t.profile, session, t.daemon.addresses)
	if err := t.raise(ctx, next); err != nil {
		return nil, err
	}
	t.setStep(app.StepTest)
	if age := time.Since(session.Stats().LastHeard); age > proofAge {
		return nil, &ike.NoAnswerError{Step: ike.Step(app.StepTest), Gateway: t.profile.Gateway}
	}
	return session, nil
}

// dial asks about an unknown gateway at most once: the pin that the answer gives is
// checked in a fresh exchange, and stays.
func (t *tunnel) dial(ctx context.Context) (*dialled, error) {
	session, err := t.dialOnce(ctx)
	trust, ok := errors.AsType[*ike.TrustError](err)
	if ok && len(t.backups) > 0 {
		// Perhaps of a backup server, which must not cost more than it can give.
		t.log.Warn("a gateway is not trusted; trying again without the backup servers", "error", err, "backups", t.backups)
		t.backups = nil
		session, err = t.dialOnce(ctx)
		trust, ok = errors.AsType[*ike.TrustError](err)
	}
	if !ok || !trust.Askable || t.config.Trust.Pin != [32]byte{} {
		return session, err
	}
	if !t.trustNew {
		if accepted, err := t.askTrust(ctx, trust); err != nil {
			return nil, err
		} else if !accepted {
			return nil, trust
		}
	}
	t.config.Trust.Pin = trust.SHA256()
	t.update(func() { t.step, t.trusted = app.StepFindGateway, t.trustNew })
	return t.dialOnce(ctx)
}

// dialled is one call of the engine and the session that came of it. What it asks the
// user belongs to it alone: the answer, and what follows from there being none.
type dialled struct {
	Session
	clock *clock          // of the attempt
	ctx   context.Context // ends with session or attempt, and with the reason for which a question was not answered
	end   context.CancelCauseFunc
}

// Close ends the session, and first what it asks.
func (d *dialled) Close() error {
	d.end(nil)
	return d.Session.Close()
}

// dialOnce gives the engine a configuration of its own: it may keep it for as long
// as the session lives.
func (t *tunnel) dialOnce(ctx context.Context) (*dialled, error) {
	d := &dialled{clock: t.clock}
	d.ctx, d.end = context.WithCancelCause(t.ctx)
	outlives := context.AfterFunc(ctx, func() { d.end(context.Cause(ctx)) })
	defer outlives()
	cfg := t.config
	cfg.Prompt = func(ctx context.Context, p ike.Prompt) (ike.Answer, error) { return t.answerGateway(ctx, d, p) }
	// INITIAL-CONTACT would end another connection to this gateway (RFC 2407
	// §4.6.3.3), which it may be under another name.
	cfg.Reconnect = cfg.Reconnect || t.daemon.hasOther(t)
	cfg.Gateway = strings.Join(append([]string{cfg.Gateway}, t.backups...), ", ")
	session, err := t.daemon.dial(d.ctx, &cfg)
	if err != nil {
		err = attemptError(d.ctx, err)
		d.end(nil)
		return nil, err
	}
	d.Session = session
	if !outlives() { // the attempt ended at the same moment
		d.Close()
		return nil, context.Cause(ctx)
	}
	return d, nil
}

// raise makes interface and host as next says. What is as it should be stays.
func (t *tunnel) raise(ctx context.Context, next settings) error {
	cfg := next.tunConfig()
	if t.link != nil {
		if cfg.Name = t.link.config.Name; !t.link.config.equal(&cfg) {
			if err := t.lower(); err != nil {
				return err
			}
		}
	}
	if t.link == nil {
		if err := t.open(cfg); err != nil {
			return err
		}
	}
	want := next.tunnel(t.link.name)
	if t.link.host == nil || !sameTunnel(t.link.host, &want) {
		if err := t.daemon.apply(ctx, t, &want); err != nil {
			return err
		}
		t.link.host = &want
	}
	t.settings = next
	return nil
}

func (t *tunnel) open(cfg TUNConfig) error {
	cfg.Name = t.daemon.takeName()
	device, err := t.daemon.openTUN(cfg)
	if err != nil {
		t.daemon.giveName(cfg.Name)
		return &hostError{err: err}
	}
	name, err := device.Name()
	if err != nil {
		device.Close()
		t.daemon.giveName(cfg.Name)
		return &hostError{err: err}
	}
	t.link = &link{config: cfg, device: device, name: name, pump: newPump(device, cfg.MTU, t.log)}
	t.update(func() { t.tun = &app.TUN{Name: name, MTU: cfg.MTU} })
	return nil
}

// lower gives back what raise took, and closes the interface also if the host
// could not be restored: that takes its addresses and routes away.
func (t *tunnel) lower() error {
	if t.link == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), restoreTimeout)
	defer cancel()
	var err error
	if t.link.host != nil {
		err = t.daemon.apply(ctx, t, nil)
	}
	if cerr := t.link.device.Close(); cerr != nil {
		err = errors.Join(err, &hostError{err: cerr})
	}
	t.link.pump.wait()
	t.daemon.giveName(t.link.config.Name)
	t.link = nil
	t.update(func() { t.tun = nil })
	return err
}

// carry moves packets until the session ends, and returns why it did.
func (t *tunnel) carry(session *dialled) (err error) {
	ctx := session.ctx
	t.update(func() {
		t.session, t.shown = session, t.settings
		t.setState(app.StateConnected)
	})
	detach := t.link.pump.attach(session)
	defer func() {
		session.Close()
		detach()
		t.update(func() { t.session = nil })
	}()
	for {
		select {
		case <-session.Done():
			if err := session.Err(); err != nil {
				return err
			}
			return net.ErrClosed
		case err := <-t.link.pump.failed:
			return &hostError{err: err}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.pushed:
			if err := t.push(ctx, session); err != nil {
				return err
			}
		}
	}
}

// push applies the settings that the gateway sent to a living session. An interface
// that has to change needs a new one.
func (t *tunnel) push(ctx context.Context, session Session) error {
	next := newSettings(&t.profile, session, t.daemon.addresses)
	cfg := next.tunConfig()
	if cfg.Name = t.link.config.Name; !t.link.config.equal(&cfg) {
		return errSettingsChanged
	}
	if err := t.raise(ctx, next); err != nil {
		return err
	}
	t.backups = next.assignment.BackupServers
	t.update(func() { t.shown = next })
	return nil
}

// resolve is the engine's name lookup. A reconnect falls back to what was found
// before, since the lookup may depend on the tunnel that is lost.
func (t *tunnel) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	t.mu.Lock()
	known := t.resolved[host]
	t.mu.Unlock()
	if len(known) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
	}
	addrs, err := t.daemon.lookup(ctx, host)
	if err != nil && len(known) > 0 {
		t.log.Info("name lookup failed, using the last addresses", "host", host, "error", err)
		return known, nil
	}
	if err == nil {
		t.mu.Lock()
		t.resolved[host] = addrs
		t.mu.Unlock()
	}
	return addrs, err
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
	default:
		t.daemon.watchers.notify()
	}
}

// update changes what status shows, and says so.
func (t *tunnel) update(change func()) {
	t.mu.Lock()
	before := t.shownState()
	change()
	if t.shownState() != before {
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
	if t.prompt != nil && t.state != app.StateDisconnecting && t.state != app.StateFailed {
		return app.StateActionNeeded
	}
	return t.state
}

func (t *tunnel) setStep(s app.Step) { t.update(func() { t.step = s }) }
