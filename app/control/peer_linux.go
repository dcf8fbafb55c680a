package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

func peerCredentials(fd int) (credentials, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return credentials{}, err
	}
	return credentials{uid: cred.Uid, gid: cred.Gid}, nil
}

// present is always false: a user may have a session in front of the machine and another
// from elsewhere, so only the process tells. Server.Authorize is asked about it.
func present(uint32) bool { return false }

// heldProcess is the one that connected. It is held by a pidfd, because its number may be
// another's once it has ended.
type heldProcess struct {
	process Process
	pidfd   *os.File // nil: err
	err     error
}

// holdProcess holds the process at the other end of a connection until close.
func holdProcess(conn net.Conn) *heldProcess {
	p := &heldProcess{}
	err := control(conn, func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return err
		}
		p.process = Process{PID: cred.Pid, UID: cred.Uid}
		pidfd, err := openPidfd(fd, int(cred.Pid))
		if err == nil {
			p.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
		}
		return err
	})
	if err != nil {
		p.err = fmt.Errorf("hold the client's process: %w", err)
	}
	return p
}

// openPidfd holds the process that connected, or on kernels before 6.5, which do not
// tell, the one that has its number now.
func openPidfd(fd, pid int) (int, error) {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return unix.PidfdOpen(pid, 0)
	}
	return pidfd, err
}

// authorized asks authorize about the process. The answer counts if the process lives
// when it comes: until then its number was nobody else's.
func (p *heldProcess) authorized(ctx context.Context, authorize func(context.Context, Process) error) error {
	if p.pidfd == nil {
		return p.err
	}
	if err := authorize(ctx, p.process); err != nil {
		return err
	}
	if !p.lives() {
		return errors.New("the client's process has ended")
	}
	return nil
}

// lives says whether the process has not ended: a pidfd can be read from then on, see
// pidfd_open(2).
func (p *heldProcess) lives() bool {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var pollErr error
	err = raw.Control(func(fd uintptr) {
		for {
			n, pollErr = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			if !errors.Is(pollErr, unix.EINTR) {
				return
			}
		}
	})
	return err == nil && pollErr == nil && n == 0
}

func (p *heldProcess) close() {
	if p.pidfd != nil {
		p.pidfd.Close()
	}
}
