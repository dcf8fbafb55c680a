package ike

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/gateway"
)

// TestInboundPolicy: only packets to our address, from where the gateway has said
// that it speaks for, come out of the tunnel.
func TestInboundPolicy(t *testing.T) {
	split := []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16"), netip.MustParsePrefix("172.16.0.0/12")}
	for _, tt := range []struct {
		src   string
		split bool // passes if networks were named
		full  bool // passes if none were
	}{
		{"10.10.3.4", true, true},
		{"172.20.1.1", true, true},
		{"192.168.77.53", true, true}, // the DNS server
		{"10.11.0.1", false, true},
		{"203.0.113.9", false, true},
		{"10.99.0.1", false, false}, // ourselves
		{"127.0.0.1", false, false},
		{"127.3.2.1", false, false},
		{"224.0.0.251", false, false},
		{"239.255.255.250", false, false},
		{"0.0.0.0", false, false},
		{"0.1.2.3", false, false},
		{"255.255.255.255", false, false},
	} {
		for _, named := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.src, " ", named), func(t *testing.T) {
				inWorlds(t, func(w *world) {
					w.gateway.Settings.SplitInclude = nil
					w.gateway.Settings.DNS = []netip.Addr{netip.MustParseAddr("192.168.77.53")}
					if named {
						w.gateway.Settings.SplitInclude = split
					}
					w.start()
					s := w.dial()
					received := receive(s)
					p := ipv4(netip.MustParseAddr(tt.src), firstVIP, "hello")
					if err := w.gw.SendPacket(p); err != nil {
						w.t.Fatal(err)
					}
					synctest.Wait()
					want := tt.full
					if named {
						want = tt.split
					}
					if got := containsPacket(received(), p); got != want {
						t.Errorf("delivered: %v", got)
					}
					if in := s.Stats().Children[0].PacketsIn; in != 1 {
						t.Errorf("%d packets came in", in)
					}
				})
			})
		}
	}
}

// TestInboundPolicyOfTheConfig: networks that the Config names count beside those that
// the gateway has named.
func TestInboundPolicyOfTheConfig(t *testing.T) {
	mine := []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}
	for _, tt := range []struct {
		name   string
		config func(*Config)
		want   bool
	}{
		{"networks", func(c *Config) { c.Networks = mine }, true},
		{"remote networks", func(c *Config) { c.RemoteNetworks = append(mine, netip.MustParsePrefix("10.10.0.0/16")) }, true},
		{"nothing", func(*Config) {}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorlds(t, func(w *world) {
				tt.config(&w.client)
				w.start()
				s := w.dial()
				received := receive(s)
				added, other := netip.MustParseAddr("172.20.1.1"), netip.MustParseAddr("203.0.113.9")
				for _, src := range []netip.Addr{added, other, insideHost} {
					if err := w.gw.SendPacket(ipv4(src, firstVIP, "hello")); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if got := containsPacket(received(), ipv4(added, firstVIP, "hello")); got != tt.want {
					t.Errorf("from an added network: %v", got)
				}
				if containsPacket(received(), ipv4(other, firstVIP, "hello")) || !containsPacket(received(), ipv4(insideHost, firstVIP, "hello")) {
					t.Error("the gateway's own networks count no more")
				}
			})
		})
	}
}

// TestSAsForAddedNetworks: per-network selectors cover the Config's networks as well.
func TestSAsForAddedNetworks(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.client.Selectors = SelectorsPerNetwork
		w.client.Networks = []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12"), w.gateway.Settings.SplitInclude[0]}
		w.start()
		s := w.dial()
		var remotes []string
		for _, c := range s.Stats().Children {
			remotes = append(remotes, c.Remote.String())
		}
		slices.Sort(remotes)
		if want := []string{"10.10.0.0/16", "172.16.0.0/12"}; !slices.Equal(remotes, want) {
			t.Errorf("SAs for %v, want %v", remotes, want)
		}
	})
}

