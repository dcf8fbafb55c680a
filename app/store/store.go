package store

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"

	"wayfarer/app"
	"wayfarer/app/profiles"
)

const (
	maxName = 64                 // bytes of a profile's name
	noName  = "a profile's name" // how errors begin
)

// Errors of a Store.
var (
	// ErrNotFound: no profile has this name.
	ErrNotFound = errors.New("no such profile")
	// ErrNoKeyring: the keyring is absent, locked, or refuses.
	ErrNoKeyring = errors.New("the keyring is not available")
	// ErrTooBig: what is to be stored exceeds what a keyring takes.
	ErrTooBig = errors.New("password and group's secret are too long for the keyring")
	// ErrExists: another profile has the name.
	ErrExists = errors.New("there is a profile of that name already")
)

// Entry is a profile with its secrets.
type Entry struct {
	Profile     app.Profile
	Password    []byte // nil: not stored
	GroupSecret []byte // nil: not stored
}

// Clone is a copy with secrets, and certificates, of its own.
func (e *Entry) Clone() *Entry {
	clone := *e
	clone.Profile.CA = slices.Clone(e.Profile.CA)
	clone.Password, clone.GroupSecret = slices.Clone(e.Password), slices.Clone(e.GroupSecret)
	return &clone
}

// Zero overwrites the secrets.
func (e *Entry) Zero() {
	clear(e.Password)
	clear(e.GroupSecret)
}

// Store is the user's profiles.
type Store struct {
	dir  string // of lock and files
	ring ring
	mu   sync.Mutex // within this program; see lock
}

// Open returns the user's store. Neither keyring nor files are touched yet; the
// error is of a user without a configuration folder. On Linux it sees to it, for the
// whole process, that no D-Bus is started for want of one.
func Open() (*Store, error) {
	config, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the folder for profiles: %w", err)
	}
	startNoBus()
	return &Store{dir: filepath.Join(config, "wayfarer"), ring: systemRing{}}, nil
}

// stored is the form of an entry in the keyring.
type stored struct {
	app.Profile
	Secrets secrets `toml:"secrets,omitempty"`
	// File holds everything else of a profile that is too big for the keyring.
	File string `toml:"file,omitempty"`
}

type secrets struct {
	// In base64: any bytes, whatever the keyring.
	Password    string `toml:"password,omitempty"`
	GroupSecret string `toml:"group_secret,omitempty"`
}

// CheckName says whether name can be that of a profile: printable, without spaces
// around it, not looking like a flag, at most 64 bytes.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New(noName + " must not be empty")
	case len(name) > maxName:
		return fmt.Errorf("%s must not be longer than %d bytes", noName, maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New(noName + " must be printable")
	case strings.TrimSpace(name) != name:
		return errors.New(noName + " must not begin or end with a space")
	case strings.HasPrefix(name, "-"):
		return errors.New(noName + " must not begin with a hyphen")
	}
	return nil
}

// Load reads a profile. The error wraps ErrNotFound or ErrNoKeyring, or says what is
// wrong with what is stored. The caller zeroises the entry.
func (s *Store) Load(name string) (*Entry, error) {
	return atRest(s, func() (*Entry, error) { return s.load(name) })
}

// atRest reads something. If a file that belongs to it is gone, another program may just
// have replaced it: it is read again while no program changes anything.
func atRest[T any](s *Store, read func() (T, error)) (T, error) {
	got, err := read()
	if !errors.Is(err, errGone) {
		return got, err
	}
	unlock, lockErr := s.lock()
	if lockErr != nil {
		return got, err
	}
	defer unlock()
	return read()
}

func (s *Store) load(name string) (*Entry, error) {
	ix, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	i := ix.find(name)
	if i < 0 {
		return nil, fmt.Errorf("%w %q", ErrNotFound, name)
	}
	in, err := s.read(ix.Profiles[i].Key)
	if err != nil {
		return nil, fmt.Errorf("the stored profile %q: %w", name, err)
	}
	if err := profiles.CheckVersion(&in.Profile); err != nil {
		return nil, err
	}
	for _, field := range certificates(&in.Profile) {
		if *field, err = s.fetch(*field); err != nil {
			return nil, err
		}
	}
	in.Profile.Name = name
	entry := &Entry{Profile: in.Profile}
	for _, secret := range []struct {
		what, stored string
		to           *[]byte
	}{{"password", in.Secrets.Password, &entry.Password}, {"group's secret", in.Secrets.GroupSecret, &entry.GroupSecret}} {
		if secret.stored == "" {
			continue
		}
		if *secret.to, err = base64.StdEncoding.DecodeString(secret.stored); err != nil {
			entry.Zero()
			return nil, fmt.Errorf("the stored %s of profile %q is damaged", secret.what, name)
		}
	}
	return entry, nil
}

// read reads an entry, with the profile where it stands in a file, but without its
// certificates.
func (s *Store) read(key string) (*stored, error) {
	value, err := s.get(keyOf + key)
	if err != nil {
		return nil, err
	}
	in := &stored{}
	if err := profiles.Unmarshal([]byte(value), in); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if in.File == "" {
		return in, nil
	}
	text, err := s.fetch(in.File)
	if err != nil {
		return nil, err
	}
	if err := profiles.Unmarshal([]byte(text), &in.Profile); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return in, nil
}

