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

// pipeSecurity: full access for SYSTEM and Administrators; users may talk, but not
// make an instance of the pipe themselves (talkAccess); nobody from the network.
const pipeSecurity = "O:BAG:BAD:P(D;;GA;;;NU)(A;;GA;;;SY)(A;;GA;;;BA)(A;;0x12019b;;;BU)"

// talkAccess is FILE_GENERIC_READ and FILE_GENERIC_WRITE without
// FILE_CREATE_PIPE_INSTANCE, as in pipeSecurity.
const talkAccess = 0x12019b

// Listen makes the named pipe. The error says so when another service answers on it.
func Listen(path string) (net.Listener, error) {
	l, err := winio.ListenPipe(path, &winio.PipeConfig{SecurityDescriptor: pipeSecurity})
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
