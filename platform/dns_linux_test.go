package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fakeBus records what is said to systemd-resolved.
type fakeBus struct {
	silent bool   // nobody answers
	only   string // the one service that answers; empty: all
	where  []resolvedDomain
	asked  []resolvedServer
	links  map[int32]bool // with settings
	login  chan bool
	fail   error   // of every call
	next   []error // of the next calls, before fail
	calls  []string
}

func (b *fakeBus) answers(_ context.Context, name, _, _, _ string) bool {
	return !b.silent && (b.only == "" || b.only == name)
}

func (b *fakeBus) domains(context.Context) ([]resolvedDomain, error) { return b.where, b.fail }

func (b *fakeBus) servers(context.Context) ([]resolvedServer, error) { return b.asked, b.fail }

func (b *fakeBus) sleeps(context.Context) (<-chan bool, error) {
	if b.login != nil {
		return b.login, nil
	}
	return nil, errors.New("nobody sleeps")
}

func (b *fakeBus) call(_ context.Context, method string, args ...any) error {
	if strings.HasPrefix(method, "SetLink") && b.links != nil {
		b.links[args[0].(int32)] = true
	} else if method == "RevertLink" {
		delete(b.links, args[0].(int32))
	}
	b.calls = append(b.calls, strings.TrimSuffix(fmt.Sprintln(append([]any{method}, args...)...), "\n"))
	if len(b.next) > 0 {
		err := b.next[0]
		b.next = b.next[1:]
		return err
	}
	return b.fail
}

func TestResolvConf(t *testing.T) {
	all := Tunnel{DNS: addrs("10.1.1.1", "10.1.1.2"), SearchDomains: []string{"corp.example"}}
	split := Tunnel{DNS: addrs("10.2.2.1"), SearchDomains: []string{"lab.example"}, MatchDomains: []string{"lab.example"}}
	many := Tunnel{DNS: addrs("10.3.3.1", "10.3.3.2", "10.3.3.3", "10.3.3.4"), MatchDomains: []string{"x.example"}}
	allMany := Tunnel{DNS: many.DNS}
	const before = "# of the router\nsearch home lan\nnameserver 192.168.0.1\nnameserver 192.168.0.2\noptions edns0 trust-ad ndots:2\n"
	for _, tt := range []struct {
		name    string
		tunnels []Tunnel
		before  string
		want    string
	}{
		{"all names", []Tunnel{all}, before, "search corp.example\nnameserver 10.1.1.1\nnameserver 10.1.1.2\noptions edns0 ndots:2\n"},
		{"some names, never from before", []Tunnel{split}, before, "search lab.example\nnameserver 10.2.2.1\noptions edns0 ndots:2\n"},
		{"some and all", []Tunnel{split, all}, before, "search corp.example lab.example\nnameserver 10.1.1.1\nnameserver 10.1.1.2\nnameserver 10.2.2.1\noptions edns0 ndots:2\n"},
		{"more than the library reads", []Tunnel{allMany}, before, "nameserver 10.3.3.1\nnameserver 10.3.3.2\nnameserver 10.3.3.3\noptions edns0 ndots:2\n"},
		{"nothing before", []Tunnel{many}, "", "nameserver 10.3.3.1\nnameserver 10.3.3.2\nnameserver 10.3.3.3\n"},
		{"the same twice", []Tunnel{all, all}, "", "search corp.example\nnameserver 10.1.1.1\nnameserver 10.1.1.2\n"},
		{"only trust-ad", []Tunnel{{DNS: addrs("fd00::1", "::ffff:10.0.0.1")}}, "options trust-ad\n", "nameserver fd00::1\nnameserver 10.0.0.1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(resolvConf(tt.tunnels, []byte(tt.before))); got != resolvHeader+tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestIsStub(t *testing.T) {
	for content, want := range map[string]bool{
		"nameserver 127.0.0.53\noptions edns0\nsearch .\n": true,
		"nameserver 127.0.0.53\nnameserver 127.0.0.54\n":   true,
		"nameserver 127.0.0.53\nnameserver 192.0.2.1\n":    false,
		"nameserver 127.0.0.1\n":                           false,
		"# nameserver 127.0.0.53\n":                        false,
		"":                                                 false,
	} {
		if isStub([]byte(content)) != want {
			t.Errorf("%q", content)
		}
	}
}

// fileHost is a host whose file system is a directory, and a wish for it.
func fileHost(t *testing.T) (*linuxHost, string) {
	t.Helper()
	h := &linuxHost{
		log: slog.New(slog.DiscardHandler), root: t.TempDir(), bus: &fakeBus{silent: true},
		stateDir: "/state", sync: (*os.File).Sync, written: map[string][]byte{},
	}
	run(t, "etc", os.MkdirAll(filepath.Join(h.root, "etc"), 0o755))
	return h, filepath.Join(h.root, "etc/resolv.conf")
}

// setDNS converges a host's DNS alone.
func setDNS(t *testing.T, h *linuxHost, applied []change, tunnels ...Tunnel) ([]change, error) {
	t.Helper()
	wanted, _, err := h.planDNS(t.Context(), Config{Tunnels: tunnels}, applied)
	run(t, "plan", err)
	return advanceAll(t, h, applied, wanted)
}

// advanceAll converges with a journal of its own.
func advanceAll(t *testing.T, h *linuxHost, applied, wanted []change) ([]change, error) {
	t.Helper()
	return converge(t.Context(), h.log, testJournal(t, t.TempDir(), ""), applied, wanted)
}

// describe is all about the files of a directory, as text.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	run(t, "walk", filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		target, _ := os.Readlink(path)
		content, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %v %d:%d %q %q\n", strings.TrimPrefix(path, dir), info.Mode(), owner.Uid, owner.Gid, target, content)
		return nil
	}))
	return b.String()
}

