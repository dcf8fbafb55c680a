package tun

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/windows"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

func TestAdapterGUID(t *testing.T) {
	first := adapterGUID("wayfarer0")
	if got := first.String(); got != adapterGUID("wayfarer0").String() || got == adapterGUID("wayfarer1").String() {
		t.Errorf("GUID %s", got)
	}
	// Version 8 and variant, where RFC 9562 §5.8 has them.
	if first.Data3>>12 != 8 || first.Data4[0]>>6 != 2 {
		t.Errorf("no GUID of version 8: %v", first)
	}
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{windows.ERROR_MOD_NOT_FOUND, ErrNoDevice},
		{windows.ERROR_FILE_NOT_FOUND, ErrNoDevice},
		{windows.ERROR_ACCESS_DENIED, ErrNoRights},
	} {
		if err := explain(tt.err); !errors.Is(err, tt.want) || !errors.Is(err, tt.err) {
			t.Errorf("%v: %v", tt.err, err)
		}
	}
	if err := explain(windows.ERROR_GEN_FAILURE); err != windows.ERROR_GEN_FAILURE {
		t.Errorf("another error: %v", err)
	}
}

// closedDevice answers as the library does once its adapter is gone.
type closedDevice struct{ wgtun.Device }

func (closedDevice) Read([][]byte, []int, int) (int, error) { return 0, os.ErrClosed }
func (closedDevice) Close() error                           { return nil }

func TestRemoved(t *testing.T) {
	n := FromLibrary(native{closedDevice{}})
	if err := n.Read(nil); !errors.Is(err, ErrRemoved) {
		t.Errorf("removed by somebody: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Read(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
