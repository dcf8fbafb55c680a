package gateway

import (
	"net/netip"

	"wayfarer/ike/isakmp"
)

// Quirks are habits of gateways in the field, each named after one that has it. The
// zero value has none.
type Quirks struct {
	// NoRetransmission says everything once, apart from answers to duplicates
	// (racoon).
	NoRetransmission bool
	// RandomPadding pads encrypted messages with random bytes whose number is the
	// last, and those that need none with a whole block (racoon).
	RandomPadding bool

	// VendorIDs are shown beside those that the gateway understands.
	VendorIDs [][]byte
	// LateDPD shows the vendor ID of DPD in MM4 instead of MM2 (Cisco IOS).
	LateDPD bool
	// NetgearDPD shows another vendor ID for DPD.
	NetgearDPD bool

	// StrictLifetime refuses offers with a longer lifetime of phase 1 than
	// Config.IKELifetime (racoon with proposal_check strict).
	StrictLifetime bool
	// NeedXAuthVendor refuses who wants XAUTH and does not show its vendor ID
	// (racoon).
	NeedXAuthVendor bool
	// NoHybrid knows no hybrid authentication (Libreswan).
	NoHybrid bool
	// StrictNATD refuses messages with NAT-D payloads of another variant than was
	// agreed (racoon).
	StrictNATD bool
	// ClientID is the only identity that clients may have; without a type, any.
	ClientID isakmp.ID
	// EmptyCertRequest asks for a certificate and names no authority (Shrew's).
	EmptyCertRequest bool
	// ClearMM6 sends MM6 unencrypted (SonicWALL).
	ClearMM6 bool

	// XAuthType names the type, generic, when it asks for login and password
	// (racoon).
	XAuthType bool
	// CheckPointXAuth gives the attributes of XAUTH Check Point's numbers.
	CheckPointXAuth bool
	// DeleteOnFail deletes the SA right behind a STATUS that says FAIL (racoon).
	DeleteOnFail bool
	// SkipSignIn lets a client that renews its ISAKMP SA in without asking again, and
	// does not answer its request for settings (Cisco).
	SkipSignIn bool

	// OnlyAsked tells only the settings that were asked for (racoon).
	OnlyAsked bool
	// DeafToRequests is how many requests for settings are not heard (Shrew's).
	DeafToRequests int
	// ZeroSplitDNS ends each name for split DNS with a zero byte (racoon).
	ZeroSplitDNS bool
	// SpoiltPorts leaves the ports behind each network to chance (racoon 0.7).
	SpoiltPorts bool

	// ZeroIdentifier sets STATUS under identifier 0 instead of the REQUEST's
	// (Libreswan).
	ZeroIdentifier bool
	// PadAttributes fills Attribute payloads up to four bytes with zeros
	// (Libreswan).
	PadAttributes bool
	// PadMessages fills cleartext messages up to four bytes with zeros (Libreswan).
	PadMessages bool

	// SettingsInStatus puts all settings into the SET with STATUS (Shrew's).
	SettingsInStatus bool
	// SettingsBeforeStatus pushes the settings between the last REPLY and the SET
	// with STATUS (Juniper).
	SettingsBeforeStatus bool
	// Push is how settings are pushed, if they are.
	Push PushStyle

	// Redirect sends every client to another gateway (Cisco's load balancing): in
	// clear instead of the first answer, or after phase 1 if RedirectLate.
	Redirect     netip.Addr
	RedirectLate bool

	// OtherAddress gives an address that is not in use to a user who signs in
	// again, and lets Quick Mode use the old one on (racoon).
	OtherAddress bool
	// AddressByUser gives a user who signs in again the address that he has, whether
	// or not he asks for it, so that pushed settings name it (Libreswan).
	AddressByUser bool
	// NetworksOnly refuses Quick Modes for anything but exactly one of
	// Config.Networks.
	NetworksOnly bool
	// ReturnOnNewest sends to a client through its newest tunnel, whatever that
	// one's selectors say (racoon with generate_policy).
	ReturnOnNewest bool
	// TwoTunnels makes a tunnel of IPComp and one of ESP around it, with an IP header
	// between the two (racoon).
	TwoTunnels bool
	// CommitBit has the client wait for a CONNECTED Notify (RFC 2408 §3.1).
	CommitBit bool
	// QuietLifetime agrees to the client's lifetime for ESP and deletes the tunnel
	// earlier, at Config.ESPLifetime (Cisco).
	QuietLifetime bool
	// OddLifetimes adds types that nobody knows to a RESPONDER-LIFETIME Notify
	// (FortiGate).
	OddLifetimes bool
	// DeleteAtOnce deletes each tunnel as soon as it is made (strongSwan with ESP in
	// user space, where plain ESP was agreed).
	DeleteAtOnce bool
	// DeleteTheirs deletes ESP SAs by the SPI that the client receives on, and for
	// DOI 0 (Cisco).
	DeleteTheirs bool

	// ReversedCookies acknowledges probes with the cookies in reverse order (racoon).
	ReversedCookies bool
	// ProbeMID acknowledges probes under their own message ID (FRITZ!Box).
	ProbeMID bool
}

// PushStyle is under which message ID and IV settings are pushed.
type PushStyle uint8

// Ways to push. The standards know the first.
const (
	PushFresh   PushStyle = iota // a new message ID, whose IV is derived
	PushChained                  // the message ID of STATUS, and its chain goes on (Openswan)
	PushDerived                  // the message ID of STATUS, whose IV is derived again (SoftRemote's)
	PushRaw                      // a new message ID, with the last block of phase 1 as IV (Openswan 2.4)
)
