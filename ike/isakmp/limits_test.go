package isakmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestHeader(t *testing.T) {
	good := unhex(t, "0102030405060708"+"1112131415161718"+"05"+"10"+"02"+"07"+"deadbeef"+"0000001e"+"aabb")
	want := Header{
		CKYI: Cookie{1, 2, 3, 4, 5, 6, 7, 8}, CKYR: Cookie{0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18},
		NextPayload: PayloadID, Version: Version1, Exchange: MainMode,
		Flags: FlagEncrypted | FlagCommit | FlagAuthOnly, MessageID: 0xdeadbeef, Length: 30,
	}
	h, body, err := ParseHeader(good)
	if err != nil || h != want || !bytes.Equal(body, []byte{0xaa, 0xbb}) {
		t.Errorf("%+v, %x, %v", h, body, err)
	}
	if !h.Encrypted() || (&Header{Flags: FlagCommit}).Encrypted() {
		t.Error("Encrypted does not follow its flag")
	}
	if s := h.CKYI.String(); s != "0102030405060708" {
		t.Errorf("cookie %s", s)
	}
	if h.CKYI.IsZero() || !(Cookie{}).IsZero() {
		t.Error("IsZero")
	}

	for _, c := range []struct {
		name   string
		offset int
		bytes  string
		want   int // length of the body; -1: refused
	}{
		{"minor version 1", 17, "\x11", 2},
		{"IKEv2", 17, "\x20", -1},
		{"version 0", 17, "\x00", -1},
		{"length 0", 24, "\x00\x00\x00\x00", -1},
		{"length 27", 24, "\x00\x00\x00\x1b", -1},
		{"length 28", 24, "\x00\x00\x00\x1c", 0},
		{"length 29, one byte left over", 24, "\x00\x00\x00\x1d", 1},
		{"length 31", 24, "\x00\x00\x00\x1f", -1},
		{"length 2^31+30", 24, "\x80\x00\x00\x1e", -1},
		{"length 2^32-1", 24, "\xff\xff\xff\xff", -1},
	} {
		datagram := bytes.Clone(good)
		copy(datagram[c.offset:], c.bytes)
		_, body, err := ParseHeader(datagram)
		if c.want < 0 && !errors.Is(err, ErrMalformed) || c.want >= 0 && (err != nil || len(body) != c.want) {
			t.Errorf("%s: body of %d bytes, %v", c.name, len(body), err)
		}
	}
}

func TestPayloadChain(t *testing.T) {
	for _, c := range []struct {
		name  string
		first PayloadType
		hex   string
		types []PayloadType // nil: refused
		rest  int
	}{
		{"no payload", PayloadNone, "", []PayloadType{}, 0},
		{"no payload, but bytes", PayloadNone, "01020304", []PayloadType{}, 4},
		{"announced and absent", PayloadHash, "", nil, 0},
		{"empty body", PayloadHash, "00000004", []PayloadType{PayloadHash}, 0},
		{"unknown type", 200, "000000050a", []PayloadType{200}, 0},
		{"reserved byte not zero", PayloadHash, "00ff0004", []PayloadType{PayloadHash}, 0},
		{"padding behind", PayloadHash, "00000004" + "000000", []PayloadType{PayloadHash}, 3},
		{"padding that looks like a payload", PayloadHash, "00000004" + "0a000004", []PayloadType{PayloadHash}, 4},
		{"two", PayloadHash, "0a000005aa" + "00000004", []PayloadType{PayloadHash, PayloadNonce}, 0},
		{"second absent", PayloadHash, "0a000005aa", nil, 0},
		{"second truncated", PayloadHash, "0a000005aa" + "000000", nil, 0},
		{"length 0", PayloadHash, "00000000", nil, 0},
		{"length 3", PayloadHash, "00000003", nil, 0},
		{"length one too long", PayloadHash, "00000006aa", nil, 0},
		{"length 65535", PayloadHash, "0000ffffaa", nil, 0},
	} {
		ps, rest, err := ParsePayloads(c.first, unhex(t, c.hex))
		if c.types == nil {
			if !errors.Is(err, ErrMalformed) || ps != nil || rest != nil {
				t.Errorf("%s: %v, %x, %v", c.name, ps, rest, err)
			}
			continue
		}
		types := []PayloadType{}
		for _, p := range ps {
			types = append(types, p.Type)
		}
		if err != nil || !slices.Equal(types, c.types) || len(rest) != c.rest {
			t.Errorf("%s: %v, %x, %v", c.name, types, rest, err)
		}
	}
}

