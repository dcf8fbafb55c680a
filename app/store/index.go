package store

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// index lists the profiles, in the user's order.
type index struct {
	Profiles []listing `json:"profiles"`
	// Unfinished are keys of no profile, whose entry was about to be written or removed.
	// After a crash it may be there or not: see repair.
	Unfinished []string `json:"unfinished,omitempty"`
	// Folder has the files of these profiles: a user with two keyrings, of two desktops
	// maybe, has two indexes, and neither knows what the other one needs.
	Folder string `json:"folder"`

	stored string // what stands in the keyring
}

// listing is a profile's row in the index. The key does not change with the name, so
// that renaming is a single write. It is in lower case: Windows takes two keys that
// differ only in that for one.
type listing struct {
	Name string `json:"name"`
	Key  string `json:"key"` // of its entry, without keyOf
}

// find returns the row of a name; -1: there is none.
func (ix *index) find(name string) int {
	return slices.IndexFunc(ix.Profiles, func(l listing) bool { return l.Name == name })
}

func (ix *index) names() []string {
	var names []string
	for _, l := range ix.Profiles {
		names = append(names, l.Name)
	}
	return names
}

// newKey is a key that no profile has: the name's own, if it can be.
func (ix *index) newKey(name string) string {
	base := strings.ToLower(name)
	key := base
	for n := 2; slices.ContainsFunc(ix.Profiles, func(l listing) bool { return l.Key == key }); n++ {
		key = base + " " + strconv.Itoa(n)
	}
	return key
}

// readIndex reads the index; an absent one is empty, with a folder of its own.
func (s *Store) readIndex() (*index, error) {
	value, err := s.get(indexKey)
	if errors.Is(err, ErrNotFound) {
		return &index{Folder: hex.EncodeToString(randomBytes(folderSize))}, nil
	}
	if err != nil {
		return nil, err
	}
	ix := &index{stored: value}
	text, err := s.fetch(value)
	if err == nil {
		err = json.Unmarshal([]byte(text), ix)
	}
	if err == nil && !isHex(ix.Folder, folderSize) {
		err = errors.New("it has no folder")
	}
	if err != nil {
		return nil, fmt.Errorf("the list of profiles in the keyring is damaged: %w; delete the entry %q of %q there to begin anew", err, indexKey, service)
	}
	return ix, nil
}

// writeIndex stores the index; one that is too big for the keyring stands in a file.
func (s *Store) writeIndex(ix *index) error {
	data, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	value := string(data)
	if len(value) > maxEntry {
		if value, err = s.putAway(ix.Folder, value); err != nil {
			return fmt.Errorf("store the list of profiles: %w", err)
		}
	}
	if err := s.set(indexKey, value); err != nil {
		return fmt.Errorf("list of profiles: %w", err)
	}
	ix.stored = value
	return nil
}

// begin starts a change: it locks the profiles and reads the index, after it has
// brought to an end what a crash has left unfinished.
func (s *Store) begin() (ix *index, unlock func(), err error) {
	unlock, err = s.lock()
	if err != nil {
		return nil, nil, err
	}
	if ix, err = s.readIndex(); err == nil && len(ix.Unfinished) > 0 {
		err = s.repair(ix)
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return ix, unlock, nil
}

// repair ends an unfinished change: an entry that is not listed goes.
func (s *Store) repair(ix *index) error {
	for _, key := range ix.Unfinished {
		if err := s.remove(keyOf + key); err != nil {
			return err
		}
	}
	return s.finish(ix)
}

// Names lists the profiles in the user's order; new ones come last.
func (s *Store) Names() ([]string, error) {
	ix, err := atRest(s, s.readIndex)
	if err != nil {
		return nil, err
	}
	if len(ix.Unfinished) > 0 { // by a program that has crashed, or that is at it
		if whole, unlock, err := s.begin(); err == nil {
			unlock()
			ix = whole
		}
	}
	return ix.names(), nil
}

// Reorder puts the profiles into the order of names. Those that it does not name come
// last, in the order that they have; names of no profile are skipped.
func (s *Store) Reorder(names []string) error {
	ix, unlock, err := s.begin()
	if err != nil {
		return err
	}
	defer unlock()
	place := func(l listing) int {
		if i := slices.Index(names, l.Name); i >= 0 {
			return i
		}
		return len(names)
	}
	slices.SortStableFunc(ix.Profiles, func(a, b listing) int { return place(a) - place(b) })
	return s.finish(ix)
}

// Rename gives a profile another name, which CheckName approves. The error wraps
// ErrNotFound, ErrExists, ErrNoKeyring or ErrBusy.
func (s *Store) Rename(from, to string) error {
	if err := CheckName(to); err != nil {
		return err
	}
	ix, unlock, err := s.begin()
	if err != nil {
		return err
	}
	defer unlock()
	i := ix.find(from)
	switch {
	case i < 0:
		return fmt.Errorf("%w %q", ErrNotFound, from)
	case from == to:
		return nil
	case ix.find(to) >= 0:
		return fmt.Errorf("%w: %q", ErrExists, to)
	}
	ix.Profiles[i].Name = to
	return s.finish(ix)
}

// finish stores an index behind which everything is in order, and removes the files
// that nothing names any more.
func (s *Store) finish(ix *index) error {
	ix.Unfinished = nil
	err := s.writeIndex(ix)
	if err == nil {
		s.sweep(ix)
	}
	return err
}
