package store

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/zalando/go-keyring"

	"wayfarer/app"
	"wayfarer/app/profiles"
)

const (
	service  = "wayfarer"         // all entries of the keyring
	indexKey = "profiles"         // the entry with the names
	keyOf    = "profile "         // before a profile's name
	maxEntry = 2500               // bytes: what every keyring takes, Windows being the tightest
	maxName  = 64                 // bytes of a profile's name
	noName   = "a profile's name" // how errors begin
)

// Errors of a Store.
var (
	// ErrNotFound: no profile has this name.
	ErrNotFound = errors.New("no such profile")
	// ErrNoKeyring: the keyring is absent, locked, or refuses.
	ErrNoKeyring = errors.New("the keyring is not available")
	// ErrTooBig: what is to be stored exceeds what a keyring takes.
	ErrTooBig = errors.New("too much for an entry of the keyring")
)

// Entry is a profile with its secrets.
type Entry struct {
	Profile     app.Profile
	Password    []byte // nil: not stored
	GroupSecret []byte // nil: not stored
}

// Zero overwrites the secrets.
func (e *Entry) Zero() {
	clear(e.Password)
	clear(e.GroupSecret)
}

// Store is the user's profiles.
type Store struct {
	dir string // of the certificates
}

// Open returns the user's store. Neither keyring nor files are touched yet; the
// error is of a user without a configuration folder.
func Open() (*Store, error) {
	config, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the folder for profiles: %w", err)
	}
	return &Store{dir: filepath.Join(config, "wayfarer", "certificates")}, nil
}

// stored is the form of an entry in the keyring.
type stored struct {
	app.Profile
	Secrets secrets `toml:"secrets,omitempty"`
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

// Names lists the profiles, sorted.
func (s *Store) Names() ([]string, error) {
	value, err := get(indexKey)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	if err := json.Unmarshal([]byte(value), &names); err != nil {
		return nil, fmt.Errorf("the list of profiles in the keyring is damaged: %w", err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Load reads a profile. The error wraps ErrNotFound or ErrNoKeyring, or says what is
// wrong with what is stored. The caller zeroises the entry.
func (s *Store) Load(name string) (*Entry, error) {
	value, err := get(keyOf + name)
	if err != nil {
		return nil, err
	}
	var in stored
	if err := profiles.Unmarshal([]byte(value), &in); err != nil {
		return nil, fmt.Errorf("the stored profile %q is damaged: %w", name, err)
	}
	if err := profiles.CheckVersion(&in.Profile); err != nil {
		return nil, err
	}
	for _, field := range certificates(&in.Profile) {
		if *field, err = s.fetch(*field); err != nil {
			return nil, err
		}
	}
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

// Save writes a profile under its name, over what was there. The error wraps
// ErrNoKeyring or ErrTooBig, or is of the name or of a file.
func (s *Store) Save(e *Entry) error {
	if err := CheckName(e.Profile.Name); err != nil {
		return err
	}
	out := stored{Profile: e.Profile}
	out.Version = profiles.Version
	out.CA = slices.Clone(out.CA) // the caller keeps its texts
	for _, field := range certificates(&out.Profile) {
		if !app.IsPEM([]byte(*field)) {
			continue // none, or the path of a file that the user keeps
		}
		var err error
		if *field, err = s.putAway(*field); err != nil {
			return fmt.Errorf("store a certificate of the profile: %w", err)
		}
	}
	out.Secrets = secrets{
		Password:    base64.StdEncoding.EncodeToString(e.Password),
		GroupSecret: base64.StdEncoding.EncodeToString(e.GroupSecret),
	}
	data, err := toml.Marshal(&out)
	if err != nil {
		return fmt.Errorf("encode the profile: %w", err)
	}
	defer clear(data)
	if err := set(keyOf+e.Profile.Name, string(data)); err != nil {
		return fmt.Errorf("profile %q: %w", e.Profile.Name, err)
	}
	return s.list(e.Profile.Name)
}

// list puts a name into the index.
func (s *Store) list(name string) error {
	names, err := s.Names()
	if err != nil {
		return err
	}
	if slices.Contains(names, name) {
		return nil
	}
	data, err := json.Marshal(append(names, name))
	if err != nil {
		return err
	}
	if err := set(indexKey, string(data)); err != nil {
		return fmt.Errorf("list of profiles: %w", err)
	}
	return nil
}

func get(key string) (string, error) {
	value, err := keyring.Get(service, key)
	if errors.Is(err, keyring.ErrNotFound) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoKeyring, err)
	}
	return value, nil
}

func set(key, value string) error {
	if len(value) > maxEntry {
		return fmt.Errorf("%w (%d bytes, at most %d)", ErrTooBig, len(value), maxEntry)
	}
	err := keyring.Set(service, key, value)
	if errors.Is(err, keyring.ErrSetDataTooBig) {
		return fmt.Errorf("%w: %w", ErrTooBig, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoKeyring, err)
	}
	return nil
}
