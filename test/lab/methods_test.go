//go:build lab && linux

package lab

import (
	"crypto/rsa"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wayfarer/app"
)

// swap changes flags of a profile's command line: the value of each, or all of it if
// the value is empty.
func swap(p profile, values map[string]string) profile {
	changed := profile{}
	for key, value := range p {
		changed[key] = value
	}
	for flag, value := range values {
		pattern := regexp.MustCompile(regexp.QuoteMeta(flag) + ` \S+ ?`)
		if value != "" {
			value = flag + " " + value + " "
		}
		changed["WAYFARER"] = pattern.ReplaceAllString(changed["WAYFARER"], value)
	}
	return changed
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A certificate and its key come from PKCS #12 too; the passphrase is asked for on the
// terminal, and there only.
func TestPKCS12(t *testing.T) {
	h := start(t, "rw", "debug")
	p := loadProfile(t, "rsa")
	before := network(t, h.ns)
	p = swap(p, map[string]string{"--cert": p["P12"], "--key": ""})

	r := h.connect(t, p, p["USER"], p["PASSWORD"], "--json")
	refusal(t, r, app.CodeCancelled, "")
	if !strings.Contains(r.stderr, "passphrase") {
		t.Errorf("it says %q", r.stderr)
	}

	for passphrase, exit := range map[string]int{"p13": app.CodeUsage.Exit(), "p12": 0} {
		// script(1) is the terminal; it exits as the program does.
		command := strings.Join([]string{
			filepath.Join(binDir, "wayfarer"), "connect", p["WAYFARER"],
			"--login", p["USER"], "--password-file", file(t, "password", p["PASSWORD"]),
		}, " ")
		r := execute(t, passphrase+"\n", "exec", h.ns, "script", "-qec", command, "/dev/null")
		if r.exit != exit || !strings.Contains(r.stdout, "Passphrase for "+p["P12"]) {
			t.Fatalf("passphrase %s: exit %d\n%s%s", passphrase, r.exit, r.stdout, r.stderr)
		}
		if exit != 0 {
			continue
		}
		if c := h.connection(t); c.IKE.Auth != "xauth-rsa" {
			t.Errorf("authenticated by %s", c.IKE.Auth)
		}
		probe(t, h.ns, p)
		h.down(t)
	}
	restored(t, h.ns, before)
}

// What proves this side and is wrong ends the attempt; neither login nor password has
// left by then.
func TestWrongProofs(t *testing.T) {
	pki := filepath.Join(stateDir, "pki")
	wrong := file(t, "secret", "a guess\n")
	stranger := map[string]string{"--cert": filepath.Join(pki, "gw2.pem"), "--key": filepath.Join(pki, "gw2.key")}
	for _, tc := range []struct {
		profile string
		change  map[string]string
		code    app.Code
		step    app.Step
	}{
		{"psk", map[string]string{"--group-secret-file": wrong}, app.CodeUntrusted, app.StepCheckCertificate},
		{"psk-am", map[string]string{"--group-secret-file": wrong}, app.CodeUntrusted, app.StepCheckCertificate},
		{"psk-am", map[string]string{"--allow-weak": ""}, app.CodeUsage, ""},
		{"rsa", stranger, app.CodeSignInRefused, app.StepCheckCertificate},
		{"rsa-am", stranger, app.CodeSignInRefused, app.StepSignIn},
		{"rsa", map[string]string{"--key": filepath.Join(pki, "gw2.key")}, app.CodeUsage, ""},
	} {
		t.Run(tc.profile+" "+string(tc.code), func(t *testing.T) {
			h := start(t, "rw", "debug")
			p := swap(loadProfile(t, tc.profile), tc.change)
			before := network(t, h.ns)
			var r result
			dump := capture(t, func() { r = h.connect(t, p, p["USER"], p["PASSWORD"], "--json") })
			refusal(t, r, tc.code, tc.step)
			restored(t, h.ns, before)
			all := messages(t, dump, p["GATEWAY"])
			if (len(all) == 0) != (tc.code == app.CodeUsage) {
				t.Errorf("%d messages", len(all))
			}
			if n := xauthReplies(all); n != 0 {
				t.Errorf("%d XAUTH replies", n)
			}
		})
	}
}

// Nothing that the service or the command line writes, at the most talkative level,
// shows a group's secret or a private key.
func TestSecretsOfMethods(t *testing.T) {
	h := start(t, "rw", "trace")
	var written strings.Builder
	secrets := map[string]string{}
	for _, name := range []string{"psk", "psk-am", "rsa"} {
		p := loadProfile(t, name)
		r := h.connect(t, p, p["USER"], p["PASSWORD"], "--json")
		written.WriteString(r.stdout + r.stderr)
		if r.exit != 0 {
			t.Fatalf("%s: exit %d\n%s", name, r.exit, r.stderr)
		}
		for _, cmd := range [][]string{{"status"}, {"status", "--json"}, {"disconnect"}} {
			r := h.wayfarer(cmd...)
			written.WriteString(r.stdout + r.stderr)
		}
		secrets["password"], secrets["group's secret"] = p["PASSWORD"], p["PSK"]
		text, err := os.ReadFile(p["KEY"])
		if err != nil {
			t.Fatal(err)
		}
		signer, err := app.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		key := signer.(*rsa.PrivateKey)
		secrets["private exponent"], secrets["prime"] = string(key.D.Bytes()), string(key.Primes[0].Bytes())
		secrets["key in PEM"] = strings.Split(string(text), "\n")[1]
	}
	written.WriteString(h.log())
	text := written.String()
	if !strings.Contains(text, "AGGRESSIVE") {
		t.Error("the trace has no messages: there was nothing to search")
	}
	for name, secret := range secrets {
		for form, s := range disguises(secret) {
			if strings.Contains(text, s) {
				t.Errorf("%s can be read, in the form %s", name, form)
			}
		}
	}
}