var (
	dnsTunnel   = Tunnel{Interface: "wayfarer0", DNS: addrs("10.1.1.1"), SearchDomains: []string{"corp.example"}}
	dnsTunnel2  = Tunnel{Interface: "wayfarer1", DNS: addrs("10.2.2.1")}
	splitDNS    = Tunnel{Interface: "wayfarer0", DNS: addrs("10.1.1.1"), MatchDomains: []string{"corp.example"}}
	ourContent  = resolvHeader + "search corp.example\nnameserver 10.1.1.1\n"
	ourContent2 = resolvHeader + "search corp.example\nnameserver 10.1.1.1\nnameserver 10.2.2.1\n"
)

// TestResolvConfFile: whatever /etc/resolv.conf is, it is replaced and put back.
func TestResolvConfFile(t *testing.T) {
	write := func(content string, mode fs.FileMode, paths ...string) func(t *testing.T, root string) {
		return func(t *testing.T, root string) {
			for _, path := range paths {
				run(t, "dir", os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
				run(t, "file", os.WriteFile(filepath.Join(root, path), []byte(content), mode))
			}
		}
	}
	link := func(target string) func(t *testing.T, root string) {
		return func(t *testing.T, root string) {
			run(t, "link", os.Symlink(target, filepath.Join(root, "etc/resolv.conf")))
		}
	}
	for _, tt := range []struct {
		name   string
		set    []func(t *testing.T, root string)
		before string // the server that reading it gave
	}{
		{"file", []func(*testing.T, string){write("nameserver 192.0.2.9\n", 0o640, "etc/resolv.conf")}, "192.0.2.9"},
		{"file without a line's end", []func(*testing.T, string){write("nameserver 192.0.2.9", 0o755, "etc/resolv.conf")}, "192.0.2.9"},
		{"empty file", []func(*testing.T, string){write("", 0o600, "etc/resolv.conf")}, ""},
		{"file of another", []func(*testing.T, string){
			write("nameserver 192.0.2.9\n", 0o644, "etc/resolv.conf"),
			func(t *testing.T, root string) {
				if os.Geteuid() != 0 {
					t.Skip("needs root, to give a file away")
				}
				run(t, "chown", os.Chown(filepath.Join(root, "etc/resolv.conf"), 1234, 2345))
			},
		}, "192.0.2.9"},
		{"relative symlink", []func(*testing.T, string){write("nameserver 192.0.2.8\n", 0o644, "run/dns/conf"), link("../run/dns/conf")}, "192.0.2.8"},
		{"absolute symlink", []func(*testing.T, string){write("nameserver 192.0.2.8\n", 0o644, "run/dns/conf"), link("/run/dns/conf")}, "192.0.2.8"},
		{"symlink of another", []func(*testing.T, string){link("/run/nowhere"), func(t *testing.T, root string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root, to give a symlink away")
			}
			run(t, "chown", os.Lchown(filepath.Join(root, "etc/resolv.conf"), 1234, 2345))
		}}, ""},
		{"dangling symlink", []func(*testing.T, string){link("/run/nowhere")}, ""},
		{"missing", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, path := fileHost(t)
			for _, set := range tt.set {
				set(t, h.root)
			}
			before := describe(t, h.root)
			applied, err := setDNS(t, h, nil, dnsTunnel)
			run(t, "set", err)
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o644 {
				t.Errorf("%v, %v", info, err)
			}
			if content, _ := os.ReadFile(path); string(content) != ourContent {
				t.Errorf("content\n%s", content)
			}
			applied, err = setDNS(t, h, applied, dnsTunnel, dnsTunnel2)
			run(t, "set", err)
			if content, _ := os.ReadFile(path); string(content) != ourContent2 {
				t.Errorf("content\n%s", content)
			}
			// What was there at first is known, although the file is ours.
			applied, err = setDNS(t, h, applied, splitDNS)
			run(t, "set", err)
			if servers := fmt.Sprint(h.nameservers(applied)); !strings.Contains(servers, tt.before) {
				t.Errorf("the host's own servers: %s", servers)
			}
			applied, err = setDNS(t, h, applied)
			run(t, "restore", err)
			if after := describe(t, h.root); after != before || len(applied) != 0 {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// TestResolvConfRewritten: what somebody else writes meanwhile is replaced by the next wish,
// and is what stands in the end.
func TestResolvConfRewritten(t *testing.T) {
	const original, theirs = "nameserver 192.0.2.9\n", "nameserver 198.51.100.1\n"
	for name, rewrite := range map[string]func(path string) error{
		"in place": func(path string) error { return os.WriteFile(path, []byte(theirs), 0) },
		"replaced": func(path string) error {
			return errorsFirst(os.WriteFile(path+".new", []byte(theirs), 0o600), os.Rename(path+".new", path))
		},
		"symlink": func(path string) error {
			return errorsFirst(os.WriteFile(path+".target", []byte(theirs), 0o600), os.Remove(path), os.Symlink(path+".target", path))
		},
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			h, path := fileHost(t)
			run(t, "write", os.WriteFile(path, []byte(original), 0o644))
			applied, err := setDNS(t, h, nil, dnsTunnel)
			run(t, "set", err)
			run(t, "rewrite", rewrite(path))
			before := describe(t, h.root)
			applied, err = setDNS(t, h, applied, dnsTunnel)
			run(t, "same wish", err)
			if content, _ := os.ReadFile(path); string(content) != ourContent {
				t.Errorf("content\n%s", content)
			}
			restored, err := setDNS(t, h, applied)
			run(t, "restore", err)
			if after := describe(t, h.root); after != before || len(restored) != 0 {
				t.Errorf("after restoring\n%s\nis\n%s", before, after)
			}
		})
		t.Run(name+", then another wish", func(t *testing.T) {
			h, path := fileHost(t)
			run(t, "write", os.WriteFile(path, []byte(original), 0o644))
			applied, err := setDNS(t, h, nil, dnsTunnel)
			run(t, "set", err)
			run(t, "rewrite", rewrite(path))
			before := describe(t, h.root)
			applied, err = setDNS(t, h, applied, dnsTunnel, dnsTunnel2)
			run(t, "other wish", err)
			if content, _ := os.ReadFile(path); string(content) != ourContent2 {
				t.Errorf("content\n%s", content)
			}
			_, err = setDNS(t, h, applied)
			run(t, "restore", err)
			if after := describe(t, h.root); after != before {
				t.Errorf("after restoring\n%s\nis\n%s", before, after)
			}
		})
	}
}

// TestResolvConfOnDisk: what stood there before is on the disk, whole, before it takes the place
// of ours, and ours before that of it. Where nothing stood there is nothing to lose.
func TestResolvConfOnDisk(t *testing.T) {
	const before = "nameserver 192.168.0.1\n"
	for _, was := range []string{before, ""} {
		h, path := fileHost(t)
		if was != "" {
			run(t, "file", os.WriteFile(path, []byte(was), 0o644))
		}
		var synced []string // in the place of what
		h.sync = func(file *os.File) error {
			now, _ := os.ReadFile(file.Name())
			stands, _ := os.ReadFile(path)
			synced = append(synced, string(now)+" for "+string(stands))
			return nil
		}
		applied, err := setDNS(t, h, nil, dnsTunnel)
		run(t, "set", err)
		_, err = setDNS(t, h, applied)
		run(t, "restore", err)
		var want []string
		if was != "" {
			want = []string{ourContent + " for " + before, before + " for " + ourContent}
		}
		if !slices.Equal(synced, want) {
			t.Errorf("before %q, synced %q", was, synced)
		}
	}
}

// TestResolvConfEmptied: an empty file that another program makes while ours stands, where
// there was none, is that program's.
func TestResolvConfEmptied(t *testing.T) {
	h, path := fileHost(t)
	applied, err := setDNS(t, h, nil, dnsTunnel)
	run(t, "set", err)
	run(t, "empty", os.WriteFile(path, nil, 0o644))
	_, err = setDNS(t, h, applied)
	run(t, "restore", err)
	if content, err := os.ReadFile(path); err != nil || len(content) > 0 {
		t.Errorf("the file has %q, %v", content, err)
	}
}

// TestResolvConfFoughtFor: nobody fights for the file without end, and what the other
// program has written last is what stands in the end.
func TestResolvConfFoughtFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, path := fileHost(t)
		var log bytes.Buffer
		h.log = slog.New(slog.NewTextHandler(&log, nil))
		run(t, "write", os.WriteFile(path, []byte("nameserver 192.0.2.9\n"), 0o644))
		applied, err := setDNS(t, h, nil, dnsTunnel)
		run(t, "set", err)
		var theirs string
		rewrite := func(server int) bool {
			t.Helper()
			theirs = fmt.Sprintf("nameserver 198.51.100.%d\n", server)
			run(t, "rewrite", os.WriteFile(path, []byte(theirs), 0o644))
			applied, err = setDNS(t, h, applied, dnsTunnel)
			run(t, "same wish", err)
			content, err := os.ReadFile(path)
			run(t, "read", err)
			return string(content) == ourContent
		}
		for i := range 3 * maxRewrites { // as often as a lease of a quarter of a minute is renewed
			if !rewrite(1 + i%2) {
				t.Fatalf("rewrite %d is left", i)
			}
			time.Sleep(rewriteTime / 4)
		}
		time.Sleep(rewriteTime)
		for i := range maxRewrites {
			if !rewrite(1) {
				t.Fatalf("rewrite %d within a minute is left", i)
			}
		}
		if log.Len() != 0 {
			t.Errorf("warned of\n%s", &log)
		}
		if rewrite(1) || !strings.Contains(log.String(), "again and again") || !strings.Contains(log.String(), resolvConfPath) {
			t.Errorf("the fight goes on, and the log says\n%s", &log)
		}
		time.Sleep(lostTime - time.Second)
		if rewrite(2) {
			t.Error("what was given up begins again at once")
		}
		time.Sleep(time.Second)
		for range maxRewrites { // the other program may have ended
			if !rewrite(1) {
				t.Error("what was given up is never tried again")
			}
		}
		if rewrite(2) {
			t.Error("the fight begins anew")
		}
		restored := slices.Clone(applied)
		if _, err = setDNS(t, h, restored); err != nil {
			t.Error(err)
		}
		if content, _ := os.ReadFile(path); string(content) != theirs {
			t.Errorf("in the end there is\n%s", content)
		}
		applied, err = setDNS(t, h, applied, dnsTunnel, dnsTunnel2)
		run(t, "another wish", err)
		if content, _ := os.ReadFile(path); string(content) != ourContent2 {
			t.Errorf("another wish makes\n%s", content)
		}
		_, err = setDNS(t, h, applied)
		run(t, "restore", err)
		if content, _ := os.ReadFile(path); string(content) != theirs {
			t.Errorf("in the end there is\n%s", content)
		}
	})
}

