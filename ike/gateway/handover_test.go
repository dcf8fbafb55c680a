package gateway

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"wayfarer/ike/esp"
)

// TestHandover: who is given the ESP SAs exchanges packets with the client by them, the
// gateway touches none, and says when they are over.
func TestHandover(t *testing.T) {
	var given *SAs
	inWorld(t, func(c *Config) { c.Handover = func(s *SAs) { given = s } }, func(w *world) {
		i, tun := w.connect()
		if given == nil || given.In.SPI() != tun.out.SPI() || given.Out.SPI() != tun.in.SPI() || given.HeaderLen != tun.header ||
			given.Client != netip.PrefixFrom(i.address, 32) || given.Peer != clientAt {
			t.Fatalf("given %+v", given)
		}
		sealed := func(out *esp.Outbound, content string) []byte {
			inner := packet(i.address, server, content)
			buf := make([]byte, esp.MaxHeadroom+len(inner), esp.MaxHeadroom+len(inner)+esp.MaxTailroom)
			copy(buf[esp.MaxHeadroom:], inner)
			b, err := out.Seal(buf, esp.MaxHeadroom, len(inner))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for _, way := range []struct {
			out *esp.Outbound
			in  *esp.Inbound
		}{{tun.out, given.In}, {given.Out, tun.in}} {
			b := sealed(way.out, "hello")
			if inner, err := way.in.Open(make([]byte, len(b)), b); err != nil || string(inner[20:]) != "hello" {
				t.Errorf("%q, %v", inner, err)
			}
			way.in.Finish()
		}
		i.sendInner(tun, packet(i.address, server, "to the gateway"))
		if n := len(w.arrived()); n != 0 || given.In.Stats().Packets != 1 {
			t.Errorf("the gateway took %d packets, the SA %d", n, given.In.Stats().Packets)
		}
		if err := w.gateway.SendPacket(packet(server, i.address, "from the gateway")); err != nil {
			t.Fatal(err)
		}
		if got := i.inner(tun); len(got) != 0 {
			t.Errorf("the gateway sent %q", got)
		}
		select {
		case <-given.Ended:
			t.Error("over too early")
		default:
		}
		if err := w.gateway.DeleteChild(i.address); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-given.Ended:
		default:
			t.Error("not over with the tunnel's Delete")
		}
		sealed(given.Out, "the SAs are the other's to zeroise")
	})
}
