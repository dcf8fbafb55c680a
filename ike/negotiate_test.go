package ike

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

var bothExchanges = []Exchange{ExchangeMain, ExchangeAggressive}

// inBoth runs a test in a world for each exchange.
func inBoth(t *testing.T, test func(*world)) {
	t.Helper()
	for _, exchange := range bothExchanges {
		t.Run(string(exchange), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = exchange
				test(w)
			})
		})
	}
}

// otherIKE are suites that are no defaults but make the tables complete.
var otherIKE = []string{"aes192-sha384-ecp521", "aes128-sha512-modp3072", "aes128-md5-ecp256"}

func TestIKESuites(t *testing.T) {
	for _, suite := range append(DefaultIKE(WeakAll), suites(t, ParseIKESuite, otherIKE...)...) {
		t.Run(suite.String(), func(t *testing.T) {
			inBoth(t, func(w *world) {
				w.client.IKE, w.client.AllowWeak = []IKESuite{suite}, suite.Weak()
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				if got := s.Stats().Suite; got != suite.String() {
					t.Errorf("we use %s", got)
				}
				if got := w.gw.Clients()[0].Suite; got != suite.String() {
					t.Errorf("the gateway uses %s", got)
				}
			})
		})
	}
}

func TestESPSuites(t *testing.T) {
	other := []string{"aes192gcm16", "aes192-sha256", "3des-sha512"}
	for _, suite := range append(DefaultESP(WeakAll), suites(t, ParseESPSuite, other...)...) {
		t.Run(suite.String(), func(t *testing.T) {
			inTurns(t, func(w *world) {
				w.client.ESP, w.client.AllowWeak = []ESPSuite{suite}, suite.Weak()
				w.start()
				s := w.dial()
				w.exchangePackets(s, receive(s), "hello")
				if got := s.Stats().Children[0].Suite; got != suite.String() {
					t.Errorf("we use %s", got)
				}
				if got := w.gw.Clients()[0].Tunnels[0].Suite; got != suite.String() {
					t.Errorf("the gateway uses %s", got)
				}
			})
		})
	}
}

// TestChoice: of several offers the gateway takes one, wherever it stands.
func TestChoice(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.IKE, w.client.AllowWeak = nil, WeakAll
		w.client.Exchange = ExchangeMain // Aggressive Mode has one group at a time
		w.gateway.IKE, w.gateway.ESP = []string{"3des-md5-modp1024"}, []string{"3des-md5"}
		w.start()
		s := w.dial()
		w.exchangePackets(s, receive(s), "hello")
		if st := s.Stats(); st.Suite != "3des-md5-modp1024" || st.Children[0].Suite != "3des-md5" {
			t.Errorf("%s, %s", st.Suite, st.Children[0].Suite)
		}
	})
}

