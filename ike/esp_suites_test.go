package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"wayfarer/ike/gateway"
	"wayfarer/ike/isakmp"
)

// namedESP are suites that are offered by name only, and how each looks in an offer.
var namedESP = []struct {
	name    string
	id      uint8
	keyBits uint64
	auth    uint64 // 0: no attribute
}{
	{"aes128gcm8", isakmp.ESPAESGCM8, 128, 0},
	{"aes192gcm8", isakmp.ESPAESGCM8, 192, 0},
	{"aes256gcm8", isakmp.ESPAESGCM8, 256, 0},
	{"aes128gcm12", isakmp.ESPAESGCM12, 128, 0},
	{"aes192gcm12", isakmp.ESPAESGCM12, 192, 0},
	{"aes256gcm12", isakmp.ESPAESGCM12, 256, 0},
	{"aes128ctr-sha1", isakmp.ESPAESCTR, 128, 2},
	{"aes192ctr-sha256", isakmp.ESPAESCTR, 192, 5},
	{"aes256ctr-sha512", isakmp.ESPAESCTR, 256, 7},
	{"aes128-aesxcbc", isakmp.ESPAESCBC, 128, 9},
	{"aes256ctr-aesxcbc", isakmp.ESPAESCTR, 256, 9},
	{"aes128-sha256_96", isakmp.ESPAESCBC, 128, 5},
	{"aes256ctr-sha256_96", isakmp.ESPAESCTR, 256, 5},
	{"aes128gcm12-ecp256", isakmp.ESPAESGCM12, 128, 0},
}

// TestNamedESPSuites connects with each of them, exchanges packets, and goes on after
// a rekeying that the gateway begins.
func TestNamedESPSuites(t *testing.T) {
	for _, tt := range namedESP {
		t.Run(tt.name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.client.ESP = suites(t, ParseESPSuite, tt.name)
				w.gateway.ESP = []string{tt.name}
				w.start()
				s := w.dial()
				received := receive(s)
				w.exchangePackets(s, received, "hello")
				if err := w.gw.RekeyChild(firstVIP); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				w.exchangePackets(s, received, "hello again")
				children, tunnels := s.Stats().Children, w.gw.Clients()[0].Tunnels
				if len(children) != 2 || len(tunnels) != 2 {
					t.Fatalf("%d pairs of ESP SAs here, %d there", len(children), len(tunnels))
				}
				for i := range children {
					if children[i].Suite != tt.name || tunnels[i].Suite != tt.name {
						t.Errorf("we use %s, the gateway %s", children[i].Suite, tunnels[i].Suite)
					}
				}
				if e := w.eventsOf(EventWarning); len(e) != 0 {
					t.Errorf("warnings: %+v", e)
				}
			})
		})
	}
}

// TestNamedESPOffers reads what the gateway got.
func TestNamedESPOffers(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, tt := range namedESP[:len(namedESP)-1] { // the last has a group and an offer of its own
			w.client.ESP = append(w.client.ESP, suites(t, ParseESPSuite, tt.name)...)
		}
		w.start()
		w.dial()
		synctest.Wait()
		sa, err := isakmp.ParseSA(w.messages(gateway.QM1)[0].Payload(isakmp.PayloadSA))
		if err != nil {
			t.Fatal(err)
		}
		transforms := sa.Proposals[0].Transforms
		if len(sa.Proposals) != 1 || len(transforms) != len(w.client.ESP) {
			t.Fatalf("%d proposals, %d transforms", len(sa.Proposals), len(transforms))
		}
		value := func(t isakmp.Transform, typ uint16) uint64 {
			a, ok := isakmp.Find(t.Attributes, typ)
			if !ok {
				return 0
			}
			v, _ := a.Uint()
			return v
		}
		for i, tr := range transforms {
			tt := namedESP[i]
			if bits, auth := value(tr, isakmp.AttrESPKeyLength), value(tr, isakmp.AttrESPAuth); tr.ID != tt.id || bits != tt.keyBits || auth != tt.auth {
				t.Errorf("%s: transform %d, %d bits, integrity %d", tt.name, tr.ID, bits, auth)
			}
		}
	})
}

// TestNamedESPSuitesAreNoDefaults, neither of those that are strong nor of all.
func TestNamedESPSuitesAreNoDefaults(t *testing.T) {
	for _, name := range names(DefaultESP(WeakAll)) {
		for _, part := range []string{"gcm8", "gcm12", "ctr", "xcbc", "_96"} {
			if strings.Contains(name, part) {
				t.Errorf("%s is offered by default", name)
			}
		}
	}
}

