package platform

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Access is what a file of the administrator's may be open to.
type Access int

// Accesses.
const (
	// OthersMayRead: nobody but the administrator may write it.
	OthersMayRead Access = iota
	// Private: nobody but the administrator may even read it.
	Private
)

// ReadOwned reads a file of at most limit bytes that belongs to the administrator (root,
// Administrators or the system) and that others have no more access to than access says.
// The error names the file and what is wrong with it. The caller overwrites secrets.
func ReadOwned(path string, access Access, limit int) ([]byte, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, explainHidden(path, err)
	}
	defer file.Close()
	if err := checkAccess(file, access); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// One buffer, so that no copy of a growing one stays behind.
	data := make([]byte, limit+1)
	n, err := io.ReadFull(file, data)
	if err == nil {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		clear(data)
		return nil, err
	}
	return data[:n], nil
}

// explainHidden adds to the error of a file that cannot be opened below users' directories
// that a service's unit may hide them (ProtectHome=yes).
func explainHidden(path string, err error) error {
	hidden := slices.ContainsFunc([]string{"/home", "/root", "/run/user"}, func(dir string) bool {
		return strings.HasPrefix(filepath.Clean(path), dir+"/")
	})
	if runtime.GOOS != "linux" || !hidden || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w; a systemd unit with ProtectHome hides /home, /root and /run/user from its service: for that, place the file below /etc/wayfarer", err)
}

// openRegular opens a regular file for reading. A pipe or a device, on which opening or
// reading could wait for ever, is refused.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|openAtOnce, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// maxFile bounds what is read of a file that other programs write.
const maxFile = 1 << 20

// readBounded reads a regular file of at most maxFile bytes.
func readBounded(path string) ([]byte, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}
