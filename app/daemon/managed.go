package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/profiles"
	"wayfarer/platform"
)

const (
	// ManagedOwner is the user whose the connections of managed profiles are.
	ManagedOwner = "root"
	// maxManaged bounds the managed profiles; all of them can be connected at once.
	maxManaged = maxConnections
	// maxProfile bounds the file of a profile, in bytes.
	maxProfile = 64 << 10
)

// Managed is a profile that an administrator has placed, as a client would send it:
// certificates and keys are PEM texts in it, secrets are beside it. Its JSON form can
// be handed to another process. Whoever has it zeroises it.
type Managed = control.ConnectRequest

// ConfigDir is where an administrator places what ReadSetUp reads.
func ConfigDir() string { return platform.ConfigDir() }

// ManagedDir is where an administrator places profiles.
func ManagedDir() string { return filepath.Join(ConfigDir(), "profiles.d") }

// KeepsBlock says whether a leak block that an earlier service left stands until the
// managed profiles are connected: one of them is always on and wants it.
func KeepsBlock(managed []Managed) bool {
	for i := range managed {
		if p := &managed[i].Profile; p.AlwaysOn && p.BlockOutside {
			return true
		}
	}
	return false
}

// ReadManaged reads the profiles in dir, which are the files *.toml there, in the order
// of their names, with the files that they name: certificates, keys, secrets. Relative
// paths begin in dir. All files must belong to the administrator; what others could
// change, or could read of secrets, is refused. Each error is of one file and names it;
// the other profiles are read all the same. Where there is no dir there are no profiles.
func ReadManaged(dir string) (list []Managed, errs []error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("managed profiles: %w", err)}
	}
	names := make(map[string]string) // of profiles, to their files
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".toml" {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		m, err := readManaged(path)
		if err == nil {
			switch other := names[m.Profile.Name]; {
			case other != "":
				err = fmt.Errorf("%s has the name %q already", other, m.Profile.Name)
			case len(list) == maxManaged:
				err = fmt.Errorf("there are %d managed profiles already", maxManaged)
			}
		}
		if err != nil {
			m.Zero()
			errs = append(errs, fmt.Errorf("managed profile %s: %w", path, err))
			continue
		}
		names[m.Profile.Name] = path
		list = append(list, m)
	}
	return list, errs
}

func readManaged(path string) (m Managed, err error) {
	data, err := platform.ReadOwned(path, platform.OthersMayRead, maxProfile)
	if err != nil {
		return m, err
	}
	p, err := profiles.Decode(data)
	if err != nil {
		return m, err
	}
	if p.Name == "" {
		p.Name = strings.TrimSuffix(filepath.Base(path), ".toml")
	}
	m.Profile = *p
	dir := filepath.Dir(path)
	secrets, err := readSecrets(inDir(dir, p.SecretFile), p)
	defer clear(secrets.Passphrase)
	m.Password, m.GroupSecret, m.Profile.SecretFile = secrets.Password, secrets.GroupSecret, ""
	if err != nil {
		return m, err
	}
	if err := readMaterial(&m, dir, secrets.Passphrase); err != nil {
		return m, err
	}
	whole := withAnswers(m)
	if _, failure := newConfig(&whole); failure != nil {
		return m, failure
	}
	return m, nil
}

// withAnswers is the profile as it is connected: users are there to give what the file
// does not have, unless it is always on.
func withAnswers(m Managed) Managed {
	if method, _ := m.Profile.AuthMethod(); !m.Profile.AlwaysOn {
		if method.Login && m.Profile.Login == "" {
			m.Profile.Login = "user"
		}
		if method.GroupSecret == app.Required && len(m.GroupSecret) == 0 {
			m.GroupSecret = []byte("secret")
		}
	}
	return m
}

// inDir is where a path of a profile in dir leads.
func inDir(dir, path string) string {
	if path == "" || filepath.IsAbs(path) || app.IsPEM([]byte(path)) {
		return path
	}
	return filepath.Join(dir, path)
}

