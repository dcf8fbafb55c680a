package platform

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system's functions that are private to Apple, or in frameworks, are asked for while the
// program runs: one that is not there, some day, is no reason not to start. What stands here
// is all that is linked to, by what the standard library has for golang.org/x/sys; the
// variable's address, taken in code, is the function's. (In data nothing would put it there.)
//
//go:cgo_import_dynamic wayfarer_dlsym dlsym "/usr/lib/libSystem.B.dylib"
//go:linkname dlsym wayfarer_dlsym
var dlsym byte

//go:linkname syscall6X syscall.syscall6X
func syscall6X(fn, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno)

// Numbers of dlfcn.h.
const (
	rtldDefault = ^uintptr(1) // RTLD_DEFAULT, -2: what is loaded already, as libSystem
	rtldLazy    = 0x1
	rtldNoLoad  = 0x10
)

// symbolOf is the address of a function of a library's; 0: there is none.
func symbolOf(library uintptr, name string) uintptr {
	b, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0
	}
	return invoke(uintptr(unsafe.Pointer(&dlsym)), library, uintptr(unsafe.Pointer(b)))
}

// symbol is one of libSystem's.
func symbol(name string) uintptr { return symbolOf(rtldDefault, name) }

// symbols are all of these functions of a library's.
func symbols(library uintptr, names ...string) ([]uintptr, error) {
	var all []uintptr
	for _, name := range names {
		fn := symbolOf(library, name)
		if fn == 0 {
			return nil, fmt.Errorf("this system has no %s", name)
		}
		all = append(all, fn)
	}
	return all, nil
}

// openLibrary is a library's handle, or 0.
func openLibrary(path string, mode uintptr) uintptr {
	dlopen := symbol("dlopen")
	b, err := unix.BytePtrFromString(path)
	if err != nil || dlopen == 0 {
		return 0
	}
	return invoke(dlopen, uintptr(unsafe.Pointer(b)), mode)
}

// invoke calls a function with up to six arguments, as numbers or addresses.
//
//go:uintptrescapes
func invoke(fn uintptr, args ...uintptr) uintptr {
	var a [6]uintptr
	copy(a[:], args)
	r, _, _ := syscall6X(fn, a[0], a[1], a[2], a[3], a[4], a[5])
	return r
}
