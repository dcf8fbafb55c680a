package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gofrs/flock"

	"wayfarer/app"
)

func wantNames(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if got, err := s.Names(); err != nil || !slices.Equal(got, want) {
		t.Errorf("names %q, %v; want %q", got, err, want)
	}
}

func TestReorder(t *testing.T) {
	s := newStore(t)
	save(t, s, app.Profile{Name: "a"}, app.Profile{Name: "b"}, app.Profile{Name: "c"}, app.Profile{Name: "d"})
	for _, tt := range []struct{ order, want string }{
		{"d c b a", "d c b a"},
		{"a b", "a b d c"},
		{"absent c c", "c a b d"},
		{"", "c a b d"},
	} {
		if err := s.Reorder(strings.Fields(tt.order)); err != nil {
			t.Fatal(err)
		}
		wantNames(t, s, strings.Fields(tt.want)...)
	}
	save(t, s, app.Profile{Name: "e"}, app.Profile{Name: "b"}) // a new one and an old one
	wantNames(t, s, "c", "a", "b", "d", "e")
}

func TestRename(t *testing.T) {
	s := newStore(t)
	save(t, s, app.Profile{Name: "a"}, app.Profile{Name: "office", Gateway: "vpn.example.com", CA: []string{testPEM}}, app.Profile{Name: "z"})
	for _, step := range []struct{ from, to, want string }{
		{"office", "work", "a work z"},
		{"work", "Work", "a Work z"},
		{"Work", "Work", "a Work z"},
		{"a", "office", "office Work z"}, // the first one's key is still taken
	} {
		if err := s.Rename(step.from, step.to); err != nil {
			t.Fatal(err)
		}
		wantNames(t, s, strings.Fields(step.want)...)
	}
	if got, err := s.Load("Work"); err != nil || got.Profile.Name != "Work" || got.Profile.CA[0] != testPEM {
		t.Errorf("got %+v, %v", got, err)
	}
	// Another one of an earlier name does not touch it.
	if err := s.Remove("office"); err != nil {
		t.Fatal(err)
	}
	save(t, s, app.Profile{Name: "office", Gateway: "other.example.com"})
	for name, gateway := range map[string]string{"Work": "vpn.example.com", "office": "other.example.com"} {
		if got, err := s.Load(name); err != nil || got.Profile.Gateway != gateway {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	for _, tt := range []struct {
		from, to string
		want     error
	}{{"absent", "x", ErrNotFound}, {"Work", "z", ErrExists}} {
		if err := s.Rename(tt.from, tt.to); !errors.Is(err, tt.want) {
			t.Errorf("%s to %s: got %v", tt.from, tt.to, err)
		}
	}
	if err := s.Rename("Work", "-x"); err == nil {
		t.Error("a bad name is taken")
	}
}

// TestReplace: a profile keeps its place, whatever its name; an error leaves it as it was.
func TestReplace(t *testing.T) {
	s := newStore(t)
	office := app.Profile{Version: 1, Name: "office", Gateway: "vpn.example.com", CA: []string{testPEM}}
	save(t, s, app.Profile{Name: "a"}, office, app.Profile{Name: "z"})
	name := "office"
	for _, step := range []struct{ to, want string }{
		{"office", "a office z"},
		{"work", "a work z"},
		{"Work", "a Work z"}, // whose key is that of the one before
		{"work", "a work z"},
	} {
		in := &Entry{Profile: office, Password: []byte("to " + step.to)}
		in.Profile.Name, in.Profile.CA = step.to, []string{testPEM + step.to}
		if err := s.Replace(name, in); err != nil {
			t.Fatal(err)
		}
		name = step.to
		wantNames(t, s, strings.Fields(step.want)...)
		if got, err := s.Load(name); err != nil || !reflect.DeepEqual(got, in) {
			t.Errorf("got %+v, %v; want %+v", got, err, in)
		}
		if len(ringOf(s).entries) != 4 || len(files(s)) != 1 {
			t.Errorf("%d entries and %d files", len(ringOf(s).entries), len(files(s)))
		}
	}

	before, err := s.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, to string
		password int
		want     error
	}{
		{"absent", "x", 0, ErrNotFound},
		{"absent", "absent", 0, ErrNotFound},
		{name, "z", 0, ErrExists},
		{name, name, maxEntry, ErrTooBig},
		{name, "x", maxEntry, ErrTooBig},
	} {
		in := &Entry{Profile: app.Profile{Name: tt.to, CA: []string{testPEM}}, Password: make([]byte, tt.password)}
		if err := s.Replace(tt.name, in); !errors.Is(err, tt.want) {
			t.Errorf("%s by %s: got %v, want %v", tt.name, tt.to, err, tt.want)
		}
	}
	if err := s.Replace(name, &Entry{Profile: app.Profile{Name: "-x"}}); err == nil {
		t.Error("a bad name is taken")
	}
	if got, err := s.Load(name); err != nil || !reflect.DeepEqual(got, before) {
		t.Errorf("an error left %+v, %v", got, err)
	}
	wantNames(t, s, "a", name, "z")
	if len(ringOf(s).entries) != 4 || len(files(s)) != 1 {
		t.Errorf("errors left %d entries and %d files", len(ringOf(s).entries), len(files(s)))
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	shared := []string{testPEM}
	save(t, s, app.Profile{Name: "a", CA: append(shared, testPEM+testPEM)}, app.Profile{Name: "b", CA: shared})
	if err := s.Remove("a"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, s, "b")
	if got, err := s.Load("b"); err != nil || !slices.Equal(got.Profile.CA, shared) {
		t.Errorf("got %+v, %v", got, err)
	}
	if n := len(files(s)); n != 1 {
		t.Errorf("%d files, want 1", n)
	}
	if _, err := s.Load("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := s.Remove("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	// One that is damaged can be removed, too; one that somebody has deleted in the
	// keyring as well.
	ringOf(s).entries[keyOf+"b"] = "version ="
	if err := s.Remove("b"); err != nil {
		t.Error(err)
	}
	save(t, s, app.Profile{Name: "c"})
	delete(ringOf(s).entries, keyOf+"c")
	if err := s.Remove("c"); err != nil {
		t.Error(err)
	}
	if len(ringOf(s).entries) != 1 || len(files(s)) != 0 {
		t.Errorf("left behind: %v, %v", ringOf(s).entries, files(s))
	}
}

// TestTwoKeyrings: a user of two desktops may have two keyrings, with one folder for
// files. What one does not need another one may.
func TestTwoKeyrings(t *testing.T) {
	first := newStore(t)
	second := &Store{dir: first.dir, ring: newStore(t).ring}
	office := app.Profile{Version: 1, Name: "office", CA: []string{testPEM}}
	save(t, first, office)
	save(t, second, office, app.Profile{Name: "other", CA: []string{testPEM + testPEM}})
	for _, name := range []string{"office", "other"} {
		if err := second.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := first.Load("office"); err != nil || !reflect.DeepEqual(got.Profile, office) {
		t.Errorf("got %+v, %v", got, err)
	}
	if folders, _ := os.ReadDir(first.files()); len(folders) != 1 || len(files(first)) != 1 {
		t.Errorf("left %v with %v", folders, files(first))
	}
}

// Windows takes two keys that differ in their case only for one.
func TestCaseOfNames(t *testing.T) {
	s := newStore(t)
	save(t, s, app.Profile{Name: "Office", Gateway: "one"}, app.Profile{Name: "office", Gateway: "two"}, app.Profile{Name: "OFFICE", Gateway: "three"})
	wantNames(t, s, "Office", "office", "OFFICE")
	folded := map[string]bool{}
	for key := range ringOf(s).entries {
		folded[strings.ToLower(key)] = true
	}
	if len(folded) != 4 {
		t.Errorf("keys %v", folded)
	}
	if got, err := s.Load("office"); err != nil || got.Profile.Gateway != "two" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestBig: no entry is bigger than what every keyring takes, and what is in files is
// never a secret.
func TestBig(t *testing.T) {
	s := newStore(t)
	var want []string
	for i := range 60 {
		name := fmt.Sprintf("%02d %s", i, strings.Repeat("x", 50))
		big := app.Profile{Version: 1, Name: name, Gateway: "vpn.example.com", CA: []string{testPEM}}
		for j := range 200 {
			big.RoutesAdd = append(big.RoutesAdd, fmt.Sprintf("10.%d.%d.0/24", i, j))
		}
		in := &Entry{Profile: big, Password: []byte("correct horse"), GroupSecret: []byte(strings.Repeat("battery", 100))}
		if err := s.Save(in); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(name); err != nil || !reflect.DeepEqual(got, in) {
			t.Fatalf("got %+v, %v", got, err)
		}
		want = append(want, name)
	}
	wantNames(t, s, want...)
	for key, value := range ringOf(s).entries {
		if len(value) > maxEntry {
			t.Errorf("%s has %d bytes", key, len(value))
		}
	}
	if n := len(files(s)); n != 62 { // the profiles, the index, the certificate
		t.Errorf("%d files", n)
	}
	for _, file := range files(s) {
		data, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(data), "Y29ycmVjdCBob3JzZQ") || strings.Contains(string(data), "secrets") {
			t.Errorf("%s: %v", data, err)
		}
	}
	for _, name := range want {
		if err := s.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if len(ringOf(s).entries) != 1 || len(files(s)) != 0 {
		t.Errorf("left behind: %d entries, %v", len(ringOf(s).entries), files(s))
	}
}

// TestCrash ends every change before, and right after, each of its writes. Afterwards
// the profile is as before or as after the change, all others are untouched, and
// nothing is in the keyring that is not listed.
func TestCrash(t *testing.T) {
	before := app.Profile{Version: 1, Name: "office", Gateway: "before", CA: []string{testPEM}}
	after := before
	after.Gateway, after.CA = "after", []string{testPEM + testPEM}
	big := after
	big.RoutesAdd = []string{strings.Repeat("x", maxEntry)}
	fresh := app.Profile{Version: 1, Name: "new", Gateway: "new", CA: []string{testPEM + testPEM}}
	renamed, replaced, replacedBig := before, after, big
	renamed.Name, replaced.Name, replacedBig.Name = "new", "new", "new"
	for _, tt := range []struct {
		name   string
		change func(*Store) error
		ends   [][]app.Profile // of which one holds, beside the others
		writes int
		later  int // more writes, whose failure is for the next change to mend
	}{
		{"add", func(s *Store) error { return s.Save(&Entry{Profile: fresh}) }, [][]app.Profile{{before}, {before, fresh}}, 3, 0},
		{"overwrite", func(s *Store) error { return s.Save(&Entry{Profile: after}) }, [][]app.Profile{{before}, {after}}, 1, 0},
		{"grow", func(s *Store) error { return s.Save(&Entry{Profile: big}) }, [][]app.Profile{{before}, {big}}, 1, 0},
		{"replace", func(s *Store) error { return s.Replace("office", &Entry{Profile: after}) }, [][]app.Profile{{before}, {after}}, 1, 0},
		{"replace and rename", func(s *Store) error { return s.Replace("office", &Entry{Profile: replaced}) }, [][]app.Profile{{before}, {replaced}}, 3, 2},
		{"replace, rename and grow", func(s *Store) error { return s.Replace("office", &Entry{Profile: replacedBig}) }, [][]app.Profile{{before}, {replacedBig}}, 3, 2},
		{"rename", func(s *Store) error { return s.Rename("office", "new") }, [][]app.Profile{{before}, {renamed}}, 1, 0},
		{"remove", func(s *Store) error { return s.Remove("office") }, [][]app.Profile{{before}, {}}, 3, 0},
		{"reorder", func(s *Store) error { return s.Reorder([]string{"office", "home"}) }, [][]app.Profile{{before}}, 1, 0},
	} {
		for n := 1; n <= tt.writes+tt.later+1; n++ {
			for _, torn := range []bool{false, true} {
				s := newStore(t)
				save(t, s, app.Profile{Version: 1, Name: "home", CA: []string{testPEM}}, before)
				ring := ringOf(s)
				ring.left, ring.torn = n, torn
				err := tt.change(s)
				if (err != nil) != (n <= tt.writes) {
					t.Errorf("%s, crash at write %d: %v", tt.name, n, err)
				}
				ends := tt.ends
				if err == nil {
					ends = ends[len(ends)-1:]
				}
				ring.left, ring.fails = 0, nil
				checkAfterCrash(t, fmt.Sprintf("%s, crash at write %d, torn %v", tt.name, n, torn), s, ends)
			}
		}
	}
}

func checkAfterCrash(t *testing.T, name string, s *Store, ends [][]app.Profile) {
	t.Helper()
	s = &Store{dir: s.dir, ring: s.ring} // as the next program would see it
	names, err := s.Names()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var got []app.Profile
	for _, n := range names {
		e, err := s.Load(n)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n != "home" {
			got = append(got, e.Profile)
		}
	}
	if !slices.Contains(names, "home") || !slices.ContainsFunc(ends, func(end []app.Profile) bool {
		return len(end) == len(got) && (len(end) == 0 || reflect.DeepEqual(end, got))
	}) {
		t.Errorf("%s: left %+v", name, got)
	}
	if n := len(ringOf(s).entries); n != len(names)+1 {
		t.Errorf("%s: %d entries for %d profiles", name, n, len(names))
	}
	// The next change leaves no file that nothing names.
	save(t, s, app.Profile{Name: "last"})
	ix, err := s.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	there := len(files(s))
	s.sweep(ix)
	if n := len(files(s)); n != there {
		t.Errorf("%s: %d of %d files were not needed", name, there-n, there)
	}
}

// TestManyPrograms: stores of their own, as programs have, change the profiles at the
// same time, and none loses what another one did.
func TestManyPrograms(t *testing.T) {
	first := newStore(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			s := &Store{dir: first.dir, ring: first.ring}
			for j := range 5 {
				name := fmt.Sprintf("%d-%d", i, j)
				if err := s.Save(&Entry{Profile: app.Profile{Name: name, CA: []string{testPEM + name}}}); err != nil {
					t.Error(err)
				}
				if j%2 == 0 {
					continue
				}
				if err := s.Rename(name, name+" renamed"); err != nil {
					t.Error(err)
				}
				if err := s.Remove(fmt.Sprintf("%d-%d", i, j-1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	names, err := first.Names()
	slices.Sort(names)
	var want []string
	for i := range 4 {
		for _, n := range []string{"1 renamed", "3 renamed", "4"} {
			want = append(want, fmt.Sprintf("%d-%s", i, n))
		}
	}
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("%v\n%v", names, err)
	}
	for _, name := range names {
		if _, err := first.Load(name); err != nil {
			t.Error(err)
		}
	}
	if n := len(files(first)); n != len(want) {
		t.Errorf("%d files, want %d", n, len(want))
	}
}

// TestBusy: a program that changes the profiles, and does not end, is not waited for
// for ever.
func TestBusy(t *testing.T) {
	s := newStore(t)
	save(t, s, app.Profile{Name: "office"})
	other := flock.New(filepath.Join(s.dir, "lock"))
	if err := other.Lock(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := s.Save(&Entry{Profile: app.Profile{Name: "x"}}); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v", err)
		}
	})
	// Reading goes on, also of what the other program has in hand.
	ringOf(s).entries[indexKey] = strings.Replace(ringOf(s).entries[indexKey], `}],`, `}],"unfinished":["x"],`, 1)
	synctest.Test(t, func(t *testing.T) { wantNames(t, s, "office") })
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	save(t, s, app.Profile{Name: "x"})
}

// TestReplacedWhileReading: the files of an entry that has just been replaced are gone;
// the one that has replaced it is read then.
func TestReplacedWhileReading(t *testing.T) {
	s := newStore(t)
	save(t, s, app.Profile{Name: "office", CA: []string{testPEM}})
	other := &Store{dir: s.dir, ring: s.ring}
	s.ring = &interrupted{ring: s.ring, key: keyOf + "office", then: func() {
		save(t, other, app.Profile{Name: "office", CA: []string{testPEM + testPEM}})
	}}
	if got, err := s.Load("office"); err != nil || got.Profile.CA[0] != testPEM+testPEM {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestReplacedWhileListing: the file of a list that has just been replaced is gone; the
// list that has replaced it is read then.
func TestReplacedWhileListing(t *testing.T) {
	s := newStore(t)
	var want []string
	for i := range 25 { // too many for an entry of the keyring
		want = append(want, fmt.Sprintf("%060d", i))
		save(t, s, app.Profile{Name: want[i]})
	}
	other := &Store{dir: s.dir, ring: s.ring}
	s.ring = &interrupted{ring: s.ring, key: indexKey, then: func() { save(t, other, app.Profile{Name: "office"}) }}
	wantNames(t, s, append(want, "office")...)
}

// interrupted does something right after a key was read for the first time.
type interrupted struct {
	ring
	key  string
	then func()
}

func (r *interrupted) Get(service, key string) (string, error) {
	value, err := r.ring.Get(service, key)
	if key == r.key && r.then != nil {
		then := r.then
		r.then = nil
		then()
	}
	return value, err
}

func TestDamagedIndex(t *testing.T) {
	s := newStore(t)
	for _, value := range []string{"", "[", "{}x", "sha256:", "{}", `{"folder":".."}`, "sha256:" + strings.Repeat("0", 16) + "/" + strings.Repeat("0", 64)} {
		ringOf(s).entries[indexKey] = value
		if _, err := s.Names(); err == nil || !strings.Contains(err.Error(), "the list of profiles in the keyring is damaged") {
			t.Errorf("%q: got %v", value, err)
		}
		if err := s.Save(&Entry{Profile: app.Profile{Name: "x"}}); err == nil {
			t.Errorf("%q: saved over it", value)
		}
	}
}
