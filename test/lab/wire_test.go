//go:build lab && linux

package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rung is a message that the standards prescribe at one place of the ladder.
type rung struct {
	name       string
	fromClient bool
	port       int // of the gateway
	exchange   int
	encrypted  bool
	payloads   []int // the first at the first place, the others in any order; vendor IDs do not count
	check      func(t *testing.T, m message)
}

const toGateway, toClient = true, false

// ladderMain is RFC 2409 §5, draft-ietf-ipsec-isakmp-hybrid-auth-05 §3.2, RFC 3947 §4.
func ladderMain() []rung {
	return []rung{
		{"MM1", toGateway, 500, mainMode, false, []int{sa}, announces},
		{"MM2", toClient, 500, mainMode, false, []int{sa}, nil},
		{"MM3", toGateway, 500, mainMode, false, []int{ke, nonce, natd, natd}, nil},
		{"MM4", toClient, 500, mainMode, false, []int{ke, nonce, natd, natd}, nil},
		{"MM5", toGateway, 4500, mainMode, true, []int{id, hash, certreq, notify}, aloneHere},
		{"MM6", toClient, 4500, mainMode, true, []int{id, certificate, sig}, nil},
	}
}

func ladderAggressive() []rung {
	return []rung{
		{"AM1", toGateway, 500, aggressive, false, []int{sa, ke, nonce, id, certreq}, announces},
		{"AM2", toClient, 500, aggressive, false, []int{sa, ke, nonce, id, certificate, sig, natd, natd}, nil},
		{"AM3", toGateway, 4500, aggressive, true, []int{hash, natd, natd, notify}, aloneHere},
	}
}

// ladderRest is draft-beaulieu-ike-xauth-02 §5, draft-dukes-ike-mode-cfg-02 §2,
// RFC 2409 §5.5, RFC 2408 §5.15.
func ladderRest() []rung {
	t := func(name string, fromClient bool, cfg int, attrs ...int) rung {
		return rung{name, fromClient, 4500, transaction, true, []int{hash, attributes}, func(t *testing.T, m message) {
			t.Helper()
			if m.cfg != cfg {
				t.Errorf("type %d, want %d", m.cfg, cfg)
			}
			for _, a := range attrs {
				if !slices.Contains(m.attrs, a) {
					t.Errorf("attributes %v, want %d among them", m.attrs, a)
				}
			}
		}}
	}
	deletes := func(protocol int) func(*testing.T, message) {
		return func(t *testing.T, m message) {
			t.Helper()
			if m.deletes != protocol {
				t.Errorf("deletes protocol %d, want %d", m.deletes, protocol)
			}
		}
	}
	quick := []int{hash, sa, nonce, id, id}
	return []rung{
		t("XAUTH request", toClient, cfgRequest, xauthUser, xauthPassword),
		t("XAUTH reply", toGateway, cfgReply, xauthUser, xauthPassword),
		t("XAUTH set", toClient, cfgSet, xauthStatus),
		t("XAUTH ack", toGateway, cfgAck),
		t("Mode-Config request", toGateway, cfgRequest, modeAddress, unitySplitInclude),
		t("Mode-Config reply", toClient, cfgReply, modeAddress, unitySplitInclude),
		{"QM1", toGateway, 4500, quickMode, true, quick, selectors},
		{"QM2", toClient, 4500, quickMode, true, quick, selectors},
		{"QM3", toGateway, 4500, quickMode, true, []int{hash}, nil},
		{"Delete ESP", toGateway, 4500, informational, true, []int{hash, deletion}, deletes(protoESP)},
		{"Delete ISAKMP", toGateway, 4500, informational, true, []int{hash, deletion}, deletes(protoISAKMP)},
	}
}

// announces: the vendor IDs without which a gateway withholds what the client needs.
func announces(t *testing.T, m message) {
	t.Helper()
	for name, vid := range map[string]string{
		"XAUTH":         "09002689dfd6b712",
		"NAT-T":         "4a131c81070358455c5728f20e95452f",
		"Unity":         "12f5f28c457168a9702d9fe274cc",
		"DPD":           "afcad71368a1f1c96b8696fc7757",
		"FRAGMENTATION": "4048b7d56ebce88525e7de7f00d6c2d3",
	} {
		if !slices.ContainsFunc(m.vendors, func(v string) bool { return strings.HasPrefix(v, vid) }) {
			t.Errorf("vendor ID of %s is missing", name)
		}
	}
}

// aloneHere: INITIAL-CONTACT (RFC 2407 §4.6.3.3), named by both cookies.
func aloneHere(t *testing.T, m message) {
	t.Helper()
	if m.notify != initialContact || m.spiBytes != 16 {
		t.Errorf("notify %d with an SPI of %d bytes, want INITIAL-CONTACT with 16", m.notify, m.spiBytes)
	}
}

