package ike

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"wayfarer/ike/isakmp"
)

// quirk is something that some gateways need and that would be wrong, or is
// needless, elsewhere. What all gateways bear (settings before the verdict, Deletes
// in place of rekeying, odd IVs, padding behind attributes) is no quirk: it is done
// always.
type quirk uint16

const (
	quirkNoInitialContact quirk = 1 << iota // leave out INITIAL-CONTACT
	quirkLatin1                             // login and password in Latin-1
	quirkClearAuth                          // MM6 may come unencrypted; what it proves is checked all the same
	quirkFragmentFirst                      // fragment from the first message on, before the gateway has said that it can
	quirkNoFragments                        // never send fragments
	quirkNoUnity                            // do not pose as a Unity client
	quirkEmptyID                            // IDii is an empty USER_FQDN
	quirkCheckPointXAUTH                    // XAUTH attributes have Check Point's numbers
	quirkCheckPointOffice                   // Mode-Config has attributes of Check Point's office mode
	quirkSHA256Cut                          // ESP cuts HMAC-SHA2-256 to 96 bits
)

type quirkName struct {
	quirk quirk
	name  string
}

var quirkNames = []quirkName{
	{quirkNoInitialContact, "no-initial-contact"},
	{quirkLatin1, "latin1"},
	{quirkClearAuth, "clear-auth"},
	{quirkFragmentFirst, "fragment-first"},
	{quirkNoFragments, "no-fragments"},
	{quirkNoUnity, "no-unity"},
	{quirkEmptyID, "empty-id"},
	{quirkCheckPointXAUTH, "checkpoint-xauth"},
	{quirkCheckPointOffice, "checkpoint-office"},
	{quirkSHA256Cut, "sha256-96"},
}

// gatewayKind is a row of the table of gateways.
type gatewayKind struct {
	name string
	// vendors are the vendor IDs, by their names in that table, that give the
	// gateway away. Without any it is not recognised, and need not be.
	vendors []string
	// vendorQuirks are switched on by such a vendor ID, answerQuirks by how the
	// gateway words its answers. A habit that endangers something is in neither:
	// clear-auth has to be asked for.
	vendorQuirks, answerQuirks quirk
}

// gatewayKinds has a row for each kind of gateway that people still have. Below each
// stands which rule that holds for all gateways bears what is odd about it.
//
// Two have none. Android's clients append a zero byte to login and password, which
// no gateway asks for. Nortel's Contivity hashes group name and secret in a manner
// of its own and signs in with message types of its own: another protocol, that
// nobody has described.
var gatewayKinds = []gatewayKind{
	// ipsec-tools, also in NetBSD, macOS and old pfSense. It takes no lifetime beyond
	// its own (phase1Lifetime is short enough for all), needs XAUTH's vendor ID
	// (always sent), says everything once (our timer asks again), gives another address
	// on reauthentication (AddressChangedError), returns everything on its newest ESP
	// SA (selectors are checked against the union of all), and on Linux cuts
	// HMAC-SHA2-256 (noticed at the first packets, see noteTruncation).
	{name: "racoon", vendors: []string{"KAME/racoon"}},
	// Also pfSense and OPNsense. It shows its certificate to who asks (we always do),
	// narrows selectors (a part of what was asked is taken), takes a new message ID for
	// each round of XAUTH (REQUESTs are told by what they ask).
	{name: "strongSwan", vendors: []string{"strongSwan"}},
	// Its relatives Openswan and SoftRemote push settings on STATUS's message ID, with
	// a chained, a derived or no derived IV (see ivs); STATUS has another identifier
	// than the REQUEST, the REQUEST no TYPE, and the attributes padding (none matters).
	{name: "Libreswan", vendors: []string{"Libreswan"}},
	// ASA, IOS and VPN 3000. It shows DPD's vendor ID late (all phase-1 messages are
	// looked at), leaves sign-in and settings out on reauthentication (neither is
	// waited for long), deletes where others rekey and names our SPI in that (see
	// deleted), wants one SA for everything (we ask for that first), redirects.
	{name: "Cisco", vendors: []string{"Cisco VPN 3000", "ALTIGA NETWORKS"}},
	// RESPONDER-LIFETIME has types that nobody knows (passed over, see lifetimeOf).
	{name: "FortiGate", vendors: []string{"FortiGate"}},
	// It has no vendor ID, and answers a probe under the probe's message ID (an
	// Informational's IV is always derived).
	{name: "FRITZ!Box"},
	// It drops Informationals without a HASH (ours have one), and may send MM6
	// unencrypted: clear-auth.
	{name: "SonicWALL", vendors: []string{"SonicWALL"}},
	// NetScreen and Junos. The settings come between REPLY and STATUS (see xauth), and
	// what is asked for is a PASSCODE.
	{name: "Juniper"},
	// It wants to be shown no identity, numbers the attributes of XAUTH as Mode-Config
	// numbers others, asks for login and password one after the other, and tells the
	// domain in an attribute of its own. In Aggressive Mode the identity is out before
	// the vendor ID is seen: there empty-id has to be asked for.
	{
		name: "Check Point", vendors: []string{"Check Point"},
		vendorQuirks: quirkEmptyID | quirkCheckPointOffice, answerQuirks: quirkCheckPointXAUTH,
	},
	// iked. The verdict and all settings come in one SET (see takeSet), each network in
	// an attribute of its own (they are merged), CERTREQ names nobody (an empty
	// certificate answers any), and the first requests for settings are not heard.
	{name: "Shrew"},
}

