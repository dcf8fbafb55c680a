package gateway

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/isakmp"
)

func TestLogin(t *testing.T) {
	for _, tt := range []struct{ name, user, password string }{
		{"wrong password", "ada", "Secret"},
		{"longer password", "ada", "secrets"},
		{"password of another", "ada", "hidden"},
		{"no password", "ada", ""},
		{"unknown user without password", "eve", ""},
		{"unknown user", "eve", "secret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				i := w.newInitiator(clientAt)
				i.user, i.password = tt.user, tt.password
				i.phase1Main()
				if i.login() != uint64(isakmp.XAuthFail) {
					t.Error("let in")
				}
				if d := i.deletion(); d.Protocol != isakmp.ProtoISAKMP {
					t.Errorf("after the failure: %+v", d)
				}
				if c := w.gateway.Clients(); len(c) != 0 {
					t.Errorf("clients: %+v", c)
				}
			})
		})
	}
}

// TestLoginGivenUp: the client sends STATUS=FAIL instead of credentials.
func TestLoginGivenUp(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		mid, c := i.expectConfig(isakmp.ConfigRequest)
		if len(c.Attributes) != 2 || c.Attributes[0].Type != isakmp.XAuthUserName || c.Attributes[1].Type != isakmp.XAuthPassword {
			t.Errorf("asked for %+v", c.Attributes)
		}
		i.config(XAuthReply, mid, isakmp.ConfigReply, isakmp.BasicAttribute(isakmp.XAuthStatus, isakmp.XAuthFail))
		if d := i.deletion(); d.Protocol != isakmp.ProtoISAKMP {
			t.Errorf("%+v", d)
		}
	})
}

// TestGate: before the login nothing else is possible.
func TestGate(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		mid, _ := i.expectConfig(isakmp.ConfigRequest)
		i.config(ConfigRequest, 55, isakmp.ConfigRequest, isakmp.Attribute{Type: isakmp.CfgIP4Address})
		i.say(i.quick1(&quickMode{suite: i.espOffer, client: netip.MustParsePrefix("10.99.0.1/32"), remote: netip.MustParsePrefix("0.0.0.0/0")}))
		i.config(XAuthAck, 56, isakmp.ConfigAck, isakmp.BasicAttribute(isakmp.XAuthStatus, isakmp.XAuthOK))
		i.config(XAuthReply, 57, isakmp.ConfigReply)
		clear := &Message{Step: XAuthReply, Header: i.header(isakmp.Transaction, mid, false)}
		clear.Add(isakmp.PayloadAttribute, isakmp.Config{Type: isakmp.ConfigReply, Attributes: []isakmp.Attribute{
			{Type: isakmp.XAuthUserName, Value: []byte("ada")}, {Type: isakmp.XAuthPassword, Value: []byte("secret")},
		}}.Append(nil))
		i.say(clear)
		if m := i.rawWithin(time.Second); m != nil {
			t.Errorf("answer %+v", i.decode(m))
		}
	})
}

// TestRequestIsRepeated: strongSwan's schedule, until the SA is given up.
func TestRequestIsRepeated(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		first := i.raw()
		began := time.Now()
		var at []time.Duration
		for {
			raw := i.raw()
			if raw == nil {
				break // before the last repetition the half-open time is over
			}
			if string(raw) != string(first) {
				t.Fatalf("%+v", i.decode(raw))
			}
			at = append(at, time.Since(began).Round(time.Millisecond))
		}
		want := []time.Duration{2000, 5600, 12080, 23744}
		for n := range want {
			want[n] *= time.Millisecond
		}
		if !slices.Equal(at, want) {
			t.Errorf("repeated after %v, want %v", at, want)
		}
		if c := w.gateway.Clients(); len(c) != 0 {
			t.Errorf("clients: %+v", c)
		}
	})
}

// attributeText writes attributes as "type=hex" or, in TV form, "type:hex".
func attributeText(as []isakmp.Attribute) string {
	var out []string
	for _, a := range as {
		sign := "="
		if a.Basic {
			sign = ":"
		}
		out = append(out, attributeNames[a.Type]+sign+hex.EncodeToString(a.Value))
	}
	return strings.Join(out, " ")
}

