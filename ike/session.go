package ike

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wayfarer/ike/isakmp"
)

const (
	// otherAddressPatience is how long an address is tried while there are
	// others, otherExchangePatience an exchange while there is another.
	otherAddressPatience  = 10 * time.Second
	otherExchangePatience = 12 * time.Second
	// reauthRetry is the pause before a failed reauthentication is tried again.
	reauthRetry = 20 * time.Second
	// orphanedFor is how long ESP may outlive its ISAKMP SA while a new one is
	// being built (IOS deletes them separately).
	orphanedFor = 60 * time.Second
	// reauthPatience is how long a gateway may take for all of a reauthentication.
	reauthPatience = 60 * time.Second
	// controlPatience is how long the control loop waits for an answer; meanwhile
	// it does little else.
	controlPatience = 20 * time.Second
	// probePatience is how long the question waits what a gateway would accept.
	probePatience = 3 * time.Second
	// maxRedirects bounds how often one gateway may send us to another.
	maxRedirects = 3
	// An ESP SA that the gateway deletes within shortLife is replaced after a
	// growing pause, maxShortLived times in a row: at once, after one second, after two.
	// Meanwhile nothing gets through, so the end has to come soon.
	shortLife     = 10 * time.Second
	maxShortLived = 3
	// oldSAGrace is how long a replaced ISAKMP SA still answers.
	oldSAGrace = 10 * time.Second
	// closePatience bounds how long a session that ends waits for a socket that takes
	// nothing more. The service closes all of them within 20 seconds.
	closePatience = 2 * time.Second
)

// Session is a connection to a gateway. It owns the transport, the ISAKMP SA, and its
// ESP SAs.
//
// What works on it, each on a goroutine of its own: the transport's receive loops, one
// for each socket; the control loop (run); and, now and then, a reauthentication, or who
// waits for the user. The receive loops and the caller of WritePacket meet the others in
// the ChildSAs, which are published as a whole.
type Session struct {
	cfg       Config
	log       *slog.Logger
	rand      io.Reader
	host      string // of Config.Gateway, the one that answered
	transport *transport
	ctx       context.Context
	cancel    context.CancelFunc

	endpoints []endpoint
	method    *authMethod
	ikeSuites []IKESuite
	espSuites []ESPSuite

	aggressiveGroup *group // of the attempt that is running
	loginSent       bool   // an answer to XAUTH has left; owned by Dial
	newKeyExchange  func(*group) (keyExchange, error)
	ahead           *aheadKey     // owned by Dial; nil afterwards
	fragmentAbove   int           // 0: the default
	phase1Lifetime  time.Duration // offered

	// Owned by Dial, then by the control loop.
	sa         *isakmpSA
	old        *isakmpSA // replaced, answers for a while
	oldUntil   time.Time
	quickOffer *quickOffer // that the gateway accepted
	pairs      []selectorPair
	reauthing  bool
	reauthed   chan reauthResult
	orphaned   time.Time // the ISAKMP SA was deleted by the gateway
	// thoughtBefore is how long the user had thought when that happened.
	thoughtBefore time.Duration
	needChild     bool      // the gateway deleted an ESP SA
	replaceAt     time.Time // when to replace it
	shortLived    int       // how often in a row the gateway deleted ESP SAs soon after they were made
	renewAll      bool      // the gateway lost its ESP SAs
	expiry        time.Time // of the assigned address; zero: none
	watchdog      watchdog
	thinking      thinking
	path          pathState
	learned       time.Duration // age at which the gateway ends phase 1; 0: as it says

	clock     clock
	connected atomic.Bool // Dial is over
	lastHeard atomic.Int64

	mu         sync.Mutex
	password   Secret
	unsent     *unsentAnswer
	assignment Assignment
	children   []*childSA // oldest first; a new one is appended
	reserved   map[uint32]bool
	stats      Stats // of the ISAKMP SA
	err        error

	inbound  atomic.Pointer[map[uint32]*childSA] // by our SPI
	outbound atomic.Pointer[[]*childSA]          // newest first
	newest   atomic.Pointer[childSA]             // that was installed last, also when it is gone
	policy   atomic.Pointer[policy]
	espPath  atomic.Pointer[espPath]

	wayIn
	outbox outbox // owned by who calls WritePacket and Flush

	wakeUp   chan struct{} // deadlines have changed
	rekeyNow chan struct{}
	probeNow chan struct{}
	tasks    chan func() error // for the control loop
	asking   sync.WaitGroup    // goroutines that wait for the user
	done     chan struct{}
}

