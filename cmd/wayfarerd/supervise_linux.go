package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"wayfarer/app/control"
	"wayfarer/app/daemon"
)

const (
	// userName is the user as whom the service runs.
	userName = "wayfarer"
	// serviceName is argv[0] of the service that the root process has started.
	serviceName = "wayfarerd: service"
)

// Files that the service inherits, beyond standard input, output and error.
const (
	socketFile  = 3 + iota // of the local API, listening
	stopFile               // a pipe: a byte to stop; its end without one: the root process is gone
	namesFile              // the socket on which it asks for name resolution
	managedFile            // a pipe with the managed profiles
	stateFile              // its state directory
	filesEnd
)

// serviceMayHave are the capabilities that the service may have at all: to configure the
// network, for plain ESP, and for the ports 500 and 4500.
var serviceMayHave = []cap.Value{cap.NET_ADMIN, cap.NET_RAW, cap.NET_BIND_SERVICE}

// rootCapabilities are what the root process keeps: it replaces and restores
// /etc/resolv.conf, whoever owns it, and runs resolvconf, whose hooks write files of name
// servers and send them signals.
var rootCapabilities = []cap.Value{cap.CHOWN, cap.DAC_OVERRIDE, cap.FOWNER, cap.KILL}

// account is the user as whom the service runs.
type account struct{ uid, gid int }

