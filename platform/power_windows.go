package platform

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	powrprof                = windows.NewLazySystemDLL("powrprof.dll")
	registerSuspendResume   = powrprof.NewProc("PowerRegisterSuspendResumeNotification")
	unregisterSuspendResume = powrprof.NewProc("PowerUnregisterSuspendResumeNotification")
)

// Power events (winuser.h).
const (
	pbtSuspend         = 0x4
	pbtResumeAutomatic = 0x12 // always, whether or not a user is there
)

// subscription is DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS.
type subscription struct {
	callback, context uintptr
}

// powerListeners are those who want to know. The system's callback is made once: Go never
// frees one.
var powerListeners struct {
	sync.Mutex
	callback uintptr
	next     uintptr
	byID     map[uintptr]func(asleep bool)
}

func powerChanged(id, event, _ uintptr) uintptr {
	powerListeners.Lock()
	f := powerListeners.byID[id]
	powerListeners.Unlock()
	switch {
	case f == nil:
	case event == pbtSuspend:
		f(true)
	case event == pbtResumeAutomatic:
		f(false)
	}
	return 0
}

// notifyPower works in a service and in a program of a terminal alike.
func notifyPower(f func(asleep bool)) (stop func(), err error) {
	if err := registerSuspendResume.Find(); err != nil {
		return nil, err
	}
	l := &powerListeners
	l.Lock()
	if l.callback == 0 {
		l.callback, l.byID = windows.NewCallback(powerChanged), map[uintptr]func(bool){}
	}
	l.next++
	id := l.next
	l.byID[id] = f
	l.Unlock()
	forget := func() {
		l.Lock()
		delete(l.byID, id)
		l.Unlock()
	}
	const deviceNotifyCallback = 2
	s := &subscription{l.callback, id}
	var pinner runtime.Pinner
	pinner.Pin(s)
	var handle uintptr
	if err := call(registerSuspendResume, deviceNotifyCallback, uintptr(unsafe.Pointer(s)), uintptr(unsafe.Pointer(&handle))); err != nil {
		pinner.Unpin()
		forget()
		return nil, err
	}
	return func() {
		_ = call(unregisterSuspendResume, handle) // nobody hears of it any more
		pinner.Unpin()
		forget()
	}, nil
}
