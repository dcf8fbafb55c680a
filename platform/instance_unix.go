//go:build linux || darwin

package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockTime bounds how long two processes that start at once wait for each other.
const lockTime = 2 * time.Second

// ClaimInstance makes this process the one of the program name in the user's session, or
// hands args to the one that is, and returns ErrHandedOver. With another error the
// instance is one that later processes will not find, or nil if ctx ended.
func ClaimInstance(ctx context.Context, name string, args []string) (*Instance, error) {
	return socketMeeting(instancePath(name)).claim(ctx, args)
}

// instancePath is the socket of a program in this session: those on another display of
// the same user cannot be seen from here.
func instancePath(name string) string {
	session := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(":.-", r) {
			return r
		}
		return '_'
	}, os.Getenv("WAYLAND_DISPLAY")+os.Getenv("DISPLAY"))
	if session != "" {
		name += "-" + session
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir, _ = os.UserCacheDir() // empty: the making of the socket will say so
	}
	return filepath.Join(dir, "wayfarer", name+".sock")
}

func socketMeeting(path string) *meeting {
	return &meeting{
		dial:     func(ctx context.Context) (net.Conn, error) { return dialInstance(ctx, path) },
		listen:   func(hung bool) (net.Listener, error) { return listenAlone(path, hung) },
		identify: identifyOwnUser,
	}
}

func dialInstance(ctx context.Context, path string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errNobody
	}
	return conn, err
}

// listenAlone makes the socket, in place of a dead process's, or of one that hangs. Its
// folder is the user's alone, and so is the socket.
func listenAlone(path string, hung bool) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("there is no folder for a socket: XDG_RUNTIME_DIR and HOME are not set")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockInstance(path)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if !hung {
		ctx, cancel := context.WithTimeout(context.Background(), lockTime)
		defer cancel()
		if conn, err := dialInstance(ctx, path); err == nil {
			conn.Close()
			return nil, errSomebody
		}
	}
	if err := removeFile(path); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // by then it may be a successor's
	own, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &ownSocket{listener, path, own}, nil
}

// ownSocket is a listener that takes away nothing but its own socket.
type ownSocket struct {
	*net.UnixListener
	path string
	own  fs.FileInfo
}

// Close implements net.Listener.
func (s *ownSocket) Close() error {
	lock, err := lockInstance(s.path)
	if err != nil {
		return errors.Join(err, s.UnixListener.Close())
	}
	defer lock.Close()
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.own) {
		err = removeFile(s.path)
		return errors.Join(err, s.UnixListener.Close())
	}
	return s.UnixListener.Close()
}

// lockInstance keeps others from making or removing the socket, until the file is closed.
func lockInstance(path string) (*os.File, error) {
	file, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockTime); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
		}
	}
}

// identifyOwnUser goes by what the kernel says of the other end.
func identifyOwnUser(conn net.Conn) error {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("a %T is no unix socket", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var uid uint32
	var uidErr error
	if err := raw.Control(func(fd uintptr) { uid, uidErr = socketUser(int(fd)) }); err != nil {
		return err
	}
	if uidErr != nil {
		return uidErr
	}
	if int64(uid) != int64(os.Getuid()) {
		return fmt.Errorf("the process at the other end is of uid %d", uid)
	}
	return nil
}
