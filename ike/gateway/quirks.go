package gateway

import "net/netip"

// Quirks are habits of gateways in the field, each named after one that has it. The
// zero value has none.
type Quirks struct {
	// NoRetransmission says everything once, apart from answers to duplicates
	// (racoon).
	NoRetransmission bool

	// ZeroIdentifier sets STATUS under identifier 0 instead of the REQUEST's
	// (Libreswan).
	ZeroIdentifier bool
	// PadAttributes fills Attribute payloads up to four bytes with zeros
	// (Libreswan).
	PadAttributes bool

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
	// NetworksOnly refuses Quick Modes for anything but exactly one of
	// Config.Networks.
	NetworksOnly bool
	// ReturnOnNewest sends to a client through its newest tunnel, whatever that
	// one's selectors say (racoon with generate_policy).
	ReturnOnNewest bool
	// CommitBit has the client wait for a CONNECTED Notify (RFC 2408 §3.1).
	CommitBit bool
	// QuietLifetime agrees to the client's lifetime for ESP and deletes the tunnel
	// earlier, at Config.ESPLifetime (Cisco).
	QuietLifetime bool
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
