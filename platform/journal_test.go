package platform

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// stopped is what a world panics with when it is to stop in the middle of its work.
type stopped struct{}

// crash runs f in a world that stops after so many changes, and says whether it did.
func (w *world) crash(after int, f func()) (crashed bool) {
	w.stopAfter, w.stops = after, true
	defer func() {
		w.stops = false
		if r := recover(); r != nil {
			if _, ok := r.(stopped); !ok {
				panic(r)
			}
			crashed = true
		}
	}()
	f()
	return false
}

// TestJournalFirst: at each change of the world, the journal lists it already.
func TestJournalFirst(t *testing.T) {
	w := &world{values: map[string]string{}}
	n := w.on(t)
	changed := 0
	w.before = func(c *worldChange) {
		changed++
		content, err := os.ReadFile(n.journal.path())
		if err != nil || !strings.Contains(string(content), fmt.Sprintf(`"Key":%q,"Value":%q`, c.Key, c.Value)) {
			t.Errorf("when %v is made or undone, the journal is %q, %v", c, content, err)
		}
	}
	for _, names := range []string{"a=1 b=1", "a=2 c=1", ""} {
		if err := n.Set(t.Context(), wish(names)); err != nil {
			t.Fatal(err)
		}
	}
	if changed != 7 {
		t.Errorf("%d changes", changed)
	}
	if _, err := os.Stat(n.journal.path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the journal of a restored host: %v", err)
	}
}

// TestCrash stops a process after each change, of each step from wish to wish, and
// lets another recover.
func TestCrash(t *testing.T) {
	const start = "a=0 b=0 c=0"
	wishes := []string{"a=1 b=1", "b=2 c=1", "a=1 c=1", ""}
	for _, tt := range []struct {
		name    string
		recover func(n *Network) error
		control bool // it does not recover at all
	}{
		{name: "Recover", recover: func(n *Network) error { return n.Recover(t.Context(), false) }},
		{name: "first Set", recover: func(n *Network) error { return n.Set(t.Context(), Config{}) }},
		{name: "a new wish, and none", recover: func(n *Network) error {
			return errors.Join(n.Set(t.Context(), wish("a=7")), n.Set(t.Context(), Config{}))
		}},
		{name: "control", recover: func(*Network) error { return nil }, control: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			crashes, differences := 0, 0
			for after := 0; ; after++ {
				w := &world{values: map[string]string{"a": "0", "b": "0", "c": "0"}}
				n := w.on(t)
				dir := n.journal.dir
				crashed := w.crash(after, func() {
					for _, names := range wishes {
						if err := n.Set(t.Context(), wish(names)); err != nil {
							t.Fatal(err)
						}
					}
				})
				n.journal.close() // as the end of the process does
				if !crashed {
					break
				}
				crashes++
				next := &Network{log: slog.New(slog.DiscardHandler), host: w, journal: testJournal(t, dir, "boot")}
				if err := tt.recover(next); err != nil {
					t.Errorf("after %d changes: %v", after, err)
				}
				if w.String() != start {
					differences++
					if !tt.control {
						t.Errorf("after %d changes the world is %v", after, w)
					}
				}
				next.journal.close()
			}
			if crashes < 8 || tt.control && differences == 0 {
				t.Errorf("%d crashes, %d differences", crashes, differences)
			}
		})
	}
}

// lines are a journal's lines of changes of a world.
func lines(boot string, changes ...string) string {
	var all string
	for _, c := range changes {
		key, value, _ := strings.Cut(c, "=")
		all += fmt.Sprintf(`{"v":1,"boot":%q,"kind":"value","change":{"Key":%q,"Value":%q,"Was":"0"}}`+"\n", boot, key, value)
	}
	return all
}

