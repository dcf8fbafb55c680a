//go:build lab && linux

package lab

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"wayfarer/app"
)

// packets counts those of a capture that a filter of tshark lets through; it does not
// look into ESP.
func packets(t *testing.T, file, filter string) int {
	t.Helper()
	return strings.Count(tshark(t, file, "-o", "esp.enable_encryption_decode:FALSE", "-Y", filter), "\n")
}

// With nat_t = off, a gateway that can do so and no NAT in between, ESP is a protocol
// of its own and IKE stays on port 500.
func TestPlainESP(t *testing.T) {
	// The right to raw sockets is the administrator's to give.
	h := start(t, "rw2", "debug", "setpriv", "--inh-caps=+net_raw", "--ambient-caps=+net_raw", "--")
	if gatewayMajor(t) < 6 {
		t.Skip("before strongSwan 6, a gateway without kernel ESP speaks ESP in UDP only: LAB_GW_ROOT")
	}
	for _, name := range []string{"hybrid", "hybrid-am", "psk", "full"} {
		t.Run(name, func(t *testing.T) {
			p := loadProfile(t, name)
			before := network(t, h.ns)
			file := capture(t, func() {
				c := h.up(t, p, "--set", "nat_t=off")
				if c.IKE.NATT != "" || c.Gateway.Port != 500 {
					t.Errorf("status: nat_t %q, port %d", c.IKE.NATT, c.Gateway.Port)
				}
				probe(t, h.ns, p)
				throughput(t, h.ns, "10.10.0.2")
				h.down(t)
			})
			restored(t, h.ns, before)
			if n := packets(t, file, "ip.proto == 50 && ip.src == 192.0.2.34"); n < 10 {
				t.Errorf("%d packets of protocol 50 left", n)
			}
			if n := packets(t, file, "ip.proto == 50 && ip.dst == 192.0.2.34"); n < 10 {
				t.Errorf("%d packets of protocol 50 came", n)
			}
			if n := packets(t, file, "udp.port == 4500"); n != 0 {
				t.Errorf("%d packets of port 4500", n)
			}
			if n := packets(t, file, "ip.flags.mf == 1 || ip.frag_offset > 0"); n != 0 {
				t.Errorf("%d IP fragments", n)
			}
		})
	}
}

// Plain ESP needs a right that the service has only where it was given: without it,
// the refusal says so and nothing is sent.
func TestPlainESPWithoutRight(t *testing.T) {
	h := start(t, "rw2", "debug")
	p := loadProfile(t, "hybrid")
	before := network(t, h.ns)
	var r result
	file := capture(t, func() { r = h.connect(t, p, p["USER"], p["PASSWORD"], "--json", "--set", "nat_t=off") })
	refusal(t, r, app.CodeNetworkConfig, app.StepBuildTunnel)
	restored(t, h.ns, before)
	if n := packets(t, file, "isakmp"); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// The drafts of RFC 3947 that strongSwan knows, in place of it.
func TestNATDrafts(t *testing.T) {
	h := start(t, "rw", "debug")
	p := loadProfile(t, "hybrid")
	for _, draft := range []string{"draft-02", "draft-03"} {
		t.Run(draft, func(t *testing.T) {
			before := network(t, h.ns)
			file := capture(t, func() {
				c := h.up(t, p, "--set", "nat_t="+draft)
				if c.IKE.NATT != draft || c.IKE.NAT != natShown(t, true) || c.Gateway.Port != 4500 {
					t.Errorf("status: nat_t %q, nat %q, port %d", c.IKE.NATT, c.IKE.NAT, c.Gateway.Port)
				}
				probe(t, h.ns, p)
				h.down(t)
			})
			restored(t, h.ns, before)
			const udpTunnelOfDrafts = 61443
			for _, filter := range []string{"isakmp.typepayload == 130", "isakmp.ipsec.attr.encap_mode == " + strconv.Itoa(udpTunnelOfDrafts)} {
				if packets(t, file, filter) == 0 {
					t.Errorf("no message with %s", filter)
				}
			}
		})
	}
}

// The older drafts strongSwan does not know. It agrees on plain ESP then, and one without
// kernel ESP finds that it has none only once Quick Mode is over: it deletes each ESP SA.
// That is a refusal, soon, and never a connection.
func TestNATDraftsUnknown(t *testing.T) {
	for _, draft := range []string{"draft-00", "draft-01"} {
		t.Run(draft, func(t *testing.T) {
			h := start(t, "rw2", "debug", "setpriv", "--inh-caps=+net_raw", "--ambient-caps=+net_raw", "--")
			if gatewayMajor(t) >= 6 {
				t.Skip("from strongSwan 6 on, a gateway without kernel ESP speaks plain ESP as well")
			}
			p := loadProfile(t, "hybrid")
			before := network(t, h.ns)
			var r result
			file := capture(t, func() { r = h.connect(t, p, p["USER"], p["PASSWORD"], "--json", "--set", "nat_t="+draft) })
			refusal(t, r, app.CodeSettingsRefused, app.StepBuildTunnel)
			restored(t, h.ns, before)
			const quickModes = 4
			if n := packets(t, file, "isakmp.exchangetype == 32 && ip.src == 192.0.2.34"); n != 2*quickModes {
				t.Errorf("%d Quick Mode messages, want %d", n, 2*quickModes)
			}
		})
	}
}

// A client's certificate with its chain is larger than a packet: it arrives in IKE
// fragments, where fragments of IP are lost.
func TestFragmentsToGateway(t *testing.T) {
	for _, name := range []string{"rsa", "rsa-am"} {
		t.Run(name, func(t *testing.T) {
			h := start(t, "rw", "debug")
			pki := filepath.Join(stateDir, "pki")
			p := swap(loadProfile(t, name), map[string]string{
				"--cert": filepath.Join(pki, "alice-chain.pem"), "--key": filepath.Join(pki, "alice-chain.key"),
			})
			before := network(t, h.ns)
			mustLab(t, "fault", "drop-frags")
			defer mustLab(t, "fault", "clear")
			file := capture(t, func() {
				h.up(t, p)
				probe(t, h.ns, p)
				h.down(t)
			})
			restored(t, h.ns, before)
			if n := packets(t, file, "isakmp.typepayload == 132 && ip.dst == "+p["GATEWAY"]); n < 2 {
				t.Errorf("%d IKE fragments to the gateway", n)
			}
			if n := packets(t, file, "ip.flags.mf == 1 || ip.frag_offset > 0"); n != 0 {
				t.Errorf("%d IP fragments", n)
			}
		})
	}
}
