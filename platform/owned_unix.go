//go:build unix

package platform

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openAtOnce makes opening a pipe not wait for its other end.
const openAtOnce = unix.O_NONBLOCK

// checkAccess looks at the file that was opened, so that it cannot be another one.
func checkAccess(file *os.File, access Access) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return err
	}
	mode := stat.Mode & 0o7777
	switch {
	case stat.Uid != 0:
		return fmt.Errorf("it belongs to uid %d; make it root's (chown root)", stat.Uid)
	case mode&0o022 != 0:
		return fmt.Errorf("others may write to it (mode %04o); take that right away (chmod go-w)", mode)
	case access == Private && mode&0o077 != 0:
		return fmt.Errorf("others may read it (mode %04o); make it root's alone (chmod 600)", mode)
	}
	return nil
}
