package tun

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/windows"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// driver is what makes interfaces: wintun's library, which brings its driver along. It
// stands beside the program.
const driver = "wintun.dll"

// adapterType is how wintun calls the kind of our interfaces.
const adapterType = "Wayfarer"

var setType = sync.OnceFunc(func() { wgtun.WintunTunnelType = adapterType })

// Open creates the network interface name with mtu bytes. The interface goes away with
// Close or with the process. Errors are ErrNoDevice, ErrNoRights, or what the system
// answered.
func Open(name string, mtu int) (Device, error) {
	if err := checkMTU(mtu); err != nil {
		return nil, err
	}
	setType()
	dev, err := wgtun.CreateTUNWithRequestedGUID(name, adapterGUID(name), mtu)
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w", name, explain(err))
	}
	return FromLibrary(native{dev}), nil
}

// adapterGUID is the same for an interface of the same name each time: by it Windows
// knows the network again, and keeps what users have decided about it (RFC 9562 §5.8).
func adapterGUID(name string) *windows.GUID {
	sum := sha256.Sum256([]byte("wayfarer interface " + name))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return &windows.GUID{
		Data1: binary.BigEndian.Uint32(sum[:]), Data2: binary.BigEndian.Uint16(sum[4:]), Data3: binary.BigEndian.Uint16(sum[6:]),
		Data4: [8]byte(sum[8:16]),
	}
}

// Available says, without making an interface, whether Open can make one: the error is
// ErrNoDevice or ErrNoRights, or what the system answered.
func Available() error {
	module, err := windows.LoadLibraryEx(driver, 0, windows.LOAD_LIBRARY_SEARCH_APPLICATION_DIR|windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	if err != nil {
		return explain(err)
	}
	if err := windows.FreeLibrary(module); err != nil {
		return err
	}
	if !windows.GetCurrentProcessToken().IsElevated() {
		return explain(windows.ERROR_ACCESS_DENIED)
	}
	return nil
}

// explain gives the system's error the meaning that it has here.
func explain(err error) error {
	switch {
	case errors.Is(err, windows.ERROR_MOD_NOT_FOUND), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w (%s belongs beside the program): %w", ErrNoDevice, driver, err)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return fmt.Errorf("%w (run it as administrator): %w", ErrNoRights, err)
	}
	return err
}

// native is the library's device. It drops packets while the interface's queue is full.
type native struct{ wgtun.Device }

// Read says that the interface has gone. What comes of our own Close nobody hears.
func (n native) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	read, err := n.Device.Read(bufs, sizes, offset)
	if errors.Is(err, os.ErrClosed) {
		err = ErrRemoved
	}
	return read, err
}
