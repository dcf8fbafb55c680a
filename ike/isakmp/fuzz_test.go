package isakmp

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzMessage reads a datagram as a whole: header, chain, and each body. What is
// understood must be written again to the same effect.
func FuzzMessage(f *testing.F) {
	for _, r := range readRecorded(f) {
		f.Add(r.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, body, err := ParseHeader(b)
		if err != nil {
			return
		}
		if again := append(h.Append(nil), body...); !bytes.Equal(again, b[:h.Length]) {
			t.Fatalf("header appended again:\n%x\nwas\n%x", again, b)
		}
		ps, rest, err := ParsePayloads(h.NextPayload, body)
		if err != nil {
			return
		}
		if len(ps) > MaxPayloads {
			t.Fatalf("%d payloads", len(ps))
		}
		var raw []byte
		for _, p := range ps {
			raw = append(raw, p.Raw...)
		}
		if raw = append(raw, rest...); !bytes.Equal(raw, body) {
			t.Fatalf("raw payloads and rest are not the body:\n%x\n%x", raw, body)
		}
		_ = Describe(ps)

		again := AppendMessage(nil, h, ps...)
		h2, body2, err := ParseHeader(again)
		if err != nil {
			t.Fatal(err)
		}
		ps2, rest2, err := ParsePayloads(h2.NextPayload, body2)
		if err != nil || len(rest2) != 0 || len(ps2) != len(ps) {
			t.Fatalf("%d payloads, then %d, %d bytes left, %v", len(ps), len(ps2), len(rest2), err)
		}
		for i, p := range ps {
			if ps2[i].Type != p.Type || !bytes.Equal(ps2[i].Body, p.Body) {
				t.Fatalf("%v %x became %v %x", p.Type, p.Body, ps2[i].Type, ps2[i].Body)
			}
			checkBody(t, p.Type, p.Body)
		}
	})
}

func FuzzSA(f *testing.F)       { fuzzBody(f, PayloadSA) }
func FuzzID(f *testing.F)       { fuzzBody(f, PayloadID) }
func FuzzCert(f *testing.F)     { fuzzBody(f, PayloadCert) }
func FuzzNotify(f *testing.F)   { fuzzBody(f, PayloadNotify) }
func FuzzDelete(f *testing.F)   { fuzzBody(f, PayloadDelete) }
func FuzzConfig(f *testing.F)   { fuzzBody(f, PayloadAttribute) }
func FuzzFragment(f *testing.F) { fuzzBody(f, PayloadFragment) }

func fuzzBody(f *testing.F, typ PayloadType) {
	for _, g := range goldens {
		if g.typ == typ {
			f.Add(unhex(f, g.hex))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkBody(t, typ, body) })
}

// checkBody proves that what the parser understood is written again to the same
// value, and that the value is no larger than its bytes allow.
func checkBody(t *testing.T, typ PayloadType, body []byte) {
	t.Helper()
	v, err := parse(typ, body)
	if err != nil {
		return
	}
	if n := elements(v); n > len(body) {
		t.Fatalf("%d elements in %d bytes", n, len(body))
	}
	again := appendBody(v)
	v2, err := parse(typ, again)
	if err != nil || !reflect.DeepEqual(v2, v) {
		t.Fatalf("%+v became %+v, %v", v, v2, err)
	}
	if len(again) > max(len(body), 1) {
		t.Fatalf("%d bytes became %d", len(body), len(again))
	}
}

// elements counts what a value holds in slices of its own.
func elements(v any) (n int) {
	switch v := v.(type) {
	case SA:
		for _, p := range v.Proposals {
			n++
			for _, t := range p.Transforms {
				n += 1 + len(t.Attributes)
			}
		}
	case Delete:
		n = len(v.SPIs)
	case Config:
		n = len(v.Attributes)
	}
	return n
}

// FuzzAttributes: lists of attributes come back byte for byte.
func FuzzAttributes(f *testing.F) {
	for _, g := range goldens {
		if c, ok := g.value.(Config); ok {
			f.Add(AppendAttributes(nil, c.Attributes))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		as, err := ParseAttributes(b)
		if err != nil {
			return
		}
		if len(as) > MaxAttributes {
			t.Fatalf("%d attributes", len(as))
		}
		if again := AppendAttributes(nil, as); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
