package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// tokenFile has the packet filter's token, in the state directory.
const tokenFile = "pf.token"

func newHost(log *slog.Logger, stateDir string) (_ host, boot string, _ error) {
	boot, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		log.Warn("network: this run of the computer has no name", "error", err)
	}
	return newMacHost(log, macSystem{
		uid:          os.Geteuid(),
		links:        readLinks,
		routes:       readRoutes,
		addRoute:     func(r macRoute) error { return changeRoute(unix.RTM_ADD, r) },
		removeRoute:  func(r macRoute) error { return changeRoute(unix.RTM_DELETE, r) },
		setMTU:       setMTU,
		run:          runProgram,
		bind:         bindTo,
		dontFragment: dontFragment,
		batches:      batchCalls,
		changes: func(ctx context.Context) (<-chan struct{}, error) {
			return newsHints(ctx, log, listenRoutes, isRouteNews)
		},
		names: func(ctx context.Context) (<-chan struct{}, error) {
			return newsHints(ctx, log, listenNotes, func([]byte) bool { return true })
		},
		power: func(ctx context.Context) (<-chan bool, error) { return powerNews(ctx, log, openPower) },
		slept: sleptFor,
	}, filepath.Join(stateDir, tokenFile)), boot, nil
}

// programTime bounds how long a program may take. They ask the kernel, or configd.
const programTime = 10 * time.Second

// runProgram starts a program of the system's, with nothing of this process's environment.
// Messages are a part of what it says: pfctl(8) tells a token there.
func runProgram(ctx context.Context, input, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = []string{"LC_ALL=C"}, "/"
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, oneLine(string(out)))
	}
	return string(out), nil
}

func readLinks() ([]macLink, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var links []macLink
	for _, i := range all {
		link := macLink{
			Index: i.Index, Name: i.Name, MTU: i.MTU,
			Up: i.Flags&net.FlagUp != 0, Running: i.Flags&net.FlagRunning != 0, Loopback: i.Flags&net.FlagLoopback != 0,
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it is gone meanwhile
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if p, ok := prefixOf(n); ok {
					link.Addresses = append(link.Addresses, p)
				}
			}
		}
		links = append(links, link)
	}
	return links, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok && addr.Unmap().BitLen() == size
}

// readRoutes reads the routes of both address families.
func readRoutes() ([]macRoute, error) {
	var all []macRoute
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rib, err := route.FetchRIB(family, route.RIBTypeRoute, 0)
		if err != nil {
			return nil, fmt.Errorf("read the routes: %w", err)
		}
		routes, err := parseRoutes(rib)
		if err != nil {
			return nil, fmt.Errorf("read the routes: %w", err)
		}
		all = append(all, routes...)
	}
	return all, nil
}

// sequence numbers what is asked of the routing socket.
var sequence atomic.Int32

// changeRoute adds or deletes a route by an interface. The answer to a message is the
// result of writing it.
func changeRoute(kind int, r macRoute) error {
	link, err := net.InterfaceByIndex(r.Link)
	if err != nil {
		return fmt.Errorf("route %v: %w", r.Dst, err)
	}
	message, err := routeMessage(kind, r, link.Name, os.Getpid(), int(sequence.Add(1)))
	if err != nil {
		return fmt.Errorf("route %v: %w", r.Dst, err)
	}
	socket, err := routingSocket()
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	_, err = unix.Write(socket, message)
	switch {
	case kind == unix.RTM_DELETE && errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("another program has made the route %v meanwhile: %w", r.Dst, fs.ErrExist)
	case err != nil:
		return fmt.Errorf("route %v: %w", r.Dst, err)
	}
	return nil
}

func routingSocket() (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return -1, fmt.Errorf("routing socket: %w", err)
	}
	unix.CloseOnExec(fd)
	return fd, nil
}

// listenRoutes opens a routing socket to read from.
func listenRoutes() (io.ReadCloser, error) {
	fd, err := routingSocket()
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("routing socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "route"), nil
}

func setMTU(link string, mtu int) error {
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request := unix.IfreqMTU{MTU: int32(mtu)}
	copy(request.Name[:], link)
	if err := unix.IoctlSetIfreqMTU(fd, &request); err != nil {
		return fmt.Errorf("MTU of %s: %w", link, err)
	}
	return nil
}

func bindTo(c syscall.RawConn, ipv6 bool, link int) error {
	return setOption(c, macLeaveBy(ipv6, link))
}

func dontFragment(c syscall.RawConn, ipv6, on bool) error {
	return setOption(c, macDontFragment(ipv6, on))
}

func setOption(c syscall.RawConn, o socketOption) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), o.level, o.name, o.value) })
	return errors.Join(err, os.NewSyscallError("setsockopt", failed))
}

// sleptFor is how long the computer has slept since it was started: one of these clocks
// stands still meanwhile.
func sleptFor() (time.Duration, error) {
	var awake, all unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_UPTIME_RAW, &awake); err != nil {
		return 0, err
	}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &all); err != nil {
		return 0, err
	}
	return time.Duration(all.Nano() - awake.Nano()), nil
}
