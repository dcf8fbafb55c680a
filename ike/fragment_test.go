package ike

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"wayfarer/ike/isakmp"
)

// fragmentStep is one fragment that comes, and what follows from it.
type fragmentStep struct {
	number uint8
	last   bool
	data   string
	after  time.Duration // since the fragment before
	whole  string        // the message that it completes
	fails  bool
}

// TestReassembly: fragments come in any order, twice, late, or contradict each other.
func TestReassembly(t *testing.T) {
	big := strings.Repeat("x", maxReassembled/2)
	for _, tt := range []struct {
		name  string
		steps []fragmentStep
	}{
		{"in order", []fragmentStep{{number: 1, data: "a"}, {number: 2, data: "b"}, {number: 3, last: true, data: "c", whole: "abc"}}},
		{"backwards", []fragmentStep{{number: 3, last: true, data: "c"}, {number: 2, data: "b"}, {number: 1, data: "a", whole: "abc"}}},
		{"the last in the middle", []fragmentStep{{number: 1, data: "a"}, {number: 3, last: true, data: "c"}, {number: 2, data: "b", whole: "abc"}}},
		{"only one", []fragmentStep{{number: 1, last: true, data: "a", whole: "a"}}},
		{"twice the same", []fragmentStep{
			{number: 1, data: "a"},
			{number: 1, data: "a"},
			{number: 3, last: true, data: "c"},
			{number: 3, last: true, data: "c"},
			{number: 2, data: "b", whole: "abc"},
		}},
		{"two messages, one after the other", []fragmentStep{
			{number: 1, data: "a"},
			{number: 2, last: true, data: "b", whole: "ab"},
			{number: 1, data: "a"},
			{number: 2, last: true, data: "b", whole: "ab"},
		}},
		{"another message begins", []fragmentStep{
			{number: 1, data: "a"}, {number: 2, data: "b"}, {number: 1, data: "A"}, {number: 2, last: true, data: "B", whole: "AB"},
		}},
		{"another message with another end", []fragmentStep{
			{number: 2, last: true, data: "b"}, {number: 2, data: "b"}, {number: 1, data: "a"}, {number: 3, last: true, data: "c", whole: "abc"},
		}},
		{"behind the last", []fragmentStep{
			{number: 2, last: true, data: "b"},
			{number: 3, data: "c", fails: true},
			{number: 1, data: "a"},
			{number: 2, last: true, data: "b", whole: "ab"},
		}},
		{"two that are the last", []fragmentStep{
			{number: 3, last: true, data: "c"},
			{number: 2, last: true, data: "b", fails: true},
			{number: 1, data: "a"},
			{number: 2, last: true, data: "b", whole: "ab"},
		}},
		{"the last before another", []fragmentStep{
			{number: 3, data: "c"},
			{number: 2, last: true, data: "b"},
			{number: 1, data: "a", fails: true},
			{number: 1, data: "a"},
			{number: 2, last: true, data: "b", whole: "ab"},
		}},
		{"the greatest number", func() (steps []fragmentStep) {
			for n := uint8(1); n < maxFragments; n++ {
				steps = append(steps, fragmentStep{number: n, data: "a"})
			}
			return append(steps, fragmentStep{number: maxFragments, last: true, data: "a", whole: strings.Repeat("a", maxFragments)})
		}()},
		{"too great a number", []fragmentStep{
			{number: 1, data: "a"},
			{number: maxFragments + 1, last: true, data: "b", fails: true},
			{number: 255, data: "b", fails: true},
			{number: 2, last: true, data: "b", whole: "ab"},
		}},
		{"as late as allowed", []fragmentStep{
			{number: 1, data: "a"}, {number: 2, data: "b", after: 8 * time.Second}, {number: 3, last: true, data: "c", after: 7 * time.Second, whole: "abc"},
		}},
		{"too late", []fragmentStep{
			{number: 1, data: "a"}, {number: 2, last: true, data: "b", after: fragmentLifetime + 1}, {number: 1, data: "a", whole: "ab"},
		}},
		{"as much as allowed", []fragmentStep{{number: 1, data: big}, {number: 2, last: true, data: big, whole: big + big}}},
		{"too much", []fragmentStep{
			{number: 1, data: big},
			{number: 2, data: big},
			{number: 3, data: "c", fails: true},
			{number: 3, last: true, data: "c"},
			{number: 2, data: "b"},
			{number: 1, data: "a", whole: "abc"},
		}},
		{"too much, without the first", []fragmentStep{{number: 2, data: big}, {number: 3, data: big}, {number: 4, data: "c", fails: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r reassembly
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for i, s := range tt.steps {
				now = now.Add(s.after)
				data := []byte(s.data)
				whole, err := r.add(isakmp.Fragment{ID: 1, Number: s.number, Last: s.last, Data: data}, now)
				clear(data) // the socket's buffer is used again
				if string(whole) != s.whole || (err != nil) != s.fails {
					t.Errorf("fragment %d of the test: %d bytes, %v", i, len(whole), err)
				}
			}
		})
	}
}

// TestSplitMessage: what is split fits its datagrams and comes together again,
// whatever the order.
func TestSplitMessage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const room = maxFragmentDatagram - nonESPMarkerLen - isakmp.HeaderLen - fragmentHeaderLen
	for _, n := range []int{1, isakmp.HeaderLen, room - 1, room, room + 1, 2 * room, 2*room + 1, 1233, 3000, maxFragments * room} {
		msg := make([]byte, n)
		for i := range msg {
			msg[i] = byte(rng.Uint32())
		}
		h := isakmp.Header{
			CKYI: isakmp.Cookie{1}, CKYR: isakmp.Cookie{2}, Version: isakmp.Version1,
			Exchange: isakmp.QuickMode, Flags: isakmp.FlagEncrypted, MessageID: 42,
		}
		datagrams := splitMessage(msg, h, maxFragmentDatagram)
		if want := (n + room - 1) / room; len(datagrams) != want {
			t.Errorf("%d bytes in %d datagrams, want %d", n, len(datagrams), want)
		}
		for range 10 {
			var r reassembly
			var whole []byte
			for i, d := range datagrams {
				outer, body, err := isakmp.ParseHeader(d)
				if err != nil || len(d)+nonESPMarkerLen > maxFragmentDatagram {
					t.Fatalf("%d bytes, datagram %d of %d: %v", n, i, len(d), err)
				}
				if outer.CKYI != h.CKYI || outer.CKYR != h.CKYR || outer.Exchange != isakmp.MainMode || outer.MessageID != 0 || outer.Encrypted() {
					t.Errorf("outer header %+v", outer)
				}
				ps, rest, err := isakmp.ParsePayloads(outer.NextPayload, body)
				if err != nil || len(ps) != 1 || len(rest) != 0 || ps[0].Type != isakmp.PayloadFragment {
					t.Fatalf("payloads %s, %v", isakmp.Describe(ps), err)
				}
				f, err := isakmp.ParseFragment(ps[0].Body)
				if err != nil || f.ID != 1 {
					t.Fatalf("fragment %+v: %v", f, err)
				}
				if whole != nil {
					t.Errorf("%d bytes: complete before the last came", n)
				}
				if whole, err = r.add(f, time.Time{}); err != nil {
					t.Errorf("%d bytes: %v", n, err)
				}
			}
			if !bytes.Equal(whole, msg) {
				t.Errorf("%d bytes do not come together again", n)
			}
			rng.Shuffle(len(datagrams), func(i, j int) { datagrams[i], datagrams[j] = datagrams[j], datagrams[i] })
		}
	}
	h := isakmp.Header{Version: isakmp.Version1, Exchange: isakmp.AggressiveMode}
	if outer, _, err := isakmp.ParseHeader(splitMessage([]byte("x"), h, maxFragmentDatagram)[0]); err != nil || outer.Exchange != isakmp.AggressiveMode {
		t.Errorf("Aggressive Mode in %+v, %v", outer, err)
	}
}

