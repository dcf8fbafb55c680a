//go:build unix

package platform

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A service that has just been killed holds its lock for a moment, until the kernel has
// taken down what it had.
const (
	lockTries = 10
	lockPause = 50 * time.Millisecond
)

// lockPath locks a file for this process and writes the process's number into it.
// The lock ends with the process, however that ends. The error may be a *BusyError.
func lockPath(path string) (*os.File, error) {
	file, _, err := openOwn(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	for range lockTries {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(lockPause)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &BusyError{readPID(file)}
	} else if err != nil {
		err = fmt.Errorf("lock %s: %w", path, err)
	} else {
		err = errors.Join(giveToOwner(file, filepath.Dir(path)), writePID(file))
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// openOwn opens a file in a directory whose owner may have fewer rights than this
// process, and has perhaps put something else there to have it read or overwritten.
// Foreign is whether the file belongs to such an owner.
func openOwn(path string, flags int) (_ *os.File, foreign bool, _ error) {
	file, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, false, err
	}
	var stat unix.Stat_t
	err = unix.Fstat(int(file.Fd()), &stat)
	if err == nil && (stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Nlink > 1) {
		err = fmt.Errorf("%s is not a file of its own", path)
	}
	if err != nil {
		file.Close()
		return nil, false, err
	}
	return file, stat.Uid != 0 && int(stat.Uid) != os.Geteuid(), nil
}

// giveToOwner makes a file that root writes in another user's directory that user's: the
// service without root shall find its own files.
func giveToOwner(file *os.File, dir string) error {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return err
	}
	if os.Geteuid() != 0 || stat.Uid == 0 {
		return nil
	}
	return file.Chown(int(stat.Uid), int(stat.Gid))
}

// checkOwner refuses a directory that others may write to. One that belongs to another
// user is foreign to root, and refused by everybody else.
func checkOwner(dir string) (foreign bool, err error) {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return false, fmt.Errorf("%s: %w", dir, err)
	}
	foreign = stat.Uid != 0 && int(stat.Uid) != os.Geteuid()
	if foreign && os.Geteuid() != 0 {
		return false, fmt.Errorf("%s belongs to another user (uid %d)", dir, stat.Uid)
	}
	if stat.Mode&0o022 != 0 {
		return false, fmt.Errorf("others may write to %s (mode %04o)", dir, stat.Mode&0o7777)
	}
	return foreign, nil
}

func readPID(file io.Reader) int {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// syncDir makes the names of a directory's files last.
func syncDir(path string, sync func(*os.File) error) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(sync(dir), dir.Close())
}

// moveFile gives a file another's name, and its place.
func moveFile(from, to string) error { return os.Rename(from, to) }

// removeFile removes a file if it is there.
func removeFile(path string) error { return unlessAbsent(os.Remove(path)) }
