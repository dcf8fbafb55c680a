package ike

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config says whom to connect to, as whom, and what is acceptable. The zero value
// of every field but Gateway is a sensible default. Dial does not change it.
type Config struct {
	// Gateway is a host name or address, with an optional port for the first
	// message ("vpn.example.com", "[2001:db8::1]:500"); several separated by
	// commas are tried in turn. The default port is 500.
	Gateway string

	Login    string
	Password Secret // asked for through Prompt when it is nil

	Auth     AuthMethod
	Exchange Exchange
	// GroupSecret is the pre-shared key of AuthXAUTHPSK and AuthPSK. With
	// AuthHybrid it is the group password of Cisco's mutual group authentication,
	// nil without.
	GroupSecret Secret
	// Certificates are ours and its intermediates, ours first, and Key is its
	// private key (RSA, or ECDSA on P-256, P-384 or P-521), for AuthXAUTHRSA and
	// AuthRSA.
	Certificates []*x509.Certificate
	Key          crypto.Signer

	// LocalID is sent as IDii, a group's name as KEY_ID. Nil sends the subject of
	// our certificate, or without one the local address, as strongSwan does.
	LocalID *Identity
	// RemoteID must be the gateway's IDir; nil asks that the certificate names
	// the host of Gateway.
	RemoteID *Identity
	Trust    Trust

	IKE       []IKESuite // phase-1 offers in falling preference; empty: DefaultIKE
	ESP       []ESPSuite // phase-2 offers; empty: DefaultESP
	AllowWeak Weak
	PFS       PFS

	ModeConfig ModeConfig
	Selectors  Selectors
	// LocalNetworks lie behind us and RemoteNetworks behind the gateway: a
	// satellite office. Empty: the assigned address, and what Selectors says.
	LocalNetworks, RemoteNetworks []netip.Prefix
	// Networks lie behind the gateway too, beside those that it names: packets
	// from there are let in, and per-network selectors get an SA for each.
	Networks []netip.Prefix

	NATT NATT
	// LocalPort is our UDP port; 0 is any. 500 is the fixed pair of RFC 3947 §4,
	// with 4500 beside it. Any other serves both ports of the gateway.
	LocalPort uint16
	Quirks    Quirks

	// IPComp offers the gateway to compress inner packets (RFC 3173, DEFLATE).
	//
	// It is never offered by default: the length of an encrypted packet then tells
	// how well its content compresses. Who can have text of his own sent beside a
	// secret (by a web page whose requests carry a cookie) and sees the lengths can
	// guess the secret piece by piece, as CRIME and VORACLE showed.
	IPComp bool

	// RequestAddress asks Mode-Config for this address, to get the same one
	// again after a reconnect. The gateway may ignore it.
	RequestAddress netip.Addr
	// HostName is this computer's, for the gateway's DNS, and Application is this
	// program's name and version. Mode-Config tells them, unless they are empty.
	HostName, Application string
	// Reconnect suppresses INITIAL-CONTACT: another connection to this gateway
	// may still be alive (RFC 2407 §4.6.3.3).
	Reconnect bool

	// Words is shared by the Dials that get the same Password, so that none sends it
	// under other words of the gateway than it was given under. Nil: a Session keeps its
	// own, which is all that can be done where nobody is there to ask.
	Words *Words

	// Prompt asks the user what the gateway asks. It may block for as long as
	// the user thinks. Without it such a question ends the attempt.
	Prompt func(context.Context, Prompt) (Answer, error)
	// Event is called on every change, from the goroutine that makes it; it
	// must not block nor call the Session.
	Event func(Event)
	// Resolve looks up a host name; nil is net.DefaultResolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// ListenPacket opens a UDP socket towards a gateway on a port of ours, 0 being
	// any; nil is an unconnected socket. It may be a PathConn and a BatchConn.
	// Its SetReadDeadline must end a read that waits, as a net.PacketConn's does.
	ListenPacket func(ctx context.Context, gateway netip.Addr, port uint16) (net.PacketConn, error)
	// ListenESP opens a raw socket for IP protocol 50 towards a gateway that knows
	// no NAT traversal. Packets read from it have no IP header. It may be a PathConn
	// and a BatchConn. Nil tries with the rights of the process.
	ListenESP func(ctx context.Context, gateway netip.Addr) (net.PacketConn, error)
	// Rand is the source of cookies, nonces, keys and IVs, for several goroutines at
	// once; nil is crypto/rand.
	Rand io.Reader
	// Log gets one line per message; nil discards.
	Log *slog.Logger
}