func TestPFS(t *testing.T) {
	for _, tt := range []struct {
		name    string
		pfs     PFS
		esp     []string // ours
		theirs  []string
		wish    uint16 // Unity
		allow   Weak
		want    string // the suite that results; empty: refused
		offered int    // Quick Modes that it takes
	}{
		{name: "auto, gateway without", want: "aes256gcm16", offered: 1},
		{name: "auto, gateway requires it", theirs: []string{"aes256-sha256-ecp256"}, want: "aes256-sha256-ecp256", offered: 2},
		{name: "auto, gateway requires another group", theirs: []string{"aes256gcm16-modp2048"}, offered: 2},
		{name: "off", pfs: PFSOff, want: "aes256gcm16", offered: 1},
		{name: "off, gateway requires it", pfs: PFSOff, theirs: []string{"aes256gcm16-ecp256"}, offered: 1},
		{name: "named", pfs: "modp2048", want: "aes256gcm16-modp2048", offered: 1},
		{name: "named, gateway refuses it", pfs: "modp2048", theirs: []string{"aes256gcm16"}, offered: 1},
		{name: "in the suite", esp: []string{"aes128-sha256-ecp384"}, want: "aes128-sha256-ecp384", offered: 1},
		{name: "in the suite beats the setting", pfs: PFSOff, esp: []string{"aes128gcm16-ecp384"}, want: "aes128gcm16-ecp384", offered: 1},
		{
			name: "groups in turn", esp: []string{"aes128gcm16-modp2048", "aes256gcm16-ecp384"}, theirs: []string{"aes256gcm16-ecp384"},
			want: "aes256gcm16-ecp384", offered: 2,
		},
		{
			name: "suites with a group, then those without", pfs: PFSOff, esp: []string{"aes128gcm16-modp2048", "aes256gcm16"},
			theirs: []string{"aes256gcm16"}, want: "aes256gcm16", offered: 2,
		},
		{name: "Unity wish", wish: isakmp.GroupECP384, theirs: []string{"aes256gcm16-ecp384"}, want: "aes256gcm16-ecp384", offered: 1},
		{name: "Unity wish against off", pfs: PFSOff, wish: isakmp.GroupECP384, want: "aes256gcm16", offered: 1},
		{name: "Unity wish for a weak group", wish: isakmp.GroupMODP1024, want: "aes256gcm16", offered: 1},
		{name: "Unity wish for an allowed weak group", wish: isakmp.GroupMODP1024, allow: WeakMODP1024, want: "aes256gcm16-modp1024", offered: 1},
		{name: "Unity wish for an unknown group", wish: 99, want: "aes256gcm16", offered: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.PFS, w.client.AllowWeak = tt.pfs, tt.allow
				w.client.ESP = suites(t, ParseESPSuite, tt.esp...)
				w.gateway.ESP, w.gateway.Settings.PFSGroup = tt.theirs, tt.wish
				w.start()
				s, err := w.tryDial()
				if n := len(w.messages(gateway.QM1)); n != tt.offered {
					t.Errorf("%d Quick Modes", n)
				}
				if d := time.Since(w.began); d != 0 {
					t.Errorf("it took %v: an authenticated refusal is believed at once", d)
				}
				if tt.want == "" {
					checkRefusedESP(w.t, err)
					return
				}
				if err != nil {
					w.t.Fatal(err)
				}
				if got := s.Stats().Children[0].Suite; got != tt.want {
					t.Errorf("suite %s", got)
				}
				w.exchangePackets(s, receive(s), "hello")
			})
		})
	}
}

func checkRefusedESP(t *testing.T, err error) {
	t.Helper()
	r := wantError[*RefusedError](t, err)
	if r.Step != StepBuildTunnel || r.What != RefusedProposal || r.Notify != isakmp.NotifyNoProposalChosen || !r.Authenticated {
		t.Errorf("refused: %+v", r)
	}
	if want := names(DefaultESP(0)); !slices.Equal(r.Offered, want) {
		t.Errorf("offered %v, want %v", r.Offered, want)
	}
}