// TestReassembledMessage: the whole message must be what its fragments said it is.
func TestReassembledMessage(t *testing.T) {
	h := isakmp.Header{CKYI: isakmp.Cookie{1}, CKYR: isakmp.Cookie{2}, Version: isakmp.Version1, Exchange: isakmp.MainMode}
	nonce := isakmp.Payload{Type: isakmp.PayloadNonce, Body: make([]byte, 600)}
	good := isakmp.AppendMessage(nil, h, nonce)
	change := func(edit func(b []byte) []byte) []byte { return edit(bytes.Clone(good)) }
	otherCookies := h
	otherCookies.CKYR = isakmp.Cookie{3}
	otherOurs := h
	otherOurs.CKYI = isakmp.Cookie{3}

	for _, tt := range []struct {
		name string
		msg  []byte
		ok   bool
	}{
		{"good", good, true},
		{"other CKY-R", isakmp.AppendMessage(nil, otherCookies, nonce), false},
		{"other CKY-I", isakmp.AppendMessage(nil, otherOurs, nonce), false},
		{"bytes behind", append(bytes.Clone(good), 0), false},
		{"bytes missing", good[:len(good)-1], false},
		{"shorter by its header", change(func(b []byte) []byte { b[27]--; return b }), false},
		{"no header", good[:isakmp.HeaderLen-1], false},
		{"length of zero", change(func(b []byte) []byte { clear(b[24:28]); return b }), false},
		{"version 2", change(func(b []byte) []byte { b[17] = 0x20; return b }), false},
		{"fragments in fragments", splitMessage(good, h, 1200)[0], false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sa := newRecordedSA()
			sa.ckyI = h.CKYI // as in Aggressive Mode, where CKY-R comes with the message
			for i, d := range splitMessage(tt.msg, h, 300) {
				m, err := sa.decode(d)
				last := (i+1)*(300-nonESPMarkerLen-isakmp.HeaderLen-fragmentHeaderLen) >= len(tt.msg)
				switch {
				case !last && (m != nil || err != nil):
					t.Errorf("fragment %d: %v, %v", i, m, err)
				case last && tt.ok && (err != nil || !bytes.Equal(m.raw, good)):
					t.Errorf("refused: %v", err)
				case last && !tt.ok && err == nil:
					t.Errorf("accepted %v", m)
				}
			}
		})
	}
}