// Check says what Dial would refuse before it sends anything: a *[ConfigError].
func (c *Config) Check() error { return (&Session{cfg: *c}).configure() }

// configure checks the Config and fills in defaults.
func (s *Session) configure() error {
	c := &s.cfg
	c.Auth, c.Exchange = cmp.Or(c.Auth, AuthHybrid), cmp.Or(c.Exchange, ExchangeAuto)
	c.ModeConfig, c.PFS = cmp.Or(c.ModeConfig, ModeConfigAuto), cmp.Or(c.PFS, PFSAuto)
	c.Selectors, c.NATT = cmp.Or(c.Selectors, SelectorsAuto), cmp.Or(c.NATT, NATTAuto)
	var err error
	if s.method, err = chooseMethod(c); err != nil {
		return err
	}
	if s.endpoints, err = parseEndpoints(c.Gateway); err != nil {
		return &ConfigError{Field: "gateway", Err: err}
	}
	_, natt := nattCaps(c.NATT)
	for _, choice := range []struct {
		field, value string
		known        bool
	}{
		{"exchange", string(c.Exchange), slices.Contains([]Exchange{ExchangeAuto, ExchangeMain, ExchangeAggressive}, c.Exchange)},
		{"mode_config", string(c.ModeConfig), slices.Contains([]ModeConfig{ModeConfigAuto, ModeConfigPull, ModeConfigPush, ModeConfigOff}, c.ModeConfig)},
		{"selectors", string(c.Selectors), slices.Contains([]Selectors{SelectorsAuto, SelectorsOne, SelectorsPerNetwork}, c.Selectors)},
		{"nat_t", string(c.NATT), natt},
	} {
		if !choice.known {
			return &ConfigError{Field: choice.field, Err: fmt.Errorf("unknown: %q", choice.value)}
		}
	}
	if c.ModeConfig == ModeConfigAuto && len(c.LocalNetworks) > 0 && !s.method.xauth {
		c.ModeConfig = ModeConfigOff // a satellite office has its own addresses
	}
	if c.ModeConfig == ModeConfigOff && len(c.LocalNetworks) == 0 {
		return &ConfigError{Field: "mode_config", Err: errors.New("without it, the networks on this side must be given")}
	}
	if s.method.psk && s.cfg.Exchange != ExchangeMain && c.AllowWeak&WeakPSKAggressive == 0 {
		if c.Exchange == ExchangeAggressive {
			return &ConfigError{"exchange", errors.New("aggressive mode with a shared secret lets anybody guess it"), WeakPSKAggressive}
		}
		c.Exchange = ExchangeMain
	}
	if c.PFS != PFSAuto && c.PFS != PFSOff {
		g := findGroup(string(c.PFS))
		if g == nil {
			return &ConfigError{Field: "pfs", Err: fmt.Errorf("unknown group %q", c.PFS)}
		}
		if missing := g.weak &^ c.AllowWeak; missing != 0 {
			return &ConfigError{"pfs", fmt.Errorf("%s is weak", g.name), missing}
		}
	}
	if s.ikeSuites = c.IKE; len(c.IKE) == 0 {
		s.ikeSuites = DefaultIKE(c.AllowWeak)
	}
	if s.espSuites = c.ESP; len(c.ESP) == 0 {
		s.espSuites = DefaultESP(c.AllowWeak)
	}
	if err := checkSuites("ike", s.ikeSuites, IKESuite.Weak, c.AllowWeak); err != nil {
		return err
	}
	return checkSuites("esp", s.espSuites, ESPSuite.Weak, c.AllowWeak)
}

// maxSuites bounds an offer: a proposal has one byte to count transforms with.
const maxSuites = 64

// checkSuites refuses too many, and suites that are weaker than what the profile allows by
// name.
func checkSuites[S fmt.Stringer](field string, suites []S, weak func(S) Weak, allow Weak) error {
	if len(suites) > maxSuites {
		return &ConfigError{Field: field, Err: fmt.Errorf("more than %d suites", maxSuites)}
	}
	for _, s := range suites {
		if missing := weak(s) &^ allow; missing != 0 {
			return &ConfigError{field, fmt.Errorf("%s is weak", s), missing}
		}
	}
	return nil
}

