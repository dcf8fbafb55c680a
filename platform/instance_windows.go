package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// ClaimInstance makes this process the one of the program name in the user's session, or
// hands args to the one that is, and returns ErrHandedOver. With another error the
// instance is one that later processes will not find, or nil if ctx ended or the session
// cannot be told.
func ClaimInstance(ctx context.Context, name string, args []string) (*Instance, error) {
	user, err := tokenUser(windows.GetCurrentProcessToken())
	if err != nil {
		return nil, fmt.Errorf("look up the user: %w", err)
	}
	var session uint32
	if err := windows.ProcessIdToSessionId(windows.GetCurrentProcessId(), &session); err != nil {
		return nil, fmt.Errorf("look up the session: %w", err)
	}
	return pipeMeeting(fmt.Sprintf(`\\.\pipe\%s-%s-%d`, name, user, session), user).claim(ctx, args)
}

// pipeMeeting is a pipe of the user's. The name of a hung process's cannot be taken.
func pipeMeeting(path, user string) *meeting {
	return &meeting{
		dial: func(ctx context.Context) (net.Conn, error) {
			conn, err := winio.DialPipeContext(ctx, path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, errNobody
			}
			return conn, err
		},
		listen: func(hung bool) (net.Listener, error) {
			listener, err := winio.ListenPipe(path, &winio.PipeConfig{SecurityDescriptor: "D:P(A;;GA;;;" + user + ")"})
			if errors.Is(err, fs.ErrPermission) && !hung {
				return nil, errSomebody
			}
			return listener, err
		},
		identify: func(conn net.Conn) error { return identifyPipe(conn, user) },
	}
}

// identifyPipe: anybody can make a pipe of any name, so its process's user is looked up.
// Who may open ours is decided by its security descriptor.
func identifyPipe(conn net.Conn, user string) error {
	pipe, ok := conn.(interface{ Fd() uintptr })
	if !ok {
		return fmt.Errorf("a %T is no pipe", conn)
	}
	var id uint32
	if err := windows.GetNamedPipeServerProcessId(windows.Handle(pipe.Fd()), &id); err != nil {
		return fmt.Errorf("look up the pipe's process: %w", err)
	}
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, id)
	if err != nil {
		return fmt.Errorf("look up the pipe's process: %w", err)
	}
	defer windows.CloseHandle(process)
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return fmt.Errorf("look up the pipe's process: %w", err)
	}
	defer token.Close()
	owner, err := tokenUser(token)
	if err != nil {
		return fmt.Errorf("look up the pipe's user: %w", err)
	}
	if owner != user {
		return errors.New("the pipe is another user's")
	}
	return nil
}

// tokenUser is the security identifier of a token's user.
func tokenUser(token windows.Token) (string, error) {
	user, err := token.GetTokenUser()
	if err != nil {
		return "", err
	}
	return user.User.Sid.String(), nil
}
