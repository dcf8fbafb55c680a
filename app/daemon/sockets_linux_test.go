package daemon

import (
	"net/netip"
	"testing"

	"wayfarer/ike"
	"wayfarer/platform"
)

// TestSockets: a session finds in the host's sockets all that it can make use of.
func TestSockets(t *testing.T) {
	conn, err := platform.ListenPacket(t.Context(), netip.MustParseAddr("127.0.0.1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, ok := conn.(ike.BatchConn); !ok {
		t.Error("it takes no runs of datagrams")
	}
	if _, ok := conn.(ike.PathConn); !ok {
		t.Error("it finds out nothing about the path")
	}
}