// TestInboundDestination: what a gateway sends for others, or in no form of ours, is
// dropped.
func TestInboundDestination(t *testing.T) {
	vip := netip.MustParseAddr("10.99.0.1")
	v6, far6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1")
	ipv6 := func(src, dst netip.Addr) []byte {
		p := make([]byte, 48)
		p[0] = 0x60
		copy(p[8:], src.AsSlice())
		copy(p[24:], dst.AsSlice())
		return p
	}
	s := new(Session)
	s.policy.Store(newPolicy(Assignment{Addresses: []netip.Prefix{netip.PrefixFrom(vip, 32), netip.PrefixFrom(v6, 128)}}, new(Config)))
	s.inbound.Store(&map[uint32]*childSA{
		1: {remote: netip.MustParsePrefix("10.10.0.0/16")}, 2: {remote: netip.MustParsePrefix("2001:db8:1::/48")},
	})
	for _, tt := range []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"to us", ipv4(insideHost, vip, ""), true},
		{"to us, IPv6", ipv6(far6, v6), true},
		{"to another client", ipv4(insideHost, vip.Next(), ""), false},
		{"to another client, IPv6", ipv6(far6, v6.Next()), false},
		{"to everybody", ipv4(insideHost, netip.MustParseAddr("255.255.255.255"), ""), false},
		{"to a group", ipv4(insideHost, netip.MustParseAddr("224.0.0.1"), ""), false},
		{"to loopback", ipv4(insideHost, netip.MustParseAddr("127.0.0.1"), ""), false},
		{"from outside all SAs", ipv4(netip.MustParseAddr("10.11.0.1"), vip, ""), false},
		{"from IPv6 loopback", ipv6(netip.IPv6Loopback(), v6), false},
		{"from nobody, IPv6", ipv6(netip.IPv6Unspecified(), v6), false},
		{"from an IPv6 group", ipv6(netip.MustParseAddr("ff02::1"), v6), false},
		{"cut short", ipv4(insideHost, vip, "")[:19], false},
		{"cut short, IPv6", ipv6(far6, v6)[:39], false},
		{"of another version", append([]byte{0x50}, make([]byte, 60)...), false},
		{"empty", nil, false},
	} {
		if got := s.allowedIn(tt.packet); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// TestOutboundPolicy: what no SA covers does not leave.
func TestOutboundPolicy(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.gateway.Narrow, w.gateway.Networks = true, []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16")}
		w.start()
		s := w.dial()
		ipv6 := append([]byte{0x60}, make([]byte, 60)...)
		for name, p := range map[string][]byte{
			"from another address": ipv4(netip.MustParseAddr("192.168.1.2"), insideHost, "x"),
			"to another network":   ipv4(firstVIP, netip.MustParseAddr("10.11.0.1"), "x"),
			"IPv6":                 ipv6,
			"no packet":            []byte("noise"),
			"of no bytes":          {},
		} {
			send(w.t, s, ipv4(firstVIP, insideHost, "covered"))
			synctest.Wait()
			before := len(w.sent(nil))
			send(w.t, s, p)
			if n := len(w.sent(nil)) - before; n != 0 {
				t.Errorf("%s: %d datagrams left", name, n)
			}
		}
		w.exchangePackets(s, receive(s), "what is covered")
	})
}

// TestBatches: good packets of a batch go out beside bad ones, with Flush and not
// before; what comes while nobody takes it is dropped.
func TestBatches(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		arrived := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.packets)
		}
		for i := range 10 {
			p := ipv4(firstVIP, insideHost, fmt.Sprint("out ", i))
			if i%3 == 0 {
				p[0] = 0x50
			}
			if err := s.WritePacket(withTail(p)); err != nil {
				t.Fatal(err)
			}
		}
		if n := arrived(); n != 0 {
			t.Errorf("%d packets arrived before Flush", n)
		}
		s.Flush()
		if n := arrived(); n != 6 {
			t.Errorf("%d packets arrived", n)
		}
		come := func(n int) (packets [][]byte) {
			for i := range n {
				packets = append(packets, ipv4(insideHost, firstVIP, fmt.Sprint("in ", i)))
				if err := w.gw.SendPacket(packets[i]); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			return packets
		}
		come(7)
		received := receive(s)
		want := come(7)
		if got := received(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("received %q, want %q", got, want)
		}
		s.Receive(nil)
		come(2)
		if n := len(received()); n != 7 {
			t.Errorf("%d packets after the end", n)
		}
	})
}

