package isakmp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"testing"
)

// golden is a body, its value, and the lengths at which it may be cut. Unless
// said otherwise the bytes are recorded ones (testdata/recorded.txt).
type golden struct {
	name  string
	typ   PayloadType
	hex   string
	value any
	// legal tells which strict prefixes the grammar allows, because the body
	// ends in opaque data or in a list without a count; nil: none.
	legal func(n int) bool
}

func from(least int) func(int) bool { return func(n int) bool { return n >= least } }
func at(lengths ...int) func(int) bool {
	return func(n int) bool { return slices.Contains(lengths, n) }
}

var goldens = []golden{
	{
		name: "phase 1 SA: AES-256, SHA-256, modp2048, hybrid, 4 h",
		typ:  PayloadSA,
		hex:  "00000001000000010000002c01010001000000240101000080010007800e0100800200048004000e8003fadd800b0001800c3de0",
		value: SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{{
			Number: 1, Protocol: ProtoISAKMP, SPI: []byte{},
			Transforms: []Transform{{Number: 1, ID: TransformKeyIKE, Attributes: []Attribute{
				BasicAttribute(AttrEncryption, CipherAESCBC), BasicAttribute(AttrKeyLength, 256),
				BasicAttribute(AttrHash, HashSHA256), BasicAttribute(AttrGroup, GroupMODP2048),
				BasicAttribute(AttrAuthMethod, AuthHybridInitRSA),
				BasicAttribute(AttrLifeType, LifeSeconds), NumberAttribute(AttrLifeDuration, 15840),
			}}},
		}}},
	},
	{
		name: "phase 1 SA with a life duration of four bytes",
		typ:  PayloadSA,
		hex:  "00000001000000010000003001010001000000280101000080010007800e0100800200028004000e8003fadd800b0001000c00040020c49b",
		value: SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{{
			Number: 1, Protocol: ProtoISAKMP, SPI: []byte{},
			Transforms: []Transform{{Number: 1, ID: TransformKeyIKE, Attributes: []Attribute{
				BasicAttribute(AttrEncryption, CipherAESCBC), BasicAttribute(AttrKeyLength, 256),
				BasicAttribute(AttrHash, HashSHA1), BasicAttribute(AttrGroup, GroupMODP2048),
				BasicAttribute(AttrAuthMethod, AuthHybridInitRSA),
				BasicAttribute(AttrLifeType, LifeSeconds), NumberAttribute(AttrLifeDuration, 2147483),
			}}},
		}}},
	},
	{
		name: "phase 2 SA: AES-GCM-16 with 128 bits, UDP tunnel, 2 h",
		typ:  PayloadSA,
		hex:  "000000010000000100000024010304016e6cfc91000000180114000080060080800400038001000180021c20",
		value: SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{{
			Number: 1, Protocol: ProtoESP, SPI: []byte{0x6e, 0x6c, 0xfc, 0x91},
			Transforms: []Transform{{Number: 1, ID: ESPAESGCM16, Attributes: []Attribute{
				BasicAttribute(AttrESPKeyLength, 128), BasicAttribute(AttrESPEncapsulation, EncapUDPTunnel),
				BasicAttribute(AttrESPLifeType, LifeSeconds), BasicAttribute(AttrESPLifeDuration, 7200),
			}}},
		}}},
	},
	{
		// Made for this test: ESP and IPComp together or ESP alone (RFC 2408
		// §4.2.1), and two transforms.
		name: "two proposals of one number and one of another",
		typ:  PayloadSA,
		hex: "0000000100000001" +
			"0200002001030402" + "11223344" + "0300000c0114000080060100" + "00000008020b0000" +
			"0200001201040201" + "c0de" + "0000000801020000" +
			"0000001402030401" + "55667788" + "0000000801030000",
		value: SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{
			{Number: 1, Protocol: ProtoESP, SPI: []byte{0x11, 0x22, 0x33, 0x44}, Transforms: []Transform{
				{Number: 1, ID: ESPAESGCM16, Attributes: []Attribute{BasicAttribute(AttrESPKeyLength, 256)}},
				{Number: 2, ID: ESPNull},
			}},
			{Number: 1, Protocol: ProtoIPComp, SPI: []byte{0xc0, 0xde}, Transforms: []Transform{{Number: 1, ID: 2}}},
			{Number: 2, Protocol: ProtoESP, SPI: []byte{0x55, 0x66, 0x77, 0x88}, Transforms: []Transform{{Number: 1, ID: ESP3DES}}},
		}},
	},
	{
		name:  "ID: IPv4 address",
		typ:   PayloadID,
		hex:   "01000000c0a83202",
		value: ID{Type: IDIPv4Addr, Data: []byte{192, 168, 50, 2}},
		legal: from(4),
	},
	{
		name:  "ID: FQDN",
		typ:   PayloadID,
		hex:   "0200000067772e6c61622e74657374",
		value: ID{Type: IDFQDN, Data: []byte("gw.lab.test")},
		legal: from(4),
	},
	{
		name:  "ID: key ID on UDP port 500, by vpnc",
		typ:   PayloadID,
		hex:   "0b1101f46c616267726f7570",
		value: ID{Type: IDKeyID, Protocol: 17, Port: 500, Data: []byte("labgroup")},
		legal: from(4),
	},
	{
		name:  "ID: subnet",
		typ:   PayloadID,
		hex:   "040000000000000000000000",
		value: ID{Type: IDIPv4Subnet, Data: make([]byte, 8)},
		legal: from(4),
	},
	{
		name: "CERTREQ with the name of a CA",
		typ:  PayloadCertReq,
		hex:  "04301b310c300a060355040a13034c6162310b3009060355040313026361",
		value: Cert{Encoding: CertX509Sig, Data: []byte("\x30\x1b" +
			"\x31\x0c\x30\x0a\x06\x03\x55\x04\x0a\x13\x03Lab" + "\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x13\x02ca")},
		legal: from(1),
	},
	{
		// As draft-ietf-ipsec-isakmp-hybrid-auth-05 §5 describes it.
		name:  "empty CERT",
		typ:   PayloadCert,
		hex:   "04",
		value: Cert{Encoding: CertX509Sig, Data: []byte{}},
	},
	{
		name: "Notify INITIAL-CONTACT",
		typ:  PayloadNotify,
		hex:  "000000010110600247c4a28ccedda7a2db4c65ff28615096",
		value: Notify{
			DOI: DOIIPsec, Protocol: ProtoISAKMP, Type: NotifyInitialContact, Data: []byte{},
			SPI: []byte{0x47, 0xc4, 0xa2, 0x8c, 0xce, 0xdd, 0xa7, 0xa2, 0xdb, 0x4c, 0x65, 0xff, 0x28, 0x61, 0x50, 0x96},
		},
	},
	{
		name: "Notify R-U-THERE",
		typ:  PayloadNotify,
		hex:  "0000000101108d28938fcfb991ae5e9a775032e411c4cd2b5dba5ab2",
		value: Notify{
			DOI: DOIIPsec, Protocol: ProtoISAKMP, Type: NotifyRUThere, Data: []byte{0x5d, 0xba, 0x5a, 0xb2},
			SPI: []byte{0x93, 0x8f, 0xcf, 0xb9, 0x91, 0xae, 0x5e, 0x9a, 0x77, 0x50, 0x32, 0xe4, 0x11, 0xc4, 0xcd, 0x2b},
		},
		legal: from(24),
	},
	{
		// Made for this test; RFC 2408 §3.14 allows an SPI size of zero.
		name:  "Notify NO-PROPOSAL-CHOSEN without SPI",
		typ:   PayloadNotify,
		hex:   "000000010100000e",
		value: Notify{DOI: DOIIPsec, Protocol: ProtoISAKMP, Type: NotifyNoProposalChosen, SPI: []byte{}, Data: []byte{}},
	},
	{
		name:  "Delete of an ESP SA",
		typ:   PayloadDelete,
		hex:   "00000001030400016e6cfc91",
		value: Delete{DOI: DOIIPsec, Protocol: ProtoESP, SPISize: 4, SPIs: [][]byte{{0x6e, 0x6c, 0xfc, 0x91}}},
	},
	{
		name: "Delete of the ISAKMP SA",
		typ:  PayloadDelete,
		hex:  "000000010110000147c4a28ccedda7a2db4c65ff28615096",
		value: Delete{DOI: DOIIPsec, Protocol: ProtoISAKMP, SPISize: 16, SPIs: [][]byte{
			{0x47, 0xc4, 0xa2, 0x8c, 0xce, 0xdd, 0xa7, 0xa2, 0xdb, 0x4c, 0x65, 0xff, 0x28, 0x61, 0x50, 0x96},
		}},
	},
	{
		// Made for this test.
		name:  "Delete of two ESP SAs with DOI 0",
		typ:   PayloadDelete,
		hex:   "0000000003040002" + "11223344" + "55667788",
		value: Delete{Protocol: ProtoESP, SPISize: 4, SPIs: [][]byte{{0x11, 0x22, 0x33, 0x44}, {0x55, 0x66, 0x77, 0x88}}},
	},
	{
		// Made for this test.
		name:  "Delete of nothing",
		typ:   PayloadDelete,
		hex:   "0000000103040000",
		value: Delete{DOI: DOIIPsec, Protocol: ProtoESP, SPISize: 4},
	},
	{
		name: "XAUTH request",
		typ:  PayloadAttribute,
		hex:  "0100000040890000408a0000",
		value: Config{Type: ConfigRequest, Attributes: []Attribute{
			{Type: XAuthUserName, Value: []byte{}}, {Type: XAuthPassword, Value: []byte{}},
		}},
		legal: at(4, 8),
	},
	{
		name: "XAUTH reply",
		typ:  PayloadAttribute,
		hex:  "0200000040890005616c696365408a000a776f6e6465726c616e64",
		value: Config{Type: ConfigReply, Attributes: []Attribute{
			{Type: XAuthUserName, Value: []byte("alice")}, {Type: XAuthPassword, Value: []byte("wonderland")},
		}},
		legal: at(4, 13),
	},
	{
		name:  "XAUTH status",
		typ:   PayloadAttribute,
		hex:   "03000000c08f0001",
		value: Config{Type: ConfigSet, Attributes: []Attribute{BasicAttribute(XAuthStatus, XAuthOK)}},
		legal: at(4),
	},
	{
		// Behind the four bytes stands the first byte of an attribute number,
		// a zero, which at the very end counts as padding.
		name: "Mode-Config reply",
		typ:  PayloadAttribute,
		hex:  "02000000000100040a630101000300040a0a003500020004ffffff00",
		value: Config{Type: ConfigReply, Attributes: []Attribute{
			{Type: CfgIP4Address, Value: []byte{10, 99, 1, 1}},
			{Type: CfgIP4DNS, Value: []byte{10, 10, 0, 53}},
			{Type: CfgIP4Netmask, Value: []byte{255, 255, 255, 0}},
		}},
		legal: at(4, 5, 12, 13, 20, 21),
	},
	{
		// Made for this test: the first bytes of a message.
		name:  "fragment",
		typ:   PayloadFragment,
		hex:   "00010100" + "eafde7b63c",
		value: Fragment{ID: 1, Number: 1, Data: []byte{0xea, 0xfd, 0xe7, 0xb6, 0x3c}},
		legal: from(5),
	},
	{
		name:  "last fragment",
		typ:   PayloadFragment,
		hex:   "00010201" + "d3",
		value: Fragment{ID: 1, Number: 2, Last: true, Data: []byte{0xd3}},
	},
}

