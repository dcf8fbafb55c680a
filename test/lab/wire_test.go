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
	payloads   []int // SA and HASH stand first, the others in any order; vendor IDs do not count
	check      func(message) string
}

const toGateway, toClient = true, false

// ladderMain is RFC 2409 §5, draft-ietf-ipsec-isakmp-hybrid-auth-05 §3.2, RFC 3947 §4;
// the gateway shows so many certificates.
func ladderMain(certificates int) []rung {
	return []rung{
		{"MM1", toGateway, 500, mainMode, false, []int{sa}, announces},
		{"MM2", toClient, 500, mainMode, false, []int{sa}, nil},
		{"MM3", toGateway, 500, mainMode, false, []int{ke, nonce, natd, natd}, nil},
		{"MM4", toClient, 500, mainMode, false, []int{ke, nonce, natd, natd}, nil},
		{"MM5", toGateway, 4500, mainMode, true, []int{id, hash, certreq, notify}, alone},
		{"MM6", toClient, 4500, mainMode, true, append(slices.Repeat([]int{certificate}, certificates), id, sig), nil},
	}
}

func ladderAggressive() []rung {
	return []rung{
		{"AM1", toGateway, 500, aggressive, false, []int{sa, ke, nonce, id, certreq}, announces},
		{"AM2", toClient, 500, aggressive, false, []int{sa, ke, nonce, id, certificate, sig, natd, natd}, nil},
		{"AM3", toGateway, 4500, aggressive, true, []int{hash, natd, natd, notify}, alone},
	}
}

// ladderRest is draft-beaulieu-ike-xauth-02 §5, draft-dukes-ike-mode-cfg-02 §2,
// RFC 2409 §5.5, RFC 2408 §5.15.
func ladderRest() []rung {
	step := func(name string, fromClient bool, cfg int, attrs ...int) rung {
		return rung{name, fromClient, 4500, transaction, true, []int{hash, attributes}, func(m message) string {
			for _, a := range attrs {
				if !slices.Contains(m.attrs, a) {
					return fmt.Sprintf("attributes %v, want %d among them", m.attrs, a)
				}
			}
			return differ("type", m.cfg, cfg)
		}}
	}
	deletes := func(protocol int) func(message) string {
		return func(m message) string { return differ("deleted protocol", m.deletes, protocol) }
	}
	quick := []int{hash, sa, nonce, id, id}
	return []rung{
		step("XAUTH request", toClient, cfgRequest, xauthUser, xauthPassword),
		step("XAUTH reply", toGateway, cfgReply, xauthUser, xauthPassword),
		step("XAUTH set", toClient, cfgSet, xauthStatus),
		step("XAUTH ack", toGateway, cfgAck),
		step("Mode-Config request", toGateway, cfgRequest, modeAddress, unitySplitInclude),
		step("Mode-Config reply", toClient, cfgReply, modeAddress, unitySplitInclude),
		{"QM1", toGateway, 4500, quickMode, true, quick, selectors},
		{"QM2", toClient, 4500, quickMode, true, quick, selectors},
		{"QM3", toGateway, 4500, quickMode, true, []int{hash}, nil},
		{"Delete ESP", toGateway, 4500, informational, true, []int{hash, deletion}, deletes(protoESP)},
		{"Delete ISAKMP", toGateway, 4500, informational, true, []int{hash, deletion}, deletes(protoISAKMP)},
	}
}

func differ[T comparable](what string, got, want T) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("%s %v, want %v", what, got, want)
}

// announces: the vendor IDs without which a gateway withholds what the client needs.
func announces(m message) string {
	for _, v := range []struct{ name, id string }{
		{"XAUTH", "09002689dfd6b712"},
		{"NAT-T", "4a131c81070358455c5728f20e95452f"},
		{"Unity", "12f5f28c457168a9702d9fe274cc"},
		{"DPD", "afcad71368a1f1c96b8696fc7757"},
		{"FRAGMENTATION", "4048b7d56ebce88525e7de7f00d6c2d3"},
	} {
		if !slices.ContainsFunc(m.vendors, func(id string) bool { return strings.HasPrefix(id, v.id) }) {
			return "the vendor ID of " + v.name + " is missing"
		}
	}
	return ""
}

// alone: INITIAL-CONTACT (RFC 2407 §4.6.3.3), with both cookies as SPI.
func alone(m message) string {
	return differ("notify and size of its SPI", [2]int{m.notify, m.spiBytes}, [2]int{initialContact, 16})
}

// selectors: IDci is an address, IDcr a subnet (RFC 2407 §4.6.2.2, §4.6.2.5).
func selectors(m message) string { return differ("types of IDci and IDcr", fmt.Sprint(m.ids), "[1 4]") }