// TestRawIsWhatWasReceived: hashes run over Raw, so a reserved byte that is not
// zero must survive there.
func TestRawIsWhatWasReceived(t *testing.T) {
	b := unhex(t, "0a5a0006aabb"+"00a50005cc"+"0000")
	ps, _, err := ParsePayloads(PayloadHash, b)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Concat(ps[0].Raw, ps[1].Raw); !bytes.Equal(got, b[:11]) {
		t.Errorf("raw %x", got)
	}
	if !bytes.Equal(ps[0].Body, []byte{0xaa, 0xbb}) || !bytes.Equal(ps[1].Body, []byte{0xcc}) {
		t.Errorf("bodies %x %x", ps[0].Body, ps[1].Body)
	}
}

// TestAppendingToAResult: results alias the message, and appending to one must not
// write over its neighbour.
func TestAppendingToAResult(t *testing.T) {
	for _, r := range readRecorded(t) {
		b := append(bytes.Clone(r.bytes), 0xcc)
		h, body, err := ParseHeader(b[:len(r.bytes)])
		if err != nil {
			t.Fatal(err)
		}
		ps, _, err := ParsePayloads(h.NextPayload, body)
		if err != nil {
			t.Fatal(err)
		}
		spoil := func(b []byte) { _ = append(b, 0xee) }
		spoil(body)
		for _, p := range ps {
			spoil(p.Body)
			spoil(p.Raw)
			v, err := parse(p.Type, p.Body)
			if err != nil {
				t.Fatal(err)
			}
			switch v := v.(type) {
			case SA:
				for _, p := range v.Proposals {
					spoil(p.SPI)
					for _, tr := range p.Transforms {
						for _, a := range tr.Attributes {
							spoil(a.Value)
						}
					}
				}
			case Notify:
				spoil(v.SPI)
			case Delete:
				for _, spi := range v.SPIs {
					spoil(spi)
				}
			case Config:
				for _, a := range v.Attributes {
					spoil(a.Value)
				}
			}
		}
		if !bytes.Equal(b, append(r.bytes, 0xcc)) {
			t.Errorf("%s was changed", r.name)
		}
	}
}

