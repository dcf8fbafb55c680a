//go:build lab && linux

package lab

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tracer follows both processes of a service, by ptrace, and knows the system calls by
// which they change the host: journals, routes, rules, addresses, links, nftables, kernel
// settings, files, interfaces. After one of them it kills.
type tracer struct {
	cmd    *exec.Cmd
	points []string // the changes that were made, each with who made it
	ended  chan struct{}
}

// Who is killed.
const (
	killService = "service" // the process without root, alone
	killRoot    = "root"    // the root process, with which the service dies
)

// trace follows a service. After its nth change, counted from 1, victim is killed; 0 is
// never.
func trace(t *testing.T, h *host, victim string, n int) *tracer {
	t.Helper()
	root, service := h.processes(t)
	target := root
	if victim == killService {
		target = service
	}
	tr := &tracer{
		cmd:   stageCommand("", "trace", strconv.Itoa(target), strconv.Itoa(n), strconv.Itoa(root), strconv.Itoa(service)),
		ended: make(chan struct{}),
	}
	out, err := tr.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the service cannot be traced: %q %v", lines.Text(), tr.cmd.Wait())
	}
	go func() {
		defer close(tr.ended)
		for lines.Scan() {
			tr.points = append(tr.points, lines.Text())
		}
		if err := tr.cmd.Wait(); err != nil {
			t.Errorf("the tracer: %v", err)
		}
	}()
	return tr
}

// wait returns when both processes are gone, with the changes that they made.
func (tr *tracer) wait() []string {
	<-tr.ended
	return tr.points
}

// processes are the root process and the one that it has started.
func (h *host) processes(t *testing.T) (root, service int) {
	t.Helper()
	root = h.service.Process.Pid
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", root))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range children {
		data, err := os.ReadFile(path)
		if pid, bad := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && bad == nil {
			return root, pid
		}
	}
	t.Fatalf("process %d has started no service", root)
	return 0, 0
}

// traceStage is the process that traces: TARGET N PID...
func traceStage(args []string) error {
	runtime.LockOSThread() // a tracer is a thread
	var numbers []int
	for _, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			return err
		}
		numbers = append(numbers, n)
	}
	target, n, pids := numbers[0], numbers[1], numbers[2:]
	for _, pid := range pids {
		if err := seize(pid); err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
	}
	fmt.Println("ready")
	pending := map[int]string{} // by thread: the change that its call makes
	count := 0
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil {
			return err
		}
		if !status.Stopped() {
			delete(pending, tid)
			continue
		}
		event, signal := int(status)>>16, status.StopSignal()
		deliver := 0
		switch {
		case signal == unix.SIGTRAP|0x80:
			call, err := callOf(tid)
			switch {
			case err != nil: // it was killed meanwhile
			case call.op == callEntry:
				pending[tid] = changeOf(tid, call)
			case pending[tid] != "" && call.result() >= 0:
				count++
				who := processName(pids, tid)
				fmt.Printf("%s: %s\n", who, pending[tid])
				if count == n {
					unix.Kill(target, unix.SIGKILL)
					if target == pids[0] || who == killService {
						continue // it dies, and where it stands: not after one more change
					}
				}
			}
		case event == 0:
			deliver = int(signal)
		}
		// A thread that was killed meanwhile cannot go on.
		ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(deliver))
	}
}

// processName says which of the two processes a thread belongs to.
func processName(pids []int, tid int) string {
	for i, name := range []string{killRoot, killService} {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pids[i], tid)); err == nil {
			return name
		}
	}
	return "?"
}

// seize traces all threads of a process, also those that it starts meanwhile.
func seize(pid int) error {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE
	seized := map[int]bool{}
	for more := true; more; {
		more = false
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || seized[tid] {
				continue
			}
			// A thread that a traced one has started is traced already.
			seized[tid], more = true, true
			switch err := ptrace(unix.PTRACE_SEIZE, tid, 0, options); {
			case err == nil:
				ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0)
			case !errors.Is(err, unix.EPERM) || len(seized) == 1:
				return err
			}
		}
	}
	return nil
}

func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// systemCall is struct ptrace_syscall_info.
type systemCall struct {
	op   uint8
	_    [3]uint8
	arch uint32
	_    [2]uint64
	nr   uint64 // the result, when it ends
	args [6]uint64
	_    [2]uint64
}

