package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

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
	Target string `json:",omitempty"` // of a symlink
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
			return readBounded(filepath.Join(h.root, path))
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return nil, &fs.PathError{Op: "read", Path: path, Err: unix.ELOOP}
}

// fileChange is a file of ours in place of another. It is still there after a restart
// of the computer.
type fileChange struct {
	h       *linuxHost
	Path    string // below the host's root
	Content []byte
	Was     fileState

	// anew: another program has written the file since we did, and that is what
	// is to be put back now.
	anew bool
	// rewrites are the times of the last minute at which that happened.
	rewrites []time.Time
	// lost is when it had happened too often: the file is the other program's for
	// lostTime, or until the wish is another one. Zero: it is ours.
	lost time.Time
}

// Two programs that both want a file must not replace it for ever: it is written again
// at most maxRewrites times in rewriteTime. Once that was not enough, it is tried again
// after lostTime, for the other program may have ended.
const (
	maxRewrites = 5
	rewriteTime = time.Minute
	lostTime    = 10 * time.Minute
)

// planFile plans a file whose content depends on what was there before us. If another
// program writes it meanwhile, as DHCP clients do, ours follows, and theirs is what is
// put back in the end. One that was made from ours is left alone: with it our servers
// would be put back.
func (h *linuxHost) planFile(path string, applied []change, content func(before []byte) []byte) (*fileChange, error) {
	is, err := h.readFile(path)
	if err != nil {
		return nil, err
	}
	c := &fileChange{h: h, Path: path, Was: is}
	standing, _ := find(applied, c.id()).(*fileChange)
	if standing == nil {
		c.Content = content(is.Seen)
		return c, nil
	}
	c.Was, c.Content = standing.Was, content(standing.Was.Seen)
	sameWish := bytes.Equal(c.Content, standing.Content)
	if sameWish {
		c.rewrites, c.lost = standing.rewrites, standing.lost
	}
	if standing.ours(is) || sameWish && (is.fromOurs() || !c.mayRewrite(time.Now())) {
		return c, nil
	}
	c.Was, c.Content, c.anew = is, content(is.Seen), true
	return c, nil
}

// fromOurs says whether a file is ours, or made from ours.
func (s fileState) fromOurs() bool { return bytes.Contains(s.Seen, []byte(resolvHeader)) }

// mayRewrite says whether a file that another program has written may be ours once more,
// and counts that.
func (c *fileChange) mayRewrite(now time.Time) bool {
	c.rewrites = slices.DeleteFunc(slices.Clone(c.rewrites), func(t time.Time) bool { return now.Sub(t) >= rewriteTime })
	if now.Sub(c.lost) < lostTime {
		return false
	}
	if c.lost = (time.Time{}); len(c.rewrites) == maxRewrites {
		c.lost = now
		c.h.log.Warn("network: another program rewrites the file again and again; for a while it is left alone, and names may not be looked up in the tunnel", "file", c.Path)
		return false
	}
	c.rewrites = append(c.rewrites, now)
	return true
}

func (c *fileChange) String() string { return fmt.Sprintf("file %s:\n%s", c.Path, c.Content) }
func (c *fileChange) id() string     { return "file " + c.Path }
func (c *fileChange) kind() string   { return "file" }
func (c *fileChange) part() Part     { return PartDNS }
func (c *fileChange) survives() bool { return true }
func (c *fileChange) blocks() bool   { return false }

// onFiles marks the kinds that root believes nobody else: with them any file of the
// host could be written.
func (c *fileChange) onFiles() {}

func (c *fileChange) inherit(older change) {
	if !c.anew {
		c.Was = older.(*fileChange).Was
	}
}

