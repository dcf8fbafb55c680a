package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"wayfarer/app"
)

const (
	// materialPrefix marks a value that stands in a file; the folder and the SHA-256
	// follow, in hexadecimal, with a slash between.
	materialPrefix = "sha256:"
	folderSize     = 8 // bytes of a folder's name
)

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

// putAway writes text into a file of a folder and returns what stands in its place.
func (s *Store) putAway(folder, text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	name := folder + "/" + hex.EncodeToString(sum[:])
	file := s.materialPath(name)
	if old, err := os.ReadFile(file); err == nil && string(old) == text {
		return materialPrefix + name, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", err
	}
	// A reader never sees half a file: it gets its name when it is whole.
	temporary, err := os.CreateTemp(filepath.Dir(file), "new-*")
	if err != nil {
		return "", err
	}
	_, err = temporary.WriteString(text)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), file)
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
	folder, want, _ := strings.Cut(name, "/")
	if !isHex(folder, folderSize) || !isHex(want, sha256.Size) {
		return "", fmt.Errorf("%q names no file of the profile", value)
	}
	file := s.materialPath(name)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the profile's file %s %w", file, errGone)
	}
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
		return "", fmt.Errorf("the profile's file %s was changed", file)
	}
	return string(text), nil
}

// sweep removes the files that nothing names any more, also those of a change that a
// crash has interrupted. It is of no matter if it fails: the next one tries again.
// While an entry cannot be read nothing is removed.
func (s *Store) sweep(ix *index) {
	folder := s.materialPath(ix.Folder)
	files, err := os.ReadDir(folder)
	if err != nil || len(files) == 0 {
		return // mostly because there are none
	}
	named := map[string]bool{path.Base(ix.stored): true}
	for _, row := range ix.Profiles {
		in, err := s.read(row.Key)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return
		}
		named[path.Base(in.File)] = true
		for _, field := range append(certificates(&in.Profile), &in.Profile.Key) {
			// By hash, or by the path of a file of ours.
			named[path.Base(filepath.ToSlash(*field))] = true
		}
	}
	for _, file := range files {
		if !named[file.Name()] {
			_ = os.Remove(filepath.Join(folder, file.Name()))
		}
	}
	_ = os.Remove(folder) // if it is empty
}

// files is the folder of the folders with the files.
func (s *Store) files() string { return filepath.Join(s.dir, "files") }

// materialPath is the path of a folder, or of a file in one, as "folder/file".
func (s *Store) materialPath(name string) string {
	return filepath.Join(s.files(), filepath.FromSlash(name))
}

// isHex reports whether text is so many bytes in hexadecimal.
func isHex(text string, size int) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == size
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

// Adopt saves a profile that was imported, with the files of its own that the file has
// brought. The error is that of Save.
func (s *Store) Adopt(c *Candidate) error {
	return s.save(&c.Entry, func(ix *index) error {
		for _, file := range []struct {
			data []byte
			path *string
		}{{c.Certificate, &c.Profile.Certificate}, {c.Key, &c.Profile.Key}} {
			if len(file.data) == 0 {
				continue
			}
			name, err := s.putAway(ix.Folder, string(file.data))
			if err != nil {
				return fmt.Errorf("store the certificate of the profile: %w", err)
			}
			*file.path = s.materialPath(strings.TrimPrefix(name, materialPrefix))
		}
		return nil
	})
}