// serviceAccount looks the user up. Without one it is root, without its capabilities.
func serviceAccount(log *slog.Logger) (account, error) {
	u, err := user.Lookup(userName)
	if errors.As(err, new(user.UnknownUserError)) {
		log.Warn("there is no user "+userName+": the service stays root, though without root's capabilities", "hint", "add the user with sysusers.d or useradd --system")
		return account{}, nil
	}
	if err != nil {
		return account{}, fmt.Errorf("look up the user %s: %w", userName, err)
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	return account{uid, gid}, errors.Join(uidErr, gidErr)
}

// supervise is the root process: it prepares what needs root, starts the service with
// fewer rights, gives up its own but those for name resolution, and serves that until
// the service has ended. It ends as the service does.
func supervise(ctx context.Context, logs *daemon.Logs, opts options) (err error) {
	log := slog.New(logs)
	as, err := serviceAccount(log)
	if err != nil {
		return err
	}
	// The socket comes first: whoever holds it is the only service.
	listener, err := control.Listen(opts.socket)
	if err != nil {
		return err
	}
	defer listener.Close() // which removes it
	network, err := daemon.HostNetwork(log, opts.stateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	set := readSetUp(log)
	// What one process with all rights has left: its block becomes the service's.
	if err := network.Recover(ctx, daemon.KeepsBlock(set.Profiles)); err != nil {
		log.Warn("not everything that an earlier service left is undone", "error", err)
	}
	state, err := network.ServiceDir(as.uid, as.gid)
	if err != nil {
		return fmt.Errorf("make the service's directory: %w", err)
	}
	defer state.Close()
	capabilities, err := serviceCapabilities(set.Profiles)
	if err != nil {
		return fmt.Errorf("this process's capabilities: %w", err)
	}
	s, err := startService(as, capabilities, listener, state)
	if err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	if err := confine(log, rootCapabilities, filters(log, noClone3, rootFilter)...); err != nil {
		return errors.Join(err, s.abandon())
	}
	go s.hand(set) // for which the service waits before it serves anybody
	names := make(chan error, 1)
	go func() { names <- network.ServeNames(context.WithoutCancel(ctx), s.names) }()
	err = s.wait(ctx)
	// Its end of the socket may have got to another process, which must not keep this
	// one. If not, this end is closed already.
	_, _ = s.names.CloseRead(), s.names.CloseWrite()
	return errors.Join(err, <-names)
}

// serviceCapabilities are what the service gets, of what this process has: the right to
// configure the network, and those that the administrator wants it to have, by managed
// profiles that need them or as ambient capabilities of this process.
func serviceCapabilities(managed []daemon.Managed) ([]cap.Value, error) {
	wanted := map[cap.Value]bool{cap.NET_ADMIN: true}
	for i := range managed {
		p := &managed[i].Profile
		wanted[cap.NET_RAW] = wanted[cap.NET_RAW] || p.NATT == "off" // plain ESP
		wanted[cap.NET_BIND_SERVICE] = wanted[cap.NET_BIND_SERVICE] || 0 < p.LocalPort && p.LocalPort < firstFreePort
	}
	have := cap.GetProc()
	var list []cap.Value
	for _, c := range serviceMayHave {
		ambient, err := cap.GetAmbient(c)
		if err != nil {
			return nil, err
		}
		permitted, err := have.GetFlag(cap.Permitted, c)
		if err != nil {
			return nil, err
		}
		if permitted && (wanted[c] || ambient) {
			list = append(list, c)
		}
	}
	return list, nil
}

// firstFreePort is the lowest port that needs no right, unless the administrator has
// changed that (net.ipv4.ip_unprivileged_port_start).
const firstFreePort = 1024

// service is the process that the root process has started.
type service struct {
	stop    *os.File // a byte ends it in good order, closing it at once
	names   *net.UnixConn
	managed *os.File // to which the managed profiles are written
	ended   chan error
}

// startService starts this program again, as a user and with capabilities.
func startService(as account, capabilities []cap.Value, listener net.Listener, state *os.File) (*service, error) {
	socket, err := listener.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	names, servicesNames, err := messagePair()
	if err != nil {
		return nil, err
	}
	defer servicesNames.Close()
	stopRead, stop, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stopRead.Close()
	managedRead, managed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer managedRead.Close()
	s := &service{stop: stop, names: names, managed: managed, ended: make(chan error, 1)}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{serviceName}, os.Args[1:]...),
		Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles: []*os.File{
			socketFile - 3: socket, stopFile - 3: stopRead, namesFile - 3: servicesNames,
			managedFile - 3: managedRead, stateFile - 3: state,
		},
		SysProcAttr: &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)},
			Pdeathsig:  syscall.SIGKILL, // as if it had been killed itself
		},
	}
	for _, c := range capabilities {
		cmd.SysProcAttr.AmbientCaps = append(cmd.SysProcAttr.AmbientCaps, uintptr(c))
	}
	started := make(chan error)
	onThread(func() {
		err := limitThread(capabilities)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			s.ended <- cmd.Wait()
		}
	})
	if err := <-started; err != nil {
		return nil, errors.Join(err, stop.Close(), names.Close(), managed.Close())
	}
	return s, nil
}

// onThread starts f on a thread of its own, which ends with it: what f starts inherits the
// thread's limits, and may die with it. It is never the process's first thread, by whose
// limits the kernel shows those of the process.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine has the first thread, f cannot begin on it.
			begun := make(chan struct{})
			onThread(func() { close(begun); f() })
			<-begun
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
}

// limitThread makes sure that whatever the calling thread starts gets no more than the
// capabilities.
func limitThread(capabilities []cap.Value) error {
	for _, c := range allBut(capabilities) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("give up %v: %w", c, err)
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// messagePair is a pair of connected sockets that keep messages apart, the second as
// a file to be inherited.
func messagePair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	other := os.NewFile(uintptr(fds[1]), "names")
	conn, err := unixConn(os.NewFile(uintptr(fds[0]), "names"))
	if err != nil {
		other.Close()
		return nil, nil, err
	}
	return conn, other, nil
}

// unixConn takes over a socket.
func unixConn(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%s is no unix socket", file.Name())
	}
	return c, nil
}

// hand gives the service what the administrator has placed, and forgets the secrets.
func (s *service) hand(set daemon.SetUp) {
	defer s.managed.Close()
	writeHanded(s.managed, set) // whether all have come the service says
	for i := range set.Profiles {
		set.Profiles[i].Zero()
	}
}