// TestVerdictIsOfNow: what was said of the last packet holds for the same addresses, for as
// long as the policy and the SAs are the same.
func TestVerdictIsOfNow(t *testing.T) {
	everywhere := &policy{local: []netip.Prefix{netip.PrefixFrom(firstVIP, 32)}}
	elsewhere := &policy{local: everywhere.local, sources: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}}
	all := map[uint32]*childSA{1: {remote: netip.MustParsePrefix("0.0.0.0/0")}}
	none := map[uint32]*childSA{}
	other, loopback := netip.MustParseAddr("10.99.0.77"), netip.MustParseAddr("127.0.0.1")
	var s Session
	for i, step := range []struct {
		src, dst netip.Addr
		policy   *policy
		inbound  *map[uint32]*childSA
		want     bool
	}{
		{insideHost, firstVIP, everywhere, &all, true},
		{insideHost, firstVIP, elsewhere, &all, false},
		{insideHost, firstVIP, everywhere, &all, true},
		{insideHost, firstVIP, everywhere, &none, false},
		{insideHost, firstVIP, everywhere, &all, true},
		{insideHost, other, everywhere, &all, false},
		{insideHost, firstVIP, everywhere, &all, true},
		{loopback, firstVIP, everywhere, &all, false},
		{insideHost, firstVIP, everywhere, &all, true},
	} {
		s.policy.Store(step.policy)
		s.inbound.Store(step.inbound)
		for range 2 {
			if got := s.allowedIn(ipv4(step.src, step.dst, "")); got != step.want {
				t.Errorf("step %d: allowed is %v", i, got)
			}
		}
	}
	for range 2 {
		if s.allowedIn([]byte{0x45}) {
			t.Error("a packet without addresses is allowed")
		}
	}
}

// TestRekeyAtOnce: the batch that wears an SA's keys out, in either direction, has it
// renewed, also if it goes past what is enough.
func TestRekeyAtOnce(t *testing.T) {
	const enough = 10
	for name, carry := range map[string]func(*testing.T, *Session, *foreignSA, int){
		"out": func(t *testing.T, s *Session, _ *foreignSA, n int) {
			for range n {
				if err := s.WritePacket(withTail(ipv4(firstVIP, insideHost, "out"))); err != nil {
					t.Fatal(err)
				}
			}
			s.Flush()
		},
		"in": func(t *testing.T, s *Session, sa *foreignSA, n int) {
			var packets [][]byte
			for range n {
				packets = append(packets, sa.seal(t, ipv4(insideHost, firstVIP, "in")))
			}
			byOwner(t, s, func() { s.receiveESP(packets) })
		},
	} {
		for _, last := range []int{1, 3} {
			t.Run(fmt.Sprint(name, " ", last), func(t *testing.T) {
				inWorlds(t, func(w *world) {
					w.start()
					s := w.dial()
					sa := newForeignSA(t, s, 0x11111111)
					sa.child.rekeyAfter, sa.child.active = enough, true
					w.do(s, func() { s.install(sa.child) })
					carry(t, s, sa, enough-1)
					synctest.Wait()
					if n := len(w.messages(gateway.QM1)); n != 1 {
						t.Errorf("%d Quick Modes before the last packet", n)
					}
					carry(t, s, sa, last)
					synctest.Wait()
					if n := len(w.messages(gateway.QM1)); n != 2 {
						t.Errorf("%d Quick Modes", n)
					}
				})
			})
		}
	}
}

// TestCountsOfABatch: each SA of a batch counts its packets.
func TestCountsOfABatch(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		first, second := newForeignSA(t, s, 0x11111111), newForeignSA(t, s, 0x22222222)
		w.do(s, func() { s.install(first.child); s.install(second.child) })
		packet := ipv4(insideHost, firstVIP, "hello")
		byOwner(t, s, func() {
			s.receiveESP([][]byte{first.seal(t, packet), first.seal(t, packet), second.seal(t, packet), first.seal(t, packet)})
		})
		if one, two := first.child.in.Stats().Packets, second.child.in.Stats().Packets; one != 3 || two != 1 {
			t.Errorf("counted %d and %d", one, two)
		}
	})
}

// TestReplayedESP: a packet that comes twice is delivered once, and counted.
func TestReplayedESP(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		w.setRule(func(_, _ netip.AddrPort, data []byte) []gateway.Delivery {
			broken := bytes.Clone(data)
			broken[len(broken)-1] ^= 1
			return []gateway.Delivery{{Datagram: broken}, {Datagram: data}, {Datagram: data}, {After: time.Second, Datagram: data}}
		})
		for i := range 5 {
			if err := w.gw.SendPacket(ipv4(insideHost, firstVIP, fmt.Sprint(i))); err != nil {
				w.t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if got := received(); len(got) != 5 {
			t.Errorf("%d packets", len(got))
		}
		if c := s.Stats().Children[0]; c.PacketsIn != 5 || c.Replayed != 10 || c.BadICV != 5 {
			t.Errorf("%+v", c)
		}
	})
}

// foreignSA is an ESP SA of which a test has both ends.
type foreignSA struct {
	child *childSA
	out   *esp.Outbound // the gateway's end
}