// readMaterial replaces the paths of certificates and keys by what is in the files.
func readMaterial(m *Managed, dir string, passphrase []byte) (err error) {
	p := &m.Profile
	for i, text := range p.CA {
		if app.IsPEM([]byte(text)) {
			continue
		}
		if p.CA[i], err = profiles.ReadCertificates(ownedFile, inDir(dir, text)); err != nil {
			return fmt.Errorf("ca: %w", err)
		}
	}
	if method, _ := p.AuthMethod(); !method.Certificate {
		return nil // and what there is all the same, newConfig refuses
	}
	certificate, key := inDir(dir, p.Certificate), inDir(dir, p.Key)
	holder := key
	if holder == "" {
		holder = certificate
	}
	if app.IsPEM([]byte(holder)) {
		return errors.New("key: the path of a file that only the administrator reads is expected, not the key itself")
	}
	credentials, err := profiles.ReadCredentials(ownedFile, certificate, key, func() ([]byte, error) {
		if passphrase == nil {
			return nil, errors.New("it needs a passphrase, which the secret file does not have")
		}
		return bytes.Clone(passphrase), nil
	})
	if err != nil {
		return fmt.Errorf("certificate and key: %w", err)
	}
	p.Certificate, p.Key, m.Key = credentials.Certificate, "", credentials.Key
	return nil
}

// ownedFile reads a file that the administrator has placed, and nobody else can change.
func ownedFile(path string, secret bool, limit int) ([]byte, error) {
	access := platform.OthersMayRead
	if secret {
		access = platform.Private
	}
	return platform.ReadOwned(path, access, limit)
}

// secrets are what a secret file may have.
type secrets struct {
	Password    secret `toml:"password"`
	GroupSecret secret `toml:"group_secret"`
	Passphrase  secret `toml:"passphrase"` // of a PKCS #12 file
}

// secret is decoded from TOML without passing through a string, which could not be
// overwritten.
type secret []byte

func (s *secret) UnmarshalText(text []byte) error {
	*s = bytes.Clone(text)
	return nil
}

// likeSecrets matches the beginning of a line in the TOML form of secrets.
var likeSecrets = regexp.MustCompile(`(?m)^\s*"?(password|group_secret|passphrase)"?\s*=`)

// readSecrets reads a secret file: TOML with the keys password, group_secret and
// passphrase, or nothing but the one secret that the profile's method needs. No path is
// no secrets: users are asked, but for a profile that is always on. What looks like TOML and is none is an error rather than a password: a
// gateway would count it as a wrong one.
func readSecrets(path string, p *app.Profile) (s secrets, err error) {
	method, _ := p.AuthMethod()
	if path == "" {
		if p.AlwaysOn && (method.Login || method.GroupSecret == app.Required) {
			return s, fmt.Errorf("secret_file: missing, and nobody is there to ask for the secret that %s needs", method.Name)
		}
		return s, nil
	}
	data, err := platform.ReadOwned(path, platform.Private, maxSecret)
	if err != nil {
		return s, fmt.Errorf("secret_file: %w", err)
	}
	defer clear(data)
	err = profiles.Unmarshal(data, &s)
	switch {
	case err == nil && (s.Password != nil || s.GroupSecret != nil || s.Passphrase != nil):
		return s, nil
	case likeSecrets.Match(data):
		s.zero()
		// Not err itself, which may quote.
		return secrets{}, fmt.Errorf("secret_file: %s is no TOML with the keys password, group_secret and passphrase; quote the values", path)
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	switch {
	case len(line) == 0:
		return s, fmt.Errorf("secret_file: %s is empty", path)
	case bytes.ContainsAny(line, "\n\x00"):
		return s, fmt.Errorf("secret_file: %s has more than one line and is no TOML", path)
	case method.Login && method.GroupSecret == app.Required:
		return s, fmt.Errorf("secret_file: %s needs two secrets; write password = '…' and group_secret = '…' into %s", method.Name, path)
	case method.Login:
		s.Password = bytes.Clone(line)
	case method.GroupSecret == app.Required:
		s.GroupSecret = bytes.Clone(line)
	default:
		s.Passphrase = bytes.Clone(line)
	}
	return s, nil
}

func (s *secrets) zero() {
	clear(s.Password)
	clear(s.GroupSecret)
	clear(s.Passphrase)
}
