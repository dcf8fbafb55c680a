package app

import (
	"net/netip"
	"time"
)

// State is where a connection stands.
//
//	disconnected -> connecting <-> action-needed
//	                connecting -> connected | failed
//	                connected -> reconnecting -> connected | failed
//	any of them -> disconnecting -> disconnected
//	reconnecting -> blocked, while the leak block holds traffic back
//	blocked, with a failure, until disconnecting: it cannot come back
type State string

// States, as users and programs see them.
const (
	StateDisconnected  State = "disconnected"
	StateConnecting    State = "connecting"
	StateActionNeeded  State = "action-needed"
	StateConnected     State = "connected"
	StateReconnecting  State = "reconnecting"
	StateDisconnecting State = "disconnecting"
	StateBlocked       State = "blocked"
	StateFailed        State = "failed"
)

// Step is a part of connecting, in people's words.
type Step string

// Steps, in their order.
const (
	StepFindGateway      Step = "find-gateway"
	StepAgreeSecurity    Step = "agree-security"
	StepCheckCertificate Step = "check-certificate"
	StepSignIn           Step = "sign-in"
	StepGetSettings      Step = "get-settings"
	StepBuildTunnel      Step = "build-tunnel"
	StepTest             Step = "test"
)

// Steps lists all steps in their order.
func Steps() []Step {
	return []Step{
		StepFindGateway, StepAgreeSecurity, StepCheckCertificate, StepSignIn,
		StepGetSettings, StepBuildTunnel, StepTest,
	}
}

// Status is everything that the service tells: `status --json`.
type Status struct {
	Version     string       `json:"version"`
	Connections []Connection `json:"connections"`
}

// Connection is one connection, alive or failed. Of another user's only State and
// Owner are filled.
type Connection struct {
	ID      string     `json:"id,omitzero"`
	State   State      `json:"state"`
	Profile string     `json:"profile,omitzero"`
	Owner   string     `json:"owner,omitzero"`
	Since   *time.Time `json:"since,omitzero"` // of State

	Gateway *Gateway `json:"gateway,omitzero"`

	Addresses    []netip.Prefix `json:"addresses,omitzero"`
	DNS          []netip.Addr   `json:"dns,omitzero"`
	WINS         []netip.Addr   `json:"wins,omitzero"`
	Domains      []string       `json:"domains,omitzero"`
	SplitInclude []netip.Prefix `json:"split_include,omitzero"`
	SplitExclude []netip.Prefix `json:"split_exclude,omitzero"`
	Routes       []netip.Prefix `json:"routes,omitzero"`
	Banner       string         `json:"banner,omitzero"`

	IKE *IKE  `json:"ike,omitzero"`
	ESP []ESP `json:"esp,omitzero"`
	TUN *TUN  `json:"tun,omitzero"`

	Warnings []Warning `json:"warnings,omitzero"`

	Step    Step     `json:"step,omitzero"`
	Prompt  *Prompt  `json:"prompt,omitzero"`
	Failure *Failure `json:"failure,omitzero"`
}

// Gateway is the other end.
type Gateway struct {
	Host              string     `json:"host"`
	Address           netip.Addr `json:"address,omitzero"`
	Port              uint16     `json:"port,omitzero"`
	Identity          string     `json:"identity,omitzero"`
	CertificateSHA256 string     `json:"certificate_sha256,omitzero"` // hexadecimal
}

// IKE is the ISAKMP SA.
type IKE struct {
	Version       int        `json:"version"`
	Exchange      string     `json:"exchange"`
	Auth          string     `json:"auth"`
	Suite         string     `json:"suite"`
	NATT          string     `json:"nat_t,omitzero"`
	NAT           string     `json:"nat,omitzero"` // none, local, remote, both, forced
	Fragmentation bool       `json:"fragmentation"`
	DPD           bool       `json:"dpd"`
	Established   *time.Time `json:"established,omitzero"`
	Expires       *time.Time `json:"expires,omitzero"`
	Rekeys        int        `json:"rekeys"`
	LastHeard     *time.Time `json:"last_heard,omitzero"`
}