// selectors: IDci is an address, IDcr a subnet (RFC 2407 §4.6.2.2, §4.6.2.5).
func selectors(t *testing.T, m message) {
	t.Helper()
	if fmt.Sprint(m.ids) != "[1 4]" {
		t.Errorf("ID types %v, want an address and a subnet", m.ids)
	}
}

// A capture decrypted with the gateway's keys shows what the standards say.
func TestWire(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ladder []rung
	}{
		{"hybrid", append(ladderMain(), ladderRest()...)},
		{"hybrid-am", append(ladderAggressive(), ladderRest()...)},
		{"chain-frag", append(ladderMain(), ladderRest()...)},
	} {
		for _, ns := range []string{"rw", "rw2"} {
			t.Run(tc.name+"/"+ns, func(t *testing.T) {
				h := start(t, ns, "debug")
				p := loadProfile(t, tc.name)
				file := capture(t, func() {
					h.up(t, p)
					h.ping(t, "10.10.0.2")
					h.down(t)
				})
				all, fragments := reassembled(messages(t, file, p["GATEWAY"]))
				climb(t, all, tc.ladder)
				checkIDs(t, all)
				if ns == "rw2" {
					checkOneSocket(t, all)
				}
				if tc.name == "chain-frag" && fragments < 2 {
					t.Errorf("%d fragments, want the gateway's certificates in at least 2", fragments)
				}
				if out := tshark(t, file, "-Y", "icmp.type == 8 && ip.dst == 10.10.0.2"); strings.Count(out, "\n") != 1 {
					t.Errorf("want one decrypted ping in the ESP packets, got %q", out)
				}
				if out := tshark(t, file, "-Y", "isakmp.ipsec.attr.encap_mode && isakmp.ipsec.attr.encap_mode != 3"); out != "" {
					t.Errorf("Quick Mode with another mode than UDP-encapsulated tunnel (RFC 3947 §5.1): %s", out)
				}
			})
		}
	}
}

// reassembled drops the fragments (payload 132) before the last, whose whole tshark
// has put together, and the probes of dead peer detection. It counts the fragments.
func reassembled(all []message) (whole []message, fragments int) {
	for _, m := range all {
		if m.notify == 36136 || m.notify == 36137 {
			continue
		}
		if len(m.payloads) > 0 && m.payloads[0] == ikeFragment {
			fragments++
			if m.payloads = m.payloads[1:]; len(m.payloads) == 0 {
				continue
			}
		}
		whole = append(whole, m)
	}
	return whole, fragments
}

// climb compares messages with the ladder, one by one.
func climb(t *testing.T, all []message, ladder []rung) {
	t.Helper()
	for i, want := range ladder {
		if i >= len(all) {
			t.Fatalf("%s is missing; the capture has %d messages", want.name, len(all))
		}
		t.Run(want.name, func(t *testing.T) {
			m := all[i]
			port := m.src
			if m.fromClient {
				port = m.dst
			}
			if m.fromClient != want.fromClient || port != want.port || m.exchange != want.exchange || m.encrypted != want.encrypted {
				t.Fatalf("got %+v", m)
			}
			got := slices.DeleteFunc(slices.Clone(m.payloads), func(p int) bool { return p == vendor })
			if len(got) == 0 || got[0] != want.payloads[0] || !sameElements(got, want.payloads) {
				t.Errorf("payloads %v, want %v", got, want.payloads)
			}
			if want.check != nil {
				want.check(t, m)
			}
		})
	}
	if len(all) > len(ladder) {
		t.Errorf("more messages than the standards have: %+v", all[len(ladder):])
	}
}

func sameElements(a, b []int) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// checkIDs: the message ID is 0 in phase 1, and each later exchange has its own.
func checkIDs(t *testing.T, all []message) {
	t.Helper()
	seen := map[string]int{} // exchange of a message ID
	previous := ""
	for i, m := range all {
		if m.exchange == mainMode || m.exchange == aggressive {
			if m.id != "0x00000000" {
				t.Errorf("message %d: message ID %s in phase 1", i, m.id)
			}
			continue
		}
		if _, ok := seen[m.id]; ok && m.id != previous || m.id == "0x00000000" {
			t.Errorf("message %d: message ID %s was used before", i, m.id)
		}
		seen[m.id] = m.exchange
		previous = m.id
	}
}

// checkOneSocket: without NAT, all of the client's messages come from one port, and
// not from 500 or 4500.
func checkOneSocket(t *testing.T, all []message) {
	t.Helper()
	for _, m := range all {
		if m.fromClient && (m.src != all[0].src || m.src < 1024 || m.src == 4500) {
			t.Errorf("a message from port %d, the first from %d", m.src, all[0].src)
		}
	}
}
