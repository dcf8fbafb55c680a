package gui

import (
	"errors"
	"slices"
	"sync"

	"wayfarer/app/store"
)

// Memory is a store that lasts as long as the program: for the demonstration, and where
// there is no keyring. It is safe for use by many goroutines.
type Memory struct {
	// Forgetful keeps no secrets.
	Forgetful bool

	mu      sync.Mutex
	entries []*store.Entry
}

var _ Store = (*Memory)(nil)

func (m *Memory) index(name string) int {
	return slices.IndexFunc(m.entries, func(e *store.Entry) bool { return e.Profile.Name == name })
}

// Names implements Store.
func (m *Memory) Names() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, e := range m.entries {
		names = append(names, e.Profile.Name)
	}
	return names, nil
}

// Load implements Store.
func (m *Memory) Load(name string) (*store.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(name)
	if i < 0 {
		return nil, store.ErrNotFound
	}
	return m.entries[i].Clone(), nil
}

// Save implements Store.
func (m *Memory) Save(e *store.Entry) error {
	if err := store.CheckName(e.Profile.Name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(e.Profile.Name)
	if i < 0 {
		i = len(m.entries)
		m.entries = append(m.entries, &store.Entry{})
	}
	m.put(i, e)
	return nil
}

// put keeps a copy of e in a place.
func (m *Memory) put(i int, e *store.Entry) {
	m.entries[i].Zero()
	m.entries[i] = e.Clone()
	if m.Forgetful {
		m.entries[i].Zero()
		m.entries[i].Password, m.entries[i].GroupSecret = nil, nil
	}
}

// Replace implements Store.
func (m *Memory) Replace(name string, e *store.Entry) error {
	to := e.Profile.Name
	if err := store.CheckName(to); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(name)
	switch {
	case i < 0:
		return store.ErrNotFound
	case to != name && m.index(to) >= 0:
		return store.ErrExists
	}
	m.put(i, e)
	return nil
}

// Remove implements Store.
func (m *Memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(name)
	if i < 0 {
		return store.ErrNotFound
	}
	m.entries[i].Zero()
	m.entries = slices.Delete(m.entries, i, i+1)
	return nil
}

// Rename implements Store.
func (m *Memory) Rename(from, to string) error {
	if err := store.CheckName(to); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(from)
	switch {
	case i < 0:
		return store.ErrNotFound
	case from != to && m.index(to) >= 0:
		return store.ErrExists
	}
	m.entries[i].Profile.Name = to
	return nil
}

// Reorder implements Store.
func (m *Memory) Reorder(names []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	rank := func(e *store.Entry) int {
		if i := slices.Index(names, e.Profile.Name); i >= 0 {
			return i
		}
		return len(names)
	}
	slices.SortStableFunc(m.entries, func(a, b *store.Entry) int { return rank(a) - rank(b) })
	return nil
}

// Adopt implements Store. There is no place for a certificate of the user's own.
func (m *Memory) Adopt(c *store.Candidate) error {
	if len(c.Certificate) > 0 || len(c.Key) > 0 {
		return errors.New("the certificate in the file cannot be kept without a keyring")
	}
	return m.Save(&c.Entry)
}

// session is the user's store, or where there is no keyring, one that lasts as long as
// the program and keeps no secrets. Each time that the names are asked for the keyring is
// tried anew.
type session struct {
	keyring Store
	memory  Memory

	mu      sync.Mutex
	missing error // why there is no keyring; nil: there is
}

var _ Store = (*session)(nil)

func newSession(keyring Store) *session {
	return &session{keyring: keyring, memory: Memory{Forgetful: true}}
}

// now is the store to use now.
func (s *session) now() Store {
	if s.noKeyring() != nil {
		return &s.memory
	}
	return s.keyring
}

func (s *session) noKeyring() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missing
}

// Names implements Store.
func (s *session) Names() ([]string, error) {
	names, err := s.keyring.Names()
	if err != nil && !errors.Is(err, store.ErrNoKeyring) {
		return nil, err
	}
	s.mu.Lock()
	s.missing = err
	s.mu.Unlock()
	if err != nil {
		return s.memory.Names()
	}
	return names, nil
}

// Load implements Store.
func (s *session) Load(name string) (*store.Entry, error) { return s.now().Load(name) }

// Save implements Store.
func (s *session) Save(e *store.Entry) error { return s.now().Save(e) }

// Replace implements Store.
func (s *session) Replace(name string, e *store.Entry) error { return s.now().Replace(name, e) }

// Remove implements Store.
func (s *session) Remove(name string) error { return s.now().Remove(name) }

// Rename implements Store.
func (s *session) Rename(from, to string) error { return s.now().Rename(from, to) }

// Reorder implements Store.
func (s *session) Reorder(names []string) error { return s.now().Reorder(names) }

// Adopt implements Store.
func (s *session) Adopt(c *store.Candidate) error { return s.now().Adopt(c) }