// TestResolvConfFromOurs: a file that was made from ours is not what is put back.
func TestResolvConfFromOurs(t *testing.T) {
	h, path := fileHost(t)
	run(t, "write", os.WriteFile(path, []byte("nameserver 192.0.2.9\n"), 0o644))
	applied, err := setDNS(t, h, nil, dnsTunnel)
	run(t, "set", err)
	edited := "options edns0\n" + ourContent
	run(t, "edit", os.WriteFile(path, []byte(edited), 0o644))
	if h.foreignNames() {
		t.Error("news")
	}
	applied, err = setDNS(t, h, applied, dnsTunnel)
	run(t, "same wish", err)
	if content, _ := os.ReadFile(path); string(content) != edited {
		t.Errorf("content\n%s", content)
	}
	if was := applied[0].(*fileChange).Was; string(was.Seen) != "nameserver 192.0.2.9\n" {
		t.Errorf("to be put back:\n%s", was.Seen)
	}
}

// TestWatchNames: what other programs write is an event, whichever way, and what we write
// is none; the next wish takes the file back, and their last content is what stays.
func TestWatchNames(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		t.Run(fmt.Sprintf("mounted %v", mounted), func(t *testing.T) {
			enterMounts(t)
			addTUN(t, "wayfarer0")
			n, h := testNetwork(t)
			path := filepath.Join(h.root, resolvConfPath)
			run(t, "write", os.WriteFile(path, []byte("nameserver 192.0.2.9\n"), 0o644))
			if mounted {
				source := filepath.Join(h.root, "source")
				run(t, "source", os.WriteFile(source, []byte("nameserver 192.0.2.8\n"), 0o644))
				run(t, "mount", unix.Mount(source, path, "", unix.MS_BIND, ""))
				defer unix.Unmount(path, unix.MNT_DETACH)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			events, err := n.Watch(ctx)
			run(t, "Watch", err)
			tunnel := dnsTunnel
			tunnel.MTU = 1300
			wish := Config{Tunnels: []Tunnel{tunnel}}
			run(t, "Set", n.Set(ctx, wish))
			replace := func(theirs string) {
				run(t, "new", os.WriteFile(path+".new", []byte(theirs), 0o644))
				run(t, "rename", os.Rename(path+".new", path))
			}
			if mounted {
				replace = func(theirs string) { run(t, "write", os.WriteFile(path, []byte(theirs), 0o644)) }
			}
			for _, theirs := range []string{"nameserver 198.51.100.1\n", "nameserver 198.51.100.2\n", "nameserver 198.51.100.2\n"} {
				run(t, "another file", os.WriteFile(filepath.Join(h.root, "etc/hosts"), nil, 0o644))
				replace(theirs)
				for e := range events {
					if e.Kind == EventNames {
						break
					}
				}
				run(t, "Set", n.Set(ctx, wish))
				if content, _ := os.ReadFile(path); string(content) != ourContent {
					t.Errorf("content\n%s", content)
				}
			}
			if h.foreignNames() {
				t.Error("our own writing is news")
			}
			run(t, "restore", n.Set(ctx, Config{}))
			if content, _ := os.ReadFile(path); string(content) != "nameserver 198.51.100.2\n" {
				t.Errorf("in the end there is\n%s", content)
			}
		})
	}
}

func errorsFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestResolvConfRollback: a new wish that fails puts our older file back.
func TestResolvConfRollback(t *testing.T) {
	h, path := fileHost(t)
	run(t, "write", os.WriteFile(path, []byte("nameserver 192.0.2.9\n"), 0o644))
	original := describe(t, h.root)
	applied, err := setDNS(t, h, nil, dnsTunnel)
	run(t, "set", err)
	for range 2 { // again, so that the standing wish was repeated
		applied, err = setDNS(t, h, applied, dnsTunnel)
		run(t, "set", err)
	}
	wanted, _, err := h.planDNS(t.Context(), Config{Tunnels: []Tunnel{dnsTunnel, dnsTunnel2}}, applied)
	run(t, "plan", err)
	w := &world{values: map[string]string{}, fail: map[string]bool{"apply a=1": true}}
	applied, err = advanceAll(t, h, applied, append(wanted, &worldChange{w: w, Key: "a", Value: "1"}))
	if err == nil {
		t.Fatal("no failure")
	}
	if content, _ := os.ReadFile(path); string(content) != ourContent {
		t.Errorf("rolled back to\n%s", content)
	}
	_, err = setDNS(t, h, applied)
	run(t, "restore", err)
	if after := describe(t, h.root); after != original {
		t.Errorf("restored\n%s", after)
	}
}

