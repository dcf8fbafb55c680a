package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/esp"
	"wayfarer/ike/isakmp"
)

var (
	gatewayAt = netip.MustParseAddrPort("192.0.2.1:4500")
	clientAt  = netip.MustParseAddrPort("198.51.100.7:40000")
)

// world is a gateway on one socket with the non-ESP marker, in virtual time.
type world struct {
	t       *testing.T
	net     *Net
	gateway *Gateway
	stop    context.CancelFunc
	served  chan error
	conn    net.PacketConn // the gateway's

	mu      sync.Mutex
	packets [][]byte // inner packets that arrived
}

// inWorld runs test with a gateway that change may configure.
func inWorld(t *testing.T, change func(*Config), test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: NewNet()}
		w.serve(change)
		defer func() {
			w.stop()
			<-w.served
		}()
		test(w)
	})
}

func (w *world) serve(change func(*Config)) {
	w.t.Helper()
	creds, err := SelfSigned("gw.demo.test")
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := Config{
		Chain: creds.Chain, Key: creds.Key, Users: map[string]string{"ada": "secret", "bob": "hidden"},
		Pool: netip.MustParsePrefix("10.99.0.0/24"), Settings: Settings{Banner: "Welcome"},
		Packets: func(_ netip.Addr, packet []byte) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.packets = append(w.packets, packet)
		},
	}
	if change != nil {
		change(&cfg)
	}
	if w.gateway, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	w.conn = listen(w.t, w.net, gatewayAt)
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop, w.served = cancel, make(chan error, 1)
	go func() { w.served <- w.gateway.Serve(ctx, Socket{Conn: w.conn, NonESP: true}) }()
}

// initiator is a client that does one thing at a time. It uses the gateway's own
// key derivation, which other tests check against the outside world.
type initiator struct {
	*sa
	w        *world
	conn     net.PacketConn
	user     string
	password string
	offer    []isakmp.Attribute // phase 1
	vendors  [][]byte
	espOffer espSuite
	mode     uint16

	key  *dhKey
	esp  [][]byte // ESP datagrams that were received instead of IKE
	sent []byte   // the last datagram of ours, without marker
}

func (w *world) newInitiator(at netip.AddrPort) *initiator {
	suite, err := parseIKESuite("aes128-sha256-ecp256")
	if err != nil {
		w.t.Fatal(err)
	}
	i := &initiator{
		w: w, conn: listen(w.t, w.net, at), user: "ada", password: "secret", mode: isakmp.EncapUDPTunnel,
		espOffer: espSuite{cipher: row(cipherRows, func(c *cipherRow) bool { return c.name == "aes128gcm16" })},
		offer: []isakmp.Attribute{
			isakmp.BasicAttribute(isakmp.AttrEncryption, isakmp.CipherAESCBC),
			isakmp.BasicAttribute(isakmp.AttrKeyLength, 128),
			isakmp.BasicAttribute(isakmp.AttrHash, isakmp.HashSHA256),
			isakmp.BasicAttribute(isakmp.AttrGroup, isakmp.GroupECP256),
			isakmp.BasicAttribute(isakmp.AttrAuthMethod, isakmp.AuthHybridInitRSA),
			isakmp.BasicAttribute(isakmp.AttrLifeType, isakmp.LifeSeconds),
			isakmp.NumberAttribute(isakmp.AttrLifeDuration, 86400),
		},
	}
	for _, v := range vendorIDs {
		i.vendors = append(i.vendors, []byte(v.id))
	}
	i.vendors = append(i.vendors, []byte(natVariants[0].ids[0]))
	gw := &Gateway{log: slog.New(slog.DiscardHandler)}
	gw.cfg.Rand = w.gateway.cfg.Rand
	gw.cfg.FragmentSize = w.gateway.cfg.FragmentSize
	i.sa = &sa{gw: gw, suite: suite, method: authMethods[0], chains: make(map[uint32]*chain), exchange: isakmp.MainMode}
	i.gw.random(i.ckyI[:])
	return i
}

