package platform

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchCalls are the system's, if they are there, known to be sound, and pass a trial.
var batchCalls = sync.OnceValue(func() macCalls {
	release, err := unix.Sysctl("kern.osrelease")
	send, receive := symbol("sendmsg_x"), symbol("recvmsg_x")
	if err != nil || !soundBatches(release) || send == 0 || receive == 0 {
		return macCalls{}
	}
	calls := macCalls{send: batchCall(send), receive: batchCall(receive)}
	if calls.trial() != nil {
		return macCalls{}
	}
	return calls
})

func batchCall(fn uintptr) func(fd uintptr, first *macMessage, count int) (int, syscall.Errno) {
	return func(fd uintptr, first *macMessage, count int) (int, syscall.Errno) {
		n, _, errno := syscall6X(fn, fd, uintptr(unsafe.Pointer(first)), uintptr(count), unix.MSG_DONTWAIT, 0, 0)
		return int(n), errno
	}
}
