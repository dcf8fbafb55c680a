package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// watchClock gets a value whenever CLOCK_REALTIME jumps, until ctx ends or the kernel tells
// no more, and is closed then. It jumps when it is set, and when the computer has slept: the
// kernel adds the time that has gone by to it. Nothing happens otherwise.
//
// A timer can be cancelled by a jump (TFD_TIMER_CANCEL_ON_SET in timerfd_create(2)), which
// read(2) says by ECANCELED. Resuming is one: timekeeping_resume (kernel/time/timekeeping.c)
// tells timers since Linux 5.15 by timerfd_resume, before by hrtimers_resume. It is called
// after S3 and hibernation, and after s2idle where the processor has an idle state in which
// Linux can stop its clocks (tick_freeze). Where it has none CLOCK_MONOTONIC goes on, and by
// the clocks nobody sees that the computer slept.
func watchClock(ctx context.Context, log *slog.Logger) (<-chan struct{}, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	if err := armForJump(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	raw, err := timer.SyscallConn()
	if err != nil {
		timer.Close()
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	context.AfterFunc(ctx, func() { timer.Close() })
	jumps := make(chan struct{}, 1)
	go func() {
		defer close(jumps)
		expirations := make([]byte, 8)
		for {
			_, err := timer.Read(expirations)
			if err == nil || errors.Is(err, unix.ECANCELED) {
				var failed error
				err = errors.Join(raw.Control(func(fd uintptr) { failed = armForJump(int(fd)) }), failed)
			}
			if err != nil {
				if ctx.Err() == nil {
					log.Warn("network: timerfd ends", "error", err)
				}
				return
			}
			select {
			case jumps <- struct{}{}:
			default:
			}
		}
	}()
	return jumps, nil
}

// armForJump sets a timer for the last moment that the kernel knows, in the year 2262.
// ECANCELED says that there was another jump, and that it is set all the same.
func armForJump(fd int) error {
	err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET,
		&unix.ItimerSpec{Value: unix.NsecToTimespec(math.MaxInt64)}, nil)
	if errors.Is(err, unix.ECANCELED) {
		return nil
	}
	return err
}
