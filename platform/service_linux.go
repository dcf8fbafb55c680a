package platform

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ServiceDir makes the directory, below n's state directory, that belongs to the service
// when it runs as the user uid, and opens it, for a process that cannot walk there. A
// state directory that is the user's, because the service has run in it without root,
// becomes root's. A leak block that [Network.Recover] has kept becomes the service's: it
// finds it in its own journal. It needs root.
func (n *Network) ServiceDir(uid, gid int) (*os.File, error) {
	if err := takeDir(n.journal.dir, uid); err != nil {
		return nil, err
	}
	path := filepath.Join(n.journal.dir, serviceDir)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	dir, err := openDir(path)
	if err != nil {
		return nil, err
	}
	err = errors.Join(dir.Chown(uid, gid), dir.Chmod(0o700))
	// Files of the time when the service ran as somebody else.
	for _, name := range []string{lockFile, journalFile} {
		file, _, openErr := openOwn(filepath.Join(path, name), os.O_RDONLY)
		if errors.Is(openErr, os.ErrNotExist) {
			continue
		}
		if openErr == nil {
			openErr = errors.Join(file.Chown(uid, gid), file.Close())
		}
		err = errors.Join(err, openErr)
	}
	if err == nil {
		err = n.handOver(path)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// handOver writes what stands into the journal in dir, and only then out of n's own.
func (n *Network) handOver(dir string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.applied) == 0 {
		return nil
	}
	heir, err := openJournal(n.log, dir, n.journal.boot)
	if err != nil {
		return err
	}
	if err := errors.Join(heir.keep(n.applied), heir.close()); err != nil {
		return err
	}
	n.applied = nil
	return n.journal.keep(nil)
}

// takeDir makes a directory root's if it is the user's.
func takeDir(path string, uid int) error {
	dir, err := openDir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &stat); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	switch int(stat.Uid) {
	case 0:
		return nil
	case uid:
		return dir.Chown(0, 0)
	}
	return fmt.Errorf("%s belongs to neither root nor the service (uid %d)", path, stat.Uid)
}

// openDir opens a directory, and no symlink to one.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}