func TestWeakMustBeAllowed(t *testing.T) {
	type change func(*Config)
	for _, tt := range []struct {
		field string
		needs Weak
		set   change
	}{
		{"ike", Weak3DES, func(c *Config) { c.IKE = suites(t, ParseIKESuite, "aes256-sha256-ecp256", "3des-sha1-modp2048") }},
		{"ike", WeakMODP1536, func(c *Config) { c.IKE = suites(t, ParseIKESuite, "aes256-sha256-modp1536") }},
		{"ike", WeakMODP1024, func(c *Config) { c.IKE, c.AllowWeak = suites(t, ParseIKESuite, "3des-md5-modp1024"), Weak3DES|WeakMD5 }},
		{"esp", WeakMD5, func(c *Config) { c.ESP = suites(t, ParseESPSuite, "aes128-md5") }},
		{"esp", WeakMD5, func(c *Config) { c.ESP, c.AllowWeak = suites(t, ParseESPSuite, "3des-md5"), Weak3DES }},
		{"esp", WeakMODP1024, func(c *Config) { c.ESP = suites(t, ParseESPSuite, "aes128gcm16-modp1024") }},
		{"ike", 0, func(c *Config) { c.IKE = slices.Repeat(suites(t, ParseIKESuite, "aes256-sha256-ecp256"), maxSuites+1) }},
		{"esp", 0, func(c *Config) { c.ESP = slices.Repeat(suites(t, ParseESPSuite, "aes128gcm16"), maxSuites+1) }},
		{"pfs", WeakMODP1024, func(c *Config) { c.PFS = "modp1024" }},
		{"pfs", 0, func(c *Config) { c.PFS = "modp1" }},
		{"exchange", 0, func(c *Config) { c.Exchange = "quick" }},
		{"mode_config", 0, func(c *Config) { c.ModeConfig = "off" }},
		{"authentication", 0, func(c *Config) { c.Auth = "kerberos" }},
		{"exchange", WeakPSKAggressive, func(c *Config) {
			c.Auth, c.GroupSecret, c.Exchange = AuthPSK, Secret("x"), ExchangeAggressive
		}},
		{"group_secret", 0, func(c *Config) { c.Auth = AuthXAUTHPSK }},
		{"certificate", 0, func(c *Config) { c.Auth = AuthRSA }},
		{"selectors", 0, func(c *Config) { c.Selectors = "some" }},
		{"nat_t", 0, func(c *Config) { c.NATT = "draft-99" }},
		{"gateway", 0, func(c *Config) { c.Gateway = "" }},
		{"gateway", 0, func(c *Config) { c.Gateway = "gw.example.com:99999" }},
	} {
		t.Run(tt.field, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				tt.set(&w.client)
				_, err := w.tryDial()
				if e := wantError[*ConfigError](w.t, err); e.Field != tt.field || e.Needs != tt.needs {
					t.Errorf("field %q, needs %v: %v", e.Field, e.Needs, e)
				}
				if check := w.client.Check(); check == nil || check.Error() != err.Error() {
					t.Errorf("checked: %v, dialled: %v", check, err)
				}
				if n := len(w.sent(nil)); n != 0 {
					t.Errorf("%d datagrams were sent", n)
				}
			})
		})
	}
}

// TestNoProposal: a refusal in the clear may be anybody's. It is believed when the
// gateway stays silent.
func TestNoProposal(t *testing.T) {
	for exchange, patience := range map[Exchange]time.Duration{
		ExchangeMain: 5 * time.Second, ExchangeAggressive: 5 * time.Second, ExchangeAuto: 10 * time.Second,
	} {
		t.Run(string(exchange), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = exchange
				w.gateway.IKE = []string{"aes256-sha512-modp4096"}
				w.start()
				var err error
				d := elapsed(func() { _, err = w.tryDial() })
				r := wantError[*RefusedError](w.t, err)
				if r.Step != StepAgreeSecurity || r.What != RefusedProposal || r.Notify != isakmp.NotifyNoProposalChosen || r.Authenticated {
					t.Errorf("refused: %+v", r)
				}
				if !slices.Equal(r.Offered, names(w.client.IKE)) {
					t.Errorf("offered %v", r.Offered)
				}
				if d != patience {
					t.Errorf("it took %v, want %v", d, patience)
				}
			})
		})
	}
}

// clearNotify is an Informational that anybody could have made.
func clearNotify(h isakmp.Header, typ isakmp.NotifyType) []byte {
	h.Exchange, h.MessageID, h.Flags = isakmp.Informational, 0x01020304, 0
	n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: typ}
	return isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadNotify, Body: n.Append(nil)})
}

// clearDelete is a Delete for the ISAKMP SA that anybody could have made.
func clearDelete(h isakmp.Header) []byte {
	d := isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPISize: 16, SPIs: [][]byte{slices.Concat(h.CKYI[:], h.CKYR[:])}}
	h.Exchange, h.MessageID, h.Flags = isakmp.Informational, 0x01020305, 0
	return isakmp.AppendMessage(nil, h, isakmp.Payload{Type: isakmp.PayloadDelete, Body: d.Append(nil)})
}

