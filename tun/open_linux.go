package tun

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

const clonePath = "/dev/net/tun"

// Open creates the network interface name ("wayfarer%d" lets the system choose the
// number) with mtu bytes. The interface goes away with Close or with the process.
// Errors are ErrNoDevice, ErrNoRights, or what the system answered.
func Open(name string, mtu int) (Device, error) {
	if err := checkMTU(mtu); err != nil {
		return nil, err
	}
	queues, err := attach(clonePath, name, mtu)
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w", name, err)
	}
	// The library's monitored device would watch the interface's state, which is
	// nothing to us, and lets errors of that watch out of Read.
	dev, _, err := wgtun.CreateUnmonitoredTUNFromFD(queues[0])
	if err != nil {
		closeAll(queues[1:]) // the first is in a file
		return nil, fmt.Errorf("interface %q: %w", name, err)
	}
	n, err := FromQueues(dev, queues, takesDatagrams(queues[0]))
	if err != nil {
		dev.Close()
		closeAll(queues[1:])
		return nil, fmt.Errorf("interface %q: %w", name, err)
	}
	return n, nil
}

// Available says, without making an interface, whether Open can make one: the error is
// ErrNoDevice or ErrNoRights, or what the system answered.
func Available() error { return available(clonePath, unix.CAP_NET_ADMIN) }

// available looks for the device and for a capability among the effective ones; the
// device itself asks for it only when it makes an interface.
func available(path string, capability uint) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return explain(err)
	}
	unix.Close(fd)
	var sets [2]unix.CapUserData // capabilities 0 to 31 and 32 to 63
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0]); err != nil {
		return fmt.Errorf("this process's capabilities: %w", err)
	}
	if sets[capability/32].Effective&(1<<(capability%32)) == 0 {
		return explain(unix.EPERM)
	}
	return nil
}

// attach opens an interface with maxQueues queues and sets its MTU, which the library's
// own way does not undo when it fails. The queues' descriptors do not block.
func attach(path, name string, mtu int) (queues []int, err error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.New("not a name for an interface")
	}
	const flags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE
	ifr.SetUint16(flags | unix.IFF_TUN_EXCL) // else another program's interface would be joined
	for len(queues) < maxQueues && err == nil {
		var fd int
		if fd, err = attachQueue(path, ifr); err == nil {
			queues = append(queues, fd)
			ifr.SetUint16(flags)
		}
	}
	if err == nil {
		err = setMTU(ifr.Name(), mtu)
	}
	if err != nil {
		closeAll(queues)
		return nil, explain(err)
	}
	leaveOutQdisc(ifr.Name())
	return queues, nil
}

func attachQueue(path string, ifr *unix.Ifreq) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func closeAll(queues []int) {
	for _, fd := range queues {
		unix.Close(fd)
	}
}

// leaveOutQdisc spares the interface the kernel's queueing disciplines. They never hold a
// packet, for the device takes each at once; but of an interface that may have several
// queues the kernel makes 256 when it is set up, which takes a millisecond. That is all
// that is lost if the kernel refuses.
func leaveOutQdisc(name string) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return
	}
	_ = netlink.QdiscReplace(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Index, Parent: netlink.HANDLE_ROOT}, QdiscType: "noqueue",
	})
}

func setMTU(name string, mtu int) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	ifr.SetUint32(uint32(mtu))
	return unix.IoctlIfreq(sock, unix.SIOCSIFMTU, ifr)
}

// explain gives the system's error the meaning that it has here.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w (try: modprobe tun): %w", ErrNoDevice, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (CAP_NET_ADMIN): %w", ErrNoRights, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("another program uses it: %w", err)
	default:
		return err
	}
}
