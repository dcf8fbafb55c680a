//go:build lab && linux

package lab

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"wayfarer/app"
)

// Profiles that must fail do, with their exit codes, and what must not leave the
// machine has not left it.
func TestFailures(t *testing.T) {
	for _, tc := range []struct {
		name, profile  string
		password       string // empty: the right one
		code           app.Code
		step           app.Step
		replies        int  // to XAUTH requests
		loginStaysHere bool // nothing that names the user has been sent
	}{
		{"expired", "expired", "", app.CodeUntrusted, app.StepCheckCertificate, 0, true},
		{"rogue", "rogue", "", app.CodeUntrusted, app.StepCheckCertificate, 0, true},
		{"wrongname", "wrongname", "", app.CodeUntrusted, app.StepCheckCertificate, 0, true},
		{"noprop", "noprop", "", app.CodeNoProposal, app.StepAgreeSecurity, 0, true},
		{"noprop2", "noprop2", "", app.CodeNoProposal, app.StepBuildTunnel, 1, false},
		{"wrong password", "hybrid", "not this one", app.CodeSignInRefused, app.StepSignIn, 1, false},
		{"wrong password, aggressive", "hybrid-am", "not this one", app.CodeSignInRefused, app.StepSignIn, 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, "rw", "debug")
			p := loadProfile(t, tc.profile)
			password := p["PASSWORD"]
			if tc.password != "" {
				password = tc.password
			}
			before := network(t, h.ns)
			var r result
			file := capture(t, func() { r = h.connect(t, p, p["USER"], password, "--json") })

			refusal(t, r, tc.code, tc.step)
			restored(t, h.ns, before)
			all := messages(t, file, p["GATEWAY"])
			if len(all) < 2 {
				t.Fatalf("the capture has %d messages", len(all))
			}
			if n := xauthReplies(all); n != tc.replies {
				t.Errorf("%d XAUTH replies, want %d", n, tc.replies)
			}
			if tc.loginStaysHere {
				checkUnsent(t, file, all, p)
			}
		})
	}
}

// checkUnsent: no Transaction has left (its type stands in the clear header), and
// neither the decrypted capture nor the gateway's log knows the login.
func checkUnsent(t *testing.T, file string, all []message, p profile) {
	t.Helper()
	for _, m := range all {
		if m.fromClient && m.exchange == transaction {
			t.Errorf("a Transaction was sent: %+v", m)
		}
		if m.encrypted && len(m.payloads) < 2 {
			t.Errorf("not decrypted: %+v", m)
		}
	}
	text := tshark(t, file, "-V")
	for where, s := range map[string]string{"the capture": text, "the gateway's log": gatewayLog(t)} {
		if strings.Contains(s, p["USER"]) || strings.Contains(s, p["PASSWORD"]) {
			t.Errorf("%s has the login or the password", where)
		}
	}
}

// refusal checks exit code, the line for people, and the error for programs.
func refusal(t *testing.T, r result, code app.Code, step app.Step) {
	t.Helper()
	if r.exit != code.Exit() {
		t.Errorf("exit %d, want %d", r.exit, code.Exit())
	}
	var out struct {
		Error struct{ Code, Step, Message, Hint string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatalf("--json: %v\nstdout %q\nstderr %q", err, r.stdout, r.stderr)
	}
	if out.Error.Code != string(code) || out.Error.Step != string(step) || out.Error.Message == "" {
		t.Errorf("--json: %+v, want code %s, step %s", out.Error, code, step)
	}
	if strings.Count(strings.TrimSpace(r.stderr), "\n") != 0 || strings.TrimSpace(r.stderr) == "" {
		t.Errorf("standard error is not one line: %q", r.stderr)
	}
	t.Logf("%s", strings.TrimSpace(r.stderr))
}

// A gateway that is not there, in the ways in which that shows.
func TestGatewayAbsent(t *testing.T) {
	for _, tc := range []struct {
		name    string
		arrange []string // of the lab
		gateway string   // empty: the profile's
		repair  []string
	}{
		{"silence", []string{"fault", "blackhole"}, "", []string{"fault", "clear"}},
		{"no such host", nil, "198.51.100.99", nil},
		{"port closed", []string{"gw", "kill"}, "", []string{"gw", "start"}},
		{"rejected", []string{"fault", "reject"}, "", []string{"fault", "clear"}},
		{"only port 500 passes", []string{"fault", "drop-4500"}, "", []string{"fault", "clear"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, "rw", "debug")
			p := loadProfile(t, "hybrid")
			before := network(t, h.ns)
			if tc.arrange != nil {
				mustLab(t, tc.arrange...)
				defer mustLab(t, tc.repair...)
			}
			more := []string{"--json", "--timeout", "8s"}
			if tc.gateway != "" {
				more = append(more, "--gateway", tc.gateway)
			}
			began := time.Now()
			r := h.connect(t, p, p["USER"], p["PASSWORD"], more...)
			if d := time.Since(began); d > 12*time.Second {
				t.Errorf("--timeout 8s took %v", d)
			}
			step := app.StepFindGateway
			if tc.name == "only port 500 passes" {
				step = app.StepCheckCertificate
			}
			refusal(t, r, app.CodeNoAnswer, step)
			restored(t, h.ns, before)
		})
	}
}