// reappend parses the body of a payload and writes it again; bodies without
// structure come back as they are.
func reappend(typ PayloadType, body []byte) ([]byte, error) {
	v, err := parse(typ, body)
	if err != nil {
		return nil, err
	}
	return appendBody(v), nil
}

// parse calls the parser of a payload type.
func parse(typ PayloadType, body []byte) (any, error) {
	switch typ {
	case PayloadSA:
		return ParseSA(body)
	case PayloadID:
		return ParseID(body)
	case PayloadCert, PayloadCertReq:
		return ParseCert(body)
	case PayloadNotify:
		return ParseNotify(body)
	case PayloadDelete:
		return ParseDelete(body)
	case PayloadAttribute:
		return ParseConfig(body)
	case PayloadFragment:
		return ParseFragment(body)
	}
	return body, nil
}

func appendBody(v any) []byte {
	switch v := v.(type) {
	case interface{ Append([]byte) []byte }:
		return v.Append(nil)
	default:
		return v.([]byte)
	}
}

func TestGolden(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			body := unhex(t, g.hex)
			got, err := parse(g.typ, body)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, g.value) {
				t.Errorf("parsed\n%#v\nwant\n%#v", got, g.value)
			}
			if got := appendBody(g.value); !bytes.Equal(got, body) {
				t.Errorf("appended\n%x\nwant\n%x", got, body)
			}
		})
	}
}

