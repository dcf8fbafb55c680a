package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"wayfarer/app"
)

// Times of a connection's life.
const (
	defaultTimeout = 60 * time.Second // of an attempt, the user's thinking not counted

	// A lost connection is tried again after a random part of a delay that grows
	// from the first to the second: a gateway that restarts is not met by all its
	// users in the same second.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 60 * time.Second
	// wantedBackoff bounds the delay while packets wait for the connection.
	wantedBackoff = 4 * time.Second

	// An always-on connection comes back from everything, but after what will not
	// become better by itself, or might lock the account, it rests so long.
	minRest = 15 * time.Minute
	maxRest = 4 * time.Hour

	// offlinePatience bounds the wait for a network to come: what seems to be none
	// may be one, and an attempt without a network costs nothing.
	offlinePatience = 5 * time.Minute
	// offlineGrace is how long an attempt looks for its gateway without one: it may be
	// on this very computer, and a network may just be coming.
	offlineGrace = 3 * time.Second

	// proofAge is how old the gateway's last authenticated packet may be when a
	// connection is called connected. Quick Mode has just ended then.
	proofAge = 30 * time.Second
	// While it carries, silence of the gateway is broken by the engine's probes within
	// 55 s, if the gateway answers such. What is silent for longer than doubtAfter is
	// asked in other ways, and no longer called connected after silentAfter; from then
	// on it is looked at each silentLook.
	doubtAfter  = 60 * time.Second
	silentAfter = 90 * time.Second
	silentLook  = 5 * time.Second

	// maxSignIns is how many attempts in a row may fail while they sign in. What
	// the gateway thought of the password is unknown then, and a gateway locks an
	// account after a few wrong ones.
	maxSignIns = 2
)

// Reasons for which an attempt or a session ends on this side.
var (
	errTimeout         = errors.New("the attempt took too long")
	errSettingsChanged = errors.New("the gateway changed the settings")
	errNetworkChanged  = errors.New("this computer's network has changed")
	errOffline         = errors.New("this computer has no network")
)

// nudge tells run that the host's network has changed.
func (t *tunnel) nudge() {
	select {
	case t.nudged <- struct{}{}:
	default: // it will look anyway
	}
}

// live connects, and again whenever the connection is lost. It returns why it ended.
func (t *tunnel) live() error {
	session, err := t.attempt(app.StateConnecting)
	if err != nil && t.alwaysOn && t.ctx.Err() == nil && t.mayRetry(err) {
		session, err = t.reconnect(err)
	}
	for err == nil {
		began := time.Now()
		err = t.carry(session)
		if left := t.dropEnded(); left != nil {
			t.log.Warn("not all of a lost interface is undone", "error", left)
		}
		if t.ctx.Err() != nil || t.noReconnect || !t.mayRetry(err) {
			break
		}
		t.log.Warn("connection lost", "error", err)
		if time.Since(began) >= maxBackoff {
			t.backoff = 0 // it was a good one
		}
		session, err = t.reconnect(err)
	}
	return err
}

// reconnect tries until it works or cannot work; lost is why it has to.
func (t *tunnel) reconnect(lost error) (*dialled, error) {
	t.update(func() { t.setState(app.StateReconnecting) })
	for err := lost; ; {
		wait := t.nextPause(err)
		t.tellLast(err, wait)
		if err := t.pause(wait); err != nil {
			return nil, err
		}
		var session *dialled
		if session, err = t.attempt(app.StateReconnecting); err == nil {
			return session, nil
		}
		if t.ctx.Err() != nil || !t.mayRetry(err) {
			return nil, err
		}
		t.log.Info("reconnecting failed", "error", err)
		t.meetPortal(err)
	}
}

// tellLast shows why the connection is not there, and when it is tried again if that
// takes long.
func (t *tunnel) tellLast(err error, wait time.Duration) {
	t.mu.Lock()
	step := t.step
	t.mu.Unlock()
	text := explain(err, step).Error()
	if t.resting {
		text += fmt.Sprintf("; the next attempt is at %s", time.Now().Add(wait).UTC().Format("15:04 MST"))
	}
	t.update(func() { t.last = text })
}

// nextPause is how long to wait after err before the next attempt.
func (t *tunnel) nextPause(err error) time.Duration {
	switch {
	case t.resting:
		return t.rest + rand.N(t.rest/8)
	case errors.Is(err, errNetworkChanged):
		return 0
	}
	t.backoff = min(max(2*t.backoff, minBackoff), maxBackoff)
	return rand.N(t.backoff)
}

// pause waits, for less if the host's network changes meanwhile or packets want to go
// out, and then until there is a network. A rest is not cut short: it spares the account.
func (t *tunnel) pause(wait time.Duration) error {
	began, due := time.Now(), time.After(wait)
	wanted := t.wanted()
	for waiting := true; waiting; {
		select {
		case <-due:
			waiting = false
		case <-wanted:
			if wanted = nil; !t.resting {
				due = time.After(min(wait-time.Since(began), rand.N(wantedBackoff)))
			}
		case <-t.nudged:
			if !t.resting {
				t.backoff, waiting = 0, false
			}
		case <-t.ctx.Done():
			return context.Cause(t.ctx)
		}
	}
	enough := time.After(offlinePatience)
	for !t.daemon.online() {
		select {
		case <-t.nudged:
			t.backoff = 0
		case <-enough:
			return nil
		case <-t.ctx.Done():
			return context.Cause(t.ctx)
		}
	}
	return nil
}