// transmit sends an IKE message.
func (i *initiator) transmit(raw []byte) {
	i.w.t.Helper()
	i.sent = raw
	if _, err := i.conn.WriteTo(append([]byte(nonESPMarker), raw...), net.UDPAddrFromAddrPort(gatewayAt)); err != nil {
		i.w.t.Fatal(err)
	}
}

// say encodes and sends m.
func (i *initiator) say(m *Message) { i.transmit(i.encode(m)) }

// raw waits for the next IKE datagram, nil if none comes in a minute.
func (i *initiator) raw() []byte { return i.rawWithin(time.Minute) }

func (i *initiator) rawWithin(d time.Duration) []byte {
	i.w.t.Helper()
	buf := make([]byte, 1<<16)
	i.conn.SetReadDeadline(time.Now().Add(d))
	for {
		n, _, err := i.conn.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			i.w.t.Fatal(err)
		case string(buf[:4]) == nonESPMarker:
			return slices.Clone(buf[4:n])
		default:
			i.esp = append(i.esp, slices.Clone(buf[:n]))
		}
	}
}

// hear decodes the next message of the gateway and checks its HASH; nil is silence.
func (i *initiator) hear() *Message {
	i.w.t.Helper()
	raw := i.raw()
	if raw == nil {
		return nil
	}
	return i.decode(raw)
}

func (i *initiator) decode(raw []byte) *Message {
	i.w.t.Helper()
	h, body, err := isakmp.ParseHeader(raw)
	if err != nil {
		i.w.t.Fatal(err)
	}
	if h.NextPayload == isakmp.PayloadFragment {
		if whole := i.assembly.add(i.gw, h, body); whole != nil {
			return i.decode(whole)
		}
		return i.hear()
	}
	if !h.Encrypted() {
		ps, _, err := isakmp.ParsePayloads(h.NextPayload, body)
		if err != nil {
			i.w.t.Fatal(err)
		}
		i.ckyR = h.CKYR
		return &Message{Header: h, Payloads: ps}
	}
	iv := i.phase1IV.iv
	if !phase1(h) {
		iv = i.receivedIV(h)
	}
	o, err := i.open(h, body, iv)
	if err != nil {
		i.w.t.Fatalf("%v: %v", h.Exchange, err)
	}
	switch {
	case phase1(h):
		i.phase1IV.iv = o.next
	case h.Exchange != isakmp.Informational:
		i.keepChain(h.MessageID, &chain{o.next})
	}
	if hash := i.suite.hash.hash.phase2Hash(i.keys.skeyidA, h.MessageID, nil, o.rest); h.Exchange != isakmp.QuickMode &&
		!phase1(h) && string(hash) != string(o.hash) {
		i.w.t.Fatalf("wrong HASH in %v", h.Exchange)
	}
	return &Message{Header: h, Payloads: o.payloads, Hash: func([]byte) []byte { return o.hash }}
}

// expect takes the next message and insists on its exchange.
func (i *initiator) expect(exchange isakmp.ExchangeType) *Message {
	i.w.t.Helper()
	m := i.hear()
	if m == nil || m.Header.Exchange != exchange {
		i.w.t.Fatalf("got %+v instead of %v", m, exchange)
	}
	return m
}

// notified takes the next message, which must be a Notify, and returns it.
func (i *initiator) notified() isakmp.Notify {
	i.w.t.Helper()
	n, err := isakmp.ParseNotify(i.expect(isakmp.Informational).Payload(isakmp.PayloadNotify))
	if err != nil {
		i.w.t.Fatal(err)
	}
	return n
}

// deletion takes the next message, which must be a Delete.
func (i *initiator) deletion() isakmp.Delete {
	i.w.t.Helper()
	d, err := isakmp.ParseDelete(i.expect(isakmp.Informational).Payload(isakmp.PayloadDelete))
	if err != nil {
		i.w.t.Fatal(err)
	}
	return d
}