var attributeNames = map[uint16]string{
	1: "address", 2: "netmask", 3: "dns", 4: "wins", 5: "expiry", 7: "version",
	28672: "banner", 28673: "save", 28674: "domain", 28675: "splitdns", 28676: "include", 28678: "lan", 28679: "pfs", 28681: "backup",
}

func TestSettings(t *testing.T) {
	yes := true
	all := Settings{
		NetmaskBits: 24, DNS: []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")},
		WINS: []netip.Addr{netip.MustParseAddr("10.9.0.3")}, AddressExpiry: time.Hour, ApplicationVersion: "v1",
		Banner: "Hi", SavePassword: &yes, DefaultDomain: "a.b", SplitDNS: []string{"x", "y"},
		SplitInclude: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("10.8.0.0/16")},
		LocalLAN:     []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}, PFSGroup: 14, BackupServers: []string{"b1", "b2"},
	}
	short := all
	short.ShortSplit = true
	const plain = "address=0a630001 netmask=ffffff00 expiry=00000e10 dns=0a090001 dns=0a090002 wins=0a090003 version=7631"
	const before = " banner=4869 save:0001 domain=612e62 splitdns=782c79 "
	const after = " pfs:000e backup=62312c6232"
	for _, tt := range []struct {
		name     string
		settings Settings
		unity    bool
		want     string
	}{
		{"none", Settings{}, true, "address=0a630001"},
		{"all without Unity", all, false, plain},
		{"all", all, true, plain + before + "include=0a090000ffffff000000000000000a080000ffff0000000000000000 lan=c0a80000ffff0000000000000000" + after},
		{"short", short, true, plain + before + "include=0a090000ffffff00 include=0a080000ffff0000 lan=c0a80000ffff0000" + after},
	} {
		for _, push := range []bool{false, true} {
			name := tt.name + map[bool]string{false: ", asked for", true: ", pushed"}[push]
			t.Run(name, func(t *testing.T) {
				inWorld(t, func(c *Config) { c.Settings, c.Push = tt.settings, push }, func(w *world) {
					i := w.newInitiator(clientAt)
					if !tt.unity {
						i.vendors = slices.Delete(i.vendors, 2, 3)
					}
					i.phase1Main()
					i.login()
					var got []isakmp.Attribute
					if push {
						mid, c := i.expectConfig(isakmp.ConfigSet)
						got = c.Attributes
						i.config(ConfigAck, mid, isakmp.ConfigAck)
						if i.rawWithin(time.Minute) != nil {
							t.Error("the SET is repeated though it was acknowledged")
						}
					} else {
						got = i.settingsFor(netip.Addr{})
					}
					if text := attributeText(got); text != tt.want {
						t.Errorf("got  %s\nwant %s", text, tt.want)
					}
				})
			})
		}
	}
}

// TestPushUnanswered: the SET is repeated five times, then the client is given up.
func TestPushUnanswered(t *testing.T) {
	inWorld(t, func(c *Config) { c.Push = true }, func(w *world) {
		i := w.newInitiator(clientAt)
		i.phase1Main()
		i.login()
		first, n := i.raw(), 0
		raw := i.raw()
		for ; string(raw) == string(first); raw = i.raw() {
			n++
		}
		if n != retransmitTries || i.decode(raw).Header.Exchange != isakmp.Informational {
			t.Errorf("repeated %d times", n)
		}
	})
}

// another connects a client up to its settings and returns the address that it gets.
func (w *world) another(at, user string, wish netip.Addr) (*initiator, netip.Addr) {
	w.t.Helper()
	i := w.newInitiator(netip.MustParseAddrPort(at))
	i.user, i.password = user, w.gateway.cfg.Users[user]
	i.phase1Main()
	i.login()
	i.settingsFor(wish)
	return i, i.address
}