func TestUnknownSuites(t *testing.T) {
	for _, tt := range []struct {
		name string
		want []string // in the error, which is one line
	}{
		{"rot13-sha1", []string{`"rot13"`, "aes256,", "aes128gcm8", "aes192ctr"}},
		{"aes128-crc32", []string{`"crc32"`, "sha256,", "sha256_96", "aesxcbc"}},
		{"aes128-sha1-modp7", []string{`"modp7"`, "modp2048", "ecp256"}},
		{"aes128ctr", []string{"without integrity"}},
		{"aes128gcm12-aesxcbc", []string{`group "aesxcbc"`}},
	} {
		_, err := ParseESPSuite(tt.name)
		if err == nil {
			t.Errorf("%s is a suite", tt.name)
			continue
		}
		for _, want := range tt.want {
			if text := err.Error(); !strings.Contains(text, want) || strings.Contains(text, "\n") {
				t.Errorf("%s: %q does not tell of %s", tt.name, text, want)
			}
		}
	}
	for _, name := range []string{
		"aes128ctr-sha256-modp2048", "aes128gcm12-sha256-modp2048", "aes128-aesxcbc-modp2048", "aes128-sha256_96-modp2048",
	} {
		if _, err := ParseIKESuite(name); err == nil {
			t.Errorf("%s is taken for phase 1", name)
		}
	}
}

// TestTruncationOrder: sha256 and sha256_96 look alike to the gateway; the first one
// in the list is meant.
func TestTruncationOrder(t *testing.T) {
	for _, list := range [][]string{{"aes128-sha256", "aes128-sha256_96"}, {"aes128-sha256_96", "aes128-sha256"}} {
		inWorld(t, func(w *world) {
			w.client.ESP = suites(t, ParseESPSuite, list...)
			w.gateway.ESP = list[:1]
			w.start()
			s := w.dial()
			w.exchangePackets(s, receive(s), "hello")
			if got := s.Stats().Children[0].Suite; got != list[0] {
				t.Errorf("of %v we use %s", list, got)
			}
		})
	}
}

// TestTruncatedSHA256: the gateway cuts to 96 bits and we do not. The tunnel comes up
// and carries nothing; a warning says once what would help.
func TestTruncatedSHA256(t *testing.T) {
	for _, cipher := range []string{"aes256", "aes128ctr"} {
		t.Run(cipher, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				w.client.ESP = suites(t, ParseESPSuite, cipher+"-sha256")
				w.gateway.ESP = []string{cipher + "-sha256_96"}
				w.start()
				s := w.dial()
				received := receive(s)
				out, in := ipv4(firstVIP, insideHost, "out"), ipv4(insideHost, firstVIP, "in")
				synctest.Wait()
				send(t, s, out)
				synctest.Wait()
				if e := w.eventsOf(EventWarning); len(e) != 0 {
					t.Errorf("warned before the gateway has sent anything: %+v", e)
				}
				for i := range 3 {
					if i == 2 { // on another pair of ESP SAs
						if err := w.gw.RekeyChild(firstVIP); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
					}
					if err := w.gw.SendPacket(in); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if w.gatewayHas(out) || len(received()) != 0 {
					t.Error("packets passed with an ICV of another length")
				}
				warnings := w.eventsOf(EventWarning)
				if len(warnings) != 1 || warnings[0].Code != "sha256-96" || !strings.Contains(warnings[0].Text, cipher+"-sha256_96 is needed") {
					t.Errorf("warnings: %+v", warnings)
				}
				w.wantAlive(s)

				// What the warning says does help.
				s.Close()
				w.client.ESP = suites(t, ParseESPSuite, cipher+"-sha256_96")
				s = w.dial()
				w.exchangePackets(s, receive(s), "hello")
			})
		})
	}
}

// TestForgedESPWarnsNobody: only packets of the gateway tell how it cuts. (Its own with
// the last four bytes off are such packets; who can do that to them all has cut the
// connection anyway.)
func TestForgedESPWarnsNobody(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.ESP = suites(w.t, ParseESPSuite, "aes256-sha256")
		forge := true
		w.setRule(func(from, to netip.AddrPort, data []byte) []gateway.Delivery {
			if toClient(from) && !isIKE(from, to, data) && forge {
				data = slices.Clone(data[:len(data)-4]) // as long as with 96 bits
				data[len(data)-1] ^= 1
			}
			return deliver(data)
		})
		w.start()
		s := w.dial()
		received := receive(s)
		synctest.Wait()
		for range 20 {
			if err := w.gw.SendPacket(ipv4(insideHost, firstVIP, "in")); err != nil {
				w.t.Fatal(err)
			}
		}
		synctest.Wait()
		forge = false
		w.exchangePackets(s, received, "hello")
		if e := w.eventsOf(EventWarning); len(e) != 0 || len(received()) != 1 {
			w.t.Errorf("%d packets, warnings: %+v", len(received()), e)
		}
	})
}
