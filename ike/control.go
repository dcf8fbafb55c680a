package ike

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// isakmpExchange is a phase-1 exchange type.
type isakmpExchange = isakmp.ExchangeType

const (
	mainExchange       = isakmp.MainMode
	aggressiveExchange = isakmp.AggressiveMode
)

func exchangeOf(x isakmp.ExchangeType) Exchange {
	if x == aggressiveExchange {
		return ExchangeAggressive
	}
	return ExchangeMain
}

// reauthResult is a new ISAKMP SA, or why there is none.
type reauthResult struct {
	sa         *isakmpSA
	assignment Assignment
	err        error
}

// run is the control loop: everything that happens after Dial. It owns the ISAKMP
// SA and ends with the session.
func (s *Session) run() {
	err := s.loop()
	s.cancel()
	if s.reauthing {
		if r := <-s.reauthed; r.sa != nil {
			r.sa.closeSA(nil)
			r.sa.discard()
		}
	}
	s.finish(err)
}

func (s *Session) loop() error {
	// A probe that overtakes the last Quick Mode message keeps strongSwan from
	// decrypting that one: it forgets the IV of all but the latest message IDs.
	s.beginPath(time.Now().Add(pathInterval))
	timer := time.NewTimer(0)
	defer func() { timer.Stop() }()
	var due time.Time // when the timer fires; zero: it has
	for {
		var oldInbox chan []byte
		if s.old != nil {
			oldInbox = s.old.inbox
		}
		// The runtime wakes up when a timer was due that has been moved to later, too; one
		// that was stopped mostly goes when another one comes.
		if next := s.nextDeadline(); !next.Equal(due) {
			due = next
			timer.Stop()
			timer = time.NewTimer(time.Until(due))
		}
		var err error
		select {
		case datagram := <-s.sa.inbox:
			err = dispatch(s.sa, datagram)
		case datagram := <-oldInbox:
			err = dispatch(s.old, datagram)
		case <-timer.C:
			due = time.Time{}
			err = s.tick(time.Now())
		case <-s.wakeUp:
		case task := <-s.tasks:
			err = task()
		case <-s.rekeyNow:
			err = s.tendChildren(time.Now())
		case <-s.probeNow:
			s.networkChanged()
		case r := <-s.reauthed:
			err = s.reauthenticated(r)
		case <-s.ctx.Done():
			return net.ErrClosed
		}
		switch {
		case err == nil, errors.Is(err, errSADeleted):
		case s.ctx.Err() != nil:
			return net.ErrClosed
		default:
			return err
		}
	}
}

// dispatch gives a datagram to the default handler. Only what must end the session
// comes back.
func dispatch(sa *isakmpSA, datagram []byte) error {
	early := sa.pending
	sa.pending = nil
	for _, d := range append(early, datagram) {
		_, err := sa.receive(d, nil)
		var fatal fatalError
		if errors.As(err, &fatal) {
			return fatal.error
		}
	}
	return nil
}

// finish says goodbye, releases everything and publishes why.
func (s *Session) finish(err error) {
	s.log.Info("the session ends", "err", err)
	s.mu.Lock()
	children := slices.Clone(s.children)
	s.mu.Unlock()
	if s.orphaned.IsZero() {
		s.sa.closeSA(children)
	}
	if s.old != nil {
		s.old.discard()
	}
	s.sa.discard()
	s.transport.close()
	s.asking.Wait()
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	for _, c := range children {
		s.remove(c)
	}
	s.forgetPassword()
	s.keepUnsent(nil)
	close(s.done)
}