func (i *initiator) saPayload(m *Message) {
	i.saiBody = isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{{
		Number: 1, Protocol: isakmp.ProtoISAKMP, Transforms: []isakmp.Transform{{Number: 1, ID: isakmp.TransformKeyIKE, Attributes: i.offer}},
	}}}.Append(nil)
	m.Add(isakmp.PayloadSA, i.saiBody)
}

func (i *initiator) keyPayloads(m *Message) {
	var err error
	if i.key, err = i.suite.group.newKey(i.gw.cfg.Rand); err != nil {
		i.w.t.Fatal(err)
	}
	i.gxi, i.ni = i.key.public, make([]byte, nonceLen)
	i.gw.random(i.ni)
	m.Add(isakmp.PayloadKE, i.gxi)
	m.Add(isakmp.PayloadNonce, i.ni)
}

func (i *initiator) mm1() *Message {
	m := &Message{Step: MM1, Header: i.header(isakmp.MainMode, 0, false)}
	i.saPayload(m)
	for _, v := range i.vendors {
		m.Add(isakmp.PayloadVendorID, v)
	}
	return m
}

func (i *initiator) mm3() *Message {
	m := &Message{Step: MM3, Header: i.header(isakmp.MainMode, 0, false)}
	i.keyPayloads(m)
	h := i.suite.hash.hash
	m.Add(isakmp.PayloadNATD, h.natHash(i.ckyI, i.ckyR, gatewayAt))
	m.Add(isakmp.PayloadNATD, h.natHash(i.ckyI, i.ckyR, clientAt))
	return m
}

// takeKeys derives the keys from the gateway's KE and nonce.
func (i *initiator) takeKeys(m *Message) {
	i.w.t.Helper()
	i.gxr, i.nr = m.Payload(isakmp.PayloadKE), m.Payload(isakmp.PayloadNonce)
	gxy, err := i.key.secret(i.gxr)
	if err != nil {
		i.w.t.Fatal(err)
	}
	h := i.suite.hash.hash
	skeyid, err := i.skeyid(gxy)
	if err != nil {
		i.w.t.Fatal(err)
	}
	i.keys = h.deriveKeys(skeyid, gxy, i.ckyI, i.ckyR)
	if i.block, err = i.suite.cipher.block(h.cipherKey(i.keys.skeyidE, i.suite.cipher.keyLen)); err != nil {
		i.w.t.Fatal(err)
	}
	i.phase1IV.iv = h.phase1IV(i.gxi, i.gxr, i.block.BlockSize())
}

func (i *initiator) mm5() *Message {
	m := &Message{Step: MM5, Header: i.header(isakmp.MainMode, 0, true)}
	i.idiBody = isakmp.ID{Type: isakmp.IDIPv4Addr, Data: []byte{198, 51, 100, 7}}.Append(nil)
	m.Add(isakmp.PayloadID, i.idiBody)
	m.Add(isakmp.PayloadHash, i.hashI(i.idiBody))
	return m
}

// phase1Main goes through Main Mode and returns MM6.
func (i *initiator) phase1Main() *Message {
	i.w.t.Helper()
	i.say(i.mm1())
	i.expect(isakmp.MainMode)
	i.say(i.mm3())
	i.takeKeys(i.expect(isakmp.MainMode))
	i.say(i.mm5())
	return i.expect(isakmp.MainMode)
}

// config sends an ATTR payload.
func (i *initiator) config(step Step, mid uint32, typ isakmp.ConfigType, as ...isakmp.Attribute) {
	m := &Message{Step: step, Header: i.header(isakmp.Transaction, mid, true)}
	m.Add(isakmp.PayloadAttribute, isakmp.Config{Type: typ, Identifier: 7, Attributes: as}.Append(nil))
	i.say(m)
}

