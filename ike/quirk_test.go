package ike

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

func TestParseQuirks(t *testing.T) {
	q, err := ParseQuirks([]string{"latin1", "-empty-id"})
	if err != nil || q.force != quirkLatin1 || q.forbid != quirkEmptyID {
		t.Errorf("%+v, %v", q, err)
	}
	for _, names := range [][]string{{"strange"}, {"-strange"}, {""}, {"latin1", "-latin1"}} {
		_, err := ParseQuirks(names)
		if err == nil {
			t.Errorf("%q was accepted", names)
		}
		if len(names) > 1 {
			continue
		}
		for _, r := range quirkNames { // the refusal says what there is
			if !strings.Contains(err.Error(), r.name) {
				t.Errorf("%q: %v", names, err)
			}
		}
	}
	for _, r := range quirkNames {
		if q, err := ParseQuirks([]string{r.name}); err != nil || q.force != r.quirk || q.force.String() != r.name {
			t.Errorf("%s: %+v, %v", r.name, q, err)
		}
	}
}

// clientPayloads lists the payloads of what the gateway accepted.
func (w *world) clientPayloads() (all []isakmp.Payload) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.received {
		all = append(all, m.Payloads...)
	}
	return all
}

// quirkCase is a quirk where it makes a difference.
type quirkCase struct {
	name  string
	setup func(*world)
	holds func(*world) bool // after dialling
	// recognised says that the gateway gives itself away.
	recognised bool
}

// connected dials and reports whether that went well.
func connected(w *world) bool {
	_, err := w.tryDial()
	synctest.Wait()
	return err == nil
}

// sentPayload dials, and looks for a payload among what the gateway got.
func sentPayload(match func(isakmp.Payload) bool) func(*world) bool {
	return func(w *world) bool { return connected(w) && slices.ContainsFunc(w.clientPayloads(), match) }
}

func missingPayload(match func(isakmp.Payload) bool) func(*world) bool {
	return func(w *world) bool { return connected(w) && !slices.ContainsFunc(w.clientPayloads(), match) }
}

func isInitialContact(p isakmp.Payload) bool {
	n, err := isakmp.ParseNotify(p.Body)
	return p.Type == isakmp.PayloadNotify && err == nil && n.Type == isakmp.NotifyInitialContact
}

func isUnity(p isakmp.Payload) bool {
	v, _ := identifyVendor(p.Body)
	return p.Type == isakmp.PayloadVendorID && v.caps&capUnity != 0
}

func isEmptyID(p isakmp.Payload) bool {
	id, err := isakmp.ParseID(p.Body)
	return p.Type == isakmp.PayloadID && err == nil && id.Type == isakmp.IDUserFQDN && len(id.Data) == 0
}

// ourFragments dials, with long messages, and counts fragments of ours that match.
func ourFragments(w *world, match func(isakmp.Header) bool) (n int) {
	if !connected(w) {
		w.t.Error("not connected")
	}
	for _, d := range w.sent(byClient) {
		if h, ok := ikeHeader(d.from, d.to, d.data); ok && h.NextPayload == isakmp.PayloadFragment && match(h) {
			n++
		}
	}
	return n
}

// checkPointVID has the gateway show it, and nothing else of Check Point's.
func checkPointVID(w *world) {
	w.gateway.Quirks.VendorIDs = [][]byte{unhex("f4ed19e0c114eb516faaac0ee37daf2807b4381f0000")}
}