const (
	ptraceGetSyscallInfo = 0x420e
	callEntry            = 1
)

func (c *systemCall) result() int64 { return int64(c.nr) }

func callOf(tid int) (*systemCall, error) {
	c := new(systemCall)
	err := ptrace(ptraceGetSyscallInfo, tid, unsafe.Sizeof(*c), uintptr(unsafe.Pointer(c)))
	return c, err
}

// changeOf says what a system call changes of the host; empty if nothing.
func changeOf(tid int, c *systemCall) string {
	switch c.nr {
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		return "rename to " + textAt(tid, c.args[3])
	case unix.SYS_UNLINKAT:
		return "remove " + textAt(tid, c.args[1])
	case unix.SYS_OPENAT:
		if c.args[2]&unix.O_CREAT != 0 {
			return "create " + textAt(tid, c.args[1])
		}
	case unix.SYS_WRITE:
		if name := fileOf(tid, c.args[0]); strings.HasPrefix(name, "/proc/sys/") {
			return "set " + name
		}
	case unix.SYS_IOCTL:
		if c.args[1] == unix.TUNSETIFF {
			return "make an interface"
		}
	case unix.SYS_SENDTO:
		return netlinkChange(tid, c.args[0], c.args[1])
	case unix.SYS_SENDMSG:
		// struct msghdr: the vector stands at 16; struct iovec begins with the address.
		vector := wordAt(tid, c.args[1]+16)
		return netlinkChange(tid, c.args[0], wordAt(tid, vector))
	}
	return ""
}

// netlinkChange says what the message at an address changes, if the socket is one of
// netlink's.
func netlinkChange(tid int, fd, at uint64) string {
	protocol := netlinkProtocol(tid, fd)
	kind := int(binary.NativeEndian.Uint16(append(bytesAt(tid, at+4, 2), 0, 0)))
	switch {
	case protocol == unix.NETLINK_NETFILTER && kind == unix.NFNL_MSG_BATCH_BEGIN:
		return "nftables"
	case protocol == unix.NETLINK_ROUTE && kind >= unix.RTM_NEWLINK && kind%4 != 2: // 2: a question
		if name, known := netlinkNames[kind]; known {
			return name
		}
		return fmt.Sprintf("netlink message %d", kind)
	}
	return ""
}

var netlinkNames = map[int]string{
	unix.RTM_NEWLINK: "change a link", unix.RTM_DELLINK: "remove a link", unix.RTM_SETLINK: "change a link",
	unix.RTM_NEWADDR: "add an address", unix.RTM_DELADDR: "remove an address",
	unix.RTM_NEWROUTE: "add a route", unix.RTM_DELROUTE: "remove a route",
	unix.RTM_NEWRULE: "add a rule", unix.RTM_DELRULE: "remove a rule",
}

// netlinkProtocol is that of a netlink socket; -1 for all other files.
func netlinkProtocol(tid int, fd uint64) int {
	inode, ok := strings.CutPrefix(fileOf(tid, fd), "socket:[")
	if !ok {
		return -1
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", tid))
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(table)) {
		// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		f := strings.Fields(line)
		if len(f) > 9 && f[9] == strings.TrimSuffix(inode, "]") {
			if protocol, err := strconv.Atoi(f[1]); err == nil {
				return protocol
			}
		}
	}
	return -1
}

// fileOf is what a file descriptor leads to.
func fileOf(tid int, fd uint64) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(fd)))
	if err != nil {
		return ""
	}
	return name
}

// bytesAt reads a thread's memory, as far as it goes.
func bytesAt(tid int, at uint64, n int) []byte {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return nil
	}
	defer memory.Close()
	data := make([]byte, n)
	n, _ = memory.ReadAt(data, int64(at))
	return data[:n]
}

func wordAt(tid int, at uint64) uint64 {
	return binary.NativeEndian.Uint64(append(bytesAt(tid, at, 8), make([]byte, 8)...))
}

// textAt reads a path.
func textAt(tid int, at uint64) string {
	text, _, _ := bytes.Cut(bytesAt(tid, at, 512), []byte{0})
	return string(text)
}
