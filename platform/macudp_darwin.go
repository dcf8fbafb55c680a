package platform

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls are private to Apple, so libSystem is asked for them while the program runs:
// one that is not there, some day, is no reason not to start. What stands here is all that
// is linked to, by what the standard library has for golang.org/x/sys; the variable's
// address, taken in code, is the function's. (In data nothing would put it there.)
//
//go:cgo_import_dynamic wayfarer_dlsym dlsym "/usr/lib/libSystem.B.dylib"
//go:linkname dlsym wayfarer_dlsym
var dlsym byte

//go:linkname syscall6X syscall.syscall6X
func syscall6X(fn, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno)

const rtldDefault = ^uintptr(1) // RTLD_DEFAULT of dlfcn.h: -2

// symbol is the address of a function of libSystem's; 0: there is none.
func symbol(name string) uintptr {
	b, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0
	}
	fn, _, _ := syscall6X(uintptr(unsafe.Pointer(&dlsym)), rtldDefault, uintptr(unsafe.Pointer(b)), 0, 0, 0, 0)
	return fn
}

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
