package ike

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// saState is how far an ISAKMP SA has come; each state has its list of exchanges
// that are looked at, everything else is dropped unread.
//
//	new -> authenticated -> configured -> up -> closed
//	       (SIG verified)   (XAUTH done)
type saState int

const (
	stateNew           saState = iota // phase 1 runs; nothing is authenticated
	stateAuthenticated                // the gateway has proved who it is: XAUTH, if the method has it
	stateConfigured                   // signed in: Mode-Config, if there is one
	stateUp                           // Quick Mode
	stateClosed
)

func (s saState) String() string {
	switch s {
	case stateNew:
		return "new"
	case stateAuthenticated:
		return "authenticated"
	case stateConfigured:
		return "configured"
	case stateUp:
		return "up"
	case stateClosed:
		return "closed"
	}
	return fmt.Sprintf("saState(%d)", int(s))
}

// permits is the state gate: no login leaves before the gateway is authenticated,
// no Quick Mode happens before Mode-Config.
func (sa *isakmpSA) permits(x isakmp.ExchangeType) bool {
	switch sa.state {
	case stateNew:
		return x == sa.phase1
	case stateAuthenticated, stateConfigured:
		return x == isakmp.Transaction || x == isakmp.Informational
	case stateUp:
		return x == isakmp.Transaction || x == isakmp.Informational || x == isakmp.QuickMode
	}
	return false
}

// isakmpSA is one ISAKMP SA. It is owned by the goroutine that runs its exchanges:
// Dial's or a reauthentication's at first, the session's control loop later.
type isakmpSA struct {
	s   *Session
	log *slog.Logger

	inbox  chan []byte    // from the transport: whole datagrams without marker
	peer   netip.AddrPort // where to send; floats to port 4500
	phase1 isakmp.ExchangeType
	state  saState
	gone   bool // deleted by the gateway, while ESP lives on
	step   Step
	told   int           // the furthest of steps that was told
	giveUp time.Duration // how long a round trip is tried
	// afterRefusal is how long it goes on once a message was refused.
	afterRefusal time.Duration

	ckyI, ckyR isakmp.Cookie
	suite      IKESuite
	caps       capability
	quirks     quirk        // that the gateway was recognised to need
	natt       *nattVariant // nil: ESP goes as IP protocol 50
	nat        NAT

	keys       *phase1Keys
	phase1IV   []byte            // chain of phase 1, then its last ciphertext block
	chains     map[uint32][]byte // last ciphertext block by message ID
	chainOrder []uint32          // message IDs of chains, the oldest first

	pending   [][]byte // datagrams that came before their keys
	replies   []storedReply
	resent    bool                // the last of them went out again, see wait
	known     map[uint64]struct{} // hashes of messages that were obeyed, and of our own
	fragments reassembly
	// fragmentAbove is the longest message that is sent in one datagram.
	fragmentAbove int

	idir         isakmp.ID
	certificate  [32]byte // SHA-256
	wantsCert    bool     // the gateway sent CERTREQ
	xauthReplies int
	passwordSent bool
	declined     bool            // a question was refused; owned by whoever asks
	signingIn    bool            // the user is being asked while the session is up
	answering    bool            // a Quick Mode of the gateway; one at a time
	answered     map[uint32]bool // message IDs of the gateway's Quick Modes, against replay
	inControl    bool            // the control loop's; it hears of network changes while it waits
	established  time.Time
	lifetime     time.Duration
	reauthAt     time.Time
	learned      time.Duration // age at which the gateway is known to end phase 1; 0: not known

	pushed *Assignment // settings that a SET brought, maybe early

	dpd dpdState
}

// maxUnfragmented is the longest message that is sent whole: with IPv6 and UDP
// headers it fits the 1,280 bytes that every path carries.
const maxUnfragmented = 1232

func (s *Session) newSA(exchange isakmp.ExchangeType, peer netip.AddrPort) (*isakmpSA, error) {
	sa := &isakmpSA{
		s: s, log: s.log,
		inbox: make(chan []byte, inboxSize), peer: peer, phase1: exchange,
		step: StepFindGateway, giveUp: giveUpAfter, afterRefusal: refusedPatience,
		chains: make(map[uint32][]byte), answered: make(map[uint32]bool),
		fragmentAbove: maxUnfragmented,
	}
	if err := sa.random(sa.ckyI[:]); err != nil {
		return nil, err
	}
	if s.fragmentAbove > 0 {
		sa.fragmentAbove = s.fragmentAbove
	}
	s.transport.register(sa)
	return sa, nil
}

// discard forgets the SA without telling the gateway.
func (sa *isakmpSA) discard() {
	sa.s.transport.unregister(sa)
	sa.state = stateClosed
	sa.keys.zero()
}

func (sa *isakmpSA) random(b []byte) error {
	if _, err := io.ReadFull(sa.s.rand, b); err != nil {
		return fmt.Errorf("random numbers: %w", err)
	}
	return nil
}

