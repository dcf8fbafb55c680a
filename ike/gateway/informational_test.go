package gateway

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/ike/isakmp"
)

func (i *initiator) sayDPD(typ isakmp.NotifyType, mid, sequence uint32) {
	m := &Message{Step: Notify, Header: i.header(isakmp.Informational, mid, true)}
	m.Add(isakmp.PayloadNotify, isakmp.Notify{
		DOI: 1, Protocol: isakmp.ProtoISAKMP, SPI: append(i.ckyI[:], i.ckyR[:]...), Type: typ, Data: midBytes(sequence),
	}.Append(nil))
	i.say(m)
}

func TestDPDAnswer(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, _ := w.connect()
		for n, sequence := range []uint32{100, 101, 101, 7} { // every one is answered, as it is
			i.sayDPD(isakmp.NotifyRUThere, uint32(1000+n), sequence)
			ack := i.notified()
			if ack.Type != isakmp.NotifyRUThereAck || binary.BigEndian.Uint32(ack.Data) != sequence || string(ack.SPI) != string(append(i.ckyI[:], i.ckyR[:]...)) {
				t.Errorf("%+v", ack)
			}
		}
	})
}

// TestDPDReusesMID: some clients answer and ask under the M-ID of another exchange;
// the IV is derived anew all the same.
func TestDPDReusesMID(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, _ := w.connect()
		i.config(ConfigRequest, 77, isakmp.ConfigRequest)
		i.expectConfig(isakmp.ConfigReply)
		i.sayDPD(isakmp.NotifyRUThere, 77, 1)
		if ack := i.notified(); ack.Type != isakmp.NotifyRUThereAck {
			t.Errorf("%+v", ack)
		}
	})
}

// TestDPDProbes: after 20 s of silence the gateway probes every 20 s, three times,
// and gives the client up at the fourth.
func TestDPDProbes(t *testing.T) {
	inWorld(t, func(c *Config) { c.DPD = 20 * time.Second }, func(w *world) {
		i, tun := w.connect()
		began := time.Now()
		probe := func(want time.Duration) uint32 {
			t.Helper()
			n := i.notified()
			if at := time.Since(began); n.Type != isakmp.NotifyRUThere || at != want {
				t.Errorf("%v after %v, want a probe after %v", n.Type, at, want)
			}
			return binary.BigEndian.Uint32(n.Data)
		}
		first := probe(20 * time.Second)
		i.sayDPD(isakmp.NotifyRUThereAck, 1, first)
		time.Sleep(10 * time.Second)
		i.sendInner(tun, packet(i.address, server, "alive")) // at 30 s
		if second := probe(50 * time.Second); second != first+1 {
			t.Errorf("sequence %d after %d", second, first)
		}
		probe(70 * time.Second)
		probe(90 * time.Second)
		time.Sleep(20*time.Second - 1)
		if len(w.gateway.Clients()) != 1 {
			t.Error("given up too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if len(w.gateway.Clients()) != 0 {
			t.Error("not given up")
		}
		if _, a := w.another("198.51.100.9:1", "bob", i.address); a != i.address {
			t.Errorf("the address is not free again: got %v", a)
		}
	})
}

func TestDeleteByClient(t *testing.T) {
	inWorld(t, func(c *Config) { c.DPD = 20 * time.Second }, func(w *world) {
		i, tun := w.connect()
		say := func(mid uint32, proto isakmp.ProtocolID, spis ...[]byte) {
			m := &Message{Step: Delete, Header: i.header(isakmp.Informational, mid, true)}
			m.Add(isakmp.PayloadDelete, isakmp.Delete{DOI: 1, Protocol: proto, SPISize: uint8(len(spis[0])), SPIs: spis}.Append(nil))
			i.say(m)
			synctest.Wait()
		}
		count := func() (clients, tunnels int) {
			for _, c := range w.gateway.Clients() {
				clients, tunnels = clients+1, tunnels+len(c.Tunnels)
			}
			return clients, tunnels
		}
		own := append(i.ckyI[:], i.ckyR[:]...)
		say(1, isakmp.ProtoESP, []byte{1, 2, 3, 4})
		say(2, isakmp.ProtoISAKMP, make([]byte, 16))
		forged := &Message{Step: Delete, Header: i.header(isakmp.Informational, 3, false)}
		forged.Add(isakmp.PayloadDelete, isakmp.Delete{DOI: 1, Protocol: isakmp.ProtoISAKMP, SPISize: 16, SPIs: [][]byte{own}}.Append(nil))
		i.say(forged)
		forged.Header = i.header(isakmp.Informational, 4, true)
		forged.Hash = func(h []byte) []byte { return h[1:] }
		i.say(forged)
		if c, n := count(); c != 1 || n != 1 {
			t.Errorf("a Delete that means nothing here left %d clients and %d tunnels", c, n)
		}
		say(5, isakmp.ProtoESP, midBytes(tun.in.SPI()))
		if c, n := count(); c != 1 || n != 0 {
			t.Errorf("after the tunnel's Delete: %d clients and %d tunnels", c, n)
		}
		say(6, isakmp.ProtoISAKMP, own)
		if c, _ := count(); c != 0 {
			t.Errorf("after the ISAKMP SA's Delete: %d clients", c)
		}
		if m := i.raw(); m != nil {
			t.Error("a Delete was answered")
		}
	})
}

// TestDeleteByGateway tells a client that is there, and says so if none is.
func TestDeleteByGateway(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, tun := w.connect()
		if err := w.gateway.DeleteIKE(i.address); err != nil {
			t.Fatal(err)
		}
		if d := i.deletion(); d.Protocol != isakmp.ProtoESP || binary.BigEndian.Uint32(d.SPIs[0]) != tun.out.SPI() {
			t.Errorf("%+v", d)
		}
		if d := i.deletion(); d.Protocol != isakmp.ProtoISAKMP || string(d.SPIs[0]) != string(append(i.ckyI[:], i.ckyR[:]...)) {
			t.Errorf("%+v", d)
		}
		for name, f := range map[string]func(netip.Addr) error{
			"DeleteIKE": w.gateway.DeleteIKE, "DeleteChild": w.gateway.DeleteChild,
			"RekeyChild": w.gateway.RekeyChild, "Probe": w.gateway.Probe,
		} {
			if f(i.address) == nil {
				t.Errorf("%s of nobody succeeds", name)
			}
		}
		again, _ := w.another("198.51.100.9:1", "ada", netip.Addr{})
		if w.gateway.RekeyChild(again.address) == nil {
			t.Error("RekeyChild without a tunnel succeeds")
		}
	})
}

