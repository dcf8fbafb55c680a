package platform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// serviceUID is a user without an account, as whom the service runs in tests.
const serviceUID = 61234

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give directories away")
	}
}

// journalLine is a line that the program would read.
func journalLine(t *testing.T, boot, kind string, c any) string {
	t.Helper()
	data, err := json.Marshal(c)
	run(t, kind, err)
	line, err := json.Marshal(record{journalVersion, boot, kind, data})
	run(t, kind, err)
	return string(line) + "\n"
}

// TestForeignJournal: root undoes what a service with fewer rights has left, and does
// nothing for it that the service could not have done.
func TestForeignJournal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		dir     int // the directory's owner
		file    int // the journal's
		trusted bool
	}{
		{"the service's directory", serviceUID, serviceUID, false},
		{"a file of root's in it", serviceUID, 0, false},
		{"the service's file in root's directory", 0, serviceUID, false},
		{"control: root's", 0, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enterNamespace(t)
			run(t, "rp_filter", os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("2"), 0))
			root := t.TempDir()
			run(t, "proc", os.Symlink("/proc", filepath.Join(root, "proc")))
			writeAt(t, root, "etc/passwd", "ours", 0o644)
			writeAt(t, root, "sbin/resolvconf", "#!/bin/sh\necho ran >>${0%/sbin/resolvconf}/ran\n", 0o755)
			writeAt(t, root, "run/resolvconf/interfaces/wayfarer", "", 0o644)
			h := &linuxHost{root: root}
			writeAt(t, root, "state/network.journal",
				journalLine(t, "", "file", &fileChange{Path: "/etc/passwd", Content: []byte("ours"), Was: fileState{Kind: fileRegular, Seen: []byte("theirs"), Mode: 0o644}})+
					journalLine(t, "", "resolvconf", &resolvconfChange{Program: "/sbin/resolvconf"})+
					journalLine(t, "", "sysctl", &sysctlChange{Path: "net/ipv4/conf/all/rp_filter", Value: "2", Was: "1"})+
					`{"v":99,"kind":"file","change":{}}`+"\n", 0o600)
			run(t, "owner", os.Chown(filepath.Join(root, "state", journalFile), tt.file, -1))
			run(t, "owner", os.Chown(filepath.Join(root, "state"), tt.dir, -1))
			run(t, "mode", os.Chmod(filepath.Join(root, "state"), 0o700))

			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			opened, _, err := newHost(logger, "/state")
			run(t, "host", err)
			h = opened.(*linuxHost)
			h.root, h.bus = root, &fakeBus{silent: true}
			j, err := openJournal(logger, filepath.Join(root, "state"), "")
			run(t, "open", err)
			defer j.close()
			_, err = j.recover(t.Context(), h, false)
			if (err != nil) != tt.trusted { // of the newer version's line, which root's journal keeps
				t.Errorf("recover: %v", err)
			}
			want := "ours"
			if tt.trusted {
				want = "theirs"
			}
			if content, _ := os.ReadFile(filepath.Join(root, "etc/passwd")); string(content) != want {
				t.Errorf("the file is %q", content)
			}
			if _, err := os.Stat(filepath.Join(root, "ran")); (err == nil) != tt.trusted {
				t.Errorf("the program: %v", err)
			}
			if value, _ := h.sysctl("net/ipv4/conf/all/rp_filter"); value != "1" {
				t.Errorf("a setting of the network is not undone: %q", value)
			}
			if !tt.trusted && strings.Count(log.String(), "another user says so") != 2 {
				t.Errorf("log %s", &log)
			}
			for _, name := range []string{lockFile, journalFile} {
				if _, err := os.Stat(filepath.Join(root, "state", name)); err == nil && tt.dir != 0 && owner(t, filepath.Join(root, "state", name)) != tt.dir {
					t.Errorf("%s does not belong to the service", name)
				}
			}
		})
	}
}

func owner(t *testing.T, path string) int {
	t.Helper()
	var stat unix.Stat_t
	run(t, path, unix.Lstat(path, &stat))
	return int(stat.Uid)
}

