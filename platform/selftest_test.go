package platform

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// selfTest is what a self-test tells, as text. After each check also is called.
func selfTest(n *Network, iface string, also func(Check)) string {
	var text strings.Builder
	n.SelfTest(context.Background(), iface, 1280, func(c Check) {
		text.WriteString(c.Name)
		switch {
		case c.Err != nil:
			text.WriteString(" failed: " + c.Err.Error())
		case c.Answer != "":
			text.WriteString(" ok: " + c.Answer)
		default:
			text.WriteString(" ok")
		}
		text.WriteString("\n")
		for _, line := range c.System {
			fmt.Fprintf(&text, "    %s\n", line)
		}
		also(c)
	})
	return text.String()
}

// What self-tests tell where all of it works.
var (
	//go:embed testdata/selftest-windows.txt
	windowsSelfTest string
	//go:embed testdata/selftest-macos.txt
	macSelfTest string
)

// TestWindowsSelfTest: each kind of change is told of with what Windows has then, nothing is
// left of it, and what is left is told.
func TestWindowsSelfTest(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	before := w.String()
	if got := selfTest(n, "wayfarer0", func(Check) {}); got != windowsSelfTest || w.String() != before {
		t.Errorf("%s\nleft is\n%s", got, added(before, w.String()))
	}
	stray := nrptKey + `\{STRAY}`
	var last Check
	w.fail["notifyFilters"], w.fail["notifyKeys"], w.fail["notifyPower"] = fs.ErrNotExist, fs.ErrNotExist, fs.ErrNotExist
	got := selfTest(n, "wayfarer0", func(c Check) {
		last = c
		w.keys[stray] = map[string]any{"Comment": nrptComment}
	})
	if last.Err == nil || !strings.Contains(last.Err.Error(), "{STRAY}") {
		t.Errorf("%v", last)
	}
	w.fail["notify"] = fs.ErrPermission
	if refused := selfTest(n, "wayfarer0", func(Check) {}); !strings.HasPrefix(refused, "news of changes failed: ") {
		t.Errorf("%s", refused)
	}
	if want := "news of changes ok: nobody tells of filters, names, sleep\n"; !strings.HasPrefix(got, want) {
		t.Errorf("%s", got)
	}
}

// TestMacSelfTest: on a computer where all of it works, nothing is left; what is left is told.
func TestMacSelfTest(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	before := f.String()
	if got := selfTest(n, "utun4", func(Check) {}); got != macSelfTest || f.String() != before {
		t.Errorf("%s\nleft is\n%s", got, added(before, f.String()))
	}
	f.step = func(command string) {
		if strings.HasPrefix(command, "scutil set") {
			f.store["State:/Network/Service/5741F7A2-66A3-4E5C-9D4B-FFFFFFFF0000/DNS"] = map[string][]string{}
		}
	}
	var last Check
	f.mute = errors.New("no such function")
	got := selfTest(n, "utun4", func(c Check) { last = c })
	if last.Err == nil || !strings.Contains(last.Err.Error(), "FFFFFFFF0000") {
		t.Errorf("%v", last)
	}
	if want := "news of changes ok: nobody tells of names, sleep\n"; !strings.HasPrefix(got, want) {
		t.Errorf("%s", got)
	}
}