// abandon ends a service that still waits for the managed profiles.
func (s *service) abandon() error {
	return errors.Join(s.managed.Close(), s.names.Close(), s.stop.Close(), <-s.ended)
}

// wait waits until the service has ended, and passes on that ctx has.
func (s *service) wait(ctx context.Context) error {
	defer s.stop.Close()
	var err error
	select {
	case err = <-s.ended:
	case <-ctx.Done():
		s.stop.Write([]byte{1})
		err = <-s.ended
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		return exitError(exit.ExitCode())
	case err != nil:
		return fmt.Errorf("the service was killed (%w); routes and a leak block that it left are undone at the next start, or by `wayfarer restore-network`", err)
	}
	return nil
}

// inherited takes over what startService has handed down.
type inherited struct {
	listener net.Listener
	stop     *os.File
	names    *net.UnixConn
	managed  *os.File
}

func inherit() (*inherited, error) {
	var files [filesEnd]*os.File
	for fd := socketFile; fd < filesEnd; fd++ {
		unix.CloseOnExec(fd)
		files[fd] = os.NewFile(uintptr(fd), "inherited")
	}
	if err := files[stateFile].Chdir(); err != nil {
		return nil, fmt.Errorf("%q is not to be started by hand: %w", serviceName, err)
	}
	files[stateFile].Close()
	listener, err := net.FileListener(files[socketFile])
	if err != nil {
		return nil, err
	}
	files[socketFile].Close()
	names, err := unixConn(files[namesFile])
	if err != nil {
		return nil, err
	}
	return &inherited{listener, files[stopFile], names, files[managedFile]}, nil
}

// untilStopped is ctx until the root process says stop. If it is gone without a word,
// this process ends as if it had been killed: what stands, stays.
func (in *inherited) untilStopped(ctx context.Context) context.Context {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		if n, _ := in.stop.Read(make([]byte, 1)); n == 0 {
			os.Exit(1)
		}
		stop()
	}()
	return ctx
}

// serveConfined is the service that the root process has started.
func serveConfined(ctx context.Context, logs *daemon.Logs, opts options) error {
	log := slog.New(logs)
	// /proc/self/exe has named the process after itself.
	if err := os.WriteFile("/proc/self/comm", []byte("wayfarerd"), 0); err != nil {
		log.Debug("the process keeps its name", "error", err)
	}
	in, err := inherit()
	if err != nil {
		return err
	}
	if err := confine(log, serviceMayHave, filters(log, noClone3, serviceFilter)...); err != nil {
		return err
	}
	network, err := daemon.HostNetwork(log, ".")
	if err != nil {
		return err
	}
	network.AskForNames(in.names)
	set, err := readHanded(in.managed)
	if err != nil {
		return errors.Join(fmt.Errorf("take over what the administrator has placed: %w", err), network.Close())
	}
	return serveOn(in.untilStopped(ctx), logs, opts, in.listener, network, set)
}

// dividing are the capabilities without which root cannot start the service as another
// user with fewer.
var dividing = []cap.Value{cap.SETUID, cap.SETGID, cap.SETPCAP}

// mayDivide says whether this process is root with what dividing needs.
func mayDivide() bool {
	have := cap.GetProc()
	return os.Geteuid() == 0 && !slices.ContainsFunc(dividing, func(c cap.Value) bool {
		has, err := have.GetFlag(cap.Effective, c)
		return err != nil || !has
	})
}

// serveAlone is the service in one process, with the rights that whoever started it has
// given it: a service manager as another user than root, or a root without the right to
// become another user.
func serveAlone(ctx context.Context, logs *daemon.Logs, opts options) error {
	log := slog.New(logs)
	if err := confine(log, serviceMayHave, filters(log, noClone3, serviceFilter)...); err != nil {
		return err
	}
	return serve(ctx, logs, opts)
}
