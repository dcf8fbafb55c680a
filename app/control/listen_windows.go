package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// talkAccess is FILE_GENERIC_READ and FILE_GENERIC_WRITE without
// FILE_CREATE_PIPE_INSTANCE: users may talk, but not pose as the service.
const talkAccess = 0x12019b

// pipeSecurity gives full access to SYSTEM, Administrators and, where it is neither,
// the server's own user; other users may talk; nobody comes from the network.
func pipeSecurity() (string, error) {
	sddl := fmt.Sprintf("D:P(D;;GA;;;NU)(A;;GA;;;SY)(A;;GA;;;BA)(A;;%#x;;;BU)", talkAccess)
	token := windows.GetCurrentProcessToken()
	if token.IsElevated() {
		return sddl, nil
	}
	account, err := token.GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("find out whose process this is: %w", err)
	}
	return sddl + "(A;;GA;;;" + account.User.Sid.String() + ")", nil
}

// Listen makes the named pipe. The error says so when another service answers on it.
func Listen(path string) (net.Listener, error) {
	security, err := pipeSecurity()
	if err != nil {
		return nil, err
	}
	l, err := winio.ListenPipe(path, &winio.PipeConfig{SecurityDescriptor: security})
	// The first instance of a pipe is refused when there is one already.
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, windows.ERROR_PIPE_BUSY) {
		return nil, fmt.Errorf("another wayfarerd answers on %s, or this user may not make the pipe: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// dial lets the service see who calls and no more.
func dial(ctx context.Context, path string) (net.Conn, error) {
	return winio.DialPipeAccessImpLevel(ctx, path, talkAccess, winio.PipeImpLevelIdentification)
}