func newForeignSA(t testing.TB, s *Session, spi uint32) *foreignSA {
	t.Helper()
	suite, err := ParseESPSuite("aes128gcm16")
	if err != nil {
		t.Fatal(err)
	}
	tr := suite.transform()
	keymat := make([]byte, tr.KeyMaterialLen())
	rand.Read(keymat)
	out, err := esp.NewOutbound(tr, spi, keymat, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	in, err := esp.NewInbound(tr, spi, keymat)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := esp.NewOutbound(tr, spi, keymat, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pair := s.pairs[0]
	now := time.Now()
	return &foreignSA{out: out, child: &childSA{
		spiIn: spi, spiOut: spi, suite: suite, pair: pair, local: pair.local, remote: pair.remote,
		established: now, expires: now.Add(time.Hour), rekeyAt: now.Add(time.Hour), rekeyAfter: rekeySequence,
		headerLen: tr.HeaderLen(), in: in, out: mine,
	}}
}

// seal makes an ESP packet of the gateway.
func (f *foreignSA) seal(t testing.TB, inner []byte) []byte {
	t.Helper()
	buf := make([]byte, esp.MaxHeadroom+len(inner), esp.MaxHeadroom+len(inner)+esp.MaxTailroom)
	copy(buf[esp.MaxHeadroom:], inner)
	packet, err := f.out.Seal(buf[:cap(buf)], esp.MaxHeadroom, len(inner))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(packet)
}

// TestEarlyESP: packets on an SA that is still being negotiated wait for it: sixteen
// of them, for two seconds.
func TestEarlyESP(t *testing.T) {
	for _, tt := range []struct {
		wait time.Duration
		want int
	}{{time.Second, 16}, {2 * time.Second, 16}, {2*time.Second + time.Millisecond, 0}} {
		inWorlds(t, func(w *world) {
			w.start()
			s := w.dial()
			received := receive(s)
			spi, err := s.reserve()
			if err != nil {
				w.t.Fatal(err)
			}
			f := newForeignSA(w.t, s, spi)
			var early [][]byte
			for i := range 20 {
				early = append(early, f.seal(w.t, ipv4(insideHost, firstVIP, fmt.Sprint("early ", i))))
			}
			w.spoof(early...)
			w.spoof(append(be32(spi+1), make([]byte, 60)...)) // of nobody
			time.Sleep(tt.wait)
			w.do(s, func() { s.install(f.child) })
			synctest.Wait()
			got := received()
			if len(got) != tt.want {
				t.Errorf("%d packets after %v", len(got), tt.wait)
			}
			for i, p := range got {
				if !bytes.Equal(p, ipv4(insideHost, firstVIP, fmt.Sprint("early ", i))) {
					t.Errorf("packet %d is %q", i, p)
				}
			}
		})
	}
}

// TestStaleHeldPackets do not take the place of later ones.
func TestStaleHeldPackets(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.start()
		s := w.dial()
		received := receive(s)
		for round := range 2 {
			spi, err := s.reserve()
			if err != nil {
				w.t.Fatal(err)
			}
			f := newForeignSA(w.t, s, spi)
			var early [][]byte
			for i := range maxHeldPackets {
				early = append(early, f.seal(w.t, ipv4(insideHost, firstVIP, fmt.Sprint(round, i))))
			}
			w.spoof(early...)
			if round == 0 { // this negotiation comes to nothing
				time.Sleep(heldFor + time.Second)
				s.release(spi)
				continue
			}
			w.do(s, func() { s.install(f.child) })
			synctest.Wait()
		}
		if n := len(received()); n != maxHeldPackets {
			t.Errorf("%d packets", n)
		}
	})
}

// TestMTU: what fits a path of 1,400 bytes, and never more than 1,300.
func TestMTU(t *testing.T) {
	for suite, want := range map[string]int{"aes256gcm16": 1300, "aes256-sha1": 1300, "aes256-sha512": 1300, "3des-sha1": 1300} {
		inWorlds(t, func(w *world) {
			w.client.ESP, w.client.AllowWeak = suites(w.t, ParseESPSuite, suite), Weak3DES
			w.start()
			s := w.dial()
			if got := s.MTU(); got != want {
				t.Errorf("%s: MTU %d", suite, got)
			}
			buf := bytes.Repeat([]byte{'x'}, want-28)
			send(w.t, s, ipv4(firstVIP, insideHost, string(buf)))
			sent := w.sent(byClient)
			if n := len(sent[len(sent)-1].data) + 28; n > pathMTU {
				t.Errorf("%s: a packet of %d bytes on the wire", suite, n)
			}
		})
	}
}