// TestForeignSysctl: a journal names no setting that is never changed.
func TestForeignSysctl(t *testing.T) {
	root := t.TempDir()
	writeAt(t, root, "proc/sys/kernel/core_pattern", "core", 0o644)
	writeAt(t, root, "proc/sys/net/core/bpf_jit_harden", "core", 0o644)
	h := &linuxHost{root: root}
	for _, path := range []string{"net/core/bpf_jit_harden", "kernel/core_pattern", "net/../kernel/core_pattern", "net/../../sys/kernel/core_pattern", "/kernel/core_pattern"} {
		c := &sysctlChange{h: h, Path: path, Value: "core", Was: "|/bin/evil"}
		if err := c.undo(t.Context()); err == nil {
			t.Errorf("%s was written", path)
		}
	}
	if content, _ := os.ReadFile(filepath.Join(root, "proc/sys/kernel/core_pattern")); string(content) != "core" {
		t.Errorf("it is %q", content)
	}
}

// TestForeignFiles: in a directory of the service's may stand anything instead of the
// files that root expects there.
func TestForeignFiles(t *testing.T) {
	for name, plant := range map[string]func(path, victim string) error{
		"symlink":   func(path, victim string) error { return os.Symlink(victim, path) },
		"hard link": func(path, victim string) error { return os.Link(victim, path) },
		"pipe":      func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path, _ string) error { return os.Mkdir(path, 0o700) },
	} {
		for _, file := range []string{lockFile, journalFile, journalFile + ".new"} {
			t.Run(name+" "+file, func(t *testing.T) {
				dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "shadow")
				run(t, "victim", os.WriteFile(victim, []byte("secret\n"), 0o600))
				run(t, "plant", plant(filepath.Join(dir, file), victim))
				run(t, "mode", os.Chmod(dir, 0o700))
				j, err := openJournal(slog.New(slog.DiscardHandler), dir, "")
				if (err == nil) != (file == journalFile+".new") {
					t.Errorf("openJournal: %v", err)
				}
				if err == nil {
					j.kept = []string{"line"}
					err = j.keep(nil)
					if err != nil {
						t.Errorf("keep: %v", err)
					}
					j.close()
				}
				if content, _ := os.ReadFile(victim); string(content) != "secret\n" {
					t.Errorf("the file is %q", content)
				}
			})
		}
	}
}

// TestRestoreService: Restore undoes what root's process and the service have left, and
// the service can go on in its directory.
func TestRestoreService(t *testing.T) {
	enterNamespace(t)
	needRoot(t)
	before := hostState(t)
	dir := filepath.Join(t.TempDir(), "state")
	root, err := New(slog.New(slog.DiscardHandler), dir)
	run(t, "open", err)
	service, err := root.ServiceDir(serviceUID, serviceUID)
	run(t, "service", err)
	run(t, "close", service.Close())
	run(t, "close", root.Close())
	rule := &ruleChange{Family: netlink.FAMILY_V4}
	path := filepath.Join(dir, serviceDir, journalFile)
	run(t, "journal", os.WriteFile(path, []byte(journalLine(t, root.journal.boot, "rule", rule)), 0o600))
	run(t, "owner", os.Chown(path, serviceUID, serviceUID))
	made := netlink.NewRule()
	made.Family, made.Priority, made.Table, made.Mark, made.Invert, made.Protocol = netlink.FAMILY_V4, rulePriority, routeTable, bypassMark, true, routeProtocol
	run(t, "rule", netlink.RuleAdd(made))
	if hostState(t) == before {
		t.Fatal("the rule is not there")
	}
	run(t, "Restore", Restore(t.Context(), dir))
	if after := hostState(t); after != before {
		t.Errorf("the host is\n%s", added(before, after))
	}
	if lock := filepath.Join(dir, serviceDir, lockFile); owner(t, lock) != serviceUID {
		t.Error("the lock belongs to root")
	}
	holder, err := New(slog.New(slog.DiscardHandler), dir)
	run(t, "open", err)
	defer holder.Close()
	if err := Restore(t.Context(), dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("beside a service: %v", err)
	}
}