// expectConfig takes the next message, which must be an ATTR payload of that type.
func (i *initiator) expectConfig(typ isakmp.ConfigType) (uint32, isakmp.Config) {
	i.w.t.Helper()
	m := i.expect(isakmp.Transaction)
	c, err := isakmp.ParseConfig(m.Payload(isakmp.PayloadAttribute))
	if err != nil || c.Type != typ {
		i.w.t.Fatalf("got %v (%v) instead of %v", c.Type, err, typ)
	}
	return m.Header.MessageID, c
}

// login answers XAUTH and returns the gateway's STATUS.
func (i *initiator) login() uint64 {
	i.w.t.Helper()
	mid, _ := i.expectConfig(isakmp.ConfigRequest)
	i.config(XAuthReply, mid, isakmp.ConfigReply,
		isakmp.Attribute{Type: isakmp.XAuthUserName, Value: []byte(i.user)},
		isakmp.Attribute{Type: isakmp.XAuthPassword, Value: []byte(i.password)})
	mid, c := i.expectConfig(isakmp.ConfigSet)
	status, _ := isakmp.Find(c.Attributes, isakmp.XAuthStatus)
	i.config(XAuthAck, mid, isakmp.ConfigAck, status)
	v, _ := status.Uint()
	return v
}

// settingsFor asks for the settings, and for an address unless it is not valid.
func (i *initiator) settingsFor(wish netip.Addr) []isakmp.Attribute {
	i.w.t.Helper()
	a := isakmp.Attribute{Type: isakmp.CfgIP4Address}
	if wish.IsValid() {
		a.Value = wish.AsSlice()
	}
	i.config(ConfigRequest, i.newMID(), isakmp.ConfigRequest, a)
	_, c := i.expectConfig(isakmp.ConfigReply)
	if given, ok := isakmp.Find(c.Attributes, isakmp.CfgIP4Address); ok {
		i.address = netip.AddrFrom4([4]byte(given.Value))
	}
	return c.Attributes
}

// tunnel is what Quick Mode gave to the client.
type tunnel struct {
	in     *esp.Inbound
	out    *esp.Outbound
	header int
}

// quick1 begins a Quick Mode.
func (i *initiator) quick1(q *quickMode) *Message {
	i.w.t.Helper()
	q.spiIn, q.ni = i.gw.newSPI(), make([]byte, nonceLen)
	i.gw.random(q.ni)
	m := &Message{Step: QM1, Header: i.header(isakmp.QuickMode, i.newMID(), true)}
	m.Add(isakmp.PayloadSA, isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{{
		Number: 1, Protocol: isakmp.ProtoESP, SPI: midBytes(q.spiIn), Transforms: []isakmp.Transform{{
			Number: 1, ID: q.suite.cipher.esp, Attributes: q.suite.attributes(i.mode, 7200),
		}},
	}}}.Append(nil))
	m.Add(isakmp.PayloadNonce, q.ni)
	if q.suite.group != nil {
		var err error
		if q.key, err = q.suite.group.newKey(i.gw.cfg.Rand); err != nil {
			i.w.t.Fatal(err)
		}
		m.Add(isakmp.PayloadKE, q.key.public)
	}
	m.Add(isakmp.PayloadID, selector(q.client))
	m.Add(isakmp.PayloadID, selector(q.remote))
	return m
}

// quick goes through a Quick Mode as initiator and returns QM2.
func (i *initiator) quick(suite espSuite, remote string) (*tunnel, *Message) {
	i.w.t.Helper()
	q := &quickMode{suite: suite, client: netip.PrefixFrom(i.address, 32), remote: netip.MustParsePrefix(remote)}
	qm1 := i.quick1(q)
	i.say(qm1)
	qm2 := i.expect(isakmp.QuickMode)
	rest := isakmp.AppendPayloads(nil, qm2.Payloads...)
	if want := i.suite.hash.hash.phase2Hash(i.keys.skeyidA, qm1.Header.MessageID, q.ni, rest); string(qm2.Hash(nil)) != string(want) {
		i.w.t.Fatal("wrong HASH(2)")
	}
	i.finish(q, qm2)
	i.say(&Message{Step: QM3, Header: i.header(isakmp.QuickMode, qm1.Header.MessageID, true), niBody: q.ni, nrBody: q.nr})
	return i.keyTunnel(q), qm2
}