// Quirks are quirks that a profile forces or forbids, beside those of a gateway that
// is recognised.
type Quirks struct{ force, forbid quirk }

// ParseQuirks reads quirks by name; a minus in front forbids one.
func ParseQuirks(names []string) (Quirks, error) {
	var q Quirks
	for _, name := range names {
		bare, forbid := strings.CutPrefix(name, "-")
		i := slices.IndexFunc(quirkNames, func(r quirkName) bool { return r.name == bare })
		switch {
		case i < 0:
			return Quirks{}, fmt.Errorf("unknown quirk %q; known are %v, and a minus in front forbids one", name, ^quirk(0))
		case forbid:
			q.forbid |= quirkNames[i].quirk
		default:
			q.force |= quirkNames[i].quirk
		}
	}
	if both := q.force & q.forbid; both != 0 {
		return Quirks{}, fmt.Errorf("quirk %q is both forced and forbidden", both)
	}
	return q, nil
}

func (q quirk) String() string {
	var names []string
	for _, r := range quirkNames {
		if q&r.quirk != 0 {
			names = append(names, r.name)
		}
	}
	return strings.Join(names, ",")
}

// has reports whether a quirk is to be minded with this gateway.
func (sa *isakmpSA) has(q quirk) bool {
	p := sa.s.cfg.Quirks
	return (sa.quirks|p.force)&^p.forbid&q != 0
}

// noteVendorQuirks takes in what a vendor ID says of the gateway's kind.
func (sa *isakmpSA) noteVendorQuirks(vendor string) {
	for _, k := range gatewayKinds {
		if slices.Contains(k.vendors, vendor) {
			sa.quirks |= k.vendorQuirks
			sa.log.Info("the gateway's kind is known", "kind", k.name, "quirks", k.vendorQuirks)
		}
	}
}

// noteAnswerQuirk takes in what an answer says of the gateway's kind.
func (sa *isakmpSA) noteAnswerQuirk(q quirk) {
	if sa.quirks&q != 0 {
		return
	}
	i := slices.IndexFunc(gatewayKinds, func(k gatewayKind) bool { return k.answerQuirks&q != 0 })
	sa.quirks |= q
	sa.log.Info("the gateway answers as one kind does", "kind", gatewayKinds[i].name, "quirks", q)
}

// cut is an ESP suite as this gateway means it.
func (sa *isakmpSA) cut(suite ESPSuite) ESPSuite {
	if sa.has(quirkSHA256Cut) && suite.hash != nil && suite.hash == findHash("sha256") {
		suite.hash = findHash("sha256_96")
	}
	return suite
}

// checkPointXAuth are the numbers that Check Point gives to the XAUTH attributes.
// They collide with Mode-Config's.
var checkPointXAuth = map[uint16]uint16{
	13: isakmp.XAuthType, 14: isakmp.XAuthUserName, 15: isakmp.XAuthPassword, 16: isakmp.XAuthPasscode,
	17: isakmp.XAuthMessage, 18: isakmp.XAuthChallenge, 19: isakmp.XAuthDomain, 20: isakmp.XAuthStatus,
	21: isakmp.XAuthNextPIN, 22: isakmp.XAuthAnswer,
}

// checkPointOffice are the attributes of its office mode that others number
// otherwise. A MAC address (16388) and the reason of a refusal (16389) are of no use.
var checkPointOffice = map[uint16]uint16{16387: isakmp.UnityDefDomain}

// fromCheckPoint translates Check Point's numbers. A gateway is known to use those of
// XAUTH by a REQUEST that begins with its TYPE in TV form, and only until it has given
// its verdict.
func (sa *isakmpSA) fromCheckPoint(c *isakmp.Config) {
	as := c.Attributes
	signingIn := sa.state == stateAuthenticated
	if signingIn && c.Type == isakmp.ConfigRequest && len(as) > 0 && as[0].Basic && checkPointXAuth[as[0].Type] == isakmp.XAuthType {
		sa.noteAnswerQuirk(quirkCheckPointXAUTH)
	}
	for i := range as {
		if typ, ok := checkPointXAuth[as[i].Type]; ok && signingIn && sa.has(quirkCheckPointXAUTH) {
			as[i].Type = typ
		}
		if typ, ok := checkPointOffice[as[i].Type]; ok && sa.has(quirkCheckPointOffice) {
			as[i].Type = typ
		}
	}
}

// toCheckPoint translates an answer back.
func (sa *isakmpSA) toCheckPoint(as []isakmp.Attribute) {
	if !sa.has(quirkCheckPointXAUTH) {
		return
	}
	for i := range as {
		for theirs, standard := range checkPointXAuth {
			if as[i].Type == standard {
				as[i].Type = theirs
			}
		}
	}
}

// text encodes login or password as the gateway wants it. What Latin-1 cannot say
// stays UTF-8. The input is used up.
func (sa *isakmpSA) text(s Secret) Secret {
	if !sa.has(quirkLatin1) {
		return s
	}
	out := make(Secret, 0, len(s))
	for _, r := range bytes.Runes(s) {
		if r > 0xff {
			out.Zero()
			return s
		}
		out = append(out, byte(r))
	}
	s.Zero()
	return out
}