// TestBadFragments: what is no fragment is refused without a trace (CVE-2009-1574:
// without data; CVE-2016-1287: a length that underflows).
func TestBadFragments(t *testing.T) {
	h := isakmp.Header{
		CKYI: isakmp.Cookie{1}, CKYR: isakmp.Cookie{2}, NextPayload: isakmp.PayloadFragment, Version: isakmp.Version1, Exchange: isakmp.MainMode,
	}
	for _, body := range []string{
		"", "00", "0000 00", // no generic header
		"0000 0000", "0000 0003", // shorter than itself
		"0000 0004", "0000 0005 00", "0000 0007 000101", // no fragment header
		"0000 0008 00010101",    // no data
		"0000 0009 00010001 61", // number 0
		"0000 000a 00010101 61", // longer than the datagram
		"0000 ffff 00010101 61",
		"8400 0009 00010101 61 0000 0004", // a second one without anything
	} {
		t.Run(body, func(t *testing.T) {
			sa := newRecordedSA()
			sa.ckyI, sa.ckyR = h.CKYI, h.CKYR
			b := unhex(strings.ReplaceAll(body, " ", ""))
			outer := h
			outer.Length = uint32(isakmp.HeaderLen + len(b))
			if m, err := sa.decode(append(outer.Append(nil), b...)); err == nil {
				t.Errorf("accepted: %v", m)
			}
			if sa.fragments.last != 0 || slices.ContainsFunc(sa.fragments.parts[:], func(p []byte) bool { return p != nil }) {
				t.Error("a part of it was kept")
			}
		})
	}
}

// FuzzReassembly sends fragments, one in four bytes: number, last, size, gap.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{1, 0, 1, 0, 2, 1, 1, 0})
	f.Add([]byte{2, 1, 255, 0, 1, 0, 255, 9, 3, 0, 0, 0, 2, 0, 255, 16})
	f.Fuzz(func(t *testing.T, script []byte) {
		var r reassembly
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for s := range slices.Chunk(script, 4) {
			if len(s) < 4 || s[0] == 0 {
				return
			}
			now = now.Add(time.Duration(s[3]) * time.Second)
			whole, err := r.add(isakmp.Fragment{Number: s[0], Last: s[1]&1 != 0, Data: make([]byte, 1+16*int(s[2]))}, now)
			kept := 0
			for _, p := range r.parts {
				kept += len(p)
			}
			if kept > maxReassembled || len(whole) > maxReassembled || whole != nil && (err != nil || kept != 0) {
				t.Fatalf("kept %d bytes, returned %d, %v", kept, len(whole), err)
			}
		}
		// Whatever came before, a message that is sent whole comes together.
		now = now.Add(fragmentLifetime + 1)
		for i, part := range []string{"a", "b", "c"} {
			whole, err := r.add(isakmp.Fragment{Number: uint8(i + 1), Last: i == 2, Data: []byte(part)}, now)
			if err != nil || (i == 2) != (string(whole) == "abc") {
				t.Fatalf("part %d: %q, %v", i, whole, err)
			}
		}
	})
}
