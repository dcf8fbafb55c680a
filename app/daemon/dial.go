package daemon

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
)

const (
	// lookupTimeout bounds a name lookup while there is another way to the addresses.
	lookupTimeout = 3 * time.Second
	// lookForESP is how often a session without an ESP SA is looked at.
	lookForESP = 50 * time.Millisecond
	// lasting is how old a doubtful ESP SA has to be: one after others that were deleted,
	// or of plain ESP.
	lasting = 500 * time.Millisecond
	// maxAddresses bounds those of a name that are tried, and remembered: more than an
	// attempt has time for.
	maxAddresses = 16
)

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
	if err := t.hold(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer t.failOffline(cancel)()
	defer t.dropAhead()
	session, err := t.dial(ctx)
	if err = attemptError(ctx, err); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			session.Close()
		}
	}()
	t.setStep(app.StepBuildTunnel)
	next := newSettings(&t.profile, session, t.daemon.addresses)
	if err := t.dropEnded(); err != nil {
		return nil, err
	}
	if err := t.raise(ctx, next); err != nil {
		return nil, err
	}
	t.setStep(app.StepTest)
	if age := time.Since(session.Stats().LastHeard); age > proofAge {
		return nil, &ike.NoAnswerError{Step: ike.Step(app.StepTest), Gateway: t.profile.Gateway}
	}
	if err := awaitESP(ctx, session); err != nil {
		return nil, err
	}
	return session, nil
}

// awaitESP waits until an ESP SA stands: a gateway that can make none may delete each as
// soon as it is agreed on, until the engine gives up.
func awaitESP(ctx context.Context, session *dialled) error {
	for {
		if stands(session.Stats()) {
			return nil
		}
		select {
		case <-session.Done():
			return session.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookForESP):
		}
	}
}

// stands says whether there is an ESP SA that will stay. One after others that were deleted,
// or of plain ESP, which gateways agree on before they find that they have none, has to
// carry a packet or to last for a moment.
func stands(s ike.Stats) bool {
	if len(s.Children) == 0 {
		return false
	}
	newest, doubtful := s.Children[0], s.ShortLived > 0 || s.NATT == ""
	return !doubtful || newest.PacketsIn > 0 || time.Since(newest.Established) >= lasting
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
	cfg.Event = func(e ike.Event) {
		if e.Kind == ike.EventStep && app.Step(e.Step) == app.StepGetSettings { // which Dial itself tells
			t.openAhead()
		}
		t.event(e)
	}
	// INITIAL-CONTACT would end another connection to this gateway (RFC 2407
	// §4.6.3.3), which it may be under another name.
	cfg.Reconnect = cfg.Reconnect || t.daemon.hasOther(t)
	cfg.Gateway = strings.Join(append([]string{cfg.Gateway}, t.backups...), ", ")
	t.forgetNames(cfg.Gateway)
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

// resolve is the engine's name lookup, anew at each attempt. It asks past the tunnels, of
// which the connection's own may be dead; then, as the host does, for names that only it
// knows. A reconnect rather takes the addresses that were found last.
func (t *tunnel) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	t.mu.Lock()
	known := t.resolved[host]
	t.mu.Unlock()
	bounded := ctx
	if len(known) > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
	}
	addrs, err := t.daemon.resolve(bounded, host, len(known) > 0)
	addrs = addrs[:min(len(addrs), maxAddresses)]
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

// forgetNames drops the addresses of names that are no longer tried: backup servers of an
// earlier session, of which a gateway can name new ones each time.
func (t *tunnel) forgetNames(gateways string) {
	hosts := app.Hosts(gateways)
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.resolved, func(host string, _ []netip.Addr) bool { return !slices.Contains(hosts, host) })
}

// resolve finds a gateway's addresses; known says that there are others to fall back to.
func (d *Daemon) resolve(ctx context.Context, host string, known bool) ([]netip.Addr, error) {
	if d.network == nil {
		return d.lookup(ctx, host)
	}
	short, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := d.network.LookupOutside(short, host)
	if err == nil || known {
		return addrs, err
	}
	d.log.Debug("name lookup past the tunnels failed, asking as the host does", "host", host, "error", err)
	if addrs, herr := d.lookup(ctx, host); herr == nil {
		return addrs, nil
	}
	return nil, err
}
