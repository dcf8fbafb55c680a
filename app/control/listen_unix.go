//go:build linux || darwin

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Listen makes the socket at path, with its folder. A socket left behind by a dead
// service is removed; the error says so when another service answers on it, and
// when something that is no socket is in the way.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the socket: %w", err)
	}
	lock, err := lockSocket(path)
	if err != nil {
		return nil, err
	}
	l, err := bind(path)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &socket{l, lock}, nil
}

// socket is a listener that only one process has at a time.
type socket struct {
	*net.UnixListener
	lock *os.File
}

// Close implements net.Listener. It removes the socket before another may bind.
func (s *socket) Close() error {
	return errors.Join(s.UnixListener.Close(), s.lock.Close())
}

// lockSocket makes sure that no other service is between looking whether the socket
// is stale and making its own. The lock ends with the process; its file stays, for
// removing it would let two processes hold locks on two files of that name. Nobody else
// may open it: an open file can be locked.
func lockSocket(path string) (*os.File, error) {
	file, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the socket: %w", err)
	}
	switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		file.Close()
		return nil, fmt.Errorf("another wayfarerd answers on %s", path)
	case err != nil:
		file.Close()
		return nil, fmt.Errorf("lock the socket: %w", err)
	}
	return file, nil
}

func bind(path string) (*net.UnixListener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	// Everybody may ask; rights are decided per request.
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("open the socket to users: %w", err)
	}
	return l, nil
}

// removeStale removes the socket of a dead service. One that answers is no stale one,
// whether or not it knows of the lock.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way: it is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another wayfarerd answers on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("see whether another wayfarerd answers: %w", err)
	}
	return os.Remove(path)
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", path)
}
