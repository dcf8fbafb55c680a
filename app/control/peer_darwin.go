package control

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func peerCredentials(fd int) (credentials, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return credentials{}, err
	}
	// The first of the groups is the effective one.
	return credentials{uid: cred.Uid, gid: cred.Groups[0]}, nil
}

// present says whether the user sits in front of the machine: the login window gives
// /dev/console to them.
func present(uid uint32) bool {
	info, err := os.Stat("/dev/console")
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == uid
}
