package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"wayfarer/app"
)

// materialPrefix marks a value that stands in a file; the SHA-256 follows.
const materialPrefix = "sha256:"

// errGone: a file that an entry names is not there.
var errGone = errors.New("is gone")

// certificates are the fields of a profile that may hold PEM texts, which are too big
// for a keyring.
func certificates(p *app.Profile) []*string {
	fields := []*string{&p.Certificate}
	for i := range p.CA {
		fields = append(fields, &p.CA[i])
	}
	return fields
}

// putAway writes text into a file and returns what stands in its place.
func (s *Store) putAway(text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	name := hex.EncodeToString(sum[:])
	path := s.materialPath(name)
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return materialPrefix + name, nil
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	// A reader never sees half a file: it gets its name when it is whole.
	temporary, err := os.CreateTemp(folder, "new-*")
	if err != nil {
		return "", err
	}
	_, err = temporary.WriteString(text)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(temporary.Name()))
	}
	return materialPrefix + name, nil
}

// fetch reads back what putAway wrote; other values stand for themselves.
func (s *Store) fetch(value string) (string, error) {
	name, ok := strings.CutPrefix(value, materialPrefix)
	if !ok {
		return value, nil
	}
	if sum, err := hex.DecodeString(name); err != nil || len(sum) != sha256.Size {
		return "", fmt.Errorf("%q names no file of the profile", value)
	}
	path := s.materialPath(name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the profile's file %s %w", path, errGone)
	}
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != name {
		return "", fmt.Errorf("the profile's file %s was changed", path)
	}
	return string(text), nil
}

// sweep removes the files that nothing names any more, also those of a change that a
// crash has interrupted. It is of no matter if it fails: the next one tries again.
// While an entry cannot be read nothing is removed.
func (s *Store) sweep(ix *index) {
	files, err := os.ReadDir(s.files())
	if err != nil || len(files) == 0 {
		return // mostly because there are none
	}
	named := map[string]bool{strings.TrimPrefix(ix.stored, materialPrefix): true}
	for _, row := range ix.Profiles {
		in, err := s.read(row.Key)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return
		}
		named[strings.TrimPrefix(in.File, materialPrefix)] = true
		for _, field := range append(certificates(&in.Profile), &in.Profile.Key) {
			// By hash, or by the path of a file of ours.
			named[filepath.Base(strings.TrimPrefix(*field, materialPrefix))] = true
		}
	}
	for _, file := range files {
		if !named[file.Name()] {
			_ = os.Remove(filepath.Join(s.files(), file.Name()))
		}
	}
}

// files is the folder of the files.
func (s *Store) files() string { return filepath.Join(s.dir, "files") }

func (s *Store) materialPath(name string) string { return filepath.Join(s.files(), name) }

// Adopt saves a profile that was imported, with the files of its own that the file has
// brought. The error is that of Save.
func (s *Store) Adopt(c *Candidate) error {
	return s.save(&c.Entry, func() error {
		for _, file := range []struct {
			data []byte
			path *string
		}{{c.Certificate, &c.Profile.Certificate}, {c.Key, &c.Profile.Key}} {
			if len(file.data) == 0 {
				continue
			}
			name, err := s.putAway(string(file.data))
			if err != nil {
				return fmt.Errorf("store the certificate of the profile: %w", err)
			}
			*file.path = s.materialPath(strings.TrimPrefix(name, materialPrefix))
		}
		return nil
	})
}
