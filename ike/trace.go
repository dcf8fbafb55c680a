package ike

import (
	"context"
	"encoding/hex"
	"log/slog"

	"wayfarer/ike/isakmp"
)

// levelTrace is the level of what is logged of every payload of every message.
const levelTrace = slog.LevelDebug - 4

// trace logs the payloads of a message: type and length, and of those that never hold a
// secret or a person's name what is in them.
func (sa *isakmpSA) trace(way string, ps []isakmp.Payload) {
	ctx := context.Background()
	if !sa.log.Enabled(ctx, levelTrace) {
		return
	}
	for _, p := range ps {
		attrs := []slog.Attr{slog.String("type", p.Type.String()), slog.Int("bytes", len(p.Body))}
		switch p.Type {
		case isakmp.PayloadSA, isakmp.PayloadVendorID, isakmp.PayloadNotify, isakmp.PayloadDelete:
			attrs = append(attrs, slog.String("body", hex.EncodeToString(p.Body)))
		}
		sa.log.LogAttrs(ctx, levelTrace, way+" payload", attrs...)
	}
}