// wanted gets a value when, from now on, a packet wants to go out and cannot.
func (t *tunnel) wanted() <-chan struct{} {
	if t.link == nil {
		return nil
	}
	select {
	case <-t.link.pump.dropped:
	default:
	}
	return t.link.pump.dropped
}

// mayRetry is asked once after each error that ends a session or an attempt.
func (t *tunnel) mayRetry(err error) bool {
	t.mu.Lock()
	step := t.step
	t.mu.Unlock()
	if failedAt(err, step) == app.StepSignIn {
		t.signIns++
	}
	t.resting = false
	if worthRetrying(err) && t.signIns < maxSignIns {
		return true
	}
	if !t.alwaysOn {
		return false
	}
	t.resting = true
	t.rest = min(max(2*t.rest, minRest), maxRest)
	t.signIns = min(t.signIns, maxSignIns-1) // one more try after the rest
	return true
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
	stop := func() {}
	if state == app.StateReconnecting {
		stop = t.restartOnChange(cancel)
	}
	session, err := t.establish(ctx)
	stop()
	if err == nil && context.Cause(ctx) != nil {
		t.nudge() // at the last moment: it is the session's business
	}
	var step app.Step
	t.update(func() { step = t.step })
	if err = attemptError(ctx, err); errors.Is(err, errTimeout) {
		err = &timeoutError{step: step, gateway: t.profile.Gateway}
	}
	if err != nil {
		return nil, err
	}
	t.signIns, t.resting, t.rest = 0, false, 0
	t.config.Reconnect = true
	t.config.RequestAddress = t.settings.address()
	t.backups = t.settings.assignment.BackupServers
	t.keepBlock = t.keepBlock || t.isHeld()
	return session, nil
}

// failOffline ends an attempt that has found nobody while there is no network: users do
// not have to wait its whole time to hear that. The returned function ends the watch.
func (t *tunnel) failOffline(cancel context.CancelCauseFunc) (stop func()) {
	watch := time.AfterFunc(offlineGrace, func() {
		t.mu.Lock()
		early := t.step == app.StepFindGateway
		t.mu.Unlock()
		if early && !t.daemon.online() {
			cancel(errOffline)
		}
	})
	return func() { watch.Stop() }
}

// restartOnChange ends an attempt when the host's network changes before the sign-in: it
// would wait for answers that cannot come. Later the change is left for the session. The
// returned function ends the watch.
func (t *tunnel) restartOnChange(cancel context.CancelCauseFunc) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-over:
			return
		case <-t.nudged:
		}
		t.mu.Lock()
		early := beforeSignIn(t.step)
		t.mu.Unlock()
		if early {
			cancel(errNetworkChanged)
		} else {
			t.nudge()
		}
	}()
	return func() {
		close(over)
		<-ended
	}
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

// carry moves packets until the session ends, and returns why it did.
func (t *tunnel) carry(session *dialled) (err error) {
	ctx := session.ctx
	t.update(func() {
		t.session, t.shown = session, t.settings
		t.last, t.portal = "", ""
		t.setState(app.StateConnected)
	})
	detach := t.link.pump.attach(session)
	defer func() {
		session.Close()
		detach()
		t.update(func() { t.session = nil })
	}()
	proof := proof{session: session}
	look := time.NewTimer(doubtAfter)
	defer look.Stop()
	for {
		select {
		case <-session.Done():
			if err := session.Err(); err != nil {
				return err
			}
			return net.ErrClosed
		case err := <-t.link.pump.failed:
			return &hostError{err: fmt.Errorf("interface %s: %w", t.link.name, err), passing: true}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.nudged:
			t.backoff = 0
			session.NetworkChanged()
		case <-look.C:
			state, next := proof.look()
			t.update(func() { t.setState(state) })
			look.Reset(next)
		case <-t.resized:
			t.resize(ctx, session)
		case <-t.pushed:
			if err := t.push(ctx, session); err != nil {
				return err
			}
		}
	}
}

// proof is that of a carrying session being connected: a recent authenticated packet.
type proof struct {
	session Session
	asked   time.Time // the gateway, because it was silent
}

// look says what the session may be called, and when to look again.
func (p *proof) look() (app.State, time.Duration) {
	age := time.Since(p.session.Stats().LastHeard)
	if age < doubtAfter {
		return app.StateConnected, doubtAfter - age
	}
	if time.Since(p.asked) >= doubtAfter {
		p.asked = time.Now()
		p.session.NetworkChanged()
	}
	if age < silentAfter {
		return app.StateConnected, silentLook
	}
	return app.StateReconnecting, silentLook
}

// resize takes over what the engine has found out about the path. Should the host not
// take the MTU, the pump still keeps packets small enough.
func (t *tunnel) resize(ctx context.Context, session Session) {
	next := t.settings
	next.fit(&t.profile, session.MTU())
	if err := t.raise(ctx, next); err != nil {
		t.log.Warn("the interface keeps its MTU", "error", err)
	}
}

// push applies the settings that the gateway sent to a living session. An interface
// that has to change needs a new one.
func (t *tunnel) push(ctx context.Context, session Session) error {
	next := newSettings(&t.profile, session, t.daemon.addresses)
	cfg := next.tunConfig()
	if cfg.Name = t.link.config.Name; !t.link.config.sameButMTU(&cfg) {
		return errSettingsChanged
	}
	if err := t.raise(ctx, next); err != nil {
		return err
	}
	t.backups = next.assignment.BackupServers
	t.update(func() { t.shown = next })
	return nil
}
