package control

import "golang.org/x/sys/unix"

func peerCredentials(fd int) (credentials, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return credentials{}, err
	}
	return credentials{uid: cred.Uid, gid: cred.Gid}, nil
}

// consoleUser: a seat has no owner on Linux that the file system would tell.
func consoleUser() (uint32, bool) { return 0, false }
