package platform

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestWindowsFilters: the filters of each wish, with their layers.
func TestWindowsFilters(t *testing.T) {
	const program = `program C:\Program Files\Wayfarer\wayfarerd.exe`
	split := winSplit()
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // layers: weight verdict conditions
	}{
		{"split tunnel", Config{Tunnels: []Tunnel{split}}, ""},
		{"full tunnel without IPv6", Config{Tunnels: []Tunnel{winFull()}}, `
			connect6,accept6,connect4: 15 permit ` + program + `
			connect6,accept6,connect4: 14 permit loopback
			connect6,accept6,connect4: 13 permit interface 4
			connect4,connect6: 12 block protocol 17 protocol 6 remote-port 53
			connect6: 11 permit protocol 17 local-port 546 remote-port 547 remote fe80::/10 remote ff02::1:2/128
			accept6: 11 permit protocol 17 local-port 546 remote-port 547 remote fe80::/10
			connect6: 11 permit protocol 58 icmp-type 131 icmp-type 132 icmp-type 133 icmp-type 135 icmp-type 136 icmp-type 143
			accept6: 11 permit protocol 58 icmp-type 130 icmp-type 134 icmp-type 135 icmp-type 136
			forward6: 13 permit leaves-by 4
			forward6: 13 permit arrives-by 4
			forward6: 10 permit to fe80::/10
			forward6: 10 permit to ff02::/16
			connect6,accept6: 10 permit remote fe80::/10
			connect6,accept6: 10 permit remote ff02::/16
			connect6,accept6,forward6: 0 block`},
		{"block, with a portal", Config{BlockOutside: true, Portal: addrs("203.0.113.7")}, `
			connect4,connect6,accept4,accept6: 15 permit ` + program + `
			connect4,connect6,accept4,accept6: 14 permit loopback
			connect4: 13 permit remote 203.0.113.7/32
			connect4: 13 permit remote 192.168.1.1/32
			connect4,accept4: 11 permit protocol 17 local-port 68 remote-port 67
			connect6: 11 permit protocol 17 local-port 546 remote-port 547 remote fe80::/10 remote ff02::1:2/128
			accept6: 11 permit protocol 17 local-port 546 remote-port 547 remote fe80::/10
			connect6: 11 permit protocol 58 icmp-type 131 icmp-type 132 icmp-type 133 icmp-type 135 icmp-type 136 icmp-type 143
			accept6: 11 permit protocol 58 icmp-type 130 icmp-type 134 icmp-type 135 icmp-type 136
			connect4,connect6,accept4,accept6,forward4,forward6: 0 block`},
		{"block beside a split tunnel, with local networks", Config{Tunnels: []Tunnel{split}, BlockOutside: true, AllowLocal: true}, `
			connect4,connect6,accept4,accept6: 15 permit ` + program + `
			connect4,connect6,accept4,accept6: 14 permit loopback
			connect4,connect6,accept4,accept6: 13 permit interface 4
			connect4,accept4: 11 permit protocol 17 local-port 68 remote-port 67
			connect6: 11 permit protocol 17 local-port 546 remote-port 547 remote fe80::/10 remote ff02::1:2/128
			accept6: 11 permit protocol 17 local-port 546 remote-port 547 remote fe80::/10
			connect6: 11 permit protocol 58 icmp-type 131 icmp-type 132 icmp-type 133 icmp-type 135 icmp-type 136 icmp-type 143
			accept6: 11 permit protocol 58 icmp-type 130 icmp-type 134 icmp-type 135 icmp-type 136
			forward4,forward6: 13 permit leaves-by 4
			forward4,forward6: 13 permit arrives-by 4
			forward4: 10 permit to 192.168.1.0/24
			forward4: 10 permit to 172.20.0.0/20
			forward4: 10 permit to 224.0.0.0/24
			forward4: 10 permit to 239.255.0.0/16
			forward4: 10 permit to 255.255.255.255/32
			forward4: 10 permit to 169.254.0.0/16
			forward6: 10 permit to fe80::/10
			forward6: 10 permit to ff02::/16
			connect4,accept4: 10 permit remote 192.168.1.0/24
			connect4,accept4: 10 permit remote 172.20.0.0/20
			connect4,accept4: 10 permit remote 224.0.0.0/24
			connect4,accept4: 10 permit remote 239.255.0.0/16
			connect4,accept4: 10 permit remote 255.255.255.255/32
			connect4,accept4: 10 permit remote 169.254.0.0/16
			connect6,accept6: 10 permit remote fe80::/10
			connect6,accept6: 10 permit remote ff02::/16
			connect4,connect6,accept4,accept6,forward4,forward6: 0 block`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newFakeWindows()
			if err := w.on(t, t.TempDir()).Set(t.Context(), tt.cfg); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, line := range trimmed(tt.want) {
				layers, rest, _ := strings.Cut(line, ": ")
				for layer := range strings.SplitSeq(layers, ",") {
					want = append(want, layer+" "+rest)
				}
			}
			if !slices.Equal(w.wfp.names(), want) {
				t.Errorf("filters\n%s\nwant\n%s", strings.Join(w.wfp.names(), "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestWindowsWithoutFilters: where they cannot be reached there are tunnels, but no block.
func TestWindowsWithoutFilters(t *testing.T) {
	w := newFakeWindows()
	w.fail["open the engine"] = errors.New("no engine")
	n := w.on(t, t.TempDir())
	if err := n.Set(t.Context(), Config{Tunnels: []Tunnel{winFull()}}); err != nil {
		t.Fatal(err)
	}
	if r := n.Report(); r.IPv6Blocked || !strings.Contains(r.Unguarded, "no engine") {
		t.Errorf("report %+v", r)
	}
	var e *Error
	if err := n.Set(t.Context(), Config{BlockOutside: true}); !errors.As(err, &e) || e.Part != PartFirewall {
		t.Errorf("block: %v", err)
	}
}

// TestWindowsFiltersComeBack: what another program has removed is put back, and an order
// of Windows' own is none of ours to mind.
func TestWindowsFiltersComeBack(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	cfg := Config{BlockOutside: true}
	set := func() {
		t.Helper()
		if err := n.Set(context.Background(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	set()
	all := len(w.wfp.filters)
	slices.Reverse(w.wfp.filters)
	w.calls = nil
	if set(); len(w.calls) != 0 {
		t.Errorf("in another order: %q", w.calls)
	}
	w.wfp.filters = w.wfp.filters[1:]
	if set(); len(w.wfp.filters) != all {
		t.Errorf("%d of %d filters", len(w.wfp.filters), all)
	}
}
