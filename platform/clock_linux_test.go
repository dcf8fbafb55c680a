package platform

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWatchClock: there is one timer, which the kernel cancels when the clock jumps; when it
// is at its end that is told, and it is set again; it goes when the watch does. To set the
// clock is for no test: "make test-suspend" does so in a machine of its own.
func TestWatchClock(t *testing.T) {
	before := timerfds(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	jumps, err := watchClock(ctx, slog.New(slog.DiscardHandler))
	run(t, "watch", err)
	var mine []int
	for fd := range timerfds(t) {
		if _, old := before[fd]; !old {
			mine = append(mine, fd)
		}
	}
	if len(mine) != 1 {
		t.Fatalf("%d timers", len(mine))
	}
	// After 200 years and more, by timerfd_settime's flags ABSTIME and CANCEL_ON_SET.
	const armed = "clockid: 0\nticks: 0\nsettime flags: 03\n"
	const longTime = 200 * 365 * 24 * 3600
	for range 2 {
		is := timer(t, mine[0])
		var left, nanoseconds int64
		if _, value, _ := strings.Cut(is, "it_value: "); !strings.Contains(is, armed) {
			t.Errorf("the timer is\n%s", is)
		} else if _, err := fmt.Sscanf(value, "(%d, %d)", &left, &nanoseconds); err != nil || left < longTime {
			t.Errorf("ends in %d s, %v", left, err)
		}
		select {
		case <-jumps:
			t.Error("a jump, but no clock was set")
		default:
		}
		run(t, "end", unix.TimerfdSettime(mine[0], 0, &unix.ItimerSpec{Value: unix.Timespec{Nsec: 1}}, nil))
		if _, open := <-jumps; !open {
			t.Fatal("it ends")
		}
	}
	cancel()
	for range jumps {
	}
	if now := timerfds(t); len(now) != len(before) {
		t.Errorf("%d timers in the end, before %d", len(now), len(before))
	}
}

// TestWatchClockRefused: without a timer there is an error.
func TestWatchClockRefused(t *testing.T) {
	var limit unix.Rlimit
	run(t, "limit", unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	run(t, "limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	jumps, err := watchClock(t.Context(), slog.New(slog.DiscardHandler))
	run(t, "limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if err == nil || jumps != nil {
		t.Errorf("%v, %v", jumps, err)
	}
}

// timerfds are those of this process.
func timerfds(t *testing.T) map[int]bool {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	run(t, "files", err)
	found := map[int]bool{}
	for _, f := range files {
		if what, _ := os.Readlink(f); what == "anon_inode:[timerfd]" { // one may be closed meanwhile
			fd, err := strconv.Atoi(filepath.Base(f))
			run(t, f, err)
			found[fd] = true
		}
	}
	return found
}

// timer is what the kernel says of a timerfd.
func timer(t *testing.T, fd int) string {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	run(t, "fdinfo", err)
	return string(info)
}
