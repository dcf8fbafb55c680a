package isakmp

import "testing"

// BenchmarkParse reads messages of real peers as a receiver does: header, chain, bodies.
func BenchmarkParse(b *testing.B) {
	messages := readRecorded(b)
	size := 0
	for _, m := range messages {
		size += len(m.bytes)
	}
	b.SetBytes(int64(size / len(messages)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h, body, err := ParseHeader(messages[i%len(messages)].bytes)
		if err != nil {
			b.Fatal(err)
		}
		payloads, _, err := ParsePayloads(h.NextPayload, body)
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range payloads {
			_, _ = parse(p.Type, p.Body) // there are types without a parser
		}
	}
}

// BenchmarkAppend writes them again.
func BenchmarkAppend(b *testing.B) {
	type message struct {
		header   Header
		payloads []Payload
	}
	var messages []message
	size := 0
	for _, r := range readRecorded(b) {
		h, body, err := ParseHeader(r.bytes)
		if err != nil {
			b.Fatal(err)
		}
		payloads, _, err := ParsePayloads(h.NextPayload, body)
		if err != nil {
			b.Fatal(err)
		}
		messages, size = append(messages, message{h, payloads}), size+len(r.bytes)
	}
	b.SetBytes(int64(size / len(messages)))
	b.ReportAllocs()
	var buf []byte
	for i := 0; b.Loop(); i++ {
		m := messages[i%len(messages)]
		buf = AppendMessage(buf[:0], m.header, m.payloads...)
	}
}