func TestPool(t *testing.T) {
	inWorld(t, func(c *Config) { c.Pool = netip.MustParsePrefix("10.99.0.0/29") }, func(w *world) {
		addr := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 99, 0, last}) }
		var none netip.Addr
		want := func(what string, got, want netip.Addr) {
			t.Helper()
			if got != want {
				t.Errorf("%s got %v, want %v", what, got, want)
			}
		}
		ada, a := w.another("198.51.100.1:1", "ada", none)
		want("the first", a, addr(1))
		ada.settingsFor(none)
		want("the first, asking again,", ada.address, addr(1))
		_, a = w.another("198.51.100.2:1", "bob", none)
		want("the second", a, addr(2))
		_, a = w.another("198.51.100.3:1", "bob", addr(5))
		want("who asked for 5", a, addr(5))
		_, a = w.another("198.51.100.4:1", "ada", addr(2))
		want("who asked for the address of another", a, addr(3))
		_, a = w.another("198.51.100.5:1", "ada", addr(7))
		want("who asked for the broadcast address", a, addr(4))
		_, a = w.another("198.51.100.6:1", "ada", netip.MustParseAddr("192.0.2.77"))
		want("who asked for an address outside of the pool", a, addr(6))
		full, a := w.another("198.51.100.7:1", "ada", none)
		want("who came too late", a, none)
		if as := full.settingsFor(none); attributeText(as) != "banner=57656c636f6d65" {
			t.Errorf("settings without an address: %s", attributeText(as))
		}
		if err := w.gateway.DeleteIKE(addr(5)); err != nil {
			t.Fatal(err)
		}
		full.settingsFor(none)
		want("who asked again when one was free", full.address, addr(5))
	})
}

// TestSameAddressAgain: a user who comes back finds the address of before.
func TestSameAddressAgain(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		_, a := w.another("198.51.100.1:1", "ada", netip.Addr{})
		if err := w.gateway.DeleteIKE(a); err != nil {
			t.Fatal(err)
		}
		if _, b := w.another("198.51.100.2:1", "bob", netip.Addr{}); b == a {
			t.Errorf("another user got %v", b)
		}
		if _, again := w.another("198.51.100.1:2", "ada", netip.Addr{}); again != a {
			t.Errorf("got %v after %v", again, a)
		}
	})
}

// TestAdoption: a new ISAKMP SA of the same user takes over address and tunnels.
func TestAdoption(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, tun := w.connect()
		_, a := w.another("198.51.100.7:2", "ada", i.address)
		if a != i.address {
			t.Fatalf("got %v instead of %v", a, i.address)
		}
		// The end of the old SA leaves the tunnel alone.
		d := &Message{Step: Delete, Header: i.header(isakmp.Informational, 5, true)}
		d.Add(isakmp.PayloadDelete, isakmp.Delete{DOI: 1, Protocol: isakmp.ProtoISAKMP, SPISize: 16, SPIs: [][]byte{append(i.ckyI[:], i.ckyR[:]...)}}.Append(nil))
		i.say(d)
		i.sendInner(tun, packet(a, netip.MustParseAddr("10.9.0.1"), "on"))
		if got := w.arrived(); len(got) != 1 {
			t.Errorf("%d packets arrived", len(got))
		}
		if c := w.gateway.Clients(); len(c) != 1 || len(c[0].Tunnels) != 1 || c[0].Address != a {
			t.Errorf("%+v", c)
		}
	})
}

// TestInitialContact: a client that knows no older SA has its older SAs forgotten.
func TestInitialContact(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, _ := w.connect()
		w.another("198.51.100.7:2", "bob", netip.Addr{})
		w.another("198.51.100.8:2", "ada", netip.Addr{})
		again := w.newInitiator(netip.MustParseAddrPort("198.51.100.7:3"))
		again.say(again.mm1())
		again.expect(isakmp.MainMode)
		again.say(again.mm3())
		again.takeKeys(again.expect(isakmp.MainMode))
		m := again.mm5()
		m.Add(isakmp.PayloadNotify, isakmp.Notify{DOI: 1, Protocol: isakmp.ProtoISAKMP, Type: isakmp.NotifyInitialContact}.Append(nil))
		again.say(m)
		again.expect(isakmp.MainMode)
		again.login()
		synctest.Wait()
		var peers []string
		for _, c := range w.gateway.Clients() {
			peers = append(peers, c.User+" "+c.Peer.String())
		}
		slices.Sort(peers)
		if want := []string{"ada 198.51.100.7:3", "ada 198.51.100.8:2", "bob 198.51.100.7:2"}; !slices.Equal(peers, want) {
			t.Errorf("clients %q, want %q", peers, want)
		}
		if m := i.raw(); m != nil {
			t.Error("the forgotten client was told something")
		}
	})
}