// finish reads the peer's half of a Quick Mode.
func (i *initiator) finish(q *quickMode, m *Message) {
	i.w.t.Helper()
	chosen, err := isakmp.ParseSA(m.Payload(isakmp.PayloadSA))
	if err != nil || len(chosen.Proposals) != 1 {
		i.w.t.Fatalf("SA: %+v, %v", chosen, err)
	}
	q.spiOut = binary.BigEndian.Uint32(chosen.Proposals[0].SPI)
	q.nr = m.Payload(isakmp.PayloadNonce)
	if q.key != nil {
		if q.gxy, err = q.key.secret(m.Payload(isakmp.PayloadKE)); err != nil {
			i.w.t.Fatal(err)
		}
	}
}

func (i *initiator) keyTunnel(q *quickMode) *tunnel {
	i.w.t.Helper()
	tr := q.suite.transform()
	keymat := func(spi uint32) []byte {
		return i.suite.hash.hash.keymat(i.keys.skeyidD, q.gxy, spi, q.ni, q.nr, tr.KeyMaterialLen())
	}
	in, err1 := esp.NewInbound(tr, q.spiIn, keymat(q.spiIn))
	out, err2 := esp.NewOutbound(tr, q.spiOut, keymat(q.spiOut), i.gw.cfg.Rand)
	if err := errors.Join(err1, err2); err != nil {
		i.w.t.Fatal(err)
	}
	return &tunnel{in: in, out: out, header: tr.HeaderLen()}
}

// connect does everything up to the first tunnel.
func (w *world) connect() (*initiator, *tunnel) {
	w.t.Helper()
	i := w.newInitiator(clientAt)
	i.phase1Main()
	if i.login() != uint64(isakmp.XAuthOK) {
		w.t.Fatal("the login was refused")
	}
	i.settingsFor(netip.Addr{})
	tun, _ := i.quick(i.espOffer, "0.0.0.0/0")
	synctest.Wait()
	return i, tun
}

// packet is an inner IPv4 packet with some content.
func packet(src, dst netip.Addr, content string) []byte {
	b := make([]byte, 20, 20+len(content))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(content)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	return append(b, content...)
}

// sendInner sends an inner packet through a tunnel.
func (i *initiator) sendInner(tun *tunnel, inner []byte) {
	i.w.t.Helper()
	buf := append(append(make([]byte, esp.MaxHeadroom), inner...), make([]byte, esp.MaxTailroom)...)
	sealed, err := tun.out.Seal(buf, esp.MaxHeadroom, len(inner))
	if err != nil {
		i.w.t.Fatal(err)
	}
	if _, err := i.conn.WriteTo(sealed, net.UDPAddrFromAddrPort(gatewayAt)); err != nil {
		i.w.t.Fatal(err)
	}
	synctest.Wait()
}

// arrived takes the inner packets that the gateway got.
func (w *world) arrived() [][]byte {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	ps := w.packets
	w.packets = nil
	return ps
}

// inner reads what the gateway sent through a tunnel in the next second.
func (i *initiator) inner(tun *tunnel) []string {
	i.w.t.Helper()
	if i.rawWithin(time.Second) != nil {
		i.w.t.Fatal("an IKE message instead of ESP")
	}
	var contents []string
	for _, p := range i.esp {
		inner, err := tun.in.Open(make([]byte, len(p)), p)
		if err != nil {
			i.w.t.Fatal(err)
		}
		contents = append(contents, string(inner[20:]))
	}
	i.esp = nil
	return contents
}
