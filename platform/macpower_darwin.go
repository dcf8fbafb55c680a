package platform

import (
	_ "crypto/x509" // has every program with this package linked to CoreFoundation, with cgo or without
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

// IOKit needs CoreFoundation, which wants to be started by a process's first thread: where it
// is not there from the start, IOKit is not opened.
const (
	coreFoundationPath = "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation"
	ioKitPath          = "/System/Library/Frameworks/IOKit.framework/Versions/A/IOKit"
)

// openPower registers with IOKit (IOPMLib.h, IOKitLib.h).
func openPower() (*powerPort, error) {
	if openLibrary(coreFoundationPath, rtldLazy|rtldNoLoad) == 0 {
		return nil, errors.New("this program is not linked to CoreFoundation")
	}
	kit := openLibrary(ioKitPath, rtldLazy)
	if kit == 0 {
		return nil, errors.New("there is no IOKit")
	}
	// The system's own dispatcher would call the function that is registered, and must not
	// find none; messages are read here without it.
	system, err := symbols(rtldDefault, "mach_msg_receive", "mach_msg_send", "mach_msg_destroy", "getpid")
	if err != nil {
		return nil, err
	}
	calls, err := symbols(kit, "IORegisterForSystemPower", "IONotificationPortGetMachPort", "IOAllowPowerChange",
		"IODeregisterForSystemPower", "IOServiceClose", "IONotificationPortDestroy")
	if err != nil {
		return nil, err
	}
	p := &ioPort{receiveCall: system[0], sendCall: system[1], destroyCall: system[2], allowCall: calls[2], closeCalls: calls[3:]}
	p.root = uint32(invoke(calls[0], 0, uintptr(unsafe.Pointer(&p.notify)), system[3], uintptr(unsafe.Pointer(&p.notifier))))
	if p.root == 0 {
		return nil, errors.New("IORegisterForSystemPower fails")
	}
	p.port = uint32(invoke(calls[1], p.notify))
	return &powerPort{receive: p.receive, release: p.release, allow: p.allow, end: p.end, close: p.close}, nil
}

// ioPort is what IORegisterForSystemPower gives, and what is done with it.
type ioPort struct {
	root     uint32  // io_connect_t of the power management's root
	notify   uintptr // IONotificationPortRef
	notifier uint32  // io_object_t
	port     uint32  // mach_port_t that messages come to

	receiveCall, sendCall, destroyCall, allowCall uintptr
	closeCalls                                    []uintptr // to deregister, close root, destroy notify

	mu     sync.Mutex
	closed bool // port may be the name of another port
}

func (p *ioPort) receive(message []byte) error {
	copy(message, receiveHeader(p.port, len(message)))
	if r := uint32(invoke(p.receiveCall, uintptr(unsafe.Pointer(unsafe.SliceData(message))))); r != 0 {
		return fmt.Errorf("mach_msg_receive: %#x", r)
	}
	return nil
}

func (p *ioPort) release(message []byte) {
	invoke(p.destroyCall, uintptr(unsafe.Pointer(unsafe.SliceData(message))))
}

func (p *ioPort) allow(argument uint64) error {
	if r := uint32(invoke(p.allowCall, uintptr(p.root), uintptr(argument))); r != 0 {
		return fmt.Errorf("IOAllowPowerChange: %#x", r)
	}
	return nil
}

func (p *ioPort) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		invoke(p.sendCall, uintptr(unsafe.Pointer(unsafe.SliceData(endMessage(p.port)))))
	}
}

func (p *ioPort) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	invoke(p.closeCalls[0], uintptr(unsafe.Pointer(&p.notifier)))
	invoke(p.closeCalls[1], uintptr(p.root))
	invoke(p.closeCalls[2], p.notify)
}
