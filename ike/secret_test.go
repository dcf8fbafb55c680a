package ike

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestSecretStaysSecret prints, logs and encodes a secret in every way that could
// happen by mistake.
func TestSecretStaysSecret(t *testing.T) {
	const clear = "hunter2"
	secret := Secret(clear)
	config := Config{Gateway: "gw.example.com", Password: secret, GroupSecret: secret}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%o", "%b", "%c", "%U", "%20s", "%t"} {
		fmt.Fprintf(&out, verb+"\n", secret)
		fmt.Fprintf(&out, verb+"\n", &secret)
		fmt.Fprintf(&out, verb+"\n", []Secret{secret})
		fmt.Fprintf(&out, verb+"\n", map[string]Secret{"password": secret})
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		fmt.Fprintf(&out, verb+"\n", config)
		fmt.Fprintf(&out, verb+"\n", Answer{Text: secret})
		fmt.Fprintf(&out, verb+"\n", &Answer{Text: secret})
	}
	fmt.Fprintln(&out, secret, fmt.Errorf("bad password %v", secret))
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(h)
		log.Info("secret", "password", secret, "answer", Answer{Text: secret}, "several", []Secret{secret})
		log.With("password", secret).WithGroup("g").Info("secret", slog.Any("pointer", &secret))
	}
	enc := json.NewEncoder(&out)
	for _, v := range []any{secret, &secret, []Secret{secret}, map[string]Secret{"password": secret}, Answer{Text: secret}} {
		if err := enc.Encode(v); err != nil {
			t.Error(err)
		}
	}
	text := out.String()
	for name, forbidden := range map[string]string{
		"itself": clear, "hexadecimal": fmt.Sprintf("%x", clear), "HEXADECIMAL": fmt.Sprintf("%X", clear), "spaced": fmt.Sprintf("% x", clear),
		"decimal": strings.Trim(fmt.Sprint([]byte(clear)), "[]"), "base64": "aHVudGVyMg", "octal": strings.Trim(fmt.Sprintf("%o", []byte(clear)), "[]"),
		"Go":     strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(clear)), "[]byte{"), "}"),
		"binary": strings.Trim(fmt.Sprintf("%b", []byte(clear)), "[]"), "characters": strings.Trim(fmt.Sprintf("%c", []byte(clear)), "[]"),
		"Unicode": strings.Trim(fmt.Sprintf("%U", []byte(clear)), "[]"),
	} {
		if i := strings.Index(text, forbidden); i >= 0 {
			t.Errorf("%s: %q", name, text[max(0, i-60):min(len(text), i+60)])
		}
	}
	if strings.Count(text, redacted) < 50 {
		t.Errorf("%q stands there %d times", redacted, strings.Count(text, redacted))
	}
}

func TestSecretZeroAndClone(t *testing.T) {
	secret := Secret("hunter2")
	clone := secret.Clone()
	secret.Zero()
	if !bytes.Equal(secret, make([]byte, 7)) || string(clone) != "hunter2" {
		t.Error("Zero clears the clone, or not the secret")
	}
	clone[0] = 'X'
	if secret[0] != 0 {
		t.Error("the clone is the secret")
	}
	if Secret(nil).Clone() != nil {
		t.Error("no secret becomes an empty one")
	}
	if c := (Secret{}).Clone(); c == nil {
		t.Error("an empty secret becomes none")
	}
	Secret(nil).Zero()
}