var quirkCases = []quirkCase{
	{name: "no-initial-contact", setup: func(*world) {}, holds: missingPayload(isInitialContact)},
	{name: "latin1", setup: func(w *world) {
		w.client.Password, w.gateway.Users = Secret("pässwörd"), map[string]string{testLogin: "p\xe4ssw\xf6rd"}
	}, holds: connected},
	{name: "clear-auth", setup: func(w *world) { w.gateway.Quirks.ClearMM6 = true }, holds: connected},
	{name: "fragment-first", setup: (*world).inFragments, holds: func(w *world) bool {
		return ourFragments(w, func(h isakmp.Header) bool { return h.CKYR.IsZero() }) > 0
	}},
	{name: "no-fragments", setup: (*world).inFragments, holds: func(w *world) bool {
		return ourFragments(w, func(isakmp.Header) bool { return true }) == 0
	}},
	{name: "no-unity", setup: func(*world) {}, holds: missingPayload(isUnity)},
	{name: "empty-id", setup: checkPointVID, holds: sentPayload(isEmptyID), recognised: true},
	{name: "empty-id", setup: func(*world) {}, holds: sentPayload(isEmptyID)},
	{name: "checkpoint-xauth", setup: func(w *world) {
		w.gateway.Quirks.CheckPointXAuth, w.gateway.Quirks.XAuthType = true, true
	}, holds: connected, recognised: true},
	{name: "checkpoint-xauth", setup: func(w *world) { w.gateway.Quirks.CheckPointXAuth = true }, holds: connected},
	{name: "checkpoint-office", setup: func(w *world) { checkPointVID(w); checkPointDomain(w) }, holds: hasDomain, recognised: true},
	{name: "checkpoint-office", setup: checkPointDomain, holds: hasDomain},
	{name: "sha256-96", setup: func(w *world) {
		w.client.ESP = suites(w.t, ParseESPSuite, "aes256-sha256")
		w.gateway.ESP = []string{"aes256-sha256_96"}
	}, holds: func(w *world) bool {
		s := w.dial()
		out := ipv4(firstVIP, insideHost, "out")
		send(w.t, s, out)
		synctest.Wait()
		return w.gatewayHas(out)
	}},
}

func checkPointDomain(w *world) {
	w.gateway.Settings.DefaultDomain = ""
	w.gateway.Settings.Extra = []isakmp.Attribute{text(16387, "office.example.com")}
}

func hasDomain(w *world) bool { return w.dial().Assignment().DefaultDomain == "office.example.com" }

// TestQuirks: a profile can force each quirk, and forbid it also where the gateway is
// recognised to need it.
func TestQuirks(t *testing.T) {
	for _, c := range quirkCases {
		for quirk, want := range map[string]bool{"": c.recognised, c.name: true, "-" + c.name: false} {
			t.Run(fmt.Sprintf("%s, recognised %v, profile %q", c.name, c.recognised, quirk), func(t *testing.T) {
				inWorld(t, func(w *world) {
					if quirk != "" {
						var err error
						if w.client.Quirks, err = ParseQuirks([]string{quirk}); err != nil {
							t.Fatal(err)
						}
					}
					w.client.Exchange = ExchangeMain
					c.setup(w)
					w.start()
					if got := c.holds(w); got != want {
						w.t.Errorf("%v, want %v", got, want)
					}
				})
			})
		}
	}
	for _, r := range quirkNames {
		if !slices.ContainsFunc(quirkCases, func(c quirkCase) bool { return c.name == r.name }) {
			t.Errorf("%s is not tested", r.name)
		}
	}
}

// TestLatin1: the password arrives in the encoding that the quirk names; what it
// cannot say stays as it is.
func TestLatin1(t *testing.T) {
	for password, want := range map[string]string{"pässwörd": "p\xe4ssw\xf6rd", "plain": "plain", "ж": "ж"} {
		inWorld(t, func(w *world) {
			w.client.Quirks, _ = ParseQuirks([]string{"latin1"})
			w.client.Password = Secret(password)
			w.gateway.Users = map[string]string{testLogin: want}
			w.start()
			w.dial()
		})
	}
}

// TestClearAuth: a gateway that sends MM6 in the clear is refused, unless the profile
// allows it; then what it proves counts as ever.
func TestClearAuth(t *testing.T) {
	for _, quirks := range [][]string{nil, {"clear-auth"}} {
		t.Run(strings.Join(quirks, ","), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Quirks, _ = ParseQuirks(quirks)
				w.client.Exchange = ExchangeMain
				w.change(gateway.MM6, func(m *gateway.Message) { m.Header.Flags &^= isakmp.FlagEncrypted })
				w.start()
				_, err := w.tryDial()
				if replies := len(w.messages(gateway.XAuthReply)); quirks == nil && (err == nil || replies != 0) {
					t.Errorf("error %v, %d replies", err, replies)
				}
				if quirks != nil && err != nil {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}
