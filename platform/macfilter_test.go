package platform

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestMacPassRule(t *testing.T) {
	for _, tt := range []struct {
		pass macPass
		want string
	}{
		{
			macPass{protocol: "udp", from: 51234, to: addrs("203.0.113.5")[0]},
			"pass out quick inet proto udp from any port = 51234 to 203.0.113.5 no state",
		},
		{
			macPass{protocol: "udp", from: 500, to: addrs("2001:db8::5")[0]},
			"pass out quick inet6 proto udp from any port = 500 to 2001:db8::5 no state",
		},
		{
			macPass{protocol: "tcp", to: addrs("192.168.1.1")[0], port: 53},
			"pass out quick inet proto tcp from any to 192.168.1.1 port = 53 user = 0 no state",
		},
	} {
		if got := tt.pass.rule(); got != tt.want {
			t.Errorf("got %s", got)
		}
	}
}

// TestMacToken: the packet filter is kept on by one token, which is given back, and others
// keep theirs.
func TestMacToken(t *testing.T) {
	f := newFakeMac()
	f.tokens = []string{"77"} // another program's
	n, h := f.network(t, t.TempDir())
	block := Config{BlockOutside: true}
	token := func(want ...string) {
		t.Helper()
		if !slices.Equal(f.tokens, want) {
			t.Errorf("tokens %q instead of %q", f.tokens, want)
		}
	}
	run(t, "Set", n.Set(t.Context(), block))
	run(t, "Set", n.Set(t.Context(), block))
	token("77", "1001")
	if content, err := os.ReadFile(h.tokenPath); err != nil || string(content) != "1001\n" {
		t.Errorf("%q, %v", content, err)
	}
	if info, err := os.Stat(h.tokenPath); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("%v, %v", info, err)
	}
	f.tokens = nil // pfctl -d
	run(t, "Set", n.Set(t.Context(), block))
	token("1002")
	f.off = true
	run(t, "Set", n.Set(t.Context(), block))
	token("1003")
	f.tokens = append(f.tokens, "78")
	run(t, "Set", n.Set(t.Context(), Config{}))
	token("78")
	if _, err := os.Stat(h.tokenPath); !os.IsNotExist(err) {
		t.Errorf("the token stays: %v", err)
	}
	// A file that is not ours says nothing.
	run(t, "write", os.WriteFile(h.tokenPath, []byte("78 -d\n"), 0o600))
	run(t, "Set", n.Set(t.Context(), block))
	run(t, "Set", n.Set(t.Context(), Config{}))
	token("78")
	f.refuse = "pfctl -E"
	if err := n.Set(t.Context(), block); err == nil || len(f.rules) > 0 {
		t.Errorf("%v, %q", err, f.rules)
	}
}

// TestMacStates: what others' rules have let through ends once, when the block comes.
func TestMacStates(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	flushed := func() int {
		return len(slices.DeleteFunc(slices.Clone(f.diary), func(c string) bool { return c != "pfctl -F states" }))
	}
	for i, step := range []struct {
		cfg  Config
		want int
	}{
		{Config{Tunnels: []Tunnel{macTunnel}}, 0},
		{Config{Tunnels: []Tunnel{macTunnel}, BlockOutside: true}, 1},
		{Config{Tunnels: []Tunnel{macTunnel}, BlockOutside: true, AllowLocal: true}, 1},
		{Config{}, 1},
		{Config{BlockOutside: true}, 2},
	} {
		run(t, "Set", n.Set(t.Context(), step.cfg))
		if flushed() != step.want {
			t.Errorf("step %d: %d times", i, flushed())
		}
	}
}

// TestMacLocalNetwork: what the block leaves open of the local network.
func TestMacLocalNetwork(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	run(t, "Set", n.Set(t.Context(), Config{BlockOutside: true, AllowLocal: true}))
	var open []string
	for _, r := range f.rules {
		if strings.Contains(r, " from any to ") && !strings.Contains(r, "proto") {
			open = append(open, strings.Fields(r)[7])
		}
	}
	want := "192.168.1.0/24 192.168.64.0/24 224.0.0.0/24 239.255.0.0/16 255.255.255.255/32 169.254.0.0/16 fe80::/10 ff02::/16"
	if got := strings.Join(open, " "); got != want {
		t.Errorf("open is %s", got)
	}
}

