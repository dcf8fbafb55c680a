//go:build lab && linux

package lab

import (
	"slices"
	"strings"
	"testing"
)

// An office: both sides prove themselves by a certificate or by a secret, nobody signs
// in, the gateway gives no address, and the computers of the office and of the company
// reach each other.
func TestOffice(t *testing.T) {
	need(t)
	mustLab(t, "office", "rw")
	t.Cleanup(func() { mustLab(t, "office", "down") })
	for _, tc := range []struct{ name, auth, exchange string }{
		{"site-rsa", "rsa", "main"},
		{"site-rsa-am", "rsa", "aggressive"},
		{"site-psk", "psk", "main"},
		{"site-psk-am", "psk", "aggressive"},
		{"site-p256", "ecdsa-256", "main"},
		{"site-p384", "ecdsa-384", "main"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, "rw", "debug")
			p := loadProfile(t, tc.name)
			before := network(t, h.ns)
			file := capture(t, func() {
				if r := h.wayfarer(append([]string{"connect"}, strings.Fields(p["WAYFARER"])...)...); r.exit != 0 {
					t.Fatalf("connect: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
				}
				h.checkOffice(t, p, tc.auth, tc.exchange)
				h.down(t)
			})
			restored(t, h.ns, before)
			for _, m := range messages(t, file, p["GATEWAY"]) {
				if slices.ContainsFunc(m.attrs, func(a int) bool { return a == xauthUser || a == xauthPassword || a == modeAddress }) {
					t.Errorf("a login or an address was asked for: %+v", m)
				}
			}
		})
	}
}

func (h *host) checkOffice(t *testing.T, p profile, auth, exchange string) {
	t.Helper()
	c := h.connection(t)
	if c.IKE.Auth != auth || c.IKE.Exchange != exchange || c.IKE.Suite != p["IKE_PROPOSAL"] {
		t.Errorf("status: ike %+v, want %s, %s, %s", c.IKE, auth, exchange, p["IKE_PROPOSAL"])
	}
	if len(c.Addresses) != 1 || c.Addresses[0].String() != "10.55.0.1/32" {
		t.Errorf("status: addresses %v, want this computer's own in the office", c.Addresses)
	}
	var remote []string
	for _, esp := range c.ESP {
		if esp.Local.String() != "10.55.0.0/24" || esp.Suite != p["ESP_PROPOSAL"] {
			t.Errorf("status: esp %+v", esp)
		}
		remote = append(remote, esp.Remote.String())
	}
	slices.Sort(remote)
	if want := []string{"10.10.0.0/24", "10.10.1.0/24", "10.10.2.0/24"}; !slices.Equal(remote, want) {
		t.Errorf("status: ESP SAs to %v, want %v", remote, want)
	}
	probe(t, h.ns, p)
	for _, from := range []struct{ ns, addr string }{
		{"branch", "10.10.0.2"},
		{"branch", "10.10.2.2"},
		{"srv", "10.55.0.2"},
		{"srv", "10.55.0.1"},
	} {
		if out, err := inside(from.ns, "ping", "-n", "-c1", "-W2", from.addr); err != nil {
			t.Errorf("from %s: %s does not answer\n%s", from.ns, from.addr, out)
		}
	}
}
