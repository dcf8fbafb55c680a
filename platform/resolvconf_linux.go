package platform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileKind is what stands at a path.
type fileKind string

const (
	fileMissing fileKind = "missing"
	fileRegular fileKind = "file"
	fileSymlink fileKind = "symlink"
)

// fileState is what stood at a path, complete enough to be put back.
type fileState struct {
	Kind   fileKind
	Target string // of a symlink
	// Seen is what reading the path gives, through symlinks; nil if they dangle.
	Seen     []byte
	Mode     fs.FileMode // of a file
	UID, GID int         // of a file or symlink
}

// maxLinks is how many symlinks in a row are followed, as in the kernel.
const maxLinks = 40

// readFile reads the state of a path below the host's root.
func (h *linuxHost) readFile(path string) (fileState, error) {
	info, err := os.Lstat(filepath.Join(h.root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return fileState{Kind: fileMissing}, nil
	}
	if err != nil {
		return fileState{}, err
	}
	state := fileState{Kind: fileRegular, Mode: info.Mode().Perm()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		state.UID, state.GID = int(sys.Uid), int(sys.Gid)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		state.Kind = fileSymlink
		if state.Target, err = os.Readlink(filepath.Join(h.root, path)); err != nil {
			return fileState{}, err
		}
	case !info.Mode().IsRegular():
		return fileState{}, fmt.Errorf("%s is neither a file nor a symlink", path)
	}
	state.Seen, err = h.readThrough(path)
	if errors.Is(err, fs.ErrNotExist) && state.Kind == fileSymlink {
		err = nil
	}
	return state, err
}

// readThrough reads a file and follows symlinks, which stay below the host's root.
func (h *linuxHost) readThrough(path string) ([]byte, error) {
	for range maxLinks {
		target, err := os.Readlink(filepath.Join(h.root, path))
		if err != nil {
			return os.ReadFile(filepath.Join(h.root, path))
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return nil, &fs.PathError{Op: "read", Path: path, Err: unix.ELOOP}
}

// fileChange is a file of ours in place of another.
type fileChange struct {
	h       *linuxHost
	Path    string
	Content []byte
	Was     fileState
}

func (c *fileChange) String() string       { return fmt.Sprintf("file %s:\n%s", c.Path, c.Content) }
func (c *fileChange) id() string           { return "file " + c.Path }
func (c *fileChange) part() Part           { return PartDNS }
func (c *fileChange) inherit(older change) { c.Was = older.(*fileChange).Was }

func (c *fileChange) apply(context.Context) error {
	is, err := c.h.readFile(c.Path)
	if err != nil || is.Kind == fileRegular && bytes.Equal(is.Seen, c.Content) {
		return err
	}
	if c.h.written != nil && !c.h.wrote(is) {
		if bytes.Equal(c.Content, c.h.written) {
			c.h.log.Warn("network: another program has rewritten the file; it is left alone", "file", c.Path)
			return nil
		}
		c.Was = is // a new wish replaces theirs, and puts theirs back
	}
	if err := c.h.writeFile(c.Path, c.Content, 0o644, os.Geteuid(), os.Getegid()); err != nil {
		return rights(err)
	}
	c.h.written = c.Content
	return nil
}

func (c *fileChange) undo(context.Context) error {
	is, err := c.h.readFile(c.Path)
	if err != nil {
		return err
	}
	if c.h.wrote(is) {
		if err := c.h.restoreFile(c.Path, c.Was); err != nil {
			return err
		}
	} else if c.h.written != nil {
		c.h.log.Warn("network: another program has rewritten the file; it is left alone", "file", c.Path)
	}
	c.h.written = nil
	return nil
}

// wrote says whether a file is the one that we wrote last.
func (h *linuxHost) wrote(is fileState) bool {
	return h.written != nil && is.Kind == fileRegular && bytes.Equal(is.Seen, h.written)
}

// restoreFile puts a state back.
func (h *linuxHost) restoreFile(path string, was fileState) error {
	full := filepath.Join(h.root, path)
	switch was.Kind {
	case fileMissing:
		return os.Remove(full)
	case fileSymlink:
		temp := filepath.Join(filepath.Dir(full), tempName())
		if err := os.Symlink(was.Target, temp); err != nil {
			return err
		}
		err := os.Lchown(temp, was.UID, was.GID)
		if err == nil {
			err = os.Rename(temp, full)
		}
		if err != nil {
			os.Remove(temp)
		}
		return err
	}
	return h.writeFile(path, was.Seen, was.Mode, was.UID, was.GID)
}

// writeFile replaces what stands at path by a file, at once. Where a file cannot be
// replaced, because it is a mount point or its directory is read-only, it is written
// in place. A symlink is never followed.
func (h *linuxHost) writeFile(path string, content []byte, mode fs.FileMode, uid, gid int) error {
	full := filepath.Join(h.root, path)
	temp := filepath.Join(filepath.Dir(full), tempName())
	err := writeNew(temp, content, mode, uid, gid)
	if err == nil {
		err = os.Rename(temp, full)
	}
	if err == nil {
		return nil
	}
	os.Remove(temp)
	for _, inPlace := range []error{unix.EBUSY, unix.EXDEV, unix.EROFS, unix.EACCES, unix.EPERM} {
		if errors.Is(err, inPlace) {
			if again := overwrite(full, content); again != nil {
				return errors.Join(err, again)
			}
			return nil
		}
	}
	return err
}

func writeNew(path string, content []byte, mode fs.FileMode, uid, gid int) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Chown(uid, gid)
	}
	if err == nil {
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func overwrite(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}

func tempName() string { return ".wayfarer-" + rand.Text() }
