package platform

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// alarmLate is how much later than a timer of Go's its alarm is: the timer has to be
	// due when the alarm wakes the process.
	alarmLate = 100 * time.Microsecond
	// alarmLeast is what has to be ahead for an alarm: less is ended late by little.
	alarmLeast = time.Second
)

// alarm wakes the process on time, as a file that the runtime's poller watches.
//
// The runtime waits for its next timer by the timeout of epoll_wait, which the kernel may
// end a thousandth later than it says: for a keepalive 20 ms (select_estimate_accuracy in
// fs/select.c). Its watchdog, sysmon, sleeps as long, but exactly, finds the timer overdue,
// and looks some fifty times 20 µs apart, then ever more rarely, until it is served. A
// timerfd is exact.
type alarm struct {
	mu     sync.Mutex
	file   *os.File // made when first needed; never read
	raw    syscall.RawConn
	closed bool
}

// set moves the alarm. Without it the process wakes a little later.
func (a *alarm) set(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := time.Until(at)
	if a.closed || left < alarmLeast || a.file == nil && !a.open() {
		return
	}
	_ = a.raw.Control(func(fd uintptr) {
		_ = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(left + alarmLate))}, nil)
	})
}

// open makes the file, if it can.
func (a *alarm) open() bool {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(fd), "alarm")
	if a.raw, err = file.SyscallConn(); err != nil {
		file.Close()
		return false
	}
	a.file = file
	return true
}

func (a *alarm) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.file != nil {
		a.file.Close()
	}
}
