package gateway

import (
	"net/netip"
	"testing"
	"time"

	"wayfarer/ike/isakmp"
)

// fuzzGateway is a gateway without a loop, and a path to it.
func fuzzGateway(f *testing.F) (*Gateway, path) {
	creds, err := SelfSigned("gw.demo.test")
	if err != nil {
		f.Fatal(err)
	}
	g, err := New(Config{Chain: creds.Chain, Key: creds.Key, Users: map[string]string{"ada": "secret"}, Pool: netip.MustParsePrefix("10.99.0.0/24")})
	if err != nil {
		f.Fatal(err)
	}
	close(g.stopped) // its timers have nothing to do
	conn, err := NewNet().Listen(gatewayAt)
	if err != nil {
		f.Fatal(err)
	}
	return g, path{sock: &socket{Socket: Socket{Conn: conn, NonESP: true}, local: gatewayAt}, peer: clientAt}
}

// FuzzReceive throws datagrams at the gateway. Nothing may panic, and the number of
// SAs stays within its bound.
func FuzzReceive(f *testing.F) {
	g, p := fuzzGateway(f)
	for _, s := range []string{"", "\xff", nonESPMarker, "\x00\x00\x01\x00abcdefgh"} {
		f.Add([]byte(s))
	}
	h := isakmp.Header{CKYI: isakmp.Cookie{1}, Version: isakmp.Version1, Exchange: isakmp.MainMode}
	for _, exchange := range []isakmp.ExchangeType{isakmp.MainMode, isakmp.AggressiveMode, isakmp.Transaction} {
		h.Exchange = exchange
		f.Add(isakmp.AppendMessage([]byte(nonESPMarker), h, isakmp.Payload{Type: isakmp.PayloadSA, Body: make([]byte, 40)}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g.receive(datagram{path: p, data: append([]byte(nil), data...)})
		if len(g.sas) > maxSAs {
			t.Errorf("%d SAs", len(g.sas))
		}
	})
}

// FuzzPhase2 hands the exchanges after phase 1 decrypted messages with a right HASH:
// what a client that has signed in, but means ill, can send.
func FuzzPhase2(f *testing.F) {
	g, p := fuzzGateway(f)
	suite, err := parseIKESuite("aes128-sha256-ecp256")
	if err != nil {
		f.Fatal(err)
	}
	block, err := suite.cipher.block(make([]byte, 16))
	if err != nil {
		f.Fatal(err)
	}
	id := isakmp.Payload{Type: isakmp.PayloadID, Body: selector(netip.MustParsePrefix("10.99.0.1/32"))}
	f.Add(uint8(0), uint8(isakmp.PayloadAttribute), isakmp.AppendPayloads(nil, isakmp.Payload{
		Type: isakmp.PayloadAttribute,
		Body: isakmp.Config{Type: isakmp.ConfigRequest, Attributes: []isakmp.Attribute{{Type: 1, Value: []byte{10, 99, 0, 1}}}}.Append(nil),
	}))
	f.Add(uint8(1), uint8(isakmp.PayloadSA), isakmp.AppendPayloads(nil, isakmp.Payload{Type: isakmp.PayloadSA, Body: isakmp.SA{
		DOI: 1, Situation: 1, Proposals: []isakmp.Proposal{{Protocol: isakmp.ProtoESP, SPI: []byte{1, 2, 3, 4}, Transforms: []isakmp.Transform{{
			ID: isakmp.ESPAESGCM16, Attributes: espSuite{cipher: cipherRows[4]}.attributes(isakmp.EncapUDPTunnel, 60),
		}}}},
	}.Append(nil)},
		isakmp.Payload{Type: isakmp.PayloadNonce, Body: make([]byte, 16)}, id, id))
	f.Add(uint8(2), uint8(isakmp.PayloadDelete), isakmp.AppendPayloads(nil, isakmp.Payload{
		Type: isakmp.PayloadDelete,
		Body: isakmp.Delete{DOI: 1, Protocol: isakmp.ProtoESP, SPISize: 4, SPIs: [][]byte{{1, 2, 3, 4}}}.Append(nil),
	}))
	mid := uint32(0)
	f.Fuzz(func(t *testing.T, exchange, first uint8, body []byte) {
		ps, padding, err := isakmp.ParsePayloads(isakmp.PayloadType(first), body)
		if err != nil {
			return
		}
		s := &sa{
			gw: g, log: g.log, path: p, state: ready, created: time.Now(), lifetime: time.Hour, suite: suite, block: block, user: "ada",
			phase1IV: chain{make([]byte, 16)}, keys: phase1Keys{skeyidA: []byte("a"), skeyidD: []byte("d")},
			chains: make(map[uint32]*chain), requests: make(map[uint32]*request), quick: make(map[uint32]*quickMode),
		}
		s.natt, s.peer.unity = natVariants[0], true
		g.sas[cookies{s.ckyI, s.ckyR}] = s
		defer s.drop("end")
		if g.assign(s, netip.MustParseAddr("10.99.0.1")); !s.address.IsValid() {
			t.Fatal("the pool leaks addresses")
		}
		mid++
		rest := body[:len(body)-len(padding)]
		r := &received{sa: s, path: p, header: isakmp.Header{MessageID: mid}, opened: &opened{
			payloads: ps, rest: rest, next: make([]byte, 16), hash: suite.hash.hash.phase2Hash(s.keys.skeyidA, mid, nil, rest),
		}}
		// A refused message is as good as an accepted one here.
		switch exchange % 3 {
		case 0:
			r.header.Exchange = isakmp.Transaction
			_ = s.transaction(r)
		case 1:
			r.header.Exchange = isakmp.QuickMode
			_ = s.quickMode(r)
		case 2:
			r.header.Exchange = isakmp.Informational
			_ = s.informational(r)
		}
	})
}