// Dial connects: phase 1, XAUTH, Mode-Config and the first Quick Mode. It tries all
// gateways of cfg and all their addresses. It returns one of the error types of this
// package, an error of cfg's hooks, or ctx's error.
func Dial(ctx context.Context, cfg *Config) (*Session, error) {
	return dial(ctx, cfg, nil)
}

// dial is Dial with a change to the new session, for tests.
func dial(ctx context.Context, cfg *Config, prepare func(*Session)) (*Session, error) {
	s, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		prepare(s)
	}
	err = s.dialAny(ctx)
	if err != nil {
		s.cancel()
		s.forgetPassword()
		s.keepUnsent(nil)
		return nil, err
	}
	s.connected.Store(true)
	context.AfterFunc(s.ctx, s.transport.endWrites)
	go s.run()
	return s, nil
}

func newSession(cfg *Config) (*Session, error) {
	s := &Session{
		cfg: *cfg, log: cfg.Log, rand: cfg.Rand, password: cfg.Password.Clone(), phase1Lifetime: phase1Lifetime,
		reserved: make(map[uint32]bool), reauthed: make(chan reauthResult, 1),
		wakeUp:   make(chan struct{}, 1),
		rekeyNow: make(chan struct{}, 1), probeNow: make(chan struct{}, 1), tasks: make(chan func() error), done: make(chan struct{}),
	}
	if s.cfg.Words == nil {
		s.cfg.Words = new(Words)
	}
	s.clock = clock{time.Now()}
	s.watchdog.clock = s.clock
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	s.newKeyExchange = func(g *group) (keyExchange, error) { return g.newKeyExchange(s.rand) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.inbound.Store(new(map[uint32]*childSA))
	s.outbound.Store(new([]*childSA))
	s.policy.Store(new(policy))
	return s, s.configure()
}

// dialAny walks all gateways and their addresses. Only a gateway that does not
// answer makes it go on to the next, and only until a login has left: each sign-in
// counts at the gateways, and may cost a one-time password.
func (s *Session) dialAny(ctx context.Context) error {
	s.event(Event{Kind: EventStep, Step: StepFindGateway})
	s.prepareKey()
	defer func() { s.ahead = nil }() // unless it was needed
	var last error
	for i, e := range s.endpoints {
		addrs, err := s.resolve(ctx, e.host)
		if err != nil {
			last = err
			continue
		}
		s.host = e.host
		for j, addr := range addrs {
			more := i+1 < len(s.endpoints) || j+1 < len(addrs)
			last = s.dialRedirected(ctx, netip.AddrPortFrom(addr, e.port), more)
			var silent *NoAnswerError
			if last == nil || !errors.As(last, &silent) || s.loginSent || ctx.Err() != nil {
				return last
			}
			s.log.Info("no answer", "gateway", addr, "err", last)
		}
	}
	return last
}

// dialRedirected goes where a gateway sends us, a few times.
func (s *Session) dialRedirected(ctx context.Context, peer netip.AddrPort, more bool) error {
	for left := maxRedirects; ; left-- {
		err := s.dialAddress(ctx, peer, more)
		var redirect *redirectError
		if !errors.As(err, &redirect) || ctx.Err() != nil {
			return err
		}
		if left == 0 {
			return &RefusedError{
				Step: StepFindGateway, What: RefusedConnection, Notify: isakmp.NotifyUnityLoadBalance,
				Authenticated: redirect.authenticated, Detail: "one gateway sends us to the next",
			}
		}
		s.log.Info("redirected", "from", peer, "to", redirect.to, "authenticated", redirect.authenticated)
		peer = netip.AddrPortFrom(redirect.to, portIKE)
	}
}

func (s *Session) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	lookup := s.cfg.Resolve
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	addrs, err := lookup(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("the name has no address")
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &NoAnswerError{Step: StepFindGateway, Gateway: host, Err: err}
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// dialAddress tries the exchanges in turn, each afresh: with new cookies, nothing
// taken over.
func (s *Session) dialAddress(ctx context.Context, peer netip.AddrPort, more bool) error {
	t, err := newTransport(ctx, &s.cfg, peer.Addr(), s.clock, s.log, s.tooBig, s.receiveESP)
	if err != nil {
		return err
	}
	s.transport = t
	if err = s.dialExchanges(ctx, peer, more); err != nil {
		t.close()
	}
	return err
}

// attempt is one way of doing phase 1.
type attempt struct {
	exchange Exchange
	group    *group // of Aggressive Mode, whose first message fixes it
}

// attempts lists what is tried. Aggressive Mode shows the identity to anybody, so
// Main Mode comes first.
func (s *Session) attempts() []attempt {
	var out []attempt
	if s.cfg.Exchange != ExchangeAggressive {
		out = append(out, attempt{ExchangeMain, nil})
	}
	groups := groupsOf(s.ikeSuites)
	switch s.cfg.Exchange {
	case ExchangeMain:
		groups = nil
	case ExchangeAuto:
		groups = groups[:1]
	}
	for _, g := range groups {
		out = append(out, attempt{ExchangeAggressive, g})
	}
	return out
}

func (s *Session) dialExchanges(ctx context.Context, peer netip.AddrPort, more bool) error {
	attempts := s.attempts()
	var first error
	for i, a := range attempts {
		giveUp := giveUpAfter
		if i+1 < len(attempts) {
			giveUp = otherExchangePatience
		}
		if more {
			giveUp = min(giveUp, otherAddressPatience)
		}
		err := s.dialOnce(ctx, peer, a, giveUp)
		if err == nil {
			return nil
		}
		if first == nil || isRefused(err) && !isRefused(first) {
			first = err
		}
		if s.loginSent || !otherExchangeMayHelp(err) || ctx.Err() != nil {
			return err
		}
		s.log.Info("the exchange failed", "exchange", a.exchange, "err", err)
	}
	if weak := s.probeWeak(ctx, peer, first); weak != nil {
		return weak
	}
	return first
}

// probeWeak finds out what would have helped, when a gateway refused all that was
// offered: one Main Mode message offers what the profile does not allow, and the
// exchange ends with the answer to it.
func (s *Session) probeWeak(ctx context.Context, peer netip.AddrPort, refusal error) error {
	var refused *RefusedError
	if !errors.As(refusal, &refused) || refused.What != RefusedProposal {
		return nil
	}
	suites := slices.DeleteFunc(DefaultIKE(WeakAll), func(w IKESuite) bool { return w.Weak()&^s.cfg.AllowWeak == 0 })
	if len(suites) == 0 {
		return nil
	}
	sa, err := s.newSA(mainExchange, peer)
	if err != nil {
		return nil
	}
	defer sa.discard()
	sa.giveUp, sa.afterRefusal = probePatience, 0
	if _, err := sa.agree(ctx, suites); err != nil {
		return nil
	}
	return &WeakError{Step: StepAgreeSecurity, What: sa.suite.String(), Needs: sa.suite.Weak() &^ s.cfg.AllowWeak}
}

// otherExchangeMayHelp: the gateway was silent or refused before anything was
// agreed.
func otherExchangeMayHelp(err error) bool {
	var silent *NoAnswerError
	var refused *RefusedError
	return errors.As(err, &silent) && silent.Step == StepFindGateway ||
		errors.As(err, &refused) && (refused.Step == StepAgreeSecurity || refused.Step == StepFindGateway)
}

func (s *Session) dialOnce(ctx context.Context, peer netip.AddrPort, a attempt, giveUp time.Duration) error {
	s.aggressiveGroup = a.group
	for {
		s.forget()
		sa, err := s.newSA(a.exchange.isakmp(), peer)
		if err != nil {
			return err
		}
		sa.giveUp = giveUp
		if err = s.connect(ctx, sa); err == nil {
			return nil
		}
		s.log.Info("connecting failed", "step", sa.step, "err", err)
		sa.closeSA(nil)
		sa.discard()
		if !errors.Is(err, errTooLate) {
			return err
		}
	}
}

// forget drops what an attempt that failed has left: the next one begins afresh.
func (s *Session) forget() {
	s.pairs, s.quickOffer, s.expiry = nil, nil, time.Time{}
	s.mu.Lock()
	children := slices.Clone(s.children)
	s.assignment = Assignment{}
	s.mu.Unlock()
	for _, c := range children {
		s.remove(c)
	}
}

// connect runs everything up to the first ChildSA.
func (s *Session) connect(ctx context.Context, sa *isakmpSA) error {
	assignment, err := sa.establish(ctx)
	if err != nil {
		return err
	}
	s.sa = sa
	sa.giveUp = giveUpAfter
	s.setAssignment(assignment)
	sa.enter(StepBuildTunnel)
	if err := s.openESP(ctx, sa, assignment); err != nil {
		return err
	}
	if err := s.firstChildren(ctx, sa, assignment); err != nil {
		return err
	}
	s.publishStats()
	sa.giveUp, sa.inControl = controlPatience, true
	return nil
}

// firstChildren negotiates an ESP SA for each pair of selectors. Where a gateway
// refuses one SA for everything, and has named its networks, each network gets its
// own.
func (s *Session) firstChildren(ctx context.Context, sa *isakmpSA, a Assignment) error {
	if s.pairs == nil {
		s.pairs = s.selectorPairs(a, s.cfg.Selectors == SelectorsPerNetwork)
	}
	err := s.childForEach(ctx, sa)
	var refused *RefusedError
	if errors.As(err, &refused) && refused.What == RefusedSettings && s.cfg.Selectors == SelectorsAuto && len(a.SplitInclude) > 0 {
		s.log.Info("one SA for everything was refused; trying one for each network")
		s.pairs = s.selectorPairs(a, true)
		err = s.childForEach(ctx, sa)
	}
	return err
}

// childForEach succeeds if one pair of selectors gets an SA; the others that the
// gateway refuses are left out, with a warning.
func (s *Session) childForEach(ctx context.Context, sa *isakmpSA) error {
	var first error
	made := 0
	for _, p := range s.pairs {
		_, err := sa.newChild(ctx, p)
		switch {
		case err == nil:
			made++
		case !isRefused(err):
			return err
		case first == nil:
			first = err
		}
		if err != nil && len(s.pairs) > 1 {
			s.event(Event{Kind: EventWarning, Step: sa.step, Code: "network-refused", Text: fmt.Sprintf("the gateway refuses %v", p.remote)})
		}
	}
	if made > 0 {
		return nil
	}
	return first
}

// setAssignment takes over settings and the policy that follows from them.
func (s *Session) setAssignment(a Assignment) {
	s.expiry = time.Time{}
	if a.Expiry > 0 {
		s.expiry = time.Now().Add(max(a.Expiry, minExpiry))
	}
	s.mu.Lock()
	s.assignment = a
	s.mu.Unlock()
	s.policy.Store(newPolicy(a, &s.cfg))
}

func (s *Session) publishStats() {
	sa := s.sa
	s.mu.Lock()
	defer s.mu.Unlock()
	rekeys := 0
	if !s.stats.Established.IsZero() {
		rekeys = s.stats.Rekeys + 1
	}
	s.stats = Stats{
		Host: s.host, Gateway: sa.peer, Local: s.transport.local(sa.peer),
		Identity: describeID(sa.idir), CertificateSHA256: sa.certificate,
		Exchange: exchangeOf(sa.phase1), Auth: s.method.name, Suite: sa.suite.String(),
		NATT: sa.nattName(), NAT: sa.nat, Fragmentation: sa.caps&capFragmentation != 0, DPD: sa.caps&capDPD != 0,
		Established: sa.established, Expires: sa.established.Add(sa.lifetime), Rekeys: rekeys,
	}
}

// Assignment is what the gateway gave.
func (s *Session) Assignment() Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.assignment
	a.Addresses, a.DNS, a.WINS = slices.Clone(a.Addresses), slices.Clone(a.DNS), slices.Clone(a.WINS)
	a.SplitDNS, a.BackupServers = slices.Clone(a.SplitDNS), slices.Clone(a.BackupServers)
	a.SplitInclude, a.SplitExclude = slices.Clone(a.SplitInclude), slices.Clone(a.SplitExclude)
	return a
}

// Stats is a snapshot of the session.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.LastHeard = s.heardAt()
	st.Children = make([]ChildStats, 0, len(s.children))
	for _, c := range slices.Backward(s.children) {
		in, out := c.in.Stats(), c.out.Stats()
		st.Children = append(st.Children, ChildStats{
			SPIIn: c.spiIn, SPIOut: c.spiOut, Suite: c.suite.String(), Local: c.local, Remote: c.remote,
			BytesIn: in.Bytes, PacketsIn: in.Packets, BytesOut: out.Bytes, PacketsOut: out.Packets,
			Replayed: in.Replayed, BadICV: in.BadICV, IPComp: c.cpiIn != 0, BadIPComp: in.BadExpansion,
			Established: c.established, Expires: c.expires, Rekeys: c.rekeys,
		})
	}
	return st
}