func TestEmptyCertificatePayload(t *testing.T) {
	c, err := ParseCert(nil)
	if err != nil || c.Encoding != CertX509Sig || len(c.Data) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRefusedBodies(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  PayloadType
		hex  string
	}{
		{"SA of another DOI", PayloadSA, "0000000000000001" + "0000001001010001" + "0000000801010000"},
		{"SA of another situation", PayloadSA, "0000000100000002" + "0000001001010001" + "0000000801010000"},
		{"SA without a proposal", PayloadSA, "0000000100000001"},
		{"proposal without a transform", PayloadSA, "0000000100000001" + "0000000801010000"},
		{"a transform among the proposals", PayloadSA, "0000000100000001" + "0300001001010001" + "0000000801010000"},
		{"another proposal announced", PayloadSA, "0000000100000001" + "0200001001010001" + "0000000801010000"},
		{"a proposal more than announced", PayloadSA, "0000000100000001" + "0000001001010001" + "0000000801010000" + "0000001002010001" + "0000000801010000"},
		{"SPI longer than its proposal", PayloadSA, "0000000100000001" + "0000001001010901" + "0000000801010000"},
		{"fewer transforms than announced", PayloadSA, "0000000100000001" + "0000001001010002" + "0300000801010000"},
		{"more transforms than announced", PayloadSA, "0000000100000001" + "0000001801010001" + "0000000801010000" + "0000000801010000"},
		{"the last transform announces another", PayloadSA, "0000000100000001" + "0000001001010001" + "0300000801010000"},
		{"the first transform does not announce the second", PayloadSA, "0000000100000001" + "0000001801010002" + "0000000801010000" + "0000000801010000"},
		{"transform longer than its proposal", PayloadSA, "0000000100000001" + "0000001001010001" + "0000000901010000"},
		{"transform shorter than its header", PayloadSA, "0000000100000001" + "0000000f01010001" + "00000007010100"},
		{"attribute longer than its transform", PayloadSA, "0000000100000001" + "0000001401010001" + "0000000c01010000" + "000c0001"},
		{"half an attribute", PayloadSA, "0000000100000001" + "0000001201010001" + "0000000a01010000" + "8001"},
		{"one byte of an attribute", PayloadSA, "0000000100000001" + "0000001101010001" + "0000000901010000" + "80"},
		{"Notify whose SPI is cut", PayloadNotify, "00000001" + "0104000e" + "112233"},
		{"Delete of more SPIs than there are", PayloadDelete, "00000001" + "03040002" + "11223344"},
		{"Delete of fewer SPIs than there are", PayloadDelete, "00000001" + "03040001" + "1122334455667788"},
		{"Delete of SPIs without bytes", PayloadDelete, "00000001" + "0300ffff"},
		{"Delete of 65,535 SPIs of 255 bytes", PayloadDelete, "00000001" + "03ffffff" + "11"},
		{"fragment number 0", PayloadFragment, "0001" + "0000" + "aa"},
		{"fragment without data", PayloadFragment, "0001" + "0101"},
		{"attribute longer than its payload", PayloadAttribute, "02000000" + "000100050a630001"},
		{"attribute of 65,535 bytes", PayloadAttribute, "02000000" + "0001ffff0a630001"},
		{"padding that is not zero", PayloadAttribute, "02000000" + "000100040a630001" + "0001"},
		{"padding whose middle is not zero", PayloadAttribute, "02000000" + "000100040a630001" + "000100"},
		{"a value cut where it has zeros", PayloadAttribute, "02000000" + "0001000800000000000000"},
	} {
		if v, err := parse(c.typ, unhex(t, c.hex)); !errors.Is(err, ErrMalformed) || !reflect.ValueOf(v).IsZero() {
			t.Errorf("%s: %+v, %v", c.name, v, err)
		}
	}
}

// TestConfigPadding: Libreswan pads an Attribute payload to four bytes.
func TestConfigPadding(t *testing.T) {
	for _, list := range []string{"", "40890005616c696365", "c08f0001", "000100040a630001" + "40890000"} {
		plain := unhex(t, "0300beef"+list)
		want, err := ParseConfig(plain)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 4 {
			got, err := ParseConfig(append(bytes.Clone(plain), make([]byte, n)...))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s and %d zeros: %+v, %v", list, n, got, err)
			}
		}
		// Four zeros are an attribute: number 0, without a value.
		got, err := ParseConfig(append(bytes.Clone(plain), 0, 0, 0, 0))
		want.Attributes = append(want.Attributes, Attribute{Value: []byte{}})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s and four zeros: %+v, %v", list, got, err)
		}
	}
}

