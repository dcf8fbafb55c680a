package ike

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"

	"wayfarer/ike/isakmp"
)

// The error types answer one question each: did the gateway refuse, misbehave or
// not answer, is it not to be trusted, or were our credentials wrong? Each names
// the step. What a user reads and which exit code follows is the caller's choice.

// NoAnswerError says that the gateway did not answer, or stopped answering.
type NoAnswerError struct {
	Step    Step
	Gateway string
	// Hint is an unauthenticated message that was seen meanwhile and not
	// believed, or the socket's last error; may be empty.
	Hint string
	Err  error // of the name lookup or the socket, if that failed
}

func (e *NoAnswerError) Error() string {
	msg := fmt.Sprintf("%s: no answer from gateway %s", e.Step, e.Gateway)
	if e.Hint != "" {
		msg += " (" + e.Hint + ")"
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

func (e *NoAnswerError) Unwrap() error { return e.Err }

// RefusedWhat is the part of the negotiation that the gateway refused.
type RefusedWhat string

// What a gateway refuses.
const (
	RefusedProposal   RefusedWhat = "proposal"   // no common algorithms
	RefusedSettings   RefusedWhat = "settings"   // no address, or networks refused
	RefusedTunnel     RefusedWhat = "tunnel"     // it deletes each ESP SA, and has never sent a packet through one
	RefusedConnection RefusedWhat = "connection" // anything else
)

// RefusedError says that the gateway said no.
type RefusedError struct {
	Step   Step
	What   RefusedWhat
	Notify isakmp.NotifyType // 0 if it said it by other means
	// Authenticated is false when anybody on the path could have sent the
	// refusal; it was believed only after the gateway stayed silent.
	Authenticated bool
	// Offered lists what was offered, when What is RefusedProposal.
	Offered []string
	Detail  string
}

func (e *RefusedError) Error() string {
	msg := fmt.Sprintf("%s: the gateway refused the %s", e.Step, e.What)
	if e.Notify != 0 {
		msg += fmt.Sprintf(" (%v)", e.Notify)
	}
	if e.Detail != "" {
		msg += ": " + e.Detail
	}
	return msg
}

// WeakError says that the gateway accepts only what is weaker than the profile
// allows.
type WeakError struct {
	Step  Step
	Needs Weak // what AllowWeak would have to contain
	What  string
}

func (e *WeakError) Error() string {
	return fmt.Sprintf("%s: %s is too weak and not allowed (%s)", e.Step, e.What, e.Needs)
}

// ProtocolError says that the gateway broke the protocol.
type ProtocolError struct {
	Step   Step
	Detail string
	Err    error
}

func (e *ProtocolError) Error() string {
	msg := fmt.Sprintf("%s: the gateway broke the protocol: %s", e.Step, e.Detail)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

func (e *ProtocolError) Unwrap() error { return e.Err }

// CredentialsError says that the gateway refused login or password.
type CredentialsError struct {
	Step    Step
	Message string // the gateway's own words, made harmless; may be empty
}

func (e *CredentialsError) Error() string {
	msg := fmt.Sprintf("%s: the gateway refused the login", e.Step)
	if e.Message != "" {
		msg += ": " + e.Message
	}
	return msg
}

// TrustReason says why a gateway is not trusted.
type TrustReason string

// Reasons not to trust a gateway. The first three can be overruled by a pin.
const (
	TrustUnknown   TrustReason = "unknown"   // no CA or pin configured
	TrustIssuer    TrustReason = "issuer"    // not signed by a trusted CA
	TrustName      TrustReason = "name"      // the certificate is of another host
	TrustPin       TrustReason = "pin"       // another certificate than the pinned one
	TrustExpired   TrustReason = "expired"   // expired or not yet valid
	TrustWeak      TrustReason = "weak"      // key or signature too weak
	TrustUsage     TrustReason = "usage"     // not a gateway's certificate
	TrustSignature TrustReason = "signature" // SIG_R missing or wrong
	TrustMissing   TrustReason = "missing"   // no certificate was sent
	TrustInvalid   TrustReason = "invalid"   // the certificate cannot be read
	TrustSecret    TrustReason = "secret"    // it does not know the group's secret
)

// TrustError says that the gateway is not trusted. Nothing secret has been sent.
type TrustError struct {
	Step        Step
	Host        string // of Config.Gateway, the one that answered
	Reason      TrustReason
	Certificate *x509.Certificate // nil if there is none to show
	Needs       Weak              // what AllowWeak would have to contain, if that helps
	Detail      string
	// Askable means that the user may answer by pinning SHA256(): issuer or
	// name are open, everything else about the certificate was checked.
	Askable bool
}

func (e *TrustError) Error() string {
	return fmt.Sprintf("%s: the gateway is not trusted: %s", e.Step, e.Detail)
}

// SHA256 is the fingerprint of the certificate.
func (e *TrustError) SHA256() [32]byte {
	if e.Certificate == nil {
		return [32]byte{}
	}
	return sha256.Sum256(e.Certificate.Raw)
}

// AddressChangedError says that the gateway gave another address later on. The
// session is over; a new one starts with the new address.
type AddressChangedError struct{ Old, New string }

func (e *AddressChangedError) Error() string {
	return fmt.Sprintf("the gateway changed the address from %s to %s", e.Old, e.New)
}

// ClosedByGatewayError says that the gateway deleted the SA.
type ClosedByGatewayError struct{}

func (e *ClosedByGatewayError) Error() string { return "the gateway ended the connection" }

// redirectError: the gateway sends us to another one (Cisco's load balancing). Dial
// follows it; the other one has to pass the same checks.
type redirectError struct {
	to            netip.Addr
	authenticated bool
}

func (e *redirectError) Error() string { return fmt.Sprintf("the gateway sends us to %v", e.to) }

// SocketError says that this computer refuses a socket that has to be a certain one:
// a UDP port of Config.LocalPort, before anything was sent, or a raw socket for ESP.
type SocketError struct {
	Port uint16 // of ours, UDP; 0: a raw socket for IP protocol 50
	Err  error  // of the system, or of the Config's hook
}

func (e *SocketError) Error() string {
	if e.Port == 0 {
		return fmt.Sprintf("ESP without NAT traversal needs a raw socket: %v", e.Err)
	}
	return fmt.Sprintf("UDP port %d of this computer: %v", e.Port, e.Err)
}

func (e *SocketError) Unwrap() error { return e.Err }

// ConfigError says that the Config cannot be used. Nothing was sent.
type ConfigError struct {
	Field string
	Err   error
	Needs Weak // what AllowWeak would have to contain, if that helps
}

func (e *ConfigError) Error() string {
	msg := fmt.Sprintf("%s: %v", e.Field, e.Err)
	if e.Needs != 0 {
		msg += fmt.Sprintf("; it needs to be allowed by name (%s)", e.Needs)
	}
	return msg
}

func (e *ConfigError) Unwrap() error { return e.Err }

// Weak is a set of weaknesses that a profile may allow by name.
type Weak uint16

// Weaknesses.
const (
	Weak3DES Weak = 1 << iota
	WeakMD5
	WeakMODP1024
	WeakMODP1536
	WeakRSA1024
	WeakSHA1Cert
	WeakExpired
	WeakPSKAggressive

	WeakAll Weak = 1<<iota - 1
)

var weakNames = []struct {
	bit  Weak
	name string
}{
	{Weak3DES, "3des"},
	{WeakMD5, "md5"},
	{WeakMODP1024, "modp1024"},
	{WeakMODP1536, "modp1536"},
	{WeakRSA1024, "rsa1024"},
	{WeakSHA1Cert, "sha1-cert"},
	{WeakExpired, "expired"},
	{WeakPSKAggressive, "psk-aggressive"},
}

// ParseWeak reads names as the command line takes them, "all" among them.
func ParseWeak(names []string) (Weak, error) {
	var w Weak
next:
	for _, name := range names {
		if name == "all" {
			w |= WeakAll
			continue
		}
		for _, n := range weakNames {
			if n.name == name {
				w |= n.bit
				continue next
			}
		}
		return 0, fmt.Errorf("unknown weakness %q", name)
	}
	return w, nil
}

// Names lists the set's names.
func (w Weak) Names() []string {
	var names []string
	for _, n := range weakNames {
		if w&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

func (w Weak) String() string { return strings.Join(w.Names(), ",") }