// TestServiceDir: the directories belong to whom they must, whoever had them before.
func TestServiceDir(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "state")
	run(t, "dir", os.Mkdir(dir, 0o700))
	run(t, "owner", os.Chown(dir, serviceUID, serviceUID))
	n, err := New(slog.New(slog.DiscardHandler), dir)
	run(t, "open", err)
	defer n.Close()
	if _, err := n.ServiceDir(serviceUID+1, serviceUID+1); err == nil || owner(t, dir) != serviceUID {
		t.Errorf("somebody's directory was taken: %v", err)
	}
	for _, uid := range []int{serviceUID, 0, serviceUID + 1} {
		opened, err := n.ServiceDir(uid, uid)
		run(t, "service", err)
		info, err := opened.Stat()
		run(t, "stat", err)
		run(t, "close", opened.Close())
		lock := filepath.Join(dir, serviceDir, lockFile)
		if owner(t, dir) != 0 || owner(t, filepath.Join(dir, serviceDir)) != uid || info.Mode().Perm() != 0o700 {
			t.Errorf("uid %d: %v of %d", uid, info.Mode(), owner(t, filepath.Join(dir, serviceDir)))
		}
		if uid == serviceUID {
			run(t, "lock", os.WriteFile(lock, nil, 0o600)) // root's
		} else if owner(t, lock) != uid {
			t.Errorf("the lock belongs to %d", owner(t, lock))
		}
	}
	run(t, "remove", os.Remove(filepath.Join(dir, serviceDir, lockFile)))
	run(t, "link", os.Symlink("/etc/hostname", filepath.Join(dir, serviceDir, lockFile)))
	if _, err := n.ServiceDir(serviceUID, serviceUID); err == nil {
		t.Error("a symlink was followed")
	}
	run(t, "remove", os.RemoveAll(filepath.Join(dir, serviceDir)))
	run(t, "link", os.Symlink("/etc", filepath.Join(dir, serviceDir)))
	if _, err := n.ServiceDir(serviceUID, serviceUID); err == nil {
		t.Error("a symlink was taken for the directory")
	}
}

// TestServiceDirGetsTheBlock: the block of a service that was one process, and was killed,
// stands without a gap until the divided one has its own wish.
func TestServiceDirGetsTheBlock(t *testing.T) {
	enterNamespace(t)
	root := t.TempDir()
	before := hostState(t)
	one, _, err := networkBelow(root)
	run(t, "open", err)
	run(t, "block", one.Set(t.Context(), Config{BlockOutside: true}))
	run(t, "killed", one.journal.close())
	blocked := hostState(t)

	super, _, err := networkBelow(root)
	run(t, "open", err)
	run(t, "recover", super.Recover(t.Context(), true))
	dir, err := super.ServiceDir(serviceUID, serviceUID)
	run(t, "service", err)
	run(t, "close", dir.Close())
	if _, err := os.Stat(super.journal.path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("root's journal: %v", err)
	}
	inherited := filepath.Join(super.journal.dir, serviceDir, journalFile)
	if owner(t, inherited) != serviceUID {
		t.Errorf("the service's journal belongs to %d", owner(t, inherited))
	}
	run(t, "root ends", super.Close())
	if is := hostState(t); is != blocked {
		t.Errorf("the block was\n%s\nand is\n%s", blocked, is)
	}
	opened, boot, err := newHost(slog.New(slog.DiscardHandler), "/state")
	run(t, "open", err)
	left, err := openJournal(slog.New(slog.DiscardHandler), filepath.Dir(inherited), boot)
	run(t, "open", err)
	service := &Network{log: slog.New(slog.DiscardHandler), host: opened, journal: left}
	run(t, "recover", service.Recover(t.Context(), true))
	if is := hostState(t); is != blocked {
		t.Errorf("the block was\n%s\nand is\n%s", blocked, is)
	}
	run(t, "no more", service.Set(t.Context(), Config{}))
	if after := hostState(t); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	run(t, "close", service.journal.close())
}
