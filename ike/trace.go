package ike

import (
	"context"
	"fmt"
	"log/slog"

	"wayfarer/ike/isakmp"
)

// levelTrace is the level of what is logged of every payload of every message.
const levelTrace = slog.LevelDebug - 4

// Texts of trace records. With the attributes they are what the window makes a ladder
// of messages of.
const (
	traceSent     = "sent message"
	traceReceived = "received message"
)

// maxTraced bounds the payloads of a record; gateways send twenty.
const maxTraced = 26

// trace logs what is in a message, payload by payload, but nothing secret. Probes are
// left out: they come for hours, and would push out all else of where records are kept.
func (sa *isakmpSA) trace(text string, exchange isakmp.ExchangeType, mid uint32, encrypted bool, ps []isakmp.Payload) {
	ctx := context.Background()
	if !sa.log.Enabled(ctx, levelTrace) || isProbe(exchange, ps) {
		return
	}
	attrs := []slog.Attr{
		slog.String("exchange", exchange.String()), slog.String("mid", fmt.Sprintf("%08x", mid)), slog.Bool("encrypted", encrypted),
	}
	for i, p := range ps[:min(len(ps), maxTraced)] {
		attrs = append(attrs, slog.String(fmt.Sprintf("payload_%02d", i+1), describe(p)))
	}
	if more := len(ps) - maxTraced; more > 0 {
		attrs = append(attrs, slog.Int("more_payloads", more))
	}
	sa.log.LogAttrs(ctx, levelTrace, text, attrs...)
}

// isProbe tells the messages of dead peer detection (RFC 3706 §5.3).
func isProbe(exchange isakmp.ExchangeType, ps []isakmp.Payload) bool {
	if exchange != isakmp.Informational {
		return false
	}
	for _, p := range ps {
		if p.Type != isakmp.PayloadNotify {
			continue
		}
		if n, err := isakmp.ParseNotify(p.Body); err == nil && (n.Type == isakmp.NotifyRUThere || n.Type == isakmp.NotifyRUThereAck) {
			return true
		}
	}
	return false
}
