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

// listeners are those whom a callback of the system's is for, by the number that it gives
// back. The callback is made once: Go never frees one.
type listeners struct {
	sync.Mutex
	callback uintptr
	last     uintptr
	byID     map[uintptr]func(event uintptr)
}

// add gives the callback's address, made of a function, and the number of a new listener.
func (l *listeners) add(function any, f func(event uintptr)) (callback, id uintptr, forget func()) {
	l.Lock()
	defer l.Unlock()
	if l.callback == 0 {
		l.callback, l.byID = windows.NewCallback(function), map[uintptr]func(uintptr){}
	}
	l.last++
	id = l.last
	l.byID[id] = f
	return l.callback, id, func() {
		l.Lock()
		defer l.Unlock()
		delete(l.byID, id)
	}
}

// tell passes on what the system says.
func (l *listeners) tell(id, event uintptr) uintptr {
	l.Lock()
	f := l.byID[id]
	l.Unlock()
	if f != nil {
		f(event)
	}
	return 0
}

var powerListeners listeners

func powerChanged(id, event, _ uintptr) uintptr { return powerListeners.tell(id, event) }

// notifyPower works in a service and in a program of a terminal alike.
func notifyPower(f func(asleep bool)) (stop func(), err error) {
	if err := registerSuspendResume.Find(); err != nil {
		return nil, err
	}
	callback, id, forget := powerListeners.add(powerChanged, func(event uintptr) {
		switch event {
		case pbtSuspend:
			f(true)
		case pbtResumeAutomatic:
			f(false)
		}
	})
	const deviceNotifyCallback = 2
	s := &subscription{callback, id}
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