// A pool of one address: the second client is refused, the first does not notice.
func TestPoolExhausted(t *testing.T) {
	p := func() profile { return loadProfile(t, "tiny") }
	first, second := start(t, "rw", "debug"), start(t, "rw2", "debug")
	first.up(t, p())
	before := network(t, second.ns)
	refusal(t, second.connect(t, p(), "bob", users(t)["bob"], "--json"), app.CodeSettingsRefused, app.StepGetSettings)
	restored(t, second.ns, before)
	first.connection(t)
	first.ping(t, "10.10.0.2")
	first.down(t)
}

// What is wrong before anything is sent.
func TestUsage(t *testing.T) {
	h := start(t, "rw", "debug")
	p := loadProfile(t, "hybrid")
	for _, tc := range []struct {
		name string
		args []string
	}{
		{"unknown flag", []string{"--gatewey", "198.51.100.10"}},
		{"unknown IKE suite", []string{"--ike", "rot13-sha256-modp2048"}},
		{"unknown ESP suite", []string{"--esp", "aes256"}},
		{"unknown weakness", []string{"--allow-weak", "des"}},
		{"unknown exchange", []string{"--exchange", "quick"}},
		{"unknown key", []string{"--set", "colour=blue"}},
		{"missing CA file", []string{"--ca", "/nonexistent/ca.pem"}},
		{"missing password file", []string{"--password-file", "/nonexistent/password"}},
		{"CA file without a certificate", []string{"--ca", script}},
		{"a name too much", []string{"office", "home"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := h.connect(t, p, p["USER"], p["PASSWORD"], tc.args...)
			if r.exit != 2 {
				t.Errorf("exit %d, want 2", r.exit)
			}
			if line := strings.TrimSpace(r.stderr); line == "" || strings.Contains(line, "\n") {
				t.Errorf("standard error is not one line: %q", r.stderr)
			}
			t.Logf("%s", strings.TrimSpace(r.stderr))
		})
	}
	if left := h.status(t).Connections; len(left) != 0 {
		t.Errorf("the status shows %+v", left)
	}
}

// No service: exit 8, in every subcommand that needs it.
func TestNoService(t *testing.T) {
	need(t)
	mustLab(t, "disconnect", "-n", "rw")
	h := &host{t: t, ns: "rw"}
	if err := os.RemoveAll(stateDir + "/ns/rw/run/wayfarer"); err != nil {
		t.Fatal(err)
	}
	p := loadProfile(t, "hybrid")
	for name, r := range map[string]result{
		"connect":    h.connect(t, p, p["USER"], p["PASSWORD"]),
		"status":     h.wayfarer("status"),
		"disconnect": h.wayfarer("disconnect"),
		"elsewhere":  h.wayfarer("status", "--socket", "/nonexistent/socket"),
	} {
		if r.exit != 8 || strings.Contains(strings.TrimSpace(r.stderr), "\n") || r.stderr == "" {
			t.Errorf("%s: exit %d, want 8\n%s%s", name, r.exit, r.stdout, r.stderr)
		}
	}
}

// The host's network cannot be configured: exit 7, and nothing is left behind.
func TestHostRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		prefix []string
	}{
		{"no /dev/net/tun", []string{"sh", "-c", `mount -t tmpfs none /dev/net && exec "$@"`, "sh"}},
		{"no rights", []string{"setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, "rw", "debug", tc.prefix...)
			before := network(t, h.ns)
			p := loadProfile(t, "hybrid")
			r := h.connect(t, p, p["USER"], p["PASSWORD"], "--json")
			refusal(t, r, app.CodeNetworkConfig, app.StepBuildTunnel)
			restored(t, h.ns, before)
			if sas := gatewaySAs(t, p); strings.Contains(sas, "ESTABLISHED") {
				t.Errorf("the gateway still has\n%s", sas)
			}
		})
	}
}
