package ike

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"wayfarer/ike/isakmp"
)

// Trace shows more than debug: each payload, but nothing of what may be a secret.
func TestTrace(t *testing.T) {
	for level, lines := range map[slog.Level]int{slog.LevelDebug: 1, levelTrace: 4} {
		var out bytes.Buffer
		sa := &isakmpSA{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))}
		sa.clear(isakmp.Transaction,
			isakmp.Payload{Type: isakmp.PayloadAttribute, Body: []byte("lovelace")},
			isakmp.Payload{Type: isakmp.PayloadID, Body: []byte("ada")},
			isakmp.Payload{Type: isakmp.PayloadVendorID, Body: []byte{0xca, 0xfe}})
		text := out.String()
		if got := strings.Count(text, "\n"); got != lines {
			t.Errorf("%v: %d lines, want %d:\n%s", level, got, lines, text)
		}
		if shown := strings.Contains(text, "type=V bytes=2 body=cafe"); shown != (level == levelTrace) {
			t.Errorf("%v: what is in a vendor ID:\n%s", level, text)
		}
		for _, secret := range []string{"lovelace", "6c6f76656c616365", "616461"} {
			if strings.Contains(text, secret) {
				t.Errorf("%v: %s is shown:\n%s", level, secret, text)
			}
		}
	}
}
