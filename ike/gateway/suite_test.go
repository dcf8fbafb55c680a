package gateway

import (
	"slices"
	"testing"

	"wayfarer/ike/isakmp"
)

// TestIKETransform: a transform that lacks any of its attributes, or has one twice,
// stands for no suite, whatever the tables have for phase 2 only.
func TestIKETransform(t *testing.T) {
	whole := []isakmp.Attribute{
		isakmp.BasicAttribute(isakmp.AttrEncryption, isakmp.CipherAESCBC), isakmp.BasicAttribute(isakmp.AttrKeyLength, 256),
		isakmp.BasicAttribute(isakmp.AttrHash, isakmp.HashSHA256), isakmp.BasicAttribute(isakmp.AttrGroup, isakmp.GroupMODP2048),
	}
	read := func(as []isakmp.Attribute) (string, bool) {
		s, _, ok := ikeTransform(isakmp.Transform{ID: isakmp.TransformKeyIKE, Attributes: as})
		if !ok {
			return "", false
		}
		return s.String(), true
	}
	if got, ok := read(whole); !ok || got != "aes256-sha256-modp2048" {
		t.Fatalf("read as %q, %v", got, ok)
	}
	for i := range whole {
		if got, ok := read(slices.Delete(slices.Clone(whole), i, i+1)); ok {
			t.Errorf("without attribute %d it is read as %s", whole[i].Type, got)
		}
		if got, ok := read(append(slices.Clone(whole), whole[i])); ok {
			t.Errorf("with attribute %d twice it is read as %s", whole[i].Type, got)
		}
	}
}

// TestESPTransform: integrity exactly once (RFC 4106 §8.4), and the right key lengths.
func TestESPTransform(t *testing.T) {
	for _, tt := range []struct {
		id   uint8
		bits uint16 // 0: no attribute
		auth uint16 // 0: no attribute
		want string // empty: none
	}{
		{isakmp.ESPAESGCM8, 128, 0, "aes128gcm8"},
		{isakmp.ESPAESGCM12, 192, 0, "aes192gcm12"},
		{isakmp.ESPAESGCM16, 256, 0, "aes256gcm16"},
		{isakmp.ESPAESCTR, 256, isakmp.ESPAuthAESXCBC, "aes256ctr-aesxcbc"},
		{isakmp.ESPAESCBC, 128, isakmp.ESPAuthSHA256, "aes128-sha256"}, // never sha256_96
		{isakmp.ESP3DES, 0, isakmp.ESPAuthSHA1, "3des-sha1"},
		{isakmp.ESPAESGCM8, 128, isakmp.ESPAuthSHA1, ""},
		{isakmp.ESPAESGCM12, 0, 0, ""},
		{isakmp.ESPAESCTR, 128, 0, ""},
		{isakmp.ESPAESCTR, 160, isakmp.ESPAuthSHA1, ""},
		{isakmp.ESPAESCTR, 128, 8, ""},
		{isakmp.ESP3DES, 192, isakmp.ESPAuthSHA1, ""},
		{isakmp.ESPNull, 0, isakmp.ESPAuthSHA1, ""},
	} {
		var as []isakmp.Attribute
		if tt.bits != 0 {
			as = append(as, isakmp.BasicAttribute(isakmp.AttrESPKeyLength, tt.bits))
		}
		if tt.auth != 0 {
			as = append(as, isakmp.BasicAttribute(isakmp.AttrESPAuth, tt.auth))
		}
		s, _, ok := espTransform(isakmp.Transform{ID: tt.id, Attributes: as})
		if ok != (tt.want != "") || ok && s.String() != tt.want {
			t.Errorf("transform %d, %d bits, integrity %d: read %v, want %q", tt.id, tt.bits, tt.auth, ok, tt.want)
		}
	}
}