// TestLimits goes to each bound and one step beyond it.
func TestLimits(t *testing.T) {
	t.Run("payloads", func(t *testing.T) {
		for _, n := range []int{1, MaxPayloads, MaxPayloads + 1} {
			ps := slices.Repeat([]Payload{{Type: PayloadVendorID, Body: []byte{1}}}, n)
			got, _, err := ParsePayloads(PayloadVendorID, AppendPayloads(nil, ps...))
			if ok := n <= MaxPayloads; ok != (err == nil) || ok && len(got) != n {
				t.Errorf("%d payloads: %d, %v", n, len(got), err)
			}
		}
	})
	transform := Transform{Number: 1, ID: TransformKeyIKE}
	t.Run("proposals", func(t *testing.T) {
		for _, n := range []int{1, MaxProposals, MaxProposals + 1} {
			sa := SA{
				DOI: DOIIPsec, Situation: SituationIdentityOnly,
				Proposals: slices.Repeat([]Proposal{{Protocol: ProtoESP, Transforms: []Transform{transform}}}, n),
			}
			got, err := ParseSA(sa.Append(nil))
			if ok := n <= MaxProposals; ok != (err == nil) || ok && len(got.Proposals) != n {
				t.Errorf("%d proposals: %d, %v", n, len(got.Proposals), err)
			}
		}
	})
	t.Run("transforms", func(t *testing.T) {
		sa := SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{{
			SPI: make([]byte, 255), Transforms: slices.Repeat([]Transform{transform}, MaxTransforms),
		}}}
		got, err := ParseSA(sa.Append(nil))
		if err != nil || len(got.Proposals[0].Transforms) != MaxTransforms || len(got.Proposals[0].SPI) != 255 {
			t.Errorf("%v", err)
		}
	})
	t.Run("attributes", func(t *testing.T) {
		for _, n := range []int{0, 1, MaxAttributes, MaxAttributes + 1} {
			as := slices.Repeat([]Attribute{BasicAttribute(1, 2)}, n)
			got, err := ParseAttributes(AppendAttributes(nil, as))
			if ok := n <= MaxAttributes; ok != (err == nil) || ok && len(got) != n {
				t.Errorf("%d attributes: %d, %v", n, len(got), err)
			}
		}
	})
	t.Run("longest payload", func(t *testing.T) {
		long := bytes.Repeat([]byte{0xa5}, 65531)
		h := Header{Version: Version1, Exchange: MainMode}
		b := AppendMessage(nil, h, Payload{Type: PayloadKE, Body: long}, Payload{Type: PayloadNonce, Body: long})
		got, body, err := ParseHeader(b)
		if err != nil || got.Length != 28+2*65535 {
			t.Fatalf("length %d, %v", got.Length, err)
		}
		ps, rest, err := ParsePayloads(got.NextPayload, body)
		if err != nil || len(ps) != 2 || len(rest) != 0 || !bytes.Equal(ps[1].Body, long) {
			t.Errorf("%s, %d bytes left, %v", Describe(ps), len(rest), err)
		}
	})
	t.Run("longest attribute", func(t *testing.T) {
		as := []Attribute{{Type: 1, Value: make([]byte, 65535)}, {Type: 0x7fff, Value: []byte{}}}
		got, err := ParseAttributes(AppendAttributes(nil, as))
		if err != nil || !reflect.DeepEqual(got, as) {
			t.Errorf("%d attributes, %v", len(got), err)
		}
	})
	t.Run("opaque bodies of every extreme length", func(t *testing.T) {
		for _, n := range []int{0, 1, 65527} {
			data := make([]byte, n)
			for _, v := range []any{
				ID{Type: IDKeyID, Data: data},
				Cert{Encoding: CertCRL, Data: data},
				Notify{Type: NotifyConnected, SPI: make([]byte, 255), Data: data},
			} {
				typ := map[reflect.Type]PayloadType{
					reflect.TypeFor[ID](): PayloadID, reflect.TypeFor[Cert](): PayloadCert, reflect.TypeFor[Notify](): PayloadNotify,
				}[reflect.TypeOf(v)]
				if got, err := parse(typ, appendBody(v)); err != nil || !reflect.DeepEqual(got, v) {
					t.Errorf("%T with %d bytes: %v", v, n, err)
				}
			}
		}
	})
}

// TestNestedFragment: the payload of a fragment is not looked into, so a message in
// a message in a message costs nothing.
func TestNestedFragment(t *testing.T) {
	h := Header{Version: Version1, Exchange: MainMode}
	message := AppendMessage(nil, h, Payload{Type: PayloadHash, Body: []byte{1}})
	for range 100 {
		message = AppendMessage(nil, h, Payload{
			Type: PayloadFragment,
			Body: Fragment{ID: 1, Number: 1, Last: true, Data: message}.Append(nil),
		})
	}
	_, body, err := ParseHeader(message)
	if err != nil {
		t.Fatal(err)
	}
	ps, _, err := ParsePayloads(PayloadFragment, body)
	if err != nil || len(ps) != 1 {
		t.Fatalf("%d payloads, %v", len(ps), err)
	}
	f, err := ParseFragment(ps[0].Body)
	if err != nil || len(f.Data) != 28+4+1+99*(28+4+4) {
		t.Errorf("fragment of %d bytes, %v", len(f.Data), err)
	}
}

