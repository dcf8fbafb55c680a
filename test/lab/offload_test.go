//go:build lab && linux

package lab

import (
	"fmt"
	"strings"
	"testing"
)

// noOffload turns off what an interface does for the kernel, and the kernel for it. Some of
// it an interface may refuse to change, as one that receives nothing to check; what packets
// would be put together by must be off.
func noOffload(t *testing.T, ns, name string) {
	t.Helper()
	for _, feature := range []string{"tx", "rx", "gro", "gso", "tso", "tx-udp-segmentation"} {
		if out, err := inside(ns, "ethtool", "-K", name, feature, "off"); err != nil {
			t.Logf("%s %s: %s", name, feature, strings.TrimSpace(out))
		}
	}
	state := mustInside(t, ns, "ethtool", "-k", name)
	for _, feature := range []string{
		"tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload", "tx-udp-segmentation",
	} {
		if !strings.Contains(state, feature+": off") {
			t.Errorf("%s: %s is not off", name, feature)
		}
	}
}

// TestNoOffload: where neither the interface to the gateway nor that of the tunnel has
// offloads, all arrives both ways, datagram by datagram, each with a right checksum.
func TestNoOffload(t *testing.T) {
	h := start(t, mtuClient, "debug")
	p := loadProfile(t, "hybrid")
	route := strings.Fields(mustInside(t, h.ns, "ip", "-o", "route", "get", p["GATEWAY"]))
	var outer string
	for i, word := range route {
		if word == "dev" {
			outer = route[i+1]
		}
	}
	t.Cleanup(func() {
		for _, feature := range []string{"tx", "rx", "gro", "gso", "tso", "tx-udp-segmentation"} {
			_, _ = inside(h.ns, "ethtool", "-K", outer, feature, "on")
		}
	})
	noOffload(t, h.ns, outer)
	before := network(t, h.ns)
	file := capture(t, func() {
		c := h.up(t, p)
		noOffload(t, h.ns, c.TUN.Name)
		probe(t, h.ns, p)
		carries(t)
		h.down(t)
	})
	restored(t, h.ns, before)
	const whole = 14 + 1500 // bytes of a frame
	sent := "udp.port == 4500 && ip.src == " + mtuClientAddr
	if n := packets(t, file, sent); n < 1000 {
		t.Errorf("%d datagrams left", n)
	}
	if n := checkedPackets(t, file, fmt.Sprintf("%s && frame.len > %d", sent, whole)); n != 0 {
		t.Errorf("%d frames of more than %d bytes left", n, whole)
	}
	if n := checkedPackets(t, file, sent+` && (udp.checksum.status == "Bad" || ip.checksum.status == "Bad")`); n != 0 {
		t.Errorf("%d datagrams with a wrong checksum left", n)
	}
	if n := fragments(t, file, mtuClientAddr); n != 0 {
		t.Errorf("%d fragments of the client", n)
	}
}

// checkedPackets is packets with the checksums looked at.
func checkedPackets(t *testing.T, file, filter string) int {
	t.Helper()
	return strings.Count(tshark(t, file, "-o", "esp.enable_encryption_decode:FALSE",
		"-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", filter), "\n")
}