// nextDeadline is when tick has something to do. A deadline that tick does not act
// upon would keep the loop spinning, so nothing that needs an ISAKMP SA is due while
// there is none.
func (s *Session) nextDeadline() time.Time {
	next := s.keepaliveDue()
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if !s.reauthing {
		earlier(s.sa.reauthAt)
	}
	if s.old != nil {
		earlier(s.oldUntil)
	}
	earlier(s.watchdog.due())
	if s.orphaned.IsZero() {
		s.deadlinesOfSA(earlier)
	} else {
		earlier(s.orphanEnds())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.children {
		earlier(c.expires)
		earlier(c.retireAt)
	}
	return next
}

// deadlinesOfSA tells when something is to be done by the ISAKMP SA.
func (s *Session) deadlinesOfSA(earlier func(time.Time)) {
	if s.sa.caps&capDPD != 0 {
		earlier(s.sa.dpdDue(s.heardAt()))
		earlier(s.pathDue())
	}
	earlier(s.sa.established.Add(s.sa.lifetime))
	earlier(s.addressDue())
	if s.needChild {
		earlier(s.replaceAt)
	}
	if s.renewAll {
		earlier(time.Now())
	}
	for _, p := range s.pairs {
		if c := s.current(p); c != nil {
			earlier(c.rekeyAt)
		}
	}
}

func (s *Session) heardAt() time.Time { return s.clock.at(s.lastHeard.Load()) }

func (s *Session) keepaliveDue() time.Time {
	return s.clock.at(s.transport.lastSent.Load()).Add(natKeepAlive)
}

// tick does what is due.
func (s *Session) tick(now time.Time) error {
	if !s.keepaliveDue().After(now) {
		s.keepAlive(s.probeEarly(now))
	}
	if s.old != nil && !s.oldUntil.After(now) {
		s.old.discard()
		s.old = nil
	}
	if !s.orphaned.IsZero() && (!s.orphanEnds().After(now) || s.abandoned(now)) {
		return &ClosedByGatewayError{}
	}
	if !s.sa.established.Add(s.sa.lifetime).After(now) && s.orphaned.IsZero() {
		return &NoAnswerError{Step: StepSignIn, Gateway: s.sa.peer.String(), Hint: "the lifetime of phase 1 is over and could not be renewed"}
	}
	if s.watch(now) {
		s.renewAll = true
	}
	if err := s.detectDeath(now); err != nil {
		return err
	}
	s.tendPath(now)
	if !s.reauthing && !s.sa.reauthAt.After(now) {
		s.reauthenticate()
	}
	if due := s.addressDue(); !due.IsZero() && !due.After(now) {
		if err := s.renewAddress(); err != nil {
			return err
		}
	}
	return s.tendChildren(now)
}

// orphanEnds is when a session ends that has lost its ISAKMP SA. It waits for a user
// who is being asked as long as ESP lives.
func (s *Session) orphanEnds() time.Time {
	thought := s.thinking.time() - s.thoughtBefore
	if len(*s.outbound.Load()) == 0 {
		thought = 0
	}
	return s.orphaned.Add(orphanedFor + thought)
}

// espAlive reports whether the gateway has sent ESP since it deleted the ISAKMP SA.
func (s *Session) espAlive() bool { return s.watchdog.heardESP.Load() > s.clock.stamp(s.orphaned) }

// abandoned reports whether an orphaned session's packets go unanswered: the gateway
// meant to end all of it.
func (s *Session) abandoned(now time.Time) bool {
	since := s.watchdog.unanswered.Load()
	return since != 0 && now.Sub(s.clock.at(since)) >= renewAfter && !s.espAlive()
}

// unwrapFatal takes the mark off an error that ends a session.
func unwrapFatal(err error) error {
	var fatal fatalError
	if errors.As(err, &fatal) {
		return fatal.error
	}
	return err
}

// addressDue is when the assigned address is asked for again (ADDRESS_EXPIRY,
// draft-dukes-ike-mode-cfg-02 §3.4): in time to try more than once.
func (s *Session) addressDue() time.Time {
	if s.expiry.IsZero() || !s.orphaned.IsZero() {
		return time.Time{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiry.Add(-max(s.assignment.Expiry, minExpiry) / 5)
}

// renewAddress asks for the settings again. Another address means another
// connection.
func (s *Session) renewAddress() error {
	a, err := s.sa.modeConfig(s.ctx)
	if err != nil {
		return err
	}
	return unwrapFatal(s.newSettings(a))
}

// detectDeath probes a silent gateway and gives up on one that does not answer.
func (s *Session) detectDeath(now time.Time) error {
	sa := s.sa
	if sa.caps&capDPD == 0 || !s.orphaned.IsZero() || sa.dpdDue(s.heardAt()).After(now) {
		return nil
	}
	if sa.dpd.exhausted() {
		return &NoAnswerError{Step: StepBuildTunnel, Gateway: sa.peer.String(), Hint: s.hint()}
	}
	sa.probe(now)
	return nil
}

// probeEarly probes, in place of a keepalive, a gateway that would have to be probed before
// the next one.
func (s *Session) probeEarly(now time.Time) bool {
	sa := s.sa
	if sa.caps&capDPD == 0 || !s.orphaned.IsZero() || sa.dpd.tries > 0 || sa.dpdDue(s.heardAt()).After(now.Add(natKeepAlive)) {
		return false
	}
	sa.probe(now)
	return sa.dpd.tries > 0
}

// networkChanged shows the gateway our new address and asks whether it is there.
func (s *Session) networkChanged() {
	s.transport.localAddr.Store(nil)
	s.keepAlive(false)
	s.beginPath(time.Now())
	switch {
	case !s.orphaned.IsZero():
	case s.sa.caps&capDPD != 0:
		s.sa.probeUrgently(time.Now())
	default:
		s.renewAll = true // a Quick Mode is answered or not
		s.wake()
	}
}

// tendChildren removes ChildSAs that are over and replaces the one that is about
// to be.
func (s *Session) tendChildren(now time.Time) error {
	s.mu.Lock()
	var over [][]byte
	var gone []*childSA
	for _, c := range s.children {
		if !c.expires.After(now) || !c.retireAt.IsZero() && !c.retireAt.After(now) {
			over, gone = append(over, be32(c.spiIn)), append(gone, c)
		}
	}
	s.mu.Unlock()
	for _, c := range gone {
		s.remove(c)
	}
	if s.orphaned.IsZero() {
		s.sa.delete(isakmp.ProtoESP, over...)
	}
	if !s.orphaned.IsZero() {
		return nil // the new ISAKMP SA will make new ones
	}
	all := s.renewAll
	s.renewAll = false
	replace := !s.replaceAt.After(now)
	s.needChild = s.needChild && !replace
	for _, p := range s.pairs {
		c := s.current(p)
		var err error
		switch {
		case c == nil && !replace:
		case c == nil:
			err = s.replaceChild(p)
		case all:
			err = s.renewChild(c)
		case !c.rekeyAt.After(now) || c.spent() && !c.worn:
			err = s.rekeyChild(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replaceChild negotiates a ChildSA where there is none any more. A pair of
// selectors that the gateway refuses is given up, unless it was the last.
func (s *Session) replaceChild(p selectorPair) error {
	if s.shortLived > maxShortLived {
		return s.deletesEach()
	}
	_, err := s.sa.newChild(s.ctx, p)
	if err == nil || !isRefused(err) || len(s.pairs) == 1 {
		return err
	}
	s.log.Warn("the gateway refuses a network", "network", p.remote, "err", err)
	s.pairs = slices.DeleteFunc(slices.Clone(s.pairs), func(q selectorPair) bool { return q == p })
	return nil
}

// renewChild replaces a ChildSA that the gateway has lost, and sends on the new one
// at once.
func (s *Session) renewChild(c *childSA) error {
	fresh, err := s.sa.newChild(s.ctx, c.pair)
	if err == nil {
		s.activate(fresh)
	}
	return err
}

// rekeyChild replaces a ChildSA whose lifetime ends. A refusal is survived as long
// as the old one lives.
func (s *Session) rekeyChild(c *childSA) error {
	c.worn = c.spent()
	_, err := s.sa.newChild(s.ctx, c.pair)
	if left := time.Until(c.expires); isRefused(err) && left > 0 && s.current(c.pair) == c {
		s.log.Warn("rekeying failed", "err", err)
		c.rekeyAt = time.Now().Add(max(left/2, rekeyPause))
		return nil
	}
	return err
}

func isRefused(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused)
}

// deleteChild obeys a Delete for an ESP SA. Cisco gateways delete instead of
// rekeying: if it was the last one, a new one is negotiated at once.
func (s *Session) deleteChild(spi uint32) {
	s.mu.Lock()
	i := slices.IndexFunc(s.children, func(c *childSA) bool { return c.spiOut == spi || c.spiIn == spi })
	var c *childSA
	if i >= 0 {
		c = s.children[i]
	}
	s.mu.Unlock()
	if c == nil {
		return
	}
	s.log.Info("the gateway deleted an ESP SA")
	s.remove(c)
	s.planReplacement(c, time.Now())
	s.wake()
}

// planReplacement says when to replace an ESP SA that the gateway has deleted now: at
// once, but later and later with one that deletes each new one. Those of several pairs of
// selectors that are deleted together count once.
func (s *Session) planReplacement(c *childSA, now time.Time) {
	if s.current(c.pair) != nil {
		return // it had been replaced
	}
	planned := s.needChild
	s.needChild = true
	switch {
	case now.Sub(c.established) >= shortLife:
		s.shortLived, s.replaceAt = 0, now
	case !planned:
		s.shortLived++
		s.replaceAt = now
		if s.shortLived > 1 && s.shortLived <= maxShortLived {
			s.replaceAt = now.Add(time.Second << (s.shortLived - 2))
		}
	}
	s.mu.Lock()
	s.stats.ShortLived = s.shortLived
	s.mu.Unlock()
}

// deletesEach is the end of a session whose gateway deletes each ESP SA. With a gateway
// that has never sent a packet through one, another session would end the same way:
// strongSwan with ESP in user space agrees on plain ESP, and then finds that it can have
// it in UDP only.
func (s *Session) deletesEach() error {
	e := &RefusedError{Step: StepBuildTunnel, What: RefusedConnection, Authenticated: true}
	if s.watchdog.heardESP.Load() == 0 {
		e.What = RefusedTunnel
	}
	e.Detail = fmt.Sprintf("it deleted the ESP SA right after it was made, %d times in a row", s.shortLived)
	if s.espPath.Load().raw != nil {
		e.Detail += "; perhaps it has no plain ESP"
	}
	return e
}

// lost reacts to the gateway's Delete of an ISAKMP SA. One that lives in ESP goes
// on for a while: a new phase 1 begins at once. Without ESP the connection is over.
func (s *Session) lost(sa *isakmpSA) error {
	switch {
	case sa == s.old:
		sa.discard()
		s.old = nil
		return nil
	case sa != s.sa || s.dialing() || len(*s.outbound.Load()) == 0:
		return fatalError{&ClosedByGatewayError{}}
	}
	s.orphaned, s.thoughtBefore = time.Now(), s.thinking.time()
	if w := &s.watchdog; w.suspect == sa && s.orphaned.Sub(sa.established) <= 2*w.suspected {
		s.learn(w.suspected) // first its ESP, soon after itself: that was no chance
	}
	sa.gone = true
	sa.reauthAt = s.orphaned
	if soon := sa.established.Add(reauthRetry); soon.After(s.orphaned) {
		sa.reauthAt = soon // not over and over with a gateway that deletes each
	}
	s.wake()
	return nil
}

// newSettings takes settings that the gateway pushed while the session is up. Another
// address means another connection.
func (s *Session) newSettings(a Assignment) error {
	old := s.Assignment()
	if len(a.Addresses) == 0 {
		a.Addresses = old.Addresses
	}
	if !slices.Equal(a.Addresses, old.Addresses) {
		return fatalError{addressChanged(old, a)}
	}
	s.setAssignment(a)
	if !reflect.DeepEqual(a, old) {
		s.event(Event{Kind: EventAssignment})
	}
	return nil
}

func addressChanged(old, new Assignment) error {
	return &AddressChangedError{Old: fmt.Sprint(old.Addresses), New: fmt.Sprint(new.Addresses)}
}

// reauthenticate builds a new ISAKMP SA beside the old one: IKEv1 cannot renew it in
// place. XAUTH and Mode-Config happen again.
func (s *Session) reauthenticate() {
	s.reauthing = true
	s.log.Info("reauthenticating")
	phase1, peer, learned, giveUp := s.sa.phase1, s.sa.peer, s.learned, giveUpAfter
	if !s.orphaned.IsZero() {
		giveUp = otherAddressPatience
	}
	go func() {
		// What the user takes to find a one-time password is bounded by the life of
		// the old SA alone.
		ctx, cancel := s.thinking.within(s.ctx, reauthPatience)
		defer cancel()
		for {
			sa, err := s.newSA(phase1, peer)
			if err != nil {
				s.reauthed <- reauthResult{err: err}
				return
			}
			sa.giveUp, sa.learned = giveUp, learned
			a, err := sa.establish(ctx)
			if !errors.Is(err, errTooLate) {
				s.reauthed <- reauthResult{sa, a, err}
				return
			}
			sa.closeSA(nil)
			sa.discard()
		}
	}()
}

// reauthenticated moves to the new ISAKMP SA. The old one is deleted only after the
// new one carries an ESP SA.
func (s *Session) reauthenticated(r reauthResult) error {
	s.reauthing = false
	old := s.Assignment()
	err := r.err
	if err == nil && !slices.Equal(r.assignment.Addresses, old.Addresses) {
		err = addressChanged(old, r.assignment)
	}
	if err != nil {
		if r.sa != nil {
			r.sa.closeSA(nil)
			r.sa.discard()
			if r.sa.declined {
				return err // the user would only be asked again
			}
		}
		return s.reauthFailed(err)
	}
	previous := s.sa
	s.sa = r.sa
	s.sa.giveUp, s.sa.inControl = controlPatience, true
	s.setAssignment(r.assignment)
	wasOrphaned := !s.orphaned.IsZero()
	s.orphaned = time.Time{}
	err = s.openESP(s.ctx, r.sa, r.assignment)
	if err == nil {
		err = s.childForEach(s.ctx, r.sa)
	}
	if err != nil {
		if !wasOrphaned {
			previous.closeSA(nil)
		}
		previous.discard()
		return err
	}
	s.publishStats()
	s.event(Event{Kind: EventReauth})
	if wasOrphaned { // and its ESP SAs may be gone as well
		previous.discard()
		s.activateNewest()
		return nil
	}
	previous.delete(isakmp.ProtoISAKMP, previous.cookies())
	if s.old != nil {
		s.old.discard()
	}
	s.old, s.oldUntil = previous, time.Now().Add(oldSAGrace)
	return nil
}

// activateNewest sends on the newest ChildSA of each pair of selectors.
func (s *Session) activateNewest() {
	for _, p := range s.pairs {
		s.mu.Lock()
		c := s.newestLocked(p)
		s.mu.Unlock()
		if c != nil {
			s.activate(c)
		}
	}
}

// reauthFailed tries again while the old SA lives, unless trying again would lock
// the account or trust somebody else.
func (s *Session) reauthFailed(err error) error {
	var credentials *CredentialsError
	var trust *TrustError
	var changed *AddressChangedError
	if errors.As(err, &credentials) || errors.As(err, &trust) || errors.As(err, &changed) {
		return err
	}
	var silent *NoAnswerError
	if !s.orphaned.IsZero() && errors.As(err, &silent) && !s.espAlive() {
		return &ClosedByGatewayError{}
	}
	s.log.Warn("reauthentication failed", "err", err)
	s.sa.reauthAt = time.Now().Add(reauthRetry)
	return nil
}