// newMessageID draws a message ID that is not 0 and not in use.
func (sa *isakmpSA) newMessageID() (uint32, error) {
	var b [4]byte
	for {
		if err := sa.random(b[:]); err != nil {
			return 0, err
		}
		mid := binary.BigEndian.Uint32(b[:])
		if _, used := sa.chains[mid]; mid != 0 && !used {
			return mid, nil
		}
	}
}

// enter begins a step. Each is told once, although forged messages may take us there
// several times. Reauthentication happens behind the user's back and tells of none.
func (sa *isakmpSA) enter(step Step) {
	sa.step = step
	if i := slices.Index(steps, step); sa.s.dialing() && i > sa.told {
		sa.told = i
		sa.s.event(Event{Kind: EventStep, Step: step})
	}
}

// unauthenticated looks at an Informational message that anybody on the path could
// have sent. It is a hint: logged, shown in the final error, never obeyed
// (CVE-2007-1841 and its kin).
func (sa *isakmpSA) unauthenticated(m *message) error {
	for _, p := range m.payloads {
		if p.Type != isakmp.PayloadNotify {
			continue
		}
		n, err := isakmp.ParseNotify(p.Body)
		if err != nil || sa.state != stateNew {
			continue
		}
		if to, ok := redirection(n); ok {
			return &redirectError{to: to}
		}
		if n.Type.IsError() {
			sa.log.Info("the gateway seems to refuse", "notify", n.Type, "authenticated", false)
			return sa.refused(n.Type, false)
		}
	}
	return dropped("unauthenticated %v", m)
}

// redirection reads Cisco's load balancing notification: the address of another
// gateway.
func redirection(n isakmp.Notify) (netip.Addr, bool) {
	if n.Type != isakmp.NotifyUnityLoadBalance {
		return netip.Addr{}, false
	}
	to, ok := netip.AddrFromSlice(n.Data)
	return to, ok && to.Is4() && usableAddress(to)
}

// refused makes the error for an error notification.
func (sa *isakmpSA) refused(n isakmp.NotifyType, authenticated bool) *RefusedError {
	e := &RefusedError{Step: sa.step, What: RefusedConnection, Notify: n, Authenticated: authenticated}
	switch n {
	case isakmp.NotifyNoProposalChosen, isakmp.NotifyBadProposalSyntax, isakmp.NotifyInvalidKeyInfo:
		e.What = RefusedProposal
		if sa.step == StepBuildTunnel {
			e.Offered = names(sa.s.espSuites)
		} else {
			e.Step, e.Offered = StepAgreeSecurity, names(sa.s.ikeSuites)
		}
	case isakmp.NotifyInvalidIDInfo:
		if sa.step == StepBuildTunnel {
			e.What = RefusedSettings
		}
	}
	return e
}

func names[S fmt.Stringer](suites []S) []string {
	out := make([]string, len(suites))
	for i, s := range suites {
		out[i] = s.String()
	}
	return out
}

// handle is the default handler: what the gateway sends while nothing, or
// something else, is being waited for.
func (sa *isakmpSA) handle(m *message) error {
	switch m.Exchange {
	case isakmp.Informational:
		sa.remember(m.raw)
		sa.s.heard()
		return sa.informational(m)
	case isakmp.Transaction:
		sa.s.heard()
		return sa.transaction(m)
	case isakmp.QuickMode:
		return sa.quickModeRequest(m)
	}
	return dropped("%v", m)
}

// establish runs phase 1, XAUTH and Mode-Config.
func (sa *isakmpSA) establish(ctx context.Context) (Assignment, error) {
	run := sa.mainMode
	if sa.phase1 == isakmp.AggressiveMode {
		run = sa.aggressiveMode
	}
	if err := run(ctx); err != nil {
		return Assignment{}, err
	}
	sa.state = stateAuthenticated
	sa.established = time.Now()
	sa.scheduleReauth()
	sa.log.Info("phase 1 is established", "suite", sa.suite.String(), "nat_t", sa.nattName(), "nat", string(sa.nat), "lifetime", sa.lifetime)
	if err := sa.prepareESP(ctx); err != nil {
		return Assignment{}, err
	}
	if sa.s.method.xauth {
		if err := sa.xauth(ctx); err != nil {
			return Assignment{}, err
		}
	}
	sa.state = stateConfigured
	var a Assignment
	if sa.s.cfg.ModeConfig != ModeConfigOff {
		var err error
		if a, err = sa.modeConfig(ctx); err != nil {
			return Assignment{}, err
		}
	}
	sa.state = stateUp
	return a, nil
}

// Reauthentication begins well before the lifetime of the SA answer ends:
// strongSwan gives up traffic at its rekey time, which is up to a fifth earlier
// than the lifetime that it announces.
const (
	reauthShare  = 0.8
	reauthMargin = 30 * time.Second // or a quarter of a short lifetime
	reauthJitter = 0.05
)

func (sa *isakmpSA) scheduleReauth() {
	l := sa.lifetime
	if sa.learned > 0 {
		l = min(l, sa.learned)
	}
	at := min(time.Duration(reauthShare*float64(l)), l-min(reauthMargin, l/4))
	at -= sa.s.jitter(time.Duration(reauthJitter * float64(l)))
	sa.reauthAt = sa.established.Add(max(at, l/2))
}