// enterMounts gives the test's thread mounts of its own; see enterNamespace.
func enterMounts(t *testing.T) {
	t.Helper()
	enterNamespace(t)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("cannot create a mount namespace: %v", err)
	}
	run(t, "private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

// TestResolvConfMounted: in a container the file is a mount, which cannot be replaced.
func TestResolvConfMounted(t *testing.T) {
	enterMounts(t)
	h, path := fileHost(t)
	source := filepath.Join(h.root, "source")
	run(t, "source", os.WriteFile(source, []byte("nameserver 192.0.2.9\n"), 0o640))
	run(t, "file", os.WriteFile(path, nil, 0o644))
	run(t, "mount", unix.Mount(source, path, "", unix.MS_BIND, ""))
	defer unix.Unmount(path, unix.MNT_DETACH)
	before := describe(t, h.root)
	applied, err := setDNS(t, h, nil, dnsTunnel)
	run(t, "set", err)
	if content, _ := os.ReadFile(source); string(content) != ourContent {
		t.Errorf("content\n%s", content)
	}
	_, err = setDNS(t, h, applied)
	run(t, "restore", err)
	if after := describe(t, h.root); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

// TestResolvConfReadOnly: nothing is left half done.
func TestResolvConfReadOnly(t *testing.T) {
	for _, symlink := range []bool{false, true} {
		t.Run(fmt.Sprintf("symlink %v", symlink), func(t *testing.T) {
			enterMounts(t)
			h, path := fileHost(t)
			etc := filepath.Dir(path)
			target := filepath.Join(h.root, "target")
			run(t, "target", os.WriteFile(target, []byte("nameserver 192.0.2.7\n"), 0o644))
			if symlink {
				run(t, "link", os.Symlink("../target", path))
			} else {
				run(t, "file", os.WriteFile(path, []byte("nameserver 192.0.2.9\n"), 0o644))
			}
			run(t, "mount", unix.Mount(etc, etc, "", unix.MS_BIND, ""))
			defer unix.Unmount(etc, unix.MNT_DETACH)
			run(t, "remount", unix.Mount("", etc, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
			before := describe(t, h.root)
			applied, err := setDNS(t, h, nil, dnsTunnel)
			if err == nil || !strings.Contains(err.Error(), "read-only") || len(applied) != 0 {
				t.Errorf("%v, %v", applied, err)
			}
			if after := describe(t, h.root); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// TestResolvConfStrange: what is no file is not touched.
func TestResolvConfStrange(t *testing.T) {
	h, path := fileHost(t)
	run(t, "directory", os.Mkdir(path, 0o755))
	if _, _, err := h.planDNS(t.Context(), Config{Tunnels: []Tunnel{dnsTunnel}}, nil); err == nil {
		t.Error("a directory is accepted")
	}
	run(t, "remove", os.Remove(path))
	run(t, "loop", os.Symlink("resolv.conf", path))
	if _, _, err := h.planDNS(t.Context(), Config{Tunnels: []Tunnel{dnsTunnel}}, nil); err == nil {
		t.Error("a loop is accepted")
	}
}

// TestWhoOwnsDNS: resolved is used only if its stub is configured and it answers.
func TestWhoOwnsDNS(t *testing.T) {
	enterNamespace(t)
	addTUN(t, "wayfarer0")
	n, h := testNetwork(t)
	tunnel := dnsTunnel
	tunnel.MTU = 1300
	bus := &fakeBus{}
	h.bus = bus
	path := filepath.Join(h.root, "etc/resolv.conf")
	for _, tt := range []struct {
		content string
		silent  bool
		file    bool
	}{
		{"nameserver 127.0.0.53\n", false, false},
		{"nameserver 127.0.0.53\n", true, true},
		{"nameserver 192.0.2.1\n", false, true},
	} {
		run(t, "write", os.WriteFile(path, []byte(tt.content), 0o644))
		bus.silent, bus.calls = tt.silent, nil
		run(t, "set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}}))
		content, _ := os.ReadFile(path)
		if owner := n.Report().DNS; owner != map[bool]string{true: "file", false: "systemd-resolved"}[tt.file] {
			t.Errorf("%q, silent %v: owner %s", tt.content, tt.silent, owner)
		}
		if file := bytes.HasPrefix(content, []byte(resolvHeader)); file != tt.file || (len(bus.calls) > 0) == tt.file {
			t.Errorf("%q, silent %v: file %v, calls %q", tt.content, tt.silent, file, bus.calls)
		}
		run(t, "restore", n.Set(t.Context(), Config{}))
		if content, _ := os.ReadFile(path); string(content) != tt.content {
			t.Errorf("restored %q", content)
		}
	}
}

func TestResolved(t *testing.T) {
	notYet := dbus.Error{Name: noSuchLink}
	for _, tt := range []struct {
		name   string
		change resolvedChange
		older  *resolvedChange
		errs   []error
		want   []string
		pauses int
	}{
		{
			name:   "all names",
			change: resolvedChange{Index: 5, Servers: addrs("10.1.1.1", "fd00::53", "::ffff:10.1.1.2"), Search: []string{"corp.example"}},
			want: []string{
				"SetLinkDNS 5 [{2 [10 1 1 1]} {10 [253 0 0 0 0 0 0 0 0 0 0 0 0 0 0 83]} {2 [10 1 1 2]}]",
				"SetLinkDomains 5 [{corp.example false} {. true}]",
				"SetLinkDefaultRoute 5 true", "FlushCaches",
			},
		},
		{
			name:   "some names",
			change: resolvedChange{Index: 5, Servers: addrs("10.1.1.1"), Search: []string{"corp.example"}, Match: []string{"corp.example", "lab.example"}},
			want: []string{
				"SetLinkDNS 5 [{2 [10 1 1 1]}]", "SetLinkDomains 5 [{corp.example false} {lab.example true}]",
				"SetLinkDefaultRoute 5 false", "FlushCaches",
			},
		},
		{
			name:   "the same again",
			change: resolvedChange{Index: 5, Servers: addrs("10.1.1.1")},
			older:  &resolvedChange{Index: 5, Servers: addrs("10.1.1.1")},
			want:   []string{"SetLinkDNS 5 [{2 [10 1 1 1]}]", "SetLinkDomains 5 [{. true}]", "SetLinkDefaultRoute 5 true"},
		},
		{
			name:   "another wish",
			change: resolvedChange{Index: 5, Servers: addrs("10.1.1.1")},
			older:  &resolvedChange{Index: 5, Servers: addrs("10.1.1.2")},
			want:   []string{"SetLinkDNS 5 [{2 [10 1 1 1]}]", "SetLinkDomains 5 [{. true}]", "SetLinkDefaultRoute 5 true", "FlushCaches"},
		},
		{
			name:   "a link that resolved does not know yet",
			change: resolvedChange{Index: 5, Servers: addrs("10.1.1.1")},
			errs:   []error{notYet, notYet, nil, nil, dbus.Error{Name: noSuchMethod}},
			want: []string{
				"SetLinkDNS 5 [{2 [10 1 1 1]}]", "SetLinkDNS 5 [{2 [10 1 1 1]}]", "SetLinkDNS 5 [{2 [10 1 1 1]}]",
				"SetLinkDomains 5 [{. true}]", "SetLinkDefaultRoute 5 true", "FlushCaches",
			},
			pauses: 2,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := &fakeBus{next: tt.errs}
				tt.change.h = &linuxHost{bus: bus}
				if tt.older != nil {
					tt.change.inherit(tt.older)
				}
				start := time.Now()
				run(t, "apply", tt.change.apply(t.Context()))
				if !slices.Equal(bus.calls, tt.want) {
					t.Errorf("calls %q", bus.calls)
				}
				if took := time.Since(start); took != time.Duration(tt.pauses)*linkPause {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestResolvedFails(t *testing.T) {
	denied := dbus.Error{Name: "org.freedesktop.DBus.Error.AccessDenied", Body: []any{"denied"}}
	unknown := dbus.Error{Name: noSuchLink, Body: []any{"Link 5 not known"}}
	synctest.Test(t, func(t *testing.T) {
		bus := &fakeBus{}
		c := &resolvedChange{h: &linuxHost{bus: bus, nl: &netlink.Handle{}}, Index: 1, Name: "lo"}
		for i, method := range []string{"SetLinkDNS", "SetLinkDomains", "SetLinkDefaultRoute"} {
			bus.next = append(make([]error, i), denied)
			if err := c.apply(t.Context()); err == nil || !strings.Contains(err.Error(), method+": polkit") || !strings.HasSuffix(err.Error(), ": denied") {
				t.Errorf("%s: %v", method, err)
			}
		}
		bus.fail, bus.calls = unknown, nil
		if err := c.apply(t.Context()); err == nil || !strings.Contains(err.Error(), "not known") || len(bus.calls) != linkTries {
			t.Errorf("%v after %d calls", err, len(bus.calls))
		}
		ctx, cancel := context.WithTimeout(t.Context(), linkPause/2)
		defer cancel()
		if err := c.apply(ctx); err != context.DeadlineExceeded {
			t.Errorf("cancelled: %v", err)
		}
		bus.fail, bus.next, bus.calls = nil, []error{unknown}, nil
		if err := c.undo(t.Context()); err != nil || !slices.Equal(bus.calls, []string{"RevertLink 1", "FlushCaches"}) {
			t.Errorf("undo without a link: %v, %q", err, bus.calls)
		}
		bus.next = []error{denied}
		if err := c.undo(t.Context()); err == nil {
			t.Error("undo: no error")
		}
	})
}