// TestMacKeptBlock: a block that an earlier process has left stays until the first wish,
// and lets the packets of this one's sockets through.
func TestMacKeptBlock(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		f := newFakeMac()
		dir := t.TempDir()
		n, _ := f.network(t, dir)
		before := f.String()
		run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{macTunnel}, BlockOutside: true}))
		n.journal.close() // killed
		if restarted {
			f.tokens, f.rules, f.store = nil, nil, newFakeMac().store
		}
		next, h := f.network(t, dir)
		if restarted {
			next.journal.boot = "another"
		}
		run(t, "Recover", next.Recover(t.Context(), true))
		rules := slices.Clone(f.rules)
		run(t, "pass", h.pass(t.Context(), macPass{protocol: "udp", from: 4711, to: addrs("203.0.113.5")[0]}))
		rule := "pass out quick inet proto udp from any port = 4711 to 203.0.113.5 no state"
		switch at := slices.Index(f.rules, rule); {
		case restarted && len(f.rules) > 0:
			t.Errorf("rules of a run that is over: %q", f.rules)
		case !restarted && (at < 0 || at > slices.Index(f.rules, "block return out quick all") || len(f.rules) != len(rules)+1):
			t.Errorf("%q", f.rules)
		}
		run(t, "Set", next.Set(t.Context(), Config{}))
		if !restarted && f.String() != before {
			t.Errorf("left is\n%s", added(before, f.String()))
		}
	}
}

// TestMacPasses: rules for sockets come and go, and are not without bound.
func TestMacPasses(t *testing.T) {
	f := newFakeMac()
	n, h := f.network(t, t.TempDir())
	pass := func(port int) macPass {
		return macPass{protocol: "udp", to: addrs("192.0.2.1")[0], port: uint16(port)}
	}
	run(t, "pass", h.pass(t.Context(), pass(1)))
	if len(f.diary) > 0 {
		t.Errorf("%q", f.diary)
	}
	run(t, "Set", n.Set(t.Context(), Config{BlockOutside: true}))
	rules := len(f.rules)
	run(t, "the same", h.pass(t.Context(), pass(1)))
	run(t, "another", h.pass(t.Context(), pass(2)))
	if len(f.rules) != rules+1 {
		t.Errorf("%d rules instead of %d", len(f.rules), rules+1)
	}
	for i := range 200 {
		run(t, "many", h.pass(t.Context(), pass(i)))
	}
	if len(f.rules) != rules-1+maxPasses || !slices.Contains(f.rules, pass(199).rule()) || slices.Contains(f.rules, pass(100).rule()) {
		t.Errorf("%d rules", len(f.rules))
	}
	f.refuse = "-f -"
	if err := h.pass(t.Context(), pass(300)); err == nil {
		t.Error("a socket whose packets are held back was accepted")
	}
	f.refuse = ""
	h.unpass(pass(199))
	run(t, "Set", n.Set(t.Context(), Config{BlockOutside: true, Portal: addrs("192.0.2.80")}))
	if slices.Contains(f.rules, pass(199).rule()) {
		t.Error("a closed socket's rule stays")
	}
}

// TestMacRulesGone: a packet filter that takes rules and does not have them is no block.
func TestMacRulesGone(t *testing.T) {
	f := newFakeMac()
	n, h := f.network(t, t.TempDir())
	before := f.String()
	system := h.sys.run
	h.sys.run = func(ctx context.Context, input, program string, args ...string) (string, error) {
		said, err := system(ctx, input, program, args...)
		f.rules = nil
		return said, err
	}
	err := n.Set(t.Context(), Config{BlockOutside: true})
	if err == nil || !strings.Contains(err.Error(), "does not have them") || f.String() != before {
		t.Errorf("%v, %s", err, added(before, f.String()))
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(h.tokenPath), journalFile)); !os.IsNotExist(err) {
		t.Errorf("the journal is not empty: %v", err)
	}
}
