package ike

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wayfarer/ike/isakmp"
)

// Trace shows more than debug: what is in each payload, but nothing that is secret.
func TestTrace(t *testing.T) {
	for level, lines := range map[slog.Level]int{slog.LevelDebug: 1, levelTrace: 2} {
		var out bytes.Buffer
		sa := &isakmpSA{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))}
		sa.clear(isakmp.Transaction,
			isakmp.Payload{Type: isakmp.PayloadAttribute, Body: isakmp.Config{Type: isakmp.ConfigReply, Identifier: 7, Attributes: []isakmp.Attribute{
				{Type: isakmp.XAuthUserName, Value: []byte("ada")}, {Type: isakmp.XAuthPassword, Value: []byte("lovelace")},
			}}.Append(nil)},
			isakmp.Payload{Type: isakmp.PayloadNonce, Body: []byte("lovelace")},
			isakmp.Payload{Type: isakmp.PayloadVendorID, Body: []byte{0xca, 0xfe}})
		text := out.String()
		if got := strings.Count(text, "\n"); got != lines {
			t.Errorf("%v: %d lines, want %d:\n%s", level, got, lines, text)
		}
		want := `msg="sent message" exchange=TRANSACTION mid=00000000 encrypted=false ` +
			`payload_01="ATTR REPLY 7: XAUTH_USER_NAME [secret], XAUTH_USER_PASSWORD [secret]" payload_02="No 8 bytes" payload_03="V cafe"`
		if shown := strings.Contains(text, want); shown != (level == levelTrace) {
			t.Errorf("%v: got\n%s", level, text)
		}
		for _, secret := range []string{"lovelace", "6c6f76656c616365", "ada", "616461"} {
			if strings.Contains(text, secret) {
				t.Errorf("%v: %s is shown:\n%s", level, secret, text)
			}
		}
	}
}

// A message of more payloads than a record may have attributes.
func TestTraceIsBounded(t *testing.T) {
	var out bytes.Buffer
	sa := &isakmpSA{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: levelTrace}))}
	sa.clear(isakmp.MainMode, slices.Repeat([]isakmp.Payload{{Type: isakmp.PayloadNonce, Body: make([]byte, 20)}}, 40)...)
	if text := out.String(); !strings.Contains(text, `payload_26="No 20 bytes" more_payloads=14`) || strings.Contains(text, "payload_27") {
		t.Errorf("got\n%s", text)
	}
}

// Probes come for as long as a session lives.
func TestTraceLeavesProbesOut(t *testing.T) {
	var out bytes.Buffer
	sa := &isakmpSA{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: levelTrace}))}
	for _, typ := range []isakmp.NotifyType{isakmp.NotifyRUThere, isakmp.NotifyRUThereAck} {
		n := isakmp.Notify{Protocol: isakmp.ProtoISAKMP, Type: typ}
		sa.trace(traceSent, isakmp.Informational, 1, true, []isakmp.Payload{
			{Type: isakmp.PayloadHash}, {Type: isakmp.PayloadNotify, Body: n.Append(nil)},
		})
	}
	if out.Len() > 0 {
		t.Errorf("got\n%s", out.String())
	}
	sa.trace(traceSent, isakmp.Informational, 1, true, []isakmp.Payload{{Type: isakmp.PayloadNotify, Body: []byte("short")}})
	if out.Len() == 0 {
		t.Error("another message is left out")
	}
}