// loopbackGateway runs a gateway on a real socket on loopback until the test ends, and says
// how to connect to it.
func loopbackGateway(t testing.TB) *Config {
	t.Helper()
	creds, err := gateway.SelfSigned("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	gw, err := gateway.New(gateway.Config{
		Chain: creds.Chain, Key: creds.Key, Users: map[string]string{testLogin: testPassword}, Pool: netip.MustParsePrefix("10.99.0.0/24"),
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		gw.Serve(ctx, gateway.Socket{Conn: conn, NonESP: true})
	}()
	t.Cleanup(func() { stop(); <-served })
	return &Config{
		Gateway: conn.LocalAddr().String(), Login: testLogin, Password: Secret(testPassword),
		Trust: Trust{CAs: []*x509.Certificate{creds.CA}}, IKE: suites(t, ParseIKESuite, "aes256-sha256-ecp256"),
	}
}

// loopbackSession connects over real sockets on loopback.
func loopbackSession(t testing.TB) *Session {
	t.Helper()
	s, err := Dial(t.Context(), loopbackGateway(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestHoldAfterAll: a packet whose SA is installed while it is looked for is not lost.
func TestHoldAfterAll(t *testing.T) {
	s := loopbackSession(t)
	c := s.newest.Load()
	byOwner(t, s, func() {
		if got := s.hold(c.spiIn, []byte("packet")); got != c || len(s.held) != 0 {
			t.Errorf("its SA is %p, want %p; %d packets wait", got, c, len(s.held))
		}
		if got := s.hold(c.spiIn+1, []byte("packet")); got != nil || len(s.held) != 0 {
			t.Errorf("noise has the SA %p; %d packets wait", got, len(s.held))
		}
	})
}

// TestSparse: of what happens at the pace of packets the first of each second is told.
func TestSparse(t *testing.T) {
	var q sparse
	var told []int64
	for i := range int64(35) {
		if passed, ok := q.next(1 + i*int64(100*time.Millisecond)); ok {
			told = append(told, passed)
		}
	}
	if !slices.Equal(told, []int64{0, 9, 9, 9}) {
		t.Errorf("told after %v", told)
	}
}

// TestSort: runs are taken apart, of whatever lengths; an empty datagram is none. What does
// not come from the gateway's address is dropped; its port says nothing.
func TestSort(t *testing.T) {
	s := loopbackSession(t)
	runs := []struct {
		size, segment int
		from          netip.AddrPort
	}{
		{0, 0, netip.AddrPortFrom(s.transport.gateway, portNATT)},
		{1400, 1400, netip.AddrPortFrom(s.transport.gateway, portNATT)},
		{2500, 1000, netip.AddrPortFrom(s.transport.gateway, 54321)},
		{2400, 800, netip.AddrPortFrom(s.transport.gateway.Next(), portNATT)},
		{3000, 1000, netip.AddrPortFrom(s.transport.gateway, portNATT)},
	}
	a := allArrivals(len(runs))
	for i, run := range runs {
		for j := range run.size {
			a.bufs[i][j] = byte(1 + i)
		}
		a.sizes[i], a.segments[i], a.from[i] = run.size, run.segment, run.from
	}
	s.transport.sort(s.transport.conn, a, len(runs))
	var got []int
	for _, packet := range a.esp {
		got = append(got, int(packet[0])<<16|len(packet))
		if cap(packet) != len(packet) {
			t.Errorf("a packet of %d bytes has room for %d: the next one begins there", len(packet), cap(packet))
		}
	}
	if want := []int{2<<16 | 1400, 3<<16 | 1000, 3<<16 | 1000, 3<<16 | 500, 5<<16 | 1000, 5<<16 | 1000, 5<<16 | 1000}; !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// TestOverUDP: everything over real sockets, whose fast path the memory network
// does not have.
func TestOverUDP(t *testing.T) {
	s := loopbackSession(t)
	if st := s.Stats(); st.Local.Addr() != netip.MustParseAddr("127.0.0.1") || st.Local.Port() == 0 {
		t.Errorf("we are at %v", st.Local)
	}
	if _, ok := s.transport.conn.conn.(addrPortConn); !ok || s.transport.conn.fast == nil {
		t.Error("the fast path is not used")
	}
	if s.Assignment().Addresses[0].Addr() != firstVIP {
		t.Errorf("%+v", s.Assignment())
	}
}
