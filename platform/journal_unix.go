//go:build unix

package platform

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockPath locks a file for this process and writes the process's number into it.
// The lock ends with the process, however that ends. The error may be a *BusyError.
func lockPath(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &BusyError{readPID(file)}
	} else if err != nil {
		err = fmt.Errorf("lock %s: %w", path, err)
	} else {
		err = writePID(file)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// checkOwner refuses a directory that somebody else owns or may write to.
func checkOwner(dir string) error {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if uid := stat.Uid; uid != 0 && int(uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user (uid %d)", dir, uid)
	}
	if stat.Mode&0o022 != 0 {
		return fmt.Errorf("others may write to %s (mode %04o)", dir, stat.Mode&0o7777)
	}
	return nil
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
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
