package platform

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAlarm: a socket has the process woken at the time that it was told last, unless that is
// near, and no more once it is closed.
func TestAlarm(t *testing.T) {
	s := batchSocket(t, loopbacks[0])
	now := time.Now()
	for _, tt := range []struct {
		name     string
		at, want time.Duration // from now on
	}{
		{"first", time.Hour, time.Hour},
		{"later", 2 * time.Hour, 2 * time.Hour},
		{"earlier", time.Minute, time.Minute},
		{"soon", alarmLeast / 2, time.Minute},
		{"past", -time.Hour, time.Minute},
	} {
		s.WakeAt(now.Add(tt.at))
		left := s.alarm.left(t)
		most, least := tt.want+alarmLate, tt.want+alarmLate-time.Since(now)
		if left > most || left < least {
			t.Errorf("%s: %v are left, want %v to %v", tt.name, left, least, most)
		}
	}
	run(t, "the runtime's poller", s.alarm.file.SetReadDeadline(time.Time{})) // or it does not watch it
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.WakeAt(now.Add(time.Hour))
	if err := s.alarm.raw.Control(func(uintptr) {}); err == nil {
		t.Error("the alarm is open though the socket is closed")
	}
	unused := batchSocket(t, loopbacks[0])
	unused.Close()
	if unused.WakeAt(now.Add(time.Hour)); unused.alarm.file != nil {
		t.Error("a socket that is closed has made an alarm")
	}
}

// left is how long the alarm sleeps; 0 for ever.
func (a *alarm) left(t *testing.T) time.Duration {
	t.Helper()
	var spec unix.ItimerSpec
	var err error
	run(t, "control", a.raw.Control(func(fd uintptr) { err = unix.TimerfdGettime(int(fd), &spec) }))
	run(t, "timerfd_gettime", err)
	return time.Duration(spec.Value.Nano())
}