func TestDescribe(t *testing.T) {
	tlv := func(typ uint16, value string) isakmp.Attribute {
		return isakmp.Attribute{Type: typ, Value: []byte(value)}
	}
	config := func(typ isakmp.ConfigType, as ...isakmp.Attribute) []byte {
		return isakmp.Config{Type: typ, Identifier: 9, Attributes: as}.Append(nil)
	}
	phase1 := func(as ...isakmp.Attribute) []byte {
		return isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{{
			Number: 1, Protocol: isakmp.ProtoISAKMP, Transforms: []isakmp.Transform{{ID: isakmp.TransformKeyIKE, Attributes: as}},
		}}}.Append(nil)
	}
	tv := isakmp.BasicAttribute
	esp := isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{{
		Number: 1, Protocol: isakmp.ProtoESP, SPI: []byte{0xde, 0xad, 0xbe, 0xef}, Transforms: []isakmp.Transform{
			{Number: 1, ID: isakmp.ESPAESGCM16, Attributes: []isakmp.Attribute{
				tv(isakmp.AttrESPKeyLength, 256), tv(isakmp.AttrESPEncapsulation, isakmp.EncapUDPTunnel),
				tv(isakmp.AttrESPLifeType, isakmp.LifeSeconds), tv(isakmp.AttrESPLifeDuration, 3600),
				tv(isakmp.AttrESPLifeType, isakmp.LifeKilobytes), tv(isakmp.AttrESPLifeDuration, 5000),
			}},
			{Number: 2, ID: isakmp.ESPAESCBC, Attributes: []isakmp.Attribute{
				tv(isakmp.AttrESPKeyLength, 128), tv(isakmp.AttrESPAuth, isakmp.ESPAuthSHA1), tv(isakmp.AttrESPGroup, isakmp.GroupMODP2048), tv(isakmp.AttrESPEncapsulation, 9),
			}},
		},
	}, {Number: 2, Protocol: isakmp.ProtoIPComp, SPI: []byte{0, 2}, Transforms: []isakmp.Transform{{ID: isakmp.IPCompDeflate}}}}}.Append(nil)
	for _, tt := range []struct {
		typ  isakmp.PayloadType
		body []byte
		want string
	}{
		{isakmp.PayloadKE, make([]byte, 256), "KE 256 bytes"},
		{isakmp.PayloadHash, []byte("secret"), "HASH 6 bytes"},
		{isakmp.PayloadNATD, make([]byte, 20), "NAT-D 20 bytes"},
		{200, []byte("secret"), "payload(200) 6 bytes"},
		{isakmp.PayloadSA, phase1(
			tv(isakmp.AttrEncryption, isakmp.CipherAESCBC), tv(isakmp.AttrKeyLength, 256), tv(isakmp.AttrHash, isakmp.HashSHA256),
			tv(isakmp.AttrGroup, isakmp.GroupMODP2048), tv(isakmp.AttrAuthMethod, isakmp.AuthHybridInitRSA),
			tv(isakmp.AttrLifeType, isakmp.LifeSeconds), isakmp.NumberAttribute(isakmp.AttrLifeDuration, 86400),
		), "SA proposal 1 ISAKMP: aes256-sha256-modp2048 hybrid-rsa 86400 s"},
		{isakmp.PayloadSA, phase1(
			tv(isakmp.AttrEncryption, 99), tv(isakmp.AttrKeyLength, 7), tv(isakmp.AttrHash, 98), tv(isakmp.AttrGroup, 97), tv(isakmp.AttrAuthMethod, 96),
		), "SA proposal 1 ISAKMP: cipher(99)/7-hash(98)-group(97) method 96"},
		{isakmp.PayloadSA, esp, "SA proposal 1 ESP SPI deadbeef: aes256gcm16 udp-tunnel 3600 s 5000 kB, aes128-sha1-modp2048 mode 9; proposal 2 IPCOMP SPI 0002: transform 2"},
		{isakmp.PayloadSA, []byte("short"), "SA 5 bytes"},
		{isakmp.PayloadID, isakmp.ID{Type: isakmp.IDFQDN, Protocol: 17, Port: 500, Data: []byte("a.ex\x1bample")}.Append(nil), "ID FQDN a.example protocol 17 port 500"},
		{isakmp.PayloadID, isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: []byte{10, 0, 0, 0, 255, 0, 0, 0}}.Append(nil), "ID IPV4_ADDR_SUBNET 10.0.0.0/8"},
		{isakmp.PayloadID, []byte("x"), "ID 1 bytes"},
		{isakmp.PayloadCert, isakmp.Cert{Encoding: isakmp.CertX509Sig, Data: []byte("none")}.Append(nil), "CERT X.509 4 bytes"},
		{isakmp.PayloadCertReq, isakmp.Cert{Encoding: 77}.Append(nil), "CERTREQ encoding(77) 0 bytes"},
		{isakmp.PayloadNotify, isakmp.Notify{Protocol: isakmp.ProtoISAKMP, Type: isakmp.NotifyNoProposalChosen, Data: []byte{1, 2}}.Append(nil), "N ISAKMP NO_PROPOSAL_CHOSEN 0102"},
		{isakmp.PayloadNotify, isakmp.Notify{Protocol: isakmp.ProtoESP, Type: isakmp.NotifyResponderLifetime, Data: isakmp.AppendAttributes(nil, []isakmp.Attribute{
			tv(isakmp.AttrESPLifeType, isakmp.LifeSeconds), tv(isakmp.AttrESPLifeDuration, 600),
		})}.Append(nil), "N ESP RESPONDER_LIFETIME 600 s"},
		{isakmp.PayloadDelete, isakmp.Delete{Protocol: isakmp.ProtoESP, SPISize: 4, SPIs: [][]byte{{1, 2, 3, 4}, {5, 6, 7, 8}}}.Append(nil), "D ESP 01020304 05060708"},
		{isakmp.PayloadVendorID, unhex("4a131c81070358455c5728f20e95452f"), "V NAT-T (RFC 3947)"},
		{isakmp.PayloadVendorID, make([]byte, 33), "V " + strings.Repeat("00", 32) + "…"},
		{isakmp.PayloadAttribute, config(isakmp.ConfigRequest, tlv(isakmp.CfgIP4Address, ""), tlv(isakmp.UnityBanner, "")), "ATTR REQUEST 9: INTERNAL_IP4_ADDRESS, UNITY_BANNER"},
		{isakmp.PayloadAttribute, config(isakmp.ConfigReply,
			tlv(isakmp.CfgIP4Address, "\x0a\x01\x02\x03"), tlv(isakmp.CfgIP4Subnet, "\x0a\x00\x00\x00\xff\x00\x00\x00"), tlv(isakmp.CfgIP6Address, "\xfd"+strings.Repeat("\x00", 15)+"\x40"),
			tlv(isakmp.UnityBanner, "Hello,\n\u202eyou"), tlv(isakmp.UnitySplitInclude, "\x0a\x09\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"),
			tv(isakmp.UnitySavePassword, 1), tlv(isakmp.CfgIP4DNS, "odd"), tlv(isakmp.UnityLocalLAN, "odd"), tlv(30000, "secret"),
		), `ATTR REPLY 9: INTERNAL_IP4_ADDRESS 10.1.2.3, INTERNAL_IP4_SUBNET 10.0.0.0/8, INTERNAL_IP6_ADDRESS fd00::/64, UNITY_BANNER "Hello,you", ` +
			`UNITY_SPLIT_INCLUDE 10.9.0.0/16, UNITY_SAVE_PASSWD 1, INTERNAL_IP4_DNS 3 bytes, UNITY_LOCAL_LAN 3 bytes, attribute(30000) 6 bytes`},
		{isakmp.PayloadAttribute, config(isakmp.ConfigRequest,
			tv(isakmp.XAuthType, 0), tlv(isakmp.XAuthMessage, "Enter \"PIN\""), tlv(isakmp.XAuthPasscode, "4711"), tlv(isakmp.XAuthNextPIN, "4711"),
			tlv(isakmp.XAuthAnswer, "4711"), tlv(isakmp.XAuthChallenge, "4711"), tv(isakmp.XAuthStatus, 1),
		), `ATTR REQUEST 9: XAUTH_TYPE 0, XAUTH_MESSAGE "Enter \"PIN\"", XAUTH_PASSCODE [secret], XAUTH_NEXT_PIN [secret], ` +
			`XAUTH_ANSWER [secret], XAUTH_CHALLENGE 4 bytes, XAUTH_STATUS 1`},
		{isakmp.PayloadAttribute, []byte{1}, "ATTR 1 bytes"},
	} {
		if got := describe(isakmp.Payload{Type: tt.typ, Body: tt.body}); got != tt.want {
			t.Errorf("%v %x: got\n%s\nwant\n%s", tt.typ, tt.body, got, tt.want)
		}
	}
}

