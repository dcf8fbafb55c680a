package platform

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/windows"
)

// lockAt is the byte that is locked: beyond the text, which others want to read.
const lockAt = 1 << 20

// lockPath locks a file for this process and writes the process's number into it.
// The lock ends with the process, however that ends. The error may be a *BusyError.
func lockPath(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{Offset: lockAt})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		text, _ := io.ReadAll(io.LimitReader(file, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		err = &BusyError{pid}
	} else if err != nil {
		err = fmt.Errorf("lock %s: %w", path, err)
	} else if err = file.Truncate(0); err == nil {
		_, err = file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// checkOwner leaves the directory's protection to the access control list that its
// maker, the installer, gives it: modes say nothing here.
func checkOwner(string) (foreign bool, err error) { return false, nil }

func openOwn(path string, flags int) (_ *os.File, foreign bool, _ error) {
	file, err := os.OpenFile(path, flags, 0o600)
	return file, false, err
}

func giveToOwner(*os.File, string) error { return nil }

// syncDir does nothing: NTFS journals names by itself.
func syncDir(string) error { return nil }