// TestMove: the client's packets come from another port. Authentic ones move the
// answers there, others do not.
func TestMove(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		i, tun := w.connect()
		nat := w.net.AddNAT(netip.PrefixFrom(clientAt.Addr(), 32), netip.MustParseAddr("203.0.113.5"))
		peer := func() netip.AddrPort { return w.gateway.Clients()[0].Peer }
		bad := packet(i.address, server, "x")
		i.transmit(append(append([]byte(nil), i.ckyI[:]...), bad...))
		synctest.Wait()
		if peer() != clientAt {
			t.Errorf("garbage moved the client to %v", peer())
		}
		i.sendInner(tun, packet(i.address, server, "x"))
		first := peer()
		if first.Addr().String() != "203.0.113.5" {
			t.Errorf("ESP did not move the client: %v", first)
		}
		nat.Rebind()
		i.sayDPD(isakmp.NotifyRUThere, 8, 9)
		if ack := i.notified(); ack.Type != isakmp.NotifyRUThereAck {
			t.Errorf("%+v", ack)
		}
		if now := peer(); now == first {
			t.Error("IKE did not move the client")
		}
		if err := w.gateway.SendPacket(packet(server, i.address, "found you")); err != nil {
			t.Fatal(err)
		}
		if got := i.inner(tun); len(got) != 1 {
			t.Errorf("received %q", got)
		}
	})
}

// TestHook: what a test can do to the gateway's messages.
func TestHook(t *testing.T) {
	var hook func(*Message) []*Message
	inWorld(t, func(c *Config) {
		c.Hook = func(m *Message) []*Message {
			if hook == nil || m.Step != Notify {
				return []*Message{m}
			}
			return hook(m)
		}
	}, func(w *world) {
		i, _ := w.connect()
		mid := uint32(50)
		ask := func(h func(*Message) []*Message) []byte {
			mid++
			synctest.Wait()
			hook = h
			i.sayDPD(isakmp.NotifyRUThere, mid, 1)
			return i.rawWithin(time.Second)
		}
		if ask(func(*Message) []*Message { return nil }) != nil {
			t.Error("a dropped message was sent")
		}
		raw := ask(func(m *Message) []*Message {
			m.Payloads = nil
			m.Add(isakmp.PayloadVendorID, []byte("changed"))
			return []*Message{m, {Raw: []byte("raw bytes that are longer than a header is")}}
		})
		if m := i.decode(raw); string(m.Payload(isakmp.PayloadVendorID)) != "changed" { // decode checks the HASH
			t.Errorf("%+v", m)
		}
		if got := i.rawWithin(time.Second); string(got) != "raw bytes that are longer than a header is" {
			t.Errorf("raw message %q", got)
		}
		raw = ask(func(m *Message) []*Message {
			m.Hash = func([]byte) []byte { return []byte("no hash") }
			return []*Message{m}
		})
		h, body, err := isakmp.ParseHeader(raw)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := i.open(h, body, i.receivedIV(h)); err != nil || string(o.hash) != "no hash" {
			t.Errorf("%+v, %v", o, err)
		}
		raw = ask(func(m *Message) []*Message {
			m.Hash = func([]byte) []byte { return nil }
			return []*Message{m}
		})
		if h, body, err = isakmp.ParseHeader(raw); err != nil {
			t.Fatal(err)
		}
		if _, err := i.open(h, body, i.receivedIV(h)); err == nil {
			t.Error("there is a HASH payload")
		}
		raw = ask(func(m *Message) []*Message {
			m.Header.Flags = 0
			return []*Message{m}
		})
		if m := i.decode(raw); m.Header.Encrypted() || m.Payload(isakmp.PayloadNotify) == nil {
			t.Errorf("%+v", m)
		}
	})
}

// TestReceived: a test sees what the client sent, with its secrets.
func TestReceived(t *testing.T) {
	var steps []Step
	inWorld(t, func(c *Config) { c.Received = func(m *Message) { steps = append(steps, m.Step) } }, func(w *world) {
		w.connect()
		want := []Step{MM1, MM3, MM5, XAuthReply, XAuthAck, ConfigRequest, QM1, QM3}
		if len(steps) != len(want) {
			t.Fatalf("%v", steps)
		}
		for n := range want {
			if steps[n] != want[n] {
				t.Errorf("%v, want %v", steps, want)
			}
		}
	})
}
