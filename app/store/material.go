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
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", err
	}
	// A reader never sees half a file: it gets its name when it is whole.
	temporary, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return "", err
	}
	_, err = temporary.WriteString(text)
	if err = errors.Join(err, temporary.Close()); err == nil {
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
		return "", fmt.Errorf("the profile's certificate %s is gone", path)
	}
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != name {
		return "", fmt.Errorf("the profile's certificate %s was changed", path)
	}
	return string(text), nil
}

func (s *Store) materialPath(name string) string { return filepath.Join(s.dir, name+".pem") }
