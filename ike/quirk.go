package ike

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
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
}

// gatewayQuirks are the gateways that are recognised by a vendor ID, and what they
// need. A gateway's habit that endangers something is never assumed: clear-auth has
// to be asked for.
var gatewayQuirks = []struct {
	gateway string // its name in the table of vendor IDs
	quirks  quirk
}{
	{"Check Point", quirkEmptyID},
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
			return Quirks{}, fmt.Errorf("unknown quirk %q", name)
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

// noteQuirks takes in what a vendor ID says of the gateway's kind.
func (sa *isakmpSA) noteQuirks(vendor string) {
	for _, g := range gatewayQuirks {
		if g.gateway == vendor {
			sa.quirks |= g.quirks
			sa.log.Info("the gateway's kind is known", "kind", vendor, "quirks", g.quirks.String())
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