// endpoint is one gateway of Config.Gateway.
type endpoint struct {
	host string
	port uint16
}

func parseEndpoints(gateway string) ([]endpoint, error) {
	var out []endpoint
	for field := range strings.SplitSeq(gateway, ",") {
		field = strings.TrimSpace(field)
		e := endpoint{host: field, port: portIKE}
		if addr, err := netip.ParseAddr(strings.Trim(field, "[]")); err == nil {
			e.host = addr.String()
		} else if host, port, err := net.SplitHostPort(field); err == nil {
			n, err := net.LookupPort("udp", port)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("port of %q", field)
			}
			e = endpoint{host, uint16(n)}
		} else if strings.ContainsAny(field, ":/ ") {
			return nil, fmt.Errorf("%q is no host name or address", field)
		}
		if e.host == "" {
			return nil, errors.New("no host name or address")
		}
		out = append(out, e)
	}
	return out, nil
}

// Trust says which gateway certificates are believed. With neither CAs, SystemRoots
// nor Pin, every gateway ends in a *TrustError whose question the user can answer
// by a pin.
type Trust struct {
	CAs         []*x509.Certificate
	SystemRoots bool
	// Pin is the SHA-256 of the gateway's certificate; zero is none. It stands
	// for issuer and name, never for validity or weak keys.
	Pin [32]byte
}

// AuthMethod is how the two sides authenticate in phase 1.
type AuthMethod string

// Authentication methods, as the command line writes them.
const (
	AuthHybrid   AuthMethod = "hybrid"    // gateway by certificate, user by XAUTH
	AuthXAUTHPSK AuthMethod = "xauth-psk" // both by a group's secret, then XAUTH
	AuthXAUTHRSA AuthMethod = "xauth-rsa" // both by certificate, then XAUTH
	AuthPSK      AuthMethod = "psk"       // both by a pre-shared key, no user
	AuthRSA      AuthMethod = "rsa"       // both by certificate (RSA or ECDSA), no user
)

// Exchange is the phase-1 exchange to use.
type Exchange string

// Exchanges. Auto tries Main Mode and then, as a fresh exchange, Aggressive Mode.
const (
	ExchangeAuto       Exchange = "auto"
	ExchangeMain       Exchange = "main"
	ExchangeAggressive Exchange = "aggressive"
)

// ModeConfig is how the settings come from the gateway.
type ModeConfig string

// Ways of Mode-Config. Auto asks at once and takes a SET that comes instead.
const (
	ModeConfigAuto ModeConfig = "auto"
	ModeConfigPull ModeConfig = "pull"
	ModeConfigPush ModeConfig = "push"
	ModeConfigOff  ModeConfig = "off" // needs LocalNetworks
)

// Selectors says for what ESP SAs are negotiated.
type Selectors string

// Ways to choose selectors. Auto begins with one SA for everything, and takes one a
// network where the gateway refuses that and has named its networks.
const (
	SelectorsAuto       Selectors = "auto"
	SelectorsOne        Selectors = "one"         // our address and 0.0.0.0/0
	SelectorsPerNetwork Selectors = "per-network" // one SA for each split-include network and each of Networks
)

// PFS says whether Quick Mode makes a Diffie-Hellman exchange of its own: "auto"
// (first without, then, if the gateway refuses, with the group of phase 1), "off",
// or a group's name ("modp2048").
type PFS string

// PFS settings that are not a group's name.
const (
	PFSAuto PFS = "auto"
	PFSOff  PFS = "off"
)

// Step is a part of connecting that a user understands.
type Step string

// Steps, in their order.
const (
	StepFindGateway      Step = "find-gateway"
	StepAgreeSecurity    Step = "agree-security"
	StepCheckCertificate Step = "check-certificate"
	StepSignIn           Step = "sign-in"
	StepGetSettings      Step = "get-settings"
	StepBuildTunnel      Step = "build-tunnel"
)

// steps in their order.
var steps = []Step{StepFindGateway, StepAgreeSecurity, StepCheckCertificate, StepSignIn, StepGetSettings, StepBuildTunnel}

// PromptKind says what a prompt asks for.
type PromptKind string

