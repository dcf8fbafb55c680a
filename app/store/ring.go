package store

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/zalando/go-keyring"
)

const (
	service  = "wayfarer" // all entries of the keyring
	indexKey = "profiles" // the entry with the index
	keyOf    = "profile " // before a profile's key
	maxEntry = 2500       // bytes: what every keyring takes, Windows being the tightest
)

// ring is the keyring.
type ring interface {
	Get(service, key string) (string, error)
	Set(service, key, value string) error
	Delete(service, key string) error
}

// busVariable names the D-Bus of the user's session, where Linux has the keyring.
const busVariable = "DBUS_SESSION_BUS_ADDRESS"

// startNoBus keeps the D-Bus library from starting a bus, with a keyring that nobody can
// unlock, where there is none, as in a session of ssh: both would stay behind. The
// variable then says what systemd's sessions say, and connecting fails.
func startNoBus() {
	address := os.Getenv(busVariable)
	if runtime.GOOS != "linux" || address != "" && address != "autolaunch:" {
		return
	}
	folder := "/run/user/" + strconv.Itoa(os.Getuid())
	if _, err := os.Stat(folder + "/dbus-session"); err == nil {
		return // an older way to tell the address, which the library reads
	}
	_ = os.Setenv(busVariable, "unix:path="+folder+"/bus") // the name is a good one
}

// systemRing is the keyring of the operating system.
type systemRing struct{}

func (systemRing) Get(service, key string) (string, error) { return keyring.Get(service, key) }
func (systemRing) Set(service, key, value string) error    { return keyring.Set(service, key, value) }
func (systemRing) Delete(service, key string) error        { return keyring.Delete(service, key) }

func (s *Store) get(key string) (string, error) {
	value, err := s.ring.Get(service, key)
	if errors.Is(err, keyring.ErrNotFound) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoKeyring, err)
	}
	return value, nil
}

func (s *Store) set(key, value string) error {
	if len(value) > maxEntry {
		return fmt.Errorf("%w (%d bytes, at most %d)", ErrTooBig, len(value), maxEntry)
	}
	err := s.ring.Set(service, key, value)
	if errors.Is(err, keyring.ErrSetDataTooBig) {
		return fmt.Errorf("%w: %w", ErrTooBig, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoKeyring, err)
	}
	return nil
}

func (s *Store) remove(key string) error {
	if err := s.ring.Delete(service, key); err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNoKeyring, err)
	}
	return nil
}