// ESP is one pair of ESP SAs. Counters count inner packets and their bytes.
type ESP struct {
	SPIIn       string       `json:"spi_in"`
	SPIOut      string       `json:"spi_out"`
	Suite       string       `json:"suite"`
	Local       netip.Prefix `json:"local"`
	Remote      netip.Prefix `json:"remote"`
	BytesIn     uint64       `json:"bytes_in"`
	BytesOut    uint64       `json:"bytes_out"`
	PacketsIn   uint64       `json:"packets_in"`
	PacketsOut  uint64       `json:"packets_out"`
	Replayed    uint64       `json:"replayed"`
	BadICV      uint64       `json:"bad_icv"`
	Established *time.Time   `json:"established,omitzero"`
	Expires     *time.Time   `json:"expires,omitzero"`
	Rekeys      int          `json:"rekeys"`
}

// TUN is the virtual interface.
type TUN struct {
	Name string `json:"name"`
	MTU  int    `json:"mtu"`
}

// Severity of a warning.
type Severity string

// Severities.
const (
	SeverityInfo    Severity = "info"
	SeverityWarning Severity = "warning"
)

// WarningNoSave is the code of the remark that the gateway forbids storing the
// password (Unity SAVE_PASSWD).
const WarningNoSave = "no-save-password"

// WarningTrustedNew is the code of the remark that the gateway was unknown and is
// trusted, and pinned, because the request said so beforehand.
const WarningTrustedNew = "trusted-new"

// Codes of remarks on what this computer's network does to a connection.
const (
	// WarningIPv6Blocked: IPv6 is held back while a tunnel takes all IPv4.
	WarningIPv6Blocked = "ipv6-blocked"
	// WarningUnguarded: the system has no firewall to guard the tunnel's address.
	WarningUnguarded = "unguarded"
	// WarningOverlap: the local network has addresses of a network behind the gateway.
	WarningOverlap = "overlap"
	// WarningOutside: addresses that the tunnel should have are reached past it.
	WarningOutside = "outside"
	// WarningConflict: another VPN has what the tunnel wants, too.
	WarningConflict = "other-vpn"
	// WarningDNSTaken: another program keeps replacing the tunnel's name servers.
	WarningDNSTaken = "dns-taken"
	// WarningDNSLeak: names may be looked up outside of the tunnel.
	WarningDNSLeak = "dns-leak"
	// WarningDNSUnsplit: all names are looked up in a tunnel that wants only some.
	WarningDNSUnsplit = "dns-not-split"
	// WarningOutdated: the network has changed and could not be set up for that.
	WarningOutdated = "network-outdated"
	// WarningCaptivePortal: the local network wants its users to sign in first.
	WarningCaptivePortal = "captive-portal"
	// WarningLastAttempt: why the connection could not be made again so far.
	WarningLastAttempt = "last-attempt"
)

// Warning is a standing remark on a connection.
type Warning struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
}

// PromptKind says what a prompt asks for.
type PromptKind string

// Kinds of prompts.
const (
	PromptPassword   PromptKind = "password"
	PromptOTP        PromptKind = "otp"
	PromptChallenge  PromptKind = "challenge"
	PromptNextPIN    PromptKind = "next-pin"
	PromptTrust      PromptKind = "trust"
	PromptPassphrase PromptKind = "passphrase"
	PromptBanner     PromptKind = "banner"
)

// Prompt is a question that a connection waits on. Text from a gateway is plain
// text without control characters, of bounded length.
type Prompt struct {
	ID     string     `json:"id"`
	Kind   PromptKind `json:"kind"`
	Text   string     `json:"text,omitzero"`
	Secret bool       `json:"secret"`
	// Certificate is what a trust prompt asks about.
	Certificate *Certificate `json:"certificate,omitzero"`
}

// Certificate is what a person compares before trusting a gateway.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names,omitzero"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"` // hexadecimal
	Reason    string    `json:"reason,omitzero"`
}