// NetworkChanged makes the session probe the gateway at once and often: it either
// answers on the new path or the session ends within seconds.
func (s *Session) NetworkChanged() { notify(s.probeNow) }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended: nil before, net.ErrClosed after Close.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close tells the gateway (Delete, ESP first) and ends the session. It returns when
// everything is released, after two seconds or so if the link takes no datagrams.
func (s *Session) Close() error {
	s.cancel()
	<-s.done
	return nil
}

func (x Exchange) isakmp() isakmpExchange {
	if x == ExchangeAggressive {
		return aggressiveExchange
	}
	return mainExchange
}

// do has the control loop run a function, unless the session ends first.
func (s *Session) do(f func() error) {
	select {
	case s.tasks <- f:
	case <-s.ctx.Done():
	}
}

// notify wakes a loop; one waiting signal is enough.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Session) wake()         { notify(s.wakeUp) }
func (s *Session) requestRekey() { notify(s.rekeyNow) }
func (s *Session) heard()        { s.lastHeard.Store(s.clock.stamp(time.Now())) }
func (s *Session) hint() string  { return s.transport.hint(s.lastHeard.Load()) }
func (s *Session) dialing() bool { return !s.connected.Load() }
func (s *Session) pfsWish() *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.assignment.pfs; g != nil && g.weak&^s.cfg.AllowWeak == 0 {
		return g
	}
	return nil
}

func (s *Session) event(e Event) {
	if s.cfg.Event != nil {
		s.cfg.Event(e)
	}
}

func (s *Session) jitter(most time.Duration) time.Duration {
	return time.Duration(mathrand.Float64() * float64(most))
}

// wantedAddresses are what Mode-Config asks for: the addresses that we have, or had;
// the zero value where any will do.
func (s *Session) wantedAddresses() (ip4, ip6 netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range append([]netip.Prefix{netip.PrefixFrom(s.cfg.RequestAddress, 0)}, s.assignment.Addresses...) {
		if a.Addr().Is4() {
			ip4 = a.Addr()
		} else if a.Addr().Is6() {
			ip6 = a.Addr()
		}
	}
	return ip4, ip6
}

func (s *Session) gatewayTrust(addr netip.Addr) *gatewayTrust {
	return &gatewayTrust{trust: s.cfg.Trust, allow: s.cfg.AllowWeak, host: s.host, addr: addr, remoteID: s.cfg.RemoteID}
}

func fingerprint(c *x509.Certificate) [32]byte { return sha256.Sum256(c.Raw) }