// Save writes a profile under its name, over what was there; a new one comes last in
// the order. The error wraps ErrNoKeyring, ErrTooBig or ErrBusy, or is of the name or
// of a file.
func (s *Store) Save(e *Entry) error {
	return s.save(e, func(*index) error { return nil })
}

// save is Save; prepare does what must not be swept away before the entry names it.
func (s *Store) save(e *Entry, prepare func(*index) error) error {
	if err := CheckName(e.Profile.Name); err != nil {
		return err
	}
	ix, unlock, err := s.begin()
	if err != nil {
		return err
	}
	defer unlock()
	if err := prepare(ix); err != nil {
		return err
	}
	if i := ix.find(e.Profile.Name); i >= 0 {
		return s.overwrite(ix, i, e)
	}
	row, err := s.write(ix, e)
	if err != nil {
		return err
	}
	ix.Profiles = append(ix.Profiles, row)
	return s.finish(ix)
}

// Replace saves a profile, which may have another name, in the place of the one of a
// name. The error wraps ErrNotFound, ErrExists, or is that of Save; the profile is as
// it was then.
func (s *Store) Replace(name string, e *Entry) error {
	if err := CheckName(e.Profile.Name); err != nil {
		return err
	}
	ix, unlock, err := s.begin()
	if err != nil {
		return err
	}
	defer unlock()
	i := ix.find(name)
	switch {
	case i < 0:
		return fmt.Errorf("%w %q", ErrNotFound, name)
	case e.Profile.Name == name:
		return s.overwrite(ix, i, e)
	case ix.find(e.Profile.Name) >= 0:
		return fmt.Errorf("%w: %q", ErrExists, e.Profile.Name)
	}
	row, err := s.write(ix, e)
	if err != nil {
		return err
	}
	// Name and contents change in this one write.
	ix.Unfinished, ix.Profiles[i] = []string{ix.Profiles[i].Key}, row
	if err := s.writeIndex(ix); err != nil {
		return err
	}
	_ = s.repair(ix) // or the next change removes the old entry
	return nil
}

// overwrite writes an entry over that of a row, under the same name.
func (s *Store) overwrite(ix *index, i int, e *Entry) error {
	err := s.writeEntry(ix, ix.Profiles[i].Key, e)
	s.sweep(ix)
	return err
}

// write writes an entry for which there is no row yet, and returns one. Until that is
// listed the entry is unfinished.
func (s *Store) write(ix *index, e *Entry) (listing, error) {
	row := listing{Name: e.Profile.Name, Key: ix.newKey(e.Profile.Name)}
	ix.Unfinished = []string{row.Key}
	if err := s.writeIndex(ix); err != nil {
		return row, err
	}
	err := s.writeEntry(ix, row.Key, e)
	if err != nil {
		_ = s.repair(ix) // or the next change does it
	}
	return row, err
}

// writeEntry writes the entry of a key, after the files that it names.
func (s *Store) writeEntry(ix *index, key string, e *Entry) error {
	out := stored{Profile: e.Profile}
	out.Version = profiles.Version
	out.CA = slices.Clone(out.CA) // the caller keeps its texts
	for _, field := range certificates(&out.Profile) {
		if !app.IsPEM([]byte(*field)) {
			continue // none, or the path of a file that the user keeps
		}
		var err error
		if *field, err = s.putAway(ix.Folder, *field); err != nil {
			return fmt.Errorf("store a certificate of the profile: %w", err)
		}
	}
	out.Secrets = secrets{
		Password:    base64.StdEncoding.EncodeToString(e.Password),
		GroupSecret: base64.StdEncoding.EncodeToString(e.GroupSecret),
	}
	data, err := toml.Marshal(&out)
	if err == nil && len(data) > maxEntry {
		clear(data)
		data, err = s.encodeBig(ix, &out)
	}
	if err != nil {
		return fmt.Errorf("encode the profile: %w", err)
	}
	defer clear(data)
	if err := s.set(keyOf+key, string(data)); err != nil {
		return fmt.Errorf("profile %q: %w", e.Profile.Name, err)
	}
	return nil
}

// encodeBig puts everything of an entry that is no secret into a file.
func (s *Store) encodeBig(ix *index, e *stored) ([]byte, error) {
	text, err := profiles.Encode(&e.Profile)
	if err != nil {
		return nil, err
	}
	file, err := s.putAway(ix.Folder, string(text))
	if err != nil {
		return nil, err
	}
	return toml.Marshal(&stored{Secrets: e.Secrets, File: file})
}

// Remove deletes a profile with its secrets and files. The error wraps ErrNotFound,
// ErrNoKeyring or ErrBusy.
func (s *Store) Remove(name string) error {
	ix, unlock, err := s.begin()
	if err != nil {
		return err
	}
	defer unlock()
	i := ix.find(name)
	if i < 0 {
		return fmt.Errorf("%w %q", ErrNotFound, name)
	}
	key := ix.Profiles[i].Key
	ix.Profiles, ix.Unfinished = slices.Delete(ix.Profiles, i, i+1), []string{key}
	if err := s.writeIndex(ix); err != nil {
		return err
	}
	return s.repair(ix)
}
