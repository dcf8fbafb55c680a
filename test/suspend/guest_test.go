//go:build suspend && linux

package suspend

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wayfarer/platform"
)

const (
	oneHour = time.Hour
	// sleepTime is how long the machine sleeps.
	sleepTime = 5 * time.Second
	// quietTime is how long it waits for events that come, or must not. It is less than the
	// time after which clocks are compared where nobody tells of sleep, so that this is seen to
	// be without.
	quietTime = 3 * time.Second
	// said is before all that the guest says, for the kernel writes to the console, too.
	said = "guest: "
	// held is the function in which Linux has a processor wait in s2idle, with its clocks
	// stopped (drivers/acpi/processor_idle.c).
	held = "acpi_idle_enter_s2idle"
)

// guest is the machine's only program. It does each step when it is told to.
func guest() {
	if err := tour(); err != nil {
		say("error", err.Error())
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func say(what, answer string) { fmt.Printf("\n%s%s = %s\n", said, what, answer) }

func tour() error {
	for kind, dir := range map[string]string{"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev"} {
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	network, err := platform.New(log, "/state")
	if err != nil {
		return err
	}
	events, err := network.Watch(context.Background())
	if err != nil {
		return err
	}
	say("kernel", unix.ByteSliceToString(name.Release[:])+", sleeps by "+text("/sys/power/state")+", idles by "+text("/sys/devices/system/cpu/cpuidle/current_driver"))
	for line := range strings.Lines(text("/proc/kallsyms")) {
		if f := strings.Fields(line); len(f) >= 3 && f[2] == held {
			say("frozen", f[0])
		}
	}
	console := bufio.NewScanner(os.Stdin)
	for _, step := range steps {
		for console.Scan() && console.Text() != step.name {
		}
		before := slept()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		var told []string
		start := time.Now()
		var late time.Duration
		for end := time.After(quietTime); end != nil; {
			select {
			case e := <-events:
				told, late = append(told, string(e.Kind)), time.Since(start)
			case <-end:
				end = nil
			}
		}
		say(step.name, fmt.Sprintf("%s; slept %d s, told %v later", strings.Join(told, " "), (slept()-before).Round(time.Second)/time.Second, late.Round(time.Millisecond)))
	}
	return nil
}

func text(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}

// slept is how far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC.
func slept() time.Duration {
	var boot, monotonic unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic)
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	return time.Duration(boot.Nano() - monotonic.Nano())
}

func setClock(by time.Duration) error {
	now := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
}

// suspend has the machine sleep until its clock or the console wakes it.
func suspend(state string) error {
	const alarm = "/sys/class/rtc/rtc0/wakealarm"
	for _, w := range []struct{ file, text string }{
		{"/sys/class/tty/ttyS0/power/wakeup", "enabled"},
		{alarm, "0"},
		{alarm, fmt.Sprintf("+%d", int(sleepTime.Seconds()))},
		{"/sys/power/state", state},
	} {
		if err := os.WriteFile(w.file, []byte(w.text), 0); err != nil {
			return err
		}
	}
	return nil
}
