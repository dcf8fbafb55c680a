package ike

import (
	"strings"
	"testing"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

func TestParseQuirks(t *testing.T) {
	q, err := ParseQuirks([]string{"latin1", "-empty-id"})
	if err != nil || q.force != quirkLatin1 || q.forbid != quirkEmptyID {
		t.Errorf("%+v, %v", q, err)
	}
	for _, names := range [][]string{{"strange"}, {"-strange"}, {""}, {"latin1", "-latin1"}} {
		if _, err := ParseQuirks(names); err == nil {
			t.Errorf("%q was accepted", names)
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

// TestQuirks connects with each quirk and looks at what the gateway got.
func TestQuirks(t *testing.T) {
	notify := func(ps []isakmp.Payload, typ isakmp.NotifyType) bool {
		for _, p := range ps {
			if n, err := isakmp.ParseNotify(p.Body); p.Type == isakmp.PayloadNotify && err == nil && n.Type == typ {
				return true
			}
		}
		return false
	}
	vendor := func(ps []isakmp.Payload, c capability) bool {
		for _, p := range ps {
			if v, _ := identifyVendor(p.Body); p.Type == isakmp.PayloadVendorID && v.caps&c != 0 {
				return true
			}
		}
		return false
	}
	emptyID := func(ps []isakmp.Payload) bool {
		for _, p := range ps {
			if id, err := isakmp.ParseID(p.Body); p.Type == isakmp.PayloadID && err == nil {
				return id.Type == isakmp.IDUserFQDN && len(id.Data) == 0
			}
		}
		return false
	}
	checkPoint := isakmp.Payload{Type: isakmp.PayloadVendorID, Body: unhex("f4ed19e0c114eb516faaac0ee37daf2807b4381f0000")}
	for _, c := range []struct {
		name   string
		quirks []string
		vendor *isakmp.Payload // that the gateway shows
		want   func([]isakmp.Payload) bool
	}{
		{"ordinary", nil, nil, func(ps []isakmp.Payload) bool {
			return notify(ps, isakmp.NotifyInitialContact) && vendor(ps, capUnity) && !emptyID(ps)
		}},
		{"no-initial-contact", []string{"no-initial-contact"}, nil, func(ps []isakmp.Payload) bool {
			return !notify(ps, isakmp.NotifyInitialContact)
		}},
		{"no-unity", []string{"no-unity"}, nil, func(ps []isakmp.Payload) bool {
			return !vendor(ps, capUnity) && vendor(ps, capXAUTH)
		}},
		{"empty-id", []string{"empty-id"}, nil, emptyID},
		{"Check Point", nil, &checkPoint, emptyID},
		{"Check Point, forbidden", []string{"-empty-id"}, &checkPoint, func(ps []isakmp.Payload) bool { return !emptyID(ps) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var err error
				if w.client.Quirks, err = ParseQuirks(c.quirks); err != nil {
					t.Fatal(err)
				}
				w.client.Exchange = ExchangeMain
				if c.vendor != nil {
					w.change(gateway.MM2, func(m *gateway.Message) { m.Add(c.vendor.Type, c.vendor.Body) })
				}
				w.start()
				w.dial()
				if sent := w.clientPayloads(); !c.want(sent) {
					t.Errorf("the gateway got %s", isakmp.Describe(sent))
				}
			})
		})
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