func TestRecover(t *testing.T) {
	const newer = `{"v":2,"boot":"boot","kind":"value","change":{"Key":"a","Value":"1","Was":"0"}}` + "\n"
	const unknown = `{"v":1,"boot":"boot","kind":"moon","change":{}}` + "\n"
	for _, tt := range []struct {
		name      string
		journal   string
		keepBlock bool
		fail      string
		diary     string
		err       string
		left      string // of the journal
	}{
		{name: "nothing"},
		{name: "newest first", journal: lines("boot", "a=1", "b=1", "a=2"), diary: "undo a=2, undo b=1, undo a=1"},
		{name: "last line cut off", journal: lines("boot", "a=1") + `{"v":1,"boot":"boot","ki`, diary: "undo a=1"},
		{name: "last line without its end", journal: strings.TrimSuffix(lines("boot", "a=1"), "\n"), diary: "undo a=1"},
		{name: "empty", journal: ""},
		{name: "after a restart", journal: lines("older", "a=1", "file=1", "b=1"), diary: "undo file=1"},
		{name: "before and after", journal: lines("older", "a=1") + lines("boot", "b=1"), diary: "undo b=1"},
		{
			name: "of a newer version", journal: lines("boot", "b=1") + newer, diary: "undo b=1",
			err: "1 entries of another version", left: newer,
		},
		{name: "of a newer version alone", journal: newer, err: "1 entries of another version", left: newer},
		{
			name: "of an unknown kind", journal: unknown + lines("boot", "b=1"), diary: "undo b=1",
			err: "1 entries of another version", left: unknown,
		},
		{
			name: "not JSON", journal: "?\n" + lines("boot", "b=1"), diary: "undo b=1",
			err: "1 entries of another version", left: "?\n",
		},
		{
			name: "what cannot be undone stays", journal: lines("boot", "a=1", "b=1", "c=1"), fail: "undo b=1", diary: "undo c=1, undo a=1",
			err: "part of b: undo b=1: refused", left: lines("boot", "b=1"),
		},
		{name: "block", journal: lines("boot", "block=1", "a=1"), diary: "undo a=1, undo block=1"},
		{name: "block kept", journal: lines("boot", "block=1", "a=1"), keepBlock: true, diary: "undo a=1", left: lines("boot", "block=1")},
		{name: "block of before a restart", journal: lines("older", "block=1", "a=1"), keepBlock: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, journalFile), []byte(tt.journal), 0o600); err != nil {
				t.Fatal(err)
			}
			w := &world{values: map[string]string{}, fail: map[string]bool{tt.fail: true}}
			n := &Network{log: slog.New(slog.DiscardHandler), host: w, journal: testJournal(t, dir, "boot")}
			err := n.Recover(t.Context(), tt.keepBlock)
			var e *Error
			if tt.err == "" && err != nil || tt.err != "" && (!errors.As(err, &e) || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v", err)
			}
			if got := strings.Join(w.diary, ", "); got != tt.diary {
				t.Errorf("diary %q", got)
			}
			if left, _ := os.ReadFile(n.journal.path()); string(left) != tt.left {
				t.Errorf("journal\n%s", left)
			}
			// A wish of ours does not lose what is left, nor does its end.
			for _, names := range []string{"x=1", ""} {
				if err := n.Set(t.Context(), wish(names)); err != nil {
					t.Error(err)
				}
			}
			left, _ := os.ReadFile(n.journal.path())
			if want := tt.left; !tt.keepBlock && string(left) != want || tt.keepBlock && len(left) > 0 {
				t.Errorf("journal later\n%s", left)
			}
		})
	}
}

// TestBlockKept: a wish takes over the block that was kept; one without ends it.
func TestBlockKept(t *testing.T) {
	for names, want := range map[string]string{
		"block=0": "apply block=0", "block=1": "", "a=1": "apply a=1, undo block=1", "": "undo block=1",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, journalFile), []byte(lines("boot", "block=1")), 0o600); err != nil {
			t.Fatal(err)
		}
		w := &world{values: map[string]string{"block": "1"}}
		n := &Network{log: slog.New(slog.DiscardHandler), host: w, journal: testJournal(t, dir, "boot")}
		if err := errors.Join(n.Recover(t.Context(), true), n.Set(t.Context(), wish(names))); err != nil {
			t.Error(err)
		}
		if got := strings.Join(w.diary, ", "); got != want {
			t.Errorf("%q: %s", names, got)
		}
	}
}

func TestJournalBusy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for", "it")
	n, err := New(slog.New(slog.DiscardHandler), dir)
	if err != nil {
		t.Fatal(err)
	}
	var busy *BusyError
	_, err = New(slog.New(slog.DiscardHandler), dir)
	if !errors.As(err, &busy) || busy.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second one: %v", err)
	}
	if err := Restore(t.Context(), dir); !errors.As(err, &busy) {
		t.Errorf("Restore beside it: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := Restore(t.Context(), dir); err != nil {
		t.Errorf("Restore after it: %v", err)
	}
}