func (c *fileChange) apply(context.Context) error {
	is, err := c.h.readFile(c.Path)
	if err != nil || is.Kind == fileRegular && bytes.Equal(is.Seen, c.Content) {
		return err
	}
	if !c.ours(is) && (!c.lost.IsZero() || !is.equal(c.Was)) {
		c.h.log.Warn("network: another program has rewritten the file; it is left alone", "file", c.Path)
		return nil
	}
	durable := c.Was.Kind != fileMissing // else a loss of power can cost nothing but ours
	if err := c.h.writeFile(c.Path, c.Content, 0o644, os.Geteuid(), os.Getegid(), durable); err != nil {
		return c.refused(err)
	}
	c.h.written[c.Path] = c.Content
	return nil
}

func (c *fileChange) undo(context.Context) error {
	os.Remove(c.h.tempFor(c.Path)) // of a write that was cut short
	is, err := c.h.readFile(c.Path)
	if err != nil {
		return err
	}
	switch {
	case is.equal(c.Was):
	case c.ours(is):
		if err := c.h.restoreFile(c.Path, c.Was); err != nil {
			return c.refused(err)
		}
	default:
		c.h.log.Warn("network: another program has rewritten the file; it is left alone", "file", c.Path)
	}
	delete(c.h.written, c.Path)
	return nil
}

// ours says whether a file is what this change, or this process, has written; also if
// the writing was cut short, where it had to be done in place or a loss of power did it.
func (c *fileChange) ours(is fileState) bool {
	if is.Kind != fileRegular {
		return false
	}
	last, known := c.h.written[c.Path]
	whole := known && bytes.Equal(is.Seen, last) || bytes.Equal(is.Seen, c.Content)
	part := bytes.Equal(is.Seen, overlay(c.Content, c.Was.Seen)) || bytes.Equal(is.Seen, overlay(c.Was.Seen, c.Content))
	lost := c.Was.Kind == fileMissing && len(is.Seen) == 0 && !known // while this process lives no power was lost
	return whole || lost || part && !bytes.Equal(is.Seen, c.Was.Seen)
}

// overlay is new written over old, when the rest of old is still to be cut off.
func overlay(newer, older []byte) []byte {
	return append(bytes.Clone(newer), older[min(len(newer), len(older)):]...)
}

func (c *fileChange) refused(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &FileError{c.Path, err}
	}
	return err
}

// equal compares two states.
func (s fileState) equal(other fileState) bool {
	return s.Kind == other.Kind && s.Target == other.Target && bytes.Equal(s.Seen, other.Seen) &&
		(s.Kind != fileRegular || s.Mode == other.Mode) && s.UID == other.UID && s.GID == other.GID
}

// restoreFile puts a state back.
func (h *linuxHost) restoreFile(path string, was fileState) error {
	full := filepath.Join(h.root, path)
	switch was.Kind {
	case fileMissing:
		return os.Remove(full)
	case fileSymlink:
		temp := h.tempFor(path)
		if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
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
	return h.writeFile(path, was.Seen, was.Mode, was.UID, was.GID, true)
}

// writeFile replaces what stands at path by a file, at once. Where a file cannot be
// replaced, because it is a mount point or its directory is read-only, it is written
// in place. A symlink is never followed. With durable no loss of power leaves less than one
// of the two.
func (h *linuxHost) writeFile(path string, content []byte, mode fs.FileMode, uid, gid int, durable bool) error {
	full := filepath.Join(h.root, path)
	temp := h.tempFor(path)
	err := h.writeNew(temp, content, mode, uid, gid, durable)
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

func (h *linuxHost) writeNew(path string, content []byte, mode fs.FileMode, uid, gid int, durable bool) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
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
	if err == nil && durable {
		err = h.sync(file)
	}
	return errors.Join(err, file.Close())
}

// overwrite replaces a file's content and cuts off what is too long only then: at no
// time is there an empty file.
func overwrite(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Truncate(int64(len(content)))
	}
	return errors.Join(err, file.Close())
}

// tempFor is the name under which a file is prepared: always the same, so that one
// that a crash left is found.
func (h *linuxHost) tempFor(path string) string {
	full := filepath.Join(h.root, path)
	return filepath.Join(filepath.Dir(full), "."+filepath.Base(full)+".wayfarer")
}
