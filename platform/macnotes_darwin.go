package platform

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nameNotes are what configd posts by notify(3) when it has made other resolvers of the
// dynamic store (dnsinfo.h), and when the network is another (notify_keys.h).
var nameNotes = []string{
	"com.apple.system.SystemConfiguration.dns_configuration",
	"com.apple.system.config.network_change",
}

// notifyReuse is NOTIFY_REUSE: one descriptor tells of several names.
const notifyReuse = 1

// listenNotes opens what tells, by a token of four bytes, that one of nameNotes was posted.
func listenNotes() (io.ReadCloser, error) {
	calls, err := symbols(rtldDefault, "notify_register_file_descriptor", "notify_cancel")
	if err != nil {
		return nil, err
	}
	notes := &notes{cancel: calls[1]}
	if err := notes.register(calls[0]); err != nil {
		return nil, errors.Join(err, notes.Close())
	}
	return notes, nil
}

// notes are registrations for notifications.
type notes struct {
	*os.File // of our own, for libSystem closes the one that it gives
	cancel   uintptr
	tokens   []int32
}

func (n *notes) register(call uintptr) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var fd, flags int32
	for _, note := range nameNotes {
		name, err := unix.BytePtrFromString(note)
		if err != nil {
			return err
		}
		var token int32
		r := invoke(call, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&fd)), uintptr(flags), uintptr(unsafe.Pointer(&token)))
		if uint32(r) != 0 {
			return fmt.Errorf("notify_register_file_descriptor %s: %d", note, uint32(r))
		}
		n.tokens = append(n.tokens, token)
		flags = notifyReuse
	}
	unix.CloseOnExec(int(fd))
	// The pipe's other end, which libSystem keeps, has no such mark. Programs that are started
	// have it, too, and could do no more by it than have names looked at.
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(own, true); err != nil {
		unix.Close(own)
		return os.NewSyscallError("fcntl", err)
	}
	n.File = os.NewFile(uintptr(own), "notify")
	return nil
}

// Close implements io.Closer.
func (n *notes) Close() error {
	var err error
	if n.File != nil {
		err = n.File.Close()
	}
	for _, token := range n.tokens {
		invoke(n.cancel, uintptr(token))
	}
	return err
}