// TestJournalRefused: without a journal nothing is changed.
func TestJournalRefused(t *testing.T) {
	var e *Error
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(slog.New(slog.DiscardHandler), filepath.Join(file, "below")); !errors.As(err, &e) || e.Part != PartJournal {
		t.Errorf("no folder: %v", err)
	}

	w := &world{values: map[string]string{}}
	n := w.on(t)
	// Where the new journal is written there is something that cannot be replaced.
	if err := os.MkdirAll(filepath.Join(n.journal.path()+".new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := n.Set(t.Context(), wish("a=1")); !errors.As(err, &e) || e.Part != PartJournal || len(w.diary) > 0 {
		t.Errorf("cannot write: %v, %q", err, w.diary)
	}

	n = w.on(t)
	if err := n.Set(t.Context(), wish("a="+strings.Repeat("1", maxJournal))); !errors.Is(err, errTooLong) || len(w.diary) > 0 {
		t.Errorf("too long a wish: %v, %q", err, w.diary)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, journalFile), make([]byte, maxJournal+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(slog.New(slog.DiscardHandler), dir, ""); !errors.Is(err, errTooLong) {
		t.Errorf("too long a journal: %v", err)
	}
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing on Windows")
	}
	n = w.on(t)
	if err := n.Set(t.Context(), wish("a=1")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(n.journal.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestJournalQuiet: a wish that changes nothing writes nothing.
func TestJournalQuiet(t *testing.T) {
	w := &world{values: map[string]string{}}
	n := w.on(t)
	if err := n.Set(t.Context(), wish("a=1 b=1")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(n.journal.path())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Set(t.Context(), wish("a=1 b=1")); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(n.journal.path()); err != nil || !os.SameFile(before, after) {
		t.Errorf("the journal was written anew: %v", err)
	}
}

// TestJournalOnDisk: what a restart of the computer does not undo is on the disk before it is
// made, and gone from there when it is undone; the rest costs no such wait.
func TestJournalOnDisk(t *testing.T) {
	w := &world{values: map[string]string{}}
	n := w.on(t)
	syncs, last := 0, ""
	n.journal.sync = func(file *os.File) error {
		if syncs++; file.Name() == n.journal.temp() {
			content, err := os.ReadFile(file.Name())
			last = string(content)
			return err
		}
		return nil
	}
	w.before = func(c *worldChange) {
		if c.survives() && !strings.Contains(last, fmt.Sprintf("%q", c.Key)) {
			t.Errorf("%v is made or undone, on the disk is %q", c, last)
		}
	}
	removal := runtime.GOOS != "windows" // which cannot wait for that; what comes back undoes nothing
	for _, step := range []struct {
		wish   string
		synced bool
	}{{"a=1", false}, {"a=2 b=1", false}, {"a=2 file=1", true}, {"a=2", true}, {"b=2", false}, {"file=1", true}, {"", removal}, {"a=1", false}} {
		syncs = 0
		if err := n.Set(t.Context(), wish(step.wish)); err != nil {
			t.Fatal(err)
		}
		if synced := syncs > 0; synced != step.synced {
			t.Errorf("%q: synced %v", step.wish, synced)
		}
	}
}

// TestJournalKeptOnDisk: as long as a journal has lines of somebody else's, or what could not
// be undone, it is on the disk whatever is added: losing power must not lose them.
func TestJournalKeptOnDisk(t *testing.T) {
	for name, journal := range map[string]string{
		"": "", "another version's": `{"v":2}` + "\n", "what cannot be undone": lines("boot", "a=1"),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, journalFile), []byte(journal), 0o600); err != nil {
			t.Fatal(err)
		}
		w := &world{values: map[string]string{}, fail: map[string]bool{"undo a=1": true}}
		n := &Network{log: slog.New(slog.DiscardHandler), host: w, journal: testJournal(t, dir, "boot")}
		onDisk := ""
		n.journal.sync = func(file *os.File) error {
			if file.Name() == n.journal.temp() {
				content, err := os.ReadFile(file.Name())
				onDisk = string(content)
				return err
			}
			return nil
		}
		for range 2 { // the second time the journal is one that was written here
			for _, names := range []string{"b=1", ""} {
				onDisk = "nothing"
				if err := n.Set(t.Context(), wish(names)); err != nil {
					t.Fatal(err)
				}
				if journal != "" && !strings.HasPrefix(onDisk, journal) || journal == "" && onDisk != "nothing" {
					t.Errorf("%s: with %q on the disk is %q", name, names, onDisk)
				}
			}
		}
	}
}

// TestDirectoryModes: other users can pass the state directory, because of Samba's file,
// but neither list it nor read the journal.
func TestDirectoryModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes do not protect a directory on Windows")
	}
	dir := filepath.Join(t.TempDir(), "state")
	j := testJournal(t, dir, "boot")
	if err := j.keep([]change{&worldChange{Key: "a", Value: "1"}}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o711, j.path(): 0o600, filepath.Join(dir, lockFile): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: %o, not %o", filepath.Base(path), got, want)
		}
	}
}

// TestForeignDirectory: a journal is obeyed with all our rights, so it must be
// nobody else's.
func TestForeignDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes do not protect a directory on Windows")
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o700: true, 0o755: true, 0o777: false, 0o720: false} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		j, err := openJournal(slog.New(slog.DiscardHandler), dir, "boot")
		if (err == nil) != want {
			t.Errorf("mode %o: %v", mode, err)
		}
		if err == nil {
			j.close()
		}
	}
}