// Whatever a stranger sends becomes one short line without control characters.
func FuzzDescribe(f *testing.F) {
	f.Add(uint8(isakmp.PayloadSA), []byte{0, 0, 0, 1, 0, 0, 0, 1})
	f.Add(uint8(isakmp.PayloadAttribute), isakmp.Config{Type: isakmp.ConfigReply, Attributes: []isakmp.Attribute{{Type: isakmp.UnityBanner, Value: []byte("\x1b\n")}}}.Append(nil))
	f.Add(uint8(isakmp.PayloadID), []byte{2, 0, 0, 0, 0x1b, '\n'})
	f.Add(uint8(isakmp.PayloadCert), []byte{4, 0x30, 0})
	controls := regexp.MustCompile(`[[:cntrl:]]`)
	f.Fuzz(func(t *testing.T, typ uint8, body []byte) {
		text := describe(isakmp.Payload{Type: isakmp.PayloadType(typ), Body: body})
		if len(text) > maxDescribed+8 || controls.MatchString(text) {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	})
}

// The trace of a session tells who said what, and no password.
func TestTraceOfASession(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.dial()
		text := w.logText()
		at := 0
		for _, want := range []string{
			`msg="sent message" exchange=ID_PROT mid=00000000 encrypted=false payload_01="SA proposal 1 ISAKMP: aes256-sha256-ecp256 hybrid-rsa `,
			`msg="received message" exchange=ID_PROT mid=00000000 encrypted=false payload_01="SA proposal 1 ISAKMP: aes256-sha256-ecp256 hybrid-rsa `,
			`payload_01="KE 64 bytes" payload_02="No `,
			`exchange=ID_PROT mid=00000000 encrypted=true payload_01="ID `,
			`payload_02="CERT X.509 `,
			`payload_02="ATTR REQUEST `,
			`XAUTH_USER_NAME [secret], XAUTH_USER_PASSWORD [secret]`,
			`INTERNAL_IP4_ADDRESS 10.`,
			`msg="sent message" exchange=QUICK_MODE`,
			`encrypted=true payload_01="HASH `,
		} {
			i := strings.Index(text[at:], want)
			if i < 0 {
				t.Fatalf("%s does not come then:\n%s", want, text)
			}
			at += i
		}
		for _, secret := range []string{testPassword} {
			for _, form := range []string{secret, hex.EncodeToString([]byte(secret))} {
				if strings.Contains(text, form) {
					t.Errorf("%s is in the log", form)
				}
			}
		}
	})
}