// TestAllocation holds parsers to memory in proportion to the bytes that are there,
// whatever the length fields say. The dearest value is an Attribute: 40 bytes, and
// as many again while its slice grows, for four on the wire.
func TestAllocation(t *testing.T) {
	const perByte, fixed = 40, 2048
	transforms := SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: slices.Repeat([]Proposal{{
		Transforms: slices.Repeat([]Transform{{}}, MaxTransforms),
	}}, 32)}.Append(nil)
	attributes := Config{Attributes: slices.Repeat([]Attribute{BasicAttribute(0, 0)}, MaxAttributes)}.Append(nil)
	for _, c := range []struct {
		name string
		typ  PayloadType
		body []byte
	}{
		{"Delete announcing much", PayloadDelete, unhex(t, "0000000103ffffff11")},
		{"Delete of one-byte SPIs", PayloadDelete, Delete{SPISize: 1, SPIs: slices.Repeat([][]byte{{1}}, 65523)}.Append(nil)},
		{"SA announcing much", PayloadSA, unhex(t, "0000000100000001"+"0200ffff0101ffff"+"0300ffff")},
		{"SA of transforms", PayloadSA, transforms},
		{"attributes", PayloadAttribute, attributes},
		{"attributes with zeros behind", PayloadAttribute, append(attributes, 0, 0, 0)},
		{"attributes, one too many", PayloadAttribute, append(attributes, 0, 0, 0, 0)},
		{"attribute announcing much", PayloadAttribute, unhex(t, "020000000001ffff")},
	} {
		// The least of some tries: the runtime allocates for itself as well.
		got, err := uint64(math.MaxUint64), error(nil)
		for range 5 {
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var v any
			v, err = parse(c.typ, c.body)
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(v)
			got = min(got, after.TotalAlloc-before.TotalAlloc)
		}
		// An attribute payload may be read once more for each byte of padding.
		limit := uint64(len(c.body)*perByte + fixed)
		if c.typ == PayloadAttribute {
			limit *= 1 + maxConfigPadding
		}
		if got > limit {
			t.Errorf("%s: %d bytes allocated for %d (%v)", c.name, got, len(c.body), err)
		}
	}
}

// TestPanics: what cannot be written is the caller's mistake.
func TestPanics(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"payload of 65,536 bytes", func() { AppendPayloads(nil, Payload{Body: make([]byte, 65532)}) }},
		{"Notify with an SPI of 256 bytes", func() { Notify{SPI: make([]byte, 256)}.Append(nil) }},
		{"Delete with an SPI of another size", func() { Delete{SPISize: 4, SPIs: [][]byte{{1}}}.Append(nil) }},
		{"Delete of 65,536 SPIs", func() { Delete{SPIs: make([][]byte, 65536)}.Append(nil) }},
		{"basic attribute of three bytes", func() { AppendAttributes(nil, []Attribute{{Basic: true, Value: make([]byte, 3)}}) }},
		{"attribute of 65,536 bytes", func() { AppendAttributes(nil, []Attribute{{Value: make([]byte, 65536)}}) }},
		{"proposal with an SPI of 256 bytes", func() { SA{Proposals: []Proposal{{SPI: make([]byte, 256)}}}.Append(nil) }},
		{"proposal of 256 transforms", func() { SA{Proposals: []Proposal{{Transforms: make([]Transform, 256)}}}.Append(nil) }},
	} {
		func() {
			defer func() {
				if s, ok := recover().(string); !ok || !strings.HasPrefix(s, "isakmp: ") {
					t.Errorf("%s: no panic of its own", c.name)
				}
			}()
			c.f()
		}()
	}
}

