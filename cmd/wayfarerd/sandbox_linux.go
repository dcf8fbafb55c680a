package main

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// confine gives up what this process does not need: capabilities but those to keep, as
// far as it has them; new ones, by any program's file; being looked into by other
// processes of its user; and, by the filters, system calls. What it does not give up for
// want of kernel support is logged: half a sandbox is better than no service.
func confine(log *slog.Logger, keep []cap.Value, filters ...seccomp.Policy) error {
	if err := limit(keep); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	for _, policy := range filters {
		// The filter and no_new_privs reach all threads.
		err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy})
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
			log.Warn("the kernel has no system call filter", "error", err)
		} else if err != nil {
			return fmt.Errorf("filter system calls: %w", err)
		}
	}
	return nil
}

// limit takes all capabilities from all threads but those of keep that the process has.
func limit(keep []cap.Value) error {
	have, want := cap.GetProc(), cap.NewSet()
	for _, c := range keep {
		if has, err := have.GetFlag(cap.Permitted, c); err != nil || !has {
			continue
		}
		if err := errors.Join(want.SetFlag(cap.Permitted, true, c), want.SetFlag(cap.Effective, true, c)); err != nil {
			return err
		}
	}
	// Without this capability the bounding set stays as the parent left it.
	if may, err := have.GetFlag(cap.Effective, cap.SETPCAP); err != nil {
		return err
	} else if may {
		if err := cap.DropBound(allBut(keep)...); err != nil {
			return err
		}
	}
	return want.SetProc()
}

// allBut lists the capabilities of the running kernel without those of keep.
func allBut(keep []cap.Value) []cap.Value {
	var list []cap.Value
	for c := range cap.MaxBits() {
		if !slices.Contains(keep, c) {
			list = append(list, c)
		}
	}
	return list
}

// serviceCalls are the system calls of the service: files, sockets, and what the Go
// runtime (and a C library, where it was built with one) needs. Above all none that
// starts a program, enters another namespace, mounts, traces or loads code into the
// kernel. Names that an architecture does not have are left out there.
var serviceCalls = []string{
	// files
	"access", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3",
	"faccessat", "faccessat2", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "flock",
	"fstat", "fstatfs", "fsync", "ftruncate", "getcwd", "getdents64", "inotify_add_watch", "inotify_init1", "ioctl", "lchown", "lseek", "lstat",
	"mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv", "pwrite64", "pwritev",
	"read", "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "sendfile", "splice",
	"stat", "statfs", "statx", "symlink", "symlinkat", "umask", "unlink", "unlinkat", "write", "writev",
	// sockets
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
	"recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketpair",
	// waiting
	"clock_getres", "clock_gettime", "clock_nanosleep", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait",
	"epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "gettimeofday", "nanosleep", "poll", "ppoll", "pselect6", "select", "time",
	"timerfd_create", "timerfd_settime",
	// memory and threads; clone is below
	"arch_prctl", "brk", "clone3", "exit", "exit_group", "futex", "futex_waitv", "get_robust_list", "gettid", "madvise",
	"membarrier", "mincore", "mmap", "mprotect", "mremap", "munmap", "restart_syscall", "rseq", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "set_robust_list", "set_tid_address",
	"setitimer", "sigaltstack", "tgkill", "timer_create", "timer_delete", "timer_settime",
	// a client's process, held and not touched: what signals it is missing
	"pidfd_open",
	// about itself
	"capget", "getcpu", "getegid", "geteuid", "getgid", "getgroups", "getpgrp", "getpid", "getppid", "getrandom",
	"getresgid", "getresuid", "getrlimit", "getrusage", "getuid", "prctl", "prlimit64", "sysinfo", "uname",
}

// rootCalls are what the root process, and resolvconf, which inherits this, do without.
// A list of what is allowed cannot be told: resolvconf runs the administrator's hooks.
var rootCalls = []string{
	"acct", "add_key", "adjtimex", "bpf", "chroot", "clock_adjtime", "clock_settime", "delete_module", "fanotify_init",
	"finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "io_uring_enter", "io_uring_register",
	"io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount",
	"mount_setattr", "move_mount", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "personality",
	"pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "quotactl_fd", "reboot",
	"request_key", "setdomainname", "sethostname", "setns", "settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd", "vhangup",
}

// noClone3 answers that there is no clone3, whose flags a filter cannot see. Libraries
// take clone then. A filter of its own: the library's filters have one list each.
func noClone3(*arch.Info) seccomp.Policy {
	return seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{{
		Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"},
	}}}
}

// serviceFilter allows what the service needs, and of clone only new threads. All else,
// and all of another architecture, is not permitted.
func serviceFilter(known *arch.Info) seccomp.Policy {
	return seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{{
		Action: seccomp.ActionAllow,
		Names:  among(known, serviceCalls),
		NamesWithCondtions: []seccomp.NameWithConditions{{
			Name: "clone", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}},
		}},
	}}}
}

// rootFilter forbids rootCalls, and namespaces of the user's own.
func rootFilter(known *arch.Info) seccomp.Policy {
	return seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{{
		Action: seccomp.ActionErrno,
		Names:  among(known, rootCalls),
		NamesWithCondtions: []seccomp.NameWithConditions{{
			Name: "clone", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_NEWUSER}},
		}},
	}}}
}

// filters are this architecture's; none where the library does not know it.
func filters(log *slog.Logger, make ...func(*arch.Info) seccomp.Policy) []seccomp.Policy {
	known, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		log.Warn("system calls are not filtered", "error", err)
		return nil
	}
	var list []seccomp.Policy
	for _, f := range make {
		list = append(list, f(known))
	}
	return list
}

// among lists the calls that the architecture has.
func among(known *arch.Info, calls []string) []string {
	return slices.DeleteFunc(slices.Clone(calls), func(name string) bool {
		_, has := known.SyscallNames[name]
		return !has
	})
}