// TestGoldenPrefixes cuts every golden body at every byte. A cut is refused, or
// leaves a shorter body that is written again as it is.
func TestGoldenPrefixes(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			body := unhex(t, g.hex)
			for n := range body {
				if n == 0 && (g.typ == PayloadCert || g.typ == PayloadCertReq) {
					continue // TestEmptyCertificatePayload
				}
				got, err := reappend(g.typ, body[:n])
				switch legal := g.legal != nil && g.legal(n); {
				case !legal && !errors.Is(err, ErrMalformed):
					t.Errorf("%d of %d bytes: error %v", n, len(body), err)
				case legal && err != nil:
					t.Errorf("%d of %d bytes: %v", n, len(body), err)
				case legal && !bytes.Equal(got, withoutPadding(g.typ, body[:n])):
					t.Errorf("%d of %d bytes came back as %x", n, len(body), got)
				}
			}
		})
	}
}

// withoutPadding takes the zero off that a cut left at the end of a list of
// attributes.
func withoutPadding(typ PayloadType, body []byte) []byte {
	if typ == PayloadAttribute && len(body)%2 == 1 {
		return bytes.TrimSuffix(body, []byte{0})
	}
	return body
}

// TestTrailing puts bytes behind bodies that say themselves where they end.
func TestTrailing(t *testing.T) {
	for _, g := range goldens {
		if g.typ != PayloadSA && g.typ != PayloadDelete {
			continue
		}
		for _, tail := range []string{"\x00", "\x01", "\x00\x00\x00\x00", string(unhex(t, g.hex))} {
			if v, err := parse(g.typ, append(unhex(t, g.hex), tail...)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s with %x behind it: %v, %v", g.name, tail, v, err)
			}
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
