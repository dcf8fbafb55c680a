//go:build lab && linux

package lab

import (
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every user of etc/users signs in, whatever the password is made of; and nothing
// that the service or the command line writes, at the most talkative level, shows a
// password or a key.
func TestPasswords(t *testing.T) {
	h := start(t, "rw", "trace")
	p := loadProfile(t, "hybrid")
	from := len(gatewayLog(t))
	secrets := map[string]string{}
	var written strings.Builder
	for login, password := range users(t) {
		r := h.connect(t, p, login, password, "--json")
		written.WriteString(r.stdout + r.stderr)
		if r.exit != 0 {
			t.Errorf("%s: exit %d\n%s", login, r.exit, r.stderr)
			continue
		}
		if !strings.Contains(gatewaySAs(t, p), "XAuth: '"+login+"'") {
			t.Errorf("the gateway does not know that it is %s:\n%s", login, gatewaySAs(t, p))
		}
		for _, cmd := range [][]string{{"status"}, {"status", "--json"}, {"disconnect"}} {
			r := h.wayfarer(cmd...)
			written.WriteString(r.stdout + r.stderr)
		}
		if len(password) < 4 {
			t.Logf("%s: a password of %d bytes cannot be searched for", login, len(password))
			continue
		}
		secrets["password of "+login] = password
	}
	// wrong passwords are passwords too
	const wrong = "Tr0ub4dor&3 wrong"
	r := h.connect(t, p, "alice", wrong, "--json")
	written.WriteString(r.stdout + r.stderr)
	secrets["wrong password"] = wrong

	keys := gatewayKeys(t, gatewayLog(t)[from:])
	if len(keys) < 8*len(users(t)) {
		t.Fatalf("%d keys in the gateway's log: too few to be all", len(keys))
	}
	for name, key := range keys {
		secrets[name] = key
	}
	written.WriteString(h.log())
	run := filepath.Join(stateDir, "ns", h.ns, "run", "wayfarer")
	if err := filepath.WalkDir(run, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		written.Write(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	text := written.String()
	if !strings.Contains(text, "ID_PROT") {
		t.Error("the trace has no messages: there was nothing to search")
	}
	for name, secret := range secrets {
		for form, s := range disguises(secret) {
			if strings.Contains(text, s) {
				t.Errorf("%s can be read, in the form %s", name, form)
			}
		}
	}
	t.Logf("searched %d bytes for %d secrets", len(text), len(secrets))
}

// disguises are the forms in which a program might write bytes.
func disguises(secret string) map[string]string {
	raw := []byte(secret)
	quoted := strconv.Quote(secret)
	ascii := strconv.QuoteToASCII(secret)
	var spaced, decimal []string
	for _, b := range raw {
		spaced = append(spaced, hex.EncodeToString([]byte{b}))
		decimal = append(decimal, strconv.Itoa(int(b)))
	}
	return map[string]string{
		"raw":            secret,
		"quoted":         quoted[1 : len(quoted)-1],
		"quoted ASCII":   ascii[1 : len(ascii)-1],
		"hex":            hex.EncodeToString(raw),
		"HEX":            strings.ToUpper(hex.EncodeToString(raw)),
		"hex, spaced":    strings.Join(spaced, " "),
		"HEX, spaced":    strings.ToUpper(strings.Join(spaced, " ")),
		"hex, colons":    strings.Join(spaced, ":"),
		"bytes of Go":    strings.Join(decimal, " "),
		"base64":         base64.RawStdEncoding.EncodeToString(raw),
		"base64 for URL": base64.RawURLEncoding.EncodeToString(raw),
	}
}

// A line of the gateway's log: the thread, the SA, and either the label of bytes or a
// row of them.
var (
	logLine  = regexp.MustCompile(`^\S+ (\d\d)\[\w+\] <([^>]*)> (.*)`)
	keyLabel = regexp.MustCompile(`^(shared Diffie Hellman secret|SKEYID\w*|encryption key Ka|` +
		`(?:encryption|integrity) (?:initiator|responder) key) => `)
	keyRow = regexp.MustCompile(`^\s+\d+: ((?:[0-9A-F]{2} )+)`)
)

// gatewayKeys are the secrets of all SAs in a gateway's log: the Diffie-Hellman
// secret, SKEYID and its children, the cipher key, the keys of ESP.
func gatewayKeys(t *testing.T, log string) map[string]string {
	t.Helper()
	keys := map[string]string{}
	current := map[string]string{} // name of the key that a thread is writing
	for line := range strings.Lines(log) {
		m := logLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		thread, sa, text := m[1], m[2], m[3]
		if row := keyRow.FindStringSubmatch(text); row != nil {
			if name := current[thread]; name != "" {
				octets, err := hex.DecodeString(strings.ReplaceAll(row[1], " ", ""))
				if err != nil {
					t.Fatal(err)
				}
				keys[name] += string(octets)
			}
			continue
		}
		current[thread] = ""
		if label := keyLabel.FindStringSubmatch(text); label != nil {
			current[thread] = label[1] + " of SA " + sa + ", " + strconv.Itoa(len(keys))
		}
	}
	return keys
}