// misfits lists where messages differ from the ladder, one by one.
func misfits(all []message, ladder []rung) []string {
	var problems []string
	for i, want := range ladder {
		if i >= len(all) {
			return append(problems, want.name+" is missing, and what should follow")
		}
		if problem := want.misfit(all[i]); problem != "" {
			problems = append(problems, fmt.Sprintf("%s: %s: %+v", want.name, problem, all[i]))
		}
	}
	if len(all) > len(ladder) {
		problems = append(problems, fmt.Sprintf("more messages than the standards have: %+v", all[len(ladder):]))
	}
	return problems
}

func (r *rung) misfit(m message) string {
	port := m.src
	if m.fromClient {
		port = m.dst
	}
	got := slices.DeleteFunc(slices.Clone(m.payloads), func(p int) bool { return p == vendor })
	switch {
	case m.fromClient != r.fromClient:
		return "from the wrong side"
	case port != r.port:
		return differ("port of the gateway", port, r.port)
	case m.exchange != r.exchange:
		return differ("exchange", m.exchange, r.exchange)
	case m.encrypted != r.encrypted:
		return differ("encrypted", m.encrypted, r.encrypted)
	case !sameElements(got, r.payloads) || (r.payloads[0] == sa || r.payloads[0] == hash) && got[0] != r.payloads[0]:
		return fmt.Sprintf("payloads %v, want %v", got, r.payloads)
	case r.check != nil:
		return r.check(m)
	}
	return ""
}

func sameElements(a, b []int) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// A capture decrypted with the gateway's keys shows what the standards say.
func TestWire(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ladder []rung
	}{
		{"hybrid", append(ladderMain(1), ladderRest()...)},
		{"hybrid-am", append(ladderAggressive(), ladderRest()...)},
		{"chain-frag", append(ladderMain(2), ladderRest()...)},
	} {
		for _, ns := range []string{"rw", "rw2"} {
			t.Run(tc.name+"/"+ns, func(t *testing.T) { tryWire(t, ns, tc.name, tc.ladder) })
		}
	}
}

func tryWire(t *testing.T, ns, name string, ladder []rung) {
	h := start(t, ns, "debug")
	p := loadProfile(t, name)
	file := capture(t, func() {
		h.up(t, p)
		h.ping(t, "10.10.0.2")
		h.down(t)
	})
	all, fragments := reassembled(messages(t, file, p["GATEWAY"]))
	for _, problem := range misfits(all, ladder) {
		t.Error(problem)
	}
	checkIDs(t, all)
	if ns == "rw2" {
		checkOneSocket(t, all)
	}
	if name == "chain-frag" && fragments < 2 {
		t.Errorf("%d fragments, want the gateway's certificates in at least 2", fragments)
	}
	if out := tshark(t, file, "-Y", "icmp.type == 8 && ip.dst == 10.10.0.2"); strings.Count(out, "\n") != 1 {
		t.Errorf("want one decrypted ping in the ESP packets, got %q", out)
	}
	if out := tshark(t, file, "-Y", "isakmp.ipsec.attr.encap_mode && isakmp.ipsec.attr.encap_mode != 3"); out != "" {
		t.Errorf("Quick Mode with another mode than UDP-encapsulated tunnel (RFC 3947 §5.1): %s", out)
	}
}

// The ladder is that of strongSwan's own conversations, and others do not fit it.
func TestLadder(t *testing.T) {
	need(t)
	for _, tc := range []struct {
		name, gateway string
		problem       string // of the first misfit; empty: there is none
	}{
		{"hybrid-main", "198.51.100.10", ""},
		{"hybrid-main-aes128-sha1", "198.51.100.10", ""},
		{"hybrid-main-port4500", "198.51.100.10", "MM1: port of the gateway 4500"},
		{"wrong-password", "198.51.100.10", "Mode-Config request is missing"},
		{"push", "198.51.100.14", "Mode-Config request: from the wrong side"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all, _ := reassembled(messages(t, "samples/"+tc.name+".pcap", tc.gateway))
			problems := misfits(all, append(ladderMain(1), ladderRest()...))
			if tc.problem == "" && len(problems) > 0 ||
				tc.problem != "" && (len(problems) == 0 || !strings.HasPrefix(problems[0], tc.problem)) {
				t.Errorf("got %q", problems)
			}
		})
	}
}

// reassembled drops the fragments (payload 132) before the last, whose whole tshark
// has put together, and the probes of dead peer detection. It counts the fragments.
func reassembled(all []message) (whole []message, fragments int) {
	for _, m := range all {
		if m.notify == dpdProbe || m.notify == dpdAnswer {
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

// checkIDs: the message ID is 0 in phase 1, and each later exchange has its own.
func checkIDs(t *testing.T, all []message) {
	t.Helper()
	seen := map[string]bool{}
	previous := ""
	for i, m := range all {
		if m.exchange == mainMode || m.exchange == aggressive {
			if m.id != "0x00000000" {
				t.Errorf("message %d: message ID %s in phase 1", i, m.id)
			}
			continue
		}
		if seen[m.id] && m.id != previous || m.id == "0x00000000" {
			t.Errorf("message %d: message ID %s was used before", i, m.id)
		}
		seen[m.id] = true
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
