//go:build lab && linux

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wayfarer/app"
)

// startPluto runs Libreswan in place of the second gateway for the length of the test.
func startPluto(t *testing.T) {
	t.Helper()
	need(t)
	if os.Getenv("LAB_PLUTO_ROOT") == "" {
		t.Skip("LAB_PLUTO_ROOT names no directory with Libreswan: lab pluto-root")
	}
	mustLab(t, "pluto", "start")
	t.Cleanup(func() { mustLab(t, "pluto", "stop") })
}

// plutoLog is what pluto has written since it was started.
func plutoLog(t *testing.T) string {
	t.Helper()
	return mustLab(t, "pluto", "log")
}

// Libreswan, with each way to authenticate that it has, its settings pulled and
// pushed. Without ESP in the kernel it refuses to make the ESP SA that it has agreed
// to: then that is as far as it goes.
func TestPluto(t *testing.T) {
	startPluto(t)
	pki := filepath.Join(stateDir, "pki")
	secret := []string{"--auth", "xauth-psk", "--group-secret-file", filepath.Join(stateDir, "psk")}
	certificate := []string{
		"--auth", "xauth-rsa", "--ca", filepath.Join(pki, "ca2.pem"),
		"--cert", filepath.Join(pki, "alice.pem"), "--key", filepath.Join(pki, "alice.key"),
	}
	for _, tc := range []struct {
		conn, gateway string // of etc/pluto.conf
		args          []string
		settings      string // in pluto's log, once the client has its settings
	}{
		{"psk", "198.51.100.130", append(secret, "--exchange", "main"), "sent ModeCfg reply"},
		{"rsa", "198.51.100.130", append(certificate, "--exchange", "main"), "sent ModeCfg reply"},
		{"push", "198.51.100.131", append(secret, "--exchange", "main"), "received ModeCfg Ack"},
		{
			"psk-am", "198.51.100.132",
			append(secret, "--exchange", "aggressive", "--group-id", "labgroup", "--allow-weak", "psk-aggressive"), "sent ModeCfg reply",
		},
	} {
		t.Run(tc.conn, func(t *testing.T) {
			h := start(t, "rw", "debug")
			before := network(t, h.ns)
			from := len(plutoLog(t))
			p := profile{"WAYFARER": strings.Join(append(tc.args, "--gateway", tc.gateway, "--remote-id", "gw2.lab.test"), " ")}
			r := h.connect(t, p, "alice", users(t)["alice"], "--json", "--timeout", "10s")
			log := plutoLog(t)[from:]
			for _, want := range []string{`"` + tc.conn + `"`, "XAUTH: User alice: Authentication Successful", tc.settings, "responding to Quick Mode proposal"} {
				if !strings.Contains(log, want) {
					t.Errorf("pluto does not say %q", want)
				}
			}
			if strings.Contains(log, "netlink response for Add SA") {
				refusal(t, r, app.CodeNoAnswer, app.StepBuildTunnel)
				t.Log("no ESP in this kernel: no tunnel")
			} else if r.exit == 0 {
				h.ping(t, "10.20.0.2")
				h.down(t)
			} else {
				t.Errorf("exit %d\n%s", r.exit, r.stderr)
			}
			if t.Failed() {
				t.Logf("pluto:\n%s", log)
			}
			restored(t, h.ns, before)
		})
	}
}

// What Libreswan refuses.
func TestPlutoRefuses(t *testing.T) {
	startPluto(t)
	for _, tc := range []struct {
		name, password, secret string
		code                   app.Code
		step                   app.Step
	}{
		{"wrong password", "not this one", "labsecret", app.CodeSignInRefused, app.StepSignIn},
		{"wrong secret", "wonderland", "a guess", app.CodeNoAnswer, app.StepCheckCertificate},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, "rw", "debug")
			before := network(t, h.ns)
			from := len(plutoLog(t))
			p := profile{"WAYFARER": "--gateway 198.51.100.130 --remote-id gw2.lab.test --exchange main --auth xauth-psk " +
				"--group-secret-file " + file(t, "secret", tc.secret)}
			r := h.connect(t, p, "alice", tc.password, "--json", "--timeout", "10s")
			refusal(t, r, tc.code, tc.step)
			restored(t, h.ns, before)
			if t.Failed() {
				t.Logf("pluto:\n%s", plutoLog(t)[from:])
			}
		})
	}
}
