package platform

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/windows"
)

// lockAt is the byte that is locked: beyond the text, which others want to read.
const lockAt = 1 << 20

// lockPath locks a file for this process and writes the process's number into it.
// The lock ends with the process, however that ends. The error may be a *BusyError.
func lockPath(path string) (*os.File, error) {
	file, _, err := openOwn(path, os.O_RDWR|os.O_CREATE)
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

// checkOwner refuses a directory that is not the administrators' own, and closes it to all
// others: below ProgramData anybody may make a directory, and files in those of others.
func checkOwner(dir string) (foreign bool, err error) {
	handle, err := openDir(dir)
	if err != nil {
		return false, fmt.Errorf("%s: %w", dir, err)
	}
	defer windows.CloseHandle(handle)
	if err := ownedByUs(handle); err != nil {
		return false, fmt.Errorf("%s: %w", dir, err)
	}
	if err := closeToOthers(handle); err != nil {
		return false, fmt.Errorf("protect %s: %w", dir, err)
	}
	return false, nil
}

// openDir opens a directory itself, not what a link leads to.
func openDir(dir string) (windows.Handle, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	handle, err := windows.CreateFile(path, windows.READ_CONTROL|windows.WRITE_DAC, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return 0, err
	}
	var info windows.ByHandleFileInformation
	if err = windows.GetFileInformationByHandle(handle, &info); err == nil && info.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0 {
		err = errors.New("it is a link to another place; remove it")
	}
	if err != nil {
		windows.CloseHandle(handle)
		return 0, err
	}
	return handle, nil
}

// ownedByUs refuses what belongs neither to administrators nor to this process's user.
func ownedByUs(handle windows.Handle) error {
	sd, err := windows.GetSecurityInfo(handle, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("whose it is cannot be told: %w", err)
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return fmt.Errorf("whose it is cannot be told: %w", err)
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return err
	}
	if !isAdministrator(owner) && !owner.Equals(user.User.Sid) {
		return fmt.Errorf("it belongs to %v; remove it", owner)
	}
	return nil
}

// closeToOthers gives a directory, and what is in it, to SYSTEM and Administrators alone,
// and to this process's user if that is neither.
func closeToOthers(handle windows.Handle) error {
	sddl := "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
	if token := windows.GetCurrentProcessToken(); !token.IsElevated() {
		user, err := tokenUser(token)
		if err != nil {
			return err
		}
		sddl += "(A;OICI;FA;;;" + user + ")"
	}
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return err
	}
	list, _, err := sd.DACL()
	if err != nil {
		return err
	}
	return windows.SetSecurityInfo(handle, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil)
}

// openOwn opens a file of ours. One that somebody placed there before the directory was
// closed to him is refused.
func openOwn(path string, flags int) (_ *os.File, foreign bool, _ error) {
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, false, err
	}
	if err := ownedByUs(windows.Handle(file.Fd())); err != nil {
		file.Close()
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	return file, false, nil
}

// giveToOwner does nothing: whoever may write to the directory may read all that is in it.
func giveToOwner(*os.File, string) error { return nil }

// syncDir does nothing: moveFile returns when the name is on the disk.
func syncDir(string, func(*os.File) error) error { return nil }

// moveFile gives a file another's name, and its place.
func moveFile(from, to string) error {
	source, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	target, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	err = whileInUse(func() error {
		return windows.MoveFileEx(source, target, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
	})
	if err != nil {
		return fmt.Errorf("replace %s: %w", to, err)
	}
	return nil
}

// removeFile removes a file if it is there.
func removeFile(path string) error {
	return whileInUse(func() error { return unlessAbsent(os.Remove(path)) })
}

// A scanner or a backup has a file open for moments, in which it can be neither replaced
// nor removed.
const (
	inUseTime  = 2 * time.Second
	inUsePause = 50 * time.Millisecond
)

// whileInUse tries again as long as another program has a file open.
func whileInUse(try func() error) error {
	for start := time.Now(); ; time.Sleep(inUsePause) {
		err := try()
		used := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !used || time.Since(start) >= inUseTime {
			return err
		}
	}
}