// Kinds of prompts that the protocol itself has.
const (
	PromptPassword  PromptKind = "password"
	PromptOTP       PromptKind = "otp"       // PASSCODE
	PromptChallenge PromptKind = "challenge" // CHALLENGE, or a changed MESSAGE
	PromptNextPIN   PromptKind = "next-pin"  // NEXT_PIN
)

// Prompt is a question of the gateway to the user.
type Prompt struct {
	Kind   PromptKind
	Text   string // the gateway's own words, made harmless; may be empty
	Secret bool   // the answer must not be shown
	// Once: the answer is not to be kept. In one sign-in the gateway has asked for a
	// password again and not said why: what is typed then may be a one-time password.
	Once bool
}

// Answer is what the user said. Dial zeroises Text when it is done with it.
type Answer struct {
	Text Secret
}

// EventKind tells events apart.
type EventKind string

// Events.
const (
	EventStep       EventKind = "step"       // Step has begun
	EventWarning    EventKind = "warning"    // Code and Text say what
	EventRekeyed    EventKind = "rekeyed"    // a ChildSA was replaced
	EventReauth     EventKind = "reauth"     // the ISAKMP SA was replaced
	EventAssignment EventKind = "assignment" // the gateway pushed new settings
	EventMTU        EventKind = "mtu"        // Session.MTU has changed
)

// Event reports progress or change.
type Event struct {
	Kind EventKind
	Step Step
	Code string // of a warning: "weak-certificate", "gateway-settings", ...
	Text string
}

// Assignment is what Mode-Config and Unity gave: checked, merged, bounded.
type Assignment struct {
	Addresses     []netip.Prefix // usually one /32
	DNS           []netip.Addr
	WINS          []netip.Addr
	DefaultDomain string
	SplitDNS      []string       // domains for the tunnel's DNS; empty: all
	SplitInclude  []netip.Prefix // networks behind the gateway; empty: everything
	SplitExclude  []netip.Prefix // networks that stay outside a full tunnel
	Banner        string
	ForbidSave    bool // SAVE_PASSWD = 0: the password must not be stored
	BackupServers []string
	HostName      string        // under which the gateway's DNS knows us
	NATTPort      uint16        // Cisco's UDP port for ESP; counts without NAT traversal only
	Application   string        // APPLICATION_VERSION of the gateway
	Expiry        time.Duration // of the address; 0: none

	pfs *group // the gateway's wish for Quick Mode
}

// Stats is a snapshot for people and programs. Slices are the caller's own.
type Stats struct {
	Host              string         // of Config.Gateway, the one that answered
	Gateway           netip.AddrPort // where the gateway's packets come from
	Local             netip.AddrPort
	Identity          string // IDir, for people
	CertificateSHA256 [32]byte

	Exchange      Exchange
	Auth          string // "hybrid-rsa", "xauth-psk", "ecdsa-256", ...
	Suite         string // "aes256-sha256-modp2048"
	NATT          string // "rfc3947", "draft-02"; empty: none, ESP is IP protocol 50
	NAT           NAT
	Fragmentation bool
	DPD           bool
	Established   time.Time
	Expires       time.Time
	Rekeys        int       // phase-1 reauthentications
	LastHeard     time.Time // the last authenticated packet from the gateway
	ShortLived    int       // ESP SAs in a row that the gateway deleted soon after they were made

	Children []ChildStats
}

// NAT says where address translation was found.
type NAT string

// Findings of NAT detection. Forced means that none was found and encapsulation
// was asked for all the same.
const (
	NATNone   NAT = "none"
	NATLocal  NAT = "local"
	NATRemote NAT = "remote"
	NATBoth   NAT = "both"
	NATForced NAT = "forced"
)

// ChildStats is one pair of ESP SAs. Byte counts are of inner packets.
type ChildStats struct {
	SPIIn, SPIOut         uint32
	Suite                 string // "aes256gcm16", "aes128-sha1-modp2048"
	Local, Remote         netip.Prefix
	BytesIn, BytesOut     uint64
	PacketsIn, PacketsOut uint64
	Replayed, BadICV      uint64
	IPComp                bool   // inner packets are compressed
	BadIPComp             uint64 // packets that could not be expanded
	Established, Expires  time.Time
	Rekeys                int
}