// forgeBefore delivers forged messages in front of the gateway's message number n,
// counted from 0, which itself takes a second longer.
func (w *world) forgeBefore(n int, forge func(h isakmp.Header, message []byte) [][]byte) {
	count := 0
	w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
		h, ok := ikeHeader(from, to, data)
		if !toClient(from) || !ok {
			return deliver(data)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if count++; count != n+1 {
			return deliver(data)
		}
		var out []gateway.Delivery
		for _, f := range forge(h, bytes.Clone(ikeMessage(from, to, data))) {
			if from.Port() != portIKE {
				f = append(make([]byte, nonESPMarkerLen), f...)
			}
			out = append(out, gateway.Delivery{Datagram: f})
		}
		return append(out, gateway.Delivery{After: time.Second, Datagram: data})
	})
}

// TestForgedRefusals: whatever anybody sends in the clear, at whatever step, does
// not matter if the true gateway answers a second later.
func TestForgedRefusals(t *testing.T) {
	for n := range 6 { // all of phase 1, and some after it
		inBoth(t, func(w *world) {
			w.forgeBefore(n, func(h isakmp.Header, _ []byte) [][]byte {
				return [][]byte{
					clearNotify(h, isakmp.NotifyNoProposalChosen), clearNotify(h, isakmp.NotifyAuthenticationFailed),
					clearNotify(h, isakmp.NotifyInitialContact), clearDelete(h),
				}
			})
			w.start()
			s := w.dial()
			w.exchangePackets(s, receive(s), "hello")
			if d := time.Since(w.began); d != time.Second {
				t.Errorf("message %d: connecting took %v", n, d)
			}
		})
	}
}

// TestNotifyKinds: which refusal means what, once the gateway stays silent.
func TestNotifyKinds(t *testing.T) {
	for _, tt := range []struct {
		typ  isakmp.NotifyType
		what RefusedWhat
		step Step
	}{
		{isakmp.NotifyNoProposalChosen, RefusedProposal, StepAgreeSecurity},
		{isakmp.NotifyInvalidKeyInfo, RefusedProposal, StepAgreeSecurity},
		{isakmp.NotifyBadProposalSyntax, RefusedProposal, StepAgreeSecurity},
		{isakmp.NotifyPayloadMalformed, RefusedConnection, StepFindGateway},
		{isakmp.NotifyInvalidIDInfo, RefusedConnection, StepFindGateway},
	} {
		t.Run(tt.typ.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = ExchangeMain
				w.change(gateway.MM2, func(m *gateway.Message) { m.Raw = clearNotify(m.Header, tt.typ) })
				w.start()
				_, err := w.tryDial()
				r := wantError[*RefusedError](w.t, err)
				if r.What != tt.what || r.Step != tt.step || r.Authenticated || r.Notify != tt.typ {
					t.Errorf("%+v", r)
				}
			})
		})
	}
	t.Run("status", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.client.Exchange = ExchangeMain
			w.change(gateway.MM2, func(m *gateway.Message) { m.Raw = clearNotify(m.Header, isakmp.NotifyUnityLoadBalance) })
			w.start()
			var err error
			d := elapsed(func() { _, err = w.tryDial() })
			if wantError[*NoAnswerError](w.t, err); d != time.Minute {
				t.Errorf("a status notification changed the patience to %v", d)
			}
		})
	})
}

// TestRefusedAfterPhase1: an authenticated error before Quick Mode ends the attempt
// at once.
func TestRefusedAfterPhase1(t *testing.T) {
	inBoth(t, func(w *world) {
		w.change(gateway.XAuthRequest, func(m *gateway.Message) {
			n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: isakmp.NotifyUnsupportedExchange}
			m.Header.Exchange = isakmp.Informational
			m.Payloads = []isakmp.Payload{{Type: isakmp.PayloadNotify, Body: n.Append(nil)}}
		})
		w.start()
		var err error
		d := elapsed(func() { _, err = w.tryDial() })
		r := wantError[*RefusedError](w.t, err)
		if !r.Authenticated || r.Notify != isakmp.NotifyUnsupportedExchange || r.Step != StepSignIn || d != 0 {
			w.t.Errorf("after %v: %+v", d, r)
		}
		var credentials *CredentialsError
		if errors.As(err, &credentials) {
			w.t.Error("the login is blamed, which nobody has seen")
		}
		synctest.Wait()
		if len(w.gw.Clients()) != 0 {
			w.t.Error("the gateway was not told by a Delete")
		}
	})
}