func TestAttributes(t *testing.T) {
	for _, c := range []struct {
		value uint32
		hex   string
	}{
		{0, "800c0000"},
		{28800, "800c7080"},
		{0xffff, "800cffff"},
		{0x10000, "000c000400010000"},
		{86400, "000c000400015180"},
		{0xffffffff, "000c0004ffffffff"},
	} {
		a := NumberAttribute(AttrLifeDuration, c.value)
		if got := AppendAttributes(nil, []Attribute{a}); !bytes.Equal(got, unhex(t, c.hex)) {
			t.Errorf("%d is written %x", c.value, got)
		}
		if v, ok := a.Uint(); !ok || v != uint64(c.value) {
			t.Errorf("%d is read %d, %v", c.value, v, ok)
		}
	}
	for _, n := range []int{0, 9, 65535} {
		if v, ok := (Attribute{Value: make([]byte, n)}).Uint(); ok {
			t.Errorf("%d bytes are read as %d", n, v)
		}
	}
	if v, ok := (Attribute{Value: bytes.Repeat([]byte{0xff}, 8)}).Uint(); !ok || v != 1<<64-1 {
		t.Errorf("eight bytes are read as %d, %v", v, ok)
	}

	as := []Attribute{BasicAttribute(1, 10), BasicAttribute(2, 20), BasicAttribute(1, 30)}
	if a, ok := Find(as, 1); !ok || binary.BigEndian.Uint16(a.Value) != 10 {
		t.Errorf("the first attribute 1: %v, %v", a, ok)
	}
	if a, ok := Find(as, 3); ok || a.Value != nil {
		t.Errorf("an absent attribute: %v, %v", a, ok)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{PayloadCertReq.String(), "CERTREQ"},
		{PayloadType(99).String(), "payload(99)"},
		{MainMode.String(), "ID_PROT"},
		{ExchangeType(34).String(), "exchange(34)"},
		{ProtoISAKMP.String(), "ISAKMP"},
		{ProtoAH.String(), "AH"},
		{ProtoESP.String(), "ESP"},
		{ProtoIPComp.String(), "IPCOMP"},
		{ProtocolID(9).String(), "protocol(9)"},
		{NotifyNoProposalChosen.String(), "NO_PROPOSAL_CHOSEN"},
		{NotifyType(40500).String(), "notify(40500)"},
		{ConfigRequest.String(), "REQUEST"},
		{ConfigReply.String(), "REPLY"},
		{ConfigSet.String(), "SET"},
		{ConfigAck.String(), "ACK"},
		{ConfigType(9).String(), "config(9)"},
		{Describe(nil), "[ ]"},
		{Describe([]Payload{{Type: PayloadHash}, {Type: PayloadNotify}, {
			Type: PayloadNotify,
			Body: Notify{Type: NotifyRUThere}.Append(nil),
		}}), "[ HASH N N(R_U_THERE) ]"},
		{FirstType(nil).String(), "payload(0)"},
		{FirstType([]Payload{{Type: PayloadSA}}).String(), "SA"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
	for typ, want := range map[NotifyType]bool{1: true, 30: true, 8191: true, 8192: true, 16383: true, 16384: false, 24578: false, 40501: false} {
		if typ.IsError() != want {
			t.Errorf("%v an error: %v", typ, !want)
		}
	}
}

// TestAppendLeavesNoCopies: a buffer that grew in steps would leave a password in
// each that was given up.
func TestAppendLeavesNoCopies(t *testing.T) {
	as := []Attribute{{Type: XAuthUserName, Value: make([]byte, 100)}, {Type: XAuthPassword, Value: make([]byte, 1000)}, BasicAttribute(XAuthType, 0)}
	ps := []Payload{{Type: PayloadHash, Body: make([]byte, 32)}, {Type: PayloadAttribute, Body: make([]byte, 1100)}, {Type: PayloadNotify}}
	for name, f := range map[string]func(){
		"attributes": func() { AppendAttributes(nil, as) },
		"payloads":   func() { AppendPayloads(nil, ps...) },
	} {
		if n := testing.AllocsPerRun(10, f); n > 2 { // with the race detector, Grow makes one of zeros beside
			t.Errorf("%s: %v buffers", name, n)
		}
	}
}
