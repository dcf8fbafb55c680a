package ike

import (
	"bytes"
	"crypto/md5"
	"slices"
	"strings"
	"testing"

	"wayfarer/ike/isakmp"
)

// TestVendorWords recomputes the vendor IDs that are the MD5 of a word.
func TestVendorWords(t *testing.T) {
	for word, name := range map[string]string{
		"RFC 3947":                        "NAT-T (RFC 3947)",
		"draft-ietf-ipsec-nat-t-ike-00":   "draft-ietf-ipsec-nat-t-ike-00",
		"draft-ietf-ipsec-nat-t-ike-01":   "draft-ietf-ipsec-nat-t-ike-01",
		"draft-ietf-ipsec-nat-t-ike-02":   "draft-ietf-ipsec-nat-t-ike-02",
		"draft-ietf-ipsec-nat-t-ike-02\n": "draft-ietf-ipsec-nat-t-ike-02\\n",
		"draft-ietf-ipsec-nat-t-ike-03":   "draft-ietf-ipsec-nat-t-ike-03",
		"FRAGMENTATION":                   "FRAGMENTATION",
		"KAME/racoon":                     "KAME/racoon",
		"strongSwan":                      "strongSwan",
		"ALTIGA NETWORKS":                 "ALTIGA NETWORKS",
		"DPD":                             "DPD (Netgear)",
	} {
		sum := md5.Sum([]byte(word))
		if v, ok := identifyVendor(sum[:]); !ok || v.name != name {
			t.Errorf("md5(%q) is %q", word, v.name)
		}
	}
	unity := md5.Sum([]byte("CISCO-UNITY"))
	if v, ok := identifyVendor(append(unity[:14:14], 1, 0)); !ok || v.caps != capUnity {
		t.Errorf("Unity is %q", v.name)
	}
}

func TestIdentifyVendor(t *testing.T) {
	for _, tt := range []struct {
		id   string
		caps capability
		ok   bool
	}{
		{"4a131c81070358455c5728f20e95452f", capNATT, true},
		{"4a131c81070358455c5728f20e95452f00", 0, false},
		{"4a131c81070358455c5728f20e95452e", 0, false},
		{"4a131c81070358455c5728f20e9545", 0, false},
		{"7d9419a65310ca6f2c179d9215529d56", capNATTDraft3, true},
		{"cd60464335df21f87cfdb2fc68b6a448", capNATTDraft2, true},
		{"90cb80913ebb696e086381b5ec427b1f", capNATTDraft2, true},
		{"16f6ca16e4a4066d83821a0f0aeaa862", capNATTDraft1, true},
		{"4485152d18b6bbcd0be8a8469579ddcc", capNATTDraft0, true},
		{"09002689dfd6b712", capXAUTH, true},
		{"09002689dfd6b71200", 0, false},
		{"12f5f28c457168a9702d9fe274cc0100", capUnity, true},
		{"12f5f28c457168a9702d9fe274cc0204", capUnity, true}, // another version
		{"12f5f28c457168a9702d9fe274cc", capUnity, true},
		{"12f5f28c457168a9702d9fe274", 0, false},
		{"afcad71368a1f1c96b8696fc77570100", capDPD, true},
		{"afcad71368a1f1c96b8696fc77570200", capDPD, true},
		{"4048b7d56ebce88525e7de7f00d6c2d380000000", capFragmentation, true},
		{"4048b7d56ebce88525e7de7f00d6c2d3c0000000", capFragmentation, true},
		{"4048b7d56ebce88525e7de7f00d6c2d3", capFragmentation, true},
		{"882fe56d6fd20dbc2251613b2ebe5beb", 0, true},
		{"1f07f70eaa6514d3b0fa96542a500400", 0, true},
		{"1e2b516905991c7d7c96fcbfb587e46100000009", 0, true},
		{"5b362bc820f60008", 0, true},
		{"", 0, false},
		{"00", 0, false},
		{strings.Repeat("ff", 300), 0, false},
	} {
		v, ok := identifyVendor(unhex(tt.id))
		if ok != tt.ok || v.caps != tt.caps {
			t.Errorf("%s: %q with %b, %v", tt.id, v.name, v.caps, ok)
		}
	}
}

// TestVendorsSent: XAUTH always, NAT traversal as it is set, and the order that
// gateways are used to.
func TestVendorsSent(t *testing.T) {
	others := []string{"XAUTH", "Cisco Unity", "DPD", "FRAGMENTATION"}
	for setting, natt := range map[NATT][]string{
		NATTAuto: {
			"NAT-T (RFC 3947)", "draft-ietf-ipsec-nat-t-ike-03", "draft-ietf-ipsec-nat-t-ike-02\\n", "draft-ietf-ipsec-nat-t-ike-02",
		},
		NATTOff:     {},
		NATTDraft03: {"draft-ietf-ipsec-nat-t-ike-03"},
		NATTDraft02: {"draft-ietf-ipsec-nat-t-ike-02\\n", "draft-ietf-ipsec-nat-t-ike-02"},
		NATTDraft01: {"draft-ietf-ipsec-nat-t-ike-01"},
		NATTDraft00: {"draft-ietf-ipsec-nat-t-ike-00"},
	} {
		var got []string
		for _, p := range vendorPayloads(setting) {
			v, ok := identifyVendor(p.Body)
			if !ok || p.Type != isakmp.PayloadVendorID || !bytes.Equal(p.Body, v.send) {
				t.Errorf("%s: %x", setting, p.Body)
			}
			got = append(got, v.name)
		}
		if want := append(natt, others...); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", setting, got, want)
		}
	}
	for _, tt := range []struct{ name, id string }{
		{"XAUTH", "09002689dfd6b712"},
		{"Cisco Unity", "12f5f28c457168a9702d9fe274cc0100"},
		{"DPD", "afcad71368a1f1c96b8696fc77570100"},
		{"FRAGMENTATION", "4048b7d56ebce88525e7de7f00d6c2d380000000"},
	} {
		i := slices.IndexFunc(vendorIDs, func(v vendorID) bool { return v.name == tt.name })
		wantHex(t, tt.name, vendorIDs[i].send, tt.id)
	}
}

// TestRecordedVendors: what real gateways and clients say of themselves is known.
func TestRecordedVendors(t *testing.T) {
	eachRecording(t, func(t *testing.T, r *recording) {
		var caps [2]capability
		for _, m := range r.messages {
			for _, p := range m.all(isakmp.PayloadVendorID) {
				v, ok := identifyVendor(p.Body)
				vpncOnly := m.fromClient && strings.HasSuffix(r.name, "vpnc")
				if !ok && !vpncOnly {
					t.Errorf("unknown vendor ID %x", p.Body)
				}
				side := 0
				if m.fromClient {
					side = 1
				}
				caps[side] |= v.caps
			}
		}
		want := capXAUTH | capUnity | capDPD | capNATT
		if caps[0]&want != want || caps[1]&want != want {
			t.Errorf("gateway %b, client %b, want %b in both", caps[0], caps[1], want)
		}
	})
}
