//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The two ends, which a pair of interfaces joins, and what is inside of the tunnel.
var (
	nearOutside = netip.MustParseAddr("10.77.0.1")
	farOutside  = netip.MustParseAddr("10.77.0.2")
	farInside   = netip.MustParseAddr("10.78.0.1")
	farNetwork  = netip.MustParsePrefix("10.78.0.0/24")
	nearInside  = netip.MustParseAddr("10.79.0.1") // of programs that are given none
	poolNetwork = netip.MustParsePrefix("10.79.0.0/24")
)

const outsidePort = 4500

// stopTime is how long a program may take to end before it is killed.
const stopTime = 5 * time.Second

// room is a network namespace with its own /run and /etc, in which programs run. A process
// that does nothing holds it.
type room struct {
	namespace string
	dir       string
	holder    *exec.Cmd
	entry     []string // a program and arguments that enter it
}

// newRoom makes a namespace and enters it. There must be none of that name.
func newRoom(namespace, dir string) (*room, error) {
	r := &room{namespace: namespace, dir: dir}
	if err := command("ip", "netns", "add", namespace); err != nil {
		return nil, err
	}
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "run"), 0o755), command("cp", "-a", "/etc", dir))
	if err == nil {
		err = r.prepare()
	}
	if err == nil {
		err = r.hold()
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// prepare gives the room a plain resolv.conf, and the user as whom the service runs.
func (r *room) prepare() error {
	names := filepath.Join(r.dir, "etc/resolv.conf")
	if err := errors.Join(os.Remove(names), os.WriteFile(names, []byte("nameserver 127.0.0.1\n"), 0o644)); err != nil {
		return err
	}
	users := filepath.Join(r.dir, "etc/passwd")
	known, err := os.ReadFile(users)
	if err != nil || bytes.Contains(known, []byte("\nwayfarer:")) {
		return err
	}
	return os.WriteFile(users, append(known, "wayfarer:x:61190:61190::/:/usr/sbin/nologin\n"...), 0o644)
}

func (r *room) hold() error {
	const enter = `mount --bind "$0/run" /run && { [ -L /var/run ] || mount --bind "$0/run" /var/run; } &&
		mount --bind "$0/etc" /etc && ip link set lo up && echo ready && exec sleep infinity`
	cmd, err := startReady(exec.Command("ip", "netns", "exec", r.namespace, "unshare", "--mount", "--propagation", "private", "sh", "-c", enter, r.dir))
	if err != nil {
		return err
	}
	r.enter(cmd)
	return nil
}

// enter has programs started where a process is.
func (r *room) enter(holder *exec.Cmd) {
	r.holder, r.entry = holder, []string{"nsenter", "--target", strconv.Itoa(holder.Process.Pid), "--net", "--mount", "--"}
}

// close ends everything in the room and removes it.
func (r *room) close() error {
	if r.holder != nil {
		r.holder.Process.Kill()
		_ = r.holder.Wait() // it was killed
	}
	return errors.Join(removeNamespace(r.namespace), os.RemoveAll(r.dir))
}

// removeNamespace ends what runs in a namespace, if there is one, and removes it.
func removeNamespace(name string) error {
	if _, err := os.Stat("/run/netns/" + name); err != nil {
		return nil
	}
	out, err := exec.Command("ip", "netns", "pids", name).Output()
	if err != nil {
		return err
	}
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // or it has ended
		}
	}
	return command("ip", "netns", "del", name)
}

// program is a command in the room.
func (r *room) program(args ...string) *exec.Cmd {
	args = append(r.entry[1:len(r.entry):len(r.entry)], args...)
	return exec.Command(r.entry[0], args...)
}

// do runs a command in the room to its end.
func (r *room) do(args ...string) error {
	_, err := r.output(args...)
	return err
}

// output runs a command in the room to its end and returns what it has written.
func (r *room) output(args ...string) ([]byte, error) { return output(r.program(args...)) }

// script runs commands in the room, one in a line, to the first that fails.
func (r *room) script(lines string) error {
	for line := range strings.Lines(lines) {
		if fields := strings.Fields(line); len(fields) > 0 {
			if err := r.do(fields...); err != nil {
				return err
			}
		}
	}
	return nil
}

func command(args ...string) error {
	_, err := output(exec.Command(args[0], args[1:]...))
	return err
}

func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// tail is the end of what a program has said.
func tail(b []byte) []byte {
	const most = 2000
	return bytes.TrimSpace(b[max(0, len(b)-most):])
}

// start runs a program that stays; it ends with this one. What it says goes to a file.
func start(cmd *exec.Cmd, logFile string) (*exec.Cmd, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	return cmd, cmd.Start()
}

// startReady starts a program that stays and writes a line when it is ready.
func startReady(cmd *exec.Cmd) (*exec.Cmd, error) {
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := stdout.Read(make([]byte, 64)); err != nil {
		return nil, fmt.Errorf("%s ended: %w", strings.Join(cmd.Args, " "), cmd.Wait())
	}
	return cmd, nil
}

// stop ends a program that stays.
func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM) // or it has ended
	late := time.AfterFunc(stopTime, func() { cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait() // how is of no interest
}

// within looks every few milliseconds whether something is so, and gives up in the end.
func within(d time.Duration, what string, ok func() bool) error {
	for end := time.Now().Add(d); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %s", d, what)
		}
	}
	return nil
}
